// y = softmax(q kᵀ + mask) v for each head; the scale is in the query's weights.
//
// Queries and values lie in `x`, row after row: [queries of all heads | values of all heads]. Keys lie transposed,
// [head · KEY_WIDTH + d][row], so that neighbouring keys are neighbours in memory; KEY_SLACK rows may be read past the last.
// Group (block of queries, head, segment). A segment is four numbers: first query, queries, first key, keys.
//
// Knobs:
//   KEY_WIDTH, VALUE_WIDTH   columns of one head, any
//   TILED 0   one work-item makes QUERIES rows, all scores in local memory, softmax in one piece: for CPUs.
//             QUERIES 1 to 8. Work-group 1 x 1 x 1. `scores` holds QUERIES rows of scoresPitch, a multiple of 32.
//   TILED 1   one work-item to a query, GROUP_QUERIES queries to a work-group, KEY_TILE keys at a time in local memory with the
//             softmax carried along: for GPUs. KEY_TILE a multiple of 8. `scores` is not used.

#define FLAG_CAUSAL 1
#define FLAG_ADD_BIAS 2

#define ATTENTION_PARAMETERS \
    INPUT(x), __global const element *keys, ulong keysOffset, uint keysPitch, INTEGERS(segments), \
        __global const float *bias, uint biasQueries, uint biasKeys, uint flags, OUTPUT(y), __local float *scores, \
        uint scoresPitch

#if !TILED

