/* SPDX-License-Identifier: Apache-2.0 */
/* Which local address shall be joined with which address of a peer. */
#ifndef MDL_TRANSPORTS_TCP_RAIL_H_
#define MDL_TRANSPORTS_TCP_RAIL_H_

#include "lib/net/addr.h"

enum { MDL_TCP_MAX_RAILS = 8 };

struct mdl_tcp_rail {
    struct mdl_addr local; /* bound to; len 0: the system chooses */
    struct mdl_addr remote;
};

/* Pairs each local interface with an address of the peer: of one family, loopback only with loopback and only if there
 * is nothing else, preferring the longest common prefix (one subnet), then equal positions in both lists; no address of
 * the peer is used twice as long as there are others. Returns the number of rails. */
int mdl_tcp_rails(const struct mdl_addr *locals, int nlocals, const struct mdl_addr *remotes, int nremotes,
                  struct mdl_tcp_rail rails[MDL_TCP_MAX_RAILS]);

/* Leading bits that two addresses share; -1: different families. */
int mdl_addr_common_bits(const struct mdl_addr *a, const struct mdl_addr *b);

#endif
