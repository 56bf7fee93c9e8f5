/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated run-time compilers. The source is put between a prologue, which gives it the vendor's language, and an
 * epilogue with one entry per kernel; the system's C++ compiler makes a shared object of it, without any header of the
 * system, because the real ones have none. Products are contracted into fused ones unless the caller turns that off,
 * where this CPU can: bits that depend on it must differ here too.
 */
#include "config.h"
#include "tests/emul/kernel.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *const prologue =
    "#define __global__ EMUL_GLOBAL_\n"
    "#define __device__\n#define __host__\n#define __constant__ static\n#define __shared__ static thread_local\n"
    "#define __forceinline__ inline __attribute__((always_inline))\n#define __noinline__ __attribute__((noinline))\n"
    "#define __launch_bounds__(...)\n"
    "typedef __SIZE_TYPE__ size_t;\ntypedef __PTRDIFF_TYPE__ ptrdiff_t;\n"
    "struct uint3 { unsigned x, y, z; };\n"
    "struct dim3 { unsigned x, y, z; };\n"
    "struct uint2 { unsigned x, y; };\nstruct alignas(16) uint4 { unsigned x, y, z, w; };\n"
    "struct alignas(16) int4 { int x, y, z, w; };\nstruct alignas(16) float4 { float x, y, z, w; };\n"
    "struct alignas(16) ulonglong2 { unsigned long long x, y; };\nstruct alignas(16) double2 { double x, y; };\n"
    "static thread_local uint3 threadIdx, blockIdx;\nstatic thread_local dim3 blockDim, gridDim;\n"
    "enum { warpSize = 32 };\n"
    "template <class T, class F> static inline T emul_as(F from) { T to; __builtin_memcpy(&to, &from, sizeof(to)); "
    "return to; }\n"
    "static inline unsigned __float_as_uint(float v) { return emul_as<unsigned>(v); }\n"
    "static inline int __float_as_int(float v) { return emul_as<int>(v); }\n"
    "static inline float __uint_as_float(unsigned v) { return emul_as<float>(v); }\n"
    "static inline float __int_as_float(int v) { return emul_as<float>(v); }\n"
    "static inline long long __double_as_longlong(double v) { return emul_as<long long>(v); }\n"
    "static inline double __longlong_as_double(long long v) { return emul_as<double>(v); }\n"
    "static inline float __fadd_rn(float a, float b) { volatile float r = a + b; return r; }\n"
    "static inline float __fsub_rn(float a, float b) { volatile float r = a - b; return r; }\n"
    "static inline float __fmul_rn(float a, float b) { volatile float r = a * b; return r; }\n"
    "static inline float __fdiv_rn(float a, float b) { return a / b; }\n"
    "static inline double __dadd_rn(double a, double b) { volatile double r = a + b; return r; }\n"
    "static inline double __dsub_rn(double a, double b) { volatile double r = a - b; return r; }\n"
    "static inline double __dmul_rn(double a, double b) { volatile double r = a * b; return r; }\n"
    "static inline double __ddiv_rn(double a, double b) { return a / b; }\n"
    "static inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }\n"
    "static inline float fabsf(float a) { return __builtin_fabsf(a); }\n"
    "static inline double fabs(double a) { return __builtin_fabs(a); }\n"
    "static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }\n"
    "static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }\n"
    "static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }\n"
    "extern \"C\" int usleep(unsigned);\n" /* who waits leaves the processor to others, as a card does */
    "static inline void __nanosleep(unsigned) { usleep(20); }\n"
    "static inline void __builtin_amdgcn_s_sleep(int) { usleep(20); }\n"
    "extern \"C\" void abort(void) __attribute__((noreturn));\n"
    "static inline void __syncthreads() { if (blockDim.x * blockDim.y * blockDim.z > 1) abort(); }\n";

/* The fault "blind": what a kernel has read once it does not read again, as with a cache that the host's writes pass
 * by. Who waits in turns has them all within seconds. */
static const char *const blind =
    "extern \"C\" int usleep(unsigned) __attribute__((const));\n" /* nothing makes the compiler read again */
    "static inline void emul_blink() {\n"
    "  static thread_local unsigned turn;\n"
    "  if (++turn % 1024 == 0) { int r = usleep(200 + (turn >> 10 & 7)); asm volatile(\"\" : : \"r\"(r)); }\n"
    "}\n"
    "#define __nanosleep(n) emul_blink()\n"
    "#define __builtin_amdgcn_s_sleep(n) emul_blink()\n"
    "#define volatile\n";

