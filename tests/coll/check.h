/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of ranks with devices share: checks that say which rank failed, buffers of floats wherever the rank lives
 * (home.h), and the way that a call went. */
#ifndef TESTS_COLL_CHECK_H_
#define TESTS_COLL_CHECK_H_

#include "tests/coll/home.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { SKIPPED = 77 };

/* In a function that returns an int, 0 if all is well. */
#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (what) break;                                                                                               \
        check_complain(__FILE__, __LINE__, #what);                                                                     \
        return 1;                                                                                                      \
    } while (0)
#define OK(call) CHECK((call) == medleySuccess)

/* In any function of a rank that is a process of its own. */
#define MUST(what) ((what) ? (void)0 : (check_complain(__FILE__, __LINE__, #what), exit(1)))
#define DONE(call) MUST((call) == medleySuccess)

void check_complain(const char *file, int line, const char *what);

/* Of memory of the device if the rank lives on one, else of the host. */
void check_fill(float *dst, size_t count, float value);
bool check_holds(const float *src, size_t count, float value);   /* says what is wrong */
bool check_is_all(const float *host, size_t count, float value); /* the same of the host's memory */

float check_sum_to(int n);    /* 1 + 2 + ... + n */
void check_pause_ms(long ms); /* where time itself is what is tested */

/* Waits until `calls` calls of this kind are counted, then: did the newest call of all go by `way` (the statistics'
 * last_algorithm)? -1: the statistics cannot be had. */
int check_went(medleyComm_t comm, medleyColl_t coll, uint64_t calls, const char *way);

#endif
