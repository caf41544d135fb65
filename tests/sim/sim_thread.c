/* tests/sim/sim_thread.c - core/thread.h: shards, workers and the log's writer without a thread.
 *
 * A shard's loop and each worker's job are fibers. The loop gives way in ring_wait(), a job at each call of
 * core/file.h (sim_file.c), and so a crash can fall between any two of those. Jobs of one kind run side
 * by side up to the kind's number of threads, as the real pool's do.
 */
#include "core/thread.h"

#include "core/file.h"
#include "core/log.h"
#include "core/shard.h"
#include "tests/sim/sim_private.h"

#include <stdlib.h>

/* ---- shards ----------------------------------------------------------------------------------- */

struct thread {
    struct sim_fiber *fiber; /* NULL until the last shard of the group has begun */
    struct shard *shard;
    struct thread *earlier; /* of the same group */
};

static void shard_main(void *argument)
{
    struct shard *shard = argument;

    while (!shard->stopping)
        shard_tick(shard, true);
    shard_end(shard);
}

/* shard_begin() is run here, so that its error can be returned; no shard gets a turn before all have begun, because
 * a message to one that has no ring yet would have nowhere to go. */
int thread_start_shard(struct shard *shard, void (*run)(struct shard *shard), uint32_t cpu,
                       struct thread **ret_thread)
{
    struct thread *thread = malloc(sizeof(*thread));
    int r;

    (void)run;
    (void)cpu;
    ASSERT(thread != NULL && sim.process != NULL);
    *thread = (struct thread){.shard = shard, .earlier = sim.process->threads};
    sim.process->threads = thread;
    r = shard_begin(shard);
    if (r == 0 && shard->index + 1 == shard->count) {
        for (struct thread *t = sim.process->threads; t != NULL; t = t->earlier)
            t->fiber = sim_fiber_start(sim.process, shard_main, t->shard,
                                       sim.now_ns + sim_between(1000, 100000));
        sim.process->threads = NULL;
    }
    *ret_thread = thread;
    return r;
}

void thread_join(struct thread **thread)
{
    if (*thread == NULL)
        return;
    if ((*thread)->fiber != NULL)
        sim_join((*thread)->fiber);
    free(*thread);
    *thread = NULL;
}

uint32_t thread_cpu_count(void)
{
    return sim.process == NULL ? 1 : sim.process->cpu_count;
}

/* ---- workers ---------------------------------------------------------------------------------- */

struct worker_pool {
    struct list_node queued[RING_JOB_KINDS]; /* of struct job */
    uint32_t threads[RING_JOB_KINDS];
    uint32_t running[RING_JOB_KINDS];
    struct sim_fiber *destroyer;
};

struct job {
    struct list_node node;
    struct worker_pool *pool;
    struct sim_request *request;
    uint8_t kind;
};

static void job_main(void *argument);

static void pool_fill(struct worker_pool *pool, uint8_t kind)
{
    while (pool->running[kind] < pool->threads[kind] && !list_empty(&pool->queued[kind])) {
        struct list_node *node = list_pop_front(&pool->queued[kind]);

        pool->running[kind]++;
        (void)sim_fiber_start(sim.process, job_main, CONTAINER_OF(node, struct job, node),
                              sim.now_ns + sim_between(1000, 50000));
    }
}

static void job_main(void *argument)
{
    struct job *job = argument;
    struct worker_pool *pool = job->pool;
    uint8_t kind = job->kind;
    int result;

    if (kind == RING_JOB_HASH)
        sim_sleep(sim_between(1000000, 40000000)); /* a password hash is meant to be slow */
    result = job->request->op->job(job->request->op);
    sim_request_end(job->request, result, NULL);
    free(job);
    if (pool == NULL)
        return;
    pool->running[kind]--;
    pool_fill(pool, kind);
    sim_wake(pool->destroyer);
}

