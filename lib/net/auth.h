/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake as a state machine over byte buffers: it knows no socket and no time. door.h has its messages,
 * docs/wire.md their bytes.
 *
 * The driver asks mdl_auth_room where the next bytes go and how many may be read (never more than the message in hand:
 * what follows the handshake stays in the socket for whoever takes it over), tells mdl_auth_got how many came, and
 * writes what mdl_auth_output holds. Wrong bytes fail at the first one that cannot be right.
 */
#ifndef MDL_NET_AUTH_H_
#define MDL_NET_AUTH_H_

#include "lib/net/door.h"

enum { MDL_AUTH_NONCE_BYTES = 32, MDL_AUTH_MAC_BYTES = 32, MDL_AUTH_HELLO_BYTES = 72, MDL_AUTH_ANSWER_BYTES = 80 };

enum mdl_auth_state {
    MDL_AUTH_GREETING,  /* client: hello out, answer awaited */
    MDL_AUTH_ANSWERED,  /* client: the server has proved itself; mdl_auth_prove goes on */
    MDL_AUTH_PROVING,   /* client: own proof going out */
    MDL_AUTH_LISTENING, /* server: hello awaited */
    MDL_AUTH_ANSWERING, /* server: answer out, proof awaited */
    MDL_AUTH_REFUSING,  /* server: refusal going out */
    MDL_AUTH_DONE,
    MDL_AUTH_FAILED
};

enum mdl_auth_failure {
    MDL_AUTH_OK,
    MDL_AUTH_NOT_MEDLEY,      /* wrong magic or impossible fields */
    MDL_AUTH_UNKNOWN,         /* server: nobody serves this tag, purpose and rank */
    MDL_AUTH_BAD_PROOF,       /* wrong MAC */
    MDL_AUTH_VERSION_REFUSED, /* no common version: see peer_min, peer_max */
    MDL_AUTH_WRONG_RANK       /* client: another rank answered */
};

/* What the server is asked when a hello is complete: may this client talk to somebody here? Returns the secret and own
 * rank, and a pointer of the driver's own, or false. */
struct mdl_auth_query {
    uint8_t tag[MDL_NET_TAG_BYTES];
    uint8_t purpose;
    int to_rank; /* -1: any */
    bool share, patient; /* patient: the client likes to wait until somebody serves it */
};
typedef bool (*mdl_auth_lookup)(void *ctx, const struct mdl_auth_query *query, struct mdl_secret *secret, int *rank);

struct mdl_auth {
    enum mdl_auth_state state;
    enum mdl_auth_failure failure;
    uint16_t min, max;           /* own versions */
    uint16_t peer_min, peer_max; /* the peer's, where known */
    int version;                 /* DONE: agreed */
    int peer_rank;               /* ANSWERED (client), LISTENING left (server) */
    int expect_rank;
    bool share; /* what follows is a trunk (channel.h): the client's wish */
    struct mdl_secret secret;
    mdl_auth_lookup lookup;
    void *lookup_ctx;
    uint8_t nonce[MDL_AUTH_NONCE_BYTES];                                              /* own */
    uint8_t bytes[MDL_AUTH_HELLO_BYTES + MDL_AUTH_ANSWER_BYTES + MDL_AUTH_MAC_BYTES]; /* all that passed, in order */
    size_t in_at, in_end, out_at, out_end;                                            /* ranges of `bytes` */
};

struct mdl_auth_client {
    const struct mdl_secret *secret;
    enum mdl_purpose purpose;
    int rank, expect_rank; /* -1: any */
    uint16_t min, max;
    bool share, patient;
};

/* Both start a handshake. nonce NULL: random; tests fix it. */
void mdl_auth_client_init(struct mdl_auth *a, const struct mdl_auth_client *args, const uint8_t *nonce);
void mdl_auth_server_init(struct mdl_auth *a, uint16_t min, uint16_t max, mdl_auth_lookup lookup, void *ctx,
                          const uint8_t *nonce);
void mdl_auth_fini(struct mdl_auth *a); /* wipes the secrets; accepts zeros and a finished one */

size_t mdl_auth_room(struct mdl_auth *a, uint8_t **room); /* how many bytes may be read now; 0: none are expected */
void mdl_auth_got(struct mdl_auth *a, size_t n);
size_t mdl_auth_output(const struct mdl_auth *a, const uint8_t **out); /* what waits to be written */
void mdl_auth_sent(struct mdl_auth *a, size_t n);
void mdl_auth_prove(struct mdl_auth *a); /* client, ANSWERED: sends the proof */

/* What a hello asks for; false: it is none. */
bool mdl_auth_peek(const uint8_t *hello, size_t len, struct mdl_auth_query *query);

#endif
