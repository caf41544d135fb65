#include "core/ring.h"

#include "core/assert.h"
#include "core/ring_uring_private.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_ENTRIES_DEFAULT 1024u
#define RING_ENTRIES_MIN 64u
#define RING_BUFFERS_DEFAULT 512u
#define RING_BUFFERS_MIN 16u
#define RING_BUFFER_BYTES_DEFAULT 8192u
#define RING_COMPLETIONS_PER_ENTRY 8u
static_assert(URING_CANCELS_MAX * 2 <= RING_ENTRIES_DEFAULT * RING_COMPLETIONS_PER_ENTRY / 4,
              "cancelling leaves room for what else completes");

/* Kernel threads for what a file system cannot start without blocking: few, they are not pinned. */
#define RING_KERNEL_WORKERS 4u

/* Given up one after the other when the kernel says EINVAL; the engine is right without any of
 * them. */
static const uint32_t droppable_flags[] = {
    IORING_SETUP_TASKRUN_FLAG,  IORING_SETUP_COOP_TASKRUN, IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_SUBMIT_ALL,
};

static int set_up_queues(struct ring *ring, uint32_t entries, uint32_t without_flags,
                         struct io_uring_params *params)
{
    uint32_t flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    size_t dropped = 0;
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(droppable_flags); i++)
        flags |= droppable_flags[i] & ~without_flags;
    for (;;) {
        *params = (struct io_uring_params){.flags = flags,
                                           .cq_entries = entries * RING_COMPLETIONS_PER_ENTRY};
        r = io_uring_queue_init_params(entries, &ring->uring, params);
        if (r == -ENOMEM && entries / 2 >= RING_ENTRIES_MIN)
            entries /= 2;
        else if (r == -EINVAL && dropped < ARRAY_SIZE(droppable_flags))
            flags &= ~droppable_flags[dropped++];
        else
            return r;
    }
}

static void register_queues(struct ring *ring)
{
    unsigned int workers[2] = {RING_KERNEL_WORKERS, RING_KERNEL_WORKERS};

    /* Both are economies: without them all works. */
    if (io_uring_register_ring_fd(&ring->uring) == 1)
        ring->enter_flags = IORING_ENTER_REGISTERED_RING;
    (void)io_uring_register_iowq_max_workers(&ring->uring, workers);
}

static int set_up_buffers(struct ring *ring, const struct ring_params *params)
{
    uint32_t count = params->buffer_count == 0 ? RING_BUFFERS_DEFAULT : params->buffer_count;
    uint32_t size_bytes =
        params->buffer_size_bytes == 0 ? RING_BUFFER_BYTES_DEFAULT : params->buffer_size_bytes;
    int r;

    ASSERT((count & (count - 1)) == 0);
    do {
        r = uring_buffers_create(ring, count, size_bytes);
        count /= 2;
    } while (r == -ENOMEM && count >= RING_BUFFERS_MIN);
    return r;
}

static int open_ring(struct ring *ring, const struct ring_params *params)
{
    struct io_uring_params uring_params;
    uint32_t entries = params->entries == 0 ? RING_ENTRIES_DEFAULT : params->entries;
    int r;

    r = set_up_queues(ring, entries, params->without_flags, &uring_params);
    if (r < 0)
        return r;
    register_queues(ring);
    r = set_up_buffers(ring, params);
    if (r < 0)
        goto undo_queues;
    ring->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (ring->wake_fd < 0) {
        r = -errno;
        goto undo_buffers;
    }
    uring_describe(ring, &uring_params);
    return 0;

undo_buffers:
    uring_buffers_destroy(ring);
undo_queues:
    io_uring_queue_exit(&ring->uring);
    return r;
}

int ring_create(const struct ring_params *params, struct ring **ret_ring)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    int r;

    if (ring == NULL)
        return -ENOMEM;
    ring->workers = params->workers;
    list_init(&ring->waiting);
    list_init(&ring->ready);
    list_init(&ring->cancels);
    r = open_ring(ring, params);
    if (r < 0) {
        free(ring);
        return r;
    }
    *ret_ring = ring;
    return 0;
}

void ring_destroy(struct ring **ring)
{
    struct ring *r = *ring;

    if (r == NULL)
        return;
    ASSERT(r->in_flight == 0);
    while (atomic_load(&r->visitors) > 0)
        (void)sched_yield(); /* a worker is between its last job's end and its wake */
    io_uring_queue_exit(&r->uring);
    uring_buffers_destroy(r);
    (void)close(r->wake_fd); /* an eventfd holds nothing that could be lost */
    free(r);
    *ring = NULL;
}
