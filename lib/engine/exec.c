/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executor. Messages and signals that may start go first, so that peers can work while this rank copies and
 * reduces; then one copy or reduction per step, so that one thread serves many windows and operations.
 */
#include "config.h"

#include "lib/engine/exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A larger difference of tags is that of two calls. */
#define COUNT_LIMIT ((uint64_t)1 << 48)

static struct mdl_request *request_of(const struct mdl_run *run, uint32_t inst)
{
    return (struct mdl_request *)(run->requests + run->prog->request[inst] * run->op->comm->request_bytes);
}

static void push(struct mdl_run *run, uint32_t i)
{
    uint8_t op = run->prog->plan->insts[i].op;

    if (op == MDL_OP_COPY || op == MDL_OP_REDUCE)
        run->work[run->work_tail++ % run->capacity] = i;
    else
        run->ready[run->ready_tail++ % run->capacity] = i;
}

static void release(struct mdl_run *run, uint32_t i)
{
    if (--run->need[i] == 0) push(run, i);
}

static void posted(struct mdl_run *run, uint32_t i)
{
    if (run->prog->next[i] != MDL_NO_DEP) release(run, run->prog->next[i]);
}

static void done(struct mdl_run *run, uint32_t i, int *events)
{
    for (uint32_t s = run->prog->succ_start[i]; s < run->prog->succ_start[i + 1]; s++) release(run, run->prog->succ[s]);
    run->left--;
    (*events)++;
}

static uint32_t channel_of(const struct mdl_run *run, const struct mdl_inst *in)
{
    return run->base_channel + in->channel;
}

static void count_traffic(struct mdl_comm *c, const struct mdl_inst *in, size_t bytes)
{
    struct mdl_peer_counters *p = &c->peers[in->peer];
    _Atomic uint64_t *n = in->op == MDL_OP_SEND ? &p->sent : &p->received;

    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + bytes, memory_order_relaxed);
}

/* AlltoAllV: what this rank's row says of the messages to or from a peer. */
static size_t pair_count(const struct mdl_op *op, int peer, bool send)
{
    return op->tables[(send ? 0 : 2 * (size_t)op->comm->nranks) + (size_t)peer];
}

/* Each rank knows its own row of an AlltoAllV only. So the tags of its messages tell the count of the pair, and the
 * first one is sent even without elements: else a difference would pass, or leave one side waiting for ever. */
static uint64_t message_tag(const struct mdl_op *op, int peer, bool send)
{
    return op->call.coll == medleyCollAlltoAllV ? op->tag + pair_count(op, peer, send) : op->tag;
}

static bool sends_empty(const struct mdl_run *run)
{
    medleyColl_t coll = run->op->call.coll;

    return coll == medleyCollBarrier || (coll == medleyCollAlltoAllV && run->start == 0);
}

/* Posts a SEND or RECV. InProgress: the transport has no room now. */
static medleyResult_t post_message(struct mdl_run *run, uint32_t i, int *events)
{
    const struct mdl_inst *in = &run->prog->plan->insts[i];
    struct mdl_comm *c = run->op->comm;
    const struct mdl_transport_use *t = &c->transport[c->via[in->peer]];
    bool send = in->op == MDL_OP_SEND;
    struct mdl_request *req = request_of(run, i);
    struct mdl_place place;
    struct mdl_message msg;
    medleyResult_t res;

    MDL_TRY(mdl_place_resolve(run, send ? &run->prog->plan->refs[in->src] : &in->dst, &place));
    if (place.bytes == 0 && !sends_empty(run)) { /* both sides know the length and leave the message out */
        posted(run, i);
        done(run, i, events);
        return medleySuccess;
    }
    msg = (struct mdl_message){.ptr = place.ptr,
                               .len = place.bytes,
                               .tag = message_tag(run->op, (int)in->peer, send),
                               .channel = channel_of(run, in)};
    memset(req, 0, sizeof(*req));
    res = send ? t->ops->send(t->ctx, (int)in->peer, &msg, req) : t->ops->recv(t->ctx, (int)in->peer, &msg, req);
    if (res == medleyRemoteError) run->op->suspect = (int)in->peer;
    if (res != medleySuccess) return res;
    count_traffic(c, in, place.bytes);
    run->flight[run->nflight++] = i;
    posted(run, i);
    return medleySuccess;
}

static void do_signal(struct mdl_run *run, uint32_t i, int *events)
{
    const struct mdl_inst *in = &run->prog->plan->insts[i];
    struct mdl_comm *c = run->op->comm;

    mdl_board_signal(&c->board, c->team->local[in->peer], channel_of(run, in));
    c->map_transport->ops->notify(c->map_transport->ctx, (int)in->peer);
    posted(run, i);
    done(run, i, events);
}

