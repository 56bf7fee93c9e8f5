/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strangers at the door: a job of three ranks makes its communicator, computes and splits, while the ports that it
 * listens on are scanned, flooded, held half open, fed nonsense byte by byte, and shown handshakes that were recorded.
 * They get nothing, not even a byte in answer but to a hello that names a communicator served there; results stay
 * right, nothing stalls, and what the ranks hold is bounded and afterwards as before.
 *
 * One handshake is genuine: rank 2 is given an id whose address is that of a proxy, which records it.
 */
#include "config.h"

#include "lib/boot/frame.h"
#include "lib/boot/id.h"
#include "tests/coll/ranks.h"
#include "tests/fault/census.h"
#include "tests/fault/scene.h"
#include "tests/unit/leaks.h"
#include "tests/unit/leaks.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 3, COUNT = 3000, WATCHDOG_S = 60, HELLO = 72, ANSWER = 80, PROOF = 32, MAX_PORTS = 16 };
enum { AUTH_MS = 500, AUTH_PENDING = 64, FD_MARGIN = 60, RSS_MARGIN_KIB = 64 * 1024 };

/* In shared memory. */
struct stage {
    volatile int go;   /* rank 1 may come */
    volatile int over; /* the ranks shall end */
    volatile int splits;
    volatile int joined[N], started[N];
    volatile long ops[N];
    volatile double gap[N], last[N]; /* longest time between two operations, in seconds */
    volatile int fds[N];             /* most descriptors that were seen */
    volatile long resident_kib[N];
    medleyUniqueId id, id_by_proxy;
    volatile int id_ready;
    uint16_t proxy_port;
};
static struct stage *stage;

static struct {
    int listener;
    atomic_bool stop;
    atomic_int recorded; /* bytes */
    unsigned char bytes[4096];
    pthread_t thread;
} proxy;

/* ---- ranks ---- */

static void note_op(int rank)
{
    double now = scene_now();
    struct census c;

    if (now - stage->last[rank] > stage->gap[rank]) stage->gap[rank] = now - stage->last[rank];
    stage->last[rank] = now;
    if (stage->ops[rank]++ % 32) return;
    census_take(&c);
    if (c.fds > stage->fds[rank]) stage->fds[rank] = c.fds;
    if (c.resident_kib > stage->resident_kib[rank]) stage->resident_kib[rank] = c.resident_kib;
}

static int one_op(int rank, medleyComm_t comm, int n, int round)
{
    static int in[COUNT], out[COUNT];

    for (int i = 0; i < COUNT; i++) in[i] = round + i;
    OK(medleyAllReduce(in, out, COUNT, medleyInt32, medleySum, comm, NULL));
    for (int i = 0; i < COUNT; i++) CHECK(out[i] == n * (round + i));
    return 0;
}

/* New connections among the ranks while strangers knock. */
static int one_split(int rank, medleyComm_t comm, int round)
{
    medleyComm_t child = NULL;

    OK(medleyCommSplit(comm, 0, -rank, &child, NULL));
    if (one_op(rank, child, N, round)) return 1;
    OK(medleyCommDestroy(child));
    return 0;
}

static int work(int rank, medleyComm_t comm)
{
    stage->last[rank] = scene_now();
    for (int round = 0, all = 1; all; round++) {
        int go_on = !stage->over;
        if (one_op(rank, comm, N, round)) return 1;
        if (stage->splits && round % 64 == 63 && one_split(rank, comm, round)) return 1;
        note_op(rank);
        if (round % 16 == 0) OK(medleyAllReduce(&go_on, &all, 1, medleyInt32, medleyMax, comm, NULL));
        scene_sleep_ms(0.3);
    }
    return 0;
}

/* docs/wire.md: the addresses of an id have 24 bytes each, with the port at 2. The first one is a Unix name. */
enum { ID_COUNT = 6, ID_ADDRS = 40, ID_TCP = ID_ADDRS + 24, ID_PORT = ID_TCP + 2 };

static void name_proxy(char *id)
{
    id[ID_COUNT] = 1;
    id[ID_PORT] = (char)(stage->proxy_port & 255);
    id[ID_PORT + 1] = (char)(stage->proxy_port >> 8);
    memmove(id + ID_ADDRS, id + ID_TCP, 24);
    memset(id + ID_TCP, 0, 128 - ID_TCP);
}

