/* halo: collectives between a few machines, over RDMA, TCP and shared memory. docs/c-api.md shows how to use it.
 *
 * Every function answers with a halo_status: HALO_OK, or the digits of an error's stable code; halo_error_message()
 * and its neighbours say more. What a function creates, the function named beside it destroys. A handle is used by one
 * thread at a time; different handles are independent. */

#ifndef HALO_H
#define HALO_H

/* Written by cbindgen from ffi/src/c_api; change that and run `make header`. */

#include <stddef.h>
#include <stdint.h>

/**
 * The callback did what was asked.
 */
#define HALO_STORE_OK 0

/**
 * `get`: nobody has written the key yet.
 */
#define HALO_STORE_ABSENT 1

/**
 * `set`: the key has a value already, which stays.
 */
#define HALO_STORE_TAKEN 2

/**
 * The color of a rank that gets no communicator from `halo_communicator_split`.
 */
#define HALO_NO_COLOR UINT32_MAX

/**
 * A group of ranks that run collectives together. Every rank issues the same operations in the same order, from one
 * thread at a time. Destroyed by `halo_communicator_free`.
 */
typedef struct halo_communicator halo_communicator;

/**
 * Everything one rank brings to `halo_communicator_connect`. Destroyed by `halo_config_free`.
 */
typedef struct halo_config halo_config;

/**
 * Operations under way, done in the order in which they were started. They move on in every call with the queue, and
 * only there: no thread works behind the caller's back. While a queue is open, only it can use its communicator.
 * Destroyed by `halo_queue_free`, which completes what is left.
 *
 * A queue is used by one thread at a time.
 */
typedef struct halo_queue halo_queue;

/**
 * What a call answers: 0 when it did what was asked, else the digits of the error's stable code, so that
 * `HALO-E0219` is 219. docs/errors.md explains every code; the constants below are those a program may want to tell
 * apart.
 */
typedef int32_t halo_status;

/**
 * A key-value store that all ranks of a communicator share, such as the one a job launcher already has. Both
 * callbacks are called by the thread that connects, before `halo_communicator_connect_with_store` returns. Keys are
 * text that ends with zero; they are the same for every communicator, so the callbacks add a prefix where
 * communicators share a store. Any other result than those above is a failure of the store.
 */
typedef struct {
    /**
     * Given to both callbacks as it is.
     */
    void *context;
    /**
     * Leaves `length` bytes under `key`, for good: `HALO_STORE_OK`, `HALO_STORE_TAKEN`, or a failure.
     */
    int (*set)(void *context, const char *key, const uint8_t *value, size_t length);
    /**
     * Copies the value of `key` into `value` if it has no more than `capacity` bytes, and tells its length in
     * `*length` in any case: `HALO_STORE_OK`, `HALO_STORE_ABSENT`, or a failure. It does not wait; it is called again
     * until the deadline passes.
     */
    int (*get)(void *context, const char *key, uint8_t *value, size_t capacity, size_t *length);
} halo_store;

/**
 * What carries payloads to and from one peer. The strings belong to the communicator and live as long as it.
 */
typedef struct {
    /**
     * The peer's rank.
     */
    uint32_t peer;
    /**
     * Its host.
     */
    const char *host;
    /**
     * `shm`, `rdma` or `tcp`.
     */
    const char *transport;
    /**
     * Why this transport.
     */
    const char *reason;
} halo_link;

/**
 * An element type: one of the `HALO_DTYPE_...` constants.
 */
typedef uint32_t halo_dtype;

/**
 * A reduction: one of the `HALO_OP_...` constants.
 */
typedef uint32_t halo_op;

/**
 * A kind of operation: one of the `HALO_ALL_REDUCE` ... `HALO_BARRIER` constants.
 */
typedef uint32_t halo_kind;

/**
 * One operation with its buffers, for `halo_group` and `halo_queue_start`. What an operation does not have is not
 * looked at.
 */
typedef struct {
    /**
     * Which operation.
     */
    halo_kind kind;
    /**
     * What the elements are.
     */
    halo_dtype dtype;
    /**
     * How they are combined.
     */
    halo_op op;
    /**
     * The root, or the other rank of a send or receive.
     */
    uint32_t peer;
    /**
     * Elements of one rank: what it contributes or gets.
     */
    size_t count;
    /**
     * What is read.
     */
    const void *input;
    /**
     * What is written.
     */
    void *output;
} halo_request;

/**
 * The call did what was asked.
 */
#define HALO_OK 0

