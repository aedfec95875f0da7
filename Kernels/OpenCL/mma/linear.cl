// y = epilogue(x · weightᵀ) with mma.sync: halves, sums in floats. The step of the ladder for sm_80 and later.
//
// A work-group makes BLOCK_ROWS x BLOCK_COLUMNS results, a warp WARP_ROWS x WARP_COLUMNS of them. Tiles of DEPTH inputs of x and of
// the weight go to STAGES slots in shared memory by asynchronous copies of 16 bytes; the slot that is filled is the one that
// was multiplied a step before. A row of a tile is DEPTH halves; its pieces of 16 bytes are exchanged by an exclusive or, so that
// eight rows of one piece lie in different banks.
//
// The weight is [columns, padded to 256][inputs, padded to 64], zeros in the padding, columns in the order of nvidia/epilogue.cl.
// Sums run over the inputs from first to last, 16 at a time, whatever the tile: tiles may be chosen by the number of rows.
// Rows of x begin at multiples of 16 bytes.
//
// Knobs, with their legal values:
//   BLOCK_ROWS, BLOCK_COLUMNS   multiples of WARP_ROWS, WARP_COLUMNS; BLOCK_COLUMNS divides 256
//   WARP_ROWS, WARP_COLUMNS     multiples of 16 and of 32; their product is at most 4096 for the sums to fit registers
//   DEPTH                       32 or 64
//   STAGES                      2 to 6; STAGES * (BLOCK_ROWS + BLOCK_COLUMNS) * DEPTH * 2 bytes of shared memory
//   PENDING                     STAGES - 2, as a literal

#define LINEAR_PARAMETERS \
    INPUT(x), __global const element *weight, uint rows, uint inputs, uint paddedInputs, uint xStep, ulong weightStep, \
        uint yStep, uint biasStep

