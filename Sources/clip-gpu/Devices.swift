// clip-gpu devices: what there is to compute on.

import ArgumentParser
import CLIPGPU

struct Devices: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Every backend and device, and what it can do.",
        discussion: """
            The first column is what --device takes. With --selftest, every operation is compared with a naive reference \
            on each device, in seconds.

            Examples:
              clip-gpu devices
              clip-gpu devices --selftest --device opencl:0
            """)

    @Flag(name: .long, help: "One JSON object a device.")
    var json = false

    @Flag(name: .long, help: "Check every operation on each device against a naive reference.")
    var selftest = false

    @Option(name: .long, help: ArgumentHelp("Only this device.", valueName: "device"))
    var device: Device?

    func run() throws {
        let (devices, notices) = Device.available()
        for notice in notices { Terminal.say("note: \(notice)") }
        var chosen = devices
        if let device {
            chosen = devices.filter { $0.identifier == device.description }
            if chosen.isEmpty {
                throw Failure(
                    .device,
                    "there is no device \(device): \(devices.map(\.identifier).joined(separator: ", ")) are here.")
            }
        }
        var failures = 0
        for description in chosen {
            if json && !selftest {
                try StandardOutput.write(description.json + "\n")
            } else if !json {
                try StandardOutput.write(description.identifier.rightPadded(10) + "  " + description.details + "\n")
            }
            if selftest { failures += try check(description) }
        }
        if failures > 0 { throw Failure(.device, "\(failures) checks failed.") }
    }

    /// Runs the checks on one device; how many failed.
    private func check(_ description: DeviceDescription) throws -> Int {
        var failures = 0
        for precision in description.precisions {
            let report = try Device.selfTest(description.device, precision: precision)
            failures += report.failures.count
            if json {
                let list = report.failures.map(JSONText.quoted).joined(separator: ", ")
                try StandardOutput.write(
                    "{\"device\": \(JSONText.quoted(description.identifier)), \"precision\": \"\(precision.rawValue)\", "
                        + "\"checks\": \(report.checks), \"failures\": [\(list)], "
                        + "\"largest_share_of_tolerance\": \(report.largestShare), \"seconds\": \(report.seconds)}\n")
                continue
            }
            try StandardOutput.write(
                "            \(precision.rawValue): \(report.checks - report.failures.count) of \(report.checks) checks "
                    + "passed in \(rounded(report.seconds)) s, largest error \(rounded(report.largestShare * 100)) % of what "
                    + "is allowed\n")
            for failure in report.failures { try StandardOutput.write("            failed: \(failure)\n") }
        }
        return failures
    }
}
