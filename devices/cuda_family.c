/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the libraries of the vendors that have CUDA's shape (cuda_family.h, cuda_bind.c). All that differs between them
 * is in their tables; this file has no vendor's name in it.
 *
 * Properties structures are never read, since their layout changes from version to version; identity comes from calls
 * that fill in strings. Handles travel by value as structures of their true size, which is how they are passed.
 */
#include "config.h"

#include "devices/cuda_call.h"
#include "lib/base/status.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HANDLE_BYTES = 64, ATTRIBUTES_BYTES = 256, WORD_SPACE = 64 };
enum { PORTABLE = 1, MAPPED = 2, NON_BLOCKING = 1, NO_TIMING = 2 };
enum {
    ATTRIBUTE_BUFFER_ID = 7,
    HANDLE_TYPE_DMABUF = 1,
    WAIT_GREATER_OR_EQUAL = 0,
    HIP_SIGNAL_MEMORY = 2,
    CAPTURE_IMPLICIT = 906
};

struct handle {
    char bytes[HANDLE_BYTES];
};

/* ---- devices ---- */

medleyResult_t mdl_cuda_count(const struct mdl_device *d, int *count)
{
    uint32_t u = 0;
    int n = 0;

    if (QUIRK(d, UNSIGNED_DEVICE)) {
        MDL_TRY(CHECK(d, COUNT, FN(d, COUNT, uint32_t *)(&u)));
        n = (int)u;
    } else {
        MDL_TRY(CHECK(d, COUNT, FN(d, COUNT, int *)(&n)));
    }
    *count = n;
    return medleySuccess;
}

medleyResult_t mdl_cuda_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info)
{
    *info = (struct mdl_device_info){0};
    if (HAS(d, NAME) && FN(d, NAME, char *, int, int)(info->name, sizeof(info->name), ordinal) != 0) info->name[0] = 0;
    if (HAS(d, PCI) && FN(d, PCI, char *, int, int)(info->pci, sizeof(info->pci), ordinal) != 0) {
        info->pci[0] = 0;
        mdl_cuda_forget_error(d);
    }
    return medleySuccess;
}

medleyResult_t mdl_cuda_enter(const struct mdl_device *d, int ordinal)
{
    int rc =
        QUIRK(d, UNSIGNED_DEVICE) ? FN(d, SET_DEVICE, uint32_t)((uint32_t)ordinal) : FN(d, SET_DEVICE, int)(ordinal);

    return CHECK(d, SET_DEVICE, rc);
}

medleyResult_t mdl_cuda_current(const struct mdl_device *d, int *ordinal)
{
    uint32_t u = 0;
    int n = 0;

    if (QUIRK(d, UNSIGNED_DEVICE)) {
        MDL_TRY(CHECK(d, GET_DEVICE, FN(d, GET_DEVICE, uint32_t *)(&u)));
        n = (int)u;
    } else {
        MDL_TRY(CHECK(d, GET_DEVICE, FN(d, GET_DEVICE, int *)(&n)));
    }
    *ordinal = n;
    return medleySuccess;
}

/* ---- memory ---- */

medleyResult_t mdl_cuda_alloc(const struct mdl_device *d, size_t len, void **ptr)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, MALLOC, void **, size_t)(ptr, len);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, MALLOC, rc);
}

medleyResult_t mdl_cuda_free(const struct mdl_device *d, void *ptr)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, FREE, void *)(ptr);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, FREE, rc);
}

medleyResult_t mdl_cuda_alloc_pinned(const struct mdl_device *d, size_t len, void **ptr)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;
    bool flags = HAS(d, HOST_ALLOC);

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = flags ? FN(d, HOST_ALLOC, void **, size_t, unsigned)(ptr, len, PORTABLE | MAPPED)
               : FN(d, MALLOC_HOST, void **, size_t)(ptr, len);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return mdl_cuda_check(d, flags ? MDL_CUDA_HOST_ALLOC : MDL_CUDA_MALLOC_HOST, rc);
}

medleyResult_t mdl_cuda_free_pinned(const struct mdl_device *d, void *ptr)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, HOST_FREE, void *)(ptr);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, HOST_FREE, rc);
}

medleyResult_t mdl_cuda_pin(const struct mdl_device *d, void *ptr, size_t len)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, PIN, void *, size_t, unsigned)(ptr, len, PORTABLE);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, PIN, rc);
}

medleyResult_t mdl_cuda_unpin(const struct mdl_device *d, void *ptr)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, UNPIN, void *)(ptr);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, UNPIN, rc);
}

