/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small collectives with a root inside a host. Who needs nothing of the others runs ahead of them, by as much as the
 * ring of lines holds; results, the order among calls, errors and goodbyes are as if all had met.
 */
#include "config.h"

#include "tests/api/scenes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 4096, AHEAD = 5, DEPTH = 32 }; /* elements; calls ahead that there is room for, whatever the size */

static const size_t counts[] = {1, 2, 60, 200, 900}; /* of int: in the line, and in rooms of each size */
enum { COUNTS = sizeof(counts) / sizeof(counts[0]) };

/* What rank `rank` sends as element i of call `call`. */
static int value(int call, int rank, size_t i) { return call * 1000003 + rank * 10007 + (int)i; }

struct buffers {
    int in[MOST * 4], out[MOST * 4];
};

static void fill(struct buffers *b, int call, int rank, size_t count)
{
    for (size_t i = 0; i < count; i++) b->in[i] = value(call, rank, i);
    memset(b->out, 0, sizeof(b->out));
}

static int expected(int coll, int call, int n, int rank, int root, size_t count, size_t i)
{
    int sum = 0;

    switch (coll) {
    case medleyCollBroadcast: return value(call, root, i);
    case medleyCollScatter: return value(call, root, (size_t)rank * count + i);
    case medleyCollGather: return value(call, (int)(i / count), i % count);
    default: break;
    }
    for (int r = 0; r < n; r++) sum = (int)((unsigned)sum + (unsigned)value(call, r, i));
    return sum;
}

static int run(struct buffers *b, int coll, int call, int n, int rank, int root, size_t count, medleyComm_t comm)
{
    size_t results = count;

    fill(b, call, rank, coll == medleyCollScatter ? count * (size_t)n : count);
    switch (coll) {
    case medleyCollBroadcast: OK(medleyBroadcast(b->in, b->out, count, medleyInt32, root, comm, NULL)); break;
    case medleyCollScatter: OK(medleyScatter(b->in, b->out, count, medleyInt32, root, comm, NULL)); break;
    case medleyCollGather: OK(medleyGather(b->in, b->out, count, medleyInt32, root, comm, NULL)); break;
    case medleyCollReduce: OK(medleyReduce(b->in, b->out, count, medleyInt32, medleySum, root, comm, NULL)); break;
    default: OK(medleyAllReduce(b->in, b->out, count, medleyInt32, medleySum, comm, NULL)); break;
    }
    if (coll == medleyCollGather) results *= (size_t)n;
    if ((coll == medleyCollGather || coll == medleyCollReduce) && rank != root) results = 0;
    for (size_t i = 0; i < results; i++) CHECK(b->out[i] == expected(coll, call, n, rank, root, count, i));
    return 0;
}

/* ---- running ahead ---- */

/* Rank 0 is done with its calls before any other rank has made its first: else this would not end. */
static int ahead_in(struct ranks_world *w, int rank, medleyComm_t comm, const int *colls, int ncolls, int root,
                    int point)
{
    struct buffers *b = malloc(sizeof(*b));
    int failed = b == NULL;

    for (int k = 0; k < COUNTS * ncolls && !failed; k++) {
        if (rank) ranks_meet(w, point + k);
        for (int i = 0; i < AHEAD && !failed; i++)
            failed = run(b, colls[k % ncolls], i, w->nranks, rank, root, counts[k / ncolls], comm);
        if (!rank) ranks_meet(w, point + k);
        if (!failed) OK(medleyBarrier(comm, NULL));
    }
    free(b);
    return failed;
}

static int root_runs_ahead(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const int colls[] = {medleyCollBroadcast, medleyCollScatter};

    return ahead_in(w, rank, comm, colls, 2, 0, 1);
}

static int leaf_runs_ahead(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const int colls[] = {medleyCollGather, medleyCollReduce};

    return ahead_in(w, rank, comm, colls, 2, 1, 1);
}

/* Many more calls than the ring holds, behind a root that waits for nobody. */
static int ring_comes_round(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct buffers *b = malloc(sizeof(*b));
    int failed = b == NULL;

    for (int i = 0; i < scene_rounds(20 * DEPTH) && !failed; i++) {
        if (rank == 1 && i % 50 == 49) scene_sleep_ms(1);
        failed = run(b, i / 100 % 2 ? medleyCollGather : medleyCollBroadcast, i, w->nranks, rank, 0,
                     counts[(unsigned)i / 7 % COUNTS], comm);
    }
    free(b);
    return failed;
}

