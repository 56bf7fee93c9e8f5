/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host functions of ACL libraries that have no LaunchHostFunc: a stream is subscribed to a thread, which runs the
 * stream's functions while it asks for them (ProcessReport). One such thread for each device, from the first host
 * function on until the process ends, as other uses of the library may outlive any communicator.
 *
 * A stream can be subscribed once. What was subscribed is remembered, since a second try is an error like any other;
 * but a stream that the program destroyed may come again at the same address, so it is tried, and the memory only says
 * how an error is meant.
 */
#include "config.h"

#include "devices/acl.h"
#include "lib/base/status.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_DEVICES = 64, ASK_MS = 1000, BLOCK_STREAM = 1, NAP_NS = 1000000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool started;
    pthread_t thread;
} reporter[MAX_DEVICES];
static mdl_dev_stream *subscribed;
static size_t nsubscribed, room;

/* An error is mostly that there was nothing for so long; the nap is for those that come at once. */
static void *ask(void *arg)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};

    if (ACL_CHECK(SET_DEVICE, ACL(SET_DEVICE, int32_t)((int32_t)(intptr_t)arg)) != medleySuccess) return NULL;
    for (;;)
        if (ACL(PROCESS_REPORT, int32_t)(ASK_MS) != 0) nanosleep(&nap, NULL);
    return NULL;
}

/* With the lock. */
static medleyResult_t start_reporter(int ordinal)
{
    int err;

    if (ordinal < 0 || ordinal >= MAX_DEVICES)
        return mdl_error(medleyInvalidUsage, "host functions on device %d: at most %d devices", ordinal, MAX_DEVICES);
    if (reporter[ordinal].started) return medleySuccess;
    err = pthread_create(&reporter[ordinal].thread, NULL, ask, (void *)(intptr_t)ordinal);
    if (err) return mdl_error(medleySystemError, "no thread for host functions: %s", strerror(err));
    pthread_detach(reporter[ordinal].thread);
    reporter[ordinal].started = true;
    return medleySuccess;
}

/* With the lock: its index, or -1. */
static long find(mdl_dev_stream stream)
{
    for (size_t i = 0; i < nsubscribed; i++)
        if (subscribed[i] == stream) return (long)i;
    return -1;
}

/* With the lock. */
static medleyResult_t make_room(void)
{
    mdl_dev_stream *more;

    if (nsubscribed < room) return medleySuccess;
    more = realloc(subscribed, (2 * room + 16) * sizeof(*more));
    if (!more) return mdl_error(medleySystemError, "out of memory for a host function");
    subscribed = more;
    room = 2 * room + 16;
    return medleySuccess;
}

/* With the lock. */
static medleyResult_t subscribe(mdl_dev_stream stream, int ordinal)
{
    int rc;

    MDL_TRY(make_room());
    rc = ACL(SUBSCRIBE, uint64_t, void *)((uint64_t)reporter[ordinal].thread, stream);
    if (find(stream) >= 0) return medleySuccess;
    MDL_TRY(ACL_CHECK(SUBSCRIBE, rc));
    subscribed[nsubscribed++] = stream;
    return medleySuccess;
}

medleyResult_t mdl_acl_report(mdl_dev_stream stream, void (*fn)(void *), void *arg)
{
    int32_t ordinal = -1;
    medleyResult_t res;

    MDL_TRY(ACL_CHECK(GET_DEVICE, ACL(GET_DEVICE, int32_t *)(&ordinal)));
    pthread_mutex_lock(&lock);
    res = start_reporter(ordinal);
    if (res == medleySuccess) res = subscribe(stream, ordinal);
    pthread_mutex_unlock(&lock);
    MDL_TRY(res);
    return ACL_CHECK(LAUNCH_CALLBACK,
                     ACL(LAUNCH_CALLBACK, void (*)(void *), void *, int, void *)(fn, arg, BLOCK_STREAM, stream));
}

void mdl_acl_forget_stream(mdl_dev_stream stream)
{
    long i;

    pthread_mutex_lock(&lock);
    i = find(stream);
    if (i >= 0) subscribed[i] = subscribed[--nsubscribed];
    pthread_mutex_unlock(&lock);
}
