/* SPDX-License-Identifier: Apache-2.0 */
/* Network addresses: IPv4, IPv6 (with scope) and abstract Unix names; the interfaces of this machine and which of them
 * to use. */
#ifndef MDL_NET_ADDR_H_
#define MDL_NET_ADDR_H_

#include "lib/base/bytes.h"
#include "lib/base/config.h"
#include <sys/socket.h>

enum { MDL_ADDR_WIRE_BYTES = 24, MDL_ADDR_TEXT_BYTES = 80, MDL_MAX_ADDRS = 16, MDL_ADDR_UNIX_BYTES = 16 };

struct mdl_addr {
    struct sockaddr_storage sa;
    socklen_t len;
    char ifname[32]; /* empty if unknown: it does not travel */
    uint32_t mbps;   /* speed of the link, 0: unknown */
    bool loopback;
};

/* On the wire: family u8 (4, 6 or 1 = abstract Unix), flags u8 (1 = loopback), port u16, 16 bytes address (or random
 * Unix name), mbps u32. */
void mdl_addr_write(struct mdl_writer *w, const struct mdl_addr *a);
medleyResult_t mdl_addr_read(struct mdl_reader *r, struct mdl_addr *a) MDL_MUST_USE;

/* Makes the address of an abstract Unix socket. */
void mdl_addr_unix(const uint8_t name[MDL_ADDR_UNIX_BYTES], struct mdl_addr *a);

uint16_t mdl_addr_port(const struct mdl_addr *a); /* 0 for a Unix name */
void mdl_addr_set_port(struct mdl_addr *a, uint16_t port);

void mdl_addr_format(const struct mdl_addr *a, char text[MDL_ADDR_TEXT_BYTES]);

/* Resolves "host:port" or "[::1]:5000" into at most `cap` addresses. MAY BLOCK in the resolver. */
medleyResult_t mdl_addr_parse(const char *host_port, struct mdl_addr *list, int cap, int *count) MDL_MUST_USE;

bool mdl_addr_same_host(const struct mdl_addr *a, const struct mdl_addr *b); /* ports apart */

/* The addresses of the interfaces that are up and that `cfg` (socket_ifname, socket_family) selects: non-loopback ones
 * first (bridges of containers and virtual machines after the others), then loopback. Nothing left: an error that lists
 * what there is. */
medleyResult_t mdl_addr_interfaces(const struct mdl_config *cfg, struct mdl_addr *list, int cap,
                                   int *count) MDL_MUST_USE;
/* Does that leave any? Of what was so a moment ago it does not ask the kernel again. [any thread] */
medleyResult_t mdl_addr_interfaces_check(const struct mdl_config *cfg) MDL_MUST_USE;

/* The same choice from given addresses (the order within each kind is kept). For tests. */
medleyResult_t mdl_addr_select(const struct mdl_config *cfg, const struct mdl_addr *found, int nfound,
                               struct mdl_addr *list, int cap, int *count) MDL_MUST_USE;

/* Does socket_ifname name what to take, rather than nothing or only what to leave out? Then loopback in the list was
 * asked for. */
bool mdl_addr_explicit(const struct mdl_config *cfg);

/* The name of the interface that holds the local end of a connected socket; empty if there is none. */
void mdl_addr_interface_of(int fd, char *name, size_t bytes);

#endif
