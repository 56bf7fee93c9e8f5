/* SPDX-License-Identifier: Apache-2.0 */
/* See calls.h. */
#include "config.h"

#include "devices/calls.h"
#include "devices/bind.h"

#include <stdio.h>

void *mdl_calls_open(const char *where, const char *folder, const char *const *names, char *path, size_t path_bytes,
                     char *why, size_t why_bytes)
{
    void *library = mdl_bind_open(where, names, path, path_bytes, why, why_bytes);
    char unused[512];

    if (library || where) return library;
    return mdl_bind_open(folder, names, path, path_bytes, unused, sizeof(unused));
}

bool mdl_calls_bind(void *first, void *second, const struct mdl_call *calls, int n, void **fn, char *why,
                    size_t why_bytes)
{
    for (int i = 0; i < n; i++) {
        fn[i] = mdl_bind_symbol(first, "", calls[i].name);
        if (!fn[i]) fn[i] = mdl_bind_symbol(second, "", calls[i].name);
        if (fn[i] || !calls[i].needed) continue;
        snprintf(why, why_bytes, "the library has no %s", calls[i].name);
        return false;
    }
    return true;
}
