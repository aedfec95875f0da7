// Prepared parameters: owners of what the C side packed.

import CCPU
import CLIPCompute

package final class CPUNorm {
    let pointer: OpaquePointer
    let columns: Int

    init(_ parameters: NormParameters) throws(BackendError) {
        columns = parameters.columns
        let bias = parameters.bias?.floats()
        precondition(bias == nil || bias?.count == columns, "a norm's gain and bias differ in length")
        let pointer = withOptionalPointer(bias) { bias in
            ccpu_norm_create(
                parameters.columns, parameters.weight.floats(), bias, parameters.epsilon, parameters.kind == .rms)
        }
        self.pointer = try pointer.orOutOfMemory("a norm")
    }

    deinit { ccpu_norm_destroy(pointer) }
}

package final class CPULinear {
    let pointer: OpaquePointer
    let norm: CPUNorm?
    let inputs: Int
    let outputs: Int
    /// The weights as they are stored, until they are packed.
    private var stored: HostMatrix?

    /// `quantizes`: holds the weights in 8 bits, and quantises rows as they come.
    init(context: OpaquePointer, _ parameters: LinearParameters, quantizes: Bool) throws(BackendError) {
        inputs = parameters.inputs
        outputs = parameters.outputs
        let norm: CPUNorm? = if let norm = parameters.norm { try CPUNorm(norm) } else { nil }
        self.norm = norm
        precondition(norm == nil || norm?.columns == inputs, "a norm and the linear after it differ in width")
        let bias = parameters.bias.isEmpty ? nil : parameters.bias.flatMap { $0.floats() }
        precondition(bias == nil || bias?.count == parameters.weight.rows, "bias and weight differ in rows")
        let scale = parameters.layerScale?.floats()
        precondition(scale == nil || scale?.count == outputs, "layer scale and outputs differ in length")
        let parts = parameters.weight.parts(columns: inputs)
        let stays = parameters.weight.parts.allSatisfy { $0.owner != nil }
        let pointer = withOptionalPointer(bias) { bias in
            withOptionalPointer(scale) { scale in
                ccpu_linear_create(
                    context, parts, Int32(parts.count), bias, scale, parameters.activation.code, parameters.gated,
                    quantizes, stays, norm?.pointer)
            }
        }
        self.pointer = try pointer.orOutOfMemory("a linear of \(parameters.outputs) x \(parameters.inputs)")
        stored = parameters.weight
        withExtendedLifetime(parameters) {}
        letGoOnceUsed()
    }

    /// To be called after each use.
    func letGoOnceUsed() {
        guard let matrix = stored, ccpu_linear_is_packed(pointer) else { return }
        matrix.letGo()
        stored = nil
    }

    /// What the packed weights take; 0 until they are.
    package var heldBytes: Int { ccpu_linear_held_bytes(pointer) }

    deinit { ccpu_linear_destroy(pointer) }
}

package final class CPUQueryKeyValue {
    let shape: AttentionShape
    let linear: CPULinear

    init(context: OpaquePointer, _ parameters: QueryKeyValueParameters, quantizes: Bool) throws(BackendError) {
        shape = parameters.shape
        linear = try CPULinear(
            context: context,
            LinearParameters(weight: parameters.weight, bias: parameters.bias, norm: parameters.norm),
            quantizes: quantizes)
        precondition(
            linear.outputs == shape.heads * (2 * shape.keyWidth + shape.valueWidth),
            "weights of query, key and value do not fit the heads")
    }
}

package final class CPUPooledAttention {
    enum Query {
        /// Projects the named row, norm included.
        case row(CPULinear)
        /// The projected query.
        case learned([Float])
        /// Projects the mean; positions are `[longest + 1, inputs]`.
        case mean(CPULinear, positions: [Float])
    }
    let pointer: OpaquePointer
    let shape: AttentionShape
    let query: Query
    let norm: CPUNorm?
    let output: CPULinear

    init(context: OpaquePointer, _ parameters: PooledAttentionParameters, query: Query) throws(BackendError) {
        shape = parameters.shape
        self.query = query
        norm = if let norm = parameters.norm { try CPUNorm(norm) } else { nil }
        let keys = parameters.keyWeight.parts(columns: parameters.keyWeight.columns)
        let values = parameters.valueWeight.parts(columns: parameters.valueWeight.columns)
        precondition(
            parameters.keyWeight.rows == shape.heads * shape.keyWidth
                && parameters.valueWeight.rows == shape.heads * shape.valueWidth,
            "weights of key and value do not fit the heads")
        // Each lets go of its pages before the next is read: the pool is two fifths of a ResNet's weights.
        let pointer = try ccpu_pooled_attention_create(context, parameters.shape.code, keys, Int32(keys.count))
            .orOutOfMemory("a pooled attention's keys")
        withExtendedLifetime(parameters) { parameters.keyWeight.letGo() }
        let complete = withOptionalPointer(parameters.valueBias?.floats()) { bias in
            ccpu_pooled_attention_set_values(context, pointer, values, Int32(values.count), bias)
        }
        withExtendedLifetime(parameters) { parameters.valueWeight.letGo() }
        do throws(BackendError) {
            _ = try (complete ? pointer : nil).orOutOfMemory("a pooled attention's values")
            output = try CPULinear(context: context, parameters.output, quantizes: false)
        } catch {
            ccpu_pooled_attention_destroy(pointer)
            throw error
        }
        self.pointer = pointer
    }

    deinit { ccpu_pooled_attention_destroy(pointer) }
}

