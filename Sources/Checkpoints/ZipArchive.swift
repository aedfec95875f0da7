// The part of the zip format that PyTorch writes: stored members, found through the central directory.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3, 4.5.3 for zip64)

/// Where the members of a zip archive lie. Their checksums are not verified: that would read all weights at opening.
struct ZipArchive {
    /// What each name stands for, by its bytes; none for members that are compressed or encrypted.
    private let members: [String: Range<Int>?]
    var names: some Collection<String> { members.keys }

    private static let mostMembers = 1 << 18

    static func isZip(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count >= 4 && bytes.loadUnaligned(as: UInt32.self).littleEndian == 0x0403_4B50
    }

    init(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        let directory = try Self.directory(bytes)
        var members: [String: Range<Int>?] = [:]
        var cursor = ByteCursor(bytes, position: directory.range.lowerBound, end: directory.range.upperBound)
        while cursor.position < cursor.end {
            guard members.count < Self.mostMembers else {
                throw CheckpointError("its zip directory lists more than \(Self.mostMembers) members")
            }
            let (name, range) = try Self.member(&cursor, bytes, shift: directory.shift)
            guard members.updateValue(range, forKey: name) == nil else {
                throw CheckpointError("its zip directory names \(quoted(name)) twice")
            }
        }
        self.members = members
    }

    /// The bytes of a member, or none where there is no such member.
    subscript(name: String) -> Range<Int>? {
        get throws(CheckpointError) {
            guard let member = members[name] else { return nil }
            guard let range = member else {
                throw CheckpointError(
                    "its member \(quoted(name)) is compressed or encrypted; PyTorch stores members as they are")
            }
            return range
        }
    }

    /// The central directory's bytes, and how far all offsets are shifted by bytes before the archive.
    private static func directory(
        _ bytes: UnsafeRawBufferPointer
    ) throws(CheckpointError) -> (range: Range<Int>, shift: Int) {
        // The end record takes 22 bytes and a comment of at most 65535.
        let first = max(0, bytes.count - 22 - 0xFFFF)
        var found: Int?
        for start in stride(from: bytes.count - 22, through: first, by: -1)
        where bytes.loadUnaligned(fromByteOffset: start, as: UInt32.self).littleEndian == 0x0605_4B50 {
            found = start
            break
        }
        guard let end = found else {
            throw CheckpointError("it begins as a zip archive, but has no directory at its end: the file is cut short")
        }
        var record = ByteCursor(bytes, position: end + 4, end: bytes.count)
        guard try record.uint16() == 0, try record.uint16() == 0 else {
            throw CheckpointError("it is one part of a zip archive in several files")
        }
        try record.skip(4)
        var size = UInt64(try record.uint32())
        var offset = UInt64(try record.uint32())
        var directoryEnd = end
        if end >= 20, bytes.loadUnaligned(fromByteOffset: end - 20, as: UInt32.self).littleEndian == 0x0706_4B50 {
            var locator = ByteCursor(bytes, position: end - 20 + 8, end: end)
            let position = try locator.uint64()
            guard position <= UInt64(end - 20), end - 20 - Int(position) >= 56 else {
                throw CheckpointError("its zip64 locator points outside the file")
            }
            var record64 = ByteCursor(bytes, position: Int(position), end: end - 20)
            guard try record64.uint32() == 0x0606_4B50 else {
                throw CheckpointError("its zip64 locator points at no end record")
            }
            try record64.skip(36)
            size = try record64.uint64()
            offset = try record64.uint64()
            directoryEnd = Int(position)
        }
        guard size <= UInt64(directoryEnd), offset <= UInt64(directoryEnd) - size else {
            throw CheckpointError("its zip directory lies outside the file")
        }
        let start = directoryEnd - Int(size)
        return (start..<directoryEnd, start - Int(offset))
    }

