/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured streams: test_capture [staged|direct|native]. The devices come from MDL_TEST_DEVICES, of one vendor. What is
 * tried:
 *
 * - a call on a stream that is being captured is refused, in each mode of capture, alone and in a group; the capture is
 *   none the worse for it, and the communicator neither;
 * - what another thread captures, in the strictest mode, survives what a communicator does on other streams meanwhile;
 * - the vendor's default stream is refused while a stream is captured that would wait for it.
 *
 * The way that calls go (direct, native) is what the communicator must say that it used last.
 */
#include "config.h"

#include "lib/dev/dev.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 30000, GLOBAL = 0, MODES = 3 };

static int rank;
static struct mdl_dev dev;
static const struct mdl_device *d;
static medleyComm_t comm;
static float *in, *out;
static struct ranks_world *world;

/* ---- the vendor's calls, which the adapters do not need ---- */

static struct {
    int (*StreamBeginCapture)(void *, int), (*StreamEndCapture)(void *, void **), (*StreamIsCapturing)(void *, int *),
        (*GraphDestroy)(void *), (*StreamCreate)(void **), (*StreamDestroy)(void *);
} vendor;

static void *symbol(void *library, const char *prefix, const char *stem)
{
    char name[64];

    snprintf(name, sizeof(name), "%s%s", prefix, stem);
    return dlsym(library, name);
}

static int look_into(struct dl_phdr_info *info, size_t size, void *arg)
{
    static const char *const prefixes[] = {"cuda", "hip", "musa", "mc", "hggc", "tang"};
    void *library = info->dlpi_name[0] ? dlopen(info->dlpi_name, RTLD_NOW | RTLD_NOLOAD) : NULL;

    (void)size;
    (void)arg;
    for (size_t i = 0; library && i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (!symbol(library, prefixes[i], "StreamBeginCapture")) continue;
#define FIND(stem) *(void **)&vendor.stem = symbol(library, prefixes[i], #stem)
        FIND(StreamBeginCapture), FIND(StreamEndCapture), FIND(StreamIsCapturing), FIND(GraphDestroy);
        FIND(StreamCreate), FIND(StreamDestroy);
#undef FIND
        return 1;
    }
    return 0;
}

static void end(void *stream)
{
    void *graph = NULL;

    MUST(vendor.StreamEndCapture(stream, &graph) == 0);
    MUST(graph != NULL);
    MUST(vendor.GraphDestroy(graph) == 0);
}

static bool is_captured(void *stream)
{
    int status = 0;

    MUST(vendor.StreamIsCapturing(stream, &status) == 0);
    return status == 1; /* 2: it is spoilt */
}

/* ---- calls ---- */

static uint64_t ncalls; /* that comm has taken */

static medleyResult_t call(medleyComm_t c, void *stream)
{
    medleyResult_t res = medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, c, stream);

    ncalls += c == comm && res == medleySuccess;
    return res;
}

static void fill(void)
{
    check_fill(in, COUNT, (float)rank + 1);
    check_fill(out, COUNT, 0);
}

static bool is_right(void) { return check_holds(out, COUNT, check_sum_to(world->nranks)); }

static bool is_refused(medleyResult_t res)
{
    return res == medleyInvalidUsage && strstr(medleyGetLastError(NULL), "captured") != NULL;
}

static void works(const char *way)
{
    medleyCommStats_t stats = {.size = sizeof(stats)};

    fill();
    DONE(call(comm, home_stream()));
    DONE(home_sync());
    MUST(is_right());
    MUST(check_went(comm, medleyCollAllReduce, ncalls, "") >= 0); /* a stream may be done before the call is counted */
    DONE(medleyCommGetStats(comm, &stats));
    if (way && strcmp(way, "direct") == 0) MUST(strcmp(stats.last_algorithm, "device-direct") == 0);
    if (way && strcmp(way, "native") == 0) MUST(strstr(stats.last_algorithm, "ccl") != NULL);
}

/* ---- the tests ---- */

