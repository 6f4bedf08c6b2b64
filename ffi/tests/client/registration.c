/* Registered memory: whatever carries the bytes, results are the same, and a registration is given back once. */
#include "check.h"

#define COUNT 100000

static float values[COUNT], gathered[2 * COUNT];

static void operate(halo_communicator *c, uint32_t rank)
{
    for (int at = 0; at < COUNT; at++)
        values[at] = (float)(at % 100) + (float)rank;
    CHECK(halo_all_gather(c, values, gathered, COUNT, HALO_DTYPE_F32) == HALO_OK);
    CHECK(halo_all_reduce(c, values, values, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
    for (int at = 0; at < COUNT; at++) {
        CHECK(values[at] == 2 * (float)(at % 100) + 1);
        CHECK(gathered[at] == (float)(at % 100) && gathered[COUNT + at] == (float)(at % 100) + 1);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    const uint32_t rank = (uint32_t)atoi(argv[1]);
    uint64_t input = 0, output = 0, part = 0;
    CHECK_ERROR(halo_communicator_register(NULL, values, 1, &input), HALO_ERROR_NULL, "communicator is NULL");
    CHECK_ERROR(halo_communicator_register(c, values, 1, NULL), HALO_ERROR_NULL, "registration is NULL");
    CHECK_ERROR(halo_communicator_register(c, NULL, 8, &input), 226, "nothing to register in 8 bytes at address 0x0");
    CHECK_ERROR(halo_communicator_register(c, values, 0, &input), 226, "nothing to register in 0 bytes");
    CHECK(input == 0);

    CHECK(halo_communicator_register(c, values, sizeof values, &input) == HALO_OK);
    /* Nobody needs to do as the others do. */
    if (rank == 0)
        CHECK(halo_communicator_register(c, gathered, sizeof gathered, &output) == HALO_OK);
    CHECK(halo_communicator_register(c, values + 10, 40, &part) == HALO_OK && part != input);
    operate(c, rank);
    CHECK(halo_communicator_deregister(c, input) == HALO_OK);
    CHECK_ERROR(halo_communicator_deregister(c, input), HALO_ERROR_UNKNOWN_REGISTRATION, "no registration 1");
    CHECK_ERROR(halo_communicator_deregister(c, 77), HALO_ERROR_UNKNOWN_REGISTRATION, "no registration 77");
    operate(c, rank);
    CHECK(halo_communicator_close(c) == HALO_OK);
    CHECK_ERROR(halo_communicator_register(c, values, 1, &input), HALO_ERROR_CLOSED, "closed");
    CHECK(halo_communicator_deregister(c, part) == HALO_OK);
    halo_communicator_free(c); /* gives back what is left */
    return 0;
}
