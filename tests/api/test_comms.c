/* SPDX-License-Identifier: Apache-2.0 */
/* How communicators begin, what can be asked about them, and how they end. */
#include "config.h"

#include "tests/api/scenes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- version and ids ---- */

static int version(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int v = 0;

    (void)w;
    OK(medleyGetVersion(&v));
    CHECK(v == MEDLEY_VERSION_CODE);
    CHECK(v == 10000 * MEDLEY_MAJOR + 100 * MEDLEY_MINOR + MEDLEY_PATCH);
    FAILS(medleyGetVersion(NULL), medleyInvalidArgument, "version");
    return 0;
}

enum { ID_THREADS = 4, IDS_EACH = 8 };
static medleyUniqueId made[ID_THREADS][IDS_EACH];

static void *make_ids(void *arg)
{
    medleyUniqueId *ids = arg;

    for (int i = 0; i < IDS_EACH; i++) {
        if (medleyGetUniqueId(&ids[i]) != medleySuccess) return ids;
    }
    return NULL;
}

static int unique_ids(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const medleyUniqueId *all = &made[0][0];
    pthread_t threads[ID_THREADS];
    void *failed;

    (void)w;
    for (int t = 0; t < ID_THREADS; t++) CHECK(pthread_create(&threads[t], NULL, make_ids, made[t]) == 0);
    for (int t = 0; t < ID_THREADS; t++) {
        pthread_join(threads[t], &failed);
        CHECK(!failed);
    }
    for (int i = 0; i < ID_THREADS * IDS_EACH; i++) {
        for (int j = 0; j < i; j++) CHECK(memcmp(&all[i], &all[j], sizeof(*all)) != 0);
    }
    FAILS(medleyGetUniqueId(NULL), medleyInvalidArgument, "id is NULL");
    return 0;
}

/* ---- creation ---- */

#define BAD ((medleyComm_t)(uintptr_t)64) /* something that an error must overwrite with NULL */

static int bad_creation(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c = BAD;
    medleyUniqueId id, wrong = {{0}};

    (void)w;
    OK(medleyGetUniqueId(&id));
    FAILS(medleyCommInitRank(NULL, 1, id, 0), medleyInvalidArgument, "comm is NULL");
    FAILS(medleyCommInitRank(&c, 0, id, 0), medleyInvalidArgument, "0 ranks");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommInitRank(&c, 2, id, 2), medleyInvalidArgument, "rank 2");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommInitRank(&c, 2, id, -1), medleyInvalidArgument, "rank -1");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommInitRank(&c, 1, wrong, 0), medleyInvalidArgument, "medleyGetUniqueId");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommInitRankScalable(&c, 2, 0, 3, &id, NULL), medleyInvalidArgument, "3 ids");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommInitRankScalable(&c, 2, 0, 1, NULL, NULL), medleyInvalidArgument, "ids");
    CHECK(c == NULL);
    FAILS(medleyCommInitAll(NULL, 2, NULL), medleyInvalidArgument, "2 communicators");
    FAILS(medleyCommInitAll(&c, 0, NULL), medleyInvalidArgument, "0 communicators");
    OK(medleyCommInitRank(&c, 1, id, 0)); /* none of them has used the id up */
    CHECK(api_works(rank, c) == 0);
    OK(medleyCommDestroy(c));
    return 0;
}

static int used_id(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyComm_t c, again = BAD;

    (void)w;
    config.init_timeout_ms = 300;
    OK(medleyGetUniqueId(&id));
    OK(medleyCommInitRank(&c, 1, id, 0));
    CHECK(medleyCommInitRankConfig(&again, 1, id, 0, &config) != medleySuccess);
    CHECK(again == NULL);
    CHECK(api_says(NULL, "used"));
    CHECK(api_works(rank, c) == 0);
    OK(medleyCommDestroy(c));
    return 0;
}

/* Each with as many ids as it says, made by as many ranks. */
static int scalable(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyUniqueId ids[3];

    for (int nid = 1; nid <= 3; nid++) { /* an id is used once: slots 0, 1 and 2, then 3 .. 5 */
        for (int i = 0; i < nid; i++) OK(api_share_id(w, rank, nid * (nid - 1) / 2 + i, &ids[i]));
        OK(medleyCommInitRankScalable(&comm, w->nranks, rank, nid, ids, NULL));
        CHECK(api_works(rank, comm) == 0);
        OK(medleyCommDestroy(comm));
    }
    return 0;
}

