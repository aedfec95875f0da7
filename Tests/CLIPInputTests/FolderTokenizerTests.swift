// Tokenizers out of files, against the ids of transformers and open_clip: fixtures of tools/make_tokenizer_fixtures.py.

import CLIPInput
import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("tokenizer folders") struct FolderTokenizerTests {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Fixtures/tokenizers")
    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? [])
        .filter { !$0.hasSuffix(".json") }.sorted()
    static let texts = (try? decode([String].self, "texts.json")) ?? []
    static let context = 64

    static func path(_ name: String) -> String { root.appendingPathComponent(name).path }

    static func decode<Value: Decodable>(_ type: Value.Type, _ file: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(contentsOf: root.appendingPathComponent(file)))
    }

    @Test("every fixture is there")
    func fixtures() {
        #expect(Self.names.count == 31 && Self.texts.count == 110)
    }

    @Test("texts have the ids of transformers", arguments: names)
    func transformers(_ name: String) throws {
        let tokenizer = try FolderTokenizer(folder: Self.path(name))
        let expected = try Self.decode([[Int32]].self, "\(name)/ids.json")
        for (text, ids) in zip(Self.texts, expected) {
            #expect(
                try tokenizer.tokenize(text, contextLength: Self.context, truncate: true) == ids, "\(name): \(text)")
        }
    }

    struct CleanedIDs: Decodable {
        let clean: String
        let strips: Bool
        /// Padded.
        let ids: [[Int32]]
    }

    @Test(
        "texts have the ids of open_clip, cleaned and without separators",
        arguments: ["bert-uncased", "bert-cased", "t5", "xlm-roberta", "siglip2", "siglip-unigram"])
    func openCLIP(_ name: String) throws {
        let expected = try Self.decode(CleanedIDs.self, "\(name)/ids.open_clip.json")
        let tokenizer = try FolderTokenizer(
            folder: Self.path(name), manner: .openCLIP(cleaning: expected.clean, stripsSeparator: expected.strips))
        let padding = try #require(tokenizer.paddingID)
        #expect(!tokenizer.padsLeft)
        for (text, ids) in zip(Self.texts, expected.ids) {
            let found = try tokenizer.tokenize(text, contextLength: Self.context, truncate: true)
            #expect(found + Array(repeating: padding, count: Self.context - found.count) == ids, "\(name): \(text)")
        }
    }

    @Test("the class is the one that transformers chooses, and padding is its own")
    func choices() throws {
        #expect(try FolderTokenizer(folder: Self.path("siglip2")).className == "Siglip2Tokenizer")
        #expect(try FolderTokenizer(folder: Self.path("library-gpt4")).className == "TokenizersBackend")
        #expect(try FolderTokenizer(folder: Self.path("xlm-roberta")).paddingID == 1)
        #expect(try FolderTokenizer(folder: Self.path("siglip-bpe")).paddingID == 1)
        #expect(try FolderTokenizer(folder: Self.path("t5")).paddingID == 0)
        #expect(try FolderTokenizer(folder: Self.path("t5")).vocabularySize == 1000)
    }

    @Test("a text that is too long is an error, or is cut before the tokens behind it")
    func tooLong() throws {
        let tokenizer = try FolderTokenizer(folder: Self.path("xlm-roberta"))
        let text = "a photo of a cat and of another cat"
        let whole = try tokenizer.tokenize(text, contextLength: 64, truncate: false)
        let error = #expect(throws: TokenizerError.self) {
            try tokenizer.tokenize(text, contextLength: 5, truncate: false)
        }
        #expect(error == .textTooLong(text: text, tokenCount: whole.count, contextLength: 5))
        let cut = try tokenizer.tokenize(text, contextLength: 5, truncate: true)
        #expect(cut == whole.prefix(4) + whole.suffix(1))
        #expect(throws: TokenizerError.self) { try tokenizer.tokenize(text, contextLength: 1, truncate: true) }
    }

    @Test("long texts take time in proportion", arguments: names)
    func longTexts(_ name: String) throws {
        let tokenizer = try FolderTokenizer(folder: Self.path(name))
        for unit in ["a", "photo of ", "日本語の文章", "\u{301}", " ", "\n", "</s>", "1", "!"] {
            let text = String(repeating: unit, count: 60_000 / unit.utf8.count)
            let start = threadSeconds()
            #expect(try tokenizer.tokenize(text, contextLength: 16, truncate: true).count <= 16)
            #expect(threadSeconds() - start < 10)
        }
    }

    // MARK: Refusals

    /// A folder with these files, deleted afterwards.
    static func inFolder<Result>(_ files: [String: [UInt8]], _ body: (String) throws -> Result) throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        for (name, bytes) in files { try Data(bytes).write(to: folder.appendingPathComponent(name)) }
        return try body(folder.path)
    }

    static func refusal(_ files: [String: String]) throws -> String {
        try inFolder(files.mapValues { Array($0.utf8) }) { folder in
            do {
                _ = try FolderTokenizer(folder: folder)
                return ""
            } catch {
                return "\(error)".replacingOccurrences(of: folder, with: "F")
            }
        }
    }

    @Test("what cannot be read is refused by name")
    func refusals() throws {
        let wordPiece = #""model":{"type":"WordPiece","vocab":{"[UNK]":0}}"#
        #expect(
            try Self.refusal(["tokenizer_config.json": #"{"tokenizer_class":"NllbTokenizer"}"#]).hasPrefix(
                #"F names the tokenizer "NllbTokenizer", which cannot be read: CLIP's, "#))
        #expect(
            try Self.refusal(["config.json": #"{"model_type":"siglip"}"#])
                == "F lacks the files of its tokenizer: it needs spiece.model")
        #expect(
            try Self.refusal(["config.json": #"{"model_type":"clip"}"#])
                == "F lacks the files of its tokenizer: it needs tokenizer.json, or vocab.json and merges.txt")
        for (part, name) in [
            (#""normalizer":{"type":"Uppercase"}"#, #"a normalizer of the type "Uppercase""#),
            (#""pre_tokenizer":{"type":"UnicodeScripts"}"#, #"a pre-tokenizer of the type "UnicodeScripts""#),
            (#""post_processor":{"type":"Mine"}"#, #"a post-processor of the type "Mine""#),
        ] {
            #expect(
                try Self.refusal(["tokenizer.json": "{\(part),\(wordPiece)}"])
                    == "F/tokenizer.json uses \(name), which cannot be read: save the tokenizer without it, or use another model"
            )
        }
        #expect(
            try Self.refusal(["tokenizer.json": #"{"model":{"type":"WordLevel","vocab":{"a":0}}}"#]).contains(
                #"a model of the type "WordLevel""#))
        for (pattern, what) in [
            (#"a*?"#, "a repetition as short as possible"), (#"(ab)+"#, "a repeated group"), (#"\\w+"#, "an escape"),
            (#"(?<=a)b"#, "a group of this kind"), (#"a|"#, "matches nothing"), (#"[[a]]"#, "a class in a class"),
        ] {
            let split =
                #"{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\#(pattern)"},"behavior":"Removed","invert":false},"#
            #expect(try Self.refusal(["tokenizer.json": split + wordPiece + "}"]).contains(what), "\(pattern)")
        }
        #expect(throws: CheckpointError.self) {
            try FolderTokenizer(
                folder: Self.path("t5"), manner: .openCLIP(cleaning: "whitespace_underscore", stripsSeparator: false))
        }
    }

    @Test("an expression of endless ways to fail ends")
    func endlessExpression() throws {
        let pattern = String(repeating: "(?:a|aa)?", count: 40) + "b"
        let file = """
            {"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\(pattern)"},"behavior":"Isolated","invert":false},
            "model":{"type":"WordPiece","vocab":{"[UNK]":0}}}
            """
        try Self.inFolder(["tokenizer.json": Array(file.utf8)]) { folder in
            let tokenizer = try FolderTokenizer(folder: folder)
            #expect(
                try tokenizer.tokenize(String(repeating: "a", count: 60), contextLength: 9, truncate: true) == [0])
        }
    }

    // MARK: Damage

    /// More with `CLIP_GPU_MUTATIONS=1000000 swift test -c release --filter "tokenizer folders"`; another seed with
    /// `CLIP_GPU_SEED`.
    static let cases = ProcessInfo.processInfo.environment["CLIP_GPU_MUTATIONS"].flatMap(Int.init) ?? 1500
    static let seed = ProcessInfo.processInfo.environment["CLIP_GPU_SEED"].flatMap(UInt64.init) ?? 1

    /// Pieces that these formats are sensitive to.
    static let pieces: [[UInt8]] =
        [
            "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-1", "99999999999", "1e400", "\\ud800", "null", "true",
            "\"type\":\"NFKC\"", "\"Regex\":\"(\"", "\"id\":4294967296", "\u{0}", "é", " ", "\n", "\"\"", "\"first\"",
        ].map { Array($0.utf8) } + [
            [0x0A, 0x00], [0x12, 0xFF, 0xFF, 0xFF, 0x7F], [0x18, 0x09], [0xFF], [0x08, 0x80],
        ]

    static func damaged(_ bytes: [UInt8], _ random: inout Generator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let place = Int.random(in: 0...bytes.count, using: &random)
            let length = min(Int.random(in: 0...12, using: &random), bytes.count - place)
            switch Int.random(in: 0..<6, using: &random) {
            case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1 where place < bytes.count: bytes[place] = .random(in: .min ... .max, using: &random)
            case 2: bytes.removeSubrange(place..<place + length)
            case 3:
                let part = Array(bytes[place..<place + length])
                bytes.insert(contentsOf: part, at: Int.random(in: 0...bytes.count, using: &random))
            case 4: bytes.removeLast(min(bytes.count, Int.random(in: 0...40, using: &random)))
            default: bytes.insert(contentsOf: pieces.randomElement(using: &random) ?? [], at: place)
            }
        }
        return bytes
    }

    /// SplitMix64 (Steele et al. 2014).
    struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
            return z ^ z >> 31
        }
    }

    @Test("damaged files are read or refused, and what is read tokenizes")
    func damage() throws {
        var random = Generator(state: Self.seed)
        let folders = try Self.names.map { name in
            let files = try FileManager.default.contentsOfDirectory(atPath: Self.path(name))
                .filter { !$0.hasPrefix("ids") }
            return try Dictionary(
                uniqueKeysWithValues: files.sorted().map { file in
                    (file, Array(try Data(contentsOf: Self.root.appendingPathComponent("\(name)/\(file)"))))
                })
        }
        let kinds = Set(folders.flatMap(\.keys)).sorted()
        var accepted = 0
        var sentences: Set<String> = []
        var counts: [String: Int] = [:]
        var slowest = 0.0
        for _ in 0..<Self.cases {
            let name = kinds.randomElement(using: &random) ?? ""
            var files = folders.filter { $0[name] != nil }.randomElement(using: &random) ?? [:]
            var bytes = files[name] ?? []
            // The small parts of a tokenizer.json are where its meaning is: half of the time only those are hit.
            let tail = bytes.firstRange(of: Array("\"vocab\"".utf8))?.lowerBound ?? bytes.count
            if name == "tokenizer.json", Bool.random(using: &random) {
                bytes = Self.damaged(Array(bytes[..<tail]), &random) + bytes[tail...]
            } else {
                bytes = Self.damaged(bytes, &random)
            }
            files[name] = bytes
            counts[name.hasSuffix(".model") ? "sentencepiece" : name, default: 0] += 1
            try Self.inFolder(files) { folder in
                let start = threadSeconds()
                defer { slowest = max(slowest, threadSeconds() - start) }
                do {
                    let tokenizer = try FolderTokenizer(folder: folder)
                    accepted += 1
                    for text in [Self.texts[3], Self.texts.randomElement(using: &random) ?? ""] {
                        let ids = try? tokenizer.tokenize(text, contextLength: Self.context, truncate: true)
                        #expect(ids.map { $0.count <= Self.context && $0.allSatisfy { $0 >= 0 } } ?? true)
                    }
                } catch {
                    let sentence = "\(error)".replacingOccurrences(of: folder, with: "")
                    sentences.insert(sentence.filter { !$0.isNumber })
                }
            }
        }
        print(
            "\(Self.cases) damaged tokenizers (\(counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", "))): "
                + "\(accepted) read, the others refused with \(sentences.count) sentences; the slowest took \(slowest) s"
        )
        // Of longer cases one would say that it hangs.
        #expect(slowest < 10)
        #expect(accepted > 0 && sentences.count > 10)
    }
}
