/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank tells of its window, byte by byte: docs/wire.md. */
#include "config.h"

#include "lib/engine/direct.h"

void mdl_direct_write(struct mdl_writer *w, const struct mdl_direct_offer *o)
{
    mdl_write_u64(w, o->process);
    mdl_write_u64(w, o->base);
    mdl_write_u64(w, o->bytes);
    mdl_write_u64(w, o->staging);
    mdl_write_u32(w, o->types);
    mdl_write_u32(w, (uint32_t)o->ordinal);
    mdl_write_u64(w, o->ipc.offset);
    mdl_write_u32(w, (uint32_t)o->ipc.len);
    mdl_write_u32(w, o->pids);
    mdl_write_bytes(w, o->ipc.bytes, sizeof(o->ipc.bytes));
}

void mdl_direct_read(struct mdl_reader *r, struct mdl_direct_offer *o)
{
    *o = (struct mdl_direct_offer){.ipc.fd = -1};
    o->process = mdl_read_u64(r);
    o->base = mdl_read_u64(r);
    o->bytes = mdl_read_u64(r);
    o->staging = mdl_read_u64(r);
    o->types = mdl_read_u32(r);
    o->ordinal = (int)mdl_read_u32(r);
    o->ipc.offset = mdl_read_u64(r);
    o->ipc.len = mdl_read_u32(r);
    o->pids = mdl_read_u32(r);
    mdl_read_bytes(r, o->ipc.bytes, sizeof(o->ipc.bytes));
    if (r->bad || o->ipc.len > MDL_IPC_BYTES || o->ordinal < 0) *o = (struct mdl_direct_offer){.ipc.fd = -1};
}