enum { ALL = 5 };

static void *one_of_all(void *arg)
{
    medleyComm_t c = *(medleyComm_t *)arg;
    int one = 1, sum = 0;

    return medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c, NULL) == medleySuccess && sum == ALL ? NULL : arg;
}

static int init_all(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const int doubled[ALL] = {0, 0, 7, 7, -3}; /* ordinals mean nothing on hosts */
    medleyComm_t comms[ALL];
    pthread_t threads[ALL];
    int one = 1, sums[ALL] = {0}, number;
    void *failed;

    (void)w;
    OK(medleyCommInitAll(comms, ALL, NULL));
    for (int i = 0; i < ALL; i++) CHECK(pthread_create(&threads[i], NULL, one_of_all, &comms[i]) == 0);
    for (int i = 0; i < ALL; i++) {
        pthread_join(threads[i], &failed);
        CHECK(!failed);
        OK(medleyCommUserRank(comms[i], &number));
        CHECK(number == i);
        OK(medleyCommDestroy(comms[i]));
    }
    OK(medleyCommInitAll(comms, ALL, doubled));
    OK(medleyGroupStart()); /* one thread for all */
    for (int i = 0; i < ALL; i++) OK(medleyAllReduce(&one, &sums[i], 1, medleyInt32, medleySum, comms[i], NULL));
    OK(medleyGroupEnd());
    for (int i = 0; i < ALL; i++) {
        CHECK(sums[i] == ALL);
        OK(medleyCommDestroy(comms[i]));
    }
    return 0;
}

static int init_all_in_group(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t comms[2] = {BAD, BAD};

    (void)w;
    OK(medleyGroupStart());
    OK(medleyCommInitAll(comms, 2, NULL));
    CHECK(comms[0] == NULL); /* nothing starts before the end */
    OK(medleyGroupEnd());
    CHECK(comms[0] != NULL && comms[1] != NULL);
    OK(medleyCommDestroy(comms[0]));
    OK(medleyCommDestroy(comms[1]));
    OK(medleyGroupStart());
    CHECK(medleyCommInitAll(comms, -1, NULL) == medleyInvalidArgument);
    CHECK(medleyGroupEnd() == medleyInvalidArgument);
    return 0;
}

/* ---- ranks that disagree ---- */

static medleyResult_t init_soon(struct ranks_world *w, int rank, int nranks, int as, medleyComm_t *c)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyResult_t res = api_share_id(w, rank, 0, &id);

    config.init_timeout_ms = (int)(5000 * scene_slack());
    return res == medleySuccess ? medleyCommInitRankConfig(c, nranks, id, as, &config) : res;
}

static int duplicate_rank(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c = BAD;
    double start = scene_now();

    CHECK(init_soon(w, rank, w->nranks, rank == w->nranks - 1 ? 0 : rank, &c) != medleySuccess);
    CHECK(c == NULL);
    CHECK(api_says(NULL, "rank 0"));
    CHECK(scene_now() - start < 4 * scene_slack());
    ranks_meet(w, 1); /* the process that made the id explains it to the late ones, while it lives */
    return 0;
}

static int different_nranks(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c = BAD;
    char both[2][16];
    double start = scene_now();
    int n = w->nranks;

    CHECK(init_soon(w, rank, rank == n - 1 ? n + 1 : n, rank, &c) != medleySuccess);
    CHECK(c == NULL);
    snprintf(both[0], sizeof(both[0]), "%d", n);
    snprintf(both[1], sizeof(both[1]), "%d", n + 1);
    CHECK(api_says(NULL, both[0]) && api_says(NULL, both[1]));
    CHECK(scene_now() - start < 4 * scene_slack());
    ranks_meet(w, 1);
    return 0;
}

