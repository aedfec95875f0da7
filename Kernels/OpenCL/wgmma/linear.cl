// y = epilogue(x · weightᵀ) with wgmma: four warps together multiply tiles in shared memory, sums in floats. The step of the ladder for
// sm_90a.
//
// A work-group makes BLOCK_ROWS x BLOCK_COLUMNS results, four warps 64 x BLOCK_COLUMNS of them. Tiles of 64 inputs go to STAGES
// slots: those of x by asynchronous copies of 16 bytes, the weight's, which lies in global memory as a slot wants it, by one bulk
// copy. Where there are fewer work-groups than tiles, one makes tile after tile, those whose number is its own plus a multiple of the
// number of work-groups: then the first inputs of the next tile arrive while the results of the last are written.
//
// The driver's compiler does not know wgmma. So the instructions stand in the assembly as comments that begin with //@ and carry
// their operands; the host reads the program back as PTX, takes these two signs and the at away, names sm_90a as the target and loads
// the result as a binary (PTXSplice.swift). A program that was not spliced multiplies nothing.
//
// A slot of shared memory holds a tile of x, BLOCK_ROWS rows of 64 inputs, and behind it one of the weight, BLOCK_COLUMNS rows. A row of
// a tile is 128 bytes; its pieces of 16 are exchanged by an exclusive or with the row's lowest three bits.
//
// The weight is [panels of 256 columns][steps of 64 inputs][256 columns][64 inputs], pieces exchanged already, zeros in the padding,
// columns in the order of matrix/epilogue.cl. Sums run over the inputs from first to last, 16 at a time, whatever the tile.
// Rows of x begin at multiples of 16 bytes.
//
// Knobs, with their legal values:
//   BLOCK_ROWS      64 or 128
//   BLOCK_COLUMNS   32, 64, 128 or 256
//   STAGES          slots: 2 to 8, from 3 on with OVERLAP; STAGES * (BLOCK_ROWS + BLOCK_COLUMNS) * 128 bytes of shared memory
//   OVERLAP         1: a step is multiplied while the next is begun; 0: each is waited for
//   PENDING         STAGES - 2 - OVERLAP, as a literal
//   PLAIN           1: outputs are a multiple of BLOCK_COLUMNS, and there is no gate, layer scale or unaligned row, nor an activation with a
//                   residual; 0: all of it. What is left out is what compilers take longest for.

// rowTiles, columnTiles: tiles of one matrix below and beside one another; tiles: of all.
#define LINEAR_PARAMETERS \
    INPUT(x), __global const element *weight, uint rows, uint inputs, uint paddedInputs, uint xStep, ulong weightStep, \
        uint yStep, uint biasStep, uint rowTiles, uint columnTiles, uint tiles

// Rows of tiles that are made together, column after column. Work-groups of the same time then share most of what they read: on a
// hundred multiprocessors some 16 rows and 8 columns of tiles.
#define BAND 16
// First row and column of a tile, and its matrix.
static inline uint3 tile_place(uint tile, uint rowTiles, uint columnTiles) {
    const uint group = tile / (rowTiles * columnTiles), in_group = tile % (rowTiles * columnTiles);
    const uint band = in_group / (BAND * columnTiles), in_band = in_group % (BAND * columnTiles);
    const uint height = min((uint)BAND, rowTiles - band * BAND);
    return (uint3)((band * BAND + in_band % height) * BLOCK_ROWS, in_band / height * BLOCK_COLUMNS, group);
}

#define X_BYTES (BLOCK_ROWS * 128)
#define W_BYTES (BLOCK_COLUMNS * 128)
#define STAGE_BYTES (X_BYTES + W_BYTES)
#define SUMS (BLOCK_COLUMNS / 2)

#if !EMULATED

