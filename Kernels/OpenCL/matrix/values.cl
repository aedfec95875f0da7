// Halves eight at a time, and functions of floats from few instructions: what the kernels for matrix instructions have in common. Stands
// behind the file of those instructions.

#if !VALUES_IN_PTX
static inline uint4 load_words4(__global const void *from) { return *(__global const uint4 *)from; }
static inline float4 load_constants4(__global const float *from) { return *(__global const float4 *)from; }
#endif
#if VALUES_IN_PTX
// nvidia/ptx.cl has them.
#elif !EMULATED
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
static inline uint pack_halves(float low, float high) { return as_uint((half2)((half)low, (half)high)); }
static inline float2 unpack_halves(uint pair) {
    const half2 halves = as_half2(pair);
    return (float2)((float)halves.x, (float)halves.y);
}
static inline float power2(float x) { return native_exp2(x); }
static inline float reciprocal(float x) { return native_recip(x); }
#else
static inline uint pack_halves(float low, float high) {
    uint pair = 0;
    vstore_half(low, 0, (half *)&pair);
    vstore_half(high, 1, (half *)&pair);
    return pair;
}
static inline float2 unpack_halves(uint pair) {
    return (float2)(vload_half(0, (const half *)&pair), vload_half(1, (const half *)&pair));
}
static inline float power2(float x) { return exp2(x); }
static inline float reciprocal(float x) { return 1.0f / x; }
#endif

// Eight halves as 16 bytes, aligned to them.
static inline void load_halves8(__global const element *from, float *v) {
    const uint4 words = load_words4(from);
    const float2 a = unpack_halves(words.x), b = unpack_halves(words.y), c = unpack_halves(words.z), d = unpack_halves(words.w);
    v[0] = a.x;
    v[1] = a.y;
    v[2] = b.x;
    v[3] = b.y;
    v[4] = c.x;
    v[5] = c.y;
    v[6] = d.x;
    v[7] = d.y;
}
static inline void store_halves8(__global element *to, const float *v) {
    *(__global uint4 *)to = (uint4)(
        pack_halves(v[0], v[1]), pack_halves(v[2], v[3]), pack_halves(v[4], v[5]), pack_halves(v[6], v[7]));
}

// Eight floats, aligned to 16 bytes, that nobody writes meanwhile.
static inline void load_constants8(__global const float *from, float *v) {
    const float4 low = load_constants4(from), high = load_constants4(from + 4);
    v[0] = low.x;
    v[1] = low.y;
    v[2] = low.z;
    v[3] = low.w;
    v[4] = high.x;
    v[5] = high.y;
    v[6] = high.z;
    v[7] = high.w;
}

// Activations from few instructions, for results that are rounded to halves. The error function is Abramowitz and Stegun's 7.1.26,
// absolute error 1.5e-7. What is scarce are powers and reciprocals, of which units make an eighth of the other operations: so four numbers
// of one row share one reciprocal, for which they are at most 2^30: which four does not depend on the tile. They stand `stride` apart.
static inline void reciprocals4(float *d) {
    const float ab = d[0] * d[1], cd = d[2] * d[3];
    const float whole = reciprocal(ab * cd);
    const float by_ab = whole * cd, by_cd = whole * ab;
    const float a = d[0], c = d[2];
    d[0] = by_ab * d[1];
    d[1] = by_ab * a;
    d[2] = by_cd * d[3];
    d[3] = by_cd * c;
}
static inline void relu4(float *v, uint stride) {
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) { v[i * stride] = v[i * stride] < 0.0f ? 0.0f : v[i * stride]; }
}
// x / (1 + 2^(-z)): of 2^-30 and of less the sigmoid makes the same zero of x, in halves.
static inline void times_sigmoids4(float *v, uint stride, const float *z) {
    float d[4];
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) { d[i] = 1.0f + power2(fmin(-z[i], 29.0f)); }
    reciprocals4(d);
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) { v[i * stride] *= d[i]; }
}
static inline void quick_gelu4(float *v, uint stride) {
    float z[4];
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) { z[i] = 2.4554670f * v[i * stride]; }
    times_sigmoids4(v, stride, z);
}
static inline void gelu_tanh4(float *v, uint stride) {
    float z[4];
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) { z[i] = 2.3022082f * (v[i * stride] * (1.0f + 0.044715f * v[i * stride] * v[i * stride])); }
    times_sigmoids4(v, stride, z);
}
static inline void gelu4(float *v, uint stride) {
    float z[4], t[4];
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) {
        z[i] = fabs(v[i * stride]) * 0.70710678f;
        t[i] = 1.0f + 0.3275911f * fmin(z[i], 1e9f);
    }
    reciprocals4(t);
UNROLL_LOOP
    for (uint i = 0; i < 4; i++) {
        const float p =
            t[i] * (0.254829592f + t[i] * (-0.284496736f + t[i] * (1.421413741f + t[i] * (-1.453152027f + t[i] * 1.061405429f))));
        const float tail = 0.5f * p * power2(-1.44269504f * z[i] * z[i]);
        v[i * stride] *= v[i * stride] < 0.0f ? tail : 1.0f - tail;
    }
}
// The activation of the program, on four numbers of a row.
#if ACTIVATION == ACTIVATION_RELU
#define ACTIVATE4 relu4
#elif ACTIVATION == ACTIVATION_QUICK_GELU
#define ACTIVATE4 quick_gelu4
#elif ACTIVATION == ACTIVATION_GELU
#define ACTIVATE4 gelu4
#elif ACTIVATION == ACTIVATION_GELU_TANH
#define ACTIVATE4 gelu_tanh4
#else
#define ACTIVATE4 nothing4
static inline void nothing4(float *v, uint stride) {}
#endif
// On `count` numbers, of which four of a row stand `stride` apart, those of even columns at even places; or on the even columns alone.
#define ACTIVATE(v, count, stride, even_alone) \
    UNROLL_LOOP for (uint i = 0; i < (count); i += 4 * (stride)) { \
        UNROLL_LOOP for (uint o = 0; o < (stride); o++) { \
            if (o % 2 == 0 || !(even_alone)) { ACTIVATE4((v) + i + o, stride); } \
        } \
    }