static int missing_rank(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyComm_t c = BAD;
    int last = w->nranks - 1;
    char name[16];

    OK(api_share_id(w, rank, 0, &id));
    config.init_timeout_ms = (int)(400 * scene_slack());
    if (rank != last) {
        CHECK(medleyCommInitRankConfig(&c, w->nranks, id, rank, &config) != medleySuccess);
        CHECK(c == NULL);
        snprintf(name, sizeof(name), "%d", last);
        CHECK(api_says(NULL, "missing") && api_says(NULL, name));
    }
    ranks_meet(w, 1); /* rank 0 owns the meeting point */
    return 0;
}

/* ---- non-blocking ---- */

static medleyResult_t start_making(struct ranks_world *w, int rank, int slot, medleyComm_t *c)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyResult_t res = api_share_id(w, rank, slot, &id);

    config.blocking = 0;
    return res == medleySuccess ? medleyCommInitRankConfig(c, w->nranks, id, rank, &config) : res;
}

static int non_blocking(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c = NULL;
    medleyResult_t res;
    int one = 1, sum = 0, count = 0;
    medleyCommStats_t stats = {.size = sizeof(stats)};
    medleyRankInfo_t info = {.size = sizeof(info)};

    if (rank == w->nranks - 1) ranks_meet(w, 1); /* the others look at theirs while it cannot be ready */
    CHECK(start_making(w, rank, 0, &c) == medleyInProgress);
    CHECK(c != NULL);
    if (rank != w->nranks - 1) {
        OK(medleyCommGetAsyncError(c, &res));
        CHECK(res == medleyInProgress);
        OK(medleyCommCount(c, &count));
        CHECK(count == w->nranks);
        FAILS(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c, NULL), medleyInvalidUsage, "still being made");
        FAILS(medleyCommGetInfo(c, 0, &info), medleyInvalidUsage, "still being made");
        FAILS(medleyCommGetStats(c, &stats), medleyInvalidUsage, "still being made");
        FAILS(medleyCommFinalize(c), medleyInvalidUsage, "still being made");
        FAILS(medleyCommRevoke(c, 0), medleyInvalidUsage, "still being made");
        ranks_meet(w, 1);
    }
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c, NULL);
    CHECK(res == medleySuccess || res == medleyInProgress);
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    CHECK(sum == w->nranks);
    res = medleyCommFinalize(c);
    CHECK(res == medleySuccess || res == medleyInProgress);
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    OK(medleyCommDestroy(c));
    return 0;
}

/* All but the last give up on a communicator that cannot become ready. */
static int abort_while_starting(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c = NULL;
    double start = scene_now();

    if (rank != w->nranks - 1) {
        CHECK(start_making(w, rank, 0, &c) == medleyInProgress);
        OK(rank % 2 ? medleyCommDestroy(c) : medleyCommAbort(c));
        CHECK(scene_now() - start < 3 * scene_slack());
    }
    ranks_meet(w, 1);
    CHECK(start_making(w, rank, 1, &c) == medleyInProgress);
    CHECK(api_state_after(c, medleyInProgress, 20) == medleySuccess);
    OK(medleyCommDestroy(c));
    return 0;
}

/* An error of creation in the background is the communicator's state. */
static int failing_in_background(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyUniqueId id;
    medleyComm_t c = NULL;
    int one = 1, sum = 0;

    (void)w;
    config.blocking = 0;
    config.init_timeout_ms = (int)(200 * scene_slack());
    OK(medleyGetUniqueId(&id));
    CHECK(medleyCommInitRankConfig(&c, 2, id, 0, &config) == medleyInProgress);
    CHECK(api_state_after(c, medleyInProgress, 20) == medleyTimeout);
    CHECK(api_says(c, "missing"));
    CHECK(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, c, NULL) == medleyTimeout);
    CHECK(medleyCommFinalize(c) == medleyTimeout);
    OK(medleyCommDestroy(c));
    return 0;
}

/* ---- questions ---- */

