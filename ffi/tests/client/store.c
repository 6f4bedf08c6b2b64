/* Two ranks in two threads meet through a store of this program; a store that breaks is an error with its answer. */
#include "check.h"

#include <pthread.h>

struct entry {
    char key[64];
    uint8_t value[8192];
    size_t length;
};

struct table {
    pthread_mutex_t lock;
    struct entry entries[64];
    int used;
};

static struct entry *find(struct table *table, const char *key)
{
    for (int at = 0; at < table->used; at++)
        if (strcmp(table->entries[at].key, key) == 0)
            return &table->entries[at];
    return NULL;
}

static int set(void *context, const char *key, const uint8_t *value, size_t length)
{
    struct table *table = context;
    int answer = HALO_STORE_TAKEN;
    pthread_mutex_lock(&table->lock);
    if (!find(table, key)) {
        CHECK(table->used < 64 && strlen(key) < 64 && length <= 8192);
        struct entry *entry = &table->entries[table->used++];
        strcpy(entry->key, key);
        memcpy(entry->value, value, length);
        entry->length = length;
        answer = HALO_STORE_OK;
    }
    pthread_mutex_unlock(&table->lock);
    return answer;
}

static int get(void *context, const char *key, uint8_t *value, size_t capacity, size_t *length)
{
    struct table *table = context;
    int answer = HALO_STORE_ABSENT;
    pthread_mutex_lock(&table->lock);
    struct entry *entry = find(table, key);
    if (entry) {
        *length = entry->length;
        if (entry->length <= capacity)
            memcpy(value, entry->value, entry->length);
        answer = HALO_STORE_OK;
    }
    pthread_mutex_unlock(&table->lock);
    return answer;
}

static struct table shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *rank(void *number)
{
    halo_config *config = configure((uint32_t)(size_t)number, 2, "not used");
    halo_store store = {&shared, set, get};
    halo_communicator *c = NULL;
    CHECK(halo_communicator_connect_with_store(config, &store, &c) == HALO_OK);
    halo_config_free(config);
    uint8_t byte = (uint8_t)(size_t)number, bytes[2] = {9, 9};
    CHECK(halo_all_gather(c, &byte, bytes, 1, HALO_DTYPE_U8) == HALO_OK && bytes[0] == 0 && bytes[1] == 1);
    CHECK(halo_communicator_close(c) == HALO_OK);
    halo_communicator_free(c);
    return NULL;
}

static int broken_set(void *context, const char *key, const uint8_t *value, size_t length)
{
    (void)context, (void)key, (void)value, (void)length;
    return -7;
}

int main(void)
{
    pthread_t threads[2];
    for (size_t number = 0; number < 2; number++)
        CHECK(pthread_create(&threads[number], NULL, rank, (void *)number) == 0);
    for (int number = 0; number < 2; number++)
        CHECK(pthread_join(threads[number], NULL) == 0);

    halo_config *config = configure(0, 2, "not used");
    halo_communicator *c = NULL;
    halo_store broken = {&shared, broken_set, get}, incomplete = {&shared, NULL, get};
    CHECK_ERROR(halo_communicator_connect_with_store(config, NULL, &c), HALO_ERROR_NULL, "store is NULL");
    CHECK_ERROR(halo_communicator_connect_with_store(config, &incomplete, &c), HALO_ERROR_NULL, "store->set is NULL");
    CHECK_ERROR(halo_communicator_connect_with_store(config, &broken, &c), 223, "answered -7");
    CHECK(c == NULL);
    halo_config_free(config);
    return 0;
}
