/* SPDX-License-Identifier: Apache-2.0 */
/*
 * binomial: trees of depth log2(n). Numbered from the root on, node v has the children v + 1, v + 2, v + 4 ... below
 * its lowest set bit, and the subtree of child v + k is the up to k nodes from there on.
 *
 * Reduce folds what a node has and what its children send in one pass, in the order of numbers. With the root at rank 0
 * that is the canonical tree for any n; deterministic calls collect there and send the result to the root. Gather and
 * scatter move whole subtrees, packed, so that the root has log2(n) messages: for small ones.
 */
#include "config.h"
#include "lib/algo/common.h"

enum { MOST_CHILDREN = 32 };

struct node {
    int v, n;
    int children; /* child k is v + 2^k */
    int first;    /* position of v = 0; ranks are numbered in the order of positions */
};

static bool fits(const struct mdl_team *team, const struct mdl_collective *c) { return true; }

static struct node node_of(const struct mdl_emit *e, int at, int first)
{
    struct node t = {.v = (at - first + e->n) % e->n, .n = e->n, .first = first};
    while (t.v + (1 << t.children) < e->n && !(t.v >> t.children & 1)) t.children++;
    return t;
}

static int child(const struct node *t, int k) { return t->v + (1 << k); }
static int parent(const struct node *t) { return t->v & (t->v - 1); }
static int subtree(const struct node *t, int v, int k) { return 1 << k < t->n - v ? 1 << k : t->n - v; }

static int ordered_rank(const struct mdl_emit *e, const struct node *t, int v)
{
    return mdl_order_rank(e, (v + t->first) % t->n);
}

static void broadcast(struct mdl_emit *e)
{
    struct node t = node_of(e, mdl_order_position(e, e->rank), mdl_order_position(e, e->c->root));
    struct mdl_ref out = mdl_out(e, e->rank, 0), have = t.v ? out : mdl_in(e, e->rank, 0);
    if (t.v) mdl_build_recv(e->b, ordered_rank(e, &t, parent(&t)), 0, out);
    for (int k = t.children; k--;) mdl_build_send(e->b, ordered_rank(e, &t, child(&t, k)), 0, have);
    if (!t.v) mdl_build_copy(e->b, out, have, 0);
}

/* The node's own input and what its children sent, in `have`; returns how many. */
static uint32_t collect(struct mdl_emit *e, const struct node *t, struct mdl_ref *have)
{
    uint32_t n = 0;
    have[n++] = mdl_leaf(e, 0);
    for (int k = 0; k < t->children; k++) {
        bool acc = subtree(t, child(t, k), k) > 1 || mdl_leaf_acc(e);
        have[n] = mdl_scratch(e, e->rank, acc, mdl_builder_scratch(e->b, 1), 0);
        mdl_build_recv(e->b, ordered_rank(e, t, child(t, k)), 0, have[n++]);
    }
    return n;
}

static uint32_t most_children(int n)
{
    uint32_t k = 0;
    while (1 << k < n) k++;
    return k;
}

static void reduce(struct mdl_emit *e)
{
    uint32_t from = mdl_scratch_used(e);
    int root = e->c->root, end = e->c->deterministic ? 0 : root;
    struct node t = node_of(e, mdl_order_position(e, e->rank), mdl_order_position(e, end));
    struct mdl_ref have[MOST_CHILDREN + 1];
    uint32_t n = collect(e, &t, have);
    if (t.v) {
        struct mdl_ref sum = have[0];
        if (n > 1) {
            sum = mdl_scratch(e, e->rank, true, mdl_builder_scratch(e->b, 1), 0);
            mdl_build_reduce(e->b, sum, have, n, 0);
        }
        mdl_build_send(e->b, ordered_rank(e, &t, parent(&t)), 0, sum);
    } else {
        struct mdl_ref to = mdl_out(e, root, 0);
        if (end != root) to = mdl_scratch(e, e->rank, false, mdl_builder_scratch(e->b, 1), 0);
        mdl_build_reduce(e->b, to, have, n, MDL_INST_FINAL);
        if (end != root) mdl_build_send(e->b, root, 0, to);
    }
    if (e->rank == root && end != root) mdl_build_recv(e->b, end, 0, mdl_out(e, root, 0));
    mdl_scratch_fill(e, from, most_children(e->n) + 1);
}

/* ---- packed subtrees: node v is rank root + v, so that they are consecutive slots at the root, but for the wrap ----
 */

static struct mdl_ref packed(const struct mdl_emit *e, int slot, int slots)
{
    return mdl_ref_slots(e->b, e->rank, MDL_SCRATCH, false, (uint32_t)slot, (uint32_t)slots);
}

static struct mdl_ref user(const struct mdl_emit *e, enum mdl_buffer buf, int slot, int slots)
{
    return mdl_ref_slots(e->b, e->rank, buf, false, (uint32_t)slot, (uint32_t)slots);
}

static int rank_at(const struct mdl_emit *e, int v) { return (e->c->root + v) % e->n; }

/* Slots of nodes v .. v + size at the root: one run or two. Returns the length of the first. */
static int run_length(const struct mdl_emit *e, int v, int size)
{
    int left = e->n - rank_at(e, v);
    return size < left ? size : left;
}

