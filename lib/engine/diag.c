/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The diagnosis of stalls. A rank whose operation does not move asks those that it waits for what they called under the
 * same number, telling what it called itself and how far it is with them. The asked rank compares on its reactor
 * thread, so it answers even while its application computes or hangs:
 * - another call under the same number is a mismatch;
 * - if it has not made the matching call, but is itself in a call that the asking rank has not made, both wait for each
 *   other for ever (operations of one communicator run in order): the calls are out of order.
 * A mismatch becomes the fault of all ranks, with both sides in its text. Else the answer says whether it has not made
 * the call (it is late), or that its stream has not come to it, or itself waits for somebody: then that one is asked
 * next, about that wait. So whoever waits learns who holds all up, though in a ring or a tree it waits for a rank that
 * is as innocent as itself.
 */
#include "config.h"

#include "lib/engine/ask.h"
#include "lib/engine/op.h"
#include "lib/engine/queue.h"

#include <stdio.h>

/* What is known of the end of the chain. TRACED: asked because of another's answer. That stays while the chain is asked
 * anew from its beginning: whose answer is a moment late there is not the one that all wait for. */
enum { CAUSE_NONE, CAUSE_ASKED, CAUSE_TRACED, CAUSE_LATE, CAUSE_HELD };

struct cause {
    int state, rank;
};

/* ---- what is known ---- */

static uint32_t wait_number(struct mdl_comm *c)
{
    return atomic_load_explicit(&c->waiting.number, memory_order_relaxed);
}

/* Relaxed, here and below: each word is complete in itself, and only serves to find words for people. */
static void set_cause(struct mdl_comm *c, uint32_t wait, int state, int rank)
{
    atomic_store_explicit(&c->waiting.cause, (uint64_t)wait << 32 | (uint64_t)state << 24 | (uint64_t)(uint32_t)rank,
                          memory_order_relaxed);
}

static struct cause get_cause(struct mdl_comm *c)
{
    uint64_t word = atomic_load_explicit(&c->waiting.cause, memory_order_relaxed);

    if ((uint32_t)(word >> 32) != wait_number(c)) return (struct cause){CAUSE_NONE, -1};
    return (struct cause){(int)(word >> 24 & 0xff), (int)(word & 0xffffff)};
}

static bool is_known(struct cause cause) { return cause.state == CAUSE_LATE || cause.state == CAUSE_HELD; }

void mdl_diag_waits(struct mdl_comm *c, const struct mdl_op *op, int peer)
{
    atomic_store_explicit(&c->waiting.whom, (op->diary + 1) << 24 | (uint64_t)(uint32_t)peer, memory_order_relaxed);
}

void mdl_diag_waits_for_stream(struct mdl_comm *c, bool waits)
{
    atomic_store_explicit(&c->waiting.stream, waits, memory_order_relaxed);
}

void mdl_diag_moved(struct mdl_comm *c)
{
    atomic_store_explicit(&c->waiting.stream, false, memory_order_relaxed);
    atomic_store_explicit(&c->waiting.whom, 0, memory_order_relaxed);
    atomic_store_explicit(&c->waiting.number, wait_number(c) + 1, memory_order_relaxed);
}

/* Is this rank in a call in which it waits for somebody? */
static bool waits(struct mdl_comm *c, int *peer, struct mdl_diary_note *note)
{
    uint64_t word = atomic_load_explicit(&c->waiting.whom, memory_order_relaxed);

    *peer = (int)(word & 0xffffff);
    return word && mdl_diary_at(&c->diary, (word >> 24) - 1, note) && note->state == MDL_DIARY_STARTED;
}

int mdl_diag_late(struct mdl_comm *c)
{
    struct cause cause = get_cause(c);

    return is_known(cause) ? cause.rank : -1;
}

int mdl_diag_cause(struct mdl_comm *c, char *text, size_t bytes)
{
    static const char *const words[] = {
        [CAUSE_ASKED] = "does not answer",
        [CAUSE_TRACED] = "does not answer",
        [CAUSE_LATE] = "has not made its call yet",
        [CAUSE_HELD] = "has made its call, but its stream has not come so far",
    };
    struct cause cause = get_cause(c);

    text[0] = 0;
    if (cause.state == CAUSE_NONE) return -1;
    snprintf(text, bytes, "; rank %d (host %s) %s", cause.rank, mdl_ctl_host(c->ctl, cause.rank), words[cause.state]);
    return cause.rank;
}

static void compare_message(struct mdl_comm *c, const struct mdl_question *a);

/* ---- asking ---- */

