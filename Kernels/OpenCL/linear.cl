// y = epilogue(x · weightᵀ): the matrix product behind every linear, and behind convolution (see convolution.cl).
//
// Columns of the weight ("outputs" of the product) come in panels of PANEL, each laid out [inputs][PANEL], zero-padded:
// panel p begins at weight + p · inputs · PANEL. Sums run over the inputs from first to last, whatever the tile.
//
// Knobs:
//   TILED 0  one work-item makes ROWS x PANEL results in registers, no local memory: for CPUs, where it is plain cache.
//            ROWS 1 to 16, PANEL a multiple of 16. Work-group 1 x 1 x 1.
//   TILED 1  a work-group makes TILE_ROWS x PANEL results from tiles of DEPTH inputs in local memory: for GPUs.
//            A work-item makes ROWS x COLUMNS of them. ROWS, COLUMNS: 4 or 8. TILE_ROWS, PANEL: multiples of them.
//            DEPTH a multiple of 4. Work-group TILE_ROWS / ROWS * PANEL / COLUMNS x 1 x 1, and the work-items must
//            divide both DEPTH / 4 * TILE_ROWS and DEPTH / 4 * PANEL.

// The epilogue, as bits of `flags`. The lowest four are the activation.
#define FLAG_ACTIVATION 15
// Even columns are the first half, odd columns the second, of y = activation(first) · second.
#define FLAG_GATED 16
#define FLAG_BIAS 32
#define FLAG_SCALE 64
#define FLAG_RESIDUAL 128
#define FLAG_ACTIVATE_AFTER_RESIDUAL 256
// Columns from `transposedFrom` on go to `keys`, [column][row].
#define FLAG_TRANSPOSE 512

// Where the rows of x come from: convolution.cl gathers them from the positions that the kernel covers.
#ifndef TAPS
#define TAPS 1
#define GATHER_PARAMETERS
#define GATHER_ROW(row, tap) ROW(x, row)
#define LINEAR_NAME linear
#endif

#define EPILOGUE_PARAMETERS \
    __global const float *bias, __global const float *scale, INPUT(residual), OUTPUT(y), __global element *keys, \
        ulong keysOffset, uint keysPitch, uint transposedFrom, uint outputs, uint flags, uint rowsIn, uint rowsOut, \
        uint rowFirst

typedef struct {
    __global const float *bias;
    __global const float *scale;
    __global const element *residual;
    __global element *y;
    __global element *keys;
    uint residualPitch, yPitch, keysPitch, transposedFrom, outputs, flags;
} epilogue_t;

// One finished sum: column `column` of the product.
static inline void finish_scalar(const epilogue_t *e, float a, float gate, uint row, uint out_row, uint column) {
    const uint activation = e->flags & FLAG_ACTIVATION;
    if (e->flags & FLAG_TRANSPOSE && column >= e->transposedFrom) {
        STORE(a, e->keys, (size_t)(column - e->transposedFrom) * e->keysPitch + row);
        return;
    }
    const size_t at = (size_t)out_row * e->yPitch + column;
    const size_t residual_at = (size_t)out_row * e->residualPitch + column;
    if (e->flags & FLAG_ACTIVATE_AFTER_RESIDUAL) {
        a = activate1(a + LOAD(e->residual, residual_at), activation);
        STORE(a, e->y, at);
        return;
    }
    a = activate1(a, activation);
    if (e->flags & FLAG_GATED) { a *= gate; }
    if (e->flags & FLAG_SCALE) { a *= e->scale[column]; }
    if (e->flags & FLAG_RESIDUAL) { a += LOAD(e->residual, residual_at); }
    STORE(a, e->y, at);
}

// WIDTH finished sums side by side, beginning at column `column` of the product. In two parts: whole vectors where the
// columns lie inside y, one by one at its edge.
#define DEFINE_FINISH(name, WIDTH, HALF_WIDTH) \
    static inline void name( \
        const epilogue_t *e, JOIN(float, WIDTH) a, uint row, uint out_row, uint column, uint packed) { \
        if (e->flags & FLAG_BIAS) { a += JOIN(vload, WIDTH)(0, e->bias + packed); } \
        const uint activation = e->flags & FLAG_ACTIVATION; \
        if (e->flags & FLAG_GATED) { \
            const JOIN(float, HALF_WIDTH) first = a.even, second = a.odd; \
            float values[HALF_WIDTH], gates[HALF_WIDTH]; \
            JOIN(vstore, HALF_WIDTH)(first, 0, values); \
            JOIN(vstore, HALF_WIDTH)(second, 0, gates); \
            for (uint i = 0; i < HALF_WIDTH; i++) { \
                if (column / 2 + i < e->outputs) { \
                    finish_scalar(e, values[i], gates[i], row, out_row, column / 2 + i); \
                } \
            } \
            return; \
        } \
        const bool inside = column + WIDTH <= e->outputs; \
        const bool straight = !(e->flags & FLAG_TRANSPOSE) || column + WIDTH <= e->transposedFrom; \
        if (!inside || !straight) { \
            float values[WIDTH]; \
            JOIN(vstore, WIDTH)(a, 0, values); \
            for (uint i = 0; i < WIDTH; i++) { \
                if (column + i < e->outputs) { finish_scalar(e, values[i], 0.0f, row, out_row, column + i); } \
            } \
            return; \
        } \
        const size_t at = (size_t)out_row * e->yPitch + column; \
        __global const element *residual = e->residual + (size_t)out_row * e->residualPitch + column; \
        if (e->flags & FLAG_ACTIVATE_AFTER_RESIDUAL) { \
            a = JOIN(activate, WIDTH)(a + JOIN(LOAD, WIDTH)(residual, 0), activation); \
        } else { \
            a = JOIN(activate, WIDTH)(a, activation); \
            if (e->flags & FLAG_SCALE) { a *= JOIN(vload, WIDTH)(0, e->scale + column); } \
            if (e->flags & FLAG_RESIDUAL) { a += JOIN(LOAD, WIDTH)(residual, 0); } \
        } \
        JOIN(STORE, WIDTH)(a, e->y + at, 0); \
    }

