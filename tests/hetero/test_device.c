/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device contract (medley/plugin.h), rule by rule, on one device: test_device NAME. What the device's capabilities
 * do not promise is left out and counted. Exit status 77 if there is no such device.
 */
#include "config.h"

#include "lib/base/clock.h"
#include "tests/coll/slack.h"
#include "tests/hetero/device.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 40, WAIT_S = 20 };

static int left_out;

static bool can(uint32_t caps, const char *what)
{
    if ((dev.caps & caps) == caps) return true;
    printf("left out: %s\n", what);
    left_out++;
    return false;
}

static void fill(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(seed + i * 7 + i / 251);
}

static void *pinned(size_t n)
{
    void *p = NULL;
    WORKS(d->alloc_pinned(d, n, &p));
    memset(p, 0xee, n);
    return p;
}

static void until(const uint64_t *word, uint64_t value)
{
    uint64_t end = mdl_now_ns() + WAIT_S * MDL_NS_PER_S;
    while (load(word) < value) {
        REQUIRE(mdl_now_ns() < end);
        sched_yield();
    }
}

/* ---- memory and copies ---- */

static void copies(mdl_dev_stream s)
{
    static const size_t sizes[] = {0, 1, 3, 4096, 70001, 1 << 20};
    unsigned char *from = pinned(1 << 20), *to = pinned(1 << 20);
    void *a, *b;

    WORKS(d->alloc(d, (1 << 20) + 64, &a));
    WORKS(d->alloc(d, (1 << 20) + 64, &b));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t n = sizes[i];
        fill(from, n, (unsigned)i + 1);
        memset(to, 0xee, 1 << 20);
        WORKS(d->copy(d, (char *)a + 13, from, n, MDL_COPY_H2D, s));
        WORKS(d->copy(d, (char *)b + 5, (char *)a + 13, n, MDL_COPY_D2D, s));
        WORKS(d->copy(d, to, (char *)b + 5, n, MDL_COPY_D2H, s));
        WORKS(d->stream_sync(d, s));
        REQUIRE(memcmp(from, to, n) == 0 && (n == 1 << 20 || to[n] == 0xee));
    }
    WORKS(d->free(d, a));
    WORKS(d->free(d, b));
    WORKS(d->free_pinned(d, from));
    WORKS(d->free_pinned(d, to));
}

static void kinds_of_pointers(void)
{
    struct mdl_pointer p;
    void *a;

    if (!can(MDL_DEV_POINTERS, "what a pointer is")) return;
    WORKS(d->alloc(d, 1000, &a));
    WORKS(d->classify(d, (char *)a + 999, &p));
    REQUIRE(p.kind == MDL_POINTER_DEVICE && p.ordinal == dev.ordinal);
    /* Some vendors do not tell the allocation; who exports it must know. */
    REQUIRE(p.base ? p.base == a && p.len >= 1000 : !(dev.caps & MDL_DEV_IPC));
    WORKS(d->classify(d, &p, &p));
    REQUIRE(p.kind == MDL_POINTER_HOST);
    WORKS(d->free(d, a));
}

static void which_device(void)
{
    struct mdl_device_info info;
    int n = 0, now = -1;

    WORKS(d->count(d, &n));
    REQUIRE(n > dev.ordinal);
    WORKS(d->info(d, dev.ordinal, &info));
    printf("%s:%d of %d: %s %s\n", d->vendor, dev.ordinal, n, info.name, info.pci);
    REQUIRE(d->enter(d, n) != medleySuccess);
    WORKS(d->enter(d, dev.ordinal));
    if (d->current) WORKS(d->current(d, &now));
    if (d->current) REQUIRE(now == dev.ordinal);
}

/* ---- words ---- */

/* Nothing behind a wait starts before the word is there, and a write is behind all that is before it. */
static void holding(mdl_dev_stream s, uint64_t **w)
{
    unsigned char *from = pinned(5000), *to = pinned(5000);
    void *a;

    *w[0] = *w[1] = 0;
    fill(from, 5000, 3);
    WORKS(d->alloc(d, 5000, &a));
    WORKS(d->stream_wait(d, s, w[0], 5));
    WORKS(d->copy(d, a, from, 5000, MDL_COPY_H2D, s));
    WORKS(d->copy(d, to, a, 5000, MDL_COPY_D2H, s));
    WORKS(d->stream_write(d, s, w[1], 7));
    store(w[0], 4);
    slack_linger();
    REQUIRE(load(w[1]) == 0 && to[0] == 0xee && to[4999] == 0xee);
    store(w[0], 6);
    until(w[1], 7);
    REQUIRE(load(w[1]) == 7 && memcmp(from, to, 5000) == 0);
    WORKS(d->stream_sync(d, s));
    WORKS(d->free(d, a));
    WORKS(d->free_pinned(d, from));
    WORKS(d->free_pinned(d, to));
}

