// The library's one error type: a sentence that says what failed, where, what was expected and what to do.

/// An error of this library. `description` is a whole sentence for a person; `code` is for programs.
public struct CLIPError: Error, CustomStringConvertible, Sendable {
    /// What kind of thing failed. More may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        let name: String

        /// A picture, a text, a tensor or another input.
        public static let input = Code(name: "input")
        /// A device or a precision that is not to be had, or that failed.
        public static let device = Code(name: "device")
        /// A checkpoint or its configuration.
        public static let model = Code(name: "model")
        /// A file that could not be written.
        public static let output = Code(name: "output")

        /// The kind in one word.
        public var description: String { name }
    }

    /// What kind of thing failed.
    public let code: Code
    /// What failed, where, and what to do: one sentence.
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    /// For a row of an input that no output should carry: the weights were finite, so the device erred, or the input is
    /// beyond what the precision holds.
    static func notFinite(_ input: String) -> CLIPError {
        CLIPError(.device, "The device computed numbers for \(input) that are not finite; try --precision fp32.")
    }
}
