// AMD's WMMA instructions (RDNA 3: gfx11, RDNA 4: gfx12) as units of fragments/linear.cl, whose contract this is; and the same in plain C.
//
// A unit is one instruction: 16 rows of x, 16 columns, 16 inputs. The weight is its left factor and x its right one, so that
// a lane ends with eight columns of one row. Source: AMD's "RDNA3" and "RDNA4 Instruction Set Architecture", "Wave Matrix Multiply
// Accumulate".
//
// Knobs:
//   GENERATION  11: a lane holds all 16 inputs of its row of either factor, which lane + 16 holds as well, and has places
//               lane / 16, + 2, + 4 ... of the result; 12: eight inputs, and eight places in a row
//   EMULATED    0: the instructions; 1: plain C. Lanes exchange data through local memory.
//   WARPS       sub-groups of the work-group

#define SUBGROUP 32
#define UNIT_ROWS 16
#define UNIT_COLUMNS 16
#define UNIT_INPUTS 16
#if GENERATION == 11
#define X_PIECES 2
#define W_PIECES 2
#define COLUMN_OF_PLACE(place) ((place) % 2 * 8 + (place) / 2)
#else
#define X_PIECES 1
#define W_PIECES 1
#define COLUMN_OF_PLACE(place) (place)
#endif

#define W_PIECE(lane, p) ((lane) % 16 * 2 + FIRST_PIECE(lane) + (p))

#if !EMULATED

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define SUBGROUP_ATTRIBUTE
#define WARP_MEMORY
static inline float8 multiply(float8 sums, const uint4 *w, const uint4 *x) {
#if GENERATION == 11
    return __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(
        as_half16((uint8)(w[0], w[1])), as_half16((uint8)(x[0], x[1])), sums);
#else
    return __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(as_half8(w[0]), as_half8(x[0]), sums);
#endif
}
#define MULTIPLY(sums, w, x) sums = multiply(sums, w, x)
static inline uint exchange_bits(uint v, uint mask) {
    return __builtin_amdgcn_ds_bpermute((int)((get_local_id(0) ^ mask) * 4), (int)v);
}
#define EXCHANGE(v, mask) as_float(exchange_bits(as_uint(v), mask))
#define EXCHANGE4(v, mask) \
    (uint4)(exchange_bits((v).x, mask), exchange_bits((v).y, mask), exchange_bits((v).z, mask), exchange_bits((v).w, mask))

#else

// Left [16][16] times right [16][16]: halves of lane l from l * 32 on, the left factor's first.
static inline float8 emulated_multiply(__local uint4 *words, float8 sums, const uint4 *w, const uint4 *x) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint p = 0; p < W_PIECES; p++) {
        words[lane * 4 + p] = w[p];
        words[lane * 4 + 2 + p] = x[p];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    __local const half *halves = (__local const half *)words;
    float *sum = (float *)&sums;
    for (uint i = 0; i < 8; i++) {
        const uint place = GENERATION == 11 ? 2 * i + lane / 16 : lane / 16 * 8 + i;
        for (uint k = 0; k < 16; k++) {
            // Of the two lanes that hold the same in gfx11, each is looked at for one half.
            const uint half_wave = k / 8 * 16, at = GENERATION == 11 ? k : k % 8;
            sum[i] += vload_half((place + half_wave) * 32 + at, halves) *
                      vload_half((lane % 16 + half_wave) * 32 + 16 + at, halves);
        }
    }
    return sums;
}
#define MULTIPLY(sums, w, x) sums = emulated_multiply(WARP_WORDS, sums, w, x)

#endif

// The probabilities of 16 keys as x of a unit: what the lane holds, and in gfx11 what lane + 16 holds beside it.
#if GENERATION == 11
#define X_OF_SCORES(x, scores, step) \
    { \
        const uint4 other = EXCHANGE4((scores)[step], 16); \
        (x)[0] = get_local_id(0) < 16 ? (scores)[step] : other; \
        (x)[1] = get_local_id(0) < 16 ? other : (scores)[step]; \
    }
#else
#define X_OF_SCORES(x, scores, step) (x)[0] = (scores)[step];
#endif
