/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules and launches: see kernel.h. A kernel gets the engine's aliases for device addresses among its arguments; an
 * address that it finds in memory faults, and the handler opens that allocation to the whole process until the kernel
 * ends: the one moment in which the CPU's touch of it would not be seen.
 *
 * A device has room for EMUL_RESIDENT kernels at once. One that waits keeps its room, and with enough of them no other
 * kernel of the device begins.
 */
#include "config.h"
#include "tests/emul/kernel.h"
#include "tests/emul/state.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OPENED = 64, ARGUMENTS = 64, RESIDENT = 16 };

struct function {
    struct function *next;
    char name[128];
    void (*run)(void **, const unsigned *);
    int count;
    size_t sizes[ARGUMENTS];
};

struct module {
    struct module *next;
    int vendor;
    bool live;
    void *object;
    struct function *functions;
};
static struct module *modules;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local struct {
    bool running;
    unsigned count;
    struct {
        uintptr_t base;
        size_t size;
    } opened[OPENED];
} kernel;

static bool open_range(const struct emul_range *range)
{
    unsigned at = 0;
    while (at < kernel.count && kernel.opened[at].base != range->base) at++; /* there: another kernel's end closed it */
    if (at == OPENED) return false;
    kernel.opened[at].base = range->base;
    kernel.opened[at].size = range->mapped;
    if (at == kernel.count) kernel.count++;
    return mprotect((void *)range->base, range->mapped, PROT_READ | PROT_WRITE) == 0;
}

/* With the lock, which no kernel holds: other threads may change the table meanwhile. */
bool emul_kernel_open(uintptr_t address)
{
    if (!kernel.running) return false;
    pthread_mutex_lock(&emul.lock);
    const struct emul_range *range = emul_range_find(address);
    bool opened = range && !range->freed && range->alias != (char *)range->base && open_range(range);
    pthread_mutex_unlock(&emul.lock);
    return opened;
}

/* An image: a line with the size, then the object as hexadecimal digits. */
static bool write_object(const char *image, int fd)
{
    size_t size;
    int head = 0;
    if (sscanf(image, "// emulated device code, %zu bytes\n%n", &size, &head) != 1 || !head) return false;
    unsigned char *bytes = malloc(size);
    bool good = bytes != NULL;
    for (size_t i = 0; good && i < size; i++) {
        char pair[3] = {image[head + 2 * i], 0, 0};
        if (pair[0]) pair[1] = image[head + 2 * i + 1];
        char *end;
        bytes[i] = (unsigned char)strtoul(pair, &end, 16);
        good = end == pair + 2;
    }
    good = good && write(fd, bytes, size) == (ssize_t)size;
    free(bytes);
    return good;
}

enum emul_code emul_module_load(int vendor, const void *image, void **out)
{
    char path[] = "/tmp/emulated-module-XXXXXX";
    if (!image || !out) return EMUL_INVALID;
    int fd = mkstemp(path);
    if (fd < 0) return EMUL_NO_MEMORY;
    bool good = write_object(image, fd);
    close(fd);
    void *object = good ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    unlink(path);
    if (!object) return emul_misuse(EMUL_INVALID, "the image is no device code of the emulated compiler");
    struct module *module = calloc(1, sizeof(*module));
    if (!module) abort();
    module->vendor = vendor;
    module->live = true;
    module->object = object;
    /* Loading takes memory of the device, and waits for it. */
    pthread_mutex_lock(&emul.lock);
    emul_device_drain(emul_device_current(vendor));
    pthread_mutex_unlock(&emul.lock);
    pthread_mutex_lock(&lock);
    module->next = modules;
    modules = module;
    pthread_mutex_unlock(&lock);
    *out = module;
    return EMUL_OK;
}

static struct module *module_get(int vendor, void *handle)
{
    struct module *at = modules;
    while (at && at != handle) at = at->next;
    return at && at->live && at->vendor == vendor ? at : NULL;
}

