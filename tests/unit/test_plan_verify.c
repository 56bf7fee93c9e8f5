/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier, one demand at a time: what is right passes, and for each way to be wrong a small plan that is wrong in
 * that way only, and the words that say so. */
#include "config.h"
#include "tests/unit/plan_support.h"

static struct call call;

static struct mdl_ref slot(int rank, enum mdl_buffer buf, bool acc, uint32_t s)
{
    return mdl_ref_parts(rank, buf, acc, s, 0, 1);
}
static struct mdl_ref in(int rank) { return slot(rank, MDL_IN, false, 0); }
static struct mdl_ref out(int rank) { return slot(rank, MDL_OUT, false, 0); }
static struct mdl_ref tmp(int rank) { return slot(rank, MDL_SCRATCH, false, 0); }

static void refuse(const char *hosts, medleyColl_t coll, medleyDataType_t dtype, call_builder build, const char *text)
{
    call_init(&call, hosts, coll, dtype, coll == medleyCollBroadcast ? 0 : -1);
    call_build(&call, "wrong", 1, build);
    call_refuse(&call, text);
    call_free(&call);
}

static void accept(const char *hosts, medleyColl_t coll, medleyDataType_t dtype, uint32_t parts, call_builder build)
{
    call_init(&call, hosts, coll, dtype, coll == medleyCollBroadcast ? (int)strlen(hosts) - 1 : -1);
    call_build(&call, "right", parts, build);
    call_accept(&call);
    call_free(&call);
}

/* ---- right plans ---- */

START_TEST(right_plans_pass)
{
    static const char *const many = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const uint32_t sizes[] = {2, 3, 4, 5, 7, 8, 16, 33, 64};
    for (unsigned k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        char hosts[65];
        snprintf(hosts, sizeof(hosts), "%.*s", (int)sizes[k], many);
        accept(hosts, medleyCollAllReduce, medleyFloat16, sizes[k], build_ring);
        accept(hosts, medleyCollAllReduce, medleyInt32, sizes[k], build_direct);
        accept(hosts, medleyCollAllReduce, medleyBfloat16, sizes[k], build_put);
        accept(hosts, medleyCollAllReduce, medleyFloat8e4m3, 1, build_oneshot);
        accept(hosts, medleyCollBroadcast, medleyInt8, 3, build_bcast);
        accept(hosts, medleyCollBarrier, medleyInt8, 1, build_barrier);
        accept(hosts, medleyCollAlltoAll, medleyFloat64, 1, build_exchange);
        accept(hosts, medleyCollAlltoAllV, medleyFloat64, 1, build_exchange);
        accept(hosts, medleyCollAllGather, medleyFloat64, 1, build_gather_all);
        accept(hosts, medleyCollAllGatherV, medleyFloat64, 1, build_gather_all);
    }
    accept("abacabad", medleyCollBroadcast, medleyFloat64, 1, build_bcast);
}
END_TEST

static void one_rank(const struct call *c, int rank, struct mdl_builder *b)
{
    struct mdl_ref src = in(0);
    if (mdl_collective_reduces(&c->coll))
        mdl_build_reduce(b, out(0), &src, 1, MDL_INST_FINAL);
    else if (c->coll.coll != medleyCollBarrier)
        mdl_build_copy(b, out(0), src, 0);
}

START_TEST(one_rank_of_every_collective)
{
    for (int coll = 0; coll <= medleyCollAlltoAllV; coll++)
        for (int dtype = 0; dtype < medleyNumTypes; dtype++) {
            call_init(&call, "a", (medleyColl_t)coll, (medleyDataType_t)dtype, 0);
            call.coll.deterministic = true;
            call_build(&call, "one", 1, one_rank);
            call_accept(&call);
            call_free(&call);
        }
}
END_TEST

START_TEST(other_calls_are_no_collectives)
{
    char why[64];
    call_init(&call, "a", medleyCollSend, medleyInt8, -1);
    ck_assert_int_eq(mdl_plan_verify(&call.team, &call.coll, call.plans, why, sizeof(why)), medleyInvalidArgument);
}
END_TEST

