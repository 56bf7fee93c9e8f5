/* SPDX-License-Identifier: Apache-2.0 */
/* What the algorithms share; see common.h. */
#include "config.h"
#include "lib/algo/common.h"

static void emit_alone(struct mdl_emit *e)
{
    if (e->c->coll == medleyCollBarrier) return;
    struct mdl_ref dst = mdl_out(e, 0, 0), src = mdl_in(e, 0, 0);
    if (!mdl_collective_reduces(e->c)) {
        mdl_build_copy(e->b, dst, src, 0);
        return;
    }
    mdl_leaf_prepare(e);
    src = mdl_leaf(e, 0);
    mdl_build_reduce(e->b, dst, &src, 1, MDL_INST_FINAL);
}

bool mdl_emit_begin(struct mdl_emit *e, const struct mdl_team *team, const struct mdl_collective *c, int rank,
                    struct mdl_builder *b, uint32_t parts)
{
    if (team->nranks == 1) parts = 1; /* as mdl_algo_plan does */
    *e = (struct mdl_emit){.team = team, .c = c, .b = b, .rank = rank, .n = team->nranks, .parts = parts};
    mdl_collective_slots(c, team->nranks, &e->in_slots, &e->out_slots);
    if (e->n > 1) return true;
    emit_alone(e);
    return false;
}

/* ---- references ---- */

struct mdl_ref mdl_in(const struct mdl_emit *e, int rank, uint32_t slot)
{
    struct mdl_ref r = mdl_ref_parts(rank, MDL_IN, false, slot, 0, e->parts);
    return mdl_ref_shaped(r, e->in_slots == 1 ? (uint32_t)rank : slot);
}

struct mdl_ref mdl_out(const struct mdl_emit *e, int rank, uint32_t slot)
{
    struct mdl_ref r = mdl_ref_parts(rank, MDL_OUT, false, slot, 0, e->parts);
    return mdl_ref_shaped(r, e->out_slots == 1 ? (uint32_t)rank : slot);
}

struct mdl_ref mdl_scratch(const struct mdl_emit *e, int rank, bool acc, uint32_t slot, uint32_t like)
{
    return mdl_ref_shaped(mdl_ref_parts(rank, MDL_SCRATCH, acc, slot, 0, e->parts), like);
}

uint32_t mdl_scratch_used(const struct mdl_emit *e) { return mdl_builder_scratch(e->b, 0); }

void mdl_scratch_fill(struct mdl_emit *e, uint32_t from, uint32_t slots)
{
    uint32_t used = mdl_scratch_used(e) - from;
    if (used < slots) mdl_builder_scratch(e->b, slots - used);
}

/* ---- reductions ---- */

void mdl_leaf_prepare(struct mdl_emit *e)
{
    if (!e->c->premul) return;
    e->leaf = mdl_builder_scratch(e->b, e->in_slots);
    for (uint32_t s = 0; s < e->in_slots; s++)
        mdl_build_copy(e->b, mdl_leaf(e, s), mdl_in(e, e->rank, s), MDL_INST_PREMUL);
}

struct mdl_ref mdl_leaf(const struct mdl_emit *e, uint32_t slot)
{
    struct mdl_ref in = mdl_in(e, e->rank, slot);
    return e->c->premul ? mdl_scratch(e, e->rank, true, e->leaf + slot, in.shape) : in;
}

static void reduce(struct mdl_emit *e, struct mdl_ref dst, uint32_t from, uint32_t n, mdl_source source,
                   const void *arg, uint32_t flags)
{
    struct mdl_ref srcs[MDL_REDUCE_MAX_SRC];
    for (uint32_t i = 0; i < n; i++) srcs[i] = source(e, from + i, arg);
    mdl_build_reduce(e->b, dst, srcs, n, flags);
}

/* Partials that a wide fold keeps between its steps: in SCRATCH slots from `slot` on, like its result. */
struct partials {
    struct mdl_ref like;
    uint32_t slot;
    mdl_source source; /* left fold: of what comes after the partial */
    const void *arg;
    uint32_t from;
};

static struct mdl_ref partial(const struct mdl_emit *e, uint32_t i, const void *arg)
{
    const struct partials *p = arg;
    return mdl_cut(mdl_scratch(e, e->rank, true, p->slot + i, p->like.shape), p->like.lo, p->like.hi);
}

static struct mdl_ref partial_first(const struct mdl_emit *e, uint32_t i, const void *arg)
{
    const struct partials *p = arg;
    return i == 0 ? partial(e, 0, arg) : p->source(e, p->from + i - 1, p->arg);
}

