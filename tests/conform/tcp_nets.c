/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP transport between two hosts with two networks, which are network namespaces: tcp_nets_test.sh makes them and
 * runs this. Each side has the interfaces rail0 and rail1; rail1 of rank 0 is slow.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "tests/conform/transport.h"
#include "transports/tcp_context.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

static void transfer(struct rank *r, size_t len, const char *midway)
{
    struct mdl_request *req = request_new(r);
    uint8_t *p = malloc(len);
    if (r->rank == 0) {
        fill_bytes(p, len, len);
        post_send(r, 1, 0, p, len, len, req);
    } else {
        post_recv(r, 0, 0, p, len, len, req);
    }
    while (req->state == MDL_REQ_ACTIVE) {
        CHECK(turn(r) == medleySuccess);
        if (!midway || req->bytes < len / 4) continue;
        if (r->rank == 0) CHECK(system(midway) == 0);
        midway = NULL;
    }
    CHECK(req->state == MDL_REQ_DONE, "result %d", req->result);
    if (r->rank == 1) check_bytes(p, len, len);
    barrier_progress(r);
    free(p);
    free(req);
}

static int lanes_of(struct rank *r, const char *interface)
{
    const struct mdl_tcp_peer *p = ((struct mdl_tcp *)r->ctx)->peers[1 - r->rank];
    int n = 0;
    for (int i = 0; p && i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i] && strcmp(p->lanes[i]->local.ifname, interface) == 0) n++;
    return n;
}

static void wait_rails(struct rank *r)
{
    while (lanes_of(r, "rail0") < 2 || lanes_of(r, "rail1") < 2) {
        CHECK(turn(r) == medleySuccess);
        sched_yield();
    }
    barrier_progress(r);
}

/* Both networks are used, each with its own sockets, each socket on its own network. */
static void case_two_rails(struct rank *r)
{
    struct mdl_link_info info;
    transfer(r, MIB, NULL);
    wait_rails(r);
    r->tr->link(r->ctx, 1 - r->rank, &info);
    CHECK(strcmp(info.interface, "rail0,rail1") == 0 || strcmp(info.interface, "rail1,rail0") == 0, "%s",
          info.interface);
    const struct mdl_tcp_peer *p = ((struct mdl_tcp *)r->ctx)->peers[1 - r->rank];
    for (int i = 0; i < MDL_TCP_MAX_LANES; i++)
        if (p->lanes[i]) CHECK(mdl_addr_common_bits(&p->lanes[i]->local, &p->lanes[i]->remote) >= 24);
    barrier_progress(r);
}

/* The slow network (10 Mbit/s) would take 27 s for its half; the fast one takes over. */
static void case_slow_rail(struct rank *r)
{
    transfer(r, MIB, NULL);
    wait_rails(r);
    uint64_t start = mdl_now_ns();
    transfer(r, 64 * MIB, NULL);
    CHECK(mdl_now_ns() - start < within_s(8), "%.1f s", (double)(mdl_now_ns() - start) / 1e9);
}

/* A cable is pulled: what was on that network goes over the other one; then it is put back. */
static void case_cut_one(struct rank *r)
{
    struct mdl_link_info info;
    transfer(r, MIB, NULL);
    wait_rails(r);
    if (r->rank == 0) CHECK(system("tc qdisc del dev rail1 root 2>/dev/null || true") == 0); /* no longer slow */
    transfer(r, 128 * MIB, "ip link set rail0 down");
    r->tr->link(r->ctx, 1 - r->rank, &info);
    CHECK(r->rank == 1 || info.retries > 0, "no retries");
    if (r->rank == 0) CHECK(system("ip link set rail0 up && ip addr replace 10.77.0.1/24 dev rail0") == 0);
    wait_rails(r);
    transfer(r, 8 * MIB, NULL);
}

static void case_cut_all(struct rank *r)
{
    struct mdl_request *req = request_new(r);
    uint8_t *p = calloc(1, 64 * MIB);
    transfer(r, MIB, NULL);
    wait_rails(r);
    if (r->rank == 0) CHECK(system("ip link set rail0 down && ip link set rail1 down") == 0);
    barrier(r);
    uint64_t start = mdl_now_ns();
    if (r->rank == 0)
        post_send(r, 1, 0, p, 64 * MIB, 0, req);
    else
        post_send(r, 0, 1, p, 100, 0, req); /* done at once: the loss shows all the same */
    while (atomic_load(&r->w->lost[r->rank][1 - r->rank]) == 0) {
        CHECK(mdl_now_ns() - start < within_s(15), "the cut was not noticed");
        (void)turn(r);
        sched_yield();
    }
    CHECK(r->rank == 1 || (req->state == MDL_REQ_FAILED && req->result == medleyRemoteError));
    barrier(r);
    if (r->rank == 0)
        CHECK(system("ip link set rail0 up && ip addr replace 10.77.0.1/24 dev rail0 && "
                     "ip link set rail1 up && ip addr replace 10.77.1.1/24 dev rail1") == 0);
    barrier(r);
    rank_close(r);
    free(p);
    free(req);
}

/* Rank 0 is done and leaves while most of what it sent is still in its kernel, behind a slow network. */
static void case_leave_slowly(struct rank *r)
{
    enum { LEN = 4000, MOST = 60 };
    struct mdl_request *req = NULL;
    uint8_t *p = malloc(LEN);
    unsigned long done = 0;
    transfer(r, 1000, NULL);
    if (r->rank == 0) {
        for (bool full = false; !full && done < MOST; done += !full) {
            free(req);
            req = request_new(r);
            fill_bytes(p, LEN, done);
            post_send(r, 1, 1, p, LEN, done, req);
            for (int n = 0; n < 100 && req->state == MDL_REQ_ACTIVE; n++) CHECK(turn(r) == medleySuccess);
            full = req->state == MDL_REQ_ACTIVE;
        }
        uint64_t start = mdl_now_ns();
        rank_close(r);
        CHECK(mdl_now_ns() - start < within_s(1), "close took %.1f s", (double)(mdl_now_ns() - start) / 1e9);
        atomic_store(&r->w->words[0], done);
        /* The process lives on: what it left to the monitor needs it. */
        while (atomic_load(&r->w->words[1]) == 0) sched_yield();
    } else {
        req = request_new(r);
        while (atomic_load(&r->w->words[0]) == 0) sched_yield();
        done = atomic_load(&r->w->words[0]);
        for (uint64_t i = 0; i < done; i++) {
            post_recv(r, 0, 1, p, LEN, i, req);
            wait_done(r, req);
            check_bytes(p, LEN, i);
        }
        atomic_store(&r->w->words[1], 1);
    }
    free(p);
    free(req);
}

static const struct test_case cases[] = {
    {"two_rails", 2, PROCESSES, case_two_rails, NULL, 0},
    {"slow_rail", 2, PROCESSES, case_slow_rail, NULL, 60},
    {"leave_slowly", 2, PROCESSES, case_leave_slowly, "MEDLEY_SOCKET_IFNAME=rail1", 60},
    {"cut_one", 2, PROCESSES, case_cut_one, "MEDLEY_DEAD_AFTER=20s", 60},
    {"cut_all", 2, PROCESSES, case_cut_all, "MEDLEY_DEAD_AFTER=2s", 60},
};

int main(int argc, char **argv) { return run_cases("tcp", cases, sizeof cases / sizeof *cases, argc, argv); }
