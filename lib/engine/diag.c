/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The diagnosis of stalls. A rank whose operation does not move asks those that it waits for what they called under the
 * same number, telling what it called itself and how far it is with them. The asked rank compares on its reactor
 * thread, so it answers even while its application computes or hangs:
 * - another call under the same number is a mismatch;
 * - if it has not made the matching call, but is itself in a call that the asking rank has not made, both wait for each
 *   other for ever (operations of one communicator run in order): the calls are out of order;
 * - else it is merely late, or the answer is left to the heartbeats, and nothing is said.
 * A mismatch becomes the fault of all ranks, with both sides in its text.
 *
 * ASK: p2p u8, zero[7]; seq, drops, coll_seq, sends to you, receives from you: u64 each; signature
 * (MDL_CALL_WIRE_BYTES).
 */
#include "config.h"

#include "lib/engine/op.h"

#include <stdio.h>

enum { MSG_ASK = MDL_CTL_USER, ASK_BYTES = 8 + 5 * 8 + MDL_CALL_WIRE_BYTES };

struct ask {
    int src;
    bool p2p;
    uint64_t seq, drops, coll_seq, sends, recvs;
    struct mdl_call call;
};

static bool is_p2p(const struct mdl_call *c) { return c->coll == medleyCollSend || c->coll == medleyCollRecv; }

/* ---- asking ---- */

void mdl_diag_ask(struct mdl_comm *c, const struct mdl_op *op, int peer)
{
    uint8_t buf[ASK_BYTES];
    struct mdl_writer w = {.p = buf, .cap = sizeof(buf)};

    if (peer == c->rank) return;
    mdl_write_u64(&w, is_p2p(&op->call));
    mdl_write_u64(&w, op->seq);
    mdl_write_u64(&w, atomic_load_explicit(&c->diary.drops, memory_order_relaxed));
    mdl_write_u64(&w, atomic_load_explicit(&c->diary.coll_seq, memory_order_relaxed));
    mdl_write_u64(&w, atomic_load_explicit(&c->p2p_seq[peer], memory_order_relaxed));
    mdl_write_u64(&w, atomic_load_explicit(&c->p2p_seq[c->nranks + peer], memory_order_relaxed));
    mdl_call_write(&w, &op->call);
    mdl_ctl_watch_peer(c->ctl, peer); /* its silence shall be noticed, whatever the tree's neighbours see */
    (void)mdl_ctl_send(c->ctl, peer, MSG_ASK, buf, w.len); /* a peer that is gone is reported by the control plane */
}

/* ---- answering ---- */

static void fail_both(struct mdl_comm *c, const char *head, int rank_a, const struct mdl_call *a, uint64_t seq_a,
                      int rank_b, const struct mdl_call *b, uint64_t seq_b, const char *advice)
{
    char text[MDL_ERROR_TEXT_BYTES], text_a[MDL_CALL_TEXT_BYTES], text_b[MDL_CALL_TEXT_BYTES];

    mdl_call_text(a, text_a);
    mdl_call_text(b, text_b);
    snprintf(text, sizeof(text), "%s: rank %d (host %s) called %s #%llu but rank %d (host %s) called %s #%llu; %s",
             head, rank_a, mdl_ctl_host(c->ctl, rank_a), text_a, (unsigned long long)seq_a, rank_b,
             mdl_ctl_host(c->ctl, rank_b), text_b, (unsigned long long)seq_b, advice);
    mdl_comm_fail(c, medleyInvalidUsage, rank_a, text, true);
}

void mdl_diag_mismatch(struct mdl_comm *c, uint64_t seq, int rank_a, const struct mdl_call *a, int rank_b,
                       const struct mdl_call *b)
{
    fail_both(c, "mismatched calls", rank_a, a, seq, rank_b, b, seq,
              "all ranks must make the same calls in the same order");
}

static uint8_t opposite(uint8_t coll) { return coll == medleyCollSend ? medleyCollRecv : medleyCollSend; }

/* Has the asking rank not made the call that would let our open call go on? */
static bool they_lack(const struct ask *a, const struct mdl_diary_note *ours)
{
    if (!is_p2p(&ours->call)) return a->coll_seq < ours->seq;
    if (ours->call.root != a->src) return false;
    return (ours->call.coll == medleyCollSend ? a->recvs : a->sends) < ours->seq;
}

/* We have not made their call: is one of ours waiting for a call of theirs? */
static void look_for_cycle(struct mdl_comm *c, const struct ask *a)
{
    struct mdl_diary_note note;

    for (uint64_t from = 0; mdl_diary_open(&c->diary, &from, &note);) {
        if (!they_lack(a, &note)) continue;
        fail_both(c, "calls out of order", a->src, &a->call, a->seq, c->rank, &note.call, note.seq,
                  "each waits for the other: make the calls in the same order, or put messages that need each other "
                  "into one group");
        return;
    }
}

static void compare_collective(struct mdl_comm *c, const struct ask *a)
{
    struct mdl_diary_note note;
    uint64_t at = atomic_load_explicit(&c->diary.coll_seq, memory_order_acquire);

    if (mdl_diary_find(&c->diary, a->seq, &note)) {
        if (!mdl_call_same(&note.call, &a->call)) mdl_diag_mismatch(c, a->seq, a->src, &a->call, c->rank, &note.call);
        return;
    }
    if (at >= a->seq) return; /* so long ago that the diary has lost it: it matched, or would have been noticed */
    if (atomic_load_explicit(&c->diary.drops, memory_order_relaxed) > a->drops && mdl_diary_find(&c->diary, 0, &note))
        mdl_diag_mismatch(c, a->seq, a->src, &a->call, c->rank, &note.call); /* ours had no elements and was dropped */
    else
        look_for_cycle(c, a);
}

static void compare_message(struct mdl_comm *c, const struct ask *a)
{
    bool sends = a->call.coll == medleyCollSend;
    uint64_t ours = atomic_load_explicit(&c->p2p_seq[sends ? c->nranks + a->src : a->src], memory_order_relaxed);
    struct mdl_diary_note note;

    if (ours < a->seq) {
        look_for_cycle(c, a);
        return;
    }
    if (!mdl_diary_find_message(&c->diary, opposite(a->call.coll), a->src, a->seq, &note)) return;
    if (note.call.count == a->call.count && note.call.dtype == a->call.dtype) return;
    fail_both(c, "mismatched calls", a->src, &a->call, a->seq, c->rank, &note.call, note.seq,
              "both sides of a message must have the same count and type");
}

static void on_ask(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;
    struct mdl_reader r = {.p = payload, .left = len};
    struct ask a = {.src = src, .p2p = mdl_read_u64(&r) != 0};

    a.seq = mdl_read_u64(&r);
    a.drops = mdl_read_u64(&r);
    a.coll_seq = mdl_read_u64(&r);
    a.sends = mdl_read_u64(&r);
    a.recvs = mdl_read_u64(&r);
    mdl_call_read(&r, &a.call);
    if (r.bad || a.call.coll >= medleyNumColls || a.call.dtype >= medleyNumTypes || a.p2p != is_p2p(&a.call)) {
        MDL_WARN(MDL_FAULT, "rank %d sent a malformed question", src);
        return;
    }
    if (mdl_comm_failed(c)) return;
    if (a.p2p)
        compare_message(c, &a);
    else
        compare_collective(c, &a);
}

void mdl_diag_attach(struct mdl_comm *c) { mdl_ctl_handle(c->ctl, MSG_ASK, on_ask, c); }
