// Matrix products on tensor cores: which instructions, and how a product is cut. Legal values are at the top of the kernel files.

/// Instructions that a product of halves can be built from, best first.
package enum MatrixStep: String, Sendable, CaseIterable {
    /// `wgmma` on tiles in shared memory, four warps together: sm_90a. Kernel: wgmma/linear.cl.
    case wgmma
    /// `mma.sync` on tiles of one warp: sm_80 and later. Kernel: mma/linear.cl.
    case mma
}

/// One row of the table of tiles.
package struct MatrixTile: Sendable, Hashable, CustomStringConvertible {
    package var step: MatrixStep
    /// Results of one work-group.
    package var rows: Int
    package var columns: Int
    /// Results of one warp; `mma` only.
    package var warpRows: Int
    package var warpColumns: Int
    /// Inputs in one slot of shared memory, and slots.
    package var depth: Int
    package var stages: Int
    /// A step is multiplied while the next is begun; `wgmma` only.
    package var overlaps: Bool
    /// Work-groups that a multiprocessor holds at once, and the rate that it reaches with them relative to the best tile: what the
    /// choice by the number of rows reckons with. Estimated, not yet measured.
    package var resident: Int
    package var rate: Double

    package init(
        step: MatrixStep, rows: Int, columns: Int, warpRows: Int = 64, warpColumns: Int = 64, depth: Int, stages: Int,
        overlaps: Bool = false, resident: Int = 1, rate: Double = 1
    ) {
        self.overlaps = overlaps
        self.step = step
        self.rows = rows
        self.columns = columns
        self.warpRows = warpRows
        self.warpColumns = warpColumns
        self.depth = depth
        self.stages = stages
        self.resident = resident
        self.rate = rate
    }

    /// The tiles of a step. Those that do not build or compute wrongly on a device are passed over. Sums do not depend on the tile.
    /// NVIDIA's OpenCL reports 48 KB of local memory and may take more; see Kernels/README.md.
    package static func table(_ step: MatrixStep) -> [MatrixTile] {
        switch step {
        case .wgmma:
            [
                MatrixTile(step: .wgmma, rows: 128, columns: 256, depth: 64, stages: 4, overlaps: true),
                MatrixTile(step: .wgmma, rows: 128, columns: 128, depth: 64, stages: 3, resident: 2, rate: 0.9),
                MatrixTile(step: .wgmma, rows: 64, columns: 64, depth: 64, stages: 4, resident: 3, rate: 0.5),
            ]
        case .mma:
            [
                MatrixTile(step: .mma, rows: 128, columns: 256, depth: 32, stages: 4),
                MatrixTile(step: .mma, rows: 128, columns: 128, depth: 32, stages: 3, resident: 2, rate: 0.9),
                MatrixTile(
                    step: .mma, rows: 64, columns: 64, warpRows: 32, warpColumns: 32, depth: 64, stages: 3, resident: 3,
                    rate: 0.6),
                MatrixTile(
                    step: .mma, rows: 32, columns: 64, warpRows: 16, warpColumns: 32, depth: 64, stages: 4, resident: 4,
                    rate: 0.35),
            ]
        }
    }

    /// "mma 128x256x32x4 64x64": step, rows x columns x depth x stages, and for `mma` the warp's rows x columns;
    /// "wgmma 128x256x64x4 overlaps".
    package init?(_ text: String) {
        let words = text.split(separator: " ")
        guard let step = words.first.flatMap({ MatrixStep(rawValue: String($0)) }) else { return nil }
        let numbers = words.dropFirst().filter { $0 != "overlaps" }.map { $0.split(separator: "x").compactMap { Int($0) } }
        guard let block = numbers.first, block.count == 4, step == .wgmma || numbers.count == 2 && numbers[1].count == 2
        else { return nil }
        self.init(
            step: step, rows: block[0], columns: block[1], warpRows: step == .mma ? numbers[1][0] : 64,
            warpColumns: step == .mma ? numbers[1][1] : 64, depth: block[2], stages: block[3],
            overlaps: words.contains("overlaps"))
    }

    package var description: String {
        "\(step.rawValue) \(rows)x\(columns)x\(depth)x\(stages)"
            + (step == .mma ? " \(warpRows)x\(warpColumns)" : overlaps ? " overlaps" : "")
    }

    /// Warps of one work-group.
    var warps: Int { step == .wgmma ? rows / 16 : rows / warpRows * (columns / warpColumns) }

    /// Bytes of shared memory of one work-group.
    package var sharedMemory: Int {
        stages * (rows + columns) * depth * 2 + (step == .wgmma ? 1024 + stages * 16 : 0)
    }

    var files: [String] { ["nvidia/ptx", "nvidia/epilogue", "\(step.rawValue)/linear"] }

    var knobs: [(String, Int)] {
        [
            ("BLOCK_ROWS", rows), ("BLOCK_COLUMNS", columns), ("DEPTH", depth), ("STAGES", stages), ("WARPS", warps),
        ]
            + (step == .mma
                ? [("PENDING", stages - 2), ("WARP_ROWS", warpRows), ("WARP_COLUMNS", warpColumns)]
                : [("PENDING", stages - 2 - (overlaps ? 1 : 0)), ("OVERLAP", overlaps ? 1 : 0)])
    }

    /// What a product costs with this tile, in multiples of what one multiprocessor does in a unit of time.
    func cost(rows: Int, columns: Int, units: Int) -> Double {
        let groups = (rows + self.rows - 1) / self.rows * ((columns + self.columns - 1) / self.columns)
        // Waves that are not full leave work-groups alone on their multiprocessors, where each is faster.
        let perUnit = (groups + units - 1) / units
        return Double(perUnit * self.rows * self.columns) / rate * (perUnit < resident ? 0.75 : 1)
    }
}
