// The product with matrix instructions: weights in its layout, and its launch. Kernels: Kernels/OpenCL/wgmma/linear.cl,
// mma/linear.cl, fragments/linear.cl and matrix/epilogue.cl.

import CHalves
import CLIPCompute
import Dispatch

extension OpenCLBackend {
    /// Columns and inputs of a weight are padded to multiples of these, whatever the tile.
    static let paddedColumns = 256
    static let paddedInputs = 64

    /// A weight as the kernels of a step read it: halves, `columns` and `inputs` padded with zeros, in the step's order
    /// (`MatrixStep.column`, `offset`). Column c of the product is row `order[c]`; with several matrices `order` holds
    /// `columns` of each.
    func matrixLayout(
        _ weight: [Float], inputs: Int, order: [Int], columns: Int, for step: MatrixStep
    ) -> [UInt16] {
        let padded = Self.padded(columns, to: Self.paddedColumns)
        let depth = Self.padded(inputs, to: Self.paddedInputs)
        let groups = columns == 0 ? 0 : order.count / columns
        let count = groups * padded * depth
        let share = 64
        return [UInt16](unsafeUninitializedCapacity: count) { packed, initialized in
            weight.withUnsafeBufferPointer { weight in
                // Addresses as numbers: pointers may not be handed to other threads, and these wait for the end here.
                let (from, to) = (UInt(bitPattern: weight.baseAddress), UInt(bitPattern: packed.baseAddress))
                DispatchQueue.concurrentPerform(iterations: groups * padded / share) { part in
                    guard let from = UnsafePointer<Float>(bitPattern: from),
                        let to = UnsafeMutablePointer<UInt16>(bitPattern: to)
                    else { return }
                    withUnsafeTemporaryAllocation(of: UInt16.self, capacity: depth) { row in
                        guard let halves = row.baseAddress else { return }
                        for place in (part * share)..<((part + 1) * share) {
                            let (group, column) = (place / padded, step.column(at: place % padded))
                            row.initialize(repeating: 0)
                            if column < columns {
                                ch_halves(halves, from + order[group * columns + column] * inputs, inputs)
                            }
                            for start in stride(from: 0, to: depth, by: 8) {
                                (to + step.offset(place: place, start: start, depth: depth))
                                    .update(from: halves + start, count: 8)
                            }
                        }
                    }
                }
            }
            initialized = count
        }
    }

    static func padded(_ count: Int, to multiple: Int) -> Int { (count + multiple - 1) / multiple * multiple }

    /// Binds and enqueues a product whose weights are in the matrix layout.
    func matrixProduct(
        _ x: OpenCLMatrix, _ weights: ProductWeights, into y: OpenCLMatrix, residual: OpenCLMatrix?, rowMap: RowMap?,
        groups: Groups
    ) throws(BackendError) {
        guard x.rows > 0 else { return }
        let columns = weights.productColumns
        let units = description.multiprocessors
        var flags = weights.flags
        if residual != nil { flags |= EpilogueFlag.residual }
        if groups.count > 1 && groups.yStep % 8 != 0 { flags |= EpilogueFlag.unaligned }
        let (tile, kernel) = try tileAndKernel(
            rows: x.rows, columns: columns * groups.count, outputs: columns, flags: flags)
        var counts = ((x.rows + tile.rows - 1) / tile.rows, (columns + tile.columns - 1) / tile.columns, groups.count)
        let (rowTiles, columnTiles) = (counts.0, counts.1)
        let makesSeveral = tile.step == .wgmma
        let tiles = rowTiles * columnTiles * groups.count
        if makesSeveral {
            guard tiles <= Int(Int32.max) else {
                throw BackendError(.unsupported, "a product of \(x.rows) rows is too large; use smaller batches")
            }
            // As many work-groups as the device holds at once, each of which makes tile after tile.
            counts = (min(tiles, mostProductGroups ?? units * tile.resident), 1, 1)
        }
        try run(kernel, groups: counts, items: tile.step.lanes, itemRows: tile.warps) { call in
            call.matrix(x)
            call.buffer(weights.weight)
            call.uint(x.rows)
            call.uint(weights.inputs)
            call.uint(Self.padded(weights.inputs, to: Self.paddedInputs))
            call.uint(groups.xStep)
            call.ulong(groups.count > 1 ? weights.weightStep : 0)
            call.uint(groups.yStep)
            call.uint(groups.count > 1 ? weights.biasStep : 0)
            if makesSeveral {
                call.uint(rowTiles)
                call.uint(columnTiles)
                call.uint(tiles)
            }
            call.buffer(weights.bias)
            call.buffer(weights.scale)
            call.matrix(residual ?? y)
            call.matrix(y)
            call.uint(weights.outputs)
            call.uint(flags)
            call.uint(rowMap?.rowsIn ?? 1)
            call.uint(rowMap?.rowsOut ?? 0)
            call.uint(rowMap?.first ?? 0)
            if sharesByArgument.contains(tile) { call.local(tile.sharedMemory) }
        }
    }

