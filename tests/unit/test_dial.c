/* SPDX-License-Identifier: Apache-2.0 */
/* Dials: the order of attempts, what they say when they fail, deadlines, retries, cancelling at any moment, and
 * servers that are not what they seem. */
#include "config.h"
#include "tests/unit/door.h"
#include "tests/unit/handshake.h"
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>

static struct mdl_link dialled;

static medleyResult_t try_dial(const struct mdl_dial_args *args) { return mdl_dial_wait(args, NULL, &dialled); }

static void says(const char *words) { ck_assert_msg(strstr(mdl_error_text(), words) != NULL, "%s", mdl_error_text()); }

static void formats(const struct mdl_addr *a, char text[MDL_ADDR_TEXT_BYTES]) { mdl_addr_format(a, text); }

/* ---- servers that are not a door: one connection each, on a thread ---- */

struct impostor {
    pthread_t thread;
    int listener;
    struct mdl_addr addr;
    struct hs_service service;
    uint16_t min, max;
    size_t got_after; /* bytes that came after the answer */
    atomic_int accepted, may_answer;
};

static void impostor_shake(struct impostor *m, int fd)
{
    struct mdl_auth auth;
    uint8_t hello[MDL_AUTH_HELLO_BYTES], answer[MDL_AUTH_ANSWER_BYTES], more[256];
    mdl_auth_server_init(&auth, m->min, m->max, hs_lookup, &m->service, NULL);
    if (recv(fd, hello, sizeof(hello), MSG_WAITALL) != sizeof(hello)) return;
    hs_feed(&auth, hello, sizeof(hello), 1000);
    atomic_store_explicit(&m->accepted, 1, memory_order_release); /* pairs with the tests that wait for it */
    while (!atomic_load_explicit(&m->may_answer, memory_order_acquire)) sched_yield();
    raw_send(fd, answer, hs_drain(&auth, answer, 1000));
    ssize_t n;
    while ((n = recv(fd, more, sizeof(more), 0)) > 0) m->got_after += (size_t)n;
}

static void *impostor_run(void *arg)
{
    struct impostor *m = arg;
    int fd = accept(m->listener, NULL, NULL);
    if (fd < 0) return NULL;
    impostor_shake(m, fd);
    close(fd);
    return NULL;
}

/* With our key, rank 3 and our versions, answering at once: tests change what they want before `go`. */
static void prepare(struct impostor *m)
{
    memset(m, 0, sizeof(*m));
    m->listener = raw_listen(&m->addr);
    m->service = (struct hs_service){.secret = secret, .purpose = MDL_PURPOSE_CONTROL, .rank = 3};
    m->min = MDL_WIRE_VERSION_MIN;
    m->max = MDL_WIRE_VERSION;
    m->may_answer = 1;
}

static void go(struct impostor *m) { ck_assert_int_eq(pthread_create(&m->thread, NULL, impostor_run, m), 0); }

static void finish(struct impostor *m)
{
    pthread_join(m->thread, NULL);
    close(m->listener);
}

/* ---- failures and their words ---- */

START_TEST(nobody_listens)
{
    char text[2][MDL_ADDR_TEXT_BYTES], both[200];
    struct mdl_addr list[3] = {free_address(), free_address()};
    uint8_t name[MDL_ADDR_UNIX_BYTES] = {9};
    open_door();
    mdl_addr_unix(name, &list[2]);
    struct mdl_dial_args args = dial_args(3, list, 3, 20000);
    uint64_t start = mdl_now_ns();
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    ck_assert_uint_lt(mdl_now_ns() - start, unit_ns(5));
    formats(&list[0], text[0]);
    formats(&list[1], text[1]);
    snprintf(both, sizeof(both), ": %s, %s, unix:0900", text[0], text[1]); /* one reason for all */
    says("cannot connect to rank 3");
    says(both);
    says("Connection refused");
    says("firewall");
    says("MEDLEY_SOCKET_IFNAME");
    mdl_door_put(door);
}
END_TEST

