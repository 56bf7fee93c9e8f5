/* SPDX-License-Identifier: Apache-2.0 */
/* Host streams and events. A gate is a stream's work that cannot end before this test lets it: an all-reduce on a
 * communicator of two, of which this rank plays both and issues the second half when the gate shall open. */
#include "config.h"

#include "tests/api/scenes.h"

#include <stdlib.h>
#include <string.h>

struct gate {
    medleyComm_t c[2];
    int one, sum[2];
};

static int gate_new(int rank, struct gate *g)
{
    medleyComm_t comm = NULL;

    g->one = 1;
    OK(medleyCommInitAll(g->c, 2, NULL));
    return 0;
}

static int gate_close(int rank, medleyComm_t comm, struct gate *g, void *stream)
{
    OK(medleyAllReduce(&g->one, &g->sum[0], 1, medleyInt32, medleySum, g->c[0], stream));
    return 0;
}

static int gate_open(int rank, medleyComm_t comm, struct gate *g)
{
    OK(medleyAllReduce(&g->one, &g->sum[1], 1, medleyInt32, medleySum, g->c[1], NULL));
    return 0;
}

static int gate_free(int rank, medleyComm_t comm, struct gate *g)
{
    for (int i = 0; i < 2; i++) OK(medleyCommDestroy(g->c[i]));
    return 0;
}

/* ---- arguments ---- */

static int arguments(struct ranks_world *w, int rank, medleyComm_t comm)
{
    void *s, *e;
    int x = 0;

    (void)w;
    FAILS(medleyStreamCreate(NULL), medleyInvalidArgument, "stream is NULL");
    FAILS(medleyEventCreate(NULL), medleyInvalidArgument, "event is NULL");
    OK(medleyStreamCreate(&s));
    OK(medleyEventCreate(&e));
    FAILS(medleyStreamSynchronize(NULL), medleyInvalidArgument, "stream");
    FAILS(medleyStreamSynchronize(&x), medleyInvalidArgument, "stream");
    FAILS(medleyStreamSynchronize(e), medleyInvalidArgument, "stream");
    FAILS(medleyStreamQuery(&x), medleyInvalidArgument, "stream");
    FAILS(medleyStreamDestroy(&x), medleyInvalidArgument, "stream");
    FAILS(medleyStreamWaitEvent(s, s), medleyInvalidArgument, "event");
    FAILS(medleyStreamWaitEvent(e, e), medleyInvalidArgument, "stream");
    FAILS(medleyEventRecord(e, &x), medleyInvalidArgument, "stream");
    FAILS(medleyEventRecord(NULL, s), medleyInvalidArgument, "event");
    FAILS(medleyEventQuery(s), medleyInvalidArgument, "event");
    FAILS(medleyEventSynchronize(&x, 0), medleyInvalidArgument, "event");
    FAILS(medleyEventDestroy(NULL), medleyInvalidArgument, "event");
    FAILS(medleyBarrier(comm, &x), medleyInvalidArgument, "stream");
    FAILS(medleyBarrier(comm, e), medleyInvalidArgument, "stream");
    OK(medleyStreamQuery(s)); /* nothing was queued */
    OK(medleyStreamSynchronize(s));
    OK(medleyEventQuery(e)); /* never recorded: has happened */
    OK(medleyEventSynchronize(e, 0));
    OK(medleyEventSynchronize(e, -1));
    OK(medleyStreamWaitEvent(s, e));
    OK(medleyEventRecord(e, s));
    OK(medleyEventSynchronize(e, -1)); /* at once: the stream is empty */
    OK(medleyStreamDestroy(s));
    OK(medleyEventDestroy(e));
    FAILS(medleyStreamDestroy(s), medleyInvalidArgument, "destroyed");
    FAILS(medleyEventDestroy(e), medleyInvalidArgument, "destroyed");
    FAILS(medleyBarrier(comm, s), medleyInvalidArgument, "stream");
    return api_works(rank, comm);
}

/* ---- order ---- */

/* On one stream and on two of one communicator operations run as issued; a NULL stream comes after all of them. */
static int order(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { COUNT = 5000, DEEP = 12 };
    int n = w->nranks, *v = malloc(sizeof(int) * COUNT);
    void *s[2];

    for (int i = 0; i < 2; i++) OK(medleyStreamCreate(&s[i]));
    for (int i = 0; i < COUNT; i++) v[i] = 1;
    for (int k = 0; k < DEEP; k++) { /* each multiplies by n and takes what the one before left */
        if (k % 3 == 2) {
            OK(medleyBroadcast(v, v, COUNT, medleyInt32, k % n, comm, s[k % 2]));
            continue;
        }
        OK(medleyAllReduce(v, v, COUNT, medleyInt32, medleySum, comm, s[k % 2]));
    }
    OK(medleyAllReduce(v, v, COUNT, medleyInt32, medleySum, comm, NULL));
    for (int i = 0; i < COUNT; i++) {
        int want = 1;
        for (int k = 0; k < DEEP; k++) want = (int)((unsigned)want * (k % 3 == 2 ? 1u : (unsigned)n));
        CHECK(v[i] == want * n);
    }
    for (int i = 0; i < 2; i++) {
        OK(medleyStreamQuery(s[i]));
        OK(medleyStreamDestroy(s[i]));
    }
    free(v);
    return 0;
}

