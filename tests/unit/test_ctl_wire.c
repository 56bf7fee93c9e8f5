/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wires over a socket pair of which the test holds the other end, and a plane whose neighbours are all played by the
 * test: what comes whole, in pieces, damaged, too fast and too late.
 */
#include "config.h"
#include "lib/boot/ctl.h"
#include "lib/base/log.h"
#include "tests/unit/boot_world.h"
#include "tests/unit/leaks.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/socket.h>

/* ---- a wire and the test at its other end ---- */

struct rig {
    struct mdl_reactor *reactor;
    struct mdl_wire *wire;
    int fd; /* the test's end */
    atomic_int frames, ends;
    size_t bytes;
    uint8_t last_type;
    enum mdl_wire_end how;
    char why[160];
    int close_at; /* closes the wire in the callback of this frame */
    atomic_size_t charge;
};
static struct rig rig;

static void on_frame(struct mdl_wire *w, const struct mdl_frame *frame, const uint8_t *payload)
{
    struct rig *g = mdl_wire_ctx(w);
    for (uint32_t i = 0; i < frame->length; i++)
        if (payload[i] != (uint8_t)(frame->seq + i)) g->last_type = 0;
    g->bytes += frame->length;
    g->last_type = frame->type;
    if (atomic_load(&g->frames) + 1 == g->close_at) {
        mdl_wire_close(w);
        g->wire = NULL;
    }
    atomic_fetch_add_explicit(&g->frames, 1, memory_order_release);
}

static void on_end(struct mdl_wire *w, enum mdl_wire_end how, const char *why)
{
    struct rig *g = mdl_wire_ctx(w);
    g->how = how;
    snprintf(g->why, sizeof(g->why), "%s", why);
    mdl_wire_close(w);
    g->wire = NULL;
    atomic_fetch_add_explicit(&g->ends, 1, memory_order_release);
}

static const struct mdl_wire_use use = {on_frame, on_end};

static void open_inside(void *arg)
{
    int pair[2];
    struct mdl_link link = {.peer_rank = 7};
    struct mdl_wire_args args = {.reactor = rig.reactor, .use = &use, .ctx = &rig, .self = 3, .peer = 7};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    link.fd = pair[0];
    rig.fd = pair[1];
    ck_assert_int_eq(mdl_wire_open(&args, &link, &rig.wire), medleySuccess);
}

static void rig_open(void)
{
    memset(&rig, 0, sizeof(rig));
    ck_assert_int_eq(mdl_reactor_get("", &rig.reactor), medleySuccess);
    mdl_reactor_call(rig.reactor, open_inside, NULL);
}

static void close_inside(void *arg)
{
    mdl_wire_close(rig.wire);
    rig.wire = NULL;
}

static void rig_close(void)
{
    mdl_reactor_call(rig.reactor, close_inside, NULL);
    mdl_reactor_put(rig.reactor);
    close(rig.fd);
}

static size_t put_frame(uint8_t *at, int type, uint64_t seq, uint32_t len)
{
    struct mdl_frame f = {.type = (uint8_t)type, .length = len, .src = 7, .dst = 3, .seq = seq};
    mdl_frame_write(at, &f);
    for (uint32_t i = 0; i < len; i++) at[MDL_FRAME_BYTES + i] = (uint8_t)(seq + i);
    return MDL_FRAME_BYTES + len;
}

static void write_all(const uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = send(rig.fd, p, len, MSG_NOSIGNAL);
        ck_assert_msg(n > 0, "%s", strerror(errno));
        p += n;
        len -= (size_t)n;
    }
}

static void ends_with(enum mdl_wire_end how, const char *say)
{
    world_await(&rig.ends, 1);
    ck_assert_int_eq(rig.how, how);
    ck_assert_msg(strstr(rig.why, say) != NULL, "%s", rig.why);
    ck_assert_ptr_null(rig.wire);
}

/* ---- receiving ---- */

static uint8_t stream[400000];

