// What a backend is given at load: the parameters of each operation, in host memory, grouped as they travel.
// A backend turns each into its own prepared form (precision, packing, folding) with `Backend.prepare`.

/// Element-wise functions between two linears.
package enum Activation: String, Sendable, CaseIterable {
    case none
    case relu
    /// x · sigmoid(1.702 x), OpenAI's models.
    case quickGELU = "quickgelu"
    /// x · Φ(x) with the error function: `torch.nn.GELU()`.
    case gelu
    /// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))): `torch.nn.GELU(approximate="tanh")`, T5's `gelu_new`, SigLIP.
    case geluTanh = "gelu-tanh"
}

/// y = (x - mean) / √(variance + ε) · weight + bias over the columns of each row (layer), or
/// y = x / √(mean(x²) + ε) · weight (RMS). Statistics are computed in at least float32, in two passes.
/// PyTorch: `F.layer_norm`, `F.rms_norm`.
package struct NormParameters {
    package enum Kind: Sendable { case layer, rms }
    package var kind: Kind
    /// `[columns]`
    package var weight: HostTensor
    /// `[columns]`; none for RMS norms and norms without bias.
    package var bias: HostTensor?
    package var epsilon: Float

    package init(kind: Kind = .layer, weight: HostTensor, bias: HostTensor?, epsilon: Float) {
        self.kind = kind
        self.weight = weight
        self.bias = bias
        self.epsilon = epsilon
    }

    package var columns: Int { weight.count }
}

/// A linear layer with what stands before and after it.
///
/// With h = norm(x) (or x), a = h · weightᵀ + bias:
/// - ungated: y = layerScale · activation(a);
/// - gated: the rows of `weight` (and of `bias`) are two halves, and y = layerScale · activation(first) · second;
/// the call adds y to what it is given, or makes a new matrix.
package struct LinearParameters {
    /// `[outputs, inputs]`; `[2 · outputs, inputs]` where gated.
    package var weight: HostMatrix
    /// `[outputs]` in as many tensors as convenient, stacked; none for no bias.
    package var bias: [HostTensor]
    /// Applied to x first; handed over here so that a backend may fold it into the weights.
    package var norm: NormParameters?
    package var activation: Activation
    package var gated: Bool
    /// `[outputs]`; LayerScale's γ, applied before the residual is added.
    package var layerScale: HostTensor?

    package init(
        weight: HostMatrix, bias: [HostTensor] = [], norm: NormParameters? = nil, activation: Activation = .none,
        gated: Bool = false, layerScale: HostTensor? = nil
    ) {
        self.weight = weight
        self.bias = bias
        self.norm = norm
        self.activation = activation
        self.gated = gated
        self.layerScale = layerScale
    }

    package var inputs: Int { weight.columns }
    package var outputs: Int { gated ? weight.rows / 2 : weight.rows }
}

/// The widths of multi-head attention. The model's width need not be `heads · keyWidth` (T5).
package struct AttentionShape: Hashable, Sendable {
    package var heads: Int
    /// Columns of one head's query and key.
    package var keyWidth: Int
    /// Columns of one head's value.
    package var valueWidth: Int
    /// Multiplies the scores; 1/√keyWidth in CLIP, 1 in T5.
    package var scale: Float

    package init(heads: Int, keyWidth: Int, valueWidth: Int, scale: Float) {
        self.heads = heads
        self.keyWidth = keyWidth
        self.valueWidth = valueWidth
        self.scale = scale
    }

    /// CLIP's: all heads together are as wide as the model, scores scaled by 1/√(head width).
    package init(width: Int, heads: Int) {
        let head = width / heads
        self.init(heads: heads, keyWidth: head, valueWidth: head, scale: 1 / Float(head).squareRoot())
    }
}

/// The linear whose result only attention reads: q, k and v of every row, from the same (normed) row.
/// PyTorch: `in_proj_weight` of `nn.MultiheadAttention`, or three `nn.Linear`.
package struct QueryKeyValueParameters {
    package var shape: AttentionShape
    package var norm: NormParameters?
    /// `[heads · keyWidth, inputs]` twice and `[heads · valueWidth, inputs]`, stacked in this order, in one tensor or more.
    package var weight: HostMatrix
    /// Stacked in the same order; none for no bias.
    package var bias: [HostTensor]

    package init(shape: AttentionShape, norm: NormParameters?, weight: HostMatrix, bias: [HostTensor]) {
        self.shape = shape
        self.norm = norm
        self.weight = weight
        self.bias = bias
    }
}

