// linear: weights packed into panels at load, and the product that every linear and convolution runs.
// Kernel: Kernels/OpenCL/linear.cl.

import CLIPCompute
import COpenCL
import Dispatch

/// A weight matrix in the kernel's layout with what its epilogue needs.
final class ProductWeights {
    enum Layout {
        /// Panels of the chosen `LinearTile`.
        case panels
        /// As the chosen `MatrixStep` reads it.
        case matrix
    }
    let weight: Buffer
    /// In the product's order, padded to whole panels.
    let bias: Buffer
    let scale: Buffer
    /// Inputs of the product; per tap of a convolution.
    let inputs: Int
    /// Columns of the result.
    let outputs: Int
    /// Columns of the product: twice the outputs where gated.
    let productColumns: Int
    let flags: Int
    let layout: Layout
    /// Elements from one matrix to the next, where there are several.
    let weightStep: Int
    let biasStep: Int

    init(
        weight: Buffer, bias: Buffer, scale: Buffer, inputs: Int, outputs: Int, productColumns: Int, flags: Int,
        layout: Layout, weightStep: Int, biasStep: Int
    ) {
        self.layout = layout
        self.weight = weight
        self.bias = bias
        self.scale = scale
        self.inputs = inputs
        self.outputs = outputs
        self.productColumns = productColumns
        self.flags = flags
        self.weightStep = weightStep
        self.biasStep = biasStep
    }
}

/// A prepared linear: its norm's gain and bias are in the weights, so that only the statistics are left to the device.
package final class OpenCLLinear {
    let norm: Statistics?
    let product: ProductWeights

    init(norm: Statistics?, product: ProductWeights) {
        self.norm = norm
        self.product = product
    }
}

/// Bits of the kernel's `flags`; the lowest four are the activation.
enum EpilogueFlag {
    static let activations = 15
    static let gated = 16
    static let bias = 32
    static let scale = 64
    static let residual = 128
    static let activateAfterResidual = 256
    static let transpose = 512
    static let unaligned = 1024
}

extension Activation {
    /// As prelude.cl numbers them.
    var number: Int {
        switch self {
        case .none: 0
        case .relu: 1
        case .quickGELU: 2
        case .gelu: 3
        case .geluTanh: 4
        }
    }
}

/// A norm's gain and bias, taken into the linear that follows: W(g·n + b) = (W·g) n + W b.
struct NormFold {
    let gain: [Float]
    let bias: [Float]?

    init?(_ norm: NormParameters?) {
        guard let norm else { return nil }
        gain = norm.weight.floats()
        bias = norm.bias?.floats()
    }

    /// Adds W·b to the biases of the weight's rows, and scales the rows.
    func apply(
        _ weight: UnsafeMutableBufferPointer<Float>, inputs: Int, _ biases: UnsafeMutableBufferPointer<Float>
    ) {
        // Addresses as numbers: pointers may not be handed to other threads, and these wait for the end here.
        let (rows, sums) = (UInt(bitPattern: weight.baseAddress), UInt(bitPattern: biases.baseAddress))
        let (count, share) = (biases.count, 64)
        DispatchQueue.concurrentPerform(iterations: (count + share - 1) / share) { part in
            guard let rows = UnsafeMutablePointer<Float>(bitPattern: rows),
                let sums = UnsafeMutablePointer<Float>(bitPattern: sums)
            else { return }
            for index in (part * share)..<min(count, (part + 1) * share) {
                let row = rows + index * inputs
                if let bias {
                    var sum = Double(sums[index])
                    for k in 0..<inputs { sum += Double(row[k]) * Double(bias[k]) }
                    sums[index] = Float(sum)
                }
                for k in 0..<inputs { row[k] *= gain[k] }
            }
        }
    }
}

extension OpenCLBackend {
    package func prepare(_ parameters: LinearParameters) throws(BackendError) -> OpenCLLinear {
        let outputs = parameters.outputs
        // The halves of a gate stand side by side, so that one work-item has both.
        let order = parameters.gated ? (0..<(2 * outputs)).map { $0 / 2 + $0 % 2 * outputs } : Array(0..<outputs)
        return OpenCLLinear(
            norm: parameters.norm.map(Statistics.init),
            product: try pack(
                parameters.weight.floats(), inputs: parameters.inputs, order: order,
                bias: parameters.bias.isEmpty ? nil : parameters.bias.flatMap { $0.floats() },
                fold: NormFold(parameters.norm), scale: parameters.layerScale, outputs: outputs,
                flags: parameters.activation.number | (parameters.gated ? EpilogueFlag.gated : 0)))
    }

