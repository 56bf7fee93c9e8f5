/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol between two ranks, without sockets: which frame goes next, where the payload of one that comes belongs,
 * and what is still unacknowledged. The lanes (sockets) ask it for frames and tell it what happened to them.
 *
 * - Messages are matched by number: the k-th send of a channel meets its k-th receive. Frames may overtake each other,
 *   because they take different lanes.
 * - A message up to `eager` bytes travels at once (EAGER) as long as fewer than `eager_max` such messages are neither
 *   consumed nor reported as consumed; the receiver buffers those that have no receive yet. A larger one waits for the
 *   receiver's CREDIT and then moves in CHUNKs straight into the posted buffer.
 * - A receiver that holds many unexpected messages sends CREDITs for small receives too: so one channel that nobody
 *   reads cannot stop the others.
 * - Every frame but ACK and BYE is kept until it is acknowledged. When a lane goes down, what it had unacknowledged is
 *   sent again on others, under the same sequence number; the receiver drops what it has seen. When the second copy of
 *   a frame has arrived while the first is still being read, the first goes on into nowhere, because the buffer may be
 *   the user's again.
 *
 * One thread at a time; it never blocks; it allocates a channel at its first use and buffers from the pool, nothing
 * else.
 */
#ifndef MDL_TRANSPORTS_TCP_FLOW_H_
#define MDL_TRANSPORTS_TCP_FLOW_H_

#include "lib/base/list.h"
#include "lib/base/status.h"
#include "transports/tcp_pool.h"
#include "transports/tcp_wire.h"

enum {
    MDL_TCP_MAX_LANES = 32,   /* of one peer */
    MDL_TCP_CREDITS = 16,     /* receives of one channel that may have credit at once */
    MDL_TCP_EAGER_COUNT = 64, /* unexpected messages per peer ... */
    MDL_TCP_EAGER_BYTES = 1 << 20,
    MDL_TCP_REFUSALS = 16,
};

/* The CREDIT of a receive: not needed, to be given as soon as the channel may, or given. */
enum mdl_tcp_grant { MDL_TCP_GRANT_NONE, MDL_TCP_GRANT_OWED, MDL_TCP_GRANT_GIVEN };

/* What the engine embeds. `base` first: the engine reads only that. */
struct mdl_tcp_request {
    struct mdl_request base;
    struct mdl_list link; /* in its channel: posted, waiting or sending */
    struct mdl_list todo; /* in a work list of the flow */
    uint8_t *ptr;
    size_t len;
    uint64_t tag, number;
    size_t issued;  /* send: bytes given to lanes */
    size_t settled; /* bytes acknowledged or arrived */
    uint16_t channel;
    uint8_t grant; /* recv: enum mdl_tcp_grant */
    bool sends;
};

struct mdl_tcp_credit {
    uint64_t number, tag, room;
    bool set;
};

struct mdl_tcp_channel {
    struct mdl_list posted;  /* receives, by number */
    struct mdl_list held;    /* unexpected messages (struct mdl_tcp_buf), by number */
    struct mdl_list waiting; /* sends of which nothing has left, by number */
    struct mdl_list sending; /* sends on their way */
    struct mdl_list todo;    /* in flow->announces */
    uint64_t send_next, recv_next;
    uint64_t announced;                             /* sends below it have been announced */
    unsigned owing;                                 /* posted receives in MDL_TCP_GRANT_OWED */
    bool mismatched;                                /* has been reported */
    struct mdl_tcp_credit heard;                    /* the peer's latest ANNOUNCE */
    struct mdl_tcp_credit credits[MDL_TCP_CREDITS]; /* for messages not sent yet; number modulo MDL_TCP_CREDITS */
};

enum mdl_tcp_frame_state { MDL_TCP_FREE, MDL_TCP_QUEUED, MDL_TCP_SENT, MDL_TCP_ACKED };

/* A frame between its creation and its acknowledgement. */
struct mdl_tcp_frame {
    uint8_t type, state, lane;
    bool again; /* has been sent more than once */
    uint16_t channel;
    uint32_t length;
    uint64_t number, tag, total;
    struct mdl_tcp_request *req; /* CHUNK; EAGER until it is written */
    struct mdl_tcp_buf *buf;     /* EAGER: the copy */
    uint64_t sent_ns;
    uint64_t delivered; /* of its lane, when it was sent */
};

