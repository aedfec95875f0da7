// Where OpenAI's `CLIP` and open_clip's `CLIP`, `CustomTextCLIP` and `CoCa` keep each weight. Towers that open_clip borrows
// from timm and transformers have files of their own.
import CLIPCompute
import Checkpoints

struct OpenAINames: ParameterNames {
    /// Whose image tower it is, apart from ResNets.
    enum ImageTower: Sendable { case own, timm }
    enum TextTower: Sendable { case own, xlmRoBERTa, t5 }

    let imageTower: ImageTower
    var textTower = TextTower.own
    /// What stands before the text tower's names: nothing, or `text.` in open_clip's models with a text tower of its own.
    let textPrefix: String
    /// The text projection is an `nn.Linear` instead of a matrix `[inputs, outputs]`.
    let projectionIsLinear: Bool
    /// CoCa's decoder, which embeddings do without.
    var hasDecoder = false

    init(_ weights: Checkpoint) {
        imageTower = weights[TimmNames.patchEmbedding] == nil ? .own : .timm
        textPrefix = weights["text.token_embedding.weight"] == nil ? "" : "text."
        projectionIsLinear = weights[textPrefix + "text_projection.weight"] != nil
    }

    func parameters(_ configuration: CLIPConfiguration, from loader: ParameterLoader) -> ModelParameters {
        // Numbers that OpenAI's archives have among the weights.
        for name in ["input_resolution", "context_length", "vocab_size"] { loader.ignore(name) }
        if hasDecoder { loader.ignore(prefix: "text_decoder.") }
        let normalization = configuration.preprocessing.normalization
        let vision: VisionParameters =
            switch configuration.vision {
            case .resNet(let vision): .resNet(resNet(vision, loader))
            case .transformer(let vision):
                switch imageTower {
                case .own: .transformer(transformer(vision, normalization, loader))
                case .timm: .transformer(TimmNames.parameters(vision, normalization, loader))
                }
            }
        let text =
            switch textTower {
            case .own: text(configuration.text, loader)
            case .xlmRoBERTa: XLMRoBERTaNames.parameters(configuration.text, loader)
            case .t5: T5Names.parameters(configuration.text, loader)
            }
        return ModelParameters(
            vision: vision, text: text, logitScale: loader.tensor("logit_scale", [], [1]),
            logitBias: configuration.hasLogitBias ? loader.tensor("logit_bias", [], [1]) : nil)
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
            positions: scope.tensor("positional_embedding", [vision.storedRows, width])
                .resizedSquare(
                    from: vision.storedGrid ?? vision.grid, to: vision.grid, leading: 1, .antialiasedBicubic),
            normalization: normalization)
        let storedPatches = StoredParameters(parameters: patches, stored: loader.takeRecent())
        var preNorm: StoredParameters<NormParameters>?
        if vision.hasPreNorm {
            let norm = scope.norm("ln_pre", width, epsilon: epsilon)
            preNorm = StoredParameters(parameters: norm, stored: loader.takeRecent())
        }
        let blocks = blocks(vision.transformer, scope["transformer"], loader)
        var pool: StoredParameters<AttentionPoolParameters>?
        if let configuration = vision.attentionPool {
            let parameters = attentionPool(configuration, scope["attn_pool"], inputs: width)
            pool = StoredParameters(parameters: parameters, stored: loader.takeRecent())
        }
        let inputs = pool == nil ? width : vision.outputs
        let norm = scope.norm("ln_post", inputs, epsilon: epsilon)
        var postNorm: StoredParameters<NormParameters>?
        if !vision.normsAfterPooling { postNorm = StoredParameters(parameters: norm, stored: loader.takeRecent()) }
        let projection = LinearParameters(
            weight: HostMatrix(scope.tensor("proj", [inputs, vision.outputs]), transposed: true),
            norm: vision.normsAfterPooling ? norm : nil)
        return VisionTransformerParameters(
            patches: storedPatches, preNorm: preNorm, blocks: blocks, postNorm: postNorm, pool: pool,
            head: StoredParameters(parameters: HeadParameters(linears: [projection]), stored: loader.takeRecent()))
    }

    /// `AttentionalPooler` of open_clip's transformer.py, of whose queries the first counts: queries do not see each
    /// other. A learned query's norm is computed here.
    private func attentionPool(
        _ pool: AttentionPoolConfiguration, _ scope: ParameterScope, inputs: Int
    ) -> AttentionPoolParameters {
        let epsilon: Float = 1e-5  // whatever the other norms have
        let width = pool.attention.heads * pool.attention.keyWidth
        let norm = scope.norm("ln_q", width, epsilon: epsilon)
        let query = scope.tensor("query", [pool.queries, width]).rows(0..<1).mapped(to: [width]) { query in
            norm.weight.isPlaceholder || norm.bias?.isPlaceholder != false ? query : norm.applied(to: query)
        }
        return AttentionPoolParameters(
            attention: scope["attn"].pooledAttention(
                pool.attention, query: query, inputs: inputs, norm: scope.norm("ln_k", inputs, epsilon: epsilon)))
    }

    private func text(_ text: TextConfiguration, _ loader: ParameterLoader) -> TextParameters {
        let width = text.transformer.width
        let hasClassToken = text.pooling == .classToken
        var table = [loader[textPrefix + "token_embedding"].tensor("weight", [text.vocabularySize, width])]
        // The class token is one more row of the table, and has the last position.
        if hasClassToken { table.append(loader.tensor(textPrefix + "cls_emb", [width]).shaped([1, width])) }
        let positions = text.contextLength + (hasClassToken ? 1 : 0)
        let tokens = TokenParameters(
            table: HostMatrix(table),
            positions: loader.tensor(textPrefix + "positional_embedding", [text.storedPositions ?? positions, width])
                .resizedLine(to: positions, .linear))
        let storedTokens = StoredParameters(parameters: tokens, stored: loader.takeRecent())
        // The causal mask, which some archives keep.
        loader.ignore(textPrefix + "attn_mask")
        let blocks = blocks(text.transformer, loader[textPrefix + "transformer"], loader)
        let final = loader[textPrefix + "ln_final"]
        let norm = NormParameters(
            weight: final.tensor("weight", [width]), bias: final.tensor("bias", [width]),
            epsilon: text.transformer.normEpsilon)
        let name = textPrefix + "text_projection"
        let head: HeadParameters
        if text.projection == .none {
            head = HeadParameters(norm: norm)
        } else if projectionIsLinear {
            head = HeadParameters(linears: [
                LinearParameters(
                    weight: HostMatrix(loader[name].tensor("weight", [text.outputs, width])),
                    bias: [loader[name].tensor("bias", [text.outputs])], norm: norm)
            ])
        } else {
            head = HeadParameters(linears: [
                LinearParameters(
                    weight: HostMatrix(loader.tensor(name, [width, text.outputs]), transposed: true), norm: norm)
            ])
        }
        return TextParameters(
            tokens: storedTokens, blocks: blocks,
            head: StoredParameters(parameters: head, stored: loader.takeRecent()))
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
                query: projections[0], key: projections[1], value: projections[2], output: output,
                mlp: MLPParameters(expand: expand, contract: contract), stored: loader.takeRecent())
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

extension NormParameters {
    /// The layer norm of one row, on the host.
    fileprivate func applied(to row: [Float]) -> [Float] {
        let mean = row.reduce(0.0) { $0 + Double($1) } / Double(row.count)
        let variance = row.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(row.count)
        let factor = 1 / (variance + Double(epsilon)).squareRoot()
        let (weights, biases) = (weight.floats(), bias?.floats() ?? [Float](repeating: 0, count: row.count))
        return row.indices.map {
            Float((Double(row[$0]) - mean) * factor * Double(weights[$0]) + Double(biases[$0]))
        }
    }
}
