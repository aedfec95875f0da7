// CCPU's functions for the tests' process: each copies the arrays it is given into shared memory, sends the call to the
// emulated process (calls.h) and waits for its answer. One call at a time.
//
// CLIP_GPU_EMULATED is the command that starts the emulated process.
#define _GNU_SOURCE 1

#include "../../Server/calls.h"

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int calls = -1;
static char *copies;
static bool arena_used[ARENAS];

static void fail(const char *what) {
    fprintf(stderr, "the emulated process: %s\n", what);
    abort();
}

// MARK: Sending

/// Starts the emulated process, with the shared memory and a socket.
static void start(void) {
    const char *command = getenv("CLIP_GPU_EMULATED");
    if (!command) fail("CLIP_GPU_EMULATED is not set; tools/check-neon sets it");
    int memory = memfd_create("clip-gpu", MFD_CLOEXEC), sockets[2];
    if (memory < 0 || ftruncate(memory, SHARED_BYTES) != 0) fail("no shared memory");
    void *shared = mmap(
        (void *)SHARED_ADDRESS, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, memory, 0);
    if (shared != (void *)SHARED_ADDRESS) fail("the shared memory's address is taken");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) fail("no socket");
    // Many times what the longest call takes on a busy machine: a thread pool that hangs is a failure.
    struct timeval patience = {.tv_sec = 300};
    setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, memory, MEMORY_FILE);
    posix_spawn_file_actions_adddup2(&actions, sockets[1], CALLS_FILE);
    char line[4096];
    snprintf(line, sizeof line, "exec %s", command);
    char *const arguments[] = {"sh", "-c", line, NULL};
    pid_t process;
    if (posix_spawn(&process, "/bin/sh", &actions, NULL, arguments, environ) != 0) fail("did not start");
    posix_spawn_file_actions_destroy(&actions);
    close(sockets[1]);
    calls = sockets[0];
}

static void lock(void) {
    pthread_mutex_lock(&mutex);
    if (calls < 0) start();
    copies = (char *)SHARED_ADDRESS + CALL_BYTES;
}

static void unlock(const char *unused) {
    (void)unused;
    pthread_mutex_unlock(&mutex);
}

/// From here to the end of the function, no other call is made.
#define ALONE                                                                                                          \
    __attribute__((cleanup(unlock))) char held = 0;                                                                    \
    lock();                                                                                                            \
    (void)held

static void exchange(call_number number) {
    call_number answer;
    if (write(calls, &number, sizeof number) != sizeof number) fail("is gone");
    if (recv(calls, &answer, sizeof answer, MSG_WAITALL) != sizeof answer) fail("ended or hangs within a call");
}

