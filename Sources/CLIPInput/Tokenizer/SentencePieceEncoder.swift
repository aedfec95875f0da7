// sentencepiece: from a text to pieces, to the piece as the C++ library cuts it.

import Checkpoints

/// A sentencepiece model at work: `SentencePieceProcessor::Encode`.
///
/// Texts are normalised by the model's own table, spaces become ▁ (U+2581), and the result is cut by the likeliest path
/// (unigram) or by merging neighbours, the best score first (byte-pair encoding).
struct SentencePieceEncoder: Sendable {
    /// A stretch of the normalised text, and its id.
    typealias Piece = (text: [UInt8], id: Int32)

    let file: SentencePieceFile
    private let map: CharacterMap?
    /// Pieces that a text may be cut into: normal, user-defined and unused ones.
    private let pieces: PieceTrie
    /// All others: they are found by their names only.
    private let reserved: PieceTrie
    /// Pieces that stand as they are: neither normalised nor merged.
    private let userDefined: PieceTrie
    private let unigram: UnigramModel?
    /// By byte, where bytes stand for what is unknown.
    private let byteIDs: [Int32]

    private static let space = Array("\u{2581}".utf8)

    init(_ file: SentencePieceFile) throws(CheckpointError) {
        self.file = file
        map = file.characterMap.isEmpty ? nil : try CharacterMap(file.characterMap, name: file.name)
        var open: [(bytes: [UInt8], id: Int32)] = []
        var closed: [(bytes: [UInt8], id: Int32)] = []
        var defined: [(bytes: [UInt8], id: Int32)] = []
        for (index, piece) in file.pieces.enumerated() {
            let entry = (bytes: piece.text, id: Int32(index))
            switch piece.kind {
            case .normal, .unused: open.append(entry)
            case .userDefined:
                open.append(entry)
                defined.append(entry)
            case .unknown, .control, .byte: closed.append(entry)
            }
        }
        pieces = PieceTrie(open)
        let reserved = PieceTrie(closed)
        self.reserved = reserved
        userDefined = PieceTrie(defined)
        byteIDs =
            file.fallsBackToBytes
            ? (0...255).map { reserved.id(of: SentencePieceFile.text(ofByte: $0)) ?? file.unknownID } : []
        switch file.kind {
        case .unigram:
            var lowest = Float.greatestFiniteMagnitude
            var highest = Float.leastNormalMagnitude
            for piece in file.pieces where piece.kind == .normal {
                lowest = min(lowest, piece.score)
                highest = max(highest, piece.score)
            }
            // A user-defined piece gets a score that makes it win.
            let scores = file.pieces.map { piece in
                let score = piece.kind == .userDefined ? Float(piece.text.count) * highest - 0.1 : piece.score
                return Double(score)
            }
            let used = open.filter { file.pieces[Int($0.id)].kind != .unused }
            unigram = UnigramModel(
                trie: PieceTrie(used), scores: scores, unknownScore: Double(lowest - 10), unknownID: file.unknownID,
                roundsToFloat: true)
        case .bytePair: unigram = nil
        case .word, .character:
            throw CheckpointError(
                "\(file.name) is a sentencepiece model of whole \(file.kind == .word ? "words" : "characters"): only "
                    + "unigram and byte-pair models can be read")
        }
    }

    // MARK: Encoding

    /// The pieces of a text, as `encode(text, out_type=str)` gives them, with their ids.
    func encode(_ text: [UInt8]) -> [Piece] {
        let normalized = normalized(text.span)
        let cuts = unigram?.path(through: normalized.span) ?? bytePairs(normalized.span)
        var result: [Piece] = []
        result.reserveCapacity(cuts.count)
        var followsUnknown = false
        for (start, end, id) in cuts {
            let isUnknown = id == file.unknownID
            if isUnknown, file.fallsBackToBytes {
                for byte in normalized[start..<end] {
                    result.append((SentencePieceFile.text(ofByte: byte), byteIDs[Int(byte)]))
                }
            } else if isUnknown, followsUnknown {
                result[result.count - 1].text += normalized[start..<end]
            } else {
                result.append((Array(normalized[start..<end]), id))
            }
            followsUnknown = isUnknown
        }
        return result
    }

    /// The id of a piece by its text: `PieceToId`.
    func id(of piece: some Sequence<UInt8>) -> Int32 { reserved.id(of: piece) ?? pieces.id(of: piece) ?? file.unknownID }

    // MARK: Normalising

    /// `Normalizer::Normalize`, without the places of the original.
    func normalized(_ text: Span<UInt8>) -> [UInt8] {
        var position = 0
        if file.removesExtraWhitespace {
            while position < text.count {
                let (part, length) = prefix(text, at: position)
                guard part.elementsEqual(CollectionOfOne(0x20)) else { break }
                position += length
            }
        }
        guard position < text.count else { return [] }

        let space = file.escapesWhitespace ? Self.space : [0x20]
        var result: [UInt8] = []
        result.reserveCapacity(text.count * 2)
        if file.addsDummyPrefix, !file.putsWhitespaceBehind { result += space }
        var followsSpace = file.removesExtraWhitespace
        while position < text.count {
            var (part, length) = prefix(text, at: position)
            position += length
            if followsSpace { part = part.drop { $0 == 0x20 } }
            if let last = part.last {
                for byte in part {
                    if byte == 0x20 { result += space } else { result.append(byte) }
                }
                followsSpace = last == 0x20
            }
            followsSpace = followsSpace && file.removesExtraWhitespace
        }
        if file.removesExtraWhitespace {
            while result.count >= space.count, result[(result.count - space.count)...].elementsEqual(space) {
                result.removeLast(space.count)
            }
        }
        if file.addsDummyPrefix, file.putsWhitespaceBehind { result += space }
        return result
    }

