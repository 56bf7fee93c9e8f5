/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A door's listening sockets.
 *
 * Accepting stops for a while, with the descriptors unwatched and a timer set, when the process has no descriptor left
 * (a level-triggered loop would spin) and when the cap of guests is reached by guests that deserve to stay. What waits
 * meanwhile waits in the kernel's queue.
 */
#include "config.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/door_part.h"
#include <errno.h>
#include <sodium.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ACCEPT_BURST = 16, PAUSE_SHORT_MS = 100, PAUSE_FULL_MS = 10 };

static void watch_all(struct mdl_door *door, uint32_t events)
{
    for (int i = 0; i < door->nlisteners; i++)
        if (mdl_reactor_watch(door->reactor, &door->listeners[i].watch, events) != medleySuccess)
            MDL_WARN(MDL_NET, "a listening socket is lost");
}

static void resume(struct mdl_timer *timer) { watch_all(mdl_container_of(timer, struct mdl_door, resume), EPOLLIN); }

static void pause_accepting(struct mdl_door *door, int ms)
{
    watch_all(door, 0);
    mdl_reactor_timer(door->reactor, &door->resume, mdl_now_ns() + (uint64_t)ms * MDL_NS_PER_MS);
}

static void short_of(struct mdl_door *door, int err)
{
    if (!door->told_short) mdl_system_error(err, "connections wait because none can be accepted");
    door->told_short = true;
    pause_accepting(door, PAUSE_SHORT_MS);
}

/* One connection less in the queue; false: stop for now. */
static bool accept_one(struct mdl_listener *at)
{
    struct mdl_door *door = at->door;
    if (!mdl_guest_make_room(door)) {
        pause_accepting(door, PAUSE_FULL_MS);
        return false;
    }
    int fd = accept4(at->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        door->told_short = false;
        mdl_guest_admit(at, fd);
        return true;
    }
    if (errno == EAGAIN) return false;
    bool is_short = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (is_short) short_of(door, errno);
    return !is_short; /* the others concern the one connection only */
}

/* A burst, then the guests get their turn: so a crowd of clients is served rather than pushed out by itself. */
static void on_listener(struct mdl_watch *w, uint32_t events)
{
    struct mdl_listener *at = mdl_container_of(w, struct mdl_listener, watch);
    for (int i = 0; i < ACCEPT_BURST && accept_one(at); i++) {}
}

/* ---- opening ---- */

static int add_listener(struct mdl_door *door, const struct mdl_addr *addr, const struct mdl_ports *ports)
{
    struct mdl_listener *l = &door->listeners[door->nlisteners];
    int fd;
    l->addr = *addr;
    int err = mdl_sock_listen(&l->addr, ports, &fd);
    if (err) return err;
    l->door = door;
    l->watch.fd = fd;
    l->watch.fn = on_listener;
    door->nlisteners++;
    return 0;
}

static int open_unix(struct mdl_door *door)
{
    static const struct mdl_ports one_try = {0, 0};
    uint8_t name[MDL_ADDR_UNIX_BYTES];
    struct mdl_addr addr;
    randombytes_buf(name, sizeof(name));
    mdl_addr_unix(name, &addr);
    int err = add_listener(door, &addr, &one_try);
    door->has_unix = !err;
    if (err) MDL_INFO(MDL_NET, "no abstract Unix sockets here: %s", strerror(err));
    return err;
}

/* Without loopback, unless that was asked for or nothing else is there. None at all where no interface is up, as in a
 * sandbox: ranks of this host still meet over Unix sockets. */
static medleyResult_t choose_addresses(const struct mdl_config *cfg, struct mdl_addr *list, int *count)
{
    int n;
    bool named = mdl_addr_explicit(cfg);
    medleyResult_t result = mdl_addr_interfaces(cfg, list, MDL_MAX_ADDRS, &n);
    if (result == medleySystemError && !named) {
        *count = 0;
        return medleySuccess;
    }
    if (result != medleySuccess) return result;
    if (!named && !list[0].loopback)
        while (list[n - 1].loopback) n--;
    *count = n;
    return medleySuccess;
}

static medleyResult_t open_tcp(struct mdl_door *door)
{
    struct mdl_addr list[MDL_MAX_ADDRS];
    struct mdl_ports ports;
    int n, err = 0, failed = 0;
    char text[MDL_ADDR_TEXT_BYTES];
    MDL_TRY(mdl_ports_parse(door->cfg.port_range.s, &ports));
    MDL_TRY(choose_addresses(&door->cfg, list, &n));
    for (int i = 0; i < n; i++) {
        int e = add_listener(door, &list[i], &ports);
        if (!e) continue;
        err = e;
        failed = i;
        mdl_addr_format(&list[i], text);
        MDL_INFO(MDL_NET, "cannot listen on %s (%s): %s", text, list[i].ifname, strerror(e));
    }
    if (door->nlisteners || !n) return medleySuccess;
    mdl_addr_format(&list[failed], text);
    return mdl_system_error(err, "cannot listen on %s or any other address%s%s", text,
                            ports.first ? ", MEDLEY_PORT_RANGE=" : "", door->cfg.port_range.s);
}

static void tell_addresses(const struct mdl_door *door)
{
    char text[MDL_ADDR_TEXT_BYTES];
    for (int i = 0; i < door->nlisteners; i++) {
        const struct mdl_addr *a = &door->listeners[i].addr;
        mdl_addr_format(a, text);
        MDL_INFO(MDL_NET, "listening on %s %s", text, a->ifname);
    }
}

medleyResult_t mdl_door_open(struct mdl_door *door)
{
    door->resume.fn = resume;
    MDL_TRY(open_tcp(door));
    int err = open_unix(door);
    if (!door->nlisteners)
        return mdl_system_error(err, "nothing to listen on: no network interface is up, and no Unix socket");
    for (int i = 0; i < door->nlisteners; i++)
        MDL_TRY(mdl_reactor_watch(door->reactor, &door->listeners[i].watch, EPOLLIN));
    tell_addresses(door);
    return medleySuccess;
}

void mdl_door_shut(struct mdl_door *door)
{
    mdl_reactor_timer_cancel(door->reactor, &door->resume);
    for (int i = 0; i < door->nlisteners; i++) {
        mdl_reactor_unwatch(door->reactor, &door->listeners[i].watch);
        close(door->listeners[i].watch.fd);
    }
    door->nlisteners = 0;
}
