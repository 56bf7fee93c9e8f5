/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions: every case with every set of kernels of this machine, and the choice of the set. */
#include "config.h"
#include "lib/base/status.h"
#include "lib/reduce/reduce.h"
#include "tests/unit/reduce_cases.h"
#include "tests/unit/unit.h"

static const char *const sets[] = {"scalar", "avx2", "neon"};

static void run_case(reduce_case *run)
{
    for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++)
        if (mdl_reduce_select(sets[s]) == medleySuccess) ck_assert_msg(run() == 0, "with the %s kernels", sets[s]);
}

#define CASE(name)                                                                                                     \
    START_TEST(name##_is_right) { run_case(case_##name); }                                                             \
    END_TEST

CASE(names)
CASE(widen)
CASE(narrow)
CASE(bytes)
CASE(finite)
CASE(stream)
CASE(several)
CASE(words)
CASE(shapes)
CASE(in_place)
CASE(copy)
CASE(average)
CASE(average8)
CASE(premul)
CASE(mode)
CASE(large)

START_TEST(digest_is_that_of_every_machine)
{
    for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++)
        if (mdl_reduce_select(sets[s]) == medleySuccess) ck_assert_uint_eq(case_digest(), REDUCE_DIGEST);
}
END_TEST

START_TEST(best_is_selected_without_a_name)
{
    const char *first = mdl_reduce_selected();
    ck_assert_str_eq(first, mdl_reduce_selected());
    ck_assert_int_eq(mdl_reduce_select("scalar"), medleySuccess);
    ck_assert_str_eq(mdl_reduce_selected(), "scalar");
    ck_assert_int_eq(mdl_reduce_select(NULL), medleySuccess);
    ck_assert_str_eq(mdl_reduce_selected(), first);
    ck_assert_int_eq(mdl_reduce_select("scalar"), medleySuccess);
    ck_assert_int_eq(mdl_reduce_select(""), medleySuccess); /* MEDLEY_SIMD not set */
    ck_assert_str_eq(mdl_reduce_selected(), first);
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) ck_assert_str_eq(first, "avx2");
#elif defined(__aarch64__)
    ck_assert_str_eq(first, "neon");
#endif
}
END_TEST

START_TEST(unknown_kernels_are_refused_by_name)
{
    static const char *const wrong[] = {"avx", "AVX2", "avx512", "sse", "scalar "};
    ck_assert_int_eq(mdl_reduce_select("scalar"), medleySuccess);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_int_eq(mdl_reduce_select(wrong[i]), medleyInvalidArgument);
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), wrong[i]));
        ck_assert_ptr_nonnull(strstr(mdl_error_text(), " scalar"));
        ck_assert_str_eq(mdl_reduce_selected(), "scalar");
    }
}
END_TEST

UNIT_MAIN("reduce", names_is_right, widen_is_right, narrow_is_right, bytes_is_right, finite_is_right, stream_is_right,
          several_is_right, words_is_right, shapes_is_right, in_place_is_right, copy_is_right, average_is_right,
          average8_is_right, premul_is_right, mode_is_right, large_is_right, digest_is_that_of_every_machine,
          best_is_selected_without_a_name, unknown_kernels_are_refused_by_name)