static void ask(struct mdl_comm *c, const struct mdl_question *q, int peer)
{
    uint8_t bytes[MDL_QUESTION_BYTES];
    struct cause cause = get_cause(c);
    int state = q->hops ? CAUSE_TRACED : CAUSE_ASKED;

    if (!is_known(cause) && cause.state <= state) set_cause(c, q->wait, state, peer);
    mdl_question_write(q, bytes);
    mdl_ctl_watch_peer(c->ctl, peer); /* its silence shall be noticed, whatever the tree's neighbours see */
    (void)mdl_ctl_send(c->ctl, peer, MDL_MSG_ASK, bytes, sizeof(bytes)); /* a peer that is gone is reported by the
                                                                        control plane */
}

static struct mdl_question question(struct mdl_comm *c, uint64_t seq, const struct mdl_call *call, int peer)
{
    struct mdl_question q = {.subject = c->rank, .wait = wait_number(c), .seq = seq, .call = *call};

    q.jobs = (uint32_t)atomic_load_explicit(&c->job.diary.coll_seq, memory_order_relaxed);
    q.drops = atomic_load_explicit(&c->diary.drops, memory_order_relaxed);
    q.coll_seq = atomic_load_explicit(&c->diary.coll_seq, memory_order_relaxed);
    q.sends = atomic_load_explicit(&c->p2p_seq[peer], memory_order_relaxed);
    q.recvs = atomic_load_explicit(&c->p2p_seq[c->nranks + peer], memory_order_relaxed);
    return q;
}

static void ask_about(struct mdl_comm *c, uint64_t seq, const struct mdl_call *call, int peer)
{
    struct mdl_question q = question(c, seq, call, peer);

    if (peer != c->rank)
        ask(c, &q, peer);
    else if (mdl_call_is_message(call)) /* a message to oneself */
        compare_message(c, &q);
}

void mdl_diag_ask(struct mdl_comm *c, const struct mdl_op *op, int peer) { ask_about(c, op->seq, &op->call, peer); }

/* Needs no answer: who is late is known from the exchange itself. */
void mdl_diag_ask_job(struct mdl_comm *c, int peer)
{
    struct mdl_question q = question(c, c->job.seq, &c->job.call, peer);
    uint8_t bytes[MDL_QUESTION_BYTES];

    mdl_question_write(&q, bytes);
    (void)mdl_ctl_send(c->ctl, peer, MDL_MSG_ASK, bytes, sizeof(bytes));
}

void mdl_diag_ask_past(struct mdl_comm *c, int peer)
{
    uint64_t last = atomic_load_explicit(&c->diary.coll_seq, memory_order_acquire);
    uint64_t seq = last > MDL_DIARY_ENTRIES ? last - MDL_DIARY_ENTRIES : 0;
    struct mdl_diary_note note;

    while (++seq <= last)
        if (mdl_diary_find(&c->diary, seq, &note)) ask_about(c, seq, &note.call, peer);
}

static void on_answer(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;
    struct mdl_answer a;
    struct cause known = get_cause(c);

    if (!mdl_answer_read(payload, len, c->nranks, &a)) {
        MDL_WARN(MDL_FAULT, "rank %d sent a malformed answer", src);
        return;
    }
    if (mdl_comm_failed(c) || a.wait != wait_number(c)) return;
    if (a.state == MDL_ANSWER_LATE || a.state == MDL_ANSWER_HELD)
        set_cause(c, a.wait, a.state == MDL_ANSWER_LATE ? CAUSE_LATE : CAUSE_HELD, a.rank);
    else if (a.state == MDL_ANSWER_WAITS && a.rank != c->rank && a.hops < MDL_ASK_HOPS)
        ask(c,
            &(struct mdl_question){
                .hops = (uint8_t)(a.hops + 1), .subject = src, .wait = a.wait, .seq = a.seq, .call = a.call},
            a.rank);
    else if (!is_known(known) && known.rank == src)
        set_cause(c, a.wait, CAUSE_NONE, 0);
}

/* ---- answering ---- */

static const char *same_calls = "all ranks must make the same calls in the same order";

/* "Barrier() #7"; what has no number goes without. */
static void numbered_text(const struct mdl_call *call, uint64_t seq, char *text, size_t bytes)
{
    char words[MDL_CALL_TEXT_BYTES];

    mdl_call_text(call, words);
    if (seq)
        snprintf(text, bytes, "%s #%llu", words, (unsigned long long)seq);
    else
        snprintf(text, bytes, "%s", words);
}

static void fail_both(struct mdl_comm *c, const char *head, int rank_a, const struct mdl_call *a, uint64_t seq_a,
                      int rank_b, const struct mdl_call *b, uint64_t seq_b, const char *advice)
{
    char text[MDL_ERROR_TEXT_BYTES], text_a[MDL_CALL_TEXT_BYTES + 24], text_b[MDL_CALL_TEXT_BYTES + 24];

    numbered_text(a, seq_a, text_a, sizeof(text_a));
    numbered_text(b, seq_b, text_b, sizeof(text_b));
    snprintf(text, sizeof(text), "%s: rank %d (host %s) called %s but rank %d (host %s) called %s; %s", head, rank_a,
             mdl_ctl_host(c->ctl, rank_a), text_a, rank_b, mdl_ctl_host(c->ctl, rank_b), text_b, advice);
    if (mdl_comm_failed(c)) mdl_comm_fail_making(c, medleyInvalidUsage, text); /* a shrink of what has failed */
    mdl_comm_fail(c, medleyInvalidUsage, rank_a, text, true);
}

