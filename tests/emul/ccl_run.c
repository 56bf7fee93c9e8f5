/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the emulated collectives do, on the thread of the queue that they were enqueued on: chunk by chunk each rank
 * puts its part into its own place of the shared memory, all meet, each takes what is its result, all meet again.
 * Messages go through a channel per pair, all of a group at once.
 */
#include "config.h"
#include "tests/emul/ccl_state.h"
#include <stdlib.h>
#include <string.h>

/* All of a collective's addresses, checked when it was submitted. */
struct run {
    struct emul_comm *comm;
    const struct emul_ccl_op *op;
    size_t width; /* bytes of an element */
};

static char *place(const struct run *run, int rank) { return run->comm->shared->chunk[rank]; }

static bool put(const struct run *run, size_t offset, size_t bytes)
{
    const char *from = emul_translate((const char *)run->op->send + offset);
    const struct ccl_factor *factor = ccl_factor_of(run->comm, run->op->reduce);
    memcpy(place(run, run->comm->rank), from ? from : (const char *)run->op->send + offset, bytes);
    if (factor)
        emul_scale(run->op->type, place(run, run->comm->rank), factor->at ? emul_translate(factor->at) : (void *)&factor->value,
                   bytes / run->width);
    return ccl_barrier(run->comm);
}

static char *target(const struct run *run, size_t offset)
{
    char *to = emul_translate((char *)run->op->recv + offset);
    return to ? to : (char *)run->op->recv + offset;
}

static void take_reduced(const struct run *run, size_t offset, size_t bytes)
{
    const void *from[CCL_RANKS];
    for (int r = 0; r < run->comm->ranks; r++) from[r] = place(run, r);
    int reduce = run->op->reduce >= EMUL_MADE ? EMUL_SUM : run->op->reduce;
    emul_reduce_ranks(run->op->type, reduce, target(run, offset), from, run->comm->ranks, bytes / run->width);
}

/* Everyone's input of this chunk is in place: takes what is this rank's. `block`: of which destination. */
static void take(const struct run *run, int block, size_t offset, size_t bytes, size_t whole)
{
    int me = run->comm->rank;
    switch (run->op->call) {
    case EMUL_ALL_REDUCE: take_reduced(run, offset, bytes); break;
    case EMUL_REDUCE:
        if (me == run->op->peer) take_reduced(run, offset, bytes);
        break;
    case EMUL_BROADCAST: memcpy(target(run, offset), place(run, run->op->peer), bytes); break;
    case EMUL_ALL_GATHER:
        for (int r = 0; r < run->comm->ranks; r++)
            memcpy(target(run, (size_t)r * whole + offset), place(run, r), bytes);
        break;
    case EMUL_REDUCE_SCATTER:
        if (me == block) take_reduced(run, offset, bytes);
        break;
    case EMUL_ALL_TO_ALL:
        for (int r = 0; me == block && r < run->comm->ranks; r++)
            memcpy(target(run, (size_t)r * whole + offset), place(run, r), bytes);
        break;
    default: break;
    }
}

/* The ranks must agree on what they do: a real library would hang or corrupt. */
static bool agree(const struct run *run)
{
    struct emul_comm *comm = run->comm;
    const struct emul_ccl_op *op = run->op;
    struct ccl_rank *mine = &comm->shared->rank[comm->rank];
    mine->call = (int)op->call;
    mine->type = op->type;
    mine->reduce = op->reduce < EMUL_MADE ? op->reduce : EMUL_MADE; /* the numbers are each rank's own */
    mine->peer = op->peer;
    mine->count = op->count;
    if (!ccl_barrier(comm)) return false;
    for (int r = 0; r < comm->ranks; r++) {
        const struct ccl_rank *other = &comm->shared->rank[r];
        if (other->call == mine->call && other->type == mine->type && other->reduce == mine->reduce &&
            other->peer == mine->peer && other->count == mine->count)
            continue;
        emul_misuse(
            EMUL_INVALID,
            "rank %d does call %d, %zu of type %d, op %d, root %d; rank %d call %d, %zu of type %d, op %d, root %d",
            comm->rank, mine->call, mine->count, mine->type, mine->reduce, mine->peer, r, other->call, other->count,
            other->type, other->reduce, other->peer);
    }
    return ccl_barrier(comm);
}

static bool collective(struct emul_comm *comm, const struct emul_ccl_op *op)
{
    struct run run = {comm, op, emul_type_size(op->type)};
    if (!agree(&run)) return false;
    bool blocks = op->call == EMUL_REDUCE_SCATTER || op->call == EMUL_ALL_TO_ALL;
    bool gives = op->call != EMUL_BROADCAST || op->peer == comm->rank;
    size_t whole = op->count * run.width;
    for (int block = 0; block < (blocks ? comm->ranks : 1); block++)
        for (size_t offset = 0; offset < whole; offset += CCL_CHUNK) {
            size_t bytes = whole - offset < CCL_CHUNK ? whole - offset : CCL_CHUNK;
            if (gives ? !put(&run, (size_t)block * whole + offset, bytes) : !ccl_barrier(comm)) return false;
            take(&run, block, offset, bytes, whole);
            if (!ccl_barrier(comm)) return false;
        }
    return true;
}

