// attention: for each head of each segment, queries in blocks; scores and weights stay in the thread's cache.
#include "internal.h"

#include <string.h>

/// Most queries of one block: their scores for some hundreds of keys fit L2 beside the packed keys.
#define QUERIES 60

typedef struct {
    ccpu_context *context;
    ccpu_attention_shape shape;
    ccpu_matrix x, y;
    const ccpu_segment *segments;
    bool causal;
    const float *bias;
    long bias_queries, bias_keys;
    /// Parts into which the query blocks of one head are shared out.
    long parts;
} job;

static void attend(
    const job *j, const ccpu_segment *s, long head, long first, long rows, const float *keys, const float *values,
    float *scores, long pitch, float *tile)
{
    const ccpu_kernels *kernels = j->context->kernels;
    const ccpu_attention_shape *shape = &j->shape;
    long query_row = s->query_first + first, seen = s->key_count;
    // Under a causal mask the block's last query sees the most.
    if (j->causal) seen = ccpu_min(seen, query_row + rows - s->key_first);
    const float *queries = j->x.values + query_row * j->x.pitch + head * shape->key_width;
    for (long key = 0; key < seen; key += kernels->panel) {
        long width = ccpu_min(kernels->panel, ccpu_round_up(s->key_count, kernels->vector) - key);
        kernels->product(
            rows, shape->key_width, queries, j->x.pitch, keys + key * shape->key_width, width, width, scores + key, pitch,
            NULL);
    }
    float inverses[QUERIES];
    for (long r = 0; r < rows; r++) {
        long visible = j->causal ? ccpu_min(seen, query_row + r + 1 - s->key_first) : seen;
        const float *bias =
            j->bias ? j->bias + (head * j->bias_queries + first + r) * j->bias_keys : NULL;
        float *row = scores + r * pitch;
        inverses[r] = kernels->exponentials(row, visible, shape->scale, bias);
        long written = ccpu_round_up(visible, kernels->vector);
        if (written < seen) memset(row + written, 0, (size_t)(seen - written) * sizeof(float));
    }
    float *results = j->y.values + query_row * j->y.pitch + head * shape->value_width;
    for (long column = 0; column < shape->value_width; column += kernels->panel) {
        long live = ccpu_min(kernels->panel, shape->value_width - column);
        // Columns beyond the head's are zeros: computed and dropped.
        long width = ccpu_round_up(live, kernels->vector);
        kernels->product(
            rows, seen, scores, pitch, values + column * s->key_count, width, width, tile, width, NULL);
        for (long r = 0; r < rows; r++)
            kernels->scaled(tile + r * width, inverses[r], live, results + r * j->y.pitch + column);
    }
}

static void run(void *argument, long index, int worker) {
    const job *j = argument;
    const ccpu_kernels *kernels = j->context->kernels;
    long part = index % j->parts, head = index / j->parts % j->shape.heads;
    const ccpu_segment *s = &j->segments[index / (j->parts * j->shape.heads)];
    long blocks = (s->query_count + QUERIES - 1) / QUERIES;
    long first_block = blocks * part / j->parts, end_block = blocks * (part + 1) / j->parts;
    if (first_block == end_block) return;
    long pitch = ccpu_round_up(s->key_count, CCPU_ALIGNMENT);
    long value_width = j->shape.value_width;
    float *keys = ccpu_scratch_get(
        j->context, worker, CCPU_SCRATCH_KEYS,
        (size_t)(pitch * (j->shape.key_width + ccpu_round_up(value_width, kernels->vector))));
    float *scores = ccpu_scratch_get(
        j->context, worker, CCPU_SCRATCH_TILE, (size_t)(QUERIES * (pitch + kernels->panel)));
    if (!keys || !scores) return;
    const float *stored =
        j->x.values + s->key_first * j->x.pitch + (j->shape.heads + head) * j->shape.key_width;
    for (long key = 0; key < s->key_count; key += kernels->panel) {
        const void *sources[64];
        long live = ccpu_min(kernels->panel, s->key_count - key);
        for (long i = 0; i < live; i++) sources[i] = stored + (key + i) * j->x.pitch;
        kernels->pack(
            sources, CCPU_FLOAT32, 1, live, j->shape.key_width, ccpu_round_up(live, kernels->vector),
            keys + key * j->shape.key_width);
    }
    // Values too, in panels: rows of x are so far apart that their lines compete for a few sets of the cache.
    float *values = keys + pitch * j->shape.key_width;
    const float *stored_values = j->x.values + s->key_first * j->x.pitch + 2 * j->shape.heads * j->shape.key_width
        + head * value_width;
    for (long column = 0; column < value_width; column += kernels->panel) {
        long live = ccpu_min(kernels->panel, value_width - column), width = ccpu_round_up(live, kernels->vector);
        float *panel = values + column * s->key_count;
        for (long key = 0; key < s->key_count; key++, panel += width) {
            memcpy(panel, stored_values + key * j->x.pitch + column, (size_t)live * sizeof(float));
            if (live < width) memset(panel + live, 0, (size_t)(width - live) * sizeof(float));
        }
    }
    // Blocks depend on the segment's length only; so do the bytes.
    for (long block = first_block; block < end_block; block++) {
        long first = s->query_count * block / blocks, end = s->query_count * (block + 1) / blocks;
        attend(j, s, head, first, end - first, keys, values, scores, pitch, scores + QUERIES * pitch);
    }
}

void ccpu_attention(
    ccpu_context *context, ccpu_attention_shape shape, ccpu_matrix x, const ccpu_segment *segments, long segment_count,
    bool causal, const float *bias, long bias_queries, long bias_keys, ccpu_matrix y)
{
    job j = {context, shape, x, y, segments, causal, bias, bias_queries, bias_keys, 1};
    long tasks = segment_count * shape.heads;
    if (tasks > 0 && tasks < 2 * context->threads) j.parts = (2 * context->threads + tasks - 1) / tasks;
    ccpu_parallel(context->pool, tasks * j.parts, run, &j);
}
