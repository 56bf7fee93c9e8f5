/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: wire format, text, comparison. An IPv6 scope is local to a host and does not travel; whoever dials a
 * link-local address fills in its own. */
#include "config.h"
#include "lib/net/addr.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum { FAMILY_UNIX = 1, FAMILY_INET = 4, FAMILY_INET6 = 6, FLAG_LOOPBACK = 1 };

static struct sockaddr_in *in4(struct mdl_addr *a) { return (struct sockaddr_in *)&a->sa; }
static struct sockaddr_in6 *in6(struct mdl_addr *a) { return (struct sockaddr_in6 *)&a->sa; }
static struct sockaddr_un *un(struct mdl_addr *a) { return (struct sockaddr_un *)&a->sa; }
static const struct sockaddr_in *cin4(const struct mdl_addr *a) { return (const struct sockaddr_in *)&a->sa; }
static const struct sockaddr_in6 *cin6(const struct mdl_addr *a) { return (const struct sockaddr_in6 *)&a->sa; }
static const struct sockaddr_un *cun(const struct mdl_addr *a) { return (const struct sockaddr_un *)&a->sa; }

uint16_t mdl_addr_port(const struct mdl_addr *a)
{
    if (a->sa.ss_family == AF_INET) return ntohs(cin4(a)->sin_port);
    if (a->sa.ss_family == AF_INET6) return ntohs(cin6(a)->sin6_port);
    return 0;
}

void mdl_addr_set_port(struct mdl_addr *a, uint16_t port)
{
    if (a->sa.ss_family == AF_INET) in4(a)->sin_port = htons(port);
    if (a->sa.ss_family == AF_INET6) in6(a)->sin6_port = htons(port);
}

void mdl_addr_unix(const uint8_t name[MDL_ADDR_UNIX_BYTES], struct mdl_addr *a)
{
    memset(a, 0, sizeof(*a));
    a->sa.ss_family = AF_UNIX;
    memcpy(un(a)->sun_path + 1, name, MDL_ADDR_UNIX_BYTES);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + MDL_ADDR_UNIX_BYTES);
    a->loopback = true;
}

void mdl_addr_write(struct mdl_writer *w, const struct mdl_addr *a)
{
    uint8_t raw[16] = {0}, family = FAMILY_UNIX;
    if (a->sa.ss_family == AF_INET) {
        family = FAMILY_INET;
        memcpy(raw, &cin4(a)->sin_addr, 4);
    } else if (a->sa.ss_family == AF_INET6) {
        family = FAMILY_INET6;
        memcpy(raw, &cin6(a)->sin6_addr, 16);
    } else {
        memcpy(raw, cun(a)->sun_path + 1, sizeof(raw));
    }
    mdl_write_u8(w, family);
    mdl_write_u8(w, a->loopback ? FLAG_LOOPBACK : 0);
    mdl_write_u16(w, mdl_addr_port(a));
    mdl_write_bytes(w, raw, sizeof(raw));
    mdl_write_u32(w, a->mbps);
}

/* false: not a family that we know. */
static bool fill(struct mdl_addr *a, uint8_t family, uint16_t port, const uint8_t raw[16])
{
    if (family == FAMILY_UNIX) {
        mdl_addr_unix(raw, a);
        return true;
    }
    memset(a, 0, sizeof(*a));
    if (family == FAMILY_INET) {
        a->sa.ss_family = AF_INET;
        a->len = sizeof(struct sockaddr_in);
        memcpy(&in4(a)->sin_addr, raw, 4);
    } else if (family == FAMILY_INET6) {
        a->sa.ss_family = AF_INET6;
        a->len = sizeof(struct sockaddr_in6);
        memcpy(&in6(a)->sin6_addr, raw, 16);
    } else {
        return false;
    }
    mdl_addr_set_port(a, port);
    return true;
}

medleyResult_t mdl_addr_read(struct mdl_reader *r, struct mdl_addr *a)
{
    struct mdl_addr got;
    uint8_t raw[16];
    uint8_t family = mdl_read_u8(r), flags = mdl_read_u8(r);
    uint16_t port = mdl_read_u16(r);
    mdl_read_bytes(r, raw, sizeof(raw));
    uint32_t mbps = mdl_read_u32(r);
    if (r->bad) return mdl_error(medleyRemoteError, "a peer sent an address that is cut short");
    if (!fill(&got, family, port, raw))
        return mdl_error(medleyRemoteError, "a peer sent an address of unknown family %d", family);
    got.loopback = flags & FLAG_LOOPBACK;
    got.mbps = mbps;
    *a = got;
    return medleySuccess;
}

