/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives from device to device (lib/engine/direct.h): test_direct [-n ranks] [-t: threads] [-x path] [name...].
 * The devices come from MDL_TEST_DEVICES, as in test_coll; MEDLEY_ONESHOT=0 keeps small calls off the lines. `path`
 * says what is expected of this vendor: direct; moves (all that does not reduce is direct); staged (nothing is).
 * `fault` is rank 1's alone, as in EMUL_FAULT. `namespaces` wants MDL_TEST_PIDS=0,1,1.
 */
#include "config.h"

#include "lib/api/handle.h"
#include "lib/dev/dev.h"
#include "lib/engine/direct.h"
#include "lib/reduce/reduce.h"
#include "tests/coll/check.h"
#include "tests/coll/ranks.h"
#include "tests/coll/reference.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 9001, LARGE = 400000, MOST_RANKS = 16 };
enum path { DIRECT, MOVES, STAGED };

static enum path path;
static const char *fault; /* of rank 1 alone */

struct place {
    struct ranks_world *w;
    int rank, n;
    medleyComm_t comm;
    struct mdl_dev dev;
};

static bool reduces(medleyColl_t k)
{
    return k == medleyCollAllReduce || k == medleyCollReduce || k == medleyCollReduceScatter;
}

/* Did the newest collective go the way that it should? */
static bool went(medleyComm_t comm, bool direct)
{
    medleyCommStats_t stats = {.size = sizeof(stats)};

    if (medleyCommGetStats(comm, &stats) != medleySuccess) return false;
    if ((strcmp(stats.last_algorithm, "device-direct") == 0) == direct) return true;
    fprintf(stderr, "the call went by \"%s\"\n", stats.last_algorithm);
    return false;
}

static bool should(medleyColl_t coll, medleyRedOp_t op)
{
    return path == DIRECT ? op != medleyNumOps : path == MOVES && !reduces(coll);
}

/* ---- the tests ---- */

static int run_case(struct place *p, struct coll_case *c)
{
    unsigned long long hash;
    char text[256];

    coll_case_text(c, text, sizeof(text));
    if (coll_case_run(c, p->comm, p->rank, p->n, NULL, &hash) == 0 && went(p->comm, should(c->coll, c->op))) return 0;
    fprintf(stderr, "rank %d: %s\n", p->rank, text);
    return 1;
}

/* Each collective x type x operation, in place and not, of lengths that are less than the ranks, one piece, and
 * several. */
static int every(struct place *p)
{
    static const size_t counts[] = {1, 5, 997, 20011};
    unsigned i = 0;

    for (int coll = 0; coll < medleyCollBarrier; coll++)
        for (int t = 0; t < medleyNumTypes; t++)
            for (int op = 0; op <= (reduces((medleyColl_t)coll) ? medleyNumOps : 0); op++, i++) {
                struct coll_case c = {.coll = (medleyColl_t)coll,
                                      .dtype = (medleyDataType_t)t,
                                      .op = (medleyRedOp_t)op,
                                      .root = (int)i % p->n,
                                      .in_place = i & 1,
                                      .seed = i};
                if (op == medleyProd && p->n > 3) c.op = medleyMax;
                for (int k = 0; k < 2; k++, c.in_place = !c.in_place) {
                    c.count = counts[(i + (unsigned)k * 2) % 4];
                    CHECK(run_case(p, &c) == 0);
                }
            }
    return 0;
}

static uint32_t bits_of(int rank, size_t i)
{
    uint64_t x = (i * 2654435761u + (uint64_t)rank * 40503u) * 0x9e3779b97f4a7c15u;

    x ^= x >> 29;
    return i % 7 == 0 ? (uint32_t)x : 0x3f000000u + ((uint32_t)x & 0x1ffffffu); /* any bits, and what rounds */
}

