#include "storage/spool_private.h"

#include <errno.h>

/* One write in flight; meanwhile the next group gathers, and what was full stands in `closed`.
 * There is no timer: a group is as large as what came while the one before was written.
 *
 * reserve -> open -> (full, or its turn) closed -> sealed for its place -> flying -> durable
 * ^------- write failed: once more, next segment --+ */

/* What an ordinary record and the padding of the groups before it need at most. A larger one that
 * does not fit into the last segment is refused when its turn comes. */
#define RECORD_ROOM_BYTES (128u * 1024u)

static void log_submit(struct spool_log *log);
static void log_written(struct ring_op *op);

static void log_task(struct shard_task *task)
{
    log_submit(CONTAINER_OF(task, struct spool_log, task));
}

static void log_retry(struct timer *timer)
{
    struct spool_log *log = CONTAINER_OF(timer, struct spool_log, retry);

    log->broken = false;
    log_submit(log);
}

void spool_log_init(struct spool_log *log, struct spool *spool, char stream)
{
    *log = (struct spool_log){
        .spool = spool,
        .stream = stream,
        .segment_bytes = stream == 'J' ? spool_journal_segment_bytes(&spool->config)
                                       : spool->config.segment_bytes,
        .next_lsn = spool->directory.super.epoch << SPOOL_LSN_BITS | 1,
    };
    list_init(&log->closed);
    ring_op_init(&log->op, log_written);
    timer_init(&log->retry, log_retry);
    shard_task_init(&log->task, log_task);
    spool_maker_init(&log->maker, log);
}

void spool_log_deinit(struct spool_log *log)
{
    struct timer_wheel *timers = &log->spool->shard->timers;

    ASSERT(log->flying == NULL && log->open == NULL && list_empty(&log->closed));
    timer_disarm(timers, &log->retry);
    shard_undefer(&log->task);
    spool_maker_deinit(&log->maker);
    spool_group_drop_slab(log);
    /* All but J's are in the spool's table, which frees them. */
    for (int i = 0; i < 2; i++) {
        struct spool_segment *segment = i == 0 ? log->current : log->next;

        if (segment == NULL)
            continue;
        segment->pins--;
        if (log->stream == 'J')
            spool_segment_free(segment);
    }
    log->current = log->next = NULL;
}

bool spool_log_idle(const struct spool_log *log)
{
    return log->flying == NULL && log->open == NULL && list_empty(&log->closed) && !log->flushing;
}

bool spool_log_flushed(const struct spool_log *log)
{
    return !log->unflushed && !log->flushing;
}

void spool_log_want_flush(struct spool_log *log)
{
    log->flush_wanted = log->unflushed;
    if (log->flush_wanted)
        shard_defer(log->spool->shard, &log->task);
}

/* ---- gathering ------------------------------------------------------------------------------ */

static void log_close_open(struct spool_log *log)
{
    spool_group_close(log, log->open);
    list_push_back(&log->closed, &log->open->node);
    log->open = NULL;
    log->flush_open = false;
}

uint8_t *spool_log_reserve(struct spool_log *log, uint32_t record_bytes, uint32_t *ret_group_offset)
{
    uint32_t aligned = (uint32_t)spool_record_aligned(record_bytes);
    struct spool_group *group = log->open;
    uint8_t *record;

    ASSERT(record_bytes <= SPOOL_RECORD_BYTES_MAX);
    if (group != NULL && group->room_bytes - group->used_bytes < aligned) {
        log_close_open(log);
        group = NULL;
        shard_defer(log->spool->shard, &log->task);
    }
    if (group == NULL)
        group = log->open = spool_group_create(log);
    if (group == NULL)
        return NULL;
    record = group->data + group->used_bytes;
    *ret_group_offset = group->used_bytes;
    memset(record + record_bytes, 0, aligned - record_bytes);
    group->used_bytes += aligned;
    group->record_count++;
    log->pending_bytes += aligned;
    return record;
}

void spool_log_flush(struct spool_log *log)
{
    if (log->open == NULL)
        return;
    log->flush_open = true;
    if (log->flying == NULL)
        shard_defer(log->spool->shard, &log->task);
}

/* ---- a place -------------------------------------------------------------------------------- */

static void log_retire_current(struct spool_log *log)
{
    struct spool_segment *segment = log->current;

    log->current = NULL;
    segment->sealed = true;
    segment->sealed_ns = log->spool->shard->now_ns;
    spool_segment_unpin(segment);
    if (log->stream == 'J') {
        /* Nobody reads J while we run. */
        if (list_linked(&segment->idle_node)) {
            list_remove(&segment->idle_node);
            log->spool->idle_segment_count--;
        }
        spool_segment_free(segment);
    }
}

void spool_log_end_segment(struct spool_log *log)
{
    ASSERT(spool_log_idle(log) && log->current != NULL && !log->unflushed);
    log_retire_current(log);
}

