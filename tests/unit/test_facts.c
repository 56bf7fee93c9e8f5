/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks tell of themselves: bytes, and who shares processors with whom. */
#include "config.h"

#include "lib/engine/facts.h"
#include "tests/unit/unit.h"

#include <stdio.h>

/* On machine `machine` (0: not known), host name "host<name>", processors [first, first + n). */
static struct mdl_rank_facts rank_of(uint64_t machine, int name, int first, int n)
{
    struct mdl_rank_facts f = {.machine = machine, .cores = (uint32_t)n};

    snprintf(f.host, sizeof(f.host), "host%d", name);
    for (int i = first; i < first + n; i++) f.cpus[i / 64] |= 1ull << (i % 64);
    return f;
}

static void expect(const struct mdl_rank_facts *all, int n, bool crowded)
{
    for (int r = 0; r < n; r++) ck_assert_int_eq(mdl_facts_crowded(all, n, r), crowded);
}

/* Containers of one machine have names of their own, and may have processors of their own. */
START_TEST(containers_share_a_machine)
{
    const struct mdl_rank_facts all[] = {rank_of(7, 1, 0, 2), rank_of(7, 1, 0, 2), rank_of(7, 2, 0, 2)};
    const struct mdl_rank_facts apart[] = {rank_of(7, 1, 0, 2), rank_of(7, 1, 0, 2), rank_of(7, 2, 2, 1)};

    expect(all, 3, true);
    expect(all, 2, false);
    expect(apart, 3, false);
}
END_TEST

START_TEST(machines_of_one_name)
{
    const struct mdl_rank_facts all[] = {rank_of(7, 1, 0, 1), rank_of(8, 1, 0, 1)};

    expect(all, 2, false);
}
END_TEST

START_TEST(without_knowing_the_machine_names_count)
{
    const struct mdl_rank_facts same[] = {rank_of(0, 1, 0, 1), rank_of(7, 1, 0, 1)};
    const struct mdl_rank_facts other[] = {rank_of(0, 1, 0, 1), rank_of(0, 2, 0, 1)};

    expect(same, 2, true);
    expect(other, 2, false);
}
END_TEST

START_TEST(bytes_come_back)
{
    struct mdl_rank_facts f = rank_of(0x0102030405060708, 3, 60, 10), g;
    uint8_t bytes[MDL_FACTS_WIRE_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    struct mdl_reader r = {.p = bytes, .left = sizeof(bytes)}, brief = {.p = bytes, .left = sizeof(bytes) - 1};

    f.pid = 11;
    f.net_mbps = 12;
    f.rails = 13;
    f.board_segment = 14;
    f.board_bytes = 15;
    f.board_place = 16;
    mdl_facts_write(&w, &f);
    ck_assert(!w.bad);
    ck_assert_uint_eq(w.len, sizeof(bytes));
    ck_assert_int_eq(mdl_facts_read(&r, &g), medleySuccess);
    ck_assert_mem_eq(&f, &g, sizeof(f));
    ck_assert_int_eq(mdl_facts_read(&brief, &g), medleyRemoteError);
}
END_TEST

UNIT_MAIN("facts", containers_share_a_machine, machines_of_one_name, without_knowing_the_machine_names_count,
          bytes_come_back)