static void format_unix(const struct mdl_addr *a, char *text)
{
    size_t named =
        a->len > offsetof(struct sockaddr_un, sun_path) + 1 ? a->len - offsetof(struct sockaddr_un, sun_path) - 1 : 0;
    int n = sprintf(text, "unix:");
    for (size_t i = 0; i < named && i < MDL_ADDR_UNIX_BYTES; i++)
        n += sprintf(text + n, "%02x", (uint8_t)cun(a)->sun_path[1 + i]);
}

void mdl_addr_format(const struct mdl_addr *a, char text[MDL_ADDR_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "", scope[IF_NAMESIZE] = "";
    if (a->sa.ss_family == AF_INET) {
        inet_ntop(AF_INET, &cin4(a)->sin_addr, host, sizeof(host));
        snprintf(text, MDL_ADDR_TEXT_BYTES, "%s:%u", host, mdl_addr_port(a));
    } else if (a->sa.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &cin6(a)->sin6_addr, host, sizeof(host));
        unsigned id = cin6(a)->sin6_scope_id;
        if (id && !if_indextoname(id, scope)) snprintf(scope, sizeof(scope), "%u", id);
        snprintf(text, MDL_ADDR_TEXT_BYTES, "[%s%s%s]:%u", host, id ? "%" : "", scope, mdl_addr_port(a));
    } else if (a->sa.ss_family == AF_UNIX) {
        format_unix(a, text);
    } else {
        snprintf(text, MDL_ADDR_TEXT_BYTES, "(no address)");
    }
}

bool mdl_addr_same_host(const struct mdl_addr *a, const struct mdl_addr *b)
{
    if (a->sa.ss_family != b->sa.ss_family) return false;
    if (a->sa.ss_family == AF_INET) return cin4(a)->sin_addr.s_addr == cin4(b)->sin_addr.s_addr;
    if (a->sa.ss_family == AF_INET6)
        return !memcmp(&cin6(a)->sin6_addr, &cin6(b)->sin6_addr, 16) &&
               cin6(a)->sin6_scope_id == cin6(b)->sin6_scope_id;
    return a->len == b->len &&
           !memcmp(cun(a)->sun_path, cun(b)->sun_path, a->len - offsetof(struct sockaddr_un, sun_path));
}

/* Splits "host:port" or "[host]:port"; false if it is neither, or the port is not 1..65535. */
static bool split(const char *text, char *host, size_t bytes, const char **port)
{
    const char *colon = strrchr(text, ':'), *end = colon;
    if (!colon || colon == text) return false;
    if (*text == '[') {
        text++;
        if (*--end != ']') return false;
    } else if (memchr(text, ':', (size_t)(colon - text))) {
        return false; /* ::1:5000 has two readings */
    }
    if (end <= text || (size_t)(end - text) >= bytes) return false;
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = 0;
    *port = colon + 1;
    char *rest;
    unsigned long n = strtoul(*port, &rest, 10);
    return (*port)[0] >= '0' && (*port)[0] <= '9' && !*rest && n >= 1 && n <= 65535;
}

static bool known(const struct mdl_addr *list, int n, const struct addrinfo *ai)
{
    for (int i = 0; i < n; i++)
        if (list[i].len == ai->ai_addrlen && !memcmp(&list[i].sa, ai->ai_addr, ai->ai_addrlen)) return true;
    return false;
}

static bool is_loopback(const struct mdl_addr *a)
{
    if (a->sa.ss_family == AF_INET) return (ntohl(cin4(a)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&cin6(a)->sin6_addr);
}

medleyResult_t mdl_addr_parse(const char *host_port, struct mdl_addr *list, int cap, int *count)
{
    char host[256];
    const char *port;
    if (!split(host_port, host, sizeof(host), &port))
        return mdl_error(medleyInvalidArgument, "%s is not an address: write host:port or [IPv6 address]:port",
                         host_port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    int err = getaddrinfo(host, port, &hints, &found);
    if (err == EAI_SYSTEM) return mdl_system_error(errno, "the host name %s cannot be resolved", host);
    if (err) return mdl_error(medleySystemError, "the host name %s cannot be resolved: %s", host, gai_strerror(err));
    int n = 0;
    for (struct addrinfo *ai = found; ai && n < cap; ai = ai->ai_next) {
        if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) || known(list, n, ai)) continue;
        memset(&list[n], 0, sizeof(list[n]));
        memcpy(&list[n].sa, ai->ai_addr, ai->ai_addrlen);
        list[n].len = ai->ai_addrlen;
        list[n].loopback = is_loopback(&list[n]);
        n++;
    }
    freeaddrinfo(found);
    if (!n) return mdl_error(medleySystemError, "the host name %s has no IPv4 or IPv6 address", host);
    *count = n;
    return medleySuccess;
}
