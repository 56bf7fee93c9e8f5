/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One socket to a peer: writes frames in batches, reads frames so that payload lands where it belongs. A lane knows the
 * flow but not the context: it reports what became of the socket and its owner acts.
 */
#ifndef MDL_TRANSPORTS_TCP_LANE_H_
#define MDL_TRANSPORTS_TCP_LANE_H_

#include "lib/net/addr.h"
#include "transports/tcp_flow.h"
#include <stdatomic.h>

enum { MDL_TCP_BATCH = 16, MDL_TCP_STAGE_BYTES = 8192 };

/* What reading and writing return: 0, an errno, or one of these. */
enum {
    MDL_TCP_EOF = -1,
    MDL_TCP_BROKEN = -2, /* a frame broke the protocol: lane->bad says how */
    MDL_TCP_FATAL = -3,  /* an error of the communicator, reported: lane->fatal */
};

struct mdl_tcp_out {
    uint64_t seq;
    uint8_t head[MDL_TCP_HEADER_BYTES + MDL_TCP_ACK_BYTES];
    size_t head_len, len;
    const uint8_t *payload; /* NULL with a len: nobody needs it any more, send anything */
};

struct mdl_tcp_lane {
    struct mdl_list link; /* in the context's dead lanes */
    void *owner;          /* struct mdl_tcp_peer */
    struct mdl_tcp_flow *flow;
    int slot, fd, rail; /* rail -1: the peer dialled */
    int first;          /* the lowest slot whose lane takes the same way: joins the same addresses */
    bool blocked;       /* the socket took less than there was */
    bool wants_out;     /* epoll waits for EPOLLOUT */
    bool bye;           /* the peer's last frame has come */
    bool asked;         /* by a probe */
    uint64_t probed_ns; /* the first probe since it was heard */
    uint64_t heard_ns;  /* when something came by it last */
    struct mdl_addr local, remote;
    const char *bad;
    medleyResult_t fatal;
    size_t got;                   /* bytes of the last reading ... */
    size_t heard_bytes;           /* ... that had any */
    uint64_t bytes_in, bytes_out; /* payload; collected by the owner */

    /* frames to write: a ring of which out_at is the first, out_done bytes of it are gone */
    unsigned out_at, nout;
    size_t out_done;
    struct mdl_tcp_out out[MDL_TCP_BATCH];

    /* the frame that is read */
    struct mdl_tcp_reading reading;
    bool in_payload;
    size_t in_done;
    size_t stage_at, stage_len; /* bytes that were read and not looked at */
    uint8_t stage[MDL_TCP_STAGE_BYTES];
};

struct mdl_tcp_lane *mdl_tcp_lane_new(struct mdl_tcp_flow *flow, void *owner, int slot, int fd, int rail);

static inline bool mdl_tcp_lane_has_space(const struct mdl_tcp_lane *lane) { return lane->nout < MDL_TCP_BATCH; }
void mdl_tcp_lane_put(struct mdl_tcp_lane *lane, const struct mdl_tcp_take *take);
void mdl_tcp_lane_put_ack(struct mdl_tcp_lane *lane, uint8_t type); /* ACK or BYE */
void mdl_tcp_lane_put_probe(struct mdl_tcp_lane *lane, uint64_t now);
void mdl_tcp_lane_let_go(struct mdl_tcp_lane *lane); /* payload that the flow does not need any more */
int mdl_tcp_lane_write(struct mdl_tcp_lane *lane);

/* Reads and handles what is there, at most about `budget` bytes; *more: it stopped for that. */
int mdl_tcp_lane_read(struct mdl_tcp_lane *lane, size_t budget, uint8_t *scratch, size_t scratch_bytes, uint64_t now,
                      bool *more);
void mdl_tcp_lane_stop_reading(struct mdl_tcp_lane *lane);

#endif
