/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's core: settings, the gate that every vendor call passes, misuse, injected faults and devices. Nothing
 * runs before the first vendor call, so that a process may load the objects and fork; after it a child gets errors.
 */
#include "config.h"
#include "tests/emul/state.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct emul_state emul = {.lock = PTHREAD_MUTEX_INITIALIZER, .progress = PTHREAD_COND_INITIALIZER};
_Thread_local struct emul_thread emul_me;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *const names[EMUL_VENDORS] = {
    [EMUL_CUDA] = "cuda", [EMUL_HIP] = "hip",           [EMUL_DTK] = "dtk",   [EMUL_MUSA] = "musa",
    [EMUL_MACA] = "maca", [EMUL_TOPS] = "tops",         [EMUL_SUPA] = "supa", [EMUL_TX] = "tx",
    [EMUL_TANG] = "tang", [EMUL_SDAA] = "sdaa",         [EMUL_ACL] = "acl",   [EMUL_CNRT] = "cnrt",
    [EMUL_ZE] = "ze",     [EMUL_ILUVATAR] = "iluvatar", [EMUL_PPU] = "ppu",   [EMUL_KUNLUN] = "kunlun",
};

const char *emul_vendor_name(int vendor) { return vendor >= 0 && vendor < EMUL_VENDORS ? names[vendor] : "?"; }

uint64_t emul_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t emul_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static unsigned long number(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

/* EMUL_DEVICES: a number for all vendors, or "cuda=2,hip=0,...": those not named have one. */
static int count_of(int vendor)
{
    const char *text = getenv("EMUL_DEVICES");
    if (!text || !*text) return 1;
    size_t len = strlen(names[vendor]);
    for (const char *at = text; *at; at += strcspn(at, ","), at += *at == ',')
        if (strncmp(at, names[vendor], len) == 0 && at[len] == '=') return atoi(at + len + 1);
    return strchr(text, '=') ? 1 : atoi(text);
}

static void start(void)
{
    const char *strict = getenv("EMUL_STRICT");
    emul.strict = !strict || strcmp(strict, "0") != 0;
    emul.require_enter = number("EMUL_REQUIRE_ENTER", 0) != 0;
    emul.trace = number("EMUL_TRACE", 0) != 0;
    emul.leaks = (int)number("EMUL_LEAKS", 0);
    emul.queues = (unsigned)number("EMUL_QUEUES", 32);
    if (emul.queues < 1) emul.queues = 1;
    if (emul.queues > EMUL_QUEUES_MAX) emul.queues = EMUL_QUEUES_MAX;
    emul.delay_us = (unsigned)number("EMUL_DELAY_US", 0);
    emul.stuck_s = (unsigned)number("EMUL_STUCK_S", 10);
    emul.depth = (unsigned)number("EMUL_DEPTH", 0);
    emul.seed = number("EMUL_SEED", 1);
    emul.memory = number("EMUL_MEMORY", 4ul << 30);
    emul.arena = number("EMUL_ARENA", 16ul << 30);
    for (int i = 0; i < EMUL_VENDORS; i++) {
        int count = count_of(i);
        emul.counts[i] = count > EMUL_DEVICES_MAX ? EMUL_DEVICES_MAX : count;
    }
    atomic_store_explicit(&emul.pid, getpid(), memory_order_release);
    if (number("EMUL_SEGV", 1)) emul_catch_faults();
    if (emul.leaks) atexit(emul_leaks);
}

enum emul_code emul_misuse(enum emul_code soft, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "emul: MISUSE in %s (%s, process %d, thread %ld): %s\n",
            emul_me.call ? emul_me.call : "no call", emul_vendor_name(emul_me.vendor), getpid(),
            (long)syscall(SYS_gettid), what);
    if (emul.strict) abort();
    return soft;
}

/* EMUL_FAULT: items name[@number], with an optional "vendor:" before the name, set apart by commas. */
bool emul_fault(int vendor, const char *name, unsigned *at)
{
    const char *text = getenv("EMUL_FAULT");
    size_t len = strlen(name);
    for (; text && *text; text += strcspn(text, ","), text += *text == ',') {
        const char *item = text;
        size_t head = strcspn(item, ":,");
        if (item[head] == ':') {
            if (head != strlen(names[vendor]) || strncmp(item, names[vendor], head) != 0) continue;
            item += head + 1;
        }
        if (strncmp(item, name, len) != 0 || (item[len] && !strchr(",@", item[len]))) continue;
        if (at) *at = item[len] == '@' ? (unsigned)strtoul(item + len + 1, NULL, 10) : 0;
        return true;
    }
    return false;
}

static enum emul_code enter_device(int vendor, unsigned needs)
{
    if (emul_me.device[vendor]) return EMUL_OK;
    if (needs & EMUL_NEED_CONTEXT) {
        if (emul.require_enter) return emul_misuse(EMUL_NO_CONTEXT, "this thread entered no device");
        return EMUL_NO_CONTEXT;
    }
    if (!(needs & EMUL_NEED_DEVICE)) return EMUL_OK;
    if (emul.require_enter) return emul_misuse(EMUL_BAD_DEVICE, "this thread entered no device");
    emul_me.device[vendor] = 1; /* runtimes take device 0 */
    return EMUL_OK;
}

