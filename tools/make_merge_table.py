#!/usr/bin/env python3
"""Writes Sources/CMergeTable/Data/merges.bin, the byte-pair merges of CLIP's tokenizer.

The vocabulary file comes with the PyPI package open_clip_torch (pip install --no-deps open_clip_torch) and is checked
against its SHA-256. Run: python3 tools/make_merge_table.py [PATH OF bpe_simple_vocab_16e6.txt.gz]

Format: 48,894 pairs of little-endian 16-bit token ids, left and right, in order of rank. The pair of rank r makes
token 512 + r; ids 0...255 are the bytes in the order of `bytes_to_unicode`, 256...511 the same at the end of a word.
"""

import gzip
import hashlib
import importlib.util
import pathlib
import struct
import sys

SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
NAME = "bpe_simple_vocab_16e6.txt.gz"
MERGE_COUNT = 49152 - 256 - 2  # what both references keep of the 262,144 lines
END_OF_WORD = "</w>"
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Sources/CMergeTable/Data/merges.bin"


def byte_characters():
    """The 256 stand-in characters of the vocabulary file: printable Latin-1 as itself, other bytes from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(printable))
    return [chr(code) for code in printable] + [chr(256 + i) for i in range(others)]


def main():
    if len(sys.argv) > 1:
        path = pathlib.Path(sys.argv[1])
    else:
        package = importlib.util.find_spec("open_clip")
        if package is None:
            sys.exit("open_clip_torch is not installed: pip install --no-deps open_clip_torch, or name the file")
        path = pathlib.Path(package.origin).parent / NAME
    compressed = path.read_bytes()
    digest = hashlib.sha256(compressed).hexdigest()
    if digest != SHA256:
        sys.exit(f"{path} is not CLIP's vocabulary: expected SHA-256 {SHA256}, found {digest}")

    lines = gzip.decompress(compressed).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 1 + MERGE_COUNT]]
    characters = byte_characters()
    tokens = characters + [character + END_OF_WORD for character in characters]
    ids = {token: number for number, token in enumerate(tokens)}
    data = bytearray()
    for left, right in merges:
        data += struct.pack("<HH", ids[left], ids[right])
        if left + right in ids:
            sys.exit(f"two merges make {left + right!r}: the format cannot hold that")
        ids[left + right] = len(ids)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_bytes(data)
    print(f"{OUTPUT.name}: {len(merges)} merges, {len(data)} bytes")


if __name__ == "__main__":
    main()