// Of a batch of products side by side (heads), work-group column 2 names the one: it reads its own columns of x, its
// own weight and bias, and writes its own columns of y.
#define LINEAR_PARAMETERS \
    INPUT(x), __global const element *weight, uint rows, uint inputs, uint xStep, ulong weightStep, uint yStep, \
        uint biasStep

#define MAKE_EPILOGUE \
    { \
        .bias = bias + get_group_id(2) * biasStep, .scale = scale, .residual = residual + residualOffset, \
        .y = y + yOffset + get_group_id(2) * yStep, .keys = keys + keysOffset, .residualPitch = residualPitch, \
        .yPitch = yPitch, .keysPitch = keysPitch, .transposedFrom = transposedFrom, .outputs = outputs, .flags = flags \
    }

#define OUT_ROW(row) ((row) / rowsIn * rowsOut + rowFirst + (row) % rowsIn)

#if !TILED

#define VECTORS (PANEL / 16)
DEFINE_FINISH(finish, 16, 8)

#ifdef cl_intel_vec_len_hint
__attribute__((intel_vec_len_hint(1)))
#endif
__attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
LINEAR_NAME(LINEAR_PARAMETERS, EPILOGUE_PARAMETERS GATHER_PARAMETERS) {
    const uint first_row = get_group_id(0) * ROWS;
    const uint panel = get_group_id(1);
    __global const element *w =
        weight + get_group_id(2) * weightStep + (size_t)panel * (inputs * TAPS) * PANEL;
    float16 sums[ROWS][VECTORS];
UNROLL_LOOP
    for (uint i = 0; i < ROWS; i++) {
UNROLL_LOOP
        for (uint v = 0; v < VECTORS; v++) { sums[i][v] = 0.0f; }
    }
    for (uint tap = 0; tap < TAPS; tap++) {
        // Rows past the last repeat it: they are computed and not stored.
        __global const element *row[ROWS];
UNROLL_LOOP
        for (uint i = 0; i < ROWS; i++) {
            row[i] = GATHER_ROW(min(first_row + i, rows - 1), tap) + get_group_id(2) * xStep;
        }
        for (uint k = 0; k < inputs; k++) {
            float16 weights[VECTORS];
UNROLL_LOOP
            for (uint v = 0; v < VECTORS; v++) { weights[v] = LOAD16(w, v * 16); }
UNROLL_LOOP
            for (uint i = 0; i < ROWS; i++) {
                const float16 a = LOAD(row[i], k);
UNROLL_LOOP
                for (uint v = 0; v < VECTORS; v++) { sums[i][v] = a * weights[v] + sums[i][v]; }
            }
            w += PANEL;
        }
    }
    const epilogue_t e = MAKE_EPILOGUE;
UNROLL_LOOP
    for (uint i = 0; i < ROWS; i++) {
        if (first_row + i >= rows) { break; }
UNROLL_LOOP
        for (uint v = 0; v < VECTORS; v++) {
            const uint column = panel * PANEL + v * 16;
            finish(&e, sums[i][v], first_row + i, OUT_ROW(first_row + i), column, column);
        }
    }
}

#else

#define WORK_ITEMS (TILE_ROWS / ROWS * (PANEL / COLUMNS))
#define X_LOADS (TILE_ROWS * DEPTH / 4 / WORK_ITEMS)
#define W_LOADS (PANEL * DEPTH / 4 / WORK_ITEMS)
// One float4 more than needed, so that transposing stores fall into different banks.
#define X_PITCH (TILE_ROWS + 4)
DEFINE_FINISH(finish, 4, 2)

