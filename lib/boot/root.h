/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roots: the side of a rendezvous that waits for the ranks. One per unique id made in this process.
 *
 * A root belongs to the process, not to a communicator: it starts with the id and serves until its communicator is up.
 * After that it stays, if a rank of this process holds it, only to tell latecomers that the id has been used. The root
 * of a MEDLEY_COMM_ID ("lasting") is opened by rank 0 when it joins and ends when rank 0 is done with joining.
 */
#ifndef MDL_BOOT_ROOT_H_
#define MDL_BOOT_ROOT_H_

#include "lib/boot/id.h"

struct mdl_root;

/* Opens the root of `id` at `door` and takes that reference over, also on failure. *root (may be NULL) is a hold on
 * it. If the process has one for this id already, that is used. */
medleyResult_t mdl_root_open(const struct mdl_config *cfg, const struct mdl_id *id, struct mdl_door *door,
                             struct mdl_root **root) MDL_MUST_USE;

struct mdl_root *mdl_root_find(const struct mdl_secret *secret); /* a hold on this process's root of the id, or NULL */

/* Tells root number `index` of several that `first` is id 0, to which it passes on who came. */
void mdl_root_attach(struct mdl_root *root, const struct mdl_id *first);

void mdl_root_settle(struct mdl_root *root); /* its communicator is up: every rank has been answered */

/* Gives a hold back; without holds a root that is over, or lasting, is closed. Not on the reactor's thread. */
void mdl_root_release(struct mdl_root *root);

void mdl_root_reap(void); /* closes the roots that are over and that nobody holds. Not on the reactor's thread. */

#endif