int spool_log_error(const struct spool_log *log)
{
    int error = log->maker.error != 0 ? log->maker.error : log->maker.source->error;

    if (log->broken)
        return -EIO;
    if (error == 0 || log->next != NULL)
        return 0;
    if (log->current != NULL && log->current->size_bytes - log->current->used_bytes >
                                    log->pending_bytes + RECORD_ROOM_BYTES)
        return 0;
    return error == -ENOSPC || error == -EDQUOT ? -ENOSPC : -EIO;
}

/* True when `group` has a place to go to. Otherwise spool_log_segment_ready() comes. */
static bool log_place(struct spool_log *log, const struct spool_group *group)
{
    if (log->current != NULL &&
        log->current->used_bytes + group->group_bytes > log->current->size_bytes)
        log_retire_current(log);
    if (log->current == NULL && log->next != NULL) {
        log->current = log->next;
        log->next = NULL;
        spool_maker_run(&log->maker);
    }
    log->urgent = log->current == NULL && group->urgent;
    if (log->urgent)
        spool_maker_hurry(&log->maker);
    else if (log->current == NULL)
        spool_maker_run(&log->maker);
    return log->current != NULL;
}

/* Gives the records and the group the checksums of their place. */
static void log_seal(struct spool_log *log, struct spool_group *group)
{
    struct spool_segment *segment = log->current;
    uint32_t at = SPOOL_GROUP_HEADER_BYTES;

    group->segment = segment;
    group->offset = segment->used_bytes;
    for (uint32_t i = 0; i < group->record_count; i++) {
        uint8_t *record = group->data + at;

        if (log->stream == 'J')
            spool_journal_seal(record, segment->seed, group->offset + at);
        else
            spool_record_seal(record, segment->seed, group->offset + at);
        at += (uint32_t)spool_record_aligned(spool_record_length(log->stream, record));
    }
    ASSERT(at == group->used_bytes);
    group->header = (struct spool_group_header){
        .group_bytes = group->group_bytes,
        .payload_end = group->used_bytes,
        .record_count = group->record_count,
        .lsn = log->next_lsn++,
        .incarnation = segment->incarnation,
        .durable_lsn = log->durable_lsn,
        .previous_lsn = log->previous_lsn,
        .previous_crc = log->previous_crc,
    };
    spool_group_header_encode(&group->header, segment->seed, group->offset, group->data);
}

/* Cached groups of a segment are flushed before the next one begins, so that a flush always knows its file. */
static bool log_flush_first(struct spool_log *log, const struct spool_group *group)
{
    if (!log->unflushed || log->current == NULL)
        return false;
    if (!log->flush_wanted && (group == NULL || log->current->used_bytes + group->group_bytes <=
                                                    log->current->size_bytes))
        return false;
    log->flushing = true;
    log->flush_wanted = false;
    ring_sync(log->spool->shard->ring, &log->op, log->current->fd);
    return true;
}

static bool group_synced(const struct spool_log *log, const struct spool_group *group)
{
    /* An empty group vouches for what stands before it. */
    return log->stream != 'D' || group->synced || group->record_count == 0;
}

static void log_submit(struct spool_log *log)
{
    struct spool_group *group;

    if (log->flying != NULL || log->flushing || log->broken)
        return;
    if (list_empty(&log->closed) && log->flush_open)
        log_close_open(log);
    group =
        list_empty(&log->closed) ? NULL : CONTAINER_OF(log->closed.next, struct spool_group, node);
    if (log_flush_first(log, group) || group == NULL)
        return;
    if (!log_place(log, group))
        return;
    list_remove(&group->node);
    log_seal(log, group);
    log->flying = group;
    log->syncing = false;
    group->tries++;
    ring_write(log->spool->shard->ring, &log->op, log->current->fd,
               slice_of(group->data, group->group_bytes), group->offset,
               log->spool->direct && group_synced(log, group) && !log->unflushed);
}

/* ---- what becomes of a group ---------------------------------------------------------------- */

static void log_group_done(struct spool_log *log, struct spool_group *group, int result)
{
    struct spool *spool = log->spool;

    log->pending_bytes -= group->used_bytes - SPOOL_GROUP_HEADER_BYTES;
    if (log->stream == 'J') {
        spool_journal_group_done(spool, group, result);
        spool_group_free(group);
    } else if (log->stream == 'R') {
        spool_relocate_group_done(spool, group, result);
        spool_group_free(group);
    } else if (result == 0) {
        spool_group_heat(spool, group);
        spool_append_group_done(spool, group, 0);
        spool_group_unref(spool, group);
    } else {
        spool_append_group_done(spool, group, result);
        spool_group_free(group);
    }
}

static void log_count(struct spool_log *log, const struct spool_group *group, bool synced)
{
    struct spool_counters *counters = &log->spool->counters;

    if (log->stream == 'J') {
        counters->journal_flushes++;
        counters->journal_bytes += group->group_bytes;
    } else if (log->stream == 'R') {
        counters->relocated_bytes += group->group_bytes;
    } else {
        counters->groups++;
        counters->groups_cached += !synced;
        counters->group_bytes += group->group_bytes;
    }
}