START_TEST(each_address_has_its_reason)
{
    struct mdl_addr list[2] = {free_address()}, from;
    open_door();
    memset(&list[1], 0, sizeof(list[1]));
    list[1].sa.ss_family = AF_INET6;
    ((struct sockaddr_in6 *)&list[1].sa)->sin6_addr = in6addr_loopback;
    list[1].len = sizeof(struct sockaddr_in6);
    mdl_addr_set_port(&list[1], 9);
    from = addrs[0]; /* IPv4: nothing to reach IPv6 from */
    struct mdl_dial_args args = dial_args(-1, list, 2, 20000);
    args.bind = &from;
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    says("cannot connect to the peer");
    says("Connection refused; [::1]:9: ");
    mdl_door_put(door);
}
END_TEST

START_TEST(a_dial_needs_addresses)
{
    open_door();
    struct mdl_dial_args args = dial_args(3, addrs, 0, 1000);
    ck_assert_int_eq(try_dial(&args), medleyInvalidArgument);
    args.naddrs = MDL_MAX_ADDRS + 1;
    ck_assert_int_eq(try_dial(&args), medleyInvalidArgument);
    mdl_door_put(door);
}
END_TEST

/* The system completes the connection, nobody shakes hands: not a refusal, so it lasts until the deadline. */
START_TEST(silence_ends_at_the_deadline)
{
    struct mdl_addr addr;
    int listener = raw_listen(&addr);
    load_config("127.0.0.1");
    cfg.auth_timeout = 100;
    get_door();
    struct mdl_dial_args args = dial_args(3, &addr, 1, 250);
    uint64_t start = mdl_now_ns();
    ck_assert_int_eq(try_dial(&args), medleyTimeout);
    uint64_t ms = (mdl_now_ns() - start) / MDL_NS_PER_MS;
    ck_assert_msg(ms >= 250 && ms < unit_ns(2) / MDL_NS_PER_MS, "%d ms", (int)ms);
    says("cannot connect to rank 3 within ");
    says("accepted the connection but did not shake hands in time");
    close(listener);
    mdl_door_put(door);
}
END_TEST

START_TEST(a_deadline_in_the_past_ends_at_once)
{
    struct mdl_addr addr;
    int listener = raw_listen(&addr);
    open_door();
    struct mdl_dial_args args = dial_args(3, &addr, 1, 0);
    ck_assert_int_eq(try_dial(&args), medleyTimeout);
    close(listener);
    mdl_door_put(door);
}
END_TEST

/* Nobody serves the rank: a few tries, because the server may only have been busy, then an error. */
START_TEST(a_hangup_is_explained)
{
    open_door();
    struct mdl_dial_args args = dial_args(5, addrs, 1, 20000);
    uint64_t start = mdl_now_ns();
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    ck_assert_uint_lt(mdl_now_ns() - start, unit_ns(5));
    says("hung up during the handshake: it does not serve this rank (yet), or has another key");
    ck_assert_int_ge(log_count("nobody here serves"), 2);
    mdl_door_put(door);
}
END_TEST

/* No descriptor can be had from now on; returns the limit until then. */
static struct rlimit take_descriptors(void)
{
    struct rlimit old, low;
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    int top = dup(0);
    low.rlim_cur = (rlim_t)top;
    close(top);
    setrlimit(RLIMIT_NOFILE, &low);
    return old;
}

static void open_brisk_door(void)
{
    load_config("127.0.0.1");
    cfg.auth_timeout = 300;
    get_door();
}

START_TEST(no_descriptor_is_a_system_error)
{
    open_brisk_door();
    struct rlimit old = take_descriptors();
    struct mdl_dial_args args = dial_args(3, addrs, naddrs, 20000);
    args.retry_refused = true;
    ck_assert_int_eq(try_dial(&args), medleySystemError);
    says("ulimit -n");
    setrlimit(RLIMIT_NOFILE, &old);
    mdl_door_put(door);
}
END_TEST

static void *give_descriptors(void *arg)
{
    usleep(150 * 1000); /* some tries */
    setrlimit(RLIMIT_NOFILE, arg);
    return NULL;
}

