/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP transport's parts and who owns what.
 *
 * A context (struct mdl_tcp) belongs to one communicator and is used by one thread at a time. It has a peer for every
 * rank with which it has had to do; a peer has a flow (the protocol) and lanes (sockets). Sockets that others opened,
 * and those that were dialled, come from the door's reactor thread through a queue under a lock (tcp_dial.c).
 *
 * Threads: everything is the using thread's, except the hand-off queue, the counters (atomic) and, under `lock`, the
 * tables of peers and lanes and the lanes' descriptors, which abort and link read: the using thread takes the lock to
 * change them and not to read them.
 */
#ifndef MDL_TRANSPORTS_TCP_CONTEXT_H_
#define MDL_TRANSPORTS_TCP_CONTEXT_H_

#include "lib/net/door.h"
#include "transports/tcp_lane.h"
#include "transports/tcp_rail.h"
#include <pthread.h>

enum {
    MDL_TCP_SCRATCH_BYTES = 64 * 1024,
    MDL_TCP_WHY_BYTES = 320,
    MDL_TCP_ADDRESS_VERSION = 1,
};

struct mdl_tcp;

/* One of the connections that a rail shall have. */
struct mdl_tcp_dial;

struct mdl_tcp_rail_state {
    struct mdl_tcp_rail rail;
    int lanes, dialing;
    unsigned failures; /* in a row */
    uint64_t next_ns;  /* not dialled before this */
};

struct mdl_tcp_peer {
    struct mdl_tcp *t;
    int rank;
    bool dirty;      /* in t->dirty */
    bool lost, left; /* no further traffic: failed, or said goodbye */
    bool fallback;   /* every rail has failed: dial any address */
    bool met;        /* there has been a lane */
    bool told;       /* that there is none yet */
    unsigned violations;
    struct mdl_list link, dirty_link;
    struct mdl_tcp_flow flow;
    struct mdl_tcp_lane *lanes[MDL_TCP_MAX_LANES];
    struct mdl_tcp_lane *heard; /* the lane by which something came last; NULL: it is down */
    int nlanes, nslots;         /* lanes, and the end of the part of `lanes` that is in use */
    int nrails;
    unsigned quick_turns;                                   /* in which only the lane that was heard last was read */
    struct mdl_tcp_rail_state rails[MDL_TCP_MAX_RAILS + 1]; /* the last one: any way there is */
    struct mdl_addr remotes[MDL_MAX_ADDRS];
    int nremotes;
    struct mdl_list dials;
    uint64_t down_since_ns; /* needed and without a lane since then; 0: not so */
    uint64_t probe_ns;      /* when to ask the lanes whether they live, if nothing is acknowledged before */
    uint64_t probe_wait_ns;
    uint64_t flow_retries;       /* of flow.retries, already counted in `retries` */
    char why[MDL_TCP_WHY_BYTES]; /* the latest failure of a lane or a dial */
    _Atomic uint64_t sent_bytes, recv_bytes, retries, redials;
};

struct mdl_tcp {
    int rank, nranks;
    const struct mdl_config *cfg;
    char name[64];
    const volatile uint32_t *abort_word;
    void (*peer_lost)(void *engine, int rank, medleyResult_t code, const char *why);
    void *engine;
    struct mdl_secret secret;
    struct mdl_door *door;
    struct mdl_service *service;
    struct mdl_addr locals[MDL_MAX_ADDRS];
    int nlocals;

    uint8_t **addresses; /* [nranks]: length u16, then what the rank's `address` gave; NULL: not reachable */
    int epoll_fd, wake_fd, timer_fd;
    struct mdl_tcp_peer **peers; /* [nranks] */
    struct mdl_list active;      /* peers that exist */
    struct mdl_list dirty;       /* those that may have something to send */
    struct mdl_list dead_lanes;  /* to be freed when no event can name them any more */
    int nlanes;
    int *leaving, nleaving; /* close: sockets that still deliver */
    struct mdl_tcp_pool pool;
    uint64_t now, next_tick_ns, timer_ns;
    uint64_t events;
    unsigned idle_turns;
    bool connected; /* connect_all was called */
    bool more;      /* a lane stopped reading although there was more */
    medleyResult_t failed;

    pthread_mutex_t lock; /* see above */

