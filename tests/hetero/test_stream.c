/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What calls on a device's stream promise: test_stream [name...], or refused [why]. The devices come from
 * MDL_TEST_DEVICES, as in test_coll; every rank has one. MEDLEY_DEVICE_HOLD says in which way streams are held; where
 * they are not, calls stay in their callers, and what cannot be so then is left out.
 *
 * A stream is kept busy by a word that it waits for, so that the test decides when the stream comes to a call.
 */
#include "config.h"

#include "lib/dev/hold.h"
#include "lib/dev/hold_kernel.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"
#include "tests/coll/slack.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 5000, LARGE = 1500000, MANY = 40 };

struct place { /* a rank and what it works with */
    struct ranks_world *w;
    int rank, n;
    medleyComm_t comm;
    struct mdl_dev dev;
    struct mdl_hold hold;
    uint64_t *gate; /* a word that streams wait for */
    float *in, *out;
};

static medleyResult_t hold(const struct place *p, void *stream)
{
    __atomic_store_n(p->gate, 0, __ATOMIC_RELEASE);
    return mdl_hold_wait(&p->hold, stream, p->gate, 1);
}

static void release(const struct place *p) { __atomic_store_n(p->gate, 1, __ATOMIC_RELEASE); }
static bool can_hold(const struct place *p) { return mdl_hold_can(&p->hold); }

/* Calls in another thread, which may stay there. */
struct caller {
    const struct place *p;
    medleyComm_t *comm; /* [n] */
    mdl_dev_stream *stream;
    size_t count;
    int n;
    _Atomic int returned;
    _Atomic medleyResult_t result;
    pthread_t thread;
};

static void *call_all(void *arg)
{
    struct caller *c = arg;
    const struct place *p = c->p;

    c->result = p->dev.ops->enter(p->dev.ops, p->dev.ordinal);
    for (int i = 0; i < c->n && c->result == medleySuccess; i++) {
        c->result = medleyAllReduce(p->in, p->out + (size_t)i * c->count, c->count, medleyFloat, medleySum, c->comm[i],
                                    c->stream[i]);
        c->returned++;
    }
    return NULL;
}

/* ---- the tests ---- */

