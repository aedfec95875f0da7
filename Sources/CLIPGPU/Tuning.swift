// clip-gpu tune: measures the kernels' variants on the user's device and remembers the best. Never unasked.

import BackendTesting
import CLIPCompute
import CLIPModel
import OpenCLBackend

/// What tuning found on a device.
public struct TuningResult: Sendable {
    /// One variant of a kernel on the products of a model's blocks.
    public struct Candidate: Sendable {
        /// "linear tiled 128x64x16, 8x8 each"; "linear mma 128x128x32x3 64x64" with matrix instructions
        public let name: String
        /// Billions of operations a second over all products; none where the variant does not build or computes wrongly.
        public let rate: Double?
    }

    /// Those that were measured; the ones that were in use stand first.
    public let candidates: [Candidate]
    /// The best of them.
    public let chosen: Candidate
    /// The file that remembers it; none where it could not be written.
    public let path: String?
}

extension Device {
    /// Measures variants of the matrix product on an OpenCL device, and remembers the fastest for later runs, beside the
    /// compiled programs. Results keep their bytes.
    ///
    /// - Parameters:
    ///   - device: must name one OpenCL device.
    ///   - precision: the one that is tuned.
    ///   - model: whose widths are measured; ViT-B's 768 for none.
    ///   - seconds: after which no further variant is begun.
    ///   - shouldStop: asked between variants; once true, nothing is remembered and the call returns nothing.
    ///   - onCandidate: called for each variant when it has been measured.
    /// - Throws: `CLIPError` with the code `.device` or `.model`.
    public static func tune(
        _ device: Device, precision: Precision = .automatic, model: String? = nil, seconds: Double = 60,
        shouldStop: () -> Bool = { false }, onCandidate: (TuningResult.Candidate) throws -> Void = { _ in }
    ) throws -> TuningResult? {
        let (source, widths) = try CLIP.translatingErrors {
            let configuration = try model.map { try CLIP.open($0).configuration }
            let widths = Set(configuration?.transformerWidths ?? [768]).sorted()
            return (try DeviceSelection.openCL(device), widths)
        }
        func open(_ change: (inout OpenCLOptions) -> Void) throws -> OpenCLBackend {
            var options = OpenCLOptions()
            change(&options)
            return try OpenCLBackend(
                deviceIndex: source.index, precision: precision.resolved(for: source.kind), options: options)
        }
        let current = try CLIP.translatingErrors { try open { $0.usesTuning = false } }
        let start = monotonicSeconds()
        let tiles = current.tunableTiles
        var candidates: [TuningResult.Candidate] = []
        var measured: [(tile: TunableTile, rate: Double)] = []
        for tile in tiles {
            if shouldStop() { return nil }
            // Two at least, or nothing would be compared.
            if measured.count >= 2, monotonicSeconds() - start > seconds { break }
            let backend = try? open(tile.choose)
            // Where it is passed over, something else would be measured.
            let rate = try? backend.flatMap { backend in
                backend.tilesInUse == [tile]
                    ? try Figures.productRate(on: backend, widths: widths, seconds: min(0.1, seconds / 40)) : nil
            }
            let candidate = TuningResult.Candidate(name: "linear \(tile)", rate: rate.map { $0 / 1e9 })
            candidates.append(candidate)
            try onCandidate(candidate)
            // The first stays unless another is clearly faster: the times of a busy machine vary by a few percent.
            if let rate { measured.append((tile, tile == tiles[0] ? rate * 1.03 : rate)) }
        }
        let best = measured.max { $0.rate < $1.rate }
        guard let best else {
            throw CLIPError(.device, "No variant of the matrix product computes rightly on \(source.name).")
        }
        let chosen = candidates[tiles.firstIndex(of: best.tile) ?? 0]
        return TuningResult(candidates: candidates, chosen: chosen, path: current.remember(measured))
    }
}

extension CLIPConfiguration {
    /// Of the towers that are transformers.
    fileprivate var transformerWidths: [Int] {
        [vision.rows.width, text.transformer.width]
    }
}