/* Rank 0 makes the id; rank 2 gets it with another address. */
static int get_id(int rank, medleyUniqueId *id)
{
    medleyComm_t comm = NULL;

    if (rank == 0) {
        OK(medleyGetUniqueId(&stage->id));
        stage->id_by_proxy = stage->id;
        name_proxy(stage->id_by_proxy.internal);
        __atomic_store_n(&stage->id_ready, 1, __ATOMIC_RELEASE);
    }
    while (!__atomic_load_n(&stage->id_ready, __ATOMIC_ACQUIRE)) scene_sleep_ms(1);
    while (rank == 1 && !stage->go) scene_sleep_ms(1);
    *id = rank == 2 && stage->proxy_port ? stage->id_by_proxy : stage->id;
    return 0;
}

static int rank_main(struct ranks_world *w, int rank, void *arg)
{
    medleyComm_t comm = NULL;
    medleyUniqueId id;

    if (proxy.listener > 0) close(proxy.listener); /* or its port would count as this rank's */
    if (arg) setrlimit(RLIMIT_NOFILE, arg);
    if (get_id(rank, &id)) return 1;
    stage->started[rank] = 1;
    OK(medleyCommInitRank(&comm, N, id, rank));
    stage->joined[rank] = 1;
    if (work(rank, comm)) {
        stage->over = 1;
        return 1;
    }
    OK(medleyCommDestroy(comm));
    return 0;
}

/* ---- where they listen ---- */

static bool owns(pid_t pid, unsigned long inode)
{
    char path[64], link[400], want[64], target[64];
    bool found = false;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    snprintf(want, sizeof(want), "socket:[%lu]", inode);
    if (!(dir = opendir(path))) return false;
    for (struct dirent *e; !found && (e = readdir(dir));) {
        ssize_t n;
        snprintf(link, sizeof(link), "%s/%s", path, e->d_name);
        n = readlink(link, target, sizeof(target) - 1);
        if (n > 0) target[n] = 0;
        found = n > 0 && strcmp(target, want) == 0;
    }
    closedir(dir);
    return found;
}

/* The ports of loopback on which a process listens. */
static int ports_of(pid_t pid, uint16_t ports[MAX_PORTS])
{
    FILE *f = fopen("/proc/self/net/tcp", "r");
    char line[512];
    int n = 0;

    if (!f) return 0;
    while (fgets(line, sizeof(line), f) && n < MAX_PORTS) {
        unsigned port, state;
        unsigned long inode;
        if (sscanf(line, " %*d: %*x:%x %*s %x %*s %*s %*s %*s %*s %lu", &port, &state, &inode) != 3) continue;
        if (state == 0x0a && owns(pid, inode)) ports[n++] = (uint16_t)port;
    }
    fclose(f);
    return n;
}

/* ---- knocking ---- */

static int dial(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    if (fd >= 0) poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1000);
    return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);
        if (n > 0) at += (size_t)n;
        if (n < 0 && errno != EAGAIN) return; /* it has been closed there, as it should */
        if (n < 0 && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 100) < 1) return;
    }
}

/* Reads until the other side closes; false: it did not within the time. */
static bool hear_end(int fd, double seconds, size_t *heard)
{
    double until = scene_now() + seconds;
    char buf[4096];

    *heard = 0;
    while (scene_now() < until) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return true;
        if (n > 0) *heard += (size_t)n;
        if (n < 0) poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 20);
    }
    return false;
}

static int answers; /* hellos that opened a handshake */

static double patience(void) { return AUTH_MS / 1e3 + 1 * scene_slack(); }

/* It must close without having said more than `most` bytes. */
static int expect_end(int fd, size_t most, const char *what)
{
    size_t heard;
    bool ended = hear_end(fd, patience(), &heard);

    close(fd);
    answers += heard == ANSWER;
    if (ended && heard <= most) return 0;
    fprintf(stderr, "%s: %s, %zu bytes came back\n", what, ended ? "closed" : "NOT closed", heard);
    return 1;
}

static void fill_random(unsigned *random, unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)scene_random(random);
}