/* A call returns before its peers have made theirs, and before the stream has come to it. */
static int returns(struct place *p)
{
    if (!can_hold(p)) return SKIPPED;
    check_fill(p->in, COUNT, (float)p->rank + 1);
    if (p->rank == 0) OK(hold(p, home_stream()));
    if (p->rank == 0) OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    ranks_meet(p->w, 1);
    if (p->rank != 0) OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    ranks_meet(p->w, 2);
    release(p);
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* What is before the call in the stream is in its input, what is behind it sees its result. */
static int in_order(struct place *p)
{
    const struct mdl_device *d = p->dev.ops;
    float *copy = home_take(COUNT * sizeof(float)), *source = home_take(COUNT * sizeof(float));

    check_fill(p->in, COUNT, 100);
    check_fill(source, COUNT, (float)p->rank + 1);
    if (can_hold(p)) OK(hold(p, home_stream()));
    OK(d->copy(d, p->in, source, COUNT * sizeof(float), MDL_COPY_D2D, home_stream()));
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(d->copy(d, copy, p->out, COUNT * sizeof(float), MDL_COPY_D2D, home_stream()));
    ranks_meet(p->w, 1);
    if (can_hold(p)) release(p);
    OK(home_sync());
    CHECK(check_holds(copy, COUNT, check_sum_to(p->n)));
    home_free(copy);
    home_free(source);
    return 0;
}

/* Messages around a ring, long ones, in one group on one stream: each needs the others to proceed. */
static int ring(struct place *p)
{
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;

    for (int turn = 0; turn < 2; turn++) {
        check_fill(p->in, LARGE, (float)p->rank);
        OK(medleyGroupStart());
        if (turn) OK(medleySend(p->in, LARGE, medleyFloat, next, p->comm, home_stream()));
        OK(medleyRecv(p->out, LARGE, medleyFloat, before, p->comm, home_stream()));
        if (!turn) OK(medleySend(p->in, LARGE, medleyFloat, next, p->comm, home_stream()));
        OK(medleyGroupEnd());
        OK(home_sync());
        CHECK(check_holds(p->out, LARGE, (float)before));
    }
    return 0;
}

/* Everybody to everybody, and a collective with it. */
static int crowd(struct place *p)
{
    check_fill(p->in, (size_t)p->n * COUNT, (float)p->rank);
    OK(medleyGroupStart());
    for (int r = 0; r < p->n; r++) {
        OK(medleySend(p->in + r * COUNT, COUNT, medleyFloat, r, p->comm, home_stream()));
        OK(medleyRecv(p->out + r * COUNT, COUNT, medleyFloat, r, p->comm, home_stream()));
    }
    OK(medleyAllReduce(p->in, p->out + p->n * COUNT, COUNT, medleyFloat, medleyMax, p->comm, home_stream()));
    OK(medleyGroupEnd());
    OK(home_sync());
    for (int r = 0; r < p->n; r++) CHECK(check_holds(p->out + r * COUNT, COUNT, (float)r));
    CHECK(check_holds(p->out + p->n * COUNT, COUNT, (float)(p->n - 1)));
    return 0;
}

/* Where streams are not held a call returns when its results are on the stream, and not before. */
static int stays(struct place *p)
{
    mdl_dev_stream stream = home_stream();
    struct caller c = {.p = p, .comm = &p->comm, .stream = &stream, .count = COUNT, .n = 1};

    if (can_hold(p)) return SKIPPED;
    check_fill(p->in, COUNT, (float)p->rank + 1);
    if (p->rank == 0) CHECK(pthread_create(&c.thread, NULL, call_all, &c) == 0);
    if (p->rank == 0) slack_linger();
    CHECK(c.returned == 0);
    ranks_meet(p->w, 1);
    if (p->rank == 0)
        pthread_join(c.thread, NULL);
    else
        OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, stream));
    OK(c.result);
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

static medleyResult_t make_streams(const struct place *p, int count, medleyComm_t *comm, mdl_dev_stream *stream)
{
    medleyResult_t res = medleySuccess;

    for (int i = 0; i < count && res == medleySuccess; i++) {
        res = medleyCommSplit(p->comm, 0, p->rank, &comm[i], NULL);
        if (res == medleySuccess) res = p->dev.ops->stream_create(p->dev.ops, &stream[i]);
    }
    return res;
}

static medleyResult_t free_streams(const struct place *p, int count, medleyComm_t *comm, mdl_dev_stream *stream)
{
    medleyResult_t res = medleySuccess;

    for (int i = 0; i < count && res == medleySuccess; i++) {
        res = medleyCommDestroy(comm[i]);
        if (res == medleySuccess) res = p->dev.ops->stream_destroy(p->dev.ops, stream[i]);
    }
    return res;
}

/* Rank 0 comes first with one stream more than kernels may hold: so many calls return, and one stays until the others
 * have come. Then there is room again. */
static int places(struct place *p)
{
    static medleyComm_t comm[MDL_WAITERS_MOST + 1];
    static mdl_dev_stream stream[MDL_WAITERS_MOST + 1];
    struct caller c = {.p = p, .comm = comm, .stream = stream, .count = 100};
    int most = p->hold.waiter ? mdl_waiter_places(p->hold.waiter) : 0;

    if (p->rank == 0) p->w->words[40] = p->hold.way == MDL_HOLD_KERNEL ? most : -1;
    ranks_meet(p->w, 1);
    if (p->w->words[40] < 0) return SKIPPED;
    c.n = p->w->words[40] + 1;
    OK(make_streams(p, c.n, comm, stream));
    check_fill(p->in, COUNT, (float)p->rank + 1);
    for (int turn = 0; turn < 2; turn++) {
        c.returned = 0;
        if (p->rank == 0) CHECK(pthread_create(&c.thread, NULL, call_all, &c) == 0);
        while (p->rank == 0 && c.returned < most && c.result == medleySuccess) sched_yield();
        if (p->rank == 0) slack_linger();
        CHECK(p->rank != 0 || c.returned == most);
        ranks_meet(p->w, 2 + turn);
        if (p->rank != 0) (void)call_all(&c);
        if (p->rank == 0) pthread_join(c.thread, NULL);
        OK(c.result);
        for (int i = 0; i < c.n; i++) OK(p->dev.ops->stream_sync(p->dev.ops, stream[i]));
        CHECK(check_holds(p->out, (size_t)c.n * 100, check_sum_to(p->n)));
        ranks_meet(p->w, 4 + turn);
    }
    OK(free_streams(p, c.n, comm, stream));
    return 0;
}

