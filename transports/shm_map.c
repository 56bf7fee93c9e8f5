/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers' segments as addresses. The owner's monitor hands out the descriptor, whatever the owner is doing; the mapping
 * is kept until unmap or close.
 *
 * A mapping keeps its memory although the owner has freed the segment, so each question for a new segment also names
 * the mapping that was not used for longest, and the answer says whether that segment still exists: gone ones are
 * unmapped then. So the number of dead mappings stays bounded without messages of its own.
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

static medleyResult_t no_segment(struct mdl_shm_peer *p, uint64_t segment)
{
    return mdl_error(medleyRemoteError,
                     "rank %d: rank %d (pid %u) has no segment %#llx: was its memory freed while an operation used it?",
                     p->ctx->args.rank, p->rank, p->told_pid, (unsigned long long)segment);
}

/* Asks a peer in this process: its segments are ours. */
static medleyResult_t fetch_here(struct mdl_shm_peer *p, uint64_t segment, uint64_t check, int *fd, uint64_t *len,
                                 bool *gone)
{
    struct mdl_shm *s = p->ctx;
    struct stat st;
    int own = s->args.segment_fd ? s->args.segment_fd(segment) : -1;
    if (own < 0) return no_segment(p, segment);
    if (fstat(own, &st) != 0) {
        medleyResult_t result = mdl_system_error(errno, "rank %d: size of a segment", s->args.rank);
        close(own);
        return result;
    }
    *fd = own;
    *len = (uint64_t)st.st_size;
    *gone = check != 0 && mdl_shm_segment_gone(s, check);
    return medleySuccess;
}

static medleyResult_t fetch(struct mdl_shm_peer *p, uint64_t segment, uint64_t check, int *fd, uint64_t *len,
                            bool *gone)
{
    if (p->same_process) return fetch_here(p, segment, check, fd, len, gone);
    struct mdl_shm_query q = {.type = MDL_SHM_ASK_SEGMENT, .seq = ++p->asked, .segment = segment, .check = check};
    struct mdl_shm_reply r;
    int fds[MDL_SHM_REPLY_FDS];
    uint64_t deadline = mdl_now_ns() + (uint64_t)p->ctx->args.config->dead_after * MDL_NS_PER_MS;
    MDL_TRY(mdl_shm_ask(p, &q));
    MDL_TRY(mdl_shm_hear(p, q.seq, deadline, &r, fds));
    *gone = r.gone != 0;
    if (fds[1] >= 0) close(fds[1]);
    if (r.status != MDL_SHM_OK || fds[0] < 0) {
        if (fds[0] >= 0) close(fds[0]);
        return no_segment(p, segment);
    }
    *fd = fds[0];
    *len = r.len;
    return medleySuccess;
}

medleyResult_t mdl_shm_map(void *ctx, int rank, uint64_t segment, void **addr, size_t *len)
{
    struct mdl_shm *s = ctx;
    struct mdl_shm_peer *p = mdl_shm_peer(s, rank);
    if (!p) return mdl_error(medleyInvalidUsage, "rank %d shares no memory with rank %d", s->args.rank, rank);
    if (mdl_shm_told_to_stop(s)) return mdl_guard_refuse();
    struct map *m = find(p, segment);
    if (m) {
        use(p, m);
    } else {
        struct map *oldest = mdl_list_empty(&p->maps) ? NULL : mdl_container_of(p->maps.prev, struct map, link);
        int fd = -1;
        uint64_t size = 0;
        bool gone = false;
        MDL_TRY(fetch(p, segment, oldest ? oldest->segment : 0, &fd, &size, &gone));
        if (oldest && gone) drop(p, oldest);
        if (oldest && !gone) use(p, oldest); /* the next question is about another one */
        medleyResult_t result = keep(p, segment, fd, size, &m);
        close(fd);
        if (result != medleySuccess) return result;
    }
    *addr = m->addr;
    *len = m->len;
    return medleySuccess;
}

void mdl_shm_unmap(void *ctx, int rank, uint64_t segment)
{
    struct mdl_shm_peer *p = mdl_shm_peer(ctx, rank);
    struct map *m = p ? find(p, segment) : NULL;
    if (m) drop(p, m);
}

const char *mdl_shm_map_find(struct mdl_shm_peer *p, uint64_t segment, uint64_t offset, size_t len)
{
    struct map *m = segment != 0 ? find(p, segment) : NULL;
    if (!m || offset > m->len || len > m->len - offset) return NULL;
    return m->addr + offset;
}

void mdl_shm_unmap_all(struct mdl_shm_peer *p)
{
    mdl_list_each (it, &p->maps) drop(p, mdl_container_of(it, struct map, link));
}
