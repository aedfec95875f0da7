// A model on a device: batches in, rows out.
import CLIPCompute

/// Which towers to load; each takes time and memory.
package struct Towers: OptionSet, Sendable {
    package let rawValue: Int
    package init(rawValue: Int) { self.rawValue = rawValue }

    package static let image = Towers(rawValue: 1)
    package static let text = Towers(rawValue: 2)
    package static let both: Towers = [.image, .text]
}

/// Work handed over and not yet waited for.
package struct EncodingJob: Hashable, Sendable {
    fileprivate let number: Int
}

/// A model on some device, speaking of host values only. Has one owner at a time.
///
/// `begin…` enqueues a batch of any size and returns while the device works, so that the next batch can be decoded
/// meanwhile; `finish` waits for its rows. Each job is finished once. `encode…` does both.
package protocol ImageTextEncoder: AnyObject {
    var configuration: CLIPConfiguration { get }
    var device: DeviceInfo { get }
    var precision: Precision { get }
    /// The towers that were loaded.
    var towers: Towers { get }
    /// Pictures that fill the device well in one pass; batches of a multiple of this lose nothing.
    var preferredImages: Int { get }
    /// Tokens, cut sentences together, that fill the device well in one pass.
    var preferredTokens: Int { get }
    /// Passes that may be in flight at once.
    var laneCount: Int { get }
    /// Seconds that the device has spent on the passes waited for so far; what overlaps is counted once.
    var busySeconds: Double { get }

    /// Pictures of the model's size; they may be overwritten on return. With `unitLength`, rows have length 1.
    func beginImages(_ pixels: Pixels, unitLength: Bool) throws -> EncodingJob
    /// Token ids with start and end, padded or not.
    func beginTexts(_ ids: [[Int32]], unitLength: Bool) throws -> EncodingJob
    /// One row of `embeddingWidth` numbers for each input, in order.
    func finish(_ job: EncodingJob) throws -> [Float]

    /// One pass over few pictures, watched. Rows as the model gives them.
    func encodeImages(_ pixels: Pixels, observer: Observer) throws -> [Float]
    /// One pass over few sentences, watched. Rows as the model gives them.
    func encodeTexts(_ ids: [[Int32]], observer: Observer) throws -> [Float]
}

extension ImageTextEncoder {
    /// `[pixels.count, embeddingWidth]`
    package func encodeImages(_ pixels: Pixels, unitLength: Bool = false) throws -> [Float] {
        try finish(beginImages(pixels, unitLength: unitLength))
    }

    /// `[ids.count, embeddingWidth]`
    package func encodeTexts(_ ids: [[Int32]], unitLength: Bool = false) throws -> [Float] {
        try finish(beginTexts(ids, unitLength: unitLength))
    }
}