package final class CPUConvolution {
    let pointer: OpaquePointer
    let inputs: Int
    let outputs: Int
    let kernelHeight: Int
    let kernelWidth: Int
    let stride: Int
    let padding: Int
    let activatesAfterResidual: Bool

    init(context: OpaquePointer, _ parameters: ConvolutionParameters, quantizes: Bool) throws(BackendError) {
        let shape = parameters.weight.shape
        precondition(shape.count == 4, "a convolution's weight has four dimensions")
        (outputs, inputs, kernelHeight, kernelWidth) = (shape[0], shape[1], shape[2], shape[3])
        stride = parameters.stride
        padding = parameters.padding
        activatesAfterResidual = parameters.activatesAfterResidual
        let part = HostMatrix(parameters.weight).parts(columns: shape.dropFirst().reduce(1, *))[0]
        let pointer = withOptionalPointer(parameters.bias?.floats()) { bias in
            ccpu_convolution_create(
                context, part, shape[1], shape[2], shape[3], parameters.stride, parameters.padding, bias,
                parameters.activation.code, quantizes)
        }
        withExtendedLifetime(parameters) {}
        self.pointer = try pointer.orOutOfMemory("a convolution")
    }

    deinit { ccpu_linear_destroy(pointer) }
}

package final class CPUPatches {
    let linear: CPULinear
    let patchSize: Int
    let classToken: [Float]?
    let positions: [Float]?
    let levels: [Float]

    init(context: OpaquePointer, _ parameters: PatchParameters, quantizes: Bool) throws(BackendError) {
        linear = try CPULinear(
            context: context,
            LinearParameters(
                weight: HostMatrix(parameters.weight), bias: parameters.bias.map { [$0] } ?? []), quantizes: quantizes)
        patchSize = parameters.patchSize
        classToken = parameters.classToken?.floats()
        positions = parameters.positions?.floats()
        levels = parameters.normalization.levels
    }
}

package final class CPUTokens {
    /// As it was stored; rows are converted as they are asked for, so a vocabulary costs nothing at load.
    let table: HostTensor
    let positions: [Float]?
    let width: Int

    init(_ parameters: TokenParameters) {
        let stored = parameters.table
        width = stored.columns
        table =
            stored.parts.count == 1 && !stored.transposed
            ? stored.parts[0] : HostTensor(stored.floats(), shape: [stored.rows, stored.columns])
        positions = parameters.positions?.floats()
    }
}

package final class CPUAttentionBias {
    let values: [Float]
    let heads: Int
    let queries: Int
    let keys: Int

    init(_ bias: HostTensor) {
        precondition(bias.shape.count == 3, "an attention bias is [heads, queries, keys]")
        values = bias.floats()
        (heads, queries, keys) = (bias.shape[0], bias.shape[1], bias.shape[2])
    }
}

// MARK: The contract's values as the C side's

extension HostMatrix {
    func parts(columns: Int) -> [ccpu_part] {
        parts.map {
            ccpu_part(
                bytes: $0.bytes.baseAddress, type: $0.elementType.code, rows: $0.count / max(columns, 1),
                columns: columns, transposed: transposed)
        }
    }
}

extension ElementType {
    var code: ccpu_element_type {
        switch self {
        case .float32: CCPU_FLOAT32
        case .float16: CCPU_FLOAT16
        case .bfloat16: CCPU_BFLOAT16
        case .float64: CCPU_FLOAT64
        }
    }
}

extension Activation {
    var code: ccpu_activation {
        switch self {
        case .none: CCPU_NONE
        case .relu: CCPU_RELU
        case .quickGELU: CCPU_QUICK_GELU
        case .gelu: CCPU_GELU
        case .geluTanh: CCPU_GELU_TANH
        }
    }
}

extension AttentionShape {
    var code: ccpu_attention_shape {
        ccpu_attention_shape(heads: heads, key_width: keyWidth, value_width: valueWidth, scale: scale)
    }
}

extension PixelNormalization {
    /// The 256 values of a byte in each channel, computed as for pixels that the host normalises.
    var levels: [Float] {
        (0..<3).flatMap { channel in
            (0..<256).map { (Float($0) / 255 - mean[channel]) / deviation[channel] }
        }
    }
}

extension Optional where Wrapped == OpaquePointer {
    func orOutOfMemory(_ what: String) throws(BackendError) -> OpaquePointer {
        guard let self else {
            throw BackendError(.outOfMemory, "The CPU backend has no memory for \(what); free some and try again.")
        }
        return self
    }
}

/// Calls `body` with the array's first element, or with none.
func withOptionalPointer<Result>(_ values: [Float]?, _ body: (UnsafePointer<Float>?) -> Result) -> Result {
    guard let values else { return body(nil) }
    return values.withUnsafeBufferPointer { body($0.baseAddress) }
}
