/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split, shrink and window as calls of their own: in the background of a non-blocking communicator, against other
 * calls, and when they fail.
 */
#include "config.h"

#include "tests/api/scenes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BAD ((medleyComm_t)(uintptr_t)64)

/* A communicator of its own for a scene: non-blocking (0) or not, with a deadline in milliseconds. */
static medleyResult_t begin(struct ranks_world *w, int rank, int blocking, int deadline_ms, medleyComm_t *comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyResult_t res = api_share_id(w, rank, 0, &id);

    config.blocking = blocking;
    if (deadline_ms) config.init_timeout_ms = (int)(deadline_ms * scene_slack());
    if (res == medleySuccess) res = medleyCommInitRankConfig(comm, w->nranks, id, rank, &config);
    if (res == medleyInProgress) res = api_state_after(*comm, medleyInProgress, 20);
    ranks_meet(w, 0); /* a fault of one shall not find another still in initialisation */
    return res;
}

/* As api_works, of a communicator that may be non-blocking. */
static int works(int rank, medleyComm_t comm)
{
    int one = 1, sum = 0, count = 0;
    medleyResult_t res;

    OK(medleyCommCount(comm, &count));
    res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL);
    if (res == medleyInProgress) res = api_state_after(comm, medleyInProgress, 20);
    OK(res);
    CHECK(sum == count);
    return 0;
}

/* ---- in the background ---- */

enum job { SPLIT, SHRINK, SHRINK_ABORT, WINDOW };

struct made {
    medleyComm_t child;
    medleyWindow_t win;
    void *memory;
};

static medleyResult_t start(medleyComm_t comm, enum job job, int n, int rank, struct made *made)
{
    int last = n - 1;

    *made = (struct made){.child = BAD, .memory = made->memory};
    switch (job) {
    case SPLIT: return medleyCommSplit(comm, rank == last ? MEDLEY_SPLIT_NOCOLOR : 3, -rank, &made->child, NULL);
    case SHRINK: return medleyCommShrink(comm, &last, 1, &made->child, NULL, MEDLEY_SHRINK_DEFAULT);
    case SHRINK_ABORT: return medleyCommShrink(comm, &last, 1, &made->child, NULL, MEDLEY_SHRINK_ABORT);
    default: return medleyCommWindowRegister(comm, made->memory, 4096, &made->win, 0);
    }
}

static int check_busy(int rank, medleyComm_t comm)
{
    medleyRankInfo_t info = {.size = sizeof(info)};
    medleyComm_t other = BAD;
    medleyResult_t state;
    int one = 1, sum = 0;

    OK(medleyCommGetAsyncError(comm, &state));
    CHECK(state == medleyInProgress);
    FAILS(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL), medleyInvalidUsage, "still at work");
    FAILS(medleyCommSplit(comm, 0, 0, &other, NULL), medleyInvalidUsage, "still at work");
    CHECK(other == NULL);
    OK(medleyCommCount(comm, &sum));
    return 0;
}

/* The job is started at once though the first rank comes late to it; then it can be used. */
static int background(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const enum job jobs[] = {SPLIT, SHRINK, WINDOW, SPLIT};
    struct made made = {0};
    medleyResult_t res;
    int n = w->nranks, count = 0, round = 1;

    OK(begin(w, rank, 0, 0, &comm));
    OK(medleyMemAlloc(&made.memory, 4096));
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        enum job job = jobs[i];
        double before = scene_now();
        bool out = rank == n - 1 && job == SHRINK;

        if (rank == 0) ranks_meet(w, round++);
        res = out ? medleySuccess : start(comm, job, n, rank, &made);
        CHECK(out || res == medleyInProgress);
        CHECK(rank == 0 || scene_now() - before < 2 * scene_slack());
        if (rank && !out) CHECK(check_busy(rank, comm) == 0);
        if (rank) ranks_meet(w, round++);
        CHECK(api_state_after(comm, medleyInProgress, 20) == medleySuccess);
        if (job == WINDOW) {
            CHECK(made.win);
            OK(medleyCommWindowDeregister(comm, made.win));
        } else if (rank == n - 1) {
            CHECK(job == SHRINK || made.child == NULL);
        } else {
            CHECK(made.child && made.child != BAD);
            OK(medleyCommCount(made.child, &count));
            CHECK(count == n - 1);
            CHECK(works(rank, made.child) == 0);
            OK(medleyCommDestroy(made.child));
        }
        CHECK(works(rank, comm) == 0);
    }
    OK(medleyMemFree(made.memory));
    OK(medleyCommDestroy(comm));
    return 0;
}

/* After a failure, in the background too. */
static int background_recovery(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct made made = {0};

    OK(begin(w, rank, 0, 0, &comm));
    if (rank == w->nranks - 1) OK(medleyCommRevoke(comm, 0));
    CHECK(api_state_after(comm, medleySuccess, 20) == medleyInvalidUsage);
    if (rank != w->nranks - 1) {
        CHECK(start(comm, SHRINK_ABORT, w->nranks, rank, &made) == medleyInProgress);
        CHECK(api_state_after(comm, medleyInProgress, 20) != medleyInProgress);
        CHECK(made.child && made.child != BAD);
        CHECK(works(rank, made.child) == 0);
        OK(medleyCommDestroy(made.child));
    }
    ranks_meet(w, 1);
    OK(medleyCommDestroy(comm));
    return 0;
}

