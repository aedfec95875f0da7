// linear: weights into panels at load; products with what stands before and after them.
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// MARK: Load

const int ccpu_element_bytes[] = {4, 2, 2, 8};

typedef struct {
    ccpu_context *context;
    ccpu_linear *linear;
    const ccpu_part *parts;
    int part_count;
    /// Set by a panel that has weights which are no halves.
    _Atomic bool *is_wide;
    /// Where not none: a convolution's weight, whose element [input channel][position] goes to [position][input channel].
    long channels, positions;
} packing;

/// Weights that wait where they are stored.
struct ccpu_stored {
    packing packing;
    bool is_used;
    ccpu_part parts[];
};

/// The stored row of a packed column: gated panels hold a half panel of the first rows, then of the second.
static long stored_row(const ccpu_kernels *kernels, const ccpu_linear *linear, long column) {
    if (!linear->epilogue.gated) return column < linear->stored ? column : -1;
    long outputs = linear->stored / 2;
    long panel = column / kernels->panel, first = panel * kernels->panel;
    long width = ccpu_min(kernels->panel, linear->packed - first);
    long within = column - first, half = width / 2;
    long output = first / 2 + within % half;
    if (output >= outputs) return -1;
    return within < half ? output : outputs + output;
}

/// The address of a stored row, and the distance of its elements.
static const void *stored_address(const packing *p, long row, ccpu_element_type *type, long *step) {
    for (int i = 0; i < p->part_count; i++) {
        const ccpu_part *part = &p->parts[i];
        if (row >= part->rows) {
            row -= part->rows;
            continue;
        }
        *type = part->type;
        *step = part->transposed ? part->rows : 1;
        return (const char *)part->bytes + ccpu_element_bytes[part->type] * (part->transposed ? row : row * part->columns);
    }
    return NULL;
}

/// A stored row as floats; zeros where there is none.
static void read_row(const packing *p, long row, long count, float *target) {
    ccpu_element_type type;
    long step;
    const void *source = row < 0 ? NULL : stored_address(p, row, &type, &step);
    if (!source)
        memset(target, 0, (size_t)count * sizeof(float));
    else if (step == 1)
        p->context->kernels->convert(source, type, count, target);
    else
        for (long k = 0; k < count; k++)
            p->context->kernels->convert(
                (const char *)source + ccpu_element_bytes[type] * k * step, type, 1, target + k);
}

/// Task: one panel of each position of Winograd's weights, G g Gᵀ, in doubles until it is stored.
static void pack_winograd_panel(void *argument, long index, int worker) {
    const packing *p = argument;
    const ccpu_linear *linear = p->linear;
    long inputs = linear->inputs, first = index * p->context->kernels->panel;
    long width = ccpu_min(p->context->kernels->panel, linear->packed - first);
    float *panel = linear->weights + first * inputs;
    float *row = ccpu_scratch_get(p->context, worker, CCPU_SCRATCH_TILE, (size_t)(inputs * p->positions));
    if (!row) return;
    for (long c = 0; c < width; c++) {
        read_row(p, stored_row(p->context->kernels, linear, first + c), inputs * p->positions, row);
        for (long k = 0; k < inputs; k++) {
            const float *g = row + k * p->positions;
            double rows[4][3];
            for (int x = 0; x < 3; x++) {
                double above = g[x], middle = g[3 + x], below = g[6 + x];
                rows[0][x] = above;
                rows[1][x] = (above + middle + below) / 2;
                rows[2][x] = (above - middle + below) / 2;
                rows[3][x] = below;
            }
            for (int y = 0; y < 4; y++) {
                double left = rows[y][0], middle = rows[y][1], right = rows[y][2];
                double square[4] = {left, (left + middle + right) / 2, (left - middle + right) / 2, right};
                for (int x = 0; x < 4; x++)
                    panel[(4 * y + x) * linear->packed * inputs + k * width + c] = (float)square[x];
            }
        }
    }
}

