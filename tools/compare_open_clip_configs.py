"""Compares `clip-gpu` with open_clip on every architecture of open_clip's own model_configs, shrunk to two layers.

    python tools/compare_open_clip_configs.py [--binary PATH] [--only WORD]… [--device cpu]

Widths, heads, patches and vocabularies are the configurations' own; every tensor is drawn. Configurations whose towers
are timm's or transformers' are left out. Texts are compared where the tokenizer is CLIP's. Prints the worst relative
error of an embedding after the mean of its set is subtracted, and exits with 1 where one is above the limit; an
architecture that is refused is listed with the reason and counts as neither.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

from make_open_clip_fixtures import draw

TEXTS = ["a photo of a cat", "", "two dogs run <|endoftext|> after a ball", "an end <end_of_text> and more"]
LIMIT = 1e-4


def compare(name, config, binary, device, folder):
    full = json.loads(json.dumps(config))
    vision, text = full["vision_cfg"], full["text_cfg"]
    vision["layers"] = [1, 1, 1, 1] if isinstance(vision["layers"], list) else 2
    text["layers"] = 2
    given = {key: value for key, value in full.items() if key in ("embed_dim", "quick_gelu", "init_logit_bias")}
    kind = CustomTextCLIP if full.get("custom_text") else CLIP
    model = draw(kind(**given, vision_cfg=CLIPVisionCfg(**vision), text_cfg=CLIPTextCfg(**text)), 3)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()},
              folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": full, "preprocess_cfg": {}}))

    size = vision["image_size"]
    generator = torch.Generator().manual_seed(4)
    pixels = torch.nn.functional.interpolate(2 * torch.randn(3, 3, 2, 2, generator=generator), size)
    pixels = pixels + 0.5 * torch.randn(pixels.shape, generator=generator)
    np.save(folder / "pixels.npy", pixels.numpy())
    texts = [] if text.get("hf_tokenizer_name") else TEXTS
    command = [binary, "embed", str(folder / "pixels.npy"), "--model", str(folder), "--device", device, "--raw",
               "--precision", "fp32", "--output", str(folder / "out.npy")]
    for sentence in texts:
        command += ["--text", sentence]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode == 4:
        return finished.stderr.strip().splitlines()[-1]
    if finished.returncode != 0:
        sys.exit(f"{name}: {finished.stderr}")
    found = torch.from_numpy(np.load(folder / "out.npy")).double()
    with torch.inference_mode():
        sets = [(found[:3], model.encode_image(pixels))]
        if texts:
            ids = SimpleTokenizer(context_length=text["context_length"])(texts)
            sets.append((found[3:], model.encode_text(ids)))
    errors = []
    for ours, theirs in sets:
        theirs = theirs.double()
        centred = theirs - theirs.mean(0)
        errors.append(((ours - theirs).norm(dim=1) / centred.norm(dim=1)).max().item())
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(Path(__file__).resolve().parent.parent / ".build/release/clip-gpu"))
    parser.add_argument("--only", action="append", default=[], help="names that hold this")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    worst, agreed, refused = 0, 0, 0
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        config = json.loads(path.read_text())
        if "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]:
            continue
        if options.only and not any(word in path.stem for word in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = compare(path.stem, config, options.binary, options.device, Path(folder))
        if isinstance(result, str):
            refused += 1
            print(f"{path.stem:32} refused: {result}", flush=True)
            continue
        agreed += max(result) <= LIMIT
        worst = max(worst, *result)
        print(f"{path.stem:32} " + "  ".join(f"{error:.1e}" for error in result)
              + ("" if max(result) <= LIMIT else "   ABOVE THE LIMIT"), flush=True)
        if max(result) > LIMIT:
            worst = float("inf")
    print(f"{agreed} agree, {refused} refused, worst {worst:.1e}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
