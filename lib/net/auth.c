/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake. All bytes that pass are kept in one buffer in their order: hello, answer, proof. So the transcript
 * that a MAC covers is simply what the buffer holds so far, and a replayed, reflected or altered byte changes it.
 *
 * Server and client MACs begin with different words, so neither can be handed back as the other's. The client believes
 * nothing in the answer, a refusal included, before its MAC is right; the server tells nothing to a client whose tag it
 * does not know.
 */
#include "config.h"
#include "lib/net/auth.h"
#include <sodium.h>

enum {
    HELLO_AT = 0,
    ANSWER_AT = MDL_AUTH_HELLO_BYTES,
    PROOF_AT = ANSWER_AT + MDL_AUTH_ANSWER_BYTES,
    END_AT = PROOF_AT + MDL_AUTH_MAC_BYTES,
    ANSWER_MAC_AT = PROOF_AT - MDL_AUTH_MAC_BYTES,
    STATUS_OK = 0,
    STATUS_VERSION = 1,
    FLAG_SHARE = 1,
    FLAG_PATIENT = 2
};
_Static_assert(MDL_AUTH_MAC_BYTES == crypto_auth_hmacsha512256_BYTES, "MAC size");
_Static_assert(MDL_NET_SECRET_BYTES == crypto_auth_hmacsha512256_KEYBYTES, "key size");

static const uint8_t magic[8] = {'M', 'E', 'D', 'L', 'E', 'Y', '\r', '\n'};

/* ---- keyed hashes ---- */

static void hmac(const struct mdl_secret *s, const char *label, const void *data, size_t len,
                 uint8_t mac[MDL_AUTH_MAC_BYTES])
{
    crypto_auth_hmacsha512256_state h;
    crypto_auth_hmacsha512256_init(&h, s->key, sizeof(s->key));
    crypto_auth_hmacsha512256_update(&h, (const uint8_t *)label, strlen(label));
    crypto_auth_hmacsha512256_update(&h, data, len);
    crypto_auth_hmacsha512256_final(&h, mac);
    sodium_memzero(&h, sizeof(h));
}

void mdl_secret_tag(const struct mdl_secret *s, uint8_t tag[MDL_NET_TAG_BYTES])
{
    uint8_t mac[MDL_AUTH_MAC_BYTES];
    hmac(s, "medley tag", NULL, 0, mac);
    memcpy(tag, mac, MDL_NET_TAG_BYTES);
}

/* The number goes first and has a fixed size, so no two pairs of label and number give the same input. */
void mdl_secret_derive(const struct mdl_secret *s, const char *label, uint64_t n, struct mdl_secret *out)
{
    crypto_auth_hmacsha512256_state h;
    uint8_t number[8];
    mdl_put_u64(number, n);
    crypto_auth_hmacsha512256_init(&h, s->key, sizeof(s->key));
    crypto_auth_hmacsha512256_update(&h, (const uint8_t *)"medley derive", 13);
    crypto_auth_hmacsha512256_update(&h, number, sizeof(number));
    crypto_auth_hmacsha512256_update(&h, (const uint8_t *)label, strlen(label));
    crypto_auth_hmacsha512256_final(&h, out->key);
    sodium_memzero(&h, sizeof(h));
}

/* ---- common ---- */

static void fail(struct mdl_auth *a, enum mdl_auth_failure failure)
{
    a->state = MDL_AUTH_FAILED;
    a->failure = failure;
    a->in_at = a->in_end = a->out_at = a->out_end = 0;
    sodium_memzero(&a->secret, sizeof(a->secret));
}

static void expect(struct mdl_auth *a, size_t at, size_t end)
{
    a->in_at = at;
    a->in_end = end;
}

static void start(struct mdl_auth *a, enum mdl_auth_state state, uint16_t min, uint16_t max, const uint8_t *nonce)
{
    memset(a, 0, sizeof(*a));
    a->state = state;
    a->min = min;
    a->max = max;
    a->peer_rank = -1;
    if (nonce)
        memcpy(a->nonce, nonce, sizeof(a->nonce));
    else
        randombytes_buf(a->nonce, sizeof(a->nonce));
}

void mdl_auth_fini(struct mdl_auth *a) { sodium_memzero(a, sizeof(*a)); }

size_t mdl_auth_room(struct mdl_auth *a, uint8_t **room)
{
    *room = a->bytes + a->in_at;
    return a->in_end - a->in_at;
}

size_t mdl_auth_output(const struct mdl_auth *a, const uint8_t **out)
{
    *out = a->bytes + a->out_at;
    return a->out_end - a->out_at;
}

