/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated executor; see sim.h.
 *
 * Every window of every rank is a table of instruction states. An instruction is ready when its dependencies are done
 * and, for SEND, RECV, SIGNAL and WAIT, the one before it in its lane has been posted; ready ones are drawn at random.
 * A lane between two ranks is a queue of messages and of receives that wait, and a count of signals and of waits.
 */
#include "config.h"
#include "tests/plan/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ready {
    int rank;
    uint32_t window, inst;
};

struct message {
    struct ready from;
    uint8_t *bytes; /* a copy if eager, else the sender's memory */
    size_t len;
    bool eager;
};

/* From one rank to another on one absolute channel. */
struct lane {
    struct message *sent;
    struct ready *wanted, *waiting;
    uint32_t nsent, nwanted, nwaiting, taken, given, woken, signals;
};

/* A plan and what it tells about its lanes: who comes next, and how much each instruction waits for at the start. */
struct program {
    const struct mdl_plan *p;
    uint32_t *blockers, *lane_next;
    uint32_t *user, *nuser, *users; /* instructions that depend on one: users[user[i] .. + nuser[i]) */
};

struct rank_state {
    struct program prog;
    uint32_t *left[8]; /* blockers per instruction, of the windows in flight */
    uint32_t open[8];  /* instructions not yet done */
    uint32_t started, finished;
    uint8_t *scratch[8];
    bool entered;
};

struct run {
    const struct sim *s;
    struct data *d;
    struct rank_state *ranks;
    struct lane *lanes;
    uint32_t channels, windows;
    size_t window, scratch_bytes, slot_bytes;
    struct ready *ready;
    size_t nready, ready_cap;
    uint64_t random;
    char *why;
    size_t why_bytes;
    bool failed;
};

static void *must(void *p)
{
    if (!p) abort();
    return p;
}

static bool fail(struct run *run, const char *what, const struct ready *at)
{
    if (!run->failed)
        snprintf(run->why, run->why_bytes, "rank %d, window %u, instruction %u: %s", at->rank, at->window, at->inst,
                 what);
    run->failed = true;
    return false;
}

static bool is_lane_op(const struct mdl_inst *in) { return in->op != MDL_OP_COPY && in->op != MDL_OP_REDUCE; }

/* ---- programs ---- */

static void find_lanes(struct program *g)
{
    const struct mdl_plan *p = g->p;
    for (uint32_t i = 0; i < p->ninsts; i++) {
        g->lane_next[i] = UINT32_MAX;
        const struct mdl_inst *a = &p->insts[i];
        for (uint32_t j = i + 1; is_lane_op(a) && j < p->ninsts; j++) {
            const struct mdl_inst *b = &p->insts[j];
            if (b->op != a->op || b->peer != a->peer || b->channel != a->channel) continue;
            g->lane_next[i] = j;
            g->blockers[j]++;
            break;
        }
    }
}

static void find_users(struct program *g)
{
    const struct mdl_plan *p = g->p;
    for (uint32_t d = 0; d < p->ndeps; d++) g->nuser[p->deps[d]]++;
    for (uint32_t i = 0, at = 0; i < p->ninsts; at += g->nuser[i++]) g->user[i] = at;
    memset(g->nuser, 0, p->ninsts * sizeof(*g->nuser));
    for (uint32_t i = 0; i < p->ninsts; i++)
        for (uint32_t k = 0; k < p->insts[i].ndep; k++) {
            uint32_t dep = p->deps[p->insts[i].dep + k];
            g->users[g->user[dep] + g->nuser[dep]++] = i;
        }
}

static void program_init(struct program *g, const struct mdl_plan *p)
{
    size_t n = p->ninsts + 1u;
    g->p = p;
    g->blockers = must(calloc(n, sizeof(uint32_t)));
    g->lane_next = must(calloc(n, sizeof(uint32_t)));
    g->user = must(calloc(n, sizeof(uint32_t)));
    g->nuser = must(calloc(n, sizeof(uint32_t)));
    g->users = must(calloc(p->ndeps + 1u, sizeof(uint32_t)));
    for (uint32_t i = 0; i < p->ninsts; i++) g->blockers[i] = p->insts[i].ndep;
    find_lanes(g);
    find_users(g);
}

