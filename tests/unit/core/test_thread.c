#include "core/thread.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/ring.h"
#include "core/shard.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- workers --------------------------------------------------------------------------------- */

struct job {
    struct ring_op op;
    int number;
    int *order; /* where its turn is noted */
    int *next;
    bool done;
};

/* One thread a kind, so the notes need no lock. */
static int note_turn(struct ring_op *op)
{
    struct job *job = CONTAINER_OF(op, struct job, op);

    job->order[(*job->next)++] = job->number;
    return job->number;
}

static void job_done(struct ring_op *op)
{
    struct job *job = CONTAINER_OF(op, struct job, op);

    cr_assert_eq(op->result, job->number);
    job->done = true;
}

Test(thread, jobs_of_one_kind_keep_their_order)
{
    enum { COUNT = 2000 };
    static struct job jobs[COUNT];
    static int order[RING_JOB_KINDS][COUNT];
    int next[RING_JOB_KINDS] = {0};
    struct ring_params params = {.entries = 64, .buffer_count = 16};
    struct ring *ring = NULL;

    cr_assert_eq(worker_pool_create(1, 1, &params.workers), 0);
    cr_assert_eq(ring_create(&params, &ring), 0);
    for (int i = 0; i < COUNT; i++) {
        int kind = i % RING_JOB_KINDS;

        jobs[i].number = i;
        jobs[i].order = order[kind];
        jobs[i].next = &next[kind];
        ring_op_init(&jobs[i].op, job_done);
        ring_job(ring, &jobs[i].op, (enum ring_job_kind)kind, note_turn);
    }
    while (ring_in_flight(ring) > 0)
        (void)ring_poll(ring, UINT64_MAX);
    for (int kind = 0; kind < RING_JOB_KINDS; kind++) {
        cr_expect_eq(next[kind], COUNT / RING_JOB_KINDS);
        for (int i = 0; i < next[kind]; i++)
            cr_assert_eq(order[kind][i], i * RING_JOB_KINDS + kind);
    }
    ring_destroy(&ring);
    worker_pool_destroy(&params.workers);
    cr_expect_null(params.workers);
}

/* A job of one kind that waits for a job of the other: only possible when the kinds do not share
 * threads. */
struct gate {
    struct ring_op op;
    int fds[2];
};

static int wait_at_gate(struct ring_op *op)
{
    struct gate *gate = CONTAINER_OF(op, struct gate, op);
    char byte;

    return (int)read(gate->fds[0], &byte, 1);
}

static int open_gate(struct ring_op *op)
{
    struct gate *gate = CONTAINER_OF(op, struct gate, op);

    return (int)write(gate->fds[1], "x", 1);
}

static void gate_done(struct ring_op *op)
{
    cr_assert_eq(op->result, 1);
}

Test(thread, the_kinds_do_not_wait_for_each_other)
{
    struct ring_params params = {.entries = 64, .buffer_count = 16};
    struct ring *ring = NULL;
    struct gate waiting, opening;

    cr_assert_eq(pipe(waiting.fds), 0);
    memcpy(opening.fds, waiting.fds, sizeof(opening.fds));
    cr_assert_eq(worker_pool_create(1, 1, &params.workers), 0);
    cr_assert_eq(ring_create(&params, &ring), 0);
    ring_op_init(&waiting.op, gate_done);
    ring_op_init(&opening.op, gate_done);
    ring_job(ring, &waiting.op, RING_JOB_HASH, wait_at_gate);
    ring_job(ring, &opening.op, RING_JOB_FILE, open_gate);
    while (ring_in_flight(ring) > 0)
        (void)ring_poll(ring, UINT64_MAX);
    ring_destroy(&ring);
    worker_pool_destroy(&params.workers);
}

/* ---- the log's writer ------------------------------------------------------------------------ */

static size_t count_lines(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t lines = 0;
    int c;

    cr_assert_not_null(file);
    while ((c = fgetc(file)) != EOF)
        lines += c == '\n';
    fclose(file);
    return lines;
}

Test(thread, the_writer_carries_out_all_and_changes_files)
{
    char first[] = "/tmp/kilat-log-XXXXXX", second[] = "/tmp/kilat-log-XXXXXX";
    struct log *logs[2];
    struct log_writer *writer = NULL;
    int first_fd = mkstemp(first);
    int second_fd = mkstemp(second);

    for (int i = 0; i < 2; i++)
        cr_assert_eq(log_create(65536, LOG_INFO, LOG_LOGFMT, &logs[i]), 0);
    cr_assert_eq(log_writer_start(logs, 2, first_fd, &writer), 0);
    for (int i = 0; i < 100; i++)
        log_event(logs[i % 2], LOG_NOTICE, "one", log_u64("i", (uint64_t)i));
    while (count_lines(first) < 100)
        (void)sched_yield();
    log_writer_reopen(writer, second_fd);
    while (fcntl(first_fd, F_GETFD) >= 0) /* closed by the writer when it has changed over */
        (void)sched_yield();
    for (int i = 0; i < 50; i++)
        log_event(logs[i % 2], LOG_NOTICE, "two", log_u64("i", (uint64_t)i));
    log_writer_stop(&writer);
    cr_expect_null(writer);
    cr_expect_eq(count_lines(first), 100);
    cr_expect_eq(count_lines(second), 50, "also what came just before the stop");
    for (int i = 0; i < 2; i++)
        log_destroy(&logs[i]);
    (void)unlink(first);
    (void)unlink(second);
}

/* ---- shards ---------------------------------------------------------------------------------- */

struct seen {
    int cpu;
    int cpus;
    bool signals_blocked;
};

static int look_around(struct shard *shard, void *context)
{
    struct seen *seen = &((struct seen *)context)[shard->index];
    cpu_set_t allowed;
    sigset_t blocked;

    cr_assert_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    seen->cpus = CPU_COUNT(&allowed);
    seen->cpu = sched_getcpu();
    cr_assert_eq(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
    seen->signals_blocked = sigismember(&blocked, SIGTERM) == 1;
    shard_stop(shard);
    return 0;
}

Test(thread, a_shard_has_one_cpu_and_no_signals)
{
    struct seen seen[5] = {{0}};
    const struct shard_params params = {.count = 5,
                                        .ring = {.entries = 64, .buffer_count = 16},
                                        .start = look_around,
                                        .context = seen};
    struct shard_group *group = NULL;

    cr_assert_eq(shard_group_start(&params, &group), 0);
    shard_group_join(&group);
    for (uint32_t i = 0; i < 5; i++) {
        cr_expect_eq(seen[i].cpus, 1);
        cr_expect(seen[i].signals_blocked);
        cr_expect_eq(seen[i].cpu, seen[i % thread_cpu_count()].cpu);
    }
}
