/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flags that lists set and wait for: events of Level Zero from pools that grow by chunks and stay.
 *
 * Level Zero leaves it to its user that no list refers to an event that is destroyed. So a flag that nobody holds any
 * more is retired, and it is destroyed when it has been set: by then the list is past it. A flag that lists wait for is
 * held by a receipt, another flag that the waiting list sets behind the wait.
 */
#include "config.h"

#include "devices/ze.h"
#include "lib/base/status.h"

#include <stdlib.h>

enum { CHUNK = 64, HOST_VISIBLE = 1 << 0, SCOPE_HOST = 1 << 2 };

struct chunk {
    struct mdl_list link; /* in the driver's */
    mdl_ze pool;
    uint64_t taken; /* a bit each */
};

struct mdl_ze_flag {
    struct mdl_list link; /* among the retired */
    struct mdl_ze_driver *driver;
    struct chunk *chunk;
    uint32_t index;
    int holders;
    mdl_ze event;
    struct mdl_ze_flag *kept; /* held until this one is set */
};

mdl_ze mdl_ze_flag_event(const struct mdl_ze_flag *flag) { return flag->event; }

medleyResult_t mdl_ze_flag_query(const struct mdl_ze_flag *flag)
{
    uint32_t rc = mdl_ze_call.EventQueryStatus(flag->event);

    return rc == MDL_ZE_NOT_READY ? medleyInProgress : mdl_ze_check(rc, "EventQueryStatus");
}

/* With the driver's lock, as all that follow. */
static void release(struct mdl_ze_flag *flag)
{
    if (--flag->holders == 0) mdl_list_append(&flag->driver->retired, &flag->link);
}

static void destroy(struct mdl_ze_flag *flag)
{
    (void)mdl_ze_check(mdl_ze_call.EventDestroy(flag->event), "EventDestroy");
    flag->chunk->taken &= ~((uint64_t)1 << flag->index);
    mdl_list_remove(&flag->link);
    if (flag->kept) release(flag->kept);
    free(flag);
}

static void sweep(struct mdl_ze_driver *driver)
{
    mdl_list_each (it, &driver->retired) {
        struct mdl_ze_flag *flag = mdl_container_of(it, struct mdl_ze_flag, link);
        if (mdl_ze_call.EventQueryStatus(flag->event) == 0) destroy(flag);
    }
}

static medleyResult_t add_chunk(struct mdl_ze_driver *driver, struct chunk **out)
{
    const struct mdl_ze_desc desc = {.stype = MDL_ZE_EVENT_POOL, .word = {HOST_VISIBLE, CHUNK}};
    struct chunk *c = calloc(1, sizeof(*c));
    medleyResult_t res;

    if (!c) return mdl_error(medleySystemError, "out of memory for events");
    res = mdl_ze_check(mdl_ze_call.EventPoolCreate(driver->context, &desc, 0, NULL, &c->pool), "EventPoolCreate");
    if (res != medleySuccess) {
        free(c);
        return res;
    }
    mdl_list_append(&driver->chunks, &c->link);
    *out = c;
    return medleySuccess;
}

static medleyResult_t find_room(struct mdl_ze_driver *driver, struct chunk **out)
{
    mdl_list_each (it, &driver->chunks) {
        struct chunk *c = mdl_container_of(it, struct chunk, link);
        if (c->taken == UINT64_MAX) continue;
        *out = c;
        return medleySuccess;
    }
    return add_chunk(driver, out);
}

static medleyResult_t make(struct mdl_ze_driver *driver, struct mdl_ze_flag *flag)
{
    struct mdl_ze_desc desc = {.stype = MDL_ZE_EVENT, .word = {0, SCOPE_HOST, SCOPE_HOST}};

    sweep(driver);
    MDL_TRY(find_room(driver, &flag->chunk));
    while (flag->chunk->taken >> flag->index & 1) flag->index++;
    desc.word[0] = flag->index;
    MDL_ZE_TRY(EventCreate, flag->chunk->pool, &desc, &flag->event);
    flag->chunk->taken |= (uint64_t)1 << flag->index;
    return medleySuccess;
}

medleyResult_t mdl_ze_flag_take(struct mdl_ze_driver *driver, struct mdl_ze_flag **out)
{
    struct mdl_ze_flag *flag = calloc(1, sizeof(*flag));
    medleyResult_t res;

    if (!flag) return mdl_error(medleySystemError, "out of memory for an event");
    flag->driver = driver;
    flag->holders = 1;
    mdl_list_init(&flag->link);
    pthread_mutex_lock(&driver->lock);
    res = make(driver, flag);
    pthread_mutex_unlock(&driver->lock);
    if (res != medleySuccess) {
        free(flag);
        return res;
    }
    *out = flag;
    return medleySuccess;
}

void mdl_ze_flag_drop(struct mdl_ze_flag *flag)
{
    struct mdl_ze_driver *driver = flag->driver;

    pthread_mutex_lock(&driver->lock);
    release(flag);
    pthread_mutex_unlock(&driver->lock);
}

void mdl_ze_flag_hold(struct mdl_ze_flag *flag)
{
    pthread_mutex_lock(&flag->driver->lock);
    flag->holders++;
    pthread_mutex_unlock(&flag->driver->lock);
}

void mdl_ze_flag_keep(struct mdl_ze_flag *receipt, struct mdl_ze_flag *kept)
{
    mdl_ze_flag_hold(kept);
    receipt->kept = kept;
}
