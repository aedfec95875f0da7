// The reference against PyTorch: small inputs that both make alike, and the numbers that torch 2.13 gave in float64
// for the line above them. In those lines `F` is torch.nn.functional and
//
//     def seq(step, *shape):
//         i = torch.arange(math.prod(shape))
//         return (((i * step) % 23 - 11).double() / 8).reshape(shape)

import BackendTesting
import CLIPCompute
import Testing

private func seq(_ step: Int, _ shape: Int...) -> HostTensor {
    let count = shape.reduce(1, *)
    return HostTensor((0..<count).map { Float(($0 * step) % 23 - 11) / 8 }, shape: shape)
}

private func close(_ values: [Float], _ expected: [Double]) -> Bool {
    values.count == expected.count
        && zip(values, expected).allSatisfy { abs(Double($0) - $1) <= 2e-7 * max(1, abs($1)) }
}

@Suite struct ReferenceBackendTests {
    private let backend = ReferenceBackend()

    /// One pass, and its result.
    private func pass(_ body: (ReferenceBackend) throws -> ReferenceBackend.Matrix) throws -> [Float] {
        backend.begin(alone: true)
        return try backend.wait(backend.submit(try body(backend)))
    }

    private func upload(_ tensor: HostTensor) -> ReferenceBackend.Matrix {
        backend.upload(tensor.floats(), rows: tensor.count / (tensor.shape.last ?? 1), columns: tensor.shape.last ?? 1)
    }

    /// F.layer_norm's weight, bias and epsilon.
    private var layer: NormParameters { NormParameters(weight: seq(3, 4), bias: seq(7, 4), epsilon: 1e-5) }

