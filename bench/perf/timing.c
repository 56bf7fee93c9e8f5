/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timing: all ranks meet at a barrier, then each runs the iterations back to back by its own clock, as nccl-tests does;
 * -z adds waits. Nothing else happens between the two readings of the clock. With a NULL stream a call returns when it
 * is done; with -y 0 it returns once queued and the streams are waited for at the end.
 */
#include "config.h"
#include "bench/perf/timing.h"
#include "lib/base/clock.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_AND_MEET = 1, WAIT_ONLY = 2, MEET_UNTIMED = 3 }; /* -z */

/* ---- one operation ---- */

struct step {
    struct perf_data *d;
    int number;
};

static medleyResult_t call_one(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    const struct step *s = arg;
    struct perf_call call = {.comm = r->comm,
                             .rank = r->rank,
                             .step = s->number,
                             .send = perf_data_send(s->d, r),
                             .recv = perf_data_recv(s->d, r),
                             .op = r->op,
                             .stream = r->stream,
                             .counts = r->counts};
    (void)t;
    return s->d->shape.coll->call(&s->d->shape, &call);
}

static medleyResult_t issue(struct perf_thread *t, struct perf_data *d)
{
    const struct perf_coll *coll = d->shape.coll;
    int steps = coll->steps ? coll->steps(d->shape.nranks) : 1;
    for (struct step s = {.d = d}; s.number < steps; s.number++)
        MDL_TRY(perf_thread_each(t, coll->flags & PERF_GROUPED, call_one, &s));
    return medleySuccess;
}

static medleyResult_t finish(struct perf_thread *t)
{
    for (int i = 0; i < t->nranks; i++) {
        const struct perf_rank *r = &t->ranks[i];
        MDL_TRY(perf_home_sync(&r->home));
        if (r->stream && !r->home.dev.ops) MDL_TRY(medleyStreamSynchronize(r->stream));
    }
    return medleySuccess;
}

medleyResult_t perf_time_once(struct perf_thread *t, struct perf_data *d)
{
    MDL_TRY(issue(t, d));
    return finish(t);
}

/* ---- one iteration ---- */

/* -z 1 and 2, after an operation or a group of them. */
static medleyResult_t wait_as_asked(struct perf_thread *t)
{
    int blocking = t->world->o->blocking;
    if (blocking != WAIT_AND_MEET && blocking != WAIT_ONLY) return medleySuccess;
    MDL_TRY(finish(t));
    return blocking == WAIT_AND_MEET ? perf_all_wait(t) : medleySuccess;
}

static medleyResult_t iterate(struct perf_thread *t, struct perf_data *d)
{
    if (t->world->o->agg == 1) {
        MDL_TRY(issue(t, d));
        return wait_as_asked(t);
    }
    MDL_TRY(medleyGroupStart());
    medleyResult_t result = medleySuccess;
    for (int i = 0; result == medleySuccess && i < t->world->o->agg; i++) result = issue(t, d);
    medleyResult_t end = medleyGroupEnd();
    MDL_TRY(result == medleySuccess ? end : result);
    return wait_as_asked(t);
}

struct loop {
    uint64_t issued_ns, done_ns; /* without what is not timed */
    double *iters;               /* microseconds per operation, or NULL */
};

static medleyResult_t run_loop(struct perf_thread *t, struct perf_data *d, struct loop *loop)
{
    const struct perf_options *o = t->world->o;
    bool untimed = o->blocking == MEET_UNTIMED;
    uint64_t start = mdl_now_ns(), before = start, inside = 0;
    for (int i = 0; i < o->iters; i++) {
        if (untimed) before = mdl_now_ns();
        MDL_TRY(iterate(t, d));
        if (untimed) MDL_TRY(finish(t));
        if (!untimed && !loop->iters) continue;
        uint64_t now = mdl_now_ns();
        if (loop->iters) loop->iters[i] = (double)(now - before) / 1e3 / o->agg;
        inside += now - before;
        before = now;
        if (untimed) MDL_TRY(perf_all_wait(t));
    }
    loop->issued_ns = untimed ? inside : mdl_now_ns() - start;
    MDL_TRY(finish(t));
    loop->done_ns = untimed ? inside : mdl_now_ns() - start;
    return medleySuccess;
}

