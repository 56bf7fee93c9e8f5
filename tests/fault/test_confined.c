/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole library where the system refuses things: system calls by a seccomp filter, memory by a small or missing
 * /dev/shm and $TMPDIR, rights by user ids, resources by limits.
 *
 * Each scene confines a process, which then starts the ranks. They look at which way the links really took, run
 * collectives of every kind against the reference, and ask with MEDLEY_REQUIRE for what is refused, which must be an
 * error that says so. Where too little is left to work at all, an error is what must come, and nothing else.
 */
#include "config.h"

#include "lib/api/handle.h"
#include "tests/coll/ranks.h"
#include "tests/coll/reference.h"
#include "tests/fault/scene.h"
#include "tests/unit/deny.h"

#include <grp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

enum { N = 3, CASES = 39, LARGEST = 150000, WATCHDOG_S = 60, SKIPPED = 77, NOBODY = 65534 };

enum way { MAPPED = 1, SINGLE_COPY = 2, SHM = 4 }; /* of all links among the ranks */

struct confinement {
    int ways;                  /* enum way, all of them */
    const char *refused;       /* MEDLEY_REQUIRE that must fail; NULL: none */
    struct deny calls[8];      /* up to the first of call 0 */
    bool nobody, dumpable;     /* as user nobody; readable for others of this user */
    int shm;                   /* /dev/shm: 0 as it is, 1 of 1 MiB, 2 read-only */
    const char *tmp;           /* $TMPDIR; NULL: as it is */
    int resource;              /* with limit */
    rlim_t limit;              /* 0: none, but for resources that may be 0: NONE */
    bool fails;                /* no communicator, but an error */
    bool threads;              /* the ranks are threads */
    bool plain;                /* nothing from medleyMemAlloc, for which there is no room */
    bool bare;                 /* a sanitizer itself could not work */
    const char *algo, *memory; /* MEDLEY_ALGO, MEDLEY_MEMORY_BUDGET */
};
#define NONE ((rlim_t)-2)

/* ---- confining this process, before its first thread ---- */

