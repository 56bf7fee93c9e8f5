/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cost COLLECTIVE BYTES: what callgrind counts. Two threads are the ranks of a communicator. Rank 0 calls first;
 * rank 1 calls some milliseconds later, when it finds everything there and need not wait, so that the instructions of
 * its call, all of them below measured(), are the same in each run. Without callgrind it checks the results only.
 */
#include "config.h"

#include <medley.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANKS = 2, WARM = 8, CALLS = 16, MOST_BYTES = 65536 };

static const char *const names[] = {"allreduce", "broadcast", "barrier"};
static int coll;
static size_t count;
static float in[RANKS][MOST_BYTES / sizeof(float)], out[RANKS][MOST_BYTES / sizeof(float)];
static medleyComm_t comms[RANKS];

static medleyResult_t call(int rank)
{
    if (coll == 0) return medleyAllReduce(in[rank], out[rank], count, medleyFloat, medleySum, comms[rank], NULL);
    if (coll == 1) return medleyBroadcast(in[rank], out[rank], count, medleyFloat, 0, comms[rank], NULL);
    return medleyBarrier(comms[rank], NULL);
}

/* Only here does callgrind collect. */
__attribute__((noinline)) medleyResult_t measured(int rank);
__attribute__((noinline)) medleyResult_t measured(int rank) { return call(rank); }

static int is_right(int rank)
{
    static const float expected[] = {3, 1, 0};

    for (size_t i = 0; i < count && coll < 2; i++)
        if (out[rank][i] != expected[coll]) return 0;
    return 1;
}

static void *rank_main(void *arg)
{
    const struct timespec late = {.tv_nsec = 4000000};
    int rank = *(int *)arg;

    for (size_t i = 0; i < count; i++) in[rank][i] = (float)(rank + 1);
    for (int i = 0; i < WARM + CALLS; i++) {
        if (rank == 1) nanosleep(&late, NULL);
        memset(out[rank], 0, sizeof(out[rank]));
        if ((i < WARM || rank == 0 ? call(rank) : measured(rank)) != medleySuccess || !is_right(rank)) {
            fprintf(stderr, "rank %d: %s\n", rank, medleyGetLastError(comms[rank]));
            exit(1);
        }
    }
    return NULL;
}

/* "test_cost optimized": may its instructions be compared? */
static int is_optimized(void)
{
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    return 1;
#else
    return 0;
#endif
}

int main(int argc, char **argv)
{
    static const int rank[RANKS] = {0, 1};
    pthread_t thread[RANKS];

    if (argc > 1 && strcmp(argv[1], "optimized") == 0) return !is_optimized();
    for (int i = 0; argc > 1 && i < (int)(sizeof(names) / sizeof(names[0])); i++)
        if (strcmp(argv[1], names[i]) == 0) coll = i;
    count = argc > 2 ? strtoul(argv[2], NULL, 10) / sizeof(float) : 2;
    if (count > MOST_BYTES / sizeof(float)) return 2;
    if (medleyCommInitAll(comms, RANKS, NULL) != medleySuccess) {
        fprintf(stderr, "%s\n", medleyGetLastError(NULL));
        return 1;
    }
    for (int r = 0; r < RANKS; r++) pthread_create(&thread[r], NULL, rank_main, (void *)(size_t)&rank[r]);
    for (int r = 0; r < RANKS; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < RANKS; r++) medleyCommDestroy(comms[r]);
    printf("%d calls\n", CALLS);
    return 0;
}