/* What a lane has on the way, and how much it may have. */
struct mdl_tcp_path {
    bool up;
    bool limited;      /* wanted more than its window since the last acknowledgement */
    size_t unacked;    /* bytes of frames not acknowledged */
    size_t chunk;      /* bytes of the pieces that it gets */
    size_t window;     /* unacknowledged bytes that it may have */
    uint64_t rtt_ns;   /* smoothed: from taking a chunk to its acknowledgement; 0: unknown */
    uint64_t least_ns; /* the shortest such time lately; 0: unknown */
    uint64_t least_at_ns;
    uint64_t heard_ns;              /* when something on it was acknowledged last; 0: never */
    uint64_t delivered;             /* bytes acknowledged */
    uint64_t rate;                  /* smoothed: bytes acknowledged per ms while there were any; 0: unknown */
    uint64_t speed;                 /* the same of chunks, over a longer time; 0: unknown */
    size_t bulk;                    /* bytes of chunks not acknowledged */
    uint64_t idle_ns;               /* none since then, if there are none */
    uint64_t since_ns, since_bytes; /* when the measurement of speed began, and what was acknowledged since */
};

/* The frame that a lane is reading. The lane owns it. */
struct mdl_tcp_reading {
    struct mdl_list link; /* in flow->readings while payload is awaited */
    struct mdl_tcp_header h;
    uint8_t *sink; /* where the payload goes; NULL: nowhere, because it has been seen or nobody wants it */
    struct mdl_tcp_request *req;
    struct mdl_tcp_buf *buf;
    uint8_t small[MDL_TCP_ACK_BYTES];
};

struct mdl_tcp_refusal {
    uint8_t type;
    uint16_t channel;
    uint64_t number, tag, len;
};

struct mdl_tcp_flow {
    int rank, peer;
    size_t eager;       /* the smaller of both sides' */
    uint32_t eager_max; /* messages */
    size_t chunk;       /* largest piece */
    struct mdl_tcp_pool *pool;
    struct mdl_tcp_channel *channels[MDL_MAX_CHANNELS];
    struct mdl_list readings;

    /* sending */
    struct mdl_tcp_frame ring[MDL_TCP_WINDOW]; /* by seq modulo its size */
    uint64_t base, next;                       /* lowest unacknowledged; next to give */
    unsigned again_small, again_chunks;        /* frames in state QUEUED */
    struct mdl_list announces;                 /* channels */
    bool announcing;                           /* they may leave; never with an empty list */
    struct mdl_list credits;                   /* receives */
    struct mdl_list pulled;                    /* eager sends that have credit */
    struct mdl_list eagers;                    /* eager sends, in order */
    struct mdl_list chunks;                    /* sends with bytes to issue, served in turn */
    struct mdl_tcp_refusal refusals[MDL_TCP_REFUSALS];
    unsigned nrefusals;
    uint32_t eager_sent, eager_taken; /* messages sent; of those, known to be consumed */
    struct mdl_tcp_path paths[MDL_TCP_MAX_LANES];
    uint64_t acked_sent_ns; /* when the youngest acknowledged frame had been sent */
    uint64_t settled_ns;    /* when a frame was acknowledged last */

    /* receiving */
    uint64_t seen_next; /* all frames below it have come */
    uint64_t seen[MDL_TCP_WINDOW / 64];
    uint32_t taken;     /* eager messages consumed */
    unsigned held;      /* unexpected messages in buffers */
    uint64_t told_next; /* what the peer has been told last */
    uint32_t told_taken;
    size_t untold_bytes; /* arrived since then */
    unsigned untold;     /* frames, likewise */
    bool ack_due;        /* must be told soon */
    uint64_t bye_next;   /* from BYE: the peer's `next`; 0: none came */

    /* counters */
    uint64_t events, retries;
    bool stale;      /* a frame that had been sent again was acknowledged: lanes must let go of its payload */
    unsigned active; /* requests that are ACTIVE */
    const char *bad; /* what was wrong with the frame that mdl_tcp_flow_accept or _arrived refused */
};

