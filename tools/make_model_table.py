#!/usr/bin/env python3
"""Writes Sources/CHub/Data/models.json: open_clip's published weights, where they lie, and what a bare file of weights
does not say about itself.

Reads the tables of the installed PyPI package open_clip_torch (`open_clip.pretrained`, `open_clip/model_configs`).
Run: python3 tools/make_model_table.py

Format: one JSON object.
  "open_clip"      the version of the package
  "architectures"  name of an architecture to its configuration, as open_clip's `model_configs` has it
  "weights"        a list of objects: "name" (ARCHITECTURE/TAG), "hub" (owner/name on Hugging Face's hub), "licence" (where
                   known), "quick_gelu" (where true), "checksum" (the first eight digits of SHA-256 of the file that open_clip fetched
                   before the hub had it, where its name says them: people still have those), "preprocess" (the four members
                   of open_clip's `preprocess_cfg`)
  "parameters"     name of an architecture to the number of its parameters, where it can be built without the hub
  "refused"        name of an architecture that cannot be opened to what it needs
"""

import json
import pathlib
import re

import open_clip
from open_clip import pretrained
from open_clip.factory import _MODEL_CONFIGS

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Sources/CHub/Data/models.json"


# The text towers of transformers that Sources/CLIPModel/OpenCLIPTextTower.swift knows by name.
TEXT_TOWERS = ["xlm-roberta-base", "xlm-roberta-large", "google/mt5-base", "google/mt5-xl"]


def refusal(configuration):
    """What keeps an architecture from being opened, or none."""
    timm = configuration["vision_cfg"].get("timm_model_name")
    text = configuration["text_cfg"].get("hf_model_name")
    if timm and "_siglip_" not in timm:
        return f"timm's image tower {timm}"
    if text and text not in TEXT_TOWERS:
        return f"transformers' text tower {text}"
    return None


def licence(hub):
    """As the weights' own pages state it; only where one was read."""
    if hub.startswith("laion/"):
        return "MIT"
    if "metaclip" in hub:
        return "CC-BY-NC-4.0"
    if "SigLIP" in hub:
        return "Apache-2.0"
    if hub.startswith("apple/DFN"):
        return "Apple's own"
    if hub.endswith("openai"):
        return "MIT"
    return None


def checksum(url):
    """As open_clip's `download_pretrained_from_url` reads it off the name. OpenAI's archives state what they are."""
    found = re.search(r"-([0-9a-f]{8})[.]pth?$", url)
    return found and found[1]


def parameters(name):
    """How many there are; none where a part of the model is configured on the hub."""
    if "hf_model_name" in _MODEL_CONFIGS[name]["text_cfg"]:
        return None
    model = open_clip.create_model(name, load_weights=False, device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


def main():
    architectures, weights, refused, counts = {}, [], {}, {}
    for name, tags in pretrained._PRETRAINED.items():
        if name.endswith("-quickgelu"):
            continue  # the same weights again: a tag here says itself that it needs QuickGELU
        configuration = _MODEL_CONFIGS[name]
        reason = refusal(configuration)
        if reason:
            refused[name] = reason
            continue
        architectures[name] = configuration
        if count := parameters(name):
            counts[name] = count
        taken = set()
        for tag, entry in tags.items():
            hub = entry["hf_hub"].rstrip("/")
            assert hub.count("/") == 1, f"{name}/{tag}: {hub} names a file"
            if hub in taken:
                continue  # laion400m_e32 of ViT-B-16-plus-240 leads to e31's weights
            taken.add(hub)
            line = {"name": f"{name}/{tag}", "hub": hub}
            if licence(hub):
                line["licence"] = licence(hub)
            if entry.get("quick_gelu"):
                line["quick_gelu"] = True
            if checksum(entry.get("url") or ""):
                line["checksum"] = checksum(entry["url"])
            line["preprocess"] = {
                "mean": entry["mean"], "std": entry["std"], "interpolation": entry["interpolation"],
                "resize_mode": entry["resize_mode"],
            }
            weights.append(line)
    lines = lambda values: ",\n".join(json.dumps(value) for value in values)
    members = lambda values: ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    OUTPUT.write_text(
        "{\n" + f'"open_clip": {json.dumps(open_clip.__version__)},\n' + '"architectures": {\n' + members(architectures)
        + '\n},\n"parameters": {\n' + members(counts) + '\n},\n"weights": [\n' + lines(weights) + '\n],\n"refused": {\n' + members(refused) + "\n}\n}\n")
    print(f"{OUTPUT.name}: {len(weights)} weights of {len(architectures)} architectures, {len(refused)} refused")


if __name__ == "__main__":
    main()
