// Finds NaN and infinity in weights, at the speed of memory.

extension StoredTensor {
    /// The index of the first element that is NaN or infinite; none for element types that have neither.
    ///
    /// A number is one or the other where all bits of its exponent are set. Adding one to the exponent then carries
    /// into the sign bit, so a whole block is checked with three integer operations an element and no branch.
    package func firstNonFinite() -> Int? {
        switch type {
        case .float32: Self.firstNonFinite(bytes, magnitude: UInt32(0x7FFF_FFFF), one: 0x0080_0000)
        case .float16: Self.firstNonFinite(bytes, magnitude: UInt16(0x7FFF), one: 0x0400)
        case .bfloat16: Self.firstNonFinite(bytes, magnitude: UInt16(0x7FFF), one: 0x0080)
        case .float64: Self.firstNonFinite(bytes, magnitude: UInt64(0x7FFF_FFFF_FFFF_FFFF), one: 0x0010_0000_0000_0000)
        default: nil
        }
    }

    @inline(__always)
    private static func firstNonFinite<Bits: FixedWidthInteger & UnsignedInteger>(
        _ bytes: UnsafeRawBufferPointer, magnitude: Bits, one: Bits
    ) -> Int? {
        guard let base = bytes.baseAddress else { return nil }
        let size = MemoryLayout<Bits>.size
        let count = bytes.count / size
        let block = 4096
        var start = 0
        while start < count {
            let end = min(start + block, count)
            var carries: Bits = 0
            for i in start..<end {
                carries |= (base.loadUnaligned(fromByteOffset: i * size, as: Bits.self) & magnitude) &+ one
            }
            if carries & ~magnitude != 0 {
                return (start..<end).first {
                    (base.loadUnaligned(fromByteOffset: $0 * size, as: Bits.self) & magnitude) &+ one > magnitude
                }
            }
            start = end
        }
        return nil
    }
}
