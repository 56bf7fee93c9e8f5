/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control links that are replaced: a plane whose neighbour is played by the test, which counts what is sent again (and
 * passes on calls to ranks that cannot be dialed); and
 * ranks whose sockets go deaf (a socket filter drops all that comes), as if their network were cut, while they send to
 * each other.
 */
#include "config.h"
#include "lib/boot/ctl.h"
#include "lib/base/log.h"
#include "tests/unit/boot_world.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <sys/socket.h>

enum { TYPE = MDL_CTL_USER + 6 };

static void drop_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user) {}

/* ---- the protocol, with the other side in our hands ---- */

enum { SELF = 1, OTHER = 5, NRANKS = 22 };

struct link {
    int fd, rank;
    uint64_t out, in;
};

static struct world_rank self;
static struct mdl_ctl *ctl;
static atomic_int taken;

static void on_message(void *ctx, int src, const uint8_t *payload, size_t len)
{
    ck_assert_int_eq(src, OTHER);
    ck_assert_uint_eq(len, 1);
    ck_assert_int_eq(payload[0], atomic_load(&taken));
    atomic_fetch_add_explicit(&taken, 1, memory_order_release);
}

static void plane_open_of(int nranks)
{
    struct mdl_secret secret = {{1}};
    ck_assert_int_eq(mdl_log_set_callback(drop_log, medleyLogNone, NULL), medleySuccess);
    world_config(&self.cfg);
    self.args = (struct mdl_boot_args){
        .config = &self.cfg, .rank = SELF, .nranks = nranks, .on_fault = world_on_fault, .ctx = &self};
    ck_assert_int_eq(mdl_ctl_create(&self.args, &self.cfg, &secret, 1, &ctl), medleySuccess);
    mdl_ctl_handle(ctl, TYPE, on_message, NULL);
}

static void plane_open(void) { plane_open_of(NRANKS); }

static void accept_inside(void *arg)
{
    struct link *l = arg;
    int pair[2];
    struct mdl_link link = {.peer_rank = l->rank};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    link.fd = pair[0];
    *l = (struct link){.fd = pair[1], .rank = l->rank};
    mdl_peer_accept(ctl, &link);
}

static void read_all(int fd, uint8_t *p, size_t len)
{
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    while (len) {
        ssize_t n = recv(fd, p, len, 0);
        ck_assert_int_gt(n, 0);
        p += n;
        len -= (size_t)n;
    }
}

/* The next frame is of this type; its payload. */
static size_t expect(struct link *l, int type, uint8_t payload[64])
{
    uint8_t head[MDL_FRAME_BYTES];
    struct mdl_frame f;
    read_all(l->fd, head, sizeof(head));
    ck_assert_ptr_null(mdl_frame_read(head, &f));
    ck_assert_int_eq(f.type, type);
    ck_assert_uint_eq(f.seq, l->in++);
    ck_assert_uint_le(f.length, 64);
    read_all(l->fd, payload, f.length);
    return f.length;
}

static void expect_message(struct link *l, uint8_t number)
{
    uint8_t payload[64];
    ck_assert_uint_eq(expect(l, TYPE, payload), 1);
    ck_assert_int_eq(payload[0], number);
}

/* Byte by byte, as docs/wire.md has it. */
static void expect_count(struct link *l, int type, uint8_t count)
{
    const uint8_t golden[8] = {count};
    uint8_t payload[64];
    ck_assert_int_eq(MDL_FRAME_BEAT, 17);
    ck_assert_int_eq(MDL_FRAME_RESUME, 25);
    ck_assert_uint_eq(expect(l, type, payload), sizeof(golden));
    ck_assert_mem_eq(payload, golden, sizeof(golden));
}

static void say(struct link *l, int type, int flags, const void *payload, size_t len)
{
    uint8_t bytes[MDL_FRAME_BYTES + 64];
    struct mdl_frame f = {.type = (uint8_t)type,
                          .flags = (uint16_t)flags,
                          .length = (uint32_t)len,
                          .src = (uint32_t)l->rank,
                          .dst = SELF,
                          .seq = l->out++};
    mdl_frame_write(bytes, &f);
    memcpy(bytes + MDL_FRAME_BYTES, payload, len);
    ck_assert_int_eq(send(l->fd, bytes, MDL_FRAME_BYTES + len, MSG_NOSIGNAL), (ssize_t)(MDL_FRAME_BYTES + len));
}

