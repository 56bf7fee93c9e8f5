/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's lanes: what happens when a lane comes or goes, and how frames get onto them and from them. */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/sock.h"
#include "transports/tcp_context.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { READ_BUDGET = 1 << 20, MAX_VIOLATIONS = 8, CHECK_MS = 50, NEAR_US = 2000 };

/* ---- making ---- */

static void read_address(struct mdl_tcp_peer *p, const uint8_t *address)
{
    struct mdl_reader r = {.p = address + 2, .left = mdl_get_u16(address)};
    (void)mdl_read_u8(&r); /* version: checked by connect_all, like all of it */
    unsigned count = mdl_read_u8(&r);
    (void)mdl_read_u16(&r);
    size_t eager = mdl_read_u32(&r), own = p->t->cfg->eager;
    for (unsigned i = 0; i < count; i++)
        if (mdl_addr_read(&r, &p->remotes[p->nremotes]) == medleySuccess) p->nremotes++;
    mdl_tcp_flow_init(&p->flow, p->t->rank, p->rank, eager < own ? eager : own, p->t->cfg->tcp_chunk, &p->t->pool);
}

static void find_rails(struct mdl_tcp_peer *p)
{
    struct mdl_tcp_rail rails[MDL_TCP_MAX_RAILS];
    p->nrails = mdl_tcp_rails(p->t->locals, p->t->nlocals, p->remotes, p->nremotes, rails);
    for (int i = 0; i < p->nrails; i++) p->rails[i].rail = rails[i];
    p->fallback = p->nrails == 0;
}

static struct mdl_tcp_peer *peer_new(struct mdl_tcp *t, int rank)
{
    struct mdl_tcp_peer *p = calloc(1, sizeof *p);
    if (!p) {
        mdl_error(medleySystemError, "rank %d: no memory for the connection to rank %d", t->rank, rank);
        return NULL;
    }
    p->t = t;
    p->rank = rank;
    mdl_list_init(&p->dirty_link);
    mdl_list_init(&p->dials);
    read_address(p, t->addresses[rank]);
    find_rails(p);
    mdl_list_append(&t->active, &p->link);
    pthread_mutex_lock(&t->lock);
    t->peers[rank] = p;
    pthread_mutex_unlock(&t->lock);
    return p;
}

struct mdl_tcp_peer *mdl_tcp_peer_get(struct mdl_tcp *t, int rank)
{
    if (t->peers[rank]) return t->peers[rank];
    if (t->addresses[rank]) return peer_new(t, rank);
    mdl_error(medleyInvalidUsage, "rank %d: rank %d cannot be reached over TCP: it has given no usable address",
              t->rank, rank);
    return NULL;
}

static void goodbye(struct mdl_tcp_lane *lane)
{
    struct mdl_tcp *t = ((struct mdl_tcp_peer *)lane->owner)->t;
    /* In the midst of a frame there is no place for another one. */
    if (lane->nout == 0) {
        mdl_tcp_lane_put_ack(lane, MDL_TCP_BYE);
        mdl_tcp_lane_write(lane);
    }
    if (t->leaving && !lane->bye && shutdown(lane->fd, SHUT_WR) == 0) {
        t->leaving[t->nleaving++] = lane->fd;
        pthread_mutex_lock(&t->lock);
        lane->fd = -1;
        pthread_mutex_unlock(&t->lock);
    }
    mdl_tcp_lane_kill(lane, NULL);
}

void mdl_tcp_peer_free(struct mdl_tcp_peer *p)
{
    p->lost = true; /* the end of a lane shall not bring a new one */
    mdl_tcp_cancel_dials(p);
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i]) goodbye(p->lanes[i]);
    mdl_tcp_flow_fini(&p->flow);
    mdl_list_remove(&p->dirty_link);
    mdl_list_remove(&p->link);
    free(p);
}

/* ---- lanes come and go ---- */

/* Is the other end near, and the kernel's congestion control one that does not suit that? They take the delay of two
 * computers that take turns on their processors for a queue in the network, and let too little under way: bbr about 240
 * KiB where the round trip is some tens of microseconds, cubic leaves its slow start early. The other computers of a
 * cluster are mostly this near; over such round trips reno recovers as quickly as they do. */
