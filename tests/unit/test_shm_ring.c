/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared words and the messages of the handover: their layout and bytes, and that nonsense in them, from a broken
 * peer, never leads outside of the rings and buffers. Payload buffers end at a page that cannot be touched.
 */
#include "config.h"
#include "tests/unit/unit.h"
#include "tests/unit/shm_world.h"
#include "transports/shm.h"
#include <dirent.h>
#include <stdarg.h>
#include <sys/stat.h>

extern const struct mdl_transport mdl_transport_shm;

/* ---- layout ---- */

static void check_layout(uint32_t ring, uint32_t slots, uint32_t bytes, uint64_t page)
{
    struct mdl_shm_layout l = {.ring_bytes = ring, .bulk_slots = slots, .bulk_bytes = bytes};
    ck_assert(mdl_shm_layout_fill(&l, page));
    char *region = NULL;
    ck_assert_uint_eq(l.front_bytes % page, 0);
    ck_assert_uint_eq(l.region_bytes % page, 0);
    ck_assert_uint_ge(l.bulk_control, (uintptr_t)(mdl_shm_control(region, MDL_MAX_CHANNELS - 1) + 1));
    ck_assert_uint_ge(l.rings, (uintptr_t)(mdl_shm_bulk(&l, region, slots - 1) + 1));
    ck_assert_uint_eq(l.bulks, l.rings + 64ull * ring);
    ck_assert_uint_ge(l.region_bytes, (uintptr_t)mdl_shm_bulk_data(&l, region, slots - 1) + bytes);
    /* a pad, the largest record, the next stamp and what is not told fit an empty ring */
    uint64_t largest = (24 + mdl_shm_inline_max(&l) + 63) / 64 * 64;
    ck_assert_uint_le(largest - 64 + largest + 64 + mdl_shm_tell_after(&l), ring);
}
START_TEST(lays_out_every_size)
{
    for (uint64_t page = 4096; page <= 65536; page *= 4)
        for (uint32_t ring = 512; ring <= 1u << 20; ring *= 2) {
            check_layout(ring, 1, 1024, page);
            check_layout(ring, 8, 32768, page);
            check_layout(ring, 64, 65536 + 64, page);
        }
    ck_assert_uint_eq(sizeof(struct mdl_shm_control) % 64, 0);
    ck_assert_uint_eq(sizeof(struct mdl_shm_bulk), 64);
}
END_TEST

START_TEST(refuses_layouts_out_of_range)
{
    static const uint32_t bad[][3] = {{0, 8, 32768},     {256, 8, 32768},     {1000, 8, 32768}, {1u << 25, 8, 32768},
                                      {32768, 0, 32768}, {32768, 65, 32768},  {32768, 8, 0},    {32768, 8, 1000},
                                      {32768, 8, 1025},  {32768, 8, 1u << 25}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mdl_shm_layout l = {.ring_bytes = bad[i][0], .bulk_slots = bad[i][1], .bulk_bytes = bad[i][2]};
        ck_assert_msg(!mdl_shm_layout_fill(&l, 4096), "row %zu", i);
    }
}
END_TEST

/* ---- bytes of the handover ---- */

START_TEST(writes_a_question_byte_by_byte)
{
    static const uint8_t golden[MDL_SHM_QUERY_BYTES] = {
        'M',  'S',  'H',  'M',  2,    0,    2,    0,    8,    7,    6,    5,    4,    3,    2,    1,
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21};
    struct mdl_shm_query q = {2, 0x0102030405060708, 0x1112131415161718, 0x2122232425262728}, back;
    uint8_t bytes[MDL_SHM_QUERY_BYTES];
    mdl_shm_query_write(&q, bytes);
    ck_assert_mem_eq(bytes, golden, sizeof(golden));
    ck_assert(mdl_shm_query_read(bytes, &back));
    ck_assert(back.type == 2 && back.seq == q.seq && back.segment == q.segment && back.check == q.check);
    for (int i = 0; i < 8; i++) { /* magic, version, type */
        bytes[i] ^= 0x40;
        ck_assert(!mdl_shm_query_read(bytes, &back));
        bytes[i] ^= 0x40;
    }
}
END_TEST

