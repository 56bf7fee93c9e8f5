/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory. -R 2 and --mem alloc take it from medleyMemAlloc, so that peers can map it; otherwise it is ordinary memory,
 * as a program that knows nothing of Medley would have.
 */
#include "config.h"
#include "bench/perf/buffers.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST_ELEMENT = 8 };

/* ---- how much there is ---- */

/* The number in a file, after `label`; negative: none. */
static double read_number(const char *path, const char *label)
{
    char line[128];
    double number = -1;
    size_t skip = strlen(label);
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    while (number < 0 && fgets(line, sizeof(line), f))
        if (!strncmp(line, label, skip) && sscanf(line + skip, "%lf", &number) != 1) number = -1;
    fclose(f);
    return number;
}

/* Bytes that the kernel could give, and the container allows; 0: not known. */
static double available_memory(void)
{
    double bytes = 1024 * read_number("/proc/meminfo", "MemAvailable:");
    double limit = read_number("/sys/fs/cgroup/memory.max", "");
    double used = read_number("/sys/fs/cgroup/memory.current", "");
    if (limit >= 0 && used >= 0 && (bytes < 0 || limit - used < bytes)) bytes = limit > used ? limit - used : 1;
    return bytes > 0 ? bytes : 0;
}

static medleyResult_t ranks_of_host(struct perf_thread *t, int *n)
{
    medleyRankInfo_t me = {.size = sizeof(me)}, other = {.size = sizeof(other)};
    *n = 0;
    MDL_TRY(medleyCommGetInfo(t->ranks[0].comm, t->ranks[0].rank, &me));
    for (int r = 0; r < t->world->nranks; r++) {
        MDL_TRY(medleyCommGetInfo(t->ranks[0].comm, r, &other));
        *n += !strcmp(me.host, other.host);
    }
    return medleySuccess;
}

medleyResult_t perf_buffers_limit(struct perf_thread *t, bool *lowered)
{
    int n;
    *lowered = false;
    MDL_TRY(ranks_of_host(t, &n));
    double bytes = available_memory() * 0.8 / 2 / n;
    if (bytes <= 0) bytes = (double)t->max_bytes;
    double least = -bytes; /* the least of all, as the most of the negatives */
    MDL_TRY(perf_all_max(t, &least, 1));
    if (-least >= (double)t->max_bytes) return medleySuccess;
    *lowered = true;
    t->max_bytes = (size_t)-least;
    return medleySuccess;
}

/* ---- getting and giving back ---- */

static medleyResult_t take(struct perf_buffer *b, size_t bytes, int mem, const struct perf_home *home)
{
    b->bytes = bytes;
    if (home->dev.ops) return perf_home_take(home, bytes, &b->base, &b->host);
    if (mem == PERF_ALLOC) {
        MDL_TRY(medleyMemAlloc(&b->base, bytes));
        b->host = b->base;
        return medleySuccess;
    }
    int err = posix_memalign(&b->base, (size_t)sysconf(_SC_PAGESIZE), bytes);
    b->host = b->base;
    if (!err) return medleySuccess;
    b->base = NULL;
    return mdl_system_error(err, "no buffer of %zu bytes (-e, --maxbytes)", bytes);
}

static void give(struct perf_buffer *b, int mem, const struct perf_home *home)
{
    if (b->base && home->dev.ops)
        perf_home_give(home, b->base, b->host);
    else if (b->base && mem == PERF_ALLOC)
        (void)medleyMemFree(b->base);
    else
        free(b->base);
    *b = (struct perf_buffer){0};
}

static medleyResult_t enter(struct perf_buffer *b, medleyComm_t comm, int how)
{
    if (how == 1) return medleyCommRegister(comm, b->base, b->bytes, &b->handle);
    return medleyCommWindowRegister(comm, b->base, b->bytes, &b->window, MEDLEY_WIN_COLL_SYMMETRIC);
}

static void leave(struct perf_buffer *b, medleyComm_t comm)
{
    if (b->handle && comm) (void)medleyCommDeregister(comm, b->handle);
    if (b->window && comm) (void)medleyCommWindowDeregister(comm, b->window);
    b->handle = NULL;
    b->window = NULL;
}

static medleyResult_t enter_send(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    (void)arg;
    return enter(&r->send, r->comm, t->world->o->reg);
}

static medleyResult_t enter_recv(struct perf_thread *t, struct perf_rank *r, void *arg)
{
    (void)arg;
    return enter(&r->recv, r->comm, t->world->o->reg);
}

medleyResult_t perf_buffers_open(struct perf_thread *t)
{
    const struct perf_options *o = t->world->o;
    size_t bytes = t->max_bytes + (size_t)o->unalign * LARGEST_ELEMENT + PERF_GUARD;
    for (int i = 0; i < t->nranks; i++) {
        MDL_TRY(take(&t->ranks[i].send, bytes, o->mem, &t->ranks[i].home));
        MDL_TRY(take(&t->ranks[i].recv, bytes, o->mem, &t->ranks[i].home));
    }
    perf_thread_meet(t, true); /* vendors may have an allocation wait for the device, which holds others' calls */
    if (!o->reg) return medleySuccess;
    MDL_TRY(perf_thread_each(t, false, enter_send, NULL));
    return perf_thread_each(t, false, enter_recv, NULL);
}

void perf_buffers_close(struct perf_thread *t)
{
    for (int i = 0; i < t->nranks; i++) {
        struct perf_rank *r = &t->ranks[i];
        leave(&r->send, r->comm);
        leave(&r->recv, r->comm);
        give(&r->send, t->world->o->mem, &r->home);
        give(&r->recv, t->world->o->mem, &r->home);
    }
}

static void align(struct perf_buffer *b, size_t shift)
{
    b->at = (char *)b->base + shift;
    b->host_at = (char *)b->host + shift;
}

void perf_buffers_align(struct perf_thread *t, size_t elem)
{
    for (int i = 0; i < t->nranks; i++) {
        align(&t->ranks[i].send, (size_t)t->world->o->unalign * elem);
        align(&t->ranks[i].recv, (size_t)t->world->o->unalign * elem);
    }
}

medleyResult_t perf_buffers_store(const struct perf_rank *r)
{
    if (!r->home.dev.ops) return medleySuccess;
    MDL_TRY(perf_home_store(&r->home, r->send.base, r->send.host, r->send.bytes));
    return perf_home_store(&r->home, r->recv.base, r->recv.host, r->recv.bytes);
}

medleyResult_t perf_buffers_fetch(const struct perf_rank *r)
{
    if (!r->home.dev.ops) return medleySuccess;
    MDL_TRY(perf_home_fetch(&r->home, r->send.host, r->send.base, r->send.bytes));
    return perf_home_fetch(&r->home, r->recv.host, r->recv.base, r->recv.bytes);
}