#ifdef cl_intel_vec_len_hint
__attribute__((intel_vec_len_hint(1)))
#endif
__attribute__((reqd_work_group_size(1, 1, 1))) __kernel void attention(ATTENTION_PARAMETERS) {
    const uint head = get_group_id(1), heads = get_num_groups(1);
    const int4 segment = vload4(get_group_id(2), segments + segmentsOffset);
    const int first = get_group_id(0) * QUERIES;
    if (first >= segment.y) { return; }

    // Queries past the last repeat it: they are computed and not stored.
    __global const element *q[QUERIES];
    int visible[QUERIES];
    int most = 0;
UNROLL_LOOP
    for (int i = 0; i < QUERIES; i++) {
        const int row = segment.x + min(first + i, segment.y - 1);
        q[i] = ROW(x, row) + head * KEY_WIDTH;
        visible[i] = flags & FLAG_CAUSAL ? clamp(row - segment.z + 1, 0, segment.w) : segment.w;
        most = max(most, visible[i]);
    }

    const int16 ascending = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __global const element *k = keys + keysOffset + (size_t)(head * KEY_WIDTH) * keysPitch + segment.z;
    float16 largest[QUERIES];
UNROLL_LOOP
    for (int i = 0; i < QUERIES; i++) { largest[i] = -INFINITY; }
    for (int j = 0; j < most; j += 32) {
        float16 low[QUERIES], high[QUERIES];
UNROLL_LOOP
        for (int i = 0; i < QUERIES; i++) { low[i] = high[i] = 0.0f; }
        for (uint d = 0; d < KEY_WIDTH; d++) {
            const float16 k_low = LOAD16(k, (size_t)d * keysPitch + j), k_high = LOAD16(k, (size_t)d * keysPitch + j + 16);
UNROLL_LOOP
            for (int i = 0; i < QUERIES; i++) {
                const float16 a = LOAD(q[i], d);
                low[i] = a * k_low + low[i];
                high[i] = a * k_high + high[i];
            }
        }
UNROLL_LOOP
        for (int i = 0; i < QUERIES; i++) {
            if (flags & FLAG_ADD_BIAS) {
                __global const float *b =
                    bias + ((size_t)head * biasQueries + min(first + i, segment.y - 1)) * biasKeys + j;
                float added[32];
                for (int n = 0; n < 32; n++) { added[n] = j + n < segment.w ? b[n] : 0.0f; }
                low[i] += vload16(0, added);
                high[i] += vload16(1, added);
            }
            low[i] = ascending + j < visible[i] ? low[i] : -INFINITY;
            high[i] = ascending + j + 16 < visible[i] ? high[i] : -INFINITY;
            largest[i] = fmax(largest[i], fmax(low[i], high[i]));
            vstore16(low[i], 0, scores + i * scoresPitch + j);
            vstore16(high[i], 0, scores + i * scoresPitch + j + 16);
        }
    }

    float inverse[QUERIES];
UNROLL_LOOP
    for (int i = 0; i < QUERIES; i++) {
        const float8 eight = fmax(largest[i].lo, largest[i].hi);
        const float4 four = fmax(eight.lo, eight.hi);
        // A row of nothing but -infinity stays zero.
        const float maximum = fmax(fmax(fmax(four.x, four.y), fmax(four.z, four.w)), -FLT_MAX);
        float16 sums = 0.0f;
        for (int j = 0; j < most; j += 16) {
            const float16 p = exp(vload16(0, scores + i * scoresPitch + j) - maximum);
            sums += p;
            vstore16(p, 0, scores + i * scoresPitch + j);
        }
        const float sum = sum16(sums);
        inverse[i] = sum > 0.0f ? 1.0f / sum : 0.0f;
    }

    __global const element *v = ROW(x, segment.z) + heads * KEY_WIDTH + head * VALUE_WIDTH;
    uint c = 0;
    for (; c + 32 <= VALUE_WIDTH; c += 32) {
        float16 low[QUERIES], high[QUERIES];
UNROLL_LOOP
        for (int i = 0; i < QUERIES; i++) { low[i] = high[i] = 0.0f; }
        for (int j = 0; j < most; j++) {
            const float16 v_low = LOAD16(v, (size_t)j * xPitch + c), v_high = LOAD16(v, (size_t)j * xPitch + c + 16);
UNROLL_LOOP
            for (int i = 0; i < QUERIES; i++) {
                const float16 p = scores[i * scoresPitch + j];
                low[i] = p * v_low + low[i];
                high[i] = p * v_high + high[i];
            }
        }
UNROLL_LOOP
        for (int i = 0; i < QUERIES; i++) {
            if (first + i < segment.y) {
                __global element *to = ROW(y, segment.x + first + i) + head * VALUE_WIDTH + c;
                STORE16(low[i] * inverse[i], to, 0);
                STORE16(high[i] * inverse[i], to, 16);
            }
        }
    }
    for (; c + 4 <= VALUE_WIDTH; c += 4) {
        float4 sums[QUERIES];
UNROLL_LOOP
        for (int i = 0; i < QUERIES; i++) { sums[i] = 0.0f; }
        for (int j = 0; j < most; j++) {
            const float4 value = LOAD4(v, (size_t)j * xPitch + c);
UNROLL_LOOP
            for (int i = 0; i < QUERIES; i++) { sums[i] = scores[i * scoresPitch + j] * value + sums[i]; }
        }
UNROLL_LOOP
        for (int i = 0; i < QUERIES; i++) {
            if (first + i < segment.y) {
                STORE4(sums[i] * inverse[i], ROW(y, segment.x + first + i) + head * VALUE_WIDTH + c, 0);
            }
        }
    }
    for (; c < VALUE_WIDTH; c++) {
        for (int i = 0; i < QUERIES && first + i < segment.y; i++) {
            float sum = 0.0f;
            for (int j = 0; j < most; j++) { sum += scores[i * scoresPitch + j] * LOAD(v, (size_t)j * xPitch + c); }
            STORE(sum * inverse[i], ROW(y, segment.x + first + i) + head * VALUE_WIDTH + c, 0);
        }
    }
}

#else

