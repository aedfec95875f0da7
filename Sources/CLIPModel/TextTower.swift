// Sentences into embeddings.
import CLIPCompute

/// A text transformer on a device.
struct TextTower<B: Backend> {
    let configuration: TextConfiguration
    private let tokens: B.Tokens
    private let preNorm: B.Norm?
    private let mask: AttentionMask<B.AttentionBias>
    private let transformer: Transformer<B>
    private let postNorm: B.Norm?
    private let head: Head<B>

    init(_ parameters: TextParameters, _ configuration: TextConfiguration, _ backend: B) throws {
        self.configuration = configuration
        tokens = try preparing(parameters.tokens.stored) { try backend.prepare(parameters.tokens.parameters) }
        preNorm = try parameters.preNorm.map { norm in
            try preparing(norm.stored) { try backend.prepare(norm.parameters) }
        }
        if let bias = parameters.positionBias {
            mask = .bias(try preparing(bias.stored) { try backend.prepareAttentionBias(bias.parameters) })
        } else {
            mask = configuration.isCausal ? .causal : .none
        }
        transformer = try Transformer(
            parameters.blocks, width: configuration.transformer.width, wantsAllRows: configuration.wantsAllRows, backend
        )
        postNorm = try parameters.postNorm.map { norm in
            try preparing(norm.stored) { try backend.prepare(norm.parameters) }
        }
        head = try preparing(parameters.head.stored) { try Head(parameters.head.parameters, backend) }
    }

    /// Whether a row depends on what stands before it alone, and nobody asks for all rows.
    private var sharesRows: Bool {
        if case .causal = mask { !configuration.wantsAllRows } else { false }
    }

    /// `[sentences, outputs]`, within a pass.
    func callAsFunction(
        _ sentences: some Collection<Sentence>, _ backend: B, _ observer: Observer? = nil
    ) throws -> B.Matrix {
        let sequences = Sequences(of: sentences)
        var (ids, positions) = (sentences.flatMap(\.ids), sentences.flatMap(\.positions))
        let shared =
            sharesRows && observer == nil
            ? SharedRows(
                of: sentences, saving: SharedRows.worthwhileShare(on: backend.device.kind)) : nil
        if let shared { (ids, positions) = (shared.origins.map { ids[$0] }, shared.origins.map { positions[$0] }) }
        var x = try backend.tokens(ids, positions: positions, tokens)  // [all tokens, width]
        if let preNorm { try backend.norm(x, preNorm) }
        try observer?.observe("embeddings", &x, columns: configuration.transformer.width, backend)
        var wanted: [Sequences.Segment] = []
        var start = 0
        for sentence in sentences {
            let row = start + sentence.row
            wanted.append(Sequences.Segment(queries: row..<(row + 1), keys: start..<(start + sentence.visible)))
            start += sentence.ids.count
        }
        let pooled = Sequences(segments: wanted, rows: sequences.rows)
        let rows = try transformer(consume x, sequences, mask: mask, shared: shared, pooled: pooled, backend, observer)
        guard configuration.wantsAllRows else { return try head(rows, backend) }
        if configuration.pooling != .mean {
            return try head(backend.selectRows(rows, wanted.map(\.queries.lowerBound)), backend)
        }
        if let postNorm { try backend.norm(rows, postNorm) }
        return try head(backend.meanRows(rows, pooled), backend)
    }
}