    private static func member(
        _ cursor: inout ByteCursor, _ bytes: UnsafeRawBufferPointer, shift: Int
    ) throws(CheckpointError) -> (name: String, range: Range<Int>?) {
        guard try cursor.uint32() == 0x0201_4B50 else { throw CheckpointError("its zip directory is damaged") }
        try cursor.skip(4)
        let flags = try cursor.uint16()
        let method = try cursor.uint16()
        try cursor.skip(8)
        var packedSize = UInt64(try cursor.uint32())
        var size = UInt64(try cursor.uint32())
        let nameLength = Int(try cursor.uint16())
        let extraLength = Int(try cursor.uint16())
        let commentLength = Int(try cursor.uint16())
        try cursor.skip(8)
        var offset = UInt64(try cursor.uint32())
        let name = try cursor.text(nameLength)
        var extra = try cursor.part(extraLength)
        try cursor.skip(commentLength)
        while extra.end - extra.position >= 4 {
            let kind = try extra.uint16()
            var field = try extra.part(Int(try extra.uint16()))
            guard kind == 1 else { continue }
            if size == 0xFFFF_FFFF { size = try field.uint64() }
            if packedSize == 0xFFFF_FFFF { packedSize = try field.uint64() }
            if offset == 0xFFFF_FFFF { offset = try field.uint64() }
        }
        guard method == 0, flags & 1 == 0 else { return (name, nil) }
        guard size == packedSize, let local = Int(exactly: offset), let count = Int(exactly: size),
            case (let start, let overflow) = local.addingReportingOverflow(shift), !overflow, start >= 0,
            start <= bytes.count - 30
        else {
            throw CheckpointError("its member \(quoted(name)) lies outside the file")
        }
        // The local header has a name and an extra field of its own; PyTorch aligns data to 64 bytes by the latter.
        var header = ByteCursor(bytes, position: start, end: bytes.count)
        guard try header.uint32() == 0x0403_4B50 else {
            throw CheckpointError("its member \(quoted(name)) is not where the zip directory says")
        }
        try header.skip(22)
        let localName = Int(try header.uint16())
        let localExtra = Int(try header.uint16())
        try header.skip(localName + localExtra)
        guard count <= bytes.count - header.position else {
            throw CheckpointError("its member \(quoted(name)) lies outside the file")
        }
        return (name, header.position..<(header.position + count))
    }
}

/// Little-endian numbers from left to right, up to an end.
struct ByteCursor {
    private let bytes: UnsafeRawBufferPointer
    private(set) var position: Int
    let end: Int

    /// The caller keeps `bytes` alive; `0 ≤ position ≤ end ≤ bytes.count`.
    init(_ bytes: UnsafeRawBufferPointer, position: Int, end: Int) {
        precondition(position >= 0 && position <= end && end <= bytes.count, "a range outside the bytes")
        self.bytes = bytes
        self.position = position
        self.end = end
    }

    mutating func skip(_ count: Int) throws(CheckpointError) {
        guard count <= end - position else { throw CheckpointError("it is cut short at byte \(position)") }
        position += count
    }

    private mutating func number<Number: FixedWidthInteger>(_: Number.Type) throws(CheckpointError) -> Number {
        let start = position
        try skip(MemoryLayout<Number>.size)
        return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: Number.self))
    }

    mutating func uint8() throws(CheckpointError) -> UInt8 { try number(UInt8.self) }
    mutating func uint16() throws(CheckpointError) -> UInt16 { try number(UInt16.self) }
    mutating func uint32() throws(CheckpointError) -> UInt32 { try number(UInt32.self) }
    mutating func uint64() throws(CheckpointError) -> UInt64 { try number(UInt64.self) }

    /// The next bytes, as a cursor of their own.
    mutating func part(_ count: Int) throws(CheckpointError) -> ByteCursor {
        let start = position
        try skip(count)
        return ByteCursor(bytes, position: start, end: position)
    }

    /// The next bytes as UTF-8; what is not becomes U+FFFD.
    mutating func text(_ count: Int) throws(CheckpointError) -> String {
        let start = position
        try skip(count)
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    /// The text up to a line feed, which is skipped.
    mutating func line() throws(CheckpointError) -> String {
        guard let feed = bytes[position..<end].firstIndex(of: 0x0A) else {
            throw CheckpointError("it is cut short within a line at byte \(position)")
        }
        defer { position = feed + 1 }
        return String(decoding: bytes[position..<feed], as: UTF8.self)
    }
}
