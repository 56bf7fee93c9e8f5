/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which calls reach the streams (lib/engine/launch.h): test_order name... Three ranks; the devices come from
 * MDL_TEST_DEVICES, as in test_coll, and the environment says which way calls go.
 *
 * In most scenes rank 1 makes the calls one by one that the others have in a group, so whatever a group puts elsewhere
 * than where it was issued, or waits for too early, holds up everything. Results of one call are the next one's input.
 */
#include "config.h"

#include "lib/dev/dev.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"
#include "tests/coll/slack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    COUNT = 5000,
    SMALL = 100,
    LONG = 200000,
    DEEP = 150,
    MANY = 70,
    HOST_CALLS = 9,
    RANKS = 3,
    LATE_MS = 500,
    NO_ROOM = 53
};

struct place { /* a rank and what it works with */
    struct ranks_world *w;
    int rank, n;
    bool grouped;
    medleyComm_t comm, other;
    const struct mdl_device *d;
    mdl_dev_stream stream; /* a second one */
    medleyRedOp_t twice;   /* sum of doubles: it does not go direct, nor to a vendor (order.sh) */
    float *in, *a, *b, *out;
};

static const size_t counts[RANKS] = {COUNT, COUNT, COUNT}; /* of the V collectives, which do not go direct */

static medleyResult_t start(const struct place *p) { return p->grouped ? medleyGroupStart() : medleySuccess; }
static medleyResult_t end(const struct place *p) { return p->grouped ? medleyGroupEnd() : medleySuccess; }

static medleyResult_t reduce(const struct place *p, const float *in, float *out, medleyRedOp_t op)
{
    return medleyAllReduce(in, out, COUNT, medleyFloat, op, p->comm, home_stream());
}

static medleyResult_t sync_both(const struct place *p)
{
    medleyResult_t res = p->d->stream_sync(p->d, p->stream);

    return res == medleySuccess ? home_sync() : res;
}

/* ---- order ---- */

/* Calls that go different ways, each with the result of the one before it. */
static int chain(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    OK(reduce(p, p->in, p->a, p->twice));
    OK(reduce(p, p->a, p->b, medleySum));
    OK(medleyAllGatherV(p->b, COUNT, p->a, counts, NULL, medleyFloat, p->comm, home_stream()));
    OK(reduce(p, p->a + COUNT, p->b, medleyMax));
    OK(medleyAllGather(p->b, p->a, COUNT, medleyFloat, p->comm, home_stream()));
    OK(reduce(p, p->a + 2 * COUNT, p->out, p->twice));
    OK(end(p));
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, 2 * RANKS * RANKS * 2 * check_sum_to(p->n)));
    return 0;
}

/* Two communicators take turns on one stream. */
static int one_stream(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    OK(reduce(p, p->in, p->a, medleySum));
    OK(medleyAllReduce(p->a, p->b, COUNT, medleyFloat, medleySum, p->other, home_stream()));
    OK(reduce(p, p->b, p->a, p->twice));
    OK(medleyAllReduce(p->a, p->out, COUNT, medleyFloat, medleyMax, p->other, home_stream()));
    OK(end(p));
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, RANKS * 2 * RANKS * check_sum_to(p->n)));
    return 0;
}

/* One communicator on two streams, which have nothing to do with each other but by it. */
static int two_streams(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    for (int i = 0; i < 6; i++)
        OK(medleyAllReduce(p->in, i & 1 ? p->a : p->b, COUNT, medleyFloat, i % 3 ? medleySum : p->twice, p->comm,
                           i & 1 ? p->stream : home_stream()));
    OK(end(p));
    OK(sync_both(p));
    CHECK(check_holds(p->a, COUNT, check_sum_to(p->n)));
    CHECK(check_holds(p->b, COUNT, check_sum_to(p->n)));
    return 0;
}

/* Two communicators on two streams; rank 1 issues them the other way round, several of each. */
static int crossed(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    check_fill(p->a, COUNT, 1);
    OK(start(p));
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 3; i++) {
            if (k == (p->rank == 1))
                OK(reduce(p, p->in, p->out, i == 1 ? p->twice : medleyMax));
            else
                OK(medleyAllReduce(p->a, p->b, COUNT, medleyFloat, medleyMax, p->other, p->stream));
        }
    }
    OK(end(p));
    OK(sync_both(p));
    CHECK(check_holds(p->out, COUNT, RANKS));
    CHECK(check_holds(p->b, COUNT, 1));
    return 0;
}

