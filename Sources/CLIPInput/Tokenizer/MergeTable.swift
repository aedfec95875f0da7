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
    /// The symbol that the merge of each rank makes.
    private let mergedSymbols: [Int32]
    /// Open-addressed hash table from pair to rank: `left << 43 | right << 22 | rank`, or `emptySlot`.
    private let slots: [UInt64]
    /// How far the 64-bit hash is shifted to index `slots`.
    private let hashShift: UInt64

    private static let emptySlot = UInt64.max
    private static let rankBits: UInt64 = 22
    private static let symbolBits: UInt64 = 21
    private static let unranked = UInt32.max

    /// - Parameters:
    ///   - symbols: the token id of each byte that does not end a word, 256 of them.
    ///   - endOfWordSymbols: the token id of each byte that ends a word, 256 of them.
    ///   - merges: in order of rank, at most 2²². Of two merges of the same pair the first counts.
    package init(symbols: [Int32], endOfWordSymbols: [Int32], merges: some Collection<Merge>) {
        precondition(symbols.count == 256 && endOfWordSymbols.count == 256, "one symbol for each byte")
        precondition(merges.count < 1 << Self.rankBits, "too many merges for the hash table's slots")
        // At most half full, so that the search for an absent pair, the common case, ends after a step or two.
        let slotBits = UInt64(max(4, UInt.bitWidth - (merges.count * 2).leadingZeroBitCount))
        let shift = 64 - slotBits
        var slots = [UInt64](repeating: Self.emptySlot, count: 1 << slotBits)
        var mergedSymbols = [Int32]()
        mergedSymbols.reserveCapacity(merges.count)
        for (rank, merge) in merges.enumerated() {
            mergedSymbols.append(merge.merged)
            let key = Self.key(merge.left, merge.right)
            var index = Int(Self.hash(key) >> shift)
            while slots[index] != Self.emptySlot, slots[index] >> Self.rankBits != key {
                index = (index + 1) & (slots.count - 1)
            }
            if slots[index] == Self.emptySlot {
                slots[index] = key << Self.rankBits | UInt64(rank)
            }
        }
        self.symbols = symbols
        self.endOfWordSymbols = endOfWordSymbols
        self.mergedSymbols = mergedSymbols
        self.slots = slots
        self.hashShift = shift
    }

    /// The table of OpenAI's CLIP, built into the binary: ids 0...255 are bytes, 256...511 bytes at the end of a word,
    /// and rank r makes 512 + r.
    package static func clip() -> MergeTable {
        let count = clipMergeTableByteCount() / 4
        let bytes = UnsafeRawBufferPointer(start: clipMergeTable(), count: count * 4)
        let symbols = byteSymbols()
        return MergeTable(
            symbols: symbols, endOfWordSymbols: symbols.map { $0 + 256 },
            merges: (0..<count).lazy.map { rank in
                let left = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: rank * 4, as: UInt16.self))
                let right = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: rank * 4 + 2, as: UInt16.self))
                return (Int32(left), Int32(right), Int32(512 + rank))
            })
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

    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << symbolBits | UInt64(UInt32(bitPattern: right))
    }

    /// Fibonacci hashing: the upper bits of the product are well mixed.
    private static func hash(_ key: UInt64) -> UInt64 { key &* 0x9E37_79B9_7F4A_7C15 }

    private func rank(_ left: Int32, _ right: Int32) -> UInt32 {
        let key = Self.key(left, right)
        var index = Int(truncatingIfNeeded: Self.hash(key) >> hashShift)
        while true {
            let slot = slots[index]
            if slot == Self.emptySlot { return Self.unranked }
            if slot >> Self.rankBits == key { return UInt32(truncatingIfNeeded: slot & (1 << Self.rankBits - 1)) }
            index = (index + 1) & (slots.count - 1)
        }
    }

    /// Room that `append` works in, kept from word to word.
    struct Scratch {
        /// The word's symbols so far, and beside each the rank of it and its right neighbour.
        fileprivate var symbols: [Int32] = []
        fileprivate var ranks: [UInt32] = []
    }

    /// Appends the token ids of `word`, the UTF-8 bytes of one word, to `ids`.
    func append(_ word: Span<UInt8>, to ids: inout [Int32], scratch: inout Scratch) {
        guard word.count > 1 else {
            if word.count == 1 { ids.append(endOfWordSymbols[Int(word[0])]) }
            return
        }
        var count = word.count
        scratch.symbols.removeAll(keepingCapacity: true)
        scratch.ranks.removeAll(keepingCapacity: true)
        for index in 0..<count - 1 {
            scratch.symbols.append(symbols[Int(word[index])])
        }
        scratch.symbols.append(endOfWordSymbols[Int(word[count - 1])])
        for index in 0..<count - 1 {
            scratch.ranks.append(rank(scratch.symbols[index], scratch.symbols[index + 1]))
        }
        scratch.ranks.append(Self.unranked)  // the last symbol has no right neighbour

        while count > 1 {
            var lowest = Self.unranked
            for index in 0..<count - 1 { lowest = min(lowest, scratch.ranks[index]) }
            if lowest == Self.unranked { break }
            count = mergeAll(ofRank: lowest, count: count, &scratch)
        }
        ids.append(contentsOf: scratch.symbols[..<count])
    }

    /// Merges every occurrence of one pair, left to right, and returns how many symbols remain.
    private func mergeAll(ofRank lowest: UInt32, count: Int, _ scratch: inout Scratch) -> Int {
        let merged = mergedSymbols[Int(lowest)]
        var read = 0
        var write = 0
        var previousIsNew = false
        while read < count {
            let isMerge = scratch.ranks[read] == lowest
            scratch.symbols[write] = isMerge ? merged : scratch.symbols[read]
            if write > 0, isMerge || previousIsNew {
                scratch.ranks[write - 1] = rank(scratch.symbols[write - 1], scratch.symbols[write])
            }
            // Of a merged symbol this is overwritten as soon as its right neighbour is known.
            scratch.ranks[write] = isMerge ? Self.unranked : scratch.ranks[read]
            previousIsNew = isMerge
            read += isMerge ? 2 : 1
            write += 1
        }
        return write
    }
}
