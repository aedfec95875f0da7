// Items per second of a model on a device: tensor in, embedding out.

import CLIPCompute
import CLIPModel

/// What one measurement found.
public struct BenchmarkResult: Sendable {
    /// The tower.
    public let kind: EmbeddingInput.Kind
    /// Items computed together.
    public let batch: Int
    /// Tokens of each text, both ends included; the mean, where texts differ.
    public let length: Double?
    /// Median wall time of one batch.
    public let medianSeconds: Double
    /// Half the distance of the quartiles, as a share of the median.
    public let spread: Double
    /// Batches measured.
    public let runs: Int
    /// Share of the measured time that the device was computing; of several, the mean.
    public let busy: Double
    /// Billions of operations (two for a multiply-add) that one batch's matrix products need.
    public let gigaoperations: Double
    /// Billions of operations per second out of registers, on all threads: what no product can exceed. In int8 those of
    /// bytes. None where the device does not tell.
    public let peak: Double?
    let precision: Precision
    let device: DeviceDescription

    /// By the median.
    public var itemsPerSecond: Double { Double(batch) / medianSeconds }

    /// GFLOP/s; in int8, GOP/s.
    public var rate: Double { gigaoperations / medianSeconds }

    /// `rate` as a share of `peak`.
    public var shareOfPeak: Double? { peak.map { rate / $0 } }

    /// One JSON object.
    public var json: String {
        "{\"tower\": \"\(kind.rawValue)\", \"batch\": \(batch), "
            + (length.map { "\"length\": \($0), " } ?? "")
            + "\"precision\": \"\(precision.rawValue)\", \"device\": \(JSONText.quoted(device.description)), "
            + "\"items_per_second\": \(itemsPerSecond), \"median_seconds\": \(medianSeconds), \"spread\": \(spread), "
            + "\"runs\": \(runs), \"busy\": \(busy), \"gflops\": \(rate), \"peak_gflops\": \(peak.map { "\($0)" } ?? "null"), "
            + "\"share_of_peak\": \(shareOfPeak.map { "\($0)" } ?? "null")}"
    }
}

extension CLIP {
    /// Measures batches of random pixels, or of random tokens, for about `seconds` after a warm-up.
    ///
    /// - Throws: `CLIPError` when the device fails.
    public func benchmark(
        _ kind: EmbeddingInput.Kind, batch: Int, length: Int? = nil, seconds: Double = 2,
        shouldStop: () -> Bool = { false }
    ) throws -> BenchmarkResult {
        var generator = SplitMix64(state: 0x5EED)
        let run: () throws -> Job
        let work: Double
        let tokens = length ?? information.contextLength
        switch kind {
        case .image:
            let side = information.imageSize
            let bytes = (0..<(batch * side * side * 3)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            run = { try self.begin(.bytes(bytes), alone: true) }
            work = try gigaoperations(.image) { encoder in
                _ = try bytes.withUnsafeBufferPointer {
                    try encoder.encodeImages(Pixels(.bytes($0), count: batch, height: side, width: side))
                }
            }
        case .text:
            let end = information.endOfText
            let ids = (0..<batch).map { _ in
                [end - 1] + (0..<(tokens - 2)).map { _ in Int32(generator.next() % UInt64(end - 1)) } + [end]
            }
            run = { try self.begin(.tokens(ids), alone: true) }
            work = try gigaoperations(.text) { _ = try $0.encodeTexts(ids) }
        }
        let found = try measured(seconds: seconds, shouldStop: shouldStop) { _ = try finish(run(), normalized: false) }
        return try result(
            kind, batch: batch, length: kind == .text ? Double(tokens) : nil, work: work, times: found.times,
            busy: found.busy)
    }

    /// Measures passes over texts that differ in length, `batch` of them at a time and in their order, for about
    /// `seconds` after a warm-up. Tokenizing is not in it; the time of a batch is its share of a pass.
    ///
    /// - Throws: `CLIPError` for a text that is too long, and when the device fails.
    public func benchmark(
        captions: [String], batch: Int, seconds: Double = 2, shouldStop: () -> Bool = { false }
    ) throws -> BenchmarkResult {
        let ids = try tokenize(captions).ids
        let batches = stride(from: 0, to: ids.count, by: batch).map { Array(ids[$0..<min($0 + batch, ids.count)]) }
        let found = try measured(seconds: seconds, shouldStop: shouldStop) {
            // As many under way as in `embed`: the next is made ready while one computes.
            var running: ArraySlice<Job> = []
            for batch in batches where !shouldStop() {
                running.append(try begin(.tokens(batch), alone: jobsInFlight == 1))
                if running.count >= jobsInFlight, let first = running.popFirst() {
                    _ = try finish(first, normalized: false)
                }
            }
            for job in running { _ = try finish(job, normalized: false) }
        }
        let work = try gigaoperations(.text) { encoder in
            for batch in batches { _ = try encoder.encodeTexts(batch) }
        }
        let share = Double(batch) / Double(max(ids.count, 1))
        return try result(
            .text, batch: batch, length: Double(ids.reduce(0) { $0 + $1.count }) / Double(max(ids.count, 1)),
            work: work * share, times: found.times.map { $0 * share }, busy: found.busy)
    }

    /// Wall times of `run`, sorted: at least three, and as many as fit into `seconds`. One run goes before. And the share of the time
    /// that the devices computed.
    private func measured(
        seconds: Double, shouldStop: () -> Bool, run: () throws -> Void
    ) throws -> (times: [Double], busy: Double) {
        if !shouldStop() { try run() }
        var times: [Double] = []
        let busyBefore = busySeconds.reduce(0, +)
        let start = monotonicSeconds()
        while !shouldStop(), times.count < 3 || monotonicSeconds() - start < seconds, times.count < 100_000 {
            let begun = monotonicSeconds()
            try run()
            times.append(monotonicSeconds() - begun)
        }
        let busy = busySeconds
        let whole = (monotonicSeconds() - start) * Double(max(busy.count, 1))
        return (times.sorted(), min(1, (busy.reduce(0, +) - busyBefore) / max(whole, 1e-9)))
    }

    /// What the matrix products of one tower need for the inputs that `run` encodes.
    private func gigaoperations(
        _ tower: CLIPModel.Towers, _ run: (CLIPEncoder<CountingBackend>) throws -> Void
    ) throws -> Double {
        try CLIP.translatingErrors {
            let counter = CountingBackend()
            try run(CLIPEncoder(reopen(), backend: counter, towers: tower))
            return 2e-9 * Double(counter.multiplyAdds)
        }
    }

    private func result(
        _ kind: EmbeddingInput.Kind, batch: Int, length: Double?, work: Double, times: [Double], busy: Double
    ) throws -> BenchmarkResult {
        func quantile(_ share: Double) -> Double { times.isEmpty ? 1 : times[Int(share * Double(times.count - 1))] }
        return BenchmarkResult(
            kind: kind, batch: batch, length: length, medianSeconds: quantile(0.5),
            spread: (quantile(0.75) - quantile(0.25)) / 2 / quantile(0.5), runs: times.count, busy: busy,
            gigaoperations: work, peak: times.isEmpty ? nil : try measurePeak.map { try $0() * 1e-9 },
            precision: precision,
            device: device)
    }
}

/// Sebastiano Vigna's splitmix64: the same numbers on every machine.
private struct SplitMix64 {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
