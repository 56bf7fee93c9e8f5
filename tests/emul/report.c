/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine tells: a CPU touch of device memory (from the fault handler, which then lets the fault take its
 * normal course) and what was left at exit. A kernel of an emulated module that reaches device memory through an
 * address that it found in memory is let in by the same handler: see kernel.c.
 */
#include "config.h"
#include "tests/emul/ccl_state.h"
#include "tests/emul/kernel.h"
#include "tests/emul/state.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct sigaction before;
static struct sigaction before_bus;

static const char *kind_of(int memory)
{
    static const char *const kinds[] = {"no",      "device",      "pool",           "imported",
                                        "managed", "pinned host", "registered host"};
    return kinds[memory];
}

/* Without the lock, which this thread may hold: if it is no kernel, it dies. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    if (emul_kernel_open(address)) return;
    struct emul_range *range = emul_range_find(address);
    if (range && (range->freed || range->alias != (char *)range->base)) {
        dprintf(STDERR_FILENO,
                "emul: MISUSE: the CPU touched %s %s memory at %p: %s%s, byte %zu of %zu of that of %s\n",
                emul_vendor_name(range->vendor), kind_of(range->memory), info->si_addr,
                range->freed ? "freed by " : "alive", range->freed ? range->freed_by : "",
                (size_t)(address - range->base), range->size, range->made_by);
    }
    /* The instruction faults again, under whoever had the signal. */
    sigaction(sig, sig == SIGSEGV ? &before : &before_bus, NULL);
    (void)context;
}

void emul_catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, &before);
    sigaction(SIGBUS, &action, &before_bus);
}

static unsigned leaked(const char *what, int vendor, uint64_t id, const char *detail)
{
    dprintf(STDERR_FILENO, "emul: LEAK: %s %s %llu%s%s\n", emul_vendor_name(vendor), what, (unsigned long long)id,
            *detail ? ": " : "", detail);
    return 1;
}

/* After a device failed its objects cannot be given back, so that they are no leaks. */
void emul_leaks(void)
{
    if (atomic_load_explicit(&emul.pid, memory_order_acquire) != getpid()) return;
    unsigned count = 0;
    pthread_mutex_lock(&emul.lock);
    for (size_t i = 0; i < emul.range_count; i++) {
        const struct emul_range *range = emul.ranges[i];
        char detail[160];
        if (range->freed || emul_sticky(range->vendor, range->device)) continue;
        snprintf(detail, sizeof(detail), "%zu bytes of %s at %p", range->size, range->made_by, (void *)range->base);
        count += leaked(range->memory == EMUL_IMPORT   ? "import"
                        : range->memory == EMUL_PINNED ? "registration"
                                                       : "allocation",
                        range->vendor, range->id, detail);
    }
    for (const struct emul_stream *at = emul.streams; at; at = at->next)
        if (at->live && at != emul_device_at(at->vendor, at->device)->legacy && !emul_sticky(at->vendor, at->device))
            count += leaked("stream", at->vendor, at->id, "");
    for (const struct emul_event *at = emul.events; at; at = at->next)
        if (at->live && !emul_sticky(at->vendor, at->device)) count += leaked("event", at->vendor, at->id, "");
    for (const struct emul_graph *at = emul.graphs; at; at = at->next)
        if (at->live) count += leaked("graph", at->vendor, at->id, "");
    pthread_mutex_unlock(&emul.lock);
    count += emul_comms_left(leaked);
    if (count && emul.leaks > 1) {
        dprintf(STDERR_FILENO, "emul: %u leaks: exit status 66\n", count);
        _exit(66);
    }
}
