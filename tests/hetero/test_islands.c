/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Islands (lib/engine/island.h): test_islands draw [cases [seed [-t]]], or names of scenes, each after the collective
 * that it is about if that is not the all-reduce. The devices come from MDL_TEST_DEVICES, as many ranks as it names; of
 * scenes, ranks 0 and 1 are an island, and so are 3 and 4; rank 2 is in none. MDL_TEST_ISLANDS=0: nothing may go
 * through islands.
 */
#include "config.h"

#include "lib/dev/dev.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"
#include "tests/coll/reference.h"
#include "tests/coll/slack.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST = 262144, COUNT = 200000, SCENE_RANKS = 5, SHORT_MS = 500 };
#define SHORT "a short one" /* MEDLEY_TIMEOUT of scenes that wait for it */

static long short_ms; /* the same in all ranks */

static size_t size_of(medleyDataType_t t)
{
    static const size_t sizes[medleyNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};

    return sizes[t];
}

static unsigned next(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- drawn calls ---- */

struct draw {
    int cases;
    unsigned seed;
};

static bool has_rows(medleyColl_t coll) { return coll == medleyCollAllGather || coll == medleyCollReduceScatter; }

/* Case i. The first ones are of a type that all vendors have. */
static struct coll_case draw(unsigned *s, int i, int n)
{
    static const medleyColl_t colls[] = {medleyCollAllReduce, medleyCollBroadcast,     medleyCollReduce,
                                         medleyCollAllGather, medleyCollReduceScatter, medleyCollAlltoAll};
    struct coll_case c = {.seed = next(s), .root = (int)(next(s) % (unsigned)n)};
    size_t least = LEAST;

    c.coll = colls[i % 6]; /* the last one is staged, as is what is small */
    c.dtype = (medleyDataType_t)(next(s) % medleyNumTypes);
    c.op = (medleyRedOp_t)(next(s) % 6);
    if (i < 6) c.dtype = medleyFloat, c.op = medleySum;
    if (c.op == medleyProd && n > 3) c.op = medleyMax;
    c.in_place = next(s) % 2;
    c.mem_alloc = next(s) % 3 == 0;
    while (!getenv("MDL_TEST_HOST_BUFFERS") && (c.seed % 5 == 0 || c.seed % 7 == 0)) c.seed++;
    if (has_rows(c.coll) || c.coll == medleyCollAlltoAll) least /= (unsigned)n;
    c.count = least / size_of(c.dtype) * (1 + next(s) % 6) / 2 + next(s) % 3 * (next(s) % 1000);
    if (i < 6) c.count += least / size_of(c.dtype);
    return c;
}

static int went(medleyComm_t comm, medleyColl_t coll, uint64_t calls)
{
    return check_went(comm, coll, calls, "islands");
}

static bool agrees(medleyComm_t comm, int n, uint64_t hash)
{
    uint64_t all[64];

    if (medleyAllGather(&hash, all, 1, medleyUint64, comm, home_stream()) != medleySuccess) return false;
    if (home_is_device() && home_sync() != medleySuccess) return false;
    for (int r = 0; r < n; r++)
        if (all[r] != hash) return false;
    return true;
}

static unsigned all_colls(void)
{
    return 1u << medleyCollAllReduce | 1u << medleyCollBroadcast | 1u << medleyCollReduce | 1u << medleyCollAllGather |
           1u << medleyCollReduceScatter;
}

static int draw_all(struct ranks_world *w, int rank, void *arg)
{
    const struct draw *d = arg;
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    uint64_t calls[medleyNumColls] = {0};
    unsigned s = d->seed, seen = 0; /* bit of each collective that went through islands */
    medleyComm_t comm;
    int islands = 0;

    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(ranks_comm(w, rank, &config, &comm));
    ranks_meet(w, 0);
    for (int i = 0; i < d->cases; i++) {
        struct coll_case c = draw(&s, i, w->nranks);
        unsigned long long hash = 0;
        char text[256];
        int by;

        coll_case_text(&c, text, sizeof(text));
        if (getenv("MDL_TEST_VERBOSE")) fprintf(stderr, "rank %d, %d: %s\n", rank, i, text);
        CHECK(coll_case_run(&c, comm, rank, w->nranks, NULL, &hash) == 0);
        by = went(comm, c.coll, ++calls[c.coll]);
        CHECK(by >= 0);
        islands += by;
        seen |= (unsigned)by << c.coll;
        if (c.coll != medleyCollAllReduce && c.coll != medleyCollBroadcast && c.coll != medleyCollAllGather) continue;
        if (agrees(comm, w->nranks, hash)) continue;
        fprintf(stderr, "rank %d: the ranks have different bits of %s\n", rank, text);
        return 1;
    }
    if (rank == 0) printf("%d of %d cases through islands, collectives %#x\n", islands, d->cases, seen);
    OK(medleyCommDestroy(comm));
    CHECK(seen == (getenv("MDL_TEST_ISLANDS") ? 0 : all_colls()));
    home_leave();
    return 0;
}

/* ---- scenes ---- */

struct place { /* a rank and what it works with */
    struct ranks_world *w;
    int rank, n;
    medleyComm_t comm;
    struct mdl_dev dev;
    uint64_t *gate; /* a word that its stream waits for; NULL: it cannot, or is the host's */
    float *in, *out;
    uint64_t done;
    char name[32]; /* these three: of one of many in a thread */
    mdl_dev_stream stream;
    float *pinned;
};

static void *stream_of(const struct place *p) { return p->pinned ? p->stream : home_stream(); }

static medleyResult_t await_stream(void) { return home_is_device() ? home_sync() : medleySuccess; }

static medleyResult_t sum(const struct place *p)
{
    return medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream());
}

