// Where a pass's time goes, for work on kernels: with the variable CLIP_GPU_TRACE set, the time of every kernel is taken, and a
// table of them printed on standard error when the backend goes.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

package final class Trace {
    /// By kernel and work-groups.
    private var kernels: [String: (count: Int, nanoseconds: UInt64)] = [:]
    private var running: [Range<UInt64>] = []
    private var passes: [Range<UInt64>] = []

    /// The kernels of one pass, each with its time where the driver says it.
    func add(_ times: [(name: String, time: Range<UInt64>?)], of pass: Range<UInt64>) {
        passes.append(pass)
        for case (let name, let time?) in times {
            let before = kernels[name] ?? (0, 0)
            kernels[name] = (before.count + 1, before.nanoseconds + (time.upperBound - time.lowerBound))
            running.append(time)
        }
    }

    /// What the ranges cover together.
    package static func covered(_ ranges: [Range<UInt64>]) -> UInt64 {
        var (until, total): (UInt64, UInt64) = (0, 0)
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) where range.upperBound > until {
            total += range.upperBound - max(range.lowerBound, until)
            until = range.upperBound
        }
        return total
    }

    func print() {
        let whole = Double(max(Self.covered(passes), 1))
        var text = "trace: \(passes.count) passes, \(Int(whole / 1000)) us from their first kernels to their last,"
        text += " of which no kernel ran for \(percent(1 - Double(Self.covered(running)) / whole))\n"
        for (name, kernel) in kernels.sorted(by: { $0.value.nanoseconds > $1.value.nanoseconds }) {
            let each = Double(kernel.nanoseconds) / 1000 / Double(kernel.count)
            text += "trace: \(percent(Double(kernel.nanoseconds) / whole)), \(kernel.count) times"
            text += " \(Int((each * 10).rounded()) / 10) us: \(name)\n"
        }
        _ = Array(text.utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    private func percent(_ share: Double) -> String { "\(Double(Int((share * 1000).rounded())) / 10) %" }
}
