/* Operations that overlap: a queue, a group, and a communicator that was split. */
#include "check.h"

#define COUNT 3000

static halo_request sum(float *values, size_t count)
{
    return (halo_request){
        .kind = HALO_ALL_REDUCE, .dtype = HALO_DTYPE_F32, .op = HALO_OP_SUM, .count = count, .input = values, .output = values};
}

static void fill(float *values, float value)
{
    for (int at = 0; at < COUNT; at++)
        values[at] = value;
}

static int all(const float *values, float value)
{
    for (int at = 0; at < COUNT; at++)
        if (values[at] != value)
            return 0;
    return 1;
}

static void queue(halo_communicator *c, uint32_t rank)
{
    static float first[COUNT], second[COUNT];
    fill(first, 1 + (float)rank);
    fill(second, 10);
    halo_queue *q = NULL, *other = NULL;
    CHECK_ERROR(halo_queue_new(NULL, &q), HALO_ERROR_NULL, "communicator is NULL");
    CHECK(halo_queue_new(c, &q) == HALO_OK);
    CHECK_ERROR(halo_queue_new(c, &other), HALO_ERROR_QUEUE_OPEN, "halo_queue_new: a queue of this communicator");
    CHECK_ERROR(halo_barrier(c), HALO_ERROR_QUEUE_OPEN, "a queue of this communicator");
    CHECK_ERROR(halo_communicator_close(c), HALO_ERROR_QUEUE_OPEN, "a queue of this communicator");

    uint64_t tickets[3];
    int32_t done = -1;
    halo_request requests[3] = {sum(first, COUNT), sum(second, COUNT), {.kind = HALO_BARRIER}};
    for (int at = 0; at < 3; at++)
        CHECK(halo_queue_start(q, &requests[at], &tickets[at]) == HALO_OK);
    halo_request wrong = sum(NULL, COUNT), unknown = {.kind = 99, .dtype = HALO_DTYPE_F32};
    uint64_t ticket;
    CHECK_ERROR(halo_queue_start(q, &wrong, &ticket), HALO_ERROR_NULL, "halo_queue_start: output is NULL");
    CHECK_ERROR(halo_queue_start(q, &unknown, &ticket), HALO_ERROR_UNKNOWN_CONSTANT, "no kind of operation 99");
    CHECK_ERROR(halo_queue_start(q, NULL, &ticket), HALO_ERROR_NULL, "request is NULL");
    CHECK_ERROR(halo_queue_test(q, 77, &done), HALO_ERROR_UNKNOWN_TICKET, "no operation 77; 3 were started");
    CHECK(halo_queue_wait(q, tickets[1]) == HALO_OK);
    CHECK(all(first, 3) && all(second, 20));
    while (halo_queue_test(q, tickets[2], &done) == HALO_OK && !done)
        ;
    CHECK(done == 1);
    fill(first, 5);
    CHECK(halo_queue_start(q, &requests[0], &ticket) == HALO_OK);
    halo_queue_free(q); /* completes what is left */
    CHECK(all(first, 10));
    CHECK(halo_barrier(c) == HALO_OK);
}

static void group(halo_communicator *c, uint32_t rank)
{
    static float first[COUNT], second[COUNT], sent[COUNT], received[COUNT];
    fill(first, 1);
    fill(second, 2);
    fill(sent, (float)rank);
    /* Both send first: only together can both receive. */
    halo_request requests[4] = {
        sum(first, COUNT),
        sum(second, COUNT),
        {.kind = HALO_SEND, .dtype = HALO_DTYPE_F32, .peer = 1 - rank, .count = COUNT, .input = sent},
        {.kind = HALO_RECV, .dtype = HALO_DTYPE_F32, .peer = 1 - rank, .count = COUNT, .output = received},
    };
    CHECK(halo_group(c, requests, 4) == HALO_OK);
    CHECK(all(first, 2) && all(second, 4) && all(received, 1 - (float)rank));
    CHECK(halo_group(c, NULL, 0) == HALO_OK);
    CHECK_ERROR(halo_group(c, NULL, 1), HALO_ERROR_NULL, "requests is NULL");
    halo_request overlapping[2] = {sum(first, COUNT), sum(first + 1, COUNT - 1)};
    CHECK_ERROR(halo_group(c, overlapping, 2), HALO_ERROR_OVERLAP, "halo_group");
    CHECK(all(first, 2));
}

static void split(halo_communicator *c, uint32_t rank)
{
    halo_communicator *part = NULL;
    uint32_t number = 99, world = 99;
    /* Both ranks, the other way round. */
    CHECK(halo_communicator_split(c, 7, -(int64_t)rank, &part) == HALO_OK && part);
    CHECK(halo_communicator_rank(part, &number) == HALO_OK && number == 1 - rank);
    CHECK(halo_communicator_world(part, &world) == HALO_OK && world == 2);
    float value = 1 + (float)rank;
    CHECK(halo_broadcast(part, &value, 1, HALO_DTYPE_F32, 0) == HALO_OK && value == 2);
    CHECK(halo_communicator_close(part) == HALO_OK);
    halo_communicator_free(part);
    CHECK(halo_communicator_split(c, rank == 0 ? 1 : HALO_NO_COLOR, 0, &part) == HALO_OK);
    CHECK((part != NULL) == (rank == 0));
    CHECK(rank == 1 || (halo_communicator_world(part, &world) == HALO_OK && world == 1));
    halo_communicator_free(part);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    const uint32_t rank = (uint32_t)atoi(argv[1]);
    queue(c, rank);
    group(c, rank);
    split(c, rank);
    halo_queue_free(NULL);

    /* Freed in the wrong order: the communicator lives until its queue is gone. */
    halo_queue *q = NULL;
    CHECK(halo_queue_new(c, &q) == HALO_OK);
    halo_communicator_free(c);
    uint64_t ticket;
    halo_request barrier = {.kind = HALO_BARRIER};
    CHECK(halo_queue_start(q, &barrier, &ticket) == HALO_OK && halo_queue_wait(q, ticket) == HALO_OK);
    halo_queue_free(q);
    return 0;
}
