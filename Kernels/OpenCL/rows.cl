// Operations on whole rows: selectRows, meanRows, normalizeRows. One work-group to a row of the result.

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
selectRows(INPUT(x), INTEGERS(rows), OUTPUT(y), uint columns) {
    __global const element *from = ROW(x, rows[rowsOffset + get_group_id(0)]);
    __global element *to = ROW(y, get_group_id(0));
    const uint whole = columns / 4 * 4;
    for (uint c = get_local_id(0) * 4; c < whole; c += LANES * 4) { STORE4(LOAD4(from, c), to, c); }
    for (uint c = whole + get_local_id(0); c < columns; c += LANES) { STORE(LOAD(from, c), to, c); }
}

// The mean of each segment's keys. A segment is four numbers: first query, queries, first key, keys.
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
meanRows(INPUT(x), INTEGERS(segments), OUTPUT(y), uint columns) {
    const int4 segment = vload4(get_group_id(0), segments + segmentsOffset);
    __global element *to = ROW(y, get_group_id(0));
    for (uint c = get_local_id(0); c < columns; c += LANES) {
        float sum = 0.0f;
        for (int j = 0; j < segment.w; j++) { sum += LOAD(ROW(x, segment.z + j), c); }
        STORE(sum / segment.w, to, c);
    }
}

// x / |x|, in place. The largest magnitude is divided out first, so that no square overflows or vanishes.
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void normalizeRows(OUTPUT(x), uint columns) {
    __local float scratch[LANES];
    const uint lane = get_local_id(0);
    __global element *row = ROW(x, get_group_id(0));
    float largest = 0.0f;
    for (uint c = lane; c < columns; c += LANES) { largest = fmax(largest, fabs(LOAD(row, c))); }
#if LANES > 1
    scratch[lane] = largest;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint other = 0; other < LANES; other++) { largest = fmax(largest, scratch[other]); }
#endif
    if (largest == 0.0f) { return; }
    float sum = 0.0f;
    for (uint c = lane; c < columns; c += LANES) {
        const float v = LOAD(row, c) / largest;
        sum += v * v;
    }
    const float inverse = 1.0f / sqrt(GROUP_SUM(sum, scratch));
    for (uint c = lane; c < columns; c += LANES) { STORE(LOAD(row, c) / largest * inverse, row, c); }
}
