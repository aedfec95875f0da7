// Sentences into embeddings.
import CLIPCompute

/// CLIP's text transformer on a device.
struct TextTower<B: Backend> {
    let configuration: TextConfiguration
    private let tokens: B.Tokens
    private let transformer: Transformer<B>
    private let projection: B.Linear

    init(_ parameters: TextParameters, _ configuration: TextConfiguration, _ backend: B) throws {
        self.configuration = configuration
        tokens = try preparing(parameters.tokens.stored) { try backend.prepare(parameters.tokens.parameters) }
        transformer = try Transformer(parameters.blocks, width: configuration.transformer.width, backend)
        projection = try preparing(parameters.projection.stored) {
            try backend.prepare(parameters.projection.parameters)
        }
    }

    /// A sentence cut after the row that stands for it. Under the causal mask nothing after it can reach it.
    func cut(_ ids: [Int32], index: Int) throws(ModelError) -> ArraySlice<Int32> {
        guard let row = configuration.pooling.row(of: ids) else {
            throw ModelError("text \(index) has no tokens; even an empty sentence has its start and its end")
        }
        guard ids.count <= configuration.contextLength else {
            throw ModelError(
                "text \(index) has \(ids.count) tokens, more than the model's context of \(configuration.contextLength)"
            )
        }
        let kept = ids.prefix(row + 1)
        if let bad = kept.first(where: { $0 < 0 || Int($0) >= configuration.vocabularySize }) {
            throw ModelError(
                "text \(index) holds the token \(bad), outside the model's vocabulary of \(configuration.vocabularySize)"
            )
        }
        return kept
    }

    /// `[sentences, outputs]`, within a pass. Each sentence was cut.
    func callAsFunction(
        _ sentences: some Collection<ArraySlice<Int32>>, _ backend: B, _ observer: Observer? = nil
    ) throws -> B.Matrix {
        let sequences = Sequences(lengths: sentences.map(\.count))
        let ids = sentences.flatMap(\.self)
        let positions = sentences.flatMap { 0..<Int32($0.count) }

        var x = try backend.tokens(ids, positions: positions, tokens)  // [tokens of all sentences, width]
        try observer?.observe("embeddings", &x, columns: configuration.transformer.width, backend)
        let pooled = try transformer(
            consume x, sequences, mask: .causal, rows: sequences.segments.map { $0.queries.upperBound - 1 }, backend,
            observer)
        return try backend.linear(pooled, projection)
    }
}
