/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Yama (kernel.yama.ptrace_scope = 1) lets a process be read only by its ancestors, and by the one process that it
 * names with PR_SET_PTRACER, and by that one's descendants. Only one can be named, there is no way to ask who was, and
 * it counts for the whole process.
 *
 * So a single peer is named itself, and several peers by their nearest common ancestor, which is the launcher
 * (mpirun, torchrun, medley-perf). PR_SET_PTRACER_ANY, which would open the process to everything of this user, is
 * never used; neither is the init process, except in a PID namespace of a container's own, where it is the launcher or
 * the container. Without an ancestor to name, messages go through slots. What the application named before (a crash
 * handler) is replaced; where Yama is not, nothing is done.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MAX_DEPTH = 256 };
#define INITIAL_PID_NAMESPACE "pid:[4026531836]" /* PROC_PID_INIT_INO of the kernel, part of its ABI */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t named; /* by us, under lock; 0: nobody */

static bool read_text(const char *proc, const char *path, char *text, size_t bytes)
{
    char full[256];
    snprintf(full, sizeof(full), "%s/%s", proc, path);
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, bytes - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* The parent of `pid`, or 0. The name in the second field may hold anything, also brackets and spaces. */
static pid_t parent_of(const char *proc, pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof(path), "%d/stat", (int)pid);
    if (!read_text(proc, path, text, sizeof(text))) return 0;
    const char *end = strrchr(text, ')');
    char state;
    int parent;
    return end && sscanf(end + 1, " %c %d", &state, &parent) == 2 ? (pid_t)parent : 0;
}

static bool is_above(const char *proc, pid_t ancestor, pid_t pid)
{
    for (int depth = 0; pid > 0 && depth < MAX_DEPTH; depth++) {
        if (pid == ancestor) return true;
        pid = parent_of(proc, pid);
    }
    return false;
}

/* May process 1 be named? Only inside of a container. */
static bool init_is_ours(const char *proc)
{
    char full[256], name[64];
    snprintf(full, sizeof(full), "%s/self/ns/pid", proc);
    ssize_t n = readlink(full, name, sizeof(name) - 1);
    if (n <= 0) return false;
    name[n] = 0;
    return strcmp(name, INITIAL_PID_NAMESPACE) != 0;
}

pid_t mdl_shm_yama_choose(const char *proc, pid_t before, pid_t pid)
{
    if (before == 1) return 1;
    pid_t top = pid;
    if (before > 0 && parent_of(proc, before) > 0)
        for (int depth = 0; top > 0 && !is_above(proc, top, before) && depth < MAX_DEPTH; depth++)
            top = parent_of(proc, top);
    if (top == 1 && !init_is_ours(proc)) return 0;
    return top;
}

static bool is_restricted(void)
{
    char text[16];
    return read_text("/proc", "sys/kernel/yama/ptrace_scope", text, sizeof(text)) && atoi(text) == 1;
}

void mdl_shm_yama_allow(struct mdl_shm *s, pid_t pid)
{
    if (pid <= 0 || !s->args.config->cma) return;
    if (s->yama == MDL_SHM_YAMA_UNKNOWN) s->yama = is_restricted() ? MDL_SHM_YAMA_RESTRICTED : MDL_SHM_YAMA_FREE;
    if (s->yama == MDL_SHM_YAMA_FREE) return;
    pthread_mutex_lock(&lock);
    pid_t choice = mdl_shm_yama_choose("/proc", named, pid);
    int err = 0;
    if (choice > 0 && choice != named && prctl(PR_SET_PTRACER, (unsigned long)choice, 0, 0, 0) != 0) err = errno;
    if (choice > 0 && err == 0) named = choice;
    pthread_mutex_unlock(&lock);
    if ((choice > 0 && err == 0) || !mdl_shm_note(s, MDL_SHM_NOTE_YAMA)) return;
    MDL_INFO(
        MDL_SHM,
        "rank %d: Yama keeps its peers from reading its memory (%s), so messages are copied through slots; start the "
        "ranks under one launcher, or set kernel.yama.ptrace_scope=0",
        s->args.rank, err ? strerror(err) : "they have no common ancestor but init");
}