    pthread_mutex_t handoff_lock;
    struct mdl_list handoff; /* struct mdl_tcp_dial */
    int nhandoff;
    atomic_bool handed; /* handoff is not empty */

    atomic_int busy; /* 1 while the using thread is inside */
    atomic_bool aborted;
    _Atomic(const void *) user; /* the thread inside */

    uint8_t *scratch; /* where unwanted payload goes */
};

/* ---- tcp_dial.c: connections that come and go out ---- */

/* A connection on its way to the using thread: dialled (peer set) or accepted. */
struct mdl_tcp_dial {
    struct mdl_list link;      /* in t->handoff once it is done */
    struct mdl_list peer_link; /* in peer->dials */
    struct mdl_tcp *t;
    struct mdl_tcp_peer *peer;
    int rail;
    struct mdl_dial *dial;
    medleyResult_t result;
    struct mdl_link conn;
    char why[MDL_TCP_WHY_BYTES];
};

void mdl_tcp_on_link(void *ctx, const struct mdl_link *link); /* reactor's thread */
medleyResult_t mdl_tcp_dial_rail(struct mdl_tcp_peer *p, int rail) MDL_MUST_USE;
void mdl_tcp_cancel_dials(struct mdl_tcp_peer *p);
void mdl_tcp_take_handoff(struct mdl_tcp *t);
void mdl_tcp_drop_handoff(struct mdl_tcp *t);

/* ---- tcp_peer.c ---- */

/* The peer, made at its first use; NULL (reported): out of reach or no memory. */
struct mdl_tcp_peer *mdl_tcp_peer_get(struct mdl_tcp *t, int rank);
/* Says goodbye on its lanes, and appends the sockets that still deliver to t->leaving. */
void mdl_tcp_peer_free(struct mdl_tcp_peer *p);
void mdl_tcp_peer_touch(struct mdl_tcp_peer *p); /* has something to send, perhaps */
medleyResult_t mdl_tcp_peer_flush(struct mdl_tcp_peer *p, bool idle) MDL_MUST_USE;
medleyResult_t mdl_tcp_peer_adopt(struct mdl_tcp_peer *p, const struct mdl_link *link, int rail) MDL_MUST_USE;
medleyResult_t mdl_tcp_peer_read(struct mdl_tcp_peer *p, struct mdl_tcp_lane *lane) MDL_MUST_USE;
void mdl_tcp_lane_kill(struct mdl_tcp_lane *lane, const char *why);
void mdl_tcp_lanes_bury(struct mdl_tcp *t);

/* ---- tcp_ways.c: which lane takes what ---- */

void mdl_tcp_ways_find(struct mdl_tcp_peer *p); /* after a lane came or went */
/* NULL: none has space. */
struct mdl_tcp_lane *mdl_tcp_lane_for_small(const struct mdl_tcp_peer *p);
struct mdl_tcp_lane *mdl_tcp_lane_for_ack(const struct mdl_tcp_peer *p); /* one that seems to be alive */
/* NULL: none has room, or one that has not is quicker all the same. */
struct mdl_tcp_lane *mdl_tcp_lane_for_chunk(struct mdl_tcp_peer *p);

/* ---- tcp_linger.c ---- */

/* Takes over sockets that will not be written to any more and closes each when the peer has all of it. */
void mdl_tcp_linger(const struct mdl_config *cfg, int *fds, int count);

/* ---- tcp_progress.c ---- */

medleyResult_t mdl_tcp_progress(void *ctx, int *events) MDL_MUST_USE;
medleyResult_t mdl_tcp_arm(void *ctx, int *fd) MDL_MUST_USE;
void mdl_tcp_disarm(void *ctx);
bool mdl_tcp_enter(struct mdl_tcp *t); /* false: aborted */
void mdl_tcp_leave(struct mdl_tcp *t);
void mdl_tcp_abort(void *ctx); /* [any thread] */

/* ---- tcp_watch.c: time ---- */

void mdl_tcp_peer_need(struct mdl_tcp_peer *p); /* something waits for it: see that there are lanes */
void mdl_tcp_tick(struct mdl_tcp *t);           /* what is due at t->now */
void mdl_tcp_tick_at(struct mdl_tcp *t, uint64_t at_ns);
void mdl_tcp_peer_lose(struct mdl_tcp_peer *p, const char *why);

#endif
