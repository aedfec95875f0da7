// Folders of transformers' `CLIPModel`, `MetaClip2Model` and `SiglipModel`: config.json, preprocessor_config.json, and which
// weights they speak of.
import CLIPCompute
import Checkpoints

enum HuggingFaceFolder {
    /// What stands beside the weights.
    struct Files {
        /// Where they lie, if on disk.
        var folder: String?
        var config: JSON
        /// The image processor's, and the name of the file that holds it.
        var preprocessor: (name: String, values: JSON)?
    }

    static func open(path: String, _ options: ModelOptions) throws(ModelError) -> ModelCheckpoint {
        let folder = path.hasSuffix("/") ? path : path + "/"
        let config = try json(folder + "config.json")
        // Checked first, so that a model of another kind is not blamed on its weights.
        _ = try family(config, folder + "config.json")
        let forms = [
            "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
        ]
        guard let file = forms.first(where: { exists(folder + $0) }) else {
            throw ModelError(
                "\(path) holds no weights: expected model.safetensors, pytorch_model.bin or the index of either beside "
                    + "config.json")
        }
        let weights = try reading { () throws(CheckpointError) in try Checkpoint.open(path: folder + file) }
        let files = Files(folder: folder, config: config, preprocessor: try preprocessor(folder))
        return try ModelCheckpoint(weights: weights, describe(weights, files, options))
    }

    /// Newer folders keep it in processor_config.json, which then counts (`get_image_processor_dict`).
    private static func preprocessor(_ folder: String) throws(ModelError) -> (name: String, values: JSON)? {
        if exists(folder + "processor_config.json"),
            let values = try json(folder + "processor_config.json")["image_processor"]
        {
            return ("processor_config.json image_processor", values)
        }
        guard exists(folder + "preprocessor_config.json") else { return nil }
        return ("preprocessor_config.json", try json(folder + "preprocessor_config.json"))
    }

    /// transformers' names of activations (activations.py, ACT2FN), as far as CLIP has them.
    static let activations: [String: Activation] = [
        "quick_gelu": .quickGELU, "gelu": .gelu, "gelu_python": .gelu, "gelu_new": .geluTanh, "gelu_fast": .geluTanh,
        "gelu_accurate": .geluTanh, "gelu_pytorch_tanh": .geluTanh, "gelu_python_tanh": .geluTanh, "relu": .relu,
    ]

    static func json(_ path: String) throws(ModelError) -> JSON {
        try reading { () throws(CheckpointError) in
            let file = try MappedFile(path: path)
            do throws(CheckpointError) {
                return try file.withBytes { (bytes) throws(CheckpointError) in try JSON(parsing: bytes) }
            } catch {
                throw CheckpointError("\(path) is not sound JSON: \(error.description)")
            }
        }
    }

    private static func exists(_ path: String) -> Bool { MappedFile.exists(path) }

    private static func family(_ config: JSON, _ name: String) throws(ModelError) -> HuggingFaceFamily {
        guard case .object = config else { throw ModelError("\(name) is not a JSON object") }
        let type = config["model_type"]?.string
        if let family = type.flatMap(HuggingFaceFamily.init) { return family }
        if type == "siglip2" {
            throw ModelError(
                "\(name): the model_type \"siglip2\" is SigLIP 2 for pictures of any shape (NaFlex), which cannot be opened "
                    + "yet; its models of one resolution, whose model_type is \"siglip\", can")
        }
        throw ModelError(
            "\(name): expected the model_type \"clip\", \"metaclip_2\" or \"siglip\", found "
                + "\(type.map(quoted) ?? "none"); other models cannot be opened yet")
    }

