/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only way in and out: listening sockets and outgoing connections, on both of which each side proves that it knows
 * the communicator's secret before a byte of anything else is read. Used by bootstrap, control links, TCP and the
 * same-host handover (abstract Unix sockets).
 *
 * Handshake (wire version MDL_WIRE_VERSION; all little-endian; documented with its bytes in docs/wire.md)
 *   client: magic "MEDLEY\r\n", version_min u16, version_max u16, purpose u8, flags u8, 2 reserved bytes, tag[16], rank u32, to
 * u32 (the rank that is wanted, ~0: any), nonce_c[32] server: magic, status u16 (0 ok, 1 version refused), version u16,
 * rank u32, nonce_s[32], mac_s[32] = HMAC(secret, "medley server" || all client bytes || server bytes so far) client:
 * mac_c[32] = HMAC(secret, "medley client" || all client bytes || all server bytes) tag = first 16 bytes of
 * HMAC(secret, "medley tag"): public, finds the secret; together with purpose and `to` it finds the service, so that
 * several ranks of one process share a door. An unknown tag, a wrong magic or MAC, a byte after the deadline: closed
 * without an answer. A version refusal is answered, under the same MAC, so that the client can say which versions met
 * (lowest in `version`, highest in the first two bytes of nonce_s). Half-open connections are capped (auth_pending: the
 * oldest goes, those that never showed a known tag first) and have a deadline (auth_timeout).
 *
 * The client is done when its proof is on the way; the server may still close (unserved meanwhile), which the client
 * then sees as end of file.
 */
#ifndef MDL_NET_DOOR_H_
#define MDL_NET_DOOR_H_

#include "lib/net/addr.h"
#include "lib/net/reactor.h"

enum { MDL_WIRE_VERSION = 1, MDL_WIRE_VERSION_MIN = 1 };
enum { MDL_NET_SECRET_BYTES = 32, MDL_NET_TAG_BYTES = 16 };

enum mdl_purpose { MDL_PURPOSE_RENDEZVOUS = 1, MDL_PURPOSE_CONTROL = 2, MDL_PURPOSE_TCP = 3, MDL_PURPOSE_SHM = 4 };

struct mdl_secret {
    uint8_t key[MDL_NET_SECRET_BYTES];
};
void mdl_secret_tag(const struct mdl_secret *s, uint8_t tag[MDL_NET_TAG_BYTES]);

/* A child's secret. `out` may be `s`. */
void mdl_secret_derive(const struct mdl_secret *s, const char *label, uint64_t n, struct mdl_secret *out);

/* An authenticated connection: non-blocking, close-on-exec, and for TCP with no delay, keep-alive and a user time-out
 * of 30 s. `local` has the interface's name and speed where the door listens on that address. */
struct mdl_channel;
struct mdl_link {
    int fd;                      /* -1: it is */
    struct mdl_channel *channel; /* a channel (channel.h) of a connection that is shared */
    int peer_rank;
    int version;
    struct mdl_addr local, remote;
};

void mdl_link_close(const struct mdl_link *link); /* who does not take it over */

struct mdl_door;
/* The door for this configuration (interfaces, family, port range, limits of authentication), shared by all
 * communicators of the process that have the same. It listens on the selected addresses; on loopback only if that was
 * asked for or nothing else is there; on no address, but the Unix name, where no interface is up. Everything on a door
 * ends before its last put. [any thread] */
medleyResult_t mdl_door_get(const struct mdl_config *cfg, struct mdl_door **door) MDL_MUST_USE;
void mdl_door_put(struct mdl_door *door); /* [any thread but the reactor's] */
struct mdl_reactor *mdl_door_reactor(struct mdl_door *door);

/* Where it listens: TCP, one per interface address, and on this host an abstract Unix name (NULL where Unix sockets are
 * forbidden). [any thread] */
int mdl_door_addresses(const struct mdl_door *door, struct mdl_addr list[MDL_MAX_ADDRS]);
const struct mdl_addr *mdl_door_unix(const struct mdl_door *door);

/* Serves connections with this secret and purpose to `rank`; `on_link` (reactor thread) takes over the descriptor, or
 * the channel, which only clients that share make (never with MDL_PURPOSE_TCP), and begins to use it. The same three are served once: a second time is medleyInvalidUsage. [any thread] */
struct mdl_service;
medleyResult_t mdl_door_serve(struct mdl_door *door, const struct mdl_secret *secret, enum mdl_purpose purpose,
                              int rank, void (*on_link)(void *ctx, const struct mdl_link *link), void *ctx,
                              struct mdl_service **service) MDL_MUST_USE;
void mdl_door_unserve(struct mdl_service *service); /* [any thread] no callback runs after it; waits for one that runs
                                                     */

/* Connects to the first of `addrs` that answers, trying them in order with 300 ms head start each (none after a
 * failure), authenticates, and reports once. Addresses that do not answer are tried again until the deadline. Binds the
 * local end to `bind` (port apart) if it is not NULL. What the pointers name is copied; the door stays the caller's. */
struct mdl_dial_args {
    struct mdl_door *door;
    const struct mdl_secret *secret;
    enum mdl_purpose purpose;
    int rank;        /* own */
    int expect_rank; /* the answer must come from it; -1: any */
    const struct mdl_addr *addrs;
    int naddrs; /* 1 .. MDL_MAX_ADDRS */
    const struct mdl_addr *bind;
    uint64_t deadline_ns;
    bool retry_refused; /* keep trying until the deadline: the other side may not listen, or not serve us, yet */
    bool share;         /* a link to an abstract Unix name is a channel: `done` must begin to use it */
};

/* [any thread] `done` runs once, on the reactor's thread, never inside start; on success it owns link->fd, otherwise
 * `why` says what was tried (it has not been logged) and link is NULL. Results: medleyTimeout at the deadline,
 * medleyInvalidUsage when versions do not meet, medleySystemError for a lack of this process, else medleyRemoteError.
 */
struct mdl_dial;
medleyResult_t mdl_dial_start(const struct mdl_dial_args *args,
                              void (*done)(void *ctx, medleyResult_t result, const char *why,
                                           const struct mdl_link *link),
                              void *ctx, struct mdl_dial **dial) MDL_MUST_USE;

/* [any thread] No callback after it; also needed after `done`, or inside it, to free the dial. Exactly once for each
 * dial. Off the reactor's thread it waits for a callback that is running. */
void mdl_dial_cancel(struct mdl_dial *dial);

/* The same, waiting. abort_word (may be NULL) not 0 ends it with medleyRemoteError. Not on the reactor's thread. */
medleyResult_t mdl_dial_wait(const struct mdl_dial_args *args, const volatile uint32_t *abort_word,
                             struct mdl_link *link) MDL_MUST_USE;

#endif
