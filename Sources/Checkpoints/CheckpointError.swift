// The one error of this floor.

/// A file that is not what it should be: one sentence that names the file, what is wrong, and what was expected.
package struct CheckpointError: Error, CustomStringConvertible, Sendable {
    package var description: String
    /// Whether it is that whoever read the output went away, which is no mistake of anybody's.
    package var isClosedPipe = false

    package init(_ description: String) { self.description = description }
}

/// A name from a file as it may be shown: control characters escaped, and cut where it is long.
package func quoted(_ name: String) -> String {
    var result = "\""
    for scalar in name.unicodeScalars.prefix(200) {
        if scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
            result += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
            result.unicodeScalars.append(scalar)
        }
    }
    return name.unicodeScalars.count > 200 ? result + "…\"" : result + "\""
}
