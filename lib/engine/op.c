/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state machine of an operation. A collective publishes its line, waits for the lines of the ranks of its host,
 * compares signatures, and only then picks its program: from facts that all of them have read. Windows of the program
 * then run, up to `depth` at a time.
 */
#include "config.h"

#include "lib/engine/exec.h"
#include "lib/engine/quick.h"
#include "lib/engine/transports.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long an operation that received a message of another call waits for the explanation before it fails without one;
 * and one whose peer is gone: the cause, an abort or a death, is on its way or found by the monitor. */
#define EXPLAIN_NS      (2 * MDL_NS_PER_S)
#define EXPLAIN_GONE_NS (500 * MDL_NS_PER_MS)

/* How often the quick way looks for the others' lines before it leaves the waiting to the driver. */
enum { QUICK_TURNS = 64, QUICK_YIELDS = 16 };

static bool is_p2p(const struct mdl_op *op)
{
    return op->call.coll == medleyCollSend || op->call.coll == medleyCollRecv;
}
static bool is_v(const struct mdl_op *op)
{
    return op->call.coll >= medleyCollAllGatherV && op->call.coll <= medleyCollAlltoAllV;
}

void mdl_op_init(struct mdl_op *op, struct mdl_comm *c, medleyColl_t coll, const void *in, void *out, size_t count,
                 medleyDataType_t dtype, medleyRedOp_t rop, int root)
{
    *op =
        (struct mdl_op){.comm = c, .in = in, .out = out, .count = count, .elem = mdl_dtype_size(dtype), .suspect = -1};
    mdl_list_init(&op->link);
    op->call = (struct mdl_call){
        .coll = (uint8_t)coll, .dtype = (uint8_t)dtype, .op = (uint8_t)rop, .root = root, .count = count};
}

/* ---- what is published ---- */

static size_t table_span(const struct mdl_op *op, int counts)
{
    const size_t *n = op->tables + (size_t)counts * (size_t)op->comm->nranks, *d = n + op->comm->nranks;
    size_t end = 0;

    for (int r = 0; r < op->comm->nranks; r++) {
        if (n[r] && d[r] + n[r] > end) end = d[r] + n[r];
    }
    return end;
}

/* Bytes of IN and OUT that this rank's call uses; 0 where the collective does not use them on this rank. */
static void buffer_bytes(const struct mdl_op *op, size_t *in, size_t *out)
{
    size_t n = (size_t)op->comm->nranks, bytes = op->count * op->elem;
    bool root = op->call.root == op->comm->rank;

    *in = *out = bytes;
    switch (op->call.coll) {
    case medleyCollAllGather: *out = n * bytes; break;
    case medleyCollReduceScatter: *in = n * bytes; break;
    case medleyCollAlltoAll: *in = *out = n * bytes; break;
    case medleyCollReduce: *out = root ? bytes : 0; break;
    case medleyCollBroadcast: *in = root ? bytes : 0; break;
    case medleyCollGather: *out = root ? n * bytes : 0; break;
    case medleyCollScatter: *in = root ? n * bytes : 0; break;
    case medleyCollBarrier: *in = *out = 0; break;
    case medleyCollAllGatherV:
        *in = op->tables[op->comm->rank] * op->elem;
        *out = table_span(op, 2) * op->elem;
        break;
    case medleyCollReduceScatterV:
        *in = table_span(op, 0) * op->elem;
        *out = op->tables[op->comm->rank] * op->elem;
        break;
    case medleyCollAlltoAllV:
        *in = table_span(op, 0) * op->elem;
        *out = table_span(op, 2) * op->elem;
        break;
    case medleyCollSend: *out = 0; break;
    case medleyCollRecv: *in = 0; break;
    default: break;
    }
}