/* Written, and on stable storage if somebody wanted that. */
static void log_group_durable(struct spool_log *log, struct spool_group *group)
{
    struct spool *spool = log->spool;
    bool synced = group_synced(log, group);

    log->previous_lsn = group->header.lsn;
    log->previous_crc = group->header.crc;
    if (synced)
        log->durable_lsn = log->previous_lsn;
    log->unflushed = !synced;
    log->current->used_bytes += group->group_bytes;
    log->groups_durable++;
    log_count(log, group, synced);
    if (log->stream == 'J')
        spool->journal_failed = false;
    log_group_done(log, group, 0);
    if (log->stream == 'J')
        spool_live_journal(spool);
}

/* The segment is given up. What was acknowledged as cached is in it, and nobody will flush it: a sync that failed is not
 * repeated as a remedy (QUEUE I21), since it may answer 0 for pages that are gone. */
static void log_unflushed_lost(struct spool_log *log)
{
    if (log->unflushed)
        log_event(log->spool->shard->log, LOG_ERROR, "spool.flush.failed",
                  log_cstr("spool", log->spool->config.path),
                  log_u64("segment", log->current->number));
    log->unflushed = log->flush_wanted = false;
}

/* A failed write is final for its segment (QUEUE I21). */
static void log_group_failed(struct spool_log *log, struct spool_group *group, int error)
{
    struct spool *spool = log->spool;

    log_event(spool->shard->log, LOG_ERROR, "spool.write.failed",
              log_cstr("spool", spool->config.path), log_text("stream", slice_of(&log->stream, 1)),
              log_u64("segment", log->current->number), log_u64("offset", group->offset),
              log_u64("bytes", group->group_bytes), log_u64("try", group->tries),
              log_cstr("error", strerror(-error)));
    log_unflushed_lost(log);
    log->current->failed = true;
    log_retire_current(log);
    group->segment = NULL;
    if (group->tries < 2) {
        list_push_front(&log->closed, &group->node);
        return;
    }
    log->broken = true;
    shard_timer_arm(spool->shard, &log->retry, SPOOL_RETRY_MS);
    if (log->stream != 'J') {
        log_group_done(log, group, -EIO);
        return;
    }
    /* What became of a message must not be forgotten while we run, and whoever waits for it must
     * not be told that it failed when it may be on disk: it is tried until it works. */
    spool->journal_failed = true;
    group->tries = 1;
    list_push_front(&log->closed, &group->node);
    if (spool->stopping)
        spool_log_give_up(log, -EIO);
}

static void log_flushed(struct spool_log *log, int result)
{
    log->flushing = false;
    if (result == 0) {
        log->unflushed = false;
        log->durable_lsn = log->previous_lsn;
        log->spool->counters.flushes++;
    } else {
        log_unflushed_lost(log);
        log->current->failed = true;
        log_retire_current(log);
    }
}

/* Does what was written still have to be flushed? */
static bool log_sync_follows(const struct spool_log *log, const struct spool_group *group)
{
    return group_synced(log, group) && (!log->spool->direct || log->unflushed);
}

static void log_written(struct ring_op *op)
{
    struct spool_log *log = CONTAINER_OF(op, struct spool_log, op);
    struct spool *spool = log->spool;
    struct spool_group *group = log->flying;
    int result = op->result;

    if (log->flushing) {
        log_flushed(log, result);
        shard_defer(spool->shard, &log->task);
        spool_stop_check(spool);
        return;
    }
    if (!log->syncing) {
        result =
            op->result == (int32_t)group->group_bytes ? 0 : (op->result < 0 ? op->result : -EIO);
        if (result == 0 && log_sync_follows(log, group)) {
            log->syncing = true;
            spool->counters.flushes++;
            ring_sync(spool->shard->ring, &log->op, log->current->fd);
            return;
        }
    }
    log->flying = NULL;
    if (result == 0)
        log_group_durable(log, group);
    else
        log_group_failed(log, group, result);
    /* At the end of the tick, so that what comes after these 250s is in the next group. */
    shard_defer(spool->shard, &log->task);
    spool_room_check(spool);
    spool_stop_check(spool);
}

/* ---- no segment ----------------------------------------------------------------------------- */

void spool_log_give_up(struct spool_log *log, int error)
{
    struct list_node lost;
    struct list_node *node;

    if (log->open != NULL)
        log_close_open(log);
    list_init(&lost);
    list_splice_back(&lost, &log->closed);
    while ((node = list_pop_front(&lost)) != NULL)
        log_group_done(log, CONTAINER_OF(node, struct spool_group, node), error);
}

void spool_log_segment_ready(struct spool_log *log)
{
    struct spool *spool = log->spool;
    bool waits = log->flying == NULL && log->current == NULL && !spool_log_idle(log);

    if (log->next != NULL || (log->maker.error == 0 && log->maker.source->error == 0)) {
        if (log->stream == 'J' && spool_log_idle(log))
            spool->journal_failed = false; /* nothing waits that would have to prove it */
        log_submit(log);
        return;
    }
    if (log->stream == 'J') {
        spool->journal_failed = spool->journal_failed || log->current == NULL;
        if (spool->stopping)
            spool_log_give_up(log, -EIO);
    } else if (waits) {
        spool_log_give_up(log, spool_log_error(log));
    }
    spool_room_check(spool);
}
