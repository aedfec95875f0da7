// queryKeyValue and attention. Kernels: Kernels/OpenCL/linear.cl and attention.cl.

import CLIPCompute

/// Queries and values row after row, [queries of all heads | values of all heads]; keys transposed,
/// [head · keyWidth + d][row]. For matrix instructions all row after row, [queries | keys | values], and no transposed keys.
package final class OpenCLQueryKeyValueMatrix {
    let shape: AttentionShape
    let rows: Int
    let queriesAndValues: OpenCLMatrix
    let keys: Region?
    let keysPitch: Int

    init(shape: AttentionShape, rows: Int, queriesAndValues: OpenCLMatrix, keys: Region?, keysPitch: Int) {
        self.shape = shape
        self.rows = rows
        self.queriesAndValues = queriesAndValues
        self.keys = keys
        self.keysPitch = keysPitch
    }
}

package final class OpenCLQueryKeyValue {
    let shape: AttentionShape
    let norm: Statistics?
    let product: ProductWeights

    init(shape: AttentionShape, norm: Statistics?, product: ProductWeights) {
        self.shape = shape
        self.norm = norm
        self.product = product
    }
}

/// `[heads, queries, keys]` in floats.
package final class OpenCLAttentionBias {
    let buffer: Buffer
    let heads: Int
    let queries: Int
    let keys: Int

    init(buffer: Buffer, heads: Int, queries: Int, keys: Int) {
        self.buffer = buffer
        self.heads = heads
        self.queries = queries
        self.keys = keys
    }
}

extension OpenCLBackend {
    /// Rows that the attention kernel may read past the last key.
    private static let keySlack = 32
    /// Queries of one work-item or work-group.
    private static let vectorQueries = 4
    private static let tiledQueries = 64

    package func prepare(_ parameters: QueryKeyValueParameters) throws(BackendError) -> OpenCLQueryKeyValue {
        let shape = parameters.shape
        let (keys, values) = (shape.heads * shape.keyWidth, shape.heads * shape.valueWidth)
        var weight = parameters.weight.floats()
        let inputs = parameters.weight.columns
        precondition(weight.count == (2 * keys + values) * inputs, "the weight does not fit the heads")
        var bias = parameters.bias.isEmpty ? nil : parameters.bias.flatMap { $0.floats() }
        // The scale goes into the queries; for matrix instructions with log2 e, since they take powers of two.
        let withMatrixStep = usesMatrixSteps(shape)
        let scale = withMatrixStep ? shape.scale * 1.442_695_04 : shape.scale
        for i in 0..<(keys * inputs) { weight[i] *= scale }
        if bias != nil { for i in 0..<keys { bias?[i] *= scale } }
        if withMatrixStep {
            let all = 2 * keys + values
            return OpenCLQueryKeyValue(
                shape: shape, norm: parameters.norm.map(Statistics.init),
                product: try pack(
                    weight, inputs: inputs, order: Array(0..<all), bias: bias, fold: NormFold(parameters.norm),
                    outputs: all, flags: 0))
        }
        // Queries and values first, keys last: they go elsewhere.
        let order = Array(0..<keys) + Array((2 * keys)..<(2 * keys + values)) + Array(keys..<(2 * keys))
        return OpenCLQueryKeyValue(
            shape: shape, norm: parameters.norm.map(Statistics.init),
            product: try pack(
                weight, inputs: inputs, order: order, bias: bias, fold: NormFold(parameters.norm),
                outputs: order.count, flags: 0, layout: .panels))
    }

    /// Whether the attention of matrix instructions takes heads of these widths.
    private func usesMatrixSteps(_ shape: AttentionShape) -> Bool {
        attentionStep(shape, hasMask: true).map(shape.fits) ?? false
    }

    /// The instructions of an attention. That of `wgmma` takes no mask and heads of 64 columns only; where it may not be used, `mma` is.
    private func attentionStep(_ shape: AttentionShape, hasMask: Bool) -> MatrixStep? {
        guard matrixStep == .wgmma else { return matrixStep }
        return !hasMask && wgmmaAttention != .none && shape.fits(.wgmma) ? .wgmma : .mma
    }

    package func prepareAttentionBias(_ bias: HostTensor) throws(BackendError) -> OpenCLAttentionBias {
        precondition(bias.shape.count == 3, "an attention bias is [heads, queries, keys]")
        return OpenCLAttentionBias(
            buffer: try weightBuffer(bias.floats(), for: "an attention bias"), heads: bias.shape[0],
            queries: bias.shape[1], keys: bias.shape[2])
    }

