/* SPDX-License-Identifier: Apache-2.0 */
/* Errors in words: texts of codes, wrong arguments of every call, the log, and the environment. */
#include "config.h"

#include "tests/api/scenes.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int error_strings(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static const int unknown[] = {medleyNumResults, -1, 1000, INT_MAX, INT_MIN};
    const char *text[medleyNumResults];

    (void)w;
    for (int code = 0; code < medleyNumResults; code++) {
        text[code] = medleyGetErrorString((medleyResult_t)code);
        CHECK(text[code] && text[code][0]);
        for (int other = 0; other < code; other++) CHECK(strcmp(text[code], text[other]) != 0);
    }
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        const char *t = medleyGetErrorString((medleyResult_t)unknown[i]);
        CHECK(t && strstr(t, "unknown"));
    }
    return 0;
}

/* ---- arguments of the collectives ---- */

/* All arguments of all collectives; one call ignores what it does not have. */
struct call {
    const void *in;
    void *out;
    size_t count;
    medleyDataType_t dtype;
    medleyRedOp_t op;
    int root;
    const size_t *sends, *recvs;
    medleyComm_t comm;
    void *stream;
};

enum { BCAST = medleyNumColls, CALLS };
static const char *const names[CALLS] = {"AllReduce",      "Reduce",    "Broadcast", "AllGather", "ReduceScatter",
                                         "AlltoAll",       "Gather",    "Scatter",   "Barrier",   "AllGatherV",
                                         "ReduceScatterV", "AlltoAllV", "Send",      "Recv",      "Bcast"};

static medleyResult_t make(int coll, const struct call *c)
{
    switch (coll) {
    case medleyCollAllReduce: return medleyAllReduce(c->in, c->out, c->count, c->dtype, c->op, c->comm, c->stream);
    case medleyCollReduce: return medleyReduce(c->in, c->out, c->count, c->dtype, c->op, c->root, c->comm, c->stream);
    case medleyCollBroadcast: return medleyBroadcast(c->in, c->out, c->count, c->dtype, c->root, c->comm, c->stream);
    case medleyCollAllGather: return medleyAllGather(c->in, c->out, c->count, c->dtype, c->comm, c->stream);
    case medleyCollReduceScatter:
        return medleyReduceScatter(c->in, c->out, c->count, c->dtype, c->op, c->comm, c->stream);
    case medleyCollAlltoAll: return medleyAlltoAll(c->in, c->out, c->count, c->dtype, c->comm, c->stream);
    case medleyCollGather: return medleyGather(c->in, c->out, c->count, c->dtype, c->root, c->comm, c->stream);
    case medleyCollScatter: return medleyScatter(c->in, c->out, c->count, c->dtype, c->root, c->comm, c->stream);
    case medleyCollBarrier: return medleyBarrier(c->comm, c->stream);
    case medleyCollAllGatherV:
        return medleyAllGatherV(c->in, c->count, c->out, c->recvs, NULL, c->dtype, c->comm, c->stream);
    case medleyCollReduceScatterV:
        return medleyReduceScatterV(c->in, c->out, c->recvs, NULL, c->dtype, c->op, c->comm, c->stream);
    case medleyCollAlltoAllV:
        return medleyAlltoAllV(c->in, c->sends, NULL, c->out, c->recvs, NULL, c->dtype, c->comm, c->stream);
    case medleyCollSend: return medleySend(c->in, c->count, c->dtype, c->root, c->comm, c->stream);
    case medleyCollRecv: return medleyRecv(c->out, c->count, c->dtype, c->root, c->comm, c->stream);
    default: return medleyBcast(c->out, c->count, c->dtype, c->root, c->comm, c->stream);
    }
}

static bool is_one_of(int coll, const int *list)
{
    for (; *list >= 0; list++) {
        if (*list == coll) return true;
    }
    return false;
}

static const int rooted[] = {medleyCollReduce,
                             medleyCollBroadcast,
                             medleyCollGather,
                             medleyCollScatter,
                             medleyCollSend,
                             medleyCollRecv,
                             BCAST,
                             -1};
static const int reducing[] = {medleyCollAllReduce, medleyCollReduce, medleyCollReduceScatter, medleyCollReduceScatterV,
                               -1};
static const int without_in[] = {medleyCollBarrier, medleyCollRecv, BCAST, -1};
static const int without_out[] = {medleyCollBarrier, medleyCollSend, -1};
static const int with_tables[] = {medleyCollAllGatherV, medleyCollReduceScatterV, medleyCollAlltoAllV, -1};

