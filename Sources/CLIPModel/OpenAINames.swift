// Where OpenAI's `CLIP` and open_clip's `CLIP` and `CustomTextCLIP` keep each weight.
import CLIPCompute
import Checkpoints

struct OpenAINames: ParameterNames {
    /// What stands before the text tower's names: nothing, or `text.` in open_clip's models with a text tower of its own.
    let textPrefix: String
    /// The text projection is an `nn.Linear` instead of a matrix `[inputs, outputs]`.
    let projectionIsLinear: Bool

    init(_ weights: Checkpoint) {
        textPrefix = weights["text.token_embedding.weight"] == nil ? "" : "text."
        projectionIsLinear = weights[textPrefix + "text_projection.weight"] != nil
    }

    func parameters(_ configuration: CLIPConfiguration, from loader: ParameterLoader) -> ModelParameters {
        // Numbers that OpenAI's archives have among the weights.
        for name in ["input_resolution", "context_length", "vocab_size"] { loader.ignore(name) }
        let vision: VisionParameters =
            switch configuration.vision {
            case .transformer(let vision):
                .transformer(transformer(vision, configuration.preprocessing.normalization, loader))
            case .resNet(let vision): .resNet(resNet(vision, loader))
            }
        return ModelParameters(
            vision: vision, text: text(configuration.text, loader), logitScale: loader.tensor("logit_scale", [], [1]))
    }

    // MARK: Towers

    private func transformer(
        _ vision: VisionTransformerConfiguration, _ normalization: PixelNormalization, _ loader: ParameterLoader
    ) -> VisionTransformerParameters {
        let scope = loader["visual"]
        let width = vision.transformer.width
        let epsilon = vision.transformer.normEpsilon
        let patches = PatchParameters(
            weight: scope["conv1"].tensor("weight", [width, 3, vision.patchSize, vision.patchSize]), bias: nil,
            classToken: scope.tensor("class_embedding", [width]),
            positions: scope.tensor("positional_embedding", [vision.rowsPerPicture, width]),
            normalization: normalization)
        let storedPatches = StoredParameters(parameters: patches, stored: loader.takeRecent())
        var preNorm: StoredParameters<NormParameters>?
        if vision.hasPreNorm {
            let norm = scope.norm("ln_pre", width, epsilon: epsilon)
            preNorm = StoredParameters(parameters: norm, stored: loader.takeRecent())
        }
        let blocks = blocks(vision.transformer, scope["transformer"], loader)
        let norm = scope.norm("ln_post", width, epsilon: epsilon)
        var postNorm: StoredParameters<NormParameters>?
        if !vision.normsAfterPooling { postNorm = StoredParameters(parameters: norm, stored: loader.takeRecent()) }
        let projection = LinearParameters(
            weight: HostMatrix(scope.tensor("proj", [width, vision.outputs]), transposed: true),
            norm: vision.normsAfterPooling ? norm : nil)
        return VisionTransformerParameters(
            patches: storedPatches, preNorm: preNorm, blocks: blocks, postNorm: postNorm,
            projection: StoredParameters(parameters: projection, stored: loader.takeRecent()))
    }

    private func text(_ text: TextConfiguration, _ loader: ParameterLoader) -> TextParameters {
        let width = text.transformer.width
        let tokens = TokenParameters(
            table: HostMatrix(loader[textPrefix + "token_embedding"].tensor("weight", [text.vocabularySize, width])),
            positions: loader.tensor(textPrefix + "positional_embedding", [text.contextLength, width]))
        let storedTokens = StoredParameters(parameters: tokens, stored: loader.takeRecent())
        // The causal mask, which some archives keep.
        loader.ignore(textPrefix + "attn_mask")
        let blocks = blocks(text.transformer, loader[textPrefix + "transformer"], loader)
        let final = loader[textPrefix + "ln_final"]
        let norm = NormParameters(
            weight: final.tensor("weight", [width]), bias: final.tensor("bias", [width]),
            epsilon: text.transformer.normEpsilon)
        guard text.hasProjection else {
            return TextParameters(
                tokens: storedTokens, blocks: blocks,
                finalNorm: StoredParameters(parameters: norm, stored: loader.takeRecent()), projection: nil)
        }
        let name = textPrefix + "text_projection"
        let projection: LinearParameters
        if projectionIsLinear {
            projection = LinearParameters(
                weight: HostMatrix(loader[name].tensor("weight", [text.outputs, width])),
                bias: [loader[name].tensor("bias", [text.outputs])], norm: norm)
        } else {
            projection = LinearParameters(
                weight: HostMatrix(loader.tensor(name, [width, text.outputs]), transposed: true), norm: norm)
        }
        return TextParameters(
            tokens: storedTokens, blocks: blocks,
            projection: StoredParameters(parameters: projection, stored: loader.takeRecent()))
    }

