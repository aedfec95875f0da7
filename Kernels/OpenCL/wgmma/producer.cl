// y = epilogue(x · weightᵀ) with wgmma, by warps of two kinds (PRODUCER 1): those that multiply have nothing else to do, and the next
// tile's inputs arrive while the results of the last are written. Instructions, layouts and the other knobs: multiply.cl.
//
// A work-group stays on its multiprocessor and makes tile after tile of BLOCK_ROWS x BLOCK_COLUMNS results: those whose number is its
// own plus a multiple of the number of work-groups. Its steps are numbered through all of its tiles; step n uses slot n % STAGES. The
// first BLOCK_ROWS / 16 warps are the consumers, every four together 64 rows of a tile. The last four are the producer, and each of
// them fills the slots of every fourth step alone (of every third, with three slots): x by copies of 16 bytes, the weight's part by one
// bulk copy. They are four since registers are given away by four warps together; each with a step of its own, since then it can wait
// for its copies while the others' are under way.
//
// A slot has two barriers:
//   full    two arrivals: the announcement of the weight's bytes, which have to land too, and, when its copies of x have landed, the
//           producer's warp
//   empty   an arrival of each consumer warp, after what it multiplied from the slot is done
// Use n / STAGES of a slot waits for that phase of `full` and, to write, for the phase of `empty` before that. At the first use there is
// none, which asking for the parity of a phase before phase 0 does. A parity tells a phase from the next, so that who waits has to know
// that the one before is over. Of `full`: it took part in the slot's last use. Of `empty`: steps are released in order, and a warp that
// filled step n knows of all up to n - STAGES; its next step, n + FILLERS, needs those up to n + FILLERS - 2 STAGES known: so no more
// warps may fill than there are slots. The producer never waits while it holds back an arrival, and consumers hold back one slot, that of
// the step before; so somebody can always go on.
//
// x comes through the generic proxy and wgmma reads through the asynchronous one. So who wrote has to put a fence between: each lane
// waits until its own copies have landed, passes fence.proxy.async and then meets its warp, for which one lane arrives at `full`
// (release); there the consumers wait (acquire). An arrival by cp.async.mbarrier.arrive.noinc would spare the waiting, but comes from
// the copies themselves, with no fence of the writer behind their landing. Bulk copies need none: they and wgmma are of one proxy. What
// overwrites a slot, either way, comes after wgmma's end, for which each consumer warp waits, its arrival at `empty` and the
// producer's wait for it.
//
// Nobody waits for ever (nvidia/ptx.cl). A producer whose patience ends stops, and consumers whose patience ends write NaN.
//
// Emulated, work-items go in lock step: the producer's step n, a barrier of the work-group, the consumers' step n - AHEAD, a barrier. Slots,
// parities and arrivals are the same and are checked; that they suffice in any order of events, a model of them in the tests shows.
//
// Knobs, with their legal values:
//   BLOCK_ROWS           128
//   OVERLAP              1
//   WARPS                BLOCK_ROWS / 16 + 4
//   REGISTERS, PRODUCER_REGISTERS, CONSUMER_REGISTERS   of a work-item at the start and of each kind after that: multiples of 8 from 24
//                        to 240; all that the two kinds have together is no more than all have at the start

#if PRODUCER

// rowTiles, columnTiles: of one matrix; tiles: of all.
#define LINEAR_PARAMETERS \
    INPUT(x), __global const element *weight, uint rows, uint inputs, uint paddedInputs, uint xStep, ulong weightStep, \
        uint yStep, uint biasStep, uint rowTiles, uint columnTiles, uint tiles

#define PRODUCER_WARPS 4
#define FILLERS (STAGES < PRODUCER_WARPS ? STAGES : PRODUCER_WARPS)
#define CONSUMER_WARPS (BLOCK_ROWS / 16)
#define AHEAD (STAGES - 2)
// Rows of tiles that are made together, column after column. Work-groups of the same time then share most of what they read: on a
// hundred multiprocessors some 16 rows and 8 columns of tiles.
#define BAND 16

#define SLOT(n) ((n) % STAGES)
#define PARITY(n) ((n) / STAGES & 1)
#define FULL(n) (barriers + SLOT(n) * 16)
#define EMPTY(n) (barriers + SLOT(n) * 16 + 8)

