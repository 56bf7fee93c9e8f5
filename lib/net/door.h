/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only way in and out: listening sockets and outgoing connections, on both of which each side proves that it knows
 * the communicator's secret before a byte of anything else is read. Used by bootstrap, control links, TCP and the
 * same-host handover (abstract Unix sockets).
 *
 * Handshake (wire version MDL_WIRE_VERSION; all little-endian; documented with its bytes in docs/wire.md)
 *   client: magic "MEDLEY\r\n", version_min u16, version_max u16, purpose u8, 3 zero bytes, tag[16], rank u32,
 * nonce_c[32] server: magic, status u16 (0 ok, 1 version refused), version u16, rank u32, nonce_s[32], mac_s[32] =
 * HMAC(secret, "medley server" || all client bytes || server bytes so far) client: mac_c[32] = HMAC(secret, "medley
 * client" || all client bytes || all server bytes) tag = first 16 bytes of HMAC(secret, "medley tag"): public, finds
 * the secret. An unknown tag, a wrong magic or MAC, a late byte: closed without an answer. A version refusal is
 * answered (with the server's range in `version` and the first bytes of nonce_s) so that the client can say which
 * versions met. Half-open connections are capped (auth_pending: the oldest goes) and have a deadline (auth_timeout).
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
void mdl_secret_derive(const struct mdl_secret *s, const char *label, uint64_t n, struct mdl_secret *out); /* a child's
                                                                                                              secret */

/* An authenticated connection: non-blocking, close-on-exec, TCP_NODELAY and keep-alive set. */
struct mdl_link {
    int fd;
    int peer_rank;
    int version;
    struct mdl_addr local, remote;
};

struct mdl_door;
/* The door for this configuration (interfaces, family, port range), shared by all communicators of the process that
 * have the same. [any thread] */
medleyResult_t mdl_door_get(const struct mdl_config *cfg, struct mdl_door **door) MDL_MUST_USE;
void mdl_door_put(struct mdl_door *door);
struct mdl_reactor *mdl_door_reactor(struct mdl_door *door);
int mdl_door_addresses(const struct mdl_door *door, struct mdl_addr list[MDL_MAX_ADDRS]); /* where it listens: TCP, one
                                                                                             per interface address */
const struct mdl_addr *mdl_door_unix(const struct mdl_door *door); /* where it listens on this host: abstract Unix name
                                                                    */

/* Serves connections with this secret and purpose; `on_link` (reactor thread) takes over the descriptor. rank: told to
 * the client. [any thread] */
struct mdl_service;
medleyResult_t mdl_door_serve(struct mdl_door *door, const struct mdl_secret *secret, enum mdl_purpose purpose,
                              int rank, void (*on_link)(void *ctx, const struct mdl_link *link), void *ctx,
                              struct mdl_service **service) MDL_MUST_USE;
void mdl_door_unserve(struct mdl_service *service); /* [any thread] no callback runs after it */

/* Connects to the first of `addrs` that answers, trying them in order with 300 ms head start each, authenticates, and
 * reports once. Binds the local end to `bind` if it is not NULL. */
struct mdl_dial_args {
    struct mdl_door *door;
    const struct mdl_secret *secret;
    enum mdl_purpose purpose;
    int rank;        /* own */
    int expect_rank; /* the answer must come from it; -1: any */
    const struct mdl_addr *addrs;
    int naddrs;
    const struct mdl_addr *bind;
    uint64_t deadline_ns;
    bool retry_refused; /* keep trying until the deadline: the other side may not listen yet */
};
struct mdl_dial;
medleyResult_t mdl_dial_start(const struct mdl_dial_args *args,
                              void (*done)(void *ctx, medleyResult_t result, const char *why,
                                           const struct mdl_link *link),
                              void *ctx, struct mdl_dial **dial) MDL_MUST_USE; /* [any thread]; `done` on the reactor's
                                                                                  thread */
void mdl_dial_cancel(struct mdl_dial *dial); /* [any thread] no callback after it; also needed after `done` to free it
                                              */

/* The same, waiting. abort_word (may be NULL) not 0 ends it with medleyRemoteError. Not on the reactor's thread. */
medleyResult_t mdl_dial_wait(const struct mdl_dial_args *args, const volatile uint32_t *abort_word,
                             struct mdl_link *link) MDL_MUST_USE;

#endif
