/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds libOpenCL.so.1 and the devices behind it. They are those of all platforms, numbered in the order in which the
 * loader lists them; one that cannot be used keeps its number and says why when it is entered.
 *
 * There is no device's node to look for: a platform with a device is the proof. Platforms stay loaded, and so does what
 * they were asked at the first successful look.
 */
#include "config.h"

#include "devices/bind.h"
#include "devices/opencl.h"
#include "lib/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TYPE_CPU = 1 << 1,
    PLATFORM_NAME = 0x0902,
    DEVICE_TYPE = 0x1000,
    DEVICE_AVAILABLE = 0x1027,
    DEVICE_NAME = 0x102B,
    DEVICE_VERSION = 0x102F,
    DEVICE_EXTENSIONS = 0x1030,
    DEVICE_SVM = 0x1053,
    DEVICE_PCI = 0x410F, /* cl_khr_pci_bus_info */
    CONTEXT_PLATFORM = 0x1084,
    SVM_COARSE = 1 << 0,
    SVM_FINE = 1 << 1,
    MAX_PLATFORMS = 32,
    MAX_DEVICES = 256,
    TEXT_BYTES = 256,
};

#define TYPE_ANY UINT64_C(0xFFFFFFFF)

struct mdl_cl_calls mdl_cl_call;

static struct {
    pthread_mutex_t lock;
    void *library;
    int n, first; /* devices; the one that "opencl" means */
    struct mdl_cl_device device[MAX_DEVICES];
    uint32_t caps;
} cl = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local int entered = -1;

/* ---- errors ---- */

static const char *text_of(int32_t rc)
{
    static const struct {
        int32_t rc;
        const char *text;
    } texts[] = {
        {-1, "device not found"},
        {-2, "device not available"},
        {-3, "compiler not available"},
        {-4, "memory allocation failure"},
        {-5, "out of resources"},
        {-6, "out of host memory"},
        {-8, "copy overlaps"},
        {-11, "build failure"},
        {-14, "an event waited for has failed"},
        {-30, "invalid value"},
        {-32, "invalid platform"},
        {-33, "invalid device"},
        {-34, "invalid context"},
        {-35, "invalid queue properties"},
        {-36, "invalid command queue"},
        {-43, "invalid build options"},
        {-44, "invalid program"},
        {-45, "invalid program executable"},
        {-46, "invalid kernel name"},
        {-48, "invalid kernel"},
        {-50, "invalid argument value"},
        {-51, "invalid argument size"},
        {-52, "invalid kernel arguments"},
        {-54, "invalid work-group size"},
        {-57, "invalid event wait list"},
        {-58, "invalid event"},
        {-59, "invalid operation"},
        {-61, "invalid buffer size"},
        {-63, "invalid global work size"},
        {-1001, "no platform"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].rc == rc) return texts[i].text;
    return "no text";
}

medleyResult_t mdl_cl_check(int32_t rc, const char *call)
{
    bool memory = rc == -4 || rc == -5 || rc == -6;

    if (rc == 0) return medleySuccess;
    return mdl_error(memory ? medleySystemError : medleyUnhandledDeviceError, "cl%s failed: %d (%s)", call, rc,
                     text_of(rc));
}

/* ---- binding ---- */

static bool bind_calls(char *why, size_t why_bytes)
{
    static const struct {
        const char *name;
        size_t at;
    } calls[] = {
#define CALL(type, name, args) {#name, offsetof(struct mdl_cl_calls, name)},
        MDL_CL_CALLS(CALL)
#undef CALL
    };

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        void *fn = mdl_bind_symbol(cl.library, "cl", calls[i].name);
        if (!fn) {
            snprintf(why, why_bytes, "libOpenCL.so.1 has no cl%s: it is older than OpenCL 2.0", calls[i].name);
            return false;
        }
        memcpy((char *)&mdl_cl_call + calls[i].at, &fn, sizeof(fn));
    }
    return true;
}

/* "" if the device does not tell. */
static void text(mdl_cl device, uint32_t what, char *value, size_t bytes)
{
    size_t used = 0;

    value[0] = 0;
    if (mdl_cl_call.GetDeviceInfo(device, what, bytes, value, &used) != 0) value[0] = 0;
    value[bytes - 1] = 0;
}