START_TEST(frames_in_any_pieces)
{
    size_t len = 0;
    uint64_t seq = 0;
    static const uint32_t lengths[] = {0, 1, 27, 28, 29, 4096, 0, 65536, 5};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        len += put_frame(stream + len, 70, seq++, lengths[i]);
    static const size_t pieces[] = {1, 3, 28, 29, 1000, 70000, sizeof(stream)};
    for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
        rig_open();
        size_t rest = pieces[p] == 1 ? 5000 : len; /* byte by byte is slow */
        for (size_t at = 0; at < rest; at += pieces[p])
            write_all(stream + at, rest - at < pieces[p] ? rest - at : pieces[p]);
        world_await(&rig.frames, pieces[p] == 1 ? 7 : (int)seq);
        rig_close();
        ck_assert_int_eq(rig.last_type, 70);
        ck_assert_int_eq(atomic_load(&rig.ends), 0);
    }
}
END_TEST

static void nonsense_ends(int at, uint8_t flip, const char *say)
{
    uint8_t bytes[100];
    rig_open();
    size_t len = put_frame(bytes, 70, 0, 10);
    len += put_frame(bytes + len, 70, 1, 10);
    bytes[38 + at] ^= flip;
    write_all(bytes, len);
    ends_with(MDL_WIRE_NONSENSE, say);
    ck_assert_int_eq(atomic_load(&rig.frames), 1); /* the good one came through */
    rig_close();
}

START_TEST(nonsense)
{
    nonsense_ends(0, 1, "magic");
    nonsense_ends(4, 2, "version");
    nonsense_ends(11, 0x80, "longer");
    nonsense_ends(12, 1, "another rank's name");
    nonsense_ends(16, 1, "another rank");
    nonsense_ends(20, 1, "sequence");
}
END_TEST

START_TEST(ends)
{
    uint8_t bytes[64];
    rig_open();
    size_t len = put_frame(bytes, 70, 0, 10);
    write_all(bytes, len);
    close(rig.fd);
    ends_with(MDL_WIRE_CLOSED, "the process died");
    ck_assert_int_eq(atomic_load(&rig.frames), 1);
    rig.fd = -1;
    rig_close();
    /* In the middle of a frame. */
    rig_open();
    write_all(bytes, len - 1);
    close(rig.fd);
    ends_with(MDL_WIRE_CLOSED, "the process died");
    rig.fd = -1;
    rig_close();
}
END_TEST

START_TEST(closed_in_its_own_callback)
{
    size_t len = 0;
    rig_open();
    rig.close_at = 3;
    for (uint64_t seq = 0; seq < 10; seq++) len += put_frame(stream + len, 70, seq, 100);
    write_all(stream, len);
    world_await(&rig.frames, 3);
    rig_close();
    ck_assert_int_eq(atomic_load(&rig.frames), 3);
    ck_assert_int_eq(atomic_load(&rig.ends), 0);
}
END_TEST

/* ---- sending ---- */

enum { BIG = 60000, MANY = 40 };

static void send_many(void *arg)
{
    static uint8_t payload[BIG];
    struct mdl_frame frame = {.type = 90};
    for (int i = 0; i < MANY; i++) {
        for (int k = 0; k < BIG; k++) payload[k] = (uint8_t)(i + k);
        atomic_fetch_add(&rig.charge, BIG);
        mdl_wire_send(rig.wire, &frame, payload, BIG, &rig.charge);
    }
    *(bool *)arg = mdl_wire_idle(rig.wire);
}

static void read_all(uint8_t *p, size_t len)
{
    while (len) {
        ssize_t n = recv(rig.fd, p, len, 0);
        ck_assert_msg(n > 0, "%s", n ? strerror(errno) : "end");
        p += n;
        len -= (size_t)n;
    }
}

