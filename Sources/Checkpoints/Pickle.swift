// Python's pickle format, of which only data are read: numbers, strings, containers and PyTorch's tensors.
// https://docs.python.org/3/library/pickletools.html lists the opcodes; Lib/pickle.py defines them.
//
// A pickle is a program that may call any function of any module. Nothing is called here: every function that PyTorch
// writes into a file of weights is known by name and means a value; any other name is refused.

/// A stack machine for pickles. Containers are kept in arenas and spoken of by number, so that neither deep nesting nor
/// a container that holds itself costs stack or memory.
struct Pickle {
    enum Value {
        case none
        case boolean(Bool)
        case integer(Int)
        case number(Double)
        case string(String)
        /// Bytes, and integers beyond 64 bits: of no use here.
        case opaque
        /// The integer that legacy files begin with.
        case legacyMagic
        /// Tuples and lists, by their place in `lists`. Sets are lists too.
        case list(Int)
        case dictionary(Int)
        /// An object of TorchScript, by its place in `objects`.
        case object(Int)
        case name(Name)
        case storage(Int)
        case tensor(Int)
    }

    /// What a name of Python may mean in a file of weights.
    enum Name {
        case orderedDictionary
        /// `torch.Size`, `torch.device`, and TorchScript's typed lists: their argument.
        case identity
        /// Bytes, written as the call of a codec, and values that an optimizer keeps.
        case opaque
        case rebuildTensor
        case rebuildParameter
        /// A tensor or parameter with attributes: the function, a type, its arguments, the attributes.
        case rebuildFromType
        /// Its elements' type, or none for storages of mere bytes.
        case storageType(StoredType?)
        case elementType(StoredType)
        /// A class of a TorchScript archive.
        case scriptClass(String)
    }

    /// Elements in the file, not yet looked for.
    struct Storage {
        var key: String
        var type: StoredType?
        /// Elements; bytes where there is no type.
        var count: Int
    }

    struct Tensor {
        var storage: Int
        var type: StoredType
        /// Elements.
        var offset: Int
        var shape: [Int]
        /// Elements.
        var strides: [Int]
    }

    private(set) var lists: [[Value]] = []
    private(set) var dictionaries: [[(key: Value, value: Value)]] = []
    private(set) var objects: [(className: String, attributes: Int?)] = []
    private(set) var storages: [Storage] = []
    private(set) var tensors: [Tensor] = []

    private var stack: [Value] = []
    private var marks: [Int] = []
    private var memo: [Int: Value] = [:]
    private var copiedPairs = 0

    /// Opcodes of one pickle; the largest checkpoints, optimizer included, have some hundred thousand.
    private static let mostOperations = 1 << 23
    private static let mostDimensions = 32

    init() {}

    /// Runs one pickle up to its STOP and returns its value. What it refers to stays in the arenas.
    mutating func read(_ cursor: inout ByteCursor) throws(CheckpointError) -> Value {
        stack = []
        marks = []
        memo = [:]
        for _ in 0..<Self.mostOperations {
            let position = cursor.position
            let operation = try cursor.uint8()
            if operation == UInt8(ascii: ".") { return try pop() }
            do throws(CheckpointError) {
                try run(operation, &cursor)
            } catch {
                throw CheckpointError("\(error.description) (pickle, byte \(position))")
            }
        }
        throw CheckpointError("its pickle has more than \(Self.mostOperations) operations")
    }

