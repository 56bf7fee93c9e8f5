/* SPDX-License-Identifier: Apache-2.0 */
/* What medleyCommGetStats counts. */
#include "config.h"

#include "tests/api/scenes.h"

#include <stdlib.h>
#include <string.h>

enum { COUNT = 4096, BYTES = COUNT * 4 };

static medleyResult_t get(medleyComm_t comm, medleyCommStats_t *s, medleyPeerStats_t *peers, int npeers)
{
    *s = (medleyCommStats_t){.size = sizeof(*s), .npeers = npeers, .peers = peers};
    return medleyCommGetStats(comm, s);
}

static int arguments(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyPeerStats_t peers[64], untouched;
    medleyCommStats_t s = {.size = sizeof(s)};

    OK(medleyCommGetStats(comm, &s)); /* peers NULL */
    CHECK(s.npeers == w->nranks);
    memset(peers, 0x5a, sizeof(peers));
    untouched = peers[1];
    OK(get(comm, &s, peers, 1)); /* room for one only */
    CHECK(s.npeers == w->nranks && peers[0].rank == 0 && memcmp(&peers[1], &untouched, sizeof(untouched)) == 0);
    OK(get(comm, &s, peers, 64));
    for (int r = 0; r < w->nranks; r++) CHECK(peers[r].rank == r);
    CHECK(memcmp(&peers[w->nranks], &untouched, sizeof(untouched)) == 0);
    CHECK(strcmp(peers[rank].transport, "self") == 0);
    s.size = 8;
    FAILS(medleyCommGetStats(comm, &s), medleyInvalidArgument, "size");
    s.size = sizeof(s);
    s.npeers = -1;
    FAILS(medleyCommGetStats(comm, &s), medleyInvalidArgument, "npeers");
    FAILS(medleyCommGetStats(comm, NULL), medleyInvalidArgument, "stats is NULL");
    FAILS(medleyCommGetStats(NULL, &s), medleyInvalidArgument, "");
    return 0;
}

static medleyResult_t one_of(int coll, const int *in, int *out, const size_t *counts, int peer, medleyComm_t c, void *s)
{
    switch (coll) {
    case medleyCollAllReduce: return medleyAllReduce(in, out, COUNT, medleyInt32, medleySum, c, s);
    case medleyCollReduce: return medleyReduce(in, out, COUNT, medleyInt32, medleySum, 0, c, s);
    case medleyCollBroadcast: return medleyBroadcast(in, out, COUNT, medleyInt32, 0, c, s);
    case medleyCollAllGather: return medleyAllGather(in, out, COUNT, medleyInt32, c, s);
    case medleyCollReduceScatter: return medleyReduceScatter(in, out, COUNT, medleyInt32, medleySum, c, s);
    case medleyCollAlltoAll: return medleyAlltoAll(in, out, COUNT, medleyInt32, c, s);
    case medleyCollGather: return medleyGather(in, out, COUNT, medleyInt32, 0, c, s);
    case medleyCollScatter: return medleyScatter(in, out, COUNT, medleyInt32, 0, c, s);
    case medleyCollBarrier: return medleyBarrier(c, s);
    case medleyCollAllGatherV: return medleyAllGatherV(in, COUNT, out, counts, NULL, medleyInt32, c, s);
    case medleyCollReduceScatterV: return medleyReduceScatterV(in, out, counts, NULL, medleyInt32, medleySum, c, s);
    case medleyCollAlltoAllV: return medleyAlltoAllV(in, counts, NULL, out, counts, NULL, medleyInt32, c, s);
    case medleyCollSend: return medleySend(in, COUNT, medleyInt32, peer, c, s);
    default: return medleyRecv(out, COUNT, medleyInt32, peer, c, s);
    }
}

/* The larger of this rank's send and receive buffer. */
static uint64_t payload(int coll, int rank, int n)
{
    switch (coll) {
    case medleyCollBarrier: return 0;
    case medleyCollAllGather:
    case medleyCollReduceScatter:
    case medleyCollAlltoAll:
    case medleyCollAllGatherV:
    case medleyCollReduceScatterV:
    case medleyCollAlltoAllV: return (uint64_t)n * BYTES;
    case medleyCollGather:
    case medleyCollScatter: return (uint64_t)(rank == 0 ? n : 1) * BYTES;
    default: return BYTES;
    }
}

/* Each call counts under its own name and nowhere else, on streams and in groups too; errors do not count. */
static int calls(struct ranks_world *w, int rank, medleyComm_t comm)
{
    int n = w->nranks, *in = calloc((size_t)n, BYTES), *out = calloc((size_t)n, BYTES);
    medleyCommStats_t before, after;
    size_t counts[64];
    void *stream;

    for (int r = 0; r < n; r++) counts[r] = COUNT;
    OK(medleyStreamCreate(&stream));
    for (int coll = 0; coll < medleyNumColls; coll++) {
        bool p2p = coll == medleyCollSend || coll == medleyCollRecv, both = coll == medleyCollSend;
        if (coll == medleyCollRecv) continue;
        OK(get(comm, &before, NULL, 0));
        for (int k = 0; k < 2; k++) {
            void *s = k ? stream : NULL;
            if (p2p) OK(medleyGroupStart());
            OK(one_of(coll, in, out, counts, (rank + 1) % n, comm, s));
            if (both) OK(one_of(medleyCollRecv, in, out, counts, (rank + n - 1) % n, comm, s));
            if (p2p) OK(medleyGroupEnd());
            if (k) OK(medleyStreamSynchronize(stream));
        }
        CHECK(medleyAllReduce(NULL, out, 1, medleyInt32, medleySum, comm, NULL) == medleyInvalidArgument);
        OK(get(comm, &after, NULL, 0));
        for (int k = 0; k < medleyNumColls; k++) {
            bool counted = k == coll || (both && k == medleyCollRecv);
            CHECK(after.coll[k].calls - before.coll[k].calls == (counted ? 2 : 0));
            CHECK(after.coll[k].bytes - before.coll[k].bytes == (counted ? 2 * payload(k, rank, n) : 0));
            CHECK((after.coll[k].time_ns > before.coll[k].time_ns) == counted);
        }
        CHECK(p2p || after.last_algorithm[0]);
    }
    OK(medleyStreamDestroy(stream));
    free(in);
    free(out);
    return 0;
}

