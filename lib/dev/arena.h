/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of one block of memory that was had beforehand: the vendors' allocation calls wait for the device, so none is
 * made while a stream is held. Not thread-safe. */
#ifndef MDL_DEV_ARENA_H_
#define MDL_DEV_ARENA_H_

#include <stdbool.h>
#include <stddef.h>

struct mdl_hole {
    size_t at, len;
};
struct mdl_arena {
    char *base;
    size_t len;
    struct mdl_hole *holes; /* in order, never adjacent */
    int n, cap, pieces;
};

bool mdl_arena_init(struct mdl_arena *a, void *base, size_t len); /* false: no memory. `base` stays the caller's */
void mdl_arena_fini(struct mdl_arena *a);
void *mdl_arena_take(struct mdl_arena *a, size_t len); /* NULL: no room. Aligned to 256 bytes */
void mdl_arena_give(struct mdl_arena *a, void *piece, size_t len);
bool mdl_arena_is_whole(const struct mdl_arena *a); /* nothing is taken */

#endif
