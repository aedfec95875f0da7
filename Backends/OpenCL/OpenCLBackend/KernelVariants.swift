// Every program that the backend may build on a GPU with matrix instructions, as source and options: for checks without one
// (tools/check-gpu-kernels).

import CLIPCompute

package struct KernelVariant: Sendable {
    package let name: String
    package let source: String
    /// As the device's driver gets them.
    package let options: String
    /// None: plain OpenCL C.
    package let step: MatrixStep?
    /// Registers that its work-groups leave to a work-item, 255 at most: with more it would not start, or spill.
    package let registers: Int
    /// Bytes of shared memory beyond the 48 KB that ptxas takes as declared: to be made external.
    package let dynamicMemory: Int
    /// Work-groups of a multiprocessor, as the assembler is told.
    package var resident = 1
    /// Work-items of a work-group and rows of them, where the kernel fixes them.
    package var groupSize: (items: Int, rows: Int)?

    package static func all() throws(BackendError) -> [KernelVariant] {
        var all: [KernelVariant] = []
        let common = OpenCLBackend.commonOptions(half: true, .tiled, rowLanes: 64, unrolls: true)
        func add(
            _ name: String, _ files: [String], _ knobs: [(String, Int)], step: MatrixStep? = nil, items: Int,
            dynamicMemory: Int = 0, resident: Int = 1, groupSize: (items: Int, rows: Int)? = nil
        ) throws(BackendError) {
            all.append(
                KernelVariant(
                    name: name, source: try Programs.source(files, folder: environment("CLIP_GPU_KERNELS")),
                    options: ([common] + knobs.map { "-D\($0.0)=\($0.1)" }).joined(separator: " ")
                        + (step?.compilerOptions ?? ""), step: step,
                    registers: min(255, 65536 / items), dynamicMemory: dynamicMemory, resident: resident,
                    groupSize: groupSize))
        }
        for step in MatrixStep.allCases {
            for tile in MatrixTile.table(step) {
                let isLarge = step.isNvidia && tile.sharedMemory > 48 << 10
                let kinds: [(name: String, activation: Activation, isPlain: Bool)] =
                    [("", .none, true), (" gelu", .gelu, true)]
                    + (step == .wgmma
                        ? [(" quick_gelu", .quickGELU, true), (" any", .none, false), (" any gelu", .gelu, false)] : [])
                for kind in kinds {
                    try add(
                        "linear \(tile)\(kind.name)", step.files("linear"),
                        tile.knobs + tile.knobs(activation: kind.activation.number, isPlain: kind.isPlain)
                            + step.knobs(emulated: false) + (step.isNvidia ? [("LOCAL_ARGUMENT", 0)] : []), step: step,
                        items: tile.warps * step.lanes * tile.resident, dynamicMemory: isLarge ? tile.sharedMemory : 0,
                        resident: tile.resident, groupSize: step.isNvidia ? (step.lanes, tile.warps) : nil)
                }
            }
            let widths =
                switch step {
                case .wgmma: [64]
                case .mma: [32, 64, 80, 88, 104, 128]
                default: [64, step.widestHead]
                }
            for width in widths {
                for queries in step == .wgmma ? [64, 128] : step == .mma && width == 64 ? [32, 64] : [64] {
                    let shape = AttentionShape(heads: 1, keyWidth: width, valueWidth: width, scale: 1)
                    let variant = OpenCLBackend.MatrixAttention(
                        step, shape, longestQueries: queries, longestKeys: queries)
                    try add(
                        "attention \(step == .mma ? "" : "\(step.rawValue) ")\(width), \(queries) queries",
                        step.files("attention"), variant.knobs(emulated: false), step: step,
                        items: variant.warps * step.lanes, dynamicMemory: variant.largeSharedMemory,
                        groupSize: step.isNvidia ? (step.lanes, variant.warps) : nil)
                }
            }
        }
        for width in [512, 768, 1024] {
            let knobs = OpenCLBackend.warpKnobs(columns: width) + [("EMULATED", 0)]
            try add("norm \(width)", MatrixStep.mma.files("norm"), knobs, step: .mma, items: 1024)
            try add("pooledAttention \(width)", MatrixStep.mma.files("pooledAttention"), knobs, step: .mma, items: 512)
        }
        for tile in LinearTile.candidates(.tiled) where tile.family == .tiled {
            try add("linear \(tile)", ["linear"], tile.knobs, items: tile.workItems)
            try add("convolution \(tile)", ["convolution", "linear"], tile.knobs, items: tile.workItems)
        }
        try add(
            "attention tiled", ["attention"],
            [("KEY_WIDTH", 64), ("VALUE_WIDTH", 64), ("TILED", 1), ("KEY_TILE", 32), ("GROUP_QUERIES", 64)], items: 64)
        for pixels in [1, 2, 4] { try add("patches \(pixels)", ["patches"], [("PIXELS", pixels)], items: 64) }
        for file in ["norm", "pixels", "tokens", "averagePool", "rows", "pooledAttention"] {
            try add(file, [file], [], items: 64)
        }
        return all
    }
}
