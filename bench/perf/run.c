/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sequence of measurements. It is the same on all threads of all processes, because every measurement is
 * collective; only the thread that reports prints.
 */
#include "config.h"
#include "bench/perf/run.h"
#include "bench/perf/buffers.h"
#include "bench/perf/check.h"
#include "bench/perf/matrix.h"
#include "bench/perf/memory.h"
#include "bench/perf/report.h"
#include "bench/perf/report_json.h"
#include "bench/perf/sizes.h"
#include "bench/perf/timing.h"
#include "bench/perf/watch.h"
#include "lib/reduce/reduce.h"
#include <stdlib.h>

struct totals {
    int bad;      /* placements with wrong data */
    double busbw; /* summed */
    int measured; /* how many */
};

struct sequence {
    struct perf_thread *t;
    struct perf_data data;
    double *iters; /* room for -n times, or NULL */
    struct totals now, all;
    int lines;
};

/* ---- one placement of one size ---- */

static void say(struct sequence *s, const struct perf_line *line, const char *what)
{
    perf_watch_kick(s->t->world->watch, what);
    perf_report_progress(s->t->report, line, what);
}

static medleyResult_t fill(struct sequence *s)
{
    s->data.pattern.seed++;
    for (int i = 0; i < s->t->nranks; i++) {
        perf_data_fill(&s->data, &s->t->ranks[i]);
        MDL_TRY(perf_buffers_store(&s->t->ranks[i]));
    }
    return medleySuccess;
}

static medleyResult_t sum_wrong(struct perf_thread *t, const long long *mine, long long *sum)
{
    long long *all = calloc((size_t)t->world->nranks, sizeof(*all));
    if (!all) return mdl_error(medleySystemError, "out of memory for the errors of %d ranks", t->world->nranks);
    medleyResult_t result = perf_all_gather(t, mine, sizeof(*all), all);
    *sum = 0;
    for (int r = 0; r < t->world->nranks; r++) *sum += all[r];
    free(all);
    return result;
}

static bool is_corrupt(const struct sequence *s, const struct perf_rank *r)
{
    const struct perf_options *o = s->t->world->o;
    return o->corrupt == r->rank && (!o->corrupt_size || o->corrupt_size == s->data.shape.bytes);
}

static medleyResult_t check_round(struct sequence *s, struct perf_figures *f)
{
    struct perf_thread *t = s->t;
    long long *mine = calloc((size_t)t->nranks, sizeof(*mine));
    if (!mine) return mdl_error(medleySystemError, "out of memory to check");
    medleyResult_t result = fill(s);
    if (result == medleySuccess) result = perf_time_once(t, &s->data);
    for (int i = 0; result == medleySuccess && i < t->nranks; i++) {
        result = perf_buffers_fetch(&t->ranks[i]);
        if (is_corrupt(s, &t->ranks[i])) perf_data_corrupt(&s->data, &t->ranks[i]);
        mine[i] = (long long)perf_data_check(&s->data, &t->ranks[i]);
        if (mine[i]) t->status = PERF_WRONG;
    }
    if (result == medleySuccess) result = sum_wrong(t, mine, &f->wrong);
    free(mine);
    return result;
}

static medleyResult_t bench(struct sequence *s, bool in_place, struct perf_line *line, struct perf_figures *f)
{
    struct perf_thread *t = s->t;
    s->data.in_place = in_place;
    say(s, line, in_place ? "in place" : "out of place");
    MDL_TRY(fill(s));
    MDL_TRY(perf_time(t, &s->data, s->iters, line, f));
    f->checked = t->world->o->check > 0 && !(s->data.shape.coll->flags & PERF_NO_DATA);
    for (int c = 0; f->checked && c < t->world->o->check && !f->wrong; c++) {
        say(s, line, in_place ? "checking in place" : "checking out of place");
        MDL_TRY(check_round(s, f));
    }
    s->now.bad += f->wrong != 0;
    s->now.busbw += f->busbw;
    s->now.measured++;
    return medleySuccess;
}

/* ---- sizes ---- */

