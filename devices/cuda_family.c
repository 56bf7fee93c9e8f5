/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binds and calls the libraries of the vendors that have CUDA's shape (cuda_family.h). All that differs between them is
 * in their tables; this file has no vendor's name in it.
 *
 * Properties structures are never read, since their layout changes from version to version; identity comes from calls
 * that fill in strings. Handles travel by value as structures of their true size, which is how they are passed.
 */
#include "config.h"

#include "devices/bind.h"
#include "devices/cuda_family.h"
#include "lib/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HANDLE_BYTES = 64, ATTRIBUTES_BYTES = 256, WORD_SPACE = 64 };
enum { PORTABLE = 1, MAPPED = 2, NON_BLOCKING = 1, NO_TIMING = 2 };
enum { ATTRIBUTE_BUFFER_ID = 7, HANDLE_TYPE_DMABUF = 1, WAIT_GREATER_OR_EQUAL = 0, HIP_SIGNAL_MEMORY = 2 };
enum { HIP_6 = 60000000 }; /* from here on HIP counts kinds of memory as CUDA does */

struct handle {
    char bytes[HANDLE_BYTES];
};

static const struct mdl_cuda_vendor *vendor_of(const struct mdl_device *d) { return d->self; }
static struct mdl_cuda_state *state_of(const struct mdl_device *d) { return vendor_of(d)->state; }

/* The call as a function that returns an int and takes what follows. */
#define FN(d, id, ...)   ((int (*)(__VA_ARGS__))(uintptr_t)state_of(d)->fn[MDL_CUDA_##id])
#define HAS(d, id)       (state_of(d)->fn[MDL_CUDA_##id] != NULL)
#define CHECK(d, id, rc) check(d, MDL_CUDA_##id, rc)

/* ---- names ---- */

static const struct {
    const char *stem;
    bool driver, needed;
} calls[] = {
#define RUNTIME                     false
#define DRIVER                      true
#define CALL(id, lib, stem, needed) {stem, lib, needed},
    MDL_CUDA_CALLS(CALL)
#undef CALL
#undef RUNTIME
#undef DRIVER
};

static const char *stem_of(const struct mdl_cuda_vendor *v, int call)
{
    for (const struct mdl_cuda_rename *r = v->renames; r && r->call != MDL_CUDA_NUM_CALLS; r++)
        if ((int)r->call == call) return r->stem;
    return calls[call].stem;
}

static const char *prefix_of(const struct mdl_cuda_vendor *v, int call)
{
    return calls[call].driver ? v->driver_prefix : v->prefix;
}

static medleyResult_t check(const struct mdl_device *d, int call, int rc)
{
    const struct mdl_cuda_vendor *v = vendor_of(d);
    const char *(*text)(int) = (const char *(*)(int))(uintptr_t)v->state->fn[MDL_CUDA_ERROR_TEXT];
    const char *words = text ? text(rc) : NULL;

    if (rc == 0) return medleySuccess;
    return mdl_error(rc == v->out_of_memory ? medleySystemError : medleyUnhandledDeviceError, "%s%s failed: %d (%s)",
                     prefix_of(v, call), stem_of(v, call), rc, words ? words : "no text");
}

/* A question that may be answered with an error: it must not be found by the program's next look at its last error. */
static void forget_error(const struct mdl_device *d)
{
    if (HAS(d, LAST_ERROR)) (void)FN(d, LAST_ERROR, void)();
}

/* ---- binding ---- */

static bool bind_calls(const struct mdl_cuda_vendor *v, char *why, size_t why_bytes)
{
    struct mdl_cuda_state *s = v->state;

    for (int i = 0; i < MDL_CUDA_NUM_CALLS; i++) {
        void *library = calls[i].driver && v->drivers ? s->driver : s->runtime;
        s->fn[i] = mdl_bind_symbol(library, prefix_of(v, i), stem_of(v, i));
        if (s->fn[i] || !calls[i].needed) continue;
        snprintf(why, why_bytes, "the library has no %s%s", prefix_of(v, i), stem_of(v, i));
        return false;
    }
    return true;
}

