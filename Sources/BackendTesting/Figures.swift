// How fast a device runs the operations of ViT-B and of sentences, and which share that is of what it can do. A library, as
// the conformance suite is: the command's self-test prints it for devices that nobody here has seen.

import CLIPCompute

/// The rate of one operation.
package struct OperationFigure: Sendable {
    /// "linear 400x768x3072": the operation, its rows, inputs and outputs.
    package var name: String
    /// Operations or bytes a second.
    package var rate: Double
    package var unit: Unit
    /// Of the greatest rate of this unit known for the device.
    package var share = 0.0

    package enum Unit: String, Sendable {
        case arithmetic = "GFLOP/s"
        case memory = "GB/s"
    }

    /// In the unit's billions.
    package var billions: Double { rate / 1e9 }
}

package enum Figures {
    /// Measures every operation for about `seconds` each.
    ///
    /// - Parameter peak: floating-point operations a second that the device reaches out of registers. Where a product is
    ///   faster (matrix instructions), that product is the peak.
    package static func measure<B: Backend>(on backend: B, peak: Double, seconds: Double) throws -> [OperationFigure] {
        var figures = try products(backend, seconds) + attentions(backend, seconds) + rowOperations(backend, seconds)
        for unit in [OperationFigure.Unit.arithmetic, .memory] {
            let greatest = max(
                unit == .arithmetic ? peak : 0, figures.filter { $0.unit == unit }.map(\.rate).max() ?? 0)
            for index in figures.indices where figures[index].unit == unit {
                figures[index].share = figures[index].rate / greatest
            }
        }
        return figures
    }

    /// Operations a second over the four products of a block of each width, as often as a block has them.
    package static func productRate<B: Backend>(
        on backend: B, widths: [Int], seconds: Double
    ) throws -> Double {
        var operations = 0.0
        var elapsed = 0.0
        for width in widths {
            let rows = backend.preferredRows(width: width)
            for (inputs, outputs) in [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] {
                let linear = try backend.prepare(
                    LinearParameters(weight: HostMatrix(tensor([outputs, inputs])), bias: [tensor([outputs])]))
                try backend.begin()
                let x = try backend.upload(values(rows * inputs), rows: rows, columns: inputs)
                operations += 2 * Double(rows * inputs * outputs)
                elapsed += try time(backend, seconds) { _ = try backend.linear(x, linear) }
                _ = try backend.wait(backend.submit(backend.selectRows(x, [0])))
            }
        }
        return operations / elapsed
    }

    private static let width = 768

    /// The four products of a block, as the block runs them, and the patches of 32 by 32.
    /// Seconds of one product of these sizes with bias, activation and residual.
    package static func product<B: Backend>(
        on backend: B, rows: Int, inputs: Int, outputs: Int, activation: Activation, residual: Bool, seconds: Double
    ) throws -> Double {
        let linear = try backend.prepare(
            LinearParameters(
                weight: HostMatrix(tensor([outputs, inputs])), bias: [tensor([outputs])], activation: activation))
        try backend.begin()
        let x = try backend.upload(values(rows * inputs), rows: rows, columns: inputs)
        let y = residual ? try backend.upload(values(rows * outputs), rows: rows, columns: outputs) : nil
        let elapsed = try time(backend, seconds) {
            if let y {
                try backend.linear(x, linear, addingTo: y)
            } else {
                _ = try backend.linear(x, linear)
            }
        }
        _ = try backend.wait(backend.submit(backend.selectRows(y ?? x, [0])))
        return elapsed
    }

    private static func products<B: Backend>(_ backend: B, _ seconds: Double) throws -> [OperationFigure] {
        let rows = backend.preferredRows(width: width)
        func parameters(_ inputs: Int, _ outputs: Int, normed: Bool = false, _ activation: Activation = .none)
            -> LinearParameters
        {
            LinearParameters(
                weight: HostMatrix(tensor([outputs, inputs])), bias: [tensor([outputs])],
                norm: normed
                    ? NormParameters(weight: tensor([inputs], around: 1), bias: tensor([inputs]), epsilon: 1e-5) : nil,
                activation: activation)
        }
        func figure(_ what: String, _ inputs: Int, _ outputs: Int, _ run: () throws -> Void) throws -> OperationFigure {
            OperationFigure(
                name: "\(what) \(rows)x\(inputs)x\(outputs)",
                rate: 2 * Double(rows * inputs * outputs) / (try time(backend, seconds, run)), unit: .arithmetic)
        }
        let queryKeyValue = try backend.prepare(attentionParameters(width, heads: 12))
        let output = try backend.prepare(parameters(width, width))
        let rising = try backend.prepare(parameters(width, 4 * width, normed: true, .quickGELU))
        let falling = try backend.prepare(parameters(4 * width, width))
        try backend.begin()
        let x = try backend.upload(values(rows * width), rows: rows, columns: width)
        let y = try backend.upload(values(rows * width), rows: rows, columns: width)
        let wide = try backend.linear(x, rising)
        var figures = [
            try figure("queryKeyValue", width, 3 * width) { _ = try backend.queryKeyValue(x, queryKeyValue) },
            try figure("linear", width, width) { try backend.linear(x, output, addingTo: y) },
            try figure("linear", width, 4 * width) { _ = try backend.linear(x, rising) },
            try figure("linear", 4 * width, width) { try backend.linear(wide, falling, addingTo: y) },
        ]
        _ = try backend.wait(backend.submit(backend.selectRows(y, [0])))

        let side = 224, patch = 32
        let count = max(1, rows / 50)
        let patches = try backend.prepare(
            PatchParameters(
                weight: tensor([width, 3, patch, patch]), bias: nil, classToken: tensor([width]),
                positions: tensor([50, width]), normalization: .openAI))
        let bytes = (0..<(count * side * side * 3)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
        try backend.begin()
        var result: B.Matrix?
        let elapsed = try bytes.withUnsafeBufferPointer { bytes in
            let pixels = Pixels(.bytes(bytes), count: count, height: side, width: side)
            return try time(backend, seconds, once: true) {
                result = nil
                result = try backend.patches(pixels, patches)
            }
        }
        if let result { _ = try backend.wait(backend.submit(backend.selectRows(result, [0]))) }
        figures.append(
            OperationFigure(
                name: "patches \(count)x\(side)x\(side)",
                rate: 2 * Double(count * 49 * 3 * patch * patch * width) / elapsed, unit: .arithmetic))
        return figures
    }

    /// Pictures of ViT-B/32, B/16, L/14 and L/14@336, and packed sentences. Scores and weighted sums are counted; under a
    /// causal mask, those that it leaves.
    private static func attentions<B: Backend>(_ backend: B, _ seconds: Double) throws -> [OperationFigure] {
        let heads = 12
        let prepared = try backend.prepare(attentionParameters(width, heads: heads))
        let budget = backend.preferredRows(width: width)
        let sentences = (0..<max(1, budget / 16)).map { 8 + $0 * 7 % 17 }
        let cases: [(name: String, lengths: [Int], causal: Bool)] =
            [50, 197, 257, 577].map {
                ("attention \(max(1, budget / $0))x\($0)", [Int](repeating: $0, count: max(1, budget / $0)), false)
            } + [("attention \(sentences.count) sentences of 8 to 24", sentences, true)]
        return try cases.map { name, lengths, causal in
            let sequences = Sequences(lengths: lengths)
            try backend.begin()
            let x = try backend.upload(values(sequences.rows * width), rows: sequences.rows, columns: width)
            let queryKeyValue = try backend.queryKeyValue(x, prepared)
            let elapsed = try time(backend, seconds) {
                _ = try backend.attention(queryKeyValue, sequences, mask: causal ? .causal : .none)
            }
            _ = try backend.wait(backend.submit(backend.selectRows(x, [0])))
            let pairs = lengths.reduce(0) { $0 + (causal ? $1 * ($1 + 1) / 2 : $1 * $1) }
            return OperationFigure(name: name, rate: 4 * Double(pairs * width) / elapsed, unit: .arithmetic)
        }
    }

    /// Those that only move numbers; each number read and written once is counted.
    private static func rowOperations<B: Backend>(_ backend: B, _ seconds: Double) throws -> [OperationFigure] {
        let rows = backend.preferredRows(width: width)
        let norm = try backend.prepare(
            NormParameters(weight: tensor([width], around: 1), bias: tensor([width]), epsilon: 1e-5))
        let all = Array(0..<rows)
        let bytes = 2 * Double(rows * width * (backend.precision == .fp32 ? 4 : 2))
        try backend.begin()
        let x = try backend.upload(values(rows * width), rows: rows, columns: width)
        let figures = [
            OperationFigure(
                name: "norm \(rows)x\(width)", rate: bytes / (try time(backend, seconds) { try backend.norm(x, norm) }),
                unit: .memory),
            OperationFigure(
                name: "selectRows \(rows)x\(width)",
                rate: bytes / (try time(backend, seconds) { _ = try backend.selectRows(x, all) }), unit: .memory),
        ]
        _ = try backend.wait(backend.submit(backend.selectRows(x, [0])))
        return figures
    }

    /// Seconds that one `run` takes on the device, within a pass: the best of several groups of runs, each waited for as a
    /// whole. `once`: a run alone makes a group.
    package static func time<B: Backend>(
        _ backend: B, _ seconds: Double, once: Bool = false, _ run: () throws -> Void
    ) throws -> Double {
        let clock = ContinuousClock()
        func group(_ count: Int) throws -> Double {
            let start = clock.now
            for _ in 0..<count { try run() }
            _ = try backend.damagedGuards()  // Waits; without guards there is nothing to look at.
            return (clock.now - start) / .seconds(1)
        }
        _ = try backend.damagedGuards()
        _ = try group(1)
        let single = try group(1)
        let groups = 3
        let count = once ? 1 : max(1, min(200, Int(seconds / Double(groups) / max(single, 1e-7))))
        var best = count == 1 ? single : .infinity
        let start = clock.now
        repeat { best = min(best, try group(count) / Double(count)) } while (clock.now - start) / .seconds(1) < seconds
        return best
    }

    private static func attentionParameters(_ width: Int, heads: Int) -> QueryKeyValueParameters {
        QueryKeyValueParameters(
            shape: AttentionShape(width: width, heads: heads),
            norm: NormParameters(weight: tensor([width], around: 1), bias: tensor([width]), epsilon: 1e-5),
            weight: HostMatrix(tensor([3 * width, width])), bias: [tensor([3 * width])])
    }

    private static func tensor(_ shape: [Int], around middle: Float = 0) -> HostTensor {
        HostTensor(values(shape.reduce(1, *)).map { middle + $0 / 16 }, shape: shape)
    }

    /// Numbers within ±1 that look like chance: some chips run slower on them than on zeros.
    private static func values(_ count: Int) -> [Float] {
        (0..<count).map { Float(($0 &* 40_503 &+ $0 >> 7) & 1023) / 512 - 1 }
    }
}
