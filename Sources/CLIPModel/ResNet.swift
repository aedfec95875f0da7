// CLIP's ResNet: convolutions over NHWC rows, and an attention pool. OpenAI's clip/model.py, `ModifiedResNet`.
import CLIPCompute
import Checkpoints

/// A convolution without bias and the batch norm behind it, which is an affine function of each channel.
struct NormedConvolution {
    /// `[outputs, inputs, size, size]`
    var weight: HostTensor
    /// `[outputs]` each: the learned factor and summand, and the statistics of the training.
    var scale: HostTensor
    var shift: HostTensor
    var mean: HostTensor
    var variance: HostTensor
    var stride: Int
    var activation: Activation
    var stored: [StoredTensor]

    /// `nn.BatchNorm2d`'s, which no CLIP changes.
    private static let epsilon = 1e-5

    /// One convolution with weight w · γ/√(v + ε) and bias β - m · γ/√(v + ε), computed in double. Its weight lies in the
    /// buffer, until the next is folded there.
    func folded(in buffer: FoldingBuffer, activatesAfterResidual: Bool = false) -> ConvolutionParameters {
        let factors = zip(scale.doubles(), variance.doubles()).map { $0 / ($1 + Self.epsilon).squareRoot() }
        let perOutput = weight.count / max(factors.count, 1)
        let values = UnsafeMutableBufferPointer(rebasing: buffer.values[..<weight.count])
        weight.copyFloats(from: 0, into: values)
        weight.letGo()
        for (output, factor) in factors.enumerated() {
            for index in (output * perOutput)..<((output + 1) * perOutput) {
                values[index] = Float(Double(values[index]) * factor)
            }
        }
        let means = mean.doubles()
        let bias = shift.doubles().enumerated().map { Float($1 - means[$0] * factors[$0]) }
        return ConvolutionParameters(
            weight: HostTensor(
                shape: weight.shape, elementType: .float32, bytes: UnsafeRawBufferPointer(values), owner: buffer),
            bias: HostTensor(bias, shape: [bias.count]), stride: stride,
            padding: weight.shape[2] / 2, activation: activation, activatesAfterResidual: activatesAfterResidual)
    }
}

/// Room for the weight of one convolution. One for all: many pieces of many sizes, made and freed while the backend
/// allocates its own, would stay with the process.
final class FoldingBuffer {
    fileprivate let values: UnsafeMutableBufferPointer<Float>

    init(capacity: Int) {
        values = .allocate(capacity: capacity)
        values.initialize(repeating: 0)
    }

    deinit { values.deallocate() }
}

extension HostTensor {
    /// The elements, exactly.
    fileprivate func doubles() -> [Double] {
        guard elementType == .float64 else { return floats().map(Double.init) }
        defer { withExtendedLifetime(owner) {} }
        return (0..<count).map { bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Double.self) }
    }
}

struct ResNetParameters {
    struct Block {
        var reduce: NormedConvolution
        var convolve: NormedConvolution
        var expand: NormedConvolution
        /// Where the block changes the size or the width.
        var shortcut: NormedConvolution?
        /// Squares of so many positions a side become one.
        var stride: Int
    }
    /// Three.
    var stem: [NormedConvolution]
    var blocks: [Block]
    var pool: StoredParameters<PooledAttentionParameters>

    var convolutions: [NormedConvolution] {
        stem + blocks.flatMap { [$0.reduce, $0.convolve, $0.expand] + [$0.shortcut].compactMap(\.self) }
    }
}

/// CLIP's ResNet on a device.
struct ResNet<B: Backend> {
    private struct Block {
        var reduce: B.Convolution
        var convolve: B.Convolution
        var expand: B.Convolution
        var shortcut: B.Convolution?
        var stride: Int
        /// Columns of the result.
        var outputs: Int
    }
    private let normalization: PixelNormalization
    private let stem: [B.Convolution]
    private let stemColumns: [Int]
    private let blocks: [Block]
    private let pool: B.PooledAttention

    init(_ parameters: ResNetParameters, _ normalization: PixelNormalization, _ backend: B) throws {
        self.normalization = normalization
        // First, since it is the largest: nothing else is in memory while it is there as stored and as prepared.
        pool = try preparing(parameters.pool.stored) { try backend.prepare(parameters.pool.parameters) }
        let buffer = FoldingBuffer(capacity: parameters.convolutions.map(\.weight.count).max() ?? 0)
        func prepare(_ convolution: NormedConvolution, last: Bool = false) throws -> B.Convolution {
            try preparing(convolution.stored) {
                try backend.prepare(convolution.folded(in: buffer, activatesAfterResidual: last))
            }
        }
        stem = try parameters.stem.map { try prepare($0) }
        stemColumns = parameters.stem.map { $0.weight.shape[0] }
        blocks = try parameters.blocks.map { block in
            try Block(
                reduce: prepare(block.reduce), convolve: prepare(block.convolve),
                expand: prepare(block.expand, last: true), shortcut: block.shortcut.map { try prepare($0) },
                stride: block.stride, outputs: block.expand.weight.shape[0])
        }
    }

    /// `[pictures, outputs]`, within a pass.
    func callAsFunction(_ pixels: Pixels, _ backend: B, _ observer: Observer?) throws -> B.Matrix {
        var shape = ImageShape(count: pixels.count, height: pixels.height, width: pixels.width)
        var x = try backend.pixels(pixels, normalization)  // [positions, 3]
        for (index, convolution) in stem.enumerated() {
            x = try backend.convolution(x, shape, convolution, residual: nil)
            if index == 0 { shape = shape.convolved(kernelHeight: 3, kernelWidth: 3, stride: 2, padding: 1) }
        }
        x = try backend.averagePool(x, shape, size: 2)
        shape = shape.averaged(2)
        try observer?.observe("stem", &x, columns: stemColumns[stemColumns.count - 1], backend)
        for (index, block) in blocks.enumerated() {
            x = try Self.apply(block, x, shape, backend)
            shape = shape.averaged(block.stride)
            try observer?.observe("block \(index)", &x, columns: block.outputs, backend)
        }
        return try backend.pooledAttention(
            x, Sequences(count: shape.count, length: shape.height * shape.width), rows: [], pool)
    }

    /// relu(expand(average(convolve(reduce(x)))) + shortcut(average(x))), each with its norm.
    private static func apply(
        _ block: Block, _ x: B.Matrix, _ shape: ImageShape, _ backend: B
    ) throws(BackendError) -> B.Matrix {
        var y = try backend.convolution(x, shape, block.reduce, residual: nil)
        y = try backend.convolution(y, shape, block.convolve, residual: nil)
        var identity = x
        let smaller = shape.averaged(block.stride)
        if block.stride > 1 {
            y = try backend.averagePool(y, shape, size: block.stride)
            identity = try backend.averagePool(x, shape, size: block.stride)
        }
        if let shortcut = block.shortcut {
            identity = try backend.convolution(identity, smaller, shortcut, residual: nil)
        }
        return try backend.convolution(y, smaller, block.expand, residual: identity)
    }
}

extension ImageShape {
    /// The shape after an average over squares of this size.
    fileprivate func averaged(_ size: Int) -> ImageShape {
        convolved(kernelHeight: size, kernelWidth: size, stride: size, padding: 0)
    }
}