static const struct {
    const char *name;
    medleyColl_t coll;
} colls[] = {{"allreduce", medleyCollAllReduce},
             {"broadcast", medleyCollBroadcast},
             {"reduce", medleyCollReduce},
             {"allgather", medleyCollAllGather},
             {"reducescatter", medleyCollReduceScatter}};
static medleyColl_t subject = medleyCollAllReduce; /* of the scenes that follow */

static size_t row(const struct place *p) { return COUNT / (size_t)p->n; }

/* What the scene is about. Ranks are the root in turns. */
static medleyResult_t call(const struct place *p)
{
    int root = (int)(p->done % (uint64_t)p->n);

    switch (subject) {
    case medleyCollBroadcast: return medleyBroadcast(p->in, p->out, COUNT, medleyFloat, root, p->comm, stream_of(p));
    case medleyCollReduce:
        return medleyReduce(p->in, p->out, COUNT, medleyFloat, medleySum, root, p->comm, stream_of(p));
    case medleyCollAllGather: return medleyAllGather(p->in, p->out, row(p), medleyFloat, p->comm, stream_of(p));
    case medleyCollReduceScatter:
        return medleyReduceScatter(p->in, p->out, row(p), medleyFloat, medleySum, p->comm, stream_of(p));
    default: return medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, p->comm, stream_of(p));
    }
}

/* Is it what comes out where each rank has put in its number + 1? */
static bool is_right(const struct place *p)
{
    int root = (int)(p->done % (uint64_t)p->n);

    switch (subject) {
    case medleyCollBroadcast: return check_holds(p->out, COUNT, (float)root + 1);
    case medleyCollReduce: return p->rank != root || check_holds(p->out, COUNT, check_sum_to(p->n));
    case medleyCollAllGather:
        for (int r = 0; r < p->n; r++)
            if (!check_holds(p->out + (size_t)r * row(p), row(p), (float)r + 1)) return false;
        return true;
    case medleyCollReduceScatter: return check_holds(p->out, row(p), check_sum_to(p->n));
    default: return check_holds(p->out, COUNT, check_sum_to(p->n));
    }
}

/* A call that comes out right. 1, if it went through islands, 0, or -1. */
static int comes_right(struct place *p)
{
    check_fill(p->in, COUNT, (float)p->rank + 1);
    if (call(p) != medleySuccess || await_stream() != medleySuccess || !is_right(p)) return -1;
    return went(p->comm, subject, ++p->done);
}

/* Waits for an error of the communicator, and that the stream goes on after it. */
static medleyResult_t error_comes(const struct place *p, medleyResult_t res)
{
    while (res == medleySuccess)
        if (medleyCommGetAsyncError(p->comm, &res) != medleySuccess) return medleyInternalError;
    return await_stream() == medleySuccess ? res : medleyInternalError;
}

