// Opens what `Device` names. The only file that names the concrete backends.

import BackendTesting
import CLIPCompute
import CLIPModel
import CPUBackend
import OpenCLBackend

/// A device as it describes itself.
public struct DeviceDescription: Sendable, Hashable, CustomStringConvertible {
    /// What `Device(_:)` takes: "cpu", "opencl:0".
    public let identifier: String
    /// "cpu", "gpu" or "accelerator".
    public let kind: String
    /// The product's name.
    public let name: String
    /// Platform, library and driver version.
    public let driver: String
    /// Bytes it can hold, where known.
    public let memory: UInt64?
    /// What it can compute in.
    public let precisions: [Precision]
    /// Facts that decide which kernels run.
    public let capabilities: [String]

    /// The switch's position that names it.
    public var device: Device { Device(identifier) ?? .automatic }

    package init(_ info: DeviceInfo) {
        identifier = info.identifier
        kind = info.kind.rawValue
        name = info.name
        driver = info.driver
        memory = info.memory
        precisions = info.precisions.map { Precision($0) }
        capabilities = info.capabilities
    }

    /// "cpu (AMD EPYC)"
    public var description: String { "\(identifier) (\(name))" }

    /// One line: kind, name, memory, driver, precisions, capabilities.
    public var details: String {
        var parts = ["\(kind): \(name)"]
        if let memory { parts.append("\(memory >> 20) MiB") }
        parts.append(driver)
        parts.append(precisions.map(\.rawValue).joined(separator: " "))
        return (parts + capabilities).filter { !$0.isEmpty }.joined(separator: "; ")
    }

    /// One JSON object.
    public var json: String {
        func list(_ items: [String]) -> String { "[" + items.map(JSONText.quoted).joined(separator: ", ") + "]" }
        return
            "{\"device\": \(JSONText.quoted(identifier)), \"kind\": \"\(kind)\", \"name\": \(JSONText.quoted(name)), "
            + "\"driver\": \(JSONText.quoted(driver)), \"memory\": \(memory.map(String.init) ?? "null"), "
            + "\"precisions\": \(list(precisions.map(\.rawValue))), \"capabilities\": \(list(capabilities))}"
    }
}

/// What a self-test found: enough for a report of a device that nobody here has seen.
public struct SelfTestReport: Sendable {
    /// The rate of one operation.
    public struct Figure: Sendable {
        /// The operation and its sizes.
        public let name: String
        /// In billions of the unit.
        public let rate: Double
        /// "GFLOP/s" or "GB/s".
        public let unit: String
        /// Of the peak that was measured.
        public let shareOfPeak: Double
    }

    /// Checks that ran.
    public let checks: Int
    /// Those that failed: what, and how.
    public let failures: [String]
    /// The largest error as a share of what is allowed.
    public let largestShare: Double
    /// Wall time of the checks.
    public let seconds: Double
    /// What the device says of itself and which kernels were chosen for it, as name and value.
    public internal(set) var facts: [(name: String, value: String)] = []
    /// Billions of multiplications and additions a second that the device reaches.
    public internal(set) var peak = 0.0
    /// What reaches them: multiply-adds out of registers, or with matrix instructions a large product.
    public internal(set) var peakIs = ""
    /// How fast each operation runs.
    public internal(set) var figures: [Figure] = []
}

extension Precision {
    init(_ precision: CLIPCompute.Precision) {
        self =
            switch precision {
            case .fp32: .fp32
            case .fp16: .fp16
            case .int8: .int8
            }
    }

    /// `automatic` decided by the model, where one needs more than halves.
    package func suited(to model: CLIPConfiguration, _ towers: CLIP.Towers) -> Precision {
        self == .automatic && towers.contains(.text) && model.text.outgrowsHalves ? .fp32 : self
    }

    /// `automatic` decided by the kind of device.
    func resolved(for kind: DeviceInfo.Kind) -> CLIPCompute.Precision {
        switch self {
        case .automatic: kind == .cpu ? .fp32 : .fp16
        case .fp32: .fp32
        case .fp16: .fp16
        case .int8: .int8
        }
    }
}

