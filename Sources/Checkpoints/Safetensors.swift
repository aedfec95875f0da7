// The safetensors format: eight bytes with the header's length, a JSON header, and the tensors' bytes.
// https://github.com/huggingface/safetensors (README.md, "Format"; safetensors/src/tensor.rs for what is refused)

/// Reads `.safetensors` files.
package enum Safetensors {
    /// The reference's limit on the header.
    private static let longestHeader = 100_000_000
    /// Ours; the largest models have a few thousand tensors.
    private static let mostTensors = 1 << 18
    private static let mostDimensions = 32

    package static func open(path: String) throws(CheckpointError) -> Checkpoint {
        try read(MappedFile(path: path))
    }

    /// Whether a header begins where one should.
    static func matches(_ bytes: UnsafeRawBufferPointer) -> Bool { bytes.count > 8 && bytes[8] == UInt8(ascii: "{") }

    /// Reads a header and checks that the tensors fill the rest without gap or overlap, as the reference demands.
    package static func read(_ memory: any TensorMemory) throws(CheckpointError) -> Checkpoint {
        do throws(CheckpointError) {
            let (tensors, metadata) = try memory.withBytes { (bytes) throws(CheckpointError) in
                try parse(bytes, memory)
            }
            return try Checkpoint(name: memory.name, tensors: tensors, metadata: metadata)
        } catch {
            throw error.description.hasPrefix(memory.name)
                ? error : CheckpointError("\(memory.name) is not a sound safetensors file: \(error.description)")
        }
    }

    private static func parse(
        _ bytes: UnsafeRawBufferPointer, _ memory: any TensorMemory
    ) throws(CheckpointError) -> (tensors: [StoredTensor], metadata: [String: String]) {
        guard bytes.count >= 8 else {
            throw CheckpointError("it has \(bytes.count) bytes, and the length of the header alone takes 8")
        }
        let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        guard length <= longestHeader else {
            throw CheckpointError("its header claims \(length) bytes, more than the format's \(longestHeader)")
        }
        guard Int(length) <= bytes.count - 8 else {
            throw CheckpointError("its header claims \(length) bytes, but only \(bytes.count - 8) follow")
        }
        let start = 8 + Int(length)
        guard length >= 2, bytes[8] == UInt8(ascii: "{") else {
            throw CheckpointError("its header does not begin with '{'")
        }
        var entries: [Entry] = []
        var metadata: [String: String] = [:]
        var names: Set<String> = []
        var reader = JSONReader(UnsafeRawBufferPointer(rebasing: bytes[8..<start]))
        try reader.object { (name, reader) throws(CheckpointError) in
            guard names.insert(name).inserted else { throw CheckpointError("its header names \(quoted(name)) twice") }
            if name == "__metadata__" {
                metadata = try readMetadata(&reader)
            } else {
                guard entries.count < mostTensors else {
                    throw CheckpointError("its header lists more than \(mostTensors) tensors")
                }
                entries.append(try Entry(name: name, &reader))
            }
        }
        try reader.end()

        // As they lie in the file. Empty tensors may share a place with the one that begins there.
        entries.sort { ($0.start, $0.end) < ($1.start, $1.end) }
        var position = 0
        var previous: String?
        for entry in entries {
            guard entry.start == position else {
                let after = previous.map { "the end of \(quoted($0))" } ?? "the start"
                throw CheckpointError(
                    entry.start < position
                        ? "the tensor \(quoted(entry.name)) at \(entry.start) overlaps \(quoted(previous ?? "")), "
                            + "which ends at \(position)"
                        : "\(entry.start - position) bytes between \(after) and \(quoted(entry.name)) belong to no tensor"
                )
            }
            position = entry.end
            previous = entry.name
        }
        guard position == bytes.count - start else {
            throw CheckpointError(
                position > bytes.count - start
                    ? "its tensors take \(position) bytes, but only \(bytes.count - start) are there: the file is cut short"
                    : "\(bytes.count - start - position) bytes after the last tensor belong to none")
        }
        let tensors = entries.map {
            StoredTensor(
                name: $0.name, shape: $0.shape, type: $0.type, memory: memory,
                range: (start + $0.start)..<(start + $0.end))
        }
        return (tensors, metadata)
    }

    private static func readMetadata(_ reader: inout JSONReader) throws(CheckpointError) -> [String: String] {
        var metadata: [String: String] = [:]
        if try reader.null() { return metadata }
        try reader.object { (key, reader) throws(CheckpointError) in
            guard metadata.updateValue(try reader.string(), forKey: key) == nil else {
                throw CheckpointError("its metadata name \(quoted(key)) twice")
            }
        }
        return metadata
    }

    /// One tensor as the header describes it; offsets are from the end of the header.
    private struct Entry {
        let name: String
        let type: StoredType
        let shape: [Int]
        let start: Int
        let end: Int

        init(name: String, _ reader: inout JSONReader) throws(CheckpointError) {
            var typeName: String?
            var shape: [Int]?
            var offsets: [Int]?
            try reader.object { (key, reader) throws(CheckpointError) in
                switch key {
                case "dtype" where typeName == nil: typeName = try reader.string()
                case "shape" where shape == nil:
                    shape = try Self.counts(&reader, limit: mostDimensions, "shape", of: name)
                case "data_offsets" where offsets == nil:
                    offsets = try Self.counts(&reader, limit: 2, "data_offsets", of: name)
                case "dtype", "shape", "data_offsets":
                    throw CheckpointError("the tensor \(quoted(name)) has \(key) twice")
                default:
                    // As in the reference, other members mean nothing.
                    var budget = 1000
                    _ = try reader.value(budget: &budget)
                }
            }
            guard let typeName, let shape, let offsets else {
                throw CheckpointError("the tensor \(quoted(name)) lacks one of dtype, shape and data_offsets")
            }
            guard let type = StoredType(rawValue: typeName) else {
                throw CheckpointError("the tensor \(quoted(name)) has the unknown element type \(quoted(typeName))")
            }
            guard offsets.count == 2, offsets[0] <= offsets[1] else {
                throw CheckpointError("the tensor \(quoted(name)) has data_offsets \(offsets), not a start and an end")
            }
            guard let size = byteCount(of: shape, type) else {
                throw CheckpointError(
                    "the tensor \(quoted(name)) \(shape) of \(typeName) has no whole number of bytes that fits")
            }
            guard offsets[1] - offsets[0] == size else {
                throw CheckpointError(
                    "the tensor \(quoted(name)) \(shape) of \(typeName) takes \(size) bytes, but has "
                        + "\(offsets[1] - offsets[0])")
            }
            self.name = name
            self.type = type
            self.shape = shape
            start = offsets[0]
            end = offsets[1]
        }

        private static func counts(
            _ reader: inout JSONReader, limit: Int, _ key: String, of name: String
        ) throws(CheckpointError) -> [Int] {
            var counts: [Int] = []
            try reader.array { (reader) throws(CheckpointError) in
                guard counts.count < limit else {
                    throw CheckpointError("the tensor \(quoted(name)) has a \(key) of more than \(limit) numbers")
                }
                counts.append(try reader.count())
            }
            return counts
        }
    }
}
