/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the ranks of a host are from each other: whether their cores share a cache.
 *
 * Where they do not, what another core has just written, and still holds in its cache, takes about as long to read as
 * memory, and cannot be read ahead as well. So what is written for others goes past the caches then, which halves the
 * time of large operations of ordinary buffers; where cores do share a cache it would cost a third.
 *
 * The machine's description does not tell: ranks may not be bound, and the host of a virtual machine moves its cores. So
 * it is measured, in passing: each line has a word in a cache line of its own (board.h), and whoever has just seen the
 * line times the reading of that word, of one of the others at a time. How long memory takes is measured once for each
 * process. Each rank decides for itself; results do not depend on it.
 */
#ifndef MDL_ENGINE_FAR_H_
#define MDL_ENGINE_FAR_H_

#include "lib/engine/board.h"

enum { MDL_FAR_SCALE = 16 };

struct mdl_far {
    uint32_t limit_ns;      /* beyond it they are far; 0: never */
    uint64_t smoothed;      /* what reading takes, as of late, in 1 / MDL_FAR_SCALE ns */
    uint32_t seen, skipped; /* measurements so far; calls since the latest */
    bool is;
};

void mdl_far_init(struct mdl_far *f, int limit_ns); /* < 0: by what memory takes */
/* Takes one measurement into account. */
void mdl_far_note(struct mdl_far *f, uint32_t ns);
/* With the lines of collective `seq` seen, an operation of so many bytes: measures now and then. */
void mdl_far_look(struct mdl_far *f, const struct mdl_board *b, uint64_t seq, size_t bytes);

#endif
