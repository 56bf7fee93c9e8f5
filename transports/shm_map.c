/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers' segments as addresses. The owner's monitor hands out the descriptor, whatever the owner is doing; the mapping
 * is kept until unmap or close.
 *
 * A mapping keeps its memory although the owner has freed the segment, so whoever maps a new one also asks about the
 * two that were not used for longest, and unmaps what does not exist any more. Two, because one new mapping is made
 * meanwhile and some of the old ones live: so there are never many more dead ones than live ones.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct map {
    struct mdl_list link; /* in mdl_shm_peer.maps */
    uint64_t segment;
    char *addr;
    size_t len;
};

static struct map *find(struct mdl_shm_peer *p, uint64_t segment)
{
    mdl_list_each (it, &p->maps) {
        struct map *m = mdl_container_of(it, struct map, link);
        if (m->segment == segment) return m;
    }
    return NULL;
}

static void use(struct mdl_shm_peer *p, struct map *m)
{
    mdl_list_remove(&m->link);
    mdl_list_append(p->maps.next, &m->link); /* before the first */
}

static void drop(struct mdl_shm_peer *p, struct map *m)
{
    mdl_list_remove(&m->link);
    mdl_segment_unimport(m->addr, m->len);
    free(m);
    atomic_fetch_sub_explicit(&p->nmaps, 1, memory_order_relaxed);
}

static medleyResult_t keep(struct mdl_shm_peer *p, uint64_t segment, int fd, size_t len, struct map **map)
{
    struct map *m = malloc(sizeof(*m));
    if (!m) return mdl_error(medleySystemError, "rank %d: no memory to map a segment", p->ctx->args.rank);
    void *addr;
    medleyResult_t result = mdl_segment_import(fd, len, &addr);
    if (result != medleySuccess) {
        free(m);
        return result;
    }
    *m = (struct map){.segment = segment, .addr = addr, .len = len};
    mdl_list_init(&m->link);
    mdl_list_append(p->maps.next, &m->link);
    atomic_fetch_add_explicit(&p->nmaps, 1, memory_order_relaxed);
    *map = m;
    return medleySuccess;
}

medleyResult_t mdl_shm_map_keep(struct mdl_shm_peer *p, uint64_t segment, int fd, size_t len)
{
    struct map *m;
    return keep(p, segment, fd, len, &m);
}

/* Those out of an arena are not asked about, nor asked for: the first is had when the peer is connected. */
bool mdl_shm_map_piece(struct mdl_shm_peer *p, int fd, uint64_t segment, uint64_t place, size_t len)
{
    if (!mdl_arena_join(fd, place, len, len, &p->board)) return false;
    p->board_segment = segment;
    atomic_fetch_add_explicit(&p->nmaps, 1, memory_order_relaxed);
    return true;
}

static void drop_piece(struct mdl_shm_peer *p)
{
    if (!p->board.base) return;
    mdl_arena_leave(&p->board);
    atomic_fetch_sub_explicit(&p->nmaps, 1, memory_order_relaxed);
}

static medleyResult_t no_segment(struct mdl_shm_peer *p, uint64_t segment)
{
    return mdl_error(medleyRemoteError,
                     "rank %d: rank %d (pid %u) has no segment %#llx: was its memory freed while an operation used it?",
                     p->ctx->args.rank, p->rank, p->told_pid, (unsigned long long)segment);
}

/* Asks a peer in this process: its segments are ours. */
static medleyResult_t fetch_here(struct mdl_shm_peer *p, uint64_t segment, int *fd, uint64_t *len)
{
    struct mdl_shm *s = p->ctx;
    struct stat st;
    int own = s->args.segment_fd ? s->args.segment_fd(segment) : -1;
    if (own < 0 && s->args.segment_fd && errno != ENOENT)
        return mdl_system_error(errno, "rank %d: no descriptor to map a segment of rank %d", s->args.rank, p->rank);
    if (own < 0) return no_segment(p, segment);
    if (fstat(own, &st) != 0) {
        medleyResult_t result = mdl_system_error(errno, "rank %d: size of a segment", s->args.rank);
        close(own);
        return result;
    }
    *fd = own;
    *len = (uint64_t)st.st_size;
    return medleySuccess;
}

