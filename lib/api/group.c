/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups. Operations of one communicator become one batch; batches on NULL streams of all communicators run together in
 * the calling thread, the others are queued; with devices among them (launch.h) all are. Handles are left until the group's end, so that an abort need not wait for
 * it; then they are entered again.
 */
#include "config.h"

#include "lib/api/work.h"
#include "lib/base/thread.h"
#include "lib/engine/launch.h"

#include <stdio.h>
#include <stdlib.h>

struct entry { /* one communicator's part of a group */
    struct mdl_list link;
    medleyComm_t handle;
    uint64_t serial;
    bool inside; /* entered again, for the end of the group */
    struct mdl_batch *batch;
    void **streams;
    int nstreams;
    bool sync;   /* some operation has a NULL stream */
    bool on_device;
};

static _Thread_local struct {
    int depth;
    medleyResult_t error;
    bool behind; /* a call of the group goes on in the background already */
    struct mdl_list entries, jobs;
    uint64_t issued; /* operations of ranks with devices */
} group;

bool mdl_group_open(void) { return group.depth > 0; }

void mdl_group_error(medleyResult_t res)
{
    if (group.depth == 0) return;
    if (res == medleyInProgress)
        group.behind = true;
    else if (group.error == medleySuccess)
        group.error = res;
}

medleyResult_t mdl_group_result(medleyResult_t res)
{
    if (res != medleySuccess) mdl_group_error(res);
    return res;
}

/* ---- jobs ---- */

/* The next job of the same communicator; NULL: none. The list stands still while jobs run. */
static struct mdl_job *next_of_comm(struct mdl_job *job)
{
    for (struct mdl_list *it = job->link.next; job->comm && it != job->end; it = it->next) {
        struct mdl_job *other = mdl_container_of(it, struct mdl_job, link);
        if (other->comm == job->comm) return other;
    }
    return NULL;
}

/* A job and, after it, the others of its communicator. */
static void *job_thread(void *arg)
{
    for (struct mdl_job *job = arg; job; job = next_of_comm(job)) {
        job->result = job->run(job);
        if (job->result != medleySuccess) snprintf(job->text, sizeof(job->text), "%s", mdl_error_text());
    }
    return NULL;
}

static bool is_first_of_comm(const struct mdl_job *job)
{
    for (struct mdl_list *it = group.jobs.next; job->comm && it != &job->link; it = it->next) {
        if (mdl_container_of(it, struct mdl_job, link)->comm == job->comm) return false;
    }
    return true;
}

static medleyResult_t take_result(struct mdl_job *job)
{
    if (job->result != medleySuccess && job->text[0]) mdl_error_set(job->result, job->text);
    return job->result;
}

medleyResult_t mdl_group_job(struct mdl_job *job)
{
    medleyResult_t res;

    if (group.depth > 0) {
        mdl_list_append(&group.jobs, &job->link);
        return medleySuccess;
    }
    if (job->behind) {
        struct mdl_list alone;
        mdl_list_init(&alone);
        mdl_list_append(&alone, &job->link);
        return mdl_work_start(job->behind, job->behind_serial, &alone);
    }
    res = job->run(job);
    job->free(job);
    return res;
}

/* Those of non-blocking communicators leave the group's list. */
static medleyResult_t start_behind(void)
{
    medleyResult_t res = medleySuccess;

    for (struct mdl_list *it = group.jobs.next, *next; it != &group.jobs; it = next) {
        struct mdl_job *job = mdl_container_of(it, struct mdl_job, link), *other;
        medleyResult_t one;
        struct mdl_list list;

        next = it->next;
        if (!job->behind) continue;
        mdl_list_init(&list);
        mdl_list_each (o, &group.jobs) {
            other = mdl_container_of(o, struct mdl_job, link);
            if (other->behind != job->behind) continue;
            if (o == next) next = next->next;
            mdl_list_remove(o);
            mdl_list_append(&list, o);
        }
        one = mdl_work_start(job->behind, job->behind_serial, &list);
        if (res == medleySuccess || res == medleyInProgress) res = one;
    }
    return res;
}

