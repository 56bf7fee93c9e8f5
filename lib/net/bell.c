/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bells: see bell.h. The descriptors of the shared ones are open while somebody holds bells. Those of the others are
 * open during a sleep only, and are rung under the lock, so that a late ring meets no descriptor that is somebody
 * else's by then.
 */
#include "config.h"
#include "lib/net/bell.h"
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int holds;                        /* under lock, with the next two */
static uint64_t number;                  /* of the shared ones */
static bool taken[MDL_BELLS_MAX];        /* by a thread that sleeps */
static _Atomic int fd_of[MDL_BELLS_MAX]; /* + 1; 0: not open */

static _Thread_local struct {
    int bell, times;
} mine;

int mdl_bell_fd(int bell)
{
    /* Relaxed: who knows the number got it after the descriptor was stored. */
    return bell < 0 || bell >= MDL_BELLS_MAX ? -1 : atomic_load_explicit(&fd_of[bell], memory_order_relaxed) - 1;
}

static bool open_bell(int bell)
{
    if (mdl_bell_fd(bell) >= 0) return true;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd >= 0) atomic_store_explicit(&fd_of[bell], fd + 1, memory_order_relaxed);
    return fd >= 0;
}

static void close_bell(int bell)
{
    int fd = atomic_exchange_explicit(&fd_of[bell], 0, memory_order_relaxed) - 1;
    if (fd >= 0) close(fd);
}

static void close_shared(void)
{
    for (int i = 0; i < MDL_BELLS_SHARED; i++) close_bell(i);
}

medleyResult_t mdl_bells_hold(void)
{
    int err = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MDL_BELLS_SHARED && !err; i++) err = open_bell(i) ? 0 : errno;
    if (!err && holds++ == 0) randombytes_buf(&number, sizeof(number));
    if (err && !holds) close_shared();
    pthread_mutex_unlock(&lock);
    return err ? mdl_system_error(err, "an eventfd for threads that sleep cannot be made") : medleySuccess;
}

void mdl_bells_release(void)
{
    pthread_mutex_lock(&lock);
    if (--holds == 0) close_shared();
    pthread_mutex_unlock(&lock);
}

uint64_t mdl_bells_shared(int fds[MDL_BELLS_SHARED])
{
    pthread_mutex_lock(&lock);
    uint64_t n = number;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < MDL_BELLS_SHARED; i++) fds[i] = mdl_bell_fd(i);
    return n;
}

int mdl_bell_take(void)
{
    if (mine.times > 0) {
        mine.times++;
        return mine.bell;
    }
    int bell = 0;
    pthread_mutex_lock(&lock);
    while (bell < MDL_BELLS_MAX && taken[bell]) bell++;
    bool good = bell < MDL_BELLS_MAX && open_bell(bell);
    if (good) taken[bell] = true;
    pthread_mutex_unlock(&lock);
    if (!good) return -1;
    mine.bell = bell;
    mine.times = 1;
    return bell;
}

void mdl_bell_give(void)
{
    uint64_t count;
    if (mine.times == 0 || --mine.times > 0) return;
    bool shared = mine.bell < MDL_BELLS_SHARED;
    while (shared && read(mdl_bell_fd(mine.bell), &count, sizeof(count)) < 0 && errno == EINTR) {}
    pthread_mutex_lock(&lock);
    if (!shared) close_bell(mine.bell);
    taken[mine.bell] = false;
    pthread_mutex_unlock(&lock);
}

static void ring(int bell)
{
    uint64_t one = 1;
    int fd = mdl_bell_fd(bell);
    while (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {}
}

void mdl_bell_ring(int bell)
{
    if (bell < MDL_BELLS_SHARED) {
        ring(bell);
        return;
    }
    pthread_mutex_lock(&lock);
    ring(bell);
    pthread_mutex_unlock(&lock);
}
