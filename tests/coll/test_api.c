/* SPDX-License-Identifier: Apache-2.0 */
/* What the API promises beyond results: groups, messages, split and shrink, streams, statistics, errors. One function
 * per promise; `test_api [-t] [-n ranks] [name...]`. */
#include "config.h"

#include "tests/coll/ranks.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "rank %d: %s:%d: %s; last error: %s\n", rank, __func__, __LINE__, #cond,                   \
                    medleyGetLastError(comm));                                                                         \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)
#define OK(call) CHECK((call) == medleySuccess)

typedef int (*scene_fn)(struct ranks_world *w, int rank, medleyComm_t comm);

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The promises in seconds hold on a machine that is not overloaded; MDL_TIME_FACTOR stretches them elsewhere. */
static double time_factor(void)
{
    const char *f = getenv("MDL_TIME_FACTOR");

    return f ? atof(f) : 1;
}

/* ---- messages and groups ---- */

static int exchange(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 100000, 3000000};
    int n = w->nranks, to = (rank + 1) % n, from = (rank + n - 1) % n;

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t count = sizes[s];
        int *a = malloc(count * 4 + 4), *b = calloc(count + 1, 4);
        for (size_t i = 0; i < count; i++) a[i] = (int)(i * 7) + rank;
        OK(medleyGroupStart());
        OK(medleySend(a, count, medleyInt32, to, comm, NULL));
        OK(medleyRecv(b, count, medleyInt32, from, comm, NULL));
        OK(medleyGroupEnd());
        for (size_t i = 0; i < count; i++) CHECK(b[i] == (int)(i * 7) + from);
        free(a);
        free(b);
    }
    return 0;
}

/* Everybody to everybody, itself included, several messages per pair, with a collective in the same group. */
static int all_pairs(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { MESSAGES = 5, COUNT = 3000 };
    int n = w->nranks, *out = malloc(sizeof(int) * MESSAGES * COUNT),
        *in = calloc((size_t)n * MESSAGES * COUNT, sizeof(int));
    int one = 1, sum = 0;

    for (int i = 0; i < MESSAGES * COUNT; i++) out[i] = rank * 1000000 + i;
    OK(medleyGroupStart());
    for (int m = 0; m < MESSAGES; m++) {
        for (int p = 0; p < n; p++) {
            OK(medleySend(out + m * COUNT, COUNT, medleyInt32, p, comm, NULL));
            OK(medleyRecv(in + (p * MESSAGES + m) * COUNT, COUNT, medleyInt32, p, comm, NULL));
        }
        if (m == 2) OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL));
    }
    OK(medleyGroupEnd());
    CHECK(sum == n);
    for (int p = 0; p < n; p++) {
        for (int i = 0; i < MESSAGES * COUNT; i++) CHECK(in[p * MESSAGES * COUNT + i] == p * 1000000 + i);
    }
    free(out);
    free(in);
    return 0;
}