static bool suits_reno(int fd, const char *usual)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (strcmp(usual, "bbr") != 0 && strcmp(usual, "cubic") != 0) return false;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_rtt && info.tcpi_rtt < NEAR_US;
}

/* The connection may have begun with reno in place of the kernel's choice (sock.h). */
static void set_congestion(const struct mdl_tcp *t, int fd)
{
    const char *name = t->cfg->tcp_congestion.s;
    char usual[MDL_SOCK_CONGESTION_BYTES];
    bool chosen = name[0] && strcmp(name, "auto") != 0;
    mdl_sock_congestion_default(usual);
    if (!chosen) name = name[0] && suits_reno(fd, usual) ? "reno" : usual;
    if (!name[0] || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) == 0) return;
    MDL_LOG(chosen ? medleyLogWarn : medleyLogInfo, MDL_NET,
            "rank %d: congestion control %s: %s; see MEDLEY_TCP_CONGESTION and net.ipv4.tcp_allowed_congestion_control",
            t->rank, name, strerror(errno));
}

static void tune(const struct mdl_tcp *t, int fd)
{
    /* A peer that computes for long does not read: that is no reason to break the connection. tcp_watch.c sees to
     * networks that are silent. */
    int off = 0, bytes = (int)t->cfg->socket_buffer;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &off, sizeof off);
    set_congestion(t, fd);
    if (!bytes) return;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

static int free_slot(const struct mdl_tcp_peer *p)
{
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (!p->lanes[i]) return i;
    return -1;
}

static void install(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane)
{
    pthread_mutex_lock(&p->t->lock);
    p->lanes[lane->slot] = lane;
    mdl_tcp_ways_find(p);
    p->nlanes++;
    p->t->nlanes++;
    pthread_mutex_unlock(&p->t->lock);
    if (lane->rail >= 0) p->rails[lane->rail].lanes++;
    p->down_since_ns = 0;
    mdl_tcp_flow_lane_up(&p->flow, lane->slot);
}

medleyResult_t mdl_tcp_peer_adopt(struct mdl_tcp_peer *p, const struct mdl_link *link, int rail)
{
    struct mdl_tcp *t = p->t;
    int slot = p->lost ? -1 : free_slot(p);
    struct mdl_tcp_lane *lane = slot < 0 ? NULL : mdl_tcp_lane_new(&p->flow, p, slot, link->fd, rail);
    if (!lane) {
        close(link->fd);
        return medleySuccess; /* there are others, or there will be */
    }
    lane->local = link->local;
    lane->remote = link->remote;
    if (!lane->local.ifname[0]) mdl_addr_interface_of(link->fd, lane->local.ifname, sizeof lane->local.ifname);
    tune(t, link->fd);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = lane};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, link->fd, &e) < 0) {
        medleyResult_t rc = mdl_system_error(errno, "rank %d: epoll_ctl for a connection to rank %d", t->rank, p->rank);
        close(link->fd);
        free(lane);
        return rc;
    }
    install(p, lane);
    p->met = true;
    t->events++;
    mdl_tcp_peer_touch(p);
    MDL_INFO(MDL_NET, "rank %d: TCP lane %d to rank %d is up (%s, %s)", t->rank, slot, p->rank,
             lane->local.ifname[0] ? lane->local.ifname : "?", rail < 0 ? "accepted" : "dialled");
    return medleySuccess;
}

static void backoff(struct mdl_tcp_peer *p, int rail)
{
    struct mdl_tcp_rail_state *r = &p->rails[rail];
    r->lanes--;
    r->next_ns = p->t->now + 50 * MDL_NS_PER_MS;
    mdl_tcp_tick_at(p->t, r->next_ns);
}

static void note(struct mdl_tcp_peer *p, const struct mdl_tcp_lane *lane, const char *why)
{
    char local[MDL_ADDR_TEXT_BYTES], remote[MDL_ADDR_TEXT_BYTES];
    mdl_addr_format(&lane->local, local);
    mdl_addr_format(&lane->remote, remote);
    snprintf(p->why, sizeof p->why, "%s%s%s to %s: %s", lane->local.ifname, lane->local.ifname[0] ? " " : "", local,
             remote, why);
    MDL_INFO(MDL_NET, "rank %d: TCP lane %d to rank %d is down: %s", p->t->rank, lane->slot, p->rank, p->why);
}

