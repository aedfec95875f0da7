// Vectors of VW floats, and the functions on them that clang's vector extensions lack. Included once per instruction
// set, inside its target attribute; everything is static.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float vf __attribute__((ext_vector_type(VW)));
typedef int32_t vi __attribute__((ext_vector_type(VW)));
typedef uint16_t vh __attribute__((ext_vector_type(VW)));
typedef double vd __attribute__((ext_vector_type(VW)));
typedef vf vf_unaligned __attribute__((aligned(4), may_alias));
typedef vh vh_unaligned __attribute__((aligned(1), may_alias));
typedef vf vf_bytes __attribute__((aligned(1), may_alias));
typedef vd vd_bytes __attribute__((aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
#if HAS_HALVES
typedef _Float16 vs __attribute__((ext_vector_type(VW)));
typedef vs vs_unaligned __attribute__((aligned(1), may_alias));
/// Halves as floats: exact.
INLINE vf widened(const uint16_t *p) { return __builtin_convertvector(*(const vs_unaligned *)p, vf); }
#endif
INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf splat(float x) { return (vf)x; }
// Casts between vectors of one size keep the bits.
INLINE vi bits_of(vf x) { return (vi)x; }
INLINE vf float_of(vi x) { return (vf)x; }

/// The first n elements (n < VW), zeros after them.
INLINE vf load_part(const float *p, long n) {
    vf v = splat(0);
    __builtin_memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
}
INLINE void store_part(float *p, vf v, long n) { __builtin_memcpy(p, &v, (size_t)n * sizeof(float)); }

INLINE vf fma_(vf a, vf b, vf c) {
#if HAS_FMA
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

/// The instruction, not libm's function.
INLINE float square_root(float x) { return __builtin_elementwise_sqrt(x); }

/// condition ? a : b, element by element.
INLINE vf choose(vi condition, vf a, vf b) { return condition ? a : b; }
// Not the builtins: a NaN in x must come out again.
INLINE vf at_least(vf x, float low) { return choose(x < splat(low), splat(low), x); }
INLINE vf at_most(vf x, float high) { return choose(x > splat(high), splat(high), x); }
INLINE vf larger(vf a, vf b) { return choose(a > b, a, b); }

/// The elements' sum, in an order that depends on VW only.
INLINE float sum(vf v) {
    float e[VW];
    __builtin_memcpy(e, &v, sizeof e);
    for (int width = VW / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) e[i] += e[i + width];
    return e[0];
}
INLINE float largest(vf v) {
    float e[VW];
    __builtin_memcpy(e, &v, sizeof e);
    for (int width = VW / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) e[i] = e[i] > e[i + width] ? e[i] : e[i + width];
    return e[0];
}

/// e^x: within 2 ulp where the result is a normal number, 0 below, the largest finite power above.
///
/// x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r² p(r), p fitted to a relative error of 3e-9.
INLINE vf exponential(vf x) {
    const vf shift = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer, which lands in the low bits
    vf limited = at_most(at_least(x, -87.33f), 88.37f);
    vf shifted = fma_(limited, splat(1.44269504f), shift);
    vf n = shifted - shift;
    vf r = fma_(n, splat(-0.693359375f), limited);  // ln 2 in two pieces: the first has few bits
    r = fma_(n, splat(2.12194440e-4f), r);
    vf p = splat(0.0013814604608342052f);
    p = fma_(p, r, splat(0.008368715643882751f));
    p = fma_(p, r, splat(0.04166838899254799f));
    p = fma_(p, r, splat(0.1666652113199234f));
    p = fma_(p, r, splat(0.4999999403953552f));
    vf power = fma_(r * r, p, r) + splat(1);
    vi bits = bits_of(power) + (bits_of(shifted) << 23);
    return choose(x < splat(-87.33f), splat(0), float_of(bits));
}

/// 1 / (1 + e^-x)
INLINE vf sigmoid(vf x) { return splat(1) / (splat(1) + exponential(-x)); }

/// x Φ(x), from erfc(t) = e^(t q(t)) for 0 <= t <= 4.5, q fitted to 6e-9; beyond, |x Φ(x)| or its distance to x is below
/// 1e-9. One exponential for both signs, and no cancellation for negative x.
INLINE vf gelu(vf x) {
    vf t = __builtin_elementwise_abs(x) * splat(0.70710678f);
    vf q = splat(7.333962770417202e-08f);
    q = fma_(q, t, splat(-1.9953861283283914e-06f));
    q = fma_(q, t, splat(2.3937798687256873e-05f));
    q = fma_(q, t, splat(-0.00016537441115360707f));
    q = fma_(q, t, splat(0.0007067383849062026f));
    q = fma_(q, t, splat(-0.0017063256818801165f));
    q = fma_(q, t, splat(0.00012817324022762477f));
    q = fma_(q, t, splat(0.019208267331123352f));
    q = fma_(q, t, splat(-0.10280569642782211f));
    q = fma_(q, t, splat(-0.6366137862205505f));
    q = fma_(q, t, splat(-1.128379464149475f));
    vf half = splat(0.5f) * exponential(q * t);
    half = choose(t > splat(4.5f), splat(0), half);
    return x * choose(x < splat(0), half, splat(1) - half);
}

INLINE vf activate(ccpu_activation activation, vf x) {
    switch (activation) {
        case CCPU_NONE: return x;
        case CCPU_RELU: return at_least(x, 0);
        case CCPU_QUICK_GELU: return x * sigmoid(splat(1.702f) * x);
        case CCPU_GELU: return gelu(x);
        // (1 + tanh u) / 2 = sigmoid(2u), u = √(2/π) (x + 0.044715 x³)
        case CCPU_GELU_TANH:
            return x * sigmoid(splat(1.5957691216f) * fma_(splat(0.044715f) * x * x, x, x));
    }
}