    /// Sizes come from the tensors' shapes and are checked against the configuration.
    static func describe(
        _ weights: Checkpoint, _ files: Files, _ options: ModelOptions
    ) throws(ModelError) -> ModelDescription {
        let family = try family(files.config, "config.json")
        let prefix =
            weights.tensors.first { $0.name.hasSuffix("." + HuggingFaceNames.patchEmbedding) }
            .map { String($0.name.dropLast(HuggingFaceNames.patchEmbedding.count)) } ?? ""
        var reader = ConfigurationReader(family: family, weights: weights, prefix: prefix)
        let outputs = try reader.outputs(files.config)
        let vision = try reader.vision(
            reader.section("vision_config", of: files.config), outputs: outputs, wanted: options.imageSize)
        var text = try reader.text(reader.section("text_config", of: files.config), outputs: outputs)
        let tokenizer = try reader.tokenizer(&text, folder: files.folder)
        let preprocessing = try reader.preprocessing(
            files.preprocessor, imageSize: vision.imageSize, isWanted: options.imageSize != nil)
        if !prefix.isEmpty { reader.facts.append(Fact(name: "prefix of names", value: prefix, source: weights.name)) }
        return ModelDescription(
            configuration: CLIPConfiguration(
                vision: .transformer(vision), text: text, tokenizer: tokenizer, hasLogitBias: family == .sigLIP,
                preprocessing: preprocessing, facts: reader.facts),
            names: HuggingFaceNames(family: family, prefix: prefix), contradictions: reader.contradictions)
    }
}

/// Reads configurations as transformers does, with its defaults, and notes where each fact was found.
private struct ConfigurationReader {
    let family: HuggingFaceFamily
    let weights: Checkpoint
    let prefix: String
    var facts: [Fact] = []
    var contradictions: [String] = []

    private static let mostLayers = 1024

    /// An object of config.json, or what transformers makes of it.
    struct Section {
        var values: JSON
        var name: String
    }

    private struct Value<T> {
        var value: T
        var source: String
    }

    /// `text_config` or `vision_config`. Old files also have `…_config_dict`, which, completed with transformers'
    /// defaults, overrides it (`CLIPConfig.__post_init__`).
    func section(_ name: String, of config: JSON) throws(ModelError) -> Section {
        for key in [name + "_dict", name] {
            guard let values = config[key], !values.isNull else { continue }
            guard case .object = values else { throw ModelError("config.json: \(key) is not an object") }
            return Section(values: values, name: "config.json \(key)")
        }
        return Section(values: .object([]), name: "config.json \(name)")
    }

    // MARK: Towers

    /// The top level's `projection_dim` counts; the towers' own are left over from other models. SigLIP has no
    /// projection of pictures, and its head of texts is as wide.
    mutating func outputs(_ config: JSON) throws(ModelError) -> Int {
        if family == .sigLIP {
            let section = try section("text_config", of: config)
            let width = try integer(section, "hidden_size", default: 768).value
            return agreed(
                "embedding width", try integer(section, "projection_size", default: width),
                shape("text_model.head.weight", dimensions: 2)?[0], "text_model.head.weight")
        }
        let declared = try integer(
            Section(values: config, name: "config.json"), "projection_dim", default: 512)
        let image = "visual_projection.weight"
        let text = "text_projection.weight"
        let found = shape(image, dimensions: 2)?[0]
        if let found, let other = shape(text, dimensions: 2)?[0], found != other {
            contradictions.append(
                "\(image) gives \(found) columns and \(text) \(other); embeddings of one space have equally many")
        }
        return agreed("embedding width", declared, found, image)
    }

