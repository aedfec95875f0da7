// A model as its files describe it, before any device: what `inspect` shows and encoders are made of.
import CLIPCompute
import Checkpoints

package struct ModelCheckpoint: Sendable {
    package let configuration: CLIPConfiguration
    /// What cosines are multiplied by is exp of this; read from the weights.
    package let logitScale: Float
    package let weights: Checkpoint
    let names: any ParameterNames

    /// Opens a folder in Hugging Face's form: `config.json`, `model.safetensors` (or shards and their index), and
    /// `preprocessor_config.json` where there is one. Every tensor is accounted for; numbers are not yet read.
    package static func open(path: String) throws(ModelError) -> ModelCheckpoint {
        try HuggingFaceFolder.open(path: path)
    }

    /// A model in memory, in the same form: the parsed texts of `config.json` and `preprocessor_config.json`.
    package init(weights: Checkpoint, config: JSON, preprocessor: JSON?) throws(ModelError) {
        try self.init(
            weights: weights, HuggingFaceFolder.describe(weights, config: config, preprocessor: preprocessor))
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