static int leave(struct place *p)
{
    ranks_meet(p->w, 9);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

static int right(struct place *p)
{
    for (int i = 0; i < p->n; i++) CHECK(comes_right(p) == 1);
    return 0;
}

/* What users are told of where ranks are. */
static int told(struct place *p)
{
    for (int r = 0; r < p->n; r++) {
        medleyRankInfo_t info = {.size = sizeof(info)};
        OK(medleyCommGetInfo(p->comm, r, &info));
        if (r == 2) CHECK(info.native_island == -1 && strcmp(info.native, "it has no device") == 0);
        if (r != 2) CHECK(info.native_island == (r < 2 ? 0 : 2));
        if (r != 2) CHECK(strcmp(info.native, r < 2 ? "nccl" : "rccl") == 0);
    }
    return 0;
}

static int told_none(struct place *p)
{
    medleyRankInfo_t info = {.size = sizeof(info)};

    OK(medleyCommGetInfo(p->comm, 0, &info));
    CHECK(info.native_island == -1 && !info.native[0]);
    return 0;
}

static int right_without(struct place *p)
{
    for (int i = 0; i < 4; i++) CHECK(comes_right(p) == 0);
    return 0;
}

static int killed(struct place *p, int who)
{
    char name[32];

    snprintf(name, sizeof(name), "rank %d", who);
    CHECK(comes_right(p) == 1);
    ranks_meet(p->w, 1);
    if (p->rank == who) raise(SIGKILL);
    CHECK(error_comes(p, call(p)) == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(p->comm), name) != NULL);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    check_fill(p->in, COUNT, 7); /* the device is as it should be */
    CHECK(check_holds(p->in, COUNT, 7));
    return 0;
}

static int killed_member(struct place *p) { return killed(p, 1); }
static int killed_host(struct place *p) { return killed(p, 2); }

static int late(struct place *p, int who)
{
    char name[32];

    snprintf(name, sizeof(name), "rank %d", who);
    CHECK(comes_right(p) == 1);
    if (p->rank != who) {
        CHECK(error_comes(p, call(p)) == medleyTimeout);
        CHECK(strstr(medleyGetLastError(p->comm), name) != NULL);
    }
    return leave(p);
}

static int late_member(struct place *p) { return late(p, 1); }
static int late_host(struct place *p) { return late(p, 2); }

/* A rank that is late for less than the deadline is nobody's fault. */
static int slow(struct place *p)
{
    for (int who = 0; who < p->n; who++) {
        if (p->rank == who) check_pause_ms(250);
        CHECK(comes_right(p) == 1);
    }
    return 0;
}

static int mismatch(struct place *p, int who)
{
    medleyResult_t res = p->rank == who
                             ? medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleyMax, p->comm, home_stream())
                             : call(p);
    char count[32];

    snprintf(count, sizeof(count), "(%zu x float", subject >= medleyCollAllGather ? row(p) : (size_t)COUNT);
    CHECK(error_comes(p, res) == medleyInvalidUsage);
    CHECK(strstr(medleyGetLastError(p->comm), "max") && strstr(medleyGetLastError(p->comm), count));
    return leave(p);
}

static int mismatch_member(struct place *p) { return mismatch(p, 1); }
static int mismatch_host(struct place *p) { return mismatch(p, 2); }

/* An abort while streams are held, and others are in the vendor's calls. */
static int aborted(struct place *p)
{
    medleyResult_t res = medleySuccess;

    if (p->rank != 2) OK(call(p));
    ranks_meet(p->w, 1);
    if (p->rank == 0) {
        OK(medleyCommAbort(p->comm));
        p->comm = NULL;
        OK(await_stream());
    } else if (p->rank != 2) {
        CHECK(error_comes(p, res) == medleyRemoteError);
    }
    ranks_meet(p->w, 2);
    if (p->comm) OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    return 0;
}

/* A stream that comes to the call late, longer than any deadline, is nobody's fault. */
static int held(struct place *p)
{
    medleyResult_t res;

    if (home_is_device() && !p->gate) return SKIPPED;
    for (int i = 0; i < p->n; i++) CHECK(comes_right(p) == 1); /* has memory of the device from then on */
    check_fill(p->in, COUNT, (float)p->rank + 1);
    if (p->gate) {
        __atomic_store_n(p->gate, 0, __ATOMIC_RELEASE);
        OK(p->dev.ops->stream_wait(p->dev.ops, home_stream(), p->gate, 1));
        OK(call(p));
        check_pause_ms(3 * short_ms);
        OK(medleyCommGetAsyncError(p->comm, &res));
        CHECK(res == medleySuccess);
    }
    ranks_meet(p->w, 1);
    if (p->gate) __atomic_store_n(p->gate, 1, __ATOMIC_RELEASE);
    if (!p->gate) OK(call(p));
    OK(await_stream());
    CHECK(is_right(p));
    return 0;
}

