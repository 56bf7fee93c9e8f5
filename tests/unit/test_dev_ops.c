/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of a device adapter by itself: test_dev_ops VENDOR[:NUMBER], found as a program would find it
 * (MEDLEY_DEVICE_PATH, MEDLEY_DEVICE_PLUGIN). What the adapter does not claim is left out. Runs on emulated and on real
 * devices alike, so nothing here depends on how long something takes.
 */
#include "config.h"
#include "lib/base/status.h"
#include "lib/dev/dev.h"
#include "tests/coll/slack.h"
#include "tests/unit/unit.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { BYTES = 300000, ROUNDS = 40, FUNCTIONS = 20 };
enum {
    TOLD_CAPS = MDL_DEV_POINTERS | MDL_DEV_PIN | MDL_DEV_EVENTS | MDL_DEV_WORDS | MDL_DEV_HOST_FUNC | MDL_DEV_CAPTURE |
                MDL_DEV_IPC | MDL_DEV_DMABUF | MDL_DEV_KERNELS | MDL_DEV_KERNEL_WORDS
};

static const char *name;
static struct mdl_dev dev;
static const struct mdl_device *d;

#define OK(call) ck_assert_msg((call) == medleySuccess, "%s: %s", #call, mdl_error_text())

static void begin(void)
{
    struct mdl_config cfg;
    OK(mdl_config_load(&cfg));
    OK(mdl_dev_find(&cfg, name, &dev));
    d = dev.ops;
    ck_assert_ptr_nonnull(d);
    OK(d->enter(d, dev.ordinal));
}

static bool can(uint32_t bit) { return (dev.caps & bit) != 0; }

static void *device_memory(size_t len)
{
    void *p = NULL;
    OK(d->alloc(d, len, &p));
    ck_assert_ptr_nonnull(p);
    return p;
}

static unsigned char *pinned_memory(size_t len)
{
    void *p = NULL;
    OK(d->alloc_pinned(d, len, &p));
    memset(p, 0, len);
    return p;
}

static void *a_stream(void)
{
    mdl_dev_stream s = NULL;
    OK(d->stream_create(d, &s));
    return s;
}

static void fill(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(seed + i * 7 + i / 251);
}

static bool is_filled(const unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != (unsigned char)(seed + i * 7 + i / 251)) return false;
    return true;
}

/* ---- devices ---- */

START_TEST(devices)
{
    struct mdl_device_info info;
    int n = 0, now = -1;
    begin();
    OK(d->count(d, &n));
    ck_assert_int_gt(n, 0);
    for (int i = 0; i < n; i++) {
        OK(d->enter(d, i));
        if (d->current) OK(d->current(d, &now));
        if (d->current) ck_assert_int_eq(now, i);
        OK(d->info(d, i, &info));
        ck_assert_ptr_nonnull(memchr(info.name, 0, sizeof(info.name)));
        ck_assert_ptr_nonnull(memchr(info.pci, 0, sizeof(info.pci)));
        if (info.pci[0]) ck_assert_ptr_nonnull(strchr(info.pci, ':'));
    }
    mdl_error_clear();
    ck_assert_int_ne(d->enter(d, n), medleySuccess);
    ck_assert_str_ne(mdl_error_text(), "");
}
END_TEST

/* ---- memory ---- */

static void round_trip(mdl_dev_stream s)
{
    static const size_t lengths[] = {1, 3, 255, 4096, 4097, BYTES};
    char *one = device_memory(BYTES + 64), *two = device_memory(BYTES + 64);
    unsigned char *a = pinned_memory(BYTES), *b = pinned_memory(BYTES);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t n = lengths[i], at = i * 5;
        fill(a, n, (unsigned)i);
        memset(b, 0xee, BYTES);
        OK(d->copy(d, one + at, a, n, MDL_COPY_H2D, s));
        OK(d->copy(d, two + 7, one + at, n, MDL_COPY_D2D, s));
        OK(d->copy(d, b, two + 7, n, MDL_COPY_D2H, s));
        OK(d->stream_sync(d, s));
        ck_assert(is_filled(b, n, (unsigned)i));
        ck_assert(n == BYTES || b[n] == 0xee);
    }
    OK(d->free(d, one));
    OK(d->free(d, two));
    OK(d->free_pinned(d, a));
    OK(d->free_pinned(d, b));
}