/* A hello as docs/wire.md has it, of a communicator that nobody serves. */
static void make_hello(unsigned *random, unsigned char hello[HELLO])
{
    static const unsigned char head[16] = {'M', 'E', 'D', 'L', 'E', 'Y', '\r', '\n', 1, 0, 1, 0, 1};

    fill_random(random, hello, HELLO);
    memcpy(hello, head, sizeof(head));
    memset(hello + 32, 0, 8);
}

/* ---- the recording proxy ---- */

static uint16_t root_port(void)
{
    const unsigned char *port = (const unsigned char *)stage->id.internal + ID_PORT;

    return (uint16_t)(port[0] | port[1] << 8);
}

static bool pump(int from, int to, bool record)
{
    char buf[4096];
    ssize_t n = recv(from, buf, sizeof(buf), MSG_DONTWAIT);

    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    for (ssize_t i = 0, at; record && i < n && (at = atomic_load(&proxy.recorded)) < (ssize_t)sizeof(proxy.bytes);
         i++) {
        proxy.bytes[at] = (unsigned char)buf[i];
        atomic_store(&proxy.recorded, (int)at + 1);
    }
    say(to, buf, (size_t)n);
    return true;
}

/* One connection at a time: rank 2 has no more to the root. */
static void *proxy_main(void *arg)
{
    while (!atomic_load(&proxy.stop)) {
        int from, to;
        bool record = atomic_load(&proxy.recorded) == 0;
        if (poll(&(struct pollfd){.fd = proxy.listener, .events = POLLIN}, 1, 20) < 1) continue;
        from = accept4(proxy.listener, NULL, NULL, SOCK_CLOEXEC);
        to = dial(root_port());
        while (!atomic_load(&proxy.stop) && pump(from, to, record) && pump(to, from, false)) {
            struct pollfd both[2] = {{.fd = from, .events = POLLIN}, {.fd = to, .events = POLLIN}};
            poll(both, 2, 20);
        }
        close(from);
        close(to);
    }
    return NULL;
}

static int start_proxy(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    proxy.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(proxy.listener, (struct sockaddr *)&a, len) < 0 || listen(proxy.listener, 8) < 0 ||
        getsockname(proxy.listener, (struct sockaddr *)&a, &len) < 0)
        return 1;
    stage->proxy_port = ntohs(a.sin_port);
    atomic_store(&proxy.stop, false);
    atomic_store(&proxy.recorded, 0);
    return 0;
}

/* ---- attacks: each returns how many times it got what it should not ---- */

typedef int (*attack_fn)(uint16_t port, unsigned *random);

static int scan(uint16_t port, unsigned *random)
{
    struct linger reset = {.l_onoff = 1};

    for (int i = 0; i < scene_rounds(500); i++) {
        int fd = dial(port);
        if (fd < 0) continue;
        if (i % 2) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd);
    }
    return 0;
}

static int noise(uint16_t port, unsigned *random)
{
    unsigned char bytes[2000];
    int wrong = 0;

    for (int i = 0; i < scene_rounds(100); i++) {
        size_t len = 1 + scene_random(random) % sizeof(bytes);
        int fd = dial(port);
        if (fd < 0) continue;
        fill_random(random, bytes, len);
        say(fd, bytes, len);
        wrong += expect_end(fd, 0, "random bytes");
    }
    return wrong;
}

/* Every beginning of a handshake, and then nothing more. */
static int truncated(uint16_t port, unsigned *random)
{
    unsigned char hello[HELLO];
    int wrong = 0;

    for (size_t len = 0; len <= HELLO; len += 3) {
        int fd = dial(port);
        if (fd < 0) continue;
        make_hello(random, hello);
        say(fd, hello, len);
        shutdown(fd, SHUT_WR);
        wrong += expect_end(fd, 0, "a truncated hello");
    }
    return wrong;
}

