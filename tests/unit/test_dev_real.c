/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapters against the vendors' real libraries: which calls they have, and what is said where there is no device. It
 * runs with what it finds of libcudart.so.13, .12 or .11.0: in the folder MDL_TEST_CUDART, where the loader looks, in
 * Python's packages; libamdhip64.so.7, .6 or .5: in the folder MDL_TEST_HIP, where the loader looks. On a machine with
 * such a device the device must be found. libnvrtc, looked for likewise (MDL_TEST_NVRTC), needs no device.
 */
#include "config.h"
#include "devices/cuda_family.h"
#include "lib/base/status.h"
#include "lib/dev/dev.h"
#include "lib/dev/kernels.h"
#include "tests/unit/unit.h"
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>

extern const struct mdl_device mdl_device_cuda, mdl_device_hip;

static char cuda_folder[PATH_MAX], nvrtc_folder[PATH_MAX], hip_folder[PATH_MAX], hip_file[64];

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

/* ---- finding them ---- */

static bool folder_has(const char *where, const char *const *names, char *folder)
{
    for (; *names; names++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/%s", where, *names);
        if (access(path, R_OK) != 0) continue;
        snprintf(folder, PATH_MAX, "%s", where);
        return true;
    }
    return false;
}

/* Where the loader finds the library that has the symbol. */
static bool loader_has(const char *const *names, const char *symbol, char *folder)
{
    for (; *names; names++) {
        void *library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
        Dl_info at;
        char *slash;
        if (!library) continue;
        if (dladdr(dlsym(library, symbol), &at)) snprintf(folder, PATH_MAX, "%s", at.dli_fname);
        slash = strrchr(folder, '/');
        if (slash) *slash = 0;
        dlclose(library);
        if (slash) return true;
    }
    return false;
}

static bool packages_have(const char *package, const char *const *names, char *folder)
{
    static const char *const places[] = {"/usr/lib/python3*/*-packages", "/usr/local/lib/python3*/*-packages",
                                         "/root/.local/lib/python3*/site-packages",
                                         "/opt/*/lib/python3*/site-packages"};
    bool found = false;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !found; i++) {
        char pattern[256];
        glob_t g;
        snprintf(pattern, sizeof(pattern), "%s/nvidia/%s/lib", places[i], package);
        if (glob(pattern, 0, NULL, &g) == 0)
            for (size_t k = 0; k < g.gl_pathc && !found; k++) found = folder_has(g.gl_pathv[k], names, folder);
        globfree(&g);
    }
    return found;
}

static const struct mdl_cuda_vendor *table_of(const struct mdl_device *d) { return d->self; }

static void find_libraries(void)
{
    const struct mdl_cuda_vendor *cuda = table_of(&mdl_device_cuda), *hip = table_of(&mdl_device_hip);
    const char *where = getenv("MDL_TEST_CUDART");
    if (!(where && folder_has(where, cuda->runtimes, cuda_folder)) &&
        !loader_has(cuda->runtimes, "cudaMalloc", cuda_folder))
        (void)packages_have("cuda_runtime", cuda->runtimes, cuda_folder);
    where = getenv("MDL_TEST_NVRTC");
    if (!(where && folder_has(where, cuda->rtc->libraries, nvrtc_folder)) &&
        !loader_has(cuda->rtc->libraries, "nvrtcCompileProgram", nvrtc_folder))
        (void)packages_have("cuda_nvrtc", cuda->rtc->libraries, nvrtc_folder);
    where = getenv("MDL_TEST_HIP");
    if (!(where && folder_has(where, hip->runtimes, hip_folder)))
        (void)loader_has(hip->runtimes, "hipMalloc", hip_folder);
}

/* ---- what they have ---- */

static void *open_in(const char *folder, const struct mdl_cuda_vendor *v)
{
    for (const char *const *name = v->runtimes; *name; name++) {
        char path[PATH_MAX + 64];
        void *library;
        snprintf(path, sizeof(path), "%s/%s", folder, *name);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) continue;
        snprintf(hip_file, sizeof(hip_file), "%s", *name);
        return library;
    }
    ck_abort_msg("no library in %s loads", folder);
    return NULL;
}

