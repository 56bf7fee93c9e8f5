/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a function on several ranks, as threads of this process or as forked processes, and waits for them with a
 * deadline. */
#ifndef TESTS_COLL_RANKS_H_
#define TESTS_COLL_RANKS_H_

#include <medley.h>
#include <stdbool.h>

/* What all ranks of a run share, in memory shared by processes too. */
struct ranks_world {
    int nranks;
    volatile int id_ready;
    medleyUniqueId id;
    volatile int words[64]; /* for the test */
};

typedef int (*ranks_fn)(struct ranks_world *w, int rank, void *arg); /* 0: passed */

/* Returns the number of ranks that did not return 0. A rank that is still running after `seconds` is killed (processes)
 * or ends the whole program (threads) and counts as failed; what hung is printed. status (may be NULL): [n] exit status
 * or minus signal. */
int ranks_run(int n, bool threads, ranks_fn fn, void *arg, int seconds, int *status);

/* Rank 0 makes the id, the others wait for it; then all make the communicator. */
/* Waits, outside Medley, until all ranks have come to meeting point `point` (0 .. 15). */
void ranks_meet(struct ranks_world *w, int point);

medleyResult_t ranks_comm(struct ranks_world *w, int rank, medleyConfig_t *config, medleyComm_t *comm);

#endif
