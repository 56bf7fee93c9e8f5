/* SPDX-License-Identifier: Apache-2.0 */
/* Following streams (devices/follow.h), with streams that are made of flags: marks that the test passes, gates that it
 * looks at. */
#include "config.h"
#include "devices/follow.h"
#include "tests/unit/unit.h"
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { PASSED = 1, OPEN = 2, DROPPED = 4, BROKEN = 8 };

/* A mark, gate or receipt: what has happened to it. */
struct thing {
    _Atomic int state;
};

static _Atomic int held;

static medleyResult_t passed(void *mark)
{
    int state = atomic_load(&((struct thing *)mark)->state);
    ck_assert(!(state & DROPPED));
    if (state & BROKEN) return medleyUnhandledDeviceError;
    return state & PASSED ? medleySuccess : medleyInProgress;
}
static void open_gate(void *gate) { atomic_fetch_or(&((struct thing *)gate)->state, OPEN); }
static void drop(void *thing) { ck_assert(!(atomic_fetch_or(&((struct thing *)thing)->state, DROPPED) & DROPPED)); }
static void hold(void *stream)
{
    (void)stream;
    atomic_fetch_add(&held, 1);
}
static void let_go(void *stream)
{
    (void)stream;
    atomic_fetch_sub(&held, 1);
}

static const struct mdl_follow_ops ops = {
    .passed = passed, .open = open_gate, .drop = drop, .hold = hold, .let_go = let_go};
static struct mdl_follow f = MDL_FOLLOW_INITIALIZER(&ops);
static char streams[4];

static void append(char *stream, struct mdl_step step)
{
    struct mdl_lane *lane;
    ck_assert_int_eq(mdl_follow_enter(&f, stream, &lane), medleySuccess);
    mdl_follow_leave(&f, lane, &step);
}

static void write_word(char *stream, struct thing *mark, uint64_t *word, uint64_t value)
{
    append(stream, (struct mdl_step){.kind = MDL_STEP_WRITE, .mark = mark, .word = word, .value = value});
}

static void wait_word(char *stream, struct thing *gate, struct thing *receipt, uint64_t *word, uint64_t value)
{
    append(stream,
           (struct mdl_step){.kind = MDL_STEP_WAIT, .gate = gate, .receipt = receipt, .word = word, .value = value});
}

static void pass(struct thing *t) { atomic_fetch_or(&t->state, PASSED); }
static bool is(struct thing *t, int state) { return (atomic_load(&t->state) & state) == state; }
static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
#define UNTIL(condition)                                                                                               \
    while (!(condition)) sched_yield() /* Check's deadline ends it */

/* Whatever would happen too early has had many turns to do so. */
static void let_it_run(void)
{
    for (int i = 0; i < 200; i++) sched_yield();
}

START_TEST(keeps_the_order_of_a_stream)
{
    struct thing first = {0}, second = {0};
    uint64_t word = 0;
    write_word(&streams[0], &first, &word, 1);
    write_word(&streams[0], &second, &word, 2);
    pass(&second); /* as its callback may come first */
    let_it_run();
    ck_assert_uint_eq(load(&word), 0);
    pass(&first);
    UNTIL(load(&word) == 2);
    mdl_follow_sync(&f, &streams[0]);
    ck_assert(is(&first, DROPPED) && is(&second, DROPPED));
}
END_TEST

/* The gate stays closed until the word is there, as a signed difference, and is dropped only after its receipt. */
START_TEST(opens_gates_for_words)
{
    struct thing gate = {0}, receipt = {0};
    uint64_t word = UINT64_MAX - 1;
    wait_word(&streams[0], &gate, &receipt, &word, 2);
    let_it_run();
    ck_assert(!is(&gate, OPEN));
    store(&word, 1);
    let_it_run();
    ck_assert(!is(&gate, OPEN));
    store(&word, 3);
    UNTIL(is(&gate, OPEN));
    let_it_run();
    ck_assert(!is(&gate, DROPPED));
    pass(&receipt);
    mdl_follow_sync(&f, &streams[0]);
    ck_assert(is(&gate, DROPPED) && is(&receipt, DROPPED));
}
END_TEST

START_TEST(streams_do_not_wait_for_each_other)
{
    struct thing gate = {0}, mark = {PASSED};
    uint64_t never = 0, word = 0;
    wait_word(&streams[0], &gate, NULL, &never, 1);
    write_word(&streams[1], &mark, &word, 5);
    UNTIL(load(&word) == 5);
    ck_assert(!is(&gate, OPEN));
    store(&never, 1);
    mdl_follow_sync(&f, &streams[0]);
    ck_assert(is(&gate, OPEN));
}
END_TEST

