/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing leaks: a thousand times init, collective, destroy, and inits that fail, aborts, splits and everything else
 * that can be made and destroyed leave the process and its world as they were; so do ranks that are killed.
 *
 * Each scene runs in processes of its own. A census is taken before the first call and after some rounds of warming up:
 * at the end descriptors, threads, files and sockets are as at first, and memory as after the warming up.
 * MEDLEY_TRANSPORT chooses the transport.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/coll/slack.h"
#include "tests/fault/census.h"
#include "tests/fault/scene.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANKS = 4, WATCHDOG_S = 60, SLOTS = 4, COUNT = 3000 };

struct actor;
typedef int (*round_fn)(struct actor *a, int round);

struct plot {
    int n;
    bool threads;
    int rounds;
    round_fn round;
    bool parent;            /* the rounds work on one communicator of all ranks */
    bool expire;            /* ids are left over that must expire before anything is counted */
    int init_ms;            /* on an idle machine; 0: plenty */
    const char *dead_after; /* NULL: plenty */
};

struct actor {
    struct ranks_world *w;
    const struct plot *plot;
    int rank;
    medleyComm_t comm;  /* the parent, or NULL */
    int *in, *out;      /* [COUNT] */
    struct census bare; /* before the first call */
};

/* In shared memory: how an id comes to the other ranks. A slot is written again when all ranks have long read it. */
struct stage {
    medleyUniqueId ids[SLOTS];
    volatile int ready[SLOTS]; /* the round that the slot is for, plus 1 */
    volatile int working;
    volatile int calm; /* grows with each rank that is outside the library in a round of aborts */
};
static struct stage *stage;

/* ---- rounds ---- */

static int check_sum(struct actor *a, medleyComm_t comm, int n, int round)
{
    int rank = a->rank;

    for (int i = 0; i < COUNT; i++) a->in[i] = i + round;
    OK(medleyAllReduce(a->in, a->out, COUNT, medleyInt32, medleySum, comm, NULL));
    for (int i = 0; i < COUNT; i++) CHECK(a->out[i] == n * (i + round));
    return 0;
}

/* One thread is all ranks. */
static int all_round(struct actor *a, int round)
{
    enum { N = 3 };
    medleyComm_t comms[N], comm = NULL;
    int rank = 0, in[N], out[N] = {0};

    OK(medleyCommInitAll(comms, N, NULL));
    OK(medleyGroupStart());
    for (int r = 0; r < N; r++) {
        in[r] = round + r;
        OK(medleyAllReduce(&in[r], &out[r], 1, medleyInt32, medleySum, comms[r], NULL));
    }
    OK(medleyGroupEnd());
    for (int r = 0; r < N; r++) CHECK(out[r] == N * round + N * (N - 1) / 2);
    for (int r = 0; r < N; r++) OK(medleyCommDestroy(comms[(r + round) % N]));
    return 0;
}

static int make_comm(struct actor *a, int round, medleyConfig_t *config, medleyComm_t *comm_out)
{
    int rank = a->rank, slot = round % SLOTS;
    medleyComm_t comm = NULL;

    if (rank == 0) {
        OK(medleyGetUniqueId(&stage->ids[slot]));
        __atomic_store_n(&stage->ready[slot], round + 1, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&stage->ready[slot], __ATOMIC_ACQUIRE) != round + 1) scene_sleep_ms(0.05);
    OK(medleyCommInitRankConfig(&comm, a->plot->n, stage->ids[slot], rank, config));
    *comm_out = comm;
    return 0;
}

static int plain_round(struct actor *a, int round)
{
    medleyComm_t comm = NULL;
    int rank = a->rank;

    if (make_comm(a, round, NULL, &comm) || check_sum(a, comm, a->plot->n, round)) return 1;
    OK(medleyCommDestroy(comm));
    return 0;
}

