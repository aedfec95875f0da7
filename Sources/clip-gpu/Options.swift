// Options that several commands share.

import ArgumentParser
import CLIPGPU

struct ModelOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "A name (`clip-gpu models` lists them; fetched where it is not on this machine), a folder of transformers or of "
                + "open_clip, or a file of OpenAI's or open_clip's weights. Default: $CLIP_GPU_MODEL, else the built-in "
                + "demonstration model, which knows only drawn scenes of coloured shapes.", valueName: "model"))
    var model: String?

    @OptionGroup var overrides: OverrideOptions

    /// The model's path; none for the demonstration model, which is said.
    func resolved() -> String? { Self.resolved(model) }

    /// How a file of vectors names the model.
    var recorded: String { CLIP.recordedName(of: model ?? environmentVariable("CLIP_GPU_MODEL")) }

    /// How clients of a server may call the model: by its name, or where that is a path also by the path's last part,
    /// which comes first.
    var servedNames: [String] {
        guard recorded.hasPrefix("/"), let last = recorded.split(separator: "/").last else { return [recorded] }
        return [String(last), recorded]
    }

    /// The given path, else that of the environment; none for the demonstration model, which is said.
    static func resolved(_ model: String?) -> String? {
        if let model { return model }
        if let model = environmentVariable("CLIP_GPU_MODEL"), !model.isEmpty { return model }
        Terminal.say(
            "model: built-in demonstration model (knows only drawn scenes of coloured shapes; --model names a real one)"
        )
        return nil
    }
}

/// What the caller says of a model instead of its files.
struct OverrideOptions: ParsableArguments {
    @Option(
        name: .long,
        help: "quickgelu, gelu or gelu-tanh: for files of weights that do not say which their model has.")
    var activation: Activation?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Side of the pictures, where it is not to be the model's own; positions are resized as the model's library "
                + "resizes them.", valueName: "pixels"))
    var imageSize: Int?

    func validate() throws {
        if let imageSize, !(1...4096).contains(imageSize) {
            throw ValidationError("--image-size takes a number from 1 to 4096, not \(imageSize).")
        }
    }
}

/// The most that options take of what is held in memory at once.
let largestCount = 1 << 20

