/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-level broadcast and all-gather; see levels.h. Broadcast: the shares go along a chain of hosts, from owner to
 * owner, and windows keep all links of the chain busy; each host's ranks get them from their owners. All-gather: a rank
 * sends its block to its delegate on every other host, where the mates get it.
 */
#include "config.h"
#include "lib/algo/levels.h"

/* ---- broadcast ---- */

struct chain {
    struct mdl_levels l;
    int before, after; /* hosts; -1: none */
    uint32_t staged;   /* near: SCRATCH slot with what the mates read */
};

static struct chain chain_of(struct mdl_emit *e)
{
    struct chain c = {.l = mdl_levels_of(e), .before = -1, .after = -1};
    int hosts = c.l.hosts, v = (c.l.host - e->team->host[e->c->root] + hosts) % hosts;
    if (v) c.before = (c.l.host + hosts - 1) % hosts;
    if (v < hosts - 1) c.after = (c.l.host + 1) % hosts;
    c.staged = mdl_builder_scratch(e->b, 1);
    return c;
}

static void send_on(struct mdl_emit *e, const struct chain *c, int share, struct mdl_ref from)
{
    if (c->after >= 0)
        mdl_build_send(e->b, mdl_levels_owner(e, c->after, share), 0, mdl_levels_share(&c->l, from, share));
}

/* The root's host, near: all mates read the root's copy, the owners send on what they got. */
static void root_host_near(struct mdl_emit *e, const struct chain *c)
{
    int root = e->c->root;
    struct mdl_ref out = mdl_out(e, e->rank, 0), staged = mdl_scratch(e, root, false, c->staged, 0);
    if (e->rank == root) mdl_build_copy(e->b, staged, mdl_in(e, root, 0), 0);
    mdl_host_from_root(e, root);
    mdl_build_copy(e->b, out, e->rank == root ? mdl_in(e, root, 0) : staged, 0);
    struct mdl_ref from = e->rank == root ? mdl_in(e, root, 0) : out;
    for (int i = c->l.me; i < c->l.shares; i += c->l.size) send_on(e, c, i, from);
    mdl_host_to_root(e, root);
    if (e->rank == root) mdl_host_hear_all(e);
}

/* The owner of a share has it in `from` and sends it to its mates but `except`, who has it. */
static void send_to_mates(struct mdl_emit *e, const struct mdl_levels *l, int share, struct mdl_ref from, int except)
{
    for (int q = 0; q < l->size; q++) {
        int mate = mdl_levels_mate(e, q);
        if (q != l->me && mate != except) mdl_build_send(e->b, mate, 0, mdl_levels_share(l, from, share));
    }
}

/* The root's host, far: each owner gets its shares from the root and sends them on. */
static void root_host_far(struct mdl_emit *e, const struct chain *c)
{
    int root = e->c->root;
    const struct mdl_levels *l = &c->l;
    struct mdl_ref have = e->rank == root ? mdl_in(e, root, 0) : mdl_out(e, e->rank, 0);
    for (int i = 0; i < l->shares; i++) {
        int owner = mdl_levels_owner(e, l->host, i);
        if (e->rank == root && owner != root) mdl_build_send(e->b, owner, 0, mdl_levels_share(l, have, i));
        if (e->rank != root) mdl_build_recv(e->b, owner == e->rank ? root : owner, 0, mdl_levels_share(l, have, i));
        if (owner != e->rank) continue;
        send_on(e, c, i, have);
        send_to_mates(e, l, i, have, root);
    }
    if (e->rank == root) mdl_build_copy(e->b, mdl_out(e, root, 0), have, 0);
}

static void other_host_near(struct mdl_emit *e, const struct chain *c)
{
    const struct mdl_levels *l = &c->l;
    struct mdl_ref out = mdl_out(e, e->rank, 0);
    for (int i = l->me; i < l->shares; i += l->size) {
        struct mdl_ref mine = mdl_scratch(e, e->rank, false, c->staged, 0);
        mdl_build_recv(e->b, mdl_levels_owner(e, c->before, i), 0, mdl_levels_share(l, mine, i));
        send_on(e, c, i, mine);
    }
    mdl_host_say(e);
    for (int q = 0; q < l->size; q++) {
        int mate = mdl_levels_mate(e, (l->me + q) % l->size);
        uint32_t heard = q ? mdl_host_hear(e, mate) : MDL_NO_DEP;
        for (int i = (l->me + q) % l->size; i < l->shares; i += l->size) {
            mdl_host_after(e, heard);
            mdl_build_copy(e->b, mdl_levels_share(l, out, i),
                           mdl_levels_share(l, mdl_scratch(e, mate, false, c->staged, 0), i), 0);
        }
    }
    mdl_host_sync(e);
}

static void other_host_far(struct mdl_emit *e, const struct chain *c)
{
    const struct mdl_levels *l = &c->l;
    struct mdl_ref out = mdl_out(e, e->rank, 0);
    for (int i = 0; i < l->shares; i++) {
        bool mine = mdl_levels_owns(l, i);
        int from = mdl_levels_owner(e, mine ? c->before : l->host, i);
        mdl_build_recv(e->b, from, 0, mdl_levels_share(l, out, i));
        if (!mine) continue;
        send_on(e, c, i, out);
        send_to_mates(e, l, i, out, -1);
    }
}

