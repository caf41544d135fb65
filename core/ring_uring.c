#include "core/ring.h"

#include "core/assert.h"
#include "core/clock.h"
#include "core/ring_uring_private.h"
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An op could not be submitted because the kernel had no memory for it: the next try comes this
 * soon. */
#define RING_RETRY_NS (10 * MS_NS)

/* ---- entering the kernel --------------------------------------------------------------------- */

/* Publishes what was prepared; the number of entries the kernel has not taken yet. */
static unsigned int flush_queue(struct ring *ring)
{
    struct io_uring_sq *sq = &ring->uring.sq;
    unsigned int tail = *sq->ktail;

    while (sq->sqe_head != sq->sqe_tail) {
        sq->array[tail & sq->ring_mask] = sq->sqe_head & sq->ring_mask;
        sq->sqe_head++;
        tail++;
    }
    io_uring_smp_store_release(sq->ktail, tail);
    return tail - io_uring_smp_load_acquire(sq->khead);
}

/* False when the kernel had no memory to begin anything, and so did not wait either. */
static bool enter(struct ring *ring, unsigned int submit_count, unsigned int wait_count,
                  unsigned int flags, const struct io_uring_getevents_arg *wait_arg)
{
    long r;

    ring->syscalls++;
    r = syscall(__NR_io_uring_enter, ring->uring.enter_ring_fd, submit_count, wait_count,
                flags | ring->enter_flags, wait_arg, wait_arg == NULL ? 0 : sizeof(*wait_arg));
    if (r >= 0)
        return true;
    switch (errno) {
    case ETIME: /* the deadline */
    case EINTR: /* a signal: as good as a wake */
    case EBUSY: /* completions wait outside of the queue until some are taken */
        return true;
    case EAGAIN:
    case ENOMEM: /* what is left in the queue goes with a later call */
        return false;
    default:
        /* EBADR (a completion was lost) or a call that is wrong: nothing to rely on is left. */
        ASSERT(errno == 0);
        return false;
    }
}

/* NULL when the queue is full and the kernel takes nothing now. */
static struct io_uring_sqe *get_entry(struct ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe != NULL)
        return sqe;
    (void)enter(ring, flush_queue(ring), 0, 0, NULL); /* the second look tells */
    return io_uring_get_sqe(&ring->uring);
}

/* ---- beginning and cancelling ---------------------------------------------------------------- */

static bool submit(struct ring *ring, struct ring_op *op)
{
    struct io_uring_sqe *sqe = get_entry(ring);

    if (sqe == NULL)
        return false;
    if (op->kind <= URING_SEND)
        uring_prepare_net(sqe, op);
    else
        uring_prepare_file(sqe, op);
    io_uring_sqe_set_data(sqe, op);
    op->stage = URING_WITH_KERNEL;
    return true;
}

static void submit_or_wait(struct ring *ring, struct ring_op *op)
{
    /* Behind those that wait already, so that no op overtakes an older one. */
    if (list_empty(&ring->waiting) && submit(ring, op))
        return;
    op->stage = URING_WAITING;
    list_push_back(&ring->waiting, &op->node);
}

static void begin(struct ring *ring, struct ring_op *op, enum uring_kind kind)
{
    ASSERT(!op->in_flight);
    ASSERT(!list_linked(&op->node));
    op->kind = (uint8_t)kind;
    op->in_flight = true;
    op->more = false;
    op->cancelled = false;
    op->buffer = NULL;
    op->result = 0;
    op->ring = ring;
    ring->in_flight++;
}

void uring_start(struct ring *ring, struct ring_op *op, enum uring_kind kind)
{
    ASSERT(kind < URING_KINDS_KERNEL);
    begin(ring, op, kind);
    submit_or_wait(ring, op);
}

static void make_ready(struct ring *ring, struct ring_op *op, int32_t result)
{
    op->result = result;
    op->stage = URING_READY;
    list_push_back(&ring->ready, &op->node);
}

