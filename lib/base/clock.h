/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic time in nanoseconds. Tests put a source of their own in place of the system's. */
#ifndef MDL_BASE_CLOCK_H_
#define MDL_BASE_CLOCK_H_

#include <stdint.h>

#define MDL_NS_PER_MS 1000000ull
#define MDL_NS_PER_S  1000000000ull

uint64_t mdl_now_ns(void);
void mdl_clock_set_source(uint64_t (*source)(void)); /* NULL: the system's */

#endif
