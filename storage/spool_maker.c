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
/* J goes on while the disk is full: with one segment in use and one activated, so many more hold millions of results. */
#define JOURNAL_SPARES 2

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
        .source = log->stream == 'R' ? &spool->d.maker : &log->maker,
        .spare_target = log->stream == 'D' ? MAX(spool->config.spare_segments, 1u) : JOURNAL_SPARES,
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

static bool maker_disk_full(const struct spool_maker *maker)
{
    struct file_system_info info;

    return maker->free_bytes_needed > 0 && file_system_info(maker->dir_fd, &info) == 0 &&
           info.total_bytes > 0 && info.free_bytes < maker->free_bytes_needed;
}

static int maker_activate_job(struct ring_op *op)
{
    struct spool_maker *maker = CONTAINER_OF(op, struct spool_maker, op);

    maker->refused = maker_disk_full(maker);
    if (maker->refused)
        return -ENOSPC;
    return spool_segment_activate(maker->dir_fd, maker->spare_fd, maker->name, maker->direct,
                                  &maker->header, &maker->fd);
}

/* One step of a spare: the first makes the file, the last gives it its name. */
static int maker_fill_job(struct ring_op *op)
{
    struct spool_maker *maker = CONTAINER_OF(op, struct spool_maker, op);
    uint64_t step = MIN(FILL_STEP_BYTES, maker->size_bytes - maker->filled_bytes);
    int r = 0;

    /* Asked first: what is filled up to the last byte and then given back is missing elsewhere meanwhile. */
    if (maker->fd < 0 && maker_disk_full(maker))
        return -ENOSPC;
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

static int maker_yield_job(struct ring_op *op)
{
    struct spool_maker *maker = CONTAINER_OF(op, struct spool_maker, op);

    return file_unlink(maker->spare_fd, maker->name);
}

/* ---- what is to be done next ---------------------------------------------------------------- */

/* The last spare is nothing that accepting may use (QUEUE I22): it is for reports, for the cold lane, and goes to make room
 * for a checkpoint. It is used by accepting when there is room for another, and for what J may need until then. */
static uint64_t maker_reserve(const struct spool_maker *maker)
{
    const struct spool *spool = maker->log->spool;

    return spool->d.segment_bytes + JOURNAL_SPARES * spool->j.segment_bytes +
           spool->config.keep_free_bytes;
}

static void maker_begin_activate(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;
    struct spool *spool = log->spool;
    struct spool_maker *from = maker->source;

    maker->step = SPOOL_MAKER_ACTIVATE;
    maker->header = (struct spool_segment_header){
        .features = {.major = SPOOL_MAJOR, .minor = SPOOL_MINOR},
        .stream = log->stream,
        .number = maker->next_number,
        .epoch = spool->directory.super.epoch,
        .size_bytes = log->segment_bytes,
        .spool_number = spool->config.number,
    };
    memcpy(maker->header.uuid, spool->uuid, SPOOL_UUID_BYTES);
    maker->free_bytes_needed =
        log->stream == 'D' && from->spare_count == 1 && !log->urgent ? maker_reserve(maker) : 0;
    maker->spare = from->spares[--from->spare_count];
    spool_segment_name((char)byte_lower((uint8_t)from->log->stream), maker->spare, maker->name);
    ring_job(spool->shard->ring, &maker->op, RING_JOB_FILE, maker_activate_job);
}

static void maker_begin_fill(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;

    maker->step = SPOOL_MAKER_FILL;
    maker->size_bytes = log->segment_bytes;
    maker->filled_bytes = 0;
    /* What is in reserve comes first; the rest leaves others their room. */
    maker->free_bytes_needed =
        maker->spare_count == 0 || log->stream == 'J' ? maker->size_bytes : maker_reserve(maker);
    maker->fill_number = maker->next_spare++;
    spool_segment_name((char)byte_lower((uint8_t)log->stream), maker->fill_number, maker->name);
    ring_job(log->spool->shard->ring, &maker->op, RING_JOB_FILE, maker_fill_job);
}

/* The cold lane may never be needed: its segment gets its name when a group waits for it. */
static bool maker_wanted(const struct spool_log *log)
{
    return log->stream != 'R' || !spool_log_idle(log);
}

void spool_maker_hurry(struct spool_maker *maker)
{
    timer_disarm(&maker->log->spool->shard->timers, &maker->retry);
    spool_maker_run(maker);
}

void spool_maker_run(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;

    if (maker->step != SPOOL_MAKER_IDLE || timer_armed(&maker->retry))
        return;
    if (log->spool->stopping && spool_log_idle(log))
        return;
    if (log->next == NULL && maker->source->spare_count > 0 && maker_wanted(log))
        maker_begin_activate(maker);
    else if (maker->source != maker)
        spool_maker_run(maker->source);
    else if (maker->spare_count < maker->spare_target)
        maker_begin_fill(maker);
}

void spool_maker_yield(struct spool_maker *maker)
{
    struct spool *spool = maker->log->spool;

    if (maker->step != SPOOL_MAKER_IDLE || maker->spare_count == 0 || spool->stopping)
        return;
    maker->step = SPOOL_MAKER_YIELD;
    maker->spare = maker->spares[--maker->spare_count];
    spool_segment_name((char)byte_lower((uint8_t)maker->log->stream), maker->spare, maker->name);
    ring_job(spool->shard->ring, &maker->op, RING_JOB_FILE, maker_yield_job);
}

/* D has a spare, or cannot get one: the cold lane may be waiting for it. */
static void maker_share(struct spool *spool)
{
    if (!spool_log_idle(&spool->r) && spool->r.current == NULL)
        spool_log_segment_ready(&spool->r);
}

static void maker_failed(struct spool_maker *maker, int error)
{
    struct spool_log *log = maker->log;
    struct spool *spool = log->spool;

    /* It is tried each second: said once. */
    if (maker->error != error)
        log_event(spool->shard->log, LOG_ERROR, "spool.segment.failed",
                  log_cstr("spool", spool->config.path),
                  log_text("stream", slice_of(&log->stream, 1)),
                  log_cstr("error", strerror(-error)));
    maker->error = error;
    shard_timer_arm(spool->shard, &maker->retry, SPOOL_RETRY_MS);
    spool_log_segment_ready(log);
    if (log->stream == 'D')
        maker_share(spool);
}

static int maker_activated(struct spool_maker *maker)
{
    struct spool_log *log = maker->log;
    struct spool_segment *segment;
    uint32_t number = maker->header.number | (log->stream == 'R' ? SPOOL_COLD : 0u);
    int r = spool_segment_add(log->spool, log->stream, number, maker->header.size_bytes, maker->fd,
                              &segment);

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
    if (step == SPOOL_MAKER_YIELD)
        r = -ENOSPC; /* whatever became of the file, others go first for a second */
    if (step == SPOOL_MAKER_ACTIVATE && maker->refused) {
        (void)spool_maker_add_spare(maker->source, maker->spare); /* there was room for it */
    } else if (step == SPOOL_MAKER_ACTIVATE) {
        /* Whatever happened, that number is used up as the spare is: a retry finds no half-renamed
         * trace of this one. */
        maker->next_number++;
        if (r == 0)
            r = maker_activated(maker);
    } else if (step == SPOOL_MAKER_FILL && r == 0) {
        r = spool_maker_add_spare(maker, maker->fill_number);
    }
    if (r < 0) {
        maker_failed(maker, r);
    } else {
        maker->error = 0;
        spool_log_segment_ready(log);
        spool_maker_run(maker);
        maker_share(log->spool);
    }
    spool_stop_check(log->spool);
}