#define SUMS4(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define SUMS16(i) SUMS4(i), SUMS4(i + 4), SUMS4(i + 8), SUMS4(i + 12)
#define SUMS32(i) SUMS16(i), SUMS16(i + 16)
#if BLOCK_COLUMNS == 256
#define SUM_OPERANDS SUMS32(0), SUMS32(32), SUMS32(64), SUMS32(96)
#define X_OPERAND "%128"
#define W_OPERAND "%129"
#define ADDS_OPERAND "%130"
#define SUM_NAMES \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#elif BLOCK_COLUMNS == 128
#define SUM_OPERANDS SUMS32(0), SUMS32(32)
#define X_OPERAND "%64"
#define W_OPERAND "%65"
#define ADDS_OPERAND "%66"
#define SUM_NAMES \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#elif BLOCK_COLUMNS == 32
#define SUM_OPERANDS SUMS16(0)
#define X_OPERAND "%16"
#define W_OPERAND "%17"
#define ADDS_OPERAND "%18"
#define SUM_NAMES "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#else
#define SUM_OPERANDS SUMS32(0)
#define X_OPERAND "%32"
#define W_OPERAND "%33"
#define ADDS_OPERAND "%34"
#define SUM_NAMES \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#endif

#define WGMMA(x_name, w_name, adds_name) \
    "//@ wgmma.mma_async.sync.aligned.m64n" STRING(BLOCK_COLUMNS) "k16.f32.f16.f16 {" SUM_NAMES "}, " x_name ", " w_name ", " adds_name \
    ", 1, 1, 0, 0;\n\t"
// 64 inputs in four instructions; the next 16 inputs lie 32 bytes further, two units of a descriptor. With `adds` 0 the sums begin
// anew, which saves clearing them.
#define MULTIPLY_STEP(x_descriptor, w_descriptor, adds) \
    PTX volatile( \
        "//@ {\n\t" \
        "//@ .reg .pred first, always; .reg .b64 x1, x2, x3, w1, w2, w3;\n\t" \
        "//@ setp.ne.b32 first, " ADDS_OPERAND ", 0; setp.eq.b64 always, " X_OPERAND ", " X_OPERAND ";\n\t" \
        "//@ add.s64 x1, " X_OPERAND ", 2; add.s64 x2, " X_OPERAND ", 4; add.s64 x3, " X_OPERAND ", 6;\n\t" \
        "//@ add.s64 w1, " W_OPERAND ", 2; add.s64 w2, " W_OPERAND ", 4; add.s64 w3, " W_OPERAND ", 6;\n\t" \
        "//@ wgmma.fence.sync.aligned;\n\t" \
        WGMMA(X_OPERAND, W_OPERAND, "first") WGMMA("x1", "w1", "always") WGMMA("x2", "w2", "always") WGMMA("x3", "w3", "always") \
        "//@ wgmma.commit_group.sync.aligned;\n\t" \
        "//@ wgmma.wait_group.sync.aligned " STRING(OVERLAP) ";\n\t" \
        "//@ }" \
        : SUM_OPERANDS \
        : "l"(x_descriptor), "l"(w_descriptor), "r"((uint)(adds)) \
        : "memory")
#define FINISH_STEPS() PTX volatile("//@ wgmma.wait_group.sync.aligned 0;" : SUM_OPERANDS::"memory")

#else

#define MULTIPLY_STEP(x_descriptor, w_descriptor, adds) emulated_step(SHARED_BYTES, sums, x_descriptor, w_descriptor, adds)
#define FINISH_STEPS()
static inline void emulated_step(__local const uchar *memory, float *sums, ulong x_tile, ulong w_tile, uint adds) {
    if (!adds) {
        for (uint i = 0; i < SUMS; i++) { sums[i] = 0.0f; }
    }
    const uint lane = get_local_id(0), row = get_local_id(1) % 4 * 16 + lane / 4;
    for (uint step = 0; step < 4; step++) {
        for (uint k = 0; k < 16; k++) {
            const float low = tile_half(memory, x_tile, row, k), high = tile_half(memory, x_tile, row + 8, k);
            for (uint j = 0; j < BLOCK_COLUMNS / 8; j++) {
                for (uint e = 0; e < 2; e++) {
                    const float w = tile_half(memory, w_tile, j * 8 + lane % 4 * 2 + e, k);
                    sums[j * 4 + e] += low * w;
                    sums[j * 4 + 2 + e] += high * w;
                }
            }
        }
        x_tile += 2;
        w_tile += 2;
    }
}

#endif

// Of a work-item whose patience ended: results that nobody takes for right.
#define SPOIL_SUMS() \
    UNROLL_LOOP for (uint i = 0; i < SUMS; i++) { sums[i] = as_float(0x7fc00000u); }

