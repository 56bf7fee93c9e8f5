/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library in its process: forks, exec, signals, exit in every way, loading and unloading.
 *
 * Each scene runs in a process of its own, because most of them end it, and because a process that has used the library
 * hands its state to whatever it forks. MEDLEY_TRANSPORT chooses the transport.
 */
#include "config.h"

#include "tests/coll/ranks.h"
#include "tests/fault/scene.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 3, COUNT = 2000, WATCHDOG_S = 40, SKIPPED = 77 };

static const char *own_path;  /* of this program, for exec */
static medleyComm_t comms[N]; /* static: what lives at exit stays reachable for a leak checker */
static void *stream;

/* ---- work ---- */

static int open_comms(void)
{
    int rank = 0;
    medleyComm_t comm = NULL;

    OK(medleyCommInitAll(comms, N, NULL));
    return 0;
}

static int close_comms(void)
{
    int rank = 0;
    medleyComm_t comm = NULL;

    for (int r = 0; r < N; r++) OK(medleyCommDestroy(comms[r]));
    return 0;
}

/* One collective of all ranks by this thread. */
static int use_comms(int value)
{
    static _Thread_local int in[N][COUNT], out[N][COUNT];
    int rank = 0;
    medleyComm_t comm = comms[0];

    OK(medleyGroupStart());
    for (int r = 0; r < N; r++) {
        for (int i = 0; i < COUNT; i++) in[r][i] = value + r + i;
        OK(medleyAllReduce(in[r], out[r], COUNT, medleyInt32, medleySum, comms[r], NULL));
    }
    OK(medleyGroupEnd());
    for (int i = 0; i < COUNT; i++) CHECK(out[N - 1][i] == N * (value + i) + N * (N - 1) / 2);
    return 0;
}

static int wait_child(pid_t pid, int want)
{
    double until = scene_now() + WATCHDOG_S / 2;
    int status = 0;
    pid_t got;

    while ((got = waitpid(pid, &status, WNOHANG)) == 0 && scene_now() < until) scene_sleep_ms(1);
    if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == want) return 0;
    fprintf(stderr, "process %d %s: status %x, exit with %d was expected\n", (int)pid, got ? "ended" : "hangs", status,
            want);
    if (got == 0) kill(pid, SIGKILL);
    return 1;
}

/* ---- fork ---- */

static int refused(medleyResult_t res, const char *call)
{
    if (res == medleyInvalidUsage && medleyGetLastError(NULL)[0]) return 0;
    fprintf(stderr, "%s in a forked child: %d %s\n", call, res, medleyGetLastError(NULL));
    return 1;
}
#define REFUSED(call) wrong |= refused((call), #call)

/* Whatever the child calls is refused, at once. */
static int child_calls(void)
{
    int one = 1, sum = 0, wrong = 0;
    medleyResult_t async;
    medleyUniqueId id;
    medleyComm_t again, all[2];
    medleyCommStats_t stats = {.size = sizeof(stats)};
    medleyRankInfo_t info = {.size = sizeof(info)};
    void *p;

    REFUSED(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comms[0], NULL));
    REFUSED(medleyAllReduce(&one, &sum, 1, medleyInt32, medleySum, comms[0], stream));
    REFUSED(medleySend(&one, 1, medleyInt32, 1, comms[0], NULL));
    REFUSED(medleyCommSplit(comms[0], 0, 0, &again, NULL));
    REFUSED(medleyCommShrink(comms[0], NULL, 0, &again, NULL, MEDLEY_SHRINK_ABORT));
    REFUSED(medleyCommGetAsyncError(comms[0], &async));
    REFUSED(medleyCommCount(comms[0], &one));
    REFUSED(medleyCommGetInfo(comms[0], 1, &info));
    REFUSED(medleyCommGetStats(comms[0], &stats));
    REFUSED(medleyCommFinalize(comms[1]));
    REFUSED(medleyCommRevoke(comms[1], 0));
    REFUSED(medleyCommDestroy(comms[0]));
    REFUSED(medleyCommAbort(comms[2]));
    REFUSED(medleyStreamSynchronize(stream));
    REFUSED(medleyStreamDestroy(stream));
    REFUSED(medleyStreamCreate(&p));
    REFUSED(medleyEventCreate(&p));
    REFUSED(medleyGetUniqueId(&id));
    REFUSED(medleyCommInitAll(all, 2, NULL));
    REFUSED(medleyGroupStart());
    return wrong;
}

enum ending { BY_EXIT, BY_UNDERSCORE_EXIT, BY_KILL, BY_EXEC, ENDINGS };

