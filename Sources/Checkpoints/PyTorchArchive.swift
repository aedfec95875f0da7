// Files that torch.save and torch.jit.save write: a pickle that describes tensors, and the bytes of their storages.
// torch/serialization.py (`_save`, `_legacy_save`); torch/csrc/jit/serialization for TorchScript.

/// Reads `.pt`, `.pth` and `.bin` files: zip archives, TorchScript archives and the form before PyTorch 1.6.
package enum PyTorchArchive {
    private static let mostTensors = 1 << 18
    /// Objects visited in a TorchScript archive; one may be part of many.
    private static let mostObjects = 1 << 20
    private static let deepest = 64
    /// Where a training keeps the model among other things.
    private static let wrappers = ["state_dict", "model_state_dict", "model"]

    package static func open(path: String) throws(CheckpointError) -> Checkpoint {
        try read(MappedFile(path: path))
    }

    package static func read(_ memory: any TensorMemory) throws(CheckpointError) -> Checkpoint {
        do throws(CheckpointError) {
            return try memory.withBytes { (bytes) throws(CheckpointError) in
                ZipArchive.isZip(bytes) ? try readZip(bytes, memory) : try readLegacy(bytes, memory)
            }
        } catch {
            throw error.description.hasPrefix(memory.name)
                ? error : CheckpointError("\(memory.name) cannot be read as PyTorch's: \(error.description)")
        }
    }

    /// Whether a file begins as one of these.
    package static func matches(_ bytes: UnsafeRawBufferPointer) -> Bool {
        // A safetensors file has a '{' in ninth place and a small number before it.
        ZipArchive.isZip(bytes) || (bytes.count > 8 && bytes[0] == 0x80 && bytes[8] != UInt8(ascii: "{"))
    }

    // MARK: The two forms

    private static func readZip(
        _ bytes: UnsafeRawBufferPointer, _ memory: any TensorMemory
    ) throws(CheckpointError) -> Checkpoint {
        let archive = try ZipArchive(bytes)
        // All members lie in one folder, whose name is whatever the file was once called.
        let pickles = archive.names.filter { $0.hasSuffix("/data.pkl") && $0.utf8.count { $0 == 0x2F } == 1 }
        guard let pickleName = pickles.first, pickles.count == 1, let pickle = try archive[pickleName] else {
            let old = archive.names.contains { $0.hasSuffix("/model.json") }
            throw CheckpointError(
                old
                    ? "it is a TorchScript archive of PyTorch before 1.2; load it with torch.jit.load and save it again"
                    : "it is a zip archive without one data.pkl, so PyTorch did not write it")
        }
        let folder = String(pickleName.dropLast("data.pkl".count))
        if let order = try archive[folder + "byteorder"], !bytes[order].elementsEqual(Array("little".utf8)) {
            throw CheckpointError("it was written on a big-endian machine")
        }
        var machine = Pickle()
        var cursor = ByteCursor(bytes, position: pickle.lowerBound, end: pickle.upperBound)
        let value = try machine.read(&cursor)
        let isScript = archive.names.contains(folder + "constants.pkl")
        return try checkpoint(value, machine, memory, bytes, format: isScript ? .torchScript : .stateDictionary) {
            (key) throws(CheckpointError) in try archive[folder + "data/" + key]
        }
    }

    private static func readLegacy(
        _ bytes: UnsafeRawBufferPointer, _ memory: any TensorMemory
    ) throws(CheckpointError) -> Checkpoint {
        guard bytes.count >= 2, bytes[0] == 0x80 else {
            throw CheckpointError("it is neither a zip archive nor a pickle")
        }
        var cursor = ByteCursor(bytes, position: 0, end: bytes.count)
        var machine = Pickle()
        guard case .legacyMagic = try machine.read(&cursor), case .integer(1001) = try machine.read(&cursor) else {
            throw CheckpointError("it is a pickle, but none that torch.save wrote")
        }
        if case .dictionary(let system) = try machine.read(&cursor),
            let (_, value) = machine.dictionaries[system].last(where: {
                if case .string("little_endian") = $0.key { true } else { false }
            }), case .boolean(false) = value
        {
            throw CheckpointError("it was written on a big-endian machine")
        }
        let value = try machine.read(&cursor)
        guard case .list(let keys) = try machine.read(&cursor) else {
            throw CheckpointError("it has no list of storages behind its pickle")
        }
        // Storages follow in this order, each after its number of elements.
        var sizes: [String: Int] = [:]
        for storage in machine.storages {
            let size = try byteCount(of: storage)
            guard sizes.updateValue(size, forKey: storage.key) ?? size == size else {
                throw CheckpointError("the storage \(quoted(storage.key)) has two sizes")
            }
        }
        var ranges: [String: Range<Int>] = [:]
        for key in machine.lists[keys] {
            guard case .string(let key) = key, let size = sizes[key], ranges[key] == nil else {
                throw CheckpointError("its list of storages names one that no tensor has, or one twice")
            }
            _ = try cursor.uint64()
            let start = cursor.position
            do throws(CheckpointError) {
                try cursor.skip(size)
            } catch {
                throw CheckpointError(
                    "the storage \(quoted(key)) takes \(size) bytes, but only \(bytes.count - start) follow: the file "
                        + "is cut short")
            }
            ranges[key] = start..<cursor.position
        }
        return try checkpoint(value, machine, memory, bytes, format: .stateDictionary) { ranges[$0] }
    }

    private static func byteCount(of storage: Pickle.Storage) throws(CheckpointError) -> Int {
        guard let size = Checkpoints.byteCount(of: [storage.count], storage.type ?? .uint8) else {
            throw CheckpointError("the storage \(quoted(storage.key)) has \(storage.count) elements")
        }
        return size
    }

    // MARK: From values to tensors

    private static func checkpoint(
        _ value: Pickle.Value, _ machine: Pickle, _ memory: any TensorMemory, _ bytes: UnsafeRawBufferPointer,
        format: Checkpoint.Format, _ range: (String) throws(CheckpointError) -> Range<Int>?
    ) throws(CheckpointError) -> Checkpoint {
        var named: [(name: String, tensor: Int)] = []
        var modules: [String: String] = [:]
        if case .object(let root) = value {
            try collect(root, machine, &named, &modules)
        } else {
            named = try stateDictionary(value, machine)
        }
        guard named.count <= mostTensors else { throw CheckpointError("it holds more than \(mostTensors) tensors") }
        // Tensors that are not contiguous are copied; together they may not take more than the file.
        var budget = bytes.count
        var tensors: [StoredTensor] = []
        tensors.reserveCapacity(named.count)
        for (name, index) in named {
            let tensor = machine.tensors[index]
            let storage = machine.storages[tensor.storage]
            guard let range = try range(storage.key) else {
                throw CheckpointError(
                    "the tensor \(quoted(name)) has its numbers in \(quoted(storage.key)), which is missing")
            }
            let size = try byteCount(of: storage)
            guard size <= range.count else {
                throw CheckpointError(
                    "the storage of the tensor \(quoted(name)) takes \(size) bytes, but has \(range.count)")
            }
            tensors.append(
                try stored(
                    name, tensor, memory, bytes, range.lowerBound..<(range.lowerBound + size), budget: &budget))
        }
        return try Checkpoint(
            name: memory.name, tensors: tensors, metadata: [:], format: format, modules: modules)
    }

    /// The tensors of a dictionary of names, or of the one that a training wrapped.
    private static func stateDictionary(
        _ value: Pickle.Value, _ machine: Pickle
    ) throws(CheckpointError) -> [(name: String, tensor: Int)] {
        guard case .dictionary(var index) = value else {
            throw CheckpointError("it holds no dictionary of names and tensors")
        }
        func member(_ name: String) -> Int? {
            for (key, value) in machine.dictionaries[index] {
                if case .string(name) = key, case .dictionary(let inner) = value { return inner }
            }
            return nil
        }
        for wrapper in wrappers {
            guard let inner = member(wrapper) else { continue }
            index = inner
            break
        }
        // As in Python, the last of two equal keys counts, in the place of the first.
        var places: [String: Int] = [:]
        var named: [(name: String, tensor: Int)] = []
        for (key, value) in machine.dictionaries[index] {
            guard case .string(let name) = key, case .tensor(let tensor) = value else { continue }
            if let place = places[name] {
                named[place].tensor = tensor
            } else {
                places[name] = named.count
                named.append((name, tensor))
            }
        }
        guard !named.isEmpty else {
            let keys = machine.dictionaries[index].prefix(8).compactMap {
                if case .string(let key) = $0.key { quoted(key) } else { nil }
            }
            throw CheckpointError(
                "it holds no tensors by name; its dictionary has the keys \(keys.joined(separator: ", "))")
        }
        return named
    }

    /// The tensors among the attributes of a TorchScript module and of those within it, by their paths.
    private static func collect(
        _ root: Int, _ machine: Pickle, _ named: inout [(name: String, tensor: Int)],
        _ modules: inout [String: String]
    ) throws(CheckpointError) {
        var pending = [(object: root, path: "", depth: 0)]
        var visited = 0
        while let (object, path, depth) = pending.popLast() {
            visited += 1
            guard visited <= mostObjects, named.count <= mostTensors else {
                throw CheckpointError("it holds more than \(mostObjects) modules or \(mostTensors) tensors")
            }
            guard depth < deepest else { throw CheckpointError("its modules are nested more than \(deepest) deep") }
            modules[path] = machine.objects[object].className
            guard let attributes = machine.objects[object].attributes else { continue }
            for (key, value) in machine.dictionaries[attributes] {
                guard case .string(let key) = key else { continue }
                let name = path.isEmpty ? key : path + "." + key
                switch value {
                case .tensor(let tensor): named.append((name, tensor))
                case .object(let inner): pending.append((inner, name, depth + 1))
                default: break
                }
            }
        }
    }

    private static func stored(
        _ name: String, _ tensor: Pickle.Tensor, _ memory: any TensorMemory, _ bytes: UnsafeRawBufferPointer,
        _ storage: Range<Int>, budget: inout Int
    ) throws(CheckpointError) -> StoredTensor {
        let outside = CheckpointError(
            "the tensor \(quoted(name)) of shape \(tensor.shape) and strides \(tensor.strides) at \(tensor.offset) lies "
                + "outside its storage of \(storage.count) bytes")
        let width = tensor.type.bitCount / 8
        guard let size = Checkpoints.byteCount(of: tensor.shape, tensor.type) else { throw outside }
        if size == 0 {
            return StoredTensor(
                name: name, shape: tensor.shape, type: tensor.type, memory: memory,
                range: storage.lowerBound..<storage.lowerBound)
        }
        // The last element reached must lie within; PyTorch's strides are never negative.
        var last = tensor.offset
        for (dimension, stride) in zip(tensor.shape, tensor.strides) {
            let (step, overflow) = (dimension - 1).multipliedReportingOverflow(by: stride)
            let (sum, overflowed) = last.addingReportingOverflow(step)
            if overflow || overflowed { throw outside }
            last = sum
        }
        guard last < storage.count / width else { throw outside }
        var contiguous = true
        var expected = 1
        for (dimension, stride) in zip(tensor.shape, tensor.strides).reversed() where dimension != 1 {
            contiguous = contiguous && stride == expected
            expected *= dimension
        }
        let start = storage.lowerBound + tensor.offset * width
        if contiguous {
            return StoredTensor(
                name: name, shape: tensor.shape, type: tensor.type, memory: memory, range: start..<(start + size))
        }
        guard size <= budget else {
            throw CheckpointError(
                "the tensor \(quoted(name)) of shape \(tensor.shape) has the strides \(tensor.strides), and such tensors "
                    + "together would take more memory than the file; save it after .contiguous()")
        }
        budget -= size
        let copy = GatheredMemory(name: memory.name, byteCount: size)
        copy.gather(bytes, at: start, width: width, shape: tensor.shape, strides: tensor.strides)
        return StoredTensor(name: name, shape: tensor.shape, type: tensor.type, memory: copy, range: 0..<size)
    }
}

