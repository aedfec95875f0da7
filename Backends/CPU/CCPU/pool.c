// The one thread pool: persistent threads that pull the parts of one task at a time.
//
// A thread that has nothing to do looks for the next task for some ten microseconds, since the operations of a pass
// follow one another that closely, and then sleeps: decoding threads need the processors as well.
#include "internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif

/// Nanoseconds that a thread looks for work, or for the end of it, before it sleeps.
#define PATIENCE 60000

struct ccpu_pool {
    int threads;
    pthread_t *handles;
    pthread_mutex_t mutex;
    pthread_cond_t started, finished;
    /// The task: written before `round` rises, read after.
    void (*task)(void *, long, int);
    void *argument;
    long count;
    _Alignas(64) _Atomic long next;
    _Alignas(64) _Atomic unsigned long round;
    /// Threads that have not yet left the current round.
    _Alignas(64) _Atomic int busy;
    _Atomic int sleeping;
    _Atomic bool owner_sleeps;
    bool stops;
};

typedef struct {
    ccpu_pool *pool;
    int worker;
} member;

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void work(ccpu_pool *pool, int worker) {
    for (;;) {
        long i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (i >= pool->count) return;
        pool->task(pool->argument, i, worker);
    }
}

static void *live(void *given) {
    member self = *(member *)given;
    free(given);
    ccpu_pool *pool = self.pool;
    unsigned long seen = 0;
    for (;;) {
        long start = 0;
        for (unsigned spins = 0; atomic_load_explicit(&pool->round, memory_order_acquire) == seen; spins++) {
            RELAX();
            if (spins % 64) continue;
            long time = now();
            if (start == 0) start = time;
            if (time - start < PATIENCE) continue;
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->sleeping, 1);
            while (atomic_load(&pool->round) == seen) pthread_cond_wait(&pool->started, &pool->mutex);
            atomic_fetch_sub(&pool->sleeping, 1);
            pthread_mutex_unlock(&pool->mutex);
        }
        seen++;
        if (pool->stops) return NULL;
        work(pool, self.worker);
        if (atomic_fetch_sub(&pool->busy, 1) == 1 && atomic_load(&pool->owner_sleeps)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

/// Lets the other threads see the task.
static void announce(ccpu_pool *pool) {
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->sleeping) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->started);
        pthread_mutex_unlock(&pool->mutex);
    }
}

void ccpu_parallel(ccpu_pool *pool, long count, void (*task)(void *, long, int), void *argument) {
    if (count <= 0) return;
    if (count == 1 || pool->threads == 1) {
        for (long i = 0; i < count; i++) task(argument, i, 0);
        return;
    }
    pool->task = task;
    pool->argument = argument;
    pool->count = count;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->busy, pool->threads - 1);
    announce(pool);
    work(pool, 0);
    long start = 0;
    for (unsigned spins = 0; atomic_load(&pool->busy) > 0; spins++) {
        RELAX();
        if (spins % 64) continue;
        long time = now();
        if (start == 0) start = time;
        if (time - start < PATIENCE) continue;
        pthread_mutex_lock(&pool->mutex);
        // Not a store: QEMU lets the load below overtake one, and the last thread would then not wake this one.
        atomic_exchange(&pool->owner_sleeps, true);
        while (atomic_load(&pool->busy) > 0) pthread_cond_wait(&pool->finished, &pool->mutex);
        atomic_store(&pool->owner_sleeps, false);
        pthread_mutex_unlock(&pool->mutex);
    }
}

int ccpu_pool_threads(const ccpu_pool *pool) { return pool->threads; }

ccpu_pool *ccpu_pool_create(int threads) {
    ccpu_pool *pool = aligned_alloc(64, (size_t)ccpu_round_up(sizeof(ccpu_pool), 64));
    if (!pool) return NULL;
    *pool = (ccpu_pool){.threads = 1};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->started, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->handles = calloc((size_t)threads, sizeof(pthread_t));
    for (int worker = 1; pool->handles && worker < threads; worker++) {
        member *self = malloc(sizeof(member));
        if (!self) break;
        *self = (member){pool, worker};
        if (pthread_create(&pool->handles[worker], NULL, live, self) != 0) {
            free(self);
            break;
        }
        pool->threads++;
    }
    if (pool->threads < threads) {
        ccpu_pool_destroy(pool);
        return NULL;
    }
    return pool;
}

void ccpu_pool_destroy(ccpu_pool *pool) {
    if (!pool) return;
    pool->stops = true;
    announce(pool);
    for (int worker = 1; worker < pool->threads; worker++) pthread_join(pool->handles[worker], NULL);
    pthread_cond_destroy(&pool->started);
    pthread_cond_destroy(&pool->finished);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->handles);
    free(pool);
}
