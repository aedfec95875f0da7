// Where open_clip keeps transformers' `XLMRobertaModel` as a text tower: `HFTextEncoder` of its hf_model.py.
import CLIPCompute

enum XLMRoBERTaNames {
    static func parameters(_ text: TextConfiguration, _ loader: ParameterLoader) -> TextParameters {
        let transformer = text.transformer
        let width = transformer.width
        let epsilon = transformer.normEpsilon
        let embeddings = loader["text.transformer.embeddings"]
        embeddings.ignore("position_ids")
        embeddings.ignore("token_type_ids")
        let places = text.storedPositions ?? text.contextLength
        // Every token is of the first type, whose vector is therefore a part of every position's.
        let types = loader.tensor(embeddings.path + ".token_type_embeddings.weight", [1, width], [2, width])
            .rows(0..<1)
        let positions = embeddings["position_embeddings"].tensor("weight", [places, width])
        let tokens = TokenParameters(
            table: HostMatrix(embeddings["word_embeddings"].tensor("weight", [text.vocabularySize, width])),
            positions: positions.mapped(to: [places, width]) { values in
                guard !types.isPlaceholder else { return values }
                let type = types.floats()
                return values.indices.map { values[$0] + type[$0 % width] }
            })
        let storedTokens = StoredParameters(parameters: tokens, stored: loader.takeRecent())
        let norm = embeddings.norm("LayerNorm", width, epsilon: epsilon)
        let preNorm = StoredParameters(parameters: norm, stored: loader.takeRecent())
        let blocks = (0..<transformer.layers).map { index in
            let layer = loader["text.transformer.encoder.layer"][index]
            let attention = layer["attention"]
            return BlockParameters(
                attention: transformer.attention, attentionNorm: nil,
                query: attention["self"].projection("query", inputs: width, outputs: width),
                key: attention["self"].projection("key", inputs: width, outputs: width),
                value: attention["self"].projection("value", inputs: width, outputs: width),
                output: attention["output"].linear("dense", inputs: width, outputs: width),
                mlp: MLPParameters(
                    expand: layer["intermediate"].linear(
                        "dense", inputs: width, outputs: transformer.mlpWidth, activation: transformer.activation),
                    contract: layer["output"].linear("dense", inputs: transformer.mlpWidth, outputs: width)),
                sumNorms: (
                    attention["output"].norm("LayerNorm", width, epsilon: epsilon),
                    layer["output"].norm("LayerNorm", width, epsilon: epsilon)
                ),
                stored: loader.takeRecent())
        }
        return TextParameters(
            tokens: storedTokens, preNorm: preNorm, blocks: blocks, head: head(text, loader, norm: nil))
    }

    /// open_clip's projection behind a text tower of transformers', without biases.
    static func head(
        _ text: TextConfiguration, _ loader: ParameterLoader, norm: NormParameters?
    ) -> StoredParameters<HeadParameters> {
        let width = text.transformer.width
        func linear(_ name: String, inputs: Int, outputs: Int, _ activation: Activation) -> LinearParameters {
            LinearParameters(
                weight: HostMatrix(loader[name].tensor("weight", [outputs, inputs])), activation: activation)
        }
        var head = HeadParameters()
        switch text.projection {
        case .none: head.norm = norm
        case .linear: head.linears = [linear("text.proj", inputs: width, outputs: text.outputs, .none)]
        case .mlp(let hidden):
            head.linears = [
                linear("text.proj.0", inputs: width, outputs: hidden, .gelu),
                linear("text.proj.2", inputs: hidden, outputs: text.outputs, .none),
            ]
        }
        if !head.linears.isEmpty { head.linears[0].norm = norm }
        return StoredParameters(parameters: head, stored: loader.takeRecent())
    }
}
