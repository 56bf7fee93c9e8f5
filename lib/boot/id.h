/* SPDX-License-Identifier: Apache-2.0 */
/* Unique ids: what the 128 bytes say, and how MEDLEY_COMM_ID makes the same ones on every rank. */
#ifndef MDL_BOOT_ID_H_
#define MDL_BOOT_ID_H_

#include "lib/boot/boot.h"

enum { MDL_ID_ADDRS = 3, MDL_ID_VERSION = 1 };
enum { MDL_ID_FIXED = 1 }; /* flags: from MEDLEY_COMM_ID; rank 0 serves it at the address */

struct mdl_id {
    uint8_t flags;
    struct mdl_secret secret;
    int naddrs;
    struct mdl_addr addrs[MDL_ID_ADDRS];
};
void mdl_id_write(const struct mdl_id *id, medleyUniqueId *bytes);
medleyResult_t mdl_id_read(const medleyUniqueId *bytes, struct mdl_id *id) MDL_MUST_USE;

/* The id that cfg's comm_id, comm_key and comm_key_file mean. MAY BLOCK in the resolver. */
medleyResult_t mdl_id_fixed(const struct mdl_config *cfg, struct mdl_id *id) MDL_MUST_USE;

/* The door at which rank 0 serves a fixed id. */
medleyResult_t mdl_id_door(const struct mdl_config *cfg, const struct mdl_id *id, struct mdl_door **door) MDL_MUST_USE;

void mdl_id_addresses(const struct mdl_id *id, char *text, size_t bytes); /* "10.0.0.1:5000, [::1]:5000" */

#endif