    @Test("norms are F.layer_norm and F.rms_norm") func norms() throws {
        func norm(_ parameters: NormParameters) throws -> [Float] {
            let norm = backend.prepare(parameters)
            return try pass { backend in
                let x = upload(seq(5, 2, 4))
                backend.norm(x, norm)
                return x
            }
        }
        // F.layer_norm(seq(5, 2, 4), (4,), seq(3, 4), seq(7, 4), 1e-5)
        #expect(
            close(
                try norm(layer),
                [
                    0.46973719, -0.052790984, 0.095494365, 0.91459324, -3.3917611, 0.74108375, 0.68056986, 1.184185,
                ]))
        // F.rms_norm(seq(5, 2, 4), (4,), seq(3, 4), 1e-6)
        #expect(
            close(
                try norm(NormParameters(kind: .rms, weight: seq(3, 4), bias: nil, epsilon: 1e-6)),
                [
                    2.2932449, 0.90971698, 0.094762186, -0.1516195, -1.8499005, 1.3453822, 0.37371728, -0.037371728,
                ]))
    }

    @Test(
        "activations are PyTorch's",
        arguments: [
            (Activation.none, [-6, -3, -1, -0.5, 0, 0.5, 1, 3]),
            // F.relu(a), a = torch.tensor([-6, -3, -1, -0.5, 0, 0.5, 1, 3])
            (.relu, [0, 0, 0, 0, 0, 0.5, 1, 3]),
            // a * torch.sigmoid(1.702 * a)
            (
                .quickGELU,
                [-0.00022035355, -0.01807131, -0.15420423, -0.14961156, 0, 0.35038844, 0.84579577, 2.9819287]
            ),
            // F.gelu(a)
            (.gelu, [-5.9195259e-09, -0.0040496941, -0.15865525, -0.15426877, 0, 0.34573123, 0.84134475, 2.9959503]),
            // F.gelu(a, approximate="tanh")
            (
                .geluTanh,
                [-8.439649e-11, -0.0036373921, -0.15880801, -0.15428599, 0, 0.34571401, 0.84119199, 2.9963626]
            ),
        ])
    func activations(activation: Activation, expected: [Double]) throws {
        let linear = backend.prepare(
            LinearParameters(weight: HostMatrix(HostTensor([1], shape: [1, 1])), activation: activation))
        let values = try pass { backend in
            backend.linear(backend.upload([-6, -3, -1, -0.5, 0, 0.5, 1, 3], rows: 8, columns: 1), linear)
        }
        #expect(close(values, expected))
    }

    @Test("a linear is F.linear, and with all its parts a gated T5 feed-forward") func linear() throws {
        let plain = backend.prepare(LinearParameters(weight: HostMatrix(seq(5, 3, 4)), bias: [seq(3, 3)]))
        // F.linear(seq(5, 2, 4), seq(5, 3, 4), seq(3, 3))
        #expect(
            close(
                try pass { $0.linear(upload(seq(5, 2, 4)), plain) },
                [1.34375, -1.578125, -2.703125, -1.953125, 1.796875, -0.921875]))

        let gated = backend.prepare(
            LinearParameters(
                weight: HostMatrix(seq(5, 6, 4)), bias: [seq(3, 6)], norm: layer, activation: .geluTanh, gated: true,
                layerScale: seq(9, 3)))
        // p = F.linear(F.layer_norm(seq(5, 2, 4), (4,), seq(3, 4), seq(7, 4), 1e-5), seq(5, 6, 4), seq(3, 6))
        // seq(11, 2, 3) + seq(9, 3) * (F.gelu(p[:, :3], approximate="tanh") * p[:, 3:])
        let values = try pass { backend in
            let y = upload(seq(11, 2, 3))
            backend.linear(upload(seq(5, 2, 4)), gated, addingTo: y)
            return y
        }
        #expect(close(values, [-1.482771, -0.022165784, 1.5019057, 10.435028, 1.25, -0.25257583]))
    }

    // q, k, v = F.linear(X, seq(7, 16, 4), seq(3, 16)).split([6, 6, 4], -1), X = seq(5, 5, 4)
    // f = lambda t, d: t.reshape(-1, 2, d).transpose(0, 1)
    // F.scaled_dot_product_attention(f(q, 3), f(k, 3), f(v, 2), …).transpose(0, 1).reshape(-1, 4)
    private func attention(
        _ sequences: Sequences, scale: Float? = nil, mask: AttentionMask<ReferenceBackend.AttentionBias>
    ) throws -> [Float] {
        var shape = AttentionShape(heads: 2, keyWidth: 3, valueWidth: 2, scale: 1 / Float(3).squareRoot())
        if let scale { shape.scale = scale }
        let projection = backend.prepare(
            QueryKeyValueParameters(shape: shape, norm: nil, weight: HostMatrix(seq(7, 16, 4)), bias: [seq(3, 16)]))
        return try pass { backend in
            let x = backend.upload(
                Array(seq(5, 5, 4).floats().prefix(sequences.rows * 4)), rows: sequences.rows, columns: 4)
            return backend.attention(backend.queryKeyValue(x, rows: nil, projection), sequences, mask: mask)
        }
    }

    @Test("attention is F.scaled_dot_product_attention, each sequence by itself") func attention() throws {
        // The rows [:3] and the rows [3:] of X apart
        #expect(
            close(
                try attention(Sequences(lengths: [3, 2]), mask: .none),
                [
                    -0.098517092, 0.38928922, -0.42276631, 0.6401537, -0.59287761, 1.8566953, 3.4931573, 1.4316409,
                    -0.34783069, 3.0123842, -0.049362757, -0.26678715, 2.4876311, -0.31540134, -1.0597071, 1.1866892,
                    2.4957972, -0.31348584, -1.3269884, 0.5340253,
                ]))
        // is_causal=True
        #expect(
            close(
                try attention(Sequences(lengths: [3, 2]), mask: .causal),
                [
                    -1.046875, 0.390625, 3.625, 1.46875, -0.64827186, 1.8876012, 3.5860089, 1.4502457, -0.34783069,
                    3.0123842, -0.049362757, -0.26678715, 2.5, -0.3125, -1.328125, 0.53125, 2.4957972, -0.31348584,
                    -1.3269884, 0.5340253,
                ]))
        // bias = seq(5, 2, 3, 3); bias[1, 2, 1] = -inf; attn_mask=bias, scale=1.0
        var bias = seq(5, 2, 3, 3).floats()
        bias[(1 * 3 + 2) * 3 + 1] = -.infinity
        let table = backend.prepareAttentionBias(HostTensor(bias, shape: [2, 3, 3]))
        #expect(
            close(
                try attention(Sequences(lengths: [3]), scale: 1, mask: .bias(table)),
                [
                    0.24576792, 0.25958228, -0.080116677, 0.71804506, -0.51994246, 2.3670724, 3.621271, 1.4672732,
                    -0.34381519, 3.0309905, -0.31232707, 0.67115641,
                ]))
    }

    @Test("queries and keys of a segment may differ") func segments() throws {
        let whole = try attention(Sequences(lengths: [3, 2]), mask: .none)
        let causal = try attention(
            Sequences(
                segments: (0..<5).map { .init(queries: $0..<($0 + 1), keys: ($0 < 3 ? 0 : 3)..<($0 + 1)) }, rows: 5),
            mask: .none)
        #expect(causal == (try attention(Sequences(lengths: [3, 2]), mask: .causal)))
        #expect(causal != whole)
    }

    /// The parameters of nn.MultiheadAttention(4, 2) with in_proj_weight = seq(7, 12, 4), in_proj_bias = seq(3, 12),
    /// out_proj.weight = seq(5, 4, 4), out_proj.bias = seq(9, 4)
    private func multihead(
        _ query: PooledAttentionParameters.Query, norm: NormParameters?
    ) -> ReferenceBackend.PooledAttention {
        let (weight, bias) = (seq(7, 12, 4).floats(), seq(3, 12).floats())
        func part(_ i: Int) -> HostMatrix {
            HostMatrix(HostTensor(Array(weight[(i * 16)..<((i + 1) * 16)]), shape: [4, 4]))
        }
        func offset(_ i: Int) -> HostTensor { HostTensor(Array(bias[(i * 4)..<((i + 1) * 4)]), shape: [4]) }
        return backend.prepare(
            PooledAttentionParameters(
                shape: AttentionShape(width: 4, heads: 2), query: query, norm: norm, queryWeight: part(0),
                keyWeight: part(1), valueWeight: part(2), queryBias: offset(0), keyBias: offset(1),
                valueBias: offset(2), output: LinearParameters(weight: HostMatrix(seq(5, 4, 4)), bias: [seq(9, 4)])))
    }

    @Test("a learned query is nn.MultiheadAttention with a probe, as SigLIP's") func learnedQuery() throws {
        let pool = multihead(.learned(seq(11, 4)), norm: nil)
        // torch.cat([m(seq(11, 4)[None, None], X[s][None], X[s][None])[0] for s in (slice(0, 3), slice(3, 5))])
        #expect(
            close(
                try pass { $0.pooledAttention(upload(seq(5, 5, 4)), Sequences(lengths: [3, 2]), rows: [], pool) },
                [
                    -0.077140138, 1.0374394, 1.0058415, 0.59978792, 5.1969698, -0.65602059, -4.0380001, -4.3366775,
                ]))
    }

    @Test("a row's query is the attention half of a pre-norm block, for that row") func rowQuery() throws {
        let pool = multihead(.row, norm: layer)
        // N = lambda t: F.layer_norm(t, (4,), seq(3, 4), seq(7, 4), 1e-5)
        // [X[i] + m(N(X[i])[None, None], N(X[s])[None], N(X[s])[None])[0][0, 0]
        //     for s, i in ((slice(0, 3), 1), (slice(3, 5), 4))]
        #expect(
            close(
                try pass { $0.pooledAttention(upload(seq(5, 5, 4)), Sequences(lengths: [3, 2]), rows: [1, 4], pool) },
                [
                    -1.1694045, -2.5896912, 0.74913579, 0.47786889, -2.6668097, 0.38816732, 3.1065005, -0.11642302,
                ]))
    }

    @Test("a mean's query is CLIP's AttentionPool2d") func meanQuery() throws {
        // clip.model.AttentionPool2d(2, 4, 2, 3) with positional_embedding = seq(13, 5, 4); q_proj: seq(7, 4, 4),
        // seq(8, 4); k_proj: seq(5, 4, 4), seq(6, 4); v_proj: seq(3, 4, 4), seq(4, 4); c_proj: seq(9, 3, 4), seq(2, 3);
        // of seq(5, 2, 2, 2, 4).permute(0, 3, 1, 2)
        let pool = backend.prepare(
            PooledAttentionParameters(
                shape: AttentionShape(width: 4, heads: 2), query: .mean(positions: seq(13, 5, 4)), norm: nil,
                queryWeight: HostMatrix(seq(7, 4, 4)), keyWeight: HostMatrix(seq(5, 4, 4)),
                valueWeight: HostMatrix(seq(3, 4, 4)), queryBias: seq(8, 4), keyBias: seq(6, 4), valueBias: seq(4, 4),
                output: LinearParameters(weight: HostMatrix(seq(9, 3, 4)), bias: [seq(2, 3)])))
        #expect(
            close(
                try pass { $0.pooledAttention(upload(seq(5, 8, 4)), Sequences(lengths: [4, 4]), rows: [], pool) },
                [-1.6823762, -1.4417508, -1.3482244, -6.2270829, 1.0168236, -4.4897612]))
    }

    @Test("a convolution is F.conv2d, the residual before or after the activation") func convolution() throws {
        // c = F.conv2d(seq(5, 2, 3, 4, 2).permute(0, 3, 1, 2), seq(7, 3, 2, 3, 3), seq(3, 3), stride=2, padding=1)
        //     .permute(0, 2, 3, 1)
        func values(activatesAfterResidual: Bool) throws -> [Float] {
            let convolution = backend.prepare(
                ConvolutionParameters(
                    weight: seq(7, 3, 2, 3, 3), bias: seq(3, 3), stride: 2, padding: 1, activation: .relu,
                    activatesAfterResidual: activatesAfterResidual))
            return try pass { backend in
                backend.convolution(
                    upload(seq(5, 2, 3, 4, 2)), ImageShape(count: 2, height: 3, width: 4), convolution,
                    residual: upload(seq(11, 8, 3)))
            }
        }
        // F.relu(c + seq(11, *c.shape))
        #expect(
            close(
                try values(activatesAfterResidual: true),
                [
                    0, 0, 1.640625, 0, 0.046875, 0, 0, 0, 0, 0.125, 0, 0, 0, 0, 0, 0, 0, 0, 0.53125, 0.953125,
                    1.015625, 0, 2.265625, 0,
                ]))
        // F.relu(c) + seq(11, *c.shape)
        #expect(
            close(
                try values(activatesAfterResidual: false),
                [
                    -1.375, 0, 1.640625, -0.125, 1.25, -0.25, 1.125, -0.375, 1, 0.125, 0.875, -0.625, 0.75, -0.75,
                    0.625, -0.875, 0.5, -1, 0.53125, 0.953125, 1.015625, -1.25, 2.265625, -1,
                ]))
    }

    @Test("average pooling is F.avg_pool2d, what remains left out") func averagePool() throws {
        // F.avg_pool2d(seq(5, 1, 5, 4, 2).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        #expect(
            close(
                try pass {
                    $0.averagePool(upload(seq(5, 20, 2)), ImageShape(count: 1, height: 5, width: 4), size: 2)
                }, [-0.40625, 0.21875, -0.0625, -0.15625, 0.25, 0.15625, -0.125, -0.21875]))
    }

    // by = ((torch.arange(5 * 4 * 3) * 37) % 256).reshape(1, 5, 4, 3)
    // px = (by / 255 - mean) / deviation, those of clip.load
    private let bytes = (0..<60).map { UInt8($0 * 37 % 256) }

    @Test("pixels are normalised as by ToTensor and Normalize") func pixels() throws {
        let values = try bytes.withUnsafeBufferPointer { bytes in
            try pass { $0.pixels(Pixels(.bytes(bytes), count: 1, height: 5, width: 4), .openAI) }
        }
        // px[0, 0]
        #expect(
            close(
                Array(values.prefix(12)),
                [
                    -1.7922625, -1.1968097, -0.42793491, -0.17183718, 0.46905261, 1.1504924, 1.4485882, -1.7070738,
                    -0.91141714, -0.66818368, -0.04121152, 0.66701015,
                ]))
        // The same pictures as [1, 3, 5, 4] floats, already normalised
        let planes = (0..<3).flatMap { channel in (0..<20).map { values[$0 * 3 + channel] } }
        let again = try planes.withUnsafeBufferPointer { planes in
            try pass { $0.pixels(Pixels(.floats(planes), count: 1, height: 5, width: 4), .openAI) }
        }
        #expect(again == values)
    }

    @Test("patches are F.conv2d with stride, class token and positions") func patches() throws {
        // pt = F.conv2d(px.permute(0, 3, 1, 2), seq(5, 2, 3, 2, 2), seq(3, 2), stride=2).flatten(2).transpose(1, 2)
        // torch.cat([seq(7, 1, 1, 2), pt], 1) + seq(9, 5, 2)
        let patches = backend.prepare(
            PatchParameters(
                weight: seq(5, 2, 3, 2, 2), bias: seq(3, 2), classToken: seq(7, 2), positions: seq(9, 5, 2),
                normalization: .openAI))
        let values = try bytes.withUnsafeBufferPointer { bytes in
            try pass { try $0.patches(Pixels(.bytes(bytes), count: 1, height: 5, width: 4), patches) }
        }
        #expect(
            close(
                values,
                [
                    -2.75, -0.75, 1.0722195, -1.3307485, -7.3002482, 5.6098637, -0.50747362, -3.5146599, -4.8782377,
                    -1.6345484,
                ]))
    }

    @Test("tokens are two embeddings") func tokens() throws {
        // F.embedding(torch.tensor([3, 0, 3]), seq(5, 4, 3)) + F.embedding(torch.tensor([0, 1, 2]), seq(7, 3, 3))
        let tokens = backend.prepare(TokenParameters(table: HostMatrix(seq(5, 4, 3)), positions: seq(7, 3, 3)))
        #expect(
            close(
                try pass { try $0.tokens([3, 0, 3], positions: [0, 1, 2], tokens) },
                [0, -1.375, 0.125, -0.125, -1.5, 0, 2.375, -1.875, -0.375]))
    }

    @Test("rows are selected, averaged and brought to unit length") func rows() throws {
        let x: [Float] = [3, 4, 0, 0, 1, -2]
        #expect(
            try pass { $0.selectRows($0.upload(x, rows: 3, columns: 2), [2, 0, 2]) } == [1, -2, 3, 4, 1, -2])
        #expect(
            try pass { $0.meanRows($0.upload(x, rows: 3, columns: 2), Sequences(lengths: [2, 1])) } == [1.5, 2, 1, -2])
        let unit = try pass { backend in
            let matrix = backend.upload(x, rows: 3, columns: 2)
            backend.normalizeRows(matrix)
            return matrix
        }
        // F.normalize(torch.tensor([[3, 4.], [0, 0], [1, -2]]), dim=1)
        #expect(close(unit, [0.6, 0.8, 0, 0, 0.4472136, -0.89442719]))
    }

    @Test("a ticket is waited on once, and passes may be waited on in any order") func tickets() throws {
        let tickets = (0..<3).map { i in
            backend.begin(alone: true)
            return backend.submit(backend.upload([Float(i)], rows: 1, columns: 1))
        }
        #expect(try backend.wait(tickets[2]) == [2])
        #expect(try backend.wait(tickets[0]) == [0])
        #expect(throws: BackendError.self) { try backend.wait(tickets[0]) }
    }
}

