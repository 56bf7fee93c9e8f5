/* SPDX-License-Identifier: Apache-2.0 */
/* Writers and readers of the bootstrap and control payloads. A reader ends with `whole`: nothing broken, nothing left
 * over. */
#include "config.h"
#include "lib/boot/messages.h"
#include "lib/boot/frame.h"

static bool whole(const struct mdl_reader *r) { return !r->bad && r->left == 0; }

static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

/* ---- texts ---- */

void mdl_text_write(struct mdl_writer *w, const char *text)
{
    size_t len = strnlen(text, MDL_ERROR_TEXT_BYTES - 1);
    mdl_write_u16(w, (uint16_t)len);
    mdl_write_bytes(w, text, len);
}

/* Cuts what is longer than `bytes`. */
void mdl_text_read(struct mdl_reader *r, char *text, size_t bytes)
{
    uint16_t len = mdl_read_u16(r);
    const uint8_t *p = mdl_read_room(r, len);
    size_t take = !p ? 0 : len < bytes ? len : bytes - 1;
    if (take) memcpy(text, p, take);
    text[take] = 0;
    make_printable(text);
}

/* ---- members ---- */

void mdl_member_write(struct mdl_writer *w, const struct mdl_member *m)
{
    size_t len = strnlen(m->host, MDL_HOST_BYTES - 1);
    mdl_write_u32(w, m->rank);
    mdl_write_u32(w, m->pid);
    mdl_write_u64(w, m->service);
    mdl_write_u64(w, m->place);
    mdl_write_u8(w, (uint8_t)(len + 1));
    mdl_write_bytes(w, m->host, len);
    mdl_write_u8(w, 0);
    mdl_write_u8(w, (uint8_t)m->naddrs);
    for (int i = 0; i < m->naddrs; i++) mdl_addr_write(w, &m->addrs[i]);
}

static void read_host(struct mdl_reader *r, char host[MDL_HOST_BYTES])
{
    uint8_t len = mdl_read_u8(r);
    const uint8_t *p = mdl_read_room(r, len);
    host[0] = 0;
    if (!p || !len || len > MDL_HOST_BYTES || p[len - 1]) {
        r->bad = true;
        return;
    }
    memcpy(host, p, len);
    make_printable(host);
}

bool mdl_member_read(struct mdl_reader *r, struct mdl_member *m)
{
    m->rank = mdl_read_u32(r);
    m->pid = mdl_read_u32(r);
    m->service = mdl_read_u64(r);
    m->place = mdl_read_u64(r);
    read_host(r, m->host);
    m->naddrs = mdl_read_u8(r);
    if (m->naddrs > MDL_MEMBER_ADDRS || m->rank >= MDL_MAX_RANKS) r->bad = true;
    for (int i = 0; i < m->naddrs && !r->bad; i++)
        if (mdl_addr_read(r, &m->addrs[i]) != medleySuccess) r->bad = true;
    return !r->bad;
}

/* ---- rendezvous ---- */

void mdl_join_write(struct mdl_writer *w, const struct mdl_join *join)
{
    mdl_write_u32(w, join->nranks);
    mdl_write_u32(w, join->rank);
    mdl_write_u32(w, join->nids);
    mdl_write_u32(w, join->index);
    mdl_write_bytes(w, join->nonce, sizeof(join->nonce));
    mdl_write_bytes(w, join->process, sizeof(join->process));
    mdl_member_write(w, &join->member);
}

bool mdl_join_read(const uint8_t *p, size_t len, struct mdl_join *join)
{
    struct mdl_reader r = {.p = p, .left = len};
    join->nranks = mdl_read_u32(&r);
    join->rank = mdl_read_u32(&r);
    join->nids = mdl_read_u32(&r);
    join->index = mdl_read_u32(&r);
    mdl_read_bytes(&r, join->nonce, sizeof(join->nonce));
    mdl_read_bytes(&r, join->process, sizeof(join->process));
    return mdl_member_read(&r, &join->member) && whole(&r);
}