    /// The tile that costs least, and its kernel; one that does not build is left out.
    private func tileAndKernel(
        rows: Int, columns: Int, outputs: Int, flags: Int
    ) throws(BackendError) -> (MatrixTile, Kernel) {
        let units = description.multiprocessors
        let activation = flags & EpilogueFlag.activations
        let isSimple =
            flags & (EpilogueFlag.gated | EpilogueFlag.scale | EpilogueFlag.unaligned) == 0
            && (activation == 0 || flags & EpilogueFlag.residual == 0)
        while let tile = matrixTiles.min(by: {
            $0.cost(rows: rows, columns: columns, units: units) < $1.cost(rows: rows, columns: columns, units: units)
        }) {
            guard try isSound(tile) else { continue }
            let request = request(tile, activation: activation, isPlain: isSimple && outputs % tile.columns == 0)
            do throws(BackendError) {
                return (tile, try programs.program(request).kernel("linear"))
            } catch {
                guard matrixTiles.count > 1, error.code == .kernel || error.code == .outOfMemory else { throw error }
                leaveOut(tile, because: error)
            }
        }
        throw BackendError(.kernel, "there is no tile of the matrix product left")
    }

    /// The program of a tile: for an activation, and for plain products (wgmma/linear.cl) or any.
    func request(_ tile: MatrixTile, activation: Int = 0, isPlain: Bool = true) -> Programs.Request {
        let step = tile.step
        let placed = step.isNvidia ? [("LOCAL_ARGUMENT", sharesByArgument.contains(tile) ? 1 : 0)] : []
        return Programs.Request(
            files: step.files("linear"),
            knobs: tile.knobs + tile.knobs(activation: activation, isPlain: isPlain)
                + step.knobs(emulated: emulatesMatrixSteps) + placed,
            compilerOptions: emulatesMatrixSteps ? "" : step.compilerOptions,
            splices: step == .wgmma && !emulatesMatrixSteps, resident: tile.resident)
    }

    /// Compares products with the host's; throws where one does not build or computes wrongly.
    func checkMatrixProduct() throws(BackendError) {
        // More steps than slots, inputs that do not fill one, rows over a tile's edge; and columns, where they need no other program.
        let isWGMMA = matrixStep == .wgmma
        try checkLinear(rows: 150, inputs: 328, outputs: isWGMMA ? 256 : 300, layout: .matrix)
        try checkLinear(rows: 7, inputs: 45, outputs: isWGMMA ? 256 : 70, layout: .matrix)
        guard isWGMMA else { return }
        // All tiles by one work-group: one that follows another, and the slots of both.
        let most = mostProductGroups
        mostProductGroups = 1
        defer { mostProductGroups = most }
        try checkLinear(rows: 150, inputs: 328, outputs: 256, layout: .matrix)
        try checkLinear(rows: 150, inputs: 45, outputs: 256, layout: .matrix)
    }
}