/* Every element is the host's fold of all ranks' in their order, or in deterministic mode its tree. */
static int bits(struct place *p)
{
    const char *deterministic = getenv("MEDLEY_DETERMINISTIC");
    uint32_t *own = malloc(LARGE * 4), *all[MOST_RANKS], *expected = malloc(LARGE * 4);
    struct mdl_reduce r = {.dtype = medleyFloat32, .op = medleySum, .tree = deterministic && *deterministic == '1'};
    void *in, *out = home_take(LARGE * 4);
    const void *srcs[MOST_RANKS];

    for (int k = 0; k < p->n; k++) {
        all[k] = malloc(LARGE * 4);
        for (size_t i = 0; i < LARGE; i++) all[k][i] = bits_of(k, i);
        srcs[k] = all[k];
    }
    in = home_copy_in(all[p->rank], LARGE * 4);
    mdl_reduce(&r, expected, srcs, 0, p->n, LARGE);
    OK(medleyAllReduce(in, out, LARGE, medleyFloat, medleySum, p->comm, home_stream()));
    OK(home_sync());
    CHECK(went(p->comm, should(medleyCollAllReduce, medleySum)));
    home_copy_out(own, out, LARGE * 4);
    CHECK(path != DIRECT || memcmp(own, expected, LARGE * 4) == 0);
    for (int k = 0; k < p->n; k++) free(all[k]);
    free(own);
    free(expected);
    home_free(in);
    home_free(out);
    return 0;
}

/* Calls of one communicator on two streams, none of which is waited for: the windows go from one to the other. */
static int streams(struct place *p)
{
    enum { TIMES = 12 };
    const struct mdl_device *d = p->dev.ops;
    float *in[TIMES], *out[TIMES];
    mdl_dev_stream second;

    OK(d->stream_create(d, &second));
    for (int i = 0; i < TIMES; i++) {
        in[i] = home_take(COUNT * sizeof(float));
        out[i] = home_take(COUNT * sizeof(float));
        check_fill(in[i], COUNT, (float)(i + p->rank));
    }
    for (int i = 0; i < TIMES; i++)
        OK(medleyAllReduce(in[i], out[i], COUNT, medleyFloat, medleySum, p->comm, i & 1 ? second : home_stream()));
    OK(d->stream_sync(d, second));
    OK(home_sync());
    for (int i = 0; i < TIMES; i++) {
        CHECK(check_holds(out[i], COUNT, (float)(p->n * i + p->n * (p->n - 1) / 2)));
        home_free(in[i]);
        home_free(out[i]);
    }
    OK(d->stream_destroy(d, second));
    return 0;
}

/* What is in the stream before the call is in its input, and what is behind it sees the result; a group of them too. */
static int in_order(struct place *p)
{
    const struct mdl_device *d = p->dev.ops;
    float *source = home_take(COUNT * 4), *in = home_take(COUNT * 4), *out = home_take(COUNT * 4);
    float *copy = home_take(COUNT * 4);

    check_fill(source, COUNT, (float)p->rank);
    check_fill(in, COUNT, 1000);
    OK(d->copy(d, in, source, COUNT * 4, MDL_COPY_D2D, home_stream()));
    OK(medleyGroupStart());
    OK(medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(medleyBroadcast(out, out, COUNT, medleyFloat, 0, p->comm, home_stream()));
    OK(medleyAllReduce(out, copy, COUNT, medleyFloat, medleyMax, p->comm, home_stream()));
    OK(medleyGroupEnd());
    OK(d->copy(d, in, copy, COUNT * 4, MDL_COPY_D2D, home_stream()));
    OK(home_sync());
    CHECK(check_holds(in, COUNT, (float)(p->n * (p->n - 1) / 2)));
    home_free(source);
    home_free(in);
    home_free(out);
    home_free(copy);
    return 0;
}

/* Children have windows of their own; those of one that was aborted while streams were held give theirs back. */
static int children(struct place *p)
{
    float *in = home_take(COUNT * sizeof(float)), *out = home_take(COUNT * sizeof(float));
    medleyComm_t child;

    for (int turn = 0; turn < 3; turn++) {
        OK(medleyCommSplit(p->comm, 0, p->n - p->rank, &child, NULL));
        check_fill(in, COUNT, (float)p->rank + 1);
        if (turn < 2) {
            OK(medleyAllReduce(in, out, COUNT, medleyFloat, medleyMax, child, home_stream()));
            OK(home_sync());
            CHECK(check_holds(out, COUNT, (float)p->n));
            OK(medleyCommDestroy(child));
            continue;
        }
        if (p->rank != 1) OK(medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, child, home_stream()));
        ranks_meet(p->w, 1);
        OK(medleyCommAbort(child));
        OK(home_sync());
    }
    home_free(in);
    home_free(out);
    return 0;
}