static void say_count(struct link *l, int type, int flags, uint64_t count)
{
    uint8_t payload[8];
    mdl_put_u64(payload, count);
    say(l, type, flags, payload, sizeof(payload));
}

static void say_message(struct link *l, uint8_t number) { say(l, TYPE, 0, &number, 1); }

static void link_of(struct link *l, int rank)
{
    uint8_t payload[64];
    l->rank = rank;
    mdl_reactor_call(ctl->reactor, accept_inside, l);
    ck_assert_uint_eq(expect(l, MDL_FRAME_HELLO, payload), 0);
}

static void new_link(struct link *l) { link_of(l, OTHER); }

static void send_number(uint8_t number) { ck_assert_int_eq(mdl_ctl_send(ctl, OTHER, TYPE, &number, 1), medleySuccess); }

START_TEST(what_is_missing_is_sent_again)
{
    struct link a, b, c;
    plane_open();
    new_link(&a);
    for (uint8_t i = 0; i < 3; i++) {
        send_number(i);
        expect_message(&a, i);
    }
    say_message(&a, 0);
    world_await(&taken, 1);
    /* The first of the three had come. */
    new_link(&b);
    say_count(&b, MDL_FRAME_RESUME, 0, 1);
    expect_count(&b, MDL_FRAME_RESUME, 1);
    expect_message(&b, 1);
    expect_message(&b, 2);
    send_number(3);
    expect_message(&b, 3);
    say_message(&b, 1);
    /* All had come; the next link has the same rules. */
    new_link(&c);
    say_count(&c, MDL_FRAME_RESUME, 0, 4);
    expect_count(&c, MDL_FRAME_RESUME, 2);
    close(a.fd);
    close(b.fd);
    say_message(&c, 2);
    world_await(&taken, 3);
    send_number(4);
    expect_message(&c, 4);
    ck_assert_int_eq(atomic_load(&self.faults), 0);
    mdl_ctl_close(ctl);
    close(c.fd);
}
END_TEST

/* It may be the one that the other side sends on, so the goodbye goes over all links. */
START_TEST(a_second_link_is_no_resumption)
{
    struct link links[3];
    plane_open();
    new_link(&links[0]);
    new_link(&links[1]);
    say_message(&links[1], 0);
    world_await(&taken, 1);
    send_number(0);
    expect_message(&links[0], 0);
    new_link(&links[2]);
    mdl_ctl_close(ctl);
    for (int i = 0; i < 3; i++) {
        expect_count(&links[i], MDL_FRAME_GOODBYE, 1);
        close(links[i].fd);
    }
}
END_TEST

/* ---- a goodbye waits for what was sent before it ---- */

static medleyResult_t gathered;
static uint8_t gathered_bytes[2];

static void *gather(void *arg)
{
    uint8_t mine = 7;
    gathered = mdl_ctl_allgather(ctl, &mine, 1, gathered_bytes, world_soon(10000), "test");
    return NULL;
}

static void say_result(struct link *l)
{
    const uint8_t blob[] = {0, 0, 0, 0, 1, 0, 0, 0, 6, SELF, 0, 0, 0, 1, 0, 0, 0, 7};
    uint8_t payload[24 + sizeof(blob)] = {[8] = sizeof(blob)};
    memcpy(payload + 24, blob, sizeof(blob));
    say(l, MDL_FRAME_GATHER_DOWN, 0, payload, sizeof(payload));
}

/* What was said on this link before has been handled: the answer comes over the first one. */
static void await_handling(struct link *on, struct link *first, uint8_t count)
{
    say_count(on, MDL_FRAME_BEAT, MDL_FRAME_ANSWER, 0);
    expect_count(first, MDL_FRAME_BEAT, count);
}

/* Two links to the parent, which leaves right after the exchange; its goodbye overtakes the result. `lost`: the link
 * with the result ends before it comes. */
