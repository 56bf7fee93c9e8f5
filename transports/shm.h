/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-memory transport's own types. Its files:
 *
 *   shm.c          operations table, open, close, address, sleeping, abort
 *   shm_home.c     what a rank offers: ring segment, probe word; the homes of this process
 *   shm_bells.c    waking, and the bells of other processes
 *   shm_yard.c     the arenas of other processes, out of which their ranks' memory is cut
 *   shm_wire.c     bytes of the handover; shm_link.c its asker, shm_guest.c the owner that answers
 *   shm_connect.c  connect_all: dialling and handover; shm_peer.c a peer and the watch for its end
 *   shm_read.c     single copy through process_vm_readv; shm_yama.c the permission for it
 *   shm_map.c      peers' segments
 *   shm_send.c, shm_recv.c, shm_progress.c  messages
 *
 * Threads. The context's thread owns everything in struct mdl_shm and struct mdl_shm_peer but what says otherwise. The
 * monitor's thread answers the peers' questions and watches for their death. A pair of ranks in two processes has two
 * channels (lib/net/channel.h), one dialled by each side, on which that side asks. The monitor sends the questions and
 * puts the answers where the asking thread waits for them.
 */
#ifndef MDL_TRANSPORTS_SHM_H_
#define MDL_TRANSPORTS_SHM_H_

#include "lib/base/config.h"
#include "lib/base/fence.h"
#include "lib/base/list.h"
#include "lib/mem/mem.h"
#include "lib/net/bell.h"
#include "lib/net/channel.h"
#include "lib/net/door.h"
#include "transports/guard.h"
#include "transports/shm_ring.h"
#include <pthread.h>
#include <sys/types.h>

enum {
    MDL_SHM_MAX_LOCAL = 1024,      /* peers in one host that can be served */
    MDL_SHM_TILE = 256 * 1024,     /* payload moved by one call of progress, each way */
    MDL_SHM_GET_TILE = 512 * 1024, /* payload between two looks at the abort word */
};

/* ---- home (shm_home.c) ---- */

/* What this rank offers to its peers. Peers in the same process use it directly, so it is counted. */
struct mdl_shm_home {
    struct mdl_list link; /* in the list of the process */
    atomic_int refs;
    uint64_t nonce;
    _Atomic uint64_t *probe; /* in a page of its own: holds the nonce while the rank is up, never in a forked child */
    size_t probe_bytes;
    struct mdl_segment *segment; /* NULL: base is private memory */
    void *base;                  /* the rings */
    size_t len;
    int fd; /* of the rings, -1: they cannot be shared */
    struct mdl_shm_layout layout;
    struct mdl_shm_front *front;
    bool holds_bells;
    _Atomic uint32_t readers;    /* ranks of this process that are reading the owner's memory right now */
    _Atomic uint32_t departures; /* grows when a peer is gone: [any thread] */
    pthread_mutex_t lock;        /* the rest */
    bool reserve;                /* regions are backed when they are given out */
    int nranks, nregions, next_region;
    int *region_of; /* [nranks] or -1 */
};
medleyResult_t mdl_shm_home_open(int rank, int nranks, struct mdl_shm_home **home) MDL_MUST_USE;
/* Number of the region of `rank` in the rings of `owner`, where those are cut out of an arena. */
static inline int mdl_shm_region_index(int owner, int rank) { return rank < owner ? rank : rank - 1; }
struct mdl_shm_home *mdl_shm_home_find(uint64_t nonce); /* of this process, held; or NULL */
void mdl_shm_home_put(struct mdl_shm_home *home);
void mdl_shm_home_hide(bool hide); /* tests: treat ranks of one process like ranks of two */

/* Where the messages of `rank` arrive: its offset in the segment, or 0 if there is no room for another peer. The first
 * call reserves it. [any thread] */
uint64_t mdl_shm_home_region(struct mdl_shm_home *home, int rank);

/* From now on peers do not use what they read of this rank's memory. Those that are threads of this process do not even
 * read: it waits for the pieces in hand. [any thread] */
void mdl_shm_home_end(struct mdl_shm_home *home, enum mdl_shm_state state);

/* Copies from the owner's memory, a peer of this process; false, and nothing was read, once the home has ended. */
bool mdl_shm_home_read(struct mdl_shm_home *home, const void *from, void *to, size_t len);

/* ---- waking (shm_bells.c) ---- */

