/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/coll/ranks.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct member {
    pthread_t thread;
    pid_t pid;
    struct ranks_world *w;
    int rank, result;
    ranks_fn fn;
    void *arg;
    volatile int ended;
};

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void *thread_main(void *arg)
{
    struct member *m = arg;

    m->result = m->fn(m->w, m->rank, m->arg);
    __atomic_store_n(&m->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void start(struct member *m, bool threads)
{
    if (threads) {
        if (pthread_create(&m->thread, NULL, thread_main, m)) abort();
        return;
    }
    fflush(NULL);
    m->pid = fork();
    if (m->pid < 0) abort();
    if (m->pid == 0) {
        int res = m->fn(m->w, m->rank, m->arg);
        fflush(NULL);
        exit(res);
    }
}

/* Polls until the member has ended or the deadline passes. */
static bool ended(struct member *m, bool threads)
{
    int status;

    if (threads) return __atomic_load_n(&m->ended, __ATOMIC_ACQUIRE);
    if (m->ended) return true;
    if (waitpid(m->pid, &status, WNOHANG) != m->pid) return false;
    m->result = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    m->ended = 1;
    return true;
}

static void give_up(struct member *m, bool threads)
{
    fprintf(stderr, "rank %d hangs\n", m->rank);
    if (threads) abort();
    kill(m->pid, SIGABRT);
    kill(m->pid, SIGKILL);
    waitpid(m->pid, NULL, 0);
    m->result = -SIGKILL;
}

int ranks_run(int n, bool threads, ranks_fn fn, void *arg, int seconds, int *status)
{
    struct ranks_world *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct member *m = calloc((size_t)n, sizeof(*m));
    const struct timespec pause = {.tv_nsec = 1000000};
    double deadline = now() + seconds;
    int failed = 0;

    if (w == MAP_FAILED || !m) abort();
    w->nranks = n;
    for (int r = 0; r < n; r++) {
        m[r] = (struct member){.w = w, .rank = r, .fn = fn, .arg = arg};
        start(&m[r], threads);
    }
    for (int r = 0; r < n; r++) {
        while (!ended(&m[r], threads) && now() < deadline) nanosleep(&pause, NULL);
        if (!ended(&m[r], threads))
            give_up(&m[r], threads);
        else if (threads)
            pthread_join(m[r].thread, NULL);
        if (status) status[r] = m[r].result;
        failed += m[r].result != 0;
    }
    free(m);
    munmap(w, sizeof(*w));
    return failed;
}

void ranks_meet(struct ranks_world *w, int point)
{
    __atomic_add_fetch(&w->words[point], 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&w->words[point], __ATOMIC_ACQUIRE) < w->nranks) sched_yield();
}

medleyResult_t ranks_comm(struct ranks_world *w, int rank, medleyConfig_t *config, medleyComm_t *comm)
{
    if (rank == 0) {
        medleyResult_t res = medleyGetUniqueId(&w->id);
        __atomic_store_n(&w->id_ready, res == medleySuccess ? 1 : 2, __ATOMIC_RELEASE);
        if (res != medleySuccess) return res;
    }
    while (!__atomic_load_n(&w->id_ready, __ATOMIC_ACQUIRE)) sched_yield();
    if (w->id_ready == 2) return medleySystemError;
    return medleyCommInitRankConfig(comm, w->nranks, w->id, rank, config);
}
