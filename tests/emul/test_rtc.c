/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated run-time compilers and launches as an independent user meets them. */
#include "config.h"
#include "tests/emul/runtimes.h"
#include <string.h>
#include <unistd.h>

static const struct compiler {
    const char *name, *object, *prefix, *code, *code_size, *runtime, *module_prefix, *launch;
} compilers[] = {
    {"nvrtc12", "cuda12/libnvrtc.so.12", "nvrtc", "GetPTX", "GetPTXSize", "cuda12", "cu", "LaunchKernel"},
    {"nvrtc13", "cuda13/libnvrtc.so.13", "nvrtc", "GetCUBIN", "GetCUBINSize", "cuda13", "cu", "LaunchKernel"},
    {"hiprtc5", "hip5/libhiprtc.so.5", "hiprtc", "GetCode", "GetCodeSize", "hip5", "hip", "ModuleLaunchKernel"},
    {"hiprtc6", "hip6/libhiprtc.so.6", "hiprtc", "GetCode", "GetCodeSize", "hip6", "hip", "ModuleLaunchKernel"},
};
static const struct compiler *compiler;

static struct {
    int (*CreateProgram)(void **, const char *, const char *, int, const char *const *, const char *const *);
    int (*CompileProgram)(void *, int, const char *const *), (*DestroyProgram)(void **);
    int (*GetProgramLogSize)(void *, size_t *), (*GetProgramLog)(void *, char *), (*size)(void *, size_t *),
        (*code)(void *, char *);
    int (*ModuleLoadData)(void **, const void *), (*ModuleUnload)(void *),
        (*ModuleGetFunction)(void **, void *, const char *);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                  void **);
} c;

static void *named(void *object, const char *prefix, const char *name)
{
    char whole[64];
    snprintf(whole, sizeof(whole), "%s%s", prefix, name);
    return frame_find(object, whole);
}

static void begin(void)
{
    for (size_t i = 0; i < runtime_count; i++)
        if (strcmp(runtimes[i].name, compiler->runtime) == 0) runtime_load(&runtimes[i]);
    void *object = frame_open(compiler->object), *modules = rt.driver ? rt.driver : rt.object;
#define LOAD(name) *(void **)&c.name = named(object, compiler->prefix, #name)
    LOAD(CreateProgram), LOAD(CompileProgram), LOAD(DestroyProgram), LOAD(GetProgramLogSize), LOAD(GetProgramLog);
#undef LOAD
    *(void **)&c.size = named(object, compiler->prefix, compiler->code_size);
    *(void **)&c.code = named(object, compiler->prefix, compiler->code);
    *(void **)&c.ModuleLoadData = named(modules, compiler->module_prefix, "ModuleLoadData");
    *(void **)&c.ModuleUnload = named(modules, compiler->module_prefix, "ModuleUnload");
    *(void **)&c.ModuleGetFunction = named(modules, compiler->module_prefix, "ModuleGetFunction");
    *(void **)&c.launch = named(modules, compiler->module_prefix, compiler->launch);
    CHECK_IS(rt.SetDevice(0), 0);
}

static const char *const source =
    "#define ADD(name, type) \\\n"
    "extern \"C\" __global__ void name(type *to, const type *a, const type *b, unsigned long long count) { \\\n"
    "  unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x; \\\n"
    "  for (; i < count; i += (unsigned long long)gridDim.x * blockDim.x) to[i] = a[i] + b[i]; }\n"
    "ADD(add_int, int)\n"
    "ADD(add_float, float)\n"
    "struct table { const int *from[4]; };\n"
    "extern \"C\" __global__ void gather(int *to, table by_value, const int *const *in_memory) {\n"
    "  to[threadIdx.x] = *by_value.from[threadIdx.x] + *in_memory[threadIdx.x]; }\n"
    "extern \"C\" __global__ void fuse(float *to, float a, float b, float c) { *to = a * b + c; }\n"
    "extern \"C\" __global__ void wait(volatile unsigned *word) { while (*word == 0) __nanosleep(100); }\n"
    "extern \"C\" __global__ void stay(volatile unsigned *words) {\n"
    "  words[1] = 1;\n"
    "  while (*words == 0) __nanosleep(100); }\n";

static char *compile(const char *text, int count, const char *const *options)
{
    void *program;
    size_t size = 0;
    CHECK_IS(c.CreateProgram(&program, text, "k.cu", 0, NULL, NULL), 0);
    int code = c.CompileProgram(program, count, options);
    if (code) {
        CHECK_IS(c.GetProgramLogSize(program, &size), 0);
        char *log = malloc(size);
        CHECK_IS(c.GetProgramLog(program, log), 0);
        fprintf(stderr, "%d: %s\n", code, log);
        CHECK_IS(code, 0);
    }
    CHECK_IS(c.size(program, &size), 0);
    char *image = malloc(size);
    CHECK_IS(c.code(program, image), 0);
    CHECK_IS(c.DestroyProgram(&program), 0);
    return image;
}

