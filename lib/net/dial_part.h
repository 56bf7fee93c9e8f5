/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a dial: dial.c owns the order of the attempts and the end, attempt.c what happens on one address,
 * dial_text.c the words of a failure. All of it runs on the reactor's thread. */
#ifndef MDL_NET_DIAL_PART_H_
#define MDL_NET_DIAL_PART_H_

#include "lib/net/trunk.h"

enum { MDL_DIAL_WHY_BYTES = 2048 };

enum mdl_attempt_state {
    MDL_ATTEMPT_NOT_TRIED,
    MDL_ATTEMPT_CONNECTING,
    MDL_ATTEMPT_SHAKING,
    MDL_ATTEMPT_WAITING,
    MDL_ATTEMPT_FAILED
};

struct mdl_attempt {
    enum mdl_attempt_state state;
    struct mdl_dial *dial;
    struct mdl_addr addr;
    struct mdl_watch watch;
    struct mdl_trunk *trunk;     /* that it makes, or NULL */
    struct mdl_channel *channel; /* of another's, or NULL */
    struct mdl_timer timer; /* MDL_ATTEMPT_CONNECTING, MDL_ATTEMPT_SHAKING: the attempt's limit; MDL_ATTEMPT_WAITING:
                               the next try */
    struct mdl_auth auth;
    int tries, backoff_ms;
    char why[160]; /* of the last failure */
};

struct mdl_dial {
    struct mdl_door *door;
    struct mdl_reactor *reactor;
    struct mdl_secret secret;
    enum mdl_purpose purpose;
    int rank, expect_rank;
    bool retry_refused, has_bind, share;
    struct mdl_addr bind;
    uint64_t since_ns, deadline_ns;
    void (*done)(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link);
    void *ctx;
    struct mdl_task begin;
    struct mdl_timer stagger, deadline;
    medleyResult_t code; /* of the failure: the gravest so far */
    int naddrs, next;
    struct mdl_attempt attempts[];
};

/* attempt.c */
void mdl_attempt_init(struct mdl_dial *d, const struct mdl_addr *addr, struct mdl_attempt *a);
void mdl_attempt_start(struct mdl_attempt *a); /* may end the dial: not touched afterwards */
void mdl_attempt_close(struct mdl_attempt *a, enum mdl_attempt_state state); /* to MDL_ATTEMPT_WAITING or
                                                                                MDL_ATTEMPT_FAILED */

/* dial.c, told by attempts. All but `only` may end the dial. */
void mdl_dial_only(struct mdl_attempt *a);   /* the server has proved itself: this attempt goes on alone */
void mdl_dial_linked(struct mdl_attempt *a); /* the handshake is over */
void mdl_dial_lost(struct mdl_dial *d);      /* an attempt has failed or waits */

/* dial_text.c */
void mdl_dial_explain(const struct mdl_dial *d, bool late, char why[MDL_DIAL_WHY_BYTES]);

#endif