/* A good beginning with a field that cannot be, and a megabyte behind it. */
static int overlong(uint16_t port, unsigned *random)
{
    static const struct {
        int at;
        unsigned char value;
    } bad[] = {{8, 0}, {8, 9}, {12, 0}, {12, 255}, {35, 255}, {0, 'm'}, {7, 0}};
    unsigned char *bytes = malloc(1 << 20);
    int wrong = 0;

    if (!bytes) return 1;
    fill_random(random, bytes, 1 << 20);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int fd = dial(port);
        if (fd < 0) continue;
        make_hello(random, bytes);
        bytes[bad[i].at] = bad[i].value;
        say(fd, bytes, 1 << 20);
        wrong += expect_end(fd, 0, "a hello with an impossible field");
    }
    free(bytes);
    return wrong;
}

/* A length of 4 GiB wherever a length could be. */
static int giant(uint16_t port, unsigned *random)
{
    unsigned char bytes[HELLO + 400];
    int wrong = 0;

    for (int genuine = 0; genuine < 2; genuine++) {
        int fd = dial(port);
        if (fd < 0) continue;
        memset(bytes, 0xff, sizeof(bytes));
        make_hello(random, bytes);
        if (genuine) memcpy(bytes, proxy.bytes, HELLO);
        say(fd, bytes, sizeof(bytes));
        wrong += expect_end(fd, genuine ? ANSWER : 0, "a length of 4 GiB");
    }
    return wrong;
}

/* The tag is public: it opens the handshake, and nothing more without the key. */
static int wrong_key(uint16_t port, unsigned *random)
{
    unsigned char bytes[HELLO + PROOF];
    int wrong = 0;

    for (int i = 0; i < 20; i++) {
        size_t heard;
        int fd = dial(port);
        if (fd < 0) continue;
        memcpy(bytes, proxy.bytes, HELLO);
        fill_random(random, bytes + 40, 32 + PROOF); /* nonce and proof */
        say(fd, bytes, HELLO);
        if (i % 2) hear_end(fd, 0.02, &heard); /* with or without waiting for the answer */
        say(fd, bytes + HELLO, PROOF);
        wrong += expect_end(fd, ANSWER, "a wrong key");
    }
    return wrong;
}

static int replay(uint16_t port, unsigned *random)
{
    int wrong = 0, len = atomic_load(&proxy.recorded);

    for (int i = 0; i < 20; i++) {
        int fd = dial(port);
        if (fd < 0) continue;
        say(fd, proxy.bytes, (size_t)(i % 2 ? len : HELLO + PROOF));
        wrong += expect_end(fd, ANSWER, "a replayed handshake");
    }
    return wrong;
}

/* Many connections that say nothing, or a little, and are held until the server drops them. */
static int half_open(uint16_t port, unsigned *random)
{
    int count = scene_rounds(1000), wrong = 0, *fds = calloc((size_t)count, sizeof(int));
    unsigned char hello[HELLO];
    size_t heard;

    if (!fds) return 1;
    make_hello(random, hello);
    for (int i = 0; i < count; i++) {
        fds[i] = dial(port);
        if (fds[i] >= 0) say(fds[i], hello, i % 3 ? (size_t)i % HELLO : 0);
    }
    for (int i = 0; i < count; i++) {
        if (fds[i] < 0) continue;
        if (i % 50 == 0 && !hear_end(fds[i], patience() + 5 * scene_slack(), &heard)) wrong++;
        close(fds[i]);
    }
    if (wrong) fprintf(stderr, "%d half-open connections were not closed\n", wrong);
    free(fds);
    return wrong;
}

/* A byte now and then does not prolong the time that a handshake may take. */
static int slow(uint16_t port, unsigned *random)
{
    enum { MANY = 40 };
    double start = scene_now();
    unsigned char hello[HELLO];
    int fds[MANY], open = MANY;

    make_hello(random, hello);
    for (int i = 0; i < MANY; i++) fds[i] = dial(port);
    for (size_t at = 0; at < HELLO && open && scene_now() - start < 2 * patience(); at++) {
        for (int i = 0; i < MANY; i++) {
            size_t heard;
            if (fds[i] < 0) continue;
            say(fds[i], hello + at, 1);
            if (!hear_end(fds[i], 0, &heard) && recv(fds[i], &heard, 1, MSG_PEEK) < 0 && errno == EAGAIN) continue;
            close(fds[i]);
            fds[i] = -1;
            open--;
        }
        scene_sleep_ms(100);
    }
    for (int i = 0; i < MANY; i++)
        if (fds[i] >= 0) close(fds[i]);
    if (open) fprintf(stderr, "%d slow handshakes were still open after %.1f s\n", open, scene_now() - start);
    return open;
}