/* Is what came of the message that begins at `at` a beginning of the magic? */
static bool magic_so_far(const struct mdl_auth *a, size_t at)
{
    size_t have = a->in_at - at;
    return !memcmp(a->bytes + at, magic, have < sizeof(magic) ? have : sizeof(magic));
}

/* ---- server ---- */

void mdl_auth_server_init(struct mdl_auth *a, uint16_t min, uint16_t max, mdl_auth_lookup lookup, void *ctx,
                          const uint8_t *nonce)
{
    start(a, MDL_AUTH_LISTENING, min, max, nonce);
    a->lookup = lookup;
    a->lookup_ctx = ctx;
    expect(a, HELLO_AT, ANSWER_AT);
}

/* A refusal carries the server's range: its lowest version in `version`, its highest in the nonce's first bytes. */
static void write_answer(struct mdl_auth *a, int rank, uint16_t status)
{
    struct mdl_writer w = {.p = a->bytes + ANSWER_AT, .cap = MDL_AUTH_ANSWER_BYTES};
    if (status == STATUS_VERSION) mdl_put_u16(a->nonce, a->max);
    mdl_write_bytes(&w, magic, sizeof(magic));
    mdl_write_u16(&w, status);
    mdl_write_u16(&w, status == STATUS_OK ? (uint16_t)a->version : a->min);
    mdl_write_u32(&w, (uint32_t)rank);
    mdl_write_bytes(&w, a->nonce, sizeof(a->nonce));
    hmac(&a->secret, "medley server", a->bytes, ANSWER_MAC_AT, a->bytes + ANSWER_MAC_AT);
    a->out_at = ANSWER_AT;
    a->out_end = PROOF_AT;
}

/* Highest common version, or 0. */
static int common_version(const struct mdl_auth *a)
{
    int top = a->max < a->peer_max ? a->max : a->peer_max;
    return top >= a->min && top >= a->peer_min ? top : 0;
}

static bool read_hello(struct mdl_auth *a, struct mdl_auth_query *query)
{
    struct mdl_reader r = {.p = a->bytes + sizeof(magic), .left = MDL_AUTH_HELLO_BYTES - sizeof(magic)};
    a->peer_min = mdl_read_u16(&r);
    a->peer_max = mdl_read_u16(&r);
    query->purpose = mdl_read_u8(&r);
    uint8_t flags = mdl_read_u8(&r);
    a->share = query->share = flags & FLAG_SHARE;
    query->patient = flags & FLAG_PATIENT;
    mdl_read_room(&r, 2); /* reserved: covered by the MACs, else ignored */
    mdl_read_bytes(&r, query->tag, sizeof(query->tag));
    a->peer_rank = (int)mdl_read_u32(&r);
    query->to_rank = (int)mdl_read_u32(&r);
    return !r.bad && a->peer_min >= 1 && a->peer_min <= a->peer_max && a->peer_rank >= 0 && query->to_rank >= -1;
}

bool mdl_auth_peek(const uint8_t *hello, size_t len, struct mdl_auth_query *query)
{
    struct mdl_auth a;
    if (len != MDL_AUTH_HELLO_BYTES || memcmp(hello, magic, sizeof(magic)) != 0) return false;
    memcpy(a.bytes, hello, len);
    return read_hello(&a, query);
}

static void got_hello(struct mdl_auth *a)
{
    struct mdl_auth_query query;
    int rank;
    if (!read_hello(a, &query)) {
        fail(a, MDL_AUTH_NOT_MEDLEY);
        return;
    }
    if (!a->lookup(a->lookup_ctx, &query, &a->secret, &rank)) {
        fail(a, MDL_AUTH_UNKNOWN);
        return;
    }
    a->version = common_version(a);
    write_answer(a, rank, a->version ? STATUS_OK : STATUS_VERSION);
    a->state = a->version ? MDL_AUTH_ANSWERING : MDL_AUTH_REFUSING;
    expect(a, PROOF_AT, a->version ? END_AT : PROOF_AT);
}

static void got_proof(struct mdl_auth *a)
{
    uint8_t mac[MDL_AUTH_MAC_BYTES];
    hmac(&a->secret, "medley client", a->bytes, PROOF_AT, mac);
    if (a->out_at != a->out_end || sodium_memcmp(mac, a->bytes + PROOF_AT, sizeof(mac)))
        fail(a, MDL_AUTH_BAD_PROOF);
    else
        a->state = MDL_AUTH_DONE;
    sodium_memzero(mac, sizeof(mac));
}

