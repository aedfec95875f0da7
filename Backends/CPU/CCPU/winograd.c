// convolution of 3 x 3 with stride 1 by Winograd's F(2x2, 3x3): 16 products of channels for 4 results, where the plain sum
// takes 36. Kernels/winograd.h has the transforms, with their source.
//
// A square is 4 x 4 inputs, two by two results wide: squares overlap by two. Every square's numbers come from the square alone, by sums
// in a fixed order, so neither the batch nor the sharing-out changes a byte.
#include "internal.h"

#include <string.h>

enum { POSITIONS = CCPU_WINOGRAD_POSITIONS };

typedef struct {
    ccpu_context *context;
    const ccpu_linear *linear;
    const ccpu_epilogue *epilogue;
    ccpu_matrix x, y, residual;
    long height, width;
    /// Lines of squares of one picture, squares of one line; lines of all pictures.
    long lines, squares, total;
    /// Lines of one task.
    long task_lines;
    /// Floats of one square's position: its channels before the products, its columns after them.
    long channel_pitch, column_pitch;
    /// What all threads share where they take columns, not lines: [position][square][channel or column].
    float *shared_squares, *shared_products;
    long group_columns, groups;
} job;

/// Lines [first, first + count) into squares: [position][square][channel].
static bool transform_inputs(const job *j, int worker, long first, long count, long pitch, float *squares) {
    float *zeros = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_KEYS, (size_t)j->channel_pitch);
    if (!zeros) return false;
    memset(zeros, 0, (size_t)j->channel_pitch * sizeof(float));
    for (long line = first; line < first + count; line++) {
        long picture = line / j->lines, top = line % j->lines * 2 - 1;
        for (long s = 0; s < j->squares; s++, squares += j->channel_pitch) {
            const float *inputs[POSITIONS];
            for (long t = 0; t < POSITIONS; t++) {
                long y = top + t / 4, x = 2 * s - 1 + t % 4;
                bool inside = y >= 0 && y < j->height && x >= 0 && x < j->width;
                inputs[t] = inside ? j->x.values + ((picture * j->height + y) * j->width + x) * j->x.pitch : zeros;
            }
            j->context->kernels->winograd_inputs(inputs, j->linear->inputs, squares, pitch);
        }
    }
    return true;
}

/// One position's squares times its weights, packed columns [column, end).
static void multiply(
    const job *j, long position, long count, const float *squares, float *products, long column, long end)
{
    const ccpu_kernels *kernels = j->context->kernels;
    const float *weights = j->linear->weights + position * j->linear->packed * j->linear->inputs;
    for (; column < end; column += kernels->panel) {
        long width = ccpu_min(kernels->panel, end - column);
        const float *panel = weights + column * j->linear->inputs;
        // The next position's weights follow the last panel's.
        bool is_last = column + width == end && (position == POSITIONS - 1 || end < j->linear->packed);
        kernels->product(
            count, j->linear->inputs, squares, j->channel_pitch, panel, width, width, products + column,
            j->column_pitch, is_last ? NULL : panel + width * j->linear->inputs);
    }
}

/// The results of lines [first, first + count) from their products: [position][square][column].
static void transform_results(const job *j, int worker, long first, long count, long pitch, const float *products) {
    const ccpu_kernels *kernels = j->context->kernels;
    long row = 2 * j->squares * j->column_pitch;
    float *results = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_KEYS, (size_t)(2 * row));
    if (!results) return;
    for (long line = first; line < first + count; line++) {
        for (long s = 0; s < j->squares; s++, products += j->column_pitch) {
            float *upper = results + 2 * s * j->column_pitch;
            kernels->winograd_results(products, pitch, j->linear->packed, upper, upper + row, j->column_pitch);
        }
        long picture = line / j->lines, top = line % j->lines * 2;
        for (long y = top; y < ccpu_min(top + 2, j->height); y++) {
            long place = (picture * j->height + y) * j->width;
            kernels->epilogue(
                j->epilogue, j->width, 0, j->linear->packed, results + (y - top) * row, j->column_pitch,
                j->y.values + place * j->y.pitch, j->y.pitch,
                j->residual.values ? j->residual.values + place * j->residual.pitch : NULL, j->residual.pitch);
        }
    }
}

