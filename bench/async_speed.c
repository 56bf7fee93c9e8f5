/* SPDX-License-Identifier: Apache-2.0 */
/*
 * async_speed [-n ranks] [-r rounds] [-b min:max]: all-reduces (fp32, sum, ordinary buffers) that are queued on a host
 * stream beside those that are done when the call returns, in turns. Per size in bytes, medians of the rounds in us per
 * operation, each the slowest rank's:
 *
 *   sync      medleyAllReduce with a NULL stream
 *   async     queued on a stream, then medleyStreamSynchronize: the caller sleeps       (ratio to sync)
 *   computing queued, and the caller computes until they are done                      (ratio to sync)
 *   its loss  what the caller computed meanwhile, as a share of what it computes in that time alone
 *   turns     operations of two communicators in turns, on one stream; per pair
 *   two       the same at once, on two streams                                         (ratio to turns)
 *
 *   make bench/async_speed && bench/async_speed
 */
#include "config.h"

#include <medley.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum way { SYNC, ASYNC, COMPUTING, TURNS, TWO, WAYS };
enum { MOST_ROUNDS = 99, MOST_RANKS = 64, COMMS = 2 };

static struct {
    medleyUniqueId id[COMMS];
    volatile int ready;
    double time[MOST_RANKS], work[MOST_RANKS];
} *shared;

static int nranks = 2, rounds = 15;
static size_t least = 65536, most = 16 << 20;
static medleyComm_t comms[COMMS];
static void *streams[COMMS];
static float *in[COMMS], *out[COMMS];
static double alone; /* units of work per second, with nothing else */
static volatile double sink;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void need(medleyResult_t res, medleyComm_t comm)
{
    if (res == medleySuccess) return;
    fprintf(stderr, "%s\n", medleyGetLastError(comm));
    exit(1);
}

/* About ten microseconds of arithmetic in registers. */
static void compute(void)
{
    double x = sink;

    for (int i = 0; i < 5000; i++) x = x * 0.999 + 1;
    sink = x;
}

static void call(int c, size_t bytes, void *stream)
{
    need(medleyAllReduce(in[c], out[c], bytes / sizeof(float), medleyFloat, medleySum, comms[c], stream), comms[c]);
}

static double run(enum way way, size_t bytes, int calls, double *units)
{
    double from = now();
    int ncomms = way == TWO || way == TURNS ? 2 : 1;

    *units = 0;
    for (int i = 0; i < calls; i++)
        for (int c = 0; c < ncomms; c++) call(c, bytes, way == SYNC ? NULL : streams[way == TWO ? c : 0]);
    while (way == COMPUTING && medleyStreamQuery(streams[0]) == medleyInProgress) {
        compute();
        *units += 1;
    }
    for (int c = 0; c < ncomms && way != SYNC; c++) need(medleyStreamSynchronize(streams[c]), comms[c]);
    return (now() - from) / calls;
}

static double measure(int rank, enum way way, size_t bytes, int calls, double *loss)
{
    double slowest = 0, share = 0, units;

    need(medleyBarrier(comms[0], NULL), comms[0]);
    shared->time[rank] = run(way, bytes, calls, &units);
    shared->work[rank] = units / (shared->time[rank] * calls) / alone;
    need(medleyBarrier(comms[0], NULL), comms[0]);
    for (int r = 0; r < nranks; r++) {
        if (shared->time[r] > slowest) slowest = shared->time[r];
        share += shared->work[r] / nranks;
    }
    need(medleyBarrier(comms[0], NULL), comms[0]);
    *loss = 1 - share;
    return slowest * 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *list)
{
    qsort(list, (size_t)rounds, sizeof(double), compare);
    return list[rounds / 2];
}

static void run_size(int rank, size_t bytes)
{
    static double t[WAYS][MOST_ROUNDS], loss[WAYS][MOST_ROUNDS];
    int calls = (int)((16 << 20) / bytes) + 4;
    double m[WAYS];

    for (int r = 0; r <= rounds; r++) /* the first warms up */
        for (enum way w = 0; w < WAYS; w++)
            t[w][r ? r - 1 : 0] = measure(rank, w, bytes, calls, &loss[w][r ? r - 1 : 0]);
    if (rank) return;
    for (enum way w = 0; w < WAYS; w++) m[w] = median(t[w]);
    printf("%10zu %10.2f %10.2f (%.2f) %10.2f (%.2f) %9.0f%% %10.2f %10.2f (%.2f)\n", bytes, m[SYNC], m[ASYNC],
           m[ASYNC] / m[SYNC], m[COMPUTING], m[COMPUTING] / m[SYNC], median(loss[COMPUTING]) * 100,
           m[TURNS], m[TWO], m[TWO] / m[TURNS]);
    fflush(stdout);
}

static void bind(int rank)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)(rank % cores), &set);
    if (nranks <= cores) sched_setaffinity(0, sizeof(set), &set);
}

static void prepare(int rank)
{
    double from;
    int units = 0;

    bind(rank);
    for (int c = 0; c < COMMS; c++) {
        if (rank == 0) {
            need(medleyGetUniqueId(&shared->id[c]), NULL);
            __atomic_store_n(&shared->ready, c + 1, __ATOMIC_RELEASE);
        }
        while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) <= c) usleep(100);
        need(medleyCommInitRank(&comms[c], nranks, shared->id[c], rank), NULL);
        need(medleyStreamCreate(&streams[c]), NULL);
        in[c] = calloc(1, most);
        out[c] = calloc(1, most);
        if (!in[c] || !out[c]) exit(1);
        memset(in[c], 0, most);
        memset(out[c], 0, most);
    }
    from = now();
    while (now() < from + 0.2) compute(), units++;
    alone = units / (now() - from);
}

static int rank_main(int rank)
{
    prepare(rank);
    if (rank == 0) printf("%10s %10s %17s %17s %10s %10s %17s\n", "bytes", "sync", "async", "computing", "its loss", "turns", "two");
    for (size_t bytes = least; bytes <= most; bytes *= 4) run_size(rank, bytes);
    for (int c = 0; c < COMMS; c++) need(medleyCommDestroy(comms[c]), NULL);
    return 0;
}

int main(int argc, char **argv)
{
    int status, failed = 0, o;

    while ((o = getopt(argc, argv, "n:r:b:")) != -1) {
        if (o == 'n') nranks = atoi(optarg);
        if (o == 'r') rounds = atoi(optarg);
        if (o == '?' || (o == 'b' && sscanf(optarg, "%zu:%zu", &least, &most) != 2)) return 2;
    }
    if (nranks < 1 || nranks > MOST_RANKS || rounds < 1 || rounds > MOST_ROUNDS || least < 4) return 2;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    for (int r = 0; r < nranks; r++)
        if (fork() == 0) exit(rank_main(r));
    while (wait(&status) > 0) failed |= status;
    return failed != 0;
}
