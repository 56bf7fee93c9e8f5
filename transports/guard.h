/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps a transport's hands off user memory once it was aborted: the context's thread enters the guard before it
 * touches a buffer and leaves it after a bounded piece of work; abort, on any thread, shuts the guard and waits until
 * nobody is inside.
 *
 * The two words are a Dekker pair: enter stores `inside` then loads `shut`, shut stores `shut` then loads `inside`, all
 * sequentially consistent, so at least one of the two sees the other.
 */
#ifndef MDL_TRANSPORTS_GUARD_H_
#define MDL_TRANSPORTS_GUARD_H_

#include "lib/base/clock.h"
#include "lib/base/status.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

enum { MDL_GUARD_WAIT_S = 10 };

struct mdl_guard {
    _Atomic uint32_t inside;
    _Atomic uint32_t shut;
};

static inline bool mdl_guard_is_shut(struct mdl_guard *g)
{
    return atomic_load_explicit(&g->shut, memory_order_acquire) != 0; /* pairs with mdl_guard_shut */
}

static inline void mdl_guard_leave(struct mdl_guard *g)
{
    atomic_store_explicit(&g->inside, 0, memory_order_release); /* pairs with the wait in mdl_guard_shut */
}

static inline bool mdl_guard_enter(struct mdl_guard *g)
{
    atomic_exchange_explicit(&g->inside, 1, memory_order_seq_cst); /* pairs with mdl_guard_shut */
    if (atomic_load_explicit(&g->shut, memory_order_seq_cst) == 0) return true;
    mdl_guard_leave(g);
    return false;
}

/* Waits until *users is 0; false after MDL_GUARD_WAIT_S: a thread is stuck in a system call. */
static inline bool mdl_guard_await(_Atomic uint32_t *users)
{
    uint64_t deadline = 0;
    for (unsigned turn = 0; atomic_load_explicit(users, memory_order_seq_cst) != 0; turn++) {
        if (turn < 64) {
            sched_yield();
            continue;
        }
        uint64_t now = mdl_now_ns();
        if (deadline == 0) deadline = now + MDL_GUARD_WAIT_S * MDL_NS_PER_S;
        if (now >= deadline) return false;
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
    }
    return true;
}

/* Returns when nobody is inside, or false: see mdl_guard_await. */
static inline bool mdl_guard_shut(struct mdl_guard *g)
{
    atomic_store_explicit(&g->shut, 1, memory_order_seq_cst); /* pairs with mdl_guard_enter */
    return mdl_guard_await(&g->inside);
}

/* What operations answer once the guard is shut. The abort itself has been reported, so nothing is logged. */
static inline medleyResult_t mdl_guard_refuse(void)
{
    return mdl_error_set(medleyInvalidUsage, "the communicator was aborted");
}

#endif
