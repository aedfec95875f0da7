// The residual attention block that both towers are made of.
import CLIPCompute

/// One block on a device. Norms before linears travel with the linears that read them.
struct TransformerBlock<B: Backend> {
    private let queryKeyValue: B.QueryKeyValue
    private let output: B.Linear
    private let mlp: MLP<B>
    private let sumNorms: SumNorms<B>?

    init(_ parameters: BlockParameters, _ backend: B) throws(BackendError) {
        queryKeyValue = try backend.prepare(parameters.queryKeyValue)
        output = try backend.prepare(parameters.output)
        mlp = try MLP(parameters.mlp, backend)
        sumNorms = try SumNorms(parameters, backend)
    }

    /// x = x + attention(norm(x)); x = x + mlp(norm(x)), in place on the residual stream `[rows, width]`; or with the
    /// norms around the sums. With `shared`, x holds each row that several sequences have in common once.
    func callAsFunction(
        _ x: B.Matrix, _ sequences: Sequences, mask: AttentionMask<B.AttentionBias>, shared: SharedRows?, _ backend: B
    ) throws(BackendError) {
        do {
            var attended = try backend.attention(
                backend.queryKeyValue(x, rows: shared?.places, queryKeyValue), sequences, mask: mask)
            if let shared { attended = try backend.selectRows(attended, shared.origins) }  // [rows, width]
            try backend.linear(attended, output, addingTo: x)
        }
        if let sumNorms { try backend.norm(x, sumNorms.attention) }
        try mlp(x, backend)
        if let sumNorms { try backend.norm(x, sumNorms.mlp) }
    }
}

/// The last block of a tower, of which one row for each sequence is wanted.
struct PooledTransformerBlock<B: Backend> {
    private let attention: B.PooledAttention
    private let mlp: MLP<B>
    private let sumNorms: SumNorms<B>?

    init(_ parameters: BlockParameters, _ backend: B) throws(BackendError) {
        attention = try backend.prepare(parameters.pooledAttention)
        mlp = try MLP(parameters.mlp, backend)
        sumNorms = try SumNorms(parameters, backend)
    }

    /// The rows of what a `TransformerBlock` would make of x that are the segments' queries, one of each:
    /// `[segments, width]`. No mask: every such row sees its keys.
    func callAsFunction(_ x: B.Matrix, _ sequences: Sequences, _ backend: B) throws(BackendError) -> B.Matrix {
        let pooled = try backend.pooledAttention(
            x, sequences, rows: sequences.segments.map(\.queries.lowerBound), attention)
        if let sumNorms { try backend.norm(pooled, sumNorms.attention) }
        try mlp(pooled, backend)
        if let sumNorms { try backend.norm(pooled, sumNorms.mlp) }
        return pooled
    }
}

/// The norms behind a block's two sums.
struct SumNorms<B: Backend> {
    let attention: B.Norm
    let mlp: B.Norm

    init?(_ parameters: BlockParameters, _ backend: B) throws(BackendError) {
        guard let norms = parameters.sumNorms else { return nil }
        attention = try backend.prepare(norms.attention)
        mlp = try backend.prepare(norms.mlp)
    }
}

/// A learned query's attention to all rows of each sequence, and the MLP behind it.
struct AttentionPool<B: Backend> {
    private let attention: B.PooledAttention
    private let mlp: MLP<B>?

    init(_ parameters: AttentionPoolParameters, _ backend: B) throws(BackendError) {
        attention = try backend.prepare(parameters.attention)
        if let parameters = parameters.mlp { mlp = try MLP(parameters, backend) } else { mlp = nil }
    }

    /// `[sequences, outputs]`
    func callAsFunction(_ x: B.Matrix, _ sequences: Sequences, _ backend: B) throws(BackendError) -> B.Matrix {
        let pooled = try backend.pooledAttention(x, sequences, rows: [], attention)
        try mlp?(pooled, backend)
        return pooled
    }
}

/// What makes embeddings of pooled rows.
struct Head<B: Backend> {
    private let norm: B.Norm?
    private var linears: [B.Linear] = []

    init(_ parameters: HeadParameters, _ backend: B) throws(BackendError) {
        if let parameters = parameters.norm { norm = try backend.prepare(parameters) } else { norm = nil }
        for linear in parameters.linears { linears.append(try backend.prepare(linear)) }
    }

    /// `[rows, outputs]`; overwrites x.
    func callAsFunction(_ x: B.Matrix, _ backend: B) throws(BackendError) -> B.Matrix {
        if let norm { try backend.norm(x, norm) }
        var x = x
        for linear in linears { x = try backend.linear(x, linear) }
        return x
    }
}

/// x = x + contract(activation(expand(norm(x)))), in place.
struct MLP<B: Backend> {
    private let expand: B.Linear
    private let contract: B.Linear

    init(_ parameters: MLPParameters, _ backend: B) throws(BackendError) {
        expand = try backend.prepare(parameters.expand)
        contract = try backend.prepare(parameters.contract)
    }

    func callAsFunction(_ x: B.Matrix, _ backend: B) throws(BackendError) {
        let hidden = try backend.linear(x, expand)  // [rows, mlpWidth]
        try backend.linear(hidden, contract, addingTo: x)
    }
}
