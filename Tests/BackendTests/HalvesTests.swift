// Halves and floats: the many at a time that weights are loaded with, beside the language's own one at a time.

import CHalves
import Testing

@Suite struct HalvesTests {
    @Test("every half becomes the float that it is, wherever it lies")
    func floats() {
        let halves = (0...UInt16.max).map { $0 }
        let expected = halves.map { Float(Float16(bitPattern: $0)) }
        for start in [0, 1, 7] {
            let bytes = [UInt8](repeating: 0, count: start) + halves.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
            var found = [Float](repeating: -1, count: halves.count)
            bytes.withUnsafeBytes { ch_floats(&found, $0.baseAddress! + start, halves.count) }
            for (found, expected) in zip(found, expected) {
                #expect(found == expected || found.isNaN && expected.isNaN)
            }
        }
    }

    @Test("floats are rounded to the nearest half, ties to even, whatever their number")
    func halves() {
        var values: [Float] = [
            0, -0.0, 1, -1, 65504, 65519.99, 65520, -70000, .infinity, -.infinity, 1e-8, 0x1p-24, 0x1p-25, 0x1.8p-25,
            0x1.004p0, 0x1.002p0, 0x1.006p0, .leastNonzeroMagnitude, .greatestFiniteMagnitude,
        ]
        var state: UInt32 = 1
        for _ in 0..<20000 {
            state = state &* 1_664_525 &+ 1_013_904_223
            values.append(Float(bitPattern: state))
        }
        for count in [values.count, 0, 1, 7, 8, 9] {
            var found = [UInt16](repeating: 0x1234, count: count + 1)
            ch_halves(&found, values, count)
            for index in 0..<count {
                let expected = Float16(values[index])
                #expect(
                    found[index] == expected.bitPattern || expected.isNaN && Float16(bitPattern: found[index]).isNaN,
                    "\(values[index])")
            }
            #expect(found[count] == 0x1234, "a half past the last was written")
        }
    }
}
