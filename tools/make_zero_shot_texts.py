#!/usr/bin/env python3
"""Writes Sources/CZeroShot/Data/*.txt: the templates and the class names by which CLIP models are measured on ImageNet.

Reads them of the installed PyPI package open_clip_torch (`open_clip.zero_shot_metadata`).
Run: python3 tools/make_zero_shot_texts.py

Format: one template or name a line, in the package's order; `{}` is where the name goes.
"""

import pathlib

from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "Sources/CZeroShot/Data"

LISTS = {
    "imagenet-labels.txt": IMAGENET_CLASSNAMES,
    "openai-templates.txt": [template("{}") for template in OPENAI_IMAGENET_TEMPLATES],
    "simple-templates.txt": [template("{}") for template in SIMPLE_IMAGENET_TEMPLATES],
}

for name, lines in LISTS.items():
    assert all(line and line == line.strip() for line in lines)
    (FOLDER / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{name}: {len(lines)} lines")
