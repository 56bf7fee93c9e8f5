/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake without sockets: golden bytes, versions, and everything that must not get through. The golden bytes
 * were computed by another implementation (Python's hmac, SHA-512 cut to 32 bytes). */
#include "config.h"
#include "tests/unit/handshake.h"
#include "tests/unit/unit.h"
#include <stdio.h>

static struct hs_service service;
static struct mdl_auth client, server;
static uint8_t nonce_c[32], nonce_s[32];

static void set_up(void)
{
    memset(&service, 0, sizeof(service));
    hs_run(0, service.secret.key);
    service.purpose = MDL_PURPOSE_CONTROL;
    service.rank = 3;
    hs_run(0xa0, nonce_c);
    hs_run(0xc0, nonce_s);
}

static void start_client(int expect_rank, uint16_t min, uint16_t max)
{
    struct mdl_auth_client args = {.secret = &service.secret,
                                   .purpose = MDL_PURPOSE_CONTROL,
                                   .rank = 7,
                                   .expect_rank = expect_rank,
                                   .min = min,
                                   .max = max};
    mdl_auth_client_init(&client, &args, nonce_c);
}

static void start_server(uint16_t min, uint16_t max)
{
    mdl_auth_server_init(&server, min, max, hs_lookup, &service, nonce_s);
}

static void start_both(void)
{
    set_up();
    start_client(3, 1, 3);
    start_server(1, 2);
}

static void is_hex(const uint8_t *bytes, size_t len, const char *hex)
{
    char got[2 * 128 + 1] = "";
    ck_assert_uint_le(len, 128);
    for (size_t i = 0; i < len; i++) sprintf(got + 2 * i, "%02x", bytes[i]);
    ck_assert_str_eq(got, hex);
}

START_TEST(tag_and_derived_secret_have_golden_bytes)
{
    uint8_t tag[MDL_NET_TAG_BYTES];
    struct mdl_secret child;
    set_up();
    mdl_secret_tag(&service.secret, tag);
    is_hex(tag, sizeof(tag), "2bf35d0c27336470992285ca09e1d3e2");
    mdl_secret_derive(&service.secret, "split", 0x0102030405060708, &child);
    is_hex(child.key, sizeof(child.key), "3940851f838234516eda7af3895e753d7e13d5668f1b2966959d8161b5309f4e");
    mdl_secret_derive(&service.secret, "split", 0x0102030405060708, &service.secret); /* in place */
    ck_assert_mem_eq(&service.secret, &child, sizeof(child));
}
END_TEST

START_TEST(derived_secrets_differ)
{
    struct mdl_secret out[4];
    set_up();
    mdl_secret_derive(&service.secret, "a", 1, &out[0]);
    mdl_secret_derive(&service.secret, "a", 2, &out[1]);
    mdl_secret_derive(&service.secret, "b", 1, &out[2]);
    mdl_secret_derive(&service.secret, "", 1, &out[3]);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++) ck_assert_mem_ne(&out[i], &out[j], sizeof(out[0]));
}
END_TEST

static const char golden_hello[] =
    "4d45444c45590d0a01000300020000002bf35d0c27336470992285ca09e1d3e20700000003000000a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
    "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf";
static const char golden_answer[] =
    "4d45444c45590d0a0000020003000000c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfa2ed18edd946c10e"
    "5c935f0fc8600ddcac13360648a45dc860e643459c884dda";
static const char golden_proof[] = "1feeb3979ace690fe9b6cefaef7bd7479ac43034fb6b635f48384bed9458b1ba";

/* In one piece, byte by byte, and in pieces that no message divides. */
START_TEST(messages_have_golden_bytes_however_they_arrive)
{
    static const size_t chunks[] = {1000, 1, 7};
    for (int i = 0; i < 3; i++) {
        struct hs_transcript t;
        start_both();
        hs_both(&client, &server, chunks[i], &t);
        is_hex(t.hello, t.hello_len, golden_hello);
        is_hex(t.answer, t.answer_len, golden_answer);
        is_hex(t.proof, t.proof_len, golden_proof);
        ck_assert_int_eq(client.state, MDL_AUTH_DONE);
        ck_assert_int_eq(server.state, MDL_AUTH_DONE);
        ck_assert_int_eq(client.version, 2);
        ck_assert_int_eq(server.version, 2);
        ck_assert_int_eq(client.peer_rank, 3);
        ck_assert_int_eq(server.peer_rank, 7);
    }
}
END_TEST