/* One rank aborts; the others learn of it and free theirs in either way. */
static int abort_round(struct actor *a, int round)
{
    medleyComm_t comm = NULL;
    medleyResult_t res = medleySuccess;
    int rank = a->rank;

    if (make_comm(a, round, NULL, &comm) || check_sum(a, comm, a->plot->n, round)) return 1;
    __atomic_add_fetch(&stage->calm, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&stage->calm, __ATOMIC_ACQUIRE) < round * a->plot->n) scene_sleep_ms(0.05);
    if (rank == round % a->plot->n) {
        OK(medleyCommAbort(comm));
        return 0;
    }
    while (res == medleySuccess) res = medleyAllReduce(a->in, a->out, COUNT, medleyInt32, medleySum, comm, NULL);
    CHECK(res == medleyRemoteError);
    OK(round % 2 ? medleyCommAbort(comm) : medleyCommDestroy(comm));
    return 0;
}

static int wait_ready(int rank, medleyComm_t comm)
{
    medleyResult_t state = medleyInProgress;

    while (state == medleyInProgress) {
        OK(medleyCommGetAsyncError(comm, &state));
        if (state == medleyInProgress) scene_sleep_ms(0.2);
    }
    OK(state);
    return 0;
}

/* A communicator whose calls do not block, destroyed when it is ready, aborted while it is made. */
static int unblocked_round(struct actor *a, int round)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t comm = NULL;
    medleyUniqueId id;
    int rank = a->rank;

    config.blocking = 0;
    OK(medleyGetUniqueId(&id));
    CHECK(medleyCommInitRankConfig(&comm, 1 + round % 2, id, 0, &config) == medleyInProgress);
    if (round % 2) { /* the other rank never comes */
        OK(medleyCommAbort(comm));
        return 0;
    }
    if (wait_ready(rank, comm)) return 1;
    OK(medleyCommFinalize(comm));
    OK(medleyCommDestroy(comm));
    return 0;
}

static int split_round(struct actor *a, int round)
{
    int rank = a->rank, n = a->plot->n;
    medleyComm_t comm = NULL;

    switch (round % 3) {
    case 0: /* two halves, in reverse order */
        OK(medleyCommSplit(a->comm, rank % 2, -rank, &comm, NULL));
        if (check_sum(a, comm, rank % 2 ? n / 2 : (n + 1) / 2, round)) return 1;
        break;
    case 1: /* one rank stays out */
        OK(medleyCommSplit(a->comm, rank == round % n ? MEDLEY_SPLIT_NOCOLOR : 5, 0, &comm, NULL));
        CHECK((comm == NULL) == (rank == round % n));
        if (comm && check_sum(a, comm, n - 1, round)) return 1;
        break;
    case 2:
        OK(medleyCommShrink(a->comm, NULL, 0, &comm, NULL, MEDLEY_SHRINK_DEFAULT));
        if (check_sum(a, comm, n, round)) return 1;
        break;
    }
    OK(medleyCommDestroy(comm));
    return 0;
}

static int stream_work(struct actor *a, int round, int *mapped)
{
    medleyComm_t comm = a->comm;
    void *stream = NULL, *other = NULL, *event = NULL;
    int rank = a->rank;

    OK(medleyStreamCreate(&stream));
    OK(medleyStreamCreate(&other));
    OK(medleyEventCreate(&event));
    for (int i = 0; i < COUNT; i++) mapped[i] = i;
    OK(medleyAllReduce(mapped, a->out, COUNT, medleyInt32, medleySum, comm, stream));
    OK(medleyEventRecord(event, stream));
    OK(medleyStreamWaitEvent(other, event));
    OK(medleyBarrier(comm, other));
    if (round % 2) { /* what is queued runs although nothing is left to ask about it */
        OK(medleyStreamDestroy(stream));
        OK(medleyStreamDestroy(other));
        OK(medleyEventSynchronize(event, -1));
        OK(medleyEventDestroy(event));
    } else {
        OK(medleyStreamSynchronize(other));
        OK(medleyEventDestroy(event));
        OK(medleyStreamDestroy(other));
        OK(medleyStreamDestroy(stream));
    }
    for (int i = 0; i < COUNT; i++) CHECK(a->out[i] == i * a->plot->n);
    return 0;
}

