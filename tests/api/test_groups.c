/* SPDX-License-Identifier: Apache-2.0 */
/* Groups, and the messages that need them. */
#include "config.h"

#include "tests/api/scenes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- nesting ---- */

static int nested(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int one = 1, sum = 0;

    OK(medleyGroupStart());
    OK(medleyGroupEnd()); /* empty */
    OK(medleyGroupStart());
    OK(medleyGroupStart());
    OK(medleyGroupStart());
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL));
    OK(medleyGroupEnd());
    OK(medleyGroupEnd());
    CHECK(sum == 0); /* only the outermost end starts anything */
    OK(medleyGroupEnd());
    CHECK(sum == w->nranks);
    FAILS(medleyGroupEnd(), medleyInvalidUsage, "medleyGroupStart");
    return api_works(rank, comm);
}

static int unsupported(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t grown = NULL;
    medleyUniqueId id;
    int one = 1, sum = 0;

    OK(medleyGetUniqueId(&id));
    FAILS(medleyCommGrow(comm, w->nranks + 1, &id, rank, &grown, NULL), medleyInvalidUsage, "not supported");
    FAILS(medleyGroupSimulateEnd(NULL), medleyInvalidUsage, "not supported");
    OK(medleyGroupStart());
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL));
    CHECK(medleyGroupSimulateEnd(NULL) == medleyInvalidUsage);
    OK(medleyGroupEnd()); /* the group is as it was */
    CHECK(sum == w->nranks);
    return api_works(rank, comm);
}

/* ---- several communicators ---- */

enum { COMMS = 3 };

static int open_comms(int rank, medleyComm_t comm, medleyComm_t *c)
{
    OK(medleyGroupStart());
    for (int i = 0; i < COMMS; i++) OK(medleyCommSplit(comm, 0, i == 1 ? -rank : rank, &c[i], NULL));
    for (int i = 0; i < COMMS; i++) CHECK(c[i] == NULL);
    OK(medleyGroupEnd());
    for (int i = 0; i < COMMS; i++) CHECK(c[i] != NULL);
    return 0;
}

static int close_comms(int rank, medleyComm_t comm, medleyComm_t *c)
{
    for (int i = 0; i < COMMS; i++) OK(medleyCommDestroy(c[i]));
    return 0;
}

/* Collectives and messages of several communicators in one group, which each rank issues in another order. */
static int mixed(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { COUNT = 20000 };
    medleyComm_t c[COMMS];
    int n = w->nranks, me[COMMS];
    int *out = malloc(COUNT * sizeof(int)), *sum = calloc(COMMS * COUNT, sizeof(int)),
        *in = calloc(COMMS * COUNT, sizeof(int)), *all = calloc(COMMS * (size_t)n, sizeof(int));

    CHECK(open_comms(rank, comm, c) == 0);
    for (int i = 0; i < COUNT; i++) out[i] = rank + i;
    OK(medleyGroupStart());
    for (int k = 0; k < COMMS; k++) {
        int i = (k + rank) % COMMS;
        OK(medleyCommUserRank(c[i], &me[i]));
        OK(medleyRecv(in + i * COUNT, COUNT, medleyInt32, (me[i] + n - 1) % n, c[i], NULL));
        OK(medleyAllReduce(out, sum + i * COUNT, COUNT, medleyInt32, medleySum, c[i], NULL));
        OK(medleySend(out, COUNT, medleyInt32, (me[i] + 1) % n, c[i], NULL));
        OK(medleyAllGather(&rank, all + i * n, 1, medleyInt32, c[i], NULL));
    }
    OK(medleyGroupEnd());
    for (int i = 0; i < COMMS; i++) {
        int before = i == 1 ? (rank + 1) % n : (rank + n - 1) % n; /* the second one is reversed */
        for (int e = 0; e < COUNT; e++) CHECK(sum[i * COUNT + e] == n * (n - 1) / 2 + n * e);
        for (int e = 0; e < COUNT; e++) CHECK(in[i * COUNT + e] == before + e);
        for (int r = 0; r < n; r++) CHECK(all[i * n + r] == (i == 1 ? n - 1 - r : r));
    }
    CHECK(close_comms(rank, comm, c) == 0);
    free(out);
    free(sum);
    free(in);
    free(all);
    return 0;
}

