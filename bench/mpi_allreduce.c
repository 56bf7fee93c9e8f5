/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mpi_allreduce [rounds, default 9]: MPI_Allreduce and medleyAllReduce (fp32, sum) of the same processes in turns, with
 * ordinary buffers and with those of medleyMemAlloc. Per size: the median of the rounds in us, each the slowest rank's
 * mean, and in brackets Medley's time as a ratio of MPI's.
 *
 *   make bench/mpi_allreduce
 *   mpirun --bind-to core --mca pml ob1 --mca btl vader,self -n 2 bench/mpi_allreduce 9
 */
#include <medley.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { MPI, ORDINARY, MAPPED, WAYS, MOST_ROUNDS = 101 };

static const size_t sizes[] = {8, 64, 512, 4096, 32768, 262144, 2097152, 16777216};
static medleyComm_t comm;
static float *in[WAYS], *out[WAYS];

static void stop(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, medleyGetLastError(comm));
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static int iterations(size_t bytes) { return bytes < 65536 ? 400 : bytes < 1 << 20 ? 60 : bytes < 16 << 20 ? 10 : 2; }

static double measure(int way, size_t bytes)
{
    int n = iterations(bytes);
    double mine, slowest;

    MPI_Barrier(MPI_COMM_WORLD);
    mine = MPI_Wtime();
    for (int i = 0; i < n; i++) {
        if (way == MPI)
            MPI_Allreduce(in[MPI], out[MPI], (int)(bytes / 4), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        else if (medleyAllReduce(in[way], out[way], bytes / 4, medleyFloat32, medleySum, comm, NULL))
            stop("medleyAllReduce");
    }
    mine = (MPI_Wtime() - mine) / n * 1e6;
    MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return slowest;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run_size(size_t bytes, int rounds, int rank)
{
    double t[WAYS][MOST_ROUNDS];

    for (int k = 0; k < rounds; k++) {
        for (int way = 0; way < WAYS; way++) t[way][k] = measure(way, bytes);
    }
    for (int way = 0; way < WAYS; way++) qsort(t[way], (size_t)rounds, sizeof(double), compare);
    if (rank) return;
    double mpi = t[MPI][rounds / 2], plain = t[ORDINARY][rounds / 2], mapped = t[MAPPED][rounds / 2];
    printf("%9zu  mpi %10.2f  medley %10.2f (%.2f)  medleyMemAlloc %10.2f (%.2f)\n", bytes, mpi, plain, plain / mpi,
           mapped, mapped / mpi);
}

int main(int argc, char **argv)
{
    int rank, n, rounds = argc > 1 ? atoi(argv[1]) : 9;
    size_t most = sizes[sizeof(sizes) / sizeof(sizes[0]) - 1];
    medleyUniqueId id;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    if (rounds < 1 || rounds > MOST_ROUNDS) stop("rounds must be 1 to 101");
    if (rank == 0 && medleyGetUniqueId(&id)) stop("medleyGetUniqueId");
    MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, MPI_COMM_WORLD);
    if (medleyCommInitRank(&comm, n, id, rank)) stop("medleyCommInitRank");
    in[MPI] = in[ORDINARY] = malloc(most);
    out[MPI] = out[ORDINARY] = malloc(most);
    if (!in[MPI] || !out[MPI] || medleyMemAlloc((void **)&in[MAPPED], most) ||
        medleyMemAlloc((void **)&out[MAPPED], most))
        stop("no memory");
    for (size_t i = 0; i < most / 4; i++) in[MPI][i] = in[MAPPED][i] = 1, out[MPI][i] = out[MAPPED][i] = 0;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) run_size(sizes[s], rounds, rank);
    medleyMemFree(in[MAPPED]);
    medleyMemFree(out[MAPPED]);
    free(in[MPI]);
    free(out[MPI]);
    if (medleyCommDestroy(comm)) stop("medleyCommDestroy");
    MPI_Finalize();
    return 0;
}