/**
 * A peer's process or host is gone. The communicator answers every later call with the same error.
 */
#define HALO_ERROR_PEER_LOST 219

/**
 * A peer closed its communicator while this rank still waited for it.
 */
#define HALO_ERROR_PEER_LEFT 220

/**
 * Another rank gave up and said why.
 */
#define HALO_ERROR_STOPPED_BY_PEER 221

/**
 * The communicator was closed before.
 */
#define HALO_ERROR_CLOSED 225

/**
 * The ranks are in different operations, or in the same one with other counts or types.
 */
#define HALO_ERROR_MISMATCH 301

/**
 * The deadline passed.
 */
#define HALO_ERROR_TIMEOUT 302

/**
 * A buffer or count does not fit the operation.
 */
#define HALO_ERROR_BUFFER_SIZE 303

/**
 * A rank that does not exist, or this one where another is needed.
 */
#define HALO_ERROR_BAD_RANK 305

/**
 * An argument is NULL that must not be.
 */
#define HALO_ERROR_NULL 510

/**
 * A bug in halo was caught at the boundary.
 */
#define HALO_ERROR_PANIC 511

/**
 * A constant that does not exist, such as an element type.
 */
#define HALO_ERROR_UNKNOWN_CONSTANT 512

/**
 * Input and output overlap, but are not the same.
 */
#define HALO_ERROR_OVERLAP 513

/**
 * Two threads are in one communicator at once.
 */
#define HALO_ERROR_BUSY 514

/**
 * A count of elements that no buffer can have.
 */
#define HALO_ERROR_TOO_LARGE 515

/**
 * Text that is not UTF-8.
 */
#define HALO_ERROR_NOT_TEXT 516

/**
 * A queue of the communicator is open, and only it can use the communicator.
 */
#define HALO_ERROR_QUEUE_OPEN 517

/**
 * A ticket that the queue has not given.
 */
#define HALO_ERROR_UNKNOWN_TICKET 518

/**
 * A registration that this communicator does not have, or has no more.
 */
#define HALO_ERROR_UNKNOWN_REGISTRATION 519

/**
 * Memory that this communicator has not allocated, or that was given back.
 */
#define HALO_ERROR_UNKNOWN_ALLOCATION 520

/**
 * IEEE 754 binary64.
 */
#define HALO_DTYPE_F64 1

/**
 * IEEE 754 binary32.
 */
#define HALO_DTYPE_F32 2

/**
 * IEEE 754 binary16.
 */
#define HALO_DTYPE_F16 3

/**
 * bfloat16: the upper half of a binary32.
 */
#define HALO_DTYPE_BF16 4

/**
 * OCP 8-bit float E4M3: no infinity; what is larger than 448 becomes 448.
 */
#define HALO_DTYPE_F8E4M3 5

/**
 * OCP 8-bit float E5M2.
 */
#define HALO_DTYPE_F8E5M2 6

/**
 * E4M3 with bias 8, one zero and one NaN (AMD's CDNA 3); what is larger than 240 becomes NaN.
 */
#define HALO_DTYPE_F8E4M3FNUZ 7

/**
 * E5M2 with bias 16, one zero and one NaN (AMD's CDNA 3); what is larger than 57344 becomes NaN.
 */
#define HALO_DTYPE_F8E5M2FNUZ 8

/**
 * Signed, 8 bits.
 */
#define HALO_DTYPE_I8 9

/**
 * Signed, 16 bits.
 */
#define HALO_DTYPE_I16 10

/**
 * Signed, 32 bits.
 */
#define HALO_DTYPE_I32 11

/**
 * Signed, 64 bits.
 */
#define HALO_DTYPE_I64 12

/**
 * Unsigned, 8 bits.
 */
#define HALO_DTYPE_U8 13

/**
 * Unsigned, 16 bits.
 */
#define HALO_DTYPE_U16 14

/**
 * Unsigned, 32 bits.
 */
#define HALO_DTYPE_U32 15

/**
 * Unsigned, 64 bits.
 */
#define HALO_DTYPE_U64 16

/**
 * A byte; any but zero is true. Results are 0 or 1.
 */
#define HALO_DTYPE_BOOL 17

/**
 * The sum. Floats are computed in f32 (f64 in itself) in rank order and rounded once, so that every rank gets the
 * same bits; integers wrap; of truth values it is "or".
 */
#define HALO_OP_SUM 1

/**
 * The product; of truth values "and".
 */
#define HALO_OP_PROD 2

/**
 * The largest; NaN if any is NaN.
 */
