/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Abort, revoke and destroy against calls that are under way on other threads. Ranks are threads of this process, so
 * that the thread sanitizer sees all of it. Every call that was inside returns an error, abort returns in bounded time,
 * the peers learn of it, and nothing is touched that the abort has freed.
 */
#include "config.h"

#include "tests/fault/scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { COUNT = 1 << 16, MAX_RANKS = 4, WATCHDOG_S = 120 };

/* A thread that makes one kind of call on one communicator. */
struct caller {
    pthread_t thread;
    medleyComm_t comm;
    medleyResult_t (*call)(struct caller *c);
    int rank, n;
    atomic_bool *stop;
    int *in, *out;
    void *stream;
    atomic_int begun;
    medleyResult_t res;
    double ended_at;
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;

    atomic_store(&c->begun, 1);
    c->res = c->call(c);
    c->ended_at = scene_now();
    return NULL;
}

static void begin(struct caller *c)
{
    if (pthread_create(&c->thread, NULL, caller_main, c)) abort();
    while (!atomic_load(&c->begun)) scene_sleep_ms(0.1);
}

static void end(struct caller *c) { pthread_join(c->thread, NULL); }

static int *buffer(void)
{
    void *p = mmap(NULL, COUNT * sizeof(int), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) abort();
    return p;
}

static void drop_buffer(int *p)
{
    if (p) munmap(p, COUNT * sizeof(int));
}

static struct caller *new_caller(medleyComm_t comm, int rank, int n, medleyResult_t (*call)(struct caller *c))
{
    struct caller *c = calloc(1, sizeof(*c));

    if (!c) abort();
    *c = (struct caller){.comm = comm, .rank = rank, .n = n, .call = call, .in = buffer(), .out = buffer()};
    return c;
}

static void free_caller(struct caller *c)
{
    drop_buffer(c->in);
    drop_buffer(c->out);
    free(c);
}

/* ---- calls ---- */

static medleyResult_t allreduce(struct caller *c)
{
    return medleyAllReduce(c->in, c->out, COUNT, medleyInt32, medleySum, c->comm, NULL);
}

static medleyResult_t small(struct caller *c)
{
    return medleyAllReduce(c->in, c->out, 1, medleyInt32, medleySum, c->comm, NULL);
}

static medleyResult_t receive(struct caller *c)
{
    return medleyRecv(c->out, COUNT, medleyInt32, (c->rank + 1) % c->n, c->comm, NULL);
}

static medleyResult_t send_much(struct caller *c)
{
    medleyResult_t res = medleySuccess;

    while (res == medleySuccess) res = medleySend(c->in, COUNT, medleyInt32, (c->rank + 1) % c->n, c->comm, NULL);
    return res;
}

static medleyResult_t barrier(struct caller *c) { return medleyBarrier(c->comm, NULL); }

static medleyResult_t grouped(struct caller *c)
{
    medleyResult_t res = medleyGroupStart(), last;

    for (int i = 0; i < 5 && res == medleySuccess; i++)
        res = medleyRecv(c->out + 100 * i, 100, medleyInt32, (c->rank + 1) % c->n, c->comm, NULL);
    if (res == medleySuccess) res = medleyAllReduce(c->in, c->out + 1000, 10, medleyInt32, medleySum, c->comm, NULL);
    last = medleyGroupEnd();
    return res == medleySuccess ? last : res;
}

static medleyResult_t split(struct caller *c)
{
    medleyComm_t half;

    return medleyCommSplit(c->comm, 0, c->rank, &half, NULL);
}

/* The third rank does not come: the new communicator is never made. */
static medleyResult_t shrink(struct caller *c)
{
    int without = (c->rank + 1) % c->n;
    medleyComm_t rest;

    return medleyCommShrink(c->comm, &without, 1, &rest, NULL, MEDLEY_SHRINK_DEFAULT);
}

static medleyResult_t queued(struct caller *c)
{
    medleyResult_t res = medleySuccess;

    for (int i = 0; i < 3 && res == medleySuccess; i++)
        res = medleyAllReduce(c->in, c->out, COUNT, medleyInt32, medleySum, c->comm, c->stream);
    if (res == medleySuccess) res = medleyStreamSynchronize(c->stream);
    return res;
}

static medleyResult_t queued_and_destroyed(struct caller *c)
{
    medleyResult_t res = medleyAllReduce(c->in, c->out, COUNT, medleyInt32, medleySum, c->comm, c->stream);

    return res == medleySuccess ? medleyCommDestroy(c->comm) : res;
}

