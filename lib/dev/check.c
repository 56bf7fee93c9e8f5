/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the contract of devices demands of an adapter and can be seen without using it. An adapter of Medley's own passes
 * by its tests; one from a shared object may be half done, and is refused here with words for its author before the
 * engine steps on a function that is not there.
 */
#include "config.h"

#include "lib/dev/check.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct needed {
    uint32_t bit; /* 0: always */
    size_t at;    /* of the function in the structure */
    const char *bit_name, *name;
};

#define ALWAYS(name)    {0, offsetof(struct mdl_device, name), "", #name},
#define WITH(cap, name) {MDL_DEV_##cap, offsetof(struct mdl_device, name), "MDL_DEV_" #cap, #name},

static const struct needed required[] = {
    ALWAYS(probe) ALWAYS(caps) ALWAYS(count) ALWAYS(enter) ALWAYS(info) ALWAYS(alloc) ALWAYS(free) ALWAYS(alloc_pinned)
    ALWAYS(free_pinned) ALWAYS(copy) ALWAYS(stream_create) ALWAYS(stream_destroy) ALWAYS(stream_sync)};

static const struct needed claimed[] = {
    WITH(POINTERS, classify) WITH(PIN, pin) WITH(PIN, unpin) WITH(EVENTS, event_create) WITH(EVENTS, event_destroy)
    WITH(EVENTS, event_record) WITH(EVENTS, event_query) WITH(EVENTS, stream_wait_event) WITH(WORDS, alloc_words)
    WITH(WORDS, free_words) WITH(WORDS, stream_write) WITH(WORDS, stream_wait) WITH(HOST_FUNC, stream_host_func)
    WITH(CAPTURE, stream_capturing) WITH(IPC, ipc_export) WITH(IPC, ipc_import) WITH(IPC, ipc_close)
    WITH(DMABUF, dmabuf_export) WITH(KERNELS, module_load) WITH(KERNELS, module_unload) WITH(KERNELS, kernel_find)
    WITH(KERNELS, kernel_launch) WITH(KERNEL_WORDS, kernel_address)};

#undef ALWAYS
#undef WITH
#define ALWAYS(name) {0, offsetof(struct mdl_native, name), "", #name},

static const struct needed native_required[] = {
    ALWAYS(get_id) ALWAYS(init) ALWAYS(destroy) ALWAYS(run) ALWAYS(messages)};

static const struct needed native_claimed[] = {
    {MDL_NATIVE_GROUPS, offsetof(struct mdl_native, group_start), "MDL_NATIVE_GROUPS", "group_start"},
    {MDL_NATIVE_GROUPS, offsetof(struct mdl_native, group_end), "MDL_NATIVE_GROUPS", "group_end"},
    {MDL_NATIVE_ABORT, offsetof(struct mdl_native, abort), "MDL_NATIVE_ABORT", "abort"}};
#undef ALWAYS

#define ENTRIES(table) (sizeof(table) / sizeof((table)[0]))

enum {
    DEVICE_BITS = (MDL_DEV_KERNEL_WORDS << 1) - 1,
    NATIVE_BITS = (MDL_NATIVE_FACTORS << 1) - 1,
    ALL_COLLS = (1 << medleyNumColls) - 1,
    ALL_TYPES = (1 << medleyNumTypes) - 1,
};

static bool has(const void *table, const struct needed *f)
{
    void (*fn)(void);

    memcpy(&fn, (const char *)table + f->at, sizeof(fn)); /* all pointers to functions look alike here */
    return fn != NULL;
}

static bool has_all(const void *table, const struct needed *f, size_t n, uint32_t bits, char *why, size_t bytes)
{
    for (size_t i = 0; i < n; i++) {
        if ((f[i].bit && !(bits & f[i].bit)) || has(table, &f[i])) continue;
        if (f[i].bit)
            snprintf(why, bytes, "it claims %s and has no function \"%s\"", f[i].bit_name, f[i].name);
        else
            snprintf(why, bytes, "it has no function \"%s\", which is required", f[i].name);
        return false;
    }
    return true;
}

