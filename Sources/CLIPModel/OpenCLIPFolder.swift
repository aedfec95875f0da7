// open_clip's folders: open_clip_config.json and weights. open_clip's model.py (`CLIPVisionCfg`, `CLIPTextCfg`) says what
// each key means and what it is where it is left out; factory.py, which file of weights counts.
import CLIPCompute
import Checkpoints

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

enum OpenCLIPFolder {
    static let configuration = "open_clip_config.json"

    private static let preferred = [
        "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
        "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
    ]

    static func open(path: String, _ options: ModelOptions) throws(ModelError) -> ModelCheckpoint {
        let folder = path.hasSuffix("/") ? path : path + "/"
        let config = try HuggingFaceFolder.json(folder + configuration)
        let file = try weightsFile(folder)
        let weights = try reading { () throws(CheckpointError) in try Checkpoint.open(path: folder + file) }
        return try ModelCheckpoint(weights: weights, describe(weights, config, options))
    }

    /// A file of weights of which somebody else says what an open_clip_config.json would.
    static func open(
        weights path: String, _ known: KnownWeights, _ options: ModelOptions
    ) throws(ModelError) -> ModelCheckpoint {
        let weights = try reading { () throws(CheckpointError) in try Checkpoint.open(path: path) }
        var description = try describe(weights, known.configuration, options)
        for index in description.configuration.facts.indices {
            let source = description.configuration.facts[index].source
            description.configuration.facts[index].source = source.replacing(configuration, with: known.source)
        }
        return try ModelCheckpoint(weights: weights, description)
    }

    /// `_find_checkpoint_in_dir`: a preferred name, else the first in order of names, safetensors first. Of several
    /// files with other names we open none, where the reference takes one.
    private static func weightsFile(_ folder: String) throws(ModelError) -> String {
        if let file = preferred.first(where: { MappedFile.exists(folder + $0) }) { return file }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let candidates = names.filter { name in [".safetensors", ".bin", ".pth"].contains { name.hasSuffix($0) } }
        guard candidates.count == 1 else {
            throw ModelError(
                candidates.isEmpty
                    ? "\(folder) holds no weights: expected \(preferred[0]) or another *.safetensors, *.bin or *.pth"
                    : "\(folder) holds several files of weights: \(candidates.sorted().joined(separator: ", ")); name one "
                        + "of them \(preferred[0]) or \(preferred[2])")
        }
        return candidates[0]
    }