START_TEST(writes_an_answer_byte_by_byte)
{
    static const uint8_t golden[MDL_SHM_REPLY_BYTES] = {
        'M', 'S',  'H', 'M', 2, 0, 1, 0, 3, 0, 0, 0, 2, 0, 0, 0, 9, 0,    0, 0, 0, 0, 0, 0, 0, 0,    1, 0, 0, 0, 0, 0,
        0,   0x10, 0,   0,   0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0x80, 0, 0, 8, 0, 0, 0, 0, 0x40, 0, 0, 1, 0, 0, 0,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0,   0x20, 0,   0,   0, 0, 0, 0};
    struct mdl_shm_reply r = {
        1, 3, 2, 9, 0x10000, 0x1000, 0x0102030405060708, 0x3132333435363738, 0x2000, 0x8000, 8, 0x4000, 1}, back;
    uint8_t bytes[MDL_SHM_REPLY_BYTES];
    mdl_shm_reply_write(&r, bytes);
    ck_assert_mem_eq(bytes, golden, sizeof(golden));
    ck_assert(mdl_shm_reply_read(bytes, &back));
    ck_assert(back.status == 3 && back.nfds == 2 && back.seq == 9 && back.len == 0x10000 && back.region == 0x1000);
    ck_assert(back.nonce == r.nonce && back.ring_bytes == 0x8000 && back.bulk_slots == 8 && back.bulk_bytes == 0x4000);
    ck_assert(back.gone == 1 && back.bells == r.bells && back.segment_len == 0x2000);
    bytes[12] = 5; /* more descriptors than there may be */
    ck_assert(!mdl_shm_reply_read(bytes, &back));
}
END_TEST

START_TEST(writes_an_address_byte_by_byte)
{
    static const uint8_t golden[] = {
        'M', 'S', 'H', 'M', 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0,
        0,   5,   0,   0,   0, 0, 16, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0,
        0,   0};
    struct mdl_shm_address a = {.nonce = 1,
                                .host_id = 2,
                                .probe = 3,
                                .pid = 4,
                                .uid = 5,
                                .page = 4096,
                                .arena = 0x0100000000000006,
                                .rings = 65536,
                                .ring_bytes = 7,
                                .bulk_slots = 8,
                                .bulk_bytes = 9},
                           back;
    uint8_t bytes[256];
    struct mdl_writer w = {.p = bytes, .cap = sizeof(bytes)};
    mdl_shm_address_write(&a, &w);
    ck_assert(!w.bad && w.len == sizeof(golden) + MDL_ADDR_WIRE_BYTES);
    ck_assert_mem_eq(bytes, golden, sizeof(golden));
    ck_assert(mdl_shm_address_read(bytes, w.len, &back));
    ck_assert(back.nonce == 1 && back.host_id == 2 && back.probe == 3 && back.pid == 4 && back.uid == 5);
    ck_assert(back.page == 4096 && back.door.len == 0 && back.arena == a.arena && back.rings == a.rings);
    ck_assert(back.ring_bytes == 7 && back.bulk_slots == 8 && back.bulk_bytes == 9);
    for (size_t n = 0; n < w.len; n++) ck_assert(!mdl_shm_address_read(bytes, n, &back));
    bytes[sizeof(golden)] = 99; /* no family of addresses */
    ck_assert(!mdl_shm_address_read(bytes, w.len, &back));
}
END_TEST

/* ---- Yama: whom to name ---- */

static char proc[64];

static void make_file(const char *text, const char *fmt, ...) MDL_PRINTF(2, 3);
static void make_file(const char *text, const char *fmt, ...)
{
    char path[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void add_process(int pid, int parent)
{
    char path[200], text[100];
    snprintf(path, sizeof(path), "%s/%d", proc, pid);
    mkdir(path, 0700);
    snprintf(text, sizeof(text), "%d (a) S 9 (b) S %d 1 1 0", pid, parent);
    make_file(text, "%s/stat", path);
}

static void set_namespace(const char *name)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/self/ns/pid", proc);
    unlink(path);
    ck_assert_int_eq(symlink(name, path), 0);
}

/* 1 - 10 (launcher) - 20, 21, 22 (ranks); 22 - 30; 1 - 40 */
static void make_processes(void)
{
    char path[200];
    snprintf(proc, sizeof(proc), "/tmp/medley-proc-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(proc));
    snprintf(path, sizeof(path), "%s/self", proc);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/self/ns", proc);
    mkdir(path, 0700);
    static const int tree[][2] = {{1, 0}, {10, 1}, {20, 10}, {21, 10}, {22, 10}, {30, 22}, {40, 1}};
    for (size_t i = 0; i < sizeof(tree) / sizeof(tree[0]); i++) add_process(tree[i][0], tree[i][1]);
    set_namespace("pid:[4026531836]");
}

START_TEST(names_the_peer_or_the_launcher)
{
    make_processes();
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 0, 20), 20); /* one peer: itself */
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 20, 20), 20);
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 20, 21), 10); /* two: their launcher */
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 10, 22), 10); /* stays */
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 10, 30), 10);
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 22, 30), 22);
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 30, 20), 10);
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 20, 40), 0);  /* only init is above both */
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 99, 20), 20); /* who was named is dead */
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 20, 99), 0);  /* not to be seen */
    set_namespace("pid:[4026532000]");
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 20, 40), 1); /* a container's own first process */
    ck_assert_int_eq(mdl_shm_yama_choose(proc, 1, 20), 1);
    char command[100];
    snprintf(command, sizeof(command), "rm -rf %s", proc);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

