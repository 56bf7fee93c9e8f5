/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's loop: order, cancelling from inside callbacks, start and end under contention, fork. Nothing here
 * sleeps to wait for something: tests wait on what the reactor does. */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/net/reactor.h"
#include "tests/unit/leaks.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

static struct mdl_reactor *r;

/* The first thread of a process may bring helpers of the C library or of a sanitizer: they are no leak. */
static void warm_up(void)
{
    int threads = leaks_threads();
    ck_assert_int_eq(mdl_reactor_get("", &r), medleySuccess);
    mdl_reactor_put(r);
    leaks_threads_settle(threads); /* or it is counted in what the test starts with */
}

static void get(void) { ck_assert_int_eq(mdl_reactor_get("", &r), medleySuccess); }
static void nothing(void *arg) { (void)arg; }

/* A semaphore of the tests: callbacks raise it, the test waits for a number. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t raised = PTHREAD_COND_INITIALIZER;
static int level;

static void raise_level(void)
{
    pthread_mutex_lock(&lock);
    level++;
    pthread_cond_broadcast(&raised);
    pthread_mutex_unlock(&lock);
}

static void wait_level(int want)
{
    pthread_mutex_lock(&lock);
    while (level < want) pthread_cond_wait(&raised, &lock);
    pthread_mutex_unlock(&lock);
}

/* ---- tasks ---- */

struct numbered {
    struct mdl_task task;
    int number;
};
static int order[64], norder;

static void note(int number)
{
    order[norder++] = number;
    raise_level();
}

static void note_task(struct mdl_task *t) { note(mdl_container_of(t, struct numbered, task)->number); }

START_TEST(tasks_run_once_each_in_order)
{
    struct numbered tasks[8] = {0};
    get();
    for (int i = 0; i < 8; i++) {
        tasks[i].task.fn = note_task;
        tasks[i].number = i;
        mdl_reactor_post(r, &tasks[i].task);
    }
    wait_level(8);
    mdl_reactor_call(r, nothing, NULL);
    ck_assert_int_eq(norder, 8);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(order[i], i);
    mdl_reactor_put(r);
}
END_TEST

static void post_twice(void *arg)
{
    struct numbered *t = arg;
    mdl_reactor_post(r, &t[0].task);
    mdl_reactor_post(r, &t[1].task);
    mdl_reactor_post(r, &t[0].task);
    mdl_reactor_unpost(r, &t[1].task);
    mdl_reactor_unpost(r, &t[1].task);
}

START_TEST(a_queued_task_stays_and_can_be_taken_back)
{
    struct numbered tasks[2] = {{.task.fn = note_task, .number = 0}, {.task.fn = note_task, .number = 1}};
    get();
    mdl_reactor_call(r, post_twice, tasks);
    mdl_reactor_call(r, nothing, NULL);
    ck_assert_int_eq(norder, 1);
    ck_assert_int_eq(order[0], 0);
    mdl_reactor_put(r);
}
END_TEST

static void repost(struct mdl_task *t)
{
    struct numbered *n = mdl_container_of(t, struct numbered, task);
    if (++n->number < 1000) mdl_reactor_post(r, t);
}

/* A task that posts itself for ever would starve the call if it ran in the same turn. */
START_TEST(a_task_that_posts_itself_starves_nobody)
{
    struct numbered t = {.task.fn = repost};
    get();
    mdl_reactor_post(r, &t.task);
    mdl_reactor_call(r, nothing, NULL);
    mdl_reactor_put(r); /* ends when nothing is queued any more */
    ck_assert_int_eq(t.number, 1000);
}
END_TEST

static void call_inside(void *arg)
{
    ck_assert(mdl_reactor_inside(r));
    mdl_reactor_call(r, nothing, NULL);
    *(pthread_t *)arg = pthread_self();
}

