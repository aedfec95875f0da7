// y = epilogue(x · weightᵀ) with wgmma, all warps alike (PRODUCER 0). Instructions, layouts and the other knobs: multiply.cl.
//
// A work-group makes BLOCK_ROWS x BLOCK_COLUMNS results, four warps 64 x BLOCK_COLUMNS of them. Tiles of 64 inputs go to STAGES
// slots: those of x by asynchronous copies of 16 bytes, the weight's, which lies in global memory as a slot wants it, by one bulk
// copy.
//
// Knobs, with their legal values:
//   PENDING         STAGES - 2 - OVERLAP, as a literal

#if !PRODUCER

#define LINEAR_PARAMETERS \
    INPUT(x), __global const element *weight, uint rows, uint inputs, uint paddedInputs, uint xStep, ulong weightStep, \
        uint yStep, uint biasStep

#define WORK_ITEMS (WARPS * 32)
#define X_COPIES (BLOCK_ROWS * 8 / WORK_ITEMS)
#define AHEAD (STAGES - 1 - OVERLAP)

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void linear(LINEAR_PARAMETERS, EPILOGUE_PARAMETERS SHARED_PARAMETER) {
    // Slots begin at multiples of 1024, since the exchange goes by bits of the address; behind them a barrier of 8 bytes for each.
    SHARED_MEMORY(1024 + STAGES * STAGE_BYTES + STAGES * 16);
    const uint slots = (SHARED_ADDRESS + 1023) / 1024 * 1024, barriers = slots + STAGES * STAGE_BYTES;
    const uint lane = get_local_id(0), warp = get_local_id(1);
    const uint item = warp * 32 + lane;
    const uint first_row = get_group_id(0) * BLOCK_ROWS, first_column = get_group_id(1) * BLOCK_COLUMNS;
    const uint steps = (inputs + 63) / 64;

    // A work-item copies the same piece of several rows, WORK_ITEMS / 8 apart. Rows past the last repeat it.
    const uint copy_row = item / 8, copy_chunk = item % 8;
    __global const element *x_from[X_COPIES];
UNROLL_LOOP
    for (uint i = 0; i < X_COPIES; i++) {
        const uint row = min(first_row + copy_row + i * (WORK_ITEMS / 8), rows - 1);
        x_from[i] = ROW(x, row) + get_group_id(2) * xStep + copy_chunk * 8;
    }
    const uint copy_to = slots + copy_row * 128 + ((copy_chunk ^ (copy_row & 7)) << 4);
    __global const element *w_from = weight + get_group_id(2) * weightStep +
                                     (size_t)(first_column / 256) * steps * (256 * 64) + first_column % 256 * 64;

#define COPY_STEP(step, slot) \
    { \
        const uint k = (step) * 64; \
        const int left = (int)inputs - (int)(k + copy_chunk * 8); \
        const uint count = left >= 8 ? 16 : left > 0 ? left * 2 : 0; \
        UNROLL_LOOP for (uint i = 0; i < X_COPIES; i++) { \
            COPY16(copy_to + (slot) * STAGE_BYTES + i * (WORK_ITEMS * 16), count ? x_from[i] + k : x_from[i], count); \
        } \
        if (item == 0) { \
            BULK_COPY(slots + (slot) * STAGE_BYTES + X_BYTES, w_from + (size_t)(step) * (256 * 64), (uint)W_BYTES, \
                      barriers + (slot) * 16); \
        } \
    }

    if (item == 0) {
        for (uint slot = 0; slot < STAGES; slot++) { BARRIER_INIT(barriers + slot * 16, 1u); }
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    float sums[SUMS];
UNROLL_LOOP
    for (uint i = 0; i < SUMS; i++) { sums[i] = 0.0f; }

    for (uint step = 0; step < AHEAD; step++) {
        if (step < steps) { COPY_STEP(step, step) }
        COPY_COMMIT();
    }
    const uint x_tile = slots + warp / 4 * (64 * 128);
    uint slot = 0, next_slot = AHEAD, parity = 0, patient = 1;
    for (uint step = 0; step < steps; step++) {
        COPY_WAIT(PENDING);
        PUBLISH_TO_WGMMA();
        patient = BYTES_BARRIER_WAIT(barriers + slot * 16, parity, patient);
        // Behind it, all warps are done with the step before (with OVERLAP, the one before that), whose slot is filled next.
        barrier(CLK_LOCAL_MEM_FENCE);
        if (step + AHEAD < steps) { COPY_STEP(step + AHEAD, next_slot) }
        COPY_COMMIT();
        const ulong x_descriptor = descriptor(x_tile + slot * STAGE_BYTES);
        const ulong w_descriptor = descriptor(slots + slot * STAGE_BYTES + X_BYTES);
        MULTIPLY_STEP(x_descriptor, w_descriptor, step > 0);
        if (++slot == STAGES) {
            slot = 0;
            parity ^= 1;
        }
        next_slot = next_slot + 1 == STAGES ? 0 : next_slot + 1;
    }
    FINISH_STEPS();
    if (!patient) { SPOIL_SUMS() }
    FINISH_TILE(first_row, first_column, get_group_id(2))
}

#endif
