/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A team of processes: memory that they share, connections between the first two, and the loop that all of them run.
 * First each entry runs once on cleared outputs and is checked; that also warms it up and tells how many calls make a
 * batch. Then come the rounds: one batch of each entry, so that all are disturbed alike. A batch takes as long as its
 * slowest rank; an entry's time is the median over the rounds.
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { HUGE_PAGE = 2 << 20 };

static bool has_huge;
bool team_has_huge(void) { return has_huge; }

/* Everything of a team; made before the processes are, and so at the same address in all of them. */
struct team {
    int ranks, rounds, cores;
    double batch_ms;
    size_t most; /* bytes of each buffer */
    struct entry *entries;
    size_t count;
    struct shared *s;
    double *us; /* [entry][round], shared */
    uint32_t *calls;
    char *small, *huge; /* in[0], out[0], in[1] ... in shared memory */
    char *own;          /* in, out: private */
    int conn[2][CONNS];
};

static void *map_aligned(size_t bytes, int flags, int fd)
{
    char *base = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    base += HUGE_PAGE - ((uintptr_t)base & (HUGE_PAGE - 1));
    void *got = mmap(base, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
    return got == MAP_FAILED ? NULL : got;
}

/* Where shared memory gets no huge pages of its own (the default of most kernels), they can be collapsed. */
static void *map_shared(size_t bytes, bool huge)
{
    const int fd = memfd_create("limits", MFD_CLOEXEC);
    void *base = NULL;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) base = map_aligned(bytes, MAP_SHARED, fd);
    if (fd >= 0) close(fd);
    if (!base) return NULL;
    if (huge) {
        (void)madvise(base, bytes, MADV_HUGEPAGE);
        (void)madvise(base, bytes, MADV_POPULATE_WRITE);
        has_huge = madvise(base, bytes, MADV_COLLAPSE) == 0;
    }
    return base;
}