/// One panel; what no stored row fills is left as it is.
static void pack_into(const packing *p, long index, int worker, float *panel) {
    const ccpu_kernels *kernels = p->context->kernels;
    long inputs = p->linear->inputs, first = index * kernels->panel;
    long width = ccpu_min(kernels->panel, p->linear->packed - first);
    if (p->linear->row_major) {
        for (long c = 0; c < width; c++) {
            // A panel of one column is the row itself.
            read_row(p, stored_row(kernels, p->linear, first + c), inputs, panel + c * inputs);
        }
    } else {
        // Columns of one panel may come from parts of different types: pack run by run of whole vectors where they agree.
        const void *sources[64];
        ccpu_element_type types[64];
        long steps[64];
        for (long c = 0; c < width; c++) {
            long row = stored_row(kernels, p->linear, first + c);
            sources[c] = row < 0 ? NULL : stored_address(p, row, &types[c], &steps[c]);
        }
        for (long c = 0; c < width; c += kernels->vector) {
            long live = 0;
            while (live < kernels->vector && sources[c + live]) live++;
            bool alike = true;
            for (long i = 1; i < live; i++) alike = alike && types[c + i] == types[c] && steps[c + i] == steps[c];
            if (live > 0 && alike)
                kernels->pack(sources + c, types[c], steps[c], live, inputs, width, panel + c);
            else
                for (long i = 0; i < live; i++)
                    for (long k = 0; k < inputs; k++) {
                        kernels->convert(
                            (const char *)sources[c + i] + ccpu_element_bytes[types[c + i]] * k * steps[c + i],
                            types[c + i], 1, panel + k * width + c + i);
                    }
        }
    }
    if (p->positions > 1) {
        // From [channel][position] to [position][channel], a vector of columns at a time: the scratch is small, and stays.
        bool is_panel = !p->linear->row_major;
        long unit = is_panel ? kernels->vector : 1, step = is_panel ? width : 1;
        size_t bytes = (size_t)unit * sizeof(float);
        float *copy = ccpu_scratch_get(p->context, worker, CCPU_SCRATCH_TILE, (size_t)(inputs * unit));
        if (!copy) return;
        for (long first = 0; first < width; first += unit) {
            float *values = panel + (is_panel ? first : first * inputs);
            for (long k = 0; k < inputs; k++) memcpy(copy + k * unit, values + k * step, bytes);
            for (long c = 0; c < p->channels; c++)
                for (long s = 0; s < p->positions; s++)
                    memcpy(values + (s * p->channels + c) * step, copy + (c * p->positions + s) * unit, bytes);
        }
    }
}

/// Task: one panel in its place.
static void pack_panel(void *argument, long index, int worker) {
    const packing *p = argument;
    pack_into(p, index, worker, p->linear->weights + index * p->context->kernels->panel * p->linear->inputs);
}

/// One panel as floats, in the thread's scratch, with zeros where no stored row is; none where memory is out.
static float *pack_aside(const packing *p, long index, int worker) {
    const ccpu_linear *linear = p->linear;
    long panel = p->context->kernels->panel, first = index * panel, width = ccpu_min(panel, linear->packed - first);
    float *own = ccpu_scratch_get(p->context, worker, CCPU_SCRATCH_KEYS, (size_t)(linear->inputs * width));
    if (!own) return NULL;
    if (linear->epilogue.gated || first + width > linear->stored)
        memset(own, 0, (size_t)(linear->inputs * width) * sizeof(float));
    pack_into(p, index, worker, own);
    return own;
}

/// Task: one panel of halves in its place.
static void pack_halves(void *argument, long index, int worker) {
    const packing *p = argument;
    const ccpu_linear *linear = p->linear;
    long panel = p->context->kernels->panel, first = index * panel, width = ccpu_min(panel, linear->packed - first);
    const float *own = *p->is_wide ? NULL : pack_aside(p, index, worker);
    if (own && !p->context->kernels->narrow(own, linear->inputs * width, linear->halves + first * linear->inputs))
        *p->is_wide = true;
}

static void free_panels(ccpu_linear *linear) {
    ccpu_pages_free(linear->weights, linear->bytes);
    ccpu_pages_free(linear->halves, linear->bytes / 2);
    linear->weights = NULL;
    linear->halves = NULL;
}

