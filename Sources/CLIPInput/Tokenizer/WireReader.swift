// Protocol buffers' wire format, read from left to right.

import Checkpoints

/// The fields of one message. Values of a field that is not asked for are stepped over.
struct WireReader {
    /// A field's value, by how it is written.
    enum Value {
        case number(UInt64)
        /// Four bytes: a float.
        case word(UInt32)
        /// Where a string, some bytes or another message stand.
        case bytes(Range<Int>)
    }

    private let file: [UInt8]
    private let name: String
    private var position: Int
    private let end: Int

    /// - Parameters:
    ///   - range: of the message's bytes.
    ///   - name: of the file, for errors.
    init(_ file: [UInt8], _ range: Range<Int>, name: String) {
        self.file = file
        self.name = name
        position = range.lowerBound
        end = min(range.upperBound, file.count)
    }

    /// The next field; none at the end of the message.
    mutating func next() throws(CheckpointError) -> (field: UInt64, value: Value)? {
        guard position < end else { return nil }
        let key = try number()
        let field = key >> 3
        guard field > 0 else { throw damaged("has a field numbered 0") }
        switch key & 7 {
        case 0: return (field, .number(try number()))
        case 1:
            try skip(8)
            return (field, .bytes(position - 8..<position))
        case 2:
            let length = try number()
            guard length <= UInt64(end - position) else { throw damaged("has a field that goes beyond its end") }
            position += Int(length)
            return (field, .bytes(position - Int(length)..<position))
        case 5:
            try skip(4)
            return (field, .word((0..<4).reduce(0) { $0 | UInt32(file[position - 4 + $1]) << (8 * UInt32($1)) }))
        default: throw damaged("has a field of a kind that it cannot have")
        }
    }

    private mutating func skip(_ count: Int) throws(CheckpointError) {
        guard end - position >= count else { throw damaged("is cut off") }
        position += count
    }

    private mutating func number() throws(CheckpointError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            try skip(1)
            let byte = UInt64(file[position - 1])
            value |= (byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw damaged("has a number of more than ten bytes")
    }

    private func damaged(_ problem: String) -> CheckpointError {
        CheckpointError("\(name) is no sentencepiece model or is damaged: it \(problem) at byte \(position)")
    }
}