static int fork_one(enum ending ending, bool calls)
{
    pid_t pid = fork();

    if (pid < 0) return 1;
    if (pid == 0) {
        int wrong = calls ? child_calls() : 0;
        /* A leak checker would miss what only threads of the parent hold. */
        if (ending == BY_EXIT && !scene_sanitized()) exit(wrong);
        if (ending == BY_EXEC && !wrong) execl(own_path, own_path, "--work", (char *)NULL);
        if (ending == BY_KILL && !wrong) kill(getpid(), SIGTERM);
        _exit(wrong);
    }
    if (ending != BY_KILL) return wait_child(pid, 0);
    int status;
    return waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status);
}

static int forks(struct ranks_world *w, int rank, void *arg)
{
    medleyComm_t comm = NULL;

    if (open_comms() || use_comms(1)) return 1;
    OK(medleyStreamCreate(&stream));
    for (int i = 0; i < 2 * ENDINGS; i++) {
        if (fork_one((enum ending)(i % ENDINGS), i < ENDINGS) || use_comms(i)) return 1;
    }
    OK(medleyStreamDestroy(stream));
    return close_comms();
}

static atomic_bool stop;

static void *work_thread(void *arg)
{
    int *wrong = arg;

    for (int i = 0; !atomic_load(&stop) && !*wrong; i++) *wrong = use_comms(i);
    return NULL;
}

/* Forks while another thread is inside calls. */
static int forks_meanwhile(struct ranks_world *w, int rank, void *arg)
{
    pthread_t thread;
    int wrong = 0, failed = 0;

    if (open_comms() || pthread_create(&thread, NULL, work_thread, &wrong)) return 1;
    for (int i = 0; i < scene_rounds(30) && !failed; i++) failed = fork_one((enum ending)(i % ENDINGS), false);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    return wrong || failed || use_comms(5) || close_comms();
}

/* A child that was forked before the first call is a process like any other. */
static int forked_before(struct ranks_world *w, int rank, void *arg)
{
    pid_t pid = fork();

    if (pid < 0) return 1;
    if (open_comms() || use_comms(rank) || close_comms()) return 1;
    if (pid == 0) _exit(0);
    return wait_child(pid, 0);
}

/* ---- exec ---- */

static int for_each_fd(int (*fn)(int fd))
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    if (!dir) return -1;
    for (struct dirent *e; (e = readdir(dir));) {
        int fd = atoi(e->d_name);
        if (isdigit((unsigned char)e->d_name[0]) && fd != dirfd(dir)) n += fn(fd);
    }
    closedir(dir);
    return n;
}

static int inherited(int fd) { return !(fcntl(fd, F_GETFD) & FD_CLOEXEC); }

static int show(int fd)
{
    char path[64], name[256] = "";

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (readlink(path, name, sizeof(name) - 1) < 0) return 0;
    fprintf(stderr, "  %d %s\n", fd, name);
    return 1;
}

static int count_one(int fd) { return 1; }

/* In a program that was executed. */
static int count_inherited(int limit)
{
    if (for_each_fd(count_one) <= limit) return 0;
    fprintf(stderr, "more than %d descriptors went through exec:\n", limit);
    for_each_fd(show);
    return 1;
}

static atomic_int most_inherited;

static void *fd_watch(void *arg)
{
    while (!atomic_load(&stop)) {
        int n = for_each_fd(inherited);
        if (n > atomic_load(&most_inherited)) atomic_store(&most_inherited, n);
    }
    return NULL;
}

/* No descriptor is inherited at any moment, and none is seen by a program that is executed. */
static int execs(struct ranks_world *w, int rank, void *arg)
{
    int before = for_each_fd(inherited);
    char limit[16];
    pthread_t thread;
    medleyComm_t comm = NULL;
    void *mapped;
    pid_t pid;

    snprintf(limit, sizeof(limit), "%d", before);
    if (pthread_create(&thread, NULL, fd_watch, NULL)) return 1;
    for (int i = 0; i < 5; i++) {
        if (open_comms() || use_comms(i) || (i < 4 && close_comms())) return 1;
    }
    OK(medleyMemAlloc(&mapped, 100000));
    OK(medleyStreamCreate(&stream));
    pid = fork();
    if (pid == 0) {
        execl(own_path, own_path, "--count", limit, (char *)NULL);
        _exit(99);
    }
    if (wait_child(pid, 0)) return 1;
    OK(medleyStreamDestroy(stream));
    OK(medleyMemFree(mapped));
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&most_inherited) <= before);
    return close_comms();
}

