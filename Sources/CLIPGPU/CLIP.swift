// The library: load a model, turn pictures and sentences into vectors of one space.
//
// The names are those of the Python package `clip` in Swift's grammar, so that every line is recognised.

import CDemoModel
import CLIPCompute
import CLIPInput
import CLIPModel
import Checkpoints

/// A CLIP model on a device.
///
/// ```swift
/// let clip = try CLIP.load("path/to/clip-vit-base-patch32", device: .automatic)
/// let image = try clip.preprocess(contentsOf: "cat.jpg")
/// let text = try clip.tokenize(["a photo of a cat", "a photo of a dog"])
/// let similarity = try clip.encodeImage([image]).cosineSimilarity(to: clip.encodeText(text))
/// ```
///
/// A value of this type has one owner at a time; `CLIPService` is the form for servers.
public final class CLIP {
    /// Which halves of a model to load; each takes time and memory.
    public struct Towers: OptionSet, Sendable {
        /// One bit a tower.
        public let rawValue: Int

        /// A set of towers from its bits.
        public init(rawValue: Int) { self.rawValue = rawValue }

        /// For `encodeImage`.
        public static let image = Towers(rawValue: 1)
        /// For `encodeText`.
        public static let text = Towers(rawValue: 2)
        /// The whole model.
        public static let both: Towers = [.image, .text]
    }

    /// What the model's embeddings and inputs look like.
    public let information: ModelInformation
    /// The device that runs the model; the first, where there are several.
    public let device: DeviceDescription
    /// The precision in use.
    public let precision: Precision
    /// Things worth a warning: a GPU that was asked for and is not there, a kernel variant that stepped down.
    public let notices: [String]

    private let encoders: [any ImageTextEncoder]
    private let images: ImagePreprocessor
    private let tokenizer: BytePairTokenizer
    private var nextEncoder = 0
    /// For benchmarks: the model once more, and the first device's peak.
    let reopen: () throws -> ModelCheckpoint
    let measurePeak: ((Double) -> Double)?

    private init(
        _ model: ModelCheckpoint, _ opened: OpenedDevices, towers: Towers,
        reopen: @escaping () throws -> ModelCheckpoint
    ) throws {
        self.reopen = reopen
        measurePeak = opened.devices[0].measurePeak
        information = ModelInformation(model)
        images = ImagePreprocessor(try Preprocessing(model.configuration.preprocessing))
        switch model.configuration.tokenizer {
        case .openAI: tokenizer = BytePairTokenizer(specialTokens: .openAI)
        case .openCLIP: tokenizer = BytePairTokenizer(specialTokens: .openCLIP)
        case .other, .folder:
            let name =
                switch model.configuration.tokenizer {
                case .folder(let folder): folder.path
                case .other(let name): name
                default: ""
                }
            tokenizer = BytePairTokenizer(specialTokens: .openCLIP)
            if towers.contains(.text) {
                throw CLIPError(
                    .model,
                    "\(model.weights.name) was trained with the tokenizer \(name), which cannot be read yet; "
                        + "only its pictures can be embedded.")
            }
        }
        let vocabulary = model.configuration.text.vocabularySize
        if towers.contains(.text), vocabulary != tokenizer.vocabularySize {
            throw CLIPError(
                .model,
                "\(model.weights.name) has a vocabulary of \(vocabulary) tokens: its sentences need another "
                    + "tokenizer than CLIP's of \(tokenizer.vocabularySize); only its pictures can be embedded.")
        }
        var encoders: [any ImageTextEncoder] = []
        for opened in opened.devices {
            encoders.append(try opened.encoder(model, CLIPModel.Towers(rawValue: towers.rawValue)))
        }
        self.encoders = encoders
        device = DeviceDescription(opened.devices[0].info)
        precision = Precision(encoders[0].precision)
        notices = opened.notices + opened.devices.flatMap { $0.notices() }
    }

