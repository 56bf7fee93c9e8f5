/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arenas of other processes. A process's arena and its bells are the same for all communicators, so what the first
 * handover has brought serves for the next ones: their ranks' addresses tell the places, and nothing is asked.
 *
 * That an address means this arena is safe to believe: it names the process's door, to which the connection leads on
 * which the arena came, and an abstract Unix name belongs to one process.
 */
#include "config.h"
#include "transports/shm.h"
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mdl_list known = {&known, &known}; /* under lock, with the refs */

static bool is_at(const struct mdl_shm_yard *y, const struct mdl_addr *door)
{
    return y->door.len == door->len && !memcmp(&y->door.sa, &door->sa, door->len);
}

/* Under the lock. The newest first: the connection of an older one may have ended. */
static struct mdl_shm_yard *find(const struct mdl_addr *door, uint64_t arena, const void *connection)
{
    for (struct mdl_list *it = known.prev; it != &known; it = it->prev) {
        struct mdl_shm_yard *y = mdl_container_of(it, struct mdl_shm_yard, link);
        if (y->arena == arena && is_at(y, door) && (!connection || y->connection == connection)) return y;
    }
    return NULL;
}

struct mdl_shm_yard *mdl_shm_yard_find(const struct mdl_addr *door, uint64_t arena)
{
    pthread_mutex_lock(&lock);
    struct mdl_shm_yard *y = find(door, arena, NULL);
    if (y) y->refs++;
    pthread_mutex_unlock(&lock);
    return y;
}

struct mdl_shm_yard *mdl_shm_yard_add(const void *connection, const struct mdl_addr *door, uint64_t arena, int fd,
                                      struct mdl_shm_bells *bells)
{
    pthread_mutex_lock(&lock);
    struct mdl_shm_yard *y = find(door, arena, connection);
    bool there = y != NULL;
    if (!y && (y = calloc(1, sizeof(*y)))) {
        *y = (struct mdl_shm_yard){.connection = connection, .door = *door, .arena = arena, .fd = fd, .bells = bells};
        mdl_shm_bells_hold(bells);
        mdl_list_append(&known, &y->link);
    }
    if (y) y->refs++;
    pthread_mutex_unlock(&lock);
    if (there || !y) close(fd);
    return y;
}

void mdl_shm_yard_put(struct mdl_shm_yard *y)
{
    if (!y) return;
    pthread_mutex_lock(&lock);
    bool last = --y->refs == 0;
    if (last) mdl_list_remove(&y->link);
    pthread_mutex_unlock(&lock);
    if (!last) return;
    mdl_shm_bells_put(y->bells);
    close(y->fd);
    free(y);
}
