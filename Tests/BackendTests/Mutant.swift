// Backends that are wrong in one way each, and honest ones of every precision: what the conformance suite is tested
// with.

import BackendTesting
import CLIPCompute

/// One way to be wrong, and which cases must notice.
enum Fault: String, CaseIterable, Sendable {
    case none
    // Parameters
    case dropsLinearBias, dropsNormBias, smallerEpsilon, swapsQuickGELU, swapsGELUTanh, dropsLayerScale
    case swapsGateHalves, dropsScale, reversesBiasHeads, dropsQueryBias, dropsPoolPositions, dropsOutputBias
    case dropsConvolutionBias, activatesBeforeResidual, dropsClassToken, shiftsPositions, skipsNormalization
    case dropsTokenPositions, roundsWeightsToTF32, quantizesBeforeGain
    // Operations
    case onePassVariance, losesResidual, seesTheFuture, seesOtherSequences, losesPooledRow, averagesOneTooFew
    case repeatsNoRow, repeatsNoQuery, zeroRowBecomesNaN, meanOfQueries
    // Memory and passes
    case writesOneRowTooMany, leavesAnElementUnwritten, overwritesLivingMatrix, roundsByBatch, roundsByPass
    case touchesNeighbours, mixesTickets

    /// Beginnings of the names of cases that fail; no other does, but for chains and lanes.
    var caughtBy: [String] {
        switch self {
        case .none: []
        case .dropsLinearBias, .swapsGateHalves, .dropsLayerScale, .losesResidual, .quantizesBeforeGain: ["linear"]
        case .swapsQuickGELU, .swapsGELUTanh: ["linear", "convolution"]
        case .dropsNormBias, .smallerEpsilon: ["norm", "linear", "attention", "pooledAttention"]
        case .onePassVariance: ["norm"]
        case .roundsWeightsToTF32: ["linear", "attention", "pooledAttention", "convolution", "patches"]
        case .touchesNeighbours, .leavesAnElementUnwritten, .writesOneRowTooMany,
            .roundsByBatch, .roundsByPass:
            ["linear"]
        case .overwritesLivingMatrix: ["chain"]
        case .mixesTickets: ["lanes"]
        case .dropsScale, .reversesBiasHeads, .seesTheFuture, .seesOtherSequences, .repeatsNoQuery: ["attention"]
        case .dropsQueryBias, .dropsPoolPositions, .dropsOutputBias, .losesPooledRow: ["pooledAttention"]
        case .dropsConvolutionBias, .activatesBeforeResidual: ["convolution"]
        case .dropsClassToken, .shiftsPositions: ["patches"]
        case .skipsNormalization: ["patches", "pixels", "convolution"]
        case .dropsTokenPositions: ["tokens"]
        case .averagesOneTooFew: ["averagePool"]
        case .repeatsNoRow: ["selectRows"]
        case .zeroRowBecomesNaN: ["normalizeRows"]
        case .meanOfQueries: ["meanRows"]
        }
    }
}

/// The reference with values stored as the precision says, and a fault.
final class Mutant: Backend {
    typealias Matrix = ReferenceBackend.Matrix
    typealias QueryKeyValueMatrix = ReferenceBackend.QueryKeyValueMatrix
    typealias Norm = ReferenceBackend.Norm
    typealias QueryKeyValue = ReferenceBackend.QueryKeyValue
    typealias PooledAttention = ReferenceBackend.PooledAttention
    typealias Convolution = ReferenceBackend.Convolution
    typealias Patches = ReferenceBackend.Patches
    typealias Tokens = ReferenceBackend.Tokens
    typealias AttentionBias = ReferenceBackend.AttentionBias

    struct Linear {
        var linear: ReferenceBackend.Linear
        /// Apart from the linear, where its result is quantised.
        var norm: ReferenceBackend.Norm?
    }

    let fault: Fault
    let precision: Precision
    private let reference = ReferenceBackend()
    /// Matrices of the pass, for the fault that forgets who lives.
    private var made: [Matrix] = []
    private var passes = 0
    private var lastTicket: Ticket?

    init(_ fault: Fault, precision: Precision = .fp32) {
        self.fault = fault
        self.precision = precision
    }

    var device: DeviceInfo { reference.device }
    var laneCount: Int { reference.laneCount }
    var busySeconds: Double { reference.busySeconds }
    func preferredRows(width: Int) -> Int { reference.preferredRows(width: width) }
    var guardsMemory: Bool {
        get { reference.guardsMemory }
        set { reference.guardsMemory = newValue }
    }
    func damagedGuards() -> Int { reference.damagedGuards() }