/* More than the socket takes: it stays queued, and nobody waits. */
START_TEST(slow_reader)
{
    bool idle = true;
    rig_open();
    mdl_reactor_call(rig.reactor, send_many, &idle);
    ck_assert(!idle);
    ck_assert_uint_gt(atomic_load(&rig.charge), 0);
    for (int i = 0; i < MANY; i++) {
        struct mdl_frame frame;
        read_all(stream, MDL_FRAME_BYTES);
        ck_assert_ptr_null(mdl_frame_read(stream, &frame));
        ck_assert_uint_eq(frame.seq, (uint64_t)i);
        ck_assert_uint_eq(frame.src, 3);
        ck_assert_uint_eq(frame.length, BIG);
        read_all(stream, BIG);
        int wrong = 0;
        for (int k = 0; k < BIG; k++) wrong += stream[k] != (uint8_t)(i + k);
        ck_assert_int_eq(wrong, 0);
    }
    rig_close();
    ck_assert_uint_eq(atomic_load(&rig.charge), 0);
}
END_TEST

START_TEST(dropped_messages_are_not_charged)
{
    bool idle;
    rig_open();
    mdl_reactor_call(rig.reactor, send_many, &idle);
    rig_close();
    ck_assert_uint_eq(atomic_load(&rig.charge), 0);
}
END_TEST

/* The peer said something and is gone before we send: its word comes first, then the end. */
static void send_into_the_void(void *arg)
{
    bool idle;
    write_all(arg, MDL_FRAME_BYTES);
    close(rig.fd);
    send_many(&idle);
    ck_assert_int_eq(atomic_load(&rig.ends), 0); /* not inside the send */
}

START_TEST(last_words_are_heard)
{
    uint8_t bytes[MDL_FRAME_BYTES];
    rig_open();
    put_frame(bytes, 71, 0, 0);
    mdl_reactor_call(rig.reactor, send_into_the_void, bytes);
    world_await(&rig.ends, 1);
    ck_assert_int_eq(atomic_load(&rig.frames), 1);
    ck_assert_int_eq(rig.last_type, 71);
    rig.fd = -1;
    rig_close();
    ck_assert_uint_eq(atomic_load(&rig.charge), 0);
}
END_TEST

/* ---- a plane among liars ---- */

enum { NRANKS = 22, SELF = 1, NEIGHBOURS = 5 };
static const int neighbours[NEIGHBOURS] = {0, 5, 6, 7, 8};

struct liars {
    struct mdl_ctl *ctl;
    int fd[NEIGHBOURS];
    uint64_t seq[NEIGHBOURS];
};

static uint64_t state;

