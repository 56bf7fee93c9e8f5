/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The communicator's part of direct.h: who can, and the windows of all.
 *
 * What could make a rank unable is tried before anybody relies on it, in two exchanges: all offer a window, or nothing;
 * then all say whether they could open those of the others. One rank that cannot sends all to the staged path.
 *
 * A window is freed when nobody has it open any more. Its owner is told so by a word on each board, which holds the
 * board's number as long as that rank may read windows: a board that has gone, and whose memory has another use, has
 * another number there. The owner waits shortly; after that the window is kept (direct_window.c).
 */
#include "config.h"

#include "lib/engine/direct.h"
#include "lib/engine/exchange.h"
#include "lib/reduce/reduce.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WORD_SPACE = 64, LEAST_ELEMENTS = 64, ELEMENT_BYTES = 8, WHY_BYTES = 256, PAGE = 4096 };

#define PART_NS (1 * MDL_NS_PER_S)

/* ---- who can ---- */

/* By what all ranks know, so that all take part in the exchanges or none. */
static bool is_candidate(const struct mdl_comm *c)
{
    return c->team->nhosts == 1 && c->use_board && mdl_exchange_same_vendor(c);
}

/* Streams must be able to wait for words, and pointers to be told apart, so that nothing is copied behind a wait that
 * the vendor would itself wait for. */
static bool is_able(const struct mdl_comm *c)
{
    const uint32_t needed = MDL_DEV_POINTERS | MDL_DEV_EVENTS;

    return c->cfg.device_direct && mdl_hold_can(&c->stager->hold) && (c->stager->dev.caps & needed) == needed;
}

static uint32_t types_of(const struct mdl_dev_kernels *k)
{
    uint32_t types = 0;

    for (int t = 0; k && t < medleyNumTypes; t++) types |= mdl_dev_kernels_can(k, (medleyDataType_t)t) ? 1u << t : 0;
    return types;
}

static void export_window(const struct mdl_direct *d, struct mdl_ipc *ipc)
{
    const struct mdl_device *ops = d->dev.ops;

    if (!(d->dev.caps & MDL_DEV_IPC) || ops->ipc_export(ops, d->own->base, ipc) != medleySuccess) {
        *ipc = (struct mdl_ipc){.fd = -1};
        return;
    }
    if (ipc->fd < 0) return;
    close(ipc->fd); /* a handle that needs its descriptor moved */
    *ipc = (struct mdl_ipc){.fd = -1};
}

/* With the device entered. */
static medleyResult_t make_own(struct mdl_comm *c, struct mdl_direct *d)
{
    const struct mdl_device *ops = d->dev.ops;
    size_t half = c->cfg.device_window / 2 / PAGE * PAGE;

    d->placed = mdl_hold_take_any(d->hold);
    if (!d->placed) return medleyInvalidUsage;
    MDL_TRY(mdl_window_take(&d->dev, 2 * half, &d->own));
    MDL_TRY(ops->alloc_pinned(ops, WORD_SPACE, (void **)&d->arrived));
    *d->arrived = 0;
    MDL_TRY(mdl_hold_alloc(d->hold, 1, &d->ready));
    return ops->event_create(ops, &d->event);
}

static void offer(struct mdl_comm *c, struct mdl_direct *d, struct mdl_direct_offer *o)
{
    char why[WHY_BYTES] = "";

    *o = (struct mdl_direct_offer){.ipc.fd = -1};
    if (!is_able(c) || make_own(c, d) != medleySuccess) return;
    o->pids = mdl_window_pids();
    d->kernels = mdl_dev_kernels_of(&d->dev, why, sizeof(why));
    if (!d->kernels) MDL_INFO(MDL_INIT, "rank %d: reductions go through the host's memory: %s", c->rank, why);
    o->process = mdl_window_process();
    o->base = (uint64_t)(uintptr_t)d->own->base;
    o->bytes = d->own->bytes;
    o->staging = c->cfg.device_staging;
    o->types = types_of(d->kernels);
    o->ordinal = d->dev.ordinal;
    export_window(d, &o->ipc);
}

