// The switch: which device runs the model, and in which precision. The parsing and the public values only;
// OpenDevice.swift opens what they name.

/// Where a model runs: `device = "cuda" if torch.cuda.is_available() else "cpu"` as a value.
public struct Device: Hashable, Sendable, CustomStringConvertible {
    enum Choice: Hashable, Sendable {
        case automatic
        case cpu
        case gpu(Int?)
        case allGPUs
        case openCL(Int?)
        case cuda(Int?)
        /// At least two, each one device.
        case list([Choice])
    }
    let choice: Choice

    /// The best GPU that passes its self-check, else the CPU.
    public static let automatic = Device(choice: .automatic)
    /// The CPU, with this library's own kernels or BLAS.
    public static let cpu = Device(choice: .cpu)
    /// The GPU with this number, or the best; with a warning, the CPU where there is none.
    public static func gpu(_ index: Int? = nil) -> Device { Device(choice: .gpu(index)) }
    /// Every GPU; each takes the next batch when it has room for it.
    public static let allGPUs = Device(choice: .allGPUs)
    /// The OpenCL device with this number as `Device.available` lists them, of any type, or the best; never another.
    public static func openCL(_ index: Int? = nil) -> Device { Device(choice: .openCL(index)) }

    /// Several devices at once; each takes the next batch when it has room for it. None where fewer than two are given,
    /// or one that may be several or none: `automatic`, `allGPUs`, another list.
    ///
    /// Different devices round differently: which of them computed a row is not fixed, and neither are its last bits.
    public static func several(_ devices: [Device]) -> Device? {
        let choices = devices.map(\.choice)
        let single = choices.allSatisfy {
            switch $0 {
            case .automatic, .allGPUs, .list: false
            default: true
            }
        }
        return choices.count > 1 && single ? Device(choice: .list(choices)) : nil
    }

    init(choice: Choice) {
        self.choice = choice
    }

    /// Reads `auto`, `cpu`, `gpu`, `gpu:N`, `gpu:all`, `opencl`, `opencl:N`, `cuda`, `cuda:N`, or several that name one
    /// device each with commas between: `opencl:0,opencl:1`. None for anything else.
    public init?(_ text: String) {
        if text.contains(",") {
            let devices = text.split(separator: ",", omittingEmptySubsequences: false).map { Device(String($0)) }
            guard let several = Device.several(devices.compactMap(\.self)), !devices.contains(nil) else { return nil }
            self = several
            return
        }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var index: Int?
        if parts.count == 2 {
            if text == "gpu:all" {
                self = .allGPUs
                return
            }
            guard let number = Int(parts[1]), number >= 0 else { return nil }
            index = number
        }
        switch (parts[0], index) {
        case ("auto", nil): self = .automatic
        case ("cpu", nil): self = .cpu
        case ("gpu", _): self = .gpu(index)
        case ("opencl", _): self = .openCL(index)
        case ("cuda", _): self = Device(choice: .cuda(index))
        default: return nil
        }
    }

    /// The text that `init(_:)` reads.
    public var description: String {
        func with(_ index: Int?) -> String { index.map { ":\($0)" } ?? "" }
        return switch choice {
        case .automatic: "auto"
        case .cpu: "cpu"
        case .gpu(let index): "gpu" + with(index)
        case .allGPUs: "gpu:all"
        case .openCL(let index): "opencl" + with(index)
        case .cuda(let index): "cuda" + with(index)
        case .list(let choices): choices.map { Device(choice: $0).description }.joined(separator: ",")
        }
    }
}

/// How exactly a model computes.
public enum Precision: String, Hashable, Sendable, CaseIterable {
    /// fp16 on a GPU, fp32 elsewhere, and for models whose activations outgrow halves (text towers of T5's kind).
    case automatic = "auto"
    /// float32 throughout: the reference's numbers to rounding.
    case fp32
    /// Halves in memory, float32 in sums and statistics.
    case fp16
    /// Weights quantised per channel, activations per row.
    case int8
}
