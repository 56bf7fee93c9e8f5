/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks that die, stop or never come while a communicator is being made. The others get an error by the init deadline
 * that names who is missing, or, if the communicator was made just in time, at their first operation.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 5, WATCHDOG_S = 90, INIT_MS = 800 };

#define ADDRESS_ONLY "was never reached"

enum fate { NEVER_COMES, KILLED, STOPPED };

struct stage {
    unsigned seed;
    enum fate fate;
    int victim;
    volatile int ready;  /* ranks whose processes run */
    volatile int begun;  /* ranks that are about to make the communicator */
    volatile int failed; /* ranks that have their error */
    volatile double began_at[RANKS], ended_at[RANKS];
    volatile double struck_at;
    double limit; /* seconds that the init may take */
};
static struct stage *stage;

static int check_named(int rank, medleyComm_t comm, const char *text)
{
    char name[32], number[16];

    snprintf(name, sizeof(name), "rank %d", stage->victim);
    snprintf(number, sizeof(number), "%d", stage->victim);
    if (strstr(text, name)) return 0;
    /* "waiting for 1 of 5 ranks: 3 (host)", or the rank at which the others meet: who has not come there before it was
     * stopped knows its address only */
    if (stage->victim == 0 && (strstr(text, "join") || strstr(text, ADDRESS_ONLY))) return 0;
    CHECK(strstr(text, "missing") || strstr(text, "waiting for"));
    CHECK(strstr(text, number));
    return 0;
}

/* The communicator was made before the blow: the first operations find out. */
static int use_it(int rank, medleyComm_t comm)
{
    int one = 1, sum;
    medleyResult_t res = medleySuccess;

    while (res == medleySuccess) res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL);
    __atomic_add_fetch(&stage->failed, 1, __ATOMIC_ACQ_REL);
    if (rank == stage->victim) return 0; /* stopped, and continued long after */
    CHECK(res == medleyRemoteError || res == medleyTimeout);
    return check_named(rank, comm, medleyGetLastError(comm));
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    medleyComm_t comm = NULL;
    medleyResult_t res;
    int wrong;

    /* The id lives for twice the init deadline: it is made when all are there to use it. */
    __atomic_add_fetch(&stage->ready, 1, __ATOMIC_ACQ_REL);
    while (rank == 0 && __atomic_load_n(&stage->ready, __ATOMIC_ACQUIRE) < RANKS) scene_sleep_ms(0.2);
    if (rank == 0 && medleyGetUniqueId(&w->id) != medleySuccess) return 1;
    if (rank == 0) __atomic_store_n(&w->id_ready, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&w->id_ready, __ATOMIC_ACQUIRE)) scene_sleep_ms(1);
    __atomic_add_fetch(&stage->begun, 1, __ATOMIC_ACQ_REL);
    while (stage->fate == NEVER_COMES && rank == stage->victim) pause();
    stage->began_at[rank] = scene_now();
    res = medleyCommInitRank(&comm, w->nranks, w->id, rank);
    stage->ended_at[rank] = scene_now();
    if (res == medleySuccess) {
        wrong = use_it(rank, comm);
        OK(medleyCommAbort(comm));
        return wrong;
    }
    __atomic_add_fetch(&stage->failed, 1, __ATOMIC_ACQ_REL);
    CHECK(comm == NULL);
    if (rank == stage->victim) return 0;
    CHECK(res == medleyRemoteError || res == medleyTimeout);
    return check_named(rank, NULL, medleyGetLastError(NULL));
}

static int judge(const int *status)
{
    int wrong = 0;

    for (int r = 0; r < RANKS; r++) {
        double took = stage->ended_at[r] - stage->began_at[r];
        if (r == stage->victim) continue;
        if (status[r] != 0) {
            fprintf(stderr, "rank %d ended with %d\n", r, status[r]);
            wrong = 1;
        } else if (took > stage->limit) {
            fprintf(stderr, "rank %d: the init took %.2f s, allowed are %.2f s\n", r, took, stage->limit);
            wrong = 1;
        }
    }
    return wrong;
}

static void strike(struct ranks_play *p, unsigned *random)
{
    static const double spread_ms[] = {3, 10, 30, 100};

    scene_sleep_ms((double)(scene_random(random) % 1000) / 1000 * spread_ms[stage->seed % 4]);
    stage->struck_at = scene_now();
    if (stage->fate == KILLED || stage->fate == NEVER_COMES) kill(ranks_pid(p, stage->victim), SIGKILL);
    if (stage->fate == STOPPED) kill(ranks_pid(p, stage->victim), SIGSTOP);
}

/* A stopped rank runs again when the others have given it up: it gets an error too. */
static void wake(struct ranks_play *p)
{
    double until = scene_now() + WATCHDOG_S / 2;

    while (__atomic_load_n(&stage->failed, __ATOMIC_ACQUIRE) < RANKS - 1 && scene_now() < until) scene_sleep_ms(5);
    kill(ranks_pid(p, stage->victim), SIGCONT);
}

static int init_scene(const struct scene *s, unsigned seed)
{
    unsigned random = seed * 2654435761u;
    double slack = scene_slack(), init_ms = INIT_MS * (slack < 4 ? slack : 4);
    int status[RANKS];
    struct ranks_play *p;
    char text[32];

    memset(stage, 0, sizeof(*stage));
    stage->seed = seed;
    stage->fate = *(const enum fate *)s->arg;
    stage->victim = (int)(scene_random(&random) % RANKS);
    if (stage->fate == NEVER_COMES && stage->victim == 0) stage->victim = 1; /* rank 0 makes the id */
    stage->limit = init_ms / 1e3 + 1 * slack;
    snprintf(text, sizeof(text), "%d", (int)init_ms);
    setenv("MEDLEY_INIT_TIMEOUT", text, 1);
    setenv("MEDLEY_TIMEOUT", text, 1);
    setenv("MEDLEY_DEAD_AFTER", text, 1);
    setenv("MEDLEY_HEARTBEAT", "100", 1);
    p = ranks_start(RANKS, rank_main, NULL);
    while (__atomic_load_n(&stage->begun, __ATOMIC_ACQUIRE) < RANKS) scene_sleep_ms(0.2);
    strike(p, &random);
    if (stage->fate == STOPPED) wake(p);
    ranks_finish(p, WATCHDOG_S, status);
    return judge(status);
}

int main(int argc, char **argv)
{
    static const enum fate never = NEVER_COMES, killed = KILLED, stopped = STOPPED;
    static const struct scene scenes[] = {
        {"never_comes", init_scene, 2, &never},
        {"killed", init_scene, 12, &killed},
        {"stopped", init_scene, 4, &stopped},
    };

    stage = scene_shared(sizeof(*stage));
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
