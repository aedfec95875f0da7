// The context: pool, kernels in use, scratch memory.
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define HUGE_PAGE (2ul << 20)

void *ccpu_pages_allocate(size_t bytes) {
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return NULL;
    if (bytes >= HUGE_PAGE) madvise(pages, bytes, MADV_HUGEPAGE);
    return pages;
}

void ccpu_pages_free(void *pages, size_t bytes) {
    if (pages) munmap(pages, bytes);
}

/// Where the process may have only so much address space (ulimit -v, as clusters set it), a quarter of what is left stands in
/// the place of physical memory: the rest is for weights, files and everything else.
static size_t within_limit(size_t bytes) {
    struct rlimit limit;
    uint64_t physical = ccpu_physical_memory();
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || physical == 0) return bytes;
    uint64_t used = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        unsigned long pages = 0;
        if (fscanf(file, "%lu", &pages) == 1) used = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
        fclose(file);
    }
    double room = limit.rlim_cur > used ? (double)(limit.rlim_cur - used) / 4 : 0;
    return room < (double)physical ? (size_t)((double)bytes * room / (double)physical) : bytes;
}

void *ccpu_pages_reserve(size_t bytes, size_t *reserved) {
    bytes = within_limit(bytes) / HUGE_PAGE * HUGE_PAGE;
    for (; bytes >= HUGE_PAGE; bytes /= 2) {
        void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) continue;
        madvise(pages, bytes, MADV_HUGEPAGE);
        *reserved = bytes;
        return pages;
    }
    *reserved = 0;
    return NULL;
}

static const ccpu_kernels *kernels_of(ccpu_instruction_set set) {
    (void)set;
#if defined(__x86_64__)
    if (set >= CCPU_AVX512) return &ccpu_kernels_avx512;
    if (set >= CCPU_AVX2) return &ccpu_kernels_avx2;
#endif
    return &ccpu_kernels_base;
}

static const ccpu_int8_kernels *int8_kernels_of(ccpu_instruction_set set) {
    (void)set;
#if defined(__x86_64__)
    if (set == CCPU_AVX512_VNNI) return &ccpu_int8_avx512vnni;
    if (set == CCPU_AVX512) return &ccpu_int8_avx512;
    if (set == CCPU_AVX2_VNNI) return &ccpu_int8_avx2vnni;
    if (set == CCPU_AVX2) return &ccpu_int8_avx2;
#elif defined(__aarch64__)
    if (set == CCPU_NEON_DOT) return &ccpu_int8_neondot;
#endif
    return &ccpu_int8_base;
}

const char *ccpu_instruction_set_name(ccpu_instruction_set set) {
    if (set == CCPU_AVX2_VNNI) return "avx2vnni";
    if (set == CCPU_AVX512_VNNI) return "avx512vnni";
    if (set == CCPU_NEON_DOT) return "neondot";
    return kernels_of(set)->name;
}

ccpu_context *ccpu_create(int threads, ccpu_instruction_set set, bool uses_openblas) {
    ccpu_context *context = calloc(1, sizeof *context);
    if (!context) return NULL;
    context->threads = threads;
    context->kernels = kernels_of(set);
    context->int8 = int8_kernels_of(set);
    context->uses_openblas = uses_openblas;
    context->scratch = calloc((size_t)(threads + 1) * CCPU_SCRATCH_COUNT, sizeof(ccpu_scratch));
    context->pool = ccpu_pool_create(threads);
    if (!context->scratch || !context->pool) {
        ccpu_destroy(context);
        return NULL;
    }
    return context;
}

void ccpu_destroy(ccpu_context *context) {
    if (!context) return;
    ccpu_pool_destroy(context->pool);
    for (int i = 0; context->scratch && i < (context->threads + 1) * CCPU_SCRATCH_COUNT; i++)
        ccpu_pages_free(context->scratch[i].values, context->scratch[i].bytes);
    free(context->scratch);
    free(context);
}

bool ccpu_take_memory_failure(ccpu_context *context) {
    bool failed = context->memory_failed;
    context->memory_failed = false;
    return failed;
}

float *ccpu_scratch_get(ccpu_context *context, int worker, int which, size_t floats) {
    ccpu_scratch *scratch = &context->scratch[worker * CCPU_SCRATCH_COUNT + which];
    size_t bytes = floats * sizeof(float);
    if (scratch->bytes >= bytes) return scratch->values;
    ccpu_pages_free(scratch->values, scratch->bytes);
    // A quarter more than asked for, so that growing sizes do not map anew each time; whole huge pages where it is many.
    bytes += bytes / 4;
    bytes = (size_t)ccpu_round_up((long)bytes, bytes < HUGE_PAGE ? 64l << 10 : (long)HUGE_PAGE);
    scratch->values = ccpu_pages_allocate(bytes);
    scratch->bytes = scratch->values ? bytes : 0;
    if (!scratch->values) context->memory_failed = true;
    return scratch->values;
}

float *ccpu_copy_floats(const float *values, long count) {
    if (!values) return NULL;
    size_t bytes = (size_t)ccpu_round_up(count, 4 * CCPU_ALIGNMENT) * sizeof(float);
    float *copy = aligned_alloc(64, bytes);
    if (!copy) return NULL;
    memset(copy, 0, bytes);
    memcpy(copy, values, (size_t)count * sizeof(float));
    return copy;
}

