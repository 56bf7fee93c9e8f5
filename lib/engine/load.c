/* SPDX-License-Identifier: Apache-2.0 */
/* See load.h. There are few devices: they are searched one by one. */
#include "config.h"

#include "lib/engine/load.h"

#include "lib/base/clock.h"
#include "lib/base/status.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static struct {
    pthread_mutex_t lock;
    struct mdl_load *first;
} loads = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct mdl_load *find(const struct mdl_dev *dev)
{
    struct mdl_load *l = loads.first;

    while (l && (l->ops != dev->ops || l->ordinal != dev->ordinal)) l = l->next;
    return l;
}

medleyResult_t mdl_load_find(const struct mdl_dev *dev, struct mdl_load **load)
{
    struct mdl_load *l;

    pthread_mutex_lock(&loads.lock);
    l = find(dev);
    if (!l && (l = calloc(1, sizeof(*l)))) {
        l->ops = dev->ops;
        l->ordinal = dev->ordinal;
        pthread_mutex_init(&l->lock, NULL);
        l->next = loads.first;
        loads.first = l;
    }
    pthread_mutex_unlock(&loads.lock);
    *load = l;
    return l ? medleySuccess : mdl_error(medleySystemError, "out of memory for a device");
}

void mdl_load_add(struct mdl_load *l)
{
    pthread_mutex_lock(&l->lock);
    atomic_fetch_add_explicit(&l->batches, 1, memory_order_relaxed);
    pthread_mutex_unlock(&l->lock);
}

bool mdl_load_pause(struct mdl_load *l, uint64_t patience_ns)
{
    const struct timespec nap = {.tv_nsec = 50000};
    uint64_t until = mdl_now_ns() + patience_ns;

    if (pthread_mutex_trylock(&l->lock) != 0) return false;
    while (mdl_load_any(l)) {
        if (mdl_now_ns() >= until) {
            pthread_mutex_unlock(&l->lock);
            return false;
        }
        nanosleep(&nap, NULL);
    }
    return true;
}

void mdl_load_resume(struct mdl_load *l) { pthread_mutex_unlock(&l->lock); }