/* Wakes the owner if it sleeps, after a store that it may wait for. */
struct mdl_shm_peer;
void mdl_shm_wake(struct mdl_shm_peer *p);           /* context's thread */
void mdl_shm_wake_home(struct mdl_shm_home *home); /* this process's; [any thread] */

/* The bells that came over a connection, counted; takes the descriptors over. NULL without memory. */
struct mdl_shm_bells;
struct mdl_shm_bells *mdl_shm_bells_get(const void *connection, uint64_t number, const int *fds);
void mdl_shm_bells_hold(struct mdl_shm_bells *b);
void mdl_shm_bells_put(struct mdl_shm_bells *b); /* NULL: nothing */
void mdl_shm_ring_there(struct mdl_shm_peer *p); /* monitor's thread: has its monitor ring what is noted */

/* Tells the owner that some peer is gone. [any thread] */
void mdl_shm_home_departed(struct mdl_shm_home *home);

/* ---- handover messages (shm_link.c) ---- */

/* ---- arenas of other processes (shm_yard.c) ---- */

/* What came with the first handover from a process, and serves for all further communicators with it. */
struct mdl_shm_yard {
    struct mdl_list link;
    int refs;
    const void *connection; /* on which it came */
    struct mdl_addr door;   /* to which that leads */
    uint64_t arena;
    int fd;
    struct mdl_shm_bells *bells;
};
struct mdl_shm_yard *mdl_shm_yard_find(const struct mdl_addr *door, uint64_t arena); /* held; or NULL */
/* Held. Takes the descriptor over, and holds the bells. NULL without memory. */
struct mdl_shm_yard *mdl_shm_yard_add(const void *connection, const struct mdl_addr *door, uint64_t arena, int fd,
                                      struct mdl_shm_bells *bells);
void mdl_shm_yard_put(struct mdl_shm_yard *y); /* NULL: nothing */

enum mdl_shm_ask { MDL_SHM_ASK_HELLO = 1, MDL_SHM_ASK_SEGMENT = 2, MDL_SHM_ASK_RING = 3 };
enum mdl_shm_status { MDL_SHM_OK = 0, MDL_SHM_NO_ROOM = 1, MDL_SHM_NO_SEGMENT = 2, MDL_SHM_BAD = 3 };
enum { MDL_SHM_QUERY_BYTES = 32, MDL_SHM_REPLY_BYTES = 80, MDL_SHM_REPLY_FDS = 2 + MDL_BELLS_SHARED };

struct mdl_shm_query {
    uint16_t type; /* enum mdl_shm_ask */
    uint64_t seq;  /* comes back in the reply */
    uint64_t segment; /* HELLO: one that the asker would like with it, or 0; RING: the bell */
    uint64_t check; /* a segment that the asker still maps, or 0: does it still exist? */
};
struct mdl_shm_reply {
    uint16_t type;
    uint16_t status; /* enum mdl_shm_status */
    uint32_t nfds;
    uint64_t seq;
    uint64_t len;                                /* HELLO: of the ring segment; SEGMENT: of the segment */
    uint64_t region;                             /* HELLO: offset of the asker's region */
    uint64_t nonce, bells;                       /* HELLO: the owner's; the number of its bells */
    uint64_t segment_len;                        /* HELLO: of the segment that came with it, or 0 */
    uint32_t ring_bytes, bulk_slots, bulk_bytes; /* HELLO */
    uint32_t gone;                               /* SEGMENT: `check` does not exist any more */
};
void mdl_shm_query_write(const struct mdl_shm_query *q, uint8_t bytes[MDL_SHM_QUERY_BYTES]);
bool mdl_shm_query_read(const uint8_t bytes[MDL_SHM_QUERY_BYTES], struct mdl_shm_query *q);
void mdl_shm_reply_write(const struct mdl_shm_reply *r, uint8_t bytes[MDL_SHM_REPLY_BYTES]);
bool mdl_shm_reply_read(const uint8_t bytes[MDL_SHM_REPLY_BYTES], struct mdl_shm_reply *r);

/* The rank's address, as other ranks get it. */
struct mdl_shm_address {
    struct mdl_addr door; /* len 0: none */
    uint64_t nonce, host_id, probe;
    uint32_t pid, uid, page;
    uint64_t arena, rings; /* of the process; where its front page and rings are. 0: in a segment of their own */
    uint32_t ring_bytes, bulk_slots, bulk_bytes;
};
void mdl_shm_address_write(const struct mdl_shm_address *a, struct mdl_writer *w);
bool mdl_shm_address_read(const uint8_t *bytes, size_t len, struct mdl_shm_address *a);

