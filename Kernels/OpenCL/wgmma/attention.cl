// y = softmax(q kᵀ) v for each head with wgmma: sequences without a mask, heads of 64 columns. The step of the
// ladder for sm_90a; all else goes to mma/attention.cl.
//
// Queries, keys and values lie in `x`, row after row: [queries of all heads | keys of all heads | values of all heads]; the
// score's scale times log2 e is in the query's weights, so that powers of two stand for exponentials.
// Group (block of queries, head, segment). A segment is four numbers: first query, queries, first key, keys.
//
// Four warps have 64 queries, sixteen each, with queries, scores, sums and softmax statistics in registers, which is where wgmma wants its
// left factor. The work-group shares tiles of 64 keys and values in STAGES slots, and carries the softmax along from tile to tile
// (Milakov and Gimelshein 2018; Dao et al. 2022; Shah et al. 2024). What is left of the keys behind whole tiles is a step of sixteen where
// that suffices, else a tile with scores of minus infinity behind the last. Work-groups of one multiprocessor fill each other's waits:
// while one takes powers, another multiplies.
//
// As in wgmma/linear.cl, instructions that the driver's compiler does not know stand in the assembly as comments that begin with //@.
//
// Knobs:
//   WARPS    4 or 8; 16 WARPS queries to a work-group
//   STAGES   1 where no segment has more than 64 keys, else 3

#define WORK_ITEMS (WARPS * 32)
#define QUERIES (WARPS * 16)
#define TILE_BYTES (64 * 128)
#define STAGE_BYTES (2 * TILE_BYTES)
#if STAGES == 1
#define AHEAD 1
#define PENDING 0
// Queries pass through shared memory on their way to registers: here behind the only slot,
#define QUERY_SLOT 1
#define SLOT_BYTES (STAGE_BYTES + WARPS / 4 * TILE_BYTES)
#else
#define AHEAD 2
#define PENDING 1
// and here in the slot that is filled last.
#define QUERY_SLOT 2
#define SLOT_BYTES (3 * STAGE_BYTES)
#endif

#if !EMULATED

#define FLOATS4(v, i) "+f"((v)[i]), "+f"((v)[i + 1]), "+f"((v)[i + 2]), "+f"((v)[i + 3])
#define FLOATS8(v) FLOATS4(v, 0), FLOATS4(v, 4)
#define FLOATS32(v) FLOATS8(v), FLOATS4(v, 8), FLOATS4(v, 12), FLOATS4(v, 16), FLOATS4(v, 20), FLOATS4(v, 24), FLOATS4(v, 28)
#define WORDS4(v) "r"((v)[0]), "r"((v)[1]), "r"((v)[2]), "r"((v)[3])
#define NAMES8 "{%0, %1, %2, %3, %4, %5, %6, %7}"
#define NAMES32 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
// One product of 16 inputs: sums, the left factor's registers, the right factor, whether it adds, whether its rows are inputs.
#define WGMMA(columns, sums, left, right, adds, by_inputs) \
    "//@ wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.f16.f16 " sums ", " left ", " right ", " adds ", 1, 1, " by_inputs ";\n\t"
#define BEGIN "//@ {\n\t//@ .reg .pred never, always; .reg .b64 next;\n\t"
#define PREDICATES(d) "//@ setp.ne.b64 never, " d ", " d "; setp.eq.b64 always, " d ", " d ";\n\t//@ wgmma.fence.sync.aligned;\n\t"
#define END "//@ wgmma.commit_group.sync.aligned;\n\t//@ wgmma.wait_group.sync.aligned 0;\n\t//@ }"
// The next 16 inputs: 32 bytes further in a row of keys, 16 rows further in values; in a descriptor's units of 16 bytes.
#define NEXT(d, n) "//@ add.s64 next, " d ", " n ";\n\t"

// Scores of 64 keys, and of 16: four instructions over the columns of the head.
#define SCORES(columns, sums, d, q0, q1, q2, q3) \
    BEGIN PREDICATES(d) WGMMA(columns, sums, q0, d, "never", "0") NEXT(d, "2") WGMMA(columns, sums, q1, "next", "always", "0") \
        NEXT(d, "4") WGMMA(columns, sums, q2, "next", "always", "0") NEXT(d, "6") WGMMA(columns, sums, q3, "next", "always", "0") END
