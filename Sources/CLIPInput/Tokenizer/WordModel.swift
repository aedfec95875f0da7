// From words to ids: the models of the `tokenizers` library.

import Checkpoints

/// A vocabulary and the rule by which words are cut into it.
enum WordModel: Sendable {
    case unigram(UnigramWords)
    case bytePair(BytePairWords)
    case wordPiece(WordPieceWords)

    /// Appends the ids of one word.
    func append(_ word: Span<UInt8>, to ids: inout [Int32]) {
        switch self {
        case .unigram(let model): model.append(word, to: &ids)
        case .bytePair(let model): model.append(word, to: &ids)
        case .wordPiece(let model): model.append(word, to: &ids)
        }
    }

    func id(of token: [UInt8]) -> Int32? { trie.id(of: token) }

    /// How many tokens there are: what an added token's id begins with.
    var tokenCount: Int {
        if case .unigram(let model) = self { model.tokenCount } else { trie.count }
    }

    private var trie: PieceTrie {
        switch self {
        case .unigram(let model): model.trie
        case .bytePair(let model): model.trie
        case .wordPiece(let model): model.trie
        }
    }
}

/// `Unigram`: the likeliest cut; unknown characters side by side are one token.
struct UnigramWords: Sendable {
    let trie: PieceTrie
    private let model: UnigramModel
    private let unknownID: Int32
    /// By byte, where all 256 bytes may stand for what is unknown; else -1.
    private let byteIDs: [Int32]?
    /// Equal tokens counted each.
    let tokenCount: Int

    init(_ vocabulary: [(bytes: [UInt8], score: Double)], unknownID: Int32, fallsBackToBytes: Bool) {
        let trie = PieceTrie(vocabulary.enumerated().map { ($0.element.bytes, Int32($0.offset)) })
        self.trie = trie
        tokenCount = vocabulary.count
        let lowest = vocabulary.reduce(Double.infinity) { min($0, $1.score) }
        model = UnigramModel(
            trie: trie, scores: vocabulary.map(\.score), unknownScore: lowest - 10, unknownID: unknownID,
            roundsToFloat: false)
        self.unknownID = unknownID
        byteIDs =
            fallsBackToBytes
            ? (0...255).map { trie.id(of: SentencePieceFile.text(ofByte: $0)) ?? PieceTrie.none } : nil
    }

    func append(_ word: Span<UInt8>, to ids: inout [Int32]) {
        var unknown: Range<Int>?
        for cut in model.path(through: word) {
            if cut.id == unknownID {
                unknown = (unknown?.lowerBound ?? cut.start)..<cut.end
                continue
            }
            if let range = unknown { appendUnknown(word, range, to: &ids) }
            unknown = nil
            ids.append(cut.id)
        }
        if let unknown { appendUnknown(word, unknown, to: &ids) }
    }

    private func appendUnknown(_ word: Span<UInt8>, _ range: Range<Int>, to ids: inout [Int32]) {
        let whole = trie.id(of: word, range)
        if whole != PieceTrie.none {
            ids.append(whole)
        } else if let byteIDs, range.allSatisfy({ byteIDs[Int(word[$0])] != PieceTrie.none }) {
            for index in range { ids.append(byteIDs[Int(word[index])]) }
        } else {
            ids.append(unknownID)
        }
    }
}

/// `BPE`: characters, merged pair by pair.
struct BytePairWords: Sendable {
    let trie: PieceTrie
    private let pairs: PairTable
    private let unknownID: Int32?
    /// Unknown characters side by side are one token.
    private let fusesUnknown: Bool
    private let byteIDs: [Int32]?
    /// Words of the vocabulary are taken whole.
    private let ignoresMerges: Bool
    private let prefix: [UInt8]
    private let suffix: [UInt8]
    /// Ids of the characters below U+0200, in the middle of a word: all that ByteLevel makes are among them.
    private let lowIDs: [Int32]
    private let lowSuffixIDs: [Int32]

    struct Options: Sendable {
        var unknown: [UInt8]?
        var fusesUnknown = false
        var fallsBackToBytes = false
        var ignoresMerges = false
        /// What stands before characters other than a word's first.
        var prefix: [UInt8] = []
        /// What stands behind a word's last character.
        var suffix: [UInt8] = []
    }

