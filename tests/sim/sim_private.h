/* tests/sim/sim_private.h - what the files of the simulated door show each other.
 *
 * The worlds (sim_echo.c, sim_mail.c) use sim_world.h, sim_peer.h and sim_disk.h; only the door looks in here.
 */
#ifndef KILAT_SIM_PRIVATE_H
#define KILAT_SIM_PRIVATE_H

#include "tests/sim/sim_world.h"

#include "core/ring.h"

/* ---- fibers ----------------------------------------------------------------------------------- */

struct sim_join_wait {
    struct sim_fiber *fiber;
    struct list_node node;
};
/* Its process was killed: no further turn. */
void sim_fiber_abandon(struct sim_fiber *fiber);
/* Leaves the current fiber, whose process was killed by itself. */
KILAT_NORETURN void sim_fiber_never_again(void);

/* ---- the ring --------------------------------------------------------------------------------- */

/* One operation as the simulated kernel sees it. */
struct sim_request {
    struct ring *ring;
    struct ring_op *op;
    struct list_node node; /* in ring->requests, in the order of submission */
    struct sim_event event;
    void *object; /* what `fd` was: listener, end, udp, open file */
    const struct iovec *vec;
    size_t vec_count, vec_index, vec_offset;
    size_t done_bytes, size;
    uint64_t offset;
    void *to;
    bool durable;
    bool is_write;
    uint64_t content_hash;
    void (*cancel)(struct sim_request *request);
};
struct sim_request *sim_request_begin(struct ring *ring, struct ring_op *op, void *object,
                                      void (*cancel)(struct sim_request *request));
/* The completion that ends the op. Frees `request`. */
void sim_request_end(struct sim_request *request, int32_t result, struct ring_buffer *buffer);
/* One of several completions. */
void sim_request_more(struct sim_request *request, int32_t result, struct ring_buffer *buffer);
/* NULL: none is free. */
struct ring_buffer *sim_ring_buffer_take(struct ring *ring);
/* The process was killed: nothing of this ring completes any more. */
void sim_ring_abandon(struct ring *ring);
/* Before that: what becomes of its writes in flight. */
void sim_ring_writes_abandon(struct ring *ring, bool power);
/* How many of its writes are in flight. */
uint32_t sim_ring_writes(const struct ring *ring);
struct ring *sim_ring_of_node(struct list_node *node);

/* ---- jobs (sim_thread.c) ---------------------------------------------------------------------- */

void sim_job_submit(struct worker_pool *pool, struct sim_request *request);
void sim_logs_drain(struct sim_process *process);

/* ---- network (sim_net.c) ---------------------------------------------------------------------- */

/* The kernel closes what a dead process held; `silent`: the host lost its power, nobody says goodbye. */
void sim_net_fd_closed(struct sim_process *process, struct sim_fd *fd, bool silent);
void sim_net_power_on(struct sim_host *host);

/* ---- disk (sim_disk.c) ------------------------------------------------------------------------ */

void sim_disk_fd_closed(struct sim_fd *fd);
struct sim_disk *sim_disk_create(struct sim_host *host);
void sim_disk_crash(struct sim_disk *disk);
/* Kill or power cut: what becomes of writes in flight. */
void sim_disk_request_abandon(struct sim_request *request, bool power);

#endif
