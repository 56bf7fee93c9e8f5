/* SPDX-License-Identifier: Apache-2.0 */
/* Drives the two ends of the handshake in memory: for the tests and the fuzzer of lib/net/auth.h. */
#ifndef MDL_TESTS_HANDSHAKE_H_
#define MDL_TESTS_HANDSHAKE_H_

#include "lib/net/auth.h"

/* The service at the server's end; `rank` answers for `to` = rank and for "any". */
struct hs_service {
    struct mdl_secret secret;
    uint8_t purpose;
    int rank;
    int lookups;
};

static inline bool hs_lookup(void *ctx, const struct mdl_auth_query *query, struct mdl_secret *secret, int *rank)
{
    struct hs_service *s = ctx;
    uint8_t tag[MDL_NET_TAG_BYTES];
    mdl_secret_tag(&s->secret, tag);
    s->lookups++;
    if (memcmp(tag, query->tag, sizeof(tag)) || query->purpose != s->purpose) return false;
    if (query->to_rank >= 0 && query->to_rank != s->rank) return false;
    *secret = s->secret;
    *rank = s->rank;
    return true;
}

/* Secret 0, 1, 2 ... and a run of 32 bytes that starts with `first`. */
static inline void hs_run(uint8_t first, uint8_t bytes[32])
{
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(first + i);
}

/* Feeds up to `len` bytes, at most `chunk` at a time, as far as they are wanted; how many were taken. */
static inline size_t hs_feed(struct mdl_auth *a, const uint8_t *bytes, size_t len, size_t chunk)
{
    size_t taken = 0;
    uint8_t *room;
    for (;;) {
        size_t n = mdl_auth_room(a, &room);
        if (n > chunk) n = chunk;
        if (n > len - taken) n = len - taken;
        if (!n) return taken;
        memcpy(room, bytes + taken, n);
        mdl_auth_got(a, n);
        taken += n;
    }
}

/* Takes all output into `bytes` (room for 80), at most `chunk` at a time; how many there were. */
static inline size_t hs_drain(struct mdl_auth *a, uint8_t *bytes, size_t chunk)
{
    size_t taken = 0;
    const uint8_t *out;
    for (;;) {
        size_t n = mdl_auth_output(a, &out);
        if (n > chunk) n = chunk;
        if (!n) return taken;
        memcpy(bytes + taken, out, n);
        mdl_auth_sent(a, n);
        taken += n;
    }
}

struct hs_transcript {
    uint8_t hello[MDL_AUTH_HELLO_BYTES], answer[MDL_AUTH_ANSWER_BYTES], proof[MDL_AUTH_MAC_BYTES];
    size_t hello_len, answer_len, proof_len;
};

/* Runs both ends as far as they get. */
static inline void hs_both(struct mdl_auth *client, struct mdl_auth *server, size_t chunk, struct hs_transcript *t)
{
    memset(t, 0, sizeof(*t));
    t->hello_len = hs_drain(client, t->hello, chunk);
    hs_feed(server, t->hello, t->hello_len, chunk);
    t->answer_len = hs_drain(server, t->answer, chunk);
    hs_feed(client, t->answer, t->answer_len, chunk);
    if (client->state != MDL_AUTH_ANSWERED) return;
    mdl_auth_prove(client);
    t->proof_len = hs_drain(client, t->proof, chunk);
    hs_feed(server, t->proof, t->proof_len, chunk);
}

#endif
