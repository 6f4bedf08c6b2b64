/* Ranks that bring different counts are told so, both, and the communicator says the same ever after. */
#include "check.h"

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    halo_communicator *c = connect_as(argv);
    float values[8] = {0};
    const size_t count = argv[1][0] == '0' ? 4 : 8;
    halo_status status = halo_all_reduce(c, values, values, count, HALO_DTYPE_F32, HALO_OP_SUM);
    /* One rank notices; the other notices too, or hears it from the first. */
    CHECK(status == HALO_ERROR_MISMATCH || status == HALO_ERROR_STOPPED_BY_PEER);
    CHECK(strstr(halo_error_message(), "4 x f32") && strstr(halo_error_message(), "8 x f32"));
    char first[1024];
    snprintf(first, sizeof first, "%s", halo_error_message());
    CHECK_ERROR(halo_barrier(c), status, first);
    CHECK_ERROR(halo_communicator_close(c), status, first);
    halo_communicator_free(c);
    return 0;
}
