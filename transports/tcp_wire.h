/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the TCP transport: what crosses an authenticated socket, in bytes.
 *
 * Every frame is a header of 64 bytes and `length` bytes of payload. All frames of a pair of ranks share one sequence
 * per direction, whichever socket they take, so one acknowledgement speaks for all sockets and a frame that was sent
 * twice is known by its number. docs/wire.md has the layout.
 */
#ifndef MDL_TRANSPORTS_TCP_WIRE_H_
#define MDL_TRANSPORTS_TCP_WIRE_H_

#include "lib/base/bytes.h"
#include <medley/plugin.h>

#define MDL_TCP_MAGIC 0x5054444du /* "MDTP" */

enum {
    MDL_TCP_VERSION = 1,
    MDL_TCP_HEADER_BYTES = 64,
    MDL_TCP_WINDOW = 256, /* frames of one direction that may be unacknowledged */
    MDL_TCP_ACK_BYTES = MDL_TCP_WINDOW / 8,
    MDL_TCP_MAX_EAGER = 65536,
    MDL_TCP_MAX_CHUNK = 262144,
};

enum mdl_tcp_type {
    MDL_TCP_EAGER = 1,   /* a whole message, not asked for */
    MDL_TCP_ANNOUNCE,    /* tag and length of a large message that waits for its credit */
    MDL_TCP_CREDIT,      /* a receive is posted: its tag and capacity */
    MDL_TCP_CHUNK,       /* a piece of a message that has its credit */
    MDL_TCP_REFUSE_SEND, /* to the sender: the receive expects another tag or length (which are told) */
    MDL_TCP_REFUSE_RECV, /* to the receiver: the send has another tag or length (which are told) */
    MDL_TCP_ACK,         /* not sequenced; payload: which frames from `ack` on have come */
    MDL_TCP_PROBE,       /* not sequenced: asks for an ACK on the socket that it came by */
    MDL_TCP_BYE,         /* not sequenced; last on its socket; payload as ACK; `number`: frames ever sent, plus one */
    MDL_TCP_TYPES
};

struct mdl_tcp_header {
    uint8_t type;      /* enum mdl_tcp_type */
    uint16_t channel;  /* of the message */
    uint32_t length;   /* bytes of payload */
    uint32_t src, dst; /* ranks */
    uint32_t taken;    /* eager messages from dst that receives of src have consumed, modulo 2^32 */
    uint64_t seq;      /* 1, 2, ...; 0: not sequenced */
    uint64_t ack;      /* src has all frames below this */
    uint64_t number;   /* of the message on its channel */
    uint64_t tag;      /* CHUNK: offset in the message */
    uint64_t total;    /* length of the message; CREDIT: room */
};

static inline bool mdl_tcp_sequenced(uint8_t type) { return type < MDL_TCP_ACK; }

void mdl_tcp_header_write(const struct mdl_tcp_header *h, uint8_t bytes[MDL_TCP_HEADER_BYTES]);

/* Reads a header that came from rank `src` and checks every field that can be checked without the state of a message.
 * Returns NULL, or what is wrong (static text); *h is then not to be used. */
const char *mdl_tcp_header_read(const uint8_t bytes[MDL_TCP_HEADER_BYTES], uint32_t src, uint32_t dst,
                                struct mdl_tcp_header *h);

#endif
