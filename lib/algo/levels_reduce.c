/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-level reductions; see levels.h. All-reduce and reduce: the owners fold their shares of their host's inputs, the
 * lines reduce these partials piece by piece, and all-reduce brings the pieces back along the lines and then to the
 * mates. Reduce-scatter: the delegates fold their host's inputs for a rank and send it the partial.
 */
#include "config.h"
#include "lib/algo/levels.h"
#include "lib/algo/power.h"

/* Where the steps keep what they need: SCRATCH slots. The first three have the same numbers on all ranks of a host. */
struct work {
    struct mdl_levels l;
    uint32_t staged, partial, result;
    uint32_t got; /* far: what the mates sent */
};

/* ---- inside the host ---- */

struct inputs {
    const struct work *w;
    struct mdl_ref like; /* its slot, parts and shape */
    uint32_t slot;       /* of the input */
    uint32_t got;        /* far: the first slot with what the mates sent for it */
};

/* What mate i put in. */
static struct mdl_ref input_of_mate(const struct mdl_emit *e, uint32_t i, const void *arg)
{
    const struct inputs *in = arg;
    const struct mdl_levels *l = &in->w->l;
    int q = mdl_levels_mate(e, (int)i);
    struct mdl_ref r;
    if (q == e->rank)
        r = mdl_leaf(e, in->slot);
    else if (!l->near)
        r = mdl_scratch(e, e->rank, mdl_leaf_acc(e), in->got + i - ((int)i > l->me), in->like.shape);
    else if (e->c->premul)
        r = mdl_scratch(e, q, true, e->leaf + in->slot, in->like.shape);
    else
        r = mdl_scratch(e, q, false, in->w->staged + in->slot, in->like.shape);
    return mdl_cut(r, in->like.lo, in->like.hi);
}

/* The host's partial of parts of an input slot, in `dst`; a rank that is alone has its leaf for it. */
static struct mdl_ref host_partial(struct mdl_emit *e, const struct work *w, struct mdl_ref dst, uint32_t slot,
                                   uint32_t got)
{
    struct inputs in = {w, dst, slot, got};
    if (w->l.alone) return mdl_cut(mdl_leaf(e, slot), dst.lo, dst.hi);
    mdl_fold(e, dst, (uint32_t)w->l.size, input_of_mate, &in, mdl_tree(e));
    return dst;
}

/* Near: the mates see the inputs when all have heard each other. */
static void show_inputs(struct mdl_emit *e, const struct work *w)
{
    for (uint32_t s = 0; s < e->in_slots && !e->c->premul; s++) {
        struct mdl_ref in = mdl_in(e, e->rank, s);
        mdl_build_copy(e->b, mdl_scratch(e, e->rank, false, w->staged + s, in.shape), in, 0);
    }
    mdl_host_sync(e);
}

/* Far: each share of the input goes to its owner. */
static void send_shares(struct mdl_emit *e, struct work *w)
{
    const struct mdl_levels *l = &w->l;
    w->got = mdl_builder_scratch(e->b, (uint32_t)l->size - 1);
    for (int i = 0; i < l->shares; i++)
        if (!mdl_levels_owns(l, i))
            mdl_build_send(e->b, mdl_levels_owner(e, l->host, i), 0, mdl_levels_share(l, mdl_leaf(e, 0), i));
    for (int q = 0; q < l->size; q++) {
        if (q == l->me) continue;
        struct mdl_ref got = mdl_scratch(e, e->rank, mdl_leaf_acc(e), w->got + (uint32_t)(q - (q > l->me)), 0);
        for (int i = l->me; i < l->shares; i += l->size)
            mdl_build_recv(e->b, mdl_levels_mate(e, q), 0, mdl_levels_share(l, got, i));
    }
}