static void refused(int mode)
{
    void *stream = home_stream();
    int next = (rank + 1) % world->nranks, before = (rank + world->nranks - 1) % world->nranks;

    MUST(vendor.StreamBeginCapture(stream, mode) == 0);
    DONE(d->copy(d, out, in, sizeof(float), MDL_COPY_D2D, stream)); /* into the graph */
    MUST(is_refused(call(comm, stream)));
    MUST(is_refused(medleySend(in, COUNT, medleyFloat, next, comm, stream)));
    DONE(medleyGroupStart());
    MUST(is_refused(medleyRecv(out, COUNT, medleyFloat, before, comm, stream)));
    MUST(is_refused(call(comm, stream)));
    MUST(medleyGroupEnd() == medleyInvalidUsage);
    MUST(is_captured(stream));
    DONE(d->copy(d, out, in, sizeof(float), MDL_COPY_D2D, stream));
    end(stream);
}

struct capture {
    pthread_barrier_t meet;
    mdl_dev_stream stream;
    int mode;
};

static void *capture(void *arg)
{
    struct capture *c = arg;

    DONE(d->enter(d, dev.ordinal));
    MUST(vendor.StreamBeginCapture(c->stream, c->mode) == 0);
    DONE(d->copy(d, out, in, sizeof(float), MDL_COPY_D2D, c->stream));
    pthread_barrier_wait(&c->meet);
    pthread_barrier_wait(&c->meet);
    MUST(is_captured(c->stream));
    end(c->stream);
    return NULL;
}

/* Of a new communicator, too, which has all to make for its device. What waits for the stream comes behind. */
static void beside(int mode)
{
    struct capture c = {.mode = mode};
    medleyComm_t other;
    pthread_t thread;

    fill();
    DONE(d->stream_create(d, &c.stream));
    pthread_barrier_init(&c.meet, NULL, 2);
    MUST(pthread_create(&thread, NULL, capture, &c) == 0);
    pthread_barrier_wait(&c.meet);
    DONE(call(comm, home_stream()));
    DONE(medleyCommSplit(comm, 0, rank, &other, NULL));
    DONE(medleyGroupStart());
    DONE(call(comm, home_stream()));
    DONE(call(other, home_stream()));
    DONE(medleyGroupEnd());
    DONE(medleyCommDestroy(other));
    pthread_barrier_wait(&c.meet);
    pthread_join(thread, NULL);
    DONE(home_sync());
    MUST(is_right());
    DONE(d->stream_destroy(d, c.stream));
    pthread_barrier_destroy(&c.meet);
}

static void null_stream(void)
{
    void *stream = NULL;

    if (!vendor.StreamCreate || !vendor.StreamDestroy) return;
    MUST(vendor.StreamCreate(&stream) == 0);
    MUST(vendor.StreamBeginCapture(stream, GLOBAL) == 0);
    MUST(is_refused(call(comm, NULL)));
    MUST(is_captured(stream));
    DONE(d->copy(d, out, in, sizeof(float), MDL_COPY_D2D, stream));
    end(stream);
    MUST(vendor.StreamDestroy(stream) == 0);
}

static int run(struct ranks_world *w, int me, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    struct mdl_config cfg;

    rank = me;
    world = w;
    config.device = home_name(rank);
    DONE(home_enter(config.device, true));
    DONE(mdl_config_load(&cfg));
    DONE(mdl_dev_find(&cfg, config.device, &dev));
    d = dev.ops;
    if (!(dev.caps & MDL_DEV_CAPTURE) || !dl_iterate_phdr(look_into, NULL)) return SKIPPED;
    DONE(ranks_comm(w, rank, &config, &comm));
    in = home_take(COUNT * sizeof(float));
    out = home_take(COUNT * sizeof(float));
    works(arg);
    for (int mode = 0; mode < MODES; mode++) refused(mode);
    works(arg);
    for (int mode = 0; mode < MODES; mode++) beside(mode);
    null_stream();
    works(arg);
    ranks_meet(w, 1);
    DONE(medleyCommDestroy(comm));
    home_free(in);
    home_free(out);
    home_leave();
    return 0;
}

int main(int argc, char **argv)
{
    int status[3];
    bool bad;

    if (!getenv("MDL_TEST_DEVICES")) {
        printf("skipped: MDL_TEST_DEVICES names no devices\n");
        return SKIPPED;
    }
    bad = ranks_run(3, false, run, argc > 1 ? argv[1] : NULL, 60, status) != 0;
    if (bad && status[0] == SKIPPED && status[1] == SKIPPED && status[2] == SKIPPED) {
        printf("skipped: %s has no captures that it tells of\n", getenv("MDL_TEST_DEVICES"));
        return SKIPPED;
    }
    return bad;
}