/* ---- agreeing ---- */

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Has one process several devices, which its kernels may not read from each other? */
static bool must_copy(const struct mdl_direct_offer *all, int n)
{
    for (int r = 0; r < n; r++)
        for (int s = 0; s < r; s++)
            if (all[r].process == all[s].process && all[r].ordinal != all[s].ordinal) return true;
    return false;
}

/* The same on all ranks: it looks at nothing but the offers. */
static bool agree(struct mdl_direct *d, const struct mdl_direct_offer *all, int n)
{
    uint64_t bytes = UINT64_MAX, staging = UINT64_MAX;
    bool apart = false, exported = true;

    d->types = UINT32_MAX;
    for (int r = 0; r < n; r++) {
        if (!all[r].bytes) return false;
        bytes = smaller(bytes, all[r].bytes);
        staging = smaller(staging, all[r].staging);
        d->types &= all[r].types;
        apart |= all[r].process != all[0].process;
        exported &= all[r].ipc.len > 0;
    }
    d->copies = must_copy(all, n);
    d->half = (size_t)bytes / 2;
    d->most = (size_t)smaller(bytes / 2, staging / 4);
    return (exported || !apart) && d->most >= (size_t)n * LEAST_ELEMENTS * ELEMENT_BYTES;
}

static medleyResult_t open_peer(struct mdl_direct *d, const struct mdl_direct_offer *o, struct mdl_direct_peer *p)
{
    const struct mdl_device *ops = d->dev.ops;
    void *base;

    if (o->process == mdl_window_process()) {
        const struct mdl_dev other = {.ops = ops, .ordinal = o->ordinal};
        p->held = mdl_window_hold(&other, o->base);
        if (!p->held) return mdl_error(medleyInternalError, "no window at %llx", (unsigned long long)o->base);
        p->window = p->held->base;
        p->reads = o->ordinal == d->dev.ordinal;
        return medleySuccess;
    }
    MDL_TRY(ops->ipc_import(ops, &o->ipc, &p->import, &base));
    p->window = base;
    p->reads = true;
    return medleySuccess;
}

/* Room that only some need: copies of what kernels may not read, and partials between more sources than one takes. */
static medleyResult_t make_room(struct mdl_direct *d, int n)
{
    const struct mdl_device *ops = d->dev.ops;
    bool all = true;

    for (int r = 0; r < n; r++) all &= d->peers[r].reads;
    if (!all && d->types) MDL_TRY(ops->alloc(ops, d->most, (void **)&d->scratch));
    return n > MDL_DEV_FOLD_SRC && d->types ? ops->alloc(ops, d->most, (void **)&d->carry) : medleySuccess;
}

static medleyResult_t open_all(struct mdl_comm *c, struct mdl_direct *d, const struct mdl_direct_offer *all)
{
    for (int r = 0; r < c->nranks; r++) {
        if (r != c->rank)
            MDL_TRY(open_peer(d, &all[r], &d->peers[r]));
        else
            d->peers[r] = (struct mdl_direct_peer){.window = d->own->base, .reads = true};
    }
    return make_room(d, c->nranks);
}

/* ---- the exchanges ---- */

static medleyResult_t exchange_offers(struct mdl_comm *c, const struct mdl_direct_offer *own, uint64_t deadline_ns,
                                      struct mdl_direct_offer *all)
{
    uint8_t mine[MDL_DIRECT_WIRE_BYTES], *bytes;
    struct mdl_writer w = {.p = mine, .cap = sizeof(mine)};

    mdl_direct_write(&w, own);
    MDL_TRY(mdl_exchange_bytes(c, mine, sizeof(mine), deadline_ns, "windows of devices", &bytes));
    for (int r = 0; r < c->nranks; r++) {
        struct mdl_reader rd = {.p = bytes + (size_t)r * sizeof(mine), .left = sizeof(mine)};
        mdl_direct_read(&rd, &all[r]);
    }
    free(bytes);
    return medleySuccess;
}