    /// Lays out a weight `[rows, inputs]` for the product: column c of it is row `order[c]`. With `groups`, the
    /// matrix is that many of equal size one after the other, and `order` speaks of the first. The layout is `layout`, or the
    /// best that fits.
    func pack(
        _ weight: [Float], inputs: Int, order: [Int], bias: [Float]?, fold: NormFold? = nil, scale: HostTensor? = nil,
        outputs: Int, flags: Int, groups: Int = 1, taps: Int = 1,
        layout wanted: ProductWeights.Layout? = nil
    ) throws(BackendError) -> ProductWeights {
        var weight = weight
        let rowCount = weight.count / inputs
        var biases = bias ?? [Float](repeating: 0, count: rowCount)
        if let fold {
            weight.withUnsafeMutableBufferPointer { all in
                biases.withUnsafeMutableBufferPointer { biases in fold.apply(all, inputs: inputs, biases) }
            }
        }
        let hasBias = bias != nil || fold?.bias != nil
        // Of products side by side, x has to begin at a multiple of 16 bytes for each.
        let layout = wanted ?? (matrixStep != nil && (groups == 1 || inputs % 8 == 0) ? .matrix : .panels)
        if layout == .panels { try chooseLinearTile() }
        let panel = layout == .matrix ? Self.paddedColumns : linearTile.panel
        let columns = Self.padded(order.count, to: panel)
        let step = columns * (layout == .matrix ? Self.padded(inputs, to: Self.paddedInputs) : inputs)
        let rows = order.count
        let all = (0..<groups).flatMap { group in order.map { $0 + group * (rowCount / groups) } }
        let buffer =
            if layout == .matrix, let matrixStep {
                try weightBuffer(
                    matrixLayout(weight, inputs: inputs, order: all, columns: rows, for: matrixStep), for: "a weight")
            } else if elementSize == 4 {
                try weightBuffer(panelled(weight, inputs, all, rows, panel) { $0 }, for: "a weight")
            } else {
                try weightBuffer(
                    panelled(weight, inputs, all, rows, panel) { Float16($0).bitPattern }, for: "a weight")
            }
        // Some kernels add biases always.
        if !hasBias { try needZeros(columns: columns * MemoryLayout<Float>.size / elementSize) }
        var packedBias = [Float](repeating: 0, count: groups * columns)
        for (index, row) in all.enumerated() { packedBias[index / rows * columns + index % rows] = biases[row] }
        return ProductWeights(
            weight: buffer, bias: hasBias ? try weightBuffer(packedBias, for: "a bias") : zeros,
            scale: try floatBuffer(scale, for: "a layer scale"), inputs: inputs / taps, outputs: outputs,
            productColumns: order.count,
            flags: flags | (hasBias ? EpilogueFlag.bias : 0) | (scale != nil ? EpilogueFlag.scale : 0),
            layout: layout, weightStep: step, biasStep: hasBias ? columns : 0)
    }

    /// `[panels][inputs][panel]`, zero-padded, for each `rows` of the order.
    private func panelled<Element: BitwiseCopyable>(
        _ weight: [Float], _ inputs: Int, _ order: [Int], _ rows: Int, _ panel: Int, _ convert: (Float) -> Element
    ) -> [Element] {
        let panels = (rows + panel - 1) / panel
        let count = order.count / rows * panels * panel * inputs
        let zero = convert(0)
        return [Element](unsafeUninitializedCapacity: count) { packed, initialized in
            weight.withUnsafeBufferPointer { weight in
                for p in 0..<(order.count / rows * panels) {
                    let (group, first) = (p / panels, p % panels * panel)
                    for c in 0..<panel {
                        var to = p * inputs * panel + c
                        let from = first + c < rows ? order[group * rows + first + c] * inputs : nil
                        for k in 0..<inputs {
                            packed[to] = from.map { convert(weight[$0 + k]) } ?? zero
                            to += panel
                        }
                    }
                }
            }
            initialized = count
        }
    }

    package func linear(_ x: OpenCLMatrix, _ linear: OpenCLLinear) throws(BackendError) -> OpenCLMatrix {
        let y = try matrix(rows: x.rows, columns: linear.product.outputs)
        try product(try normed(x, linear.norm), linear.product, into: y)
        return y
    }

    package func linear(
        _ x: OpenCLMatrix, _ linear: OpenCLLinear, addingTo y: OpenCLMatrix
    ) throws(BackendError) {
        precondition(y.rows == x.rows && y.columns == linear.product.outputs, "y has not the result's shape")
        try product(try normed(x, linear.norm), linear.product, into: y, residual: y)
    }

    /// Where the rows of a product go: row r becomes r / rowsIn · rowsOut + first + r % rowsIn.
    struct RowMap {
        var rowsIn: Int
        var rowsOut: Int
        var first: Int
    }

    /// Of several products side by side: columns from one to the next in x and in y.
    struct Groups {
        var count = 1
        var xStep = 0
        var yStep = 0
    }

    /// Columns from `from` on go to `region`, transposed, `pitch` elements from one to the next.
    struct Transposed {
        var region: Region
        var pitch: Int
        var from: Int
    }

