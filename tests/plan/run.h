/* SPDX-License-Identifier: Apache-2.0 */
/* Frame of a plan test: one Check test that is run once for each algorithm. */
#ifndef MDL_TESTS_PLAN_RUN_H_
#define MDL_TESTS_PLAN_RUN_H_

#include "lib/plan/plan.h"
#include "tests/plan/cases.h"
#include "tests/unit/unit.h"

static inline int plan_run(const char *name, const TTest *per_algo, const TTest *const *once, size_t nonce)
{
    int algos = 0;
    while (mdl_algos[algos]) algos++;
    unit_clean_environment();
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, plan_full() ? 7200 : 120);
    if (per_algo) tcase_add_loop_test(tcase, per_algo, 0, algos);
    for (size_t i = 0; i < nonce; i++) tcase_add_test(tcase, once[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
