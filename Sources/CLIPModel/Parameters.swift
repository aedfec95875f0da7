// The weights of the towers, grouped as they are computed with, whatever their names in a file.
import CLIPCompute
import Checkpoints

/// Weight `[outputs, inputs]` and bias `[outputs]` of one projection.
struct ProjectionParameters {
    var weight: HostTensor
    var bias: HostTensor?
}

/// One pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)).
struct BlockParameters {
    var attention: AttentionShape
    var attentionNorm: NormParameters
    var query: ProjectionParameters
    var key: ProjectionParameters
    var value: ProjectionParameters
    var output: LinearParameters
    /// With the second norm and the activation.
    var expand: LinearParameters
    var contract: LinearParameters
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
    /// The last norm, where it stands before the pooling; otherwise it is the projection's.
    var postNorm: StoredParameters<NormParameters>?
    var projection: StoredParameters<LinearParameters>
}

struct TextParameters {
    var tokens: StoredParameters<TokenParameters>
    var blocks: [BlockParameters]
    /// The last norm, where there is no projection; otherwise it is the projection's.
    var finalNorm: StoredParameters<NormParameters>?
    var projection: StoredParameters<LinearParameters>?
}

struct ModelParameters {
    var vision: VisionParameters
    var text: TextParameters
    /// The logarithm of what cosines are multiplied by.
    var logitScale: HostTensor
}

/// Where a kind of checkpoint keeps each weight.
protocol ParameterNames: Sendable {
    /// Takes all weights from the loader, which collects what is wrong.
    func parameters(_ configuration: CLIPConfiguration, from loader: ParameterLoader) -> ModelParameters
}
