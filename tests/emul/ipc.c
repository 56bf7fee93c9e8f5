/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one process in another. A handle names the process, its descriptor of the arena, and the allocation; the
 * importer opens /proc/<pid>/fd/<n>, looks in the arena's head whether the allocation is still exported, and maps it
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

enum { MAGIC = 0x454d4950 };

struct handle {
    uint32_t magic, vendor;
    int32_t pid, fd;
    uint64_t id, offset, size;
    uint32_t device, zero;
    uint64_t fill[2]; /* so that a handle cut short is seen */
};
_Static_assert(sizeof(struct handle) == EMUL_IPC_BYTES, "vendors' handles have 64 bytes");

/* This process by the number that others find it under in /proc, which need not be of the own number space. */
static int own_number(void)
{
    char text[32];
    ssize_t len = readlink("/proc/self", text, sizeof(text) - 1);
    if (len <= 0) return getpid();
    text[len] = 0;
    return atoi(text);
}

static uint64_t fill_of(const struct handle *handle)
{
    uint64_t state = handle->id ^ (uint64_t)handle->pid << 32;
    return emul_random(&state);
}

static void close_handle(struct handle *handle)
{
    handle->magic = MAGIC;
    handle->fill[0] = fill_of(handle);
    handle->fill[1] = ~handle->fill[0];
}

/* An interior address exports its whole allocation. With the lock. */
static enum emul_code export_range(int vendor, const void *address, bool restricted, struct handle *handle)
{
    const struct emul_range *range = emul_range_find((uintptr_t)address);
    if (!range || range->freed || range->vendor != vendor || range->memory != EMUL_DEVICE) return EMUL_INVALID;
    if (emul_fault(vendor, "noipc", NULL)) return EMUL_UNSUPPORTED;
    struct emul_device *device = emul_device_at(vendor, range->device);
    *handle = (struct handle){.vendor = (uint32_t)vendor, .pid = own_number(), .fd = device->arena_fd, .id = range->id};
    handle->offset = (uint64_t)(range->alias - device->arena_alias);
    handle->size = range->size;
    handle->device = (uint32_t)range->device;
    close_handle(handle);
    struct emul_export *export = &device->exports[range->id % EMUL_EXPORTS];
    bool again = export->id == range->id;
    if (again && emul_fault(vendor, "acquireonce", NULL)) return EMUL_INVALID;
    if (!again) memset(export->allowed, 0, sizeof(export->allowed));
    export->offset = handle->offset;
    export->size = handle->size;
    export->device = handle->device;
    export->restricted = restricted;
    __atomic_store_n(&export->id, range->id, __ATOMIC_RELEASE);
    return EMUL_OK;
}

enum emul_code emul_ipc_export(int vendor, const void *address, void *out)
{
    struct handle handle;
    if (!address || !out) return EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    enum emul_code code = export_range(vendor, address, false, &handle);
    pthread_mutex_unlock(&emul.lock);
    if (!code) memcpy(out, &handle, sizeof(handle));
    return code;
}

enum emul_code emul_ipc_export_fd(int vendor, const void *address, void *out, int *fd)
{
    enum emul_code code = emul_ipc_export(vendor, address, out);
    if (code) return code;
    struct handle handle;
    memcpy(&handle, out, sizeof(handle));
    *fd = fcntl(handle.fd, F_DUPFD_CLOEXEC, 0);
    return *fd < 0 ? EMUL_NO_MEMORY : EMUL_OK;
}

static enum emul_code read_export(int fd, uint64_t slot, struct emul_export *export)
{
    ssize_t got = pread(fd, export, sizeof(*export), (off_t)(slot * sizeof(*export)));
    return got == sizeof(*export) && export->id ? EMUL_OK : EMUL_INVALID;
}