/* Everything else that can be made. */
static int object_round(struct actor *a, int round)
{
    int rank = a->rank, factor = 2;
    medleyComm_t comm = a->comm;
    medleyWindow_t window = NULL;
    medleyRedOp_t op;
    void *mapped = NULL, *handle = NULL;

    OK(medleyMemAlloc(&mapped, COUNT * sizeof(int)));
    OK(medleyCommWindowRegister(comm, mapped, COUNT * sizeof(int), &window, MEDLEY_WIN_COLL_SYMMETRIC));
    OK(medleyCommRegister(comm, a->in, COUNT * sizeof(int), &handle));
    OK(medleyRedOpCreatePreMulSum(&op, &factor, medleyInt32, medleyScalarHostImmediate, comm));
    OK(medleyAllReduce(mapped, a->out, COUNT, medleyInt32, op, comm, NULL));
    OK(medleyRedOpDestroy(op, comm));
    if (stream_work(a, round, mapped)) return 1;
    OK(medleyCommDeregister(comm, handle));
    OK(medleyCommWindowDeregister(comm, window));
    OK(medleyBarrier(comm, NULL)); /* the peers read it no more */
    OK(medleyMemFree(mapped));
    return 0;
}

/* ---- inits that fail ---- */

static int fail_apart(medleyUniqueId id, medleyConfig_t *config0, medleyConfig_t *config1, int n1, int rank1)
{
    medleyComm_t comms[2] = {NULL, NULL}, comm = NULL;
    int rank = 0;

    OK(medleyGroupStart());
    OK(medleyCommInitRankConfig(&comms[0], 2, id, 0, config0));
    OK(medleyCommInitRankConfig(&comms[1], n1, id, rank1, config1));
    CHECK(medleyGroupEnd() != medleySuccess);
    CHECK(!comms[0] && !comms[1]);
    return 0;
}

static int fail_round(struct actor *a, int round)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER, other = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t comm = NULL;
    medleyUniqueId id = {{0}};
    int rank = 0, kind = round % 8;

    config.init_timeout_ms = other.init_timeout_ms = 5000;
    CHECK(medleyCommInitRank(&comm, 2, id, 0) == medleyInvalidArgument);
    OK(medleyGetUniqueId(&id));
    switch (kind) {
    case 0: CHECK(medleyCommInitRank(&comm, 2, id, 2) == medleyInvalidArgument); break;
    case 1: CHECK(medleyCommInitRank(&comm, 0, id, 0) == medleyInvalidArgument); break;
    case 2: CHECK(medleyCommInitRankConfig(&comm, 1, id, 0, (config.magic = 1, &config)) != medleySuccess); break;
    case 3:
        CHECK(medleyCommInitRankConfig(&comm, 1, id, 0, (config.transports = "owl", &config)) != medleySuccess);
        break;
    case 4: /* a rank that never comes */
        config.init_timeout_ms = 100;
        CHECK(medleyCommInitRankConfig(&comm, 2, id, 0, &config) == medleyTimeout);
        break;
    case 5: return fail_apart(id, &config, &other, 3, 1);                            /* sizes */
    case 6: return fail_apart(id, &config, &other, 2, 0);                            /* a rank twice */
    case 7: return fail_apart(id, &config, (other.deterministic = 1, &other), 2, 1); /* settings */
    }
    CHECK(comm == NULL);
    return 0;
}

/* The descriptors run out at every place in turn where the init needs one. */
static int starved_round(struct actor *a, int round)
{
    struct rlimit old, few;
    struct census now;
    medleyComm_t comms[2] = {NULL, NULL}, comm = NULL;
    medleyResult_t res;
    int rank = 0, in[2] = {1, 2}, out[2] = {0, 0};

    census_take(&now);
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)(now.fds + round), .rlim_max = old.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    res = medleyCommInitAll(comms, 2, NULL);
    if (res == medleySuccess) { /* then it works, too */
        OK(medleyGroupStart());
        for (int r = 0; r < 2; r++) OK(medleyAllReduce(&in[r], &out[r], 1, medleyInt32, medleySum, comms[r], NULL));
        res = medleyGroupEnd();
        if (res == medleySuccess) CHECK(out[0] == 3 && out[1] == 3);
        OK(medleyCommDestroy(comms[0]));
        OK(medleyCommDestroy(comms[1]));
    } else {
        CHECK(!comms[0] && !comms[1]);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    if (res != medleySuccess) CHECK(medleyGetLastError(NULL)[0] != 0);
    CHECK(census_back_to(&now, &(struct census_margin){10000, 1 << 20, 1 << 30}, "one init without descriptors"));
    return 0;
}