    static func describe(
        _ weights: Checkpoint, _ config: JSON, _ options: ModelOptions
    ) throws(ModelError) -> ModelDescription {
        guard case .object? = config["model_cfg"] else {
            throw ModelError("\(configuration): expected an object model_cfg, as open_clip writes it")
        }
        let model = try Section(
            config, "model_cfg",
            known: [
                "embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale",
                "nonscalar_logit_scale", "multimodal_cfg", "init_logit_bias", "output_dict", "cast_dtype",
            ])
        let vision = try Section(model.values, "vision_cfg", in: model.name, known: visionKeys)
        let text = try Section(model.values, "text_cfg", in: model.name, known: textKeys)
        for (section, key, what) in [
            (vision, "timm_model_name", "timm's image towers"), (text, "hf_model_name", "transformers' text towers"),
            (vision, "attentional_pool", "attentional pooling"), (text, "embed_cls", "a class token in the text"),
            (vision, "scaled_cosine_attn", "cosine attention"), (text, "scaled_cosine_attn", "cosine attention"),
            (vision, "qk_norm", "norms of queries and keys"), (text, "qk_norm", "norms of queries and keys"),
            (vision, "scale_heads", "scaled heads"), (text, "scale_heads", "scaled heads"),
            (vision, "scale_attn_inner", "norms inside attention"),
            (text, "scale_attn_inner", "norms inside attention"),
            (vision, "scale_attn", "norms behind attention"), (text, "scale_attn", "norms behind attention"),
            (vision, "scale_fc", "norms inside the MLP"), (text, "scale_fc", "norms inside the MLP"),
            (model, "multimodal_cfg", "CoCa's multimodal towers"),
        ] {
            guard let value = section[key], value.bool != false else { continue }
            throw ModelError(
                "\(section.source(key)) says \(value.string.map(quoted) ?? "so"): \(what) cannot be opened yet")
        }
        try OpenAICheckpoint.requireNames(weights)

        var shapes = OpenAIShapes(weights)
        var contradictions: [String] = []
        func check(_ section: Section, _ key: String, _ declared: Int, _ found: Int, _ what: String) {
            guard declared != found else { return }
            contradictions.append("\(section.source(key)) says \(declared), but the \(what) of the weights is \(found)")
        }

        let quick = try model.flag("quick_gelu")
        let outputs = try model.integer("embed_dim")
        shapes.note("embedding width", "\(outputs)", model.source("embed_dim"))

        // The image tower
        let imageSize = try vision.side("image_size", default: 224)
        let visionTower: VisionConfiguration
        if vision["layers"]?.array != nil {
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
            visionTower = .resNet(resNet)
        } else {
            let activation = try activation(vision, quick: quick, model)
            shapes.note("vision activation", activation.value.rawValue, activation.source)
            let width = try shapes.dimension(OpenAICheckpoint.patchEmbedding, 0, of: 4, "vision width")
            check(vision, "width", try vision.integer("width", default: 768), width, "width")
            let patchSize = try shapes.dimension(OpenAICheckpoint.patchEmbedding, 2, of: 4, "vision patch size")
            check(vision, "patch_size", try vision.side("patch_size", default: 16), patchSize, "patch size")
            guard imageSize >= patchSize else {
                throw ModelError("\(vision.source("image_size")) says \(imageSize) pixels, less than one patch")
            }
            let transformer = try transformer(
                vision, "visual.transformer", tower: "vision", width: width,
                heads: width / (try vision.integer("head_width", default: 64)), headsFrom: vision.source("head_width"),
                activation: activation.value, &shapes, check)
            let pooling: VisionTransformerConfiguration.Pooling
            switch try vision.string("pool_type", default: "tok") {
            case "tok": pooling = .classToken
            case "avg": pooling = .mean
            case let other:
                throw ModelError("\(vision.source("pool_type")) says \(quoted(other)); known are \"tok\" and \"avg\"")
            }
            let after = try vision.flag("final_ln_after_pool")
            shapes.note("vision pooling", pooling.rawValue, vision.source("pool_type"))
            if pooling == .mean {
                shapes.note(
                    "vision last norm", after ? "after pooling" : "before", vision.source("final_ln_after_pool"))
            }
            _ = try vision.string("pos_embed_type", default: "learnable")  // its numbers are among the weights
            visionTower = .transformer(
                VisionTransformerConfiguration(
                    transformer: transformer, imageSize: imageSize, patchSize: patchSize, hasClassToken: true,
                    hasPreNorm: try !vision.flag("no_ln_pre"), pooling: pooling,
                    normsAfterPooling: after || pooling == .classToken, outputs: outputs))
            shapes.note("image size", "\(imageSize)", vision.source("image_size"))
        }

        // The text tower
        let prefix = shapes.names.textPrefix
        let textActivation = try activation(text, quick: quick, model)
        shapes.note("text activation", textActivation.value.rawValue, textActivation.source)
        let textWidth = try shapes.size(prefix + "token_embedding.weight", 1, of: 2)
        let transformer = try transformer(
            text, prefix + "transformer", tower: "text", width: textWidth,
            heads: try text.integer("heads", default: 8), headsFrom: text.source("heads"),
            activation: textActivation.value, &shapes, check)
        check(text, "width", try text.integer("width", default: 512), textWidth, "text width")
        let vocabulary = try shapes.dimension(prefix + "token_embedding.weight", 0, of: 2, "vocabulary")
        check(text, "vocab_size", try text.integer("vocab_size", default: 49408), vocabulary, "vocabulary")
        let context = try shapes.dimension(prefix + "positional_embedding", 0, of: 2, "context length")
        check(text, "context_length", try text.integer("context_length", default: 77), context, "context length")
        let pooling: TextConfiguration.Pooling
        switch try text.string("pool_type", default: "argmax") {
        case "argmax": pooling = .greatestID
        case "eos":
            // open_clip's default of 2 is right for no model but XLM-V's, whose files say so.
            guard let id = Int32(exactly: try text.integer("eos_id", default: 2, least: 0)) else {
                throw ModelError("\(text.source("eos_id")) is no token")
            }
            pooling = .first(id)
            shapes.note("end of text", "\(id)", text.source("eos_id"))
        case "first": pooling = .start
        case "last": pooling = .end
        case let other:
            throw ModelError(
                "\(text.source("pool_type")) says \(quoted(other)); known are \"argmax\", \"eos\", \"first\" and "
                    + "\"last\"")
        }
        shapes.note(
            "text pooling", try text.string("pool_type", default: "argmax"), text.source("pool_type"))
        let isCausal = try !text.flag("no_causal_mask")
        shapes.note("text mask", isCausal ? "causal" : "none", text.source("no_causal_mask"))
        let projection = try text.string("proj_type", default: "linear")
        guard projection == "linear" || projection == "none" else {
            throw ModelError(
                "\(text.source("proj_type")) says \(quoted(projection)); known are \"linear\" and \"none\"")
        }
        if projection == "linear", try text.flag("proj_bias") != shapes.names.projectionIsLinear {
            contradictions.append(
                "\(text.source("proj_bias")) says \(try text.flag("proj_bias")), but \(prefix)text_projection is "
                    + (shapes.names.projectionIsLinear ? "a linear with bias" : "a matrix"))
        }
        if projection == "none", textWidth != outputs {
            contradictions.append(
                "\(text.source("proj_type")) is \"none\", and the text width \(textWidth) is not the embedding width")
        }
        let textTower = TextConfiguration(
            transformer: transformer, vocabularySize: vocabulary, contextLength: context, pooling: pooling,
            isCausal: isCausal, outputs: outputs, hasProjection: projection == "linear")
        try options.requireAgreement(with: textActivation.value, source: textActivation.source)

        let tokenizer = text["hf_tokenizer_name"]?.string.map { TokenizerKind.other($0) } ?? .openCLIP
        shapes.note(
            "tokenizer", text["hf_tokenizer_name"]?.string ?? "CLIP's, with open_clip's special tokens",
            text.source("hf_tokenizer_name"))
        let preprocessing = try preprocessing(config, imageSize: imageSize, &shapes)
        return ModelDescription(
            configuration: CLIPConfiguration(
                vision: visionTower, text: textTower, tokenizer: tokenizer, preprocessing: preprocessing,
                facts: shapes.facts),
            names: shapes.names, contradictions: contradictions)
    }

