/* SPDX-License-Identifier: Apache-2.0 */
/* The builder: which dependencies it derives, what it records, and what it refuses. */
#include "config.h"
#include "tests/unit/plan_support.h"
#include <stdarg.h>
#include <stdio.h>

static struct call call;
static struct mdl_builder *b;
static struct mdl_plan *p;

/* Rank 0 of a call on these hosts builds. */
static void begin(const char *hosts, medleyColl_t coll, medleyDataType_t dtype, uint32_t parts)
{
    call_init(&call, hosts, coll, dtype, -1);
    b = mdl_builder_new(&call.team, &call.coll, 0, parts);
    ck_assert_ptr_nonnull(b);
}

static void finish(void) { ck_assert_msg(mdl_builder_finish(b, "test", &p) == medleySuccess, "%s", mdl_error_text()); }

static struct mdl_ref in(uint32_t slot) { return mdl_ref_slots(b, 0, MDL_IN, false, slot, 1); }
static struct mdl_ref out(uint32_t slot) { return mdl_ref_slots(b, 0, MDL_OUT, false, slot, 1); }
static struct mdl_ref tmp(uint32_t slot) { return mdl_ref_slots(b, 0, MDL_SCRATCH, false, slot, 1); }
static struct mdl_ref sum(uint32_t slot) { return mdl_ref_slots(b, 0, MDL_SCRATCH, true, slot, 1); }
static struct mdl_ref at(int rank, struct mdl_ref ref)
{
    ref.rank = (uint32_t)rank;
    return ref;
}

/* Instruction `inst` depends on exactly these. */
static void deps_are(uint32_t inst, uint32_t n, ...)
{
    va_list args;
    va_start(args, n);
    ck_assert_msg(p->insts[inst].ndep == n, "instruction %u has %u dependencies instead of %u", inst,
                  p->insts[inst].ndep, n);
    for (uint32_t k = 0; k < n; k++) ck_assert_uint_eq(p->deps[p->insts[inst].dep + k], va_arg(args, uint32_t));
    va_end(args);
}

/* ---- dependencies through memory ---- */

START_TEST(orders_reads_and_writes)
{
    begin("ab", medleyCollAllGather, medleyFloat32, 1);
    mdl_builder_scratch(b, 4);
    mdl_build_recv(b, 1, 0, tmp(0));      /* 0 */
    mdl_build_copy(b, tmp(1), tmp(0), 0); /* 1: read after write */
    mdl_build_copy(b, tmp(2), tmp(0), 0); /* 2: two readers do not wait for each other */
    mdl_build_recv(b, 1, 0, tmp(0));      /* 3: write after both reads; the write before is implied */
    mdl_build_recv(b, 1, 0, tmp(0));      /* 4: write after write */
    mdl_build_recv(b, 1, 0, tmp(3));      /* 5: elsewhere */
    finish();
    deps_are(0, 0);
    deps_are(1, 1, 0);
    deps_are(2, 1, 0);
    deps_are(3, 2, 1, 2);
    deps_are(4, 1, 3);
    deps_are(5, 0);
    mdl_plan_free(p);
}
END_TEST

START_TEST(looks_at_parts_and_slots)
{
    begin("ab", medleyCollAlltoAll, medleyFloat32, 4);
    mdl_builder_scratch(b, 4);
    mdl_build_recv(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, false, 0, 0, 2));
    mdl_build_recv(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, false, 0, 2, 4));
    mdl_build_send(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, false, 0, 1, 2));
    mdl_build_send(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, false, 0, 1, 3));
    mdl_build_recv(b, 1, 0, tmp(2));
    mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_SCRATCH, false, 0, 4));
    finish();
    deps_are(2, 1, 0);
    deps_are(3, 2, 0, 1);
    deps_are(5, 3, 0, 1, 4);
    ck_assert_uint_eq(p->flags, MDL_PLAN_WHOLE);
    mdl_plan_free(p);
}
END_TEST

