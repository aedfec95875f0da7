// The living definition of every operation of the contract: one loop for each index of its formula, every value and
// every sum in double. It is what the conformance suite measures other backends against, and a device for the tests
// of the floors above. It is right before it is anything else; to be fast is the other backends' work.

import CLIPCompute

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Computes in double precision on the calling thread, at once: a pass is over when its last operation returns.
///
/// Matrices know their pass, so that a graph which keeps one beyond it is told (`precondition`).
package final class ReferenceBackend: Backend {
    /// Row-major doubles between two guard bands.
    package final class Matrix {
        package let rows: Int
        package let columns: Int
        fileprivate let pass: UInt64
        private let memory: UnsafeMutableBufferPointer<Double>

        /// Doubles before and after the values.
        private static let guardCount = 32
        /// A NaN that no operation makes, so that a band can be told from what runs over it.
        private static let guardBits: UInt64 = 0x7ff8_c11b_6a2d_5eed

        fileprivate init(rows: Int, columns: Int, pass: UInt64) {
            self.rows = rows
            self.columns = columns
            self.pass = pass
            memory = .allocate(capacity: rows * columns + 2 * Self.guardCount)
            memory.initialize(repeating: Double(bitPattern: Self.guardBits))
            values.update(repeating: .nan)
        }

        deinit { memory.deallocate() }

        package var values: UnsafeMutableBufferPointer<Double> {
            UnsafeMutableBufferPointer(rebasing: memory.dropFirst(Self.guardCount).prefix(rows * columns))
        }

        package func row(_ r: Int) -> UnsafeMutableBufferPointer<Double> {
            UnsafeMutableBufferPointer(rebasing: values[(r * columns)..<((r + 1) * columns)])
        }

        fileprivate var damagedGuards: Int {
            [memory.prefix(Self.guardCount), memory.suffix(Self.guardCount)].count { band in
                band.contains { $0.bitPattern != Self.guardBits }
            }
        }
    }

    package final class QueryKeyValueMatrix {
        let shape: AttentionShape
        /// `[rows, heads · keyWidth]`, `[rows, heads · keyWidth]`, `[rows, heads · valueWidth]`
        package let query: Matrix, key: Matrix, value: Matrix

        fileprivate init(shape: AttentionShape, query: Matrix, key: Matrix, value: Matrix) {
            self.shape = shape
            self.query = query
            self.key = key
            self.value = value
        }
    }

    package struct Norm {
        let kind: NormParameters.Kind
        let weight: [Double]
        let bias: [Double]?
        let epsilon: Double

        init(_ parameters: NormParameters) {
            kind = parameters.kind
            weight = doubles(parameters.weight)
            bias = parameters.bias.map(doubles)
            epsilon = Double(parameters.epsilon)
            precondition(bias.map { $0.count == weight.count } ?? true, "a norm's bias is as wide as its gain")
        }

        func apply(_ x: UnsafeMutableBufferPointer<Double>) {
            precondition(x.count == weight.count, "a norm of \(weight.count) columns on \(x.count)")
            let n = Double(x.count)
            let mean = kind == .layer ? x.reduce(0, +) / n : 0
            let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
            let deviation = (variance + epsilon).squareRoot()
            for c in x.indices { x[c] = (x[c] - mean) / deviation * weight[c] + (bias?[c] ?? 0) }
        }
    }

    package struct Linear {
        let inputs: Int
        let outputs: Int
        let weight: [Double]
        let bias: [Double]
        let norm: Norm?
        let activation: Activation
        let gated: Bool
        let layerScale: [Double]?

        init(_ parameters: LinearParameters) {
            inputs = parameters.inputs
            outputs = parameters.outputs
            weight = parameters.weight.floats().map(Double.init)
            bias = parameters.bias.flatMap(doubles)
            norm = parameters.norm.map(Norm.init)
            activation = parameters.activation
            gated = parameters.gated
            layerScale = parameters.layerScale.map(doubles)
            precondition(bias.isEmpty || bias.count == parameters.weight.rows, "a bias for each row of the weight")
            precondition(layerScale.map { $0.count == outputs } ?? true, "a layer scale for each output")
            precondition(!gated || parameters.weight.rows == 2 * outputs, "a gated weight has two halves")
        }
    }

    package struct QueryKeyValue {
        let shape: AttentionShape
        let query: Linear, key: Linear, value: Linear
    }

    package struct PooledAttention {
        enum Query {
            case row
            case learned([Double])
            case mean(positions: [Double])
        }
        let shape: AttentionShape
        let source: Query
        let norm: Norm?
        let query: Linear, key: Linear, value: Linear, output: Linear
    }

    package struct Convolution {
        let outputs: Int, inputs: Int, kernelHeight: Int, kernelWidth: Int
        /// `[outputs, kernelHeight, kernelWidth, inputs]`
        let weight: [Double]
        let bias: [Double]?
        let stride: Int, padding: Int
        let activation: Activation
        let activatesAfterResidual: Bool
    }

    package struct Patches {
        let parameters: PatchParameters
        let weight: [Double]
        let bias: [Double]?, classToken: [Double]?, positions: [Double]?
    }

    package struct Tokens {
        let width: Int
        let table: [Double]
        let positions: [Double]?
    }

    package struct AttentionBias {
        /// `[heads, queries, keys]`
        let values: [Double]
        let heads: Int, queries: Int, keys: Int
    }

    package let device = DeviceInfo(
        identifier: "reference", kind: .cpu, name: "reference", driver: "double precision, one loop per index",
        memory: nil, precisions: [.fp32], capabilities: [])
    package let precision = Precision.fp32
    package let laneCount = 2
    package let busySeconds = 0.0
    package var guardsMemory = false

    private var pass: UInt64 = 0
    private var inPass = false
    private var results: [Ticket: [Float]] = [:]
    /// The matrices of the pass, kept for their guard bands while `guardsMemory` is set.
    private var guarded: [Matrix] = []

    package init() {}

    /// What it says it prefers, by the width of the rows.
    package var rowsOfAPass: (_ width: Int) -> Int = { _ in 64 }
    package func preferredRows(width: Int) -> Int { rowsOfAPass(width) }

    /// For tests of who asks: passes beside each other by their rows altogether, and which passes were begun alone.
    package var passesBesideEachOther: (_ rows: Int) -> Int = { _ in 1 }
    package private(set) var begunAlone: [Bool] = []

    /// For the same: the rows of a pass that memory is enough for.
    package var rowsInMemory = Int.max
    private func checkMemory(_ rows: Int) throws(BackendError) {
        if rows > rowsInMemory { throw BackendError(.outOfMemory, "no memory for \(rows) rows") }
    }

    package func concurrentPasses(of rows: Int, alone _: Bool) -> Int { passesBesideEachOther(rows) }
    /// Passes begun so far.
    package var passCount: Int { Int(pass) }

    // MARK: Load

    package func prepare(_ parameters: NormParameters) -> Norm { Norm(parameters) }

    package func prepare(_ parameters: LinearParameters) -> Linear { Linear(parameters) }

    package func prepare(_ parameters: QueryKeyValueParameters) -> QueryKeyValue {
        let shape = parameters.shape
        let weight = parameters.weight.floats()
        let bias = parameters.bias.flatMap { $0.floats() }
        let inputs = parameters.weight.columns
        let keys = shape.heads * shape.keyWidth
        let values = shape.heads * shape.valueWidth
        precondition(parameters.weight.rows == 2 * keys + values, "queries, keys and values do not fill the weight")
        precondition(bias.isEmpty || bias.count == 2 * keys + values, "a bias for each row of the weight")
        func part(_ rows: Range<Int>) -> Linear {
            Linear(
                LinearParameters(
                    weight: HostMatrix(
                        HostTensor(
                            Array(weight[(rows.lowerBound * inputs)..<(rows.upperBound * inputs)]),
                            shape: [rows.count, inputs])),
                    bias: bias.isEmpty ? [] : [HostTensor(Array(bias[rows]), shape: [rows.count])],
                    norm: parameters.norm))
        }
        return QueryKeyValue(
            shape: shape, query: part(0..<keys), key: part(keys..<(2 * keys)),
            value: part((2 * keys)..<(2 * keys + values)))
    }

    package func prepare(_ parameters: PooledAttentionParameters) -> PooledAttention {
        let source: PooledAttention.Query =
            switch parameters.query {
            case .row: .row
            case .learned(let vector): .learned(doubles(vector))
            case .mean(let positions): .mean(positions: doubles(positions))
            }
        func projection(_ weight: HostMatrix, _ bias: HostTensor?) -> Linear {
            Linear(LinearParameters(weight: weight, bias: bias.map { [$0] } ?? []))
        }
        return PooledAttention(
            shape: parameters.shape, source: source, norm: parameters.norm.map(Norm.init),
            query: projection(parameters.queryWeight, parameters.queryBias),
            key: projection(parameters.keyWeight, parameters.keyBias),
            value: projection(parameters.valueWeight, parameters.valueBias), output: Linear(parameters.output))
    }

    package func prepare(_ parameters: ConvolutionParameters) -> Convolution {
        let shape = parameters.weight.shape
        let (outputs, inputs, height, width) = (shape[0], shape[1], shape[2], shape[3])
        let source = doubles(parameters.weight)
        var weight = source
        for o in 0..<outputs {
            for i in 0..<inputs {
                for y in 0..<height {
                    for x in 0..<width {
                        weight[((o * height + y) * width + x) * inputs + i] =
                            source[((o * inputs + i) * height + y) * width + x]
                    }
                }
            }
        }
        return Convolution(
            outputs: outputs, inputs: inputs, kernelHeight: height, kernelWidth: width, weight: weight,
            bias: parameters.bias.map(doubles), stride: parameters.stride, padding: parameters.padding,
            activation: parameters.activation, activatesAfterResidual: parameters.activatesAfterResidual)
    }

    package func prepare(_ parameters: PatchParameters) -> Patches {
        Patches(
            parameters: parameters, weight: doubles(parameters.weight), bias: parameters.bias.map(doubles),
            classToken: parameters.classToken.map(doubles), positions: parameters.positions.map(doubles))
    }

    package func prepare(_ parameters: TokenParameters) -> Tokens {
        Tokens(
            width: parameters.table.columns, table: parameters.table.floats().map(Double.init),
            positions: parameters.positions.map(doubles))
    }

    package func prepareAttentionBias(_ bias: HostTensor) -> AttentionBias {
        AttentionBias(values: doubles(bias), heads: bias.shape[0], queries: bias.shape[1], keys: bias.shape[2])
    }

    // MARK: Passes

    package func begin(alone: Bool) {
        begunAlone.append(alone)
        pass += 1
        inPass = true
        guarded = []
    }

    package func submit(_ result: Matrix) -> Ticket {
        check(result)
        let ticket = Ticket(number: pass)
        results[ticket] = result.values.map(Float.init)
        inPass = false
        return ticket
    }

    package func wait(_ ticket: Ticket) throws(BackendError) -> [Float] {
        guard let result = results.removeValue(forKey: ticket) else {
            throw BackendError(.execution, "ticket \(ticket.number) is unknown, or was waited on before")
        }
        return result
    }

    package func damagedGuards() -> Int { guarded.reduce(0) { $0 + $1.damagedGuards } }

    private func make(_ rows: Int, _ columns: Int) -> Matrix {
        precondition(inPass, "an operation outside a pass")
        let matrix = Matrix(rows: rows, columns: columns, pass: pass)
        if guardsMemory { guarded.append(matrix) }
        return matrix
    }

    private func check(_ matrix: Matrix) {
        precondition(inPass && matrix.pass == pass, "a matrix of another pass")
    }

    // MARK: Operations

    package func upload(_ values: [Float], rows: Int, columns: Int) -> Matrix {
        precondition(values.count == rows * columns, "\(values.count) values for [\(rows), \(columns)]")
        let y = make(rows, columns)
        for i in values.indices { y.values[i] = Double(values[i]) }
        return y
    }

    package func patches(_ pixels: Pixels, _ patches: Patches) throws(BackendError) -> Matrix {
        let parameters = patches.parameters
        let (size, width) = (parameters.patchSize, parameters.width)
        let (down, across) = (pixels.height / size, pixels.width / size)
        let perPicture = parameters.rowsPerPicture(height: pixels.height, width: pixels.width)
        let first = perPicture - down * across
        precondition(
            patches.positions.map { $0.count == perPicture * width } ?? true, "a position for each row of a picture")
        try checkMemory(pixels.count * perPicture)
        let y = make(pixels.count * perPicture, width)
        for picture in 0..<pixels.count {
            for row in 0..<perPicture {
                let line = y.row(picture * perPicture + row)
                if row < first, let classToken = patches.classToken {
                    _ = line.update(from: classToken)
                } else {
                    let (top, left) = ((row - first) / across * size, (row - first) % across * size)
                    var patch: [Double] = []
                    for channel in 0..<3 {
                        for dy in 0..<size {
                            for dx in 0..<size {
                                patch.append(
                                    value(pixels, parameters.normalization, picture, channel, top + dy, left + dx))
                            }
                        }
                    }
                    for c in 0..<width {
                        line[c] = dot(patch, 0, patches.weight, c * patch.count, patch.count) + (patches.bias?[c] ?? 0)
                    }
                }
                if let positions = patches.positions {
                    for c in 0..<width { line[c] += positions[row * width + c] }
                }
            }
        }
        return y
    }

    package func pixels(_ pixels: Pixels, _ normalization: PixelNormalization) -> Matrix {
        let y = make(pixels.count * pixels.height * pixels.width, 3)
        for row in 0..<y.rows {
            let (picture, place) = row.quotientAndRemainder(dividingBy: pixels.height * pixels.width)
            for channel in 0..<3 {
                y.values[row * 3 + channel] = value(
                    pixels, normalization, picture, channel, place / pixels.width, place % pixels.width)
            }
        }
        return y
    }

    package func tokens(_ ids: [Int32], positions: [Int32], _ tokens: Tokens) throws(BackendError) -> Matrix {
        try checkMemory(ids.count)
        precondition(
            positions.count == ids.count || tokens.positions == nil, "\(positions.count) positions for \(ids.count) ids"
        )
        let (y, width) = (make(ids.count, tokens.width), tokens.width)
        for r in 0..<y.rows {
            for c in 0..<width {
                y.values[r * width + c] = tokens.table[Int(ids[r]) * width + c]
                if let table = tokens.positions { y.values[r * width + c] += table[Int(positions[r]) * width + c] }
            }
        }
        return y
    }

    package func norm(_ x: Matrix, _ norm: Norm) {
        check(x)
        for r in 0..<x.rows { norm.apply(x.row(r)) }
    }

    package func linear(_ x: Matrix, _ linear: Linear) -> Matrix {
        check(x)
        precondition(x.columns == linear.inputs, "a linear of \(linear.inputs) inputs on \(x.columns) columns")
        let y = make(x.rows, linear.outputs)
        var h = [Double](repeating: 0, count: linear.inputs)
        for r in 0..<x.rows {
            h.withUnsafeMutableBufferPointer { h in
                _ = h.update(from: x.row(r))
                linear.norm?.apply(h)
            }
            func a(_ o: Int) -> Double {
                dot(h, 0, linear.weight, o * linear.inputs, linear.inputs) + (linear.bias.isEmpty ? 0 : linear.bias[o])
            }
            let line = y.row(r)
            for o in 0..<linear.outputs {
                let first = activate(a(o), linear.activation)
                line[o] = (linear.layerScale?[o] ?? 1) * (linear.gated ? first * a(o + linear.outputs) : first)
            }
        }
        return y
    }

    package func linear(_ x: Matrix, _ linear: Linear, addingTo y: Matrix) {
        check(y)
        precondition(x !== y, "y is not x")
        let sum = self.linear(x, linear)
        precondition(y.rows == sum.rows && y.columns == sum.columns, "the sum has y's shape")
        for i in y.values.indices { y.values[i] += sum.values[i] }
    }

    package func queryKeyValue(_ x: Matrix, rows: [Int]?, _ queryKeyValue: QueryKeyValue) -> QueryKeyValueMatrix {
        let x = rows.map { selectRows(x, $0) } ?? x
        return QueryKeyValueMatrix(
            shape: queryKeyValue.shape, query: linear(x, queryKeyValue.query), key: linear(x, queryKeyValue.key),
            value: linear(x, queryKeyValue.value))
    }

    package func attention(
        _ x: QueryKeyValueMatrix, _ sequences: Sequences, mask: AttentionMask<AttentionBias>
    ) -> Matrix {
        let shape = x.shape
        precondition(
            sequences.rows == x.query.rows, "\(sequences.rows) rows in sequences, \(x.query.rows) in the matrix")
        let y = make(x.query.rows, shape.heads * shape.valueWidth)
        for segment in sequences.segments {
            for (i, query) in segment.queries.enumerated() {
                for head in 0..<shape.heads {
                    attend(
                        shape, head: head, query: x.query.row(query), keys: segment.keys.map(x.key.row),
                        values: segment.keys.map(x.value.row), into: y.row(query)
                    ) { j in
                        switch mask {
                        case .none: 0
                        case .causal: segment.keys.lowerBound + j <= query ? 0 : -.infinity
                        case .bias(let bias): bias.values[(head * bias.queries + i) * bias.keys + j]
                        }
                    }
                }
            }
        }
        return y
    }

    package func pooledAttention(
        _ x: Matrix, _ sequences: Sequences, rows: [Int], _ pooledAttention: PooledAttention
    ) -> Matrix {
        check(x)
        let shape = pooledAttention.shape
        precondition(sequences.rows == x.rows, "\(sequences.rows) rows in sequences, \(x.rows) in the matrix")
        let pooled = make(sequences.count, shape.heads * shape.valueWidth)
        for (index, segment) in sequences.segments.enumerated() {
            // The rows that keys and values are made from, and the one that the query is made from.
            var sources = make(segment.keys.count, x.columns)
            for (j, key) in segment.keys.enumerated() {
                _ = sources.row(j).update(from: x.row(key))
                pooledAttention.norm?.apply(sources.row(j))
            }
            let query: Matrix
            switch pooledAttention.source {
            case .row:
                precondition(rows.count == sequences.count, "one row for each segment")
                query = make(1, x.columns)
                _ = query.values.update(from: x.row(rows[index]))
                pooledAttention.norm?.apply(query.values)
            case .learned(let vector):
                precondition(rows.isEmpty, "a learned query takes no rows")
                query = make(1, vector.count)
                _ = query.values.update(from: vector)
            case .mean(let positions):
                precondition(rows.isEmpty, "a mean query takes no rows")
                let all = make(sources.rows + 1, x.columns)
                for c in 0..<x.columns {
                    all.values[c] = (0..<sources.rows).reduce(0) { $0 + sources.row($1)[c] } / Double(sources.rows)
                }
                for j in 0..<sources.rows { _ = all.row(j + 1).update(from: sources.row(j)) }
                for i in all.values.indices { all.values[i] += positions[i] }
                sources = all
                query = make(1, x.columns)
                _ = query.values.update(from: all.row(0))
            }
            let projected = linear(query, pooledAttention.query)
            let key = linear(sources, pooledAttention.key)
            let value = linear(sources, pooledAttention.value)
            for head in 0..<shape.heads {
                attend(
                    shape, head: head, query: projected.row(0), keys: (0..<key.rows).map(key.row),
                    values: (0..<value.rows).map(value.row), into: pooled.row(index)
                ) { _ in 0 }
            }
        }
        let y = linear(pooled, pooledAttention.output)
        if case .row = pooledAttention.source {
            for (index, row) in rows.enumerated() {
                for c in 0..<y.columns { y.row(index)[c] += x.row(row)[c] }
            }
        }
        return y
    }

    package func convolution(
        _ x: Matrix, _ shape: ImageShape, _ convolution: Convolution, residual: Matrix?
    ) -> Matrix {
        check(x)
        let (inputs, outputs) = (convolution.inputs, convolution.outputs)
        precondition(x.rows == shape.rows && x.columns == inputs, "the matrix is not of the pictures' shape")
        let result = shape.convolved(
            kernelHeight: convolution.kernelHeight, kernelWidth: convolution.kernelWidth, stride: convolution.stride,
            padding: convolution.padding)
        let y = make(result.rows, outputs)
        precondition(
            residual.map { $0.rows == y.rows && $0.columns == y.columns } ?? true, "the residual has the result's shape"
        )
        for row in 0..<y.rows {
            let (picture, place) = row.quotientAndRemainder(dividingBy: result.height * result.width)
            let top = place / result.width * convolution.stride - convolution.padding
            let left = place % result.width * convolution.stride - convolution.padding
            for o in 0..<outputs {
                var sum = convolution.bias?[o] ?? 0
                for dy in 0..<convolution.kernelHeight where (0..<shape.height).contains(top + dy) {
                    for dx in 0..<convolution.kernelWidth where (0..<shape.width).contains(left + dx) {
                        let source = (picture * shape.height + top + dy) * shape.width + left + dx
                        let tap = (o * convolution.kernelHeight + dy) * convolution.kernelWidth + dx
                        sum += dot(x.values, source * inputs, convolution.weight, tap * inputs, inputs)
                    }
                }
                let r = residual?.row(row)[o] ?? 0
                y.row(row)[o] =
                    convolution.activatesAfterResidual
                    ? activate(sum + r, convolution.activation) : activate(sum, convolution.activation) + r
            }
        }
        return y
    }

    package func averagePool(_ x: Matrix, _ shape: ImageShape, size: Int) -> Matrix {
        check(x)
        precondition(x.rows == shape.rows, "the matrix is not of the pictures' shape")
        let result = shape.convolved(kernelHeight: size, kernelWidth: size, stride: size, padding: 0)
        let y = make(result.rows, x.columns)
        for row in 0..<y.rows {
            let (picture, place) = row.quotientAndRemainder(dividingBy: result.height * result.width)
            let (top, left) = (place / result.width * size, place % result.width * size)
            for c in 0..<x.columns {
                var sum = 0.0
                for dy in 0..<size {
                    for dx in 0..<size {
                        sum += x.row((picture * shape.height + top + dy) * shape.width + left + dx)[c]
                    }
                }
                y.row(row)[c] = sum / Double(size * size)
            }
        }
        return y
    }

    package func selectRows(_ x: Matrix, _ rows: [Int]) -> Matrix {
        check(x)
        let y = make(rows.count, x.columns)
        for (r, source) in rows.enumerated() { _ = y.row(r).update(from: x.row(source)) }
        return y
    }

    package func meanRows(_ x: Matrix, _ sequences: Sequences) -> Matrix {
        check(x)
        precondition(sequences.rows == x.rows, "\(sequences.rows) rows in sequences, \(x.rows) in the matrix")
        let y = make(sequences.count, x.columns)
        for (index, segment) in sequences.segments.enumerated() {
            for c in 0..<x.columns {
                y.row(index)[c] = segment.keys.reduce(0) { $0 + x.row($1)[c] } / Double(segment.keys.count)
            }
        }
        return y
    }

    package func normalizeRows(_ x: Matrix) {
        check(x)
        for r in 0..<x.rows {
            let row = x.row(r)
            let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
            if length > 0 { for c in row.indices { row[c] /= length } }
        }
    }
}

