/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory that the CPU cannot touch. Each device has an arena: one memfd mapped twice, at the device addresses
 * without any access and at the alias, which only the engine knows. Addresses are handed out upwards and not used again
 * until the arena is full, so that a freed one is known as such. All ranges of all vendors stand in one sorted table.
 */
#include "config.h"
#include "tests/emul/state.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEADER = EMUL_ARENA_HEAD, STALE = 65536 /* bytes that a new allocation has set */ };

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static size_t pages(size_t size) { return (size + page_size() - 1) & ~(page_size() - 1); }

/* The first index whose base is above the address. */
static size_t above(uintptr_t address)
{
    size_t low = 0, high = emul.range_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (emul.ranges[middle]->base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct emul_range *emul_range_find(uintptr_t address)
{
    size_t at = above(address);
    if (at == 0) return NULL;
    struct emul_range *range = emul.ranges[at - 1];
    return address - range->base < range->mapped ? range : NULL;
}

static void remove_at(size_t at)
{
    free(emul.ranges[at]);
    memmove(&emul.ranges[at], &emul.ranges[at + 1], (--emul.range_count - at) * sizeof(emul.ranges[0]));
}

struct emul_range *emul_range_add(const struct emul_range *range)
{
    size_t at = above(range->base);
    /* Tombstones in the way. */
    while (at > 0 && emul.ranges[at - 1]->freed &&
           emul.ranges[at - 1]->base + emul.ranges[at - 1]->mapped > range->base)
        remove_at(--at);
    while (at < emul.range_count && emul.ranges[at]->freed && emul.ranges[at]->base < range->base + range->mapped)
        remove_at(at);
    if (emul.range_count == emul.range_room) {
        emul.range_room = emul.range_room ? 2 * emul.range_room : 64;
        emul.ranges = realloc(emul.ranges, emul.range_room * sizeof(emul.ranges[0]));
        if (!emul.ranges) abort();
    }
    struct emul_range *copy = malloc(sizeof(*copy));
    if (!copy) abort();
    *copy = *range;
    copy->id = ++emul.next_id;
    copy->made_by = emul_me.call;
    memmove(&emul.ranges[at + 1], &emul.ranges[at], (emul.range_count++ - at) * sizeof(emul.ranges[0]));
    return emul.ranges[at] = copy;
}

static void arena_open(struct emul_device *device)
{
    if (device->arena) return;
    size_t size = emul.arena;
    int fd = memfd_create("emulated device memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) goto broken;
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK); /* as dma-bufs of it demand */
    char *hidden = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    char *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (hidden == MAP_FAILED || alias == MAP_FAILED) goto broken;
    madvise(alias, size, MADV_DONTDUMP);
    madvise(hidden, size, MADV_DONTFORK);
    madvise(alias, size, MADV_DONTFORK);
    device->arena_fd = fd;
    device->arena_size = size;
    device->arena = hidden;
    device->arena_alias = alias;
    device->exports = (struct emul_export *)(void *)alias;
    device->top = HEADER;
    return;
broken:
    perror("emul: the memory of a device");
    abort();
}

/* Upwards; from the start again when the end is reached, over what was freed. */
static char *arena_take(struct emul_device *device, size_t need)
{
    arena_open(device);
    for (int round = 0; round < 2; round++) {
        while (device->top + need <= device->arena_size) {
            char *base = device->arena + device->top;
            struct emul_range *blocking = NULL;
            size_t at = above((uintptr_t)base + need - 1);
            for (; at > 0 && !blocking && emul.ranges[at - 1]->base + emul.ranges[at - 1]->mapped > (uintptr_t)base;
                 at--)
                if (!emul.ranges[at - 1]->freed) blocking = emul.ranges[at - 1];
            if (!blocking) {
                device->top += need;
                return base;
            }
            device->top = blocking->base + blocking->mapped - (uintptr_t)device->arena;
        }
        device->top = HEADER;
    }
    return NULL;
}

static enum emul_code take_device(struct emul_range *range)
{
    struct emul_device *device = emul_device_at(range->vendor, range->device);
    if (range->size > emul.memory || device->used > emul.memory - range->size) return EMUL_NO_MEMORY;
    size_t mapped = pages(range->size);
    char *base = arena_take(device, mapped + page_size()); /* and a guard */
    if (!base) return EMUL_NO_MEMORY;
    range->base = (uintptr_t)base;
    range->mapped = mapped + page_size();
    range->alias = device->arena_alias + (base - device->arena);
    device->used += range->size;
    /* Real memory is not zeroed. */
    memset(range->alias, 0xa5, range->size < STALE ? range->size : STALE);
    return EMUL_OK;
}

static enum emul_code take_host(struct emul_range *range)
{
    range->mapped = pages(range->size);
    void *base = mmap(NULL, range->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return EMUL_NO_MEMORY;
    range->base = (uintptr_t)base;
    range->alias = base;
    return EMUL_OK;
}

/* oom@N: the Nth allocation of device memory fails, oom: every one; hostoom likewise for pinned memory. */
static bool out_of_memory(int vendor, int memory)
{
    bool host = memory == EMUL_HOST || memory == EMUL_PINNED;
    unsigned turn = host ? ++emul.pinned[vendor] : ++emul.allocations[vendor], at;
    return emul_fault(vendor, host ? "hostoom" : "oom", &at) && (at == 0 || at == turn);
}

enum emul_code emul_malloc(int vendor, int memory, size_t size, void **out)
{
    if (!out) return EMUL_INVALID;
    if (size == 0) {
        *out = NULL;
        return EMUL_OK;
    }
    pthread_mutex_lock(&emul.lock);
    enum emul_code code = EMUL_OK;
    struct emul_range range = {.vendor = vendor, .memory = memory, .device = emul_device_get(vendor), .size = size};
    if (memory != EMUL_POOL) emul_device_drain(emul_device_current(vendor)); /* as drivers do at times */
    if (out_of_memory(vendor, memory))
        code = EMUL_NO_MEMORY;
    else
        code = memory == EMUL_DEVICE || memory == EMUL_POOL ? take_device(&range) : take_host(&range);
    if (!code) {
        emul_range_add(&range);
        *out = (void *)range.base;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* With the lock. The addresses stay taken, without access. */
void emul_range_free(struct emul_range *range)
{
    struct emul_device *device = emul_device_at(range->vendor, range->device);
    if (range->memory == EMUL_DEVICE || range->memory == EMUL_POOL) {
        off_t at = range->alias - device->arena_alias;
        struct emul_export *export = &device->exports[range->id % EMUL_EXPORTS];
        if (export->id == range->id) __atomic_store_n(&export->id, 0, __ATOMIC_RELEASE);
        fallocate(device->arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)pages(range->size));
        device->used -= range->size;
    } else {
        mmap((void *)range->base, range->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0);
        if (range->alias != (char *)range->base) munmap(range->alias, range->mapped);
    }
    range->freed = true;
    range->freed_by = emul_me.call;
}

static bool frees(int memory, int range)
{
    if (memory == EMUL_HOST) return range == EMUL_HOST;
    return range == EMUL_DEVICE || range == EMUL_POOL || range == EMUL_MANAGED;
}

enum emul_code emul_free(int vendor, int memory, void *address)
{
    if (!address) return EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    enum emul_code code = EMUL_OK;
    struct emul_range *range = emul_range_find((uintptr_t)address);
    if (!range || range->vendor != vendor || !frees(memory, range->memory))
        code = emul_misuse(EMUL_INVALID, "%p was not allocated by this runtime's matching call", address);
    else if (range->freed)
        code = emul_misuse(EMUL_INVALID, "double free of %p, freed by %s", address, range->freed_by);
    else if (range->base != (uintptr_t)address)
        code = emul_misuse(EMUL_INVALID, "free of %p inside of the allocation %p", address, (void *)range->base);
    else {
        emul_device_drain(emul_device_at(vendor, range->device));
        code = emul_sticky(vendor, range->device);
        range = emul_range_find((uintptr_t)address); /* the table may have moved */
        if (range && !range->freed) emul_range_free(range);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_register(int vendor, void *address, size_t size)
{
    if (!address || !size) return EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    emul_device_drain(emul_device_current(vendor)); /* lets others in, so that the table is looked at after it */
    enum emul_code code = EMUL_OK;
    uintptr_t base = (uintptr_t)address;
    size_t at = above(base + size - 1);
    if (at > 0 && emul.ranges[at - 1]->base + emul.ranges[at - 1]->mapped > base && !emul.ranges[at - 1]->freed) {
        const struct emul_range *other = emul.ranges[at - 1];
        if (other->alias != (char *)other->base)
            code = emul_misuse(EMUL_INVALID, "%p is device memory", address);
        else if (other->vendor == vendor)
            code = EMUL_REGISTERED;
        else
            code = EMUL_UNSUPPORTED; /* one table: two runtimes pinning the same bytes are not emulated */
    }
    if (!code && out_of_memory(vendor, EMUL_PINNED)) code = EMUL_NO_MEMORY;
    struct emul_range range = {.vendor = vendor, .memory = EMUL_PINNED, .device = emul_device_get(vendor)};
    range.base = base;
    range.size = range.mapped = size;
    range.alias = address;
    if (!code) emul_range_add(&range);
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_unregister(int vendor, void *address)
{
    pthread_mutex_lock(&emul.lock);
    enum emul_code code = EMUL_UNREGISTERED;
    struct emul_range *range = emul_range_find((uintptr_t)address);
    if (range && range->base == (uintptr_t)address && range->memory == EMUL_PINNED && range->vendor == vendor) {
        emul_device_drain(emul_device_at(vendor, range->device));
        size_t at = above((uintptr_t)address);
        /* Somebody else's memory: the address may become anything now, so that no tombstone stays. */
        if (at > 0 && emul.ranges[at - 1]->base == (uintptr_t)address) remove_at(at - 1);
        code = EMUL_OK;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

void emul_lookup(int vendor, const void *address, struct emul_info *info)
{
    *info = (struct emul_info){.memory = EMUL_NONE, .device = -1};
    pthread_mutex_lock(&emul.lock);
    const struct emul_range *range = emul_range_find((uintptr_t)address);
    if (range && !range->freed && range->vendor == vendor && (uintptr_t)address - range->base < range->size)
        *info = (struct emul_info){range->memory, range->device, (void *)range->base, range->size, range->id};
    pthread_mutex_unlock(&emul.lock);
}
