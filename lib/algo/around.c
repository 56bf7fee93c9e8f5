/* SPDX-License-Identifier: Apache-2.0 */
/* The two halves of a ring all-reduce; see ring.h. */
#include "config.h"
#include "lib/algo/ring.h"

static int before(const struct mdl_ring *r, int steps) { return (r->line.at - steps + 2 * r->line.n) % r->line.n; }

static int neighbour(const struct mdl_emit *e, const struct mdl_ring *r, int steps)
{
    return r->line.rank(e, before(r, steps), r->line.arg);
}

static struct mdl_ref like(const struct mdl_emit *e, struct mdl_ref piece, bool acc, uint32_t slot)
{
    return mdl_cut(mdl_scratch(e, e->rank, acc, slot, piece.shape), piece.lo, piece.hi);
}

/* In step s a rank sends piece at - 1 - s and gets piece at - 2 - s, to which it adds its input. What comes first is an
 * input as it is, everything later a partial. Two slots take turns for the partials: while one is sent on, the next
 * piece comes into the other. */
void mdl_ring_reduce_scatter(struct mdl_emit *e, const struct mdl_ring *r)
{
    int next = neighbour(e, r, -1), prev = neighbour(e, r, 1), n = r->line.n;
    bool acc = r->line.partial(e, before(r, 1), r->line.arg);
    uint32_t first = mdl_builder_scratch(e->b, 1), later = n > 2 ? mdl_builder_scratch(e->b, 2) : 0;
    struct mdl_ref carried = r->input(e, before(r, 1), r->arg);
    for (int s = 0; s < n - 1; s++) {
        int piece = before(r, 2 + s);
        struct mdl_ref mine = r->input(e, piece, r->arg);
        uint32_t turn = later + (uint32_t)(s % 2);
        struct mdl_ref got = s ? like(e, mine, true, turn) : like(e, mine, acc, first);
        mdl_build_send(e->b, next, 0, carried);
        mdl_build_recv(e->b, prev, 0, got);
        bool last = s == n - 2;
        carried = last ? r->result(e, piece, r->arg) : like(e, mine, true, turn);
        mdl_fold2(e, carried, got, mine, last ? MDL_INST_FINAL : 0);
    }
}

void mdl_ring_allgather(struct mdl_emit *e, const struct mdl_ring *r)
{
    int next = neighbour(e, r, -1), prev = neighbour(e, r, 1), n = r->line.n;
    for (int s = 0; s < n - 1; s++) {
        mdl_build_send(e->b, next, 0, r->output(e, before(r, s), r->arg));
        mdl_build_recv(e->b, prev, 0, r->output(e, before(r, s + 1), r->arg));
    }
}
