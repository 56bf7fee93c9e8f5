/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts what a process and its small world hold, to see that it is no more afterwards.
 *
 * The small world: as root, a network namespace of its own (its sockets are then all the sockets that there are) and an
 * empty /dev/shm of its own; for everybody a new $TMPDIR. Where a part of it cannot be had, what it would have shown is
 * not counted, and that is said once.
 */
#ifndef TESTS_FAULT_CENSUS_H_
#define TESTS_FAULT_CENSUS_H_

#include <stdbool.h>
#include <stddef.h>

/* Enters the small world, for this process and its children. Call it before the first thread. The folder for $TMPDIR is
 * removed when the process that called it ends. */
void census_enter_world(void);
bool census_own_network(void);

/* -1: not counted. */
struct census {
    int fds, threads, mappings;
    long resident_kib;
    long heap_bytes;  /* in use by malloc, whatever was freed and kept */
    int shm_files;    /* entries of /dev/shm */
    int tmp_files;    /* entries of $TMPDIR */
    int unix_sockets; /* of the world */
    int listeners;    /* TCP sockets of the world that listen */
};

/* What may be more afterwards. */
struct census_margin {
    int mappings;
    long resident_kib, heap_bytes;
};

/* Of this process and its world. */
void census_take(struct census *c);

/* Takes another census until it shows no more than `before`, for at most some seconds: threads that were joined, and
 * sockets that were closed, take a moment to be gone. False: says what there is too much. */
bool census_back_to(const struct census *before, const struct census_margin *margin, const char *what);

/* The same for the world only: for who watches other processes. */
bool census_world_back_to(const struct census *before, const char *what);

#endif