void mdl_diag_mismatch(struct mdl_comm *c, uint64_t seq, int rank_a, const struct mdl_call *a, int rank_b,
                       const struct mdl_call *b)
{
    fail_both(c, "mismatched calls", rank_a, a, seq, rank_b, b, seq, same_calls);
}

static uint8_t opposite(uint8_t coll) { return coll == medleyCollSend ? medleyCollRecv : medleyCollSend; }

/* Has the asking rank not made the call that would let our open call go on? */
static bool they_lack(const struct mdl_question *a, const struct mdl_diary_note *ours)
{
    if (!mdl_call_is_message(&ours->call)) return a->coll_seq < ours->seq;
    if (ours->call.root != a->subject) return false;
    return (ours->call.coll == medleyCollSend ? a->recvs : a->sends) < ours->seq;
}

/* Does our shrink wait for `rank`? Of many ranks the signature does not tell: then it is taken to. */
static bool shrink_includes(const struct mdl_call *shrink, int rank)
{
    return !shrink->dtype || !(shrink->table >> rank & 1);
}

/* The job in hand, if there is one that waits for a call of theirs. Nothing that was issued before it is under way any
 * more, or it might be the call that they are in. */
static bool job_waits(struct mdl_comm *c, const struct mdl_question *a, struct mdl_diary_note *note)
{
    uint64_t from = 0;

    if (a->subject == c->rank || !mdl_diary_open(&c->job.diary, &from, note) || mdl_queue_busy(c)) return false;
    return note->call.coll == MDL_CALL_SHRINK ? shrink_includes(&note->call, a->subject) : a->jobs < note->seq;
}

/* We have not made their call: is one of ours waiting for a call of theirs? */
static void look_for_cycle(struct mdl_comm *c, const struct mdl_question *a)
{
    struct mdl_diary_note note;

    if (mdl_comm_failed(c)) return;
    for (uint64_t from = 0; mdl_diary_open(&c->diary, &from, &note);) {
        if (!they_lack(a, &note)) continue;
        if (mdl_call_is_job(&a->call) && !mdl_call_is_message(&note.call))
            fail_both(c, "mismatched calls", a->subject, &a->call, a->seq, c->rank, &note.call, note.seq, same_calls);
        else
            fail_both(c, "calls out of order", a->subject, &a->call, a->seq, c->rank, &note.call, note.seq,
                      "each waits for the other: make the calls in the same order, or put messages that need each "
                      "other into one group");
        return;
    }
}

static bool made_job(struct mdl_comm *c, const struct mdl_question *a, struct mdl_diary_note *note)
{
    uint64_t next = atomic_load_explicit(&c->job.diary.next, memory_order_acquire);

    if (a->call.coll != MDL_CALL_SHRINK) return mdl_diary_find(&c->job.diary, a->seq, note);
    for (uint64_t back = 1; back <= MDL_DIARY_ENTRIES && back <= next; back++)
        if (mdl_diary_at(&c->job.diary, next - back, note) && mdl_call_same(&note->call, &a->call)) return true;
    return false;
}

static void compare_job(struct mdl_comm *c, const struct mdl_question *a)
{
    uint64_t last = atomic_load_explicit(&c->job.diary.coll_seq, memory_order_acquire);
    struct mdl_diary_note ours, note;
    bool waits_too = job_waits(c, a, &ours);

    if (made_job(c, a, &note)) {
        if (note.call.coll != a->call.coll && !mdl_comm_failed(c))
            fail_both(c, "mismatched calls", a->subject, &a->call, a->seq, c->rank, &note.call, note.seq, same_calls);
    } else if (waits_too && (!mdl_comm_failed(c) || ours.call.coll == MDL_CALL_SHRINK)) {
        fail_both(c, "mismatched calls", a->subject, &a->call, a->seq, c->rank, &ours.call, ours.seq, same_calls);
    } else if (a->call.coll == MDL_CALL_SHRINK || last < a->seq) {
        look_for_cycle(c, a);
    }
}

