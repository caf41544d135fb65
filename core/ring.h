/* core/ring.h - the one door to the world of a shard: sockets, files, jobs, wake-ups.
 *
 * Two implementations, chosen when linking: core/ring_uring*.c (the kernel's io_uring) and
 * tests/sim/ (a simulated network, disk and clock from one seed). Nothing of a shard goes around
 * this file, core/file.h (what jobs do with files), core/clock.h (time, randomness) and
 * core/thread.h (threads).
 *
 * Shard:  a ring belongs to the thread that created it; every call is made there, unless it says
 *         `any`.
 * Ops:    a ring_op is embedded in its owner. While `in_flight` the kernel borrows the op and all
 *         memory named in the call. `done` runs on the owning shard from ring_poll(), never inside
 *         the call that started the op, with in_flight already false (unless `more`). From inside
 *         `done` any call may be made, and the op may be started anew or its owner freed.
 * Errors: calls that start an op cannot fail (the submission queue is flushed when it is full);
 *         what goes wrong arrives as `result`, a negative errno. The helpers that return int do
 *         their work at once.
 */
#ifndef KILAT_CORE_RING_H
#define KILAT_CORE_RING_H

#include "core/list.h"
#include "core/netaddr.h"
#include "core/slice.h"
#include <sys/uio.h>

struct ring;
struct ring_op;
struct ring_buffer;
struct worker_pool;

typedef void ring_done_fn(struct ring_op *op);
/* Runs on a worker (in simulation: in the one thread, cut anywhere by a crash). May block; may use
 * core/file.h and core/clock.h; touches nothing a shard may touch meanwhile. Its value becomes
 * result. */
typedef int ring_job_fn(struct ring_op *op);

/* Jobs of one kind run side by side up to the kind's number of threads; the kinds do not wait for
 * each other. */
enum ring_job_kind {
    RING_JOB_FILE, /* directory work, one sync for many files, reading what is not hot */
    RING_JOB_HASH, /* password hashes */
    RING_JOB_KINDS
};

struct ring_op {
    ring_done_fn *done;
    int32_t result; /* bytes moved, a descriptor, 0, or -errno: as the kernel wrote it */
    bool in_flight; /* the kernel borrows this op and its buffers */
    bool more;      /* multishot: this completion is not the last of the op */
    struct ring_buffer
        *buffer; /* receive: what holds the `result` bytes; the callback owns one reference */
    /* private to the implementation: */
    uint8_t kind;
    uint8_t job_kind;
    uint8_t stage;
    bool cancelled;
    int32_t fd;
    uint64_t serial;
    struct ring *ring;
    size_t moved_bytes; /* of a send that takes several steps */
    size_t size_bytes;
    ring_job_fn *job;
    struct iovec vec[2];
    struct msghdr msg;
    struct netaddr address;
    struct list_node node;
};

static inline void ring_op_init(struct ring_op *op, ring_done_fn *done)
{
    *op = (struct ring_op){.done = done};
    list_node_init(&op->node);
}

/* ---- the ring -------------------------------------------------------------------------------- */

struct ring_params {
    uint32_t entries;           /* submission queue; completions get eight times as many. 0: 1024 */
    uint32_t buffer_count;      /* receive buffers, a power of two. 0: 512 */
    uint32_t buffer_size_bytes; /* 0: 8192 */
    struct worker_pool *workers; /* borrowed; NULL: jobs run inline, completing in a later tick */
    uint32_t without_flags;      /* IORING_SETUP_* to do without, as older kernels must (tests) */
};

/* What this kernel offers and how the ring was set up; `kilatctl info` prints it. */
struct ring_features {
    char text[256]; /* one line: flags in use, features found and left */
    uint32_t setup_flags;
    bool min_wait;
    bool incremental_buffers;
    bool no_sqarray;
};

/* Asks, before any thread exists, whether rings can be had; `*ret_text` (static or in `text`) is
 * then a sentence that names the switch and how to turn it on. Returns 0 or -errno. `sysctl_path`
 * is /proc/sys/kernel/io_uring_disabled, but for tests. Shard: boot. */
int ring_probe(const char *sysctl_path, char *text, size_t text_size_bytes);

/* 0 or -errno (-ENOMEM: also for the locked-memory limit, after trying smaller rings). */
int ring_create(const struct ring_params *params, struct ring **ret_ring);
/* Nothing may be in flight. Accepts NULL, clears the pointer. */
void ring_destroy(struct ring **ring);
const struct ring_features *ring_features(const struct ring *ring);

/* Submits all, waits until a completion, a wake or `deadline_ns` (0: does not wait), then runs at
 * most a bounded number of completions; returns how many ran. The heart of a tick. */
size_t ring_poll(struct ring *ring, uint64_t deadline_ns);
/* Its two halves, for a caller that looks at the clock in between: what runs after a long sleep
 * must not reckon from the time before it. */
