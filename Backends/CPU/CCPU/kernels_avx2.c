// The kernels for AVX2 with FMA and F16C: 16 registers of 8 floats; 6 x 2 of them hold a tile.
#if defined(__x86_64__)
#include "internal.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VW 8
#define HAS_FMA 1
#define HAS_HALVES 1
#define HAS_BYTE_DOT 0
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define INTERLEAVE_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define TABLE ccpu_kernels_avx2
#define TABLE_NAME "avx2"
#define INT8_TABLE ccpu_int8_avx2
#define PAIR_PRODUCTS(a, b) _mm256_madd_epi16((__m256i)(a), (__m256i)(b))

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "Kernels/table.h"
#pragma clang attribute pop
#endif
