// A model as its files describe it, before any device: what `inspect` shows and encoders are made of.
import CLIPCompute
import Checkpoints

package struct ModelCheckpoint: Sendable {
    package let configuration: CLIPConfiguration
    /// What cosines are multiplied by is exp of this; read from the weights.
    package let logitScale: Float
    /// What is added then, where the model has it: the sigmoid of the sum is the probability that the two belong
    /// together.
    package let logitBias: Float?
    package let weights: Checkpoint
    let names: any ParameterNames

    /// Opens a model as its authors' library writes it: a folder in transformers' form (`config.json` and weights) or
    /// in open_clip's (`open_clip_config.json` and weights), or a file of weights under OpenAI's names (a TorchScript
    /// archive, a pickled or a safetensors one). Every tensor is accounted for; numbers are not yet read.
    package static func open(
        path: String, options: ModelOptions = ModelOptions()
    ) throws(ModelError) -> ModelCheckpoint {
        let folder = path.hasSuffix("/") ? path : path + "/"
        guard MappedFile.exists(folder + ".") else {
            guard let known = options.known else { return try OpenAICheckpoint.open(path: path, options) }
            return try OpenCLIPFolder.open(weights: path, known, options)
        }
        // Folders of the hub may be in both forms; transformers' is taken, unless its weights are not there.
        let weights = ["model.safetensors", "pytorch_model.bin"].flatMap { [$0, $0 + ".index.json"] }
        let isTransformers =
            MappedFile.exists(folder + "config.json") && weights.contains { MappedFile.exists(folder + $0) }
        if MappedFile.exists(folder + OpenCLIPFolder.configuration) {
            // Folders of timm's have a config.json too, of the image tower alone, which says no model_type.
            let config = isTransformers ? try HuggingFaceFolder.json(folder + "config.json") : .null
            if config["model_type"] == nil { return try OpenCLIPFolder.open(path: path, options) }
        }
        guard MappedFile.exists(folder + "config.json") else {
            throw ModelError(
                "\(path) holds no model: expected config.json (transformers) or \(OpenCLIPFolder.configuration) (open_clip); "
                    + "weights without either are opened by the name of their file")
        }
        let model = try HuggingFaceFolder.open(path: path, options)
        try options.requireAgreement(
            with: model.configuration.text.transformer.activation, source: folder + "config.json")
        return model
    }

    /// A model in memory, in the same form: the parsed texts of `config.json` and `preprocessor_config.json`.
    package init(
        weights: Checkpoint, config: JSON, preprocessor: JSON?, options: ModelOptions = ModelOptions()
    ) throws(ModelError) {
        let files = HuggingFaceFolder.Files(
            config: config, preprocessor: preprocessor.map { ("preprocessor_config.json", $0) })
        try self.init(weights: weights, HuggingFaceFolder.describe(weights, files, options))
    }

    /// A model in memory, in open_clip's form: the parsed text of `open_clip_config.json`; or bare weights, without.
    package init(
        weights: Checkpoint, openCLIPConfig: JSON?, options: ModelOptions = ModelOptions()
    ) throws(ModelError) {
        let description =
            if let openCLIPConfig {
                try OpenCLIPFolder.describe(weights, openCLIPConfig, options)
            } else {
                try OpenAICheckpoint.describe(weights, options)
            }
        try self.init(weights: weights, description)
    }

    init(weights: Checkpoint, _ description: ModelDescription) throws(ModelError) {
        self.weights = weights
        configuration = description.configuration
        names = description.names
        let parameters = try Self.parameters(weights, description)
        guard let scale = parameters.logitScale.floats().first, scale.isFinite else {
            throw ModelError("\(weights.name): the weight logit_scale is NaN or infinite")
        }
        logitScale = scale
        logitBias = parameters.logitBias?.floats().first
        if let logitBias, !logitBias.isFinite {
            throw ModelError("\(weights.name): the weight logit_bias is NaN or infinite")
        }
    }

    /// The weights in their places. Throws nothing that was not thrown on opening.
    func parameters() throws(ModelError) -> ModelParameters {
        try Self.parameters(
            weights, ModelDescription(configuration: configuration, names: names, contradictions: []))
    }

    private static func parameters(
        _ weights: Checkpoint, _ description: ModelDescription
    ) throws(ModelError) -> ModelParameters {
        let loader = ParameterLoader(weights)
        let parameters = description.names.parameters(description.configuration, from: loader)
        try loader.finish(contradictions: description.contradictions)
        return parameters
    }
}

/// What reading a model's configuration gives, before its weights are in place.
struct ModelDescription {
    var configuration: CLIPConfiguration
    var names: any ParameterNames
    /// Where the configuration and the weights say different things.
    var contradictions: [String]
}
