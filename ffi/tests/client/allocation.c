/* Memory that all ranks allocate together: results are the same, in place and not, and it is given back once. */
#include "check.h"

#define COUNT 100000

static void operate(halo_communicator *c, float *input, float *output, uint32_t rank)
{
    for (int round = 0; round < 3; round++) {
        for (int at = 0; at < COUNT; at++)
            input[at] = (float)((at + round) % 100) + (float)rank;
        CHECK(halo_all_reduce(c, input, output, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
        for (int at = 0; at < COUNT; at++)
            CHECK(output[at] == 2 * (float)((at + round) % 100) + 1);
        CHECK(halo_all_reduce(c, input, input, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
        CHECK(memcmp(input, output, COUNT * sizeof *input) == 0);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    const uint32_t rank = (uint32_t)atoi(argv[1]);
    void *input = NULL, *output = NULL, *never = NULL;
    CHECK_ERROR(halo_communicator_allocate(NULL, 8, &input), HALO_ERROR_NULL, "communicator is NULL");
    CHECK_ERROR(halo_communicator_allocate(c, 8, NULL), HALO_ERROR_NULL, "memory is NULL");

    CHECK(halo_communicator_allocate(c, COUNT * sizeof(float), &input) == HALO_OK);
    CHECK(halo_communicator_allocate(c, COUNT * sizeof(float), &output) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(((float *)input)[at] == 0);
    operate(c, input, output, rank);

    CHECK(halo_communicator_deallocate(c, NULL) == HALO_OK);
    CHECK_ERROR(halo_communicator_deallocate(c, (char *)input + 8), HALO_ERROR_UNKNOWN_ALLOCATION, "not allocated");
    /* One rank gives its own back before the others do. */
    if (rank == 0)
        CHECK(halo_communicator_deallocate(c, output) == HALO_OK);
    CHECK(halo_all_reduce(c, input, input, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
    if (rank == 0)
        CHECK_ERROR(halo_communicator_deallocate(c, output), HALO_ERROR_UNKNOWN_ALLOCATION, "not allocated");

    /* Sizes that differ are an error on every rank, and the end of the communicator. */
    CHECK(halo_communicator_allocate(c, 4096 * (rank + 1), &never) != HALO_OK);
    CHECK(never == NULL && halo_error_help()[0] != '\0');
    halo_communicator_free(c); /* gives back what is left */
    return 0;
}