static int bad_arguments(struct ranks_world *w, int rank, medleyComm_t comm)
{
    float x = 1, y = 0;
    medleyResult_t err;
    int dummy;

    CHECK(medleyAllReduce(NULL, &y, 1, medleyFloat32, medleySum, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyAllReduce(&x, &y, 1, (medleyDataType_t)99, medleySum, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyAllReduce(&x, &y, 1, medleyFloat32, (medleyRedOp_t)77, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyAllReduce(&x, &y, 1, medleyFloat32, medleySum, comm, &dummy) == medleyInvalidArgument);
    CHECK(medleyAllReduce((char *)&x + 1, &y, 1, medleyFloat32, medleySum, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyBroadcast(&x, &y, 1, medleyFloat32, w->nranks, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyBroadcast(&x, &y, 1, medleyFloat32, -1, comm, NULL) == medleyInvalidArgument);
    CHECK(medleySend(&x, 1, medleyFloat32, -1, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyAllGather(&x, &y, SIZE_MAX / 2, medleyFloat32, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyGroupEnd() == medleyInvalidUsage);
    OK(medleyGroupStart());
    CHECK(medleyBroadcast(&x, &y, 1, medleyFloat32, 99, comm, NULL) == medleyInvalidArgument);
    CHECK(medleyGroupEnd() == medleyInvalidArgument);
    OK(medleyCommGetAsyncError(comm, &err));
    CHECK(err == medleySuccess);
    OK(medleyAllReduce(&x, &y, 1, medleyFloat32, medleySum, comm, NULL)); /* still usable */
    CHECK(y == (float)w->nranks);
    return 0;
}

/* ---- split and shrink ---- */

static int split(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t half = NULL, none = NULL;
    int n = w->nranks, mine = 0, me, count, want = 0;

    for (int round = 0; round < 3; round++) {
        OK(medleyCommSplit(comm, rank % 2, -rank, &half, NULL));
        OK(medleyCommCount(half, &count));
        OK(medleyCommUserRank(half, &me));
        CHECK(count == (rank % 2 ? n / 2 : (n + 1) / 2));
        CHECK(me == count - 1 - rank / 2); /* key reverses the order */
        OK(medleyAllReduce(&rank, &mine, 1, medleyInt32, medleySum, half, NULL));
        want = 0;
        for (int r = rank % 2; r < n; r += 2) want += r;
        CHECK(mine == want);
        OK(medleyCommDestroy(half));
    }
    OK(medleyCommSplit(comm, rank == 0 ? MEDLEY_SPLIT_NOCOLOR : 0, rank, &none, NULL));
    CHECK((none == NULL) == (rank == 0));
    if (none) OK(medleyCommDestroy(none));
    return 0;
}

static int shrink(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t rest = NULL;
    int last = w->nranks - 1, count, sum = 0, one = 1;

    if (rank != last) {
        OK(medleyCommShrink(comm, &last, 1, &rest, NULL, MEDLEY_SHRINK_DEFAULT));
        OK(medleyCommCount(rest, &count));
        CHECK(count == w->nranks - 1);
        OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, rest, NULL));
        CHECK(sum == w->nranks - 1);
        OK(medleyCommDestroy(rest));
    }
    sum = 0;
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL)); /* the parent stays usable */
    CHECK(sum == w->nranks);
    return 0;
}

/* The last rank kills itself; the others see an error that names it, shrink, and go on. */
static int kill_and_shrink(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t rest = NULL;
    int last = w->nranks - 1, sum = 0, one = 1;
    char name[32];
    double start;
    medleyResult_t res = medleySuccess;

    OK(medleyBarrier(comm, NULL));
    ranks_meet(w, 1); /* all have left the barrier */
    if (rank == last) raise(SIGKILL);
    start = seconds();
    while (res == medleySuccess) res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL);
    CHECK(res == medleyRemoteError);
    CHECK(seconds() - start < 1.0 * time_factor());
    snprintf(name, sizeof(name), "rank %d", last);
    CHECK(strstr(medleyGetLastError(comm), name) != NULL);
    OK(medleyCommShrink(comm, &last, 1, &rest, NULL, MEDLEY_SHRINK_ABORT));
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, rest, NULL));
    CHECK(sum == w->nranks - 1);
    OK(medleyCommDestroy(rest));
    return 0;
}

/* ---- mismatches ---- */

static int failed_with(int rank, medleyComm_t comm, medleyResult_t res, medleyResult_t want, const char *a,
                       const char *b)
{
    CHECK(res == want);
    CHECK(strstr(medleyGetLastError(comm), a) != NULL);
    CHECK(strstr(medleyGetLastError(comm), b) != NULL);
    return 0;
}

static int mismatch_count(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[2000], b[2000];

    return failed_with(rank, comm, medleyAllReduce(a, b, rank == 1 ? 2000 : 1000, medleyInt32, medleySum, comm, NULL),
                       medleyInvalidUsage, "2000", "1000");
}