bool mdl_dev_check_shape(const struct mdl_device *d, char *why, size_t bytes)
{
    if (d->abi == MDL_PLUGIN_ABI && d->size == sizeof(*d)) return true;
    snprintf(why, bytes, "it has ABI %u and a structure of %u bytes, this Medley needs ABI %u and %zu", d->abi, d->size,
             MDL_PLUGIN_ABI, sizeof(*d));
    return false;
}

bool mdl_dev_check_vendor(const char *vendor)
{
    size_t n = vendor ? strnlen(vendor, MDL_VENDOR_BYTES) : 0;

    if (n == 0 || n == MDL_VENDOR_BYTES || strcmp(vendor, "host") == 0 || strcmp(vendor, "auto") == 0) return false;
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)vendor[i]) || strchr(":,=", vendor[i])) return false;
    return true;
}

bool mdl_dev_check_table(const struct mdl_device *d, char *why, size_t bytes)
{
    if (!d->vendor) {
        snprintf(why, bytes, "its vendor is NULL");
        return false;
    }
    if (!mdl_dev_check_vendor(d->vendor)) {
        snprintf(why, bytes,
                 "its vendor is \"%.40s\": it must have 1 to %d printable characters, none of : , = and blanks, and not be "
                 "host or auto",
                 d->vendor, MDL_VENDOR_BYTES - 1);
        return false;
    }
    if (!d->title || !d->title[0]) {
        snprintf(why, bytes, "it has no title");
        return false;
    }
    return has_all(d, required, ENTRIES(required), 0, why, bytes);
}

bool mdl_dev_check_bound(const struct mdl_device *d, char *why, size_t bytes)
{
    uint32_t caps = d->caps(d);
    int n = 0;

    if (caps & ~(uint32_t)DEVICE_BITS) {
        snprintf(why, bytes, "it claims capabilities that there are not: 0x%x", caps & ~(uint32_t)DEVICE_BITS);
        return false;
    }
    if ((caps & MDL_DEV_KERNEL_WORDS) && !(caps & MDL_DEV_KERNELS)) {
        snprintf(why, bytes, "it claims MDL_DEV_KERNEL_WORDS without MDL_DEV_KERNELS");
        return false;
    }
    if (!has_all(d, claimed, ENTRIES(claimed), caps, why, bytes)) return false;
    if (d->count(d, &n) != medleySuccess || n > 0) return true; /* what count says is reported to who asks for a device */
    snprintf(why, bytes, "it was found and counts %d devices", n);
    return false;
}

/* ---- collective libraries ---- */

bool mdl_native_check_table(const struct mdl_native *n, char *why, size_t bytes)
{
    if (n->name && n->name[0] && n->probe) return true;
    snprintf(why, bytes, "the adapter's table of a collective library has no %s",
             n->name && n->name[0] ? "function \"probe\", which is required" : "name");
    return false;
}

static bool check_native_caps(const struct mdl_native_caps *caps, char *why, size_t bytes)
{
    uint32_t types = 0;

    if (caps->id_bytes == 0 || caps->id_bytes > MDL_NATIVE_ID_BYTES) {
        snprintf(why, bytes, "an id of %u bytes: it must have 1 to %d", caps->id_bytes, MDL_NATIVE_ID_BYTES);
        return false;
    }
    for (int op = 0; op < medleyNumOps; op++) types |= caps->reduces[op];
    if (!(caps->colls & ~(uint32_t)ALL_COLLS) && !(types & ~(uint32_t)ALL_TYPES) && !(caps->ways & ~(uint32_t)NATIVE_BITS))
        return true;
    snprintf(why, bytes, "it claims collectives, types or ways that there are not: 0x%x, 0x%x, 0x%x", caps->colls, types,
             caps->ways);
    return false;
}

bool mdl_native_check_bound(const struct mdl_native *n, char *why, size_t bytes)
{
    const struct mdl_native_caps *caps = n->caps ? n->caps(n) : NULL;

    if (!caps) {
        snprintf(why, bytes, "its function \"caps\" %s", n->caps ? "gives nothing" : "is missing, but probe succeeds");
        return false;
    }
    return check_native_caps(caps, why, bytes) &&
           has_all(n, native_required, ENTRIES(native_required), 0, why, bytes) &&
           has_all(n, native_claimed, ENTRIES(native_claimed), caps->ways, why, bytes);
}
