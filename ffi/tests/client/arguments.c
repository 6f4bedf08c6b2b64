/* Arguments that cannot be meant are errors that name the call and the argument, and harm nothing. */
#include "check.h"

static void configuration(void)
{
    halo_config *config = NULL;
    CHECK_ERROR(halo_config_new(0, 1, NULL), HALO_ERROR_NULL, "halo_config_new: config is NULL");
    CHECK(halo_config_new(0, 1, &config) == HALO_OK);
    CHECK_ERROR(halo_config_set_name(NULL, "x"), HALO_ERROR_NULL, "config is NULL");
    CHECK_ERROR(halo_config_set_name(config, NULL), HALO_ERROR_NULL, "value is NULL");
    CHECK_ERROR(halo_config_set_name(config, "\xff\xfe"), HALO_ERROR_NOT_TEXT, "value is not UTF-8");
    CHECK_ERROR(halo_config_set_transport(config, "pigeon"), 201, "`pigeon`");
    CHECK_ERROR(halo_config_set_rounding(config, "twice"), 202, "rounding: twice");
    CHECK(halo_config_set_rounding(config, "each") == HALO_OK && halo_config_set_rounding(config, "once") == HALO_OK);
    CHECK_ERROR(halo_config_set_address(config, "here"), 202, "address");
    CHECK_ERROR(halo_config_set_timeout(config, -1), 202, "timeout");
    CHECK_ERROR(halo_config_set_peer_timeout(config, 0.0 / 0.0), 202, "peer_timeout");
    CHECK_ERROR(halo_config_set_key(config, NULL, 3), HALO_ERROR_NULL, "key is NULL");
    CHECK(halo_config_set_key(config, NULL, 0) == HALO_OK);

    halo_communicator *communicator = NULL;
    CHECK_ERROR(halo_communicator_connect(config, NULL), HALO_ERROR_NULL, "communicator is NULL");
    CHECK_ERROR(halo_communicator_connect(NULL, &communicator), HALO_ERROR_NULL, "config is NULL");
    CHECK(halo_config_set_slots(config, 4, 100) == HALO_OK);
    CHECK_ERROR(halo_communicator_connect(config, &communicator), 202, "slot_bytes");
    CHECK(communicator == NULL);
    halo_config_free(config);
    CHECK(halo_config_new(7, 2, &config) == HALO_OK);
    CHECK_ERROR(halo_communicator_connect(config, &communicator), 202, "rank");
    halo_config_free(config);

    setenv("HALO_SLOTS", "many", 1);
    CHECK_ERROR(halo_config_from_environment(0, 1, &config), 203, "HALO_SLOTS");
    setenv("HALO_SLOTS", "4", 1);
    CHECK(halo_config_from_environment(0, 1, &config) == HALO_OK);
    halo_config_free(config);
    halo_config_free(NULL);
}

static void operations(halo_communicator *c)
{
    float in[4] = {1, 2, 3, 4}, out[4] = {0};
    const halo_dtype f32 = HALO_DTYPE_F32;
    const halo_op sum = HALO_OP_SUM;
    CHECK_ERROR(halo_all_reduce(NULL, in, out, 4, f32, sum), HALO_ERROR_NULL, "communicator is NULL");
    CHECK_ERROR(halo_all_reduce(c, NULL, out, 4, f32, sum), HALO_ERROR_NULL, "halo_all_reduce: input is NULL");
    CHECK_ERROR(halo_all_reduce(c, in, NULL, 4, f32, sum), HALO_ERROR_NULL, "output is NULL");
    CHECK_ERROR(halo_all_reduce(c, NULL, NULL, 4, f32, sum), HALO_ERROR_NULL, "output is NULL");
    CHECK_ERROR(halo_all_reduce(c, in, out, 4, 99, sum), HALO_ERROR_UNKNOWN_CONSTANT, "no element type 99");
    CHECK_ERROR(halo_all_reduce(c, in, out, 4, f32, 99), HALO_ERROR_UNKNOWN_CONSTANT, "no reduction 99");
    CHECK_ERROR(halo_all_reduce(c, in, in + 1, 3, f32, sum), HALO_ERROR_OVERLAP, "overlap in 8 bytes");
    CHECK_ERROR(halo_all_reduce(c, in, out, SIZE_MAX / 2, f32, sum), HALO_ERROR_TOO_LARGE, "count would be");
    CHECK_ERROR(halo_all_gather(c, in, out, SIZE_MAX / 4, f32), HALO_ERROR_TOO_LARGE, "would be");
    CHECK_ERROR(halo_broadcast(c, out, 4, f32, 1), HALO_ERROR_BAD_RANK, "rank 1");
    CHECK_ERROR(halo_gather(c, in, out, 4, f32, UINT32_MAX), HALO_ERROR_BAD_RANK, "gather");
    CHECK_ERROR(halo_gather(c, in, NULL, 4, f32, 0), HALO_ERROR_NULL, "output is NULL");
    CHECK_ERROR(halo_send(c, in, 4, f32, 0), HALO_ERROR_BAD_RANK, "send");
    CHECK_ERROR(halo_recv(c, out, 4, f32, 9), HALO_ERROR_BAD_RANK, "recv");
    CHECK_ERROR(halo_barrier(NULL), HALO_ERROR_NULL, "halo_barrier");

    halo_link link;
    char *json = NULL;
    CHECK_ERROR(halo_communicator_link(c, 0, &link), HALO_ERROR_BAD_RANK, "rank 0");
    CHECK_ERROR(halo_communicator_link(c, 0, NULL), HALO_ERROR_NULL, "link is NULL");
    CHECK_ERROR(halo_communicator_rank(c, NULL), HALO_ERROR_NULL, "rank is NULL");
    CHECK_ERROR(halo_communicator_statistics(c, NULL), HALO_ERROR_NULL, "json is NULL");

    /* Nothing was harmed. */
    CHECK(halo_all_reduce(c, in, out, 4, f32, sum) == HALO_OK && memcmp(in, out, sizeof in) == 0);
    CHECK(halo_all_reduce(c, NULL, NULL, 0, f32, sum) == HALO_OK);
    CHECK(halo_communicator_close(c) == HALO_OK);
    CHECK(halo_communicator_close(c) == HALO_OK);
    CHECK_ERROR(halo_barrier(c), HALO_ERROR_CLOSED, "closed");
    CHECK_ERROR(halo_communicator_statistics(c, &json), HALO_ERROR_CLOSED, "closed");
    CHECK(json == NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    CHECK(halo_version()[0] != '\0');
    CHECK(halo_error_code()[0] == '\0' && halo_error_message()[0] == '\0' && halo_error_peer() == -1);
    configuration();
    halo_communicator *communicator = connect_as(argv);
    operations(communicator);
    halo_communicator_free(communicator);
    halo_communicator_free(NULL);
    halo_string_free(NULL);
    return 0;
}
