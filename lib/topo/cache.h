/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of the processor's caches. */
#ifndef MDL_TOPO_CACHE_H_
#define MDL_TOPO_CACHE_H_

#include <stddef.h>

size_t mdl_cache_bytes(void); /* of the last level, as the first processor sees it; a guess where nobody tells */

#endif
