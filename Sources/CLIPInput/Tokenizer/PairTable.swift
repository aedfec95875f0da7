// Which pairs of symbols melt into one, and in which order: the rules of every byte-pair encoding.

/// Ranked pairs of symbols and what they become. Symbols are token ids below 2²¹; there are at most 2²² merges.
struct PairTable: Sendable {
    /// The symbol that the merge of each rank makes.
    private let mergedSymbols: [Int32]
    /// Open-addressed hash table from pair to rank: `left << 43 | right << 22 | rank`, or `emptySlot`.
    private let slots: [UInt64]
    /// How far the 64-bit hash is shifted to index `slots`.
    private let hashShift: UInt64

    /// The rank of a pair that has none.
    static let unranked = UInt32.max
    static let mostMerges = 1 << Int(rankBits)
    static let mostSymbols = 1 << Int(symbolBits)

    private static let emptySlot = UInt64.max
    private static let rankBits: UInt64 = 22
    private static let symbolBits: UInt64 = 21

    /// - Parameters:
    ///   - merges: in order of rank.
    ///   - lastCounts: of two merges of the same pair the last counts, not the first.
    init(_ merges: some Collection<MergeTable.Merge>, lastCounts: Bool = false) {
        precondition(merges.count <= Self.mostMerges, "too many merges for the hash table's slots")
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
            if slots[index] == Self.emptySlot || lastCounts {
                slots[index] = key << Self.rankBits | UInt64(rank)
            }
        }
        self.mergedSymbols = mergedSymbols
        self.slots = slots
        self.hashShift = shift
    }

    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << symbolBits | UInt64(UInt32(bitPattern: right))
    }

    /// Fibonacci hashing: the upper bits of the product are well mixed.
    private static func hash(_ key: UInt64) -> UInt64 { key &* 0x9E37_79B9_7F4A_7C15 }

    @inline(__always)
    func rank(_ left: Int32, _ right: Int32) -> UInt32 {
        let key = Self.key(left, right)
        var index = Int(truncatingIfNeeded: Self.hash(key) >> hashShift)
        while true {
            let slot = slots[index]
            if slot == Self.emptySlot { return Self.unranked }
            if slot >> Self.rankBits == key { return UInt32(truncatingIfNeeded: slot & (1 << Self.rankBits - 1)) }
            index = (index + 1) & (slots.count - 1)
        }
    }

    /// What the merge of a rank makes.
    @inline(__always)
    func merged(_ rank: UInt32) -> Int32 { mergedSymbols[Int(rank)] }

    // MARK: One merge at a time

    /// Merges neighbours until no pair has a rank, always the leftmost pair of the lowest rank, one pair at a time, as the
    /// `tokenizers` library does it.
    func merge(_ symbols: inout [Int32]) {
        guard symbols.count > 1 else { return }
        // Each merge looks at all ranks; with many symbols a queue takes less.
        if symbols.count > 160 { return mergeMany(&symbols) }
        var ranks = (1..<symbols.count).map { rank(symbols[$0 - 1], symbols[$0]) }
        while true {
            var lowest = Self.unranked
            for rank in ranks { lowest = min(lowest, rank) }
            guard lowest != Self.unranked, let index = ranks.firstIndex(of: lowest) else { return }
            symbols[index] = merged(lowest)
            symbols.remove(at: index + 1)
            ranks.remove(at: index)
            if index < ranks.count { ranks[index] = rank(symbols[index], symbols[index + 1]) }
            if index > 0 { ranks[index - 1] = rank(symbols[index - 1], symbols[index]) }
        }
    }

    private func mergeMany(_ symbols: inout [Int32]) {
        let end = symbols.count
        var ranks = [UInt32](repeating: Self.unranked, count: end)
        var previous = Array(-1..<end - 1)
        var next = Array(1...end)
        var queue = RankQueue()
        func rankPair(at index: Int) {
            ranks[index] = next[index] < end ? rank(symbols[index], symbols[next[index]]) : Self.unranked
            if ranks[index] != Self.unranked { queue.insert(rank: ranks[index], position: index) }
        }
        for index in 0..<end { rankPair(at: index) }
        while let lowest = queue.lowestRank {
            let index = queue.removeFirst()
            guard ranks[index] == lowest else { continue }
            let removed = next[index]
            ranks[removed] = Self.unranked
            symbols[index] = merged(lowest)
            next[index] = next[removed]
            if next[index] < end { previous[next[index]] = index }
            rankPair(at: index)
            if previous[index] >= 0 { rankPair(at: previous[index]) }
        }
        var kept = 0
        var index = 0
        while index < end {
            symbols[kept] = symbols[index]
            kept += 1
            index = next[index]
        }
        symbols.removeLast(end - kept)
    }
}

/// A binary heap of positions, the lowest rank first and of one rank the leftmost.
struct RankQueue {
    /// `rank << 32 | position`
    private var heap: [UInt64] = []

    var lowestRank: UInt32? { heap.first.map { UInt32($0 >> 32) } }

    mutating func insert(rank: UInt32, position: Int) {
        heap.append(UInt64(rank) << 32 | UInt64(position))
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeFirst() -> Int {
        heap.swapAt(0, heap.count - 1)
        let first = heap.removeLast()
        var parent = 0
        while true {
            let left = 2 * parent + 1
            guard left < heap.count else { break }
            let child = left + 1 < heap.count && heap[left + 1] < heap[left] ? left + 1 : left
            if heap[parent] < heap[child] { break }
            heap.swapAt(parent, child)
            parent = child
        }
        return Int(first & 0xFFFF_FFFF)
    }
}
