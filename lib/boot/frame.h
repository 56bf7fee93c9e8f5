/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed header of every bootstrap and control message, and its reading and writing. Pure.
 *
 * magic "MDLC" u32, version u8, type u8, flags u16, length u32 (of the payload that follows), src u32, dst u32, seq u64
 * (counts the frames of one direction of one link from 0). docs/wire.md has the bytes.
 */
#ifndef MDL_BOOT_FRAME_H_
#define MDL_BOOT_FRAME_H_

#include "lib/base/bytes.h"

enum { MDL_FRAME_BYTES = 28, MDL_FRAME_VERSION = 1 };
#define MDL_FRAME_MAGIC 0x434c444du
#define MDL_FRAME_ROOT  0xffffffffu /* as src or dst: the root of a rendezvous, which has no rank */

/* The plane's own message types; those from MDL_CTL_USER on belong to the layers above. */
enum mdl_frame_type {
    MDL_FRAME_JOIN = 1, /* rendezvous */
    MDL_FRAME_WAIT = 2,
    MDL_FRAME_READY = 3,
    MDL_FRAME_GOT = 4,
    MDL_FRAME_REFUSE = 5,
    MDL_FRAME_LEAVE = 6,
    MDL_FRAME_HELLO = 16, /* control links */
    MDL_FRAME_BEAT = 17,
    MDL_FRAME_GOODBYE = 18,
    MDL_FRAME_GATHER_UP = 19,
    MDL_FRAME_GATHER_DOWN = 20,
    MDL_FRAME_MISSING_UP = 21,
    MDL_FRAME_MISSING_DOWN = 22,
    MDL_FRAME_FAULT = 23,
    MDL_FRAME_FAULT_SEEN = 24,
    MDL_FRAME_RESUME = 25,
    MDL_FRAME_CALL = 26,
};
enum { MDL_FRAME_FORWARDED = 1 /* JOIN: by another root */, MDL_FRAME_ANSWER = 1 /* BEAT: wants one back */ };

struct mdl_frame {
    uint8_t type;
    uint16_t flags;
    uint32_t length, src, dst;
    uint64_t seq;
};

void mdl_frame_write(uint8_t head[MDL_FRAME_BYTES], const struct mdl_frame *frame);

/* NULL, or what is wrong with the header: magic, version or a length over MDL_CTL_MAX_PAYLOAD. */
const char *mdl_frame_read(const uint8_t head[MDL_FRAME_BYTES], struct mdl_frame *frame);

#endif