/* Collectives that need each other's results, of all kinds; a second communicator and messages are in the group too. */
static int group(struct place *p)
{
    int next = (p->rank + 1) % p->n, before = (p->rank + p->n - 1) % p->n;
    const struct mdl_device *d = p->dev.ops;
    float *a = p->in + COUNT, *b = p->out + COUNT;
    mdl_dev_stream stream = NULL;
    medleyComm_t other;

    OK(medleyCommSplit(p->comm, 0, p->n - p->rank, &other, NULL));
    if (d) OK(d->stream_create(d, &stream));
    for (int turn = 0; turn < 3; turn++) {
        check_fill(p->in, COUNT, (float)p->rank + 1);
        check_fill(a, COUNT, 1);
        OK(medleyGroupStart());
        OK(sum(p));
        OK(medleySend(p->in, 10, medleyFloat, next, p->comm, home_stream()));
        OK(medleyAllReduce(p->out, p->out, 100, medleyFloat, medleySum, p->comm, home_stream()));
        OK(medleyAllReduce(a, b, COUNT, medleyFloat, medleySum, other, stream));
        OK(medleyAllReduce(p->out, p->out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
        OK(medleyRecv(p->out + 2 * COUNT, 10, medleyFloat, before, p->comm, home_stream()));
        OK(medleyGroupEnd());
        OK(await_stream());
        if (d) OK(d->stream_sync(d, stream));
        CHECK(check_holds(p->out, 100, (float)(p->n * p->n) * check_sum_to(p->n)));
        CHECK(check_holds(p->out + 100, COUNT - 100, (float)p->n * check_sum_to(p->n)));
        CHECK(check_holds(b, COUNT, (float)p->n));
        CHECK(check_holds(p->out + 2 * COUNT, 10, (float)before + 1));
    }
    if (d) OK(d->stream_destroy(d, stream));
    OK(medleyCommDestroy(other));
    return 0;
}

/* Children: of an island and the host, of one vendor alone, of the survivors. */
static int children(struct place *p)
{
    medleyComm_t whole = p->comm, child;
    const int out[] = {1};

    OK(medleyCommSplit(whole, p->rank < 3, p->rank, &child, NULL));
    check_fill(p->in, COUNT, 1);
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleySum, child, home_stream()));
    OK(await_stream());
    CHECK(check_holds(p->out, COUNT, p->rank < 3 ? 3.f : (float)p->n - 3));
    if (p->rank < 3) CHECK(went(child, medleyCollAllReduce, 1) == 1);
    OK(medleyCommDestroy(child));
    CHECK(comes_right(p) == 1);
    if (p->rank == 1) return 0;
    OK(medleyCommShrink(whole, out, 1, &child, NULL, 0));
    OK(medleyAllReduce(p->in, p->out, COUNT, medleyFloat, medleyMax, child, home_stream()));
    OK(await_stream());
    CHECK(check_holds(p->out, COUNT, (float)p->n));
    CHECK(went(child, medleyCollAllReduce, 1) == 1); /* ranks 3 and 4 */
    OK(medleyCommDestroy(child));
    return 0;
}

/* ---- all ranks in one thread ---- */

/* They are in one group, and libraries may make each call wait until all members have called it. */
static int issue_all(struct place *places, int n)
{
    OK(medleyGroupStart());
    for (int r = 0; r < n; r++) OK(call(&places[r]));
    OK(medleyGroupEnd());
    return 0;
}

static int check_all(struct place *places, int n)
{
    for (int r = 0; r < n; r++) {
        struct place *p = &places[r];
        float *copy = malloc(COUNT * sizeof(float)), *out = p->out;
        bool good;
        if (p->dev.ops) {
            OK(p->dev.ops->enter(p->dev.ops, p->dev.ordinal));
            OK(p->dev.ops->stream_sync(p->dev.ops, p->stream));
            OK(p->dev.ops->copy(p->dev.ops, p->pinned, out, COUNT * sizeof(float), MDL_COPY_D2H, p->stream));
            OK(p->dev.ops->stream_sync(p->dev.ops, p->stream));
            memcpy(copy, p->pinned, COUNT * sizeof(float));
            p->out = copy;
        }
        good = is_right(p);
        p->out = out;
        free(copy);
        CHECK(good);
        CHECK(went(p->comm, subject, p->done + 1) == 1);
    }
    return 0;
}

