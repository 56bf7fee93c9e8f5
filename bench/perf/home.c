/* SPDX-License-Identifier: Apache-2.0 */
/* See home.h. Threads may drive ranks of several devices: each call enters the rank's. */
#include "config.h"
#include "bench/perf/home.h"
#include <stdio.h>
#include <string.h>

static int count_entries(const char *list)
{
    int n = 1;
    for (const char *p = list; *p; p++) n += *p == ',';
    return n;
}

/* Without the blanks around it. */
static void take_entry(const char *list, int i, char *name, size_t bytes)
{
    for (; i > 0; i--) list = strchr(list, ',') + 1;
    list += strspn(list, " \t");
    size_t n = strcspn(list, ",");
    while (n && strchr(" \t", list[n - 1])) n--;
    snprintf(name, bytes, "%.*s", (int)n, list);
}

medleyResult_t perf_home_check(const char *list, bool all_here, int nranks)
{
    struct mdl_config cfg;
    struct mdl_dev dev;
    char name[MDL_CONFIG_TEXT_BYTES];
    MDL_TRY(mdl_config_load(&cfg));
    if (!*list) list = cfg.device.s;
    for (int i = 0, n = count_entries(list); i < n; i++) {
        take_entry(list, i, name, sizeof(name));
        MDL_TRY(all_here && i < nranks ? mdl_dev_find(&cfg, name, &dev) : mdl_dev_check_name(&cfg, name));
    }
    return medleySuccess;
}

medleyResult_t perf_home_find(struct perf_home *h, const char *list, int rank)
{
    struct mdl_config cfg;
    char name[MDL_CONFIG_TEXT_BYTES];
    *h = (struct perf_home){0};
    MDL_TRY(mdl_config_load(&cfg));
    if (!*list) list = cfg.device.s;
    take_entry(list, rank % count_entries(list), name, sizeof(name));
    MDL_TRY(mdl_dev_find(&cfg, name, &h->dev));
    mdl_dev_name(&h->dev, h->name, sizeof(h->name)); /* "auto" has become something */
    return medleySuccess;
}

medleyResult_t perf_home_open(struct perf_home *h, bool own_stream)
{
    struct mdl_dev_visit visit;
    if (!h->dev.ops || !own_stream) return medleySuccess;
    MDL_TRY(mdl_dev_enter(&h->dev, &visit));
    medleyResult_t result = h->dev.ops->stream_create(h->dev.ops, &h->stream);
    h->own = result == medleySuccess;
    mdl_dev_leave(&h->dev, &visit);
    return result;
}

void perf_home_close(struct perf_home *h)
{
    struct mdl_dev_visit visit;
    if (!h->own || mdl_dev_enter(&h->dev, &visit) != medleySuccess) return;
    (void)h->dev.ops->stream_destroy(h->dev.ops, h->stream);
    mdl_dev_leave(&h->dev, &visit);
    h->own = false;
}

medleyResult_t perf_home_sync(const struct perf_home *h)
{
    struct mdl_dev_visit visit;
    if (!h->dev.ops) return medleySuccess;
    MDL_TRY(mdl_dev_enter(&h->dev, &visit));
    medleyResult_t result = h->dev.ops->stream_sync(h->dev.ops, h->stream);
    mdl_dev_leave(&h->dev, &visit);
    return result;
}

medleyResult_t perf_home_take(const struct perf_home *h, size_t bytes, void **device, void **pinned)
{
    const struct mdl_device *d = h->dev.ops;
    struct mdl_dev_visit visit;
    MDL_TRY(mdl_dev_enter(&h->dev, &visit));
    medleyResult_t result = d->alloc(d, bytes, device);
    if (result == medleySuccess) {
        result = d->alloc_pinned(d, bytes, pinned);
        if (result != medleySuccess) (void)d->free(d, *device);
    }
    mdl_dev_leave(&h->dev, &visit);
    return result;
}

void perf_home_give(const struct perf_home *h, void *device, void *pinned)
{
    const struct mdl_device *d = h->dev.ops;
    struct mdl_dev_visit visit;
    if (mdl_dev_enter(&h->dev, &visit) != medleySuccess) return;
    (void)d->free(d, device);
    (void)d->free_pinned(d, pinned);
    mdl_dev_leave(&h->dev, &visit);
}

static medleyResult_t copy(const struct perf_home *h, void *dst, const void *src, size_t bytes, enum mdl_copy_kind kind)
{
    struct mdl_dev_visit visit;
    MDL_TRY(mdl_dev_enter(&h->dev, &visit));
    medleyResult_t result = h->dev.ops->copy(h->dev.ops, dst, src, bytes, kind, h->stream);
    if (result == medleySuccess) result = h->dev.ops->stream_sync(h->dev.ops, h->stream);
    mdl_dev_leave(&h->dev, &visit);
    return result;
}

medleyResult_t perf_home_store(const struct perf_home *h, void *device, const void *pinned, size_t bytes)
{
    return bytes ? copy(h, device, pinned, bytes, MDL_COPY_H2D) : medleySuccess;
}

medleyResult_t perf_home_fetch(const struct perf_home *h, void *pinned, const void *device, size_t bytes)
{
    return bytes ? copy(h, pinned, device, bytes, MDL_COPY_D2H) : medleySuccess;
}
