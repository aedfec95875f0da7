// AMD's MFMA instructions (CDNA: gfx908, gfx90a, gfx94x) as units of fragments/linear.cl, whose contract this is; and the same in plain C.
//
// A unit is four instructions of 16 x 16 x 16: 16 rows of x, 32 columns, 32 inputs, so that a lane reads 16 bytes of a factor at once
// and ends with eight columns of one row. The weight is the left factor, x the right one. Lane l holds inputs
// 4 (l / 16) to + 3 of row l % 16 of either; which four of the unit's inputs an instruction takes for these is free, as long as
// both factors agree: here the first or second half of each eight. Source: AMD's "Instinct MI200" and "MI300 Instruction Set
// Architecture", "Matrix Arithmetic Instructions".
//
// Knobs:
//   EMULATED  0: the instructions; 1: plain C. Lanes exchange data through local memory.
//   WARPS     sub-groups of the work-group

#define SUBGROUP 64
#define UNIT_ROWS 16
#define UNIT_COLUMNS 32
#define UNIT_INPUTS 32
#define X_PIECES 1
#define W_PIECES 2
// Of 16 places in an instruction, lane l has 4 (l / 16) to + 3; two instructions give it eight columns side by side.
#define COLUMN_OF_PLACE(place) ((place) % 16 / 4 * 8 + (place) / 16 * 4 + (place) % 4)

#define W_PIECE(lane, p) (((p) * 16 + (lane) % 16) * 4 + (lane) / 16)

#if !EMULATED

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define SUBGROUP_ATTRIBUTE
#define WARP_MEMORY
static inline float4 multiply4(float4 sums, uint4 w, uint4 x) {
    sums = __builtin_amdgcn_mfma_f32_16x16x16f16(as_half4(w.lo), as_half4(x.lo), sums, 0, 0, 0);
    return __builtin_amdgcn_mfma_f32_16x16x16f16(as_half4(w.hi), as_half4(x.hi), sums, 0, 0, 0);
}
static inline uint exchange_bits(uint v, uint mask) {
    return __builtin_amdgcn_ds_bpermute((int)((get_local_id(0) ^ mask) * 4), (int)v);
}
#define EXCHANGE(v, mask) as_float(exchange_bits(as_uint(v), mask))

#else

// Left [16][16] times right [16][16] as one instruction does it: halves of lane l from l * 8 on, the left factor's first.
static inline float4 emulated_instruction(__local uint4 *words, float4 sums, uint2 w, uint2 x) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    words[lane] = (uint4)(w, x);
    barrier(CLK_LOCAL_MEM_FENCE);
    __local const half *halves = (__local const half *)words;
    float *sum = (float *)&sums;
    for (uint i = 0; i < 4; i++) {
        for (uint k = 0; k < 16; k++) {
            sum[i] += vload_half((lane / 16 * 4 + i + k / 4 * 16) * 8 + k % 4, halves) *
                      vload_half((lane % 16 + k / 4 * 16) * 8 + 4 + k % 4, halves);
        }
    }
    return sums;
}
#define multiply4(sums, w, x) \
    emulated_instruction(WARP_WORDS, emulated_instruction(WARP_WORDS, sums, (w).lo, (x).lo), (w).hi, (x).hi)

#endif

#define MULTIPLY(sums, w, x) \
    { \
        (sums).lo = multiply4((sums).lo, (w)[0], (x)[0]); \
        (sums).hi = multiply4((sums).hi, (w)[1], (x)[0]); \
    }

// The probabilities of 32 keys as x of a unit: what the lane holds.
#define X_OF_SCORES(x, scores, step) (x)[0] = (scores)[step];