START_TEST(copies)
{
    mdl_dev_stream s;
    begin();
    round_trip(NULL);
    s = a_stream();
    round_trip(s);
    OK(d->stream_destroy(d, s));
}
END_TEST

static void *copy_in_a_thread(void *arg)
{
    OK(d->enter(d, dev.ordinal)); /* what another thread has entered does not count here */
    round_trip(NULL);
    return arg;
}

START_TEST(copies_of_many_threads)
{
    pthread_t t[3];
    begin();
    for (int i = 0; i < 3; i++) ck_assert_int_eq(pthread_create(&t[i], NULL, copy_in_a_thread, NULL), 0);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(pthread_join(t[i], NULL), 0);
}
END_TEST

START_TEST(more_memory_than_there_is)
{
    void *p = NULL;
    begin();
    mdl_error_clear();
    ck_assert_int_eq(d->alloc(d, (size_t)1 << 60, &p), medleySystemError);
    ck_assert_str_ne(mdl_error_text(), "");
    p = device_memory(64); /* and it goes on */
    OK(d->free(d, p));
}
END_TEST

static void is_host(const void *p)
{
    struct mdl_pointer where;
    OK(d->classify(d, p, &where));
    ck_assert_int_eq(where.kind, MDL_POINTER_HOST);
}

START_TEST(pointers)
{
    static int in_the_program;
    char *p, *pinned, *ordinary = malloc(BYTES);
    struct mdl_pointer where;
    begin();
    if (!can(MDL_DEV_POINTERS)) return free(ordinary);
    p = device_memory(BYTES);
    pinned = (char *)pinned_memory(4096);
    for (size_t at = 0; at < BYTES; at += BYTES / 3 - 1) {
        OK(d->classify(d, p + at, &where));
        ck_assert_int_ne(where.kind, MDL_POINTER_HOST);
        ck_assert(where.ordinal == -1 || where.ordinal == dev.ordinal);
        if (!where.base) continue;
        ck_assert((char *)where.base <= p);
        ck_assert((char *)where.base + where.len >= p + BYTES);
    }
    is_host(pinned);
    is_host(pinned + 100);
    is_host(ordinary);
    is_host(&in_the_program);
    is_host(&where);
    OK(d->free(d, p));
    OK(d->free_pinned(d, pinned));
    free(ordinary);
}
END_TEST

/* A number is never used twice, although the address is. */
START_TEST(numbers_of_allocations)
{
    struct mdl_pointer first, second;
    char *p;
    begin();
    if (!can(MDL_DEV_POINTERS)) return;
    p = device_memory(4096);
    OK(d->classify(d, p, &first));
    OK(d->classify(d, p + 1, &second));
    ck_assert_uint_eq(first.id, second.id);
    OK(d->free(d, p));
    p = device_memory(4096);
    OK(d->classify(d, p, &second));
    ck_assert(first.id == 0 || first.id != second.id);
    if (strcmp(d->vendor, "cuda") == 0) ck_assert_uint_ne(first.id, 0);
    OK(d->free(d, p));
}
END_TEST

START_TEST(pinning)
{
    size_t len = 1 << 20;
    unsigned char *host, *back;
    void *p;
    begin();
    if (!can(MDL_DEV_PIN)) return;
    host = aligned_alloc(1 << 16, len);
    back = pinned_memory(len);
    fill(host, len, 3);
    OK(d->pin(d, host, len));
    p = device_memory(len);
    OK(d->copy(d, p, host, len, MDL_COPY_H2D, NULL));
    OK(d->copy(d, back, p, len, MDL_COPY_D2H, NULL));
    OK(d->stream_sync(d, NULL));
    ck_assert(is_filled(back, len, 3));
    if (can(MDL_DEV_POINTERS)) is_host(host);
    OK(d->unpin(d, host));
    OK(d->free(d, p));
    OK(d->free_pinned(d, back));
    free(host);
}
END_TEST

/* ---- events ---- */

static void wait_for(mdl_dev_event e)
{
    medleyResult_t res;
    while ((res = d->event_query(d, e)) == medleyInProgress) sched_yield();
    OK(res);
}