enum emul_code emul_enter(int vendor, const char *call, unsigned needs)
{
    emul_me.call = call;
    emul_me.vendor = vendor;
    pthread_once(&once, start);
    if (emul.trace) dprintf(STDERR_FILENO, "emul: %d %ld %s\n", getpid(), (long)syscall(SYS_gettid), call);
    if (needs & EMUL_ANYWHERE) return EMUL_OK;
    if (emul_me.in_host) return emul_misuse(EMUL_NOT_PERMITTED, "vendor call inside a host function");
    if (atomic_load_explicit(&emul.pid, memory_order_acquire) != getpid()) return EMUL_FORKED;
    if (emul.counts[vendor] < 0) return EMUL_NO_DRIVER;
    if (emul.counts[vendor] == 0) return EMUL_NO_DEVICE;
    enum emul_code code = enter_device(vendor, needs);
    if (code) return code;
    pthread_mutex_lock(&emul.lock);
    if ((needs & EMUL_UNSAFE) && emul_capture_forbids(vendor))
        code = EMUL_CAPTURE_UNSAFE;
    else if (!(needs & EMUL_CLEANUP))
        code = emul_sticky(vendor, emul_device_get(vendor));
    pthread_mutex_unlock(&emul.lock);
    return code;
}

void emul_error_set(int vendor, int value) { emul_me.error[vendor] = value; }

int emul_error_get(int vendor, bool clear)
{
    int value = emul_me.error[vendor];
    if (clear) emul_me.error[vendor] = 0;
    return value;
}

/* With or without the lock: pairs with the release in emul_device_at. */
enum emul_code emul_sticky(int vendor, int device)
{
    struct emul_device *at = __atomic_load_n(&emul.devices[vendor][device], __ATOMIC_ACQUIRE);
    return at && atomic_load_explicit(&at->failed, memory_order_relaxed) ? EMUL_ASYNC : EMUL_OK;
}

bool emul_device_failed(int vendor, int device) { return emul_sticky(vendor, device) != EMUL_OK; }

int emul_device_count(int vendor)
{
    pthread_once(&once, start);
    return emul.counts[vendor];
}

enum emul_code emul_device_set(int vendor, int device)
{
    if (device < 0 || device >= emul.counts[vendor]) return EMUL_BAD_DEVICE;
    emul_me.device[vendor] = device + 1;
    if (emul.trace) dprintf(STDERR_FILENO, "emul: %d %ld device %d\n", getpid(), (long)syscall(SYS_gettid), device);
    return EMUL_OK;
}

int emul_device_get(int vendor) { return emul_me.device[vendor] ? emul_me.device[vendor] - 1 : 0; }
int emul_device_entered(int vendor) { return emul_me.device[vendor] - 1; }

struct emul_device *emul_device_at(int vendor, int number)
{
    struct emul_device **slot = &emul.devices[vendor][number];
    if (*slot) return *slot;
    struct emul_device *device = calloc(1, sizeof(*device));
    if (!device) abort();
    device->vendor = vendor;
    device->number = number;
    device->arena_fd = -1;
    for (unsigned i = 0; i < EMUL_QUEUES_MAX; i++) {
        device->queues[i].device = device;
        pthread_cond_init(&device->queues[i].more, NULL);
    }
    __atomic_store_n(slot, device, __ATOMIC_RELEASE);
    return device;
}

struct emul_device *emul_device_current(int vendor) { return emul_device_at(vendor, emul_device_get(vendor)); }

static enum emul_code check_device(int vendor, int device)
{
    return device >= 0 && device < emul.counts[vendor] ? EMUL_OK : EMUL_BAD_DEVICE;
}

enum emul_code emul_device_name(int vendor, int device, char *name, size_t size)
{
    if (check_device(vendor, device)) return EMUL_BAD_DEVICE;
    if (!name || !size) return EMUL_INVALID;
    snprintf(name, size, "Emulated %s device", names[vendor]);
    return EMUL_OK;
}

/* One bus per device, the same in every process of this machine, above the buses of most real ones. */
enum emul_code emul_device_pci(int vendor, int device, char *id, size_t size)
{
    if (check_device(vendor, device)) return EMUL_BAD_DEVICE;
    if (!id || size < 13) return EMUL_INVALID;
    snprintf(id, size, "%04x:%02x:00.0", 0xe000u + (unsigned)vendor, 0x10u + (unsigned)device);
    return EMUL_OK;
}

int emul_device_by_pci(int vendor, const char *id)
{
    char mine[16];
    for (int i = 0; id && i < emul.counts[vendor]; i++)
        if (emul_device_pci(vendor, i, mine, sizeof(mine)) == EMUL_OK && strcasecmp(mine, id) == 0) return i;
    return -1;
}

enum emul_code emul_device_uuid(int vendor, int device, unsigned char uuid[16])
{
    if (check_device(vendor, device)) return EMUL_BAD_DEVICE;
    memcpy(uuid, "emulated\0\0\0\0\0\0\0", 16);
    uuid[14] = (unsigned char)vendor;
    uuid[15] = (unsigned char)device;
    return EMUL_OK;
}

enum emul_code emul_device_sync(int vendor)
{
    pthread_mutex_lock(&emul.lock);
    emul_device_drain(emul_device_current(vendor));
    enum emul_code code = emul_sticky(vendor, emul_device_get(vendor));
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_device_memory(int vendor, size_t *free_bytes, size_t *total)
{
    if (!free_bytes || !total) return EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    *total = emul.memory;
    *free_bytes = emul.memory - emul_device_current(vendor)->used;
    pthread_mutex_unlock(&emul.lock);
    return EMUL_OK;
}

enum emul_code emul_peer_enable(int vendor, int peer)
{
    if (check_device(vendor, peer)) return EMUL_BAD_DEVICE;
    if (peer == emul_device_get(vendor)) return EMUL_BAD_DEVICE;
    pthread_mutex_lock(&emul.lock);
    struct emul_device *device = emul_device_current(vendor);
    bool already = device->peers & 1u << peer;
    device->peers |= 1u << peer;
    pthread_mutex_unlock(&emul.lock);
    return already ? EMUL_PEER_ON : EMUL_OK;
}