package final class CLIPEncoder<B: Backend>: ImageTextEncoder {
    package let configuration: CLIPConfiguration
    package let towers: Towers
    private let backend: B
    private let vision: VisionTower<B>?
    private let text: TextTower<B>?
    private var passes = PassQueue()

    /// Hands the weights of the wanted towers to the backend. Throws `ModelError` or `BackendError`.
    package init(_ model: ModelCheckpoint, backend: B, towers: Towers = .both) throws {
        let parameters = try model.parameters()
        configuration = model.configuration
        self.backend = backend
        self.towers = towers
        vision = towers.contains(.image) ? try VisionTower(parameters.vision, configuration, backend) : nil
        text = towers.contains(.text) ? try TextTower(parameters.text, configuration.text, backend) : nil
    }

    package var device: DeviceInfo { backend.device }
    package var precision: Precision { backend.precision }
    package var laneCount: Int { backend.laneCount }
    package var busySeconds: Double { backend.busySeconds }

    package var preferredImages: Int {
        let rows = configuration.vision.rows
        return max(1, backend.preferredRows(width: rows.width) / rows.perPicture)
    }

    package var preferredTokens: Int { max(1, backend.preferredRows(width: configuration.text.transformer.width)) }

    package func beginImages(_ pixels: Pixels, unitLength: Bool) throws -> EncodingJob {
        guard let vision else { throw ModelError("the image tower was not loaded") }
        let size = configuration.vision.imageSize
        guard pixels.height == size, pixels.width == size else {
            throw ModelError(
                "pictures of \(pixels.width)x\(pixels.height) pixels where the model takes \(size)x\(size)")
        }
        return try job { job in
            var first = 0
            // Full passes, then the rest: a pass of equal parts would fill the device less well in each.
            let (perPicture, width) = configuration.vision.rows
            while first < pixels.count {
                let left = pixels.count - first
                let count = min(left, max(1, backend.preferredRows(width: width, of: left * perPicture) / perPicture))
                passes.makeRoom(backend)
                try backend.begin()
                let rows = try vision(pixels.pictures(first..<(first + count)), backend)
                if unitLength { try backend.normalizeRows(rows) }
                passes.add(try backend.submit(rows), to: job)
                first += count
            }
        }
    }

    package func beginTexts(_ ids: [[Int32]], unitLength: Bool) throws -> EncodingJob {
        guard let text else { throw ModelError("the text tower was not loaded") }
        var sentences: [Sentence] = []
        sentences.reserveCapacity(ids.count)
        for (index, sentence) in ids.enumerated() {
            sentences.append(try configuration.text.sentence(sentence, index: index))
        }
        return try job { job in
            var first = 0
            var left = sentences.reduce(0) { $0 + $1.ids.count }
            while first < sentences.count {
                var end = first + 1
                var tokens = sentences[first].ids.count
                let most = backend.preferredRows(width: configuration.text.transformer.width, of: left)
                while end < sentences.count, tokens + sentences[end].ids.count <= most {
                    tokens += sentences[end].ids.count
                    end += 1
                }
                left -= tokens
                passes.makeRoom(backend)
                try backend.begin()
                let rows = try text(sentences[first..<end], backend)
                if unitLength { try backend.normalizeRows(rows) }
                passes.add(try backend.submit(rows), to: job)
                first = end
            }
        }
    }

    package func finish(_ job: EncodingJob) throws -> [Float] { try passes.finish(job, backend) }

    /// A job whose passes are submitted by `body`; forgotten where that fails.
    private func job(_ body: (EncodingJob) throws -> Void) throws -> EncodingJob {
        let job = passes.open()
        do {
            try body(job)
        } catch {
            _ = try? passes.finish(job, backend)
            throw error
        }
        return job
    }

    package func encodeImages(_ pixels: Pixels, observer: Observer) throws -> [Float] {
        guard let vision else { throw ModelError("the image tower was not loaded") }
        try backend.begin()
        return try backend.wait(backend.submit(vision(pixels, backend, observer)))
    }

    package func encodeTexts(_ ids: [[Int32]], observer: Observer) throws -> [Float] {
        guard let text else { throw ModelError("the text tower was not loaded") }
        var sentences: [Sentence] = []
        for (index, sentence) in ids.enumerated() {
            sentences.append(try configuration.text.sentence(sentence, index: index))
        }
        try backend.begin()
        return try backend.wait(backend.submit(text(sentences, backend, observer)))
    }
}

/// Tickets in flight, oldest first, and what became of the jobs that they belong to.
private struct PassQueue {
    private struct Job {
        var rows: [Float] = []
        var pending = 0
        var failure: BackendError?
    }

    private var jobs: [Int: Job] = [:]
    private var tickets: ArraySlice<(ticket: Ticket, job: Int)> = []
    private var nextJob = 0

    mutating func open() -> EncodingJob {
        defer { nextJob += 1 }
        jobs[nextJob] = Job()
        return EncodingJob(number: nextJob)
    }

    mutating func add(_ ticket: Ticket, to job: EncodingJob) {
        tickets.append((ticket, job.number))
        jobs[job.number]?.pending += 1
    }

    /// Waits until the next lane is free.
    mutating func makeRoom(_ backend: some Backend) {
        while tickets.count >= backend.laneCount { settleOldest(backend) }
    }

    private mutating func settleOldest(_ backend: some Backend) {
        guard let (ticket, number) = tickets.popFirst() else { return }
        jobs[number]?.pending -= 1
        do throws(BackendError) {
            let rows = try backend.wait(ticket)
            jobs[number]?.rows += rows
        } catch {
            if jobs[number]?.failure == nil { jobs[number]?.failure = error }
        }
    }

    mutating func finish(_ job: EncodingJob, _ backend: some Backend) throws -> [Float] {
        while let state = jobs[job.number], state.pending > 0 { settleOldest(backend) }
        guard let state = jobs.removeValue(forKey: job.number) else {
            throw ModelError("a job was finished twice")
        }
        if let failure = state.failure { throw failure }
        return state.rows
    }
}
