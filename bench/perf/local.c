/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The starter of --local. It forks and executes this program again, so that each rank is a process like one that mpirun
 * started, and then only waits: no Medley, no threads, no signal handlers (a signalfd instead).
 *
 * One pipe carries the id: process 0 has its only write end, so that the others see its end. Over a second one every
 * process says now and then that it is getting on; if -T was given and nobody does, all are killed. When one fails, the
 * others have GRACE_MS to say their part and are then killed. The kernel kills them if the starter dies.
 */
#include "config.h"
#include "bench/perf/local.h"
#include "lib/base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GRACE_MS = 5000, SLACK_S = 8 }; /* SLACK_S: the processes' own watch comes first */
static const char child_env[] = "MEDLEY_PERF_LOCAL";

struct starter {
    const struct perf_options *o;
    pid_t *pids; /* 0: gone */
    int left, status, signals, id[2], kick[2];
    sigset_t old_mask;
    uint64_t kill_at, quiet_since; /* ns; kill_at 0: nothing has failed */
};

/* ---- a child ---- */

static void keep_open(int fd)
{
    if (fd >= 0) fcntl(fd, F_SETFD, 0);
}

static void become_rank(struct starter *s, int rank, pid_t parent, char **argv)
{
    char text[96];
    int id_fd = s->o->local == 1 ? -1 : s->id[rank == 0];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(PERF_FAILED);
    sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
    keep_open(id_fd);
    keep_open(s->kick[1]);
    snprintf(text, sizeof(text), "%d %d %d %d", rank, s->o->local, id_fd, s->kick[1]);
    if (setenv(child_env, text, 1)) _exit(PERF_FAILED);
    execv("/proc/self/exe", argv);
    execvp(argv[0], argv);
    fprintf(stderr, "medley-perf: %s cannot be started again: %s\n", argv[0], strerror(errno));
    _exit(PERF_FAILED);
}

bool perf_local_is_child(void) { return getenv(child_env) != NULL; }

medleyResult_t perf_local_child(struct perf_place *p)
{
    const char *text = getenv(child_env);
    int rank, size, id_fd, kick_fd;
    if (!text || sscanf(text, "%d %d %d %d", &rank, &size, &id_fd, &kick_fd) != 4 || rank < 0 || rank >= size)
        return mdl_error(medleyInvalidUsage, "%s is set by --local for its processes only: unset it", child_env);
    if (id_fd >= 0) fcntl(id_fd, F_SETFD, FD_CLOEXEC);
    fcntl(kick_fd, F_SETFD, FD_CLOEXEC);
    unsetenv(child_env);
    *p = (struct perf_place){.proc = rank,
                             .nprocs = size,
                             .launcher = "--local",
                             .by = size > 1 ? PERF_BY_PIPE : PERF_BY_NOBODY,
                             .id_fd = id_fd,
                             .kick_fd = kick_fd};
    return medleySuccess;
}

/* ---- the end of children ---- */

static void kill_all(struct starter *s)
{
    for (int i = 0; i < s->o->local; i++)
        if (s->pids[i] > 0) kill(s->pids[i], SIGKILL);
}

/* Wrong data is told by all at their end; every other failure leaves the rest waiting for somebody who is gone. */
static void note_failure(struct starter *s, int status)
{
    if (s->status == PERF_OK || s->status == PERF_WRONG) s->status = status;
    if (!s->kill_at) s->kill_at = mdl_now_ns() + GRACE_MS * MDL_NS_PER_MS;
}

static void note_end(struct starter *s, int rank, int how)
{
    bool killed = WIFSIGNALED(how);
    pid_t pid = s->pids[rank];
    s->pids[rank] = 0;
    s->left--;
    if (killed && !(s->kill_at && mdl_now_ns() >= s->kill_at))
        fprintf(stderr, "medley-perf: process %d of %d (pid %d) was killed by signal %d (%s)\n", rank, s->o->local,
                (int)pid, WTERMSIG(how), strsignal(WTERMSIG(how)));
    if (killed || WEXITSTATUS(how)) note_failure(s, killed ? PERF_FAILED : WEXITSTATUS(how));
}

static void reap(struct starter *s)
{
    int how;
    pid_t pid;
    while ((pid = waitpid(-1, &how, WNOHANG)) > 0)
        for (int i = 0; i < s->o->local; i++)
            if (s->pids[i] == pid) note_end(s, i, how);
}

/* ---- waiting ---- */

static void take_signal(struct starter *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) continue;
        kill_all(s);
        s->status = 128 + (int)info.ssi_signo;
        s->kill_at = 1; /* everybody's end is wanted now */
    }
    reap(s);
}