void uring_start_ready(struct ring *ring, struct ring_op *op, enum uring_kind kind, int32_t result)
{
    begin(ring, op, kind);
    make_ready(ring, op, result);
}

/* Submitted in the order of the calls: a cancellation is looked at before whatever its op's owner
 * may start anew in the same memory afterwards, so it can never hit that. */
static bool submit_cancel(struct ring *ring, struct ring_op *op)
{
    struct io_uring_sqe *sqe;

    if (ring->cancels_in_flight >= URING_CANCELS_MAX)
        return false;
    sqe = get_entry(ring);
    if (sqe == NULL)
        return false;
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data64(sqe, URING_DATA_CANCEL);
    ring->cancels_in_flight++;
    return true;
}

void ring_cancel(struct ring *ring, struct ring_op *op)
{
    if (!op->in_flight || op->cancelled)
        return;
    op->cancelled = true;
    switch ((enum uring_stage)op->stage) {
    case URING_WITH_KERNEL:
        if (!submit_cancel(ring, op))
            list_push_back(&ring->cancels, &op->node);
        break;
    case URING_WAITING:
        list_remove(&op->node);
        make_ready(ring, op, op->moved_bytes > 0 ? (int32_t)op->moved_bytes : -ECANCELED);
        break;
    case URING_READY:
    case URING_WITH_WORKER: /* a job cannot be interrupted; its own result comes */
        break;
    }
}

static void submit_leftovers(struct ring *ring)
{
    struct list_node *node;

    while (!list_empty(&ring->waiting)) {
        struct ring_op *op = CONTAINER_OF(ring->waiting.next, struct ring_op, node);

        if (!submit(ring, op))
            return;
        list_remove(&op->node);
    }
    while ((node = list_pop_front(&ring->cancels)) != NULL) {
        if (!submit_cancel(ring, CONTAINER_OF(node, struct ring_op, node))) {
            list_push_front(&ring->cancels, node);
            return;
        }
    }
}

/* ---- completions ----------------------------------------------------------------------------- */

static void complete(struct ring *ring, struct ring_op *op, int32_t result, bool more)
{
    op->result = result;
    op->more = more;
    if (!more) {
        list_remove(&op->node); /* a cancellation that has not been sent is of no use any more */
        op->in_flight = false;
        ring->in_flight--;
    }
    op->done(op);
}

static void complete_send(struct ring *ring, struct ring_op *op, int32_t result)
{
    if (result > 0) {
        if (uring_send_continues(op, (size_t)result) && !op->cancelled) {
            submit_or_wait(ring, op);
            return;
        }
        result = (int32_t)op->moved_bytes;
    } else if (result == -ECANCELED && op->moved_bytes > 0) {
        result = (int32_t)op->moved_bytes;
    }
    complete(ring, op, result, false);
}

static void complete_receive(struct ring *ring, struct ring_op *op, int32_t result, uint32_t flags)
{
    op->buffer = NULL;
    if (flags & IORING_CQE_F_BUFFER) {
        uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);

        op->buffer = uring_buffer_take(ring, id, result > 0 ? (size_t)result : 0);
        if (result <= 0) {
            ring_buffer_unref(op->buffer);
            op->buffer = NULL;
        }
    }
    complete(ring, op, result, (flags & IORING_CQE_F_MORE) != 0);
}

static void arm_wake(struct ring *ring)
{
    struct io_uring_sqe *sqe;

    if (ring->wake_armed)
        return;
    sqe = get_entry(ring);
    if (sqe == NULL)
        return;
    io_uring_prep_read(sqe, ring->wake_fd, &ring->wake_value, sizeof(ring->wake_value), 0);
    io_uring_sqe_set_data64(sqe, URING_DATA_WAKE);
    ring->wake_armed = true;
}

