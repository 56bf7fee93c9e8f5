/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks that can be linked from one side only: a firewall lets no connection in, or no address leads there.
 *
 * Tree neighbours send each other signs of life, so both of them dial. Any other rank that cannot be dialed is asked to
 * dial itself: CALL travels along the tree, to a rank that lives within milliseconds. One that does not come after a
 * few calls counts as lost: it has left, or neither side can reach the other.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/ctl.h"
#include <stdlib.h>

enum { CALLS = 3, CALL_BYTES = 8, WAIT_MS = 300 };

static uint32_t next_hop(const struct mdl_ctl *ctl, uint32_t target)
{
    for (uint32_t i = 0; i < MDL_TREE_ARITY; i++)
        if (mdl_tree_below(target, mdl_tree_child(ctl->rank, i))) return mdl_tree_child(ctl->rank, i);
    return mdl_tree_parent(ctl->rank);
}

static void pass_on(struct mdl_ctl *ctl, uint32_t from, uint32_t target)
{
    uint8_t payload[CALL_BYTES];
    mdl_put_u32(payload, from);
    mdl_put_u32(payload + 4, target);
    mdl_peer_send(ctl, next_hop(ctl, target), MDL_FRAME_CALL, 0, payload, sizeof(payload));
}

uint64_t mdl_call_patience_ns(const struct mdl_ctl *ctl) { return (uint64_t)ctl->cfg.dead_after * MDL_NS_PER_MS / 4; }

void mdl_call_back(struct mdl_ctl_peer *p, const char *why)
{
    struct mdl_ctl *ctl = p->ctl;
    if (p->calls++ == CALLS) {
        mdl_peer_lost(p, why);
        return;
    }
    MDL_INFO(MDL_BOOT, "rank %u asks rank %d to connect to it: %s", ctl->rank, p->rank, why);
    pass_on(ctl, ctl->rank, (uint32_t)p->rank);
    mdl_reactor_timer(ctl->reactor, &p->retry, mdl_now_ns() + WAIT_MS * MDL_NS_PER_MS);
}

void mdl_call_frame(struct mdl_ctl *ctl, uint32_t src, const uint8_t *payload, size_t len)
{
    uint32_t from = len >= CALL_BYTES ? mdl_get_u32(payload) : ctl->nranks;
    uint32_t target = len >= CALL_BYTES ? mdl_get_u32(payload + 4) : ctl->nranks;
    if (from >= ctl->nranks || target >= ctl->nranks || from == target || from == ctl->rank) return;
    if (target != ctl->rank) {
        /* Never back to where it came from: who does not know the tree cannot make it run in circles. */
        if (next_hop(ctl, target) != src) pass_on(ctl, from, target);
        return;
    }
    struct mdl_ctl_peer *p = ctl->complete ? mdl_peer_get(ctl, from) : NULL;
    if (p && p->linked)
        mdl_peer_redial(p);
    else if (p)
        mdl_peer_beat(p, 0);
}
