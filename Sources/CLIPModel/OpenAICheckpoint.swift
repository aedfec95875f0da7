// A file of weights under OpenAI's names without a configuration beside it: sizes are the tensors', and the rest is what
// OpenAI's `build_model` (clip/model.py) takes for granted.
import CLIPCompute
import Checkpoints

/// What a caller may say about a model whose files do not.
package struct ModelOptions: Hashable, Sendable {
    /// For bare files of weights, which fit several.
    package var activation: Activation?

    /// Whether a model whose activation nobody knows is refused; preprocessing does not depend on it.
    package var needsActivation: Bool

    /// Pixels a side, instead of what the files say; positions are resized.
    package var imageSize: Int?

    /// For files of weights of which somebody else says what they are.
    package var known: KnownWeights?

    /// Where the tokenizer's files are, where they are not beside the weights.
    package var tokenizerFolder: String?

    package init(activation: Activation? = nil, needsActivation: Bool = true, imageSize: Int? = nil) {
        self.activation = activation
        self.needsActivation = needsActivation
        self.imageSize = imageSize
    }

    /// Refuses an activation that contradicts what the files say.
    func requireAgreement(with stated: Activation, source: String) throws(ModelError) {
        guard let activation, activation != stated else { return }
        throw ModelError(
            "\(source) says that the activation is \(stated.rawValue), and \(activation.rawValue) was given; leave "
                + "--activation out")
    }
}

/// What is known of a file of weights from elsewhere.
package struct KnownWeights: Hashable, Sendable {
    /// As open_clip_config.json would say it.
    package var configuration: JSON
    /// Who says it, for `inspect`.
    package var source: String

    package init(configuration: JSON, source: String) {
        self.configuration = configuration
        self.source = source
    }
}

enum OpenAICheckpoint {
    static let patchEmbedding = "visual.conv1.weight"

    static func open(path: String, _ options: ModelOptions) throws(ModelError) -> ModelCheckpoint {
        let weights = try reading { () throws(CheckpointError) in try Checkpoint.open(path: path) }
        return try ModelCheckpoint(weights: weights, describe(weights, options))
    }

    /// Whether the names are OpenAI's, or why not.
    static func requireNames(_ weights: Checkpoint) throws(ModelError) {
        let prefix = weights["text.token_embedding.weight"] == nil ? "" : "text."
        if weights[patchEmbedding] != nil, weights[prefix + "token_embedding.weight"] != nil { return }
        func has(_ prefix: String) -> Bool { weights.tensors.contains { $0.name.hasPrefix(prefix) } }
        let found: String
        if has("vision_model.") || has("text_model.") {
            found = "it has transformers' names; open the folder in which it lies beside its config.json"
        } else if has("visual.trunk.") {
            found = "its image tower is one of timm's; put it into a folder with its open_clip_config.json"
        } else if has("text.transformer.embeddings.") || has("text.transformer.encoder.") {
            found = "its text tower is one of transformers'; put it into a folder with its open_clip_config.json"
        } else if has("image_encoder.") {
            found = "it is MobileCLIP in its original form, which cannot be opened yet"
        } else {
            found = "it lacks \(patchEmbedding) or token_embedding.weight"
        }
        throw ModelError("\(weights.name) holds no CLIP under OpenAI's names: \(found)")
    }

