/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks as processes, which die, stop, and leave without a word. The world lies in shared memory, so that the parent
 * sees what each rank was told; the parent itself never uses the library.
 */
#include "config.h"
#include "tests/unit/boot_world.h"
#include "tests/unit/leaks.h"
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { RANKS = 21, TYPE = MDL_CTL_USER };

/* What the parent and the ranks say to each other. */
struct stage {
    struct world world;
    atomic_int id_made, joined, step;
    pid_t pids[RANKS];
    bool dead[RANKS];
    struct {
        atomic_int count;
        int rank;
        bool said_goodbye;
        char why[256];
        uint64_t at_ns;
    } lost[RANKS];
    atomic_int heard[RANKS];
};
static struct stage *stage;

static void await_step(int step) { world_await(&stage->step, step); }

static void set_step(int step) { atomic_store_explicit(&stage->step, step, memory_order_release); }

/* ---- a rank ---- */

static void on_lost(void *ctx, int rank, bool said_goodbye, const char *why)
{
    int me = ((struct world_rank *)ctx)->rank;
    stage->lost[me].rank = rank;
    stage->lost[me].said_goodbye = said_goodbye;
    stage->lost[me].at_ns = mdl_now_ns();
    snprintf(stage->lost[me].why, sizeof(stage->lost[me].why), "%s", why);
    atomic_fetch_add_explicit(&stage->lost[me].count, 1, memory_order_release);
}

static void rank_main(struct world_rank *r, void (*body)(struct world_rank *r))
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (r->rank == 0) {
        if (mdl_boot_id_create(&stage->world.cfg, &stage->world.ids[0]) != medleySuccess) _exit(2);
        atomic_store_explicit(&stage->id_made, 1, memory_order_release);
    }
    world_await(&stage->id_made, 1);
    world_join(r);
    if (r->result != medleySuccess) _exit(3);
    body(r);
    mdl_ctl_close(r->ctl);
    _exit(0);
}

/* ---- the parent ---- */

static void stage_init(int nranks)
{
    stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(stage, MAP_FAILED);
    world_init(&stage->world, nranks);
}

static void start(void (*body)(struct world_rank *r))
{
    for (int i = 0; i < stage->world.nranks; i++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) rank_main(&stage->world.ranks[i], body);
        stage->pids[i] = pid;
    }
}

static void kill_rank(int rank, int signal)
{
    int status;
    ck_assert_int_eq(kill(stage->pids[rank], signal), 0);
    /* It goes on for a moment. */
    if (signal == SIGSTOP) {
        ck_assert_int_eq(waitpid(stage->pids[rank], &status, WUNTRACED), stage->pids[rank]);
        ck_assert(WIFSTOPPED(status));
    }
    if (signal == SIGKILL || signal == SIGSTOP) stage->dead[rank] = true;
}

/* Every rank that was not killed or stopped ends well; the others are killed now. */
static void finish(void)
{
    for (int i = 0; i < stage->world.nranks; i++) {
        int status;
        if (stage->dead[i]) kill(stage->pids[i], SIGKILL);
        ck_assert_int_eq(waitpid(stage->pids[i], &status, 0), stage->pids[i]);
        if (!stage->dead[i]) ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "rank %d: %x", i, status);
    }
    munmap(stage, sizeof(*stage));
}

static uint64_t since_ms(uint64_t ns) { return (mdl_now_ns() - ns) / MDL_NS_PER_MS; }

/* All survivors have been told of a fault of this origin; the last within `ms`. */
static void survivors_know(int origin, const char *say, uint64_t since, uint64_t ms)
{
    for (int i = 0; i < stage->world.nranks; i++) {
        struct world_rank *r = &stage->world.ranks[i];
        if (stage->dead[i]) continue;
        world_await(&r->faults, 1);
        ck_assert_msg(r->fault_origin == origin, "rank %d: origin %d, %s", i, r->fault_origin, r->fault_text);
        ck_assert_msg(strstr(r->fault_text, say) != NULL, "rank %d: %s", i, r->fault_text);
        ck_assert_msg(r->fault_ns - since < unit_ns((double)ms / 1e3) || r->fault_ns < since, "rank %d: after %llu ms",
                      i, (unsigned long long)(r->fault_ns - since) / MDL_NS_PER_MS);
    }
}

/* ---- killed ---- */

static void stay(struct world_rank *r)
{
    atomic_fetch_add_explicit(&stage->joined, 1, memory_order_release);
    await_step(1);
}

static void kill_one(int nranks, int victim, bool tcp)
{
    stage_init(nranks);
    for (int i = 0; i < nranks && tcp; i++) {
        stage->world.ranks[i].cfg = stage->world.cfg;
        snprintf(stage->world.ranks[i].cfg.host_id.s, sizeof(stage->world.cfg.host_id.s), "host %d", i);
    }
    start(stay);
    world_await(&stage->joined, nranks);
    uint64_t since = mdl_now_ns();
    kill_rank(victim, SIGKILL);
    survivors_know(victim, tcp ? "connection closed" : "process", since, 1000);
    set_step(1);
    finish();
}

