// y = norm(x), row by row; y may be x. For GPUs whose warps exchange registers: a row to a warp, kept in registers.
//
// As norm.cl: the mean, then the mean of squared deviations. Rows begin at multiples of 16 bytes; `columns` is a multiple of 8.
//
// Knobs:
//   PIECES   columns / 256, rounded up: 1 to 8
//   WARPS    rows of a work-group

#define FLAG_RMS 1
#define FLAG_WEIGHT 2
#define FLAG_BIAS 4

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void norm(
    INPUT(x), OUTPUT(y), __global const float *weight, __global const float *bias, uint columns, float epsilon, uint flags,
    uint rows) {
    SHARED_MEMORY(16);
    const uint lane = get_local_id(0);
    const uint row = get_group_id(0) * WARPS + get_local_id(1);
    __global const element *from = ROW(x, min(row, rows - 1));

    float v[PIECES][8];
    float mean = 0.0f;
UNROLL_LOOP
    for (uint p = 0; p < PIECES; p++) {
        const uint column = (p * 32 + lane) * 8;
UNROLL_LOOP
        for (uint n = 0; n < 8; n++) { v[p][n] = 0.0f; }
        if (column < columns) { load_halves8(from + column, v[p]); }
UNROLL_LOOP
        for (uint n = 0; n < 8; n++) { mean += v[p][n]; }
    }
    SUM_OVER_WARP(mean);
    mean = flags & FLAG_RMS ? 0.0f : mean / columns;

    float squares = 0.0f;
UNROLL_LOOP
    for (uint p = 0; p < PIECES; p++) {
        if ((p * 32 + lane) * 8 < columns) {
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) {
                v[p][n] -= mean;
                squares += v[p][n] * v[p][n];
            }
        }
    }
    SUM_OVER_WARP(squares);
    const float inverse = 1.0f / sqrt(squares / columns + epsilon);

    __global element *to = ROW(y, row);
UNROLL_LOOP
    for (uint p = 0; p < PIECES; p++) {
        const uint column = (p * 32 + lane) * 8;
        if (column < columns && row < rows) {
            float factors[8], added[8];
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) {
                factors[n] = 1.0f;
                added[n] = 0.0f;
            }
            if (flags & FLAG_WEIGHT) { load_constants8(weight + column, factors); }
            if (flags & FLAG_BIAS) { load_constants8(bias + column, added); }
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) { v[p][n] = v[p][n] * inverse * factors[n] + added[n]; }
            store_halves8(to + column, v[p]);
        }
    }
}