/* Strangers may hold them, until the door has had enough of them. */
START_TEST(a_lack_of_descriptors_that_passes_is_waited_out)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    pthread_t thread;
    load_config("127.0.0.1");
    get_door(); /* with the usual patience: the machine may be slow */
    serve(3, &in, &service);
    struct rlimit old = take_descriptors();
    ck_assert_int_eq(pthread_create(&thread, NULL, give_descriptors, &old), 0);
    struct mdl_dial_args args = dial_args(3, addrs, 1, 20000);
    ck_assert_msg(try_dial(&args) == medleySuccess, "%s", mdl_error_text());
    pthread_join(thread, NULL);
    wait_links(&in, 1);
    close(dialled.fd);
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

/* ---- impostors ---- */

static void meets(struct impostor *m, medleyResult_t result, const char *words)
{
    struct mdl_dial_args args = dial_args(3, &m->addr, 1, 20000);
    go(m);
    ck_assert_int_eq(try_dial(&args), result);
    if (words) says(words);
    finish(m);
    ck_assert_uint_eq(m->got_after, 0); /* it never gets a proof */
}

START_TEST(a_server_of_other_versions_is_named)
{
    struct impostor m;
    char words[200], text[MDL_ADDR_TEXT_BYTES];
    open_door();
    prepare(&m);
    m.min = MDL_WIRE_VERSION + 1;
    m.max = MDL_WIRE_VERSION + 2;
    formats(&m.addr, text);
    snprintf(words, sizeof(words), "%s: rank 3 speaks wire versions 2..3, this build 1..1: upgrade one side", text);
    meets(&m, medleyInvalidUsage, words);
    mdl_door_put(door);
}
END_TEST

/* A refusal under the right MAC is final, whatever other addresses could still do. */
START_TEST(a_refused_version_ends_the_dial)
{
    struct impostor m;
    struct mdl_addr list[2];
    open_door();
    prepare(&m);
    m.min = m.max = MDL_WIRE_VERSION + 1;
    list[0] = m.addr;
    int silent = raw_listen(&list[1]);
    struct mdl_dial_args args = dial_args(3, list, 2, 30000);
    args.retry_refused = true;
    uint64_t start = mdl_now_ns();
    go(&m);
    ck_assert_int_eq(try_dial(&args), medleyInvalidUsage);
    ck_assert_uint_lt(mdl_now_ns() - start, unit_ns(5));
    says("speaks wire versions 2..2, this build 1..1");
    finish(&m);
    close(silent);
    mdl_door_put(door);
}
END_TEST

/* Docker gives every host the same bridge address: who is there is often oneself, with the same key. */
START_TEST(another_rank_does_not_answer)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    open_door();
    serve(7, &in, &service);
    struct mdl_dial_args args = dial_args(3, addrs, 1, 20000);
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    says("does not serve this rank");
    ck_assert_int_eq(count_links(&in), 0);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

static void *garbage_run(void *arg)
{
    struct impostor *m = arg;
    int fd = accept(m->listener, NULL, NULL);
    raw_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    m->got_after = 0;
    raw_closed(fd);
    return NULL;
}

START_TEST(another_protocol_is_named)
{
    struct impostor m;
    open_door();
    prepare(&m);
    ck_assert_int_eq(pthread_create(&m.thread, NULL, garbage_run, &m), 0);
    struct mdl_dial_args args = dial_args(3, &m.addr, 1, 20000);
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    says("not a Medley process");
    finish(&m);
    mdl_door_put(door);
}
END_TEST

/* Answers like a server, but cannot know the key. */
static void *keyless_run(void *arg)
{
    struct impostor *m = arg;
    uint8_t hello[MDL_AUTH_HELLO_BYTES], answer[MDL_AUTH_ANSWER_BYTES] = "MEDLEY\r\n\0\0\1\0\3";
    int fd = accept(m->listener, NULL, NULL);
    ck_assert_int_eq(recv(fd, hello, sizeof(hello), MSG_WAITALL), sizeof(hello));
    raw_send(fd, answer, sizeof(answer));
    m->got_after = raw_closed(fd);
    return NULL;
}