START_TEST(killed_inner_node) { kill_one(RANKS, 1, false); }
END_TEST
START_TEST(killed_top) { kill_one(RANKS, 0, false); }
END_TEST
START_TEST(killed_leaf) { kill_one(RANKS, 20, false); }
END_TEST
START_TEST(killed_over_tcp) { kill_one(6, 1, true); }
END_TEST

/* A process that ends without closing its communicator has died, as far as the others can tell. */
static void end_early(struct world_rank *r)
{
    atomic_fetch_add_explicit(&stage->joined, 1, memory_order_release);
    world_await(&stage->joined, stage->world.nranks);
    if (r->rank == 2) exit(0);
    await_step(1);
}

START_TEST(exit_without_close)
{
    stage_init(5);
    start(end_early);
    world_await(&stage->joined, 5);
    stage->dead[2] = true;
    survivors_know(2, "process", mdl_now_ns(), 1000 + LEAKS_TSAN * 2000); /* its exit takes a second there */
    set_step(1);
    finish();
}
END_TEST

/* A forked child holds the sockets of a dead rank open: its end shows all the same. */
static void leave_a_child(struct world_rank *r)
{
    if (r->rank == 2 && fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        await_step(1);
        _exit(0);
    }
    stay(r);
}

START_TEST(killed_with_a_child_alive)
{
    stage_init(5);
    start(leave_a_child);
    world_await(&stage->joined, 5);
    uint64_t since = mdl_now_ns();
    kill_rank(2, SIGKILL);
    survivors_know(2, "has ended", since, 1000);
    set_step(1);
    finish();
}
END_TEST

/* ---- killed while they join ---- */

static void nothing(struct world_rank *r) {}

static void *die_soon(void *arg)
{
    usleep(100 * 1000);
    kill(getpid(), SIGKILL);
    return NULL;
}

static bool killed_is_missing(int ms)
{
    stage_init(4);
    stage->world.cfg.init_timeout = ms;
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            pthread_t t;
            if (i == 2) pthread_create(&t, NULL, die_soon, NULL);
            rank_main(&stage->world.ranks[i], nothing);
        }
        stage->pids[i] = pid;
    }
    for (int i = 0; i < 3; i++) waitpid(stage->pids[i], NULL, 0);
    bool good = true;
    for (int i = 0; i < 2; i++)
        good = good && stage->world.ranks[i].result == medleyTimeout &&
               strstr(stage->world.ranks[i].error, "missing: 2-3") != NULL;
    munmap(stage, sizeof(*stage));
    return good;
}

/* Rank 3 never comes, and rank 2 dies while it waits: both are named. */
START_TEST(killed_while_waiting)
{
    bool good = false;
    WORLD_TRY_LONGER(ms) if ((good = killed_is_missing(2 * ms))) break;
    ck_assert(good);
}
END_TEST

static void short_life(struct world_rank *r)
{
    uint8_t mine = 1, all[8];
    r->result = mdl_ctl_allgather(r->ctl, &mine, 1, all, world_soon(5000), "short life");
    if (r->result != medleySuccess) snprintf(r->error, sizeof(r->error), "%s", mdl_error_text());
}

/* Wherever the victim was in its life, the others end, with success or with words, and in time. */
static void killed_after(int us)
{
    stage_init(8);
    stage->world.cfg.init_timeout = 400;
    uint64_t since = mdl_now_ns();
    start(short_life);
    world_await(&stage->id_made, 1);
    usleep((useconds_t)us);
    kill(stage->pids[5], SIGKILL);
    for (int i = 0; i < 8; i++) {
        int status;
        const struct world_rank *r = &stage->world.ranks[i];
        ck_assert_int_eq(waitpid(stage->pids[i], &status, 0), stage->pids[i]);
        ck_assert_msg(i == 5 || WIFEXITED(status), "rank %d: status %x after %d us", i, status, us);
        ck_assert_msg(i == 5 || !r->result || r->error[0], "rank %d failed without words", i);
    }
    ck_assert_uint_lt(mdl_now_ns() - since, unit_ns(8));
    munmap(stage, sizeof(*stage));
}

START_TEST(killed_at_any_time)
{
    for (int us = 500; us < 30000; us = us * 2) killed_after(us);
}
END_TEST

/* ---- stopped ---- */