/// Makes the panels: of halves where the weights allow it. False where memory is out; there are none then.
static bool pack_all(packing p) {
    ccpu_linear *linear = p.linear;
    long panel = p.context->kernels->panel, panels = (linear->packed + panel - 1) / panel;
    _Atomic bool is_wide = false;
    p.is_wide = &is_wide;
    if (linear->narrows && (linear->halves = ccpu_pages_allocate(linear->bytes / 2))) {
        ccpu_parallel(p.context->pool, panels, pack_halves, &p);
        if (is_wide) free_panels(linear);
    }
    if (!linear->halves) {
        linear->weights = ccpu_pages_allocate(linear->bytes);
        if (linear->weights)
            ccpu_parallel(p.context->pool, panels, linear->winograd ? pack_winograd_panel : pack_panel, &p);
        else
            p.context->memory_failed = true;
    }
    if (p.context->memory_failed) free_panels(linear);
    return !p.context->memory_failed;
}

/// The norm before a linear, and the greatest weight of each input times its gain.
typedef struct {
    ccpu_context *context;
    ccpu_linear *linear;
    const ccpu_norm *norm;
    const float *factors;
    float *bias;
} quantization;

/// Task: one panel, folded, into 8 bits.
static void quantize_panel(void *argument, long index, int worker) {
    (void)worker;
    const quantization *q = argument;
    const ccpu_linear *linear = q->linear;
    long inputs = linear->inputs, first = index * q->context->kernels->panel;
    long width = ccpu_min(q->context->kernels->panel, linear->packed - first);
    float *panel = linear->weights + first * inputs;
    if (q->norm && q->norm->bias) {
        // In doubles, where a product of floats is exact: the same bits with and without fused multiply-adds.
        double sums[64] = {0};
        for (long k = 0; k < inputs; k++)
            for (long c = 0; c < width; c++) sums[c] += (double)panel[k * width + c] * (double)q->norm->bias[k];
        for (long c = 0; c < width; c++) q->bias[first + c] = (float)((double)q->bias[first + c] + sums[c]);
    }
    if (q->factors)
        for (long k = 0; k < inputs; k++)
            for (long c = 0; c < width; c++) panel[k * width + c] *= q->factors[k];
    q->context->int8->pack(
        panel, inputs, width, linear->quantized + first * linear->groups * q->context->int8->group,
        linear->steps + first, linear->sums + first);
}

/// Quantises packed weights, and lets go of them. With the norm's gain and bias in the weights, what is left of the norm
/// has no outliers but its input's own; the new gain, the root of the greatest weight of each input, gives row and
/// weights an equal share of the range that an input needs (SmoothQuant, arXiv 2211.10438, for rows of deviation 1).
static bool quantize(ccpu_context *context, ccpu_linear *linear, ccpu_norm *norm) {
    long inputs = linear->inputs, panels = (linear->packed + context->kernels->panel - 1) / context->kernels->panel;
    linear->groups = (inputs + context->int8->group - 1) / context->int8->group;
    linear->quantized_bytes = (size_t)(linear->packed * linear->groups * context->int8->group);
    linear->quantized = ccpu_pages_allocate(linear->quantized_bytes);
    size_t columns = (size_t)ccpu_round_up(linear->packed, CCPU_ALIGNMENT);
    linear->steps = aligned_alloc(64, columns * sizeof(float));
    linear->sums = aligned_alloc(64, columns * sizeof(int32_t));
    float *bias = (float *)linear->epilogue.bias, *factors = NULL;
    bool complete = linear->quantized && linear->steps && linear->sums;
    if (complete && norm) {
        if (norm->bias && !bias) {
            bias = aligned_alloc(64, columns * sizeof(float));
            if (bias) memset(bias, 0, columns * sizeof(float));
            linear->epilogue.bias = bias;
        }
        factors = calloc((size_t)inputs, sizeof(float));
        complete = factors && (bias || !norm->bias);
    }
    if (complete && norm) {
        for (long first = 0; first < linear->packed; first += context->kernels->panel) {
            long width = ccpu_min(context->kernels->panel, linear->packed - first);
            const float *panel = linear->weights + first * inputs;
            for (long k = 0; k < inputs; k++)
                for (long c = 0; c < width; c++) {
                    float size = fabsf(panel[k * width + c]);
                    factors[k] = size > factors[k] ? size : factors[k];
                }
        }
    }
    if (complete && norm)
        for (long k = 0; k < inputs; k++) {
            float share = sqrtf(factors[k] * fabsf(norm->gain[k]));
            if (!(share > 0) || isinf(share)) share = 1;
            factors[k] = norm->gain[k] / share;
            norm->gain[k] = share;
        }
    if (complete) {
        quantization q = {context, linear, norm, factors, bias};
        ccpu_parallel(context->pool, panels, quantize_panel, &q);
    }
    if (complete && norm) {
        free(norm->bias);
        norm->bias = NULL;
    }
    free(factors);
    ccpu_pages_free(linear->weights, linear->bytes);
    linear->weights = NULL;
    return complete;
}

