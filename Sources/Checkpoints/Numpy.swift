// NumPy's `.npy` files. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

/// Reads `.npy` files.
package enum Numpy {
    private static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
    /// NumPy's own limit (`max_header_size`).
    private static let longestHeader = 10_000

    /// The one array of a file: float16, float32, float64 or uint8, little-endian, in C order.
    package static func open(path: String) throws(CheckpointError) -> StoredTensor {
        try read(MappedFile(path: path))
    }

    package static func read(_ memory: any TensorMemory) throws(CheckpointError) -> StoredTensor {
        do throws(CheckpointError) {
            return try memory.withBytes { (bytes) throws(CheckpointError) in try parse(bytes, memory) }
        } catch {
            throw CheckpointError("\(memory.name) cannot be read as .npy: \(error.description)")
        }
    }

    private static func parse(
        _ bytes: UnsafeRawBufferPointer, _ memory: any TensorMemory
    ) throws(CheckpointError) -> StoredTensor {
        guard bytes.count >= 10, bytes.prefix(6).elementsEqual(magic) else {
            throw CheckpointError("it does not begin with NumPy's signature")
        }
        let version = (bytes[6], bytes[7])
        guard (1...3).contains(version.0), version.1 == 0 else {
            throw CheckpointError("its format version is \(version.0).\(version.1); known are 1.0, 2.0 and 3.0")
        }
        let prefix = version.0 == 1 ? 10 : 12
        guard bytes.count >= prefix else { throw CheckpointError("it ends within its header") }
        let length =
            version.0 == 1
            ? Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self)))
            : Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
        guard length <= longestHeader else {
            throw CheckpointError("its header claims \(length) bytes, more than NumPy's limit of \(longestHeader)")
        }
        guard length <= bytes.count - prefix else { throw CheckpointError("it ends within its header") }
        let start = prefix + length
        var reader = HeaderReader(UnsafeRawBufferPointer(rebasing: bytes[prefix..<start]))
        let header = try reader.header()
        let types: [String: StoredType] = [
            "<f4": .float32, "<f8": .float64, "<f2": .float16, "|u1": .uint8, "<u1": .uint8, "=u1": .uint8,
        ]
        guard let type = types[header.descr] else {
            throw CheckpointError(
                "its elements are \(quoted(header.descr)); expected little-endian floats (<f2, <f4, <f8) or bytes (|u1)"
            )
        }
        guard !header.fortranOrder || header.shape.count < 2 else {
            throw CheckpointError("its array is in Fortran order; save numpy.ascontiguousarray(x) instead")
        }
        guard let size = byteCount(of: header.shape, type) else {
            throw CheckpointError("its shape \(header.shape) is beyond any memory")
        }
        guard size == bytes.count - start else {
            throw CheckpointError(
                "its shape \(header.shape) of \(header.descr) takes \(size) bytes, but \(bytes.count - start) follow the header"
            )
        }
        return StoredTensor(name: "", shape: header.shape, type: type, memory: memory, range: start..<bytes.count)
    }

    /// The header, which is a Python dictionary: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    private struct HeaderReader {
        let bytes: UnsafeRawBufferPointer
        var position = 0

        init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        mutating func header() throws(CheckpointError) -> (descr: String, fortranOrder: Bool, shape: [Int]) {
            var descr: String?
            var fortranOrder: Bool?
            var shape: [Int]?
            try expect("{")
            while !skip("}") {
                let key = try string()
                try expect(":")
                switch key {
                case "descr" where descr == nil:
                    guard !skip("[") else { throw CheckpointError("its elements are structures") }
                    descr = try string()
                case "fortran_order" where fortranOrder == nil: fortranOrder = try bool()
                case "shape" where shape == nil: shape = try tuple()
                default: throw CheckpointError("its header has an unknown or repeated key \(quoted(key))")
                }
                if !skip(",") {
                    try expect("}")
                    break
                }
            }
            skipSpace()
            guard position == bytes.count else { throw CheckpointError("its header goes on after its end") }
            guard let descr, let fortranOrder, let shape else {
                throw CheckpointError("its header lacks one of descr, fortran_order and shape")
            }
            return (descr, fortranOrder, shape)
        }

        private mutating func skipSpace() {
            while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
        }

        private mutating func skip(_ text: StaticString) -> Bool {
            skipSpace()
            let count = text.utf8CodeUnitCount
            guard bytes.count - position >= count,
                bytes[position..<(position + count)].elementsEqual(
                    UnsafeRawBufferPointer(start: text.utf8Start, count: count))
            else { return false }
            position += count
            return true
        }

        private mutating func expect(_ text: StaticString) throws(CheckpointError) {
            guard skip(text) else { throw CheckpointError("its header has no '\(text)' at byte \(position)") }
        }

        private mutating func string() throws(CheckpointError) -> String {
            guard skip("'") || skip("\"") else { throw CheckpointError("its header has no string at byte \(position)") }
            let quote = bytes[position - 1]
            let start = position
            while position < bytes.count, bytes[position] != quote {
                guard (0x20..<0x7F).contains(bytes[position]), bytes[position] != UInt8(ascii: "\\") else {
                    throw CheckpointError("its header has a string with unusual characters")
                }
                position += 1
            }
            guard position < bytes.count else { throw CheckpointError("its header has a string without end") }
            defer { position += 1 }
            return String(decoding: bytes[start..<position], as: UTF8.self)
        }

        private mutating func bool() throws(CheckpointError) -> Bool {
            if skip("True") { return true }
            if skip("False") { return false }
            throw CheckpointError("its fortran_order is neither True nor False")
        }

        private mutating func tuple() throws(CheckpointError) -> [Int] {
            var numbers: [Int] = []
            try expect("(")
            while !skip(")") {
                skipSpace()
                let start = position
                while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
                guard numbers.count < 32, let number = Int(String(decoding: bytes[start..<position], as: UTF8.self))
                else { throw CheckpointError("its shape is not a short list of whole numbers") }
                _ = skip("L")  // Python 2 wrote long integers so.
                numbers.append(number)
                if !skip(",") {
                    try expect(")")
                    break
                }
            }
            return numbers
        }
    }
}

