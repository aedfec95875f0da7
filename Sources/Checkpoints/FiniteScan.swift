// Finds NaN and infinity in weights, at the speed of memory.

extension StoredTensor {
    /// The index of the first element that is NaN or infinite; none for element types that have neither.
    ///
    /// A number is one or the other where all bits of its exponent are set. Adding one to the exponent then carries
    /// into the sign bit, so a whole block is checked with three integer operations an element and no branch.
    package func firstNonFinite() -> Int? {
        withBytes { bytes in
            switch type {
            case .float32: Self.firstNonFinite(bytes, SIMD16<UInt32>.self, magnitude: 0x7FFF_FFFF, one: 0x0080_0000)
            case .float16: Self.firstNonFinite(bytes, SIMD32<UInt16>.self, magnitude: 0x7FFF, one: 0x0400)
            case .bfloat16: Self.firstNonFinite(bytes, SIMD32<UInt16>.self, magnitude: 0x7FFF, one: 0x0080)
            case .float64:
                Self.firstNonFinite(
                    bytes, SIMD8<UInt64>.self, magnitude: 0x7FFF_FFFF_FFFF_FFFF, one: 0x0010_0000_0000_0000)
            default: nil
            }
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