static medleyResult_t run_jobs(void)
{
    medleyResult_t res = medleySuccess;
    int n = 0, started = 0;
    pthread_t *threads;

    mdl_list_each (it, &group.jobs) n++;
    if (n == 0) return medleySuccess;
    threads = calloc((size_t)n, sizeof(*threads));
    if (!threads) res = mdl_error(medleySystemError, "out of memory for %d communicators in a group", n);
    mdl_list_each (it, &group.jobs) mdl_container_of(it, struct mdl_job, link)->end = &group.jobs;
    mdl_list_each (it, &group.jobs) {
        struct mdl_job *job = mdl_container_of(it, struct mdl_job, link);
        if (res != medleySuccess || !is_first_of_comm(job)) continue;
        int err = mdl_thread_start(job_thread, job, &threads[started]);
        if (err) res = mdl_system_error(err, "cannot start a thread for a call in a group");
        if (res == medleySuccess) started++;
    }
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    free(threads);
    mdl_list_each (it, &group.jobs) {
        struct mdl_job *job = mdl_container_of(it, struct mdl_job, link);
        if (res == medleySuccess) res = take_result(job);
        mdl_list_remove(&job->link);
        job->free(job);
    }
    return res;
}

/* ---- operations ---- */

static void free_entry(struct entry *e)
{
    mdl_list_remove(&e->link);
    mdl_batch_free(e->batch);
    if (e->inside) mdl_handle_leave(e->handle);
    free(e->streams);
    free(e);
}

static medleyResult_t note_stream(struct entry *e, void *stream)
{
    void **more;

    if (!stream) {
        e->sync = true;
        return medleySuccess;
    }
    for (int i = 0; i < e->nstreams; i++) {
        if (e->streams[i] == stream) return medleySuccess;
    }
    more = realloc(e->streams, (size_t)(e->nstreams + 1) * sizeof(*more));
    if (!more) return mdl_error(medleySystemError, "out of memory for a group");
    e->streams = more;
    e->streams[e->nstreams++] = stream;
    return medleySuccess;
}

static struct entry *entry_of(medleyComm_t handle)
{
    struct entry *e;

    mdl_list_each (it, &group.entries) {
        e = mdl_container_of(it, struct entry, link);
        if (e->handle == handle && e->serial == mdl_handle_serial(handle)) return e;
    }
    e = calloc(1, sizeof(*e));
    if (!e) return NULL;
    e->handle = handle;
    e->serial = mdl_handle_serial(handle);
    e->batch = mdl_batch_new(handle->impl);
    if (!e->batch) {
        free(e);
        return NULL;
    }
    mdl_list_append(&group.entries, &e->link);
    return e;
}

/* Queues a batch and, for NULL streams of a blocking communicator, waits for it. */
static medleyResult_t issue_queued(struct mdl_comm *c, struct mdl_batch *b, void *const *streams, int n, bool sync)
{
    MDL_TRY(mdl_queue_submit(b, streams, n));
    if (!sync) return medleySuccess;
    if (!c->blocking) return medleyInProgress;
    mdl_queue_drain(c);
    return mdl_comm_fault(c);
}

static medleyResult_t issue_one(medleyComm_t handle, struct mdl_op *op, void *stream)
{
    struct mdl_comm *c = handle->impl;
    struct mdl_batch *b = mdl_batch_new(c);
    medleyResult_t res;

    if (!b) {
        mdl_op_fini(op);
        free(op);
        return mdl_error(medleySystemError, "out of memory for an operation");
    }
    mdl_batch_add(b, op);
    if (stream || !c->blocking || mdl_queue_busy(c)) return issue_queued(c, b, &stream, stream != NULL, stream == NULL);
    res = mdl_drive(&b, 1);
    mdl_batch_free(b);
    return res;
}

