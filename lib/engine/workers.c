/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool. A job is published under the lock with a new generation; workers and the caller take pieces from one
 * counter, and the caller leaves when the last worker that took part has left, so that the job may live on its stack.
 */
#include "config.h"

#include "lib/engine/workers.h"
#include "lib/base/thread.h"
#include "lib/net/cpus.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { MAX_WORKERS = 256 };

struct job {
    void (*fn)(void *arg, int piece);
    void *arg;
    int pieces;
    _Atomic int next; /* piece to take */
};

static struct {
    pthread_mutex_t lock, busy; /* busy: held by the thread whose job runs */
    pthread_cond_t work, idle;
    pthread_t threads[MAX_WORKERS];
    int nthreads, holders, inside; /* inside: workers in the present job */
    bool stop;
    uint64_t generation;
    struct job *job;
    char cpu_set[256];
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .busy = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .idle = PTHREAD_COND_INITIALIZER,
};

static void take_pieces(struct job *j)
{
    int i;

    while ((i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->pieces) j->fn(j->arg, i);
}

static void *worker_main(void *arg)
{
    uint64_t seen = (uint64_t)(uintptr_t)arg;

    pthread_setname_np(pthread_self(), "medley-worker");
    pthread_mutex_lock(&pool.lock);
    if (mdl_cpus_apply(pool.cpu_set) != medleySuccess) pool.cpu_set[0] = 0; /* it has said why; run anywhere */
    while (!pool.stop) {
        struct job *j = pool.job;
        if (!j || pool.generation == seen) {
            pthread_cond_wait(&pool.work, &pool.lock);
            continue;
        }
        seen = pool.generation;
        pool.inside++;
        pthread_mutex_unlock(&pool.lock);
        take_pieces(j);
        pthread_mutex_lock(&pool.lock);
        if (--pool.inside == 0) pthread_cond_signal(&pool.idle);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* With the lock. */
static medleyResult_t start_one(const char *cpu_set)
{
    int err;

    if (cpu_set) snprintf(pool.cpu_set, sizeof(pool.cpu_set), "%s", cpu_set);
    err = mdl_thread_start(worker_main, (void *)(uintptr_t)pool.generation, &pool.threads[pool.nthreads]);
    if (err) return mdl_system_error(err, "cannot start worker thread %d of MEDLEY_THREADS", pool.nthreads + 1);
    pool.nthreads++;
    return medleySuccess;
}

medleyResult_t mdl_workers_hold(int threads, const char *cpu_set)
{
    medleyResult_t res = medleySuccess;

    if (threads > MAX_WORKERS) threads = MAX_WORKERS;
    pthread_mutex_lock(&pool.busy); /* no job runs, and no release is under way */
    pthread_mutex_lock(&pool.lock);
    pool.holders++;
    while (res == medleySuccess && pool.nthreads < threads) res = start_one(cpu_set);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.busy);
    if (res != medleySuccess) mdl_workers_release();
    return res;
}

void mdl_workers_release(void)
{
    int n;

    pthread_mutex_lock(&pool.busy); /* no job runs */
    pthread_mutex_lock(&pool.lock);
    n = --pool.holders ? 0 : pool.nthreads;
    if (n) {
        pool.stop = true;
        pthread_cond_broadcast(&pool.work);
    }
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < n; i++) pthread_join(pool.threads[i], NULL);
    pthread_mutex_lock(&pool.lock);
    if (n) {
        pool.nthreads = 0;
        pool.stop = false;
    }
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.busy);
}

void mdl_workers_run(void (*fn)(void *arg, int piece), void *arg, int pieces)
{
    struct job job = {.fn = fn, .arg = arg, .pieces = pieces};

    if (pieces < 2 || pthread_mutex_trylock(&pool.busy) != 0) {
        take_pieces(&job);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    pool.job = &job;
    pool.generation++;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    take_pieces(&job);
    pthread_mutex_lock(&pool.lock);
    pool.job = NULL; /* who has not come yet, does not */
    while (pool.inside) pthread_cond_wait(&pool.idle, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.busy);
}