/* Groups of 64 = 2^6 consecutive sources, the last one shorter, are whole subtrees of the canonical tree over all, and
 * the canonical tree over the groups completes it. */
static void fold_tree(struct mdl_emit *e, struct mdl_ref dst, uint32_t n, mdl_source source, const void *arg,
                      uint32_t flags)
{
    const uint32_t most = MDL_REDUCE_MAX_SRC;
    uint32_t groups = (n + most - 1) / most;
    struct partials p = {.like = dst, .slot = mdl_builder_scratch(e->b, groups)};
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t left = n - g * most;
        reduce(e, partial(e, g, &p), g * most, left < most ? left : most, source, arg, MDL_INST_TREE);
    }
    mdl_fold(e, dst, groups, partial, &p, flags);
}

static void fold_left(struct mdl_emit *e, struct mdl_ref dst, uint32_t n, mdl_source source, const void *arg,
                      uint32_t flags)
{
    const uint32_t most = MDL_REDUCE_MAX_SRC;
    struct partials p = {.like = dst, .slot = mdl_builder_scratch(e->b, 1), .source = source, .arg = arg, .from = most};
    reduce(e, partial(e, 0, &p), 0, most, source, arg, 0);
    for (; n - p.from > most - 1; p.from += most - 1) reduce(e, partial(e, 0, &p), 0, most, partial_first, &p, 0);
    reduce(e, dst, 0, n - p.from + 1, partial_first, &p, flags);
}

uint32_t mdl_fold_slots(uint32_t n, uint32_t flags)
{
    if (n <= MDL_REDUCE_MAX_SRC) return 0;
    if (!(flags & MDL_INST_TREE)) return 1;
    uint32_t groups = (n + MDL_REDUCE_MAX_SRC - 1) / MDL_REDUCE_MAX_SRC;
    return groups + mdl_fold_slots(groups, flags);
}

void mdl_fold(struct mdl_emit *e, struct mdl_ref dst, uint32_t n, mdl_source source, const void *arg, uint32_t flags)
{
    if (n <= MDL_REDUCE_MAX_SRC)
        reduce(e, dst, 0, n, source, arg, flags);
    else if (flags & MDL_INST_TREE)
        fold_tree(e, dst, n, source, arg, flags);
    else
        fold_left(e, dst, n, source, arg, flags);
}

void mdl_fold2(struct mdl_emit *e, struct mdl_ref dst, struct mdl_ref a, struct mdl_ref b, uint32_t flags)
{
    struct mdl_ref srcs[2] = {a, b};
    mdl_build_reduce(e->b, dst, srcs, 2, flags);
}

/* ---- signals ---- */

enum { SMALL_HOST = 16 };

int mdl_host_peers(const struct mdl_emit *e) { return e->team->host_size[e->team->host[e->rank]] - 1; }

int mdl_host_peer(const struct mdl_emit *e, int i)
{
    int host = e->team->host[e->rank], size = e->team->host_size[host];
    return e->team->members[host][(e->team->local[e->rank] + i) % size];
}

bool mdl_host_is_small(const struct mdl_emit *e) { return mdl_host_peers(e) < SMALL_HOST; }

void mdl_host_say(struct mdl_emit *e)
{
    int peers = mdl_host_peers(e), size = peers + 1;
    for (int i = 1; i <= peers && mdl_host_is_small(e); i++) mdl_build_signal(e->b, mdl_host_peer(e, i), 0);
    for (int d = 1; d < size && !mdl_host_is_small(e); d *= 2) {
        mdl_build_signal(e->b, mdl_host_peer(e, d), 0);
        mdl_build_wait(e->b, mdl_host_peer(e, size - d), 0);
    }
}

uint32_t mdl_host_hear(struct mdl_emit *e, int q)
{
    return mdl_host_is_small(e) ? mdl_build_wait(e->b, q, 0) : MDL_NO_DEP;
}

void mdl_host_after(struct mdl_emit *e, uint32_t heard)
{
    if (heard != MDL_NO_DEP) mdl_build_after(e->b, heard);
}

void mdl_host_hear_all(struct mdl_emit *e)
{
    for (int i = 1; i <= mdl_host_peers(e); i++) mdl_host_hear(e, mdl_host_peer(e, i));
}

void mdl_host_sync(struct mdl_emit *e)
{
    mdl_host_say(e);
    mdl_host_hear_all(e);
}