    private static let blockKeys = [
        "layers", "width", "mlp_ratio", "ls_init_value", "output_tokens", "act_kwargs", "norm_kwargs", "block_type",
        "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc", "pool_type",
        "final_ln_after_pool",
    ]
    private static let visionKeys =
        blockKeys + [
            "head_width", "patch_size", "image_size", "patch_dropout", "attentional_pool", "attn_pooler_queries",
            "attn_pooler_heads", "no_ln_pre", "pos_embed_type", "timm_model_name", "timm_model_pretrained", "timm_pool",
            "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path", "timm_kwargs", "image_seq_len",
        ]
    private static let textKeys =
        blockKeys + [
            "context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "heads",
            "embed_cls", "pad_id", "eos_id", "bos_id", "no_causal_mask", "proj_bias", "proj_type", "hf_model_name",
            "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
        ]

    /// `nn.GELU` or `QuickGELU`, with `act_kwargs`.
    private static func activation(
        _ section: Section, quick: Bool, _ model: Section
    ) throws(ModelError) -> (value: Activation, source: String) {
        guard let arguments = section["act_kwargs"] else {
            return (quick ? .quickGELU : .gelu, model.source("quick_gelu"))
        }
        guard case .object(let members) = arguments, !quick, members.allSatisfy({ $0.key == "approximate" }),
            let approximate = members.isEmpty ? "none" : members[0].value.string,
            let activation: Activation = ["none": .gelu, "tanh": .geluTanh][approximate]
        else {
            throw ModelError(
                "\(section.source("act_kwargs")): expected {\"approximate\": \"tanh\"} without quick_gelu")
        }
        return (activation, section.source("act_kwargs"))
    }