START_TEST(a_call_runs_on_the_thread_and_waits)
{
    pthread_t thread = pthread_self();
    get();
    ck_assert(!mdl_reactor_inside(r));
    ck_assert(mdl_reactor_alive(r));
    mdl_reactor_call(r, call_inside, &thread);
    ck_assert(!pthread_equal(thread, pthread_self()));
    mdl_reactor_put(r);
}
END_TEST

/* ---- timers ---- */

struct alarm {
    struct mdl_timer timer;
    int number, again;
    struct alarm *kill;
};

static void on_alarm(struct mdl_timer *t)
{
    struct alarm *a = mdl_container_of(t, struct alarm, timer);
    ck_assert(!t->set);
    if (a->kill) mdl_reactor_timer_cancel(r, &a->kill->timer);
    if (a->again-- > 0) mdl_reactor_timer(r, t, 0);
    note(a->number);
}

static void set_alarms(void *arg)
{
    struct alarm *a = arg;
    uint64_t now = mdl_now_ns();
    static const uint64_t due_ms[] = {30, 10, 20, 10, 5};
    for (int i = 0; i < 5; i++) {
        a[i].timer.fn = on_alarm;
        a[i].number = i;
        mdl_reactor_timer(r, &a[i].timer, now + due_ms[i] * MDL_NS_PER_MS);
    }
    mdl_reactor_timer(r, &a[4].timer, now + 15 * MDL_NS_PER_MS); /* rearmed: only the last counts */
}

START_TEST(timers_run_when_due_in_order)
{
    struct alarm a[5] = {0};
    uint64_t start = mdl_now_ns();
    get();
    mdl_reactor_call(r, set_alarms, a);
    wait_level(5);
    ck_assert_uint_ge(mdl_now_ns() - start, 30 * MDL_NS_PER_MS);
    static const int want[] = {1, 3, 4, 2, 0};
    for (int i = 0; i < 5; i++) ck_assert_int_eq(order[i], want[i]);
    mdl_reactor_put(r);
}
END_TEST

static void set_due_together(void *arg)
{
    struct alarm *a = arg;
    for (int i = 0; i < 3; i++) {
        a[i].timer.fn = on_alarm;
        a[i].number = i;
        mdl_reactor_timer(r, &a[i].timer, (uint64_t)i + 1);
    }
    a[0].kill = &a[1]; /* in the same batch */
    a[2].again = 1;    /* in the past again: next turn */
}

START_TEST(a_timer_can_cancel_one_of_its_own_batch)
{
    struct alarm a[3] = {0};
    get();
    mdl_reactor_call(r, set_due_together, a);
    wait_level(3);
    mdl_reactor_call(r, nothing, NULL);
    ck_assert_int_eq(norder, 3);
    ck_assert(order[0] == 0 && order[1] == 2 && order[2] == 2);
    ck_assert(!a[1].timer.set);
    mdl_reactor_put(r);
}
END_TEST

static void cancel_alarms(void *arg)
{
    struct alarm *a = arg;
    for (int i = 0; i < 5; i++) {
        mdl_reactor_timer_cancel(r, &a[i].timer);
        mdl_reactor_timer_cancel(r, &a[i].timer);
    }
}

START_TEST(cancelled_timers_do_not_run)
{
    struct alarm a[5] = {0}, later = {.timer.fn = on_alarm, .number = 9};
    get();
    mdl_reactor_call(r, set_alarms, a);
    mdl_reactor_call(r, cancel_alarms, a);
    mdl_reactor_put(r);
    ck_assert(!later.timer.set);
    ck_assert_int_eq(norder, 0);
}
END_TEST

/* ---- descriptors ---- */

struct bell {
    struct mdl_watch watch;
    struct bell *silence; /* unwatched and freed by the callback */
    int rings;
};

static void on_bell(struct mdl_watch *w, uint32_t events)
{
    struct bell *b = mdl_container_of(w, struct bell, watch);
    uint64_t n;
    ck_assert(events & EPOLLIN);
    ck_assert_int_eq(read(w->fd, &n, sizeof(n)), sizeof(n));
    b->rings++;
    if (b->silence) {
        mdl_reactor_unwatch(r, &b->silence->watch);
        close(b->silence->watch.fd);
        memset(b->silence, 0xee, sizeof(*b->silence));
        free(b->silence);
        b->silence = NULL;
    }
    raise_level();
}

