/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data that medley-perf moves: that every sum of it is exact (the library's kernels give the same bits in any
 * order, with partials of any precision), that results depend on each rank's part, and that the comparison sees a
 * flipped bit.
 */
#include "config.h"
#include "bench/perf/pattern.h"
#include "lib/reduce/reduce.h"
#include "tests/unit/unit.h"

enum { COUNT = 600, MOST_RANKS = 300 };
static const int worlds[] = {1, 2, 3, 4, 7, 16, 33, 64, 130, MOST_RANKS};
enum { NUM_WORLDS = sizeof(worlds) / sizeof(worlds[0]) };

static bool is_float(int dtype) { return dtype >= medleyFloat16; }

static const char *name_of(int op) { return op == PERF_MULSUM ? "mulsum" : mdl_op_name((medleyRedOp_t)op); }

/* One rank's inputs, with the factor of PreMulSum applied, in the type itself: exact by design. */
static void prepare(const struct perf_pattern *p, int rank, void *dst)
{
    uint64_t scalar, scaled[COUNT];
    perf_pattern_input(p, rank, 0, COUNT, dst);
    if (p->op != PERF_MULSUM) return;
    perf_pattern_scalar(p, rank, &scalar);
    mdl_premul(p->dtype, scaled, dst, &scalar, COUNT);
    struct mdl_reduce round = {.dtype = p->dtype, .op = medleySum};
    const void *src = scaled;
    mdl_reduce(&round, dst, &src, mdl_dtype_acc_size(p->dtype) != p->elem, 1, COUNT);
}

/* The result as a library would compute it that rounds to the type after every step, from the highest rank down. */
static void reduce_stepwise(const struct perf_pattern *p, char (*inputs)[COUNT * 8], void *dst)
{
    struct mdl_reduce step = {.dtype = p->dtype, .op = p->op == PERF_MULSUM ? medleySum : (medleyRedOp_t)p->op};
    memcpy(dst, inputs[p->nranks - 1], COUNT * p->elem);
    if (p->op == medleyAvg) step.op = medleySum;
    for (int r = p->nranks - 2; r >= 0; r--) {
        const void *srcs[] = {dst, inputs[r]};
        mdl_reduce(&step, dst, srcs, 0, 2, COUNT);
    }
    if (p->op != medleyAvg) return;
    const void *src = dst;
    step.finalize = MDL_FINAL_AVG;
    step.divisor = (uint32_t)p->nranks;
    mdl_reduce(&step, dst, &src, 0, 1, COUNT);
}

static void check_world(int dtype, int op, int nranks)
{
    static char inputs[MOST_RANKS][COUNT * 8], want[COUNT * 8], got[COUNT * 8];
    struct perf_pattern p;
    perf_pattern_init(&p, (medleyDataType_t)dtype, op, nranks);
    p.seed = 7;
    for (int r = 0; r < nranks; r++) prepare(&p, r, inputs[r]);
    perf_pattern_result(&p, 0, COUNT, want);
    reduce_stepwise(&p, inputs, got);
    size_t wrong = perf_pattern_compare(&p, got, want, COUNT);
    ck_assert_msg(!wrong, "%zu of %d elements differ: %s, %s, %d ranks", wrong, COUNT, mdl_dtype_name(p.dtype),
                  name_of(op), nranks);
}

START_TEST(every_sum_is_exact_in_any_precision)
{
    for (int dtype = 0; dtype < medleyNumTypes; dtype++)
        for (int op = 0; op < PERF_NUM_OPS; op++)
            for (int w = 0; w < NUM_WORLDS; w++) check_world(dtype, op, worlds[w]);
}
END_TEST

/* Leaving one rank out, or taking it twice, must show in many elements. */
START_TEST(each_rank_matters)
{
    static char inputs[16][COUNT * 8], want[COUNT * 8], got[COUNT * 8];
    for (int dtype = 0; dtype < medleyNumTypes; dtype++)
        for (int n = 2; n <= 16; n *= 2) {
            struct perf_pattern p;
            perf_pattern_init(&p, (medleyDataType_t)dtype, medleySum, n);
            for (int r = 0; r < n; r++) perf_pattern_input(&p, r, 0, COUNT, inputs[r]);
            perf_pattern_result(&p, 0, COUNT, want);
            memcpy(inputs[1], inputs[0], sizeof(inputs[0]));
            reduce_stepwise(&p, inputs, got);
            size_t wrong = perf_pattern_compare(&p, got, want, COUNT);
            ck_assert_msg(wrong > COUNT / 20, "%s, %d ranks: only %zu of %d differ", mdl_dtype_name(p.dtype), n, wrong,
                          COUNT);
        }
}
END_TEST