/* Another communicator on the same stream comes after; on another stream it does not wait. */
static int behind_gate(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t other;
    struct gate g;
    int one = 1, sum[2] = {0, 0};
    void *s[2];

    for (int i = 0; i < 2; i++) OK(medleyStreamCreate(&s[i]));
    OK(medleyCommSplit(comm, 0, rank, &other, NULL));
    CHECK(gate_new(rank, &g) == 0);
    CHECK(gate_close(rank, comm, &g, s[0]) == 0);
    OK(medleyAllReduce(&one, &sum[0], 1, medleyInt32, medleySum, comm, s[0]));
    OK(medleyAllReduce(&one, &sum[1], 1, medleyInt32, medleySum, other, s[1]));
    OK(medleyStreamSynchronize(s[1]));
    CHECK(sum[1] == w->nranks);
    CHECK(medleyStreamQuery(s[0]) == medleyInProgress);
    CHECK(sum[0] == 0);
    CHECK(gate_open(rank, comm, &g) == 0);
    OK(medleyStreamSynchronize(s[0]));
    CHECK(sum[0] == w->nranks);
    OK(medleyStreamQuery(s[0]));
    CHECK(gate_free(rank, comm, &g) == 0);
    OK(medleyCommDestroy(other));
    for (int i = 0; i < 2; i++) OK(medleyStreamDestroy(s[i]));
    return 0;
}

/* Two communicators on two streams, issued in another order on each rank: they must not wait for each other. */
static int crossed(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { ROUNDS = 10, COUNT = 30000 };
    medleyComm_t c[2] = {comm, NULL};
    int *v = calloc(COUNT, sizeof(int)), *sum = calloc(2 * COUNT, sizeof(int));
    void *s[2];

    OK(medleyCommSplit(comm, 0, -rank, &c[1], NULL));
    for (int i = 0; i < 2; i++) OK(medleyStreamCreate(&s[i]));
    for (int k = 0; k < ROUNDS; k++) {
        for (int i = 0; i < COUNT; i++) v[i] = rank + i + k;
        for (int i = 0; i < 2; i++) {
            int x = (i + rank) % 2;
            OK(medleyAllReduce(v, sum + x * COUNT, COUNT, medleyInt32, medleySum, c[x], s[x]));
        }
        for (int i = 0; i < 2; i++) OK(medleyStreamSynchronize(s[(i + rank / 2) % 2]));
        for (int x = 0; x < 2; x++) {
            for (int i = 0; i < COUNT; i++)
                CHECK(sum[x * COUNT + i] == w->nranks * (i + k) + w->nranks * (w->nranks - 1) / 2);
        }
    }
    for (int i = 0; i < 2; i++) OK(medleyStreamDestroy(s[i]));
    OK(medleyCommDestroy(c[1]));
    free(v);
    free(sum);
    return 0;
}

/* ---- events ---- */

static int events(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct gate g;
    int one = 1, sum = 0, again = 0;
    double start;
    void *s[2], *e;

    for (int i = 0; i < 2; i++) OK(medleyStreamCreate(&s[i]));
    OK(medleyEventCreate(&e));
    CHECK(gate_new(rank, &g) == 0);
    CHECK(gate_close(rank, comm, &g, s[0]) == 0);
    OK(medleyEventRecord(e, s[0]));
    OK(medleyStreamWaitEvent(s[1], e));
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, s[1])); /* another communicator behind the event */
    CHECK(medleyEventQuery(e) == medleyInProgress);
    start = scene_now();
    FAILS(medleyEventSynchronize(e, 50), medleyTimeout, "50 ms");
    CHECK(scene_now() - start >= 0.05);
    CHECK(medleyEventSynchronize(e, 0) == medleyTimeout);
    CHECK(medleyStreamQuery(s[1]) == medleyInProgress && sum == 0);
    CHECK(gate_open(rank, comm, &g) == 0);
    OK(medleyEventSynchronize(e, -1));
    OK(medleyEventQuery(e));
    OK(medleyStreamSynchronize(s[1]));
    CHECK(sum == w->nranks);
    /* A wait means the event as it was recorded then, not as it is recorded later. */
    OK(medleyStreamWaitEvent(s[1], e));
    CHECK(gate_close(rank, comm, &g, s[0]) == 0);
    OK(medleyEventRecord(e, s[0]));
    OK(medleyAllReduce(&one, &again, 1, medleyInt32, medleySum, comm, s[1]));
    OK(medleyStreamSynchronize(s[1]));
    CHECK(again == w->nranks && medleyEventQuery(e) == medleyInProgress);
    /* Destroyed while a stream waits for it and while it is to be recorded. */
    OK(medleyStreamWaitEvent(s[1], e));
    OK(medleyAllReduce(&one, &again, 1, medleyInt32, medleyMax, comm, s[1]));
    OK(medleyEventDestroy(e));
    CHECK(medleyEventQuery(e) == medleyInvalidArgument);
    CHECK(gate_open(rank, comm, &g) == 0);
    OK(medleyStreamSynchronize(s[1]));
    CHECK(again == 1);
    OK(medleyStreamSynchronize(s[0]));
    CHECK(gate_free(rank, comm, &g) == 0);
    for (int i = 0; i < 2; i++) OK(medleyStreamDestroy(s[i]));
    return 0;
}

