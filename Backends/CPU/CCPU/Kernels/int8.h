// Products of 8-bit integers, summed exactly in 32 bits: the same bits on every instruction set.
//
// A row x is quantised as it comes, q = round(x / step) + zero in 0...255 with step = (max - min) / 255 and 0 in the
// range, and a column w at load, p = round(w / step) in -127...127 with step = max|w| / 127. Then
// Σ x w ≈ step_x · step_w · (Σ q p - zero · Σ p).
//
// A row's inputs are taken in groups of four bytes. With dot products of bytes (VNNI, HAS_BYTE_DOT) a group is four q,
// and zero · Σ p is subtracted beforehand. Elsewhere a group is two 16-bit q - zero, and weights are widened on their
// way: the products of bytes that such processors have (vpmaddubsw) saturate at sums of 16 bits.
// Sums have room for 65,000 inputs: 255 · 127 · 65,000 < 2^31.
#pragma once

#if HAS_BYTE_DOT
#define GROUP 4
#else
#define GROUP 2
#endif

typedef vi vi_unaligned __attribute__((aligned(4), may_alias));
typedef uint8_t vb __attribute__((ext_vector_type(VW)));
typedef vb vb_unaligned __attribute__((aligned(1), may_alias));
typedef int8_t v2b __attribute__((ext_vector_type(2 * VW)));
typedef v2b v2b_unaligned __attribute__((aligned(1), may_alias));
typedef int16_t v2h __attribute__((ext_vector_type(2 * VW)));

INLINE vi load_integers(const int32_t *p) { return *(const vi_unaligned *)p; }
INLINE vi splat_integer(int32_t x) { return (vi)x; }

/// The nearest integer, ties to even, of |x| < 2^22. Two statements: a fused multiply-add would round differently.
#define NEAREST_SHIFT 12582912.0f
#define NEAREST_BITS 0x4B400000
INLINE vi nearest(vf x) {
    vf shifted = x + splat(NEAREST_SHIFT);
    return bits_of(shifted) - NEAREST_BITS;
}

INLINE void store_group(int32_t *row, long i, vf x, float inverse, vi offset, vi greatest) {
    vf scaled = x * splat(inverse);
    vf shifted = scaled + splat(NEAREST_SHIFT);
    vi q = __builtin_elementwise_min(bits_of(shifted) - offset, greatest);
#if HAS_BYTE_DOT
    *(vb_unaligned *)((char *)row + i) = __builtin_convertvector(q, vb);
#else
    *(vh_unaligned *)((char *)row + 2 * i) = __builtin_convertvector(q, vh);
#endif
}

/// The next vector of a row; zeros after its end.
INLINE vf load_row(const float *x, long i, long n) { return i + VW <= n ? load(x + i) : load_part(x + i, n - i); }

static void quantize(const float *x, long n, int32_t *row, long pitch) {
    enum { CHAINS = 4 };
    vf low[CHAINS], high[CHAINS], zeros[CHAINS];
    for (int s = 0; s < CHAINS; s++) low[s] = high[s] = zeros[s] = splat(0);
    long i = 0;
    for (; i + CHAINS * VW <= n; i += CHAINS * VW)
#pragma clang loop unroll(full)
        for (int s = 0; s < CHAINS; s++) {
            vf value = load(x + i + s * VW);
            low[s] = value < low[s] ? value : low[s];
            high[s] = value > high[s] ? value : high[s];
            zeros[s] = fma_(value, splat(0), zeros[s]);
        }
    for (; i < n; i += VW) {
        vf value = load_row(x, i, n);
        low[0] = value < low[0] ? value : low[0];
        high[0] = value > high[0] ? value : high[0];
        zeros[0] = fma_(value, splat(0), zeros[0]);
    }
    for (int s = 1; s < CHAINS; s++) {
        low[0] = low[s] < low[0] ? low[s] : low[0];
        high[0] = larger(high[s], high[0]);
        zeros[0] += zeros[s];
    }
    float least = -largest(-low[0]), most = largest(high[0]);
    float step = (most - least) / 255;
    float inverse = step > 0x1p-120f && step < 0x1p120f ? 1 / step : 0;
    if (inverse == 0) step = step < 1 ? 0 : INFINITY;
    // 0 · x is NaN where x is not finite: such a row has no numbers to give.
    if (sum(zeros[0]) != 0) step = NAN;
    int32_t zero = inverse > 0 ? nearest(splat(-least * inverse))[0] : 0;
    // No x is below the least, so q is never below -zero; the greatest may be rounded to 256 - zero.
    vi offset = splat_integer(NEAREST_BITS - (HAS_BYTE_DOT ? zero : 0));
    vi greatest = splat_integer(HAS_BYTE_DOT ? 255 : 255 - zero);
    for (i = 0; i + VW <= n; i += VW) store_group(row, i, load(x + i), inverse, offset, greatest);
    if (i < n) store_group(row, i, load_part(x + i, n - i), inverse, offset, greatest);
    // After the values: their last vector may reach here.
    __builtin_memcpy(row + pitch - 2, &step, sizeof step);
    row[pitch - 1] = zero;
}

