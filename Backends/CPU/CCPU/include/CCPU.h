// The CPU backend's C side: a thread pool, packed weights, and one function per operation of the contract.
//
// Matrices are row-major floats with a pitch (floats from row to row) that is a multiple of CCPU_ALIGNMENT; the columns
// between width and pitch may be overwritten with anything. All functions but the creators return nothing and cannot
// fail: sizes are checked by the caller, and memory is had when a context or a weight is made, or grown for scratch.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Rows start at multiples of this many floats.
#define CCPU_ALIGNMENT 16

// MARK: The processor

/// Which kernels run. Ordered within an architecture: a later set is faster where it is available, but a processor that has
/// one need not have all before it.
typedef enum {
    CCPU_BASE = 0,  // vectors of four floats: SSE2, NEON
    CCPU_AVX2 = 1,  // AVX2 with FMA
    CCPU_AVX2_VNNI = 2,  // the same, with dot products of bytes (AVX-VNNI): another only for int8
    CCPU_AVX512 = 3,  // AVX-512 F, BW, VL and DQ
    CCPU_AVX512_VNNI = 4,  // the same, with dot products of bytes: another only for int8
    CCPU_NEON_DOT = 5  // NEON with dot products of bytes (SDOT): another only for int8
} ccpu_instruction_set;

/// Whether the processor and the operating system allow it.
bool ccpu_has_instruction_set(ccpu_instruction_set set);
/// The best of those that they allow.
ccpu_instruction_set ccpu_best_instruction_set(void);
/// `avx512f`, `avx2`, `neon`, …
const char *ccpu_instruction_set_name(ccpu_instruction_set set);
/// The processor's name as it gives it itself; empty where unknown.
const char *ccpu_processor_name(void);
/// Threads that the scheduler and the control group allow; at least one.
int ccpu_available_threads(void);
/// Whole processors, rounded up, that the control groups under `root` allow this process, whose groups the file `groups` lists
/// (/proc/self/cgroup), and all groups around those; 0 for no limit.
int ccpu_quota(const char *root, const char *groups);
/// Bytes of memory of this machine; 0 where unknown.
uint64_t ccpu_physical_memory(void);

// MARK: OpenBLAS

/// Opens OpenBLAS once for the process, after choosing its kernels by what the processor can do, and sets it to one
/// thread. Returns none on success, else a sentence that says what is missing.
const char *ccpu_openblas_open(void);
/// Version and core type, as OpenBLAS reports them: `0.3.21 SkylakeX`; empty before it is open.
const char *ccpu_openblas_description(void);

// MARK: Memory

/// Zeroed pages, in huge pages where the system gives them; none where memory is out.
void *ccpu_pages_allocate(size_t bytes);
void ccpu_pages_free(void *pages, size_t bytes);
/// Address space of up to `bytes` whose pages come when they are first touched; says how much was had.
void *ccpu_pages_reserve(size_t bytes, size_t *reserved);

// MARK: Context

/// The pool, the kernels in use, and scratch memory. One owner at a time; weights are made in one context and may be used
/// in others of the same instruction set.
typedef struct ccpu_context ccpu_context;

/// `threads` at least 1. None where threads or memory are out.
ccpu_context *ccpu_create(int threads, ccpu_instruction_set set, bool uses_openblas);
void ccpu_destroy(ccpu_context *context);
/// True once scratch memory could not be had; the operation then left its result undefined. Reading clears it.
bool ccpu_take_memory_failure(ccpu_context *context);

// MARK: Lanes

/// A thread that runs what it is handed, in order. One owner at a time.
typedef struct ccpu_lane ccpu_lane;

/// None where threads or memory are out.
ccpu_lane *ccpu_lane_create(void);
/// Hands over run(argument); returns its number, from 1.
unsigned long ccpu_lane_add(ccpu_lane *lane, void (*run)(void *argument), void *argument);
/// Waits until the work of that number has run.
void ccpu_lane_wait(ccpu_lane *lane, unsigned long number);
/// Once all that was handed over has run.
void ccpu_lane_destroy(ccpu_lane *lane);