/* What an event says has happened has; as often as its stream is quick and as it is slow. */
START_TEST(events_tell)
{
    unsigned char *a, *b;
    mdl_dev_event e = NULL;
    mdl_dev_stream s;
    void *p;
    begin();
    if (!can(MDL_DEV_EVENTS)) return;
    a = pinned_memory(BYTES), b = pinned_memory(BYTES), p = device_memory(BYTES), s = a_stream();
    OK(d->event_create(d, &e));
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t n = 1 + i * 7001 % BYTES;
        fill(a, n, i);
        OK(d->copy(d, p, a, n, MDL_COPY_H2D, s));
        OK(d->copy(d, b, p, n, MDL_COPY_D2H, s));
        OK(d->event_record(d, e, s));
        wait_for(e);
        ck_assert(is_filled(b, n, i));
    }
    OK(d->event_destroy(d, e));
    OK(d->stream_destroy(d, s));
    OK(d->free(d, p));
    OK(d->free_pinned(d, a));
    OK(d->free_pinned(d, b));
}
END_TEST

/* The second stream's copy is behind the first one's by an event only. */
START_TEST(events_hold_streams)
{
    unsigned char *a, *b;
    mdl_dev_event e = NULL, back = NULL;
    mdl_dev_stream s, t;
    void *p;
    begin();
    if (!can(MDL_DEV_EVENTS)) return;
    a = pinned_memory(BYTES), b = pinned_memory(BYTES), p = device_memory(BYTES), s = a_stream(), t = a_stream();
    OK(d->event_create(d, &e));
    OK(d->event_create(d, &back));
    for (unsigned i = 0; i < ROUNDS; i++) {
        fill(a, BYTES, i);
        OK(d->copy(d, p, a, BYTES, MDL_COPY_H2D, s));
        OK(d->event_record(d, e, s));
        OK(d->stream_wait_event(d, t, e));
        OK(d->copy(d, b, p, BYTES, MDL_COPY_D2H, t));
        OK(d->event_record(d, back, t));
        OK(d->stream_wait_event(d, s, back));
        OK(d->stream_sync(d, s));
        ck_assert(is_filled(b, BYTES, i));
    }
    OK(d->event_destroy(d, e));
    OK(d->event_destroy(d, back));
    OK(d->stream_destroy(d, s));
    OK(d->stream_destroy(d, t));
    OK(d->free(d, p));
    OK(d->free_pinned(d, a));
    OK(d->free_pinned(d, b));
}
END_TEST

/* ---- words ---- */

static uint64_t load(const uint64_t *w) { return __atomic_load_n(w, __ATOMIC_ACQUIRE); }
static void store(uint64_t *w, uint64_t v) { __atomic_store_n(w, v, __ATOMIC_RELEASE); }

/* A stream that waits for a word holds what is behind it: the event has not happened until the word is written, and
 * what is written to the word in between and is too small lets nothing pass. */
START_TEST(words_hold_streams)
{
    static const struct {
        uint64_t wanted, less, enough;
    } cases[] = {{1, 0, 1}, {5, 4, 6}, {(uint64_t)1 << 40, 1u << 31, (uint64_t)1 << 62}, {3, (uint64_t)-1, 3}};
    uint64_t *word[4];
    unsigned char *a;
    mdl_dev_event e = NULL;
    mdl_dev_stream s;
    void *p;
    begin();
    if (!can(MDL_DEV_WORDS)) return;
    OK(d->alloc_words(d, 4, word));
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(load(word[i]), 0);
    a = pinned_memory(8), p = device_memory(8), s = a_stream();
    if (can(MDL_DEV_EVENTS)) OK(d->event_create(d, &e));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        store(word[0], cases[i].less);
        store(word[1], 0);
        OK(d->stream_wait(d, s, word[0], cases[i].wanted));
        OK(d->copy(d, p, a, 8, MDL_COPY_H2D, s));
        OK(d->stream_write(d, s, word[1], 77 + i));
        if (e) OK(d->event_record(d, e, s));
        for (uint64_t end = mdl_now_ns() + 2 * MDL_NS_PER_MS; mdl_now_ns() < end;) { /* not a number of yields */
            if (e) ck_assert_int_eq(d->event_query(d, e), medleyInProgress);
            ck_assert_uint_eq(load(word[1]), 0);
            sched_yield();
        }
        store(word[0], cases[i].enough);
        OK(d->stream_sync(d, s));
        ck_assert_uint_eq(load(word[1]), 77 + i);
        if (e) OK(d->event_query(d, e));
    }
    if (e) OK(d->event_destroy(d, e));
    OK(d->stream_destroy(d, s));
    OK(d->free_words(d, 4, word));
    OK(d->free(d, p));
    OK(d->free_pinned(d, a));
}
END_TEST