static int mismatch_coll(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[2000], b[2000];
    medleyResult_t res = rank == 1 ? medleyBroadcast(a, b, 1000, medleyInt32, 0, comm, NULL)
                                   : medleyAllReduce(a, b, 1000, medleyInt32, medleySum, comm, NULL);

    return failed_with(rank, comm, res, medleyInvalidUsage, "Broadcast", "AllReduce");
}

static int mismatch_zero(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[2000], b[2000];
    medleyResult_t res = medleyAllReduce(a, b, rank == 1 ? 0 : 1000, medleyInt32, medleySum, comm, NULL),
                   async = medleySuccess;
    double start = seconds();

    if (rank == 1) {
        while (async == medleySuccess && seconds() - start < 20) OK(medleyCommGetAsyncError(comm, &async));
        res = async;
    }
    return failed_with(rank, comm, res, medleyInvalidUsage, "(0 x", "1000");
}

static int mismatch_message(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[200000];
    medleyResult_t res = medleySuccess, async = medleySuccess;
    double start = seconds();

    if (rank == 0) res = medleySend(a, 1000, medleyInt32, 1, comm, NULL);
    if (rank == 1) res = medleyRecv(a, 2000, medleyInt32, 0, comm, NULL);
    while (res == medleySuccess && async == medleySuccess && seconds() - start < 20)
        OK(medleyCommGetAsyncError(comm, &async));
    return failed_with(rank, comm, res == medleySuccess ? async : res, medleyInvalidUsage, "1000", "2000");
}

/* Two ranks that both take themselves for the root have nothing to wait for: the audit finds them out. */
static int mismatch_root(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[1000];
    const struct timespec pause = {.tv_nsec = 1000000};
    double until = seconds() + 5 * time_factor();
    medleyResult_t async = medleyBroadcast(a, a, 1000, medleyInt32, rank == 1, comm, NULL);

    for (; async == medleySuccess && seconds() < until; nanosleep(&pause, NULL))
        OK(medleyCommGetAsyncError(comm, &async));
    return failed_with(rank, comm, async, medleyInvalidUsage, "root 0", "root 1");
}

static int mismatch_alltoallv(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[64 * 7], b[64 * 7];
    size_t send[64], recv[64];
    const struct timespec pause = {.tv_nsec = 1000000};
    double until = seconds() + 5 * time_factor();
    medleyResult_t async;

    for (int r = 0; r < w->nranks; r++) send[r] = recv[r] = 7;
    if (rank == 0) send[1] = 0; /* rank 1 expects 7 */
    async = medleyAlltoAllV(a, send, NULL, b, recv, NULL, medleyInt32, comm, NULL);
    for (; async == medleySuccess && seconds() < until; nanosleep(&pause, NULL))
        OK(medleyCommGetAsyncError(comm, &async));
    return failed_with(rank, comm, async, medleyInvalidUsage, "rank 0 (host ", "expects 7");
}

static int mismatch_order(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[200000], b[200000];
    medleyResult_t res = rank == 1 ? medleyRecv(a, 1000, medleyInt32, 0, comm, NULL)
                                   : medleyAllReduce(a, b, 1000, medleyInt32, medleySum, comm, NULL);

    return failed_with(rank, comm, res, medleyInvalidUsage, "Recv", "AllReduce");
}

/* ---- streams ---- */

