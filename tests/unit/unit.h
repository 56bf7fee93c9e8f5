/* SPDX-License-Identifier: Apache-2.0 */
/* Frame of a unit test: a program of Check tests, each in a process of its own, with no MEDLEY_* in the environment. */
#ifndef MDL_TESTS_UNIT_H_
#define MDL_TESTS_UNIT_H_

#include "tests/coll/slack.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A test that takes as long hangs: what is quick takes long on a busy machine. CK_DEFAULT_TIMEOUT says otherwise. */
enum { UNIT_SECONDS = 60 };

/* So many seconds in ns, as much longer as the machine is busy: for what shall not take long. */
static inline uint64_t unit_ns(double seconds) { return (uint64_t)(seconds * slack_now() * 1e9); }

extern char **environ;

static inline void unit_clean_environment(void)
{
    for (char **entry = environ; entry && *entry;) {
        char name[128];
        size_t len = strcspn(*entry, "=");
        if (strncmp(*entry, "MEDLEY_", 7) != 0 || len >= sizeof(name)) {
            entry++;
            continue;
        }
        memcpy(name, *entry, len);
        name[len] = '\0';
        unsetenv(name); /* moves the later entries up */
    }
}

/* Runs `count` tests; what main returns. */
static inline int unit_run(const char *name, const TTest *const *tests, size_t count)
{
    unit_clean_environment();
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    if (!getenv("CK_DEFAULT_TIMEOUT")) tcase_set_timeout(tcase, UNIT_SECONDS * slack_now());
    for (size_t i = 0; i < count; i++) tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define UNIT_MAIN(name, ...)                                                                                           \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        const TTest *const tests[] = {__VA_ARGS__};                                                                    \
        return unit_run(name, tests, sizeof(tests) / sizeof(tests[0]));                                                \
    }

#endif
