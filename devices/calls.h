/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of a vendor that has a shape of its own: names, which of them must be there, and what was found. */
#ifndef MDL_DEVICES_CALLS_H_
#define MDL_DEVICES_CALLS_H_

#include <medley/plugin.h>

struct mdl_call {
    const char *name;
    bool needed;
};

/* A library of one of the names: in folder `where`; else where the loader looks, and then in the vendor's own folder.
 */
void *mdl_calls_open(const char *where, const char *folder, const char *const *names, char *path, size_t path_bytes,
                     char *why, size_t why_bytes);

/* Looks each of the n calls up in `first`, then in `second` (may be NULL). False: a needed one is missing, says *why.
 */
bool mdl_calls_bind(void *first, void *second, const struct mdl_call *calls, int n, void **fn, char *why,
                    size_t why_bytes);

#endif
