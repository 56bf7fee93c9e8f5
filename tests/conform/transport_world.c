/* SPDX-License-Identifier: Apache-2.0 */
/* The frame: runs the ranks of a case as threads or processes, and gives them the means to meet, post and wait. */
#include "config.h"
#include "tests/coll/slack.h"
#include "tests/conform/transport.h"
#include "lib/base/clock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern const struct mdl_transport *const mdl_transports[];

enum { LIMIT_S = 30, SLEEP_MS = 20000, MAX_STRETCH = 4 };

static struct world *the_world; /* of this run: for check_failed */

uint64_t within_s(double seconds) { return (uint64_t)(seconds * slack_now() * 1e9); }

void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
    va_list args;
    fprintf(stderr, "  %s:%d: %s", file, line, cond);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    if (the_world) atomic_store(&the_world->failed, true);
    _exit(1);
}

/* Another rank has failed: its message is the one that counts. */
static void check_world(struct rank *r)
{
    if (atomic_load(&r->w->failed)) _exit(1);
}

/* ---- ranks ---- */

void rank_on_lost(void *engine, int rank, medleyResult_t code, const char *why)
{
    struct rank *r = engine;
    CHECK(code != medleySuccess && why && why[0], "peer_lost says %d", code);
    atomic_fetch_add(&r->w->lost[r->rank][rank], 1);
}

static int no_segment(uint64_t segment) { return -1; }

static void configure(struct rank *r)
{
    char text[256], *rest = NULL;
    CHECK(mdl_config_load(&r->cfg) == medleySuccess);
    snprintf(text, sizeof text, "%s", r->test->settings ? r->test->settings : "");
    for (char *s = strtok_r(text, " ", &rest); s; s = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(s, '=');
        CHECK(value != NULL, "%s", s);
        *value++ = '\0';
        CHECK(mdl_config_set(&r->cfg, s, value) == medleySuccess, "%s=%s", s, value);
    }
    r->cfg.dead_after = (int64_t)((double)r->cfg.dead_after * r->w->stretch);
}

void rank_open(struct rank *r)
{
    struct world *w = r->w;
    struct mdl_peer peers[MAX_RANKS];
    configure(r);
    struct mdl_transport_open args = {.size = sizeof args,
                                      .rank = r->rank,
                                      .nranks = w->nranks,
                                      .config = &r->cfg,
                                      .name = "conform",
                                      .abort_word = &r->abort_word,
                                      .segment_fd = no_segment,
                                      .peer_lost = rank_on_lost,
                                      .engine = r};
    memcpy(args.secret, w->secret, sizeof args.secret);
    CHECK(r->tr->open(&args, &r->ctx) == medleySuccess);
    w->address_len[r->rank] = MDL_ADDRESS_BYTES;
    CHECK(r->tr->address(r->ctx, w->address[r->rank], &w->address_len[r->rank]) == medleySuccess);
    CHECK(w->address_len[r->rank] <= MDL_ADDRESS_BYTES);
    barrier(r);
    for (int i = 0; i < w->nranks; i++)
        peers[i] = (struct mdl_peer){.rank = i, .address = w->address[i], .address_len = w->address_len[i]};
    uint64_t deadline = mdl_now_ns() + within_s(10);
    CHECK(r->tr->connect_all(r->ctx, peers, deadline, r->reach) == medleySuccess);
    barrier(r); /* nobody leaves before all have connected: the engine exchanges `reach` here */
    for (int i = 0; i < w->nranks; i++) CHECK(i == r->rank || (r->reach[i] & MDL_REACH_SEND), "rank %d", i);
    barrier(r); /* everyone has read the addresses: the next open may write them */
}

void rank_close(struct rank *r)
{
    r->tr->close(r->ctx);
    r->ctx = NULL;
}

struct meeting {
    unsigned generation;
};

static struct meeting arrive(struct rank *r)
{
    struct meeting m = {atomic_load(&r->w->generation)};
    if (atomic_fetch_add(&r->w->arrived, 1) + 1 == (unsigned)r->w->nranks) {
        atomic_store(&r->w->arrived, 0);
        atomic_fetch_add(&r->w->generation, 1);
    }
    return m;
}

static bool met(struct rank *r, const struct meeting *m)
{
    check_world(r);
    return atomic_load(&r->w->generation) != m->generation;
}

void barrier(struct rank *r)
{
    struct meeting m = arrive(r);
    while (!met(r, &m)) sched_yield();
}

void barrier_progress(struct rank *r)
{
    struct meeting m = arrive(r);
    while (!met(r, &m)) {
        CHECK(turn(r) == medleySuccess);
        sched_yield();
    }
}

