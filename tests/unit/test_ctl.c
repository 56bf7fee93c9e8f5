/* SPDX-License-Identifier: Apache-2.0 */
/* Control planes of ranks that are threads of this process: messages, the all-gather, goodbyes, faults, derived planes.
 */
#include "config.h"
#include "tests/unit/boot_world.h"
#include "tests/unit/leaks.h"

static struct world world;

/* Joins n ranks and keeps their planes open; the test closes them with `part`. */
static void *thread_join(void *arg)
{
    world_join(arg);
    return NULL;
}

static void gather_ranks(int n)
{
    world_make_id(&world);
    for (int i = 0; i < n; i++) pthread_create(&world.ranks[i].thread, NULL, thread_join, &world.ranks[i]);
    for (int i = 0; i < n; i++) pthread_join(world.ranks[i].thread, NULL);
    world_all_joined(&world);
}

static void meet(int n)
{
    world_init(&world, n);
    gather_ranks(n);
}

/* The same over TCP: ranks that say that they are of different hosts do not try Unix sockets. */
static void meet_tcp(int n)
{
    world_init(&world, n);
    for (int i = 0; i < n; i++) {
        world.ranks[i].cfg = world.cfg;
        snprintf(world.ranks[i].cfg.host_id.s, sizeof(world.cfg.host_id.s), "host %d", i);
    }
    gather_ranks(n);
}

static void part(void)
{
    for (int i = 0; i < world.nranks; i++) {
        mdl_ctl_close(world.ranks[i].ctl);
        world.ranks[i].ctl = NULL;
    }
}

static struct mdl_ctl *ctl(int rank) { return world.ranks[rank].ctl; }

/* ---- messages ---- */

enum { RANKS = 12, MESSAGES = 60, TYPE = MDL_CTL_USER + 5 };

struct box {
    int next[RANKS]; /* of each source */
    int wrong;
    atomic_int total;
};
static struct box boxes[RANKS];

/* Message k of a pair: its number, then a length and content that follow from it. */
static size_t fill(int src, int dst, int k, uint8_t *bytes)
{
    size_t len = 4 + (size_t)(k * 131 + src * 17 + dst) % 900;
    if (k == MESSAGES - 1) len = MDL_CTL_MAX_PAYLOAD;
    memset(bytes, src * 16 + dst, len);
    mdl_put_u32(bytes, (uint32_t)k);
    return len;
}

static void on_message(void *ctx, int src, const uint8_t *payload, size_t len)
{
    static uint8_t want[MDL_CTL_MAX_PAYLOAD]; /* the reactor's thread is one */
    struct box *box = ctx;
    int dst = (int)(box - boxes), k = box->next[src]++;
    box->wrong += len != fill(src, dst, k, want) || memcmp(payload, want, len) != 0;
    atomic_fetch_add_explicit(&box->total, 1, memory_order_release);
}

static void *send_to_all(void *arg)
{
    struct world_rank *r = arg;
    uint8_t *bytes = malloc(MDL_CTL_MAX_PAYLOAD);
    for (int k = 0; k < MESSAGES; k++)
        for (int dst = 0; dst < RANKS; dst++) {
            size_t len = fill(r->rank, dst, k, bytes);
            if (mdl_ctl_send(r->ctl, dst, TYPE, bytes, len) != medleySuccess) r->result = medleyInternalError;
        }
    free(bytes);
    return NULL;
}

/* Everybody sends to everybody at once, so that both sides of most pairs open the link at the same time. */
static void all_to_all(void)
{
    memset(boxes, 0, sizeof(boxes));
    for (int i = 0; i < RANKS; i++) mdl_ctl_handle(ctl(i), TYPE, on_message, &boxes[i]);
    for (int i = 0; i < RANKS; i++) pthread_create(&world.ranks[i].thread, NULL, send_to_all, &world.ranks[i]);
    for (int i = 0; i < RANKS; i++) pthread_join(world.ranks[i].thread, NULL);
    for (int i = 0; i < RANKS; i++) world_await(&boxes[i].total, RANKS * MESSAGES);
    world_all_joined(&world);
    for (int i = 0; i < RANKS; i++) {
        mdl_ctl_handle(ctl(i), TYPE, NULL, NULL); /* and so the reactor is done with the box */
        ck_assert_int_eq(boxes[i].wrong, 0);
        ck_assert_int_eq(atomic_load(&boxes[i].total), RANKS * MESSAGES);
        ck_assert_int_eq(atomic_load(&world.ranks[i].faults), 0);
    }
    part();
}

