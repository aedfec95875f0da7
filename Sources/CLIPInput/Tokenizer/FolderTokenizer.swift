// A tokenizer out of the files beside a model, as transformers' AutoTokenizer finds and builds it.

import Checkpoints

/// The tokenizer of a folder, and the manner in which a reference library calls it.
///
/// What a folder holds, and what transformers 5 makes of it: `tokenizer_config.json` names a class, or `config.json` the
/// kind of model; some classes rebuild their steps around the vocabulary of `tokenizer.json`, a sentencepiece model,
/// `vocab.txt`, or `vocab.json` with `merges.txt`, and a general one takes `tokenizer.json` as it is.
package struct FolderTokenizer: TextTokenizer {
    /// What is done around the tokenizer.
    package enum Manner: Hashable, Sendable {
        /// Nothing: `AutoTokenizer` as a processor of transformers calls it.
        case transformers
        /// open_clip's `HFTokenizer`: texts are cleaned first (`whitespace`, `lower` or `canonicalize`), and the
        /// separator may be replaced by 0 afterwards.
        case openCLIP(cleaning: String, stripsSeparator: Bool)
    }

    private enum Engine: Sendable {
        case library(LibraryTokenizer)
        case sigLIP(SigLIPTokenizer)
    }

    private let engine: Engine
    private let cleaning: TextCleaner.Mode?
    private let strippedID: Int32?

    package let vocabularySize: Int
    /// The class of transformers that reads these files.
    package let className: String
    /// What rows are filled up with by the tokenizer's own word, if it has one.
    package let paddingID: Int32?
    /// Whether rows are filled up at their beginning by the tokenizer's own word.
    package let padsLeft: Bool

    /// - Parameter folder: the path of the folder.
    package init(folder: String, manner: Manner = .transformers) throws(CheckpointError) {
        let files = try TokenizerFolderFiles(folder)
        className = try files.className()
        var specials = try SpecialTokens(files, className)
        let id: (String) -> Int32?
        if className == "SiglipTokenizer" {
            let tokenizer = try files.sigLIP(specials)
            engine = .sigLIP(tokenizer)
            vocabularySize = tokenizer.vocabularySize
            id = { tokenizer.id(of: $0) }
        } else {
            let tokenizer = try files.library(className, &specials)
            engine = .library(tokenizer)
            vocabularySize = tokenizer.vocabularySize
            id = { tokenizer.id(of: $0) }
        }
        paddingID = specials.text("pad_token").flatMap(id)
        padsLeft = specials.padsLeft
        guard case .openCLIP(let name, let stripsSeparator) = manner else {
            (cleaning, strippedID) = (nil, nil)
            return
        }
        guard let mode = TextCleaner.Mode(rawValue: name) else {
            throw CheckpointError("\(folder) wants its texts cleaned by \(quoted(name)), which is not known here")
        }
        cleaning = mode
        strippedID = stripsSeparator ? specials.text("sep_token").flatMap(id) : nil
    }

    package func tokenize(_ text: String, contextLength: Int, truncate: Bool) throws(TokenizerError) -> [Int32] {
        let bytes = cleaning?.clean(text) ?? Array(text.utf8)
        var ids: [Int32]
        switch engine {
        case .library(let tokenizer):
            ids = try tokenizer.tokenize(
                bytes, original: text, contextLength: contextLength, truncate: truncate)
        case .sigLIP(let tokenizer):
            ids = try tokenizer.tokenize(
                bytes, original: text, contextLength: contextLength, truncate: truncate)
        }
        if let strippedID {
            for index in ids.indices where ids[index] == strippedID { ids[index] = 0 }
        }
        return ids
    }
}

