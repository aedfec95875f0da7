// The matrix product's inner loops: c = a b, where b is a packed panel (or any rows with a pitch), each element summed
// over k in rising order by one chain of multiply-adds. So an element's bytes depend on its row of a, its column of b and
// the number of inputs alone.
//
// A panel of halves is widened by the first block of rows, on its way through the registers, and left as floats for the
// blocks after it: memory brings half as much, and the numbers are the same.
#pragma once

/// Inputs that one sweep over the rows takes: a panel of so many inputs stays in L2 while the rows pass by.
#define INPUTS_PER_SWEEP 768

/// Inputs whose multiply-adds are unrolled, at most.
#if defined(__aarch64__)
#define INPUTS_TOGETHER 2
#else
#define INPUTS_TOGETHER 4
#endif

/// sums += one column of a times one row of b, which may be halves: their floats are left in `wide`. `upper` and `lower`
/// are the addresses of rows 0 and 3 of a: with two of them every row is an address that the instruction forms by itself,
/// so that the loop needs few registers for addresses (out of those, the compiler loads elements ahead of their use and
/// spills sums).
INLINE void add_input(
    const int rows, const int vectors, const bool halves, const float *upper, const float *lower, long lda,
    const void *b, float *wide, vf sums[TILE_ROWS][TILE_VECTORS])
{
    vf columns[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
#if HAS_HALVES
        if (halves) {
            columns[v] = widened((const uint16_t *)b + v * VW);
            store(wide + v * VW, columns[v]);
            continue;
        }
#endif
        columns[v] = load((const float *)b + v * VW);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
        vf value = splat(r < 3 ? upper[r * lda] : lower[(r - 3) * lda]);
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) sums[r][v] = fma_(value, columns[v], sums[r][v]);
    }
}

/// One register tile: `rows` x `vectors` vectors. Every `period` inputs, `next` is fetched into L2 and moves on by
/// `next_step` bytes. Constant arguments, so that everything unrolls.
INLINE void tile(
    const int rows, const int vectors, const int period, const bool halves, long inputs, const float *a, long lda,
    const void *panel, long ldb, float *c, long ldc, bool continues, const char *next, long next_step, float *wide,
    long wide_step)
{
    const char *b = panel;
    // A panel of halves is as wide as the tile.
    const long row_bytes = halves ? vectors * VW * (long)sizeof(uint16_t) : ldb * (long)sizeof(float);
    // Of more inputs unrolled than these, elements are loaded ahead of their use, and sums spilled for them.
    const int together = halves ? 1 : period < INPUTS_TOGETHER ? period : INPUTS_TOGETHER;
    vf sums[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) sums[r][v] = continues ? load(c + r * ldc + v * VW) : splat(0);
    const float *lower = a + 3 * lda;
    for (; inputs >= period; inputs -= period, a += period, lower += period) {
        __builtin_prefetch(next, 0, 2);
        next += next_step;
#pragma clang loop unroll(disable)
        for (int i = 0; i < period; i += together)
#pragma clang loop unroll(full)
            for (int j = i; j < i + together; j++, b += row_bytes, wide += wide_step)
                add_input(rows, vectors, halves, a + j, lower + j, lda, b, wide, sums);
    }
    for (; inputs > 0; inputs--, a++, lower++, b += row_bytes, wide += wide_step)
        add_input(rows, vectors, halves, a, lower, lda, b, wide, sums);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) store(c + r * ldc + v * VW, sums[r][v]);
}

typedef void (*tile_function)(
    long inputs, const float *a, long lda, const void *b, long ldb, float *c, long ldc, bool continues,
    const char *next, long next_step, float *wide, long wide_step);

#define TILE(ROWS, VECTORS, PERIOD, HALVES)                                                                          \
    static void tile_##ROWS##_##VECTORS##_##PERIOD##_##HALVES(                                                       \
        long inputs, const float *a, long lda, const void *b, long ldb, float *c, long ldc, bool continues,          \
        const char *next, long next_step, float *wide, long wide_step)                                               \
    {                                                                                                                \
        tile(                                                                                                        \
            ROWS, VECTORS, PERIOD, HALVES, inputs, a, lda, b, ldb, c, ldc, continues, next, next_step, wide,         \
            wide_step);                                                                                              \
    }