    // MARK: Load

    private func faulty(_ parameters: NormParameters) -> NormParameters {
        var parameters = parameters
        if fault == .dropsNormBias { parameters.bias = nil }
        if fault == .smallerEpsilon { parameters.epsilon = 1e-6 }
        return parameters
    }

    private func faulty(_ activation: Activation) -> Activation {
        switch (fault, activation) {
        case (.swapsQuickGELU, .quickGELU): .gelu
        case (.swapsGELUTanh, .geluTanh): .gelu
        default: activation
        }
    }

    /// Ten bits of fraction, as tensor cores take them where nobody forbids it.
    private func tf32(_ value: Float) -> Float { Float(bitPattern: (value.bitPattern &+ 0x1000) & 0xffff_e000) }

    private func faulty(_ weight: HostMatrix) -> HostMatrix {
        guard fault == .roundsWeightsToTF32 else { return weight }
        return HostMatrix(HostTensor(weight.floats().map(tf32), shape: [weight.rows, weight.columns]))
    }

    private func faulty(_ weight: HostTensor) -> HostTensor {
        fault == .roundsWeightsToTF32 ? HostTensor(weight.floats().map(tf32), shape: weight.shape) : weight
    }

    func prepare(_ parameters: NormParameters) -> Norm { reference.prepare(faulty(parameters)) }

    func prepare(_ parameters: LinearParameters) -> Linear {
        var parameters = parameters
        parameters.norm = parameters.norm.map(faulty)
        parameters.activation = faulty(parameters.activation)
        if fault == .dropsLinearBias { parameters.bias = [] }
        if fault == .dropsLayerScale { parameters.layerScale = nil }
        var weight = parameters.weight.floats()
        let shape = [parameters.weight.rows, parameters.weight.columns]
        if fault == .swapsGateHalves, parameters.gated {
            weight = Array(weight[(weight.count / 2)...] + weight[..<(weight.count / 2)])
        }
        if fault == .roundsWeightsToTF32 { weight = weight.map(tf32) }
        var norm: NormParameters?
        if precision == .int8 {
            norm = parameters.norm
            parameters.norm = nil
            if let folded = norm, fault != .quantizesBeforeGain {
                // Gain and bias of the norm into the weight, so that outlier channels do not meet the quantiser.
                let gain = folded.weight.floats()
                let shift = folded.bias?.floats() ?? gain.map { _ in 0 }
                var bias = parameters.bias.flatMap { $0.floats() }
                if bias.isEmpty { bias = [Float](repeating: 0, count: shape[0]) }
                for row in 0..<shape[0] {
                    for c in 0..<shape[1] {
                        bias[row] += shift[c] * weight[row * shape[1] + c]
                        weight[row * shape[1] + c] *= gain[c]
                    }
                }
                parameters.bias = [HostTensor(bias, shape: [bias.count])]
                norm?.weight = HostTensor(gain.map { _ in 1 }, shape: [gain.count])
                norm?.bias = nil
            }
            for row in 0..<shape[0] {
                let range = (row * shape[1])..<((row + 1) * shape[1])
                weight.replaceSubrange(range, with: quantized(weight[range]))
            }
        }
        parameters.weight = HostMatrix(HostTensor(weight, shape: shape))
        return Linear(linear: reference.prepare(parameters), norm: norm.map { reference.prepare($0) })
    }

    func prepare(_ parameters: QueryKeyValueParameters) -> QueryKeyValue {
        var parameters = parameters
        parameters.norm = parameters.norm.map(faulty)
        parameters.weight = faulty(parameters.weight)
        if fault == .dropsScale { parameters.shape.scale = 1 }
        return reference.prepare(parameters)
    }

    func prepare(_ parameters: PooledAttentionParameters) -> PooledAttention {
        var parameters = parameters
        parameters.norm = parameters.norm.map(faulty)
        parameters.valueWeight = faulty(parameters.valueWeight)
        if fault == .dropsQueryBias { parameters.queryBias = nil }
        if fault == .dropsOutputBias { parameters.output.bias = [] }
        if fault == .dropsPoolPositions, case .mean(let positions) = parameters.query {
            parameters.query = .mean(
                positions: HostTensor([Float](repeating: 0, count: positions.count), shape: positions.shape))
        }
        return reference.prepare(parameters)
    }

