// What products and attention have in common for matrix instructions whose factors are registers of a sub-group: AMD's and Intel's.
//
// A file of instructions (amd/wmma.cl, amd/mfma.cl, intel/dpas.cl) stands before this one. It says how large a unit is, the smallest
// product that leaves a lane with eight neighbouring columns of one row:
//   SUBGROUP      lanes; a work-group is (SUBGROUP, WARPS, 1), so that get_local_id(0) is the lane
//   UNIT_ROWS, UNIT_COLUMNS, UNIT_INPUTS   SUBGROUP / UNIT_ROWS lanes share a row: UNIT_COLUMNS is eight times as many
//   X_PIECES, W_PIECES   16-byte pieces that a lane holds of x and of the weight
//   COLUMN_OF_PLACE(p)   the column that row p of the weight's unit [UNIT_COLUMNS][UNIT_INPUTS] is for
//   W_PIECE(lane, p)     which of that unit's pieces are a lane's; or LOAD_W and LOAD_W_LOCAL themselves
//   MULTIPLY(sums, w, x) sums += w · x, a float8: columns LANE_COLUMN to + 7 of row LANE_ROW
//   EXCHANGE(v, mask)    the value of lane (lane ^ mask); needed where lanes share a row
//   X_OF_SCORES(x, scores, step)   x of inputs step * UNIT_INPUTS and on, from results of units, eight halves to a piece
// With EMULATED 1, lanes exchange data through local memory; all work-items of the work-group reach every macro together.

#define LANE_ROW(lane) ((lane) % UNIT_ROWS)
#define LANE_COLUMN(lane) ((lane) / UNIT_ROWS * 8)
// A lane holds all inputs of its row, or a part in the order of lanes.
#define FIRST_PIECE(lane) (X_PIECES * 8 == UNIT_INPUTS ? 0 : (lane) / UNIT_ROWS * X_PIECES)

#define WORK_ITEMS (WARPS * SUBGROUP)

#if EMULATED
#define SUBGROUP_ATTRIBUTE
#define WARP_MEMORY __local uint4 warp_memory[WARPS * SUBGROUP * 4];
#define WARP_WORDS (warp_memory + get_local_id(1) * (SUBGROUP * 4))

static inline uint4 emulated_exchange(__local uint4 *words, uint4 v, uint mask) {
    barrier(CLK_LOCAL_MEM_FENCE);
    words[get_local_id(0)] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    return words[get_local_id(0) ^ mask];
}
#define EXCHANGE4(v, mask) emulated_exchange(WARP_WORDS, v, mask)
#define EXCHANGE(v, mask) as_float(emulated_exchange(WARP_WORDS, (uint4)(as_uint(v)), mask).x)
#endif

#ifndef LOAD_W
// A lane's pieces of a unit of the weight: in global memory [UNIT_COLUMNS places][UNIT_INPUTS]; in local memory column after column, `pitch`
// bytes apart.
static inline void load_w(__global const uint4 *from, uint4 *w) {
UNROLL_LOOP
    for (uint p = 0; p < W_PIECES; p++) { w[p] = from[W_PIECE(get_local_id(0), p)]; }
}
#define LOAD_W(w, from) load_w((__global const uint4 *)(from), w)
static inline void load_w_local(__local const uchar *from, uint pitch, uint4 *w) {
UNROLL_LOOP
    for (uint p = 0; p < W_PIECES; p++) {
        const uint place = W_PIECE(get_local_id(0), p) / (UNIT_INPUTS / 8), piece = W_PIECE(get_local_id(0), p) % (UNIT_INPUTS / 8);
        w[p] = *(__local const uint4 *)(from + COLUMN_OF_PLACE(place) * pitch + piece * 16);
    }
}
#define LOAD_W_LOCAL(w, from, pitch) load_w_local(from, pitch, w)
#endif

// Eight halves of a row of which `left` are there, the rest as zeros. The row has room for all.
static inline uint4 load_piece(__global const element *from, int left) {
    if (left >= 8) { return *(__global const uint4 *)from; }
    if (left <= 0) { return (uint4)(0); }
    const ushort8 halves = *(__global const ushort8 *)from;
    return as_uint4(as_short8(halves) & ((short8)(0, 1, 2, 3, 4, 5, 6, 7) < (short8)(left)));
}