__attribute__((reqd_work_group_size(GROUP_QUERIES, 1, 1))) __kernel void attention(ATTENTION_PARAMETERS) {
    __local float k_tile[KEY_WIDTH][KEY_TILE];
    __local float v_tile[KEY_TILE][VALUE_WIDTH];
    const uint lane = get_local_id(0);
    const uint head = get_group_id(1), heads = get_num_groups(1);
    const int4 segment = vload4(get_group_id(2), segments + segmentsOffset);
    const int first = get_group_id(0) * GROUP_QUERIES;
    if (first >= segment.y) { return; }

    const int query = min(first + (int)lane, segment.y - 1);
    const int row = segment.x + query;
    const int visible = flags & FLAG_CAUSAL ? clamp(row - segment.z + 1, 0, segment.w) : segment.w;
    // What the last query of the group sees: the group stays together for the barriers.
    const int last = segment.x + min(first + GROUP_QUERIES, segment.y) - 1;
    const int most = flags & FLAG_CAUSAL ? clamp(last - segment.z + 1, 0, segment.w) : segment.w;

    float q[KEY_WIDTH], sums[VALUE_WIDTH];
    __global const element *from = ROW(x, row) + head * KEY_WIDTH;
UNROLL_LOOP
    for (uint d = 0; d < KEY_WIDTH; d++) { q[d] = LOAD(from, d); }
UNROLL_LOOP
    for (uint c = 0; c < VALUE_WIDTH; c++) { sums[c] = 0.0f; }
    float maximum = -FLT_MAX, sum = 0.0f;

    __global const element *k = keys + keysOffset + (size_t)(head * KEY_WIDTH) * keysPitch + segment.z;
    __global const element *v = ROW(x, segment.z) + heads * KEY_WIDTH + head * VALUE_WIDTH;
    __global const float *b = bias + (flags & FLAG_ADD_BIAS ? ((size_t)head * biasQueries + query) * biasKeys : 0);

    for (int start = 0; start < most; start += KEY_TILE) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint at = lane; at < KEY_WIDTH * KEY_TILE; at += GROUP_QUERIES) {
            const uint d = at / KEY_TILE, j = at % KEY_TILE;
            k_tile[d][j] = start + (int)j < most ? LOAD(k, (size_t)d * keysPitch + start + j) : 0.0f;
        }
        for (uint at = lane; at < KEY_TILE * VALUE_WIDTH; at += GROUP_QUERIES) {
            const uint j = at / VALUE_WIDTH, c = at % VALUE_WIDTH;
            v_tile[j][c] = start + (int)j < most ? LOAD(v, (size_t)(start + j) * xPitch + c) : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = 0; j < KEY_TILE && start + j < visible; j += 8) {
            float8 s = 0.0f;
UNROLL_LOOP
            for (uint d = 0; d < KEY_WIDTH; d++) { s = q[d] * vload8(0, &k_tile[d][j]) + s; }
            float p[8];
            vstore8(s, 0, p);
            float highest = maximum;
UNROLL_LOOP
            for (int n = 0; n < 8; n++) {
                const int key = start + j + n;
                if (key >= visible) {
                    p[n] = -INFINITY;
                } else if (flags & FLAG_ADD_BIAS) {
                    p[n] += b[key];
                }
                highest = fmax(highest, p[n]);
            }
            const float shrink = exp(maximum - highest);
            maximum = highest;
            sum *= shrink;
UNROLL_LOOP
            for (int n = 0; n < 8; n++) {
                p[n] = exp(p[n] - highest);
                sum += p[n];
            }
UNROLL_LOOP
            for (uint c = 0; c < VALUE_WIDTH; c++) {
                float value = sums[c] * shrink;
UNROLL_LOOP
                for (int n = 0; n < 8; n++) { value = p[n] * v_tile[j + n][c] + value; }
                sums[c] = value;
            }
        }
    }

    if (first + (int)lane < segment.y) {
        const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
        __global element *to = ROW(y, row) + head * VALUE_WIDTH;
UNROLL_LOOP
        for (uint c = 0; c < VALUE_WIDTH; c++) { STORE(sums[c] * inverse, to, c); }
    }
}

#endif
