/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which set of kernels runs. All sets that the compiler could make are in the library; the processor and the operating
 * system decide at run time which of them are usable. All give the same bits, so a change in mid-flight is harmless.
 */
#include "config.h"

#include "lib/base/status.h"
#include "lib/reduce/kernels.h"
#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMD
#define HWCAP_ASIMD (1 << 1)
#endif
#endif

static bool always(void) { return true; }

#if defined(__x86_64__)
/* __builtin_cpu_supports asks XGETBV too: the operating system saves the wide registers. Half-precision conversion
 * has a bit of its own, which a virtual machine may hide. */
static bool has_avx2(void)
{
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#elif defined(__aarch64__)
static bool has_neon(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMD; }
#endif

/* Best first. */
static const struct {
    const struct mdl_kernels *kernels;
    bool (*usable)(void);
} sets[] = {
#if defined(__x86_64__)
    {&mdl_kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&mdl_kernels_neon, has_neon},
#endif
    {&mdl_kernels_scalar, always},
};
enum { NUM_SETS = sizeof sets / sizeof *sets };

/* Points to constant tables only, so relaxed order is enough everywhere. */
static _Atomic(const struct mdl_kernels *) selected;

const struct mdl_kernels *mdl_kernels_get(void)
{
    const struct mdl_kernels *k = atomic_load_explicit(&selected, memory_order_relaxed);
    if (k) return k;
    size_t i = 0;
    while (!sets[i].usable()) i++;
    /* A thread that selects by name at the same time wins. */
    if (atomic_compare_exchange_strong_explicit(&selected, &k, sets[i].kernels, memory_order_relaxed,
                                                memory_order_relaxed))
        return sets[i].kernels;
    return k;
}

medleyResult_t mdl_reduce_select(const char *name)
{
    char usable[64] = "";
    for (size_t i = 0; i < NUM_SETS; i++) {
        if (!sets[i].usable()) continue;
        if (!name || !*name || !strcmp(name, sets[i].kernels->name)) {
            atomic_store_explicit(&selected, sets[i].kernels, memory_order_relaxed);
            return medleySuccess;
        }
        strcat(strcat(usable, " "), sets[i].kernels->name);
    }
    return mdl_error(medleyInvalidArgument, "no reduction kernels \"%s\" on this machine; MEDLEY_SIMD can be:%s", name,
                     usable);
}

const char *mdl_reduce_selected(void) { return mdl_kernels_get()->name; }