/* With the device entered. */
static medleyResult_t open_inside(struct mdl_comm *c, struct mdl_direct *d, struct mdl_direct_offer *all,
                                  uint64_t deadline_ns, bool *usable)
{
    struct mdl_direct_offer own;
    bool could;

    offer(c, d, &own);
    MDL_TRY(exchange_offers(c, &own, deadline_ns, all));
    for (int r = 0; r < c->nranks; r++) {
        d->peers[r].elsewhere = all[r].process != mdl_window_process();
        d->peers[r].named = all[r].pids && all[r].pids == mdl_window_pids();
    }
    if (!agree(d, all, c->nranks)) return medleySuccess;
    could = open_all(c, d, all) == medleySuccess;
    return mdl_exchange_vote(c, could, deadline_ns, "windows of devices are open", usable);
}

static medleyResult_t make(struct mdl_comm *c, uint64_t deadline_ns, bool *usable)
{
    struct mdl_direct_offer *all = calloc((size_t)c->nranks, sizeof(*all));
    struct mdl_direct *d = calloc(1, sizeof(*d));
    struct mdl_dev_visit visit;
    medleyResult_t res = medleySystemError;

    if (d) d->peers = calloc((size_t)c->nranks, sizeof(*d->peers));
    if (!all || !d || !d->peers) {
        mdl_error(medleySystemError, "out of memory for %d ranks", c->nranks);
        if (d) free(d->peers);
        free(d);
        goto free_offers;
    }
    d->dev = c->stager->dev;
    d->nranks = c->nranks;
    d->hold = &c->stager->hold;
    c->direct = d;
    atomic_store_explicit(mdl_board_reads_windows(&c->board, c->board.me), c->facts[c->rank].board_segment,
                          memory_order_relaxed); /* the exchange orders it */
    res = mdl_dev_enter(&d->dev, &visit);
    if (res != medleySuccess) goto free_offers;
    res = open_inside(c, d, all, deadline_ns, usable);
    mdl_dev_leave(&d->dev, &visit);
free_offers:
    free(all);
    return res;
}

medleyResult_t mdl_direct_open(struct mdl_comm *c, uint64_t deadline_ns)
{
    char before[MDL_ERROR_TEXT_BYTES];
    bool usable = false;

    if (!is_candidate(c)) return medleySuccess;
    snprintf(before, sizeof(before), "%s", mdl_error_text());
    MDL_TRY(make(c, deadline_ns, &usable));
    if (usable) {
        MDL_INFO(MDL_INIT, "rank %d: devices read each other's windows of %zu bytes, and reduce %d of %d types",
                 c->rank, 2 * c->direct->half, __builtin_popcount(c->direct->types), medleyNumTypes);
        return medleySuccess;
    }
    MDL_INFO(MDL_INIT, "rank %d: devices do not read each other's memory: %s", c->rank,
             is_able(c) ? "a window could not be shared" : "a device cannot, or MEDLEY_DEVICE_DIRECT is 0");
    if (c->cfg.device_direct) atomic_fetch_add_explicit(&c->fallbacks, 1, memory_order_relaxed);
    mdl_direct_close(c);
    c->stager->settled_ns = 0;                  /* its end has not begun */
    (void)mdl_error_set(medleySuccess, before); /* what was tried and did not work is no error of this call */
    return medleySuccess;
}

/* ---- the end ---- */

static void close_imports(struct mdl_direct *d)
{
    for (int r = 0; r < d->nranks; r++) {
        struct mdl_direct_peer *p = &d->peers[r];
        if (p->import) (void)d->dev.ops->ipc_close(d->dev.ops, p->import);
        mdl_window_drop(p->held);
        *p = (struct mdl_direct_peer){.elsewhere = p->elsewhere, .named = p->named};
    }
}