/* Messages around the ring, one to itself, and collectives: those come behind. */
static int messages(struct place *p)
{
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;
    void *s = home_stream();

    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(medleyGroupStart());
    OK(reduce(p, p->a, p->b, p->twice));
    OK(medleySend(p->in, COUNT, medleyFloat, p->rank, p->comm, s));
    OK(medleyRecv(p->a, COUNT, medleyFloat, before, p->comm, s));
    OK(reduce(p, p->b, p->out, medleySum));
    OK(medleySend(p->in, COUNT, medleyFloat, next, p->comm, s));
    OK(medleyRecv(p->a + COUNT, COUNT, medleyFloat, p->rank, p->comm, s));
    OK(medleyAllReduce(p->a + COUNT, p->a + 2 * COUNT, COUNT, medleyFloat, medleySum, p->other, s));
    OK(medleyGroupEnd());
    OK(home_sync());
    CHECK(check_holds(p->a, COUNT, (float)before + 1));
    CHECK(check_holds(p->a + COUNT, COUNT, (float)p->rank + 1));
    CHECK(check_holds(p->out, COUNT, RANKS * 2 * check_sum_to(p->n)));
    CHECK(check_holds(p->a + 2 * COUNT, COUNT, check_sum_to(p->n)));
    return 0;
}

/* What passes through need not wait for a call that does not and holds up a later one: rank 1 waits for the message,
 * then for the first call, before it makes that. */
static int held_round(struct place *p)
{
    int waits = p->rank == 1;

    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    if (waits) OK(medleyRecv(p->b, COUNT, medleyFloat, 0, p->comm, home_stream()));
    if (waits) OK(home_sync());
    OK(medleyAllReduce(p->in, p->a, COUNT, medleyFloat, medleySum, p->other, p->stream));
    if (waits) OK(sync_both(p));
    OK(reduce(p, p->in, p->out, p->twice));
    OK(reduce(p, p->out, p->out, medleyMax));
    if (p->rank == 0) OK(medleySend(p->in, COUNT, medleyFloat, 1, p->comm, home_stream()));
    OK(end(p));
    OK(sync_both(p));
    CHECK(check_holds(p->a, COUNT, check_sum_to(p->n)));
    CHECK(check_holds(p->out, COUNT, 2 * check_sum_to(p->n)));
    CHECK(!waits || check_holds(p->b, COUNT, 1));
    return 0;
}

/* A message in a group with a collective that passes through, and its receiver alone before that. */
static int message_first(struct place *p)
{
    bool receives = p->rank == 1;

    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    if (receives) OK(medleyRecv(p->b, COUNT, medleyFloat, 0, p->comm, home_stream()));
    if (receives) OK(home_sync());
    OK(reduce(p, p->in, p->out, medleySum));
    if (p->rank == 0) OK(medleySend(p->in, COUNT, medleyFloat, 1, p->comm, home_stream()));
    OK(end(p));
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    CHECK(!receives || check_holds(p->b, COUNT, 1));
    return 0;
}

/* A communicator of hosts in the same group, which rank 1 calls first, and waits for. */
static int hosts_too(struct place *p)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyComm_t hosts;
    float mine = (float)p->rank + 1, sum = 0;

    if (p->rank == 0) OK(medleyGetUniqueId(&id));
    if (p->rank == 0) memcpy((void *)(uintptr_t)(p->w->words + 16), &id, sizeof(id));
    ranks_meet(p->w, 1);
    memcpy(&id, (const void *)(uintptr_t)(p->w->words + 16), sizeof(id));
    config.device = "host";
    OK(medleyCommInitRankConfig(&hosts, p->n, id, p->rank, &config));
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    if (p->rank == 1) OK(medleyAllReduce(&mine, &sum, 1, medleyFloat, medleySum, hosts, NULL));
    OK(reduce(p, p->in, p->a, p->twice));
    OK(reduce(p, p->a, p->out, medleyMax));
    if (p->rank != 1) OK(medleyAllReduce(&mine, &sum, 1, medleyFloat, medleySum, hosts, NULL));
    OK(end(p));
    OK(home_sync());
    CHECK(sum == check_sum_to(p->n));
    CHECK(check_holds(p->out, COUNT, 2 * check_sum_to(p->n)));
    OK(medleyCommDestroy(hosts));
    return 0;
}