/* The code stays mapped: launches of it may be pending in a graph. */
enum emul_code emul_module_unload(int vendor, void *handle)
{
    pthread_mutex_lock(&emul.lock);
    emul_device_drain(emul_device_current(vendor));
    pthread_mutex_unlock(&emul.lock);
    pthread_mutex_lock(&lock);
    struct module *module = module_get(vendor, handle);
    if (module) module->live = false;
    pthread_mutex_unlock(&lock);
    return module ? EMUL_OK : emul_misuse(EMUL_BAD_HANDLE, "%p is no module", handle);
}

static struct function *find(struct module *module, const char *name)
{
    char symbol[160];
    int (*sizes)(size_t *);
    for (struct function *at = module->functions; at; at = at->next)
        if (strcmp(at->name, name) == 0) return at;
    struct function *function = calloc(1, sizeof(*function));
    if (!function) abort();
    snprintf(function->name, sizeof(function->name), "%s", name);
    snprintf(symbol, sizeof(symbol), "emul_run_%s", name);
    *(void **)&function->run = dlsym(module->object, symbol);
    snprintf(symbol, sizeof(symbol), "emul_sizes_%s", name);
    *(void **)&sizes = dlsym(module->object, symbol);
    if (!function->run || !sizes) {
        free(function);
        return NULL;
    }
    function->count = sizes(function->sizes);
    function->next = module->functions;
    return module->functions = function;
}

enum emul_code emul_module_function(int vendor, void *handle, const char *name, void **out)
{
    if (!name || !out) return EMUL_INVALID;
    pthread_mutex_lock(&lock);
    struct module *module = module_get(vendor, handle);
    struct function *function = module ? find(module, name) : NULL;
    pthread_mutex_unlock(&lock);
    if (!module) return EMUL_BAD_HANDLE;
    if (!function) return EMUL_NOT_FOUND;
    *out = function;
    return EMUL_OK;
}

static bool is_function(int vendor, const void *handle)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (const struct module *module = modules; module && !found; module = module->next)
        for (const struct function *at = module->live && module->vendor == vendor ? module->functions : NULL; at;
             at = at->next)
            found |= at == handle;
    pthread_mutex_unlock(&lock);
    return found;
}

struct launch {
    const struct function *function;
    int vendor, device;
    unsigned dims[6];
    void *arguments[ARGUMENTS];
    char *bytes;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t less;
    unsigned most, here[EMUL_VENDORS][EMUL_DEVICES_MAX];
} resident = {.lock = PTHREAD_MUTEX_INITIALIZER, .less = PTHREAD_COND_INITIALIZER};

static void come(const struct launch *launch)
{
    unsigned *here = &resident.here[launch->vendor][launch->device];
    pthread_mutex_lock(&resident.lock);
    if (!resident.most) {
        const char *text = getenv("EMUL_RESIDENT");
        resident.most = text && atoi(text) > 0 ? (unsigned)atoi(text) : RESIDENT;
    }
    while (*here >= resident.most) pthread_cond_wait(&resident.less, &resident.lock);
    ++*here;
    pthread_mutex_unlock(&resident.lock);
}

static void go(const struct launch *launch)
{
    pthread_mutex_lock(&resident.lock);
    resident.here[launch->vendor][launch->device]--;
    pthread_cond_broadcast(&resident.less);
    pthread_mutex_unlock(&resident.lock);
}

/* ThreadSanitizer does not see what kernels do. So that it knows of the order that a kernel makes with the host through a
 * word of its memory, the word is touched before and after. */
static void touch_words(const struct launch *launch)
{
#if defined __SANITIZE_THREAD__
    for (int i = 0; i < launch->function->count; i++) {
        uintptr_t word;
        struct emul_info info;
        if (launch->function->sizes[i] != sizeof(word)) continue;
        memcpy(&word, launch->arguments[i], sizeof(word));
        emul_lookup(launch->vendor, (const void *)word, &info);
        if (info.memory == EMUL_HOST && word % sizeof(uint64_t) == 0)
            (void)__atomic_fetch_or((uint64_t *)word, 0, __ATOMIC_ACQ_REL);
    }
#else
    (void)launch;
#endif
}