/* Messages: each moves a piece whenever its channel lets it. A send has ended when its receiver has all of it: that a small
 * one would find room on the way is not to be relied on. */
static bool step(struct emul_comm *comm, const struct emul_ccl_op *op, size_t *done, bool *moved)
{
    bool sends = op->call == EMUL_SEND;
    int from = sends ? comm->rank : op->peer, to = sends ? op->peer : comm->rank;
    struct ccl_channel *channel = &comm->shared->channel[from * comm->ranks + to];
    size_t total = op->count * emul_type_size(op->type), left = total - *done;
    uint64_t written = atomic_load_explicit(&channel->written, memory_order_acquire);
    uint64_t read = atomic_load_explicit(&channel->read, memory_order_acquire);
    if (total == 0) return true;
    if (sends && *done == total) return written == read;
    if (sends ? written != read : written == read) return false;
    size_t bytes = sends ? (left < CCL_MESSAGE ? left : CCL_MESSAGE) : channel->bytes;
    const void *address = sends ? (const char *)op->send + *done : (const char *)op->recv + *done;
    char *alias = emul_translate(address);
    if (!alias) alias = (char *)(uintptr_t)address;
    if (sends) {
        channel->bytes = bytes;
        channel->total = total;
        memcpy(channel->data, alias, bytes);
        atomic_store_explicit(&channel->written, written + 1, memory_order_release);
    } else {
        if (channel->total != total)
            emul_misuse(EMUL_INVALID, "a message of %zu bytes from %d meets a receive of %zu", channel->total, from,
                        total);
        memcpy(alias, channel->data, bytes < left ? bytes : left);
        atomic_store_explicit(&channel->read, read + 1, memory_order_release);
    }
    *moved = true;
    *done += bytes < left ? bytes : left;
    return !sends && *done == total;
}

/* The first unfinished one of each direction and peer goes ahead. */
static bool blocked(const struct emul_ccl_op *ops, const bool *finished, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (!finished[k] && ops[k].call == ops[i].call && ops[k].peer == ops[i].peer) return true;
    return false;
}

static bool messages(struct emul_comm *comm, const struct emul_ccl_op *ops, size_t count)
{
    size_t *done = calloc(count, sizeof(*done)), open = 0;
    bool *finished = calloc(count, sizeof(*finished)), good = true;
    unsigned turn = 0;
    if (!done || !finished) abort();
    for (size_t i = 0; i < count; i++) finished[i] = ops[i].call != EMUL_SEND && ops[i].call != EMUL_RECV;
    for (size_t i = 0; i < count; i++) open += !finished[i];
    while (open && good) {
        bool moved = false;
        for (size_t i = 0; i < count; i++)
            if (!finished[i] && !blocked(ops, finished, i) && step(comm, &ops[i], &done[i], &moved)) {
                finished[i] = true;
                open--;
            }
        if (!moved && open)
            good = ccl_pause(comm, &turn);
        else
            turn = 0;
    }
    free(done);
    free(finished);
    return good;
}

/* cclasync@N: the Nth operation of a communicator ends it with an error and stays until the abort. */
static void fail(struct emul_comm *comm)
{
    unsigned turn = 0;
    atomic_store_explicit(&comm->error, EMUL_CCL_REMOTE, memory_order_release);
    while (ccl_pause(comm, &turn)) {}
}

/* What a communicator has on several streams runs in the order of the calls, one group after the other. */
static bool take_turn(struct ccl_batch *batch)
{
    struct emul_comm *comm = batch->comm;
    unsigned turn = 0;
    while (atomic_load_explicit(&comm->ended, memory_order_acquire) < batch->after) /* pairs with the end of ccl_run */
        if (!ccl_pause(comm, &turn)) return false;
    return true;
}

int ccl_run(void *data)
{
    struct ccl_batch *batch = data;
    struct emul_comm *comm = batch->comm;
    unsigned at;
    atomic_store_explicit(&comm->began_ns, ccl_now(), memory_order_relaxed);
    bool broken =
        emul_fault(comm->vendor, "cclasync", &at) && at >= batch->first + 1 && at <= batch->first + batch->count;
    if (broken) fail(comm);
    bool good = !broken && take_turn(batch) && !atomic_load_explicit(&comm->aborted, memory_order_acquire);
    for (size_t i = 0; i < batch->count && good; i++) {
        const struct emul_ccl_op *op = &batch->ops[i];
        if (op->call == EMUL_BARRIER)
            good = ccl_barrier(comm);
        else if (op->call != EMUL_SEND && op->call != EMUL_RECV)
            good = collective(comm, op);
    }
    if (good) messages(comm, batch->ops, batch->count);
    atomic_fetch_add_explicit(&comm->ended, batch->count, memory_order_release); /* take_turn, emul_ccl_busy */
    return 0;
}

void ccl_drop(void *data)
{
    struct ccl_batch *batch = data;
    ccl_put(batch->comm);
    free(batch->ops);
    free(batch);
}
