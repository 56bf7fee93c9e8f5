/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a function on several ranks, as threads of this process or as forked processes, and waits for them with a
 * deadline.
 *
 * MDL_TEST_NETNS=a,b,a puts the ranks (processes only) into network namespaces of these names, as `ip netns` makes
 * them, and each namespace's ranks get its name as host name: so any program of ranks runs on several hosts.
 *
 * MDL_TEST_HOSTS=a,b,a only gives them these names as MEDLEY_HOST_ID: ranks of different names share no memory.
 *
 * MDL_TEST_PIDS=0,1,1 puts the ranks (processes only) with a 1 into a PID namespace of their own each, as containers do;
 * /proc stays the one of all.
 *
 * MDL_TEST_RANK=r with MDL_TEST_SIZE=n and MDL_TEST_WORLD=file makes the program be rank r alone: the others are
 * started in the same way, perhaps built for another processor, and share the file.
 */
#ifndef TESTS_COLL_RANKS_H_
#define TESTS_COLL_RANKS_H_

#include <medley.h>
#include <stdbool.h>
#include <sys/types.h>

/* What all ranks of a run share, in memory shared by processes too. */
struct ranks_world {
    int nranks;
    volatile int id_ready;
    medleyUniqueId id;
    volatile int words[64]; /* for the test */
};

typedef int (*ranks_fn)(struct ranks_world *w, int rank, void *arg); /* 0: passed */

/* Returns the number of ranks that did not return 0. A rank that is still running after `seconds`, or longer on a busy
 * machine (slack.h), is killed (processes)
 * or ends the whole program (threads) and counts as failed; what hung is printed. status (may be NULL): [n] exit status
 * or minus signal. */
int ranks_run(int n, bool threads, ranks_fn fn, void *arg, int seconds, int *status);

/* The same in two halves, for who wants to do something to the ranks meanwhile. Always as processes. */
struct ranks_play;
struct ranks_play *ranks_start(int n, ranks_fn fn, void *arg);
pid_t ranks_pid(const struct ranks_play *p, int rank);
struct ranks_world *ranks_world(const struct ranks_play *p);
int ranks_finish(struct ranks_play *p, int seconds, int *status);

/* Waits, outside Medley, until all ranks have come to meeting point `point` (0 .. 15). */
void ranks_meet(struct ranks_world *w, int point);

/* Rank 0 makes the id, the others wait for it; then all make the communicator. */
medleyResult_t ranks_comm(struct ranks_world *w, int rank, medleyConfig_t *config, medleyComm_t *comm);

#endif