static void collect(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane)
{
    atomic_fetch_add_explicit(&p->sent_bytes, lane->bytes_out, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->recv_bytes, lane->bytes_in, memory_order_relaxed);
    lane->bytes_in = lane->bytes_out = 0;
}

/* why NULL: on purpose. The lane's memory stays until mdl_tcp_lanes_bury. */
void mdl_tcp_lane_kill(struct mdl_tcp_lane *lane, const char *why)
{
    struct mdl_tcp_peer *p = lane->owner;
    struct mdl_tcp *t = p->t;
    if (why) note(p, lane, why);
    collect(p, lane);
    mdl_tcp_lane_stop_reading(lane);
    mdl_tcp_flow_lane_down(&p->flow, lane->slot);
    pthread_mutex_lock(&t->lock);
    p->lanes[lane->slot] = NULL;
    mdl_tcp_ways_find(p);
    if (p->heard == lane) p->heard = NULL;
    p->nlanes--;
    t->nlanes--;
    if (lane->fd >= 0) close(lane->fd);
    lane->fd = -1;
    pthread_mutex_unlock(&t->lock);
    mdl_list_append(&t->dead_lanes, &lane->link);
    if (lane->rail >= 0) backoff(p, lane->rail);
    if (!p->nlanes && mdl_tcp_flow_busy(&p->flow)) mdl_tcp_peer_need(p);
    mdl_tcp_peer_touch(p);
}

void mdl_tcp_lanes_bury(struct mdl_tcp *t)
{
    mdl_list_each (it, &t->dead_lanes) free(mdl_container_of(it, struct mdl_tcp_lane, link));
    mdl_list_init(&t->dead_lanes);
}

/* ---- sending ---- */

void mdl_tcp_peer_touch(struct mdl_tcp_peer *p)
{
    if (p->dirty) return;
    p->dirty = true;
    mdl_list_append(&p->t->dirty, &p->dirty_link);
}

static medleyResult_t fill_small(struct mdl_tcp_peer *p)
{
    while (mdl_tcp_flow_has_small(&p->flow)) {
        struct mdl_tcp_lane *lane = mdl_tcp_lane_for_small(p);
        if (!lane) return medleySuccess;
        struct mdl_tcp_take take;
        medleyResult_t rc = mdl_tcp_flow_take_small(&p->flow, lane->slot, p->t->now, &take);
        if (rc == medleyInProgress) continue;
        MDL_TRY(rc);
        mdl_tcp_lane_put(lane, &take);
    }
    return medleySuccess;
}

static void fill_chunks(struct mdl_tcp_peer *p)
{
    while (mdl_tcp_flow_has_chunk(&p->flow)) {
        struct mdl_tcp_lane *lane = mdl_tcp_lane_for_chunk(p);
        struct mdl_tcp_take take;
        if (!lane || !mdl_tcp_flow_take_chunk(&p->flow, lane->slot, p->t->now, &take)) return;
        mdl_tcp_lane_put(lane, &take);
    }
}

static void let_go(struct mdl_tcp_peer *p)
{
    p->flow.stale = false;
    for (int i = 0; i < p->nslots; i++)
        if (p->lanes[i]) mdl_tcp_lane_let_go(p->lanes[i]);
}

static const char *what_happened(const struct mdl_tcp_lane *lane, int rc)
{
    if (lane->bye) return NULL;
    if (rc == MDL_TCP_EOF) return "end of file";
    return rc == MDL_TCP_BROKEN ? lane->bad : strerror(rc);
}

/* The peer has left. What it has sent and has not come yet may be in a connection that is still on its way here: who
 * dials may write, close and be gone while the handshake waits for its turn on this side. */
static void end_of_peer(struct mdl_tcp_peer *p)
{
    bool all = p->flow.seen_next == p->flow.bye_next;
    if (p->left) return;
    if (!all) {
        if (!p->nlanes) mdl_tcp_peer_need(p);
        return;
    }
    p->left = true;
    if (p->flow.active) mdl_tcp_peer_lose(p, "it has left the communicator");
}

