/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers of one size for eager messages: copies that wait for their acknowledgement, and messages that nobody has
 * asked for yet. Buffers given back are kept, so that the fast path allocates nothing once it is warm. */
#ifndef MDL_TRANSPORTS_TCP_POOL_H_
#define MDL_TRANSPORTS_TCP_POOL_H_

#include "lib/base/list.h"
#include <stdint.h>
#include <stdlib.h>

struct mdl_tcp_buf {
    struct mdl_list link; /* for the holder */
    uint64_t number, tag; /* the message that it holds */
    size_t len;
    uint8_t data[];
};

struct mdl_tcp_pool {
    struct mdl_list idle;
    size_t bytes; /* of each */
};

static inline void mdl_tcp_pool_init(struct mdl_tcp_pool *p, size_t bytes)
{
    mdl_list_init(&p->idle);
    p->bytes = bytes;
}

/* NULL: no memory. */
static inline struct mdl_tcp_buf *mdl_tcp_pool_get(struct mdl_tcp_pool *p)
{
    struct mdl_tcp_buf *b;
    if (mdl_list_empty(&p->idle)) {
        b = malloc(sizeof *b + p->bytes);
        if (b) mdl_list_init(&b->link);
        return b;
    }
    b = mdl_container_of(p->idle.next, struct mdl_tcp_buf, link);
    mdl_list_remove(&b->link);
    return b;
}

static inline void mdl_tcp_pool_put(struct mdl_tcp_pool *p, struct mdl_tcp_buf *b)
{
    if (!b) return;
    mdl_list_remove(&b->link);
    /* Newest first: it is still in the cache. */
    b->link.prev = &p->idle;
    b->link.next = p->idle.next;
    p->idle.next->prev = &b->link;
    p->idle.next = &b->link;
}

static inline void mdl_tcp_pool_fini(struct mdl_tcp_pool *p)
{
    mdl_list_each (it, &p->idle) free(mdl_container_of(it, struct mdl_tcp_buf, link));
    mdl_list_init(&p->idle);
}

#endif
