// The middle of pooledAttention as in pooledAttention.cl, for GPUs whose warps exchange registers: z = Σ softmax(u · xⱼ) xⱼ over a
// segment's keys, for each segment and head.
//
// Group (head, segment). The head's u is in registers, a warp to a key; then a work-item to eight columns. Rows begin at multiples of
// 16 bytes; `columns` is a multiple of 8. A segment is four numbers: first query, queries, first key, keys.
//
// Knobs:
//   PIECES   columns / 256, rounded up: 1 to 8
//   WARPS    4

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void pooledAttention(
    INPUT(x), INPUT(u), INTEGERS(segments), OUTPUT(z), uint columns, __local float *scores) {
    SHARED_MEMORY(16);
    const uint lane = get_local_id(0), warp = get_local_id(1);
    const uint head = get_group_id(0);
    const int4 segment = vload4(get_group_id(1), segments + segmentsOffset);
    __global const element *query = ROW(u, get_group_id(1)) + (size_t)head * columns;
    __global element *to = ROW(z, get_group_id(1)) + (size_t)head * columns;

    float q[PIECES][8];
UNROLL_LOOP
    for (uint p = 0; p < PIECES; p++) {
        const uint column = (p * 32 + lane) * 8;
UNROLL_LOOP
        for (uint n = 0; n < 8; n++) { q[p][n] = 0.0f; }
        if (column < columns) { load_halves8(query + column, q[p]); }
    }
    for (int first = 0; first < segment.w; first += WARPS) {
        const int key = min(first + (int)warp, segment.w - 1);
        __global const element *row = ROW(x, segment.z + key);
        float sum = 0.0f;
UNROLL_LOOP
        for (uint p = 0; p < PIECES; p++) {
            const uint column = (p * 32 + lane) * 8;
            if (column < columns) {
                float v[8];
                load_halves8(row + column, v);
UNROLL_LOOP
                for (uint n = 0; n < 8; n++) { sum = q[p][n] * v[n] + sum; }
            }
        }
        SUM_OVER_WARP(sum);
        if (lane == 0) { scores[key] = sum; }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float maximum = -FLT_MAX;
    for (int j = 0; j < segment.w; j++) { maximum = fmax(maximum, scores[j]); }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int j = warp * 32 + lane; j < segment.w; j += WARPS * 32) { scores[j] = exp(scores[j] - maximum); }
    barrier(CLK_LOCAL_MEM_FENCE);
    float total = 0.0f;
    for (int j = 0; j < segment.w; j++) { total += scores[j]; }
    const float inverse = 1.0f / total;

    for (uint column = (warp * 32 + lane) * 8; column < columns; column += WARPS * 32 * 8) {
        float sums[8] = {0.0f};
        for (int j = 0; j < segment.w; j++) {
            float v[8];
            load_halves8(ROW(x, segment.z + j) + column, v);
            const float weight = scores[j];
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) { sums[n] = weight * v[n] + sums[n]; }
        }
UNROLL_LOOP
        for (uint n = 0; n < 8; n++) { sums[n] *= inverse; }
        store_halves8(to + column, sums);
    }
}