static int cannot(const char *what)
{
    printf("skipped: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    return SKIPPED;
}

static int confine_shm(int kind)
{
    if (unshare(CLONE_NEWNS) < 0) return cannot("no mount namespace of our own");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return cannot("mounts cannot be made private");
    if (mount("tmpfs", "/dev/shm", "tmpfs", kind == 2 ? MS_RDONLY : 0, kind == 1 ? "size=1m,mode=1777" : "") < 0)
        return cannot("nothing can be mounted on /dev/shm");
    return 0;
}

/* Readable means by others of the same user: a process that changes its ids loses that. */
static int become_nobody(bool readable)
{
    if (geteuid() == 0 &&
        (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0))
        return cannot("ids cannot be changed");
    if (prctl(PR_SET_DUMPABLE, readable ? 1 : 0) < 0) return cannot("PR_SET_DUMPABLE");
    return 0;
}

static int confine(const struct confinement *c)
{
    struct rlimit limit = {.rlim_cur = c->limit == NONE ? 0 : c->limit};
    size_t n = 0;
    int res = 0;

    if (c->shm) res = confine_shm(c->shm);
    if (res == 0 && c->nobody) res = become_nobody(c->dumpable);
    if (res) return res;
    if (c->tmp) setenv("TMPDIR", c->tmp, 1);
    if (c->algo) setenv("MEDLEY_ALGO", c->algo, 1);
    if (c->memory) setenv("MEDLEY_MEMORY_BUDGET", c->memory, 1);
    if (c->limit && c->resource != RLIMIT_NPROC) { /* that one would keep the ranks from being started */
        limit.rlim_max = limit.rlim_cur;
        if (setrlimit((__rlimit_resource_t)c->resource, &limit) < 0) return cannot("setrlimit");
    }
    while (n < sizeof(c->calls) / sizeof(c->calls[0]) && c->calls[n].call) n++;
    if (n && !deny_calls(c->calls, n)) return SKIPPED;
    return 0;
}

/* ---- ranks ---- */

static int ways_of(const struct mdl_comm *c, int peer)
{
    const struct mdl_transport_use *t = &c->transport[c->via[peer]];
    int ways = strcmp(t->ops->name, "shm") == 0 ? SHM : 0;

    if (ways && t->reach[peer] & MDL_REACH_GET) ways |= SINGLE_COPY;
    if (ways && t->reach[peer] & MDL_REACH_MAP && c->use_board) ways |= MAPPED;
    return ways;
}

static int check_ways(int rank, medleyComm_t comm, int want)
{
    for (int peer = 0; peer < N; peer++) {
        int ways = peer == rank ? want : ways_of(comm->impl, peer);
        if (ways == want) continue;
        fprintf(stderr, "rank %d to %d: mapped %d, single copy %d, shm %d; expected were %d, %d, %d\n", rank, peer,
                !!(ways & MAPPED), !!(ways & SINGLE_COPY), !!(ways & SHM), !!(want & MAPPED), !!(want & SINGLE_COPY),
                !!(want & SHM));
        return 1;
    }
    return 0;
}

static int run_cases(int rank, medleyComm_t comm, bool allocates)
{
    static const size_t counts[] = {1, 1000, 20000, LARGEST};
    unsigned random = 7;

    for (int i = 0; i < CASES; i++) {
        struct coll_case c = {.seed = scene_random(&random)};
        unsigned long long hash = 0;
        c.coll = (medleyColl_t)(i % (medleyCollAlltoAllV + 1));
        c.dtype = i % 2 ? medleyFloat32 : medleyInt64;
        c.op = i % 4 ? medleySum : medleyMax;
        c.count = counts[(i + i / 13) % 4];
        c.root = i % N;
        c.in_place = i % 3 == 0;
        c.mem_alloc = allocates && i % 2;
        if (coll_case_run(&c, comm, rank, N, NULL, &hash)) return 1;
    }
    return 0;
}

/* Errors are allowed to be errors only: in words, and without a communicator. */
static int check_failure(int rank, medleyComm_t comm, medleyResult_t res)
{
    CHECK(res != medleySuccess && comm == NULL);
    CHECK(rank > 0 || medleyGetLastError(NULL)[0] != 0); /* the others may have had no id to come with */
    return 0;
}

static int confined_rank(struct ranks_world *w, int rank, void *arg)
{
    const struct confinement *c = arg;
    medleyComm_t comm = NULL;
    struct rlimit few = {c->limit, c->limit};
    medleyResult_t res;

    if (c->resource == RLIMIT_NPROC && c->limit) CHECK(setrlimit(RLIMIT_NPROC, &few) == 0);
    res = ranks_comm(w, rank, NULL, &comm);
    if (c->fails) return check_failure(rank, comm, res);
    OK(res);
    if (check_ways(rank, comm, c->ways) || run_cases(rank, comm, !c->plain)) return 1;
    OK(medleyCommDestroy(comm));
    return 0;
}

/* What is asked for is not there. */
static int requiring_rank(struct ranks_world *w, int rank, void *arg)
{
    const struct confinement *c = arg;
    medleyComm_t comm = NULL;
    medleyResult_t res;

    setenv("MEDLEY_REQUIRE", c->refused, 1);
    res = ranks_comm(w, rank, NULL, &comm);
    if (check_failure(rank, comm, res)) return 1;
    CHECK(strstr(medleyGetLastError(NULL), "MEDLEY_REQUIRE") || strstr(medleyGetLastError(NULL), c->refused));
    return 0;
}

static int confined_main(struct ranks_world *w, int rank, void *arg)
{
    const struct confinement *c = arg;
    int status[N], res = confine(c);

    if (res) return res;
    if (ranks_run(N, c->threads, confined_rank, arg, WATCHDOG_S, status)) {
        fprintf(stderr, "the ranks ended with %d, %d, %d\n", status[0], status[1], status[2]);
        return 1;
    }
    if (c->refused && ranks_finish(ranks_start(N, requiring_rank, arg), WATCHDOG_S, NULL)) return 1;
    return 0;
}

static int confined_scene(const struct scene *s, unsigned seed)
{
    int status = 0;

    if (((const struct confinement *)s->arg)->bare && scene_sanitized()) {
        printf("skipped: a sanitizer cannot work in this confinement\n");
        return 0;
    }
    if (ranks_finish(ranks_start(1, confined_main, (void *)(uintptr_t)s->arg), 2 * WATCHDOG_S, &status) == 0) return 0;
    return status == SKIPPED ? 0 : 1;
}

/* ---- address space ---- */

/* Everything goes or an error comes: with this much more address space than the process has at its start. */
static int cramped_main(struct ranks_world *w, int rank, void *arg)
{
    static int in[2][LARGEST], out[2][LARGEST];
    struct rlimit limit;
    medleyComm_t comms[2], comm = NULL;
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    rank = 0;
    CHECK(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + *(const rlim_t *)arg;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    if (medleyCommInitAll(comms, 2, NULL) != medleySuccess) {
        CHECK(medleyGetLastError(NULL)[0] != 0);
        return 2;
    }
    for (int i = 0; i < LARGEST; i++) in[0][i] = in[1][i] = i;
    OK(medleyGroupStart());
    for (int r = 0; r < 2; r++) OK(medleyAllReduce(in[r], out[r], LARGEST, medleyInt32, medleySum, comms[r], NULL));
    if (medleyGroupEnd() != medleySuccess) {
        CHECK(medleyGetLastError(comms[0])[0] || medleyGetLastError(comms[1])[0]);
        return 2;
    }
    for (int i = 0; i < LARGEST; i++) CHECK(out[0][i] == 2 * i && out[1][i] == 2 * i);
    for (int r = 0; r < 2; r++) OK(medleyCommDestroy(comms[r]));
    return 0;
}

static int cramped_scene(const struct scene *s, unsigned seed)
{
    static const int mib[] = {0, 1, 4, 8, 9, 10, 16, 20, 30, 50, 70, 90, 130, 160, 250, 400, 1000};
    bool worked = false, failed = false;

    if (scene_sanitized()) {
        printf("skipped: sanitizers need more address space than any limit\n");
        return 0;
    }
    setenv("MEDLEY_INIT_TIMEOUT", "2s", 1); /* a rank that has failed does not come */
    for (size_t i = 0; i < sizeof(mib) / sizeof(mib[0]); i++) {
        rlim_t more = (rlim_t)mib[i] << 20;
        int status = 0;
        ranks_finish(ranks_start(1, cramped_main, &more), WATCHDOG_S, &status);
        worked |= status == 0;
        failed |= status == 2;
        if (status == 0 || status == 2) continue;
        fprintf(stderr, "with %d MiB of address space it ended with %d\n", mib[i], status);
        unsetenv("MEDLEY_INIT_TIMEOUT");
        return 1;
    }
    unsetenv("MEDLEY_INIT_TIMEOUT");
    if (!worked || !failed) fprintf(stderr, "worked: %d, failed: %d; both were expected\n", worked, failed);
    return !worked || !failed;
}

/* ---- scenes ---- */

#define ALL_WAYS (MAPPED | SINGLE_COPY | SHM)
#define READV(e)                                                                                                       \
    {                                                                                                                  \
        .call = SYS_process_vm_readv, .err = (e)                                                                       \
    }
#define PIDFD(e)                                                                                                       \
    {.call = SYS_pidfd_open, .err = (e)}, { .call = SYS_pidfd_getfd, .err = (e) }
#define MEMFD(e)                                                                                                       \
    {                                                                                                                  \
        .call = SYS_memfd_create, .err = (e)                                                                           \
    }

static const struct confinement
    c_free = {.ways = ALL_WAYS},
    c_readv_eperm = {.ways = MAPPED | SHM, .refused = "cma", .calls = {READV(EPERM)}},
    c_readv_enosys = {.ways = MAPPED | SHM, .refused = "cma", .calls = {READV(ENOSYS)}},
    c_pidfd_eperm = {.ways = ALL_WAYS, .calls = {PIDFD(EPERM)}},
    c_pidfd_enosys = {.ways = ALL_WAYS, .calls = {PIDFD(ENOSYS)}},
    c_memfd_eperm = {.ways = ALL_WAYS, .calls = {MEMFD(EPERM)}},
    c_memfd_enosys = {.ways = ALL_WAYS, .calls = {MEMFD(ENOSYS)}},
    c_all_eperm = {.ways = MAPPED | SHM, .refused = "cma", .calls = {READV(EPERM), PIDFD(EPERM), MEMFD(EPERM)}},
    c_all_enosys = {.ways = MAPPED | SHM, .refused = "cma", .calls = {READV(ENOSYS), PIDFD(ENOSYS), MEMFD(ENOSYS)}},
    c_affinity = {.bare = true,
                  .ways = ALL_WAYS,
                  .calls = {{.call = SYS_sched_setaffinity, .err = EPERM},
                            {.call = SYS_sched_getaffinity, .err = EPERM}}},
    c_eventfd = {.fails = true, .calls = {{.call = SYS_eventfd2, .err = EPERM}}},
    c_epoll = {.fails = true, .calls = {{.call = SYS_epoll_create1, .err = ENOSYS}}},
    c_nobody = {.ways = ALL_WAYS, .nobody = true, .dumpable = true},
    c_unreadable = {.ways = MAPPED | SHM, .refused = "cma", .nobody = true}, c_small_shm = {.ways = ALL_WAYS, .shm = 1},
    c_no_shm = {.ways = ALL_WAYS, .shm = 2}, c_small_shm_memfd = {.ways = ALL_WAYS, .shm = 1, .calls = {MEMFD(EPERM)}},
    c_no_shm_memfd = {.ways = ALL_WAYS, .shm = 2, .calls = {MEMFD(EPERM)}},
    c_nowhere = {.ways = 0, .refused = "map", .shm = 2, .tmp = "/proc/self", .calls = {MEMFD(EPERM)}},
    c_nowhere_threads = {.ways = 0, .threads = true, .shm = 2, .tmp = "/proc/self", .calls = {MEMFD(EPERM)}},
    c_nothing = {.ways = 0, .refused = "shm", .shm = 2, .tmp = "/proc/self", .calls = {MEMFD(EPERM), READV(EPERM)}},
    c_only_small = {.plain = true,
                    .ways = SINGLE_COPY | SHM,
                    .refused = "map",
                    .shm = 1,
                    .tmp = "/proc/self",
                    .calls = {MEMFD(EPERM)}},
    c_tmp = {.ways = ALL_WAYS, .tmp = "/proc/self"},
    c_files = {.ways = ALL_WAYS, .resource = RLIMIT_NOFILE, .limit = 64},
    c_memlock = {.ways = ALL_WAYS, .resource = RLIMIT_MEMLOCK, .limit = NONE},
    c_fsize = {.ways = 0, .refused = "shm", .resource = RLIMIT_FSIZE, .limit = 1},
    c_threads = {.bare = true, .fails = true, .nobody = true, .resource = RLIMIT_NPROC, .limit = 1};

int main(int argc, char **argv)
{
    static const struct scene scenes[] = {
        {"free", confined_scene, 1, &c_free},
        {"readv_eperm", confined_scene, 1, &c_readv_eperm},
        {"readv_enosys", confined_scene, 1, &c_readv_enosys},
        {"pidfd_eperm", confined_scene, 1, &c_pidfd_eperm},
        {"pidfd_enosys", confined_scene, 1, &c_pidfd_enosys},
        {"memfd_eperm", confined_scene, 1, &c_memfd_eperm},
        {"memfd_enosys", confined_scene, 1, &c_memfd_enosys},
        {"all_eperm", confined_scene, 1, &c_all_eperm},
        {"all_enosys", confined_scene, 1, &c_all_enosys},
        {"affinity", confined_scene, 1, &c_affinity},
        {"eventfd", confined_scene, 1, &c_eventfd},
        {"epoll", confined_scene, 1, &c_epoll},
        {"nobody", confined_scene, 1, &c_nobody},
        {"unreadable", confined_scene, 1, &c_unreadable},
        {"small_shm", confined_scene, 1, &c_small_shm},
        {"no_shm", confined_scene, 1, &c_no_shm},
        {"small_shm_memfd", confined_scene, 1, &c_small_shm_memfd},
        {"no_shm_memfd", confined_scene, 1, &c_no_shm_memfd},
        {"nowhere", confined_scene, 1, &c_nowhere},
        {"nowhere_threads", confined_scene, 1, &c_nowhere_threads},
        {"nothing", confined_scene, 1, &c_nothing},
        {"only_small", confined_scene, 1, &c_only_small},
        {"tmp", confined_scene, 1, &c_tmp},
        {"files", confined_scene, 1, &c_files},
        {"memlock", confined_scene, 1, &c_memlock},
        {"fsize", confined_scene, 1, &c_fsize},
        {"threads", confined_scene, 1, &c_threads},
        {"cramped", cramped_scene, 1, NULL},
    };

    setenv("MEDLEY_INIT_TIMEOUT", "20s", 1);
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
