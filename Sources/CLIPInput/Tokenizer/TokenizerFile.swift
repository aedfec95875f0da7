// tokenizer.json: what the `tokenizers` library saves of a tokenizer.

import Checkpoints

/// The contents of a `tokenizer.json`. Truncation, padding and decoders are left out: the model decides those.
struct TokenizerFile {
    private(set) var name: String
    private(set) var addedTokens: [AddedToken] = []
    private(set) var normalizer: JSON = .null
    private(set) var preTokenizer: JSON = .null
    private(set) var postProcessor: JSON = .null
    private(set) var modelType: String?
    /// Tokens with ids: those of a `Unigram` are numbered in their order.
    private(set) var vocabulary: [(bytes: [UInt8], id: Int32)] = []
    /// Of a `Unigram`'s tokens.
    private(set) var scores: [Double] = []
    private(set) var merges: [(left: [UInt8], right: [UInt8])] = []
    /// All else that is said of the model.
    private(set) var options: [String: JSON] = [:]
    /// Whether rows are filled up at their beginning.
    private(set) var padsLeft = false

    private static let mostTokens = PairTable.mostSymbols
    private static let mostMerges = PairTable.mostMerges

    init(contentsOf path: String) throws(CheckpointError) {
        let file = try MappedFile(path: path)
        defer { withExtendedLifetime(file) {} }
        try self.init(file.bytes, name: path)
    }

    init(_ bytes: UnsafeRawBufferPointer, name: String) throws(CheckpointError) {
        self.name = name
        do throws(CheckpointError) {
            var reader = JSONReader(bytes)
            var file = self
            try reader.object { (key, reader) throws(CheckpointError) in try file.read(key, &reader) }
            try reader.end()
            self = file
        } catch {
            throw CheckpointError("\(name) cannot be read: \(error)")
        }
    }

    private mutating func read(_ key: String, _ reader: inout JSONReader) throws(CheckpointError) {
        var budget = 1 << 20
        switch key {
        case "added_tokens":
            guard case .array(let tokens) = try reader.value(budget: &budget) else { break }
            for token in tokens { addedTokens.append(try AddedToken(token)) }
        case "normalizer": normalizer = try reader.value(budget: &budget)
        case "pre_tokenizer": preTokenizer = try reader.value(budget: &budget)
        case "post_processor": postProcessor = try reader.value(budget: &budget)
        case "padding": padsLeft = try reader.value(budget: &budget)["direction"]?.string == "Left"
        case "model":
            var file = self
            try reader.object { (key, reader) throws(CheckpointError) in try file.readModel(key, &reader) }
            self = file
        default: _ = try reader.value(budget: &budget)
        }
    }

    private mutating func readModel(_ key: String, _ reader: inout JSONReader) throws(CheckpointError) {
        var budget = 1 << 20
        switch key {
        case "type": modelType = try reader.value(budget: &budget).string
        case "vocab": (vocabulary, scores) = try Self.vocabulary(&reader)
        case "merges": merges = try Self.merges(&reader)
        default: options[key] = try reader.value(budget: &budget)
        }
    }

    /// A vocabulary: an object of tokens and ids, or an array of tokens and scores.
    static func vocabulary(
        _ reader: inout JSONReader
    ) throws(CheckpointError) -> (tokens: [(bytes: [UInt8], id: Int32)], scores: [Double]) {
        var tokens: [(bytes: [UInt8], id: Int32)] = []
        var scores: [Double] = []
        if reader.next() == UInt8(ascii: "{") {
            try reader.object { (token, reader) throws(CheckpointError) in
                let id = try reader.count()
                guard id < Self.mostTokens, tokens.count < Self.mostTokens else {
                    throw CheckpointError("the token \(quoted(token)) has the id \(id), of at most \(Self.mostTokens)")
                }
                tokens.append((Array(token.utf8), Int32(id)))
            }
        } else {
            try reader.array { (reader) throws(CheckpointError) in
                var budget = 4
                guard let pair = try reader.value(budget: &budget).array, pair.count == 2, let token = pair[0].string,
                    let score = pair[1].double, tokens.count < Self.mostTokens
                else { throw CheckpointError("its vocabulary is no list of at most \(Self.mostTokens) tokens and scores") }
                tokens.append((Array(token.utf8), Int32(tokens.count)))
                scores.append(score)
            }
        }
        return (tokens, scores)
    }

