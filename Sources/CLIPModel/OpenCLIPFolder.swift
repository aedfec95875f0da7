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
        return try ModelCheckpoint(weights: weights, describe(weights, config, folder: folder, options))
    }

    /// A file of weights of which somebody else says what an open_clip_config.json would.
    static func open(
        weights path: String, _ known: KnownWeights, _ options: ModelOptions
    ) throws(ModelError) -> ModelCheckpoint {
        let weights = try reading { () throws(CheckpointError) in try Checkpoint.open(path: path) }
        var description = try describe(weights, known.configuration, folder: nil, options)
        for index in description.configuration.facts.indices {
            let source = description.configuration.facts[index].source
            description.configuration.facts[index].source = source.replacing(configuration, with: known.source)
        }
        return try ModelCheckpoint(weights: weights, description)
    }

    /// `_find_checkpoint_in_dir`: a preferred name, else the first in order of names, safetensors first. Of several
    /// files with other names we open none, where the reference takes one; an index of several, which it does not know,
    /// counts as the file.
    private static func weightsFile(_ folder: String) throws(ModelError) -> String {
        for suffix in ["", Checkpoint.indexSuffix] {
            if let file = preferred.first(where: { MappedFile.exists(folder + $0 + suffix) }) { return file + suffix }
        }
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

    /// `folder` is where the files lie, if they do: its tokenizer counts, and a text tower's own configuration.
    static func describe(
        _ weights: Checkpoint, _ config: JSON, folder: String? = nil, _ options: ModelOptions
    ) throws(ModelError) -> ModelDescription {
        var reader = try OpenCLIPReader(weights, config, folder: folder, options)
        return try reader.describe()
    }
}

/// Reads a configuration as open_clip does, with its defaults; sizes are the tensors', and checked against it.
struct OpenCLIPReader {
    let weights: Checkpoint
    let config: JSON
    let folder: String?
    let options: ModelOptions
    let model: OpenCLIPSection
    let vision: OpenCLIPSection
    let text: OpenCLIPSection
    var shapes: OpenAIShapes
    var contradictions: [String] = []

    init(_ weights: Checkpoint, _ config: JSON, folder: String?, _ options: ModelOptions) throws(ModelError) {
        guard case .object? = config["model_cfg"] else {
            throw ModelError(
                "\(OpenCLIPFolder.configuration): expected an object model_cfg, as open_clip writes it")
        }
        self.weights = weights
        self.config = config
        self.folder = folder
        self.options = options
        model = try OpenCLIPSection(
            config, "model_cfg",
            known: [
                "embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale",
                "nonscalar_logit_scale", "multimodal_cfg", "init_logit_bias", "output_dict", "cast_dtype",
            ])
        vision = try OpenCLIPSection(model.values, "vision_cfg", in: model.name, known: Self.visionKeys)
        text = try OpenCLIPSection(model.values, "text_cfg", in: model.name, known: Self.textKeys)
        for (section, key, what) in [
            (vision, "scaled_cosine_attn", "cosine attention"), (text, "scaled_cosine_attn", "cosine attention"),
            (vision, "qk_norm", "norms of queries and keys"), (text, "qk_norm", "norms of queries and keys"),
            (vision, "scale_heads", "scaled heads"), (text, "scale_heads", "scaled heads"),
            (vision, "scale_attn_inner", "norms inside attention"),
            (text, "scale_attn_inner", "norms inside attention"),
            (vision, "scale_attn", "norms behind attention"), (text, "scale_attn", "norms behind attention"),
            (vision, "scale_fc", "norms inside the MLP"), (text, "scale_fc", "norms inside the MLP"),
        ] {
            guard let value = section[key], value.bool != false else { continue }
            throw ModelError("\(section.source(key)) is set: \(what) cannot be opened yet")
        }
        if vision["timm_model_name"] == nil, text["hf_model_name"] == nil {
            try OpenAICheckpoint.requireNames(weights)
        }
        shapes = OpenAIShapes(weights)
    }

