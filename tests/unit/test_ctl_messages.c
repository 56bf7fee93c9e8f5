/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of every bootstrap and control message, and what their readers refuse. */
#include "config.h"
#include "lib/boot/boot.h"
#include "lib/boot/frame.h"
#include "lib/boot/id.h"
#include "lib/boot/messages.h"
#include "lib/boot/tree.h"
#include "tests/unit/unit.h"
#include <stdio.h>

static void from_hex(const char *hex, uint8_t *out, size_t *len)
{
    unsigned byte;
    int used;
    *len = 0;
    for (; sscanf(hex, " %2x%n", &byte, &used) == 1; hex += used) out[(*len)++] = (uint8_t)byte;
}

static void same_bytes(const uint8_t *got, size_t len, const char *hex)
{
    uint8_t want[2048];
    size_t n;
    char text[4096] = "";
    from_hex(hex, want, &n);
    for (size_t i = 0; i < len && i < 1024; i++) sprintf(text + 2 * i, "%02x", got[i]);
    ck_assert_msg(n == len && !memcmp(got, want, n), "%zu bytes: %s", len, text);
}

static struct mdl_addr address(const char *text)
{
    struct mdl_addr a;
    int n;
    ck_assert_int_eq(mdl_addr_parse(text, &a, 1, &n), medleySuccess);
    return a;
}

static void some_member(struct mdl_member *m)
{
    memset(m, 0, sizeof(*m));
    *m = (struct mdl_member){.rank = 5, .pid = 0x1234, .service = 0x1122334455667788u, .place = 9, .naddrs = 2};
    memcpy(m->host, "ab", 3);
    m->addrs[0] = address("10.1.2.3:258");
    m->addrs[1] = address("[2001:db8::1]:80");
}

#define MEMBER                                                                                                         \
    "05000000 34120000 8877665544332211 0900000000000000 03 616200 02"                                                 \
    "04 00 0201 0a010203000000000000000000000000 00000000"                                                             \
    "06 00 5000 20010db8000000000000000000000001 00000000"

/* ---- golden bytes ---- */

START_TEST(frame_bytes)
{
    uint8_t head[MDL_FRAME_BYTES];
    struct mdl_frame f = {.type = 70, .flags = 0x0102, .length = 0x8000, .src = 3, .dst = 4, .seq = 0x0a0b}, got;
    mdl_frame_write(head, &f);
    same_bytes(head, sizeof(head), "4d444c43 01 46 0201 00800000 03000000 04000000 0b0a000000000000");
    ck_assert_ptr_null(mdl_frame_read(head, &got));
    ck_assert(got.type == f.type && got.flags == f.flags && got.length == f.length);
    ck_assert(got.src == f.src && got.dst == f.dst && got.seq == f.seq);
}
END_TEST