    /// Merges: pairs of tokens, in arrays or with a space between them.
    private static func merges(_ reader: inout JSONReader) throws(CheckpointError) -> [(left: [UInt8], right: [UInt8])] {
        var merges: [(left: [UInt8], right: [UInt8])] = []
        try reader.array { (reader) throws(CheckpointError) in
            guard merges.count < mostMerges else { throw CheckpointError("it has more than \(mostMerges) merges") }
            if reader.next() == UInt8(ascii: "\"") {
                merges.append(try merge(Array(try reader.string().utf8)))
                return
            }
            var pair: [[UInt8]] = []
            try reader.array { (reader) throws(CheckpointError) in
                guard pair.count < 2 else { throw CheckpointError("a merge is of two tokens") }
                pair.append(Array(try reader.string().utf8))
            }
            guard pair.count == 2 else { throw CheckpointError("a merge is of two tokens") }
            merges.append((pair[0], pair[1]))
        }
        return merges
    }

    /// A merge from a line of text.
    static func merge(_ line: [UInt8]) throws(CheckpointError) -> (left: [UInt8], right: [UInt8]) {
        let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw CheckpointError("a merge is of two tokens, not \(quoted(String(decoding: line, as: UTF8.self)))")
        }
        return (Array(parts[0]), Array(parts[1]))
    }

    // MARK: Building

    /// The tokenizer as the file describes it.
    func tokenizer() throws(CheckpointError) -> LibraryTokenizer {
        var tokenizer = LibraryTokenizer(
            model: try model(), normalizer: try normalizer(normalizer), preTokenizer: try preTokenizer(preTokenizer))
        if tokenizer.normalizer?.dropsCharacters ?? false, tokenizer.preTokenizer?.asksForStart ?? false {
            throw refusal("a Metaspace with the prepend_scheme \"first\" behind a normalizer that drops characters")
        }
        tokenizer.add(addedTokens)
        let specials = try specials(postProcessor)
        (tokenizer.prefix, tokenizer.suffix) = (specials.prefix, specials.suffix)
        return tokenizer
    }

    private func refusal(_ what: String) -> CheckpointError {
        CheckpointError("\(name) uses \(what), which cannot be read: save the tokenizer without it, or use another model")
    }

    private func flag(_ options: JSON?, _ key: String, default value: Bool) -> Bool { options?[key]?.bool ?? value }

    private func model() throws(CheckpointError) -> WordModel {
        switch modelType ?? (merges.isEmpty ? scores.isEmpty ? "WordPiece" : "Unigram" : "BPE") {
        case "Unigram":
            guard scores.count == vocabulary.count, let unknown = options["unk_id"]?.integer,
                vocabulary.indices.contains(unknown)
            else { throw CheckpointError("\(name) is damaged: a Unigram model needs scores and an unk_id among its tokens") }
            return .unigram(
                UnigramWords(
                    zip(vocabulary, scores).map { ($0.bytes, $1) }, unknownID: Int32(unknown),
                    fallsBackToBytes: options["byte_fallback"]?.bool ?? false))
        case "BPE":
            if let dropout = options["dropout"]?.double, dropout > 0 { throw refusal("dropout, which draws at random") }
            let options = BytePairWords.Options(
                unknown: self.options["unk_token"]?.string.map { Array($0.utf8) },
                fusesUnknown: self.options["fuse_unk"]?.bool ?? false,
                fallsBackToBytes: self.options["byte_fallback"]?.bool ?? false,
                ignoresMerges: self.options["ignore_merges"]?.bool ?? false,
                prefix: Array((self.options["continuing_subword_prefix"]?.string ?? "").utf8),
                suffix: Array((self.options["end_of_word_suffix"]?.string ?? "").utf8))
            return .bytePair(try BytePairWords(vocabulary, merges: merges, options, name: name))
        case "WordPiece":
            return .wordPiece(
                try WordPieceWords(
                    vocabulary, unknown: Array((options["unk_token"]?.string ?? "[UNK]").utf8),
                    prefix: Array((options["continuing_subword_prefix"]?.string ?? "##").utf8),
                    longestWord: options["max_input_chars_per_word"]?.integer ?? 100, name: name))
        case let type: throw refusal("a model of the type \(quoted(type))")
        }
    }

    private func pattern(_ json: JSON?) throws(CheckpointError) -> TextPattern {
        if let literal = json?["String"]?.string { return .literal(Array(literal.utf8)) }
        guard let source = json?["Regex"]?.string else {
            throw CheckpointError("\(name) is damaged: a pattern is neither a String nor a Regex")
        }
        return .expression(try Expression(source, name: name))
    }

    private func normalizer(_ json: JSON) throws(CheckpointError) -> TextNormalizer? {
        if json.isNull { return nil }
        switch json["type"]?.string {
        case "Sequence":
            var steps: [TextNormalizer] = []
            for step in json["normalizers"]?.array ?? [] {
                if let step = try normalizer(step) { steps.append(step) }
            }
            return .sequence(steps)
        case "NFC": return .canonical(composes: true)
        case "NFD": return .canonical(composes: false)
        case "NFKC": return .compatible(composes: true)
        case "NFKD": return .compatible(composes: false)
        case "Lowercase": return .lowercase
        case "StripAccents": return .stripAccents
        case "Strip":
            return .strip(
                left: flag(json, "strip_left", default: true), right: flag(json, "strip_right", default: true))
        case "Replace":
            return .replace(try pattern(json["pattern"]), Array((json["content"]?.string ?? "").utf8))
        case "Prepend": return .prepend(Array((json["prepend"]?.string ?? "").utf8))
        case "Precompiled":
            guard let text = json["precompiled_charsmap"]?.string else { return nil }
            return .mapped(try CharacterMap(try base64(text), name: name))
        case "BertNormalizer":
            let lowercases = flag(json, "lowercase", default: true)
            return .bert(
                BertNormalizer(
                    cleans: flag(json, "clean_text", default: true),
                    splitsIdeographs: flag(json, "handle_chinese_chars", default: true),
                    stripsAccents: flag(json, "strip_accents", default: lowercases), lowercases: lowercases))
        case "Nmt": return .nmt
        case "ByteLevel": return .byteLevel
        case let type: throw refusal("a normalizer of the type \(quoted(type ?? ""))")
        }
    }

    /// `precompiled_charsmap` as it stands in the file.
    func characterMap() throws(CheckpointError) -> CharacterMap? {
        let steps = normalizer["type"]?.string == "Sequence" ? normalizer["normalizers"]?.array ?? [] : [normalizer]
        for step in steps where step["type"]?.string == "Precompiled" {
            guard let text = step["precompiled_charsmap"]?.string else { continue }
            return try CharacterMap(try base64(text), name: name)
        }
        return nil
    }

    private func base64(_ text: String) throws(CheckpointError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count / 4 * 3)
        var bits: UInt32 = 0
        var count = 0
        for character in text.utf8 {
            let value: UInt8
            switch character {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = character - 65
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - 71
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = character + 4
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            case UInt8(ascii: "="): continue
            default: throw CheckpointError("\(name) is damaged: its table of characters is not base64")
            }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return bytes
    }

    private func preTokenizer(_ json: JSON) throws(CheckpointError) -> PreTokenizer? {
        if json.isNull { return nil }
        let behavior = json["behavior"]?.string.flatMap { PreTokenizer.SplitBehavior(rawValue: $0) } ?? .isolated
        switch json["type"]?.string {
        case "Sequence":
            var steps: [PreTokenizer] = []
            for step in json["pretokenizers"]?.array ?? [] {
                if let step = try preTokenizer(step) { steps.append(step) }
            }
            return .sequence(steps)
        case "Split":
            let pattern = try pattern(json["pattern"])
            return .split(.pattern(pattern, inverts: flag(json, "invert", default: false)), behavior)
        case "ByteLevel":
            let usesPattern = flag(json, "use_regex", default: true)
            let pattern = TextPattern.expression(try Expression(PreTokenizer.byteLevelPattern, name: name))
            return .byteLevel(
                addsPrefixSpace: flag(json, "add_prefix_space", default: true), split: usesPattern ? pattern : nil)
        case "Metaspace":
            let scheme =
                flag(json, "add_prefix_space", default: true)
                ? json["prepend_scheme"]?.string ?? "always" : PreTokenizer.PrependScheme.never.rawValue
            guard let scheme = PreTokenizer.PrependScheme(rawValue: scheme) else {
                throw refusal("a Metaspace with the prepend_scheme \(quoted(scheme))")
            }
            return .metaspace(
                replacement: Array((json["replacement"]?.string ?? "\u{2581}").utf8), scheme,
                splits: flag(json, "split", default: true))
        case "Whitespace": return .split(.betweenWords, .removed)
        case "WhitespaceSplit": return .split(.character(.isSpace), .removed)
        case "BertPreTokenizer": return .bert
        case "Punctuation": return .split(.character(.isPunctuation), behavior)
        case "Digits":
            let isSingle = flag(json, "individual_digits", default: false)
            return .split(.character(.isNumeric), isSingle ? .isolated : .contiguous)
        case let type: throw refusal("a pre-tokenizer of the type \(quoted(type ?? ""))")
        }
    }

    /// Ids before and behind a text.
    typealias Specials = (prefix: [Int32], suffix: [Int32])

    func specials() throws(CheckpointError) -> Specials { try specials(postProcessor) }

    private func specials(_ json: JSON) throws(CheckpointError) -> Specials {
        if json.isNull { return ([], []) }
        func id(_ pair: JSON?) throws(CheckpointError) -> Int32 {
            guard let pair = pair?.array, pair.count == 2, let id = pair[1].integer, let id = Int32(exactly: id), id >= 0
            else { throw CheckpointError("\(name) is damaged: its post-processor lacks a special token's id") }
            return id
        }
        switch json["type"]?.string {
        case "ByteLevel": return ([], [])
        case "BertProcessing", "RobertaProcessing": return ([try id(json["cls"])], [try id(json["sep"])])
        case "Sequence":
            var result: Specials = ([], [])
            for step in json["processors"]?.array ?? [] {
                let outer = try specials(step)
                result = (outer.prefix + result.prefix, result.suffix + outer.suffix)
            }
            return result
        case "TemplateProcessing":
            var result: Specials = ([], [])
            var isBehind = false
            let pieces = json["single"]?.array ?? []
            guard pieces.count <= 64 else { throw refusal("a template of \(pieces.count) pieces") }
            for piece in pieces {
                if piece["Sequence"] != nil {
                    guard piece["Sequence"]?["id"]?.string == "A", !isBehind else {
                        throw refusal("a template with another sequence than one A")
                    }
                    isBehind = true
                    continue
                }
                let token = piece["SpecialToken"]?["id"]?.string ?? ""
                let ids = json["special_tokens"]?[token]?["ids"]?.array?.compactMap(\.integer) ?? []
                guard !ids.isEmpty, ids.allSatisfy({ (0..<Self.mostTokens).contains($0) }) else {
                    throw CheckpointError("\(name) is damaged: its template's token \(quoted(token)) has no ids")
                }
                if isBehind { result.suffix += ids.map(Int32.init) } else { result.prefix += ids.map(Int32.init) }
            }
            guard isBehind else { throw refusal("a template without a text") }
            return result
        case let type: throw refusal("a post-processor of the type \(quoted(type ?? ""))")
        }
    }
}