static const char *const epilogue =
    "\nnamespace emul_ {\n"
    "template <int... I> struct list {};\n"
    "template <int N, int... I> struct make : make<N - 1, N - 1, I...> {};\n"
    "template <int... I> struct make<0, I...> { typedef list<I...> type; };\n"
    "template <class... A, int... I> void call(void (*f)(A...), void **p, list<I...>) { (void)p; f(*(A *)p[I]...); }\n"
    "template <class... A> void run(void (*f)(A...), void **p, const unsigned *d) {\n"
    "  gridDim = {d[0], d[1], d[2]}; blockDim = {d[3], d[4], d[5]};\n"
    "  for (unsigned i = 0; i < d[2]; i++) for (unsigned j = 0; j < d[1]; j++) for (unsigned k = 0; k < d[0]; k++)\n"
    "  for (unsigned x = 0; x < d[5]; x++) for (unsigned y = 0; y < d[4]; y++) for (unsigned z = 0; z < d[3]; z++) {\n"
    "    blockIdx = {k, j, i}; threadIdx = {z, y, x}; call(f, p, typename make<sizeof...(A)>::type()); } }\n"
    "template <class... A> int sizes(void (*)(A...), size_t *out) {\n"
    "  size_t all[] = {sizeof(A)..., 0}; for (size_t i = 0; i < sizeof...(A); i++) out[i] = all[i]; return "
    "sizeof...(A); }\n"
    "}\n";

static bool save(const char *folder, const char *name, const char *const *parts)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file) return false;
    for (; *parts; parts++) fputs(*parts, file);
    return fclose(file) == 0;
}

static char *slurp(const char *folder, const char *name, size_t *size)
{
    char path[512];
    struct stat stat;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    char *text = fstat(fd, &stat) == 0 ? calloc(1, (size_t)stat.st_size + 1) : NULL;
    ssize_t got = text ? read(fd, text, (size_t)stat.st_size) : -1;
    close(fd);
    *size = got > 0 ? (size_t)got : 0;
    return text;
}

