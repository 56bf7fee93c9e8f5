/* SPDX-License-Identifier: Apache-2.0 */
/* memcpy for payload: as fast for every alignment as for the best. */
#ifndef MDL_BASE_COPY_H_
#define MDL_BASE_COPY_H_

#include <stddef.h>

void mdl_copy(void *restrict dst, const void *restrict src, size_t len);

#endif
