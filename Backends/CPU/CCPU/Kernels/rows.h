// Functions of one row: norms, softmax, sums.
#pragma once

/// y = norm(x) in two passes: the mean, then the squares of the distances to it. Four partial sums each.
static void norm(const ccpu_norm *n, const float *x, float *y) {
    long columns = n->columns, whole = columns / VW * VW;
    float mean = 0;
    if (!n->rms) {
        vf sums[4] = {splat(0), splat(0), splat(0), splat(0)};
        long i = 0;
        for (; i + 4 * VW <= whole; i += 4 * VW)
#pragma clang loop unroll(full)
            for (int s = 0; s < 4; s++) sums[s] += load(x + i + s * VW);
        for (; i < whole; i += VW) sums[0] += load(x + i);
        if (whole < columns) sums[1] += load_part(x + whole, columns - whole);
        mean = sum((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)columns;
    }
    vf center = splat(mean);
    vf squares[4] = {splat(0), splat(0), splat(0), splat(0)};
    long i = 0;
    for (; i + 4 * VW <= whole; i += 4 * VW)
#pragma clang loop unroll(full)
        for (int s = 0; s < 4; s++) {
            vf d = load(x + i + s * VW) - center;
            squares[s] = fma_(d, d, squares[s]);
        }
    for (; i < whole; i += VW) {
        vf d = load(x + i) - center;
        squares[0] = fma_(d, d, squares[0]);
    }
    if (whole < columns) {
        float rest[VW];
        for (int j = 0; j < VW; j++) rest[j] = mean;
        __builtin_memcpy(rest, x + whole, (size_t)(columns - whole) * sizeof(float));
        vf d = load(rest) - center;
        squares[1] = fma_(d, d, squares[1]);
    }
    float variance = sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / (float)columns;
    vf factor = splat(1.0f / square_root(variance + n->epsilon));
    // Gain, bias and rows are padded to whole vectors.
    for (i = 0; i < columns; i += VW) {
        vf value = (load(x + i) - center) * factor * load(n->gain + i);
        if (n->bias) value += load(n->bias + i);
        store(y + i, value);
    }
}

static float exponentials(float *x, long n, float scale, const float *bias) {
    vf highest = splat(-INFINITY);
    for (long i = 0; i < n; i += VW) {
        vf value = load(x + i) * splat(scale);
        long left = n - i;
        if (bias) value += left >= VW ? load(bias + i) : load_part(bias + i, left);
        if (left < VW)
            for (long j = left; j < VW; j++) value[j] = -INFINITY;
        store(x + i, value);
        highest = larger(value, highest);
    }
    vf top = splat(largest(highest));
    vf total = splat(0);
    for (long i = 0; i < n; i += VW) {
        vf value = exponential(load(x + i) - top);
        store(x + i, value);
        total += value;
    }
    return 1.0f / sum(total);
}

static void softmax_columns(float *x, long rows, long columns, long pitch, float scale) {
    for (long c = 0; c < columns; c += VW) {
        vf top = splat(-INFINITY);
        for (long r = 0; r < rows; r++) {
            vf value = load(x + r * pitch + c) * splat(scale);
            store(x + r * pitch + c, value);
            top = larger(value, top);
        }
        vf total = splat(0);
        for (long r = 0; r < rows; r++) {
            vf value = exponential(load(x + r * pitch + c) - top);
            store(x + r * pitch + c, value);
            total += value;
        }
        vf factor = splat(1) / total;
        for (long r = 0; r < rows; r++) store(x + r * pitch + c, load(x + r * pitch + c) * factor);
    }
}

static void scaled(const float *x, float factor, long n, float *y) {
    long i = 0;
    for (; i + VW <= n; i += VW) store(y + i, load(x + i) * splat(factor));
    if (i < n) store_part(y + i, load_part(x + i, n - i) * splat(factor), n - i);
}

static void sum_rows(const float *x, const float *z, long n, float *y) {
    long i = 0;
    for (; i + VW <= n; i += VW) store(y + i, load(x + i) + load(z + i));
    if (i < n) store_part(y + i, load_part(x + i, n - i) + load_part(z + i, n - i), n - i);
}

/// Divided by the largest element first, so that no square overflows or vanishes.
static void normalize(float *x, long n) {
    long whole = n / VW * VW;
    vf top = splat(0);
    for (long i = 0; i < whole; i += VW) top = larger(__builtin_elementwise_abs(load(x + i)), top);
    if (whole < n) top = larger(__builtin_elementwise_abs(load_part(x + whole, n - whole)), top);
    float highest = largest(top);
    if (!(highest > 0)) return;
    // A power of two near its inverse, so that scaling is exact: 2^(127 - e) for an exponent field of e.
    uint32_t bits;
    __builtin_memcpy(&bits, &highest, sizeof bits);
    uint32_t field = bits >> 23;
    bits = (field > 252 ? 1 : (field < 2 ? 252 : 254 - field)) << 23;
    float shrink;
    __builtin_memcpy(&shrink, &bits, sizeof shrink);
    vf squares = splat(0);
    for (long i = 0; i < whole; i += VW) {
        vf value = load(x + i) * splat(shrink);
        squares = fma_(value, value, squares);
    }
    if (whole < n) {
        vf value = load_part(x + whole, n - whole) * splat(shrink);
        squares = fma_(value, value, squares);
    }
    float factor = 1.0f / square_root(sum(squares));
    for (long i = 0; i < whole; i += VW) store(x + i, load(x + i) * splat(shrink) * splat(factor));
    if (whole < n)
        store_part(x + whole, load_part(x + whole, n - whole) * splat(shrink) * splat(factor), n - whole);
}
