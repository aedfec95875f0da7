// y = softmax(q kᵀ + mask) v for each head with matrix instructions whose factors are registers of a sub-group: the step of the ladder
// for AMD (wmma, mfma) and Intel (dpas). Memory, masks and softmax as in mma/attention.cl, which says more.
//
// A sub-group has UNIT_ROWS queries, which are rows of both products; keys, then columns of the values, are their columns. So a lane
// keeps scores, statistics and results of one query, and the scores of a tile become a factor of the values where they are.
// Tiles of KEY_TILE keys, and of the values turned on their side, are copied to local memory when the ones before are done with.
//
// Knobs:
//   KEY_WIDTH, VALUE_WIDTH   columns of one head, multiples of 8, at most 128
//   KEY_TILE                 a multiple of UNIT_COLUMNS and of UNIT_INPUTS: 64 up to 64 columns, 32 beyond; 16 for dpas
//   QUERIES_STAY             1: queries are kept in registers; 0: read from cache for each tile (dpas, which has too few registers)
//   WARPS                    UNIT_ROWS * WARPS queries to a work-group

#define FLAG_CAUSAL 1
#define FLAG_ADD_BIAS 2

#define QUERIES (WARPS * UNIT_ROWS)
#define KEY_STEPS ((KEY_WIDTH + UNIT_INPUTS - 1) / UNIT_INPUTS)
#define KEY_CHUNKS (KEY_STEPS * UNIT_INPUTS / 8)
#define SCORE_UNITS (KEY_TILE / UNIT_COLUMNS)
#define VALUE_UNITS ((VALUE_WIDTH + UNIT_COLUMNS - 1) / UNIT_COLUMNS)
#define VALUE_CHUNKS (VALUE_UNITS * UNIT_COLUMNS / 8)
// Bytes from row to row: 16 more than there are, for the banks.
#define KEY_PITCH (KEY_CHUNKS * 16 + 16)
#define VALUE_PITCH (KEY_TILE * 2 + 16)
#define LOG2E 1.44269504f

// Over the lanes that share a row.
#if UNIT_ROWS < SUBGROUP
#define OVER_ROW(v, join) \
    UNROLL_LOOP for (uint mask = UNIT_ROWS; mask < SUBGROUP; mask *= 2) { \
        const float other = EXCHANGE(v, mask); \
        v = join(v, other); \
    }
#else
#define OVER_ROW(v, join)
#endif
#define ADD(a, b) ((a) + (b))

SUBGROUP_ATTRIBUTE __attribute__((reqd_work_group_size(SUBGROUP, WARPS, 1))) __kernel void attention(
    INPUT(x), INTEGERS(segments), __global const float *bias, uint biasQueries, uint biasKeys, uint flags, OUTPUT(y)) {
    __local uint4 key_tile[KEY_TILE * KEY_PITCH / 16], value_tile[VALUE_UNITS * UNIT_COLUMNS * VALUE_PITCH / 16];
    WARP_MEMORY
    const uint lane = get_local_id(0), warp = get_local_id(1), item = warp * SUBGROUP + lane;
    const uint head = get_group_id(1), heads = get_num_groups(1);
    const int4 segment = vload4(get_group_id(2), segments + segmentsOffset);
    const int first = get_group_id(0) * QUERIES;
    if (first >= segment.y) { return; }

    __global const element *k = ROW(x, segment.z) + (heads + head) * KEY_WIDTH;
    __global const element *v = ROW(x, segment.z) + heads * KEY_WIDTH * 2 + head * VALUE_WIDTH;
    const int query = first + (int)(warp * UNIT_ROWS + LANE_ROW(lane));
    const int visible = flags & FLAG_CAUSAL ? clamp(segment.x + query - segment.z + 1, 0, segment.w) : segment.w;
    // The keys that the last query of the work-group sees: it stays together for the barriers.
    const int last = min(first + QUERIES, segment.y);
    const int most = flags & FLAG_CAUSAL ? clamp(segment.x + last - segment.z, 0, segment.w) : segment.w;
    const int tiles = (most + KEY_TILE - 1) / KEY_TILE;

    // Queries past the last repeat it.
    __global const element *q = ROW(x, segment.x + min(query, segment.y - 1)) + head * KEY_WIDTH;
#define LOAD_QUERIES(to, step) \
    UNROLL_LOOP for (uint p = 0; p < X_PIECES; p++) { \
        const uint chunk = (step) * (UNIT_INPUTS / 8) + FIRST_PIECE(lane) + p; \
        (to)[p] = chunk * 8 < KEY_WIDTH ? *(__global const uint4 *)(q + chunk * 8) : (uint4)(0); \
    }
#if QUERIES_STAY
    uint4 queries[KEY_STEPS][X_PIECES];
UNROLL_LOOP
    for (uint s = 0; s < KEY_STEPS; s++) { LOAD_QUERIES(queries[s], s) }
#endif

    float maximum = -FLT_MAX, sum = 0.0f;
    float8 out[VALUE_UNITS];
UNROLL_LOOP
    for (uint j = 0; j < VALUE_UNITS; j++) { out[j] = (float8)(0.0f); }

    for (int tile = 0; tile < tiles; tile++) {
        const int start = tile * KEY_TILE;
        const uint count = min(segment.w - start, KEY_TILE);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint at = item; at < KEY_TILE * KEY_CHUNKS; at += WORK_ITEMS) {
            const uint row = at / KEY_CHUNKS, chunk = at % KEY_CHUNKS;
            const bool there = row < count && chunk * 8 < KEY_WIDTH;
            key_tile[row * (KEY_PITCH / 16) + chunk] =
                there ? *(__global const uint4 *)(k + (size_t)(start + row) * xPitch + chunk * 8) : (uint4)(0);
        }
        for (uint at = item; at < KEY_TILE * VALUE_CHUNKS; at += WORK_ITEMS) {
            const uint row = at % KEY_TILE, chunk = at / KEY_TILE;
            const bool there = row < count && chunk * 8 < VALUE_WIDTH;
            ushort halves[8];
            vstore8(as_ushort8(there ? *(__global const uint4 *)(v + (size_t)(start + row) * xPitch + chunk * 8) : (uint4)(0)), 0, halves);
            __local ushort *to = (__local ushort *)value_tile + chunk * 8 * (VALUE_PITCH / 2) + row;
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) { to[n * (VALUE_PITCH / 2)] = halves[n]; }
        }
        barrier(CLK_LOCAL_MEM_FENCE);

        float scores[SCORE_UNITS][8];
