// norm. Kernel: Kernels/OpenCL/norm.cl.

import CLIPCompute

/// What is left of a norm when its gain and bias are elsewhere.
struct Statistics {
    let kind: NormParameters.Kind
    let epsilon: Float

    init(_ norm: NormParameters) {
        kind = norm.kind
        epsilon = norm.epsilon
    }
}

package final class OpenCLNorm {
    let statistics: Statistics
    let weight: Buffer
    let bias: Buffer?
    let columns: Int

    init(statistics: Statistics, weight: Buffer, bias: Buffer?, columns: Int) {
        self.statistics = statistics
        self.weight = weight
        self.bias = bias
        self.columns = columns
    }
}

extension OpenCLBackend {
    package func prepare(_ parameters: NormParameters) throws(BackendError) -> OpenCLNorm {
        OpenCLNorm(
            statistics: Statistics(parameters), weight: try weightBuffer(parameters.weight.floats(), for: "a norm"),
            bias: try parameters.bias.map { (bias) throws(BackendError) in
                try weightBuffer(bias.floats(), for: "a norm")
            }, columns: parameters.columns)
    }

    package func norm(_ x: OpenCLMatrix, _ norm: OpenCLNorm) throws(BackendError) {
        precondition(x.columns == norm.columns, "x has \(x.columns) columns, not \(norm.columns)")
        try runNorm(x, into: x, norm.statistics, weight: norm.weight, bias: norm.bias)
    }

    /// x less its mean and divided by its deviation, without gain and bias; x itself where there is no norm.
    func normed(_ x: OpenCLMatrix, _ statistics: Statistics?) throws(BackendError) -> OpenCLMatrix {
        guard let statistics else { return x }
        let y = try matrix(rows: x.rows, columns: x.columns)
        try runNorm(x, into: y, statistics, weight: nil, bias: nil)
        return y
    }

    /// Warps of a work-group of the row kernels for GPUs whose warps exchange registers.
    static let warpsOfRows = 4

    /// Their knobs for rows of so many columns; none where the device or the width is not for them.
    func warpKnobs(columns: Int) -> [(String, Int)]? {
        guard matrixStep?.isNvidia == true, columns % 8 == 0, (1...2048).contains(columns) else { return nil }
        return Self.warpKnobs(columns: columns) + [("EMULATED", emulatesMatrixSteps ? 1 : 0)]
    }

    static func warpKnobs(columns: Int) -> [(String, Int)] {
        [("PIECES", (columns + 255) / 256), ("WARPS", warpsOfRows), ("LOCAL_ARGUMENT", 0)]
    }

    private func runNorm(
        _ x: OpenCLMatrix, into y: OpenCLMatrix, _ statistics: Statistics, weight: Buffer?, bias: Buffer?
    ) throws(BackendError) {
        let flags = (statistics.kind == .rms ? 1 : 0) | (weight != nil ? 2 : 0) | (bias != nil ? 4 : 0)
        if let knobs = warpKnobs(columns: x.columns) {
            let kernel = try programs.program(MatrixStep.mma.files("norm"), knobs).kernel("norm")
            let groups = (x.rows + Self.warpsOfRows - 1) / Self.warpsOfRows
            return try run(kernel, groups: (groups, 1, 1), items: 32, itemRows: Self.warpsOfRows) { call in
                call.matrix(x)
                call.matrix(y)
                call.buffer(weight ?? zeros)
                call.buffer(bias ?? zeros)
                call.uint(x.columns)
                call.float(statistics.epsilon)
                call.uint(flags)
                call.uint(x.rows)
            }
        }
        let kernel = try programs.program(["norm"]).kernel("norm")
        try run(kernel, groups: (x.rows, 1, 1), items: rowLanes) { call in
            call.matrix(x)
            call.matrix(y)
            call.buffer(weight ?? zeros)
            call.buffer(bias ?? zeros)
            call.uint(x.columns)
            call.float(statistics.epsilon)
            call.uint(flags)
        }
    }
}
