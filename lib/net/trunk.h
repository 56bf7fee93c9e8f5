/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of trunks (channel.h): trunk.c their life and what they receive, channel.c the channels and what they
 * send. Reactor's thread only.
 *
 * A frame is a head of 12 bytes (channel u32, type u8, descriptors u8, reserved u16, length u32) and its payload; the
 * descriptors ride with its first byte. The kernel gives the descriptors of one sendmsg with one recvmsg, in order, so
 * each frame that announces some takes the next batch of them.
 */
#ifndef MDL_NET_TRUNK_H_
#define MDL_NET_TRUNK_H_

#include "lib/base/list.h"
#include "lib/net/channel.h"
#include "lib/net/door_part.h"

enum { MDL_TRUNK_HEAD = 12, MDL_TRUNK_BUCKETS = 32, MDL_TRUNK_BATCHES = 64, MDL_TRUNK_GUESTS = 256 };
enum mdl_trunk_type { MDL_TRUNK_OPEN = 1, MDL_TRUNK_DATA = 2, MDL_TRUNK_END = 3 };

struct mdl_trunk_piece {
    struct mdl_list link;
    struct mdl_channel *channel; /* NULL: closed meanwhile */
    atomic_size_t *charge;
    size_t charged, len, sent;
    int nfds, fds[MDL_CHANNEL_FDS];
    bool owns_fds;
    uint8_t bytes[];
};

struct mdl_trunk_batch {
    int n;
    int fds[MDL_CHANNEL_FDS];
};

struct mdl_trunk {
    struct mdl_list link; /* door->trunks */
    struct mdl_door *door;
    struct mdl_listener *at; /* of an accepted one; NULL: it was dialed from here */
    bool ready;              /* the handshake of channel 0 is over */
    struct mdl_addr local, remote;
    struct mdl_watch watch, pid_watch;
    struct mdl_timer fail_timer;
    struct mdl_task fail_task;
    pid_t pid;
    uint32_t next_id; /* to open, or to be opened at least */
    int nchannels, nguests;
    struct mdl_list channels[MDL_TRUNK_BUCKETS];
    struct mdl_list out;
    int send_errno;
    bool watching_out;
    uint8_t *in;
    size_t in_len, in_room;
    struct mdl_trunk_batch batches[MDL_TRUNK_BATCHES];
    int nbatches;
    int busy;
    bool ended, closed;
};

struct mdl_channel {
    struct mdl_list link; /* its bucket */
    struct mdl_trunk *trunk;
    uint32_t id;
    const struct mdl_channel_use *use;
    void *ctx;
    int unsent; /* pieces */
    bool opened, finished;
};

/* trunk.c. A trunk that a dial begins to make: others queue on it. Then it is ready, or is abandoned. */
struct mdl_trunk *mdl_trunk_find(struct mdl_door *door, const struct mdl_addr *to);
struct mdl_trunk *mdl_trunk_begin(struct mdl_door *door, const struct mdl_addr *to); /* NULL without memory */
void mdl_trunk_abandon(struct mdl_trunk *t);
/* Takes fd over, also on failure, which is reported. *link gets channel 0 and the ends. */
medleyResult_t mdl_trunk_ready(struct mdl_trunk *t, int fd, struct mdl_link *link) MDL_MUST_USE;
medleyResult_t mdl_trunk_accept(struct mdl_listener *at, int fd, struct mdl_link *link) MDL_MUST_USE;
void mdl_trunk_hold(struct mdl_trunk *t);
void mdl_trunk_let_go(struct mdl_trunk *t);
void mdl_trunk_unused(struct mdl_trunk *t); /* its last channel is closed, or all is sent */
void mdl_trunks_close(struct mdl_door *door);
void mdl_trunk_fill_link(const struct mdl_trunk *t, struct mdl_channel *c, struct mdl_link *link);

/* channel.c */
struct mdl_channel *mdl_channel_new(struct mdl_trunk *t, uint32_t id); /* NULL without memory */
struct mdl_channel *mdl_channel_open(struct mdl_trunk *t, const struct mdl_channel_use *use, void *ctx);
struct mdl_channel *mdl_channel_find(struct mdl_trunk *t, uint32_t id);
void mdl_channel_shake(struct mdl_channel *c, struct mdl_auth *auth); /* sends what the handshake has to say */
/* Feeds the handshake one message; false: it is longer than the handshake takes now. */
bool mdl_channel_feed(struct mdl_auth *auth, const uint8_t *bytes, size_t len);
void mdl_trunk_flush(struct mdl_trunk *t);
void mdl_trunk_drop_out(struct mdl_trunk *t);

/* guest.c: a channel was opened with `hello` */
void mdl_guest_admit_channel(struct mdl_trunk *t, struct mdl_channel *c, const uint8_t *hello, size_t len);

#endif
