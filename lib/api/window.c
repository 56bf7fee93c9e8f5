/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registration. Memory from medleyMemAlloc is known process-wide and needs none to be mapped by peers; registering it
 * only makes the mapping happen early, and hands other memory to the transports that gain from it. A handle belongs to
 * its communicator and is looked up in its list before it is touched.
 */
#include "config.h"

#include "lib/api/work.h"
#include "lib/engine/job.h"
#include "lib/mem/mem.h"

#include <stdlib.h>
#include <string.h>

struct medleyWindow {
    struct mdl_list link;
    void *regs[MDL_MAX_TRANSPORTS];
    void *ptr;
    size_t size;
};

static void unregister(struct mdl_comm *c, struct medleyWindow *w)
{
    for (int t = 0; t < c->ntransports; t++) {
        if (w->regs[t]) c->transport[t].ops->dereg(c->transport[t].ctx, w->regs[t]);
    }
    mdl_list_remove(&w->link);
    free(w);
}

void mdl_windows_free(struct mdl_comm *c)
{
    mdl_list_each (it, &c->windows) unregister(c, mdl_container_of(it, struct medleyWindow, link));
}

static medleyResult_t do_register(struct mdl_comm *c, void *buff, size_t size, struct medleyWindow **out)
{
    struct medleyWindow *w = calloc(1, sizeof(*w));
    struct mdl_mem mem = {.kind = MDL_MEM_HOST, .ptr = buff, .len = size};
    medleyResult_t res = medleySuccess;

    if (!w) return mdl_error(medleySystemError, "out of memory for a registration");
    w->ptr = buff;
    w->size = size;
    mdl_list_append(&c->windows, &w->link);
    mdl_mem_describe(buff, size, &mem);
    for (int t = 0; res == medleySuccess && t < c->ntransports; t++) {
        uint8_t key[MDL_KEY_BYTES];
        size_t len = sizeof(key);
        if (c->transport[t].ctx) res = c->transport[t].ops->reg(c->transport[t].ctx, &mem, &w->regs[t], key, &len);
    }
    if (res == medleySuccess)
        *out = w;
    else
        unregister(c, w);
    return res;
}

static struct medleyWindow *find(struct mdl_comm *c, void *handle)
{
    mdl_list_each (it, &c->windows) {
        if ((void *)mdl_container_of(it, struct medleyWindow, link) == handle) return handle;
    }
    return NULL;
}

static medleyResult_t deregister(medleyComm_t comm, void *handle)
{
    struct mdl_comm *c;
    struct medleyWindow *w;

    MDL_TRY(mdl_handle_enter(comm, &c));
    if (mdl_work_busy(comm)) return mdl_handle_return(comm, mdl_handle_working()); /* it may be changing the list */
    w = find(c, handle);
    if (!w)
        return mdl_handle_return(
            comm, mdl_error(medleyInvalidArgument, "registration %p does not exist on this communicator", handle));
    unregister(c, w);
    return mdl_handle_return(comm, medleySuccess);
}

static medleyResult_t check(medleyComm_t comm, const char *call, const void *buff, size_t size, const void *out)
{
    const char *what = !buff ? "buff is NULL" : !size ? "size is 0" : !out ? "the place for the result is NULL" : NULL;

    if (!what) return medleySuccess;
    return mdl_handle_refuse(comm, mdl_error(medleyInvalidArgument, "%s: %s", call, what));
}

medleyResult_t medleyCommRegister(const medleyComm_t comm, void *buff, size_t size, void **handle)
{
    struct mdl_comm *c;
    struct medleyWindow *w;
    medleyResult_t res;

    MDL_TRY(check(comm, "medleyCommRegister", buff, size, handle));
    MDL_TRY(mdl_handle_enter_ready(comm, &c));
    res = do_register(c, buff, size, &w);
    if (res == medleySuccess) *handle = w;
    return mdl_handle_return(comm, res);
}

medleyResult_t medleyCommDeregister(const medleyComm_t comm, void *handle) { return deregister(comm, handle); }