/* Calls on `count` communicators and as many streams, all held at once; `crossed`: ranks issue in opposite orders. */
static int on_streams(struct place *p, int count, bool crossed)
{
    const struct mdl_device *d = p->dev.ops;
    static medleyComm_t comm[MANY];
    static mdl_dev_stream stream[MANY];

    if (crossed && !can_hold(p)) return SKIPPED;
    OK(make_streams(p, count, comm, stream));
    check_fill(p->in, COUNT, (float)p->rank + 1);
    ranks_meet(p->w, 1);
    for (int i = 0; i < count; i++) {
        int k = crossed && p->rank % 2 ? count - 1 - i : i;
        OK(medleyAllReduce(p->in, p->out + k * 100, 100, medleyFloat, medleySum, comm[k], stream[k]));
    }
    for (int i = 0; i < count; i++) OK(d->stream_sync(d, stream[i]));
    CHECK(check_holds(p->out, (size_t)count * 100, check_sum_to(p->n)));
    ranks_meet(p->w, 2);
    OK(free_streams(p, count, comm, stream));
    return 0;
}

/* More streams than a device has queues. They share queues then, so all ranks must keep one order, as with NCCL. */
static int many_streams(struct place *p) { return on_streams(p, MANY, false); }
static int crossed(struct place *p) { return on_streams(p, 2, true); }

/* Many calls are queued before the first can run. */
static int queued(struct place *p)
{
    check_fill(p->in, COUNT, 1);
    if (can_hold(p)) OK(hold(p, home_stream()));
    for (int i = 0; i < 50; i++)
        OK(medleyAllReduce(i ? p->out : p->in, p->out, COUNT, medleyFloat, i < 4 ? medleySum : medleyMax, p->comm,
                           home_stream()));
    if (can_hold(p)) release(p);
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, (float)(p->n * p->n * p->n * p->n)));
    return 0;
}

/* Destroy waits for what is outstanding. */
static int destroy(struct place *p)
{
    medleyComm_t comm;

    OK(medleyCommSplit(p->comm, 0, p->rank, &comm, NULL));
    check_fill(p->in, LARGE, (float)p->rank + 1);
    OK(medleyAllReduce(p->in, p->out, LARGE, medleyFloat, medleySum, comm, home_stream()));
    OK(medleyCommFinalize(comm));
    OK(medleyCommDestroy(comm));
    OK(home_sync());
    CHECK(check_holds(p->out, LARGE, check_sum_to(p->n)));
    return 0;
}