static void program_fini(struct program *g)
{
    free(g->blockers);
    free(g->lane_next);
    free(g->user);
    free(g->nuser);
    free(g->users);
}

/* ---- where a reference lies ---- */

static size_t shape_count(const struct run *run, const struct mdl_ref *ref)
{
    if (!mdl_collective_is_v(&run->s->c)) return run->s->c.count;
    if (ref->buf == MDL_SCRATCH) return run->s->counts[ref->shape];
    const struct rank_data *r = &run->d->ranks[ref->rank];
    return (ref->buf == MDL_IN ? r->in.count : r->out.count)[ref->slot];
}

static uint8_t *locate(const struct run *run, uint32_t window, const struct mdl_ref *ref, size_t *count)
{
    size_t have = shape_count(run, ref), at = window * run->window;
    size_t w = have > at ? have - at < run->window ? have - at : run->window : 0;
    const struct rank_state *owner = &run->ranks[ref->rank];
    size_t lo = mdl_plan_part(w, owner->prog.p->parts, ref->lo), hi = mdl_plan_part(w, owner->prog.p->parts, ref->hi);
    *count = (hi - lo) * ref->slots;
    if (ref->buf != MDL_SCRATCH) {
        uint8_t *base = data_at(run->d, (int)ref->rank, ref->buf, ref->slot, at + lo);
        return *count ? base : NULL;
    }
    size_t size = ref->acc ? run->d->acc_size : run->d->size;
    return owner->scratch[window % run->s->depth] + ref->slot * run->slot_bytes + lo * size;
}

static size_t bytes_of(const struct run *run, const struct mdl_ref *ref, size_t count)
{
    return count * (ref->acc ? run->d->acc_size : run->d->size);
}

/* ---- what instructions do ---- */

static void do_copy(struct run *run, const struct ready *at, const struct mdl_inst *in, const struct mdl_ref *src)
{
    size_t n, m;
    uint8_t *from = locate(run, at->window, src, &n), *to = locate(run, at->window, &in->dst, &m);
    if (n != m)
        fail(run, "COPY of different sizes", at);
    else if (n && in->flags & MDL_INST_PREMUL)
        mdl_premul(run->s->c.dtype, to, from, run->d->ranks[at->rank].premul, n);
    else if (n)
        memmove(to, from, bytes_of(run, src, n));
}

static void do_reduce(struct run *run, const struct ready *at, const struct mdl_inst *in, const struct mdl_ref *srcs)
{
    const void *ptrs[MDL_REDUCE_MAX_SRC];
    uint64_t acc = 0;
    size_t n, m;
    void *to = locate(run, at->window, &in->dst, &n);
    if (in->nsrc > MDL_REDUCE_MAX_SRC) {
        fail(run, "REDUCE of too many sources", at);
        return;
    }
    for (uint32_t k = 0; k < in->nsrc; k++) {
        ptrs[k] = locate(run, at->window, &srcs[k], &m);
        acc |= (uint64_t)srcs[k].acc << k;
        if (m != n) fail(run, "REDUCE of different sizes", at);
    }
    struct mdl_reduce r = {.dtype = run->s->c.dtype,
                           .op = run->s->c.op == medleyAvg ? medleySum : run->s->c.op,
                           .tree = in->flags & MDL_INST_TREE,
                           .dst_acc = in->dst.acc,
                           .divisor = (uint32_t)run->s->team->nranks};
    if (in->flags & MDL_INST_FINAL && run->s->c.op == medleyAvg) r.finalize = MDL_FINAL_AVG;
    if (n && !run->failed) mdl_reduce(&r, to, ptrs, acc, (int)in->nsrc, n);
}

/* ---- what becomes ready ---- */

