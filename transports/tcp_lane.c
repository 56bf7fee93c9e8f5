/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: a lane that expects a header reads into its stage, so that many small frames cost one system call; inside a
 * payload it reads straight to the payload's place, with the next header behind it, so that a stream of chunks is
 * hardly copied. What the stage holds is always used up before the next read.
 */
#include "config.h"
#include "transports/tcp_lane.h"
#include <errno.h>
#include <sys/uio.h>

enum { AHEAD_BYTES = 512 }; /* read behind a long payload */

static uint8_t nothing[MDL_TCP_MAX_CHUNK]; /* never written: payload that nobody needs */

struct mdl_tcp_lane *mdl_tcp_lane_new(struct mdl_tcp_flow *flow, void *owner, int slot, int fd, int rail)
{
    struct mdl_tcp_lane *lane = malloc(sizeof *lane);
    if (!lane) return NULL;
    memset(lane, 0, offsetof(struct mdl_tcp_lane, stage));
    mdl_list_init(&lane->link);
    mdl_list_init(&lane->reading.link);
    lane->flow = flow;
    lane->owner = owner;
    lane->slot = slot;
    lane->fd = fd;
    lane->rail = rail;
    return lane;
}

/* ---- writing ---- */

static struct mdl_tcp_out *new_out(struct mdl_tcp_lane *lane)
{
    return &lane->out[(lane->out_at + lane->nout++) % MDL_TCP_BATCH];
}

void mdl_tcp_lane_put(struct mdl_tcp_lane *lane, const struct mdl_tcp_take *take)
{
    struct mdl_tcp_out *out = new_out(lane);
    mdl_tcp_header_write(&take->h, out->head);
    out->seq = take->h.seq;
    out->head_len = MDL_TCP_HEADER_BYTES;
    out->payload = take->payload;
    out->len = take->h.length;
}

void mdl_tcp_lane_put_ack(struct mdl_tcp_lane *lane, uint8_t type)
{
    struct mdl_tcp_out *out = new_out(lane);
    struct mdl_tcp_header h;
    lane->asked = false;
    mdl_tcp_flow_make_ack(lane->flow, type, &h, out->head + MDL_TCP_HEADER_BYTES);
    mdl_tcp_header_write(&h, out->head);
    out->seq = 0;
    out->head_len = sizeof out->head;
    out->payload = NULL;
    out->len = 0;
}

void mdl_tcp_lane_put_probe(struct mdl_tcp_lane *lane, uint64_t now)
{
    struct mdl_tcp_take probe = {.h = {.type = MDL_TCP_PROBE}};
    mdl_tcp_flow_tell(lane->flow, &probe.h);
    mdl_tcp_lane_put(lane, &probe);
    if (lane->heard_ns >= lane->probed_ns) lane->probed_ns = now;
}

void mdl_tcp_lane_let_go(struct mdl_tcp_lane *lane)
{
    for (unsigned i = 0; i < lane->nout; i++) {
        struct mdl_tcp_out *out = &lane->out[(lane->out_at + i) % MDL_TCP_BATCH];
        if (out->seq && !mdl_tcp_flow_needs(lane->flow, out->seq)) out->payload = NULL;
    }
}

/* The frames that wait, less what is gone; returns the number of pieces. */
static int gather(const struct mdl_tcp_lane *lane, struct iovec iov[2 * MDL_TCP_BATCH], size_t *total)
{
    int n = 0;
    size_t skip = lane->out_done;
    *total = 0;
    for (unsigned i = 0; i < lane->nout; i++) {
        const struct mdl_tcp_out *out = &lane->out[(lane->out_at + i) % MDL_TCP_BATCH];
        const uint8_t *payload = out->payload ? out->payload : nothing;
        if (skip < out->head_len) {
            iov[n++] = (struct iovec){(void *)(out->head + skip), out->head_len - skip};
            skip = 0;
        } else {
            skip -= out->head_len;
        }
        if (skip < out->len) iov[n++] = (struct iovec){(void *)(payload + skip), out->len - skip};
        *total += out->head_len + out->len;
        skip = 0;
    }
    *total -= lane->out_done;
    return n;
}

static void advance(struct mdl_tcp_lane *lane, size_t n)
{
    lane->out_done += n;
    while (lane->nout) {
        const struct mdl_tcp_out *out = &lane->out[lane->out_at];
        if (lane->out_done < out->head_len + out->len) return;
        lane->out_done -= out->head_len + out->len;
        lane->bytes_out += out->len;
        uint64_t seq = out->seq;
        lane->out_at = (lane->out_at + 1) % MDL_TCP_BATCH;
        lane->nout--;
        if (seq) mdl_tcp_flow_written(lane->flow, seq);
    }
}

/* The errno of a socket call as the result of a lane. What lies with the user's memory would befall every other lane
 * too, for ever. */
static int failed(struct mdl_tcp_lane *lane, int err, const char *what)
{
    if (err != EFAULT) return err;
    lane->fatal = mdl_error(medleyInvalidArgument,
                            "rank %d: a buffer of an operation with rank %d cannot be %s: it was unmapped or freed "
                            "before the operation ended, or never was that large",
                            lane->flow->rank, lane->flow->peer, what);
    return MDL_TCP_FATAL;
}

int mdl_tcp_lane_write(struct mdl_tcp_lane *lane)
{
    struct iovec iov[2 * MDL_TCP_BATCH];
    lane->blocked = false;
    while (lane->nout) {
        size_t total;
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)gather(lane, iov, &total)};
        ssize_t n = sendmsg(lane->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return failed(lane, errno, "read");
        if (n > 0) advance(lane, (size_t)n);
        if (n < 0 || (size_t)n < total) {
            lane->blocked = true;
            return 0;
        }
    }
    return 0;
}