    func prepare(_ parameters: ConvolutionParameters) -> Convolution {
        var parameters = parameters
        parameters.activation = faulty(parameters.activation)
        parameters.weight = faulty(parameters.weight)
        if fault == .dropsConvolutionBias { parameters.bias = nil }
        if fault == .activatesBeforeResidual { parameters.activatesAfterResidual = false }
        return reference.prepare(parameters)
    }

    func prepare(_ parameters: PatchParameters) -> Patches {
        var parameters = parameters
        parameters.weight = faulty(parameters.weight)
        if fault == .dropsClassToken, let token = parameters.classToken {
            parameters.classToken = HostTensor([Float](repeating: 0, count: token.count), shape: token.shape)
        }
        if fault == .shiftsPositions, let positions = parameters.positions {
            let values = positions.floats()
            let width = parameters.width
            parameters.positions = HostTensor(Array(values[width...] + values[..<width]), shape: positions.shape)
        }
        if fault == .skipsNormalization { parameters.normalization = Self.identity }
        return reference.prepare(parameters)
    }

    func prepare(_ parameters: TokenParameters) -> Tokens {
        var parameters = parameters
        if fault == .dropsTokenPositions { parameters.positions = nil }
        return reference.prepare(parameters)
    }

    func prepareAttentionBias(_ bias: HostTensor) -> AttentionBias {
        guard fault == .reversesBiasHeads else { return reference.prepareAttentionBias(bias) }
        let values = bias.floats()
        let size = bias.shape[1] * bias.shape[2]
        let reversed = (0..<bias.shape[0]).reversed().flatMap { values[($0 * size)..<(($0 + 1) * size)] }
        return reference.prepareAttentionBias(HostTensor(reversed, shape: bias.shape))
    }

    private static let identity = PixelNormalization(mean: [0, 0, 0], deviation: [1, 1, 1])

    // MARK: Passes

    func begin(alone: Bool) {
        made = []
        passes += 1
        reference.begin(alone: alone)
    }

    func submit(_ result: Matrix) -> Ticket {
        let ticket = reference.submit(result)
        lastTicket = ticket
        return ticket
    }

    private var waited: [Ticket: [Float]] = [:]

    func wait(_ ticket: Ticket) throws(BackendError) -> [Float] {
        guard fault == .mixesTickets, let lastTicket else { return try reference.wait(ticket) }
        if waited[lastTicket] == nil { waited[lastTicket] = try reference.wait(lastTicket) }
        return waited[lastTicket] ?? []
    }

    // MARK: Values as the precision stores them

    private func stored(_ matrix: Matrix) -> Matrix {
        for i in matrix.values.indices {
            let value = matrix.values[i]
            matrix.values[i] = precision == .fp16 ? Double(Float16(value)) : Double(Float(value))
        }
        made.append(matrix)
        return matrix
    }

    /// 8 bits, a step of max/127.
    private func quantized(_ values: ArraySlice<Float>) -> [Float] {
        let greatest = values.reduce(0) { max($0, abs($1)) }
        return values.map { greatest > 0 ? ($0 / greatest * 127).rounded() * greatest / 127 : 0 }
    }

    // MARK: Operations

    func upload(_ values: [Float], rows: Int, columns: Int) -> Matrix {
        stored(reference.upload(values, rows: rows, columns: columns))
    }

    func patches(_ pixels: Pixels, _ patches: Patches) throws(BackendError) -> Matrix {
        stored(try reference.patches(pixels, patches))
    }

    func pixels(_ pixels: Pixels, _ normalization: PixelNormalization) -> Matrix {
        stored(reference.pixels(pixels, fault == .skipsNormalization ? Self.identity : normalization))
    }

    func tokens(_ ids: [Int32], positions: [Int32], _ tokens: Tokens) throws(BackendError) -> Matrix {
        stored(try reference.tokens(ids, positions: positions, tokens))
    }

    func norm(_ x: Matrix, _ norm: Norm) {
        if fault == .onePassVariance {
            // The row moved by what cancellation would have made of its variance.
            for r in 0..<x.rows {
                let row = x.row(r)
                let mean = row.reduce(Float(0)) { $0 + Float($1) } / Float(row.count)
                let squares = row.reduce(Float(0)) { $0 + Float($1) * Float($1) } / Float(row.count)
                let error = Double(max(squares - mean * mean, 0))
                let variance = row.reduce(0) { $0 + ($1 - Double(mean)) * ($1 - Double(mean)) } / Double(row.count)
                let ratio = ((variance + 1e-3) / (error + 1e-3)).squareRoot()
                for c in row.indices { row[c] = Double(mean) + (row[c] - Double(mean)) * ratio }
            }
        }
        reference.norm(x, norm)
        _ = stored(x)
    }