__attribute__((reqd_work_group_size(WORK_ITEMS, 1, 1))) __kernel void
LINEAR_NAME(LINEAR_PARAMETERS, EPILOGUE_PARAMETERS GATHER_PARAMETERS) {
    __local float x_tile[DEPTH][X_PITCH];
    __local float w_tile[DEPTH][PANEL];
    const uint item = get_local_id(0);
    const uint first_row = get_group_id(0) * TILE_ROWS;
    const uint panel = get_group_id(1);
    const uint item_column = item % (PANEL / COLUMNS) * 4;
    const uint item_row = item / (PANEL / COLUMNS) * ROWS;
    const uint depth = inputs * TAPS;
    __global const element *w = weight + get_group_id(2) * weightStep + (size_t)panel * depth * PANEL;

    // What the next tile needs is fetched into registers while this one is multiplied.
    float4 next_x[X_LOADS], next_w[W_LOADS];
    // sums[i][c]: row item_row + i, columns c · (PANEL / COLUMNS · 4) + item_column and the three after it.
    float4 sums[ROWS][COLUMNS / 4];
UNROLL_LOOP
    for (uint i = 0; i < ROWS; i++) {
UNROLL_LOOP
        for (uint c = 0; c < COLUMNS / 4; c++) { sums[i][c] = 0.0f; }
    }

#define FETCH(start) \
    UNROLL_LOOP for (uint i = 0; i < X_LOADS; i++) { \
        const uint at = i * WORK_ITEMS + item; \
        const uint row = min(first_row + at / (DEPTH / 4), rows - 1); \
        const uint k = (start) + at % (DEPTH / 4) * 4; \
        next_x[i] = fetch_x(k); \
    } \
    UNROLL_LOOP for (uint i = 0; i < W_LOADS; i++) { \
        const uint at = i * WORK_ITEMS + item; \
        const uint k = (start) + at / (PANEL / 4); \
        next_w[i] = k < depth ? LOAD4(w, (size_t)k * PANEL + at % (PANEL / 4) * 4) : (float4)(0.0f); \
    }

#if defined(GATHERED)
// Four inputs may belong to different taps.
#define GATHER_ONE(k) \
    ((k) < depth ? LOAD(GATHER_ROW(row, (k) / inputs) + get_group_id(2) * xStep, (k) % inputs) : 0.0f)
#define fetch_x(k) (float4)(GATHER_ONE(k), GATHER_ONE(k + 1), GATHER_ONE(k + 2), GATHER_ONE(k + 3))
#else
#define X_ROW (GATHER_ROW(row, 0) + get_group_id(2) * xStep)
#define GATHER_ONE(k) ((k) < depth ? LOAD(X_ROW, k) : 0.0f)
#define fetch_x(k) \
    ((k) + 4 <= depth ? LOAD4(X_ROW, k) \
                      : (float4)(GATHER_ONE(k), GATHER_ONE(k + 1), GATHER_ONE(k + 2), GATHER_ONE(k + 3)))
#endif

    FETCH(0)
    for (uint start = 0; start < depth; start += DEPTH) {
        barrier(CLK_LOCAL_MEM_FENCE);
UNROLL_LOOP
        for (uint i = 0; i < X_LOADS; i++) {
            const uint at = i * WORK_ITEMS + item;
            const uint row = at / (DEPTH / 4), k = at % (DEPTH / 4) * 4;
            x_tile[k][row] = next_x[i].x;
            x_tile[k + 1][row] = next_x[i].y;
            x_tile[k + 2][row] = next_x[i].z;
            x_tile[k + 3][row] = next_x[i].w;
        }
UNROLL_LOOP
        for (uint i = 0; i < W_LOADS; i++) {
            const uint at = i * WORK_ITEMS + item;
            vstore4(next_w[i], 0, &w_tile[at / (PANEL / 4)][at % (PANEL / 4) * 4]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (start + DEPTH < depth) { FETCH(start + DEPTH) }
UNROLL_LOOP
        for (uint k = 0; k < DEPTH; k++) {
            float4 weights[COLUMNS / 4];
UNROLL_LOOP
            for (uint c = 0; c < COLUMNS / 4; c++) {
                weights[c] = vload4(0, &w_tile[k][c * (PANEL / COLUMNS * 4) + item_column]);
            }
UNROLL_LOOP
            for (uint i = 0; i < ROWS; i++) {
                const float a = x_tile[k][item_row + i];
UNROLL_LOOP
                for (uint c = 0; c < COLUMNS / 4; c++) { sums[i][c] = a * weights[c] + sums[i][c]; }
            }
        }
    }

    // The epilogue's text is long: it stands once, and a work-item's sums come to it by selection, since an index known only at run
    // time would take them out of their registers. (Sixteen times, and the driver's compiler takes half a minute.)
    const epilogue_t e = MAKE_EPILOGUE;
ROLLED_LOOP
    for (uint at = 0; at < ROWS * (COLUMNS / 4); at++) {
        float4 sum = sums[0][0];
UNROLL_LOOP
        for (uint i = 0; i < ROWS; i++) {
UNROLL_LOOP
            for (uint c = 0; c < COLUMNS / 4; c++) {
                if (i * (COLUMNS / 4) + c == at) { sum = sums[i][c]; }
            }
        }
        const uint row = first_row + item_row + at / (COLUMNS / 4);
        const uint column = panel * PANEL + at % (COLUMNS / 4) * (PANEL / COLUMNS * 4) + item_column;
        if (row < rows) { finish(&e, sum, row, OUT_ROW(row), column, column); }
    }
}

#endif