/* *fd -1: it has none, or `segment` is 0. */
static medleyResult_t ask_segment(struct mdl_shm_peer *p, uint64_t segment, uint64_t check, struct mdl_shm_reply *r,
                                  int *fd)
{
    struct mdl_shm_query q = {.type = MDL_SHM_ASK_SEGMENT, .seq = ++p->asked, .segment = segment, .check = check};
    int fds[MDL_SHM_REPLY_FDS];
    uint64_t deadline = mdl_now_ns() + (uint64_t)p->ctx->args.config->dead_after * MDL_NS_PER_MS;
    MDL_TRY(mdl_shm_ask(p, &q));
    MDL_TRY(mdl_shm_hear(p, deadline, r, fds));
    for (int i = 1; i < MDL_SHM_REPLY_FDS; i++)
        if (fds[i] >= 0) close(fds[i]);
    if (r->status != MDL_SHM_OK && fds[0] >= 0) {
        close(fds[0]);
        fds[0] = -1;
    }
    *fd = fds[0];
    return medleySuccess;
}

static struct map *oldest_of(struct mdl_shm_peer *p)
{
    return mdl_list_empty(&p->maps) ? NULL : mdl_container_of(p->maps.prev, struct map, link);
}

/* The answer about the mapping that was not used for longest. One that lives goes to the front: the next question is
 * about another one. */
static void settle(struct mdl_shm_peer *p, struct map *oldest, bool gone)
{
    if (oldest && gone) drop(p, oldest);
    if (oldest && !gone) use(p, oldest);
}

static medleyResult_t look_at_oldest(struct mdl_shm_peer *p)
{
    struct map *oldest = oldest_of(p);
    struct mdl_shm_reply r;
    int fd;
    if (!oldest) return medleySuccess;
    if (p->same_process) {
        settle(p, oldest, mdl_shm_segment_gone(p->ctx, oldest->segment));
        return medleySuccess;
    }
    MDL_TRY(ask_segment(p, 0, oldest->segment, &r, &fd));
    if (fd >= 0) close(fd);
    settle(p, oldest, r.gone != 0);
    return medleySuccess;
}

/* A descriptor of the segment; looks at an old mapping by the way. */
static medleyResult_t fetch(struct mdl_shm_peer *p, uint64_t segment, int *fd, uint64_t *len)
{
    struct map *oldest = oldest_of(p);
    struct mdl_shm_reply r;
    if (p->same_process) {
        MDL_TRY(look_at_oldest(p));
        return fetch_here(p, segment, fd, len);
    }
    MDL_TRY(ask_segment(p, segment, oldest ? oldest->segment : 0, &r, fd));
    settle(p, oldest, r.gone != 0);
    if (*fd < 0) return no_segment(p, segment);
    *len = r.len;
    return medleySuccess;
}

static medleyResult_t map_new(struct mdl_shm_peer *p, uint64_t segment, struct map **map)
{
    int fd = -1;
    uint64_t len = 0;
    MDL_TRY(look_at_oldest(p));
    MDL_TRY(fetch(p, segment, &fd, &len));
    medleyResult_t result = keep(p, segment, fd, len, map);
    close(fd);
    return result;
}

medleyResult_t mdl_shm_map(void *ctx, int rank, uint64_t segment, void **addr, size_t *len)
{
    struct mdl_shm *s = ctx;
    struct mdl_shm_peer *p = mdl_shm_peer(s, rank);
    if (!p) return mdl_error(medleyInvalidUsage, "rank %d shares no memory with rank %d", s->args.rank, rank);
    if (mdl_shm_told_to_stop(s)) return mdl_guard_refuse();
    if (p->board.base && segment == p->board_segment) {
        *addr = p->board.base;
        *len = p->board.mapped;
        return medleySuccess;
    }
    struct map *m = find(p, segment);
    if (m)
        use(p, m);
    else
        MDL_TRY(map_new(p, segment, &m));
    *addr = m->addr;
    *len = m->len;
    return medleySuccess;
}

void mdl_shm_unmap(void *ctx, int rank, uint64_t segment)
{
    struct mdl_shm_peer *p = mdl_shm_peer(ctx, rank);
    struct map *m = p ? find(p, segment) : NULL;
    if (m) drop(p, m);
    if (p && segment == p->board_segment) drop_piece(p);
}

const char *mdl_shm_map_find(struct mdl_shm_peer *p, uint64_t segment, uint64_t offset, size_t len)
{
    if (p->board.base && segment == p->board_segment)
        return offset > p->board.mapped || len > p->board.mapped - offset ? NULL : (char *)p->board.base + offset;
    struct map *m = segment != 0 ? find(p, segment) : NULL;
    if (!m || offset > m->len || len > m->len - offset) return NULL;
    return m->addr + offset;
}

void mdl_shm_unmap_all(struct mdl_shm_peer *p)
{
    mdl_list_each (it, &p->maps) drop(p, mdl_container_of(it, struct map, link));
    drop_piece(p);
}