void ring_wait(struct ring *ring, uint64_t deadline_ns);
size_t ring_run(struct ring *ring);
/* Shard: any. Ends the wait of `ring`'s ring_poll(), now or the next one. */
void ring_wake(struct ring *ring);
/* Operations in flight that would still complete. */
size_t ring_in_flight(const struct ring *ring);
/* System calls of this ring since its creation: entering it, giving jobs to workers, and waking
 * it (whoever did). Those of the helpers that know no ring (ring_close(), ring_peer_address(),
 * ...) are not in it. */
uint64_t ring_syscalls(const struct ring *ring);

/* Asks that `op` end early; it still completes, once, with -ECANCELED or with what came first.
 * Nothing when it is not in flight. */
void ring_cancel(struct ring *ring, struct ring_op *op);

/* ---- receive buffers ------------------------------------------------------------------------- */

/* One provided buffer, filled by one receive. Reference-counted: with the last reference it goes
 * back to the kernel. Whoever keeps a slice of it keeps a reference. Shard: its ring's. One without
 * a ring is memory of malloc() that holds a copy (core/stream.c) and is freed instead. */
struct ring_buffer {
    struct ring *ring;
    uint8_t *data;
    uint32_t capacity;
    uint32_t references;
    uint16_t id; /* private */
};
struct ring_buffer *ring_buffer_ref(struct ring_buffer *buffer);
void ring_buffer_unref(struct ring_buffer *buffer);
uint32_t ring_buffers_free(const struct ring *ring);
uint32_t ring_buffers_total(const struct ring *ring);

/* ---- sockets --------------------------------------------------------------------------------- */

/* At once; 0 and a descriptor, or -errno (-EADDRINUSE, -EACCES, -EMFILE). SO_REUSEPORT and
 * TCP_NODELAY are set on TCP, a unix path gets `mode`. Shard: boot or owner. */
int ring_listen(const struct netaddr *address, int backlog, uint32_t mode, int *ret_fd);
/* `type` SOCK_STREAM or SOCK_DGRAM; `source` may be NULL. For SOCK_DGRAM without one: bound to a
 * random port. */
int ring_socket(int family, int type, const struct netaddr *source, int *ret_fd);
/* Connected peer and own address of an accepted or connected socket. 0 or -errno. */
int ring_peer_address(int fd, struct netaddr *ret_address);
int ring_local_address(int fd, struct netaddr *ret_address);
/* Who is at the other end of a unix socket (SO_PEERCRED). */
int ring_peer_credentials(int fd, uint32_t *ret_uid, uint32_t *ret_gid, int32_t *ret_pid);
/* Any descriptor of the door. No op may be in flight on it: cancel and await them first. */
void ring_close(int fd);

/* Multishot: `result` is a new descriptor (owned by the callback) or -errno. Ends (without `more`)
 * on errors such as -EMFILE and when cancelled: the owner arms it again, after a pause. */
void ring_accept(struct ring *ring, struct ring_op *op, int listen_fd);
/* `address` is copied. For SOCK_DGRAM it fixes the peer. */
void ring_connect(struct ring *ring, struct ring_op *op, int fd, const struct netaddr *address);
/* Multishot receive into provided buffers: result > 0 with `buffer`; 0 end of stream; -ENOBUFS when
 * no buffer was free (ended; arm again when ring_buffers_free() has grown), -errno. */
void ring_receive(struct ring *ring, struct ring_op *op, int fd);
/* Sends all of it (MSG_WAITALL, MSG_NOSIGNAL): result is its size, or less or -errno after a
 * failure. One send in flight per socket. The bytes are borrowed until done. */
void ring_send(struct ring *ring, struct ring_op *op, int fd, struct slice bytes);
/* The same for `count` pieces; `vec` is borrowed until done as well. */
void ring_send_vec(struct ring *ring, struct ring_op *op, int fd, const struct iovec *vec,
                   size_t count);
/* Sends FIN: half close. Result 0 or -errno. */
void ring_shutdown(struct ring *ring, struct ring_op *op, int fd);

/* ---- files ----------------------------------------------------------------------------------- */

/* Result: bytes read, short at the end of file. */
void ring_read(struct ring *ring, struct ring_op *op, int fd, void *to, size_t size,
               uint64_t offset);
/* Result: bytes written (a short one is a failure for callers that need all), or -errno. With
 * `durable` the completion means: on stable storage (RWF_DSYNC). O_DIRECT descriptors want 4 KiB
 * alignment of all three. */
void ring_write(struct ring *ring, struct ring_op *op, int fd, struct slice bytes, uint64_t offset,
                bool durable);
/* fdatasync. Result 0 or -errno. */
void ring_sync(struct ring *ring, struct ring_op *op, int fd);

/* ---- jobs ------------------------------------------------------------------------------------ */

/* Runs `job` on a worker; its return value is the result. Queued without limit: owners bound
 * themselves. */
void ring_job(struct ring *ring, struct ring_op *op, enum ring_job_kind kind, ring_job_fn *job);

#endif
