/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest device adapter: what is required and nothing else, in a shared object of its own
 * (docs/adding-a-device.md). Its two devices are ordinary memory, and its streams do everything at once, which keeps
 * their order too.
 *
 * The test copies the object under other names. The vendor is called as the file is, and some names misbehave: "badabi",
 * "badsize" and "nothing", and those of spoil().
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
static int stream_object, devices = DEVICES;
static uint32_t claims = MDL_DEV_HOST_ACCESS;

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

static uint32_t caps(const struct mdl_device *d) { return claims; }

static medleyResult_t count(const struct mdl_device *d, int *n)
{
    *n = devices;
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

/* ---- what a plugin may have wrong ---- */

static struct mdl_native_caps native_caps = {.id_bytes = 128, .version = 1};

static medleyResult_t native_probe(const struct mdl_native *n, const char *where, char *found, size_t found_bytes,
                                   char *why, size_t why_bytes)
{
    snprintf(found, found_bytes, "a library of nothing");
    return medleySuccess;
}

static const struct mdl_native_caps *get_caps(const struct mdl_native *n) { return &native_caps; }
static medleyResult_t get_id(const struct mdl_native *n, void *id) { return medleyInvalidUsage; }
static medleyResult_t init(const struct mdl_native *n, const void *id, int nranks, int rank, int ordinal, void **comm)
{
    return medleyInvalidUsage;
}
static medleyResult_t destroy(const struct mdl_native *n, void *comm) { return medleySuccess; }
static medleyResult_t run(const struct mdl_native *n, void *comm, const struct mdl_native_call *call, mdl_dev_stream s)
{
    return medleyInvalidUsage;
}
static medleyResult_t messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *calls, int ncalls,
                               mdl_dev_stream s)
{
    return medleyInvalidUsage;
}

static struct mdl_native native = {.name = "nil",
                                   .probe = native_probe,
                                   .caps = get_caps,
                                   .get_id = get_id,
                                   .init = init,
                                   .destroy = destroy,
                                   .run = run,
                                   .messages = messages};

static const struct {
    const char *name, *vendor;
} vendors[] = {{"vendor_null", NULL},   {"vendor_empty", ""},     {"vendor_host", "host"},
               {"vendor_auto", "auto"}, {"vendor_colon", "a:b"},  {"vendor_comma", "a,b"},
               {"vendor_equal", "a=b"}, {"vendor_blank", "a b"},  {"vendor_long", "a-name-of-thirty-two-characters!"}};

static void spoil_native(const char *name)
{
#define WITHOUT(op)                                                                                                    \
    if (strcmp(name, "native_without_" #op) == 0) native.op = NULL;
    WITHOUT(name) WITHOUT(probe) WITHOUT(caps) WITHOUT(get_id) WITHOUT(init) WITHOUT(destroy) WITHOUT(run)
    WITHOUT(messages)
#undef WITHOUT
    if (strcmp(name, "native_id") == 0) native_caps.id_bytes = MDL_NATIVE_ID_BYTES + 1;
    if (strcmp(name, "native_abort") == 0) native_caps.ways = MDL_NATIVE_ABORT;
    if (strcmp(name, "native_groups") == 0) native_caps.ways = MDL_NATIVE_GROUPS;
    if (strcmp(name, "native_colls") == 0) native_caps.colls = 1u << medleyNumColls;
    if (strcmp(name, "native_types") == 0) native_caps.reduces[medleyMin] = 1u << medleyNumTypes;
    if (strncmp(name, "native_", 7) == 0) device.native = &native;
}

static void spoil(const char *name)
{
#define WITHOUT(op)                                                                                                    \
    if (strcmp(name, "without_" #op) == 0) device.op = NULL;
    WITHOUT(title) WITHOUT(probe) WITHOUT(caps) WITHOUT(count) WITHOUT(enter) WITHOUT(info) WITHOUT(alloc) WITHOUT(free)
    WITHOUT(alloc_pinned) WITHOUT(free_pinned) WITHOUT(copy) WITHOUT(stream_create) WITHOUT(stream_destroy)
    WITHOUT(stream_sync)
#undef WITHOUT
    for (size_t i = 0; i < sizeof(vendors) / sizeof(vendors[0]); i++)
        if (strcmp(name, vendors[i].name) == 0) device.vendor = vendors[i].vendor;
    if (strcmp(name, "badabi") == 0) device.abi++;
    if (strcmp(name, "badsize") == 0) device.size--;
    if (strcmp(name, "counts_none") == 0) devices = 0;
    if (strcmp(name, "counts_less") == 0) devices = -3;
    if (strncmp(name, "claims_", 7) == 0) claims |= 1u << atoi(name + 7);
    spoil_native(name);
}

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
    spoil(name);
    return strcmp(name, "nothing") == 0 ? NULL : &device;
}
