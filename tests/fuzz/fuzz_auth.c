/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the handshake and the address reader: `fuzz_auth [seconds [seed]]`, 2 seconds by default.
 *
 * An input is: role and chunk size in the first byte, then the bytes that the other side sends. Nonces are fixed, so
 * there is exactly one byte sequence with which a side may get to the end: whoever gets there with another one has
 * found a hole. Beyond that the machine must keep to its buffer, take no more than it asked for, and stay put once it
 * has failed. Built with -DMEDLEY_LIBFUZZER and clang -fsanitize=fuzzer it is a libFuzzer target with the same corpus
 * of one.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "tests/unit/handshake.h"
#include <stdio.h>
#include <stdlib.h>

enum { INPUT_BYTES = 400 };

static struct hs_service service;
static uint8_t nonce_c[32], nonce_s[32];
static struct hs_transcript good;
static unsigned long ends[2]; /* how often a server, a client got to the end */

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static void start(struct mdl_auth *client, struct mdl_auth *server)
{
    struct mdl_auth_client args = {
        .secret = &service.secret, .purpose = MDL_PURPOSE_TCP, .rank = 1, .expect_rank = 2, .min = 1, .max = 1};
    mdl_auth_client_init(client, &args, nonce_c);
    mdl_auth_server_init(server, 1, 1, hs_lookup, &service, nonce_s);
}

static void drop_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user) {}

static void set_up(void)
{
    struct mdl_auth client, server;
    if (good.proof_len) return;
    hs_run(1, service.secret.key);
    hs_run(0xa0, nonce_c);
    hs_run(0xc0, nonce_s);
    service.purpose = MDL_PURPOSE_TCP;
    service.rank = 2;
    start(&client, &server);
    hs_both(&client, &server, 1000, &good);
    CHECK(client.state == MDL_AUTH_DONE && server.state == MDL_AUTH_DONE);
    CHECK(mdl_log_set_callback(drop_log, medleyLogNone, NULL) == medleySuccess);
}

/* The driver's half, with every bound checked. Output is dropped. */
static size_t feed(struct mdl_auth *a, const uint8_t *bytes, size_t len, size_t chunk)
{
    uint8_t out[sizeof(a->bytes)], *room;
    size_t taken = 0;
    for (;;) {
        hs_drain(a, out, chunk);
        size_t n = mdl_auth_room(a, &room);
        CHECK(room >= a->bytes && n <= sizeof(a->bytes) && room + n <= a->bytes + sizeof(a->bytes));
        if (a->state == MDL_AUTH_ANSWERED || a->state == MDL_AUTH_DONE || a->state == MDL_AUTH_FAILED) return taken;
        if (n > chunk) n = chunk;
        if (n > len - taken) n = len - taken;
        if (!n) return taken;
        memcpy(room, bytes + taken, n);
        mdl_auth_got(a, n);
        taken += n;
    }
}

static void fuzz_server(struct mdl_auth *server, const uint8_t *bytes, size_t len, size_t chunk)
{
    size_t taken = feed(server, bytes, len, chunk);
    bool is_good = len >= good.hello_len + good.proof_len && !memcmp(bytes, good.hello, good.hello_len) &&
                   !memcmp(bytes + good.hello_len, good.proof, good.proof_len);
    CHECK((server->state == MDL_AUTH_DONE) == is_good);
    CHECK(taken <= good.hello_len + good.proof_len);
    ends[0] += is_good;
}

static void fuzz_client(struct mdl_auth *client, const uint8_t *bytes, size_t len, size_t chunk)
{
    uint8_t out[MDL_AUTH_MAC_BYTES];
    size_t taken = feed(client, bytes, len, chunk);
    bool is_good = len >= good.answer_len && !memcmp(bytes, good.answer, good.answer_len);
    CHECK((client->state == MDL_AUTH_ANSWERED) == is_good);
    CHECK(taken <= good.answer_len);
    if (is_good) {
        mdl_auth_prove(client);
        CHECK(hs_drain(client, out, chunk) == good.proof_len && !memcmp(out, good.proof, good.proof_len));
    }
    ends[1] += is_good;
}

