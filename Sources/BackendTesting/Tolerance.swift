// How far a backend may be from the reference, from the theory of rounding; not loosened afterwards.

import CLIPCompute

/// Bounds on the error of one element, to be multiplied by a scale that the case computes from its inputs.
///
/// Rounding errors of a sum are independent and add up as squares, so a bound is about six of their deviations: what
/// the worst of a hundred thousand elements reaches. The root mean square over all elements has to stay below a
/// third of it, which finds errors that are small but everywhere.
///
/// Greatest shares measured in fp32 over the full suite: the CPU backend 21 % (linear), OpenCL on PoCL 55 %
/// (normalizeRows, where a square root and a division meet), 35 % (norm), 20 % (linear).
enum Tolerance {
    /// One number stored: half a unit in the last place, relative.
    static func rounding(_ precision: Precision) -> Float {
        switch precision {
        case .fp32: 0x1p-24
        // int8 backends may keep what lies between two operations in halves.
        case .fp16, .int8: 0x1p-11
        }
    }

    /// Operations without long sums, relative to the operands: some roundings, and a square root, division or
    /// exponential of the device's (OpenCL allows 3 ulp for each; an operand and the result are stored).
    static func elementwise(_ precision: Precision) -> Float {
        switch precision {
        case .fp32: 16 * rounding(.fp32)
        case .fp16, .int8: 4 * rounding(.fp16)
        }
    }

    /// An inner product of `count` terms, relative to ‖a‖ ‖b‖ / √count, the deviation of a sum of independent terms.
    static func sum(_ count: Int, _ precision: Precision) -> Float {
        switch precision {
        // Partial sums grow as a random walk to that deviation, each rounded: u/√3 · √(count/2) one after the
        // other, times six: 1.5e-7 √count. Twice that for the functions and folded factors around the sum, and
        // 16 roundings for short sums. (Measured with OpenBLAS: 768 terms
        // 2.3e-6, 3072 terms 2.4e-6; one after the other 3.6e-6; the bounds are 9.3e-6 and 1.8e-5.)
        case .fp32: 3e-7 * Float(count).squareRoot() + elementwise(.fp32)
        // Both factors are rounded: √2 · u/√3 ≈ 0.8 u whatever the count, times six.
        case .fp16: 5 * rounding(.fp16)
        // Both factors in steps of max/127 ≈ 3.5 deviations / 127, error step/√12 each, √2 together: 0.011, times six.
        case .int8: 0.07
        }
    }

    /// Quantisation of a row x and a row w to 8 bits with a step of max/127 each: error step/√12 per element, so
    /// (max|x| ‖w‖ + ‖x‖ max|w|) / (127 √12) is at least the deviation of the product; times six.
    static func quantized(_ x: (norm: Float, max: Float), _ w: (norm: Float, max: Float)) -> Float {
        6 * (x.max * w.norm + x.norm * w.max) / (127 * 3.464)
    }
}

/// ‖v‖ and max |v|.
func extent(_ values: some Sequence<Float>) -> (norm: Float, max: Float) {
    var (squares, greatest): (Float, Float) = (0, 0)
    for value in values {
        squares += value * value
        greatest = max(greatest, abs(value))
    }
    return (squares.squareRoot(), greatest)
}
