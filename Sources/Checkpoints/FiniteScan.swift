// Finds NaN and infinity in weights, at the speed of memory.
import Dispatch
import Synchronization

extension StoredTensor {
    /// The index of the first element that is NaN or infinite; none for element types that have neither. Large tensors
    /// are shared out over all cores: this is where a file's pages come into the process, which takes longer than looking.
    ///
    /// A number is one or the other where all bits of its exponent are set. Adding one to the exponent then carries
    /// into the sign bit, so a whole block is checked with three integer operations an element and no branch.
    package func firstNonFinite() -> Int? {
        let (bytes, share) = (range.count, 1 << 20)
        let shares = (bytes + share - 1) / share
        if shares <= 1 { return firstNonFinite(in: 0..<bytes) }
        let first = Mutex<Int?>(nil)
        DispatchQueue.concurrentPerform(iterations: shares) { index in
            let part = (index * share)..<min((index + 1) * share, bytes)
            guard let found = firstNonFinite(in: part) else { return }
            first.withLock { $0 = min($0 ?? found, found) }
        }
        return first.withLock(\.self)
    }

    /// Of so many of the tensor's bytes, whole elements; the index is the tensor's.
    private func firstNonFinite(in part: Range<Int>) -> Int? {
        withBytes { bytes in
            let bytes = UnsafeRawBufferPointer(rebasing: bytes[part])
            let found: Int? =
                switch type {
                case .float32: Self.firstNonFinite(bytes, SIMD16<UInt32>.self, magnitude: 0x7FFF_FFFF, one: 0x0080_0000)
                case .float16: Self.firstNonFinite(bytes, SIMD32<UInt16>.self, magnitude: 0x7FFF, one: 0x0400)
                case .bfloat16: Self.firstNonFinite(bytes, SIMD32<UInt16>.self, magnitude: 0x7FFF, one: 0x0080)
                case .float64:
                    Self.firstNonFinite(
                        bytes, SIMD8<UInt64>.self, magnitude: 0x7FFF_FFFF_FFFF_FFFF, one: 0x0010_0000_0000_0000)
                default: nil
                }
            return found.map { part.lowerBound * 8 / type.bitCount + $0 }
        }
    }

    @inline(__always)
    private static func firstNonFinite<Vector: SIMD>(
        _ bytes: UnsafeRawBufferPointer, _: Vector.Type, magnitude: Vector.Scalar, one: Vector.Scalar
    ) -> Int? where Vector.Scalar: FixedWidthInteger & UnsignedInteger {
        guard let base = bytes.baseAddress else { return nil }
        let size = MemoryLayout<Vector.Scalar>.size
        let count = bytes.count / size
        let lanes = Vector.scalarCount
        let block = 64 * lanes
        var start = 0
        // Whole blocks; the first that holds one is searched below, as is the rest.
        while start + block <= count {
            var carries = Vector(repeating: 0)
            for i in 0..<64 {
                let bits = base.loadUnaligned(fromByteOffset: (start + i * lanes) * size, as: Vector.self)
                carries |= (bits & Vector(repeating: magnitude)) &+ Vector(repeating: one)
            }
            if (carries & Vector(repeating: ~magnitude)) != Vector(repeating: 0) { break }
            start += block
        }
        return (start..<count).first {
            (base.loadUnaligned(fromByteOffset: $0 * size, as: Vector.Scalar.self) & magnitude) &+ one > magnitude
        }
    }
}