static void pack_int8(const float *panel, long inputs, long width, int8_t *packed, float *steps, int32_t *sums) {
    for (long c = 0; c < width; c += VW) {
        vi magnitude = splat_integer(0);
        for (long k = 0; k < inputs; k++)
            magnitude = __builtin_elementwise_max(magnitude, bits_of(load(panel + k * width + c)) & 0x7fffffff);
        vf step = float_of(magnitude) / splat(127);
        vi tiny = step < splat(0x1p-120f);
        vf inverse = choose(tiny, splat(0), splat(1) / step);
        step = choose(tiny, splat(0), step);
        vi infinite = magnitude >= 0x7f800000;
        store(steps + c, choose(infinite, splat(NAN), step));
        vi total = splat_integer(0);
        for (long k = 0; k < inputs; k += GROUP) {
            vi group = splat_integer(0);
            for (long i = 0; i < GROUP && k + i < inputs; i++) {
                vf scaled = load(panel + (k + i) * width + c) * inverse;
                vi p = __builtin_elementwise_max(nearest(scaled), splat_integer(-127));
                p = __builtin_elementwise_min(p, splat_integer(127));
                total += p;
                group |= (p & 255) << (int)(8 * i);
            }
            char *target = (char *)packed + (k / GROUP * width + c) * GROUP;
#if HAS_BYTE_DOT
            *(vi_unaligned *)target = group;
#else
            *(vh_unaligned *)target = __builtin_convertvector(group, vh);
#endif
        }
        *(vi_unaligned *)(sums + c) = total;
    }
}

#if HAS_BYTE_DOT
typedef vi group_columns;
INLINE group_columns load_columns(const int8_t *p) { return *(const vi_unaligned *)(const void *)p; }
INLINE vi add_products(vi sum, int32_t inputs, group_columns columns) {
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)splat_integer(inputs), (__m512i)columns);
}
#else
typedef v2h group_columns;
INLINE group_columns load_columns(const int8_t *p) {
    return __builtin_convertvector(*(const v2b_unaligned *)p, v2h);
}
INLINE vi add_products(vi sum, int32_t inputs, group_columns columns) {
#ifdef PAIR_PRODUCTS
    return sum + (vi)PAIR_PRODUCTS((v2h)splat_integer(inputs), columns);
#else
    vi pairs = (vi)columns;
    return sum + (pairs << 16 >> 16) * splat_integer((int16_t)inputs) + (pairs >> 16) * splat_integer(inputs >> 16);
#endif
}
#endif

INLINE void tile_int8(
    const int rows, const int vectors, long groups, const int32_t *a, long pitch, const int8_t *b, long width,
    const float *steps, const int32_t *sums, float *c, long ldc, const char *next, long next_step)
{
    vi totals[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
#if HAS_BYTE_DOT
            totals[r][v] = splat_integer(-a[r * pitch + pitch - 1]) * load_integers(sums + v * VW);
#else
            totals[r][v] = splat_integer(0);
#endif
        }
// Unrolled twice, the compiler spills sums.
#pragma clang loop unroll(disable)
    for (long g = 0; g < groups; g++) {
        group_columns columns[TILE_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) columns[v] = load_columns(b + v * VW * GROUP);
        __builtin_prefetch(next, 0, 2);
        next += next_step;
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++) totals[r][v] = add_products(totals[r][v], a[r * pitch + g], columns[v]);
        }
        b += width * GROUP;
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
        float step;
        __builtin_memcpy(&step, a + r * pitch + pitch - 2, sizeof step);
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            vf factor = splat(step) * load(steps + v * VW);
            store(c + r * ldc + v * VW, __builtin_convertvector(totals[r][v], vf) * factor);
        }
    }
}