    /// What the text's beginning becomes, and how many bytes that is: a user-defined piece, the longest key of the
    /// table, or one character.
    private func prefix(_ text: Span<UInt8>, at position: Int) -> (ArraySlice<UInt8>, Int) {
        var end = position + min(UTF8Text.length(of: text[position]), text.count - position)
        if let match = userDefined.longestMatch(in: text, at: position) {
            end = match.end
        } else if let map, let match = map.longestMatch(in: text, position..<text.count) {
            return (map.replacement(match), match.length)
        }
        return ((position..<end).map { text[$0] }[...], end - position)
    }

    // MARK: Byte-pair encoding

    /// `bpe::Model::Encode`: neighbours become one where their text is a piece, the best score first and of one score the
    /// leftmost.
    private func bytePairs(_ text: Span<UInt8>) -> [UnigramModel.Cut] {
        struct Symbol {
            var start: Int
            /// Equal to `start` once the symbol has been merged away.
            var end: Int
            var previous: Int
            var next: Int
            var isFrozen: Bool
        }
        var symbols: [Symbol] = []
        var position = 0
        while position < text.count {
            let match = userDefined.longestMatch(in: text, at: position)
            let end = match?.end ?? position + min(UTF8Text.length(of: text[position]), text.count - position)
            symbols.append(
                Symbol(
                    start: position, end: end, previous: symbols.count - 1,
                    next: end < text.count ? symbols.count + 1 : -1, isFrozen: match != nil))
            position = end
        }

        var queue = MergeQueue()
        /// How an unused piece came about: the length of its left half. Such pieces are taken apart again.
        var halves: [Int32: Int] = [:]
        func offer(_ left: Int, _ right: Int) {
            guard left >= 0, right >= 0, !symbols[left].isFrozen, !symbols[right].isFrozen else { return }
            let id = pieces.id(of: text, symbols[left].start..<symbols[right].end)
            guard id != PieceTrie.none else { return }
            let piece = file.pieces[Int(id)]
            queue.insert(
                MergeQueue.Entry(
                    score: piece.score, left: left, right: right, size: symbols[right].end - symbols[left].start))
            if piece.kind == .unused { halves[id] = symbols[left].end - symbols[left].start }
        }
        for index in symbols.indices.dropFirst() { offer(index - 1, index) }
        while let best = queue.removeFirst() {
            let (left, right) = (symbols[best.left], symbols[best.right])
            guard left.end > left.start, right.end > right.start,
                left.end - left.start + right.end - right.start == best.size
            else { continue }
            symbols[best.left].end = right.end
            symbols[best.left].next = right.next
            if right.next >= 0 { symbols[right.next].previous = best.left }
            symbols[best.right].end = right.start
            offer(left.previous, best.left)
            offer(best.left, right.next)
        }

        var cuts: [UnigramModel.Cut] = []
        var index = symbols.isEmpty ? -1 : 0
        while index >= 0 {
            // Halves from right to left, so that the leftmost is taken first.
            var waiting = [symbols[index].start..<symbols[index].end]
            while let range = waiting.popLast() {
                let known = pieces.id(of: text, range)
                let id = known == PieceTrie.none ? file.unknownID : known
                if file.pieces[Int(id)].kind == .unused, let half = halves[id], half > 0, half < range.count {
                    waiting.append(range.lowerBound + half..<range.upperBound)
                    waiting.append(range.lowerBound..<range.lowerBound + half)
                } else {
                    cuts.append((range.lowerBound, range.upperBound, id))
                }
            }
            index = symbols[index].next
        }
        return cuts
    }

    /// Pairs that could be merged, in a binary heap: the best score first, and of one score the leftmost.
    private struct MergeQueue {
        struct Entry {
            var score: Float
            var left: Int
            var right: Int
            /// Bytes of both symbols: another number says that one of them has grown since.
            var size: Int

            func precedes(_ other: Entry) -> Bool {
                score > other.score || score == other.score && left < other.left
            }
        }

        private var heap: [Entry] = []

        mutating func insert(_ entry: Entry) {
            heap.append(entry)
            var child = heap.count - 1
            while child > 0, heap[child].precedes(heap[(child - 1) / 2]) {
                heap.swapAt(child, (child - 1) / 2)
                child = (child - 1) / 2
            }
        }

        mutating func removeFirst() -> Entry? {
            guard !heap.isEmpty else { return nil }
            heap.swapAt(0, heap.count - 1)
            let first = heap.removeLast()
            var parent = 0
            while true {
                let left = 2 * parent + 1
                guard left < heap.count else { break }
                let child = left + 1 < heap.count && heap[left + 1].precedes(heap[left]) ? left + 1 : left
                guard heap[child].precedes(heap[parent]) else { break }
                heap.swapAt(parent, child)
                parent = child
            }
            return first
        }
    }
}
