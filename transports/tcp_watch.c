/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time: who dials when, which lane is stuck, which peer is lost.
 *
 * The lower rank dials; the higher one does too if there is still no lane after a second (one direction of a network
 * may be closed). As long as the lower one has never had a lane it waits for that: the higher one needs none before it
 * makes its call, and that it is late is no fault. It finds out, and tells, if there is no way at all. A dead lane is
 * dialled again, with growing pauses, while the others carry on. A lane is called stuck when the peer acknowledges
 * nothing of it but has acknowledged what others were given much later, or when it does not answer a probe that others
 * answer; silence of all lanes proves nothing, because a peer that computes does not read. A network that is silent
 * shows in the kernel: data is under way and no acknowledgement has come for the time after which a rank counts as
 * dead.
 *
 * Only time in which this side looked counts: while its thread did not run, or its user made no progress, it did not
 * dial either and took no connection that had come.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "transports/tcp_context.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

#define STUCK_NS      (200 * MDL_NS_PER_MS)
#define MAX_STUCK_NS  (2 * MDL_NS_PER_S)
#define CHECK_NS      (50 * MDL_NS_PER_MS)
#define PROBE_NS      (200 * MDL_NS_PER_MS)
#define MAX_PROBE_NS  (3 * MDL_NS_PER_S)
#define OTHER_SIDE_NS MDL_NS_PER_S /* at most, the higher rank waits so long for the lower one to dial */
enum { STUCK_FACTOR = 10, MAX_OWN_LANES = MDL_TCP_MAX_LANES / 2 };

void mdl_tcp_tick_at(struct mdl_tcp *t, uint64_t at_ns)
{
    if (at_ns < t->next_tick_ns) t->next_tick_ns = at_ns;
}

static uint64_t dead_after_ns(const struct mdl_tcp *t) { return (uint64_t)t->cfg->dead_after * MDL_NS_PER_MS; }

static uint64_t other_side_ns(const struct mdl_tcp *t)
{
    uint64_t quarter = dead_after_ns(t) / 4;
    return quarter < OTHER_SIDE_NS ? quarter : OTHER_SIDE_NS;
}

/* ---- lanes that are missing ---- */

static int wanted(const struct mdl_tcp_peer *p)
{
    int most = MAX_OWN_LANES / (p->nrails ? p->nrails : 1);
    return p->t->cfg->sockets < most ? p->t->cfg->sockets : most;
}

static void dial_missing(struct mdl_tcp_peer *p, int rail, uint64_t *next)
{
    struct mdl_tcp_rail_state *r = &p->rails[rail];
    while (r->lanes + r->dialing < wanted(p)) {
        if (r->next_ns > p->t->now) {
            if (r->next_ns < *next) *next = r->next_ns;
            return;
        }
        if (r->failures || p->nlanes) atomic_fetch_add_explicit(&p->redials, 1, memory_order_relaxed);
        if (mdl_tcp_dial_rail(p, rail) != medleySuccess) p->t->failed = medleySystemError;
        if (p->t->failed) return;
    }
}

static bool dials(const struct mdl_tcp_peer *p)
{
    if (p->lost || p->left || p->flow.bye_next) return false;
    if (p->t->rank < p->rank) return true;
    for (int i = 0; i <= p->nrails; i++)
        if (p->rails[i].lanes) return true;
    return p->down_since_ns && p->t->now - p->down_since_ns >= other_side_ns(p->t);
}

static uint64_t connect_peer(struct mdl_tcp_peer *p)
{
    uint64_t next = UINT64_MAX;
    bool needed = p->down_since_ns || p->nlanes;
    if (!needed) return next;
    if (dials(p)) {
        for (int i = 0; i < p->nrails; i++) dial_missing(p, i, &next);
        if (p->fallback && !p->nlanes) dial_missing(p, p->nrails, &next);
    } else if (p->down_since_ns && !p->flow.bye_next) {
        next = p->down_since_ns + other_side_ns(p->t);
    }
    return next;
}

