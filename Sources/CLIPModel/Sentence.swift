// Which tokens of a sentence are computed with, and what they see of each other.
import CLIPCompute

/// The rows that a sentence becomes.
struct Sentence: Hashable {
    /// Rows of the token table.
    var ids: [Int32]
    /// Rows of the position table.
    var positions: [Int32]
    /// How many rows, from the first on, the others see: all, or all but a class token at the end.
    var visible: Int
    /// The row that stands for the sentence, where one does.
    var row: Int
}

extension TextConfiguration {
    /// The rows of token ids, which may be padded or not. Rows that nothing sees are left out, and so are rows whose
    /// result nobody sees: what stands behind the pooled row under a causal mask.
    func sentence(_ ids: [Int32], name: String) throws(ModelError) -> Sentence {
        guard !ids.isEmpty else {
            throw ModelError("\(name) has no tokens; even an empty sentence has its start and its end")
        }
        guard ids.count <= contextLength else {
            throw ModelError(
                "\(name) has \(ids.count) tokens, more than the model's context of \(contextLength)")
        }
        let sentence =
            if pooling == .classToken {
                withClassToken(ids)
            } else if hidesPadding {
                try withoutPadding(ids, name: name)
            } else {
                upToPooledRow(ids)
            }
        let tokens = pooling == .classToken ? sentence.ids.dropLast() : sentence.ids[...]
        if let bad = tokens.first(where: { $0 < 0 || Int($0) >= vocabularySize }) {
            throw ModelError(
                "\(name) holds the token \(bad), outside the model's vocabulary of \(vocabularySize)")
        }
        return sentence
    }

    /// Whether the model takes these ids, which may be padded or not.
    package func check(_ ids: [Int32], name: String) throws(ModelError) { _ = try sentence(ids, name: name) }

    /// Whether all rows are wanted of the last block, not only each sentence's own: for a mean, and with summands of
    /// the scores, which attention of a single row does not take.
    var wantsAllRows: Bool {
        if case .relative = positions { true } else { pooling == .mean }
    }

    /// CLIP's: cut after the row that stands for the sentence, since under the causal mask nothing after it can reach
    /// it; or, where the model reads what follows, filled up to the context length.
    private func upToPooledRow(_ ids: [Int32]) -> Sentence {
        let missing = readsPadding ? contextLength - ids.count : 0
        let filled = missing > 0 ? ids + [Int32](repeating: paddingID, count: missing) : ids
        let row = pooling.row(of: filled) ?? 0
        let kept = readsPadding ? filled : Array(filled.prefix(row + 1))
        return Sentence(ids: kept, positions: (0..<kept.count).map(Int32.init), visible: kept.count, row: row)
    }

    /// XLM-RoBERTa's and T5's: padding is not seen, and XLM-RoBERTa's positions do not count it either.
    private func withoutPadding(_ ids: [Int32], name: String) throws(ModelError) -> Sentence {
        let kept = ids.filter { $0 != paddingID }
        guard !kept.isEmpty else { throw ModelError("\(name) is nothing but padding") }
        var first = 0
        switch positions {
        case .learned(let place): first = place
        case .relative:
            guard ids.prefix(kept.count).allSatisfy({ $0 != paddingID }) else {
                throw ModelError(
                    "\(name) holds the padding token \(paddingID) before its end, where distances between tokens "
                        + "cannot be told")
            }
        }
        return Sentence(
            ids: kept, positions: (0..<kept.count).map { Int32(first + $0) }, visible: kept.count,
            row: pooling.row(of: kept) ?? 0)
    }

    /// CoCa's: behind the whole context stands a class token. open_clip hides padding by a mask that is one place off
    /// (`_build_additive_mask`, which trained weights depend on): the first place is always seen, each later one where
    /// the token before it is no padding, and the class token sees itself only in a sentence that fills the context.
    private func withClassToken(_ ids: [Int32]) -> Sentence {
        let filled = ids + [Int32](repeating: paddingID, count: contextLength - ids.count)
        let places = filled.indices.filter { $0 == 0 || filled[$0 - 1] != paddingID }
        let seesItself = filled[contextLength - 1] != paddingID
        return Sentence(
            ids: places.map { filled[$0] } + [Int32(vocabularySize)],
            positions: places.map(Int32.init) + [Int32(contextLength)],
            visible: places.count + (seesItself ? 1 : 0), row: places.count)
    }
}

extension Sequences {
    /// A sentence is one segment; or two, where its last row is not seen.
    init(of sentences: some Collection<Sentence>) {
        var segments: [Segment] = []
        segments.reserveCapacity(sentences.count)
        var start = 0
        for sentence in sentences {
            let (visible, end) = (start + sentence.visible, start + sentence.ids.count)
            segments.append(Segment(queries: start..<visible, keys: start..<visible))
            if visible < end { segments.append(Segment(queries: visible..<end, keys: start..<visible)) }
            start = end
        }
        self.init(segments: segments, rows: start)
    }
}
