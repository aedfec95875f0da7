#!/usr/bin/env python3
"""Compares our tokens with openai-clip's on random texts of every kind, and our speed with its.

    python3 tools/compare_tokens.py --binary .build/release/clip-gpu [--count 100000] [--seed 1]

needs openai-clip, ftfy and regex, and open_clip_torch for the words of its captions. The binary is called as
`BINARY tokenize --truncate --json-lines FILE`: one JSON string a line in, one JSON array of ids a line out.
The exit status is 1 if more than 1 text in 10,000 differs, or any that ftfy does not take for mojibake.
"""

import argparse
import collections
import html.entities
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

import ftfy
from ftfy import badness, chardata


def load(package, module):
    """A module of a package without the package around it, which may need what is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        sys.exit(f"{package} is not installed")
    spec = importlib.util.spec_from_file_location(module, pathlib.Path(spec.origin).parent / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


SCALARS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
ASSIGNED = [code for code in SCALARS if unicodedata.category(chr(code)) not in ("Cn", "Co")]
MARKS = [chr(code) for code in ASSIGNED if unicodedata.combining(chr(code))]
COMPOSED = [chr(code) for code in ASSIGNED if unicodedata.normalize("NFD", chr(code)) != chr(code)]
SPACES = [chr(code) for code in SCALARS if chr(code).isspace()] + list("\u200b\u200c\u200d\u2060\u180e\ufeff")
CONTROLS = [chr(code) for code in [*range(0x20), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x202A, 0x202F)]]
CONTROLS += [chr(code) for code in [*range(0x2060, 0x2070), 0xFEFF, *range(0xFFF0, 0xFFFE), 0xE0001, 0xE0041]]
WIDTHS = [chr(code) for code in [*range(0xFF00, 0xFFF0), *chardata.LIGATURES]] + list("\u3000ʼ‘’‛“”‟")
SUSPECTS = sorted({
    chr(code) for code in range(0x80, 0x10000) if any(
        chardata.possible_encoding(chr(code), encoding) for encoding in chardata.CHARMAP_ENCODINGS)
})
EMOJI = [chr(code) for code in [*range(0x1F300, 0x1F650), *range(0x1F680, 0x1F6FF), *range(0x1F900, 0x1FAFF)]]
EMOJI += [chr(code) for code in [*range(0x2600, 0x27C0), 0x2B50, 0x203C, 0x00A9, 0x00AE]]
CASED = [chr(code) for code in ASSIGNED if chr(code).lower() != chr(code) or chr(code).upper() != chr(code)]
SENTENCES = [
    *("Der Müller übt Äußerungen für Größe.", "L'été, à Noël, j'ai mangé des œufs — “voilà”.", "¿Dónde está el niño?"),
    *("Zażółć gęślą jaźń", "Příliš žluťoučký kůň úpěl", "Съешь ещё этих мягких булок", "Ξεσκεπάζω την ψυχοφθόρα"),
    *("ĄČĘĖĮŠŲŪŽ ąčęėįšųūž", "Şişli’de İstanbul’un ığdır", "日本語の文章です。", "한국어 문장", "תודה רבה", "شكرا جزيلا"),
    *("हिन्दी में लिखा", "✔ No problems", "it’s “quoted” … – ok", "price: £5 or €6 ™ ® ©", "½ × ¾ ± 3° µm"),
    *("👍🏽 great 😀",),
]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        metadata = load("open_clip", "zero_shot_metadata")
        self.names = metadata.IMAGENET_CLASSNAMES
        self.templates = metadata.OPENAI_IMAGENET_TEMPLATES
        self.entities = sorted(html.entities.html5)

    def pick(self, choices):
        return choices[self.random.randrange(len(choices))]

    def join(self, pieces, count):
        """`count` pieces with something, mostly a space or nothing, between them."""
        return "".join(pieces() + self.pick(["", "", " ", " ", "-", "'s ", ", ", "  ", "\n"]) for _ in range(count))

    def caption(self):
        text = self.pick(self.templates)(self.pick(self.names))
        extra = ["", "", "", f" and {self.random.randrange(3000)} {self.pick(self.names)}s", "!!!", " (it's “new”)"]
        extra += [" & co", ", we've seen it, they're sure I'd", " — 3.14%", " #tag @user http://a.b/c?d=e&f=g"]
        text += self.pick(extra)
        return self.pick([str, str, str.upper, str.title, str.swapcase])(text)

    def script(self):
        """Words of letters that stand near one another, so of one script mostly."""
        def word():
            start = self.random.randrange(len(ASSIGNED))
            return "".join(chr(ASSIGNED[(start + self.random.randrange(40)) % len(ASSIGNED)])
                           for _ in range(self.random.randrange(1, 7)))
        return self.join(word, self.random.randrange(1, 5))

    def anything(self):
        return "".join(chr(self.pick(SCALARS)) for _ in range(self.random.randrange(1, 12)))

    def basic_plane(self):
        return "".join(chr(self.random.randrange(0x20, 0x3100)) for _ in range(self.random.randrange(1, 16)))

    def emoji(self):
        def one():
            text = self.pick(EMOJI) + self.pick(["", "", "\ufe0f", "\U0001f3fd"])
            while self.random.random() < 0.3:
                text += "\u200d" + self.pick(EMOJI)
            return self.pick([text, text, text, "1\ufe0f\u20e3", "\U0001f1e9\U0001f1ea", self.pick("abc xyz") * 2])
        return self.join(one, self.random.randrange(1, 8))

    def clean(self):
        return self.pick([lambda: self.pick(SENTENCES), self.script, self.emoji, self.caption])()

    def mojibake(self):
        text = self.clean()
        for _ in range(self.pick([1, 1, 1, 2, 3])):
            encoding = self.pick(chardata.CHARMAP_ENCODINGS)
            text = text.encode("utf-8").decode(encoding, "replace")
            text = self.pick([str, str, str.lower, lambda text: text.replace("\xa0", " ")])(text)
            if self.random.random() < 0.2:
                position = self.random.randrange(len(text))
                text = text[:position] + self.pick("\ufffd? \x1a") + text[position + 1:]
        return self.pick([text, text, text + " " + self.clean(), self.clean() + text, text[self.random.randrange(4):]])

    def cesu(self):
        """UTF-8 variants read as Latin-1 or Windows-1252: surrogates of three bytes, long zeros."""
        text = self.emoji().encode("utf-16-le")
        units = [text[i] | text[i + 1] << 8 for i in range(0, len(text), 2)]
        data = b"".join(chr(unit).encode("utf-8", "surrogatepass") for unit in units)
        data += self.pick([b"", b"\xc0\x80", b"\n", b"\xc0\n", b"\xed", b"\xed\xa0"])
        return data.decode(self.pick(["latin-1", "sloppy-windows-1252", "sloppy-windows-1251"]))

    def suspects(self):
        ascii = "abcXYZ  .,!?'\"<&;\n\x1a3"
        return "".join(self.pick(self.pick([SUSPECTS, SUSPECTS, ascii])) for _ in range(self.random.randrange(1, 14)))

    def latin(self):
        return "".join(chr(self.random.randrange(0x20, 0x180)) for _ in range(self.random.randrange(1, 14)))

    def entity(self):
        def one():
            name = self.pick(self.entities)
            numbers = [self.random.randrange(256), self.random.randrange(0x3000), self.pick(SCALARS), 0x110000]
            number = self.pick(numbers)
            text = self.pick([name, name, name, name.upper(), name.lower(), name.rstrip(";"), name[:-2], name + "x",
                              f"#{number};", f"#{number}", f"#x{number:x};", f"#X{number:X}", "#;", "", "amp;" + name])
            return "&" + text + self.pick(["", "", "", " ", ";", "a", "<", "é", "1"])
        return self.join(one, self.random.randrange(1, 5))

    def white_space(self):
        word = lambda: self.pick(["a", "cat", "", "é", "12", "Σ", "!"]) + self.pick(SPACES) * self.random.randrange(3)
        return "".join(word() for _ in range(self.random.randrange(1, 10)))

    def controls(self):
        escapes = ["\x1b[31m", "\x1b[0;1;4m", "\x1b[", "\x1b[٣m", "\r\n", "\r", "\x1b\x1b[mm", "\u2028", "\x85"]
        word = lambda: self.pick(["a", "cat", "é", "12", self.pick(CONTROLS), self.pick(escapes), self.pick(SPACES)])
        return "".join(word() for _ in range(self.random.randrange(1, 12)))

    def marks(self):
        jamo = [chr(self.random.randrange(0x1100, 0x1200)) for _ in range(3)]
        jamo.append(chr(self.random.randrange(0xAC00, 0xD7A4)))
        piece = lambda: self.pick([self.pick(MARKS), self.pick(COMPOSED), self.pick("aeiouAEIOUnNsS"), *jamo,
                                   unicodedata.normalize("NFD", self.pick(COMPOSED)), "\u0345"])
        return "".join(piece() for _ in range(self.random.randrange(1, 12)))

    def cases(self):
        pieces = ["Σ", "Σ", "σ", "ς", "ΑΣ", "ΟΔΟΣ", "İ", "I", "ı", "ſ", "ß", "ẞ", "K", "'ſ", "'S", "'LL", "’ve"]
        pieces += ["'", ".", "\u0307", "\u0301", "\u00ad", " ", "<|endoftext|>", "<|STARTOFTEXT|>", "<|ſtartoftext|>"]
        pieces += ["<|", "|>"]
        piece = lambda: self.pick([self.pick(pieces), self.pick(pieces), self.pick(CASED)])
        return "".join(piece() for _ in range(self.random.randrange(1, 12)))

    def widths(self):
        piece = lambda: self.pick([self.pick(WIDTHS), self.pick(WIDTHS), self.pick("abc 12.'s"), "don’t "])
        return "".join(piece() for _ in range(self.random.randrange(1, 14)))

    def mixture(self):
        kinds = [kind for kind in self.kinds() if kind != self.mixture]
        return "".join(self.pick(kinds)()[:12] for _ in range(self.random.randrange(2, 5)))

    def kinds(self):
        return [
            *(self.caption, self.script, self.anything, self.basic_plane, self.emoji, self.mojibake, self.cesu),
            *(self.suspects, self.latin, self.entity, self.white_space, self.controls, self.marks, self.cases),
            *(self.widths, self.mixture),
        ]

    def draw(self, count):
        """`count` pairs of a kind's name and a text, each kind as often as the others."""
        kinds = self.kinds()
        return [(kinds[i % len(kinds)].__name__, kinds[i % len(kinds)]()) for i in range(count)]