    private static func transformer(
        _ section: Section, _ path: String, tower: String, width: Int, heads: Int, headsFrom: String,
        activation: Activation, _ shapes: inout OpenAIShapes,
        _ check: (Section, String, Int, Int, String) -> Void
    ) throws(ModelError) -> TransformerConfiguration {
        if let kind = section["block_type"]?.string, kind != "default" {
            throw ModelError("\(section.source("block_type")) says \(quoted(kind)): such blocks cannot be opened yet")
        }
        var epsilon = 1e-5
        if let arguments = section["norm_kwargs"] {
            guard case .object(let members) = arguments, members.allSatisfy({ $0.key == "eps" }),
                let given = members.isEmpty ? epsilon : members[0].value.double, given > 0, given < 1
            else {
                throw ModelError("\(section.source("norm_kwargs")): expected {\"eps\": a small positive number}")
            }
            epsilon = given
        }
        shapes.note("\(tower) norm epsilon", "\(epsilon)", section.source("norm_kwargs"))
        let transformer = try shapes.transformer(
            path, tower: tower, width: width, heads: heads, headsFrom: headsFrom, activation: activation,
            epsilon: Float(epsilon), hasLayerScale: section["ls_init_value"] != nil)
        check(section, "layers", try section.integer("layers", default: 12), transformer.layers, "number of layers")
        let ratio = try section.number("mlp_ratio", default: 4)
        guard ratio > 0, ratio <= 1024 else { throw ModelError("\(section.source("mlp_ratio")) says \(ratio)") }
        check(section, "mlp_ratio", Int(Double(width) * ratio), transformer.mlpWidth, "\(tower) MLP width")
        return transformer
    }

    /// `PreprocessCfg` of open_clip's transform.py; the size is always the model's.
    private static func preprocessing(
        _ config: JSON, imageSize: Int, _ shapes: inout OpenAIShapes
    ) throws(ModelError) -> PreprocessingFacts {
        let section = try Section(
            config, "preprocess_cfg",
            known: [
                "size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color",
            ])
        guard try section.string("mode", default: "RGB") == "RGB" else {
            throw ModelError("\(section.source("mode")) is not \"RGB\"")
        }
        let resize: PreprocessingFacts.Resize
        switch try section.string("resize_mode", default: "shortest") {
        case "shortest": resize = .shortest(imageSize)
        case "squash": resize = .squash(imageSize)
        case "longest": resize = .longest(imageSize)
        case let other: throw ModelError("\(section.source("resize_mode")) says \(quoted(other))")
        }
        if let fill = section["fill_color"], fill.integer != 0 {
            throw ModelError("\(section.source("fill_color")) is not 0, and other colours cannot be filled in yet")
        }
        let name = try section.string("interpolation", default: "bicubic")
        guard let interpolation = PreprocessingFacts.Interpolation(rawValue: name) else {
            throw ModelError("\(section.source("interpolation")) says \(quoted(name)), which is no filter")
        }
        let mean = try section.channels("mean", default: PixelNormalization.openAI.mean)
        let deviation = try section.channels("std", default: PixelNormalization.openAI.deviation)
        guard deviation.allSatisfy({ $0 > 0 }) else { throw ModelError("\(section.source("std")) must be positive") }
        shapes.note(
            "resize", "\(try section.string("resize_mode", default: "shortest")) side to \(imageSize)",
            section.source("resize_mode"))
        shapes.note("interpolation", name, section.source("interpolation"))
        shapes.note("mean", "\(mean)", section.source("mean"))
        shapes.note("deviation", "\(deviation)", section.source("std"))
        return PreprocessingFacts(
            resize: resize, interpolation: interpolation, cropSize: imageSize,
            normalization: PixelNormalization(mean: mean, deviation: deviation))
    }
}