static medleyResult_t run_size(struct sequence *s, const struct perf_shape *shape)
{
    struct perf_thread *t = s->t;
    struct perf_line line = {.collective = shape->coll->name,
                             .bytes = perf_shape_extent(shape) * shape->elem,
                             .count = shape->count,
                             .dtype = shape->dtype,
                             .op = shape->op,
                             .root = shape->root};
    s->data.shape = *shape;
    for (int i = 0; shape->coll->tables && i < t->nranks; i++)
        shape->coll->tables(shape, t->ranks[i].rank, t->ranks[i].counts);
    MDL_TRY(bench(s, false, &line, &line.out_of_place));
    if (!(shape->coll->flags & PERF_OUT_OF_PLACE_ONLY)) MDL_TRY(bench(s, true, &line, &line.in_place));
    perf_report_line(t->report, &line);
    return medleySuccess;
}

static medleyResult_t run_sizes(struct sequence *s, const struct perf_coll *coll, medleyDataType_t dtype, int op,
                                int root)
{
    const struct perf_options *o = s->t->world->o;
    struct perf_shape shape;
    bool more = true;
    for (size_t size = o->min_bytes; more && size <= s->t->max_bytes; more = perf_size_next(o, size, &size)) {
        if (perf_shape_make(coll, dtype, op, root, s->t->world->nranks, size, &shape)) MDL_TRY(run_size(s, &shape));
        if (coll->flags & PERF_NO_DATA) break;
    }
    return medleySuccess;
}

/* ---- types, operations, roots ---- */

static medleyResult_t make_op(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    const struct perf_pattern *p = arg;
    uint64_t scalar;
    (void)t;
    perf_pattern_scalar(p, r->rank, &scalar);
    return medleyRedOpCreatePreMulSum(&r->op, &scalar, p->dtype, medleyScalarHostImmediate, r->comm);
}

static medleyResult_t open_op(struct sequence *s, medleyDataType_t dtype, int op)
{
    perf_pattern_init(&s->data.pattern, dtype, op, s->t->world->nranks);
    for (int i = 0; i < s->t->nranks; i++) {
        if (op == PERF_MULSUM) MDL_TRY(make_op(s->t, &s->t->ranks[i], &s->data.pattern));
        if (op >= 0 && op < medleyNumOps) s->t->ranks[i].op = (medleyRedOp_t)op;
    }
    return medleySuccess;
}

static medleyResult_t close_op(struct sequence *s, int op)
{
    for (int i = 0; op == PERF_MULSUM && i < s->t->nranks; i++)
        MDL_TRY(medleyRedOpDestroy(s->t->ranks[i].op, s->t->ranks[i].comm));
    return medleySuccess;
}

static medleyResult_t run_roots(struct sequence *s, const struct perf_coll *coll, medleyDataType_t dtype, int op)
{
    const struct perf_options *o = s->t->world->o;
    bool every = (coll->flags & PERF_HAS_ROOT) && o->root == PERF_ALL;
    int first = every ? 0 : o->root, last = every ? s->t->world->nranks - 1 : o->root;
    MDL_TRY(open_op(s, dtype, op));
    perf_buffers_align(s->t, mdl_dtype_size(dtype));
    for (int root = first; root <= last; root++)
        for (int cycle = 0; !o->cycles || cycle < o->cycles; cycle++) MDL_TRY(run_sizes(s, coll, dtype, op, root));
    return close_op(s, op);
}

static medleyResult_t run_types(struct sequence *s, const struct perf_coll *coll)
{
    const struct perf_options *o = s->t->world->o;
    bool has_op = coll->flags & PERF_HAS_OP, data = !(coll->flags & PERF_NO_DATA);
    int type0 = o->dtype == PERF_ALL ? 0 : o->dtype, type1 = o->dtype == PERF_ALL && data ? medleyNumTypes - 1 : type0;
    int op0 = !has_op ? PERF_COPY : o->op == PERF_ALL ? 0 : o->op;
    int op1 = has_op && o->op == PERF_ALL ? PERF_NUM_OPS - 1 : op0;
    for (int type = type0; type <= type1; type++)
        for (int op = op0; op <= op1; op++) MDL_TRY(run_roots(s, coll, (medleyDataType_t)type, op));
    return medleySuccess;
}

/* ---- collectives ---- */

static int count_lines(const struct perf_options *o, const struct perf_coll *coll, int nranks)
{
    int types = o->dtype == PERF_ALL ? medleyNumTypes : 1;
    int ops = (coll->flags & PERF_HAS_OP) && o->op == PERF_ALL ? PERF_NUM_OPS : 1;
    int roots = (coll->flags & PERF_HAS_ROOT) && o->root == PERF_ALL ? nranks : 1;
    return coll->flags & PERF_NO_DATA ? o->cycles
                                      : perf_size_steps(o) * types * ops * roots * (o->cycles ? o->cycles : 1);
}