static ccpu_linear *create(
    ccpu_context *context, const ccpu_part *parts, int part_count, const float *bias, const float *scale,
    ccpu_activation activation, bool gated, long channels, long positions, bool winograd, bool row_major, bool quantizes,
    bool narrows, bool waits, ccpu_norm *norm)
{
    const ccpu_kernels *kernels = context->kernels;
    ccpu_linear *linear = calloc(1, sizeof *linear);
    if (!linear) return NULL;
    for (int i = 0; i < part_count; i++) linear->stored += parts[i].rows;
    linear->winograd = winograd;
    linear->inputs = winograd ? channels : parts[0].columns;
    linear->outputs = gated ? linear->stored / 2 : linear->stored;
    linear->packed =
        gated ? 2 * ccpu_round_up(linear->outputs, kernels->vector) : ccpu_round_up(linear->stored, kernels->vector);
    linear->row_major = row_major;
    linear->epilogue.activation = activation;
    linear->epilogue.gated = gated;
    linear->epilogue.scale = ccpu_copy_floats(scale, linear->outputs);
    linear->bytes = (size_t)(linear->packed * linear->inputs * (winograd ? CCPU_WINOGRAD_POSITIONS : 1)) * sizeof(float);
    linear->narrows = narrows && kernels->narrow && !winograd && !row_major && !quantizes;
    packing p = {context, linear, parts, part_count, NULL, channels, positions};
    if (waits) {
        linear->stored_weights = malloc(sizeof(ccpu_stored) + (size_t)part_count * sizeof(ccpu_part));
        if (linear->stored_weights) {
            *linear->stored_weights = (ccpu_stored){p, false};
            memcpy(linear->stored_weights->parts, parts, (size_t)part_count * sizeof(ccpu_part));
            linear->stored_weights->packing.parts = linear->stored_weights->parts;
        }
    }
    if (bias) {
        float *packed = aligned_alloc(64, (size_t)ccpu_round_up(linear->packed, 16) * sizeof(float));
        for (long c = 0; packed && c < ccpu_round_up(linear->packed, 16); c++) {
            long row = c < linear->packed ? stored_row(kernels, linear, c) : -1;
            packed[c] = row < 0 ? 0 : bias[row];
        }
        linear->epilogue.bias = packed;
    }
    if ((waits && !linear->stored_weights) || (bias && !linear->epilogue.bias) || (scale && !linear->epilogue.scale)) {
        ccpu_linear_destroy(linear);
        return NULL;
    }
    if (!waits && !pack_all(p)) {
        context->memory_failed = false;
        ccpu_linear_destroy(linear);
        return NULL;
    }
    if (quantizes && !quantize(context, linear, norm)) {
        ccpu_linear_destroy(linear);
        return NULL;
    }
    return linear;
}

ccpu_linear *ccpu_linear_create(
    ccpu_context *context, const ccpu_part *parts, int part_count, const float *bias, const float *scale,
    ccpu_activation activation, bool gated, bool quantizes, bool stays, ccpu_norm *norm)
{
    bool row_major = context->uses_openblas && !quantizes;
    return create(
        context, parts, part_count, bias, scale, activation, gated, 0, 0, false, row_major, quantizes, true,
        stays && !row_major && !quantizes, norm);
}

ccpu_linear *ccpu_convolution_create(
    ccpu_context *context, ccpu_part part, long channels, long height, long width, long stride, long padding,
    const float *bias, ccpu_activation activation, bool quantizes)
{
    bool row_major = context->uses_openblas && !quantizes;
    // With few channels or outputs the transforms take what the products save.
    bool winograd = !row_major && !quantizes && height == 3 && width == 3 && stride == 1 && padding == 1 &&
                    channels >= 8 && part.rows >= 8;
    return create(
        context, &part, 1, bias, NULL, activation, false, channels, height * width, winograd, row_major, quantizes, true,
        false, NULL);
}