/// A tensor that did not lie contiguously in its file, in an order that does.
private final class GatheredMemory: TensorMemory {
    let name: String
    // An address as a number, since pointers are not `Sendable`; written to once, before anyone else sees it.
    private let address: UInt
    private let count: Int

    init(name: String, byteCount: Int) {
        self.name = name
        count = byteCount
        address = UInt(bitPattern: UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 16))
    }

    deinit { UnsafeMutableRawPointer(bitPattern: address)?.deallocate() }

    /// Copies elements of `width` bytes, the last dimension fastest; every one lies within `source`.
    func gather(_ source: UnsafeRawBufferPointer, at start: Int, width: Int, shape: [Int], strides: [Int]) {
        guard let target = UnsafeMutableRawPointer(bitPattern: address), let base = source.baseAddress else { return }
        var position = [Int](repeating: 0, count: shape.count)
        var element = 0
        for index in 0..<(count / width) {
            target.advanced(by: index * width).copyMemory(from: base + start + element * width, byteCount: width)
            for dimension in shape.indices.reversed() {
                position[dimension] += 1
                element += strides[dimension]
                if position[dimension] < shape[dimension] { break }
                element -= position[dimension] * strides[dimension]
                position[dimension] = 0
            }
        }
    }

    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: count)
    }
    func willNeed(_ range: Range<Int>) {}
    func letGo(_ range: Range<Int>) {}
}
