// The ceiling of any product: multiply-adds out of registers, on all threads.
#include "internal.h"

#include <time.h>

typedef struct {
    float (*multiply_adds)(long steps);
    long steps;
    _Atomic int sink;
} job;

static void run(void *argument, long index, int worker) {
    (void)worker;
    (void)index;
    job *j = argument;
    if (j->multiply_adds(j->steps) == 12345.0f) j->sink = 1;  // keeps the loop
}

static double seconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double ccpu_peak_flops(ccpu_context *context, bool int8, double seconds) {
    job j = {.multiply_adds = int8 ? context->int8->multiply_adds : context->kernels->multiply_adds, .steps = 100000};
    long per_step = int8 ? context->int8->multiply_adds_per_step : context->kernels->multiply_adds_per_step;
    double best = 0;
    double end = seconds_now() + seconds;
    do {
        double start = seconds_now();
        ccpu_parallel(context->pool, context->threads * 4, run, &j);
        double rate = 2.0 * (double)(j.steps * per_step) * (double)(context->threads * 4)
            / (seconds_now() - start);
        if (rate > best) best = rate;
    } while (seconds_now() < end);
    return best;
}
