// Sentences into embeddings.
import CLIPCompute

/// CLIP's text transformer on a device.
struct TextTower<B: Backend> {
    let configuration: TextConfiguration
    private let tokens: B.Tokens
    private let transformer: Transformer<B>
    private let finalNorm: B.Norm?
    private let projection: B.Linear?

    init(_ parameters: TextParameters, _ configuration: TextConfiguration, _ backend: B) throws {
        self.configuration = configuration
        tokens = try preparing(parameters.tokens.stored) { try backend.prepare(parameters.tokens.parameters) }
        transformer = try Transformer(parameters.blocks, width: configuration.transformer.width, backend)
        finalNorm = try parameters.finalNorm.map { norm in
            try preparing(norm.stored) { try backend.prepare(norm.parameters) }
        }
        projection = try parameters.projection.map { projection in
            try preparing(projection.stored) { try backend.prepare(projection.parameters) }
        }
    }

    /// A sentence cut after the row that stands for it, since under the causal mask nothing after it can reach it; or,
    /// where the model reads what follows, filled up to the context length.
    func sentence(_ ids: [Int32], index: Int) throws(ModelError) -> Sentence {
        guard !ids.isEmpty else {
            throw ModelError("text \(index) has no tokens; even an empty sentence has its start and its end")
        }
        guard ids.count <= configuration.contextLength else {
            throw ModelError(
                "text \(index) has \(ids.count) tokens, more than the model's context of \(configuration.contextLength)"
            )
        }
        let missing = configuration.readsPadding ? configuration.contextLength - ids.count : 0
        let filled = missing > 0 ? ids + [Int32](repeating: configuration.paddingID, count: missing) : ids
        let row = configuration.pooling.row(of: filled) ?? 0
        let kept = configuration.readsPadding ? filled[...] : filled.prefix(row + 1)
        if let bad = kept.first(where: { $0 < 0 || Int($0) >= configuration.vocabularySize }) {
            throw ModelError(
                "text \(index) holds the token \(bad), outside the model's vocabulary of \(configuration.vocabularySize)"
            )
        }
        return Sentence(ids: kept, row: row)
    }

    /// `[sentences, outputs]`, within a pass.
    func callAsFunction(
        _ sentences: some Collection<Sentence>, _ backend: B, _ observer: Observer? = nil
    ) throws -> B.Matrix {
        let sequences = Sequences(lengths: sentences.map(\.ids.count))
        let ids = sentences.flatMap(\.ids)
        let positions = sentences.flatMap { 0..<Int32($0.ids.count) }
        let rows = zip(sequences.segments, sentences).map { $0.queries.lowerBound + $1.row }

        var x = try backend.tokens(ids, positions: positions, tokens)  // [tokens of all sentences, width]
        try observer?.observe("embeddings", &x, columns: configuration.transformer.width, backend)
        let pooled = try transformer(
            consume x, sequences, mask: configuration.isCausal ? .causal : .none, rows: rows, backend, observer)
        if let finalNorm { try backend.norm(pooled, finalNorm) }
        guard let projection else { return pooled }
        return try backend.linear(pooled, projection)
    }
}

/// The tokens of a sentence that are computed with, and which of them stands for it: the last, unless all see all.
struct Sentence {
    var ids: ArraySlice<Int32>
    var row: Int
}