// First row and column of a tile, and its matrix.
static inline uint3 tile_place(uint tile, uint rowTiles, uint columnTiles) {
    const uint group = tile / (rowTiles * columnTiles), in_group = tile % (rowTiles * columnTiles);
    const uint band = in_group / (BAND * columnTiles), in_band = in_group % (BAND * columnTiles);
    const uint height = min((uint)BAND, rowTiles - band * BAND);
    return (uint3)((band * BAND + in_band % height) * BLOCK_ROWS, in_band / height * BLOCK_COLUMNS, group);
}

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void linear(LINEAR_PARAMETERS, EPILOGUE_PARAMETERS SHARED_PARAMETER) {
    REGISTERS_AT_START(REGISTERS);
    // Slots begin at multiples of 1024, since the exchange goes by bits of the address; behind them their barriers.
    SHARED_MEMORY(1024 + STAGES * STAGE_BYTES + STAGES * 16);
    const uint slots = (SHARED_ADDRESS + 1023) / 1024 * 1024, barriers = slots + STAGES * STAGE_BYTES;
    const uint lane = get_local_id(0), warp = get_local_id(1);
    const uint steps = (inputs + 63) / 64;
    const uint own = get_group_id(0) < tiles ? (tiles - get_group_id(0) - 1) / get_num_groups(0) + 1 : 0;
    uint patient = 1;

    if (warp == 0 && lane == 0) {
        for (uint slot = 0; slot < STAGES; slot++) {
            BARRIER_INIT(FULL(slot), 2u);
            BARRIER_INIT(EMPTY(slot), (uint)CONSUMER_WARPS);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    // The producer's: a warp's number among its own, the step that it fills next and where. A lane copies the same piece of every fourth row, for which eight rows are exchanged in two ways. Rows past the
    // last repeat it.
    const uint copy_row = lane / 8, copy_chunk = lane % 8;
    const uint copy_even = slots + copy_row * 128 + ((copy_chunk ^ copy_row) << 4);
    const uint copy_odd = slots + (copy_row + 4) * 128 + ((copy_chunk ^ (copy_row + 4)) << 4);

    const uint filler = warp - CONSUMER_WARPS;
    uint tile = get_group_id(0), step = filler;
    uint3 place = tile_place(tile, rowTiles, columnTiles);

    // Step n, which is `step` of `tile` or, past its end, of a later one; then on to the warp's next.
#define PRODUCE_STEP(n) \
    { \
        if (step >= steps) { \
            tile += step / steps * get_num_groups(0); \
            step %= steps; \
            place = tile_place(tile, rowTiles, columnTiles); \
        } \
        const uint k = step * 64; \
        const int left = (int)inputs - (int)(k + copy_chunk * 8); \
        const uint count = left >= 8 ? 16 : left > 0 ? left * 2 : 0; \
        __global const element *x_from = ROW(x, 0) + place.z * xStep + copy_chunk * 8 + (count ? k : 0); \
        __global const element *w_from = weight + place.z * weightStep + \
                                         ((size_t)(place.y / 256) * steps + step) * (256 * 64) + place.y % 256 * 64; \
        patient = BARRIER_WAIT(EMPTY(n), PARITY(n) ^ 1, patient); \
        if (patient) { \
            if (lane == 0) { BULK_COPY(slots + SLOT(n) * STAGE_BYTES + X_BYTES, w_from, (uint)W_BYTES, FULL(n)); } \
            UNROLL_LOOP for (uint i = 0; i < BLOCK_ROWS / 8; i++) { \
                const uint even = min(place.x + copy_row + i * 8, rows - 1), odd = min(place.x + copy_row + i * 8 + 4, rows - 1); \
                COPY16(copy_even + SLOT(n) * STAGE_BYTES + i * 1024, x_from + (size_t)even * xPitch, count); \
                COPY16(copy_odd + SLOT(n) * STAGE_BYTES + i * 1024, x_from + (size_t)odd * xPitch, count); \
            } \
            COPY_COMMIT(); \
            COPY_WAIT(0); \
            PUBLISH_TO_WGMMA(); \
            WARP_BARRIER(); \
            if (lane == 0) { BARRIER_ARRIVE(FULL(n)); } \
        } \
        step += FILLERS; \
    }

    // The consumers'.
    const uint x_tile = slots + warp / 4 * (64 * 128);
    float sums[SUMS];
UNROLL_LOOP
    for (uint i = 0; i < SUMS; i++) { sums[i] = 0.0f; }

    // Behind MULTIPLY_STEP, the step before is done.
#define CONSUME_STEP(n, made_step) \
    { \
        patient = BARRIER_WAIT(FULL(n), PARITY(n), patient); \
        const ulong x_descriptor = descriptor(x_tile + SLOT(n) * STAGE_BYTES); \
        const ulong w_descriptor = descriptor(slots + SLOT(n) * STAGE_BYTES + X_BYTES); \
        MULTIPLY_STEP(x_descriptor, w_descriptor, (made_step) > 0); \
        if ((made_step) > 0 && lane == 0) { BARRIER_ARRIVE(EMPTY((n) - 1)); } \
    }
    // Behind step n - 1, its tile's last.
#define CONSUME_TILE(n, made) \
    { \
        FINISH_STEPS(); \
        if (lane == 0) { BARRIER_ARRIVE(EMPTY((n) - 1)); } \
        if (!patient) { SPOIL_SUMS() } \
        const uint3 made_place = tile_place(made, rowTiles, columnTiles); \
        FINISH_TILE(made_place.x, made_place.y, made_place.z) \
    }

#if !EMULATED

    if (warp >= CONSUMER_WARPS) {
        FEWER_REGISTERS(PRODUCER_REGISTERS);
        if (filler < FILLERS) {
            for (uint n = filler; n < own * steps && patient; n += FILLERS) { PRODUCE_STEP(n) }
        }
    } else {
        MORE_REGISTERS(CONSUMER_REGISTERS);
        uint n = 0;
        for (uint made = get_group_id(0); made < tiles; made += get_num_groups(0)) {
            for (uint made_step = 0; made_step < steps; made_step++) {
                CONSUME_STEP(n, made_step)
                n++;
            }
            CONSUME_TILE(n, made)
        }
    }

#else

    for (uint turn = 0; turn < own * steps + AHEAD; turn++) {
        if (filler == turn % FILLERS && turn < own * steps) { PRODUCE_STEP(turn) }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (warp < CONSUMER_WARPS && turn >= AHEAD) {
            const uint n = turn - AHEAD;
            CONSUME_STEP(n, n % steps)
            if (n % steps == steps - 1) { CONSUME_TILE(n + 1, get_group_id(0) + n / steps * get_num_groups(0)) }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

#endif
}

#endif
