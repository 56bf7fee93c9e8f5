/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table exists twice. An odd `sequence` sends readers to copy 1 while copy 0 is changed, an even one to copy 0
 * while copy 1 is changed; a reader that finds the sequence changed after its search searches again. So a writer that
 * is interrupted half way stops no reader, and a reader writes nothing that other threads would wait for.
 *
 * A copy that outgrows its array gets one of twice the size. The former array is never freed, because a reader may
 * still be in it; all former arrays together are smaller than the present one. Every word that a reader looks at is an
 * atomic; a torn view is possible, and is what the sequence is checked for.
 */
#include "config.h"
#include "lib/mem/registry.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIRST_CAPACITY = 64, LOWEST_FD = 3 };

struct entry {
    _Atomic uintptr_t base;
    atomic_size_t len;
    _Atomic uint64_t id; /* 0 if it cannot be shared */
};

struct array {
    struct array *former; /* kept reachable, so that leak checkers know about it */
    size_t capacity;
    struct entry entries[];
};

struct copy {
    _Atomic(struct array *) array;
    atomic_size_t count;
};

/* What only writers need, in the order of the entries. */
struct owner {
    struct mdl_segment *segment;
    bool user;
};

static struct copy copies[2];
static atomic_uint sequence;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* whoever writes; owners */
static struct owner *owners;
static size_t owners_capacity;

/* ---- reading ---- */

/* The number of entries that start at or below addr. */
static size_t rank_of(const struct array *array, size_t count, uintptr_t addr)
{
    size_t low = 0;
    while (low < count) {
        size_t middle = low + (count - low) / 2;
        if (atomic_load_explicit(&array->entries[middle].base, memory_order_relaxed) <= addr)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

static bool search(struct copy *copy, uintptr_t addr, size_t len, struct mdl_registry_hit *hit)
{
    size_t count = atomic_load_explicit(&copy->count, memory_order_relaxed);
    /* Pairs with the store in grow: the array's capacity and former entries are there. */
    struct array *array = atomic_load_explicit(&copy->array, memory_order_acquire);
    if (!array) return false;
    if (count > array->capacity) count = array->capacity; /* torn view */
    size_t n = rank_of(array, count, addr);
    if (n == 0) return false;
    struct entry *entry = &array->entries[n - 1];
    uintptr_t base = atomic_load_explicit(&entry->base, memory_order_relaxed);
    size_t size = atomic_load_explicit(&entry->len, memory_order_relaxed);
    if (addr - base >= size || len > size - (addr - base)) return false;
    *hit = (struct mdl_registry_hit){atomic_load_explicit(&entry->id, memory_order_relaxed), base};
    return true;
}

bool mdl_registry_find(uintptr_t addr, size_t len, struct mdl_registry_hit *hit)
{
    for (;;) {
        /* Pairs with the release stores in flip: the copy that it names is whole. */
        unsigned before = atomic_load_explicit(&sequence, memory_order_acquire);
        struct mdl_registry_hit found = {0, 0};
        bool is_there = search(&copies[before & 1], addr, len, &found);
        /* Pairs with the release fence in flip: having seen a word of a later change, we see its sequence too. */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&sequence, memory_order_relaxed) != before) continue;
        if (is_there) *hit = found;
        return is_there;
    }
}

/* ---- writing: with the lock held ---- */

/* Sends readers to the other copy, before this one is changed. */
static void flip(void)
{
    unsigned next = atomic_load_explicit(&sequence, memory_order_relaxed) + 1;
    atomic_store_explicit(&sequence, next, memory_order_release);
    atomic_thread_fence(memory_order_release);
}

