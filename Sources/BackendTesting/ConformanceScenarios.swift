// Cases about passes rather than operations: chains that let memory go, and several passes in flight.

import CLIPCompute

/// Blocks of a transformer whose matrices live no longer than their use, beside one that lives to the end: what is
/// let go is used again at once, and what lives must not be.
struct ChainCase: ConformanceOperation {
    var lengths: [Int]
    var blocks: Int
    private let width = 48
    private let hidden = 80
    private let heads = 4

    init(lengths: [Int], blocks: Int) {
        self.lengths = lengths
        self.blocks = blocks
    }

    var name: String { "chain blocks=\(blocks) lengths=\(spelled(lengths))" }
    var itemCount: Int { lengths.count }
    var columns: Int { width }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let x = generator.normals(lengths.reduce(0, +) * width)
        func matrix(_ rows: Int, _ columns: Int) -> HostMatrix {
            let values = generator.normals(rows * columns, deviation: 1 / Float(columns).squareRoot())
            return HostMatrix(HostTensor(values, shape: [rows, columns]))
        }
        func vector(_ count: Int) -> HostTensor {
            HostTensor(generator.normals(count, deviation: 0.1), shape: [count])
        }
        func linear(_ inputs: Int, _ outputs: Int, _ activation: Activation = .none, normed: Bool = false) throws
            -> B.Linear
        {
            let norm = normed ? NormSample(.layer, columns: inputs, &generator).parameters : nil
            return try backend.prepare(
                LinearParameters(
                    weight: matrix(outputs, inputs), bias: [vector(outputs)], norm: norm, activation: activation))
        }
        typealias Block = (queryKeyValue: B.QueryKeyValue, out: B.Linear, up: B.Linear, down: B.Linear)
        var parameters: [Block] = []
        for _ in 0..<blocks {
            let queryKeyValue = try backend.prepare(
                QueryKeyValueParameters(
                    shape: AttentionShape(width: width, heads: heads),
                    norm: NormSample(.layer, columns: width, &generator).parameters, weight: matrix(3 * width, width),
                    bias: [vector(3 * width)]))
            parameters.append(
                (
                    queryKeyValue, try linear(width, width), try linear(width, hidden, .quickGELU, normed: true),
                    try linear(hidden, width)
                ))
        }
        let beginning = try linear(width, width)
        let end = try linear(width, width)
        return { [parameters] selection in
            let rows = packedRows(of: selection.items, lengths: lengths)
            let sequences = Sequences(lengths: Array(lengths[selection.items]))
            let values = selection.slice(
                x, columns: width, rows: rows, firstItem: 0..<lengths[selection.items.lowerBound])
            let sum = try backend.upload(values, rows: rows.count, columns: width)
            let kept = try backend.linear(sum, beginning)
            for block in parameters {
                let attended = try backend.attention(
                    try backend.queryKeyValue(sum, block.queryKeyValue), sequences, mask: .causal)
                try backend.linear(attended, block.out, addingTo: sum)
                try backend.linear(try backend.linear(sum, block.up), block.down, addingTo: sum)
            }
            let selected = try backend.selectRows(sum, sequences.segments.map { $0.keys.upperBound - 1 })
            let first = try backend.selectRows(kept, sequences.segments.map(\.keys.lowerBound))
            try backend.linear(first, end, addingTo: selected)
            try backend.normalizeRows(selected)
            return selected
        }
    }

    /// Four sums a block, whose errors pass through the residual to the end; the rows are of unit length.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let steps = Float(4 * blocks + 2).squareRoot()
        let bound = 4 * steps * Tolerance.sum(hidden, precision) / Float(width).squareRoot()
        return expected.map { _ in bound }
    }
}

/// More passes begun than there are lanes, each with rows of its own, waited on in another order than begun.
struct LanesCase: ConformanceCheck {
    var rows: Int
    var columns: Int

    var name: String { "lanes rows=\(rows) columns=\(columns)" }

    func run<B: Backend>(on backend: B) throws -> ConformanceResult {
        var generator = Generator(name)
        let weight = generator.normals(columns * columns, deviation: 1 / Float(columns).squareRoot())
        let linear = try backend.prepare(
            LinearParameters(weight: HostMatrix(HostTensor(weight, shape: [columns, columns])), activation: .quickGELU))
        let passes = 2 * backend.laneCount + 1
        let inputs = (0..<passes).map { _ in generator.normals(rows * columns) }
        /// Twice through the linear: the matrix between is let go while the pass runs.
        func submit(_ values: [Float]) throws -> Ticket {
            try backend.begin()
            let x = try backend.upload(values, rows: rows, columns: columns)
            return try backend.submit(backend.linear(backend.linear(x, linear), linear))
        }
        for _ in 0..<passes {
            // A pass that is never submitted, as after an error, holds no lane.
            try backend.begin()
            _ = try backend.linear(backend.upload(inputs[0], rows: rows, columns: columns), linear)
        }
        let alone = try inputs.map { try backend.wait(submit($0)) }
        let tickets = try inputs.map(submit)
        var result = ConformanceResult(name: name, share: 0, failures: [])
        if Set(tickets).count != passes { result.failures.append("two passes have one ticket") }
        // From the last to the first, the middle one at the end.
        let order = (0..<passes).reversed().filter { $0 != passes / 2 } + [passes / 2]
        for index in order {
            let values = try backend.wait(tickets[index])
            if !values.elementsEqual(alone[index], by: { $0.bitPattern == $1.bitPattern }) {
                result.failures.append("pass \(index) of \(passes) in flight has other bytes than alone")
            }
        }
        return result
    }
}
