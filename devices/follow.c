/* SPDX-License-Identifier: Apache-2.0 */
/* See follow.h. Only the following thread takes steps off lanes and lanes off the list, so it walks over both without
 * the lock while it calls the vendor; others only append. */
#include "config.h"

#include "devices/follow.h"
#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "lib/base/thread.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NS = 50000, NAP_MIN_NS = 20000, NAP_MAX_NS = 1000000, PATIENCE = 8 };

struct mdl_lane {
    struct mdl_list link;
    void *stream;
    int users;             /* threads between enter and leave, or in sync */
    pthread_mutex_t issue; /* held between enter and leave */
    struct mdl_list steps;
    struct mdl_step *room; /* for the step of the thread that has entered */
    uint64_t appended, popped;
    bool failed;
};

/* ---- the thread ---- */

static bool is_reached(const struct mdl_step *s)
{
    return (int64_t)(__atomic_load_n(s->word, __ATOMIC_ACQUIRE) - s->value) >= 0; /* pairs with whoever writes the word
                                                                                   */
}

/* False: the word is waited for. */
static bool work(const struct mdl_lane *lane, const struct mdl_step *s)
{
    switch (s->kind) {
    case MDL_STEP_WRITE:
        /* pairs with whoever waits for the word */
        __atomic_store_n(s->word, s->value | (lane->failed ? MDL_WORD_FAILED : 0), __ATOMIC_RELEASE);
        break;
    case MDL_STEP_WAIT: return lane->failed || is_reached(s);
    case MDL_STEP_CALL:
        if (!lane->failed) s->fn(s->arg);
        break;
    case MDL_STEP_JOIN: break;
    }
    return true;
}

/* Has the stream passed the mark? Also true if it never will. */
static bool is_passed(const struct mdl_follow *f, struct mdl_lane *lane, void *mark)
{
    medleyResult_t res = mark ? f->ops->passed(mark) : medleySuccess;

    if (res == medleyInProgress) return false;
    if (res != medleySuccess) lane->failed = true;
    return true;
}

/* True: the step is done. */
static bool advance(const struct mdl_follow *f, struct mdl_lane *lane, struct mdl_step *s, bool *moved)
{
    if (!s->marked) {
        if (!is_passed(f, lane, s->mark)) return false;
        s->marked = *moved = true;
    }
    if (!s->worked) {
        if (!work(lane, s)) return false;
        s->worked = *moved = true;
        if (s->gate) f->ops->open(s->gate);
    }
    if (!lane->failed && !is_passed(f, lane, s->receipt)) return false;
    if (s->mark) f->ops->drop(s->mark);
    if (s->gate) f->ops->drop(s->gate);
    if (s->receipt) f->ops->drop(s->receipt);
    return true;
}

/* With the lock, which is let go meanwhile: does what can be done now on one lane. */
static bool walk(struct mdl_follow *f, struct mdl_lane *lane)
{
    bool moved = false;

    while (!mdl_list_empty(&lane->steps)) {
        struct mdl_step *s = mdl_container_of(lane->steps.next, struct mdl_step, link);
        bool done;
        pthread_mutex_unlock(&f->lock);
        done = advance(f, lane, s, &moved);
        pthread_mutex_lock(&f->lock);
        if (!done) break;
        mdl_list_remove(&s->link);
        free(s);
        lane->popped++;
        moved = true;
        pthread_cond_broadcast(&f->done);
    }
    return moved;
}

/* With the lock. */
static void free_lane(struct mdl_follow *f, struct mdl_lane *lane)
{
    mdl_list_remove(&lane->link);
    pthread_mutex_unlock(&f->lock);
    if (f->ops->let_go) f->ops->let_go(lane->stream);
    pthread_mutex_destroy(&lane->issue);
    free(lane);
    pthread_mutex_lock(&f->lock);
}

/* With the lock. True: there are steps left. */
static bool walk_all(struct mdl_follow *f)
{
    bool left = false, moved = false;

    mdl_list_each (it, &f->lanes) {
        struct mdl_lane *lane = mdl_container_of(it, struct mdl_lane, link);
        moved |= walk(f, lane);
        /* read again: lanes may have been appended while the lock was away */
        it_next = lane->link.next;
        if (!mdl_list_empty(&lane->steps))
            left = true;
        else if (lane->users == 0) {
            free_lane(f, lane);
            f->moved_ns = mdl_now_ns();
            return true; /* the list may be another one now */
        }
    }
    if (moved) f->moved_ns = mdl_now_ns();
    return left;
}

/* With the lock. */
static void nap(struct mdl_follow *f)
{
    uint64_t now = mdl_now_ns(), idle = now - f->moved_ns, ns = idle / PATIENCE;
    struct timespec until;

    if (idle < SPIN_NS) {
        pthread_mutex_unlock(&f->lock);
        sched_yield();
        pthread_mutex_lock(&f->lock);
        return;
    }
    if (ns < NAP_MIN_NS) ns = NAP_MIN_NS;
    if (ns > NAP_MAX_NS) ns = NAP_MAX_NS;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ns;
    until.tv_sec += until.tv_nsec / (long)MDL_NS_PER_S;
    until.tv_nsec %= (long)MDL_NS_PER_S;
    pthread_cond_timedwait(&f->work, &f->lock, &until);
}

