// Intel's sub-group matrix instructions (cl_intel_subgroup_matrix_multiply_accumulate) as units of fragments/linear.cl, whose contract
// this is; and the same in plain C.
//
// A unit is one instruction: as many rows of x as lanes, 8 columns, 16 inputs. The weight is the left factor, x the right one, whose
// column a lane holds whole; so a lane ends with eight columns of one row. Of the left factor a lane of 16 holds one input of each of eight
// rows, a lane of 8 two inputs: what a block read of row after row brings. Source: Khronos, the extension's specification.
//
// Knobs:
//   SUBGROUP  lanes, the smallest size that the device has: 8 (Xe-HPG: Arc) or 16 (Xe-HPC, Xe2)
//   EMULATED  0: the instructions; 1: plain C. Lanes exchange data through local memory.
//   WARPS     sub-groups of the work-group

#define UNIT_ROWS SUBGROUP
#define UNIT_COLUMNS 8
#define UNIT_INPUTS 16
#define X_PIECES 2
#define W_PIECES (16 / SUBGROUP)
#define COLUMN_OF_PLACE(place) (place)

// What a lane holds of the left factor: eight elements, one input of SUBGROUP 16 or a pair of SUBGROUP 8 from each row.
#if SUBGROUP == 16
typedef ushort w_element;
#else
typedef uint w_element;
#endif
static inline void load_w_rows(__local const w_element *from, uint pitch, uint4 *w) {
    w_element *elements = (w_element *)w;
UNROLL_LOOP
    for (uint m = 0; m < 8; m++) { elements[m] = from[m * pitch + get_local_id(0)]; }
}
// `pitch` bytes from row to row.
#define LOAD_W_LOCAL(w, from, pitch) load_w_rows((__local const w_element *)(from), (pitch) / sizeof(w_element), w)

#if !EMULATED

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define SUBGROUP_ATTRIBUTE __attribute__((intel_reqd_sub_group_size(SUBGROUP)))
#define WARP_MEMORY
#ifndef cl_intel_subgroup_matrix_multiply_accumulate
// Debian's compiler for tests has the functions and not their declarations.
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(short8 a, int8 b, float8 sums);
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(int8 a, int8 b, float8 sums);
#endif
static inline float8 multiply(float8 sums, const uint4 *w, const uint4 *x) {
#if SUBGROUP == 16
    return intel_sub_group_f16_f16_matrix_mad_k16(as_short8(w[0]), as_int8((uint8)(x[0], x[1])), sums);
#else
    return intel_sub_group_f16_f16_matrix_mad_k16(as_int8((uint8)(w[0], w[1])), as_int8((uint8)(x[0], x[1])), sums);
#endif
}
#define MULTIPLY(sums, w, x) sums = multiply(sums, w, x)
static inline void load_w(__global const element *from, uint4 *w) {
#if SUBGROUP == 16
    w[0] = as_uint4(intel_sub_group_block_read_us8((__global const ushort *)from));
#else
    const uint8 rows = intel_sub_group_block_read8((__global const uint *)from);
    w[0] = rows.lo;
    w[1] = rows.hi;
#endif
}
#define LOAD_W(w, from) load_w(from, w)

#else

static inline void load_w(__global const w_element *from, uint4 *w) {
    w_element *elements = (w_element *)w;
    for (uint m = 0; m < 8; m++) { elements[m] = from[m * SUBGROUP + get_local_id(0)]; }
}
#define LOAD_W(w, from) load_w((__global const w_element *)(from), w)

// Left [8][16] times right [16][SUBGROUP]: 32 halves to a lane, the left factor's first.
static inline float8 emulated_multiply(__local uint4 *words, float8 sums, const uint4 *w, const uint4 *x) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint p = 0; p < W_PIECES; p++) { words[lane * 4 + p] = w[p]; }
    for (uint p = 0; p < X_PIECES; p++) { words[lane * 4 + 2 + p] = x[p]; }
    barrier(CLK_LOCAL_MEM_FENCE);
    __local const half *halves = (__local const half *)words;
    float *sum = (float *)&sums;
    const uint inputs = 16 / SUBGROUP;
    for (uint m = 0; m < 8; m++) {
        for (uint k = 0; k < 16; k++) {
            sum[m] += vload_half(k / inputs * 32 + m * inputs + k % inputs, halves) * vload_half(lane * 32 + 16 + k, halves);
        }
    }
    return sums;
}
#define MULTIPLY(sums, w, x) sums = emulated_multiply(WARP_WORDS, sums, w, x)

#endif

// The probabilities of 16 keys as x of a unit: those of two units, which the lane holds.
#define X_OF_SCORES(x, scores, step) \
    { \
        (x)[0] = (scores)[2 * (step)]; \
        (x)[1] = (scores)[2 * (step) + 1]; \
    }
