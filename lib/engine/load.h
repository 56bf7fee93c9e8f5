/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices have calls of this process on their streams. A vendor's call that frees memory waits for all that the
 * device has to do, so while a communicator's call may be held up, and with it the device, no other communicator frees
 * anything: its end would wait for ranks that it knows nothing of, or for ever, where they wait for that end. And while
 * one frees, no other begins a call.
 */
#ifndef MDL_ENGINE_LOAD_H_
#define MDL_ENGINE_LOAD_H_

#include "lib/dev/dev.h"
#include <pthread.h>
#include <stdatomic.h>

/* Of one device; lives as long as the process. */
struct mdl_load {
    struct mdl_load *next;
    const struct mdl_device *ops;
    int ordinal;
    pthread_mutex_t lock;     /* of whoever frees, or counts one more */
    _Atomic uint32_t batches; /* queued and not through */
};

medleyResult_t mdl_load_find(const struct mdl_dev *dev, struct mdl_load **load) MDL_MUST_USE; /* [any thread] */

void mdl_load_add(struct mdl_load *l); /* waits for who frees */

/* Everything that the batch held up has been let go. */
static inline void mdl_load_remove(struct mdl_load *l)
{
    atomic_fetch_sub_explicit(&l->batches, 1, memory_order_release); /* pairs with mdl_load_any */
}

static inline bool mdl_load_any(struct mdl_load *l)
{
    return atomic_load_explicit(&l->batches, memory_order_acquire) != 0; /* pairs with mdl_load_remove */
}

/* True: there is none, and none is added before mdl_load_resume. Those that there are have so long to come to their ends,
 * in which none is added either: otherwise there might always be one. False also while somebody else has paused it. */
bool mdl_load_pause(struct mdl_load *l, uint64_t patience_ns) MDL_MUST_USE;
void mdl_load_resume(struct mdl_load *l);

#endif
