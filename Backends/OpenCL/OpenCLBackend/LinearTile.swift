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

    /// Best first; each is tried where the one before it fails.
    package static func candidates(_ family: OpenCLOptions.Family) -> [LinearTile] {
        let small = LinearTile(family: .vector, rows: 4, panel: 16)
        switch family {
        case .vector:
            return [.vector, small]
        case .tiled:
            return [
                LinearTile(family: .tiled, rows: 8, panel: 64, tileRows: 128, columns: 8),
                LinearTile(family: .tiled, rows: 4, panel: 64, tileRows: 64, columns: 4),
                .vector, small,
            ]
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

    package var description: String {
        switch family {
        case .vector: "vector \(rows)x\(panel)"
        case .tiled: "tiled \(tileRows)x\(panel)x\(depth), \(rows)x\(columns) each"
        }
    }
}
