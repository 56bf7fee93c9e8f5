/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reduction cases as a bare program that needs only lib/reduce, for another architecture or processor: bare [SET
 * [PART]] tests this set of kernels, or every one that the machine has, with all of the longest random cases or a
 * PARTth of them, and prints which it tested and which it thinks best. Fails if a case fails or the digest is another.
 */
#include "lib/base/status.h"
#include "tests/unit/reduce_cases.h"
#include "lib/reduce/reduce.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In place of lib/base's: asking for kernels that are not there is no news here. */
medleyResult_t mdl_error(medleyResult_t code, const char *fmt, ...) { return code; }

static int run_all(const char *set)
{
    int failures = 0;
    for (int i = 0; i < reduce_cases_count; i++) {
        const int bad = reduce_cases[i].run();
        if (bad) printf("%s: %s: %d failures\n", set, reduce_cases[i].name, bad);
        failures += bad;
    }
    if (case_digest() != REDUCE_DIGEST) printf("%s: the digest is not that of the other machines\n", set), failures++;
    return failures;
}

int main(int argc, char **argv)
{
    static const char *const sets[] = {"scalar", "avx2", "neon"};
    int failures = 0;
    if (argc > 2) reduce_cases_part = atoi(argv[2]);
    for (int s = 0; s < 3; s++) {
        if (argc > 1 && strcmp(argv[1], sets[s]) != 0) continue;
        if (mdl_reduce_select(sets[s]) != medleySuccess) continue;
        failures += run_all(sets[s]);
        printf("%s\n", sets[s]);
    }
    if (mdl_reduce_select(NULL) != medleySuccess) failures++;
    printf("best: %s\n", mdl_reduce_selected());
    return failures ? 1 : 0;
}