START_TEST(why_may_be_short)
{
    char why[8] = "xxxxxxx";
    call_init(&call, "ab", medleyCollAllReduce, medleyFloat16, -1);
    call_build(&call, "ring", 2, build_ring);
    edit_drop(edit_plan(&call, 0), 0);
    ck_assert_int_eq(mdl_plan_verify(&call.team, &call.coll, call.plans, why, sizeof(why)), medleyInternalError);
    ck_assert_str_eq(why, "AllRedu");
    ck_assert_int_eq(mdl_plan_verify(&call.team, &call.coll, call.plans, NULL, 0), medleyInternalError);
    call_free(&call);
}
END_TEST

/* ---- plans by themselves ---- */

static struct mdl_plan *ring_rank_1(void)
{
    call_init(&call, "aab", medleyCollAllReduce, medleyFloat16, -1);
    call_build(&call, "ring", 3, build_ring);
    return edit_plan(&call, 1);
}

static void refuse_ring(const char *text)
{
    call_refuse(&call, text);
    call_free(&call);
}

START_TEST(headers_agree)
{
    ring_rank_1()->parts = 4;
    refuse_ring("4 parts, rank 0 has 3");
    ring_rank_1()->in_slots = 2;
    refuse_ring("2 and 1 slots instead of 1 and 1");
    ring_rank_1()->flags |= MDL_PLAN_WHOLE;
    refuse_ring("MDL_PLAN_WHOLE");
    ring_rank_1()->channels = 0;
    refuse_ring("channel 0 of a plan of 0");
    ring_rank_1()->scratch_slots = 1;
    refuse_ring("slot out of range");
}
END_TEST

START_TEST(instructions_are_sound)
{
    struct mdl_plan *p = ring_rank_1();
    p->insts[0].op = MDL_OP_NATIVE;
    refuse_ring("opcode 6");
    p = ring_rank_1();
    p->insts[0].src = p->nrefs;
    refuse_ring("sources");
    p = ring_rank_1();
    p->insts[0].nsrc = UINT32_MAX;
    refuse_ring("sources");
    p = ring_rank_1();
    p->insts[2].dep = p->ndeps;
    refuse_ring("dependencies");
    p = ring_rank_1();
    p->deps[p->insts[2].dep] = 2;
    refuse_ring("is not before it");
    p = ring_rank_1();
    p->insts[2].flags = 64;
    refuse_ring("flags 64");
}
END_TEST

/* Remote SCRATCH is checked against its owner's size. */
static void far_scratch(const struct call *c, int rank, struct mdl_builder *b)
{
    if (rank == 1) return;
    mdl_builder_scratch(b, 1);
    mdl_build_copy(b, tmp(0), tmp(1), 0);
}

START_TEST(remote_scratch_has_a_size)
{
    refuse("aa", medleyCollAllGather, medleyInt8, far_scratch, "r1.SCRATCH[0]: slot out of range (of 0)");
}
END_TEST

/* ---- matching ---- */

START_TEST(messages_match)
{
    struct mdl_plan *p = ring_rank_1();
    edit_drop(p, p->ninsts - 1);
    refuse_ring("no counterpart");
    p = ring_rank_1();
    p->insts[find_op(p, MDL_OP_RECV, 0)].dst.hi++;
    refuse_ring("of another size");
    p = ring_rank_1();
    struct mdl_ref *dst = &p->insts[find_op(p, MDL_OP_RECV, 1)].dst;
    dst->acc = 0;
    refuse_ring("only one is a partial");
}
END_TEST

static void more_signals(const struct call *c, int rank, struct mdl_builder *b)
{
    for (int k = 0; rank == 0 && k < 2; k++) mdl_build_signal(b, 1, 0);
    if (rank == 1) mdl_build_wait(b, 0, 0);
}