/* ---- figures ---- */

struct times {
    double done_us, issued_us;
};

static struct times across_ranks(const struct times *all, int nranks, int average)
{
    struct times sum = {0}, least = all[0], most = all[0];
    for (int r = 0; r < nranks; r++) {
        sum.done_us += all[r].done_us / nranks;
        sum.issued_us += all[r].issued_us / nranks;
        least.done_us = fmin(least.done_us, all[r].done_us);
        least.issued_us = fmin(least.issued_us, all[r].issued_us);
        most.done_us = fmax(most.done_us, all[r].done_us);
        most.issued_us = fmax(most.issued_us, all[r].issued_us);
    }
    return average == 0 ? all[0] : average == 1 ? sum : average == 2 ? least : most;
}

static medleyResult_t collect_times(struct perf_thread *t, struct times mine, struct perf_figures *f)
{
    size_t n = (size_t)t->world->nranks;
    struct times *all = calloc(n + (size_t)t->nranks, sizeof(*all));
    if (!all) return mdl_error(medleySystemError, "out of memory for the times of %zu ranks", n);
    for (int i = 0; i < t->nranks; i++) all[n + (size_t)i] = mine;
    medleyResult_t result = perf_all_gather(t, all + n, sizeof(*all), all);
    struct times us = across_ranks(all, (int)n, t->world->o->average);
    f->time_us = us.done_us;
    f->issue_us = us.issued_us;
    free(all);
    return result;
}

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank: the smallest number that at least 99 % do not exceed. */
static void summarise(double *us, int n, struct perf_figures *f)
{
    double sum = 0, squares = 0;
    qsort(us, (size_t)n, sizeof(*us), compare_numbers);
    for (int i = 0; i < n; i++) sum += us[i];
    for (int i = 0; i < n; i++) squares += (us[i] - sum / n) * (us[i] - sum / n);
    f->has_iters = true;
    f->min_us = us[0];
    f->max_us = us[n - 1];
    f->p99_us = us[((long long)n * 99 + 99) / 100 - 1];
    f->variation = sum > 0 ? sqrt(squares / n) / (sum / n) * 100 : 0;
}

/* Messages have no algorithm; and what moves nothing is dropped, so that the barrier before it would be named. */
static void note_algorithm(struct perf_thread *t, const struct perf_data *d, struct perf_line *line)
{
    medleyCommStats_t stats = {.size = sizeof(stats)};
    line->predicted_us = -1;
    line->algorithm[0] = 0;
    if (d->shape.coll->id < 0 || (!d->shape.count && !(d->shape.coll->flags & PERF_NO_DATA))) return;
    if (medleyCommGetStats(t->ranks[0].comm, &stats) != medleySuccess || !stats.last_algorithm[0]) return;
    memcpy(line->algorithm, stats.last_algorithm, sizeof(line->algorithm));
    line->predicted_us = (double)stats.last_predicted_ns / 1e3;
}

medleyResult_t perf_time(struct perf_thread *t, struct perf_data *d, double *iters, struct perf_line *line,
                         struct perf_figures *f)
{
    const struct perf_options *o = t->world->o;
    struct loop loop = {.iters = iters};
    for (int i = 0; i < o->warmup; i++) MDL_TRY(perf_time_once(t, d));
    MDL_TRY(perf_all_wait(t));
    MDL_TRY(run_loop(t, d, &loop));
    if (t->report && !d->in_place) note_algorithm(t, d, line);
    double operations = (double)o->iters * o->agg;
    struct times mine = {(double)loop.done_ns / 1e3 / operations, (double)loop.issued_ns / 1e3 / operations};
    MDL_TRY(collect_times(t, mine, f));
    if (iters) {
        MDL_TRY(perf_all_max(t, iters, (size_t)o->iters));
        summarise(iters + o->skip, o->iters - o->skip, f);
    }
    f->measured = true;
    f->algbw = f->time_us > 0 ? d->shape.coll->bytes(&d->shape) / f->time_us / 1e3 : 0;
    f->busbw = f->algbw * d->shape.coll->factor(d->shape.nranks);
    return medleySuccess;
}