/* What one call sends to a peer the peer has received, whatever the path. */
static int links(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyPeerStats_t before[64], after[64];
    medleyRankInfo_t info = {.size = sizeof(info)};
    medleyCommStats_t s;
    int n = w->nranks, *buf = calloc(2, BYTES);

    OK(get(comm, &s, before, 64));
    OK(medleyGroupStart());
    for (int k = 0; k < 3; k++) {
        OK(medleySend(buf, COUNT, medleyInt32, (rank + 1) % n, comm, NULL));
        OK(medleyRecv(buf + COUNT, COUNT, medleyInt32, (rank + n - 1) % n, comm, NULL));
    }
    OK(medleyGroupEnd());
    OK(get(comm, &s, after, 64));
    for (int r = 0; r < n; r++) {
        CHECK(after[r].sent_bytes - before[r].sent_bytes == (r == (rank + 1) % n ? 3 * BYTES : 0));
        CHECK(after[r].recv_bytes - before[r].recv_bytes == (r == (rank + n - 1) % n ? 3 * BYTES : 0));
        OK(medleyCommGetInfo(comm, r, &info));
        CHECK(strcmp(info.transport, after[r].transport) == 0);
        CHECK(after[r].retries == 0);
    }
    free(buf);
    return 0;
}

/* The plan of a call is built once. */
static int plans(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyCommStats_t a, b;
    int *in = calloc(40, BYTES), *out = calloc(40, BYTES);

    (void)w;
    OK(medleyAllReduce(in, out, 40 * COUNT, medleyInt32, medleySum, comm, NULL));
    OK(get(comm, &a, NULL, 0));
    for (int k = 0; k < 5; k++) OK(medleyAllReduce(in, out, 40 * COUNT, medleyInt32, medleySum, comm, NULL));
    OK(get(comm, &b, NULL, 0));
    CHECK(a.plans_built >= 1 && b.plans_built == a.plans_built && b.plans_reused == a.plans_reused + 5);
    CHECK(b.last_predicted_ns > 0);
    free(in);
    free(out);
    return 0;
}

/* One rank comes late to each of several kinds of calls: the others charge what they wait to it and not to each other.
 * Where a rank waits for an innocent one that waits itself, the cause is found only after a stall, hence the share. */
static int wait_time(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyPeerStats_t before[64], after[64];
    medleyCommStats_t s;
    int late = w->nranks - 1, *in = calloc(8, BYTES), *out = calloc(8, BYTES);
    double ms = 400 * (scene_slack() < 4 ? scene_slack() : 4);

    for (int k = 0; k < 3; k++) {
        uint64_t for_late = 0, for_others = 0;
        size_t count = k == 1 ? 8 * COUNT : 16;
        OK(medleyAllReduce(in, out, count, medleyInt32, medleySum, comm, NULL));
        OK(get(comm, &s, before, 64));
        ranks_meet(w, 1 + k);
        if (rank == late) scene_sleep_ms(ms);
        if (k == 2)
            OK(medleyBarrier(comm, NULL));
        else
            OK(medleyAllReduce(in, out, count, medleyInt32, medleySum, comm, NULL));
        OK(get(comm, &s, after, 64));
        for (int r = 0; r < w->nranks; r++)
            *(r == late ? &for_late : &for_others) += after[r].wait_ns - before[r].wait_ns;
        if (rank != late) CHECK((double)for_late > 0.4 * ms * 1e6);
        if (rank != late) CHECK(for_late > 2 * for_others);
        if (rank == late) CHECK((double)for_others < 0.8 * ms * 1e6);
    }
    free(in);
    free(out);
    return 0;
}

/* Of each communicator its own, and readable after a failure. */
static int own(struct ranks_world *w, int rank, medleyComm_t comm)
{
    medleyCommStats_t s;
    medleyComm_t child;

    CHECK(api_works(rank, comm) == 0);
    OK(medleyCommSplit(comm, 0, rank, &child, NULL));
    OK(get(child, &s, NULL, 0));
    CHECK(s.coll[medleyCollAllReduce].calls == 0 && s.last_algorithm[0] == 0);
    CHECK(api_works(rank, child) == 0);
    OK(get(child, &s, NULL, 0));
    CHECK(s.coll[medleyCollAllReduce].calls == 1);
    ranks_meet(w, 1);
    OK(medleyCommRevoke(child, 0));
    OK(get(child, &s, NULL, 0));
    CHECK(s.coll[medleyCollAllReduce].calls == 1);
    OK(medleyCommDestroy(child));
    OK(get(comm, &s, NULL, 0));
    CHECK(s.coll[medleyCollAllReduce].calls == 1);
    return 0;
}

static const struct api_scene scenes[] = {
    {"arguments", arguments, 0, NULL}, {"calls", calls, 0, NULL},         {"links", links, 0, NULL},
    {"plans", plans, 0, NULL},         {"wait_time", wait_time, 0, NULL}, {"own", own, 0, NULL},
};

int main(int argc, char **argv) { return api_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0])); }