static void overtake(bool lost, medleyResult_t result)
{
    struct link first, second;
    uint8_t payload[64];
    pthread_t thread;
    plane_open_of(2);
    link_of(&first, 0);
    link_of(&second, 0);
    say_count(&second, MDL_FRAME_BEAT, 0, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, gather, NULL), 0);
    expect(&first, MDL_FRAME_GATHER_UP, payload);
    say_count(&second, MDL_FRAME_GOODBYE, 0, 1);
    await_handling(&second, &first, 0);
    close(second.fd);
    if (lost)
        close(first.fd);
    else
        say_result(&first);
    pthread_join(thread, NULL);
    ck_assert_msg(gathered == result, "result %d", gathered);
    if (!lost) ck_assert_mem_eq(gathered_bytes, ((uint8_t[]){6, 7}), 2);
    ck_assert_int_eq(atomic_load(&self.faults), 0);
    mdl_ctl_close(ctl);
    if (!lost) close(first.fd);
}

START_TEST(a_goodbye_waits_for_the_result) { overtake(false, medleySuccess); }
END_TEST

START_TEST(a_goodbye_waits_no_longer_than_its_links) { overtake(true, medleyRemoteError); }
END_TEST

/* A heartbeat says what was taken: it needs not be kept any longer. */
START_TEST(heartbeats_tell_what_was_taken)
{
    struct link a, b;
    plane_open();
    new_link(&a);
    for (uint8_t i = 0; i < 3; i++) {
        send_number(i);
        expect_message(&a, i);
    }
    say_message(&a, 0);
    say_count(&a, MDL_FRAME_BEAT, MDL_FRAME_ANSWER, 2);
    expect_count(&a, MDL_FRAME_BEAT, 1);
    new_link(&b);
    say_count(&b, MDL_FRAME_RESUME, 0, 1);
    world_await(&self.faults, 1);
    ck_assert_msg(strstr(self.fault_text, "under way are lost") != NULL, "%s", self.fault_text);
    mdl_ctl_close(ctl);
    close(a.fd);
    close(b.fd);
}
END_TEST

START_TEST(nonsense_resumptions)
{
    struct link a, b;
    for (int kind = 0; kind < 3; kind++) {
        memset(&self, 0, sizeof(self));
        plane_open();
        new_link(&a);
        new_link(&b);
        if (kind == 0) say_count(&b, MDL_FRAME_RESUME, 0, 1); /* nothing was sent */
        if (kind == 1) say_count(&a, MDL_FRAME_RESUME, 0, 0); /* the link in use */
        if (kind == 2) say(&b, MDL_FRAME_RESUME, 0, "1234567", 7);
        world_await(&self.faults, 1);
        ck_assert_msg(strstr(self.fault_text, "makes no sense") != NULL, "%s", self.fault_text);
        mdl_ctl_close(ctl);
        close(a.fd);
        close(b.fd);
    }
}
END_TEST

/* ---- calls ---- */

static void say_call(struct link *l, uint32_t from, uint32_t target)
{
    uint8_t payload[8];
    mdl_put_u32(payload, from);
    mdl_put_u32(payload + 4, target);
    say(l, MDL_FRAME_CALL, 0, payload, sizeof(payload));
}

static void expect_call(struct link *l, uint8_t from, uint8_t target)
{
    const uint8_t golden[8] = {from, 0, 0, 0, target};
    uint8_t payload[64];
    ck_assert_int_eq(MDL_FRAME_CALL, 26);
    ck_assert_uint_eq(expect(l, MDL_FRAME_CALL, payload), sizeof(golden));
    ck_assert_mem_eq(payload, golden, sizeof(golden));
}

START_TEST(calls_travel_along_the_tree)
{
    struct link top, child;
    plane_open();
    link_of(&top, 0);
    link_of(&child, OTHER);
    say_call(&top, 3, 21); /* below OTHER */
    expect_call(&child, 3, 21);
    say_call(&child, 21, 2);
    expect_call(&top, 21, 2);
    /* Back, to nobody, and from nobody: dropped. What comes after them is the next that is heard. */
    say_call(&child, 2, 21);
    say_call(&child, 2, NRANKS);
    say_call(&child, NRANKS, 2);
    say(&child, MDL_FRAME_CALL, 0, "1234567", 7);
    say_call(&child, 21, 4);
    expect_call(&top, 21, 4);
    say_call(&top, 3, OTHER);
    expect_call(&child, 3, OTHER);
    ck_assert_int_eq(atomic_load(&self.faults), 0);
    mdl_ctl_close(ctl);
    close(top.fd);
    close(child.fd);
}
END_TEST