START_TEST(messages_in_order)
{
    meet(RANKS);
    all_to_all();
}
END_TEST

START_TEST(messages_in_order_over_tcp)
{
    meet_tcp(RANKS);
    all_to_all();
}
END_TEST

START_TEST(messages_wait_for_their_handler)
{
    uint8_t bytes[1000];
    meet(2);
    memset(boxes, 0, sizeof(boxes));
    for (int k = 0; k < 5; k++)
        ck_assert_int_eq(mdl_ctl_send(ctl(1), 0, TYPE, bytes, fill(1, 0, k, bytes)), medleySuccess);
    /* This one comes behind them on the same link. */
    memset(&boxes[1], 0, sizeof(boxes[1]));
    mdl_ctl_handle(ctl(0), TYPE + 1, on_message, &boxes[1]);
    mdl_ctl_send(ctl(1), 0, TYPE + 1, bytes, fill(1, 1, 0, bytes));
    world_await(&boxes[1].total, 1);
    mdl_ctl_handle(ctl(0), TYPE, on_message, &boxes[0]);
    ck_assert_int_eq(atomic_load(&boxes[0].total), 5);
    ck_assert_int_eq(boxes[0].wrong, 0);
    part();
}
END_TEST

START_TEST(unhandled_messages_are_bounded)
{
    static uint8_t bytes[MDL_CTL_MAX_PAYLOAD];
    meet(2);
    for (int k = 0; k < 80; k++) ck_assert_int_eq(mdl_ctl_send(ctl(1), 0, TYPE, bytes, sizeof(bytes)), medleySuccess);
    world_await(&world.ranks[0].faults, 1);
    ck_assert_int_eq(world.ranks[0].fault_code, medleyInternalError);
    ck_assert_ptr_nonnull(strstr(world.ranks[0].fault_text, "pile up"));
    world_await(&world.ranks[1].faults, 1);
    part();
}
END_TEST

START_TEST(impossible_messages)
{
    static uint8_t bytes[MDL_CTL_MAX_PAYLOAD + 1];
    meet(2);
    ck_assert_int_eq(mdl_ctl_send(ctl(0), 2, TYPE, bytes, 1), medleyInternalError);
    ck_assert_int_eq(mdl_ctl_send(ctl(0), -1, TYPE, bytes, 1), medleyInternalError);
    ck_assert_int_eq(mdl_ctl_send(ctl(0), 1, MDL_CTL_USER - 1, bytes, 1), medleyInternalError);
    ck_assert_int_eq(mdl_ctl_send(ctl(0), 1, 256, bytes, 1), medleyInternalError);
    ck_assert_int_eq(mdl_ctl_send(ctl(0), 1, TYPE, bytes, sizeof(bytes)), medleyInternalError);
    part();
}
END_TEST

/* ---- all-gather ---- */

static void gather_big(struct world_rank *r)
{
    enum { LEN = 40000 };
    struct world *w = r->world;
    int wrong = 0;
    uint8_t *mine = malloc(LEN), *all = malloc((size_t)w->nranks * LEN);
    for (int i = 0; i < LEN; i++) mine[i] = (uint8_t)(i * 7 + r->rank);
    wrong += mdl_ctl_allgather(r->ctl, mine, LEN, all, world_soon(10000), "big") != medleySuccess;
    for (int k = 0; k < w->nranks; k++)
        for (int i = 0; i < LEN; i++) wrong += all[k * LEN + i] != (uint8_t)(i * 7 + k);
    wrong += mdl_ctl_allgather(r->ctl, NULL, 0, NULL, world_soon(10000), "empty") != medleySuccess;
    free(mine);
    free(all);
    ck_assert_int_eq(wrong, 0);
}

START_TEST(gather_in_chunks)
{
    world_init(&world, 13);
    world.body = gather_big;
    world_make_id(&world);
    world_run(&world);
    world_all_joined(&world);
}
END_TEST

/* One rank runs ahead by a round whenever it can. */
static void gather_fast(struct world_rank *r)
{
    uint32_t all[WORLD_MAX];
    int wrong = 0;
    for (uint32_t i = 0; i < 300; i++) {
        wrong += mdl_ctl_allgather(r->ctl, &i, sizeof(i), all, world_soon(10000), "fast") != medleySuccess;
        for (int k = 0; k < r->world->nranks; k++) wrong += all[k] != i;
    }
    ck_assert_int_eq(wrong, 0);
}