/* What a word tells of is in host memory when the word is. */
START_TEST(words_come_behind_data)
{
    uint64_t *word[1];
    unsigned char *a, *b;
    mdl_dev_stream s;
    void *p;
    begin();
    if (!can(MDL_DEV_WORDS)) return;
    OK(d->alloc_words(d, 1, word));
    a = pinned_memory(BYTES), b = pinned_memory(BYTES), p = device_memory(BYTES), s = a_stream();
    for (unsigned i = 1; i <= ROUNDS; i++) {
        fill(a, BYTES, i);
        OK(d->copy(d, p, a, BYTES, MDL_COPY_H2D, s));
        OK(d->copy(d, b, p, BYTES, MDL_COPY_D2H, s));
        OK(d->stream_write(d, s, word[0], i));
        while (load(word[0]) != i) sched_yield();
        ck_assert(is_filled(b, BYTES, i));
    }
    OK(d->stream_sync(d, s));
    OK(d->stream_destroy(d, s));
    OK(d->free_words(d, 1, word));
    OK(d->free(d, p));
    OK(d->free_pinned(d, a));
    OK(d->free_pinned(d, b));
}
END_TEST

/* ---- host functions, capture ---- */

struct seen {
    const unsigned char *at;
    unsigned seed;
    int *calls, number;
    bool late, right, in_order;
};

static void look(void *arg)
{
    struct seen *s = arg;
    if (s->late) nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL); /* a sync that does not wait is long back */
    s->right = is_filled(s->at, 1000, s->seed);
    s->in_order = (*s->calls)++ == s->number;
}

START_TEST(host_functions)
{
    struct seen seen[FUNCTIONS];
    unsigned char *a, *b;
    mdl_dev_stream s;
    int calls = 0;
    void *p;
    begin();
    if (!can(MDL_DEV_HOST_FUNC)) return;
    a = pinned_memory(1000 * FUNCTIONS), b = pinned_memory(1000), p = device_memory(1000), s = a_stream();
    for (int i = 0; i < FUNCTIONS; i++) {
        fill(a + 1000 * i, 1000, (unsigned)i);
        seen[i] = (struct seen){.at = b, .seed = (unsigned)i, .calls = &calls, .number = i};
        OK(d->copy(d, p, a + 1000 * i, 1000, MDL_COPY_H2D, s));
        OK(d->copy(d, b, p, 1000, MDL_COPY_D2H, s));
        OK(d->stream_host_func(d, s, look, &seen[i])); /* the stream goes on when it has returned */
    }
    OK(d->stream_sync(d, s));
    ck_assert_int_eq(calls, FUNCTIONS);
    for (int i = 0; i < FUNCTIONS; i++) ck_assert(seen[i].right && seen[i].in_order);
    OK(d->stream_destroy(d, s));
    OK(d->free(d, p));
    OK(d->free_pinned(d, a));
    OK(d->free_pinned(d, b));
}
END_TEST

/* Streams come and go, and a new one may be where an old one was. The first waits for a function that takes its time. */
START_TEST(host_functions_of_many_streams)
{
    begin();
    if (!can(MDL_DEV_HOST_FUNC)) return;
    for (int i = 0; i < FUNCTIONS; i++) {
        int calls = 0;
        unsigned char here[1000];
        struct seen seen = {.at = here, .seed = 5, .calls = &calls, .late = i == 0};
        mdl_dev_stream s = a_stream();
        fill(here, sizeof(here), 5);
        OK(d->stream_host_func(d, s, look, &seen));
        OK(d->stream_sync(d, s));
        ck_assert_int_eq(calls, 1);
        ck_assert(seen.right);
        OK(d->stream_destroy(d, s));
    }
}
END_TEST

START_TEST(memory_that_kernels_reach)
{
    unsigned char *a;
    void *p = NULL, *middle = NULL;
    begin();
    if (!can(MDL_DEV_KERNEL_WORDS)) return;
    a = pinned_memory(4096);
    OK(d->kernel_address(d, a, &p));
    OK(d->kernel_address(d, a + 1024, &middle));
    ck_assert(p && middle == (char *)p + 1024);
    ck_assert(d->kernel_address(d, &p, &middle) != medleySuccess); /* ordinary memory */
    OK(d->free_pinned(d, a));
}
END_TEST