/* Every kind behind every other, with changing roots, and large calls that need a plan between. */
static int any_order(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const int colls[] = {medleyCollBroadcast, medleyCollGather, medleyCollReduce, medleyCollScatter,
                                medleyCollAllReduce};
    struct buffers *b = malloc(sizeof(*b));
    unsigned state = 5, own = (unsigned)rank + 1;
    int failed = b == NULL;

    for (int i = 0; i < scene_rounds(3000) && !failed; i++) {
        int coll = colls[scene_random(&state) % 5], root = (int)(scene_random(&state) % (unsigned)w->nranks);
        size_t count = counts[scene_random(&state) % COUNTS];

        if (scene_random(&state) % 40 == 0) count = MOST;
        if (scene_random(&own) % 300 == 0) scene_sleep_ms(0.5);
        failed = run(b, coll, i, w->nranks, rank, root, count, comm);
    }
    free(b);
    return failed;
}

/* The same on streams, where another thread runs them. */
static int ahead_on_streams(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int data[DEPTH * 3];
    void *stream;

    OK(medleyStreamCreate(&stream));
    for (int i = 0; i < DEPTH * 3; i++) {
        data[i] = rank == 0 ? value(i, 0, 0) : 0;
        OK(medleyBcast(&data[i], 1, medleyInt32, 0, comm, stream));
    }
    OK(medleyStreamSynchronize(stream));
    OK(medleyStreamDestroy(stream));
    for (int i = 0; i < DEPTH * 3; i++) CHECK(data[i] == value(i, 0, 0));
    return 0;
}

/* ---- what does not match ---- */

/* Ranks 0 and 1 both take themselves for the root: each must learn of it before its ring has come round. */
static int two_roots(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;
    int data = 0, calls = 0;

    (void)w;
    while (res == medleySuccess && calls++ < 2 * DEPTH) res = medleyBcast(&data, 1, medleyInt32, rank == 1, comm, NULL);
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "root 0") && api_says(comm, "root 1") && api_says(comm, "#1 "));
    return 0;
}

/* Nobody takes itself for the root. */
static int no_root(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;
    int data = 0, all[8], calls = 0;

    (void)w;
    while (res == medleySuccess && calls++ < 2 * DEPTH)
        res = medleyGather(&data, all, 1, medleyInt32, rank == 0, comm, NULL);
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "root 0") && api_says(comm, "root 1"));
    return 0;
}

/* What a rank takes has been compared: nobody gets data of another count. */
static int wrong_count(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int data[4] = {-1, -1, -1, -1};
    medleyResult_t res;

    OK(medleyBcast(data, 2, medleyInt32, 0, comm, NULL));
    memset(data, rank ? 0 : 7, sizeof(data));
    res = medleyBcast(data, rank == w->nranks - 1 ? 1 : 4, medleyInt32, 0, comm, NULL);
    if (rank == w->nranks - 1) CHECK(res == medleyInvalidUsage && data[0] == 0);
    if (res == medleySuccess) res = api_state_after(comm, medleySuccess, 4);
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "Broadcast(1 x") && api_says(comm, "Broadcast(4 x"));
    return 0;
}

/* The call that meets names the first difference, not its own. */
static int found_when_all_meet(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int data = 0, sum = 0;
    medleyResult_t res;

    (void)w;
    OK(medleyBcast(&data, 1, medleyInt32, 0, comm, NULL));
    res = medleyReduce(&data, &sum, 1, medleyInt32, rank == 1 ? medleyMax : medleySum, w->nranks - 1, comm, NULL);
    for (int i = 0; i < 3 && res == medleySuccess; i++) res = medleyBcast(&data, 1, medleyInt32, 0, comm, NULL);
    if (res == medleySuccess) res = medleyAllReduce(&data, &sum, 1, medleyInt32, medleySum, comm, NULL);
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "Reduce(1 x int32, max") && api_says(comm, "Reduce(1 x int32, sum") && api_says(comm, "#2"));
    return 0;
}

/* Nobody calls anything more: the audit finds it. */
static int found_by_the_audit(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int data = 0;
    medleyResult_t res = medleyBcast(&data, 1, medleyInt32, rank == 1, comm, NULL);

    (void)w;
    if (res == medleySuccess) res = api_state_after(comm, medleySuccess, 4);
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "root 0") && api_says(comm, "root 1"));
    return 0;
}

/* ---- who leaves, who is late ---- */