#define HALO_OP_MAX 3

/**
 * The smallest; NaN if any is NaN.
 */
#define HALO_OP_MIN 4

/**
 * The sum divided by the number of ranks, before the rounding; integers towards zero. Not of truth values.
 */
#define HALO_OP_AVG 5

/**
 * As `halo_all_reduce`.
 */
#define HALO_ALL_REDUCE 1

/**
 * As `halo_reduce`; `peer` is the root.
 */
#define HALO_REDUCE 2

/**
 * As `halo_all_gather`.
 */
#define HALO_ALL_GATHER 3

/**
 * As `halo_reduce_scatter`.
 */
#define HALO_REDUCE_SCATTER 4

/**
 * As `halo_broadcast`; the buffer is `output`, `peer` is the root.
 */
#define HALO_BROADCAST 5

/**
 * As `halo_gather`; `peer` is the root.
 */
#define HALO_GATHER 6

/**
 * As `halo_scatter`; `peer` is the root.
 */
#define HALO_SCATTER 7

/**
 * As `halo_all_to_all`.
 */
#define HALO_ALL_TO_ALL 8

/**
 * As `halo_send`; the data is `input`, `peer` receives it.
 */
#define HALO_SEND 9

/**
 * As `halo_recv`; the data goes to `output`, `peer` sends it.
 */
#define HALO_RECV 10

/**
 * As `halo_barrier`; nothing else is looked at.
 */
#define HALO_BARRIER 11

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of this library, such as `0.1.0`; a string that lives as long as the program.
 */
const char *halo_version(void);

/**
 * The code of this thread's last failed call, such as `HALO-E0219`; empty when none has failed. The string is valid
 * until the next call of this thread fails.
 */
const char *halo_error_code(void);

/**
 * What went wrong in this thread's last failed call, and where: which call, peer, device, file or value. Valid as
 * long as `halo_error_code`.
 */
const char *halo_error_message(void);

/**
 * What to do about it. Valid as long as `halo_error_code`.
 */
const char *halo_error_help(void);

/**
 * The rank that the last error of this thread is about (lost, left, or in another operation), or -1.
 */
int32_t halo_error_peer(void);

/**
 * A configuration for rank `rank` of `world` ranks with every default and no look at the environment.
 *
 * `*config` is set on success only, and destroyed by `halo_config_free`.
 *
 * The call relies on:
 * `config` is NULL or points to memory for a pointer.
 */
halo_status halo_config_new(uint32_t rank, uint32_t world, halo_config **config);

/**
 * `halo_config_new` with every `HALO_*` variable of the environment applied (docs/environment.md). A variable that
 * cannot be read is an error. What is set afterwards wins.
 *
 * The call relies on:
 * `config` is NULL or points to memory for a pointer.
 */
halo_status halo_config_from_environment(uint32_t rank,
                                         uint32_t world,
                                         halo_config **config);

/**
 * Destroys a configuration. NULL is allowed and does nothing.
 *
 * The call relies on:
 * `config` is NULL or came from a function that made it, and is not used again.
 */
void halo_config_free(halo_config *config);

/**
 * A name for logs, statistics and error messages. Default `halo`.
 *
 * The call relies on:
 * `config` is NULL or a configuration that no other thread uses; `value` is NULL or text that ends with zero.
 */
halo_status halo_config_set_name(halo_config *config, const char *value);

/**
 * Where rank 0 listens for the others, as `host:port`. Default `127.0.0.1:29510`.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_rendezvous(halo_config *config, const char *value);

/**
 * How payloads travel: `auto`, `rdma`, `tcp` or `shm`. A named transport that cannot be had is an error. Default
 * `auto`.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_transport(halo_config *config,
                                      const char *value);

/**
 * The secret that ranks prove to each other: `length` bytes. It is copied. Without one (`length` 0) the rendezvous
 * must be a loopback address.
 *
 * The call relies on:
 * `config` is NULL or a configuration that no other thread uses; `key` is NULL or points to `length` bytes.
 */
halo_status halo_config_set_key(halo_config *config,
                                const void *key,
                                size_t length);

/**
 * The deadline of every wait, in seconds: connecting, and each collective. Default 30.
 *
 * The call relies on:
 * `config` is NULL or a configuration that no other thread uses.
 */
halo_status halo_config_set_timeout(halo_config *config, double seconds);

/**
 * Seconds of silence on a control connection after which a peer counts as lost. Default 3.
 *
 * The call relies on:
 * As `halo_config_set_timeout`.
 */
