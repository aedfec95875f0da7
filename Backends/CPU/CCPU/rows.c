// selectRows, meanRows, normalizeRows, averagePool, tokens: operations of whole rows.
#include "internal.h"

#include <string.h>

/// Rows that one part of a task takes.
#define ROWS 16

typedef struct {
    const ccpu_context *context;
    ccpu_matrix x, y;
    const long *rows;
    const ccpu_segment *segments;
    long count, height, width, size;
    ccpu_part table;
    const float *addends;
    long addends_pitch;
    const int32_t *ids, *places;
} job;

static void for_rows(ccpu_context *context, job *j, long rows, void (*task)(void *, long, int)) {
    j->context = context;
    ccpu_parallel(context->pool, (rows + ROWS - 1) / ROWS, task, j);
}

static void select_rows(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    for (long r = index * ROWS; r < ccpu_min(j->y.rows, (index + 1) * ROWS); r++)
        memcpy(
            j->y.values + r * j->y.pitch, j->x.values + j->rows[r] * j->x.pitch, (size_t)j->x.columns * sizeof(float));
}

void ccpu_select_rows(ccpu_context *context, ccpu_matrix x, const long *rows, ccpu_matrix y) {
    for_rows(context, &(job){.x = x, .y = y, .rows = rows}, y.rows, select_rows);
}

static void mean_rows(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    const ccpu_kernels *kernels = j->context->kernels;
    for (long r = index * ROWS; r < ccpu_min(j->y.rows, (index + 1) * ROWS); r++) {
        const ccpu_segment *segment = &j->segments[r];
        float *target = j->y.values + r * j->y.pitch;
        memcpy(target, j->x.values + segment->key_first * j->x.pitch, (size_t)j->x.columns * sizeof(float));
        for (long key = 1; key < segment->key_count; key++)
            kernels->sum(target, j->x.values + (segment->key_first + key) * j->x.pitch, j->x.columns, target);
        kernels->scaled(target, 1.0f / (float)segment->key_count, j->x.columns, target);
    }
}

void ccpu_mean_rows(ccpu_context *context, ccpu_matrix x, const ccpu_segment *segments, ccpu_matrix y) {
    for_rows(context, &(job){.x = x, .y = y, .segments = segments}, y.rows, mean_rows);
}

static void normalize_rows(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    for (long r = index * ROWS; r < ccpu_min(j->x.rows, (index + 1) * ROWS); r++)
        j->context->kernels->normalize(j->x.values + r * j->x.pitch, j->x.columns);
}

void ccpu_normalize_rows(ccpu_context *context, ccpu_matrix x) {
    for_rows(context, &(job){.x = x}, x.rows, normalize_rows);
}

static void average_pool(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    const ccpu_kernels *kernels = j->context->kernels;
    long rows = j->height / j->size, columns = j->width / j->size;
    for (long r = index * ROWS; r < ccpu_min(j->y.rows, (index + 1) * ROWS); r++) {
        long picture = r / (rows * columns), top = r / columns % rows * j->size, left = r % columns * j->size;
        float *target = j->y.values + r * j->y.pitch;
        for (long y = 0; y < j->size; y++)
            for (long x = 0; x < j->size; x++) {
                const float *from =
                    j->x.values + ((picture * j->height + top + y) * j->width + left + x) * j->x.pitch;
                if (x == 0 && y == 0)
                    memcpy(target, from, (size_t)j->x.columns * sizeof(float));
                else
                    kernels->sum(target, from, j->x.columns, target);
            }
        kernels->scaled(target, 1.0f / (float)(j->size * j->size), j->x.columns, target);
    }
}

void ccpu_average_pool(
    ccpu_context *context, ccpu_matrix x, long count, long height, long width, long size, ccpu_matrix y)
{
    for_rows(
        context, &(job){.x = x, .y = y, .count = count, .height = height, .width = width, .size = size}, y.rows,
        average_pool);
}

static void tokens(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    const ccpu_kernels *kernels = j->context->kernels;
    for (long r = index * ROWS; r < ccpu_min(j->y.rows, (index + 1) * ROWS); r++) {
        float *target = j->y.values + r * j->y.pitch;
        const char *row = (const char *)j->table.bytes + (long)j->ids[r] * j->table.columns * ccpu_element_bytes[j->table.type];
        kernels->convert(row, j->table.type, j->table.columns, target);
        if (j->addends)
            kernels->sum(target, j->addends + j->places[r] * j->addends_pitch, j->table.columns, target);
    }
}

void ccpu_tokens(
    ccpu_context *context, ccpu_part table, const float *positions, long positions_pitch, const int32_t *ids,
    const int32_t *places, ccpu_matrix y)
{
    job j = {
        .y = y, .table = table, .addends = positions, .addends_pitch = positions_pitch, .ids = ids, .places = places};
    for_rows(context, &j, y.rows, tokens);
}

static void prepend_means(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    const ccpu_kernels *kernels = j->context->kernels;
    long columns = j->x.columns;
    const ccpu_segment *segment = &j->segments[index];
    // Each segment before this one has grown by a row.
    float *target = j->y.values + j->rows[index] * j->y.pitch;
    memset(target, 0, (size_t)columns * sizeof(float));
    for (long key = 0; key < segment->key_count; key++) {
        const float *row = j->x.values + (segment->key_first + key) * j->x.pitch;
        kernels->sum(target, row, columns, target);
        kernels->sum(row, j->addends + (key + 1) * j->addends_pitch, columns, target + (key + 1) * j->y.pitch);
    }
    kernels->scaled(target, 1.0f / (float)segment->key_count, columns, target);
    kernels->sum(target, j->addends, columns, target);
}

void ccpu_prepend_means(
    ccpu_context *context, ccpu_matrix x, const ccpu_segment *segments, long segment_count, const long *first_rows,
    const float *positions, long positions_pitch, ccpu_matrix y)
{
    job j = {
        .context = context, .x = x, .y = y, .segments = segments, .rows = first_rows, .addends = positions,
        .addends_pitch = positions_pitch};
    ccpu_parallel(context->pool, segment_count, prepend_means, &j);
}