START_TEST(signals_match)
{
    refuse("aa", medleyCollBarrier, medleyInt8, more_signals, "no counterpart on rank 1, channel 0 (2 against 1)");
}
END_TEST

/* Blocks of an AlltoAllV have the length of their pair, not of their number. */
static void crossed_pairs(const struct call *c, int rank, struct mdl_builder *b)
{
    int n = 3;
    for (int k = 1; k < n; k++) {
        int to = (rank + k) % n, from = (rank + n - k) % n;
        mdl_build_send(b, to, 0, slot(rank, MDL_IN, false, (uint32_t)from));
        mdl_build_recv(b, from, 0, slot(rank, MDL_OUT, false, (uint32_t)from));
    }
}

/* A gathered block of one rank travels as that of another. */
static void crossed_shapes(const struct call *c, int rank, struct mdl_builder *b)
{
    uint32_t me = (uint32_t)rank, other = 1 - me, s = mdl_builder_scratch(b, 1);
    mdl_build_copy(b, slot(rank, MDL_OUT, false, me), in(rank), 0);
    mdl_build_send(b, (int)other, 0, in(rank));
    mdl_build_recv(b, (int)other, 0, mdl_ref_shaped(slot(rank, MDL_SCRATCH, false, s), other));
    mdl_build_copy(b, slot(rank, MDL_OUT, false, me), mdl_ref_shaped(slot(rank, MDL_SCRATCH, false, s), me), 0);
}

START_TEST(lengths_match_in_v)
{
    refuse("abc", medleyCollAlltoAllV, medleyInt8, crossed_pairs, "of another size");
    refuse("ab", medleyCollAllGatherV, medleyInt8, crossed_shapes, "its data has shape");
}
END_TEST

/* ---- deadlock ---- */

static void recv_first(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_builder_scratch(b, 1);
    mdl_build_recv(b, 1 - rank, 0, tmp(rank));
    mdl_build_send(b, 1 - rank, 0, tmp(rank));
}

/* Right if sends are eager, stuck if they are not. */
static void send_first(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_builder_scratch(b, 1);
    mdl_build_send(b, 1 - rank, 0, tmp(rank));
    mdl_build_recv(b, 1 - rank, 0, tmp(rank));
}

/* Each rank posts on two lanes to the other, whose lanes wait in the other order. */
static void crossed_lanes(const struct call *c, int rank, struct mdl_builder *b)
{
    int peer = 1 - rank;
    mdl_build_wait(b, peer, (uint32_t)rank);
    mdl_build_signal(b, peer, 0);
    mdl_build_signal(b, peer, 1);
    mdl_build_wait(b, peer, 1 - (uint32_t)rank);
}

START_TEST(deadlocks_are_found)
{
    refuse("ab", medleyCollBarrier, medleyInt8, recv_first, "deadlock");
    refuse("ab", medleyCollBarrier, medleyInt8, send_first, "deadlock");
    refuse("aa", medleyCollBarrier, medleyInt8, crossed_lanes, "deadlock");
}
END_TEST

/* ---- races, releases, starts ---- */

/* Rank 1 reads rank 0's OUT without waiting for it to be there. */
static void unasked(const struct call *c, int rank, struct mdl_builder *b)
{
    if (rank == 0) mdl_build_copy(b, out(0), in(0), 0);
    if (rank == 1) mdl_build_copy(b, out(1), out(0), 0);
    if (rank == 1) mdl_build_signal(b, 0, 0);
    if (rank == 0) mdl_build_wait(b, 1, 0);
}

/* As it should be, but rank 0 does not wait for rank 1 to have read. */
static void unreleased(const struct call *c, int rank, struct mdl_builder *b)
{
    if (rank == 0) mdl_build_copy(b, out(0), in(0), 0);
    if (rank == 0) mdl_build_signal(b, 1, 0);
    if (rank == 1) mdl_build_wait(b, 0, 0);
    if (rank == 1) mdl_build_copy(b, out(1), out(0), 0);
}