/* One that has the id, and so may join, names a length of 4 GiB. In a process of its own: it needs the library. */
static int insider(uint16_t port, unsigned *random)
{
    int status = 1;
    pid_t pid;

    if (LEAKS_TSAN) return 0; /* it does not let a process with threads (the proxy's) fork and start more */
    pid = fork();

    if (pid == 0) {
        static unsigned char frames[2][MDL_FRAME_BYTES];
        struct mdl_frame join = {.type = MDL_FRAME_JOIN, .length = UINT32_MAX, .src = 1, .dst = MDL_FRAME_ROOT};
        struct mdl_config cfg;
        struct mdl_link link;
        struct mdl_id id;
        struct mdl_dial_args args = {.purpose = MDL_PURPOSE_RENDEZVOUS, .rank = 1, .expect_rank = -1};
        if (mdl_config_load(&cfg) || mdl_id_read(&stage->id, &id) || mdl_door_get(&cfg, &args.door)) _exit(1);
        args.secret = &id.secret;
        args.addrs = id.addrs;
        args.naddrs = id.naddrs;
        args.deadline_ns = (uint64_t)((scene_now() + 5) * 1e9);
        if (mdl_dial_wait(&args, NULL, &link)) _exit(1);
        mdl_frame_write(frames[0], &join);
        say(link.fd, frames, sizeof(frames));
        _exit(expect_end(link.fd, 4096, "a frame of 4 GiB from one that has the key"));
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status) return 1;
    return 0;
}

static const struct attack {
    const char *name;
    attack_fn fn;
    bool at_start; /* only while the communicator is made */
} attacks[] = {
    {"scan", scan, false},         {"noise", noise, false}, {"truncated", truncated, false},
    {"overlong", overlong, false}, {"giant", giant, false}, {"wrong_key", wrong_key, false},
    {"replay", replay, false},     {"slow", slow, false},   {"half_open", half_open, false},
    {"insider", insider, true},
};
enum { ATTACKS = sizeof(attacks) / sizeof(attacks[0]) };

/* ---- judging ---- */

static void forget_gaps(void)
{
    for (int r = 0; r < N; r++) stage->gap[r] = 0;
}

static int judge(const char *name, const long *ops, const int *fds, const long *resident)
{
    double stall = 2 * scene_slack();
    int wrong = 0;

    for (int r = 0; r < N; r++) {
        double gap = stage->gap[r], since = scene_now() - stage->last[r];
        if (since > gap) gap = since;
        if (getenv("MDL_TEST_VERBOSE"))
            printf("%s: rank %d: %ld operations, longest gap %.3f s, %d descriptors\n", name, r, stage->ops[r] - ops[r],
                   gap, stage->fds[r]);
        if (gap > stall) wrong |= fprintf(stderr, "%s: rank %d stood still for %.1f s\n", name, r, gap);
        if (stage->ops[r] == ops[r]) wrong |= fprintf(stderr, "%s: rank %d did nothing\n", name, r);
        if (stage->fds[r] > fds[r] + AUTH_PENDING + FD_MARGIN)
            wrong |= fprintf(stderr, "%s: rank %d had %d descriptors, %d before\n", name, r, stage->fds[r], fds[r]);
        if (!scene_sanitized() && stage->resident_kib[r] > resident[r] + RSS_MARGIN_KIB)
            wrong |= fprintf(stderr, "%s: rank %d: %ld KiB, was %ld\n", name, r, stage->resident_kib[r], resident[r]);
    }
    return wrong != 0;
}

static bool all_of(const volatile int *flags, double seconds)
{
    double until = scene_now() + seconds;

    for (int r = 0; r < N; r++)
        while (!flags[r]) {
            if (scene_now() > until) return false;
            scene_sleep_ms(1);
        }
    return true;
}

/* So long the job runs undisturbed, and until all ranks have done something since: one that is late gets on. */
static void work_for(double ms, const long *ops)
{
    double until = scene_now() + 10 * scene_slack();

    scene_sleep_ms(ms);
    for (int r = 0; r < N; r++)
        while (ops && stage->ops[r] == ops[r] && scene_now() < until) scene_sleep_ms(1);
}

