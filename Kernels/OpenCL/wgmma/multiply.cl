// wgmma on tiles in shared memory: four warps together, sums in floats; and what becomes of the sums. What the two products of this
// folder have in common: linear.cl (PRODUCER 0), where all warps copy and multiply, and producer.cl (PRODUCER 1), where some copy and
// the others multiply.
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
//   PRODUCER        0 or 1
//   BLOCK_ROWS      64 or 128
//   BLOCK_COLUMNS   64, 128 or 256
//   STAGES          slots: 2 to 8, from 3 on with OVERLAP; STAGES * (BLOCK_ROWS + BLOCK_COLUMNS) * 128 bytes of shared memory
//   OVERLAP         1: a step is multiplied while the next is begun; 0: each is waited for

#define X_BYTES (BLOCK_ROWS * 128)
#define W_BYTES (BLOCK_COLUMNS * 128)
#define STAGE_BYTES (X_BYTES + W_BYTES)
#define SUMS (BLOCK_COLUMNS / 2)

// A tile in shared memory as wgmma names it: address, then 1024 bytes from eight rows to the next eight, pieces exchanged.
static inline ulong descriptor(uint address) { return (ulong)(address >> 4 & 0x3fff) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

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
// The half in row `row` and column `k` of the tile that a descriptor names.
static inline float tile_half(__local const uchar *memory, ulong tile, uint row, uint k) {
    uint address = (uint)(tile & 0x3fff) * 16 + row / 8 * (uint)(tile >> 32 & 0x3fff) * 16 + row % 8 * 128 + k * 2;
    address ^= (address >> 7 & 7) << 4;
    return vload_half(0, (__local const half *)(memory + address));
}
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
// rows of it, and the number of its matrix. One thing after the other for all sums: what depends on `flags` is looked up once, and
// what is read from memory is asked for together, of one row of the lane at a time, as registers allow.
#define FINISH_TILE(first_row, first_column, group) \
    const uint columns_from = (first_column) + lane % 4 * 8; \
    const uint row_0 = (first_row) + warp * 16 + lane / 4, row_1 = row_0 + 8; \
    if (flags & FLAG_BIAS) { \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
            float biases[8]; \
            load_floats8(bias + (group) * biasStep + columns_from + q * 32, biases); \
            UNROLL_LOOP for (uint n = 0; n < 8; n++) { \
                sums[SUM_AT(q, 0, n)] += biases[n]; \
                sums[SUM_AT(q, 1, n)] += biases[n]; \
            } \
        } \
    } \
    ACTIVATE(sums, SUMS, flags & FLAG_ACTIVATION, flags & FLAG_GATED) \
    GATE(sums, SUMS) \
    if (flags & FLAG_SCALE) { \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
            SCALE_COLUMNS(columns_from + q * 32) \
            UNROLL_LOOP for (uint n = 0; n < 8; n++) { \
                sums[SUM_AT(q, 0, n)] *= factors[n]; \
                sums[SUM_AT(q, 1, n)] *= factors[n]; \
            } \
        } \
    } \
    if (!(flags & (FLAG_GATED | FLAG_UNALIGNED)) && (first_column) + BLOCK_COLUMNS <= outputs) { \
        STORE_ROW(0, row_0, group) \
        STORE_ROW(1, row_1, group) \
    } else { \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
            UNROLL_LOOP for (uint h = 0; h < 2; h++) { \
                const uint row = h ? row_1 : row_0; \
                if (row < rows) { \
                    float v[8]; \
                    UNROLL_LOOP for (uint n = 0; n < 8; n++) { v[n] = sums[SUM_AT(q, h, n)]; } \
                    store8( \
                        v, ROW(residual, OUT_ROW(row)) + (group) * yStep, ROW(y, OUT_ROW(row)) + (group) * yStep, \
                        columns_from + q * 32, outputs, flags); \
                } \
            } \
        } \
    }
// Where the sum of column n of eight stands, of the lane's first or second row.
#define SUM_AT(q, h, n) (((q) * 4 + (n) / 2) * 4 + (h) * 2 + (n) % 2)
#define STORE_ROW(h, row, group) \
    if ((row) < rows) { \
        const uint out_row = OUT_ROW(row); \
        if (flags & FLAG_RESIDUAL) { \
            __global const element *residual_from = ROW(residual, out_row) + (group) * yStep + columns_from; \
            UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
                float added[8]; \
                load_halves8(residual_from + q * 32, added); \
                UNROLL_LOOP for (uint n = 0; n < 8; n++) { sums[SUM_AT(q, h, n)] += added[n]; } \
            } \
        } \
        __global element *y_to = ROW(y, out_row) + (group) * yStep + columns_from; \
        UNROLL_LOOP for (uint q = 0; q < BLOCK_COLUMNS / 32; q++) { \
            float v[8]; \
            UNROLL_LOOP for (uint n = 0; n < 8; n++) { v[n] = sums[SUM_AT(q, h, n)]; } \
            store_halves8(y_to + q * 32, v); \
        } \
    }
