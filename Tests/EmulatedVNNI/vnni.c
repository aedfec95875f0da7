// The source of the AVX-VNNI kernels, compiled for AVX2 with the one instruction that differs written out in C.
#include "EmulatedVNNI.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/// vpdpbusd: to each 32-bit sum, four products of bytes without sign and bytes with sign.
__attribute__((target("avx2"))) static __m256i dot_bytes(__m256i sums, __m256i a, __m256i b) {
    int32_t totals[8];
    uint8_t x[32];
    int8_t y[32];
    memcpy(totals, &sums, sizeof totals);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 32; i++) totals[i / 4] += (int32_t)x[i] * y[i];
    memcpy(&sums, totals, sizeof sums);
    return sums;
}

#define BYTE_PRODUCTS(sum, a, b) dot_bytes((__m256i)(sum), (__m256i)(a), (__m256i)(b))
#define BYTE_PRODUCTS_TARGET "avx2,fma"
#define ccpu_int8_avx2vnni emulated_int8_avx2vnni
#include "../../Backends/CPU/CCPU/kernels_avx2vnni.c"

bool vnni_can_be_emulated(void) { return ccpu_has_instruction_set(CCPU_AVX2); }

/// Products in panels of `panel` columns, rows of `pitch` floats.
static void multiply(
    const ccpu_int8_kernels *kernels, long panel, const float *x, const float *w, long rows, long inputs, long outputs,
    float *y, long pitch)
{
    long groups = (inputs + kernels->group - 1) / kernels->group, words = ccpu_round_up(groups + 2, CCPU_ALIGNMENT);
    int32_t *quantized = calloc((size_t)(rows * words), sizeof *quantized);
    float *columns = calloc((size_t)(inputs * panel), sizeof *columns);
    int8_t *packed = aligned_alloc(64, (size_t)ccpu_round_up(groups * panel * kernels->group, 64));
    float *tile = calloc((size_t)(rows * panel), sizeof *tile);
    float steps[16];
    int32_t sums[16];
    for (long r = 0; r < rows; r++) kernels->quantize(x + r * inputs, inputs, quantized + r * words, words);
    for (long first = 0; first < outputs; first += panel) {
        for (long c = 0; c < panel; c++)
            for (long k = 0; k < inputs; k++)
                columns[k * panel + c] = first + c < outputs ? w[(first + c) * inputs + k] : 0;
        kernels->pack(columns, inputs, panel, packed, steps, sums);
        kernels->product(rows, inputs, quantized, words, packed, panel, steps, sums, tile, panel, NULL);
        for (long r = 0; r < rows; r++) memcpy(y + r * pitch + first, tile + r * panel, (size_t)panel * sizeof *y);
    }
    free(quantized);
    free(columns);
    free(packed);
    free(tile);
}

bool vnni_has_the_plain_bits(long rows, long inputs, long outputs) {
    long pitch = ccpu_round_up(outputs, 16);
    float *x = calloc((size_t)(rows * inputs), sizeof *x), *w = calloc((size_t)(outputs * inputs), sizeof *w);
    float *plain = calloc((size_t)(rows * pitch), sizeof *plain), *emulated = calloc((size_t)(rows * pitch), sizeof *plain);
    uint32_t state = 1;
    for (long i = 0; i < rows * inputs + outputs * inputs; i++) {
        state = state * 1664525u + 1013904223u;
        float value = (float)(int32_t)state / 1e9f;
        if (i < rows * inputs) x[i] = value;
        else w[i - rows * inputs] = value;
    }
    multiply(&ccpu_int8_base, 8, x, w, rows, inputs, outputs, plain, pitch);
    multiply(&emulated_int8_avx2vnni, 16, x, w, rows, inputs, outputs, emulated, pitch);
    bool is_zero = true;
    for (long i = 0; i < rows * pitch; i++) is_zero = is_zero && plain[i] == 0;
    bool same = !is_zero && memcmp(plain, emulated, (size_t)(rows * pitch) * sizeof *plain) == 0;
    free(x);
    free(w);
    free(plain);
    free(emulated);
    return same;
}
#else
bool vnni_can_be_emulated(void) { return false; }
bool vnni_has_the_plain_bits(long rows, long inputs, long outputs) {
    (void)rows, (void)inputs, (void)outputs;
    return false;
}
#endif