void mdl_levels_broadcast(struct mdl_emit *e)
{
    struct chain c = chain_of(e);
    if (c.before < 0)
        c.l.near ? root_host_near(e, &c) : root_host_far(e, &c);
    else
        c.l.near ? other_host_near(e, &c) : other_host_far(e, &c);
}

/* ---- all-gather ---- */

/* What comes from rank q of another host lies here with its delegate: near, in the SCRATCH slot of its turn among the
 * delegate's charges; slot 0 is the delegate's own. */
struct blocks {
    struct mdl_levels l;
    uint32_t first;
    uint32_t heard; /* what tells that the mate's blocks are there */
};

/* Calls `visit` for each rank of other hosts whose delegate on this host is `mate`, with its turn from 1 on. */
typedef void (*visit)(struct mdl_emit *e, const struct blocks *b, int mate, int q, uint32_t turn);

static void each_charge(struct mdl_emit *e, const struct blocks *b, int mate, visit visit)
{
    uint32_t turn = 1;
    for (int h = 0; h < b->l.hosts; h++)
        for (int m = e->team->local[mate]; h != b->l.host && m < e->team->host_size[h]; m += b->l.size)
            visit(e, b, mate, e->team->members[h][m], turn++);
}

static struct mdl_ref staged(const struct mdl_emit *e, const struct blocks *b, int mate, int q, uint32_t turn)
{
    return mdl_scratch(e, mate, false, b->first + turn, (uint32_t)q);
}

static void receive_staged(struct mdl_emit *e, const struct blocks *b, int mate, int q, uint32_t turn)
{
    mdl_build_recv(e->b, q, 0, staged(e, b, mate, q, turn));
}

static void copy_staged(struct mdl_emit *e, const struct blocks *b, int mate, int q, uint32_t turn)
{
    mdl_host_after(e, b->heard);
    mdl_build_copy(e->b, mdl_out(e, e->rank, (uint32_t)q), staged(e, b, mate, q, turn), 0);
}

static void receive_out(struct mdl_emit *e, const struct blocks *b, int mate, int q, uint32_t turn)
{
    int from = mate == e->rank ? q : mate;
    mdl_build_recv(e->b, from, 0, mdl_out(e, e->rank, (uint32_t)q));
}

static void pass_to_mates(struct mdl_emit *e, const struct blocks *b, int mate, int q, uint32_t turn)
{
    send_to_mates(e, &b->l, 0, mdl_out(e, e->rank, (uint32_t)q), -1);
}

static void send_across(struct mdl_emit *e, const struct mdl_levels *l)
{
    for (int d = 1; d < l->hosts; d++)
        mdl_build_send(e->b, mdl_levels_delegate(e, (l->host + d) % l->hosts, e->rank), 0, mdl_in(e, e->rank, 0));
}

static void allgather_near(struct mdl_emit *e, struct blocks *b)
{
    const struct mdl_levels *l = &b->l;
    uint32_t slots = 1; /* the same on all mates: the first has the most charges */
    for (int h = 0; h < l->hosts; h++)
        if (h != l->host) slots += (uint32_t)((e->team->host_size[h] + l->size - 1) / l->size);
    b->first = mdl_builder_scratch(e->b, slots);
    mdl_build_copy(e->b, staged(e, b, e->rank, e->rank, 0), mdl_in(e, e->rank, 0), 0);
    mdl_host_say(e);
    send_across(e, l);
    each_charge(e, b, e->rank, receive_staged);
    for (int i = 1; i < l->size; i++) {
        int mate = mdl_host_peer(e, i);
        b->heard = mdl_host_hear(e, mate);
        copy_staged(e, b, mate, mate, 0);
    }
    mdl_host_say(e);
    b->heard = MDL_NO_DEP;
    each_charge(e, b, e->rank, copy_staged);
    for (int i = 1; i < l->size; i++) {
        int mate = mdl_host_peer(e, i);
        b->heard = mdl_host_hear(e, mate);
        each_charge(e, b, mate, copy_staged);
    }
    mdl_host_sync(e);
}

static void allgather_far(struct mdl_emit *e, struct blocks *b)
{
    const struct mdl_levels *l = &b->l;
    send_across(e, l);
    send_to_mates(e, l, 0, mdl_in(e, e->rank, 0), -1);
    each_charge(e, b, e->rank, receive_out);
    for (int i = 1; i < l->size; i++) {
        int mate = mdl_host_peer(e, i);
        mdl_build_recv(e->b, mate, 0, mdl_out(e, e->rank, (uint32_t)mate));
        each_charge(e, b, mate, receive_out);
    }
    each_charge(e, b, e->rank, pass_to_mates);
}

void mdl_levels_allgather(struct mdl_emit *e)
{
    struct blocks b = {.l = mdl_levels_of(e)};
    mdl_build_copy(e->b, mdl_out(e, e->rank, (uint32_t)e->rank), mdl_in(e, e->rank, 0), 0);
    if (b.l.near)
        allgather_near(e, &b);
    else
        allgather_far(e, &b);
}