START_TEST(refusal_of_the_version_has_golden_bytes)
{
    struct hs_transcript t;
    set_up();
    start_client(-1, 4, 9);
    start_server(1, 2);
    hs_both(&client, &server, 1000, &t);
    is_hex(
        t.answer, t.answer_len,
        "4d45444c45590d0a01000100030000000200c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf0178961e4b08"
        "7e925cf5bb0e4921e09dbfd57f2edc1a0930ab7ed0cc1fe7b17a");
    ck_assert_int_eq(client.state, MDL_AUTH_FAILED);
    ck_assert_int_eq(client.failure, MDL_AUTH_VERSION_REFUSED);
    ck_assert_int_eq(client.peer_rank, 3);
    ck_assert_int_eq(client.peer_min, 1);
    ck_assert_int_eq(client.peer_max, 2);
    ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
    ck_assert_int_eq(server.failure, MDL_AUTH_VERSION_REFUSED);
    ck_assert_int_eq(server.peer_min, 4);
    ck_assert_int_eq(server.peer_max, 9);
}
END_TEST

START_TEST(the_highest_common_version_wins)
{
    for (uint16_t bits = 0; bits < 256; bits++) {
        uint16_t c0 = 1 + (bits & 3), c1 = 1 + (bits >> 2 & 3), s0 = 1 + (bits >> 4 & 3), s1 = 1 + (bits >> 6 & 3);
        struct hs_transcript t;
        if (c0 > c1 || s0 > s1) continue;
        int top = c1 < s1 ? c1 : s1;
        set_up();
        start_client(3, c0, c1);
        start_server(s0, s1);
        hs_both(&client, &server, 1000, &t);
        if (top >= c0 && top >= s0) {
            ck_assert_int_eq(client.state, MDL_AUTH_DONE);
            ck_assert_int_eq(server.state, MDL_AUTH_DONE);
            ck_assert_int_eq(client.version, top);
            ck_assert_int_eq(server.version, top);
        } else {
            ck_assert_int_eq(client.failure, MDL_AUTH_VERSION_REFUSED);
            ck_assert_int_eq(server.failure, MDL_AUTH_VERSION_REFUSED);
        }
    }
}
END_TEST

/* Every bit of every message: the side that reads the changed byte fails, and the other never gets to the end. */
START_TEST(no_changed_bit_gets_through)
{
    enum { TOTAL = MDL_AUTH_HELLO_BYTES + MDL_AUTH_ANSWER_BYTES + MDL_AUTH_MAC_BYTES };
    for (int bit = 0; bit < 8 * TOTAL; bit++) {
        uint8_t all[TOTAL], *hello = all, *answer = hello + MDL_AUTH_HELLO_BYTES,
                            *proof = answer + MDL_AUTH_ANSWER_BYTES;
        int at = bit / 8;
        uint8_t flip = (uint8_t)(1 << bit % 8);
        start_both();
        hs_drain(&client, hello, 1000);
        if (at < MDL_AUTH_HELLO_BYTES) all[at] ^= flip;
        hs_feed(&server, hello, MDL_AUTH_HELLO_BYTES, 1000);
        if (server.state != MDL_AUTH_ANSWERING && server.state != MDL_AUTH_REFUSING) {
            ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
            continue;
        }
        hs_drain(&server, answer, 1000);
        if (at >= MDL_AUTH_HELLO_BYTES && at < MDL_AUTH_HELLO_BYTES + MDL_AUTH_ANSWER_BYTES) all[at] ^= flip;
        hs_feed(&client, answer, MDL_AUTH_ANSWER_BYTES, 1000);
        if (at < MDL_AUTH_HELLO_BYTES + MDL_AUTH_ANSWER_BYTES) {
            ck_assert_int_eq(client.state, MDL_AUTH_FAILED);
            ck_assert_int_ne(client.failure, MDL_AUTH_VERSION_REFUSED); /* an unproved refusal is not believed */
            continue;
        }
        mdl_auth_prove(&client);
        hs_drain(&client, proof, 1000);
        all[at] ^= flip;
        hs_feed(&server, proof, MDL_AUTH_MAC_BYTES, 1000);
        ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
        ck_assert_int_eq(server.failure, MDL_AUTH_BAD_PROOF);
    }
}
END_TEST

/* What a scanner sends is refused at its first wrong byte, not when a whole hello has come. */
START_TEST(other_protocols_fail_at_once)
{
    static const char *const scans[] = {"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x02", "\r\n",
                                        "SSH-2.0-x\r\n",          "MEDLEZ",           "MEDLEY\n",
                                        "\xff\xff\xff\xff"};
    for (size_t i = 0; i < sizeof(scans) / sizeof(*scans); i++) {
        uint8_t out[MDL_AUTH_HELLO_BYTES];
        start_both();
        hs_feed(&server, (const uint8_t *)scans[i], strlen(scans[i]), 1000);
        ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
        ck_assert_int_eq(server.failure, MDL_AUTH_NOT_MEDLEY);
        ck_assert_uint_eq(hs_drain(&server, out, 1000), 0);
        hs_drain(&client, out, 1000);
        hs_feed(&client, (const uint8_t *)scans[i], strlen(scans[i]), 1000);
        ck_assert_int_eq(client.failure, MDL_AUTH_NOT_MEDLEY);
    }
    ck_assert_int_eq(service.lookups, 0);
}
END_TEST