/* A binomial tree over the host's ranks, numbered from the root on. */
struct host_tree {
    int v, size;
    int low; /* children are v + d for the powers d below it */
};

static struct host_tree host_tree(const struct mdl_emit *e, int root)
{
    struct host_tree t = {.size = mdl_host_peers(e) + 1, .low = 1};
    t.v = (e->team->local[e->rank] - e->team->local[root] + t.size) % t.size;
    while (t.low < t.size && !(t.v & t.low)) t.low *= 2;
    return t;
}

static int tree_rank(const struct mdl_emit *e, const struct host_tree *t, int v)
{
    return v == t->v ? e->rank : mdl_host_peer(e, (v - t->v + t->size) % t->size);
}

void mdl_host_to_root(struct mdl_emit *e, int root)
{
    if (mdl_host_is_small(e)) {
        if (e->rank != root) mdl_build_signal(e->b, root, 0);
        return;
    }
    struct host_tree t = host_tree(e, root);
    for (int d = 1; d < t.low && t.v + d < t.size; d *= 2) mdl_build_wait(e->b, tree_rank(e, &t, t.v + d), 0);
    if (t.v) mdl_build_signal(e->b, tree_rank(e, &t, t.v - t.low), 0);
}

void mdl_host_from_root(struct mdl_emit *e, int root)
{
    struct host_tree t = host_tree(e, root);
    if (mdl_host_is_small(e)) {
        for (int i = 1; i <= mdl_host_peers(e) && !t.v; i++) mdl_build_signal(e->b, mdl_host_peer(e, i), 0);
        if (t.v) mdl_build_wait(e->b, root, 0);
        return;
    }
    if (t.v) mdl_build_wait(e->b, tree_rank(e, &t, t.v - t.low), 0);
    for (int d = t.low / 2; d; d /= 2)
        if (t.v + d < t.size) mdl_build_signal(e->b, tree_rank(e, &t, t.v + d), 0);
}

static bool near(const struct mdl_emit *e, int peer)
{
    return e->team->remote_scratch && e->team->host[peer] == e->team->host[e->rank];
}

void mdl_tell(struct mdl_emit *e, int to, const uint32_t *heard, uint32_t nheard)
{
    for (uint32_t i = 0; i < nheard; i++) mdl_build_after(e->b, heard[i]);
    if (near(e, to))
        mdl_build_signal(e->b, to, 0);
    else
        mdl_build_send(e->b, to, 0, mdl_scratch(e, e->rank, false, mdl_builder_scratch(e->b, 1), 0));
}

uint32_t mdl_hear(struct mdl_emit *e, int from)
{
    if (near(e, from)) return mdl_build_wait(e->b, from, 0);
    return mdl_build_recv(e->b, from, 0, mdl_scratch(e, e->rank, false, mdl_builder_scratch(e->b, 1), 0));
}

/* ---- order ---- */

static bool in_rank_order(const struct mdl_emit *e)
{
    return e->c->deterministic || e->team->nhosts == 1 || e->team->nhosts == e->n;
}

int mdl_order_position(const struct mdl_emit *e, int rank)
{
    if (in_rank_order(e)) return rank;
    int before = e->team->local[rank];
    for (int h = 0; h < e->team->host[rank]; h++) before += e->team->host_size[h];
    return before;
}

int mdl_order_rank(const struct mdl_emit *e, int position)
{
    if (in_rank_order(e)) return position;
    int host = 0;
    while (position >= e->team->host_size[host]) position -= e->team->host_size[host++];
    return e->team->members[host][position];
}

static int all_rank(const struct mdl_emit *e, int position, const void *arg) { return mdl_order_rank(e, position); }
static bool all_partial(const struct mdl_emit *e, int position, const void *arg) { return mdl_leaf_acc(e); }

struct mdl_line mdl_line_all(const struct mdl_emit *e)
{
    return (struct mdl_line){e->n, mdl_order_position(e, e->rank), all_rank, all_partial, NULL};
}

bool mdl_team_contiguous(const struct mdl_team *team)
{
    for (int r = 1; r < team->nranks; r++)
        if (team->host[r] < team->host[r - 1]) return false;
    return true;
}

int mdl_team_largest_host(const struct mdl_team *team)
{
    int largest = 0;
    for (int h = 0; h < team->nhosts; h++)
        if (team->host_size[h] > largest) largest = team->host_size[h];
    return largest;
}

int mdl_power_below(int n)
{
    int p = 1;
    while (p <= n / 2) p *= 2;
    return p;
}
