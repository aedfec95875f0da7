// What the two processes share: memory that both have at one address, and a list of the calls that go through it.
//
// The tests' process (Sources/CCPU/calls.c) writes a call's arguments at the beginning of the shared memory and the call's number
// into a socket; the emulated process (server.c) makes the call, writes its result behind the arguments and answers. Matrices
// lie in shared memory, so only pointers to them travel; other arrays are copied there first. Structures are laid out
// alike by x86-64 and aarch64.
#pragma once

#include "CCPU.h"

/// File descriptors of the emulated process: the shared memory, the socket.
#define MEMORY_FILE 100
#define CALLS_FILE 101

/// Where both processes have the shared memory: an address that neither has put anything at.
#define SHARED_ADDRESS 0x100000000000
/// Arguments, then copied arrays, then arenas.
#define CALL_BYTES 4096l
#define COPIES_BYTES (256l << 20)
#define ARENA_BYTES (128l << 20)
#define ARENAS 24
#define SHARED_BYTES (COPIES_BYTES + ARENAS * ARENA_BYTES)

/// What the emulated processor says of itself.
typedef struct {
    ccpu_instruction_set best;
    int threads;
    uint64_t memory;
    char processor[128];
    char openblas_problem[256];  // empty where OpenBLAS opened
    char openblas_description[128];
    char sets[8][32];  // the name of each instruction set
} ccpu_facts;

