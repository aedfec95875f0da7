// Where open_clip keeps timm's vision transformers of SigLIP: `VisionTransformer` (vision_transformer.py) with
// `AttentionPoolLatent` (attention_pool.py), below `visual.trunk`.
import CLIPCompute

enum TimmNames {
    static let patchEmbedding = "visual.trunk.patch_embed.proj.weight"
    /// Above every norm's ε in timm's vision transformers.
    static let normEpsilon = 1e-6

    static func parameters(
        _ vision: VisionTransformerConfiguration, _ normalization: PixelNormalization, _ loader: ParameterLoader
    ) -> VisionTransformerParameters {
        let trunk = loader["visual.trunk"]
        let transformer = vision.transformer
        let width = transformer.width
        let epsilon = transformer.normEpsilon
        let embedding = trunk["patch_embed"]["proj"]
        let patches = PatchParameters(
            weight: embedding.tensor("weight", [width, 3, vision.patchSize, vision.patchSize]),
            bias: embedding.tensor("bias", [width]), classToken: nil,
            positions: trunk.tensor("pos_embed", [1, vision.storedRows, width]).shaped([vision.storedRows, width])
                .resizedSquare(
                    from: vision.storedGrid ?? vision.grid, to: vision.grid, leading: 0, .antialiasedBicubic),
            normalization: normalization)
        let storedPatches = StoredParameters(parameters: patches, stored: loader.takeRecent())
        let blocks = (0..<transformer.layers).map { index in
            let block = trunk["blocks"][index]
            let attention = block["attn"]
            let weights = attention["qkv"].tensor("weight", [3 * width, width]).rows(in: 3)
            let biases = attention["qkv"].tensor("bias", [3 * width]).rows(in: 3)
            let projections = zip(weights, biases).map { ProjectionParameters(weight: $0, bias: $1) }
            return BlockParameters(
                attention: transformer.attention, attentionNorm: block.norm("norm1", width, epsilon: epsilon),
                query: projections[0], key: projections[1], value: projections[2],
                output: attention.linear("proj", inputs: width, outputs: width),
                mlp: mlp(
                    block["mlp"], width: width, hidden: transformer.mlpWidth,
                    norm: block.norm("norm2", width, epsilon: epsilon), transformer.activation),
                stored: loader.takeRecent())
        }
        let pool = trunk["attn_pool"]
        let query = pool.projection("q", inputs: width, outputs: width)
        let weights = pool["kv"].tensor("weight", [2 * width, width]).rows(in: 2)
        let biases = pool["kv"].tensor("bias", [2 * width]).rows(in: 2)
        let attention = PooledAttentionParameters(
            shape: transformer.attention, query: .learned(pool.tensor("latent", [1, 1, width]).shaped([width])),
            norm: trunk.norm("norm", width, epsilon: epsilon), queryWeight: HostMatrix(query.weight),
            keyWeight: HostMatrix(weights[0]), valueWeight: HostMatrix(weights[1]), queryBias: query.bias,
            keyBias: biases[0], valueBias: biases[1], output: pool.linear("proj", inputs: width, outputs: width))
        let parameters = AttentionPoolParameters(
            attention: attention,
            mlp: vision.attentionPool?.mlpWidth.map {
                mlp(
                    pool["mlp"], width: width, hidden: $0, norm: pool.norm("norm", width, epsilon: epsilon),
                    transformer.activation)
            })
        return VisionTransformerParameters(
            patches: storedPatches, blocks: blocks,
            pool: StoredParameters(parameters: parameters, stored: loader.takeRecent()),
            head: StoredParameters(parameters: HeadParameters(), stored: []))
    }

    private static func mlp(
        _ scope: ParameterScope, width: Int, hidden: Int, norm: NormParameters, _ activation: Activation
    ) -> MLPParameters {
        MLPParameters(
            expand: scope.linear("fc1", inputs: width, outputs: hidden, norm: norm, activation: activation),
            contract: scope.linear("fc2", inputs: hidden, outputs: width))
    }
}