static void take_kicks(struct starter *s)
{
    char bytes[256];
    if (read(s->kick[0], bytes, sizeof(bytes)) > 0) s->quiet_since = mdl_now_ns();
}

/* The next moment at which all must be killed, in ns; 0: none. */
static uint64_t deadline_of(const struct starter *s)
{
    uint64_t quiet = s->quiet_since + (uint64_t)(s->o->timeout + SLACK_S) * MDL_NS_PER_S;
    if (s->kill_at) return s->kill_at;
    return s->o->timeout ? quiet : 0;
}

static int ms_until(uint64_t deadline)
{
    uint64_t now = mdl_now_ns();
    if (!deadline) return -1;
    if (deadline <= now) return 0;
    uint64_t ms = (deadline - now) / MDL_NS_PER_MS + 1;
    return ms > 60000 ? 60000 : (int)ms;
}

static void give_up(struct starter *s)
{
    if (!s->kill_at)
        fprintf(stderr, "medley-perf: no process got on for %d s (-T, --timeout %d): all are killed\n",
                s->o->timeout + SLACK_S, s->o->timeout);
    else if (s->kill_at > 1)
        fprintf(stderr, "medley-perf: %d processes are left %d s after the first failed: they are killed\n", s->left,
                GRACE_MS / 1000);
    note_failure(s, PERF_FAILED);
    s->kill_at = 1;
    kill_all(s);
}

static void wait_for_all(struct starter *s)
{
    struct pollfd fds[] = {{.fd = s->signals, .events = POLLIN}, {.fd = s->kick[0], .events = POLLIN}};
    s->quiet_since = mdl_now_ns();
    reap(s);
    while (s->left) {
        uint64_t deadline = s->kill_at == 1 ? 0 : deadline_of(s); /* once killed, only their ends are waited for */
        int n = poll(fds, 2, ms_until(deadline));
        if (n > 0 && fds[0].revents) take_signal(s);
        if (n > 0 && fds[1].revents & POLLIN) take_kicks(s);
        if (n > 0 && fds[1].revents == POLLHUP) fds[1].fd = -1;
        if (deadline && mdl_now_ns() >= deadline && s->left && deadline == deadline_of(s)) give_up(s);
    }
}

/* ---- starting ---- */

static bool start_one(struct starter *s, int rank, char **argv)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) become_rank(s, rank, parent, argv);
    if (pid < 0) {
        fprintf(stderr, "medley-perf: process %d of %d cannot be started: %s\n", rank, s->o->local, strerror(errno));
        note_failure(s, PERF_FAILED);
        return false;
    }
    s->pids[rank] = pid;
    s->left++;
    return true;
}

static bool prepare(struct starter *s)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    s->pids = calloc((size_t)s->o->local, sizeof(*s->pids));
    return s->pids && !pipe2(s->id, O_CLOEXEC) && !pipe2(s->kick, O_CLOEXEC) &&
           !sigprocmask(SIG_BLOCK, &mask, &s->old_mask) &&
           (s->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK)) >= 0;
}

static void close_all(struct starter *s)
{
    int fds[] = {s->kick[0], s->signals};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0) close(fds[i]);
    free(s->pids);
}

int perf_local_run(const struct perf_options *o, char **argv)
{
    struct starter s = {.o = o, .signals = -1, .id = {-1, -1}, .kick = {-1, -1}};
    if (!prepare(&s)) {
        fprintf(stderr, "medley-perf: --local cannot be prepared: %s\n", strerror(errno));
        return PERF_FAILED;
    }
    fflush(NULL); /* nothing is printed twice */
    for (int i = 0; i < o->local && start_one(&s, i, argv); i++) continue;
    close(s.id[0]);
    close(s.id[1]);
    close(s.kick[1]);
    if (s.status != PERF_OK) kill_all(&s);
    wait_for_all(&s);
    close_all(&s);
    return s.status;
}

int perf_local_apart(int (*work)(const struct perf_options *), const struct perf_options *o)
{
    int how;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int status = work(o);
        fflush(NULL);
        _exit(status);
    }
    while (pid > 0 && waitpid(pid, &how, 0) < 0 && errno == EINTR) continue;
    if (pid > 0 && WIFEXITED(how)) return WEXITSTATUS(how);
    if (pid > 0)
        fprintf(stderr, "medley-perf: looking for the devices ended by signal %d (%s)\n", WTERMSIG(how),
                strsignal(WTERMSIG(how)));
    else
        fprintf(stderr, "medley-perf: --local cannot be prepared: %s\n", strerror(errno));
    return PERF_FAILED;
}