static int questions(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyRankInfo_t info = {.size = sizeof(info)};
    const char *transport = getenv("MEDLEY_TRANSPORT");
    bool shm = !transport || strstr(transport, "shm");
    int v = -1;
    medleyResult_t state;

    OK(medleyCommCount(comm, &v));
    CHECK(v == w->nranks);
    OK(medleyCommUserRank(comm, &v));
    CHECK(v == rank);
    for (int r = 0; r < w->nranks; r++) {
        OK(medleyCommGetInfo(comm, r, &info));
        CHECK(info.size == sizeof(info) && info.rank == r);
        if (shm) CHECK(info.island == 0 && info.local_rank == r);
        if (!shm) CHECK(info.island == r && info.local_rank == r); /* on one host, but apart */
        CHECK(info.pid > 0 && (r != rank || info.pid == getpid()));
        CHECK(info.host[0] && info.arch[0] && strcmp(info.vendor, "host") == 0 && strcmp(info.device, "host") == 0);
        CHECK((strcmp(info.transport, "self") == 0) == (r == rank));
    }
    info.size = offsetof(medleyRankInfo_t, vendor); /* of an older caller: what lies beyond stays */
    memset(info.vendor, 'x', sizeof(info.vendor));
    OK(medleyCommGetInfo(comm, 0, &info));
    CHECK(info.size == offsetof(medleyRankInfo_t, vendor) && info.vendor[0] == 'x');
    info.size = 0;
    FAILS(medleyCommGetInfo(comm, 0, &info), medleyInvalidArgument, "size");
    info.size = sizeof(info);
    FAILS(medleyCommGetInfo(comm, w->nranks, &info), medleyInvalidArgument, "is not a rank");
    FAILS(medleyCommGetInfo(comm, -1, &info), medleyInvalidArgument, "is not a rank");
    FAILS(medleyCommGetInfo(comm, 0, NULL), medleyInvalidArgument, "info is NULL");
    FAILS(medleyCommCount(comm, NULL), medleyInvalidArgument, "count");
    FAILS(medleyCommUserRank(comm, NULL), medleyInvalidArgument, "rank");
    FAILS(medleyCommGetAsyncError(comm, NULL), medleyInvalidArgument, "async_error");
    FAILS(medleyCommCount(NULL, &v), medleyInvalidArgument, "communicator is NULL");
    FAILS(medleyCommUserRank(NULL, &v), medleyInvalidArgument, "communicator is NULL");
    FAILS(medleyCommGetAsyncError(NULL, &state), medleyInvalidArgument, "communicator is NULL");
    FAILS(medleyCommGetInfo(NULL, 0, &info), medleyInvalidArgument, "communicator is NULL");
    OK(medleyCommGetAsyncError(comm, &state));
    CHECK(state == medleySuccess);
    return 0;
}

/* A new thread has no error yet; then its own. */
static void *error_of_thread(void *comm)
{
    medleyRankInfo_t info = {.size = sizeof(info)};

    if (medleyGetLastError(NULL)[0]) return comm;
    if (medleyCommGetInfo(comm, 111, &info) != medleyInvalidArgument) return comm;
    return strstr(medleyGetLastError(NULL), "111") ? NULL : comm;
}

/* The words of an error: of each communicator its own, of each thread its own. */
static int last_error(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t other;
    medleyRankInfo_t info = {.size = sizeof(info)};
    const char *kept;
    pthread_t thread;
    void *failed;
    int v;

    CHECK(medleyGetLastError(comm)[0] == 0);
    OK(medleyCommSplit(comm, 0, rank, &other, NULL));
    CHECK(medleyCommGetInfo(comm, 77, &info) == medleyInvalidArgument);
    CHECK(medleyCommGetInfo(other, 88, &info) == medleyInvalidArgument);
    CHECK(api_says(comm, "77") && api_says(other, "88") && api_says(NULL, "88"));
    CHECK(medleyCommCount(comm, NULL) == medleyInvalidArgument);
    CHECK(api_says(comm, "count is NULL") && api_says(other, "88"));
    kept = medleyGetLastError(NULL);
    CHECK(medleyCommGetInfo(other, 99, &info) == medleyInvalidArgument);
    CHECK(strstr(kept, "count is NULL")); /* valid until the next call of medleyGetLastError */
    OK(medleyCommCount(comm, &v));
    CHECK(api_says(NULL, "99")); /* success clears nothing */
    CHECK(pthread_create(&thread, NULL, error_of_thread, other) == 0);
    pthread_join(thread, &failed);
    CHECK(!failed && api_says(NULL, "99") && api_says(other, "111"));
    OK(medleyCommDestroy(other));
    (void)w;
    return 0;
}