static void *module;
static void *function(const char *name)
{
    void *out;
    CHECK_IS(c.ModuleGetFunction(&out, module, name), 0);
    return out;
}

static void load(int count, const char *const *options)
{
    char *image = compile(source, count, options);
    CHECK_IS(c.ModuleLoadData(&module, image), 0);
    free(image);
}

static void adds(void)
{
    enum { COUNT = 1000 };
    int a[COUNT], b[COUNT], out[COUNT];
    begin();
    load(0, NULL);
    for (int i = 0; i < COUNT; i++) a[i] = i, b[i] = 1000 * i;
    int *da = device_alloc(sizeof(a)), *db = device_alloc(sizeof(a)), *to = device_alloc(sizeof(a));
    CHECK_IS(rt.Memcpy(da, a, sizeof(a), which->kinds[H2D]), 0);
    CHECK_IS(rt.Memcpy(db, b, sizeof(a), which->kinds[H2D]), 0);
    unsigned long long count = COUNT;
    void *stream = stream_new(true), *arguments[] = {&to, &da, &db, &count};
    CHECK_IS(c.launch(function("add_int"), 3, 1, 1, 64, 1, 1, 0, stream, arguments, NULL), 0);
    count = 0; /* taken at the launch */
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(rt.Memcpy(out, to, sizeof(a), which->kinds[D2H]), 0);
    for (int i = 0; i < COUNT; i++) CHECK_IS(out[i], 1001 * i);
    void *none;
    CHECK(c.ModuleGetFunction(&none, module, "nothing") != 0);
    CHECK(c.launch(function("add_int"), 0, 1, 1, 64, 1, 1, 0, stream, arguments, NULL) != 0);
    CHECK(c.launch(function("add_int"), 1, 1, 1, 2048, 1, 1, 0, stream, arguments, NULL) != 0);
    CHECK_IS(c.ModuleUnload(module), 0);
    CHECK_IS(rt.StreamDestroy(stream), 0);
    CHECK_IS(rt.Free(da), 0);
    CHECK_IS(rt.Free(db), 0);
    CHECK_IS(rt.Free(to), 0);
}

/* Addresses in a struct by value, and in device memory. */
static void tables(void)
{
    int values[4] = {1, 20, 300, 4000}, out[4];
    const int *addresses[4];
    begin();
    load(0, NULL);
    int *memory = device_alloc(sizeof(values)), *to = device_alloc(sizeof(values));
    const int **table = device_alloc(sizeof(addresses));
    for (int i = 0; i < 4; i++) addresses[i] = memory + i;
    CHECK_IS(rt.Memcpy(memory, values, sizeof(values), which->kinds[H2D]), 0);
    CHECK_IS(rt.Memcpy(table, addresses, sizeof(addresses), which->kinds[H2D]), 0);
    void *arguments[] = {&to, addresses, &table};
    CHECK_IS(c.launch(function("gather"), 1, 1, 1, 4, 1, 1, 0, NULL, arguments, NULL), 0);
    CHECK_IS(rt.Memcpy(out, to, sizeof(out), which->kinds[D2H]), 0);
    for (int i = 0; i < 4; i++) CHECK_IS(out[i], 2 * values[i]);
}

static void closed_again(void)
{
    tables();
    volatile char *memory = device_alloc(64);
    *memory = 1;
}

static float fused(int count, const char *const *options)
{
    float a = 1.0f + 0x1p-12f, b = 1.0f + 0x1p-12f, less = -(1.0f + 0x1p-11f), out;
    load(count, options);
    float *to = device_alloc(sizeof(float));
    void *arguments[] = {&to, &a, &b, &less};
    CHECK_IS(c.launch(function("fuse"), 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL), 0);
    CHECK_IS(rt.Memcpy(&out, to, sizeof(out), which->kinds[D2H]), 0);
    return out;
}

/* Contraction is on unless it is turned off, where this CPU has it. */
static void contraction(void)
{
    const char *off[] = {compiler->prefix[0] == 'n' ? "--fmad=false" : "-ffp-contract=off"};
    begin();
    CHECK(fused(1, off) == 0.0f);
#ifdef __x86_64__
    if (__builtin_cpu_supports("fma")) CHECK(fused(0, NULL) == 0x1p-24f);
#endif
}

/* A kernel that waits holds its stream. */
static void waits(void)
{
    begin();
    load(0, NULL);
    unsigned *word = host_alloc(sizeof(*word));
    *word = 0;
    void *stream = stream_new(true), *arguments[] = {&word};
    CHECK_IS(c.launch(function("wait"), 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL), 0);
    frame_nap(20);
    CHECK_IS(rt.StreamQuery(stream), 600);
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
}

