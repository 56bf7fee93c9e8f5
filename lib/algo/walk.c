/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk behind a prediction; see cost.h.
 *
 * Instructions become ready when their dependencies are done and, for RECV and WAIT, what they wait for has come; they
 * are taken in the order of that time. Work occupies the rank and one of the host's cores. A message between hosts
 * occupies a link out of the one and into the other, a message within a host both ranks: they copy it in and out.
 */
#include "config.h"
#include "lib/algo/cost.h"
#include <stdlib.h>
#include <string.h>

enum {
    MOST_SERVERS = 8,      /* cores or links of a host that are told apart */
    STEP_PS = 40000,       /* any instruction: what the executor spends on it */
    SYSCALL_PS = 2000000,  /* single copy: entering the kernel, and finding and pinning the pages */
    MATCH_PS = 1000000,    /* a message within the host, at each end: to be matched, granted and acknowledged */
    MESSAGE_CPU_SHARE = 4, /* of a message's latency this fraction is work, at each end */
};

/* A few equal servers: cores or links. */
struct servers {
    uint32_t n;
    uint64_t scale_num, scale_den; /* jobs take this much longer: ranks outside the sample use them too */
    uint64_t busy, free_at[MOST_SERVERS];
};

struct event {
    uint64_t at;
    uint32_t inst;
};

struct rank_use {
    uint64_t free, busy, first, last; /* first, last: from the first thing that it can do to its end */
};

struct host_use {
    struct servers cores, out, in;
};

struct walk {
    const struct mdl_cost *cost;
    size_t w; /* elements in this window */
    size_t size, acc_size;
    uint32_t *left;  /* [instruction] what it still waits for */
    uint64_t *ready; /* [instruction] the latest of what came */
    struct event *heap;
    uint32_t nheap, ndone;
    struct rank_use *ranks;
    struct host_use *hosts;
    uint64_t end;
};

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---- servers ---- */

static void servers_init(struct servers *s, uint32_t n, uint32_t sampled, uint32_t all)
{
    uint32_t share = (uint32_t)((uint64_t)n * sampled / all); /* those that the sample has for itself */
    s->n = share < 1 ? 1 : share > MOST_SERVERS ? MOST_SERVERS : share;
    s->scale_num = share < 1 ? all : 1;
    s->scale_den = share < 1 ? (uint64_t)n * sampled : 1;
}

/* The server that was free last when the job comes, so that one that comes later finds the others; else the one that is
 * free first. */
static uint32_t pick_server(const struct servers *s, uint64_t at)
{
    uint32_t pick = 0;
    for (uint32_t i = 1; i < s->n; i++) {
        uint64_t a = s->free_at[i], b = s->free_at[pick];
        if (a <= at ? b > at || a > b : b > at && a < b) pick = i;
    }
    return pick;
}

/* A job that is ready at `at`; returns when it starts, and how long it takes. */
static uint64_t serve(struct servers *s, uint64_t at, uint64_t *duration)
{
    uint32_t pick = pick_server(s, at);
    *duration = *duration * s->scale_num / s->scale_den;
    uint64_t start = later(at, s->free_at[pick]);
    s->free_at[pick] = start + *duration;
    s->busy += *duration;
    return start;
}

/* Work of sampled rank s; returns its end. */
static uint64_t work(struct walk *k, uint32_t s, uint64_t at, uint64_t duration)
{
    uint64_t start = serve(&k->hosts[k->cost->host[s]].cores, later(at, k->ranks[s].free), &duration);
    k->ranks[s].free = start + duration;
    k->ranks[s].busy += duration;
    return start + duration;
}

/* ---- events ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->inst < b->inst);
}

static void push(struct walk *k, uint32_t inst)
{
    struct event e = {k->ready[inst], inst};
    uint32_t i = k->nheap++;
    for (; i && before(&e, &k->heap[(i - 1) / 2]); i = (i - 1) / 2) k->heap[i] = k->heap[(i - 1) / 2];
    k->heap[i] = e;
}

static uint32_t pop(struct walk *k)
{
    uint32_t inst = k->heap[0].inst, i = 0;
    struct event last = k->heap[--k->nheap];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= k->nheap) break;
        if (child + 1 < k->nheap && before(&k->heap[child + 1], &k->heap[child])) child++;
        if (!before(&k->heap[child], &last)) break;
        k->heap[i] = k->heap[child];
        i = child;
    }
    k->heap[i] = last;
    return inst;
}

static void come(struct walk *k, uint32_t inst, uint64_t at)
{
    k->ready[inst] = later(k->ready[inst], at);
    if (--k->left[inst] == 0) push(k, inst);
}

static void done(struct walk *k, uint32_t s, uint32_t inst, uint64_t at)
{
    k->ranks[s].last = later(k->ranks[s].last, at);
    k->end = later(k->end, at);
    k->ndone++;
    for (uint32_t u = k->cost->user[inst]; u < k->cost->user[inst + 1]; u++) come(k, k->cost->users[u], at);
}

/* ---- instructions ---- */

