/* SPDX-License-Identifier: Apache-2.0 */
/* The header of bootstrap and control messages. */
#include "config.h"
#include "lib/boot/frame.h"
#include "lib/boot/boot.h"

void mdl_frame_write(uint8_t head[MDL_FRAME_BYTES], const struct mdl_frame *frame)
{
    mdl_put_u32(head, MDL_FRAME_MAGIC);
    head[4] = MDL_FRAME_VERSION;
    head[5] = frame->type;
    mdl_put_u16(head + 6, frame->flags);
    mdl_put_u32(head + 8, frame->length);
    mdl_put_u32(head + 12, frame->src);
    mdl_put_u32(head + 16, frame->dst);
    mdl_put_u64(head + 20, frame->seq);
}

const char *mdl_frame_read(const uint8_t head[MDL_FRAME_BYTES], struct mdl_frame *frame)
{
    if (mdl_get_u32(head) != MDL_FRAME_MAGIC) return "a message without the magic number";
    if (head[4] != MDL_FRAME_VERSION) return "a message of another version";
    if (mdl_get_u32(head + 8) > MDL_CTL_MAX_PAYLOAD) return "a message longer than allowed";
    frame->type = head[5];
    frame->flags = mdl_get_u16(head + 6);
    frame->length = mdl_get_u32(head + 8);
    frame->src = mdl_get_u32(head + 12);
    frame->dst = mdl_get_u32(head + 16);
    frame->seq = mdl_get_u64(head + 20);
    return NULL;
}