UNROLL_LOOP
        for (uint u = 0; u < SCORE_UNITS; u++) {
            float8 sums = (float8)(0.0f);
UNROLL_LOOP
            for (uint s = 0; s < KEY_STEPS; s++) {
                uint4 pieces[W_PIECES];
                LOAD_W_LOCAL(pieces, (__local const uchar *)key_tile + u * (UNIT_COLUMNS * KEY_PITCH) + s * (UNIT_INPUTS * 2), KEY_PITCH);
#if QUERIES_STAY
                MULTIPLY(sums, pieces, queries[s]);
#else
                uint4 factor[X_PIECES];
                LOAD_QUERIES(factor, s)
                MULTIPLY(sums, pieces, factor);
#endif
            }
            vstore8(sums, 0, scores[u]);
        }

        if (start + KEY_TILE > visible || flags & FLAG_ADD_BIAS) {
UNROLL_LOOP
            for (uint u = 0; u < SCORE_UNITS; u++) {
UNROLL_LOOP
                for (uint n = 0; n < 8; n++) {
                    const int key = start + (int)(u * UNIT_COLUMNS + LANE_COLUMN(lane) + n);
                    if (flags & FLAG_ADD_BIAS && key < segment.w && query < segment.y) {
                        scores[u][n] += LOG2E * bias[((size_t)head * biasQueries + query) * biasKeys + key];
                    }
                    if (key >= visible) { scores[u][n] = -INFINITY; }
                }
            }
        }
        float highest = maximum;
UNROLL_LOOP
        for (uint u = 0; u < SCORE_UNITS; u++) {
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) { highest = fmax(highest, scores[u][n]); }
        }
        OVER_ROW(highest, fmax)
        const float shrink = power2(maximum - highest);
        maximum = highest;
        float added = 0.0f;
        uint4 probabilities[SCORE_UNITS];
UNROLL_LOOP
        for (uint u = 0; u < SCORE_UNITS; u++) {
UNROLL_LOOP
            for (uint n = 0; n < 8; n++) {
                scores[u][n] = power2(scores[u][n] - highest);
                added += scores[u][n];
            }
            probabilities[u] = (uint4)(
                pack_halves(scores[u][0], scores[u][1]), pack_halves(scores[u][2], scores[u][3]),
                pack_halves(scores[u][4], scores[u][5]), pack_halves(scores[u][6], scores[u][7]));
        }
        sum = sum * shrink + added;
UNROLL_LOOP
        for (uint j = 0; j < VALUE_UNITS; j++) { out[j] *= shrink; }

UNROLL_LOOP
        for (uint s = 0; s < KEY_TILE / UNIT_INPUTS; s++) {
            uint4 factor[X_PIECES];
            X_OF_SCORES(factor, probabilities, s)
UNROLL_LOOP
            for (uint j = 0; j < VALUE_UNITS; j++) {
                uint4 pieces[W_PIECES];
                LOAD_W_LOCAL(pieces, (__local const uchar *)value_tile + j * (UNIT_COLUMNS * VALUE_PITCH) + s * (UNIT_INPUTS * 2), VALUE_PITCH);
                MULTIPLY(out[j], pieces, factor);
            }
        }
    }

    OVER_ROW(sum, ADD)
    // A query that sees no key is zero.
    const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
    __global element *to = ROW(y, segment.x + query) + head * VALUE_WIDTH;
UNROLL_LOOP
    for (uint j = 0; j < VALUE_UNITS; j++) {
        const uint column = j * UNIT_COLUMNS + LANE_COLUMN(lane);
        if (query < segment.y && column < VALUE_WIDTH) {
            float result[8];
            vstore8(out[j] * inverse, 0, result);
            store_halves8(to + column, result);
        }
    }
}