/* ---- more than a stream takes ---- */

/* More commands than a stream takes before it has begun them, in a group and one by one. */
static int deep(struct place *p)
{
    check_fill(p->in, SMALL, 1);
    OK(start(p));
    for (int i = 0; i < 2 * DEEP; i++)
        OK(medleyAllReduce(p->in, p->out, SMALL, medleyFloat, medleySum, p->comm, home_stream()));
    OK(end(p));
    OK(home_sync());
    CHECK(check_holds(p->out, SMALL, RANKS));
    return 0;
}

/* The same on two streams, whose order is not the same on all ranks: neither may hold up the other. */
static int deep_crossed(struct place *p)
{
    check_fill(p->in, SMALL, 1);
    OK(medleyGroupStart());
    for (int k = 0; k < 2; k++) {
        bool first = k == (p->rank == 1);
        for (int i = 0; i < DEEP; i++)
            OK(medleyAllReduce(p->in, first ? p->a : p->b, SMALL, medleyFloat, medleySum, first ? p->comm : p->other,
                               first ? home_stream() : p->stream));
    }
    OK(medleyGroupEnd());
    OK(sync_both(p));
    CHECK(check_holds(p->a, SMALL, RANKS));
    CHECK(check_holds(p->b, SMALL, RANKS));
    return 0;
}

/* More calls than there are words: those that are staged are attended, among others that are not. */
static float *take_long(const struct place *p, bool of_host)
{
    float *f = of_host ? malloc(LONG * sizeof(*f)) : home_take(LONG * sizeof(*f));

    for (size_t i = 0; of_host && i < LONG; i++) f[i] = (float)p->rank + 1;
    if (!of_host) check_fill(f, LONG, (float)p->rank + 1);
    return f;
}

/* Of more blocks than a ring has, several for each pair, so that each needs room that others give back; of rank 1 from
 * memory of the host and to it. */
static int long_messages(struct place *p)
{
    bool of_host = p->rank == 1;
    float *in = take_long(p, of_host), *out[RANKS][2];

    for (int i = 0; i < 2 * RANKS; i++) out[i / 2][i % 2] = take_long(p, of_host);
    OK(medleyGroupStart());
    for (int i = 0; i < 2 * RANKS; i++) {
        OK(medleySend(in, LONG, medleyFloat, i / 2, p->comm, home_stream()));
        OK(medleyRecv(out[i / 2][i % 2], LONG, medleyFloat, i / 2, p->comm, home_stream()));
    }
    OK(medleyGroupEnd());
    OK(home_sync());
    for (int i = 0; i < 2 * RANKS; i++) {
        float *o = out[i / 2][i % 2], value = (float)(i / 2) + 1;
        CHECK(of_host ? check_is_all(o, LONG, value) : check_holds(o, LONG, value));
        of_host ? free(o) : home_free(o);
    }
    of_host ? free(in) : home_free(in);
    return 0;
}

/* A group whose calls have no room together (MEDLEY_DEVICE_STAGING): each goes on with the result of another. */
static int overfull(struct place *p)
{
    float *a = take_long(p, false), *b = take_long(p, false), *c = take_long(p, false);

    OK(start(p));
    for (int i = 0; i < MANY / 2; i++) {
        OK(medleyAllReduce(a, b, LONG, medleyFloat, medleySum, p->comm, home_stream()));
        OK(medleyAllReduce(b, c, SMALL, medleyFloat, medleyMax, p->comm, home_stream()));
        OK(medleyAllReduce(a, c, LONG, medleyFloat, medleyMin, p->other, p->stream));
    }
    OK(end(p));
    OK(sync_both(p));
    CHECK(check_holds(b, LONG, check_sum_to(p->n)));
    CHECK(check_holds(c + SMALL, LONG - SMALL, 1));
    home_free(a);
    home_free(b);
    home_free(c);
    return 0;
}