#define SCORE_KEYS(scores, q, keys) \
    PTX volatile( \
        SCORES("64", NAMES32, "%48", "{%32, %33, %34, %35}", "{%36, %37, %38, %39}", "{%40, %41, %42, %43}", "{%44, %45, %46, %47}") \
        : FLOATS32(scores) \
        : WORDS4((q)[0]), WORDS4((q)[1]), WORDS4((q)[2]), WORDS4((q)[3]), "l"(keys) \
        : "memory")
#define SCORE_KEYS16(scores, q, keys) \
    PTX volatile( \
        SCORES("16", NAMES8, "%24", "{%8, %9, %10, %11}", "{%12, %13, %14, %15}", "{%16, %17, %18, %19}", "{%20, %21, %22, %23}") \
        : FLOATS8(scores) \
        : WORDS4((q)[0]), WORDS4((q)[1]), WORDS4((q)[2]), WORDS4((q)[3]), "l"(keys) \
        : "memory")
// Adds values of 64 keys, and of 16.
#define ADD_VALUES(out, p, values) \
    PTX volatile( \
        BEGIN PREDICATES("%48") WGMMA("64", NAMES32, "{%32, %33, %34, %35}", "%48", "always", "1") \
            NEXT("%48", "128") WGMMA("64", NAMES32, "{%36, %37, %38, %39}", "next", "always", "1") \
            NEXT("%48", "256") WGMMA("64", NAMES32, "{%40, %41, %42, %43}", "next", "always", "1") \
            NEXT("%48", "384") WGMMA("64", NAMES32, "{%44, %45, %46, %47}", "next", "always", "1") END \
        : FLOATS32(out) \
        : WORDS4((p)[0]), WORDS4((p)[1]), WORDS4((p)[2]), WORDS4((p)[3]), "l"(values) \
        : "memory")
#define ADD_VALUES16(out, p, values) \
    PTX volatile( \
        BEGIN PREDICATES("%36") WGMMA("64", NAMES32, "{%32, %33, %34, %35}", "%36", "always", "1") END \
        : FLOATS32(out) \
        : WORDS4((p)[0]), "l"(values) \
        : "memory")

#else

#define SCORE_KEYS(scores, q, keys) EMULATED_SCORES(scores, q, keys, 8)
#define SCORE_KEYS16(scores, q, keys) EMULATED_SCORES(scores, q, keys, 2)
#define EMULATED_SCORES(scores, q, keys, pieces) \
    for (uint i = 0; i < (pieces) * 4; i++) { scores[i] = 0.0f; } \
    for (uint s = 0; s < 4; s++) { EMULATED_STEP(scores, (q)[s], (keys) + s * 2, pieces, 0) }
#define ADD_VALUES(out, p, values) \
    for (uint s = 0; s < 4; s++) { EMULATED_STEP(out, (p)[s], (values) + s * 128, 8, 1) }
#define ADD_VALUES16(out, p, values) EMULATED_STEP(out, (p)[0], values, 8, 1)
// sums[16][8 pieces] += left[16][16] · right[16][8 pieces] of this warp's rows. A macro: with barriers in a function that another function
// calls, PoCL 3.1 was seen to read zeros.
#define EMULATED_STEP(sums, left, right, pieces, by_inputs) \
    { \
        float low[16], high[16]; \
        emulated_rows(WARP_WORDS, left, low, high); \
        emulated_sums(SHARED_BYTES, sums, low, high, right, pieces, by_inputs); \
    }
