// Reads tar archives member by member, for collections of pictures kept as .tar (webdataset).

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A tar archive read from the front: ustar, pax (path and size records) and GNU long names. Members other than
/// regular files are passed over.
package final class TarArchive {
    package struct Member {
        package let name: String
        package let bytes: [UInt8]
    }

    private let file: UnsafeMutablePointer<FILE>
    private let path: String
    /// Larger members are an error of that member, so that a broken size does not take all memory.
    private let largestMember: Int

    package init(path: String, largestMember: Int = 1 << 30) throws(TarError) {
        guard let file = fopen(path, "rbe") else {
            throw TarError("\(path) cannot be opened: \(String(cString: strerror(errno))).")
        }
        self.file = file
        self.path = path
        self.largestMember = largestMember
    }

    deinit { fclose(file) }

    /// The next regular file whose name passes `wanted`, or none at the archive's end.
    package func next(where wanted: (String) -> Bool) throws(TarError) -> Member? {
        var longName: String?
        var longSize: Int?
        var header = [UInt8](repeating: 0, count: 512)
        while true {
            let got = fread(&header, 1, 512, file)
            if got == 0 && feof(file) != 0 { return nil }  // Archives without their two zero blocks are common.
            guard got == 512 else { throw TarError("\(path) ends within a member's header: the archive is cut off.") }
            if header.allSatisfy({ $0 == 0 }) { return nil }
            guard Self.checksumHolds(header) else {
                throw TarError("\(path) is not a tar archive, or is damaged: a member's header has a wrong checksum.")
            }
            guard var size = Self.number(header[124..<136]), size >= 0 else {
                throw TarError("\(path) is damaged: a member's size is not a number.")
            }
            let kind = header[156]
            switch kind {
            case UInt8(ascii: "x"), UInt8(ascii: "L"), UInt8(ascii: "g"), UInt8(ascii: "K"):
                guard size <= 1 << 20 else {
                    throw TarError("\(path) is damaged: a member's name takes \(size) bytes.")
                }
                let bytes = try read(size)
                if kind == UInt8(ascii: "L") {
                    longName = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                } else if kind == UInt8(ascii: "x") {
                    let records = Self.paxRecords(bytes)
                    if let path = records["path"] { longName = path }
                    if let text = records["size"] { longSize = Int(text) }
                }
                continue
            default: break
            }
            let name = longName ?? Self.name(header)
            if let declared = longSize { size = declared }
            longName = nil
            longSize = nil
            guard kind == 0 || kind == UInt8(ascii: "0"), size >= 0, wanted(name) else {
                try skip(size)
                continue
            }
            guard size <= largestMember else {
                throw TarError("\(path)/\(name) takes \(size) bytes, more than the limit of \(largestMember).")
            }
            return Member(name: name, bytes: try read(size))
        }
    }

    private func read(_ size: Int) throws(TarError) -> [UInt8] {
        // Read in steps, so that a size that lies costs no more memory than the file has bytes.
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(size, 1 << 20))
        var buffer = [UInt8](repeating: 0, count: min(max(size, 1), 1 << 20))
        while bytes.count < size {
            let got = fread(&buffer, 1, min(buffer.count, size - bytes.count), file)
            guard got > 0 else { throw TarError("\(path) ends within a member: the archive is cut off.") }
            bytes.append(contentsOf: buffer[..<got])
        }
        try skipPadding(size)
        return bytes
    }

    private func skip(_ size: Int) throws(TarError) {
        var left = size
        var buffer = [UInt8](repeating: 0, count: 65536)
        // Seeking would do for files; pipes are read.
        if size > buffer.count, fseeko(file, off_t(size), SEEK_CUR) == 0 { left = 0 }
        while left > 0 {
            let got = fread(&buffer, 1, min(buffer.count, left), file)
            guard got > 0 else { throw TarError("\(path) ends within a member: the archive is cut off.") }
            left -= got
        }
        try skipPadding(size)
    }

    private func skipPadding(_ size: Int) throws(TarError) {
        var padding = [UInt8](repeating: 0, count: 512)
        let count = (512 - size % 512) % 512
        if count > 0 { _ = fread(&padding, 1, count, file) }
    }

    private static func name(_ header: [UInt8]) -> String {
        func text(_ range: Range<Int>) -> String {
            String(decoding: header[range].prefix { $0 != 0 }, as: UTF8.self)
        }
        let prefix = header[257..<262].elementsEqual("ustar".utf8) && header[262] == 0 ? text(345..<500) : ""
        return prefix.isEmpty ? text(0..<100) : prefix + "/" + text(0..<100)
    }

    /// Octal digits, or GNU's base 256 where the first bit is set.
    private static func number(_ field: ArraySlice<UInt8>) -> Int? {
        if let first = field.first, first & 0x80 != 0 {
            var value = Int(first & 0x7f)
            for byte in field.dropFirst() {
                let (product, overflow) = value.multipliedReportingOverflow(by: 256)
                if overflow { return nil }
                value = product + Int(byte)
            }
            return value
        }
        var value = 0
        for byte in field where byte != 0 && byte != UInt8(ascii: " ") {
            guard (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(byte) else { return nil }
            value = value * 8 + Int(byte - UInt8(ascii: "0"))
        }
        return value
    }

    private static func checksumHolds(_ header: [UInt8]) -> Bool {
        guard let stated = number(header[148..<156]) else { return false }
        var sum = 0
        for (index, byte) in header.enumerated() {
            sum += (148..<156).contains(index) ? 32 : Int(byte)
        }
        return sum == stated
    }

    /// "LENGTH KEY=VALUE\n" records of a pax header.
    private static func paxRecords(_ bytes: [UInt8]) -> [String: String] {
        var records: [String: String] = [:]
        var rest = bytes[...]
        while let space = rest.firstIndex(of: UInt8(ascii: " ")),
            let length = Int(String(decoding: rest[..<space], as: UTF8.self)),
            length > space - rest.startIndex + 1, length <= rest.count
        {
            let record = rest[(space + 1)..<(rest.startIndex + length - 1)]
            if let equals = record.firstIndex(of: UInt8(ascii: "=")) {
                let key = String(decoding: record[..<equals], as: UTF8.self)
                records[key] = String(decoding: record[(equals + 1)...], as: UTF8.self)
            }
            rest = rest[(rest.startIndex + length)...]
        }
        return records
    }
}

/// What is wrong with an archive: one sentence.
package struct TarError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