halo_status halo_config_set_peer_timeout(halo_config *config, double seconds);

/**
 * The network interface that carries the data, such as `enp1s0`. Default: the one that routes to the rendezvous.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_interface(halo_config *config,
                                      const char *value);

/**
 * This rank's own data address, when the interface has several. Default: the interface's.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_address(halo_config *config, const char *value);

/**
 * The RDMA device, `name` or `name:port`, or several in a comma list. Default: the one whose GID matches the data
 * address, and every other one in a network that the peer also has.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_rdma_device(halo_config *config,
                                        const char *value);

/**
 * The memory a rank keeps for each peer: `slots` (2 to 4096) of `slot_bytes` (a multiple of 64) each. Must be the
 * same on every rank. Default 8 slots of 131072 bytes.
 *
 * The call relies on:
 * As `halo_config_set_timeout`.
 */
halo_status halo_config_set_slots(halo_config *config,
                                  size_t slots,
                                  size_t slot_bytes);

/**
 * How reductions of 16-bit and 8-bit floats are rounded: `once`, at the end, or after `each` step. Must be the same on
 * every rank. Default `once`.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_rounding(halo_config *config,
                                     const char *value);

/**
 * A file with a plan table that `halo-perf tune` has written; the same on every rank. Default: a built-in table.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_plans(halo_config *config,
                                  const char *value);

/**
 * A file that is kept up to date with this rank's statistics as JSON; `{name}`, `{rank}` and `{pid}` are replaced.
 * Default: none.
 *
 * The call relies on:
 * As `halo_config_set_name`.
 */
halo_status halo_config_set_statistics_file(halo_config *config,
                                            const char *value);

/**
 * Meets the other ranks at the configuration's rendezvous, where rank 0 listens. It returns when all have met, or with
 * an error within the configured timeout.
 *
 * `config` stays the caller's. `*communicator` is set on success only, and destroyed by `halo_communicator_free`.
 *
 * The call relies on:
 * `config` is NULL or a configuration that no other thread changes; `communicator` is NULL or points to memory for a
 * pointer.
 */
halo_status halo_communicator_connect(const halo_config *config,
                                      halo_communicator **communicator);

/**
 * As `halo_communicator_connect`, but the ranks meet through a store that the caller serves; the configuration's
 * rendezvous is not used.
 *
 * The call relies on:
 * As `halo_communicator_connect`; `store` is NULL or points to a store whose callbacks keep to its documentation.
 */
halo_status halo_communicator_connect_with_store(const halo_config *config,
                                                 const halo_store *store,
                                                 halo_communicator **communicator);

/**
 * Lets the last bytes leave and says good-bye to the peers. Later calls with this communicator answer
 * `HALO_ERROR_CLOSED`; the handle is still to be freed. It tells the failure that had ended the communicator before,
 * if there was one; a second close does nothing.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed.
 */
halo_status halo_communicator_close(halo_communicator *communicator);

/**
 * Destroys a communicator, closing it first if it is open, and gives back its memory. If a queue of it is open, that
 * happens when the queue is freed. NULL is allowed and does nothing.
 *
 * The call relies on:
 * `communicator` is NULL or came from a function that made it, no thread is in a call with it, and it is not used
 * again.
 */
void halo_communicator_free(halo_communicator *communicator);

/**
 * This rank.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `rank` is NULL or points to memory for a number.
 */
halo_status halo_communicator_rank(const halo_communicator *communicator,
                                   uint32_t *rank);

/**
 * The number of ranks.
 *
 * The call relies on:
 * As `halo_communicator_rank`.
 */
halo_status halo_communicator_world(const halo_communicator *communicator, uint32_t *world);

/**
 * What carries payloads to and from `peer`, and why.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `link` is NULL or points to memory for a link.
 */
halo_status halo_communicator_link(const halo_communicator *communicator, uint32_t peer, halo_link *link);

/**
 * Divides the ranks: those that give the same `color` form a communicator of their own, ordered by `key` and, where
 * keys are equal, by rank. Every rank calls it; one that gives `HALO_NO_COLOR` gets NULL. Both communicators live on,
 * independently of each other.
 *
 * `*part` is set on success only, and destroyed by `halo_communicator_free`.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `part` is NULL or points to memory for a pointer.
 */
halo_status halo_communicator_split(halo_communicator *communicator,
                                    uint32_t color,
                                    int64_t key,
                                    halo_communicator **part);

