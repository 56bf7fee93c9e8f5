/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rank of one library in bench/compare. The same driver is linked with each library's backend, so that all are
 * timed by the same lines.
 *
 * The rank connects to the controller's socket (COMPARE_SOCKET: a path, which reaches through network namespaces) and
 * does what it is told, a line for each command. Between commands it sleeps in read(): whoever is not measured uses no
 * processor. A job that takes longer than COMPARE_LIMIT seconds ends the process, so that a rank whose peers have died
 * does not spin on.
 *
 *   share TEXT                            -> shared TEXT        (asked by the rank: see share())
 *   ready RANK NRANKS VERSION                                   (said by the rank once its library is there)
 *   variants COLLECTIVE TYPE              -> variants A,B,C
 *   check COLLECTIVE TYPE BYTES KIND V    -> right | wrong WHY  (makes the buffers too)
 *   run COLLECTIVE TYPE BYTES KIND V W N  -> time SECONDS FLAG  (of N calls, after W that are not timed; see flag())
 *   quit
 * A rank that cannot go on says "error WHY".
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "worker.h"

enum { LINE = 1024, PAGE = 4096 };

static const char *const collectives[COLLECTIVES] = {"allreduce", "allgather", "reducescatter", "broadcast",
                                                     "alltoall",  "gather",    "scatter",       "reduce"};
static const char *const type_names[TYPES] = {"f32", "f64", "i8", "i32", "f16", "bf16", "f8e4m3", "f8e5m2"};
static const char *const kinds[KINDS] = {"ordinary", "registered"};

static FILE *from_controller;
static int controller = -1;
static char why[LINE - 16];
static struct world world;
static struct job jobs[KINDS]; /* with the buffers that were made for them */

void complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    for (char *c = why; *c; c++) {
        if (*c == '\n') *c = ' ';
    }
}

static void say(const char *word, const char *text)
{
    char line[LINE];
    int n = snprintf(line, sizeof(line), "%s %s\n", word, text);

    if (send(controller, line, (size_t)n, MSG_NOSIGNAL) != n) exit(1);
}

static void give_up(void)
{
    say("error", why);
    exit(1);
}

static bool hear(char *line)
{
    if (!fgets(line, LINE, from_controller)) return false;
    line[strcspn(line, "\n")] = 0;
    return true;
}

bool share(const struct world *w, char *text, size_t size)
{
    char line[LINE];

    say("share", w->rank == 0 ? text : "");
    if (!hear(line) || strncmp(line, "shared ", 7) || strlen(line + 7) >= size) {
        complain("the controller does not share");
        return false;
    }
    strcpy(text, line + 7);
    return true;
}

static void connect_controller(void)
{
    const char *path = getenv("COMPARE_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (!path || strlen(path) >= sizeof(address.sun_path)) {
        fprintf(stderr, "COMPARE_SOCKET is not set: this program is started by bench/compare\n");
        exit(2);
    }
    strcpy(address.sun_path, path);
    controller = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (controller < 0 || connect(controller, (struct sockaddr *)&address, sizeof(address)) ||
        !(from_controller = fdopen(controller, "r"))) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
}

static int number(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text ? atoi(text) : otherwise;
}

/* Before the library starts threads: they shall stay with their rank. COMPARE_BIND: a core for each rank. */
static void bind_rank(int rank)
{
    const char *cores = getenv("COMPARE_BIND");
    cpu_set_t set;

    if (!cores || rank < 0) return;
    for (int i = 0; i < rank && cores; i++) cores = strchr(cores, ',') ? strchr(cores, ',') + 1 : NULL;
    CPU_ZERO(&set);
    if (cores) CPU_SET(atoi(cores), &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        complain("core of rank %d: %s", rank, strerror(errno));
        give_up();
    }
}

static int launched_rank(void)
{
    return number("COMPARE_RANK", number("OMPI_COMM_WORLD_RANK", number("PMI_RANK", -1)));
}

static void *make_buffer(enum kind kind, size_t bytes)
{
    void *buffer = NULL;

    if (bytes < PAGE) bytes = PAGE;
    if (kind == REGISTERED)
        buffer = backend.allocate ? backend.allocate(bytes) : NULL;
    else if (posix_memalign(&buffer, PAGE, bytes))
        buffer = NULL;
    if (!buffer) {
        complain("no buffer of %zu bytes", bytes);
        give_up();
    }
    memset(buffer, 0, bytes);
    return buffer;
}

static void drop_buffers(struct job *job)
{
    void (*release)(void *) = job->kind == REGISTERED ? backend.release : free;

    if (job->send && job->send != job->recv) release(job->send);
    if (job->recv) release(job->recv);
    job->send = job->recv = NULL;
}

static void make_buffers(struct job *job)
{
    size_t size = type_size(job->type);

    job->recv = make_buffer(job->kind, recv_elements(&world, job) * size);
    job->send = job->collective == BROADCAST ? job->recv : make_buffer(job->kind, send_elements(&world, job) * size);
}

static int find(const char *word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        if (!strcmp(word, names[i])) return i;
    }
    complain("unknown: %s", word);
    give_up();
    return -1;
}

