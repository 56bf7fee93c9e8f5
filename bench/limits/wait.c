/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the processes of a team wait for each other: by counts in cache lines of their own. A wait spins, and yields the
 * core now and then, at once where ranks outnumber the cores. The watchdog of main.c ends a wait for ever.
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <sched.h>
#include <time.h>

static void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Release: pairs with the acquire in wait_value, so that what was written before is seen. */
void count_up(struct rank *me, enum flag kind, uint64_t by)
{
    me->count[kind] += by;
    atomic_store_explicit(&me->s->flag[me->rank][kind].value, me->count[kind], memory_order_release);
}

void wait_value(const struct rank *me, const _Atomic uint64_t *word, uint64_t value)
{
    for (unsigned turn = 0; atomic_load_explicit(word, memory_order_acquire) < value; turn++) {
        if (turn < me->spins) {
            pause_core();
        } else {
            sched_yield();
            turn = 0;
        }
    }
}

void wait_rank(const struct rank *me, enum flag kind, int rank, uint64_t value)
{
    wait_value(me, &me->s->flag[rank][kind].value, value);
}

void wait_all(const struct rank *me, enum flag kind, uint64_t value)
{
    for (int k = 1; k < me->n; k++) wait_rank(me, kind, (me->rank + k) % me->n, value);
}

void meet(struct rank *me, enum flag kind)
{
    count_up(me, kind, 1);
    wait_all(me, kind, me->count[kind]);
}

void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)core, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* where it is not allowed, the kernel places the ranks */
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