static medleyResult_t queued_and_finalized(struct caller *c)
{
    medleyResult_t res = medleyAllReduce(c->in, c->out, COUNT, medleyInt32, medleySum, c->comm, c->stream);

    return res == medleySuccess ? medleyCommFinalize(c->comm) : res;
}

/* ---- one call that waits for ever, and an abort ---- */

/* What the other ranks see: an error that names who aborted. */
static int peers_learn(medleyComm_t *comms, int n, int aborted)
{
    for (int rank = 0; rank < n; rank++) {
        medleyComm_t comm = comms[rank];
        medleyResult_t async = medleySuccess;
        double until = scene_now() + 1 * scene_slack();
        char name[32];

        if (rank == aborted) continue;
        while (async == medleySuccess && scene_now() < until) OK(medleyCommGetAsyncError(comm, &async));
        CHECK(async == medleyRemoteError);
        snprintf(name, sizeof(name), "rank %d", aborted);
        CHECK(strstr(medleyGetLastError(comm), name) != NULL);
        if (rank % 2)
            OK(medleyCommAbort(comm));
        else
            OK(medleyCommDestroy(comm));
    }
    return 0;
}

struct wait_plot {
    medleyResult_t (*call)(struct caller *c);
    bool stream;
};

static int waiting_scene(const struct scene *s, unsigned seed)
{
    const struct wait_plot *plot = s->arg;
    unsigned random = seed * 2654435761u;
    int n = plot->call == shrink ? 3 : 2 + (int)(seed % 2), rank = (int)(scene_random(&random) % (unsigned)n);
    medleyComm_t comms[MAX_RANKS], comm = NULL;
    struct caller *c;
    double start;
    medleyResult_t res;

    OK(medleyCommInitAll(comms, n, NULL));
    c = new_caller(comms[rank], rank, n, plot->call);
    if (plot->stream) OK(medleyStreamCreate(&c->stream));
    begin(c);
    scene_sleep_ms((double)(scene_random(&random) % 100) / 10);
    start = scene_now();
    res = medleyCommAbort(comms[rank]);
    CHECK(scene_now() - start < 0.5 * scene_slack());
    drop_buffer(c->in); /* nobody may touch them any more */
    drop_buffer(c->out);
    c->in = c->out = NULL;
    end(c);
    CHECK(c->ended_at - start < 0.5 * scene_slack());
    if (plot->call == queued_and_destroyed) {
        CHECK(c->res == medleySuccess || c->res == medleyInvalidUsage); /* one of the two has freed it */
        CHECK((res == medleySuccess) != (c->res == medleySuccess));
    } else {
        OK(res);
        CHECK(c->res == medleyRemoteError || c->res == medleyInvalidUsage);
    }
    if (peers_learn(comms, n, rank)) return 1;
    if (plot->stream) OK(medleyStreamDestroy(c->stream));
    free_caller(c);
    return 0;
}

/* ---- abort of a communicator that is being made ---- */

static int init_scene(const struct scene *s, unsigned seed)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    unsigned random = seed * 2654435761u;
    medleyUniqueId id;
    medleyComm_t comm = NULL;
    medleyResult_t async;
    int rank = 0;
    double start;

    config.blocking = 0;
    OK(medleyGetUniqueId(&id));
    CHECK(medleyCommInitRankConfig(&comm, 2, id, 0, &config) == medleyInProgress);
    scene_sleep_ms((double)(scene_random(&random) % 300) / 10);
    OK(medleyCommGetAsyncError(comm, &async));
    CHECK(async == medleyInProgress);
    start = scene_now();
    if (seed % 2)
        OK(medleyCommAbort(comm));
    else
        OK(medleyCommDestroy(comm));
    comm = NULL;
    CHECK(scene_now() - start < 0.5 * scene_slack());
    return 0;
}

/* ---- aborts that race everything ---- */

struct crowd {
    int n;
    medleyComm_t comms[MAX_RANKS];
    atomic_bool stop;
};

static medleyResult_t work(struct caller *c)
{
    medleyResult_t res = medleySuccess;

    for (unsigned i = 0; res == medleySuccess; i++) {
        res = i % 3 ? small(c) : allreduce(c);
        if (res == medleySuccess && i % 5 == 0) {
            res = medleyGroupStart();
            if (res == medleySuccess) {
                (void)medleySend(c->in, 500, medleyInt32, (c->rank + 1) % c->n, c->comm, NULL);
                (void)medleyRecv(c->out, 500, medleyInt32, (c->rank + c->n - 1) % c->n, c->comm, NULL);
                res = medleyGroupEnd();
            }
        }
    }
    return res;
}

