/* Every operation between two ranks, with the right result. */
#include "check.h"

#define COUNT 10000

static float value(uint32_t rank, int at)
{
    return (float)((at * 13 + (int)rank * 5) % 97);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    uint32_t rank = 99, world = 99;
    CHECK(halo_communicator_rank(c, &rank) == HALO_OK && halo_communicator_world(c, &world) == HALO_OK);
    CHECK(rank == (uint32_t)atoi(argv[1]) && world == 2);
    const uint32_t peer = 1 - rank;
    halo_link link;
    CHECK(halo_communicator_link(c, peer, &link) == HALO_OK);
    CHECK(link.peer == peer && strcmp(link.transport, "shm") == 0 && link.host[0] && link.reason[0]);

    static float own[COUNT], both[2 * COUNT], result[2 * COUNT];
    for (int at = 0; at < COUNT; at++)
        own[at] = value(rank, at);

    CHECK(halo_all_reduce(c, own, result, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(result[at] == value(0, at) + value(1, at));
    memcpy(result, own, sizeof own);
    CHECK(halo_all_reduce(c, result, result, COUNT, HALO_DTYPE_F32, HALO_OP_MAX) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(result[at] == (value(0, at) > value(1, at) ? value(0, at) : value(1, at)));

    CHECK(halo_all_gather(c, own, both, COUNT, HALO_DTYPE_F32) == HALO_OK);
    for (int at = 0; at < 2 * COUNT; at++)
        CHECK(both[at] == value((uint32_t)(at / COUNT), at % COUNT));

    CHECK(halo_reduce_scatter(c, both, result, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(result[at] == 2 * value(rank, at));

    memcpy(result, own, sizeof own);
    CHECK(halo_broadcast(c, result, COUNT, HALO_DTYPE_F32, 1) == HALO_OK);
    for (int at = 0; at < COUNT; at++)
        CHECK(result[at] == value(1, at));

    memset(result, 0, sizeof result);
    CHECK(halo_gather(c, own, rank == 0 ? result : NULL, COUNT, HALO_DTYPE_F32, 0) == HALO_OK);
    CHECK(rank != 0 || memcmp(result, both, sizeof both) == 0);

    if (rank == 0) {
        CHECK(halo_send(c, own, COUNT, HALO_DTYPE_F32, peer) == HALO_OK);
        CHECK(halo_recv(c, result, COUNT, HALO_DTYPE_F32, peer) == HALO_OK);
    } else {
        CHECK(halo_recv(c, result, COUNT, HALO_DTYPE_F32, peer) == HALO_OK);
        CHECK(halo_send(c, own, COUNT, HALO_DTYPE_F32, peer) == HALO_OK);
    }
    for (int at = 0; at < COUNT; at++)
        CHECK(result[at] == value(peer, at));
    CHECK(halo_barrier(c) == HALO_OK);

    CHECK(halo_reduce(c, own, rank == 1 ? result : NULL, COUNT, HALO_DTYPE_F32, HALO_OP_MIN, 1) == HALO_OK);
    for (int at = 0; rank == 1 && at < COUNT; at++)
        CHECK(result[at] == (value(0, at) < value(1, at) ? value(0, at) : value(1, at)));

    CHECK(halo_scatter(c, rank == 0 ? both : NULL, result, COUNT, HALO_DTYPE_F32, 0) == HALO_OK);
    CHECK(memcmp(result, own, sizeof own) == 0);

    for (int at = 0; at < COUNT; at++) {
        both[at] = value(10 + rank, at);
        both[COUNT + at] = value(20 + rank, at);
    }
    CHECK(halo_all_to_all(c, both, result, COUNT, HALO_DTYPE_F32) == HALO_OK);
    for (int at = 0; at < 2 * COUNT; at++)
        CHECK(result[at] == value(10 + 10 * rank + (uint32_t)(at / COUNT), at % COUNT));

    char *json = NULL;
    CHECK(halo_communicator_statistics(c, &json) == HALO_OK);
    CHECK(strstr(json, "\"all_reduce\"") && strstr(json, "\"count\":2"));
    halo_string_free(json);
    CHECK(halo_communicator_close(c) == HALO_OK);
    halo_communicator_free(c);
    return 0;
}