static int streams(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { ROUNDS = 20, COUNT = 10000 };
    void *s1, *s2, *e;
    int *a = malloc(sizeof(int) * COUNT), *b = calloc(COUNT, sizeof(int)), *c = calloc(COUNT, sizeof(int));

    OK(medleyStreamCreate(&s1));
    OK(medleyStreamCreate(&s2));
    OK(medleyEventCreate(&e));
    for (int k = 0; k < ROUNDS; k++) {
        for (int i = 0; i < COUNT; i++) a[i] = i + k;
        OK(medleyAllReduce(a, b, COUNT, medleyInt32, medleySum, comm, s1));
        OK(medleyEventRecord(e, s1));
        OK(medleyStreamWaitEvent(s2, e));
        OK(medleyAllReduce(b, c, COUNT, medleyInt32, medleySum, comm, s2));
        OK(medleyStreamSynchronize(s2));
        OK(medleyEventSynchronize(e, 10000));
        OK(medleyEventQuery(e));
        for (int i = 0; i < COUNT; i++) CHECK(c[i] == (i + k) * w->nranks * w->nranks);
    }
    OK(medleyAllReduce(a, b, COUNT, medleyInt32, medleySum, comm, s1));
    OK(medleyAllReduce(b, c, COUNT, medleyInt32, medleySum, comm, NULL)); /* after what was queued */
    for (int i = 0; i < COUNT; i++) CHECK(c[i] == (i + ROUNDS - 1) * w->nranks * w->nranks);
    OK(medleyEventDestroy(e));
    OK(medleyStreamDestroy(s1));
    OK(medleyStreamDestroy(s2));
    CHECK(medleyStreamSynchronize(s1) == medleyInvalidArgument);
    free(a);
    free(b);
    free(c);
    return 0;
}

/* Where may the thread of this name run? -1: there is none; else the only processor, or CPU_SETSIZE for several. */
static int where_runs(const char *name)
{
    DIR *dir = opendir("/proc/self/task");
    int cpu = -1;

    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;) {
        char path[300], comm[32] = "";
        cpu_set_t set;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", d->d_name);
        f = d->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!f) continue;
        if (fgets(comm, sizeof(comm), f)) comm[strcspn(comm, "\n")] = 0;
        fclose(f);
        if (strcmp(comm, name) != 0 || sched_getaffinity(atoi(d->d_name), sizeof(set), &set) != 0) continue;
        for (cpu = 0; CPU_COUNT(&set) == 1 && !CPU_ISSET(cpu, &set);) cpu++;
        if (CPU_COUNT(&set) != 1) cpu = CPU_SETSIZE;
    }
    if (dir) closedir(dir);
    return cpu;
}

static int cpu_set(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int one = 1, sum = 0, cpu = sched_getcpu();
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t half;
    char text[16];
    void *stream;

    snprintf(text, sizeof(text), "%d", cpu);
    config.cpu_set = text;
    OK(medleyCommSplit(comm, 0, rank, &half, &config));
    OK(medleyStreamCreate(&stream));
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, half, stream));
    OK(medleyStreamSynchronize(stream)); /* then the thread has its name */
    CHECK(sum == w->nranks);
    CHECK(where_runs("medley-progress") == cpu);
    CHECK(where_runs("medley-monitor") == cpu); /* it was there before the child */
    OK(medleyStreamDestroy(stream));
    OK(medleyCommDestroy(half));
    return 0;
}

