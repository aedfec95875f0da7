// What open_clip's `vision_cfg` says of the image tower: a vision transformer, a ResNet, or SigLIP's transformer of timm.
import CLIPCompute
import Checkpoints

extension OpenCLIPReader {
    mutating func imageTower(outputs: Int) throws(ModelError) -> VisionConfiguration {
        let declared = try vision.side("image_size", default: 224)
        let imageSize = options.imageSize ?? declared
        let source = options.imageSize == nil ? vision.source("image_size") : "--image-size"
        if let name = vision["timm_model_name"] {
            return .transformer(try sigLIPTrunk(name, imageSize: imageSize, source, outputs: outputs))
        }
        if vision["layers"]?.array != nil {
            guard imageSize == declared else {
                throw ModelError("--image-size: the positions of a ResNet's attention pool cannot be resized")
            }
            return .resNet(try resNet(imageSize: imageSize, outputs: outputs))
        }
        return .transformer(try visionTransformer(imageSize: imageSize, source, outputs: outputs))
    }

    private mutating func resNet(imageSize: Int, outputs: Int) throws(ModelError) -> ResNetConfiguration {
        let headWidth = try vision.integer("head_width", default: 64)
        let resNet = try shapes.resNet(headWidth: headWidth, source: vision.source("head_width"))
        let declared = vision["layers"]?.array?.map { $0.integer ?? 0 }
        if declared != resNet.layers {
            contradictions.append(
                "\(vision.source("layers")) says \(declared ?? []), but the weights have \(resNet.layers)")
        }
        check(vision, "width", try vision.integer("width", default: 768), resNet.width, "width")
        check(vision, "image_size", imageSize, resNet.imageSize, "image size")
        check(model, "embed_dim", outputs, resNet.outputs, "embedding width")
        return resNet
    }

    private mutating func visionTransformer(
        imageSize: Int, _ sizeSource: String, outputs: Int
    ) throws(ModelError) -> VisionTransformerConfiguration {
        let width = try shapes.dimension(OpenAICheckpoint.patchEmbedding, 0, of: 4, "vision width")
        check(vision, "width", try vision.integer("width", default: 768), width, "width")
        let patchSize = try shapes.dimension(OpenAICheckpoint.patchEmbedding, 2, of: 4, "vision patch size")
        check(vision, "patch_size", try vision.side("patch_size", default: 16), patchSize, "patch size")
        let transformer = try transformer(
            vision, "visual.transformer", tower: "vision", width: width,
            heads: width / (try vision.integer("head_width", default: 64)), headsFrom: vision.source("head_width"))
        var pooling: VisionTransformerConfiguration.Pooling
        let kind = try vision.string("pool_type", default: "tok")
        switch kind {
        case "tok": pooling = .classToken
        case "avg": pooling = .mean
        case let other:
            throw ModelError("\(vision.source("pool_type")) says \(quoted(other)); known are \"tok\" and \"avg\"")
        }
        var pool: AttentionPoolConfiguration?
        if let value = vision["attentional_pool"], value.bool != false {
            guard value.bool == true, kind == "tok" else {
                throw ModelError(
                    "\(vision.source("attentional_pool")) says \(value.string.map(quoted) ?? "so") with the pool_type "
                        + "\(quoted(kind)): only CoCa's, true with \"tok\", can be opened")
            }
            pool = try attentionPool(outputs: outputs)
            pooling = .attention
        }
        let after = try vision.flag("final_ln_after_pool")
        shapes.note(
            "vision pooling", pooling.rawValue, vision.source(pool == nil ? "pool_type" : "attentional_pool"))
        if pooling == .mean {
            shapes.note("vision last norm", after ? "after pooling" : "before", vision.source("final_ln_after_pool"))
        }
        _ = try vision.string("pos_embed_type", default: "learnable")  // its numbers are among the weights
        let positions = "visual.positional_embedding"
        let rows = try shapes.size(positions, 0, of: 2)
        return VisionTransformerConfiguration(
            transformer: transformer, imageSize: imageSize, patchSize: patchSize, hasClassToken: true,
            hasPreNorm: try !vision.flag("no_ln_pre"), pooling: pooling, attentionPool: pool,
            normsAfterPooling: after || pooling != .mean,
            storedGrid: try shapes.storedGrid(
                rows - 1, positions, imageSize: imageSize, sizeSource, patchSize: patchSize),
            outputs: outputs)
    }

    /// CoCa's (Yu et al. 2022): the pool is as wide as the embedding.
    private mutating func attentionPool(outputs: Int) throws(ModelError) -> AttentionPoolConfiguration {
        let heads = try vision.integer("attn_pooler_heads", default: 8)
        guard outputs % heads == 0 else {
            throw ModelError(
                "\(vision.source("attn_pooler_heads")) says \(heads) heads, which do not divide the width \(outputs)")
        }
        let queries = try vision.integer("attn_pooler_queries", default: 256)
        shapes.note("attention pool", "\(queries) queries, \(heads) heads", vision.source("attn_pooler_heads"))
        return AttentionPoolConfiguration(
            attention: AttentionShape(width: outputs, heads: heads), queries: queries)
    }

    // MARK: SigLIP's trunk

