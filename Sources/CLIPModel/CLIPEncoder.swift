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

    /// Pictures of the model's size; they may be overwritten on return. With `unitLength`, rows have length 1. `alone`: its
    /// rows are waited for before more is begun, so all of the device is theirs; otherwise a share of it may do.
    func beginImages(_ pixels: Pixels, unitLength: Bool, alone: Bool) throws -> EncodingJob
    /// Token ids with start and end, padded or not; `alone` as above.
    func beginTexts(_ ids: [[Int32]], unitLength: Bool, alone: Bool) throws -> EncodingJob
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
        try finish(beginImages(pixels, unitLength: unitLength, alone: true))
    }

    /// `[ids.count, embeddingWidth]`
    package func encodeTexts(_ ids: [[Int32]], unitLength: Bool = false) throws -> [Float] {
        try finish(beginTexts(ids, unitLength: unitLength, alone: true))
    }
}

package final class CLIPEncoder<B: Backend>: ImageTextEncoder {
    package let configuration: CLIPConfiguration
    package let towers: Towers
    private let backend: B
    private let vision: VisionTower<B>?
    private let text: TextTower<B>?
    private var passes = PassQueue()
    /// The most inputs of a pass for which the device had memory when a greater one found too little.
    private var mostImages = Int.max
    private var mostTexts = Int.max

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

    package func beginImages(_ pixels: Pixels, unitLength: Bool, alone: Bool) throws -> EncodingJob {
        guard let vision else { throw ModelError("the image tower was not loaded") }
        let size = configuration.vision.imageSize
        guard pixels.height == size, pixels.width == size else {
            throw ModelError(
                "pictures of \(pixels.width)x\(pixels.height) pixels where the model takes \(size)x\(size)")
        }
        let (parts, alone) = imagePasses(pixels.count, alone: alone)
        return try job { job in
            for part in parts {
                try submit(part, to: job, limit: &mostImages) { part in
                    try backend.begin(alone: alone)
                    let rows = try vision(pixels.pictures(part), backend)
                    if unitLength { try backend.normalizeRows(rows) }
                    return try backend.submit(rows)
                }
            }
        }
    }

    package func beginTexts(_ ids: [[Int32]], unitLength: Bool, alone: Bool) throws -> EncodingJob {
        guard let text else { throw ModelError("the text tower was not loaded") }
        var sentences: [Sentence] = []
        sentences.reserveCapacity(ids.count)
        for (index, sentence) in ids.enumerated() {
            sentences.append(try configuration.text.sentence(sentence, name: "text \(index)"))
        }
        let (parts, alone) = textPasses(sentences.map(\.ids.count), alone: alone)
        return try job { job in
            for part in parts {
                try submit(part, to: job, limit: &mostTexts) { part in
                    try backend.begin(alone: alone)
                    let rows = try text(sentences[part], backend)
                    if unitLength { try backend.normalizeRows(rows) }
                    return try backend.submit(rows)
                }
            }
        }
    }

    /// Submits inputs as one pass, or, where the device has no memory for that (others may use it too), in two halves.
    private func submit(
        _ part: Range<Int>, to job: EncodingJob, limit: inout Int, _ pass: (Range<Int>) throws -> Ticket
    ) throws {
        if part.count <= limit {
            passes.makeRoom(backend)
            do {
                return passes.add(try pass(part), to: job)
            } catch let error as BackendError where error.code == .outOfMemory && part.count > 1 {
                limit = part.count / 2
            }
        }
        let middle = part.lowerBound + (part.count + 1) / 2
        for half in [part.lowerBound..<middle, middle..<part.upperBound] {
            try submit(half, to: job, limit: &limit, pass)
        }
    }

    /// Passes beside each other, and how many there are best of so many rows; none where each is to have all of the device.
    private func shares(_ rows: Int, width: Int, alone: Bool) -> (lanes: Int, passes: Int)? {
        let lanes = backend.concurrentPasses(of: rows, alone: alone)
        if lanes == 1 { return nil }
        let full = backend.preferredRows(width: width)
        // Beside other jobs, a job need not have a part for every lane.
        return alone ? (lanes, lanes * ((rows + full - 1) / full)) : (lanes, (rows * lanes + full - 1) / full)
    }

    /// The pictures of each pass, and whether each is to have all of the device.
    private func imagePasses(_ count: Int, alone: Bool) -> (parts: [Range<Int>], alone: Bool) {
        let (perPicture, width) = configuration.vision.rows
        if let (lanes, passes) = shares(count * perPicture, width: width, alone: alone) {
            let passes = min(count, passes)
            let bounds = (0...passes).map { ($0 * count + passes - 1) / passes }
            let longest = (0..<lanes).map { lane in
                stride(from: lane, to: passes, by: lanes).reduce(0) { $0 + bounds[$1 + 1] - bounds[$1] }
            }.max()
            // Where one lane has more to do, the others stand still at the end.
            if let longest, !alone || 19 * lanes * longest <= 20 * count {
                return ((0..<passes).map { bounds[$0]..<bounds[$0 + 1] }, false)
            }
        }
        var parts: [Range<Int>] = []
        var first = 0
        while first < count {
            // Full passes, then the rest: a pass of equal parts would fill the device less well in each.
            let left = (count - first) * perPicture
            let size = min(count - first, max(1, backend.preferredRows(width: width, of: left) / perPicture))
            parts.append(first..<(first + size))
            first += size
        }
        return (parts, true)
    }

    /// The sentences of each pass, by their lengths, and whether each is to have all of the device.
    private func textPasses(_ lengths: [Int], alone: Bool) -> (parts: [Range<Int>], alone: Bool) {
        let width = configuration.text.transformer.width
        var tokens = lengths.reduce(0, +)
        var left = shares(tokens, width: width, alone: alone)?.passes
        let alone = left == nil
        var parts: [Range<Int>] = []
        var first = 0
        while first < lengths.count {
            // As many as fit; beside other passes an equal share, to which the last that more than half belongs.
            let share =
                if let left { left > 1 ? tokens / left : tokens } else {
                    backend.preferredRows(width: width, of: tokens)
                }
            var (end, size) = (first + 1, lengths[first])
            while end < lengths.count, size + (alone ? lengths[end] : lengths[end] / 2) <= share {
                size += lengths[end]
                end += 1
            }
            parts.append(first..<end)
            first = end
            tokens -= size
            left = left.map { $0 - 1 }
        }
        return (parts, alone)
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
            sentences.append(try configuration.text.sentence(sentence, name: "text \(index)"))
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
