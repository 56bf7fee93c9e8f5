/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds Intel's devices and libze_loader.so.1. Devices are the GPUs of all drivers, numbered in the order in which the
 * loader lists them. A driver gets one context, a device one list that is its default stream.
 *
 * The device's node has other makers' graphics cards too, so the maker is read from the PCI function behind it.
 */
#include "config.h"

#include "devices/bind.h"
#include "devices/ze.h"
#include "lib/base/status.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

enum { INTEL = 0x8086, TYPE_GPU = 1, MAX_DRIVERS = 8, MAX_DEVICES = 128, MAX_GROUPS = 16 };
enum { COMPUTE_OR_COPY = 3, IN_ORDER = 1 << 1, ASYNCHRONOUS = 2 };

struct mdl_ze_calls mdl_ze_call;

static struct {
    pthread_mutex_t lock;
    void *library;
    int ndrivers, n;
    struct mdl_ze_driver driver[MAX_DRIVERS];
    struct mdl_ze_device device[MAX_DEVICES];
    uint32_t caps;
} ze = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local int entered = -1;

struct device_properties {
    uint32_t stype;
    const void *next;
    uint32_t type, vendor, device, flags, subdevice, clock;
    uint64_t most_memory;
    uint32_t contexts, priority, threads, width, units, subslices, slices;
    uint64_t timer;
    uint32_t timestamp_bits, kernel_bits;
    uint8_t uuid[16];
    char name[256];
    char later[256]; /* releases only add */
};
struct pci_properties {
    uint32_t stype;
    const void *next;
    uint32_t domain, bus, device, function;
    int32_t generation, width;
    int64_t bandwidth;
};
struct queue_group {
    uint32_t stype;
    const void *next;
    uint32_t flags;
    size_t pattern;
    uint32_t queues;
};

/* ---- errors ---- */

static const char *text_of(uint32_t rc)
{
    static const struct {
        uint32_t rc;
        const char *text;
    } texts[] = {
        {1, "not ready"},
        {0x70000001, "device lost"},
        {0x70000002, "out of host memory"},
        {0x70000003, "out of device memory"},
        {0x78000001, "uninitialised: no driver, or no device"},
        {0x78000002, "unsupported version"},
        {0x78000003, "unsupported feature"},
        {0x78000004, "invalid argument"},
        {0x78000005, "null handle"},
        {0x78000006, "handle in use"},
        {0x78000007, "null pointer"},
        {0x78000008, "invalid size"},
        {0x78000009, "unsupported size"},
        {0x7800000a, "unsupported alignment"},
        {0x7ffffffe, "unknown"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].rc == rc) return texts[i].text;
    return "no text";
}

medleyResult_t mdl_ze_check(uint32_t rc, const char *call)
{
    bool memory = rc == 0x70000002 || rc == 0x70000003;

    if (rc == 0) return medleySuccess;
    return mdl_error(memory ? medleySystemError : medleyUnhandledDeviceError, "ze%s failed: 0x%x (%s)", call, rc,
                     text_of(rc));
}

/* ---- binding ---- */

static bool is_intel(const char *path)
{
    unsigned vendor = 0;
    FILE *file = fopen(path, "re");

    if (!file) return false;
    if (fscanf(file, "%x", &vendor) != 1) vendor = 0;
    fclose(file);
    return vendor == INTEL;
}

static bool has_node(char *why, size_t why_bytes)
{
    bool any = false;
    glob_t found;

    if (glob("/sys/class/drm/renderD*/device/vendor", GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) any = any || is_intel(found.gl_pathv[i]);
    globfree(&found);
    if (!any) snprintf(why, why_bytes, "no such device on this machine: no /dev/dri/renderD* of PCI vendor 8086");
    return any;
}

static bool bind_calls(char *why, size_t why_bytes)
{
    static const struct {
        const char *name;
        bool needed;
        size_t at;
    } calls[] = {
#define CALL(name, needed, args) {#name, needed, offsetof(struct mdl_ze_calls, name)},
        MDL_ZE_CALLS(CALL)
#undef CALL
    };

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        void *fn = mdl_bind_symbol(ze.library, "ze", calls[i].name);
        if (!fn && calls[i].needed) {
            snprintf(why, why_bytes, "libze_loader.so.1 has no ze%s", calls[i].name);
            return false;
        }
        memcpy((char *)&mdl_ze_call + calls[i].at, &fn, sizeof(fn));
    }
    return true;
}