static int many(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    OK(start(p));
    OK(reduce(p, p->in, p->b, medleySum));
    for (int i = 0; i < MANY; i++) {
        OK(medleyAllGatherV(p->b, COUNT, p->a, counts, NULL, medleyFloat, p->comm, home_stream()));
        OK(reduce(p, p->a + (i % RANKS) * COUNT, p->b, medleyMax));
    }
    OK(end(p));
    OK(home_sync());
    CHECK(check_holds(p->b, COUNT, check_sum_to(p->n)));
    return 0;
}

/* ---- buffers of the host ---- */

/* Many of one group, each with buffers of its own. */
static int host_buffers(struct place *p)
{
    float *in[HOST_CALLS], *out[HOST_CALLS];

    for (int i = 0; i < HOST_CALLS; i++) {
        in[i] = malloc(RANKS * COUNT * sizeof(float));
        out[i] = malloc(RANKS * COUNT * sizeof(float));
        for (size_t k = 0; k < RANKS * COUNT; k++) in[i][k] = (float)(p->rank + i);
    }
    OK(start(p));
    for (int i = 0; i < HOST_CALLS; i++) OK(medleyAlltoAll(in[i], out[i], COUNT, medleyFloat, p->comm, home_stream()));
    OK(end(p));
    OK(home_sync());
    for (int i = 0; i < HOST_CALLS; i++) {
        for (int r = 0; r < RANKS; r++) CHECK(check_is_all(out[i] + (size_t)r * COUNT, COUNT, (float)(r + i)));
        free(in[i]);
        free(out[i]);
    }
    return 0;
}

/* Rank 2 does not make a call whose result goes to ordinary memory, where the vendor waits for it in the call: it has its
 * deadline all the same. */
static int late_host(struct place *p)
{
    medleyResult_t res = medleySuccess;

    check_fill(p->in, COUNT, 1);
    if (p->rank != 2) {
        float *out = malloc(COUNT * sizeof(float));
        res = medleyAllReduce(p->in, out, COUNT, medleyFloat, medleySum, p->comm, home_stream());
        CHECK(res == medleySuccess || res == medleyTimeout);
        while (res == medleySuccess) OK(medleyCommGetAsyncError(p->comm, &res));
        CHECK(res == medleyTimeout);
        CHECK(strstr(medleyGetLastError(p->comm), "rank 2") != NULL);
        OK(home_sync());
        free(out);
    }
    ranks_meet(p->w, 1);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

/* Rank 2 has made its call, but its stream waits for something else: the others' errors say so. */
static int late_stream(struct place *p)
{
    medleyResult_t res = medleySuccess;
    uint64_t *gate;

    check_fill(p->in, COUNT, 1);
    OK(p->d->alloc_words(p->d, 1, &gate));
    if (p->rank == 2) OK(p->d->stream_wait(p->d, home_stream(), gate, 1));
    res = medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream());
    CHECK(res == medleySuccess);
    while (res == medleySuccess) OK(medleyCommGetAsyncError(p->comm, &res));
    CHECK(p->rank == 2 || strstr(medleyGetLastError(p->comm), "rank 2 (host ") != NULL);
    CHECK(p->rank == 2 || strstr(medleyGetLastError(p->comm), ") has made its call, but its stream") != NULL);
    ranks_meet(p->w, 1);
    if (p->rank == 2) __atomic_store_n(gate, 1, __ATOMIC_RELEASE);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    OK(home_sync());
    OK(p->d->free_words(p->d, 1, &gate));
    return 0;
}

/* ---- the end comes while a call is being appended ---- */

struct later {
    medleyComm_t comm;
    struct ranks_world *w;
};

static void *abort_later(void *arg)
{
    const struct later *l = arg;

    ranks_meet(l->w, 1);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    (void)medleyCommAbort(l->comm);
    return NULL;
}