/* One thread drives all ranks, without a group and with one. */
static int one_thread(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { N = 3 };
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t c[N], s[N], t[N];
    medleyUniqueId id;
    medleyWindow_t win[N];
    void *memory[N];

    (void)w;
    config.blocking = 0;
    OK(medleyGetUniqueId(&id));
    OK(medleyGroupStart());
    for (int i = 0; i < N; i++) CHECK(medleyCommInitRankConfig(&c[i], N, id, i, &config) == medleyInProgress);
    CHECK(medleyGroupEnd() == medleyInProgress);
    for (int i = 0; i < N; i++) CHECK(api_state_after(c[i], medleyInProgress, 20) == medleySuccess);
    for (int i = 0; i < N; i++) CHECK(medleyCommSplit(c[i], 0, i, &s[i], NULL) == medleyInProgress);
    for (int i = 0; i < N; i++) CHECK(api_state_after(c[i], medleyInProgress, 20) == medleySuccess);
    OK(medleyGroupStart()); /* two of each communicator */
    for (int i = 0; i < N; i++) {
        OK(medleyMemAlloc(&memory[i], 4096));
        OK(medleyCommSplit(s[i], 0, i, &t[i], NULL));
        OK(medleyCommWindowRegister(s[i], memory[i], 4096, &win[i], 0));
    }
    CHECK(medleyGroupEnd() == medleyInProgress);
    for (int i = 0; i < N; i++) CHECK(api_state_after(s[i], medleyInProgress, 20) == medleySuccess);
    for (int i = 0; i < N; i++) {
        OK(medleyCommUserRank(t[i], &rank));
        CHECK(rank == i);
        OK(medleyCommWindowDeregister(s[i], win[i]));
        OK(medleyCommDestroy(t[i]));
        OK(medleyCommDestroy(s[i]));
        OK(medleyCommDestroy(c[i]));
        OK(medleyMemFree(memory[i]));
    }
    return 0;
}

/* All but the first start a job that it never comes to, and give up. */
static int give_up(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const enum job jobs[] = {SPLIT, SHRINK, WINDOW};
    struct made made = {0};
    enum job job = jobs[strlen(api_current->arg) % 3];
    bool destroys = strstr(api_current->name, "destroy");
    double before;

    OK(begin(w, rank, 0, 0, &comm));
    OK(medleyMemAlloc(&made.memory, 4096));
    if (rank && !(job == SHRINK && rank == w->nranks - 1)) {
        CHECK(start(comm, job, w->nranks, rank, &made) == medleyInProgress);
        ranks_meet(w, 1);
        before = scene_now();
        OK(destroys ? medleyCommDestroy(comm) : medleyCommAbort(comm));
        CHECK(scene_now() - before < 3 * scene_slack());
        ranks_meet(w, 2);
    } else {
        ranks_meet(w, 1);
        ranks_meet(w, 2);
        OK(medleyCommAbort(comm));
    }
    OK(medleyMemFree(made.memory));
    return 0;
}

/* ---- against other calls ---- */

struct pair {
    enum { AR, RECV, SP, WIN, SH_LAST, SH_BUT_LAST } one, other; /* what rank 1 calls, and what all others do */
    const char *says, *and_says;
};

static medleyResult_t call(struct ranks_world *w, int rank, int what, medleyComm_t comm)
{
    static char memory[4096];
    medleyComm_t child = NULL;
    medleyWindow_t win;
    int one = 1, sum, out = what == SH_LAST ? w->nranks - 1 : w->nranks - 2;

    switch (what) {
    case AR: return medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL);
    case RECV: return medleyRecv(&sum, 1, medleyInt32, rank ? 0 : 1, comm, NULL);
    case SP: return medleyCommSplit(comm, 7, rank, &child, NULL);
    case WIN: return medleyCommWindowRegister(comm, memory, sizeof(memory), &win, 0);
    default: return medleyCommShrink(comm, &out, 1, &child, NULL, MEDLEY_SHRINK_DEFAULT);
    }
}

static int mismatch(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const struct pair *p = api_current->arg;
    double start = scene_now();
    bool sits_out = p->other == SH_LAST && p->one == SH_BUT_LAST && rank >= w->nranks - 2;
    bool excluded = p->other == SH_LAST && rank == w->nranks - 1;
    medleyResult_t res = medleySuccess;

    if (!sits_out && !excluded) res = call(w, rank, rank == 1 ? p->one : p->other, comm);
    if (res == medleySuccess) res = api_state_after(comm, medleySuccess, 4);
    CHECK(res == medleyInvalidUsage);
    CHECK(scene_now() - start < 4 * scene_slack());
    CHECK(api_says(comm, p->says) && api_says(comm, p->and_says) && api_says(comm, "rank 1 (host"));
    CHECK(medleyBarrier(comm, NULL) == medleyInvalidUsage);
    return 0;
}