static void move_entry(struct entry *to, struct entry *from)
{
    atomic_store_explicit(&to->base, atomic_load_explicit(&from->base, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&to->len, atomic_load_explicit(&from->len, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&to->id, atomic_load_explicit(&from->id, memory_order_relaxed), memory_order_relaxed);
}

static bool grow(struct copy *copy, size_t needed)
{
    struct array *old = atomic_load_explicit(&copy->array, memory_order_relaxed);
    size_t former = old ? old->capacity : 0, capacity = former ? former * 2 : FIRST_CAPACITY;
    if (needed <= former) return true;
    struct array *array = calloc(1, sizeof(*array) + capacity * sizeof(array->entries[0]));
    if (!array) return false;
    array->former = old;
    array->capacity = capacity;
    for (size_t i = 0; i < former; i++) move_entry(&array->entries[i], &old->entries[i]);
    atomic_store_explicit(&copy->array, array, memory_order_release); /* pairs with search */
    return true;
}

/* Room for one more everywhere, so that the change itself cannot fail. */
static bool make_room(size_t count)
{
    if (count >= owners_capacity) {
        size_t capacity = owners_capacity ? owners_capacity * 2 : FIRST_CAPACITY;
        struct owner *bigger = realloc(owners, capacity * sizeof(*bigger));
        if (!bigger) return false;
        owners = bigger;
        owners_capacity = capacity;
    }
    return grow(&copies[0], count + 1) && grow(&copies[1], count + 1);
}

static void insert_in_copy(struct copy *copy, size_t at, const struct mdl_segment *segment)
{
    struct array *array = atomic_load_explicit(&copy->array, memory_order_relaxed);
    size_t count = atomic_load_explicit(&copy->count, memory_order_relaxed);
    for (size_t i = count; i > at; i--) move_entry(&array->entries[i], &array->entries[i - 1]);
    struct entry *entry = &array->entries[at];
    atomic_store_explicit(&entry->base, (uintptr_t)segment->base, memory_order_relaxed);
    atomic_store_explicit(&entry->len, segment->len, memory_order_relaxed);
    atomic_store_explicit(&entry->id, segment->fd >= 0 ? segment->id : 0, memory_order_relaxed);
    atomic_store_explicit(&copy->count, count + 1, memory_order_relaxed);
}

static void remove_from_copy(struct copy *copy, size_t at)
{
    struct array *array = atomic_load_explicit(&copy->array, memory_order_relaxed);
    size_t count = atomic_load_explicit(&copy->count, memory_order_relaxed) - 1;
    for (size_t i = at; i < count; i++) move_entry(&array->entries[i], &array->entries[i + 1]);
    atomic_store_explicit(&copy->count, count, memory_order_relaxed);
}

static size_t count_now(void) { return atomic_load_explicit(&copies[0].count, memory_order_relaxed); }

static struct mdl_segment *find_id(uint64_t id)
{
    for (size_t i = 0, count = count_now(); i < count; i++)
        if (owners[i].segment->id == id) return owners[i].segment;
    return NULL;
}

static uint64_t draw_id(void)
{
    uint64_t id;
    do randombytes_buf(&id, sizeof(id));
    while (id == 0 || find_id(id));
    return id;
}

medleyResult_t mdl_registry_add(struct mdl_segment *segment, bool user)
{
    pthread_mutex_lock(&lock);
    size_t count = count_now();
    if (!make_room(count)) {
        pthread_mutex_unlock(&lock);
        return mdl_system_error(ENOMEM, "registering a segment of %zu bytes", segment->len);
    }
    segment->id = draw_id();
    size_t at = rank_of(atomic_load_explicit(&copies[0].array, memory_order_relaxed), count, (uintptr_t)segment->base);
    for (size_t i = count; i > at; i--) owners[i] = owners[i - 1];
    owners[at] = (struct owner){segment, user};
    for (int i = 0; i < 2; i++) {
        flip();
        insert_in_copy(&copies[i], at, segment);
    }
    pthread_mutex_unlock(&lock);
    return medleySuccess;
}

static void remove_at(size_t at)
{
    size_t count = count_now();
    for (size_t i = at; i + 1 < count; i++) owners[i] = owners[i + 1];
    for (int i = 0; i < 2; i++) {
        flip();
        remove_from_copy(&copies[i], at);
    }
}

void mdl_registry_remove(struct mdl_segment *segment)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0, count = count_now(); i < count; i++) {
        if (owners[i].segment != segment) continue;
        remove_at(i);
        break;
    }
    pthread_mutex_unlock(&lock);
}

struct mdl_segment *mdl_registry_take(const void *base)
{
    struct mdl_segment *taken = NULL;
    pthread_mutex_lock(&lock);
    for (size_t i = 0, count = count_now(); i < count; i++) {
        if (owners[i].segment->base != base || !owners[i].user) continue;
        taken = owners[i].segment;
        remove_at(i);
        break;
    }
    pthread_mutex_unlock(&lock);
    return taken;
}

void mdl_registry_withdraw(struct mdl_segment *segment)
{
    pthread_mutex_lock(&lock); /* a dup may be at work */
    if (segment->fd >= 0) {
        close(segment->fd);
        segment->fd = -1;
        segment->withdrawn = true;
    }
    pthread_mutex_unlock(&lock);
}

int mdl_registry_dup_fd(uint64_t id)
{
    pthread_mutex_lock(&lock); /* remove waits for it, so the descriptor is not closed meanwhile */
    struct mdl_segment *segment = id ? find_id(id) : NULL;
    bool shared = segment && segment->fd >= 0;
    int fd = shared ? fcntl(segment->fd, F_DUPFD_CLOEXEC, LOWEST_FD) : -1;
    int err = shared ? errno : segment && segment->withdrawn ? EPERM : ENOENT;
    pthread_mutex_unlock(&lock);
    if (fd < 0) errno = err;
    return fd;
}
