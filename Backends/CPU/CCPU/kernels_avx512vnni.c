// int8 products for AVX-512 with VNNI; everything else is AVX-512's.
#if defined(__x86_64__)
#include "internal.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VW 16
#define HAS_FMA 1
#define HAS_HALVES 0
#define HAS_BYTE_DOT 1
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define INT8_TABLE ccpu_int8_avx512vnni
// vpdpbusd: the row's bytes without sign
#define BYTE_OFFSET 0
#define BYTE_PRODUCTS(sum, a, b) _mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(a), (__m512i)(b))

#pragma clang attribute push(                                                                                        \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"))), apply_to = function)
#include "Kernels/vector.h"

#include "Kernels/int8.h"
#pragma clang attribute pop
#endif