/// A device that can be opened, on any thread.
enum DeviceSource: Sendable {
    case cpu(threads: Int?)
    case openCL(OpenCLDeviceDescription)

    var kind: DeviceInfo.Kind {
        switch self {
        case .cpu: .cpu
        case .openCL(let description): description.kind
        }
    }

    var identifier: String {
        switch self {
        case .cpu: "cpu"
        case .openCL(let description): description.identifier
        }
    }

    /// The same where a GPU must first pass the start test; where it does not with the matrix instructions that it promises, it
    /// is tried with lesser ones, at last without.
    func openChecked(_ precision: Precision) throws -> OpenedDevice {
        var opened = try open(precision)
        if kind == .cpu { return opened }
        var notices: [String] = []
        while let failed = try opened.startTest().failures.first {
            guard let steps = opened.lesserSteps else {
                throw BackendError(.execution, "\(identifier) failed its self-check (\(failed))")
            }
            notices.append("\(identifier) failed its self-check (\(failed)); lesser kernels are used")
            opened = try open(precision, steps)
        }
        opened.openingNotices = notices
        return opened
    }

    /// - Parameter steps: matrix instructions to try, where not all that the device promises.
    func open(_ precision: Precision, _ steps: [MatrixStep]? = nil) throws -> OpenedDevice {
        switch self {
        case .cpu(let threads):
            let backend = try CPUBackend(
                options: CPUOptions(threads: threads, precision: precision.resolved(for: .cpu)))
            return OpenedDevice(
                backend, notices: { [] }, facts: { backend.device.capabilities.map { ("kernels", $0) } },
                peak: Peak(of: "multiply-adds out of registers") { backend.measurePeak(seconds: 0.1) })
        case .openCL(let description):
            var options = OpenCLOptions()
            if let steps { options.matrixSteps = steps }
            let backend = try OpenCLBackend(
                deviceIndex: description.index, precision: precision.resolved(for: description.kind), options: options)
            let tuned = backend.tunedTile.map { "\(description.identifier) is tuned: linear \($0)" }
            var opened = OpenedDevice(
                backend, notices: { backend.notices }, remarks: tuned.map { [$0] } ?? [], facts: { backend.report },
                peak: backend.matrixStep == nil
                    ? Peak(of: "multiply-adds out of registers") { try backend.measurePeak(seconds: 0.2) }
                    : Peak(of: "a product of 4096x4096x4096") {
                        try 2 * 0x1p36
                            / Figures.product(
                                on: backend, rows: 4096, inputs: 4096, outputs: 4096, activation: .none,
                                residual: false, seconds: 0.2)
                    })
            if let step = backend.matrixStep {
                opened.lesserSteps = Array(description.matrixSteps.drop { $0 != step }.dropFirst())
            }
            return opened
        }
    }
}

/// How fast the device can be.
private struct Peak {
    let of: String
    let measure: () throws -> Double

    init(of what: String, _ measure: @escaping () throws -> Double) {
        of = what
        self.measure = measure
    }
}

/// A backend that is open, whatever its type.
struct OpenedDevice {
    let info: DeviceInfo
    /// The quick part of the conformance suite.
    let selfTest: () throws -> SelfTestReport
    /// What is checked before a GPU is chosen.
    let startTest: () throws -> SelfTestReport
    /// Seconds of one product: rows, inputs, outputs, whether with QuickGELU, whether added to what is there.
    let product: (Int, Int, Int, Bool, Bool, Double) throws -> Double
    /// The same with facts and figures.
    let fullReport: () throws -> SelfTestReport
    /// Operations per second (two for a multiply-add; in int8 those of bytes): out of registers, which no product can exceed, or with
    /// matrix instructions those of a large product.
    let measurePeak: () throws -> Double
    /// Where it uses matrix instructions: those that it could use in their place.
    fileprivate(set) var lesserSteps: [MatrixStep]?
    fileprivate(set) var openingNotices: [String] = []
    private let notices: () -> [String]
    private let remarks: [String]
    private let encoder: (ModelCheckpoint, CLIPModel.Towers) throws -> any ImageTextEncoder