static uint32_t find_group(mdl_ze device)
{
    struct queue_group group[MAX_GROUPS] = {0};
    uint32_t n = MAX_GROUPS;

    for (int i = 0; i < MAX_GROUPS; i++) group[i].stype = MDL_ZE_QUEUE_GROUP;
    if (!mdl_ze_call.DeviceGetCommandQueueGroupProperties ||
        mdl_ze_call.DeviceGetCommandQueueGroupProperties(device, &n, group) != 0)
        return 0;
    for (uint32_t i = 0; i < n && i < MAX_GROUPS; i++)
        if (group[i].flags & COMPUTE_OR_COPY) return i;
    return 0;
}

static void add_devices(struct mdl_ze_driver *driver)
{
    mdl_ze list[MAX_DEVICES];
    uint32_t n = MAX_DEVICES;

    if (mdl_ze_call.DeviceGet(driver->handle, &n, list) != 0) return;
    for (uint32_t i = 0; i < n && ze.n < MAX_DEVICES; i++) {
        struct device_properties p = {.stype = MDL_ZE_DEVICE_PROPERTIES};
        struct mdl_ze_device *dev = &ze.device[ze.n];
        if (mdl_ze_call.DeviceGetProperties(list[i], &p) != 0 || p.type != TYPE_GPU) continue;
        *dev = (struct mdl_ze_device){.driver = driver, .handle = list[i], .group = find_group(list[i])};
        pthread_mutex_init(&dev->use, NULL);
        ze.n++;
    }
}

static void add_driver(mdl_ze handle)
{
    const struct mdl_ze_desc desc = {.stype = MDL_ZE_CONTEXT};
    struct mdl_ze_driver *driver = &ze.driver[ze.ndrivers];

    *driver = (struct mdl_ze_driver){.handle = handle};
    if (mdl_ze_call.ContextCreate(handle, &desc, &driver->context) != 0) return;
    pthread_mutex_init(&driver->lock, NULL);
    mdl_list_init(&driver->chunks);
    mdl_list_init(&driver->retired);
    ze.ndrivers++;
    add_devices(driver);
}

static bool find_devices(char *why, size_t why_bytes)
{
    mdl_ze list[MAX_DRIVERS];
    uint32_t n = MAX_DRIVERS, rc = mdl_ze_call.Init(0);

    if (rc != 0) {
        snprintf(why, why_bytes, "libze_loader.so.1 found no device: zeInit gave 0x%x (%s)", rc, text_of(rc));
        return false;
    }
    rc = mdl_ze_call.DriverGet(&n, list);
    if (rc != 0) {
        snprintf(why, why_bytes, "libze_loader.so.1 found no driver: zeDriverGet gave 0x%x (%s)", rc, text_of(rc));
        return false;
    }
    for (uint32_t i = 0; i < n && i < MAX_DRIVERS; i++) add_driver(list[i]);
    if (ze.n == 0) snprintf(why, why_bytes, "libze_loader.so.1 found %u drivers, but no GPU", n);
    return ze.n > 0;
}

/* Registration of host memory has no call of its own: drivers have it by name. */
static void find_extensions(mdl_ze driver)
{
    void *import = NULL, *release = NULL;

    if (!mdl_ze_call.DriverGetExtensionFunctionAddress) return;
    if (mdl_ze_call.DriverGetExtensionFunctionAddress(driver, "zexDriverImportExternalPointer", &import) != 0) return;
    if (mdl_ze_call.DriverGetExtensionFunctionAddress(driver, "zexDriverReleaseImportedPointer", &release) != 0) return;
    if (!import || !release) return;
    memcpy(&mdl_ze_call.import_pointer, &import, sizeof(import));
    memcpy(&mdl_ze_call.release_pointer, &release, sizeof(release));
}

static void set_caps(void)
{
    bool ipc = mdl_ze_call.MemGetIpcHandle && mdl_ze_call.MemOpenIpcHandle && mdl_ze_call.MemCloseIpcHandle;

    find_extensions(ze.device[0].driver->handle);
    ze.caps = MDL_DEV_POINTERS | MDL_DEV_EVENTS | MDL_DEV_WORDS | MDL_DEV_HOST_FUNC | MDL_DEV_DMABUF |
              (ipc ? MDL_DEV_IPC : 0) | (mdl_ze_call.import_pointer ? MDL_DEV_PIN : 0);
}