/* True when it was an op's; our own do not count. */
static bool handle(struct ring *ring, const struct io_uring_cqe *cqe)
{
    struct ring_op *op;

    if (cqe->user_data == URING_DATA_WAKE) {
        ring->wake_armed = false;
        return false;
    }
    if (cqe->user_data == URING_DATA_CANCEL) {
        ASSERT(ring->cancels_in_flight > 0);
        ring->cancels_in_flight--;
        return false;
    }
    op = (struct ring_op *)(uintptr_t)cqe->user_data;
    ASSERT(op->in_flight);
    if (op->kind == URING_RECEIVE)
        complete_receive(ring, op, cqe->res, cqe->flags);
    else if (op->kind == URING_SEND)
        complete_send(ring, op, cqe->res);
    else
        complete(ring, op, cqe->res, (cqe->flags & IORING_CQE_F_MORE) != 0);
    return true;
}

static size_t reap(struct ring *ring, size_t limit)
{
    struct io_uring_cq *cq = &ring->uring.cq;
    size_t ran = 0;

    while (ran < limit) {
        unsigned int head = *cq->khead;
        struct io_uring_cqe cqe;

        if (head == io_uring_smp_load_acquire(cq->ktail))
            break;
        /* The entry is given back before its callback runs: that may enter the kernel itself. */
        cqe = cq->cqes[head & cq->ring_mask];
        io_uring_smp_store_release(cq->khead, head + 1);
        if (handle(ring, &cqe))
            ran++;
    }
    return ran;
}