/* Starts what may start, once round: a message without room goes to the end of the ring. */
static medleyResult_t start_ready(struct mdl_run *run, int *events)
{
    for (uint32_t end = run->ready_tail; run->ready_head != end;) {
        uint32_t i = run->ready[run->ready_head++ % run->capacity];
        medleyResult_t res = medleySuccess;

        switch (run->prog->plan->insts[i].op) {
        case MDL_OP_SEND:
        case MDL_OP_RECV: res = post_message(run, i, events); break;
        case MDL_OP_SIGNAL: do_signal(run, i, events); break;
        case MDL_OP_WAIT: run->flight[run->nflight++] = i; break;
        default:
            return mdl_error(medleyInternalError, "instruction %u of plan %s is not supported", i,
                             run->prog->plan->algo);
        }
        if (res == medleyInProgress)
            run->ready[run->ready_tail++ % run->capacity] = i;
        else if (res != medleySuccess)
            return res;
    }
    return medleySuccess;
}

/* Did the peer make the same call, with another count for this rank? */
static bool is_wrong_count(const struct mdl_run *run, uint32_t i)
{
    const struct mdl_request *req = request_of(run, i);

    return run->op->call.coll == medleyCollAlltoAllV && run->prog->plan->insts[i].op == MDL_OP_RECV &&
           req->result == medleyInvalidUsage && req->peer_tag - run->op->tag < COUNT_LIMIT;
}

static medleyResult_t fail_counts(struct mdl_run *run, uint32_t i)
{
    const struct mdl_inst *in = &run->prog->plan->insts[i];
    const struct mdl_op *op = run->op;
    struct mdl_comm *c = op->comm;
    const char *host = mdl_ctl_host(c->ctl, (int)in->peer);
    char call[MDL_CALL_TEXT_BYTES], text[MDL_ERROR_TEXT_BYTES];

    mdl_call_text(&op->call, call);
    snprintf(text, sizeof(text),
             "mismatched counts: rank %u (host %s) sends %llu elements to rank %d (host %s) in %s #%llu, which expects "
             "%zu; sendcounts[j] of rank i must equal recvcounts[i] of rank j",
             in->peer, host, (unsigned long long)(request_of(run, i)->peer_tag - op->tag), c->rank,
             mdl_ctl_host(c->ctl, c->rank), call, (unsigned long long)op->seq, pair_count(op, (int)in->peer, false));
    mdl_comm_fail(c, medleyInvalidUsage, (int)in->peer, text, true);
    return medleyInvalidUsage;
}

static medleyResult_t check_message(struct mdl_run *run, uint32_t i)
{
    const struct mdl_request *req = request_of(run, i);

    if (req->state == MDL_REQ_DONE) return medleySuccess;
    if (req->state != MDL_REQ_FAILED) return medleyInProgress;
    run->op->suspect = (int)run->prog->plan->insts[i].peer;
    if (is_wrong_count(run, i)) return fail_counts(run, i);
    return req->result == medleySuccess ? medleyInternalError : req->result;
}

/* Has the peer of a WAIT signalled? If this run has nothing else to do it is worth a few looks before the driver looks
 * after everything else. */
static bool hear(const struct mdl_run *run, const struct mdl_inst *in)
{
    struct mdl_comm *c = run->op->comm;
    bool alone = run->nflight == 1 && run->ready_head == run->ready_tail && run->work_head == run->work_tail;
    int looks = alone && c->spin_ns ? MDL_LOOKS : 1;

    for (;;) {
        if (mdl_board_consume(&c->board, c->team->local[in->peer], channel_of(run, in))) return true;
        if (--looks == 0) return false;
        mdl_relax();
    }
}

static medleyResult_t poll_flight(struct mdl_run *run, int *events)
{
    for (uint32_t f = 0; f < run->nflight;) {
        uint32_t i = run->flight[f];
        const struct mdl_inst *in = &run->prog->plan->insts[i];

        if (in->op == MDL_OP_WAIT) {
            if (!hear(run, in)) {
                f++;
                continue;
            }
            posted(run, i);
        } else {
            medleyResult_t res = check_message(run, i);
            if (res == medleyInProgress) {
                f++;
                continue;
            }
            if (res != medleySuccess) return res;
        }
        run->flight[f] = run->flight[--run->nflight];
        done(run, i, events);
    }
    return medleySuccess;
}

medleyResult_t mdl_run_step(struct mdl_run *run, int *events, bool *idle)
{
    MDL_TRY(start_ready(run, events));
    MDL_TRY(poll_flight(run, events));
    if (*idle && run->work_head != run->work_tail) {
        uint32_t i = run->work[run->work_head++ % run->capacity];
        const struct mdl_inst *in = &run->prog->plan->insts[i];

        if (in->op == MDL_OP_COPY)
            MDL_TRY(mdl_place_copy(run, in));
        else
            MDL_TRY(mdl_place_reduce(run, i));
        done(run, i, events);
        for (uint32_t c = run->prog->next[i]; c != MDL_NO_DEP; c = run->prog->next[c]) done(run, c, events);
        *idle = false;
        MDL_TRY(start_ready(run, events));
    }
    return run->left ? medleyInProgress : medleySuccess;
}