#if TILE_VECTORS == 4
#define EACH_WIDTH(DO, ROWS, PERIOD, HALVES)                                                                         \
    DO(ROWS, 1, PERIOD, HALVES) DO(ROWS, 2, PERIOD, HALVES) DO(ROWS, 3, PERIOD, HALVES) DO(ROWS, 4, PERIOD, HALVES)
#elif TILE_VECTORS == 2
#define EACH_WIDTH(DO, ROWS, PERIOD, HALVES) DO(ROWS, 1, PERIOD, HALVES) DO(ROWS, 2, PERIOD, HALVES)
#endif
#define EACH_HEIGHT(PERIOD, HALVES)                                                                                  \
    EACH_WIDTH(TILE, 1, PERIOD, HALVES) EACH_WIDTH(TILE, 2, PERIOD, HALVES) EACH_WIDTH(TILE, 3, PERIOD, HALVES)      \
    EACH_WIDTH(TILE, 4, PERIOD, HALVES) EACH_WIDTH(TILE, 5, PERIOD, HALVES) EACH_WIDTH(TILE, 6, PERIOD, HALVES)
#define TILE_NAME(ROWS, VECTORS, PERIOD, HALVES) tile_##ROWS##_##VECTORS##_##PERIOD##_##HALVES,
#define TILE_NAMES(PERIOD, HALVES)                                                                                   \
    {                                                                                                                \
        {EACH_WIDTH(TILE_NAME, 1, PERIOD, HALVES)}, {EACH_WIDTH(TILE_NAME, 2, PERIOD, HALVES)},                      \
            {EACH_WIDTH(TILE_NAME, 3, PERIOD, HALVES)}, {EACH_WIDTH(TILE_NAME, 4, PERIOD, HALVES)},                  \
            {EACH_WIDTH(TILE_NAME, 5, PERIOD, HALVES)}, {EACH_WIDTH(TILE_NAME, 6, PERIOD, HALVES)},                  \
    }

EACH_HEIGHT(1, 0) EACH_HEIGHT(2, 0) EACH_HEIGHT(4, 0)
#if HAS_HALVES
EACH_HEIGHT(1, 1) EACH_HEIGHT(2, 1) EACH_HEIGHT(4, 1)
#define FAMILY(PERIOD) {PERIOD, {TILE_NAMES(PERIOD, 0), TILE_NAMES(PERIOD, 1)}}
#else
#define FAMILY(PERIOD) {PERIOD, {TILE_NAMES(PERIOD, 0)}}
#endif
static const struct {
    long period;
    /// Of floats, and of halves.
    tile_function tiles[1 + HAS_HALVES][TILE_ROWS][TILE_VECTORS];
} families[] = {FAMILY(4), FAMILY(2), FAMILY(1)};

/// The products of one panel, of floats or of halves, whose floats need room in `wide`: [inputs of a sweep][columns].
static void multiply(
    const bool halves, long rows, long inputs, const float *a, long lda, const void *b, long ldb, long columns, float *c,
    long ldc, const void *next, float *wide)
{
    long vectors = columns / VW;
    // Tiles of nearly equal height: 50 rows are 5 x 6 + 4 x 5, not 8 x 6 + 2.
    long blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
    long low = rows / blocks, taller = rows % blocks;
    long sweeps = (inputs + INPUTS_PER_SWEEP - 1) / INPUTS_PER_SWEEP;
    long sweep = (inputs + sweeps - 1) / sweeps;
    // The memory read next comes in while the rows pass: each block fetches its share of every sweep, a line at a time,
    // at the longest period that leaves no line out (asking for a line twice costs as much as asking for two).
    long element = halves ? sizeof(uint16_t) : sizeof(float), row_bytes = columns * element;
    int family = 0;
    while (families[family].period > 1 && families[family].period * row_bytes > 64 * blocks) family++;
    long period = families[family].period;
    long step = next ? ccpu_min(64, (period * row_bytes + blocks - 1) / blocks) : 0;
    for (long first = 0; first < inputs; first += sweep) {
        long count = first + sweep <= inputs ? sweep : inputs - first;
        for (long block = 0, row = 0; block < blocks; block++) {
            long height = low + (block < taller ? 1 : 0);
            const char *fetched =
                next ? (const char *)next + first * row_bytes + block * step * (count / period) : (const char *)b;
            bool widens = halves && block == 0;
            const void *panel = halves && block > 0 ? (const void *)wide : (const char *)b + first * ldb * element;
            families[family].tiles[widens][height - 1][vectors - 1](
                count, a + row * lda + first, lda, panel, ldb, c + row * ldc, ldc, first > 0, fetched, step, wide,
                blocks > 1 ? ldb : 0);  // one block's floats nobody reads: they stay in one place
            row += height;
        }
    }
}