/* What the stream has written is there after a sync; in order, as each word only grows. */
static void writing(mdl_dev_stream s, uint64_t **w)
{
    uint64_t seen = 0;

    *w[0] = *w[1] = 0;
    WORKS(d->stream_wait(d, s, w[1], 1));
    for (uint64_t i = 1; i <= 200; i++) WORKS(d->stream_write(d, s, w[0], i));
    store(w[1], 1);
    while (seen < 200) {
        uint64_t now = load(w[0]);
        REQUIRE(now >= seen && now <= 200);
        seen = now;
        sched_yield();
    }
    WORKS(d->stream_write(d, s, w[0], 201));
    WORKS(d->stream_sync(d, s));
    REQUIRE(load(w[0]) == 201);
}

/* More streams than any device has queues: neighbours on one may hold each other up, but none for ever. */
static void many_held(void)
{
    mdl_dev_stream s[MANY];
    uint64_t *w[2 * MANY];

    WORKS(d->alloc_words(d, 2 * MANY, w));
    for (int i = 0; i < MANY; i++) {
        REQUIRE(*w[2 * i] == 0 && *w[2 * i + 1] == 0);
        WORKS(d->stream_create(d, &s[i]));
        WORKS(d->stream_wait(d, s[i], w[2 * i], 1));
        WORKS(d->stream_write(d, s[i], w[2 * i + 1], 9));
    }
    for (int i = MANY - 1; i >= 0; i--) {
        REQUIRE(i < MANY - 1 || load(w[2 * i + 1]) == 0);
        store(w[2 * i], 1);
    }
    for (int i = 0; i < MANY; i++) until(w[2 * i + 1], 9);
    for (int i = 0; i < MANY; i++) {
        WORKS(d->stream_sync(d, s[i]));
        WORKS(d->stream_destroy(d, s[i]));
    }
    WORKS(d->free_words(d, 2 * MANY, w));
}

static void *one_thread(void *arg)
{
    mdl_dev_stream s;
    uint64_t *w[2];

    (void)arg;
    WORKS(d->enter(d, dev.ordinal));
    WORKS(d->alloc_words(d, 2, w));
    WORKS(d->stream_create(d, &s));
    for (int i = 0; i < 5; i++) holding(s, w);
    writing(s, w);
    WORKS(d->stream_destroy(d, s));
    WORKS(d->free_words(d, 2, w));
    return NULL;
}

static void words(mdl_dev_stream s)
{
    pthread_t t[4];
    uint64_t *w[2];

    if (!can(MDL_DEV_WORDS, "words")) return;
    WORKS(d->alloc_words(d, 2, w));
    holding(s, w);
    holding(NULL, w);
    writing(s, w);
    WORKS(d->free_words(d, 2, w));
    many_held();
    for (int i = 0; i < 4; i++) REQUIRE(pthread_create(&t[i], NULL, one_thread, NULL) == 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

/* ---- events and host functions ---- */

static void events(mdl_dev_stream s)
{
    mdl_dev_stream other;
    mdl_dev_event e;
    uint64_t *w[2];

    if (!can(MDL_DEV_EVENTS | MDL_DEV_WORDS, "events")) return;
    WORKS(d->alloc_words(d, 2, w));
    WORKS(d->stream_create(d, &other));
    WORKS(d->event_create(d, &e));
    for (uint64_t i = 1; i <= 3; i++) {
        WORKS(d->stream_wait(d, s, w[0], i));
        WORKS(d->event_record(d, e, s));
        WORKS(d->stream_wait_event(d, other, e));
        WORKS(d->stream_write(d, other, w[1], i));
        slack_linger();
        REQUIRE(d->event_query(d, e) == medleyInProgress && load(w[1]) == i - 1);
        store(w[0], i);
        until(w[1], i);
        WORKS(d->event_query(d, e));
    }
    WORKS(d->stream_sync(d, other));
    WORKS(d->stream_sync(d, s));
    WORKS(d->event_destroy(d, e));
    WORKS(d->stream_destroy(d, other));
    WORKS(d->free_words(d, 2, w));
}

static uint64_t called, *closed;

static void call(void *arg)
{
    if (load(closed) == 0) store(&called, load(&called) * 10 + (uint64_t)(uintptr_t)arg);
}

/* In the stream's order: what is before is done, and what is behind waits for it. */
static void host_functions(mdl_dev_stream s)
{
    uint64_t *w[2];

    if (!can(MDL_DEV_HOST_FUNC | MDL_DEV_WORDS, "host functions")) return;
    WORKS(d->alloc_words(d, 2, w));
    closed = w[1];
    WORKS(d->stream_wait(d, s, w[0], 1));
    for (uintptr_t i = 1; i <= 3; i++) WORKS(d->stream_host_func(d, s, call, (void *)i));
    WORKS(d->stream_write(d, s, closed, 1));
    WORKS(d->stream_host_func(d, s, call, (void *)4));
    slack_linger();
    REQUIRE(load(&called) == 0);
    store(w[0], 1);
    WORKS(d->stream_sync(d, s));
    REQUIRE(called == 123 && *closed == 1);
    WORKS(d->free_words(d, 2, w));
}

/* ---- the host's memory, other processes, other devices ---- */

static void pinning(mdl_dev_stream s)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *host, *back;
    void *a;

    if (!can(MDL_DEV_PIN, "pinning")) return;
    back = pinned(page);
    host = aligned_alloc(page, page);
    REQUIRE(host);
    fill(host, page, 9);
    WORKS(d->alloc(d, page, &a));
    WORKS(d->pin(d, host, page));
    WORKS(d->copy(d, a, host, page, MDL_COPY_H2D, s));
    WORKS(d->copy(d, back, a, page, MDL_COPY_D2H, s));
    WORKS(d->stream_sync(d, s));
    REQUIRE(memcmp(host, back, page) == 0);
    WORKS(d->unpin(d, host));
    WORKS(d->free(d, a));
    WORKS(d->free_pinned(d, back));
    free(host);
}

static void dmabuf(void)
{
    uint64_t offset = 0;
    int fd = -1;
    void *a;

    if (!can(MDL_DEV_DMABUF, "dma-buf")) return;
    WORKS(d->alloc(d, 1 << 20, &a));
    if (d->dmabuf_export(d, (char *)a + 5000, 100, &fd, &offset) == medleySuccess) {
        REQUIRE(fd >= 0 && offset < 1 << 20);
        close(fd);
    } else
        printf("dma-buf: %s\n", mdl_error_text());
    WORKS(d->free(d, a));
}

static void send_handle(int socket, const struct mdl_ipc *ipc)
{
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)ipc, .iov_len = sizeof(*ipc)};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

    if (ipc->fd >= 0) {
        m.msg_control = room;
        m.msg_controllen = sizeof(room);
        *CMSG_FIRSTHDR(&m) =
            (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &ipc->fd, sizeof(int));
    }
    REQUIRE(sendmsg(socket, &m, 0) == (ssize_t)sizeof(*ipc));
}

