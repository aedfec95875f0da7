// SHA-256 and SHA-1 as FIPS 180-4 describes them, in plain C, which is faster than a network; and SHA-256 with the
// instructions that processors have for it, since a model of gigabytes is known by its digest too.
#include "CHub.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static uint32_t rotateRight(uint32_t x, int n) { return x >> n | x << (32 - n); }
static uint32_t rotateLeft(uint32_t x, int n) { return x << n | x >> (32 - n); }

static uint32_t bigEndian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void putBigEndian(uint8_t *bytes, uint32_t value) {
    for (int i = 0; i < 4; i++) { bytes[i] = (uint8_t)(value >> (24 - 8 * i)); }
}

/// Fills blocks of 64 bytes and hands them to `compress`; the same for both functions.
static void update(
    uint32_t *state, uint64_t *total, uint8_t *block, const uint8_t *bytes, size_t count,
    void (*compress)(uint32_t *, const uint8_t *)) {
    size_t filled = *total % 64;
    *total += count;
    if (filled > 0) {
        size_t part = count < 64 - filled ? count : 64 - filled;
        if (part > 0) { memcpy(block + filled, bytes, part); }
        if (filled + part < 64) { return; }
        compress(state, block);
        bytes += part;
        count -= part;
    }
    for (; count >= 64; bytes += 64, count -= 64) { compress(state, bytes); }
    if (count > 0) { memcpy(block, bytes, count); }
}

/// The end of the message: a one bit, zeros, and the length in bits.
static void finish(uint32_t *state, uint64_t *total, uint8_t *block, void (*compress)(uint32_t *, const uint8_t *)) {
    uint64_t bits = *total * 8;
    uint8_t tail[72] = {0x80};
    size_t zeros = (119 - *total % 64) % 64;
    putBigEndian(tail + 1 + zeros, (uint32_t)(bits >> 32));
    putBigEndian(tail + 5 + zeros, (uint32_t)bits);
    update(state, total, block, tail, zeros + 9, compress);
}

// MARK: SHA-256

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void compress256(uint32_t *state, const uint8_t *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) { w[i] = bigEndian(block + 4 * i); }
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotateRight(w[i - 15], 7) ^ rotateRight(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotateRight(w[i - 2], 17) ^ rotateRight(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotateRight(e, 6) ^ rotateRight(e, 11) ^ rotateRight(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        uint32_t s0 = rotateRight(a, 2) ^ rotateRight(a, 13) ^ rotateRight(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g; g = f; f = e; e = d + t1;
        d = c; c = b; b = a; a = t1 + t2;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

#if defined(__x86_64__)
/// The same, four rounds at a time. The instructions keep the state as a b e f and c d g h, the first in the highest place.
__attribute__((target("sha,sse4.1"))) static void compress256_sha(uint32_t *state, const uint8_t *block) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];  // the last 16 words
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
        if (i < 4) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(block + 16 * i)), big_endian);
        } else {
            __m128i sum = _mm_add_epi32(
                _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]), _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
            w[i % 4] = _mm_sha256msg2_epu32(sum, w[(i + 3) % 4]);
        }
        __m128i k = _mm_add_epi32(w[i % 4], _mm_loadu_si128((const __m128i *)(const void *)(constants + 4 * i)));
        // Two rounds make the new a b e f; the old one is the new c d g h.
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
    }
    abef = _mm_shuffle_epi32(_mm_add_epi32(abef, abef_before), 0x1b);
    cdgh = _mm_shuffle_epi32(_mm_add_epi32(cdgh, cdgh_before), 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(abef, cdgh, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(cdgh, abef, 8));
}

static bool has_sha(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) && __builtin_cpu_supports("sse4.1");
}
#else
#define compress256_sha compress256
static bool has_sha(void) { return false; }
#endif

void chub_sha256_begin(CHubSHA256 *hash, bool plain) {
    *hash = (CHubSHA256){
        .state = {
            0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
        },
        .uses_instructions = !plain && has_sha(),
    };
}

void chub_sha256_update(CHubSHA256 *hash, const void *bytes, size_t count) {
    update(hash->state, &hash->count, hash->block, bytes, count, hash->uses_instructions ? compress256_sha : compress256);
}

void chub_sha256_end(CHubSHA256 *hash, uint8_t digest[32]) {
    finish(hash->state, &hash->count, hash->block, hash->uses_instructions ? compress256_sha : compress256);
    for (int i = 0; i < 8; i++) { putBigEndian(digest + 4 * i, hash->state[i]); }
}

// MARK: SHA-1

static void compress1(uint32_t *state, const uint8_t *block) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) { w[i] = bigEndian(block + 4 * i); }
    for (int i = 16; i < 80; i++) { w[i] = rotateLeft(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1); }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) {
            f = (b & c) | (~b & d); k = 0x5a827999;
        } else if (i < 40) {
            f = b ^ c ^ d; k = 0x6ed9eba1;
        } else if (i < 60) {
            f = (b & c) | (b & d) | (c & d); k = 0x8f1bbcdc;
        } else {
            f = b ^ c ^ d; k = 0xca62c1d6;
        }
        uint32_t t = rotateLeft(a, 5) + f + e + k + w[i];
        e = d; d = c; c = rotateLeft(b, 30); b = a; a = t;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e;
}

void chub_sha1_begin(CHubSHA1 *hash) {
    *hash = (CHubSHA1){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
}

void chub_sha1_update(CHubSHA1 *hash, const void *bytes, size_t count) {
    update(hash->state, &hash->count, hash->block, bytes, count, compress1);
}

void chub_sha1_end(CHubSHA1 *hash, uint8_t digest[20]) {
    finish(hash->state, &hash->count, hash->block, compress1);
    for (int i = 0; i < 5; i++) { putBigEndian(digest + 4 * i, hash->state[i]); }
}