/* Has its process ended, for certain? Of another number space, as containers have, nothing can be told. */
static bool is_dead(const struct mdl_comm *c, const struct mdl_direct *d, int r)
{
    return d->peers[r].named && kill((pid_t)c->facts[r].pid, 0) != 0 && errno == ESRCH;
}

/* May rank r, of another process, still have the window open? Of the own process, it holds it. */
static bool may_read(const struct mdl_comm *c, const struct mdl_direct *d, int r)
{
    const struct mdl_rank_facts *f = &c->facts[r];

    if (!d->peers[r].elsewhere) return false;
    if (atomic_load_explicit(mdl_board_reads_windows(&c->board, c->team->local[r]), memory_order_acquire) !=
        f->board_segment)
        return false;                                /* pairs with part */
    return !mdl_comm_failed(c) || !is_dead(c, d, r); /* the dead read nothing */
}

static bool all_have_parted(const struct mdl_comm *c, const struct mdl_direct *d)
{
    for (int r = 0; r < c->nranks; r++)
        if (may_read(c, d, r)) return false;
    return true;
}

/* Tells the others that this rank reads nothing any more, and waits shortly for them. */
static bool part(struct mdl_comm *c, const struct mdl_direct *d)
{
    const struct timespec nap = {.tv_nsec = 200000};
    uint64_t until = mdl_now_ns() + (mdl_comm_failed(c) ? PART_NS / 5 : PART_NS);

    atomic_store_explicit(mdl_board_reads_windows(&c->board, c->board.me), 0, memory_order_release); /* may_read */
    while (!all_have_parted(c, d)) {
        if (mdl_now_ns() >= until) return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

static void free_own(struct mdl_direct *d)
{
    const struct mdl_device *ops = d->dev.ops;

    if (d->scratch) (void)ops->free(ops, d->scratch);
    if (d->carry) (void)ops->free(ops, d->carry);
    if (d->event) (void)ops->event_destroy(ops, d->event);
    if (d->placed) mdl_hold_give_any(d->hold);
    if (d->ready) mdl_hold_free(d->hold, 1, &d->ready);
    if (d->arrived) (void)ops->free_pinned(ops, d->arrived);
}

void mdl_direct_free(struct mdl_direct *d)
{
    if (!d) return;
    close_imports(d);
    free_own(d);
    mdl_window_drop(d->own);
    free(d->peers);
    free(d);
}

static bool has_imports(const struct mdl_direct *d)
{
    for (int r = 0; r < d->nranks; r++)
        if (d->peers[r].import) return true;
    return false;
}

/* With nothing left that a stream uses. Windows of other processes cannot stay open until the stager is freed, since
 * their owners free them when they are told that nobody reads them: those wait for longer. */
static bool stop_reading(struct mdl_comm *c, struct mdl_direct *d)
{
    struct mdl_dev_visit visit;
    bool entered;

    if (!has_imports(d)) return true;
    if (!mdl_stager_calm(c->stager, true)) return false;
    entered = mdl_dev_enter(&d->dev, &visit) == medleySuccess;
    if (entered) {
        close_imports(d);
        mdl_dev_leave(&d->dev, &visit);
    }
    mdl_load_resume(c->stager->load);
    return entered;
}

/* The rest is freed with the stager, which waits for a calm device. */
void mdl_direct_close(struct mdl_comm *c)
{
    struct mdl_direct *d = c->direct;

    if (!d) return;
    c->direct = NULL;
    if (!mdl_stager_settle(c->stager) || !stop_reading(c, d)) {
        MDL_WARN(MDL_COLL,
                 "a stream of %s:%d still uses the windows of a communicator that has ended, or another one's "
                 "call holds it up: they stay",
                 d->dev.ops->vendor, d->dev.ordinal);
        return;
    }
    if (!part(c, d) && d->own) d->own->kept = true;
    if (d->placed) mdl_hold_give_any(d->hold);
    d->placed = false;
    c->stager->direct = d;
}
