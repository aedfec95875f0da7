#!/usr/bin/env python3
"""Writes Sources/CTextTables/Data/tokenizers.bin and tokenizers.inc: what the `tokenizers` library knows about characters.

That library takes its character data from several Rust crates of different versions of Unicode, and from Oniguruma. So
it is asked itself, character by character; the tables of make_text_tables.py serve where both agree.
Run it with a Python that has tokenizers, sentencepiece, protobuf and regex.
"""

import io
import pathlib
import tempfile
import unicodedata

import regex
import sentencepiece
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model

from make_text_tables import SCALARS, braces, write_rows

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Sources/CTextTables/Data"
BLOCK = 128

# Bits of a character; CTextTables.h has the same.
(LETTER, NUMBER, REGEX_SPACE, WORD, SPACE, PUNCTUATION, NUMERIC, DROPPED, NONSPACING, MARK, LOWERCASES, COMBINES,
 DECOMPOSES) = (1 << bit for bit in range(13))
# The three bits above them: what it does to the borders of grapheme clusters.
ORDINARY, CONTROL, EXTENDS, SPACING, PREPENDS, PICTURE = (value << 13 for value in range(6))


def charsmap(rules):
    """A precompiled character map of sentencepiece, of pairs of strings."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        for source, target in rules.items():
            codes = [" ".join(f"{ord(character):x}" for character in text) for text in (source, target)]
            file.write("\t".join(codes) + "\n")
        file.flush()
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["hello world"] * 20), model_writer=model, vocab_size=16, hard_vocab_limit=False,
            normalization_rule_tsv=file.name, minloglevel=2)
    proto = sentencepiece_model.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def grapheme_bits():
    """The library replaces a cluster of fewer than six bytes by what its first character maps to: that tells them."""
    result = [ORDINARY] * 0x110000
    for name, bits in (("Control", CONTROL), ("CR", CONTROL), ("LF", CONTROL), ("Extend", EXTENDS), ("ZWJ", EXTENDS),
                       ("SpacingMark", SPACING), ("Prepend", PREPENDS)):
        pattern = regex.compile(rf"\p{{Grapheme_Cluster_Break={name}}}")
        for code in SCALARS:
            if pattern.match(chr(code)):
                result[code] = bits
    picture = regex.compile(r"\p{Extended_Pictographic}")
    for code in SCALARS:
        if result[code] == ORDINARY and picture.match(chr(code)):
            result[code] = PICTURE
    map_a = normalizers.Precompiled(charsmap({"a": "X"}))
    for code in SCALARS:
        joins = map_a.normalize_str("a" + chr(code)) == "X"
        if joins != (result[code] in (EXTENDS, SPACING)):
            result[code] = EXTENDS if joins else ORDINARY
    candidates = [code for code in SCALARS if result[code] == PREPENDS or unicodedata.category(chr(code)) == "Cf"]
    map_prepends = normalizers.Precompiled(charsmap({chr(code): "Y" for code in candidates}))
    for code in candidates:
        joins = map_prepends.normalize_str(chr(code) + "a") == "Y"
        if joins != (result[code] == PREPENDS):
            result[code] = PREPENDS if joins else CONTROL if result[code] == CONTROL else ORDINARY
    return result


def main():
    nfd, nfkd, nfc = normalizers.NFD(), normalizers.NFKD(), normalizers.NFC()
    lower, strip = normalizers.Lowercase(), normalizers.StripAccents()
    letter = normalizers.Replace(Regex(r"\p{L}"), "")
    number = normalizers.Replace(Regex(r"\p{N}"), "")
    space = normalizers.Replace(Regex(r"\s"), "")
    clean = normalizers.BertNormalizer(True, False, False, False)
    bert_strip = normalizers.BertNormalizer(False, False, True, False)
    whitespace, split = pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit()
    punctuation, digits = pre_tokenizers.Punctuation(), pre_tokenizers.Digits()

    flags = grapheme_bits()
    lowercase, compatibility = [], []
    for code in SCALARS:
        text = chr(code)
        joined = "a" + text
        bits = LETTER * (letter.normalize_str(text) == "") | NUMBER * (number.normalize_str(text) == "")
        bits |= REGEX_SPACE * (space.normalize_str(text) == "")
        bits |= WORD * (whitespace.pre_tokenize_str(joined)[0][0] == joined)
        is_space = split.pre_tokenize_str(text) == []
        bits |= SPACE * is_space | PUNCTUATION * (len(punctuation.pre_tokenize_str(joined)) == 2)
        bits |= NUMERIC * (len(digits.pre_tokenize_str(joined)) == 2)
        cleaned = clean.normalize_str(text)
        assert cleaned == "" or cleaned == (" " if is_space else text), hex(code)
        bits |= DROPPED * (cleaned == "")
        bits |= NONSPACING * (bert_strip.normalize_str(text) == "") | MARK * (strip.normalize_str(text) == "")
        small = lower.normalize_str(text)
        bits |= LOWERCASES * (small != text)
        if small != text and small != text.lower():
            assert len(small) == 1
            lowercase.append(braces((code, ord(small))))
        bits |= COMBINES * (code == 0x345 or nfd.normalize_str("\u0345" + text)[0] != "\u0345")
        apart = nfd.normalize_str(text)
        # The one exception is new in Unicode 13, and the library's data are older.
        assert apart == (text if code == 0x11938 else unicodedata.normalize("NFD", text)), hex(code)
        assert nfc.normalize_str(apart) == unicodedata.normalize("NFC", apart) or code == 0x11938, hex(code)
        widest = nfkd.normalize_str(text)
        bits |= DECOMPOSES * (widest != text)
        if widest != apart:
            compatibility.append((code, [ord(part) for part in widest]))
        flags[code] |= bits

    blocks, index = {}, []
    for start in range(0, 0x110000, BLOCK):
        block = b"".join(value.to_bytes(2, "little") for value in flags[start : start + BLOCK])
        index.append(blocks.setdefault(block, len(blocks)))
    (OUTPUT / "tokenizers.bin").write_bytes(b"".join(i.to_bytes(2, "little") for i in index) + b"".join(blocks))

    pool, rows = [], []
    for code, parts in compatibility:
        rows.append(braces((code, len(pool), len(parts))))
        pool += parts
    with open(OUTPUT / "tokenizers.inc", "w") as file:
        file.write(f"// Made by tools/make_tokenizer_tables.py from tokenizers {tokenizers.__version__} and regex "
                   f"{regex.__version__};\n// see ORIGIN.md. Rows are sorted by their first field.\n")
        write_rows(file, "struct { uint32_t scalar, lower; } laterLowercase[]", lowercase)
        write_rows(file, "uint32_t compatibilityParts[]", [f"0x{part:X}" for part in pool])
        write_rows(file, "struct { uint32_t scalar, start, count; } compatibility[]", rows)
    print(f"{len(blocks)} blocks, {len(lowercase)} lower, {len(rows)} compatibility decompositions")


if __name__ == "__main__":
    main()