START_TEST(stopped_rank_is_silent)
{
    char say[64];
    stage_init(6);
    stage->world.cfg.heartbeat = 40;
    stage->world.cfg.dead_after = world_stretch_ms(400);
    start(stay);
    world_await(&stage->joined, 6);
    uint64_t since = mdl_now_ns();
    kill_rank(1, SIGSTOP);
    snprintf(say, sizeof(say), "no sign of life for %.3g s", (double)stage->world.cfg.dead_after / 1000);
    survivors_know(1, say, since, 1600 + (uint64_t)stage->world.cfg.dead_after);
    ck_assert_uint_ge(since_ms(since), (uint64_t)stage->world.cfg.dead_after * 3 / 4);
    set_step(1);
    finish();
}
END_TEST

static void watch(struct world_rank *r)
{
    mdl_ctl_on_lost(r->ctl, on_lost, r);
    if (r->rank == 5) mdl_ctl_watch_peer(r->ctl, 12);
    stay(r);
}

/* Rank 5 is no neighbour of rank 12, but watches it. */
START_TEST(stopped_rank_is_watched)
{
    stage_init(13);
    stage->world.cfg.heartbeat = 40;
    stage->world.cfg.dead_after = world_stretch_ms(600);
    start(watch);
    world_await(&stage->joined, 13);
    usleep(100 * 1000); /* a few heartbeats */
    kill_rank(12, SIGSTOP);
    world_await(&stage->lost[5].count, 1);
    ck_assert_int_eq(stage->lost[5].rank, 12);
    ck_assert(!stage->lost[5].said_goodbye);
    ck_assert_ptr_nonnull(strstr(stage->lost[5].why, "no sign of life"));
    world_await(&stage->lost[2].count, 1); /* its parent */
    ck_assert_int_eq(atomic_load(&stage->lost[6].count), 0);
    set_step(1);
    finish();
}
END_TEST

/* A rank that was stopped itself does not take the others for dead when it goes on. */
START_TEST(resumed_rank_is_patient)
{
    stage_init(2);
    stage->world.cfg.heartbeat = 50;
    stage->world.cfg.dead_after = world_stretch_ms(1500);
    start(watch);
    world_await(&stage->joined, 2);
    for (int i = 0; i < 2; i++) {
        kill(stage->pids[1], SIGSTOP);
        usleep(500 * 1000); /* too short for rank 0 */
        kill(stage->pids[1], SIGCONT);
        usleep(200 * 1000);
    }
    ck_assert_int_eq(atomic_load(&stage->lost[0].count), 0);
    ck_assert_int_eq(atomic_load(&stage->lost[1].count), 0);
    set_step(1);
    finish();
}
END_TEST

/* ---- the flood around the dead ---- */

static void report_only(struct world_rank *r)
{
    mdl_ctl_on_lost(r->ctl, on_lost, r);
    atomic_fetch_add_explicit(&stage->joined, 1, memory_order_release);
    await_step(1);
    if (r->rank == 20) mdl_ctl_fault(r->ctl, medleySystemError, 20, "from the far end");
    await_step(2);
}

/* Ranks 4 (parent of 20), 0 (the top) and 1 (parent of 5 to 8) are gone when rank 20 reports its fault. */
static void flood_around(int signal, uint64_t ms)
{
    stage_init(RANKS);
    start(report_only);
    world_await(&stage->joined, RANKS);
    kill_rank(4, signal);
    kill_rank(0, signal);
    kill_rank(1, signal);
    if (signal == SIGKILL) world_await(&stage->lost[20].count, 1);
    uint64_t since = mdl_now_ns();
    set_step(1);
    survivors_know(20, "from the far end", since, ms);
    set_step(2);
    finish();
}

START_TEST(flood_around_killed_ranks) { flood_around(SIGKILL, 1000); }
END_TEST

/* Nobody knows yet that they do not run. */
START_TEST(flood_around_stopped_ranks) { flood_around(SIGSTOP, 2500); }
END_TEST

/* ---- forked children of a rank ---- */

static void fork_and_use(struct world_rank *r)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t byte = 0, all[2];
        bool refused = mdl_ctl_send(r->ctl, 0, TYPE, &byte, 1) == medleyInvalidUsage &&
                       mdl_ctl_allgather(r->ctl, &byte, 1, all, world_soon(1000), "child") == medleyInvalidUsage;
        mdl_ctl_close(r->ctl); /* the parent's: nothing happens */
        _exit(refused ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    uint8_t byte = (uint8_t)r->rank, all[2];
    medleyResult_t result = mdl_ctl_allgather(r->ctl, &byte, 1, all, world_soon(5000), "parent");
    if (status || result != medleySuccess || all[1] != 1) _exit(4);
}

START_TEST(forked_children_are_refused)
{
    stage_init(2);
    start(fork_and_use);
    finish();
}
END_TEST

UNIT_MAIN("ctl_death", killed_inner_node, killed_top, killed_leaf, killed_over_tcp, exit_without_close,
          killed_with_a_child_alive, killed_while_waiting, killed_at_any_time, stopped_rank_is_silent,
          stopped_rank_is_watched, resumed_rank_is_patient, flood_around_killed_ranks, flood_around_stopped_ranks,
          forked_children_are_refused)