void barrier_two(struct rank *r)
{
    unsigned until = (atomic_fetch_add(&r->w->two, 1) / 2 + 1) * 2;
    while (atomic_load(&r->w->two) < until) {
        check_world(r);
        CHECK(turn(r) == medleySuccess);
        sched_yield();
    }
}

struct mdl_request *request_new(const struct rank *r)
{
    struct mdl_request *req = calloc(1, r->tr->request_size);
    CHECK(req != NULL);
    return req;
}

medleyResult_t turn(struct rank *r)
{
    int events = 0;
    medleyResult_t rc = r->tr->progress(r->ctx, &events);
    CHECK(events >= 0);
    return rc;
}

void post_send(struct rank *r, int peer, uint32_t channel, const void *ptr, size_t len, uint64_t tag,
               struct mdl_request *req)
{
    struct mdl_message m = {.ptr = (void *)(uintptr_t)ptr, .len = len, .tag = tag, .channel = channel};
    medleyResult_t rc;
    while ((rc = r->tr->send(r->ctx, peer, &m, req)) == medleyInProgress) CHECK(turn(r) == medleySuccess);
    CHECK(rc == medleySuccess, "send gave %d", rc);
    CHECK(req->state != MDL_REQ_IDLE);
}

void post_recv(struct rank *r, int peer, uint32_t channel, void *ptr, size_t len, uint64_t tag, struct mdl_request *req)
{
    struct mdl_message m = {.ptr = ptr, .len = len, .tag = tag, .channel = channel};
    medleyResult_t rc;
    while ((rc = r->tr->recv(r->ctx, peer, &m, req)) == medleyInProgress) CHECK(turn(r) == medleySuccess);
    CHECK(rc == medleySuccess, "recv gave %d", rc);
    CHECK(req->state != MDL_REQ_IDLE);
}

/* Sleeps until the transport has something to do. The watchdog of a wake-up that was lost is the time that it takes. */
static void sleep_once(struct rank *r)
{
    int fd = -2;
    medleyResult_t rc = r->tr->arm(r->ctx, &fd);
    CHECK(rc == medleySuccess || rc == medleyInProgress, "arm gave %d", rc);
    if (rc == medleyInProgress) return;
    CHECK(fd >= 0, "nothing to wait for, and a request is active");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, SLEEP_MS);
    CHECK(n > 0 || errno == EINTR, "slept %d ms: a wake-up was lost", SLEEP_MS);
    r->tr->disarm(r->ctx);
}

static void rest(struct rank *r, int *events)
{
    check_world(r);
    medleyResult_t rc = r->tr->progress(r->ctx, events);
    CHECK(rc == medleySuccess, "progress gave %d", rc);
    if (*events) return;
    if (r->sleeps)
        sleep_once(r);
    else
        sched_yield();
}

void wait_end(struct rank *r, struct mdl_request *req)
{
    while (req->state == MDL_REQ_ACTIVE) {
        int events = 0;
        rest(r, &events);
    }
}

void wait_done(struct rank *r, struct mdl_request *req)
{
    wait_end(r, req);
    CHECK(req->state == MDL_REQ_DONE, "state %d, result %d", req->state, req->result);
}

void wait_word(struct rank *r, int word, unsigned long value)
{
    while (atomic_load(&r->w->words[word]) != value) {
        check_world(r);
        CHECK(turn(r) == medleySuccess);
        sched_yield();
    }
}

/* ---- bytes ---- */

static uint64_t next_word(uint64_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x;
}

void fill_bytes(uint8_t *p, size_t len, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = next_word(&x);
        memcpy(p + i, &v, len - i < 8 ? len - i : 8);
    }
}

void check_bytes(const uint8_t *p, size_t len, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = next_word(&x);
        CHECK(memcmp(p + i, &v, len - i < 8 ? len - i : 8) == 0, "at byte %zu of %zu", i, len);
    }
}

/* ---- runs ---- */

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    rank_open(r);
    r->test->fn(r);
    if (r->ctx) rank_close(r);
    return NULL;
}

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return -1;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void show_fds(void)
{
    char path[64], text[256];
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, text, sizeof text - 1);
        if (n > 0) fprintf(stderr, "  descriptor %d is %.*s\n", fd, (int)n, text);
    }
}

static void init_ranks(struct rank *ranks, struct world *w, const struct mdl_transport *tr, const struct test_case *c,
                       bool sleeps)
{
    for (int i = 0; i < w->nranks; i++)
        ranks[i] = (struct rank){.w = w, .tr = tr, .test = c, .rank = i, .sleeps = sleeps};
}