/* An abort lets the held stream go, or ends the call that stays, and the device can be used after. */
static int aborted(struct place *p)
{
    mdl_dev_stream stream = home_stream();
    medleyComm_t comm;
    struct caller c = {.p = p, .comm = &comm, .stream = &stream, .count = LARGE, .n = 1};

    OK(medleyCommSplit(p->comm, 0, p->rank, &comm, NULL));
    check_fill(p->in, LARGE, 3);
    if (p->rank != 1) CHECK(pthread_create(&c.thread, NULL, call_all, &c) == 0);
    if (p->rank != 1 && can_hold(p)) pthread_join(c.thread, NULL);
    OK(c.result);
    if (!can_hold(p)) slack_linger();
    ranks_meet(p->w, 1);
    OK(medleyCommAbort(comm));
    if (p->rank != 1 && !can_hold(p)) {
        pthread_join(c.thread, NULL);
        CHECK(c.result != medleySuccess);
    }
    OK(home_sync());
    ranks_meet(p->w, 2);
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* The vendor's default stream. */
static int null_stream(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, NULL));
    OK(p->dev.ops->stream_sync(p->dev.ops, NULL));
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* The device can be held in one way only, which is not the one that is asked for: it says why (arg), and works on. */
static int refused(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t comm;
    float *memory;

    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    CHECK(ranks_comm(w, rank, &config, &comm) == medleyInvalidUsage);
    CHECK(strstr(medleyGetLastError(NULL), "MEDLEY_DEVICE_HOLD=") != NULL);
    CHECK(strstr(medleyGetLastError(NULL), arg) != NULL);
    memory = home_take(COUNT * sizeof(float));
    check_fill(memory, COUNT, 5);
    CHECK(check_holds(memory, COUNT, 5));
    home_free(memory);
    home_leave();
    return 0;
}

/* A stream of Medley's own is not the device's. */
static int wrong_stream(struct place *p)
{
    void *stream;

    OK(medleyStreamCreate(&stream));
    CHECK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, stream) == medleyInvalidUsage);
    CHECK(strstr(medleyGetLastError(NULL), "medleyStreamCreate") != NULL);
    OK(medleyStreamDestroy(stream));
    return 0;
}

/* ---- running them ---- */

static const struct test {
    const char *name;
    int (*run)(struct place *p);
} tests[] = {
    {"returns", returns},
    {"in_order", in_order},
    {"ring", ring},
    {"crowd", crowd},
    {"stays", stays},
    {"places", places},
    {"many_streams", many_streams},
    {"crossed", crossed},
    {"queued", queued},
    {"destroy", destroy},
    {"aborted", aborted},
    {"null_stream", null_stream},
    {"wrong_stream", wrong_stream},
};

static int run_one(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    const struct test *t = arg;
    struct place p = {.w = w, .rank = rank, .n = w->nranks};
    struct mdl_config cfg;
    int res;

    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, config.device, &p.dev));
    OK(ranks_comm(w, rank, &config, &p.comm));
    OK(mdl_hold_open(&p.hold, &cfg, &p.dev));
    if (can_hold(&p)) OK(mdl_hold_alloc(&p.hold, 1, &p.gate));
    p.in = home_take(LARGE * sizeof(float));
    p.out = home_take(LARGE * sizeof(float));
    ranks_meet(w, 0);
    res = t->run(&p);
    if (res && res != SKIPPED) return res;
    ranks_meet(w, 15);
    OK(medleyCommDestroy(p.comm));
    if (p.gate) mdl_hold_free(&p.hold, 1, &p.gate);
    home_free(p.in);
    home_free(p.out);
    home_leave();
    return res;
}

static bool is_asked(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0) return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    int failed = 0, ran = 0, status[3];

    if (!getenv("MDL_TEST_DEVICES")) {
        printf("skipped: MDL_TEST_DEVICES names no devices\n");
        return SKIPPED;
    }
    if (argc > 1 && strcmp(argv[1], "refused") == 0)
        return ranks_run(2, false, refused, argc > 2 ? argv[2] : (char[]){""}, 60, NULL) != 0;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (!is_asked(tests[i].name, argc, argv)) continue;
        bool bad = ranks_run(3, false, run_one, (void *)(uintptr_t)&tests[i], 60, status) != 0;
        bool skip = bad && status[0] == SKIPPED && status[1] == SKIPPED && status[2] == SKIPPED;
        printf("%s: %s\n", tests[i].name, skip ? "skipped: streams are held in another way" : bad ? "FAILED" : "ok");
        failed += bad && !skip;
        ran += !skip;
    }
    return failed ? 1 : ran ? 0 : SKIPPED;
}
