/* SPDX-License-Identifier: Apache-2.0 */
/* Names for people. */
#include "config.h"
#include "lib/plan/text.h"
#include <stdio.h>

const char *mdl_opcode_name(unsigned op)
{
    static const char *const names[] = {"SEND", "RECV", "COPY", "REDUCE", "SIGNAL", "WAIT", "NATIVE"};
    return op < sizeof(names) / sizeof(*names) ? names[op] : "?";
}

const char *mdl_coll_name(medleyColl_t coll)
{
    static const char *const names[medleyNumColls] = {
        "AllReduce", "Reduce",  "Broadcast",  "AllGather",      "ReduceScatter", "AlltoAll", "Gather",
        "Scatter",   "Barrier", "AllGatherV", "ReduceScatterV", "AlltoAllV",     "Send",     "Recv"};
    return (unsigned)coll < medleyNumColls ? names[coll] : "?";
}

void mdl_ref_format(const struct mdl_ref *ref, uint32_t parts, char *text, size_t bytes)
{
    static const char *const names[] = {"IN", "OUT", "SCRATCH"};
    const char *buf = ref->buf <= MDL_SCRATCH ? names[ref->buf] : "?", *acc = ref->acc ? " acc" : "";
    if (ref->slots != 1)
        snprintf(text, bytes, "r%u.%s[%u..%u)%s", ref->rank, buf, ref->slot, ref->slot + ref->slots, acc);
    else if (ref->lo == 0 && ref->hi == parts)
        snprintf(text, bytes, "r%u.%s[%u]%s", ref->rank, buf, ref->slot, acc);
    else
        snprintf(text, bytes, "r%u.%s[%u] parts %u..%u%s", ref->rank, buf, ref->slot, ref->lo, ref->hi, acc);
}
