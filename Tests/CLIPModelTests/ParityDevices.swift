// The devices that parity is tested on.
import BackendTesting
import CLIPCompute
import CLIPModel
import CPUBackend
import OpenCLBackend
import Testing

/// A backend and what it is allowed to differ by, as a share of a row's distance from the mean of its set.
struct ParityDevice: CustomTestStringConvertible, Sendable {
    let name: String
    let tolerance: Double
    let encoder: @Sendable (ModelCheckpoint, Towers) throws -> any ImageTextEncoder

    var testDescription: String { name }

    /// Every backend there is on this machine, in every precision; reads like `for device in ParityDevice.all`.
    static let all: [ParityDevice] = {
        // The reference stores what it computes in double as float32. Other orders of summation differ by the rounding
        // of float32; halves by theirs, some 5e-4 for each value stored.
        var devices = [
            ParityDevice(name: "reference", tolerance: 1e-6) { model, towers in
                try CLIPEncoder(model, backend: ReferenceBackend(), towers: towers)
            },
            ParityDevice(name: "cpu", tolerance: 1e-5) { model, towers in
                try CLIPEncoder(model, backend: CPUBackend(), towers: towers)
            },
            ParityDevice(name: "cpu, a thread for each pass", tolerance: 1e-5) { model, towers in
                let options = CPUOptions(threads: 2, usesLanesAlways: true)
                return try CLIPEncoder(model, backend: CPUBackend(options: options), towers: towers)
            },
        ]
        do {
            for device in try OpenCLDevices.all() {
                for (precision, tolerance) in [(Precision.fp32, 1e-5), (.fp16, 4.5e-3)] {
                    let name = "\(device.identifier) (\(device.name)) \(precision.rawValue)"
                    devices.append(
                        ParityDevice(name: name, tolerance: tolerance) { model, towers in
                            let backend = try OpenCLBackend(deviceIndex: device.index, precision: precision)
                            return try CLIPEncoder(model, backend: backend, towers: towers)
                        })
                }
            }
        } catch {
            print("parity is not tested on OpenCL: \(error)")
        }
        print("parity is tested on: \(devices.map(\.name).joined(separator: ", "))")
        return devices
    }()
}
