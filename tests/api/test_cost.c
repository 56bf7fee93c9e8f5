/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What communicators cost, counted and not timed: many of them among the same processes of one host, from fresh ids and
 * by split, take no descriptor and no thread more than a few do, a bounded amount of memory, and each builds a plan
 * once. Afterwards nothing is left.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/census.h"
#include "tests/fault/scene.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 4, FEW = 3, MANY = 32, COUNT = 16384, SECONDS = 120 };

/* Resident in one rank for one more communicator, shared pages counted in each: what its own tables, its rings' and
 * its board's first pages take. The plan of a call and the pieces of memory that it touches come on top. */
enum { IDLE_KIB = 256 };

static struct board {
    volatile int made[MANY];
    medleyUniqueId ids[MANY];
} * board;

static int fresh(int rank, int i, medleyComm_t *out)
{
    medleyComm_t comm = NULL;

    if (rank == 0) {
        OK(medleyGetUniqueId(&board->ids[i]));
        __atomic_store_n(&board->made[i], 1, __ATOMIC_RELEASE);
    }
    while (!__atomic_load_n(&board->made[i], __ATOMIC_ACQUIRE)) scene_sleep_ms(0.2);
    CHECK(medleyCommInitRank(out, RANKS, board->ids[i], rank) == medleySuccess);
    return 0;
}

static int open_until(int rank, medleyComm_t *comms, int from, int to)
{
    medleyComm_t comm = NULL;

    for (int i = from; i < to; i++) {
        if (i % 2)
            OK(medleyCommSplit(comms[0], 0, rank, &comms[i], NULL));
        else
            CHECK(fresh(rank, i, &comms[i]) == 0);
    }
    return 0;
}

/* Nobody is still at work on the creation of the last one. */
static int settle(int rank, medleyComm_t comm)
{
    static float in[RANKS], out[RANKS];

    OK(medleyAllReduce(in, out, RANKS, medleyFloat32, medleySum, comm, NULL));
    OK(medleyAllReduce(in, out, RANKS, medleyFloat32, medleySum, comm, NULL));
    return 0;
}

static int check_plans(int rank, medleyComm_t comm, float *in, float *out)
{
    medleyCommStats_t before = {.size = sizeof(before)}, after = {.size = sizeof(after)};

    OK(medleyAllReduce(in, out, COUNT, medleyFloat32, medleySum, comm, NULL));
    OK(medleyCommGetStats(comm, &before));
    for (int i = 0; i < 5; i++) OK(medleyAllReduce(in, out, COUNT, medleyFloat32, medleySum, comm, NULL));
    OK(medleyCommGetStats(comm, &after));
    CHECK(before.plans_built == 1);
    CHECK(after.plans_built == 1);
    CHECK(after.plans_reused >= before.plans_reused + 5);
    return 0;
}

static int many(struct ranks_world *w, int rank, void *arg)
{
    static medleyComm_t comms[MANY];
    static float in[COUNT], out[COUNT];
    medleyComm_t comm = NULL;
    struct census start, few, all;
    const struct census_margin margin = {.mappings = 64, .resident_kib = 8192, .heap_bytes = 1 << 20};

    census_take(&start);
    CHECK(open_until(rank, comms, 0, FEW) == 0);
    CHECK(settle(rank, comms[FEW - 1]) == 0);
    census_take(&few);
    ranks_meet(w, 1);
    CHECK(open_until(rank, comms, FEW, MANY) == 0);
    CHECK(settle(rank, comms[MANY - 1]) == 0);
    ranks_meet(w, 2);
    census_take(&all);
    if (all.fds > few.fds || all.threads > few.threads)
        fprintf(stderr, "rank %d: %d communicators hold %d descriptors and %d threads, %d hold %d and %d\n", rank, FEW,
                few.fds, few.threads, MANY, all.fds, all.threads);
    CHECK(all.fds <= few.fds && all.threads <= few.threads);
    if (all.resident_kib >= 0) CHECK(all.resident_kib - few.resident_kib <= (MANY - FEW) * IDLE_KIB);
    for (int i = 0; i < MANY; i += 7) CHECK(check_plans(rank, comms[i], in, out) == 0);
    ranks_meet(w, 3);
    for (int i = MANY - 1; i >= 0; i--) OK(medleyCommDestroy(comms[i]));
    CHECK(census_back_to(&start, &margin, "after all are destroyed"));
    return 0;
}

static int run_many(const struct scene *s, unsigned seed)
{
    return ranks_run(RANKS, false, many, NULL, (int)(SECONDS * scene_slack()), NULL);
}

int main(int argc, char **argv)
{
    static const struct scene scenes[] = {{.name = "many", .run = run_many, .rounds = 1}};

    setenv("MEDLEY_TRANSPORT", "shm,tcp", 1);
    setenv("MEDLEY_DEBUG", "NONE", 0);
    board = scene_shared(sizeof(*board));
    return scene_main(argc, argv, scenes, 1);
}
