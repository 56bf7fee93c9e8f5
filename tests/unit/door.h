/* SPDX-License-Identifier: Apache-2.0 */
/* A door on loopback for the tests of lib/net, with what comes in through it, and raw sockets for what should not. */
#ifndef MDL_TESTS_DOOR_H_
#define MDL_TESTS_DOOR_H_

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/sock.h"
#include "tests/unit/leaks.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static struct mdl_config cfg;
static struct mdl_door *door;
static struct mdl_secret secret;
static struct mdl_addr addrs[MDL_MAX_ADDRS + 1]; /* TCP, then Unix */
static int naddrs;

/* What the log said, to look for words in. Any thread. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[65536];

static void keep_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    (void)level, (void)subsystem, (void)user;
    pthread_mutex_lock(&log_lock);
    size_t len = strlen(log_text);
    snprintf(log_text + len, sizeof(log_text) - len, "%s\n", message); /* the rest is cut */
    pthread_mutex_unlock(&log_lock);
}

static inline int log_count(const char *words)
{
    int n = 0;
    pthread_mutex_lock(&log_lock);
    for (const char *p = log_text; (p = strstr(p, words)); p++) n++;
    pthread_mutex_unlock(&log_lock);
    return n;
}

static inline void load_config(const char *ifname)
{
    ck_assert_int_eq(mdl_log_set_callback(keep_log, medleyLogInfo, NULL), medleySuccess);
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    ck_assert_int_eq(mdl_config_set(&cfg, "MEDLEY_SOCKET_IFNAME", ifname), medleySuccess);
    for (int i = 0; i < MDL_NET_SECRET_BYTES; i++) secret.key[i] = (uint8_t)(i * 7);
}

static inline void get_door(void)
{
    ck_assert_msg(mdl_door_get(&cfg, &door) == medleySuccess, "%s", mdl_error_text());
    naddrs = mdl_door_addresses(door, addrs);
    ck_assert_int_ge(naddrs, 1);
    if (mdl_door_unix(door)) addrs[naddrs++] = *mdl_door_unix(door);
}

static inline void open_door(void)
{
    load_config("127.0.0.1");
    get_door();
}

/* Links that came in, and a way to wait for them. */
struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count, closed;
    struct mdl_link last;
};
#define INBOX_INIT                                                                                                     \
    {                                                                                                                  \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                                         \
    }

/* Keeps the newest link open, closes those before it. */
static inline void take_link(void *ctx, const struct mdl_link *link)
{
    struct inbox *in = ctx;
    pthread_mutex_lock(&in->lock);
    if (in->count++ > in->closed) {
        close(in->last.fd);
        in->closed++;
    }
    in->last = *link;
    pthread_cond_broadcast(&in->changed);
    pthread_mutex_unlock(&in->lock);
}

static inline void wait_links(struct inbox *in, int count)
{
    pthread_mutex_lock(&in->lock);
    while (in->count < count) pthread_cond_wait(&in->changed, &in->lock);
    pthread_mutex_unlock(&in->lock);
}

static inline int count_links(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    int n = in->count;
    pthread_mutex_unlock(&in->lock);
    return n;
}

static inline void close_links(struct inbox *in)
{
    if (in->count > in->closed) close(in->last.fd);
    in->closed = in->count;
}

static inline void serve(int rank, struct inbox *in, struct mdl_service **service)
{
    ck_assert_msg(mdl_door_serve(door, &secret, MDL_PURPOSE_CONTROL, rank, take_link, in, service) == medleySuccess,
                  "%s", mdl_error_text());
}

static inline struct mdl_dial_args dial_args(int expect_rank, const struct mdl_addr *list, int count, int timeout_ms)
{
    return (struct mdl_dial_args){.door = door,
                                  .secret = &secret,
                                  .purpose = MDL_PURPOSE_CONTROL,
                                  .rank = 7,
                                  .expect_rank = expect_rank,
                                  .addrs = list,
                                  .naddrs = count,
                                  .deadline_ns = mdl_now_ns() + (uint64_t)timeout_ms * MDL_NS_PER_MS};
}

/* A connection that succeeds. */
static inline struct mdl_link dial(int expect_rank)
{
    struct mdl_dial_args args = dial_args(expect_rank, addrs, 1, 20000);
    struct mdl_link link;
    ck_assert_msg(mdl_dial_wait(&args, NULL, &link) == medleySuccess, "%s", mdl_error_text());
    return link;
}

/* ---- raw sockets: blocking, with a bound of 20 s ---- */

static inline int raw_socket(int family)
{
    struct timeval bound = {.tv_sec = 20};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
    return fd;
}

static inline int raw_connect(const struct mdl_addr *to)
{
    int fd = raw_socket(to->sa.ss_family);
    ck_assert_msg(connect(fd, (const struct sockaddr *)&to->sa, to->len) == 0, "connect: %s", strerror(errno));
    return fd;
}

static inline void raw_send(int fd, const void *bytes, size_t len)
{
    (void)!send(fd, bytes, len, MSG_NOSIGNAL); /* the other side may have closed already: that is for raw_closed */
}

/* How many bytes came before the end of the connection, which must come. */
static inline size_t raw_closed(int fd)
{
    uint8_t bytes[256];
    size_t all = 0;
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0 || (n < 0 && errno == EINTR)) all += n > 0 ? (size_t)n : 0;
    ck_assert_msg(n == 0 || errno == ECONNRESET || errno == EPIPE, "the connection stays: %s", strerror(errno));
    close(fd);
    return all;
}

/* Makes the client's handshake as far as it goes; `chunk` bytes a time. */
static inline void raw_shake(int fd, struct mdl_auth *auth, size_t chunk)
{
    const uint8_t *out;
    uint8_t *room;
    for (;;) {
        size_t n = mdl_auth_output(auth, &out);
        if (n) {
            n = n < chunk ? n : chunk;
            raw_send(fd, out, n);
            mdl_auth_sent(auth, n);
            continue;
        }
        n = mdl_auth_room(auth, &room);
        if (auth->state == MDL_AUTH_ANSWERED)
            mdl_auth_prove(auth);
        else if (n && auth->state != MDL_AUTH_FAILED && auth->state != MDL_AUTH_DONE) {
            ssize_t got;
            while ((got = recv(fd, room, n < chunk ? n : chunk, 0)) < 0 && errno == EINTR) {} /* stopped, continued */
            if (got <= 0) return;
            mdl_auth_got(auth, (size_t)got);
        } else
            return;
    }
}

static inline void raw_client(struct mdl_auth *auth, const struct mdl_secret *key, int expect_rank, uint16_t min,
                              uint16_t max)
{
    struct mdl_auth_client args = {
        .secret = key, .purpose = MDL_PURPOSE_CONTROL, .rank = 7, .expect_rank = expect_rank, .min = min, .max = max};
    mdl_auth_client_init(auth, &args, NULL);
}

/* A listening socket on 127.0.0.1 that is no door. */
static inline int raw_listen(struct mdl_addr *addr)
{
    memset(addr, 0, sizeof(*addr));
    ck_assert_int_eq(mdl_addr_parse("127.0.0.1:1", addr, 1, &(int){0}), medleySuccess);
    mdl_addr_set_port(addr, 0);
    int fd = raw_socket(AF_INET);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr->sa, addr->len), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    socklen_t len = addr->len;
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr->sa, &len), 0);
    return fd;
}

/* A port on which nobody listens: it was free a moment ago. */
static inline struct mdl_addr free_address(void)
{
    struct mdl_addr addr;
    close(raw_listen(&addr));
    return addr;
}

#endif