static medleyResult_t watch(struct caller *c)
{
    medleyResult_t async;
    medleyPeerStats_t peers[MAX_RANKS];

    while (!atomic_load(c->stop)) {
        medleyCommStats_t stats = {.size = sizeof(stats), .npeers = MAX_RANKS, .peers = peers};
        if (medleyCommGetAsyncError(c->comm, &async) != medleySuccess) break;
        (void)medleyCommGetStats(c->comm, &stats);
        (void)medleyGetLastError(c->comm);
    }
    return medleySuccess;
}

static medleyResult_t kill_it(struct caller *c) { return medleyCommAbort(c->comm); }

static int race_scene(const struct scene *s, unsigned seed)
{
    int killers = *(const int *)s->arg, n = 3, rank, won = 0;
    unsigned random = seed * 2654435761u;
    medleyComm_t comms[MAX_RANKS], comm = NULL;
    struct caller *workers[MAX_RANKS], *watcher, *killer[4];
    atomic_bool stop = false;

    rank = (int)(scene_random(&random) % (unsigned)n);
    OK(medleyCommInitAll(comms, n, NULL));
    for (int r = 0; r < n; r++) begin(workers[r] = new_caller(comms[r], r, n, work));
    watcher = new_caller(comms[rank], rank, n, watch);
    watcher->stop = &stop;
    begin(watcher);
    scene_sleep_ms((double)(scene_random(&random) % 300) / 100);
    for (int k = 0; k < killers; k++) begin(killer[k] = new_caller(comms[rank], rank, n, kill_it));
    for (int k = 0; k < killers; k++) {
        end(killer[k]);
        won += killer[k]->res == medleySuccess;
        CHECK(killer[k]->res == medleySuccess || killer[k]->res == medleyInvalidUsage);
        free_caller(killer[k]);
    }
    CHECK(won == 1);
    atomic_store(&stop, true);
    end(watcher);
    free_caller(watcher);
    for (int r = 0; r < n; r++) {
        end(workers[r]);
        CHECK(workers[r]->res == medleyRemoteError || (r == rank && workers[r]->res == medleyInvalidUsage));
        free_caller(workers[r]);
    }
    return peers_learn(comms, n, rank);
}

/* ---- revoke ---- */

static medleyResult_t heal(struct caller *c)
{
    medleyComm_t rest = NULL;
    int last = c->n - 1, one = 1, sum = 0;
    medleyResult_t res = medleyCommShrink(c->comm, &last, 1, &rest, NULL, MEDLEY_SHRINK_ABORT);

    if (res == medleySuccess) res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, rest, NULL);
    if (res == medleySuccess && sum != last) res = medleyInternalError;
    return res == medleySuccess ? medleyCommDestroy(rest) : res;
}

static int revoke_scene(const struct scene *s, unsigned seed)
{
    int n = 3, rank = (int)(seed % 3);
    medleyComm_t comms[MAX_RANKS], comm = NULL;
    struct caller *c[MAX_RANKS];

    OK(medleyCommInitAll(comms, n, NULL));
    for (int r = 0; r < n; r++) begin(c[r] = new_caller(comms[r], r, n, work));
    scene_sleep_ms(1);
    comm = comms[rank];
    OK(medleyCommRevoke(comm, 0));
    for (int r = 0; r < n; r++) {
        comm = comms[r];
        end(c[r]);
        CHECK(c[r]->res == medleyInvalidUsage);
        CHECK(strstr(medleyGetLastError(comm), "revoked") != NULL);
        CHECK(small(c[r]) == medleyInvalidUsage);
        free_caller(c[r]);
    }
    for (int r = 0; r < n - 1; r++) begin(c[r] = new_caller(comms[r], r, n, heal));
    for (int r = 0; r < n - 1; r++) {
        end(c[r]);
        OK(c[r]->res);
        free_caller(c[r]);
    }
    for (int r = 0; r < n; r++) OK(medleyCommDestroy(comms[r]));
    return 0;
}

/* ---- destroyed too early ---- */

static int early_scene(const struct scene *s, unsigned seed)
{
    const struct wait_plot *plot = s->arg;
    int rank = 0, n = 3;
    medleyComm_t comms[MAX_RANKS], comm = NULL;
    struct caller *c;
    double start = scene_now();

    OK(medleyCommInitAll(comms, n, NULL));
    comm = comms[0];
    c = new_caller(comm, 0, n, plot->call);
    if (seed % 2) OK(medleyCommDestroy(comms[1])); /* before the call, or in the midst of it */
    begin(c);
    if (seed % 2 == 0) OK(medleyCommDestroy(comms[1]));
    end(c);
    CHECK(c->ended_at - start < 5 * scene_slack());
    CHECK(c->res == medleyInvalidUsage || c->res == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(comm), "rank 1 (host ") != NULL);
    CHECK(strstr(medleyGetLastError(comm), "destroyed") != NULL);
    free_caller(c);
    OK(medleyCommDestroy(comms[0]));
    OK(medleyCommDestroy(comms[2]));
    return 0;
}