static struct work begin(struct mdl_emit *e, uint32_t inputs, uint32_t partials)
{
    struct work w = {.l = mdl_levels_of(e)};
    if (w.l.near && !e->c->premul) w.staged = mdl_builder_scratch(e->b, inputs);
    if (!w.l.alone) w.partial = mdl_builder_scratch(e->b, partials);
    w.result = mdl_builder_scratch(e->b, 1);
    return w;
}

/* ---- along the line of a share ---- */

static int line_rank(const struct mdl_emit *e, int host, const void *arg)
{
    return mdl_levels_owner(e, host, *(const int *)arg);
}

static bool line_partial(const struct mdl_emit *e, int host, const void *arg)
{
    return e->team->host_size[host] > 1 || mdl_leaf_acc(e);
}

static struct mdl_ref piece(const struct mdl_levels *l, struct mdl_ref r, int share, int p)
{
    uint32_t at = (uint32_t)share * l->pieces + (uint32_t)p;
    return mdl_cut(r, at, at + 1);
}

struct line_inputs {
    const struct mdl_levels *l;
    struct mdl_ref mine;
    int share;
    uint32_t got;
};

static struct mdl_ref input_of_host(const struct mdl_emit *e, uint32_t h, const void *arg)
{
    const struct line_inputs *in = arg;
    struct mdl_ref r = in->mine;
    if ((int)h != in->l->host)
        r = mdl_scratch(e, e->rank, line_partial(e, (int)h, NULL), in->got + h - ((int)h > in->l->host), 0);
    return piece(in->l, r, in->share, in->l->host);
}

/* Every owner of the line gets its piece from all others and folds them in the order of hosts. */
static void scatter_flat(struct mdl_emit *e, const struct mdl_levels *l, int share, struct mdl_ref have,
                         struct mdl_ref result)
{
    struct line_inputs in = {l, have, share, mdl_builder_scratch(e->b, (uint32_t)l->hosts - 1)};
    for (int d = 1; d < l->hosts; d++) {
        int to = (l->host + d) % l->hosts, from = (l->host - d + l->hosts) % l->hosts;
        mdl_build_send(e->b, mdl_levels_owner(e, to, share), 0, piece(l, have, share, to));
        mdl_build_recv(e->b, mdl_levels_owner(e, from, share), 0, input_of_host(e, (uint32_t)from, &in));
    }
    mdl_fold(e, piece(l, result, share, l->host), (uint32_t)l->hosts, input_of_host, &in, MDL_INST_FINAL | mdl_tree(e));
}

static void gather_flat(struct mdl_emit *e, const struct mdl_levels *l, int share, struct mdl_ref result)
{
    for (int d = 1; d < l->hosts; d++) {
        int to = (l->host + d) % l->hosts, from = (l->host - d + l->hosts) % l->hosts;
        mdl_build_send(e->b, mdl_levels_owner(e, to, share), 0, piece(l, result, share, l->host));
        mdl_build_recv(e->b, mdl_levels_owner(e, from, share), 0, piece(l, result, share, from));
    }
}

static struct mdl_power power_of(const struct mdl_levels *l, const int *share, int host)
{
    struct mdl_line line = {l->hosts, host, line_rank, line_partial, share};
    return mdl_power_of(line, (uint32_t)*share * l->pieces, ((uint32_t)*share + 1) * l->pieces);
}

/* Afterwards the pieces of this rank are final in `result`. */
static void line_scatter(struct mdl_emit *e, const struct work *w, int share, struct mdl_ref have,
                         struct mdl_ref result)
{
    if (w->l.flat) {
        scatter_flat(e, &w->l, share, have, result);
        return;
    }
    struct mdl_power pw = power_of(&w->l, &share, w->l.host);
    have = mdl_power_fold_in(e, &pw, have);
    mdl_power_halve(e, &pw, have, result);
}

static void line_gather(struct mdl_emit *e, const struct work *w, int share, struct mdl_ref result)
{
    if (w->l.flat) {
        gather_flat(e, &w->l, share, result);
        return;
    }
    struct mdl_power pw = power_of(&w->l, &share, w->l.host);
    mdl_power_double(e, &pw, result);
    mdl_power_fold_out(e, &pw, result);
}