typedef void (*tile_int8_function)(
    long groups, const int32_t *a, long pitch, const int8_t *b, long width, const float *steps, const int32_t *sums,
    float *c, long ldc, const char *next, long next_step);

#define TILE_INT8(ROWS, VECTORS)                                                                                     \
    static void tile_int8_##ROWS##_##VECTORS(                                                                        \
        long groups, const int32_t *a, long pitch, const int8_t *b, long width, const float *steps,                  \
        const int32_t *sums, float *c, long ldc, const char *next, long next_step)                                   \
    {                                                                                                                \
        tile_int8(ROWS, VECTORS, groups, a, pitch, b, width, steps, sums, c, ldc, next, next_step);                  \
    }

#if TILE_VECTORS == 4
#define TILES_INT8(ROWS) TILE_INT8(ROWS, 1) TILE_INT8(ROWS, 2) TILE_INT8(ROWS, 3) TILE_INT8(ROWS, 4)
#define TILE_INT8_NAMES(ROWS) {tile_int8_##ROWS##_1, tile_int8_##ROWS##_2, tile_int8_##ROWS##_3, tile_int8_##ROWS##_4}
#elif TILE_VECTORS == 2
#define TILES_INT8(ROWS) TILE_INT8(ROWS, 1) TILE_INT8(ROWS, 2)
#define TILE_INT8_NAMES(ROWS) {tile_int8_##ROWS##_1, tile_int8_##ROWS##_2}
#endif

TILES_INT8(1) TILES_INT8(2) TILES_INT8(3) TILES_INT8(4) TILES_INT8(5) TILES_INT8(6)
static const tile_int8_function tiles_int8[TILE_ROWS][TILE_VECTORS] = {
    TILE_INT8_NAMES(1), TILE_INT8_NAMES(2), TILE_INT8_NAMES(3),
    TILE_INT8_NAMES(4), TILE_INT8_NAMES(5), TILE_INT8_NAMES(6),
};

static void product_int8(
    long rows, long inputs, const int32_t *a, long pitch, const int8_t *b, long columns, const float *steps,
    const int32_t *sums, float *c, long ldc, const int8_t *next)
{
    long groups = (inputs + GROUP - 1) / GROUP, vectors = columns / VW;
    long blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
    long low = rows / blocks, taller = rows % blocks;
    long step = next ? ccpu_min(64, columns * GROUP / blocks) : 0;
    for (long block = 0, row = 0; block < blocks; block++) {
        long height = low + (block < taller ? 1 : 0);
        tiles_int8[height - 1][vectors - 1](
            groups, a + row * pitch, pitch, b, columns, steps, sums, c + row * ldc, ldc,
            next ? (const char *)next + block * step * groups : (const char *)b, step);
        row += height;
    }
}

static float multiply_adds_int8(long steps) {
    vi sums[12];
    for (int i = 0; i < 12; i++) sums[i] = splat_integer(i);
    int8_t bytes[VW * GROUP];
    for (int i = 0; i < VW * GROUP; i++) bytes[i] = (int8_t)(i - 20);
    group_columns columns = load_columns(bytes);
    for (long s = 0; s < steps; s++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < 12; i++) {
            sums[i] = add_products(sums[i], 0x00030001, columns);
            // Else products are taken out of the loop: of one sum, or, where they are made before they are added, all.
#if defined(__x86_64__)
            __asm__("" : "+v"(sums[i]), "+v"(columns));
#elif defined(__aarch64__)
            __asm__("" : "+w"(sums[i]), "+w"(columns));
#endif
        }
    }
    int32_t total = 0;
    for (int i = 0; i < 12; i++) total += sums[i][0];
    return (float)total;
}

const ccpu_int8_kernels INT8_TABLE = {
    .group = GROUP,
    .quantize = quantize,
    .pack = pack_int8,
    .product = product_int8,
    .multiply_adds = multiply_adds_int8,
    .multiply_adds_per_step = 12 * VW * GROUP,
};
