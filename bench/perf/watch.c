/* SPDX-License-Identifier: Apache-2.0 */
/* One thread on a condition variable; a kick moves its deadline. */
#include "config.h"
#include "bench/perf/watch.h"
#include "bench/perf/options.h"
#include "lib/base/clock.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SLACK_S = 4 }; /* Medley's deadline has the same length and a better message */

struct perf_watch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
    uint64_t last_ns;
    int seconds, proc, kick_fd;
    char what[128];
};

static struct timespec deadline_of(const struct perf_watch *w)
{
    uint64_t ns = w->last_ns + (uint64_t)(w->seconds + SLACK_S) * MDL_NS_PER_S;
    return (struct timespec){.tv_sec = (time_t)(ns / MDL_NS_PER_S), .tv_nsec = (long)(ns % MDL_NS_PER_S)};
}

static void *watch_main(void *arg)
{
    struct perf_watch *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        uint64_t before = w->last_ns;
        struct timespec until = deadline_of(w);
        int err = pthread_cond_timedwait(&w->changed, &w->lock, &until);
        if (err != ETIMEDOUT || w->last_ns != before || w->stop) continue;
        fprintf(stderr, "medley-perf: process %d: %s took longer than -T, --timeout %d s\n", w->proc, w->what,
                w->seconds);
        _exit(PERF_FAILED);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

medleyResult_t perf_watch_start(struct perf_watch **out, int seconds, int proc, int kick_fd)
{
    pthread_condattr_t attr;
    *out = NULL;
    if (!seconds) return medleySuccess;
    struct perf_watch *w = calloc(1, sizeof(*w));
    if (!w) return mdl_error(medleySystemError, "out of memory for the watch of -T");
    *w = (struct perf_watch){.seconds = seconds, .proc = proc, .kick_fd = kick_fd, .last_ns = mdl_now_ns()};
    snprintf(w->what, sizeof(w->what), "initialisation");
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    int err = pthread_create(&w->thread, NULL, watch_main, w);
    if (err) {
        free(w);
        return mdl_system_error(err, "the watch of -T cannot be started");
    }
    *out = w;
    return medleySuccess;
}

void perf_watch_stop(struct perf_watch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void perf_watch_kick(struct perf_watch *w, const char *what)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->last_ns = mdl_now_ns();
    snprintf(w->what, sizeof(w->what), "%s", what);
    if (w->kick_fd >= 0 && write(w->kick_fd, "", 1) < 0) w->kick_fd = -1; /* the starter is gone: so are we soon */
    pthread_mutex_unlock(&w->lock);
}