static void gather_root(struct mdl_emit *e, const struct node *t)
{
    mdl_build_copy(e->b, mdl_out(e, e->rank, (uint32_t)e->rank), mdl_in(e, e->rank, 0), 0);
    for (int k = 0; k < t->children; k++) {
        int v = child(t, k), size = subtree(t, v, k), run = run_length(e, v, size);
        if (run == size) {
            mdl_build_recv(e->b, rank_at(e, v), 0, user(e, MDL_OUT, rank_at(e, v), size));
            continue;
        }
        mdl_build_recv(e->b, rank_at(e, v), 0, packed(e, v, size));
        mdl_build_copy(e->b, user(e, MDL_OUT, rank_at(e, v), run), packed(e, v, run), 0);
        mdl_build_copy(e->b, user(e, MDL_OUT, 0, size - run), packed(e, v + run, size - run), 0);
    }
}

static void gather(struct mdl_emit *e)
{
    struct node t = node_of(e, e->rank, e->c->root);
    mdl_builder_whole(e->b);
    mdl_builder_scratch(e->b, (uint32_t)e->n);
    if (!t.v) {
        gather_root(e, &t);
        return;
    }
    int up = rank_at(e, parent(&t)), size = 1;
    if (t.children) mdl_build_copy(e->b, packed(e, 0, 1), mdl_in(e, e->rank, 0), 0);
    for (int k = 0; k < t.children; k++) {
        int add = subtree(&t, child(&t, k), k);
        mdl_build_recv(e->b, rank_at(e, child(&t, k)), 0, packed(e, size, add));
        size += add;
    }
    mdl_build_send(e->b, up, 0, t.children ? packed(e, 0, size) : mdl_in(e, e->rank, 0));
}

static void scatter_root(struct mdl_emit *e, const struct node *t)
{
    for (int k = t->children; k--;) {
        int v = child(t, k), size = subtree(t, v, k), run = run_length(e, v, size);
        if (run == size) {
            mdl_build_send(e->b, rank_at(e, v), 0, user(e, MDL_IN, rank_at(e, v), size));
            continue;
        }
        mdl_build_copy(e->b, packed(e, v, run), user(e, MDL_IN, rank_at(e, v), run), 0);
        mdl_build_copy(e->b, packed(e, v + run, size - run), user(e, MDL_IN, 0, size - run), 0);
        mdl_build_send(e->b, rank_at(e, v), 0, packed(e, v, size));
    }
    mdl_build_copy(e->b, mdl_out(e, e->rank, 0), mdl_in(e, e->rank, (uint32_t)e->rank), 0);
}

static void scatter(struct mdl_emit *e)
{
    struct node t = node_of(e, e->rank, e->c->root);
    mdl_builder_whole(e->b);
    mdl_builder_scratch(e->b, (uint32_t)e->n);
    if (!t.v) {
        scatter_root(e, &t);
        return;
    }
    int up = rank_at(e, parent(&t)), size = 1;
    for (int k = 0; k < t.children; k++) size += subtree(&t, child(&t, k), k);
    mdl_build_recv(e->b, up, 0, t.children ? packed(e, 0, size) : mdl_out(e, e->rank, 0));
    for (int k = t.children; k--;)
        mdl_build_send(e->b, rank_at(e, child(&t, k)), 0, packed(e, 1 << k, subtree(&t, child(&t, k), k)));
    if (t.children) mdl_build_copy(e->b, mdl_out(e, e->rank, 0), packed(e, 0, 1), 0);
}

/* Up the tree, then down. */
static void barrier(struct mdl_emit *e)
{
    struct node t = node_of(e, mdl_order_position(e, e->rank), 0);
    uint32_t heard[MOST_CHILDREN + 1], n = 0;
    for (int k = 0; k < t.children; k++) heard[n++] = mdl_hear(e, ordered_rank(e, &t, child(&t, k)));
    if (t.v) {
        mdl_tell(e, ordered_rank(e, &t, parent(&t)), heard, n);
        heard[n++] = mdl_hear(e, ordered_rank(e, &t, parent(&t)));
    }
    for (int k = t.children; k--;) mdl_tell(e, ordered_rank(e, &t, child(&t, k)), heard, n);
}

static void build(const struct mdl_team *team, const struct mdl_collective *c, int rank, struct mdl_builder *b)
{
    struct mdl_emit e;
    if (!mdl_emit_begin(&e, team, c, rank, b, 1)) return;
    mdl_leaf_prepare(&e);
    switch (c->coll) {
    case medleyCollBroadcast: broadcast(&e); break;
    case medleyCollReduce: reduce(&e); break;
    case medleyCollGather: gather(&e); break;
    case medleyCollScatter: scatter(&e); break;
    default: barrier(&e); break;
    }
}

const struct mdl_algo mdl_algo_binomial = {
    .name = "binomial",
    .colls = MDL_COLL(Broadcast) | MDL_COLL(Reduce) | MDL_COLL(Gather) | MDL_COLL(Scatter) | MDL_COLL(Barrier),
    .fits = fits,
    .build = build,
};