static void find_range(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p)
{
    uint64_t base = 0, id = 0;
    size_t len = 0;

    if (HAS(d, RANGE) && FN(d, RANGE, uint64_t *, size_t *, uint64_t)(&base, &len, (uint64_t)(uintptr_t)ptr) == 0) {
        p->base = (void *)(uintptr_t)base;
        p->len = len;
    }
    if (HAS(d, BUFFER_ID) &&
        FN(d, BUFFER_ID, void *, int, uint64_t)(&id, ATTRIBUTE_BUFFER_ID, (uint64_t)(uintptr_t)ptr) == 0)
        p->id = id;
    mdl_cuda_forget_error(d);
}

/* What the vendor does not know is ordinary memory: CUDA says so with a type, HIP 5 with an error. */
medleyResult_t mdl_cuda_classify(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p)
{
    const struct mdl_cuda_state *s = mdl_cuda_state_of(d);
    union {
        struct {
            int type, device;
        } head;
        char room[ATTRIBUTES_BYTES];
    } a;
    int rc;

    memset(&a, 0, sizeof(a));
    *p = (struct mdl_pointer){.kind = MDL_POINTER_HOST, .ordinal = -1};
    rc = FN(d, POINTER, void *, const void *)(&a, ptr);
    if (rc != 0) {
        mdl_cuda_forget_error(d);
        return medleySuccess;
    }
    if (a.head.type != s->type_device && a.head.type != s->type_managed) return medleySuccess;
    p->kind = a.head.type == s->type_device ? MDL_POINTER_DEVICE : MDL_POINTER_SHARED;
    p->ordinal = a.head.device;
    find_range(d, ptr, p);
    return medleySuccess;
}

medleyResult_t mdl_cuda_copy(const struct mdl_device *d, void *dst, const void *src, size_t len,
                             enum mdl_copy_kind kind, mdl_dev_stream stream)
{
    static const int kinds[] = {[MDL_COPY_H2D] = 1, [MDL_COPY_D2H] = 2, [MDL_COPY_D2D] = 3, [MDL_COPY_ANY] = 4};
    int rc = QUIRK(d, STREAM_BEFORE_KIND)
                 ? FN(d, COPY, void *, const void *, size_t, void *, int)(dst, src, len, stream, kinds[kind])
                 : FN(d, COPY, void *, const void *, size_t, int, void *)(dst, src, len, kinds[kind], stream);

    return CHECK(d, COPY, rc);
}

/* ---- streams and events ---- */

medleyResult_t mdl_cuda_stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    if (HAS(d, STREAM_CREATE))
        return CHECK(d, STREAM_CREATE, FN(d, STREAM_CREATE, void **, unsigned)(stream, NON_BLOCKING));
    return CHECK(d, STREAM_CREATE_PLAIN, FN(d, STREAM_CREATE_PLAIN, void **)(stream));
}

medleyResult_t mdl_cuda_stream_destroy(const struct mdl_device *d, mdl_dev_stream stream)
{
    return CHECK(d, STREAM_DESTROY, FN(d, STREAM_DESTROY, void *)(stream));
}

medleyResult_t mdl_cuda_stream_sync(const struct mdl_device *d, mdl_dev_stream stream)
{
    return CHECK(d, STREAM_SYNC, FN(d, STREAM_SYNC, void *)(stream));
}

medleyResult_t mdl_cuda_stream_query(const struct mdl_device *d, mdl_dev_stream stream)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    if (!HAS(d, STREAM_QUERY)) return medleyInProgress;
    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, STREAM_QUERY, void *)(stream);
    mdl_cuda_exchange_capture_mode(d, &mode);
    if (!mdl_cuda_is_code(d, rc, mdl_cuda_vendor_of(d)->not_ready, "NotReady")) return CHECK(d, STREAM_QUERY, rc);
    mdl_cuda_forget_error(d);
    return medleyInProgress;
}

medleyResult_t mdl_cuda_stream_capturing(const struct mdl_device *d, mdl_dev_stream stream, bool *capturing)
{
    int status = 0, rc = FN(d, CAPTURING, void *, int *)(stream, &status);

    if (mdl_cuda_is_code(d, rc, CAPTURE_IMPLICIT, "StreamCaptureImplicit")) { /* of another stream, which it waits for
                                                                               */
        mdl_cuda_forget_error(d);
        *capturing = true;
        return medleySuccess;
    }
    MDL_TRY(CHECK(d, CAPTURING, rc));
    *capturing = status != 0;
    return medleySuccess;
}

