/* SPDX-License-Identifier: Apache-2.0 */
/* What dumps look like, to the letter. */
#include "config.h"
#include "tests/unit/plan_support.h"
#include <stdio.h>

static void ring_call(struct call *call)
{
    call_init(call, "ab", medleyCollAllReduce, medleyFloat16, -1);
    call_build(call, "ring", 2, build_ring);
}

static void dumped(const struct mdl_plan *p, int dot, const char *want)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    ck_assert_ptr_nonnull(out);
    if (dot)
        mdl_plan_dump_dot(p, 1, out);
    else
        mdl_plan_dump_text(p, out);
    fclose(out);
    ck_assert_str_eq(text, want);
    free(text);
}

START_TEST(text)
{
    struct call call;
    ring_call(&call);
    dumped(call.plans[1], 0,
           "plan ring: 5 instructions, parts 2, channels 1, slots in 1 out 1 scratch 2\n"
           "    0 SEND   r1.IN[0] parts 1..2 -> 0 ch 0\n"
           "    1 RECV   r1.SCRATCH[0] parts 0..1 <- 0 ch 0\n"
           "    2 REDUCE r1.OUT[0] parts 0..1 = r1.SCRATCH[0] parts 0..1 + r1.IN[0] parts 0..1 FINAL  after 1\n"
           "    3 SEND   r1.OUT[0] parts 0..1 -> 0 ch 0  after 2\n"
           "    4 RECV   r1.OUT[0] parts 1..2 <- 0 ch 0  after 0\n");
    call_free(&call);
}
END_TEST

START_TEST(flags)
{
    struct call call;
    call_init(&call, "aa", medleyCollReduceScatter, medleyBfloat16, -1);
    call.coll.premul = true;
    struct mdl_builder *b = mdl_builder_new(&call.team, &call.coll, 0, 1);
    mdl_builder_scratch(b, 4);
    struct mdl_ref src[] = {mdl_ref_parts(0, MDL_SCRATCH, true, 0, 0, 1), mdl_ref_parts(1, MDL_SCRATCH, true, 1, 0, 1)};
    mdl_build_copy(b, mdl_ref_slots(b, 0, MDL_SCRATCH, true, 0, 2), mdl_ref_slots(b, 0, MDL_IN, false, 0, 2),
                   MDL_INST_PREMUL);
    mdl_build_signal(b, 1, 0);
    mdl_build_wait(b, 1, 3);
    mdl_build_reduce(b, mdl_ref_parts(0, MDL_OUT, false, 0, 0, 1), src, 2, MDL_INST_TREE | MDL_INST_FINAL);
    struct mdl_plan *p;
    ck_assert_int_eq(mdl_builder_finish(b, "sample", &p), medleySuccess);
    dumped(p, 0,
           "plan sample: 4 instructions, parts 1, channels 4, slots in 2 out 1 scratch 4 WHOLE REMOTE_SCRATCH\n"
           "    0 COPY   r0.SCRATCH[0..2) acc = r0.IN[0..2) PREMUL\n"
           "    1 SIGNAL -> 1 ch 0  after 0\n"
           "    2 WAIT   <- 1 ch 3\n"
           "    3 REDUCE r0.OUT[0] = r0.SCRATCH[0] acc + r1.SCRATCH[1] acc FINAL TREE  after 0 2\n");
    mdl_plan_free(p);
}
END_TEST

START_TEST(dot)
{
    struct call call;
    ring_call(&call);
    dumped(call.plans[1], 1,
           "digraph rank1 {\n"
           "  label=\"ring, rank 1\";\n"
           "  node [shape=box];\n"
           "  i0 [label=\"0 SEND r1.IN[0] parts 1..2 -> 0 ch 0\"];\n"
           "  i1 [label=\"1 RECV r1.SCRATCH[0] parts 0..1 <- 0 ch 0\"];\n"
           "  i2 [label=\"2 REDUCE r1.OUT[0] parts 0..1 = r1.SCRATCH[0] parts 0..1 + r1.IN[0] parts 0..1 FINAL\"];\n"
           "  i1 -> i2;\n"
           "  i3 [label=\"3 SEND r1.OUT[0] parts 0..1 -> 0 ch 0\"];\n"
           "  i2 -> i3;\n"
           "  i0 -> i3 [style=dashed];\n"
           "  i4 [label=\"4 RECV r1.OUT[0] parts 1..2 <- 0 ch 0\"];\n"
           "  i0 -> i4;\n"
           "  i1 -> i4 [style=dashed];\n"
           "}\n");
    call_free(&call);
}
END_TEST

UNIT_MAIN("plan dump", text, flags, dot)
