/* What every test client needs: a check that says where it failed, and a connection. */
#ifndef CHECK_H
#define CHECK_H

#include <halo.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                             \
    do {                                                                                                             \
        if (!(condition)) {                                                                                          \
            fprintf(stderr, "%s:%d: %s\n  last error: %s: %s\n", __FILE__, __LINE__, #condition, halo_error_code(),  \
                    halo_error_message());                                                                           \
            exit(1);                                                                                                 \
        }                                                                                                            \
    } while (0)

/* The call answers `status`, and the last error has that code and these words in its message. */
#define CHECK_ERROR(call, status, words)                                                                             \
    do {                                                                                                             \
        CHECK((call) == (status));                                                                                   \
        CHECK(atoi(halo_error_code() + strlen("HALO-E")) == (status));                                               \
        CHECK(strstr(halo_error_message(), words) != NULL);                                                          \
        CHECK(halo_error_help()[0] != '\0');                                                                         \
    } while (0)

static inline halo_config *configure(uint32_t rank, uint32_t world, const char *rendezvous)
{
    halo_config *config = NULL;
    CHECK(halo_config_new(rank, world, &config) == HALO_OK);
    CHECK(halo_config_set_rendezvous(config, rendezvous) == HALO_OK);
    CHECK(halo_config_set_timeout(config, 20) == HALO_OK);
    CHECK(halo_config_set_slots(config, 4, 16384) == HALO_OK);
    return config;
}

/* argv: rank, world, rendezvous */
static inline halo_communicator *connect_as(char **argv)
{
    halo_config *config = configure((uint32_t)atoi(argv[1]), (uint32_t)atoi(argv[2]), argv[3]);
    halo_communicator *communicator = NULL;
    CHECK(halo_communicator_connect(config, &communicator) == HALO_OK);
    halo_config_free(config);
    return communicator;
}

#endif
