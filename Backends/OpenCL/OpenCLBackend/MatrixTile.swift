// How a product with matrix instructions is cut. Legal values are at the top of the kernel files.

/// One row of the table of tiles.
package struct MatrixTile: Sendable, Hashable, CustomStringConvertible {
    package var step: MatrixStep
    /// Results of one work-group.
    package var rows: Int
    package var columns: Int
    /// Results of one warp or sub-group; not of `wgmma`.
    package var warpRows: Int
    package var warpColumns: Int
    /// Inputs in one slot of shared memory, and slots; those of steps with units have two.
    package var depth: Int
    package var stages: Int
    /// A step is multiplied while the next is begun; `wgmma` only.
    package var overlaps: Bool
    /// Work-groups that a multiprocessor holds at once, and the rate that it reaches with them relative to the best tile: what the
    /// choice by the number of rows reckons with. The large ones of `wgmma` were measured; see Kernels/README.md.
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
        func tile(
            _ rows: Int, _ columns: Int, warp: (Int, Int) = (64, 64), depth: Int, stages: Int = 2,
            overlaps: Bool = false, resident: Int = 1, rate: Double = 1
        ) -> MatrixTile {
            MatrixTile(
                step: step, rows: rows, columns: columns, warpRows: warp.0, warpColumns: warp.1, depth: depth,
                stages: stages, overlaps: overlaps, resident: resident, rate: rate)
        }
        switch step {
        case .wgmma:
            return [
                tile(128, 256, depth: 64, stages: 4, overlaps: true),
                tile(128, 128, depth: 64, stages: 3, resident: 2, rate: 0.9),
                tile(64, 64, depth: 64, stages: 8, overlaps: true, rate: 0.5),
                tile(64, 32, depth: 64, stages: 8, overlaps: true, resident: 2, rate: 0.3),
            ]
        case .mma:
            return [
                tile(128, 128, depth: 32, stages: 3, resident: 2),
                tile(64, 64, warp: (32, 32), depth: 64, stages: 3, resident: 3, rate: 0.6),
                tile(32, 64, warp: (16, 32), depth: 64, stages: 4, resident: 4, rate: 0.35),
            ]
        case .dpas16:
            return [
                tile(128, 128, warp: (32, 64), depth: 32),
                tile(64, 64, warp: (16, 32), depth: 32, resident: 2, rate: 0.6),
            ]
        case .dpas8:
            return [
                tile(128, 64, warp: (16, 32), depth: 32),
                tile(32, 64, warp: (16, 32), depth: 32, resident: 2, rate: 0.6),
            ]
        case .mfma:
            return [
                tile(128, 128, warp: (64, 64), depth: 32, resident: 2),
                tile(64, 64, warp: (32, 32), depth: 32, resident: 3, rate: 0.6),
            ]
        case .wmma11, .wmma12:
            return [
                tile(128, 128, warp: (64, 32), depth: 32),
                tile(64, 64, warp: (32, 32), depth: 32, resident: 3, rate: 0.6),
            ]
        }
    }

    /// What `clip-gpu tune` measures on a device: legal tiles of a step that it can hold.
    package static func tunable(_ step: MatrixStep, on device: OpenCLDeviceDescription) -> [MatrixTile] {
        let texts: [String]
        switch step {
        case .wgmma:
            texts = [
                "128x256x64x4", "128x256x64x3", "128x256x64x3 overlaps", "128x128x64x4 overlaps", "128x128x64x4",
                "128x128x64x6 overlaps", "128x128x64x3 overlaps", "64x256x64x4 overlaps", "64x256x64x5 overlaps",
                "64x128x64x4 overlaps", "64x128x64x4", "64x64x64x8", "64x64x64x4",
            ]
        case .mma:
            texts = [
                "256x128x32x4 64x64", "128x256x32x4 64x64", "128x256x64x3 64x64", "128x128x32x4 64x64",
                "128x128x64x3 64x64",
                "128x128x32x3 64x32", "128x128x32x4 64x32", "64x128x32x4 32x64", "64x128x64x3 32x64",
                "64x64x32x4 32x32",
            ]
        default:
            texts = [(256, 128), (128, 256), (128, 128), (64, 128), (128, 64), (64, 64), (32, 64)].flatMap {
                rows, columns in
                ["64x64", "64x32", "32x64", "32x32", "16x64", "16x32"].flatMap { warp in
                    [32, 64].map { "\(rows)x\(columns)x\($0)x2 \(warp)" }
                }
            }
        }
        return texts.compactMap { MatrixTile("\(step.rawValue) \($0)") }.filter { tile in
            // What NVIDIA's OpenCL reports is no limit; see Kernels/README.md.
            step.isNvidia
                || tile.sharedMemory <= Int(clamping: device.localMemory)
                    && 64...min(512, device.largestWorkGroup) ~= tile.warps * step.lanes
        }
    }

    /// "mma 128x256x32x4 64x64": step, rows x columns x depth x stages, and for all but `wgmma` the warp's rows x columns;
    /// "wgmma 128x256x64x4 overlaps". Nothing for a tile that is not legal.
    package init?(_ text: String) {
        let words = text.split(separator: " ")
        guard let step = words.first.flatMap({ MatrixStep(rawValue: String($0)) }) else { return nil }
        let numbers = words.dropFirst().filter { $0 != "overlaps" }.map {
            $0.split(separator: "x").compactMap { Int($0) }
        }
        guard let block = numbers.first, block.count == 4, step == .wgmma || numbers.count == 2 && numbers[1].count == 2
        else { return nil }
        self.init(
            step: step, rows: block[0], columns: block[1], warpRows: step == .wgmma ? 64 : numbers[1][0],
            warpColumns: step == .wgmma ? 64 : numbers[1][1], depth: block[2], stages: block[3],
            overlaps: words.contains("overlaps"))
        guard isLegal else { return nil }
        // What the table knows of it, where it stands there.
        if let known = Self.table(step).first(where: { $0.description == description }) { self = known }
    }

    package var description: String {
        "\(step.rawValue) \(rows)x\(columns)x\(depth)x\(stages)"
            + (step != .wgmma ? " \(warpRows)x\(warpColumns)" : overlaps ? " overlaps" : "")
    }

    /// Whether the kernel can be built for it; see the tops of wgmma/linear.cl, mma/linear.cl and fragments/linear.cl.
    var isLegal: Bool {
        guard rows > 0, columns > 0, warpRows > 0, warpColumns > 0, depth > 0, stages > 0, 256 % columns == 0 else {
            return false
        }
        if step == .wgmma {
            return [64, 128].contains(rows) && [32, 64, 128, 256].contains(columns) && depth == 64
                && (overlaps ? 3 : 2)...8 ~= stages && sharedMemory <= 227 << 10
        }
        guard [32, 64].contains(depth), !overlaps, rows % warpRows == 0, columns % warpColumns == 0,
            warps * step.lanes <= 1024, rows * depth / 8 % (warps * step.lanes) == 0
        else { return false }
        if let unit = step.unit {
            return stages == 2 && warpRows % unit.rows == 0 && warpColumns % unit.columns == 0
                && warpRows * warpColumns / step.lanes <= 128
        }
        // A work-item copies the same piece of rows that are exchanged alike.
        return 2...6 ~= stages && warpRows % 16 == 0 && warpColumns % 32 == 0 && warpRows * warpColumns <= 4096
            && columns * depth / 8 % (warps * 32) == 0 && warps * 32 / (depth / 8) % 8 == 0
    }

    /// Warps, or sub-groups, of one work-group.
    var warps: Int { step == .wgmma ? rows / 16 : rows / warpRows * (columns / warpColumns) }

    /// Bytes of shared memory of one work-group.
    package var sharedMemory: Int {
        switch step {
        case .wgmma: stages * (rows + columns) * depth * 2 + 1024 + stages * 16
        case .mma: stages * (rows + columns) * depth * 2
        default: stages * rows * (depth * 2 + 16)
        }
    }

    /// What the kernel has to be told, beside what the step's instructions are.
    var knobs: [(String, Int)] {
        var knobs = [("BLOCK_ROWS", rows), ("BLOCK_COLUMNS", columns), ("DEPTH", depth), ("WARPS", warps)]
        if step.isNvidia { knobs += [("STAGES", stages), ("PENDING", stages - 2 - (overlaps ? 1 : 0))] }
        return knobs
            + (step == .wgmma
                ? [("OVERLAP", overlaps ? 1 : 0)] : [("WARP_ROWS", warpRows), ("WARP_COLUMNS", warpColumns)])
    }

    /// What the kernel has to be told of the product.
    func knobs(activation: Int, isPlain: Bool) -> [(String, Int)] {
        [("ACTIVATION", activation)] + (step == .wgmma ? [("PLAIN", isPlain ? 1 : 0)] : [])
    }

    /// What a product costs with this tile, in multiples of what one multiprocessor does in a unit of time.
    func cost(rows: Int, columns: Int, units: Int) -> Double {
        let groups = (rows + self.rows - 1) / self.rows * ((columns + self.columns - 1) / self.columns)
        // Waves that are not full leave work-groups alone on their multiprocessors, where each is faster.
        let perUnit = (groups + units - 1) / units
        return Double(perUnit * self.rows * self.columns) / rate * (perUnit < resident ? 0.75 : 1)
    }
}