static int take_place(struct place *p, struct mdl_config *cfg, int rank)
{
    const size_t bytes = COUNT * sizeof(float);

    p->rank = rank;
    snprintf(p->name, sizeof(p->name), "%s", home_name(rank));
    OK(mdl_dev_find(cfg, p->name, &p->dev));
    if (!p->dev.ops) {
        p->in = malloc(bytes);
        p->out = malloc(bytes);
        for (size_t i = 0; i < COUNT; i++) p->in[i] = (float)rank + 1;
        return 0;
    }
    OK(p->dev.ops->enter(p->dev.ops, p->dev.ordinal));
    OK(p->dev.ops->alloc(p->dev.ops, bytes, (void **)&p->in));
    OK(p->dev.ops->alloc(p->dev.ops, bytes, (void **)&p->out));
    OK(p->dev.ops->alloc_pinned(p->dev.ops, bytes, (void **)&p->pinned));
    OK(p->dev.ops->stream_create(p->dev.ops, &p->stream));
    for (size_t i = 0; i < COUNT; i++) p->pinned[i] = (float)rank + 1;
    OK(p->dev.ops->copy(p->dev.ops, p->in, p->pinned, bytes, MDL_COPY_H2D, p->stream));
    OK(p->dev.ops->stream_sync(p->dev.ops, p->stream));
    return 0;
}

static int one_thread(struct ranks_world *w, int rank, void *arg)
{
    struct place places[SCENE_RANKS] = {0};
    medleyConfig_t config[SCENE_RANKS];
    const medleyConfig_t plain = MEDLEY_CONFIG_INITIALIZER;
    struct mdl_config cfg;
    medleyUniqueId id;

    (void)w, (void)rank, (void)arg;
    OK(mdl_config_load(&cfg));
    OK(medleyGetUniqueId(&id));
    for (int r = 0; r < SCENE_RANKS; r++) {
        if (take_place(&places[r], &cfg, r)) return 1;
        places[r].n = SCENE_RANKS;
        config[r] = plain;
        config[r].device = places[r].name;
    }
    OK(medleyGroupStart());
    for (int r = 0; r < SCENE_RANKS; r++) OK(medleyCommInitRankConfig(&places[r].comm, SCENE_RANKS, id, r, &config[r]));
    OK(medleyGroupEnd());
    for (size_t k = 0; k < sizeof(colls) / sizeof(colls[0]); k++) {
        subject = colls[k].coll;
        for (uint64_t turn = 0; turn < 3; turn++) {
            for (int r = 0; r < SCENE_RANKS; r++) places[r].done = turn;
            if (issue_all(places, SCENE_RANKS) || check_all(places, SCENE_RANKS)) return 1;
        }
    }
    for (int r = 0; r < SCENE_RANKS; r++) OK(medleyCommDestroy(places[r].comm));
    return 0;
}

static const struct test {
    const char *name;
    int (*run)(struct place *p);  /* NULL: the communicator cannot be made, for `value` is in the error */
    const char *variable, *value; /* set on rank `only`, or, if that is -1, on all */
    int only;
    int lost; /* a rank that does not come back; -1: none */
} tests[] = {
    {"right", right, "MEDLEY_ISLANDS", "1", -1, -1},
    {"told", told, "MEDLEY_ISLANDS", "1", -1, -1},
    {"told_none", told_none, "MEDLEY_ISLANDS", "0", -1, -1},
    {"off", right_without, "MEDLEY_ISLANDS", "0", -1, -1},
    {"deterministic", right_without, "MEDLEY_DETERMINISTIC", "1", -1, -1},
    {"one_is_off", right, "MEDLEY_NATIVE", "0", 1, -1},
    {"no_init", right, "EMUL_FAULT", "cuda:cclinit", 1, -1},
    {"differ", NULL, "MEDLEY_ISLANDS", "0", 1, -1},
    {"slow", slow, "MEDLEY_STALL", "20ms", -1, -1},
    {"held", held, "MEDLEY_TIMEOUT", SHORT, -1, -1},
    {"group", group, "MEDLEY_ISLANDS", "1", -1, -1},
    {"children", children, "MEDLEY_ISLANDS", "1", -1, -1},
    {"killed_member", killed_member, "MEDLEY_ISLANDS", "1", -1, 1},
    {"killed_host", killed_host, "MEDLEY_ISLANDS", "1", -1, 2},
    {"late_member", late_member, "MEDLEY_TIMEOUT", SHORT, -1, -1},
    {"late_host", late_host, "MEDLEY_TIMEOUT", SHORT, -1, -1},
    {"mismatch_member", mismatch_member, "EMUL_STRICT", "0", -1, -1},
    {"mismatch_host", mismatch_host, "EMUL_STRICT", "0", -1, -1},
    {"aborted", aborted, "MEDLEY_ISLANDS", "1", -1, -1},
};

