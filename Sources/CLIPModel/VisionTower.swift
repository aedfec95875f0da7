// Pictures into embeddings.
import CLIPCompute

/// What makes pictures into embeddings, on a device.
enum VisionTower<B: Backend> {
    case transformer(VisionTransformer<B>)
    case resNet(ResNet<B>)

    init(_ parameters: VisionParameters, _ configuration: CLIPConfiguration, _ backend: B) throws {
        switch (parameters, configuration.vision) {
        case (.transformer(let parameters), .transformer(let vision)):
            self = .transformer(try VisionTransformer(parameters, vision, backend))
        case (.resNet(let parameters), .resNet):
            self = .resNet(try ResNet(parameters, configuration.preprocessing.normalization, backend))
        default: preconditionFailure("parameters of another architecture than the configuration's")
        }
    }

    /// `[pictures, outputs]`, within a pass. The pictures are of the model's size.
    func callAsFunction(_ pixels: Pixels, _ backend: B, _ observer: Observer? = nil) throws -> B.Matrix {
        switch self {
        case .transformer(let tower): try tower(pixels, backend, observer)
        case .resNet(let tower): try tower(pixels, backend, observer)
        }
    }
}

/// A vision transformer on a device.
struct VisionTransformer<B: Backend> {
    let configuration: VisionTransformerConfiguration
    private let patches: B.Patches
    private let preNorm: B.Norm?
    private let transformer: Transformer<B>
    private let postNorm: B.Norm?
    private let pool: AttentionPool<B>?
    private let head: Head<B>

    init(
        _ parameters: VisionTransformerParameters, _ configuration: VisionTransformerConfiguration, _ backend: B
    ) throws {
        self.configuration = configuration
        patches = try preparing(parameters.patches.stored) { try backend.prepare(parameters.patches.parameters) }
        preNorm = try parameters.preNorm.map { norm in
            try preparing(norm.stored) { try backend.prepare(norm.parameters) }
        }
        transformer = try Transformer(
            parameters.blocks, width: configuration.transformer.width,
            wantsAllRows: configuration.pooling != .classToken, backend)
        postNorm = try parameters.postNorm.map { norm in
            try preparing(norm.stored) { try backend.prepare(norm.parameters) }
        }
        pool = try parameters.pool.map { pool in
            try preparing(pool.stored) { try AttentionPool(pool.parameters, backend) }
        }
        head = try preparing(parameters.head.stored) { try Head(parameters.head.parameters, backend) }
    }

    func callAsFunction(_ pixels: Pixels, _ backend: B, _ observer: Observer?) throws -> B.Matrix {
        let width = configuration.transformer.width
        let sequences = Sequences(count: pixels.count, length: configuration.rowsPerPicture)

        var x = try backend.patches(pixels, patches)  // [pictures · rows of each, width]
        try observer?.observe("embeddings", &x, columns: width, backend)
        if let preNorm {
            try backend.norm(x, preNorm)
            try observer?.observe("pre-norm", &x, columns: width, backend)
        }
        // The class token is each picture's first row.
        let rows = try transformer(consume x, sequences, mask: .none, pooled: sequences, backend, observer)
        if let postNorm { try backend.norm(rows, postNorm) }
        if let pool { return try head(pool(rows, sequences, backend), backend) }
        guard configuration.pooling == .mean else { return try head(rows, backend) }
        let first = configuration.hasClassToken ? 1 : 0
        let patches = sequences.segments.map {
            Sequences.Segment(queries: $0.queries, keys: ($0.keys.lowerBound + first)..<$0.keys.upperBound)
        }
        return try head(backend.meanRows(rows, Sequences(segments: patches, rows: sequences.rows)), backend)
    }
}
