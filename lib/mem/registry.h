/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of this process's live segments: a table sorted by address. Looking up an address takes no lock, writes
 * nothing and never waits; changing the table takes a mutex.
 */
#ifndef MDL_MEM_REGISTRY_H_
#define MDL_MEM_REGISTRY_H_

#include "lib/mem/mem.h"

/* What a look-up by address finds. */
struct mdl_registry_hit {
    uint64_t id; /* 0: the segment cannot be shared */
    uintptr_t base;
};

/* Draws an id that no live segment has, stores it in the segment, and enters the segment. The registry keeps the
 * pointer until remove. `user`: mdl_registry_take may take it. */
medleyResult_t mdl_registry_add(struct mdl_segment *segment, bool user) MDL_MUST_USE;
void mdl_registry_remove(struct mdl_segment *segment);

/* The segment that holds all of [addr, addr + len). */
bool mdl_registry_find(uintptr_t addr, size_t len, struct mdl_registry_hit *hit);

/* Closes the descriptor of a live segment. */
void mdl_registry_withdraw(struct mdl_segment *segment);

/* A new close-on-exec descriptor of the segment, or -1. */
int mdl_registry_dup_fd(uint64_t id);

/* Removes and returns the user segment that starts at `base`; NULL if there is none. */
struct mdl_segment *mdl_registry_take(const void *base);

#endif