/// An object of the configuration. A key that is not known is refused: it might change what is computed.
private struct Section {
    let values: JSON
    let name: String

    init(_ parent: JSON, _ key: String, in path: String? = nil, known: [String]) throws(ModelError) {
        name = path.map { $0 + "." + key } ?? "\(OpenCLIPFolder.configuration) \(key)"
        let values = parent[key] ?? .object([])
        guard case .object(let members) = values else { throw ModelError("\(name) is not an object") }
        for member in members where !known.contains(member.key) {
            throw ModelError("\(name) has the key \(quoted(member.key)), whose meaning is not known")
        }
        self.values = values
    }

    /// None where the key is missing or null.
    subscript(key: String) -> JSON? {
        guard let value = values[key], !value.isNull else { return nil }
        return value
    }

    func source(_ key: String) -> String {
        self[key] == nil ? "open_clip's default for \(name).\(key)" : "\(name).\(key)"
    }

    func flag(_ key: String) throws(ModelError) -> Bool {
        guard let value = self[key] else { return false }
        guard let flag = value.bool else { throw ModelError("\(source(key)) is neither true nor false") }
        return flag
    }

    func string(_ key: String, default: String) throws(ModelError) -> String {
        guard let value = self[key] else { return `default` }
        guard let string = value.string else { throw ModelError("\(source(key)) is not a string") }
        return string
    }

    /// Numbers beyond any model are refused here, so that none of the arithmetic that follows can overflow.
    func integer(_ key: String, default: Int? = nil, least: Int = 1) throws(ModelError) -> Int {
        guard let value = self[key] else {
            guard let `default` else { throw ModelError("\(name) lacks \(key)") }
            return `default`
        }
        guard let integer = value.integer, (least...(1 << 24)).contains(integer) else {
            throw ModelError("\(source(key)) is not a whole number from \(least) to \(1 << 24)")
        }
        return integer
    }

    func number(_ key: String, default: Double) throws(ModelError) -> Double {
        guard let value = self[key] else { return `default` }
        guard let number = value.double else { throw ModelError("\(source(key)) is not a number") }
        return number
    }

    /// A length in pixels, or a pair of equal ones.
    func side(_ key: String, default: Int) throws(ModelError) -> Int {
        guard let value = self[key] else { return `default` }
        let sides = value.array?.map { $0.integer ?? 0 } ?? [value.integer ?? 0]
        guard let first = sides.first, sides.count <= 2, sides.allSatisfy({ $0 == first }),
            (1...(1 << 15)).contains(first)
        else {
            throw ModelError("\(source(key)) is not a length in pixels; only square ones can be done")
        }
        return first
    }

    func channels(_ key: String, default: [Float]) throws(ModelError) -> [Float] {
        guard let value = self[key] else { return `default` }
        let numbers = value.array?.compactMap(\.double).map { Float($0) } ?? []
        guard numbers.count == 3, value.array?.count == 3, numbers.allSatisfy(\.isFinite) else {
            throw ModelError("\(source(key)) is not three numbers")
        }
        return numbers
    }
}
