// Every program that the backend may build on an NVIDIA GPU, as source and options: for checks without one
// (tools/check-nvidia-kernels).

import CLIPCompute

package struct NvidiaVariant: Sendable {
    package let name: String
    package let source: String
    /// As NVIDIA's driver gets them.
    package let options: String
    /// None: plain OpenCL C.
    package let step: MatrixStep?
    /// Registers that its work-groups leave to a work-item, 255 at most: with more it would not start, or spill.
    package let registers: Int
    /// Bytes of shared memory given as an argument, since ptxas takes no more than 48 KB declared.
    package let sharedArgument: Int

    package static func all() throws(BackendError) -> [NvidiaVariant] {
        var all: [NvidiaVariant] = []
        let common = OpenCLBackend.commonOptions(half: true, .tiled, rowLanes: 64, unrolls: true)
        func add(
            _ name: String, _ files: [String], _ knobs: [(String, Int)], step: MatrixStep? = nil, items: Int,
            sharedArgument: Int = 0
        ) throws(BackendError) {
            all.append(
                NvidiaVariant(
                    name: name, source: try Programs.source(files, folder: environment("CLIP_GPU_KERNELS")),
                    options: ([common] + knobs.map { "-D\($0.0)=\($0.1)" }).joined(separator: " "), step: step,
                    registers: min(255, 65536 / items), sharedArgument: sharedArgument))
        }
        for step in MatrixStep.allCases {
            for tile in MatrixTile.table(step) {
                let isLarge = tile.sharedMemory > 48 << 10
                try add(
                    "linear \(tile)", tile.files,
                    tile.knobs + [("EMULATED", 0), ("LOCAL_ARGUMENT", isLarge ? 1 : 0)], step: step,
                    items: tile.warps * 32 * tile.resident, sharedArgument: isLarge ? tile.sharedMemory : 0)
            }
        }
        for width in [32, 64, 80, 88, 104, 128] {
            for queries in width == 64 ? [32, 64] : [64] {
                let shape = AttentionShape(heads: 1, keyWidth: width, valueWidth: width, scale: 1)
                let knobs = OpenCLBackend.tensorCoreKnobs(shape, longestQueries: queries)
                try add(
                    "attention \(width), \(queries) queries", ["nvidia/ptx", "mma/attention"], knobs + [("EMULATED", 0)],
                    step: .mma, items: queries * 2)
            }
        }
        // The larger of the tiles takes clang half a minute.
        if let tile = LinearTile.candidates(.tiled).last(where: { $0.family == .tiled }) {
            try add("linear \(tile)", ["linear"], tile.knobs, items: tile.workItems)
            try add("convolution \(tile)", ["convolution", "linear"], tile.knobs, items: tile.workItems)
        }
        try add(
            "attention tiled", ["attention"],
            [("KEY_WIDTH", 64), ("VALUE_WIDTH", 64), ("TILED", 1), ("KEY_TILE", 32), ("GROUP_QUERIES", 64)], items: 64)
        for file in ["norm", "patches", "pixels", "tokens", "averagePool", "rows", "pooledAttention"] {
            try add(file, [file], [], items: 64)
        }
        return all
    }
}
