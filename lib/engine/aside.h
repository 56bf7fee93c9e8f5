/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call into a library that may never come back, made on a thread that can be left behind: whoever started it waits for
 * as long as it wants, and then goes on without it. What the call works on belongs to whichever of the two is last.
 */
#ifndef MDL_ENGINE_ASIDE_H_
#define MDL_ENGINE_ASIDE_H_

#include "lib/base/clock.h"
#include <medley.h>
#include <stdbool.h>

struct mdl_aside;

/* Runs run(arg) on a thread of its own. NULL: there was no thread to be had, and nothing was run. */
struct mdl_aside *mdl_aside_start(void (*run)(void *arg), void *arg);

bool mdl_aside_wait(struct mdl_aside *a, uint64_t until_ns); /* until it is done (true), or the time has come */

/* True: it is done, and arg is the caller's again. False: it goes on, and its thread calls drop(arg) when it is done. */
bool mdl_aside_end(struct mdl_aside *a, void (*drop)(void *arg));

#endif
