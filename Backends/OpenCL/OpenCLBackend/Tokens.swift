// tokens. Kernel: Kernels/OpenCL/tokens.cl.

import CLIPCompute

package final class OpenCLTokens {
    /// `[vocabulary, width]`, row after row.
    let table: Buffer
    let positions: Buffer?
    let vocabulary: Int
    let positionCount: Int
    let width: Int

    init(table: Buffer, positions: Buffer?, vocabulary: Int, positionCount: Int, width: Int) {
        self.table = table
        self.positions = positions
        self.vocabulary = vocabulary
        self.positionCount = positionCount
        self.width = width
    }
}

extension OpenCLBackend {
    package func prepare(_ parameters: TokenParameters) throws(BackendError) -> OpenCLTokens {
        let (rows, width) = (parameters.table.rows, parameters.table.columns)
        let table = try elementBuffer(parameters.table.floats(), for: "the token table")
        var positions: Buffer?
        if let tensor = parameters.positions {
            precondition(tensor.shape.count == 2 && tensor.shape[1] == width, "positions do not fit the table")
            positions = try elementBuffer(tensor.floats(), for: "positions")
        }
        return OpenCLTokens(
            table: table, positions: positions, vocabulary: rows, positionCount: parameters.positions?.shape[0] ?? 0,
            width: width)
    }

    package func tokens(
        _ ids: [Int32], positions: [Int32], _ tokens: OpenCLTokens
    ) throws(BackendError) -> OpenCLMatrix {
        precondition(
            ids.allSatisfy { $0 >= 0 && Int($0) < tokens.vocabulary }, "an id outside the token table")
        precondition(
            tokens.positions == nil
                || positions.count == ids.count && positions.allSatisfy { $0 >= 0 && Int($0) < tokens.positionCount },
            "a position outside its table")
        let y = try matrix(rows: ids.count, columns: tokens.width)
        let idList = try upload(ids)
        let placeList = tokens.positions == nil ? idList : try upload(positions)
        let kernel = try programs.program(["tokens"]).kernel("tokens")
        try run(kernel, groups: (ids.count, 1, 1), items: rowLanes) { call in
            call.buffer(tokens.table)
            call.buffer(tokens.positions ?? zeros)
            call.region(idList)
            call.region(placeList)
            call.matrix(y)
            call.uint(tokens.width)
            call.uint(tokens.positions != nil ? 1 : 0)
        }
        return y
    }
}
