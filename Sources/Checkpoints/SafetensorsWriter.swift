// Writes safetensors files.

/// Writes one float32 tensor `[rows, columns]` as the rows come.
package final class SafetensorsRowWriter: RowWriter {
    private let file: OutputFile
    private let name: String
    private let columns: Int
    private let metadata: [(String, String)]
    private let headerLength: Int
    private var rows = 0

    /// `name` is the tensor's. The header is kept long enough for any number of rows.
    package init(
        _ file: OutputFile, name: String, columns: Int, metadata: [(String, String)] = []
    ) throws(CheckpointError) {
        self.file = file
        self.name = name
        self.columns = columns
        self.metadata = metadata
        let longest = Safetensors.header(
            [(name, [Int.max, columns], .float32, 0..<Int.max)], metadata: metadata)
        headerLength = longest.count
        try file.write(longest)
    }

    package func append(_ rows: [Float]) throws(CheckpointError) {
        precondition(rows.count % columns == 0, "rows are whole")
        self.rows += rows.count / columns
        try file.write(rows)
    }

    package func commit() throws(CheckpointError) {
        let header = Safetensors.header(
            [(name, [rows, columns], .float32, 0..<(rows * columns * 4))], metadata: metadata, length: headerLength)
        try file.overwrite(header, at: 0)
        try file.commit()
    }
}

extension Safetensors {
    /// Writes tensors one after the other, as a checkpoint.
    package static func write(
        _ tensors: [StoredTensor], metadata: [(String, String)] = [], to file: OutputFile
    ) throws(CheckpointError) {
        var end = 0
        var entries: [(String, [Int], StoredType, Range<Int>)] = []
        for tensor in tensors {
            entries.append((tensor.name, tensor.shape, tensor.type, end..<(end + tensor.range.count)))
            end += tensor.range.count
        }
        try file.write(header(entries, metadata: metadata))
        for tensor in tensors {
            try tensor.withBytes { (bytes) throws(CheckpointError) in try file.write(bytes) }
        }
        try file.commit()
    }

    /// The length and the JSON text, padded with spaces to a multiple of 8, so that the data are aligned, or to
    /// `length` bytes in all.
    static func header(
        _ tensors: [(name: String, shape: [Int], type: StoredType, range: Range<Int>)],
        metadata: [(String, String)], length: Int? = nil
    ) -> [UInt8] {
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.map { "\(jsonText($0.0)):\(jsonText($0.1))" }
            members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
        }
        for tensor in tensors {
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            members.append(
                "\(jsonText(tensor.name)):{\"dtype\":\"\(tensor.type.rawValue)\",\"shape\":[\(shape)],"
                    + "\"data_offsets\":[\(tensor.range.lowerBound),\(tensor.range.upperBound)]}")
        }
        var text = Array("{\(members.joined(separator: ","))}".utf8)
        let padded = length.map { $0 - 8 } ?? (text.count + 7) / 8 * 8
        text += [UInt8](repeating: UInt8(ascii: " "), count: padded - text.count)
        return withUnsafeBytes(of: UInt64(padded).littleEndian) { Array($0) } + text
    }
}

/// A string as JSON writes it.
package func jsonText(_ string: String) -> String {
    var text = "\""
    for scalar in string.unicodeScalars {
        switch scalar {
        case "\"": text += "\\\""
        case "\\": text += "\\\\"
        case "\n": text += "\\n"
        case "\t": text += "\\t"
        case "\r": text += "\\r"
        default:
            if scalar.value < 0x20 {
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
    }
    return text + "\""
}