    package func queryKeyValue(
        _ x: OpenCLMatrix, rows: [Int]?, _ queryKeyValue: OpenCLQueryKeyValue
    ) throws(BackendError) -> OpenCLQueryKeyValueMatrix {
        let shape = queryKeyValue.shape
        let (keys, values) = (shape.heads * shape.keyWidth, shape.heads * shape.valueWidth)
        if queryKeyValue.product.layout == .matrix {
            var all = try matrix(rows: x.rows, columns: 2 * keys + values)
            try product(try normed(x, queryKeyValue.norm), queryKeyValue.product, into: all)
            if let rows { all = try selectRows(all, rows) }
            return OpenCLQueryKeyValueMatrix(
                shape: shape, rows: all.rows, queriesAndValues: all, keys: nil, keysPitch: 0)
        }
        // Transposed keys are not selected: here, rows that are wanted more than once are computed as often.
        let x = if let rows { try selectRows(x, rows) } else { x }
        let rows = try matrix(rows: x.rows, columns: keys + values)
        var keysPitch = (x.rows + Self.keySlack + 15) / 16 * 16
        if keysPitch * elementSize % 4096 == 0 { keysPitch += 64 / elementSize }
        let transposed = try take(keys * keysPitch * elementSize)
        try product(
            try normed(x, queryKeyValue.norm), queryKeyValue.product, into: rows,
            transposed: Transposed(region: transposed, pitch: keysPitch, from: keys + values))
        return OpenCLQueryKeyValueMatrix(
            shape: shape, rows: x.rows, queriesAndValues: rows, keys: transposed, keysPitch: keysPitch)
    }

    package func attention(
        _ x: OpenCLQueryKeyValueMatrix, _ sequences: Sequences, mask: AttentionMask<OpenCLAttentionBias>
    ) throws(BackendError) -> OpenCLMatrix {
        precondition(sequences.rows == x.rows, "the sequences speak of \(sequences.rows) rows, not \(x.rows)")
        let shape = x.shape
        let y = try matrix(rows: x.rows, columns: shape.heads * shape.valueWidth)
        var bias: OpenCLAttentionBias?
        var flags = 0
        switch mask {
        case .none: break
        case .causal: flags = 1
        case .bias(let table):
            precondition(
                table.heads == shape.heads && table.queries >= sequences.longestQueries
                    && table.keys >= sequences.longestKeys, "the bias is smaller than the sequences")
            bias = table
            flags = 2
        }
        guard let transposedKeys = x.keys else {
            if wgmmaAttention == .unchecked, attentionStep(shape, hasMask: flags != 0) == .wgmma {
                try checkAttention()
            }
            if let step = attentionStep(shape, hasMask: flags != 0) {
                try matrixAttention(x, step, sequences, bias: bias, flags: flags, into: y)
            }
            return y
        }
        let isVector = family == .vector
        var knobs = [("KEY_WIDTH", shape.keyWidth), ("VALUE_WIDTH", shape.valueWidth), ("TILED", isVector ? 0 : 1)]
        let queries: Int, items: Int
        var scoresPitch = 0
        if isVector {
            queries = Self.vectorQueries
            items = 1
            knobs.append(("QUERIES", queries))
            scoresPitch = (sequences.longestKeys + 31) / 32 * 32
            guard queries * scoresPitch * 4 <= Int(clamping: description.localMemory) else {
                throw BackendError(
                    .unsupported,
                    "attention over \(sequences.longestKeys) keys needs \(queries * scoresPitch * 4) bytes of local"
                        + " memory; \(device.identifier) has \(description.localMemory)")
            }
        } else {
            queries = min(Self.tiledQueries, description.largestWorkGroup)
            items = queries
            var keyTile = 32
            let budget = min(Int(clamping: description.localMemory), 48 << 10) - 1024
            while keyTile > 8 && keyTile * (shape.keyWidth + shape.valueWidth) * 4 > budget { keyTile /= 2 }
            guard keyTile * (shape.keyWidth + shape.valueWidth) * 4 <= budget else {
                throw BackendError(
                    .unsupported,
                    "heads of \(shape.keyWidth) and \(shape.valueWidth) columns do not fit the local memory of"
                        + " \(device.identifier), \(description.localMemory) bytes")
            }
            knobs.append(("KEY_TILE", keyTile))
            knobs.append(("GROUP_QUERIES", items))
        }
        let segments = try upload(sequences)
        let kernel = try programs.program(["attention"], knobs).kernel("attention")
        let blocks = (sequences.longestQueries + queries - 1) / queries
        try run(kernel, groups: (blocks, shape.heads, sequences.count), items: items) { call in
            call.matrix(x.queriesAndValues)
            call.region(transposedKeys, elementSize: elementSize)
            call.uint(x.keysPitch)
            call.region(segments)
            call.buffer(bias?.buffer ?? zeros)
            call.uint(bias?.queries ?? 0)
            call.uint(bias?.keys ?? 0)
            call.uint(flags)
            call.matrix(y)
            call.local(isVector ? queries * scoresPitch * 4 : 4)
            call.uint(scoresPitch)
        }
        return y
    }