/* ---- split ---- */

static int split_invalid(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t c = BAD;

    (void)w;
    config.threads = -5;
    FAILS(medleyCommSplit(comm, 0, 0, NULL, NULL), medleyInvalidArgument, "newcomm");
    FAILS(medleyCommSplit(comm, -2, 0, &c, NULL), medleyInvalidArgument, "color -2");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommSplit(comm, 0, 0, &c, &config), medleyInvalidArgument, "threads");
    CHECK(c == NULL);
    c = BAD;
    FAILS(medleyCommSplit(NULL, 0, 0, &c, NULL), medleyInvalidArgument, "communicator is NULL");
    CHECK(c == NULL);
    return api_works(rank, comm);
}

/* Halves again and again, each in reverse order; the parents stay usable. */
static int split_nested(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t chain[8] = {comm};
    int depth = 0, n = w->nranks, me = rank, v;

    while (n > 1) {
        OK(medleyCommSplit(chain[depth], me >= n / 2, -me, &chain[depth + 1], NULL));
        v = me >= n / 2 ? n - 1 - me : n / 2 - 1 - me;
        n = me >= n / 2 ? n - n / 2 : n / 2;
        me = v;
        depth++;
        OK(medleyCommUserRank(chain[depth], &v));
        CHECK(v == me);
        OK(medleyCommCount(chain[depth], &v));
        CHECK(v == n);
        CHECK(api_works(rank, chain[depth]) == 0);
    }
    for (int d = 1; d <= depth; d++) OK(medleyCommDestroy(chain[d])); /* parents before children */
    return 0;
}

/* All have no color; equal keys keep the parent's order; keys at the ends of their range. */
static int split_keys(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c = BAD;
    int v;

    OK(medleyCommSplit(comm, MEDLEY_SPLIT_NOCOLOR, 0, &c, NULL));
    CHECK(c == NULL);
    OK(medleyCommSplit(comm, INT_MAX, 7, &c, NULL));
    OK(medleyCommUserRank(c, &v));
    CHECK(v == rank);
    OK(medleyCommDestroy(c));
    OK(medleyCommSplit(comm, 0, rank == 0 ? INT_MAX : rank == 1 ? INT_MIN : 0, &c, NULL));
    OK(medleyCommUserRank(c, &v));
    CHECK(v == (rank == 0 ? w->nranks - 1 : rank == 1 ? 0 : rank - 1));
    CHECK(api_works(rank, c) == 0);
    OK(medleyCommDestroy(c));
    return 0;
}

/* The child takes its parent's settings, or those that it is given. */
static int split_config(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t child, grandchild;
    medleyResult_t res;
    int one = 1, sum = 0;

    config.timeout_ms = (int)(300 * scene_slack());
    config.comm_name = "inherited";
    OK(medleyCommSplit(comm, 0, rank, &child, &config));
    OK(medleyCommSplit(child, 0, rank, &grandchild, NULL));
    CHECK(api_works(rank, grandchild) == 0);
    if (rank == 0) {
        res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, grandchild, NULL);
        CHECK(res == medleyTimeout);
    }
    ranks_meet(w, 1);
    OK(medleyCommAbort(grandchild));
    CHECK(api_works(rank, child) == 0); /* a child's failure is its own */
    OK(medleyCommDestroy(child));
    config = (medleyConfig_t)MEDLEY_CONFIG_INITIALIZER;
    config.blocking = 0;
    OK(medleyCommSplit(comm, 0, rank, &child, &config));
    CHECK(api_state_after(child, medleyInProgress, 20) == medleySuccess);
    CHECK(medleyCommSplit(child, 0, rank, &grandchild, NULL) == medleyInProgress);
    CHECK(api_state_after(child, medleyInProgress, 20) == medleySuccess);
    CHECK(grandchild != NULL);
    res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, grandchild, NULL);
    CHECK(res == medleyInProgress); /* not blocking either */
    CHECK(api_state_after(grandchild, medleyInProgress, 20) == medleySuccess && sum == w->nranks);
    OK(medleyCommDestroy(grandchild));
    OK(medleyCommDestroy(child));
    return 0;
}