/* ---- ranks whose sockets go deaf ---- */

enum { WORLD = 3, CUTS = 3 };
static struct world world;
static atomic_int got[WORLD], done, deaf, cuts;

static void on_number(void *ctx, int src, const uint8_t *payload, size_t len)
{
    const struct world_rank *r = ctx;
    ck_assert_int_eq(src, (r->rank + 1) % WORLD);
    ck_assert_uint_eq(len, 4);
    ck_assert_int_eq((int)mdl_get_u32(payload), atomic_load(&got[r->rank])); /* none twice, none lost */
    atomic_fetch_add(&got[r->rank], 1);
}

static void deafen(const struct mdl_wire *w)
{
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {1, &none};
    if (!w || mdl_wire_link(w)->local.sa.ss_family == AF_UNIX) return;
    ck_assert_int_eq(setsockopt(mdl_wire_link(w)->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
    atomic_fetch_add(&deaf, 1);
}

/* All links that the plane has now. */
static void cut_links(void *arg)
{
    struct mdl_ctl *c = arg;
    mdl_list_each (it, &c->known) {
        const struct mdl_ctl_peer *p = mdl_container_of(it, struct mdl_ctl_peer, link);
        deafen(p->out);
        deafen(p->in);
    }
}

/* One rank cuts one direction of its links; the next time all cut all. A cut is over when messages come again, which
 * rank 0 counts. Returns the number that ends the cut. */
static int cut_or_wait(struct world_rank *r, int i, int until)
{
    int now = atomic_load(&got[r->rank]);
    if (now < until) return until;
    if (until && r->rank == 0) atomic_fetch_add(&cuts, 1);
    if (i % 100 || (r->rank > 0 && atomic_load(&cuts) != 1)) return 0;
    mdl_reactor_call(r->ctl->reactor, cut_links, r->ctl);
    return now + 50;
}

/* Sends until there were enough cuts, then waits for what the other one sent. */
static void send_on(struct world_rank *r)
{
    static atomic_int sent[WORLD];
    int to = (r->rank + WORLD - 1) % WORLD, from = (r->rank + 1) % WORLD, until = 0;
    uint8_t number[4];
    mdl_ctl_handle(r->ctl, TYPE, on_number, r);
    for (int i = 0; atomic_load(&cuts) < CUTS; i++) {
        mdl_put_u32(number, (uint32_t)i);
        ck_assert_int_eq(mdl_ctl_send(r->ctl, to, TYPE, number, sizeof(number)), medleySuccess);
        atomic_store(&sent[r->rank], i + 1);
        usleep(500);
        until = cut_or_wait(r, i, until);
    }
    pthread_barrier_wait(&world.barrier);
    world_await(&got[r->rank], atomic_load(&sent[from]));
    atomic_fetch_add(&done, 1);
    pthread_barrier_wait(&world.barrier);
}

START_TEST(deaf_sockets)
{
    ck_assert_int_eq(mdl_log_set_callback(drop_log, medleyLogNone, NULL), medleySuccess);
    world_init(&world, WORLD);
    world.cfg.heartbeat = 50;
    world.cfg.dead_after = 3000;
    for (int i = 0; i < WORLD; i++) {
        world.ranks[i].cfg = world.cfg;
        snprintf(world.ranks[i].cfg.host_id.s, sizeof(world.cfg.host_id.s), "host %d", i);
    }
    world_make_id(&world);
    world.body = send_on;
    world_run(&world);
    world_all_say(&world, medleySuccess, "");
    ck_assert_int_eq(atomic_load(&done), WORLD);
    ck_assert_int_gt(atomic_load(&deaf), 0);
    for (int i = 0; i < WORLD; i++)
        ck_assert_msg(atomic_load(&world.ranks[i].faults) == 0, "rank %d: %s", i, world.ranks[i].fault_text);
}
END_TEST

UNIT_MAIN("ctl_resume", what_is_missing_is_sent_again, a_second_link_is_no_resumption, a_goodbye_waits_for_the_result,
          a_goodbye_waits_no_longer_than_its_links, heartbeats_tell_what_was_taken,
          nonsense_resumptions, calls_travel_along_the_tree, deaf_sockets)