START_TEST(drops_what_is_implied)
{
    begin("ab", medleyCollAllReduce, medleyFloat32, 1);
    mdl_builder_scratch(b, 2);
    mdl_build_recv(b, 1, 0, tmp(0));
    for (uint32_t k = 1; k < 20; k++) {
        struct mdl_ref src[] = {tmp(0), in(0), tmp(1)};
        mdl_build_reduce(b, tmp(1), src, k == 1 ? 2 : 3, 0);
    }
    finish();
    for (uint32_t k = 1; k < 20; k++) deps_are(k, 1, k - 1);
    mdl_plan_free(p);
}
END_TEST

/* Half floats: elements and partials of one slot share bytes at other places. Floats: they are the same. */
START_TEST(elements_meet_partials)
{
    for (int narrow = 0; narrow < 2; narrow++) {
        begin("ab", medleyCollAllReduce, narrow ? medleyFloat16 : medleyFloat32, 2);
        mdl_builder_scratch(b, 1);
        mdl_build_recv(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, true, 0, 0, 1));
        mdl_build_recv(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, false, 0, 1, 2));
        mdl_build_send(b, 1, 0, mdl_ref_parts(0, MDL_SCRATCH, true, 0, 1, 2));
        finish();
        if (narrow) {
            deps_are(1, 1, 0);
            deps_are(2, 1, 1);
        } else {
            deps_are(1, 0);
            deps_are(2, 1, 1);
        }
        mdl_plan_free(p);
    }
}
END_TEST

START_TEST(in_place_orders_in_and_out)
{
    for (int apart = 0; apart < 2; apart++) {
        begin("ab", medleyCollAllReduce, medleyFloat32, 1);
        call.coll.facts.apart = apart;
        mdl_build_send(b, 1, 0, in(0));  /* 0 */
        mdl_build_recv(b, 1, 0, out(0)); /* 1: must not overwrite what 0 sends */
        mdl_build_send(b, 1, 1, in(0));  /* 2: sends what 1 wrote, if in place */
        finish();
        deps_are(1, apart ? 0 : 1, 0);
        deps_are(2, apart ? 0 : 1, 1);
        mdl_plan_free(p);
    }
}
END_TEST

START_TEST(copy_onto_itself_disturbs_nobody)
{
    begin("abc", medleyCollAllGather, medleyFloat32, 1);
    mdl_build_send(b, 1, 0, in(0));      /* 0 */
    mdl_build_copy(b, out(0), in(0), 0); /* 1: OUT[0] is IN, or it is other memory */
    mdl_build_send(b, 2, 0, in(0));      /* 2 */
    mdl_build_send(b, 2, 1, out(0));     /* 3 */
    mdl_build_copy(b, out(1), in(0), 0); /* 4: this one moves, but is never the same memory */
    finish();
    deps_are(1, 0);
    deps_are(2, 0);
    deps_are(3, 1, 1);
    deps_are(4, 0);
    mdl_plan_free(p);
}
END_TEST

/* ---- dependencies across ranks ---- */

START_TEST(waits_order_what_peers_may_touch)
{
    begin("aaa", medleyCollAllReduce, medleyFloat32, 1);
    mdl_builder_scratch(b, 2);
    mdl_build_wait(b, 1, 0);                     /* 0 */
    mdl_build_wait(b, 2, 0);                     /* 1 */
    mdl_build_copy(b, tmp(0), at(1, in(0)), 0);  /* 2: IN is never written, but SCRATCH may still be read by peers */
    mdl_build_copy(b, out(0), at(1, out(0)), 0); /* 3 */
    mdl_build_wait(b, 1, 0);                     /* 4: takes the place of 0 */
    mdl_build_copy(b, at(2, tmp(1)), in(0), 0);  /* 5 */
    finish();
    deps_are(0, 0);
    deps_are(1, 0);
    deps_are(2, 2, 0, 1);
    deps_are(3, 2, 0, 1);
    deps_are(5, 2, 3, 4); /* IN may be OUT, which 3 wrote, and 3 implies 1 */
    ck_assert_uint_eq(p->flags, MDL_PLAN_REMOTE_IN | MDL_PLAN_REMOTE_OUT | MDL_PLAN_REMOTE_SCRATCH);
    mdl_plan_free(p);
}
END_TEST

