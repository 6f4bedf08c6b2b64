/* A core as small as it can be, in C, with its own idea of the interface: version 8 and version 12. It connects with
 * itself, moves messages and checks them. usage: host LIBRARY */
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Result;
typedef void (*Logger)(int level, unsigned long flags, const char *file, int line, const char *format, ...);

typedef struct {
  char *name, *pciPath;
  uint64_t guid;
  int ptrSupport, regIsGlobal, speed, port;
  float latency;
  int maxComms, maxRecvs, netDeviceType, netDeviceVersion;
} Properties8;

typedef struct { int ndevs, devs[8]; } VirtualDevice;

typedef struct {
  char *name, *pciPath;
  uint64_t guid;
  int ptrSupport, regIsGlobal, forceFlush, speed, port;
  float latency;
  int maxComms, maxRecvs, netDeviceType, netDeviceVersion;
  VirtualDevice vProps;
  size_t maxP2pBytes, maxCollBytes;
  int maxMultiRequestSize;
  int16_t railId, planeId;
} Properties12;

typedef struct {
  const char *name;
  Result (*init)(Logger);
  Result (*devices)(int *);
  Result (*getProperties)(int, Properties8 *);
  Result (*listen)(int, void *, void **);
  Result (*connect)(int, void *, void **, void **);
  Result (*accept)(void *, void **, void **);
  Result (*regMr)(void *, void *, size_t, int, void **);
  Result (*regMrDmaBuf)(void *, void *, size_t, int, uint64_t, int, void **);
  Result (*deregMr)(void *, void *);
  Result (*isend)(void *, void *, int, int, void *, void **);
  Result (*irecv)(void *, int, void **, int *, int *, void **, void **);
  Result (*iflush)(void *, int, void **, int *, void **, void **);
  Result (*test)(void *, int *, int *);
  Result (*closeSend)(void *);
  Result (*closeRecv)(void *);
  Result (*closeListen)(void *);
  Result (*getDeviceMr)(void *, void *, void **);
  Result (*irecvConsumed)(void *, int, void *);
} Net8;

typedef struct {
  const char *name;
  Result (*init)(void **, uint64_t, void *, Logger, void *);
  Result (*devices)(int *);
  Result (*getProperties)(int, Properties12 *);
  Result (*listen)(void *, int, void *, void **);
  Result (*connect)(void *, int, void *, void **, void **);
  Result (*accept)(void *, void **, void **);
  Result (*regMr)(void *, void *, size_t, int, void **);
  Result (*regMrDmaBuf)(void *, void *, size_t, int, uint64_t, int, void **);
  Result (*deregMr)(void *, void *);
  Result (*isend)(void *, void *, size_t, int, void *, void *, void **);
  Result (*irecv)(void *, int, void **, size_t *, int *, void **, void **, void **);
  Result (*iflush)(void *, int, void **, int *, void **, void **);
  Result (*test)(void *, int *, int *);
  Result (*closeSend)(void *);
  Result (*closeRecv)(void *);
  Result (*closeListen)(void *);
  Result (*getDeviceMr)(void *, void *, void **);
  Result (*irecvConsumed)(void *, int, void *);
  Result (*makeVDevice)(int *, VirtualDevice *);
  Result (*finalize)(void *);
  Result (*setNetAttr)(void *, void *);
} Net12;

static int logged;

static void logger(int level, unsigned long flags, const char *file, int line, const char *format, ...) {
  (void)flags, (void)file, (void)line;
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, level == 2 ? "WARN " : "INFO ");
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  logged++;
}

#define CHECK(call)                                                  \
  do {                                                               \
    Result result_ = (call);                                         \
    if (result_ != 0) {                                              \
      fprintf(stderr, "%s:%d: %d\n", #call, __LINE__, result_);      \
      exit(1);                                                       \
    }                                                                \
  } while (0)

#define REQUIRE(what)                                                \
  do {                                                               \
    if (!(what)) {                                                   \
      fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what);     \
      exit(1);                                                       \
    }                                                                \
  } while (0)

static void patience(time_t since) {
  if (time(NULL) - since > 60) {
    fprintf(stderr, "nothing came within a minute\n");
    exit(1);
  }
}

enum { BYTES = 300000, ROUNDS = 20 };
static unsigned char source[BYTES], target[BYTES];