medleyResult_t mdl_cuda_event_create(const struct mdl_device *d, mdl_dev_event *event)
{
    if (HAS(d, EVENT_CREATE)) return CHECK(d, EVENT_CREATE, FN(d, EVENT_CREATE, void **, unsigned)(event, NO_TIMING));
    return CHECK(d, EVENT_CREATE_PLAIN, FN(d, EVENT_CREATE_PLAIN, void **)(event));
}

medleyResult_t mdl_cuda_event_destroy(const struct mdl_device *d, mdl_dev_event event)
{
    return CHECK(d, EVENT_DESTROY, FN(d, EVENT_DESTROY, void *)(event));
}

medleyResult_t mdl_cuda_event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream)
{
    if (HAS(d, EVENT_RECORD)) return CHECK(d, EVENT_RECORD, FN(d, EVENT_RECORD, void *, void *)(event, stream));
    return CHECK(d, EVENT_RECORD_FLAGS, FN(d, EVENT_RECORD_FLAGS, void *, void *, unsigned)(event, stream, 0));
}

medleyResult_t mdl_cuda_event_query(const struct mdl_device *d, mdl_dev_event event)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, EVENT_QUERY, void *)(event);
    mdl_cuda_exchange_capture_mode(d, &mode);
    if (!mdl_cuda_is_code(d, rc, mdl_cuda_vendor_of(d)->not_ready, "NotReady")) return CHECK(d, EVENT_QUERY, rc);
    mdl_cuda_forget_error(d);
    return medleyInProgress;
}

medleyResult_t mdl_cuda_stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event)
{
    int rc = QUIRK(d, WAIT_EVENT_PLAIN) ? FN(d, STREAM_WAIT_EVENT, void *, void *)(stream, event)
                                        : FN(d, STREAM_WAIT_EVENT, void *, void *, unsigned)(stream, event, 0);

    return CHECK(d, STREAM_WAIT_EVENT, rc);
}

/* ---- words: a cache line each, or, where waiting streams need the vendor's signals, one of those each ---- */

static medleyResult_t alloc_signals(const struct mdl_device *d, int n, uint64_t **words)
{
    for (int i = 0; i < n; i++) {
        int mode = MDL_CUDA_CAPTURE_RELAXED, rc;
        void *p = NULL;
        medleyResult_t res;
        mdl_cuda_exchange_capture_mode(d, &mode);
        rc = FN(d, WORD_ALLOC, void **, size_t, unsigned)(&p, 8, HIP_SIGNAL_MEMORY);
        mdl_cuda_exchange_capture_mode(d, &mode);
        res = CHECK(d, WORD_ALLOC, rc);
        if (res != medleySuccess) {
            (void)mdl_cuda_free_words(d, i, words);
            return res;
        }
        words[i] = p;
        *words[i] = 0;
    }
    return medleySuccess;
}

medleyResult_t mdl_cuda_alloc_words(const struct mdl_device *d, int n, uint64_t **words)
{
    void *p = NULL;

    if QUIRK (d, SIGNAL_WORDS) return alloc_signals(d, n, words);
    MDL_TRY(mdl_cuda_alloc_pinned(d, (size_t)n * WORD_SPACE, &p));
    memset(p, 0, (size_t)n * WORD_SPACE);
    for (int i = 0; i < n; i++) words[i] = (uint64_t *)((char *)p + (size_t)i * WORD_SPACE);
    return medleySuccess;
}

medleyResult_t mdl_cuda_free_words(const struct mdl_device *d, int n, uint64_t **words)
{
    medleyResult_t res = medleySuccess;

    if (n == 0) return res;
    if (!QUIRK(d, SIGNAL_WORDS)) return mdl_cuda_free_pinned(d, words[0]);
    for (int i = 0; i < n; i++) {
        medleyResult_t one = mdl_cuda_free(d, words[i]);
        if (res == medleySuccess) res = one;
    }
    return res;
}

medleyResult_t mdl_cuda_stream_write(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    return CHECK(d, WRITE_WORD,
                 FN(d, WRITE_WORD, void *, uint64_t, uint64_t, unsigned)(stream, (uint64_t)(uintptr_t)word, value, 0));
}

medleyResult_t mdl_cuda_stream_wait(const struct mdl_device *d, mdl_dev_stream stream, uint64_t *word, uint64_t value)
{
    uint64_t at = (uint64_t)(uintptr_t)word;
    int rc = QUIRK(d, WAIT_MASK)
                 ? FN(d, WAIT_WORD, void *, uint64_t, uint64_t, unsigned, uint64_t)(stream, at, value,
                                                                                    WAIT_GREATER_OR_EQUAL, UINT64_MAX)
                 : FN(d, WAIT_WORD, void *, uint64_t, uint64_t, unsigned)(stream, at, value, WAIT_GREATER_OR_EQUAL);

    return CHECK(d, WAIT_WORD, rc);
}