static size_t run_ready(struct ring *ring, size_t limit)
{
    struct list_node now;
    struct list_node *node;
    size_t ran = 0;

    /* What the callbacks add is for the next call. */
    list_init(&now);
    list_splice_back(&now, &ring->ready);
    while (ran < limit && (node = list_pop_front(&now)) != NULL) {
        struct ring_op *op = CONTAINER_OF(node, struct ring_op, node);

        ran++;
        if (op->kind == URING_JOB && op->stage == URING_READY && ring->workers == NULL)
            op->result = op->job(op);
        complete(ring, op, op->result, false);
    }
    list_splice_back(&now, &ring->ready); /* what the limit has left stays in front */
    list_splice_back(&ring->ready, &now);
    return ran;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

void ring_job(struct ring *ring, struct ring_op *op, enum ring_job_kind kind, ring_job_fn *job)
{
    ASSERT(kind < RING_JOB_KINDS);
    op->job = job;
    op->job_kind = (uint8_t)kind;
    if (ring->workers == NULL) {
        uring_start_ready(ring, op, URING_JOB, 0);
        return;
    }
    begin(ring, op, URING_JOB);
    op->stage = URING_WITH_WORKER;
    ring->syscalls++; /* the workers' semaphore */
    worker_pool_push(ring->workers, op);
}

void uring_job_finished(struct ring *ring, struct ring_op *op)
{
    struct ring_op *top;

    /* As soon as the op is on the stack its shard may go on, stop and destroy the ring. */
    atomic_fetch_add(&ring->visitors, 1);
    top = atomic_load_explicit(&ring->jobs_done, memory_order_relaxed);
    do {
        op->node.next = top == NULL ? NULL : &top->node;
    } while (!atomic_compare_exchange_weak(&ring->jobs_done, &top, op));
    ring_wake(ring);
    atomic_fetch_sub(&ring->visitors, 1);
}

static void take_finished_jobs(struct ring *ring)
{
    struct ring_op *op;
    struct list_node oldest_first;

    if (atomic_load_explicit(&ring->jobs_done, memory_order_relaxed) == NULL)
        return;
    list_init(&oldest_first);
    op = atomic_exchange(&ring->jobs_done, NULL);
    while (op != NULL) {
        struct list_node *next = op->node.next;

        list_push_front(&oldest_first, &op->node);
        op->stage = URING_READY;
        op = next == NULL ? NULL : CONTAINER_OF(next, struct ring_op, node);
    }
    list_splice_back(&ring->ready, &oldest_first);
}

/* ---- waiting and waking ---------------------------------------------------------------------- */

void ring_wake(struct ring *ring)
{
    const uint64_t one = 1;

    /* The exchange orders what the waker has written before it with what the ring reads after its
     * own. */
    if (atomic_exchange(&ring->wake_state, URING_NOTIFIED) != URING_ASLEEP)
        return;
    atomic_fetch_add_explicit(&ring->wakes, 1, memory_order_relaxed);
    while (write(ring->wake_fd, &one, sizeof(one)) < 0)
        ASSERT(errno == EINTR);
}

/* Something can be handed out without the kernel. */
static bool has_completions(const struct ring *ring)
{
    return !list_empty(&ring->ready) ||
           *ring->uring.cq.khead != io_uring_smp_load_acquire(ring->uring.cq.ktail);
}

static bool fall_asleep(struct ring *ring)
{
    uint32_t awake = URING_AWAKE;

    return atomic_compare_exchange_strong(&ring->wake_state, &awake, URING_ASLEEP);
}

static bool enter_until(struct ring *ring, unsigned int submit_count, uint64_t deadline_ns)
{
    struct __kernel_timespec timeout = {0};
    struct io_uring_getevents_arg arg = {.sigmask = 0};

    if (deadline_ns != UINT64_MAX) {
        uint64_t now_ns = clock_monotonic_ns();
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

        timeout.tv_sec = (long long)(left_ns / SECOND_NS);
        timeout.tv_nsec = (long long)(left_ns % SECOND_NS);
        arg.ts = (uint64_t)(uintptr_t)&timeout;
    }
    return enter(ring, submit_count, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg);
}

static void wait_for_events(struct ring *ring, unsigned int submit_count, uint64_t deadline_ns)
{
    if (!list_empty(&ring->waiting) || !list_empty(&ring->cancels) || !ring->wake_armed)
        deadline_ns = MIN(deadline_ns, clock_monotonic_ns() + RING_RETRY_NS);
    if (!enter_until(ring, submit_count, deadline_ns)) {
        deadline_ns = MIN(deadline_ns, clock_monotonic_ns() + RING_RETRY_NS);
        (void)enter_until(ring, 0, deadline_ns); /* a pause; the next call submits */
    }
}

static void submit_and_wait(struct ring *ring, uint64_t deadline_ns)
{
    unsigned int submit_count, kernel_flags;

    submit_leftovers(ring);
    arm_wake(ring);
    submit_count = flush_queue(ring);
    if (deadline_ns != 0 && !has_completions(ring) && fall_asleep(ring)) {
        wait_for_events(ring, submit_count, deadline_ns);
        return;
    }
    kernel_flags = IO_URING_READ_ONCE(*ring->uring.sq.kflags);
    if (submit_count > 0 || kernel_flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))
        (void)enter(ring, submit_count, 0, IORING_ENTER_GETEVENTS,
                    NULL); /* the next call, if not */
}

void ring_wait(struct ring *ring, uint64_t deadline_ns)
{
    submit_and_wait(ring, deadline_ns);
    /* Whoever notifies from here on has done so after what the caller is going to look at. */
    atomic_exchange(&ring->wake_state, URING_AWAKE);
}

size_t ring_run(struct ring *ring)
{
    size_t ran;

    take_finished_jobs(ring);
    ran = run_ready(ring, URING_BATCH_MAX);
    ran += reap(ring, URING_BATCH_MAX - ran);
    return ran;
}

size_t ring_poll(struct ring *ring, uint64_t deadline_ns)
{
    ring_wait(ring, deadline_ns);
    return ring_run(ring);
}

size_t ring_in_flight(const struct ring *ring)
{
    return ring->in_flight;
}

uint64_t ring_syscalls(const struct ring *ring)
{
    return ring->syscalls + atomic_load_explicit(&ring->wakes, memory_order_relaxed);
}

const struct ring_features *ring_features(const struct ring *ring)
{
    return &ring->features;
}