    /// Loads a model onto a device: `clip.load(name, device)`.
    ///
    /// - Parameters:
    ///   - model: a folder in transformers' form (`config.json` and weights) or open_clip's (`open_clip_config.json` and
    ///     weights), or a file of OpenAI's or open_clip's weights (`.pt`, `.bin`, `.safetensors`); none for the built-in
    ///     demonstration model, which knows only drawn scenes of coloured shapes.
    ///   - device: where to run.
    ///   - precision: how exactly to compute.
    ///   - threads: threads of the CPU device; by default what the scheduler and the cgroup allow.
    ///   - strict: whether a GPU that is asked for and missing is an error instead of a notice.
    ///   - towers: what will be encoded.
    ///   - activation: for files of weights that do not say which activation their model has.
    /// - Throws: `CLIPError` with the code `.model` or `.device`.
    public static func load(
        _ model: String? = nil, device: Device = .automatic, precision: Precision = .automatic, threads: Int? = nil,
        strict: Bool = false, towers: Towers = .both, activation: Activation? = nil
    ) throws -> CLIP {
        try translatingErrors {
            let checkpoint = { try open(model, ModelOptions(activation: activation?.function)) }
            let opened = try OpenedDevices(device, precision: precision, threads: threads, strict: strict)
            return try CLIP(checkpoint(), opened, towers: towers, reopen: checkpoint)
        }
    }

    /// What a model is, without loading its weights; none for the built-in demonstration model.
    ///
    /// - Throws: `CLIPError` with the code `.model`.
    public static func inspect(_ model: String? = nil, activation: Activation? = nil) throws -> ModelInformation {
        try translatingErrors { ModelInformation(try open(model, ModelOptions(activation: activation?.function))) }
    }

    static func open(_ model: String?, _ options: ModelOptions = ModelOptions()) throws -> ModelCheckpoint {
        guard let model else { return try demonstration() }
        guard fileExists(model) else {
            throw CLIPError(
                .model,
                "There is no model at \(model): name a folder with config.json or open_clip_config.json and the weights, or "
                    + "a file of weights. Models are not fetched by name yet.")
        }
        return try ModelCheckpoint.open(path: model, options: options)
    }

    /// The model whose bytes are part of the program.
    private static func demonstration() throws -> ModelCheckpoint {
        let weights = UnsafeRawBufferPointer(start: clip_demo_weights_bytes(), count: clip_demo_weights_count())
        let config = UnsafeRawBufferPointer(start: clip_demo_config_bytes(), count: clip_demo_config_count())
        let preprocessor = UnsafeRawBufferPointer(
            start: clip_demo_preprocessor_bytes(), count: clip_demo_preprocessor_count())
        return try ModelCheckpoint(
            weights: Safetensors.read(StaticMemory(weights, name: "the demonstration model")),
            config: JSON(parsing: config), preprocessor: JSON(parsing: preprocessor))
    }

    // MARK: Before the device

    /// A picture file as the model takes it, to the byte as the reference's `preprocess(Image.open(path))` makes it.
    public func preprocess(
        contentsOf path: String, options: PreparationOptions = PreparationOptions()
    ) throws -> PreprocessedImage {
        PreprocessedImage(bytes: try preparer(options).pixels(contentsOf: path), images: images)
    }

    /// The bytes of a picture file (JPEG, PNG, WebP or GIF) as the model takes them.
    public func preprocess(
        _ file: [UInt8], options: PreparationOptions = PreparationOptions()
    ) throws -> PreprocessedImage {
        PreprocessedImage(bytes: try preparer(options).pixels(file, name: "the picture"), images: images)
    }

    /// Pixels that are already normalised, such as `torch.randn(3, 224, 224)`: `[3, imageSize, imageSize]`.
    public func preprocess(tensor: [Float]) throws -> PreprocessedImage {
        let side = information.imageSize
        guard tensor.count == 3 * side * side else {
            throw CLIPError(
                .input,
                "The tensor holds \(tensor.count) numbers: this model takes [3, \(side), \(side)], "
                    + "\(3 * side * side) numbers.")
        }
        return PreprocessedImage(floats: try preparer(.init()).finite(tensor, name: "The tensor"), images: images)
    }

    /// Token ids from start to end of text, one list for each text: `clip.tokenize(texts, truncate:)`.
    ///
    /// - Throws: `CLIPError` for a text that is longer than the model's context, unless `truncate`.
    public func tokenize(_ texts: [String], truncate: Bool = false) throws -> TokenizedText {
        var options = PreparationOptions()
        options.truncatesText = truncate
        let preparer = preparer(options)
        return TokenizedText(ids: try texts.map { try preparer.tokens($0) }, contextLength: information.contextLength)
    }

    // MARK: On the device

    /// Features of pictures: `model.encode_image(images)`, not of unit length.
    public func encodeImage(_ images: [PreprocessedImage]) throws -> Embeddings {
        try inBatches(images.count, of: preferredBatchSize(.image)) { range in
            let part = images[range]
            if part.allSatisfy({ $0.bytes != nil }) {
                return try begin(bytes: part.flatMap { $0.bytes ?? [] })
            }
            return try begin(floats: part.flatMap(\.pixels))
        }
    }

