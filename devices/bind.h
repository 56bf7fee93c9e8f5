/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a vendor's libraries at run time: is there such a device, which file loads, which symbols does it have. */
#ifndef MDL_DEVICES_BIND_H_
#define MDL_DEVICES_BIND_H_

#include <medley/plugin.h>

/* Does any file match one of the patterns (NULL-terminated)? If not, *why says which were looked for. */
bool mdl_bind_has_node(const char *const *patterns, char *why, size_t why_bytes);

/* Loads the first of the NULL-terminated `names` that loads, from folder `where` or, if that is NULL, from where the
 * loader looks; its symbols stay its own. NULL: none did, and *why says so. path: what was loaded. */
void *mdl_bind_open(const char *where, const char *const *names, char *path, size_t path_bytes, char *why,
                    size_t why_bytes);
void *mdl_bind_symbol(void *library, const char *prefix, const char *stem); /* NULL: it has none */
void mdl_bind_close(void *library);

#endif
