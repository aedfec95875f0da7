// pooledAttention, without keys and values: scores are (W_kᵀ q) · x, and W_v is applied to the weighted sum of rows.
// The key bias adds the same to all scores of a query, which softmax takes out again; weights sum to one, so the value
// bias stays as it is. Kernels: Kernels/OpenCL/pooledAttention.cl, linear.cl, norm.cl and rows.cl.

import CLIPCompute

package final class OpenCLPooledAttention {
    enum Query {
        case row
        /// The query of all segments, already taken back through the key weights: `[1, heads · inputs]` elements.
        case learned(Buffer)
        /// `[longest + 1, inputs]`
        case mean(positions: Buffer, rows: Int)
    }
    let shape: AttentionShape
    let inputs: Int
    let query: Query
    let norm: Statistics?
    /// Applied to x before the mean is taken, whole, since positions come after it.
    let wholeNorm: OpenCLNorm?
    /// `[heads · keyWidth, query inputs]`
    let queryProduct: ProductWeights?
    /// For each head `[inputs, keyWidth]`.
    let keyProduct: ProductWeights?
    /// For each head `[valueWidth, inputs]`.
    let valueProduct: ProductWeights
    let output: OpenCLLinear

    init(
        shape: AttentionShape, inputs: Int, query: Query, norm: Statistics?, wholeNorm: OpenCLNorm?,
        queryProduct: ProductWeights?, keyProduct: ProductWeights?, valueProduct: ProductWeights, output: OpenCLLinear
    ) {
        self.shape = shape
        self.inputs = inputs
        self.query = query
        self.norm = norm
        self.wholeNorm = wholeNorm
        self.queryProduct = queryProduct
        self.keyProduct = keyProduct
        self.valueProduct = valueProduct
        self.output = output
    }
}

extension OpenCLBackend {
    package func prepare(_ parameters: PooledAttentionParameters) throws(BackendError) -> OpenCLPooledAttention {
        let shape = parameters.shape
        let (heads, keyWidth, valueWidth) = (shape.heads, shape.keyWidth, shape.valueWidth)
        let inputs = parameters.keyWeight.columns
        let isMean = if case .mean = parameters.query { true } else { false }
        // Means and positions come between norm and projections: there is nothing to fold.
        let fold = isMean ? nil : NormFold(parameters.norm)

        // For each head, W_k transposed, with the scale and the norm's gain: [inputs, keyWidth].
        let keyWeight = parameters.keyWeight.floats()
        var back = [Float](repeating: 0, count: keyWeight.count)
        for head in 0..<heads {
            for d in 0..<keyWidth {
                for c in 0..<inputs {
                    back[(head * inputs + c) * keyWidth + d] =
                        keyWeight[(head * keyWidth + d) * inputs + c] * shape.scale * (fold?.gain[c] ?? 1)
                }
            }
        }

        var query = OpenCLPooledAttention.Query.row
        var queryProduct: ProductWeights?
        var keyProduct: ProductWeights?
        if case .learned(let probe) = parameters.query {
            query = .learned(
                try learnedQuery(
                    probe.floats(), parameters.queryWeight, parameters.queryBias?.floats(), back, heads: heads,
                    keyWidth: keyWidth, inputs: inputs))
        } else {
            if case .mean(let positions) = parameters.query {
                query = .mean(
                    positions: try weightBuffer(positions.floats(), for: "positions"), rows: positions.shape[0])
            }
            queryProduct = try pack(
                parameters.queryWeight.floats(), inputs: parameters.queryWeight.columns,
                order: Array(0..<(heads * keyWidth)), bias: parameters.queryBias?.floats(), fold: fold,
                outputs: heads * keyWidth, flags: 0)
            keyProduct = try pack(
                back, inputs: keyWidth, order: Array(0..<inputs), bias: nil, outputs: inputs, flags: 0, groups: heads)
        }
        return OpenCLPooledAttention(
            shape: shape, inputs: inputs, query: query, norm: isMean ? nil : parameters.norm.map(Statistics.init),
            wholeNorm: isMean
                ? try parameters.norm.map { (norm) throws(BackendError) in try prepare(norm) } : nil,
            queryProduct: queryProduct, keyProduct: keyProduct,
            valueProduct: try pack(
                parameters.valueWeight.floats(), inputs: inputs, order: Array(0..<valueWidth),
                bias: parameters.valueBias?.floats(), fold: fold, outputs: valueWidth, flags: 0, groups: heads),
            output: try prepare(parameters.output))
    }

