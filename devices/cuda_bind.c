/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds and binds the library of a vendor that has CUDA's shape. Five vendors name theirs libcudart.so, and two share a
 * device node: so the machine is looked at first (nodes, signs, others), then the library's symbols, and at last the
 * PCI vendor of its first device. A folder that the user names is trusted: only its symbols are looked at.
 */
#include "config.h"

#include "devices/bind.h"
#include "devices/cuda_call.h"
#include "lib/base/status.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIP_6 = 60000000 }; /* from here on HIP counts kinds of memory as CUDA does */
enum { TEXT_BYTES = 512 };

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

/* ---- errors ---- */

static const char *prefix_of(const struct mdl_cuda_vendor *v, int call)
{
    return calls[call].driver ? v->driver_prefix : v->prefix;
}

static const char *text_of(const struct mdl_cuda_state *s, enum mdl_cuda_call call, int rc)
{
    const char *(*text)(int) = (const char *(*)(int))(uintptr_t)s->fn[call];

    return text ? text(rc) : NULL;
}

bool mdl_cuda_is_code(const struct mdl_device *d, int rc, int number, const char *name)
{
    const char *full;
    size_t n = strlen(name);

    if (rc == 0) return false;
    if (rc == number) return true;
    full = text_of(mdl_cuda_state_of(d), MDL_CUDA_ERROR_NAME, rc);
    return full && strlen(full) >= n && strcmp(full + strlen(full) - n, name) == 0;
}

medleyResult_t mdl_cuda_check(const struct mdl_device *d, enum mdl_cuda_call call, int rc)
{
    const struct mdl_cuda_vendor *v = mdl_cuda_vendor_of(d);
    const struct mdl_cuda_state *s = v->state;
    const char *words;
    bool full;

    if (rc == 0) return medleySuccess;
    words = text_of(s, MDL_CUDA_ERROR_TEXT, rc);
    full = mdl_cuda_is_code(d, rc, v->out_of_memory, "MemoryAllocation") ||
           mdl_cuda_is_code(d, rc, v->out_of_memory, "OutOfMemory");
    return mdl_error(full ? medleySystemError : medleyUnhandledDeviceError, "%s%s failed: %d (%s)", prefix_of(v, call),
                     s->stem[call] ? s->stem[call] : calls[call].stem, rc, words ? words : "no text");
}

/* ---- is it this vendor's machine ---- */

/* The first pattern that matches a file, or NULL. */
static const char *matching(const char *const *patterns)
{
    char why[TEXT_BYTES];

    for (; patterns && *patterns; patterns++) {
        const char *const one[] = {*patterns, NULL};
        if (mdl_bind_has_node(one, why, sizeof(why))) return *patterns;
    }
    return NULL;
}

