/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns at making a vendor's communicators, where the library wants them in the same order in all processes
 * (MDL_NATIVE_ORDERED): groups and threads make several at a time, and in each process another may come first.
 *
 * A communicator has its turn while all its ranks hold their processes. A rank holds its process if nobody else does
 * and no waiting one has a smaller key. Then all ranks tell whether they hold: if one does not, all let go and try
 * again. The smallest key of all that wait is nowhere behind another one, so it gets its turn when those that have
 * theirs are through, whose time is bounded. All ranks are here when the first try begins, since an exchange came
 * before: so nobody holds a process while it waits for a rank that is late.
 *
 * An init that was left behind may hold the vendor's lock for ever: the process makes no more of them.
 * Islands (island_open.c) take no turns: theirs are one after the other only where the program makes them so.
 */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/exchange.h"
#include "lib/engine/native.h"

#include <stdlib.h>
#include <time.h>

enum { NAP_NS = 2000000 };
enum { NO, YES, GIVES_UP }; /* on the wire */

struct waiter {
    struct mdl_list link;
    uint64_t key;
};

static struct {
    pthread_mutex_t lock;
    struct mdl_list waiters;
    bool made, held, blocked;
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void enter(struct waiter *w)
{
    pthread_mutex_lock(&turns.lock);
    if (!turns.made) mdl_list_init(&turns.waiters);
    turns.made = true;
    mdl_list_append(&turns.waiters, &w->link);
    pthread_mutex_unlock(&turns.lock);
}

static void leave(struct waiter *w)
{
    pthread_mutex_lock(&turns.lock);
    mdl_list_remove(&w->link);
    pthread_mutex_unlock(&turns.lock);
}

static uint8_t try_to_hold(const struct waiter *w, uint64_t deadline_ns)
{
    uint8_t answer = YES;

    pthread_mutex_lock(&turns.lock);
    mdl_list_each (it, &turns.waiters)
        if (mdl_container_of(it, struct waiter, link)->key < w->key) answer = NO;
    if (turns.held) answer = NO;
    if (turns.blocked || mdl_now_ns() >= deadline_ns) answer = GIVES_UP;
    if (answer == YES) turns.held = true;
    pthread_mutex_unlock(&turns.lock);
    return answer;
}

void mdl_native_turn_end(bool left_behind)
{
    pthread_mutex_lock(&turns.lock);
    turns.held = false;
    turns.blocked |= left_behind;
    pthread_mutex_unlock(&turns.lock);
}

/* The least is what counts, but for one that gives up. */
static medleyResult_t tell(struct mdl_comm *c, uint8_t mine, uint64_t deadline_ns, uint8_t *all)
{
    uint8_t *answers;

    MDL_TRY(mdl_exchange_bytes(c, &mine, 1, deadline_ns, "turns at the vendor's library", &answers));
    *all = YES;
    for (int r = 0; r < c->nranks; r++)
        if (*all != GIVES_UP && answers[r] != YES) *all = answers[r] == NO ? NO : GIVES_UP;
    free(answers);
    return medleySuccess;
}

medleyResult_t mdl_native_turn_begin(struct mdl_comm *c, uint64_t key, uint64_t until_ns, uint64_t deadline_ns,
                                     bool *got)
{
    struct waiter w = {.key = key};
    medleyResult_t res = medleySuccess;
    uint8_t mine, all = NO;

    enter(&w);
    while (res == medleySuccess && all == NO) {
        mine = try_to_hold(&w, until_ns);
        res = tell(c, mine, deadline_ns, &all);
        if (mine == YES && (res != medleySuccess || all != YES)) mdl_native_turn_end(false);
        if (res == medleySuccess && all == NO) nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    leave(&w);
    *got = res == medleySuccess && all == YES;
    if (res == medleySuccess && !*got)
        MDL_WARN(MDL_INIT,
                 "rank %d: other communicators of this process, or of another rank's, are still being made, "
                 "and the library makes one after the other",
                 c->rank);
    return res;
}