// MARK: Weights

typedef enum { CCPU_FLOAT32 = 0, CCPU_FLOAT16 = 1, CCPU_BFLOAT16 = 2, CCPU_FLOAT64 = 3 } ccpu_element_type;

/// A stored matrix `[rows, columns]`, or `[columns, rows]` where transposed; any alignment.
typedef struct {
    const void *bytes;
    ccpu_element_type type;
    long rows;
    long columns;
    bool transposed;
} ccpu_part;

typedef enum {
    CCPU_NONE = 0,
    CCPU_RELU = 1,
    CCPU_QUICK_GELU = 2,
    CCPU_GELU = 3,
    CCPU_GELU_TANH = 4
} ccpu_activation;

/// A norm: gain and bias of `columns`, padded to the alignment.
typedef struct ccpu_norm ccpu_norm;
ccpu_norm *ccpu_norm_create(long columns, const float *gain, const float *bias, float epsilon, bool rms);
void ccpu_norm_destroy(ccpu_norm *norm);

/// A weight in the order its product reads it, with bias, activation, gate and layer scale.
typedef struct ccpu_linear ccpu_linear;

/// `parts` are stacked by rows: `[outputs, inputs]`, or `[2 · outputs, inputs]` where gated. `bias` has as many elements
/// as the parts have rows, `scale` has `outputs`; both may be none. None where memory is out.
///
/// Where `quantizes`, weights are held in 8 bits, and `norm` (which may be none) is changed: its bias goes into the
/// linear's, its gain into the weights, and a new gain takes its place that shares out the range of each input evenly
/// between the row and the weights.
///
/// Weights that are all halves, as those of a file of halves are, are held as halves where the processor converts them.
///
/// `stays`: the parts' bytes stay where they are until ccpu_linear_is_packed; the second use packs, or one of many rows.
ccpu_linear *ccpu_linear_create(
    ccpu_context *context, const ccpu_part *parts, int part_count, const float *bias, const float *scale,
    ccpu_activation activation, bool gated, bool quantizes, bool stays, ccpu_norm *norm);
bool ccpu_linear_is_packed(const ccpu_linear *linear);
/// What its packed weights take.
size_t ccpu_linear_held_bytes(const ccpu_linear *linear);
/// Packs what is not packed yet. A packed linear may be used by several contexts at once. False where memory is out.
bool ccpu_linear_pack(ccpu_context *context, ccpu_linear *linear);
/// A convolution's weight `[outputs, inputs, height, width]`, in the order of unfolded NHWC pictures, or transformed for
/// Winograd's way where that takes fewer operations.
ccpu_linear *ccpu_convolution_create(
    ccpu_context *context, ccpu_part part, long channels, long height, long width, long stride, long padding,
    const float *bias, ccpu_activation activation, bool quantizes);
void ccpu_linear_destroy(ccpu_linear *linear);

// MARK: Operations

/// Rows of floats.
typedef struct {
    float *values;
    long rows;
    long columns;
    long pitch;
} ccpu_matrix;

/// y = linear(norm(x)), or y += linear(norm(x)) where `adds`; `norm` may be none.
void ccpu_linear_apply(
    ccpu_context *context, ccpu_linear *linear, const ccpu_norm *norm, ccpu_matrix x, ccpu_matrix y, bool adds);

/// y = norm(x); y may be x.
void ccpu_norm_apply(ccpu_context *context, const ccpu_norm *norm, ccpu_matrix x, ccpu_matrix y);

/// The rows [first, first + count) as queries or keys.
typedef struct {
    long query_first, query_count;
    long key_first, key_count;
} ccpu_segment;

typedef struct {
    long heads, key_width, value_width;
    float scale;
} ccpu_attention_shape;