    mutating func vision(
        _ section: Section, outputs: Int, wanted: Int?
    ) throws(ModelError) -> VisionTransformerConfiguration {
        let isSigLIP = family == .sigLIP
        let embedding = shape(HuggingFaceNames.patchEmbedding, dimensions: 4)
        let channels = try integer(section, "num_channels", default: 3)
        if channels.value != 3 { throw ModelError("\(channels.source) says \(channels.value) channels; CLIP has 3") }
        let transformer = try transformer(
            section, tower: "vision", width: embedding?[0], widthFrom: HuggingFaceNames.patchEmbedding,
            defaults: (width: 768, layers: 12, heads: 12, mlpWidth: 3072))
        let patchSize = agreed(
            "vision patch size", try side(section, "patch_size", default: isSigLIP ? 16 : 32), embedding?[2],
            HuggingFaceNames.patchEmbedding)
        let declared = try side(section, "image_size", default: 224)
        let positions = "vision_model.embeddings.position_embedding.weight"
        let rows = shape(positions, dimensions: 2)?[0]
        // A picture's sides need not be a whole number of patches, so positions say how many patches, not pixels.
        let fitting = (declared.value / patchSize) * (declared.value / patchSize) + (isSigLIP ? 0 : 1)
        if let rows, rows != fitting {
            contradictions.append(
                "\(declared.source) says \(declared.value) pixels, which are \(fitting) rows\(isSigLIP ? "" : " with the class token"), "
                    + "but \(positions) has \(rows)")
        }
        guard declared.value >= patchSize else {
            throw ModelError("\(declared.source) says \(declared.value) pixels, less than one patch of \(patchSize)")
        }
        let imageSize = wanted ?? declared.value
        guard imageSize >= patchSize else {
            throw ModelError("--image-size says \(imageSize) pixels, less than one patch of \(patchSize)")
        }
        note("image size", "\(imageSize)", wanted == nil ? declared.source : "--image-size")
        let (stored, grid) = (declared.value / patchSize, imageSize / patchSize)
        if stored != grid {
            guard grid <= PositionResizing.mostPatches else {
                throw ModelError(
                    "--image-size says \(imageSize) pixels, which are \(grid) patches a side; positions are resized to at "
                        + "most \(PositionResizing.mostPatches)")
            }
            note(
                "positions", "resized from \(stored)x\(stored) to \(grid)x\(grid), as by interpolate_pos_encoding",
                "--image-size")
        }
        if isSigLIP {
            if let value = present(section, "vision_use_head"), value.bool != true {
                throw ModelError(
                    "\(section.name).vision_use_head is not true: without its head, SigLIP has no embedding")
            }
            if transformer.width != outputs {
                contradictions.append(
                    "pictures have \(transformer.width) columns and texts \(outputs); embeddings of one space have "
                        + "equally many")
            }
        }
        let pooling: VisionTransformerConfiguration.Pooling = isSigLIP ? .attention : .classToken
        note("vision pooling", pooling.rawValue, "model_type \(quoted(family.rawValue)) of config.json")
        return VisionTransformerConfiguration(
            transformer: transformer, imageSize: imageSize, patchSize: patchSize, hasClassToken: !isSigLIP,
            hasPreNorm: !isSigLIP, pooling: pooling,
            attentionPool: isSigLIP
                ? AttentionPoolConfiguration(attention: transformer.attention, mlpWidth: transformer.mlpWidth) : nil,
            storedGrid: stored == grid ? nil : stored, outputs: isSigLIP ? transformer.width : outputs)
    }

    mutating func text(_ section: Section, outputs: Int) throws(ModelError) -> TextConfiguration {
        let tokens = "text_model.embeddings.token_embedding.weight"
        let positions = "text_model.embeddings.position_embedding.weight"
        let table = shape(tokens, dimensions: 2)
        let transformer = try transformer(
            section, tower: "text", width: table?[1], widthFrom: tokens,
            defaults: family == .sigLIP
                ? (width: 768, layers: 12, heads: 12, mlpWidth: 3072)
                : (width: 512, layers: 12, heads: 8, mlpWidth: 2048))
        let vocabulary = agreed(
            "vocabulary", try integer(section, "vocab_size", default: family == .sigLIP ? 32000 : 49408), table?[0],
            tokens)
        let context = agreed(
            "context length", try integer(section, "max_position_embeddings", default: family == .sigLIP ? 64 : 77),
            shape(positions, dimensions: 2)?[0], positions)
        let padding = try integer(section, "pad_token_id", default: 1, least: 0)
        guard padding.value < 1 << 24, let paddingID = Int32(exactly: padding.value) else {
            throw ModelError("\(padding.source) says \(padding.value), no token")
        }
        if family == .sigLIP {
            note("text pooling", "the last position, padding included", "model_type \"siglip\" of config.json")
            note("text mask", "none", "model_type \"siglip\" of config.json")
            note("logit bias", "yes: probabilities are sigmoids", "model_type \"siglip\" of config.json")
            note("padding", "\(paddingID)", padding.source)
        }
        return TextConfiguration(
            transformer: transformer, vocabularySize: vocabulary, contextLength: context,
            pooling: try family == .sigLIP ? .end : pooling(section), isCausal: family != .sigLIP, outputs: outputs,
            paddingID: paddingID)
    }

