// Rows of numbers into files that people's other tools read.

import Checkpoints

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How rows are written.
public enum EmbeddingFormat: String, Sendable, CaseIterable {
    /// `{"input": "cat.jpg", "kind": "image", "embedding": [...]}` a line.
    case jsonl
    /// float32 `[n, dimension]`, with `FILE.inputs.jsonl` beside it.
    case npy
    /// float32 `embeddings` `[n, dimension]`, with `FILE.inputs.jsonl` beside it.
    case safetensors
    /// A header, then input, kind and the numbers.
    case csv

    /// As a file's name ends, else jsonl.
    public init(path: String?) {
        let ending = path?.split(separator: ".").last.map(String.init) ?? ""
        self = EmbeddingFormat(rawValue: ending.lowercased()) ?? .jsonl
    }
}

/// Whoever read the output went away.
public struct OutputClosed: Error {
    /// Says so.
    public init() {}
}

/// Writes rows as they come. A file appears under its name only when `finish` was called.
public final class EmbeddingWriter {
    private enum Target {
        case standardOutput
        case text(OutputFile)
        case array(any RowWriter)
    }
    private let format: EmbeddingFormat
    private let path: String?
    private let rowLength: Int
    private var target: Target?
    /// What each row is, beside formats that hold only numbers.
    private var names: OutputFile?
    private var rows = 0
    private var buffer: [UInt8] = []

    /// For embeddings of `dimension` numbers; none for a path is standard output. `metadata` go where the format has room for
    /// them, which safetensors has.
    ///
    /// - Throws: `CLIPError` with the code `.output`, or `OutputClosed`.
    public convenience init(
        path: String?, format: EmbeddingFormat, dimension: Int, metadata: [(String, String)] = []
    ) throws {
        try self.init(path: path, format: format, shape: [dimension], metadata: metadata)
    }

    /// For rows of any shape.
    ///
    /// - Throws: `CLIPError` with the code `.output`, or `OutputClosed`.
    public init(
        path: String?, format: EmbeddingFormat, shape: [Int], metadata: [(String, String)] = []
    ) throws {
        let path = path == "-" ? nil : path
        self.path = path
        self.format = format
        rowLength = shape.reduce(1, *)
        try translating {
            switch format {
            case .jsonl, .csv:
                target = try path.map { .text(try OutputFile(path: $0)) } ?? .standardOutput
            case .npy:
                target = .array(try NumpyRowWriter(OutputFile(path: path ?? "/dev/stdout"), rowShape: shape))
            case .safetensors:
                target = .array(
                    try SafetensorsRowWriter(
                        OutputFile(path: path ?? "/dev/stdout"), name: EmbeddingCollection.tensorName,
                        columns: rowLength, metadata: metadata))
            }
            if case .array = target, let path {
                names = try OutputFile(path: path + EmbeddingCollection.namesSuffix)
            }
        }
        if format == .csv {
            try write("input,kind," + (0..<rowLength).map { "e\($0)" }.joined(separator: ",") + "\n")
        }
    }

    /// Writes one row.
    ///
    /// - Throws: `CLIPError` with the code `.output`, or `OutputClosed`.
    public func append(_ row: ArraySlice<Float>, input: String, kind: EmbeddingInput.Kind) throws {
        try append(row, input: input, kind: kind, stamp: nil)
    }

    /// The same, with the size and time of the picture's file.
    func append(_ row: ArraySlice<Float>, input: String, kind: EmbeddingInput.Kind, stamp: FileStamp?) throws {
        precondition(row.count == rowLength, "a row of \(row.count) numbers where rows have \(rowLength)")
        // Numbers that no format should carry.
        guard row.allSatisfy(\.isFinite) else { throw CLIPError.notFinite(input) }
        switch format {
        case .jsonl:
            try write(
                "{\"input\": \(JSONText.quoted(input)), \"kind\": \"\(kind.rawValue)\", \"embedding\": "
                    + "\(JSONText.array(row))}\n")
        case .csv:
            try write(
                csvField(input) + "," + kind.rawValue + "," + row.map(\.description).joined(separator: ",") + "\n")
        case .npy, .safetensors:
            if case .array(let writer) = target { try translating { try writer.append(Array(row)) } }
            if let names {
                let noted = stamp.map { ", \"bytes\": \($0.bytes), \"modified_ns\": \($0.modified)" } ?? ""
                let line =
                    "{\"row\": \(rows), \"input\": \(JSONText.quoted(input)), \"kind\": \"\(kind.rawValue)\"\(noted)}\n"
                try translating { try names.write(Array(line.utf8)) }
            }
        }
        rows += 1
    }

    /// Completes the output and gives files their names.
    ///
    /// - Throws: `CLIPError` with the code `.output`, or `OutputClosed`.
    public func finish() throws {
        try flush()
        try translating {
            switch target {
            case .text(let file): try file.commit()
            case .array(let writer): try writer.commit()
            case .standardOutput, nil: break
            }
            try names?.commit()
        }
        target = nil
        names = nil
    }

    /// Removes what was written to files, unless it was finished.
    public func abandon() {
        target = nil
        names = nil
        buffer = []
    }

    private func write(_ text: String) throws {
        buffer.append(contentsOf: text.utf8)
        // Rows to a terminal or a pipe are seen as they come; files are written in larger pieces.
        if path == nil || buffer.count > 1 << 18 { try flush() }
    }

    private func flush() throws {
        if buffer.isEmpty { return }
        switch target {
        case .standardOutput:
            let code = buffer.withUnsafeBufferPointer { writeAll($0, to: 1) }
            if code == EPIPE { throw OutputClosed() }
            if code != 0 { throw CLIPError(.output, "Standard output cannot be written: \(describe(errno: code)).") }
        case .text(let file): try translating { try file.write(buffer) }
        case .array, nil: break
        }
        buffer.removeAll(keepingCapacity: true)
    }

    private func translating<Value>(_ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let error as CheckpointError {
            if error.isClosedPipe { throw OutputClosed() }
            throw CLIPError(.output, error.description + ".")
        }
    }
}

/// RFC 4180: quoted where needed, quotes doubled.
private func csvField(_ text: String) -> String {
    guard text.utf8.contains(where: { [UInt8(ascii: ","), UInt8(ascii: "\""), 0x0A, 0x0D].contains($0) }) else {
        return text
    }
    var field = "\""
    for character in text.unicodeScalars {
        if character == "\"" { field += "\"" }
        field.unicodeScalars.append(character)
    }
    return field + "\""
}
