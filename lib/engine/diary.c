/* SPDX-License-Identifier: Apache-2.0 */
/* The flight recorder: a ring of sequence-locked entries with one writer. */
#include "config.h"

#include "lib/engine/diary.h"

uint64_t mdl_diary_start(struct mdl_diary *d, const struct mdl_call *c, uint64_t seq, uint64_t tag)
{
    uint64_t number = atomic_load_explicit(&d->next, memory_order_relaxed);
    struct mdl_diary_entry *e = &d->entry[number % MDL_DIARY_ENTRIES];
    uint64_t stamp = atomic_load_explicit(&e->stamp, memory_order_relaxed);
    uint64_t kind = (uint64_t)c->coll | (uint64_t)c->dtype << 8 | (uint64_t)c->op << 16 | (uint64_t)c->flags << 24 |
                    (uint64_t)(uint32_t)c->root << 32;

    atomic_store_explicit(&e->stamp, stamp + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* pairs with the fence in read_entry */
    atomic_store_explicit(&e->word[0], kind, memory_order_relaxed);
    atomic_store_explicit(&e->word[1], c->count, memory_order_relaxed);
    atomic_store_explicit(&e->word[2], c->table, memory_order_relaxed);
    atomic_store_explicit(&e->word[3], seq, memory_order_relaxed);
    atomic_store_explicit(&e->word[4], MDL_DIARY_STARTED, memory_order_relaxed);
    atomic_store_explicit(&e->word[5], tag, memory_order_relaxed);
    atomic_store_explicit(&e->stamp, stamp + 2, memory_order_release);
    if (!mdl_call_is_message(c) && seq) atomic_store_explicit(&d->coll_seq, seq, memory_order_relaxed);
    atomic_store_explicit(&d->next, number + 1, memory_order_release);
    return number;
}

void mdl_diary_drop(struct mdl_diary *d) { atomic_fetch_add_explicit(&d->drops, 1, memory_order_relaxed); }

void mdl_diary_done(struct mdl_diary *d, uint64_t number)
{
    if (atomic_load_explicit(&d->next, memory_order_relaxed) - number > MDL_DIARY_ENTRIES) return;
    atomic_store_explicit(&d->entry[number % MDL_DIARY_ENTRIES].word[4], MDL_DIARY_DONE, memory_order_relaxed);
}

static bool read_entry(const struct mdl_diary *d, uint64_t number, struct mdl_diary_note *note)
{
    struct mdl_diary_entry *e = (struct mdl_diary_entry *)&d->entry[number % MDL_DIARY_ENTRIES];
    uint64_t before = atomic_load_explicit(&e->stamp, memory_order_acquire), w[MDL_DIARY_WORDS];

    if (before & 1) return false;
    for (int i = 0; i < MDL_DIARY_WORDS; i++) w[i] = atomic_load_explicit(&e->word[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire); /* pairs with the fence in mdl_diary_start */
    if (atomic_load_explicit(&e->stamp, memory_order_relaxed) != before) return false;
    note->call = (struct mdl_call){
        .coll = (uint8_t)w[0],
        .dtype = (uint8_t)(w[0] >> 8),
        .op = (uint8_t)(w[0] >> 16),
        .flags = (uint8_t)(w[0] >> 24),
        .root = (int32_t)(w[0] >> 32),
        .count = w[1],
        .table = w[2],
    };
    note->seq = w[3];
    note->state = (enum mdl_diary_state)w[4];
    note->tag = w[5];
    return true;
}

bool mdl_diary_find(const struct mdl_diary *d, uint64_t coll_seq, struct mdl_diary_note *note)
{
    uint64_t next = atomic_load_explicit((_Atomic uint64_t *)&d->next, memory_order_acquire);

    for (uint64_t back = 1; back <= MDL_DIARY_ENTRIES && back <= next; back++) {
        if (read_entry(d, next - back, note) && !mdl_call_is_message(&note->call) && note->seq == coll_seq) return true;
    }
    return false;
}

bool mdl_diary_find_message(const struct mdl_diary *d, uint8_t coll, int peer, uint64_t seq,
                            struct mdl_diary_note *note)
{
    uint64_t next = atomic_load_explicit((_Atomic uint64_t *)&d->next, memory_order_acquire);

    for (uint64_t back = 1; back <= MDL_DIARY_ENTRIES && back <= next; back++) {
        if (!read_entry(d, next - back, note)) continue;
        if (note->call.coll == coll && note->call.root == peer && note->seq == seq) return true;
    }
    return false;
}

bool mdl_diary_open(const struct mdl_diary *d, uint64_t *from, struct mdl_diary_note *note)
{
    uint64_t next = atomic_load_explicit((_Atomic uint64_t *)&d->next, memory_order_acquire);

    while (*from < MDL_DIARY_ENTRIES && *from < next) {
        ++*from;
        if (read_entry(d, next - *from, note) && note->state == MDL_DIARY_STARTED) return true;
    }
    return false;
}

bool mdl_diary_at(const struct mdl_diary *d, uint64_t number, struct mdl_diary_note *note)
{
    uint64_t next = atomic_load_explicit((_Atomic uint64_t *)&d->next, memory_order_acquire);

    return number < next && next - number <= MDL_DIARY_ENTRIES && read_entry(d, number, note);
}

bool mdl_diary_newest(const struct mdl_diary *d, struct mdl_diary_note *note)
{
    uint64_t next = atomic_load_explicit((_Atomic uint64_t *)&d->next, memory_order_acquire);

    return next && read_entry(d, next - 1, note);
}
