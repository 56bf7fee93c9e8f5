/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and ending the ranks. A rank's number is (process x threads + thread) x ranks per thread + its place there.
 */
#include "config.h"
#include "bench/perf/world.h"
#include "bench/perf/watch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one thread ---- */

medleyResult_t perf_thread_fail(struct perf_thread *t, medleyResult_t result, const char *what)
{
    if (t->failed) return result;
    t->failed = true;
    t->status = PERF_FAILED;
    const char *text = "";
    for (int i = 0; i < t->nranks && !text[0]; i++)
        if (t->ranks[i].comm) text = medleyGetLastError(t->ranks[i].comm);
    if (!text[0]) text = medleyGetLastError(NULL);
    fprintf(stderr, "medley-perf: rank %d: %s: %s%s%s\n", t->ranks[0].rank, what, medleyGetErrorString(result),
            text[0] ? ": " : "", text);
    for (int i = 0; i < t->nranks; i++) {
        if (t->ranks[i].comm) (void)medleyCommAbort(t->ranks[i].comm);
        t->ranks[i].comm = NULL;
    }
    return result;
}

medleyResult_t perf_thread_each(struct perf_thread *t, bool group, perf_rank_fn fn, void *arg)
{
    medleyResult_t result = medleySuccess, end;
    group |= t->nranks > 1;
    if (group) result = medleyGroupStart();
    for (int i = 0; result == medleySuccess && i < t->nranks; i++) result = fn(t, &t->ranks[i], arg);
    if (!group) return result;
    end = medleyGroupEnd();
    return result == medleySuccess ? end : result;
}

static medleyResult_t init_rank(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    struct perf_world *w = t->world;
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    (void)arg;
    config.device = r->home.name;
    if (w->o->timeout) config.timeout_ms = w->o->timeout * 1000;
    return medleyCommInitRankConfig(&r->comm, w->nranks, w->id, r->rank, &config);
}

/* Has another rank of this process the same device? On one stream they would wait for each other for ever. */
static bool shares_device(const struct perf_world *w, const struct perf_rank *r)
{
    for (int t = 0; t < w->o->threads; t++)
        for (int i = 0; i < w->threads[t].nranks; i++) {
            const struct perf_rank *other = &w->threads[t].ranks[i];
            if (other != r && strcmp(other->home.name, r->home.name) == 0) return true;
        }
    return false;
}

static medleyResult_t open_streams(struct perf_thread *t)
{
    bool own = !t->world->o->null_stream;
    for (int i = 0; i < t->nranks; i++) {
        struct perf_rank *r = &t->ranks[i];
        MDL_TRY(perf_home_open(&r->home, own || shares_device(t->world, r)));
        if (r->home.dev.ops)
            r->stream = r->home.stream;
        else if (own)
            MDL_TRY(medleyStreamCreate(&r->stream));
    }
    return medleySuccess;
}

medleyResult_t perf_thread_open(struct perf_thread *t)
{
    medleyResult_t result = medleySuccess;
    if (!t->ranks[0].comm) result = perf_thread_each(t, false, init_rank, NULL);
    if (result == medleySuccess) result = open_streams(t);
    return result == medleySuccess ? result : perf_thread_fail(t, result, "initialisation");
}

