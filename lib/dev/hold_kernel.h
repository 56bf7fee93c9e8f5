/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting kernels of a device (hold.h): compiled and tried out once for each device of the process, then kept. */
#ifndef MDL_DEV_HOLD_KERNEL_H_
#define MDL_DEV_HOLD_KERNEL_H_

#include "lib/dev/dev.h"

enum { MDL_WAITERS_MOST = 8 }; /* streams of a device that kernels of this process hold at once */

/* With the device entered; the first call may wait for all that the device has to do. NULL: there are none, says *why.
 */
struct mdl_waiter *mdl_waiter_of(const struct mdl_dev *dev, char *why, size_t why_bytes);

int mdl_waiter_places(const struct mdl_waiter *w);
bool mdl_waiter_take(struct mdl_waiter *w, mdl_dev_stream stream); /* any thread */
void mdl_waiter_give(struct mdl_waiter *w, mdl_dev_stream stream);
bool mdl_waiter_take_any(struct mdl_waiter *w);
void mdl_waiter_give_any(struct mdl_waiter *w);

medleyResult_t mdl_waiter_wait(const struct mdl_waiter *w, mdl_dev_stream stream, uint64_t *word,
                               uint64_t value) MDL_MUST_USE;
medleyResult_t mdl_waiter_write(const struct mdl_waiter *w, mdl_dev_stream stream, uint64_t *word,
                                uint64_t value) MDL_MUST_USE;

#endif