START_TEST(a_server_without_the_key_gets_no_proof)
{
    struct impostor m;
    open_door();
    prepare(&m);
    ck_assert_int_eq(pthread_create(&m.thread, NULL, keyless_run, &m), 0);
    struct mdl_dial_args args = dial_args(3, &m.addr, 1, 20000);
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    says("it does not know the communicator's key");
    finish(&m);
    ck_assert_uint_eq(m.got_after, 0);
    mdl_door_put(door);
}
END_TEST

/* ---- several addresses ---- */

START_TEST(a_dead_address_costs_its_head_start_only)
{
    struct mdl_addr list[3];
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    int listener = raw_listen(&list[0]); /* accepts, never answers */
    open_door();
    serve(3, &in, &service);
    list[1] = free_address(); /* refuses at once: costs nothing */
    list[2] = addrs[0];
    struct mdl_dial_args args = dial_args(3, list, 3, 20000);
    uint64_t start = mdl_now_ns();
    ck_assert_msg(try_dial(&args) == medleySuccess, "%s", mdl_error_text());
    uint64_t ms = (mdl_now_ns() - start) / MDL_NS_PER_MS;
    ck_assert_msg(ms >= 250 && ms < unit_ns(5) / MDL_NS_PER_MS, "%d ms", (int)ms);
    ck_assert(mdl_addr_same_host(&dialled.remote, &addrs[0]));
    wait_links(&in, 1);
    close(dialled.fd);
    close_links(&in);
    close(listener);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

/* The loser of the race has answered well, too, but late: it is closed without a proof, so it never saw a link. */
START_TEST(only_one_server_gets_a_proof)
{
    struct mdl_addr list[2];
    struct impostor m;
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    open_door();
    serve(3, &in, &service);
    prepare(&m);
    m.may_answer = 0;
    go(&m);
    list[0] = m.addr;
    list[1] = addrs[0];
    struct mdl_dial_args args = dial_args(3, list, 2, 20000);
    ck_assert_msg(try_dial(&args) == medleySuccess, "%s", mdl_error_text());
    ck_assert_int_eq(atomic_load_explicit(&m.accepted, memory_order_acquire), 1);
    atomic_store_explicit(&m.may_answer, 1, memory_order_release);
    finish(&m);
    ck_assert_uint_eq(m.got_after, 0);
    wait_links(&in, 1);
    close(dialled.fd);
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

/* ---- retries ---- */

static void *dial_thread(void *arg)
{
    ck_assert_msg(try_dial(arg) == medleySuccess, "%s", mdl_error_text());
    return NULL;
}

/* The first tries are turned away; only then is the rank served. */
START_TEST(a_service_that_comes_later_is_found)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    pthread_t thread;
    open_door();
    struct mdl_dial_args args = dial_args(3, addrs, 1, 20000);
    args.retry_refused = true;
    ck_assert_int_eq(pthread_create(&thread, NULL, dial_thread, &args), 0);
    while (!log_count("nobody here serves")) sched_yield();
    serve(3, &in, &service);
    pthread_join(thread, NULL);
    wait_links(&in, 1);
    close(dialled.fd);
    close_links(&in);
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

START_TEST(retries_end_at_the_deadline_and_do_not_hammer)
{
    struct mdl_addr addr = free_address();
    open_door();
    struct mdl_dial_args args = dial_args(3, &addr, 1, 400);
    args.retry_refused = true;
    uint64_t start = mdl_now_ns();
    ck_assert_int_eq(try_dial(&args), medleyTimeout);
    ck_assert_uint_ge(mdl_now_ns() - start, 400 * MDL_NS_PER_MS);
    says("Connection refused");
    says(" within ");

    int tries = 0; /* the door is there, the rank is not: it can count the tries */
    double took = 0;
    for (int ms = 1000; tries < 4 && ms <= 16000; ms *= 4) {
        tries = -log_count("nobody here serves");
        args = dial_args(5, addrs, 1, ms);
        args.retry_refused = true;
        start = mdl_now_ns();
        ck_assert_int_eq(try_dial(&args), medleyTimeout);
        took = (double)(mdl_now_ns() - start) / 1e9;
        tries += log_count("nobody here serves");
    }
    ck_assert_msg(tries >= 4 && tries <= 10 + 10 * took, "%d tries in %.1f s", tries, took);
    mdl_door_put(door);
}
END_TEST

/* ---- the local end ---- */

START_TEST(the_source_address_is_bound)
{
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    struct mdl_addr from;
    int n;
    open_door();
    serve(3, &in, &service);
    ck_assert_int_eq(mdl_addr_parse("127.0.0.2:77", &from, 1, &n), medleySuccess);
    struct mdl_dial_args args = dial_args(3, addrs, 1, 20000);
    args.bind = &from;
    ck_assert_msg(try_dial(&args) == medleySuccess, "%s", mdl_error_text());
    ck_assert(mdl_addr_same_host(&dialled.local, &from));
    ck_assert_int_ne(mdl_addr_port(&dialled.local), 77); /* the port is not bound */
    wait_links(&in, 1);
    ck_assert(mdl_addr_same_host(&in.last.remote, &from));
    close(dialled.fd);
    close_links(&in);
    ck_assert_int_eq(mdl_addr_parse("192.0.2.77:1", &from, 1, &n), medleySuccess); /* not ours */
    ck_assert_int_eq(try_dial(&args), medleyRemoteError);
    says("assign requested address");
    mdl_door_unserve(service);
    mdl_door_put(door);
}
END_TEST

START_TEST(a_connection_to_itself_is_refused)
{
    struct mdl_addr self;
    int fd = raw_socket(AF_INET);
    close(raw_listen(&self));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&self.sa, self.len), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&self.sa, self.len), 0);
    ck_assert_int_eq(mdl_sock_connected(fd), ECONNREFUSED);
    close(fd);
}
END_TEST

