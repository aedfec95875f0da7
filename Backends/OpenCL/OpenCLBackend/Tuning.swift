// What `clip-gpu tune` found on a device, remembered beside its compiled programs. Whatever the tile, sums run from the
// first input to the last: tuning changes how fast a row is computed, not how.

import CLIPCompute

/// A tile of the matrix product that can be measured.
package enum TunableTile: Sendable, Hashable, CustomStringConvertible {
    /// Of the plain kernels.
    case linear(LinearTile)
    /// Of those with matrix instructions.
    case matrix(MatrixTile)

    package var description: String {
        switch self {
        case .linear(let tile): "\(tile)"
        case .matrix(let tile): "\(tile)"
        }
    }

    /// Results of one work-group.
    private var area: Int {
        switch self {
        case .linear(let tile): tile.groupRows * tile.panel
        case .matrix(let tile): tile.rows * tile.columns
        }
    }

    /// Leaves a backend nothing else to take.
    package func choose(in options: inout OpenCLOptions) {
        switch self {
        case .linear(let tile): options.linearTiles = [tile]
        case .matrix(let tile):
            options.matrixSteps = [tile.step]
            options.matrixTiles = [tile]
        }
    }

    /// What to remember of measured tiles, fastest first: of plain tiles one, since weights are laid out for it. Of the others, which
    /// share a layout and are chosen by the number of rows, the fastest of each size that is smaller than those before it.
    static func worthRemembering(_ measured: [(tile: TunableTile, rate: Double)]) -> [(tile: TunableTile, rate: Double)]
    {
        var chosen: [(tile: TunableTile, rate: Double)] = []
        for candidate in measured.sorted(by: { $0.rate > $1.rate }) {
            guard let last = chosen.last else {
                chosen.append(candidate)
                continue
            }
            if case .matrix = candidate.tile, candidate.tile.area < last.tile.area, chosen.count < 4 {
                chosen.append(candidate)
            }
        }
        return chosen
    }
}

extension OpenCLBackend {
    /// Everything that a measurement is good for: this device, driver and precision, these kernels.
    private func tuningKey(_ step: MatrixStep?) -> ContentKey? {
        guard let source = try? programs.source(step?.files("linear") ?? ["linear"]) else { return nil }
        let kernels = step?.rawValue ?? family.rawValue
        return ContentKey(["tuning 2", deviceKey, precision.rawValue, kernels, source], ending: "tuning")
    }

    /// The remembered lines, "tile: rate"; none where there are none that can be read.
    private func remembered(_ step: MatrixStep?) -> [(text: String, rate: Double)] {
        guard let cache, let key = tuningKey(step), let record = cache.read(key) else { return [] }
        return String(decoding: record, as: UTF8.self).split(separator: "\n").compactMap { line in
            let parts = line.split(separator: ":")
            guard parts.count == 2, let rate = Double(parts[1].drop { $0 == " " }), rate > 0, rate <= 1 else {
                return nil
            }
            return (String(parts[0]), rate)
        }
    }

    /// What the first start found out of a tile with matrix instructions, so that later ones do not compile it in vain.
    enum Finding: Equatable {
        /// Its shared memory has to be an argument of the kernel.
        case sharesByArgument
        /// It does not build or computes wrongly, with the reason.
        case refused(String)

        var isRefusal: Bool { if case .refused = self { true } else { false } }
    }

    private func findingsKey(_ step: MatrixStep) -> ContentKey? {
        guard !emulatesMatrixSteps, let source = try? programs.source(step.files("linear")) else { return nil }
        return ContentKey(["findings 1", Programs.hostForm, deviceKey, step.rawValue, source], ending: "findings")
    }

    /// By the tile's description.
    func rememberedFindings(_ step: MatrixStep) -> [String: Finding] {
        guard let cache, let key = findingsKey(step), let record = cache.read(key) else { return [:] }
        var findings: [String: Finding] = [:]
        for line in String(decoding: record, as: UTF8.self).split(separator: "\n") {
            let parts = line.split(separator: "\t", maxSplits: 1).map(String.init)
            findings[parts[0]] = parts.count == 1 ? .sharesByArgument : .refused(parts[1])
        }
        return findings
    }

    func remember(_ findings: [String: Finding], _ step: MatrixStep) {
        guard let cache, let key = findingsKey(step) else { return }
        let lines = findings.sorted { $0.key < $1.key }.map { tile, finding in
            switch finding {
            case .sharesByArgument: tile
            case .refused(let reason): tile + "\t" + reason.replacing("\n", with: " ")
            }
        }
        cache.write(key, Array(lines.joined(separator: "\n").utf8))
    }

    /// The plain tile that was remembered.
    func rememberedTile() -> LinearTile? { remembered(nil).first.flatMap { LinearTile($0.text) } }

    /// The tiles of a step that were remembered, fastest first.
    package func rememberedTiles(_ step: MatrixStep) -> [MatrixTile] {
        remembered(step).compactMap { line in
            guard var tile = MatrixTile(line.text), tile.step == step else { return nil }
            tile.rate = line.rate
            return tile
        }
    }

    /// Remembers the best of measured tiles for this device, driver, precision and source; where, or none where it cannot
    /// be written.
    package func remember(_ measured: [(tile: TunableTile, rate: Double)]) -> String? {
        let chosen = TunableTile.worthRemembering(measured)
        guard let cache, let first = chosen.first, let key = tuningKey(matrixStep) else { return nil }
        let record = chosen.map { "\($0.tile): \($0.rate / first.rate)\n" }.joined()
        return cache.write(key, Array(record.utf8)) ? cache.path(key) : nil
    }

    /// What products run with.
    package var tilesInUse: [TunableTile] {
        matrixStep == nil ? [.linear(linearTile)] : matrixTiles.map(TunableTile.matrix)
    }

    /// Tiles worth measuring on this device, those in use first.
    package var tunableTiles: [TunableTile] {
        let others =
            matrixStep.map { step in MatrixTile.tunable(step, on: description).map(TunableTile.matrix) }
            ?? LinearTile.tunable(family, on: description).map(TunableTile.linear)
        return tilesInUse + others.filter { !tilesInUse.contains($0) }
    }
}
