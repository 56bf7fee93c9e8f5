/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain reference for every collective: one test case is a collective on given arguments; each rank fills its buffers
 * from the case's seed, calls Medley, and compares with what the definition says, computed from the same seed by the
 * slowest possible code. Values are small integers, so that sums and products are exact in every type.
 */
#ifndef TESTS_COLL_REFERENCE_H_
#define TESTS_COLL_REFERENCE_H_

#include <medley.h>
#include <stdbool.h>

struct coll_case {
    medleyColl_t coll;
    medleyDataType_t dtype;
    medleyRedOp_t op; /* medleyNumOps: PreMulSum */
    size_t count;
    int root;
    bool in_place, mem_alloc;
    unsigned seed;
};

/* Runs it on this rank. 0: right; else the number of wrong elements or 1 for an error, described on stderr. *hash: of
 * the result bytes (equal on all ranks for AllReduce). */
int coll_case_run(const struct coll_case *c, medleyComm_t comm, int rank, int nranks, void *stream,
                  unsigned long long *hash);
void coll_case_text(const struct coll_case *c, char *text, size_t bytes);

#endif