static medleyResult_t run_coll(struct sequence *s, const struct perf_coll *coll)
{
    struct perf_thread *t = s->t;
    struct perf_report *report = t->report;
    int n = t->world->nranks;
    if ((coll->flags & PERF_POWER_OF_2) && (n & (n - 1))) {
        perf_report_note(report, "%s: %d ranks are not a power of 2: skipped", coll->name, n);
        return medleySuccess;
    }
    s->now = (struct totals){0};
    if (report) report->steps = count_lines(t->world->o, coll, n);
    perf_report_start(report, coll);
    MDL_TRY(run_types(s, coll));
    double busbw = s->now.measured ? s->now.busbw / s->now.measured : 0;
    double gate = t->world->o->min_bw;
    if (s->now.bad || (gate >= 0 && busbw < 0.9 * gate)) t->status = PERF_WRONG;
    perf_report_end(report, coll, s->now.bad, busbw);
    s->all.busbw += s->now.busbw;
    s->all.measured += s->now.measured;
    return medleySuccess;
}

static medleyResult_t run_all(struct sequence *s)
{
    const struct perf_options *o = s->t->world->o;
    for (const struct perf_coll *c = perf_colls; c->name; c++)
        if ((!o->coll && !(o->agg > 1 && c->steps)) || c == o->coll) MDL_TRY(run_coll(s, c));
    return medleySuccess;
}

/* ---- all of it ---- */

static medleyResult_t finish_reports(struct sequence *s)
{
    struct perf_thread *t = s->t;
    double bytes[3];
    if (t->world->o->memory) {
        MDL_TRY(perf_memory_gather(t, bytes));
        perf_report_memory(t->report, bytes);
    }
    if (!t->world->o->json[0]) return medleySuccess;
    return perf_report_json(t, s->all.measured ? s->all.busbw / s->all.measured : 0);
}

static medleyResult_t run_sequence(struct sequence *s)
{
    struct perf_thread *t = s->t;
    const struct perf_options *o = t->world->o;
    bool lowered;
    MDL_TRY(perf_buffers_limit(t, &lowered));
    if (o->min_bytes > t->max_bytes)
        return mdl_error(medleySystemError, "not enough memory for -b, --minbytes %zu", o->min_bytes);
    MDL_TRY(perf_buffers_open(t));
    perf_report_devices(t->report, t, lowered);
    if (o->matrix) return perf_matrix(t);
    MDL_TRY(perf_data_open(&s->data, t->world->nranks));
    bool has_iters = o->per_iter || (o->json[0] && (o->null_stream || o->blocking));
    s->iters = has_iters ? malloc((size_t)o->iters * sizeof(*s->iters)) : NULL;
    if (has_iters && !s->iters) return mdl_error(medleySystemError, "out of memory for %d times", o->iters);
    MDL_TRY(run_all(s));
    return finish_reports(s);
}

/* What no parser of flags can know: how many ranks there are. */
static bool check_ranks(struct perf_thread *t)
{
    const struct perf_options *o = t->world->o;
    int n = t->world->nranks;
    const char *why = o->matrix && n < 2           ? "--matrix needs at least 2 ranks"
                      : o->root >= n && !o->matrix ? "-r, --root: there is no such rank"
                      : o->coll && (o->coll->flags & PERF_POWER_OF_2) && (n & (n - 1))
                          ? "hypercube needs 2, 4, 8 ... ranks"
                          : NULL;
    if (!why) return true;
    if (t->report) fprintf(stderr, "medley-perf: %s (there are %d)\n", why, n);
    t->status = PERF_USAGE;
    return false;
}

void perf_run(struct perf_thread *t)
{
    struct sequence s = {.t = t};
    if (!check_ranks(t)) return;
    if (perf_thread_open(t) == medleySuccess) {
        if (t->number == 0) t->world->memory_ready = perf_memory_now();
        medleyResult_t result = run_sequence(&s);
        if (result != medleySuccess)
            perf_thread_fail(t, result, s.data.shape.coll ? s.data.shape.coll->name : "set-up");
    }
    perf_thread_meet(t, false);
    perf_data_close(&s.data);
    free(s.iters);
    perf_buffers_close(t);
    perf_thread_close(t);
}
