/* SPDX-License-Identifier: Apache-2.0 */
/* See arena.h. What the owner left while some of its users had died is kept in a list. */
#include "config.h"
#include "lib/mem/arena.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/mem/mem.h"
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES  (1ull << 50)
#define LEFT_NS     (60 * MDL_NS_PER_S)
#define PLACE_ALIGN 65536ull

struct head {
    _Atomic uint32_t users;
};

struct left {
    struct mdl_list link;
    uint64_t place, len, since_ns;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    pid_t pid;
    int fd, pieces; /* no pieces: there is none */
    uint64_t id, next;
    struct mdl_list left; /* oldest first */
} arena = {.fd = -1};

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static struct head *head_of(const struct mdl_arena_view *v) { return (void *)((char *)v->base - page_bytes()); }

/* Only a kernel that cannot, or must not, refuses: then the pages stay until the file goes. */
static void punch(int fd, uint64_t place, uint64_t len)
{
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)place, (off_t)len) != 0)
        MDL_TRACE(MDL_MEM, "%llu bytes of shared memory were not given back", (unsigned long long)len);
}

/* ---- the own arena: under the lock ---- */

static bool open_arena(void)
{
    int fd = sizeof(off_t) >= 8 && sizeof(void *) >= 8 ? mdl_segment_memfd(FILE_BYTES) : -1;
    if (fd < 0) return false;
    arena.pid = getpid();
    arena.fd = fd;
    arena.next = PLACE_ALIGN;
    do randombytes_buf(&arena.id, sizeof(arena.id));
    while (!arena.id);
    mdl_list_init(&arena.left);
    return true;
}

static void forget_left(struct left *l)
{
    mdl_list_remove(&l->link);
    free(l);
}

static void sweep(uint64_t now)
{
    mdl_list_each (it, &arena.left) {
        struct left *l = mdl_container_of(it, struct left, link);
        if (now - l->since_ns < LEFT_NS) return;
        punch(arena.fd, l->place, l->len);
        forget_left(l);
    }
}

static void remember_left(uint64_t place, uint64_t len)
{
    struct left *l = malloc(sizeof(*l));
    if (!l) return;
    *l = (struct left){.place = place, .len = len, .since_ns = mdl_now_ns()};
    mdl_list_append(&arena.left, &l->link);
}

static void drop_piece(void)
{
    if (--arena.pieces > 0) return;
    mdl_list_each (it, &arena.left) forget_left(mdl_container_of(it, struct left, link));
    close(arena.fd);
    arena.fd = -1;
}

/* Where the next piece goes; 0: nowhere. */
static uint64_t take_place(uint64_t bytes)
{
    if (arena.pieces > 0 && arena.pid != getpid()) return 0; /* a forked child: it is the parent's */
    if (arena.pieces == 0 && !open_arena()) return 0;
    uint64_t place = arena.next;
    arena.pieces++;
    if (place > FILE_BYTES - bytes) {
        drop_piece();
        return 0;
    }
    arena.next += (bytes + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
    sweep(mdl_now_ns());
    return place;
}

/* ---- views ---- */

static bool map_view(int fd, uint64_t place, size_t len, size_t mapped, struct mdl_arena_view *v)
{
    size_t page = page_bytes();
    char *block = mmap(NULL, page + mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)place);
    if (block == MAP_FAILED) return false;
    *v = (struct mdl_arena_view){.base = block + page, .len = len, .mapped = mapped, .place = place, .fd = fd};
    return true;
}

static void unmap_view(struct mdl_arena_view *v)
{
    munmap(head_of(v), page_bytes() + v->mapped);
    v->base = NULL;
}

/* Is the caller the last? A count of 0 was swept. */
static bool leave_users(struct mdl_arena_view *v)
{
    _Atomic uint32_t *users = &head_of(v)->users;
    uint32_t n = atomic_load_explicit(users, memory_order_relaxed);
    /* Acquire and release: what all others did with the pages comes before they go. */
    while (n > 0 &&
           !atomic_compare_exchange_weak_explicit(users, &n, n - 1, memory_order_acq_rel, memory_order_relaxed)) {}
    return n == 1;
}

bool mdl_arena_cut(size_t len, uint64_t *id, struct mdl_arena_view *v)
{
    size_t page = page_bytes();
    len = (len + page - 1) / page * page;
    pthread_mutex_lock(&lock);
    uint64_t place = take_place(page + len);
    bool good = place && map_view(arena.fd, place, len, len, v);
    if (good) {
        *id = arena.id;
        atomic_store_explicit(&head_of(v)->users, 1, memory_order_relaxed); /* nobody else knows the place yet */
    } else if (place) {
        drop_piece();
    }
    pthread_mutex_unlock(&lock);
    return good;
}

void mdl_arena_return(struct mdl_arena_view *v, bool orphans)
{
    uint64_t place = v->place, bytes = page_bytes() + v->len;
    bool last = leave_users(v);
    unmap_view(v);
    pthread_mutex_lock(&lock);
    if (arena.pid == getpid()) {
        if (last)
            punch(v->fd, place, bytes);
        else if (orphans)
            remember_left(place, bytes);
        drop_piece();
    }
    pthread_mutex_unlock(&lock);
}

int mdl_arena_fd(uint64_t id)
{
    pthread_mutex_lock(&lock);
    int fd = arena.pieces > 0 && arena.id == id ? arena.fd : -1;
    pthread_mutex_unlock(&lock);
    return fd;
}

bool mdl_arena_join(int fd, uint64_t place, size_t len, size_t mapped, struct mdl_arena_view *v)
{
    size_t page = page_bytes();
    struct stat st;
    if (place == 0 || place % page != 0 || len == 0 || len % page != 0 || mapped > len) return false;
    if (fstat(fd, &st) != 0 || st.st_size < 0 || len > (uint64_t)st.st_size - page ||
        place > (uint64_t)st.st_size - page - len)
        return false;
    if (!map_view(fd, place, len, mapped, v)) return false;
    _Atomic uint32_t *users = &head_of(v)->users;
    uint32_t n = atomic_load_explicit(users, memory_order_relaxed);
    while (n > 0 &&
           !atomic_compare_exchange_weak_explicit(users, &n, n + 1, memory_order_acq_rel, memory_order_relaxed)) {}
    if (n > 0) return true;
    unmap_view(v);
    return false;
}

void mdl_arena_leave(struct mdl_arena_view *v)
{
    if (!v->base) return;
    uint64_t bytes = page_bytes() + v->len;
    bool last = leave_users(v);
    unmap_view(v);
    if (last) punch(v->fd, v->place, bytes);
}
