// pooledAttention: one query per segment, without making keys and values of every row.
//
// With q the query of a head: q · (W_k x + b_k) = (W_kᵀ q) · x + q · b_k. The last term is the same for all rows and
// falls out of the softmax. The weights sum to one, so Σ p (W_v x + b_v) = W_v (Σ p x) + b_v. Both are exact.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct ccpu_pooled_attention {
    ccpu_attention_shape shape;
    long inputs, pitch;
    /// [heads · keyWidth][pitch]
    float *key;
    /// One linear for each head, [valueWidth, inputs], with its bias.
    ccpu_linear **values;
};

/// Stacked parts as floats, [rows][pitch].
static float *row_major(
    const ccpu_kernels *kernels, const ccpu_part *parts, int part_count, long rows, long columns, long pitch)
{
    float *values = aligned_alloc(64, (size_t)(ccpu_max(1, rows) * pitch) * sizeof(float));
    if (!values) return NULL;
    memset(values, 0, (size_t)(rows * pitch) * sizeof(float));
    float *target = values;
    for (int i = 0; i < part_count; i++) {
        const ccpu_part *part = &parts[i];
        long unit = ccpu_element_bytes[part->type];
        for (long r = 0; r < part->rows; r++, target += pitch) {
            if (!part->transposed) {
                kernels->convert((const char *)part->bytes + r * columns * unit, part->type, columns, target);
                continue;
            }
            for (long c = 0; c < columns; c++)
                kernels->convert((const char *)part->bytes + (c * part->rows + r) * unit, part->type, 1, target + c);
        }
    }
    return values;
}

ccpu_pooled_attention *ccpu_pooled_attention_create(
    ccpu_context *context, ccpu_attention_shape shape, const ccpu_part *key, int key_parts)
{
    ccpu_pooled_attention *pooled = calloc(1, sizeof *pooled);
    if (!pooled) return NULL;
    pooled->shape = shape;
    pooled->inputs = key[0].columns;
    pooled->pitch = ccpu_round_up(pooled->inputs, CCPU_ALIGNMENT);
    pooled->key =
        row_major(context->kernels, key, key_parts, shape.heads * shape.key_width, pooled->inputs, pooled->pitch);
    pooled->values = calloc((size_t)shape.heads, sizeof(ccpu_linear *));
    if (!pooled->key || !pooled->values) {
        ccpu_pooled_attention_destroy(pooled);
        return NULL;
    }
    return pooled;
}

bool ccpu_pooled_attention_set_values(
    ccpu_context *context, ccpu_pooled_attention *pooled, const ccpu_part *value, int value_parts, const float *bias)
{
    long width = pooled->shape.value_width, inputs = pooled->inputs, heads = pooled->shape.heads;
    ccpu_part stored = value[0];
    float *values = NULL;
    // The rows of a head stand together, unless parts are many or turned.
    if (value_parts != 1 || stored.transposed) {
        values = row_major(context->kernels, value, value_parts, heads * width, inputs, inputs);
        if (!values) return false;
        stored = (ccpu_part){values, CCPU_FLOAT32, heads * width, inputs, false};
    }
    bool complete = true;
    for (long h = 0; complete && h < heads; h++) {
        ccpu_part part = stored;
        part.bytes = (const char *)stored.bytes + h * width * inputs * ccpu_element_bytes[stored.type];
        part.rows = width;
        pooled->values[h] = ccpu_panels_create(context, part, bias ? bias + h * width : NULL);
        complete = pooled->values[h] != NULL;
    }
    free(values);
    return complete;
}

void ccpu_pooled_attention_destroy(ccpu_pooled_attention *pooled) {
    if (!pooled) return;
    for (long h = 0; pooled->values && h < pooled->shape.heads; h++) ccpu_linear_destroy(pooled->values[h]);
    free(pooled->values);
    free(pooled->key);
    free(pooled);
}

typedef struct {
    ccpu_context *context;
    const ccpu_pooled_attention *pooled;
    ccpu_matrix queries, x, y;
    const ccpu_segment *segments;
    /// [segments][heads][pitch] each: W_kᵀ q, and Σ p x.
    float *folded, *gathered;
} job;

/// Task: a panel of inputs of one head, for all segments.
static void fold(void *argument, long index, int worker) {
    (void)worker;
    const job *j = argument;
    const ccpu_pooled_attention *p = j->pooled;
    const ccpu_kernels *kernels = j->context->kernels;
    long panels = (p->pitch + kernels->panel - 1) / kernels->panel;
    long head = index / panels, column = index % panels * kernels->panel;
    kernels->product(
        j->queries.rows, p->shape.key_width, j->queries.values + head * p->shape.key_width, j->queries.pitch,
        p->key + head * p->shape.key_width * p->pitch + column, p->pitch, ccpu_min(kernels->panel, p->pitch - column),
        j->folded + head * p->pitch + column, p->shape.heads * p->pitch, NULL);
}

