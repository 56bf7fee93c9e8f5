/* SPDX-License-Identifier: Apache-2.0 */
/* The loop that executes batches, and how it waits. */
#include "config.h"

#include "lib/base/fence.h"
#include "lib/engine/drive.h"
#include "lib/engine/exec.h"
#include "lib/engine/native.h"
#include "lib/engine/stage.h"
#include "lib/net/bell.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The clock is read every so many idle turns while spinning, and at each sleep. */
enum { CLOCK_TURNS = 64, SPIN_TURNS = 8, SLEEP_MS_MAX = 100, MAX_BLAME = 16 };
#define ASK_AGAIN_NS MDL_NS_PER_S
#define EXPLAIN_NS   (2 * MDL_NS_PER_S)
/* A yield that takes longer has let somebody compute, not wait as this thread does. Then it is better to sleep, and to be
 * woken up when there is work: who yields is not given the processor back for the rest of its share. */
#define LOST_NS          (500 * 1000ull)
#define CROWDED_FIRST_NS (10 * MDL_NS_PER_MS) /* then it is tried again, ever later if it was so again */
#define CROWDED_MOST_NS  (160 * MDL_NS_PER_MS)
#define GLANCE_LEAST_NS (20 * 1000ull)
#define GLANCE_MOST_NS  MDL_NS_PER_MS
#define SETTLE_NS        2000ull
#define GONE_NS      MDL_NS_PER_S /* how long what a rank sent before its goodbye may still be under way */

void mdl_batch_init(struct mdl_batch *b, struct mdl_comm *c)
{
    *b = (struct mdl_batch){.comm = c, .blamed = -1};
    mdl_list_init(&b->link);
    mdl_list_init(&b->ops);
}

struct mdl_batch *mdl_batch_new(struct mdl_comm *c)
{
    struct mdl_batch *b = malloc(sizeof(*b));

    if (b) mdl_batch_init(b, c);
    return b;
}

void mdl_batch_add(struct mdl_batch *b, struct mdl_op *op)
{
    mdl_list_append(&b->ops, &op->link);
    b->nops++;
}

void mdl_batch_free(struct mdl_batch *b)
{
    if (!b) return;
    mdl_list_each (it, &b->ops) {
        struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        mdl_op_fini(op);
        free(op);
    }
    free(b);
}

/* One step of every operation that may move. Returns true when all are finished. */
static bool step_batch(struct mdl_batch *b, int *events)
{
    bool busy = false, coll_busy = false;

    mdl_list_each (it, &b->ops) {
        struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        medleyResult_t res;

        if (op->state == MDL_STATE_FINISHED) continue;
        if (!mdl_op_is_message(op) && coll_busy) continue;
        res = mdl_op_step(op, events);
        if (res == medleyInProgress) {
            busy = true;
            coll_busy |= !mdl_op_is_message(op);
        } else if (res != medleySuccess && b->result == medleySuccess) {
            b->result = res;
        }
        if (coll_busy) busy = true;
    }
    return !busy;
}

static bool all_finished(const struct mdl_batch *b)
{
    mdl_list_each (it, &b->ops) {
        if (mdl_container_of(it, struct mdl_op, link)->state != MDL_STATE_FINISHED) return false;
    }
    return true;
}

/* A peer refused a message of ours, since it called something else. It asks us what we called, and the answer becomes
 * the fault with both sides in it; only if that does not come, fail with the little that is known here. */
static void note_refusal(struct mdl_comm *c)
{
    if (c->refused_until_ns) return;
    c->refused_until_ns = mdl_now_ns() + EXPLAIN_NS;
    snprintf(c->refused_text, sizeof(c->refused_text), "%s", mdl_error_text());
}

static void progress_transports(struct mdl_comm *c, int *events)
{
    for (int t = 0; t < c->ntransports; t++) {
        medleyResult_t res;
        if (!c->transport[t].used) continue;
        res = c->transport[t].ops->progress(c->transport[t].ctx, events);
        if (res == medleyInvalidUsage)
            note_refusal(c);
        else if (res != medleySuccess && res != medleyInProgress)
            mdl_comm_fail_here(c, res);
    }
    if (c->refused_until_ns && mdl_now_ns() > c->refused_until_ns)
        mdl_comm_fail(c, medleyInvalidUsage, c->rank, c->refused_text, true);
}