/* ---- failures ---- */

/* The others never come: the parent has failed, on every rank. */
static int lone(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t child = BAD;

    OK(begin(w, rank, 1, 300, &comm));
    if (rank == 1) {
        CHECK(medleyCommSplit(comm, 7, 0, &child, NULL) == medleyTimeout);
        CHECK(child == NULL);
        CHECK(api_says(NULL, "Split(color 7, key 0)"));
    }
    CHECK(api_state_after(comm, medleySuccess, 10) == medleyTimeout);
    CHECK(api_says(comm, "Split(color 7, key 0)") && api_says(comm, "waiting for"));
    CHECK(medleyCommSplit(comm, 7, 0, &child, NULL) == medleyTimeout);
    CHECK(medleyBarrier(comm, NULL) == medleyTimeout);
    OK(medleyCommAbort(comm));
    return 0;
}

/* One rank has no descriptors left: the child fails on its members, soon, and the parent works. Between processes that
 * share memory already it takes none. */
static int out_of_descriptors(struct ranks_world *w, int rank, medleyComm_t comm)
{
    bool background = strstr(api_current->name, "background");
    const char *transport = getenv("MEDLEY_TRANSPORT");
    bool fails = rank < 2 && !(transport && strcmp(transport, "shm") == 0);
    struct rlimit old, none = {0};
    medleyComm_t child = BAD;
    medleyResult_t res;
    double before;

    OK(begin(w, rank, !background, 0, &comm));
    CHECK(works(rank, comm) == 0);
    ranks_meet(w, 1);
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none.rlim_max = old.rlim_max;
    if (rank == 1) CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    before = scene_now();
    res = medleyCommSplit(comm, rank / 2, rank, &child, NULL); /* ranks 2 and up have nothing to do with it */
    if (background) {
        CHECK(res == medleyInProgress);
        CHECK(api_state_after(comm, medleyInProgress, 20) == medleySuccess);
        CHECK(child && child != BAD);
        OK(medleyCommGetAsyncError(child, &res));
    }
    if (rank == 1) CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK(scene_now() - before < 6 * scene_slack());
    CHECK(res == (fails ? medleySystemError : medleySuccess));
    if (fails) CHECK(api_says(background ? child : NULL, "rank 1"));
    if (fails && !background) CHECK(child == NULL);
    if (!fails) CHECK(works(rank % 2, child) == 0);
    if (child) OK(medleyCommDestroy(child));
    CHECK(works(rank, comm) == 0);
    OK(medleyCommDestroy(comm));
    return 0;
}

static const struct pair split_reduce = {SP, AR, "Split(color 7, key 1)", "AllReduce(1 x int32, sum)"};
static const struct pair reduce_split = {AR, SP, "AllReduce(1 x int32, sum)", "Split(color 7, key"};
static const struct pair split_receive = {SP, RECV, "Split(color 7, key 1)", "Recv(1 x int32, from rank"};
static const struct pair window_reduce = {WIN, AR, "WindowRegister(4096 bytes)", "AllReduce(1 x int32, sum)"};
static const struct pair window_split = {WIN, SP, "WindowRegister(4096 bytes)", "Split(color 7, key 0)"};
static const struct pair shrink_reduce = {SH_LAST, AR, "Shrink(to", "AllReduce(1 x int32, sum)"};
static const struct pair shrink_split = {SP, SH_LAST, "Split(color 7, key 1)", "Shrink(to"};
static const struct pair shrink_shrink = {SH_BUT_LAST, SH_LAST, "without 3)", "without 2)"};

static const struct api_scene scenes[] = {
    {"background", background, BARE, NULL},
    {"background_recovery", background_recovery, BARE, NULL},
    {"one_thread", one_thread, BARE | ALONE, NULL},
    {"abort_split", give_up, BARE, ""},
    {"abort_shrink", give_up, BARE, "1"},
    {"abort_window", give_up, BARE, "12"},
    {"destroy_split", give_up, BARE, ""},
    {"destroy_shrink", give_up, BARE, "1"},
    {"split_reduce", mismatch, FATAL, &split_reduce},
    {"reduce_split", mismatch, FATAL, &reduce_split},
    {"split_receive", mismatch, FATAL, &split_receive},
    {"window_reduce", mismatch, FATAL, &window_reduce},
    {"window_split", mismatch, FATAL, &window_split},
    {"shrink_reduce", mismatch, FATAL, &shrink_reduce},
    {"shrink_split", mismatch, FATAL, &shrink_split},
    {"shrink_shrink", mismatch, FATAL, &shrink_shrink},
    {"lone", lone, BARE, NULL},
    {"out_of_descriptors", out_of_descriptors, BARE | PROCESSES, NULL},
    {"out_of_descriptors_background", out_of_descriptors, BARE | PROCESSES, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
