// A lane: one thread that runs what it is handed, in order, while its owner hands over more.
#include "CCPU.h"

#include <pthread.h>
#include <stdlib.h>

/// What may wait; whoever hands over more waits.
enum { CAPACITY = 8 };

struct ccpu_lane {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t added, finished;
    struct {
        void (*run)(void *argument);
        void *argument;
    } work[CAPACITY];
    /// Counted from the beginning.
    unsigned long added_count, finished_count;
    bool ends;
};

static void *live(void *given) {
    ccpu_lane *lane = given;
    pthread_mutex_lock(&lane->mutex);
    for (;;) {
        while (lane->finished_count == lane->added_count && !lane->ends)
            pthread_cond_wait(&lane->added, &lane->mutex);
        if (lane->finished_count == lane->added_count) break;
        long slot = (long)(lane->finished_count % CAPACITY);
        pthread_mutex_unlock(&lane->mutex);
        lane->work[slot].run(lane->work[slot].argument);
        pthread_mutex_lock(&lane->mutex);
        lane->finished_count++;
        pthread_cond_signal(&lane->finished);
    }
    pthread_mutex_unlock(&lane->mutex);
    return NULL;
}

ccpu_lane *ccpu_lane_create(void) {
    ccpu_lane *lane = calloc(1, sizeof *lane);
    if (!lane) return NULL;
    pthread_mutex_init(&lane->mutex, NULL);
    pthread_cond_init(&lane->added, NULL);
    pthread_cond_init(&lane->finished, NULL);
    if (pthread_create(&lane->thread, NULL, live, lane) != 0) {
        free(lane);
        return NULL;
    }
    return lane;
}

unsigned long ccpu_lane_add(ccpu_lane *lane, void (*run)(void *argument), void *argument) {
    pthread_mutex_lock(&lane->mutex);
    while (lane->added_count - lane->finished_count == CAPACITY) pthread_cond_wait(&lane->finished, &lane->mutex);
    long slot = (long)(lane->added_count % CAPACITY);
    lane->work[slot].run = run;
    lane->work[slot].argument = argument;
    unsigned long number = ++lane->added_count;
    pthread_cond_signal(&lane->added);
    pthread_mutex_unlock(&lane->mutex);
    return number;
}

void ccpu_lane_wait(ccpu_lane *lane, unsigned long number) {
    pthread_mutex_lock(&lane->mutex);
    while (lane->finished_count < number) pthread_cond_wait(&lane->finished, &lane->mutex);
    pthread_mutex_unlock(&lane->mutex);
}

void ccpu_lane_destroy(ccpu_lane *lane) {
    if (!lane) return;
    pthread_mutex_lock(&lane->mutex);
    lane->ends = true;
    pthread_cond_signal(&lane->added);
    pthread_mutex_unlock(&lane->mutex);
    pthread_join(lane->thread, NULL);
    pthread_cond_destroy(&lane->added);
    pthread_cond_destroy(&lane->finished);
    pthread_mutex_destroy(&lane->mutex);
    free(lane);
}
