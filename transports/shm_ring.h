/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ranks of a host share: the layout of a rank's ring segment, and the words in it.
 *
 * Every rank owns one segment. It begins with the front page (is the owner asleep, is it still there), followed by one
 * region per peer, in which that peer's messages to the owner arrive. A region holds, for each channel, a byte ring
 * that the sender fills with records, and a control block in which the receiver answers; and one bulk ring of larger
 * slots that all channels share. The file is sparse: a channel that is never used costs nothing.
 *
 * Each line has one writer: rings and bulk slots the sender, control blocks the receiver, the front page the owner
 * (except `sleeping`, which whoever wakes the owner clears). All words are zero at first.
 *
 * A record is published by its stamp, which is stored last (release) and loaded first (acquire). The stamp names the
 * record's position in the endless stream of bytes, so one that was not written for this place is never taken for
 * one; and since payload may look like a stamp, the sender clears the next record's stamp before it publishes this one.
 *
 * The other side may be broken: whatever is read from shared memory is copied once, then checked, then used.
 */
#ifndef MDL_TRANSPORTS_SHM_RING_H_
#define MDL_TRANSPORTS_SHM_RING_H_

#include <medley/plugin.h>
#include <stdatomic.h>

enum {
    MDL_SHM_LINE = 64, /* shared words of two writers are never in one line of this size */
    MDL_SHM_ACKS = 16, /* announced messages of one channel that may wait for their answer at once */
    MDL_SHM_MAX_BULK = 64,
};

enum mdl_shm_state { MDL_SHM_OPEN = 1, MDL_SHM_ABORTED = 2, MDL_SHM_CLOSED = 3 };

/* First page of a rank's segment. */
struct mdl_shm_front {
    _Alignas(MDL_SHM_LINE) _Atomic uint64_t nonce;    /* the owner's, constant */
    _Alignas(MDL_SHM_LINE) _Atomic uint32_t state;    /* enum mdl_shm_state; written by the owner */
    _Alignas(MDL_SHM_LINE) _Atomic uint32_t sleeping; /* its bell + 1: set by the owner, cleared by whoever wakes it */
    _Alignas(MDL_SHM_LINE) _Atomic uint32_t departures; /* raised by each other process's rank that has closed */
};

/* Answers of the receiver, per channel. */
struct mdl_shm_control {
    _Alignas(MDL_SHM_LINE) _Atomic uint64_t head; /* bytes of the ring that were consumed */
    _Alignas(MDL_SHM_LINE) struct {
        _Atomic uint64_t ack;   /* see mdl_shm_ack */
        _Atomic uint64_t moved; /* bytes read so far, see mdl_shm_moved: so that the sender sees that it goes on */
    } answers[MDL_SHM_ACKS];    /* for message k at k % MDL_SHM_ACKS */
};

/* The answer to announced message `seq`: 0 in a fresh segment, so seq 0 needs the + 1. */
enum mdl_shm_answer {
    MDL_SHM_TAKEN = 1,    /* received: the sender is done */
    MDL_SHM_SEND = 2,     /* send it through the bulk ring, from its beginning */
    MDL_SHM_MISMATCH = 3, /* tag or length differ: both sides fail */
    MDL_SHM_BROKEN = 4,   /* the receiver failed for another reason */
};
static inline uint64_t mdl_shm_ack(uint64_t seq, enum mdl_shm_answer answer)
{
    return (seq + 1) << 8 | (uint64_t)answer;
}

/* Bytes in the low 48 bits, and whose they are: the place was another message's before. */
static inline uint64_t mdl_shm_moved(uint64_t seq, uint64_t bytes) { return seq << 48 | (bytes & ((1ull << 48) - 1)); }

enum mdl_shm_kind {
    MDL_SHM_PAD = 1,      /* nothing up to the end of the ring */
    MDL_SHM_INLINE = 2,   /* the payload follows */
    MDL_SHM_ANNOUNCE = 3, /* where the payload is: struct mdl_shm_place */
};
static inline uint64_t mdl_shm_stamp(uint64_t pos, enum mdl_shm_kind kind)
{
    return (pos + MDL_SHM_LINE) | (uint64_t)kind;
}

