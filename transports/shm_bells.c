/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waking. A rank that sleeps has the number of its thread's bell (lib/net/bell.h) in its front page; who stores
 * something that it may wait for clears that word and rings. Bells of another process come with the handover; they are
 * the same for all communicators, so only the first set is kept. One that did not come is rung by the other's monitor.
 */
#include "config.h"
#include "lib/net/bell.h"
#include "transports/shm.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct mdl_shm_bells {
    struct mdl_list link;
    int refs;
    const void *connection; /* of the process that they belong to: nobody else can pass for it */
    uint64_t number;
    int fds[MDL_BELLS_SHARED];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mdl_list known = {&known, &known}; /* under lock, with the refs */

static void close_fds(const int *fds)
{
    for (int i = 0; i < MDL_BELLS_SHARED; i++) close(fds[i]);
}

static struct mdl_shm_bells *find(const void *connection, uint64_t number)
{
    mdl_list_each (it, &known) {
        struct mdl_shm_bells *b = mdl_container_of(it, struct mdl_shm_bells, link);
        if (b->connection == connection && b->number == number) return b;
    }
    return NULL;
}

struct mdl_shm_bells *mdl_shm_bells_get(const void *connection, uint64_t number, const int *fds)
{
    pthread_mutex_lock(&lock);
    struct mdl_shm_bells *b = find(connection, number);
    bool there = b != NULL;
    if (!b && (b = calloc(1, sizeof(*b)))) {
        b->connection = connection;
        b->number = number;
        memcpy(b->fds, fds, sizeof(b->fds));
        mdl_list_append(&known, &b->link);
    }
    if (b) b->refs++;
    pthread_mutex_unlock(&lock);
    if (there || !b) close_fds(fds);
    return b;
}

void mdl_shm_bells_hold(struct mdl_shm_bells *b)
{
    pthread_mutex_lock(&lock);
    b->refs++;
    pthread_mutex_unlock(&lock);
}

void mdl_shm_bells_put(struct mdl_shm_bells *b)
{
    if (!b) return;
    pthread_mutex_lock(&lock);
    bool last = --b->refs == 0;
    if (last) mdl_list_remove(&b->link);
    pthread_mutex_unlock(&lock);
    if (!last) return;
    close_fds(b->fds);
    free(b);
}

/* ---- ringing ---- */

/* The bell of the owner of `front`, who does not sleep from now on; -1: it does not. */
static int who_sleeps(struct mdl_shm_front *front)
{
    mdl_fence(); /* between the caller's store and this load; pairs with the fence in arm */
    if (atomic_load_explicit(&front->sleeping, memory_order_relaxed) == 0) return -1;
    uint32_t word = atomic_exchange_explicit(&front->sleeping, 0, memory_order_acq_rel);
    return word <= MDL_BELLS_MAX ? (int)word - 1 : -1;
}

void mdl_shm_wake_home(struct mdl_shm_home *home)
{
    int bell = who_sleeps(home->front);
    if (bell >= 0) mdl_bell_ring(bell);
}

void mdl_shm_ring_there(struct mdl_shm_peer *p)
{
    for (uint32_t i = 0; i < MDL_SHM_RING_WORDS; i++) {
        uint64_t word = atomic_exchange_explicit(&p->rings[i], 0, memory_order_acquire); /* pairs with ask_to_ring */
        for (; word; word &= word - 1) mdl_shm_link_ring(p, i * 64 + (uint32_t)__builtin_ctzll(word));
    }
}

static void ring_there(struct mdl_task *task)
{
    mdl_shm_ring_there(mdl_container_of(task, struct mdl_shm_peer, ring_task));
}

static void ask_to_ring(struct mdl_shm_peer *p, uint32_t bell)
{
    atomic_fetch_or_explicit(&p->rings[bell / 64], 1ull << bell % 64, memory_order_release); /* pairs with ring_there */
    p->ring_task.fn = ring_there;
    mdl_reactor_post(mdl_door_reactor(p->ctx->door), &p->ring_task);
}

void mdl_shm_wake(struct mdl_shm_peer *p)
{
    int bell = who_sleeps(p->front);
    uint64_t one = 1;
    if (bell < 0) return;
    if (p->home)
        mdl_bell_ring(bell);
    else if (bell >= MDL_BELLS_SHARED)
        ask_to_ring(p, (uint32_t)bell);
    else
        while (write(p->bells->fds[bell], &one, sizeof(one)) < 0 && errno == EINTR) {}
}