// MARK: The formulas that several operations share

/// One head of one query: softmax over the keys of scale · q · k + mask, and the sum of the values so weighted.
/// Each row holds all heads side by side; `mask` is asked for each key by its place in the segment.
private func attend(
    _ shape: AttentionShape, head: Int, query: UnsafeMutableBufferPointer<Double>,
    keys: [UnsafeMutableBufferPointer<Double>], values: [UnsafeMutableBufferPointer<Double>],
    into result: UnsafeMutableBufferPointer<Double>, mask: (Int) -> Double
) {
    let start = head * shape.keyWidth
    let scores = keys.indices.map { j in
        Double(shape.scale) * dot(query, start, keys[j], start, shape.keyWidth) + mask(j)
    }
    let highest = scores.reduce(-.infinity, max)
    let weights = scores.map { exp($0 - highest) }
    let total = weights.reduce(0, +)
    for c in (head * shape.valueWidth)..<((head + 1) * shape.valueWidth) {
        var sum = 0.0
        // A key that is hidden is not read: what it holds must not matter, were it a NaN.
        for j in values.indices where weights[j] > 0 { sum += weights[j] * values[j][c] }
        result[c] = sum / total
    }
}

func activate(_ x: Double, _ activation: Activation) -> Double {
    switch activation {
    case .none: x
    case .relu: max(x, 0)
    case .quickGELU: x / (1 + exp(-1.702 * x))
    case .gelu: x * 0.5 * erfc(-x / 2.0.squareRoot())
    case .geluTanh: x / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    }
}