medleyResult_t mdl_group_op(medleyComm_t handle, struct mdl_op *op, void *stream)
{
    struct entry *e;

    if (group.depth == 0) return mdl_handle_return(handle, issue_one(handle, op, stream));
    e = entry_of(handle);
    if (!e || note_stream(e, stream) != medleySuccess) {
        mdl_op_fini(op);
        free(op);
        return mdl_handle_return(handle, mdl_error(medleySystemError, "out of memory for a group"));
    }
    mdl_batch_add(e->batch, op);
    mdl_handle_leave(handle); /* until the group's end */
    return medleySuccess;
}

/* ---- operations of ranks with devices: their work goes to the vendors' streams ---- */

static medleyResult_t issue_on_device(medleyComm_t handle, struct mdl_op *op)
{
    struct mdl_batch *b = mdl_batch_new(handle->impl);
    medleyResult_t res;

    if (!b) {
        mdl_op_fini(op);
        free(op);
        return mdl_error(medleySystemError, "out of memory for an operation");
    }
    mdl_batch_add(b, op);
    res = mdl_launch_reserve(&b, 1);
    if (res == medleySuccess) return mdl_launch(&b, 1);
    mdl_batch_free(b);
    return res;
}

medleyResult_t mdl_group_op_on_device(medleyComm_t handle, struct mdl_op *op)
{
    struct entry *e;

    if (group.depth == 0) return mdl_handle_return(handle, issue_on_device(handle, op));
    e = entry_of(handle);
    if (!e) {
        mdl_op_fini(op);
        free(op);
        return mdl_handle_return(handle, mdl_error(medleySystemError, "out of memory for a group"));
    }
    e->on_device = true;
    mdl_launch_number(op, group.issued++);
    mdl_batch_add(e->batch, op);
    mdl_handle_leave(handle); /* until the group's end */
    return medleySuccess;
}

/* All of a group at once, since they may need each other. */
static int list_devices(struct mdl_batch **list)
{
    int n = 0;

    mdl_list_each (it, &group.entries) {
        struct entry *e = mdl_container_of(it, struct entry, link);
        if (e->on_device) list[n++] = e->batch;
    }
    return n;
}

static medleyResult_t launch(struct mdl_batch *const *list, int n)
{
    mdl_list_each (it, &group.entries) {
        struct entry *e = mdl_container_of(it, struct entry, link);
        if (e->on_device) e->batch = NULL;
    }
    return mdl_launch(list, n);
}

/* ---- start and end ---- */

static medleyResult_t enter_entries(void)
{
    struct mdl_comm *c;

    mdl_list_each (it, &group.entries) {
        struct entry *e = mdl_container_of(it, struct entry, link);
        MDL_TRY(mdl_handle_enter_again(e->handle, e->serial, &c));
        e->inside = true;
    }
    return medleySuccess;
}

/* Queues all that is not to run in this thread, which goes to `now`: all are queued before any is waited for, since they
 * may need each other; with `all` none is left. */
static medleyResult_t queue_entries(bool all, struct mdl_batch **now, int *nnow)
{
    medleyResult_t res = medleySuccess, one;

    mdl_list_each (it, &group.entries) {
        struct entry *e = mdl_container_of(it, struct entry, link);
        struct mdl_comm *c = e->handle->impl;
        struct mdl_batch *b = e->batch;

        if (e->on_device) continue;
        if (!all && !e->nstreams && c->blocking && !mdl_queue_busy(c)) {
            now[(*nnow)++] = b;
            continue;
        }
        e->batch = NULL;
        one = mdl_queue_submit(b, e->streams, e->nstreams);
        if (one == medleySuccess && e->sync && !c->blocking) one = medleyInProgress;
        if (res == medleySuccess || res == medleyInProgress) res = one == medleySuccess ? res : one;
    }
    return res;
}

static medleyResult_t wait_for_queued(medleyResult_t res)
{
    mdl_list_each (it, &group.entries) {
        struct entry *e = mdl_container_of(it, struct entry, link);
        struct mdl_comm *c = e->handle->impl;
        if (e->batch || !e->sync || !c->blocking) continue;
        mdl_queue_drain(c);
        if (mdl_comm_failed(c)) res = mdl_comm_fault(c);
    }
    return res;
}

