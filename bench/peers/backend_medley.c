/* SPDX-License-Identifier: Apache-2.0 */
/* Medley for bench/compare: one communicator per rank, the id goes through the controller. */
#include <medley.h>
#include <stdio.h>
#include <string.h>

#include "worker.h"

static medleyComm_t comm;

static const medleyDataType_t types[TYPES] = {
    [F32] = medleyFloat32, [F64] = medleyFloat64,   [I8] = medleyInt8,           [I32] = medleyInt32,
    [F16] = medleyFloat16, [BF16] = medleyBfloat16, [F8E4M3] = medleyFloat8e4m3, [F8E5M2] = medleyFloat8e5m2,
};

static bool succeeded(medleyResult_t result)
{
    if (result) complain("%s: %s", medleyGetErrorString(result), medleyGetLastError(comm));
    return result == medleySuccess;
}

static void to_hex(const medleyUniqueId *id, char *text)
{
    for (size_t i = 0; i < sizeof(*id); i++) sprintf(text + 2 * i, "%02x", (unsigned char)id->internal[i]);
}

static void from_hex(const char *text, medleyUniqueId *id)
{
    for (size_t i = 0; i < sizeof(*id); i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        id->internal[i] = (char)byte;
    }
}

static bool open_medley(struct world *world)
{
    medleyUniqueId id;
    char text[2 * sizeof(id) + 1] = "";

    if (world->rank == 0) {
        if (!succeeded(medleyGetUniqueId(&id))) return false;
        to_hex(&id, text);
    }
    if (!share(world, text, sizeof(text))) return false;
    from_hex(text, &id);
    return succeeded(medleyCommInitRank(&comm, world->nranks, id, world->rank));
}

static void close_medley(void)
{
    medleyCommDestroy(comm);
    comm = NULL;
}

static void tell_version(char *text, size_t size)
{
    int code = 0;

    medleyGetVersion(&code);
    snprintf(text, size, "Medley %d.%d.%d", code / 10000, code / 100 % 100, code % 100);
}

static const char *variants(enum collective collective, enum type type)
{
    (void)collective, (void)type;
    return "default";
}

static void *allocate(size_t bytes)
{
    void *buffer = NULL;

    return succeeded(medleyMemAlloc(&buffer, bytes)) ? buffer : NULL;
}

static void release(void *buffer) { (void)medleyMemFree(buffer); }

static bool barrier(void) { return succeeded(medleyBarrier(comm, NULL)); }

static bool call(const struct job *job)
{
    medleyDataType_t type = types[job->type];
    const void *in = job->send;
    void *out = job->recv;
    size_t n = job->count;

    switch (job->collective) {
    case ALLREDUCE: return succeeded(medleyAllReduce(in, out, n, type, medleySum, comm, NULL));
    case ALLGATHER: return succeeded(medleyAllGather(in, out, n, type, comm, NULL));
    case REDUCESCATTER: return succeeded(medleyReduceScatter(in, out, n, type, medleySum, comm, NULL));
    case BROADCAST: return succeeded(medleyBroadcast(in, out, n, type, ROOT, comm, NULL));
    case ALLTOALL: return succeeded(medleyAlltoAll(in, out, n, type, comm, NULL));
    case GATHER: return succeeded(medleyGather(in, out, n, type, ROOT, comm, NULL));
    case SCATTER: return succeeded(medleyScatter(in, out, n, type, ROOT, comm, NULL));
    default: return succeeded(medleyReduce(in, out, n, type, medleySum, ROOT, comm, NULL));
    }
}

const struct backend backend = {
    .open = open_medley,
    .close = close_medley,
    .version = tell_version,
    .variants = variants,
    .allocate = allocate,
    .release = release,
    .barrier = barrier,
    .call = call,
};
