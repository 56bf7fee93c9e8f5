/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rank offers to its peers: its ring segment, and a word by which a reader of its memory knows that it still
 * reads this process and that the rank has not aborted.
 *
 * The homes of a process are in one list, so that ranks that are threads of one process find each other by their nonces
 * and use each other's home directly: no sockets, no descriptors, no second mapping. A home lives until the last of
 * them has put it.
 *
 * The ring segment is sparse. Where it had to be a file on a file system of limited size (memfd_create is refused),
 * touching a page that cannot be backed would be a SIGBUS, so there the rings are small and each region is reserved
 * when it is given out.
 */
#include "config.h"
#include "lib/base/copy.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static const struct mdl_shm_layout roomy = {.ring_bytes = 32 * 1024, .bulk_slots = 8, .bulk_bytes = 32 * 1024};
static const struct mdl_shm_layout compact = {.ring_bytes = 512, .bulk_slots = 2, .bulk_bytes = 8 * 1024};

static pthread_mutex_t homes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mdl_list homes = {&homes, &homes}; /* under homes_lock */
static bool homes_hidden;                        /* under homes_lock */

void mdl_shm_home_hide(bool hide)
{
    pthread_mutex_lock(&homes_lock);
    homes_hidden = hide;
    pthread_mutex_unlock(&homes_lock);
}

struct mdl_shm_home *mdl_shm_home_find(uint64_t nonce)
{
    struct mdl_shm_home *found = NULL;
    pthread_mutex_lock(&homes_lock);
    mdl_list_each (it, &homes) {
        struct mdl_shm_home *h = mdl_container_of(it, struct mdl_shm_home, link);
        if (h->nonce == nonce && !homes_hidden) found = h;
    }
    if (found) atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&homes_lock);
    return found;
}

static bool is_limited(int fd)
{
    struct statfs fs;
    return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_blocks != 0;
}

static medleyResult_t segment_open(struct mdl_shm_home *h, const struct mdl_shm_layout *layout)
{
    h->layout = *layout;
    if (!mdl_shm_layout_fill(&h->layout, (uint64_t)sysconf(_SC_PAGESIZE)))
        return mdl_error(medleyInternalError, "the shared-memory transport does not support pages of %ld bytes",
                         sysconf(_SC_PAGESIZE));
    h->len = h->layout.front_bytes + (uint64_t)h->nregions * h->layout.region_bytes;
    if (layout == &roomy)
        MDL_TRY(mdl_segment_create_cut(h->len, h->nranks, &h->segment));
    else
        MDL_TRY(mdl_segment_create(h->len, true, false, &h->segment));
    h->base = h->segment->base;
    h->fd = h->segment->fd;
    return medleySuccess;
}

/* Rings that only ranks of this process can use. */
static medleyResult_t private_open(struct mdl_shm_home *h, int rank)
{
    mdl_segment_destroy(h->segment);
    h->segment = NULL;
    h->fd = -1;
    h->base = mmap(NULL, h->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h->base != MAP_FAILED) return medleySuccess;
    h->base = NULL;
    return mdl_system_error(errno, "rank %d: no memory for message rings", rank);
}

/* In an arena everybody knows its region without a question: they are in the order of the ranks. */
static void assign_regions(struct mdl_shm_home *h, int rank)
{
    for (int r = 0; r < h->nranks; r++)
        if (r != rank) h->region_of[r] = mdl_shm_region_index(rank, r);
    h->next_region = h->nregions;
}

/* The ring segment, and the way in which its pages are had: see the head of the file. */
static medleyResult_t rings_open(struct mdl_shm_home *h, int rank)
{
    MDL_TRY(segment_open(h, &roomy));
    if (h->segment->arena) assign_regions(h, rank);
    if (is_limited(h->fd)) {
        mdl_segment_destroy(h->segment);
        h->segment = NULL;
        MDL_TRY(segment_open(h, &compact));
        MDL_INFO(MDL_SHM, "rank %d: no memfd here, so the message rings are small files in /dev/shm or $TMPDIR", rank);
        h->reserve = is_limited(h->fd);
    }
    int err = h->reserve ? posix_fallocate(h->fd, 0, (off_t)h->layout.front_bytes) : 0;
    if (err) {
        MDL_WARN(MDL_SHM,
                 "rank %d: not even a page is free in /dev/shm or $TMPDIR (%s): other processes cannot share "
                 "memory with it",
                 rank, strerror(err));
        h->reserve = false;
        MDL_TRY(private_open(h, rank));
    }
    h->front = h->base;
    atomic_store_explicit(&h->front->nonce, h->nonce, memory_order_relaxed);
    atomic_store_explicit(&h->front->state, MDL_SHM_OPEN, memory_order_relaxed);
    return medleySuccess;
}

static medleyResult_t probe_open(struct mdl_shm_home *h, int rank)
{
    h->probe_bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, h->probe_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return mdl_system_error(errno, "rank %d: no memory for the probe word", rank);
    h->probe = page;
    /* A child that gets this process's number later must not look like it. */
    if (madvise(page, h->probe_bytes, MADV_WIPEONFORK) != 0) madvise(page, h->probe_bytes, MADV_DONTFORK);
    atomic_store_explicit(h->probe, h->nonce, memory_order_relaxed);
    return medleySuccess;
}