/* The job that a command describes; its last words are left in *rest. */
static struct job parse(const char *line, int *rest)
{
    char collective[32], type[32], kind[32];
    struct job job = {.bytes = 0};

    if (sscanf(line, "%*s %31s %31s %zu %31s %d%n", collective, type, &job.bytes, kind, &job.variant, rest) != 5) {
        complain("no such command: %.80s", line);
        give_up();
    }
    job.collective = (enum collective)find(collective, collectives, COLLECTIVES);
    job.type = (enum type)find(type, type_names, TYPES);
    job.kind = (enum kind)find(kind, kinds, KINDS);
    job.count = job.bytes / type_size(job.type);
    if (job.collective != ALLREDUCE && job.collective != BROADCAST && job.collective != REDUCE)
        job.count /= (size_t)world.nranks;
    return job;
}

static void do_variants(const char *line)
{
    char collective[32], type[32];

    if (sscanf(line, "%*s %31s %31s", collective, type) != 2) give_up();
    say("variants", backend.variants((enum collective)find(collective, collectives, COLLECTIVES),
                                     (enum type)find(type, type_names, TYPES)));
}

static void do_check(const char *line)
{
    int rest;
    struct job job = parse(line, &rest), *mine = &jobs[job.kind];
    bool same = mine->recv && mine->collective == job.collective && mine->type == job.type && mine->bytes == job.bytes;

    if (same) {
        job.send = mine->send;
        job.recv = mine->recv;
    } else {
        drop_buffers(mine);
        make_buffers(&job);
    }
    *mine = job;
    pattern_fill(&world, &job);
    if ((backend.prepare && !backend.prepare(&job)) || !backend.barrier() || !backend.call(&job)) give_up();
    if (backend.unchecked || pattern_check(&world, &job))
        say("right", "");
    else
        say("wrong", why);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* How long a word takes from the core of rank 0 to that of rank 1, in us; the host of a virtual machine moves its
 * cores, and they share a cache or do not. Through a file (COMPARE_FLAG, at least a page of zeros), which reaches
 * through namespaces. 0: not asked for, or another rank. */
static double flag(void)
{
    static _Atomic unsigned *word;
    enum { TURNS = 200 };
    const char *path = getenv("COMPARE_FLAG");
    double start;

    if (!path || world.rank > 1 || world.nranks < 2) return 0;
    if (!word) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        void *page = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd >= 0) close(fd);
        if (page == MAP_FAILED) {
            complain("%s: %s", path, strerror(errno));
            give_up();
        }
        word = page;
    }
    start = now();
    for (unsigned i = 0; i < TURNS; i++) { /* ends where it began, for the next library */
        unsigned turn = 2 * i + (unsigned)world.rank;
        while (*word != turn) continue;
        *word = turn + 1 == 2 * TURNS ? 0 : turn + 1;
    }
    return (now() - start) / TURNS / 2 * 1e6;
}

static bool repeat(const struct job *job, int n)
{
    for (int i = 0; i < n; i++) {
        if (!backend.call(job)) return false;
    }
    return true;
}

/* No rank answers before all are through: the controller, woken by the first, would take a core from the last. */
static void do_run(const char *line)
{
    int rest, warmups, n;
    struct job job = parse(line, &rest);
    struct job *mine = &jobs[job.kind];
    double start, seconds, before, after;
    char text[64];

    if (sscanf(line + rest, "%d %d", &warmups, &n) != 2 || !mine->recv || mine->collective != job.collective ||
        mine->bytes != job.bytes) {
        complain("nothing was made ready for: %.80s", line);
        give_up();
    }
    if (mine->variant != job.variant) {
        mine->variant = job.variant;
        if (backend.prepare && !backend.prepare(mine)) give_up();
    }
    before = flag();
    if (!backend.barrier() || !repeat(mine, warmups) || !backend.barrier()) give_up();
    start = now();
    if (!repeat(mine, n)) give_up();
    seconds = now() - start;
    if (!backend.barrier()) give_up();
    after = flag();
    snprintf(text, sizeof(text), "%.9f %.3f", seconds, after > before ? after : before);
    say("time", text);
}

static void obey(void)
{
    char line[LINE];
    unsigned limit = (unsigned)number("COMPARE_LIMIT", 60);

    for (;;) {
        alarm(0);
        if (!hear(line) || !strcmp(line, "quit")) return;
        alarm(limit);
        if (!strncmp(line, "variants ", 9))
            do_variants(line);
        else if (!strncmp(line, "check ", 6))
            do_check(line);
        else
            do_run(line);
    }
}

int main(void)
{
    char version[256], text[512];

    connect_controller();
    alarm((unsigned)number("COMPARE_LIMIT", 60));
    bind_rank(launched_rank());
    world.rank = number("COMPARE_RANK", 0);
    world.nranks = number("COMPARE_NRANKS", 0);
    if (!backend.open(&world)) give_up();
    backend.version(version, sizeof(version));
    snprintf(text, sizeof(text), "%d %d %s", world.rank, world.nranks, version);
    say("ready", text);
    obey();
    alarm(10); /* some libraries do not end when their peers have died */
    for (int k = 0; k < KINDS; k++) {
        jobs[k].kind = (enum kind)k;
        drop_buffers(&jobs[k]);
    }
    backend.close();
    return 0;
}