static void fuzz_addr(const uint8_t *bytes, size_t len)
{
    struct mdl_addr a;
    char text[MDL_ADDR_TEXT_BYTES];
    uint8_t back[MDL_ADDR_WIRE_BYTES];
    struct mdl_reader r = {.p = bytes, .left = len};
    if (mdl_addr_read(&r, &a) != medleySuccess) return;
    struct mdl_writer w = {.p = back, .cap = sizeof(back)};
    mdl_addr_format(&a, text);
    CHECK(strlen(text) < sizeof(text));
    mdl_addr_write(&w, &a);
    CHECK(!w.bad && back[0] == bytes[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mdl_auth client, server;
    set_up();
    if (!size) return 0;
    size_t chunk = 1 + data[0] / 4;
    start(&client, &server);
    if (data[0] % 4 == 3)
        fuzz_addr(data + 1, size - 1);
    else if (data[0] % 2)
        fuzz_client(&client, data + 1, size - 1, chunk);
    else
        fuzz_server(&server, data + 1, size - 1, chunk);
    mdl_auth_fini(&client);
    mdl_auth_fini(&server);
    return 0;
}

#ifndef MEDLEY_LIBFUZZER
static uint64_t state;
static uint32_t draw(uint32_t below) /* splitmix64: the same everywhere for one seed */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) % below);
}

/* What a good peer sends, or an address, to be spoiled. */
static size_t seed_input(uint8_t *in)
{
    static const uint8_t addr[MDL_ADDR_WIRE_BYTES] = {6, 1, 9, 9};
    in[0] = (uint8_t)draw(256);
    if (in[0] % 4 == 3) {
        memcpy(in + 1, addr, sizeof(addr));
        return 1 + sizeof(addr);
    }
    if (in[0] % 2) {
        memcpy(in + 1, good.answer, good.answer_len);
        return 1 + good.answer_len;
    }
    memcpy(in + 1, good.hello, good.hello_len);
    memcpy(in + 1 + good.hello_len, good.proof, good.proof_len);
    return 1 + good.hello_len + good.proof_len;
}

static size_t mutate(uint8_t *in, size_t len)
{
    size_t at = 1 + draw((uint32_t)len), n = 1 + draw(8);
    switch (draw(7)) {
    case 0: in[at] ^= (uint8_t)(1u << draw(8)); break;
    case 1: in[at] = (uint8_t)draw(256); break;
    case 2: in[at] = draw(2) ? 0 : 0xff; break;
    case 3: return at; /* cut short */
    case 4:            /* a piece is missing */
        if (at + n > len) return at;
        memmove(in + at, in + at + n, len - at - n);
        return len - n;
    case 5: /* a piece too much */
        if (len + n > INPUT_BYTES || at >= len) return len;
        memmove(in + at + n, in + at, len - at);
        return len + n;
    default: /* a piece from elsewhere: reflections and replays */
        if (at + MDL_AUTH_MAC_BYTES > INPUT_BYTES) return len;
        memcpy(in + at, draw(2) ? good.proof : good.answer + draw(48), MDL_AUTH_MAC_BYTES);
        return at + MDL_AUTH_MAC_BYTES > len ? at + MDL_AUTH_MAC_BYTES : len;
    }
    return at < len ? len : at + 1;
}

static void one_input(void)
{
    uint8_t in[INPUT_BYTES + 64] = {0};
    size_t len = seed_input(in);
    for (uint32_t times = draw(5); times > 0; times--) len = mutate(in, len);
    LLVMFuzzerTestOneInput(in, len);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 20240501, start_ns = mdl_now_ns();
    unsigned long inputs = 0;
    set_up();
    state = seed;
    while ((double)(mdl_now_ns() - start_ns) < seconds * 1e9)
        for (int i = 0; i < 100; i++, inputs++) one_input();
    printf("seed %llu: %lu inputs; servers got to the end %lu times, clients %lu times, with the right bytes only\n",
           (unsigned long long)seed, inputs, ends[0], ends[1]);
    return ends[0] && ends[1] ? 0 : 1;
}
#endif