    static func describe(_ weights: Checkpoint, _ options: ModelOptions) throws(ModelError) -> ModelDescription {
        try requireNames(weights)
        var shapes = OpenAIShapes(weights)
        let text = shapes.names.textPrefix
        let isResNet = weights["visual.layer1.0.conv1.weight"] != nil
        let activation = try activation(
            weights, options, block: isResNet ? text + "transformer" : "visual.transformer", &shapes)

        let outputs: Int
        let vision: VisionConfiguration
        if isResNet {
            let resNet = try shapes.resNet(headWidth: 64, source: "OpenAI's")
            outputs = resNet.outputs
            vision = .resNet(resNet)
            if let size = options.imageSize, size != resNet.imageSize {
                throw ModelError("--image-size: the positions of a ResNet's attention pool cannot be resized")
            }
        } else {
            let width = try shapes.dimension(patchEmbedding, 0, of: 4, "vision width")
            let patchSize = try shapes.dimension(patchEmbedding, 2, of: 4, "vision patch size")
            let rows = try shapes.dimension("visual.positional_embedding", 0, of: 2, "rows of a picture")
            let grid = try shapes.grid(rows - 1, "visual.positional_embedding")
            outputs = try shapes.dimension("visual.proj", 1, of: 2, "embedding width")
            // OpenAI's heads are 64 wide, and those of open_clip's widest models differ; all with one width agree.
            let headWidths = [1280: 80, 1408: 88, 1664: 104, 1792: 112]
            guard let headWidth = headWidths[width] ?? (width <= 1024 && width % 64 == 0 ? 64 : nil) else {
                throw ModelError(
                    "\(weights.name): vision transformers \(width) wide are not known, nor how many heads they have; "
                        + "put the file into a folder with an open_clip_config.json")
            }
            let imageSize = options.imageSize ?? grid * patchSize
            vision = .transformer(
                VisionTransformerConfiguration(
                    transformer: try shapes.transformer(
                        "visual.transformer", tower: "vision", width: width, heads: width / headWidth,
                        headsFrom: "heads of \(headWidth) for the width \(width), as all known models have",
                        activation: activation, epsilon: 1e-5, hasLayerScale: false),
                    imageSize: imageSize, patchSize: patchSize, hasClassToken: true, hasPreNorm: true,
                    pooling: .classToken,
                    storedGrid: try shapes.storedGrid(
                        rows - 1, "visual.positional_embedding", imageSize: imageSize,
                        options.imageSize == nil ? "the shape of visual.positional_embedding" : "--image-size",
                        patchSize: patchSize), outputs: outputs))
        }
        let textConfiguration = try shapes.text(
            outputs: outputs, activation: activation, epsilon: 1e-5)
        shapes.note("text pooling", "the greatest id", "OpenAI's, since the file says nothing")
        let facts = PreprocessingFacts(
            resize: .shortest(vision.imageSize), interpolation: .bicubic, cropSize: vision.imageSize,
            normalization: .openAI)
        let source = "OpenAI's, since the file says nothing"
        shapes.note("resize", "shorter side to \(vision.imageSize)", source)
        shapes.note("interpolation", facts.interpolation.rawValue, source)
        shapes.note("mean", "\(facts.normalization.mean)", source)
        shapes.note("deviation", "\(facts.normalization.deviation)", source)
        shapes.note("tokenizer", "CLIP's, with OpenAI's special tokens", source)
        return ModelDescription(
            configuration: CLIPConfiguration(
                vision: vision, text: textConfiguration, tokenizer: .openAI, preprocessing: facts,
                facts: shapes.facts),
            names: shapes.names, contradictions: [])
    }

    /// A TorchScript archive names the class of its activations. A bare file fits all of them.
    private static func activation(
        _ weights: Checkpoint, _ options: ModelOptions, block: String, _ shapes: inout OpenAIShapes
    ) throws(ModelError) -> Activation {
        let path = block + ".resblocks.0.mlp.gelu"
        var stated: (value: Activation, source: String)?
        if let name = weights.modules[path] {
            if name.hasSuffix(".QuickGELU") {
                stated = (.quickGELU, "the class of \(path)")
            } else if name.hasSuffix(".GELU") {
                stated = (.gelu, "the class of \(path)")
            } else {
                throw ModelError("\(weights.name): the activation \(path) is of the unknown class \(quoted(name))")
            }
        } else if weights.format == .torchScript {
            stated = (.quickGELU, "OpenAI's, whose models are TorchScript archives")
        }
        if let stated {
            try options.requireAgreement(with: stated.value, source: weights.name)
            shapes.note("activation", stated.value.rawValue, stated.source)
            return stated.value
        }
        if options.activation == nil, !options.needsActivation { return .none }
        guard let activation = options.activation else {
            var error = ModelError(
                "\(weights.name) does not say which activation its model was trained with, and gives other embeddings "
                    + "with another; add --activation quickgelu (OpenAI's weights, DFN, MetaCLIP), gelu (most of "
                    + "open_clip's) or gelu-tanh")
            error.needsActivation = true
            throw error
        }
        shapes.note("activation", activation.rawValue, "--activation")
        return activation
    }
}

/// Reads sizes off the tensors of a checkpoint with OpenAI's names, and notes where each was found.
struct OpenAIShapes {
    let weights: Checkpoint
    var names: OpenAINames
    private(set) var facts: [Fact] = []

    private static let mostLayers = 1024

    init(_ weights: Checkpoint) {
        self.weights = weights
        names = OpenAINames(weights)
    }

    mutating func note(_ name: String, _ value: String, _ source: String) {
        facts.append(Fact(name: name, value: value, source: source))
    }

    /// One dimension of a tensor that must be there.
    mutating func dimension(
        _ name: String, _ index: Int, of dimensions: Int, _ fact: String
    ) throws(ModelError) -> Int {
        let size = try size(name, index, of: dimensions)
        note(fact, "\(size)", "the shape of \(name)")
        return size
    }