/// One normalised value of a picture; stored as `[n, h, w, 3]` bytes or `[n, 3, h, w]` floats.
private func value(
    _ pixels: Pixels, _ normalization: PixelNormalization, _ picture: Int, _ channel: Int, _ y: Int, _ x: Int
) -> Double {
    switch pixels.storage {
    case .bytes(let bytes):
        let byte = bytes[((picture * pixels.height + y) * pixels.width + x) * 3 + channel]
        return (Double(byte) / 255 - Double(normalization.mean[channel])) / Double(normalization.deviation[channel])
    case .floats(let floats):
        return Double(floats[((picture * 3 + channel) * pixels.height + y) * pixels.width + x])
    }
}

private func doubles(_ tensor: HostTensor) -> [Double] { tensor.floats().map(Double.init) }

/// a[i ..< i + count] · b[j ..< j + count]. Eight sums side by side, for the compiler may not reorder one.
private func dot(
    _ a: UnsafeMutableBufferPointer<Double>, _ i: Int, _ b: UnsafeMutableBufferPointer<Double>, _ j: Int, _ count: Int
) -> Double {
    precondition(i + count <= a.count && j + count <= b.count, "a product reaches outside its matrix")
    guard count > 0, let firstA = a.baseAddress, let firstB = b.baseAddress else { return 0 }
    let rawA = UnsafeRawPointer(firstA + i)
    let rawB = UnsafeRawPointer(firstB + j)
    var sums = SIMD8<Double>.zero
    let whole = count & ~7
    for k in stride(from: 0, to: whole, by: 8) {
        sums +=
            rawA.loadUnaligned(fromByteOffset: k * 8, as: SIMD8<Double>.self)
            * rawB.loadUnaligned(fromByteOffset: k * 8, as: SIMD8<Double>.self)
    }
    return (whole..<count).reduce(sums.sum()) { $0 + firstA[i + $1] * firstB[j + $1] }
}

private func dot(_ a: UnsafeMutableBufferPointer<Double>, _ i: Int, _ b: [Double], _ j: Int, _ count: Int) -> Double {
    b.withUnsafeBufferPointer { dot(a, i, UnsafeMutableBufferPointer(mutating: $0), j, count) }
}

private func dot(_ a: [Double], _ i: Int, _ b: [Double], _ j: Int, _ count: Int) -> Double {
    a.withUnsafeBufferPointer { dot(UnsafeMutableBufferPointer(mutating: $0), i, b, j, count) }
}
