/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena of this process: one sparse memfd out of which the communicators' shared memory is cut. Another process
 * that has its descriptor once maps all further pieces by their place alone, without a question.
 *
 * A piece is a page with the count of its users, and then the payload. The owner and each process that maps it are
 * users; the last one to leave gives the pages back to the kernel. Places are never used again, so that a late user of
 * a piece disturbs nobody: the file is as large as any number of pieces. Users that died never leave: where the
 * owner knows that some may have, and so that nobody needs the piece any more, its pages are given back a minute after
 * the owner has left. The arena is there while a piece of it is. [any thread]
 */
#ifndef MDL_MEM_ARENA_H_
#define MDL_MEM_ARENA_H_

#include "lib/base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece, or the first `mapped` bytes of its payload, as mapped here. */
struct mdl_arena_view {
    void *base; /* the payload; NULL: none */
    size_t len, mapped;
    uint64_t place; /* of the piece in the file, never 0 */
    int fd;         /* of the arena: not owned */
};

enum { MDL_ARENA_RANKS = 1024 }; /* communicators with more ranks have segments of their own */

/* A new piece of `len` zero bytes, backed when touched. false: there is no arena, because there is no memfd or no room
 * for another mapping. *arena: its random id. */
bool mdl_arena_cut(size_t len, uint64_t *arena, struct mdl_arena_view *v);
void mdl_arena_return(struct mdl_arena_view *v, bool orphans); /* the owner leaves; orphans: users may have died */

/* The descriptor of this process's arena, which is there while the caller has a piece of it; -1: it has another id. */
int mdl_arena_fd(uint64_t arena);

/* Joins a piece of `len` bytes at `place` of some process's arena. false: nobody uses it any more, or it cannot be. */
bool mdl_arena_join(int fd, uint64_t place, size_t len, size_t mapped, struct mdl_arena_view *v);
void mdl_arena_leave(struct mdl_arena_view *v); /* without a base: nothing */

#endif
