// The tokenizer against ids of the reference: golden ones, and a fixture of tools/make_token_fixtures.py.

import CLIPInput
import TestSupport
import Testing

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

@Suite struct TokenizerTests {
    let tokenizer = BytePairTokenizer()

    @Test(
        "known texts have the ids of openai-clip",
        arguments: [
            ("hello world", [3306, 1002]),
            ("a diagram", [320, 22697]),
            ("a photo of a cat", [320, 1125, 539, 320, 2368]),
            ("You should've done this", [592, 1535, 1200, 1700, 589]),
            ("you're, don't, her's", [592, 982, 267, 847, 713, 267, 899, 568]),
            ("2024", [273, 271, 273, 275]),
            ("3.14", [274, 269, 272, 275]),
            ("AT&amp;T", [536, 261, 339]),
            ("snake_case", [8798, 318, 2068]),
            ("!!!", [995]),
            ("", []),
            ("café", [15304]),
            ("naïve façade", [1097, 35689, 563, 778, 10067, 1928]),
            ("日本語", [39121, 44353, 34002, 508]),
            ("🙂", [14860]),
            ("👩‍👩‍👧", [26304, 26304, 964, 356]),
            ("हिन्दी", [29446, 26721, 26090, 19389, 29552, 25751]),
            ("ΟΔΟΣ", [138, 123, 138, 112, 138, 123, 139, 480]),
            ("İstanbul", [328, 16384, 11231]),
            ("ſtuff", [129, 123, 38868]),
            ("½", [33613]),
            ("x²", [343, 41175]),
            ("x\u{302}", [343, 136, 480]),
            ("“quoted”", [257, 27706, 257]),
            ("ﬁne", [3797]),
            ("ｆｕｌｌ", [1476]),
            ("don’t", [847, 713]),
            ("cafÃ©", [15304]),
        ] as [(String, [Int32])])
    func goldenIDs(text: String, ids: [Int32]) {
        #expect(tokenizer.encode(text) == ids)
    }

    @Test("thousands of random texts have the ids of openai-clip")
    func fixture() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/tokens.jsonl")
        let lines = try Data(contentsOf: file).split(separator: UInt8(ascii: "\n"))
        #expect(lines.count > 3000)
        for line in lines {
            let reference = try JSONDecoder().decode(Reference.self, from: line)
            #expect(tokenizer.encode(reference.text) == reference.ids, "\(reference.text.debugDescription)")
        }
    }

    private struct Reference: Decodable {
        let text: String
        let ids: [Int32]

        init(from decoder: any Decoder) throws {
            var line = try decoder.unkeyedContainer()
            text = try line.decode(String.self)
            ids = try line.decode([Int32].self)
        }
    }

    @Test("tokens stand between start and end")
    func startAndEnd() throws {
        let start = tokenizer.startOfText
        let end = tokenizer.endOfText
        #expect(start == 49406 && end == 49407 && tokenizer.vocabularySize == 49408)
        #expect(try tokenizer.tokenize("hello world", contextLength: 6) == [start, 3306, 1002, end])
        #expect(try tokenizer.tokenize("hello world", contextLength: 4) == [start, 3306, 1002, end])
    }

    @Test("a text that is too long is an error that says what to do, or is cut where truncation is asked for")
    func tooLong() throws {
        let text = Array(repeating: "cat", count: 76).joined(separator: " ")
        let error = #expect(throws: TokenizerError.self) { try tokenizer.tokenize(text) }
        #expect(error == .textTooLong(text: text, tokenCount: 78, contextLength: 77))
        #expect(
            error?.description == """
                The text "cat cat cat cat cat cat cat cat cat cat cat cat cat cat c..." is too long: it has 78 tokens \
                with its start and end, and the model reads 77; shorten it or ask for truncation.
                """)
        let cut = try tokenizer.tokenize(text, truncate: true)
        #expect(cut == [tokenizer.startOfText] + Array(repeating: 2368, count: 75) + [tokenizer.endOfText])
        #expect(try tokenizer.tokenize(String(text.dropLast(4))) == cut)
        #expect(throws: TokenizerError.self) { try tokenizer.tokenize("", contextLength: 0, truncate: true) }
    }

    @Test("special tokens spelt out in a text are those of the chosen reference")
    func specialTokens() {
        let openCLIP = BytePairTokenizer(specialTokens: .openCLIP)
        #expect(tokenizer.encode("a<|endoftext|>b") == [320, 49407, 321])
        #expect(openCLIP.encode("a<end_of_text>b") == [320, 49407, 321])
        #expect(openCLIP.encode("<START_OF_TEXT>") == [49406])
        #expect(!openCLIP.encode("a<|endoftext|>b").contains(49407))
        #expect(!tokenizer.encode("a<end_of_text>b").contains(49407))
    }

    @Test("every occurrence of the lowest pair is merged, left to right, before the next pair")
    func mergeOrder() {
        // Bytes are 0...255, at the end of a word 256...511.
        let a = Int32(UInt8(ascii: "a"))
        let b = Int32(UInt8(ascii: "b"))
        let pairs: [MergeTable.Merge] = [(a, a, 600), (600, a, 601), (b, 600, 602), (602, b + 256, 603)]
        // Every (a, a) goes before the first (600, a), whichever has the lower rank.
        let swapped = [pairs[1], pairs[0], pairs[2], pairs[3]]
        for (pairs, longWord) in [(pairs, 0), (pairs, 128), (swapped, 0), (swapped, 128)] {
            let merges = MergeTable(
                symbols: Array(0..<256), endOfWordSymbols: Array(256..<512), merges: pairs, longWord: longWord)
            let tokenizer = BytePairTokenizer(
                merges: merges, specialTokens: .openAI, startOfText: 700, endOfText: 701, vocabularySize: 702)
            #expect(tokenizer.encode("aaaaab") == [600, 601, b + 256])
            #expect(tokenizer.encode("baab") == [603])
            #expect(tokenizer.encode("aa") == [a, a + 256])
            #expect(tokenizer.encode("b") == [b + 256])
        }
    }

    @Test("long words have the tokens that passes over the word find")
    func longWords() {
        let queue = BytePairTokenizer(
            merges: .clip(longWord: 0), specialTokens: .openAI, startOfText: 49406, endOfText: 49407,
            vocabularySize: 49408)
        var random = SystemRandomNumberGenerator()
        for length in 1...120 {
            let letters = (0..<length).map { _ in "etaoinshrdlué".randomElement(using: &random) ?? "e" }
            let word = String(letters) + String(repeating: "a", count: length % 7)
            #expect(queue.encode(word) == tokenizer.encode(word), "\(word)")
        }
    }

    @Test("long texts take time in proportion")
    func longTexts() {
        let count = 200_000
        for unit in [
            "a", "thequickbrownfoxjumpsoverthelazydog", "日本語の文章", "“", "Ã©", "&am", "\u{301}\u{323}", "\u{1B}[", "<",
            "a€ ÃÂ¤ ",
            "amp;", "#38;", "AMP;#x26;",
        ] {
            // References to an ampersand that begin references: ftfy takes one away at a time.
            let text =
                (unit.hasSuffix(";") ? "&" : "") + String(repeating: unit, count: count / unit.unicodeScalars.count)
            let start = threadSeconds()
            #expect(!tokenizer.encode(text).isEmpty)
            // In proportion to the square it would be minutes.
            #expect(threadSeconds() - start < 10)
        }
    }
}