/* Everything but init, listen, connect, isend and irecv is the same in both versions. */
#define DRIVE(net, LISTEN, CONNECT, ISEND, IRECV)                                          \
  do {                                                                                     \
    char handle[128];                                                                      \
    void *listener = NULL, *sending = NULL, *receiving = NULL, *from = NULL, *to = NULL;   \
    CHECK(LISTEN);                                                                         \
    time_t began = time(NULL);                                                             \
    while (sending == NULL || receiving == NULL) {                                         \
      if (sending == NULL) CHECK(CONNECT);                                                 \
      if (receiving == NULL) CHECK((net)->accept(listener, &receiving, NULL));             \
      patience(began);                                                                     \
    }                                                                                      \
    CHECK((net)->closeListen(listener));                                                   \
    CHECK((net)->regMr(sending, source, sizeof source, 1, &from));                         \
    CHECK((net)->regMr(receiving, target, sizeof target, 1, &to));                         \
    for (int round = 0; round < ROUNDS; round++) {                                         \
      int bytes = round == 0 ? 0 : BYTES / round, room = BYTES, tag = round % 3;           \
      memset(source, round + 1, sizeof source);                                            \
      memset(target, 0, sizeof target);                                                    \
      void *out = NULL, *in = (void *)1, *data = target;                                   \
      int sent = 0, received = 0, sizes[8] = {-1};                                         \
      CHECK(IRECV);                                                                        \
      REQUIRE(in != NULL && in != (void *)1);                                              \
      while (!sent || !received) {                                                         \
        if (out == NULL && !sent) CHECK(ISEND);                                            \
        if (out != NULL && !sent) CHECK((net)->test(out, &sent, NULL));                    \
        if (!received) CHECK((net)->test(in, &received, sizes));                           \
        patience(began);                                                                   \
      }                                                                                    \
      REQUIRE(sizes[0] == bytes);                                                          \
      REQUIRE(memcmp(source, target, bytes) == 0);                                         \
      REQUIRE(bytes == BYTES || target[bytes] == 0);                                       \
    }                                                                                      \
    CHECK((net)->deregMr(sending, from));                                                  \
    CHECK((net)->deregMr(receiving, to));                                                  \
    CHECK((net)->closeSend(sending));                                                      \
    CHECK((net)->closeRecv(receiving));                                                    \
  } while (0)

static void version8(const Net8 *net) {
  int count = 0;
  Properties8 properties;
  CHECK(net->init(logger));
  CHECK(net->devices(&count));
  REQUIRE(count > 0);
  CHECK(net->getProperties(0, &properties));
  REQUIRE(strlen(properties.name) > 0 && properties.speed > 0 && (properties.ptrSupport & 1));
  DRIVE(net, net->listen(0, handle, &listener), net->connect(0, handle, &sending, NULL),
        net->isend(sending, source, bytes, tag, from, &out), net->irecv(receiving, 1, &data, &room, &tag, &to, &in));
  printf("version 8: %s over %s\n", net->name, properties.name);
}

static void version12(const Net12 *net) {
  int count = 0;
  void *context = NULL;
  struct { int trafficClass; } config = {-1};
  Properties12 properties;
  CHECK(net->init(&context, 1, &config, logger, NULL));
  CHECK(net->devices(&count));
  REQUIRE(count > 0);
  CHECK(net->getProperties(0, &properties));
  REQUIRE(properties.maxP2pBytes > 0 && properties.maxCollBytes > 0);
  REQUIRE(properties.railId == -1 && properties.planeId == -1 && properties.vProps.ndevs == 1);
  int made = -1, again = 0;
  REQUIRE(net->makeVDevice(&made, &properties.vProps) == 0 && made == 0);
  VirtualDevice twice = {2, {0, 0}};
  REQUIRE(net->makeVDevice(&made, &twice) == 5 && net->devices(&again) == 0 && again == count);
  size_t large;
  DRIVE(net, net->listen(context, 0, handle, &listener), net->connect(context, 0, handle, &sending, NULL),
        net->isend(sending, source, (size_t)bytes, tag, from, NULL, &out),
        (large = (size_t)room, net->irecv(receiving, 1, &data, &large, &tag, &to, NULL, &in)));
  CHECK(net->finalize(context));
  printf("version 12: %s over %s\n", net->name, properties.name);
}

int main(int count, char **arguments) {
  REQUIRE(count == 2);
  REQUIRE(sizeof(Properties8) == 64 && sizeof(Properties12) == 128 && sizeof(Net8) == 152 && sizeof(Net12) == 176);
  for (int round = 0; round < 2; round++) {
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    const Net8 *old = dlsym(library, "ncclNetPlugin_v8");
    const Net12 *newest = dlsym(library, "ncclNetPlugin_v12");
    REQUIRE(old != NULL && newest != NULL && strcmp(newest->name, "halo") == 0);
    version8(old);
    version12(newest);
    REQUIRE(dlclose(library) == 0);
  }
  REQUIRE(logged > 0);
  return 0;
}