/* ---- waiting ---- */

static int blame(const struct mdl_batch *b, int *peers, uint64_t *outstanding, const struct mdl_op **first)
{
    int n = 0;

    *outstanding = 0;
    *first = NULL;
    mdl_list_each (it, &b->ops) {
        const struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        if (op->state == MDL_STATE_FINISHED || op->state == MDL_STATE_NEW) continue;
        if (!*first) *first = op;
        if (n < MAX_BLAME) n += mdl_op_blame(op, peers + n, MAX_BLAME - n, outstanding);
    }
    return n;
}

/* Of a call that waits for no rank. */
static bool needs_stream(const struct mdl_op *op) { return op && op->stage && !op->native; }

static void peers_text(const struct mdl_comm *c, const struct mdl_op *op, const int *peers, int n, char *text,
                       size_t bytes)
{
    int at = 0;

    text[0] = 0;
    if (n == 0) snprintf(text, bytes, "%s", needs_stream(op) ? "its own stream" : "nobody (its own work)");
    for (int i = 0; i < n && at >= 0 && (size_t)at < bytes; i++) {
        at += snprintf(text + at, bytes - (size_t)at, "%srank %d (host %s)", i ? ", " : "", peers[i],
                       mdl_ctl_host(c->ctl, peers[i]));
    }
}

/* Returns the rank that holds all up, or -1. */
static int wait_text(const struct mdl_batch *b, double seconds, char *text, size_t bytes)
{
    const struct mdl_op *op;
    int peers[MAX_BLAME];
    uint64_t outstanding;
    char who[256], call[MDL_CALL_TEXT_BYTES] = "?", cause[128];
    int culprit, n = blame(b, peers, &outstanding, &op);

    peers_text(b->comm, op, peers, n, who, sizeof(who));
    if (op) mdl_call_text(&op->call, call);
    culprit = mdl_diag_cause(b->comm, cause, sizeof(cause));
    snprintf(text, bytes, "rank %d has waited %.1f s in %s #%llu for %s, %llu bytes outstanding%s", b->comm->rank,
             seconds, call, op ? (unsigned long long)op->seq : 0ull, who, (unsigned long long)outstanding, cause);
    return culprit >= 0 ? culprit : n ? peers[0] : -1;
}

/* The one that is late pays, if it was found out in time, not the one in between that waited for it too. */
static void charge_wait(struct mdl_batch *b, uint64_t now)
{
    struct mdl_peer_counters *p;
    int late = mdl_diag_late(b->comm);

    if (late < 0) late = b->blamed;
    if (late < 0) return;
    p = &b->comm->peers[late];
    atomic_store_explicit(&p->wait_ns, atomic_load_explicit(&p->wait_ns, memory_order_relaxed) + now - b->idle_since_ns,
                          memory_order_relaxed);
}

static void moved(struct mdl_batch *b)
{
    if (b->idle_since_ns) {
        charge_wait(b, mdl_now_ns());
        mdl_diag_moved(b->comm);
    }
    b->idle_since_ns = 0;
    b->blamed = -1;
    b->warned = false;
}

static void note_wait(struct mdl_batch *b, const int *peers, int n, const struct mdl_op *op)
{
    if (n == 0) mdl_diag_waits_for_stream(b->comm, needs_stream(op));
    if (n == 0) return;
    if (b->blamed < 0) b->blamed = peers[0];
    mdl_diag_waits(b->comm, op, peers[0]);
}

/* One of those that we wait for has destroyed its communicator. */
static void fail_gone(struct mdl_batch *b, int rank, double seconds)
{
    struct mdl_comm *c = b->comm;
    char text[MDL_ERROR_TEXT_BYTES], wait[MDL_ERROR_TEXT_BYTES / 2];

    (void)wait_text(b, seconds, wait, sizeof(wait));
    snprintf(text, sizeof(text), "rank %d (host %s) has destroyed its communicator and will not take part: %s", rank,
             mdl_ctl_host(c->ctl, rank), wait);
    mdl_comm_fail(c, medleyInvalidUsage, rank, text, true);
}