ccpu_linear *ccpu_panels_create(ccpu_context *context, ccpu_part part, const float *bias) {
    return create(context, &part, 1, bias, NULL, CCPU_NONE, false, 0, 0, false, false, false, false, false, NULL);
}

bool ccpu_linear_is_packed(const ccpu_linear *linear) { return !linear->stored_weights; }

/// False where memory is out, and the context remembers.
static bool pack_now(ccpu_context *context, ccpu_linear *linear) {
    if (!pack_all(linear->stored_weights->packing)) return false;
    free(linear->stored_weights);
    linear->stored_weights = NULL;
    return true;
}

size_t ccpu_linear_held_bytes(const ccpu_linear *linear) {
    if (linear->quantized) return linear->quantized_bytes;
    return linear->halves ? linear->bytes / 2 : linear->weights ? linear->bytes : 0;
}

bool ccpu_linear_pack(ccpu_context *context, ccpu_linear *linear) {
    if (!linear->stored_weights || pack_now(context, linear)) return true;
    context->memory_failed = false;
    return false;
}

void ccpu_linear_destroy(ccpu_linear *linear) {
    if (!linear) return;
    free(linear->stored_weights);
    free_panels(linear);
    ccpu_pages_free(linear->quantized, linear->quantized_bytes);
    free(linear->steps);
    free(linear->sums);
    free((void *)linear->epilogue.bias);
    free((void *)linear->epilogue.scale);
    free(linear);
}

// MARK: Products

/// OpenBLAS takes other inner loops again for products of at most so many multiply-adds: there, every call has the same number of rows.
#define OPENBLAS_SMALL 1000000
/// Packed columns of one call to OpenBLAS: fixed, so that the number of threads does not change the bytes.
#define OPENBLAS_COLUMNS 384

typedef struct {
    ccpu_context *context;
    const ccpu_linear *linear;
    const ccpu_epilogue *epilogue;
    ccpu_rows source;
    ccpu_target target;
    long rows;
    long row_tiles;
    long column_groups;
    /// Packed columns of one group.
    long group_columns;
    /// Rows per tile of the filling task.
    long fill_rows;
    long fill_pitch;
    float *filled;
} job;

static void store_tile(const job *j, long row, long rows, long first, long columns, const float *c, long ldc) {
    const ccpu_target *t = &j->target;
    while (rows > 0) {
        long group = t->group ? row / t->group : 0;
        long count = t->group ? ccpu_min(rows, (group + 1) * t->group - row) : rows;
        long place = t->group ? row + (group + 1) * t->skipped : row;
        j->context->kernels->epilogue(
            j->epilogue, count, first, columns, c, ldc, t->values + place * t->pitch, t->pitch,
            t->residual ? t->residual + place * t->residual_pitch : NULL, t->residual_pitch);
        row += count;
        rows -= count;
        c += count * ldc;
    }
}

/// Writes rows as the product reads them: as they come, or quantised.
static void fill(const job *j, int worker, long first, long count, float *into) {
    const ccpu_rows *source = &j->source;
    if (!j->linear->quantized) {
        source->fill(source, j->context, first, count, into, j->fill_pitch);
        return;
    }
    long inputs = j->linear->inputs;
    float *own = NULL;
    if (source->fill) {
        own = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_KEYS, (size_t)ccpu_round_up(inputs, CCPU_ALIGNMENT));
        if (!own) return;
    }
    for (long r = first; r < first + count; r++, into += j->fill_pitch) {
        if (own) source->fill(source, j->context, r, 1, own, inputs);
        j->context->int8->quantize(
            own ? own : source->values + r * source->pitch, inputs, (int32_t *)(void *)into, j->fill_pitch);
    }
}

static void fill_part(void *argument, long index, int worker) {
    const job *j = argument;
    long first = index * j->fill_rows;
    fill(j, worker, first, ccpu_min(j->fill_rows, j->rows - first), j->filled + first * j->fill_pitch);
}

