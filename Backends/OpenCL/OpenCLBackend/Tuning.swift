// What `clip-gpu tune` found on a device, remembered beside its compiled programs. Whatever the tile, sums run from the
// first input to the last: tuning changes how fast a row is computed, not how.

import CLIPCompute

extension OpenCLBackend {
    /// Everything that a measurement is good for: this device, driver and precision, these kernels.
    private func tuningKey() -> ContentKey? {
        guard let source = try? programs.source(["linear"]) else { return nil }
        return ContentKey(["tuning 1", deviceKey, precision.rawValue, family.rawValue, source], ending: "tuning")
    }

    /// The tile that was remembered; none where there is none, or none that can be read.
    func rememberedTile() -> LinearTile? {
        guard let cache, let key = tuningKey(), let text = cache.read(key) else { return nil }
        return LinearTile(String(decoding: text, as: UTF8.self))
    }

    /// Remembers a tile for this device, driver, precision and source; where, or none where it cannot be written.
    package func remember(_ tile: LinearTile) -> String? {
        guard let cache, let key = tuningKey(), cache.write(key, Array(tile.description.utf8)) else { return nil }
        return cache.path(key)
    }

    /// Tiles worth measuring on this device, the one in use first.
    package var tunableTiles: [LinearTile] {
        [linearTile] + LinearTile.tunable(family, on: description).filter { $0 != linearTile }
    }
}
