/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which lane takes the next frame. Lanes that join the same two addresses share a WAY: a network, with its speed. A way
 * is used through one lane, because one stream costs less than two. The next lane carries what it has no room for where
 * that pays: where the way is so fast that several processors have to serve it, or so long that one stream cannot fill
 * it; and where nothing is heard of the first lane any more.
 *
 * Ways may differ in speed. A chunk goes where it would be delivered first, by what is under way and by how quickly the
 * way's lanes have delivered so far. If that way is full the chunk waits for it, unless nothing has been heard of it
 * lately: so a slow way takes no more than its share, and a dead one delays nobody.
 *
 * What is small (acknowledgements, credits, small messages) does not queue behind chunks: it takes another lane.
 */
#include "config.h"
#include "transports/tcp_context.h"
#include <netinet/in.h>

enum {
    KEEP_BYTES = 32 * 1024, /* so much under way does not turn small messages to another way */
    PATIENCE_RTTS = 4,
};
#define PATIENCE_NS (2 * 1000000ull)
#define FRESH_NS    (100 * 1000000ull)
#define LONG_NS     (5 * 1000000ull)
#define FAST_SPEED  2500000 /* bytes per ms */

struct way {
    size_t unacked;
    uint64_t rate, rtt_ns, heard_ns;
};

static bool same_address(const struct mdl_addr *a, const struct mdl_addr *b)
{
    if (a->sa.ss_family != b->sa.ss_family) return false;
    return mdl_addr_common_bits(a, b) == (a->sa.ss_family == AF_INET ? 32 : 128);
}

void mdl_tcp_ways_find(struct mdl_tcp_peer *p)
{
    p->nslots = 0;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++) {
        struct mdl_tcp_lane *lane = p->lanes[i], *other;
        if (!lane) continue;
        p->nslots = i + 1;
        lane->first = i;
        for (int k = 0; k < i && lane->first == i; k++) {
            other = p->lanes[k];
            if (other && same_address(&lane->local, &other->local) && same_address(&lane->remote, &other->remote))
                lane->first = k;
        }
    }
}

static bool is_alive(const struct mdl_tcp_peer *p, uint64_t heard_ns, uint64_t rtt_ns)
{
    return p->t->now - heard_ns < PATIENCE_NS + PATIENCE_RTTS * rtt_ns;
}

static struct way look_at(const struct mdl_tcp_peer *p, int first)
{
    struct way w = {0};
    for (int i = first; i < p->nslots; i++) {
        const struct mdl_tcp_path *path = &p->flow.paths[i];
        if (!p->lanes[i] || p->lanes[i]->first != first) continue;
        w.unacked += path->unacked;
        if (path->rate > w.rate) w.rate = path->rate;
        if (path->rtt_ns > w.rtt_ns) w.rtt_ns = path->rtt_ns;
        if (path->heard_ns > w.heard_ns) w.heard_ns = path->heard_ns;
    }
    return w;
}

/* The lane is full: may the next one of its way be used? */
static bool may_pass(const struct mdl_tcp_peer *p, const struct mdl_tcp_path *path)
{
    return !path->rate || path->speed > FAST_SPEED || path->least_ns > LONG_NS ||
           !is_alive(p, path->heard_ns, path->rtt_ns);
}

static struct mdl_tcp_lane *with_room(struct mdl_tcp_peer *p, int first)
{
    for (int i = first; i < p->nslots; i++) {
        struct mdl_tcp_lane *lane = p->lanes[i];
        if (!lane || lane->first != first) continue;
        if (!lane->blocked && mdl_tcp_lane_has_space(lane) && mdl_tcp_flow_room(&p->flow, i)) return lane;
        if (!may_pass(p, &p->flow.paths[i])) return NULL;
    }
    return NULL;
}

static uint64_t fastest(const struct mdl_tcp_peer *p)
{
    uint64_t rate = 1;
    for (int i = 0; i < p->nslots; i++)
        if (p->flow.paths[i].rate > rate) rate = p->flow.paths[i].rate;
    return rate;
}

/* When `bytes` more would be delivered. A way of which nothing is known is taken to be as quick as any. */
static uint64_t forecast(const struct mdl_tcp_peer *p, const struct way *w, size_t bytes)
{
    return bytes * 1000000 / (w->rate ? w->rate : fastest(p));
}

/* Of the lanes of a way, that with the least under way. */
static struct mdl_tcp_lane *emptiest(const struct mdl_tcp_peer *p, int first)
{
    struct mdl_tcp_lane *best = NULL;
    size_t least = SIZE_MAX;
    for (int i = first; i < p->nslots; i++) {
        struct mdl_tcp_lane *lane = p->lanes[i];
        size_t load = p->flow.paths[i].unacked;
        if (!lane || lane->first != first || !mdl_tcp_lane_has_space(lane)) continue;
        if (load <= KEEP_BYTES) load = 0;
        if (load >= least) continue;
        least = load;
        best = lane;
    }
    return best;
}

struct mdl_tcp_lane *mdl_tcp_lane_for_small(const struct mdl_tcp_peer *p)
{
    struct mdl_tcp_lane *best = NULL;
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < p->nslots; i++) {
        if (!p->lanes[i] || p->lanes[i]->first != i) continue;
        struct way w = look_at(p, i);
        struct mdl_tcp_lane *lane = emptiest(p, i);
        uint64_t ns = forecast(p, &w, (w.unacked > KEEP_BYTES ? w.unacked : 0) + KEEP_BYTES);
        if (!lane || ns >= least) continue;
        least = ns;
        best = lane;
    }
    return best;
}

struct mdl_tcp_lane *mdl_tcp_lane_for_ack(const struct mdl_tcp_peer *p)
{
    struct mdl_tcp_lane *heard = p->heard && mdl_tcp_lane_has_space(p->heard) ? p->heard : NULL;
    if (heard && p->flow.paths[heard->slot].unacked <= KEEP_BYTES) return heard;
    struct mdl_tcp_lane *lane = mdl_tcp_lane_for_small(p);
    return lane && (!heard || p->t->now - lane->heard_ns < FRESH_NS) ? lane : heard;
}

struct mdl_tcp_lane *mdl_tcp_lane_for_chunk(struct mdl_tcp_peer *p)
{
    struct mdl_tcp_lane *best = NULL;
    uint64_t least = UINT64_MAX, awaited = UINT64_MAX;
    for (int i = 0; i < p->nslots; i++) {
        if (!p->lanes[i] || p->lanes[i]->first != i) continue;
        struct way w = look_at(p, i);
        struct mdl_tcp_lane *lane = with_room(p, i);
        uint64_t ns = forecast(p, &w, w.unacked + p->flow.paths[i].chunk);
        if (lane && ns < least) {
            least = ns;
            best = lane;
        } else if (!lane && ns < awaited && is_alive(p, w.heard_ns, w.rtt_ns)) {
            awaited = ns;
        }
    }
    return awaited < least ? NULL : best;
}
