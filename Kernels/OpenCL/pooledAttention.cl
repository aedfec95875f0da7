// The middle of pooledAttention: for each segment and head, z = Σ softmax(u · xⱼ) xⱼ over the segment's keys, where u is
// the head's query taken back through the key weights. What stands before and after are linears.
//
// Group (head, segment). A segment is four numbers: first query, queries, first key, keys.

// u and z have the columns of x once for each head; uPitch is 0 where all segments have one query.
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void pooledAttention(
    INPUT(x), INPUT(u), INTEGERS(segments), OUTPUT(z), uint columns, __local float *scores) {
    const uint lane = get_local_id(0);
    const uint head = get_group_id(0);
    const int4 segment = vload4(get_group_id(1), segments + segmentsOffset);
    __global const element *query = ROW(u, get_group_id(1)) + (size_t)head * columns;
    __global element *to = ROW(z, get_group_id(1)) + (size_t)head * columns;
    const uint whole = columns / VECTOR * VECTOR;

    for (int j = lane; j < segment.w; j += LANES) {
        __global const element *row = ROW(x, segment.z + j);
        vector sums = 0.0f;
        float rest = 0.0f;
        for (uint c = 0; c < whole; c += VECTOR) { sums = LOAD_VECTOR(query, c) * LOAD_VECTOR(row, c) + sums; }
        for (uint c = whole; c < columns; c++) { rest += LOAD(query, c) * LOAD(row, c); }
        scores[j] = SUM_VECTOR(sums) + rest;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float maximum = -FLT_MAX;
    for (int j = 0; j < segment.w; j++) { maximum = fmax(maximum, scores[j]); }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int j = lane; j < segment.w; j += LANES) { scores[j] = exp(scores[j] - maximum); }
    barrier(CLK_LOCAL_MEM_FENCE);
    float sum = 0.0f;
    for (int j = 0; j < segment.w; j++) { sum += scores[j]; }
    const float inverse = 1.0f / sum;

    for (uint c = lane * VECTOR; c < whole; c += LANES * VECTOR) {
        vector sums = 0.0f;
        for (int j = 0; j < segment.w; j++) { sums = scores[j] * LOAD_VECTOR(ROW(x, segment.z + j), c) + sums; }
        STORE_VECTOR(sums * inverse, to, c);
    }
    for (uint c = whole + lane; c < columns; c += LANES) {
        float rest = 0.0f;
        for (int j = 0; j < segment.w; j++) { rest += scores[j] * LOAD(ROW(x, segment.z + j), c); }
        STORE(rest * inverse, to, c);
    }
}

// Each segment's keys with their mean in front, plus positions. `starts` are the segments' first rows in y.
// Group (row, segment).
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void prependMean(
    INPUT(x), INPUT(means), INTEGERS(segments), INTEGERS(starts), __global const float *positions, OUTPUT(y),
    uint columns) {
    const int row = get_group_id(0);
    const int4 segment = vload4(get_group_id(1), segments + segmentsOffset);
    if (row > segment.w) { return; }
    __global const element *from = row == 0 ? ROW(means, get_group_id(1)) : ROW(x, segment.z + row - 1);
    __global element *to = ROW(y, starts[startsOffset + get_group_id(1)] + row);
    for (uint c = get_local_id(0); c < columns; c += LANES) {
        STORE(LOAD(from, c) + positions[(size_t)row * columns + c], to, c);
    }
}
