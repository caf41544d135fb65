/* core/ring_uring_private.h - the kernel's ring from inside: for core/ring_uring*.c, ring_probe.c,
 * thread.c.
 *
 * An op is in one of four stages while it is in flight: with the kernel; waiting, because the
 * submission queue had no room and could not be flushed; ready, with its result, for the next
 * ring_poll() to hand out; or a job, with the workers. All that an op needs to be submitted is kept
 * in the op itself, so one that waits, or a send that has to go on, is submitted by the same
 * function as a fresh one.
 */
#ifndef KILAT_CORE_RING_URING_PRIVATE_H
#define KILAT_CORE_RING_URING_PRIVATE_H

#include "core/ring.h"
#include "core/ring_abi.h"
#include <stdatomic.h>

#define URING_BUFFER_GROUP 0
/* Completions handed out in one ring_poll(): a flood on some sockets delays timers by this much at
 * most. */
#define URING_BATCH_MAX 256
/* Cancellations whose answers have not been seen. Each brings two completions (its own, its op's),
 * so ten thousand sessions that close at once still fit in the completion queue. */
#define URING_CANCELS_MAX 512

enum uring_kind {
    URING_ACCEPT,
    URING_CONNECT,
    URING_RECEIVE,
    URING_SEND,
    URING_READ,
    URING_WRITE,
    URING_WRITE_DURABLE,
    URING_SYNC,
    URING_KINDS_KERNEL, /* those before are submitted to the kernel */
    URING_SHUTDOWN = URING_KINDS_KERNEL,
    URING_JOB,
};

enum uring_stage { URING_WITH_KERNEL, URING_WAITING, URING_READY, URING_WITH_WORKER };

/* What user_data may be, beside the address of an op (which is a multiple of eight). */
#define URING_DATA_WAKE 1u
#define URING_DATA_CANCEL 2u

enum uring_wake { URING_AWAKE, URING_ASLEEP, URING_NOTIFIED };

struct uring_buffers {
    struct io_uring_buf_ring *slots; /* shared with the kernel */
    struct ring_buffer *buffers;
    uint8_t *bytes;
    uint32_t count;
    uint32_t size_bytes;
    uint32_t free_count;
    uint16_t tail;
};

struct ring {
    struct io_uring uring;
    struct ring_features features;
    struct uring_buffers buffers;
    struct worker_pool *workers;
    struct list_node waiting; /* ops not submitted yet */
    struct list_node ready;   /* ops with their result, and jobs to be run inline */
    struct list_node cancels; /* ops with the kernel that are to be cancelled */
    uint32_t cancels_in_flight;
    size_t in_flight;
    uint64_t syscalls;
    uint32_t enter_flags;
    int wake_fd; /* an eventfd, with one read on it always in flight */
    bool wake_armed;
    uint64_t wake_value;
    _Atomic uint32_t wake_state;
    _Atomic uint64_t wakes;              /* system calls of others, to wake this ring */
    _Atomic(struct ring_op *) jobs_done; /* a stack, newest first, linked by node.next */
    _Atomic uint32_t visitors;           /* workers that still touch this ring */
};

/* ---- ring_uring.c ---------------------------------------------------------------------------- */

/* Begins `op`, whose fields say what it is. */
void uring_start(struct ring *ring, struct ring_op *op, enum uring_kind kind);
/* Begins an op that has its result already; done() still runs in the next ring_poll(). */
void uring_start_ready(struct ring *ring, struct ring_op *op, enum uring_kind kind, int32_t result);
/* A worker hands back `op`, whose result is set. Shard: any thread. */
void uring_job_finished(struct ring *ring, struct ring_op *op);

/* ---- ring_uring_net.c, ring_uring_file.c ----------------------------------------------------- */

void uring_prepare_net(struct io_uring_sqe *sqe, struct ring_op *op);
void uring_prepare_file(struct io_uring_sqe *sqe, struct ring_op *op);
/* Notes that `count` bytes have gone; true when more remain to be sent. */
bool uring_send_continues(struct ring_op *op, size_t count);

/* ---- ring_uring_buffers.c -------------------------------------------------------------------- */

int uring_buffers_create(struct ring *ring, uint32_t count, uint32_t size_bytes);
void uring_buffers_destroy(struct ring *ring);
/* The buffer that a completion names, which holds `size` bytes: one reference, the caller's. */
struct ring_buffer *uring_buffer_take(struct ring *ring, uint16_t id, size_t size);

/* ---- ring_probe.c ---------------------------------------------------------------------------- */

/* Sets ring->features from what the set-up has told and from what can be asked. */
void uring_describe(struct ring *ring, const struct io_uring_params *params);

/* ---- thread.c -------------------------------------------------------------------------------- */

/* Queues `op` (a job of op->job_kind). Never blocks. Shard: any. */
void worker_pool_push(struct worker_pool *pool, struct ring_op *op);

#endif
