/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all ranks tell each other between measurements: through the communicators that are measured, because under some
 * launchers there is no other way between the ranks. A library that moved these wrongly cannot hide wrong data: each
 * rank that saw some ends with an exit status of its own accord.
 */
#include "config.h"
#include "bench/perf/world.h"
#include <stdlib.h>
#include <string.h>

static medleyResult_t wait_one(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    (void)t, (void)arg;
    return medleyBarrier(r->comm, r->home.stream);
}

/* Calls of ranks with a device return before they are done. */
static medleyResult_t each_done(struct perf_thread *t, perf_rank_fn fn, void *arg)
{
    MDL_TRY(perf_thread_each(t, false, fn, arg));
    for (int i = 0; i < t->nranks; i++) MDL_TRY(perf_home_sync(&t->ranks[i].home));
    return medleySuccess;
}

medleyResult_t perf_all_wait(struct perf_thread *t) { return each_done(t, wait_one, NULL); }

struct gather {
    const char *mine;
    char *all; /* one copy per rank of the thread */
    size_t bytes;
};

static medleyResult_t gather_one(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    struct gather *g = arg;
    size_t k = (size_t)(r - t->ranks);
    return medleyAllGather(g->mine + k * g->bytes, g->all + k * g->bytes * (size_t)t->world->nranks, g->bytes,
                           medleyUint8, r->comm, r->home.stream);
}

medleyResult_t perf_all_gather(struct perf_thread *t, const void *mine, size_t bytes, void *all)
{
    size_t total = bytes * (size_t)t->world->nranks;
    struct gather g = {mine, calloc((size_t)t->nranks, total), bytes};
    if (!g.all) return mdl_error(medleySystemError, "out of memory to gather %zu bytes", total);
    medleyResult_t result = each_done(t, gather_one, &g);
    if (result == medleySuccess) memcpy(all, g.all, total);
    free(g.all);
    return result;
}

struct maximum {
    const double *mine;
    double *most; /* one copy per rank of the thread */
    size_t count;
};

static medleyResult_t max_one(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    struct maximum *m = arg;
    return medleyAllReduce(m->mine, m->most + (size_t)(r - t->ranks) * m->count, m->count, medleyFloat64, medleyMax,
                           r->comm, r->home.stream);
}

medleyResult_t perf_all_max(struct perf_thread *t, double *values, size_t count)
{
    struct maximum m = {values, calloc((size_t)t->nranks, count * sizeof(double)), count};
    if (!m.most) return mdl_error(medleySystemError, "out of memory to compare %zu numbers", count);
    medleyResult_t result = each_done(t, max_one, &m);
    if (result == medleySuccess) memcpy(values, m.most, count * sizeof(double));
    free(m.most);
    return result;
}