/* Of kernels that wait a device has room for so many; copies go on beside them. */
static void resident(void)
{
    begin();
    load(0, NULL);
    struct {
        unsigned go, here;
    } *words = host_alloc(3 * sizeof(*words));
    unsigned *memory = device_alloc(sizeof(*memory)), *pinned = host_alloc(sizeof(*pinned));
    void *stream[3];
    for (int i = 0; i < 3; i++) words[i].go = i == 2, words[i].here = 0;
    for (int i = 0; i < 3; i++) stream[i] = stream_new(true);
    for (int i = 0; i < 3; i++) {
        void *word = &words[i], *arguments[] = {&word};
        CHECK_IS(c.launch(function("stay"), 1, 1, 1, 1, 1, 1, 0, stream[i], arguments, NULL), 0);
        while (i < 2 && !__atomic_load_n(&words[i].here, __ATOMIC_ACQUIRE)) frame_nap(1);
    }
    frame_nap(50);
    CHECK_IS(rt.StreamQuery(stream[2]), 600);
    CHECK_IS(__atomic_load_n(&words[2].here, __ATOMIC_ACQUIRE), 0);
    void *other = stream_new(true);
    *pinned = 7;
    CHECK_IS(copy_async(memory, pinned, sizeof(*pinned), H2D, other), 0);
    CHECK_IS(copy_async(pinned, memory, sizeof(*pinned), D2H, other), 0);
    CHECK_IS(rt.StreamSynchronize(other), 0);
    CHECK_IS(*pinned, 7);
    __atomic_store_n(&words[0].go, 1, __ATOMIC_RELEASE);
    CHECK_IS(rt.StreamSynchronize(stream[2]), 0);
    CHECK_IS(rt.StreamQuery(stream[1]), 600);
    __atomic_store_n(&words[1].go, 1, __ATOMIC_RELEASE);
    CHECK_IS(rt.StreamSynchronize(stream[1]), 0);
}

static void blocking(void)
{
    begin();
    load(0, NULL);
    unsigned *word = host_alloc(sizeof(*word));
    *word = 1;
    void *stream = stream_new(true), *arguments[] = {&word};
    CHECK_IS(c.launch(function("wait"), 1, 1, 1, 1, 1, 1, 0, stream, arguments, NULL), 0);
    CHECK_IS(rt.StreamQuery(stream), 0);
}

static void errors(void)
{
    void *program;
    size_t size;
    begin();
    CHECK_IS(c.CreateProgram(&program, "this is no kernel", "k.cu", 0, NULL, NULL), 0);
    CHECK_IS(c.CompileProgram(program, 0, NULL), 6);
    CHECK_IS(c.GetProgramLogSize(program, &size), 0);
    CHECK(size > 10);
    CHECK(c.size(program, &size) != 0);
    CHECK_IS(c.DestroyProgram(&program), 0);
    CHECK_IS(c.CreateProgram(&program, "#include <stdint.h>\n", "k.cu", 0, NULL, NULL), 0);
    CHECK_IS(c.CompileProgram(program, 0, NULL), 6); /* there are no headers */
    const char *options[] = {"-DX=1", "nonsense"};
    CHECK_IS(c.CompileProgram(program, 2, options), 5);
    CHECK_IS(c.DestroyProgram(&program), 0);
    CHECK(c.DestroyProgram(&program) != 0);
}

static void no_image(void)
{
    begin();
    c.ModuleLoadData(&module, "no image");
}

static const struct frame_case cases[] = {
    PASSES("adds", adds, "EMUL_LEAKS=2 EMUL_REQUIRE_ENTER=1 EMUL_DELAY_US=500"),
    PASSES("tables", tables, NULL),
    PASSES("contraction", contraction, NULL),
    PASSES("waits", waits, NULL),
    PASSES("resident", resident, "EMUL_RESIDENT=2"),
    PASSES("blocking", blocking, "EMUL_DELAY_US=100000 EMUL_SEED=3 CUDA_LAUNCH_BLOCKING=1 HIP_LAUNCH_BLOCKING=1"),
    PASSES("errors", errors, NULL),
    DIES("closed again", closed_again, NULL, "the CPU touched"),
    DIES("no image", no_image, NULL, "no device code"),
};

int main(int argc, char **argv)
{
    int failed = 0;
    if (system("c++ --version >/dev/null 2>&1") != 0) {
        printf("no C++ compiler is installed\n");
        return 77;
    }
    for (size_t i = 0; i < sizeof(compilers) / sizeof(compilers[0]); i++) {
        compiler = &compilers[i];
        if (argc > 1 && strcmp(argv[1], compiler->name) != 0) continue;
        /* A compiler takes its time: all cases on one of each kind. */
        failed += frame_run(compiler->name, cases, i % 2 == 0 ? sizeof(cases) / sizeof(cases[0]) : 1);
    }
    return failed != 0;
}