static void home_free(struct mdl_shm_home *h)
{
    if (h->holds_bells) mdl_bells_release();
    if (h->segment)
        mdl_segment_destroy(h->segment);
    else if (h->base)
        munmap(h->base, h->len);
    if (h->probe) munmap((void *)h->probe, h->probe_bytes);
    pthread_mutex_destroy(&h->lock);
    free(h->region_of);
    free(h);
}

static void home_list(struct mdl_shm_home *h)
{
    pthread_mutex_lock(&homes_lock);
    mdl_list_append(&homes, &h->link);
    pthread_mutex_unlock(&homes_lock);
}

medleyResult_t mdl_shm_home_open(int rank, int nranks, struct mdl_shm_home **home)
{
    struct mdl_shm_home *h = calloc(1, sizeof(*h));
    if (!h) goto no_memory;
    h->fd = -1;
    h->nranks = nranks;
    h->nregions = nranks - 1 < MDL_SHM_MAX_LOCAL ? nranks - 1 : MDL_SHM_MAX_LOCAL;
    atomic_init(&h->refs, 1);
    pthread_mutex_init(&h->lock, NULL);
    mdl_list_init(&h->link);
    randombytes_buf(&h->nonce, sizeof(h->nonce));
    h->nonce |= 1; /* not 0: that is a closed home's */
    h->region_of = malloc(sizeof(int) * (size_t)nranks);
    if (!h->region_of) goto no_memory;
    for (int r = 0; r < nranks; r++) h->region_of[r] = -1;

    medleyResult_t result = rings_open(h, rank);
    if (result == medleySuccess) result = probe_open(h, rank);
    if (result != medleySuccess) goto free_home;
    result = mdl_bells_hold();
    if (result != medleySuccess) goto free_home;
    h->holds_bells = true;
    home_list(h);
    *home = h;
    return medleySuccess;

no_memory:
    result = mdl_error(medleySystemError, "rank %d: no memory for the shared-memory transport", rank);
free_home:
    if (h) home_free(h);
    return result;
}

void mdl_shm_home_put(struct mdl_shm_home *h)
{
    pthread_mutex_lock(&homes_lock); /* so that find never meets a home whose last reference goes */
    bool last = atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1;
    if (last) mdl_list_remove(&h->link);
    pthread_mutex_unlock(&homes_lock);
    if (last) home_free(h);
}

static uint64_t region_offset(const struct mdl_shm_home *h, int region)
{
    return h->layout.front_bytes + (uint64_t)region * h->layout.region_bytes;
}

/* Can the next region be given to `rank`? */
static bool region_reserve(struct mdl_shm_home *h, int rank)
{
    if (h->next_region >= h->nregions) return false;
    if (!h->reserve) return true;
    off_t offset = (off_t)region_offset(h, h->next_region);
    if (posix_fallocate(h->fd, offset, (off_t)h->layout.region_bytes) == 0) return true;
    MDL_WARN(MDL_SHM, "no room for the messages of rank %d in /dev/shm or $TMPDIR: another transport is used", rank);
    return false;
}

uint64_t mdl_shm_home_region(struct mdl_shm_home *h, int rank)
{
    pthread_mutex_lock(&h->lock);
    int *region = &h->region_of[rank];
    if (*region < 0 && region_reserve(h, rank)) *region = h->next_region++;
    uint64_t offset = *region < 0 ? 0 : region_offset(h, *region);
    pthread_mutex_unlock(&h->lock);
    return offset;
}

void mdl_shm_home_end(struct mdl_shm_home *h, enum mdl_shm_state state)
{
    atomic_store_explicit(h->probe, 0, memory_order_seq_cst);             /* pairs with mdl_shm_read_tile */
    atomic_store_explicit(&h->front->state, state, memory_order_seq_cst); /* pairs with the readers of state */
    /* Pairs with mdl_shm_home_read. */
    if (!mdl_guard_await(&h->readers)) MDL_WARN(MDL_FAULT, "a rank of this process does not end its copy");
}

bool mdl_shm_home_read(struct mdl_shm_home *h, const void *from, void *to, size_t len)
{
    atomic_fetch_add_explicit(&h->readers, 1, memory_order_seq_cst); /* pairs with mdl_shm_home_end */
    bool open = atomic_load_explicit(&h->front->state, memory_order_seq_cst) == MDL_SHM_OPEN;
    if (open) mdl_copy(to, from, len);
    atomic_fetch_sub_explicit(&h->readers, 1, memory_order_seq_cst); /* release: the owner may free what was read */
    return open;
}

void mdl_shm_home_departed(struct mdl_shm_home *h)
{
    atomic_fetch_add_explicit(&h->departures, 1, memory_order_release); /* pairs with the load in progress */
    mdl_shm_wake_home(h);
}