/**
 * What this communicator has done so far, as JSON: operations with counts, bytes and latencies, links with bytes.
 *
 * `*json` is set on success only, and destroyed by `halo_string_free`.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `json` is NULL or points to memory for a pointer.
 */
halo_status halo_communicator_statistics(halo_communicator *communicator,
                                         char **json);

/**
 * Destroys a string that a function of this library made. NULL is allowed and does nothing.
 *
 * The call relies on:
 * `string` is NULL or came from a function that says so, and is not used again.
 */
void halo_string_free(char *string);

/**
 * Registers `bytes` bytes from `start` with the NIC, for as long as it takes. Over rdma, long payloads that lie there
 * are then written from where they lie, and peers write their parts of gathered and broadcast outputs straight there.
 * Each rank registers what it likes, when it likes. The same memory again, or part of it, costs a look-up. Over shm and
 * tcp this is accepted and does nothing.
 *
 * `*registration` is set on success only, to a number for `halo_communicator_deregister`; freeing the communicator gives
 * back what is left. An error (no memory at all, the memlock limit, a NIC that refuses) harms nothing: the communicator
 * goes on working without it.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `registration` is NULL or points to memory for a number.
 * The memory is readable and writable and stays mapped until it is deregistered; what an operation was given of it is
 * left alone until that operation has ended. After a failed operation its contents are undefined.
 */
halo_status halo_communicator_register(halo_communicator *communicator,
                                       void *start,
                                       size_t bytes,
                                       uint64_t *registration);

/**
 * Gives a registration back, before its memory is freed. An operation of a queue that uses it keeps it until it is done.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed.
 */
halo_status halo_communicator_deregister(halo_communicator *communicator,
                                         uint64_t registration);

/**
 * Allocates `bytes` zeroed bytes on every rank, for inputs and outputs: ranks of one host read an input there where it
 * lies, and over rdma it is registered. Every rank calls it, with the same size, as it calls an operation.
 *
 * `*memory` is set on success only. It is given back by `halo_communicator_deallocate`, or with the communicator by
 * `halo_communicator_free`; each rank gives its own back when it likes.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `memory` is NULL or points to memory for a pointer.
 */
halo_status halo_communicator_allocate(halo_communicator *communicator,
                                       size_t bytes,
                                       void **memory);

/**
 * Gives back what `halo_communicator_allocate` has allocated. NULL is allowed and does nothing.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed. No operation uses the memory any more, not even one of a
 * queue, and it is not used again.
 */
halo_status halo_communicator_deallocate(halo_communicator *communicator,
                                         void *memory);

/**
 * Every rank's `output` becomes the reduction of all ranks' inputs: `count` elements each. In place when `input` and
 * `output` are the same pointer.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `input` and `output` point to `count` elements that
 * nobody else uses during the call.
 */
halo_status halo_all_reduce(halo_communicator *communicator,
                            const void *input,
                            void *output,
                            size_t count,
                            halo_dtype dtype,
                            halo_op op);

/**
 * Rank `root`'s `output` becomes the reduction of all ranks' inputs: `count` elements each. On other ranks `output` is
 * not used and may be NULL; on the root it may be the same pointer as `input`.
 *
 * The call relies on:
 * As `halo_all_reduce`.
 */
halo_status halo_reduce(halo_communicator *communicator,
                        const void *input,
                        void *output,
                        size_t count,
                        halo_dtype dtype,
                        halo_op op,
                        uint32_t root);

/**
 * Every rank's `output` becomes all ranks' inputs in rank order: `count` elements of each, `world` times as many in
 * all. In place when `input` is this rank's own block of `output`.
 *
 * The call relies on:
 * As `halo_all_reduce`, with these lengths.
 */
halo_status halo_all_gather(halo_communicator *communicator,
                            const void *input,
                            void *output,
                            size_t count,
                            halo_dtype dtype);

/**
 * `output` becomes this rank's block of the reduction of all ranks' inputs: `count` elements of `world` times as many.
 * In place when `output` is this rank's own block of `input`.
 *
 * The call relies on:
 * As `halo_all_reduce`, with these lengths.
 */
halo_status halo_reduce_scatter(halo_communicator *communicator,
                                const void *input,
                                void *output,
                                size_t count,
                                halo_dtype dtype,
                                halo_op op);

/**
 * Every rank's `buffer` of `count` elements becomes that of rank `root`.
 *
 * The call relies on:
 * As `halo_all_reduce`, with this buffer.
 */
halo_status halo_broadcast(halo_communicator *communicator,
                           void *buffer,
                           size_t count,
                           halo_dtype dtype,
                           uint32_t root);