void mdl_wait_write(struct mdl_writer *w, const struct mdl_wait *wait)
{
    mdl_write_u32(w, wait->again_ms);
    mdl_ranges_write(w, &wait->missing);
    mdl_text_write(w, wait->note);
}

bool mdl_wait_read(const uint8_t *p, size_t len, struct mdl_wait *wait)
{
    struct mdl_reader r = {.p = p, .left = len};
    wait->again_ms = mdl_read_u32(&r);
    mdl_ranges_read(&r, &wait->missing);
    mdl_text_read(&r, wait->note, sizeof(wait->note));
    return whole(&r);
}

bool mdl_ready_read(const uint8_t *p, size_t len, struct mdl_ready *ready)
{
    struct mdl_reader r = {.p = p, .left = len};
    ready->nonce = mdl_read_u64(&r);
    ready->count = mdl_read_u8(&r);
    if (ready->count > 1 + MDL_TREE_ARITY) r.bad = true;
    for (int i = 0; i < ready->count && !r.bad; i++)
        if (!mdl_member_read(&r, &ready->members[i])) return false;
    return whole(&r);
}

/* ---- trouble ---- */

void mdl_trouble_write(struct mdl_writer *w, const struct mdl_trouble *t)
{
    mdl_write_u32(w, (uint32_t)t->code);
    mdl_write_u32(w, t->origin < 0 ? MDL_FRAME_ROOT : (uint32_t)t->origin);
    mdl_text_write(w, t->text);
}

bool mdl_trouble_read(const uint8_t *p, size_t len, struct mdl_trouble *t)
{
    struct mdl_reader r = {.p = p, .left = len};
    uint32_t code = mdl_read_u32(&r), origin = mdl_read_u32(&r);
    mdl_text_read(&r, t->text, sizeof(t->text));
    /* A code of a later version is some failure over there. */
    bool known = code < medleyNumResults && code != medleySuccess && code != medleyInProgress;
    t->code = known ? (medleyResult_t)code : medleyRemoteError;
    t->origin = origin < MDL_MAX_RANKS ? (int)origin : -1;
    return whole(&r);
}

/* ---- all-gather ---- */

void mdl_chunk_write(struct mdl_writer *w, const struct mdl_chunk *chunk)
{
    mdl_write_u64(w, chunk->round);
    mdl_write_u64(w, chunk->total);
    mdl_write_u64(w, chunk->offset);
    mdl_write_bytes(w, chunk->bytes, chunk->len);
}

bool mdl_chunk_read(const uint8_t *p, size_t len, struct mdl_chunk *chunk)
{
    struct mdl_reader r = {.p = p, .left = len};
    chunk->round = mdl_read_u64(&r);
    chunk->total = mdl_read_u64(&r);
    chunk->offset = mdl_read_u64(&r);
    chunk->len = r.left;
    chunk->bytes = r.p;
    return !r.bad && chunk->total <= MDL_GATHER_MAX && chunk->offset <= chunk->total &&
           chunk->len <= chunk->total - chunk->offset;
}

bool mdl_block_read(struct mdl_reader *r, uint32_t *rank, const uint8_t **bytes, uint32_t *len)
{
    if (!r->left) return false;
    *rank = mdl_read_u32(r);
    *len = mdl_read_u32(r);
    *bytes = mdl_read_room(r, *len);
    return !r->bad;
}

void mdl_missing_write(struct mdl_writer *w, const struct mdl_missing *missing)
{
    mdl_write_u64(w, missing->round);
    mdl_ranges_write(w, &missing->ranks);
}

bool mdl_missing_read(const uint8_t *p, size_t len, struct mdl_missing *missing)
{
    struct mdl_reader r = {.p = p, .left = len};
    missing->round = mdl_read_u64(&r);
    mdl_ranges_read(&r, &missing->ranks);
    return whole(&r);
}
