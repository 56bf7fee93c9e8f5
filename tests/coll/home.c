/* SPDX-License-Identifier: Apache-2.0 */
/* See home.h. What fails here is not what is tested: it ends the program. */
#include "config.h"

#include "tests/coll/home.h"
#include "lib/dev/dev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    struct mdl_dev dev;
    bool own;
    mdl_dev_stream stream;
    char name[64];
} home;

static void need(medleyResult_t res, const char *what)
{
    if (res == medleySuccess) return;
    fprintf(stderr, "%s: %s\n", what, mdl_error_text());
    abort();
}

const char *home_name(int rank)
{
    const char *list = getenv("MDL_TEST_DEVICES"), *at = list;
    int n = 1;

    snprintf(home.name, sizeof(home.name), "host");
    if (!list || !*list) return home.name;
    for (const char *p = list; *p; p++) n += *p == ',';
    for (int i = 0; i < rank % n; i++) at = strchr(at, ',') + 1;
    snprintf(home.name, sizeof(home.name), "%.*s", (int)strcspn(at, ","), at);
    return home.name;
}

medleyResult_t home_enter(const char *device, bool own_stream)
{
    struct mdl_config cfg;

    home.own = false;
    home.stream = NULL;
    home.dev = (struct mdl_dev){0};
    if (strcmp(device, "host") == 0) return medleySuccess;
    MDL_TRY(mdl_config_load(&cfg));
    MDL_TRY(mdl_dev_find(&cfg, device, &home.dev));
    MDL_TRY(home.dev.ops->enter(home.dev.ops, home.dev.ordinal));
    if (!own_stream) return medleySuccess;
    home.own = true;
    return home.dev.ops->stream_create(home.dev.ops, &home.stream);
}

void home_leave(void)
{
    if (home.own) need(home.dev.ops->stream_destroy(home.dev.ops, home.stream), "a stream cannot be destroyed");
    home.own = false;
    home.dev = (struct mdl_dev){0};
}

bool home_is_device(void) { return home.dev.ops != NULL; }
void *home_stream(void) { return home.stream; }
medleyResult_t home_sync(void) { return home.dev.ops->stream_sync(home.dev.ops, home.stream); }

/* Through pinned memory, as the contract wants it. */
static void move(void *dst, const void *src, size_t bytes, enum mdl_copy_kind kind)
{
    const struct mdl_device *d = home.dev.ops;
    void *pinned;

    need(d->alloc_pinned(d, bytes + 1, &pinned), "pinned memory");
    if (kind == MDL_COPY_H2D) memcpy(pinned, src, bytes);
    need(kind == MDL_COPY_H2D ? d->copy(d, dst, pinned, bytes, kind, home.stream)
                              : d->copy(d, pinned, src, bytes, kind, home.stream),
         "a copy");
    need(d->stream_sync(d, home.stream), "the stream");
    if (kind == MDL_COPY_D2H) memcpy(dst, pinned, bytes);
    need(d->free_pinned(d, pinned), "pinned memory");
}

void *home_copy_in(const void *host, size_t bytes)
{
    void *p;

    need(home.dev.ops->alloc(home.dev.ops, bytes + 64, &p), "device memory");
    if (bytes) move(p, host, bytes, MDL_COPY_H2D);
    return p;
}

void home_copy_out(void *host, const void *device, size_t bytes)
{
    if (bytes) move(host, device, bytes, MDL_COPY_D2H);
}

void home_free(void *device) { need(home.dev.ops->free(home.dev.ops, device), "device memory"); }