void mdl_tcp_peer_need(struct mdl_tcp_peer *p)
{
    if (p->nlanes || p->down_since_ns || p->lost || p->left) return;
    p->down_since_ns = p->t->now = mdl_now_ns();
    uint64_t next = connect_peer(p), lost = p->down_since_ns + dead_after_ns(p->t);
    mdl_tcp_tick_at(p->t, next < lost ? next : lost);
}

/* ---- lanes that are stuck ---- */

static uint64_t median_rtt(const struct mdl_tcp_peer *p)
{
    uint64_t rtt[MDL_TCP_MAX_LANES];
    int n = 0;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++) {
        uint64_t v = p->lanes[i] ? p->flow.paths[i].rtt_ns : 0;
        if (!v) continue;
        int k = n++;
        for (; k > 0 && rtt[k - 1] > v; k--) rtt[k] = rtt[k - 1];
        rtt[k] = v;
    }
    return n ? rtt[n / 2] : 0;
}

/* Others have answered long after this one was asked. */
static bool mute(const struct mdl_tcp_peer *p, const struct mdl_tcp_lane *lane, uint64_t patience)
{
    if (!lane->probed_ns || lane->heard_ns >= lane->probed_ns) return false;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i] && p->lanes[i]->heard_ns > lane->probed_ns + patience) return true;
    return false;
}

/* Nothing is acknowledged: the peer computes, or the acknowledgements got stuck in a lane. Every lane is asked. */
static void probe(struct mdl_tcp_peer *p)
{
    uint64_t now = p->t->now, since = p->flow.settled_ns;
    if (since + PROBE_NS > p->probe_ns) {
        p->probe_wait_ns = PROBE_NS;
        p->probe_ns = since + PROBE_NS;
    }
    if (p->flow.base == p->flow.next || now < p->probe_ns) return;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i] && p->lanes[i]->nout == 0) mdl_tcp_lane_put_probe(p->lanes[i], now);
    mdl_tcp_peer_touch(p);
    if (p->probe_wait_ns < MAX_PROBE_NS) p->probe_wait_ns *= 2;
    p->probe_ns = now + p->probe_wait_ns;
}

static bool network_silent(const struct mdl_tcp_lane *lane, uint64_t limit_ns)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(lane->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) return false;
    return (info.tcpi_unacked || info.tcpi_probes) && info.tcpi_last_ack_recv * MDL_NS_PER_MS > limit_ns;
}

/* Since when something on it lacks an answer; UINT64_MAX / 2: nothing does. */
static uint64_t waiting_since(const struct mdl_tcp_lane *lane, uint64_t oldest)
{
    uint64_t since = oldest ? oldest : UINT64_MAX / 2;
    return lane->probed_ns > lane->heard_ns && lane->probed_ns < since ? lane->probed_ns : since;
}

static void check_lane(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane, uint64_t patience)
{
    uint64_t oldest = mdl_tcp_flow_oldest(&p->flow, lane->slot), limit = dead_after_ns(p->t) / 2;
    bool quiet = p->flow.paths[lane->slot].heard_ns + patience < p->t->now;
    bool passed = oldest && quiet && p->flow.acked_sent_ns > oldest + patience;
    if (p->nlanes > 1 && (passed || mute(p, lane, patience))) {
        mdl_tcp_lane_kill(lane, "stuck, while other connections carry on");
    } else if (waiting_since(lane, oldest) + limit < p->t->now && network_silent(lane, limit)) {
        mdl_tcp_lane_kill(lane, strerror(ETIMEDOUT));
        if (p->down_since_ns) p->down_since_ns -= limit; /* it was down long before this showed */
    }
}

