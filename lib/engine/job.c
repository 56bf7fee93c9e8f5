/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs on the control plane, and children that fail.
 *
 * Splits and windows are numbered: every rank takes part in each. A shrink has no number, because those that are left
 * out do not know of it; it is told from others by its signature. What is asked about, and when, runs on the reactor's
 * thread.
 *
 * The news that a child has failed is passed along the parent's tree, whose links stand, since a rank that is out of
 * descriptors can make no others. It is kept, for a member that has not come to the job yet.
 */
#include "config.h"

#include "lib/engine/job.h"
#include "lib/boot/messages.h"
#include "lib/boot/tree.h"
#include "lib/engine/ask.h"
#include "lib/engine/queue.h"
#include "lib/net/door.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ASK_MOST = 16,
    BROKEN_MOST = 16,
    BLOCK_BYTES = MDL_CALL_WIRE_BYTES + 8,
    CHILD_BYTES = 32 + MDL_ERROR_TEXT_BYTES
};
#define ASK_AGAIN_NS MDL_NS_PER_S

static struct mdl_reactor *reactor_of(const struct mdl_comm *c) { return mdl_door_reactor(mdl_ctl_door(c->ctl)); }

/* ---- asking ---- */

/* Asks those that come after this rank: wherever two neighbours of the ring are in different calls, one asks the other.
 */
static void ask_others(struct mdl_comm *c)
{
    int n = c->job.members ? c->job.nmembers : c->nranks, me = c->rank;

    for (int i = 0; c->job.members && i < n; i++) me = c->job.members[i] == c->rank ? i : me;
    for (int k = 1; k < n && k <= ASK_MOST; k++) {
        int at = (me + k) % n;
        mdl_diag_ask_job(c, c->job.members ? c->job.members[at] : at);
    }
}

static void on_timer(struct mdl_timer *timer)
{
    struct mdl_comm *c = mdl_container_of(timer, struct mdl_comm, job.timer);

    if (!mdl_queue_busy(c)) ask_others(c); /* else this rank may be about to make the call that others are in */
    mdl_reactor_timer(reactor_of(c), timer, mdl_now_ns() + ASK_AGAIN_NS);
}

static void start_inside(void *comm)
{
    struct mdl_comm *c = comm;
    uint64_t first = (uint64_t)(c->cfg.stall < c->cfg.init_timeout / 4 ? c->cfg.stall : c->cfg.init_timeout / 4);

    c->job.timer.fn = on_timer;
    mdl_reactor_timer(reactor_of(c), &c->job.timer, mdl_now_ns() + first * MDL_NS_PER_MS);
}

static void stop_inside(void *comm)
{
    struct mdl_comm *c = comm;

    mdl_reactor_timer_cancel(reactor_of(c), &c->job.timer);
}

/* ---- a job ---- */

void mdl_job_begin(struct mdl_comm *c, const struct mdl_call *call, const int *members, int n)
{
    uint64_t last = atomic_load_explicit(&c->job.diary.coll_seq, memory_order_relaxed);

    c->job.call = *call;
    c->job.members = members;
    c->job.nmembers = n;
    c->job.seq = call->coll == MDL_CALL_SHRINK ? 0 : last + 1;
    c->job.number = mdl_diary_start(&c->job.diary, call, c->job.seq, 0);
    c->job.open = true;
    if (c->nranks > 1) mdl_reactor_call(reactor_of(c), start_inside, c);
}

void mdl_job_end(struct mdl_comm *c)
{
    if (!c->job.open) return;
    c->job.open = false;
    if (c->nranks > 1) mdl_reactor_call(reactor_of(c), stop_inside, c);
    mdl_diary_done(&c->job.diary, c->job.number);
}

/* The blocks of all ranks have the same length whatever the call, so that different calls meet here. */
static medleyResult_t read_blocks(struct mdl_comm *c, const uint8_t *blocks, uint64_t *all)
{
    struct mdl_call first, call;

    for (int r = 0; r < c->nranks; r++) {
        struct mdl_reader reader = {.p = blocks + (size_t)r * BLOCK_BYTES, .left = BLOCK_BYTES};
        mdl_call_read(&reader, &call);
        all[r] = mdl_read_u64(&reader);
        if (r == 0) first = call;
        if (call.coll == first.coll) continue;
        mdl_diag_mismatch(c, c->job.seq, 0, &first, r, &call);
        return mdl_comm_fault(c);
    }
    return medleySuccess;
}

static medleyResult_t exchange(struct mdl_comm *c, const struct mdl_call *call, uint64_t mine, uint64_t *all)
{
    uint64_t deadline = mdl_now_ns() + (uint64_t)c->cfg.init_timeout * MDL_NS_PER_MS;
    uint8_t block[BLOCK_BYTES], *blocks = malloc(BLOCK_BYTES * (size_t)c->nranks);
    struct mdl_writer w = {.p = block, .cap = sizeof(block)};
    char text[MDL_CALL_TEXT_BYTES];
    medleyResult_t res;

    if (!blocks) return mdl_error(medleySystemError, "out of memory for an exchange of %d ranks", c->nranks);
    mdl_call_write(&w, call);
    mdl_write_u64(&w, mine);
    mdl_call_text(call, text);
    res = mdl_ctl_allgather(c->ctl, block, sizeof(block), blocks, deadline, text);
    if (res == medleySuccess) res = read_blocks(c, blocks, all);
    free(blocks);
    return res;
}

