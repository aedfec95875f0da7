// convolution, as a product whose rows are gathered; and averagePool.
// Kernels: Kernels/OpenCL/convolution.cl before linear.cl; averagePool.cl.

import CLIPCompute

package final class OpenCLConvolution {
    let product: ProductWeights
    let kernelHeight: Int
    let kernelWidth: Int
    let stride: Int
    let padding: Int
    let activatesAfterResidual: Bool

    init(
        product: ProductWeights, kernelHeight: Int, kernelWidth: Int, stride: Int, padding: Int,
        activatesAfterResidual: Bool
    ) {
        self.product = product
        self.kernelHeight = kernelHeight
        self.kernelWidth = kernelWidth
        self.stride = stride
        self.padding = padding
        self.activatesAfterResidual = activatesAfterResidual
    }
}

extension OpenCLBackend {
    package func prepare(_ parameters: ConvolutionParameters) throws(BackendError) -> OpenCLConvolution {
        let shape = parameters.weight.shape
        precondition(shape.count == 4, "a convolution's weight has four dimensions")
        let (outputs, inputs, taps) = (shape[0], shape[1], shape[2] * shape[3])
        // [outputs, inputs, taps] becomes [outputs, taps, inputs]: a position's channels are neighbours in memory.
        let stored = parameters.weight.floats()
        var weight = [Float](repeating: 0, count: stored.count)
        for output in 0..<outputs {
            for input in 0..<inputs {
                for tap in 0..<taps {
                    weight[(output * taps + tap) * inputs + input] = stored[(output * inputs + input) * taps + tap]
                }
            }
        }
        try needZeros(columns: inputs)
        return OpenCLConvolution(
            product: try pack(
                weight, inputs: inputs * taps, order: Array(0..<outputs), bias: parameters.bias?.floats(),
                outputs: outputs, flags: parameters.activation.number, taps: taps, layout: .panels),
            kernelHeight: shape[2], kernelWidth: shape[3], stride: parameters.stride, padding: parameters.padding,
            activatesAfterResidual: parameters.activatesAfterResidual)
    }

    package func convolution(
        _ x: OpenCLMatrix, _ shape: ImageShape, _ convolution: OpenCLConvolution, residual: OpenCLMatrix?
    ) throws(BackendError) -> OpenCLMatrix {
        precondition(x.rows == shape.rows && x.columns == convolution.product.inputs, "x does not fit")
        let out = shape.convolved(
            kernelHeight: convolution.kernelHeight, kernelWidth: convolution.kernelWidth, stride: convolution.stride,
            padding: convolution.padding)
        let y = try matrix(rows: out.rows, columns: convolution.product.outputs)
        if let residual {
            precondition(residual.rows == y.rows && residual.columns == y.columns, "the residual has another shape")
        }
        let after = residual != nil && convolution.activatesAfterResidual
        let kernel = try programs.program(["convolution", "linear"], linearTile.knobs).kernel("convolution")
        try runProduct(
            kernel, x, convolution.product, rows: out.rows, into: y, residual: residual, rowMap: nil, groups: Groups(),
            transposed: nil, extraFlags: after ? EpilogueFlag.activateAfterResidual : 0
        ) { call in
            call.buffer(zeros)
            call.uint(convolution.kernelHeight * convolution.kernelWidth)
            call.uint(shape.height)
            call.uint(shape.width)
            call.uint(out.height)
            call.uint(out.width)
            call.uint(convolution.kernelWidth)
            call.uint(convolution.stride)
            call.uint(convolution.padding)
        }
        return y
    }

    package func averagePool(_ x: OpenCLMatrix, _ shape: ImageShape, size: Int) throws(BackendError) -> OpenCLMatrix {
        precondition(x.rows == shape.rows, "x does not fit")
        let out = shape.convolved(kernelHeight: size, kernelWidth: size, stride: size, padding: 0)
        let y = try matrix(rows: out.rows, columns: x.columns)
        let kernel = try programs.program(["averagePool"]).kernel("averagePool")
        try run(kernel, groups: (out.rows, 1, 1), items: rowLanes) { call in
            call.matrix(x)
            call.matrix(y)
            call.uint(x.columns)
            call.uint(shape.height)
            call.uint(shape.width)
            call.uint(out.height)
            call.uint(out.width)
            call.uint(size)
        }
        return y
    }
}
