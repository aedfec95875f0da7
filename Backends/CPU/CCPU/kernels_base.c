// The kernels for what every processor of its architecture has: vectors of four floats (SSE2, NEON, or what the compiler
// makes of them).
#include "internal.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include <math.h>
#include <string.h>

#define VW 4
#define HAS_BYTE_DOT 0
#define INTERLEAVE_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define INTERLEAVE_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define TABLE ccpu_kernels_base
#define INT8_TABLE ccpu_int8_base
#if defined(__aarch64__)
// 32 registers
#define HAS_FMA 1
#define HAS_HALVES 1
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define TABLE_NAME "neon"
#define HALF_PRODUCTS(sum, columns, pair)                                                                              \
    vmlal_high_lane_s16(                                                                                               \
        vmlal_lane_s16((int32x4_t)(sum), vget_low_s16((int16x8_t)(columns)), pair, 0), (int16x8_t)(columns), pair, 1)
#else
// 16 registers; the baseline of x86-64 has no multiply-add and no halves
#define HAS_FMA 0
#define HAS_HALVES 0
#define TILE_ROWS 6
#define TILE_VECTORS 2
#if defined(__x86_64__)
#define TABLE_NAME "sse2"
#define PAIR_PRODUCTS(a, b) _mm_madd_epi16((__m128i)(a), (__m128i)(b))
#else
#define TABLE_NAME "generic"
#endif
#endif

#include "Kernels/table.h"