static int connect_pair(int pair[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    const int one = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[0] = pair[1] = -1;
    if (door < 0) return -1;
    if (bind(door, (struct sockaddr *)&at, len) == 0 && listen(door, 1) == 0 &&
        getsockname(door, (struct sockaddr *)&at, &len) == 0 &&
        (pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0 &&
        connect(pair[0], (struct sockaddr *)&at, len) == 0)
        pair[1] = accept4(door, NULL, NULL, SOCK_CLOEXEC);
    close(door);
    for (int k = 0; k < 2; k++)
        if (pair[k] >= 0) (void)setsockopt(pair[k], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return pair[1] < 0 ? -1 : 0;
}

/* ---- contents ---- */

/* Small integers: all sums are exact. */
static float value(int rank, size_t i) { return (float)(i % 61 + 64 * (size_t)rank); }

static void fill(float *p, int rank, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(float); i++) p[i] = value(rank, i);
}

static float expected(const struct rank *me, enum coll coll, size_t part, size_t i)
{
    const size_t sum = 32 * (size_t)me->n * (size_t)(me->n - 1), n = (size_t)me->n, mine = part * (size_t)me->rank;
    switch (coll) {
    case COLL_ALLREDUCE: return (float)(n * (i % 61) + sum);
    case COLL_REDUCE_SCATTER: return (float)(n * ((mine + i) % 61) + sum);
    case COLL_ALLGATHER: return value((int)(i / part), i % part);
    case COLL_ALLTOALL: return value((int)(i / part), mine + i % part);
    case COLL_BROADCAST: return value(0, i);
    default: return value(me->rank, i);
    }
}

static void check(struct rank *me, const struct entry *e)
{
    const size_t count = e->bytes / sizeof(float), part = slice_start(count, me->n, 1);
    const float *out = e->c->mapped ? me->out[me->rank] : me->own_out;
    const enum coll coll = e->c->coll;
    if (coll == COLL_NONE || (coll == COLL_BROADCAST && me->rank == 0)) return;
    const size_t length = coll == COLL_REDUCE_SCATTER                       ? part
                          : coll == COLL_ALLGATHER || coll == COLL_ALLTOALL ? part * (size_t)me->n
                                                                            : count;
    for (size_t i = 0; i < length; i++)
        if (out[i] != expected(me, coll, part, i)) {
            if (atomic_fetch_add_explicit(&me->s->wrong, 1, memory_order_relaxed) == 0)
                fprintf(stderr, "limits: %s %s %s, %d ranks, %zu bytes: element %zu of rank %d is %g, should be %g\n",
                        e->c->limit, e->c->name, e->c->variant, me->n, e->bytes, i, me->rank, (double)out[i],
                        (double)expected(me, coll, part, i));
            return;
        }
}

/* ---- a rank ---- */

static void choose(struct team *t, struct rank *me, const struct limit_case *c)
{
    char *const base = c->huge ? t->huge : t->small;
    for (int k = 0; k < t->ranks; k++) {
        me->in[k] = (float *)(void *)(base + t->most * (size_t)(2 * k));
        me->out[k] = (float *)(void *)(base + t->most * (size_t)(2 * k + 1));
    }
    const bool alone = me->n <= t->cores && !c->one_core;
    me->spins = alone ? 100000 : c->one_core ? 0 : 8;
    const int core = c->one_core ? 0 : me->rank % t->cores;
    if (core != me->core) pin(me->core = core);
}

static uint64_t run_calls(struct rank *me, const struct entry *e, uint32_t calls)
{
    meet(me, FLAG_MEET);
    const uint64_t start = now_ns();
    for (uint32_t i = 0; i < calls; i++) e->c->run(me, e->c, e->bytes);
    me->s->took[me->rank] = now_ns() - start;
    meet(me, FLAG_MEET);
    uint64_t most = 0;
    for (int k = 0; k < me->n; k++)
        if (me->s->took[k] > most) most = me->s->took[k];
    meet(me, FLAG_MEET);
    return most;
}

static void prove(struct team *t, struct rank *me, size_t i)
{
    const struct entry *e = &t->entries[i];
    choose(t, me, e->c);
    memset(e->c->mapped ? me->out[me->rank] : me->own_out, 0xff, e->bytes);
    run_calls(me, e, 1);
    check(me, e);
    const uint64_t took = run_calls(me, e, 1);
    const double calls = t->batch_ms * 1e6 / (double)(took + 1);
    if (me->rank == 0) t->calls[i] = calls < 1 ? 1 : calls > 20000 ? 20000 : (uint32_t)calls;
    meet(me, FLAG_MEET);
}

static void run_rank(struct team *t, int number)
{
    static struct rank me;
    me = (struct rank){.rank = number, .n = t->ranks, .s = t->s, .core = -1};
    for (int k = 0; k < CONNS; k++) me.conn[k] = t->conn[number & 1][k];
    me.own_in = (float *)(void *)t->own;
    me.own_out = (float *)(void *)(t->own + t->most);
    char *scratch = map_aligned((size_t)MAX_RANKS * MAX_TILE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!scratch) _exit(1);
    (void)madvise(scratch, (size_t)MAX_RANKS * MAX_TILE, MADV_HUGEPAGE);
    for (int k = 0; k < MAX_RANKS; k++) me.scratch[k] = (float *)(void *)(scratch + (size_t)k * MAX_TILE);
    static const struct limit_case small = {0}, huge = {.huge = true};
    t->s->pid[number] = getpid();
    for (int k = 0; k < (t->huge ? 2 : 1); k++) {
        choose(t, &me, k ? &huge : &small);
        fill((float *)me.in[number], number, t->most);
        fill(me.out[number], number, t->most);
    }
    fill(me.own_in, number, t->most);
    fill(me.own_out, number, t->most);
    meet(&me, FLAG_MEET);
    for (size_t i = 0; i < t->count; i++) prove(t, &me, i);
    for (int round = 0; round < t->rounds; round++)
        for (size_t i = 0; i < t->count; i++) {
            choose(t, &me, t->entries[i].c);
            const double took = (double)run_calls(&me, &t->entries[i], t->calls[i]);
            if (number == 0) t->us[i * (size_t)t->rounds + (size_t)round] = took / 1e3 / t->calls[i];
        }
}

/* ---- the team ---- */

static int make_memory(struct team *t)
{
    const size_t buffers = 2 * (size_t)t->ranks * t->most;
    bool huge = false;
    for (size_t i = 0; i < t->count; i++) huge |= t->entries[i].c->huge;
    t->s = map_shared(sizeof *t->s, false);
    t->us = map_shared(t->count * (size_t)t->rounds * sizeof *t->us, false);
    t->calls = map_shared(t->count * sizeof *t->calls, false);
    t->small = map_shared(buffers, false);
    t->own = map_aligned(2 * t->most, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (huge) t->huge = map_shared(buffers, true);
    return t->s && t->us && t->calls && t->small && t->own && (t->huge || !huge) ? 0 : -1;
}

static void drop(void *base, size_t bytes)
{
    if (base) munmap(base, bytes);
}

static void free_memory(struct team *t)
{
    const size_t buffers = 2 * (size_t)t->ranks * t->most;
    drop(t->s, sizeof *t->s);
    drop(t->us, t->count * (size_t)t->rounds * sizeof *t->us);
    drop(t->calls, t->count * sizeof *t->calls);
    drop(t->small, buffers);
    drop(t->huge, buffers);
    drop(t->own, 2 * t->most);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void take_medians(struct team *t)
{
    const size_t rounds = (size_t)t->rounds;
    for (size_t i = 0; i < t->count; i++) {
        struct entry *e = &t->entries[i];
        double *us = t->us + i * rounds;
        qsort(us, rounds, sizeof *us, by_value);
        e->us = (us[rounds / 2] + us[(rounds - 1) / 2]) / 2 * (e->c->share > 0 ? e->c->share : 1);
    }
}

/* Starts the processes and waits; one that fails takes the others with it. */
static int run_processes(struct team *t)
{
    pid_t pid[MAX_RANKS];
    const pid_t parent = getpid();
    int bad = 0;
    for (int r = 0; r < t->ranks; r++) {
        pid[r] = fork();
        if (pid[r] < 0) return -1; /* those already started end with this process */
        if (pid[r] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
            if (getppid() != parent) _exit(1);
            run_rank(t, r);
            _exit(0);
        }
    }
    for (int left = t->ranks; left > 0; left--) {
        int status;
        if (wait(&status) < 0 || status == 0) continue;
        bad = 1;
        for (int r = 0; r < t->ranks; r++) kill(pid[r], SIGKILL);
    }
    return bad;
}

int team_run(int ranks, struct entry *entries, size_t count, int rounds, double batch_ms)
{
    struct team t = {.ranks = ranks, .rounds = rounds, .batch_ms = batch_ms, .entries = entries, .count = count};
    int bad = -1;
    t.cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (size_t i = 0; i < count; i++)
        if (entries[i].bytes > t.most) t.most = entries[i].bytes;
    t.most = (t.most + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    for (int k = 0; k < CONNS; k++) {
        int pair[2];
        if (connect_pair(pair)) perror("limits: a connection over the loopback");
        t.conn[0][k] = pair[0], t.conn[1][k] = pair[1];
    }
    if (make_memory(&t) == 0) bad = run_processes(&t);
    if (bad == 0) take_medians(&t);
    if (bad < 0) perror("limits: memory or processes");
    if (t.s && atomic_load(&t.s->wrong)) bad = 1;
    free_memory(&t);
    for (int k = 0; k < 2 * CONNS; k++) close(t.conn[k & 1][k / 2]);
    return bad ? 1 : 0;
}