static bool is_here(const struct mdl_device *d, const struct mdl_cuda_vendor *v, char *why, size_t why_bytes)
{
    const char *other;

    if (v->nodes && !mdl_bind_has_node(v->nodes, why, why_bytes)) return false;
    if (v->signs && !mdl_bind_has_node(v->signs, why, why_bytes)) return false;
    other = matching(v->others);
    if (other)
        snprintf(why, why_bytes, "another vendor's machine: it has %s (MEDLEY_DEVICE_PATH=%s=<folder> insists)", other,
                 d->vendor);
    return !other;
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

/* By the PCI vendor of the first device; what cannot be found out is believed. */
static bool is_strange(const struct mdl_device *d, const struct mdl_cuda_vendor *v, char *why, size_t why_bytes)
{
    char id[32] = "", path[96], line[32] = "";
    unsigned vendor;
    FILE *f;

    if (!v->pci_vendor || !HAS(d, PCI) || FN(d, PCI, char *, int, int)(id, sizeof(id), 0) != 0) return false;
    id[sizeof(id) - 1] = 0;
    for (char *p = id; *p; p++) *p = (char)tolower((unsigned char)*p);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", id);
    f = fopen(path, "re");
    if (!f) return false;
    if (!fgets(line, sizeof(line), f)) line[0] = 0;
    fclose(f);
    vendor = (unsigned)strtoul(line, NULL, 16);
    if (vendor == 0 || vendor == v->pci_vendor) return false;
    snprintf(why, why_bytes, "the library is another vendor's: its device %s is of PCI vendor %04x, not %04x", id,
             vendor, v->pci_vendor);
    return true;
}

/* ---- binding ---- */

/* The names that a call may have: its renames if there are any, else CUDA's. */
static void *find_call(const struct mdl_cuda_vendor *v, int call)
{
    struct mdl_cuda_state *s = v->state;
    void *library = calls[call].driver && v->drivers ? s->driver : s->runtime;
    bool renamed = false;

    for (const struct mdl_cuda_rename *r = v->renames; r && r->call != MDL_CUDA_NUM_CALLS; r++) {
        void *fn;
        if ((int)r->call != call) continue;
        renamed = true;
        s->stem[call] = r->stem;
        fn = mdl_bind_symbol(library, prefix_of(v, call), r->stem);
        if (fn) return fn;
    }
    if (renamed) return NULL;
    s->stem[call] = calls[call].stem;
    return mdl_bind_symbol(library, prefix_of(v, call), calls[call].stem);
}

static bool lacks(const struct mdl_cuda_vendor *v, enum mdl_cuda_call call, enum mdl_cuda_call or, char *why,
                  size_t why_bytes)
{
    const struct mdl_cuda_state *s = v->state;

    if (s->fn[call] || s->fn[or]) return false;
    snprintf(why, why_bytes, "the library has no %s%s", prefix_of(v, call),
             s->stem[call] ? s->stem[call] : calls[call].stem);
    return true;
}

static bool bind_calls(const struct mdl_cuda_vendor *v, char *why, size_t why_bytes)
{
    for (int i = 0; i < MDL_CUDA_NUM_CALLS; i++) v->state->fn[i] = find_call(v, i);
    for (int i = 0; i < MDL_CUDA_NUM_CALLS; i++)
        if (calls[i].needed && lacks(v, i, i, why, why_bytes)) return false;
    return !lacks(v, MDL_CUDA_HOST_ALLOC, MDL_CUDA_MALLOC_HOST, why, why_bytes) &&
           !lacks(v, MDL_CUDA_STREAM_CREATE, MDL_CUDA_STREAM_CREATE_PLAIN, why, why_bytes);
}

static void set_types(const struct mdl_cuda_vendor *v)
{
    struct mdl_cuda_state *s = v->state;
    bool old = (v->quirks & MDL_CUDA_HIP_TYPES) && s->version < HIP_6;

    s->type_device = old ? 1 : 2;
    s->type_managed = 3;
}

static bool has_kernels(const struct mdl_device *d, const char *where)
{
    return HAS(d, MODULE_LOAD) && HAS(d, MODULE_UNLOAD) && HAS(d, MODULE_FUNCTION) && HAS(d, LAUNCH) &&
           mdl_rtc_bind(mdl_cuda_vendor_of(d), where);
}

static bool launches_block(const struct mdl_cuda_vendor *v)
{
    for (const char *const *name = v->blocking; name && *name; name++) {
        const char *text = getenv(*name);
        if (text && *text && strcmp(text, "0") != 0) return true;
    }
    return false;
}

static uint32_t kernel_caps(const struct mdl_device *d, const char *where)
{
    if (!has_kernels(d, where)) return 0;
    return MDL_DEV_KERNELS |
           (HAS(d, HOST_POINTER) && !launches_block(mdl_cuda_vendor_of(d)) ? MDL_DEV_KERNEL_WORDS : 0);
}

static uint32_t find_caps(const struct mdl_device *d, const char *where)
{
    bool words = HAS(d, WRITE_WORD) && HAS(d, WAIT_WORD) && (!QUIRK(d, SIGNAL_WORDS) || HAS(d, WORD_ALLOC));
    bool events = (HAS(d, EVENT_CREATE) || HAS(d, EVENT_CREATE_PLAIN)) && HAS(d, EVENT_DESTROY) &&
                  (HAS(d, EVENT_RECORD) || HAS(d, EVENT_RECORD_FLAGS)) && HAS(d, EVENT_QUERY) &&
                  HAS(d, STREAM_WAIT_EVENT);
    bool pointers = HAS(d, POINTER), range = HAS(d, RANGE);
    bool ipc = pointers && range && HAS(d, IPC_GET) && HAS(d, IPC_OPEN) && HAS(d, IPC_CLOSE);

    return (pointers ? MDL_DEV_POINTERS : 0) | (HAS(d, PIN) && HAS(d, UNPIN) ? MDL_DEV_PIN : 0) |
           (events ? MDL_DEV_EVENTS : 0) | (words ? MDL_DEV_WORDS : 0) |
           (HAS(d, HOST_FUNC) || HAS(d, FUNC_CALLBACK) ? MDL_DEV_HOST_FUNC : 0) |
           (HAS(d, CAPTURING) ? MDL_DEV_CAPTURE : 0) | (ipc ? MDL_DEV_IPC : 0) |
           ((HAS(d, DMABUF) && range) || mdl_cuda_state_of(d)->export_fn ? MDL_DEV_DMABUF : 0) | kernel_caps(d, where);
}

static void unbind(struct mdl_cuda_state *s)
{
    mdl_rtc_unbind(s);
    mdl_bind_close(s->exporter);
    s->exporter = s->export_fn = NULL;
    mdl_bind_close(s->driver);
    mdl_bind_close(s->runtime);
    s->runtime = s->driver = NULL;
    s->bound = NULL;
    memset(s->fn, 0, sizeof(s->fn));
    memset(s->stem, 0, sizeof(s->stem));
    s->caps = 0;
    s->version = 0;
}

static void *open_in_folders(const struct mdl_cuda_vendor *v, const char *const *names, char *path, size_t path_bytes)
{
    char unused[TEXT_BYTES];

    for (const char *const *folder = v->folders; folder && *folder; folder++) {
        void *library = mdl_bind_open(*folder, names, path, path_bytes, unused, sizeof(unused));
        if (library) return library;
    }
    return NULL;
}

/* In folder `where`; else where the loader looks, and in the vendor's folders. */
static void *open_library(const struct mdl_cuda_vendor *v, const char *where, const char *const *names, char *path,
                          size_t path_bytes, char *why, size_t why_bytes)
{
    void *library = !where && v->folders_first ? open_in_folders(v, names, path, path_bytes) : NULL;

    if (!library) library = mdl_bind_open(where, names, path, path_bytes, why, why_bytes);
    if (!library && !where && !v->folders_first) library = open_in_folders(v, names, path, path_bytes);
    return library;
}

/* What comes with the kernel's module and not with the runtime need not be in the same folder. */
static void *open_beside(const struct mdl_cuda_vendor *v, const char *where, const char *const *names, char *path,
                         size_t path_bytes)
{
    char unused[TEXT_BYTES];
    void *library = open_library(v, where, names, path, path_bytes, unused, sizeof(unused));

    if (library || !where || (v->nodes && !matching(v->nodes))) return library;
    return open_library(v, NULL, names, path, path_bytes, unused, sizeof(unused));
}

static void find_exporter(const struct mdl_cuda_vendor *v, const char *where)
{
    struct mdl_cuda_state *s = v->state;
    char unused[TEXT_BYTES];

    if (!v->exporters || s->fn[MDL_CUDA_DMABUF]) return;
    s->exporter = open_beside(v, where, v->exporters, unused, sizeof(unused));
    if (s->exporter) s->export_fn = mdl_bind_symbol(s->exporter, "", "hsa_amd_portable_export_dmabuf");
}

static bool has_devices(const struct mdl_device *d, const char *library, char *why, size_t why_bytes)
{
    const struct mdl_cuda_vendor *v = mdl_cuda_vendor_of(d);
    const char *words;
    int n = 0, rc;

    if (v->quirks & MDL_CUDA_UNSIGNED_DEVICE) {
        uint32_t u = 0;
        rc = FN(d, COUNT, uint32_t *)(&u);
        n = (int)u;
    } else {
        rc = FN(d, COUNT, int *)(&n);
    }
    mdl_cuda_forget_error(d);
    if (rc == 0 && n > 0) return true;
    words = rc ? text_of(v->state, MDL_CUDA_ERROR_TEXT, rc) : "success, and 0 devices";
    snprintf(why, why_bytes, "%s found no device: %sGetDeviceCount gave %d (%s)", library, v->prefix, rc,
             words ? words : "no text");
    return false;
}

/* A driver that is missing takes away what it has; the runtime's call for the number of devices tells whether it does
 * more harm. */
static bool bind(const struct mdl_device *d, const struct mdl_cuda_vendor *v, const char *where, char *found,
                 size_t found_bytes, char *why, size_t why_bytes)
{
    struct mdl_cuda_state *s = v->state;
    char runtime[64] = "", driver[64] = "";

    s->runtime = open_library(v, where, v->runtimes, runtime, sizeof(runtime), why, why_bytes);
    if (!s->runtime) return false;
    if (v->drivers) s->driver = open_beside(v, where, v->drivers, driver, sizeof(driver));
    if (is_foreign(v, why, why_bytes) || !bind_calls(v, why, why_bytes)) return false;
    s->bound = v;
    if (HAS(d, VERSION)) (void)FN(d, VERSION, int *)(&s->version);
    set_types(v);
    if (!has_devices(d, runtime, why, why_bytes)) return false;
    if (!where && is_strange(d, v, why, why_bytes)) return false;
    find_exporter(v, where);
    s->caps = find_caps(d, where);
    snprintf(found, found_bytes, "%s%s%s version %d", runtime, driver[0] ? ", " : "", driver, s->version);
    return true;
}

medleyResult_t mdl_cuda_probe(const struct mdl_device *d, const char *where, char *found, size_t found_bytes, char *why,
                              size_t why_bytes)
{
    const struct mdl_cuda_vendor *first = d->self;
    struct mdl_cuda_state *s = first->state;
    bool bound = false;

    if (!where && !is_here(d, first, why, why_bytes)) return medleyInvalidUsage;
    pthread_mutex_lock(&s->lock);
    for (const struct mdl_cuda_vendor *v = first; v && !bound; v = v->older) {
        char older_why[TEXT_BYTES];
        bound =
            bind(d, v, where, found, found_bytes, v == first ? why : older_why, v == first ? why_bytes : TEXT_BYTES);
        if (!bound) unbind(s);
    }
    pthread_mutex_unlock(&s->lock);
    return bound ? medleySuccess : medleyInvalidUsage;
}

uint32_t mdl_cuda_caps(const struct mdl_device *d) { return mdl_cuda_state_of(d)->caps; }
