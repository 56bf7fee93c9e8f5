/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bootstrap and control plane of one communicator.
 *
 * mdl_boot_id_create makes a unique id and serves its rendezvous; mdl_boot_join brings the ranks together and yields a
 * control plane: messages between any two ranks over lazily opened, authenticated links, an all-gather over a 4-ary
 * tree, heartbeats along that tree, and the flood of the first error. Links to ranks of the same host go over abstract
 * Unix sockets where that works.
 *
 * Rendezvous: a rank connects to the root, sends JOIN (rank, nranks, addresses) and waits; the root holds at most 256
 * such connections (over it, and every 500 ms, it answers WAIT with the number and names of the missing ranks, and the
 * rank comes back later), and answers READY with the addresses of the rank's tree neighbours when all are there. So the
 * root needs no descriptor per rank, every rank can say who is missing while it waits (logged) and at the init deadline
 * (in the error). Two ranks with one number, different nranks, or a rank out of range: an error for those that came,
 * naming both. With several ids rank r uses id r * nids / nranks and the roots then exchange through id 0; each id must
 * have been made by a process that joins.
 *
 * An id is for one communicator. Its root lives in the process that made it until the communicator is up, or for twice
 * init_timeout. An id from MEDLEY_COMM_ID may be used again and again, by communicators that are made one after the
 * other: a rank that joins a second one while it joins the first gets InvalidUsage, because nothing would tell which of
 * the others' belongs to which. Ranks may fail and try again.
 */
#ifndef MDL_BOOT_BOOT_H_
#define MDL_BOOT_BOOT_H_

#include "lib/base/config.h"
#include "lib/net/door.h"

/* Layout of the 128 bytes: magic "MDLY" u32, version u16, naddrs u8, flags u8, secret[32], up to 3 addresses
 * (MDL_ADDR_WIRE_BYTES each), zero. */
medleyResult_t mdl_boot_id_create(const struct mdl_config *cfg, medleyUniqueId *id) MDL_MUST_USE; /* honours comm_id,
                                                                                                     comm_key,
                                                                                                     comm_key_file */
medleyResult_t mdl_boot_id_check(const medleyUniqueId *id) MDL_MUST_USE; /* InvalidArgument if it is not one */

/* Nobody will use the id that this process made, any more: ends its root now. [any thread but the reactor's] */
void mdl_boot_id_discard(const medleyUniqueId *id);

struct mdl_ctl;
struct mdl_boot_args {
    const struct mdl_config *config; /* valid until mdl_ctl_close */
    const medleyUniqueId *ids;
    int nids, rank, nranks;
    const volatile uint32_t *abort_word;
    /* Reported from the reactor's thread; must not block and must not close the plane. */
    void (*on_fault)(void *ctx, medleyResult_t code, int origin, const char *text); /* the first fault, own or from
                                                                                       another rank, once */
    void *ctx;
};
medleyResult_t mdl_boot_join(const struct mdl_boot_args *args, struct mdl_ctl **ctl) MDL_MUST_USE;

/* A plane for some ranks of `parent` (ranks[new] = old), without a rendezvous; every member calls it with the same
 * `serial`, ranks and order. Works on a parent that has failed as long as the members are alive. */
medleyResult_t mdl_ctl_derive(struct mdl_ctl *parent, const struct mdl_boot_args *args, const int *ranks,
                              uint64_t serial, struct mdl_ctl **ctl) MDL_MUST_USE;

/* Says goodbye to all that it has links to (so that silence is no death), closes links, frees. Waits at most 200 ms,
 * for sockets that are full. No callback runs after it; it waits for one that is running, so hold no lock that one
 * takes. */
void mdl_ctl_close(struct mdl_ctl *ctl);

const struct mdl_secret *mdl_ctl_secret(const struct mdl_ctl *ctl); /* of the communicator */
struct mdl_door *mdl_ctl_door(const struct mdl_ctl *ctl);

/* all[r * len ..] = rank r's mine[0..len). Collective, in the same order on all ranks; blocks until `deadline_ns`, an
 * abort or a fault. `what` names the stage for logs and errors, and the error names the ranks that are missing as far
 * as this rank can know. */
medleyResult_t mdl_ctl_allgather(struct mdl_ctl *ctl, const void *mine, size_t len, void *all, uint64_t deadline_ns,
                                 const char *what) MDL_MUST_USE;

/* Message types below MDL_CTL_USER are the plane's own. */
enum { MDL_CTL_USER = 64, MDL_CTL_MAX_PAYLOAD = 64 * 1024 };
typedef void (*mdl_ctl_handler)(void *ctx, int src, const uint8_t *payload, size_t len); /* reactor's thread */
void mdl_ctl_handle(struct mdl_ctl *ctl, int type, mdl_ctl_handler fn, void *ctx); /* before the first message can come:
                                                                                      right after join, or at any time
                                                                                      for later ones (unhandled types
                                                                                      are kept until then, bounded) */

/* Queues a message to any rank, own included. [any thread, never blocks] Order is kept per destination. If the link
 * cannot be made or breaks, the message is lost and on_lost is told. */
medleyResult_t mdl_ctl_send(struct mdl_ctl *ctl, int dst, int type, const void *payload, size_t len);
/* A rank cannot be reached, is silent for dead_after, or has died: told once per rank, on the reactor's thread. That it
 * has left (said_goodbye) is told only if somebody sends to it or watches it: then or from before. Without a handler
 * the plane makes a fault of a loss. */
void mdl_ctl_on_lost(struct mdl_ctl *ctl, void (*fn)(void *ctx, int rank, bool said_goodbye, const char *why),
                     void *ctx);

/* Adds `rank` to those whose heartbeat this rank watches (tree neighbours always are). [any thread] */
void mdl_ctl_watch_peer(struct mdl_ctl *ctl, int rank);

/* Tells every rank that the communicator has failed; the first fault wins everywhere. Reaches the survivors although
 * inner nodes of the tree are dead. [any thread, never blocks] */
void mdl_ctl_fault(struct mdl_ctl *ctl, medleyResult_t code, int origin, const char *text);

/* Rank's host name as it told at join ("?" if unknown), for messages. */
const char *mdl_ctl_host(const struct mdl_ctl *ctl, int rank);

/* Launchers: rank, size and local rank from the environment of torchrun, Open MPI, PMIx, MPICH/PMI, Slurm, Kubernetes.
 * found = false: none. local_rank and local_size are -1 where unknown. root is where rank 0 could listen: the port
 * after MASTER_PORT, or one made of Slurm's job and step. */
struct mdl_launch {
    bool found;
    const char *launcher;
    int rank, size, local_rank, local_size;
    char root[256]; /* host:port or "" */
};
medleyResult_t mdl_boot_detect_launcher(struct mdl_launch *launch) MDL_MUST_USE;

#endif
