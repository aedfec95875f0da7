// int8 products for AVX-VNNI (Intel's processors without AVX-512, since 2021); everything else is AVX2's.
#if defined(__x86_64__)
#include "internal.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VW 8
#define HAS_FMA 1
#define HAS_HALVES 0
#define HAS_BYTE_DOT 1
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define INT8_TABLE ccpu_int8_avx2vnni
// The row's bytes are without sign.
#define BYTE_OFFSET 0
// A test stands in for the instruction (vpdpbusd, in AVX's coding) where there is none.
#ifndef BYTE_PRODUCTS
#define BYTE_PRODUCTS(sum, a, b) _mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(a), (__m256i)(b))
#define BYTE_PRODUCTS_TARGET "avxvnni,avx2,fma"
#endif

#pragma clang attribute push(__attribute__((target(BYTE_PRODUCTS_TARGET))), apply_to = function)
#include "Kernels/vector.h"

#include "Kernels/int8.h"
#pragma clang attribute pop
#endif
