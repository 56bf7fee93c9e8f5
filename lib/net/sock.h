/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets as the door and the dial use them: always close-on-exec and non-blocking. */
#ifndef MDL_NET_SOCK_H_
#define MDL_NET_SOCK_H_

#include "lib/net/auth.h"

struct mdl_ports {
    int first, last; /* 0, 0: the system chooses */
};
medleyResult_t mdl_ports_parse(const char *text, struct mdl_ports *ports) MDL_MUST_USE;

/* Listens on `a` with the first free port of `ports`, which it stores in `a`. 0 or errno. */
int mdl_sock_listen(struct mdl_addr *a, const struct mdl_ports *ports, int *fd);

/* Begins to connect: 0 (connected), EINPROGRESS, or another errno with *fd untouched. bind may be NULL. */
int mdl_sock_connect(const struct mdl_addr *to, const struct mdl_addr *bind, int *fd);

/* What became of a connection that was in progress: 0 or errno. A socket that connected to itself, which happens when
 * the system picks the wanted port for the local end, counts as refused. */
int mdl_sock_connected(int fd);

/* The options that every link has. */
void mdl_sock_tune(int fd, int family);

/* The name of the congestion control that the kernel gives to new connections; "" if it does not tell. Connections of
 * this module begin with reno where that is bbr. */
enum { MDL_SOCK_CONGESTION_BYTES = 17 };
void mdl_sock_congestion_default(char name[MDL_SOCK_CONGESTION_BYTES]);

/* A pidfd of the process at the other end of a Unix socket, and its number as this process sees it (0: it does not);
 * -1 without one, or if that process is this one. */
int mdl_sock_pidfd(int fd, pid_t *pid);

/* Both ends' addresses. */
void mdl_sock_ends(int fd, struct mdl_addr *local, struct mdl_addr *remote);

/* Moves handshake bytes until the socket has no more, or the state needs its owner (ANSWERED, DONE, FAILED). 0, an
 * errno, or MDL_SOCK_EOF. */
enum { MDL_SOCK_EOF = -1 };
int mdl_sock_shake(int fd, struct mdl_auth *auth);

/* What epoll shall wait for to go on with it. */
uint32_t mdl_sock_events(const struct mdl_auth *auth);

#endif
