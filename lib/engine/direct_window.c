/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The windows of this process (direct.h). A window goes when its owner and all ranks of the process that read it have
 * let it go, and its device is calm (load.h). One that another process may still have open must not be freed; it waits
 * here for the next communicator that needs one, which may use it at once, since others only read what is in it.
 */
#include "config.h"

#include "lib/engine/direct.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    struct mdl_list list;
    bool made;
    uint64_t process;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    pthread_mutex_lock(&all.lock);
    if (!all.made) mdl_list_init(&all.list);
    all.made = true;
}

uint64_t mdl_window_process(void)
{
    uint64_t p;

    lock();
    if (!all.process && getrandom(&all.process, sizeof(all.process), 0) != sizeof(all.process))
        all.process = (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)&all ^ mdl_now_ns();
    p = all.process;
    pthread_mutex_unlock(&all.lock);
    return p;
}

uint32_t mdl_window_pids(void)
{
    struct stat st;

    return stat("/proc/self/ns/pid", &st) == 0 ? (uint32_t)st.st_ino : 0;
}

/* One that was kept, or NULL. */
static struct mdl_window *find_kept(const struct mdl_dev *dev, size_t bytes)
{
    mdl_list_each (it, &all.list) {
        struct mdl_window *w = mdl_container_of(it, struct mdl_window, link);
        if (w->holders == 0 && w->dev.ops == dev->ops && w->dev.ordinal == dev->ordinal && w->bytes == bytes) return w;
    }
    return NULL;
}

/* With the device entered. */
medleyResult_t mdl_window_take(const struct mdl_dev *dev, size_t bytes, struct mdl_window **out)
{
    struct mdl_window *w;
    medleyResult_t res;
    void *base;

    lock();
    w = find_kept(dev, bytes);
    if (w) w->holders = 1;
    pthread_mutex_unlock(&all.lock);
    *out = w;
    if (w) return medleySuccess;
    w = calloc(1, sizeof(*w));
    if (!w) return mdl_error(medleySystemError, "out of memory for a device");
    res = dev->ops->alloc(dev->ops, bytes, &base);
    if (res != medleySuccess) {
        free(w);
        return res;
    }
    *w = (struct mdl_window){.dev = *dev, .base = base, .bytes = bytes, .holders = 1};
    lock();
    mdl_list_append(&all.list, &w->link);
    pthread_mutex_unlock(&all.lock);
    *out = w;
    return medleySuccess;
}

struct mdl_window *mdl_window_hold(const struct mdl_dev *dev, uint64_t base)
{
    struct mdl_window *found = NULL;

    lock();
    mdl_list_each (it, &all.list) {
        struct mdl_window *w = mdl_container_of(it, struct mdl_window, link);
        if ((uint64_t)(uintptr_t)w->base == base && w->dev.ops == dev->ops && w->dev.ordinal == dev->ordinal &&
            w->holders)
            found = w;
    }
    if (found) found->holders++;
    pthread_mutex_unlock(&all.lock);
    return found;
}

void mdl_window_drop(struct mdl_window *w)
{
    if (!w) return;
    lock();
    w->holders--;
    pthread_mutex_unlock(&all.lock);
}

/* With the lock. Its device may not be the caller's. */
static void free_window(struct mdl_window *w)
{
    const struct mdl_dev dev = w->dev;
    struct mdl_dev_visit visit;

    mdl_list_remove(&w->link);
    if (mdl_dev_enter(&dev, &visit) == medleySuccess) {
        (void)dev.ops->free(dev.ops, w->base);
        mdl_dev_leave(&dev, &visit);
    }
    free(w);
}

void mdl_window_free_idle(void)
{
    lock();
    mdl_list_each (it, &all.list) {
        struct mdl_window *w = mdl_container_of(it, struct mdl_window, link);
        struct mdl_load *load;
        if (w->holders || w->kept || mdl_load_find(&w->dev, &load) != medleySuccess || !mdl_load_pause(load, 0)) continue;
        free_window(w);
        mdl_load_resume(load);
    }
    pthread_mutex_unlock(&all.lock);
}