static void push(struct run *run, int rank, uint32_t window, uint32_t inst)
{
    if (run->nready == run->ready_cap) {
        run->ready_cap = run->ready_cap ? run->ready_cap * 2 : 64;
        run->ready = must(realloc(run->ready, run->ready_cap * sizeof(*run->ready)));
    }
    run->ready[run->nready++] = (struct ready){rank, window, inst};
}

static void unblock(struct run *run, const struct ready *at, uint32_t inst)
{
    if (--run->ranks[at->rank].left[at->window % run->s->depth][inst] == 0) push(run, at->rank, at->window, inst);
}

/* SCRATCH is someone else's from here on, unless there is one window: then the engine keeps it until all ranks are in
 * their next operation. */
static void window_end(struct run *run, int rank, uint32_t window);

static void window_start(struct run *run, int rank, uint32_t window)
{
    struct rank_state *st = &run->ranks[rank];
    const struct mdl_plan *p = st->prog.p;
    uint32_t place = window % run->s->depth;
    memcpy(st->left[place], st->prog.blockers, p->ninsts * sizeof(uint32_t));
    st->open[place] = p->ninsts;
    st->started = window + 1;
    for (uint32_t i = 0; i < p->ninsts; i++)
        if (!st->left[place][i]) push(run, rank, window, i);
    if (!p->ninsts) window_end(run, rank, window);
}

static void window_end(struct run *run, int rank, uint32_t window)
{
    struct rank_state *st = &run->ranks[rank];
    if (!(st->prog.p->flags & MDL_PLAN_WHOLE))
        memset(st->scratch[window % run->s->depth], DATA_POISON, run->scratch_bytes);
    if (++st->finished == run->windows) data_leave(run->d, rank);
    if (window + run->s->depth < run->windows) window_start(run, rank, window + run->s->depth);
}

static void done(struct run *run, const struct ready *at)
{
    struct rank_state *st = &run->ranks[at->rank];
    const struct program *g = &st->prog;
    for (uint32_t k = 0; k < g->nuser[at->inst]; k++) unblock(run, at, g->users[g->user[at->inst] + k]);
    if (--st->open[at->window % run->s->depth] == 0) window_end(run, at->rank, at->window);
}

/* ---- lanes ---- */

static struct lane *lane_of(const struct run *run, int from, int to, const struct ready *at, uint32_t channel)
{
    size_t n = (size_t)run->s->team->nranks;
    size_t pair = (size_t)from * n + (size_t)to;
    return &run->lanes[(pair * run->s->depth + at->window % run->s->depth) * run->channels + channel];
}

static void append(struct ready **list, uint32_t *n, const struct ready *at)
{
    *list = must(realloc(*list, (*n + 1) * sizeof(**list)));
    (*list)[(*n)++] = *at;
}

static void match(struct run *run, struct lane *lane)
{
    while (lane->taken < lane->nsent && lane->given < lane->nwanted) {
        struct message *m = &lane->sent[lane->taken++];
        struct ready to = lane->wanted[lane->given++];
        const struct mdl_ref *dst = &run->ranks[to.rank].prog.p->insts[to.inst].dst;
        size_t n;
        uint8_t *at = locate(run, to.window, dst, &n);
        if (bytes_of(run, dst, n) != m->len) {
            fail(run, "SEND and RECV differ in size", &to);
            return;
        }
        if (m->len) memcpy(at, m->bytes, m->len);
        struct ready from = m->from;
        bool eager = m->eager;
        if (eager) free(m->bytes);
        m->bytes = NULL;
        done(run, &to);
        if (!eager) done(run, &from);
    }
}

static void do_send(struct run *run, const struct ready *at, const struct mdl_inst *in, const struct mdl_ref *src)
{
    struct lane *lane = lane_of(run, at->rank, (int)in->peer, at, in->channel);
    size_t n;
    uint8_t *bytes = locate(run, at->window, src, &n);
    struct message m = {*at, bytes, bytes_of(run, src, n), sim_random(&run->random) % 2};
    if (m.eager) {
        m.bytes = must(malloc(m.len + 1));
        if (m.len) memcpy(m.bytes, bytes, m.len);
    }
    lane->sent = must(realloc(lane->sent, (lane->nsent + 1) * sizeof(m)));
    lane->sent[lane->nsent++] = m;
    if (m.eager) done(run, at);
    match(run, lane);
}