static void hello_with(size_t at, uint8_t value, enum mdl_auth_failure failure)
{
    uint8_t hello[MDL_AUTH_HELLO_BYTES], out[MDL_AUTH_ANSWER_BYTES];
    start_both();
    hs_drain(&client, hello, 1000);
    hello[at] = value;
    hs_feed(&server, hello, sizeof(hello), 1000);
    ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
    ck_assert_int_eq(server.failure, failure);
    ck_assert_uint_eq(hs_drain(&server, out, 1000), 0); /* not a byte is answered */
}

START_TEST(impossible_fields_are_refused_without_an_answer)
{
    hello_with(8, 0, MDL_AUTH_NOT_MEDLEY);     /* version 0 */
    hello_with(8, 4, MDL_AUTH_NOT_MEDLEY);     /* min above max */
    hello_with(35, 0xff, MDL_AUTH_NOT_MEDLEY); /* a negative rank */
    hello_with(39, 0xff, MDL_AUTH_NOT_MEDLEY); /* a negative wish */
    hello_with(12, 3, MDL_AUTH_UNKNOWN);       /* another purpose */
    hello_with(16, 0, MDL_AUTH_UNKNOWN);       /* another tag */
    hello_with(36, 2, MDL_AUTH_UNKNOWN);       /* another rank wanted */
}
END_TEST

/* A later version may use them; this one only covers them by its MACs. */
START_TEST(reserved_bytes_are_ignored)
{
    uint8_t hello[MDL_AUTH_HELLO_BYTES];
    start_both();
    hs_drain(&client, hello, 1000);
    memset(hello + 13, 0xff, 3);
    hs_feed(&server, hello, sizeof(hello), 1000);
    ck_assert_int_eq(server.state, MDL_AUTH_ANSWERING);
}
END_TEST

START_TEST(a_wrong_key_with_the_right_tag_gets_nowhere)
{
    uint8_t hello[MDL_AUTH_HELLO_BYTES], answer[MDL_AUTH_ANSWER_BYTES], proof[MDL_AUTH_MAC_BYTES];
    start_both();
    hs_drain(&client, hello, 1000);
    client.secret.key[0] ^= 1; /* someone who saw the tag only */
    hs_feed(&server, hello, sizeof(hello), 1000);
    hs_drain(&server, answer, 1000);
    mdl_auth_prove(&client);
    hs_drain(&client, proof, 1000);
    hs_feed(&server, proof, sizeof(proof), 1000);
    ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
    ck_assert_int_eq(server.failure, MDL_AUTH_BAD_PROOF);

    start_both(); /* and the same the other way round */
    hs_drain(&client, hello, 1000);
    client.secret.key[0] ^= 1;
    hs_feed(&client, answer, sizeof(answer), 1000);
    ck_assert_int_eq(client.state, MDL_AUTH_FAILED);
    ck_assert_int_eq(client.failure, MDL_AUTH_BAD_PROOF);
}
END_TEST

START_TEST(a_replayed_client_is_refused)
{
    struct hs_transcript t;
    uint8_t answer[MDL_AUTH_ANSWER_BYTES];
    start_both();
    hs_both(&client, &server, 1000, &t);
    ck_assert_int_eq(server.state, MDL_AUTH_DONE);
    nonce_s[0] ^= 1; /* a fresh nonce */
    start_server(1, 2);
    hs_feed(&server, t.hello, t.hello_len, 1000);
    hs_drain(&server, answer, 1000);
    hs_feed(&server, t.proof, t.proof_len, 1000);
    ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
    ck_assert_int_eq(server.failure, MDL_AUTH_BAD_PROOF);
}
END_TEST

START_TEST(a_replayed_server_is_refused)
{
    struct hs_transcript t;
    uint8_t hello[MDL_AUTH_HELLO_BYTES];
    start_both();
    hs_both(&client, &server, 1000, &t);
    nonce_c[31] ^= 1;
    start_client(3, 1, 3);
    hs_drain(&client, hello, 1000);
    hs_feed(&client, t.answer, t.answer_len, 1000);
    ck_assert_int_eq(client.failure, MDL_AUTH_BAD_PROOF);
}
END_TEST

