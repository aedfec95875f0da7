#!/usr/bin/env python3
"""Writes Sources/CTextTables/Data: what CLIP's tokenizer must know about characters.

The tables are asked of the libraries that openai-clip calls (ftfy, regex, html, unicodedata, str.lower), character by
character, so that they hold those libraries' versions of Unicode and not that of the Swift runtime.
Run it with a Python that has ftfy and regex: python3 tools/make_text_tables.py
"""

import html
import html.entities
import pathlib
import re
import sys
import unicodedata

import ftfy
import regex
from ftfy import badness, chardata, fixes

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Sources/CTextTables/Data"
BLOCK = 128
SCALARS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]

# Bits of a character's properties; CTextTables.h has the same.
LETTER, NUMBER, OTHER, SEPARATOR = range(4)
WORD, CASED, CASE_IGNORABLE, LOWERCASES, NORMALISES, SUSPECT = (1 << bit for bit in range(2, 8))

# Bits of a character's mojibake categories; TextCleaner's Mojibake.swift has the same.
CATEGORIES = [
    *("c1", "bad", "common", "law", "currency", "start_punctuation", "end_punctuation", "numeric", "kaomoji"),
    *("upper_accented", "lower_accented", "upper_common", "lower_common", "box"),
]
CLUES = [
    *("utf8_first_of_2", "utf8_first_of_3", "utf8_first_of_4", "utf8_continuation", "utf8_continuation_strict"),
]


def classes():
    """What the tokenizer's pattern makes of each character. A separator is what no alternative matches."""
    patterns = [r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]"]
    result = [SEPARATOR] * 0x110000
    for kind, pattern in zip((LETTER, NUMBER, OTHER), patterns):
        matcher = regex.compile(pattern, regex.IGNORECASE)
        for code in SCALARS:
            if matcher.match(chr(code)):
                result[code] = kind
    return result


def case_properties(code):
    """Whether `str.lower` takes the character for cased, or skips it, when it looks for the end of a Greek word."""
    character = chr(code)
    is_cased = (character + "Σ").lower().endswith("ς")
    is_skipped = not is_cased and ("a" + character + "Σ").lower().endswith("ς")
    return CASED * is_cased | CASE_IGNORABLE * is_skipped


def decompositions():
    """Canonical decompositions in full, Hangul syllables left out (they are computed)."""
    result = {}
    for code in SCALARS:
        decomposed = unicodedata.normalize("NFD", chr(code))
        if decomposed != chr(code) and not 0xAC00 <= code <= 0xD7A3:
            result[code] = [ord(part) for part in decomposed]
    return result


def compositions():
    """Pairs that NFC puts together, Hangul left out."""
    result = {}
    for code in SCALARS:
        mapping = unicodedata.decomposition(chr(code))
        if mapping and not mapping.startswith("<") and len(mapping.split()) == 2:
            first, second = (int(part, 16) for part in mapping.split())
            if unicodedata.normalize("NFC", chr(first) + chr(second)) == chr(code):
                result[first, second] = code
    return result


def replacements():
    """What ftfy puts in place of single characters: C1 controls, ligatures, widths and quotes, in its order."""
    result = {}
    for code in SCALARS:
        text = chr(code)
        for fix in (fixes.fix_c1_controls, fixes.fix_latin_ligatures, fixes.fix_character_width, fixes.uncurl_quotes):
            text = fix(text)
        if text != chr(code):
            result[code] = [ord(part) for part in text]
    return result


def mojibake():
    """For each character that ftfy's heuristics know: its categories and the byte it is in each encoding."""
    sources = [badness.MOJIBAKE_CATEGORIES[name] for name in CATEGORIES] + [chardata.UTF8_CLUES[name] for name in CLUES]
    matchers = [re.compile(f"[{source}]") for source in sources]
    encodings = []
    for encoding in chardata.CHARMAP_ENCODINGS:
        encoded = {}
        for byte in [*range(0x80, 0x100), 0x1A]:
            character = bytes([byte]).decode(encoding)
            if ord(character) >= 0x80:
                assert character not in encoded and character.encode(encoding) == bytes([byte])
                encoded[ord(character)] = byte
        encodings.append(encoded)
    result = {}
    for code in range(0x80, 0x10000):
        mask = sum(1 << bit for bit, matcher in enumerate(matchers) if matcher.match(chr(code)))
        encoded = [encoding.get(code, 0) for encoding in encodings]
        if mask or any(encoded):
            result[code] = (mask, encoded)
    return result


def entities():
    """HTML5's entities and ftfy's: name without the ampersand -> (html.unescape knows it, ftfy does, characters)."""
    result = {name: [True, False, text] for name, text in html.entities.html5.items()}
    for name, text in chardata.HTML_ENTITIES.items():
        entry = result.setdefault(name[1:], [False, True, text])
        assert entry[2] == text
        entry[1] = True
    return result