START_TEST(gather_many_rounds)
{
    world_init(&world, 7);
    world.body = gather_fast;
    world_make_id(&world);
    world_run(&world);
    world_all_joined(&world);
}
END_TEST

static int who_stays_away, who_else, patience_ms;

static void gather_without(struct world_rank *r)
{
    uint8_t mine = 1, all[WORLD_MAX];
    if (r->rank != who_stays_away && r->rank != who_else) {
        r->result = mdl_ctl_allgather(r->ctl, &mine, 1, all, world_soon(patience_ms), "meeting");
        snprintf(r->error, sizeof(r->error), "%s", mdl_error_text());
    }
    pthread_barrier_wait(&r->world->barrier);
}

static const struct world_rank *bad_answer(const char *say)
{
    for (int i = 0; i < world.nranks; i++) {
        const struct world_rank *r = &world.ranks[i];
        bool away = i == who_stays_away || i == who_else;
        if (!away && (r->result != medleyTimeout || !strstr(r->error, say) || !strstr(r->error, "'meeting'"))) return r;
    }
    return NULL;
}

/* Every rank, wherever it sits in the tree, can name those that have not called. */
static void names_missing(int nranks, int a, int b)
{
    char say[64];
    const struct world_rank *bad = NULL;
    snprintf(say, sizeof(say), "waiting for %d of %d ranks: %d (", b < 0 ? 1 : 2, nranks, a);
    WORLD_TRY_LONGER(ms)
    {
        world_init(&world, nranks);
        who_stays_away = a;
        who_else = b;
        patience_ms = ms;
        world.body = gather_without;
        world_make_id(&world);
        world_run(&world);
        bad = bad_answer(say);
        if (!bad) return;
    }
    ck_abort_msg("rank %d: result %d, %s", bad->rank, bad->result, bad->error);
}

START_TEST(gather_names_missing)
{
    names_missing(22, 0, -1);  /* the top */
    names_missing(22, 1, -1);  /* an inner one */
    names_missing(22, 3, 21);  /* an inner one and a leaf */
    names_missing(22, 20, -1); /* a leaf */
}
END_TEST

START_TEST(gather_twice_at_once_or_after_failure)
{
    uint8_t mine = 1, all[2];
    meet(2);
    ck_assert_int_eq(mdl_ctl_allgather(ctl(0), &mine, 1, all, world_soon(50), "alone"), medleyTimeout);
    ck_assert_int_eq(mdl_ctl_allgather(ctl(0), &mine, 1, all, world_soon(50), "again"), medleyInvalidUsage);
    part();
}
END_TEST

static void gather_odd(struct world_rank *r)
{
    uint8_t mine[2] = {1, 2}, all[8];
    r->result = mdl_ctl_allgather(r->ctl, mine, r->rank == 3 ? 2 : 1, all, world_soon(5000), "odd");
    snprintf(r->error, sizeof(r->error), "%s", mdl_error_text());
    pthread_barrier_wait(&r->world->barrier);
}

START_TEST(gather_of_unequal_lengths)
{
    world_init(&world, 4);
    world.body = gather_odd;
    world_make_id(&world);
    world_run(&world);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(world.ranks[i].result, medleyInternalError);
    ck_assert_ptr_nonnull(strstr(world.ranks[0].error, "rank 3 gave 2 bytes"));
}
END_TEST

/* ---- goodbye ---- */

struct lost {
    atomic_int count;
    int rank;
    bool said_goodbye;
    char why[256];
};
static struct lost losses[WORLD_MAX];

static void on_lost(void *ctx, int rank, bool said_goodbye, const char *why)
{
    struct lost *l = ctx;
    l->rank = rank;
    l->said_goodbye = said_goodbye;
    snprintf(l->why, sizeof(l->why), "%s", why);
    atomic_fetch_add_explicit(&l->count, 1, memory_order_release);
}

static void listen_for_losses(void)
{
    memset(losses, 0, sizeof(losses));
    for (int i = 0; i < world.nranks; i++) mdl_ctl_on_lost(ctl(i), on_lost, &losses[i]);
}

static void leave(int rank)
{
    mdl_ctl_close(world.ranks[rank].ctl);
    world.ranks[rank].ctl = NULL;
}

