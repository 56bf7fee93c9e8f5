/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm_cost [-n ranks, default 8] [-c communicators, default 32] [-s: by medleyCommSplit, else from fresh ids]
 *
 * What a communicator costs: the ranks, each a process, open one after the other and keep all. For every one the time
 * to create it (of the slowest rank, from a common start); at the end descriptors, threads and resident memory, as the
 * difference between all and the first, for each communicator. Memory is the sum of all ranks' proportional share, so
 * that what they share counts once. Then the first all-reduce of 64 KiB on each: its time, and the part of it in which
 * plans are looked up or built (the linker puts a stopwatch around mdl_program_get).
 */
#include "config.h"

#include "lib/base/clock.h"
#include "lib/engine/program.h"

#include <dirent.h>
#include <medley.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RANKS = 64, MAX_COMMS = 256, CALL_BYTES = 65536 };

/* Which state a count was taken in. */
enum { NONE, ONE, ALL, CALLED, STATES };
static const char *const state_names[STATES] = {"without", "with one", "with all", "after calls"};

struct count {
    long fds, threads, rss_kib, pss_kib;
};
struct shared {
    atomic_int arrived[4096];
    medleyUniqueId id;
    uint64_t took[MAX_COMMS][MAX_RANKS], call[MAX_COMMS][MAX_RANKS], plan[MAX_COMMS][MAX_RANKS];
    struct count counts[STATES][MAX_RANKS];
};

static struct shared *shared;
static int nranks = 8, ncomms = 32, point;
static bool split;
static uint64_t plan_ns;

medleyResult_t __real_mdl_program_get(struct mdl_program_cache *cache, const struct mdl_program_args *args,
                                      const struct mdl_collective *c, struct mdl_program **p);
medleyResult_t __wrap_mdl_program_get(struct mdl_program_cache *cache, const struct mdl_program_args *args,
                                      const struct mdl_collective *c, struct mdl_program **p);
medleyResult_t __wrap_mdl_program_get(struct mdl_program_cache *cache, const struct mdl_program_args *args,
                                      const struct mdl_collective *c, struct mdl_program **p)
{
    const uint64_t start = mdl_now_ns();
    medleyResult_t res = __real_mdl_program_get(cache, args, c, p);
    plan_ns += mdl_now_ns() - start;
    return res;
}

static void check(medleyResult_t res)
{
    if (res == medleySuccess) return;
    fprintf(stderr, "comm_cost: %s\n", medleyGetLastError(NULL));
    exit(1);
}

/* All ranks are here. Sleeps, so that it does not take the processors from those that are late. */
static void meet(void)
{
    atomic_int *n = &shared->arrived[point++];
    atomic_fetch_add(n, 1);
    while (atomic_load(n) < nranks) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

/* ---- counting ---- */

static long entries(const char *folder)
{
    DIR *dir = opendir(folder);
    long n = 0;
    if (!dir) return -1;
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2;
}

static void take(int state, int rank)
{
    struct count *c = &shared->counts[state][rank];
    char line[256];
    meet();
    c->fds = entries("/proc/self/fd") - 1;
    c->threads = entries("/proc/self/task");
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (!strncmp(line, "Rss:", 4)) c->rss_kib = atol(line + 4);
        if (!strncmp(line, "Pss:", 4)) c->pss_kib = atol(line + 4);
    }
    if (f) fclose(f);
    meet();
}

/* ---- a rank ---- */

static void create(int i, int rank, medleyComm_t first, medleyComm_t *comm)
{
    if (!split && rank == 0) check(medleyGetUniqueId(&shared->id));
    meet();
    const uint64_t start = mdl_now_ns();
    if (split && first)
        check(medleyCommSplit(first, 0, rank, comm, NULL));
    else
        check(medleyCommInitRank(comm, nranks, shared->id, rank));
    shared->took[i][rank] = mdl_now_ns() - start;
}

static void call(int i, int rank, medleyComm_t comm, float *in, float *out)
{
    meet();
    plan_ns = 0;
    const uint64_t start = mdl_now_ns();
    check(medleyAllReduce(in, out, CALL_BYTES / sizeof(float), medleyFloat32, medleySum, comm, NULL));
    shared->call[i][rank] = mdl_now_ns() - start;
    shared->plan[i][rank] = plan_ns;
}

