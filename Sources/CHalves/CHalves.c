// Halves to floats and back. x86 processors have instructions for it since 2012, which programs for all of them may not take for granted:
// without, compilers call a function for each number, ten times as slow.
#include "CHalves.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define F16C __attribute__((target("avx,f16c")))

static int has_f16c(void) { return __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx"); }

F16C static size_t floats_f16c(float *to, const char *from, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + 2 * i))));
    }
    return i;
}

F16C static size_t halves_f16c(uint16_t *to, const float *from, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm_storeu_si128(
            (__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    }
    return i;
}
#endif

void ch_floats(float *to, const void *from, size_t count) {
    const char *bytes = from;
    size_t i = 0;
#if defined(__x86_64__)
    if (has_f16c()) { i = floats_f16c(to, bytes, count); }
#endif
    for (; i < count; i++) {
        _Float16 half;
        memcpy(&half, bytes + 2 * i, 2);
        to[i] = (float)half;
    }
}

void ch_halves(uint16_t *to, const float *from, size_t count) {
    size_t i = 0;
#if defined(__x86_64__)
    if (has_f16c()) { i = halves_f16c(to, from, count); }
#endif
    for (; i < count; i++) {
        const _Float16 half = (_Float16)from[i];
        memcpy(to + i, &half, 2);
    }
}