/* The call is refused, and its words name the function and the argument. */
static int refused(int rank, int coll, struct call c, const char *argument)
{
    medleyComm_t comm = c.comm;
    char name[32];

    FAILS(make(coll, &c), medleyInvalidArgument, argument);
    snprintf(name, sizeof(name), "medley%s:", names[coll]);
    CHECK(api_says(NULL, name) && api_says(comm, name));
    return 0;
}

#define REFUSED(field, value, argument)                                                                                \
    do {                                                                                                               \
        struct call c = *good;                                                                                         \
        c.field = (value);                                                                                             \
        CHECK(refused(rank, coll, c, argument) == 0);                                                                  \
    } while (0)

/* This rank is the root of all, so that it has both buffers. */
static int wrong_arguments_of(int rank, int coll, const struct call *good, int n)
{
    medleyComm_t comm = good->comm;
    size_t large[8];
    bool table = is_one_of(coll, with_tables);
    int local = 0;

    for (int r = 0; r < 8; r++) large[r] = SIZE_MAX / 4;
    REFUSED(stream, &local, "stream");
    if (coll == medleyCollBarrier) return 0;
    REFUSED(dtype, medleyNumTypes, "12 is not a datatype");
    REFUSED(dtype, (medleyDataType_t)-1, "-1 is not a datatype");
    if (is_one_of(coll, reducing)) {
        REFUSED(op, medleyNumOps, "operation 5");
        REFUSED(op, (medleyRedOp_t)-1, "operation -1");
        REFUSED(op, medleyMaxRedOp, "operation 2147483647");
    }
    if (is_one_of(coll, rooted)) {
        const char *what = coll == medleyCollSend || coll == medleyCollRecv ? "peer -1" : "root -1";
        REFUSED(root, -1, what);
        REFUSED(root, n, "is not a rank");
        REFUSED(root, INT_MIN, "-2147483648");
    }
    if (!is_one_of(coll, without_in)) {
        REFUSED(in, NULL, "sendbuff");
        REFUSED(in, (const char *)good->in + 1, "sendbuff");
    }
    if (!is_one_of(coll, without_out)) {
        REFUSED(out, NULL, coll == BCAST ? "buff is NULL" : "recvbuff");
        REFUSED(out, (char *)good->out + 2, coll == BCAST ? "buff = " : "recvbuff");
    }
    if (!table) {
        REFUSED(count, SIZE_MAX, "do not fit into memory");
        REFUSED(count, SIZE_MAX / 4 + 1, "do not fit into memory"); /* 4 bytes each: 0 if it wraps around */
        return 0;
    }
    REFUSED(recvs, NULL, "recvcounts is NULL");
    if (coll == medleyCollAlltoAllV) {
        REFUSED(sends, NULL, "sendcounts is NULL");
        REFUSED(sends, large, "sendcounts[0]");
    }
    REFUSED(recvs, large, "recvcounts[");
    if (coll == medleyCollAllGatherV) REFUSED(count, good->count + 1, "sendcount 9 differs from recvcounts[");
    return 0;
}

static int wrong_arguments(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int in[64], out[64];
    size_t counts[8] = {8, 8, 8, 8, 8, 8, 8, 8};
    medleyResult_t state;

    for (int coll = 0; coll < CALLS; coll++) {
        struct call good = {.in = in,
                            .out = out,
                            .count = 8,
                            .dtype = medleyInt32,
                            .op = medleySum,
                            .root = rank,
                            .sends = counts,
                            .recvs = counts,
                            .comm = comm};
        CHECK(wrong_arguments_of(rank, coll, &good, w->nranks) == 0);
        good.comm = NULL;
        FAILS(make(coll, &good), medleyInvalidArgument, "communicator is NULL");
        OK(medleyCommGetAsyncError(comm, &state));
        CHECK(state == medleySuccess);
        good.comm = comm;
        good.root = 0; /* now all the same, and right */
        if (coll != medleyCollSend && coll != medleyCollRecv) OK(make(coll, &good));
    }
    return api_works(rank, comm);
}

/* What a rank does not use may be anything; of zero elements nothing is used. */
static int unused_arguments(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int in[64], out[64];
    size_t none[8] = {0};
    char *odd = (char *)out + 1;

    OK(medleyReduce(in, rank == 0 ? (void *)out : odd, 4, medleyInt32, medleySum, 0, comm, NULL));
    OK(medleyBroadcast(rank == 0 ? (void *)in : odd, out, 4, medleyInt32, 0, comm, NULL));
    OK(medleyGather(in, rank == 0 ? (void *)out : NULL, 4, medleyInt32, 0, comm, NULL));
    OK(medleyScatter(rank == 0 ? in : NULL, out, 4, medleyInt32, 0, comm, NULL));
    for (int coll = 0; coll < CALLS; coll++) {
        struct call empty = {.dtype = medleyInt32, .op = medleySum, .sends = none, .recvs = none, .comm = comm};
        if (coll == medleyCollSend || coll == medleyCollRecv) continue;
        OK(make(coll, &empty));
    }
    (void)w;
    return api_works(rank, comm);
}

