/* SPDX-License-Identifier: Apache-2.0 */
/*
 * variants [-n ranks] [-c collective] [-b min:max] [-r rounds] [-m] [-f] [-t type] [-s hosts] "NAME=VALUE ..." ...: the
 * same calls on communicators that were made under different environments, in turns, so that settings can be compared
 * on a noisy machine. An empty string is the default. Prints per size the median of each variant in us, each round the
 * slowest rank's mean, and its ratio to the first. -m: buffers of medleyMemAlloc. Ranks are processes, bound to cores
 * in turn. -f: before each measurement the first two ranks time a flag between them, and rounds in which their cores
 * are near (both sides of it below FAR_US one way: they share a cache) and far are told apart. -s node1,node2: they
 * live in these network namespaces, the first half of them in the first (bench/peers/hosts.sh makes two).
 *
 *   make bench/variants
 *   bench/variants "" "MEDLEY_ALGO=staged" "MEDLEY_CMA=0"
 */
#include "config.h"

#include <fcntl.h>
#include <medley.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_VARIANTS = 16, MOST_ROUNDS = 999, MOST_RANKS = 64, FLAGS = 200 };
#define FAR_US 0.1

static struct {
    medleyUniqueId id[MOST_VARIANTS];
    volatile int ready, arrived[2];
    _Alignas(64) volatile int flag;
    _Alignas(64) double flag_us;
    double time[MOST_RANKS];
} * shared;

static int nranks = 2, rounds = 15, mapped, flagged, nvariants, width = 4;
static const char *coll = "allreduce";
static size_t least = 8, most = 64 << 20;
static medleyDataType_t type = medleyFloat32;
static char **variants;
static char *hosts;
static medleyComm_t comms[MOST_VARIANTS];
static char *in, *out;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stop(medleyComm_t comm)
{
    fprintf(stderr, "%s\n", medleyGetLastError(comm));
    exit(1);
}

static void set_environment(const char *text, int on)
{
    char copy[1024], *save = NULL, *eq;

    snprintf(copy, sizeof(copy), "%s", text);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        eq = strchr(word, '=');
        if (!eq) continue;
        *eq = 0;
        if (on)
            setenv(word, eq + 1, 1);
        else
            unsetenv(word);
    }
}

static void make_comms(int rank)
{
    for (int v = 0; v < nvariants; v++) {
        set_environment(variants[v], 1);
        if (rank == 0) {
            if (medleyGetUniqueId(&shared->id[v]) != medleySuccess) stop(NULL);
            __atomic_store_n(&shared->ready, v + 1, __ATOMIC_RELEASE);
        }
        while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) <= v) usleep(100);
        if (medleyCommInitRank(&comms[v], nranks, shared->id[v], rank) != medleySuccess) stop(NULL);
        set_environment(variants[v], 0);
    }
}

static medleyResult_t call(medleyComm_t c, size_t bytes)
{
    size_t n = bytes / (size_t)width, part = n / (size_t)nranks;

    if (!strcmp(coll, "allreduce")) return medleyAllReduce(in, out, n, type, medleySum, c, NULL);
    if (!strcmp(coll, "reduce")) return medleyReduce(in, out, n, type, medleySum, 0, c, NULL);
    if (!strcmp(coll, "broadcast")) return medleyBroadcast(in, out, n, type, 0, c, NULL);
    if (!strcmp(coll, "allgather")) return medleyAllGather(in, out, part, type, c, NULL);
    if (!strcmp(coll, "reducescatter")) return medleyReduceScatter(in, out, part, type, medleySum, c, NULL);
    if (!strcmp(coll, "alltoall")) return medleyAlltoAll(in, out, part, type, c, NULL);
    if (!strcmp(coll, "gather")) return medleyGather(in, out, part, type, 0, c, NULL);
    if (!strcmp(coll, "scatter")) return medleyScatter(in, out, part, type, 0, c, NULL);
    if (!strcmp(coll, "barrier")) return medleyBarrier(c, NULL);
    fprintf(stderr, "unknown collective %s\n", coll);
    exit(2);
}

static void meet(int rank, int phase)
{
    (void)rank;
    __atomic_add_fetch(&shared->arrived[phase], 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&shared->arrived[phase], __ATOMIC_ACQUIRE) % nranks) sched_yield();
}

static double measure(int rank, int v, size_t bytes, int calls)
{
    double t, slowest = 0;

    if (medleyBarrier(comms[v], NULL) != medleySuccess) stop(comms[v]);
    t = now();
    for (int i = 0; i < calls; i++)
        if (call(comms[v], bytes) != medleySuccess) stop(comms[v]);
    shared->time[rank] = (now() - t) / calls;
    if (medleyBarrier(comms[v], NULL) != medleySuccess) stop(comms[v]);
    for (int r = 0; r < nranks; r++)
        if (shared->time[r] > slowest) slowest = shared->time[r];
    if (medleyBarrier(comms[v], NULL) != medleySuccess) stop(comms[v]);
    return slowest * 1e6;
}