/// What every backend reads its weights through.
@Suite struct HostMatrixTests {
    /// Small whole numbers, exact in every type.
    private func values(_ count: Int) -> [Float] { (0..<count).map { Float($0 % 251 - 125) } }

    @Test("rows are read from parts, transposed or not, of any type and alignment", arguments: ElementType.allCases)
    func rows(type: ElementType) {
        let (rows, columns) = (7, 5)
        let all = values(rows * columns)
        for transposed in [false, true] {
            let parts = [0..<3, 3..<4, 4..<7].map { range in
                var part: [Float] = []
                if transposed {
                    for c in 0..<columns { for r in range { part.append(all[r * columns + c]) } }
                } else {
                    part = Array(all[(range.lowerBound * columns)..<(range.upperBound * columns)])
                }
                return HostTensor(
                    part, shape: transposed ? [columns, range.count] : [range.count, columns], as: type,
                    aligned: false)
            }
            let matrix = HostMatrix(parts, transposed: transposed)
            #expect(matrix.rows == rows && matrix.columns == columns)
            #expect(matrix.floats() == all)
            let some = [Float](unsafeUninitializedCapacity: 4 * columns) { buffer, initialized in
                matrix.copyRows(2..<6, into: UnsafeMutableBufferPointer(rebasing: buffer[..<(4 * columns)]))
                initialized = 4 * columns
            }
            #expect(some == Array(all[(2 * columns)..<(6 * columns)]))
        }
    }
}