/// Rows [first, first + count) of a against packed columns [column, end).
static void own_products(
    const job *j, int worker, const float *a, long lda, long row, long rows, long column, long end)
{
    const ccpu_kernels *kernels = j->context->kernels;
    long inputs = j->linear->inputs;
    float *c = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_TILE, (size_t)(rows * kernels->panel));
    if (!c) return;
    for (; column < end; column += kernels->panel) {
        long width = ccpu_min(kernels->panel, end - column);
        if (j->linear->quantized) {
            long size = j->linear->groups * j->context->int8->group;
            const int8_t *panel = j->linear->quantized + column * size;
            const int8_t *next = column + width < j->linear->packed ? panel + width * size : NULL;
            j->context->int8->product(
                rows, inputs, (const int32_t *)(const void *)a, lda, panel, width, j->linear->steps + column,
                j->linear->sums + column, c, width, next);
            store_tile(j, row, rows, column, width, c, width);
            continue;
        }
        if (j->linear->halves) {
            float *wide = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_KEYS, (size_t)(inputs * width));
            if (!wide) return;
            const uint16_t *panel = j->linear->halves + column * inputs;
            const uint16_t *next = column + width < j->linear->packed ? panel + width * inputs : NULL;
            kernels->product_of_halves(rows, inputs, a, lda, panel, width, c, width, next, wide);
            store_tile(j, row, rows, column, width, c, width);
            continue;
        }
        const float *panel, *next = NULL;
        if (j->linear->stored_weights) {
            panel = pack_aside(&j->linear->stored_weights->packing, column / kernels->panel, worker);
            if (!panel) return;
        } else {
            panel = j->linear->weights + column * inputs;
            if (column + width < j->linear->packed) next = panel + width * inputs;
        }
        kernels->product(rows, inputs, a, lda, panel, width, width, c, width, next);
        store_tile(j, row, rows, column, width, c, width);
    }
}

static void openblas_products(
    const job *j, int worker, const float *a, long lda, long row, long rows, long column, long end)
{
    const ccpu_kernels *kernels = j->context->kernels;
    long inputs = j->linear->inputs, padded = ccpu_round_up(rows, CCPU_OPENBLAS_ROWS), columns = end - column;
    float *c = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_TILE, (size_t)(padded * columns));
    if (!c) return;
    long step = ccpu_openblas_alike_rows();
    if (step == CCPU_OPENBLAS_ROWS && CCPU_OPENBLAS_ROWS * columns * inputs > OPENBLAS_SMALL) step = padded;
    for (long r = 0; r < padded; r += step)
        ccpu_openblas_product(
            step, columns, inputs, a + r * lda, lda, j->linear->weights + column * inputs, inputs, c + r * columns,
            columns);
    for (long first = column; first < end; first += kernels->panel)
        store_tile(j, row, rows, first, ccpu_min(kernels->panel, end - first), c + first - column, columns);
}

static void run_tile(void *argument, long index, int worker) {
    const job *j = argument;
    long tile = index / j->column_groups, group = index % j->column_groups;
    // Tiles of nearly equal height, of whole blocks of the inner loops, which lower ones waste a part of.
    bool row_major = j->linear->row_major;
    long block = row_major ? CCPU_OPENBLAS_ROWS : j->context->kernels->tile_rows, blocks = (j->rows + block - 1) / block;
    long first = ccpu_min(j->rows, blocks * tile / j->row_tiles * block);
    long rows = ccpu_min(j->rows, blocks * (tile + 1) / j->row_tiles * block) - first;
    if (rows <= 0) return;
    long column = group * j->group_columns;
    long last = ccpu_min(j->linear->packed, column + j->group_columns);
    const float *a;
    long lda = j->fill_pitch;
    if (j->filled) {
        a = j->filled + first * lda;
    } else if (j->source.fill || j->linear->quantized || row_major) {
        long padded = row_major ? ccpu_round_up(rows, CCPU_OPENBLAS_ROWS) : rows;
        float *own = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_ROWS, (size_t)(padded * lda));
        if (!own) return;
        if (j->source.fill || j->linear->quantized)
            fill(j, worker, first, rows, own);
        else
            for (long r = 0; r < rows; r++)
                memcpy(
                    own + r * lda, j->source.values + (first + r) * j->source.pitch,
                    (size_t)j->linear->inputs * sizeof(float));
        if (padded > rows) memset(own + rows * lda, 0, (size_t)((padded - rows) * lda) * sizeof(float));
        a = own;
    } else {
        a = j->source.values + first * j->source.pitch;
        lda = j->source.pitch;
    }
    if (!row_major) {
        own_products(j, worker, a, lda, first, rows, column, last);
        return;
    }
    for (; column < last; column += OPENBLAS_COLUMNS)
        openblas_products(j, worker, a, lda, first, rows, column, ccpu_min(last, column + OPENBLAS_COLUMNS));
}

