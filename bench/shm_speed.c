/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the shared-memory transport is beside what the machine gives: `make bench/shm_speed && bench/shm_speed`.
 *
 * First the processor time of a message, both ends in one thread: that does not depend on what else the machine does.
 * Then two forked ranks. Latency is half of a ping-pong turn; bandwidth is a stream of messages with a few outstanding.
 * Beside it, in the same run, a bare memcpy in one process and a bare process_vm_readv between the two: the floor of
 * what a copy costs. Of several short rounds the fastest counts, since others may use the machine. GB/s are 1e9 bytes.
 */
#include "config.h"
#include "tests/unit/shm_world.h"
#include "transports/shm.h"
#include <sys/uio.h>
#include <time.h>

extern const struct mdl_transport mdl_transport_shm;

enum { WINDOW = 4, ROUNDS = 5, ROUND_MS = 6 };

static const size_t sizes[] = {8,     64,    512,    2048,    4096,    8192,     16384,
                               32768, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
enum { NSIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct results {
    double memcpy_ns[NSIZES], readv_ns[NSIZES];
    double work_ns[2][NSIZES], copy_work_ns[NSIZES], readv_work_ns[NSIZES];
    double latency_ns[2][NSIZES], stream_ns[2][NSIZES]; /* with single copy, with slots; per message */
};
static struct results *results;

struct run {
    struct world_rank *rank;
    char *from, *to;
    struct mdl_request *reqs[WINDOW];
    int peer, path;
};

/* Sleeps, so that the ranks that wait leave the processors to the one that works. */
static void meet(struct world_rank *r)
{
    int mine = atomic_fetch_add(&r->world->shared->arrived, 1);
    while (atomic_load(&r->world->shared->arrived) < (mine / 2 + 1) * 2) usleep(100);
}

static void finish(struct run *b, struct mdl_request *req)
{
    int events = 0;
    for (int turn = 1; req->state == MDL_REQ_ACTIVE; turn++) {
        REQUIRE(mdl_transport_shm.progress(b->rank->ctx, &events) == medleySuccess);
        if (turn % 4096 == 0) sched_yield(); /* for machines that are busy */
    }
    REQUIRE(req->state == MDL_REQ_DONE);
}

static uint64_t pingpong(struct run *b, size_t len, int turns)
{
    uint64_t start = mdl_now_ns();
    for (int i = 0; i < turns; i++) {
        if (b->rank->rank == 0) world_send(b->rank, b->peer, 0, b->from, len, 0, b->reqs[0]);
        if (b->rank->rank == 0) finish(b, b->reqs[0]);
        world_recv(b->rank, b->peer, 0, b->to, len, 0, b->reqs[1]);
        finish(b, b->reqs[1]);
        if (b->rank->rank == 1) world_send(b->rank, b->peer, 0, b->from, len, 0, b->reqs[0]);
        if (b->rank->rank == 1) finish(b, b->reqs[0]);
    }
    return (mdl_now_ns() - start) / 2;
}

static uint64_t stream(struct run *b, size_t len, int messages)
{
    uint64_t start = mdl_now_ns();
    for (int i = 0; i < messages + WINDOW; i++) {
        struct mdl_request *req = b->reqs[i % WINDOW];
        if (i >= WINDOW) finish(b, req);
        if (i >= messages) continue;
        if (b->rank->rank == 0)
            world_send(b->rank, b->peer, 1, b->from, len, 0, req);
        else
            world_recv(b->rank, b->peer, 1, b->to, len, 0, req);
    }
    return mdl_now_ns() - start;
}

static uint64_t copy(struct run *b, size_t len, int times)
{
    uint64_t start = mdl_now_ns();
    for (int i = 0; i < times; i++) {
        memcpy(b->to, b->from, len);
        __asm__ volatile("" ::: "memory");
    }
    return mdl_now_ns() - start;
}

static uint64_t readv_once(struct run *b, size_t len, int times)
{
    struct iovec to = {b->to, len}, from = {(void *)(uintptr_t)atomic_load(&b->rank->world->shared->words[0]), len};
    uint64_t start = mdl_now_ns();
    for (int i = 0; i < times; i++)
        if (process_vm_readv(b->rank->world->shared->pids[0], &to, 1, &from, 1, 0) != (ssize_t)len) return 0;
    return mdl_now_ns() - start;
}

/* The fastest of some rounds, per operation; `alone`: only rank 1 works. */
static double measure(struct run *b, size_t len, uint64_t (*work)(struct run *, size_t, int), bool alone)
{
    _Atomic uint64_t *count = &b->rank->world->shared->words[1];
    double best = 0;
    for (int round = 0; round <= ROUNDS; round++) {
        meet(b->rank);
        int times = round == 0 ? 3 : (int)atomic_load(count);
        uint64_t ns = alone && b->rank->rank == 0 ? 0 : work(b, len, times);
        meet(b->rank);
        double each = (double)ns / times;
        if (round > 0 && (best == 0 || each < best)) best = each;
        if (round > 0 || b->rank->rank == 0) continue;
        double wanted = ROUND_MS * 1e6 / (each > 1 ? each : 1);
        atomic_store(count, wanted < 3 ? 3 : wanted > 20000 ? 20000 : (uint64_t)wanted);
    }
    return best;
}

/* ---- processor time, in one thread ---- */

static double cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void message(struct run *ends, size_t len, int times)
{
    int events = 0;
    for (int i = 0; i < times; i++) {
        world_recv(ends[1].rank, 0, 0, ends[1].to, len, 0, ends[1].reqs[0]);
        world_send(ends[0].rank, 1, 0, ends[0].from, len, 0, ends[0].reqs[0]);
        while (ends[0].reqs[0]->state == MDL_REQ_ACTIVE || ends[1].reqs[0]->state == MDL_REQ_ACTIVE)
            for (int e = 1; e >= 0; e--)
                REQUIRE(mdl_transport_shm.progress(ends[e].rank->ctx, &events) == medleySuccess);
    }
}

static void bare_copy(struct run *ends, size_t len, int times) { copy(&ends[0], len, times); }

static void bare_readv(struct run *ends, size_t len, int times)
{
    struct iovec to = {ends[0].to, len}, from = {ends[0].from, len};
    for (int i = 0; i < times; i++) REQUIRE(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)len);
}

static double work(struct run *ends, size_t len, void (*fn)(struct run *, size_t, int))
{
    double best = 0, each = 0;
    int times = 3;
    for (int round = 0; round <= ROUNDS; round++) {
        double start = cpu_ns();
        fn(ends, len, times);
        each = (cpu_ns() - start) / times;
        if (round > 0 && (best == 0 || each < best)) best = each;
        if (round == 0) times = each * 3 > 4e6 ? 3 : (int)(4e6 / (each + 1)) + 1;
    }
    return best;
}

static void run_work(int path)
{
    static struct world_shared shared;
    static struct world_rank ranks[2];
    struct world w = {.transport = &mdl_transport_shm, .n = 2, .shared = &shared, .serial = 1000};
    struct run ends[2];
    w.settings[0][0] = "MEDLEY_CMA";
    w.settings[0][1] = path == 0 ? "1" : "0";
    for (int i = 0; i < 2; i++) {
        world_rank_init(&ranks[i], &w, i);
        world_open(&ranks[i]);
    }
    for (int i = 0; i < 2; i++) {
        world_connect(&ranks[i]);
        ends[i] = (struct run){.rank = &ranks[i], .from = malloc(sizes[NSIZES - 1]), .to = malloc(sizes[NSIZES - 1])};
        ends[i].reqs[0] = world_request(&ranks[i]);
        memset(ends[i].from, 1, sizes[NSIZES - 1]);
        memset(ends[i].to, 1, sizes[NSIZES - 1]);
    }
    for (int i = 0; i < NSIZES; i++) {
        results->work_ns[path][i] = work(ends, sizes[i], message);
        if (path > 0) continue;
        results->copy_work_ns[i] = work(ends, sizes[i], bare_copy);
        results->readv_work_ns[i] = work(ends, sizes[i], bare_readv);
    }
    for (int i = 0; i < 2; i++) {
        mdl_transport_shm.close(ranks[i].ctx);
        free(ends[i].from);
        free(ends[i].to);
        free(ends[i].reqs[0]);
    }
}

/* ---- two processes ---- */

static void body(struct world_rank *r)
{
    struct run b = {.rank = r, .peer = 1 - r->rank, .path = r->config.cma ? 0 : 1};
    b.from = malloc(sizes[NSIZES - 1]);
    b.to = malloc(sizes[NSIZES - 1]);
    REQUIRE(b.from && b.to);
    memset(b.from, 1, sizes[NSIZES - 1]);
    memset(b.to, 2, sizes[NSIZES - 1]);
    for (int i = 0; i < WINDOW; i++) b.reqs[i] = world_request(r);
    if (r->rank == 0) atomic_store(&r->world->shared->words[0], (uintptr_t)b.from);
    for (int i = 0; i < NSIZES; i++) {
        double latency = measure(&b, sizes[i], pingpong, false), each = measure(&b, sizes[i], stream, false);
        double copied = b.path == 0 ? measure(&b, sizes[i], copy, true) : 0;
        double read = b.path == 0 ? measure(&b, sizes[i], readv_once, true) : 0;
        if (r->rank == 0) continue;
        results->latency_ns[b.path][i] = latency;
        results->stream_ns[b.path][i] = each;
        if (b.path > 0) continue;
        results->memcpy_ns[i] = copied;
        results->readv_ns[i] = read;
    }
    meet(r);
}

static double gbps(size_t i, double ns) { return ns > 0 ? (double)sizes[i] / ns : 0; }

int main(int argc, char **argv)
{
    bool both = argc < 2 || strcmp(argv[1], "--work") != 0;
    results = mmap(NULL, sizeof(*results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(results != MAP_FAILED);
    struct world w = {.transport = &mdl_transport_shm, .n = 2, .forked = true, .quick = true, .body = body};
    mdl_shm_home_hide(true); /* in one thread, but as if in two processes */
    for (int path = 0; path < 2; path++) run_work(path);
    printf("%10s | %43s\n", "", "processor time of a message, us");
    printf("%10s | %10s %10s %10s %10s\n", "bytes", "memcpy", "vm_readv", "cma", "slots");
    for (size_t i = 0; i < NSIZES; i++)
        printf("%10zu | %10.3f %10.3f %10.3f %10.3f\n", sizes[i], results->copy_work_ns[i] / 1e3,
               results->readv_work_ns[i] / 1e3, results->work_ns[0][i] / 1e3, results->work_ns[1][i] / 1e3);
    fflush(stdout);
    if (!both) return 0;
    for (int path = 0; path < 2; path++) {
        w.settings[0][0] = "MEDLEY_CMA";
        w.settings[0][1] = path == 0 ? "1" : "0";
        world_run(&w);
    }
    printf("%10s | %21s | %43s\n", "", "latency, us", "bandwidth, GB/s");
    printf("%10s | %10s %10s | %10s %10s %10s %10s\n", "bytes", "cma", "slots", "memcpy", "vm_readv", "cma", "slots");
    for (size_t i = 0; i < NSIZES; i++)
        printf("%10zu | %10.2f %10.2f | %10.2f %10.2f %10.2f %10.2f\n", sizes[i], results->latency_ns[0][i] / 1e3,
               results->latency_ns[1][i] / 1e3, gbps(i, results->memcpy_ns[i]), gbps(i, results->readv_ns[i]),
               gbps(i, results->stream_ns[0][i]), gbps(i, results->stream_ns[1][i]));
    return 0;
}