static void copy_marks(long *ops, int *fds, long *resident)
{
    for (int r = 0; r < N; r++) {
        ops[r] = stage->ops[r];
        fds[r] = stage->fds[r];
        resident[r] = stage->resident_kib[r];
    }
}

/* Descriptors of a rank's process now. */
static int fds_of(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    return leaks_entries(path);
}

/* What the strangers had is given back. New lanes of a split may be there at any moment. */
static int released(struct ranks_play *p, const int *before, int margin)
{
    double until = scene_now() + 10 * patience();

    for (int r = 0; r < N; r++)
        while (fds_of(ranks_pid(p, r)) > before[r] + margin) {
            if (scene_now() > until)
                return fprintf(stderr, "rank %d: %d descriptors, %d before\n", r, fds_of(ranks_pid(p, r)), before[r]);
            scene_sleep_ms(10);
        }
    return 0;
}

/* ---- scenes ---- */

static int attack_ports(const struct attack *a, pid_t pid, unsigned *random)
{
    uint16_t ports[MAX_PORTS];
    int n = ports_of(pid, ports), wrong = 0;

    if (n == 0) return fprintf(stderr, "process %d listens nowhere\n", (int)pid);
    for (int i = 0; i < n; i++) wrong += a->fn(ports[i], random);
    if (wrong) fprintf(stderr, "%s: %d wrong\n", a->name, wrong);
    return wrong;
}

/* While rank 1 is awaited: every attack against the root. */
static int attack_init(struct ranks_play *p, unsigned *random)
{
    double until = scene_now() + 10 * scene_slack();
    int wrong = 0;

    while (atomic_load(&proxy.recorded) < HELLO + PROOF) {
        if (scene_now() > until) return fprintf(stderr, "rank 2 did not come through the proxy\n");
        scene_sleep_ms(1);
    }
    answers = 0;
    for (int i = 0; i < ATTACKS; i++) wrong += attack_ports(&attacks[i], ranks_pid(p, 0), random);
    if (!answers) wrong += fprintf(stderr, "the recorded hello opened no handshake: nothing was tested behind it\n");
    for (int r = 0; r < N; r++)
        if (stage->joined[r]) wrong += fprintf(stderr, "rank %d has a communicator although rank 1 is missing\n", r);
    stage->go = 1;
    if (!all_of(stage->joined, 20 * scene_slack())) wrong += fprintf(stderr, "the communicator was not made\n");
    return wrong;
}

static int attack_work(struct ranks_play *p, unsigned *random)
{
    long ops[N], resident[N];
    int fds[N], held[N], wrong = 0;

    work_for(300, NULL);
    copy_marks(ops, fds, resident);
    for (int r = 0; r < N; r++) held[r] = fds_of(ranks_pid(p, r));
    for (int i = 0; i < ATTACKS; i++) {
        if (attacks[i].at_start) continue;
        copy_marks(ops, held, resident); /* only ops: the bounds are those of the beginning */
        forget_gaps();
        wrong += attack_ports(&attacks[i], ranks_pid(p, i % N), random);
        work_for(50, ops);
        wrong += judge(attacks[i].name, ops, fds, resident);
        for (int r = 0; r < N; r++) held[r] = fds[r];
        wrong += released(p, held, FD_MARGIN);
    }
    return wrong;
}

static int hostile_scene(const struct scene *s, unsigned seed)
{
    unsigned random = seed * 2654435761u;
    struct census before;
    struct ranks_play *p;
    int wrong;

    memset(stage, 0, sizeof(*stage));
    census_take(&before);
    stage->splits = 1;
    if (start_proxy()) return 1;
    p = ranks_start(N, rank_main, NULL);
    if (pthread_create(&proxy.thread, NULL, proxy_main, NULL)) abort();
    wrong = attack_init(p, &random);
    if (!wrong) wrong = attack_work(p, &random);
    stage->go = stage->over = 1;
    wrong += ranks_finish(p, WATCHDOG_S, NULL);
    atomic_store(&proxy.stop, true);
    pthread_join(proxy.thread, NULL);
    close(proxy.listener);
    proxy.listener = -1;
    return wrong || !census_world_back_to(&before, "after the attacks");
}

