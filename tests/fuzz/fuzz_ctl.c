/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the readers of bootstrap and control messages: `fuzz_ctl [seconds [seed]]`, 1 second by default.
 *
 * An input is: which message in the first byte, then its bytes. Each lies in memory of its exact size, so that a
 * sanitizer sees a read past the end. What a reader accepts must be within its bounds, and written again and read
 * again it must be the same. Built with -DMEDLEY_LIBFUZZER and clang -fsanitize=fuzzer it is a libFuzzer target.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/boot.h"
#include "lib/boot/frame.h"
#include "lib/boot/id.h"
#include "lib/boot/messages.h"
#include <stdio.h>
#include <stdlib.h>

enum { INPUT_BYTES = 1200, KINDS = 10 };

static unsigned long accepted[KINDS];

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static void drop_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user) {}

/* ---- each message: what is accepted is sound, and the same after a second journey ---- */

static void check_text(const char *text, size_t bytes)
{
    size_t len = strnlen(text, bytes);
    CHECK(len < bytes);
    for (size_t i = 0; i < len; i++) CHECK((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

static void check_ranges(const struct mdl_ranges *set)
{
    char text[64];
    uint64_t listed = 0;
    CHECK(set->n >= 0 && set->n <= MDL_RANGES_MAX);
    for (int i = 0; i < set->n; i++) {
        CHECK(set->at[i].first <= set->at[i].last);
        listed += (uint64_t)set->at[i].last - set->at[i].first + 1;
    }
    CHECK(listed <= set->count);
    mdl_ranges_format(set, text, sizeof(text));
    CHECK(strnlen(text, sizeof(text)) < sizeof(text));
}

static bool try_frame(const uint8_t *p, size_t len)
{
    struct mdl_frame f;
    uint8_t again[MDL_FRAME_BYTES];
    if (len < MDL_FRAME_BYTES || mdl_frame_read(p, &f)) return false;
    CHECK(f.length <= MDL_CTL_MAX_PAYLOAD);
    mdl_frame_write(again, &f);
    CHECK(!memcmp(again, p, sizeof(again)));
    return true;
}

static void check_member(const struct mdl_member *m)
{
    CHECK(m->naddrs >= 0 && m->naddrs <= MDL_MEMBER_ADDRS && m->rank < MDL_MAX_RANKS);
    check_text(m->host, sizeof(m->host));
}

static bool try_join(const uint8_t *p, size_t len)
{
    static struct mdl_join join, second;
    uint8_t again[64 + MDL_MEMBER_BYTES];
    struct mdl_writer w = {.p = again, .cap = sizeof(again)};
    if (!mdl_join_read(p, len, &join)) return false;
    check_member(&join.member);
    mdl_join_write(&w, &join);
    CHECK(!w.bad && mdl_join_read(again, w.len, &second));
    CHECK(second.rank == join.rank && second.member.naddrs == join.member.naddrs);
    CHECK(!strcmp(second.member.host, join.member.host));
    return true;
}

static bool try_wait(const uint8_t *p, size_t len)
{
    static struct mdl_wait wait, second;
    uint8_t again[2048];
    struct mdl_writer w = {.p = again, .cap = sizeof(again)};
    if (!mdl_wait_read(p, len, &wait)) return false;
    check_ranges(&wait.missing);
    check_text(wait.note, sizeof(wait.note));
    mdl_wait_write(&w, &wait);
    CHECK(!w.bad && mdl_wait_read(again, w.len, &second));
    CHECK(second.missing.count == wait.missing.count && !strcmp(second.note, wait.note));
    return true;
}

static bool try_ready(const uint8_t *p, size_t len)
{
    static struct mdl_ready ready;
    if (!mdl_ready_read(p, len, &ready)) return false;
    CHECK(ready.count >= 0 && ready.count <= 1 + MDL_TREE_ARITY);
    for (int i = 0; i < ready.count; i++) check_member(&ready.members[i]);
    return true;
}

static bool try_trouble(const uint8_t *p, size_t len)
{
    struct mdl_trouble t;
    if (!mdl_trouble_read(p, len, &t)) return false;
    CHECK(t.code > medleySuccess && t.code < medleyNumResults && t.code != medleyInProgress);
    CHECK(t.origin >= -1 && t.origin < MDL_MAX_RANKS);
    check_text(t.text, sizeof(t.text));
    return true;
}

static bool try_chunk(const uint8_t *p, size_t len)
{
    struct mdl_chunk c;
    if (!mdl_chunk_read(p, len, &c)) return false;
    CHECK(c.total <= MDL_GATHER_MAX && c.offset <= c.total && c.len <= c.total - c.offset && c.len <= len);
    CHECK(c.bytes >= p && c.bytes + c.len == p + len);
    return true;
}

static bool try_blob(const uint8_t *p, size_t len)
{
    struct mdl_reader r = {.p = p, .left = len};
    const uint8_t *bytes;
    uint32_t rank, n;
    while (mdl_block_read(&r, &rank, &bytes, &n)) CHECK(bytes >= p && n <= len && bytes + n <= p + len);
    return !r.bad;
}

static bool try_missing(const uint8_t *p, size_t len)
{
    struct mdl_missing m;
    if (!mdl_missing_read(p, len, &m)) return false;
    check_ranges(&m.ranks);
    return true;
}

static bool try_id(const uint8_t *p, size_t len)
{
    medleyUniqueId bytes = {{0}}, again;
    struct mdl_id id;
    memcpy(bytes.internal, p, len < sizeof(bytes) ? len : sizeof(bytes));
    if (mdl_id_read(&bytes, &id) != medleySuccess) return false;
    CHECK(id.naddrs >= 1 && id.naddrs <= MDL_ID_ADDRS);
    mdl_id_write(&id, &again);
    CHECK(mdl_boot_id_check(&again) == medleySuccess);
    return true;
}

static bool try_text(const uint8_t *p, size_t len)
{
    struct mdl_reader r = {.p = p, .left = len};
    char text[16];
    mdl_text_read(&r, text, sizeof(text));
    check_text(text, sizeof(text));
    return !r.bad;
}

static bool (*const tries[KINDS])(const uint8_t *p, size_t len) = {
    try_frame, try_join, try_wait, try_ready, try_trouble, try_chunk, try_blob, try_missing, try_id, try_text};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool quiet;
    if (!quiet) quiet = mdl_log_set_callback(drop_log, medleyLogNone, NULL) == medleySuccess;
    if (!size) return 0;
    int kind = data[0] % KINDS;
    uint8_t *exact = malloc(size); /* so that the message ends where its memory does */
    CHECK(exact);
    memcpy(exact, data, size);
    accepted[kind] += tries[kind](exact + 1, size - 1);
    free(exact);
    return 0;
}

#ifndef MEDLEY_LIBFUZZER

/* ---- a good example of each, and its mutations ---- */

static uint64_t state;

static uint32_t roll(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static void some_member(struct mdl_member *m)
{
    static const uint8_t name[MDL_ADDR_UNIX_BYTES] = {1, 2, 3};
    memset(m, 0, sizeof(*m));
    m->rank = roll(100);
    m->pid = 77;
    memcpy(m->host, "host-of-a-test", 15);
    for (m->naddrs = 0; m->naddrs < (int)roll(MDL_MEMBER_ADDRS + 1); m->naddrs++)
        mdl_addr_unix(name, &m->addrs[m->naddrs]);
}

static void some_ranges(struct mdl_ranges *set)
{
    uint32_t at = 0;
    mdl_ranges_clear(set);
    for (uint32_t n = roll(70); n; n--) {
        uint32_t first = at + 1 + roll(9), last = first + roll(3);
        mdl_ranges_add(set, first, last);
        at = last + 1;
    }
}

static void good_join(struct mdl_writer *w)
{
    static struct mdl_join join;
    some_member(&join.member);
    join.nranks = 100;
    mdl_join_write(w, &join);
}

static void good_ready(struct mdl_writer *w)
{
    static struct mdl_member m;
    uint8_t count = (uint8_t)roll(4);
    mdl_write_u64(w, 1);
    mdl_write_u8(w, count);
    for (uint8_t i = 0; i < count; i++) {
        some_member(&m);
        m.naddrs = m.naddrs > 3 ? 3 : m.naddrs;
        mdl_member_write(w, &m);
    }
}

static void good_blob(struct mdl_writer *w)
{
    for (uint32_t r = 0; r < 5; r++) {
        uint32_t n = roll(20);
        mdl_write_u32(w, r);
        mdl_write_u32(w, n);
        while (n--) mdl_write_u8(w, (uint8_t)n);
    }
}

static void good_frame(struct mdl_writer *w)
{
    struct mdl_frame f = {.type = (uint8_t)roll(256), .length = roll(MDL_CTL_MAX_PAYLOAD + 1), .seq = roll(9)};
    uint8_t *p = mdl_write_room(w, MDL_FRAME_BYTES);
    if (p) mdl_frame_write(p, &f);
}

static void good_id(struct mdl_writer *w)
{
    struct mdl_id id = {.naddrs = 1 + (int)roll(3)};
    static const uint8_t name[MDL_ADDR_UNIX_BYTES] = {9};
    medleyUniqueId bytes;
    for (int i = 0; i < id.naddrs; i++) mdl_addr_unix(name, &id.addrs[i]);
    mdl_id_write(&id, &bytes);
    mdl_write_bytes(w, bytes.internal, sizeof(bytes.internal));
}

static void good_trouble(struct mdl_writer *w)
{
    struct mdl_trouble t = {.code = medleyTimeout, .origin = (int)roll(50) - 1, .text = "something went wrong"};
    mdl_trouble_write(w, &t);
}

static void good(int kind, struct mdl_writer *w)
{
    struct mdl_wait wait = {.again_ms = roll(1000), .note = "a note"};
    struct mdl_missing missing = {.round = roll(5)};
    struct mdl_chunk chunk = {.total = 40, .offset = roll(20), .bytes = (const uint8_t *)"0123456789", .len = roll(11)};
    some_ranges(&wait.missing);
    missing.ranks = wait.missing;
    switch (kind) {
    case 0: good_frame(w); break;
    case 1: good_join(w); break;
    case 2: mdl_wait_write(w, &wait); break;
    case 3: good_ready(w); break;
    case 4: good_trouble(w); break;
    case 5: mdl_chunk_write(w, &chunk); break;
    case 6: good_blob(w); break;
    case 7: mdl_missing_write(w, &missing); break;
    case 8: good_id(w); break;
    default: mdl_text_write(w, "some text");
    }
}

static size_t mutate(uint8_t *p, size_t len)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
    for (uint32_t n = roll(4); n && len; n--) {
        uint32_t at = roll((uint32_t)len);
        switch (roll(5)) {
        case 0: p[at] ^= (uint8_t)(1u << roll(8)); break;
        case 1: p[at] = edges[roll(sizeof(edges))]; break;
        case 2: len = at; break;
        case 3:
            if (len < INPUT_BYTES) p[len++] = (uint8_t)roll(256);
            break;
        default: memset(p + at, 0xff, len - at < 4 ? len - at : 4);
        }
    }
    return len;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 20261121, until;
    unsigned long runs = 0;
    state = seed * 2654435761u + 1;
    for (until = mdl_now_ns() + (uint64_t)(seconds * 1e9); mdl_now_ns() < until; runs++) {
        uint8_t input[1 + INPUT_BYTES + 1];
        struct mdl_writer w = {.p = input + 1, .cap = INPUT_BYTES};
        input[0] = (uint8_t)(runs % KINDS);
        good(input[0], &w);
        LLVMFuzzerTestOneInput(input, 1 + mutate(input + 1, w.len));
    }
    printf("seed %llu: %lu inputs\n", (unsigned long long)seed, runs);
    for (int i = 0; i < KINDS; i++) CHECK(accepted[i] > 0 && accepted[i] < runs);
    return 0;
}

#endif
