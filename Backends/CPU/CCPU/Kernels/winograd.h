// Winograd's transforms for convolutions of 3 x 3 with stride 1, two by two results from four by four inputs: F(2x2, 3x3) of
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308), section 4.1. All sums, no
// products: each result is off by a few roundings more than a plain sum's.
#pragma once

/// a - c, b + c, c - b, b - d: Bᵀ, down one column.
INLINE void before_products(vf a, vf b, vf c, vf d, vf *result, long step) {
    result[0] = a - c;
    result[step] = b + c;
    result[2 * step] = c - b;
    result[3 * step] = b - d;
}

/// Bᵀ d B of `channels` squares: `inputs` are the addresses of the sixteen positions of d, and position t of the result
/// goes to `squares + t * pitch`. Whole vectors are read and written.
static void winograd_inputs(const float *const *inputs, long channels, float *squares, long pitch) {
    for (long c = 0; c < channels; c += VW) {
        vf columns[16], square[16];
#pragma clang loop unroll(full)
        for (int x = 0; x < 4; x++)
            before_products(
                load(inputs[x] + c), load(inputs[4 + x] + c), load(inputs[8 + x] + c), load(inputs[12 + x] + c),
                columns + x, 4);
#pragma clang loop unroll(full)
        for (int y = 0; y < 4; y++) {
            const vf *row = columns + 4 * y;
            before_products(row[0], row[1], row[2], row[3], square + 4 * y, 1);
        }
#pragma clang loop unroll(full)
        for (int t = 0; t < 16; t++) store(squares + t * pitch + c, square[t]);
    }
}

/// Aᵀ m A of `columns` squares whose positions lie at `products + t * pitch`: two results side by side go to `upper` and
/// two below them to `lower`, `step` floats apart.
static void winograd_results(
    const float *products, long pitch, long columns, float *upper, float *lower, long step)
{
    for (long c = 0; c < columns; c += VW) {
        vf above[4], below[4];
#pragma clang loop unroll(full)
        for (int x = 0; x < 4; x++) {
            const float *column = products + x * pitch + c;
            vf second = load(column + 4 * pitch), third = load(column + 8 * pitch);
            above[x] = load(column) + second + third;
            below[x] = second - third - load(column + 12 * pitch);
        }
        store(upper + c, above[0] + above[1] + above[2]);
        store(upper + step + c, above[1] - above[2] - above[3]);
        store(lower + c, below[0] + below[1] + below[2]);
        store(lower + step + c, below[1] - below[2] - below[3]);
    }
}