static int run_threads(struct rank *ranks, int n)
{
    pthread_t threads[MAX_RANKS];
    int before = count_fds();
    for (int i = 0; i < n; i++) CHECK(pthread_create(&threads[i], NULL, rank_main, &ranks[i]) == 0);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    /* The monitor may hold a socket for some milliseconds until the peer has everything. */
    for (uint64_t start = mdl_now_ns(); count_fds() != before && mdl_now_ns() - start < within_s(5);) usleep(1000);
    if (count_fds() != before) show_fds();
    CHECK(count_fds() == before, "%d descriptors before, %d after", before, count_fds());
    return 0;
}

/* CONFORM_NETNS names one network namespace per rank: each process moves into its own. */
static void enter_netns(int rank)
{
    char list[256], path[300], *rest = NULL;
    const char *names = getenv("CONFORM_NETNS");
    if (!names) return;
    snprintf(list, sizeof list, "%s", names);
    char *name = strtok_r(list, " ", &rest);
    for (int i = 0; i < rank && name; i++) name = strtok_r(NULL, " ", &rest);
    CHECK(name != NULL, "CONFORM_NETNS has no name for rank %d", rank);
    snprintf(path, sizeof path, "/var/run/netns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, "%s", path);
    close(fd);
}

/* A rank that kills itself on purpose says so in the last word. */
static int run_processes(struct rank *ranks, int n)
{
    pid_t pids[MAX_RANKS];
    int bad = 0;
    for (int i = 0; i < n; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0) {
            enter_netns(i);
            rank_main(&ranks[i]);
            exit(0);
        }
    }
    for (int i = 0; i < n; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        bool meant = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
                     atomic_load(&the_world->words[WORDS - 1]) == (unsigned long)i + 1;
        bad |= status != 0 && !meant;
    }
    return bad;
}

static bool wait_child(pid_t pid, int limit_s)
{
    uint64_t start = mdl_now_ns();
    int status;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        uint64_t past = mdl_now_ns() - start, limit = (uint64_t)limit_s * MDL_NS_PER_S;
        if (past > limit && past > within_s(limit_s)) { /* the load may have come since */
            fprintf(stderr, "  still running after %.0f s\n", (double)past / 1e9);
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    kill(-pid, SIGKILL); /* what a failed run left behind */
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool run_one(const struct mdl_transport *tr, const struct test_case *c, bool processes, bool sleeps)
{
    struct world *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w == MAP_FAILED) return false;
    w->nranks = c->nranks;
    w->processes = processes;
    w->stretch = slack_now() < MAX_STRETCH ? slack_now() : MAX_STRETCH;
    memset(w->secret, 0x5c, sizeof w->secret);
    the_world = w;
    pid_t pid = fork();
    if (pid == 0) {
        struct rank ranks[MAX_RANKS];
        setpgid(0, 0);
        init_ranks(ranks, w, tr, c, sleeps);
        exit(processes ? run_processes(ranks, c->nranks) : run_threads(ranks, c->nranks));
    }
    setpgid(pid, pid);
    bool good = pid > 0 && wait_child(pid, c->limit_s ? c->limit_s : LIMIT_S) && !atomic_load(&w->failed);
    munmap(w, sizeof *w);
    return good;
}

static const struct mdl_transport *find_transport(const char *name)
{
    for (int i = 0; mdl_transports[i]; i++)
        if (strcmp(mdl_transports[i]->name, name) == 0) return mdl_transports[i];
    return NULL;
}

static bool chosen(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0) return true;
    return argc < 2;
}

/* Processes wait in a loop, threads asleep, so that both ways meet every case; or both in all if it says so. */
static int run_modes(const struct mdl_transport *tr, const struct test_case *c)
{
    int failed = 0;
    for (int mode = THREADS; mode <= PROCESSES; mode++) {
        if (!(c->modes & mode)) continue;
        if (mode == THREADS && getenv("CONFORM_NETNS")) continue;
        uint64_t start = mdl_now_ns();
        bool good = run_one(tr, c, mode == PROCESSES, mode == THREADS);
        printf("%s %s (%d %s) %.2f s\n", good ? "ok  " : "FAIL", c->name, c->nranks,
               mode == PROCESSES ? "processes" : "threads", (double)(mdl_now_ns() - start) / 1e9);
        fflush(stdout);
        failed += !good;
    }
    return failed;
}

int run_cases(const char *transport, const struct test_case *cases, size_t count, int argc, char **argv)
{
    const struct mdl_transport *tr = find_transport(transport);
    int failed = 0;
    setenv("MEDLEY_DEBUG", "NONE", 0);
    if (!tr) {
        fprintf(stderr, "there is no transport %s\n", transport);
        return 1;
    }
    for (size_t i = 0; i < count; i++)
        if (chosen(cases[i].name, argc, argv)) failed += run_modes(tr, &cases[i]);
    printf("%s: %d failed\n", transport, failed);
    return failed != 0;
}
