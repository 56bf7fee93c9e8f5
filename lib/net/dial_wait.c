/* SPDX-License-Identifier: Apache-2.0 */
/* A dial that the caller waits for. It sleeps on a condition variable; with an abort word it looks up every 20 ms,
 * because that word has no way to wake it. */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/net/door.h"
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 20, WHY_BYTES = 2048 };

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    medleyResult_t result;
    struct mdl_link link;
    char why[WHY_BYTES];
};

static void on_done(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct waiter *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->result = result;
    if (link) w->link = *link;
    if (why) snprintf(w->why, sizeof(w->why), "%s", why);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void sleep_locked(struct waiter *w, bool looks)
{
    if (!looks) {
        pthread_cond_wait(&w->changed, &w->lock);
        return;
    }
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += LOOK_MS * (long)MDL_NS_PER_MS;
    t.tv_sec += t.tv_nsec / (long)MDL_NS_PER_S;
    t.tv_nsec %= (long)MDL_NS_PER_S;
    pthread_cond_timedwait(&w->changed, &w->lock, &t);
}

static bool aborted(const volatile uint32_t *abort_word)
{
    /* Relaxed: the word carries nothing but itself. */
    return abort_word && __atomic_load_n(abort_word, __ATOMIC_RELAXED);
}

static void init(struct waiter *w)
{
    pthread_condattr_t attr;
    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static void fini(struct waiter *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}

static medleyResult_t conclude(struct waiter *w, const struct mdl_dial_args *args, const volatile uint32_t *abort_word,
                               struct mdl_link *link)
{
    if (aborted(abort_word)) {
        if (w->done && w->result == medleySuccess) mdl_link_close(&w->link);
        return mdl_error(medleyRemoteError, "aborted while connecting to rank %d", args->expect_rank);
    }
    if (w->result != medleySuccess) return mdl_error(w->result, "%s", w->why);
    *link = w->link;
    return medleySuccess;
}

medleyResult_t mdl_dial_wait(const struct mdl_dial_args *args, const volatile uint32_t *abort_word,
                             struct mdl_link *link)
{
    struct waiter w;
    struct mdl_dial *dial;
    if (mdl_reactor_inside(mdl_door_reactor(args->door)))
        return mdl_error(medleyInternalError, "mdl_dial_wait on the monitor's own thread would wait for itself");
    init(&w);
    medleyResult_t result = mdl_dial_start(args, on_done, &w, &dial);
    if (result == medleySuccess) {
        pthread_mutex_lock(&w.lock);
        while (!w.done && !aborted(abort_word)) sleep_locked(&w, abort_word != NULL);
        pthread_mutex_unlock(&w.lock);
        mdl_dial_cancel(dial);
        result = conclude(&w, args, abort_word, link);
    }
    fini(&w);
    return result;
}