static uint64_t number(mdl_cl device, uint32_t what, size_t bytes)
{
    union {
        uint64_t wide;
        uint32_t narrow;
    } value = {0};

    if (mdl_cl_call.GetDeviceInfo(device, what, bytes, &value, NULL) != 0) return 0;
    return bytes == sizeof(value.wide) ? value.wide : value.narrow;
}

/* A platform below 2.0 need not have the calls at all, so the version is asked before anything else. */
static const char *find_lack(mdl_cl device)
{
    char version[TEXT_BYTES];
    int major = 0;

    text(device, DEVICE_VERSION, version, sizeof(version));
    if (sscanf(version, "OpenCL %d.", &major) != 1 || major < 2) return "it has not OpenCL 2.0";
    if (!(number(device, DEVICE_SVM, sizeof(uint64_t)) & (SVM_COARSE | SVM_FINE)))
        return "it has no shared virtual memory";
    if (!number(device, DEVICE_AVAILABLE, sizeof(uint32_t))) return "it is not available";
    return NULL;
}

static void add_devices(mdl_cl platform)
{
    mdl_cl list[MAX_DEVICES];
    uint32_t n = 0;

    if (mdl_cl_call.GetDeviceIDs(platform, TYPE_ANY, MAX_DEVICES, list, &n) != 0) return;
    for (uint32_t i = 0; i < n && i < MAX_DEVICES && cl.n < MAX_DEVICES; i++) {
        cl.device[cl.n++] = (struct mdl_cl_device){
            .platform = platform,
            .id = list[i],
            .cpu = (number(list[i], DEVICE_TYPE, sizeof(uint64_t)) & TYPE_CPU) != 0,
            .lacks = find_lack(list[i]),
        };
    }
}

/* The first device that can be used, better one that is no processor. */
static bool choose_first(void)
{
    bool all_cpu = true;

    cl.first = -1;
    for (int i = cl.n - 1; i >= 0; i--) {
        if (cl.device[i].lacks) continue;
        if (cl.first < 0 || all_cpu || !cl.device[i].cpu) cl.first = i;
        if (!cl.device[i].cpu) all_cpu = false;
    }
    cl.caps = MDL_DEV_EVENTS | MDL_DEV_WORDS | MDL_DEV_COPY_ANY | MDL_DEV_HOST_FUNC | MDL_DEV_KERNELS |
              (all_cpu ? MDL_DEV_CPU : 0);
    return cl.first >= 0;
}

static bool find_devices(char *why, size_t why_bytes)
{
    mdl_cl platforms[MAX_PLATFORMS];
    uint32_t n = 0;
    int32_t rc = mdl_cl_call.GetPlatformIDs(MAX_PLATFORMS, platforms, &n);

    if (rc != 0 || n == 0) {
        snprintf(why, why_bytes, "libOpenCL.so.1 found no platform: clGetPlatformIDs gave %d (%s)", rc, text_of(rc));
        return false;
    }
    for (uint32_t i = 0; i < n && i < MAX_PLATFORMS; i++) add_devices(platforms[i]);
    if (choose_first()) return true;
    if (cl.n == 0)
        snprintf(why, why_bytes, "libOpenCL.so.1 found %u platforms without a device", n);
    else
        snprintf(why, why_bytes, "none of %d OpenCL devices can be used; of the first: %s", cl.n, cl.device[0].lacks);
    return false;
}

static void describe(char *found, size_t found_bytes)
{
    char platform[TEXT_BYTES] = "", version[TEXT_BYTES];
    const struct mdl_cl_device *first = &cl.device[cl.first];

    (void)mdl_cl_call.GetPlatformInfo(first->platform, PLATFORM_NAME, sizeof(platform) - 1, platform, NULL);
    text(first->id, DEVICE_VERSION, version, sizeof(version));
    snprintf(found, found_bytes, "libOpenCL.so.1, %s, %s", platform, version);
}