static struct bell *new_bell(uint64_t value)
{
    struct bell *b = calloc(1, sizeof(*b));
    b->watch.fd = eventfd((unsigned)value, EFD_CLOEXEC | EFD_NONBLOCK);
    b->watch.fn = on_bell;
    return b;
}

static void watch_both(void *arg)
{
    struct bell **b = arg;
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mdl_reactor_watch(r, &b[i]->watch, EPOLLIN), medleySuccess);
}

static void unwatch_close(void *arg)
{
    struct bell *b = arg;
    mdl_reactor_unwatch(r, &b->watch);
    mdl_reactor_unwatch(r, &b->watch);
    close(b->watch.fd);
    free(b);
}

/* Both are ready before either callback runs; the first frees the second. Under ASan a callback would show. */
START_TEST(a_watch_can_free_one_of_its_own_batch)
{
    struct bell *b[2] = {new_bell(1), new_bell(1)};
    get();
    b[0]->silence = b[1];
    b[1]->silence = NULL;
    struct bell *first = b[0];
    mdl_reactor_call(r, watch_both, b);
    wait_level(1);
    mdl_reactor_call(r, nothing, NULL);
    ck_assert_int_ge(first->rings, 1);
    mdl_reactor_call(r, unwatch_close, first);
    mdl_reactor_put(r);
}
END_TEST

static void mute(void *arg) { ck_assert_int_eq(mdl_reactor_watch(r, &((struct bell *)arg)->watch, 0), medleySuccess); }
static void listen_to(void *arg)
{
    ck_assert_int_eq(mdl_reactor_watch(r, &((struct bell *)arg)->watch, EPOLLIN), medleySuccess);
}

START_TEST(events_can_be_changed)
{
    struct bell *b = new_bell(0);
    uint64_t one = 1;
    get();
    mdl_reactor_call(r, listen_to, b);
    mdl_reactor_call(r, mute, b);
    ck_assert_int_eq(write(b->watch.fd, &one, sizeof(one)), sizeof(one));
    for (int i = 0; i < 10; i++) mdl_reactor_call(r, nothing, NULL);
    ck_assert_int_eq(b->rings, 0);
    mdl_reactor_call(r, listen_to, b);
    wait_level(1);
    ck_assert_int_eq(b->rings, 1);
    mdl_reactor_call(r, unwatch_close, b);
    mdl_reactor_put(r);
}
END_TEST

static void watch_bad(void *arg)
{
    struct mdl_watch w = {.fd = 1000000};
    *(medleyResult_t *)arg = mdl_reactor_watch(r, &w, EPOLLIN);
    mdl_reactor_unwatch(r, &w);
}

START_TEST(a_bad_descriptor_is_an_error)
{
    medleyResult_t result = medleySuccess;
    get();
    mdl_reactor_call(r, watch_bad, &result);
    ck_assert_int_eq(result, medleySystemError);
    mdl_reactor_put(r);
}
END_TEST

/* ---- the thread ---- */

static void look_around(void *arg)
{
    char *name = arg;
    sigset_t set;
    pthread_getname_np(pthread_self(), name, 16);
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    for (int sig = 1; sig < 32; sig++)
        if (sig != SIGKILL && sig != SIGSTOP) ck_assert_msg(sigismember(&set, sig), "signal %d is not blocked", sig);
}

START_TEST(the_thread_has_a_name_and_takes_no_signals)
{
    char name[16];
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    get();
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int sig = 1; sig < 32; sig++) ck_assert_int_eq(sigismember(&before, sig), sigismember(&after, sig));
    mdl_reactor_call(r, look_around, name);
    ck_assert_str_eq(name, "medley-monitor");
    mdl_reactor_put(r);
}
END_TEST

static void where(void *arg) { sched_getaffinity(0, sizeof(cpu_set_t), arg); }