void perf_thread_meet(struct perf_thread *t, bool wait)
{
    struct perf_world *w = t->world;

    if (t->met) return;
    t->met = true;
    pthread_mutex_lock(&w->lock);
    if (++w->nmet == w->o->threads) pthread_cond_broadcast(&w->all_met);
    while (wait && w->nmet < w->o->threads) pthread_cond_wait(&w->all_met, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void perf_thread_close(struct perf_thread *t)
{
    for (int i = 0; i < t->nranks; i++) {
        struct perf_rank *r = &t->ranks[i];
        if (r->stream && !r->home.dev.ops) (void)medleyStreamDestroy(r->stream);
        if (r->comm && medleyCommDestroy(r->comm) != medleySuccess && !t->failed)
            fprintf(stderr, "medley-perf: rank %d: the communicator cannot be destroyed: %s\n", r->rank,
                    medleyGetLastError(NULL));
        perf_home_close(&r->home);
        r->stream = NULL;
        r->comm = NULL;
    }
}

/* ---- the process ---- */

static medleyResult_t make_threads(struct perf_world *w)
{
    int per = w->o->per_thread;
    w->threads = calloc((size_t)w->o->threads, sizeof(*w->threads));
    if (!w->threads) return mdl_error(medleySystemError, "out of memory for %d threads", w->o->threads);
    for (int i = 0; i < w->o->threads; i++) {
        struct perf_thread *t = &w->threads[i];
        *t = (struct perf_thread){.world = w, .number = i, .max_bytes = w->o->max_bytes};
        t->ranks = calloc((size_t)per, sizeof(*t->ranks));
        if (!t->ranks) return mdl_error(medleySystemError, "out of memory for %d ranks", per);
        t->nranks = per;
        for (int k = 0; k < per; k++) {
            t->ranks[k].rank = (w->place.proc * w->o->threads + i) * per + k;
            t->ranks[k].counts = calloc(2 * (size_t)w->nranks, sizeof(size_t));
            if (!t->ranks[k].counts) return mdl_error(medleySystemError, "out of memory for %d ranks", w->nranks);
            MDL_TRY(perf_home_find(&t->ranks[k].home, w->o->device, t->ranks[k].rank));
        }
    }
    return medleySuccess;
}

/* All ranks of the process in one group: one thread makes them all. */
static medleyResult_t init_all(struct perf_world *w)
{
    bool group = w->o->threads * w->o->per_thread > 1;
    medleyResult_t result = group ? medleyGroupStart() : medleySuccess, end;
    for (int i = 0; result == medleySuccess && i < w->o->threads; i++)
        for (int k = 0; result == medleySuccess && k < w->threads[i].nranks; k++)
            result = init_rank(&w->threads[i], &w->threads[i].ranks[k], NULL);
    if (!group) return result;
    end = medleyGroupEnd();
    return result == medleySuccess ? end : result;
}

static bool fits(const struct perf_world *w)
{
    const struct perf_options *o = w->o;
    return (long long)w->place.nprocs * o->threads * o->per_thread <= 1 << 20;
}

static medleyResult_t open_world(struct perf_world *w)
{
    const struct perf_options *o = w->o;
    if (!fits(w)) return mdl_error(medleyInvalidUsage, "-t and -g make more than a million ranks");
    w->nranks = w->place.nprocs * o->threads * o->per_thread;
    MDL_TRY(perf_watch_start(&w->watch, o->timeout, w->place.proc, w->place.kick_fd));
    MDL_TRY(perf_place_share_id(&w->place, &w->id));
    return make_threads(w);
}

medleyResult_t perf_world_open(struct perf_world *w)
{
    medleyResult_t result = open_world(w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->all_met, NULL);
    if (result != medleySuccess) {
        fprintf(stderr, "medley-perf: process %d of %d: %s\n", w->place.proc, w->place.nprocs,
                medleyGetLastError(NULL));
        return result;
    }
    if (w->o->parallel_init) return medleySuccess;
    result = init_all(w);
    return result == medleySuccess ? result : perf_thread_fail(&w->threads[0], result, "initialisation");
}

void perf_world_close(struct perf_world *w)
{
    for (int i = 0; w->threads && i < w->o->threads; i++) {
        for (int k = 0; k < w->threads[i].nranks; k++) free(w->threads[i].ranks[k].counts);
        if (w->threads[i].ranks) perf_thread_close(&w->threads[i]);
        free(w->threads[i].ranks);
    }
    free(w->threads);
    perf_watch_stop(w->watch);
    explicit_bzero(&w->id, sizeof(w->id));
}