    private func blocks(
        _ transformer: TransformerConfiguration, _ tower: ParameterScope, _ loader: ParameterLoader
    ) -> [BlockParameters] {
        let width = transformer.width
        let epsilon = transformer.normEpsilon
        return (0..<transformer.layers).map { index in
            let block = tower["resblocks"][index]
            block.ignore("attn_mask")
            let attention = block["attn"]
            let weights = attention.tensor("in_proj_weight", [3 * width, width]).rows(in: 3)
            let biases = attention.tensor("in_proj_bias", [3 * width]).rows(in: 3)
            let projections = zip(weights, biases).map { ProjectionParameters(weight: $0, bias: $1) }
            var output = attention.linear("out_proj", inputs: width, outputs: width)
            let mlp = block["mlp"]
            let expand = mlp.linear(
                "c_fc", inputs: width, outputs: transformer.mlpWidth,
                norm: block.norm("ln_2", width, epsilon: epsilon), activation: transformer.activation)
            var contract = mlp.linear("c_proj", inputs: transformer.mlpWidth, outputs: width)
            if transformer.hasLayerScale {
                output.layerScale = block["ls_1"].tensor("gamma", [width])
                contract.layerScale = block["ls_2"].tensor("gamma", [width])
            }
            return BlockParameters(
                attention: transformer.attention, attentionNorm: block.norm("ln_1", width, epsilon: epsilon),
                query: projections[0], key: projections[1], value: projections[2], output: output, expand: expand,
                contract: contract, stored: loader.takeRecent())
        }
    }

    // MARK: ResNet

    private func resNet(_ vision: ResNetConfiguration, _ loader: ParameterLoader) -> ResNetParameters {
        let scope = loader["visual"]
        let width = vision.width
        func convolution(
            _ scope: ParameterScope, _ name: String, _ norm: String, _ inputs: Int, _ outputs: Int, size: Int,
            stride: Int = 1, activation: Activation = .relu
        ) -> NormedConvolution {
            scope[norm].ignore("num_batches_tracked")
            return NormedConvolution(
                weight: scope[name].tensor("weight", [outputs, inputs, size, size]),
                scale: scope[norm].tensor("weight", [outputs]), shift: scope[norm].tensor("bias", [outputs]),
                mean: scope[norm].tensor("running_mean", [outputs]),
                variance: scope[norm].tensor("running_var", [outputs]), stride: stride, activation: activation,
                stored: loader.takeRecent())
        }
        let stem = [
            convolution(scope, "conv1", "bn1", 3, width / 2, size: 3, stride: 2),
            convolution(scope, "conv2", "bn2", width / 2, width / 2, size: 3),
            convolution(scope, "conv3", "bn3", width / 2, width, size: 3),
        ]
        var blocks: [ResNetParameters.Block] = []
        var inputs = width
        for (stage, count) in vision.layers.enumerated() {
            let columns = width << stage
            for index in 0..<count {
                let block = scope["layer\(stage + 1)"][index]
                let stride = stage > 0 && index == 0 ? 2 : 1
                let shortcut =
                    stride > 1 || inputs != columns * 4
                    ? convolution(
                        block["downsample"], "0", "1", inputs, columns * 4, size: 1, activation: .none) : nil
                blocks.append(
                    ResNetParameters.Block(
                        reduce: convolution(block, "conv1", "bn1", inputs, columns, size: 1),
                        convolve: convolution(block, "conv2", "bn2", columns, columns, size: 3),
                        expand: convolution(block, "conv3", "bn3", columns, columns * 4, size: 1), shortcut: shortcut,
                        stride: stride))
                inputs = columns * 4
            }
        }
        let pool = scope["attnpool"]
        let positions = (vision.imageSize / 32) * (vision.imageSize / 32) + 1
        let query = pool.projection("q_proj", inputs: inputs, outputs: inputs)
        let key = pool.projection("k_proj", inputs: inputs, outputs: inputs)
        let value = pool.projection("v_proj", inputs: inputs, outputs: inputs)
        let attention = PooledAttentionParameters(
            shape: AttentionShape(width: inputs, heads: vision.heads),
            query: .mean(positions: pool.tensor("positional_embedding", [positions, inputs])), norm: nil,
            queryWeight: HostMatrix(query.weight), keyWeight: HostMatrix(key.weight),
            valueWeight: HostMatrix(value.weight), queryBias: query.bias, keyBias: key.bias, valueBias: value.bias,
            output: pool.linear("c_proj", inputs: inputs, outputs: vision.outputs))
        return ResNetParameters(
            stem: stem, blocks: blocks, pool: StoredParameters(parameters: attention, stored: loader.takeRecent()))
    }
}

extension HostTensor {
    /// Its rows in so many equal parts.
    fileprivate func rows(in parts: Int) -> [HostTensor] {
        let shape = [shape[0] / parts] + shape.dropFirst()
        let size = shape.reduce(1, *) * elementType.byteCount
        return (0..<parts).map { part in
            // A placeholder of a tensor that is missing has no bytes.
            let bytes =
                bytes.isEmpty ? bytes : UnsafeRawBufferPointer(rebasing: bytes[(part * size)..<((part + 1) * size)])
            return HostTensor(shape: shape, elementType: elementType, bytes: bytes, owner: owner)
        }
    }
}