/* A chain through many streams, communicators and events. */
static int chain(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { LINKS = 8 };
    medleyComm_t c[2] = {comm, NULL};
    void *s[LINKS], *e[LINKS];
    int v = 1;

    OK(medleyCommSplit(comm, 0, rank, &c[1], NULL));
    for (int i = 0; i < LINKS; i++) {
        OK(medleyStreamCreate(&s[i]));
        OK(medleyEventCreate(&e[i]));
    }
    for (int i = 0; i < LINKS; i++) {
        if (i) OK(medleyStreamWaitEvent(s[i], e[i - 1]));
        OK(medleyAllReduce(&v, &v, 1, medleyInt32, medleySum, c[i % 2], s[i]));
        OK(medleyEventRecord(e[i], s[i]));
    }
    for (int i = 0; i < LINKS - 1; i++) OK(medleyStreamDestroy(s[i])); /* their work still runs */
    OK(medleyEventSynchronize(e[LINKS - 1], (int)(10000 * scene_slack())));
    for (int i = 0, want = 1; i < LINKS; i++) {
        want *= w->nranks;
        if (i == LINKS - 1) CHECK(v == want);
        OK(medleyEventDestroy(e[i]));
    }
    OK(medleyStreamDestroy(s[LINKS - 1]));
    OK(medleyCommDestroy(c[1]));
    return 0;
}

/* ---- the end with work outstanding ---- */

static int destroy_busy(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { COUNT = 100000 };
    int *v = malloc(COUNT * sizeof(int)), *sum = calloc(COUNT, sizeof(int));
    medleyComm_t c;
    void *s;

    for (int round = 0; round < 3; round++) {
        OK(medleyCommSplit(comm, 0, rank, &c, NULL));
        OK(medleyStreamCreate(&s));
        for (int i = 0; i < COUNT; i++) v[i] = i + round;
        OK(medleyAllReduce(v, sum, COUNT, medleyInt32, medleySum, c, s));
        OK(medleyAllReduce(sum, sum, COUNT, medleyInt32, medleyMax, c, s));
        if (round == 0) { /* the stream first: what is queued still runs */
            OK(medleyStreamDestroy(s));
            CHECK(medleyStreamQuery(s) == medleyInvalidArgument);
        }
        if (round == 1) {
            OK(medleyCommFinalize(c)); /* waits for it */
            for (int i = 0; i < COUNT; i++) CHECK(sum[i] == w->nranks * (i + round));
        }
        OK(medleyCommDestroy(c));
        for (int i = 0; i < COUNT; i++) CHECK(sum[i] == w->nranks * (i + round));
        if (round) OK(medleyStreamDestroy(s));
    }
    free(v);
    free(sum);
    return 0;
}

