/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies and fills. Both ends are found in the table of ranges and judged: vendor, life, bounds, and whether the stated
 * direction is the true one. A pageable source is taken at the call, a pageable target makes an asynchronous copy wait
 * until it is done: both are what CUDA documents, and what makes staging through pageable memory deadlock under a held
 * stream.
 */
#include "config.h"
#include "tests/emul/state.h"
#include <stdlib.h>
#include <string.h>

/* One end of a copy. */
struct place {
    char *alias;
    bool device, host; /* both for managed memory */
    bool pinned;
    int number;
};

static bool in_arena(uintptr_t address)
{
    for (int v = 0; v < EMUL_VENDORS; v++)
        for (int d = 0; d < EMUL_DEVICES_MAX; d++) {
            const struct emul_device *device = emul.devices[v][d];
            if (device && device->arena && address - (uintptr_t)device->arena < device->arena_size) return true;
        }
    return false;
}

/* The first range that begins inside of [address, address + size). */
static const struct emul_range *next_range(uintptr_t address, size_t size)
{
    for (size_t i = 0; i < emul.range_count && emul.ranges[i]->base < address + size; i++)
        if (emul.ranges[i]->base > address && !emul.ranges[i]->freed) return emul.ranges[i];
    return NULL;
}

static enum emul_code pageable(int vendor, const void *address, size_t size, struct place *place)
{
    if (!address) return emul_misuse(EMUL_INVALID, "NULL pointer");
    if (in_arena((uintptr_t)address))
        return emul_misuse(EMUL_BAD_POINTER, "%p: device memory never allocated", address);
    const struct emul_range *next = next_range((uintptr_t)address, size);
    if (next && next->vendor == vendor)
        return emul_misuse(EMUL_INVALID, "%p + %zu runs from pageable memory into an allocation", address, size);
    *place = (struct place){.alias = (char *)(uintptr_t)address, .host = true};
    return EMUL_OK;
}

static enum emul_code find(int vendor, const void *address, size_t size, struct place *place)
{
    struct emul_range *range = emul_range_find((uintptr_t)address);
    if (!range) return pageable(vendor, address, size, place);
    bool device = range->alias != (char *)range->base;
    if (range->freed) return emul_misuse(EMUL_BAD_POINTER, "%p was freed by %s", address, range->freed_by);
    if (range->vendor != vendor && device)
        return emul_misuse(EMUL_BAD_POINTER, "%p is %s memory", address, emul_vendor_name(range->vendor));
    size_t offset = (uintptr_t)address - range->base;
    if (offset > range->size || size > range->size - offset)
        return emul_misuse(EMUL_INVALID, "%p + %zu runs past the end of its allocation (%zu of %zu bytes are left)",
                           address, size, offset > range->size ? 0 : range->size - offset, range->size);
    *place = (struct place){.alias = range->alias + offset, .number = range->device};
    place->device = device || range->memory == EMUL_MANAGED;
    place->host = !device;
    place->pinned = range->vendor == vendor;
    return EMUL_OK;
}

char *emul_alias(int vendor, const void *address, size_t size)
{
    struct place place;
    pthread_mutex_lock(&emul.lock);
    enum emul_code code = find(vendor, address, size, &place);
    if (!code && !place.device && !place.pinned)
        code = emul_misuse(EMUL_BAD_POINTER, "%p is pageable host memory, which the device cannot reach", address);
    pthread_mutex_unlock(&emul.lock);
    return code ? NULL : place.alias;
}

char *emul_translate(const void *address)
{
    char *alias = NULL;
    pthread_mutex_lock(&emul.lock);
    struct emul_range *range = emul_range_find((uintptr_t)address);
    if (range && !range->freed && range->alias != (char *)range->base)
        alias = range->alias + ((uintptr_t)address - range->base);
    pthread_mutex_unlock(&emul.lock);
    return alias;
}