/* `eager` and `chunk` as agreed; `pool` has buffers of at least `eager` bytes. */
void mdl_tcp_flow_init(struct mdl_tcp_flow *f, int rank, int peer, size_t eager, size_t chunk,
                       struct mdl_tcp_pool *pool);
/* Touches no request and no user memory. No lane may be reading. */
void mdl_tcp_flow_fini(struct mdl_tcp_flow *f);

medleyResult_t mdl_tcp_flow_send(struct mdl_tcp_flow *f, const struct mdl_message *m,
                                 struct mdl_tcp_request *req) MDL_MUST_USE;
medleyResult_t mdl_tcp_flow_recv(struct mdl_tcp_flow *f, const struct mdl_message *m,
                                 struct mdl_tcp_request *req) MDL_MUST_USE;
void mdl_tcp_flow_fail(struct mdl_tcp_flow *f, medleyResult_t code); /* every request of it becomes FAILED */
bool mdl_tcp_flow_busy(const struct mdl_tcp_flow *f);                /* a request or a frame waits for the peer */

/* A frame for a lane. `payload` stays valid until the frame is acknowledged or the lane goes down. */
struct mdl_tcp_take {
    struct mdl_tcp_header h;
    const uint8_t *payload;
};
bool mdl_tcp_flow_has_small(const struct mdl_tcp_flow *f); /* anything but a chunk */
/* From now on announcements leave too. They only matter when no CREDIT comes; mostly one does. */
void mdl_tcp_flow_announce(struct mdl_tcp_flow *f);
bool mdl_tcp_flow_has_chunk(const struct mdl_tcp_flow *f);
bool mdl_tcp_flow_room(struct mdl_tcp_flow *f, int lane); /* may it take a chunk? */
medleyResult_t mdl_tcp_flow_take_small(struct mdl_tcp_flow *f, int lane, uint64_t now,
                                       struct mdl_tcp_take *t) MDL_MUST_USE; /* InProgress: none after all */
bool mdl_tcp_flow_take_chunk(struct mdl_tcp_flow *f, int lane, uint64_t now, struct mdl_tcp_take *t);
/* The kernel has all of frame `seq`. */
void mdl_tcp_flow_written(struct mdl_tcp_flow *f, uint64_t seq);
/* Does the peer still need frame `seq`? If not, its payload must not be read any more. */
bool mdl_tcp_flow_needs(const struct mdl_tcp_flow *f, uint64_t seq);

/* Is an acknowledgement to be sent: because it is time, or (`idle`) because there is any? */
bool mdl_tcp_flow_ack_wanted(const struct mdl_tcp_flow *f, bool idle);
/* Fills ranks and acknowledgement into a header that is about to leave. */
void mdl_tcp_flow_tell(struct mdl_tcp_flow *f, struct mdl_tcp_header *h);
void mdl_tcp_flow_make_ack(struct mdl_tcp_flow *f, uint8_t type, struct mdl_tcp_header *h,
                           uint8_t payload[MDL_TCP_ACK_BYTES]);

/* A checked header has come: finds the place of its payload and puts `r` into the list of readings. Then, when all of
 * the payload is there, `arrived` ends it. medleyInternalError: the frame breaks the protocol and `f->bad` says how.
 * Any other error is the communicator's. `cancel` ends a reading whose lane went down. */
medleyResult_t mdl_tcp_flow_accept(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r) MDL_MUST_USE;
medleyResult_t mdl_tcp_flow_arrived(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r, uint64_t now) MDL_MUST_USE;
void mdl_tcp_flow_cancel(struct mdl_tcp_flow *f, struct mdl_tcp_reading *r);

void mdl_tcp_flow_lane_up(struct mdl_tcp_flow *f, int lane);
void mdl_tcp_flow_lane_down(struct mdl_tcp_flow *f, int lane);
/* When the oldest frame on the lane was taken; 0: it has none. */
uint64_t mdl_tcp_flow_oldest(const struct mdl_tcp_flow *f, int lane);

#endif