static bool is_foreign(const struct mdl_cuda_vendor *v, char *why, size_t why_bytes)
{
    for (const char *const *name = v->foreign; name && *name; name++) {
        if (!mdl_bind_symbol(v->state->runtime, "", *name) && !mdl_bind_symbol(v->state->driver, "", *name)) continue;
        snprintf(why, why_bytes, "the library is another vendor's: it has %s", *name);
        return true;
    }
    return false;
}

static void set_types(const struct mdl_cuda_vendor *v)
{
    struct mdl_cuda_state *s = v->state;
    bool old = (v->quirks & MDL_CUDA_HIP_TYPES) && s->version < HIP_6;

    s->type_host = old ? 0 : 1;
    s->type_device = old ? 1 : 2;
    s->type_managed = 3;
}

static uint32_t find_caps(const struct mdl_device *d)
{
    const struct mdl_cuda_vendor *v = vendor_of(d);
    bool words = HAS(d, WRITE_WORD) && HAS(d, WAIT_WORD) && (!(v->quirks & MDL_CUDA_SIGNAL_WORDS) || HAS(d, WORD_ALLOC));
    bool events = HAS(d, EVENT_CREATE) && HAS(d, EVENT_DESTROY) && HAS(d, EVENT_RECORD) && HAS(d, EVENT_QUERY) &&
                  HAS(d, STREAM_WAIT_EVENT);
    bool ipc = HAS(d, IPC_GET) && HAS(d, IPC_OPEN) && HAS(d, IPC_CLOSE) && HAS(d, RANGE);

    return (HAS(d, POINTER) ? MDL_DEV_POINTERS : 0) | (HAS(d, PIN) && HAS(d, UNPIN) ? MDL_DEV_PIN : 0) |
           (events ? MDL_DEV_EVENTS : 0) | (words ? MDL_DEV_WORDS : 0) |
           (HAS(d, HOST_FUNC) || HAS(d, FUNC_CALLBACK) ? MDL_DEV_HOST_FUNC : 0) |
           (HAS(d, CAPTURING) ? MDL_DEV_CAPTURE : 0) | (ipc ? MDL_DEV_IPC : 0) |
           (HAS(d, DMABUF) && HAS(d, RANGE) ? MDL_DEV_DMABUF : 0);
}

static void unbind(struct mdl_cuda_state *s)
{
    mdl_bind_close(s->driver);
    mdl_bind_close(s->runtime);
    s->runtime = s->driver = NULL;
    memset(s->fn, 0, sizeof(s->fn));
    s->caps = 0;
}

/* A driver that is missing takes away what it has; the runtime's call for the number of devices tells whether it does
 * more harm. */
static medleyResult_t bind(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                           size_t why_bytes)
{
    const struct mdl_cuda_vendor *v = vendor_of(d);
    struct mdl_cuda_state *s = v->state;
    char runtime[64] = "", driver[64] = "", unused[512];
    int n = 0, rc;

    s->runtime = mdl_bind_open(where, v->runtimes, runtime, sizeof(runtime), why, why_bytes);
    if (!s->runtime) return medleyInvalidUsage;
    if (v->drivers) s->driver = mdl_bind_open(where, v->drivers, driver, sizeof(driver), unused, sizeof(unused));
    if (is_foreign(v, why, why_bytes) || !bind_calls(v, why, why_bytes)) return medleyInvalidUsage;
    if (HAS(d, VERSION)) (void)FN(d, VERSION, int *)(&s->version);
    set_types(v);
    rc = FN(d, COUNT, int *)(&n);
    forget_error(d);
    if (rc != 0 || n < 1) {
        const char *(*text)(int) = (const char *(*)(int))(uintptr_t)s->fn[MDL_CUDA_ERROR_TEXT];
        snprintf(why, why_bytes, "%s found no device: %sGetDeviceCount gave %d (%s)", runtime, v->prefix, rc,
                 text ? text(rc) : "no text");
        return medleyInvalidUsage;
    }
    s->caps = find_caps(d);
    snprintf(found, found_bytes, "%s%s%s version %d", runtime, driver[0] ? ", " : "", driver, s->version);
    return medleySuccess;
}

