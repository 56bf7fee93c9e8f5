/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that do not match: whatever differs, every rank gets an error within seconds, and the involved ranks' words say
 * what each side called. The second rank is always the one that differs.
 *
 * A rank whose own call could be done (it had nothing to wait for) gets the error as the communicator's state, or from
 * the barrier that it calls next.
 */
#include "config.h"

#include "tests/api/scenes.h"

#include <stdlib.h>
#include <string.h>

enum { SIZES = 3 };

struct bench {
    int *in, *out;
    size_t count; /* of this case */
    int rank, n;
    bool odd; /* the rank that differs */
    medleyComm_t comm;
};

struct kind {
    const char *name;
    medleyResult_t (*call)(struct bench *b);
    const char *usual, *odd; /* words of the two calls; # is the count, & half of it */
};

static size_t half(const struct bench *b) { return b->count / 2; }

/* ---- calls ---- */

static medleyResult_t collective(struct bench *b)
{
    if (b->odd) return medleyAllGather(b->in, b->out, b->count, medleyInt32, b->comm, NULL);
    return medleyAllReduce(b->in, b->out, b->count, medleyInt32, medleySum, b->comm, NULL);
}

static medleyResult_t barrier(struct bench *b)
{
    if (b->odd) return medleyBarrier(b->comm, NULL);
    return medleyBroadcast(b->in, b->out, b->count, medleyInt32, 0, b->comm, NULL);
}

static medleyResult_t count(struct bench *b)
{
    return medleyAllReduce(b->in, b->out, b->odd ? half(b) : b->count, medleyInt32, medleySum, b->comm, NULL);
}

static medleyResult_t bcast_count(struct bench *b)
{
    return medleyBroadcast(b->in, b->out, b->odd ? half(b) : b->count, medleyInt32, 0, b->comm, NULL);
}

static medleyResult_t gather_count(struct bench *b)
{
    return medleyGather(b->in, b->out, b->odd ? half(b) : b->count, medleyInt32, 0, b->comm, NULL);
}

static medleyResult_t all_to_all_count(struct bench *b)
{
    return medleyAlltoAll(b->in, b->out, b->odd ? half(b) : b->count, medleyInt32, b->comm, NULL);
}

static medleyResult_t zero(struct bench *b)
{
    return medleyAllReduce(b->in, b->out, b->odd ? 0 : b->count, medleyInt32, medleySum, b->comm, NULL);
}

static medleyResult_t type(struct bench *b)
{
    return medleyReduceScatter(b->in, b->out, b->count, b->odd ? medleyFloat32 : medleyInt32, medleySum, b->comm, NULL);
}

static medleyResult_t op(struct bench *b)
{
    return medleyAllReduce(b->in, b->out, b->count, medleyInt32, b->odd ? medleyMax : medleySum, b->comm, NULL);
}

static medleyResult_t root(struct bench *b)
{
    return medleyBroadcast(b->in, b->out, b->count, medleyInt32, b->odd ? 1 : 0, b->comm, NULL);
}

static medleyResult_t reduce_root(struct bench *b)
{
    return medleyReduce(b->in, b->out, b->count, medleyInt32, medleySum, b->odd ? 1 : 0, b->comm, NULL);
}

static medleyResult_t premul(struct bench *b)
{
    medleyRedOp_t made = medleySum;
    int scalar = 1;

    if (b->odd) {
        medleyResult_t res =
            medleyRedOpCreatePreMulSum(&made, &scalar, medleyInt32, medleyScalarHostImmediate, b->comm);
        if (res != medleySuccess) return res;
    }
    return medleyAllReduce(b->in, b->out, b->count, medleyInt32, made, b->comm, NULL);
}

/* The same two calls, in another order. */
static medleyResult_t order(struct bench *b)
{
    medleyResult_t res = medleySuccess;

    for (int k = 0; k < 2 && res == medleySuccess; k++) {
        if ((k == 0) == b->odd)
            res = medleyAllGather(b->in, b->out, b->count, medleyInt32, b->comm, NULL);
        else
            res = medleyReduceScatter(b->in, b->out, b->count, medleyInt32, medleySum, b->comm, NULL);
    }
    return res;
}

static medleyResult_t messages(struct bench *b)
{
    if (b->rank == 0) return medleySend(b->in, b->count, medleyInt32, 1, b->comm, NULL);
    if (b->odd) return medleyRecv(b->out, half(b), medleyInt32, 0, b->comm, NULL);
    return medleySuccess;
}

