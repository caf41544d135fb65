#include "storage/spool_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Segments are made ahead of need, because an append must never wait for a file to be filled with
 * zeros: while one is written the next is activated, and behind it stand the spares. All of it
 * happens in jobs, one at a time. */

#define FILL_STEP_BYTES                                                                            \
    (4 * MIB) /* of one job: other work of the worker waits a few milliseconds at most */

/* Kept beyond the target when they come back used: segments die in bursts, and filling one anew writes all its bytes
 * once more. */
#define SPARE_SURPLUS 4

static void maker_done(struct ring_op *op);

static void maker_retry(struct timer *timer)
{
    struct spool_maker *maker = CONTAINER_OF(timer, struct spool_maker, retry);

    spool_maker_run(maker);
}

void spool_maker_init(struct spool_maker *maker, struct spool_log *log)
{
    struct spool *spool = log->spool;

    *maker = (struct spool_maker){
        .log = log,
        .spare_target = log->stream == 'D' ? MAX(spool->config.spare_segments, 1u) : 1,
        .next_spare = 1,
        .next_number = 1,
        .dir_fd = spool->directory.dir_fd,
        .spare_fd = spool->directory.spare_fd,
        .direct = spool->direct,
        .fd = -1,
    };
    ring_op_init(&maker->op, maker_done);
    timer_init(&maker->retry, maker_retry);
}

void spool_maker_deinit(struct spool_maker *maker)
{
    ASSERT(!maker->op.in_flight);
    timer_disarm(&maker->log->spool->shard->timers, &maker->retry);
    if (maker->fd >= 0)
        ring_close(maker->fd); /* half filled; recovery removes it */
    free(maker->spares);
    maker->spares = NULL;
}

int spool_maker_add_spare(struct spool_maker *maker, uint32_t number)
{
    if (maker->spare_count == maker->spare_capacity) {
        uint32_t capacity = MAX(maker->spare_capacity * 2, 8u);
        uint32_t *grown = realloc(maker->spares, capacity * sizeof(uint32_t));

        if (grown == NULL)
            return -ENOMEM;
        maker->spares = grown;
        maker->spare_capacity = capacity;
    }
    maker->spares[maker->spare_count++] = number;
    return 0;
}

bool spool_maker_wants(const struct spool_maker *maker, uint64_t size_bytes)
{
    return size_bytes == maker->log->segment_bytes &&
           maker->spare_count < maker->spare_target + SPARE_SURPLUS;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static int maker_activate_job(struct ring_op *op)
{
    struct spool_maker *maker = CONTAINER_OF(op, struct spool_maker, op);

    return spool_segment_activate(maker->dir_fd, maker->spare_fd, maker->name, maker->direct,
                                  &maker->header, &maker->fd);
}

/* One step of a spare: the first makes the file, the last gives it its name. */
static int maker_fill_job(struct ring_op *op)
{
    struct spool_maker *maker = CONTAINER_OF(op, struct spool_maker, op);
    uint64_t step = MIN(FILL_STEP_BYTES, maker->size_bytes - maker->filled_bytes);
    int r = 0;

    if (maker->fd < 0)
        r = spool_spare_create(maker->spare_fd, maker->direct, maker->name, &maker->fd);
    if (r < 0)
        return r;
    r = spool_spare_fill(maker->fd, maker->filled_bytes, step, maker->size_bytes);
    maker->filled_bytes += step;
    if (r == 0 && maker->filled_bytes < maker->size_bytes)
        return 0;
    if (r == 0)
        r = spool_spare_finish(maker->spare_fd, maker->fd, maker->name);
    else
        spool_spare_abandon(maker->spare_fd, maker->fd, maker->name);
    maker->fd = -1;
    return r;
}

/* ---- what is to be done next ---------------------------------------------------------------- */

static void maker_begin_activate(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;
    struct spool *spool = log->spool;

    maker->step = SPOOL_MAKER_ACTIVATE;
    maker->header = (struct spool_segment_header){
        .features = {.major = SPOOL_MAJOR, .minor = SPOOL_MINOR},
        .stream = log->stream,
        .number = maker->next_number,
        .epoch = spool->directory.super.epoch,
        .size_bytes = log->segment_bytes,
        .spool_number = spool->config.number,
    };
    memcpy(maker->header.uuid, spool->directory.super.uuid, SPOOL_UUID_BYTES);
    spool_segment_name((char)byte_lower((uint8_t)log->stream),
                       maker->spares[maker->spare_count - 1], maker->name);
    ring_job(spool->shard->ring, &maker->op, RING_JOB_FILE, maker_activate_job);
}

static void maker_begin_fill(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;

    maker->step = SPOOL_MAKER_FILL;
    maker->size_bytes = log->segment_bytes;
    maker->filled_bytes = 0;
    maker->fill_number = maker->next_spare++;
    spool_segment_name((char)byte_lower((uint8_t)log->stream), maker->fill_number, maker->name);
    ring_job(log->spool->shard->ring, &maker->op, RING_JOB_FILE, maker_fill_job);
}

void spool_maker_run(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;

    if (maker->step != SPOOL_MAKER_IDLE || timer_armed(&maker->retry))
        return;
    if (log->spool->stopping && spool_log_idle(log))
        return;
    if (log->next == NULL && maker->spare_count > 0)
        maker_begin_activate(maker);
    else if (maker->spare_count < maker->spare_target)
        maker_begin_fill(maker);
}

static void maker_failed(struct spool_maker *maker, int error)
{
    struct spool_log *log = maker->log;
    struct spool *spool = log->spool;

    maker->error = error;
    log_event(spool->shard->log, LOG_ERROR, "spool.segment.failed",
              log_cstr("spool", spool->config.path), log_text("stream", slice_of(&log->stream, 1)),
              log_cstr("error", strerror(-error)));
    shard_timer_arm(spool->shard, &maker->retry, SPOOL_RETRY_MS);
    spool_log_segment_ready(log);
}

static int maker_activated(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;
    struct spool_segment *segment;
    int r = spool_segment_add(log->spool, log->stream, maker->header.number,
                              maker->header.size_bytes, maker->fd, &segment);

    if (r < 0) {
        ring_close(maker->fd);
        maker->fd = -1;
        return r;
    }
    maker->fd = -1;
    segment->pins = 1; /* while it is written */
    segment->incarnation = maker->header.incarnation;
    segment->seed = spool_seed(maker->header.uuid, maker->header.incarnation);
    log->next = segment;
    return 0;
}

static void maker_done(struct ring_op *op)
{
    struct spool_maker *maker = CONTAINER_OF(op, struct spool_maker, op);
    struct spool_log *log = maker->log;
    enum spool_maker_step step = maker->step;
    int r = op->result;

    if (step == SPOOL_MAKER_FILL && r == 0 && maker->filled_bytes < maker->size_bytes) {
        ring_job(log->spool->shard->ring, &maker->op, RING_JOB_FILE, maker_fill_job);
        return;
    }
    maker->step = SPOOL_MAKER_IDLE;
    if (step == SPOOL_MAKER_ACTIVATE) {
        /* Whatever happened, that spare and that number are used up: a retry finds no half-
         * renamed trace of this one. */
        maker->spare_count--;
        maker->next_number++;
        if (r == 0)
            r = maker_activated(maker);
    } else if (r == 0) {
        r = spool_maker_add_spare(maker, maker->fill_number);
    }
    if (r < 0) {
        maker_failed(maker, r);
    } else {
        maker->error = 0;
        spool_log_segment_ready(log);
        spool_maker_run(maker);
    }
    spool_stop_check(log->spool);
}