/* One rank ends its communicator long before the others, which still have its window open: it keeps it, and the next
 * communicator has it. */
static int late(struct place *p)
{
    float *in = home_take(COUNT * sizeof(float)), *out = home_take(COUNT * sizeof(float));
    medleyComm_t child;

    for (int turn = 0; turn < 2; turn++) {
        OK(medleyCommSplit(p->comm, 0, p->rank, &child, NULL));
        check_fill(in, COUNT, (float)(p->rank + turn));
        OK(medleyAllReduce(in, out, COUNT, medleyFloat, medleyMax, child, home_stream()));
        OK(home_sync());
        CHECK(check_holds(out, COUNT, (float)(p->n - 1 + turn)));
        if (p->rank != 0) ranks_meet(p->w, 2 + turn);
        OK(medleyCommDestroy(child));
        if (p->rank == 0) ranks_meet(p->w, 2 + turn);
    }
    home_free(in);
    home_free(out);
    return 0;
}

static medleyResult_t error_comes(medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;

    while (res == medleySuccess || res == medleyInProgress)
        if (medleyCommGetAsyncError(comm, &res) != medleySuccess) return medleyInternalError;
    return res;
}

/* Calls that do not match are an error on all ranks, and let go of the streams. */
static int mismatch(struct place *p)
{
    float *in = home_take(COUNT * sizeof(float)), *out = home_take(COUNT * sizeof(float));
    medleyResult_t res = medleyInProgress;

    check_fill(in, COUNT, 1);
    res = medleyAllReduce(in, out, COUNT - (p->rank == 1), medleyFloat, medleySum, p->comm, home_stream());
    CHECK(res == medleySuccess || res == medleyInvalidUsage); /* it may be known already */
    OK(home_sync());
    if (res == medleySuccess) res = error_comes(p->comm);
    CHECK(res == medleyInvalidUsage);
    CHECK(strstr(medleyGetLastError(p->comm), "AllReduce") != NULL);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    home_free(in);
    home_free(out);
    return 0;
}

/* A rank that dies is named on the others, and their streams go on. */
static int killed(struct place *p)
{
    float *in = home_take(COUNT * sizeof(float)), *out = home_take(COUNT * sizeof(float));
    medleyResult_t res = medleySuccess;

    check_fill(in, COUNT, 1);
    OK(medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(home_sync());
    if (p->rank == 1) kill(getpid(), SIGKILL);
    res = medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, p->comm, home_stream());
    CHECK(res == medleySuccess || res == medleyRemoteError); /* it may be known already */
    OK(home_sync());
    if (res == medleySuccess) res = error_comes(p->comm);
    CHECK(res == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(p->comm), "rank 1") != NULL);
    OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    home_free(in);
    home_free(out);
    return 0;
}

/* Ranks whose process ids mean nothing to each other. What has failed is closed by the others first: rank 0, which they
 * find under no number that they know, may still read their windows. Those must stay. */
static int namespaces(struct place *p)
{
    const size_t bytes = COUNT * sizeof(float);
    float *in = home_take(bytes), *out = home_take(bytes);
    struct mdl_comm *c;
    struct mdl_window *w;
    char *base;
    size_t len;

    check_fill(in, COUNT, 1);
    OK(medleyAllReduce(in, out, COUNT, medleyFloat, medleySum, p->comm, home_stream()));
    OK(home_sync());
    CHECK(check_holds(out, COUNT, (float)p->n));
    CHECK(check_went(p->comm, medleyCollAllReduce, 1, "device-direct") == 1);
    OK(mdl_handle_enter(p->comm, &c));
    base = c->direct->own->base;
    len = c->direct->own->bytes;
    mdl_handle_leave(p->comm);
    ranks_meet(p->w, 1);
    (void)medleyAllReduce(in, out, COUNT - (p->rank == 1), medleyFloat, medleySum, p->comm, home_stream());
    CHECK(error_comes(p->comm) == medleyInvalidUsage);
    OK(home_sync());
    ranks_meet(p->w, 2);
    if (p->rank != 0) {
        OK(medleyCommAbort(p->comm));
        OK(mdl_window_take(&p->dev, len, &w));
        CHECK(w->base == base);
        mdl_window_drop(w);
    }
    ranks_meet(p->w, 3);
    if (p->rank == 0) OK(medleyCommAbort(p->comm));
    p->comm = NULL;
    home_free(in);
    home_free(out);
    return 0;
}

