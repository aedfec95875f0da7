// Puts instructions into PTX that the driver's compiler does not know.
//
// NVIDIA's OpenCL compiles for sm_90 and assembles its own text, so that what needs sm_90a cannot stand in a kernel. A kernel
// (wgmma/linear.cl) carries such instructions as comments that begin with `//@`, with their operands filled in by the compiler. The
// program's binary is its PTX: the comments become instructions, the target sm_90a, and the text goes back as a binary. Hans
// Pabst's LIBXSTREAM showed the way.

/// A pure function of text, so that it is tested without a driver.
package enum PTXSplice {
    package enum Failure: Error, Equatable, CustomStringConvertible {
        case notPTX
        case target(String)
        case noMarkers

        package var description: String {
            switch self {
            case .notPTX: "the driver's program binary is not PTX"
            case .target(let target): "the program is made for \(target), not for sm_90"
            case .noMarkers: "the compiler left the marked instructions out"
            }
        }
    }

    static let marker = "//@ "

    /// The text with its marked instructions in force and sm_90a for its target. With `resident`, the assembler is told to leave registers
    /// for so many work-groups of a multiprocessor.
    package static func spliced(_ text: String, resident: Int = 1) throws(Failure) -> String {
        var hasTarget = false
        var markers = 0
        var lines: [Substring] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let words = line.split { $0 == " " || $0 == "\t" || $0 == "," }
            if words.first == ".target", words.count > 1 {
                guard words[1] == "sm_90" || words[1] == "sm_90a" else { throw .target(String(words[1])) }
                hasTarget = true
                lines.append(Substring(line.replacing(words[1], with: "sm_90a", maxReplacements: 1)))
            } else if words.first == ".reqntid", resident > 1 {
                lines += [line, ".minnctapersm \(resident)"]
            } else if let at = line.firstRange(of: marker) {
                markers += 1
                lines.append(Substring(line[..<at.lowerBound] + line[at.upperBound...]))
            } else {
                lines.append(line)
            }
        }
        guard hasTarget else { throw .notPTX }
        guard markers > 0 else { throw .noMarkers }
        return lines.joined(separator: "\n")
    }
}
