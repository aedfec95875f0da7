// The unigram language model: the likeliest of all ways to cut a text into pieces (Kudo 2018).

/// Pieces with their scores, and the search for the best path through a text (Viterbi).
///
/// sentencepiece and the `tokenizers` library compute the same sums in different precision, and where two paths are
/// equally good the last digits decide; `roundsToFloat` says whose digits.
struct UnigramModel: Sendable {
    private let trie: PieceTrie
    /// By id.
    private let scores: [Double]
    private let unknownScore: Double
    private let unknownID: Int32
    /// Sums in floats, as sentencepiece's `EncodeOptimized` has them; without it, in doubles, as `encode_optimized` of
    /// the `tokenizers` library has them.
    private let roundsToFloat: Bool

    init(trie: PieceTrie, scores: [Double], unknownScore: Double, unknownID: Int32, roundsToFloat: Bool) {
        self.trie = trie
        self.scores = scores
        self.unknownScore = unknownScore
        self.unknownID = unknownID
        self.roundsToFloat = roundsToFloat
    }

    /// A stretch of text, and the piece that it is.
    typealias Cut = (start: Int, end: Int, id: Int32)

    /// The best path that ends at a byte: its score, and its last piece. `start` is -1 where there is no path.
    private struct Step {
        var score = 0.0
        var start: Int32 = -1
        var id: Int32 = -1
    }

    /// The best path through `text` (UTF-8, below 2³¹ bytes), pieces from left to right.
    func path(through text: Span<UInt8>) -> [Cut] {
        let count = text.count
        var steps = [Step](repeating: Step(), count: count + 1)
        func offer(_ end: Int, _ sum: Double, _ start: Int, _ id: Int32) {
            // The sum of two floats is exact enough in a double that rounding it gives the sum in floats.
            let candidate = roundsToFloat ? Double(Float(sum)) : sum
            if steps[end].start == -1 || candidate > steps[end].score {
                steps[end] = Step(score: candidate, start: Int32(start), id: id)
            }
        }
        var start = 0
        while start < count {
            let soFar = steps[start].score
            let length = min(UTF8Text.length(of: text[start]), count - start)
            var hasCharacter = false
            var node = PieceTrie.root
            var end = start
            while end < count {
                node = trie.child(of: node, text[end])
                if node == PieceTrie.none { break }
                end += 1
                let id = trie.id(at: node)
                if id == PieceTrie.none { continue }
                offer(end, scores[Int(id)] + soFar, start, id)
                hasCharacter = hasCharacter || end - start == length
            }
            if !hasCharacter {
                offer(start + length, unknownScore + soFar, start, unknownID)
            }
            start += length
        }
        var cuts: [Cut] = []
        var end = count
        while end > 0, steps[end].start >= 0 {
            cuts.append((Int(steps[end].start), end, steps[end].id))
            end = Int(steps[end].start)
        }
        return cuts.reversed()
    }
}