/* Makes the arrays large enough. They are kept between operations, so this allocates only when a larger plan comes. */
static medleyResult_t reserve(struct mdl_run *run, const struct mdl_program *prog, size_t request_bytes)
{
    uint32_t n = prog->plan->ninsts + 1u;

    if (run->capacity < n) {
        free(run->need);
        free(run->ready);
        run->need = malloc(n * sizeof(*run->need));
        run->ready = malloc(3u * n * sizeof(*run->ready));
        run->capacity = run->need && run->ready ? n : 0;
    }
    run->work = run->ready + run->capacity;
    run->flight = run->work + run->capacity;
    if (run->req_capacity < prog->nrequests) {
        free(run->requests);
        run->requests = aligned_alloc(64, prog->nrequests * request_bytes);
        run->req_capacity = run->requests ? prog->nrequests : 0;
        if (run->requests) memset(run->requests, 0, prog->nrequests * request_bytes);
    }
    if (run->capacity < n || run->req_capacity < prog->nrequests)
        return mdl_error(medleySystemError, "out of memory for a plan of %u instructions", n);
    return medleySuccess;
}

static void place_scratch(struct mdl_run *run)
{
    const struct mdl_op *op = run->op;
    const struct mdl_plan *plan = run->prog->plan;
    size_t acc = mdl_dtype_acc_size(op->call.dtype), window = run->prog->choice.window;
    size_t stride = (window * acc + 63) / 64 * 64;

    run->scratch = run->part ? run->part->scratch : 0;
    run->scratch += run->index % run->prog->choice.depth * plan->scratch_slots * stride;
    run->slot_bytes = stride;
    /* references to several slots need them packed; then there is one window, of op->count elements */
    if ((plan->flags & MDL_PLAN_WHOLE) && op->call.coll != medleyCollAllGatherV)
        run->slot_bytes = (run->part ? run->part->count : op->count) * (mdl_op_shape(op)->reduces ? acc : op->elem);
}

static medleyResult_t start(struct mdl_op *op, const struct mdl_program *prog, const struct mdl_run_part *part,
                            size_t index, struct mdl_run **out)
{
    struct mdl_comm *c = op->comm;
    struct mdl_run *run = c->free_runs;
    int events = 0;

    if (run)
        c->free_runs = run->next;
    else
        run = calloc(1, sizeof(*run));
    if (!run) return mdl_error(medleySystemError, "out of memory for a window");
    if (reserve(run, prog, c->request_bytes) != medleySuccess) {
        run->next = c->free_runs;
        c->free_runs = run;
        return medleySystemError;
    }
    run->op = op;
    run->prog = prog;
    run->part = part;
    run->index = index;
    run->start = index * prog->choice.window;
    run->end = part ? part->count : SIZE_MAX;
    run->base_channel = (part ? part->channel : 0) + (uint32_t)(index % prog->choice.depth) * prog->plan->channels;
    run->left = prog->plan->ninsts;
    run->ready_head = run->ready_tail = run->work_head = run->work_tail = run->nflight = 0;
    memcpy(run->need, prog->need, prog->plan->ninsts * sizeof(*run->need));
    place_scratch(run);
    for (uint32_t i = 0; i < prog->plan->ninsts; i++) {
        if (prog->need[i] == 0) push(run, i);
    }
    (void)events;
    *out = run;
    return medleySuccess;
}

medleyResult_t mdl_run_start(struct mdl_op *op, size_t index, struct mdl_run **out)
{
    return start(op, op->program, NULL, index, out);
}

medleyResult_t mdl_run_start_part(struct mdl_op *op, const struct mdl_run_part *part, size_t index,
                                  struct mdl_run **out)
{
    return start(op, part->program, part, index, out);
}

void mdl_run_stop(struct mdl_run *run)
{
    struct mdl_comm *c = run->op->comm;

    run->next = c->free_runs;
    c->free_runs = run;
}

void mdl_run_free_all(struct mdl_comm *c)
{
    while (c->free_runs) {
        struct mdl_run *run = c->free_runs;
        c->free_runs = run->next;
        free(run->need);
        free(run->ready);
        free(run->requests);
        free(run);
    }
}

int mdl_run_blame(const struct mdl_run *run, int *peers, int n, int cap, uint64_t *outstanding)
{
    for (uint32_t f = 0; f < run->nflight; f++) {
        const struct mdl_inst *in = &run->prog->plan->insts[run->flight[f]];
        struct mdl_place place = {0};
        int known = 0;

        while (known < n && peers[known] != (int)in->peer) known++;
        if (known == n && n < cap) peers[n++] = (int)in->peer;
        if (in->op == MDL_OP_WAIT) continue;
        if (mdl_place_resolve(run, in->op == MDL_OP_SEND ? &run->prog->plan->refs[in->src] : &in->dst, &place) ==
            medleySuccess)
            *outstanding += place.bytes - request_of(run, run->flight[f])->bytes;
    }
    return n;
}