    fileprivate init<B: Backend>(
        _ backend: B, notices: @escaping () -> [String], remarks: [String] = [],
        facts: @escaping () -> [(name: String, value: String)],
        peak: Peak
    ) {
        info = backend.device
        encoder = { try CLIPEncoder($0, backend: backend, towers: $1) }
        selfTest = { OpenedDevice.check(backend, Conformance.quick) }
        startTest = { OpenedDevice.check(backend, Conformance.start) }
        product = {
            try Figures.product(
                on: backend, rows: $0, inputs: $1, outputs: $2, activation: $3 ? .quickGELU : .none, residual: $4,
                seconds: $5)
        }
        fullReport = {
            var report = OpenedDevice.check(backend, Conformance.quick)
            report.facts = facts()
            let rate = try peak.measure()
            report.peak = rate / 1e9
            report.peakIs = peak.of
            report.figures = try Figures.measure(on: backend, peak: rate, seconds: 0.05).map {
                SelfTestReport.Figure(
                    name: $0.name, rate: $0.billions, unit: $0.unit.rawValue, shareOfPeak: $0.share)
            }
            return report
        }
        self.notices = notices
        measurePeak = peak.measure
        self.remarks = remarks
    }

    /// Hands a model's weights over.
    func load(_ model: ModelCheckpoint, _ towers: CLIP.Towers) throws -> DeviceWorker {
        let encoder = try encoder(model, CLIPModel.Towers(rawValue: towers.rawValue))
        var device = LoadedDevice(description: DeviceDescription(info), precision: Precision(encoder.precision))
        device.laneCount = encoder.laneCount
        device.preferredImages = encoder.preferredImages
        // Texts as if they were long.
        device.preferredTexts = max(1, encoder.preferredTokens / 16)
        device.notices = openingNotices + notices()
        device.remarks = remarks
        return DeviceWorker(
            device: device,
            begin: { batch, alone in
                let job = try encoder.begin(batch, alone: alone)
                return { try encoder.finish(job) }
            },
            busySeconds: { encoder.busySeconds })
    }

    private static func check(_ backend: some Backend, _ cases: [ConformanceCase]) -> SelfTestReport {
        let start = monotonicSeconds()
        let results = Conformance.run(cases, on: backend)
        return SelfTestReport(
            checks: results.count, failures: results.filter { !$0.passed }.map(\.description),
            largestShare: results.map(\.share).max() ?? 0, seconds: monotonicSeconds() - start)
    }
}

extension ImageTextEncoder {
    /// Hands over a batch without waiting; rows as the model gives them.
    fileprivate func begin(_ batch: EmbeddingBatch, alone: Bool) throws -> EncodingJob {
        let side = configuration.vision.imageSize
        func images(_ storage: Pixels.Storage, _ elements: Int) throws -> EncodingJob {
            try beginImages(
                Pixels(storage, count: elements / (side * side * 3), height: side, width: side), unitLength: false,
                alone: alone)
        }
        switch batch {
        case .bytes(let bytes): return try bytes.withUnsafeBufferPointer { try images(.bytes($0), $0.count) }
        case .floats(let floats): return try floats.withUnsafeBufferPointer { try images(.floats($0), $0.count) }
        case .tokens(let tokens): return try beginTexts(tokens, unitLength: false, alone: alone)
        }
    }
}