/* One way, in us. */
static double measure_flag(int rank, int v)
{
    double t = now();

    for (int i = 0; rank < 2 && i < FLAGS; i++) {
        int turn = 2 * i + rank;
        while (__atomic_load_n(&shared->flag, __ATOMIC_ACQUIRE) != turn) continue;
        __atomic_store_n(&shared->flag, turn + 1, __ATOMIC_RELEASE);
    }
    if (rank == 0) shared->flag_us = (now() - t) / FLAGS / 2 * 1e6;
    if (medleyBarrier(comms[v], NULL) != medleySuccess) stop(comms[v]);
    if (rank == 0) shared->flag = 0;
    return shared->flag_us;
}

/* True: the cores were far. */
static bool measure_between(int rank, int v, size_t bytes, int calls, double *us)
{
    double before = flagged ? measure_flag(rank, v) : 0;

    *us = measure(rank, v, bytes, calls);
    return before > FAR_US || (flagged && measure_flag(rank, v) > FAR_US);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof(*t), compare);
    return n ? t[n / 2] : 0;
}

static void print_rounds(const char *which, size_t bytes, double (*t)[MOST_ROUNDS], const int *n)
{
    double first = median(t[0], n[0]);

    printf("%10zu%s", bytes, which);
    for (int v = 0; v < nvariants; v++) {
        double us = median(t[v], n[v]);
        printf("  %10.2f (%.2f)", us, first > 0 ? us / first : 0);
        if (flagged) printf(" of %d", n[v]);
    }
    printf("\n");
    fflush(stdout);
}

static void run_size(int rank, size_t bytes)
{
    static double t[2][MOST_VARIANTS][MOST_ROUNDS];
    int n[2][MOST_VARIANTS] = {0}, calls = bytes <= 4096 ? 1000 : (int)((4 << 20) / bytes) + 1;

    for (int r = 0; r <= rounds; r++) { /* the first warms up */
        for (int v = 0; v < nvariants; v++) {
            double us;
            bool far = measure_between(rank, v, bytes, calls, &us);
            if (r) t[far][v][n[far][v]++] = us;
        }
    }
    if (rank) return;
    print_rounds(flagged ? " near" : "", bytes, t[0], n[0]);
    if (flagged) print_rounds("  far", bytes, t[1], n[1]);
}

static void enter_host(int rank)
{
    char path[256], *name = NULL, *save = NULL;
    int nhosts = 1, fd;

    for (const char *c = hosts; *c; c++) nhosts += *c == ',';
    name = strtok_r(hosts, ",", &save);
    for (int i = 0; i < rank * nhosts / nranks && name; i++) name = strtok_r(NULL, ",", &save);
    snprintf(path, sizeof(path), "/run/netns/%s", name ? name : "");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET)) {
        perror(path);
        exit(1);
    }
    close(fd);
}

static int rank_main(int rank)
{
    cpu_set_t set;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (hosts) enter_host(rank);
    CPU_ZERO(&set);
    CPU_SET((unsigned)(rank % cores), &set);
    if (nranks <= cores) sched_setaffinity(0, sizeof(set), &set);
    make_comms(rank);
    if (mapped) {
        if (medleyMemAlloc((void **)&in, most) != medleySuccess || medleyMemAlloc((void **)&out, most) != medleySuccess)
            stop(NULL);
    } else {
        in = aligned_alloc(4096, most);
        out = aligned_alloc(4096, most);
    }
    memset(in, 1, most);
    memset(out, 0, most);
    for (size_t bytes = least; bytes <= most; bytes *= 4) run_size(rank, bytes);
    meet(rank, 0);
    for (int v = 0; v < nvariants; v++) medleyCommDestroy(comms[v]);
    return 0;
}

static void read_options(int argc, char **argv)
{
    int o;

    while ((o = getopt(argc, argv, "n:c:b:r:mft:s:")) != -1) {
        if (o == 'n') nranks = atoi(optarg);
        if (o == 'c') coll = optarg;
        if (o == 'b' && sscanf(optarg, "%zu:%zu", &least, &most) != 2) exit(2);
        if (o == 'r') rounds = atoi(optarg);
        if (o == 'm') mapped = 1;
        if (o == 'f') flagged = 1;
        if (o == 't') type = (medleyDataType_t)atoi(optarg);
        if (o == 's') hosts = optarg;
        if (o == '?') exit(2);
    }
    if (type == medleyInt8 || type == medleyUint8 || type >= medleyFloat8e4m3) width = 1;
    if (type == medleyFloat16 || type == medleyBfloat16) width = 2;
    if (type == medleyFloat64 || type == medleyInt64 || type == medleyUint64) width = 8;
    nvariants = argc - optind;
    variants = argv + optind;
    if (nvariants < 1 || nvariants > MOST_VARIANTS || rounds < 1 || rounds > MOST_ROUNDS || nranks > MOST_RANKS ||
        (flagged && nranks < 2)) {
        fprintf(stderr, "usage: variants [-n ranks] [-c collective] [-b min:max] [-r rounds] [-m] [-f] [-t type] [-s "
                        "hosts] SETTINGS...\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    int status, failed = 0;

    read_options(argc, argv);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    for (int v = 0; v < nvariants; v++)
        printf("%s%d: %s", v ? "   " : "", v, variants[v][0] ? variants[v] : "(default)");
    printf("\n");
    fflush(stdout);
    for (int r = 0; r < nranks; r++)
        if (fork() == 0) exit(rank_main(r));
    while (wait(&status) > 0) failed |= status;
    return failed != 0;
}
