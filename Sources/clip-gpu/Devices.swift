// clip-gpu devices: what there is to compute on.

import ArgumentParser
import CLIPGPU

struct Devices: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Every backend and device, and what it can do.",
        discussion: """
            The first column is what --device takes. With --selftest, every operation is compared with a naive reference \
            on each device and timed, in seconds: what it prints is the report to send of a device that gives wrong \
            numbers or is slow.

            Examples:
              clip-gpu devices
              clip-gpu devices --selftest --device opencl:0
            """)

    @Flag(name: .long, help: "One JSON object a device.")
    var json = false

    @Flag(name: .long, help: "Check every operation on each device against a naive reference.")
    var selftest = false

    @Option(name: .long, help: ArgumentHelp("Only these: cpu, gpu, opencl:0, as elsewhere.", valueName: "device"))
    var device: Device?

    @Option(name: .long, help: "Check only this precision. Default: all that the device has.")
    var precision: Precision = .automatic

    func run() throws {
        let (devices, notices) = Device.available()
        for notice in notices { Terminal.say("note: \(notice)") }
        var chosen = devices
        if let device {
            chosen = try device.all(of: devices)
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
        if selftest, precision != .automatic, !chosen.contains(where: { $0.precisions.contains(precision) }) {
            throw Failure(.device, "nothing was checked: no such device computes in \(precision.rawValue).")
        }
        if failures > 0 { throw Failure(.device, "\(failures) checks failed.") }
    }

    /// Runs the checks on one device; how many failed.
    private func check(_ description: DeviceDescription) throws -> Int {
        var failures = 0
        var said: Set<String> = []
        for precision in description.precisions where self.precision == .automatic || precision == self.precision {
            let report = try Device.selfTest(description.device, precision: precision)
            failures += report.failures.count
            if json {
                try StandardOutput.write(line(description, precision, report) + "\n")
                continue
            }
            let indent = String(repeating: " ", count: 12)
            try StandardOutput.write(
                "\(indent)\(precision.rawValue): \(report.checks - report.failures.count) of \(report.checks) checks "
                    + "passed in \(rounded(report.seconds)) s, largest error \(rounded(report.largestShare * 100)) % of what "
                    + "is allowed\n")
            for (name, value) in report.facts where said.insert(name + value).inserted {
                try StandardOutput.write("\(indent)  \(name): \(value)\n")
            }
            try StandardOutput.write("\(indent)  peak: \(rounded(report.peak)) GFLOP/s, \(report.peakIs)\n")
            for figure in report.figures {
                try StandardOutput.write(
                    indent + "  " + figure.name.rightPadded(38) + rounded(figure.rate).leftPadded(8) + " "
                        + figure.unit.rightPadded(8) + rounded(figure.shareOfPeak * 100).leftPadded(6) + " % of peak\n")
            }
            for failure in report.failures { try StandardOutput.write("\(indent)failed: \(failure)\n") }
        }
        return failures
    }

    /// Everything that was found, as one JSON object.
    private func line(_ device: DeviceDescription, _ precision: Precision, _ report: SelfTestReport) -> String {
        func object(_ members: [String]) -> String { "{" + members.joined(separator: ", ") + "}" }
        func list(_ items: [String]) -> String { "[" + items.joined(separator: ", ") + "]" }
        let figures = report.figures.map {
            object([
                "\"operation\": \(JSONText.quoted($0.name))", "\"rate\": \($0.rate)",
                "\"unit\": \(JSONText.quoted($0.unit))", "\"share_of_peak\": \($0.shareOfPeak)",
            ])
        }
        let facts = report.facts.map {
            object(["\"name\": \(JSONText.quoted($0.name))", "\"value\": \(JSONText.quoted($0.value))"])
        }
        return object([
            "\"device\": \(JSONText.quoted(device.identifier))", "\"name\": \(JSONText.quoted(device.name))",
            "\"driver\": \(JSONText.quoted(device.driver))", "\"precision\": \"\(precision.rawValue)\"",
            "\"checks\": \(report.checks)", "\"failures\": \(list(report.failures.map(JSONText.quoted)))",
            "\"largest_share_of_tolerance\": \(report.largestShare)", "\"seconds\": \(report.seconds)",
            "\"facts\": \(list(facts))", "\"peak_gflops\": \(report.peak)",
            "\"peak_is\": \(JSONText.quoted(report.peakIs))", "\"figures\": \(list(figures))",
        ])
    }
}
