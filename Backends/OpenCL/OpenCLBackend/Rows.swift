// selectRows, meanRows and normalizeRows. Kernels: Kernels/OpenCL/rows.cl.

import CLIPCompute

extension OpenCLBackend {
    package func selectRows(_ x: OpenCLMatrix, _ rows: [Int]) throws(BackendError) -> OpenCLMatrix {
        precondition(rows.allSatisfy { $0 >= 0 && $0 < x.rows }, "a row outside the matrix")
        let y = try matrix(rows: rows.count, columns: x.columns)
        let list = try upload(rows.map { Int32(clamping: $0) })
        let kernel = try programs.program(["rows"]).kernel("selectRows")
        try run(kernel, groups: (rows.count, 1, 1), items: rowLanes) { call in
            call.matrix(x)
            call.region(list)
            call.matrix(y)
            call.uint(x.columns)
        }
        return y
    }

    func copy(_ x: OpenCLMatrix) throws(BackendError) -> OpenCLMatrix { try selectRows(x, Array(0..<x.rows)) }

    package func meanRows(_ x: OpenCLMatrix, _ sequences: Sequences) throws(BackendError) -> OpenCLMatrix {
        precondition(sequences.rows == x.rows, "the sequences speak of \(sequences.rows) rows, not \(x.rows)")
        let y = try matrix(rows: sequences.count, columns: x.columns)
        let segments = try upload(sequences)
        let kernel = try programs.program(["rows"]).kernel("meanRows")
        try run(kernel, groups: (sequences.count, 1, 1), items: rowLanes) { call in
            call.matrix(x)
            call.region(segments)
            call.matrix(y)
            call.uint(x.columns)
        }
        return y
    }

    package func normalizeRows(_ x: OpenCLMatrix) throws(BackendError) {
        let kernel = try programs.program(["rows"]).kernel("normalizeRows")
        try run(kernel, groups: (x.rows, 1, 1), items: rowLanes) { call in
            call.matrix(x)
            call.uint(x.columns)
        }
    }
}