/* Is there only what a device's stream has not come to yet? That may be long, and is nobody's fault. */
static bool waits_for_stream(const struct mdl_batch *b)
{
    bool staged = false;

    mdl_list_each (it, &b->ops) {
        const struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        if (op->state == MDL_STATE_FINISHED) continue;
        if (op->state != MDL_STATE_NEW && !mdl_native_waits(op)) return false;
        staged |= op->stage || op->native;
    }
    return staged;
}

static void look_for_errors(const struct mdl_batch *b)
{
    mdl_list_each (it, &b->ops) {
        struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        if (op->native && op->state != MDL_STATE_FINISHED) mdl_native_look_for_error(op);
        if (op->stage && op->state != MDL_STATE_FINISHED) mdl_stage_look_for_error(op->stage);
    }
}

/* What to ask a peer about: the message that it owes or is owed, if there is one. */
static const struct mdl_op *op_with(const struct mdl_batch *b, const struct mdl_op *first, int peer)
{
    mdl_list_each (it, &b->ops) {
        const struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
        if (op->state == MDL_STATE_FINISHED || op->state == MDL_STATE_NEW) continue;
        if (mdl_op_is_message(op) && op->call.root == peer) return op;
    }
    return first;
}

/* Looks at the clock for a batch that does not move. */
static void check_deadlines(struct mdl_batch *b, uint64_t now)
{
    struct mdl_comm *c = b->comm;
    int peers[MAX_BLAME], n;
    const struct mdl_op *op;
    uint64_t outstanding, waited;
    char text[MDL_ERROR_TEXT_BYTES];

    if (now >= b->next_look_ns) {
        if (b->next_look_ns) look_for_errors(b);
        b->next_look_ns = now + (uint64_t)c->cfg.stall * MDL_NS_PER_MS;
    }
    if (waits_for_stream(b)) {
        b->idle_since_ns = 0;
        return;
    }
    if (!b->idle_since_ns) {
        b->idle_since_ns = now;
        b->next_ask_ns = now + (uint64_t)c->cfg.stall * MDL_NS_PER_MS;
        n = blame(b, peers, &outstanding, &op);
        note_wait(b, peers, n, op);
        return;
    }
    waited = now - b->idle_since_ns;
    if (now >= b->next_ask_ns) {
        b->next_ask_ns = now + ASK_AGAIN_NS;
        n = blame(b, peers, &outstanding, &op);
        note_wait(b, peers, n, op);
        for (int i = 0; i < n; i++) {
            bool gone = atomic_load_explicit(&c->gone[peers[i]], memory_order_relaxed);
            if (!gone)
                mdl_diag_ask(c, op_with(b, op, peers[i]), peers[i]);
            else if (waited > GONE_NS && !mdl_comm_failed(c))
                fail_gone(b, peers[i], (double)waited / 1e9);
        }
    }
    if (!b->warned && waited >= (uint64_t)c->cfg.warn_after * MDL_NS_PER_MS) {
        b->warned = true;
        (void)wait_text(b, (double)waited / 1e9, text, sizeof(text));
        MDL_WARN(MDL_COLL, "%s; still waiting", text);
    }
    if (c->cfg.timeout && waited >= (uint64_t)c->cfg.timeout * MDL_NS_PER_MS && !mdl_comm_failed(c)) {
        int culprit = wait_text(b, (double)waited / 1e9, text, sizeof(text));
        mdl_comm_fail(c, medleyTimeout, culprit, text, true);
    }
}