/* ---- the log ---- */

struct seen {
    pthread_mutex_t lock;
    int lines, broken;
    char last[512], subsystem[16];
    medleyLogLevel_t most;
};

static void take_line(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    struct seen *s = user;

    pthread_mutex_lock(&s->lock);
    s->lines++;
    s->broken += strchr(message, '\n') != NULL || !subsystem[0];
    if (level > s->most) s->most = level;
    snprintf(s->last, sizeof(s->last), "%s", message);
    snprintf(s->subsystem, sizeof(s->subsystem), "%s", subsystem);
    pthread_mutex_unlock(&s->lock);
}

static int callback(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static struct seen a = {.lock = PTHREAD_MUTEX_INITIALIZER}, b = {.lock = PTHREAD_MUTEX_INITIALIZER};
    medleyUniqueId id;
    int before;

    (void)w;
    FAILS(medleySetLogCallback(take_line, (medleyLogLevel_t)5, &a), medleyInvalidArgument, "5 is not a level");
    FAILS(medleySetLogCallback(take_line, (medleyLogLevel_t)-1, &a), medleyInvalidArgument, "-1 is not a level");
    OK(medleySetLogCallback(take_line, medleyLogWarn, &a));
    CHECK(medleyMemFree(&a) == medleyInvalidArgument);
    CHECK(a.lines == 1 && a.most == medleyLogWarn && strstr(a.last, "medleyMemFree"));
    OK(medleySetLogCallback(take_line, medleyLogInfo, &b)); /* takes the place of the former */
    OK(medleyGetUniqueId(&id));
    OK(medleyCommInitRank(&comm, 1, id, 0));
    OK(medleyCommDestroy(comm));
    CHECK(a.lines == 1 && b.lines > 1 && b.most == medleyLogInfo && b.broken == 0);
    OK(medleySetLogCallback(take_line, medleyLogNone, &b));
    before = b.lines;
    CHECK(medleyMemFree(&a) == medleyInvalidArgument);
    CHECK(b.lines == before);
    OK(medleySetLogCallback(NULL, medleyLogTrace, &b)); /* back to MEDLEY_DEBUG, here none */
    CHECK(medleyMemFree(&a) == medleyInvalidArgument);
    CHECK(b.lines == before && api_says(NULL, "medleyMemFree"));
    return 0;
}

/* ---- the environment, as errors.sh sets it ---- */

/* Prints whether a communicator of two threads can be made, its transport, and the algorithms that its calls took. */
static int environment(struct ranks_world *w, int rank, medleyComm_t comm)
{
    static _Thread_local int in[64], out[64];
    size_t counts[8] = {8, 8, 8, 8, 8, 8, 8, 8};
    medleyCommStats_t stats = {.size = sizeof(stats)};
    medleyRankInfo_t info = {.size = sizeof(info)};
    medleyUniqueId id;
    medleyResult_t res = api_share_id(w, rank, 0, &id);

    if (res == medleySuccess) res = medleyCommInitRank(&comm, w->nranks, id, rank);
    if (res != medleySuccess) {
        if (rank == 0) printf("refused: %s\n", medleyGetLastError(NULL));
        return 0;
    }
    OK(medleyCommGetInfo(comm, 1, &info));
    if (rank == 0) printf("transport: %s\n", info.transport);
    for (int coll = 0; coll < medleyCollSend; coll++) {
        struct call c = {.in = in,
                         .out = out,
                         .count = 8,
                         .dtype = medleyInt32,
                         .op = medleySum,
                         .sends = counts,
                         .recvs = counts,
                         .comm = comm};
        for (int i = 0; i < 64; i++) in[i] = i;
        OK(make(coll, &c));
        OK(medleyCommGetStats(comm, &stats));
        if (coll == medleyCollAllReduce) CHECK(out[7] == 7 * w->nranks);
        if (rank == 0) printf("%s: %s\n", names[coll], stats.last_algorithm);
    }
    OK(medleyCommDestroy(comm));
    return 0;
}

static const struct api_scene scenes[] = {
    {"error_strings", error_strings, BARE | ALONE, NULL}, {"wrong_arguments", wrong_arguments, 0, NULL},
    {"unused_arguments", unused_arguments, 0, NULL},      {"callback", callback, BARE | ALONE | PROCESSES, NULL},
    {"environment", environment, BARE | BY_NAME, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
