/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed-width little-endian fields in byte buffers: the only way in which wire data is written and read. The reader
 * checks every length: a short buffer sets `bad` and yields zeros, so a message is parsed straight through and `bad` is
 * tested once. */
#ifndef MDL_BASE_BYTES_H_
#define MDL_BASE_BYTES_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void mdl_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void mdl_put_u32(uint8_t *p, uint32_t v)
{
    mdl_put_u16(p, (uint16_t)v);
    mdl_put_u16(p + 2, (uint16_t)(v >> 16));
}
static inline void mdl_put_u64(uint8_t *p, uint64_t v)
{
    mdl_put_u32(p, (uint32_t)v);
    mdl_put_u32(p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t mdl_get_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t mdl_get_u32(const uint8_t *p) { return mdl_get_u16(p) | (uint32_t)mdl_get_u16(p + 2) << 16; }
static inline uint64_t mdl_get_u64(const uint8_t *p) { return mdl_get_u32(p) | (uint64_t)mdl_get_u32(p + 4) << 32; }

struct mdl_writer {
    uint8_t *p;
    size_t len, cap;
    bool bad;
};
static inline uint8_t *mdl_write_room(struct mdl_writer *w, size_t n)
{
    if (w->bad || n > w->cap - w->len) {
        w->bad = true;
        return NULL;
    }
    w->len += n;
    return w->p + w->len - n;
}
static inline void mdl_write_u8(struct mdl_writer *w, uint8_t v)
{
    uint8_t *p = mdl_write_room(w, 1);
    if (p) *p = v;
}
static inline void mdl_write_u16(struct mdl_writer *w, uint16_t v)
{
    uint8_t *p = mdl_write_room(w, 2);
    if (p) mdl_put_u16(p, v);
}
static inline void mdl_write_u32(struct mdl_writer *w, uint32_t v)
{
    uint8_t *p = mdl_write_room(w, 4);
    if (p) mdl_put_u32(p, v);
}
static inline void mdl_write_u64(struct mdl_writer *w, uint64_t v)
{
    uint8_t *p = mdl_write_room(w, 8);
    if (p) mdl_put_u64(p, v);
}
static inline void mdl_write_bytes(struct mdl_writer *w, const void *src, size_t n)
{
    uint8_t *p = mdl_write_room(w, n);
    if (p && n) memcpy(p, src, n);
}

struct mdl_reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};
static inline const uint8_t *mdl_read_room(struct mdl_reader *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->p += n;
    r->left -= n;
    return r->p - n;
}
static inline uint8_t mdl_read_u8(struct mdl_reader *r)
{
    const uint8_t *p = mdl_read_room(r, 1);
    return p ? *p : 0;
}
static inline uint16_t mdl_read_u16(struct mdl_reader *r)
{
    const uint8_t *p = mdl_read_room(r, 2);
    return p ? mdl_get_u16(p) : 0;
}
static inline uint32_t mdl_read_u32(struct mdl_reader *r)
{
    const uint8_t *p = mdl_read_room(r, 4);
    return p ? mdl_get_u32(p) : 0;
}
static inline uint64_t mdl_read_u64(struct mdl_reader *r)
{
    const uint8_t *p = mdl_read_room(r, 8);
    return p ? mdl_get_u64(p) : 0;
}
static inline void mdl_read_bytes(struct mdl_reader *r, void *dst, size_t n)
{
    const uint8_t *p = mdl_read_room(r, n);
    if (p)
        memcpy(dst, p, n);
    else
        memset(dst, 0, n);
}

#endif