    private mutating func run(_ operation: UInt8, _ cursor: inout ByteCursor) throws(CheckpointError) {
        switch operation {
        // Protocol and frames
        case 0x80:
            let version = try cursor.uint8()
            guard version <= 5 else { throw CheckpointError("pickle protocol \(version) is unknown") }
        case 0x95: _ = try cursor.uint64()

        // Stack and memo
        case UInt8(ascii: "("): marks.append(stack.count)
        case UInt8(ascii: "0"): _ = try pop()
        case UInt8(ascii: "1"): _ = try popToMark()
        case UInt8(ascii: "2"): stack.append(try top())
        case UInt8(ascii: "q"): memo[Int(try cursor.uint8())] = try top()
        case UInt8(ascii: "r"): memo[Int(try cursor.uint32())] = try top()
        case 0x94: memo[memo.count] = try top()
        case UInt8(ascii: "h"): try get(Int(try cursor.uint8()))
        case UInt8(ascii: "j"): try get(Int(try cursor.uint32()))

        // Constants
        case UInt8(ascii: "N"): stack.append(.none)
        case 0x88: stack.append(.boolean(true))
        case 0x89: stack.append(.boolean(false))
        case UInt8(ascii: "I"):
            let text = try cursor.line()
            if text == "01" || text == "00" {
                stack.append(.boolean(text == "01"))
            } else {
                stack.append(Int(text).map { .integer($0) } ?? .opaque)
            }
        case UInt8(ascii: "J"): stack.append(.integer(Int(Int32(bitPattern: try cursor.uint32()))))
        case UInt8(ascii: "K"): stack.append(.integer(Int(try cursor.uint8())))
        case UInt8(ascii: "M"): stack.append(.integer(Int(try cursor.uint16())))
        case 0x8A: stack.append(try long(try cursor.part(Int(try cursor.uint8()))))
        case 0x8B: stack.append(try long(try cursor.part(Int(try cursor.uint32()))))
        case UInt8(ascii: "G"):
            stack.append(.number(Double(bitPattern: UInt64(bigEndian: (try cursor.uint64()).littleEndian))))
        case UInt8(ascii: "X"), UInt8(ascii: "T"): stack.append(.string(try cursor.text(Int(try cursor.uint32()))))
        case 0x8C, UInt8(ascii: "U"): stack.append(.string(try cursor.text(Int(try cursor.uint8()))))
        case 0x8D: stack.append(.string(try cursor.text(try length(&cursor))))
        case UInt8(ascii: "B"): try opaque(Int(try cursor.uint32()), &cursor)
        case UInt8(ascii: "C"): try opaque(Int(try cursor.uint8()), &cursor)
        case 0x8E, 0x96: try opaque(try length(&cursor), &cursor)

        // Containers
        case UInt8(ascii: ")"), UInt8(ascii: "]"), 0x8F: appendList([])
        case UInt8(ascii: "t"), UInt8(ascii: "l"): appendList(try popToMark())
        case 0x85...0x87:
            let count = Int(operation) - 0x84
            guard stack.count - (marks.last ?? 0) >= count else { throw Self.empty }
            let elements = Array(stack.suffix(count))
            stack.removeLast(count)
            appendList(elements)
        case UInt8(ascii: "a"): try extend(with: [try pop()])
        case UInt8(ascii: "e"), 0x90: try extend(with: try popToMark())
        case UInt8(ascii: "}"): appendDictionary([])
        case UInt8(ascii: "d"): appendDictionary(try Self.pairs(try popToMark()))
        case UInt8(ascii: "s"):
            let value = try pop()
            let key = try pop()
            try extend(with: [(key, value)])
        case UInt8(ascii: "u"): try extend(with: try Self.pairs(try popToMark()))

        // Names, and what is made of them
        case UInt8(ascii: "c"):
            let module = try cursor.line()
            stack.append(.name(try Self.name(module, try cursor.line())))
        case 0x93:
            guard case .string(let name) = try pop(), case .string(let module) = try pop() else {
                throw CheckpointError("a name that is no string")
            }
            stack.append(.name(try Self.name(module, name)))
        case UInt8(ascii: "R"), 0x81:
            let arguments = try elements(of: try pop())
            guard case .name(let name) = try pop() else { throw CheckpointError("a call of what is no function") }
            try make(name, arguments)
        case UInt8(ascii: "b"):
            let state = try pop()
            try build(state)
        case UInt8(ascii: "Q"): try persistent(try pop())
        default:
            let shown =
                operation > 0x20 && operation < 0x7F ? "'\(Character(UnicodeScalar(operation)))'" : "\(operation)"
            throw CheckpointError("the pickle opcode \(shown) is none that files of weights have")
        }
    }

    // MARK: Stack

    private static var empty: CheckpointError { CheckpointError("the pickle takes a value from an empty stack") }

    private mutating func pop() throws(CheckpointError) -> Value {
        guard stack.count > marks.last ?? 0, let value = stack.popLast() else { throw Self.empty }
        return value
    }

    private func top() throws(CheckpointError) -> Value {
        guard stack.count > marks.last ?? 0, let value = stack.last else { throw Self.empty }
        return value
    }

    private mutating func popToMark() throws(CheckpointError) -> [Value] {
        guard let mark = marks.popLast() else { throw CheckpointError("the pickle looks for a mark that was not set") }
        defer { stack.removeSubrange(mark...) }
        return Array(stack[mark...])
    }

    private mutating func get(_ index: Int) throws(CheckpointError) {
        guard let value = memo[index] else { throw CheckpointError("the pickle's memo has no entry \(index)") }
        stack.append(value)
    }

    private mutating func length(_ cursor: inout ByteCursor) throws(CheckpointError) -> Int {
        let length = try cursor.uint64()
        guard length <= UInt64(Int.max) else { throw CheckpointError("a length of \(length) bytes") }
        return Int(length)
    }