    func size(_ name: String, _ index: Int, of dimensions: Int) throws(ModelError) -> Int {
        guard let tensor = weights[name] else { throw ModelError("\(weights.name) lacks the weight \(name)") }
        guard tensor.shape.count == dimensions, (1...(1 << 24)).contains(tensor.shape[index]) else {
            throw ModelError(
                "\(weights.name): the weight \(name) has the shape \(tensor.shape), expected \(dimensions) dimensions")
        }
        return tensor.shape[index]
    }

    /// The side of a square of so many positions.
    func grid(_ positions: Int, _ name: String) throws(ModelError) -> Int {
        let side = Int(Double(positions).squareRoot().rounded())
        guard side > 0, side <= 1 << 10, side * side == positions else {
            throw ModelError(
                "\(weights.name): the weight \(name) has positions for \(positions) patches, which are no square")
        }
        return side
    }

    /// How many of `name0`, `name1`, … there are; at least one.
    func count(_ name: String) throws(ModelError) -> Int {
        var highest = -1
        for tensor in weights.tensors where tensor.name.hasPrefix(name) {
            let digits = tensor.name.utf8.dropFirst(name.utf8.count).prefix { (0x30...0x39).contains($0) }
            if let index = Int(Substring(digits)), index < Self.mostLayers { highest = max(highest, index) }
        }
        guard highest >= 0 else { throw ModelError("\(weights.name) has no weights \(name)…") }
        return highest + 1
    }

    mutating func transformer(
        _ path: String, tower: String, width: Int, heads: Int, headsFrom: String, activation: Activation,
        epsilon: Float, hasLayerScale: Bool
    ) throws(ModelError) -> TransformerConfiguration {
        let layers = try count(path + ".resblocks.")
        note("\(tower) layers", "\(layers)", "the names of \(path).resblocks.…")
        guard heads > 0, width % heads == 0 else {
            throw ModelError("\(weights.name): \(heads) heads (\(headsFrom)) do not divide the \(tower) width \(width)")
        }
        note("\(tower) heads", "\(heads) of \(width / heads)", headsFrom)
        let mlpWidth = try dimension(path + ".resblocks.0.mlp.c_fc.weight", 0, of: 2, "\(tower) MLP width")
        return TransformerConfiguration(
            width: width, layers: layers, attention: AttentionShape(width: width, heads: heads), mlpWidth: mlpWidth,
            activation: activation, normEpsilon: epsilon, hasLayerScale: hasLayerScale)
    }

    /// The text tower, whose heads are 64 wide, as in every model that has no configuration.
    mutating func text(
        outputs: Int, activation: Activation, epsilon: Float
    ) throws(ModelError) -> TextConfiguration {
        let prefix = names.textPrefix
        let width = try dimension(prefix + "token_embedding.weight", 1, of: 2, "text width")
        let vocabulary = try dimension(prefix + "token_embedding.weight", 0, of: 2, "vocabulary")
        let context = try dimension(prefix + "positional_embedding", 0, of: 2, "context length")
        if width % 64 != 0 {
            throw ModelError("\(weights.name): the text width \(width) is no multiple of 64, the width of CLIP's heads")
        }
        let transformer = try transformer(
            prefix + "transformer", tower: "text", width: width, heads: width / 64,
            headsFrom: "heads of 64, as all known models have", activation: activation, epsilon: epsilon,
            hasLayerScale: false)
        return TextConfiguration(
            transformer: transformer, vocabularySize: vocabulary, contextLength: context, pooling: .greatestID,
            outputs: outputs)
    }

    mutating func resNet(headWidth: Int, source: String) throws(ModelError) -> ResNetConfiguration {
        let width = try dimension("visual.layer1.0.conv1.weight", 0, of: 4, "vision width")
        var layers: [Int] = []
        for stage in 1...4 { layers.append(try count("visual.layer\(stage).")) }
        note("vision layers", "\(layers)", "the names of visual.layer1.… to visual.layer4.…")
        let positions = "visual.attnpool.positional_embedding"
        let grid = try grid(try size(positions, 0, of: 2) - 1, positions)
        note("image size", "\(grid * 32)", "the shape of \(positions)")
        let columns = width * 32
        guard headWidth > 0, columns % headWidth == 0, width % 2 == 0 else {
            throw ModelError("\(weights.name): heads of \(headWidth) do not divide the pool's width \(columns)")
        }
        note("vision heads", "\(columns / headWidth) of \(headWidth)", source)
        note("vision pooling", "attention", "the names of visual.attnpool.…")
        let outputs = try dimension("visual.attnpool.c_proj.weight", 0, of: 2, "embedding width")
        return ResNetConfiguration(
            layers: layers, width: width, heads: columns / headWidth, imageSize: grid * 32, outputs: outputs)
    }
}