/// The result of a call.
#define SEND(function, ...)                                                                                            \
    ({                                                                                                                 \
        function##_message *message = (void *)SHARED_ADDRESS;                                                          \
        *message = (function##_message){__VA_ARGS__};                                                                  \
        exchange(function##_number);                                                                                   \
        message->result;                                                                                               \
    })

/// A copy in shared memory, aligned as the original is; none for none.
static void *copied(const void *values, long bytes) {
    if (!values) return NULL;
    char *copy = copies + (((char *)values - copies) & 63);
    copies = copy + bytes;
    if (copies > (char *)SHARED_ADDRESS + COPIES_BYTES) fail("arrays too large for the shared memory");
    return memcpy(copy, values, (size_t)bytes);
}

static float *floats(const float *values, long count) { return copied(values, count * (long)sizeof(float)); }

static ccpu_part part(ccpu_part stored) {
    static const int bytes[] = {4, 2, 2, 8};
    stored.bytes = copied(stored.bytes, stored.rows * stored.columns * bytes[stored.type]);
    return stored;
}

static ccpu_part *parts(const ccpu_part *stored, int count) {
    ccpu_part *copy = copied(stored, count * (long)sizeof *stored);
    for (int i = 0; i < count; i++) copy[i] = part(stored[i]);
    return copy;
}

static long rows_of(const ccpu_part *parts, int count) {
    long rows = 0;
    for (int i = 0; i < count; i++) rows += parts[i].rows;
    return rows;
}

static ccpu_segment *segments_of(const ccpu_segment *segments, long count) {
    return copied(segments, count * (long)sizeof *segments);
}

static ccpu_pictures pictures_of(ccpu_pictures pictures) {
    long values = pictures.count * pictures.height * pictures.width * 3;
    pictures.bytes = copied(pictures.bytes, values);
    pictures.floats = floats(pictures.floats, values);
    return pictures;
}

// MARK: The processor

static const ccpu_facts *facts(void) {
    static ccpu_facts known;
    static bool asked;
    ALONE;
    if (!asked) {
        ccpu_facts *place = (ccpu_facts *)copies;
        SEND(get_facts, place);
        known = *place;
        asked = true;
    }
    return &known;
}

ccpu_instruction_set ccpu_best_instruction_set(void) { return facts()->best; }
bool ccpu_has_instruction_set(ccpu_instruction_set set) { return set == CCPU_BASE || set == facts()->best; }
const char *ccpu_instruction_set_name(ccpu_instruction_set set) { return facts()->sets[set]; }
const char *ccpu_processor_name(void) { return facts()->processor; }
int ccpu_available_threads(void) { return facts()->threads; }
uint64_t ccpu_physical_memory(void) { return facts()->memory; }
const char *ccpu_openblas_open(void) { return facts()->openblas_problem[0] ? facts()->openblas_problem : NULL; }
const char *ccpu_openblas_description(void) { return facts()->openblas_description; }

// MARK: Memory

void *ccpu_pages_reserve(size_t bytes, size_t *reserved) {
    ALONE;
    *reserved = bytes < ARENA_BYTES ? bytes : ARENA_BYTES;
    for (int i = 0; i < ARENAS; i++) {
        if (arena_used[i]) continue;
        arena_used[i] = true;
        return (char *)SHARED_ADDRESS + COPIES_BYTES + i * ARENA_BYTES;
    }
    return NULL;
}

void ccpu_pages_free(void *pages, size_t bytes) {
    ALONE;
    madvise(pages, bytes, MADV_REMOVE);
    arena_used[((char *)pages - (char *)SHARED_ADDRESS - COPIES_BYTES) / ARENA_BYTES] = false;
}

// MARK: Context

ccpu_context *ccpu_create(int threads, ccpu_instruction_set set, bool uses_openblas) {
    ALONE;
    return SEND(ccpu_create, threads, set, uses_openblas);
}

void ccpu_destroy(ccpu_context *context) {
    ALONE;
    SEND(ccpu_destroy, context);
}

bool ccpu_take_memory_failure(ccpu_context *context) {
    ALONE;
    return SEND(ccpu_take_memory_failure, context);
}

double ccpu_peak_flops(ccpu_context *context, bool int8, double seconds) {
    ALONE;
    return SEND(ccpu_peak_flops, context, int8, seconds);
}

// MARK: Weights

ccpu_norm *ccpu_norm_create(long columns, const float *gain, const float *bias, float epsilon, bool rms) {
    ALONE;
    return SEND(ccpu_norm_create, columns, floats(gain, columns), floats(bias, columns), epsilon, rms);
}

void ccpu_norm_destroy(ccpu_norm *norm) {
    ALONE;
    SEND(ccpu_norm_destroy, norm);
}

ccpu_linear *ccpu_linear_create(
    ccpu_context *context, const ccpu_part *stored, int part_count, const float *bias, const float *scale,
    ccpu_activation activation, bool gated, bool quantizes, bool stays, ccpu_norm *norm)
{
    ALONE;
    (void)stays;  // What is sent for a call does not stay.
    long rows = rows_of(stored, part_count);
    return SEND(
        ccpu_linear_create, context, parts(stored, part_count), part_count, floats(bias, rows),
        floats(scale, gated ? rows / 2 : rows), activation, gated, quantizes, false, norm);
}

bool ccpu_linear_pack(ccpu_context *context, ccpu_linear *linear) {
    (void)context, (void)linear;
    return true;
}

bool ccpu_linear_is_packed(const ccpu_linear *linear) {
    (void)linear;
    return true;
}

size_t ccpu_linear_held_bytes(const ccpu_linear *linear) {
    ALONE;
    return SEND(ccpu_linear_held_bytes, linear);
}

ccpu_linear *ccpu_convolution_create(
    ccpu_context *context, ccpu_part stored, long channels, long height, long width, long stride, long padding,
    const float *bias, ccpu_activation activation, bool quantizes)
{
    ALONE;
    return SEND(
        ccpu_convolution_create, context, part(stored), channels, height, width, stride, padding,
        floats(bias, stored.rows), activation, quantizes);
}

void ccpu_linear_destroy(ccpu_linear *linear) {
    ALONE;
    SEND(ccpu_linear_destroy, linear);
}

ccpu_pooled_attention *ccpu_pooled_attention_create(
    ccpu_context *context, ccpu_attention_shape shape, const ccpu_part *key, int key_parts)
{
    ALONE;
    return SEND(ccpu_pooled_attention_create, context, shape, parts(key, key_parts), key_parts);
}

bool ccpu_pooled_attention_set_values(
    ccpu_context *context, ccpu_pooled_attention *pooled, const ccpu_part *value, int value_parts, const float *bias)
{
    ALONE;
    return SEND(
        ccpu_pooled_attention_set_values, context, pooled, parts(value, value_parts), value_parts,
        floats(bias, rows_of(value, value_parts)));
}

void ccpu_pooled_attention_destroy(ccpu_pooled_attention *pooled) {
    ALONE;
    SEND(ccpu_pooled_attention_destroy, pooled);
}

// MARK: Operations

void ccpu_linear_apply(
    ccpu_context *context, ccpu_linear *linear, const ccpu_norm *norm, ccpu_matrix x, ccpu_matrix y, bool adds)
{
    ALONE;
    SEND(ccpu_linear_apply, context, linear, norm, x, y, adds);
}

void ccpu_norm_apply(ccpu_context *context, const ccpu_norm *norm, ccpu_matrix x, ccpu_matrix y) {
    ALONE;
    SEND(ccpu_norm_apply, context, norm, x, y);
}

void ccpu_attention(
    ccpu_context *context, ccpu_attention_shape shape, ccpu_matrix x, const ccpu_segment *segments, long segment_count,
    bool causal, const float *bias, long bias_queries, long bias_keys, ccpu_matrix y)
{
    ALONE;
    SEND(
        ccpu_attention, context, shape, x, segments_of(segments, segment_count), segment_count, causal,
        floats(bias, shape.heads * bias_queries * bias_keys), bias_queries, bias_keys, y);
}

void ccpu_pooled_attention_apply(
    ccpu_context *context, const ccpu_pooled_attention *pooled, ccpu_matrix queries, ccpu_matrix x,
    const ccpu_segment *segments, long segment_count, ccpu_matrix y)
{
    ALONE;
    SEND(
        ccpu_pooled_attention_apply, context, pooled, queries, x, segments_of(segments, segment_count), segment_count, y);
}

void ccpu_patches(
    ccpu_context *context, ccpu_linear *linear, long patch, ccpu_pictures pictures, const float *levels,
    const float *first_row, const float *positions, long positions_pitch, ccpu_matrix y)
{
    ALONE;
    long rows = (pictures.height / patch) * (pictures.width / patch) + (first_row ? 1 : 0);
    SEND(
        ccpu_patches, context, linear, patch, pictures_of(pictures), floats(levels, 3 * 256), floats(first_row, y.columns),
        floats(positions, rows * positions_pitch), positions_pitch, y);
}

void ccpu_pixels(ccpu_context *context, ccpu_pictures pictures, const float *levels, ccpu_matrix y) {
    ALONE;
    SEND(ccpu_pixels, context, pictures_of(pictures), floats(levels, 3 * 256), y);
}

void ccpu_tokens(
    ccpu_context *context, ccpu_part table, const float *positions, long positions_pitch, const int32_t *ids,
    const int32_t *places, ccpu_matrix y)
{
    ALONE;
    long last = 0;
    for (long r = 0; positions && r < y.rows; r++) last = places[r] > last ? places[r] : last;
    SEND(
        ccpu_tokens, context, part(table), floats(positions, (last + 1) * positions_pitch), positions_pitch,
        copied(ids, y.rows * (long)sizeof *ids), positions ? copied(places, y.rows * (long)sizeof *places) : NULL, y);
}

void ccpu_convolution(
    ccpu_context *context, ccpu_linear *linear, ccpu_matrix x, long count, long height, long width,
    long kernel_height, long kernel_width, long stride, long padding, ccpu_matrix residual,
    bool activates_after_residual, ccpu_matrix y)
{
    ALONE;
    SEND(
        ccpu_convolution, context, linear, x, count, height, width, kernel_height, kernel_width, stride, padding, residual,
        activates_after_residual, y);
}

void ccpu_average_pool(
    ccpu_context *context, ccpu_matrix x, long count, long height, long width, long size, ccpu_matrix y)
{
    ALONE;
    SEND(ccpu_average_pool, context, x, count, height, width, size, y);
}

void ccpu_select_rows(ccpu_context *context, ccpu_matrix x, const long *rows, ccpu_matrix y) {
    ALONE;
    SEND(ccpu_select_rows, context, x, copied(rows, y.rows * (long)sizeof *rows), y);
}

void ccpu_mean_rows(ccpu_context *context, ccpu_matrix x, const ccpu_segment *segments, ccpu_matrix y) {
    ALONE;
    SEND(ccpu_mean_rows, context, x, segments_of(segments, y.rows), y);
}

void ccpu_normalize_rows(ccpu_context *context, ccpu_matrix x) {
    ALONE;
    SEND(ccpu_normalize_rows, context, x);
}

void ccpu_prepend_means(
    ccpu_context *context, ccpu_matrix x, const ccpu_segment *segments, long segment_count, const long *first_rows,
    const float *positions, long positions_pitch, ccpu_matrix y)
{
    ALONE;
    long longest = 0;
    for (long i = 0; i < segment_count; i++)
        longest = segments[i].key_count > longest ? segments[i].key_count : longest;
    SEND(
        ccpu_prepend_means, context, x, segments_of(segments, segment_count), segment_count,
        copied(first_rows, segment_count * (long)sizeof *first_rows), floats(positions, (longest + 1) * positions_pitch),
        positions_pitch, y);
}