/* A child that cannot be made: an error on all its ranks, and the parent is as it was. */
static int split_fails(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t c = BAD;
    medleyResult_t state;

    (void)w;
    config.deterministic = rank == 1;
    FAILS(medleyCommSplit(comm, 0, rank, &c, &config), medleyInvalidUsage, "MEDLEY_DETERMINISTIC");
    CHECK(c == NULL);
    CHECK(api_works(rank, comm) == 0);
    config = (medleyConfig_t)MEDLEY_CONFIG_INITIALIZER;
    config.transports = "self";
    c = BAD;
    CHECK(medleyCommSplit(comm, 0, rank, &c, &config) != medleySuccess);
    CHECK(c == NULL && api_says(NULL, "MEDLEY_TRANSPORT is self"));
    OK(medleyCommGetAsyncError(comm, &state));
    CHECK(state == medleySuccess);
    return api_works(rank, comm);
}

/* One rank does not take part: for want of a right argument, when the deadline has passed, or since it calls something
 * else, the communicator has failed on all. */
static int split_alone(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER, wrong = MEDLEY_CONFIG_INITIALIZER;
    medleyComm_t p, c = BAD;
    medleyResult_t res;

    wrong.threads = -1;
    config.init_timeout_ms = (int)(400 * scene_slack());
    for (int k = 0; k < 3; k++) {
        OK(medleyCommSplit(comm, 0, rank, &p, &config));
        if (rank == 1 && k == 0) FAILS(medleyCommSplit(p, 0, 0, &c, &wrong), medleyInvalidArgument, "threads");
        if (rank == 1)
            res = k ? medleyBarrier(p, NULL) : api_state_after(p, medleySuccess, 20);
        else if (k == 2)
            res = medleyCommWindowRegister(p, w, 64, &(medleyWindow_t){NULL}, 0);
        else
            res = medleyCommSplit(p, 0, rank, &c, NULL);
        CHECK(res == (k ? medleyInvalidUsage : medleyTimeout));
        CHECK(api_says(p, k == 2 ? "WindowRegister(64 bytes)" : "Split(color 0"));
        CHECK(medleyBarrier(p, NULL) == res);
        CHECK(medleyCommSplit(p, 0, rank, &c, NULL) == res && c == NULL);
        ranks_meet(w, 1 + k);
        OK(medleyCommDestroy(p));
    }
    return api_works(rank, comm);
}

/* ---- shrink and revoke ---- */

static int shrink_invalid(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int own = rank, twice[2] = {(rank + 1) % w->nranks, (rank + 1) % w->nranks}, none = w->nranks, all[64] = {0};
    medleyComm_t c = BAD;

    FAILS(medleyCommShrink(comm, &own, 1, &c, NULL, 0), medleyInvalidArgument, "excludes itself");
    CHECK(c == NULL);
    FAILS(medleyCommShrink(comm, &none, 1, &c, NULL, 0), medleyInvalidArgument, "is not a rank");
    FAILS(medleyCommShrink(comm, all, w->nranks, &c, NULL, 0), medleyInvalidArgument, "cannot be excluded");
    FAILS(medleyCommShrink(comm, NULL, 1, &c, NULL, 0), medleyInvalidArgument, "cannot be excluded");
    FAILS(medleyCommShrink(comm, all, -1, &c, NULL, 0), medleyInvalidArgument, "cannot be excluded");
    FAILS(medleyCommShrink(comm, all, 0, NULL, NULL, 0), medleyInvalidArgument, "newcomm");
    FAILS(medleyCommShrink(comm, all, 0, &c, NULL, 2), medleyInvalidArgument, "flags 2");
    if (w->nranks > 2) FAILS(medleyCommShrink(comm, twice, 2, &c, NULL, 0), medleyInvalidArgument, "twice");
    return api_works(rank, comm);
}