START_TEST(private_memory_waits_for_nobody)
{
    call_init(&call, "aa", medleyCollAllReduce, medleyFloat32, -1);
    call.team.remote_scratch = false; /* nobody else reaches SCRATCH */
    b = mdl_builder_new(&call.team, &call.coll, 0, 1);
    mdl_builder_scratch(b, 2);
    mdl_build_wait(b, 1, 0);
    mdl_build_copy(b, tmp(0), tmp(1), 0);
    mdl_build_signal(b, 1, 0);
    finish();
    deps_are(1, 0);
    deps_are(2, 1, 0); /* a signal still passes on what the wait learned */
    mdl_plan_free(p);
}
END_TEST

START_TEST(signals_cover_what_came_before)
{
    begin("aaa", medleyCollAllReduce, medleyFloat32, 1);
    mdl_builder_scratch(b, 2);
    mdl_build_copy(b, tmp(0), at(1, in(0)), 0); /* 0 */
    mdl_build_copy(b, tmp(1), tmp(0), 0);       /* 1: implies 0 */
    mdl_build_copy(b, at(2, tmp(1)), in(0), 0); /* 2 */
    mdl_build_signal(b, 1, 0);                  /* 3 */
    mdl_build_signal(b, 2, 0);                  /* 4 */
    mdl_build_wait(b, 2, 0);                    /* 5 */
    mdl_build_signal(b, 1, 0);                  /* 6: and passes on what 5 learned */
    finish();
    deps_are(3, 2, 1, 2);
    deps_are(4, 2, 1, 2);
    deps_are(6, 3, 1, 2, 5);
    mdl_plan_free(p);
}
END_TEST

START_TEST(after_narrows_one_instruction)
{
    begin("aaaa", medleyCollAllReduce, medleyFloat32, 1);
    mdl_builder_scratch(b, 3);
    uint32_t first = mdl_build_wait(b, 1, 0), second = mdl_build_wait(b, 2, 0);
    mdl_build_after(b, second);
    uint32_t copy = mdl_build_copy(b, tmp(0), at(2, tmp(0)), 0);
    mdl_build_after(b, copy);
    mdl_build_signal(b, 2, 0);
    mdl_build_after(b, first);
    mdl_build_copy(b, tmp(1), tmp(0), 0); /* its memory counts as ever */
    mdl_build_copy(b, tmp(2), at(3, tmp(0)), 0);
    finish();
    deps_are(copy, 1, second);
    deps_are(3, 1, copy);
    deps_are(4, 2, first, copy);
    deps_are(5, 2, first, second);
    mdl_plan_free(p);
}
END_TEST

/* ---- what it records ---- */

START_TEST(records_the_plan)
{
    begin("ab", medleyCollAllGatherV, medleyInt8, 3);
    ck_assert_uint_eq(mdl_builder_scratch(b, 2), 0);
    ck_assert_uint_eq(mdl_builder_scratch(b, 3), 2);
    mdl_build_send(b, 1, 5, in(0));
    mdl_build_recv(b, 1, 2, out(1));
    mdl_build_recv(b, 1, 2, mdl_ref_shaped(tmp(4), 1));
    mdl_builder_whole(b);
    finish();
    ck_assert_str_eq(p->algo, "test");
    ck_assert_uint_eq(p->parts, 3);
    ck_assert_uint_eq(p->channels, 6);
    ck_assert_uint_eq(p->scratch_slots, 5);
    ck_assert_uint_eq(p->in_slots, 1);
    ck_assert_uint_eq(p->out_slots, 2);
    ck_assert_uint_eq(p->ninsts, 3);
    ck_assert_uint_eq(p->flags, MDL_PLAN_WHOLE);
    ck_assert_uint_eq(p->refs[p->insts[0].src].shape, 0); /* its rank */
    ck_assert_uint_eq(p->insts[1].dst.shape, 1);          /* its slot */
    ck_assert_uint_eq(p->insts[2].dst.shape, 1);          /* as said */
    ck_assert_uint_ge(mdl_plan_bytes(p), sizeof(*p) + 3 * sizeof(*p->insts) + sizeof(*p->refs));
    mdl_plan_free(p);
}
END_TEST