START_TEST(no_capture)
{
    bool capturing = true;
    mdl_dev_stream s;
    begin();
    if (!can(MDL_DEV_CAPTURE)) return;
    s = a_stream();
    OK(d->stream_capturing(d, s, &capturing));
    ck_assert(!capturing);
    OK(d->stream_destroy(d, s));
}
END_TEST

/* What CUDA's library offers and the adapter does not: a capture that counts every thread's calls. */
static void *cuda_call(const char *symbol)
{
    static const char *const files[] = {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"};
    const char *folder = strchr(getenv("MEDLEY_DEVICE_PATH"), '=') + 1;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[1100];
        void *library;
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
        if (library) return dlsym(library, symbol);
    }
    ck_abort_msg("no libcudart is loaded from %s", folder);
    return NULL;
}

/* What other threads do for a communicator meanwhile: nothing of it is part of the capture, nor may it spoil that. */
static void *work_beside_a_capture(void *arg)
{
    size_t len = 1 << 16;
    char *host = aligned_alloc(len, len);
    void *p, *pinned;
    OK(d->enter(d, dev.ordinal));
    wait_for(arg);
    OK(d->alloc(d, 100, &p));
    OK(d->alloc_pinned(d, 100, &pinned));
    OK(d->pin(d, host, len));
    OK(d->unpin(d, host));
    OK(d->free_pinned(d, pinned));
    OK(d->free(d, p));
    free(host);
    return NULL;
}

START_TEST(a_capture_is_told_and_not_spoilt)
{
    enum { GLOBAL = 0 };
    int (*start)(void *, int), (*stop)(void *, void **), (*destroy)(void *);
    bool capturing = false;
    mdl_dev_event e = NULL;
    void *graph = NULL;
    mdl_dev_stream s, t;
    pthread_t other;
    begin();
    if (strcmp(d->vendor, "cuda") != 0 || !getenv("MEDLEY_DEVICE_PATH")) return;
    if (!can(MDL_DEV_CAPTURE) || !can(MDL_DEV_EVENTS)) return;
    *(void **)&start = cuda_call("cudaStreamBeginCapture");
    *(void **)&stop = cuda_call("cudaStreamEndCapture");
    *(void **)&destroy = cuda_call("cudaGraphDestroy");
    s = a_stream(), t = a_stream();
    OK(d->event_create(d, &e));
    OK(d->event_record(d, e, t));
    ck_assert_int_eq(start(s, GLOBAL), 0);
    OK(d->stream_capturing(d, s, &capturing));
    ck_assert(capturing);
    OK(d->stream_capturing(d, t, &capturing));
    ck_assert(!capturing);
    ck_assert_int_eq(pthread_create(&other, NULL, work_beside_a_capture, e), 0);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
    ck_assert_int_eq(stop(s, &graph), 0);
    ck_assert_ptr_nonnull(graph);
    ck_assert_int_eq(destroy(graph), 0);
    OK(d->event_destroy(d, e));
    OK(d->stream_destroy(d, s));
    OK(d->stream_destroy(d, t));
}
END_TEST

/* ---- other processes, other devices ---- */

static void send_handle(int to, struct mdl_ipc *ipc)
{
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = ipc, .iov_len = sizeof(*ipc)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (ipc->fd >= 0) {
        m.msg_control = room;
        m.msg_controllen = sizeof(room);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &ipc->fd, sizeof(int));
    }
    ck_assert_int_eq(sendmsg(to, &m, 0), (ssize_t)sizeof(*ipc));
}

static bool receive_handle(int from, struct mdl_ipc *ipc)
{
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = ipc, .iov_len = sizeof(*ipc)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
    if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*ipc)) return false;
    ipc->fd = -1;
    if (CMSG_FIRSTHDR(&m)) memcpy(&ipc->fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
    return true;
}

