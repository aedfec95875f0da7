// What the files of this target share: the context, the table of kernels, scratch memory.
#pragma once

#include "CCPU.h"

/// What follows a product: y = scale · activation(a + bias) [· second half where gated], stored or added.
typedef struct {
    /// In the order of the packed columns, padded; or none.
    const float *bias;
    /// In the order of the outputs, padded; or none.
    const float *scale;
    ccpu_activation activation;
    bool gated;
    /// The activation stands after the residual is added.
    bool activates_after_residual;
} ccpu_epilogue;

/// The innermost loops, once per instruction set.
typedef struct {
    const char *name;
    /// Floats in a vector, rows of a register tile, columns of a packed panel.
    int vector, tile_rows, panel;

    /// Packs `columns` rows of the stored matrix (inputs elements each, converted to floats) as columns of a panel
    /// [inputs][width], with zeros to the next whole vector. `source[c]` is the address of the first element of column c's row; `step` is the distance in
    /// elements from input to input (1, or the stored row length where the matrix is transposed).
    void (*pack)(
        const void *const *source, ccpu_element_type type, long step, long columns, long inputs, long width, float *panel);

    /// c[r][j] = Σ_k a[r][k] b[k][j], k in order, for `columns` (a multiple of vector, at most panel) columns. c is
    /// written in whole vectors. `next` is the address of the memory read after this panel, or none: it is
    /// fetched meanwhile.
    void (*product)(
        long rows, long inputs, const float *a, long lda, const float *b, long ldb, long columns, float *c, long ldc,
        const float *next);

    /// Halves in place of n floats; false where one of them is no half. None where the processor does not convert halves;
    /// neither is the next one then.
    bool (*narrow)(const float *x, long n, uint16_t *y);
    /// The same product with a panel [inputs][columns] of halves, whose floats are left in `wide` on the way, in room for
    /// as many of them.
    void (*product_of_halves)(
        long rows, long inputs, const float *a, long lda, const uint16_t *b, long columns, float *c, long ldc,
        const uint16_t *next, float *wide);

    /// Applies the epilogue to a tile of `columns` packed columns starting at packed column `first`, into y[r] + its
    /// output column. `residual` none: stored. It may be y itself.
    void (*epilogue)(
        const ccpu_epilogue *epilogue, long rows, long first, long columns, const float *c, long ldc, float *y, long ldy,
        const float *residual, long ldr);

    /// y = norm(x) for one row.
    void (*norm)(const ccpu_norm *norm, const float *x, float *y);
    /// In place: e^(s - max) of scale · x + bias over n elements, zeros to the next whole vector; returns the sum's inverse.
    float (*exponentials)(float *x, long n, float scale, const float *bias);
    /// In place: the softmax of scale · x down each of `columns` (a multiple of vector) columns.
    void (*softmax_columns)(float *x, long rows, long columns, long pitch, float scale);
    /// y = factor · x, n elements.
    void (*scaled)(const float *x, float factor, long n, float *y);
    /// y = x + z, n elements.
    void (*sum)(const float *x, const float *z, long n, float *y);
    /// Winograd's transforms before and after the products: Kernels/winograd.h.
    void (*winograd_inputs)(const float *const *inputs, long channels, float *squares, long pitch);
    void (*winograd_results)(
        const float *products, long pitch, long columns, float *upper, float *lower, long step);
    /// x divided by its length; zeros stay.
    void (*normalize)(float *x, long n);
    /// y[i] = x[i] as float
    void (*convert)(const void *x, ccpu_element_type type, long n, float *y);
    /// `steps` rounds of independent multiply-adds; returns something that depends on them.
    float (*multiply_adds)(long steps);
    long multiply_adds_per_step;
} ccpu_kernels;

extern const ccpu_kernels ccpu_kernels_base;
#if defined(__x86_64__)
extern const ccpu_kernels ccpu_kernels_avx2;
extern const ccpu_kernels ccpu_kernels_avx512;
#endif

/// The innermost loops of int8, once per instruction set. A quantised row is `pitch` words of four bytes: its inputs in
/// groups of one word, at last its step (a float) and its zero.
typedef struct {
    /// Inputs of one group.
    int group;
    /// Quantises one row of n inputs.
    void (*quantize)(const float *x, long n, int32_t *row, long pitch);
    /// Quantises a panel [inputs][width], with the step of each column, and the sum of its integers.
    void (*pack)(const float *panel, long inputs, long width, int8_t *packed, float *steps, int32_t *sums);
    /// c = the rows of a times a packed panel of `columns`, in floats; `next` as in ccpu_kernels.product.
    void (*product)(
        long rows, long inputs, const int32_t *a, long pitch, const int8_t *b, long columns, const float *steps,
        const int32_t *sums, float *c, long ldc, const int8_t *next);
    /// As ccpu_kernels.multiply_adds, of bytes.
    float (*multiply_adds)(long steps);
    long multiply_adds_per_step;
} ccpu_int8_kernels;

extern const ccpu_int8_kernels ccpu_int8_base;
#if defined(__x86_64__)
extern const ccpu_int8_kernels ccpu_int8_avx2;
extern const ccpu_int8_kernels ccpu_int8_avx2vnni;
extern const ccpu_int8_kernels ccpu_int8_avx512;
extern const ccpu_int8_kernels ccpu_int8_avx512vnni;
#elif defined(__aarch64__)
extern const ccpu_int8_kernels ccpu_int8_neondot;
#endif

