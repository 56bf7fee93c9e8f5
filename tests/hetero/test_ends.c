/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may end while calls are outstanding, on devices whose streams wait by themselves: test_ends name... The devices
 * come from MDL_TEST_DEVICES. A vendor's call that frees memory waits for all streams of its device, so whatever ends
 * while one of them is held shows here by not coming back.
 */
#include "config.h"

#include "lib/dev/dev.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"
#include "tests/coll/slack.h"

#include <stdio.h>
#include <string.h>

enum { COUNT = 3000, RANKS = 3, ROUNDS = 12, MANY = 140, STALL_MS = 100, SHORT_MS = 1000 };

struct place { /* a rank and what it works with */
    struct ranks_world *w;
    int rank, n;
    medleyComm_t comm, other;
    const struct mdl_device *d;
    float *in, *out;
};

static medleyResult_t sum(const struct place *p, medleyComm_t comm, void *stream)
{
    return medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, comm, stream);
}

static int is_right(const struct place *p)
{
    OK(home_sync());
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* ---- a stream that is destroyed behind its call ---- */

static medleyResult_t wait_for(const struct mdl_device *d, mdl_dev_event event)
{
    medleyResult_t res;

    while ((res = d->event_query(d, event)) == medleyInProgress) check_pause_ms(1);
    return res;
}

/* Rank 2 is late for longer than the others take to look whether their devices have failed. */
static int stream_gone(struct place *p)
{
    mdl_dev_stream stream;
    mdl_dev_event event;

    OK(p->d->stream_create(p->d, &stream));
    OK(p->d->event_create(p->d, &event));
    if (p->rank == 2) check_pause_ms(5 * STALL_MS);
    OK(sum(p, p->comm, stream));
    OK(p->d->event_record(p->d, event, stream));
    OK(p->d->stream_destroy(p->d, stream));
    OK(wait_for(p->d, event));
    OK(p->d->event_destroy(p->d, event));
    CHECK(check_holds(p->out, COUNT, check_sum_to(p->n)));
    return 0;
}

/* ---- one communicator's end while another one's call holds the device ---- */

/* Both are held up by rank 2, and nobody but this thread can end them. */
static int both_aborted(struct place *p)
{
    if (p->rank != 2) {
        OK(sum(p, p->comm, home_stream()));
        OK(sum(p, p->other, home_stream()));
    }
    ranks_meet(p->w, 1);
    OK(medleyCommAbort(p->comm));
    OK(medleyCommAbort(p->other));
    p->comm = p->other = NULL;
    OK(home_sync());
    home_free(home_take(COUNT)); /* the device is usable */
    return 0;
}

/* Rank 2 makes the call that the others wait for only when they have destroyed the other communicator. */
static int one_destroyed(struct place *p)
{
    OK(sum(p, p->comm, home_stream()));
    if (is_right(p)) return 1;
    ranks_meet(p->w, 1);
    if (p->rank != 2) OK(sum(p, p->other, home_stream()));
    ranks_meet(p->w, 2);
    OK(medleyCommDestroy(p->comm));
    p->comm = NULL;
    ranks_meet(p->w, 3);
    if (p->rank == 2) OK(sum(p, p->other, home_stream()));
    return is_right(p);
}

/* Ranks that are threads and share a device: while one still ends a communicator, another one's next call holds it. */
static int shared_device(struct place *p)
{
    for (int i = 0; i < ROUNDS; i++) {
        medleyComm_t child;
        OK(sum(p, p->comm, home_stream()));
        OK(medleyCommSplit(p->comm, 0, p->n - p->rank, &child, NULL));
        OK(sum(p, child, home_stream()));
        OK(medleyCommDestroy(child));
    }
    return is_right(p);
}

/* ---- a communicator that keeps nobody waiting ---- */

/* Rank 2 is late. The state is that of NCCL's: success once the call is in the stream, in progress until a finalize
 * ends. */
static int non_blocking(struct place *p)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyResult_t res = medleyInProgress;
    medleyComm_t comm;

    config.blocking = 0;
    OK(medleyCommSplit(p->comm, 0, p->rank, &comm, &config));
    while (res == medleyInProgress) OK(medleyCommGetAsyncError(comm, &res));
    CHECK(res == medleySuccess);
    if (p->rank == 2) ranks_meet(p->w, 1);
    OK(sum(p, comm, home_stream()));
    OK(medleyCommGetAsyncError(comm, &res));
    CHECK(res == medleySuccess);
    if (p->rank != 2) ranks_meet(p->w, 1);
    if (is_right(p)) return 1;
    res = medleyCommFinalize(comm);
    while (res == medleyInProgress) OK(medleyCommGetAsyncError(comm, &res));
    CHECK(res == medleySuccess);
    OK(medleyCommDestroy(comm));
    return 0;
}

/* ---- more calls than there is room for ---- */

/* Behind a gate that is opened too late: an error says so, and the device goes on. */
static int too_many(struct place *p)
{
    medleyResult_t res = medleySuccess;
    uint64_t *gate;

    OK(p->d->alloc_words(p->d, 1, &gate));
    OK(p->d->stream_wait(p->d, home_stream(), gate, 1));
    for (int i = 0; i < MANY && res == medleySuccess; i++) res = sum(p, p->comm, home_stream());
    CHECK(res == medleyTimeout || res == medleyRemoteError); /* another rank may have waited for longer */
    CHECK(strstr(medleyGetLastError(p->comm), "leave no room for another one") != NULL);
    ranks_meet(p->w, 1);
    __atomic_store_n(gate, 1, __ATOMIC_RELEASE); /* pairs with the stream's wait */
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    OK(home_sync());
    OK(p->d->free_words(p->d, 1, &gate));
    return 0;
}

/* ---- running them ---- */

static const struct test {
    const char *name;
    int (*run)(struct place *p);
    bool threads;
} tests[] = {
    {"stream_gone", stream_gone, false},     {"both_aborted", both_aborted, false},
    {"one_destroyed", one_destroyed, false}, {"one_destroyed_threads", one_destroyed, true},
    {"shared_device", shared_device, true},  {"too_many", too_many, false},
    {"non_blocking", non_blocking, false},
};

static int run_one(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    const struct test *t = arg;
    struct place own = {.w = w, .rank = rank, .n = w->nranks}, *p = &own;
    struct mdl_config cfg;
    struct mdl_dev dev;

    if (t->run == too_many) config.timeout_ms = (int)slack_short_ms(SHORT_MS);
    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, config.device, &dev));
    p->d = dev.ops;
    OK(ranks_comm(w, rank, &config, &p->comm));
    OK(medleyCommSplit(p->comm, 0, rank, &p->other, NULL));
    p->in = home_take(COUNT * sizeof(float));
    p->out = home_take(COUNT * sizeof(float));
    check_fill(p->in, COUNT, (float)rank + 1);
    ranks_meet(w, 0);
    if (t->run(p)) return 1;
    ranks_meet(w, 15);
    OK(medleyCommDestroy(p->other));
    OK(medleyCommDestroy(p->comm));
    home_free(p->in);
    home_free(p->out);
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
        bad = ranks_run(RANKS, t->threads, run_one, (void *)(uintptr_t)t, 30, NULL) != 0;
        printf("%s: %s\n", t->name, bad ? "FAILED" : "ok");
        failed += bad;
    }
    return failed != 0;
}