START_TEST(goodbye_is_no_loss)
{
    meet(6);
    listen_for_losses();
    leave(1);
    /* A message around the tree shows that the goodbye has been handled: it was on the way before. */
    memset(boxes, 0, sizeof(boxes));
    mdl_ctl_handle(ctl(5), TYPE, on_message, &boxes[5]);
    uint8_t bytes[1000];
    mdl_ctl_send(ctl(0), 5, TYPE, bytes, fill(0, 5, 0, bytes));
    world_await(&boxes[5].total, 1);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(atomic_load(&losses[i].count), 0);
    /* Who sends to it is told, once. */
    mdl_ctl_send(ctl(0), 1, TYPE, bytes, 4);
    world_await(&losses[0].count, 1);
    ck_assert_int_eq(losses[0].rank, 1);
    ck_assert(losses[0].said_goodbye);
    mdl_ctl_send(ctl(0), 1, TYPE, bytes, 4);
    /* Who watches it, too. */
    mdl_ctl_watch_peer(ctl(5), 1);
    world_await(&losses[5].count, 1);
    ck_assert(losses[5].said_goodbye);
    ck_assert_int_eq(atomic_load(&losses[0].count), 1);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(atomic_load(&world.ranks[i].faults), 0);
    part();
}
END_TEST

START_TEST(stranger_that_left_cannot_be_reached)
{
    meet(8);
    listen_for_losses();
    leave(7); /* no neighbour of 6 */
    uint8_t byte = 0;
    mdl_ctl_send(ctl(6), 7, TYPE, &byte, 1);
    world_await(&losses[6].count, 1);
    ck_assert_int_eq(losses[6].rank, 7);
    ck_assert(!losses[6].said_goodbye);
    part();
}
END_TEST

START_TEST(gather_after_goodbye)
{
    uint8_t mine = 1, all[6];
    meet(6);
    leave(1);
    uint64_t since = mdl_now_ns();
    ck_assert_int_eq(mdl_ctl_allgather(ctl(5), &mine, 1, all, world_soon(5000), "late"), medleyRemoteError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "rank 1 ("));
    ck_assert_uint_lt(mdl_now_ns() - since, unit_ns(4));
    part();
}
END_TEST

/* ---- faults ---- */

static void fault_reaches_all(int nranks, int origin)
{
    meet(nranks);
    uint64_t since = mdl_now_ns();
    mdl_ctl_fault(ctl(origin), medleyTimeout, origin, "a test of faults");
    for (int i = 0; i < nranks; i++) world_await(&world.ranks[i].faults, 1);
    ck_assert_uint_lt(mdl_now_ns() - since, unit_ns(2));
    mdl_ctl_fault(ctl((origin + 1) % nranks), medleySystemError, 0, "too late");
    uint8_t mine = 1, all[WORLD_MAX];
    ck_assert_int_eq(mdl_ctl_allgather(ctl(0), &mine, 1, all, world_soon(5000), "after"), medleyTimeout);
    ck_assert_str_eq(mdl_error_text(), "a test of faults");
    part();
    for (int i = 0; i < nranks; i++) {
        const struct world_rank *r = &world.ranks[i];
        ck_assert_int_eq(atomic_load(&r->faults), 1);
        ck_assert_int_eq(r->fault_code, medleyTimeout);
        ck_assert_int_eq(r->fault_origin, origin);
        ck_assert_str_eq(r->fault_text, "a test of faults");
    }
}

START_TEST(faults_flood)
{
    fault_reaches_all(1, 0);
    fault_reaches_all(2, 1);
    fault_reaches_all(30, 0);
    fault_reaches_all(30, 29);
}
END_TEST

/* Inner nodes have left: the flood goes around them. */
START_TEST(faults_flood_around_the_departed)
{
    meet(30);
    listen_for_losses();
    leave(1);
    leave(4);
    leave(0);
    mdl_ctl_fault(ctl(29), medleyRemoteError, -1, "around");
    for (int i = 0; i < 30; i++)
        if (ctl(i)) world_await(&world.ranks[i].faults, 1);
    part();
}
END_TEST