/* Where IN would be if the call is in place. */
static const void *in_place_address(const struct mdl_op *op)
{
    size_t at = 0, rank = (size_t)op->comm->rank, slot = rank * op->count * op->elem, n = (size_t)op->comm->nranks;

    switch (op->call.coll) {
    case medleyCollAllGather:
    case medleyCollGather: at = slot; break;
    case medleyCollAllGatherV: at = op->tables[3 * n + rank] * op->elem; break;
    case medleyCollReduceScatter:
    case medleyCollScatter: return (const char *)op->out - slot;
    case medleyCollReduceScatterV: return (const char *)op->out - op->tables[n + rank] * op->elem;
    default: break;
    }
    return (const char *)op->out + at;
}

static void describe(const void *ptr, size_t bytes, uint64_t *segment, uint64_t *addr, uint8_t *flags, uint8_t mapped)
{
    struct mdl_mem mem = {0};

    if (bytes) mdl_mem_describe(ptr, bytes, &mem);
    *segment = mem.segment;
    *addr = mem.segment ? mem.offset : (uint64_t)(uintptr_t)ptr;
    if (mem.segment || !bytes) *flags |= mapped;
}

static void describe_buffers(struct mdl_op *op)
{
    struct mdl_call *call = &op->call;
    uintptr_t in = (uintptr_t)op->in, out = (uintptr_t)op->out;
    size_t in_bytes, out_bytes;

    buffer_bytes(op, &in_bytes, &out_bytes);
    describe(op->in, in_bytes, &call->in_segment, &call->in_addr, &call->flags, MDL_LINE_IN_MAPPED);
    describe(op->out, out_bytes, &call->out_segment, &call->out_addr, &call->flags, MDL_LINE_OUT_MAPPED);
    if (in_bytes && out_bytes && op->in == in_place_address(op)) call->flags |= MDL_LINE_IN_PLACE;
    if (!in_bytes || !out_bytes || in + in_bytes <= out || out + out_bytes <= in) call->flags |= MDL_LINE_APART;
}

/* ---- collectives ---- */

static bool nothing_to_do(const struct mdl_op *op)
{
    size_t n = (size_t)op->comm->nranks;

    if (op->call.coll == medleyCollBarrier) return n == 1;
    if (op->call.coll == medleyCollAlltoAllV) return false; /* only the own row is known */
    if (!is_v(op)) return op->count == 0;
    for (size_t r = 0; r < n; r++) {
        if (op->tables[r]) return false;
    }
    return true;
}

/* To a counter that this thread alone writes. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static void finish(struct mdl_op *op, medleyResult_t res)
{
    struct mdl_comm *c = op->comm;
    struct mdl_coll_counters *s = &c->colls[op->call.coll];
    size_t in, out;

    op->state = MDL_STATE_FINISHED;
    op->result = res;
    if (res != medleySuccess) return;
    buffer_bytes(op, &in, &out);
    add(&s->calls, 1);
    add(&s->bytes, in > out ? in : out);
    add(&s->ticks, mdl_ticks() - op->issued_ticks);
    mdl_diary_done(&c->diary, op->diary);
}

static void notify_all(struct mdl_comm *c)
{
    const int *members = c->team->members[c->team->host[c->rank]];

    for (int i = 0; i < c->board.nlocal; i++)
        if (i != c->board.me) c->map_transport->ops->notify(c->map_transport->ctx, members[i]);
}

static void publish(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;

    op->seq = ++c->coll_seq;
    op->quick = op->quick || mdl_quick_fits(op);
    /* The tag is for ranks that do not see each other's lines. Those of a quick call do, and compare all of it. */
    if (!op->quick) op->tag = c->history = mdl_call_tag(&op->call, op->seq, c->history);
    op->lines_seen = 0;
    op->state = MDL_STATE_LINES;
    if (op->quick) {
        mdl_quick_put(op);
        mdl_board_publish_short(&c->board, op->seq, &op->call);
        notify_all(c);
        /* while the line is on its way */
        op->diary = mdl_diary_start(&c->diary, &op->call, op->seq, op->tag);
        return;
    }
    op->diary = mdl_diary_start(&c->diary, &op->call, op->seq, op->tag);
    if (!c->use_board) return;
    describe_buffers(op);
    memset(c->mapped, 0, (size_t)c->board.nlocal * sizeof(*c->mapped));
    mdl_board_publish(&c->board, op->seq, &op->call);
    notify_all(c);
}