/// What a `Device` names on this machine.
package struct DeviceSelection {
    enum Devices {
        case one(OpenedDevice)
        /// Not opened yet: each thread opens its own. Without a fallback, one that does not open is an error.
        case several([DeviceSource], precision: Precision, fallback: DeviceSource?)
    }
    var devices: Devices
    /// Things worth a warning.
    var notices: [String] = []

    /// `checks`: whether GPUs must pass the start test.
    init(_ device: Device, precision: Precision, threads: Int?, strict: Bool, checks: Bool = true) throws {
        let cpu = DeviceSource.cpu(threads: threads)
        switch device.choice {
        case .cpu, .openCL, .cuda:
            let named = try Self.named(device, threads: threads)
            devices = .one(try checks ? named.openChecked(precision) : named.open(precision))
        case .list(let list):
            let sources = try list.map { try Self.named(Device(choice: $0), threads: threads) }
            if let twice = sources.indices.first(where: { index in
                sources[..<index].contains { $0.identifier == sources[index].identifier }
            }) {
                throw CLIPError(.device, "--device \(device) names \(sources[twice].identifier) twice.")
            }
            devices = .several(sources, precision: Self.common(precision, sources), fallback: nil)
        case .automatic, .gpu, .allGPUs:
            var reason = "there is no GPU with an OpenCL driver"
            var found: Devices?
            do {
                let gpus = Self.ranked(try OpenCLDevices.all())
                switch device.choice {
                case .gpu(let index?):
                    if index < gpus.count {
                        found = .one(try DeviceSource.openCL(gpus[index]).openChecked(precision))
                    } else if !gpus.isEmpty {
                        reason = "there is no GPU \(index), only 0 to \(gpus.count - 1)"
                    }
                case .allGPUs where Self.distinct(gpus.map(\.slot)).count > 1:
                    found = .several(
                        Self.distinct(gpus.map(\.slot)).map { .openCL(gpus[$0]) }, precision: precision,
                        fallback: strict ? nil : cpu)
                default:
                    for gpu in gpus {
                        do {
                            found = .one(try DeviceSource.openCL(gpu).openChecked(precision))
                        } catch let error as BackendError where gpus.count > 1 || device == .automatic {
                            reason = error.description
                            notices.append("\(gpu.name) cannot be used: \(error.description)")
                        }
                        if found != nil { break }
                    }
                }
            } catch let error as BackendError {
                reason = error.description
            }
            if let found {
                devices = found
                return
            }
            if device != .automatic {
                if strict { throw CLIPError(.device, "--device \(device) cannot be had: \(reason)") }
                notices.append("--device \(device) cannot be had (\(reason)); using the CPU")
            }
            devices = .one(try cpu.open(precision))
        }
    }

    /// The identifiers of the devices that a switch names among those that there are; `auto` names all.
    fileprivate static func identifiers(_ device: Device, of devices: [DeviceDescription]) throws -> [String] {
        switch device.choice {
        case .automatic: devices.map(\.identifier)
        case .gpu(nil), .allGPUs: devices.filter { $0.kind == "gpu" }.map(\.identifier)
        case .openCL(nil): devices.filter { $0.identifier.hasPrefix("opencl:") }.map(\.identifier)
        case .list(let choices): try choices.flatMap { try identifiers(Device(choice: $0), of: devices) }
        default: [try named(device, threads: nil).identifier]
        }
    }

    /// The OpenCL device that a switch names, for work on kernels.
    static func openCL(_ device: Device) throws -> OpenCLDeviceDescription {
        switch device.choice {
        case .automatic:
            if let best = ranked(try OpenCLDevices.all()).first { return best }
        case .gpu, .openCL:
            if case .openCL(let description) = try named(device, threads: nil) { return description }
        default: break
        }
        throw CLIPError(
            .device,
            "There is nothing to tune on --device \(device): name one OpenCL device, as `clip-gpu devices` lists them.")
    }

    /// The device of a switch that names exactly one, which nothing may stand in for.
    private static func named(_ device: Device, threads: Int?) throws -> DeviceSource {
        switch device.choice {
        case .cpu: return .cpu(threads: threads)
        case .openCL(let index?):
            let all = try OpenCLDevices.all()
            guard let chosen = all.first(where: { $0.index == index }) else {
                throw CLIPError(.device, "There is no device opencl:\(index): \(list(all)).")
            }
            return .openCL(chosen)
        case .gpu(let index):
            let gpus = ranked(try OpenCLDevices.all())
            guard index ?? 0 < gpus.count else {
                throw CLIPError(.device, "There is no device \(device): \(gpus.count) GPUs have an OpenCL driver.")
            }
            return .openCL(gpus[index ?? 0])
        case .openCL(nil):
            let all = try OpenCLDevices.all()
            guard let best = ranked(all).first ?? all.first else {
                throw CLIPError(
                    .device, "There is no OpenCL device: install the driver of your GPU, or use --device cpu.")
            }
            return .openCL(best)
        default:
            throw CLIPError(
                .device, "This build has no CUDA backend: NVIDIA GPUs are used through OpenCL, with --device gpu.")
        }
    }

    /// `automatic` for several devices at once: rows of one result are to be of one precision.
    private static func common(_ precision: Precision, _ sources: [DeviceSource]) -> Precision {
        precision == .automatic && sources.contains { $0.kind == .cpu } ? .fp32 : precision
    }

    /// GPUs and accelerators: cards before what shares the processor's memory, then the ones with most multiprocessors; of one
    /// card's drivers the one through which it has matrix instructions. OpenCL devices of type CPU are used only by number.
    private static func ranked(_ devices: [OpenCLDeviceDescription]) -> [OpenCLDeviceDescription] {
        func rank(_ device: OpenCLDeviceDescription) -> [Int] {
            [
                device.sharesHostMemory ? 1 : 0, -device.multiprocessors, device.matrixSteps.isEmpty ? 1 : 0,
                device.index,
            ]
        }
        return devices.filter { $0.kind != .cpu }.sorted { rank($0).lexicographicallyPrecedes(rank($1)) }
    }

    /// The first of each card, by its slot; what does not say its own counts as a card.
    package static func distinct(_ slots: [[UInt32]?]) -> [Int] {
        slots.indices.filter { slots[$0] == nil || slots.firstIndex(of: slots[$0]) == $0 }
    }

    private static func list(_ devices: [OpenCLDeviceDescription]) -> String {
        devices.isEmpty ? "none is here" : devices.map { "opencl:\($0.index) is \($0.name)" }.joined(separator: ", ")
    }
}

