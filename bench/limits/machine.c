/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine itself does, without any collective: copies and sums of private memory on one and two cores at once,
 * a flag between two cores and within one, TCP over the loopback.
 *
 * memory   memcpy and add (c = a + b), accumulate (a += b): per rank `bytes` of each buffer
 * flag     one_way: a count between two cores; yield: between two processes on one core, by sched_yield
 * socket   pingpong: one way, sleeping in the kernel or polling; stream: rank 0 to rank 1; exchange: both ways at once
 */
#include "config.h"

#include "bench/limits/limits.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

static void copy(struct rank *me, const struct limit_case *c, size_t bytes)
{
    copy_floats(me->own_out, me->own_in, bytes / sizeof(float), c->nt);
}

static void copy_libc(struct rank *me, const struct limit_case *c, size_t bytes)
{
    memcpy(me->own_out, me->own_in, bytes);
    __asm__ volatile("" : : "r"(me->own_out) : "memory");
}

/* The second source is the rank's mapped input. */
static void add(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const float *const src[2] = {me->own_in, me->in[me->rank]};
    sum_floats(&me->own_out, 1, src, 2, bytes / sizeof(float), c->nt);
}

static void accumulate(struct rank *me, const struct limit_case *c, size_t bytes)
{
    const float *const src[2] = {me->own_out, me->own_in};
    sum_floats(&me->own_out, 1, src, 2, bytes / sizeof(float), c->nt);
}

static void flag_both_ways(struct rank *me, const struct limit_case *c, size_t bytes)
{
    if (me->rank == 1) wait_rank(me, FLAG_START, 0, me->count[FLAG_START] + 1);
    count_up(me, FLAG_START, 1);
    if (me->rank == 0) wait_rank(me, FLAG_START, 1, me->count[FLAG_START]);
}

/* ---- sockets ---- */

static void broken(struct rank *me) { atomic_fetch_add_explicit(&me->s->wrong, 1, memory_order_relaxed); }

/* option: MSG_DONTWAIT to poll, 0 to sleep in the kernel. */
static void send_all(struct rank *me, int fd, const char *p, size_t bytes, int option)
{
    while (bytes > 0) {
        const ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL | option);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0) return broken(me);
        p += n;
        bytes -= (size_t)n;
    }
}

static void receive_all(struct rank *me, int fd, char *p, size_t bytes, int option)
{
    while (bytes > 0) {
        const ssize_t n = recv(fd, p, bytes, option);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0) return broken(me);
        p += n;
        bytes -= (size_t)n;
    }
}

static void pingpong(struct rank *me, const struct limit_case *c, size_t bytes)
{
    if (me->rank == 1) receive_all(me, me->conn[0], (char *)me->own_out, bytes, c->option);
    send_all(me, me->conn[0], (const char *)me->own_in, bytes, c->option);
    if (me->rank == 0) receive_all(me, me->conn[0], (char *)me->own_out, bytes, c->option);
}

static void stream_blocking(struct rank *me, const struct limit_case *c, size_t bytes)
{
    if (me->rank == 0)
        send_all(me, me->conn[0], (const char *)me->own_in, bytes, 0);
    else
        receive_all(me, me->conn[0], (char *)me->own_out, bytes, 0);
}

struct pump {
    int fd;
    size_t send, receive; /* bytes left */
    const char *from;
    char *to;
};

/* Moves what the socket takes and has, at most a piece each way; the bytes moved. */
static size_t pump_turn(struct rank *me, struct pump *p)
{
    enum { PIECE = 256 << 10 };
    size_t moved = 0;
    if (p->send) {
        const ssize_t n = send(p->fd, p->from, p->send < PIECE ? p->send : PIECE, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) broken(me), p->send = p->receive = 0;
        if (n > 0) p->from += n, p->send -= (size_t)n, moved += (size_t)n;
    }
    if (p->receive) {
        const ssize_t n = recv(p->fd, p->to, p->receive < PIECE ? p->receive : PIECE, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) broken(me), p->send = p->receive = 0;
        if (n > 0) p->to += n, p->receive -= (size_t)n, moved += (size_t)n;
    }
    return moved;
}

/* tile: 0 for one direction. option: the number of connections, which share the bytes. */
static void pump_all(struct rank *me, const struct limit_case *c, size_t bytes)
{
    struct pump pump[CONNS];
    const size_t part = bytes / (size_t)c->option;
    for (int k = 0; k < c->option; k++)
        pump[k] = (struct pump){.fd = me->conn[k],
                                .send = c->tile || me->rank == 0 ? part : 0,
                                .receive = c->tile || me->rank == 1 ? part : 0,
                                .from = (const char *)me->own_in + part * (size_t)k,
                                .to = (char *)me->own_out + part * (size_t)k};
    for (size_t left = 1, moved; left > 0;) {
        left = moved = 0;
        for (int k = 0; k < c->option; k++) {
            moved += pump_turn(me, &pump[k]);
            left += pump[k].send + pump[k].receive;
        }
        if (!moved && left) sched_yield();
    }
}

#define ONE (1u << 1)
#define TWO (1u << 2)
#define K   ((size_t)1 << 10)
#define MEMORY(what, how, from, function, result, ...)                                                                 \
    {                                                                                                                  \
        .limit = "memory", .name = what, .variant = how, .ranks = ONE | TWO, .min = from, .max = SIZE_MAX,             \
        .run = function, .coll = result, __VA_ARGS__                                                                   \
    }
#define PAIR(of, what, how, from, to, function, ...)                                                                   \
    {                                                                                                                  \
        .limit = of, .name = what, .variant = how, .ranks = TWO, .min = from, .max = to, .run = function, __VA_ARGS__  \
    }
#define PUMP(what, how, conns, both)                                                                                   \
    PAIR("socket", what, how, 64 * K, SIZE_MAX, pump_all, .option = conns, .tile = both)

const struct limit_case machine_cases[] = {
    MEMORY("memcpy", "plain", 64, copy, COLL_COPY, .nt = false),
    MEMORY("memcpy", "nt", 4 * K, copy, COLL_COPY, .nt = true),
    MEMORY("memcpy", "libc", 64, copy_libc, COLL_COPY, .nt = false),
    MEMORY("add", "plain", 64, add, COLL_NONE, .mapped = true),
    MEMORY("add", "nt", 4 * K, add, COLL_NONE, .mapped = true, .nt = true),
    MEMORY("accumulate", "plain", 64, accumulate, COLL_NONE, .nt = false),
    PAIR("flag", "one_way", "spin", 8, 8, flag_both_ways, .share = 0.5),
    PAIR("flag", "yield", "one core", 8, 8, flag_both_ways, .share = 0.5, .one_core = true),
    PAIR("socket", "pingpong", "blocking", 0, 64 * K, pingpong, .share = 0.5),
    PAIR("socket", "pingpong", "polling", 0, 64 * K, pingpong, .share = 0.5, .option = MSG_DONTWAIT),
    PAIR("socket", "stream", "blocking", 64 * K, SIZE_MAX, stream_blocking, .option = 1),
    PUMP("stream", "polling-1", 1, 0),
    PUMP("stream", "polling-2", 2, 0),
    PUMP("stream", "polling-4", 4, 0),
    PUMP("exchange", "polling-1", 1, 1),
    PUMP("exchange", "polling-2", 2, 1),
    PUMP("exchange", "polling-4", 4, 1),
};
const size_t machine_cases_count = sizeof machine_cases / sizeof *machine_cases;
