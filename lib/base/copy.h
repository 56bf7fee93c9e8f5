/* SPDX-License-Identifier: Apache-2.0 */
/* memcpy for payload: as fast for every alignment as for the best. */
#ifndef MDL_BASE_COPY_H_
#define MDL_BASE_COPY_H_

#include <stdbool.h>
#include <stddef.h>

void mdl_copy(void *restrict dst, const void *restrict src, size_t len);

/* Would another's memcpy of these addresses, the kernel's, fall into what mdl_copy avoids? They are addresses of any
 * process: only their distance counts. */
bool mdl_copy_is_slow(const void *dst, const void *src, size_t len);

/* The same past the caches, where the processor can: for destinations that will not be read before they would have been
 * displaced. It saves reading the lines that are overwritten. Ordered with later stores like memcpy. */
void mdl_copy_stream(void *restrict dst, const void *restrict src, size_t len);

#endif