    private mutating func opaque(_ count: Int, _ cursor: inout ByteCursor) throws(CheckpointError) {
        try cursor.skip(count)
        stack.append(.opaque)
    }

    /// Two's complement, little-endian.
    private func long(_ digits: ByteCursor) throws(CheckpointError) -> Value {
        var digits = digits
        var bytes: [UInt8] = []
        guard digits.end - digits.position <= 16 else { return .opaque }
        while digits.position < digits.end { bytes.append(try digits.uint8()) }
        if bytes == [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19] { return .legacyMagic }
        guard bytes.count <= 8 else { return .opaque }
        var value: UInt64 = (bytes.last ?? 0) >= 0x80 ? .max : 0
        for byte in bytes.reversed() { value = value << 8 | UInt64(byte) }
        return .integer(Int(Int64(bitPattern: value)))
    }

    // MARK: Containers

    private mutating func appendList(_ elements: [Value]) {
        stack.append(.list(lists.count))
        lists.append(elements)
    }

    private mutating func appendDictionary(_ pairs: [(key: Value, value: Value)]) {
        stack.append(.dictionary(dictionaries.count))
        dictionaries.append(pairs)
    }

    private static func pairs(_ values: [Value]) throws(CheckpointError) -> [(key: Value, value: Value)] {
        guard values.count % 2 == 0 else { throw CheckpointError("a dictionary with a key that has no value") }
        return stride(from: 0, to: values.count, by: 2).map { (values[$0], values[$0 + 1]) }
    }

    private mutating func extend(with elements: [Value]) throws(CheckpointError) {
        guard case .list(let index) = try top() else { throw CheckpointError("an element for what is no list") }
        lists[index] += elements
    }

    private mutating func extend(with pairs: [(key: Value, value: Value)]) throws(CheckpointError) {
        guard case .dictionary(let index) = try top() else { throw CheckpointError("a key for what is no dictionary") }
        dictionaries[index] += pairs
    }

    private func elements(of value: Value) throws(CheckpointError) -> [Value] {
        guard case .list(let index) = value else { throw CheckpointError("a tuple was expected") }
        return lists[index]
    }

    // MARK: Names

    /// The element types of PyTorch's storages and tensors by name.
    private static let storageTypes: [String: StoredType] = [
        "FloatStorage": .float32, "HalfStorage": .float16, "BFloat16Storage": .bfloat16, "DoubleStorage": .float64,
        "LongStorage": .int64, "IntStorage": .int32, "ShortStorage": .int16, "CharStorage": .int8,
        "ByteStorage": .uint8, "BoolStorage": .bool, "ComplexFloatStorage": .complex64,
    ]
    private static let elementTypes: [String: StoredType] = [
        "float32": .float32, "float": .float32, "float16": .float16, "half": .float16, "bfloat16": .bfloat16,
        "float64": .float64, "double": .float64, "int64": .int64, "int32": .int32, "int16": .int16, "int8": .int8,
        "uint8": .uint8, "uint16": .uint16, "uint32": .uint32, "uint64": .uint64, "bool": .bool,
        "complex64": .complex64, "float8_e4m3fn": .float8E4M3, "float8_e5m2": .float8E5M2,
    ]

    private static func name(_ module: String, _ name: String) throws(CheckpointError) -> Name {
        switch (module, name) {
        case ("collections", "OrderedDict"): return .orderedDictionary
        case ("torch", "Size"), ("torch", "device"), ("torch.jit._pickle", "restore_type_tag"),
            ("torch.jit._pickle", "build_intlist"),
            ("torch.jit._pickle", "build_doublelist"), ("torch.jit._pickle", "build_boollist"),
            ("torch.jit._pickle", "build_tensorlist"):
            return .identity
        case ("_codecs", "encode"), ("collections", "Counter"), ("torch.nn.parameter", "Parameter"),
            ("torch", "Tensor"),
            ("builtins", "set"), ("__builtin__", "set"), ("builtins", "bytearray"), ("__builtin__", "bytearray"),
            ("builtins", "complex"), ("__builtin__", "complex"):
            return .opaque
        case ("torch._tensor", "_rebuild_from_type_v2"): return .rebuildFromType
        case ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"),
            ("torch._utils", "_rebuild_tensor_v3"):
            return .rebuildTensor
        case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
            return .rebuildParameter
        case ("torch", "UntypedStorage"), ("torch.storage", "UntypedStorage"): return .storageType(nil)
        case ("torch", _), ("torch.cuda", _), ("torch.storage", _):
            if let type = storageTypes[name] { return .storageType(type) }
            if module == "torch", let type = elementTypes[name] { return .elementType(type) }
        default:
            if module == "__torch__" || module.hasPrefix("__torch__.") { return .scriptClass("\(module).\(name)") }
        }
        throw CheckpointError(
            "the pickle asks for \(quoted("\(module).\(name)")), which a file of weights does not need and which could "
                + "run code; only tensors and containers are read. Save the model's state_dict() instead, or convert "
                + "the file to safetensors where you trust it")
    }

