/* SPDX-License-Identifier: Apache-2.0 */
/* A set of ranks as ranges, for "who is missing": bounded, so with very many gaps only the number of the rest is kept.
 * Pure. */
#ifndef MDL_BOOT_RANGES_H_
#define MDL_BOOT_RANGES_H_

#include "lib/base/bytes.h"

enum { MDL_RANGES_MAX = 64, MDL_MAX_RANKS = 1 << 20 };

struct mdl_range {
    uint32_t first, last; /* both in the set */
};
struct mdl_ranges {
    uint64_t count; /* of ranks, those without an entry included */
    int n;
    struct mdl_range at[MDL_RANGES_MAX];
};

void mdl_ranges_clear(struct mdl_ranges *set);
void mdl_ranges_add(struct mdl_ranges *set, uint32_t first, uint32_t last);  /* disjoint from what is in it */
void mdl_ranges_join(struct mdl_ranges *set, const struct mdl_ranges *more); /* likewise */
void mdl_ranges_sort(struct mdl_ranges *set);                                /* and melts neighbours */

/* "3, 5-7", "3, 5-7 and 12 more", or "none". */
void mdl_ranges_format(const struct mdl_ranges *set, char *text, size_t bytes);

/* count u32, n u16, then first u32 and last u32 each. */
void mdl_ranges_write(struct mdl_writer *w, const struct mdl_ranges *set);
void mdl_ranges_read(struct mdl_reader *r, struct mdl_ranges *set); /* r->bad also for ranges that are none */

#endif