medleyResult_t mdl_cl_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    static const char *const names[] = {"libOpenCL.so.1", NULL};
    char path[64];
    bool there;

    (void)d;
    pthread_mutex_lock(&cl.lock);
    cl.n = 0;
    cl.library = mdl_bind_open(where, names, path, sizeof(path), why, why_bytes);
    there = cl.library && bind_calls(why, why_bytes) && find_devices(why, why_bytes);
    if (there) describe(found, found_bytes);
    pthread_mutex_unlock(&cl.lock);
    return there ? medleySuccess : medleyInvalidUsage; /* stays loaded: platforms do not survive being unloaded */
}

uint32_t mdl_cl_caps(const struct mdl_device *d)
{
    (void)d;
    return cl.caps;
}

/* ---- devices ---- */

medleyResult_t mdl_cl_count(const struct mdl_device *d, int *count)
{
    (void)d;
    *count = cl.n;
    return medleySuccess;
}

medleyResult_t mdl_cl_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info)
{
    uint32_t pci[4]; /* domain, bus, device, function */
    char extensions[8192], name[sizeof(info->name)];
    mdl_cl id;

    (void)d;
    if (ordinal < 0 || ordinal >= cl.n)
        return mdl_error(medleyInvalidArgument, "there is no device opencl:%d", ordinal);
    id = cl.device[ordinal].id;
    *info = (struct mdl_device_info){0};
    text(id, DEVICE_NAME, name, sizeof(name));
    snprintf(info->name, sizeof(info->name), "%.80s%s%s", name, cl.device[ordinal].lacks ? ": " : "",
             cl.device[ordinal].lacks ? cl.device[ordinal].lacks : "");
    text(id, DEVICE_EXTENSIONS, extensions, sizeof(extensions));
    if (strstr(extensions, "cl_khr_pci_bus_info") &&
        mdl_cl_call.GetDeviceInfo(id, DEVICE_PCI, sizeof(pci), pci, NULL) == 0)
        snprintf(info->pci, sizeof(info->pci), "%04x:%02x:%02x.%x", pci[0], pci[1], pci[2], pci[3]);
    return medleySuccess;
}

/* With the lock. */
static medleyResult_t open_device(struct mdl_cl_device *dev)
{
    const intptr_t properties[] = {CONTEXT_PLATFORM, (intptr_t)dev->platform, 0};
    mdl_cl context;
    int32_t rc = 0;

    if (dev->queue) return medleySuccess;
    context = mdl_cl_call.CreateContext(properties, 1, &dev->id, NULL, NULL, &rc);
    MDL_TRY(mdl_cl_check(rc, "CreateContext"));
    dev->queue = mdl_cl_call.CreateCommandQueueWithProperties(context, dev->id, NULL, &rc);
    if (rc != 0) {
        dev->queue = NULL;
        (void)mdl_cl_call.ReleaseContext(context);
        return mdl_cl_check(rc, "CreateCommandQueueWithProperties");
    }
    dev->context = context;
    return medleySuccess;
}

medleyResult_t mdl_cl_enter(const struct mdl_device *d, int ordinal)
{
    medleyResult_t res;

    (void)d;
    if (ordinal < 0 || ordinal >= cl.n)
        return mdl_error(medleyInvalidArgument, "there is no device opencl:%d", ordinal);
    if (cl.device[ordinal].lacks)
        return mdl_error(medleyInvalidArgument, "opencl:%d cannot be used: %s", ordinal, cl.device[ordinal].lacks);
    pthread_mutex_lock(&cl.lock);
    res = open_device(&cl.device[ordinal]);
    pthread_mutex_unlock(&cl.lock);
    if (res == medleySuccess) entered = ordinal;
    return res;
}

medleyResult_t mdl_cl_current(const struct mdl_device *d, int *ordinal)
{
    (void)d;
    *ordinal = entered < 0 ? cl.first : entered;
    return medleySuccess;
}

medleyResult_t mdl_cl_here(struct mdl_cl_device **dev)
{
    if (entered < 0) MDL_TRY(mdl_cl_enter(NULL, cl.first));
    *dev = &cl.device[entered];
    return medleySuccess;
}