/* Rank 2 never comes, so the others stay in their group until another thread aborts. */
static int aborted(struct place *p)
{
    struct later l = {.comm = p->comm, .w = p->w};
    pthread_t thread;
    medleyResult_t res = medleySuccess;

    check_fill(p->in, SMALL, 1);
    if (p->rank != 2) {
        OK(medleyGroupStart());
        for (int i = 0; i < 2 * DEEP; i++)
            OK(medleyAllReduce(p->in, p->out, SMALL, medleyFloat, i % 100 == 1 ? p->twice : medleySum, p->comm,
                               home_stream()));
        CHECK(pthread_create(&thread, NULL, abort_later, &l) == 0); /* not before: aborted, it takes no call */
        res = medleyGroupEnd();
        CHECK(res == medleySuccess || res == medleyRemoteError || res == medleyInvalidUsage); /* it is gone */
        pthread_join(thread, NULL);
        OK(home_sync());
    } else {
        abort_later(&l);
    }
    p->comm = NULL;
    return 0;
}

/* ---- a group that is not issued ---- */

static size_t refused; /* number of elements of which nothing is allocated */

void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes) { return refused && n == refused ? NULL : __real_calloc(n, bytes); }

/* Its peers would wait for it, so its communicator has failed. */
static int no_memory(struct place *p)
{
    medleyResult_t state = medleySuccess;

    OK(medleyGroupStart());
    for (int i = 0; i < NO_ROOM; i++) OK(reduce(p, p->in, p->out, p->twice));
    ranks_meet(p->w, 1); /* the first one's failure is everybody's */
    refused = NO_ROOM;
    CHECK(medleyGroupEnd() == medleySystemError);
    refused = 0;
    OK(medleyCommGetAsyncError(p->comm, &state));
    CHECK(state == medleySystemError || state == medleyRemoteError);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    OK(home_sync());
    return 0;
}

/* ---- running them ---- */

static const struct test {
    const char *name;
    int (*run)(struct place *p);
} tests[] = {
    {"chain", chain},
    {"one_stream", one_stream},
    {"two_streams", two_streams},
    {"crossed", crossed},
    {"messages", messages},
    {"hosts_too", hosts_too},
    {"deep", deep},
    {"deep_crossed", deep_crossed},
    {"many", many},
    {"host_buffers", host_buffers},
    {"late_host", late_host},
    {"late_stream", late_stream},
    {"aborted", aborted},
    {"held_round", held_round},
    {"message_first", message_first},
    {"long_messages", long_messages},
    {"overfull", overfull},
    {"no_memory", no_memory},
};

static int run_one(struct ranks_world *w, int rank, void *arg)
{
    const size_t bytes = RANKS * COUNT * sizeof(float);
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    const struct test *t = arg;
    struct place own = {.w = w, .rank = rank, .n = w->nranks, .grouped = rank != 1}, *p = &own;
    const double slack = slack_now();
    float scale = 2, **buffers[] = {&p->in, &p->a, &p->b, &p->out};
    struct mdl_config cfg;
    struct mdl_dev dev;

    if (t->run == late_host || t->run == late_stream) config.timeout_ms = (int)(LATE_MS * (slack < 4 ? slack : 4));
    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, config.device, &dev));
    p->d = dev.ops;
    OK(p->d->stream_create(p->d, &p->stream));
    OK(ranks_comm(w, rank, &config, &p->comm));
    OK(medleyCommSplit(p->comm, 0, p->n - rank, &p->other, NULL));
    OK(medleyRedOpCreatePreMulSum(&p->twice, &scale, medleyFloat, medleyScalarHostImmediate, p->comm));
    for (int i = 0; i < 4; i++) *buffers[i] = home_take(bytes);
    check_fill(p->a, COUNT, (float)p->rank + 1);
    ranks_meet(w, 0);
    if (t->run(p)) return 1;
    ranks_meet(w, 15);
    OK(medleyCommDestroy(p->other));
    OK(medleyCommDestroy(p->comm));
    OK(p->d->stream_destroy(p->d, p->stream));
    for (int i = 0; i < 4; i++) home_free(*buffers[i]);
    home_leave();
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++) {
        const struct test *t = NULL;
        bool bad;
        for (size_t k = 0; k < sizeof(tests) / sizeof(tests[0]); k++)
            if (strcmp(tests[k].name, argv[i]) == 0) t = &tests[k];
        if (!t) return 2;
        fflush(stdout);
        bad = ranks_run(RANKS, false, run_one, (void *)(uintptr_t)t, 30, NULL) != 0;
        printf("%s: %s\n", t->name, bad ? "FAILED" : "ok");
        failed += bad;
    }
    return failed != 0;
}