/// CALL(result, function, type and name of the first argument, A(type, name) for each other); PROCEDURE has no result.
#define ALL_CALLS                                                                                                      \
    CALL(int, get_facts, ccpu_facts *, facts)                                                                          \
    CALL(ccpu_context *, ccpu_create, int, threads, A(ccpu_instruction_set, set) A(bool, uses_openblas))               \
    PROCEDURE(ccpu_destroy, ccpu_context *, context)                                                                   \
    CALL(bool, ccpu_take_memory_failure, ccpu_context *, context)                                                      \
    CALL(                                                                                                              \
        ccpu_norm *, ccpu_norm_create, long, columns,                                                                  \
        A(const float *, gain) A(const float *, bias) A(float, epsilon) A(bool, rms))                                  \
    PROCEDURE(ccpu_norm_destroy, ccpu_norm *, norm)                                                                    \
    CALL(                                                                                                              \
        ccpu_linear *, ccpu_linear_create, ccpu_context *, context,                                                    \
        A(const ccpu_part *, parts) A(int, part_count) A(const float *, bias) A(const float *, scale)                  \
        A(ccpu_activation, activation) A(bool, gated) A(bool, quantizes) A(bool, stays) A(ccpu_norm *, norm))                         \
    CALL(                                                                                                              \
        ccpu_linear *, ccpu_convolution_create, ccpu_context *, context,                                               \
        A(ccpu_part, part) A(long, channels) A(long, height) A(long, width) A(long, stride) A(long, padding)           \
        A(const float *, bias) A(ccpu_activation, activation) A(bool, quantizes))                                      \
    CALL(size_t, ccpu_linear_held_bytes, const ccpu_linear *, linear)                                                  \
    PROCEDURE(ccpu_linear_destroy, ccpu_linear *, linear)                                                              \
    PROCEDURE(                                                                                                         \
        ccpu_linear_apply, ccpu_context *, context,                                                                    \
        A(ccpu_linear *, linear) A(const ccpu_norm *, norm) A(ccpu_matrix, x) A(ccpu_matrix, y) A(bool, adds))   \
    PROCEDURE(                                                                                                         \
        ccpu_norm_apply, ccpu_context *, context, A(const ccpu_norm *, norm) A(ccpu_matrix, x) A(ccpu_matrix, y))      \
    PROCEDURE(                                                                                                         \
        ccpu_attention, ccpu_context *, context,                                                                       \
        A(ccpu_attention_shape, shape) A(ccpu_matrix, x) A(const ccpu_segment *, segments) A(long, segment_count)      \
        A(bool, causal) A(const float *, bias) A(long, bias_queries) A(long, bias_keys) A(ccpu_matrix, y))             \
    CALL(                                                                                                              \
        ccpu_pooled_attention *, ccpu_pooled_attention_create, ccpu_context *, context,                                \
        A(ccpu_attention_shape, shape) A(const ccpu_part *, key) A(int, key_parts))                                    \
    CALL(                                                                                                              \
        bool, ccpu_pooled_attention_set_values, ccpu_context *, context,                                               \
        A(ccpu_pooled_attention *, pooled) A(const ccpu_part *, value) A(int, value_parts) A(const float *, bias))     \
    PROCEDURE(ccpu_pooled_attention_destroy, ccpu_pooled_attention *, pooled)                                          \
    PROCEDURE(                                                                                                         \
        ccpu_pooled_attention_apply, ccpu_context *, context,                                                          \
        A(const ccpu_pooled_attention *, pooled) A(ccpu_matrix, queries) A(ccpu_matrix, x)                             \
        A(const ccpu_segment *, segments) A(long, segment_count) A(ccpu_matrix, y))                                    \
    PROCEDURE(                                                                                                         \
        ccpu_patches, ccpu_context *, context,                                                                         \
        A(ccpu_linear *, linear) A(long, patch) A(ccpu_pictures, pictures) A(const float *, levels)              \
        A(const float *, first_row) A(const float *, positions) A(long, positions_pitch) A(ccpu_matrix, y))            \
    PROCEDURE(                                                                                                         \
        ccpu_pixels, ccpu_context *, context, A(ccpu_pictures, pictures) A(const float *, levels) A(ccpu_matrix, y))   \
    PROCEDURE(                                                                                                         \
        ccpu_tokens, ccpu_context *, context,                                                                          \
        A(ccpu_part, table) A(const float *, positions) A(long, positions_pitch) A(const int32_t *, ids)               \
        A(const int32_t *, places) A(ccpu_matrix, y))                                                                  \
    PROCEDURE(                                                                                                         \
        ccpu_convolution, ccpu_context *, context,                                                                     \
        A(ccpu_linear *, linear) A(ccpu_matrix, x) A(long, count) A(long, height) A(long, width)                 \
        A(long, kernel_height) A(long, kernel_width) A(long, stride) A(long, padding) A(ccpu_matrix, residual)         \
        A(bool, activates_after_residual) A(ccpu_matrix, y))                                                           \
    PROCEDURE(                                                                                                         \
        ccpu_average_pool, ccpu_context *, context,                                                                    \
        A(ccpu_matrix, x) A(long, count) A(long, height) A(long, width) A(long, size) A(ccpu_matrix, y))               \
    PROCEDURE(                                                                                                         \
        ccpu_select_rows, ccpu_context *, context, A(ccpu_matrix, x) A(const long *, rows) A(ccpu_matrix, y))          \
    PROCEDURE(                                                                                                         \
        ccpu_mean_rows, ccpu_context *, context,                                                                       \
        A(ccpu_matrix, x) A(const ccpu_segment *, segments) A(ccpu_matrix, y))                                         \
    PROCEDURE(ccpu_normalize_rows, ccpu_context *, context, A(ccpu_matrix, x))                                         \
    PROCEDURE(                                                                                                         \
        ccpu_prepend_means, ccpu_context *, context,                                                                   \
        A(ccpu_matrix, x) A(const ccpu_segment *, segments) A(long, segment_count) A(const long *, first_rows)         \
        A(const float *, positions) A(long, positions_pitch) A(ccpu_matrix, y))                                        \
    CALL(double, ccpu_peak_flops, ccpu_context *, context, A(bool, int8) A(double, seconds))

// A call's arguments, then its result.
#define A(type, name) type name;
#define CALL(result_type, function, type, name, ...)                                                                   \
    typedef struct {                                                                                                   \
        type name;                                                                                                     \
        __VA_ARGS__ result_type result;                                                                                \
    } function##_message;
#define PROCEDURE(function, ...) CALL(char, function, __VA_ARGS__)
ALL_CALLS
#undef A
#undef CALL
#undef PROCEDURE

#define CALL(result_type, function, ...) function##_number,
#define PROCEDURE(function, ...) function##_number,
typedef enum { ALL_CALLS } call_number;
#undef CALL
#undef PROCEDURE