    /// Features of texts: `model.encode_text(tokens)`, not of unit length.
    public func encodeText(_ tokens: TokenizedText) throws -> Embeddings {
        try inBatches(tokens.ids.count, of: preferredBatchSize(.text)) { try begin(tokens: Array(tokens.ids[$0])) }
    }

    /// Logits of every picture for every text, `[images][texts]`: cosine times the model's own scale, as
    /// `model(image, text)` gives them.
    public func callAsFunction(_ images: [PreprocessedImage], _ tokens: TokenizedText) throws -> [[Float]] {
        let scale = information.logitScale
        return try encodeImage(images).cosineSimilarity(to: encodeText(tokens)).map { $0.map { $0 * scale } }
    }

    /// exp(logit_scale) · cosine for each text, after a softmax over the texts: what a picture's cosines say.
    public func probabilities(ofCosines cosines: [Float]) -> [Float] {
        cosines.map { $0 * information.logitScale }.softmax()
    }

    // MARK: For the pipeline

    var embeddingDimension: Int { information.embeddingDimension }
    /// Submitted batches that may be under way at once.
    var jobsInFlight: Int { encoders.reduce(0) { $0 + $1.laneCount } }

    /// Inputs that fill the device well when computed together; texts as if they were long.
    public func preferredBatchSize(_ kind: EmbeddingInput.Kind) -> Int {
        switch kind {
        case .image: encoders[0].preferredImages
        case .text: max(1, encoders[0].preferredTokens / 16)
        }
    }

    func preparer(_ options: PreparationOptions) -> Preparer {
        Preparer(
            images: ImagePreprocessor(
                images.preprocessing, appliesOrientation: options.followsEXIF, pixelLimit: options.largestPicture),
            tokenizer: tokenizer, contextLength: information.contextLength, options: options)
    }

    /// A batch on its way through one of the devices.
    struct Job {
        fileprivate let encoder: any ImageTextEncoder
        fileprivate let job: EncodingJob
    }

    func begin(bytes: [UInt8]) throws -> Job {
        let side = information.imageSize
        return try bytes.withUnsafeBufferPointer { bytes in
            try begin {
                try $0.beginImages(
                    Pixels(.bytes(bytes), count: bytes.count / (side * side * 3), height: side, width: side),
                    unitLength: false)
            }
        }
    }

    func begin(floats: [Float]) throws -> Job {
        let side = information.imageSize
        return try floats.withUnsafeBufferPointer { floats in
            try begin {
                try $0.beginImages(
                    Pixels(.floats(floats), count: floats.count / (side * side * 3), height: side, width: side),
                    unitLength: false)
            }
        }
    }

    func begin(tokens: [[Int32]]) throws -> Job {
        try begin { try $0.beginTexts(tokens, unitLength: false) }
    }

    /// Rows of a batch, one after the other.
    func finish(_ job: Job, normalized: Bool) throws -> [Float] {
        let values = try CLIP.translatingErrors { try job.encoder.finish(job.job) }
        guard normalized else { return values }
        return Embeddings(values: values, dimension: embeddingDimension).normalized().values
    }

    private func begin(_ body: (any ImageTextEncoder) throws -> EncodingJob) throws -> Job {
        // Batches are dealt out among the devices in turn.
        let encoder = encoders[nextEncoder]
        nextEncoder = (nextEncoder + 1) % encoders.count
        return Job(encoder: encoder, job: try CLIP.translatingErrors { try body(encoder) })
    }

    private func inBatches(_ count: Int, of size: Int, _ begin: (Range<Int>) throws -> Job) throws -> Embeddings {
        var values: [Float] = []
        values.reserveCapacity(count * embeddingDimension)
        var running: [Job] = []
        for start in stride(from: 0, to: count, by: size) {
            running.append(try begin(start..<min(start + size, count)))
            if running.count == jobsInFlight { values += try finish(running.removeFirst(), normalized: false) }
        }
        for job in running { values += try finish(job, normalized: false) }
        return Embeddings(values: values, dimension: embeddingDimension)
    }

    /// The errors of the floors below in this library's own type.
    static func translatingErrors<Value>(_ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let error as BackendError {
            throw CLIPError(.device, error.description)
        } catch let error as ModelError {
            throw CLIPError(.model, error.description)
        } catch let error as CheckpointError {
            throw CLIPError(.model, error.description)
        }
    }
}