/* ---- ending it early ---- */

static void *raise_abort(void *arg)
{
    while (!log_count("nobody here serves")) sched_yield();
    __atomic_store_n((uint32_t *)arg, 1, __ATOMIC_RELAXED);
    return NULL;
}

START_TEST(the_abort_word_ends_the_wait)
{
    uint32_t word = 0;
    pthread_t thread;
    open_door();
    struct mdl_dial_args args = dial_args(3, addrs, 1, 60000);
    args.retry_refused = true;
    ck_assert_int_eq(pthread_create(&thread, NULL, raise_abort, &word), 0);
    uint64_t start = mdl_now_ns();
    ck_assert_int_eq(mdl_dial_wait(&args, &word, &dialled), medleyRemoteError);
    ck_assert_uint_lt(mdl_now_ns() - start, unit_ns(10));
    says("aborted while connecting to rank 3");
    pthread_join(thread, NULL);
    ck_assert_int_eq(mdl_dial_wait(&args, &word, &dialled), medleyRemoteError); /* set before */
    mdl_door_put(door);
}
END_TEST

static void wait_inside(void *arg)
{
    struct mdl_dial_args *args = arg;
    ck_assert_int_eq(try_dial(args), medleyInternalError);
}

START_TEST(the_monitor_does_not_wait_for_itself)
{
    open_door();
    struct mdl_dial_args args = dial_args(3, addrs, 1, 1000);
    mdl_reactor_call(mdl_door_reactor(door), wait_inside, &args);
    mdl_door_put(door);
}
END_TEST

struct call {
    struct mdl_dial *dial;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
    medleyResult_t result;
    bool cancel;
};