START_TEST(empty_plan)
{
    begin("ab", medleyCollBarrier, medleyInt8, 1);
    finish();
    ck_assert_uint_eq(p->ninsts, 0);
    ck_assert_uint_eq(p->channels, 0);
    mdl_plan_free(p);
    mdl_plan_free(NULL);
}
END_TEST

START_TEST(parts_are_nearly_equal)
{
    for (size_t w = 0; w < 50; w++)
        for (uint32_t parts = 1; parts < 20; parts++) {
            ck_assert_uint_eq(mdl_plan_part(w, parts, 0), 0);
            ck_assert_uint_eq(mdl_plan_part(w, parts, parts), w);
            for (uint32_t q = 0; q < parts; q++) {
                size_t len = mdl_plan_part(w, parts, q + 1) - mdl_plan_part(w, parts, q);
                ck_assert(len == w / parts || len == w / parts + 1);
            }
        }
    ck_assert_uint_eq(mdl_plan_part(SIZE_MAX, 7, 7), SIZE_MAX);
}
END_TEST

/* Which IN slot is OUT slot s of rank r, of 4 ranks with root 2; -1: none. */
START_TEST(knows_what_is_one_memory)
{
    static const struct {
        medleyColl_t coll;
        uint32_t in, out;
        int alias[4][4];
    } rows[] = {
        {medleyCollAllReduce, 1, 1, {{0}, {0}, {0}, {0}}},
        {medleyCollReduce, 1, 1, {{-1}, {-1}, {0}, {-1}}},
        {medleyCollBroadcast, 1, 1, {{-1}, {-1}, {0}, {-1}}},
        {medleyCollAllGather, 1, 4, {{0, -1, -1, -1}, {-1, 0, -1, -1}, {-1, -1, 0, -1}, {-1, -1, -1, 0}}},
        {medleyCollAllGatherV, 1, 4, {{0, -1, -1, -1}, {-1, 0, -1, -1}, {-1, -1, 0, -1}, {-1, -1, -1, 0}}},
        {medleyCollReduceScatter, 4, 1, {{0}, {1}, {2}, {3}}},
        {medleyCollReduceScatterV, 4, 1, {{0}, {1}, {2}, {3}}},
        {medleyCollAlltoAll, 4, 4, {{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}}},
        {medleyCollAlltoAllV, 4, 4, {{-1, -1, -1, -1}, {-1, -1, -1, -1}, {-1, -1, -1, -1}, {-1, -1, -1, -1}}},
        {medleyCollGather, 1, 4, {{-1, -1, -1, -1}, {-1, -1, -1, -1}, {-1, -1, 0, -1}, {-1, -1, -1, -1}}},
        {medleyCollScatter, 4, 1, {{-1}, {-1}, {2}, {-1}}},
        {medleyCollBarrier, 0, 0, {{0}}},
        {medleyCollSend, 1, 0, {{0}}},
        {medleyCollRecv, 0, 1, {{-1}, {-1}, {-1}, {-1}}},
    };
    ck_assert_int_eq(sizeof(rows) / sizeof(*rows), medleyNumColls);
    for (unsigned k = 0; k < medleyNumColls; k++) {
        struct mdl_collective c = {.coll = rows[k].coll, .root = 2};
        uint32_t ins, outs;
        mdl_collective_slots(&c, 4, &ins, &outs);
        ck_assert_uint_eq(ins, rows[k].in);
        ck_assert_uint_eq(outs, rows[k].out);
        for (int r = 0; r < 4; r++)
            for (uint32_t s = 0; s < outs; s++)
                ck_assert_int_eq((int)mdl_collective_alias(&c, r, s), rows[k].alias[r][s]);
    }
}
END_TEST