/// Writes a float32 array `[rows, …]` as the rows come.
package final class NumpyRowWriter: RowWriter {
    private let file: OutputFile
    /// What follows the number of rows in the shape.
    private let rowShape: [Int]
    private let rowCount: Int
    private let headerLength: Int
    private var rows = 0

    package init(_ file: OutputFile, rowShape: [Int]) throws(CheckpointError) {
        self.file = file
        self.rowShape = rowShape
        rowCount = rowShape.reduce(1, *)
        let longest = Numpy.header(shape: [Int.max] + rowShape)
        headerLength = longest.count
        try file.write(longest)
    }

    package func append(_ rows: [Float]) throws(CheckpointError) {
        precondition(rows.count % rowCount == 0, "rows are whole")
        self.rows += rows.count / rowCount
        try file.write(rows)
    }

    package func commit() throws(CheckpointError) {
        try file.overwrite(Numpy.header(shape: [rows] + rowShape, length: headerLength), at: 0)
        try file.commit()
    }
}

extension Numpy {
    /// A version 1.0 header for float32 in C order, padded to a multiple of 64 bytes as NumPy does, or to `length`.
    package static func header(shape: [Int], length: Int? = nil) -> [UInt8] {
        let tuple = shape.map { "\($0)" }.joined(separator: ", ") + (shape.count == 1 ? "," : "")
        var text = Array("{'descr': '<f4', 'fortran_order': False, 'shape': (\(tuple)), }".utf8)
        let length = (length ?? (10 + text.count + 1 + 63) / 64 * 64) - 10
        text += [UInt8](repeating: UInt8(ascii: " "), count: length - 1 - text.count) + [0x0A]
        return magic + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + text
    }
}