/* ---- peers ---- */

struct mdl_shm;
struct mdl_shm_peer;

struct mdl_shm_tx { /* sends of one channel */
    struct mdl_shm_peer *peer;
    uint32_t channel;
    struct mdl_list active;           /* in mdl_shm.tx_active while it has any */
    struct mdl_list pending, waiting; /* not yet in the ring; announced and not answered */
    uint64_t pos, head;               /* bytes written; bytes consumed as last seen */
    uint64_t seq, unanswered;         /* number of the next announcement; bit k: ack[k] is awaited */
};

struct mdl_shm_rx { /* receives of one channel */
    struct mdl_shm_peer *peer;
    uint32_t channel;
    struct mdl_list active; /* in mdl_shm.rx_active while any are posted */
    struct mdl_list posted; /* not matched yet */
    uint64_t pos, told;     /* bytes consumed; as told to the sender */
    uint64_t seq;           /* number of the next announcement */
};

enum { MDL_SHM_RING_WORDS = MDL_BELLS_MAX / 64 };
enum mdl_shm_fate { MDL_SHM_HERE, MDL_SHM_LEFT, MDL_SHM_DIED };

struct mdl_shm_peer {
    struct mdl_shm *ctx;
    int rank;
    pid_t pid;         /* as this process sees it; 0: it does not */
    uint32_t told_pid; /* as the peer sees it, for messages */
    bool can_get, same_process;
    uint64_t nonce, probe;

    struct mdl_shm_home *home; /* of a peer in this process, held */
    struct mdl_shm_yard *yard; /* of a peer in another process whose memory is cut out of an arena, held */
    struct mdl_arena_view front_view, board;
    uint64_t board_segment; /* whose mapping `board` is */
    struct mdl_shm_front *front;
    struct mdl_shm_bells *bells; /* of a peer in another process */
    _Atomic uint64_t rings[MDL_SHM_RING_WORDS]; /* those that its monitor is to ring, as bits: ring_task */
    struct mdl_task ring_task;
    const void *connection; /* its identity */
    void *out, *in; /* regions: to the peer (in its segment), from the peer (in ours) */
    struct mdl_shm_layout out_layout;
    struct mdl_channel *channel; /* to it: monitor's thread, with `watched`: its end counts */
    bool watched;
    /* Monitor's thread. quiet: the channel only tells the end; the first question opens one. */
    bool quiet, has_stash;
    struct mdl_dial *dial;
    struct mdl_shm_query stash;
    struct { /* under ctx->lock: the answer to question `seq`, and whether any more can come */
        bool there, ended;
        uint64_t seq;
        struct mdl_shm_reply reply;
        int fds[MDL_SHM_REPLY_FDS];
    } answer;
    _Atomic int fate; /* enum mdl_shm_fate; [any thread] */

    struct mdl_shm_tx tx[MDL_MAX_CHANNELS];
    struct mdl_shm_rx rx[MDL_MAX_CHANNELS];
    struct mdl_list bulk_out, bulk_in;               /* requests that move through the bulk ring */
    struct mdl_list bulk_out_active, bulk_in_active; /* in mdl_shm's lists while those hold any */
    uint64_t bulk_out_pos, bulk_out_head, bulk_in_pos;
    unsigned outstanding;
    bool told; /* peer_lost was called by the context's thread */

    struct mdl_list maps; /* of its segments, most recently used first */
    uint64_t asked;       /* sequence of questions */
    _Atomic uint64_t sent_bytes, recv_bytes, fallbacks;
    _Atomic uint32_t nmaps;
};

struct mdl_shm_request {
    struct mdl_request head;
    struct mdl_list link;
    struct mdl_shm_peer *peer;
    char *ptr;
    size_t len;
    uint64_t tag;
    uint32_t channel;
    uint64_t seq; /* of the announcement */
    struct mdl_shm_place place;
};

enum mdl_shm_note { MDL_SHM_NOTE_READV = 1, MDL_SHM_NOTE_PIDFD = 2, MDL_SHM_NOTE_YAMA = 4, MDL_SHM_NOTE_APART = 8 };