/// Task: one segment; all its heads.
static void gather(void *argument, long index, int worker) {
    const job *j = argument;
    const ccpu_pooled_attention *p = j->pooled;
    const ccpu_kernels *kernels = j->context->kernels;
    const ccpu_segment *s = &j->segments[index];
    const float *rows = j->x.values + s->key_first * j->x.pitch;
    long pitch = ccpu_round_up(s->key_count, CCPU_ALIGNMENT);
    float *panel = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_KEYS, (size_t)(p->inputs * kernels->panel));
    float *scores = ccpu_scratch_get(
        j->context, worker, CCPU_SCRATCH_TILE, (size_t)((s->key_count + pitch) * kernels->panel));
    if (!panel || !scores) return;
    float *weights = scores + s->key_count * kernels->panel;
    for (long head = 0; head < p->shape.heads; head += kernels->panel) {
        long live = ccpu_min(kernels->panel, p->shape.heads - head), width = ccpu_round_up(live, kernels->vector);
        const float *folded = j->folded + (index * p->shape.heads + head) * p->pitch;
        const void *sources[64];
        for (long h = 0; h < live; h++) sources[h] = folded + h * p->pitch;
        kernels->pack(sources, CCPU_FLOAT32, 1, live, p->inputs, width, panel);
        kernels->product(s->key_count, p->inputs, rows, j->x.pitch, panel, width, width, scores, width, NULL);
        kernels->softmax_columns(scores, s->key_count, width, width, p->shape.scale);
        for (long h = 0; h < live; h++)
            for (long key = 0; key < s->key_count; key++) weights[h * pitch + key] = scores[key * width + h];
        float *gathered = j->gathered + (index * p->shape.heads + head) * p->pitch;
        for (long column = 0; column < p->pitch; column += kernels->panel)
            kernels->product(
                live, s->key_count, weights, pitch, rows + column, j->x.pitch,
                ccpu_min(kernels->panel, p->pitch - column), gathered + column, p->pitch, NULL);
    }
}

/// Task: one head's values, for all segments.
static void project(void *argument, long head, int worker) {
    const job *j = argument;
    const ccpu_pooled_attention *p = j->pooled;
    const ccpu_kernels *kernels = j->context->kernels;
    const ccpu_linear *linear = p->values[head];
    long count = j->y.rows, step = p->shape.heads * p->pitch;
    float *tile = ccpu_scratch_get(j->context, worker, CCPU_SCRATCH_TILE, (size_t)(2 * count * kernels->panel));
    if (!tile) return;
    float *values = tile + count * kernels->panel;
    for (long column = 0; column < linear->packed; column += kernels->panel) {
        long width = ccpu_min(kernels->panel, linear->packed - column);
        long live = ccpu_min(width, p->shape.value_width - column);
        const float *panel = linear->weights + column * p->inputs;
        kernels->product(
            count, p->inputs, j->gathered + head * p->pitch, step, panel, width, width, tile, width, NULL);
        // Through a second tile: heads stand side by side in y, so whole vectors would run over.
        ccpu_epilogue epilogue = {.bias = linear->epilogue.bias ? linear->epilogue.bias + column : NULL};
        kernels->epilogue(&epilogue, count, 0, width, tile, width, values, width, NULL, 0);
        for (long r = 0; r < count; r++)
            memcpy(
                j->y.values + r * j->y.pitch + head * p->shape.value_width + column, values + r * width,
                (size_t)live * sizeof(float));
    }
}

void ccpu_pooled_attention_apply(
    ccpu_context *context, const ccpu_pooled_attention *pooled, ccpu_matrix queries, ccpu_matrix x,
    const ccpu_segment *segments, long segment_count, ccpu_matrix y)
{
    size_t size = (size_t)(segment_count * pooled->shape.heads * pooled->pitch);
    job j = {context, pooled, queries, x, y, segments, NULL, NULL};
    j.folded = ccpu_scratch_get(context, ccpu_shared(context), CCPU_SCRATCH_TILE, size);
    j.gathered = ccpu_scratch_get(context, ccpu_shared(context), CCPU_SCRATCH_KEYS, size);
    if (!j.folded || !j.gathered || segment_count == 0) return;
    long panels = (pooled->pitch + context->kernels->panel - 1) / context->kernels->panel;
    ccpu_parallel(context->pool, pooled->shape.heads * panels, fold, &j);
    ccpu_parallel(context->pool, segment_count, gather, &j);
    ccpu_parallel(context->pool, pooled->shape.heads, project, &j);
}
