/* tests/sim/sim_ring.c - core/ring.h: operations, completions, receive buffers.
 *
 * An operation is a request to the simulated kernel (sim_net.c, sim_disk.c, sim_thread.c), which ends it by posting
 * a completion to the ring. ring_wait() lets virtual time pass (a tick costs something) and then runs a
 * random number of the completions that wait, so that every batch size is met.
 */
#include "tests/sim/sim_private.h"

#include "core/clock.h"
#include "core/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#endif

#define SIM_BUFFERS_DEFAULT 512
#define SIM_BUFFER_BYTES_DEFAULT 8192
#define SIM_BATCH_MAX 64

struct ring {
    struct sim_process *process;
    struct list_node node;     /* in the process */
    struct list_node requests; /* in flight, in order */
    struct list_node ready;    /* completions, in order */
    struct sim_fiber *sleeper; /* waits in ring_wait() */
    bool woken;
    bool dead;
    size_t in_flight;
    struct worker_pool *workers;
    struct ring_features features;
    struct ring_buffer *buffers;
    uint8_t *buffer_memory;
    uint16_t *free_ids;
    uint32_t free_count, buffer_count;
};

struct completion {
    struct list_node node;
    struct ring_op *op;
    struct ring_buffer *buffer;
    int32_t result;
    bool more;
};

/* ---- the ring --------------------------------------------------------------------------------- */

int ring_probe(const char *sysctl_path, char *text, size_t text_size_bytes)
{
    (void)sysctl_path;
    snprintf(text, text_size_bytes, "simulated");
    return 0;
}

int ring_create(const struct ring_params *params, struct ring **ret_ring)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    uint32_t size =
        params->buffer_size_bytes == 0 ? SIM_BUFFER_BYTES_DEFAULT : params->buffer_size_bytes;

    ASSERT(ring != NULL && sim.process != NULL);
    ring->process = sim.process;
    ring->workers = params->workers;
    ring->buffer_count = params->buffer_count == 0 ? SIM_BUFFERS_DEFAULT : params->buffer_count;
    ring->buffers = calloc(ring->buffer_count, sizeof(*ring->buffers));
    ring->free_ids = calloc(ring->buffer_count, sizeof(*ring->free_ids));
    ring->buffer_memory = malloc((size_t)ring->buffer_count * size);
    ASSERT(ring->buffers != NULL && ring->free_ids != NULL && ring->buffer_memory != NULL);
    for (uint32_t i = 0; i < ring->buffer_count; i++) {
        ring->buffers[i] = (struct ring_buffer){.ring = ring,
                                                .data = ring->buffer_memory + (size_t)i * size,
                                                .capacity = size,
                                                .id = (uint16_t)i};
        ring->free_ids[ring->free_count++] = (uint16_t)i;
    }
    ASAN_POISON_MEMORY_REGION(ring->buffer_memory, (size_t)ring->buffer_count * size);
    list_init(&ring->requests);
    list_init(&ring->ready);
    list_push_back(&ring->process->rings, &ring->node);
    snprintf(ring->features.text, sizeof(ring->features.text), "simulated ring");
    *ret_ring = ring;
    return 0;
}

void ring_destroy(struct ring **ring)
{
    struct ring *r = *ring;

    if (r == NULL)
        return;
    ASSERT(r->in_flight == 0 && list_empty(&r->ready));
    ASSERT(r->free_count == r->buffer_count); /* somebody still holds a receive buffer */
    list_remove(&r->node);
    ASAN_UNPOISON_MEMORY_REGION(r->buffer_memory, (size_t)r->buffer_count * r->buffers[0].capacity);
    free(r->buffers);
    free(r->free_ids);
    free(r->buffer_memory);
    free(r);
    *ring = NULL;
}

const struct ring_features *ring_features(const struct ring *ring)
{
    return &ring->features;
}

static void run_completion(struct ring *ring, struct completion *completion)
{
    struct ring_op *op = completion->op;

    ASSERT(op->in_flight);
    op->result = completion->result;
    op->buffer = completion->buffer;
    if (op->buffer != NULL) /* only what was received may be read */
        ASAN_POISON_MEMORY_REGION(op->buffer->data + op->result,
                                  op->buffer->capacity - (size_t)op->result);
    op->more = completion->more;
    if (!op->more) {
        op->in_flight = false;
        ring->in_flight--;
    }
    free(completion);
    op->done(op);
}

void ring_wait(struct ring *ring, uint64_t deadline_ns)
{
    ASSERT(ring->process == sim.process);
    sim_logs_drain(ring->process);
    sim_sleep(sim_between(500, 15000)); /* what the tick before this one cost */
    if (deadline_ns != 0 && list_empty(&ring->ready) && !ring->woken) {
        ring->sleeper = sim.fiber;
        /* The product's monotonic clock runs one second ahead of the world's (sim_clock.c). */
        sim_wait(deadline_ns == UINT64_MAX ? UINT64_MAX
                                           : deadline_ns - MIN(deadline_ns, SECOND_NS));
        ring->sleeper = NULL;
    }
    ring->woken = false;
}

size_t ring_run(struct ring *ring)
{
    size_t count = 0, bound = sim_between(1, SIM_BATCH_MAX);
    struct list_node *node;

    while (count < bound && (node = list_pop_front(&ring->ready)) != NULL) {
        run_completion(ring, CONTAINER_OF(node, struct completion, node));
        count++;
    }
    return count;
}

size_t ring_poll(struct ring *ring, uint64_t deadline_ns)
{
    ring_wait(ring, deadline_ns);
    return ring_run(ring);
}