static void check_lanes(struct mdl_tcp_peer *p)
{
    uint64_t patience = STUCK_FACTOR * median_rtt(p);
    if (patience < STUCK_NS) patience = STUCK_NS;
    if (patience > MAX_STUCK_NS) patience = MAX_STUCK_NS;
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i]) check_lane(p, p->lanes[i], patience);
}

/* ---- peers that are lost ---- */

static size_t outstanding(const struct mdl_tcp_peer *p)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < MDL_MAX_CHANNELS; i++) {
        const struct mdl_tcp_channel *ch = p->flow.channels[i];
        if (!ch) continue;
        const struct mdl_list *lists[] = {&ch->posted, &ch->waiting, &ch->sending};
        for (int k = 0; k < 3; k++)
            mdl_list_each (it, lists[k]) {
                const struct mdl_tcp_request *req = mdl_container_of(it, struct mdl_tcp_request, link);
                bytes += req->len - req->settled;
            }
    }
    return bytes;
}

void mdl_tcp_peer_lose(struct mdl_tcp_peer *p, const char *why)
{
    char text[MDL_TCP_WHY_BYTES + 160];
    if (p->lost) return;
    p->lost = true;
    snprintf(text, sizeof text, "lost the TCP connection to rank %d with %zu bytes outstanding: %s", p->rank,
             outstanding(p), why);
    mdl_error(medleyRemoteError, "rank %d: %s", p->t->rank, text);
    mdl_tcp_flow_fail(&p->flow, medleyRemoteError);
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i]) mdl_tcp_lane_kill(p->lanes[i], NULL);
    mdl_tcp_cancel_dials(p);
    p->t->events++;
    if (p->t->peer_lost) p->t->peer_lost(p->t->engine, p->rank, p->left ? medleyInvalidUsage : medleyRemoteError, text);
}

/* Down for so long that the peer is lost, unless it can still be expected to dial. */
static bool given_up(struct mdl_tcp_peer *p)
{
    if (!p->down_since_ns || p->t->now - p->down_since_ns < dead_after_ns(p->t)) return false;
    if (p->met || p->t->rank > p->rank) return true;
    if (!p->told)
        MDL_WARN(MDL_NET, "rank %d cannot connect to rank %d and waits until that one does: %s", p->t->rank, p->rank,
                 p->why[0] ? p->why : "no answer");
    p->told = true;
    return false;
}

static uint64_t tick_peer(struct mdl_tcp_peer *p)
{
    uint64_t now = p->t->now, next, lost;
    if (p->lost || p->left) return UINT64_MAX;
    if (p->nlanes) {
        probe(p);
        check_lanes(p);
    }
    if (!p->nlanes && !mdl_tcp_flow_busy(&p->flow)) p->down_since_ns = 0;
    if (given_up(p)) {
        const char *why = p->flow.bye_next ? "it has left the communicator, and the last that it sent did not come"
                                           : "no connection came";
        mdl_tcp_peer_lose(p, p->why[0] ? p->why : why);
        return UINT64_MAX;
    }
    next = connect_peer(p);
    if (p->flow.base != p->flow.next && now + CHECK_NS < next) next = now + CHECK_NS;
    lost = p->down_since_ns + dead_after_ns(p->t);
    if (p->down_since_ns && (p->met || !p->told) && lost < next) next = lost;
    return next;
}

/* Nobody looked from `due` until now. */
static void forgive(struct mdl_tcp_peer *p, uint64_t due)
{
    if (p->down_since_ns) p->down_since_ns += p->t->now - (p->down_since_ns > due ? p->down_since_ns : due);
}

void mdl_tcp_tick(struct mdl_tcp *t)
{
    uint64_t due = t->next_tick_ns;
    t->next_tick_ns = UINT64_MAX;
    mdl_list_each (it, &t->active) {
        struct mdl_tcp_peer *p = mdl_container_of(it, struct mdl_tcp_peer, link);
        forgive(p, due);
        mdl_tcp_tick_at(t, tick_peer(p));
    }
}