START_TEST(races_and_releases)
{
    /* Whether the read meets nothing yet or the write depends on the order: both are refused. */
    refuse("aa", medleyCollBroadcast, medleyInt8, unasked, "wrong: rank 1");
    refuse("aa", medleyCollBroadcast, medleyInt8, unreleased, "rank 0 may have left before");
}
END_TEST

/* Rank 0 writes into rank 1's SCRATCH, which may still be at work for an earlier window. */
static void early_put(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_builder_scratch(b, 1);
    if (c->coll.deterministic) mdl_builder_whole(b); /* any field that is free here */
    if (rank == 0) mdl_build_copy(b, out(0), in(0), 0);
    if (rank == 0) mdl_build_copy(b, tmp(1), in(0), 0);
    if (rank == 0) mdl_build_signal(b, 1, 0);
    if (rank == 1) mdl_build_wait(b, 0, 0);
    if (rank == 1) mdl_build_copy(b, out(1), tmp(1), 0);
}

START_TEST(scratch_begins_with_its_window)
{
    refuse("aa", medleyCollBroadcast, medleyInt8, early_put, "rank 1 may not have started");
    call_init(&call, "aa", medleyCollBroadcast, medleyInt8, 0);
    call.coll.deterministic = true;
    call_build(&call, "whole", 1, early_put);
    call_accept(&call);
    call_free(&call);
}
END_TEST

/* SCRATCH must be released too, unless one window is all there is. */
static void unreleased_scratch(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_builder_scratch(b, 1);
    if (c->coll.deterministic) mdl_builder_whole(b);
    if (rank == 0) {
        mdl_build_copy(b, out(0), in(0), 0);
        mdl_build_copy(b, tmp(0), in(0), 0);
        mdl_build_signal(b, 1, 0);
    } else {
        mdl_build_wait(b, 0, 0);
        mdl_build_copy(b, out(1), tmp(0), 0);
    }
}

START_TEST(scratch_is_released)
{
    refuse("aa", medleyCollBroadcast, medleyInt8, unreleased_scratch, "rank 0 may have left before");
    call_init(&call, "aa", medleyCollBroadcast, medleyInt8, 0);
    call.coll.deterministic = true;
    call_build(&call, "whole", 1, unreleased_scratch);
    call_accept(&call);
    call_free(&call);
}
END_TEST

/* A message received while an earlier one from the same place may still be going out. */
START_TEST(local_races)
{
    call_init(&call, "abc", medleyCollAllReduce, medleyFloat16, -1);
    call_build(&call, "ring", 3, build_ring);
    struct mdl_plan *p = edit_plan(&call, 0);
    uint32_t last = find_op(p, MDL_OP_RECV, 3);
    ck_assert_uint_gt(p->insts[last].ndep, 0);
    p->insts[last].ndep = 0;
    call_refuse(&call, "races with rank 0");
    call_free(&call);
}
END_TEST

START_TEST(barrier_holds)
{
    call_init(&call, "abcd", medleyCollBarrier, medleyInt8, -1);
    call_build(&call, "barrier", 1, build_barrier);
    for (int r = 0; r < 4; r++) { /* without its second round */
        struct mdl_plan *p = edit_plan(&call, r);
        edit_drop(p, find_op(p, MDL_OP_SEND, 1));
        edit_drop(p, find_op(p, MDL_OP_RECV, 1));
    }
    call_refuse(&call, "may leave the barrier before");
    call_free(&call);
}
END_TEST

/* ---- in place ---- */

/* Right out of place: sends from IN after OUT has been written. */
static void clobbered(const struct call *c, int rank, struct mdl_builder *b)
{
    uint32_t other = 1 - (uint32_t)rank;
    mdl_builder_scratch(b, 1);
    mdl_build_copy(b, slot(rank, MDL_OUT, false, (uint32_t)rank), slot(rank, MDL_IN, false, (uint32_t)rank), 0);
    if (rank == 0) {
        mdl_build_recv(b, 1, 0, slot(0, MDL_OUT, false, 1));
        mdl_build_send(b, 1, 0, slot(0, MDL_IN, false, 1));
    } else {
        mdl_build_send(b, 0, 0, slot(1, MDL_IN, false, 0));
        mdl_build_recv(b, 0, 0, slot(1, MDL_OUT, false, other));
    }
}

