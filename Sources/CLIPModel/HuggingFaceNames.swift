// Where transformers' `CLIPModel`, `MetaClip2Model` and `SiglipModel` keep each weight.
import CLIPCompute
import Checkpoints

/// The models of transformers that are opened, by their `model_type`.
enum HuggingFaceFamily: String, CaseIterable {
    case clip
    case metaCLIP2 = "metaclip_2"
    case sigLIP = "siglip"
}

struct HuggingFaceNames: ParameterNames {
    let family: HuggingFaceFamily
    /// What stands before every name: nothing, or the name of a model that CLIP is a part of, and a point.
    let prefix: String

    static let patchEmbedding = "vision_model.embeddings.patch_embedding.weight"

    func parameters(_ configuration: CLIPConfiguration, from loader: ParameterLoader) -> ModelParameters {
        ModelParameters(
            vision: .transformer(vision(configuration, loader)),
            text: text(configuration.text, loader[prefix + "text_model"], loader),
            logitScale: loader.tensor(prefix + "logit_scale", [], [1]),
            logitBias: configuration.hasLogitBias ? loader.tensor(prefix + "logit_bias", [], [1]) : nil)
    }

    private func vision(
        _ configuration: CLIPConfiguration, _ loader: ParameterLoader
    ) -> VisionTransformerParameters {
        guard case .transformer(let vision) = configuration.vision else {
            preconditionFailure("transformers' models have a vision transformer")
        }
        let scope = loader[prefix + "vision_model"]
        let width = vision.transformer.width
        let epsilon = vision.transformer.normEpsilon
        let embeddings = scope["embeddings"]
        loader.ignore(embeddings.path + ".position_ids")
        let embedding = embeddings["patch_embedding"]
        let patches = PatchParameters(
            weight: embedding.tensor("weight", [width, 3, vision.patchSize, vision.patchSize]),
            bias: family == .sigLIP ? embedding.tensor("bias", [width]) : nil,
            classToken: vision.hasClassToken ? embeddings.tensor("class_embedding", [width]) : nil,
            positions: embeddings["position_embedding"].tensor("weight", [vision.storedRows, width])
                .resizedSquare(
                    from: vision.storedGrid ?? vision.grid, to: vision.grid, leading: vision.hasClassToken ? 1 : 0,
                    .bicubic),
            normalization: configuration.preprocessing.normalization)
        let storedPatches = StoredParameters(parameters: patches, stored: loader.takeRecent())
        var storedPreNorm: StoredParameters<NormParameters>?
        if vision.hasPreNorm {
            // The typo is transformers' own.
            let preNorm = scope.norm("pre_layrnorm", width, epsilon: epsilon)
            storedPreNorm = StoredParameters(parameters: preNorm, stored: loader.takeRecent())
        }
        let blocks = blocks(vision.transformer, scope, loader)
        let norm = scope.norm("post_layernorm", width, epsilon: epsilon)
        guard let pool = vision.attentionPool else {
            let projection = LinearParameters(
                weight: HostMatrix(loader[prefix + "visual_projection"].tensor("weight", [vision.outputs, width])),
                norm: norm)
            return VisionTransformerParameters(
                patches: storedPatches, preNorm: storedPreNorm, blocks: blocks,
                head: StoredParameters(
                    parameters: HeadParameters(linears: [projection]), stored: loader.takeRecent()))
        }
        let head = scope["head"]
        let attention = head["attention"].pooledAttention(
            pool.attention, query: head.tensor("probe", [1, 1, width]).shaped([width]), inputs: width, norm: norm)
        let poolMLP = pool.mlpWidth.map { hidden in
            mlp(
                head["mlp"], width: width, hidden: hidden, norm: head.norm("layernorm", width, epsilon: epsilon),
                vision.transformer.activation)
        }
        return VisionTransformerParameters(
            patches: storedPatches, preNorm: storedPreNorm, blocks: blocks,
            pool: StoredParameters(
                parameters: AttentionPoolParameters(attention: attention, mlp: poolMLP), stored: loader.takeRecent()),
            head: StoredParameters(parameters: HeadParameters(), stored: []))
    }

    private func text(
        _ text: TextConfiguration, _ scope: ParameterScope, _ loader: ParameterLoader
    ) -> TextParameters {
        let width = text.transformer.width
        let embeddings = scope["embeddings"]
        loader.ignore(embeddings.path + ".position_ids")
        let tokens = TokenParameters(
            table: HostMatrix(embeddings["token_embedding"].tensor("weight", [text.vocabularySize, width])),
            positions: embeddings["position_embedding"].tensor("weight", [text.contextLength, width]))
        let storedTokens = StoredParameters(parameters: tokens, stored: loader.takeRecent())
        let blocks = blocks(text.transformer, scope, loader)
        let norm = scope.norm("final_layer_norm", width, epsilon: text.transformer.normEpsilon)
        let projection =
            family == .sigLIP
            ? scope.linear("head", inputs: width, outputs: text.outputs, norm: norm)
            : LinearParameters(
                weight: HostMatrix(loader[prefix + "text_projection"].tensor("weight", [text.outputs, width])),
                norm: norm)
        return TextParameters(
            tokens: storedTokens, blocks: blocks,
            head: StoredParameters(parameters: HeadParameters(linears: [projection]), stored: loader.takeRecent()))
    }

    private func blocks(
        _ transformer: TransformerConfiguration, _ tower: ParameterScope, _ loader: ParameterLoader
    ) -> [BlockParameters] {
        let width = transformer.width
        let epsilon = transformer.normEpsilon
        return (0..<transformer.layers).map { index in
            let layer = tower["encoder"]["layers"][index]
            let attention = layer["self_attn"]
            return BlockParameters(
                attention: transformer.attention,
                attentionNorm: layer.norm("layer_norm1", width, epsilon: epsilon),
                query: attention.projection("q_proj", inputs: width, outputs: width),
                key: attention.projection("k_proj", inputs: width, outputs: width),
                value: attention.projection("v_proj", inputs: width, outputs: width),
                output: attention.linear("out_proj", inputs: width, outputs: width),
                mlp: mlp(
                    layer["mlp"], width: width, hidden: transformer.mlpWidth,
                    norm: layer.norm("layer_norm2", width, epsilon: epsilon), transformer.activation),
                stored: loader.takeRecent())
        }
    }

    private func mlp(
        _ scope: ParameterScope, width: Int, hidden: Int, norm: NormParameters, _ activation: Activation
    ) -> MLPParameters {
        MLPParameters(
            expand: scope.linear("fc1", inputs: width, outputs: hidden, norm: norm, activation: activation),
            contract: scope.linear("fc2", inputs: hidden, outputs: width))
    }
}
