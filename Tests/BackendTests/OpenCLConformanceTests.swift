// The conformance suite on every OpenCL device there is, in each precision and with both families of kernels; the disk
// cache of programs; and what happens where a kernel does not build.
//
// For work on kernels: `CLIP_GPU_CONFORMANCE` holds words, of which `quick` leaves the quick cases alone and every other
// has to be in the configuration's description ("opencl:1 fp32 tiled"); `CLIP_GPU_CASES` is a part of the cases' names.

import BackendTesting
import CLIPCompute
import Foundation
import OpenCLBackend
import Testing

/// One way to run the suite.
struct OpenCLConfiguration: Sendable, CustomTestStringConvertible {
    let device: OpenCLDeviceDescription
    let precision: Precision
    let family: OpenCLOptions.Family
    let cases: [ConformanceCase]

    var testDescription: String {
        "\(device.identifier) \(device.name) (\(device.platform)) \(precision.rawValue) \(family.rawValue)"
    }

    /// Every device with the kernels meant for it on all cases, and with the others on the quick ones.
    static let all: [OpenCLConfiguration] = {
        let environment = ProcessInfo.processInfo.environment
        var words = (environment["CLIP_GPU_CONFORMANCE"] ?? "").split(separator: " ").map(String.init)
        let quickOnly = words.contains("quick")
        words.removeAll { $0 == "quick" }
        var all: [OpenCLConfiguration] = []
        for device in (try? OpenCLDevices.all()) ?? [] {
            for family in OpenCLOptions.Family.allCases {
                for precision in [Precision.fp32, .fp16] {
                    let isNatural = (device.kind == .cpu) == (family == .vector)
                    var cases = isNatural && !quickOnly ? Conformance.full : Conformance.quick
                    if let part = environment["CLIP_GPU_CASES"] { cases.removeAll { !$0.name.contains(part) } }
                    let configuration = OpenCLConfiguration(
                        device: device, precision: precision, family: family, cases: cases)
                    if words.allSatisfy({ configuration.testDescription.contains($0) }) { all.append(configuration) }
                }
            }
        }
        return all
    }()
}

/// A backend on the first device, with its own empty cache; none where there is no device.
private func firstDevice(_ change: (inout OpenCLOptions) -> Void) throws -> OpenCLBackend? {
    guard let devices = try? OpenCLDevices.all(), !devices.isEmpty else { return nil }
    var options = OpenCLOptions()
    change(&options)
    return try OpenCLBackend(deviceIndex: 0, precision: .fp32, options: options)
}

private func temporaryFolder() throws -> String {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("clip-gpu-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    return folder
}

@Suite(.serialized) struct OpenCLConformanceTests {
    @Test("the devices are listed in order, or one sentence says what to install") func devices() {
        do {
            let devices = try OpenCLDevices.all()
            #expect(devices.map(\.index) == Array(devices.indices))
            for device in devices {
                print("OpenCL device \(device.identifier): \(device.name), \(device.platform), driver \(device.driver)")
                #expect(!device.name.isEmpty && device.memory > 0 && device.largestAllocation > 0)
            }
        } catch {
            print("no OpenCL device: \(error)")
            #expect(error.code == .unavailable && error.description.contains("install"))
        }
    }

    @Test("every operation gives the reference's numbers", arguments: OpenCLConfiguration.all)
    func conformance(configuration: OpenCLConfiguration) throws {
        var options = OpenCLOptions()
        options.family = configuration.family
        let backend = try OpenCLBackend(
            deviceIndex: configuration.device.index, precision: configuration.precision, options: options)
        #expect(backend.notices == [])
        let results = Conformance.run(configuration.cases, on: backend)
        for result in results {
            let passed = result.passed
            #expect(passed, "\(configuration.testDescription): \(result.name): \(result.failures)")
        }
        let worst = results.max { $0.share < $1.share }
        print("\(configuration.testDescription): \(results.count) cases, worst: \(worst?.name ?? "none"), \(worst?.share ?? 0)")
    }

    @Test("a device that is not there, and a precision that is not") func refusals() {
        guard let devices = try? OpenCLDevices.all(), !devices.isEmpty else { return }
        let missing = #expect(throws: BackendError.self) { try OpenCLBackend(deviceIndex: 999) }
        #expect(missing?.code == .unavailable)
        let int8 = #expect(throws: BackendError.self) { try OpenCLBackend(deviceIndex: 0, precision: .int8) }
        #expect(int8?.code == .unsupported)
    }
}