struct ComputeOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "auto, cpu, gpu[:N], gpu:all, opencl[:N], or several with commas between (opencl:0,opencl:1), which "
                + "share the work; `clip-gpu devices` lists them. auto is the best GPU, else the CPU.",
            valueName: "device"))
    var device: Device = .automatic

    @Flag(name: .long, help: "Fail where --device gpu finds none, instead of using the CPU with a warning.")
    var strictDevice = false

    @Option(name: .long, help: "auto, fp32, fp16 or int8. auto is fp16 on a GPU, fp32 elsewhere and for mT5.")
    var precision: Precision = .automatic

    @Option(
        name: .long,
        help: ArgumentHelp("Threads of the CPU. Default: what scheduler and cgroup allow.", valueName: "count"))
    var threads: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("Inputs computed together. Default: what fills the device.", valueName: "count"))
    var batchSize: Int?

    func validate() throws {
        if let threads, threads < 1 { throw ValidationError("--threads takes a number from 1, not \(threads).") }
        if let batchSize, !(1...largestCount).contains(batchSize) {
            throw ValidationError("--batch-size takes a number from 1 to \(largestCount), not \(batchSize).")
        }
    }

    /// Loads the model, and says which device and precision run it.
    func load(_ model: ModelOptions, towers: CLIP.Towers = .both) throws -> CLIP {
        try load(model.resolved(), model, towers: towers)
    }

    /// The same, where there are vectors: without a model in the options the one that made them, as the file says, is loaded.
    ///
    /// - Returns: how a file of vectors names the model, too.
    func load(
        _ model: ModelOptions, beside collections: [EmbeddingCollection], towers: CLIP.Towers
    ) throws -> (clip: CLIP, recorded: String) {
        let made = collections.compactMap { file in file.metadata["model"].map { (file: file.path, model: $0) } }
        var recorded = model.recorded
        let clip: CLIP
        if let first = made.first, model.model == nil {
            recorded = first.model
            Terminal.say("model: \(recorded), which made \(first.file)")
            clip = try load(CLIP.model(recordedAs: recorded), model, towers: towers)
        } else {
            clip = try load(model, towers: towers)
        }
        for other in made where other.model != recorded {
            Terminal.say(
                "warning: \(other.file) was made with \(other.model); vectors of unlike models mean nothing to each other."
            )
        }
        return (clip, recorded)
    }

    /// The same, of a model that is named elsewhere than in the options.
    func load(_ name: String?, _ model: ModelOptions, towers: CLIP.Towers) throws -> CLIP {
        let display = DownloadDisplay()
        defer { display.clear() }
        let clip = try CLIP.load(
            name, device: device, precision: precision, threads: threads, strict: strictDevice,
            towers: towers, activation: model.overrides.activation, imageSize: model.overrides.imageSize,
            progress: display.show)
        display.clear()
        for notice in clip.notices { Terminal.say("warning: \(notice)") }
        for remark in clip.remarks { Terminal.say("note: \(remark)") }
        for device in clip.devices { Terminal.say("device: \(device), \(clip.precision.rawValue)") }
        return clip
    }

    /// Embeds inputs and hands over each vector in order; what fails is named on standard error.
    ///
    /// - Parameter showsProgress: whether a line counts the inputs, for commands that print nothing meanwhile.
    /// - Returns: how many failed.
    func embed(
        _ inputs: EmbeddingInputs, _ clip: CLIP, _ options: PreparationOptions, showsProgress: Bool = false,
        onVector: (EmbeddingResult, Embeddings) throws -> Void
    ) throws -> Int {
        let total = showsProgress && Terminal.isInteractive ? BackgroundCount(inputs) : nil
        var progress = Progress(isShown: showsProgress) { total?.value }
        try clip.embed(inputs, batchSize: batchSize, options: options, shouldStop: { Interruption.happened }) {
            result in
            switch result.embedding {
            case .failure(let error):
                progress.clear()
                Terminal.say("failed: \(error.description)")
            case .success(let embedding):
                try onVector(result, Embeddings(values: Array(embedding), dimension: embedding.count))
            }
            progress.advance(failed: (try? result.embedding.get()) == nil)
        }
        progress.clear()
        try Interruption.check()
        if progress.done == 0 { throw Failure(.usage, "nothing to do: the inputs are empty.") }
        return progress.failed
    }
}

extension ComputeOptions {
    /// The same for pairs: hands over both vectors of each.
    ///
    /// - Returns: how many failed.
    func embedPairs(
        _ pairs: EmbeddingPairs, _ clip: CLIP, _ options: PreparationOptions, truncate: Bool,
        onVectors: (PairResult, (image: ArraySlice<Float>, text: ArraySlice<Float>)) throws -> Void
    ) throws -> Int {
        var options = options
        options.truncatesText = truncate
        var progress = Progress { nil }
        try clip.embed(
            pairs: pairs, batchSize: batchSize, options: options, shouldStop: { Interruption.happened }
        ) { result in
            switch result.embeddings {
            case .failure(let error):
                progress.clear()
                Terminal.say("failed: \(error.description)")
            case .success(let vectors):
                try onVectors(result, vectors)
            }
            progress.advance(failed: (try? result.embeddings.get()) == nil)
        }
        progress.clear()
        try Interruption.check()
        if progress.done == 0 { throw Failure(.usage, "nothing to do: there are no pairs.") }
        return progress.failed
    }
}

struct SentenceOptions: ParsableArguments {
    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp("A sentence; may be given many times.", valueName: "sentence"))
    var text: [String] = []

    @OptionGroup var length: LengthOptions

    var truncate: Bool { length.truncate }
}

struct LengthOptions: ParsableArguments {
    @Flag(name: .long, help: "Cut sentences that are longer than the model's context, instead of refusing them.")
    var truncate = false
}

/// Labels in words, or vectors of theirs.
enum Labels {
    case words([String])
    case vectors(EmbeddingCollection)

    var count: Int {
        switch self {
        case .words(let labels): labels.count
        case .vectors(let file): file.count
        }
    }
}