// What becomes of the sums of four warps together, in a kernel's variables: `first_row` and `first_column` of the tile, each warp sixteen
// rows of it, and the number of its matrix. A program is PLAIN or not: then columns are whole, rows begin at multiples of 16 bytes, there
// are biases, zeros maybe, and an activation or a residual at most, which is all that most models need.
#if PLAIN
// One run of instructions without choices, so that all that takes long is under way together. Rows past the last are the last once more, as
// copied: they may be written again. Not so with a residual, which may be y itself.
#define FINISH_TILE(first_row, first_column, group) \
    const uint columns_from = (first_column) + lane % 4 * 8; \
    const uint row_0 = (first_row) + warp * 16 + lane / 4, row_1 = row_0 + 8; \
    if (ACTIVATION == ACTIVATION_NONE && flags & FLAG_RESIDUAL) { \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { ADD_BIASES(q, group) } \
        STORE_ROW_ON_RESIDUAL(0, row_0, group) \
        STORE_ROW_ON_RESIDUAL(1, row_1, group) \
    } else { \
        __global element *y_0 = ROW(y, OUT_ROW(min(row_0, rows - 1))) + (group) * yStep + columns_from; \
        __global element *y_1 = ROW(y, OUT_ROW(min(row_1, rows - 1))) + (group) * yStep + columns_from; \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
            ADD_BIASES(q, group) \
            ACTIVATE(sums + q * 16, 16, 4, false) \
            STORE_SUMS(q, 0, y_0) \
            STORE_SUMS(q, 1, y_1) \
        } \
    }
#else
#define FINISH_TILE(first_row, first_column, group) \
    const uint columns_from = (first_column) + lane % 4 * 8; \
    const uint row_0 = (first_row) + warp * 16 + lane / 4, row_1 = row_0 + 8; \
    UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
        if (flags & FLAG_BIAS) { ADD_BIASES(q, group) } \
        SCALE_COLUMNS(columns_from + q * 32) \
        UNROLL_LOOP for (uint h = 0; h < 2; h++) { \
            const uint row = h ? row_1 : row_0; \
            if (row < rows) { \
                float v[8]; \
                UNROLL_LOOP for (uint n = 0; n < 8; n++) { v[n] = sums[SUM_AT(q, h, n)]; } \
                finish8( \
                    v, factors, ROW(residual, OUT_ROW(row)) + (group) * yStep, ROW(y, OUT_ROW(row)) + (group) * yStep, \
                    columns_from + q * 32, outputs, flags); \
            } \
        } \
    }
#endif
#define ADD_BIASES(q, group) \
    { \
        float biases[8]; \
        load_constants8(bias + (group) * biasStep + columns_from + (q) * 32, biases); \
        UNROLL_LOOP for (uint n = 0; n < 8; n++) { \
            sums[SUM_AT(q, 0, n)] += biases[n]; \
            sums[SUM_AT(q, 1, n)] += biases[n]; \
        } \
    }
#define STORE_SUMS(q, h, to) \
    { \
        float v[8]; \
        UNROLL_LOOP for (uint n = 0; n < 8; n++) { v[n] = sums[SUM_AT(q, h, n)]; } \
        store_halves8((to) + (q) * 32, v); \
    }
// Where the sum of column n of eight stands, of the lane's first or second row.
#define SUM_AT(q, h, n) (((q) * 4 + (n) / 2) * 4 + (h) * 2 + (n) % 2)
#define STORE_ROW_ON_RESIDUAL(h, row, group) \
    if ((row) < rows) { \
        const uint out_row = OUT_ROW(row); \
        __global const element *residual_from = ROW(residual, out_row) + (group) * yStep + columns_from; \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
            float added[8]; \
            load_halves8(residual_from + q * 32, added); \
            UNROLL_LOOP for (uint n = 0; n < 8; n++) { sums[SUM_AT(q, h, n)] += added[n]; } \
        } \
        __global element *y_to = ROW(y, out_row) + (group) * yStep + columns_from; \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { STORE_SUMS(q, h, y_to) } \
    }

#define WORK_ITEMS (WARPS * 32)
#define X_COPIES (BLOCK_ROWS * 8 / WORK_ITEMS)
#define AHEAD (STAGES - 1 - OVERLAP)

