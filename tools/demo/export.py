"""Writes a training checkpoint as the model that is embedded: fp16, in Hugging Face form.

    python tools/demo/export.py FOLDER/checkpoint.pt
"""

import argparse
from pathlib import Path

import torch

import model as demo
from evaluate import MODEL


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, default=MODEL)
    options = parser.parse_args()
    state = torch.load(options.checkpoint)["net"]
    net = demo.DemoCLIP(state["tokens"].tolist())
    net.load_state_dict(state)
    demo.save(net, options.output)


if __name__ == "__main__":
    main()