    mutating func describe() throws(ModelError) -> ModelDescription {
        let outputs = try model.integer("embed_dim")
        shapes.note("embedding width", "\(outputs)", model.source("embed_dim"))
        // Checked first, so that a tower that cannot be opened is not blamed on the weights.
        _ = try borrowedModel()
        let visionTower = try imageTower(outputs: outputs)
        var textTower = try textTower(outputs: outputs)
        try options.requireAgreement(
            with: textTower.transformer.activation, source: OpenCLIPFolder.configuration)
        let tokenizer = try tokenizer(&textTower)
        let preprocessing = try preprocessing(imageSize: visionTower.imageSize)
        shapes.names.hasDecoder = model["multimodal_cfg"] != nil
        if shapes.names.hasDecoder {
            shapes.note("multimodal decoder", "left out: embeddings do without it", model.source("multimodal_cfg"))
        }
        let hasBias = model["init_logit_bias"] != nil
        if hasBias { shapes.note("logit bias", "yes: probabilities are sigmoids", model.source("init_logit_bias")) }
        return ModelDescription(
            configuration: CLIPConfiguration(
                vision: visionTower, text: textTower, tokenizer: tokenizer, hasLogitBias: hasBias,
                preprocessing: preprocessing, facts: shapes.facts),
            names: shapes.names, contradictions: contradictions)
    }

    mutating func check(_ section: OpenCLIPSection, _ key: String, _ declared: Int, _ found: Int, _ what: String) {
        guard declared != found else { return }
        contradictions.append("\(section.source(key)) says \(declared), but the \(what) of the weights is \(found)")
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
    func activation(_ section: OpenCLIPSection) throws(ModelError) -> (value: Activation, source: String) {
        let quick = try model.flag("quick_gelu")
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

    /// A stack of open_clip's own blocks.
    mutating func transformer(
        _ section: OpenCLIPSection, _ path: String, tower: String, width: Int, heads: Int, headsFrom: String
    ) throws(ModelError) -> TransformerConfiguration {
        if let kind = section["block_type"]?.string, kind != "default" {
            throw ModelError("\(section.source("block_type")) says \(quoted(kind)): such blocks cannot be opened yet")
        }
        let activation = try activation(section)
        shapes.note("\(tower) activation", activation.value.rawValue, activation.source)
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
            path, tower: tower, width: width, heads: heads, headsFrom: headsFrom, activation: activation.value,
            epsilon: Float(epsilon), hasLayerScale: section["ls_init_value"] != nil)
        check(section, "layers", try section.integer("layers", default: 12), transformer.layers, "number of layers")
        let ratio = try section.number("mlp_ratio", default: 4)
        guard ratio > 0, ratio <= 1024 else { throw ModelError("\(section.source("mlp_ratio")) says \(ratio)") }
        check(section, "mlp_ratio", Int(Double(width) * ratio), transformer.mlpWidth, "\(tower) MLP width")
        return transformer
    }

    /// `PreprocessCfg` of open_clip's transform.py; the size is always the model's.
    private mutating func preprocessing(imageSize: Int) throws(ModelError) -> PreprocessingFacts {
        let section = try OpenCLIPSection(
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
        let fill = try section.integer("fill_color", default: 0, least: 0)
        guard let fill = UInt8(exactly: fill) else {
            throw ModelError("\(section.source("fill_color")) says \(fill), more than 255")
        }
        let name = try section.string("interpolation", default: "bicubic")
        guard ["bicubic", "bilinear", "random"].contains(name) else {
            throw ModelError(
                "\(section.source("interpolation")) says \(quoted(name)); known are \"bicubic\", \"bilinear\" and "
                    + "\"random\", which is bicubic outside training")
        }
        let interpolation: PreprocessingFacts.Interpolation = name == "bilinear" ? .bilinear : .bicubic
        let mean = try section.channels("mean", default: PixelNormalization.openAI.mean)
        let deviation = try section.channels("std", default: PixelNormalization.openAI.deviation)
        guard deviation.allSatisfy({ $0 > 0 }) else { throw ModelError("\(section.source("std")) must be positive") }
        shapes.note(
            "resize", "\(try section.string("resize_mode", default: "shortest")) side to \(imageSize)",
            section.source("resize_mode"))
        shapes.note("interpolation", interpolation.rawValue, section.source("interpolation"))
        if case .longest = resize { shapes.note("fill", "\(fill)", section.source("fill_color")) }
        shapes.note("mean", "\(mean)", section.source("mean"))
        shapes.note("deviation", "\(deviation)", section.source("std"))
        return PreprocessingFacts(
            resize: resize, interpolation: interpolation, cropSize: imageSize,
            normalization: PixelNormalization(mean: mean, deviation: deviation), fill: fill)
    }
}