static int statistics(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyPeerStats_t before[64], peers[64];
    medleyCommStats_t s = {.size = sizeof(s), .npeers = 64, .peers = before};
    static _Thread_local int a[5000], b[5000];
    const long late_ms = (long)(1000 * (time_factor() < 4 ? time_factor() : 4)); /* so late is no other */
    const struct timespec late = {.tv_sec = late_ms / 1000, .tv_nsec = late_ms % 1000 * 1000000};
    uint64_t for_late = 0, for_others = 0;
    double spent;

    OK(medleyAllReduce(a, b, 5000, medleyInt32, medleySum, comm, NULL));
    OK(medleyCommGetStats(comm, &s));
    ranks_meet(w, 2);
    if (rank == 1) nanosleep(&late, NULL); /* the slow one: others must be seen to wait for it */
    spent = seconds();
    OK(medleyAllReduce(a, b, 5000, medleyInt32, medleySum, comm, NULL));
    spent = seconds() - spent;
    ranks_meet(w, 3); /* what was sent is counted by those who read it */
    s.peers = peers;
    s.npeers = 64;
    OK(medleyCommGetStats(comm, &s));
    CHECK(s.npeers == w->nranks);
    CHECK(s.coll[medleyCollAllReduce].calls == 2);
    CHECK(s.coll[medleyCollAllReduce].bytes == 2 * sizeof(a));
    for (int r = 0, sum = 0; r < w->nranks; r++) { /* whatever the algorithm, an all-reduce takes and gives data */
        sum += peers[r].sent_bytes > before[r].sent_bytes && peers[r].recv_bytes > before[r].recv_bytes;
        if (r == w->nranks - 1) CHECK(sum > 0);
    }
    for (int r = 0; r < w->nranks; r++) *(r == 1 ? &for_late : &for_others) += peers[r].wait_ns - before[r].wait_ns;
    printf("rank %d spent %.3f s: waited %.3f s for the late one, %.3f s for others\n", rank, spent,
           (double)for_late / 1e9, (double)for_others / 1e9);
    if (rank != 1) CHECK((double)for_late / 1e9 > spent / 2);
    if (rank == 1) CHECK((double)for_late / 1e9 < 0.01);
    return 0;
}

static const struct {
    const char *name;
    scene_fn fn;
    bool fatal, processes;
    int killed;
} scenes[] = {
    {"exchange", exchange, false, false, 0},
    {"all_pairs", all_pairs, false, false, 0},
    {"bad_arguments", bad_arguments, false, false, 0},
    {"split", split, false, false, 0},
    {"shrink", shrink, false, false, 0},
    {"streams", streams, false, false, 0},
    {"cpu_set", cpu_set, false, true, 0},
    {"statistics", statistics, false, false, 0},
    {"mismatch_count", mismatch_count, true, false, 0},
    {"mismatch_coll", mismatch_coll, true, false, 0},
    {"mismatch_zero", mismatch_zero, true, false, 0},
    {"mismatch_message", mismatch_message, true, false, 0},
    {"mismatch_order", mismatch_order, true, false, 0},
    {"mismatch_root", mismatch_root, true, false, 0},
    {"mismatch_alltoallv", mismatch_alltoallv, true, false, 0},
    {"kill_and_shrink", kill_and_shrink, true, true, 1},
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    int scene = *(int *)arg, res;
    medleyComm_t comm = NULL;

    OK(ranks_comm(w, rank, NULL, &comm));
    ranks_meet(w, 0); /* a fault of one shall not find another still in initialisation */
    res = scenes[scene].fn(w, rank, comm);
    if (res || scenes[scene].fatal)
        OK(medleyCommAbort(comm));
    else
        OK(medleyCommDestroy(comm));
    return res;
}

static int run_scene(int scene, int n, bool threads)
{
    int failed;

    if (threads && scenes[scene].processes) return 0;
    failed = ranks_run(n, threads, rank_main, &scene, 60, NULL) - scenes[scene].killed;
    printf("%s %s (%d ranks as %s)\n", failed ? "FAIL" : "ok", scenes[scene].name, n,
           threads ? "threads" : "processes");
    return failed != 0;
}

int main(int argc, char **argv)
{
    int n = 4, opt, failed = 0;
    bool threads = false;

    while ((opt = getopt(argc, argv, "n:t")) != -1) {
        if (opt == 'n')
            n = atoi(optarg);
        else if (opt == 't')
            threads = true;
        else
            return 2;
    }
    for (int s = 0; s < SCENES; s++) {
        bool chosen = optind == argc;
        for (int a = optind; a < argc; a++) chosen |= strcmp(argv[a], scenes[s].name) == 0;
        if (chosen) failed += run_scene(s, n, threads);
    }
    return failed ? 1 : 0;
}