/* Reads the lines in order of local rank; Success when all are there and agree. */
static medleyResult_t read_lines(struct mdl_op *op, int *events)
{
    struct mdl_comm *c = op->comm;
    const int *members = c->team->members[c->team->host[c->rank]];

    for (; op->lines_seen < c->board.nlocal; op->lines_seen++) {
        int i = op->lines_seen;
        medleyResult_t res = mdl_board_look(&c->board, i, op->seq, &c->calls[i]);

        for (int k = c->spin_ns ? MDL_LOOKS : 0; res == medleyInProgress && k > 0; k--) {
            mdl_relax();
            res = mdl_board_look(&c->board, i, op->seq, &c->calls[i]);
        }
        if (res == medleyInProgress) return res;
        if (res != medleySuccess) { /* it went on without us: it called something else as this collective */
            op->suspect = members[i];
            return medleyInvalidUsage;
        }
        if (!mdl_call_same(&c->calls[i], &op->call)) {
            mdl_diag_mismatch(c, op->seq, c->rank, &op->call, members[i], &c->calls[i]);
            return mdl_comm_fault(c);
        }
        (*events)++;
    }
    return medleySuccess;
}

static struct mdl_facts gather_facts(const struct mdl_comm *c)
{
    uint8_t all = 0xff;

    if (!c->use_board || c->team->nhosts > 1) return (struct mdl_facts){0};
    for (int i = 0; i < c->board.nlocal; i++) all &= c->calls[i].flags;
    return (struct mdl_facts){
        .in_place = (all & MDL_LINE_IN_PLACE) != 0,
        .apart = (all & MDL_LINE_APART) != 0,
        .in_mapped = (all & MDL_LINE_IN_MAPPED) != 0,
        .out_mapped = (all & MDL_LINE_OUT_MAPPED) != 0,
    };
}

static size_t longest_slot(const struct mdl_op *op)
{
    size_t n = (size_t)op->comm->nranks, most = 0;

    if (!is_v(op)) return op->count;
    for (size_t r = 0; r < n; r++) {
        if (op->tables[r] > most) most = op->tables[r];
        if (op->tables[2 * n + r] > most) most = op->tables[2 * n + r];
    }
    return most;
}

/* What the ranks of this host read and write in all. */
static size_t touched_bytes(const struct mdl_op *op)
{
    size_t in, out;

    buffer_bytes(op, &in, &out);
    return (in + out) * (size_t)op->comm->team->host_size[op->comm->team->host[op->comm->rank]];
}

static medleyResult_t choose(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    size_t longest = longest_slot(op);
    struct mdl_collective coll = {
        .coll = op->call.coll,
        .dtype = op->call.dtype,
        .op = op->call.op,
        .premul = op->premul,
        .deterministic = c->cfg.deterministic,
        .root = op->call.root,
        .count = is_v(op) ? 0 : op->count,
        .facts = gather_facts(c),
    };
    struct mdl_program_args args = {
        .team = c->team, .limits = &c->limits, .spec = c->cfg.algo.s, .rank = c->rank, .verify = c->cfg.verify};

    MDL_TRY(mdl_program_get(&c->cache, &args, &coll, &op->program));
    op->stream = touched_bytes(op) > c->stream_bytes;
    op->window = op->program->choice.window;
    op->nwindows = longest / op->window + (longest % op->window != 0);
    if (op->nwindows == 0) op->nwindows = 1; /* a barrier, or an AlltoAllV that sends nothing: see exec.c */
    op->windows_left = op->nwindows;
    op->next_window = 0;
    atomic_store_explicit(&c->last_algo, op->program->plan->algo, memory_order_relaxed);
    atomic_store_explicit(&c->last_predicted_ns, op->program->choice.predicted_ns, memory_order_relaxed);
    op->state = MDL_STATE_RUN;
    return medleySuccess;
}

