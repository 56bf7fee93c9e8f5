/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of a rank to itself. A send meets a receive of the same channel in posting order, whichever came first; the
 * copy is done in bounded tiles, so that one large message does not hold up a thread that serves many. No descriptors,
 * no peers: nothing ever arrives from outside, so there is never anything to sleep for.
 *
 * Of the two queues of a channel at most one holds requests: what can match has matched. Matched pairs wait in `pairs`
 * until their bytes are copied.
 */
#include "config.h"
#include "lib/base/copy.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "transports/guard.h"
#include <medley/plugin.h>
#include <stdlib.h>
#include <string.h>

enum { SELF_TILE = 256 * 1024 };

struct self_request {
    struct mdl_request head;
    struct mdl_list link;
    struct mdl_message msg;
    struct self_request *source; /* of a matched receive: the send */
};

struct self_channel {
    struct mdl_list sends, recvs;
};

struct self {
    int rank;
    struct mdl_guard guard;
    struct mdl_list pairs; /* receives that have met their send */
    _Atomic uint64_t copied;
    struct self_channel channels[MDL_MAX_CHANNELS];
};

static medleyResult_t probe(const struct mdl_config *config, char *why, size_t why_bytes) { return medleySuccess; }

static medleyResult_t open_self(const struct mdl_transport_open *args, void **ctx)
{
    struct self *s = calloc(1, sizeof(*s));
    if (!s) return mdl_error(medleySystemError, "rank %d: no memory for the self transport", args->rank);
    s->rank = args->rank;
    mdl_list_init(&s->pairs);
    for (int i = 0; i < MDL_MAX_CHANNELS; i++) {
        mdl_list_init(&s->channels[i].sends);
        mdl_list_init(&s->channels[i].recvs);
    }
    *ctx = s;
    return medleySuccess;
}

static void close_self(void *ctx) { free(ctx); }

static medleyResult_t address(void *ctx, uint8_t *address, size_t *len)
{
    *len = 0;
    return medleySuccess;
}

static medleyResult_t connect_all(void *ctx, const struct mdl_peer *peers, uint64_t deadline_ns, uint32_t *reach)
{
    struct self *s = ctx;
    reach[s->rank] = MDL_REACH_SEND;
    return medleySuccess;
}

static void finish(struct self_request *r, medleyResult_t result)
{
    r->head.result = result;
    r->head.state = result == medleySuccess ? MDL_REQ_DONE : MDL_REQ_FAILED;
}

/* The buffers of one rank may overlap, or be one. */
static void tile_copy(char *to, const char *from, size_t n)
{
    uintptr_t apart = to > from ? (uintptr_t)to - (uintptr_t)from : (uintptr_t)from - (uintptr_t)to;
    if (apart >= n)
        mdl_copy(to, from, n);
    else if (apart > 0)
        memmove(to, from, n);
}

/* Copies a tile of a matched pair; true when the pair is finished. */
static bool pair_step(struct self *s, struct self_request *recv)
{
    struct self_request *send = recv->source;
    size_t left = recv->msg.len - recv->head.bytes;
    size_t n = left < SELF_TILE ? left : SELF_TILE;
    tile_copy((char *)recv->msg.ptr + recv->head.bytes, (const char *)send->msg.ptr + recv->head.bytes, n);
    recv->head.bytes += n;
    send->head.bytes = recv->head.bytes;
    atomic_store_explicit(&s->copied, atomic_load_explicit(&s->copied, memory_order_relaxed) + n, memory_order_relaxed);
    if (n < left) return false;
    finish(send, medleySuccess);
    finish(recv, medleySuccess);
    return true;
}

/* A send has met its receive: checks that they mean the same, copies the first tile and queues what is left. */
static medleyResult_t match(struct self *s, struct self_request *send, struct self_request *recv)
{
    recv->source = send;
    if (send->msg.tag != recv->msg.tag || send->msg.len != recv->msg.len) {
        recv->head.peer_tag = send->msg.tag;
        recv->head.peer_len = send->msg.len;
        finish(send, medleyInvalidUsage);
        finish(recv, medleyInvalidUsage);
        mdl_error(
            medleyInvalidUsage,
            "rank %d: message to itself on channel %u does not match: sent %zu bytes with tag %#llx, expected %zu "
            "bytes with tag %#llx",
            s->rank, send->msg.channel, send->msg.len, (unsigned long long)send->msg.tag, recv->msg.len,
            (unsigned long long)recv->msg.tag);
        return medleySuccess;
    }
    if (!mdl_guard_enter(&s->guard)) return mdl_guard_refuse();
    if (!pair_step(s, recv)) mdl_list_append(&s->pairs, &recv->link);
    mdl_guard_leave(&s->guard);
    return medleySuccess;
}

