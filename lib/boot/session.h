/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a root: sessions, seats and visitors. Reactor's thread only.
 *
 * A session is one communicator coming together: a seat per rank. A visitor is one authenticated connection: a rank's,
 * or another root's that passes on its ranks. A seat is taken by a JOIN and kept while the visitor stays connected
 * (HELD), or for a while after the rank was told to come back later (AWAY). When every seat is taken the session is
 * complete: each rank is answered READY, now or when it comes back, and says GOT.
 */
#ifndef MDL_BOOT_SESSION_H_
#define MDL_BOOT_SESSION_H_

#include "lib/boot/id.h"
#include "lib/boot/messages.h"
#include "lib/boot/wire.h"

enum { MDL_ROOT_HELD = 256, MDL_ROOT_TICK_FIRST_MS = 50, MDL_ROOT_TICK_MS = 500 };

enum mdl_seat_state { MDL_SEAT_EMPTY, MDL_SEAT_HELD, MDL_SEAT_AWAY, MDL_SEAT_GOT };
enum mdl_session_state { MDL_SESSION_OPEN, MDL_SESSION_COMPLETE, MDL_SESSION_FAILED };

struct mdl_seat {
    enum mdl_seat_state state;
    struct mdl_visitor *visitor; /* HELD */
    uint64_t until_ns;           /* AWAY: then it counts as gone, unless the session is complete */
    uint8_t nonce[MDL_NONCE_BYTES], process[MDL_NONCE_BYTES];
    uint8_t *member, *ready; /* as sent; ready: only where another root makes it */
    size_t member_len, ready_len;
};

struct mdl_session {
    struct mdl_list link;
    struct mdl_root *root;
    enum mdl_session_state state;
    uint32_t nranks, nids, index;
    uint32_t taken, got;
    uint64_t nonce; /* COMPLETE: of the communicator */
    struct mdl_trouble trouble;
    struct mdl_seat *seats;
    struct mdl_relay *relay; /* index > 0: the way to the root of id 0 */
};

struct mdl_visitor {
    struct mdl_list link;
    struct mdl_root *root;
    struct mdl_wire *wire;
    struct mdl_session *session; /* of its seats, NULL before the JOIN */
    uint32_t rank;               /* its seat; MDL_FRAME_ROOT: another root, which may have many */
    uint64_t since_ns;
    bool dismissed; /* has its answer: is expected to hang up */
};

/* The session of a root. Returns NULL after refusing the visitor. */
medleyResult_t mdl_session_create(struct mdl_root *root, const struct mdl_join *join, bool forwarded,
                                  struct mdl_session **session) MDL_MUST_USE;
void mdl_session_destroy(struct mdl_session *s);
bool mdl_session_knows(const struct mdl_session *s, const struct mdl_join *join); /* has this very call a seat in it? */
void mdl_session_join(struct mdl_session *s, struct mdl_visitor *v, const struct mdl_join *join);
void mdl_session_leave(struct mdl_session *s, uint32_t rank, const uint8_t *nonce); /* nonce NULL: whoever it is */
void mdl_session_got(struct mdl_session *s, uint32_t rank);
void mdl_session_gone(struct mdl_session *s, const struct mdl_visitor *v); /* its connection is no more */
void mdl_session_tick(struct mdl_session *s, uint64_t now);
void mdl_session_missing(const struct mdl_session *s, struct mdl_ranges *missing);
void mdl_session_fail(struct mdl_session *s, medleyResult_t code, const char *text);
void mdl_session_ready(struct mdl_session *s, uint32_t rank, const uint8_t *ready, size_t len); /* from id 0's root */

/* The root's part. */
const struct mdl_config *mdl_root_config(const struct mdl_root *root);
struct mdl_reactor *mdl_root_reactor(const struct mdl_root *root);
struct mdl_door *mdl_root_door(const struct mdl_root *root);
int mdl_root_held(const struct mdl_root *root);
void mdl_root_completed(struct mdl_root *root, struct mdl_session *s);
void mdl_root_answered(struct mdl_root *root, struct mdl_session *s); /* all have said GOT: may free `s` */
struct mdl_list *mdl_root_visitors(struct mdl_root *root);
void mdl_visitor_send(struct mdl_visitor *v, int type, uint32_t rank, const void *payload, size_t len);

/* A relay passes what the ranks of root `index` say on to id 0's root, and its answers back. */
medleyResult_t mdl_relay_create(struct mdl_session *s, const struct mdl_id *first,
                                struct mdl_relay **relay) MDL_MUST_USE;
void mdl_relay_destroy(struct mdl_relay *relay);
void mdl_relay_join(struct mdl_relay *relay, uint32_t rank);
void mdl_relay_leave(struct mdl_relay *relay, uint32_t rank, const uint8_t *nonce);
void mdl_relay_got(struct mdl_relay *relay, uint32_t rank);
void mdl_relay_refuse(struct mdl_relay *relay, const struct mdl_trouble *trouble); /* the session has failed here */
const struct mdl_wait *mdl_relay_news(const struct mdl_relay *relay); /* what id 0's root said last, or why it says
                                                                         nothing */

#endif