START_TEST(any_part_can_be_drawn_alone)
{
    static char whole[COUNT * 8], part[COUNT * 8];
    for (int dtype = 0; dtype < medleyNumTypes; dtype++) {
        struct perf_pattern p;
        perf_pattern_init(&p, (medleyDataType_t)dtype, medleySum, 3);
        perf_pattern_result(&p, 0, COUNT, whole);
        for (size_t from = 0; from < COUNT; from += 97) {
            perf_pattern_result(&p, from, 3, part);
            ck_assert_mem_eq(part, whole + from * p.elem, 3 * p.elem);
        }
        perf_pattern_input(&p, 2, 0, COUNT, whole);
        perf_pattern_input(&p, 2, 255, 300, part);
        ck_assert_mem_eq(part, whole + 255 * p.elem, 300 * p.elem);
    }
}
END_TEST

START_TEST(seeds_and_ranks_and_places_differ)
{
    uint64_t a[COUNT], b[COUNT];
    struct perf_pattern p;
    perf_pattern_init(&p, medleyUint64, PERF_COPY, 4);
    perf_pattern_input(&p, 0, 0, COUNT, a);
    perf_pattern_input(&p, 1, 0, COUNT, b);
    for (int i = 0; i < COUNT; i++) ck_assert_uint_ne(a[i], b[i]);
    p.seed++;
    perf_pattern_input(&p, 0, 0, COUNT, b);
    for (int i = 1; i < COUNT; i++) {
        ck_assert_uint_ne(a[i], b[i]);
        ck_assert_uint_ne(a[i], a[i - 1]);
    }
}
END_TEST

START_TEST(one_flipped_bit_is_seen)
{
    static char want[COUNT * 8], got[COUNT * 8];
    for (int dtype = 0; dtype < medleyNumTypes; dtype++)
        for (int op = 0; op < PERF_NUM_OPS; op++) {
            struct perf_pattern p;
            perf_pattern_init(&p, (medleyDataType_t)dtype, op, 5);
            perf_pattern_result(&p, 0, COUNT, want);
            memcpy(got, want, sizeof(got));
            ck_assert_uint_eq(perf_pattern_compare(&p, got, want, COUNT), 0);
            got[333 * p.elem] ^= 0x40;
            got[(COUNT - 1) * p.elem] ^= 0x40;
            ck_assert_uint_eq(perf_pattern_compare(&p, got, want, COUNT), 2);
        }
}
END_TEST

/* Two units in the last place, and only for the average of floats; also across zero and never for NaN. */
START_TEST(the_tolerance_is_two_units)
{
    struct perf_pattern avg, sum;
    perf_pattern_init(&avg, medleyFloat32, medleyAvg, 3);
    perf_pattern_init(&sum, medleyFloat32, medleySum, 3);
    const uint32_t one = 0x3f800000, cases[][2] = {{one + 2, 1}, {one - 2, 1}, {one + 3, 0}, {0x7fc00000, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_uint_eq(perf_pattern_compare(&avg, &cases[i][0], &one, 1), !cases[i][1]);
        ck_assert_uint_eq(perf_pattern_compare(&sum, &cases[i][0], &one, 1), 1);
    }
    const uint32_t least = 1, minus_least = 0x80000001, minus_zero = 0x80000000, zero = 0;
    ck_assert_uint_eq(perf_pattern_compare(&avg, &least, &minus_least, 1), 0);
    ck_assert_uint_eq(perf_pattern_compare(&avg, &zero, &minus_zero, 1), 0);
    ck_assert_uint_eq(perf_pattern_compare(&sum, &zero, &minus_zero, 1), 1);
    ck_assert(is_float(avg.dtype));
}
END_TEST

UNIT_MAIN("pattern", every_sum_is_exact_in_any_precision, each_rank_matters, any_part_can_be_drawn_alone,
          seeds_and_ranks_and_places_differ, one_flipped_bit_is_seen, the_tolerance_is_two_units)
