/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairs interfaces. The wire tells addresses without their masks, so a shared subnet shows as a long common prefix. A
 * wrong pair does no harm: its connection fails (the handshake knows whom it wants) and the other rails carry on.
 */
#include "config.h"
#include "transports/tcp_rail.h"
#include <netinet/in.h>

static int prefix_bits(const uint8_t *a, const uint8_t *b, int bytes)
{
    int i = 0, bits = 0;
    while (i < bytes && a[i] == b[i]) i++;
    if (i == bytes) return 8 * bytes;
    for (unsigned diff = a[i] ^ b[i]; !(diff & 0x80); diff <<= 1) bits++;
    return 8 * i + bits;
}

int mdl_addr_common_bits(const struct mdl_addr *a, const struct mdl_addr *b)
{
    if (a->sa.ss_family != b->sa.ss_family) return -1;
    if (a->sa.ss_family == AF_INET)
        return prefix_bits((const uint8_t *)&((const struct sockaddr_in *)&a->sa)->sin_addr,
                           (const uint8_t *)&((const struct sockaddr_in *)&b->sa)->sin_addr, 4);
    if (a->sa.ss_family == AF_INET6)
        return prefix_bits((const uint8_t *)&((const struct sockaddr_in6 *)&a->sa)->sin6_addr,
                           (const uint8_t *)&((const struct sockaddr_in6 *)&b->sa)->sin6_addr, 16);
    return -1;
}

static bool link_local(const struct mdl_addr *a)
{
    return a->sa.ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
}

/* How well two addresses go together; negative: not at all. */
static int score(const struct mdl_addr *l, int i, const struct mdl_addr *r, int j)
{
    int bits = mdl_addr_common_bits(l, r);
    if (bits < 0 || l->loopback != r->loopback || link_local(l) != link_local(r)) return -1;
    if (l->sa.ss_family == AF_INET6) bits /= 4; /* as much of the address as the same number of IPv4 bits */
    int distance = i < j ? j - i : i - j;
    return 64 * bits + (link_local(l) ? 0 : 32) + MDL_MAX_ADDRS - distance;
}

struct pairing {
    const struct mdl_addr *locals, *remotes;
    int nlocals, nremotes;
    bool local_used[MDL_MAX_ADDRS], remote_used[MDL_MAX_ADDRS];
};

static void use_interface(struct pairing *p, int i)
{
    for (int k = 0; k < p->nlocals; k++)
        if (k == i || (p->locals[i].ifname[0] && strcmp(p->locals[k].ifname, p->locals[i].ifname) == 0))
            p->local_used[k] = true;
}

/* The best pair that is left. `again`: addresses of the peer that are in use may be used once more. */
static bool best_pair(struct pairing *p, bool loopback, bool again, int *bi, int *bj)
{
    int best = -1;
    for (int i = 0; i < p->nlocals; i++)
        for (int j = 0; j < p->nremotes; j++) {
            if (p->local_used[i] || p->locals[i].loopback != loopback || (p->remote_used[j] && !again)) continue;
            int s = score(&p->locals[i], i, &p->remotes[j], j);
            if (s <= best) continue;
            best = s;
            *bi = i;
            *bj = j;
        }
    return best >= 0;
}

static int pair_all(struct pairing *p, bool loopback, struct mdl_tcp_rail *rails)
{
    int n = 0, i, j;
    for (int again = 0; again < 2; again++)
        while (n < MDL_TCP_MAX_RAILS && best_pair(p, loopback, again, &i, &j)) {
            rails[n++] = (struct mdl_tcp_rail){.local = p->locals[i], .remote = p->remotes[j]};
            use_interface(p, i);
            p->remote_used[j] = true;
        }
    return n;
}

int mdl_tcp_rails(const struct mdl_addr *locals, int nlocals, const struct mdl_addr *remotes, int nremotes,
                  struct mdl_tcp_rail rails[MDL_TCP_MAX_RAILS])
{
    struct pairing p = {.locals = locals, .remotes = remotes, .nlocals = nlocals, .nremotes = nremotes};
    int n = pair_all(&p, false, rails);
    return n ? n : pair_all(&p, true, rails);
}
