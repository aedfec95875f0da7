#!/usr/bin/env python3
"""Writes Tests/CLIPInputTests/Fixtures/tokens.jsonl: texts of every kind with the ids that openai-clip gives them.

A line is `[text, [ids]]`, ids without start and end. Run it with a Python that has openai-clip, ftfy, regex and
open_clip_torch: python3 tools/make_token_fixtures.py
"""

import json
import pathlib

from compare_tokens import Generator, Reference, SENTENCES

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Tests/CLIPInputTests/Fixtures/tokens.jsonl"
COUNT = 3200
CHOSEN = [
    # Contractions, digits, punctuation, special tokens
    *("", " ", "hello world", "a photo of a cat", "You should've done this", "you're, don't, her's"),
    *("IT'S WE'LL I'M he'd",),
    *("2024", "3.14", "snake_case", "!!!", "...'s", "'", "''s", "a<|endoftext|>b", "<|STARTOFTEXT|>", "!<|endoftext|>"),
    *("<|ſtartoftext|> 'ſ x'ſ", "<start_of_text>", "<|endoftext", "½ x² Ⅳ ٣", "x\u0302", "a\u0345b!\u0345!"),
    # Entities, with and without semicolon, twice, in real HTML
    *("AT&amp;T", "&amp;amp;amp;lt;", "&lt;b&gt; &eacute; &EACUTE; &NTILDE; &SZLIG;", "&ampx &notit; &notin; &not"),
    *("<b>&eacute;</b>",),
    *("<i>\n&amp;eacute; &EACUTE;", "&eacute;\n<", "&#39;&#x2019;&#59;&#0;&#128;&#xD800;&#x110000;&#1;&#13;x"),
    *("&#x1F600", "&", "&;", "&#", "&#x;"),
    # Case
    *("ΟΔΟΣ", "Σ", "ΑΣ.", "ΑΣ\u00adΒ", "Α\u0301Σ", "İstanbul", "ſtuff", "K Å ẞ ǅ", "ΣΑΣ ΣΣ"),
    # White space, line breaks, controls, terminal escapes
    *("\ta \n b\r\nc\rd\u2028e\u00a0f\u3000g\u200bh\u1680i", "\x1c\x1d\x1e\x1f a\x85b"),
    *("\x1b[31mred\x1b[0m \x1b[x\x1b[٣mz", "a\x00b\ufeffc\x7fd"),
    # Mojibake
    *("cafÃ©", "âœ” No problems", "Ã\xa0 la mode", "Ã la mode", "voilÃ  le", "l’humanitÃ©"),
    *("â€œquotedâ€\x9d and â€œlossyâ€�", "ÐŸÑ€Ð¸Ð²ÐµÑ‚"),
    *("РџСЂРёРІРµС‚", "схожÐ¸ this and that cafÃ©", "√©t√©", "├⌐", "Ãƒâ€šÃ‚Â£"),
    *("The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t have eyebrows.", "í\xa0½í¸\x8d", "À\x80 x Ã©"),
    *("AHÅ™, the new sofa from IKEA®", "HUHLL, l’Ã©tÃ© “ok”", "ã‚¢", "à¸ªà¸§à¸±", "Â£5 or Â£6", "Â ok", "×²×³"),
    # Characters ftfy tidies
    *("ﬁne ﬂuﬃeﬆ ŉ Ǆ", "ｆｕｌｌ　ｗｉｄｔｈ ﾊﾝｶｸ ｶﾞ", "“quoted” ‘x’ don’t ʼn ‛"),
    *("\u212b \u1e9b\u0323 \u0344 가 \u1100\u1161\u11a8",),
    # Scripts and emoji
    *("café", "naïve façade", "日本語", "हिन्दी", "ไทย", "עברית", "العربية", "🙂", "👩‍👩‍👧", "🇩🇪 1️⃣ 👍🏽"),
    *SENTENCES,
]


def main():
    reference = Reference()
    texts = CHOSEN + [text for _, text in Generator(2).draw(COUNT)]
    with open(OUTPUT, "w", encoding="utf-8", newline="\n") as file:
        for text in texts:
            ids = reference.tokenizer.encode(text)
            file.write(json.dumps([text, ids], ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{OUTPUT.name}: {len(texts)} texts, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
