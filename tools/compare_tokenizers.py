#!/usr/bin/env python3
"""Compares our tokens with those of transformers and open_clip, for tokenizers of every kind that are trained on the spot.

    python3 tools/compare_tokenizers.py --binary .build/release/clip-gpu [--count 100000] [--only NAME] [--folders FOLDER]

`--count` texts are drawn for each tokenizer. Needs what tokenizer_folders.py needs, and open_clip_torch. The exit status
is 1 if any text differs; with open_clip's cleaning, if any does that ftfy does not take for mojibake (compare_tokens.py
says more of those).
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import ftfy
import open_clip
import tokenizer_folders
from tokenizer_folders import Texts, transformers

CONTEXT = 64
# Folders that are also called in open_clip's manner: how texts are cleaned, and whether separators become 0.
OPEN_CLIP = [("bert-uncased", "whitespace", True), ("bert-cased", "lower", False), ("t5", "canonicalize", False),
             ("xlm-roberta", "whitespace", False), ("siglip2", "canonicalize", False), ("siglip-unigram", "lower", False)]


def ours(binary, folder, texts, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
        file.flush()
        start = time.perf_counter()
        command = [binary, "tokenize", "--tokenizer", folder, "--truncate", "--context-length", str(CONTEXT),
                   "--json-lines", file.name, *options]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - start
    return [json.loads(line) for line in output.splitlines()], seconds


def theirs(tokenizer, texts):
    padding = tokenizer.pad_token_id or 0
    rows = tokenizer(texts, max_length=CONTEXT, truncation=True).input_ids
    return [row + [padding] * (CONTEXT - len(row)) for row in rows]


def compare(name, texts, expected, found):
    wrong = [(text, a, b) for text, a, b in zip(texts, expected, found, strict=True) if a != b]
    for text, a, b in wrong[:4]:
        print(f"  {name}: {text!r}\n    reference {a}\n    clip-gpu  {b}")
    return len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--folders", type=pathlib.Path, help="where the tokenizers are, or will be made")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folders or pathlib.Path(temporary)
        if not root.exists() or not any(root.iterdir()):
            tokenizer_folders.make(root)
        texts = [text for _, text in Texts(arguments.seed).draw(arguments.count)]
        total = collections.Counter()
        for folder in sorted(root.iterdir()):
            if arguments.only not in folder.name:
                continue
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            start = time.perf_counter()
            expected = theirs(tokenizer, texts)
            their_seconds = time.perf_counter() - start
            found, seconds = ours(arguments.binary, folder, texts)
            wrong = compare(folder.name, texts, expected, found)
            total["wrong"] += wrong
            total["folders"] += 1
            print(f"{folder.name:32} {type(tokenizer).__name__:22} {wrong:5} of {len(texts)} differ; "
                  f"texts a second: {len(texts) / their_seconds:.0f}, ours {len(texts) / seconds:.0f}", flush=True)
        for name, clean, strips in OPEN_CLIP:
            if arguments.only not in name:
                continue
            tokenizer = open_clip.tokenizer.HFTokenizer(str(root / name), CONTEXT, clean, strips)
            expected = [row for start in range(0, len(texts), 1000) for row in tokenizer(texts[start : start + 1000]).tolist()]
            found, _ = ours(arguments.binary, root / name, texts, "--clean", clean, *["--strip-sep-token"] * strips)
            plain = [ftfy.fix_encoding(text) == text for text in texts]
            wrong = sum(a != b for a, b in zip(expected, found, strict=True))
            kept = [[item for item, is_plain in zip(items, plain) if is_plain] for items in (texts, expected, found)]
            plain_wrong = compare(name, *kept)
            total["wrong"] += plain_wrong
            print(f"{name:32} open_clip, {clean:12} {wrong:5} of {len(texts)} differ, of those without mojibake {plain_wrong}",
                  flush=True)
        print(f"{total['folders']} tokenizers, {total['folders'] * len(texts)} texts, {total['wrong']} differ")
        sys.exit(1 if total["wrong"] else 0)


if __name__ == "__main__":
    main()