static int unused_round(struct actor *a, int round)
{
    medleyUniqueId id;
    medleyComm_t comm = NULL;
    int rank = 0;

    OK(medleyGetUniqueId(&id));
    return 0;
}

static void set_times(const struct plot *plot)
{
    char init[32];

    snprintf(init, sizeof(init), "%ld", plot->init_ms ? slack_short_ms(plot->init_ms) : 60000);
    setenv("MEDLEY_INIT_TIMEOUT", init, 1);
    setenv("MEDLEY_DEAD_AFTER", plot->dead_after ? plot->dead_after : "10s", 1);
}

/* Ids that nobody uses, any more, live for twice MEDLEY_INIT_TIMEOUT; the next user of the library buries them. */
static int expire(struct actor *a)
{
    double until = scene_now() + 10 * scene_slack();
    struct census now;

    do {
        scene_sleep_ms(30);
        setenv("MEDLEY_INIT_TIMEOUT", "60s", 1); /* the next user has time */
        if (all_round(a, 1)) return 1;
        set_times(a->plot);
        census_take(&now);
    } while (now.fds > a->bare.fds && scene_now() < until);
    return 0;
}

/* ---- an actor ---- */

static int play_rounds(struct actor *a, int from, int to)
{
    for (int round = from; round < to; round++) {
        if (a->plot->round(a, round)) {
            fprintf(stderr, "rank %d: in round %d\n", a->rank, round);
            return 1;
        }
    }
    return 0;
}

/* Between two meetings all ranks are outside the library, and one of each process counts. */
static int counted_play(struct actor *a)
{
    static const struct census_margin any = {10000, 1 << 20, 1 << 30}, small = {12, 2048, 64 * 1024};
    /* Both parts end with an even round: object_round then lets the progress thread end. */
    int rounds = (scene_rounds(a->plot->rounds) + 1) & ~1, warm = rounds > 200 ? 41 : (rounds / 5 + 2) | 1;
    bool counts = !a->plot->threads || a->rank == 0, same = true;
    struct census before;
    medleyComm_t comm = NULL;
    int rank = a->rank;

    census_take(&a->bare);
    ranks_meet(a->w, 0);
    if (a->plot->parent && make_comm(a, 0, NULL, &a->comm)) return 1;
    if (play_rounds(a, 1, warm) || (a->plot->expire && expire(a))) return 1;
    ranks_meet(a->w, 1);
    if (counts) census_take(&before);
    ranks_meet(a->w, 2);
    if (play_rounds(a, warm, warm + rounds) || (a->plot->expire && expire(a))) return 1;
    ranks_meet(a->w, 3);
    if (counts) same = census_back_to(&before, &small, "after the rounds");
    ranks_meet(a->w, 4);
    if (a->plot->parent) OK(medleyCommDestroy(a->comm));
    ranks_meet(a->w, 5);
    if (counts) same &= census_back_to(&a->bare, &any, "in the end");
    ranks_meet(a->w, 6);
    return !same;
}

static int actor_main(struct ranks_world *w, int rank, void *arg)
{
    struct actor a = {.w = w, .plot = arg, .rank = rank};
    int wrong;

    a.in = malloc(COUNT * sizeof(int));
    a.out = malloc(COUNT * sizeof(int));
    if (!a.in || !a.out) return 1;
    wrong = counted_play(&a);
    free(a.in);
    free(a.out);
    return wrong;
}

/* As many threads as ranks, in a process of its own: this one must stay clean to be forked again. */
static int threads_main(struct ranks_world *w, int rank, void *arg)
{
    const struct plot *plot = arg;

    return ranks_run(plot->n, true, actor_main, arg, WATCHDOG_S, NULL);
}

static int cycle_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;

    memset(stage, 0, sizeof(*stage));
    set_times(plot);
    if (plot->threads) return ranks_run(1, false, threads_main, (void *)(uintptr_t)plot, WATCHDOG_S, NULL);
    return ranks_run(plot->n, false, actor_main, (void *)(uintptr_t)plot, WATCHDOG_S, NULL);
}