/* ---- nonsense from a peer ---- */

static uint64_t seed = 12345;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* `len` bytes that end at a page that faults. */
static char *guarded(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (len + page - 1) / page * page;
    char *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED && mprotect(p + room, page, PROT_NONE) == 0);
    return p + room - len;
}

/* Words that are likely to be believed: near the right ones, huge, or random. */
static uint64_t lie(uint64_t truth)
{
    switch (rnd() % 6) {
    case 0: return truth;
    case 1: return truth + 64;
    case 2: return truth ^ (1ull << rnd() % 64);
    case 3: return rnd() % 4096;
    case 4: return UINT64_MAX - rnd() % 128;
    default: return rnd();
    }
}

/* Writes a record with lies in it where the victim reads next. */
static void forge_record(struct mdl_shm_peer *to, struct mdl_shm_rx *victim)
{
    struct mdl_shm_record *rec = mdl_shm_record(&to->out_layout, to->out, victim->channel, victim->pos);
    rec->tag = rnd() % 2 ? 1 : rnd();
    rec->len = rnd() % 2 ? 100 : lie(rnd() % 20000);
    struct mdl_shm_place place = {lie((uintptr_t)rec), rnd() % 2 ? 0 : rnd(), lie(0)};
    memcpy(rec->payload, &place, sizeof(place));
    uint64_t stamp = mdl_shm_stamp(victim->pos, (enum mdl_shm_kind)(rnd() % 5));
    atomic_store(&rec->stamp, rnd() % 8 ? stamp : lie(stamp));
}

static void forge_piece(struct mdl_shm_peer *to, struct mdl_shm_peer *victim)
{
    struct mdl_shm_bulk *b = mdl_shm_bulk(&to->out_layout, to->out, victim->bulk_in_pos);
    b->seq = lie(0);
    b->offset = lie(0);
    b->channel = (uint32_t)lie(3);
    b->len = (uint32_t)lie(to->out_layout.bulk_bytes);
    atomic_store(&b->stamp, victim->bulk_in_pos + 1);
}

/* The receiver's words that a sender believes: rank 1's sends read them in rank 0's segment. */
static void forge_answers(struct mdl_shm_peer *from, struct mdl_shm_peer *victim)
{
    struct mdl_shm_control *c = mdl_shm_control(from->in, 3);
    atomic_store(&c->head, lie(victim->tx[3].pos));
    for (uint64_t i = 0; i < MDL_SHM_ACKS; i++)
        atomic_store(&c->answers[i].ack, lie(mdl_shm_ack(i, (enum mdl_shm_answer)(rnd() % 6))));
    atomic_store(&mdl_shm_bulk_control(&from->ctx->home->layout, from->in)->head, lie(victim->bulk_out_pos));
}

/* One rank forges, the other uses the transport in all ways; only its survival counts. Both in one thread. */
struct pair {
    struct world world;
    struct world_rank ranks[2];
    struct world_shared shared;
};

static void pair_open(struct pair *p, const char *cma)
{
    memset(p, 0, sizeof(*p));
    p->world = (struct world){.transport = &mdl_transport_shm, .n = 2, .shared = &p->shared};
    p->world.settings[0][0] = "MEDLEY_CMA";
    p->world.settings[0][1] = cma;
    for (int i = 0; i < 2; i++) {
        world_rank_init(&p->ranks[i], &p->world, i);
        world_open(&p->ranks[i]);
    }
    for (int i = 0; i < 2; i++) world_connect(&p->ranks[i]);
    REQUIRE(p->ranks[0].reach[1] && p->ranks[1].reach[0]);
}

static void pair_close(struct pair *p)
{
    for (int i = 0; i < 2; i++) mdl_transport_shm.close(p->ranks[i].ctx);
}

enum { GUARDED = 100000 };

