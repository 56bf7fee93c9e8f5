/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state machine of an operation. A collective publishes its line, waits for the lines of the ranks of its host,
 * compares signatures (lines.c), and only then picks its program: from facts that all of them have read. Windows of the
 * program then run, up to `depth` at a time.
 */
#include "config.h"

#include "lib/engine/direct.h"
#include "lib/engine/exec.h"
#include "lib/engine/island.h"
#include "lib/engine/lines.h"
#include "lib/engine/native.h"
#include "lib/engine/quick.h"
#include "lib/engine/stage.h"
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

/* ---- collectives ---- */

static bool nothing_to_do(const struct mdl_op *op)
{
    size_t n = (size_t)op->comm->nranks;

    if (op->call.coll == medleyCollBarrier) return n == 1;
    if (op->call.coll == medleyCollAlltoAllV) return false; /* only the own row is known */
    if (!mdl_op_shape(op)->v) return op->count == 0;
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

/* To read the counter twice takes longer than much of the rest of a quick call: the first ones have their time taken,
 * then one in eight. */
static bool takes_time(const struct mdl_coll_counters *s)
{
    return s->untimed >= 7 || atomic_load_explicit(&s->calls, memory_order_relaxed) < 16;
}

static void count_ticks(const struct mdl_op *op, struct mdl_coll_counters *s)
{
    if (op->issued_ticks) add(&s->ticks, (mdl_ticks() - op->issued_ticks) * (op->sampled ? s->untimed + 1 : 1));
    if (op->sampled)
        s->untimed = 0;
    else if (!op->issued_ticks)
        s->untimed++;
}

static void finish(struct mdl_op *op, medleyResult_t res)
{
    struct mdl_comm *c = op->comm;
    struct mdl_coll_counters *s = &c->colls[op->call.coll];
    size_t in, out;

    op->state = MDL_STATE_FINISHED;
    op->result = res;
    if (res != medleySuccess) return;
    mdl_lines_bytes(op, &in, &out);
    add(&s->calls, 1);
    add(&s->bytes, in > out ? in : out);
    count_ticks(op, s);
    mdl_diary_done(&c->diary, op->diary);
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

size_t mdl_op_longest_slot(const struct mdl_op *op)
{
    size_t n = (size_t)op->comm->nranks, most = 0;

    if (!mdl_op_shape(op)->v) return op->count;
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

    mdl_lines_bytes(op, &in, &out);
    return (in + out) * (size_t)op->comm->team->host_size[op->comm->team->host[op->comm->rank]];
}

static void pass_through(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;

    atomic_store_explicit(&c->last_algo, c->native->ops->name, memory_order_relaxed);
    atomic_store_explicit(&c->last_predicted_ns, 0, memory_order_relaxed);
    op->state = MDL_STATE_RUN;
}

static medleyResult_t choose(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    size_t longest = mdl_op_longest_slot(op);
    struct mdl_collective coll = {
        .coll = op->call.coll,
        .dtype = op->call.dtype,
        .op = op->call.op,
        .premul = op->premul,
        .deterministic = c->cfg.deterministic,
        .root = op->call.root,
        .count = mdl_op_shape(op)->v ? 0 : op->count,
        .facts = gather_facts(c),
    };
    struct mdl_program_args args = {
        .team = c->team, .limits = &c->limits, .spec = c->cfg.algo.s, .rank = c->rank, .verify = c->cfg.verify};

    op->stream = touched_bytes(op) > c->stream_bytes;
    if (c->islands && mdl_island_takes(op)) return mdl_island_start(op, &coll);
    if (op->native) {
        pass_through(op);
        return medleySuccess;
    }
    MDL_TRY(mdl_program_get(&c->cache, &args, &coll, &op->program));
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

static medleyResult_t choose_with_lines(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;

    mdl_far_look(&c->far, &c->board, op->seq, op->count * op->elem);
    return choose(op);
}

/* The block of the stage that window w lies in; of all windows: the number of blocks. */
static size_t block_of(const struct mdl_op *op, size_t w)
{
    return w == op->nwindows ? op->stage->nblocks : op->stage->nblocks == 1 ? 0 : w * op->window / op->stage->block;
}

static bool has_input(const struct mdl_op *op, size_t w)
{
    return !op->stage || mdl_stage_has(op->stage, block_of(op, w));
}

/* Blocks of which all windows are done may leave the stage. */
static void pass_on(struct mdl_op *op)
{
    uint32_t depth = op->program->choice.depth;
    size_t w = op->next_window > depth ? op->next_window - depth : 0;

    if (!op->stage) return;
    while (w < op->next_window && !op->runs[w % depth]) w++;
    mdl_stage_done(op->stage, block_of(op, w));
}

static medleyResult_t run_windows(struct mdl_op *op, int *events)
{
    uint32_t depth = op->program->choice.depth;
    bool idle = true;

    while (op->next_window < op->nwindows && !op->runs[op->next_window % depth] && has_input(op, op->next_window)) {
        MDL_TRY(mdl_run_start(op, op->next_window, &op->runs[op->next_window % depth]));
        op->next_window++;
    }
    /* The oldest works first, and the next one only while it waits: so the memory that is in use, and with it the part
     * of the caches, is as small as the peers' pace allows. */
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
            pass_on(op);
        }
    }
    return op->windows_left ? medleyInProgress : medleySuccess;
}

/* Does it go from device to device? */
static bool is_direct(const struct mdl_op *op) { return op->stage && op->stage->direct; }

static medleyResult_t run(struct mdl_op *op, int *events)
{
    if (op->island) return mdl_island_run(op, events);
    if (op->native) return mdl_native_step(op, events);
    return is_direct(op) ? mdl_direct_run(op, events) : run_windows(op, events);
}

static void note(struct mdl_op *op) { op->diary = mdl_diary_start(&op->comm->diary, &op->call, op->seq, op->tag); }

static medleyResult_t start_collective(struct mdl_op *op)
{
    if (nothing_to_do(op)) {
        /* dropped: it takes no number, but is counted, so that a peer that did not drop it finds out */
        mdl_diary_drop(&op->comm->diary);
        op->diary = mdl_diary_start(&op->comm->diary, &op->call, 0, 0);
        finish(op, medleySuccess);
        return medleySuccess;
    }
    mdl_lines_begin(op);
    note(op); /* before any wait, so that who asks is told */
    if (!op->comm->use_board) return choose(op);
    return medleyInProgress;
}

static medleyResult_t step_collective(struct mdl_op *op, int *events)
{
    medleyResult_t res = medleyInProgress;

    if (op->state == MDL_STATE_NEW) {
        res = start_collective(op);
        (*events)++;
        if (op->state == MDL_STATE_FINISHED || (res != medleySuccess && res != medleyInProgress)) return res;
    }
    if (op->state == MDL_STATE_ROOM) {
        MDL_TRY(mdl_lines_make_room(op, events));
        mdl_lines_publish(op);
        (*events)++;
    }
    if (op->state == MDL_STATE_LINES) {
        MDL_TRY(mdl_lines_read(op, events));
        if (op->rooms) {
            mdl_quick_finish(op);
            return medleySuccess;
        }
        if (is_direct(op))
            mdl_direct_start(op);
        else
            MDL_TRY(choose_with_lines(op));
    }
    if (op->state == MDL_STATE_RUN) res = run(op, events);
    return res;
}

/* Between two looks of the quick way; false: that is enough. */
static bool look_again(const struct mdl_op *op, int *turns)
{
    if (--*turns == 0 || mdl_comm_failed(op->comm)) return false;
    if (op->comm->spin_ns)
        mdl_relax();
    else
        sched_yield(); /* the others may need this processor */
    return true;
}

/* Its time is taken in any case, and stands for none but itself. */
static bool leave_to_driver(struct mdl_op *op)
{
    if (!op->issued_ticks) op->issued_ticks = mdl_ticks();
    op->sampled = false;
    return false;
}

/* Everything that is not as usual is left to mdl_op_step, which looks again and finds out. */
bool mdl_op_run_quick(struct mdl_op *op)
{
    const struct mdl_comm *c = op->comm;
    int turns = c->spin_ns ? QUICK_TURNS : c->yield_ns ? QUICK_YIELDS : 1;
    bool noted = false;

    if (op->scalar_at || (op->count == 0 && op->call.coll != medleyCollBarrier)) return false;
    if (!mdl_quick_take_on(op)) return false;
    op->sampled = takes_time(&c->colls[op->call.coll]);
    if (op->sampled) op->issued_ticks = mdl_ticks();
    mdl_lines_begin(op);
    while (!mdl_lines_has_room(op)) {
        if (!noted) note(op);
        noted = true;
        if (!look_again(op, &turns)) return leave_to_driver(op);
    }
    mdl_lines_publish(op);
    if (!noted) note(op); /* while the line is on its way */
    while (!mdl_lines_agree(op))
        if (!look_again(op, &turns)) return leave_to_driver(op);
    mdl_quick_finish(op);
    finish(op, medleySuccess);
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

/* Where some rank has a device, long messages go in pieces, on both sides alike, so that they can pass through its stage.
 * The pieces are the operation's windows. */
static void cut_message(struct mdl_op *op)
{
    op->window = op->comm->limits.blocks ? MDL_STAGE_P2P_BYTES / op->elem : op->count;
    op->nwindows = op->window && op->count ? (op->count + op->window - 1) / op->window : 1;
    op->windows_left = op->nwindows;
    op->next_window = 0;
}

static medleyResult_t start_message(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    bool send = op->call.coll == medleyCollSend;
    int peer = op->call.root;
    _Atomic uint64_t *seq = &c->p2p_seq[send ? peer : c->nranks + peer];

    cut_message(op);
    op->seq = atomic_load_explicit(seq, memory_order_relaxed) + 1;
    atomic_store_explicit(seq, op->seq, memory_order_relaxed);
    op->tag = mdl_call_tag(&op->call, op->seq, 0);
    op->diary = mdl_diary_start(&c->diary, &op->call, op->seq, op->tag);
    op->state = MDL_STATE_LINES; /* to be posted */
    return medleySuccess;
}

static size_t piece_count(const struct mdl_op *op, size_t piece)
{
    size_t from = piece * op->window;

    return op->count - from < op->window ? op->count - from : op->window;
}

static void *piece_address(const struct mdl_op *op, size_t piece)
{
    enum mdl_buffer buf = op->call.coll == medleyCollSend ? MDL_IN : MDL_OUT;
    char *all = buf == MDL_IN ? (char *)(uintptr_t)op->in : op->out;

    if (op->stage && op->stage->side[buf].staged) return mdl_stage_at(op->stage, buf, 0, piece * op->window);
    return all ? all + piece * op->window * op->elem : NULL;
}

/* Hands the next piece to the transport. InProgress: it has no room now. */
static medleyResult_t post_piece(struct mdl_op *op)
{
    struct mdl_comm *c = op->comm;
    int peer = op->call.root;
    const struct mdl_transport_use *t = &c->transport[c->via[peer]];
    bool send = op->call.coll == medleyCollSend;
    size_t piece = op->next_window;
    struct mdl_message_slot **slot = &op->messages[piece % MDL_MAX_DEPTH];
    struct mdl_message msg = {.ptr = piece_address(op, piece),
                              .len = piece_count(op, piece) * op->elem,
                              .tag = op->tag,
                              .channel = MDL_P2P_CHANNEL};
    _Atomic uint64_t *n = send ? &c->peers[peer].sent : &c->peers[peer].received;
    medleyResult_t res;

    if (!*slot) MDL_TRY(take_message_slot(c, slot));
    res = send ? t->ops->send(t->ctx, peer, &msg, (*slot)->request) : t->ops->recv(t->ctx, peer, &msg, (*slot)->request);
    if (res == medleyRemoteError) op->suspect = peer;
    if (res != medleySuccess) return res;
    add(n, msg.len);
    op->next_window++;
    return medleySuccess;
}

static medleyResult_t post_message(struct mdl_op *op, int *events)
{
    struct mdl_comm *c = op->comm;
    bool send = op->call.coll == medleyCollSend;
    uint64_t *order = &c->p2p_posted[send ? op->call.root : c->nranks + op->call.root];

    if (*order + 1 != op->seq) return medleyInProgress; /* an earlier one of this pair found no room yet */
    if (op->native) {
        ++*order;
        add(send ? &c->peers[op->call.root].sent : &c->peers[op->call.root].received, op->count * op->elem);
        pass_through(op);
        return medleySuccess;
    }
    while (op->next_window < op->nwindows && op->next_window - (op->nwindows - op->windows_left) < MDL_MAX_DEPTH &&
           has_input(op, op->next_window)) {
        MDL_TRY(post_piece(op));
        (*events)++;
    }
    if (op->next_window < op->nwindows) return medleyInProgress;
    ++*order;
    op->state = MDL_STATE_RUN;
    return medleySuccess;
}

/* Looks at the pieces that are under way, the oldest first. */
static medleyResult_t collect_pieces(struct mdl_op *op, int *events)
{
    for (size_t w = op->nwindows - op->windows_left; w < op->next_window; w++) {
        struct mdl_message_slot **slot = &op->messages[w % MDL_MAX_DEPTH];
        const struct mdl_request *req = (*slot)->request;
        if (req->state == MDL_REQ_FAILED) {
            op->suspect = op->call.root;
            return req->result == medleySuccess ? medleyInternalError : req->result;
        }
        if (req->state != MDL_REQ_DONE) return medleyInProgress;
        (*slot)->next = op->comm->free_messages;
        op->comm->free_messages = *slot;
        *slot = NULL;
        op->windows_left--;
        (*events)++;
        if (op->stage) mdl_stage_done(op->stage, w + 1 == op->nwindows ? op->stage->nblocks : block_of(op, w + 1));
    }
    return op->windows_left ? medleyInProgress : medleySuccess;
}

static medleyResult_t step_message(struct mdl_op *op, int *events)
{
    medleyResult_t res = medleySuccess;

    if (op->state == MDL_STATE_NEW) MDL_TRY(start_message(op));
    if (op->state == MDL_STATE_LINES) res = post_message(op, events);
    if (res != medleySuccess && res != medleyInProgress) return res;
    if (op->native) return op->state == MDL_STATE_RUN ? mdl_native_step(op, events) : medleyInProgress;
    return collect_pieces(op, events);
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
        if (!mdl_op_is_message(op)) mdl_diag_ask_past(c, op->suspect); /* this call among them */
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
 * peer reads of them does not count. Who still appends to the stream may wait for what the stream waits for. */
static medleyResult_t fail(struct mdl_op *op)
{
    mdl_transports_abort(op->comm);
    if (op->stage) mdl_stage_reached(op->stage);
    if (op->stage) mdl_stage_release(op->stage);
    finish(op, mdl_comm_fault(op->comm));
    return op->result;
}

/* Has the stream come to the call? From then on its buffers are those of the stage. */
static bool is_reached(struct mdl_op *op)
{
    struct mdl_stage *s = op->stage;

    if (!s) return true;
    if (s->direct) return mdl_direct_is_reached(op);
    if (op->native) return true; /* of an island: see island.h */
    if (!mdl_stage_has(s, 0)) return false;
    if (s->side[MDL_IN].staged) op->in = s->side[MDL_IN].base;
    if (s->side[MDL_OUT].staged) op->out = s->side[MDL_OUT].base;
    if (s->scalar) op->scalar_at = s->scalar;
    return true;
}

medleyResult_t mdl_op_step(struct mdl_op *op, int *events)
{
    struct mdl_comm *c = op->comm;
    medleyResult_t res;

    if (op->state == MDL_STATE_FINISHED) return op->result;
    if (mdl_comm_failed(c)) return fail(op);
    if (op->state == MDL_STATE_NEW && !is_reached(op)) return medleyInProgress;
    if (op->state == MDL_STATE_NEW) {
        if (op->stage) mdl_stage_reached(op->stage);
        op->issued_ticks = op->issued_ticks ? op->issued_ticks : mdl_ticks();
        if (op->scalar_at) memcpy(&op->scalar, op->scalar_at, op->elem);
        op->scalar_at = NULL;
    }
    if (mdl_native_waits(op) && op->state != MDL_STATE_RUN) mdl_native_look_for_begin(op);
    if (op->state == MDL_STATE_DOUBT)
        res = step_doubt(op);
    else if (mdl_op_is_message(op))
        res = step_message(op, events);
    else
        res = step_collective(op, events);
    if (op->state != MDL_STATE_DOUBT && others_fault(op, res) && !mdl_comm_failed(c)) {
        begin_doubt(op, res);
        return medleyInProgress;
    }
    if (res == medleyInProgress) return res;
    if (res == medleySuccess && op->stage && !is_direct(op)) mdl_stage_done(op->stage, op->stage->nblocks);
    if (res != medleySuccess && !mdl_comm_failed(c)) mdl_comm_fail_here(c, res);
    if (op->state == MDL_STATE_FINISHED) return op->result;
    if (mdl_comm_failed(c)) return fail(op);
    finish(op, res);
    return op->result;
}

void mdl_op_fini(struct mdl_op *op)
{
    for (int d = 0; d < MDL_MAX_DEPTH && !mdl_op_is_message(op); d++) {
        if (op->runs[d]) mdl_run_stop(op->runs[d]);
        op->runs[d] = NULL;
    }
    if (op->island) mdl_island_let_go(op);
    if (op->stage) mdl_stage_let_go(op->stage);
    op->stage = NULL;
    if (op->native) mdl_native_let_go(op);
    free(op->tables);
    op->tables = NULL;
}

static uint64_t message_bytes_left(const struct mdl_op *op)
{
    uint64_t left = (uint64_t)op->count * op->elem;

    for (size_t w = 0; w < op->next_window; w++) {
        const struct mdl_message_slot *slot = op->messages[w % MDL_MAX_DEPTH];
        bool done = w < op->nwindows - op->windows_left;
        left -= done ? piece_count(op, w) * op->elem : slot->request->bytes;
    }
    return left;
}

int mdl_op_blame(const struct mdl_op *op, int *peers, int cap, uint64_t *outstanding)
{
    int n = 0;

    if (op->state == MDL_STATE_FINISHED || cap < 1) return 0;
    if (mdl_op_is_message(op)) {
        peers[n++] = op->call.root;
        *outstanding += message_bytes_left(op);
        return n;
    }
    if (op->state == MDL_STATE_ROOM || op->state == MDL_STATE_LINES) n = mdl_lines_blame(op, peers, cap);
    if (op->island && op->state == MDL_STATE_RUN) return mdl_island_blame(op, peers, cap, outstanding);
    if (op->native && op->state == MDL_STATE_RUN) return mdl_native_blame(op, peers, cap);
    if (is_direct(op) && n == 0) n = mdl_direct_blame(op, peers, cap);
    for (int d = 0; d < MDL_MAX_DEPTH; d++) {
        if (op->runs[d]) n = mdl_run_blame(op->runs[d], peers, n, cap, outstanding);
    }
    return n;
}