void ccpu_product(
    ccpu_context *context, ccpu_linear *linear, const ccpu_epilogue *epilogue, long rows, ccpu_rows source,
    ccpu_target target)
{
    // Rows per tile at which a panel that comes from memory is used often enough to hide its coming. At most FEW rows, weights
    // that were never used are packed panel by panel on their way: many processes have one pass to make, and writing all
    // panels to memory takes longer than they do.
    // A thread that the system takes away, or that shares its core, holds up the others at the end of a product: the less,
    // the smaller the tasks are, so each thread has TASKS of them.
    enum { FULL = 96, ENOUGH = 40, FEW = 384, TASKS = 12 };
    if (rows <= 0) return;
    bool passes_by = linear->stored_weights && !linear->stored_weights->is_used && rows <= FEW;
    if (passes_by)
        linear->stored_weights->is_used = true;
    else if (linear->stored_weights && !pack_now(context, linear))
        return;
    long threads = context->threads;
    job j = {
        .context = context, .linear = linear, .epilogue = epilogue, .source = source, .target = target, .rows = rows,
        // A quantised row is its groups, step and zero.
        .fill_pitch = ccpu_round_up(linear->quantized ? linear->groups + 2 : linear->inputs, CCPU_ALIGNMENT),
    };
    long unit = linear->row_major ? OPENBLAS_COLUMNS : context->kernels->panel;
    long panels = (linear->packed + unit - 1) / unit;
    // Rows alone make tasks enough, there is nobody to share with, or OpenBLAS's groups of columns are too wide to share.
    bool by_rows = rows >= threads * TASKS * ENOUGH || panels == 1
                   || ((threads == 1 || linear->row_major) && rows >= threads * ENOUGH);
    if (by_rows && !passes_by) {
        // Every thread takes rows, fills them for itself, and goes through all columns.
        long rounds = (rows + threads * FULL - 1) / (threads * FULL);
        j.row_tiles = ccpu_min(rounds * threads, (rows + ENOUGH - 1) / ENOUGH);
        j.column_groups = 1;
        j.group_columns = linear->packed;
    } else {
        // Too few rows: columns are shared out as well; the rows are filled once, together.
        j.row_tiles = passes_by ? 1 : (rows + FULL - 1) / FULL;
        long groups = ccpu_min(panels, (TASKS * threads + j.row_tiles - 1) / j.row_tiles);
        long per_group = (panels + groups - 1) / groups;
        j.column_groups = (panels + per_group - 1) / per_group;
        j.group_columns = per_group * unit;
        if ((source.fill || linear->quantized) && !linear->row_major) {
            j.filled = ccpu_scratch_get(context, ccpu_shared(context), CCPU_SCRATCH_ROWS, (size_t)(rows * j.fill_pitch));
            if (!j.filled) return;
            j.fill_rows = ccpu_max(1, rows / (4 * threads));
            ccpu_parallel(context->pool, (rows + j.fill_rows - 1) / j.fill_rows, fill_part, &j);
        }
    }
    ccpu_parallel(context->pool, j.row_tiles * j.column_groups, run_tile, &j);
}

// MARK: linear

typedef struct {
    const ccpu_norm *norm;
    ccpu_matrix x;
} normed;

static void fill_normed(
    const ccpu_rows *rows, const ccpu_context *context, long first, long count, float *into, long pitch)
{
    const normed *n = rows->argument;
    for (long r = 0; r < count; r++)
        context->kernels->norm(n->norm, n->x.values + (first + r) * n->x.pitch, into + r * pitch);
}

void ccpu_linear_apply(
    ccpu_context *context, ccpu_linear *linear, const ccpu_norm *norm, ccpu_matrix x, ccpu_matrix y, bool adds)
{
    normed n = {norm, x};
    ccpu_rows source = {.values = x.values, .pitch = x.pitch, .fill = norm ? fill_normed : NULL, .argument = &n};
    ccpu_target target = {
        .values = y.values, .pitch = y.pitch, .residual = adds ? y.values : NULL, .residual_pitch = y.pitch};
    ccpu_product(context, linear, &linear->epilogue, x.rows, source, target);
}
