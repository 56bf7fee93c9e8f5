/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A full fence, for two sides that each store and then look at what the other one stores: "I sleep" and the last look
 * for work on the one side, work and the look for sleepers on the other. At least one of them sees the other's store.
 *
 * The thread sanitizer does not know fences. As both sides' accesses are atomic anyway, any operation that it knows
 * will do there.
 */
#ifndef MDL_BASE_FENCE_H_
#define MDL_BASE_FENCE_H_

#include <stdatomic.h>

#if defined(__SANITIZE_THREAD__)
#define MDL_FENCE_UNKNOWN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MDL_FENCE_UNKNOWN 1
#endif
#endif

static inline void mdl_fence(void)
{
#if defined(MDL_FENCE_UNKNOWN)
    static _Atomic int word;
    atomic_fetch_add_explicit(&word, 1, memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

#endif
