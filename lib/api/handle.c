/* SPDX-License-Identifier: Apache-2.0 */
/* Shells of communicators, and the guard against use in a forked child. */
#include "config.h"

#include "lib/api/handle.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t shells_lock = PTHREAD_MUTEX_INITIALIZER;
static medleyComm_t free_shells;

/* A page that the kernel wipes in a forked child: cheaper than asking for the process id at every call. */
static pthread_once_t guard_once = PTHREAD_ONCE_INIT;
static const volatile char *guard;
static pid_t guard_pid;

static void guard_init(void)
{
    size_t len = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    guard_pid = getpid();
    if (p == MAP_FAILED) return;
    *p = 1;
#ifdef MADV_WIPEONFORK
    if (madvise(p, len, MADV_WIPEONFORK) == 0) {
        guard = p;
        return;
    }
#endif
    munmap(p, len);
}

static bool is_forked(void)
{
    pthread_once(&guard_once, guard_init);
    return guard ? *guard == 0 : getpid() != guard_pid;
}

medleyResult_t mdl_process_check(void)
{
    if (!is_forked()) return medleySuccess;
    return mdl_error(medleyInvalidUsage, "this process was forked from one that had used Medley; a child cannot use "
                                         "it: start it with exec, or fork before the first call");
}

medleyResult_t mdl_handle_new(struct mdl_comm *impl, medleyComm_t *handle)
{
    medleyComm_t h;

    pthread_mutex_lock(&shells_lock);
    h = free_shells;
    if (h) free_shells = h->next_free;
    pthread_mutex_unlock(&shells_lock);
    if (!h) {
        h = calloc(1, sizeof(*h));
        if (!h) return mdl_error(medleySystemError, "out of memory for a communicator");
    }
    h->impl = impl;
    atomic_fetch_add_explicit(&h->serial, 1, memory_order_relaxed); /* the gate's release publishes it */
    h->has_thread = h->has_worker = false;
    atomic_store_explicit(&h->finalized, false, memory_order_relaxed);
    atomic_store_explicit(&h->working, false, memory_order_relaxed);
    atomic_store_explicit(&h->init, MDL_INIT_NONE, memory_order_relaxed);
    atomic_store_explicit(&h->gate, 0, memory_order_release);
    *handle = h;
    return medleySuccess;
}

bool mdl_handle_claim(medleyComm_t h)
{
    return !(atomic_fetch_or_explicit(&h->gate, MDL_GATE_CLAIMED, memory_order_acq_rel) & MDL_GATE_CLAIMED);
}

void mdl_handle_close(medleyComm_t h)
{
    const struct timespec pause = {.tv_nsec = 50000};

    atomic_fetch_or_explicit(&h->gate, MDL_GATE_CLOSED, memory_order_acq_rel);
    while (atomic_load_explicit(&h->gate, memory_order_acquire) & ~(MDL_GATE_CLOSED | MDL_GATE_CLAIMED))
        nanosleep(&pause, NULL);
    if (h->has_worker) pthread_join(h->worker, NULL);
    h->has_worker = false;
}

void mdl_handle_recycle(medleyComm_t h)
{
    h->impl = NULL;
    pthread_mutex_lock(&shells_lock);
    h->next_free = free_shells;
    free_shells = h;
    pthread_mutex_unlock(&shells_lock);
}

medleyResult_t mdl_handle_enter(medleyComm_t h, struct mdl_comm **c)
{
    if (!h) return mdl_error(medleyInvalidArgument, "the communicator is NULL");
    MDL_TRY(mdl_process_check());
    if (atomic_fetch_add_explicit(&h->gate, 1, memory_order_acquire) & MDL_GATE_CLOSED) {
        mdl_handle_leave(h);
        return mdl_error(medleyInvalidUsage, "the communicator has been destroyed or aborted");
    }
    *c = h->impl;
    return medleySuccess;
}

medleyResult_t mdl_handle_enter_again(medleyComm_t h, uint64_t serial, struct mdl_comm **c)
{
    MDL_TRY(mdl_handle_enter(h, c));
    if (mdl_handle_serial(h) == serial) return medleySuccess;
    mdl_handle_leave(h);
    return mdl_error(medleyInvalidUsage, "the communicator was destroyed or aborted before the group's end");
}

medleyResult_t mdl_handle_working(void)
{
    return mdl_error(medleyInvalidUsage, "a split, shrink or window of the communicator is still at work: wait until "
                                         "medleyCommGetAsyncError does not say medleyInProgress any more");
}

medleyResult_t mdl_handle_enter_ready(medleyComm_t h, struct mdl_comm **c)
{
    medleyResult_t res;

    MDL_TRY(mdl_handle_enter(h, c));
    if (atomic_load_explicit(&h->init, memory_order_acquire) == MDL_INIT_RUNNING)
        res = mdl_error(medleyInvalidUsage,
                        "the communicator is still being made: wait until medleyCommGetAsyncError says medleySuccess");
    else if (mdl_comm_failed(*c))
        res = mdl_comm_fault(*c);
    else if (atomic_load_explicit(&h->working, memory_order_acquire))
        res = mdl_handle_working();
    else if (atomic_load_explicit(&h->finalized, memory_order_relaxed))
        res = mdl_error(medleyInvalidUsage, "the communicator was finalized");
    else
        return medleySuccess;
    return mdl_handle_return(h, res);
}

void mdl_handle_leave(medleyComm_t h) { atomic_fetch_sub_explicit(&h->gate, 1, memory_order_release); }

medleyResult_t mdl_handle_return(medleyComm_t h, medleyResult_t res)
{
    struct mdl_comm *c = h->impl;

    if (res != medleySuccess && res != medleyInProgress) {
        pthread_mutex_lock(&c->fault_lock);
        snprintf(c->last_text, sizeof(c->last_text), "%s", mdl_error_text());
        pthread_mutex_unlock(&c->fault_lock);
    }
    mdl_handle_leave(h);
    return res;
}

medleyResult_t mdl_handle_refuse(medleyComm_t h, medleyResult_t res)
{
    if (!h || is_forked()) return res;
    if (!(atomic_fetch_add_explicit(&h->gate, 1, memory_order_acquire) & MDL_GATE_CLOSED))
        return mdl_handle_return(h, res);
    mdl_handle_leave(h);
    return res;
}