medleyResult_t mdl_job_exchange(struct mdl_comm *c, const struct mdl_call *call, uint64_t mine, uint64_t *all)
{
    medleyResult_t res;

    mdl_job_begin(c, call, NULL, 0);
    res = exchange(c, call, mine, all);
    mdl_job_end(c);
    if (res == medleySuccess) return res;
    if (!mdl_comm_failed(c)) mdl_comm_fail_here(c, res);
    return mdl_comm_fault(c);
}

/* ---- children that fail ---- */

struct broken {
    struct mdl_list link; /* in the parent's, newest last */
    uint64_t serial;
    struct mdl_trouble why;
};

static bool is_known(const struct mdl_comm *c, uint64_t serial)
{
    mdl_list_each (it, (struct mdl_list *)&c->broken) {
        if (mdl_container_of(it, struct broken, link)->serial == serial) return true;
    }
    return false;
}

/* False: it was known, and all have been told. */
static bool remember(struct mdl_comm *c, uint64_t serial, const struct mdl_trouble *why)
{
    struct broken *b = malloc(sizeof(*b));
    struct mdl_list *oldest;
    bool news;
    int n = 0;

    pthread_mutex_lock(&c->fault_lock);
    news = b && !is_known(c, serial);
    if (news) {
        *b = (struct broken){.serial = serial, .why = *why};
        mdl_list_append(&c->broken, &b->link);
        b = NULL;
    }
    mdl_list_each (it, &c->broken) n++;
    oldest = n > BROKEN_MOST ? c->broken.next : NULL;
    if (oldest) mdl_list_remove(oldest);
    mdl_list_each (it, &c->making) {
        struct mdl_comm *child = mdl_container_of(it, struct mdl_comm, making_link);
        if (child->child_serial == serial) mdl_comm_fail(child, why->code, why->origin, why->text, false);
    }
    pthread_mutex_unlock(&c->fault_lock);
    free(b);
    if (oldest) free(mdl_container_of(oldest, struct broken, link));
    return news;
}

static void tell_neighbours(struct mdl_comm *c, int but, uint64_t serial, const struct mdl_trouble *why)
{
    uint32_t list[1 + MDL_TREE_ARITY];
    int n = mdl_tree_neighbours((uint32_t)c->rank, (uint32_t)c->nranks, list);
    uint8_t bytes[CHILD_BYTES];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};

    mdl_write_u64(&w, serial);
    mdl_trouble_write(&w, why);
    for (int i = 0; i < n; i++)
        if ((int)list[i] != but) (void)mdl_ctl_send(c->ctl, (int)list[i], MDL_MSG_CHILD, bytes, w.len);
}

static void on_child(void *comm, int src, const uint8_t *payload, size_t len)
{
    struct mdl_comm *c = comm;
    struct mdl_reader r = {.p = payload, .left = len};
    uint64_t serial = mdl_read_u64(&r);
    struct mdl_trouble why;

    if (r.bad || !mdl_trouble_read(r.p, r.left, &why)) {
        MDL_WARN(MDL_FAULT, "rank %d sent malformed news of a child", src);
        return;
    }
    if (remember(c, serial, &why)) tell_neighbours(c, src, serial, &why);
}

void mdl_job_child_failed(struct mdl_comm *parent, const struct mdl_comm *child)
{
    struct mdl_trouble why = {.code = child->fault_code, .origin = parent->rank};

    if (mdl_comm_failed(parent)) return; /* its tree may be torn; and the same shrink may be tried again */
    snprintf(why.text, sizeof(why.text),
             "rank %d of the parent could not make its part of the new communicator: %.400s", parent->rank,
             child->fault_text);
    if (remember(parent, child->child_serial, &why)) tell_neighbours(parent, -1, child->child_serial, &why);
}

void mdl_job_child_adopted(struct mdl_comm *parent, struct mdl_comm *child)
{
    struct broken found = {0};

    pthread_mutex_lock(&parent->fault_lock);
    mdl_list_each (it, &parent->broken) {
        struct broken *b = mdl_container_of(it, struct broken, link);
        if (b->serial == child->child_serial) found = *b;
    }
    pthread_mutex_unlock(&parent->fault_lock);
    if (found.why.code != medleySuccess) mdl_comm_fail(child, found.why.code, found.why.origin, found.why.text, false);
}

void mdl_job_attach(struct mdl_comm *c) { mdl_ctl_handle(c->ctl, MDL_MSG_CHILD, on_child, c); }

void mdl_job_free(struct mdl_comm *c)
{
    mdl_list_each (it, &c->broken) free(mdl_container_of(it, struct broken, link));
    mdl_list_init(&c->broken);
}