void ring_wake(struct ring *ring)
{
    ring->woken = true;
    sim_wake(ring->sleeper);
}

size_t ring_in_flight(const struct ring *ring)
{
    return ring->in_flight;
}

uint64_t ring_syscalls(const struct ring *ring)
{
    (void)ring;
    return 0;
}

struct ring *sim_ring_of_node(struct list_node *node)
{
    return CONTAINER_OF(node, struct ring, node);
}

/* ---- requests --------------------------------------------------------------------------------- */

struct sim_request *sim_request_begin(struct ring *ring, struct ring_op *op, void *object,
                                      void (*cancel)(struct sim_request *request))
{
    struct sim_request *request = calloc(1, sizeof(*request));

    ASSERT(request != NULL);
    ASSERT(!op->in_flight);               /* an op is one operation at a time */
    ASSERT(ring->process == sim.process); /* a ring belongs to the thread that made it */
    request->ring = ring;
    request->op = op;
    request->object = object;
    request->cancel = cancel;
    op->in_flight = true;
    op->more = false;
    op->cancelled = false;
    op->buffer = NULL;
    ring->in_flight++;
    list_push_back(&ring->requests, &request->node);
    return request;
}

static void post(struct sim_request *request, int32_t result, struct ring_buffer *buffer, bool more)
{
    struct ring *ring = request->ring;
    struct completion *completion = malloc(sizeof(*completion));

    ASSERT(completion != NULL && !ring->dead);
    *completion =
        (struct completion){.op = request->op, .result = result, .buffer = buffer, .more = more};
    list_push_back(&ring->ready, &completion->node);
    sim_wake(ring->sleeper);
}

void sim_request_end(struct sim_request *request, int32_t result, struct ring_buffer *buffer)
{
    sim_event_cancel(&request->event);
    post(request, result, buffer, false);
    list_remove(&request->node);
    free(request);
}

void sim_request_more(struct sim_request *request, int32_t result, struct ring_buffer *buffer)
{
    post(request, result, buffer, true);
}

void ring_cancel(struct ring *ring, struct ring_op *op)
{
    if (!op->in_flight)
        return;
    list_for_each_safe (node, &ring->requests) {
        struct sim_request *request = CONTAINER_OF(node, struct sim_request, node);

        if (request->op == op && request->cancel != NULL) {
            request->cancel(request);
            return;
        }
    }
    /* Its completion waits already, or it can only be awaited (a write, a job that runs). */
}

uint32_t sim_ring_writes(const struct ring *ring)
{
    uint32_t count = 0;

    list_for_each (node, &ring->requests) {
        count += CONTAINER_OF(node, struct sim_request, node)->is_write;
    }
    return count;
}

void sim_ring_writes_abandon(struct ring *ring, bool power)
{
    list_for_each (node, &ring->requests) {
        sim_disk_request_abandon(CONTAINER_OF(node, struct sim_request, node), power);
    }
}

void sim_ring_abandon(struct ring *ring)
{
    struct list_node *node;

    ring->dead = true;
    ring->sleeper = NULL;
    while ((node = list_pop_front(&ring->requests)) != NULL) {
        struct sim_request *request = CONTAINER_OF(node, struct sim_request, node);

        sim_event_cancel(&request->event);
        free(request);
    }
    while ((node = list_pop_front(&ring->ready)) != NULL)
        free(CONTAINER_OF(node, struct completion, node));
    ASAN_UNPOISON_MEMORY_REGION(ring->buffer_memory,
                                (size_t)ring->buffer_count * ring->buffers[0].capacity);
    free(ring->buffer_memory);
    ring->buffer_memory = NULL;
}

/* ---- receive buffers -------------------------------------------------------------------------- */

struct ring_buffer *sim_ring_buffer_take(struct ring *ring)
{
    struct ring_buffer *buffer;

    if (ring->free_count == 0)
        return NULL;
    buffer = &ring->buffers[ring->free_ids[--ring->free_count]];
    ASSERT(buffer->references == 0);
    ASAN_UNPOISON_MEMORY_REGION(buffer->data, buffer->capacity);
    buffer->references = 1;
    return buffer;
}

struct ring_buffer *ring_buffer_ref(struct ring_buffer *buffer)
{
    ASSERT(buffer->references > 0);
    buffer->references++;
    return buffer;
}

void ring_buffer_unref(struct ring_buffer *buffer)
{
    struct ring *ring = buffer->ring;

    ASSERT(buffer->references > 0);
    if (--buffer->references > 0)
        return;
    if (ring == NULL) {
        free(buffer);
        return;
    }
    /* Whoever reads it now reads nonsense, and the same nonsense in every run. */
    ASAN_UNPOISON_MEMORY_REGION(buffer->data, buffer->capacity);
    memset(buffer->data, 0xdb, buffer->capacity);
    ASAN_POISON_MEMORY_REGION(buffer->data, buffer->capacity);
    ring->free_ids[ring->free_count++] = buffer->id;
}

uint32_t ring_buffers_free(const struct ring *ring)
{
    return ring->free_count;
}

uint32_t ring_buffers_total(const struct ring *ring)
{
    return ring->buffer_count;
}

/* ---- jobs ------------------------------------------------------------------------------------- */

void ring_job(struct ring *ring, struct ring_op *op, enum ring_job_kind kind, ring_job_fn *job)
{
    struct sim_request *request = sim_request_begin(ring, op, NULL, NULL);

    op->job = job;
    op->job_kind = (uint8_t)kind;
    sim_job_submit(ring->workers, request);
}
