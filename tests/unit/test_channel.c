/* SPDX-License-Identifier: Apache-2.0 */
/* Links that share a connection: what travels, in which order, what ends them, and what a stranger to the rules gets.
 */
#include "config.h"
#include "tests/unit/door.h"
#include "lib/net/channel.h"
#include <dirent.h>
#include <fcntl.h>

enum { WAIT_S = 20 };

/* One end of a channel. All but `charge` under `lock`; the channel is the reactor's. */
struct end {
    struct mdl_channel *channel;
    struct mdl_dial *dial;
    bool done, ended, echo;
    int messages, fd, nfds;
    size_t bytes, last_len;
    uint8_t last[256];
    uint32_t next; /* first word of the next message in a stream of numbered ones */
    bool disordered;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct end served[64];
static int nserved;

static void on_data(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds)
{
    struct end *e = ctx;
    pthread_mutex_lock(&lock);
    e->messages++;
    e->bytes += len;
    e->last_len = len < sizeof(e->last) ? len : sizeof(e->last);
    memcpy(e->last, bytes, e->last_len);
    if (len >= 4) e->disordered |= mdl_get_u32(bytes) != e->next++;
    e->nfds = nfds;
    if (nfds > 0) e->fd = fds[0];
    for (int i = 1; i < nfds; i++) close(fds[i]);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (e->echo) mdl_channel_send(e->channel, &(struct mdl_channel_message){.head = bytes, .head_len = len});
}

static void on_end(void *ctx, int err, const char *why)
{
    struct end *e = ctx;
    mdl_channel_close(e->channel);
    pthread_mutex_lock(&lock);
    e->channel = NULL;
    e->ended = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static const struct mdl_channel_use use = {on_data, on_end};

static void take_channel(void *ctx, const struct mdl_link *link)
{
    if (!link->channel) {
        mdl_link_close(link);
        return;
    }
    pthread_mutex_lock(&lock);
    struct end *e = &served[nserved++];
    *e = (struct end){.channel = link->channel, .echo = true};
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    mdl_channel_use(link->channel, &use, e);
}

static void on_dialed(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct end *e = ctx;
    pthread_mutex_lock(&lock);
    e->done = true;
    if (result == medleySuccess) e->channel = link->channel;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (result == medleySuccess) mdl_channel_use(link->channel, &use, e);
}

#define AWAIT(condition)                                                                                               \
    do {                                                                                                               \
        struct timespec until;                                                                                         \
        clock_gettime(CLOCK_REALTIME, &until);                                                                         \
        until.tv_sec += WAIT_S;                                                                                        \
        int late = 0;                                                                                                  \
        pthread_mutex_lock(&lock);                                                                                     \
        while (!(condition) && !late) late = pthread_cond_timedwait(&changed, &lock, &until);                          \
        pthread_mutex_unlock(&lock);                                                                                   \
        ck_assert_msg(!late, "in vain: " #condition);                                                                  \
    } while (0)

static void start(struct end *e, enum mdl_purpose purpose, int rank)
{
    struct mdl_dial_args args = dial_args(rank, mdl_door_unix(door), 1, 2000);
    args.share = true;
    args.purpose = purpose;
    *e = (struct end){.fd = -1};
    ck_assert_int_eq(mdl_dial_start(&args, on_dialed, e, &e->dial), medleySuccess);
}

static void settle(struct end *e)
{
    AWAIT(e->done);
    mdl_dial_cancel(e->dial);
}

static int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

struct sending {
    struct mdl_channel *channel;
    struct mdl_channel_message message;
    int times;
};

static void send_inside(void *arg)
{
    struct sending *s = arg;
    mdl_channel_send(s->channel, &s->message);
}

static void send_to(struct end *e, const void *bytes, size_t len)
{
    struct sending s = {e->channel, {.head = bytes, .head_len = len}, 1};
    mdl_reactor_call(mdl_door_reactor(door), send_inside, &s);
}

static void close_inside(void *arg)
{
    struct end *e = arg;
    mdl_channel_close(e->channel);
    e->channel = NULL;
}

static void close_end(struct end *e) { mdl_reactor_call(mdl_door_reactor(door), close_inside, e); }

static struct mdl_service *service;

static void open_service(void)
{
    open_door();
    ck_assert_int_eq(mdl_door_serve(door, &secret, MDL_PURPOSE_CONTROL, 3, take_channel, NULL, &service),
                     medleySuccess);
}

static void close_service(void)
{
    mdl_door_unserve(service);
    mdl_door_put(door);
}

static int served_ended(void)
{
    int n = 0;
    for (int i = 0; i < nserved; i++) n += served[i].ended;
    return n;
}

START_TEST(many_links_have_one_connection)
{
    static struct end ends[20];
    open_service();
    int before = descriptors();
    for (int i = 0; i < 20; i++) start(&ends[i], MDL_PURPOSE_CONTROL, 3); /* also those that come before it is made */
    for (int i = 0; i < 20; i++) settle(&ends[i]);
    ck_assert_int_eq(descriptors(), before + 2); /* both its ends are in this process */
    for (int i = 0; i < 20; i++) {
        ck_assert_ptr_nonnull(ends[i].channel);
        send_to(&ends[i], &(uint8_t[]){(uint8_t)i, 0xee}, 2);
    }
    for (int i = 0; i < 20; i++) {
        AWAIT(ends[i].messages == 1);
        ck_assert_int_eq(ends[i].last_len, 2);
        ck_assert_int_eq(ends[i].last[0], i);
    }
    for (int i = 0; i < 19; i++) close_end(&ends[i]);
    AWAIT(served_ended() == 19);
    ck_assert_int_eq(descriptors(), before + 2);
    send_to(&ends[19], "still", 3);
    AWAIT(ends[19].messages == 2);
    close_end(&ends[19]);
    AWAIT(served_ended() == 20);
    close_service();
}
END_TEST

START_TEST(the_last_one_to_leave_hangs_up)
{
    struct end e;
    open_service();
    int before = descriptors();
    for (int i = 0; i < 3; i++) {
        start(&e, MDL_PURPOSE_CONTROL, 3);
        settle(&e);
        close_end(&e);
        AWAIT(served_ended() == i + 1);
        uint64_t until = mdl_now_ns() + unit_ns(WAIT_S); /* the other end sees it a moment later */
        while (descriptors() != before && mdl_now_ns() < until) usleep(1000);
        ck_assert_int_eq(descriptors(), before);
    }
    close_service();
}
END_TEST

/* The end that was dialed to closes: the other one hears of it. */
START_TEST(either_side_can_end_a_link)
{
    struct end a, b;
    open_service();
    start(&a, MDL_PURPOSE_CONTROL, 3);
    settle(&a);
    start(&b, MDL_PURPOSE_CONTROL, 3);
    settle(&b);
    AWAIT(nserved == 2);
    close_end(&served[0]);
    AWAIT(a.ended);
    ck_assert(!b.ended);
    send_to(&b, "b", 1);
    AWAIT(b.messages == 1);
    close_end(&b);
    close_service();
}
END_TEST

START_TEST(who_is_not_served_disturbs_nobody)
{
    struct end good, wrong, tcp;
    struct mdl_service *of_tcp;
    open_service();
    ck_assert_int_eq(mdl_door_serve(door, &secret, MDL_PURPOSE_TCP, 3, take_channel, NULL, &of_tcp), medleySuccess);
    start(&wrong, MDL_PURPOSE_CONTROL, 5); /* makes the connection, in vain */
    start(&good, MDL_PURPOSE_CONTROL, 3);  /* waits for it, then makes another */
    settle(&wrong);
    settle(&good);
    ck_assert_ptr_null(wrong.channel);
    ck_assert_ptr_nonnull(good.channel);
    start(&wrong, MDL_PURPOSE_CONTROL, 5);
    settle(&wrong);
    ck_assert_ptr_null(wrong.channel);
    start(&tcp, MDL_PURPOSE_TCP, 3);
    settle(&tcp);
    ck_assert_ptr_null(tcp.channel);
    send_to(&good, "x", 1);
    AWAIT(good.messages == 1);
    close_end(&good);
    mdl_door_unserve(of_tcp);
    close_service();
}
END_TEST

START_TEST(descriptors_come_with_their_message)
{
    struct end e;
    char text[8] = "";
    int pair[2];
    open_service();
    start(&e, MDL_PURPOSE_CONTROL, 3);
    settle(&e);
    AWAIT(nserved == 1);
    ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
    send_to(&e, "one", 3);
    struct sending s = {e.channel, {.head = "two", .head_len = 3, .fds = pair, .nfds = 1}, 1};
    mdl_reactor_call(mdl_door_reactor(door), send_inside, &s);
    AWAIT(served[0].messages == 2);
    ck_assert_int_eq(served[0].nfds, 1);
    ck_assert_int_eq(write(pair[1], "through", 7), 7);
    ck_assert_int_eq(read(served[0].fd, text, 7), 7);
    ck_assert_str_eq(text, "through");
    ck_assert_int_eq(fcntl(served[0].fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    send_to(&e, "three", 3);
    AWAIT(served[0].messages == 3);
    ck_assert_int_eq(served[0].nfds, 0);
    close(served[0].fd);
    close(pair[0]);
    close(pair[1]);
    close_end(&e);
    close_service();
}
END_TEST

static atomic_size_t charge;

/* More than a socket holds, in one go, with a few descriptors among it: the queue keeps it, in order. */
static void send_flood(void *arg)
{
    static uint8_t bytes[65536];
    struct end *e = arg;
    for (uint32_t i = 0; i < 100; i++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        mdl_put_u32(bytes, i);
        atomic_fetch_add(&charge, sizeof(bytes) - 4);
        mdl_channel_send(e->channel, &(struct mdl_channel_message){.head = bytes,
                                                                   .head_len = 4,
                                                                   .body = bytes + 4,
                                                                   .len = sizeof(bytes) - 4,
                                                                   .charge = &charge,
                                                                   .fds = &fd,
                                                                   .nfds = i % 10 == 0});
        close(fd);
    }
    ck_assert(!mdl_channel_idle(e->channel));
    ck_assert_uint_gt(atomic_load(&charge), 0);
}

/* Two links of one connection; the first has more to send than the socket takes. */
static void flood(struct end *e, struct end *other)
{
    open_service();
    start(e, MDL_PURPOSE_CONTROL, 3);
    settle(e);
    start(other, MDL_PURPOSE_CONTROL, 3);
    settle(other);
    AWAIT(nserved == 2);
    mdl_reactor_call(mdl_door_reactor(door), send_flood, e);
}

START_TEST(a_full_socket_loses_nothing)
{
    struct end e, other;
    flood(&e, &other);
    send_to(&other, "o", 1); /* behind it, on the same connection */
    AWAIT(e.messages == 100 && other.messages == 1);
    ck_assert(!e.disordered && !served[0].disordered);
    ck_assert_uint_eq(e.bytes, 100 * 65536);
    ck_assert_uint_eq(atomic_load(&charge), 0);
    close_end(&e);
    close_end(&other);
    close_service();
}
END_TEST

START_TEST(a_closed_link_owes_nothing)
{
    struct end e, other;
    flood(&e, &other);
    close_end(&e); /* what was sent still arrives, and then the end */
    ck_assert_uint_eq(atomic_load(&charge), 0);
    AWAIT(served[0].ended);
    ck_assert_int_eq(served[0].messages, 100);
    close_end(&other);
    close_service();
}
END_TEST

/* ---- bytes ---- */

static int raw_trunk(void)
{
    struct mdl_auth auth;
    struct mdl_auth_client args = {.secret = &secret,
                                   .purpose = MDL_PURPOSE_CONTROL,
                                   .rank = 7,
                                   .expect_rank = 3,
                                   .min = 1,
                                   .max = 1,
                                   .share = true};
    int fd = raw_connect(mdl_door_unix(door));
    mdl_auth_client_init(&auth, &args, NULL);
    raw_shake(fd, &auth, 1000);
    ck_assert_int_eq(auth.state, MDL_AUTH_DONE);
    return fd;
}

static void expect_bytes(int fd, const void *bytes, size_t len)
{
    uint8_t got[256];
    ck_assert_int_eq(recv(fd, got, len, MSG_WAITALL), (ssize_t)len);
    ck_assert_mem_eq(got, bytes, len);
}

START_TEST(frames_are_as_documented)
{
    static const uint8_t data[] = {0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c'};
    static const uint8_t open1[] = {9, 0, 0, 0, 1, 0, 0, 0, 72, 0, 0, 0},
                         answer1[] = {9, 0, 0, 0, 2, 0, 0, 0, 80, 0, 0, 0},
                         proof1[] = {9, 0, 0, 0, 2, 0, 0, 0, 32, 0, 0, 0},
                         end0[] = {0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t data1[] = {9, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'z'};
    struct mdl_auth auth;
    const uint8_t *out;
    uint8_t *room;
    open_service();
    int fd = raw_trunk();
    raw_send(fd, data, 5); /* in pieces */
    raw_send(fd, data + 5, sizeof(data) - 5);
    expect_bytes(fd, data, sizeof(data)); /* the echo */
    raw_client(&auth, &secret, 3, 1, 1);
    raw_send(fd, open1, sizeof(open1));
    size_t n = mdl_auth_output(&auth, &out);
    raw_send(fd, out, n);
    mdl_auth_sent(&auth, n);
    expect_bytes(fd, answer1, sizeof(answer1));
    n = mdl_auth_room(&auth, &room);
    ck_assert_int_eq(recv(fd, room, n, MSG_WAITALL), (ssize_t)n);
    mdl_auth_got(&auth, n);
    ck_assert_int_eq(auth.state, MDL_AUTH_ANSWERED);
    mdl_auth_prove(&auth);
    raw_send(fd, proof1, sizeof(proof1));
    n = mdl_auth_output(&auth, &out);
    raw_send(fd, out, n);
    raw_send(fd, data1, sizeof(data1));
    expect_bytes(fd, data1, sizeof(data1));
    raw_send(fd, end0, sizeof(end0));
    expect_bytes(fd, end0, sizeof(end0));
    ck_assert_int_eq(nserved, 2);
    close(fd);
    AWAIT(served_ended() == 2);
    close_service();
}
END_TEST

/* Each on a connection of its own, which must end, and nothing else. */
START_TEST(nonsense_ends_the_connection)
{
    static const uint8_t cases[][12] = {
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},         /* no type */
        {0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0},         /* an unknown one */
        {0, 0, 0, 0, 2, 5, 0, 0, 0, 0, 0, 0},         /* five descriptors */
        {0, 0, 0, 0, 2, 0, 0, 0, 1, 0x80, 1, 0},      /* a byte too long */
        {0, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255}, /* 4 GiB */
        {0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},         /* opens channel 0 again */
    };
    struct end e;
    open_service();
    start(&e, MDL_PURPOSE_CONTROL, 3);
    settle(&e);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = raw_trunk();
        raw_send(fd, cases[i], sizeof(cases[i]));
        ck_assert_int_eq(raw_closed(fd), 0);
        AWAIT(served_ended() == (int)i + 1);
    }
    send_to(&e, "x", 1);
    AWAIT(e.messages == 1);
    close_end(&e);
    close_service();
}
END_TEST

/* A channel without a handshake, or with a bad one, is closed alone; what comes for one that is not there is ignored.
 */
START_TEST(a_bad_link_ends_alone)
{
    static const uint8_t empty[] = {1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 'n', 'o', 'p', 'e'},
                         end1[] = {1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0},
                         nowhere[] = {77, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, '?', 88, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0},
                         data[] = {0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'x'};
    open_service();
    int fd = raw_trunk();
    raw_send(fd, empty, sizeof(empty));
    expect_bytes(fd, end1, sizeof(end1));
    raw_send(fd, nowhere, sizeof(nowhere));
    raw_send(fd, data, sizeof(data));
    expect_bytes(fd, data, sizeof(data));
    close(fd);
    AWAIT(served_ended() == 1);
    close_service();
}
END_TEST

UNIT_MAIN("channel", many_links_have_one_connection, the_last_one_to_leave_hangs_up, either_side_can_end_a_link,
          who_is_not_served_disturbs_nobody, descriptors_come_with_their_message, a_full_socket_loses_nothing,
          a_closed_link_owes_nothing, frames_are_as_documented, nonsense_ends_the_connection, a_bad_link_ends_alone)