/* Threads that wait in an exchange hear of the fault. */
static void wait_for_fault(struct world_rank *r)
{
    uint8_t mine = 1, all[WORLD_MAX];
    if (r->rank == 5)
        mdl_ctl_fault(r->ctl, medleyTimeout, 5, "wake up");
    else
        r->result = mdl_ctl_allgather(r->ctl, &mine, 1, all, world_soon(10000), "wait");
    snprintf(r->error, sizeof(r->error), "%s", mdl_error_text());
    pthread_barrier_wait(&r->world->barrier);
}

START_TEST(faults_end_exchanges)
{
    world_init(&world, 9);
    world.body = wait_for_fault;
    world_make_id(&world);
    uint64_t since = mdl_now_ns();
    world_run(&world);
    ck_assert_uint_lt(mdl_now_ns() - since, unit_ns(5));
    for (int i = 0; i < 9; i++) {
        if (i == 5) continue;
        ck_assert_int_eq(world.ranks[i].result, medleyTimeout);
        ck_assert_str_eq(world.ranks[i].error, "wake up");
    }
}
END_TEST

/* As the engine does: the fault sets the abort word, and its words still reach those who wait. */
static void abort_on_fault(void *ctx, medleyResult_t code, int origin, const char *text)
{
    world_on_fault(ctx, code, origin, text);
    __atomic_store_n(&world.abort_word, 1, __ATOMIC_RELAXED);
    usleep(50 * 1000);
}

static void *wait_in_exchange(void *arg)
{
    struct world_rank *r = arg;
    uint8_t mine = 1, all[2];
    r->result = mdl_ctl_allgather(r->ctl, &mine, 1, all, world_soon(10000), "wait");
    snprintf(r->error, sizeof(r->error), "%s", mdl_error_text());
    return NULL;
}

START_TEST(faults_that_abort)
{
    struct world_rank *r = &world.ranks[0];
    world_init(&world, 2);
    world.ranks[0].on_fault = abort_on_fault;
    gather_ranks(2);
    pthread_create(&r->thread, NULL, wait_in_exchange, r);
    mdl_ctl_fault(ctl(1), medleyTimeout, 1, "the reason");
    pthread_join(r->thread, NULL);
    ck_assert_int_eq(r->result, medleyTimeout);
    ck_assert_str_eq(r->error, "the reason");
    part();
}
END_TEST

/* ---- derived planes ---- */

struct part_of {
    struct world_rank *r;
    int ranks[WORLD_MAX], nranks, rank;
    uint64_t serial;
    medleyResult_t result;
    char error[MDL_ERROR_TEXT_BYTES];
    struct mdl_secret secret;
    pthread_t thread;
};
static struct part_of parts[WORLD_MAX];

static void *derive(void *arg)
{
    struct part_of *p = arg;
    struct mdl_boot_args args = p->r->args;
    struct mdl_ctl *child;
    uint32_t all[WORLD_MAX], mine = (uint32_t)p->r->rank;
    args.rank = p->rank;
    args.nranks = p->nranks;
    args.on_fault = NULL;
    p->result = mdl_ctl_derive(p->r->ctl, &args, p->ranks, p->serial, &child);
    if (p->result == medleySuccess) {
        p->secret = *mdl_ctl_secret(child);
        p->result = mdl_ctl_allgather(child, &mine, sizeof(mine), all, world_soon(5000), "in the part");
        for (int i = 0; i < p->nranks && p->result == medleySuccess; i++)
            if (all[i] != (uint32_t)p->ranks[i]) p->result = medleyInternalError;
        mdl_ctl_close(child);
    }
    if (p->result != medleySuccess) snprintf(p->error, sizeof(p->error), "%s", mdl_error_text());
    return NULL;
}

/* The ranks with `color[r]` equal form a part, in descending order. */
static void make_parts(const int *color, uint64_t serial)
{
    memset(parts, 0, sizeof(parts));
    for (int r = 0; r < world.nranks; r++) {
        struct part_of *p = &parts[r];
        p->r = &world.ranks[r];
        p->serial = serial;
        for (int other = world.nranks - 1; other >= 0; other--) {
            if (color[other] != color[r]) continue;
            if (other == r) p->rank = p->nranks;
            p->ranks[p->nranks++] = other;
        }
    }
}

static void run_parts(const int *color)
{
    for (int r = 0; r < world.nranks; r++)
        if (color[r] >= 0) pthread_create(&parts[r].thread, NULL, derive, &parts[r]);
    for (int r = 0; r < world.nranks; r++)
        if (color[r] >= 0) pthread_join(parts[r].thread, NULL);
}

