/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of how many processes this is, and how the unique id reaches all of them.
 *
 * The id is a secret: it travels through a pipe, through the launcher's own exchange (PMIx, PMI), or not at all,
 * because every rank computes it from MEDLEY_COMM_ID. It is never an argument, and never in the environment.
 */
#ifndef PERF_PLACE_H_
#define PERF_PLACE_H_

#include "lib/base/status.h"
#include <stdbool.h>

enum perf_exchange {
    PERF_BY_NOBODY,  /* one process */
    PERF_BY_PIPE,    /* started by --local */
    PERF_BY_PMIX,    /* Open MPI, srun, prterun */
    PERF_BY_PMI,     /* MPICH, srun --mpi=pmi2 */
    PERF_BY_ADDRESS, /* MEDLEY_COMM_ID, given or from the launcher's root address */
};

struct perf_place {
    int proc, nprocs;
    const char *launcher; /* for the header; "" without one */
    enum perf_exchange by;
    int id_fd;   /* PERF_BY_PIPE: where rank 0 writes, the others read; else -1 */
    int kick_fd; /* PERF_BY_PIPE: a byte here says that something was done; else -1 */
};

medleyResult_t perf_place_find(struct perf_place *p) MDL_MUST_USE;

/* Makes the id on process 0 and gives it to all. */
medleyResult_t perf_place_share_id(struct perf_place *p, medleyUniqueId *id) MDL_MUST_USE;

/* The exchanges: process 0's `id` becomes everyone's. They block until all processes take part, or a minute or two. */
medleyResult_t perf_pmi_share(int proc, medleyUniqueId *id) MDL_MUST_USE;
medleyResult_t perf_pmix_share(int proc, int nprocs, medleyUniqueId *id) MDL_MUST_USE;
bool perf_pmix_usable(void);                                         /* built in, and the library can be loaded */
medleyResult_t perf_pmix_place(int *proc, int *nprocs) MDL_MUST_USE; /* leaves a session open that share closes */

/* 128 bytes as hexadecimal text. */
enum { PERF_ID_TEXT_BYTES = 2 * MEDLEY_UNIQUE_ID_BYTES + 1 };
void perf_id_to_text(const medleyUniqueId *id, char *text);
bool perf_id_from_text(const char *text, medleyUniqueId *id);

#endif