medleyResult_t mdl_cuda_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                              size_t why_bytes)
{
    const struct mdl_cuda_vendor *v = vendor_of(d);
    medleyResult_t res;

    if (!where && !mdl_bind_has_node(v->nodes, why, why_bytes)) return medleyInvalidUsage;
    pthread_mutex_lock(&v->state->lock);
    res = bind(d, where, found, found_bytes, why, why_bytes);
    if (res != medleySuccess) unbind(v->state);
    pthread_mutex_unlock(&v->state->lock);
    return res;
}

uint32_t mdl_cuda_caps(const struct mdl_device *d) { return state_of(d)->caps; }

/* ---- devices ---- */

medleyResult_t mdl_cuda_count(const struct mdl_device *d, int *count)
{
    int n = 0;

    MDL_TRY(CHECK(d, COUNT, FN(d, COUNT, int *)(&n)));
    *count = n;
    return medleySuccess;
}

medleyResult_t mdl_cuda_info(const struct mdl_device *d, int ordinal, struct mdl_device_info *info)
{
    *info = (struct mdl_device_info){0};
    if (HAS(d, NAME) && FN(d, NAME, char *, int, int)(info->name, sizeof(info->name), ordinal) != 0) info->name[0] = 0;
    if (HAS(d, PCI) && FN(d, PCI, char *, int, int)(info->pci, sizeof(info->pci), ordinal) != 0) {
        info->pci[0] = 0;
        forget_error(d);
    }
    return medleySuccess;
}

medleyResult_t mdl_cuda_enter(const struct mdl_device *d, int ordinal)
{
    return CHECK(d, SET_DEVICE, FN(d, SET_DEVICE, int)(ordinal));
}

medleyResult_t mdl_cuda_current(const struct mdl_device *d, int *ordinal)
{
    return CHECK(d, GET_DEVICE, FN(d, GET_DEVICE, int *)(ordinal));
}

/* ---- memory ---- */

medleyResult_t mdl_cuda_alloc(const struct mdl_device *d, size_t len, void **ptr)
{
    return CHECK(d, MALLOC, FN(d, MALLOC, void **, size_t)(ptr, len));
}

medleyResult_t mdl_cuda_free(const struct mdl_device *d, void *ptr) { return CHECK(d, FREE, FN(d, FREE, void *)(ptr)); }

medleyResult_t mdl_cuda_alloc_pinned(const struct mdl_device *d, size_t len, void **ptr)
{
    int rc = (vendor_of(d)->quirks & MDL_CUDA_HOST_ALLOC_PLAIN)
                 ? FN(d, HOST_ALLOC, void **, size_t)(ptr, len)
                 : FN(d, HOST_ALLOC, void **, size_t, unsigned)(ptr, len, PORTABLE | MAPPED);

    return CHECK(d, HOST_ALLOC, rc);
}

medleyResult_t mdl_cuda_free_pinned(const struct mdl_device *d, void *ptr)
{
    return CHECK(d, HOST_FREE, FN(d, HOST_FREE, void *)(ptr));
}

medleyResult_t mdl_cuda_pin(const struct mdl_device *d, void *ptr, size_t len)
{
    return CHECK(d, PIN, FN(d, PIN, void *, size_t, unsigned)(ptr, len, PORTABLE));
}

medleyResult_t mdl_cuda_unpin(const struct mdl_device *d, void *ptr)
{
    return CHECK(d, UNPIN, FN(d, UNPIN, void *)(ptr));
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
    forget_error(d);
}

/* What the vendor does not know is ordinary memory: CUDA says so with a type, HIP 5 with an error. */
medleyResult_t mdl_cuda_classify(const struct mdl_device *d, const void *ptr, struct mdl_pointer *p)
{
    const struct mdl_cuda_state *s = state_of(d);
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
        forget_error(d);
        return medleySuccess;
    }
    if (a.head.type != s->type_device && a.head.type != s->type_managed) return medleySuccess;
    p->kind = a.head.type == s->type_device ? MDL_POINTER_DEVICE : MDL_POINTER_SHARED;
    p->ordinal = a.head.device;
    find_range(d, ptr, p);
    return medleySuccess;
}