/* The piece of a share that a host's owner finishes, in `r`; false: none. */
static bool finished_piece(const struct mdl_levels *l, int host, int share, struct mdl_ref *r)
{
    if (l->flat) {
        *r = piece(l, *r, share, host);
        return true;
    }
    struct mdl_power pw = power_of(l, &share, host);
    struct mdl_range range = mdl_power_range(&pw, pw.id, pw.p);
    if (pw.id >= 0) *r = mdl_cut(*r, range.lo, range.hi);
    return pw.id >= 0;
}

/* ---- all-reduce and reduce ---- */

static void reduce_shares(struct mdl_emit *e, struct work *w, struct mdl_ref result)
{
    struct mdl_ref partial = mdl_scratch(e, e->rank, true, w->partial, 0);
    if (w->l.near)
        show_inputs(e, w);
    else
        send_shares(e, w);
    for (int i = w->l.me; i < w->l.shares; i += w->l.size)
        line_scatter(e, w, i, host_partial(e, w, mdl_levels_share(&w->l, partial, i), 0, w->got), result);
}

/* Near: owners leave their shares in SCRATCH for the mates. */
static void fetch_shares(struct mdl_emit *e, const struct work *w)
{
    const struct mdl_levels *l = &w->l;
    struct mdl_ref out = mdl_out(e, e->rank, 0);
    mdl_host_say(e);
    for (int q = 0; q < l->size; q++) {
        int mate = mdl_levels_mate(e, (l->me + q) % l->size);
        uint32_t heard = q ? mdl_host_hear(e, mate) : MDL_NO_DEP;
        for (int i = (l->me + q) % l->size; i < l->shares; i += l->size) {
            mdl_host_after(e, heard);
            mdl_build_copy(e->b, mdl_levels_share(l, out, i),
                           mdl_levels_share(l, mdl_scratch(e, mate, false, w->result, 0), i), 0);
        }
    }
    mdl_host_sync(e);
}

static void exchange_shares(struct mdl_emit *e, const struct work *w)
{
    const struct mdl_levels *l = &w->l;
    struct mdl_ref out = mdl_out(e, e->rank, 0);
    for (int i = 0; i < l->shares; i++)
        for (int q = 0; q < l->size && mdl_levels_owns(l, i); q++)
            if (q != l->me) mdl_build_send(e->b, mdl_levels_mate(e, q), 0, mdl_levels_share(l, out, i));
    for (int i = 0; i < l->shares; i++)
        if (!mdl_levels_owns(l, i))
            mdl_build_recv(e->b, mdl_levels_owner(e, l->host, i), 0, mdl_levels_share(l, out, i));
}

void mdl_levels_allreduce(struct mdl_emit *e)
{
    struct work w = begin(e, 1, 1);
    struct mdl_ref result = w.l.near ? mdl_scratch(e, e->rank, false, w.result, 0) : mdl_out(e, e->rank, 0);
    reduce_shares(e, &w, result);
    for (int i = w.l.me; i < w.l.shares; i += w.l.size) line_gather(e, &w, i, result);
    if (w.l.near)
        fetch_shares(e, &w);
    else
        exchange_shares(e, &w);
}

static void collect_pieces(struct mdl_emit *e, const struct mdl_levels *l)
{
    for (int i = 0; i < l->shares; i++)
        for (int h = 0; h < l->hosts; h++) {
            struct mdl_ref to = mdl_out(e, e->rank, 0);
            int holder = mdl_levels_owner(e, h, i);
            if (holder != e->rank && finished_piece(l, h, i, &to)) mdl_build_recv(e->b, holder, 0, to);
        }
}