    /// The files beside the model count, where it has another vocabulary than CLIP's.
    mutating func tokenizer(
        _ text: inout TextConfiguration, folder: String?
    ) throws(ModelError) -> TokenizerKind {
        if family != .sigLIP, text.vocabularySize == 49408 || folder == nil {
            text.paddingID = 0
            return .openAI
        }
        guard let folder, TokenizerFolder.isOne(folder) else {
            note("tokenizer", "unknown, since its files are not there", weights.name)
            return .other("of \(weights.name), whose files are not there")
        }
        let tokenizer = TokenizerFolder(path: folder, library: .transformers)
        note("tokenizer", "the files in \(folder)", "the model's folder")
        // What sentences are filled up with is the tokenizer's to say; SigLIP's configurations name another id.
        if let padding = try tokenizer.paddingID() {
            text.paddingID = padding.id
            facts.removeAll { $0.name == "padding" }
            note("padding", "\(padding.id)", padding.source)
        }
        return .folder(tokenizer)
    }

    private mutating func transformer(
        _ section: Section, tower: String, width: Int?, widthFrom: String,
        defaults: (width: Int, layers: Int, heads: Int, mlpWidth: Int)
    ) throws(ModelError) -> TransformerConfiguration {
        let width = agreed(
            "\(tower) width", try integer(section, "hidden_size", default: defaults.width), width, widthFrom)
        let layers = "\(tower)_model.encoder.layers."
        let layerCount = agreed(
            "\(tower) layers", try integer(section, "num_hidden_layers", default: defaults.layers),
            numbered(layers), layers + "…")
        guard layerCount <= Self.mostLayers else {
            throw ModelError("\(section.name).num_hidden_layers says \(layerCount), more than \(Self.mostLayers)")
        }
        let heads = try integer(section, "num_attention_heads", default: defaults.heads)
        guard width % heads.value == 0 else {
            throw ModelError("\(heads.source) says \(heads.value) heads, which do not divide the width \(width)")
        }
        note("\(tower) heads", "\(heads.value) of \(width / heads.value)", heads.source)
        let mlpWidth = agreed(
            "\(tower) MLP width", try integer(section, "intermediate_size", default: defaults.mlpWidth),
            shape(layers + "0.mlp.fc1.weight", dimensions: 2)?[0], layers + "0.mlp.fc1.weight")
        let activation = try activation(section)
        note("\(tower) activation", activation.value.rawValue, activation.source)
        let epsilon = try number(section, "layer_norm_eps", default: family == .sigLIP ? 1e-6 : 1e-5)
        guard epsilon.value > 0, epsilon.value < 1 else {
            throw ModelError("\(epsilon.source) says \(epsilon.value), expected a small positive number")
        }
        note("\(tower) norm epsilon", "\(epsilon.value)", epsilon.source)
        return TransformerConfiguration(
            width: width, layers: layerCount, attention: AttentionShape(width: width, heads: heads.value),
            mlpWidth: mlpWidth, activation: activation.value, normEpsilon: Float(epsilon.value))
    }

    /// `eos_token_id` 2 stands in files older than transformers 4.31, whatever their tokenizer says, and means the
    /// greatest id; any other number means its first occurrence (`CLIPTextModel.forward`). MetaCLIP 2 really ends its
    /// sentences with 2.
    private mutating func pooling(_ section: Section) throws(ModelError) -> TextConfiguration.Pooling {
        let id = try integer(section, "eos_token_id", default: 49407, least: 0)
        guard let token = Int32(exactly: id.value) else { throw ModelError("\(id.source) says \(id.value), no token") }
        guard token == 2, family == .clip else {
            note("text pooling", "the first token \(token)", id.source)
            return .first(token)
        }
        note("text pooling", "the greatest id", "\(id.source), where 2 means the greatest id")
        return .greatestID
    }