struct ccpu_norm {
    long columns;
    float *gain;
    float *bias;  // none for RMS norms and norms without one
    float epsilon;
    bool rms;
};

/// Where a linear's weights are while they are not packed.
typedef struct ccpu_stored ccpu_stored;

struct ccpu_linear {
    long inputs;
    long outputs;
    /// Rows of the stored matrix, and the columns of the product: padded so that every panel is whole vectors.
    long stored;
    long packed;
    /// Own products: panels [inputs][width], one after the other. OpenBLAS: [packed, inputs] row-major.
    float *weights;
    /// The same panels, instead of `weights`, where every weight is a half (all of a file of halves are, and often those of
    /// a file of floats that was made from one).
    uint16_t *halves;
    /// Instead of them, until they are packed.
    ccpu_stored *stored_weights;
    /// Of the weights as floats.
    size_t bytes;
    /// May be held as halves.
    bool narrows;
    bool row_major;
    /// A convolution for ccpu_winograd: its weights are the panels of 16 positions, one position after the other, and its
    /// inputs the channels alone.
    bool winograd;
    /// Quantised, instead of `weights`: panels [groups][width][group], and for each packed column its step and sum.
    int8_t *quantized;
    size_t quantized_bytes;
    long groups;
    float *steps;
    int32_t *sums;
    ccpu_epilogue epilogue;
};

// MARK: Pool

typedef struct ccpu_pool ccpu_pool;
ccpu_pool *ccpu_pool_create(int threads);
void ccpu_pool_destroy(ccpu_pool *pool);
int ccpu_pool_threads(const ccpu_pool *pool);
/// Calls task(argument, i, worker) for i in 0 ..< count, on all threads, in rising order of start; returns when all are
/// done. `worker` is below the number of threads.
void ccpu_parallel(ccpu_pool *pool, long count, void (*task)(void *argument, long i, int worker), void *argument);

// MARK: Context

/// Memory of one thread that grows and never shrinks.
typedef struct {
    float *values;
    size_t bytes;
} ccpu_scratch;

enum { CCPU_SCRATCH_TILE, CCPU_SCRATCH_ROWS, CCPU_SCRATCH_KEYS, CCPU_SCRATCH_COUNT };

struct ccpu_context {
    ccpu_pool *pool;
    const ccpu_kernels *kernels;
    const ccpu_int8_kernels *int8;
    bool uses_openblas;
    int threads;
    _Atomic bool memory_failed;
    /// [threads + 1][CCPU_SCRATCH_COUNT]: the last row is shared by all threads of one operation.
    ccpu_scratch *scratch;
};

/// At least `floats` floats, aligned to pages; none where memory is out (and the context remembers).
float *ccpu_scratch_get(ccpu_context *context, int worker, int which, size_t floats);
static inline int ccpu_shared(const ccpu_context *context) { return context->threads; }

static inline long ccpu_round_up(long n, long multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline long ccpu_min(long a, long b) { return a < b ? a : b; }
static inline long ccpu_max(long a, long b) { return a > b ? a : b; }

/// Floats, aligned to 64 bytes and padded with zeros to whole alignments; none for none.
float *ccpu_copy_floats(const float *values, long count);

/// Bytes of one element of each ccpu_element_type.
extern const int ccpu_element_bytes[];

// MARK: Products with rows from anywhere

/// A linear in panels, whatever the context's products are.
ccpu_linear *ccpu_panels_create(ccpu_context *context, ccpu_part part, const float *bias);

/// Where the rows of a product come from: a matrix as it lies, or a function that writes them.
typedef struct ccpu_rows {
    /// Rows as they lie; used where fill is none.
    const float *values;
    long pitch;
    /// Writes rows first ..< first + count, `pitch` floats apart.
    void (*fill)(const struct ccpu_rows *rows, const ccpu_context *context, long first, long count, float *into, long pitch);
    const void *argument;
} ccpu_rows;

/// Where the result's rows go. Row r lies at row r + (r / group + 1) · skipped (skipped rows stand before each group).
typedef struct {
    float *values;
    long pitch;
    const float *residual;
    long residual_pitch;
    long group;
    long skipped;
} ccpu_target;

void ccpu_product(
    ccpu_context *context, ccpu_linear *linear, const ccpu_epilogue *epilogue, long rows, ccpu_rows source,
    ccpu_target target);

enum { CCPU_WINOGRAD_POSITIONS = 16 };
/// A convolution of 3 x 3 with stride 1 and padding 1, whose weights were transformed at load.
void ccpu_winograd(
    ccpu_context *context, const ccpu_linear *linear, const ccpu_epilogue *epilogue, ccpu_matrix x, long count,
    long height, long width, ccpu_matrix residual, ccpu_matrix y);

/// OpenBLAS takes other inner loops for the last rows of a matrix; row counts that are a multiple of this give every row
/// the same bytes on its SkylakeX and Prescott kernels.
#define CCPU_OPENBLAS_ROWS 48
/// Rows that a call must have for each of them to get the same bytes, as a check at the start found: CCPU_OPENBLAS_ROWS,
/// where any multiple of it will do too, or fewer, then exactly so many.
long ccpu_openblas_alike_rows(void);
/// c[rows][packed columns first ..< first + columns] = a · weightsᵀ by OpenBLAS.
void ccpu_openblas_product(
    long rows, long columns, long inputs, const float *a, long lda, const float *b, long ldb, float *c, long ldc);