def write_rows(file, declaration, rows):
    """Writes a C array with as many rows a line as fit."""
    file.write(f"\nstatic const {declaration} = {{\n")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 120:
            file.write(line + "\n")
            line = "   "
        line += f" {row},"
    file.write(line + "\n};\n")


def text_parts(parts):
    return f"{{{len(parts)}, {braces(parts)}}}"


def braces(values):
    return "{" + ", ".join(f"0x{value:X}" if value > 9 else str(value) for value in values) + "}"


def main():
    kinds = classes()
    decomposed, composed, replaced, suspects = decompositions(), compositions(), replacements(), mojibake()
    lowercase = {code: chr(code).lower() for code in SCALARS if chr(code).lower() != chr(code)}
    long_lowercase = {code: text for code, text in lowercase.items() if len(text) > 1}
    assert long_lowercase == {0x130: "i\u0307"}, long_lowercase  # TextCleaner knows this one
    combining = {code: unicodedata.combining(chr(code)) for code in SCALARS if unicodedata.combining(chr(code))}
    seconds = {second for _, second in composed} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))

    word = re.compile(r"\w")
    properties = bytearray(0x110000)
    for code in SCALARS:
        character = chr(code)
        bits = kinds[code] | case_properties(code)
        bits |= WORD * bool(word.match(character)) | LOWERCASES * (code in lowercase)
        changes = unicodedata.normalize("NFC", character) != character
        bits |= NORMALISES * (code in combining or code in seconds or changes)
        bits |= SUSPECT * (code in suspects or code in replaced)
        properties[code] = bits
    blocks, index = {}, bytearray()
    for start in range(0, 0x110000, BLOCK):
        index.append(blocks.setdefault(bytes(properties[start : start + BLOCK]), len(blocks)))
    assert len(blocks) <= 256

    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "properties.bin").write_bytes(index + b"".join(blocks))

    with open(OUTPUT / "tables.inc", "w") as file:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        file.write(
            f"// Made by tools/make_text_tables.py from ftfy {ftfy.__version__}, regex {regex.__version__} and\n"
            f"// Python {version} (Unicode {unicodedata.unidata_version}); see ORIGIN.md. "
            "Rows are sorted by their first field.\n"
        )
        rows = [braces((code, ord(text))) for code, text in sorted(lowercase.items()) if len(text) == 1]
        write_rows(file, "struct { uint32_t scalar, lower; } lowercase[]", rows)

        ranges = []  # [first, last, class]
        for code, value in sorted(combining.items()):
            if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == value:
                ranges[-1][1] = code
            else:
                ranges.append([code, code, value])
        write_rows(file, "struct { uint32_t first, last, class; } combining[]", [braces(row) for row in ranges])

        rows = [f"{{0x{code:X}, {text_parts(parts)}}}" for code, parts in sorted(decomposed.items())]
        write_rows(file, "struct { uint32_t scalar; TextParts parts; } decompositions[]", rows)

        rows = [braces((first, second, code)) for (first, second), code in sorted(composed.items())]
        write_rows(file, "struct { uint32_t first, second, composed; } compositions[]", rows)

        rows = [f"{{0x{code:X}, {text_parts(parts)}}}" for code, parts in sorted(replaced.items())]
        write_rows(file, "struct { uint32_t scalar; TextParts parts; } replacements[]", rows)

        rows = [f"{{0x{code:X}, 0x{mask:X}, {braces(bytes)}}}" for code, (mask, bytes) in sorted(suspects.items())]
        write_rows(file, "struct { uint32_t scalar, categories; uint8_t bytes[10]; } suspects[]", rows)

        rows = []
        for name, (in_html, in_ftfy, text) in sorted(entities().items()):
            parts = [ord(part) for part in text]
            rows.append(f'{{"{name}", {int(in_html)}, {int(in_ftfy)}, {text_parts(parts)}}}')
        write_rows(
            file, "struct { char name[36]; bool inHTML, inFtfy; TextParts parts; } entities[]", rows)
    print(f"{len(blocks)} blocks, {len(lowercase)} lower, {len(ranges)} combining, {len(decomposed)} decompositions, "
          f"{len(composed)} compositions, {len(replaced)} replacements, {len(suspects)} suspects, {len(rows)} entities")
    # What the C structures and Mojibake.swift take for granted
    assert max(map(len, decomposed.values())) <= 4 and max(map(len, replaced.values())) <= 4
    assert all(len(name) < 36 and len(text) <= 4 for name, (_, _, text) in entities().items())
    clues = [re.compile(f"[{chardata.UTF8_CLUES[name]}]") for name in CLUES[:3]]
    assert not any(sum(bool(c.match(chr(code))) for c in clues) > 1 for code in range(0x10000)), "first bytes overlap"


if __name__ == "__main__":
    main()
