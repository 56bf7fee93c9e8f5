/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driver calls that a vendor with one library has beside its runtime ones, under the runtime's prefix. RANGE says which
 * name the query of an allocation has: with _v2 as CUDA's, or without as HIP's. All a guess: nobody outside has seen
 * them.
 */
#ifndef RANGE
#error "is included by a vendor's source after family.h"
#endif
#ifndef SAME
#define SAME(name) RT(name)
#endif
#define SAME_CALL(name, args)                                                                                          \
    EMUL_API int SAME(name) args;                                                                                      \
    int SAME(name)                                                                                                     \
    args

SAME_CALL(RANGE, (void **base, size_t *size, void *address))
{
    ENTER(EMUL_NEED_DEVICE);
    struct emul_info info;
    emul_lookup(VENDOR, address, &info);
    if (info.memory == EMUL_NONE) return finish(EMUL_BAD_POINTER);
    if (base) *base = info.base;
    if (size) *size = info.size;
    return 0;
}

/* 7 is the number of the allocation. */
SAME_CALL(PointerGetAttribute, (void *out, int attribute, uint64_t address))
{
    ENTER(0);
    struct emul_info info;
    emul_lookup(VENDOR, (const void *)(uintptr_t)address, &info);
    if (!out || info.memory == EMUL_NONE || attribute != 7) return finish(EMUL_INVALID);
    memcpy(out, &info.id, sizeof(info.id));
    return 0;
}

#ifdef HAS_MEMORY_OPERATIONS
SAME_CALL(StreamWriteValue64_v2, (void *stream, uint64_t address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(flags > 1 ? EMUL_INVALID
                            : emul_write(VENDOR, stream_of(stream), (void *)(uintptr_t)address, value, 8));
}

SAME_CALL(StreamWaitValue64_v2, (void *stream, uint64_t address, uint64_t value, unsigned flags))
{
    ENTER(EMUL_NEED_DEVICE);
    return finish(emul_wait(VENDOR, stream_of(stream), (void *)(uintptr_t)address, value, UINT64_MAX, 8, (int)flags));
}
#endif