/* Streams and NULL streams in one group: what has no stream is done at the end, the rest when its stream says so. */
static int mixed_streams(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c[COMMS];
    void *s[2];
    int n = w->nranks, one = 1, sum[4] = {0}, in = -1;

    CHECK(open_comms(rank, comm, c) == 0);
    for (int i = 0; i < 2; i++) OK(medleyStreamCreate(&s[i]));
    OK(medleyGroupStart());
    OK(medleyAllReduce(&one, &sum[0], 1, medleyInt32, medleySum, c[0], s[0]));
    OK(medleyAllReduce(&one, &sum[1], 1, medleyInt32, medleySum, c[1], NULL));
    OK(medleyAllReduce(&one, &sum[2], 1, medleyInt32, medleySum, c[2], s[1]));
    OK(medleyAllReduce(&one, &sum[3], 1, medleyInt32, medleySum, c[2], NULL)); /* both in one communicator */
    OK(medleySend(&rank, 1, medleyInt32, (rank + 1) % n, c[0], s[1]));
    OK(medleyRecv(&in, 1, medleyInt32, (rank + n - 1) % n, c[0], s[1]));
    OK(medleyGroupEnd());
    CHECK(sum[1] == n && sum[3] == n);
    for (int i = 0; i < 2; i++) OK(medleyStreamSynchronize(s[i]));
    CHECK(sum[0] == n && sum[2] == n && in == (rank + n - 1) % n);
    for (int i = 0; i < 2; i++) OK(medleyStreamDestroy(s[i]));
    return close_comms(rank, comm, c);
}

static int init_several(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c[4] = {NULL};
    medleyUniqueId id[4];

    for (int i = 0; i < 4; i++) OK(api_share_id(w, rank, i, &id[i]));
    OK(medleyGroupStart());
    for (int k = 0; k < 4; k++) { /* every rank in another order */
        int i = (k + rank) % 4;
        OK(medleyCommInitRank(&c[i], w->nranks, id[i], rank));
    }
    OK(medleyGroupEnd());
    for (int i = 0; i < 4; i++) {
        CHECK(api_works(rank, c[i]) == 0);
        OK(medleyCommDestroy(c[i]));
    }
    return 0;
}

/* One of a group's communicators cannot be made: its variable is NULL, the others work or are NULL too. */
static int init_one_fails(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t c[2] = {NULL, NULL};
    medleyUniqueId id[2];

    for (int i = 0; i < 2; i++) OK(api_share_id(w, rank, i, &id[i]));
    config.init_timeout_ms = (int)(400 * scene_slack());
    OK(medleyGroupStart());
    OK(medleyCommInitRankConfig(&c[0], w->nranks, id[0], rank, &config));
    OK(medleyCommInitRankConfig(&c[1], w->nranks + 1, id[1], rank, &config)); /* the last one never comes */
    CHECK(medleyGroupEnd() == medleyTimeout);
    CHECK(api_says(NULL, "missing"));
    CHECK(c[1] == NULL);
    if (c[0]) {
        CHECK(api_works(rank, c[0]) == 0);
        OK(medleyCommDestroy(c[0]));
    }
    ranks_meet(w, 1); /* the ids live in this process */
    return 0;
}

/* ---- messages ---- */

/* Everybody to everybody, itself included, counts that differ per pair, posted in another order on each rank. */
static int all_to_all(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int n = w->nranks, most = 40 * n * n, *out = malloc(sizeof(int) * (size_t)most),
        *in = calloc((size_t)(n * most), sizeof(int));

    for (int i = 0; i < most; i++) out[i] = rank * 100000 + i;
    OK(medleyGroupStart());
    for (int k = 0; k < n; k++) {
        int to = (rank + k) % n, from = (rank + n - k) % n;
        OK(medleySend(out, (size_t)(40 * (rank * n + to)), medleyInt32, to, comm, NULL));
        OK(medleyRecv(in + from * most, (size_t)(40 * (from * n + rank)), medleyInt32, from, comm, NULL));
    }
    OK(medleyGroupEnd());
    for (int p = 0; p < n; p++) {
        int count = 40 * (p * n + rank);
        for (int i = 0; i < count; i++) CHECK(in[p * most + i] == p * 100000 + i);
        if (count < most) CHECK(in[p * most + count] == 0);
    }
    free(out);
    free(in);
    return 0;
}

/* Hundreds of messages of one pair match in order, small and large ones by turns, in one group. */
static int many(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { MESSAGES = 400, LONG = 6000 };
    int n = w->nranks, to = (rank + 1) % n, from = (rank + n - 1) % n;
    int *out = malloc(sizeof(int) * MESSAGES * LONG), *in = calloc(MESSAGES * LONG, sizeof(int));

    for (int i = 0; i < MESSAGES * LONG; i++) out[i] = rank * 7 + i;
    OK(medleyGroupStart());
    for (int m = 0; m < MESSAGES; m++)
        OK(medleySend(out + m * LONG, m % 9 ? (size_t)m % 5 : LONG, medleyInt32, to, comm, NULL));
    for (int m = 0; m < MESSAGES; m++)
        OK(medleyRecv(in + m * LONG, m % 9 ? (size_t)m % 5 : LONG, medleyInt32, from, comm, NULL));
    OK(medleyGroupEnd());
    for (int m = 0; m < MESSAGES; m++) {
        int count = m % 9 ? m % 5 : LONG;
        for (int i = 0; i < count; i++) CHECK(in[m * LONG + i] == from * 7 + m * LONG + i);
        for (int i = count; i < LONG; i++) CHECK(in[m * LONG + i] == 0);
    }
    free(out);
    free(in);
    return 0;
}

