/* A rank that receives when the sender has closed already gets what was sent, and no signal. */
#include "check.h"

#define COUNT 16384

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    const uint32_t rank = (uint32_t)atoi(argv[1]);
    halo_config *config = configure(rank, 2, argv[3]);
    CHECK(halo_config_set_transport(config, "tcp") == HALO_OK);
    /* Few and small slots: several times the receiver tells a sender that is gone what it has consumed. */
    CHECK(halo_config_set_slots(config, 4, 4096) == HALO_OK);
    halo_communicator *c = NULL, *other = NULL;
    CHECK(halo_communicator_connect(config, &other) == HALO_OK);
    halo_config_free(config);
    CHECK(halo_communicator_split(other, 0, 0, &c) == HALO_OK);

    static unsigned char bytes[COUNT];
    if (rank == 0) {
        memset(bytes, 7, COUNT);
        CHECK(halo_send(c, bytes, COUNT, HALO_DTYPE_U8, 1) == HALO_OK);
        CHECK(halo_communicator_close(c) == HALO_OK);
        halo_communicator_free(c);
        CHECK(halo_barrier(other) == HALO_OK);
    } else {
        CHECK(halo_barrier(other) == HALO_OK);
        CHECK(halo_recv(c, bytes, COUNT, HALO_DTYPE_U8, 0) == HALO_OK);
        for (int at = 0; at < COUNT; at++)
            CHECK(bytes[at] == 7);
        halo_communicator_free(c);
    }
    halo_communicator_free(other);
    return 0;
}