/* ---- client ---- */

void mdl_auth_client_init(struct mdl_auth *a, const struct mdl_auth_client *args, const uint8_t *nonce)
{
    static const uint8_t zeros[2];
    uint8_t tag[MDL_NET_TAG_BYTES];
    start(a, MDL_AUTH_GREETING, args->min, args->max, nonce);
    a->secret = *args->secret;
    a->expect_rank = args->expect_rank;
    a->share = args->share;
    mdl_secret_tag(args->secret, tag);
    struct mdl_writer w = {.p = a->bytes, .cap = MDL_AUTH_HELLO_BYTES};
    mdl_write_bytes(&w, magic, sizeof(magic));
    mdl_write_u16(&w, args->min);
    mdl_write_u16(&w, args->max);
    mdl_write_u8(&w, (uint8_t)args->purpose);
    mdl_write_u8(&w, (uint8_t)((args->share ? FLAG_SHARE : 0) | (args->patient ? FLAG_PATIENT : 0)));
    mdl_write_bytes(&w, zeros, sizeof(zeros));
    mdl_write_bytes(&w, tag, sizeof(tag));
    mdl_write_u32(&w, (uint32_t)args->rank);
    mdl_write_u32(&w, (uint32_t)args->expect_rank);
    mdl_write_bytes(&w, a->nonce, sizeof(a->nonce));
    a->out_end = w.len;
    expect(a, ANSWER_AT, PROOF_AT);
}

static bool answer_is_proved(const struct mdl_auth *a)
{
    uint8_t mac[MDL_AUTH_MAC_BYTES];
    hmac(&a->secret, "medley server", a->bytes, ANSWER_MAC_AT, mac);
    return !sodium_memcmp(mac, a->bytes + ANSWER_MAC_AT, sizeof(mac));
}

static void got_answer(struct mdl_auth *a)
{
    struct mdl_reader r = {.p = a->bytes + ANSWER_AT + sizeof(magic), .left = MDL_AUTH_ANSWER_BYTES - sizeof(magic)};
    uint16_t status = mdl_read_u16(&r), version = mdl_read_u16(&r);
    int rank = (int)mdl_read_u32(&r);
    uint16_t first = mdl_read_u16(&r); /* of the nonce */
    /* An answer before the hello is out cannot be one to it. */
    if (a->out_at != a->out_end || !answer_is_proved(a)) {
        fail(a, MDL_AUTH_BAD_PROOF);
        return;
    }
    a->peer_rank = rank;
    if (status == STATUS_VERSION) {
        a->peer_min = version;
        a->peer_max = first;
        fail(a, MDL_AUTH_VERSION_REFUSED);
    } else if (status != STATUS_OK || version < a->min || version > a->max || rank < 0) {
        fail(a, MDL_AUTH_NOT_MEDLEY);
    } else if (a->expect_rank >= 0 && rank != a->expect_rank) {
        fail(a, MDL_AUTH_WRONG_RANK);
    } else {
        a->version = version;
        a->state = MDL_AUTH_ANSWERED;
    }
}

void mdl_auth_prove(struct mdl_auth *a)
{
    hmac(&a->secret, "medley client", a->bytes, PROOF_AT, a->bytes + PROOF_AT);
    a->out_at = PROOF_AT;
    a->out_end = END_AT;
    a->state = MDL_AUTH_PROVING;
}

/* ---- both ---- */

void mdl_auth_got(struct mdl_auth *a, size_t n)
{
    a->in_at += n;
    if (a->state == MDL_AUTH_LISTENING) {
        if (!magic_so_far(a, HELLO_AT))
            fail(a, MDL_AUTH_NOT_MEDLEY);
        else if (a->in_at == a->in_end)
            got_hello(a);
    } else if (a->state == MDL_AUTH_GREETING) {
        if (!magic_so_far(a, ANSWER_AT))
            fail(a, MDL_AUTH_NOT_MEDLEY);
        else if (a->in_at == a->in_end)
            got_answer(a);
    } else if (a->state == MDL_AUTH_ANSWERING && a->in_at == a->in_end) {
        got_proof(a);
    }
}

void mdl_auth_sent(struct mdl_auth *a, size_t n)
{
    a->out_at += n;
    if (a->out_at != a->out_end) return;
    if (a->state == MDL_AUTH_PROVING) a->state = MDL_AUTH_DONE;
    if (a->state == MDL_AUTH_REFUSING) fail(a, MDL_AUTH_VERSION_REFUSED);
}
