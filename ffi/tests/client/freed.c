/* A queue goes on after its communicator's handle was freed, on memory that belonged to the communicator. */
#include "check.h"

#define COUNT 1000000

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    const uint32_t rank = (uint32_t)atoi(argv[1]);
    halo_communicator *c = connect_as(argv), *other = NULL;
    CHECK(halo_communicator_split(c, 0, 0, &other) == HALO_OK);
    void *memory = NULL;
    CHECK(halo_communicator_allocate(c, COUNT * sizeof(float), &memory) == HALO_OK);
    float *values = memory;
    for (int at = 0; at < COUNT; at++)
        values[at] = (float)(at % 100);

    halo_queue *queue = NULL;
    CHECK(halo_queue_new(c, &queue) == HALO_OK);
    halo_request request = {.kind = HALO_ALL_REDUCE, .dtype = HALO_DTYPE_F32, .op = HALO_OP_SUM, .count = COUNT};
    request.input = request.output = memory;
    /* The other rank comes when this one's handle is gone. */
    if (rank == 1)
        CHECK(halo_barrier(other) == HALO_OK);
    uint64_t ticket = 0;
    CHECK(halo_queue_start(queue, &request, &ticket) == HALO_OK);
    if (rank == 0) {
        halo_communicator_free(c);
        CHECK(halo_barrier(other) == HALO_OK);
    }
    CHECK(halo_queue_wait(queue, ticket) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(values[at] == 2 * (float)(at % 100));
    halo_queue_free(queue);
    if (rank == 1)
        halo_communicator_free(c);
    halo_communicator_free(other);
    return 0;
}