/* Of the root, and of the others: slots of IN and OUT; and what becomes of them. */
START_TEST(knows_the_shapes)
{
    static const struct {
        medleyColl_t coll;
        size_t root[2], other[2];
        const char *is; /* r: reduces, v, m: message */
    } rows[] = {
        {medleyCollAllReduce, {1, 1}, {1, 1}, "r"},
        {medleyCollReduce, {1, 1}, {1, 0}, "r"},
        {medleyCollBroadcast, {1, 1}, {0, 1}, ""},
        {medleyCollAllGather, {1, 4}, {1, 4}, ""},
        {medleyCollReduceScatter, {4, 1}, {4, 1}, "r"},
        {medleyCollAlltoAll, {4, 4}, {4, 4}, ""},
        {medleyCollGather, {1, 4}, {1, 0}, ""},
        {medleyCollScatter, {4, 1}, {0, 1}, ""},
        {medleyCollBarrier, {0, 0}, {0, 0}, ""},
        {medleyCollAllGatherV, {1, 4}, {1, 4}, "v"},
        {medleyCollReduceScatterV, {4, 1}, {4, 1}, "rv"},
        {medleyCollAlltoAllV, {4, 4}, {4, 4}, "v"},
        {medleyCollSend, {1, 0}, {1, 0}, "m"},
        {medleyCollRecv, {0, 1}, {0, 1}, "m"},
    };
    ck_assert_int_eq(sizeof(rows) / sizeof(*rows), medleyNumColls);
    for (unsigned k = 0; k < medleyNumColls; k++) {
        const struct mdl_shape *s = &mdl_shapes[rows[k].coll];
        bool rooted = memcmp(rows[k].root, rows[k].other, sizeof(rows[k].root)) != 0;
        ck_assert_int_eq(s->reduces, strchr(rows[k].is, 'r') != NULL);
        ck_assert_int_eq(s->v, strchr(rows[k].is, 'v') != NULL);
        ck_assert_int_eq(s->message, strchr(rows[k].is, 'm') != NULL);
        ck_assert_int_eq(s->rooted, rooted || s->message);
        for (enum mdl_buffer b = MDL_IN; b <= MDL_OUT; b++) {
            ck_assert_uint_eq(mdl_shape_own_slots(s, b, 4, true), rows[k].root[b]);
            ck_assert_uint_eq(mdl_shape_own_slots(s, b, 4, false), rows[k].other[b]);
            ck_assert_int_eq(mdl_shape_has(s, b, true), rows[k].root[b] != 0);
            ck_assert_int_eq(mdl_shape_has(s, b, false), rows[k].other[b] != 0);
            ck_assert_uint_eq(mdl_shape_slots(s, b, 4), rows[k].root[b]);
            ck_assert_int_eq(mdl_shape_is_split(s, b), rows[k].root[b] == 4);
            ck_assert_int_eq(mdl_shape_is_roots(s, b), rows[k].root[b] != rows[k].other[b]);
        }
    }
}
END_TEST

/* ---- what it refuses ---- */

typedef void (*breaker)(void);

static void refused(const char *hosts, medleyColl_t coll, medleyDataType_t dtype, int root, breaker breaks,
                    const char *text)
{
    call_init(&call, hosts, coll, dtype, root);
    b = mdl_builder_new(&call.team, &call.coll, 0, 2);
    mdl_builder_scratch(b, 2);
    mdl_build_wait(b, 1, 0); /* so that the broken one is instruction 1 */
    breaks();
    mdl_build_wait(b, 1, 0);
    p = NULL;
    ck_assert_msg(mdl_builder_finish(b, "bad", &p) == medleyInternalError, "not refused: %s", text);
    ck_assert_ptr_null(p);
    ck_assert_msg(strstr(mdl_error_text(), text) != NULL, "\"%s\" is not in: %s", text, mdl_error_text());
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "algorithm bad, plan of rank 0, instruction 1"));
}