struct batch;
struct mdl_shm {
    struct mdl_transport_open args;
    struct mdl_guard guard;
    struct mdl_shm_home *home;
    uint64_t host_id;
    struct mdl_door *door;
    struct mdl_service *service;
    struct mdl_secret secret;
    size_t inline_max;                     /* by configuration */
    int bell;                              /* while armed, else -1 */
    struct mdl_task settle_task;
    struct mdl_list guests;                /* monitor's thread: channels on which peers ask */
    pthread_mutex_t lock;                  /* the peers' answers */
    pthread_cond_t answered;
    const struct batch *awaited;           /* under lock: the answers that are waited for together */
    _Atomic(struct mdl_shm_peer *) *peers; /* [nranks]; NULL: not reached. Complete after connect_all */
    int npeers;
    struct mdl_list tx_active, rx_active, pulls, bulk_out_active, bulk_in_active;
    uint32_t departures;    /* as last seen */
    enum { MDL_SHM_YAMA_UNKNOWN, MDL_SHM_YAMA_FREE, MDL_SHM_YAMA_RESTRICTED } yama; /* monitor's thread */
    _Atomic uint32_t noted; /* enum mdl_shm_note */
};

static inline struct mdl_shm_peer *mdl_shm_peer(struct mdl_shm *s, int rank)
{
    if (rank < 0 || rank >= s->args.nranks) return NULL;
    return atomic_load_explicit(&s->peers[rank], memory_order_acquire); /* pairs with mdl_shm_connect_all */
}
static inline bool mdl_shm_told_to_stop(struct mdl_shm *s)
{
    const volatile uint32_t *word = s->args.abort_word;
    return (word && __atomic_load_n(word, __ATOMIC_ACQUIRE) != 0) || mdl_guard_is_shut(&s->guard);
}
/* Once per context and kind: true the first time. */
static inline bool mdl_shm_note(struct mdl_shm *s, enum mdl_shm_note note)
{
    return !(atomic_fetch_or_explicit(&s->noted, note, memory_order_relaxed) & note);
}

/* A counter of the context's thread that any thread may read. */
static inline void mdl_shm_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* shm_link.c: asks, one question at a time, and waits for the answer; a deadline in the past still takes what is
 * there. fds[MDL_SHM_REPLY_FDS] become the caller's, -1 where none came. */
medleyResult_t mdl_shm_ask(struct mdl_shm_peer *p, const struct mdl_shm_query *q) MDL_MUST_USE;
medleyResult_t mdl_shm_hear(struct mdl_shm_peer *p, uint64_t deadline_ns, struct mdl_shm_reply *r,
                            int *fds) MDL_MUST_USE;
void mdl_shm_wait_answers(struct mdl_shm *s); /* under s->lock: for something new, a moment */
/* Monitor's thread: takes the channel over, for questions to `p`; asks the first one. */
void mdl_shm_link_begin(struct mdl_shm_peer *p, struct mdl_channel *channel, const struct mdl_shm_query *first);
/* The same for a peer that is known from another communicator: without a question. false: it is not any more. */
bool mdl_shm_link_quiet(struct mdl_shm_peer *p);
void mdl_shm_link_end(struct mdl_shm_peer *p);                 /* monitor's thread */
void mdl_shm_link_ring(struct mdl_shm_peer *p, uint32_t bell); /* monitor's thread: has the peer ring its bell */
bool mdl_shm_segment_gone(struct mdl_shm *s, uint64_t segment); /* is it no segment of this process (any more)? */
/* shm_guest.c, monitor's thread: takes over an authenticated channel on which a peer will ask. */
void mdl_shm_on_link(void *ctx, const struct mdl_link *link);
void mdl_shm_drop_guests(struct mdl_shm *s);

/* shm_connect.c */
void mdl_shm_tell_answered(struct mdl_shm *s); /* under s->lock: something has come */
medleyResult_t mdl_shm_connect_all(void *ctx, const struct mdl_peer *peers, uint64_t deadline_ns, uint32_t *reach);

/* shm_peer.c */
struct mdl_shm_peer *mdl_shm_peer_new(struct mdl_shm *s, int rank, const struct mdl_shm_address *a);
void mdl_shm_peer_free(struct mdl_shm_peer *p);    /* not watched, any more or yet */
bool mdl_shm_peer_publish(struct mdl_shm_peer *p); /* `out` is there: gives it `in`, and it counts; or no room */
void mdl_shm_peer_watch(struct mdl_shm_peer *p); /* monitor's thread: its end counts from now on */
void mdl_shm_peer_ended(struct mdl_shm_peer *p); /* monitor's thread: its channel has ended */
void mdl_shm_peers_close(struct mdl_shm *s);

