/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the same-host handover: a rank's address, questions and answers. docs/wire.md lists them. */
#include "config.h"
#include "transports/shm.h"

enum { MAGIC = 0x4d48534d, HANDOVER_VERSION = 2 }; /* "MSHM" */

static void write_head(struct mdl_writer *w, uint16_t type)
{
    mdl_write_u32(w, MAGIC);
    mdl_write_u16(w, HANDOVER_VERSION);
    mdl_write_u16(w, type);
}

static bool read_head(struct mdl_reader *r, uint16_t *type)
{
    uint32_t magic = mdl_read_u32(r);
    uint16_t version = mdl_read_u16(r);
    *type = mdl_read_u16(r);
    return magic == MAGIC && version == HANDOVER_VERSION;
}

void mdl_shm_query_write(const struct mdl_shm_query *q, uint8_t bytes[MDL_SHM_QUERY_BYTES])
{
    struct mdl_writer w = {.p = bytes, .cap = MDL_SHM_QUERY_BYTES};
    write_head(&w, q->type);
    mdl_write_u64(&w, q->seq);
    mdl_write_u64(&w, q->segment);
    mdl_write_u64(&w, q->check);
}

bool mdl_shm_query_read(const uint8_t bytes[MDL_SHM_QUERY_BYTES], struct mdl_shm_query *q)
{
    struct mdl_reader r = {.p = bytes, .left = MDL_SHM_QUERY_BYTES};
    if (!read_head(&r, &q->type)) return false;
    q->seq = mdl_read_u64(&r);
    q->segment = mdl_read_u64(&r);
    q->check = mdl_read_u64(&r);
    return q->type >= MDL_SHM_ASK_HELLO && q->type <= MDL_SHM_ASK_RING;
}

void mdl_shm_reply_write(const struct mdl_shm_reply *r, uint8_t bytes[MDL_SHM_REPLY_BYTES])
{
    struct mdl_writer w = {.p = bytes, .cap = MDL_SHM_REPLY_BYTES};
    write_head(&w, r->type);
    mdl_write_u16(&w, r->status);
    mdl_write_u16(&w, 0);
    mdl_write_u32(&w, r->nfds);
    mdl_write_u64(&w, r->seq);
    mdl_write_u64(&w, r->len);
    mdl_write_u64(&w, r->region);
    mdl_write_u64(&w, r->nonce);
    mdl_write_u32(&w, r->ring_bytes);
    mdl_write_u32(&w, r->bulk_slots);
    mdl_write_u32(&w, r->bulk_bytes);
    mdl_write_u32(&w, r->gone);
    mdl_write_u64(&w, r->bells);
    mdl_write_u64(&w, r->segment_len);
}

bool mdl_shm_reply_read(const uint8_t bytes[MDL_SHM_REPLY_BYTES], struct mdl_shm_reply *r)
{
    struct mdl_reader rd = {.p = bytes, .left = MDL_SHM_REPLY_BYTES};
    if (!read_head(&rd, &r->type)) return false;
    r->status = mdl_read_u16(&rd);
    mdl_read_u16(&rd);
    r->nfds = mdl_read_u32(&rd);
    r->seq = mdl_read_u64(&rd);
    r->len = mdl_read_u64(&rd);
    r->region = mdl_read_u64(&rd);
    r->nonce = mdl_read_u64(&rd);
    r->ring_bytes = mdl_read_u32(&rd);
    r->bulk_slots = mdl_read_u32(&rd);
    r->bulk_bytes = mdl_read_u32(&rd);
    r->gone = mdl_read_u32(&rd);
    r->bells = mdl_read_u64(&rd);
    r->segment_len = mdl_read_u64(&rd);
    return r->nfds <= MDL_SHM_REPLY_FDS;
}

void mdl_shm_address_write(const struct mdl_shm_address *a, struct mdl_writer *w)
{
    static const uint8_t none[MDL_ADDR_WIRE_BYTES];
    write_head(w, 0);
    mdl_write_u64(w, a->nonce);
    mdl_write_u64(w, a->host_id);
    mdl_write_u64(w, a->probe);
    mdl_write_u32(w, a->pid);
    mdl_write_u32(w, a->uid);
    mdl_write_u32(w, a->page);
    mdl_write_u64(w, a->arena);
    mdl_write_u64(w, a->rings);
    mdl_write_u32(w, a->ring_bytes);
    mdl_write_u32(w, a->bulk_slots);
    mdl_write_u32(w, a->bulk_bytes);
    if (a->door.len > 0)
        mdl_addr_write(w, &a->door);
    else
        mdl_write_bytes(w, none, sizeof(none));
}

bool mdl_shm_address_read(const uint8_t *bytes, size_t len, struct mdl_shm_address *a)
{
    struct mdl_reader r = {.p = bytes, .left = len};
    uint16_t type;
    *a = (struct mdl_shm_address){0};
    if (!read_head(&r, &type)) return false;
    a->nonce = mdl_read_u64(&r);
    a->host_id = mdl_read_u64(&r);
    a->probe = mdl_read_u64(&r);
    a->pid = mdl_read_u32(&r);
    a->uid = mdl_read_u32(&r);
    a->page = mdl_read_u32(&r);
    a->arena = mdl_read_u64(&r);
    a->rings = mdl_read_u64(&r);
    a->ring_bytes = mdl_read_u32(&r);
    a->bulk_slots = mdl_read_u32(&r);
    a->bulk_bytes = mdl_read_u32(&r);
    if (r.bad || r.left < MDL_ADDR_WIRE_BYTES) return false;
    bool none = r.p[0] == 0;
    return none || mdl_addr_read(&r, &a->door) == medleySuccess;
}
