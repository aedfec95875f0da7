// y = softmax(q kᵀ + mask) v for each head with mma.sync: the step of the ladder for sm_80 and later.
//
// Queries, keys and values lie in `x`, row after row: [queries of all heads | keys of all heads | values of all heads]; the
// score's scale times log2 e is in the query's weights, so that powers of two stand for exponentials.
// Group (block of queries, head, segment). A segment is four numbers: first query, queries, first key, keys.
//
// A warp has 16 queries with their scores, sums and softmax statistics in registers; the work-group shares tiles of KEY_TILE keys and
// values, and carries the softmax along from tile to tile (Milakov and Gimelshein 2018; Dao et al. 2022). With KEY_TILE keys or
// fewer there is one tile and nothing to carry. The tiles begin at the segment's first key, so that sums do not depend on
// neighbours. The probabilities are rounded to halves as factors of the values; their sum is taken before.
// Rows of tiles are 16 bytes longer than they need be, so that eight rows of one piece lie in different banks.
//
// Knobs:
//   KEY_WIDTH, VALUE_WIDTH   columns of one head, multiples of 8, at most 128
//   KEY_TILE                 a multiple of 16: 64 up to 64 columns, 32 beyond
//   STAGES                   1: the next tile is copied when this one is done with; 2: while it is computed
//   WARPS                    a multiple of 2; 16 WARPS queries to a work-group

#define FLAG_CAUSAL 1
#define FLAG_ADD_BIAS 2

#define WORK_ITEMS (WARPS * 32)
#define QUERIES (WARPS * 16)
#define KEY_STEPS ((KEY_WIDTH + 15) / 16)
#define VALUE_STEPS ((VALUE_WIDTH + 15) / 16)
#define KEY_PITCH (KEY_STEPS * 32 + 16)
#define VALUE_PITCH (VALUE_STEPS * 32 + 16)
#define KEY_BYTES (KEY_TILE * KEY_PITCH)
#define STAGE_BYTES (KEY_TILE * (KEY_PITCH + VALUE_PITCH))
#define QUERY_BYTES (QUERIES * KEY_PITCH)
#define LOG2E 1.44269504f
#if STAGES == 1
#define PENDING 0
#else
#define PENDING 1
#endif

