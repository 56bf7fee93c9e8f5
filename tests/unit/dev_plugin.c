/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest device adapter: what is required and nothing else, in a shared object of its own
 * (docs/adding-a-device.md). Its two devices are ordinary memory, and its streams do everything at once, which keeps
 * their order too.
 *
 * The test copies the object under other names. The vendor is called as the file is, and some names misbehave:
 * "badabi", "badsize" and "nothing".
 */
#define _GNU_SOURCE
#include <medley/plugin.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 2, FIRST = 1 };

static const struct mdl_services *services;
static _Thread_local int entered = FIRST;
static int stream_object;

static medleyResult_t probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    if (where && strcmp(where, "/nowhere") == 0) {
        snprintf(why, why_bytes, "%s is not in %s", d->vendor, where);
        return medleyInvalidUsage;
    }
    snprintf(found, found_bytes, "folder %s", where ? where : "none");
    return medleySuccess;
}

static uint32_t caps(const struct mdl_device *d) { return MDL_DEV_HOST_ACCESS; }

static medleyResult_t count(const struct mdl_device *d, int *n)
{
    *n = DEVICES;
    return medleySuccess;
}

static medleyResult_t info(const struct mdl_device *d, int ordinal, struct mdl_device_info *i)
{
    *i = (struct mdl_device_info){0};
    snprintf(i->name, sizeof(i->name), "%s number %d", d->vendor, ordinal);
    return medleySuccess;
}

static medleyResult_t enter(const struct mdl_device *d, int ordinal)
{
    if (ordinal < 0 || ordinal >= DEVICES)
        return services->error(medleyUnhandledDeviceError, "%s has no device %d", d->vendor, ordinal);
    entered = ordinal;
    return medleySuccess;
}

static medleyResult_t current(const struct mdl_device *d, int *ordinal)
{
    *ordinal = entered;
    return medleySuccess;
}

static medleyResult_t alloc(const struct mdl_device *d, size_t len, void **ptr)
{
    void *p = malloc(len ? len : 1);

    if (!p) return services->error(medleySystemError, "%s has no %zu bytes", d->vendor, len);
    *ptr = p;
    return medleySuccess;
}

static medleyResult_t release(const struct mdl_device *d, void *ptr)
{
    free(ptr);
    return medleySuccess;
}

static medleyResult_t copy(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                           mdl_dev_stream stream)
{
    memcpy(dst, src, len);
    return medleySuccess;
}

static medleyResult_t stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    *stream = &stream_object;
    return medleySuccess;
}

static medleyResult_t stream_nothing(const struct mdl_device *d, mdl_dev_stream stream) { return medleySuccess; }

static struct mdl_device device = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_device),
    .title = "a test's devices",
    .probe = probe,
    .caps = caps,
    .count = count,
    .info = info,
    .enter = enter,
    .current = current,
    .alloc = alloc,
    .free = release,
    .alloc_pinned = alloc,
    .free_pinned = release,
    .copy = copy,
    .stream_create = stream_create,
    .stream_destroy = stream_nothing,
    .stream_sync = stream_nothing,
};

__attribute__((visibility("default"))) const struct mdl_device *medley_device_v1(const struct mdl_services *s);

const struct mdl_device *medley_device_v1(const struct mdl_services *s)
{
    static char name[64];
    const char *slash;
    Dl_info self;

    services = s;
    if (!dladdr(&stream_object, &self)) return NULL;
    slash = strrchr(self.dli_fname, '/');
    snprintf(name, sizeof(name), "%s", slash ? slash + 1 : self.dli_fname);
    name[strcspn(name, ".")] = 0;
    device.vendor = name;
    if (strcmp(name, "badabi") == 0) device.abi++;
    if (strcmp(name, "badsize") == 0) device.size--;
    return strcmp(name, "nothing") == 0 ? NULL : &device;
}