/* The second rank leaves; order is kept; the parent stays usable by all. Excluding nobody gives a copy. */
static int shrink_default(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const int out = 1;
    medleyComm_t rest = NULL;
    int v;

    for (int round = 0; round < 2 && rank != out; round++) {
        OK(medleyCommShrink(comm, &out, 1, &rest, NULL, MEDLEY_SHRINK_DEFAULT));
        OK(medleyCommUserRank(rest, &v));
        CHECK(v == rank - (rank > out));
        CHECK(api_works(rank, rest) == 0);
        OK(medleyCommDestroy(rest));
    }
    CHECK(api_works(rank, comm) == 0);
    OK(medleyCommShrink(comm, NULL, 0, &rest, NULL, MEDLEY_SHRINK_DEFAULT));
    CHECK(api_works(rank, rest) == 0);
    OK(medleyCommDestroy(rest));
    (void)w;
    return 0;
}

/* With work outstanding that cannot end, since the rank that is left out does not take part. */
static int shrink_abort(struct ranks_world *w, int rank, medleyComm_t comm)
{
    const int out = w->nranks - 1;
    static _Thread_local int a[100000], b[100000];
    medleyComm_t rest = NULL;
    void *s;

    if (rank != out) {
        OK(medleyStreamCreate(&s));
        OK(medleyAllReduce(a, b, 100000, medleyInt32, medleySum, comm, s));
        OK(medleyCommShrink(comm, &out, 1, &rest, NULL, MEDLEY_SHRINK_ABORT));
        CHECK(medleyStreamSynchronize(s) != medleySuccess);
        OK(medleyStreamDestroy(s));
        CHECK(api_works(rank, rest) == 0);
        CHECK(medleyAllReduce(a, b, 1, medleyInt32, medleySum, comm, NULL) != medleySuccess);
        CHECK(api_says(comm, "shrunk"));
        OK(medleyCommDestroy(rest));
    }
    ranks_meet(w, 1);
    return 0;
}

static int revoke_all(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res;
    medleyComm_t rest;
    int one = 1, sum = 0;

    FAILS(medleyCommRevoke(comm, 1), medleyInvalidArgument, "flags");
    CHECK(api_works(rank, comm) == 0);
    ranks_meet(w, 1);
    if (rank == 0) {
        scene_sleep_ms(20); /* so that some are inside a call; not needed for the test to hold */
        OK(medleyCommRevoke(comm, 0));
        OK(medleyCommRevoke(comm, 0)); /* the first wins */
        res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL);
    } else {
        res = medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL);
    }
    CHECK(res == medleyInvalidUsage);
    CHECK(api_says(comm, "rank 0") && api_says(comm, "revoked"));
    CHECK(medleyCommSplit(comm, 0, 0, &rest, NULL) == medleyInvalidUsage);
    OK(medleyCommGetAsyncError(comm, &res));
    CHECK(res == medleyInvalidUsage);
    OK(medleyCommShrink(comm, NULL, 0, &rest, NULL, MEDLEY_SHRINK_ABORT));
    CHECK(api_works(rank, rest) == 0);
    OK(medleyCommDestroy(rest));
    OK(rank % 2 ? medleyCommAbort(comm) : medleyCommDestroy(comm));
    return 0;
}

/* ---- the end ---- */

static int finalize(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyComm_t c;
    medleyRedOp_t op;
    int one = 1, sum = 0, v;

    CHECK(api_works(rank, comm) == 0);
    FAILS(medleyCommFinalize(NULL), medleyInvalidArgument, "communicator is NULL");
    OK(medleyCommFinalize(comm));
    FAILS(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL), medleyInvalidUsage, "finalized");
    CHECK(api_says(comm, "finalized"));
    FAILS(medleySend(&one, 1, medleyInt32, 0, comm, NULL), medleyInvalidUsage, "finalized");
    FAILS(medleyBarrier(comm, NULL), medleyInvalidUsage, "finalized");
    FAILS(medleyCommSplit(comm, 0, 0, &c, NULL), medleyInvalidUsage, "finalized");
    FAILS(medleyRedOpCreatePreMulSum(&op, &one, medleyInt32, medleyScalarHostImmediate, comm), medleyInvalidUsage,
          "finalized");
    OK(medleyCommCount(comm, &v)); /* questions are still answered */
    CHECK(v == w->nranks);
    OK(medleyCommDestroy(comm));
    FAILS(medleyCommCount(comm, &v), medleyInvalidUsage, "destroyed");
    return 0;
}