static bool take_handle(int socket, struct mdl_ipc *ipc)
{
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = ipc, .iov_len = sizeof(*ipc)};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};

    if (recvmsg(socket, &m, 0) != (ssize_t)sizeof(*ipc)) return false;
    ipc->fd = -1;
    if (CMSG_FIRSTHDR(&m)) memcpy(&ipc->fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
    return true;
}

/* The other process: adds one to what it is shown. It was forked before the device was used. */
static int other_process(const char *name, int socket)
{
    struct mdl_ipc ipc;
    unsigned char *host;
    void *import, *p;

    if (!take_handle(socket, &ipc)) return 0;
    find_device(name);
    host = pinned(1000);
    WORKS(d->ipc_import(d, &ipc, &import, &p));
    if (ipc.fd >= 0) close(ipc.fd);
    WORKS(d->copy(d, host, p, 1000, MDL_COPY_D2H, NULL));
    WORKS(d->stream_sync(d, NULL));
    for (int i = 0; i < 1000; i++) host[i]++;
    WORKS(d->copy(d, p, host, 1000, MDL_COPY_H2D, NULL));
    WORKS(d->stream_sync(d, NULL));
    WORKS(d->ipc_close(d, import));
    WORKS(d->free_pinned(d, host));
    REQUIRE(write(socket, "", 1) == 1);
    return 0;
}

/* An interior address, of which the whole allocation's handle travels. */
static void sharing(int socket)
{
    unsigned char *host, *back, c;
    struct mdl_ipc ipc;
    void *a;

    if (!can(MDL_DEV_IPC, "IPC")) return;
    host = pinned(1000);
    back = pinned(1000);
    REQUIRE(d->ipc_export(d, host, &ipc) == medleyInvalidUsage);
    WORKS(d->alloc(d, 5000, &a));
    fill(host, 1000, 77);
    WORKS(d->copy(d, (char *)a + 3000, host, 1000, MDL_COPY_H2D, NULL));
    WORKS(d->stream_sync(d, NULL));
    WORKS(d->ipc_export(d, (char *)a + 3000, &ipc));
    send_handle(socket, &ipc);
    if (ipc.fd >= 0) close(ipc.fd);
    REQUIRE(read(socket, &c, 1) == 1);
    WORKS(d->copy(d, back, (char *)a + 3000, 1000, MDL_COPY_D2H, NULL));
    WORKS(d->stream_sync(d, NULL));
    for (int i = 0; i < 1000; i++) REQUIRE(back[i] == (unsigned char)(host[i] + 1));
    WORKS(d->free(d, a));
    WORKS(d->free_pinned(d, host));
    WORKS(d->free_pinned(d, back));
}

int main(int argc, char **argv)
{
    int sockets[2], status = 0;
    mdl_dev_stream s;
    pid_t child;

    if (argc != 2) return 2;
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    child = fork();
    REQUIRE(child >= 0);
    close(sockets[child != 0]);
    if (child == 0) return other_process(argv[1], sockets[1]);
    find_device(argv[1]);
    which_device();
    WORKS(d->stream_create(d, &s));
    copies(s);
    copies(NULL);
    kinds_of_pointers();
    words(s);
    events(s);
    host_functions(s);
    pinning(s);
    dmabuf();
    sharing(sockets[0]);
    close(sockets[0]);
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    WORKS(d->stream_destroy(d, s));
    printf("passed, %d left out\n", left_out);
    return 0;
}