    private func activation(_ section: Section) throws(ModelError) -> Value<Activation> {
        let source = source(section, "hidden_act")
        guard let value = present(section, "hidden_act") else {
            return Value(value: family == .sigLIP ? .geluTanh : .quickGELU, source: source)
        }
        guard let name = value.string else { throw ModelError("\(source) is not a string") }
        let known = HuggingFaceFolder.activations
        guard let activation = known[name] else {
            throw ModelError("\(source) says \(quoted(name)); known are \(known.keys.sorted().joined(separator: ", "))")
        }
        return Value(value: activation, source: source)
    }

    // MARK: Preprocessing

    /// What transformers' image processors do where their file leaves it out.
    private struct ImageProcessor {
        var resize: PreprocessingFacts.Resize
        var crops = false
        /// Pillow's number.
        var resample = 3
        var normalization: PixelNormalization
        /// Whether a size that is one number means a square (`default_to_square`), not the shorter side.
        var makesSquares = false

        static let clip = ImageProcessor(resize: .shortest(224), crops: true, normalization: .openAI)
        static let half = PixelNormalization(mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])
        static let sigLIP = ImageProcessor(resize: .squash(224), normalization: half)
        /// By class, without the endings that only say how it is computed.
        static let known: [String: ImageProcessor] = [
            "CLIPImageProcessor": clip, "CLIPFeatureExtractor": clip, "BitImageProcessor": clip,
            "SiglipImageProcessor": sigLIP,
            "ViTImageProcessor": ImageProcessor(
                resize: .squash(224), resample: 2, normalization: half, makesSquares: true),
            "ViTFeatureExtractor": ImageProcessor(
                resize: .squash(224), resample: 2, normalization: half, makesSquares: true),
            "BlipImageProcessor": ImageProcessor(
                resize: .squash(384), normalization: .openAI, makesSquares: true),
        ]
    }

    /// An image processor of transformers', with its defaults. `isWanted`: the caller chose the size.
    mutating func preprocessing(
        _ file: (name: String, values: JSON)?, imageSize: Int, isWanted: Bool
    ) throws(ModelError) -> PreprocessingFacts {
        var defaults = family == .sigLIP ? ImageProcessor.sigLIP : .clip
        guard let (name, values) = file else {
            let source = "\(family == .sigLIP ? "SigLIP's" : "OpenAI's"), since there is no preprocessor_config.json"
            let facts = PreprocessingFacts(
                resize: family == .sigLIP ? .squash(imageSize) : .shortest(imageSize), interpolation: .bicubic,
                cropSize: imageSize, normalization: defaults.normalization)
            note(facts, (source, source, source, source, source))
            return facts
        }
        guard case .object = values else { throw ModelError("\(name) is not a JSON object") }
        let section = Section(values: values, name: name)
        if let type = (present(section, "image_processor_type") ?? present(section, "feature_extractor_type"))?.string {
            let plain = ["Fast", "Pil"].first { type.hasSuffix($0) }.map { String(type.dropLast($0.count)) } ?? type
            guard let known = ImageProcessor.known[plain] else {
                throw ModelError(
                    "\(name): the image processor \(quoted(type)) is not known; known are "
                        + ImageProcessor.known.keys.sorted().joined(separator: ", "))
            }
            defaults = known
            note("image processor", type, name)
        }
        for key in ["do_resize", "do_center_crop", "do_normalize", "do_rescale", "do_pad"] {
            guard let value = present(section, key) else { continue }
            guard let wanted = value.bool else { throw ModelError("\(name): \(key) is neither true nor false") }
            if key == "do_pad", wanted { throw ModelError("\(name): do_pad is true, which cannot be done yet") }
            if !wanted && key != "do_center_crop" && key != "do_pad" {
                throw ModelError("\(name): \(key) is false, and pictures would not fit the model")
            }
        }
        let crops = present(section, "do_center_crop")?.bool ?? defaults.crops
        let size = present(section, "size")
        var resize = defaults.resize
        if let edge = size?["shortest_edge"]?.integer {
            if size?["longest_edge"] != nil {
                throw ModelError("\(name): size has a longest_edge, which cannot be done")
            }
            resize = .shortest(edge)
        } else if let edge = size?.integer {
            resize = defaults.makesSquares ? .squash(edge) : .shortest(edge)
        } else if let height = size?["height"]?.integer, let width = size?["width"]?.integer {
            guard height == width else { throw ModelError("\(name): size is not square: \(height) by \(width)") }
            resize = .squash(height)
        } else if size != nil {
            throw ModelError("\(name): size has neither shortest_edge nor height and width")
        }
        let cropValue = present(section, "crop_size")
        var crop = cropValue?.integer ?? 224
        if let height = cropValue?["height"]?.integer, let width = cropValue?["width"]?.integer {
            guard height == width else { throw ModelError("\(name): crop_size is not square: \(height) by \(width)") }
            crop = height
        }
        if !crops {
            guard case .squash(let side) = resize else {
                throw ModelError(
                    "\(name): do_center_crop is false, and pictures that are not square would not fit the model")
            }
            crop = side
        }
        if isWanted {
            crop = imageSize
            switch resize {
            case .squash: resize = .squash(imageSize)
            case .shortest, .longest: resize = .shortest(imageSize)
            }
        }
        switch resize {
        case .shortest(let side), .squash(let side), .longest(let side):
            guard side >= crop else {
                throw ModelError("\(name): size gives pictures of \(side) pixels, smaller than the crop of \(crop)")
            }
            guard side <= 1 << 15 else { throw ModelError("\(name): size is \(side) pixels, beyond any picture") }
        }
        if crop != imageSize {
            contradictions.append("\(name) gives pictures of \(crop) pixels a side, but the model takes \(imageSize)")
        }
        // Pillow's numbers.
        let filters: [Int: PreprocessingFacts.Interpolation] = [
            0: .nearest, 1: .lanczos, 2: .bilinear, 3: .bicubic, 4: .box, 5: .hamming,
        ]
        let resample = try integer(section, "resample", default: defaults.resample, least: 0)
        guard let interpolation = filters[resample.value] else {
            throw ModelError("\(resample.source) says \(resample.value), which is none of Pillow's filters 0 to 5")
        }
        if let factor = present(section, "rescale_factor")?.double, abs(factor * 255 - 1) > 1e-6 {
            throw ModelError("\(name): rescale_factor is \(factor), expected 1/255")
        }
        let mean = try channels(section, "image_mean", default: defaults.normalization.mean)
        let deviation = try channels(section, "image_std", default: defaults.normalization.deviation)
        guard deviation.allSatisfy({ $0 > 0 }) else { throw ModelError("\(name): image_std must be positive") }
        let facts = PreprocessingFacts(
            resize: resize, interpolation: interpolation, cropSize: crop,
            normalization: PixelNormalization(mean: mean, deviation: deviation))
        note(
            facts,
            (
                isWanted ? "--image-size" : source(section, "size"), resample.source,
                isWanted ? "--image-size" : source(section, "crop_size"), source(section, "image_mean"),
                source(section, "image_std")
            ))
        return facts
    }

    private mutating func note(
        _ facts: PreprocessingFacts,
        _ sources: (resize: String, interpolation: String, crop: String, mean: String, deviation: String)
    ) {
        switch facts.resize {
        case .shortest(let side): note("resize", "shorter side to \(side)", sources.resize)
        case .squash(let side): note("resize", "both sides to \(side)", sources.resize)
        case .longest(let side): note("resize", "longer side to \(side)", sources.resize)
        }
        note("interpolation", facts.interpolation.rawValue, sources.interpolation)
        note("crop", "\(facts.cropSize), centred", sources.crop)
        note("mean", "\(facts.normalization.mean)", sources.mean)
        note("deviation", "\(facts.normalization.deviation)", sources.deviation)
    }

    private func channels(_ section: Section, _ key: String, default: [Float]) throws(ModelError) -> [Float] {
        guard let value = present(section, key) else { return `default` }
        let numbers = value.array?.compactMap(\.double).map { Float($0) } ?? []
        guard numbers.count == 3, value.array?.count == 3, numbers.allSatisfy(\.isFinite) else {
            throw ModelError("\(section.name): \(key) is not three numbers")
        }
        return numbers
    }

    // MARK: Values and shapes

    private func present(_ section: Section, _ key: String) -> JSON? {
        guard let value = section.values[key], !value.isNull else { return nil }
        return value
    }

    private func source(_ section: Section, _ key: String) -> String {
        present(section, key) == nil ? "transformers' default for \(section.name).\(key)" : "\(section.name).\(key)"
    }

    /// Numbers beyond any model are refused here, so that none of the arithmetic that follows can overflow.
    private func integer(
        _ section: Section, _ key: String, default: Int, least: Int = 1
    ) throws(ModelError) -> Value<Int> {
        let source = source(section, key)
        guard let value = present(section, key) else { return Value(value: `default`, source: source) }
        guard let number = value.integer, number >= least, number <= 1 << 24 else {
            throw ModelError("\(source) is not a whole number from \(least) to \(1 << 24)")
        }
        return Value(value: number, source: source)
    }

    private func number(_ section: Section, _ key: String, default: Double) throws(ModelError) -> Value<Double> {
        let source = source(section, key)
        guard let value = present(section, key) else { return Value(value: `default`, source: source) }
        guard let number = value.double else { throw ModelError("\(source) is not a number") }
        return Value(value: number, source: source)
    }

    /// A length, or a pair of equal ones.
    private func side(_ section: Section, _ key: String, default: Int) throws(ModelError) -> Value<Int> {
        guard let pair = present(section, key)?.array else {
            let side = try integer(section, key, default: `default`)
            guard side.value <= 1 << 15 else {
                throw ModelError("\(side.source) says \(side.value) pixels, beyond any picture")
            }
            return side
        }
        guard pair.count == 2, let first = pair[0].integer, pair[1].integer == first, (1...(1 << 15)).contains(first)
        else {
            throw ModelError("\(source(section, key)) is not a pair of equal lengths")
        }
        return Value(value: first, source: source(section, key))
    }

    private func shape(_ name: String, dimensions: Int) -> [Int]? {
        guard let shape = weights[prefix + name]?.shape, shape.count == dimensions,
            shape.allSatisfy({ (1...(1 << 24)).contains($0) })
        else { return nil }
        return shape
    }

    /// How many of `name0`, `name1`, … there are.
    private func numbered(_ name: String) -> Int? {
        let name = prefix + name
        var highest: Int?
        for tensor in weights.tensors where tensor.name.hasPrefix(name) {
            let digits = tensor.name.utf8.dropFirst(name.utf8.count).prefix { (0x30...0x39).contains($0) }
            if let index = Int(Substring(digits)), index < Self.mostLayers { highest = max(highest ?? 0, index) }
        }
        return highest.map { $0 + 1 }
    }

    /// The size that the tensors have, which the configuration must have too.
    private mutating func agreed(_ name: String, _ declared: Value<Int>, _ found: Int?, _ tensor: String) -> Int {
        if let found, found != declared.value {
            contradictions.append("\(declared.source) says \(declared.value), but \(tensor) says \(found)")
        }
        note(name, "\(found ?? declared.value)", "\(declared.source), and the shape of \(tensor)")
        return found ?? declared.value
    }

    private mutating func note(_ name: String, _ value: String, _ source: String) {
        facts.append(Fact(name: name, value: value, source: source))
    }
}