#define AR(f, text) refused("aab", medleyCollAllReduce, medleyFloat16, -1, f, text)

static void no_such_rank(void) { mdl_build_send(b, 3, 0, in(0)); }
static void negative_rank(void) { mdl_build_send(b, -1, 0, in(0)); }
static void to_itself(void) { mdl_build_send(b, 0, 0, in(0)); }
static void channel_high(void) { mdl_build_send(b, 1, 64, in(0)); }
static void channel_huge(void) { mdl_build_send(b, 1, 70000, in(0)); }
static void signal_away(void) { mdl_build_signal(b, 2, 0); }
static void slot_high(void) { mdl_build_send(b, 1, 0, in(1)); }
static void scratch_high(void) { mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_SCRATCH, true, 1, 2)); }
static void parts_empty(void) { mdl_build_send(b, 1, 0, mdl_ref_parts(0, MDL_IN, false, 0, 1, 1)); }
static void parts_high(void) { mdl_build_send(b, 1, 0, mdl_ref_parts(0, MDL_IN, false, 0, 1, 3)); }
static void slots_none(void) { mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_SCRATCH, false, 0, 0)); }
static void slots_many(void) { mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_SCRATCH, false, 0, 65537)); }
static void loose_elements(void) { mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_SCRATCH, false, 0, 2)); }
static void acc_user(void) { mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_IN, true, 0, 1)); }
static void send_remote(void) { mdl_build_send(b, 1, 0, at(1, in(0))); }
static void recv_remote(void) { mdl_build_recv(b, 1, 0, at(1, out(0))); }
static void recv_in(void) { mdl_build_recv(b, 1, 0, in(0)); }
static void copy_in(void) { mdl_build_copy(b, in(0), out(0), 0); }
static void copy_away(void) { mdl_build_copy(b, out(0), at(2, in(0)), 0); }
static void copy_converts(void) { mdl_build_copy(b, sum(0), in(0), 0); }
static void copy_uneven(void)
{
    mdl_build_copy(b, mdl_ref_parts(0, MDL_OUT, false, 0, 0, 1), mdl_ref_parts(0, MDL_IN, false, 0, 1, 2), 0);
}
static void copy_tree(void) { mdl_build_copy(b, out(0), in(0), MDL_INST_TREE); }
static void copy_flags(void) { mdl_build_copy(b, out(0), in(0), 1024); }
static void premul_unasked(void) { mdl_build_copy(b, sum(0), in(0), MDL_INST_PREMUL); }
static void reduce_remote(void)
{
    struct mdl_ref src = in(0);
    mdl_build_reduce(b, at(1, tmp(0)), &src, 1, 0);
}
static void reduce_nothing(void) { mdl_build_reduce(b, out(0), NULL, 0, 0); }
static void reduce_overlap(void)
{
    struct mdl_ref src[] = {tmp(0), in(0)};
    mdl_build_reduce(b, sum(0), src, 2, 0);
}
static void reduce_in(void)
{
    struct mdl_ref src = in(0);
    mdl_build_reduce(b, in(0), &src, 1, 0);
}
static void tree_large(void)
{
    struct mdl_ref src[65];
    for (int k = 0; k < 65; k++) src[k] = in(0);
    mdl_build_reduce(b, out(0), src, 65, MDL_INST_TREE);
}
static void after_later(void)
{
    mdl_build_after(b, 1);
    mdl_build_signal(b, 1, 0);
}

