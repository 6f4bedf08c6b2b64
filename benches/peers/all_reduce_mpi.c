/* One rank of an MPI all-reduce, measured as every other peer is: see benches/README.md.
 *
 *     all_reduce_mpi BYTES:ITERATIONS...
 *
 * Every rank takes a processor of its own. For each size, rank 0 prints one line of JSON with quantiles, in
 * microseconds, of the slowest rank's time per operation. bf16 where this MPI has it, else f32 over the same bytes. */
#define _GNU_SOURCE
#include <mpi.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef MPIX_BFLOAT16
#define TYPE MPIX_BFLOAT16
#define TYPE_NAME "bf16"
#define TYPE_BYTES 2
#else
#define TYPE MPI_FLOAT
#define TYPE_NAME "f32"
#define TYPE_BYTES 4
#endif

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void measure(int rank, long bytes, int iterations)
{
    int count = (int)(bytes / TYPE_BYTES), warmup = iterations / 10 + 2;
    /* as tensors begin, and halo's own driver has it: at a multiple of a cache line */
    size_t lines = ((size_t)bytes + 63) / 64 * 64;
    void *input = aligned_alloc(64, lines), *output = aligned_alloc(64, lines);
    double *own = malloc(sizeof(double) * (size_t)iterations), *slowest = malloc(sizeof(double) * (size_t)iterations);
    if (!input || !output || !own || !slowest)
        MPI_Abort(MPI_COMM_WORLD, 3);
    memset(input, 1, (size_t)bytes); /* pages that were never written would all be one page of zeros */
    memset(output, 1, (size_t)bytes);
    for (int at = 0; at < warmup; at++)
        MPI_Allreduce(input, output, count, TYPE, MPI_SUM, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int at = 0; at < iterations; at++) {
        double start = MPI_Wtime();
        MPI_Allreduce(input, output, count, TYPE, MPI_SUM, MPI_COMM_WORLD);
        own[at] = MPI_Wtime() - start;
    }
    MPI_Reduce(own, slowest, iterations, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        qsort(slowest, (size_t)iterations, sizeof *slowest, by_value);
        printf("{\"bytes\":%ld,\"dtype\":\"%s\",\"p10_us\":%.4f,\"p50_us\":%.4f}\n", bytes, TYPE_NAME,
               slowest[iterations / 10] * 1e6, slowest[iterations / 2] * 1e6);
        fflush(stdout);
    }
    free(input), free(output), free(own), free(slowest);
}

int main(int argc, char **argv)
{
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET((size_t)rank % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &own);
    if (sched_setaffinity(0, sizeof own, &own) != 0) {
        perror("all_reduce_mpi: sched_setaffinity");
        MPI_Abort(MPI_COMM_WORLD, 4);
    }
    for (int at = 1; at < argc; at++) {
        long bytes;
        int iterations;
        if (sscanf(argv[at], "%ld:%d", &bytes, &iterations) != 2 || iterations < 1) {
            fprintf(stderr, "all_reduce_mpi: `%s` is not BYTES:ITERATIONS\n", argv[at]);
            MPI_Abort(MPI_COMM_WORLD, 2);
        }
        measure(rank, bytes, iterations);
    }
    MPI_Finalize();
    return 0;
}