/// The special tokens that a class of transformers has by itself, and what `tokenizer_config.json` and
/// `special_tokens_map.json` make of them.
struct SpecialTokens {
    /// `SPECIAL_TOKENS_ATTRIBUTES`, in the order in which they are added.
    private static let attributes = [
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
    ]
    private static let defaults: [String: [String: String]] = [
        "CLIPTokenizer": [
            "unk_token": "<|endoftext|>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        ],
        "BertTokenizer": [
            "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        ],
        "XLMRobertaTokenizer": [
            "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
            "pad_token": "<pad>", "mask_token": "<mask>",
        ],
        "T5Tokenizer": ["eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"],
        "SiglipTokenizer": ["eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"],
        "GemmaTokenizer": gemma, "Siglip2Tokenizer": gemma,
    ]
    private static let gemma = [
        "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "mask_token": "<mask>",
    ]

    /// By attribute.
    private var named: [String: AddedToken] = [:]
    /// Attributes that the files have beyond the usual ones.
    private var furtherAttributes: [String] = []
    /// `extra_special_tokens`; none where the files do not say.
    var extra: [AddedToken]?
    /// Tokens that the files give ids.
    private(set) var decoder: [AddedToken] = []
    private(set) var padsLeft: Bool
    /// What a class may ask beside special tokens.
    let config: JSON

    init(_ files: TokenizerFolderFiles, _ className: String) throws(CheckpointError) {
        config = files.config
        padsLeft = className == "GemmaTokenizer" || className == "Siglip2Tokenizer"
        for (key, text) in Self.defaults[className] ?? [:] { named[key] = Self.byDefault(text, className) }

        // Newer folders give every token in `added_tokens_decoder`; older ones spread them over several files.
        var values: [(key: String, value: JSON)] = []
        if case .object(let members) = config { values = members.map { ($0.key, $0.value) } }
        if case .object(let members)? = config["added_tokens_decoder"] {
            for member in members { decoder.append(try AddedToken(member.value, id: Int32(member.key))) }
        } else {
            if case .object(let members) = try files.json("special_tokens_map.json") {
                values += members.map { ($0.key, $0.value) }
            }
            decoder = try files.legacyTokens(values)
        }
        decoder.sort { $0.id < $1.id }
        let byText = Dictionary(decoder.map { ($0.text, $0) }, uniquingKeysWith: { $1 })
        func token(_ json: JSON, _ key: String) throws(CheckpointError) -> AddedToken? {
            let token: AddedToken
            if let text = json.string {
                token = Self.byDefault(text, key == "mask_token" ? "" : className)
            } else if json["content"] != nil {
                token = try AddedToken(json)
            } else {
                return nil
            }
            return byText[token.text] ?? token
        }
        for (key, value) in values {
            if Self.attributes.contains(key) {
                if let token = try token(value, key) { named[key] = token }
            } else if key == "extra_special_tokens" || key == "additional_special_tokens" {
                switch value {
                case .array(let tokens):
                    if key == "additional_special_tokens", extra?.isEmpty == false { continue }
                    extra = []
                    for json in tokens { if let token = try token(json, "") { extra?.append(token) } }
                case .object(let members):
                    for member in members { try name(token(member.value, ""), member.key) }
                default: break
                }
            } else if key.hasSuffix("_token") {
                try name(token(value, ""), key)
            }
        }
        if let side = config["padding_side"]?.string { padsLeft = side == "left" }
        if config["truncation_side"]?.string == "left" {
            throw CheckpointError("\(files.folder) cuts long texts at their beginning, which cannot be done here")
        }
    }

    private mutating func name(_ token: AddedToken?, _ key: String) {
        guard let token else { return }
        if named.updateValue(token, forKey: key) == nil { furtherAttributes.append(key) }
    }

    /// A token that is only a string: SigLIP's own three also take the white space around them.
    private static func byDefault(_ text: String, _ className: String) -> AddedToken {
        var token = AddedToken(special: text)
        if className == "SiglipTokenizer" { (token.stripsLeft, token.stripsRight) = (true, true) }
        return token
    }

    func text(_ attribute: String) -> String? { named[attribute].map { String(decoding: $0.text, as: UTF8.self) } }

    /// All tokens in the order in which transformers adds them: those with ids, the named ones, the extra ones.
    var all: [AddedToken] {
        var result = decoder
        var texts = Set(decoder.map(\.text))
        for attribute in Self.attributes + furtherAttributes {
            guard let token = named[attribute], texts.insert(token.text).inserted else { continue }
            result.append(token)
        }
        for token in extra ?? [] where texts.insert(token.text).inserted { result.append(token) }
        let special = Set(named.values.map(\.text))
        return result.map { token in
            var token = token
            token.isSpecial = token.isSpecial || special.contains(token.text)
            return token
        }
    }

    mutating func useLeftPadding(_ isLeft: Bool) {
        if config["padding_side"] == nil { padsLeft = isLeft }
    }
}

/// The files of a folder that tokenizers are read from.
struct TokenizerFolderFiles {
    let folder: String
    /// `tokenizer_config.json`; null where there is none.
    let config: JSON
    private let modelConfig: JSON

    init(_ folder: String) throws(CheckpointError) {
        let folder = folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder
        self.folder = folder
        config = try Self.json(folder, "tokenizer_config.json")
        modelConfig = try Self.json(folder, "config.json")
    }

    func json(_ file: String) throws(CheckpointError) -> JSON { try Self.json(folder, file) }

    private static func json(_ folder: String, _ file: String) throws(CheckpointError) -> JSON {
        let path = "\(folder)/\(file)"
        guard MappedFile.exists(path) else { return .null }
        let mapped = try MappedFile(path: path)
        defer { withExtendedLifetime(mapped) {} }
        do throws(CheckpointError) {
            return try JSON(parsing: mapped.bytes)
        } catch {
            throw CheckpointError("\(path) cannot be read: \(error)")
        }
    }

    private func path(_ file: String) -> String? {
        let path = "\(folder)/\(file)"
        return MappedFile.exists(path) ? path : nil
    }

    // MARK: Which class

    /// Takes `tokenizer.json` as it is.
    private static let general = "TokenizersBackend"

    /// The classes of the kinds of models that carry text towers of this engine (`TOKENIZER_MAPPING_NAMES`).
    private static let classOfModel = [
        "clip": "CLIPTokenizer", "clipseg": "CLIPTokenizer", "siglip": "SiglipTokenizer",
        "siglip2": "Siglip2Tokenizer", "xlm-roberta": "XLMRobertaTokenizer", "metaclip_2": "XLMRobertaTokenizer",
        "t5": "T5Tokenizer", "mt5": "T5Tokenizer", "umt5": general, "bert": "BertTokenizer", "align": "BertTokenizer",
        "chinese_clip": "BertTokenizer", "gemma": "GemmaTokenizer", "xlm-roberta-xl": general,
    ]

    /// The class that `AutoTokenizer.from_pretrained` of transformers 5.23 chooses.
    func className() throws(CheckpointError) -> String {
        func withoutFast(_ name: String) -> String { name.hasSuffix("Fast") ? String(name.dropLast(4)) : name }
        let type = modelConfig["model_type"]?.string
        let registered = type.flatMap { Self.classOfModel[$0] }
        let declared = (config["tokenizer_class"]?.string ?? modelConfig["tokenizer_class"]?.string).map(withoutFast)
        var name = declared ?? registered ?? Self.general
        if let declared, let registered, declared != registered {
            // The library does not believe what folders of SigLIP 2 say, nor anything against a general class.
            name = registered == Self.general || type == "siglip2" ? registered : declared
        }
        switch name {
        case "PreTrainedTokenizer", "PythonBackend", Self.general: return Self.general
        case "CLIPTokenizer", "SiglipTokenizer", "Siglip2Tokenizer", "GemmaTokenizer", "XLMRobertaTokenizer",
            "T5Tokenizer",
            "BertTokenizer":
            return name
        default:
            throw CheckpointError(
                "\(folder) names the tokenizer \(quoted(name)), which cannot be read: CLIP's, SigLIP's, Gemma's, "
                    + "XLM-RoBERTa's, T5's and BERT's can, and tokenizer.json where no class is named")
        }
    }

    // MARK: Building

    /// Tokens of `added_tokens.json` and of `tokenizer.json`, where `tokenizer_config.json` has no list of them.
    func legacyTokens(_ values: [(key: String, value: JSON)]) throws(CheckpointError) -> [AddedToken] {
        var tokens: [AddedToken] = []
        if case .object(let members) = try json("added_tokens.json") {
            let special = Set(
                values.flatMap { ($0.value.array ?? [$0.value]).compactMap { $0.string ?? $0["content"]?.string } })
            for member in members {
                guard let id = member.value.integer, (0..<PairTable.mostSymbols).contains(id) else {
                    throw CheckpointError(
                        "\(folder)/added_tokens.json gives \(quoted(member.key)) no id that it can have")
                }
                let isSpecial = special.contains(member.key)
                tokens.append(
                    AddedToken(
                        text: Array(member.key.utf8), id: Int32(id), isNormalized: !isSpecial, isSpecial: isSpecial))
            }
        }
        if let path = path("tokenizer.json") { tokens += try TokenizerFile(contentsOf: path).addedTokens }
        return tokens
    }

    func sigLIP(_ specials: SpecialTokens) throws(CheckpointError) -> SigLIPTokenizer {
        guard let path = path("spiece.model") else { throw lacks("spiece.model") }
        return try SigLIPTokenizer(
            SentencePieceFile(contentsOf: path), added: specials.all, end: specials.text("eos_token") ?? "</s>",
            unknown: specials.text("unk_token") ?? "<unk>", lowercases: config["do_lower_case"]?.bool ?? true)
    }

    private func lacks(_ files: String) -> CheckpointError {
        CheckpointError("\(folder) lacks the files of its tokenizer: it needs \(files)")
    }

    /// A tokenizer of the `tokenizers` library, with all its special tokens.
    func library(
        _ className: String, _ specials: inout SpecialTokens
    ) throws(CheckpointError) -> LibraryTokenizer {
        let file = try path("tokenizer.json").map { path throws(CheckpointError) in try TokenizerFile(contentsOf: path)
        }
        if let file { specials.useLeftPadding(specials.padsLeft || file.padsLeft) }
        if className == Self.general {
            guard let file else { throw lacks("tokenizer.json") }
            var tokenizer = try file.tokenizer()
            tokenizer.add(specials.all)
            return tokenizer
        }
        var tokenizer: LibraryTokenizer
        switch className {
        case "CLIPTokenizer": tokenizer = try clip(file, specials)
        case "BertTokenizer": tokenizer = try bert(file, specials)
        case "XLMRobertaTokenizer": tokenizer = try xlmRoberta(file, &specials)
        case "T5Tokenizer": tokenizer = try t5(file, &specials)
        default: tokenizer = try gemma(file, &specials, lowercases: className == "Siglip2Tokenizer")
        }
        tokenizer.add(specials.all)
        try tokenizer.frame(className, specials, file, folder)
        return tokenizer
    }

    private func unknown(_ specials: SpecialTokens) -> [UInt8] { Array((specials.text("unk_token") ?? "").utf8) }

    private func clip(_ file: TokenizerFile?, _ specials: SpecialTokens) throws(CheckpointError) -> LibraryTokenizer {
        let vocabulary: [(bytes: [UInt8], id: Int32)]
        let merges: [(left: [UInt8], right: [UInt8])]
        if let file {
            (vocabulary, merges) = (file.vocabulary, file.merges)
        } else {
            (vocabulary, merges) = try vocabularyAndMerges()
        }
        let options = BytePairWords.Options(unknown: unknown(specials), suffix: Array("</w>".utf8))
        let words =
            #"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#
        let space = TextPattern.expression(try Expression(#"\s+"#, name: folder))
        return LibraryTokenizer(
            model: .bytePair(try BytePairWords(vocabulary, merges: merges, options, name: folder)),
            normalizer: .sequence([.canonical(composes: true), .replace(space, [0x20]), .lowercase]),
            preTokenizer: .sequence([
                .split(.pattern(.expression(try Expression(words, name: folder)), inverts: true), .removed),
                // Which splits once more: special tokens spelt out in capitals fall apart here.
                .byteLevel(
                    addsPrefixSpace: false,
                    split: .expression(try Expression(PreTokenizer.byteLevelPattern, name: folder))),
            ]))
    }

    /// `vocab.json` and `merges.txt`, whose lines are two tokens each but for one that says the version.
    private func vocabularyAndMerges() throws(CheckpointError) -> (
        [(bytes: [UInt8], id: Int32)], [(left: [UInt8], right: [UInt8])]
    ) {
        guard let vocabularyPath = path("vocab.json"), let mergesPath = path("merges.txt") else {
            throw lacks("tokenizer.json, or vocab.json and merges.txt")
        }
        let vocabularyFile = try MappedFile(path: vocabularyPath)
        let mergeLines = try MappedFile(path: mergesPath).contents
        defer { withExtendedLifetime(vocabularyFile) {} }
        do throws(CheckpointError) {
            var reader = JSONReader(vocabularyFile.bytes)
            let vocabulary = try TokenizerFile.vocabulary(&reader).tokens
            try reader.end()
            var merges: [(left: [UInt8], right: [UInt8])] = []
            for line in Self.lines(mergeLines) where !line.starts(with: "#version".utf8) {
                merges.append(try TokenizerFile.merge(Array(line)))
            }
            return (vocabulary, merges)
        } catch {
            throw CheckpointError("\(vocabularyPath) and merges.txt cannot be read: \(error)")
        }
    }

    /// The lines of a text, which end in a line feed, or in a carriage return and a line feed.
    private static func lines(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
        if lines.last?.isEmpty ?? false { lines.removeLast() }
        return lines.map { $0.last == 0x0D ? $0.dropLast() : $0 }
    }

    private func bert(_ file: TokenizerFile?, _ specials: SpecialTokens) throws(CheckpointError) -> LibraryTokenizer {
        var vocabulary = file?.vocabulary ?? []
        if file == nil {
            guard let path = path("vocab.txt") else { throw lacks("tokenizer.json or vocab.txt") }
            let lines = Self.lines(try MappedFile(path: path).contents)
            guard lines.count <= PairTable.mostSymbols else {
                throw CheckpointError("\(path) has more than \(PairTable.mostSymbols) lines: no vocabulary does")
            }
            for (id, line) in lines.enumerated() {
                guard String(validating: line, as: UTF8.self) != nil else {
                    throw CheckpointError("\(path) is damaged: its line \(id + 1) is not UTF-8")
                }
                var scalars = UTF8Text.scalars(line.span)[...]
                while let last = scalars.last, LibraryTraits(last).contains(.isSpace) { scalars.removeLast() }
                vocabulary.append((UTF8Text.encoded(Array(scalars)), Int32(id)))
            }
        }
        let lowercases = config["do_lower_case"]?.bool ?? true
        return LibraryTokenizer(
            model: .wordPiece(
                try WordPieceWords(
                    vocabulary, unknown: unknown(specials), prefix: Array("##".utf8), longestWord: 100, name: folder)),
            normalizer: .bert(
                BertNormalizer(
                    splitsIdeographs: config["tokenize_chinese_chars"]?.bool ?? true,
                    stripsAccents: config["strip_accents"]?.bool ?? lowercases, lowercases: lowercases)),
            preTokenizer: .bert)
    }

    /// The words of a unigram model between white space, each behind a ▁.
    private func unigram(
        _ vocabulary: [(bytes: [UInt8], score: Double)], unknownID: Int32, _ map: CharacterMap?,
        _ scheme: PreTokenizer.PrependScheme = .always
    ) throws(CheckpointError) -> LibraryTokenizer {
        guard Int(unknownID) < vocabulary.count else {
            throw CheckpointError("\(folder) has a tokenizer of only \(vocabulary.count) pieces: its files are damaged")
        }
        return LibraryTokenizer(
            model: .unigram(UnigramWords(vocabulary, unknownID: unknownID, fallsBackToBytes: false)),
            normalizer: map.map { .mapped($0) },
            preTokenizer: .sequence([
                .split(.character(.isSpace), .removed),
                .metaspace(replacement: Array("\u{2581}".utf8), scheme, splits: true),
            ]))
    }

    private func scored(_ file: TokenizerFile) throws(CheckpointError) -> [(bytes: [UInt8], score: Double)] {
        guard file.scores.count == file.vocabulary.count else {
            throw CheckpointError("\(file.name) holds a vocabulary without scores, and its tokenizer needs them")
        }
        return zip(file.vocabulary, file.scores).map { ($0.bytes, $1) }
    }

    private func sentencePiece(_ names: [String], json: String = "tokenizer.json") throws(CheckpointError)
        -> SentencePieceFile
    {
        for name in names {
            if let path = path(name) { return try SentencePieceFile(contentsOf: path) }
        }
        throw lacks("\(json) or \(names[0])")
    }

    private func map(_ file: SentencePieceFile) throws(CheckpointError) -> CharacterMap? {
        file.characterMap.isEmpty ? nil : try CharacterMap(file.characterMap, name: file.name)
    }

    /// Control and user-defined pieces, which transformers makes special tokens where the folder names none.
    private func closedPieces(_ file: SentencePieceFile) -> [AddedToken] {
        file.pieces.filter { $0.kind == .control || $0.kind == .userDefined }.map { piece in
            AddedToken(text: piece.text, id: 0, isSpecial: piece.kind == .control)
        }
    }

    private func xlmRoberta(
        _ file: TokenizerFile?, _ specials: inout SpecialTokens
    ) throws(CheckpointError) -> LibraryTokenizer {
        let scheme: PreTokenizer.PrependScheme = config["add_prefix_space"]?.bool ?? true ? .always : .never
        if let file { return try unigram(scored(file), unknownID: 3, file.characterMap(), scheme) }
        let model = try sentencePiece(["sentencepiece.bpe.model"])
        // fairseq's order: the first three pieces make room for four, and the mask stands at the end.
        func special(_ attribute: String) -> (bytes: [UInt8], score: Double) {
            (Array((specials.text(attribute) ?? "").utf8), 0)
        }
        var vocabulary = ["bos_token", "pad_token", "eos_token", "unk_token"].map(special)
        vocabulary += model.pieces.dropFirst(3).map { ($0.text, Double($0.score)) }
        vocabulary.append(special("mask_token"))
        if specials.extra == nil { specials.extra = closedPieces(model) }
        return try unigram(vocabulary, unknownID: 3, map(model), scheme)
    }

    private func t5(_ file: TokenizerFile?, _ specials: inout SpecialTokens) throws(CheckpointError) -> LibraryTokenizer
    {
        let count = config["extra_ids"]?.integer ?? 100
        guard (0...10_000).contains(count) else {
            throw CheckpointError("\(folder) wants \(count) extra_ids: expected 0 to 10000")
        }
        let sentinels = (0..<count).map { AddedToken(special: "<extra_id_\($0)>") }
        if let file {
            if specials.extra == nil { specials.extra = sentinels }
            return try unigram(scored(file), unknownID: 2, file.characterMap())
        }
        let model = try sentencePiece(["spiece.model"])
        var vocabulary = model.pieces.map { (bytes: $0.text, score: Double($0.score)) }
        vocabulary += sentinels.reversed().map { ($0.text, 0) }
        if specials.extra == nil { specials.extra = closedPieces(model) + sentinels }
        return try unigram(vocabulary, unknownID: 2, map(model))
    }

    private func gemma(
        _ file: TokenizerFile?, _ specials: inout SpecialTokens, lowercases: Bool
    ) throws(CheckpointError) -> LibraryTokenizer {
        let options = BytePairWords.Options(unknown: unknown(specials), fusesUnknown: true, fallsBackToBytes: true)
        let words: BytePairWords
        if let file {
            words = try BytePairWords(file.vocabulary, merges: file.merges, options, name: file.name)
        } else {
            let model = try sentencePiece(["tokenizer.model"])
            let vocabulary = model.pieces.enumerated().map { (bytes: $1.text, id: Int32($0)) }
            words = try BytePairWords(vocabulary, merges: Self.merges(vocabulary), options, name: model.name)
            if specials.extra == nil { specials.extra = closedPieces(model) }
        }
        let spaces = TextNormalizer.replace(.literal([0x20]), Array("\u{2581}".utf8))
        return LibraryTokenizer(
            model: .bytePair(words), normalizer: lowercases ? .sequence([.lowercase, spaces]) : spaces,
            preTokenizer: .split(.pattern(.literal([0x20]), inverts: false), .mergedWithPrevious))
    }

    /// All ways to put a token together out of two others, in the order of the tokens and of the left halves' lengths:
    /// `generate_merges`, for models whose files have no merges.
    private static func merges(_ vocabulary: [(bytes: [UInt8], id: Int32)]) -> [(left: [UInt8], right: [UInt8])] {
        let trie = PieceTrie(vocabulary)
        var merges: [(left: [UInt8], right: [UInt8])] = []
        for (token, id) in vocabulary where trie.id(of: token) == id {
            for cut in token.indices.dropFirst() where token[cut] & 0xC0 != 0x80 {
                if trie.id(of: token[..<cut]) != nil, trie.id(of: token[cut...]) != nil {
                    merges.append((Array(token[..<cut]), Array(token[cut...])))
                }
            }
        }
        return merges
    }
}

extension LibraryTokenizer {
    /// Sets what stands around every text.
    mutating func frame(
        _ className: String, _ specials: SpecialTokens, _ file: TokenizerFile?, _ folder: String
    ) throws(CheckpointError) {
        func ids(_ attribute: String) throws(CheckpointError) -> [Int32] {
            guard let text = specials.text(attribute), let id = id(of: text) else {
                throw CheckpointError("\(folder) has no \(attribute), which its tokenizer puts beside every text")
            }
            return [id]
        }
        switch className {
        case "CLIPTokenizer", "XLMRobertaTokenizer": (prefix, suffix) = (try ids("bos_token"), try ids("eos_token"))
        case "BertTokenizer": (prefix, suffix) = (try ids("cls_token"), try ids("sep_token"))
        case "T5Tokenizer": suffix = try ids("eos_token")
        default:
            // Gemma's: as tokenizer.json says, and without that file as the flags say.
            if let file, !file.postProcessor.isNull {
                (prefix, suffix) = try file.specials()
            } else if file == nil {
                if specials.config["add_bos_token"]?.bool ?? false { prefix = try ids("bos_token") }
                if specials.config["add_eos_token"]?.bool ?? false { suffix = try ids("eos_token") }
            }
        }
    }
}

extension MappedFile {
    /// A copy of the file's bytes.
    var contents: [UInt8] { withExtendedLifetime(self) { Array(bytes) } }
}
