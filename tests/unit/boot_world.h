/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as threads of one process, and ranks as forked processes, for the tests of bootstrap and control. */
#ifndef MDL_TESTS_BOOT_WORLD_H_
#define MDL_TESTS_BOOT_WORLD_H_

#include "lib/base/clock.h"
#include "lib/boot/boot.h"
#include "tests/unit/leaks.h"
#include "tests/unit/unit.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { WORLD_MAX = 320 };
enum { ALONE = 3 + LEAKS_TSAN }; /* entries of /proc/self/task with one thread, and ThreadSanitizer's */

struct world;
struct world_rank {
    struct world *world;
    int rank;
    pthread_t thread;
    bool absent; /* does not take part */
    int as, of;  /* the rank and nranks that it gives */
    struct mdl_config cfg;
    medleyUniqueId *ids;
    struct mdl_boot_args args;
    void (*on_fault)(void *ctx, medleyResult_t code, int origin, const char *text); /* NULL: world_on_fault */
    struct mdl_ctl *ctl;
    medleyResult_t result;
    char error[MDL_ERROR_TEXT_BYTES];
    /* first fault */
    atomic_int faults;
    medleyResult_t fault_code;
    int fault_origin;
    char fault_text[MDL_ERROR_TEXT_BYTES];
    uint64_t fault_ns;
};

struct world {
    struct mdl_config cfg;
    medleyUniqueId ids[4];
    int nids, nranks;
    uint32_t abort_word;
    int nthreads;                       /* nranks, or more where a test wants impostors */
    void (*body)(struct world_rank *r); /* with r->ctl, after a successful join */
    pthread_barrier_t barrier;
    struct world_rank ranks[WORLD_MAX];
};

/* A configuration with short times. */
static inline void world_config(struct mdl_config *cfg)
{
    ck_assert_int_eq(mdl_config_load(cfg), medleySuccess);
    cfg->init_timeout = 20000;
    cfg->heartbeat = 100;
    cfg->dead_after = 10000;
    cfg->auth_timeout = 5000;
    snprintf(cfg->socket_ifname.s, sizeof(cfg->socket_ifname.s), "=lo");
}

static inline void world_on_fault(void *ctx, medleyResult_t code, int origin, const char *text)
{
    struct world_rank *r = ctx;
    r->fault_code = code;
    r->fault_origin = origin;
    snprintf(r->fault_text, sizeof(r->fault_text), "%s", text);
    r->fault_ns = mdl_now_ns();
    /* Release: pairs with the acquire in world_await. */
    atomic_fetch_add_explicit(&r->faults, 1, memory_order_release);
}

static inline void world_init(struct world *w, int nranks)
{
    memset(w, 0, sizeof(*w));
    world_config(&w->cfg);
    w->nranks = w->nthreads = nranks;
    w->nids = 1;
    for (int i = 0; i < WORLD_MAX; i++)
        w->ranks[i] = (struct world_rank){.world = w, .rank = i, .as = i, .of = nranks, .ids = w->ids};
}

static inline void world_make_id(struct world *w)
{
    for (int i = 0; i < w->nids; i++) ck_assert_int_eq(mdl_boot_id_create(&w->cfg, &w->ids[i]), medleySuccess);
}

static inline void world_join(struct world_rank *r)
{
    struct world *w = r->world;
    if (!r->cfg.init_timeout) r->cfg = w->cfg;
    r->args = (struct mdl_boot_args){.config = &r->cfg,
                                     .ids = r->ids,
                                     .nids = w->nids,
                                     .rank = r->as,
                                     .nranks = r->of,
                                     .abort_word = &w->abort_word,
                                     .on_fault = r->on_fault ? r->on_fault : world_on_fault,
                                     .ctx = r};
    r->result = mdl_boot_join(&r->args, &r->ctl);
    if (r->result != medleySuccess) snprintf(r->error, sizeof(r->error), "%s", mdl_error_text());
}

static inline void *world_thread(void *arg)
{
    struct world_rank *r = arg;
    world_join(r);
    if (r->result != medleySuccess) return NULL;
    if (r->world->body) r->world->body(r);
    mdl_ctl_close(r->ctl);
    r->ctl = NULL;
    return NULL;
}

/* Runs all ranks that are not absent to their end. */
static inline void world_run(struct world *w)
{
    pthread_barrier_init(&w->barrier, NULL, (unsigned)w->nranks);
    for (int i = 0; i < w->nthreads; i++)
        if (!w->ranks[i].absent)
            ck_assert_int_eq(pthread_create(&w->ranks[i].thread, NULL, world_thread, &w->ranks[i]), 0);
    for (int i = 0; i < w->nthreads; i++)
        if (!w->ranks[i].absent) pthread_join(w->ranks[i].thread, NULL);
    pthread_barrier_destroy(&w->barrier);
}

/* Did all that took part fail with this code, and say this? */
static inline bool world_all_say(const struct world *w, medleyResult_t code, const char *say)
{
    bool all = true;
    for (int i = 0; i < w->nthreads; i++)
        if (!w->ranks[i].absent) all = all && w->ranks[i].result == code && strstr(w->ranks[i].error, say);
    return all;
}

/* A test that waits for a deadline tries it with a short one first, and with longer ones where the machine is slow. */
#define WORLD_TRY_LONGER(ms) for (int ms = 250; ms <= 16000; ms *= 4)

/* All that took part failed with this code, and each said this. */
static inline void world_all_failed(const struct world *w, medleyResult_t code, const char *say)
{
    for (int i = 0; i < w->nthreads; i++) {
        const struct world_rank *r = &w->ranks[i];
        if (r->absent) continue;
        ck_assert_msg(r->result == code, "rank %d: result %d, %s", i, r->result, r->error);
        ck_assert_msg(strstr(r->error, say) != NULL, "rank %d does not say '%s': %s", i, say, r->error);
        ck_assert_ptr_null(r->ctl);
    }
}

static inline void world_all_joined(const struct world *w)
{
    for (int i = 0; i < w->nranks; i++)
        ck_assert_msg(w->ranks[i].result == medleySuccess, "rank %d: %s", i, w->ranks[i].error);
}

/* Waits for a counter that another thread raises; fails after 20 s. */
static inline void world_await(atomic_int *counter, int value)
{
    uint64_t until = mdl_now_ns() + unit_ns(20);
    while (atomic_load_explicit(counter, memory_order_acquire) < value) {
        ck_assert_msg(mdl_now_ns() < until, "waited 20 s for %d, is %d", value, atomic_load(counter));
        usleep(1000);
    }
}

/* A time after which something counts as dead or late, so much longer that a starving rank does not. */
static inline int world_stretch_ms(int ms) { return (int)slack_short_ms(ms); }

static inline uint64_t world_soon(int ms) { return mdl_now_ns() + (uint64_t)ms * MDL_NS_PER_MS; }

#endif
