// Pictures into embeddings.
import CLIPCompute

/// A vision transformer on a device.
struct VisionTower<B: Backend> {
    let configuration: VisionConfiguration
    private let patches: B.Patches
    private let preNorm: B.Norm?
    private let transformer: Transformer<B>
    private let projection: B.Linear

    init(_ parameters: VisionParameters, _ configuration: VisionConfiguration, _ backend: B) throws {
        self.configuration = configuration
        patches = try preparing(parameters.patches.stored) { try backend.prepare(parameters.patches.parameters) }
        preNorm = try parameters.preNorm.map { norm in
            try preparing(norm.stored) { try backend.prepare(norm.parameters) }
        }
        transformer = try Transformer(parameters.blocks, width: configuration.transformer.width, backend)
        projection = try preparing(parameters.projection.stored) {
            try backend.prepare(parameters.projection.parameters)
        }
    }

    /// `[pictures, outputs]`, within a pass. The pictures are `imageSize` by `imageSize`.
    func callAsFunction(_ pixels: Pixels, _ backend: B, _ observer: Observer? = nil) throws -> B.Matrix {
        let width = configuration.transformer.width
        let length = configuration.rowsPerPicture
        let sequences = Sequences(count: pixels.count, length: length)

        var x = try backend.patches(pixels, patches)  // [pictures · length, width]
        try observer?.observe("embeddings", &x, columns: width, backend)
        if let preNorm {
            try backend.norm(x, preNorm)
            try observer?.observe("pre-norm", &x, columns: width, backend)
        }
        let pooled = try transformer(
            consume x, sequences, mask: .none, rows: sequences.segments.map(\.queries.lowerBound), backend, observer)
        return try backend.linear(pooled, projection)
    }
}
