/* Every rank brings its own numbers and gets the sum of all.
 *
 *     cc all_reduce.c -lhalo -o all_reduce
 *     ./all_reduce 0 2 127.0.0.1:29510 &
 *     ./all_reduce 1 2 127.0.0.1:29510
 *
 * On two hosts rank 0's address stands for 127.0.0.1, and both ranks need the same HALO_KEY. */
#include <halo.h>

#include <stdio.h>
#include <stdlib.h>

#define COUNT 4096

static int failed(void)
{
    fprintf(stderr, "error[%s]: %s\n  help: %s\n", halo_error_code(), halo_error_message(), halo_error_help());
    return 1;
}

/* Connects as rank `rank` of `world`; what the environment says (HALO_TRANSPORT, HALO_KEY, ...) is taken over. */
static halo_status connect_ranks(uint32_t rank, uint32_t world, const char *rendezvous, halo_communicator **communicator)
{
    halo_config *config = NULL;
    halo_status status = halo_config_from_environment(rank, world, &config);
    if (status == HALO_OK)
        status = halo_config_set_rendezvous(config, rendezvous);
    if (status == HALO_OK)
        status = halo_config_set_name(config, "example");
    if (status == HALO_OK)
        status = halo_communicator_connect(config, communicator);
    halo_config_free(config);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s RANK WORLD HOST:PORT\n", argv[0]);
        return 2;
    }
    uint32_t rank = (uint32_t)strtoul(argv[1], NULL, 10), world = (uint32_t)strtoul(argv[2], NULL, 10);
    halo_communicator *communicator = NULL;
    if (connect_ranks(rank, world, argv[3], &communicator) != HALO_OK)
        return failed();

    float values[COUNT];
    for (int at = 0; at < COUNT; at++)
        values[at] = (float)(at % 100) + (float)rank;

    /* The same pointer twice: in place. */
    if (halo_all_reduce(communicator, values, values, COUNT, HALO_DTYPE_F32, HALO_OP_SUM) != HALO_OK) {
        halo_communicator_free(communicator);
        return failed();
    }
    int wrong = 0;
    for (int at = 0; at < COUNT; at++)
        wrong += values[at] != (float)(world * (uint32_t)(at % 100) + world * (world - 1) / 2);
    printf("rank %u of %u: %d elements summed, %d wrong\n", rank, world, COUNT, wrong);

    halo_status status = halo_communicator_close(communicator);
    halo_communicator_free(communicator);
    if (status != HALO_OK)
        return failed();
    return wrong > 0;
}