static void *follow(void *arg)
{
    struct mdl_follow *f = arg;

    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        if (walk_all(f))
            nap(f);
        else if (!f->stop && mdl_list_empty(&f->lanes))
            pthread_cond_wait(&f->work, &f->lock);
        else if (!f->stop)
            nap(f); /* somebody is about to append */
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* With the lock. */
static medleyResult_t start(struct mdl_follow *f)
{
    pthread_condattr_t attr;
    int rc;

    if (f->pid == getpid()) return medleySuccess;
    if (f->pid) return mdl_error(medleyInvalidUsage, "the device was used before this process was forked");
    mdl_list_init(&f->lanes);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->work, &attr);
    pthread_condattr_destroy(&attr);
    f->moved_ns = mdl_now_ns();
    rc = mdl_thread_start(follow, f, &f->thread);
    if (rc) return mdl_system_error(rc, "cannot start the thread that follows the streams of a device");
    f->pid = getpid();
    return medleySuccess;
}

void mdl_follow_stop(struct mdl_follow *f)
{
    bool running;

    pthread_mutex_lock(&f->lock);
    running = f->pid == getpid() && !f->stop;
    f->stop = true;
    if (running) pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
    if (running) pthread_join(f->thread, NULL);
}

/* ---- streams ---- */

/* With the lock. */
static struct mdl_lane *find(const struct mdl_follow *f, const void *stream)
{
    mdl_list_each (it, &f->lanes) {
        struct mdl_lane *lane = mdl_container_of(it, struct mdl_lane, link);
        if (lane->stream == stream) return lane;
    }
    return NULL;
}

static struct mdl_lane *make_lane(const struct mdl_follow *f, void *stream)
{
    struct mdl_lane *lane = calloc(1, sizeof(*lane));

    if (!lane) return NULL;
    lane->stream = stream;
    mdl_list_init(&lane->steps);
    pthread_mutex_init(&lane->issue, NULL);
    if (f->ops->hold) f->ops->hold(stream);
    return lane;
}

static void unmake_lane(const struct mdl_follow *f, struct mdl_lane *lane)
{
    if (!lane) return;
    if (f->ops->let_go) f->ops->let_go(lane->stream);
    pthread_mutex_destroy(&lane->issue);
    free(lane);
}

/* The stream's lane, or else *fresh, which is then the list's. NULL without one. */
static struct mdl_lane *claim(struct mdl_follow *f, const void *stream, struct mdl_lane **fresh)
{
    struct mdl_lane *lane;

    pthread_mutex_lock(&f->lock);
    lane = find(f, stream);
    if (!lane && *fresh) {
        lane = *fresh;
        *fresh = NULL;
        mdl_list_append(&f->lanes, &lane->link);
    }
    if (lane) lane->users++;
    pthread_mutex_unlock(&f->lock);
    return lane;
}

medleyResult_t mdl_follow_enter(struct mdl_follow *f, void *stream, struct mdl_lane **out)
{
    struct mdl_lane *fresh = NULL, *lane;
    struct mdl_step *room;
    medleyResult_t res;

    pthread_mutex_lock(&f->lock);
    res = start(f);
    pthread_mutex_unlock(&f->lock);
    MDL_TRY(res);
    room = malloc(sizeof(*room));
    lane = room ? claim(f, stream, &fresh) : NULL;
    if (room && !lane) {
        fresh = make_lane(f, stream);
        lane = fresh ? claim(f, stream, &fresh) : NULL;
        unmake_lane(f, fresh);
    }
    if (!lane) {
        free(room);
        return mdl_error(medleySystemError, "out of memory for a step of a stream");
    }
    pthread_mutex_lock(&lane->issue);
    lane->room = room;
    *out = lane;
    return medleySuccess;
}

void mdl_follow_leave(struct mdl_follow *f, struct mdl_lane *lane, const struct mdl_step *step)
{
    struct mdl_step *s = lane->room;

    lane->room = NULL;
    pthread_mutex_lock(&f->lock);
    if (step) {
        *s = *step;
        mdl_list_append(&lane->steps, &s->link);
        lane->appended++;
        s = NULL;
    }
    pthread_mutex_unlock(&lane->issue);
    lane->users--;
    f->moved_ns = mdl_now_ns();
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
    free(s);
}

void mdl_follow_sync(struct mdl_follow *f, void *stream)
{
    struct mdl_lane *lane;

    pthread_mutex_lock(&f->lock);
    lane = f->pid == getpid() ? find(f, stream) : NULL;
    if (lane) {
        uint64_t until = lane->appended;
        lane->users++;
        f->moved_ns = mdl_now_ns();
        pthread_cond_signal(&f->work);
        while (lane->popped < until && !f->stop) pthread_cond_wait(&f->done, &f->lock);
        lane->users--;
    }
    pthread_mutex_unlock(&f->lock);
}