static void compare_collective(struct mdl_comm *c, const struct mdl_question *a)
{
    struct mdl_diary_note note, job;
    bool in_job = job_waits(c, a, &job); /* looked at first: what is not in the diary after it was not called before */
    uint64_t at = atomic_load_explicit(&c->diary.coll_seq, memory_order_acquire);

    if (mdl_diary_find(&c->diary, a->seq, &note)) {
        if (!mdl_call_same(&note.call, &a->call))
            mdl_diag_mismatch(c, a->seq, a->subject, &a->call, c->rank, &note.call);
        return;
    }
    if (at >= a->seq) return; /* so long ago that the diary has lost it: it matched, or would have been noticed */
    if (atomic_load_explicit(&c->diary.drops, memory_order_relaxed) > a->drops && mdl_diary_find(&c->diary, 0, &note))
        mdl_diag_mismatch(c, a->seq, a->subject, &a->call, c->rank, &note.call); /* ours had no elements and was dropped
                                                                                  */
    else if (in_job)
        fail_both(c, "mismatched calls", a->subject, &a->call, a->seq, c->rank, &job.call, job.seq, same_calls);
    else
        look_for_cycle(c, a);
}

static void compare_message(struct mdl_comm *c, const struct mdl_question *a)
{
    bool sends = a->call.coll == medleyCollSend;
    struct mdl_diary_note note;
    bool in_job = a->call.root == c->rank && job_waits(c, a, &note); /* first, as above */
    uint64_t ours =
        atomic_load_explicit(&c->p2p_seq[sends ? c->nranks + a->subject : a->subject], memory_order_relaxed);

    if (a->call.root != c->rank) return; /* between others: this rank owes nothing in it */
    if (ours < a->seq) {
        if (in_job)
            fail_both(c, "calls out of order", a->subject, &a->call, a->seq, c->rank, &note.call, note.seq,
                      "each waits for the other: make the calls in the same order");
        else
            look_for_cycle(c, a);
        return;
    }
    if (!mdl_diary_find_message(&c->diary, opposite(a->call.coll), a->subject, a->seq, &note)) return;
    if (note.call.count == a->call.count && note.call.dtype == a->call.dtype) return;
    fail_both(c, "mismatched calls", a->subject, &a->call, a->seq, c->rank, &note.call, note.seq,
              "both sides of a message must have the same count and type");
}

/* Has this rank made the call, or the one that matches it? */
static bool has_called(struct mdl_comm *c, const struct mdl_question *q)
{
    bool sends = q->call.coll == medleyCollSend;

    if (!mdl_call_is_message(&q->call)) return atomic_load_explicit(&c->diary.coll_seq, memory_order_acquire) >= q->seq;
    if (q->call.root != c->rank) return true; /* no question for us */
    return atomic_load_explicit(&c->p2p_seq[sends ? c->nranks + q->subject : q->subject], memory_order_relaxed) >=
           q->seq;
}

static void answer(struct mdl_comm *c, int src, const struct mdl_question *q)
{
    struct mdl_answer a = {
        .state = MDL_ANSWER_BUSY, .hops = q->hops, .rank = c->rank, .wait = q->wait, .seq = q->seq, .call = q->call};
    struct mdl_diary_note note;
    struct cause known = get_cause(c);
    uint8_t bytes[MDL_ANSWER_BYTES];
    int peer;

    if (waits(c, &peer, &note)) {
        bool sure = is_known(known);
        a.state = known.state == CAUSE_LATE ? MDL_ANSWER_LATE : sure ? MDL_ANSWER_HELD : MDL_ANSWER_WAITS;
        a.rank = sure ? known.rank : peer;
        a.seq = note.seq;
        a.call = note.call;
    } else if (!has_called(c, q)) {
        a.state = atomic_load_explicit(&c->unreached, memory_order_relaxed) ? MDL_ANSWER_HELD : MDL_ANSWER_LATE;
    } else if (atomic_load_explicit(&c->waiting.stream, memory_order_relaxed)) {
        a.state = MDL_ANSWER_HELD;
    }
    mdl_answer_write(&a, bytes);
    (void)mdl_ctl_send(c->ctl, src, MDL_MSG_ANSWER, bytes, sizeof(bytes));
}

static void on_ask(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;
    struct mdl_question q;

    if (!mdl_question_read(payload, len, c->nranks, &q)) {
        MDL_WARN(MDL_FAULT, "rank %d sent a malformed question", src);
        return;
    }
    if (mdl_call_is_job(&q.call)) {
        if (q.subject == src && (!mdl_comm_failed(c) || q.call.coll == MDL_CALL_SHRINK)) compare_job(c, &q);
        return;
    }
    if (mdl_comm_failed(c)) return;
    if (q.subject == src && mdl_call_is_message(&q.call))
        compare_message(c, &q);
    else if (q.subject == src)
        compare_collective(c, &q);
    if (!mdl_comm_failed(c)) answer(c, src, &q);
}

void mdl_diag_attach(struct mdl_comm *c)
{
    mdl_ctl_handle(c->ctl, MDL_MSG_ASK, on_ask, c);
    mdl_ctl_handle(c->ctl, MDL_MSG_ANSWER, on_answer, c);
}
