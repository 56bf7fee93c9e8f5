/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dbtree: two binary trees, each for half of the data, in which (almost) no rank has children in both, so that every
 * rank sends and receives about as much as in a chain, in log2(n) steps.
 *
 * The first tree has nodes 1 .. m in order: a node's level is its lowest set bit, so odd nodes are leaves. The second
 * is the first one mirrored if m is even, shifted by one if it is odd: leaves become inner nodes. All-reduce goes up
 * and down both; their roots differ. Broadcast and reduce have the trees over all ranks but the root, which feeds both
 * trees' roots, or collects from them.
 */
#include "config.h"
#include "lib/algo/common.h"

enum { TREES = 2, NODE_SLOTS = 3 /* two children and the sum */ };

struct links {
    int up, left, right; /* nodes, 0: none */
};

/* The ranks that the trees are over: m of them from position `first` on. */
struct span {
    int first, m;
};

static bool fits(const struct mdl_team *team, const struct mdl_collective *c)
{
    return team->nranks == 1 || !c->deterministic || !mdl_collective_reduces(c);
}

static uint32_t parts(const struct mdl_team *team, const struct mdl_collective *c) { return TREES; }

static struct links links_of(int m, int node)
{
    int bit = node & -node, top = mdl_power_below(m);
    struct links l = {.left = bit > 1 ? node - bit / 2 : 0};
    for (int step = bit / 2; step && !l.right; step /= 2)
        if (node + step <= m) l.right = node + step;
    if (node == top) return l;
    l.up = (node & ~bit) | bit * 2;
    while (l.up > m) { /* that parent is missing: its own takes over */
        int missing = l.up & -l.up;
        l.up = (l.up & ~missing) | missing * 2;
    }
    if (l.up == node) l.up = 0;
    return l;
}

static bool is_leaf(int node) { return node & 1; }

static int node_of(const struct span *s, int tree, int index)
{
    if (tree == 0) return index + 1;
    return s->m % 2 ? (index + 1) % s->m + 1 : s->m - index;
}

static int rank_of(const struct mdl_emit *e, const struct span *s, int tree, int node)
{
    int index = tree == 0 ? node - 1 : s->m % 2 ? (node - 2 + s->m) % s->m : s->m - node;
    return mdl_order_rank(e, (s->first + index) % e->n);
}

static struct mdl_ref half(struct mdl_ref r, int tree) { return mdl_cut(r, (uint32_t)tree, (uint32_t)tree + 1); }

/* One tree as one rank sees it. */
struct view {
    int tree, node, root; /* root: the node */
    struct links l;
};

static struct view view_of(const struct mdl_emit *e, const struct span *s, int tree)
{
    int index = (mdl_order_position(e, e->rank) - s->first + e->n) % e->n;
    int node = node_of(s, tree, index);
    return (struct view){tree, node, mdl_power_below(s->m), links_of(s->m, node)};
}

static struct mdl_ref hear_child(struct mdl_emit *e, const struct span *s, const struct view *v, int child)
{
    bool acc = !is_leaf(child) || mdl_leaf_acc(e);
    struct mdl_ref got = half(mdl_scratch(e, e->rank, acc, mdl_builder_scratch(e->b, 1), 0), v->tree);
    mdl_build_recv(e->b, rank_of(e, s, v->tree, child), (uint32_t)v->tree, got);
    return got;
}

/* Folds what comes from below with the own input, in the order of positions; sends it up, or, at the tree's root,
 * leaves it final in OUT or sends it as partial to rank `to`. */