/* ---- host functions ---- */

struct callback {
    void (*fn)(void *);
    void *arg;
};

static void run_callback(void *stream, int status, void *arg)
{
    struct callback *c = arg;

    (void)stream;
    (void)status;
    c->fn(c->arg);
    free(c);
}

medleyResult_t mdl_cuda_stream_host_func(const struct mdl_device *d, mdl_dev_stream stream, void (*fn)(void *),
                                         void *arg)
{
    struct callback *c;
    medleyResult_t res;

    if (HAS(d, HOST_FUNC))
        return CHECK(d, HOST_FUNC, FN(d, HOST_FUNC, void *, void (*)(void *), void *)(stream, fn, arg));
    c = malloc(sizeof(*c));
    if (!c) return mdl_error(medleySystemError, "out of memory for a host function");
    *c = (struct callback){.fn = fn, .arg = arg};
    res = CHECK(
        d, FUNC_CALLBACK,
        FN(d, FUNC_CALLBACK, void *, void (*)(void *, int, void *), void *, unsigned)(stream, run_callback, c, 0));
    if (res != medleySuccess) free(c);
    return res;
}

/* ---- other processes, other devices ---- */

/* A handle names the whole allocation. */
medleyResult_t mdl_cuda_ipc_export(const struct mdl_device *d, void *ptr, struct mdl_ipc *ipc)
{
    struct mdl_pointer p;
    struct handle h;
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    MDL_TRY(mdl_cuda_classify(d, ptr, &p));
    if (p.kind != MDL_POINTER_DEVICE || !p.base) return medleyInvalidUsage;
    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, IPC_GET, struct handle *, void *)(&h, p.base);
    mdl_cuda_exchange_capture_mode(d, &mode);
    if (rc != 0) {
        mdl_cuda_forget_error(d);
        return medleyInvalidUsage; /* of a pool, or of virtual memory management: it has no handle */
    }
    *ipc = (struct mdl_ipc){.len = sizeof(h), .offset = (uint64_t)((char *)ptr - (char *)p.base), .fd = -1};
    memcpy(ipc->bytes, &h, sizeof(h));
    return medleySuccess;
}

medleyResult_t mdl_cuda_ipc_import(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr)
{
    const struct mdl_cuda_vendor *v = mdl_cuda_vendor_of(d);
    struct handle h;
    void *base = NULL;
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    if (ipc->len != sizeof(h))
        return mdl_error(medleyRemoteError, "a memory handle of %s has %zu bytes, it should have %zu", d->vendor,
                         ipc->len, sizeof(h));
    memcpy(&h, ipc->bytes, sizeof(h));
    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = (v->quirks & MDL_CUDA_IPC_OPEN_PLAIN)
             ? FN(d, IPC_OPEN, void **, struct handle)(&base, h)
             : FN(d, IPC_OPEN, void **, struct handle, unsigned)(&base, h, v->ipc_flag);
    mdl_cuda_exchange_capture_mode(d, &mode);
    MDL_TRY(CHECK(d, IPC_OPEN, rc));
    *import = base;
    *ptr = (char *)base + ipc->offset;
    return medleySuccess;
}

medleyResult_t mdl_cuda_ipc_close(const struct mdl_device *d, void *import)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, IPC_CLOSE, void *)(import);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, IPC_CLOSE, rc);
}

/* By HSA: any range of one allocation. */
static medleyResult_t export_by_hsa(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset)
{
    int made = -1;
    uint64_t at = 0;
    uint32_t rc = ((uint32_t(*)(const void *, size_t, int *, uint64_t *))(uintptr_t)mdl_cuda_state_of(d)->export_fn)(
        ptr, len, &made, &at);

    if (rc != 0) return mdl_error(medleyUnhandledDeviceError, "HSA could not export memory as dma-buf: 0x%x", rc);
    *fd = made;
    *offset = at;
    return medleySuccess;
}

/* The driver takes whole pages only, so the descriptor may begin before ptr. */
medleyResult_t mdl_cuda_dmabuf_export(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at = (uint64_t)(uintptr_t)ptr, from = at / page * page;
    size_t bytes = (at + len + page - 1) / page * page - from;
    int made = -1;

    if (!HAS(d, DMABUF)) return export_by_hsa(d, ptr, len, fd, offset);
    MDL_TRY(CHECK(
        d, DMABUF,
        FN(d, DMABUF, void *, uint64_t, size_t, int, unsigned long long)(&made, from, bytes, HANDLE_TYPE_DMABUF, 0)));
    *fd = made;
    *offset = at - from;
    return medleySuccess;
}
