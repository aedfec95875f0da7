// What every format of weights becomes: names and tensors.

/// How a number lies in a file. All are little-endian.
package enum StoredType: String, Sendable, CaseIterable {
    case bool = "BOOL"
    case int8 = "I8"
    case uint8 = "U8"
    case int16 = "I16"
    case uint16 = "U16"
    case int32 = "I32"
    case uint32 = "U32"
    case int64 = "I64"
    case uint64 = "U64"
    case float8E4M3 = "F8_E4M3"
    case float8E5M2 = "F8_E5M2"
    case float8E8M0 = "F8_E8M0"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case float32 = "F32"
    case float64 = "F64"
    case complex64 = "C64"
    case float4 = "F4"
    case float6E2M3 = "F6_E2M3"
    case float6E3M2 = "F6_E3M2"

    package var bitCount: Int {
        switch self {
        case .float4: 4
        case .float6E2M3, .float6E3M2: 6
        case .bool, .int8, .uint8, .float8E4M3, .float8E5M2, .float8E8M0: 8
        case .int16, .uint16, .float16, .bfloat16: 16
        case .int32, .uint32, .float32: 32
        case .int64, .uint64, .float64, .complex64: 64
        }
    }
}

/// A tensor where it lies: row-major, the last dimension contiguous, not necessarily aligned.
package struct StoredTensor: Sendable {
    package let name: String
    package let shape: [Int]
    package let type: StoredType
    package let memory: any TensorMemory
    /// Its bytes within `memory`: as many as `shape` and `type` say.
    package let range: Range<Int>

    package init(name: String, shape: [Int], type: StoredType, memory: any TensorMemory, range: Range<Int>) {
        self.name = name
        self.shape = shape
        self.type = type
        self.memory = memory
        self.range = range
    }

    /// Where its bytes lie. Valid while `memory` is held, which a mere use of the pointer does not ensure.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory.bytes[range]) }

    /// Lends the tensor's bytes.
    package func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try memory.withBytes { (bytes) throws(Failure) in try body(UnsafeRawBufferPointer(rebasing: bytes[range])) }
    }

    /// Elements; the product of the shape, which was checked to fit when the file was read.
    package var count: Int { shape.reduce(1, *) }
}

/// Named tensors, whatever file they came from.
package struct Checkpoint: Sendable {
    /// What kind of file it is, as far as that says something about the model.
    package enum Format: Sendable {
        case safetensors
        /// A pickled dictionary of names and tensors.
        case stateDictionary
        /// A program with its tensors, of which the tensors were read.
        case torchScript
    }

    /// What it was read from: a path.
    package let name: String
    /// In the order in which they lie in their file or files. All names differ.
    package let tensors: [StoredTensor]
    /// What the file says about itself.
    package let metadata: [String: String]
    package let format: Format
    /// The classes of a TorchScript archive's modules by their paths; empty for other formats.
    package let modules: [String: String]
    private let indices: [String: Int]

    package init(
        name: String, tensors: [StoredTensor], metadata: [String: String], format: Format = .safetensors,
        modules: [String: String] = [:]
    ) throws(CheckpointError) {
        self.name = name
        self.tensors = tensors
        self.metadata = metadata
        self.format = format
        self.modules = modules
        var indices = [String: Int](minimumCapacity: tensors.count)
        for (index, tensor) in tensors.enumerated() {
            if let other = indices.updateValue(index, forKey: tensor.name) {
                throw CheckpointError(
                    "\(name) holds the tensor \(quoted(tensor.name)) twice, in \(tensors[other].memory.name) and "
                        + "in \(tensor.memory.name)")
            }
        }
        self.indices = indices
    }

    package subscript(name: String) -> StoredTensor? { indices[name].map { tensors[$0] } }

    /// Reads a file of any format, told apart by its first bytes, not by its name; or several, by the name of their
    /// index.
    package static func open(path: String) throws(CheckpointError) -> Checkpoint {
        let whole = path.hasSuffix(indexSuffix) ? try openSharded(indexPath: path) : try openFile(path: path)
        return try whole.unwrapped()
    }

    /// Without the "module." before every name, of a model that several devices trained: torch.nn.DataParallel and its kin.
    func unwrapped() throws(CheckpointError) -> Checkpoint {
        let wrapping = "module."
        guard !tensors.isEmpty, tensors.allSatisfy({ $0.name.hasPrefix(wrapping) }) else { return self }
        let tensors = tensors.map {
            StoredTensor(
                name: String($0.name.dropFirst(wrapping.count)), shape: $0.shape, type: $0.type, memory: $0.memory,
                range: $0.range)
        }
        return try Checkpoint(name: name, tensors: tensors, metadata: metadata, format: format, modules: modules)
    }

    /// What the names of indexes end in.
    package static let indexSuffix = ".index.json"

    static func openFile(path: String) throws(CheckpointError) -> Checkpoint {
        let file = try MappedFile(path: path)
        if file.withBytes({ PyTorchArchive.matches($0) }) { return try PyTorchArchive.read(file) }
        guard path.hasSuffix(".safetensors") || file.withBytes({ Safetensors.matches($0) }) else {
            throw CheckpointError(
                "\(path) holds no weights in a known form: expected safetensors or a file of PyTorch's (a zip archive or a "
                    + "pickle); a model with a configuration beside it is opened by the name of its folder")
        }
        return try Safetensors.read(file)
    }
}

/// Bytes that elements of this shape fill, or none where the number does not fit or is no whole number.
func byteCount(of shape: [Int], _ type: StoredType) -> Int? {
    // Dimensions of 0 count as 1 at first, so that every product of some of the dimensions fits too.
    var bits = type.bitCount
    for dimension in shape where dimension != 0 {
        let (product, overflow) = bits.multipliedReportingOverflow(by: dimension)
        if overflow { return nil }
        bits = product
    }
    if shape.contains(0) { return 0 }
    return bits % 8 == 0 ? bits / 8 : nil
}