static void up(struct mdl_emit *e, const struct span *s, const struct view *v, int to)
{
    int lower = v->tree && s->m % 2 == 0 ? v->l.right : v->l.left, upper = v->l.left ^ v->l.right ^ lower;
    struct mdl_ref have[3], sum = half(mdl_leaf(e, 0), v->tree);
    uint32_t n = 0;
    if (lower) have[n++] = hear_child(e, s, v, lower);
    have[n++] = sum;
    if (upper) have[n++] = hear_child(e, s, v, upper);
    bool end = !v->l.up && to < 0;
    if (end)
        sum = half(mdl_out(e, e->rank, 0), v->tree);
    else if (n > 1)
        sum = half(mdl_scratch(e, e->rank, true, mdl_builder_scratch(e->b, 1), 0), v->tree);
    if (end || n > 1) mdl_build_reduce(e->b, sum, have, n, end ? MDL_INST_FINAL : 0);
    if (!end) mdl_build_send(e->b, v->l.up ? rank_of(e, s, v->tree, v->l.up) : to, (uint32_t)v->tree, sum);
}

/* OUT comes from above, at the tree's root from rank `from`, and goes to the children. */
static void down(struct mdl_emit *e, const struct span *s, const struct view *v, int from)
{
    struct mdl_ref out = half(mdl_out(e, e->rank, 0), v->tree);
    uint32_t channel = (uint32_t)v->tree;
    if (v->l.up) from = rank_of(e, s, v->tree, v->l.up);
    if (from >= 0) mdl_build_recv(e->b, from, channel, out);
    if (v->l.left) mdl_build_send(e->b, rank_of(e, s, v->tree, v->l.left), channel, out);
    if (v->l.right) mdl_build_send(e->b, rank_of(e, s, v->tree, v->l.right), channel, out);
}

static void allreduce(struct mdl_emit *e)
{
    struct span s = {0, e->n};
    struct view v[TREES] = {view_of(e, &s, 0), view_of(e, &s, 1)};
    for (int t = 0; t < TREES; t++) up(e, &s, &v[t], -1);
    for (int t = 0; t < TREES; t++) down(e, &s, &v[t], -1);
}

static void broadcast_root(struct mdl_emit *e, const struct span *s)
{
    struct mdl_ref in = mdl_in(e, e->rank, 0);
    for (int t = 0; t < TREES; t++)
        mdl_build_send(e->b, rank_of(e, s, t, mdl_power_below(s->m)), (uint32_t)t, half(in, t));
    mdl_build_copy(e->b, mdl_out(e, e->rank, 0), in, 0);
}

static void reduce_root(struct mdl_emit *e, const struct span *s)
{
    for (int t = 0; t < TREES; t++) {
        bool acc = s->m > 1 || mdl_leaf_acc(e);
        struct mdl_ref got = half(mdl_scratch(e, e->rank, acc, mdl_builder_scratch(e->b, 1), 0), t);
        mdl_build_recv(e->b, rank_of(e, s, t, mdl_power_below(s->m)), (uint32_t)t, got);
        mdl_fold2(e, half(mdl_out(e, e->rank, 0), t), half(mdl_leaf(e, 0), t), got, MDL_INST_FINAL);
    }
}

static void rooted(struct mdl_emit *e)
{
    int root = e->c->root;
    struct span s = {(mdl_order_position(e, root) + 1) % e->n, e->n - 1};
    bool reduce = e->c->coll == medleyCollReduce;
    if (e->rank == root) {
        reduce ? reduce_root(e, &s) : broadcast_root(e, &s);
        return;
    }
    for (int t = 0; t < TREES; t++) {
        struct view v = view_of(e, &s, t);
        reduce ? up(e, &s, &v, root) : down(e, &s, &v, root);
    }
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, parts(team, c))) return;
    mdl_leaf_prepare(&e);
    uint32_t from = mdl_scratch_used(&e);
    c->coll == medleyCollAllReduce ? allreduce(&e) : rooted(&e);
    if (mdl_collective_reduces(c)) mdl_scratch_fill(&e, from, TREES * NODE_SLOTS);
}

const struct mdl_algo mdl_algo_dbtree = {
    .name = "dbtree",
    .colls = MDL_COLL(AllReduce) | MDL_COLL(Broadcast) | MDL_COLL(Reduce),
    .fits = fits,
    .build = build,
    .parts = parts,
};
