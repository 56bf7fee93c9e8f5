/* SPDX-License-Identifier: Apache-2.0 */
/* See aside.h. */
#include "config.h"

#include "lib/engine/aside.h"
#include "lib/base/thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct mdl_aside {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    void (*run)(void *arg), (*drop)(void *arg);
    void *arg;
    bool done, left;
};

static void free_aside(struct mdl_aside *a)
{
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void *aside_main(void *arg)
{
    struct mdl_aside *a = arg;
    bool left;

    a->run(a->arg);
    pthread_mutex_lock(&a->lock);
    a->done = true;
    left = a->left;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    if (!left) return NULL;
    a->drop(a->arg);
    free_aside(a);
    return NULL;
}

struct mdl_aside *mdl_aside_start(void (*run)(void *arg), void *arg)
{
    struct mdl_aside *a = calloc(1, sizeof(*a));
    pthread_condattr_t attr;

    if (!a) return NULL;
    a->run = run;
    a->arg = arg;
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (mdl_thread_start(aside_main, a, &a->thread) == 0) return a;
    free_aside(a);
    return NULL;
}

bool mdl_aside_wait(struct mdl_aside *a, uint64_t until_ns)
{
    const struct timespec ts = {.tv_sec = (time_t)(until_ns / MDL_NS_PER_S), .tv_nsec = (long)(until_ns % MDL_NS_PER_S)};
    bool done;

    pthread_mutex_lock(&a->lock);
    while (!a->done && mdl_now_ns() < until_ns) pthread_cond_timedwait(&a->changed, &a->lock, &ts);
    done = a->done;
    pthread_mutex_unlock(&a->lock);
    return done;
}

bool mdl_aside_end(struct mdl_aside *a, void (*drop)(void *arg))
{
    pthread_t thread = a->thread;
    bool done;

    pthread_mutex_lock(&a->lock);
    done = a->done;
    a->left = !done;
    a->drop = drop;
    pthread_mutex_unlock(&a->lock);
    if (!done) { /* from here on the structure is the thread's */
        pthread_detach(thread);
        return false;
    }
    pthread_join(thread, NULL);
    free_aside(a);
    return true;
}
