/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one process in another. A handle names the process, its descriptor of the arena, and the allocation; the
 * importer opens /proc/<pid>/fd/<n>, looks in the arena's first page whether the allocation still lives, and maps it
 * the way the owner does: once without access, once for the engine.
 */
#include "config.h"
#include "tests/emul/state.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 8192, MAGIC = 0x454d4950 };

struct handle {
    uint32_t magic, vendor;
    int32_t pid, fd;
    uint64_t id, offset, size;
    uint32_t device, zero;
    uint64_t fill[2]; /* so that a handle cut short is seen */
};
_Static_assert(sizeof(struct handle) == EMUL_IPC_BYTES, "vendors' handles have 64 bytes");

static uint64_t fill_of(const struct handle *handle)
{
    uint64_t state = handle->id ^ (uint64_t)handle->pid << 32;
    return emul_random(&state);
}

/* An interior address exports its whole allocation. */
enum emul_code emul_ipc_export(int vendor, const void *address, void *out)
{
    if (!address || !out) return EMUL_INVALID;
    enum emul_code code = EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    const struct emul_range *range = emul_range_find((uintptr_t)address);
    if (!range || range->freed || range->vendor != vendor || range->memory != EMUL_DEVICE)
        code = EMUL_INVALID;
    else if (emul_fault(vendor, "noipc", NULL))
        code = EMUL_UNSUPPORTED;
    if (!code) {
        struct emul_device *device = emul_device_at(vendor, range->device);
        struct handle handle = {.magic = MAGIC, .vendor = (uint32_t)vendor, .pid = getpid(), .fd = device->arena_fd};
        handle.id = range->id;
        handle.offset = (uint64_t)(range->alias - device->arena_alias);
        handle.size = range->size;
        handle.device = (uint32_t)range->device;
        handle.fill[0] = fill_of(&handle);
        handle.fill[1] = ~handle.fill[0];
        __atomic_store_n(&device->exported[range->id % SLOTS], range->id, __ATOMIC_RELEASE);
        memcpy(out, &handle, sizeof(handle));
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static bool alive(int fd, const struct handle *handle)
{
    uint64_t id = 0;
    return pread(fd, &id, sizeof(id), (off_t)(handle->id % SLOTS * sizeof(id))) == sizeof(id) && id == handle->id;
}

static enum emul_code map(int vendor, const struct handle *handle, struct emul_range *range)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", handle->pid, handle->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return EMUL_INVALID;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (handle->size + page - 1) & ~(page - 1);
    enum emul_code code = EMUL_INVALID;
    if (!alive(fd, handle)) goto close_fd;
    char *base = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, (off_t)handle->offset);
    char *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)handle->offset);
    if (base == MAP_FAILED || alias == MAP_FAILED) abort();
    *range = (struct emul_range){.base = (uintptr_t)base, .size = handle->size, .mapped = size, .alias = alias};
    range->vendor = vendor;
    range->memory = EMUL_IMPORT;
    range->device = emul_device_get(vendor);
    range->opens = 1;
    memcpy(range->key, handle, sizeof(range->key));
    code = EMUL_OK;
close_fd:
    close(fd);
    return code;
}

enum emul_code emul_ipc_import(int vendor, const void *bytes, void **out)
{
    struct handle handle;
    if (!bytes || !out) return EMUL_INVALID;
    memcpy(&handle, bytes, sizeof(handle));
    if (handle.magic != MAGIC || handle.fill[0] != fill_of(&handle) || handle.fill[1] != ~handle.fill[0])
        return emul_misuse(EMUL_INVALID, "the IPC handle is damaged");
    if ((int)handle.vendor != vendor)
        return emul_misuse(EMUL_INVALID, "an IPC handle of %s", emul_vendor_name((int)handle.vendor));
    if (handle.pid == getpid()) return EMUL_OWN_EXPORT;
    enum emul_code code = EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    emul_device_drain(emul_device_current(vendor));
    struct emul_range *open_one = NULL;
    for (size_t i = 0; i < emul.range_count; i++)
        if (!emul.ranges[i]->freed && emul.ranges[i]->memory == EMUL_IMPORT &&
            memcmp(emul.ranges[i]->key, &handle, sizeof(handle)) == 0)
            open_one = emul.ranges[i];
    struct emul_range range;
    if (open_one)
        open_one->opens++;
    else if ((code = map(vendor, &handle, &range)) == EMUL_OK)
        open_one = emul_range_add(&range);
    if (!code) *out = (void *)open_one->base;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_ipc_close(int vendor, void *address)
{
    enum emul_code code = EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    struct emul_range *range = emul_range_find((uintptr_t)address);
    if (!range || range->base != (uintptr_t)address || range->memory != EMUL_IMPORT || range->vendor != vendor ||
        range->freed)
        code = emul_misuse(EMUL_INVALID, "%p is no open import of %s", address, emul_vendor_name(vendor));
    else if (--range->opens == 0) {
        emul_device_drain(emul_device_at(vendor, range->device));
        emul_range_free(range);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* Through /dev/udmabuf, where the system has it. */
enum emul_code emul_dmabuf(int vendor, const void *address, size_t size, int *fd)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!fd || !size || (uintptr_t)address % page || size % page) return EMUL_INVALID;
    enum emul_code code = EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    const struct emul_range *range = emul_range_find((uintptr_t)address);
    struct udmabuf_create create = {.flags = UDMABUF_FLAGS_CLOEXEC, .size = size};
    if (!range || range->freed || range->vendor != vendor || range->memory != EMUL_DEVICE)
        code = EMUL_INVALID;
    else if (size > range->mapped - page - ((uintptr_t)address - range->base))
        code = EMUL_INVALID;
    else {
        struct emul_device *device = emul_device_at(vendor, range->device);
        create.memfd = (uint32_t)device->arena_fd;
        create.offset = (uint64_t)(range->alias - device->arena_alias) + ((uintptr_t)address - range->base);
        int control = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
        int made = control < 0 ? -1 : ioctl(control, UDMABUF_CREATE, &create);
        if (control >= 0) close(control);
        if (made < 0)
            code = EMUL_UNSUPPORTED;
        else
            *fd = made;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}
