/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of vendors that have CUDA's shape: the source goes through the vendor's run-time compiler (NVRTC, HIPRTC), a
 * library of its own with the same calls under another prefix, and its result is loaded as a module.
 *
 * The compiler comes with the toolkit and not with the driver: without it the vendor has no kernels, and nothing else
 * is lost. That of the runtime's own version is taken first, since a driver refuses what a newer compiler has made.
 */
#include "config.h"

#include "devices/bind.h"
#include "devices/cuda_call.h"
#include "lib/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LIBRARIES = 16, MOST_OPTIONS = 8, TEXT_BYTES = 512, LOG_BYTES = 300 };

static const char *const stems[] = {
#define CALL(id, stem) stem,
    MDL_RTC_CALLS(CALL)
#undef CALL
};

#define RTC(s, id, ...) ((int (*)(__VA_ARGS__))(uintptr_t)(s)->rtc_fn[MDL_RTC_##id])

/* ---- binding ---- */

/* Does the file name end in the version, as libnvrtc.so.12 and libnvrtc.so.11.2 do? */
static bool is_of(const char *name, int version)
{
    const char *number = strstr(name, ".so.");

    return number && atoi(number + 4) == version;
}

static void sort(const struct mdl_rtc_vendor *rtc, int version, const char **names)
{
    int n = 0;

    for (int pass = 0; pass < 2; pass++)
        for (const char *const *l = rtc->libraries; *l && n < MOST_LIBRARIES; l++)
            if (is_of(*l, version) == (pass == 0)) names[n++] = *l;
    names[n] = NULL;
}

static void *open_compiler(const struct mdl_cuda_vendor *v, const char *where)
{
    const char *names[MOST_LIBRARIES + 1];
    char path[64], why[TEXT_BYTES];
    void *library;

    sort(v->rtc, v->state->version / v->rtc->version_unit, names);
    library = mdl_bind_open(where, names, path, sizeof(path), why, sizeof(why));
    if (!library && where) library = mdl_bind_open(NULL, names, path, sizeof(path), why, sizeof(why));
    for (const char *const *folder = v->folders; !library && folder && *folder; folder++)
        library = mdl_bind_open(*folder, names, path, sizeof(path), why, sizeof(why));
    return library;
}

bool mdl_rtc_bind(const struct mdl_cuda_vendor *v, const char *where)
{
    struct mdl_cuda_state *s = v->state;
    bool whole = true;

    if (!v->rtc) return false;
    s->rtc = open_compiler(v, where);
    for (int i = 0; i < MDL_RTC_NUM_CALLS && whole; i++) {
        const char *stem = i == MDL_RTC_CODE ? v->rtc->code : i == MDL_RTC_CODE_SIZE ? v->rtc->code_size : stems[i];
        s->rtc_fn[i] = mdl_bind_symbol(s->rtc, v->rtc->prefix, stem);
        whole = s->rtc_fn[i] != NULL;
    }
    if (!whole) mdl_rtc_unbind(s);
    return whole;
}

void mdl_rtc_unbind(struct mdl_cuda_state *s)
{
    mdl_bind_close(s->rtc);
    s->rtc = NULL;
    memset(s->rtc_fn, 0, sizeof(s->rtc_fn));
}

/* ---- compiling ---- */

static medleyResult_t fail(const struct mdl_cuda_vendor *v, const char *stem, int rc)
{
    return mdl_error(medleyUnhandledDeviceError, "%s%s failed: %d", v->rtc->prefix, stem, rc);
}

/* What the compiler complains about; where the complaint cannot be had, its number must do. */
static medleyResult_t explain(const struct mdl_cuda_vendor *v, void *program, int rc)
{
    struct mdl_cuda_state *s = v->state;
    size_t bytes = 0;
    char *log = NULL;
    medleyResult_t res;

    if (RTC(s, LOG_SIZE, void *, size_t *)(program, &bytes) == 0) log = calloc(1, bytes + 1);
    if (log && RTC(s, LOG, void *, char *)(program, log) != 0) log[0] = 0;
    res = mdl_error(medleyUnhandledDeviceError, "%sCompileProgram failed: %d: %.*s", v->rtc->prefix, rc, LOG_BYTES,
                    log ? log : "");
    free(log);
    return res;
}

static medleyResult_t compile(const struct mdl_cuda_vendor *v, void *program, char **code)
{
    struct mdl_cuda_state *s = v->state;
    const char *const *options = v->rtc->options;
    size_t bytes = 0;
    int n = 0, rc;
    char *c;

    while (options[n]) n++;
    rc = RTC(s, COMPILE, void *, int, const char *const *)(program, n, options);
    if (rc != 0) return explain(v, program, rc);
    rc = RTC(s, CODE_SIZE, void *, size_t *)(program, &bytes);
    if (rc != 0) return fail(v, v->rtc->code_size, rc);
    c = calloc(1, bytes + 1);
    if (!c) return mdl_error(medleySystemError, "out of memory for kernels");
    rc = RTC(s, CODE, void *, char *)(program, c);
    if (rc != 0) {
        free(c);
        return fail(v, v->rtc->code, rc);
    }
    *code = c;
    return medleySuccess;
}

medleyResult_t mdl_cuda_module_load(const struct mdl_device *d, const char *source, void **module)
{
    const struct mdl_cuda_vendor *v = mdl_cuda_vendor_of(d);
    struct mdl_cuda_state *s = v->state;
    void *program = NULL;
    char *code = NULL;
    int mode = MDL_CUDA_CAPTURE_RELAXED;
    medleyResult_t res;
    int rc = RTC(s, CREATE, void **, const char *, const char *, int, const char *const *,
                 const char *const *)(&program, source, "medley", 0, NULL, NULL);

    if (rc != 0) return fail(v, "CreateProgram", rc);
    res = compile(v, program, &code);
    (void)RTC(s, DESTROY, void **)(&program);
    if (res != medleySuccess) return res;
    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, MODULE_LOAD, void **, const void *)(module, code);
    mdl_cuda_exchange_capture_mode(d, &mode);
    free(code);
    return CHECK(d, MODULE_LOAD, rc);
}

/* ---- modules and kernels ---- */

medleyResult_t mdl_cuda_module_unload(const struct mdl_device *d, void *module)
{
    int mode = MDL_CUDA_CAPTURE_RELAXED, rc;

    mdl_cuda_exchange_capture_mode(d, &mode);
    rc = FN(d, MODULE_UNLOAD, void *)(module);
    mdl_cuda_exchange_capture_mode(d, &mode);
    return CHECK(d, MODULE_UNLOAD, rc);
}

medleyResult_t mdl_cuda_kernel_find(const struct mdl_device *d, void *module, const char *name, void **kernel)
{
    return CHECK(d, MODULE_FUNCTION, FN(d, MODULE_FUNCTION, void **, void *, const char *)(kernel, module, name));
}

medleyResult_t mdl_cuda_kernel_launch(const struct mdl_device *d, void *kernel, const struct mdl_grid *grid,
                                      mdl_dev_stream stream)
{
    int rc =
        FN(d, LAUNCH, void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
           void **)(kernel, grid->blocks, 1, 1, grid->threads, 1, 1, 0, stream, (void **)(uintptr_t)grid->args, NULL);

    return CHECK(d, LAUNCH, rc);
}

medleyResult_t mdl_cuda_kernel_address(const struct mdl_device *d, void *pinned, void **address)
{
    return CHECK(d, HOST_POINTER, FN(d, HOST_POINTER, void **, void *, unsigned)(address, pinned, 0));
}