medleyResult_t mdl_cuda_copy(const struct mdl_device *d, void *dst, const void *src, size_t len, enum mdl_copy_kind kind,
                             mdl_dev_stream stream)
{
    static const int kinds[] = {[MDL_COPY_H2D] = 1, [MDL_COPY_D2H] = 2, [MDL_COPY_D2D] = 3};
    int rc = (vendor_of(d)->quirks & MDL_CUDA_STREAM_BEFORE_KIND)
                 ? FN(d, COPY, void *, const void *, size_t, void *, int)(dst, src, len, stream, kinds[kind])
                 : FN(d, COPY, void *, const void *, size_t, int, void *)(dst, src, len, kinds[kind], stream);

    return CHECK(d, COPY, rc);
}

/* ---- streams and events ---- */

medleyResult_t mdl_cuda_stream_create(const struct mdl_device *d, mdl_dev_stream *stream)
{
    return CHECK(d, STREAM_CREATE, FN(d, STREAM_CREATE, void **, unsigned)(stream, NON_BLOCKING));
}

medleyResult_t mdl_cuda_stream_destroy(const struct mdl_device *d, mdl_dev_stream stream)
{
    return CHECK(d, STREAM_DESTROY, FN(d, STREAM_DESTROY, void *)(stream));
}

medleyResult_t mdl_cuda_stream_sync(const struct mdl_device *d, mdl_dev_stream stream)
{
    return CHECK(d, STREAM_SYNC, FN(d, STREAM_SYNC, void *)(stream));
}

medleyResult_t mdl_cuda_stream_capturing(const struct mdl_device *d, mdl_dev_stream stream, bool *capturing)
{
    int status = 0;

    MDL_TRY(CHECK(d, CAPTURING, FN(d, CAPTURING, void *, int *)(stream, &status)));
    *capturing = status != 0;
    return medleySuccess;
}

medleyResult_t mdl_cuda_event_create(const struct mdl_device *d, mdl_dev_event *event)
{
    int rc = (vendor_of(d)->quirks & MDL_CUDA_EVENT_CREATE_PLAIN)
                 ? FN(d, EVENT_CREATE, void **)(event)
                 : FN(d, EVENT_CREATE, void **, unsigned)(event, NO_TIMING);

    return CHECK(d, EVENT_CREATE, rc);
}

medleyResult_t mdl_cuda_event_destroy(const struct mdl_device *d, mdl_dev_event event)
{
    return CHECK(d, EVENT_DESTROY, FN(d, EVENT_DESTROY, void *)(event));
}

medleyResult_t mdl_cuda_event_record(const struct mdl_device *d, mdl_dev_event event, mdl_dev_stream stream)
{
    return CHECK(d, EVENT_RECORD, FN(d, EVENT_RECORD, void *, void *)(event, stream));
}

medleyResult_t mdl_cuda_event_query(const struct mdl_device *d, mdl_dev_event event)
{
    int rc = FN(d, EVENT_QUERY, void *)(event);

    if (rc != vendor_of(d)->not_ready) return CHECK(d, EVENT_QUERY, rc);
    forget_error(d);
    return medleyInProgress;
}

medleyResult_t mdl_cuda_stream_wait_event(const struct mdl_device *d, mdl_dev_stream stream, mdl_dev_event event)
{
    int rc = (vendor_of(d)->quirks & MDL_CUDA_WAIT_EVENT_PLAIN)
                 ? FN(d, STREAM_WAIT_EVENT, void *, void *)(stream, event)
                 : FN(d, STREAM_WAIT_EVENT, void *, void *, unsigned)(stream, event, 0);

    return CHECK(d, STREAM_WAIT_EVENT, rc);
}

/* ---- words: a cache line each, or, where waiting streams need the vendor's signals, one of those each ---- */

