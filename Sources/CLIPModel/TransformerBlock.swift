// The residual attention block that both towers are made of.
import CLIPCompute

/// One pre-norm block on a device. The norms travel with the linears that read them.
struct TransformerBlock<B: Backend> {
    private let queryKeyValue: B.QueryKeyValue
    private let output: B.Linear
    private let mlp: MLP<B>

    init(_ parameters: BlockParameters, _ backend: B) throws(BackendError) {
        queryKeyValue = try backend.prepare(parameters.queryKeyValue)
        output = try backend.prepare(parameters.output)
        mlp = try MLP(parameters, backend)
    }

    /// x = x + attention(norm(x)); x = x + mlp(norm(x)), in place on the residual stream `[rows, width]`.
    func callAsFunction(
        _ x: B.Matrix, _ sequences: Sequences, mask: AttentionMask<B.AttentionBias>, _ backend: B
    ) throws(BackendError) {
        do {
            let attended = try backend.attention(
                backend.queryKeyValue(x, queryKeyValue), sequences, mask: mask)  // [rows, width]
            try backend.linear(attended, output, addingTo: x)
        }
        try mlp(x, backend)
    }
}

/// The last block of a tower, of which one row for each sequence is wanted.
struct PooledTransformerBlock<B: Backend> {
    private let attention: B.PooledAttention
    private let mlp: MLP<B>

    init(_ parameters: BlockParameters, _ backend: B) throws(BackendError) {
        attention = try backend.prepare(parameters.pooledAttention)
        mlp = try MLP(parameters, backend)
    }

    /// The named rows of what a `TransformerBlock` would make of x: `[sequences, width]`. No mask: every row named
    /// sees all of its sequence.
    func callAsFunction(
        _ x: B.Matrix, _ sequences: Sequences, rows: [Int], _ backend: B
    ) throws(BackendError) -> B.Matrix {
        let pooled = try backend.pooledAttention(x, sequences, rows: rows, attention)
        try mlp(pooled, backend)
        return pooled
    }
}

/// x = x + contract(activation(expand(norm(x)))), in place.
struct MLP<B: Backend> {
    private let expand: B.Linear
    private let contract: B.Linear

    init(_ parameters: BlockParameters, _ backend: B) throws(BackendError) {
        expand = try backend.prepare(parameters.expand)
        contract = try backend.prepare(parameters.contract)
    }

    func callAsFunction(_ x: B.Matrix, _ backend: B) throws(BackendError) {
        let hidden = try backend.linear(x, expand)  // [rows, mlpWidth]
        try backend.linear(hidden, contract, addingTo: x)
    }
}