static void product(
    long rows, long inputs, const float *a, long lda, const float *b, long ldb, long columns, float *c, long ldc,
    const float *next)
{
    multiply(false, rows, inputs, a, lda, b, ldb, columns, c, ldc, next, NULL);
}

#if HAS_HALVES
static void product_of_halves(
    long rows, long inputs, const float *a, long lda, const uint16_t *b, long columns, float *c, long ldc,
    const uint16_t *next, float *wide)
{
    multiply(true, rows, inputs, a, lda, b, columns, columns, c, ldc, next, wide);
}
#endif

/// The epilogue of one tile. Constant arguments, so that the inner loop has no branches.
INLINE void finish(
    const ccpu_activation before, const bool adds, const ccpu_activation after, const ccpu_epilogue *e, long rows, long first, long columns,
    const float *c, long ldc, float *y, long ldy, const float *residual, long ldr)
{
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < columns; j += VW) {
            vf value = load(c + r * ldc + j);
            if (e->bias) value += load(e->bias + first + j);
            value = activate(before, value);
            if (adds) value += load(residual + r * ldr + first + j);
            value = activate(after, value);
            store(y + r * ldy + first + j, value);
        }
}

/// The same with all that may stand in one.
static void finish_any(
    const ccpu_epilogue *e, long rows, long first, long columns, const float *c, long ldc, float *y, long ldy,
    const float *residual, long ldr)
{
    long outputs = e->gated ? columns / 2 : columns;
    long output = e->gated ? first / 2 : first;
    const float *bias = e->bias ? e->bias + first : NULL;
    const float *scale = e->scale ? e->scale + output : NULL;
    for (long r = 0; r < rows; r++) {
        const float *from = c + r * ldc;
        float *to = y + r * ldy + output;
        const float *added = residual ? residual + r * ldr + output : NULL;
        for (long j = 0; j < outputs; j += VW) {
            vf value = load(from + j);
            if (bias) value += load(bias + j);
            if (!e->activates_after_residual) value = activate(e->activation, value);
            if (e->gated) {
                vf second = load(from + outputs + j);
                if (bias) second += load(bias + outputs + j);
                value *= second;
            }
            if (scale) value *= load(scale + j);
            if (added) value += load(added + j);
            if (e->activates_after_residual) value = activate(e->activation, value);
            store(to + j, value);
        }
    }
}

static void epilogue(
    const ccpu_epilogue *e, long rows, long first, long columns, const float *c, long ldc, float *y, long ldy,
    const float *residual, long ldr)
{
#define FINISH(BEFORE, ADDS, AFTER)                                                                                  \
    finish(BEFORE, ADDS, AFTER, e, rows, first, columns, c, ldc, y, ldy, residual, ldr);                             \
    return
    // What CLIP's models have.
    if (!e->gated && !e->scale) {
        if (!residual) {
            switch (e->activation) {
                case CCPU_NONE: FINISH(CCPU_NONE, false, CCPU_NONE);
                case CCPU_RELU: FINISH(CCPU_RELU, false, CCPU_NONE);
                case CCPU_QUICK_GELU: FINISH(CCPU_QUICK_GELU, false, CCPU_NONE);
                case CCPU_GELU: FINISH(CCPU_GELU, false, CCPU_NONE);
                case CCPU_GELU_TANH: FINISH(CCPU_GELU_TANH, false, CCPU_NONE);
            }
        }
        if (e->activation == CCPU_NONE) { FINISH(CCPU_NONE, true, CCPU_NONE); }
        if (e->activation == CCPU_RELU && e->activates_after_residual) { FINISH(CCPU_NONE, true, CCPU_RELU); }
    }
    finish_any(e, rows, first, columns, c, ldc, y, ldy, residual, ldr);
}

static float multiply_adds(long steps) {
    vf sums[12];
    for (int i = 0; i < 12; i++) sums[i] = splat((float)i);
    vf x = splat(0.999f), y = splat(0.001f);
    for (long s = 0; s < steps; s++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < 12; i++) sums[i] = fma_(sums[i], x, y);
    }
    vf total = splat(0);
    for (int i = 0; i < 12; i++) total += sums[i];
    return sum(total);
}