/* ---- killed ---- */

static int victim_main(struct ranks_world *w, int rank, void *arg)
{
    medleyComm_t comm = NULL;
    medleyResult_t res = medleySuccess;
    void *mapped = NULL, *stream = NULL;
    int *out = malloc(COUNT * sizeof(int));

    if (!out) return 1;
    OK(ranks_comm(w, rank, NULL, &comm));
    OK(medleyMemAlloc(&mapped, COUNT * sizeof(int)));
    OK(medleyStreamCreate(&stream));
    __atomic_add_fetch(&stage->working, 1, __ATOMIC_ACQ_REL);
    while (res == medleySuccess) {
        res = medleyAllReduce(mapped, out, COUNT, medleyInt32, medleySum, comm, stream);
        if (res == medleySuccess) res = medleyStreamSynchronize(stream);
    }
    CHECK(res == medleyRemoteError);
    OK(medleyCommAbort(comm));
    OK(medleyStreamDestroy(stream));
    OK(medleyMemFree(mapped));
    free(out);
    return 0;
}

static int kill_scene(const struct scene *s, unsigned seed)
{
    const int n = MAX_RANKS, victims = *(const int *)s->arg;
    int status[MAX_RANKS], wrong = 0;
    double until = scene_now() + WATCHDOG_S;
    struct census before;
    struct ranks_play *p;

    memset(stage, 0, sizeof(*stage));
    census_take(&before);
    p = ranks_start(n, victim_main, NULL);
    while (__atomic_load_n(&stage->working, __ATOMIC_ACQUIRE) < n && scene_now() < until) scene_sleep_ms(1);
    for (int r = 0; r < victims; r++) kill(ranks_pid(p, r), SIGKILL);
    ranks_finish(p, WATCHDOG_S, status);
    for (int r = victims; r < n; r++) wrong |= status[r] != 0;
    if (wrong) fprintf(stderr, "a survivor failed\n");
    if (!census_world_back_to(&before, "after the kill")) wrong = 1;
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        fprintf(stderr, "a process was left over\n");
        wrong = 1;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    static const struct plot
        all = {.n = 1, .rounds = 1000, .round = all_round},
        threads = {.n = 3, .rounds = 300, .round = plain_round, .threads = true},
        processes = {.n = 3, .rounds = 300, .round = plain_round},
        aborts = {.n = 3, .rounds = 60, .round = abort_round},
        unblocked = {.n = 1, .rounds = 100, .round = unblocked_round, .expire = true, .init_ms = 400},
        failures = {.n = 1, .rounds = 80, .round = fail_round, .expire = true, .init_ms = 400},
        starved = {.n = 1, .rounds = 40, .round = starved_round, .init_ms = 200, .dead_after = "200ms"},
        unused = {.n = 1, .rounds = 300, .round = unused_round, .expire = true, .init_ms = 100},
        splits = {.n = 4, .rounds = 200, .round = split_round, .parent = true},
        objects = {.n = 2, .rounds = 200, .round = object_round, .parent = true},
        object_threads = {.n = 2, .rounds = 100, .round = object_round, .threads = true, .parent = true};
    static const int one = 1, everybody = MAX_RANKS;
    static const struct scene scenes[] = {
        {"all", cycle_scene, 1, &all},
        {"threads", cycle_scene, 1, &threads},
        {"processes", cycle_scene, 1, &processes},
        {"aborts", cycle_scene, 1, &aborts},
        {"unblocked", cycle_scene, 1, &unblocked},
        {"failures", cycle_scene, 1, &failures},
        {"starved", cycle_scene, 1, &starved},
        {"unused", cycle_scene, 1, &unused},
        {"splits", cycle_scene, 1, &splits},
        {"objects", cycle_scene, 1, &objects},
        {"object_threads", cycle_scene, 1, &object_threads},
        {"killed_one", kill_scene, 3, &one},
        {"killed_all", kill_scene, 3, &everybody},
    };

    census_enter_world();
    stage = scene_shared(sizeof(*stage));
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