START_TEST(random_nonces_are_fresh)
{
    struct mdl_auth other;
    set_up();
    mdl_auth_server_init(&server, 1, 1, hs_lookup, &service, NULL);
    mdl_auth_server_init(&other, 1, 1, hs_lookup, &service, NULL);
    ck_assert_mem_ne(server.nonce, other.nonce, sizeof(other.nonce));
}
END_TEST

/* The server's own MAC as the client's proof, and the client's own hello as its answer. */
START_TEST(reflections_are_refused)
{
    uint8_t hello[MDL_AUTH_ANSWER_BYTES] = {0}, answer[MDL_AUTH_ANSWER_BYTES];
    start_both();
    hs_drain(&client, hello, 1000);
    hs_feed(&server, hello, MDL_AUTH_HELLO_BYTES, 1000);
    hs_drain(&server, answer, 1000);
    hs_feed(&server, answer + 48, 32, 1000);
    ck_assert_int_eq(server.failure, MDL_AUTH_BAD_PROOF);
    hs_feed(&client, hello, sizeof(hello), 1000);
    ck_assert_int_eq(client.failure, MDL_AUTH_BAD_PROOF);
}
END_TEST

START_TEST(a_proof_before_the_answer_is_out_is_refused)
{
    struct hs_transcript t;
    start_both();
    hs_both(&client, &server, 1000, &t);
    start_server(1, 2); /* the same nonce, so the proof itself is right */
    hs_feed(&server, t.hello, t.hello_len, 1000);
    hs_feed(&server, t.proof, t.proof_len, 1000);
    ck_assert_int_eq(server.failure, MDL_AUTH_BAD_PROOF);
    start_client(3, 1, 3);
    hs_feed(&client, t.answer, t.answer_len, 1000);
    ck_assert_int_eq(client.failure, MDL_AUTH_BAD_PROOF);
}
END_TEST

START_TEST(another_rank_is_not_taken_for_the_expected_one)
{
    struct hs_transcript t;
    uint8_t hello[MDL_AUTH_HELLO_BYTES];
    start_both();
    hs_drain(&client, hello, 1000);
    hello[36] = 3;
    client.expect_rank = 4; /* a server that answers whatever rank it was asked for */
    hs_feed(&server, hello, sizeof(hello), 1000);
    t.answer_len = hs_drain(&server, t.answer, 1000);
    hs_feed(&client, t.answer, t.answer_len, 1000);
    ck_assert_int_eq(client.failure, MDL_AUTH_WRONG_RANK);
    ck_assert_int_eq(client.peer_rank, 3);
}
END_TEST

/* What follows the handshake belongs to whoever takes the connection over. */
START_TEST(no_byte_beyond_the_handshake_is_taken)
{
    struct hs_transcript t;
    uint8_t more[MDL_AUTH_MAC_BYTES + 10] = {0}, *room;
    start_both();
    hs_both(&client, &server, 1000, &t);
    memcpy(more, t.proof, t.proof_len);
    start_server(1, 2);
    ck_assert_uint_eq(hs_feed(&server, t.hello, t.hello_len, 1000), MDL_AUTH_HELLO_BYTES);
    hs_drain(&server, t.answer, 1000);
    ck_assert_uint_eq(hs_feed(&server, more, sizeof(more), 1000), MDL_AUTH_MAC_BYTES);
    ck_assert_int_eq(server.state, MDL_AUTH_DONE);
    ck_assert_uint_eq(mdl_auth_room(&server, &room), 0);
}
END_TEST

START_TEST(secrets_are_wiped)
{
    struct hs_transcript t;
    struct mdl_auth zero;
    memset(&zero, 0, sizeof(zero));
    start_both();
    service.rank = 5; /* unknown */
    hs_both(&client, &server, 1000, &t);
    ck_assert_int_eq(server.state, MDL_AUTH_FAILED);
    ck_assert_mem_eq(&server.secret, &zero.secret, sizeof(zero.secret));
    mdl_auth_fini(&client);
    ck_assert_mem_eq(&client, &zero, sizeof(zero));
    mdl_auth_fini(&client);
}
END_TEST

UNIT_MAIN("auth", tag_and_derived_secret_have_golden_bytes, derived_secrets_differ,
          messages_have_golden_bytes_however_they_arrive, refusal_of_the_version_has_golden_bytes,
          the_highest_common_version_wins, no_changed_bit_gets_through, other_protocols_fail_at_once,
          impossible_fields_are_refused_without_an_answer, reserved_bytes_are_ignored,
          a_wrong_key_with_the_right_tag_gets_nowhere, a_replayed_client_is_refused, a_replayed_server_is_refused,
          random_nonces_are_fresh, reflections_are_refused, a_proof_before_the_answer_is_out_is_refused,
          another_rank_is_not_taken_for_the_expected_one, no_byte_beyond_the_handshake_is_taken, secrets_are_wiped)
