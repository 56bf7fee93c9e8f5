/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How streams of a device are held: a stream waits in its order for a word that the host writes, and writes words that
 * the host looks at.
 *
 * A way is found when a communicator is made, and tried out on the device. Where there is none, the calling threads
 * stay in their calls and attend their streams.
 */
#ifndef MDL_DEV_HOLD_H_
#define MDL_DEV_HOLD_H_

#include "lib/dev/dev.h"

enum mdl_hold_way {
    MDL_HOLD_CALLER, /* streams cannot be held */
    MDL_HOLD_WORDS,  /* the vendor's operations on words */
};

struct mdl_hold {
    struct mdl_dev dev;
    enum mdl_hold_way way;
};

/* With the device entered; no stream of it is held. */
medleyResult_t mdl_hold_open(struct mdl_hold *h, const struct mdl_dev *dev) MDL_MUST_USE;

static inline bool mdl_hold_can(const struct mdl_hold *h) { return h->way != MDL_HOLD_CALLER; }

/* Words that streams wait for, 0 at first, a cache line each. Words that are only written may be in any pinned memory. */
medleyResult_t mdl_hold_alloc(const struct mdl_hold *h, int n, uint64_t **words) MDL_MUST_USE;
void mdl_hold_free(const struct mdl_hold *h, int n, uint64_t **words);

/* Append to the stream, as stream_wait and stream_write of plugin.h. */
medleyResult_t mdl_hold_wait(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word,
                             uint64_t value) MDL_MUST_USE;
medleyResult_t mdl_hold_write(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word,
                              uint64_t value) MDL_MUST_USE;

#endif
