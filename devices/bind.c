/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Five vendors name their library libcudart.so: so a file that loads proves nothing, and the device's node is looked for
 * first. Libraries are bound locally, so that two of the same names can be used in one process.
 */
#include "config.h"

#include "devices/bind.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

enum { SYMBOL_BYTES = 128, PATH_BYTES = 4096 };

/* Appends to a text that may be full. */
static void append(char *text, size_t bytes, const char *before, const char *what)
{
    size_t used = strlen(text);

    if (used + 1 < bytes) snprintf(text + used, bytes - used, "%s%s", before, what);
}

bool mdl_bind_has_node(const char *const *patterns, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "no such device on this machine: none of");
    for (; *patterns; patterns++) {
        glob_t found;
        bool any = glob(*patterns, GLOB_NOSORT, NULL, &found) == 0 && found.gl_pathc > 0;
        globfree(&found);
        if (any) return true;
        append(why, why_bytes, " ", *patterns);
    }
    return false;
}

void *mdl_bind_open(const char *where, const char *const *names, char *path, size_t path_bytes, char *why,
                    size_t why_bytes)
{
    char file[PATH_BYTES];

    snprintf(why, why_bytes, "no library:");
    for (; *names; names++) {
        void *library;
        snprintf(file, sizeof(file), "%s%s%s", where ? where : "", where ? "/" : "", *names);
        library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        if (library) {
            snprintf(path, path_bytes, "%s", *names);
            return library;
        }
        append(why, why_bytes, " ", dlerror());
        append(why, why_bytes, ";", "");
    }
    return NULL;
}

void *mdl_bind_symbol(void *library, const char *prefix, const char *stem)
{
    char name[SYMBOL_BYTES];

    if (!library || !stem) return NULL;
    snprintf(name, sizeof(name), "%s%s", prefix, stem);
    return dlsym(library, name);
}

void mdl_bind_close(void *library)
{
    if (library) dlclose(library);
}