static medleyResult_t run_windows(struct mdl_op *op, int *events)
{
    uint32_t depth = op->program->choice.depth;
    bool idle = true;

    while (op->next_window < op->nwindows && !op->runs[op->next_window % depth]) {
        MDL_TRY(mdl_run_start(op, op->next_window, &op->runs[op->next_window % depth]));
        op->next_window++;
    }
    /* The oldest works first, and the next one only while it waits: so the memory that is in use, and with it the part of
     * the caches, is as small as the peers' pace allows. */
    for (size_t w = op->next_window > depth ? op->next_window - depth : 0; w < op->next_window; w++) {
        struct mdl_run **run = &op->runs[w % depth];
        medleyResult_t res;
        if (!*run) continue;
        res = mdl_run_step(*run, events, &idle);
        if (res != medleyInProgress && res != medleySuccess) return res;
        if (res == medleySuccess) {
            mdl_run_stop(*run);
            *run = NULL;
            op->windows_left--;
            (*events)++;
        }
    }
    return op->windows_left ? medleyInProgress : medleySuccess;
}

static medleyResult_t start_collective(struct mdl_op *op)
{
    if (nothing_to_do(op)) {
        /* dropped: it takes no number, but is counted, so that a peer that did not drop it finds out */
        mdl_diary_drop(&op->comm->diary);
        op->diary = mdl_diary_start(&op->comm->diary, &op->call, 0, 0);
        finish(op, medleySuccess);
        return medleySuccess;
    }
    publish(op);
    if (!op->comm->use_board) return choose(op);
    return medleyInProgress;
}

static medleyResult_t finish_quick(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    const struct mdl_team *t = c->team;
    uint64_t bytes = (uint64_t)op->count * op->elem * (uint64_t)c->nranks;

    mdl_quick_take(op);
    atomic_store_explicit(&c->last_algo, "oneshot", memory_order_relaxed);
    atomic_store_explicit(&c->last_predicted_ns, t->local_alpha + bytes * t->copy_beta / 1000, memory_order_relaxed);
    return medleySuccess;
}

static medleyResult_t step_collective(struct mdl_op *op, int *events)
{
    medleyResult_t res = medleyInProgress;

    if (op->state == MDL_STATE_NEW) {
        res = start_collective(op);
        (*events)++;
        if (op->state == MDL_STATE_FINISHED || (res != medleySuccess && res != medleyInProgress)) return res;
    }
    if (op->state == MDL_STATE_LINES) {
        MDL_TRY(read_lines(op, events));
        if (op->quick) return finish_quick(op);
        MDL_TRY(choose(op));
    }
    if (op->state == MDL_STATE_RUN) res = run_windows(op, events);
    return res;
}

/* Are the lines of all there, with the same call? Looks on where it has stopped. */
static bool all_agree(struct mdl_op *op)
{
    const struct mdl_board *b = &op->comm->board;

    while (op->lines_seen < b->nlocal && mdl_board_is_same(b, op->lines_seen, op->seq, &op->call)) op->lines_seen++;
    return op->lines_seen == b->nlocal;
}

/* Everything that is not as usual is left to mdl_op_step, which looks again and finds out. */
bool mdl_op_run_quick(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    int turns = c->spin_ns ? QUICK_TURNS : c->yield_ns ? QUICK_YIELDS : 1;

    if (op->scalar_at || (op->count == 0 && op->call.coll != medleyCollBarrier)) return false;
    op->quick = mdl_quick_fits(op);
    if (!op->quick) return false;
    op->issued_ticks = mdl_ticks();
    publish(op);
    while (!all_agree(op)) {
        if (--turns == 0 || mdl_comm_failed(c)) return false;
        if (c->spin_ns)
            mdl_relax();
        else
            sched_yield(); /* the others may need this processor */
    }
    finish(op, finish_quick(op));
    return true;
}

/* ---- point to point ---- */