static void wake(struct run *run, struct lane *lane)
{
    while (lane->signals && lane->woken < lane->nwaiting) {
        struct ready at = lane->waiting[lane->woken++];
        lane->signals--;
        done(run, &at);
    }
}

static void execute(struct run *run, const struct ready *at)
{
    const struct program *g = &run->ranks[at->rank].prog;
    const struct mdl_inst *in = &g->p->insts[at->inst];
    const struct mdl_ref *srcs = g->p->refs + in->src;
    struct lane *to = is_lane_op(in) ? lane_of(run, at->rank, (int)in->peer, at, in->channel) : NULL;
    struct lane *from = to ? lane_of(run, (int)in->peer, at->rank, at, in->channel) : NULL;
    if (to && g->lane_next[at->inst] != UINT32_MAX) unblock(run, at, g->lane_next[at->inst]);
    switch (in->op) {
    case MDL_OP_COPY: do_copy(run, at, in, srcs), done(run, at); break;
    case MDL_OP_REDUCE: do_reduce(run, at, in, srcs), done(run, at); break;
    case MDL_OP_SEND: do_send(run, at, in, srcs); break;
    case MDL_OP_RECV: append(&from->wanted, &from->nwanted, at), match(run, from); break;
    case MDL_OP_SIGNAL: to->signals++, done(run, at), wake(run, to); break;
    case MDL_OP_WAIT: append(&from->waiting, &from->nwaiting, at), wake(run, from); break;
    default: fail(run, "unknown opcode", at);
    }
}

/* ---- the run ---- */

static void enter(struct run *run, int rank)
{
    run->ranks[rank].entered = true;
    if (!run->windows) data_leave(run->d, rank);
    for (uint32_t w = 0; w < run->s->depth && w < run->windows; w++) window_start(run, rank, w);
}

/* Ranks enter one by one, in a drawn order. Those that touch others' IN or OUT enter together: the engine has seen
 * everybody's published line by then. */
static void enter_some(struct run *run, uint32_t remote)
{
    int n = run->s->team->nranks, from = (int)(sim_random(&run->random) % (uint64_t)n);
    bool all = remote & (MDL_PLAN_REMOTE_IN | MDL_PLAN_REMOTE_OUT);
    for (int i = 0; i < n; i++) {
        int rank = (from + i) % n;
        if (run->ranks[rank].entered) continue;
        enter(run, rank);
        if (!all) return;
    }
}

static bool all_in(const struct run *run)
{
    for (int r = 0; r < run->s->team->nranks; r++)
        if (!run->ranks[r].entered) return false;
    return true;
}

static bool run_all(struct run *run, uint32_t remote)
{
    bool in = false;
    while (!run->failed) {
        if (!in && (!run->nready || sim_random(&run->random) % 64 == 0)) {
            enter_some(run, remote);
            in = all_in(run);
            continue;
        }
        if (!run->nready) break;
        size_t pick = sim_random(&run->random) % run->nready;
        struct ready at = run->ready[pick];
        run->ready[pick] = run->ready[--run->nready];
        execute(run, &at);
    }
    for (int r = 0; r < run->s->team->nranks && !run->failed; r++)
        if (run->ranks[r].finished != run->windows)
            fail(run, "deadlock: the window that this rank's first open one is",
                 &(struct ready){r, run->ranks[r].finished, 0});
    return !run->failed;
}

static uint32_t count_windows(const struct sim *s)
{
    size_t most = s->c.count, n = (size_t)s->team->nranks;
    if (s->c.coll == medleyCollBarrier) return 1;
    if (mdl_collective_is_v(&s->c))
        for (size_t i = 0; i < (s->c.coll == medleyCollAlltoAllV ? n * n : n); i++)
            if (s->counts[i] > most) most = s->counts[i];
    return (uint32_t)((most + s->window - 1) / s->window);
}

