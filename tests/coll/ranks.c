/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of a test: see ranks.h. The parent polls its children and never blocks on one, so that a rank that hangs is
 * found and named. */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/coll/slack.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CANNOT_START = 99 };

struct member {
    pthread_t thread;
    pid_t pid;
    struct ranks_world *w;
    int rank, result;
    ranks_fn fn;
    void *arg;
    volatile int ended;
};

struct ranks_play {
    int n;
    bool threads;
    struct ranks_world *w;
    struct member *members;
};

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- hosts ---- */

/* Name number `rank` of the list in `variable`, the last one for those beyond it; false: no list. */
static bool host_of(const char *variable, int rank, char *name, size_t bytes)
{
    const char *at = getenv(variable);

    if (!at || !*at) return false;
    for (const char *comma; rank > 0 && (comma = strchr(at, ',')); rank--) at = comma + 1;
    snprintf(name, bytes, "%.*s", (int)strcspn(at, ","), at);
    return true;
}

static void enter_host(int rank)
{
    char name[64], path[128];
    int fd;

    if (host_of("MDL_TEST_HOSTS", rank, name, sizeof(name))) setenv("MEDLEY_HOST_ID", name, 1);
    if (!host_of("MDL_TEST_NETNS", rank, name, sizeof(name))) return;
    snprintf(path, sizeof(path), "/run/netns/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0 || unshare(CLONE_NEWUTS) < 0 || sethostname(name, strlen(name)) < 0) {
        fprintf(stderr, "rank %d cannot enter host %s: %s\n", rank, name, strerror(errno));
        _exit(CANNOT_START);
    }
    close(fd);
}

/* ---- number spaces ---- */

/* Waits for the only child and ends as it did; the first process of a space, which no signal of its own ends, tells of
 * one by its exit status. */
static void be_shadow(pid_t child)
{
    int status = 0, code, number;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    number = WIFSIGNALED(status) ? WTERMSIG(status) : code > 128 ? code - 128 : 0;
    if (number) kill(getpid(), number);
    _exit(number ? 128 + number : code);
}

static void split_off(void)
{
    pid_t child = fork();

    if (child < 0) abort();
    if (child) be_shadow(child);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* The first process of a space has rights and duties of its own: the rank is the second. */
static void enter_pids(int rank)
{
    char own[8];

    if (!host_of("MDL_TEST_PIDS", rank, own, sizeof(own)) || strcmp(own, "1") != 0) return;
    if (unshare(CLONE_NEWPID) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0) {
        fprintf(stderr, "rank %d cannot have a PID namespace: %s\n", rank, strerror(errno));
        _exit(CANNOT_START);
    }
    split_off();
    split_off();
}

/* ---- starting ---- */

static void *thread_main(void *arg)
{
    struct member *m = arg;

    m->result = m->fn(m->w, m->rank, m->arg);
    __atomic_store_n(&m->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void be_rank(struct ranks_play *p, struct member m)
{
    int res;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing shall outlive a test that was killed itself */
    free(p->members);
    free(p);
    enter_host(m.rank);
    enter_pids(m.rank);
    res = m.fn(m.w, m.rank, m.arg);
    fflush(NULL);
    exit(res);
}

static void start(struct ranks_play *p, struct member *m)
{
    if (p->threads) {
        if (pthread_create(&m->thread, NULL, thread_main, m)) abort();
        return;
    }
    fflush(NULL);
    m->pid = fork();
    if (m->pid < 0) abort();
    if (m->pid == 0) be_rank(p, *m);
}

static struct ranks_play *play(int n, bool threads, ranks_fn fn, void *arg)
{
    struct ranks_play *p = malloc(sizeof(*p));

    if (!p) abort();
    *p = (struct ranks_play){.n = n, .threads = threads};
    p->w = mmap(NULL, sizeof(*p->w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p->members = calloc((size_t)n, sizeof(*p->members));
    if (p->w == MAP_FAILED || !p->members) abort();
    p->w->nranks = n;
    for (int r = 0; r < n; r++) {
        p->members[r] = (struct member){.w = p->w, .rank = r, .fn = fn, .arg = arg};
        start(p, &p->members[r]);
    }
    return p;
}

struct ranks_play *ranks_start(int n, ranks_fn fn, void *arg) { return play(n, false, fn, arg); }
pid_t ranks_pid(const struct ranks_play *p, int rank) { return p->members[rank].pid; }
struct ranks_world *ranks_world(const struct ranks_play *p) { return p->w; }

/* ---- ending ---- */

/* Has the member ended? */
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

int ranks_finish(struct ranks_play *p, int seconds, int *status)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    double deadline = now() + seconds * slack_now();
    int failed = 0;

    for (int r = 0; r < p->n; r++) {
        struct member *m = &p->members[r];
        while (!ended(m, p->threads) && now() < deadline) nanosleep(&pause, NULL);
        if (!ended(m, p->threads))
            give_up(m, p->threads);
        else if (p->threads)
            pthread_join(m->thread, NULL);
        if (status) status[r] = m->result;
        failed += m->result != 0;
    }
    free(p->members);
    munmap(p->w, sizeof(*p->w));
    free(p);
    return failed;
}

/* ---- one rank of several programs ---- */

static int run_alone(int rank, int n, ranks_fn fn, void *arg)
{
    int fd = open(getenv("MDL_TEST_WORLD"), O_RDWR | O_CLOEXEC), res;
    struct ranks_world *w;

    if (fd < 0 || ftruncate(fd, sizeof(*w)) < 0) {
        fprintf(stderr, "MDL_TEST_WORLD: %s\n", strerror(errno));
        return 1;
    }
    w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (w == MAP_FAILED) abort();
    close(fd);
    w->nranks = n; /* the same from everybody */
    res = fn(w, rank, arg);
    munmap(w, sizeof(*w));
    return res != 0;
}

int ranks_run(int n, bool threads, ranks_fn fn, void *arg, int seconds, int *status)
{
    const char *rank = getenv("MDL_TEST_RANK"), *size = getenv("MDL_TEST_SIZE");

    if (rank && size) return run_alone(atoi(rank), atoi(size), fn, arg);
    return ranks_finish(play(n, threads, fn, arg), seconds, status);
}

/* ---- inside a rank ---- */

/* Lets others have the processor: at first it may take no time, later it leaves the core to them. */
static void rest(int turn)
{
    const struct timespec nap = {.tv_nsec = 100000};

    if (turn < 100)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

void ranks_meet(struct ranks_world *w, int point)
{
    __atomic_add_fetch(&w->words[point], 1, __ATOMIC_ACQ_REL);
    for (int i = 0; __atomic_load_n(&w->words[point], __ATOMIC_ACQUIRE) < w->nranks; i += i < 100) rest(i);
}

medleyResult_t ranks_comm(struct ranks_world *w, int rank, medleyConfig_t *config, medleyComm_t *comm)
{
    if (rank == 0) {
        medleyResult_t res = medleyGetUniqueId(&w->id);
        __atomic_store_n(&w->id_ready, res == medleySuccess ? 1 : 2, __ATOMIC_RELEASE);
        if (res != medleySuccess) return res;
    }
    for (int i = 0; !__atomic_load_n(&w->id_ready, __ATOMIC_ACQUIRE); i += i < 100) rest(i);
    if (w->id_ready == 2) return medleySystemError;
    return medleyCommInitRankConfig(comm, w->nranks, w->id, rank, config);
}