/* An exchange after blocks were moved on by one for nothing, which cannot be done in place by one copy. */
static void shifted(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_build_copy(b, mdl_ref_slots(b, rank, MDL_OUT, false, 1, 2), mdl_ref_slots(b, rank, MDL_IN, false, 0, 2), 0);
    build_exchange(c, rank, b);
}

START_TEST(in_place_is_tried)
{
    refuse("ab", medleyCollAlltoAll, medleyInt8, clobbered, "in place");
    call_init(&call, "ab", medleyCollAlltoAll, medleyInt8, -1);
    call.coll.facts.apart = true;
    call_build(&call, "apart", 1, clobbered);
    call_accept(&call);
    call_free(&call);
    refuse("abc", medleyCollAlltoAll, medleyInt8, shifted, "overlap, shifted");
}
END_TEST

/* ---- values ---- */

/* Two ranks of one host reduce their IN buffers each for itself; `flags` and order as told. */
static uint32_t sum_flags;
static bool sum_swapped;
static void both_sum(const struct call *c, int rank, struct mdl_builder *b)
{
    bool swap = sum_swapped && rank;
    struct mdl_ref src[] = {in(swap ? 1 : 0), in(swap ? 0 : 1)};
    mdl_builder_scratch(b, 1);
    mdl_build_reduce(b, slot(rank, MDL_SCRATCH, true, 0), src, 2, sum_flags);
    mdl_build_signal(b, 1 - rank, 0);
    mdl_build_wait(b, 1 - rank, 0);
    struct mdl_ref sum = slot(rank, MDL_SCRATCH, true, 0);
    mdl_build_reduce(b, out(rank), &sum, 1, MDL_INST_FINAL & ~sum_flags);
}

START_TEST(reductions_agree)
{
    sum_flags = 0;
    sum_swapped = false;
    accept("aa", medleyCollAllReduce, medleyFloat16, 1, both_sum);
    sum_swapped = true;
    refuse("aa", medleyCollAllReduce, medleyFloat16, both_sum, "differs from rank 0's");
    sum_swapped = false;
    sum_flags = MDL_INST_FINAL; /* once, whichever instruction says it */
    accept("aa", medleyCollAllReduce, medleyFloat16, 1, both_sum);
}
END_TEST

/* Rank 0 of three folds what the others send, in the way that `style` says. */
static enum { LEFT, RIGHT, ROUNDED, TWICE, LACKING, UNFINAL, EARLY_FINAL } style;
static void fold_three(const struct call *c, int rank, struct mdl_builder *b)
{
    if (rank) {
        mdl_build_send(b, 0, 0, in(rank));
        return;
    }
    mdl_builder_scratch(b, 4);
    struct mdl_ref got[] = {in(0), slot(0, MDL_SCRATCH, false, 1), slot(0, MDL_SCRATCH, false, 2)};
    bool narrow = style != ROUNDED;
    struct mdl_ref part = slot(0, MDL_SCRATCH, narrow, 3);
    mdl_build_recv(b, 1, 0, got[1]);
    mdl_build_recv(b, 2, 0, got[2]);
    struct mdl_ref last[] = {style == RIGHT ? got[0] : part, style == RIGHT ? part : got[2]};
    mdl_build_reduce(b, part, style == RIGHT ? got + 1 : got, 2, style == EARLY_FINAL ? MDL_INST_FINAL : 0);
    if (style == TWICE) last[1] = got[1];
    mdl_build_reduce(b, out(0), last, style == LACKING ? 1 : 2, style == UNFINAL ? 0 : MDL_INST_FINAL);
}