void mdl_levels_reduce(struct mdl_emit *e)
{
    int root = e->c->root;
    struct work w = begin(e, 1, 1);
    struct mdl_ref result = e->rank == root ? mdl_out(e, root, 0) : mdl_scratch(e, e->rank, false, w.result, 0);
    reduce_shares(e, &w, result);
    for (int i = w.l.me; i < w.l.shares && e->rank != root; i += w.l.size) {
        struct mdl_ref from = result;
        if (finished_piece(&w.l, w.l.host, i, &from)) mdl_build_send(e->b, root, 0, from);
    }
    if (e->rank == root) collect_pieces(e, &w.l);
    if (w.l.near) mdl_host_sync(e);
}

/* ---- reduce-scatter ---- */

/* How many ranks this one is the delegate of. */
static uint32_t count_charges(const struct mdl_emit *e, const struct mdl_levels *l)
{
    uint32_t n = 0;
    for (int q = 0; q < e->n; q++) n += mdl_levels_delegate(e, l->host, q) == e->rank;
    return n;
}

/* Far: each slot of the input goes to its delegate. */
static void send_slots(struct mdl_emit *e, struct work *w)
{
    const struct mdl_levels *l = &w->l;
    uint32_t mates = (uint32_t)l->size - 1, charges = count_charges(e, l);
    w->got = mdl_builder_scratch(e->b, mates * charges);
    for (int q = 0; q < e->n; q++) {
        int to = mdl_levels_delegate(e, l->host, q);
        if (to != e->rank) mdl_build_send(e->b, to, 0, mdl_leaf(e, (uint32_t)q));
    }
    for (int m = 0; m < l->size; m++) {
        uint32_t slot = w->got + (uint32_t)(m - (m > l->me));
        for (int q = 0; q < e->n && m != l->me; q++) {
            if (mdl_levels_delegate(e, l->host, q) != e->rank) continue;
            mdl_build_recv(e->b, mdl_levels_mate(e, m), 0, mdl_scratch(e, e->rank, mdl_leaf_acc(e), slot, (uint32_t)q));
            slot += mates;
        }
    }
}

struct host_partials {
    const struct mdl_levels *l;
    struct mdl_ref mine;
    uint32_t got;
};

static struct mdl_ref partial_of_host(const struct mdl_emit *e, uint32_t h, const void *arg)
{
    const struct host_partials *in = arg;
    if ((int)h == in->l->host) return in->mine;
    uint32_t slot = in->got + h - ((int)h > in->l->host);
    return mdl_scratch(e, e->rank, line_partial(e, (int)h, NULL), slot, (uint32_t)e->rank);
}

void mdl_levels_reduce_scatter(struct mdl_emit *e)
{
    struct mdl_levels l = mdl_levels_of(e);
    uint32_t charges = count_charges(e, &l), charge = 0, mates = (uint32_t)l.size - 1;
    struct work w = begin(e, e->in_slots, charges);
    if (l.near)
        show_inputs(e, &w);
    else
        send_slots(e, &w);
    struct host_partials in = {.l = &l, .got = mdl_builder_scratch(e->b, (uint32_t)l.hosts - 1)};
    for (int q = 0; q < e->n; q++) {
        if (mdl_levels_delegate(e, l.host, q) != e->rank) continue;
        struct mdl_ref dst = mdl_scratch(e, e->rank, true, w.partial + charge, (uint32_t)q);
        struct mdl_ref have = host_partial(e, &w, dst, (uint32_t)q, w.got + mates * charge++);
        if (q == e->rank)
            in.mine = have;
        else
            mdl_build_send(e->b, q, 0, have);
    }
    for (int h = 0; h < l.hosts; h++)
        if (h != l.host)
            mdl_build_recv(e->b, mdl_levels_delegate(e, h, e->rank), 0, partial_of_host(e, (uint32_t)h, &in));
    mdl_fold(e, mdl_out(e, e->rank, 0), (uint32_t)l.hosts, partial_of_host, &in, MDL_INST_FINAL | mdl_tree(e));
    if (l.near) mdl_host_sync(e);
}