/* Nothing of the group is issued: the peers of all its communicators would wait for it for ever. */
static medleyResult_t fail_entries(medleyResult_t res)
{
    mdl_list_each (it, &group.entries) {
        struct mdl_comm *c = mdl_container_of(it, struct entry, link)->handle->impl;
        if (!mdl_comm_failed(c)) mdl_comm_fail_here(c, res);
    }
    return res;
}

static medleyResult_t issue_in(struct mdl_batch **now, struct mdl_batch **devices)
{
    int nnow = 0, ndevices = list_devices(devices);
    medleyResult_t res, one = medleySuccess;

    res = mdl_launch_reserve(devices, ndevices);
    if (res != medleySuccess) return fail_entries(res);
    res = queue_entries(ndevices > 0, now, &nnow);
    if (ndevices) one = launch(devices, ndevices);
    if (nnow) one = mdl_drive(now, nnow);
    return wait_for_queued(one == medleySuccess ? res : one);
}

static medleyResult_t issue_entries(void)
{
    struct mdl_batch **room;
    medleyResult_t res;
    int n = 0;

    mdl_list_each (it, &group.entries) n++;
    if (n == 0) return medleySuccess;
    MDL_TRY(enter_entries());
    room = calloc(2 * (size_t)n, sizeof(*room));
    if (!room) return mdl_error(medleySystemError, "out of memory for a group of %d communicators", n);
    res = issue_in(room, room + n);
    free(room);
    return res;
}

static void drop_all(void)
{
    mdl_list_each (it, &group.jobs) {
        struct mdl_job *job = mdl_container_of(it, struct mdl_job, link);
        mdl_list_remove(&job->link);
        job->free(job);
    }
    mdl_list_each (it, &group.entries) free_entry(mdl_container_of(it, struct entry, link));
}

/* ---- a thread that ends inside a group ---- */

static pthread_key_t leaving;
static pthread_once_t leaving_once = PTHREAD_ONCE_INIT;
static bool leaving_known;

static void leave(void *unused)
{
    (void)unused;
    if (group.depth == 0) return;
    group.depth = 0;
    drop_all();
}

static void leaving_init(void) { leaving_known = pthread_key_create(&leaving, leave) == 0; }

/* Makes `leave` run at the end of this thread. Without it, which takes a process with too many keys, what an open group
 * holds would be lost; nothing else. */
static void watch_thread(void)
{
    pthread_once(&leaving_once, leaving_init);
    if (leaving_known && !pthread_getspecific(leaving)) (void)pthread_setspecific(leaving, &group);
}

medleyResult_t medleyGroupStart(void)
{
    MDL_TRY(mdl_process_check());
    if (group.depth == 0) {
        watch_thread();
        mdl_list_init(&group.entries);
        mdl_list_init(&group.jobs);
        group.error = medleySuccess;
        group.behind = false;
    }
    group.depth++;
    return medleySuccess;
}

medleyResult_t medleyGroupEnd(void)
{
    medleyResult_t res, behind = medleySuccess;

    MDL_TRY(mdl_process_check());
    if (group.depth == 0)
        return mdl_error(medleyInvalidUsage, "medleyGroupEnd without medleyGroupStart on this thread");
    if (--group.depth > 0) return medleySuccess;
    res = group.error;
    if (res == medleySuccess) res = behind = start_behind();
    if (res == medleySuccess || res == medleyInProgress) res = run_jobs();
    if (res == medleySuccess) res = issue_entries();
    drop_all();
    if (res == medleySuccess && group.behind) return medleyInProgress;
    return res == medleySuccess ? behind : res;
}

medleyResult_t medleyGroupSimulateEnd(medleySimInfo_t *info)
{
    (void)info;
    return mdl_error(medleyInvalidUsage, "medleyGroupSimulateEnd is not supported");
}
