#include "core/thread.h"

#include "core/assert.h"
#include "core/list.h"
#include "core/log.h"
#include "core/ring_uring_private.h"
#include "core/shard.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOG_INTERVAL_MS 100 /* how old a line may be before it is written */
#define LOG_CHUNK_BYTES (64 * KIB)

/* Signals are the main thread's: a thread starts with all of them blocked. */
static int start_thread(pthread_t *ret_id, const char *name, void *(*main)(void *context),
                        void *context)
{
    sigset_t all, before;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* neither can fail with these arguments */
    r = pthread_create(ret_id, NULL, main, context);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        (void)pthread_setname_np(*ret_id, name); /* for those who look with top */
    return -r;
}

/* ---- shards ---------------------------------------------------------------------------------- */

struct thread {
    pthread_t id;
    struct shard *shard;
    void (*run)(struct shard *shard);
    uint32_t cpu;
};

uint32_t thread_cpu_count(void)
{
    cpu_set_t allowed;
    int count = 0;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0)
        count = CPU_COUNT(&allowed);
    return count > 0 ? (uint32_t)count : 1;
}

/* Without its CPU a shard is slower, not wrong, so failures are of no consequence. */
static void pin(uint32_t cpu)
{
    cpu_set_t allowed, one;
    uint32_t left = cpu % thread_cpu_count();

    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &allowed))
            continue;
        if (left-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        (void)sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

static void *shard_main(void *context)
{
    struct thread *thread = context;

    pin(thread->cpu);
    thread->run(thread->shard);
    return NULL;
}

int thread_start_shard(struct shard *shard, void (*run)(struct shard *shard), uint32_t cpu,
                       struct thread **ret_thread)
{
    struct thread *thread = malloc(sizeof(*thread));
    char name[16]; /* as long as the kernel allows */
    int r;

    if (thread == NULL)
        return -ENOMEM;
    *thread = (struct thread){.shard = shard, .run = run, .cpu = cpu};
    (void)snprintf(name, sizeof(name), "shard-%u", shard->index);
    r = start_thread(&thread->id, name, shard_main, thread);
    if (r < 0) {
        free(thread);
        return r;
    }
    *ret_thread = thread;
    return 0;
}

void thread_join(struct thread **thread)
{
    int r;

    if (*thread == NULL)
        return;
    r = pthread_join((*thread)->id, NULL);
    ASSERT(r == 0);
    free(*thread);
    *thread = NULL;
}

/* ---- workers --------------------------------------------------------------------------------- */

/* Jobs of one kind. A shard must never wait for a worker that was put to sleep with a lock in its
 * hands: so it pushes onto a stack without one, and only workers take the lock, to turn the stack
 * into a queue. One post of the semaphore stands for one job. */
struct worker_queue {
    _Atomic(struct ring_op *) pushed; /* newest first, linked by node.next */
    sem_t jobs;
    pthread_mutex_t lock;
    struct list_node queue; /* oldest first; under the lock */
    bool stopping;          /* set before the last posts */
    pthread_t *threads;
    uint32_t thread_count;
};

struct worker_pool {
    struct worker_queue queues[RING_JOB_KINDS];
};

void worker_pool_push(struct worker_pool *pool, struct ring_op *op)
{
    struct worker_queue *queue = &pool->queues[op->job_kind];
    struct ring_op *top = atomic_load_explicit(&queue->pushed, memory_order_relaxed);
    int r;

    do {
        op->node.next = top == NULL ? NULL : &top->node;
    } while (!atomic_compare_exchange_weak(&queue->pushed, &top, op));
    r = sem_post(&queue->jobs);
    ASSERT(r == 0); /* two billion jobs at once */
}

/* The oldest job, or NULL when the queue is empty, which it is only at the end. */
static struct ring_op *take_job(struct worker_queue *queue)
{
    struct list_node *node;

    pthread_mutex_lock(&queue->lock);
    if (list_empty(&queue->queue)) {
        struct ring_op *op = atomic_exchange(&queue->pushed, NULL);

        while (op != NULL) {
            struct list_node *next = op->node.next;

            list_push_front(&queue->queue, &op->node);
            op = next == NULL ? NULL : CONTAINER_OF(next, struct ring_op, node);
        }
    }
    node = list_pop_front(&queue->queue);
    pthread_mutex_unlock(&queue->lock);
    return node == NULL ? NULL : CONTAINER_OF(node, struct ring_op, node);
}

static void *worker_main(void *context)
{
    struct worker_queue *queue = context;

    for (;;) {
        struct ring_op *op;

        while (sem_wait(&queue->jobs) < 0)
            ASSERT(errno == EINTR);
        op = take_job(queue);
        if (op == NULL) {
            ASSERT(queue->stopping);
            return NULL;
        }
        op->result = op->job(op);
        uring_job_finished(op->ring, op);
    }
}

static void stop_queue(struct worker_queue *queue)
{
    if (queue->threads == NULL)
        return;
    queue->stopping = true; /* seen by whoever takes one of the posts that follow */
    for (uint32_t i = 0; i < queue->thread_count; i++)
        (void)sem_post(&queue->jobs);
    for (uint32_t i = 0; i < queue->thread_count; i++)
        (void)pthread_join(queue->threads[i], NULL);
    ASSERT(list_empty(&queue->queue));
    ASSERT(atomic_load(&queue->pushed) == NULL);
    (void)sem_destroy(&queue->jobs);
    (void)pthread_mutex_destroy(&queue->lock);
    free(queue->threads);
    queue->threads = NULL;
}

static int start_queue(struct worker_queue *queue, const char *kind, uint32_t thread_count)
{
    char name[16]; /* as long as the kernel allows */

    ASSERT(thread_count > 0);
    queue->threads = calloc(thread_count, sizeof(*queue->threads));
    if (queue->threads == NULL)
        return -ENOMEM;
    list_init(&queue->queue);
    (void)pthread_mutex_init(&queue->lock, NULL); /* cannot fail with these arguments */
    (void)sem_init(&queue->jobs, 0, 0);
    for (uint32_t i = 0; i < thread_count; i++) {
        int r;

        (void)snprintf(name, sizeof(name), "%s-%u", kind, i);
        r = start_thread(&queue->threads[i], name, worker_main, queue);
        if (r < 0)
            return r;
        queue->thread_count++;
    }
    return 0;
}

int worker_pool_create(uint32_t file_threads, uint32_t hash_threads, struct worker_pool **ret_pool)
{
    struct worker_pool *pool = calloc(1, sizeof(*pool));
    int r;

    if (pool == NULL)
        return -ENOMEM;
    r = start_queue(&pool->queues[RING_JOB_FILE], "file", file_threads);
    if (r == 0)
        r = start_queue(&pool->queues[RING_JOB_HASH], "hash", hash_threads);
    if (r < 0) {
        worker_pool_destroy(&pool);
        return r;
    }
    *ret_pool = pool;
    return 0;
}

void worker_pool_destroy(struct worker_pool **pool)
{
    if (*pool == NULL)
        return;
    for (size_t i = 0; i < RING_JOB_KINDS; i++)
        stop_queue(&(*pool)->queues[i]);
    free(*pool);
    *pool = NULL;
}

/* ---- the log's writer ------------------------------------------------------------------------ */

struct log_writer {
    struct log **logs;
    uint32_t log_count;
    int fd;
    _Atomic int next_fd; /* -1: none */
    pthread_t id;
    sem_t wake; /* posted by shards, which must not take a lock */
    _Atomic bool stopping;
    uint8_t *chunk;
};

/* A log that cannot be written is no reason to stop serving: what it refuses is lost. */
static void write_out(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t r = write(fd, bytes, size);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return;
        bytes += r;
        size -= (size_t)r;
    }
}