START_TEST(the_thread_runs_where_it_shall)
{
    cpu_set_t allowed, got;
    char text[16];
    int cpu = 0;
    sched_getaffinity(0, sizeof(allowed), &allowed);
    while (!CPU_ISSET(cpu, &allowed)) cpu++;
    sprintf(text, "%d", cpu);
    ck_assert_int_eq(mdl_reactor_get(text, &r), medleySuccess);
    mdl_reactor_call(r, where, &got);
    ck_assert_int_eq(CPU_COUNT(&got), 1);
    ck_assert(CPU_ISSET(cpu, &got));
    mdl_reactor_put(r);
}
END_TEST

START_TEST(the_thread_moves_to_the_first_named_processors)
{
    struct mdl_reactor *again;
    cpu_set_t allowed, got;
    char text[16];
    int cpu = 0;
    sched_getaffinity(0, sizeof(allowed), &allowed);
    while (!CPU_ISSET(cpu, &allowed)) cpu++;
    sprintf(text, "%d", cpu);
    ck_assert_int_eq(mdl_reactor_get("", &r), medleySuccess);
    ck_assert_int_eq(mdl_reactor_get(text, &again), medleySuccess);
    mdl_reactor_call(r, where, &got);
    ck_assert(CPU_COUNT(&got) == 1 && CPU_ISSET(cpu, &got));
    mdl_reactor_put(again);
    mdl_reactor_put(r);
}
END_TEST

START_TEST(a_bad_cpu_set_is_an_error_and_leaves_nothing)
{
    warm_up();
    int fds = leaks_descriptors(), threads = leaks_threads();
    struct mdl_reactor *none = NULL;
    ck_assert_int_eq(mdl_reactor_get("0-", &none), medleyInvalidArgument);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "MEDLEY_CPU_SET=0-"));
    ck_assert_int_eq(mdl_reactor_get("1023", &none), medleySystemError);
    ck_assert_ptr_null(none);
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

START_TEST(a_thousand_cycles_leave_nothing)
{
    warm_up();
    int fds = leaks_descriptors(), threads = leaks_threads();
    for (int i = 0; i < 1000; i++) {
        get();
        mdl_reactor_put(r);
    }
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
}
END_TEST

static void get_again(void *arg)
{
    struct mdl_reactor *again = NULL;
    ck_assert_int_eq(mdl_reactor_get("", &again), medleySuccess);
    ck_assert_ptr_eq(again, r);
}

START_TEST(references_keep_it)
{
    struct mdl_reactor *second;
    get();
    ck_assert_int_eq(mdl_reactor_get("", &second), medleySuccess);
    ck_assert_ptr_eq(second, r);
    mdl_reactor_call(r, get_again, NULL); /* on its own thread */
    mdl_reactor_put(r);
    mdl_reactor_put(r);
    mdl_reactor_call(r, nothing, NULL);
    mdl_reactor_put(r);
    mdl_reactor_put(NULL);
}
END_TEST

struct ender {
    struct mdl_timer timer;
    struct mdl_reactor *of;
};

static void put_last(struct mdl_timer *t) { mdl_reactor_put(mdl_container_of(t, struct ender, timer)->of); }

static void arm_put(void *arg)
{
    struct ender *e = arg;
    mdl_reactor_timer(e->of, &e->timer, mdl_now_ns() + MDL_NS_PER_MS);
}

/* A callback drops the last reference: the thread ends by itself, and another reactor may start meanwhile. */
START_TEST(its_own_thread_ends_it)
{
    enum { TIMES = 100 };
    static struct ender enders[TIMES];
    warm_up();
    int fds = leaks_descriptors(), threads = leaks_threads();
    for (int i = 0; i < TIMES; i++) {
        struct ender *e = &enders[i];
        e->timer.fn = put_last;
        get();
        ck_assert_int_eq(mdl_reactor_get("", &e->of), medleySuccess);
        mdl_reactor_call(e->of, arm_put, e);
        mdl_reactor_put(r);
        if (i % 2) ck_assert_int_eq(leaks_threads_settle(threads), threads);
    }
    ck_assert_int_eq(leaks_threads_settle(threads), threads);
    ck_assert_int_eq(leaks_descriptors(), fds);
}
END_TEST