/**
 * Rank `root`'s `output` becomes all ranks' inputs in rank order: `count` elements of each, `world` times as many in
 * all. On other ranks `output` is not used and may be NULL; on the root `input` may be its own block of `output`.
 *
 * The call relies on:
 * As `halo_all_reduce`, with these lengths.
 */
halo_status halo_gather(halo_communicator *communicator,
                        const void *input,
                        void *output,
                        size_t count,
                        halo_dtype dtype,
                        uint32_t root);

/**
 * `output` becomes this rank's block of rank `root`'s input: `count` elements of `world` times as many. On other ranks
 * `input` is not used and may be NULL.
 *
 * The call relies on:
 * As `halo_all_reduce`, with these lengths.
 */
halo_status halo_scatter(halo_communicator *communicator,
                         const void *input,
                         void *output,
                         size_t count,
                         halo_dtype dtype,
                         uint32_t root);

/**
 * Block i of `output` becomes rank i's block for this rank: `count` elements for and from each rank, `world` times as
 * many in both buffers.
 *
 * The call relies on:
 * As `halo_all_reduce`, with these lengths.
 */
halo_status halo_all_to_all(halo_communicator *communicator,
                            const void *input,
                            void *output,
                            size_t count,
                            halo_dtype dtype);

/**
 * Sends `count` elements to rank `to`, which calls `halo_recv` with the same count and type.
 *
 * The call relies on:
 * As `halo_all_reduce`, with this buffer.
 */
halo_status halo_send(halo_communicator *communicator,
                      const void *data,
                      size_t count,
                      halo_dtype dtype,
                      uint32_t to);

/**
 * Receives `count` elements that rank `from` sends with `halo_send`.
 *
 * The call relies on:
 * As `halo_all_reduce`, with this buffer.
 */
halo_status halo_recv(halo_communicator *communicator,
                      void *data,
                      size_t count,
                      halo_dtype dtype,
                      uint32_t from);

/**
 * Returns when every rank has called it.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed.
 */
halo_status halo_barrier(halo_communicator *communicator);

/**
 * Does `length` operations, as one where that is faster: small all-reduces of one type and reduction travel together,
 * and sends and receives run all at once, so that their order cannot make ranks wait for each other. Every rank passes
 * the same collectives in the same order. No operation may write what another one reads or writes. Arguments are
 * checked before anything is done.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `requests` points to `length` requests whose buffers
 * nobody else uses during the call.
 */
halo_status halo_group(halo_communicator *communicator,
                       const halo_request *requests,
                       size_t length);

/**
 * Opens a queue. Until it is freed, other calls with this communicator answer `HALO_ERROR_QUEUE_OPEN`.
 *
 * `*queue` is set on success only, and destroyed by `halo_queue_free`.
 *
 * The call relies on:
 * `communicator` is NULL or a communicator that was not freed; `queue` is NULL or points to memory for a pointer.
 */
halo_status halo_queue_new(halo_communicator *communicator,
                           halo_queue **queue);

/**
 * Starts an operation and gives its ticket. Its buffers are lent until it is done: until then nobody reads what it
 * writes, or writes what it reads or writes.
 *
 * The call relies on:
 * `queue` is NULL or a queue that was not freed; `request` is NULL or points to a request whose buffers nobody else
 * uses until it is done, or has failed; `ticket` is NULL or points to memory for a number.
 */
halo_status halo_queue_start(halo_queue *queue,
                             const halo_request *request,
                             uint64_t *ticket);

/**
 * Whether the operation of `ticket` is done: `*done` becomes 1 or 0. Never waits.
 *
 * The call relies on:
 * `queue` is NULL or a queue that was not freed; `done` is NULL or points to memory for a number.
 */
halo_status halo_queue_test(halo_queue *queue, uint64_t ticket, int32_t *done);

/**
 * Returns when the operation of `ticket`, and with it every earlier one, is done.
 *
 * The call relies on:
 * `queue` is NULL or a queue that was not freed.
 */
halo_status halo_queue_wait(halo_queue *queue, uint64_t ticket);

/**
 * Completes what is left, destroys the queue and gives the communicator back to other calls. A failure meanwhile is
 * remembered by the communicator, whose next call answers with it. NULL is allowed and does nothing.
 *
 * The call relies on:
 * `queue` is NULL or came from `halo_queue_new`, no thread is in a call with it, and it is not used again.
 */
void halo_queue_free(halo_queue *queue);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HALO_H */