static enum emul_code map(int vendor, const struct handle *handle, int fd, struct emul_range *range)
{
    struct emul_export export;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (handle->size + page - 1) & ~(page - 1);
    if (read_export(fd, handle->id % EMUL_EXPORTS, &export) || export.id != handle->id) return EMUL_INVALID;
    char *base = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, (off_t)handle->offset);
    char *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)handle->offset);
    if (base == MAP_FAILED || alias == MAP_FAILED) abort();
    *range = (struct emul_range){.base = (uintptr_t)base, .size = handle->size, .mapped = size, .alias = alias};
    range->vendor = vendor;
    range->memory = EMUL_IMPORT;
    range->device = emul_device_get(vendor);
    range->opens = 1;
    memcpy(range->key, handle, sizeof(range->key));
    return EMUL_OK;
}

static struct emul_range *find_import(const struct handle *handle)
{
    for (size_t i = 0; i < emul.range_count; i++) {
        struct emul_range *range = emul.ranges[i];
        if (!range->freed && range->memory == EMUL_IMPORT && memcmp(range->key, handle, sizeof(*handle)) == 0)
            return range;
    }
    return NULL;
}

static int open_owner(int pid, int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

static enum emul_code import(int vendor, const struct handle *handle, int fd, void **out)
{
    if (handle->pid == own_number()) return EMUL_OWN_EXPORT;
    enum emul_code code = EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    emul_device_drain(emul_device_current(vendor));
    struct emul_range range, *found = find_import(handle);
    if (found)
        found->opens++;
    else if ((code = map(vendor, handle, fd, &range)) == EMUL_OK)
        found = emul_range_add(&range);
    if (!code) *out = (void *)found->base;
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static enum emul_code check_handle(int vendor, const struct handle *handle)
{
    if (handle->magic != MAGIC || handle->fill[0] != fill_of(handle) || handle->fill[1] != ~handle->fill[0])
        return emul_misuse(EMUL_INVALID, "the IPC handle is damaged");
    if ((int)handle->vendor != vendor)
        return emul_misuse(EMUL_INVALID, "an IPC handle of %s", emul_vendor_name((int)handle->vendor));
    return EMUL_OK;
}

enum emul_code emul_ipc_import_fd(int vendor, const void *bytes, int fd, void **out)
{
    struct handle handle;
    struct emul_export export;
    if (!bytes || !out) return EMUL_INVALID;
    memcpy(&handle, bytes, sizeof(handle));
    enum emul_code code = check_handle(vendor, &handle);
    if (code) return code;
    if (handle.pid != own_number() && (fcntl(fd, F_GET_SEALS) < 0 || read_export(fd, handle.id % EMUL_EXPORTS, &export)))
        return emul_misuse(EMUL_INVALID, "descriptor %d is not the exporter's memory", fd);
    return import(vendor, &handle, fd, out);
}

enum emul_code emul_ipc_import(int vendor, const void *bytes, void **out)
{
    struct handle handle;
    if (!bytes || !out) return EMUL_INVALID;
    memcpy(&handle, bytes, sizeof(handle));
    enum emul_code code = check_handle(vendor, &handle);
    if (code || handle.pid == own_number()) return code ? code : EMUL_OWN_EXPORT;
    int fd = open_owner(handle.pid, handle.fd);
    if (fd < 0) return EMUL_INVALID;
    code = import(vendor, &handle, fd, out);
    close(fd);
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

/* A token: process 22 bits, descriptor 12, slot 13, low bits of the id 16, and a one so that it is never 0. */
struct token {
    int pid, fd;
    uint64_t slot;
    uint16_t id;
};

static uint64_t pack(const struct handle *handle)
{
    return 1ull << 63 | (uint64_t)handle->pid << 41 | (uint64_t)(handle->fd & 0xfff) << 29 |
           (handle->id % EMUL_EXPORTS) << 16 | (handle->id & 0xffff);
}

static bool unpack(uint64_t word, struct token *token)
{
    *token =
        (struct token){(int)(word >> 41 & 0x3fffff), (int)(word >> 29 & 0xfff), word >> 16 & 0x1fff, (uint16_t)word};
    return word >> 63 && (token->slot & 0x1fff) == (token->id & 0x1fffu);
}

enum emul_code emul_ipc_token(int vendor, const void *address, bool restricted, uint64_t *token)
{
    struct handle handle;
    if (!address || !token) return EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    const struct emul_range *range = emul_range_find((uintptr_t)address);
    enum emul_code code = EMUL_OK;
    if (range && range->base != (uintptr_t)address)
        code = emul_misuse(EMUL_INVALID, "%p is not the base of its allocation %p", address, (void *)range->base);
    if (!code) code = export_range(vendor, address, restricted, &handle);
    pthread_mutex_unlock(&emul.lock);
    if (!code) *token = pack(&handle);
    return code;
}

enum emul_code emul_ipc_allow(int vendor, uint64_t word, const int32_t *pids, size_t count)
{
    struct token token;
    if (!unpack(word, &token) || token.pid != getpid() || !pids) return EMUL_INVALID;
    enum emul_code code = EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    for (int i = 0; i < EMUL_DEVICES_MAX; i++) {
        struct emul_device *device = emul.devices[vendor][i];
        if (!device || device->arena_fd != token.fd) continue;
        struct emul_export *export = &device->exports[token.slot];
        for (size_t k = 0; k < count; k++)
            for (size_t at = 0; at < EMUL_ALLOWED; at++)
                if (!export->allowed[at] || export->allowed[at] == pids[k]) {
                    export->allowed[at] = pids[k];
                    break;
                }
        code = EMUL_OK;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* The handle that the token stands for; *fd is open afterwards. */
static enum emul_code resolve(int vendor, uint64_t word, struct handle *handle, int *fd)
{
    struct token token;
    struct emul_export export;
    if (!unpack(word, &token))
        return emul_misuse(EMUL_INVALID, "the IPC handle 0x%llx is damaged", (unsigned long long)word);
    *fd = open_owner(token.pid, token.fd);
    if (*fd < 0) return EMUL_INVALID;
    bool allowed = read_export(*fd, token.slot, &export) == EMUL_OK && (uint16_t) export.id == token.id;
    if (allowed && export.restricted && token.pid != getpid()) {
        allowed = false;
        for (size_t i = 0; i < EMUL_ALLOWED; i++) allowed |= export.allowed[i] == getpid();
    }
    if (!allowed) {
        close(*fd);
        return EMUL_INVALID;
    }
    *handle = (struct handle){.vendor = (uint32_t)vendor, .pid = token.pid, .fd = token.fd, .id = export.id};
    handle->offset = export.offset;
    handle->size = export.size;
    handle->device = export.device;
    close_handle(handle);
    return EMUL_OK;
}

int emul_ipc_token_device(int vendor, uint64_t token)
{
    struct handle handle;
    int fd = -1;
    if (resolve(vendor, token, &handle, &fd)) return -1;
    close(fd);
    return (int)handle.device;
}

enum emul_code emul_ipc_import_token(int vendor, uint64_t token, void **out)
{
    struct handle handle;
    int fd = -1;
    if (!out) return EMUL_INVALID;
    enum emul_code code = resolve(vendor, token, &handle, &fd);
    if (code) return code;
    code = import(vendor, &handle, fd, out);
    close(fd);
    return code;
}

enum emul_code emul_ipc_close_token(int vendor, uint64_t word)
{
    struct token token;
    void *base = NULL;
    if (!unpack(word, &token)) return emul_misuse(EMUL_INVALID, "0x%llx is no IPC handle", (unsigned long long)word);
    if (token.pid == getpid()) return EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    for (size_t i = 0; i < emul.range_count; i++) {
        struct handle handle;
        memcpy(&handle, emul.ranges[i]->key, sizeof(handle));
        if (!emul.ranges[i]->freed && emul.ranges[i]->memory == EMUL_IMPORT && emul.ranges[i]->vendor == vendor &&
            pack(&handle) == word)
            base = (void *)emul.ranges[i]->base;
    }
    pthread_mutex_unlock(&emul.lock);
    if (!base) return emul_misuse(EMUL_INVALID, "0x%llx is no open import", (unsigned long long)word);
    return emul_ipc_close(vendor, base);
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