/// `x` holds q, k and v of each row side by side. `bias`, where given, is [heads, bias_queries, bias_keys].
void ccpu_attention(
    ccpu_context *context, ccpu_attention_shape shape, ccpu_matrix x, const ccpu_segment *segments, long segment_count,
    bool causal, const float *bias, long bias_queries, long bias_keys, ccpu_matrix y);

/// The parts of a pooled attention that do not go through ccpu_linear.
typedef struct ccpu_pooled_attention ccpu_pooled_attention;

/// `key` is [heads · keyWidth, inputs].
ccpu_pooled_attention *ccpu_pooled_attention_create(
    ccpu_context *context, ccpu_attention_shape shape, const ccpu_part *key, int key_parts);
/// To be called once before it is applied; `value` is [heads · valueWidth, inputs]. False where memory is short.
bool ccpu_pooled_attention_set_values(
    ccpu_context *context, ccpu_pooled_attention *pooled, const ccpu_part *value, int value_parts, const float *bias);
void ccpu_pooled_attention_destroy(ccpu_pooled_attention *pooled);
/// For each segment i, attention of the query row `queries[i]` (projected, with bias) over the segment's rows of x:
/// y[i] = heads' values side by side.
void ccpu_pooled_attention_apply(
    ccpu_context *context, const ccpu_pooled_attention *pooled, ccpu_matrix queries, ccpu_matrix x,
    const ccpu_segment *segments, long segment_count, ccpu_matrix y);

/// Pictures in host memory: bytes [count, height, width, 3], or floats [count, 3, height, width]; one of both is none.
typedef struct {
    const uint8_t *bytes;
    const float *floats;
    long count, height, width;
} ccpu_pictures;

/// Patches times weights into the rows of y. `first_row` is the vector of the row before each picture's patches (class
/// token) or none; `positions` are added to every row of a picture, or none. `levels` are the 3 x 256 values of a byte.
void ccpu_patches(
    ccpu_context *context, ccpu_linear *linear, long patch, ccpu_pictures pictures, const float *levels,
    const float *first_row, const float *positions, long positions_pitch, ccpu_matrix y);
void ccpu_pixels(ccpu_context *context, ccpu_pictures pictures, const float *levels, ccpu_matrix y);

/// y[r] = table[ids[r]] + positions[places[r]]; the table lies as it was stored, [vocabulary, columns].
void ccpu_tokens(
    ccpu_context *context, ccpu_part table, const float *positions, long positions_pitch, const int32_t *ids,
    const int32_t *places, ccpu_matrix y);

/// y = convolution of the NHWC rows of x; `residual`, where its values are not none, is added before or after the
/// activation.
void ccpu_convolution(
    ccpu_context *context, ccpu_linear *linear, ccpu_matrix x, long count, long height, long width,
    long kernel_height, long kernel_width, long stride, long padding, ccpu_matrix residual,
    bool activates_after_residual, ccpu_matrix y);
void ccpu_average_pool(
    ccpu_context *context, ccpu_matrix x, long count, long height, long width, long size, ccpu_matrix y);

/// y[i] = x[rows[i]]
void ccpu_select_rows(ccpu_context *context, ccpu_matrix x, const long *rows, ccpu_matrix y);
/// y[i] = the mean of the segment's key rows of x.
void ccpu_mean_rows(ccpu_context *context, ccpu_matrix x, const ccpu_segment *segments, ccpu_matrix y);
void ccpu_normalize_rows(ccpu_context *context, ccpu_matrix x);
/// The mean of each segment's key rows before them, and positions added: rows first_rows[i] … of y.
void ccpu_prepend_means(
    ccpu_context *context, ccpu_matrix x, const ccpu_segment *segments, long segment_count, const long *first_rows,
    const float *positions, long positions_pitch, ccpu_matrix y);

// MARK: Measuring

/// Runs fused multiply-adds out of registers on every thread for about `seconds`, of floats or of bytes; returns
/// operations per second, the ceiling of any product here.
double ccpu_peak_flops(ccpu_context *context, bool int8, double seconds);
