// norm: layer and RMS norms by themselves.
#include "internal.h"

#include <stdlib.h>

ccpu_norm *ccpu_norm_create(long columns, const float *gain, const float *bias, float epsilon, bool rms) {
    ccpu_norm *norm = calloc(1, sizeof *norm);
    if (!norm) return NULL;
    norm->columns = columns;
    norm->gain = ccpu_copy_floats(gain, columns);
    norm->bias = ccpu_copy_floats(bias, columns);
    norm->epsilon = epsilon;
    norm->rms = rms;
    if (!norm->gain || (bias && !norm->bias)) {
        ccpu_norm_destroy(norm);
        return NULL;
    }
    return norm;
}

void ccpu_norm_destroy(ccpu_norm *norm) {
    if (!norm) return;
    free(norm->gain);
    free(norm->bias);
    free(norm);
}

/// Rows that one part of a row-wise task takes.
#define ROWS 16

typedef struct {
    const ccpu_kernels *kernels;
    const ccpu_norm *norm;
    ccpu_matrix x, y;
} job;

static void run(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    long end = ccpu_min(j->x.rows, (index + 1) * ROWS);
    for (long r = index * ROWS; r < end; r++)
        j->kernels->norm(j->norm, j->x.values + r * j->x.pitch, j->y.values + r * j->y.pitch);
}

void ccpu_norm_apply(ccpu_context *context, const ccpu_norm *norm, ccpu_matrix x, ccpu_matrix y) {
    job j = {context->kernels, norm, x, y};
    ccpu_parallel(context->pool, (x.rows + ROWS - 1) / ROWS, run, &j);
}