    /// Kernel: wgmma/attention.cl, mma/attention.cl, or fragments/attention.cl where the step has units.
    struct MatrixAttention {
        let step: MatrixStep
        let warps: Int
        /// Queries of one work-group.
        let queries: Int
        /// Bytes of shared memory beyond the 48 KB that are reported.
        var largeSharedMemory: Int { step == .wgmma && longestKeys > 64 ? 1024 + 3 * (16 << 10) : 0 }
        private let longestKeys: Int
        private let own: [(String, Int)]

        init(_ step: MatrixStep, _ shape: AttentionShape, longestQueries: Int, longestKeys: Int) {
            self.step = step
            self.longestKeys = longestKeys
            let wide = max(shape.keyWidth, shape.valueWidth) > 64
            let rows = step.unit?.rows ?? 16
            // No more warps than the queries need.
            let most = 64 / rows
            warps = step == .wgmma ? (longestQueries <= 64 ? 4 : 8) : longestQueries <= 32 ? most / 2 : most
            queries = warps * rows
            let isIntel = step == .dpas16 || step == .dpas8
            let widths = [("KEY_WIDTH", shape.keyWidth), ("VALUE_WIDTH", shape.valueWidth)]
            switch step {
            case .wgmma: own = [("STAGES", longestKeys <= 64 ? 1 : 3), ("LOCAL_ARGUMENT", 0)]
            case .mma:
                own = widths + [("KEY_TILE", wide ? 32 : 64), ("STAGES", wide ? 1 : 2), ("LOCAL_ARGUMENT", 0)]
            default:
                own = widths + [("KEY_TILE", isIntel ? 16 : wide ? 32 : 64), ("QUERIES_STAY", isIntel ? 0 : 1)]
            }
        }

        func knobs(emulated: Bool) -> [(String, Int)] { own + [("WARPS", warps)] + step.knobs(emulated: emulated) }
    }

    func request(_ variant: MatrixAttention) -> Programs.Request {
        Programs.Request(
            files: variant.step.files("attention"), knobs: variant.knobs(emulated: emulatesMatrixSteps),
            compilerOptions: emulatesMatrixSteps ? "" : variant.step.compilerOptions,
            splices: variant.step == .wgmma && !emulatesMatrixSteps)
    }

    private func matrixAttention(
        _ x: OpenCLQueryKeyValueMatrix, _ step: MatrixStep, _ sequences: Sequences, bias: OpenCLAttentionBias?,
        flags: Int, into y: OpenCLMatrix
    ) throws(BackendError) {
        let variant = MatrixAttention(
            step, x.shape, longestQueries: sequences.longestQueries, longestKeys: sequences.longestKeys)
        let segments = try upload(sequences)
        let kernel = try programs.program(request(variant)).kernel("attention")
        let blocks = (sequences.longestQueries + variant.queries - 1) / variant.queries
        try run(
            kernel, groups: (blocks, x.shape.heads, sequences.count), items: step.lanes, itemRows: variant.warps
        ) { call in
            call.matrix(x.queriesAndValues)
            call.region(segments)
            if step != .wgmma {
                call.buffer(bias?.buffer ?? zeros)
                call.uint(bias?.queries ?? 0)
                call.uint(bias?.keys ?? 0)
                call.uint(flags)
            }
            call.matrix(y)
        }
    }
}

extension AttentionShape {
    fileprivate func fits(_ step: MatrixStep) -> Bool {
        if step == .wgmma { return keyWidth == 64 && valueWidth == 64 }
        return [keyWidth, valueWidth].allSatisfy { $0 % 8 == 0 && $0 <= step.widestHead }
    }
}
