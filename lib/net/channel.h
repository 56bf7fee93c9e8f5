/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels: many links between two processes of a host over one connection, so that a process needs a descriptor for
 * each process that it knows and not for each link.
 *
 * A dial with `share` to an abstract Unix name makes a trunk: its handshake is like any other's, and what follows it are
 * frames, of which channel 0 is the link that was dialed. A later such dial to the same name opens a channel of that
 * trunk, and goes through the same handshake in it: who may carry one communicator's links proves itself for each other
 * communicator anew. Only who dialed a trunk opens channels; it hangs up when the last one is closed. The end of the
 * connection, or of the process at its other end (a pidfd), is the end of all channels.
 *
 * A channel is a stream of messages in both directions that never blocks: what the socket does not take is kept, and
 * what comes is handed over at once. Reactor's thread only.
 */
#ifndef MDL_NET_CHANNEL_H_
#define MDL_NET_CHANNEL_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MDL_CHANNEL_MAX = 96 * 1024, MDL_CHANNEL_FDS = 4 }; /* of one message */

struct mdl_addr;
struct mdl_door;
struct mdl_channel;
struct mdl_channel_use {
    /* One message, as it was sent. The descriptors become the receiver's. */
    void (*on_data)(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds);
    /* Nothing more comes: close it. `err`: an errno, 0: the other side closed it, MDL_CHANNEL_DIED: its process ended */
    void (*on_end)(void *ctx, int err, const char *why);
};
enum { MDL_CHANNEL_DIED = -2 };

/* Both may close any channel, this one too. */
void mdl_channel_use(struct mdl_channel *c, const struct mdl_channel_use *use, void *ctx);

/* A channel that is never opened: it only tells the end of a connection that was dialed from here to `to` and that
 * others use. NULL: it is not there, or is not `connection`. */
struct mdl_channel *mdl_channel_quiet(struct mdl_door *door, const struct mdl_addr *to, const void *connection,
                                      const struct mdl_channel_use *use, void *ctx);

/* One message of two parts. `charge` (may be NULL) was raised by `len` by the caller and is lowered when the message
 * has left or was dropped. The descriptors stay the caller's. */
struct mdl_channel_message {
    const void *head, *body;
    size_t head_len, len;
    const int *fds;
    int nfds;
    atomic_size_t *charge;
};
void mdl_channel_send(struct mdl_channel *c, const struct mdl_channel_message *m);
bool mdl_channel_idle(const struct mdl_channel *c);  /* all that was sent has gone to the kernel */
int mdl_channel_unsent(const struct mdl_channel *c); /* messages that have not */
void mdl_channel_finish(struct mdl_channel *c);      /* nothing more will be sent: the other side sees the end */
void mdl_channel_close(struct mdl_channel *c);       /* what was sent still leaves; no callback after it. NULL: nothing */
pid_t mdl_channel_pid(const struct mdl_channel *c);  /* of the other process as seen here, 0: it is not */
bool mdl_channel_same_user(const struct mdl_channel *c); /* does its process run as the same user? */
const void *mdl_channel_connection(const struct mdl_channel *c); /* the same for all that share one, while any does */
bool mdl_channel_watched(const struct mdl_channel *c); /* is there a pidfd of it? */

#endif
