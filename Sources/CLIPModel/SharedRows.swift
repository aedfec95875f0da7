// What the sentences of a batch have in common: under a causal mask a row depends on the tokens up to its own alone, so
// what several sentences begin with is computed once. Exact, to the last bit.
import CLIPCompute

/// The rows of sentences one after the other, as fewer rows that are computed.
struct SharedRows {
    /// For each row of the sentences, the computed row.
    private(set) var places: [Int]
    /// For each computed row, one that it stands for.
    private(set) var origins: [Int] = []

    /// For sentences under a causal mask; none where less than this share of the rows is saved.
    init?(of sentences: some Collection<Sentence>, saving least: Double) {
        if sentences.count < 2 { return nil }
        let sentences = Array(sentences)
        var starts: [Int] = []
        var rows = 0
        for sentence in sentences {
            starts.append(rows)
            rows += sentence.ids.count
        }
        places = [Int](repeating: 0, count: rows)
        origins.reserveCapacity(rows)
        // In the order of a dictionary, a sentence has no more in common with any other before it than with its neighbour.
        var previous: Int?
        for index in sentences.indices.sorted(by: {
            sentences[$0].ids.lexicographicallyPrecedes(sentences[$1].ids)
        }) {
            let sentence = sentences[index]
            var row = 0
            if let previous {
                // Rows that the others do not see may see less themselves (`Sentence.visible`).
                let other = sentences[previous]
                let most = min(sentence.visible, other.visible)
                while row < most, sentence.ids[row] == other.ids[row], sentence.positions[row] == other.positions[row] {
                    places[starts[index] + row] = places[starts[previous] + row]
                    row += 1
                }
            }
            for row in row..<sentence.ids.count {
                places[starts[index] + row] = origins.count
                origins.append(starts[index] + row)
            }
            previous = index
        }
        if Double(rows - origins.count) < least * Double(rows) { return nil }
    }

    /// What must be saved to outweigh that rows are spread out for the attention and gathered behind it, which costs memory
    /// traffic: little beside a processor's products (15 % fewer rows made captions 1.16 times as fast), but about a fourth of a
    /// GPU's, at 512 columns (reckoned from an H200's rates, not measured).
    static func worthwhileShare(on kind: DeviceInfo.Kind) -> Double { kind == .cpu ? 1.0 / 16 : 1.0 / 4 }
}
