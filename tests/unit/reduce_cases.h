/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cases of the reduction tests, without a test framework, so that they also run as a bare program for another
 * architecture. Each returns the number of failures and prints the first ones. They test the kernels that are selected.
 */
#ifndef REDUCE_CASES_H_
#define REDUCE_CASES_H_

#include <stdint.h>

typedef int reduce_case(void);

int case_names(void);       /* sizes and names of types and operations */
int case_widen(void);       /* every code of every narrow type to fp32 */
int case_narrow(void);      /* fp32 to every narrow type: halves of all codes and their neighbours, many others */
int case_bytes(void);       /* every pair of 8-bit elements, every operation */
int case_finite(void);      /* without infinities and NaNs: every pair of 8-bit floats, up to 9 sources */
int case_stream(void);      /* past the caches: shapes again */
int case_several(void);     /* to several destinations */
int case_words(void);       /* a large sample of pairs of the other types */
int case_shapes(void);      /* sources, partials, trees, averages, odd counts, odd addresses */
int case_in_place(void);    /* the destination is one of the sources */
int case_copy(void);        /* one source of the same type: bits unchanged, NaNs too */
int case_average(void);     /* divisors from 1 to 2^32 - 1, every sign */
int case_average8(void);    /* every pair of 8-bit floats, many divisors */
int case_premul(void);      /* every type; scalars of every kind */
int case_mode(void);        /* a thread that flushes denormals or rounds otherwise */
int case_large(void);       /* many tiles; more sources than a kernel takes */
uint64_t case_digest(void); /* a number that depends on every bit of many results */

/* What case_digest gives on every machine with every set of kernels; to be renewed only when its inputs change. */
#define REDUCE_DIGEST 0xf42086421a10db5bu

struct reduce_case_row {
    const char *name;
    reduce_case *run;
};
/* For processors that are emulated: this part of the longest random cases only. 1 is all. */
extern int reduce_cases_part;
extern const struct reduce_case_row reduce_cases[];
extern const int reduce_cases_count;

#endif