static medleyResult_t take_message_slot(struct mdl_comm *c, struct mdl_message_slot **slot)
{
    struct mdl_message_slot *s = c->free_messages;

    if (s) {
        c->free_messages = s->next;
    } else {
        s = calloc(1, sizeof(*s));
        if (s) s->request = aligned_alloc(64, c->request_bytes);
        if (!s || !s->request) {
            free(s);
            return mdl_error(medleySystemError, "out of memory for a message");
        }
        s->all = c->all_messages;
        c->all_messages = s;
    }
    memset(s->request, 0, c->request_bytes);
    *slot = s;
    return medleySuccess;
}

static medleyResult_t start_message(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    bool send = op->call.coll == medleyCollSend;
    int peer = op->call.root;
    _Atomic uint64_t *seq = &c->p2p_seq[send ? peer : c->nranks + peer];

    MDL_TRY(take_message_slot(c, &op->message));
    op->seq = atomic_load_explicit(seq, memory_order_relaxed) + 1;
    atomic_store_explicit(seq, op->seq, memory_order_relaxed);
    op->tag = mdl_call_tag(&op->call, op->seq, 0);
    op->diary = mdl_diary_start(&c->diary, &op->call, op->seq, op->tag);
    op->state = MDL_STATE_LINES; /* to be posted */
    return medleySuccess;
}

static medleyResult_t post_message(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    int peer = op->call.root;
    const struct mdl_transport_use *t = &c->transport[c->via[peer]];
    bool send = op->call.coll == medleyCollSend;
    uint64_t *order = &c->p2p_posted[send ? peer : c->nranks + peer];
    struct mdl_message msg = {.len = op->count * op->elem, .tag = op->tag, .channel = MDL_P2P_CHANNEL};
    _Atomic uint64_t *n = send ? &c->peers[peer].sent : &c->peers[peer].received;
    medleyResult_t res;

    if (*order + 1 != op->seq) return medleyInProgress; /* an earlier one of this pair found no room yet */
    msg.ptr = send ? (void *)(uintptr_t)op->in : op->out;
    res = send ? t->ops->send(t->ctx, peer, &msg, op->message->request)
               : t->ops->recv(t->ctx, peer, &msg, op->message->request);
    if (res == medleyRemoteError) op->suspect = peer;
    if (res != medleySuccess) return res;
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + msg.len, memory_order_relaxed);
    ++*order;
    op->state = MDL_STATE_RUN;
    return medleySuccess;
}

static medleyResult_t step_message(struct mdl_op *op, int *events)
{
    struct mdl_request *req;

    if (op->state == MDL_STATE_NEW) MDL_TRY(start_message(op));
    if (op->state == MDL_STATE_LINES) {
        MDL_TRY(post_message(op));
        (*events)++;
    }
    req = op->message->request;
    if (req->state == MDL_REQ_DONE) {
        op->message->next = op->comm->free_messages;
        op->comm->free_messages = op->message;
        op->message = NULL;
        (*events)++;
        return medleySuccess;
    }
    if (req->state != MDL_REQ_FAILED) return medleyInProgress;
    op->suspect = op->call.root;
    return req->result == medleySuccess ? medleyInternalError : req->result;
}

/* ---- both ---- */

static void begin_doubt(struct mdl_op *op, medleyResult_t res)
{
    struct mdl_comm *c = op->comm;

    op->state = MDL_STATE_DOUBT;
    op->doubt = res;
    op->give_up_ns = mdl_now_ns() + (res == medleyInvalidUsage ? EXPLAIN_NS : EXPLAIN_GONE_NS);
    snprintf(c->doubt_text, sizeof(c->doubt_text), "%s", mdl_error_text());
    if (res == medleyInvalidUsage) {
        if (!is_p2p(op)) mdl_diag_ask_past(c, op->suspect); /* this call among them */
        mdl_diag_ask(c, op, op->suspect);
        return;
    }
    mdl_ctl_watch_peer(c->ctl, op->suspect);
}

/* Another rank called something else, or is gone. In the first case both sides ask each other. The explanation arrives
 * as a fault; without one fail here after a while. */