/* Work of a communicator that is aborted: the stream reports it once and can be used with another one. */
static int error_propagates(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int a[50000], b[50000];
    medleyComm_t c;
    void *s, *other, *e;
    medleyResult_t res;

    OK(medleyStreamCreate(&s));
    OK(medleyStreamCreate(&other));
    OK(medleyEventCreate(&e));
    OK(medleyCommSplit(comm, 0, rank, &c, NULL));
    ranks_meet(w, 1);
    if (rank == 0) { /* takes no part */
        scene_sleep_ms(30);
        OK(medleyCommAbort(c));
    } else {
        res = medleyAllReduce(a, b, 50000, medleyInt32, medleySum, c, s);
        if (res == medleySuccess) {
            res = medleyAllReduce(b, a, 50000, medleyInt32, medleySum, c, s);
            CHECK(res == medleySuccess || res == medleyRemoteError); /* it may know of the abort by now */
            OK(medleyEventRecord(e, s));
            CHECK(medleyStreamSynchronize(s) == medleyRemoteError);
            CHECK(medleyEventSynchronize(e, -1) == medleyRemoteError); /* nothing waits for ever behind what failed */
            CHECK(medleyEventQuery(e) == medleyRemoteError);
            OK(medleyStreamWaitEvent(other, e));
            CHECK(medleyStreamSynchronize(other) == medleyRemoteError); /* it has failed with what it waited for */
            OK(medleyEventRecord(e, s));
            OK(medleyEventSynchronize(e, -1)); /* recorded anew on a stream whose error was taken */
        }
        OK(medleyStreamSynchronize(s)); /* of the work since the last one */
        OK(medleyStreamQuery(s));
        CHECK(medleyAllReduce(a, b, 1, medleyInt32, medleySum, c, s) == medleyRemoteError);
        CHECK(api_says(c, "aborted"));
        OK(medleyCommDestroy(c));
    }
    a[0] = 1;
    OK(medleyAllReduce(a, b, 1, medleyInt32, medleySum, comm, s)); /* another communicator on the same stream */
    OK(medleyStreamSynchronize(s));
    OK(medleyStreamDestroy(s));
    OK(medleyStreamDestroy(other));
    OK(medleyEventDestroy(e));
    return 0;
}

/* An abort of the own communicator with work that cannot end. */
static int abort_busy(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct gate g;
    int one = 1, sum = 0;
    void *s[2];

    for (int i = 0; i < 2; i++) OK(medleyStreamCreate(&s[i]));
    CHECK(gate_new(rank, &g) == 0);
    CHECK(gate_close(rank, comm, &g, s[0]) == 0);
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, s[0])); /* behind it, of a healthy communicator */
    OK(medleyCommAbort(g.c[0]));
    CHECK(medleyStreamSynchronize(s[0]) == medleyRemoteError);
    CHECK(sum == w->nranks); /* an error does not stop the stream */
    OK(medleyCommAbort(g.c[1]));
    for (int i = 0; i < 2; i++) OK(medleyStreamDestroy(s[i]));
    return api_works(rank, comm);
}

/* ---- non-blocking communicators ---- */

static int non_blocking(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyResult_t res;
    medleyComm_t c;
    int v = 1, in = -1, n = w->nranks;
    void *s;

    config.blocking = 0;
    OK(medleyCommSplit(comm, 0, rank, &c, &config));
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    OK(medleyStreamCreate(&s));
    for (int k = 0; k < 5; k++) { /* NULL streams run in order too, and mix with streams */
        res = medleyAllReduce(&v, &v, 1, medleyInt32, medleySum, c, k % 2 ? s : NULL);
        CHECK(res == medleySuccess || res == medleyInProgress);
    }
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    CHECK(v == n * n * n * n * n);
    OK(medleyGroupStart());
    OK(medleySend(&rank, 1, medleyInt32, (rank + 1) % n, c, NULL));
    OK(medleyRecv(&in, 1, medleyInt32, (rank + n - 1) % n, c, NULL));
    res = medleyGroupEnd();
    CHECK(res == medleySuccess || res == medleyInProgress);
    res = medleyCommFinalize(c);
    CHECK(res == medleySuccess || res == medleyInProgress);
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    CHECK(in == (rank + n - 1) % n);
    OK(medleyStreamSynchronize(s));
    OK(medleyStreamDestroy(s));
    OK(medleyCommDestroy(c));
    return 0;
}

/* Streams come and go with nothing and with work in them. */
static int many_streams(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { STREAMS = 40 };
    void *s[STREAMS];
    int v[STREAMS];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < STREAMS; i++) {
            v[i] = i;
            OK(medleyStreamCreate(&s[i]));
            if (i % 3 == round) OK(medleyAllReduce(&v[i], &v[i], 1, medleyInt32, medleySum, comm, s[i]));
        }
        for (int i = 0; i < STREAMS; i++) {
            if (i % 2) OK(medleyStreamSynchronize(s[i]));
            OK(medleyStreamDestroy(s[i]));
        }
        OK(medleyBarrier(comm, NULL)); /* after all that was queued */
        for (int i = 0; i < STREAMS; i++) CHECK(v[i] == (i % 3 == round ? i * w->nranks : i));
    }
    return 0;
}

static const struct api_scene scenes[] = {
    {"arguments", arguments, 0, NULL},
    {"order", order, 0, NULL},
    {"behind_gate", behind_gate, 0, NULL},
    {"crossed", crossed, 0, NULL},
    {"events", events, 0, NULL},
    {"chain", chain, 0, NULL},
    {"destroy_busy", destroy_busy, 0, NULL},
    {"error_propagates", error_propagates, 0, NULL},
    {"abort_busy", abort_busy, 0, NULL},
    {"non_blocking", non_blocking, 0, NULL},
    {"many_streams", many_streams, 0, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
