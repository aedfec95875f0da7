// The kernels for AVX-512: 32 registers of 16 floats; 6 x 4 of them hold a tile.
#if defined(__x86_64__)
#include "internal.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VW 16
#define HAS_FMA 1
#define HAS_HALVES 1
#define HAS_BYTE_DOT 0
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define INTERLEAVE_LOW(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_HIGH(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define TABLE ccpu_kernels_avx512
#define TABLE_NAME "avx512f"
#define INT8_TABLE ccpu_int8_avx512
#define PAIR_PRODUCTS(a, b) _mm512_madd_epi16((__m512i)(a), (__m512i)(b))

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#include "Kernels/table.h"
#pragma clang attribute pop
#endif
