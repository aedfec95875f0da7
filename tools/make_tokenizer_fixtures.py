#!/usr/bin/env python3
"""Writes Tests/CLIPInputTests/Fixtures/tokenizers: small tokenizers of every kind, and the ids that the references give.

`texts.json` holds the texts; `NAME/ids.json` the ids of each by transformers (at most 64, not padded), and
`NAME/ids.open_clip.json` those by open_clip, with its cleaning and whether separators become 0.
Run it with a Python that has what compare_tokenizers.py needs: python3 tools/make_tokenizer_fixtures.py
"""

import json
import pathlib
import shutil
import tempfile

import tokenizer_folders
from compare_tokenizers import CONTEXT, OPEN_CLIP, open_clip
from tokenizer_folders import Texts, transformers

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Tests/CLIPInputTests/Fixtures/tokenizers"
CHOSEN = [
    *("siglip-unigram", "siglip-bpe", "siglip-unigram-bytes", "siglip-bpe-bytes", "siglip-bpe-unused", "siglip-bpe-suffix"),
    *("siglip-unigram-symbols", "siglip-unigram-extra-space", "siglip-unigram-nmt_nfkc_cf", "siglip-bpe-no-prefix"),
    *("clip-files", "clip-json", "bert-uncased", "bert-cased", "bert-json", "xlm-roberta", "xlm-roberta-json", "t5", "t5-json"),
    *("siglip2", "gemma-model", "library-gpt2", "library-gpt4", "library-nfkd-strip", "library-precompiled"),
    *("library-never-metaspace", "library-prefix-punctuation", "library-contiguous", "library-byte-normalizer"),
    *("library-suffix-digits", "library-removed"),
]


def main():
    texts = ["", " ", "a photo of a cat", "A photo of a CAT!", "</s>a<unk> b", "it's 2024 – “ok”"]
    texts += [text for _, text in Texts(4).draw(104)]
    shutil.rmtree(OUTPUT, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        tokenizer_folders.make(root)
        for name in CHOSEN:
            shutil.copytree(root / name, OUTPUT / name)
            tokenizer = transformers.AutoTokenizer.from_pretrained(root / name)
            write(OUTPUT / name / "ids.json", tokenizer(texts, max_length=CONTEXT, truncation=True).input_ids)
        for name, clean, strips in OPEN_CLIP:
            if name in CHOSEN:
                rows = open_clip.tokenizer.HFTokenizer(str(root / name), CONTEXT, clean, strips)(texts).tolist()
                write(OUTPUT / name / "ids.open_clip.json", {"clean": clean, "strips": strips, "ids": rows})
    write(OUTPUT / "texts.json", texts)
    print(sum(file.stat().st_size for file in OUTPUT.rglob("*") if file.is_file()), "bytes")


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
