/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A wire: an authenticated connection that carries frames. Reactor's thread only.
 *
 * Sending never blocks: what the socket does not take is kept until it does. What came is handed over frame by frame; a
 * frame that is not one (magic, version, length, sequence, sender) ends the wire. The end is reported once, after all
 * that the peer had sent before it: a goodbye is not lost to a reset.
 */
#ifndef MDL_BOOT_WIRE_H_
#define MDL_BOOT_WIRE_H_

#include "lib/boot/frame.h"
#include "lib/net/door.h"
#include <stdatomic.h>

/* CUT: the kernel has had no answer for too long; BROKEN: any other error. */
enum mdl_wire_end { MDL_WIRE_CLOSED, MDL_WIRE_BROKEN, MDL_WIRE_NONSENSE, MDL_WIRE_CUT };

struct mdl_wire;
struct mdl_wire_use {
    void (*on_frame)(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload);
    void (*on_end)(struct mdl_wire *w, enum mdl_wire_end end, const char *why); /* nothing more comes; close it */
};

/* Both may call anything, mdl_wire_close of this wire too. */
struct mdl_wire_args {
    struct mdl_reactor *reactor;
    const struct mdl_wire_use *use;
    void *ctx;
    uint32_t self, peer; /* what dst and src of incoming frames must be; */
    bool any_address;    /* unless this is set */
};

/* Takes the link over, also on failure. */
medleyResult_t mdl_wire_open(const struct mdl_wire_args *args, const struct mdl_link *link,
                             struct mdl_wire **wire) MDL_MUST_USE;
void mdl_wire_close(struct mdl_wire *w);
void *mdl_wire_ctx(const struct mdl_wire *w);
void mdl_wire_set_ctx(struct mdl_wire *w, void *ctx);
const struct mdl_link *mdl_wire_link(const struct mdl_wire *w);

/* `frame`: type and flags; src and dst too if the wire has any_address. `charge` (may be NULL) was raised by `len` by
 * the caller and is lowered when the frame has left or was dropped. InternalError without memory: the wire then ends.
 */
void mdl_wire_send(struct mdl_wire *w, const struct mdl_frame *frame, const void *payload, size_t len,
                   atomic_size_t *charge);
bool mdl_wire_idle(const struct mdl_wire *w); /* all that was sent has gone to the kernel */
bool mdl_wire_read_now(struct mdl_wire *w);   /* hands over what has come, and the end if it has: may call back;
                                                 false: there is more */
void mdl_wire_finish(struct mdl_wire *w);     /* nothing more will be sent: tells the kernel */

#endif
