// y = norm(x), row by row; y may be x.
//
// One work-group to a row. Mean, then the mean of squared deviations: two passes, since the difference of two large
// sums loses what it is meant to find.

#define FLAG_RMS 1
#define FLAG_WEIGHT 2
#define FLAG_BIAS 4

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void norm(
    INPUT(x), OUTPUT(y), __global const float *weight, __global const float *bias, uint columns, float epsilon,
    uint flags) {
    __local float scratch[LANES];
    const uint lane = get_local_id(0);
    __global const element *row = ROW(x, get_group_id(0));
    __global element *out = ROW(y, get_group_id(0));
    const uint whole = columns / VECTOR * VECTOR;

    float mean = 0.0f;
    if (!(flags & FLAG_RMS)) {
        vector sums = 0.0f;
        float rest = 0.0f;
        for (uint c = lane * VECTOR; c < whole; c += LANES * VECTOR) { sums += LOAD_VECTOR(row, c); }
        for (uint c = whole + lane; c < columns; c += LANES) { rest += LOAD(row, c); }
        mean = GROUP_SUM(SUM_VECTOR(sums) + rest, scratch) / columns;
    }

    vector squares = 0.0f;
    float rest = 0.0f;
    for (uint c = lane * VECTOR; c < whole; c += LANES * VECTOR) {
        const vector d = LOAD_VECTOR(row, c) - mean;
        squares += d * d;
    }
    for (uint c = whole + lane; c < columns; c += LANES) {
        const float d = LOAD(row, c) - mean;
        rest += d * d;
    }
    const float variance = GROUP_SUM(SUM_VECTOR(squares) + rest, scratch) / columns;
    const float inverse = 1.0f / sqrt(variance + epsilon);

    for (uint c = lane * VECTOR; c < whole; c += LANES * VECTOR) {
        vector v = (LOAD_VECTOR(row, c) - mean) * inverse;
        if (flags & FLAG_WEIGHT) { v *= LOAD_FLOATS(weight, c); }
        if (flags & FLAG_BIAS) { v += LOAD_FLOATS(bias, c); }
        STORE_VECTOR(v, out, c);
    }
    for (uint c = whole + lane; c < columns; c += LANES) {
        float v = (LOAD(row, c) - mean) * inverse;
        if (flags & FLAG_WEIGHT) { v *= weight[c]; }
        if (flags & FLAG_BIAS) { v += bias[c]; }
        STORE(v, out, c);
    }
}
