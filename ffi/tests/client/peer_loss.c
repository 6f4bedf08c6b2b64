/* A rank whose process ends without a word is named to the other, at once and ever after. */
#include "check.h"

#include <unistd.h>

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    CHECK(halo_barrier(c) == HALO_OK);
    if (argv[1][0] == '1')
        _exit(0);
    CHECK_ERROR(halo_barrier(c), HALO_ERROR_PEER_LOST, "rank 1");
    CHECK(halo_error_peer() == 1);
    float value = 1;
    CHECK_ERROR(halo_all_reduce(c, &value, &value, 1, HALO_DTYPE_F32, HALO_OP_SUM), HALO_ERROR_PEER_LOST, "rank 1");
    CHECK_ERROR(halo_communicator_close(c), HALO_ERROR_PEER_LOST, "rank 1");
    halo_communicator_free(c);
    return 0;
}