static void try_fold(int which, bool deterministic, medleyDataType_t dtype, const char *text)
{
    style = which;
    call_init(&call, "abc", medleyCollReduce, dtype, 0);
    call.coll.deterministic = deterministic;
    call_build(&call, "fold", 1, fold_three);
    if (text)
        call_refuse(&call, text);
    else
        call_accept(&call);
    call_free(&call);
}

START_TEST(reductions_are_complete)
{
    try_fold(LEFT, false, medleyFloat16, NULL);
    try_fold(RIGHT, false, medleyFloat16, NULL);
    try_fold(LEFT, true, medleyFloat16, NULL); /* ((0 1) 2) is canonical, (0 (1 2)) is not */
    try_fold(RIGHT, true, medleyFloat16, "is not the canonical tree");
    try_fold(ROUNDED, false, medleyFloat16, "rounded to the datatype before");
    try_fold(ROUNDED, false, medleyFloat32, NULL);
    try_fold(TWICE, false, medleyFloat16, "rank 1's input in it twice");
    try_fold(LACKING, false, medleyFloat16, "lacks the input of 1 ranks, first rank 2");
    try_fold(UNFINAL, false, medleyFloat16, "was not made final");
    try_fold(EARLY_FINAL, false, medleyFloat16, "final already");
    try_fold(EARLY_FINAL, false, medleyInt32, "final already");
}
END_TEST

/* The canonical tree over 1 .. 64 ranks, in one instruction and in two. */
static uint32_t tree_cut;
static void gather_tree(const struct call *c, int rank, struct mdl_builder *b)
{
    uint32_t n = (uint32_t)c->team.nranks;
    if (rank) {
        mdl_build_send(b, 0, 0, in(rank));
        return;
    }
    struct mdl_ref src[CALL_RANKS] = {in(0)}, halves[2];
    mdl_builder_scratch(b, n + 2);
    for (uint32_t q = 1; q < n; q++) {
        src[q] = slot(0, MDL_SCRATCH, false, q);
        mdl_build_recv(b, (int)q, 0, src[q]);
    }
    if (!tree_cut) {
        mdl_build_reduce(b, out(0), src, n, MDL_INST_FINAL | MDL_INST_TREE);
        return;
    }
    halves[0] = slot(0, MDL_SCRATCH, true, n);
    halves[1] = slot(0, MDL_SCRATCH, true, n + 1);
    mdl_build_reduce(b, halves[0], src, tree_cut, MDL_INST_TREE);
    mdl_build_reduce(b, halves[1], src + tree_cut, n - tree_cut, MDL_INST_TREE);
    mdl_build_reduce(b, out(0), halves, 2, MDL_INST_FINAL);
}

static void try_tree(int n, uint32_t cut, bool right)
{
    char hosts[CALL_RANKS + 1] = "";
    for (int r = 0; r < n; r++) hosts[r] = (char)('a' + (r < 20 ? r : 20));
    tree_cut = cut;
    call_init(&call, hosts, medleyCollReduce, medleyBfloat16, 0);
    call.coll.deterministic = true;
    call_build(&call, "tree", 1, gather_tree);
    if (right)
        call_accept(&call);
    else
        call_refuse(&call, "canonical");
    call_free(&call);
}

START_TEST(trees_are_canonical)
{
    for (int n = 1; n <= 64; n++) try_tree(n, 0, true);
    try_tree(6, 4, true);
    try_tree(6, 3, false);
    try_tree(6, 2, false);
    try_tree(64, 32, true);
    try_tree(33, 32, true);
    try_tree(33, 16, false);
}
END_TEST

