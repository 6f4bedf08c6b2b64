/* Operations whose input lies where the result goes. */
#include "check.h"

#define COUNT 5000

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    const uint32_t rank = (uint32_t)atoi(argv[1]);
    static int64_t blocks[2 * COUNT];
    float *floats = (float *)blocks, *own = floats + rank * COUNT;

    for (int at = 0; at < COUNT; at++)
        own[at] = (float)(at + (int)rank);
    CHECK(halo_all_gather(c, own, floats, COUNT, HALO_DTYPE_F32) == HALO_OK);
    for (int at = 0; at < 2 * COUNT; at++)
        CHECK(floats[at] == (float)(at % COUNT + at / COUNT));

    CHECK(halo_reduce_scatter(c, floats, own, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(own[at] == 2 * (float)(at + (int)rank));

    const uint32_t root = 1;
    CHECK(halo_gather(c, own, rank == root ? floats : NULL, COUNT, HALO_DTYPE_F32, root) == HALO_OK);
    for (int at = 0; rank == root && at < 2 * COUNT; at++)
        CHECK(floats[at] == 2 * (float)(at % COUNT + at / COUNT));

    for (int at = 0; at < COUNT; at++)
        floats[at] = 1;
    CHECK(halo_reduce(c, floats, rank == root ? floats : NULL, COUNT, HALO_DTYPE_F32, HALO_OP_SUM, root) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(floats[at] == (rank == root ? 2 : 1));

    CHECK(halo_communicator_close(c) == HALO_OK);
    halo_communicator_free(c);
    return 0;
}