/// Attention with one query for each sequence: the last block of a transformer of which one row is wanted, and the
/// attention pools of ResNet CLIP, SigLIP and CoCa. All weights are here, so that a backend need not compute keys
/// and values of every row: scores are (W_kᵀ q) · x, and W_v is applied after the weighted sum.
package struct PooledAttentionParameters {
    package enum Query {
        /// The query is made from one row of each sequence, named at the call; that row of x is added to the result
        /// (the residual of a pre-norm block).
        case row
        /// A learned vector `[query inputs]`, the same for all sequences, before the query projection. It is not normed.
        case learned(HostTensor)
        /// The mean of the sequence's rows is put in front of them, positions `[longest + 1, inputs]` are added to all,
        /// and the first is the query (CLIP's `AttentionPool2d`).
        case mean(positions: HostTensor)
    }
    package var shape: AttentionShape
    package var query: Query
    /// Applied to the rows of x (and with `.row` to the query's row) before the projections, and with `.mean` before
    /// the mean is taken.
    package var norm: NormParameters?
    /// `[heads · keyWidth, query inputs]`
    package var queryWeight: HostMatrix
    /// `[heads · keyWidth, inputs]`
    package var keyWeight: HostMatrix
    /// `[heads · valueWidth, inputs]`
    package var valueWeight: HostMatrix
    package var queryBias: HostTensor?
    package var keyBias: HostTensor?
    package var valueBias: HostTensor?
    /// `[outputs, heads · valueWidth]`, with bias and layer scale; neither norm, activation nor gate.
    package var output: LinearParameters

    package init(
        shape: AttentionShape, query: Query, norm: NormParameters?, queryWeight: HostMatrix, keyWeight: HostMatrix,
        valueWeight: HostMatrix, queryBias: HostTensor?, keyBias: HostTensor?, valueBias: HostTensor?,
        output: LinearParameters
    ) {
        self.shape = shape
        self.query = query
        self.norm = norm
        self.queryWeight = queryWeight
        self.keyWeight = keyWeight
        self.valueWeight = valueWeight
        self.queryBias = queryBias
        self.keyBias = keyBias
        self.valueBias = valueBias
        self.output = output
    }
}

/// A convolution over NHWC rows. PyTorch: `F.conv2d` with zero padding, one group.
/// Batch norm is already folded into weight and bias by the model.
package struct ConvolutionParameters {
    /// `[outputs, inputs, kernelHeight, kernelWidth]`
    package var weight: HostTensor
    package var bias: HostTensor?
    package var stride: Int
    package var padding: Int
    package var activation: Activation
    /// y = activation(conv + residual) instead of activation(conv) + residual.
    package var activatesAfterResidual: Bool

    package init(
        weight: HostTensor, bias: HostTensor?, stride: Int, padding: Int, activation: Activation,
        activatesAfterResidual: Bool = false
    ) {
        self.weight = weight
        self.bias = bias
        self.stride = stride
        self.padding = padding
        self.activation = activation
        self.activatesAfterResidual = activatesAfterResidual
    }
}

/// Pictures into tokens: a convolution whose stride is its size, with the class token and the positions.
///
/// Per picture, rows are `[class token, patches in row-major order]` (no first row without a class token), each plus
/// its position. 8-bit pixels are normalised as (p/255 - mean) / deviation per channel; a backend may fold that into
/// the weights.
package struct PatchParameters {
    /// `[width, 3, patch, patch]`
    package var weight: HostTensor
    /// `[width]`; CLIP has none, SigLIP has one.
    package var bias: HostTensor?
    /// `[width]`
    package var classToken: HostTensor?
    /// `[rows per picture, width]`, the class token's first.
    package var positions: HostTensor?
    package var normalization: PixelNormalization

    package init(
        weight: HostTensor, bias: HostTensor?, classToken: HostTensor?, positions: HostTensor?,
        normalization: PixelNormalization
    ) {
        self.weight = weight
        self.bias = bias
        self.classToken = classToken
        self.positions = positions
        self.normalization = normalization
    }

    package var patchSize: Int { weight.shape[2] }
    package var width: Int { weight.shape[0] }

    /// Rows that one picture of this size becomes.
    package func rowsPerPicture(height: Int, width: Int) -> Int {
        (height / patchSize) * (width / patchSize) + (classToken == nil ? 0 : 1)
    }
}

/// A table of token vectors and, where the model has them, of position vectors.
package struct TokenParameters {
    /// `[vocabulary, width]`
    package var table: HostMatrix
    /// `[positions, width]`
    package var positions: HostTensor?

    package init(table: HostMatrix, positions: HostTensor?) {
        self.table = table
        self.positions = positions
    }
}