static enum { FACTORS, NO_FACTOR, TWO_FACTORS } factors;
static void with_factor(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_builder_scratch(b, 2);
    struct mdl_ref mine = slot(rank, MDL_SCRATCH, true, 0), got = slot(rank, MDL_SCRATCH, true, 1), plain = in(rank);
    if (factors == NO_FACTOR && rank == 1)
        mdl_build_reduce(b, mine, &plain, 1, 0);
    else
        mdl_build_copy(b, mine, plain, MDL_INST_PREMUL);
    if (rank) {
        mdl_build_send(b, 0, 0, mine);
        return;
    }
    mdl_build_recv(b, 1, 0, got);
    struct mdl_ref src[] = {mine, got};
    mdl_build_reduce(b, out(0), src, 2, MDL_INST_FINAL);
}

START_TEST(factors_are_applied_once)
{
    for (int k = FACTORS; k <= NO_FACTOR; k++) {
        factors = k;
        call_init(&call, "ab", medleyCollReduce, medleyFloat16, 0);
        call.coll.premul = true;
        call_build(&call, "factor", 1, with_factor);
        if (k == FACTORS)
            call_accept(&call);
        else
            call_refuse(&call, "lacks the factor");
        call_free(&call);
    }
}
END_TEST

static void unwritten(const struct call *c, int rank, struct mdl_builder *b)
{
    mdl_builder_scratch(b, 1);
    mdl_build_copy(b, out(rank), tmp(rank), 0);
}

static void nothing(const struct call *c, int rank, struct mdl_builder *b) {}

/* A partial read as an element: other bytes. */
static void confused(const struct call *c, int rank, struct mdl_builder *b)
{
    struct mdl_ref src = in(0), part = tmp(0);
    mdl_builder_scratch(b, 1);
    mdl_build_reduce(b, slot(0, MDL_SCRATCH, true, 0), &src, 1, 0);
    mdl_build_reduce(b, out(0), &part, 1, MDL_INST_FINAL);
}

START_TEST(memory_is_written_first)
{
    refuse("a", medleyCollBroadcast, medleyInt8, unwritten, "holds nothing");
    refuse("ab", medleyCollAllReduce, medleyInt8, nothing, "is never written");
    refuse("ab", medleyCollBroadcast, medleyInt8, nothing, "is never written");
    refuse("a", medleyCollAllReduce, medleyFloat16, confused, "holds nothing");
    accept("a", medleyCollAllReduce, medleyFloat32, 1, confused);
}
END_TEST

/* In ReduceScatter, every rank's own slot. */
static void wrong_slot(const struct call *c, int rank, struct mdl_builder *b)
{
    struct mdl_ref src[] = {slot(0, MDL_IN, false, 0), slot(1, MDL_IN, false, 0)};
    mdl_build_reduce(b, out(rank), src, 2, MDL_INST_FINAL);
    mdl_build_signal(b, 1 - rank, 0);
    mdl_build_wait(b, 1 - rank, 0);
}

START_TEST(data_goes_where_it_belongs)
{
    refuse("aa", medleyCollReduceScatter, medleyInt32, wrong_slot, "slot 0 in it instead of slot 1");
    call_init(&call, "abc", medleyCollAllGather, medleyInt8, -1);
    call_build(&call, "gather", 1, build_gather_all);
    for (int r = 0; r < 3; r++) { /* everybody files the first block that comes under the wrong name */
        struct mdl_plan *p = edit_plan(&call, r);
        struct mdl_ref *dst = &p->insts[find_op(p, MDL_OP_RECV, 0)].dst;
        dst->slot = (dst->slot + 2) % 3;
    }
    call_refuse(&call, "rank 0");
    call_free(&call);
}
END_TEST

UNIT_MAIN("plan verifier", right_plans_pass, one_rank_of_every_collective, other_calls_are_no_collectives,
          why_may_be_short, headers_agree, instructions_are_sound, remote_scratch_has_a_size, messages_match,
          signals_match, lengths_match_in_v, deadlocks_are_found, races_and_releases, scratch_begins_with_its_window,
          scratch_is_released, local_races, barrier_holds, in_place_is_tried, reductions_agree, reductions_are_complete,
          trees_are_canonical, factors_are_applied_once, memory_is_written_first, data_goes_where_it_belongs)