static void all_derived(const int *color)
{
    for (int r = 0; r < world.nranks; r++)
        if (color[r] >= 0)
            ck_assert_msg(parts[r].result == medleySuccess, "rank %d: %d %s", r, parts[r].result, parts[r].error);
}

START_TEST(splits)
{
    int color[9] = {0, 1, 0, 1, 2, 0, 1, 0, 0};
    meet(9);
    for (uint64_t serial = 1; serial <= 3; serial++) {
        make_parts(color, serial);
        run_parts(color);
        all_derived(color);
    }
    /* Each part has a secret of its own. */
    ck_assert_int_eq(memcmp(&parts[0].secret, &parts[2].secret, sizeof(struct mdl_secret)), 0);
    ck_assert_int_ne(memcmp(&parts[0].secret, &parts[1].secret, sizeof(struct mdl_secret)), 0);
    ck_assert_int_ne(memcmp(&parts[4].secret, &parts[1].secret, sizeof(struct mdl_secret)), 0);
    for (int i = 0; i < 9; i++) ck_assert_int_eq(atomic_load(&world.ranks[i].faults), 0);
    part();
}
END_TEST

START_TEST(derive_after_fault)
{
    int color[7] = {0, -1, 0, 0, 0, 0, 0};
    meet(7);
    mdl_ctl_fault(ctl(3), medleyTimeout, 1, "rank 1 is gone");
    for (int i = 0; i < 7; i++) world_await(&world.ranks[i].faults, 1);
    leave(1);
    make_parts(color, 77);
    run_parts(color);
    all_derived(color);
    part();
}
END_TEST

START_TEST(derive_with_absent_member)
{
    int color[4] = {0, 0, -1, 0};
    bool good = false;
    WORLD_TRY_LONGER(ms)
    {
        meet(4);
        make_parts((int[4]){0, 0, 0, 0}, 5);
        for (int i = 0; i < 4; i++) world.ranks[i].cfg.init_timeout = ms;
        run_parts(color);
        good = true;
        /* It is named by its new rank, also to those whose neighbour gives up a moment before they do. */
        for (int i = 0; i < 4; i++)
            if (i != 2)
                good = good && (parts[i].result == medleyTimeout || parts[i].result == medleyRemoteError) &&
                       strstr(parts[i].error, "1 of 4 ranks: 1 (") != NULL;
        part();
        if (good) break;
    }
    ck_assert_msg(good, "%s / %s / %s", parts[0].error, parts[1].error, parts[3].error);
}
END_TEST

START_TEST(derive_with_different_lists)
{
    int color[3] = {0, 0, 0};
    meet(3);
    make_parts(color, 5);
    for (int i = 0; i < 3; i++) world.ranks[i].cfg.init_timeout = 2000;
    parts[1].serial = 5;
    for (int i = 0; i < 3; i++) /* ascending for all, but rank 2 swaps the others */
        for (int k = 0; k < 3; k++) parts[i].ranks[k] = k, parts[i].rank = i;
    parts[2].ranks[0] = 1;
    parts[2].ranks[1] = 0;
    run_parts(color);
    for (int i = 0; i < 3; i++) ck_assert_int_ne(parts[i].result, medleySuccess);
    part();
}
END_TEST

/* ---- leaving nothing behind ---- */

START_TEST(cycles_leave_nothing)
{
    int color[5] = {0, 1, 0, 1, 0};
    meet(1);
    part();
    int fds = leaks_descriptors(), threads = leaks_threads_settle(ALONE);
    for (int i = 0; i < 30; i++) {
        meet(5);
        make_parts(color, 1);
        run_parts(color);
        all_derived(color);
        if (i % 2) mdl_ctl_fault(ctl(i % 5), medleyTimeout, 0, "end");
        part();
    }
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

UNIT_MAIN("ctl", messages_in_order, messages_in_order_over_tcp, messages_wait_for_their_handler,
          unhandled_messages_are_bounded, impossible_messages, gather_in_chunks, gather_many_rounds,
          gather_names_missing, gather_twice_at_once_or_after_failure, gather_of_unequal_lengths, goodbye_is_no_loss,
          stranger_that_left_cannot_be_reached, gather_after_goodbye, faults_flood, faults_flood_around_the_departed,
          faults_end_exchanges, faults_that_abort, splits, derive_after_fault, derive_with_absent_member,
          derive_with_different_lists, cycles_leave_nothing)