static void on_done(void *ctx, medleyResult_t result, const char *why, const struct mdl_link *link)
{
    struct call *c = ctx;
    ck_assert_int_eq(result == medleySuccess, link != NULL);
    ck_assert_int_eq(result == medleySuccess, why == NULL);
    if (link) close(link->fd);
    if (c->cancel) mdl_dial_cancel(c->dial);
    pthread_mutex_lock(&c->lock);
    c->count++;
    c->result = result;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void wait_done(struct call *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->count) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

#define CALL_INIT                                                                                                      \
    {                                                                                                                  \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                                         \
    }

START_TEST(a_dial_can_be_cancelled_in_its_callback)
{
    struct mdl_addr nobody = free_address();
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    open_door();
    serve(3, &in, &service);
    const struct mdl_addr *targets[] = {&addrs[0], &nobody};
    for (int i = 0; i < 2; i++) {
        struct call c = CALL_INIT;
        c.cancel = true;
        struct mdl_dial_args args = dial_args(3, targets[i], 1, 20000);
        ck_assert_int_eq(mdl_dial_start(&args, on_done, &c, &c.dial), medleySuccess);
        wait_done(&c);
        ck_assert_int_eq(c.result, i ? medleyRemoteError : medleySuccess);
    }
    mdl_door_unserve(service);
    close_links(&in);
    mdl_door_put(door);
}
END_TEST

struct inside {
    struct mdl_dial_args args;
    struct call call;
};

static void start_and_cancel(void *arg)
{
    struct inside *s = arg;
    ck_assert_int_eq(mdl_dial_start(&s->args, on_done, &s->call, &s->call.dial), medleySuccess);
    mdl_dial_cancel(s->call.dial); /* before its task could run */
}

START_TEST(a_cancelled_dial_calls_nobody)
{
    struct mdl_addr addr;
    int listener = raw_listen(&addr), fds;
    open_door();
    fds = leaks_descriptors();
    struct inside s = {.args = dial_args(3, &addr, 1, 20000), .call = CALL_INIT};
    mdl_reactor_call(mdl_door_reactor(door), start_and_cancel, &s);
    for (int i = 0; i < 50; i++) {
        struct mdl_dial_args args = dial_args(3, &addr, 1, 20000);
        ck_assert_int_eq(mdl_dial_start(&args, on_done, &s.call, &s.call.dial), medleySuccess);
        mdl_dial_cancel(s.call.dial);
    }
    ck_assert_int_eq(s.call.count, 0);
    ck_assert_int_eq(leaks_descriptors(), fds);
    mdl_dial_cancel(NULL);
    close(listener);
    mdl_door_put(door);
}
END_TEST

/* Cancels land at every stage of the handshake: after each, the callback ran wholly or never, and nothing is left. */
static void *cancel_race(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < 200; i++) {
        struct call c = CALL_INIT;
        struct mdl_dial_args args = dial_args(3, addrs, naddrs, 20000);
        ck_assert_int_eq(mdl_dial_start(&args, on_done, &c, &c.dial), medleySuccess);
        for (int turns = rand_r(&seed) % 400; turns > 0; turns--) sched_yield();
        mdl_dial_cancel(c.dial);
        pthread_mutex_lock(&c.lock);
        int count = c.count;
        pthread_mutex_unlock(&c.lock);
        ck_assert_int_le(count, 1);
        if (count) ck_assert_int_eq(c.result, medleySuccess);
    }
    return NULL;
}

START_TEST(cancelling_races_completion)
{
    enum { THREADS = 2 };
    pthread_t threads[THREADS];
    struct inbox in = INBOX_INIT;
    struct mdl_service *service;
    int fds = leaks_descriptors();
    open_door();
    serve(3, &in, &service);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, cancel_race, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    mdl_door_unserve(service);
    close_links(&in);
    mdl_door_put(door);
    ck_assert_int_eq(leaks_descriptors(), fds);
}
END_TEST

UNIT_MAIN("dial", nobody_listens, each_address_has_its_reason, a_dial_needs_addresses, silence_ends_at_the_deadline,
          a_deadline_in_the_past_ends_at_once, a_hangup_is_explained, no_descriptor_is_a_system_error,
          a_lack_of_descriptors_that_passes_is_waited_out, a_server_of_other_versions_is_named,
          a_refused_version_ends_the_dial, another_rank_does_not_answer, another_protocol_is_named,
          a_server_without_the_key_gets_no_proof, a_dead_address_costs_its_head_start_only,
          only_one_server_gets_a_proof, a_service_that_comes_later_is_found,
          retries_end_at_the_deadline_and_do_not_hammer, the_source_address_is_bound, a_connection_to_itself_is_refused,
          the_abort_word_ends_the_wait, the_monitor_does_not_wait_for_itself, a_dial_can_be_cancelled_in_its_callback,
          a_cancelled_dial_calls_nobody, cancelling_races_completion)
