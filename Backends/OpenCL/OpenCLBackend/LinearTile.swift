// How a matrix product is cut. Legal values are at the top of Kernels/OpenCL/linear.cl.

/// One row of the table of tiles.
package struct LinearTile: Sendable, Hashable, CustomStringConvertible {
    package var family: OpenCLOptions.Family
    /// Rows of one work-item.
    package var rows: Int
    /// Columns of one panel: the layout of the weights, and the columns of one work-group.
    package var panel: Int
    /// Rows of one work-group; tiled only.
    package var tileRows: Int
    /// Columns of one work-item; tiled only.
    package var columns: Int
    /// Inputs in local memory at once; tiled only.
    package var depth: Int

    package init(
        family: OpenCLOptions.Family, rows: Int, panel: Int, tileRows: Int = 0, columns: Int = 4, depth: Int = 16
    ) {
        self.family = family
        self.rows = rows
        self.panel = panel
        self.tileRows = tileRows
        self.columns = columns
        self.depth = depth
    }

    package static let vector = LinearTile(family: .vector, rows: 8, panel: 32)

    /// The tiles that are shipped, by what a device says of itself. Best first; each is tried where the one before it
    /// fails.
    ///
    /// A vector tile's sums are to fit the registers: 8x32 are 16 of AVX-512's 32, 6x16 are 12 of AVX2's 16. Measured with
    /// `clip-gpu tune` on an AMD EPYC: with AVX-512, 8x32 is the fastest on PoCL 3.1 and Intel's runtime 2026.2; where the
    /// latter compiles for AVX2, 6x16 reaches 50 GFLOP/s, 4x16 44 and 8x32 27. Those of GPUs are not measured yet.
    package static func candidates(_ family: OpenCLOptions.Family, vectorWidth: Int = 16) -> [LinearTile] {
        let small = LinearTile(family: .vector, rows: 4, panel: 16)
        let vector: LinearTile =
            switch vectorWidth {
            case 16...: .vector
            case 8...: LinearTile(family: .vector, rows: 6, panel: 16)
            default: small
            }
        let vectors = vector == small ? [small] : [vector, small]
        switch family {
        case .vector: return vectors
        case .tiled:
            return [
                LinearTile(family: .tiled, rows: 8, panel: 64, tileRows: 128, columns: 8),
                LinearTile(family: .tiled, rows: 4, panel: 64, tileRows: 64, columns: 4),
            ] + vectors
        }
    }

    /// What `clip-gpu tune` measures on a device: the legal tiles of a family that it can hold.
    package static func tunable(
        _ family: OpenCLOptions.Family, on device: OpenCLDeviceDescription
    ) -> [LinearTile] {
        switch family {
        case .vector:
            return [(8, 32), (6, 32), (12, 32), (4, 32), (14, 16), (8, 16), (6, 16), (4, 16), (6, 64), (4, 64)].map {
                LinearTile(family: .vector, rows: $0, panel: $1)
            }
        case .tiled:
            var tiles: [LinearTile] = []
            for (tileRows, panel) in [(128, 64), (64, 64), (128, 128), (64, 128), (32, 64), (256, 64)] {
                for (rows, columns) in [(8, 8), (4, 8), (8, 4), (4, 4)] {
                    for depth in [16, 8, 32] {
                        let tile = LinearTile(
                            family: .tiled, rows: rows, panel: panel, tileRows: tileRows, columns: columns, depth: depth
                        )
                        let items = tile.workItems
                        if tile.isLegal, items >= 32, items <= min(device.largestWorkGroup, 256),
                            (tileRows + panel) * depth * 4 <= min(Int(clamping: device.localMemory), 48 << 10)
                        {
                            tiles.append(tile)
                        }
                    }
                }
            }
            return tiles
        }
    }

    /// Work-items of one work-group.
    var workItems: Int { family == .vector ? 1 : tileRows / rows * (panel / columns) }
    /// Rows of one work-group.
    var groupRows: Int { family == .vector ? rows : tileRows }

    var knobs: [(String, Int)] {
        [("TILED", family == .tiled ? 1 : 0), ("ROWS", rows), ("PANEL", panel)]
            + (family == .tiled ? [("TILE_ROWS", tileRows), ("COLUMNS", columns), ("DEPTH", depth)] : [])
    }

    /// Whether the kernel can be built for it; see the top of linear.cl.
    var isLegal: Bool {
        switch family {
        case .vector: return (1...16).contains(rows) && panel > 0 && panel % 16 == 0
        case .tiled:
            guard [4, 8].contains(rows), [4, 8].contains(columns), depth > 0, depth % 4 == 0, tileRows > 0, panel > 0,
                tileRows % rows == 0, panel % columns == 0
            else { return false }
            return depth / 4 * tileRows % workItems == 0 && depth / 4 * panel % workItems == 0
        }
    }

    /// Reads what `description` writes; nothing for a tile that is not legal.
    package init?(_ text: String) {
        let words = text.split(separator: " ")
        guard let family = words.first.flatMap({ OpenCLOptions.Family(rawValue: String($0)) }) else { return nil }
        let numbers = words.dropFirst().joined(separator: "x").split { "x,".contains($0) }.compactMap { Int($0) }
        switch (family, numbers.count) {
        case (.vector, 2): self.init(family: .vector, rows: numbers[0], panel: numbers[1])
        case (.tiled, 5):
            self.init(
                family: .tiled, rows: numbers[3], panel: numbers[1], tileRows: numbers[0], columns: numbers[4],
                depth: numbers[2])
        default: return nil
        }
        guard description == text, isLegal else { return nil }
    }

    package var description: String {
        switch family {
        case .vector: "vector \(rows)x\(panel)"
        case .tiled: "tiled \(tileRows)x\(panel)x\(depth), \(rows)x\(columns) each"
        }
    }
}