__attribute__((reqd_work_group_size(32, WARPS, 1))) __kernel void linear(LINEAR_PARAMETERS, EPILOGUE_PARAMETERS SHARED_PARAMETER) {
    // Slots begin at multiples of 1024, since the exchange goes by bits of the address; behind them a barrier of 8 bytes for each.
    SHARED_MEMORY(1024 + STAGES * STAGE_BYTES + STAGES * 16);
    const uint slots = (SHARED_ADDRESS + 1023) / 1024 * 1024, barriers = slots + STAGES * STAGE_BYTES;
    const uint lane = get_local_id(0), warp = get_local_id(1), item = warp * 32 + lane;
    const uint steps = (inputs + 63) / 64;

    // What is copied next: step `copy_step` of a tile, which may be behind the one that is multiplied. A work-item copies the same piece of
    // several rows, WORK_ITEMS / 8 apart. Rows past the last repeat it.
    const uint copy_row = item / 8, copy_chunk = item % 8;
    const uint copy_to = slots + copy_row * 128 + ((copy_chunk ^ (copy_row & 7)) << 4);
    uint copy_tile = get_group_id(0), copy_step = 0;
    uint copy_rows[X_COPIES];
    __global const element *x_from, *w_from;
#define BEGIN_COPIES() \
    { \
        const uint3 place = tile_place(copy_tile, rowTiles, columnTiles); \
        UNROLL_LOOP for (uint i = 0; i < X_COPIES; i++) { \
            copy_rows[i] = min(place.x + copy_row + i * (WORK_ITEMS / 8), rows - 1); \
        } \
        x_from = ROW(x, 0) + place.z * xStep + copy_chunk * 8; \
        w_from = weight + place.z * weightStep + (size_t)(place.y / 256) * steps * (256 * 64) + place.y % 256 * 64; \
    }
    BEGIN_COPIES()
#define COPY_STEP(slot) \
    { \
        const uint k = copy_step * 64; \
        const int left = (int)inputs - (int)(k + copy_chunk * 8); \
        const uint count = left >= 8 ? 16 : left > 0 ? left * 2 : 0; \
        UNROLL_LOOP for (uint i = 0; i < X_COPIES; i++) { \
            COPY16(copy_to + (slot) * STAGE_BYTES + i * (WORK_ITEMS * 16), x_from + (size_t)copy_rows[i] * xPitch + (count ? k : 0), count); \
        } \
        if (item == 0) { \
            BULK_COPY(slots + (slot) * STAGE_BYTES + X_BYTES, w_from + (size_t)copy_step * (256 * 64), (uint)W_BYTES, \
                      barriers + (slot) * 16); \
        } \
        if (++copy_step == steps) { \
            copy_step = 0; \
            copy_tile += get_num_groups(0); \
            if (copy_tile < tiles) { BEGIN_COPIES() } \
        } \
    }

    uint patient = 1;
    if (item == 0) {
        for (uint slot = 0; slot < STAGES; slot++) { BARRIER_INIT(barriers + slot * 16, 1u); }
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    float sums[SUMS];
UNROLL_LOOP
    for (uint i = 0; i < SUMS; i++) { sums[i] = 0.0f; }

    for (uint ahead = 0; ahead < AHEAD; ahead++) {
        if (copy_tile < tiles) { COPY_STEP(ahead) }
        COPY_COMMIT();
    }
    const uint x_tile = slots + warp / 4 * (64 * 128);
    uint slot = 0, next_slot = AHEAD, parity = 0;
    for (uint tile = get_group_id(0); tile < tiles; tile += get_num_groups(0)) {
        for (uint step = 0; step < steps; step++) {
            COPY_WAIT(PENDING);
            PUBLISH_TO_WGMMA();
            patient = BARRIER_WAIT(barriers + slot * 16, parity, patient);
            // Behind it, all warps are done with the step before (with OVERLAP, the one before that), whose slot is filled next.
            barrier(CLK_LOCAL_MEM_FENCE);
            if (copy_tile < tiles) { COPY_STEP(next_slot) }
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
        const uint3 place = tile_place(tile, rowTiles, columnTiles);
        FINISH_TILE(place.x, place.y, place.z)
    }
}
