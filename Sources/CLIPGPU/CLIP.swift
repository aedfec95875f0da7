// The library: load a model, turn pictures and sentences into vectors of one space.
//
// The names are those of the Python package `clip` in Swift's grammar, so that every line is recognised.

import CDemoModel
import CLIPCompute
import CLIPHub
import CLIPInput
import CLIPModel
import Checkpoints

/// A CLIP model on a device.
///
/// ```swift
/// let clip = try CLIP.load("ViT-B/32", device: .automatic)
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
    /// The devices that run the model.
    public let devices: [DeviceDescription]
    /// The device that runs the model; the first, where there are several.
    public var device: DeviceDescription { devices[0] }
    /// The precision in use.
    public let precision: Precision
    /// Things worth a warning: a GPU that was asked for and is not there, a kernel variant that stepped down.
    public let notices: [String]
    /// Things worth a note: a device that runs as `clip-gpu tune` found best.
    public let remarks: [String]

    private enum Engine {
        /// On the caller's own thread.
        case own(DeviceWorker)
        case pool(DevicePool)
    }
    private let engine: Engine
    private let loaded: [LoadedDevice]
    private let images: ImagePreprocessor
    /// None where only pictures will be embedded.
    private let tokenizer: (any TextTokenizer)?
    private let text: TextConfiguration
    /// For benchmarks: the model once more, and the peak of the device, where it is one.
    let reopen: () throws -> ModelCheckpoint
    let measurePeak: (() throws -> Double)?

    private init(
        _ model: ModelCheckpoint, _ selection: DeviceSelection, towers: Towers,
        reopen: @escaping () throws -> ModelCheckpoint
    ) throws {
        self.reopen = reopen
        tokenizer = towers.contains(.text) ? try textTokenizer(model) : nil
        let model = try model.filledUp(by: tokenizer)
        information = ModelInformation(model)
        text = model.configuration.text
        images = ImagePreprocessor(try Preprocessing(model.configuration.preprocessing))
        var notices = selection.notices
        switch selection.devices {
        case .one(let opened):
            let worker = try opened.load(model, towers)
            engine = .own(worker)
            measurePeak = opened.measurePeak
            loaded = [worker.device]
        case .several(let sources, let precision, let fallback):
            let pool = DevicePool(
                sources.map { source in { try source.openChecked(precision).load(model, towers) } })
            if let failure = pool.failures.first, fallback == nil { throw failure }
            notices += pool.failures.map { "a GPU is left out: \($0.description)" }
            if let fallback, pool.devices.isEmpty {
                notices.append("no GPU is left; using the CPU")
                let opened = try fallback.open(precision)
                let worker = try opened.load(model, towers)
                engine = .own(worker)
                measurePeak = opened.measurePeak
                loaded = [worker.device]
            } else {
                engine = .pool(pool)
                measurePeak = nil
                loaded = pool.devices
            }
        }
        devices = loaded.map(\.description)
        precision = loaded[0].precision
        self.notices = notices + loaded.flatMap(\.notices)
        remarks = loaded.flatMap(\.remarks)
    }

    /// Loads a model onto a device: `clip.load(name, device)`.
    ///
    /// - Parameters:
    ///   - model: a folder in transformers' form (`config.json` and weights) or open_clip's (`open_clip_config.json` and
    ///     weights), a file of OpenAI's or open_clip's weights (`.pt`, `.bin`, `.safetensors`), or a name: `ViT-B/32`,
    ///     `ViT-B-32/laion2b_s34b_b79k`, `hf:owner/name`; none for the built-in demonstration model, which knows only
    ///     drawn scenes of coloured shapes.
    ///   - device: where to run.
    ///   - precision: how exactly to compute.
    ///   - threads: threads of the CPU device; by default what the scheduler and the cgroup allow.
    ///   - strict: whether a GPU that is asked for and missing is an error instead of a notice.
    ///   - towers: what will be encoded.
    ///   - activation: for files of weights that do not say which activation their model has.
    ///   - imageSize: pixels a side of the pictures, where it is not to be the model's own; its positions are resized.
    ///   - progress: told how far a download is; a model that is named and not on this machine is fetched.
    /// - Throws: `CLIPError` with the code `.model`, `.device` or, for a download that cannot be kept, `.output`; and
    ///   what `progress` throws.
    public static func load(
        _ model: String? = nil, device: Device = .automatic, precision: Precision = .automatic, threads: Int? = nil,
        strict: Bool = false, towers: Towers = .both, activation: Activation? = nil, imageSize: Int? = nil,
        progress: DownloadProgress.Handler? = nil
    ) throws -> CLIP {
        try translatingErrors {
            let options = ModelOptions(activation: activation?.function, imageSize: imageSize)
            let checkpoint = { try open(model, options, progress) }
            var selection = try DeviceSelection(device, precision: precision, threads: threads, strict: strict)
            let model = try checkpoint()
            let needed = precision.suited(to: model.configuration, towers)
            if needed != precision {
                selection = try DeviceSelection(device, precision: needed, threads: threads, strict: strict)
            }
            return try CLIP(model, selection, towers: towers, reopen: checkpoint)
        }
    }

    /// What a model is, without loading its weights; none for the built-in demonstration model.
    ///
    /// - Throws: `CLIPError` with the code `.model`, or `.output` for a download that cannot be kept; and what `progress`
    ///   throws.
    public static func inspect(
        _ model: String? = nil, activation: Activation? = nil, imageSize: Int? = nil,
        progress: DownloadProgress.Handler? = nil
    ) throws -> ModelInformation {
        try translatingErrors {
            let options = ModelOptions(activation: activation?.function, imageSize: imageSize)
            return ModelInformation(try open(model, options, progress))
        }
    }

    /// Opens what lies at a path, else what has that name.
    static func open(
        _ model: String?, _ options: ModelOptions = ModelOptions(), _ progress: DownloadProgress.Handler? = nil
    ) throws -> ModelCheckpoint {
        guard let model else { return try demonstration(options) }
        if fileExists(model) { return try open(path: model, options) }
        let local = try ModelHub().resolve(ModelName(model), DownloadProgress.forwarding(to: progress))
        var options = options
        options.known = local.known.map { KnownWeights(configuration: $0.configuration, source: $0.source) }
        options.tokenizerFolder = local.tokenizerFolder
        return try ModelCheckpoint.open(path: local.path, options: options)
    }

    /// A file that does not say its activation may be one whose checksum is known.
    package static func open(
        path: String, _ options: ModelOptions, table: ModelTable = .current
    ) throws -> ModelCheckpoint {
        do throws(ModelError) {
            return try ModelCheckpoint.open(path: path, options: options)
        } catch {
            guard error.needsActivation, let weights = try table.weights(in: MappedFile(path: path)) else {
                throw error
            }
            var options = options
            options.known = KnownWeights(
                configuration: weights.configuration,
                source: "\(weights.name) (known by its checksum, open_clip's table)")
            return try ModelCheckpoint.open(path: path, options: options)
        }
    }

    /// The model whose bytes are part of the program.
    private static func demonstration(_ options: ModelOptions) throws -> ModelCheckpoint {
        let weights = UnsafeRawBufferPointer(start: clip_demo_weights_bytes(), count: clip_demo_weights_count())
        let config = UnsafeRawBufferPointer(start: clip_demo_config_bytes(), count: clip_demo_config_count())
        let preprocessor = UnsafeRawBufferPointer(
            start: clip_demo_preprocessor_bytes(), count: clip_demo_preprocessor_count())
        return try ModelCheckpoint(
            weights: Safetensors.read(StaticMemory(weights, name: "the demonstration model")),
            config: JSON(parsing: config), preprocessor: JSON(parsing: preprocessor), options: options)
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
        return TokenizedText(
            ids: try texts.map { try preparer.tokens($0) }, contextLength: information.contextLength,
            paddingID: information.paddingID)
    }

    // MARK: On the device

    /// Features of pictures: `model.encode_image(images)`, not of unit length.
    public func encodeImage(_ images: [PreprocessedImage]) throws -> Embeddings {
        let size = preferredBatchSize(.image)
        let alone = images.count <= size
        return try inBatches(images.count, of: size) { range in
            let part = images[range]
            if part.allSatisfy({ $0.bytes != nil }) {
                return try begin(.bytes(part.flatMap { $0.bytes ?? [] }), alone: alone)
            }
            return try begin(.floats(part.flatMap(\.pixels)), alone: alone)
        }
    }

    /// Features of texts: `model.encode_text(tokens)`, not of unit length.
    public func encodeText(_ tokens: TokenizedText) throws -> Embeddings {
        let size = preferredBatchSize(.text)
        let alone = tokens.ids.count <= size
        return try inBatches(tokens.ids.count, of: size) { try begin(.tokens(Array(tokens.ids[$0])), alone: alone) }
    }

    /// Logits of every picture for every text, `[images][texts]`: cosine times the model's own scale, plus its bias
    /// where it has one, as `model(image, text)` gives them.
    public func callAsFunction(_ images: [PreprocessedImage], _ tokens: TokenizedText) throws -> [[Float]] {
        try encodeImage(images).cosineSimilarity(to: encodeText(tokens)).map(information.logits)
    }

    /// What a picture's cosines say: the softmax of the logits over the texts; or, of a model with a logit bias
    /// (SigLIP), the sigmoid of each, which is the probability that this text fits, whatever the others are.
    public func probabilities(ofCosines cosines: [Float]) -> [Float] {
        information.probabilities(ofCosines: cosines)
    }

    // MARK: For the pipeline

    var embeddingDimension: Int { information.embeddingDimension }
    /// Batches that may have begun and not been finished: what the devices hold; with several devices many more, so that
    /// one does not stand still while a slower one computes an earlier batch.
    var jobsInFlight: Int {
        switch engine {
        case .own(let worker): worker.device.laneCount
        case .pool(let pool): pool.devices.count * 32
        }
    }

    /// Seconds that each device has spent computing so far: from the first operation of a batch to its last, what
    /// overlaps counted once.
    public var busySeconds: [Double] {
        switch engine {
        case .own(let worker): [worker.busySeconds()]
        case .pool(let pool): pool.busySeconds
        }
    }

    /// Inputs that fill each device well when computed together; texts as if they were long.
    public func preferredBatchSize(_ kind: EmbeddingInput.Kind) -> Int {
        loaded.map { kind == .image ? $0.preferredImages : $0.preferredTexts }.min() ?? 1
    }

    func preparer(_ options: PreparationOptions) -> Preparer {
        Preparer(
            images: ImagePreprocessor(
                images.preprocessing, appliesOrientation: options.followsEXIF, pixelLimit: options.largestPicture),
            tokenizer: tokenizer, contextLength: information.contextLength, text: text, options: options)
    }

    /// A batch on its way through one of the devices.
    enum Job {
        case own(() throws -> [Float])
        case pooled(ResultBox<DevicePool.Rows>)

        /// Whether `finish` would return at once. A job of one's own may be asked only by waiting.
        var isFinished: Bool {
            switch self {
            case .own: false
            case .pooled(let rows): rows.value != nil
            }
        }
    }

    /// `alone`: its rows are waited for before another batch is begun.
    func begin(_ batch: EmbeddingBatch, alone: Bool) throws -> Job {
        switch engine {
        case .own(let worker): .own(try CLIP.translatingErrors { try worker.begin(batch, alone) })
        case .pool(let pool): .pooled(pool.begin(batch))
        }
    }

    /// Rows of a batch, one after the other.
    func finish(_ job: Job, normalized: Bool) throws -> [Float] {
        let values =
            switch job {
            case .own(let finish): try CLIP.translatingErrors(finish)
            case .pooled(let rows): try rows.wait().get()
            }
        guard normalized else { return values }
        return Embeddings(values: values, dimension: embeddingDimension).normalized().values
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
        } catch let error as HubError {
            throw CLIPError(error.kind == .cache ? .output : .model, error.description + ".")
        }
    }
}