/* ---- what is counted ---- */

static size_t share_of(size_t count, int r, int n)
{
    return count * (size_t)(r + 1) / (size_t)n - count * (size_t)r / (size_t)n;
}

/* Elements that rank `me` reads of a peer: what medley.h says of medleyCommGetStats. */
static size_t is_read(medleyColl_t coll, int root, size_t count, int n, int me, int peer)
{
    switch (coll) {
    case medleyCollAllGather:
    case medleyCollAlltoAll:
    case medleyCollReduceScatter: return count;
    case medleyCollGather: return me == root ? count : 0;
    case medleyCollBroadcast:
    case medleyCollScatter: return peer == root ? count : 0;
    case medleyCollAllReduce: return share_of(count, me, n) + share_of(count, peer, n);
    case medleyCollReduce: return share_of(count, me, n) + (me == root ? share_of(count, peer, n) : 0);
    default: return 0;
    }
}

static medleyResult_t peers_of(medleyComm_t comm, medleyPeerStats_t *peers, int n)
{
    medleyCommStats_t s = {.size = sizeof(s), .npeers = n, .peers = peers};

    return medleyCommGetStats(comm, &s);
}

static medleyResult_t call(const struct place *p, medleyColl_t coll, int root, size_t count, const float *in,
                           float *out)
{
    medleyComm_t c = p->comm;
    void *s = home_stream();

    switch (coll) {
    case medleyCollAllReduce: return medleyAllReduce(in, out, count, medleyFloat, medleySum, c, s);
    case medleyCollReduce: return medleyReduce(in, out, count, medleyFloat, medleySum, root, c, s);
    case medleyCollReduceScatter: return medleyReduceScatter(in, out, count, medleyFloat, medleySum, c, s);
    case medleyCollBroadcast: return medleyBroadcast(in, out, count, medleyFloat, root, c, s);
    case medleyCollAllGather: return medleyAllGather(in, out, count, medleyFloat, c, s);
    case medleyCollAlltoAll: return medleyAlltoAll(in, out, count, medleyFloat, c, s);
    case medleyCollGather: return medleyGather(in, out, count, medleyFloat, root, c, s);
    case medleyCollScatter: return medleyScatter(in, out, count, medleyFloat, root, c, s);
    default: return medleyInternalError;
    }
}

/* Each call's bytes as they were read, and in the end as the others have read them here. Shares of several pieces are
 * those of the whole only if each piece has equal ones, which are taken of a power of two. */
static int bytes(struct place *p)
{
    static const size_t counts[] = {1, 2, 997, 4096, 98304};
    const int n = p->n;
    float *in = home_take((size_t)n * counts[4] * sizeof(float)),
          *out = home_take((size_t)n * counts[4] * sizeof(float));
    medleyPeerStats_t before[MOST_RANKS], after[MOST_RANKS], first[MOST_RANKS];
    size_t left[MOST_RANKS] = {0};
    int calls[medleyNumColls] = {0};

    OK(peers_of(p->comm, first, n));
    for (int i = 0; i < medleyCollBarrier * 5; i++) {
        const medleyColl_t coll = (medleyColl_t)(i / 5);
        const size_t count = counts[i % 5];
        const int root = i % n;
        if (!should(coll, medleySum) || (reduces(coll) && i % 5 == 4 && (n & (n - 1)))) continue;
        OK(peers_of(p->comm, before, n));
        OK(call(p, coll, root, count, in, out));
        OK(home_sync());
        CHECK(check_went(p->comm, coll, (uint64_t)++calls[coll], "device-direct") == 1);
        OK(peers_of(p->comm, after, n));
        for (int r = 0; r < n; r++) {
            size_t want = r == p->rank ? 0 : is_read(coll, root, count, n, p->rank, r) * sizeof(float);
            left[r] += r == p->rank ? 0 : is_read(coll, root, count, n, r, p->rank) * sizeof(float);
            if (after[r].recv_bytes - before[r].recv_bytes == want) continue;
            fprintf(stderr,
                    "rank %d of %d, collective %d, root %d, %zu elements: %llu bytes of rank %d, should be %zu\n",
                    p->rank, n, (int)coll, root, count,
                    (unsigned long long)(after[r].recv_bytes - before[r].recv_bytes), r, want);
            return 1;
        }
    }
    ranks_meet(p->w, 1);
    OK(peers_of(p->comm, after, n));
    for (int r = 0; r < n; r++) CHECK(after[r].sent_bytes - first[r].sent_bytes == left[r]);
    home_free(in);
    home_free(out);
    return 0;
}