/* ---- signals ---- */

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
    return a->sa_handler == b->sa_handler && (a->sa_flags & SA_SIGINFO) == (b->sa_flags & SA_SIGINFO);
}

static atomic_int foreign; /* threads of the library that let a signal through */

/* Does thread `tid` of this process block every signal that can be blocked? The two of the C library cannot. */
static bool blocks_all(const char *tid)
{
    char path[64], line[256], name[64] = "?";
    unsigned long long mask = ~0ull, all = ~0ull;
    int threads = 0;
    FILE *f;

    for (int s = 32; s < SIGRTMIN; s++) all &= ~(1ull << (s - 1));
    all &= ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1));
    snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
    f = fopen(path, "r");
    if (!f) return true; /* it has ended */
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Name: %63s", name) == 1) continue;
        if (sscanf(line, "Threads: %d", &threads) == 1) continue;
        if (sscanf(line, "SigBlk: %llx", &mask) == 1) break;
    }
    fclose(f);
    if ((mask & all) == all || threads == 0) return true; /* no threads: it is ending, and has no mask any more */
    fprintf(stderr, "thread %s of the library lets signals through: it blocks %#llx\n", name, mask);
    return false;
}

static long main_tid;

static void look_at_threads(long own)
{
    DIR *dir = opendir("/proc/self/task");

    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        long tid = atol(e->d_name);
        if (tid <= 0 || tid == own || tid == main_tid || blocks_all(e->d_name)) continue;
        atomic_fetch_add(&foreign, 1);
    }
    closedir(dir);
}

static void *mask_watch(void *arg)
{
    while (!atomic_load(&stop)) look_at_threads(syscall(SYS_gettid));
    return NULL;
}

/* Every kind of thread comes: monitor, workers, progress, those of a group and of an init in the background. */
static int use_threads(void)
{
    medleyConfig_t config = MEDLEY_CONFIG_INITIALIZER;
    medleyResult_t state = medleyInProgress;
    medleyUniqueId id;
    medleyComm_t comm = NULL;
    int rank = 0;
    void *streams[N];

    if (open_comms() || use_comms(1)) return 1;
    for (int r = 0; r < N; r++) OK(medleyStreamCreate(&streams[r])); /* on one, each would wait for those behind it */
    for (int r = 0; r < N; r++) OK(medleyBarrier(comms[r], streams[r]));
    for (int r = 0; r < N; r++) OK(medleyStreamSynchronize(streams[r]));
    for (int r = 0; r < N; r++) OK(medleyStreamDestroy(streams[r]));
    config.blocking = 0;
    OK(medleyGetUniqueId(&id));
    CHECK(medleyCommInitRankConfig(&comm, 1, id, 0, &config) == medleyInProgress);
    while (state == medleyInProgress) OK(medleyCommGetAsyncError(comm, &state));
    OK(state);
    OK(medleyCommDestroy(comm));
    return close_comms();
}

static int signals(struct ranks_world *w, int rank, void *arg)
{
    struct sigaction before[NSIG], after;
    sigset_t mask, mask_after;
    pthread_t thread;
    medleyComm_t comm = NULL;

    setenv("MEDLEY_THREADS", "2", 1);
    main_tid = syscall(SYS_gettid);
    for (int s = 1; s < NSIG; s++) {
        if (sigaction(s, NULL, &before[s]) < 0) before[s].sa_handler = SIG_ERR;
    }
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    if (pthread_create(&thread, NULL, mask_watch, NULL)) return 1;
    for (int i = 0; i < scene_rounds(20); i++) {
        if (use_threads()) return 1;
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&foreign) == 0);
    for (int s = 1; s < NSIG; s++) {
        if (before[s].sa_handler == SIG_ERR) continue;
        CHECK(sigaction(s, NULL, &after) == 0);
        CHECK(same_action(&before[s], &after));
    }
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_after) == 0);
    for (int s = 1; s < NSIG; s++) CHECK(sigismember(&mask, s) == sigismember(&mask_after, s));
    return 0;
}

static atomic_int alarms;

static void on_alarm(int sig)
{
    (void)sig;
    if (syscall(SYS_gettid) != main_tid) atomic_fetch_add(&foreign, 1);
    atomic_fetch_add(&alarms, 1);
}

/* The application's own signals interrupt system calls everywhere; nothing minds, and its handler runs on its thread.
 */
static int interrupted(struct ranks_world *w, int rank, void *arg)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    medleyComm_t comm = NULL;

    main_tid = syscall(SYS_gettid);
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < scene_rounds(20); i++) {
        if (use_threads()) return 1;
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(atomic_load(&foreign) == 0);
    CHECK(atomic_load(&alarms) > 0);
    return 0;
}

