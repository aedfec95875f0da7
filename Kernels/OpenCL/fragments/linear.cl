// y = epilogue(x · weightᵀ) with matrix instructions whose factors are registers of a sub-group: halves, sums in floats. The steps of
// the ladder for AMD (wmma, mfma) and Intel (dpas).
//
// A work-group makes BLOCK_ROWS x BLOCK_COLUMNS results, a sub-group WARP_ROWS x WARP_COLUMNS of them, in units (fragments.cl). Tiles of
// DEPTH inputs of x go through registers to one of two slots in local memory, while the other is multiplied; their rows are 16
// bytes longer than they need be, so that eight rows of one piece lie in different banks. The weight lies in global memory as
// sub-groups read it, a unit in one piece, and goes to registers directly: sub-groups above each other find it in cache.
//
// The weight is [columns, padded to 256, in units][inputs, padded to 64, in units][UNIT_COLUMNS places][UNIT_INPUTS], zeros in the padding.
// Sums run over the inputs from first to last, a unit's at a time, whatever the tile: tiles may be chosen by the number of rows.
// Rows of x begin at multiples of 16 bytes.
//
// Knobs, with their legal values:
//   BLOCK_ROWS, BLOCK_COLUMNS   multiples of WARP_ROWS, WARP_COLUMNS; BLOCK_COLUMNS divides 256
//   WARP_ROWS, WARP_COLUMNS     multiples of UNIT_ROWS, UNIT_COLUMNS; WARP_ROWS * WARP_COLUMNS / SUBGROUP sums to a lane: at most 128
//   DEPTH                       32 or 64; BLOCK_ROWS * DEPTH / 8 is a multiple of the work-items

#define LINEAR_PARAMETERS \
    INPUT(x), __global const element *weight, uint rows, uint inputs, uint paddedInputs, uint xStep, ulong weightStep, \
        uint yStep, uint biasStep

#define WARPS_ACROSS (BLOCK_COLUMNS / WARP_COLUMNS)
#define CHUNKS (DEPTH / 8)
#define PITCH (CHUNKS + 1)
#define X_COPIES (BLOCK_ROWS * CHUNKS / WORK_ITEMS)
#define ROW_UNITS (WARP_ROWS / UNIT_ROWS)
#define COLUMN_UNITS (WARP_COLUMNS / UNIT_COLUMNS)

SUBGROUP_ATTRIBUTE __attribute__((reqd_work_group_size(SUBGROUP, WARPS, 1))) __kernel void linear(
    LINEAR_PARAMETERS, EPILOGUE_PARAMETERS) {
    __local uint4 tiles[2 * BLOCK_ROWS * PITCH];
    WARP_MEMORY
    const uint lane = get_local_id(0), warp = get_local_id(1);
    const uint item = warp * SUBGROUP + lane;
    const uint first_row = get_group_id(0) * BLOCK_ROWS, first_column = get_group_id(1) * BLOCK_COLUMNS;
    const uint warp_row = warp / WARPS_ACROSS * WARP_ROWS, warp_column = warp % WARPS_ACROSS * WARP_COLUMNS;

    // Rows past the last repeat it.
    __global const element *x_from[X_COPIES];
UNROLL_LOOP
    for (uint i = 0; i < X_COPIES; i++) {
        const uint at = item + i * WORK_ITEMS;
        x_from[i] = ROW(x, min(first_row + at / CHUNKS, rows - 1)) + get_group_id(2) * xStep + at % CHUNKS * 8;
    }
    __global const element *w_from =
        weight + get_group_id(2) * weightStep + (size_t)(first_column + warp_column) * paddedInputs;

    uint4 staged[X_COPIES];
#define FETCH(step) \
    UNROLL_LOOP for (uint i = 0; i < X_COPIES; i++) { \
        const uint k = (step) * DEPTH; \
        staged[i] = load_piece(x_from[i] + k, (int)inputs - (int)(k + (item + i * WORK_ITEMS) % CHUNKS * 8)); \
    }
#define STAGE(slot) \
    UNROLL_LOOP for (uint i = 0; i < X_COPIES; i++) { \
        const uint at = item + i * WORK_ITEMS; \
        tiles[((slot) * BLOCK_ROWS + at / CHUNKS) * PITCH + at % CHUNKS] = staged[i]; \
    }

    float8 sums[ROW_UNITS][COLUMN_UNITS];
UNROLL_LOOP
    for (uint i = 0; i < ROW_UNITS; i++) {
UNROLL_LOOP
        for (uint j = 0; j < COLUMN_UNITS; j++) { sums[i][j] = (float8)(0.0f); }
    }

    const uint steps = (inputs + DEPTH - 1) / DEPTH;
    const uint x_at = (warp_row + LANE_ROW(lane)) * PITCH + FIRST_PIECE(lane);
    FETCH(0)
    STAGE(0)
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint step = 0; step < steps; step++) {
        if (step + 1 < steps) { FETCH(step + 1) }
        const uint slot = step & 1;
UNROLL_LOOP
        for (uint k = 0; k < DEPTH / UNIT_INPUTS; k++) {
            uint4 a[ROW_UNITS][X_PIECES], b[COLUMN_UNITS][W_PIECES];
UNROLL_LOOP
            for (uint j = 0; j < COLUMN_UNITS; j++) {
                LOAD_W(b[j], w_from + (size_t)j * UNIT_COLUMNS * paddedInputs + (step * DEPTH + k * UNIT_INPUTS) * UNIT_COLUMNS);
            }
UNROLL_LOOP
            for (uint i = 0; i < ROW_UNITS; i++) {
UNROLL_LOOP
                for (uint p = 0; p < X_PIECES; p++) {
                    a[i][p] = tiles[slot * (BLOCK_ROWS * PITCH) + x_at + i * (UNIT_ROWS * PITCH) + k * (UNIT_INPUTS / 8) + p];
                }
            }
UNROLL_LOOP
            for (uint i = 0; i < ROW_UNITS; i++) {
UNROLL_LOOP
                for (uint j = 0; j < COLUMN_UNITS; j++) { MULTIPLY(sums[i][j], b[j], a[i]); }
            }
        }
        if (step + 1 < steps) { STAGE(slot ^ 1) }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

UNROLL_LOOP
    for (uint j = 0; j < COLUMN_UNITS; j++) {
        const uint column = first_column + warp_column + j * UNIT_COLUMNS + LANE_COLUMN(lane);
        EPILOGUE_COLUMNS(column, get_group_id(2))
UNROLL_LOOP
        for (uint i = 0; i < ROW_UNITS; i++) {
            const uint row = first_row + warp_row + i * UNIT_ROWS + LANE_ROW(lane);
            if (row < rows) {
                float v[8];
                vstore8(sums[i][j], 0, v);
UNROLL_LOOP
                for (uint n = 0; n < 8; n++) { v[n] += biases[n]; }
                const uint out_row = OUT_ROW(row);
                finish8(
                    v, factors, ROW(residual, out_row) + get_group_id(2) * yStep,
                    ROW(y, out_row) + get_group_id(2) * yStep, column, outputs, flags);
            }
        }
    }
}