    /// - Parameters:
    ///   - vocabulary: tokens with their ids, below `PairTable.mostSymbols`.
    ///   - merges: pairs of tokens in order of rank.
    init(
        _ vocabulary: [(bytes: [UInt8], id: Int32)], merges: [(left: [UInt8], right: [UInt8])], _ options: Options,
        name: String
    ) throws(CheckpointError) {
        let trie = PieceTrie(vocabulary)
        guard merges.count <= PairTable.mostMerges else {
            throw CheckpointError("\(name) has more than \(PairTable.mostMerges) merges: no tokenizer of this kind does")
        }
        func id(of token: [UInt8]) throws(CheckpointError) -> Int32 {
            guard let id = trie.id(of: token) else {
                throw CheckpointError(
                    "\(name) is damaged: the token \(quoted(String(decoding: token, as: UTF8.self))) of a merge or of "
                        + "what is unknown is not in the vocabulary")
            }
            return id
        }
        var ranked: [MergeTable.Merge] = []
        ranked.reserveCapacity(merges.count)
        for (left, right) in merges {
            let merged = left + right.dropFirst(options.prefix.count)
            ranked.append((try id(of: left), try id(of: right), try id(of: merged)))
        }
        self.trie = trie
        pairs = PairTable(ranked, lastCounts: true)
        unknownID = try options.unknown.map { text throws(CheckpointError) in try id(of: text) }
        fusesUnknown = options.fusesUnknown
        ignoresMerges = options.ignoresMerges
        byteIDs =
            options.fallsBackToBytes
            ? (0...255).map { trie.id(of: SentencePieceFile.text(ofByte: $0)) ?? PieceTrie.none } : nil
        (prefix, suffix) = (options.prefix, options.suffix)
        let low = (0..<0x200).map { UTF8Text.encoded([$0]) }
        lowIDs = low.map { trie.id(of: $0) ?? PieceTrie.none }
        lowSuffixIDs = low.map { trie.id(of: $0 + options.suffix) ?? PieceTrie.none }
    }

    func append(_ word: Span<UInt8>, to ids: inout [Int32]) {
        if ignoresMerges {
            let whole = trie.id(of: word, 0..<word.count)
            if whole != PieceTrie.none { return ids.append(whole) }
        }
        var symbols: [Int32] = []
        symbols.reserveCapacity(word.count)
        /// An unknown token that has not been written yet: what comes next may melt into it.
        var unknown: Int32?
        var position = 0
        while position < word.count {
            let (scalar, length) = UTF8Text.scalar(word, at: position)
            let end = position + length
            let id = id(of: scalar, word, position..<end)
            if id != PieceTrie.none {
                if let unknown { symbols.append(unknown) }
                unknown = nil
                symbols.append(id)
            } else if let bytes = byteIDs.flatMap({ fallback($0, word, position..<end) }) {
                symbols += bytes
            } else if let unknownID {
                if let unknown, !fusesUnknown { symbols.append(unknown) }
                unknown = unknownID
            }
            position = end
        }
        if let unknown { symbols.append(unknown) }
        pairs.merge(&symbols)
        ids += symbols
    }

    @inline(__always)
    private func id(of scalar: UInt32, _ word: Span<UInt8>, _ range: Range<Int>) -> Int32 {
        let isLast = range.upperBound == word.count && !suffix.isEmpty
        let isPrefixed = range.lowerBound > 0 && !prefix.isEmpty
        if !isPrefixed, scalar < 0x200 { return isLast ? lowSuffixIDs[Int(scalar)] : lowIDs[Int(scalar)] }
        if !isPrefixed, !isLast { return trie.id(of: word, range) }
        let text = (isPrefixed ? prefix : []) + range.map { word[$0] } + (isLast ? suffix : [])
        return trie.id(of: text) ?? PieceTrie.none
    }

    /// The bytes of a character, and of what is put around it, where the vocabulary has them all.
    private func fallback(_ byteIDs: [Int32], _ word: Span<UInt8>, _ range: Range<Int>) -> [Int32]? {
        var text = range.map { word[$0] }
        if range.lowerBound > 0 { text = prefix + text }
        if range.upperBound == word.count { text += suffix }
        let ids = text.map { byteIDs[Int($0)] }
        return ids.contains(PieceTrie.none) ? nil : ids
    }
}

/// `WordPiece`: the longest token that a word begins with, and so on; a word that cannot be cut so is unknown.
struct WordPieceWords: Sendable {
    let trie: PieceTrie
    private let unknownID: Int32
    /// Where tokens that continue a word begin.
    private let continuation: PieceTrie.Node
    /// Words of more characters are unknown.
    private let longestWord: Int

    init(
        _ vocabulary: [(bytes: [UInt8], id: Int32)], unknown: [UInt8], prefix: [UInt8], longestWord: Int, name: String
    ) throws(CheckpointError) {
        trie = PieceTrie(vocabulary)
        guard let unknownID = trie.id(of: unknown) else {
            throw CheckpointError(
                "\(name) lacks the token \(quoted(String(decoding: unknown, as: UTF8.self))), which it names for what is "
                    + "unknown")
        }
        self.unknownID = unknownID
        continuation = trie.node(of: prefix)
        self.longestWord = longestWord
    }

    func append(_ word: Span<UInt8>, to ids: inout [Int32]) {
        if word.count > longestWord {
            var characters = 0
            for index in word.indices where word[index] & 0xC0 != 0x80 { characters += 1 }
            if characters > longestWord { return ids.append(unknownID) }
        }
        let known = ids.count
        var start = 0
        while start < word.count {
            var node = start == 0 ? PieceTrie.root : continuation
            var best: (end: Int, id: Int32)?
            var end = start
            while end < word.count, node != PieceTrie.none {
                node = trie.child(of: node, word[end])
                end += 1
                if node != PieceTrie.none, trie.id(at: node) != PieceTrie.none { best = (end, trie.id(at: node)) }
            }
            guard let best else {
                ids.removeLast(ids.count - known)
                return ids.append(unknownID)
            }
            ids.append(best.id)
            start = best.end
        }
    }
}
