// Weights as they lie in a file: what the model floor hands to a backend at load.

import CHalves

/// How one number is stored.
package enum ElementType: String, Sendable, CaseIterable {
    case float32, float16, bfloat16, float64

    package var byteCount: Int {
        switch self {
        case .float32: 4
        case .float16, .bfloat16: 2
        case .float64: 8
        }
    }
}

/// Memory whose pages can leave this process and come back, as a mapped file's.
package protocol ReleasableMemory: AnyObject {
    /// These bytes are not needed soon. They stay readable.
    func letGo(_ bytes: UnsafeRawBufferPointer)
}

/// A read-only tensor in host memory, row-major (the last dimension is contiguous), not necessarily aligned.
///
/// The bytes usually belong to a mapped file. `owner` keeps them alive; a backend that has packed what it needs
/// drops the tensor, and with it the file's pages.
package struct HostTensor {
    package let shape: [Int]
    package let elementType: ElementType
    package let bytes: UnsafeRawBufferPointer
    package let owner: AnyObject?

    /// The caller guarantees that `bytes` holds exactly the elements of `shape` for as long as `owner` lives.
    package init(shape: [Int], elementType: ElementType, bytes: UnsafeRawBufferPointer, owner: AnyObject?) {
        self.shape = shape
        self.elementType = elementType
        self.bytes = bytes
        self.owner = owner
    }

    /// A tensor of its own memory, as the model floor makes them when it folds one weight into another.
    package init(_ values: [Float], shape: [Int]) {
        precondition(values.count == shape.reduce(1, *), "\(values.count) values do not fill the shape \(shape)")
        let storage = FloatStorage(values)
        self.init(
            shape: shape, elementType: .float32, bytes: UnsafeRawBufferPointer(storage.values), owner: storage)
    }

    package var count: Int { shape.reduce(1, *) }

    /// Called by a backend that has packed it: what comes next finds its pages gone from memory.
    package func letGo() { (owner as? any ReleasableMemory)?.letGo(bytes) }

    /// The elements as float32: exact for float32, float16 and bfloat16, rounded to nearest for float64.
    package func floats() -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            copyFloats(from: 0, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }

    /// Writes the elements `start ..< start + destination.count` as float32 into `destination`.
    package func copyFloats(from start: Int, into destination: UnsafeMutableBufferPointer<Float>) {
        guard let target = destination.baseAddress, let base = bytes.baseAddress, !destination.isEmpty else { return }
        precondition(start >= 0 && start + destination.count <= count, "elements outside the tensor")
        // Without this mention the compiler may release the owner before the last byte is read.
        defer { withExtendedLifetime(owner) {} }
        let source = base + start * elementType.byteCount
        switch elementType {
        case .float32:
            UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: destination.count * 4)
        case .float16:
            ch_floats(target, source, destination.count)
        case .bfloat16:
            for i in 0..<destination.count {
                let bits = source.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)
                target[i] = Float(bitPattern: UInt32(bits) << 16)
            }
        case .float64:
            for i in 0..<destination.count {
                target[i] = Float(source.loadUnaligned(fromByteOffset: i * 8, as: Double.self))
            }
        }
    }
}

/// Floats with an address that does not move.
private final class FloatStorage {
    let values: UnsafeMutableBufferPointer<Float>

    init(_ source: [Float]) {
        values = .allocate(capacity: source.count)
        _ = values.initialize(from: source)
    }

    deinit { values.deallocate() }
}

/// A weight matrix `[rows, columns]` whose rows may lie in several tensors (query, key and value; the halves of a
/// gate) and which may be stored transposed (`visual.proj` of OpenAI's checkpoints is `[inputs, outputs]`).
package struct HostMatrix {
    /// Stacked by rows. Each is `[rows, columns]` (further dimensions flattened into columns), or `[columns, rows]`
    /// where `transposed`.
    package let parts: [HostTensor]
    package let transposed: Bool

    package init(_ parts: [HostTensor], transposed: Bool = false) {
        precondition(!parts.isEmpty && parts.allSatisfy { $0.shape.count >= 2 }, "a matrix needs two dimensions")
        self.parts = parts
        self.transposed = transposed
    }

    package init(_ tensor: HostTensor, transposed: Bool = false) {
        self.init([tensor], transposed: transposed)
    }

    package var rows: Int { parts.reduce(0) { $0 + rows(of: $1) } }
    package var columns: Int {
        transposed ? parts[0].shape[0] : parts[0].shape.dropFirst().reduce(1, *)
    }

    /// Called by a backend that has packed it.
    package func letGo() { for part in parts { part.letGo() } }

    private func rows(of part: HostTensor) -> Int {
        transposed ? part.shape.dropFirst().reduce(1, *) : part.shape[0]
    }

    /// Writes the given rows as float32, row-major, into `destination` (`range.count * columns` elements).
    package func copyRows(_ range: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) {
        let columns = columns
        precondition(destination.count == range.count * columns, "destination does not fit the rows")
        var first = 0
        for part in parts {
            let count = rows(of: part)
            defer { first += count }
            let wanted = range.clamped(to: first..<(first + count))
            if wanted.isEmpty { continue }
            let target = UnsafeMutableBufferPointer(
                rebasing: destination[((wanted.lowerBound - range.lowerBound) * columns)...].prefix(
                    wanted.count * columns))
            let local = wanted.lowerBound - first
            if !transposed {
                part.copyFloats(from: local * columns, into: target)
                continue
            }
            // Stored [columns, count]: read stored rows whole and scatter, which walks the file in order.
            withUnsafeTemporaryAllocation(of: Float.self, capacity: wanted.count) { line in
                for column in 0..<columns {
                    part.copyFloats(from: column * count + local, into: line)
                    for row in 0..<wanted.count { target[row * columns + column] = line[row] }
                }
            }
        }
    }

    /// All elements as float32, `[rows, columns]` row-major.
    package func floats() -> [Float] {
        let count = rows * columns
        return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            copyRows(0..<rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }
}
