// patches, pixels, convolution: pictures unfolded into rows, tile by tile, as the product wants them.
#include "internal.h"

#include <string.h>

typedef struct {
    ccpu_pictures pictures;
    const float *levels;
    long patch, rows, columns;
} patch_source;

static void fill_patches(
    const ccpu_rows *source, const ccpu_context *context, long first, long count, float *into, long pitch)
{
    (void)context;
    const patch_source *s = source->argument;
    const ccpu_pictures *p = &s->pictures;
    for (long r = first; r < first + count; r++, into += pitch) {
        long picture = r / (s->rows * s->columns);
        long top = r / s->columns % s->rows * s->patch, left = r % s->columns * s->patch;
        if (p->floats) {
            for (long c = 0; c < 3; c++)
                for (long y = 0; y < s->patch; y++)
                    memcpy(
                        into + (c * s->patch + y) * s->patch,
                        p->floats + ((picture * 3 + c) * p->height + top + y) * p->width + left,
                        (size_t)s->patch * sizeof(float));
            continue;
        }
        long plane = s->patch * s->patch;
        for (long y = 0; y < s->patch; y++) {
            const uint8_t *from = p->bytes + ((picture * p->height + top + y) * p->width + left) * 3;
            float *to = into + y * s->patch;
            for (long x = 0; x < s->patch; x++) {
                to[x] = s->levels[from[3 * x]];
                to[x + plane] = s->levels[256 + from[3 * x + 1]];
                to[x + 2 * plane] = s->levels[512 + from[3 * x + 2]];
            }
        }
    }
}

typedef struct {
    const ccpu_context *context;
    ccpu_matrix y;
    const float *first_row, *positions;
    long positions_pitch, rows_per_picture;
} beginning;

/// Positions and first rows, to which the products are then added. Task: one picture.
static void begin(void *argument, long picture, int worker) {
    (void)worker;
    const beginning *b = argument;
    for (long r = 0; r < b->rows_per_picture; r++) {
        float *row = b->y.values + (picture * b->rows_per_picture + r) * b->y.pitch;
        size_t bytes = (size_t)b->y.columns * sizeof(float);
        if (b->positions)
            memcpy(row, b->positions + r * b->positions_pitch, bytes);
        else
            memset(row, 0, bytes);
        if (r == 0 && b->first_row) b->context->kernels->sum(b->first_row, row, b->y.columns, row);
    }
}

void ccpu_patches(
    ccpu_context *context, ccpu_linear *linear, long patch, ccpu_pictures pictures, const float *levels,
    const float *first_row, const float *positions, long positions_pitch, ccpu_matrix y)
{
    patch_source s = {pictures, levels, patch, pictures.height / patch, pictures.width / patch};
    long patches = s.rows * s.columns;
    beginning b = {context, y, first_row, positions, positions_pitch, patches + (first_row ? 1 : 0)};
    if (first_row || positions) ccpu_parallel(context->pool, pictures.count, begin, &b);
    ccpu_rows source = {.fill = fill_patches, .argument = &s};
    ccpu_target target = {
        .values = y.values, .pitch = y.pitch, .residual = positions ? y.values : NULL, .residual_pitch = y.pitch,
        .group = patches, .skipped = first_row ? 1 : 0};
    ccpu_product(context, linear, &linear->epilogue, pictures.count * patches, source, target);
}

typedef struct {
    ccpu_pictures pictures;
    const float *levels;
    ccpu_matrix y;
} pixel_job;

/// Task: one line of one picture.
static void pixel_line(void *argument, long index, int worker) {
    (void)worker;
    const pixel_job *j = argument;
    const ccpu_pictures *p = &j->pictures;
    float *row = j->y.values + index * p->width * j->y.pitch;
    for (long x = 0; x < p->width; x++, row += j->y.pitch)
        for (long c = 0; c < 3; c++) {
            if (p->floats) {
                long picture = index / p->height, line = index % p->height;
                row[c] = p->floats[((picture * 3 + c) * p->height + line) * p->width + x];
            } else {
                row[c] = j->levels[c * 256 + p->bytes[(index * p->width + x) * 3 + c]];
            }
        }
}

void ccpu_pixels(ccpu_context *context, ccpu_pictures pictures, const float *levels, ccpu_matrix y) {
    pixel_job j = {pictures, levels, y};
    ccpu_parallel(context->pool, pictures.count * pictures.height, pixel_line, &j);
}

typedef struct {
    ccpu_matrix x;
    long height, width, kernel_height, kernel_width, stride, padding, out_height, out_width;
} unfolding;

static void fill_unfolded(
    const ccpu_rows *source, const ccpu_context *context, long first, long count, float *into, long pitch)
{
    (void)context;
    const unfolding *u = source->argument;
    size_t bytes = (size_t)u->x.columns * sizeof(float);
    for (long r = first; r < first + count; r++, into += pitch) {
        long picture = r / (u->out_height * u->out_width);
        long top = r / u->out_width % u->out_height * u->stride - u->padding;
        long left = r % u->out_width * u->stride - u->padding;
        float *to = into;
        for (long ky = 0; ky < u->kernel_height; ky++)
            for (long kx = 0; kx < u->kernel_width; kx++, to += u->x.columns) {
                long y = top + ky, x = left + kx;
                if (y < 0 || y >= u->height || x < 0 || x >= u->width)
                    memset(to, 0, bytes);
                else
                    memcpy(to, u->x.values + ((picture * u->height + y) * u->width + x) * u->x.pitch, bytes);
            }
    }
}

void ccpu_convolution(
    ccpu_context *context, ccpu_linear *linear, ccpu_matrix x, long count, long height, long width,
    long kernel_height, long kernel_width, long stride, long padding, ccpu_matrix residual,
    bool activates_after_residual, ccpu_matrix y)
{
    ccpu_epilogue epilogue = linear->epilogue;
    epilogue.activates_after_residual = activates_after_residual;
    if (linear->winograd) {
        ccpu_winograd(context, linear, &epilogue, x, count, height, width, residual, y);
        return;
    }
    unfolding u = {
        x, height, width, kernel_height, kernel_width, stride, padding, (height + 2 * padding - kernel_height) / stride + 1,
        (width + 2 * padding - kernel_width) / stride + 1};
    bool direct = kernel_height == 1 && kernel_width == 1 && stride == 1 && padding == 0;
    ccpu_rows source = {
        .values = x.values, .pitch = x.pitch, .fill = direct ? NULL : fill_unfolded, .argument = &u};
    ccpu_target target = {
        .values = y.values, .pitch = y.pitch, .residual = residual.values, .residual_pitch = residual.pitch};
    ccpu_product(context, linear, &epilogue, y.rows, source, target);
}