#define WARPS_ACROSS (BLOCK_COLUMNS / WARP_COLUMNS)
#define WORK_ITEMS (WARPS * 32)
#define CHUNKS (DEPTH / 8)
#define X_BYTES (BLOCK_ROWS * DEPTH * 2)
#define STAGE_BYTES ((BLOCK_ROWS + BLOCK_COLUMNS) * DEPTH * 2)
#define X_COPIES (BLOCK_ROWS * CHUNKS / WORK_ITEMS)
#define W_COPIES (BLOCK_COLUMNS * CHUNKS / WORK_ITEMS)
#define ROW_TILES (WARP_ROWS / 16)
#define COLUMN_TILES (WARP_COLUMNS / 8)
#if DEPTH == 64
#define EXCHANGED(row) ((row) & 7)
#else
#define EXCHANGED(row) ((row) >> 1 & 3)
#endif

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void linear(LINEAR_PARAMETERS, EPILOGUE_PARAMETERS SHARED_PARAMETER) {
    SHARED_MEMORY(STAGES * STAGE_BYTES);
    const uint lane = get_local_id(0), warp = get_local_id(1);
    const uint item = warp * 32 + lane;
    const uint first_row = get_group_id(0) * BLOCK_ROWS, first_column = get_group_id(1) * BLOCK_COLUMNS;
    const uint warp_row = warp / WARPS_ACROSS * WARP_ROWS, warp_column = warp % WARPS_ACROSS * WARP_COLUMNS;

    // A work-item copies the same piece of several rows, WORK_ITEMS / CHUNKS apart. Rows past the last repeat it.
    const uint copy_row = item / CHUNKS, copy_chunk = item % CHUNKS;
    __global const element *x_from[X_COPIES];
UNROLL_LOOP
    for (uint i = 0; i < X_COPIES; i++) {
        const uint row = min(first_row + copy_row + i * (WORK_ITEMS / CHUNKS), rows - 1);
        x_from[i] = ROW(x, row) + get_group_id(2) * xStep + copy_chunk * 8;
    }
    __global const element *w_from = weight + get_group_id(2) * weightStep +
                                     (size_t)(first_column + copy_row) * paddedInputs + copy_chunk * 8;
    // WORK_ITEMS / CHUNKS is a multiple of 8: all rows of a work-item are exchanged alike.
    const uint copy_to = SHARED_ADDRESS + (copy_row * CHUNKS + (copy_chunk ^ EXCHANGED(copy_row))) * 16;

#define COPY_STEP(step, slot) \
    { \
        const uint to = copy_to + (slot) * STAGE_BYTES; \
        const uint k = (step) * DEPTH; \
        const int left = (int)inputs - (int)(k + copy_chunk * 8); \
        const uint count = left >= 8 ? 16 : left > 0 ? left * 2 : 0; \
        UNROLL_LOOP for (uint i = 0; i < X_COPIES; i++) { \
            COPY16(to + i * (WORK_ITEMS * 16), count ? x_from[i] + k : x_from[i], count); \
        } \
        UNROLL_LOOP for (uint i = 0; i < W_COPIES; i++) { \
            COPY16(to + X_BYTES + i * (WORK_ITEMS * 16), w_from + (size_t)i * (WORK_ITEMS / CHUNKS) * paddedInputs + k, 16u); \
        } \
    }

    // Lane l names row l % 8 of matrix l / 8. Of x, the matrices are rows 0 to 7 and 8 to 15, then the same of the next eight
    // inputs; of the weight, inputs 0 to 7 and 8 to 15, then the same of the next eight columns.
    const uint x_row = warp_row + lane % 16, x_chunk = lane / 16;
    const uint w_row = warp_column + lane % 8 + lane / 16 * 8, w_chunk = lane / 8 % 2;
    const uint x_at = SHARED_ADDRESS + x_row * (DEPTH * 2), w_at = SHARED_ADDRESS + X_BYTES + w_row * (DEPTH * 2);

    float sums[ROW_TILES][COLUMN_TILES][4];
UNROLL_LOOP
    for (uint i = 0; i < ROW_TILES; i++) {
UNROLL_LOOP
        for (uint j = 0; j < COLUMN_TILES; j++) {
UNROLL_LOOP
            for (uint n = 0; n < 4; n++) { sums[i][j][n] = 0.0f; }
        }
    }

    const uint steps = (inputs + DEPTH - 1) / DEPTH;
    for (uint step = 0; step < STAGES - 1; step++) {
        if (step < steps) { COPY_STEP(step, step) }
        COPY_COMMIT();
    }
    uint slot = 0, next_slot = STAGES - 1;
    for (uint step = 0; step < steps; step++) {
        COPY_WAIT(PENDING);
        barrier(CLK_LOCAL_MEM_FENCE);
        if (step + STAGES - 1 < steps) { COPY_STEP(step + STAGES - 1, next_slot) }
        COPY_COMMIT();
        const uint offset = slot * STAGE_BYTES;
UNROLL_LOOP
        for (uint k = 0; k < DEPTH / 16; k++) {
            uint a[ROW_TILES][4], b[COLUMN_TILES / 2][4];
UNROLL_LOOP
            for (uint i = 0; i < ROW_TILES; i++) {
                LOAD_MATRICES(a[i], x_at + offset + i * (16 * DEPTH * 2) + (((k * 2 + x_chunk) ^ EXCHANGED(x_row)) << 4));
            }
UNROLL_LOOP
            for (uint j = 0; j < COLUMN_TILES / 2; j++) {
                LOAD_MATRICES(b[j], w_at + offset + j * (16 * DEPTH * 2) + (((k * 2 + w_chunk) ^ EXCHANGED(w_row)) << 4));
            }
UNROLL_LOOP
            for (uint i = 0; i < ROW_TILES; i++) {
UNROLL_LOOP
                for (uint j = 0; j < COLUMN_TILES; j++) {
                    MULTIPLY(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
                }
            }
        }
        slot = slot + 1 == STAGES ? 0 : slot + 1;
        next_slot = next_slot + 1 == STAGES ? 0 : next_slot + 1;
    }

UNROLL_LOOP
    for (uint q = 0; q < WARP_COLUMNS / 32; q++) {
        const uint column = first_column + warp_column + q * 32 + lane % 4 * 8;
        EPILOGUE_COLUMNS(column, get_group_id(2))
UNROLL_LOOP
        for (uint i = 0; i < ROW_TILES * 2; i++) {
            const uint row = first_row + warp_row + i * 8 + lane / 4;
            if (row < rows) {
                float v[8];
UNROLL_LOOP
                for (uint n = 0; n < 8; n++) { v[n] = sums[i / 2][q * 4 + n / 2][i % 2 * 2 + n % 2] + biases[n]; }
                const uint out_row = OUT_ROW(row);
                finish8(
                    v, factors, ROW(residual, out_row) + get_group_id(2) * yStep,
                    ROW(y, out_row) + get_group_id(2) * yStep, column, outputs, flags);
            }
        }
    }
}
