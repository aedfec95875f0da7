// The self-check of wgmma/attention.cl, whose instructions no compiler of OpenCL has looked at.

import CLIPCompute

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension OpenCLBackend {
    private static let checkedShape = AttentionShape(heads: 2, keyWidth: 64, valueWidth: 64, scale: 1)
    /// Sequences of whole tiles and what may be left behind them, short ones and long ones apart.
    private static let checkedLengths = [[50, 64, 3], [150, 70, 128, 5]]

    /// The programs that the self-check needs.
    var wgmmaAttentionRequests: [Programs.Request] {
        Self.checkedLengths.map { lengths in
            let longest = lengths.max() ?? 0
            return request(
                MatrixAttention(.wgmma, Self.checkedShape, longestQueries: longest, longestKeys: longest))
        }
    }

    /// Compares attention with the host's; throws where it does not build or computes wrongly.
    func checkWGMMAAttention() throws(BackendError) {
        let width = Self.checkedShape.heads * 64
        // Results begin as NaN: memory that a run before left right would pass for computed.
        let guarded = guardsMemory
        guardsMemory = true
        defer { guardsMemory = guarded }
        for lengths in Self.checkedLengths {
            let rows = lengths.reduce(0, +)
            // Small multiples of 1/8: exact in halves.
            var x = [Float](repeating: 0, count: rows * 3 * width)
            for i in x.indices { x[i] = Float((i * 37 + i / 11) % 17 - 8) / 8 }
            let found = try apart { () throws(BackendError) in
                try begin()
                let queryKeyValue = OpenCLQueryKeyValueMatrix(
                    shape: Self.checkedShape, rows: rows,
                    queriesAndValues: try upload(x, rows: rows, columns: 3 * width), keys: nil, keysPitch: 0)
                return try wait(try submit(attention(queryKeyValue, Sequences(lengths: lengths), mask: .none)))
            }
            var start = 0
            for length in lengths {
                for first in stride(from: 0, to: width, by: 64) {
                    // Every seventh row: every start waits for it.
                    for row in stride(from: start, to: start + length, by: 7) {
                        let wanted = Self.attended(
                            x, width: width, first: first, row: row, keys: start..<(start + length))
                        for column in 0..<64 {
                            let value = found[row * width + first + column]
                            guard abs(value - wanted[column]) <= 0.002 as Float else {
                                throw BackendError(
                                    .kernel,
                                    "self-check: row \(row), column \(first + column) is \(value) instead of"
                                        + " \(wanted[column])")
                            }
                        }
                    }
                }
                start += length
            }
        }
    }

    /// One row of one head, whose columns begin at `first`; scores are powers of two.
    private static func attended(_ x: [Float], width: Int, first: Int, row: Int, keys: Range<Int>) -> [Float] {
        var result = [Float](repeating: 0, count: 64)
        var sum: Float = 0
        for key in keys {
            var score: Float = 0
            for i in first..<(first + 64) { score += x[row * 3 * width + i] * x[(key * 3 + 1) * width + i] }
            let power = exp2f(score)
            sum += power
            for i in 0..<64 { result[i] += power * x[(key * 3 + 2) * width + first + i] }
        }
        return result.map { $0 / sum }
    }
}
