// The form for servers: a model that many tasks may ask at once, and that computes what they ask together.

import CLIPCompute
import Dispatch
import Synchronization

/// A model with a thread of its own, for any number of tasks. What is asked while the device computes is computed next, in
/// batches that fill the device, whoever asked; a row does not depend on its batch, so nobody sees that. While requests
/// wait, no thread of Swift's cooperative pool is blocked. Pictures are decoded and texts tokenized on the caller's thread.
///
/// ```swift
/// let service = try await CLIPService.load("path/to/clip-vit-base-patch32")
/// let image = try service.preprocess(upload)
/// let embeddings = try await service.encodeImage([image])
/// ```
public actor CLIPService {
    /// What became of the requests so far.
    public struct Statistics: Sendable {
        /// Pictures encoded.
        public internal(set) var images = 0
        /// Texts encoded.
        public internal(set) var texts = 0
        /// Batches that they were computed in.
        public internal(set) var batches = 0
        /// Inputs that wait for the device.
        public internal(set) var waiting = 0
        /// Seconds that each device has spent computing, as of the last batch that ended.
        public internal(set) var busySeconds: [Double] = []
    }

    /// What the model's embeddings and inputs look like.
    public nonisolated let information: ModelInformation
    /// The device that runs the model; the first, where there are several.
    public nonisolated let device: DeviceDescription

    private nonisolated let executor: QueueExecutor
    private nonisolated let preparer: Preparer
    private nonisolated let requests = RequestQueue()
    private let clip: CLIP
    /// Inputs computed together, where the caller says it.
    private let batchSize: Int?

    /// Where this actor's work runs.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private init(
        _ clip: sending CLIP, _ executor: QueueExecutor, _ options: PreparationOptions = PreparationOptions(),
        batchSize: Int? = nil
    ) {
        information = clip.information
        device = clip.device
        preparer = clip.preparer(options)
        self.clip = clip
        self.executor = executor
        self.batchSize = batchSize
    }

    /// Serves a model that is loaded, and becomes its owner.
    ///
    /// - Parameters:
    ///   - options: how pictures are prepared.
    ///   - batchSize: inputs computed together at most; by default what fills the device.
    public init(
        _ clip: sending CLIP, options: PreparationOptions = PreparationOptions(), batchSize: Int? = nil
    ) {
        self.init(clip, QueueExecutor(), options, batchSize: batchSize)
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

    /// The bytes of a picture file as the model takes them; on the caller's thread. `name` is what errors call it.
    ///
    /// - Throws: `CLIPError` with the code `.input`.
    public nonisolated func preprocess(_ file: [UInt8], name: String = "the picture") throws -> PreprocessedImage {
        PreprocessedImage(bytes: try preparer.pixels(file, name: name), images: preparer.images)
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
    ///
    /// - Throws: `CLIPError` when the device fails; `CancellationError` where the task is cancelled before its turn.
    public nonisolated func encodeImage(_ images: [PreprocessedImage]) async throws -> Embeddings {
        let bytes = images.compactMap(\.bytes)
        return try await rows(bytes.count == images.count ? .bytes(bytes) : .floats(images.map(\.pixels)))
    }

    /// Features of texts, not of unit length.
    ///
    /// - Throws: `CLIPError` when the device fails; `CancellationError` where the task is cancelled before its turn.
    public nonisolated func encodeText(_ tokens: TokenizedText) async throws -> Embeddings {
        try await rows(.tokens(tokens.ids))
    }

    /// Vectors for labels, as `CLIP.zeroShotClassifier` makes them, between what others ask; the classifier may be used on
    /// any thread.
    ///
    /// - Throws: `CLIPError` as there; `CancellationError` where the task is cancelled.
    public nonisolated func zeroShotClassifier(
        labels: [String], templates: [String] = [ZeroShotClassifier.defaultTemplate], truncate: Bool = false
    ) async throws -> ZeroShotClassifier {
        var means = try ZeroShotMeans(labels: labels, templates: templates, dimension: information.embeddingDimension)
        var sentences = means.sentences.makeIterator()
        while true {
            var part: [String] = []
            while part.count < 256, let sentence = sentences.next() { part.append(sentence) }
            if part.isEmpty { return means.classifier(information) }
            let rows = try await encodeText(tokenize(part, truncate: truncate)).normalized()
            for row in 0..<rows.count { means.add(rows[row]) }
        }
    }

    /// What became of the requests so far.
    public nonisolated var statistics: Statistics { requests.statistics }

    private nonisolated func rows(_ inputs: RequestQueue.Inputs) async throws -> Embeddings {
        let dimension = information.embeddingDimension
        if inputs.count == 0 { return Embeddings(values: [], dimension: dimension) }
        let request = RequestQueue.Request(inputs)
        let values = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                request.wait(continuation)
                if requests.add(request) { Task { await work() } }
            }
        } onCancel: {
            request.fail(CancellationError())
        }
        return Embeddings(values: values, dimension: dimension)
    }

    /// Computes until nobody waits any more.
    private func work() {
        var running = Queue<(shares: [RequestQueue.Share], job: CLIP.Job)>()
        while true {
            // Where every device has a batch under way only full ones are begun: what comes meanwhile is better computed together.
            if running.count < clip.jobsInFlight,
                let (batch, shares) = requests.next(
                    images: batchSize ?? clip.preferredBatchSize(.image),
                    texts: batchSize ?? clip.preferredBatchSize(.text),
                    onlyFull: running.count >= clip.devices.count)
            {
                do {
                    // Where nobody else waits, all of the device is for this batch.
                    let alone = running.count == 0 && requests.statistics.waiting == 0
                    running.append((shares, try clip.begin(batch, alone: alone)))
                } catch {
                    for share in shares { share.request.fail(error) }
                }
            } else if let (shares, job) = running.popFirst() {
                do {
                    var rows = try clip.finish(job, normalized: false)[...]
                    for share in shares {
                        let values = share.count * information.embeddingDimension
                        share.request.add(rows.prefix(values), count: share.count)
                        rows = rows.dropFirst(values)
                    }
                } catch {
                    for share in shares { share.request.fail(error) }
                }
                requests.report(busySeconds: clip.busySeconds)
            } else if requests.endsWork() {
                return
            }
        }
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