static uint64_t bytes_of(const struct walk *k, const struct mdl_plan *p, const struct mdl_ref *ref)
{
    size_t n = mdl_plan_part(k->w, p->parts, ref->hi) - mdl_plan_part(k->w, p->parts, ref->lo);
    return (uint64_t)n * ref->slots * (ref->acc ? k->acc_size : k->size);
}

/* Picoseconds to bring the bytes of another rank's user memory here, on top of using them. */
static uint64_t fetch_time(const struct walk *k, const struct mdl_plan *p, uint32_t s, const struct mdl_ref *ref)
{
    const struct mdl_facts *f = &k->cost->c.facts;
    if (ref->rank == (uint32_t)k->cost->rank[s] || ref->buf == MDL_SCRATCH) return 0;
    if (ref->buf == MDL_IN ? f->in_mapped : f->out_mapped) return 0;
    return SYSCALL_PS + bytes_of(k, p, ref) * k->cost->team->get_beta;
}

static uint64_t copy_time(const struct walk *k, const struct mdl_plan *p, uint32_t s, const struct mdl_inst *in)
{
    const struct mdl_ref *src = &p->refs[in->src];
    uint64_t get = fetch_time(k, p, s, src);
    bool itself =
        k->cost->c.facts.in_place && in->dst.buf == MDL_OUT && src->buf == MDL_IN && in->dst.rank == src->rank;
    if (itself && !in->flags) return 0;
    return STEP_PS + (get ? get : bytes_of(k, p, src) * k->cost->team->copy_beta);
}

static uint64_t reduce_time(const struct walk *k, const struct mdl_plan *p, uint32_t s, const struct mdl_inst *in)
{
    uint64_t time = STEP_PS;
    for (uint32_t i = 0; i < in->nsrc; i++) {
        const struct mdl_ref *src = &p->refs[in->src + i];
        time += fetch_time(k, p, s, src) + bytes_of(k, p, src) * k->cost->team->reduce_beta;
    }
    return time;
}

static bool crosses(const struct walk *k, uint32_t s, const struct mdl_inst *in)
{
    const int *host = k->cost->team->host;
    return host[in->peer] != host[k->cost->rank[s]];
}

static uint64_t latency(const struct walk *k, bool cross)
{
    return 1000u * (uint64_t)(cross ? k->cost->team->net_alpha : k->cost->team->local_alpha);
}

static void feed(struct walk *k, uint32_t inst, uint64_t at)
{
    if (k->cost->feeds[inst] != MDL_COST_NONE) come(k, k->cost->feeds[inst], at);
    if (k->cost->mirror[inst] != MDL_COST_NONE) come(k, k->cost->mirror[inst], at);
}

/* The time of one end of a message: it occupies the rank, and the link if there is one. */
static uint64_t message(struct walk *k, uint32_t s, const struct mdl_inst *in, const struct mdl_ref *ref,
                        struct servers *links, uint64_t at, uint64_t *start)
{
    const struct mdl_team *t = k->cost->team;
    bool cross = crosses(k, s, in);
    uint64_t bytes = bytes_of(k, k->cost->plan[s], ref), cpu = STEP_PS + latency(k, cross) / MESSAGE_CPU_SHARE;
    if (!cross) {
        uint64_t end = work(k, s, at, cpu + MATCH_PS + bytes * t->local_beta);
        *start = end - bytes * t->local_beta;
        return end;
    }
    uint64_t duration = bytes * t->net_beta;
    *start = serve(links, work(k, s, at, cpu), &duration);
    return *start + duration;
}

static void execute(struct walk *k, uint32_t s, uint32_t inst)
{
    const struct mdl_plan *p = k->cost->plan[s];
    const struct mdl_inst *in = &p->insts[inst - k->cost->first[s]];
    uint64_t at = k->ready[inst], start;
    switch (in->op) {
    case MDL_OP_COPY: at = work(k, s, at, copy_time(k, p, s, in)); break;
    case MDL_OP_REDUCE: at = work(k, s, at, reduce_time(k, p, s, in)); break;
    case MDL_OP_SEND:
        at = message(k, s, in, &p->refs[in->src], &k->hosts[k->cost->host[s]].out, at, &start);
        feed(k, inst, start + latency(k, crosses(k, s, in)));
        break;
    case MDL_OP_RECV: at = message(k, s, in, &in->dst, &k->hosts[k->cost->host[s]].in, at, &start); break;
    case MDL_OP_SIGNAL:
        at = work(k, s, at, STEP_PS);
        feed(k, inst, at + latency(k, false));
        break;
    default: at = work(k, s, at, STEP_PS); break; /* WAIT */
    }
    if (k->ranks[s].first > k->ready[inst]) k->ranks[s].first = k->ready[inst];
    done(k, s, inst, at);
}