/* Maps the peers' windows now, so that the first collective on them does not pay for it. */
static medleyResult_t map_windows(struct mdl_comm *c, const uint64_t *segments)
{
    for (int i = 0; c->use_board && i < c->board.nlocal; i++) {
        int r = c->team->members[c->team->host[c->rank]][i];
        void *addr;
        size_t len;

        if (r == c->rank || !segments[r]) continue;
        MDL_TRY(c->map_transport->ops->map(c->map_transport->ctx, r, segments[r], &addr, &len));
    }
    return medleySuccess;
}

static medleyResult_t register_window(struct mdl_comm *c, void *buff, size_t size, medleyWindow_t *win)
{
    const struct mdl_call call = {.coll = MDL_CALL_WINDOW, .root = -1, .count = size};
    uint64_t *all = malloc((size_t)c->nranks * sizeof(*all));
    struct mdl_mem mem = {0};
    struct medleyWindow *w = NULL;
    medleyResult_t res = all ? do_register(c, buff, size, &w)
                             : mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);

    mdl_mem_describe(buff, size, &mem);
    if (res == medleySuccess) res = mdl_job_exchange(c, &call, mem.segment, all);
    if (res == medleySuccess) res = map_windows(c, all);
    if (res != medleySuccess && !mdl_comm_failed(c)) mdl_comm_fail_here(c, res); /* the others wait, or have it */
    if (res == medleySuccess)
        *win = w;
    else if (w)
        unregister(c, w);
    free(all);
    return res;
}

/* Collective, so in a group it waits for the group's end and runs beside those of other communicators. */
struct window_job {
    struct mdl_job job;
    medleyComm_t handle;
    uint64_t serial;
    void *buff;
    size_t size;
    medleyWindow_t *win;
};

static medleyResult_t window_run(struct mdl_job *job)
{
    struct window_job *w = mdl_container_of(job, struct window_job, job);
    struct mdl_comm *c;

    MDL_TRY(mdl_handle_enter_again(w->handle, w->serial, &c));
    return mdl_handle_return(w->handle, register_window(c, w->buff, w->size, w->win));
}

static void window_free(struct mdl_job *job) { free(mdl_container_of(job, struct window_job, job)); }

static medleyResult_t start_window(medleyComm_t comm, struct mdl_comm *c, void *buff, size_t size, medleyWindow_t *win)
{
    struct window_job *w = calloc(1, sizeof(*w));

    if (!w) return mdl_handle_return(comm, mdl_error(medleySystemError, "out of memory for a window"));
    *w = (struct window_job){.handle = comm, .serial = mdl_handle_serial(comm), .buff = buff, .size = size, .win = win};
    mdl_list_init(&w->job.link);
    w->job.comm = c;
    w->job.run = window_run;
    w->job.free = window_free;
    w->job.behind = c->blocking ? NULL : comm;
    w->job.behind_serial = w->serial;
    mdl_handle_leave(comm); /* until it runs */
    return mdl_group_job(&w->job);
}

static medleyResult_t window_register(medleyComm_t comm, void *buff, size_t size, medleyWindow_t *win, int flags)
{
    struct mdl_comm *c;

    MDL_TRY(check(comm, "medleyCommWindowRegister", buff, size, win));
    if (flags & ~MEDLEY_WIN_COLL_SYMMETRIC)
        return mdl_handle_refuse(comm,
                                 mdl_error(medleyInvalidArgument, "medleyCommWindowRegister: unknown flags %d", flags));
    MDL_TRY(mdl_handle_enter_ready(comm, &c));
    return start_window(comm, c, buff, size, win);
}

medleyResult_t medleyCommWindowRegister(medleyComm_t comm, void *buff, size_t size, medleyWindow_t *win, int winFlags)
{
    medleyResult_t res = window_register(comm, buff, size, win, winFlags);

    if (res != medleySuccess) mdl_group_error(res);
    return res;
}

medleyResult_t medleyCommWindowDeregister(medleyComm_t comm, medleyWindow_t win) { return deregister(comm, win); }
