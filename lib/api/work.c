/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread behind a non-blocking communicator. There is one while a job runs; the next call that needs one, or the
 * communicator's end, joins it. The caller is inside the communicator when it starts one, so that whoever closes the
 * gate sees it.
 */
#include "config.h"

#include "lib/api/work.h"
#include "lib/base/thread.h"

#include <stdlib.h>

struct work {
    medleyComm_t handle;
    struct mdl_list jobs;
};

bool mdl_work_busy(medleyComm_t h)
{
    return atomic_load_explicit(&h->working, memory_order_acquire); /* pairs with work_main */
}

static void drop(struct mdl_list *list)
{
    mdl_list_each (it, list) {
        struct mdl_job *job = mdl_container_of(it, struct mdl_job, link);
        mdl_list_remove(it);
        job->free(job);
    }
}

/* An error of a job is in its communicators, parent or child, already. */
static void *work_main(void *arg)
{
    struct work *w = arg;
    medleyComm_t handle = w->handle;

    mdl_list_each (it, &w->jobs) {
        struct mdl_job *job = mdl_container_of(it, struct mdl_job, link);
        if (job->run(job) != medleySuccess) MDL_INFO(MDL_INIT, "a call in the background failed: %s", mdl_error_text());
    }
    drop(&w->jobs);
    free(w);
    atomic_store_explicit(&handle->working, false, memory_order_release); /* pairs with mdl_work_busy */
    return NULL;
}

static medleyResult_t start(medleyComm_t handle, struct work *w)
{
    int err;

    if (mdl_work_busy(handle))
        return mdl_error(medleyInvalidUsage, "an earlier call of this communicator is still at work");
    if (handle->has_worker) pthread_join(handle->worker, NULL);
    handle->has_worker = false;
    atomic_store_explicit(&handle->working, true, memory_order_relaxed);
    err = mdl_thread_start(work_main, w, &handle->worker);
    if (err) {
        atomic_store_explicit(&handle->working, false, memory_order_relaxed);
        return mdl_system_error(err, "cannot start a thread for a call of a non-blocking communicator");
    }
    handle->has_worker = true;
    return medleyInProgress;
}

medleyResult_t mdl_work_start(medleyComm_t handle, uint64_t serial, struct mdl_list *list)
{
    struct mdl_comm *c;
    struct work *w = malloc(sizeof(*w));
    medleyResult_t res = mdl_handle_enter_again(handle, serial, &c);

    if (res != medleySuccess) {
        free(w);
        drop(list);
        return res;
    }
    if (!w) {
        drop(list);
        return mdl_handle_return(handle, mdl_error(medleySystemError, "out of memory for a call"));
    }
    w->handle = handle;
    mdl_list_init(&w->jobs);
    mdl_list_each (it, list) {
        mdl_list_remove(it);
        mdl_list_append(&w->jobs, it);
    }
    res = start(handle, w);
    if (res != medleyInProgress) {
        drop(&w->jobs);
        free(w);
        if (res != medleyInvalidUsage) mdl_comm_fail_here(c, res); /* the others are in a call that will not come */
    }
    return mdl_handle_return(handle, res);
}