static uint32_t sample_of(const struct mdl_cost *cost, uint32_t inst)
{
    uint32_t lo = 0, hi = cost->nranks;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (cost->first[mid] <= inst)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Nothing moves: what stands for an own send waits for it in a circle, as in a tree. Then those peers are taken to be
 * as far as this rank. */
static bool unblock(struct walk *k)
{
    const struct mdl_cost *cost = k->cost;
    uint32_t total = cost->first[cost->nranks], found = MDL_COST_NONE;
    for (uint32_t i = 0; i < total; i++) {
        uint32_t to = cost->mirror[i];
        if (to == MDL_COST_NONE || k->left[i] == 0 || k->left[to] != 1) continue;
        if (found == MDL_COST_NONE || k->ready[to] < k->ready[found]) found = to;
    }
    if (found == MDL_COST_NONE) return false;
    uint32_t s = sample_of(cost, found);
    k->left[found] = 0;
    k->ready[found] += latency(k, crosses(k, s, &cost->plan[s]->insts[found - cost->first[s]]));
    push(k, found);
    return true;
}

static void start_all(struct walk *k)
{
    const struct mdl_cost *cost = k->cost;
    for (uint32_t s = 0; s < cost->nranks; s++) k->ranks[s].first = UINT64_MAX;
    for (uint32_t s = 0; s < cost->nranks; s++)
        for (uint32_t i = cost->first[s]; i < cost->first[s + 1]; i++) {
            k->left[i] = cost->plan[s]->insts[i - cost->first[s]].ndep + cost->fed[i];
            if (!k->left[i]) push(k, i);
        }
    for (uint32_t h = 0; h < cost->hosts; h++) {
        uint32_t sampled = cost->at[h].sampled, all = cost->at[h].size;
        servers_init(&k->hosts[h].cores, cost->team->cores ? cost->team->cores : 1, sampled, all);
        servers_init(&k->hosts[h].out, cost->team->rails ? cost->team->rails : 1, cost->alike ? sampled : 1,
                     cost->alike ? all : 1);
        k->hosts[h].in = k->hosts[h].out;
    }
}

/* The least time between two windows: what they share is busy with one, and a rank has `depth` of them open. */
static uint64_t interval(const struct walk *k, uint32_t depth)
{
    uint64_t least = 0;
    for (uint32_t s = 0; s < k->cost->nranks; s++) {
        const struct rank_use *r = &k->ranks[s];
        least = later(least, later(r->busy, r->last > r->first ? (r->last - r->first) / depth : 0));
    }
    for (uint32_t h = 0; h < k->cost->hosts; h++) {
        const struct host_use *u = &k->hosts[h];
        least = later(least, u->cores.busy / u->cores.n);
        least = later(least, later(u->out.busy / u->out.n, u->in.busy / u->in.n));
    }
    return least;
}

static void walk_all(struct walk *k)
{
    start_all(k);
    do
        while (k->nheap) {
            uint32_t inst = pop(k);
            execute(k, sample_of(k->cost, inst), inst);
        }
    while (k->ndone < k->cost->first[k->cost->nranks] && unblock(k));
}

uint64_t mdl_cost_walk(const struct mdl_cost *cost, size_t window, uint32_t depth)
{
    size_t total = cost->first[cost->nranks] + 1u, count = cost->c.count, w = window < count ? window : count;
    struct walk k = {.cost = cost,
                     .w = w,
                     .size = mdl_dtype_size(cost->c.dtype),
                     .acc_size = mdl_dtype_acc_size(cost->c.dtype),
                     .left = calloc(total, sizeof(*k.left)),
                     .ready = calloc(total, sizeof(*k.ready)),
                     .heap = malloc(total * sizeof(*k.heap)),
                     .ranks = calloc(cost->nranks, sizeof(*k.ranks)),
                     .hosts = calloc(cost->hosts, sizeof(*k.hosts))};
    uint64_t time = UINT64_MAX, windows = w ? (count + w - 1) / w : 1;
    if (k.left && k.ready && k.heap && k.ranks && k.hosts) {
        walk_all(&k);
        time = (k.end + (windows - 1) * interval(&k, depth ? depth : 1)) / 1000;
    }
    free(k.left);
    free(k.ready);
    free(k.heap);
    free(k.ranks);
    free(k.hosts);
    return time;
}

uint64_t mdl_plan_cost(const struct mdl_team *team, const struct mdl_collective *c, const struct mdl_algo *algo,
                       size_t window, uint32_t depth)
{
    struct mdl_cost *cost = mdl_cost_new(team, c, algo);
    if (!cost) return UINT64_MAX;
    if (cost->flags & MDL_PLAN_WHOLE) window = SIZE_MAX;
    uint64_t time = mdl_cost_walk(cost, window, depth);
    mdl_cost_free(cost);
    return time;
}