static medleyResult_t message_type(struct bench *b)
{
    if (b->rank == 0) return medleySend(b->in, b->count, medleyInt32, 1, b->comm, NULL);
    if (b->odd) return medleyRecv(b->out, b->count, medleyFloat32, 0, b->comm, NULL);
    return medleySuccess;
}

static medleyResult_t message_zero(struct bench *b)
{
    if (b->rank == 0) return medleySend(b->in, b->count, medleyInt32, 1, b->comm, NULL);
    if (b->odd) return medleyRecv(b->out, 0, medleyInt32, 0, b->comm, NULL);
    return medleySuccess;
}

/* Each waits for the other to send. */
static medleyResult_t both_receive(struct bench *b)
{
    if (b->rank < 2) return medleyRecv(b->in, b->count, medleyInt32, 1 - b->rank, b->comm, NULL);
    return medleySuccess;
}

static medleyResult_t message_or_collective(struct bench *b)
{
    if (b->odd) return medleyRecv(b->out, b->count, medleyInt32, 0, b->comm, NULL);
    return medleyAllReduce(b->in, b->out, b->count, medleyInt32, medleySum, b->comm, NULL);
}

/* ---- V collectives ---- */

static void table(const struct bench *b, size_t *counts, size_t odd_one)
{
    for (int r = 0; r < b->n; r++) counts[r] = b->count / 4 + (size_t)r;
    if (b->odd) counts[0] = odd_one;
}

static medleyResult_t gather_v(struct bench *b)
{
    size_t counts[8];

    table(b, counts, b->count / 3);
    return medleyAllGatherV(b->in, counts[b->rank], b->out, counts, NULL, medleyInt32, b->comm, NULL);
}

static medleyResult_t gather_v_zero(struct bench *b)
{
    size_t counts[8];

    table(b, counts, 0);
    return medleyAllGatherV(b->in, counts[b->rank], b->out, counts, NULL, medleyInt32, b->comm, NULL);
}

static medleyResult_t scatter_v(struct bench *b)
{
    size_t counts[8];

    table(b, counts, b->count / 3);
    return medleyReduceScatterV(b->in, b->out, counts, NULL, medleyInt32, medleySum, b->comm, NULL);
}

/* The second rank sends the first `sends` and expects `expects` of it; all others have count / 4 for each other. */
static medleyResult_t to_all_v(struct bench *b, size_t sends, size_t expects)
{
    size_t out[8], in[8];

    for (int r = 0; r < b->n; r++) out[r] = in[r] = b->count / 4;
    if (b->odd) {
        out[0] = sends;
        in[0] = expects;
    }
    return medleyAlltoAllV(b->in, out, NULL, b->out, in, NULL, medleyInt32, b->comm, NULL);
}

static medleyResult_t to_all_v_sends(struct bench *b) { return to_all_v(b, b->count / 3, b->count / 4); }
static medleyResult_t to_all_v_sends_none(struct bench *b) { return to_all_v(b, 0, b->count / 4); }
static medleyResult_t to_all_v_expects(struct bench *b) { return to_all_v(b, b->count / 4, b->count / 5); }
static medleyResult_t to_all_v_expects_none(struct bench *b) { return to_all_v(b, b->count / 4, 0); }

static medleyResult_t to_all_v_type(struct bench *b)
{
    size_t counts[8];

    for (int r = 0; r < b->n; r++) counts[r] = b->count / 4;
    return medleyAlltoAllV(b->in, counts, NULL, b->out, counts, NULL, b->odd ? medleyFloat32 : medleyInt32, b->comm,
                           NULL);
}

/* ---- the check ---- */

