/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce_speed [megabytes per buffer, default 64] [sources, default 2] [processes, default 1] [kernels, default best]
 *              [rounds, default 7]
 *
 * How fast the host reduces: for every datatype and operation the bytes read and written per second and process, beside
 * those of fp32 with the same operation. All are timed in turns, each table entry is a median over the rounds: of the
 * speed, and of the ratio to fp32 in the same round. With more than one process all run at once, each on a core of its
 * own and on its own buffers, and the slowest counts. With a small number of megabytes, such as 0.06, it shows the
 * kernels in the cache instead of the memory. The last line is the
 * sum of fp32 with non-temporal stores.
 */
#include "config.h"

#include "lib/base/clock.h"
#include "lib/reduce/reduce.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_SRC = 8,
    MAX_PROCESSES = 16,
    MAX_ROUNDS = 99,
    ENTRIES = medleyNumTypes * medleyNumOps + 1,
    WATCHDOG_S = 300
};

struct shared {
    _Atomic int arrived;
    uint64_t took[MAX_PROCESSES];
    double speed[ENTRIES][MAX_ROUNDS];
};

struct bench {
    size_t bytes;
    int nsrc, processes, rounds, number;
    size_t repeat; /* calls in one timed run, so that small buffers take long enough to time */
    const void *srcs[MAX_SRC];
    void *dst;
    struct shared *s;
    int meetings;
};

/* Acquire and release: what was stored in shared memory before is seen by all after. */
static void meet(struct bench *b)
{
    b->meetings++;
    atomic_fetch_add_explicit(&b->s->arrived, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&b->s->arrived, memory_order_acquire) < b->meetings * b->processes) sched_yield();
}

/* The last entry is fp32's sum again, written past the cache. */
static struct mdl_reduce entry_at(int i)
{
    const medleyRedOp_t op = (medleyRedOp_t)(i / medleyNumTypes);
    if (i == ENTRIES - 1) return (struct mdl_reduce){.dtype = medleyFloat32, .op = medleySum, .stream = 1};
    return (struct mdl_reduce){.dtype = (medleyDataType_t)(i % medleyNumTypes),
                               .op = op,
                               .finalize = op == medleyAvg ? MDL_FINAL_AVG : MDL_FINAL_NONE,
                               .divisor = 3};
}

/* GB/s of the slowest process. */
static double time_entry(struct bench *b, int i)
{
    const struct mdl_reduce r = entry_at(i);
    const size_t count = b->bytes / mdl_dtype_size(r.dtype);
    meet(b);
    const uint64_t start = mdl_now_ns();
    for (size_t k = 0; k < b->repeat; k++) mdl_reduce(&r, b->dst, b->srcs, 0, b->nsrc, count);
    b->s->took[b->number] = mdl_now_ns() - start;
    meet(b);
    uint64_t most = 1;
    for (int k = 0; k < b->processes; k++)
        if (b->s->took[k] > most) most = b->s->took[k];
    meet(b);
    return (double)b->bytes * (b->nsrc + 1) * (double)b->repeat / (double)most;
}

static int make_buffers(struct bench *b)
{
    /* 0x3c: a plausible value in every float type, so that no denormal or NaN distorts the time */
    for (int k = 0; k <= b->nsrc; k++) {
        void *buffer = aligned_alloc(64, b->bytes);
        if (!buffer) return -1;
        memset(buffer, 0x3c, b->bytes);
        if (k < b->nsrc)
            b->srcs[k] = buffer;
        else
            b->dst = buffer;
    }
    return 0;
}

static void run(struct bench *b)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)b->number % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
    if (b->processes > 1) (void)sched_setaffinity(0, sizeof set, &set);
    for (int round = -1; round < b->rounds; round++)
        for (int i = 0; i < ENTRIES; i++) {
            const double speed = time_entry(b, i);
            if (b->number == 0 && round >= 0) b->s->speed[i][round] = speed;
        }
}

/* Process 0 is this one; the others end with it. */
static int run_all(struct bench *b)
{
    int bad = 0;
    for (int k = 1; k < b->processes; k++) {
        const pid_t pid = fork();
        if (pid < 0) return -1;
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            b->number = k;
            if (make_buffers(b)) _exit(1);
            run(b);
            _exit(0);
        }
    }
    if (make_buffers(b)) return -1;
    run(b);
    for (int k = 0; k <= b->nsrc; k++) free(k < b->nsrc ? (void *)b->srcs[k] : b->dst);
    for (int k = 1, status; k < b->processes; k++)
        if (wait(&status) < 0 || status) bad = -1;
    return bad;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of the speed, or of its ratio to that of the entry `base`. */
static double median(const struct bench *b, int i, int base)
{
    double v[MAX_ROUNDS];
    for (int k = 0; k < b->rounds; k++) v[k] = b->s->speed[i][k] / (base < 0 ? 1 : b->s->speed[base][k]);
    qsort(v, (size_t)b->rounds, sizeof *v, by_value);
    return v[b->rounds / 2];
}

static void print_table(const struct bench *b)
{
    printf("# %s kernels, %d process%s, %d sources of %zu bytes; each entry: GB/s (ratio to float)\n%-9s",
           mdl_reduce_selected(), b->processes, b->processes > 1 ? "es" : "", b->nsrc, b->bytes, "type");
    for (int op = 0; op < medleyNumOps; op++) printf(" %14s", mdl_op_name((medleyRedOp_t)op));
    for (int t = 0; t < medleyNumTypes; t++) {
        printf("\n%-9s", mdl_dtype_name((medleyDataType_t)t));
        for (int op = 0; op < medleyNumOps; op++) {
            const int row = op * medleyNumTypes;
            printf(" %7.2f (%4.2f)", median(b, row + t, -1), median(b, row + t, row + medleyFloat32));
        }
    }
    printf("\nstream    %7.2f (%4.2f)\n", median(b, ENTRIES - 1, -1), median(b, ENTRIES - 1, medleyFloat32));
}

int main(int argc, char **argv)
{
    struct bench b = {.bytes = 64 << 20, .nsrc = 2, .processes = 1, .rounds = 7};
    if (argc > 1) b.bytes = (size_t)(atof(argv[1]) * 1048576) & ~(size_t)63;
    if (argc > 2) b.nsrc = atoi(argv[2]);
    if (argc > 3) b.processes = atoi(argv[3]);
    if (argc > 5) b.rounds = atoi(argv[5]);
    if (b.bytes == 0 || b.nsrc < 1 || b.nsrc > MAX_SRC || b.processes < 1 || b.processes > MAX_PROCESSES ||
        b.rounds < 1 || b.rounds > MAX_ROUNDS || mdl_reduce_select(argc > 4 ? argv[4] : NULL)) {
        fprintf(stderr, "usage: reduce_speed [megabytes] [sources 1..%d] [processes 1..%d] [kernels] [rounds 1..%d]\n",
                MAX_SRC, MAX_PROCESSES, MAX_ROUNDS);
        return 2;
    }
    alarm(WATCHDOG_S);
    b.repeat = ((size_t)4 << 20) / b.bytes + 1;
    b.s = mmap(NULL, sizeof *b.s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b.s == MAP_FAILED || run_all(&b)) {
        perror("reduce_speed");
        return 1;
    }
    print_table(&b);
    return 0;
}