static void take_next_fd(struct log_writer *writer)
{
    int next = atomic_exchange(&writer->next_fd, -1);

    if (next < 0)
        return;
    (void)close(writer->fd); /* nothing to be done for lines of the old file */
    writer->fd = next;
}

static void write_all_logs(struct log_writer *writer)
{
    take_next_fd(writer);
    for (uint32_t i = 0; i < writer->log_count; i++) {
        size_t size;

        while ((size = log_take(writer->logs[i], writer->chunk, LOG_CHUNK_BYTES)) > 0)
            write_out(writer->fd, writer->chunk, size);
    }
}

static void wake_writer(void *context)
{
    struct log_writer *writer = context;

    (void)sem_post(&writer->wake); /* cannot fail: each wake stands for half a log written */
}

/* Waits, at most as long as a line may wait. */
static void pause_writer(struct log_writer *writer)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* exists on every Linux */
    until.tv_nsec += (long)(LOG_INTERVAL_MS * MS_NS);
    until.tv_sec += until.tv_nsec / (long)SECOND_NS;
    until.tv_nsec %= (long)SECOND_NS;
    /* Why it has ended does not matter: a look is due. */
    (void)sem_clockwait(&writer->wake, CLOCK_MONOTONIC, &until);
}

static void *log_writer_main(void *context)
{
    struct log_writer *writer = context;
    bool last;

    do {
        /* Asked before the last look, so that it carries out what came before the stop. */
        last = atomic_load(&writer->stopping);
        write_all_logs(writer);
        if (!last)
            pause_writer(writer);
    } while (!last);
    return NULL;
}

static void free_writer(struct log_writer *writer)
{
    (void)sem_destroy(&writer->wake);
    free(writer->chunk);
    free(writer);
}

int log_writer_start(struct log **logs, uint32_t log_count, int fd, struct log_writer **ret_writer)
{
    struct log_writer *writer = malloc(sizeof(*writer));
    int r;

    if (writer == NULL)
        return -ENOMEM;
    *writer = (struct log_writer){.logs = logs, .log_count = log_count, .fd = fd, .next_fd = -1};
    (void)sem_init(&writer->wake, 0, 0); /* cannot fail with these arguments */
    writer->chunk = malloc(LOG_CHUNK_BYTES);
    r = writer->chunk == NULL ? -ENOMEM : start_thread(&writer->id, "log", log_writer_main, writer);
    if (r < 0) {
        free_writer(writer);
        return r;
    }
    for (uint32_t i = 0; i < log_count; i++)
        log_on_pressing(logs[i], wake_writer, writer);
    *ret_writer = writer;
    return 0;
}

void log_writer_stop(struct log_writer **writer)
{
    struct log_writer *w = *writer;

    if (w == NULL)
        return;
    atomic_store(&w->stopping, true);
    (void)sem_post(&w->wake);
    (void)pthread_join(w->id, NULL);
    for (uint32_t i = 0; i < w->log_count; i++)
        log_on_pressing(w->logs[i], NULL, NULL); /* the shards have ended */
    free_writer(w);
    *writer = NULL;
}

void log_writer_reopen(struct log_writer *writer, int fd)
{
    int unused = atomic_exchange(&writer->next_fd, fd);

    if (unused >= 0)
        (void)close(unused); /* asked again before the writer has seen the first */
}