static int run(void *data)
{
    struct launch *launch = data;
    come(launch);
    touch_words(launch);
    kernel.running = true;
    launch->function->run(launch->arguments, launch->dims);
    kernel.running = false;
    touch_words(launch);
    while (kernel.count) {
        kernel.count--;
        mprotect((void *)kernel.opened[kernel.count].base, kernel.opened[kernel.count].size, PROT_NONE);
    }
    go(launch);
    return 0;
}

static void drop(void *data)
{
    struct launch *launch = data;
    free(launch->bytes);
    free(launch);
}

/* Words that are device addresses become aliases. */
static void translate(char *bytes, size_t size)
{
    for (size_t i = 0; i + sizeof(void *) <= size; i += sizeof(void *)) {
        void *word;
        memcpy(&word, bytes + i, sizeof(word));
        char *alias = emul_translate(word);
        if (alias) memcpy(bytes + i, &alias, sizeof(alias));
    }
}

/* CUDA_LAUNCH_BLOCKING=1 and its likes: a launch returns when its kernel has ended. */
static bool is_blocking(int vendor)
{
    static const char *const names[EMUL_VENDORS] = {[EMUL_CUDA] = "CUDA_LAUNCH_BLOCKING",
                                                    [EMUL_HIP] = "HIP_LAUNCH_BLOCKING"};
    const char *text = names[vendor] ? getenv(names[vendor]) : NULL;
    const char *serial = vendor == EMUL_HIP ? getenv("AMD_SERIALIZE_KERNEL") : NULL;
    return (text && atoi(text)) || (serial && (atoi(serial) & 2)) || emul_fault(vendor, "blocking", NULL);
}

static enum emul_code submit(struct launch *launch, void *stream)
{
    int vendor = launch->vendor, status = 0;
    uint64_t id;
    enum emul_code code = emul_work(vendor, stream, run, drop, launch);
    if (code || !is_blocking(vendor)) return code;
    if (emul_capture_status(vendor, stream, &status, &id) == EMUL_OK && status) return EMUL_OK;
    return emul_stream_sync(vendor, stream);
}

enum emul_code emul_launch(int vendor, void *handle, const unsigned dims[6], void **arguments, void *stream)
{
    if (!is_function(vendor, handle))
        return emul_misuse(EMUL_BAD_HANDLE, "%p is no function of a loaded module", handle);
    const struct function *function = handle;
    for (int i = 0; i < 6; i++)
        if (dims[i] == 0 || (i > 2 && dims[i] > 1024) || (i > 0 && i < 3 && dims[i] > 65535)) return EMUL_INVALID;
    if (dims[3] * dims[4] * dims[5] > 1024) return EMUL_INVALID;
    if (function->count && !arguments)
        return emul_misuse(EMUL_INVALID, "%s takes %d arguments", function->name, function->count);
    struct launch *launch = calloc(1, sizeof(*launch));
    size_t room = 0;
    for (int i = 0; i < function->count; i++) room += (function->sizes[i] + 15) & ~(size_t)15;
    if (!launch || !(launch->bytes = aligned_alloc(16, room + 16))) abort();
    launch->function = function;
    launch->vendor = vendor;
    launch->device = emul_device_get(vendor);
    memcpy(launch->dims, dims, sizeof(launch->dims));
    char *at = launch->bytes;
    for (int i = 0; i < function->count; i++) {
        memcpy(at, arguments[i], function->sizes[i]);
        translate(at, function->sizes[i]);
        launch->arguments[i] = at;
        at += (function->sizes[i] + 15) & ~(size_t)15;
    }
    return submit(launch, stream);
}