static void rank_init(struct run *run, int rank, const struct mdl_plan *p)
{
    struct rank_state *st = &run->ranks[rank];
    program_init(&st->prog, p);
    for (uint32_t w = 0; w < run->s->depth; w++) {
        st->left[w] = must(calloc(p->ninsts + 1u, sizeof(uint32_t)));
        st->scratch[w] = must(malloc(run->scratch_bytes + 1));
        memset(st->scratch[w], DATA_POISON, run->scratch_bytes);
    }
}

static void run_init(struct run *run, struct mdl_plan *const *plans, uint32_t *remote)
{
    size_t n = (size_t)run->s->team->nranks;
    uint32_t slots = 0;
    for (size_t r = 0; r < n; r++) {
        if (plans[r]->channels > run->channels) run->channels = plans[r]->channels;
        if (plans[r]->scratch_slots > slots) slots = plans[r]->scratch_slots;
        if (plans[r]->flags & MDL_PLAN_WHOLE) run->windows = run->windows > 1 ? 1 : run->windows;
        *remote |= plans[r]->flags;
    }
    if (*remote & MDL_PLAN_WHOLE) run->window = run->s->c.count;
    run->slot_bytes = run->window * (mdl_collective_reduces(&run->s->c) ? run->d->acc_size : run->d->size);
    run->scratch_bytes = slots * run->slot_bytes;
    run->channels = run->channels ? run->channels : 1;
    run->ranks = must(calloc(n, sizeof(*run->ranks)));
    run->lanes = must(calloc(n * n * run->s->depth * run->channels, sizeof(*run->lanes)));
    for (size_t r = 0; r < n; r++) rank_init(run, (int)r, plans[r]);
}

static void run_fini(struct run *run)
{
    size_t n = (size_t)run->s->team->nranks;
    for (size_t r = 0; r < n; r++) {
        program_fini(&run->ranks[r].prog);
        for (uint32_t w = 0; w < run->s->depth; w++) free(run->ranks[r].left[w]), free(run->ranks[r].scratch[w]);
    }
    for (size_t l = 0; l < n * n * run->s->depth * run->channels; l++) {
        struct lane *lane = &run->lanes[l];
        for (uint32_t m = lane->taken; m < lane->nsent; m++)
            if (lane->sent[m].eager) free(lane->sent[m].bytes);
        free(lane->sent), free(lane->wanted), free(lane->waiting);
    }
    free(run->lanes);
    free(run->ranks);
    free(run->ready);
}

bool sim_run_plans(const struct sim *s, struct mdl_plan *const *plans, char *why, size_t why_bytes)
{
    struct run run = {.s = s,
                      .d = data_new(s),
                      .windows = count_windows(s),
                      .window = s->window,
                      .random = s->seed,
                      .why = why,
                      .why_bytes = why_bytes};
    uint32_t remote = 0;
    run_init(&run, plans, &remote);
    bool ok = run_all(&run, remote) && data_check(run.d, why, why_bytes);
    run_fini(&run);
    data_free(run.d);
    return ok;
}

bool sim_run(const struct sim *s, const struct mdl_algo *algo, char *why, size_t why_bytes)
{
    int n = s->team->nranks;
    struct mdl_plan **plans = must(calloc((size_t)n, sizeof(*plans)));
    bool ok = true;
    for (int r = 0; r < n && ok; r++) {
        ok = mdl_algo_plan(algo, s->team, &s->c, r, &plans[r]) == medleySuccess;
        if (!ok) snprintf(why, why_bytes, "no plan for rank %d: %s", r, mdl_error_text());
    }
    ok = ok && sim_run_plans(s, plans, why, why_bytes);
    for (int r = 0; r < n; r++)
        if (plans[r]) mdl_plan_free(plans[r]);
    free(plans);
    return ok;
}