static const struct kind kinds[] = {
    {"collective", collective, "AllReduce(# x int32", "AllGather(# x int32"},
    {"barrier", barrier, "Broadcast(# x int32", "Barrier("},
    {"count", count, "AllReduce(# x", "AllReduce(& x"},
    {"bcast_count", bcast_count, "Broadcast(# x", "Broadcast(& x"},
    {"gather_count", gather_count, "Gather(# x", "Gather(& x"},
    {"all_to_all_count", all_to_all_count, "AlltoAll(# x", "AlltoAll(& x"},
    {"zero", zero, "AllReduce(# x", "AllReduce(0 x"},
    {"type", type, "ReduceScatter(# x int32", "ReduceScatter(# x float"},
    {"op", op, "AllReduce(# x int32, sum)", "AllReduce(# x int32, max)"},
    {"root", root, "Broadcast(# x int32, root 0)", "Broadcast(# x int32, root 1)"},
    {"reduce_root", reduce_root, "Reduce(# x int32, sum, root 0)", "Reduce(# x int32, sum, root 1)"},
    {"premul", premul, "AllReduce(# x int32, sum)", "AllReduce(# x int32, premulsum)"},
    {"order", order, "ReduceScatter(# x", "AllGather(# x"},
    {"messages", messages, "Send(# x int32, to rank 1)", "Recv(& x int32, from rank 0)"},
    {"message_type", message_type, "Send(# x int32", "Recv(# x float"},
    {"message_zero", message_zero, "Send(# x int32", "Recv(0 x int32"},
    {"both_receive", both_receive, "Recv(# x int32, from rank 1)", "Recv(# x int32, from rank 0)"},
    {"message_or_collective", message_or_collective, "AllReduce(# x", "Recv(# x int32, from rank 0)"},
    {"gather_v", gather_v, "AllGatherV(", "AllGatherV("},
    {"gather_v_zero", gather_v_zero, "AllGatherV(", "AllGatherV("},
    {"scatter_v", scatter_v, "ReduceScatterV(", "ReduceScatterV("},
    {"to_all_v_sends", to_all_v_sends, "AlltoAllV(int32)", "elements to rank"},
    {"to_all_v_sends_none", to_all_v_sends_none, "AlltoAllV(int32)", "elements to rank"},
    {"to_all_v_expects", to_all_v_expects, "AlltoAllV(int32)", "elements to rank"},
    {"to_all_v_expects_none", to_all_v_expects_none, "AlltoAllV(int32)", "elements to rank"},
    {"to_all_v_type", to_all_v_type, "AlltoAllV(int32)", "AlltoAllV(float)"},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static bool says_call(const struct bench *b, const char *words)
{
    char text[128];
    size_t at = 0;

    for (; *words; words++) {
        if (*words == '#' || *words == '&')
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%zu", *words == '#' ? b->count : half(b));
        else if (at < sizeof(text) - 1)
            text[at++] = *words;
    }
    text[at] = 0;
    return api_says(b->comm, text);
}

/* Something that matches, and has a message for every pair. */
static medleyResult_t next_call(struct bench *b)
{
    size_t ones[8];

    for (int r = 0; r < b->n; r++) ones[r] = 1;
    return medleyAlltoAllV(b->in, ones, NULL, b->out, ones, NULL, medleyInt32, b->comm, NULL);
}

static int one_case(struct bench *b, const struct kind *k)
{
    medleyComm_t comm = b->comm;
    int rank = b->rank;
    double start = scene_now();
    medleyResult_t res = k->call(b);

    if (res == medleySuccess) res = api_state_after(comm, medleySuccess, 0.3);
    if (res == medleySuccess) res = next_call(b);
    if (res == medleySuccess) res = api_state_after(comm, medleySuccess, 4);
    CHECK(res == medleyInvalidUsage);
    CHECK(scene_now() - start < 4 * scene_slack());
    CHECK(says_call(b, k->usual) && says_call(b, k->odd));
    CHECK(api_says(comm, "rank 1 (host"));
    CHECK(medleyBarrier(comm, NULL) == medleyInvalidUsage);
    return 0;
}

static int mismatch(struct ranks_world *w, int rank, medleyComm_t comm)
{
    struct bench b = {.rank = rank, .n = w->nranks, .odd = rank == 1, .comm = comm};
    const struct kind *k = api_current->arg;
    size_t bytes;
    int res;

    b.count = strtoul(strchr(api_current->name, '/') + 1, NULL, 10);
    bytes = sizeof(int) * (b.count + 64) * (size_t)b.n;
    b.in = calloc(1, bytes);
    b.out = calloc(1, bytes);
    res = b.in && b.out ? one_case(&b, k) : 1;
    free(b.in);
    free(b.out);
    return res;
}

int main(int argc, char **argv)
{
    static const size_t counts[SIZES] = {120, 20000, 300000}; /* these get different algorithms and paths */
    static struct api_scene scenes[KINDS * SIZES];
    static char names[KINDS * SIZES][48];

    for (int i = 0; i < KINDS * SIZES; i++) {
        snprintf(names[i], sizeof(names[i]), "%s/%zu", kinds[i / SIZES].name, counts[i % SIZES]);
        scenes[i] = (struct api_scene){names[i], mismatch, FATAL, &kinds[i / SIZES]};
    }
    return api_main(argc, argv, scenes, KINDS * SIZES);
}