    private mutating func make(_ name: Name, _ arguments: [Value]) throws(CheckpointError) {
        switch name {
        case .orderedDictionary:
            guard let argument = arguments.first else { return appendDictionary([]) }
            // Python 2 wrote a list of pairs.
            var pairs: [(key: Value, value: Value)] = []
            for pair in try elements(of: argument) {
                let pair = try elements(of: pair)
                guard pair.count == 2 else { throw CheckpointError("a dictionary made of what are no pairs") }
                pairs.append((pair[0], pair[1]))
            }
            // One list may be made into many dictionaries.
            copiedPairs += pairs.count
            guard copiedPairs <= Self.mostOperations else {
                throw CheckpointError("its dictionaries hold more than \(Self.mostOperations) pairs")
            }
            appendDictionary(pairs)
        case .identity, .rebuildParameter:
            guard let value = arguments.first else { throw CheckpointError("a call without arguments") }
            stack.append(value)
        case .opaque: stack.append(.opaque)
        case .rebuildTensor: try rebuildTensor(arguments)
        case .rebuildFromType:
            guard arguments.count == 4, case .name(let function) = arguments[0] else {
                throw CheckpointError("a tensor with attributes that names no function")
            }
            switch function {
            case .rebuildTensor, .rebuildParameter: try make(function, elements(of: arguments[2]))
            default: throw CheckpointError("a tensor with attributes that is made by another function")
            }
        case .scriptClass(let name):
            stack.append(.object(objects.count))
            objects.append((name, nil))
        case .storageType, .elementType: throw CheckpointError("a call of a type that is no function")
        }
    }

    /// What is built here has no state but a TorchScript object's attributes.
    private mutating func build(_ state: Value) throws(CheckpointError) {
        switch try top() {
        case .object(let index):
            guard case .dictionary(let attributes) = state else {
                throw CheckpointError(
                    "the TorchScript object \(quoted(objects[index].className)) has a state that is no dictionary")
            }
            objects[index].attributes = attributes
        case .dictionary: break  // a state_dict's `_metadata`: versions of modules
        default: throw CheckpointError("a state for what has none")
        }
    }

    /// `("storage", type, key, location, count)`
    private mutating func persistent(_ identifier: Value) throws(CheckpointError) {
        let parts = try elements(of: identifier)
        guard parts.count >= 5, case .string("storage") = parts[0], case .name(.storageType(let type)) = parts[1],
            case .string(let key) = parts[2], case .integer(let count) = parts[4], count >= 0
        else {
            throw CheckpointError("the pickle refers to something outside itself that is no storage of a tensor")
        }
        if parts.count > 5, case .none = parts[5] {
        } else if parts.count > 5 {
            throw CheckpointError("a storage that is part of another, as PyTorch before 0.4 wrote them, is not read")
        }
        stack.append(.storage(storages.count))
        storages.append(Storage(key: key, type: type, count: count))
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`; v3 has the element type in 7th place.
    private mutating func rebuildTensor(_ arguments: [Value]) throws(CheckpointError) {
        guard arguments.count >= 4, case .storage(let storage) = arguments[0], case .integer(let offset) = arguments[1]
        else {
            throw CheckpointError("a tensor that is made of no storage")
        }
        let shape = try integers(arguments[2])
        let strides = try integers(arguments[3])
        guard offset >= 0, shape.count == strides.count, shape.count <= Self.mostDimensions,
            shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 })
        else {
            throw CheckpointError("a tensor of shape \(shape), strides \(strides) and offset \(offset)")
        }
        var type = storages[storage].type
        if arguments.count > 6, case .name(.elementType(let given)) = arguments[6] { type = given }
        guard let type else { throw CheckpointError("a tensor without a type of elements") }
        stack.append(.tensor(tensors.count))
        tensors.append(Tensor(storage: storage, type: type, offset: offset, shape: shape, strides: strides))
    }

    private func integers(_ value: Value) throws(CheckpointError) -> [Int] {
        let elements = try elements(of: value)
        guard elements.count <= Self.mostDimensions else { throw CheckpointError("\(elements.count) dimensions") }
        var integers: [Int] = []
        for element in elements {
            guard case .integer(let integer) = element else { throw CheckpointError("a dimension that is no integer") }
            integers.append(integer)
        }
        return integers
    }
}