/* ---- exit ---- */

/* A rank that calls exit with a live communicator has ended, and the others learn it. */
static int exits_alone(struct ranks_world *w, int rank, void *arg)
{
    medleyComm_t comm = NULL;
    medleyResult_t res = medleySuccess;
    int in[COUNT] = {1}, out[COUNT];
    double start;

    OK(ranks_comm(w, rank, NULL, &comm));
    comms[0] = comm;
    OK(medleyAllReduce(in, out, COUNT, medleyInt32, medleySum, comm, NULL));
    ranks_meet(w, 0);
    if (rank == 1) exit(0);
    start = scene_now();
    while (res == medleySuccess) res = medleyAllReduce(in, out, COUNT, medleyInt32, medleySum, comm, NULL);
    CHECK(res == medleyRemoteError);
    CHECK(strstr(medleyGetLastError(comm), "rank 1 (host ") != NULL);
    CHECK(scene_now() - start < 1 * scene_slack());
    OK(medleyCommAbort(comm));
    return 0;
}

static void *blocked_thread(void *arg)
{
    int in = 1, out = 0;
    medleyResult_t res = medleyAllReduce(&in, &out, 1, medleyInt32, medleySum, comms[0], NULL);

    (void)res; /* it waits for ranks that never come */
    return NULL;
}

/* exit while a call waits on another thread, and while a stream has work. */
static int exits_busy(struct ranks_world *w, int rank, void *arg)
{
    static int in = 1, out;
    pthread_t thread;
    medleyComm_t comm = NULL;

    if (open_comms() || use_comms(1)) return 1;
    OK(medleyStreamCreate(&stream));
    if (pthread_create(&thread, NULL, blocked_thread, NULL)) return 1;
    OK(medleyAllReduce(&in, &out, 1, medleyInt32, medleySum, comms[1], stream));
    scene_sleep_ms(20); /* no synchronisation: any moment will do */
    exit(0);
}

static void *last_thread(void *arg)
{
    double until = scene_now() + WATCHDOG_S / 2;
    char path[64], line[512] = "";

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)getpid());
    while (!strstr(line, ") Z") && scene_now() < until) { /* until the main thread has ended */
        FILE *f = fopen(path, "r");
        if (!f || !fgets(line, sizeof(line), f)) exit(1);
        fclose(f);
        scene_sleep_ms(1);
    }
    exit(!strstr(line, ") Z") || use_comms(3) || close_comms());
}

/* The main thread ends before the others. */
static int exits_by_thread(struct ranks_world *w, int rank, void *arg)
{
    pthread_t thread;

    if (open_comms() || use_comms(1) || pthread_create(&thread, NULL, last_thread, NULL)) return 1;
    pthread_detach(thread);
    pthread_exit(NULL);
}

static void at_exit_work(void)
{
    if (use_comms(4) || close_comms()) _exit(1);
    if (open_comms() || use_comms(5) || close_comms()) _exit(1);
}

static int exits_with_calls(struct ranks_world *w, int rank, void *arg)
{
    bool early = *(const bool *)arg;

    if (early) atexit(at_exit_work); /* it runs after what the library may have registered itself */
    if (open_comms() || use_comms(1)) return 1;
    if (!early) atexit(at_exit_work);
    exit(0);
}

static void at_exit_abort(void)
{
    for (int r = 0; r < N; r++) {
        if (medleyCommAbort(comms[r]) != medleySuccess) _exit(1);
    }
}

static int exits_with_abort(struct ranks_world *w, int rank, void *arg)
{
    atexit(at_exit_abort);
    if (open_comms() || use_comms(1)) return 1;
    exit(0);
}

/* ---- loading ---- */

struct library {
    void *handle;
    medleyResult_t (*init_all)(medleyComm_t *, int, const int *);
    medleyResult_t (*all_reduce)(const void *, void *, size_t, medleyDataType_t, medleyRedOp_t, medleyComm_t, void *);
    medleyResult_t (*destroy)(medleyComm_t);
    medleyResult_t (*group_start)(void), (*group_end)(void);
};

static int load(struct library *l)
{
    const char *path = ".libs/libmedley.so.0";

    l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) {
        printf("skipped: %s\n", dlerror());
        return SKIPPED;
    }
    *(void **)&l->init_all = dlsym(l->handle, "medleyCommInitAll");
    *(void **)&l->all_reduce = dlsym(l->handle, "medleyAllReduce");
    *(void **)&l->destroy = dlsym(l->handle, "medleyCommDestroy");
    *(void **)&l->group_start = dlsym(l->handle, "medleyGroupStart");
    *(void **)&l->group_end = dlsym(l->handle, "medleyGroupEnd");
    return !l->init_all || !l->all_reduce || !l->destroy || !l->group_start || !l->group_end;
}

