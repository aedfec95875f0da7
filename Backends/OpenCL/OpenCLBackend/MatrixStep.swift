// Which matrix instructions there are, and what their kernels have in common with each other. A step of the ladder is one file of
// instructions, and a product and attention in that form: in wgmma/, mma/, or fragments/ for all others.

/// Instructions that a product of halves can be built from, best first among those of one maker.
package enum MatrixStep: String, Sendable, CaseIterable {
    /// NVIDIA's `wgmma` on tiles in shared memory, four warps together: sm_90a. Kernels: wgmma/linear.cl, wgmma/attention.cl.
    case wgmma
    /// NVIDIA's `mma.sync` on tiles of one warp: sm_80 and later. Kernel: mma/linear.cl.
    case mma
    /// Intel's sub-group matrix instructions with sub-groups of 16: Xe-HPC and Xe2. Instructions: intel/dpas.cl.
    case dpas16
    /// The same with sub-groups of 8: Xe-HPG.
    case dpas8
    /// AMD's MFMA: CDNA. Instructions: amd/mfma.cl.
    case mfma
    /// AMD's WMMA: RDNA 3. Instructions: amd/wmma.cl.
    case wmma11
    /// The same of RDNA 4.
    case wmma12

    /// Work-items that execute an instruction together.
    package var lanes: Int {
        switch self {
        case .wgmma, .mma, .wmma11, .wmma12: 32
        case .dpas16: 16
        case .dpas8: 8
        case .mfma: 64
        }
    }

    /// Steps with NVIDIA's layout of registers; the others have units.
    package var isNvidia: Bool { self == .wgmma || self == .mma }

    /// The smallest product of a sub-group whose result leaves eight columns of a row in a lane; see fragments/fragments.cl.
    struct Unit {
        let rows: Int
        let columns: Int
        let inputs: Int
    }
    var unit: Unit? {
        switch self {
        case .wgmma, .mma: nil
        case .dpas16: Unit(rows: 16, columns: 8, inputs: 16)
        case .dpas8: Unit(rows: 8, columns: 8, inputs: 16)
        case .mfma: Unit(rows: 16, columns: 32, inputs: 32)
        case .wmma11, .wmma12: Unit(rows: 16, columns: 16, inputs: 16)
        }
    }

    /// The column of the product that stands at a place of the packed weight.
    func column(at place: Int) -> Int {
        switch self {
        case .wgmma, .mma: place / 32 * 32 + place % 8 / 2 * 8 + place % 32 / 8 * 2 + place % 2
        case .dpas16, .dpas8, .wmma12: place
        case .mfma: place / 32 * 32 + place % 16 / 4 * 8 + place % 32 / 16 * 4 + place % 4
        case .wmma11: place / 16 * 16 + place % 2 * 8 + place % 16 / 2
        }
    }

    /// Where eight inputs from `start` on of a place stand in a weight of `depth` inputs, in halves.
    func offset(place: Int, start: Int, depth: Int) -> Int {
        if let unit {
            return place / unit.columns * unit.columns * depth + start / unit.inputs * (unit.columns * unit.inputs)
                + place % unit.columns * unit.inputs + start % unit.inputs
        }
        return self == .wgmma
            ? place / 256 * 256 * depth + (start / 64 * 256 + place % 256) * 64 + (start % 64 / 8 ^ place % 8) * 8
            : place * depth + start
    }

    /// The most columns of a head for its attention: what registers hold of results and scores.
    var widestHead: Int {
        switch self {
        case .dpas16: 80
        case .dpas8: 88
        default: 128
        }
    }

    /// Kernel files of an operation that uses the instructions; those in front of `name`'s own.
    func files(_ name: String) -> [String] {
        let instructions =
            switch self {
            case .wgmma, .mma: ["nvidia/ptx"]
            case .dpas16, .dpas8: ["intel/dpas", "fragments/fragments"]
            case .mfma: ["amd/mfma", "fragments/fragments"]
            case .wmma11, .wmma12: ["amd/wmma", "fragments/fragments"]
            }
        return instructions + ["matrix/values"] + (name == "linear" ? ["matrix/epilogue"] : [])
            + (self == .wgmma ? ["wgmma/tiles"] : []) + ["\(isNvidia ? rawValue : "fragments")/\(name)"]
    }

    /// What those files have to be told.
    func knobs(emulated: Bool) -> [(String, Int)] {
        let own: [(String, Int)] =
            switch self {
            case .wgmma, .mma, .mfma: []
            case .dpas16, .dpas8: [("SUBGROUP", lanes)]
            case .wmma11: [("GENERATION", 11)]
            case .wmma12: [("GENERATION", 12)]
            }
        return own + [("EMULATED", emulated ? 1 : 0)]
    }

    /// Options of the device's own compiler: the kernels keep their sums in registers, for which Intel's would take half of them.
    var compilerOptions: String {
        switch self {
        case .dpas16, .dpas8: " -cl-intel-256-GRF-per-thread"
        default: ""
        }
    }
}
