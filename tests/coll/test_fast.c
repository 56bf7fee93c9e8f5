/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path has no allocation, no lock and no system call: two threads are the ranks of a communicator, and after a
 * few calls that may do what they like, every malloc, every mutex and, by a seccomp filter that traps, every system
 * call of theirs is counted. Calls are repeated in batches, and in the best batch there must be none: a rank that the
 * machine holds up for long makes the other one sleep in the end, which says nothing about the path.
 *
 * Waiting does not yield here (MEDLEY_SPIN), and the system call that some machines need to read the clock is let pass.
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <medley.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__SANITIZE_UNDEFINED__) ||                \
    !defined(__GLIBC__) || !(defined(__x86_64__) || defined(__aarch64__))
int main(void)
{
    puts("skipped: this build counts allocations and system calls of its own");
    return 77;
}
#else

enum { RANKS = 2, BATCHES = 40, CALLS = 20, WARM = 20, MOST_BYTES = 1 << 20 };

struct count {
    int allocations, locks, calls, last_call;
};
static _Thread_local bool counting;
static _Thread_local struct count count;

/* ---- what is counted ---- */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static void note_allocation(void) { count.allocations += counting; }

void *malloc(size_t n)
{
    note_allocation();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
    note_allocation();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
    note_allocation();
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t alignment, size_t n)
{
    note_allocation();
    return __libc_memalign(alignment, n);
}
void free(void *p)
{
    if (p) note_allocation();
    __libc_free(p);
}

static int (*real_lock)(pthread_mutex_t *);

int pthread_mutex_lock(pthread_mutex_t *m)
{
    count.locks += counting;
    if (!real_lock) {
        void *found = dlsym(RTLD_NEXT, "pthread_mutex_lock");
        memcpy(&real_lock, &found, sizeof(found));
    }
    return real_lock(m);
}

/* The call has no effect, and seems to succeed. */
static void on_trap(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)signal;
    if (counting) {
        count.calls++;
        count.last_call = info->si_syscall;
    }
#if defined(__x86_64__)
    uc->uc_mcontext.gregs[REG_RAX] = 0;
#else
    uc->uc_mcontext.regs[0] = 0;
#endif
}

#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* For the calling thread, for good. */
static bool trap_calls(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_rt_sigreturn),
        ALLOW(SYS_exit),
        ALLOW(SYS_exit_group),
        ALLOW(SYS_clock_gettime),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* ---- the calls ---- */

static const struct scene {
    const char *name;
    medleyColl_t coll;
    size_t bytes;
    bool mapped;
} scenes[] = {
    {"allreduce of 8 bytes", medleyCollAllReduce, 8, false},
    {"allreduce of 16 KiB", medleyCollAllReduce, 16384, false},
    {"allreduce of 64 KiB", medleyCollAllReduce, 65536, false},
    {"allreduce of 1 MiB", medleyCollAllReduce, 1 << 20, false},
    {"allreduce of 64 KiB, mapped", medleyCollAllReduce, 65536, true},
    {"broadcast of 64 KiB", medleyCollBroadcast, 65536, false},
    {"allgather of 4 KiB", medleyCollAllGather, 4096, false},
    {"reducescatter of 256 KiB", medleyCollReduceScatter, 262144, false},
    {"barrier", medleyCollBarrier, 0, false},
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static medleyComm_t comms[RANKS];
static char *in[RANKS][2], *out[RANKS][2]; /* ordinary, mapped */
static struct count counts[SCENES][BATCHES][RANKS];
static _Atomic int arrived;
static _Atomic int filters;

static medleyResult_t call(const struct scene *s, int rank)
{
    const void *from = in[rank][s->mapped];
    void *to = out[rank][s->mapped];
    size_t n = s->bytes / sizeof(float);

    switch (s->coll) {
    case medleyCollAllReduce: return medleyAllReduce(from, to, n, medleyFloat, medleySum, comms[rank], NULL);
    case medleyCollBroadcast: return medleyBroadcast(from, to, n, medleyFloat, 0, comms[rank], NULL);
    case medleyCollAllGather: return medleyAllGather(from, to, n / RANKS, medleyFloat, comms[rank], NULL);
    case medleyCollReduceScatter:
        return medleyReduceScatter(from, to, n / RANKS, medleyFloat, medleySum, comms[rank], NULL);
    default: return medleyBarrier(comms[rank], NULL);
    }
}

/* Without a system call: those are trapped. */
static void meet(int *met)
{
    *met += RANKS;
    atomic_fetch_add_explicit(&arrived, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&arrived, memory_order_acquire) < *met) {}
}