static int run_rank(int rank)
{
    static medleyComm_t comms[MAX_COMMS];
    float *in = calloc(1, CALL_BYTES), *out = calloc(1, CALL_BYTES);
    if (!in || !out) return 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    take(NONE, rank);
    if (split && rank == 0) check(medleyGetUniqueId(&shared->id));
    for (int i = 0; i < ncomms; i++) {
        create(i, rank, comms[0], &comms[i]);
        if (i == 0) take(ONE, rank);
    }
    take(ALL, rank);
    for (int i = 0; i < ncomms; i++) call(i, rank, comms[i], in, out);
    take(CALLED, rank);
    for (int i = ncomms - 1; i >= 0; i--) check(medleyCommDestroy(comms[i]));
    free(in);
    free(out);
    return 0;
}

/* ---- the report ---- */

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t slowest(const uint64_t *of_rank)
{
    uint64_t most = 0;
    for (int r = 0; r < nranks; r++) most = of_rank[r] > most ? of_rank[r] : most;
    return most;
}

/* Of the second and later communicators, in microseconds. */
static void print_times(const char *what, uint64_t times[MAX_COMMS][MAX_RANKS])
{
    uint64_t list[MAX_COMMS];
    int n = 0;
    for (int i = 1; i < ncomms; i++) list[n++] = slowest(times[i]);
    printf("%-28s first %8.1f us", what, (double)slowest(times[0]) / 1e3);
    if (n) {
        qsort(list, (size_t)n, sizeof(list[0]), by_size);
        printf("   later: least %8.1f  median %8.1f  most %8.1f", (double)list[0] / 1e3, (double)list[n / 2] / 1e3,
               (double)list[n - 1] / 1e3);
    }
    printf("\n");
}

static void print_share(void)
{
    double plan = 0, all = 0;
    for (int i = 0; i < ncomms; i++)
        for (int r = 0; r < nranks; r++) {
            plan += (double)shared->plan[i][r];
            all += (double)shared->call[i][r];
        }
    printf("%-28s %.2f %% of the first call's time\n", "choosing and building plans", 100 * plan / all);
}

static void print_counts(void)
{
    long pss[STATES] = {0};
    for (int s = 0; s < STATES; s++) {
        struct count most = {0};
        for (int r = 0; r < nranks; r++) {
            const struct count *c = &shared->counts[s][r];
            most.fds = c->fds > most.fds ? c->fds : most.fds;
            most.threads = c->threads > most.threads ? c->threads : most.threads;
            most.rss_kib = c->rss_kib > most.rss_kib ? c->rss_kib : most.rss_kib;
            pss[s] += c->pss_kib;
        }
        printf("%-12s of one rank at most %5ld descriptors %3ld threads %8ld KiB resident; of all ranks %8ld KiB\n",
               state_names[s], most.fds, most.threads, most.rss_kib, pss[s]);
    }
    if (ncomms == 1) return;
    printf("each further communicator: %.1f KiB of all ranks idle, %.1f KiB after a call; descriptors of rank 0: %.2f\n",
           (double)(pss[ALL] - pss[ONE]) / (ncomms - 1), (double)(pss[CALLED] - pss[ONE]) / (ncomms - 1),
           (double)(shared->counts[ALL][0].fds - shared->counts[ONE][0].fds) / (ncomms - 1));
}

static int usage(void)
{
    fprintf(stderr, "usage: comm_cost [-n ranks 2..%d] [-c communicators 1..%d] [-s]\n", MAX_RANKS, MAX_COMMS);
    return 2;
}

int main(int argc, char **argv)
{
    for (int opt; (opt = getopt(argc, argv, "n:c:s")) != -1;) {
        if (opt == 'n')
            nranks = atoi(optarg);
        else if (opt == 'c')
            ncomms = atoi(optarg);
        else if (opt == 's')
            split = true;
        else
            return usage();
    }
    if (nranks < 2 || nranks > MAX_RANKS || ncomms < 1 || ncomms > MAX_COMMS || optind < argc) return usage();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    for (int r = 0; r < nranks; r++) {
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) _exit(run_rank(r));
    }
    int status, bad = 0;
    for (int r = 0; r < nranks; r++) bad |= wait(&status) < 0 || status != 0;
    if (bad) return 1;
    printf("# %d ranks, %d communicators %s\n", nranks, ncomms, split ? "by medleyCommSplit" : "from ids");
    print_times("creation", shared->took);
    print_times("first call, 64 KiB", shared->call);
    print_times("  of it plans", shared->plan);
    print_share();
    print_counts();
    return 0;
}