static void describe(char *found, size_t found_bytes)
{
    uint32_t version = 0;

    if (!mdl_ze_call.DriverGetApiVersion || mdl_ze_call.DriverGetApiVersion(ze.device[0].driver->handle, &version) != 0)
        version = 0;
    snprintf(found, found_bytes, "libze_loader.so.1, API %u.%u", version >> 16, version & 0xffff);
}

medleyResult_t mdl_ze_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                            size_t why_bytes)
{
    static const char *const names[] = {"libze_loader.so.1", NULL};
    char path[64];
    bool there;

    (void)d;
    if (!where && !has_node(why, why_bytes)) return medleyInvalidUsage;
    pthread_mutex_lock(&ze.lock);
    ze.n = ze.ndrivers = 0;
    ze.library = mdl_bind_open(where, names, path, sizeof(path), why, why_bytes);
    there = ze.library && bind_calls(why, why_bytes) && find_devices(why, why_bytes);
    if (there) {
        set_caps();
        describe(found, found_bytes);
    }
    pthread_mutex_unlock(&ze.lock);
    return there ? medleySuccess : medleyInvalidUsage; /* stays loaded: drivers do not survive being unloaded */
}

uint32_t mdl_ze_caps(const struct mdl_device *d)
{
    (void)d;
    return ze.caps;
}

/* ---- devices ---- */

medleyResult_t mdl_ze_count(const struct mdl_device *d, int *count)
{
    (void)d;
    *count = ze.n;
    return medleySuccess;
}

medleyResult_t mdl_ze_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info)
{
    struct device_properties p = {.stype = MDL_ZE_DEVICE_PROPERTIES};
    struct pci_properties pci = {.stype = MDL_ZE_PCI};

    (void)d;
    if (ordinal < 0 || ordinal >= ze.n) return mdl_error(medleyInvalidArgument, "there is no device ze:%d", ordinal);
    MDL_ZE_TRY(DeviceGetProperties, ze.device[ordinal].handle, &p);
    *info = (struct mdl_device_info){0};
    snprintf(info->name, sizeof(info->name), "%.127s", p.name);
    if (mdl_ze_call.DevicePciGetPropertiesExt &&
        mdl_ze_call.DevicePciGetPropertiesExt(ze.device[ordinal].handle, &pci) == 0)
        snprintf(info->pci, sizeof(info->pci), "%04x:%02x:%02x.%x", pci.domain, pci.bus, pci.device, pci.function);
    return medleySuccess;
}

struct mdl_ze_device *mdl_ze_device(int ordinal) { return ordinal < ze.n ? &ze.device[ordinal] : NULL; }

int mdl_ze_ordinal(mdl_ze device)
{
    for (int i = 0; i < ze.n; i++)
        if (ze.device[i].handle == device) return i;
    return -1;
}

medleyResult_t mdl_ze_list_create(const struct mdl_ze_device *dev, mdl_ze *list)
{
    const struct mdl_ze_desc desc = {.stype = MDL_ZE_QUEUE, .word = {dev->group, 0, IN_ORDER, ASYNCHRONOUS, 0}};

    MDL_ZE_TRY(CommandListCreateImmediate, dev->driver->context, dev->handle, &desc, list);
    return medleySuccess;
}

medleyResult_t mdl_ze_enter(const struct mdl_device *d, int ordinal)
{
    medleyResult_t res = medleySuccess;
    struct mdl_ze_device *dev;

    (void)d;
    if (ordinal < 0 || ordinal >= ze.n) return mdl_error(medleyInvalidArgument, "there is no device ze:%d", ordinal);
    dev = &ze.device[ordinal];
    pthread_mutex_lock(&dev->use);
    if (!dev->list) res = mdl_ze_list_create(dev, &dev->list);
    pthread_mutex_unlock(&dev->use);
    if (res == medleySuccess) entered = ordinal;
    return res;
}

medleyResult_t mdl_ze_current(const struct mdl_device *d, int *ordinal)
{
    (void)d;
    *ordinal = entered < 0 ? 0 : entered;
    return medleySuccess;
}

medleyResult_t mdl_ze_here(struct mdl_ze_device **dev)
{
    if (entered < 0) MDL_TRY(mdl_ze_enter(NULL, 0));
    *dev = &ze.device[entered];
    return medleySuccess;
}
