// Byte-pair encoding of one word: which neighbouring symbols melt into one, and in which order.

import CMergeTable

/// The vocabulary of a byte-level byte-pair encoding: the symbols of single bytes and the ranked merges.
///
/// Symbols are token ids. A word starts as one symbol a byte, the last one taken from `endOfWordSymbols`; the pair of
/// lowest rank is merged wherever it stands, again and again, until no pair has a rank (Sennrich et al. 2016;
/// `SimpleTokenizer.bpe` of OpenAI's CLIP).
package struct MergeTable: Sendable {
    /// Two neighbouring symbols and what they become. All three are token ids below 2²¹.
    package typealias Merge = (left: Int32, right: Int32, merged: Int32)

    /// The symbol of each of the 256 bytes, inside a word and at its end.
    private let symbols: [Int32]
    private let endOfWordSymbols: [Int32]
    private let pairs: PairTable
    /// Words of more bytes are merged by way of a queue.
    private let longWord: Int

    private static let unranked = PairTable.unranked

    /// - Parameters:
    ///   - symbols: the token id of each byte that does not end a word, 256 of them.
    ///   - endOfWordSymbols: the token id of each byte that ends a word, 256 of them.
    ///   - merges: in order of rank, at most 2²². Of two merges of the same pair the first counts.
    ///   - longWord: up to how many bytes a word is merged in passes over it; longer ones with a queue, which takes more
    ///     time for each pair but less than the square of the length in all. The symbols are the same.
    package init(
        symbols: [Int32], endOfWordSymbols: [Int32], merges: some Collection<Merge>, longWord: Int = 128
    ) {
        precondition(symbols.count == 256 && endOfWordSymbols.count == 256, "one symbol for each byte")
        self.symbols = symbols
        self.endOfWordSymbols = endOfWordSymbols
        pairs = PairTable(merges)
        self.longWord = longWord
    }

    /// The table of OpenAI's CLIP, built into the binary: ids 0...255 are bytes, 256...511 bytes at the end of a word,
    /// and rank r makes 512 + r.
    package static func clip(longWord: Int = 128) -> MergeTable {
        let count = clipMergeTableByteCount() / 4
        let bytes = UnsafeRawBufferPointer(start: clipMergeTable(), count: count * 4)
        let symbols = byteSymbols()
        return MergeTable(
            symbols: symbols, endOfWordSymbols: symbols.map { $0 + 256 },
            merges: (0..<count).lazy.map { rank in
                let left = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: rank * 4, as: UInt16.self))
                let right = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: rank * 4 + 2, as: UInt16.self))
                return (Int32(left), Int32(right), Int32(512 + rank))
            }, longWord: longWord)
    }

    /// The id of each byte in CLIP's vocabulary (`bytes_to_unicode`): printable Latin-1 first, then all others.
    private static func byteSymbols() -> [Int32] {
        let printable: [ClosedRange<Int>] = [0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF]
        let isPrintable = (0..<256).map { byte in printable.contains { $0.contains(byte) } }
        var symbols = [Int32](repeating: 0, count: 256)
        for (id, byte) in ((0..<256).filter { isPrintable[$0] } + (0..<256).filter { !isPrintable[$0] }).enumerated() {
            symbols[byte] = Int32(id)
        }
        return symbols
    }

    /// A symbol of a word, and the rank of the pair that it makes with its right neighbour.
    fileprivate struct Piece {
        var symbol: Int32
        var rank: UInt32
    }

    /// Room that `append` works in, for words of up to `capacity` bytes.
    struct Scratch {
        fileprivate var pieces: [Piece]

        init(capacity: Int) {
            pieces = Array(repeating: Piece(symbol: 0, rank: MergeTable.unranked), count: capacity)
        }
    }

    /// Appends the token ids of `word`, the UTF-8 bytes of one word, to `ids`.
    func append(_ word: Span<UInt8>, to ids: inout [Int32], scratch: inout Scratch) {
        guard word.count > 1 else {
            if word.count == 1 { ids.append(endOfWordSymbols[Int(word[0])]) }
            return
        }
        // Each pass below goes over the whole word, and a long one takes many.
        guard word.count <= longWord else { return appendLong(word, to: &ids) }
        var pieces = scratch.pieces.mutableSpan
        var count = word.count
        var lowest = Self.unranked
        pieces[0].symbol = symbols[Int(word[0])]
        for index in 1..<count {
            let isLast = index == count - 1
            pieces[index].symbol = isLast ? endOfWordSymbols[Int(word[index])] : symbols[Int(word[index])]
            pieces[index - 1].rank = pairs.rank(pieces[index - 1].symbol, pieces[index].symbol)
            lowest = min(lowest, pieces[index - 1].rank)
        }
        pieces[count - 1].rank = Self.unranked  // the last symbol has no right neighbour

        while lowest != Self.unranked {
            (count, lowest) = mergeAll(ofRank: lowest, count: count, &pieces)
        }
        for index in 0..<count { ids.append(pieces[index].symbol) }
    }

    /// Merges every occurrence of one pair, left to right. Returns how many symbols remain, and the lowest rank among
    /// their pairs.
    @inline(__always)
    private func mergeAll(
        ofRank rank: UInt32, count: Int, _ pieces: inout MutableSpan<Piece>
    ) -> (count: Int, lowest: UInt32) {
        let merged = pairs.merged(rank)
        var lowest = Self.unranked
        var read = 0
        var write = 0
        var previousIsNew = false
        while read < count {
            let isNew = pieces[read].rank == rank
            // The rank of a new symbol becomes known with its right neighbour.
            pieces[write] = isNew ? Piece(symbol: merged, rank: Self.unranked) : pieces[read]
            if write > 0 {
                if isNew || previousIsNew {
                    pieces[write - 1].rank = pairs.rank(pieces[write - 1].symbol, pieces[write].symbol)
                }
                lowest = min(lowest, pieces[write - 1].rank)
            }
            previousIsNew = isNew
            read += isNew ? 2 : 1
            write += 1
        }
        return (write, lowest)
    }

    // MARK: Long words

    /// A symbol in the linked list of a long word's symbols. The rank is that of its pair with the next one.
    private struct Node {
        var symbol: Int32
        var rank: UInt32
        var previous: Int
        var next: Int
    }

    /// The same as `append`, with the pairs in a queue by rank and position.
    private func appendLong(_ word: Span<UInt8>, to ids: inout [Int32]) {
        let end = word.count
        var nodes = (0..<end).map { index in
            let symbol = index == end - 1 ? endOfWordSymbols[Int(word[index])] : symbols[Int(word[index])]
            return Node(symbol: symbol, rank: Self.unranked, previous: index - 1, next: index + 1)
        }
        var queue = RankQueue()
        /// Finds the rank of the pair that begins at `index`, and queues it if it has one.
        func rankPair(at index: Int) {
            let next = nodes[index].next
            nodes[index].rank = next < end ? pairs.rank(nodes[index].symbol, nodes[next].symbol) : Self.unranked
            if nodes[index].rank != Self.unranked { queue.insert(rank: nodes[index].rank, position: index) }
        }
        for index in 0..<end { rankPair(at: index) }

        while let lowest = queue.lowestRank {
            // All occurrences first, even if a new pair has a lower rank.
            var positions = [Int]()
            while queue.lowestRank == lowest { positions.append(queue.removeFirst()) }
            for index in positions where nodes[index].rank == lowest {
                let removed = nodes[index].next
                nodes[removed].rank = Self.unranked
                nodes[index].symbol = pairs.merged(lowest)
                nodes[index].next = nodes[removed].next
                if nodes[index].next < end { nodes[nodes[index].next].previous = index }
                rankPair(at: index)
                if index > 0 { rankPair(at: nodes[index].previous) }
            }
        }
        var index = 0
        while index < end {
            ids.append(nodes[index].symbol)
            index = nodes[index].next
        }
    }
}