static enum emul_code check_direction(int vendor, const struct place *to, const struct place *from, int direction)
{
    static const char *const names[] = {"host to host", "host to device", "device to host", "device to device",
                                        "inferred"};
    static const bool to_device[] = {false, true, false, true}, from_device[] = {false, false, true, true};
    if (direction < EMUL_H2H || direction > EMUL_INFER) return emul_misuse(EMUL_BAD_DIRECTION, "no such copy kind");
    if (direction != EMUL_INFER &&
        (!(to_device[direction] ? to->device : to->host) || !(from_device[direction] ? from->device : from->host)))
        return emul_misuse(EMUL_BAD_DIRECTION, "a copy from %s to %s memory was called %s",
                           from->device ? "device" : "host", to->device ? "device" : "host", names[direction]);
    /* TopsRider 3.6 fails such copies instead of staging them. */
    if (vendor == EMUL_TOPS && to->device && from->device && to->number != from->number) return EMUL_UNSUPPORTED;
    return EMUL_OK;
}

/* With the lock. *waits: the caller has to wait for the operation. */
static enum emul_code make_copy(int vendor, void *to, const void *from, size_t size, int direction,
                                struct emul_op **out, bool *waits)
{
    struct place target, source;
    enum emul_code code = find(vendor, to, size, &target);
    if (!code) code = find(vendor, from, size, &source);
    if (!code) code = check_direction(vendor, &target, &source, direction);
    if (code) return code;
    struct emul_op *op = emul_op_new(OP_COPY);
    op->to = target.alias;
    op->from = source.alias;
    op->size = size;
    if (!source.device && !source.pinned) {
        op->staged = malloc(size ? size : 1);
        if (!op->staged) abort();
        memcpy(op->staged, source.alias, size);
    }
    *waits = !target.device && !target.pinned;
    *out = op;
    return EMUL_OK;
}

enum emul_code emul_copy(int vendor, void *to, const void *from, size_t size, int direction)
{
    struct emul_op *op;
    bool waits;
    if (size == 0) return EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    enum emul_code code;
    struct emul_stream *stream = emul_stream_get(vendor, NULL, true, &code);
    if (!code) code = make_copy(vendor, to, from, size, direction, &op, &waits);
    if (!code) {
        struct place target, source;
        /* Inside the device the host does not wait, as with CUDA; ACL and CNRT call theirs synchronous. */
        bool always = vendor == EMUL_ACL || vendor == EMUL_CNRT;
        bool host = find(vendor, to, size, &target) || find(vendor, from, size, &source) || !target.device ||
                    !source.device || always;
        op->refs++;
        code = emul_submit(stream, op);
        if (!code && host) {
            emul_op_wait(op, UINT64_MAX);
            code = emul_sticky(vendor, stream->device);
        }
        emul_op_put(op);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_copy_async(int vendor, void *to, const void *from, size_t size, int direction, void *handle)
{
    struct emul_op *op;
    bool waits;
    if (size == 0) return EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    enum emul_code code;
    struct emul_stream *stream = emul_stream_get(vendor, handle, true, &code);
    if (!code) code = make_copy(vendor, to, from, size, direction, &op, &waits);
    if (!code) {
        bool recorded = stream->graph != NULL;
        op->refs++;
        code = emul_submit(stream, op);
        if (!code && waits && !recorded) {
            emul_op_wait(op, UINT64_MAX);
            code = emul_sticky(vendor, stream->device);
        }
        emul_op_put(op);
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static enum emul_code fill(int vendor, void *to, const void *pattern, size_t width, size_t size, void *handle)
{
    struct place target;
    if (width == 0 || width > 16 || size % width) return EMUL_INVALID;
    enum emul_code code;
    struct emul_stream *stream = emul_stream_get(vendor, handle, true, &code);
    if (!code) code = find(vendor, to, size, &target);
    if (!code && !target.device && !target.pinned)
        code = emul_misuse(EMUL_INVALID, "a fill of pageable memory at %p", to);
    if (code) return code;
    struct emul_op *op = emul_op_new(OP_FILL);
    op->to = target.alias;
    op->size = size;
    op->width = width;
    memcpy(op->pattern, pattern, width);
    return emul_submit(stream, op);
}

enum emul_code emul_fill_async(int vendor, void *to, const void *pattern, size_t width, size_t size, void *stream)
{
    if (size == 0) return EMUL_OK;
    pthread_mutex_lock(&emul.lock);
    enum emul_code code = fill(vendor, to, pattern, width, size, stream);
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* The host does not wait for a fill of device memory. */
enum emul_code emul_fill(int vendor, void *to, const void *pattern, size_t width, size_t size)
{
    return emul_fill_async(vendor, to, pattern, width, size, NULL);
}