START_TEST(member_bytes)
{
    uint8_t bytes[MDL_MEMBER_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_member m, got;
    some_member(&m);
    mdl_member_write(&w, &m);
    same_bytes(bytes, w.len, MEMBER);
    struct mdl_reader r = {.p = bytes, .left = w.len};
    memset(&got, 0, sizeof(got));
    ck_assert(mdl_member_read(&r, &got));
    ck_assert_uint_eq(r.left, 0);
    ck_assert_str_eq(got.host, "ab");
    ck_assert_uint_eq(got.service, m.service);
    ck_assert(mdl_addr_same_host(&got.addrs[1], &m.addrs[1]));
}
END_TEST

START_TEST(join_bytes)
{
    uint8_t bytes[1024];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_join join = {.nranks = 8, .rank = 5, .nids = 2, .index = 1}, got;
    for (int i = 0; i < MDL_NONCE_BYTES; i++) join.nonce[i] = (uint8_t)i, join.process[i] = (uint8_t)(0xf0 + i);
    some_member(&join.member);
    mdl_join_write(&w, &join);
    same_bytes(
        bytes, w.len,
        "08000000 05000000 02000000 01000000 000102030405060708090a0b0c0d0e0f f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" MEMBER);
    ck_assert(mdl_join_read(bytes, w.len, &got));
    ck_assert_uint_eq(got.member.pid, 0x1234);
    ck_assert(!mdl_join_read(bytes, w.len - 1, &got));
    ck_assert(!mdl_join_read(bytes, w.len + 1, &got));
}
END_TEST

START_TEST(wait_bytes)
{
    uint8_t bytes[256];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_wait wait = {.again_ms = 500, .note = "hm"}, got;
    mdl_ranges_add(&wait.missing, 3, 3);
    mdl_ranges_add(&wait.missing, 5, 7);
    mdl_wait_write(&w, &wait);
    same_bytes(bytes, w.len, "f4010000 04000000 0200 03000000 03000000 05000000 07000000 0200 686d");
    ck_assert(mdl_wait_read(bytes, w.len, &got));
    ck_assert_uint_eq(got.missing.count, 4);
    ck_assert_str_eq(got.note, "hm");
    ck_assert(!mdl_wait_read(bytes, w.len - 1, &got));
}
END_TEST

START_TEST(ready_bytes)
{
    uint8_t bytes[1024];
    size_t len;
    struct mdl_ready ready;
    from_hex("0807060504030201 02" MEMBER MEMBER, bytes, &len);
    ck_assert(mdl_ready_read(bytes, len, &ready));
    ck_assert_uint_eq(ready.nonce, 0x0102030405060708u);
    ck_assert_int_eq(ready.count, 2);
    ck_assert_uint_eq(ready.members[1].rank, 5);
    bytes[8] = 6; /* more than a tree has */
    ck_assert(!mdl_ready_read(bytes, len, &ready));
    bytes[8] = 1; /* left over */
    ck_assert(!mdl_ready_read(bytes, len, &ready));
}
END_TEST

START_TEST(trouble_bytes)
{
    uint8_t bytes[64];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_trouble t = {.code = medleyTimeout, .origin = 7, .text = "a\nb"}, got;
    mdl_trouble_write(&w, &t);
    same_bytes(bytes, w.len, "08000000 07000000 0300 610a62");
    ck_assert(mdl_trouble_read(bytes, w.len, &got));
    ck_assert_int_eq(got.code, medleyTimeout);
    ck_assert_int_eq(got.origin, 7);
    ck_assert_str_eq(got.text, "a?b"); /* no line breaks into our log */
    w.len = 0;
    t.origin = -1;
    mdl_trouble_write(&w, &t);
    same_bytes(bytes, w.len, "08000000 ffffffff 0300 610a62");
    ck_assert(mdl_trouble_read(bytes, w.len, &got));
    ck_assert_int_eq(got.origin, -1);
}
END_TEST

START_TEST(trouble_is_never_success)
{
    uint8_t bytes[16] = {0};
    struct mdl_trouble got;
    for (uint8_t code = 0; code < 20; code++) {
        bytes[0] = code;
        ck_assert(mdl_trouble_read(bytes, 10, &got));
        ck_assert_int_ne(got.code, medleySuccess);
        ck_assert_int_ne(got.code, medleyInProgress);
        ck_assert_int_lt(got.code, medleyNumResults);
    }
}
END_TEST

START_TEST(chunk_bytes)
{
    uint8_t bytes[64];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_chunk chunk = {.round = 2, .total = 20, .offset = 17, .bytes = (const uint8_t *)"xyz", .len = 3}, got;
    mdl_chunk_write(&w, &chunk);
    same_bytes(bytes, w.len, "0200000000000000 1400000000000000 1100000000000000 78797a");
    ck_assert(mdl_chunk_read(bytes, w.len, &got));
    ck_assert_uint_eq(got.len, 3);
    bytes[16] = 18; /* past the end */
    ck_assert(!mdl_chunk_read(bytes, w.len, &got));
    bytes[16] = 17;
    bytes[15] = 1; /* a total of 2^56 */
    ck_assert(!mdl_chunk_read(bytes, w.len, &got));
}
END_TEST

START_TEST(missing_bytes)
{
    uint8_t bytes[64];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_missing m = {.round = 1}, got;
    mdl_ranges_add(&m.ranks, 1, 2);
    mdl_missing_write(&w, &m);
    same_bytes(bytes, w.len, "0100000000000000 02000000 0100 01000000 02000000");
    ck_assert(mdl_missing_read(bytes, w.len, &got));
    ck_assert_uint_eq(got.ranks.count, 2);
}
END_TEST

START_TEST(id_bytes)
{
    medleyUniqueId id;
    struct mdl_id made = {.flags = MDL_ID_FIXED, .naddrs = 2}, got;
    for (int i = 0; i < 32; i++) made.secret.key[i] = (uint8_t)(i + 1);
    made.addrs[0] = address("10.1.2.3:258");
    made.addrs[1] = address("[2001:db8::1]:80");
    mdl_id_write(&made, &id);
    same_bytes((const uint8_t *)id.internal, 96,
               "4d444c59 0100 02 01 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
               "04 00 0201 0a010203000000000000000000000000 00000000"
               "06 00 5000 20010db8000000000000000000000001 00000000"
               "0000000000000000");
    ck_assert_int_eq(mdl_id_read(&id, &got), medleySuccess);
    ck_assert_int_eq(got.naddrs, 2);
    ck_assert_int_eq(mdl_boot_id_check(&id), medleySuccess);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(damaged_ids)
{
    medleyUniqueId good, id;
    struct mdl_id made = {.naddrs = 1};
    made.addrs[0] = address("10.1.2.3:258");
    mdl_id_write(&made, &good);
    static const struct {
        int at;
        char value;
        const char *say;
    } cases[] = {{0, 0, "not a unique id"}, {4, 2, "version 2"},  {6, 0, "0 addresses"}, {6, 4, "4 addresses"},
                 {40, 9, "address 0"},      {127, 1, "not zero"}, {70, 1, "not zero"}};
    ck_assert_int_eq(mdl_boot_id_check(&good), medleySuccess);
    ck_assert_int_eq(mdl_boot_id_check(NULL), medleyInvalidArgument);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        id = good;
        id.internal[cases[i].at] = cases[i].value;
        ck_assert_int_eq(mdl_boot_id_check(&id), medleyInvalidArgument);
        ck_assert_msg(strstr(mdl_error_text(), cases[i].say) != NULL, "%s", mdl_error_text());
    }
}
END_TEST

START_TEST(bad_headers)
{
    uint8_t head[MDL_FRAME_BYTES];
    struct mdl_frame f = {.type = 70, .length = MDL_CTL_MAX_PAYLOAD}, got;
    mdl_frame_write(head, &f);
    ck_assert_ptr_null(mdl_frame_read(head, &got));
    mdl_put_u32(head + 8, MDL_CTL_MAX_PAYLOAD + 1);
    ck_assert_ptr_nonnull(strstr(mdl_frame_read(head, &got), "longer"));
    mdl_put_u32(head + 8, UINT32_MAX);
    ck_assert_ptr_nonnull(mdl_frame_read(head, &got));
    mdl_frame_write(head, &f);
    head[4]++;
    ck_assert_ptr_nonnull(strstr(mdl_frame_read(head, &got), "version"));
    mdl_frame_write(head, &f);
    head[0]++;
    ck_assert_ptr_nonnull(strstr(mdl_frame_read(head, &got), "magic"));
}
END_TEST

START_TEST(hosts_are_checked)
{
    uint8_t bytes[MDL_MEMBER_BYTES];
    size_t len;
    struct mdl_member m;
    from_hex(MEMBER, bytes, &len);
    static const struct {
        int at, value;
    } cases[] = {{24, 0}, {24, 65}, {24, 2}, {24, 255}, {28, 18}, {28, 255}, {2, 0x10}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bad[MDL_MEMBER_BYTES];
        memcpy(bad, bytes, sizeof(bad));
        bad[cases[i].at] = (uint8_t)cases[i].value;
        struct mdl_reader r = {.p = bad, .left = len};
        ck_assert_msg(!mdl_member_read(&r, &m) || r.left, "case %zu", i);
    }
    bytes[25] = 0x1b; /* an escape sequence for somebody's terminal */
    struct mdl_reader r = {.p = bytes, .left = len};
    ck_assert(mdl_member_read(&r, &m));
    ck_assert_str_eq(m.host, "?b");
}
END_TEST

/* ---- sets of ranks and the tree ---- */

static void formats(const struct mdl_ranges *set, const char *want)
{
    char text[64];
    mdl_ranges_format(set, text, sizeof(text));
    ck_assert_str_eq(text, want);
}

START_TEST(ranges_text)
{
    struct mdl_ranges set = {0};
    formats(&set, "none");
    mdl_ranges_add(&set, 7, 7);
    mdl_ranges_add(&set, 3, 3);
    mdl_ranges_add(&set, 5, 6);
    mdl_ranges_sort(&set);
    formats(&set, "3, 5-7");
    ck_assert_uint_eq(set.count, 4);
    set.count = 16;
    formats(&set, "3, 5-7 and 12 more");
    mdl_ranges_clear(&set);
    for (uint32_t r = 0; r < 1000; r += 2) mdl_ranges_add(&set, 100000 + r, 100000 + r);
    ck_assert_uint_eq(set.count, 500);
    ck_assert_int_eq(set.n, MDL_RANGES_MAX);
    formats(&set, "100000, 100002, 100004, 100006 and 496 more");
}
END_TEST

START_TEST(ranges_are_checked)
{
    static const char *const bad[] = {"01000000 0100 05000000 04000000",                   /* backwards */
                                      "01000000 0100 ffffffff ffffffff",                   /* no rank */
                                      "02000000 0200 ffffffff ffffffff 00000000 00000000", /* goes around */
                                      "01000000 0100 03000000 04000000", /* more than were announced */
                                      "01000000 4100 03000000 03000000",
                                      "01000000 0200 03000000 03000000"}; /* not there */
    uint8_t bytes[64];
    size_t len;
    struct mdl_ranges set;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        from_hex(bad[i], bytes, &len);
        struct mdl_reader r = {.p = bytes, .left = len};
        mdl_ranges_read(&r, &set);
        ck_assert_msg(r.bad, "case %zu", i);
        ck_assert_uint_eq(set.count, 0);
    }
}
END_TEST

START_TEST(tree_is_one)
{
    for (uint32_t n = 1; n < 200; n++) {
        struct mdl_ranges all = {0};
        uint32_t edges = 0, list[1 + MDL_TREE_ARITY];
        mdl_tree_subtree(0, n, &all);
        ck_assert_uint_eq(all.count, n);
        for (uint32_t r = 0; r < n; r++) {
            int k = mdl_tree_neighbours(r, n, list);
            edges += (uint32_t)k;
            struct mdl_ranges below = {0}, check = {0};
            mdl_tree_subtree(r, n, &below);
            for (uint32_t other = 0; other < n; other++)
                if (mdl_tree_below(other, r)) mdl_ranges_add(&check, other, other);
            ck_assert_uint_eq(below.count, check.count);
            ck_assert_int_eq(below.n, check.n);
        }
        ck_assert_uint_eq(edges, 2 * (n - 1));
    }
}
END_TEST

UNIT_MAIN("ctl_messages", frame_bytes, member_bytes, join_bytes, wait_bytes, ready_bytes, trouble_bytes,
          trouble_is_never_success, chunk_bytes, missing_bytes, id_bytes, damaged_ids, bad_headers, hosts_are_checked,
          ranges_text, ranges_are_checked, tree_is_one)