/* A lane has ended. Only an error of the communicator is passed up. */
static medleyResult_t end_lane(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane, int rc)
{
    if (rc == MDL_TCP_FATAL) return lane->fatal;
    const char *why = what_happened(lane, rc);
    if (rc == MDL_TCP_BROKEN) {
        mdl_error(medleyRemoteError, "rank %d: rank %d sent a frame that breaks the protocol: %s", p->t->rank, p->rank,
                  why);
        p->violations++;
    }
    mdl_tcp_lane_kill(lane, why);
    if (p->violations > MAX_VIOLATIONS) mdl_tcp_peer_lose(p, "too many broken frames");
    if (p->flow.bye_next) end_of_peer(p);
    return medleySuccess;
}

/* A socket that takes no more may still hold what the peer said before it closed. */
static medleyResult_t end_written(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane, int rc)
{
    int last;
    bool more;
    do {
        more = false;
        last = mdl_tcp_lane_read(lane, READ_BUDGET, p->t->scratch, MDL_TCP_SCRATCH_BYTES, p->t->now, &more);
    } while (!last && more);
    return end_lane(p, lane, last == MDL_TCP_FATAL || lane->bye ? last : rc);
}

static medleyResult_t write_lanes(struct mdl_tcp_peer *p, bool *waiting)
{
    for (int i = 0; i < p->nslots; i++) {
        struct mdl_tcp_lane *lane = p->lanes[i];
        if (!lane || !lane->nout) continue;
        uint64_t before = lane->bytes_out;
        int rc = mdl_tcp_lane_write(lane);
        if (lane->bytes_out != before) p->t->events++;
        collect(p, lane); /* who is told that it is done finds it counted, whether or not this lane is read again */
        if (rc) MDL_TRY(end_written(p, lane, rc));
        if (!rc && lane->nout) *waiting = true;
    }
    return medleySuccess;
}

static void fill_acks(struct mdl_tcp_peer *p, bool idle)
{
    for (int i = 0; i < p->nslots; i++) {
        struct mdl_tcp_lane *lane = p->lanes[i];
        if (lane && lane->asked && mdl_tcp_lane_has_space(lane)) mdl_tcp_lane_put_ack(lane, MDL_TCP_ACK);
    }
    struct mdl_tcp_lane *lane = mdl_tcp_flow_ack_wanted(&p->flow, idle) ? mdl_tcp_lane_for_ack(p) : NULL;
    if (lane) mdl_tcp_lane_put_ack(lane, MDL_TCP_ACK);
}

static bool done_with(const struct mdl_tcp_peer *p)
{
    return !mdl_tcp_flow_has_small(&p->flow) && !mdl_tcp_flow_has_chunk(&p->flow);
}

medleyResult_t mdl_tcp_peer_flush(struct mdl_tcp_peer *p, bool idle)
{
    uint64_t before = p->flow.events;
    bool waiting = false;
    if (p->flow.stale) let_go(p);
    if (idle) mdl_tcp_flow_announce(&p->flow);
    if (p->nlanes) {
        MDL_TRY(fill_small(p));
        fill_chunks(p);
        fill_acks(p, idle);
        MDL_TRY(write_lanes(p, &waiting));
    }
    p->t->events += p->flow.events - before;
    if (p->flow.retries != p->flow_retries) {
        atomic_fetch_add_explicit(&p->retries, p->flow.retries - p->flow_retries, memory_order_relaxed);
        p->flow_retries = p->flow.retries;
    }
    if (p->flow.base != p->flow.next) mdl_tcp_tick_at(p->t, p->t->now + CHECK_MS * MDL_NS_PER_MS);
    if (waiting || (p->nlanes && !done_with(p))) {
        mdl_tcp_peer_touch(p);
    } else {
        mdl_list_remove(&p->dirty_link);
        p->dirty = false;
    }
    return medleySuccess;
}

/* ---- receiving ---- */

medleyResult_t mdl_tcp_peer_read(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane)
{
    uint64_t before = p->flow.events;
    int rc = mdl_tcp_lane_read(lane, READ_BUDGET, p->t->scratch, MDL_TCP_SCRATCH_BYTES, p->t->now, &p->t->more);
    p->t->events += p->flow.events - before;
    if (p->flow.events != before) {
        p->heard = lane;
        mdl_tcp_peer_touch(p);
    }
    collect(p, lane);
    if (rc) MDL_TRY(end_lane(p, lane, rc));
    if (p->flow.bye_next) end_of_peer(p);
    return medleySuccess;
}
