/* SPDX-License-Identifier: Apache-2.0 */
/* MPI for bench/compare: compiled against Open MPI and against MPICH, each with its own mpicc. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "worker.h"

static MPI_Datatype type_of(enum type type)
{
    switch (type) {
    case F32: return MPI_FLOAT;
    case F64: return MPI_DOUBLE;
    case I8: return MPI_INT8_T;
    case I32: return MPI_INT32_T;
    default: return MPI_DATATYPE_NULL; /* MPI has no such type */
    }
}

static bool succeeded(int result)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;

    if (result == MPI_SUCCESS) return true;
    MPI_Error_string(result, text, &length);
    complain("%s", text);
    return false;
}

static bool open_mpi(struct world *world)
{
    if (!succeeded(MPI_Init(NULL, NULL))) return false;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return succeeded(MPI_Comm_rank(MPI_COMM_WORLD, &world->rank)) &&
           succeeded(MPI_Comm_size(MPI_COMM_WORLD, &world->nranks));
}

static void close_mpi(void) { MPI_Finalize(); }

static void tell_version(char *text, size_t size)
{
    char full[MPI_MAX_LIBRARY_VERSION_STRING] = "", number[64];
    int length;

    MPI_Get_library_version(full, &length);
    full[strcspn(full, ",\n")] = 0;
    if (sscanf(full, "MPICH Version: %63s", number) == 1)
        snprintf(text, size, "MPICH %s", number);
    else
        snprintf(text, size, "%s", full);
}

static const char *variants(enum collective collective, enum type type)
{
    (void)collective;
    return type_of(type) == MPI_DATATYPE_NULL ? "" : "default";
}

static bool barrier(void) { return succeeded(MPI_Barrier(MPI_COMM_WORLD)); }

static bool call(const struct job *job)
{
    MPI_Datatype type = type_of(job->type);
    MPI_Comm comm = MPI_COMM_WORLD;
    const void *in = job->send;
    void *out = job->recv;
    int n = (int)job->count;

    switch (job->collective) {
    case ALLREDUCE: return succeeded(MPI_Allreduce(in, out, n, type, MPI_SUM, comm));
    case ALLGATHER: return succeeded(MPI_Allgather(in, n, type, out, n, type, comm));
    case REDUCESCATTER: return succeeded(MPI_Reduce_scatter_block(in, out, n, type, MPI_SUM, comm));
    case BROADCAST: return succeeded(MPI_Bcast(out, n, type, ROOT, comm));
    case ALLTOALL: return succeeded(MPI_Alltoall(in, n, type, out, n, type, comm));
    case GATHER: return succeeded(MPI_Gather(in, n, type, out, n, type, ROOT, comm));
    case SCATTER: return succeeded(MPI_Scatter(in, n, type, out, n, type, ROOT, comm));
    default: return succeeded(MPI_Reduce(in, out, n, type, MPI_SUM, ROOT, comm));
    }
}

const struct backend backend = {
    .open = open_mpi,
    .close = close_mpi,
    .version = tell_version,
    .variants = variants,
    .barrier = barrier,
    .call = call,
};