// The left factor's two rows of this lane, 16 inputs of each; lanes hold them as in MULTIPLY.
static inline void emulated_rows(__local uint *words, const uint *left, float *low, float *high) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < 4; i++) { words[lane * 4 + i] = left[i]; }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint k = 0; k < 16; k++) {
        const uint from = (lane / 4 * 4 + k % 8 / 2) * 8 + k / 8 * 4 + k % 2;
        low[k] = vload_half(from, (__local const half *)words);
        high[k] = vload_half(from + 2, (__local const half *)words);
    }
}
static inline void emulated_sums(
    __local const uchar *memory, float *sums, const float *low, const float *high, ulong right, uint pieces, uint by_inputs) {
    const uint lane = get_local_id(0);
    for (uint k = 0; k < 16; k++) {
        for (uint j = 0; j < pieces; j++) {
            for (uint e = 0; e < 2; e++) {
                const uint column = j * 8 + lane % 4 * 2 + e;
                const float other = tile_half(memory, right, by_inputs ? k : column, by_inputs ? column : k);
                sums[j * 4 + e] += low[k] * other;
                sums[j * 4 + 2 + e] += high[k] * other;
            }
        }
    }
}

#endif

// Takes scores of 8 `pieces` keys from `start` on into the softmax, and leaves their powers in `p`.
#define TAKE_SCORES(pieces, start) \
    { \
        if ((start) + 8 * (pieces) > segment.w) { \
            UNROLL_LOOP for (uint j = 0; j < (pieces); j++) { \
                UNROLL_LOOP for (uint n = 0; n < 4; n++) { \
                    const int key = (start) + j * 8 + lane % 4 * 2 + n % 2; \
                    scores[j * 4 + n] = key < segment.w ? scores[j * 4 + n] : -INFINITY; \
                } \
            } \
        } \
        UNROLL_LOOP for (uint h = 0; h < 2; h++) { \
            float highest = maximum[h]; \
            UNROLL_LOOP for (uint j = 0; j < (pieces); j++) { \
                highest = fmax(highest, fmax(scores[j * 4 + 2 * h], scores[j * 4 + 2 * h + 1])); \
            } \
            highest = fmax(highest, EXCHANGE(highest, 1)); \
            highest = fmax(highest, EXCHANGE(highest, 2)); \
            const float shrink = power2(maximum[h] - highest); \
            maximum[h] = highest; \
            float added = 0.0f; \
            UNROLL_LOOP for (uint j = 0; j < (pieces); j++) { \
                const float a = power2(scores[j * 4 + 2 * h] - highest), b = power2(scores[j * 4 + 2 * h + 1] - highest); \
                added += a + b; \
                p[j / 2][j % 2 * 2 + h] = pack_halves(a, b); \
            } \
            sum[h] = sum[h] * shrink + added; \
            UNROLL_LOOP for (uint j = 0; j < 8; j++) { \
                out[j * 4 + 2 * h] *= shrink; \
                out[j * 4 + 2 * h + 1] *= shrink; \
            } \
        } \
    }

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void attention(
    INPUT(x), INTEGERS(segments), OUTPUT(y) SHARED_PARAMETER) {
    SHARED_MEMORY(1024 + SLOT_BYTES);
    const uint slots = (SHARED_ADDRESS + 1023) / 1024 * 1024;
    const uint lane = get_local_id(0), warp = get_local_id(1), item = warp * 32 + lane;
    const uint head = get_group_id(1), heads = get_num_groups(1);
    const int4 segment = vload4(get_group_id(2), segments + segmentsOffset);
    const int first = get_group_id(0) * QUERIES;
    if (first >= segment.y) { return; }

    // A work-item copies the same piece of several rows, WORK_ITEMS / 8 apart, of `count`; rows behind these become zeros.
    const uint copy_row = item / 8, copy_chunk = item % 8;
    const uint copy_to = slots + copy_row * 128 + ((copy_chunk ^ (copy_row & 7)) << 4);
#define COPY_ROWS(to, from, count, rows) \
    UNROLL_LOOP for (uint i = 0; i < (rows) * 8 / WORK_ITEMS; i++) { \
        const uint row = copy_row + i * (WORK_ITEMS / 8); \
        const bool there = row < (count); \
        COPY16(copy_to + (to) + i * (WORK_ITEMS * 16), (from) + (there ? (size_t)row * xPitch + copy_chunk * 8 : 0), there ? 16u : 0u); \
    }
#define COPY_TILE(tile) \
    { \
        const uint count = min(segment.w - (tile) * 64, 64), to = (tile) % STAGES * STAGE_BYTES; \
        COPY_ROWS(to, k + (size_t)(tile) * 64 * xPitch, count, 64) \
        COPY_ROWS(to + TILE_BYTES, v + (size_t)(tile) * 64 * xPitch, count, 64) \
    }
    __global const element *q_from = ROW(x, segment.x + first) + head * 64;
    __global const element *k = ROW(x, segment.z) + (heads + head) * 64;
    __global const element *v = ROW(x, segment.z) + (heads * 2 + head) * 64;
#if STAGES == 1
    const int tiles = segment.w > 0;
#else
    const int tiles = (segment.w + 63) / 64;
#endif
    COPY_ROWS(QUERY_SLOT * STAGE_BYTES, q_from, (uint)min(segment.y - first, QUERIES), QUERIES)
    COPY_COMMIT();
    for (int ahead = 0; ahead < AHEAD; ahead++) {
        if (ahead < tiles) { COPY_TILE(ahead) }
        COPY_COMMIT();
    }

    // The two rows of this lane: queries warp * 16 + lane / 4 and eight later.
    float maximum[2] = {-FLT_MAX, -FLT_MAX}, sum[2] = {0.0f, 0.0f};
    float scores[32], out[32];
    uint q[4][4], p[4][4];
UNROLL_LOOP
    for (uint i = 0; i < 32; i++) { scores[i] = out[i] = 0.0f; }
UNROLL_LOOP
    for (uint i = 0; i < 16; i++) { p[i / 4][i % 4] = q[i / 4][i % 4] = 0; }
    COPY_WAIT(AHEAD);
    barrier(CLK_LOCAL_MEM_FENCE);
UNROLL_LOOP
    for (uint s = 0; s < 4; s++) {
        const uint row = warp * 16 + lane % 16;
        LOAD_MATRICES(q[s], slots + QUERY_SLOT * STAGE_BYTES + row * 128 + ((s * 2 + lane / 16 ^ (row & 7)) << 4));
    }
    const bool warp_has_queries = first + (int)warp * 16 < segment.y;
    const bool four_have_queries = first + (int)warp / 4 * 64 < segment.y;

    for (int tile = 0; tile < tiles; tile++) {
        COPY_WAIT(PENDING);
        PUBLISH_TO_WGMMA();
        // Behind it, all warps are done with the tile before, whose slot is filled next, and in the first round with the queries.
        barrier(CLK_LOCAL_MEM_FENCE);
#if STAGES > 1
        if (tile + AHEAD < tiles) { COPY_TILE(tile + AHEAD) }
        COPY_COMMIT();
#endif
        const uint at = slots + tile % STAGES * STAGE_BYTES;
        const ulong keys = descriptor(at), values = descriptor(at + TILE_BYTES);
        IF_WARP(four_have_queries) {
            if (segment.w - tile * 64 > 16) {
                SCORE_KEYS(scores, q, keys);
                IF_WARP(warp_has_queries) { TAKE_SCORES(8, tile * 64) }
                ADD_VALUES(out, p, values);
            } else {
                SCORE_KEYS16(scores, q, keys);
                IF_WARP(warp_has_queries) { TAKE_SCORES(2, tile * 64) }
                ADD_VALUES16(out, p, values);
            }
        }
    }

UNROLL_LOOP
    for (uint h = 0; h < 2; h++) {
        float whole = sum[h] + EXCHANGE(sum[h], 1);
        whole += EXCHANGE(whole, 2);
        const int query = first + warp * 16 + lane / 4 + h * 8;
        // A query that sees no key is zero.
        const float inverse = whole > 0.0f ? 1.0f / whole : 0.0f;
        if (query < segment.y) {
            __global element *to = ROW(y, segment.x + query) + head * 64 + lane % 4 * 2;
UNROLL_LOOP
            for (uint j = 0; j < 8; j++) {
                *(__global uint *)(to + j * 8) = pack_halves(out[j * 4 + 2 * h] * inverse, out[j * 4 + 2 * h + 1] * inverse);
            }
        }
    }
}