extension PreTokenizer {
    /// `BertPreTokenizer`: words, and each mark of punctuation for itself.
    static let bert = PreTokenizer.sequence([
        .split(.character(.isSpace), .removed), .split(.character(.isPunctuation), .isolated),
    ])
}

extension AddedToken {
    /// A token as an object: of `added_tokens`, or transformers' `AddedToken`.
    init(_ json: JSON, id: Int32? = nil) throws(CheckpointError) {
        guard let text = json["content"]?.string else { throw CheckpointError("an added token has no content") }
        let number = id.map(Int.init) ?? json["id"]?.integer ?? 0
        guard (0..<PairTable.mostSymbols).contains(number) else {
            throw CheckpointError("the added token \(quoted(text)) has the id \(number)")
        }
        self.text = Array(text.utf8)
        self.id = Int32(number)
        isSingleWord = json["single_word"]?.bool ?? false
        stripsLeft = json["lstrip"]?.bool ?? false
        stripsRight = json["rstrip"]?.bool ?? false
        isSpecial = json["special"]?.bool ?? false
        isNormalized = json["normalized"]?.bool ?? !isSpecial
    }

    /// A special token that is nothing but a text.
    init(special text: String) {
        self.init(text: Array(text.utf8), id: 0, isSpecial: true)
    }
}
