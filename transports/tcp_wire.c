/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and checks the frame header: nothing of it is used before it has passed here. */
#include "config.h"
#include "transports/tcp_wire.h"

void mdl_tcp_header_write(const struct mdl_tcp_header *h, uint8_t bytes[MDL_TCP_HEADER_BYTES])
{
    mdl_put_u32(bytes, MDL_TCP_MAGIC);
    bytes[4] = MDL_TCP_VERSION;
    bytes[5] = h->type;
    mdl_put_u16(bytes + 6, h->channel);
    mdl_put_u32(bytes + 8, h->length);
    mdl_put_u32(bytes + 12, h->src);
    mdl_put_u32(bytes + 16, h->dst);
    mdl_put_u32(bytes + 20, h->taken);
    mdl_put_u64(bytes + 24, h->seq);
    mdl_put_u64(bytes + 32, h->ack);
    mdl_put_u64(bytes + 40, h->number);
    mdl_put_u64(bytes + 48, h->tag);
    mdl_put_u64(bytes + 56, h->total);
}

static void parse(const uint8_t *bytes, struct mdl_tcp_header *h)
{
    h->type = bytes[5];
    h->channel = mdl_get_u16(bytes + 6);
    h->length = mdl_get_u32(bytes + 8);
    h->src = mdl_get_u32(bytes + 12);
    h->dst = mdl_get_u32(bytes + 16);
    h->taken = mdl_get_u32(bytes + 20);
    h->seq = mdl_get_u64(bytes + 24);
    h->ack = mdl_get_u64(bytes + 32);
    h->number = mdl_get_u64(bytes + 40);
    h->tag = mdl_get_u64(bytes + 48);
    h->total = mdl_get_u64(bytes + 56);
}

static const char *check_length(const struct mdl_tcp_header *h)
{
    switch (h->type) {
    case MDL_TCP_EAGER:
        if (h->length > MDL_TCP_MAX_EAGER || h->length != h->total) return "length of an eager message";
        return NULL;
    case MDL_TCP_CHUNK:
        if (h->length == 0 || h->length > MDL_TCP_MAX_CHUNK) return "length of a chunk";
        if (h->tag > h->total || h->length > h->total - h->tag) return "chunk outside its message";
        return NULL;
    case MDL_TCP_ACK:
    case MDL_TCP_BYE: return h->length == MDL_TCP_ACK_BYTES ? NULL : "length of an acknowledgement";
    default: return h->length == 0 ? NULL : "payload where none belongs";
    }
}

const char *mdl_tcp_header_read(const uint8_t bytes[MDL_TCP_HEADER_BYTES], uint32_t src, uint32_t dst,
                                struct mdl_tcp_header *h)
{
    if (mdl_get_u32(bytes) != MDL_TCP_MAGIC) return "magic";
    if (bytes[4] != MDL_TCP_VERSION) return "version";
    parse(bytes, h);
    if (h->type < MDL_TCP_EAGER || h->type >= MDL_TCP_TYPES) return "type";
    if (h->src != src) return "source rank";
    if (h->dst != dst) return "destination rank";
    if (h->channel >= MDL_MAX_CHANNELS) return "channel";
    if (mdl_tcp_sequenced(h->type) != (h->seq != 0)) return "sequence";
    if (h->ack == 0) return "acknowledgement";
    return check_length(h);
}