/// How labels become vectors.
struct TemplateOptions: ParsableArguments {
    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A sentence with {} where the label goes; may be given many times. A label's vector is the mean of its "
                + "sentences'. Default: \"\(ZeroShotClassifier.defaultTemplate)\".", valueName: "sentence"))
    var template: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "openai (OpenAI's 80 for ImageNet), simple (seven of them), or a file of templates, one a line.",
            valueName: "set"))
    var templates: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Keep the labels' vectors in a .safetensors, which --labels takes: so they are computed once.",
            valueName: "file"))
    var saveLabels: String?

    @OptionGroup var length: LengthOptions

    func validate() throws {
        if let saveLabels, !saveLabels.hasSuffix(".safetensors") {
            throw ValidationError("--save-labels takes a file that ends in .safetensors, not \(saveLabels).")
        }
    }

    /// Whether anything is said of labels.
    var areGiven: Bool { !template.isEmpty || templates != nil || saveLabels != nil }

    /// All that were given, else the default; what is wrong with them is said before a model is loaded, or fetched.
    private func all() throws -> [String] {
        try givenRightly {
            var all = template
            if let templates { all += try ZeroShotClassifier.templates(templates) }
            if all.isEmpty { all = [ZeroShotClassifier.defaultTemplate] }
            try ZeroShotClassifier.check(templates: all)
            return all
        }
    }

    /// What --labels names: a file of vectors, or labels in words.
    func labels(_ source: String) throws -> Labels {
        guard source.hasSuffix(".safetensors") else {
            return .words(try givenRightly { try ZeroShotClassifier.labels(source) })
        }
        if areGiven {
            throw Failure(
                .usage,
                "\(source) holds vectors, which are made already: leave --template, --templates and --save-labels out.")
        }
        return .vectors(try givenRightly { try EmbeddingCollection(contentsOf: source) })
    }

    /// Loads the model and makes the labels' vectors, with a line that counts sentences, since there may be many; or takes
    /// those that were kept.
    ///
    /// - Parameter collections: whose rows are to be classified; with these alone (`hasPictures` false) the image tower
    ///   has nothing to do.
    func classifier(
        _ labels: Labels, of collections: [EmbeddingCollection] = [], hasPictures: Bool = true, _ model: ModelOptions,
        _ compute: ComputeOptions
    ) throws -> (clip: CLIP, classifier: ZeroShotClassifier) {
        let towers: CLIP.Towers = hasPictures ? .image : []
        switch labels {
        case .vectors(let file):
            let (clip, _) = try compute.load(model, beside: [file] + collections, towers: towers)
            return (clip, try givenRightly { try clip.zeroShotClassifier(contentsOf: file) })
        case .words(let labels):
            let sentences = try all()
            let (clip, recorded) = try compute.load(model, beside: collections, towers: towers.union(.text))
            let total = labels.count * sentences.count
            var progress = Progress { total }
            defer { progress.clear() }
            let classifier = try givenRightly {
                try clip.zeroShotClassifier(
                    labels: labels, templates: sentences, truncate: length.truncate, batchSize: compute.batchSize
                ) { _ in
                    try Interruption.check()
                    progress.advance(failed: false)
                }
            }
            if let saveLabels { try classifier.write(to: saveLabels, model: recorded) }
            return (clip, classifier)
        }
    }
}

/// Runs what reads the command's arguments: an input that is wrong is wrong usage.
func givenRightly<Value>(_ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch let error as CLIPError where error.code == .input {
        throw Failure(.usage, error.description)
    }
}

struct PictureOptions: ParsableArguments {
    @Flag(name: .long, help: "Turn pictures as their EXIF orientation says. The reference does not.")
    var exif = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Refuse pictures with more pixels than this. Default: Pillow's limit, \(PreparationOptions.pillowLimit).",
            valueName: "count"))
    var pixelLimit: Int = PreparationOptions.pillowLimit

    var preparation: PreparationOptions {
        var options = PreparationOptions()
        options.followsEXIF = exif
        options.largestPicture = pixelLimit
        return options
    }
}

extension Device: ExpressibleByArgument {
    /// As `Device.init(_:)` reads it.
    public init?(argument: String) { self.init(argument) }
}

extension Precision: ExpressibleByArgument {}
extension Activation: ExpressibleByArgument {}