/* The root is gone, its process too, before the others call. */
static int root_leaves(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct buffers *b = malloc(sizeof(*b));
    int failed = b == NULL;

    if (rank) ranks_meet(w, 1);
    for (int i = 0; i < AHEAD && !failed; i++)
        failed = run(b, medleyCollBroadcast, i, w->nranks, rank, 0, counts[(size_t)i % COUNTS], comm);
    free(b);
    OK(medleyCommDestroy(comm));
    if (!rank) ranks_meet(w, 1);
    return failed;
}

/* All but the root of a gather. */
static int leaves_leave(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct buffers *b = malloc(sizeof(*b));
    int failed = b == NULL;

    if (!rank) ranks_meet(w, 1);
    for (int i = 0; i < AHEAD && !failed; i++)
        failed = run(b, medleyCollGather, i, w->nranks, rank, 0, counts[(size_t)i % COUNTS], comm);
    free(b);
    OK(medleyCommDestroy(comm));
    if (rank) ranks_meet(w, 1);
    return failed;
}

/* Who has left and owes a call is an error and no hang, also for who only waits for room. */
static int one_leaves_early(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;
    int data = 0;

    (void)w;
    if (rank == 1) {
        OK(medleyBcast(&data, 1, medleyInt32, 0, comm, NULL));
        OK(medleyCommDestroy(comm));
        return 0;
    }
    for (int i = 0; i < 3 * DEPTH && res == medleySuccess; i++) res = medleyBcast(&data, 1, medleyInt32, 0, comm, NULL);
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "rank 1 (host") && api_says(comm, "has destroyed its communicator"));
    OK(medleyCommAbort(comm));
    return 0;
}

/* The ring is full, and stays so: an abort ends the wait. */
static int abort_with_full_ring(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;
    int data = 0;

    if (rank == w->nranks - 1) {
        ranks_meet(w, 1);
        scene_sleep_ms(20);
        OK(medleyCommAbort(comm));
        return 0;
    }
    for (int i = 0; i < DEPTH - 2; i++) OK(medleyBcast(&data, 1, medleyInt32, 0, comm, NULL));
    ranks_meet(w, 1);
    for (int i = 0; i < DEPTH && res == medleySuccess; i++) res = medleyBcast(&data, 1, medleyInt32, 0, comm, NULL);
    CHECK(res == medleyRemoteError);
    CHECK(api_says(comm, "aborted"));
    OK(medleyCommAbort(comm));
    return 0;
}

static int full_ring_names_who_is_late(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;
    int data = 0;

    if (rank == 1) return api_state_after(comm, medleySuccess, 10) != medleyTimeout;
    for (int i = 0; i < 3 * DEPTH && res == medleySuccess; i++) res = medleyBcast(&data, 1, medleyInt32, 0, comm, NULL);
    CHECK(res == medleyTimeout);
    CHECK(api_says(comm, "for rank 1 (host") && api_says(comm, "rank 1 (host"));
    (void)w;
    return 0;
}

/* A rank that computes for a while is waited for, asleep, and then all goes on. */
static int sleeps_until_there_is_room(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int data = 0;

    (void)w;
    for (int i = 0; i < 6 * DEPTH; i++) {
        if (rank == 1 && i % (2 * DEPTH) == 3) scene_sleep_ms(30);
        data = rank ? 0 : i;
        OK(medleyBcast(&data, 1, medleyInt32, 0, comm, NULL));
        CHECK(data == i);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct api_scene scenes[] = {
        {"root_runs_ahead", root_runs_ahead, 0, NULL},
        {"leaf_runs_ahead", leaf_runs_ahead, 0, NULL},
        {"ring_comes_round", ring_comes_round, 0, NULL},
        {"any_order", any_order, 0, NULL},
        {"ahead_on_streams", ahead_on_streams, 0, NULL},
        {"two_roots", two_roots, FATAL, NULL},
        {"no_root", no_root, FATAL, NULL},
        {"wrong_count", wrong_count, FATAL, NULL},
        {"found_when_all_meet", found_when_all_meet, FATAL, NULL},
        {"found_by_the_audit", found_by_the_audit, FATAL, NULL},
        {"root_leaves", root_leaves, GONE, NULL},
        {"leaves_leave", leaves_leave, GONE, NULL},
        {"one_leaves_early", one_leaves_early, GONE, NULL},
        {"abort_with_full_ring", abort_with_full_ring, GONE, NULL},
        {"sleeps_until_there_is_room", sleeps_until_there_is_room, 0, NULL},
        {"full_ring_names_who_is_late", full_ring_names_who_is_late, FATAL | BY_NAME, NULL},
    };

    return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
