/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets after close: what was sent shall arrive.
 *
 * A socket that is closed answers the peer's next frame with a reset, and the kernel then drops what it has not
 * delivered yet: messages that were done here would be lost there. So a socket first only stops sending, and is closed
 * when the peer's kernel has everything or the peer has closed too. Mostly that is at once; what takes longer
 * than a millisecond or two is left to the monitor, which holds such sockets for a bounded time.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "transports/tcp_context.h"
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HERE_MS = 1, LOOK_MS = 10, LATEST_S = 30, DISCARDS = 64 };

struct leaving {
    struct mdl_reactor *reactor;
    struct mdl_task begin;
    struct mdl_timer timer;
    uint64_t until_ns;
    int count, fds[];
};

/* Throws away what comes; true: the peer closed, or the connection broke. */
static bool discard(int fd)
{
    char scratch[16384];
    for (int i = 0; i < DISCARDS; i++) {
        ssize_t n = recv(fd, scratch, sizeof scratch, MSG_DONTWAIT);
        if (n == 0) return true;
        if (n < 0 && errno != EINTR) return errno != EAGAIN && errno != EWOULDBLOCK;
    }
    return false;
}

static bool delivered(int fd)
{
    int waiting;
    return discard(fd) || ioctl(fd, TIOCOUTQ, &waiting) < 0 || waiting == 0;
}

/* Closes those that are done; returns the number of the others, which it moves to the front. */
static int close_delivered(int *fds, int count)
{
    int left = 0;
    for (int i = 0; i < count; i++) {
        if (delivered(fds[i]))
            close(fds[i]);
        else
            fds[left++] = fds[i];
    }
    return left;
}

static void close_all(const int *fds, int count)
{
    for (int i = 0; i < count; i++) close(fds[i]);
}

static void look(struct mdl_timer *timer)
{
    struct leaving *l = mdl_container_of(timer, struct leaving, timer);
    uint64_t now = mdl_now_ns();
    l->count = close_delivered(l->fds, l->count);
    if (l->count && now < l->until_ns) {
        mdl_reactor_timer(l->reactor, timer, now + LOOK_MS * MDL_NS_PER_MS);
        return;
    }
    struct mdl_reactor *reactor = l->reactor;
    close_all(l->fds, l->count);
    free(l);
    mdl_reactor_put(reactor);
}

static void begin(struct mdl_task *task) { look(&mdl_container_of(task, struct leaving, begin)->timer); }

static void leave_to_monitor(const struct mdl_config *cfg, const int *fds, int count)
{
    struct leaving *l = calloc(1, sizeof *l + (size_t)count * sizeof *fds);
    if (!l || mdl_reactor_get(cfg->cpu_set.s, &l->reactor) != medleySuccess) {
        free(l);
        close_all(fds, count);
        return;
    }
    l->begin.fn = begin;
    l->timer.fn = look;
    l->until_ns = mdl_now_ns() + LATEST_S * MDL_NS_PER_S;
    l->count = count;
    memcpy(l->fds, fds, (size_t)count * sizeof *fds);
    mdl_reactor_post(l->reactor, &l->begin);
}

void mdl_tcp_linger(const struct mdl_config *cfg, int *fds, int count)
{
    uint64_t until = mdl_now_ns() + HERE_MS * MDL_NS_PER_MS;
    while ((count = close_delivered(fds, count)) && mdl_now_ns() < until) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        poll(&p, 1, 1);
    }
    if (count) leave_to_monitor(cfg, fds, count);
}
