// Halves eight at a time, and functions of floats from few instructions: what the kernels for matrix instructions have in common. Stands
// behind the file of those instructions.

#if !VALUES_IN_PTX
static inline uint4 load_words4(__global const void *from) { return *(__global const uint4 *)from; }
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

// Eight floats, aligned to 16 bytes.
static inline void load_floats8(__global const float *from, float *v) {
    const float4 low = *(__global const float4 *)from, high = *(__global const float4 *)(from + 4);
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
// absolute error 1.5e-7.
static inline float sigmoid_of(float x, float by_log2e) { return reciprocal(1.0f + power2(-by_log2e * x)); }
static inline float gelu_of(float x) {
    const float z = fabs(x) * 0.70710678f;
    const float t = reciprocal(1.0f + 0.3275911f * z);
    const float p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    const float tail = 0.5f * p * power2(-1.44269504f * z * z);
    return x * (x < 0.0f ? tail : 1.0f - tail);
}
// Of `count` numbers, or of the even ones alone. One choice for all of them: the text of a choice for each is what compilers take long
// for.
#define ACTIVATE_EACH(v, count, first, expression) \
    UNROLL_LOOP for (uint i = first; i < (count); i += 2) { \
        const float x = v[i]; \
        v[i] = expression; \
    }
#define ACTIVATE_BY(v, count, even_alone, expression) \
    ACTIVATE_EACH(v, count, 0, expression) \
    if (!(even_alone)) { ACTIVATE_EACH(v, count, 1, expression) } \
    break
#define ACTIVATE(v, count, activation, even_alone) \
    switch (activation) { \
    case ACTIVATION_RELU: ACTIVATE_BY(v, count, even_alone, x < 0.0f ? 0.0f : x); \
    case ACTIVATION_QUICK_GELU: ACTIVATE_BY(v, count, even_alone, x * sigmoid_of(x, 2.4554670f)); \
    case ACTIVATION_GELU: ACTIVATE_BY(v, count, even_alone, gelu_of(x)); \
    case ACTIVATION_GELU_TANH: \
        ACTIVATE_BY(v, count, even_alone, x * sigmoid_of(x * (1.0f + 0.044715f * x * x), 2.3022082f)); \
    default: break; \
    }