/* More connections than the ranks may have descriptors: they wait outside, and the job goes on with those it has. */
static int starving_scene(const struct scene *s, unsigned seed)
{
    enum { LIMIT = 48, FLOOD = 300 };
    struct rlimit few = {LIMIT, LIMIT};
    int fds[FLOOD], marks[N], before[N], wrong = 0;
    long ops[N], resident[N];
    uint16_t ports[MAX_PORTS];
    struct ranks_play *p;

    memset(stage, 0, sizeof(*stage));
    stage->go = 1;
    p = ranks_start(N, rank_main, &few);
    if (!all_of(stage->joined, 20 * scene_slack())) wrong = fprintf(stderr, "the communicator was not made\n");
    work_for(200, NULL);
    copy_marks(ops, marks, resident);
    for (int r = 0; r < N; r++) before[r] = fds_of(ranks_pid(p, r));
    forget_gaps();
    for (int r = 0; r < N && !wrong; r++) {
        int n = ports_of(ranks_pid(p, r), ports);
        for (int i = 0; i < FLOOD; i++) fds[i] = n ? dial(ports[i % n]) : -1;
        work_for(200, ops);
        wrong += judge("starving", ops, marks, resident);
        for (int i = 0; i < FLOOD; i++)
            if (fds[i] >= 0) close(fds[i]);
        wrong += released(p, before, 4);
    }
    stage->over = 1;
    wrong += ranks_finish(p, WATCHDOG_S, NULL);
    return wrong;
}

/* An address that others can reach needs a key. */
static int keyless_rank(struct ranks_world *w, int rank, void *arg)
{
    static const struct {
        const char *id, *key;
        medleyResult_t want;
    } cases[] = {{"192.0.2.7:2000", NULL, medleyInvalidUsage},
                 {"192.0.2.7:2000", "short", medleyInvalidUsage},
                 {"192.0.2.7:2000", "0123456789abcdef0123", medleySuccess},
                 {"[2001:db8::1]:2000", NULL, medleyInvalidUsage},
                 {"0.0.0.0:2000", NULL, medleyInvalidArgument},
                 {"127.0.0.1:2000", NULL, medleySuccess},
                 {"[::1]:2000", NULL, medleySuccess}};
    medleyComm_t comm = NULL;
    medleyUniqueId id;

    unsetenv("MEDLEY_SOCKET_FAMILY");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        setenv("MEDLEY_COMM_ID", cases[i].id, 1);
        unsetenv("MEDLEY_COMM_KEY");
        if (cases[i].key) setenv("MEDLEY_COMM_KEY", cases[i].key, 1);
        rank = (int)i;
        CHECK(medleyGetUniqueId(&id) == cases[i].want);
        if (cases[i].want == medleyInvalidUsage) CHECK(strstr(medleyGetLastError(NULL), "MEDLEY_COMM_KEY") != NULL);
        if (cases[i].key) CHECK(strstr(medleyGetLastError(NULL), cases[i].key) == NULL);
    }
    return 0;
}

static int keyless_scene(const struct scene *s, unsigned seed)
{
    return ranks_finish(ranks_start(1, keyless_rank, NULL), WATCHDOG_S, NULL);
}

int main(int argc, char **argv)
{
    static const struct scene scenes[] = {
        {"hostile", hostile_scene, 1, NULL},
        {"starving", starving_scene, 1, NULL},
        {"keyless", keyless_scene, 1, NULL},
    };
    struct rlimit files;
    char text[32];

    census_enter_world();
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &files);
    setenv("MEDLEY_TRANSPORT", "tcp", 1);
    setenv("MEDLEY_SOCKET_IFNAME", "lo", 1);
    setenv("MEDLEY_SOCKET_FAMILY", "AF_INET", 1);
    snprintf(text, sizeof(text), "%d", AUTH_MS);
    setenv("MEDLEY_AUTH_TIMEOUT", text, 1);
    snprintf(text, sizeof(text), "%d", AUTH_PENDING);
    setenv("MEDLEY_AUTH_PENDING", text, 1);
    stage = scene_shared(sizeof(*stage));
    return scene_main(argc, argv, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