void sim_job_submit(struct worker_pool *pool, struct sim_request *request)
{
    struct job *job = malloc(sizeof(*job));

    ASSERT(job != NULL);
    *job = (struct job){.pool = pool, .request = request, .kind = request->op->job_kind};
    list_node_init(&job->node);
    if (pool ==
        NULL) { /* no workers: one after the other would need a pool, one at once does not */
        (void)sim_fiber_start(sim.process, job_main, job, sim.now_ns + sim_between(1000, 50000));
        return;
    }
    list_push_back(&pool->queued[job->kind], &job->node);
    pool_fill(pool, job->kind);
}

int worker_pool_create(uint32_t file_threads, uint32_t hash_threads, struct worker_pool **ret_pool)
{
    struct worker_pool *pool = calloc(1, sizeof(*pool));

    ASSERT(pool != NULL && file_threads > 0 && hash_threads > 0);
    pool->threads[RING_JOB_FILE] = file_threads;
    pool->threads[RING_JOB_HASH] = hash_threads;
    for (size_t i = 0; i < RING_JOB_KINDS; i++)
        list_init(&pool->queued[i]);
    *ret_pool = pool;
    return 0;
}

static bool pool_is_idle(const struct worker_pool *pool)
{
    for (size_t i = 0; i < RING_JOB_KINDS; i++)
        if (pool->running[i] > 0)
            return false;
    return true;
}

void worker_pool_destroy(struct worker_pool **pool)
{
    if (*pool == NULL)
        return;
    (*pool)->destroyer = sim.fiber;
    while (!pool_is_idle(*pool))
        sim_wait(UINT64_MAX);
    free(*pool);
    *pool = NULL;
}

/* ---- the log's writer ------------------------------------------------------------------------- */

struct log_writer {
    struct list_node node; /* in the process */
    struct log **logs;
    uint32_t count;
    int fd;
};

static bool line_has(struct slice line, const char *text)
{
    return memmem(line.data, line.size, text, strlen(text)) != NULL;
}

/* An event of level error says that something is lost, damaged or refused by the machine: in these worlds the machine
 * only dies, so there is none but the one about accounts that an editor has half written. */
static void log_line(struct slice line)
{
    sim_trace_text("log", line);
    sim.delivery_in_doubt += line_has(line, " event=delivery.in_doubt ");
    if (!sim.errors_expected && line_has(line, " level=error ") &&
        !line_has(line, " event=users.not_read "))
        sim_fail("an error is logged: %.*s", SLICE_ARG(line));
}

/* What the shards have said goes into the trace, whole lines or not. */
static void writer_drain(struct log_writer *writer)
{
    uint8_t bytes[4096];
    size_t size;

    for (uint32_t i = 0; i < writer->count; i++) {
        while ((size = log_take(writer->logs[i], bytes, sizeof(bytes))) > 0) {
            struct slice rest = slice_of(bytes, size);

            while (rest.size > 0)
                log_line(slice_split(&rest, '\n'));
        }
    }
}

void sim_logs_drain(struct sim_process *process)
{
    list_for_each (node, &process->logs) {
        writer_drain(CONTAINER_OF(node, struct log_writer, node));
    }
}

int log_writer_start(struct log **logs, uint32_t log_count, int fd, struct log_writer **ret_writer)
{
    struct log_writer *writer = malloc(sizeof(*writer));

    ASSERT(writer != NULL && sim.process != NULL);
    *writer = (struct log_writer){.logs = logs, .count = log_count, .fd = fd};
    list_push_back(&sim.process->logs, &writer->node);
    *ret_writer = writer;
    return 0;
}

void log_writer_stop(struct log_writer **writer)
{
    if (*writer == NULL)
        return;
    writer_drain(*writer);
    list_remove(&(*writer)->node);
    free(*writer);
    *writer = NULL;
}

void log_writer_reopen(struct log_writer *writer, int fd)
{
    if (writer->fd > 2)
        (void)file_close(writer->fd);
    writer->fd = fd;
}
