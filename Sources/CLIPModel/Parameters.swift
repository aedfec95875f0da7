// The weights of the towers, grouped as they are computed with, whatever their names in a file.
import CLIPCompute
import Checkpoints

/// Weight `[outputs, inputs]` and bias `[outputs]` of one projection.
struct ProjectionParameters {
    var weight: HostTensor
    var bias: HostTensor?
}

/// x + contract(activation(expand(norm(x)))).
struct MLPParameters {
    /// With the norm and the activation.
    var expand: LinearParameters
    var contract: LinearParameters
}

/// One block: x + attention(norm(x)), then x + mlp(norm(x)); or norm(x + attention(x)), then norm(x + mlp(x)).
struct BlockParameters {
    var attention: AttentionShape
    /// Before the attention; the MLP's own is among its linears.
    var attentionNorm: NormParameters?
    var query: ProjectionParameters
    var key: ProjectionParameters
    var value: ProjectionParameters
    var output: LinearParameters
    var mlp: MLPParameters
    /// Behind each of the two sums.
    var sumNorms: (attention: NormParameters, mlp: NormParameters)?
    var stored: [StoredTensor]

    var queryKeyValue: QueryKeyValueParameters {
        QueryKeyValueParameters(
            shape: attention, norm: attentionNorm, weight: HostMatrix([query.weight, key.weight, value.weight]),
            bias: [query.bias, key.bias, value.bias].compactMap(\.self))
    }

    var pooledAttention: PooledAttentionParameters {
        PooledAttentionParameters(
            shape: attention, query: .row, norm: attentionNorm, queryWeight: HostMatrix(query.weight),
            keyWeight: HostMatrix(key.weight), valueWeight: HostMatrix(value.weight), queryBias: query.bias,
            keyBias: key.bias, valueBias: value.bias, output: output)
    }
}

/// What stands before the first block or after the last, with the tensors that it was read from.
struct StoredParameters<Parameters> {
    var parameters: Parameters
    var stored: [StoredTensor]
}

enum VisionParameters {
    case transformer(VisionTransformerParameters)
    case resNet(ResNetParameters)
}

struct VisionTransformerParameters {
    var patches: StoredParameters<PatchParameters>
    var preNorm: StoredParameters<NormParameters>?
    var blocks: [BlockParameters]
    /// The last norm, where it stands before a mean; otherwise it is the pool's or the head's.
    var postNorm: StoredParameters<NormParameters>?
    var pool: StoredParameters<AttentionPoolParameters>?
    var head: StoredParameters<HeadParameters>
}

/// A learned query's attention to all rows, and the MLP behind it.
struct AttentionPoolParameters {
    var attention: PooledAttentionParameters
    var mlp: MLPParameters?
}

/// What stands between the pooled row and the result.
struct HeadParameters {
    /// Where there is no linear; otherwise it is the first linear's.
    var norm: NormParameters?
    /// One after the other.
    var linears: [LinearParameters] = []
}

struct TextParameters {
    var tokens: StoredParameters<TokenParameters>
    /// Behind the embeddings (XLM-RoBERTa).
    var preNorm: StoredParameters<NormParameters>?
    /// `[heads, context, context]`, added to the scores of every block.
    var positionBias: StoredParameters<HostTensor>?
    var blocks: [BlockParameters]
    /// The last norm, where it stands before a mean.
    var postNorm: StoredParameters<NormParameters>?
    var head: StoredParameters<HeadParameters>
}

struct ModelParameters {
    var vision: VisionParameters
    var text: TextParameters
    /// The logarithm of what cosines are multiplied by.
    var logitScale: HostTensor
    /// What is added then.
    var logitBias: HostTensor?
}

/// Where a kind of checkpoint keeps each weight.
protocol ParameterNames: Sendable {
    /// Takes all weights from the loader, which collects what is wrong.
    func parameters(_ configuration: CLIPConfiguration, from loader: ParameterLoader) -> ModelParameters
}