struct mdl_shm_record {
    _Atomic uint64_t stamp;
    uint64_t tag, len;
    unsigned char payload[];
};

struct mdl_shm_place {
    uint64_t addr;            /* in the sender's address space */
    uint64_t segment, offset; /* of the sender's shareable segment that holds it, or 0 */
};

/* Slot of the bulk ring. */
struct mdl_shm_bulk {
    _Alignas(MDL_SHM_LINE) _Atomic uint64_t stamp; /* number of the piece + 1 */
    uint64_t seq, offset;
    uint32_t channel, len;
};
struct mdl_shm_bulk_control {
    _Alignas(MDL_SHM_LINE) _Atomic uint64_t head; /* pieces that were consumed */
};

/* Sizes of one owner's regions: told at the handover. */
struct mdl_shm_layout {
    uint32_t ring_bytes, bulk_slots, bulk_bytes;
    uint64_t front_bytes, region_bytes;
    uint64_t bulk_control, bulk_heads, rings, bulks; /* offsets in a region */
};

/* Fills in what follows from the first three fields; false if they are out of range. */
static inline bool mdl_shm_layout_fill(struct mdl_shm_layout *l, uint64_t page)
{
    bool good = l->ring_bytes >= 512 && l->ring_bytes <= 1u << 24 && (l->ring_bytes & (l->ring_bytes - 1)) == 0 &&
                l->bulk_slots >= 1 && l->bulk_slots <= MDL_SHM_MAX_BULK && l->bulk_bytes >= 1024 &&
                l->bulk_bytes <= 1u << 24 && l->bulk_bytes % MDL_SHM_LINE == 0;
    if (!good) return false;
    l->front_bytes = page;
    l->bulk_control = MDL_MAX_CHANNELS * sizeof(struct mdl_shm_control);
    l->bulk_heads = l->bulk_control + sizeof(struct mdl_shm_bulk_control);
    l->rings = (l->bulk_heads + l->bulk_slots * sizeof(struct mdl_shm_bulk) + 4095) & ~4095ull;
    l->bulks = l->rings + (uint64_t)MDL_MAX_CHANNELS * l->ring_bytes;
    l->region_bytes = (l->bulks + (uint64_t)l->bulk_slots * l->bulk_bytes + page - 1) / page * page;
    return true;
}

/* The receiver tells what it has consumed when it is so much; the largest message that travels inside a record. An
 * empty ring has room for a pad, the largest record and the next stamp whatever is not told yet: 2 * (ring / 4 + 64) +
 * 64 + ring / 8 <= ring from 512 bytes on. */
static inline uint64_t mdl_shm_tell_after(const struct mdl_shm_layout *l) { return l->ring_bytes / 8; }
static inline size_t mdl_shm_inline_max(const struct mdl_shm_layout *l) { return l->ring_bytes / 4; }

static inline struct mdl_shm_control *mdl_shm_control(void *region, uint32_t channel)
{
    return (struct mdl_shm_control *)region + channel;
}
static inline struct mdl_shm_record *mdl_shm_record(const struct mdl_shm_layout *l, void *region, uint32_t channel,
                                                    uint64_t pos)
{
    return (void *)((char *)region + l->rings + (uint64_t)channel * l->ring_bytes + (pos & (l->ring_bytes - 1)));
}
static inline struct mdl_shm_bulk_control *mdl_shm_bulk_control(const struct mdl_shm_layout *l, void *region)
{
    return (void *)((char *)region + l->bulk_control);
}
static inline struct mdl_shm_bulk *mdl_shm_bulk(const struct mdl_shm_layout *l, void *region, uint64_t piece)
{
    return (struct mdl_shm_bulk *)(void *)((char *)region + l->bulk_heads) + piece % l->bulk_slots;
}
static inline void *mdl_shm_bulk_data(const struct mdl_shm_layout *l, void *region, uint64_t piece)
{
    return (char *)region + l->bulks + piece % l->bulk_slots * l->bulk_bytes;
}

#endif