/* Runs a compiler in `folder` with its words into log. */
static bool compiler(const char *folder, const char *const *arguments)
{
    char log[256];
    posix_spawn_file_actions_t files;
    pid_t pid;
    int status = -1;
    snprintf(log, sizeof(log), "%s/log", folder);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    int code = posix_spawnp(&pid, arguments[0], &files, NULL, (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    if (code == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return code == 0 && status == 0;
}

/* Entries for all kernels of the preprocessed text: what follows the mark, void, up to the parenthesis. */
static char *entries(const char *text)
{
    enum { ENTRY = 768 };
    char name[128];
    size_t marks = 0;
    for (const char *at = strstr(text, "EMUL_GLOBAL_"); at; at = strstr(at + 1, "EMUL_GLOBAL_")) marks++;
    char *out = calloc(marks + 1, ENTRY);
    for (const char *at = strstr(text, "EMUL_GLOBAL_"); at && out; at = strstr(at + 1, "EMUL_GLOBAL_")) {
        char entry[ENTRY];
        if (sscanf(at, "EMUL_GLOBAL_ void %127[A-Za-z0-9_] (", name) != 1) continue;
        snprintf(entry, sizeof(entry),
                 "extern \"C\" void emul_run_%s(void **p, const unsigned *d) { emul_::run(%s, p, d); }\n"
                 "extern \"C\" int emul_sizes_%s(size_t *out) { return emul_::sizes(%s, out); }\n",
                 name, name, name, name);
        if (!strstr(out, entry)) strcat(out, entry);
    }
    return out;
}

static char *encode(const char *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char *out = malloc(2 * size + 64);
    if (!out) return NULL;
    size_t at = (size_t)sprintf(out, "// emulated device code, %zu bytes\n", size);
    for (size_t i = 0; i < size; i++) {
        out[at++] = digits[(unsigned char)bytes[i] >> 4];
        out[at++] = digits[bytes[i] & 15];
    }
    out[at] = '\0';
    return out;
}

static bool contracts(int count, const char *const *options)
{
    for (int i = 0; i < count; i++)
        if (strstr(options[i], "fmad=false") || strstr(options[i], "fp-contract=off")) return false;
    return true;
}

static bool has_fma(void)
{
#if defined __x86_64__
    return __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

enum { WORDS = 64 };

static bool build(const char *folder, int count, const char *const *options)
{
    char in[256], middle[256], out[256];
    const char *cxx = getenv("EMUL_CXX");
    snprintf(in, sizeof(in), "%s/in.cc", folder);
    snprintf(middle, sizeof(middle), "%s/middle.cc", folder);
    snprintf(out, sizeof(out), "%s/out.so", folder);
    const char *words[WORDS] = {cxx ? cxx : "c++", "-x", "c++", "-std=c++17", "-nostdinc", "-w"};
    int at = 6;
    for (int i = 0; i < count && at < WORDS - 20; i++)
        if (strncmp(options[i], "-D", 2) == 0 || strncmp(options[i], "-U", 2) == 0) words[at++] = options[i];
    int common = at;
    words[at++] = "-E";
    words[at++] = "-o";
    words[at++] = middle;
    words[at++] = in;
    words[at] = NULL;
    if (!compiler(folder, words)) return false;
    size_t size;
    char *text = slurp(folder, "middle.cc", &size), *tail = text ? entries(text) : NULL;
    const char *parts[] = {text ? text : "", epilogue, tail ? tail : "", NULL};
    bool good = text && tail && save(folder, "middle.cc", parts);
    free(text);
    free(tail);
    at = common;
    words[at++] = "-DEMUL_GLOBAL_=";
    words[at++] = "-O2";
    words[at++] = "-fPIC";
    words[at++] = "-shared";
    words[at++] = "-s";
    words[at++] = "-Wl,-Bsymbolic"; /* a kernel may be named like a function of libc */
    words[at++] = contracts(count, options) ? "-ffp-contract=fast" : "-ffp-contract=off";
    if (contracts(count, options) && has_fma()) words[at++] = "-mfma";
    words[at++] = "-o";
    words[at++] = out;
    words[at++] = middle;
    words[at] = NULL;
    return good && compiler(folder, words);
}

/* What was compiled before, in the folder EMUL_CACHE: a file for each vendor, source and options. */
static bool cached(const char *folder, int vendor, const char *source, int count, const char *const *options,
                   char name[64])
{
    uint64_t hash = 14695981039346656037u;
    if (!folder || !*folder) return false;
    for (int i = emul_fault(vendor, "blind", NULL) ? -3 : -2; i < count; i++)
        for (const char *at = i == -3 ? blind : i == -2 ? prologue : i < 0 ? source : options[i]; *at; at++)
            hash = (hash ^ (unsigned char)*at) * 1099511628211u + (uint64_t)(i + 2);
    snprintf(name, 64, "%d-%zu-%016llx", vendor, strlen(source), (unsigned long long)hash);
    return true;
}

/* Whole or not at all: others may be compiling the same. */
static void keep(const char *folder, const char *name, const char *image)
{
    static _Atomic unsigned turn; /* of this process, whose threads may compile the same */
    char draft[112], from[512], to[512];
    const char *parts[] = {image, NULL};
    snprintf(draft, sizeof(draft), "%s.%d.%u", name, (int)getpid(),
             atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed));
    snprintf(from, sizeof(from), "%s/%s", folder, draft);
    snprintf(to, sizeof(to), "%s/%s", folder, name);
    if (!save(folder, draft, parts) || rename(from, to) != 0) unlink(from);
}

static int compile(int vendor, const char *source, int count, const char *const *options, char **image, char **log)
{
    char folder[] = "/tmp/emulated-compiler-XXXXXX", path[256];
    size_t size = 0;
    if (!mkdtemp(folder)) return 1;
    const char *cuda = "#define __CUDACC__ 1\n#define __CUDACC_RTC__ 1\n#define __CUDA_ARCH__ 900\n";
    const char *hip = "#define __HIPCC__ 1\n#define __HIPCC_RTC__ 1\n#define __HIP_DEVICE_COMPILE__ 1\n";
    const char *sight = emul_fault(vendor, "blind", NULL) ? blind : "";
    const char *parts[] = {vendor == EMUL_CUDA ? cuda : hip, prologue, sight, "#line 1 \"kernel\"\n", source, NULL};
    bool good = save(folder, "in.cc", parts) && build(folder, count, options);
    char *object = good ? slurp(folder, "out.so", &size) : NULL;
    *image = object && size ? encode(object, size) : NULL;
    free(object);
    *log = slurp(folder, "log", &size);
    static const char *const names[] = {"in.cc", "middle.cc", "out.so", "log"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    return *image ? 0 : 1;
}

int emul_compile(int vendor, const char *source, int count, const char *const *options, char **image, char **log)
{
    const char *folder = getenv("EMUL_CACHE");
    char name[64];
    size_t size;
    bool cache = cached(folder, vendor, source, count, options, name);
    *log = NULL;
    *image = cache ? slurp(folder, name, &size) : NULL;
    if (*image) return 0;
    int code = compile(vendor, source, count, options, image, log);
    if (code == 0 && cache) keep(folder, name, *image);
    return code;
}
