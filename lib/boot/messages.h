/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads of the bootstrap and control messages: structures, writers and readers. Pure.
 *
 * Readers take whatever bytes came: they return false if a length, a count or a value is not what it may be, and touch
 * nothing past the end. Texts from peers are made printable. docs/wire.md has the bytes; the tests have golden ones.
 */
#ifndef MDL_BOOT_MESSAGES_H_
#define MDL_BOOT_MESSAGES_H_

#include "lib/base/status.h"
#include "lib/boot/ranges.h"
#include "lib/net/addr.h"

enum {
    MDL_NONCE_BYTES = 16,
    MDL_HOST_BYTES = 64,
    MDL_MEMBER_ADDRS = MDL_MAX_ADDRS + 1,
    MDL_MEMBER_BYTES = 4 + 4 + 8 + 8 + 1 + MDL_HOST_BYTES + 1 + MDL_MEMBER_ADDRS * MDL_ADDR_WIRE_BYTES,
    MDL_TREE_ARITY = 4,
};

/* What others need to know of a rank. On the wire: rank u32, pid u32, service u64, place u64, length of the host name
 * with its final 0 u8, host name, naddrs u8, addresses in the order in which to try them. */
struct mdl_member {
    uint32_t rank, pid;
    uint64_t service; /* numbers its control service: the service's secret is derived with it */
    uint64_t place;   /* hash of MEDLEY_HOST_ID: abstract Unix addresses count only within one place */
    char host[MDL_HOST_BYTES];
    int naddrs;
    struct mdl_addr addrs[MDL_MEMBER_ADDRS];
};
void mdl_member_write(struct mdl_writer *w, const struct mdl_member *m);
bool mdl_member_read(struct mdl_reader *r, struct mdl_member *m);

/* JOIN: nranks u32, rank u32, nids u32, index u32, nonce[16], process[16], member. */
struct mdl_join {
    uint32_t nranks, rank, nids, index;
    uint8_t nonce[MDL_NONCE_BYTES];   /* of this call: a rank that comes back has the same */
    uint8_t process[MDL_NONCE_BYTES]; /* of the process */
    struct mdl_member member;
};
void mdl_join_write(struct mdl_writer *w, const struct mdl_join *join);
bool mdl_join_read(const uint8_t *p, size_t len, struct mdl_join *join);

/* WAIT: again_ms u32 (0: stay connected, else come back after it), the missing ranks, note (text). */
struct mdl_wait {
    uint32_t again_ms;
    struct mdl_ranges missing;
    char note[MDL_ERROR_TEXT_BYTES];
};
void mdl_wait_write(struct mdl_writer *w, const struct mdl_wait *wait);
bool mdl_wait_read(const uint8_t *p, size_t len, struct mdl_wait *wait);

/* READY: nonce u64 of the communicator, count u8, members (the tree neighbours). */
struct mdl_ready {
    uint64_t nonce;
    int count;
    struct mdl_member members[1 + MDL_TREE_ARITY];
};
bool mdl_ready_read(const uint8_t *p, size_t len, struct mdl_ready *ready);

/* REFUSE and FAULT: code u32, origin u32 (MDL_FRAME_ROOT: nobody's), text. */
struct mdl_trouble {
    medleyResult_t code; /* never Success or InProgress */
    int origin;          /* -1: none */
    char text[MDL_ERROR_TEXT_BYTES];
};
void mdl_trouble_write(struct mdl_writer *w, const struct mdl_trouble *t);
bool mdl_trouble_read(const uint8_t *p, size_t len, struct mdl_trouble *t);

/* GATHER_UP and GATHER_DOWN: round u64, total u64, offset u64, then bytes of the blob, which is a sequence of rank u32,
 * length u32, bytes. */
enum { MDL_CHUNK_HEAD = 24 };
#define MDL_GATHER_MAX (1ull << 30)
struct mdl_chunk {
    uint64_t round, total, offset;
    const uint8_t *bytes;
    size_t len;
};
void mdl_chunk_write(struct mdl_writer *w, const struct mdl_chunk *chunk);
bool mdl_chunk_read(const uint8_t *p, size_t len, struct mdl_chunk *chunk);

/* The next block of a blob; false at its end or (r->bad) where it is broken. */
bool mdl_block_read(struct mdl_reader *r, uint32_t *rank, const uint8_t **bytes, uint32_t *len);

/* MISSING_UP and MISSING_DOWN: round u64, ranks. */
struct mdl_missing {
    uint64_t round;
    struct mdl_ranges ranks;
};
void mdl_missing_write(struct mdl_writer *w, const struct mdl_missing *missing);
bool mdl_missing_read(const uint8_t *p, size_t len, struct mdl_missing *missing);

/* Texts: length u16, bytes. */
void mdl_text_write(struct mdl_writer *w, const char *text);
void mdl_text_read(struct mdl_reader *r, char *text, size_t bytes);

#endif