static uint64_t calls;
static void count_call(void *arg)
{
    ck_assert(!is(arg, OPEN));
    store(&calls, load(&calls) + 1);
}

START_TEST(calls_between_mark_and_gate)
{
    struct thing mark = {0}, gate = {0}, joined = {0};
    append(&streams[0],
           (struct mdl_step){.kind = MDL_STEP_CALL, .mark = &mark, .gate = &gate, .fn = count_call, .arg = &gate});
    append(&streams[0], (struct mdl_step){.kind = MDL_STEP_JOIN, .gate = &joined});
    let_it_run();
    ck_assert_uint_eq(load(&calls), 0);
    pass(&mark);
    mdl_follow_sync(&f, &streams[0]);
    ck_assert(load(&calls) == 1 && is(&gate, OPEN) && is(&joined, OPEN));
}
END_TEST

/* Words say so, functions are not called, gates open though their words never come; other streams go on. */
START_TEST(a_failed_stream_lets_go)
{
    struct thing broken = {0}, gate = {0}, mark = {PASSED}, receipt = {0}, called = {PASSED}, good = {PASSED};
    uint64_t word = 0, never = 0, other = 0;
    write_word(&streams[0], &broken, &word, 3);
    wait_word(&streams[0], &gate, &receipt, &never, 1);
    append(&streams[0], (struct mdl_step){.kind = MDL_STEP_CALL, .mark = &called, .fn = count_call, .arg = &gate});
    atomic_store(&broken.state, BROKEN);
    mdl_follow_sync(&f, &streams[0]);
    ck_assert_uint_eq(load(&word), MDL_WORD_FAILED | 3);
    ck_assert(is(&gate, OPEN) && load(&calls) == 0);
    write_word(&streams[1], &good, &other, 4);
    write_word(&streams[1], &mark, &other, 6);
    mdl_follow_sync(&f, &streams[1]);
    ck_assert_uint_eq(load(&other), 6);
}
END_TEST

/* A step that could not be appended leaves nothing; streams are held as long as they have steps, and no longer. */
START_TEST(lets_streams_go)
{
    struct thing mark = {0};
    struct mdl_lane *lane;
    uint64_t word = 0;
    write_word(&streams[0], &mark, &word, 1);
    for (int i = 1; i < 4; i++) {
        ck_assert_int_eq(mdl_follow_enter(&f, &streams[i], &lane), medleySuccess);
        mdl_follow_leave(&f, lane, NULL);
    }
    UNTIL(atomic_load(&held) == 1);
    pass(&mark);
    UNTIL(atomic_load(&held) == 0);
    ck_assert_uint_eq(load(&word), 1);
    mdl_follow_sync(&f, &streams[0]);
}
END_TEST

enum { THREADS = 4, STEPS = 500 };

static void *many_steps(void *arg)
{
    static struct thing marks[THREADS][STEPS];
    int me = *(int *)arg;
    uint64_t word = 0;
    for (int i = 0; i < STEPS; i++) {
        atomic_store(&marks[me][i].state, PASSED);
        write_word(&streams[me % 2], &marks[me][i], &word, (uint64_t)i + 1);
        if (i % 50 == 49) {
            mdl_follow_sync(&f, &streams[me % 2]);
            ck_assert_uint_eq(load(&word), (uint64_t)i + 1);
        }
    }
    return NULL;
}

START_TEST(many_threads_on_a_stream)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, many_steps, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    UNTIL(atomic_load(&held) == 0);
}
END_TEST

/* Stopping ends the thread even while a stream is held; a forked child gets an error, and stops without harm. */
START_TEST(stops_and_knows_forks)
{
    struct thing gate = {0}, mark = {PASSED};
    struct mdl_lane *lane;
    uint64_t never = 0, word = 0;
    int status;
    pid_t child;
    write_word(&streams[1], &mark, &word, 1);
    UNTIL(atomic_load(&held) == 1 || load(&word) == 1);
    wait_word(&streams[0], &gate, NULL, &never, 1);
    child = fork();
    if (child == 0) {
        bool refused = mdl_follow_enter(&f, &streams[2], &lane) == medleyInvalidUsage;
        mdl_follow_stop(&f);
        _exit(refused ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    mdl_follow_stop(&f);
    mdl_follow_stop(&f);
    ck_assert(!is(&gate, OPEN));
}
END_TEST

UNIT_MAIN("follow", keeps_the_order_of_a_stream, opens_gates_for_words, streams_do_not_wait_for_each_other,
          calls_between_mark_and_gate, a_failed_stream_lets_go, lets_streams_go, many_threads_on_a_stream,
          stops_and_knows_forks)