// Copies `count` rows of `from`, the rest up to `rows` as zeros; columns past the width as zeros.
#define COPY_TILE(to, from, from_pitch, count, rows, steps, width, pitch) \
    for (uint at = item; at < (rows) * (steps) * 2; at += WORK_ITEMS) { \
        const uint row = at / ((steps) * 2), chunk = at % ((steps) * 2); \
        const bool there = row < (count) && chunk * 8 < (width); \
        COPY16((to) + row * (pitch) + chunk * 16, \
               (from) + (there ? (size_t)row * (from_pitch) + chunk * 8 : 0), there ? 16u : 0u); \
    }

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void attention(
    INPUT(x), INTEGERS(segments), __global const float *bias, uint biasQueries, uint biasKeys, uint flags, OUTPUT(y)) {
    SHARED_MEMORY(QUERY_BYTES + STAGES * STAGE_BYTES);
    const uint lane = get_local_id(0), warp = get_local_id(1), item = warp * 32 + lane;
    const uint head = get_group_id(1), heads = get_num_groups(1);
    const int4 segment = vload4(get_group_id(2), segments + segmentsOffset);
    const int first = get_group_id(0) * QUERIES;
    if (first >= segment.y) { return; }
    const int queries = min(segment.y - first, QUERIES);

    __global const element *q = ROW(x, segment.x + first) + head * KEY_WIDTH;
    __global const element *k = ROW(x, segment.z) + (heads + head) * KEY_WIDTH;
    __global const element *v = ROW(x, segment.z) + heads * KEY_WIDTH * 2 + head * VALUE_WIDTH;
    const uint q_tile = SHARED_ADDRESS, stages = q_tile + QUERY_BYTES;
#define COPY_KEYS_AND_VALUES(start, slot) \
    { \
        const uint to = stages + (slot) * STAGE_BYTES; \
        const uint count = min(segment.w - (start), KEY_TILE); \
        COPY_TILE(to, k + (size_t)(start) * xPitch, xPitch, count, KEY_TILE, KEY_STEPS, KEY_WIDTH, KEY_PITCH) \
        COPY_TILE(to + KEY_BYTES, v + (size_t)(start) * xPitch, xPitch, count, KEY_TILE, VALUE_STEPS, VALUE_WIDTH, VALUE_PITCH) \
    }

    // The keys that the last query of the work-group sees: it stays together for the barriers.
    const int most = flags & FLAG_CAUSAL ? clamp(segment.x + first + queries - segment.z, 0, segment.w) : segment.w;
    const int tiles = (most + KEY_TILE - 1) / KEY_TILE;
    // The keys that the last query of the warp sees; none where it has no queries.
    const int warp_last = min(first + (int)warp * 16 + 16, segment.y) - 1;
    const int warp_most = first + (int)warp * 16 >= segment.y ? 0
                          : flags & FLAG_CAUSAL ? clamp(segment.x + warp_last - segment.z + 1, 0, segment.w)
                                                : segment.w;
    COPY_TILE(q_tile, q, xPitch, (uint)queries, QUERIES, KEY_STEPS, KEY_WIDTH, KEY_PITCH)
    if (tiles > 0) { COPY_KEYS_AND_VALUES(0, 0) }
    COPY_COMMIT();

    // The two rows of this lane: queries warp * 16 + lane / 4 and eight later.
    int query[2], visible[2];
UNROLL_LOOP
    for (uint h = 0; h < 2; h++) {
        query[h] = first + warp * 16 + lane / 4 + h * 8;
        visible[h] = flags & FLAG_CAUSAL ? clamp(segment.x + query[h] - segment.z + 1, 0, segment.w) : segment.w;
    }
    float maximum[2] = {-FLT_MAX, -FLT_MAX}, sum[2] = {0.0f, 0.0f};
    float out[VALUE_STEPS * 2][4];
UNROLL_LOOP
    for (uint j = 0; j < VALUE_STEPS * 2; j++) {
UNROLL_LOOP
        for (uint n = 0; n < 4; n++) { out[j][n] = 0.0f; }
    }

    uint q_pieces[KEY_STEPS][4];
    for (int tile = 0; tile < tiles; tile++) {
        const uint slot = STAGES == 1 ? 0 : tile & 1;
        const int start = tile * KEY_TILE;
        if (STAGES > 1) {
            if (tile + 1 < tiles) { COPY_KEYS_AND_VALUES(start + KEY_TILE, slot ^ 1) }
            COPY_COMMIT();
        }
        COPY_WAIT(PENDING);
        barrier(CLK_LOCAL_MEM_FENCE);
        if (tile == 0) {
UNROLL_LOOP
            for (uint s = 0; s < KEY_STEPS; s++) {
                LOAD_MATRICES(q_pieces[s], q_tile + (warp * 16 + lane % 16) * KEY_PITCH + (s * 2 + lane / 16) * 16);
            }
        }

        // Keys past the last that the warp sees are left out, sixteen at a time, and so is everything of a warp without queries. Where all
        // are needed there are no choices, so that multiplies come side by side.
        const int here = warp_most - start;
        float scores[KEY_TILE / 8][4];
        const uint k_at = stages + slot * STAGE_BYTES + (lane % 8 + lane / 16 * 8) * KEY_PITCH + lane / 8 % 2 * 16;
UNROLL_LOOP
        for (uint j = 0; j < KEY_TILE / 8; j++) {
UNROLL_LOOP
            for (uint n = 0; n < 4; n++) { scores[j][n] = 0.0f; }
        }
#define SCORE_KEYS(j, s) \
    { \
        uint pieces[4]; \
        LOAD_MATRICES(pieces, k_at + (j) * (16 * KEY_PITCH) + (s) * 32); \
        MULTIPLY(scores[2 * (j)], q_pieces[s], pieces[0], pieces[1]); \
        MULTIPLY(scores[2 * (j) + 1], q_pieces[s], pieces[2], pieces[3]); \
    }
        ONE_OF_TWO(here > KEY_TILE - 16, most - start > KEY_TILE - 16) {
UNROLL_LOOP
            for (uint s = 0; s < KEY_STEPS; s++) {
UNROLL_LOOP
                for (uint j = 0; j < KEY_TILE / 16; j++) { SCORE_KEYS(j, s) }
            }
        } OR_ELSE {
UNROLL_LOOP
            for (uint j = 0; j < KEY_TILE / 16; j++) {
                IF_WARP((int)j * 16 < here) {
UNROLL_LOOP
                    for (uint s = 0; s < KEY_STEPS; s++) { SCORE_KEYS(j, s) }
                }
            }
        }

        if (flags & FLAG_ADD_BIAS) {
UNROLL_LOOP
            for (uint j = 0; j < KEY_TILE / 8; j++) {
UNROLL_LOOP
                for (uint n = 0; n < 4; n++) {
                    const int key = start + j * 8 + lane % 4 * 2 + n % 2;
                    if (key < segment.w && query[n / 2] < segment.y) {
                        scores[j][n] += LOG2E * bias[((size_t)head * biasQueries + query[n / 2]) * biasKeys + key];
                    }
                }
            }
        }
        if (start + KEY_TILE > min(visible[0], visible[1])) {
UNROLL_LOOP
            for (uint j = 0; j < KEY_TILE / 8; j++) {
UNROLL_LOOP
                for (uint n = 0; n < 4; n++) {
                    const int key = start + j * 8 + lane % 4 * 2 + n % 2;
                    scores[j][n] = key < visible[n / 2] ? scores[j][n] : -INFINITY;
                }
            }
        }
UNROLL_LOOP
        for (uint h = 0; h < 2; h++) {
            float highest = maximum[h];
UNROLL_LOOP
            for (uint j = 0; j < KEY_TILE / 8; j++) {
                highest = fmax(highest, fmax(scores[j][2 * h], scores[j][2 * h + 1]));
            }
            highest = fmax(highest, EXCHANGE(highest, 1));
            highest = fmax(highest, EXCHANGE(highest, 2));
            const float shrink = power2(maximum[h] - highest);
            maximum[h] = highest;
            float added = 0.0f;
UNROLL_LOOP
            for (uint j = 0; j < KEY_TILE / 8; j++) {
                scores[j][2 * h] = power2(scores[j][2 * h] - highest);
                scores[j][2 * h + 1] = power2(scores[j][2 * h + 1] - highest);
                added += scores[j][2 * h] + scores[j][2 * h + 1];
            }
            sum[h] = sum[h] * shrink + added;
UNROLL_LOOP
            for (uint j = 0; j < VALUE_STEPS * 2; j++) {
                out[j][2 * h] *= shrink;
                out[j][2 * h + 1] *= shrink;
            }
        }

        // The scores of 16 keys lie as the pieces of a left factor do.
        const uint v_at = stages + slot * STAGE_BYTES + KEY_BYTES + (lane % 8 + lane / 8 % 2 * 8) * VALUE_PITCH + lane / 16 * 16;
#define ADD_VALUES(s) \
    { \
        uint p[4]; \
        p[0] = pack_halves(scores[2 * (s)][0], scores[2 * (s)][1]); \
        p[1] = pack_halves(scores[2 * (s)][2], scores[2 * (s)][3]); \
        p[2] = pack_halves(scores[2 * (s) + 1][0], scores[2 * (s) + 1][1]); \
        p[3] = pack_halves(scores[2 * (s) + 1][2], scores[2 * (s) + 1][3]); \
        UNROLL_LOOP for (uint j = 0; j < VALUE_STEPS; j++) { \
            uint pieces[4]; \
            LOAD_MATRICES_TRANSPOSED(pieces, v_at + (s) * (16 * VALUE_PITCH) + j * 32); \
            MULTIPLY(out[2 * j], p, pieces[0], pieces[1]); \
            MULTIPLY(out[2 * j + 1], p, pieces[2], pieces[3]); \
        } \
    }
        ONE_OF_TWO(here > KEY_TILE - 16, most - start > KEY_TILE - 16) {
UNROLL_LOOP
            for (uint s = 0; s < KEY_TILE / 16; s++) { ADD_VALUES(s) }
        } OR_ELSE {
UNROLL_LOOP
            for (uint s = 0; s < KEY_TILE / 16; s++) {
                IF_WARP((int)s * 16 < here) { ADD_VALUES(s) }
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (STAGES == 1) {
            if (tile + 1 < tiles) { COPY_KEYS_AND_VALUES(start + KEY_TILE, 0) }
            COPY_COMMIT();
        }
    }

UNROLL_LOOP
    for (uint h = 0; h < 2; h++) {
        float whole = sum[h] + EXCHANGE(sum[h], 1);
        whole += EXCHANGE(whole, 2);
        // A query that sees no key is zero.
        const float inverse = whole > 0.0f ? 1.0f / whole : 0.0f;
        if (query[h] < segment.y) {
            __global element *to = ROW(y, segment.x + query[h]) + head * VALUE_WIDTH;
UNROLL_LOOP
            for (uint j = 0; j < VALUE_STEPS * 2; j++) {
                const uint c = j * 8 + lane % 4 * 2;
                if (c < VALUE_WIDTH) {
                    *(__global uint *)(to + c) = pack_halves(out[j][2 * h] * inverse, out[j][2 * h + 1] * inverse);
                }
            }
        }
    }
}