/// Task: some lines, from inputs to results.
static void run_lines(void *argument, long index, int worker) {
    const job *j = argument;
    long first = index * j->task_lines, lines = ccpu_min(j->task_lines, j->total - first), count = lines * j->squares;
    float *squares = ccpu_scratch_get(
        j->context, worker, CCPU_SCRATCH_ROWS, (size_t)(POSITIONS * j->task_lines * j->squares * j->channel_pitch));
    float *products = ccpu_scratch_get(
        j->context, worker, CCPU_SCRATCH_TILE, (size_t)(POSITIONS * j->task_lines * j->squares * j->column_pitch));
    if (!squares || !products || !transform_inputs(j, worker, first, lines, count * j->channel_pitch, squares)) return;
    for (long t = 0; t < POSITIONS; t++)
        multiply(
            j, t, count, squares + t * count * j->channel_pitch, products + t * count * j->column_pitch, 0,
            j->linear->packed);
    transform_results(j, worker, first, lines, count * j->column_pitch, products);
}

// The same in three steps, where there are too few squares for every thread to go through all weights by itself.

static void transform_line_inputs(void *argument, long index, int worker) {
    const job *j = argument;
    transform_inputs(
        j, worker, index, 1, j->total * j->squares * j->channel_pitch,
        j->shared_squares + index * j->squares * j->channel_pitch);
}

static void multiply_columns(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    long position = index / j->groups, column = index % j->groups * j->group_columns, count = j->total * j->squares;
    multiply(
        j, position, count, j->shared_squares + position * count * j->channel_pitch,
        j->shared_products + position * count * j->column_pitch, column,
        ccpu_min(j->linear->packed, column + j->group_columns));
}

static void transform_line_results(void *argument, long index, int worker) {
    const job *j = argument;
    transform_results(
        j, worker, index, 1, j->total * j->squares * j->column_pitch,
        j->shared_products + index * j->squares * j->column_pitch);
}

void ccpu_winograd(
    ccpu_context *context, const ccpu_linear *linear, const ccpu_epilogue *epilogue, ccpu_matrix x, long count,
    long height, long width, ccpu_matrix residual, ccpu_matrix y)
{
    // Squares per task at which weights that come from memory are used often enough to hide their coming.
    enum { FULL = 96, ENOUGH = 40 };
    job j = {
        .context = context, .linear = linear, .epilogue = epilogue, .x = x, .y = y, .residual = residual,
        .height = height, .width = width, .lines = (height + 1) / 2, .squares = (width + 1) / 2,
        .channel_pitch = ccpu_round_up(linear->inputs, CCPU_ALIGNMENT),
        .column_pitch = ccpu_round_up(linear->packed, CCPU_ALIGNMENT),
    };
    j.total = count * j.lines;
    long squares = j.total * j.squares, threads = context->threads;
    if (squares >= threads * ENOUGH && j.total >= threads) {
        long rounds = (squares + threads * FULL - 1) / (threads * FULL);
        long tasks = ccpu_min(rounds * threads, j.total);
        j.task_lines = (j.total + tasks - 1) / tasks;
        ccpu_parallel(context->pool, (j.total + j.task_lines - 1) / j.task_lines, run_lines, &j);
        return;
    }
    j.shared_squares = ccpu_scratch_get(
        context, ccpu_shared(context), CCPU_SCRATCH_ROWS, (size_t)(POSITIONS * squares * j.channel_pitch));
    j.shared_products = ccpu_scratch_get(
        context, ccpu_shared(context), CCPU_SCRATCH_TILE, (size_t)(POSITIONS * squares * j.column_pitch));
    if (!j.shared_squares || !j.shared_products) return;
    ccpu_parallel(context->pool, j.total, transform_line_inputs, &j);
    // Positions are shares enough, unless there are many threads.
    long panel = context->kernels->panel, panels = (linear->packed + panel - 1) / panel;
    j.groups = ccpu_min(panels, (3 * threads + POSITIONS - 1) / POSITIONS);
    j.group_columns = (panels + j.groups - 1) / j.groups * panel;
    j.groups = (linear->packed + j.group_columns - 1) / j.group_columns;
    ccpu_parallel(context->pool, POSITIONS * j.groups, multiply_columns, &j);
    ccpu_parallel(context->pool, j.total, transform_line_results, &j);
}
