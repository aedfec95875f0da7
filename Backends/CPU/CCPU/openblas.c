// OpenBLAS by name, at run time: nothing of it is linked.
#include "internal.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// The functions we use, as cblas.h declares them (CblasRowMajor 101, CblasNoTrans 111, CblasTrans 112).
static struct {
    void (*sgemm)(
        int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
        int ldb, float beta, float *c, int ldc);
    void (*set_num_threads)(int);
    const char *(*get_config)(void);
    const char *(*get_corename)(void);
} openblas;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *failure;
static char description[128];
static long alike_rows;

/// Whether `rows` equal rows of one call give equal bytes.
static bool gives_rows_alike(long rows) {
    enum { MOST_COLUMNS = 80, MOST_INPUTS = 96, MOST_ROWS = 2 * CCPU_OPENBLAS_ROWS };
    static float a[MOST_ROWS * MOST_INPUTS], b[MOST_COLUMNS * MOST_INPUTS], c[MOST_ROWS * MOST_COLUMNS];
    uint32_t state = 1;
    for (long i = 0; i < MOST_COLUMNS * MOST_INPUTS; i++) {
        state = state * 1664525 + 1013904223;
        b[i] = (float)(state >> 8) / 16777216 - 0.5f;
    }
    for (long inputs = 9; inputs <= MOST_INPUTS; inputs += MOST_INPUTS - 9) {
        for (long r = 0; r < rows; r++)
            for (long k = 0; k < inputs; k++) a[r * inputs + k] = b[(k * 7 + 3) % MOST_INPUTS];
        ccpu_openblas_product(rows, MOST_COLUMNS, inputs, a, inputs, b, inputs, c, MOST_COLUMNS);
        for (long r = 1; r < rows; r++)
            if (memcmp(c, c + r * MOST_COLUMNS, sizeof(float) * MOST_COLUMNS) != 0) return false;
    }
    return true;
}

static void open_library(void) {
    // OpenBLAS chooses its kernels when it is loaded, by tables that lag behind the processors: 0.3.21 starts recent
    // Intel ones with SSE3 kernels and AMD's Zen 4 without AVX-512. What the processor reports is the better guide.
    const char *core = NULL;
    switch (ccpu_best_instruction_set()) {
        case CCPU_AVX512:
        case CCPU_AVX512_VNNI: core = "SkylakeX"; break;
        case CCPU_AVX2:
        case CCPU_AVX2_VNNI: core = "Haswell"; break;
        case CCPU_BASE:
        case CCPU_NEON_DOT: break;
    }
    if (core) setenv("OPENBLAS_CORETYPE", core, 0);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);  // one pool, ours
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        failure = "OpenBLAS (libopenblas.so.0) is not installed; install the package libopenblas0, or leave matrix products "
                  "to the built-in kernels.";
        return;
    }
    openblas.sgemm = dlsym(library, "cblas_sgemm");
    openblas.set_num_threads = dlsym(library, "openblas_set_num_threads");
    openblas.get_config = dlsym(library, "openblas_get_config");
    openblas.get_corename = dlsym(library, "openblas_get_corename");
    if (!openblas.sgemm) {
        failure = "libopenblas.so.0 has no cblas_sgemm; install the package libopenblas0, or leave matrix products to the "
                  "built-in kernels.";
        return;
    }
    if (openblas.set_num_threads) openblas.set_num_threads(1);
    // Its Haswell and Zen kernels take rows six by six, in twos of which each rounds otherwise, but fewer than twelve four by
    // four.
    alike_rows = gives_rows_alike(2 * CCPU_OPENBLAS_ROWS) && gives_rows_alike(CCPU_OPENBLAS_ROWS) ? CCPU_OPENBLAS_ROWS
        : gives_rows_alike(8)                                                                     ? 8
                                                                                                  : 1;
    // "OpenBLAS 0.3.21 DYNAMIC_ARCH …": the second word is the version.
    const char *config = openblas.get_config ? openblas.get_config() : "";
    char version[32] = "";
    sscanf(config, "%*s %31s", version);
    snprintf(
        description, sizeof description, "%s%s%s", version, version[0] ? " " : "",
        openblas.get_corename ? openblas.get_corename() : "");
}

const char *ccpu_openblas_open(void) {
    pthread_once(&once, open_library);
    return failure;
}

const char *ccpu_openblas_description(void) { return description; }

long ccpu_openblas_alike_rows(void) { return alike_rows; }

void ccpu_openblas_product(
    long rows, long columns, long inputs, const float *a, long lda, const float *b, long ldb, float *c, long ldc)
{
    openblas.sgemm(
        101, 111, 112, (int)rows, (int)columns, (int)inputs, 1, a, (int)lda, b, (int)ldb, 0, c, (int)ldc);
}