/* ---- reading ---- */

static int fail_read(struct mdl_tcp_lane *lane, medleyResult_t rc)
{
    lane->bad = lane->flow->bad;
    lane->fatal = rc;
    return rc == medleyInternalError ? MDL_TCP_BROKEN : MDL_TCP_FATAL;
}

/* Needs a whole header in the stage. */
static int begin_frame(struct mdl_tcp_lane *lane)
{
    struct mdl_tcp_flow *f = lane->flow;
    lane->bad =
        mdl_tcp_header_read(lane->stage + lane->stage_at, (uint32_t)f->peer, (uint32_t)f->rank, &lane->reading.h);
    if (lane->bad) return MDL_TCP_BROKEN;
    lane->stage_at += MDL_TCP_HEADER_BYTES;
    medleyResult_t rc = mdl_tcp_flow_accept(f, &lane->reading);
    if (rc != medleySuccess) return fail_read(lane, rc);
    lane->in_payload = true;
    lane->in_done = 0;
    return 0;
}

static int end_frame(struct mdl_tcp_lane *lane, uint64_t now)
{
    lane->in_payload = false;
    lane->bytes_in += lane->reading.h.length;
    if (lane->reading.h.type == MDL_TCP_BYE) lane->bye = true;
    if (lane->reading.h.type == MDL_TCP_PROBE) lane->asked = true;
    medleyResult_t rc = mdl_tcp_flow_arrived(lane->flow, &lane->reading, now);
    return rc == medleySuccess ? 0 : fail_read(lane, rc);
}

/* Handles the stage until it lacks something. */
static int use_stage(struct mdl_tcp_lane *lane, uint64_t now)
{
    for (;;) {
        size_t have = lane->stage_len - lane->stage_at;
        if (!lane->in_payload) {
            if (have < MDL_TCP_HEADER_BYTES) return 0;
            int rc = begin_frame(lane);
            if (rc) return rc;
            have -= MDL_TCP_HEADER_BYTES;
        }
        size_t left = lane->reading.h.length - lane->in_done, n = have < left ? have : left;
        if (n && lane->reading.sink) memcpy(lane->reading.sink + lane->in_done, lane->stage + lane->stage_at, n);
        lane->stage_at += n;
        lane->in_done += n;
        if (n < left) return 0;
        int rc = end_frame(lane, now);
        if (rc) return rc;
    }
}

static ssize_t read_header(struct mdl_tcp_lane *lane, size_t *wanted)
{
    lane->stage_len -= lane->stage_at;
    memmove(lane->stage, lane->stage + lane->stage_at, lane->stage_len);
    lane->stage_at = 0;
    *wanted = MDL_TCP_STAGE_BYTES - lane->stage_len;
    ssize_t n = recv(lane->fd, lane->stage + lane->stage_len, *wanted, MSG_DONTWAIT);
    if (n > 0) lane->stage_len += (size_t)n;
    return n;
}

static ssize_t read_payload(struct mdl_tcp_lane *lane, uint8_t *scratch, size_t scratch_bytes, size_t *wanted)
{
    struct mdl_tcp_reading *r = &lane->reading;
    size_t left = r->h.length - lane->in_done, here = left;
    if (!r->sink && here > scratch_bytes) here = scratch_bytes;
    struct iovec iov[2] = {{r->sink ? r->sink + lane->in_done : scratch, here},
                           {lane->stage, left > MDL_TCP_STAGE_BYTES ? AHEAD_BYTES : MDL_TCP_STAGE_BYTES}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = here == left ? 2 : 1};
    *wanted = here + (here == left ? iov[1].iov_len : 0);
    lane->stage_at = lane->stage_len = 0;
    ssize_t n = recvmsg(lane->fd, &msg, MSG_DONTWAIT);
    if (n <= 0) return n;
    size_t payload = (size_t)n < here ? (size_t)n : here;
    lane->in_done += payload;
    lane->stage_len = (size_t)n - payload;
    return n;
}

static int read_once(struct mdl_tcp_lane *lane, uint8_t *scratch, size_t scratch_bytes, size_t *got, bool *drained)
{
    for (;;) {
        size_t wanted;
        ssize_t n = lane->in_payload ? read_payload(lane, scratch, scratch_bytes, &wanted) : read_header(lane, &wanted);
        if (n == 0) return MDL_TCP_EOF;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return failed(lane, errno, "written");
        *got += n < 0 ? 0 : (size_t)n;
        *drained = n < 0 || (size_t)n < wanted;
        return 0;
    }
}

int mdl_tcp_lane_read(struct mdl_tcp_lane *lane, size_t budget, uint8_t *scratch, size_t scratch_bytes, uint64_t now,
                      bool *more)
{
    bool drained = false;
    lane->got = 0;
    while (!drained && lane->got < budget) {
        int rc = read_once(lane, scratch, scratch_bytes, &lane->got, &drained);
        if (lane->got) {
            lane->heard_ns = now;
            lane->heard_bytes = lane->got;
        }
        if (!rc) rc = use_stage(lane, now);
        if (rc) return rc;
    }
    if (!drained) *more = true;
    return 0;
}

void mdl_tcp_lane_stop_reading(struct mdl_tcp_lane *lane)
{
    if (lane->in_payload) mdl_tcp_flow_cancel(lane->flow, &lane->reading);
    lane->in_payload = false;
}