static uint32_t roll(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static void accept_liar(void *arg)
{
    struct liars *l = arg;
    for (int i = 0; i < NEIGHBOURS; i++) {
        int pair[2];
        struct mdl_link link = {.peer_rank = neighbours[i]};
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        link.fd = pair[0];
        l->fd[i] = pair[1];
        l->seq[i] = 0;
        mdl_peer_accept(l->ctl, &link);
    }
}

static void liars_open(struct liars *l, struct world_rank *r)
{
    struct mdl_secret secret = {{1}};
    memset(l, 0, sizeof(*l));
    world_config(&r->cfg);
    r->args =
        (struct mdl_boot_args){.config = &r->cfg, .rank = SELF, .nranks = NRANKS, .on_fault = world_on_fault, .ctx = r};
    ck_assert_int_eq(mdl_ctl_create(&r->args, &r->cfg, &secret, 1, &l->ctl), medleySuccess);
    mdl_reactor_call(l->ctl->reactor, accept_liar, l);
}

static void liars_close(struct liars *l)
{
    mdl_ctl_close(l->ctl);
    for (int i = 0; i < NEIGHBOURS; i++) close(l->fd[i]);
}

/* A payload that is nearly right for its type. */
static size_t lie(int type, uint8_t *p)
{
    struct mdl_writer w = {.p = p, .cap = 2000};
    struct mdl_missing missing = {.round = roll(3) ? 0 : roll(3)};
    struct mdl_trouble trouble = {.code = medleyTimeout, .origin = (int)roll(NRANKS), .text = "a lie"};
    static const uint8_t blob[64] = {5, 0, 0, 0, 4};
    struct mdl_chunk chunk = {.round = missing.round, .total = 12 + roll(4), .bytes = blob, .len = 1 + roll(12)};
    mdl_ranges_add(&missing.ranks, roll(NRANKS), NRANKS + roll(1000));
    if (type == MDL_FRAME_GATHER_UP || type == MDL_FRAME_GATHER_DOWN) mdl_chunk_write(&w, &chunk);
    if (type == MDL_FRAME_MISSING_UP || type == MDL_FRAME_MISSING_DOWN) mdl_missing_write(&w, &missing);
    if (type == MDL_FRAME_FAULT) mdl_trouble_write(&w, &trouble);
    if (type == MDL_FRAME_RESUME || type == MDL_FRAME_BEAT) mdl_write_u64(&w, roll(3));
    for (uint32_t n = roll(3); n && w.len; n--) p[roll((uint32_t)w.len)] = (uint8_t)roll(256);
    if (roll(8) == 0 && w.len) w.len = roll((uint32_t)w.len);
    return w.len;
}

static void tell_lie(struct liars *l)
{
    static const uint8_t types[] = {
        MDL_FRAME_HELLO,        MDL_FRAME_BEAT,       MDL_FRAME_GATHER_UP, MDL_FRAME_GATHER_DOWN, MDL_FRAME_MISSING_UP,
        MDL_FRAME_MISSING_DOWN, MDL_FRAME_FAULT_SEEN, MDL_FRAME_FAULT,     MDL_FRAME_GOODBYE,     MDL_CTL_USER,
        MDL_FRAME_GATHER_UP,    MDL_FRAME_MISSING_UP, MDL_FRAME_RESUME,      MDL_FRAME_CALL};
    uint8_t bytes[MDL_FRAME_BYTES + 2000];
    uint32_t i = roll(NEIGHBOURS);
    int type = roll(20) ? types[roll(sizeof(types) - (roll(4) ? 3 : 0))] : (int)roll(256);
    size_t len = lie(type, bytes + MDL_FRAME_BYTES);
    struct mdl_frame frame = {.type = (uint8_t)type,
                              .flags = (uint16_t)roll(2),
                              .length = (uint32_t)len,
                              .src = (uint32_t)neighbours[i],
                              .dst = SELF,
                              .seq = l->seq[i]++};
    mdl_frame_write(bytes, &frame);
    if (roll(40) == 0) bytes[roll(MDL_FRAME_BYTES)] ^= (uint8_t)(1u << roll(8));
    send(l->fd[i], bytes, MDL_FRAME_BYTES + len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (roll(60) == 0) shutdown(l->fd[i], SHUT_WR);
}

static void drop_log(medleyLogLevel_t level, const char *subsystem, const char *message, void *user) {}

/* Whatever authenticated peers send, the plane survives, closes at once and leaves nothing. */
START_TEST(plane_among_liars)
{
    static struct world_rank r;
    uint8_t mine = 1, all[NRANKS];
    struct liars l;
    int fds = leaks_descriptors();
    ck_assert_int_eq(mdl_log_set_callback(drop_log, medleyLogNone, NULL), medleySuccess);
    state = 20261121;
    for (int round = 0; round < 300; round++) {
        liars_open(&l, &r);
        for (uint32_t n = 1 + roll(30); n; n--) tell_lie(&l);
        if (roll(4) == 0)
            ck_assert_int_ne(mdl_ctl_allgather(l.ctl, &mine, 1, all, world_soon(5), "among liars"), medleySuccess);
        liars_close(&l);
    }
    ck_assert_int_eq(leaks_descriptors(), fds);
}
END_TEST

UNIT_MAIN("ctl_wire", frames_in_any_pieces, nonsense, ends, closed_in_its_own_callback, slow_reader,
          dropped_messages_are_not_charged, last_words_are_heard, plane_among_liars)