static void attack(const char *cma, char *in, char *out)
{
    static struct pair p;
    pair_open(&p, cma);
    struct mdl_shm_peer *liar = mdl_shm_peer(p.ranks[0].ctx, 1), *victim = mdl_shm_peer(p.ranks[1].ctx, 0);
    enum { N = 24 };
    struct mdl_request *reqs[2 * N];
    for (int i = 0; i < N; i++) {
        static const size_t lens[] = {8192, 100, 8192, GUARDED};
        size_t len = lens[i % 4];
        struct mdl_message recv = {.ptr = in + GUARDED - len, .len = len, .tag = 1, .channel = 3};
        struct mdl_message send = {.ptr = out + GUARDED - len, .len = len, .tag = 1, .channel = 3};
        reqs[i] = world_request(&p.ranks[1]);
        reqs[N + i] = world_request(&p.ranks[1]);
        int events = 0, fd;
        forge_record(liar, &victim->rx[3]);
        (void)mdl_transport_shm.recv(p.ranks[1].ctx, 0, &recv, reqs[i]);
        (void)mdl_transport_shm.send(p.ranks[1].ctx, 0, &send, reqs[N + i]);
        forge_answers(liar, victim);
        (void)mdl_transport_shm.progress(p.ranks[1].ctx, &events);
        forge_piece(liar, victim);
        (void)mdl_transport_shm.progress(p.ranks[1].ctx, &events);
        if (mdl_transport_shm.arm(p.ranks[1].ctx, &fd) == medleySuccess) mdl_transport_shm.disarm(p.ranks[1].ctx);
    }
    pair_close(&p);
    for (int i = 0; i < 2 * N; i++) free(reqs[i]);
}

START_TEST(survives_nonsense_in_shared_memory)
{
    setenv("MEDLEY_DEBUG", "NONE", 1);
    mdl_shm_home_hide(true); /* by link: process_vm_readv tells bad addresses, memcpy would crash */
    char *in = guarded(GUARDED), *out = guarded(GUARDED);
    for (int i = 0; i < 300; i++) attack(i % 2 ? "1" : "0", in, out);
}
END_TEST

/* ---- leaks ---- */

static int count_folder(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    REQUIRE(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* Descriptors, threads, mappings of shared memory. */
static void count_all(int counts[3])
{
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    REQUIRE(f);
    counts[0] = count_folder("/proc/self/fd");
    counts[1] = count_folder("/proc/self/task");
    counts[2] = 0;
    while (fgets(line, sizeof(line), f)) counts[2] += strstr(line, "medley") != NULL;
    fclose(f);
}

/* A message, a mapping, then the end. */
static void live_once(const char *cma)
{
    static struct pair p;
    static char from[50000], to[50000];
    pair_open(&p, cma);
    struct mdl_request *send = world_request(&p.ranks[0]), *recv = world_request(&p.ranks[1]);
    world_send(&p.ranks[0], 1, 0, from, sizeof(from), 0, send);
    world_recv(&p.ranks[1], 0, 0, to, sizeof(to), 0, recv);
    while (send->state == MDL_REQ_ACTIVE || recv->state == MDL_REQ_ACTIVE) {
        world_progress(&p.ranks[0]);
        world_progress(&p.ranks[1]);
    }
    struct mdl_segment *segment;
    void *addr;
    size_t len;
    REQUIRE(mdl_segment_create(4096, false, false, &segment) == medleySuccess);
    REQUIRE(mdl_transport_shm.map(p.ranks[1].ctx, 0, segment->id, &addr, &len) == medleySuccess);
    pair_close(&p);
    mdl_segment_destroy(segment);
    free(send);
    free(recv);
}

START_TEST(leaks_nothing_in_200_lives)
{
    int before[3], after[3];
    for (int hide = 0; hide < 2; hide++) {
        mdl_shm_home_hide(hide);
        live_once("1");
        count_all(before);
        for (int i = 0; i < 200; i++) live_once(i % 2 ? "1" : "0");
        count_all(after);
        if (after[0] > before[0]) REQUIRE(system("ls -l /proc/$PPID/fd >&2") == 0);
        for (int i = 0; i < 3; i++) ck_assert_msg(after[i] <= before[i], "%d: %d became %d", i, before[i], after[i]);
    }
}
END_TEST

UNIT_MAIN("shm_ring", lays_out_every_size, refuses_layouts_out_of_range, writes_a_question_byte_by_byte,
          writes_an_answer_byte_by_byte, writes_an_address_byte_by_byte, names_the_peer_or_the_launcher,
          survives_nonsense_in_shared_memory, leaks_nothing_in_200_lives)