/* Without a group: one side sends all that the other receives one by one. Zero-count messages match each other. */
static int plain(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { MESSAGES = 60, LONG = 50000 };
    static const size_t sizes[] = {1, 0, 3000, LONG, 0, 17};
    int *buf = malloc(sizeof(int) * LONG);

    (void)w;
    for (int m = 0; m < MESSAGES && rank < 2; m++) {
        size_t count = sizes[m % 6];
        for (size_t i = 0; i < count; i++) buf[i] = rank == 0 ? m + (int)i : -1;
        if (rank == 0) OK(medleySend(count ? buf : NULL, count, medleyInt32, 1, comm, NULL));
        if (rank == 1) OK(medleyRecv(count ? buf : NULL, count, medleyInt32, 0, comm, NULL));
        for (size_t i = 0; i < count; i++) CHECK(buf[i] == m + (int)i);
    }
    free(buf);
    return api_works(rank, comm);
}

/* Inside a group the order of sends against receives does not matter, nor that of different pairs. */
static int crossed(struct ranks_world *w, int rank, medleyComm_t comm)
{
    enum { LONG = 200000 };
    int n = w->nranks, *out = malloc(sizeof(int) * LONG), *in = calloc((size_t)n * LONG, sizeof(int));

    for (int i = 0; i < LONG; i++) out[i] = rank + i;
    OK(medleyGroupStart());
    for (int k = 0; k < 2 * n; k++) {
        int p = rank % 2 ? k / 2 : n - 1 - k / 2;
        if ((k + rank) % 2)
            OK(medleySend(out, LONG, medleyInt32, p, comm, NULL));
        else
            OK(medleyRecv(in + p * LONG, LONG, medleyInt32, p, comm, NULL));
    }
    OK(medleyGroupEnd());
    for (int p = 0; p < n; p++) {
        for (int i = 0; i < LONG; i++) CHECK(in[p * LONG + i] == p + i);
    }
    free(out);
    free(in);
    return 0;
}

/* A send to oneself outside a group has to wait for a receive that cannot come: it may not hang for ever. */
static int send_to_self_alone(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t c;
    medleyResult_t res;
    static _Thread_local int a[100000];

    (void)w;
    config.timeout_ms = (int)(300 * scene_slack());
    OK(medleyCommSplit(comm, rank, 0, &c, &config));
    res = medleySend(a, 100000, medleyInt32, 0, c, NULL);
    CHECK(res != medleySuccess && res != medleyInProgress);
    CHECK(api_says(c, "Send"));
    OK(medleyCommAbort(c));
    return api_works(rank, comm);
}

/* ---- errors ---- */

/* An invalid argument is returned at once and again by the end; nothing of the group runs, and all stays usable. */
static int invalid_argument(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int one = 1, sum = 0, got = 0;
    medleyResult_t state;

    for (int round = 0; round < 3; round++) {
        OK(medleyGroupStart());
        if (round) OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL));
        if (round == 2) OK(medleyGroupStart());
        CHECK(medleyRecv(&got, 1, medleyInt32, w->nranks, comm, NULL) == medleyInvalidArgument);
        if (round == 2) OK(medleyGroupEnd());
        OK(medleySend(&one, 1, medleyInt32, 0, comm, NULL));
        CHECK(medleyAllReduce(NULL, &sum, 1, medleyInt32, medleySum, comm, NULL) == medleyInvalidArgument);
        CHECK(medleyGroupEnd() == medleyInvalidArgument);
        CHECK(sum == 0 && got == 0);
        OK(medleyCommGetAsyncError(comm, &state));
        CHECK(state == medleySuccess);
    }
    OK(medleyGroupStart()); /* the error is not kept for the next one */
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL));
    OK(medleyGroupEnd());
    CHECK(sum == w->nranks);
    return 0;
}