static void add_fd(struct mdl_driver *d, int fd)
{
    if (fd < 0) return;
    if (d->nfds == d->fdcap) {
        int cap = d->fdcap ? d->fdcap * 2 : 16;
        struct pollfd *fds = realloc(d->fds, (size_t)cap * sizeof(*fds));
        if (!fds) return; /* the sleep is bounded anyway */
        d->fds = fds;
        d->fdcap = cap;
    }
    d->fds[d->nfds++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void disarm(struct mdl_driver *d)
{
    for (int i = 0; i < d->n; i++) {
        struct mdl_comm *c = d->batches[i]->comm;
        for (int t = 0; t < c->ntransports; t++) {
            if (c->transport[t].used) c->transport[t].ops->disarm(c->transport[t].ctx);
        }
        atomic_store_explicit(&c->sleeper, 0, memory_order_relaxed);
        if (c->use_board) atomic_store_explicit(mdl_board_asleep(&c->board, c->board.me), 0, memory_order_relaxed);
    }
    if (d->bell >= 0) mdl_bell_give();
    d->armed = false;
    if (d->asleep) atomic_store_explicit(d->asleep, false, memory_order_relaxed);
}

/* Prepares to sleep; false: there is work. */
static bool arm(struct mdl_driver *d)
{
    bool idle = true;

    d->nfds = 0;
    add_fd(d, d->extra_fd);
    d->bell = mdl_bell_take();
    add_fd(d, mdl_bell_fd(d->bell)); /* without one the sleep is short */
    for (int i = 0; i < d->n; i++) {
        struct mdl_comm *c = d->batches[i]->comm;
        atomic_store_explicit(&c->sleeper, d->bell + 1, memory_order_relaxed);
        if (c->use_board) atomic_store_explicit(mdl_board_asleep(&c->board, c->board.me), 1, memory_order_relaxed);
        for (int t = 0; t < c->ntransports; t++) {
            int fd = -1;
            if (!c->transport[t].used) continue;
            if (c->transport[t].ops->arm(c->transport[t].ctx, &fd) != medleySuccess) idle = false;
            add_fd(d, fd);
        }
    }
    mdl_fence(); /* pairs with mdl_comm_wake: the turn that follows sees what came before it */
    d->armed = true;
    if (d->asleep) {
        atomic_store_explicit(d->asleep, true, memory_order_relaxed);
        mdl_fence(); /* pairs with the one in mdl_queue_poke */
    }
    if (!idle) disarm(d);
    return idle;
}

/* A device's stream wakes nobody: its words are looked at, the less often the longer nothing has moved. */
static bool has_stage(const struct mdl_driver *d)
{
    for (int i = 0; i < d->n; i++) {
        mdl_list_each (it, &d->batches[i]->ops) {
            const struct mdl_op *op = mdl_container_of(it, struct mdl_op, link);
            if (op->stage || op->native) return true;
        }
    }
    return false;
}

static uint64_t glance_ns(const struct mdl_driver *d)
{
    uint64_t ns = d->quiet_ns / 8;

    return ns < GLANCE_LEAST_NS ? GLANCE_LEAST_NS : ns > GLANCE_MOST_NS ? GLANCE_MOST_NS : ns;
}

/* Who publishes a line looks for sleepers without a fence (wake_all in lines.c), and his look may have been before the
 * arming although his line comes after the turn that followed it: by as long as a processor holds back a store, much less
 * than this. If it ever took longer, the sleep would still end after SLEEP_MS_MAX. */
static void settle(struct mdl_driver *d)
{
    uint64_t until = mdl_now_ns() + SETTLE_NS;

    while (mdl_now_ns() < until) mdl_relax();
    d->settled = true;
}

static void sleep_armed(struct mdl_driver *d)
{
    int timeout = d->n ? SLEEP_MS_MAX : -1; /* nothing in hand: until somebody submits */

    for (int i = 0; i < d->n; i++) {
        if (d->batches[i]->comm->cfg.stall < timeout) timeout = (int)d->batches[i]->comm->cfg.stall;
    }
    if (has_stage(d))
        (void)ppoll(d->fds, (nfds_t)d->nfds, &(struct timespec){.tv_nsec = (long)glance_ns(d)}, NULL);
    else
        (void)poll(d->fds, (nfds_t)d->nfds, timeout);
    disarm(d);
}

static void look_at_clock(struct mdl_driver *d)
{
    uint64_t now = mdl_now_ns();

    for (int i = 0; i < d->n; i++) check_deadlines(d->batches[i], now);
}

static void measure_quiet(struct mdl_driver *d)
{
    uint64_t now = mdl_now_ns();

    if (!d->quiet_since_ns) {
        d->quiet_since_ns = now;
        look_at_clock(d); /* the wait is charged from here on */
    }
    d->quiet_ns = now - d->quiet_since_ns;
}

static void not_quiet(struct mdl_driver *d)
{
    d->turns = 0;
    d->quiet_since_ns = d->quiet_ns = 0;
}

/* The clock has just been read. */
static void give_way(struct mdl_driver *d)
{
    uint64_t now;

    sched_yield();
    now = mdl_now_ns();
    if (now - d->quiet_since_ns - d->quiet_ns <= LOST_NS) {
        d->crowded_ns = 0;
        return;
    }
    d->crowded_ns = d->crowded_ns ? d->crowded_ns * 2 : CROWDED_FIRST_NS;
    if (d->crowded_ns > CROWDED_MOST_NS) d->crowded_ns = CROWDED_MOST_NS;
    d->crowded_until_ns = now + d->crowded_ns;
}

/* Nothing moved in this turn. */
static void idle(struct mdl_driver *d)
{
    uint64_t spin = UINT64_MAX, yield = UINT64_MAX;

    for (int i = 0; i < d->n; i++) {
        const struct mdl_comm *c = d->batches[i]->comm;
        if (c->spin_ns < spin) spin = c->spin_ns;
        if (c->yield_ns < yield) yield = c->yield_ns;
    }
    d->turns++;
    if (d->turns % CLOCK_TURNS == 0) look_at_clock(d);
    /* In time, not in turns: one turn may be a load or several system calls. */
    if (d->turns % SPIN_TURNS == 0 || d->quiet_ns >= spin) measure_quiet(d);
    if (d->n && d->quiet_ns < spin) {
        mdl_relax();
    } else if (d->n && d->quiet_ns <= spin + yield && d->quiet_since_ns + d->quiet_ns >= d->crowded_until_ns) {
        give_way(d);
    } else if (!d->armed) {
        arm(d); /* one more turn follows: what came before the arming is seen in it */
        d->settled = false;
    } else if (!d->settled && d->n) {
        settle(d); /* and one more */
    } else {
        sleep_armed(d);
        look_at_clock(d);
    }
}

/* ---- driver ---- */

void mdl_driver_init(struct mdl_driver *d, int extra_fd)
{
    *d = (struct mdl_driver){.extra_fd = extra_fd, .cap = MDL_DRIVER_FEW};
    d->batches = d->few;
}

void mdl_driver_fini(struct mdl_driver *d)
{
    if (d->armed) disarm(d);
    if (d->batches != d->few) free(d->batches);
    free(d->fds);
}

static medleyResult_t grow(struct mdl_driver *d)
{
    int cap = d->cap * 2;
    struct mdl_batch **list = malloc((size_t)cap * sizeof(struct mdl_batch *));

    if (!list) return mdl_error(medleySystemError, "out of memory for %d operations at once", cap);
    memcpy(list, d->batches, (size_t)d->n * sizeof(*list));
    if (d->batches != d->few) free(d->batches);
    d->batches = list;
    d->cap = cap;
    return medleySuccess;
}

medleyResult_t mdl_driver_add(struct mdl_driver *d, struct mdl_batch *b)
{
    if (d->armed) disarm(d);
    if (d->n == d->cap) MDL_TRY(grow(d));
    d->batches[d->n++] = b;
    not_quiet(d);
    return medleySuccess;
}

int mdl_driver_turn(struct mdl_driver *d)
{
    int total = 0, finished = 0;
    bool was_armed = d->armed;

    for (int i = 0; i < d->n; i++) {
        struct mdl_batch *b = d->batches[i];
        int events = 0;

        /* What was just issued goes out before anybody looks for what came in. */
        if (b->begun) progress_transports(b->comm, &events);
        b->begun = true;
        b->finished = step_batch(b, &events) && all_finished(b);
        if (events) moved(b);
        total += events + b->finished;
        finished += b->finished;
    }
    if (total == 0) {
        idle(d);
        return 0;
    }
    if (was_armed) disarm(d);
    not_quiet(d);
    for (int i = 0, keep = 0; finished && i < d->n; i++) {
        d->batches[keep] = d->batches[i];
        keep += !d->batches[i]->finished;
        if (i == d->n - 1) d->n = keep;
    }
    return finished;
}

medleyResult_t mdl_drive(struct mdl_batch *const *batches, int n)
{
    struct mdl_driver d;
    medleyResult_t res = medleySuccess;

    mdl_driver_init(&d, -1);
    for (int i = 0; res == medleySuccess && i < n; i++) res = mdl_driver_add(&d, batches[i]);
    while (res == medleySuccess && d.n) mdl_driver_turn(&d);
    mdl_driver_fini(&d);
    for (int i = 0; res == medleySuccess && i < n; i++) res = batches[i]->result;
    return res;
}
