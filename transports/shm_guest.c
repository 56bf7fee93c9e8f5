/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side of the handover. A guest is a peer's channel on which it asks; the monitor's thread answers, whatever
 * the application is doing. Nothing of it blocks: a guest that asks without reading its answers is dropped.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UNREAD_MAX = 64 }; /* answers */

struct guest {
    struct mdl_list link;
    struct mdl_channel *channel;
    struct mdl_shm *ctx;
    int rank;
};

static void guest_drop(struct guest *g)
{
    mdl_list_remove(&g->link);
    mdl_channel_close(g->channel);
    free(g);
}

static bool answer(struct guest *g, const struct mdl_shm_reply *r, const int *fds)
{
    uint8_t bytes[MDL_SHM_REPLY_BYTES];
    if (mdl_channel_unsent(g->channel) > UNREAD_MAX) {
        MDL_INFO(MDL_SHM, "rank %d: rank %d asks without reading its answers", g->ctx->args.rank, g->rank);
        return false;
    }
    mdl_shm_reply_write(r, bytes);
    mdl_channel_send(g->channel, &(struct mdl_channel_message){
                                     .head = bytes, .head_len = sizeof(bytes), .fds = fds, .nfds = (int)r->nfds});
    return true;
}

/* A descriptor of one of this process's segments, or -1 and errno. */
static int segment_fd(struct mdl_shm *s, uint64_t segment)
{
    if (segment != 0 && s->args.segment_fd) return s->args.segment_fd(segment);
    errno = ENOENT;
    return -1;
}

/* The segment that the asker would like with it, if that can be had: else it asks again, and hears why not. */
static int add_segment(struct guest *g, uint64_t segment, struct mdl_shm_reply *r)
{
    struct stat st;
    int fd = segment_fd(g->ctx, segment);
    if (fd < 0 || fstat(fd, &st) != 0) return fd;
    r->segment_len = (uint64_t)st.st_size;
    r->nfds++;
    return fd;
}

static bool answer_hello(struct guest *g, uint64_t seq, uint64_t segment)
{
    struct mdl_shm_home *h = g->ctx->home;
    struct mdl_shm_reply r = {.type = MDL_SHM_ASK_HELLO, .seq = seq, .nonce = h->nonce};
    int rings = h->fd;
    if (h->segment && h->segment->arena) { /* all communicators' memory is in it: only for who could read that anyway */
        rings = mdl_channel_same_user(g->channel) ? mdl_arena_fd(h->segment->arena) : -1;
        if (rings < 0)
            MDL_INFO(MDL_SHM, "rank %d: rank %d runs as another user: no shared memory with it", g->ctx->args.rank,
                     g->rank);
    }
    r.status = rings < 0 ? MDL_SHM_NO_SEGMENT : MDL_SHM_OK;
    if (r.status == MDL_SHM_OK && (r.region = mdl_shm_home_region(h, g->rank)) == 0) r.status = MDL_SHM_NO_ROOM;
    if (r.status != MDL_SHM_OK) return answer(g, &r, NULL);
    mdl_shm_yama_allow(g->ctx, mdl_channel_pid(g->channel)); /* before it tries */
    int fds[MDL_SHM_REPLY_FDS] = {rings};
    if (h->segment && h->segment->arena) r.region = h->segment->arena;
    r.bells = mdl_bells_shared(fds + 1);
    r.nfds = 1 + MDL_BELLS_SHARED;
    int extra = add_segment(g, segment, &r);
    fds[1 + MDL_BELLS_SHARED] = extra;
    r.len = h->len;
    r.ring_bytes = h->layout.ring_bytes;
    r.bulk_slots = h->layout.bulk_slots;
    r.bulk_bytes = h->layout.bulk_bytes;
    bool good = answer(g, &r, fds);
    if (extra >= 0) close(extra);
    return good;
}

/* Of a segment that is there, but for which no descriptor is left, the asker must keep its mapping: it may be using it.
 */
bool mdl_shm_segment_gone(struct mdl_shm *s, uint64_t segment)
{
    int fd = segment_fd(s, segment);
    bool gone = fd < 0 && errno == ENOENT;
    if (fd >= 0) close(fd);
    return gone;
}

static bool answer_segment(struct guest *g, const struct mdl_shm_query *q)
{
    struct mdl_shm_reply r = {.type = MDL_SHM_ASK_SEGMENT, .seq = q->seq, .status = MDL_SHM_NO_SEGMENT};
    r.gone = q->check != 0 && mdl_shm_segment_gone(g->ctx, q->check);
    int fd = segment_fd(g->ctx, q->segment);
    struct stat st;
    if (fd < 0 && errno != ENOENT)
        mdl_system_error(errno, "rank %d: no descriptor for rank %d to map a segment", g->ctx->args.rank, g->rank);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        r.status = MDL_SHM_OK;
        r.nfds = 1;
        r.len = (uint64_t)st.st_size;
    }
    bool good = answer(g, &r, &fd);
    if (fd >= 0) close(fd);
    return good;
}

static bool guest_asked(struct guest *g, const uint8_t *bytes, size_t len)
{
    struct mdl_shm_query q;
    if (len != MDL_SHM_QUERY_BYTES || !mdl_shm_query_read(bytes, &q)) {
        MDL_WARN(MDL_SHM, "rank %d: rank %d asked in a way that is not understood", g->ctx->args.rank, g->rank);
        return false;
    }
    if (q.type == MDL_SHM_ASK_RING) {
        if (q.segment < MDL_BELLS_MAX) mdl_bell_ring((int)q.segment);
        return true;
    }
    return q.type == MDL_SHM_ASK_HELLO ? answer_hello(g, q.seq, q.segment) : answer_segment(g, &q);
}

static void on_data(void *ctx, const uint8_t *bytes, size_t len, int *fds, int nfds)
{
    struct guest *g = ctx;
    for (int i = 0; i < nfds; i++) close(fds[i]);
    if (!guest_asked(g, bytes, len)) guest_drop(g);
}

static void on_end(void *ctx, int err, const char *why) { guest_drop(ctx); }

void mdl_shm_on_link(void *ctx, const struct mdl_link *link)
{
    static const struct mdl_channel_use use = {on_data, on_end};
    struct mdl_shm *s = ctx;
    bool known = link->peer_rank >= 0 && link->peer_rank < s->args.nranks && link->peer_rank != s->args.rank;
    struct guest *g = known && link->channel ? calloc(1, sizeof(*g)) : NULL;
    if (!g) {
        mdl_link_close(link);
        return;
    }
    *g = (struct guest){.ctx = s, .rank = link->peer_rank, .channel = link->channel};
    mdl_list_append(&s->guests, &g->link);
    mdl_channel_use(g->channel, &use, g);
}

void mdl_shm_drop_guests(struct mdl_shm *s)
{
    mdl_list_each (it, &s->guests) guest_drop(mdl_container_of(it, struct guest, link));
}