/* ---- groups ---- */

/* A group is open on this thread, with calls in it. */
static int open_group_scene(const struct scene *s, unsigned seed)
{
    medleyComm_t comms[2], comm = NULL, half;
    int rank = 0, in[10] = {0}, out[10];
    double start;

    OK(medleyCommInitAll(comms, 2, NULL));
    OK(medleyGroupStart());
    OK(medleyAllReduce(in, out, 10, medleyInt32, medleySum, comms[0], NULL));
    if (seed % 2) OK(medleyCommSplit(comms[0], 0, 0, &half, NULL));
    start = scene_now();
    OK(medleyCommAbort(comms[0]));
    CHECK(scene_now() - start < 0.5 * scene_slack());
    CHECK(medleyGroupEnd() == medleyInvalidUsage);
    return peers_learn(comms, 2, 0);
}

static medleyResult_t hold_group(struct caller *c)
{
    medleyResult_t res = medleyGroupStart();

    if (res == medleySuccess) res = small(c);
    atomic_store(&c->begun, 2);
    while (!atomic_load(c->stop)) scene_sleep_ms(0.1);
    return res == medleySuccess ? medleyGroupEnd() : res;
}

/* A group is open on another thread, which takes its time. */
static int held_group_scene(const struct scene *s, unsigned seed)
{
    medleyComm_t comms[2], again[2], comm = NULL;
    int rank = 0;
    double start;
    atomic_bool stop = false;
    struct caller *c;

    OK(medleyCommInitAll(comms, 2, NULL));
    c = new_caller(comms[0], 0, 2, hold_group);
    c->stop = &stop;
    begin(c);
    while (atomic_load(&c->begun) < 2) scene_sleep_ms(0.1);
    start = scene_now();
    OK(medleyCommAbort(comms[0]));
    CHECK(scene_now() - start < 0.5 * scene_slack());
    OK(medleyCommInitAll(again, 2, NULL)); /* may use the memory of the first: the group shall not run on it */
    atomic_store(&stop, true);
    end(c);
    CHECK(c->res == medleyInvalidUsage);
    OK(medleyCommDestroy(again[0]));
    OK(medleyCommDestroy(again[1]));
    free_caller(c);
    return peers_learn(comms, 2, 0);
}

int main(int argc, char **argv)
{
    static const struct wait_plot p_allreduce = {allreduce, false}, p_small = {small, false},
                                  p_receive = {receive, false}, p_send = {send_much, false},
                                  p_barrier = {barrier, false}, p_group = {grouped, false}, p_split = {split, false},
                                  p_shrink = {shrink, false}, p_queued = {queued, true},
                                  p_destroyed = {queued_and_destroyed, true},
                                  p_finalized = {queued_and_finalized, true};
    static const int one = 1, three = 3;
    static const struct scene scenes[] = {
        {"in_allreduce", waiting_scene, 4, &p_allreduce},
        {"in_small", waiting_scene, 4, &p_small},
        {"in_recv", waiting_scene, 4, &p_receive},
        {"in_send", waiting_scene, 4, &p_send},
        {"in_barrier", waiting_scene, 2, &p_barrier},
        {"in_group", waiting_scene, 4, &p_group},
        {"in_split", waiting_scene, 4, &p_split},
        {"in_shrink", waiting_scene, 4, &p_shrink},
        {"in_stream", waiting_scene, 6, &p_queued},
        {"in_destroy", waiting_scene, 4, &p_destroyed},
        {"in_finalize", waiting_scene, 4, &p_finalized},
        {"in_init", init_scene, 6, NULL},
        {"race", race_scene, 60, &one},
        {"race_of_three", race_scene, 40, &three},
        {"revoke", revoke_scene, 6, NULL},
        {"early_destroy", early_scene, 2, &p_allreduce},
        {"early_destroy_message", early_scene, 2, &p_receive},
        {"open_group", open_group_scene, 2, NULL},
        {"held_group", held_group_scene, 2, NULL},
    };

    alarm(WATCHDOG_S * (scene_long() ? 10 : 1)); /* nothing here may hang */
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
