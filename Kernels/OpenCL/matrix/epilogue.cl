// What becomes of the finished sums of a matrix product on tensor cores: eight neighbouring columns of one row at a time.
//
// A multiply leaves columns 2t and 2t + 1 of every eight in lane t of four. The weights are packed so that these are neighbours: within
// 32 columns of the result, column 8t + 2j + e stands at 8j + 2t + e of the product. So a lane has eight columns side by side from four
// multiplies, and reads and writes 16 bytes at once.

// Knob: ACTIVATION, numbered as in prelude.cl. A choice between activations for each of a lane's sums would take compilers long.

// The rest of the epilogue, as bits of `flags`. As in linear.cl.
#define FLAG_GATED 16
#define FLAG_BIAS 32
#define FLAG_SCALE 64
#define FLAG_RESIDUAL 128
// Rows of y or of the residual do not begin at multiples of 16 bytes.
#define FLAG_UNALIGNED 1024

#define EPILOGUE_PARAMETERS \
    __global const float *bias, __global const float *scale, INPUT(residual), OUTPUT(y), uint outputs, uint flags, uint rowsIn, \
        uint rowsOut, uint rowFirst
#define OUT_ROW(row) (rowsOut ? (row) / rowsIn * rowsOut + rowFirst + (row) % rowsIn : (row))

// Gated, even columns are the first half, odd ones the second, of y = activation(first) · second, which then stands at the even ones.
#define GATE(v, count) \
    if (flags & FLAG_GATED) { \
        UNROLL_LOOP for (uint i = 0; i < (count) / 2; i++) { v[2 * i] *= v[2 * i + 1]; } \
    }

// Writes product columns `column` to `column + 7` behind activation, gate and layer scale.
static inline void store8(
    float *v, __global const element *residual, __global element *y, uint column, uint outputs, uint flags) {
    if (flags & FLAG_GATED) {
        for (uint i = 0; i < 4; i++) {
            const uint at = column / 2 + i;
            if (at < outputs) {
                if (flags & FLAG_RESIDUAL) { v[2 * i] += LOAD(residual, at); }
                STORE(v[2 * i], y, at);
            }
        }
        return;
    }
    if (column + 8 <= outputs && !(flags & FLAG_UNALIGNED)) {
        if (flags & FLAG_RESIDUAL) {
            float added[8];
            load_halves8(residual + column, added);
UNROLL_LOOP
            for (uint i = 0; i < 8; i++) { v[i] += added[i]; }
        }
        store_halves8(y + column, v);
        return;
    }
UNROLL_LOOP
    for (uint i = 0; i < 8; i++) {
        if (column + i < outputs) {
            if (flags & FLAG_RESIDUAL) { v[i] += LOAD(residual, column + i); }
            STORE(v[i], y, column + i);
        }
    }
}

// The same from sums with their bias on; `factors` are the layer scale of the columns.
static inline void finish8(
    float *v, const float *factors, __global const element *residual, __global element *y, uint column, uint outputs,
    uint flags) {
    ACTIVATE(v, 8, 2, flags & FLAG_GATED)
    GATE(v, 8)
    if (flags & FLAG_SCALE) {
UNROLL_LOOP
        for (uint i = 0; i < 8; i++) { v[i] *= factors[i]; }
    }
    store8(v, residual, y, column, outputs, flags);
}

// Bias and layer scale of eight product columns of matrix `group`. Both are padded to whole panels, or not read.
#define EPILOGUE_COLUMNS(column, group) \
    float biases[8] = {0.0f}; \
    if (flags & FLAG_BIAS) { load_constants8(bias + (group) * biasStep + (column), biases); } \
    SCALE_COLUMNS(column)
#define SCALE_COLUMNS(column) \
    float factors[8] = {0.0f}; \
    if (flags & FLAG_SCALE && flags & FLAG_GATED) { \
        for (uint i = 0; i < 4; i++) { factors[2 * i] = (column) / 2 + i < outputs ? scale[(column) / 2 + i] : 0.0f; } \
    } else if (flags & FLAG_SCALE) { \
        for (uint i = 0; i < 8; i++) { factors[i] = (column) + i < outputs ? scale[(column) + i] : 0.0f; } \
    }
