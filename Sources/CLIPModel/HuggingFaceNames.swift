// Where transformers' `CLIPModel` keeps each weight.
import CLIPCompute
import Checkpoints

struct HuggingFaceNames: ParameterNames {
    /// What stands before every name: nothing, or the name of a model that CLIP is a part of, and a point.
    let prefix: String

    static let patchEmbedding = "vision_model.embeddings.patch_embedding.weight"

    func parameters(_ configuration: CLIPConfiguration, from loader: ParameterLoader) -> ModelParameters {
        ModelParameters(
            vision: .transformer(vision(configuration, loader)),
            text: text(configuration.text, loader[prefix + "text_model"], loader),
            logitScale: loader.tensor(prefix + "logit_scale", [], [1]))
    }

    private func vision(
        _ configuration: CLIPConfiguration, _ loader: ParameterLoader
    ) -> VisionTransformerParameters {
        guard case .transformer(let vision) = configuration.vision else {
            preconditionFailure("transformers' CLIP has a vision transformer")
        }
        let scope = loader[prefix + "vision_model"]
        let width = vision.transformer.width
        let epsilon = vision.transformer.normEpsilon
        let embeddings = scope["embeddings"]
        loader.ignore(embeddings.path + ".position_ids")
        let patches = PatchParameters(
            weight: embeddings["patch_embedding"].tensor("weight", [width, 3, vision.patchSize, vision.patchSize]),
            bias: nil, classToken: embeddings.tensor("class_embedding", [width]),
            positions: embeddings["position_embedding"].tensor("weight", [vision.rowsPerPicture, width]),
            normalization: configuration.preprocessing.normalization)
        let storedPatches = StoredParameters(parameters: patches, stored: loader.takeRecent())
        // The typo is transformers' own.
        let preNorm = scope.norm("pre_layrnorm", width, epsilon: epsilon)
        let storedPreNorm = StoredParameters(parameters: preNorm, stored: loader.takeRecent())
        let blocks = blocks(vision.transformer, scope, loader)
        let projection = LinearParameters(
            weight: HostMatrix(loader[prefix + "visual_projection"].tensor("weight", [vision.outputs, width])),
            norm: scope.norm("post_layernorm", width, epsilon: epsilon))
        return VisionTransformerParameters(
            patches: storedPatches, preNorm: storedPreNorm, blocks: blocks,
            projection: StoredParameters(parameters: projection, stored: loader.takeRecent()))
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
        let projection = LinearParameters(
            weight: HostMatrix(loader[prefix + "text_projection"].tensor("weight", [text.outputs, width])),
            norm: scope.norm("final_layer_norm", width, epsilon: text.transformer.normEpsilon))
        return TextParameters(
            tokens: storedTokens, blocks: blocks,
            projection: StoredParameters(parameters: projection, stored: loader.takeRecent()))
    }

    private func blocks(
        _ transformer: TransformerConfiguration, _ tower: ParameterScope, _ loader: ParameterLoader
    ) -> [BlockParameters] {
        let width = transformer.width
        let mlpWidth = transformer.mlpWidth
        let epsilon = transformer.normEpsilon
        return (0..<transformer.layers).map { index in
            let layer = tower["encoder"]["layers"][index]
            let attention = layer["self_attn"]
            let mlp = layer["mlp"]
            return BlockParameters(
                attention: transformer.attention,
                attentionNorm: layer.norm("layer_norm1", width, epsilon: epsilon),
                query: attention.projection("q_proj", inputs: width, outputs: width),
                key: attention.projection("k_proj", inputs: width, outputs: width),
                value: attention.projection("v_proj", inputs: width, outputs: width),
                output: attention.linear("out_proj", inputs: width, outputs: width),
                expand: mlp.linear(
                    "fc1", inputs: width, outputs: mlpWidth,
                    norm: layer.norm("layer_norm2", width, epsilon: epsilon), activation: transformer.activation),
                contract: mlp.linear("fc2", inputs: mlpWidth, outputs: width), stored: loader.takeRecent())
        }
    }
}