START_TEST(refuses_bad_instructions)
{
    AR(no_such_rank, "no rank 3");
    AR(negative_rank, "no rank");
    AR(to_itself, "itself");
    AR(channel_high, "channel 64");
    AR(channel_huge, "channel 70000");
    AR(signal_away, "another host");
    AR(slot_high, "slot out of range");
    AR(scratch_high, "slot out of range");
    AR(parts_empty, "parts out of range");
    AR(parts_high, "parts out of range");
    AR(slots_none, "names no slot");
    AR(slots_many, "names no slot");
    AR(loose_elements, "do not touch");
    AR(acc_user, "only SCRATCH");
    AR(send_remote, "another rank's memory");
    AR(recv_remote, "another rank's memory");
    AR(recv_in, "IN is never written");
    AR(copy_in, "IN is never written");
    AR(copy_away, "another host");
    AR(copy_converts, "does not convert");
    AR(copy_uneven, "may differ");
    AR(copy_tree, "no tree");
    AR(copy_flags, "flags 1024");
    AR(premul_unasked, "no factor");
    AR(reduce_remote, "another rank's memory");
    AR(reduce_nothing, "without sources");
    AR(reduce_overlap, "overlap");
    AR(reduce_in, "IN is never written");
    AR(tree_large, "tree of 65");
    AR(after_later, "not there");
}
END_TEST

static void read_remote_in(void) { mdl_build_copy(b, out(0), at(1, in(0)), 0); }
static void read_remote_out(void) { mdl_build_copy(b, out(0), at(1, out(0)), 0); }
static void write_remote_out(void) { mdl_build_copy(b, at(1, out(0)), in(0), 0); }
static void write_remote_in(void) { mdl_build_copy(b, at(1, in(0)), in(0), 0); }
static void read_remote_tmp(void) { mdl_build_copy(b, out(0), at(1, tmp(0)), 0); }

/* With the team's and the call's facts as given, does rank 0 refuse? */
static void fact(bool scratch, bool get, bool in_mapped, bool out_mapped, breaker breaks, bool allowed)
{
    call_init(&call, "aa", medleyCollAllReduce, medleyFloat16, -1);
    call.team.remote_scratch = scratch;
    call.team.remote_get = get;
    call.coll.facts.in_mapped = in_mapped;
    call.coll.facts.out_mapped = out_mapped;
    b = mdl_builder_new(&call.team, &call.coll, 0, 1);
    breaks();
    medleyResult_t result = mdl_builder_finish(b, "test", &p);
    ck_assert_int_eq(result, allowed ? medleySuccess : medleyInternalError);
    if (allowed) mdl_plan_free(p);
}

START_TEST(remote_memory_needs_facts)
{
    fact(0, 0, 0, 0, read_remote_in, false);
    fact(0, 1, 0, 0, read_remote_in, true);
    fact(0, 0, 1, 0, read_remote_in, true);
    fact(1, 0, 0, 1, read_remote_in, false);
    fact(1, 0, 1, 0, read_remote_out, false);
    fact(0, 1, 0, 0, read_remote_out, true);
    fact(0, 0, 0, 1, read_remote_out, true);
    fact(1, 1, 1, 0, write_remote_out, false);
    fact(0, 0, 0, 1, write_remote_out, true);
    fact(1, 1, 1, 1, write_remote_in, false);
    fact(0, 1, 1, 1, read_remote_tmp, false);
    fact(1, 0, 0, 0, read_remote_tmp, true);
}
END_TEST

static void off_root_out(void) { mdl_build_recv(b, 1, 0, out(0)); }
static void off_root_in(void) { mdl_build_send(b, 1, 0, in(0)); }
static void reduce_moved(void)
{
    struct mdl_ref src = in(0);
    mdl_build_reduce(b, out(0), &src, 1, 0);
}
static void final_moved(void) { mdl_build_copy(b, out(0), in(0), MDL_INST_FINAL); }
static void v_slots(void) { mdl_build_send(b, 1, 0, mdl_ref_slots(b, 0, MDL_OUT, false, 0, 2)); }
static void v_shape(void) { mdl_build_recv(b, 1, 0, mdl_ref_shaped(tmp(0), 9)); }
static void v_shapes_differ(void) { mdl_build_copy(b, out(1), mdl_ref_shaped(tmp(0), 2), 0); }
static void pairs_scratch(void) { mdl_build_recv(b, 1, 0, tmp(0)); }

