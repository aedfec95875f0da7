// Small public values for programs that write and read text: JSON, the tokenizer alone, the environment.

import CLIPInput
import Checkpoints

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// JSON, written and read.
public enum JSONText {
    /// A JSON string.
    public static func quoted(_ text: String) -> String { jsonText(text) }

    /// A JSON array of numbers, each in the fewest digits that give it back exactly.
    public static func array(_ values: some Sequence<Float>) -> String {
        var result = "["
        for value in values {
            if result.utf8.count > 1 { result += ", " }
            result += value.description
        }
        return result + "]"
    }

    /// A JSON array of whole numbers.
    public static func array(_ values: some Sequence<Int32>) -> String {
        "[" + values.map(String.init).joined(separator: ", ") + "]"
    }

    /// Hands over the JSON strings of a file that holds one a line; `-` is standard input.
    ///
    /// - Throws: `CLIPError` for a line that is not a JSON string, and what `body` throws.
    public static func forEachString(inLinesOf path: String, _ body: (String) throws -> Void) throws {
        guard let lines = LineReader(path: path == "-" ? nil : path) else {
            throw CLIPError(.input, "\(path) cannot be read: \(describe(errno: errno)).")
        }
        var number = 0
        while let line = lines.next() {
            number += 1
            if line.isEmpty { continue }
            var line = line
            let value = line.withUTF8 { try? JSON(parsing: UnsafeRawBufferPointer($0)) }
            guard let text = value?.string else {
                throw CLIPError(.input, "\(path), line \(number): expected one JSON string.")
            }
            try body(text)
        }
    }
}

/// CLIP's tokenizer without a model: `clip.tokenize`.
public struct Tokenizer: Sendable {
    private let tokenizer = BytePairTokenizer(specialTokens: .openAI)
    private let contextLength: Int

    /// For texts of at most this many tokens, start and end included.
    public init(contextLength: Int = 77) {
        self.contextLength = contextLength
    }

    /// Ids from start to end of text, padded with 0 to the context length.
    ///
    /// - Throws: `CLIPError` for a text that is too long, unless `truncate`.
    public func tokenize(_ text: String, truncate: Bool = false) throws -> [Int32] {
        do throws(TokenizerError) {
            return try tokenizer.tokenize(text, contextLength: contextLength, truncate: truncate)
        } catch {
            throw CLIPError(.input, error.description)
        }
    }
}

/// The value of an environment variable.
public func environmentVariable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}

/// Writes all bytes to a file descriptor; the `errno` of what went wrong, or 0.
public func writeAll(_ bytes: UnsafeBufferPointer<UInt8>, to descriptor: Int32) -> Int32 {
    var rest = UnsafeRawBufferPointer(bytes)
    while !rest.isEmpty {
        let written = write(descriptor, rest.baseAddress, rest.count)
        if written < 0 {
            if errno == EINTR { continue }
            return errno
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[written...])
    }
    return 0
}

/// The version of this library and of the command.
public let clipGPUVersion = "0.1.0"
