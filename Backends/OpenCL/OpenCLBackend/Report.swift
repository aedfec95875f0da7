// What a report of a device nobody here has seen should hold: its facts, the kernels that were chosen, and its peak.

import CLIPCompute
import COpenCL

extension OpenCLBackend {
    /// Facts of the device and of what was chosen for it, as name and value.
    package var report: [(name: String, value: String)] {
        [
            ("kernels", family.rawValue),
            (
                "matrix instructions",
                matrixStep.map { _ in matrixTiles.map { tile in "\(tile)" }.joined(separator: ", ") } ?? "none"
            ),
            ("linear", "\(linearTile)" + (tunedTile == nil ? "" : ", as tuned here")),
            ("passed over", notices.isEmpty ? "none" : notices.joined(separator: "; ")),
            ("language", description.languageVersion), ("compute units", "\(description.computeUnits)"),
            ("local memory", "\(description.localMemory >> 10) KiB"),
            ("largest allocation", "\(description.largestAllocation >> 20) MiB"),
            ("largest work-group", "\(description.largestWorkGroup)"),
            ("floats of a vector", "\(description.vectorWidth)"),
            ("sub-groups", description.subgroupSizes.map(String.init).joined(separator: " ")),
            ("lanes", "\(laneCount)"), ("rows of a pass at width 768", "\(preferredRows(width: 768))"),
            ("extensions", description.extensions.joined(separator: " ")),
        ]
    }

    /// Floating-point operations per second that no product of floats can exceed: multiply-adds out of registers, measured
    /// for about so many seconds.
    package func measurePeak(seconds: Double) throws(BackendError) -> Double {
        let kernel = try programs.program(["peak"]).kernel("peak")
        let items = family == .vector ? 1 : min(256, description.largestWorkGroup)
        let groups = description.computeUnits * (family == .vector ? 4 : 32)
        let chains = 8
        let width = family == .vector ? 16 : 4
        let clock = ContinuousClock()
        let start = clock.now
        var rounds = 1 << 10
        var best = 0.0
        repeat {
            try begin()
            let results = try matrix(rows: 1, columns: max(groups * items, 4) * 4 / elementSize)
            let began = clock.now
            try run(kernel, groups: (groups, 1, 1), items: items) { call in
                call.buffer(results.region.buffer)
                call.uint(rounds)
                call.float(0.999)
                call.float(0.001)
            }
            try lane.finish()
            let elapsed = (clock.now - began) / .seconds(1)
            best = max(best, 2 * Double(rounds * chains * width * groups * items) / elapsed)
            if elapsed < 0.01, rounds < 1 << 22 { rounds *= 4 }
        } while (clock.now - start) / .seconds(1) < seconds
        return best
    }
}