/* shm_read.c */
void mdl_shm_probe_peer(struct mdl_shm_peer *p); /* sets can_get */
medleyResult_t mdl_shm_get(void *ctx, int peer, uint64_t remote, void *local, size_t len);
/* Reads one tile. `last`: also proves that the peer is still the process that it was, and has not aborted. Refused by
 * the kernel: medleyInvalidUsage without a report, so that the caller can fall back. */
medleyResult_t mdl_shm_read_tile(struct mdl_shm_peer *p, uint64_t remote, void *local, size_t len,
                                 bool last) MDL_MUST_USE;

/* Is the peer still up and not aborted, after a read of its memory by other means? */
medleyResult_t mdl_shm_check_open(struct mdl_shm_peer *p) MDL_MUST_USE;

/* shm_yama.c: where Yama restricts it, lets `pid` (a peer) read this process's memory. Any thread. */
void mdl_shm_yama_allow(struct mdl_shm *s, pid_t pid);
/* Whom to name so that `before` (named now, or 0) and `pid` may both read, by the process tree in `proc`; 0: nobody. */
pid_t mdl_shm_yama_choose(const char *proc, pid_t before, pid_t pid);

/* shm_map.c */
medleyResult_t mdl_shm_map(void *ctx, int peer, uint64_t segment, void **addr, size_t *len);
void mdl_shm_unmap(void *ctx, int peer, uint64_t segment);
const char *mdl_shm_map_find(struct mdl_shm_peer *p, uint64_t segment, uint64_t offset, size_t len); /* or NULL */
void mdl_shm_unmap_all(struct mdl_shm_peer *p);
/* The peer's segment is the piece of `len` bytes at `place` of the arena in fd, which stays: maps it. */
bool mdl_shm_map_piece(struct mdl_shm_peer *p, int fd, uint64_t segment, uint64_t place, size_t len) MDL_MUST_USE;
medleyResult_t mdl_shm_map_keep(struct mdl_shm_peer *p, uint64_t segment, int fd, size_t len) MDL_MUST_USE;

/* shm_send.c, shm_recv.c: context's thread, inside the guard where they touch payload. The steps add what they did to
 * *events; the bulk steps take what they moved from *budget and stop at 0. */
medleyResult_t mdl_shm_send(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req);
medleyResult_t mdl_shm_recv(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req);
medleyResult_t mdl_shm_tx_step(struct mdl_shm_tx *tx, int *events) MDL_MUST_USE;
medleyResult_t mdl_shm_rx_step(struct mdl_shm_rx *rx, int *events) MDL_MUST_USE;
medleyResult_t mdl_shm_bulk_out_step(struct mdl_shm_peer *p, size_t *budget, int *events) MDL_MUST_USE;
medleyResult_t mdl_shm_bulk_in_step(struct mdl_shm_peer *p, size_t *budget, int *events) MDL_MUST_USE;
void mdl_shm_pull_step(struct mdl_shm_request *r);
bool mdl_shm_tx_ready(struct mdl_shm_tx *tx);
bool mdl_shm_rx_ready(struct mdl_shm_rx *rx);
bool mdl_shm_bulk_out_ready(struct mdl_shm_peer *p);
bool mdl_shm_bulk_in_ready(struct mdl_shm_peer *p);

/* shm_progress.c */
medleyResult_t mdl_shm_start(struct mdl_shm *s, int rank, const struct mdl_message *msg, struct mdl_request *req,
                             struct mdl_shm_request **request) MDL_MUST_USE;
void mdl_shm_finish(struct mdl_shm_request *r, medleyResult_t result);   /* takes it off its list */
medleyResult_t mdl_shm_broken(struct mdl_shm_peer *p, const char *what); /* the peer wrote nonsense */
bool mdl_shm_is_gone(struct mdl_shm_peer *p);
void mdl_shm_refuse_gone(struct mdl_shm_request *r); /* fails a new request because its peer is gone */
medleyResult_t mdl_shm_progress(void *ctx, int *events);
bool mdl_shm_has_work(struct mdl_shm *s);

#endif