static int use_after_end(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyCommStats_t stats = {.size = sizeof(stats)};
    medleyResult_t state;
    medleyComm_t c;
    int one = 1, sum = 0;
    void *handle;

    (void)w;
    OK(rank % 2 ? medleyCommAbort(comm) : medleyCommDestroy(comm));
    FAILS(medleyCommDestroy(comm), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommAbort(comm), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommFinalize(comm), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommRevoke(comm, 0), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comm, NULL), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyRecv(&one, 1, medleyInt32, 0, comm, NULL), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommSplit(comm, 0, 0, &c, NULL), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommShrink(comm, NULL, 0, &c, NULL, 1), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommGetStats(comm, &stats), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommGetAsyncError(comm, &state), medleyInvalidUsage, "has been destroyed");
    FAILS(medleyCommRegister(comm, &one, sizeof(one), &handle), medleyInvalidUsage, "has been destroyed");
    CHECK(api_says(comm, "has been destroyed"));
    OK(medleyCommDestroy(NULL));
    OK(medleyCommAbort(NULL));
    return 0;
}

/* One aborts: the others, in a call or before it, fail with an error that names it. */
static int abort_reaches_all(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyResult_t res = medleySuccess;

    CHECK(api_works(rank, comm) == 0);
    ranks_meet(w, 1);
    if (rank == 1) {
        OK(medleyCommAbort(comm));
        return 0;
    }
    if (rank % 2) /* not in a call: the state tells */
        res = api_state_after(comm, medleySuccess, 10);
    else
        res = medleyBarrier(comm, NULL);
    CHECK(res == medleyRemoteError);
    CHECK(api_says(comm, "rank 1 aborted"));
    CHECK(medleyBarrier(comm, NULL) == medleyRemoteError);
    OK(medleyCommDestroy(comm));
    return 0;
}

/* Destroy does not wait for peers once the own work is done. */
static int destroy_alone(struct ranks_world *w, int rank, medleyComm_t comm)
{
    double start;

    CHECK(api_works(rank, comm) == 0);
    if (rank != 0) ranks_meet(w, 1);
    start = scene_now();
    OK(medleyCommDestroy(comm));
    CHECK(scene_now() - start < 2 * scene_slack());
    if (rank == 0) ranks_meet(w, 1);
    return 0;
}

static const struct api_scene scenes[] = {
    {"version", version, BARE | ALONE, NULL},
    {"unique_ids", unique_ids, BARE | ALONE, NULL},
    {"bad_creation", bad_creation, BARE | ALONE, NULL},
    {"used_id", used_id, BARE | ALONE, NULL},
    {"scalable", scalable, BARE, NULL},
    {"init_all", init_all, BARE | ALONE, NULL},
    {"init_all_in_group", init_all_in_group, BARE | ALONE, NULL},
    {"duplicate_rank", duplicate_rank, BARE, NULL},
    {"different_nranks", different_nranks, BARE, NULL},
    {"missing_rank", missing_rank, BARE, NULL},
    {"non_blocking", non_blocking, BARE, NULL},
    {"abort_while_starting", abort_while_starting, BARE, NULL},
    {"failing_in_background", failing_in_background, BARE | ALONE, NULL},
    {"questions", questions, 0, NULL},
    {"last_error", last_error, 0, NULL},
    {"split_invalid", split_invalid, 0, NULL},
    {"split_nested", split_nested, 0, NULL},
    {"split_keys", split_keys, 0, NULL},
    {"split_fails", split_fails, 0, NULL},
    {"split_alone", split_alone, 0, NULL},
    {"split_config", split_config, 0, NULL},
    {"shrink_invalid", shrink_invalid, 0, NULL},
    {"shrink_default", shrink_default, 0, NULL},
    {"shrink_abort", shrink_abort, FATAL, NULL},
    {"revoke", revoke_all, GONE, NULL},
    {"finalize", finalize, GONE, NULL},
    {"use_after_end", use_after_end, GONE, NULL},
    {"abort_reaches_all", abort_reaches_all, GONE, NULL},
    {"destroy_alone", destroy_alone, GONE, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
