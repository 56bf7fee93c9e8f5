/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How streams of a device are held: a stream waits in its order for a word that the host writes, and writes words that
 * the host looks at. In this order of preference:
 *
 * - words: the vendor's own operations on words.
 * - kernel: a kernel of one thread spins on a word of pinned memory, another writes one. Both are compiled and loaded
 *   when a communicator is made, for nothing may be loaded while a stream is held. A kernel that waits takes room of
 *   the device, so only so many streams of a device and process are held at once; that many were seen to leave room for
 *   the work of another stream. A stream has one place, whatever number of calls is on it.
 * - caller: streams are not held; the calling threads stay in their calls and attend their streams. So are calls on
 *   streams for which there is no place.
 *
 * Each way is tried out on the device before it is relied upon. Kernels are not tried where launches wait for them
 * (CUDA_LAUNCH_BLOCKING), and whatever else makes them wait is found out by the try, which ends by itself.
 */
#ifndef MDL_DEV_HOLD_H_
#define MDL_DEV_HOLD_H_

#include "lib/dev/dev.h"

enum mdl_hold_way { MDL_HOLD_CALLER, MDL_HOLD_WORDS, MDL_HOLD_KERNEL };

/* What a wait for a word is released with when there is nothing to wait for any more: larger than any number that is
 * waited for, and still larger as a signed difference. */
#define MDL_HOLD_RELEASED ((uint64_t)1 << 62)

struct mdl_waiter; /* hold_kernel.h */

struct mdl_hold {
    struct mdl_dev dev;
    enum mdl_hold_way way;
    struct mdl_waiter *waiter; /* of kernels */
    _Atomic bool told;         /* that there was no place for a stream */
};

/* Finds the way, with the device entered and no stream of it held. Logs which one it is. InvalidUsage:
 * MEDLEY_DEVICE_HOLD asks for one that the device has not. */
medleyResult_t mdl_hold_open(struct mdl_hold *h, const struct mdl_config *cfg, const struct mdl_dev *dev) MDL_MUST_USE;

medleyResult_t mdl_hold_check_name(const struct mdl_config *cfg) MDL_MUST_USE; /* of MEDLEY_DEVICE_HOLD */

/* What a device with these abilities is expected to be held by, before it was tried, in words for people. */
const char *mdl_hold_expected(const struct mdl_config *cfg, uint32_t caps);

static inline bool mdl_hold_can(const struct mdl_hold *h) { return h->way != MDL_HOLD_CALLER; }

/* A place for the stream; false: there is none, attend it. What was taken is given back when the stream is through. Any
 * thread. Streams that are held by the vendor's words need none, and any number is given. */
bool mdl_hold_take(struct mdl_hold *h, mdl_dev_stream stream);
void mdl_hold_give(struct mdl_hold *h, mdl_dev_stream stream);

/* A place for whatever stream it will be, of which one at a time waits. */
bool mdl_hold_take_any(struct mdl_hold *h);
void mdl_hold_give_any(struct mdl_hold *h);

/* Words that streams wait for, 0 at first, a cache line each. Words that are only written may be in any pinned
 * memory. */
medleyResult_t mdl_hold_alloc(const struct mdl_hold *h, int n, uint64_t **words) MDL_MUST_USE;
void mdl_hold_free(const struct mdl_hold *h, int n, uint64_t **words);

/* Append to the stream, as stream_wait and stream_write of plugin.h. */
medleyResult_t mdl_hold_wait(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word,
                             uint64_t value) MDL_MUST_USE;
medleyResult_t mdl_hold_write(const struct mdl_hold *h, mdl_dev_stream stream, uint64_t *word,
                              uint64_t value) MDL_MUST_USE;

#endif