static medleyResult_t alloc_signals(const struct mdl_device *d, int n, uint64_t **words)
{
    for (int i = 0; i < n; i++) {
        void *p = NULL;
        medleyResult_t res = CHECK(d, WORD_ALLOC, FN(d, WORD_ALLOC, void **, size_t, unsigned)(&p, 8, HIP_SIGNAL_MEMORY));
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

    if (vendor_of(d)->quirks & MDL_CUDA_SIGNAL_WORDS) return alloc_signals(d, n, words);
    MDL_TRY(mdl_cuda_alloc_pinned(d, (size_t)n * WORD_SPACE, &p));
    memset(p, 0, (size_t)n * WORD_SPACE);
    for (int i = 0; i < n; i++) words[i] = (uint64_t *)((char *)p + (size_t)i * WORD_SPACE);
    return medleySuccess;
}

medleyResult_t mdl_cuda_free_words(const struct mdl_device *d, int n, uint64_t **words)
{
    medleyResult_t res = medleySuccess;

    if (n == 0) return res;
    if (!(vendor_of(d)->quirks & MDL_CUDA_SIGNAL_WORDS)) return mdl_cuda_free_pinned(d, words[0]);
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
    int rc = (vendor_of(d)->quirks & MDL_CUDA_WAIT_MASK)
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

    if (HAS(d, HOST_FUNC)) return CHECK(d, HOST_FUNC, FN(d, HOST_FUNC, void *, void (*)(void *), void *)(stream, fn, arg));
    c = malloc(sizeof(*c));
    if (!c) return mdl_error(medleySystemError, "out of memory for a host function");
    *c = (struct callback){.fn = fn, .arg = arg};
    res = CHECK(d, FUNC_CALLBACK,
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

    MDL_TRY(mdl_cuda_classify(d, ptr, &p));
    if (p.kind != MDL_POINTER_DEVICE || !p.base) return medleyInvalidUsage;
    if (FN(d, IPC_GET, struct handle *, void *)(&h, p.base) != 0) {
        forget_error(d);
        return medleyInvalidUsage; /* of a pool, or of virtual memory management: it has no handle */
    }
    *ipc = (struct mdl_ipc){.len = sizeof(h), .offset = (uint64_t)((char *)ptr - (char *)p.base), .fd = -1};
    memcpy(ipc->bytes, &h, sizeof(h));
    return medleySuccess;
}

medleyResult_t mdl_cuda_ipc_import(const struct mdl_device *d, const struct mdl_ipc *ipc, void **import, void **ptr)
{
    const struct mdl_cuda_vendor *v = vendor_of(d);
    struct handle h;
    void *base = NULL;
    int rc;

    if (ipc->len != sizeof(h))
        return mdl_error(medleyRemoteError, "a memory handle of %s has %zu bytes, it should have %zu", d->vendor,
                         ipc->len, sizeof(h));
    memcpy(&h, ipc->bytes, sizeof(h));
    rc = (v->quirks & MDL_CUDA_IPC_OPEN_PLAIN) ? FN(d, IPC_OPEN, void **, struct handle)(&base, h)
                                               : FN(d, IPC_OPEN, void **, struct handle, unsigned)(&base, h, v->ipc_flag);
    MDL_TRY(CHECK(d, IPC_OPEN, rc));
    *import = base;
    *ptr = (char *)base + ipc->offset;
    return medleySuccess;
}

medleyResult_t mdl_cuda_ipc_close(const struct mdl_device *d, void *import)
{
    return CHECK(d, IPC_CLOSE, FN(d, IPC_CLOSE, void *)(import));
}

/* The driver takes whole pages only, so the descriptor may begin before ptr. */
medleyResult_t mdl_cuda_dmabuf_export(const struct mdl_device *d, void *ptr, size_t len, int *fd, uint64_t *offset)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at = (uint64_t)(uintptr_t)ptr, from = at / page * page;
    size_t bytes = (at + len + page - 1) / page * page - from;
    int made = -1;

    MDL_TRY(CHECK(d, DMABUF,
                  FN(d, DMABUF, void *, uint64_t, size_t, int, unsigned long long)(&made, from, bytes,
                                                                                  HANDLE_TYPE_DMABUF, 0)));
    *fd = made;
    *offset = at - from;
    return medleySuccess;
}