extension Device {
    /// Those of the devices that this switch names: of `auto` all, of `gpu` and `gpu:all` every GPU, of `opencl` every OpenCL device.
    ///
    /// - Throws: `CLIPError` for a device that is not there.
    public func all(of devices: [DeviceDescription]) throws -> [DeviceDescription] {
        let identifiers = try DeviceSelection.identifiers(self, of: devices)
        return devices.filter { identifiers.contains($0.identifier) }
    }
    /// Every device of every backend, and sentences on backends that cannot be used.
    public static func available() -> (devices: [DeviceDescription], notices: [String]) {
        var devices: [DeviceDescription] = []
        var notices: [String] = []
        do {
            devices.append(DeviceDescription(try DeviceSource.cpu(threads: nil).open(.fp32).info))
        } catch {
            notices.append("\(error)")
        }
        do {
            devices += try OpenCLDevices.all().map { DeviceDescription($0.info) }
        } catch {
            notices.append(error.description)
        }
        return (devices, notices)
    }

    /// Billions of operations a second of matrix products on a device: rows, inputs and outputs of each, with bias, with QuickGELU
    /// or with a residual.
    ///
    /// - Throws: `CLIPError` with the code `.device` where the device cannot be opened.
    public static func measureProducts(
        _ device: Device, precision: Precision, threads: Int? = nil,
        _ products: [(rows: Int, inputs: Int, outputs: Int, activates: Bool, adds: Bool)], seconds: Double
    ) throws -> [Double] {
        try CLIP.translatingErrors {
            guard
                case .one(let opened) = try DeviceSelection(
                    device, precision: precision, threads: threads, strict: true
                ).devices
            else { throw CLIPError(.device, "--device \(device) names several devices: name one to measure.") }
            return try products.map { product in
                let elapsed = try opened.product(
                    product.rows, product.inputs, product.outputs, product.activates, product.adds, seconds)
                return 2e-9 * Double(product.rows * product.inputs * product.outputs) / elapsed
            }
        }
    }

    /// Compares every operation on a device with a naive reference, and measures how fast it runs them; in seconds.
    ///
    /// - Throws: `CLIPError` with the code `.device` where the device cannot be opened.
    public static func selfTest(_ device: Device, precision: Precision) throws -> SelfTestReport {
        try CLIP.translatingErrors {
            guard
                case .one(let opened) = try DeviceSelection(
                    device, precision: precision, threads: nil, strict: true, checks: false
                ).devices
            else { throw CLIPError(.device, "--device \(device) names several devices: name one to test.") }
            return try opened.fullReport()
        }
    }
}