#define NEED(call)                                                                                                     \
    if ((call) != medleySuccess) {                                                                                     \
        fprintf(stderr, "importer: %s: %s\n", #call, mdl_error_text());                                                \
        _exit(1);                                                                                                      \
    }

/* The other process: reads what is there, and leaves something else. */
static void import(int from)
{
    struct mdl_config cfg;
    struct mdl_ipc ipc;
    void *object, *p, *host;
    int n = 0;
    if (!receive_handle(from, &ipc)) _exit(3); /* the vendor has no such handles */
    NEED(mdl_config_load(&cfg));
    NEED(mdl_dev_find(&cfg, name, &dev));
    d = dev.ops;
    NEED(d->count(d, &n));
    NEED(d->enter(d, getenv("EMUL_DEVICES") ? n - 1 : dev.ordinal)); /* emulated ones all reach each other */
    NEED(d->ipc_import(d, &ipc, &object, &p));
    NEED(d->alloc_pinned(d, BYTES, &host));
    NEED(d->copy(d, host, p, BYTES, MDL_COPY_D2H, NULL));
    NEED(d->stream_sync(d, NULL));
    if (!is_filled(host, BYTES, 9)) _exit(2);
    fill(host, BYTES, 10);
    NEED(d->copy(d, p, host, BYTES, MDL_COPY_H2D, NULL));
    NEED(d->stream_sync(d, NULL));
    NEED(d->ipc_close(d, object));
    NEED(d->free_pinned(d, host));
    if (ipc.fd >= 0) close(ipc.fd);
    _exit(0);
}

static bool refuses_handles(void)
{
    const char *faults = getenv("EMUL_FAULT");
    return faults && strstr(faults, "noipc");
}

/* What cannot be exported is an answer, not an error. */
static void cannot_export(void *p)
{
    struct mdl_ipc ipc;
    mdl_error_clear();
    ck_assert_int_eq(d->ipc_export(d, p, &ipc), medleyInvalidUsage);
    ck_assert_str_eq(mdl_error_text(), "");
}

static void export_to(int to, char *p, unsigned char *host)
{
    struct mdl_ipc ipc, again;
    fill(host, BYTES, 9);
    OK(d->copy(d, p + 4097, host, BYTES, MDL_COPY_H2D, NULL));
    OK(d->stream_sync(d, NULL));
    OK(d->ipc_export(d, p, &again)); /* a second one of the same allocation */
    OK(d->ipc_export(d, p + 4097, &ipc));
    ck_assert_uint_eq(ipc.offset - again.offset, 4097);
    send_handle(to, &ipc);
    if (ipc.fd >= 0) close(ipc.fd);
    if (again.fd >= 0) close(again.fd);
}

START_TEST(handles_for_other_processes)
{
    int ends[2], status = -1, ordinary;
    unsigned char *host;
    char *p;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid_t child = fork(); /* before the library is loaded */
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(ends[0]);
        import(ends[1]);
    }
    close(ends[1]);
    begin();
    p = device_memory(BYTES + 5000), host = pinned_memory(BYTES);
    if (can(MDL_DEV_IPC)) cannot_export(&ordinary);
    if (can(MDL_DEV_IPC) && refuses_handles()) cannot_export(p);
    if (can(MDL_DEV_IPC) && !refuses_handles()) {
        export_to(ends[0], p, host);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the importer ended with %d", status);
        OK(d->copy(d, host, p + 4097, BYTES, MDL_COPY_D2H, NULL));
        OK(d->stream_sync(d, NULL));
        ck_assert(is_filled(host, BYTES, 10));
    }
    OK(d->free(d, p));
    OK(d->free_pinned(d, host));
    close(ends[0]); /* which ends an importer that got nothing */
    if (status < 0) waitpid(child, &status, 0);
}
END_TEST

START_TEST(handles_of_another_size)
{
    struct mdl_ipc ipc = {.len = 7, .fd = -1};
    void *object, *p;
    begin();
    if (!can(MDL_DEV_IPC)) return;
    memset(ipc.bytes, 1, sizeof(ipc.bytes));
    ck_assert_int_eq(d->ipc_import(d, &ipc, &object, &p), medleyRemoteError);
}
END_TEST

/* It may be refused, since not every kernel can: then by an error with words. */
START_TEST(descriptors)
{
    uint64_t offset = 1;
    int fd = -1;
    char *p;
    begin();
    if (!can(MDL_DEV_DMABUF)) return;
    p = device_memory(BYTES);
    mdl_error_clear();
    if (d->dmabuf_export(d, p + 100, 5000, &fd, &offset) == medleySuccess) {
        ck_assert_int_ge(fd, 0);
        ck_assert_uint_ge(offset, 0);
        close(fd);
    } else {
        ck_assert_int_eq(fd, -1);
        ck_assert_str_ne(mdl_error_text(), "");
    }
    OK(d->free(d, p));
}
END_TEST

