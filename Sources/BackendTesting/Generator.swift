// Numbers that look random and are the same on every machine: what the conformance cases are made of.

import CLIPCompute

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
package struct Generator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// Seeded by a case's name (FNV-1a), so that the name alone reproduces the numbers.
    package init(_ name: String) {
        self.init(seed: name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// Nearly normal, mean 0 and deviation 1, within ±4.9: the sum of eight uniform 16-bit numbers. No logarithm is
    /// asked, so the numbers are the same to the bit wherever they are made.
    package mutating func normal() -> Float {
        var sum: UInt64 = 0
        for _ in 0..<2 {
            let bits = next()
            sum += (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48)
        }
        return (Float(sum) / 65536 - 4) * 1.224_744_9  // √(12/8)
    }

    package mutating func normals(_ count: Int, deviation: Float = 1, mean: Float = 0) -> [Float] {
        var values = [Float](repeating: 0, count: count)
        for i in values.indices { values[i] = mean + deviation * normal() }
        return values
    }
}

extension HostTensor {
    /// A tensor as a file might hold it: any element type, and not aligned unless by chance.
    package init(_ values: [Float], shape: [Int], as type: ElementType, aligned: Bool = true) {
        let storage = ByteStorage(count: values.count * type.byteCount + 1)
        let bytes = UnsafeMutableRawBufferPointer(rebasing: storage.bytes[(aligned ? 0 : 1)...])
        for (i, value) in values.enumerated() {
            switch type {
            case .float32: bytes.storeBytes(of: value, toByteOffset: i * 4, as: Float.self)
            case .float16:
                bytes.storeBytes(of: Float16(value).bitPattern, toByteOffset: i * 2, as: UInt16.self)
            case .bfloat16:
                bytes.storeBytes(of: UInt16(value.bitPattern >> 16), toByteOffset: i * 2, as: UInt16.self)
            case .float64: bytes.storeBytes(of: Double(value), toByteOffset: i * 8, as: Double.self)
            }
        }
        self.init(
            shape: shape, elementType: type,
            bytes: UnsafeRawBufferPointer(rebasing: bytes[..<(values.count * type.byteCount)]), owner: storage)
    }
}

/// Bytes with an address that does not move.
private final class ByteStorage {
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) { bytes = .allocate(byteCount: count, alignment: 64) }

    deinit { bytes.deallocate() }
}