static medleyResult_t check_post(struct self *s, int peer, const struct mdl_message *msg)
{
    if (mdl_guard_is_shut(&s->guard)) return mdl_guard_refuse();
    if (peer == s->rank && msg->channel < MDL_MAX_CHANNELS && (msg->ptr || msg->len == 0)) return medleySuccess;
    return mdl_error(medleyInvalidArgument,
                     "rank %d: the self transport cannot move %zu bytes at %p to rank %d on channel %u", s->rank,
                     msg->len, msg->ptr, peer, msg->channel);
}

static struct self_request *start(struct mdl_request *req, const struct mdl_message *msg)
{
    struct self_request *r = mdl_container_of(req, struct self_request, head);
    r->head = (struct mdl_request){.state = MDL_REQ_ACTIVE};
    r->msg = *msg;
    mdl_list_init(&r->link);
    return r;
}

static struct self_request *take_first(struct mdl_list *queue)
{
    if (mdl_list_empty(queue)) return NULL;
    struct self_request *r = mdl_container_of(queue->next, struct self_request, link);
    mdl_list_remove(&r->link);
    return r;
}

static medleyResult_t send_self(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req)
{
    struct self *s = ctx;
    MDL_TRY(check_post(s, peer, msg));
    struct self_request *send = start(req, msg);
    struct self_request *recv = take_first(&s->channels[msg->channel].recvs);
    if (recv) return match(s, send, recv);
    mdl_list_append(&s->channels[msg->channel].sends, &send->link);
    return medleySuccess;
}

static medleyResult_t recv_self(void *ctx, int peer, const struct mdl_message *msg, struct mdl_request *req)
{
    struct self *s = ctx;
    MDL_TRY(check_post(s, peer, msg));
    struct self_request *recv = start(req, msg);
    struct self_request *send = take_first(&s->channels[msg->channel].sends);
    if (send) return match(s, send, recv);
    mdl_list_append(&s->channels[msg->channel].recvs, &recv->link);
    return medleySuccess;
}

/* One tile per call, of the pair that waits longest. */
static medleyResult_t progress(void *ctx, int *events)
{
    struct self *s = ctx;
    if (mdl_guard_is_shut(&s->guard)) return mdl_guard_refuse();
    if (mdl_list_empty(&s->pairs)) return medleySuccess;
    if (!mdl_guard_enter(&s->guard)) return mdl_guard_refuse();
    struct self_request *recv = take_first(&s->pairs);
    if (!pair_step(s, recv)) mdl_list_append(&s->pairs, &recv->link);
    mdl_guard_leave(&s->guard);
    ++*events;
    return medleySuccess;
}

static medleyResult_t arm(void *ctx, int *fd)
{
    struct self *s = ctx;
    if (!mdl_list_empty(&s->pairs)) return medleyInProgress;
    *fd = -1;
    return medleySuccess;
}

static void disarm(void *ctx) {}

static void abort_self(void *ctx)
{
    struct self *s = ctx;
    if (!mdl_guard_shut(&s->guard)) MDL_WARN(MDL_FAULT, "rank %d: a copy to itself did not end in time", s->rank);
}

static void link_self(void *ctx, int peer, struct mdl_link_info *info)
{
    struct self *s = ctx;
    *info = (struct mdl_link_info){.detail = "memcpy"};
    info->sent_bytes = info->recv_bytes = atomic_load_explicit(&s->copied, memory_order_relaxed);
}

extern const struct mdl_transport mdl_transport_self;
const struct mdl_transport mdl_transport_self = {
    .abi = MDL_PLUGIN_ABI,
    .size = sizeof(struct mdl_transport),
    .name = "self",
    .caps = MDL_CAP_SAME_HOST,
    .request_size = sizeof(struct self_request),
    .probe = probe,
    .open = open_self,
    .close = close_self,
    .address = address,
    .connect_all = connect_all,
    .send = send_self,
    .recv = recv_self,
    .progress = progress,
    .arm = arm,
    .disarm = disarm,
    .abort = abort_self,
    .link = link_self,
};