static int use_library(const struct library *l, int value)
{
    int in[2] = {value, value + 1}, out[2] = {0, 0}, rank = 0;
    medleyComm_t comm = NULL;

    OK(l->group_start());
    for (int r = 0; r < 2; r++) OK(l->all_reduce(&in[r], &out[r], 1, medleyInt32, medleySum, comms[r], NULL));
    OK(l->group_end());
    CHECK(out[0] == 2 * value + 1 && out[1] == out[0]);
    return 0;
}

/* It can be loaded and unloaded with nothing left, and unloaded with a communicator that is still there: it stays. */
static int unloads(struct ranks_world *w, int rank, void *arg)
{
    struct library l;
    int before = for_each_fd(count_one), res;
    medleyComm_t comm = NULL;

    for (int i = 0; i < scene_rounds(20); i++) {
        bool late = i % 2;
        if ((res = load(&l))) return res;
        OK(l.init_all(comms, 2, NULL));
        if (late) CHECK(dlclose(l.handle) == 0);
        if (use_library(&l, i)) return 1;
        for (int r = 0; r < 2; r++) OK(l.destroy(comms[r]));
        if (!late) CHECK(dlclose(l.handle) == 0);
    }
    for (int i = 0; i < 2000 && for_each_fd(count_one) > before; i++) scene_sleep_ms(1);
    CHECK(for_each_fd(count_one) == before);
    return 0;
}

/* ---- scenes ---- */

struct plot {
    int n;
    ranks_fn fn;
    const void *arg;
};

static int process_scene(const struct scene *s, unsigned seed)
{
    const struct plot *plot = s->arg;
    int status[N];

    if (ranks_finish(ranks_start(plot->n, plot->fn, (void *)(uintptr_t)plot->arg), WATCHDOG_S, status) == 0) return 0;
    for (int r = 0; r < plot->n; r++) {
        if (status[r] != 0 && status[r] != SKIPPED) {
            fprintf(stderr, "process %d ended with %d\n", r, status[r]);
            return 1;
        }
    }
    return 0;
}

/* What this program does when it was executed by one of its own processes. */
static int executed(int argc, char **argv)
{
    if (strcmp(argv[1], "--work") == 0) return open_comms() || use_comms(7) || close_comms();
    if (strcmp(argv[1], "--count") == 0 && argc == 3) return count_inherited(atoi(argv[2]));
    return 2;
}

int main(int argc, char **argv)
{
    static const bool yes = true, no = false;
    static const struct plot p_forks = {.n = 1, .fn = forks}, p_meanwhile = {.n = 1, .fn = forks_meanwhile},
                             p_before = {.n = 1, .fn = forked_before}, p_execs = {.n = 1, .fn = execs},
                             p_signals = {.n = 1, .fn = signals}, p_interrupted = {.n = 1, .fn = interrupted},
                             p_alone = {.n = N, .fn = exits_alone}, p_busy = {.n = 1, .fn = exits_busy},
                             p_thread = {.n = 1, .fn = exits_by_thread}, p_early = {1, exits_with_calls, &yes},
                             p_late = {1, exits_with_calls, &no}, p_abort = {.n = 1, .fn = exits_with_abort},
                             p_unloads = {.n = 1, .fn = unloads};
    static const struct scene scenes[] = {
        {"forks", process_scene, 1, &p_forks},
        {"forks_meanwhile", process_scene, 1, &p_meanwhile},
        {"forked_before", process_scene, 1, &p_before},
        {"execs", process_scene, 1, &p_execs},
        {"signals", process_scene, 1, &p_signals},
        {"interrupted", process_scene, 1, &p_interrupted},
        {"exits_alone", process_scene, 3, &p_alone},
        {"exits_busy", process_scene, 3, &p_busy},
        {"exits_by_thread", process_scene, 2, &p_thread},
        {"exits_with_calls_early", process_scene, 2, &p_early},
        {"exits_with_calls_late", process_scene, 2, &p_late},
        {"exits_with_abort", process_scene, 2, &p_abort},
        {"unloads", process_scene, 1, &p_unloads},
    };
    static char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

    own_path = len > 0 ? path : argv[0];
    if (argc > 1 && strncmp(argv[1], "--", 2) == 0) return executed(argc, argv);
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
