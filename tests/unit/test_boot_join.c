/* SPDX-License-Identifier: Apache-2.0 */
/* Joining: ranks as threads of this process, from 1 to 64, and what goes wrong when they do not fit together. */
#include "config.h"
#include "tests/unit/boot_world.h"

static struct world world;

static void exchange(struct world_rank *r)
{
    struct world *w = r->world;
    uint32_t mine[3] = {(uint32_t)r->rank, (uint32_t)r->rank * 7, 0xabcd}, all[WORLD_MAX][3];
    for (int round = 0; round < 3; round++) {
        mine[2]++;
        memset(all, 0, sizeof(all));
        ck_assert_int_eq(mdl_ctl_allgather(r->ctl, mine, sizeof(mine), all, world_soon(10000), "test"), medleySuccess);
        for (int i = 0; i < w->nranks; i++) {
            ck_assert_uint_eq(all[i][0], (uint32_t)i);
            ck_assert_uint_eq(all[i][1], (uint32_t)i * 7);
            ck_assert_uint_eq(all[i][2], mine[2]);
        }
    }
    for (int i = 0; i < w->nranks; i++) ck_assert_str_ne(mdl_ctl_host(r->ctl, i), "?");
}

START_TEST(joins_any_number)
{
    for (int n = 1; n <= 16; n++) {
        world_init(&world, n);
        world.body = exchange;
        world_make_id(&world);
        world_run(&world, -1);
        world_all_joined(&world);
    }
}
END_TEST

START_TEST(joins_64)
{
    world_init(&world, 64);
    world.body = exchange;
    world_make_id(&world);
    world_run(&world, -1);
    world_all_joined(&world);
}
END_TEST

UNIT_MAIN("boot_join", joins_any_number, joins_64)