START_TEST(refuses_what_the_collective_lacks)
{
    refused("aab", medleyCollReduce, medleyFloat16, 1, off_root_out, "only the root");
    refused("aab", medleyCollGather, medleyFloat16, 1, off_root_out, "only the root");
    refused("aab", medleyCollBroadcast, medleyFloat16, 1, off_root_in, "only the root");
    refused("aab", medleyCollScatter, medleyFloat16, 1, off_root_in, "only the root");
    refused("aab", medleyCollAllGather, medleyFloat16, -1, reduce_moved, "reduces nothing");
    refused("aab", medleyCollAllGather, medleyFloat16, -1, final_moved, "nothing is reduced");
    refused("aab", medleyCollAllGatherV, medleyFloat16, -1, v_slots, "several slots in a V");
    refused("aab", medleyCollAllGatherV, medleyFloat16, -1, v_shape, "is no rank");
    refused("aab", medleyCollAllGatherV, medleyFloat16, -1, v_shapes_differ, "has shape 1");
    refused("aab", medleyCollAllGatherV, medleyFloat16, -1, read_remote_out, "displacements");
    refused("aab", medleyCollAlltoAllV, medleyFloat16, -1, read_remote_in, "displacements");
    refused("aab", medleyCollAlltoAllV, medleyFloat16, -1, pairs_scratch, "no length");
}
END_TEST

START_TEST(refuses_no_parts_and_no_builder)
{
    begin("ab", medleyCollAllReduce, medleyFloat16, 0);
    ck_assert_int_eq(mdl_builder_finish(b, "bad", &p), medleyInternalError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "0 parts"));
    /* A builder for which there was no memory takes everything and fails at the end. */
    ck_assert_uint_eq(mdl_builder_scratch(NULL, 1), 0);
    ck_assert_uint_eq(mdl_build_signal(NULL, 1, 0), MDL_NO_DEP);
    mdl_builder_whole(NULL);
    mdl_build_after(NULL, 0);
    mdl_ref_slots(NULL, 0, MDL_IN, false, 0, 1);
    ck_assert_int_eq(mdl_builder_finish(NULL, "bad", &p), medleyInternalError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "memory"));
}
END_TEST

/* Large teams: lists stay short, and the plan is what was said. */
START_TEST(builds_64_ranks)
{
    char hosts[65] = "";
    memset(hosts, 'a', 64);
    call_init(&call, hosts, medleyCollAllReduce, medleyFloat16, -1);
    call_build(&call, "direct", 64, build_direct);
    ck_assert_uint_eq(call.plans[5]->ninsts, 1 + 5 * 63);
    ck_assert_uint_le(call.plans[5]->ndeps, 63 + 2 * 63 * 63 + 64);
    call_free(&call);
    call_build(&call, "ring", 64, build_ring);
    ck_assert_uint_le(call.plans[5]->ndeps, 3 * call.plans[5]->ninsts);
    call_free(&call);
}
END_TEST

UNIT_MAIN("plan builder", orders_reads_and_writes, looks_at_parts_and_slots, drops_what_is_implied,
          elements_meet_partials, in_place_orders_in_and_out, copy_onto_itself_disturbs_nobody,
          waits_order_what_peers_may_touch, private_memory_waits_for_nobody, signals_cover_what_came_before,
          after_narrows_one_instruction, records_the_plan, empty_plan, parts_are_nearly_equal, knows_what_is_one_memory,
          knows_the_shapes, refuses_bad_instructions, remote_memory_needs_facts, refuses_what_the_collective_lacks,
          refuses_no_parts_and_no_builder, builds_64_ranks)
