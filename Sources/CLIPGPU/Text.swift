// Small public values for programs that write and read text: JSON, the tokenizer alone, the environment.

import CLIPInput
import CLIPModel
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
    public static func array(_ values: [Int32]) -> String {
        // Digit by digit: a String for each number takes three times as long as the tokenizer that made them.
        String(unsafeUninitializedCapacity: 13 * values.count + 2) { text in
            var end = 0
            func append(_ byte: UInt8) {
                text[end] = byte
                end += 1
            }
            append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 {
                    append(UInt8(ascii: ","))
                    append(UInt8(ascii: " "))
                }
                if value < 0 { append(UInt8(ascii: "-")) }
                let start = end
                var rest = value.magnitude
                repeat {
                    append(UInt8(ascii: "0") + UInt8(rest % 10))
                    rest /= 10
                } while rest > 0
                text[start..<end].reverse()
            }
            append(UInt8(ascii: "]"))
            return end
        }
    }

    /// Hands over the JSON strings of a file that holds one a line; `-` is standard input.
    ///
    /// - Parameter onFailure: called for a line that is not a JSON string; by default it ends with the error.
    /// - Throws: `CLIPError` for a file that cannot be read, and what the closures throw.
    public static func forEachString(
        inLinesOf path: String, onFailure: (CLIPError) throws -> Void = { throw $0 }, _ body: (String) throws -> Void
    ) throws {
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
                try onFailure(CLIPError(.input, "\(path), line \(number): expected one JSON string."))
                continue
            }
            try body(text)
        }
    }
}

/// A tokenizer without a model's weights: `clip.tokenize`.
public struct Tokenizer: Sendable {
    private let tokenizer: any TextTokenizer
    private let paddingID: Int32
    /// The most ids of a text, those around it included.
    public let contextLength: Int

    private init(_ tokenizer: any TextTokenizer, paddingID: Int32, contextLength: Int) {
        self.tokenizer = tokenizer
        self.paddingID = paddingID
        self.contextLength = contextLength
    }

    /// OpenAI's.
    public init(contextLength: Int = 77) {
        self.init(BytePairTokenizer(specialTokens: .openAI), paddingID: 0, contextLength: contextLength)
    }

    /// A model's own; none for that of the built-in demonstration model.
    ///
    /// - Parameter contextLength: by default the model's.
    /// - Throws: `CLIPError` with the code `.model`.
    public init(model: String?, contextLength: Int? = nil) throws {
        self = try CLIP.translatingErrors {
            let checkpoint = try CLIP.open(model, ModelOptions())
            let tokenizer = try textTokenizer(checkpoint)
            let text = try checkpoint.filledUp(by: tokenizer).configuration.text
            return Tokenizer(
                tokenizer, paddingID: text.paddingID, contextLength: contextLength ?? text.contextLength)
        }
    }

    /// The tokenizer files of a folder, as `AutoTokenizer` of transformers reads them. Rows are filled up with the
    /// tokenizer's own padding id, or 0.
    ///
    /// - Parameters:
    ///   - cleaning: what open_clip does to texts first: `whitespace`, `lower` or `canonicalize`; none for nothing.
    ///   - stripsSeparator: whether separators become 0 afterwards, as open_clip has it for CLIPA.
    /// - Throws: `CLIPError` with the code `.model`.
    public init(
        folder: String, cleaning: String? = nil, stripsSeparator: Bool = false, contextLength: Int = 77
    ) throws {
        self = try CLIP.translatingErrors {
            let manner: FolderTokenizer.Manner =
                if let cleaning {
                    .openCLIP(cleaning: cleaning, stripsSeparator: stripsSeparator)
                } else if stripsSeparator {
                    .openCLIP(cleaning: "whitespace", stripsSeparator: true)
                } else {
                    .transformers
                }
            let tokenizer = try FolderTokenizer(folder: folder, manner: manner)
            return Tokenizer(tokenizer, paddingID: tokenizer.paddingID ?? 0, contextLength: contextLength)
        }
    }

    /// The ids of a text with those around it, padded to the context length.
    ///
    /// - Throws: `CLIPError` for a text that is too long, unless `truncate`.
    public func tokenize(_ text: String, truncate: Bool = false) throws -> [Int32] {
        do throws(TokenizerError) {
            let ids = try tokenizer.tokenize(text, contextLength: contextLength, truncate: truncate)
            return ids + [Int32](repeating: paddingID, count: contextLength - ids.count)
        } catch {
            throw CLIPError(.input, error.description)
        }
    }
}

/// The tokenizer that a model was trained with.
///
/// - Throws: `CheckpointError` or `CLIPError`, for one that cannot be read.
func textTokenizer(_ model: ModelCheckpoint) throws -> any TextTokenizer {
    let name = model.weights.name
    let text = model.configuration.text
    let tokenizer: any TextTokenizer
    switch model.configuration.tokenizer {
    case .openAI: tokenizer = BytePairTokenizer(specialTokens: .openAI)
    case .openCLIP: tokenizer = BytePairTokenizer(specialTokens: .openCLIP)
    case .folder(let folder):
        let manner: FolderTokenizer.Manner =
            switch folder.library {
            case .transformers: .transformers
            case .openCLIP(let cleaning, let stripsSeparator):
                .openCLIP(cleaning: cleaning.rawValue, stripsSeparator: stripsSeparator)
            }
        let read = try FolderTokenizer(folder: folder.path, manner: manner)
        if read.padsLeft, text.readsPadding {
            throw CLIPError(
                .model,
                "\(name) reads what stands behind a sentence, but the tokenizer in \(folder.path) puts its padding before "
                    + "it: set padding_side to right in tokenizer_config.json if the model was trained so.")
        }
        tokenizer = read
    case .other(let other):
        throw CLIPError(
            .model,
            "\(name) was trained with the tokenizer \(other), which cannot be read; only its pictures can be embedded.")
    }
    let isOwn = if case .folder = model.configuration.tokenizer { true } else { false }
    let (theirs, ours) = (text.vocabularySize, tokenizer.vocabularySize)
    // Tables of embeddings are often rounded up; CLIP's own is not.
    guard isOwn ? ours <= theirs : ours == theirs else {
        throw CLIPError(
            .model,
            "\(name) has a vocabulary of \(theirs) tokens, and its tokenizer one of \(ours): they do not belong together; "
                + "only its pictures can be embedded.")
    }
    return tokenizer
}

extension ModelCheckpoint {
    /// The model whose sentences are filled up as its tokenizer says, where that has files of its own.
    func filledUp(by tokenizer: (any TextTokenizer)?) throws(ModelError) -> ModelCheckpoint {
        guard let token = (tokenizer as? FolderTokenizer)?.paddingID else { return self }
        return try filledUp(with: token)
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