/* ---- running them ---- */

static const struct test {
    const char *name;
    int (*run)(struct place *p);
    bool kills; /* rank 1; not with threads */
    bool apart; /* not among all */
} tests[] = {
    {"every", every, false, false},       {"bits", bits, false, false},
    {"bytes", bytes, false, false},       {"streams", streams, false, false},
    {"in_order", in_order, false, false}, {"children", children, false, false},
    {"late", late, false, false},         {"mismatch", mismatch, false, false},
    {"killed", killed, true, false},      {"namespaces", namespaces, false, true},
};

static int run_one(struct ranks_world *w, int rank, void *arg)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    const struct test *t = arg;
    struct place p = {.w = w, .rank = rank, .n = w->nranks};
    struct mdl_config cfg;

    if (fault && rank == 1) setenv("EMUL_FAULT", fault, 1);
    config.device = home_name(rank);
    OK(home_enter(config.device, true));
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, config.device, &p.dev));
    OK(ranks_comm(w, rank, &config, &p.comm));
    ranks_meet(w, 0);
    CHECK(t->run(&p) == 0);
    if (!t->kills) ranks_meet(w, 15);
    if (p.comm) OK(medleyCommDestroy(p.comm));
    home_leave();
    return 0;
}

static bool is_asked(const struct test *t, int argc, char **argv)
{
    bool all = optind == argc && !t->apart;

    for (int i = optind; i < argc; i++)
        if (strcmp(argv[i], t->name) == 0) return true;
    return all;
}

static int run_test(const struct test *t, int n, bool threads)
{
    int status[MOST_RANKS] = {0}, failed;

    if (t->kills && threads) return 0;
    failed = ranks_run(n, threads, run_one, (void *)(uintptr_t)t, 60, status);
    if (t->kills && n > 1) failed -= status[1] == -SIGKILL;
    printf("%s: %s\n", t->name, failed ? "FAILED" : "ok");
    return failed != 0;
}

/* Ranks of several processes need the vendor's IPC to read each other's memory. Looked for in a child, since runtimes do
 * not survive a fork. */
static bool lets_others_read(const char *name)
{
    struct mdl_config cfg;
    struct mdl_dev dev;
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (mdl_config_load(&cfg) != medleySuccess || mdl_dev_find(&cfg, name, &dev) != medleySuccess || !dev.ops)
            _exit(0); /* the ranks say why */
        _exit(!(dev.caps & MDL_DEV_IPC));
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status == 0) return true;
    printf("skipped: %s has no IPC, and processes cannot read each other's memory without it (-t: threads can)\n", name);
    return false;
}

int main(int argc, char **argv)
{
    bool threads = false;
    int n = 3, failed = 0, o;

    while ((o = getopt(argc, argv, "n:tx:f:")) != -1) {
        if (o == 'n') n = atoi(optarg);
        if (o == 't') threads = true;
        if (o == 'x') path = *optarg == 'd' ? DIRECT : *optarg == 'm' ? MOVES : STAGED;
        if (o == 'f') fault = optarg;
        if (o == '?') return 2;
    }
    if (n < 2 || n > MOST_RANKS) return 2;
    if (!getenv("MDL_TEST_DEVICES")) {
        printf("skipped: MDL_TEST_DEVICES names no devices\n");
        return 77;
    }
    if (path != STAGED && !threads && !lets_others_read(home_name(0))) return 77;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (is_asked(&tests[i], argc, argv)) failed += run_test(&tests[i], n, threads);
    return failed != 0;
}