    /// Sizes of timm's `vit_…_siglip_…` that tensors do not tell.
    private static let sigLIPHeads = ["vit_base": 12, "vit_large": 16, "vit_so400m": 16, "vit_giantopt": 16]
    /// Those whose `act_layer` is `gelu_tanh`; the others' is GELU.
    private static let sigLIPWithTanh = [
        "vit_base_patch32_siglip_256", "vit_large_patch16_siglip_512", "vit_so400m_patch16_siglip_256",
        "vit_so400m_patch16_siglip_384", "vit_so400m_patch16_siglip_512", "vit_giantopt_patch16_siglip_256",
        "vit_giantopt_patch16_siglip_384",
    ]
    private static let sigLIPWithoutTanh = [
        "vit_base_patch16_siglip_224", "vit_base_patch16_siglip_256", "vit_base_patch16_siglip_384",
        "vit_base_patch16_siglip_512", "vit_large_patch16_siglip_256", "vit_large_patch16_siglip_384",
        "vit_so400m_patch14_siglip_224", "vit_so400m_patch14_siglip_378", "vit_so400m_patch14_siglip_384",
    ]

    /// `timm_pool` "map" without a projection, as all of open_clip's SigLIP configurations have it.
    private mutating func sigLIPTrunk(
        _ value: JSON, imageSize: Int, _ sizeSource: String, outputs: Int
    ) throws(ModelError) -> VisionTransformerConfiguration {
        let name = value.string ?? ""
        let source = vision.source("timm_model_name")
        let hasTanh = Self.sigLIPWithTanh.contains(name)
        let family = name.split(separator: "_").prefix(2).joined(separator: "_")
        guard hasTanh || Self.sigLIPWithoutTanh.contains(name), let heads = Self.sigLIPHeads[family] else {
            throw ModelError(
                "\(source) says \(quoted(name)): of timm's image towers only those of SigLIP (vit_…_siglip_…) can be opened"
            )
        }
        let pool = try vision.string("timm_pool", default: "avg")
        let projection = try vision.string("timm_proj", default: "linear")
        guard pool == "map", projection == "none" else {
            throw ModelError(
                "\(vision.name) has the timm_pool \(quoted(pool)) and the timm_proj \(quoted(projection)): with "
                    + "\(name) only \"map\" and \"none\" can be opened")
        }
        let width = try shapes.dimension(TimmNames.patchEmbedding, 0, of: 4, "vision width")
        guard width % heads == 0 else {
            throw ModelError("\(weights.name): \(heads) heads (\(source)) do not divide the vision width \(width)")
        }
        check(model, "embed_dim", outputs, width, "width of the image tower, which has no projection,")
        let patchSize = try shapes.dimension(TimmNames.patchEmbedding, 2, of: 4, "vision patch size")
        let layers = try shapes.count("visual.trunk.blocks.")
        shapes.note("vision layers", "\(layers)", "the names of visual.trunk.blocks.…")
        shapes.note("vision heads", "\(heads) of \(width / heads)", source)
        let mlpWidth = try shapes.dimension("visual.trunk.blocks.0.mlp.fc1.weight", 0, of: 2, "vision MLP width")
        let activation: Activation = hasTanh ? .geluTanh : .gelu
        shapes.note("vision activation", activation.rawValue, source)
        shapes.note("vision norm epsilon", "\(TimmNames.normEpsilon)", "timm's vision transformers")
        shapes.note("vision pooling", VisionTransformerConfiguration.Pooling.attention.rawValue, source)
        let attention = AttentionShape(width: width, heads: heads)
        let positions = "visual.trunk.pos_embed"
        return VisionTransformerConfiguration(
            transformer: TransformerConfiguration(
                width: width, layers: layers, attention: attention, mlpWidth: mlpWidth, activation: activation,
                normEpsilon: Float(TimmNames.normEpsilon)),
            imageSize: imageSize, patchSize: patchSize, hasClassToken: false, hasPreNorm: false, pooling: .attention,
            attentionPool: AttentionPoolConfiguration(
                attention: attention, mlpWidth: try shapes.size("visual.trunk.attn_pool.mlp.fc1.weight", 0, of: 2)),
            storedGrid: try shapes.storedGrid(
                shapes.size(positions, 1, of: 3), positions, imageSize: imageSize, sizeSource, patchSize: patchSize),
            outputs: width)
    }
}

extension OpenAIShapes {
    /// Patches a side of the positions in the file, where the wanted picture has another number; noted.
    mutating func storedGrid(
        _ patches: Int, _ name: String, imageSize: Int, _ sizeSource: String, patchSize: Int
    ) throws(ModelError) -> Int? {
        guard imageSize >= patchSize else {
            throw ModelError("\(sizeSource) says \(imageSize) pixels, less than one patch of \(patchSize)")
        }
        note("image size", "\(imageSize)", sizeSource)
        let stored = try grid(patches, name)
        let wanted = imageSize / patchSize
        guard stored != wanted else { return nil }
        guard wanted <= PositionResizing.mostPatches else {
            throw ModelError(
                "\(sizeSource) says \(imageSize) pixels, which are \(wanted) patches a side; positions are resized to at "
                    + "most \(PositionResizing.mostPatches)")
        }
        note("positions", "resized from \(stored)x\(stored) to \(wanted)x\(wanted)", "the shape of \(name)")
        return stored
    }
}
