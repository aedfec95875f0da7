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

    init(_ info: DeviceInfo) {
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

/// What a self-test found.
public struct SelfTestReport: Sendable {
    /// Checks that ran.
    public let checks: Int
    /// Those that failed: what, and how.
    public let failures: [String]
    /// The largest error as a share of what is allowed.
    public let largestShare: Double
    /// Wall time.
    public let seconds: Double
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

/// A backend that is open, whatever its type.
struct OpenedDevice {
    let info: DeviceInfo
    let encoder: (ModelCheckpoint, CLIPModel.Towers) throws -> any ImageTextEncoder
    let selfTest: () throws -> SelfTestReport
    let notices: () -> [String]
    /// Floating-point (in int8, integer) operations per second that no product can exceed, measured for this many
    /// seconds; none where the backend cannot tell.
    let measurePeak: ((Double) -> Double)?

    private init<B: Backend>(
        _ backend: B, notices: @escaping () -> [String] = { [] }, measurePeak: ((Double) -> Double)? = nil
    ) {
        info = backend.device
        encoder = { try CLIPEncoder($0, backend: backend, towers: $1) }
        selfTest = { try OpenedDevice.check(backend) }
        self.notices = notices
        self.measurePeak = measurePeak
    }

    static func cpu(_ precision: Precision, threads: Int?) throws -> OpenedDevice {
        let backend = try CPUBackend(
            options: CPUOptions(threads: threads, precision: precision.resolved(for: .cpu)))
        return OpenedDevice(backend, measurePeak: { backend.measurePeak(seconds: $0) })
    }

    static func openCL(_ description: OpenCLDeviceDescription, _ precision: Precision) throws -> OpenedDevice {
        let backend = try OpenCLBackend(
            deviceIndex: description.index, precision: precision.resolved(for: description.kind))
        return OpenedDevice(backend, notices: { backend.notices })
    }

    /// The quick part of the conformance suite.
    static func check(_ backend: some Backend) throws -> SelfTestReport {
        let start = monotonicSeconds()
        let results = Conformance.run(Conformance.quick, on: backend)
        return SelfTestReport(
            checks: results.count, failures: results.filter { !$0.passed }.map(\.description),
            largestShare: results.map(\.share).max() ?? 0, seconds: monotonicSeconds() - start)
    }
}

/// The devices that a `Device` names, open, with what is worth a warning.
struct OpenedDevices {
    let devices: [OpenedDevice]
    let notices: [String]

    init(_ device: Device, precision: Precision, threads: Int?, strict: Bool) throws {
        var notices: [String] = []
        var devices: [OpenedDevice] = []
        switch device.choice {
        case .cpu:
            devices = [try .cpu(precision, threads: threads)]
        case .openCL(let index):
            let all = try OpenCLDevices.all()
            if let index {
                guard let chosen = all.first(where: { $0.index == index }) else {
                    throw CLIPError(.device, "There is no device opencl:\(index): \(Self.list(all)).")
                }
                devices = [try .openCL(chosen, precision)]
            } else {
                guard let best = Self.ranked(all).first ?? all.first else {
                    throw CLIPError(
                        .device, "There is no OpenCL device: install the driver of your GPU, or use --device cpu.")
                }
                devices = [try .openCL(best, precision)]
            }
        case .cuda:
            throw CLIPError(
                .device, "This build has no CUDA backend: NVIDIA GPUs are used through OpenCL, with --device gpu.")
        case .automatic, .gpu, .allGPUs:
            var reason: String
            do {
                let gpus = Self.ranked(try OpenCLDevices.all())
                reason = "there is no GPU with an OpenCL driver"
                switch device.choice {
                case .gpu(let index?):
                    if index < gpus.count {
                        devices = [try .openCL(gpus[index], precision)]
                    } else if !gpus.isEmpty {
                        reason = "there is no GPU \(index), only 0 to \(gpus.count - 1)"
                    }
                case .allGPUs:
                    for gpu in gpus { devices.append(try .openCL(gpu, precision)) }
                default:
                    for gpu in gpus where devices.isEmpty {
                        do {
                            let opened = try OpenedDevice.openCL(gpu, precision)
                            let report = try opened.selfTest()
                            if report.failures.isEmpty {
                                devices = [opened]
                            } else {
                                reason = "\(gpu.name) failed its self-check (\(report.failures[0]))"
                                notices.append(reason)
                            }
                        } catch let error as BackendError where gpus.count > 1 || device == .automatic {
                            reason = error.description
                            notices.append("\(gpu.name) cannot be used: \(error.description)")
                        }
                    }
                }
            } catch let error as BackendError {
                reason = error.description
            }
            if devices.isEmpty {
                if device != .automatic {
                    if strict {
                        throw CLIPError(.device, "--device \(device) cannot be had: \(reason)")
                    }
                    notices.append("--device \(device) cannot be had (\(reason)); using the CPU")
                }
                devices = [try .cpu(precision, threads: threads)]
            }
        }
        self.devices = devices
        self.notices = notices
    }

    /// GPUs and accelerators, the ones with most compute first. OpenCL devices of type CPU are used only by number.
    private static func ranked(_ devices: [OpenCLDeviceDescription]) -> [OpenCLDeviceDescription] {
        devices.filter { $0.kind != .cpu }.sorted { ($0.computeUnits, $1.index) > ($1.computeUnits, $0.index) }
    }

    private static func list(_ devices: [OpenCLDeviceDescription]) -> String {
        devices.isEmpty ? "none is here" : devices.map { "opencl:\($0.index) is \($0.name)" }.joined(separator: ", ")
    }
}

extension Device {
    /// Every device of every backend, and sentences on backends that cannot be used.
    public static func available() -> (devices: [DeviceDescription], notices: [String]) {
        var devices: [DeviceDescription] = []
        var notices: [String] = []
        do {
            devices.append(DeviceDescription(try OpenedDevice.cpu(.fp32, threads: nil).info))
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

    /// Compares every operation on a device with a naive reference, in seconds.
    ///
    /// - Throws: `CLIPError` with the code `.device` where the device cannot be opened.
    public static func selfTest(_ device: Device, precision: Precision) throws -> SelfTestReport {
        try CLIP.translatingErrors {
            try OpenedDevices(device, precision: precision, threads: nil, strict: true).devices[0].selfTest()
        }
    }
}