    /// y = epilogue(x · weightᵀ), on the current lane.
    func product(
        _ x: OpenCLMatrix, _ weights: ProductWeights, into y: OpenCLMatrix, residual: OpenCLMatrix? = nil,
        rowMap: RowMap? = nil, groups: Groups = Groups(), transposed: Transposed? = nil
    ) throws(BackendError) {
        precondition(
            groups.count > 1 || x.columns == weights.inputs, "x has \(x.columns) columns, not \(weights.inputs)")
        if weights.layout == .matrix {
            precondition(transposed == nil, "keys are transposed for plain kernels alone")
            return try matrixProduct(x, weights, into: y, residual: residual, rowMap: rowMap, groups: groups)
        }
        let program = try programs.program(["linear"], linearTile.knobs)
        try runProduct(
            try program.kernel("linear"), x, weights, rows: x.rows, into: y, residual: residual, rowMap: rowMap,
            groups: groups, transposed: transposed, extraFlags: 0
        ) { _ in }
    }

    /// Binds what `linear` and `convolution` have in common; `bindGather` adds what the latter has alone.
    func runProduct(
        _ kernel: Kernel, _ x: OpenCLMatrix, _ weights: ProductWeights, rows: Int, into y: OpenCLMatrix,
        residual: OpenCLMatrix?, rowMap: RowMap?, groups: Groups, transposed: Transposed?, extraFlags: Int,
        _ bindGather: (inout Call) -> Void
    ) throws(BackendError) {
        guard rows > 0 else { return }
        let tile = linearTile
        var flags = weights.flags | extraFlags
        if residual != nil && flags & EpilogueFlag.activateAfterResidual == 0 { flags |= EpilogueFlag.residual }
        if transposed != nil { flags |= EpilogueFlag.transpose }
        let map = rowMap ?? RowMap(rowsIn: rows, rowsOut: 0, first: 0)
        let panels = (weights.productColumns + tile.panel - 1) / tile.panel
        let tiles = (rows + tile.groupRows - 1) / tile.groupRows
        try run(kernel, groups: (tiles, panels, groups.count), items: tile.workItems) { call in
            call.matrix(x)
            call.buffer(weights.weight)
            call.uint(rows)
            call.uint(weights.inputs)
            call.uint(groups.xStep)
            call.ulong(groups.count > 1 ? weights.weightStep : 0)
            call.uint(groups.yStep)
            call.uint(groups.count > 1 ? weights.biasStep : 0)
            call.buffer(weights.bias)
            call.buffer(weights.scale)
            call.matrix(residual ?? y)
            call.matrix(y)
            if let transposed {
                call.region(transposed.region, elementSize: elementSize)
                call.uint(transposed.pitch)
                call.uint(transposed.from)
            } else {
                call.region(y.region, elementSize: elementSize)
                call.uint(0)
                call.uint(0)
            }
            call.uint(weights.outputs)
            call.uint(flags)
            call.uint(map.rowsIn)
            call.uint(map.rowsOut)
            call.uint(map.first)
            bindGather(&call)
        }
    }

    /// Compares a product with the host's; throws where the kernel does not build or computes wrongly.
    func checkLinear(
        rows: Int = 37, inputs: Int = 45, outputs: Int = 70, layout: ProductWeights.Layout
    ) throws(BackendError) {
        // Small multiples of 1/8: exact in halves, and so are their sums.
        func value(_ seed: Int) -> Float { Float((seed * 37 + seed / 11) % 17 - 8) / 8 }
        let x = (0..<(rows * inputs)).map { value($0) }
        let weight = (0..<(outputs * inputs)).map { value($0 + 5) }
        let bias = (0..<outputs).map { value($0 + 9) }
        let prepared = OpenCLLinear(
            norm: nil,
            product: try pack(
                weight, inputs: inputs, order: Array(0..<outputs), bias: bias, outputs: outputs, flags: 0,
                layout: layout))
        // Results begin as NaN: memory that a run before left right would pass for computed.
        let guarded = guardsMemory
        guardsMemory = true
        defer { guardsMemory = guarded }
        let found = try apart { () throws(BackendError) in
            try begin()
            return try wait(try submit(linear(upload(x, rows: rows, columns: inputs), prepared)))
        }
        // Input by input over all outputs, which compilers make vectors of: every start waits for it.
        let transposed = (0..<(inputs * outputs)).map { weight[$0 % outputs * inputs + $0 / outputs] }
        for row in 0..<rows {
            var expected = bias
            expected.withUnsafeMutableBufferPointer { expected in
                transposed.withUnsafeBufferPointer { transposed in
                    for k in 0..<inputs {
                        let value = x[row * inputs + k]
                        for output in 0..<outputs { expected[output] += value * transposed[k * outputs + output] }
                    }
                }
            }
            for output in 0..<outputs {
                let (value, wanted) = (found[row * outputs + output], expected[output])
                guard abs(value - wanted) <= (elementSize == 4 ? 0 : abs(wanted) / 2048) else {
                    throw BackendError(
                        .kernel, "self-check: row \(row), column \(output) is \(value) instead of \(wanted)")
                }
            }
        }
    }
}