/* Each of these calls is one of the group's: its invalid argument is the end's result too. */
static int which_calls(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c;
    medleyWindow_t win;
    medleyUniqueId id = {{0}};
    int x = 0;

    (void)w;
    for (int call = 0; call < 7; call++) {
        medleyResult_t res = medleySuccess;
        OK(medleyGroupStart());
        if (call == 0) res = medleyBarrier(comm, &x);
        if (call == 1) res = medleySend(&x, 1, medleyInt32, -1, comm, NULL);
        if (call == 2) res = medleyCommSplit(comm, -7, 0, &c, NULL);
        if (call == 3) res = medleyCommShrink(comm, &rank, 1, &c, NULL, 0);
        if (call == 4) res = medleyCommInitRank(&c, 1, id, 0);
        if (call == 5) res = medleyCommWindowRegister(comm, &x, sizeof(x), &win, 8);
        if (call == 6) res = medleyCommWindowRegister(comm, NULL, sizeof(x), &win, 0);
        CHECK(res == medleyInvalidArgument);
        CHECK(medleyGroupEnd() == medleyInvalidArgument);
    }
    return api_works(rank, comm);
}

/* A fault inside a group is the end's result, and the state of that communicator alone. */
static int fault_in_group(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c[COMMS];
    medleyResult_t state;
    int one = 1, sum = 0, last = w->nranks - 1;

    CHECK(open_comms(rank, comm, c) == 0);
    ranks_meet(w, 1);
    if (rank == last) {
        OK(medleyCommAbort(c[1]));
        OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c[0], NULL));
    } else {
        OK(medleyGroupStart());
        OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c[0], NULL));
        state = medleyAllReduce(&one, &one, 1, medleyInt32, medleySum, c[1], NULL); /* it may know already */
        CHECK(state == medleySuccess || state == medleyRemoteError);
        if (state == medleyRemoteError) { /* then nothing of the group runs */
            CHECK(medleyGroupEnd() == medleyRemoteError);
            OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c[0], NULL));
        } else {
            CHECK(medleyGroupEnd() == medleyRemoteError);
        }
        CHECK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c[1], NULL) == medleyRemoteError);
        CHECK(api_says(c[1], "aborted"));
    }
    CHECK(sum == w->nranks);
    OK(medleyCommGetAsyncError(c[0], &state));
    CHECK(state == medleySuccess);
    CHECK(api_works(rank, c[2]) == 0);
    OK(medleyCommDestroy(c[0]));
    if (rank != last) OK(medleyCommDestroy(c[1]));
    OK(medleyCommDestroy(c[2]));
    return 0;
}

/* A communicator that is gone at the end of the group: an error, and the others of the group can be used. */
static int gone_at_end(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c[COMMS];
    int one = 1, sum = 0;

    CHECK(open_comms(rank, comm, c) == 0);
    OK(medleyGroupStart());
    OK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c[1], NULL));
    OK(medleyCommDestroy(c[1]));
    FAILS(medleyGroupEnd(), medleyInvalidUsage, "destroyed");
    CHECK(sum == 0);
    CHECK(api_works(rank, c[0]) == 0 && api_works(rank, c[2]) == 0);
    OK(medleyCommDestroy(c[0]));
    OK(medleyCommDestroy(c[2]));
    (void)w;
    return 0;
}

/* ---- a thread that ends inside a group ---- */

static void *leave_open(void *arg)
{
    medleyComm_t *c = arg, none;
    int one = 1, sum = 0;

    if (medleyGroupStart() != medleySuccess || medleyGroupStart() != medleySuccess) return arg;
    if (medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c[0], NULL) != medleySuccess) return arg;
    if (medleySend(&one, 1, medleyInt32, 0, c[0], NULL) != medleySuccess) return arg;
    if (medleyCommSplit(c[0], 0, 0, &none, NULL) != medleySuccess) return arg;
    return NULL;
}

/* What it had issued never runs and holds nothing: the communicator can be used and destroyed. */
static int left_open(struct ranks_world *w, int rank, medleyComm_t comm)
{
    pthread_t thread;
    void *failed;

    CHECK(pthread_create(&thread, NULL, leave_open, &comm) == 0);
    pthread_join(thread, &failed);
    CHECK(!failed);
    FAILS(medleyGroupEnd(), medleyInvalidUsage, "medleyGroupStart"); /* groups are a thread's own */
    (void)w;
    return api_works(rank, comm);
}

static const struct api_scene scenes[] = {
    {"nested", nested, 0, NULL},
    {"unsupported", unsupported, 0, NULL},
    {"mixed", mixed, 0, NULL},
    {"mixed_streams", mixed_streams, 0, NULL},
    {"init_several", init_several, BARE, NULL},
    {"init_one_fails", init_one_fails, BARE, NULL},
    {"all_to_all", all_to_all, 0, NULL},
    {"many", many, 0, NULL},
    {"plain", plain, 0, NULL},
    {"crossed", crossed, 0, NULL},
    {"send_to_self_alone", send_to_self_alone, 0, NULL},
    {"invalid_argument", invalid_argument, 0, NULL},
    {"which_calls", which_calls, 0, NULL},
    {"fault_in_group", fault_in_group, 0, NULL},
    {"gone_at_end", gone_at_end, 0, NULL},
    {"left_open", left_open, 0, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
