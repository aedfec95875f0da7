// The form for servers: a model that many tasks may ask at once.

import Dispatch

/// A model with a thread of its own. Requests are computed one after the other; while they wait, no thread of Swift's
/// cooperative pool is blocked. Pictures are decoded and texts tokenized on the caller's thread.
///
/// ```swift
/// let service = try await CLIPService.load("path/to/clip-vit-base-patch32")
/// let image = try service.preprocess(upload)
/// let embeddings = try await service.encodeImage([image])
/// ```
public actor CLIPService {
    /// What the model's embeddings and inputs look like.
    public nonisolated let information: ModelInformation
    /// The device that runs the model.
    public nonisolated let device: DeviceDescription

    private nonisolated let executor: QueueExecutor
    private nonisolated let preparer: Preparer
    private let clip: CLIP

    /// Where this actor's work runs.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private init(_ clip: sending CLIP, _ executor: QueueExecutor) {
        information = clip.information
        device = clip.device
        preparer = clip.preparer(PreparationOptions())
        self.clip = clip
        self.executor = executor
    }

    /// Loads a model onto a device, as `CLIP.load` does.
    ///
    /// - Throws: `CLIPError` with the code `.model` or `.device`.
    public static func load(
        _ model: String? = nil, device: Device = .automatic, precision: Precision = .automatic, threads: Int? = nil,
        strict: Bool = false, activation: Activation? = nil, imageSize: Int? = nil
    ) async throws -> CLIPService {
        let executor = QueueExecutor()
        return try await executor.run {
            let clip = try CLIP.load(
                model, device: device, precision: precision, threads: threads, strict: strict, activation: activation,
                imageSize: imageSize)
            return CLIPService(clip, executor)
        }
    }

    /// The bytes of a picture file as the model takes them; on the caller's thread.
    ///
    /// - Throws: `CLIPError` with the code `.input`.
    public nonisolated func preprocess(_ file: [UInt8]) throws -> PreprocessedImage {
        PreprocessedImage(bytes: try preparer.pixels(file, name: "the picture"), images: preparer.images)
    }

    /// Token ids of texts; on the caller's thread.
    ///
    /// - Throws: `CLIPError` with the code `.input` for a text that is too long, unless `truncate`.
    public nonisolated func tokenize(_ texts: [String], truncate: Bool = false) throws -> TokenizedText {
        var preparer = preparer
        preparer.options.truncatesText = truncate
        return TokenizedText(
            ids: try texts.map { try preparer.tokens($0) }, contextLength: information.contextLength,
            paddingID: information.paddingID)
    }

    /// Features of pictures, not of unit length.
    public func encodeImage(_ images: [PreprocessedImage]) throws -> Embeddings { try clip.encodeImage(images) }

    /// Features of texts, not of unit length.
    public func encodeText(_ tokens: TokenizedText) throws -> Embeddings { try clip.encodeText(tokens) }

    /// Vectors for labels, as `CLIP.zeroShotClassifier` makes them; the classifier may be used on any thread.
    ///
    /// - Throws: `CLIPError` as there.
    public func zeroShotClassifier(
        labels: [String], templates: [String] = [ZeroShotClassifier.defaultTemplate]
    ) throws -> ZeroShotClassifier {
        try clip.zeroShotClassifier(labels: labels, templates: templates)
    }
}

/// Runs an actor's jobs on a queue, so that waiting for a device blocks none of the cooperative pool's threads.
private final class QueueExecutor: SerialExecutor {
    private let queue = DispatchQueue(label: "clip-gpu.service")

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    /// Runs a closure on the queue.
    func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result(catching: body)) }
        }
    }
}