    /// u = W_kᵀ (W_q probe + b_q) for each head, on the host, in double.
    private func learnedQuery(
        _ probe: [Float], _ queryWeight: HostMatrix, _ queryBias: [Float]?, _ back: [Float], heads: Int, keyWidth: Int,
        inputs: Int
    ) throws(BackendError) -> Buffer {
        let weight = queryWeight.floats()
        precondition(probe.count == queryWeight.columns, "the learned query does not fit the query weight")
        let query = (0..<(heads * keyWidth)).map { row in
            var sum = Double(queryBias?[row] ?? 0)
            for k in probe.indices { sum += Double(weight[row * probe.count + k]) * Double(probe[k]) }
            return sum
        }
        var values = [Float](repeating: 0, count: heads * inputs)
        for head in 0..<heads {
            for c in 0..<inputs {
                var sum = 0.0
                for d in 0..<keyWidth {
                    sum += Double(back[(head * inputs + c) * keyWidth + d]) * query[head * keyWidth + d]
                }
                values[head * inputs + c] = Float(sum)
            }
        }
        return try elementBuffer(values, for: "a query")
    }

    package func pooledAttention(
        _ x: OpenCLMatrix, _ sequences: Sequences, rows: [Int], _ pooledAttention: OpenCLPooledAttention
    ) throws(BackendError) -> OpenCLMatrix {
        precondition(sequences.rows == x.rows && x.columns == pooledAttention.inputs, "x does not fit")
        let pooled = pooledAttention
        var sequences = sequences
        var keys = try normed(x, pooled.norm)
        let queries: OpenCLMatrix?
        switch pooled.query {
        case .row:
            precondition(rows.count == sequences.count, "one row for each segment")
            queries = try selectRows(keys, rows)
        case .learned:
            queries = nil
        case .mean(let positions, let count):
            precondition(
                sequences.longestKeys < count, "\(count) positions are too few for \(sequences.longestKeys) rows")
            if let norm = pooled.wholeNorm {
                keys = try copy(x)
                try self.norm(keys, norm)
            }
            (keys, sequences) = try prependMean(keys, sequences, positions: positions)
            queries = try selectRows(keys, sequences.segments.map(\.keys.lowerBound))
        }

        // u: the queries, taken back through the key weights of each head.
        let (heads, inputs) = (pooled.shape.heads, pooled.inputs)
        var u: OpenCLMatrix?
        if let queries, let queryProduct = pooled.queryProduct, let keyProduct = pooled.keyProduct {
            let q = try matrix(rows: queries.rows, columns: queryProduct.outputs)
            try product(queries, queryProduct, into: q)
            let taken = try matrix(rows: queries.rows, columns: heads * inputs)
            try product(
                q, keyProduct, into: taken,
                groups: Groups(count: heads, xStep: pooled.shape.keyWidth, yStep: inputs))
            u = taken
        }

        let scoreBytes = sequences.longestKeys * 4
        guard scoreBytes <= Int(clamping: description.localMemory) else {
            throw BackendError(
                .unsupported,
                "pooled attention over \(sequences.longestKeys) keys needs \(scoreBytes) bytes of local memory")
        }
        let segments = try upload(sequences)
        let z = try matrix(rows: sequences.count, columns: heads * inputs)
        let knobs = warpKnobs(columns: inputs)
        let kernel =
            if let knobs {
                try programs.program(MatrixStep.mma.files("pooledAttention"), knobs).kernel("pooledAttention")
            } else {
                try programs.program(["pooledAttention"]).kernel("pooledAttention")
            }
        try run(
            kernel, groups: (heads, sequences.count, 1), items: knobs == nil ? rowLanes : 32,
            itemRows: knobs == nil ? 1 : Self.warpsOfRows
        ) { call in
            call.matrix(keys)
            if let u {
                call.matrix(u)
            } else if case .learned(let buffer) = pooled.query {
                call.buffer(buffer)
                call.ulong(0)
                call.uint(0)
            }
            call.region(segments)
            call.matrix(z)
            call.uint(inputs)
            call.local(scoreBytes)
        }

        let attended = try matrix(rows: sequences.count, columns: heads * pooled.shape.valueWidth)
        try product(
            z, pooled.valueProduct, into: attended,
            groups: Groups(count: heads, xStep: inputs, yStep: pooled.shape.valueWidth))
        if case .row = pooled.query {
            let y = try selectRows(x, rows)
            try linear(attended, pooled.output, addingTo: y)
            return y
        }
        return try linear(attended, pooled.output)
    }

    /// Each segment's keys behind their mean, plus positions; and where the new segments lie.
    private func prependMean(
        _ x: OpenCLMatrix, _ sequences: Sequences, positions: Buffer
    ) throws(BackendError) -> (OpenCLMatrix, Sequences) {
        let longer = Sequences(lengths: sequences.segments.map { $0.keys.count + 1 })
        let means = try meanRows(x, sequences)
        let y = try matrix(rows: longer.rows, columns: x.columns)
        let segments = try upload(sequences)
        let starts = try upload(longer.segments.map { Int32(clamping: $0.keys.lowerBound) })
        let kernel = try programs.program(["pooledAttention"]).kernel("prependMean")
        try run(kernel, groups: (sequences.longestKeys + 1, sequences.count, 1), items: rowLanes) { call in
            call.matrix(x)
            call.matrix(means)
            call.region(segments)
            call.region(starts)
            call.buffer(positions)
            call.matrix(y)
            call.uint(x.columns)
        }
        return (y, longer)
    }
}