/* ---- contention ---- */

enum { STRESS_THREADS = 4, STRESS_TURNS = 300 };

struct stress {
    struct mdl_reactor *r;
    struct mdl_task task;
    struct mdl_timer timer;
    struct bell *bell;
    atomic_int runs;
    unsigned seed;
};

static void stress_task(struct mdl_task *t)
{
    struct stress *s = mdl_container_of(t, struct stress, task);
    atomic_fetch_add_explicit(&s->runs, 1, memory_order_relaxed);
    if (rand_r(&s->seed) % 2) mdl_reactor_timer(s->r, &s->timer, mdl_now_ns());
}

static void stress_timer(struct mdl_timer *t)
{
    struct stress *s = mdl_container_of(t, struct stress, timer);
    uint64_t one = 1;
    ck_assert_int_eq(write(s->bell->watch.fd, &one, sizeof(one)), sizeof(one));
}

static void stress_open(void *arg)
{
    struct stress *s = arg;
    ck_assert_int_eq(mdl_reactor_watch(s->r, &s->bell->watch, EPOLLIN), medleySuccess);
}

static void stress_close(void *arg)
{
    struct stress *s = arg;
    mdl_reactor_unpost(s->r, &s->task);
    mdl_reactor_timer_cancel(s->r, &s->timer);
    mdl_reactor_unwatch(s->r, &s->bell->watch);
}

static void *stress(void *arg)
{
    struct stress s = {.task.fn = stress_task, .timer.fn = stress_timer, .seed = (unsigned)(uintptr_t)arg};
    for (int turn = 0; turn < STRESS_TURNS; turn++) {
        ck_assert_int_eq(mdl_reactor_get("", &s.r), medleySuccess);
        s.bell = new_bell(0);
        mdl_reactor_call(s.r, stress_open, &s);
        for (int i = 0; i < 5; i++) mdl_reactor_post(s.r, &s.task);
        mdl_reactor_call(s.r, stress_close, &s);
        close(s.bell->watch.fd);
        free(s.bell);
        mdl_reactor_put(s.r);
    }
    ck_assert_int_ge(atomic_load_explicit(&s.runs, memory_order_relaxed), STRESS_TURNS);
    return NULL;
}

/* Threads race each other's first get and last put, and each sees only its own callbacks. */
START_TEST(threads_may_come_and_go)
{
    pthread_t threads[STRESS_THREADS];
    warm_up();
    int fds = leaks_descriptors(), before = leaks_threads();
    for (int i = 0; i < STRESS_THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, stress, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 0; i < STRESS_THREADS; i++) pthread_join(threads[i], NULL);
    ck_assert_int_eq(leaks_descriptors(), fds);
    ck_assert_int_eq(leaks_threads_settle(before), before);
}
END_TEST

/* ---- fork ---- */

static void never(void *arg) { *(bool *)arg = true; }

/* What a forked child may find: errors, no effect, and no hang. Its exit code names the first surprise. */
static int in_child(struct numbered *t)
{
    struct mdl_reactor *other;
    struct mdl_timer timer = {.fn = on_alarm};
    struct mdl_watch w = {.fd = 0};
    bool ran = false;
    alarm(20);
    if (mdl_reactor_get("", &other) != medleyInvalidUsage) return 1;
    if (!strstr(mdl_error_text(), "forked")) return 2;
    if (mdl_reactor_inside(r) || mdl_reactor_alive(r)) return 3;
    mdl_reactor_call(r, never, &ran);
    mdl_reactor_post(r, &t->task);
    if (ran || t->task.queued) return 4;
    mdl_reactor_unpost(r, &t->task);
    mdl_reactor_timer(r, &timer, 1);
    if (timer.set) return 5;
    mdl_reactor_timer_cancel(r, &timer);
    if (mdl_reactor_watch(r, &w, EPOLLIN) != medleyInvalidUsage) return 6;
    mdl_reactor_unwatch(r, &w);
    mdl_reactor_put(r);
    return 0;
}

