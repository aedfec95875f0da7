// Stands before every kernel file: how numbers are stored, vectors, sums over a work-group, activations.
//
// Knobs, given as -D by the host:
//   HALF    0: elements are floats; 1: elements are halves (read and written with vload_half, core since 1.0)
//   VECTOR  floats that one work-item handles at once: 4, 8, 16
//   LANES   work-items in a work-group of the row kernels, a power of two: 1 on a CPU, 64 to 256 on a GPU
//   UNROLL  1: loops over private arrays are unrolled, so that these become registers; 0 where the GPU's kernels are
//           built for a CPU, to test them: there it only makes compiling slow

#if UNROLL
#define UNROLL_LOOP _Pragma("unroll")
#else
#define UNROLL_LOOP
#endif
// A loop that a compiler is not to unroll of its own accord: its body is long.
#define ROLLED_LOOP _Pragma("unroll 1")

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#if HALF
typedef half element;
#define LOAD(p, i) vload_half((i), (p))
#define STORE(v, p, i) vstore_half((v), (i), (p))
#define LOAD4(p, i) vload_half4(0, (p) + (i))
#define STORE4(v, p, i) vstore_half4((v), 0, (p) + (i))
#define LOAD16(p, i) vload_half16(0, (p) + (i))
#define STORE16(v, p, i) vstore_half16((v), 0, (p) + (i))
#define LOAD_VECTOR(p, i) JOIN(vload_half, VECTOR)(0, (p) + (i))
#define STORE_VECTOR(v, p, i) JOIN(vstore_half, VECTOR)((v), 0, (p) + (i))
#else
typedef float element;
#define LOAD(p, i) ((p)[i])
#define STORE(v, p, i) ((p)[i] = (v))
#define LOAD4(p, i) vload4(0, (p) + (i))
#define STORE4(v, p, i) vstore4((v), 0, (p) + (i))
#define LOAD16(p, i) vload16(0, (p) + (i))
#define STORE16(v, p, i) vstore16((v), 0, (p) + (i))
#define LOAD_VECTOR(p, i) JOIN(vload, VECTOR)(0, (p) + (i))
#define STORE_VECTOR(v, p, i) JOIN(vstore, VECTOR)((v), 0, (p) + (i))
#endif

typedef JOIN(float, VECTOR) vector;

// Floats in memory, whatever the precision: biases, norms, statistics.
#define LOAD_FLOATS(p, i) JOIN(vload, VECTOR)(0, (p) + (i))

// A matrix as arguments: its buffer, the element at which it begins, and the elements from one row to the next.
// The host binds the three together.
#define INPUT(name) __global const element *name, ulong name##Offset, uint name##Pitch
#define OUTPUT(name) __global element *name, ulong name##Offset, uint name##Pitch
#define ROW(name, row) (name + name##Offset + (size_t)(row) * name##Pitch)

// A list of numbers in the same memory: its buffer and the number at which it begins.
#define INTEGERS(name) __global const int *name, ulong name##Offset

static inline float sum4(float4 v) { return (v.x + v.y) + (v.z + v.w); }
static inline float sum8(float8 v) { return sum4(v.lo + v.hi); }
static inline float sum16(float16 v) { return sum8(v.lo + v.hi); }
#define SUM_VECTOR(v) JOIN(sum, VECTOR)(v)

// The sum of one value of each work-item, in every work-item. `scratch` holds LANES floats. The order is fixed.
#if LANES == 1
#define GROUP_SUM(v, scratch) (v)
#else
static inline float group_sum(float v, __local float *scratch) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[lane] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint half_count = LANES / 2; half_count > 0; half_count /= 2) {
        if (lane < half_count) { scratch[lane] += scratch[lane + half_count]; }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return scratch[0];
}
#define GROUP_SUM(v, scratch) group_sum(v, scratch)
#endif

// Activations, numbered as the host numbers them.
#define ACTIVATION_NONE 0
#define ACTIVATION_RELU 1
#define ACTIVATION_QUICK_GELU 2
#define ACTIVATION_GELU 3
#define ACTIVATION_GELU_TANH 4

// One definition for every width of vector.
#define DEFINE_ACTIVATE(name, type) \
    static inline type name(type x, uint activation) { \
        switch (activation) { \
        case ACTIVATION_RELU: return x < 0.0f ? (type)(0.0f) : x; \
        case ACTIVATION_QUICK_GELU: return x / (1.0f + exp(-1.702f * x)); \
        case ACTIVATION_GELU: return 0.5f * x * (1.0f + erf(0.70710678f * x)); \
        case ACTIVATION_GELU_TANH: \
            return x / (1.0f + exp(-1.5957691f * (x + 0.044715f * x * x * x))); \
        default: return x; \
        } \
    }
DEFINE_ACTIVATE(activate1, float)
DEFINE_ACTIVATE(activate4, float4)
DEFINE_ACTIVATE(activate8, float8)
DEFINE_ACTIVATE(activate16, float16)
