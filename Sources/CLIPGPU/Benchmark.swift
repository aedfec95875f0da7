// Items per second of a model on a device: tensor in, embedding out.

/// What one measurement found.
public struct BenchmarkResult: Sendable {
    /// The tower.
    public let kind: EmbeddingInput.Kind
    /// Items computed together.
    public let batch: Int
    /// Tokens of each text.
    public let length: Int?
    /// Median wall time of one batch.
    public let medianSeconds: Double
    /// Half the distance of the quartiles, as a share of the median.
    public let spread: Double
    /// Batches measured.
    public let runs: Int
    let precision: Precision
    let device: DeviceDescription

    /// By the median.
    public var itemsPerSecond: Double { Double(batch) / medianSeconds }

    /// One JSON object.
    public var json: String {
        "{\"tower\": \"\(kind.rawValue)\", \"batch\": \(batch), "
            + (length.map { "\"length\": \($0), " } ?? "")
            + "\"precision\": \"\(precision.rawValue)\", \"device\": \(JSONText.quoted(device.description)), "
            + "\"items_per_second\": \(itemsPerSecond), \"median_seconds\": \(medianSeconds), \"spread\": \(spread), "
            + "\"runs\": \(runs)}"
    }
}

extension CLIP {
    /// Measures batches of random pixels, or of random tokens, for about `seconds` after two warm-up runs.
    ///
    /// - Throws: `CLIPError` when the device fails.
    public func benchmark(
        _ kind: EmbeddingInput.Kind, batch: Int, length: Int? = nil, seconds: Double = 2,
        shouldStop: () -> Bool = { false }
    ) throws -> BenchmarkResult {
        var generator = SplitMix64(state: 0x5EED)
        let run: () throws -> Job
        let tokens = length ?? information.contextLength
        switch kind {
        case .image:
            let side = information.imageSize
            let bytes = (0..<(batch * side * side * 3)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            run = { try self.begin(bytes: bytes) }
        case .text:
            let end = information.endOfText
            let ids = (0..<batch).map { _ in
                [end - 1] + (0..<(tokens - 2)).map { _ in Int32(generator.next() % UInt64(end - 1)) } + [end]
            }
            run = { try self.begin(tokens: ids) }
        }
        for _ in 0..<2 where !shouldStop() { _ = try finish(run(), normalized: false) }
        var times: [Double] = []
        let start = monotonicSeconds()
        while !shouldStop(), times.count < 5 || monotonicSeconds() - start < seconds, times.count < 100_000 {
            let begun = monotonicSeconds()
            _ = try finish(run(), normalized: false)
            times.append(monotonicSeconds() - begun)
        }
        times.sort()
        func quantile(_ share: Double) -> Double { times.isEmpty ? 1 : times[Int(share * Double(times.count - 1))] }
        return BenchmarkResult(
            kind: kind, batch: batch, length: kind == .text ? tokens : nil, medianSeconds: quantile(0.5),
            spread: (quantile(0.75) - quantile(0.25)) / 2 / quantile(0.5), runs: times.count, precision: precision,
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
