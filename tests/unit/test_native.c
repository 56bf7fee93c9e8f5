/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks tell of their vendors' collective libraries, what follows from it, and calls that can be left behind. */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/exchange.h"
#include "lib/engine/native.h"
#include "tests/unit/unit.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const struct mdl_native_row library = {
    .wanted = true,
    .bound = true,
    .caps = {.colls = 0x3f,
             .ways = MDL_NATIVE_GROUPS | MDL_NATIVE_ABORT,
             .id_bytes = 128,
             .version = 22809,
             .reduces = {1, 2, 3, 4, 0xfff}},
    .name = "nccl",
};

START_TEST(bytes)
{
    static const uint8_t golden[MDL_NATIVE_ROW_BYTES] = {
        3,   0,   0,   0,   0x3f, 0, 0, 0, 9, 0, 0, 0, 128, 0, 0, 0, 0x19, 0x59, 0,   0, /* 22809 */
        1,   0,   0,   0,   2,    0, 0, 0, 3, 0, 0, 0, 4,   0, 0, 0, 0xff, 0x0f, 0,   0,
        'n', 'c', 'c', 'l', 0,    0, 0, 0, 0, 0, 0, 0, 0,   0, 0, 0, '0',  '0',  ':', '1',
    };
    uint8_t bytes[MDL_NATIVE_ROW_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_reader r = {.p = bytes, .left = sizeof(bytes)};
    struct mdl_native_row row = library, back;

    snprintf(row.pci, sizeof(row.pci), "00:1");
    mdl_native_row_write(&w, &row);
    ck_assert(!w.bad && w.len == sizeof(bytes));
    ck_assert_mem_eq(bytes, golden, sizeof(bytes));
    ck_assert_int_eq(mdl_native_row_read(&r, &back), medleySuccess);
    ck_assert_mem_eq(&back.caps, &row.caps, sizeof(row.caps));
    ck_assert(back.wanted && back.bound && strcmp(back.name, "nccl") == 0 && strcmp(back.pci, "00:1") == 0);
}
END_TEST

START_TEST(damaged_bytes)
{
    uint8_t bytes[MDL_NATIVE_ROW_BYTES] = {0};
    struct mdl_reader shorter = {.p = bytes, .left = sizeof(bytes) - 1}, large = {.p = bytes, .left = sizeof(bytes)};
    struct mdl_native_row row;

    ck_assert_int_eq(mdl_native_row_read(&shorter, &row), medleyRemoteError);
    mdl_put_u32(bytes + 12, MDL_NATIVE_ID_BYTES + 1);
    ck_assert_int_eq(mdl_native_row_read(&large, &row), medleyRemoteError);
}
END_TEST

/* ---- decisions: three ranks, the first two on one machine ---- */

static struct mdl_native_row rows[3];
static struct mdl_rank_facts facts[3];
static struct mdl_native_caps caps;
static char why[256];

static void begin(void)
{
    for (int r = 0; r < 3; r++) {
        rows[r] = library;
        facts[r] = (struct mdl_rank_facts){.machine = r < 2 ? 7 : 8};
        snprintf(facts[r].device, sizeof(facts[r].device), "cuda:%d", r % 2);
        snprintf(facts[r].host, sizeof(facts[r].host), "host%d", r / 2);
        snprintf(rows[r].pci, sizeof(rows[r].pci), "0000:0%d:00.0", r % 2);
    }
}

static void refused(const char *words, bool loud)
{
    ck_assert_int_eq(mdl_native_decide(rows, facts, 3, &caps, why, sizeof(why)), loud);
    ck_assert_msg(strstr(why, words) != NULL, "\"%s\" is not in: %s", words, why);
}

START_TEST(one_vendor)
{
    static struct mdl_comm c = {.nranks = 3, .facts = facts};

    begin();
    ck_assert(mdl_exchange_same_vendor(&c));
    snprintf(facts[2].device, sizeof(facts[2].device), "cuda"); /* its first one */
    ck_assert(mdl_exchange_same_vendor(&c));
    snprintf(facts[2].device, sizeof(facts[2].device), "cudax:0");
    ck_assert(!mdl_exchange_same_vendor(&c));
    snprintf(facts[2].device, sizeof(facts[2].device), "host");
    ck_assert(!mdl_exchange_same_vendor(&c));
    for (int r = 0; r < 3; r++) snprintf(facts[r].device, sizeof(facts[r].device), "host");
    ck_assert(!mdl_exchange_same_vendor(&c));
    begin();
    c.nranks = 1;
    ck_assert(!mdl_exchange_same_vendor(&c));
}
END_TEST

START_TEST(common_abilities)
{
    begin();
    rows[1].caps.colls = 0x0f;
    rows[2].caps.reduces[medleySum] = 0;
    rows[2].caps.ways = MDL_NATIVE_GROUPS | MDL_NATIVE_ONE_KIND;
    ck_assert(!mdl_native_decide(rows, facts, 3, &caps, why, sizeof(why)));
    ck_assert_str_eq(why, "");
    ck_assert_uint_eq(caps.colls, 0x0f);
    ck_assert_uint_eq(caps.reduces[medleySum], 0);
    ck_assert_uint_eq(caps.reduces[medleyMin], 4);
    ck_assert_uint_eq(caps.ways, MDL_NATIVE_GROUPS | MDL_NATIVE_ONE_KIND);
}
END_TEST

START_TEST(differences)
{
    begin();
    rows[2].caps.version = 22000;
    refused("rank 2 (host host1) has nccl version 22000", true);
    begin();
    snprintf(rows[1].name, sizeof(rows[1].name), "other");
    refused("rank 1 (host host0) has other", true);
    begin();
    rows[1].bound = false;
    refused("rank 1 (host host0) has no library for cuda:1", true);
    for (int r = 0; r < 3; r++) rows[r].bound = false;
    refused("rank 0 (host host0) has no library", false);
    begin();
    rows[1].wanted = false;
    refused("MEDLEY_NATIVE is 0 on rank 1", false);
}
END_TEST

/* By the PCI address, or by the vendor's number where there is none; of one machine. */
START_TEST(shared_devices)
{
    begin();
    snprintf(rows[1].pci, sizeof(rows[1].pci), "%s", rows[0].pci);
    refused("ranks 0 and 1 (host host0) are on one device", false);
    begin(); /* the same number, but another device: each process sees its own only */
    snprintf(facts[1].device, sizeof(facts[1].device), "cuda:0");
    refused("", false);
    ck_assert_str_eq(why, "");
    rows[1].pci[0] = 0;
    refused("are on one device", false);
    begin(); /* another machine's */
    snprintf(rows[2].pci, sizeof(rows[2].pci), "%s", rows[0].pci);
    refused("", false);
    ck_assert_str_eq(why, "");
}
END_TEST

/* ---- aside ---- */

struct slow {
    _Atomic bool go, dropped;
    _Atomic int ran;
};

static void run_slow(void *arg)
{
    struct slow *s = arg;

    while (!atomic_load(&s->go)) mdl_now_ns();
    atomic_fetch_add(&s->ran, 1);
}

static void drop_slow(void *arg) { atomic_store(&((struct slow *)arg)->dropped, true); }

/* Of a library that takes one rank of a process. */
START_TEST(shared_processes)
{
    begin();
    for (int r = 0; r < 3; r++) facts[r].pid = 11;
    ck_assert(!mdl_native_decide(rows, facts, 3, &caps, why, sizeof(why)));
    ck_assert_str_eq(why, "");
    rows[0].caps.ways |= MDL_NATIVE_ONE_RANK;
    refused("ranks 0 and 1 (host host0) are in one process", true);
    facts[1].pid = 12; /* rank 2 is on another machine */
    ck_assert(!mdl_native_decide(rows, facts, 3, &caps, why, sizeof(why)));
    ck_assert_str_eq(why, "");
    ck_assert_uint_eq(caps.ways, MDL_NATIVE_GROUPS | MDL_NATIVE_ABORT | MDL_NATIVE_ONE_RANK);
}
END_TEST

START_TEST(comes_back)
{
    struct slow s = {.go = true};
    struct mdl_aside *a = mdl_aside_start(run_slow, &s);

    ck_assert_ptr_nonnull(a);
    ck_assert(mdl_aside_wait(a, mdl_now_ns() + unit_ns(20)));
    ck_assert(mdl_aside_end(a, drop_slow));
    ck_assert(s.ran == 1 && !s.dropped);
}
END_TEST

START_TEST(is_left_behind)
{
    static struct slow s;
    struct mdl_aside *a = mdl_aside_start(run_slow, &s);

    ck_assert_ptr_nonnull(a);
    ck_assert(!mdl_aside_wait(a, mdl_now_ns() + MDL_NS_PER_MS));
    ck_assert(!mdl_aside_end(a, drop_slow));
    atomic_store(&s.go, true);
    while (!atomic_load(&s.dropped)) mdl_now_ns();
    ck_assert_int_eq(s.ran, 1);
}
END_TEST

UNIT_MAIN("native", bytes, damaged_bytes, one_vendor, common_abilities, differences, shared_devices, shared_processes,
          comes_back, is_left_behind)
