// int8 products for NEON with dot products of bytes (SDOT, in processors since about 2018); everything else is NEON's.
#if defined(__aarch64__)
#include "internal.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define VW 4
#define HAS_FMA 1
#define HAS_HALVES 0
#define HAS_BYTE_DOT 1
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define INT8_TABLE ccpu_int8_neondot
// Both sides have a sign.
#define BYTE_OFFSET 128
#define BYTE_PRODUCTS(sum, a, b) vdotq_s32((int32x4_t)(sum), (int8x16_t)(a), (int8x16_t)(b))

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#include "Kernels/vector.h"

#include "Kernels/int8.h"
#pragma clang attribute pop
#endif
