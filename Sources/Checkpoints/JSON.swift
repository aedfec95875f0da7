// A strict JSON reader (RFC 8259): for headers and configurations that others wrote, and may have written badly.
// Foundation's reader keeps the last of two equal keys without a word, and takes ten times as long for a header.

/// A position in JSON text, read from left to right. Errors say where.
package struct JSONReader {
    private let bytes: UnsafeRawBufferPointer
    private var position: Int
    private var depth = 0

    /// Deeper nesting is refused: it would exhaust the stack.
    private static let deepest = 64

    /// The caller keeps `bytes` alive while the reader is in use.
    package init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        position = 0
    }

    private func failure(_ problem: String) -> CheckpointError {
        CheckpointError("\(problem) at byte \(position)")
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func skip(_ byte: UInt8) -> Bool {
        skipSpace()
        guard current == byte else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ byte: UInt8) throws(CheckpointError) {
        guard skip(byte) else {
            let found = current.map { $0 < 0x7F && $0 > 0x20 ? "'\(Character(UnicodeScalar($0)))'" : "byte \($0)" }
            throw failure("expected '\(Character(UnicodeScalar(byte)))' and found \(found ?? "the end")")
        }
    }

    /// The first byte of what comes next: it tells objects, arrays and strings apart.
    package mutating func next() -> UInt8? {
        skipSpace()
        return current
    }

    /// Nothing but white space may follow.
    package mutating func end() throws(CheckpointError) {
        skipSpace()
        if position != bytes.count { throw failure("text after the end of the JSON value") }
    }

    /// Reads `{…}`; `member` reads each value.
    package mutating func object(
        _ member: (_ key: String, inout JSONReader) throws(CheckpointError) -> Void
    ) throws(CheckpointError) {
        try nested { (reader) throws(CheckpointError) in
            try reader.expect(UInt8(ascii: "{"))
            if reader.skip(UInt8(ascii: "}")) { return }
            repeat {
                let key = try reader.string()
                try reader.expect(UInt8(ascii: ":"))
                try member(key, &reader)
            } while reader.skip(UInt8(ascii: ","))
            try reader.expect(UInt8(ascii: "}"))
        }
    }

    /// Reads `[…]`; `element` reads each value.
    package mutating func array(
        _ element: (inout JSONReader) throws(CheckpointError) -> Void
    ) throws(CheckpointError) {
        try nested { (reader) throws(CheckpointError) in
            try reader.expect(UInt8(ascii: "["))
            if reader.skip(UInt8(ascii: "]")) { return }
            repeat { try element(&reader) } while reader.skip(UInt8(ascii: ","))
            try reader.expect(UInt8(ascii: "]"))
        }
    }

    private mutating func nested(
        _ body: (inout JSONReader) throws(CheckpointError) -> Void
    ) throws(CheckpointError) {
        if depth == Self.deepest { throw failure("JSON nested more than \(Self.deepest) levels deep") }
        depth += 1
        try body(&self)
        depth -= 1
    }

    /// Reads a string.
    package mutating func string() throws(CheckpointError) -> String {
        try expect(UInt8(ascii: "\""))
        let start = position
        while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
            if byte < 0x20 { throw failure("a control character in a string") }
            position += 1
        }
        if current == UInt8(ascii: "\"") {
            defer { position += 1 }
            return try text(start..<position)
        }
        return try escapedString(from: start)
    }

    private func text(_ range: Range<Int>) throws(CheckpointError) -> String {
        let part = UnsafeRawBufferPointer(rebasing: bytes[range])
        var high: UInt8 = 0
        for byte in part { high |= byte }
        if high < 0x80 { return String(decoding: part, as: UTF8.self) }
        guard let text = String(validating: part, as: UTF8.self) else {
            throw failure("a string that is not UTF-8")
        }
        return text
    }

    private mutating func escapedString(from start: Int) throws(CheckpointError) -> String {
        var result = try text(start..<position)
        while let byte = current {
            if byte == UInt8(ascii: "\"") {
                position += 1
                return result
            }
            if byte != UInt8(ascii: "\\") {
                let run = position
                while let next = current, next != UInt8(ascii: "\""), next != UInt8(ascii: "\\") {
                    if next < 0x20 { throw failure("a control character in a string") }
                    position += 1
                }
                result += try text(run..<position)
                continue
            }
            position += 1
            guard let escape = current else { break }
            position += 1
            switch escape {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"):
                result.unicodeScalars.append(UnicodeScalar(escape))
            case UInt8(ascii: "b"): result += "\u{8}"
            case UInt8(ascii: "f"): result += "\u{C}"
            case UInt8(ascii: "n"): result += "\n"
            case UInt8(ascii: "r"): result += "\r"
            case UInt8(ascii: "t"): result += "\t"
            case UInt8(ascii: "u"): result.unicodeScalars.append(try escapedScalar())
            default: throw failure("an unknown escape in a string")
            }
        }
        throw failure("a string without end")
    }

    /// The scalar after `\u`: four digits, or a surrogate pair.
    private mutating func escapedScalar() throws(CheckpointError) -> UnicodeScalar {
        let first = try fourDigits()
        if let scalar = UnicodeScalar(first) { return scalar }
        guard first < 0xDC00, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
            bytes[position + 1] == UInt8(ascii: "u")
        else { throw failure("half a surrogate pair in a string") }
        position += 2
        let second = try fourDigits()
        guard (0xDC00...0xDFFF).contains(second),
            let scalar = UnicodeScalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        else { throw failure("half a surrogate pair in a string") }
        return scalar
    }

    private mutating func fourDigits() throws(CheckpointError) -> UInt32 {
        guard bytes.count - position >= 4 else { throw failure("an unfinished escape in a string") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            let byte = bytes[position]
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw failure("an escape with a letter that is no digit")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    /// Reads a whole number of 0 or more that fits an `Int`.
    package mutating func count() throws(CheckpointError) -> Int {
        skipSpace()
        var value = 0
        var end = position
        while end < bytes.count, (0x30...0x39).contains(bytes[end]), end - position < 18 {
            value = value * 10 + Int(bytes[end] - 0x30)
            end += 1
        }
        // Up to 18 digits fit; whatever else there is, a point or a sign, is left to the general case.
        if end > position, end < bytes.count, bytes[end] == UInt8(ascii: ",") || bytes[end] == UInt8(ascii: "]"),
            bytes[position] != 0x30 || end - position == 1
        {
            position = end
            return value
        }
        guard case .integer(let value) = try number(), value >= 0 else {
            throw failure("expected a whole number of 0 or more")
        }
        return value
    }

    /// Reads a whole number that fits an `Int`.
    package mutating func integer() throws(CheckpointError) -> Int {
        guard case .integer(let value) = try number() else { throw failure("expected a whole number") }
        return value
    }

    private mutating func number() throws(CheckpointError) -> JSON {
        skipSpace()
        let start = position
        if current == UInt8(ascii: "-") { position += 1 }
        let first = position
        guard digits() > 0 else { throw failure("expected a value") }
        if bytes[first] == UInt8(ascii: "0"), position - first > 1 { throw failure("a number that begins with 0") }
        var isInteger = true
        if current == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            guard digits() > 0 else { throw failure("a number without digits after its point") }
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            guard digits() > 0 else { throw failure("a number without digits in its exponent") }
        }
        guard position - start <= 400 else { throw failure("a number of more than 400 digits") }
        let text = try text(start..<position)
        if isInteger, let value = Int(text) { return .integer(value) }
        guard let value = Double(text), value.isFinite else { throw failure("a number too large to hold") }
        return .real(value)
    }

    private mutating func digits() -> Int {
        let start = position
        while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        return position - start
    }

    /// Reads any value, within the `budget` of values that remain.
    package mutating func value(budget: inout Int) throws(CheckpointError) -> JSON {
        skipSpace()
        budget -= 1
        if budget < 0 { throw failure("too many JSON values") }
        switch current {
        case UInt8(ascii: "{"):
            var members: [JSON.Member] = []
            var keys: Set<String> = []
            try object { (key, reader) throws(CheckpointError) in
                guard keys.insert(key).inserted else { throw reader.failure("the key \(quoted(key)) twice") }
                members.append(JSON.Member(key: key, value: try reader.value(budget: &budget)))
            }
            return .object(members)
        case UInt8(ascii: "["):
            var elements: [JSON] = []
            try array { (reader) throws(CheckpointError) in elements.append(try reader.value(budget: &budget)) }
            return .array(elements)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return try number()
        }
    }

    /// Whether the next value is `null`, which is then read.
    package mutating func null() throws(CheckpointError) -> Bool {
        skipSpace()
        guard current == UInt8(ascii: "n") else { return false }
        _ = try word("null", .null)
        return true
    }

    private mutating func word(_ word: StaticString, _ value: JSON) throws(CheckpointError) -> JSON {
        let expected = UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        guard bytes.count - position >= expected.count,
            bytes[position..<(position + expected.count)].elementsEqual(expected)
        else { throw failure("a word that is not JSON's") }
        position += expected.count
        return value
    }
}

/// A JSON value. Objects keep the order of their keys, which are all different.
package enum JSON: Hashable, Sendable {
    package struct Member: Hashable, Sendable {
        package var key: String
        package var value: JSON

        package init(key: String, value: JSON) {
            self.key = key
            self.value = value
        }
    }

    case null
    case bool(Bool)
    /// A number without point or exponent that fits.
    case integer(Int)
    case real(Double)
    case string(String)
    case array([JSON])
    case object([Member])

    /// Reads a whole text. More than `limit` values are refused.
    package init(parsing bytes: UnsafeRawBufferPointer, limit: Int = 1 << 20) throws(CheckpointError) {
        var reader = JSONReader(bytes)
        var budget = limit
        self = try reader.value(budget: &budget)
        try reader.end()
    }

    /// The member of an object; none where there is no such key, or this is no object.
    package subscript(key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }

    package var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    package var integer: Int? {
        if case .integer(let value) = self { value } else { nil }
    }

    /// Any number.
    package var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .real(let value): value
        default: nil
        }
    }

    package var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    package var array: [JSON]? {
        if case .array(let elements) = self { elements } else { nil }
    }

    package var isNull: Bool {
        if case .null = self { true } else { false }
    }
}