/* What the adapter can is what the runtime has: a call that was not found by its name would only be left out. Names as
 * in MDL_TEST_CAPS, the others' bits must be off. */
static uint32_t expected_caps(const char *list)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } names[] = {{"pointers", MDL_DEV_POINTERS},
                 {"pin", MDL_DEV_PIN},
                 {"events", MDL_DEV_EVENTS},
                 {"words", MDL_DEV_WORDS},
                 {"functions", MDL_DEV_HOST_FUNC},
                 {"capture", MDL_DEV_CAPTURE},
                 {"ipc", MDL_DEV_IPC},
                 {"dmabuf", MDL_DEV_DMABUF},
                 {"kernels", MDL_DEV_KERNELS},
                 {"kernelwords", MDL_DEV_KERNEL_WORDS}};
    char text[256], *rest = text, *word;
    uint32_t caps = 0;
    snprintf(text, sizeof(text), "%s", list);
    while ((word = strsep(&rest, " "))) {
        size_t i = 0, n = sizeof(names) / sizeof(names[0]);
        while (i < n && strcmp(names[i].name, word) != 0) i++;
        ck_assert_msg(i < n, "MDL_TEST_CAPS: there is no %s", word);
        caps |= names[i].bit;
    }
    return caps;
}

/* What an adapter claims it has. */
START_TEST(claims)
{
    const char *list = getenv("MDL_TEST_CAPS");
    begin();
    if (list && *list)
        ck_assert_msg((dev.caps & TOLD_CAPS) == expected_caps(list), "capabilities 0x%x, expected is: %s", dev.caps,
                      list);
    ck_assert_uint_eq(dev.caps, d->caps(d));
    ck_assert(!can(MDL_DEV_POINTERS) || d->classify);
    ck_assert(!can(MDL_DEV_PIN) || (d->pin && d->unpin));
    ck_assert(!can(MDL_DEV_EVENTS) ||
              (d->event_create && d->event_destroy && d->event_record && d->event_query && d->stream_wait_event));
    ck_assert(!can(MDL_DEV_WORDS) || (d->alloc_words && d->free_words && d->stream_write && d->stream_wait));
    ck_assert(!can(MDL_DEV_HOST_FUNC) || d->stream_host_func);
    ck_assert(!can(MDL_DEV_CAPTURE) || d->stream_capturing);
    ck_assert(!can(MDL_DEV_IPC) || (d->ipc_export && d->ipc_import && d->ipc_close));
    ck_assert(!can(MDL_DEV_DMABUF) || d->dmabuf_export);
    ck_assert(!can(MDL_DEV_KERNELS) || (d->module_load && d->module_unload && d->kernel_find && d->kernel_launch));
    ck_assert(!can(MDL_DEV_KERNEL_WORDS) || (can(MDL_DEV_KERNELS) && d->kernel_address));
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const tests[] = {claims,
                                  devices,
                                  copies,
                                  copies_of_many_threads,
                                  more_memory_than_there_is,
                                  pointers,
                                  numbers_of_allocations,
                                  pinning,
                                  events_tell,
                                  events_hold_streams,
                                  words_hold_streams,
                                  words_come_behind_data,
                                  host_functions,
                                  host_functions_of_many_streams,
                                  memory_that_kernels_reach,
                                  no_capture,
                                  a_capture_is_told_and_not_spoilt,
                                  handles_for_other_processes,
                                  handles_of_another_size,
                                  descriptors};
    char path[1024] = "", plugin[1024] = "";
    if (argc != 2) {
        fprintf(stderr, "usage: test_dev_ops VENDOR[:NUMBER], with MEDLEY_DEVICE_PATH or MEDLEY_DEVICE_PLUGIN\n");
        return 2;
    }
    name = argv[1];
    if (getenv("MEDLEY_DEVICE_PATH")) snprintf(path, sizeof(path), "%s", getenv("MEDLEY_DEVICE_PATH"));
    if (getenv("MEDLEY_DEVICE_PLUGIN")) snprintf(plugin, sizeof(plugin), "%s", getenv("MEDLEY_DEVICE_PLUGIN"));
    unit_clean_environment();
    Suite *suite = suite_create("dev_ops");
    TCase *tcase = tcase_create(name);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    if (path[0]) setenv("MEDLEY_DEVICE_PATH", path, 1);
    if (plugin[0]) setenv("MEDLEY_DEVICE_PLUGIN", plugin, 1);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
