/* SPDX-License-Identifier: Apache-2.0 */
/* Growable arrays of the plan layer: capacity doubles, and one flag remembers that memory ran out, so that callers test
 * once at the end. */
#ifndef MDL_PLAN_GROW_H_
#define MDL_PLAN_GROW_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Makes room for `need` elements of `size` bytes; *array and *cap change only on success. */
static inline bool mdl_grow(void *array, uint32_t *cap, size_t need, size_t size)
{
    if (need <= *cap) return true;
    if (need > UINT32_MAX / 2) return false;
    uint32_t bigger = *cap ? *cap : 16;
    while (bigger < need) bigger *= 2;
    void *moved = realloc(*(void **)array, bigger * size);
    if (!moved) return false;
    *(void **)array = moved;
    *cap = bigger;
    return true;
}

#endif