/* Under the names of the table, of which there may be several. */
static bool has_call(void *library, const struct mdl_cuda_vendor *v, int call)
{
    const char *prefix = calls[call].driver ? v->driver_prefix : v->prefix;
    bool renamed = false;
    char name[128];
    for (const struct mdl_cuda_rename *r = v->renames; r && r->call != MDL_CUDA_NUM_CALLS; r++) {
        if ((int)r->call != call) continue;
        renamed = true;
        if (!r->stem) return false;
        snprintf(name, sizeof(name), "%s%s", prefix, r->stem);
        if (dlsym(library, name)) return true;
    }
    if (renamed || !calls[call].stem) return false;
    snprintf(name, sizeof(name), "%s%s", prefix, calls[call].stem);
    return dlsym(library, name) != NULL;
}

static void has_all_but(const char *folder, const struct mdl_device *d, const int *absent, size_t nabsent)
{
    const struct mdl_cuda_vendor *v = table_of(d);
    void *library = open_in(folder, v);
    for (int i = 0; i < MDL_CUDA_NUM_CALLS; i++) {
        bool expected = !(calls[i].driver && v->drivers);
        for (size_t k = 0; k < nabsent; k++) expected &= absent[k] != i;
        if (calls[i].driver && v->drivers) continue; /* comes with the kernel's module */
        ck_assert_msg(has_call(library, v, i) == expected, "%s%s is %sthere", v->prefix,
                      calls[i].stem ? calls[i].stem : "(only renamed)", expected ? "not " : "");
    }
    dlclose(library);
}

/* Found if the machine has one; else the reason names the call and the vendor's code. */
static void probes(const struct mdl_device *d, const char *folder, const char *words)
{
    char found[256] = "", why[768] = "";
    int n = 0;
    if (d->probe(d, folder, found, sizeof(found), why, sizeof(why)) == medleySuccess) {
        ck_assert_int_eq(d->count(d, &n), medleySuccess);
        ck_assert_int_gt(n, 0);
        ck_assert_ptr_nonnull(strstr(found, "version "));
        ck_assert_uint_ne(d->caps(d) & MDL_DEV_POINTERS, 0);
        return;
    }
    ck_assert_msg(strstr(why, words) != NULL, "\"%s\" is not in: %s", words, why);
    ck_assert_uint_eq(d->caps(d), 0);
}

/* CUDA 12 and 13 have all of the runtime's; 11 has too, but for what came later. */
START_TEST(cudart_has_all_calls)
{
    static const int absent[] = {MDL_CUDA_FUNC_CALLBACK}; /* under its own name, which is not wanted */
    if (cuda_folder[0]) has_all_but(cuda_folder, &mdl_device_cuda, absent, 1);
}
END_TEST

START_TEST(cudart_without_a_device)
{
    if (cuda_folder[0]) probes(&mdl_device_cuda, cuda_folder, "found no device: cudaGetDeviceCount gave ");
}
END_TEST

/* A folder is trusted; without one, the machine must have NVIDIA's node. */
START_TEST(cuda_without_a_node)
{
    char found[256] = "", why[768] = "";
    if (access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0) return;
    ck_assert_int_ne(mdl_device_cuda.probe(&mdl_device_cuda, NULL, found, sizeof(found), why, sizeof(why)),
                     medleySuccess);
    ck_assert_ptr_nonnull(strstr(why, "no such device on this machine: none of /dev/nvidiactl"));
}
END_TEST

START_TEST(hip_5_lacks_what_came_later)
{
    static const int absent[] = {MDL_CUDA_BUFFER_ID, MDL_CUDA_HOST_FUNC, MDL_CUDA_EVENT_RECORD_FLAGS, MDL_CUDA_DMABUF};
    if (!hip_folder[0]) return;
    dlclose(open_in(hip_folder, table_of(&mdl_device_hip)));
    if (strcmp(hip_file, "libamdhip64.so.5") == 0)
        has_all_but(hip_folder, &mdl_device_hip, absent, sizeof(absent) / sizeof(absent[0]));
}
END_TEST

START_TEST(hip_without_a_device)
{
    if (hip_folder[0]) probes(&mdl_device_hip, hip_folder, "found no device: hipGetDeviceCount gave 100 (");
}
END_TEST