static void run_batch(const struct scene *s, int rank, int calls, struct count *result)
{
    memset(&count, 0, sizeof(count));
    counting = result != NULL;
    for (int i = 0; i < calls; i++) {
        if (call(s, rank) == medleySuccess) continue;
        counting = false;
        count.calls = -1; /* cannot be printed here */
        break;
    }
    counting = false;
    if (result) *result = count;
}

static void *rank_main(void *arg)
{
    int rank = *(const int *)arg, met = 0;

    for (int s = 0; s < SCENES; s++) run_batch(&scenes[s], rank, WARM, NULL);
    atomic_fetch_add(&filters, trap_calls());
    meet(&met);
    for (int s = 0; s < SCENES; s++) {
        for (int b = 0; b < BATCHES; b++) {
            meet(&met);
            run_batch(&scenes[s], rank, CALLS, &counts[s][b][rank]);
        }
    }
    return NULL;
}

/* ---- the verdict ---- */

static int sum_of(const struct count *c) { return c->allocations + c->locks + c->calls; }

static int judge(int s)
{
    const struct count(*best)[RANKS] = &counts[s][0];

    for (int b = 0; b < BATCHES; b++) {
        const struct count *c = counts[s][b];
        if (c[0].calls < 0 || c[1].calls < 0) {
            printf("FAIL %s: the call failed: %s\n", scenes[s].name, medleyGetLastError(comms[0]));
            return 1;
        }
        if (sum_of(&c[0]) + sum_of(&c[1]) < sum_of(&(*best)[0]) + sum_of(&(*best)[1])) best = &counts[s][b];
    }
    for (int r = 0; r < RANKS; r++) {
        const struct count *c = &(*best)[r];
        if (sum_of(c) == 0) continue;
        printf("FAIL %s: rank %d, in %d calls: %d allocations, %d locks, %d system calls (the last one was %d)\n",
               scenes[s].name, r, CALLS, c->allocations, c->locks, c->calls, c->last_call);
        return 1;
    }
    printf("ok %s\n", scenes[s].name);
    return 0;
}

static bool prepare(void)
{
    struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    if (sigaction(SIGSYS, &trap, NULL) || medleyCommInitAll(comms, RANKS, NULL) != medleySuccess) return false;
    for (int r = 0; r < RANKS; r++) {
        in[r][0] = calloc(1, MOST_BYTES);
        out[r][0] = calloc(1, MOST_BYTES);
        if (!in[r][0] || !out[r][0]) return false;
        if (medleyMemAlloc((void **)&in[r][1], MOST_BYTES) != medleySuccess) return false;
        if (medleyMemAlloc((void **)&out[r][1], MOST_BYTES) != medleySuccess) return false;
        memset(in[r][1], 0, MOST_BYTES);
        memset(out[r][1], 0, MOST_BYTES);
    }
    return true;
}

int main(void)
{
    static const int rank[RANKS] = {0, 1};
    pthread_t thread[RANKS];
    int failed = 0;

    setenv("MEDLEY_SPIN", "1000000", 1);
    if (!prepare()) {
        fprintf(stderr, "%s\n", medleyGetLastError(NULL));
        return 1;
    }
    for (int r = 0; r < RANKS; r++) pthread_create(&thread[r], NULL, rank_main, (void *)(uintptr_t)&rank[r]);
    for (int r = 0; r < RANKS; r++) pthread_join(thread[r], NULL);
    for (int s = 0; s < SCENES; s++) failed += judge(s);
    for (int r = 0; r < RANKS; r++) {
        medleyCommDestroy(comms[r]);
        free(in[r][0]);
        free(out[r][0]);
        medleyMemFree(in[r][1]);
        medleyMemFree(out[r][1]);
    }
    if (!failed && atomic_load(&filters) < RANKS) {
        puts("skipped: no seccomp filters here; allocations and locks were counted, system calls were not");
        return 77;
    }
    return failed != 0;
}
#endif