    func linear(_ x: Matrix, _ linear: Linear) -> Matrix {
        var input = x
        if precision == .int8 {
            input = reference.selectRows(x, Array(0..<x.rows))
            if let norm = linear.norm { reference.norm(input, norm) }
            for r in 0..<input.rows {
                let row = input.row(r)
                _ = row.update(from: quantized(row.map(Float.init)[...]).map(Double.init))
            }
        }
        let y = stored(reference.linear(input, linear.linear))
        switch fault {
        case .writesOneRowTooMany:
            if let end = y.values.baseAddress { (end + y.values.count).update(repeating: 0, count: 1) }
        case .leavesAnElementUnwritten: y.values[y.values.count - 1] = .nan
        case .overwritesLivingMatrix where made.count == 7: made[1].values.update(repeating: 0)
        case .roundsByBatch where y.rows % 2 == 1, .roundsByPass where passes % 2 == 1:
            for i in y.values.indices { y.values[i] = Double(Float(y.values[i]).nextUp) }
        case .touchesNeighbours:
            for r in 0..<y.rows { for c in 0..<y.columns { y.row(r)[c] += 0 * y.row(0)[c] } }
        default: break
        }
        return y
    }

    func linear(_ x: Matrix, _ linear: Linear, addingTo y: Matrix) {
        let sum = self.linear(x, linear)
        for i in y.values.indices { y.values[i] = (fault == .losesResidual ? 0 : y.values[i]) + sum.values[i] }
        _ = stored(y)
    }

    func queryKeyValue(_ x: Matrix, rows: [Int]?, _ queryKeyValue: QueryKeyValue) -> QueryKeyValueMatrix {
        var rows = rows
        if fault == .repeatsNoQuery, let count = rows?.count { rows = (0..<count).map { $0 % x.rows } }
        let result = reference.queryKeyValue(x, rows: rows, queryKeyValue)
        for matrix in [result.query, result.key, result.value] { _ = stored(matrix) }
        return result
    }

    func attention(_ x: QueryKeyValueMatrix, _ sequences: Sequences, mask: AttentionMask<AttentionBias>) -> Matrix {
        var mask = mask
        var sequences = sequences
        if fault == .seesTheFuture, case .causal = mask { mask = .none }
        if fault == .seesOtherSequences, case .none = mask {
            sequences = Sequences(
                segments: sequences.segments.map { .init(queries: $0.queries, keys: 0..<sequences.rows) },
                rows: sequences.rows)
        }
        return stored(reference.attention(x, sequences, mask: mask))
    }

    func pooledAttention(_ x: Matrix, _ sequences: Sequences, rows: [Int], _ pooledAttention: PooledAttention) -> Matrix
    {
        let y = reference.pooledAttention(x, sequences, rows: rows, pooledAttention)
        if fault == .losesPooledRow {
            for (index, row) in rows.enumerated() { for c in 0..<y.columns { y.row(index)[c] -= x.row(row)[c] } }
        }
        return stored(y)
    }

    func convolution(_ x: Matrix, _ shape: ImageShape, _ convolution: Convolution, residual: Matrix?) -> Matrix {
        stored(reference.convolution(x, shape, convolution, residual: residual))
    }

    func averagePool(_ x: Matrix, _ shape: ImageShape, size: Int) -> Matrix {
        let y = reference.averagePool(x, shape, size: size)
        if fault == .averagesOneTooFew {
            for i in y.values.indices { y.values[i] *= Double(size * size) / Double(size * size - 1) }
        }
        return stored(y)
    }

    func selectRows(_ x: Matrix, _ rows: [Int]) -> Matrix {
        var rows = rows
        if fault == .repeatsNoRow {
            for i in rows.indices.dropFirst() where rows[i] == rows[i - 1] { rows[i] = min(rows[i] + 1, x.rows - 1) }
        }
        return stored(reference.selectRows(x, rows))
    }

    func meanRows(_ x: Matrix, _ sequences: Sequences) -> Matrix {
        guard fault == .meanOfQueries else { return stored(reference.meanRows(x, sequences)) }
        return stored(reference.selectRows(x, sequences.segments.map(\.queries.lowerBound)))
    }

    func normalizeRows(_ x: Matrix) {
        if fault == .zeroRowBecomesNaN {
            for r in 0..<x.rows where x.row(r).allSatisfy({ $0 == 0 }) { x.row(r).update(repeating: .nan) }
        }
        reference.normalizeRows(x)
        _ = stored(x)
    }
}