static medleyResult_t step_doubt(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    const char *host = mdl_ctl_host(c->ctl, op->suspect);
    char call[MDL_CALL_TEXT_BYTES], text[MDL_ERROR_TEXT_BYTES];
    bool gone = atomic_load_explicit(&c->gone[op->suspect], memory_order_relaxed);

    if (mdl_now_ns() < op->give_up_ns) return medleyInProgress;
    mdl_call_text(&op->call, call);
    if (op->doubt == medleyInvalidUsage)
        snprintf(text, sizeof(text),
                 "rank %d called %s #%llu but rank %d (host %s) called something else that does not match: %.200s",
                 c->rank, call, (unsigned long long)op->seq, op->suspect, host, c->doubt_text);
    else
        snprintf(text, sizeof(text), "rank %d (host %s) %s: %.200s; rank %d was in %s #%llu", op->suspect, host,
                 gone ? "has destroyed its communicator and will not take part" : "is lost", c->doubt_text, c->rank,
                 call, (unsigned long long)op->seq);
    mdl_comm_fail(c, gone ? medleyInvalidUsage : op->doubt, op->suspect, text, true);
    return op->doubt;
}

static bool others_fault(const struct mdl_op *op, medleyResult_t res)
{
    return op->suspect >= 0 && (res == medleyInvalidUsage || res == medleyRemoteError);
}

/* The caller is about to get its buffers back: from here on neither this rank nor a peer may touch them, and what a
 * peer reads of them does not count. */
static medleyResult_t fail(struct mdl_op *op)
{
    mdl_transports_abort(op->comm);
    finish(op, mdl_comm_fault(op->comm));
    return op->result;
}

medleyResult_t mdl_op_step(struct mdl_op *op, int *events)
{
    struct mdl_comm *c = op->comm;
    medleyResult_t res;

    if (op->state == MDL_STATE_FINISHED) return op->result;
    if (mdl_comm_failed(c)) return fail(op);
    if (op->state == MDL_STATE_NEW) {
        op->issued_ticks = op->issued_ticks ? op->issued_ticks : mdl_ticks();
        if (op->scalar_at) memcpy(&op->scalar, op->scalar_at, op->elem);
        op->scalar_at = NULL;
    }
    if (op->state == MDL_STATE_DOUBT)
        res = step_doubt(op);
    else if (is_p2p(op))
        res = step_message(op, events);
    else
        res = step_collective(op, events);
    if (op->state != MDL_STATE_DOUBT && others_fault(op, res) && !mdl_comm_failed(c)) {
        begin_doubt(op, res);
        return medleyInProgress;
    }
    if (res == medleyInProgress) return res;
    if (res != medleySuccess && !mdl_comm_failed(c)) mdl_comm_fail_here(c, res);
    if (op->state == MDL_STATE_FINISHED) return op->result;
    if (mdl_comm_failed(c)) return fail(op);
    finish(op, res);
    return op->result;
}

void mdl_op_fini(struct mdl_op *op)
{
    for (int d = 0; d < MDL_MAX_DEPTH; d++) {
        if (op->runs[d]) mdl_run_stop(op->runs[d]);
        op->runs[d] = NULL;
    }
    free(op->tables);
    op->tables = NULL;
}

int mdl_op_blame(const struct mdl_op *op, int *peers, int cap, uint64_t *outstanding)
{
    struct mdl_comm *c = op->comm;
    int n = 0;

    if (op->state == MDL_STATE_FINISHED || cap < 1) return 0;
    if (is_p2p(op)) {
        peers[n++] = op->call.root;
        *outstanding +=
            op->count * op->elem - (op->message && op->state == MDL_STATE_RUN ? op->message->request->bytes : 0);
        return n;
    }
    if (op->state == MDL_STATE_LINES) {
        struct mdl_call unused;
        for (int i = op->lines_seen; i < c->board.nlocal && n < cap; i++) {
            if (mdl_board_look(&c->board, i, op->seq, &unused) == medleyInProgress)
                peers[n++] = c->team->members[c->team->host[c->rank]][i];
        }
    }
    for (int d = 0; d < MDL_MAX_DEPTH; d++) {
        if (op->runs[d]) n = mdl_run_blame(op->runs[d], peers, n, cap, outstanding);
    }
    return n;
}