class Reference:
    """openai-clip's `tokenize` of one text with truncation, without the tensor."""

    def __init__(self):
        self.tokenizer = load("clip", "simple_tokenizer").SimpleTokenizer()

    def tokenize(self, text, context_length=77):
        encoder = self.tokenizer.encoder
        tokens = [encoder["<|startoftext|>"], *self.tokenizer.encode(text), encoder["<|endoftext|>"]]
        if len(tokens) > context_length:
            tokens = tokens[: context_length - 1] + [encoder["<|endoftext|>"]]
        return tokens + [0] * (context_length - len(tokens))


def ours(binary, texts):
    """Our ids of the texts, and how many seconds the whole call took."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
        file.flush()
        start = time.perf_counter()
        command = [binary, "tokenize", "--truncate", "--json-lines", file.name]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - start
    ids = [json.loads(line) for line in output.splitlines()]
    if len(ids) != len(texts):
        sys.exit(f"{binary} gave {len(ids)} lines for {len(texts)} texts")
    return ids, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    generator, reference = Generator(arguments.seed), Reference()
    drawn = generator.draw(arguments.count)
    expected = [reference.tokenize(text) for _, text in drawn]
    found, _ = ours(arguments.binary, [text for _, text in drawn])

    total, wrong = collections.Counter(), collections.Counter()
    suspicious = clean_wrong = 0
    for (kind, text), theirs, our in zip(drawn, expected, found):
        is_mojibake = badness.is_bad(text) or badness.is_bad(html.unescape(text)) or ftfy.fix_encoding(text) != text
        total[kind] += 1
        suspicious += is_mojibake
        if theirs != our:
            wrong[kind] += 1
            clean_wrong += not is_mojibake
            if sum(wrong.values()) <= 20:
                print(f"{kind}: {text!r}")
                print(f"  openai-clip {[i for i in theirs if i]}\n  clip-gpu    {[i for i in our if i]}")
    for kind in total:
        print(f"{kind:12} {total[kind]:7} texts {wrong[kind]:4} differ")
    differing = sum(wrong.values())
    print(f"all          {len(drawn):7} texts {differing:4} differ; {suspicious} look like mojibake, "
          f"of the others {clean_wrong} differ")

    captions = [generator.caption() for _ in range(50_000)]
    start = time.perf_counter()
    for text in captions:
        reference.tokenize(text)
    theirs = len(captions) / (time.perf_counter() - start)
    _, seconds = ours(arguments.binary, captions)
    print(f"captions a second: openai-clip {theirs:.0f}, "
          f"the clip-gpu command from start to end {len(captions) / seconds:.0f}")
    sys.exit(1 if differing * 10_000 > len(drawn) or clean_wrong else 0)


if __name__ == "__main__":
    main()