static void set_variable(const char *name, const char *value)
{
    char text[32];

    snprintf(text, sizeof(text), "%ldms", short_ms);
    setenv(name, strcmp(value, SHORT) == 0 ? text : value, 1);
}

static int differ(medleyResult_t res)
{
    CHECK(res == medleyInvalidUsage);
    CHECK(strstr(medleyGetLastError(NULL), "MEDLEY_ISLANDS=0") != NULL);
    return 0;
}

static int play(struct place *p, const struct test *t)
{
    const size_t bytes = 3 * COUNT * sizeof(float);
    int res;

    if (p->dev.ops && (p->dev.caps & MDL_DEV_WORDS)) OK(p->dev.ops->alloc_words(p->dev.ops, 1, &p->gate));
    p->in = p->dev.ops ? home_take(bytes) : malloc(bytes);
    p->out = p->dev.ops ? home_take(bytes) : malloc(bytes);
    ranks_meet(p->w, 0);
    res = t->run(p);
    if (res) return res;
    if (t->lost < 0) ranks_meet(p->w, 15);
    OK(medleyCommDestroy(p->comm));
    if (p->gate) OK(p->dev.ops->free_words(p->dev.ops, 1, &p->gate));
    (p->dev.ops ? home_free : free)(p->in);
    (p->dev.ops ? home_free : free)(p->out);
    return 0;
}

static int run_scene(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    const struct test *t = arg;
    struct place p = {.w = w, .rank = rank, .n = w->nranks};
    struct mdl_config cfg;
    medleyResult_t made;
    int res;

    if (t->only < 0 || t->only == rank) set_variable(t->variable, t->value);
    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, config.device, &p.dev));
    made = ranks_comm(w, rank, &config, &p.comm);
    if (!t->run) return differ(made);
    OK(made);
    res = play(&p, t);
    if (res == 0) home_leave();
    return res;
}

static bool run_test(const struct test *t, bool *skipped)
{
    int status[SCENE_RANKS];
    bool bad = false;

    fflush(stdout);
    short_ms = slack_short_ms(SHORT_MS);
    (void)ranks_run(SCENE_RANKS, false, run_scene, (void *)(uintptr_t)t, 30, status);
    for (int r = 0; r < SCENE_RANKS; r++) bad |= r != t->lost && status[r] != 0;
    *skipped = bad && status[0] == SKIPPED;
    printf("%s: %s\n", t->name, *skipped ? "skipped: streams cannot wait for words" : bad ? "FAILED" : "ok");
    return !bad;
}

static int nranks(void)
{
    const char *devices = getenv("MDL_TEST_DEVICES");
    int n = 1;

    for (; devices && *devices; devices++) n += *devices == ',';
    return n;
}

int main(int argc, char **argv)
{
    int failed = 0;

    if (argc > 1 && strcmp(argv[1], "draw") == 0) {
        struct draw d = {.cases = argc > 2 ? atoi(argv[2]) : 40, .seed = argc > 3 ? (unsigned)atoi(argv[3]) : 1};
        return ranks_run(nranks(), argc > 4, draw_all, &d, 60, NULL) != 0;
    }
    for (int i = 1; i < argc; i++) {
        const struct test *t = NULL;
        bool skipped, about = false;
        if (strcmp(argv[i], "one_thread") == 0) {
            bool bad = ranks_run(1, false, one_thread, NULL, 30, NULL) != 0;
            printf("one_thread: %s\n", bad ? "FAILED" : "ok");
            failed += bad;
            continue;
        }
        for (size_t k = 0; k < sizeof(colls) / sizeof(colls[0]); k++) {
            if (strcmp(colls[k].name, argv[i]) != 0) continue;
            subject = colls[k].coll;
            about = true;
            printf("%s:\n", argv[i]);
        }
        if (about) continue;
        for (size_t k = 0; k < sizeof(tests) / sizeof(tests[0]); k++)
            if (strcmp(tests[k].name, argv[i]) == 0) t = &tests[k];
        if (!t) return 2;
        failed += !run_test(t, &skipped) && !skipped;
    }
    return failed != 0;
}