/* By the way that a user sees it. */
START_TEST(the_reason_reaches_the_user)
{
    struct mdl_config cfg;
    struct mdl_dev dev;
    char path[PATH_MAX + 8];
    if (!hip_folder[0]) return;
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    snprintf(path, sizeof(path), "hip=%s", hip_folder);
    ck_assert_int_eq(mdl_config_set(&cfg, "MEDLEY_DEVICE_PATH", path), medleySuccess);
    if (mdl_dev_find(&cfg, "hip:0", &dev) == medleySuccess) return;
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "device \"hip:0\" cannot be used: libamdhip64.so."));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "medley-info"));
}
END_TEST

/* ---- the run-time compiler ---- */

#define RTC(call, ...) ((int (*)(__VA_ARGS__))(uintptr_t)state->rtc_fn[MDL_RTC_##call])

static char *kernels_text(void)
{
    size_t bytes = 1;
    char *text;
    for (const char *const *part = mdl_dev_kernels_text; *part; part++) bytes += strlen(*part);
    text = calloc(1, bytes);
    ck_assert_ptr_nonnull(text);
    for (const char *const *part = mdl_dev_kernels_text; *part; part++) strcat(text, *part);
    return text;
}

/* The PTX of Medley's kernels, made with the adapter's options. */
static char *compile(const struct mdl_cuda_vendor *v)
{
    const struct mdl_cuda_state *state = v->state;
    char *text = kernels_text(), *code, log[4096] = "";
    void *program = NULL;
    size_t bytes = 0;
    int n = 0, rc;
    while (v->rtc->options[n]) n++;
    ck_assert_int_eq(RTC(CREATE, void **, const char *, const char *, int, const char *const *, const char *const *)(
                         &program, text, "medley", 0, NULL, NULL),
                     0);
    rc = RTC(COMPILE, void *, int, const char *const *)(program, n, v->rtc->options);
    if (rc != 0 && RTC(LOG_SIZE, void *, size_t *)(program, &bytes) == 0 && bytes <= sizeof(log))
        (void)RTC(LOG, void *, char *)(program, log);
    ck_assert_msg(rc == 0, "nvrtcCompileProgram gave %d: %s", rc, log);
    ck_assert_int_eq(RTC(CODE_SIZE, void *, size_t *)(program, &bytes), 0);
    code = calloc(1, bytes + 1);
    ck_assert_ptr_nonnull(code);
    ck_assert_int_eq(RTC(CODE, void *, char *)(program, code), 0);
    ck_assert_int_eq(RTC(DESTROY, void **)(&program), 0);
    free(text);
    return code;
}

/* All kernels are there, nothing is fused, and nothing flushes denormals. */
START_TEST(nvrtc_compiles_the_kernels)
{
    const struct mdl_cuda_vendor *v = table_of(&mdl_device_cuda);
    char *code;
    if (!nvrtc_folder[0]) return;
    ck_assert_msg(mdl_rtc_bind(v, nvrtc_folder), "libnvrtc of %s does not load or lacks a call", nvrtc_folder);
    code = compile(v);
    for (int t = 0; t < medleyNumTypes; t++) {
        char entry[64];
        snprintf(entry, sizeof(entry), ".entry mdl_fold_%d(", t);
        ck_assert_msg(strstr(code, entry) != NULL, "the code has no %s", entry);
    }
    ck_assert_ptr_null(strstr(code, "fma."));
    ck_assert_ptr_null(strstr(code, ".ftz"));
    free(code);
    mdl_rtc_unbind(v->state);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {cudart_has_all_calls,        cudart_without_a_device, cuda_without_a_node,
                                  hip_5_lacks_what_came_later, hip_without_a_device,    the_reason_reaches_the_user,
                                  nvrtc_compiles_the_kernels};
    find_libraries();
    printf("libcudart: %s\nlibamdhip64: %s\n", cuda_folder[0] ? cuda_folder : "none (set MDL_TEST_CUDART)",
           hip_folder[0] ? hip_folder : "none (Debian: libamdhip64-5)");
    printf("libnvrtc: %s\n",
           nvrtc_folder[0] ? nvrtc_folder : "not tried: none (nvidia-cuda-nvrtc-cu12, or set MDL_TEST_NVRTC)");
    if (!cuda_folder[0] && !hip_folder[0] && !nvrtc_folder[0]) {
        printf("SKIP: no vendor's real library is here\n");
        return 77;
    }
    return unit_run("dev_real", tests, sizeof(tests) / sizeof(tests[0]));
}