static int child_of(int (*fn)(struct numbered *), struct numbered *t)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) _exit(fn(t));
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "the child was killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

START_TEST(a_forked_child_gets_errors_and_never_hangs)
{
    struct numbered t = {.task.fn = note_task};
    get();
    ck_assert_int_eq(child_of(in_child, &t), 0);
    mdl_reactor_call(r, nothing, NULL); /* the parent's is untouched */
    mdl_reactor_put(r);
}
END_TEST

static int fresh_child(struct numbered *t)
{
    struct mdl_reactor *own;
    alarm(20);
    if (mdl_reactor_get("", &own) != medleySuccess) return 1;
    mdl_reactor_call(own, nothing, NULL);
    mdl_reactor_put(own);
    return 0;
}

START_TEST(a_child_of_an_idle_process_has_its_own)
{
    get();
    mdl_reactor_put(r);
    ck_assert_int_eq(child_of(fresh_child, NULL), 0);
}
END_TEST

static void *get_and_put(void *arg)
{
    atomic_bool *stop = arg;
    /* Relaxed: it only ends the loop. */
    while (!atomic_load_explicit(stop, memory_order_relaxed)) {
        struct mdl_reactor *own;
        ck_assert_int_eq(mdl_reactor_get("", &own), medleySuccess);
        mdl_reactor_put(own);
    }
    return NULL;
}

static int any_child(struct numbered *t)
{
    struct mdl_reactor *own;
    alarm(20);
    medleyResult_t result = mdl_reactor_get("", &own);
    if (result == medleySuccess) mdl_reactor_put(own);
    return result != medleySuccess && result != medleyInvalidUsage;
}

START_TEST(a_fork_at_any_moment_leaves_no_lock_held)
{
    pthread_t thread;
    atomic_bool stop = false;
    if (LEAKS_TSAN) return;
    ck_assert_int_eq(pthread_create(&thread, NULL, get_and_put, &stop), 0);
    for (int i = 0; i < 50; i++) ck_assert_int_eq(child_of(any_child, NULL), 0);
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    pthread_join(thread, NULL);
}
END_TEST

/* An application that closes all descriptors, as some do when they become daemons. */
static void close_reactor_fds(void)
{
    for (int fd = 3; fd < 64; fd++) {
        char path[64], to[64] = "";
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (readlink(path, to, sizeof(to) - 1) > 0 && strstr(to, "eventpoll")) close(fd);
    }
}

START_TEST(it_survives_the_loss_of_its_descriptors)
{
    if (LEAKS_TSAN) return;
    get();
    close_reactor_fds();
    mdl_reactor_call(r, nothing, NULL);
    mdl_reactor_put(r);
}
END_TEST

UNIT_MAIN("reactor", tasks_run_once_each_in_order, a_queued_task_stays_and_can_be_taken_back,
          a_task_that_posts_itself_starves_nobody, a_call_runs_on_the_thread_and_waits, timers_run_when_due_in_order,
          a_timer_can_cancel_one_of_its_own_batch, cancelled_timers_do_not_run, a_watch_can_free_one_of_its_own_batch,
          events_can_be_changed, a_bad_descriptor_is_an_error, the_thread_has_a_name_and_takes_no_signals,
          the_thread_runs_where_it_shall, the_thread_moves_to_the_first_named_processors,
          a_bad_cpu_set_is_an_error_and_leaves_nothing, a_thousand_cycles_leave_nothing, references_keep_it,
          its_own_thread_ends_it, threads_may_come_and_go, a_forked_child_gets_errors_and_never_hangs,
          a_child_of_an_idle_process_has_its_own, a_fork_at_any_moment_leaves_no_lock_held,
          it_survives_the_loss_of_its_descriptors)
