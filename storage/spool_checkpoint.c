#include "storage/spool_checkpoint_private.h"

#include <errno.h>
#include <stdlib.h>

/* A checkpoint, step by step (storage/README.md, Checkpoints, has the reasons). What must hold, and where it is
 * seen to:
 *
 *   QUEUE I13  places_take(): c_d is behind what was submitted, c_j at what is durable
 *   QUEUE I14  the owner leaves out what spool_image_wants() refuses
 *   QUEUE I15  groups_ended() before the first block; synced, read back and verified before SUPER
 *   QUEUE I16  journals_list(): nothing at or above c_j of the older one that is kept
 *
 * Each step ends in checkpoint_go(), the one place that decides what comes next. */

#define CHECKPOINT_BYTES (256 * MIB)
#define CHECKPOINT_MS (60 * 1000u)
#define SYNC_BLOCKS 8u
/* One block takes so long at least, that of 64 MiB/s: less than what a disk does, so that the logs go first. */
#define PACE_MS 16u

static void checkpoint_go(struct spool *spool);

static struct spool *spool_of(struct spool_checkpoint *checkpoint)
{
    return CONTAINER_OF(checkpoint, struct spool, checkpoint);
}

/* ---- when ----------------------------------------------------------------------------------- */

static uint64_t bytes_written(const struct spool *spool)
{
    return spool->counters.group_bytes + spool->counters.journal_bytes +
           spool->counters.relocated_bytes;
}

static uint64_t groups_written(const struct spool *spool)
{
    return spool->d.groups_durable + spool->r.groups_durable + spool->j.groups_durable;
}

static bool may_write(const struct spool *spool)
{
    return spool->restored && !spool->incomplete && spool->owner->image_begin != NULL;
}

static bool something_changed(const struct spool *spool)
{
    return spool->checkpoint.replayed || groups_written(spool) != spool->checkpoint.groups_mark;
}

static uint64_t bytes_limit(const struct spool *spool)
{
    return spool->config.checkpoint_bytes != 0 ? spool->config.checkpoint_bytes : CHECKPOINT_BYTES;
}

static void schedule_arm(struct spool *spool)
{
    if (!spool->stopping)
        shard_timer_arm(spool->shard, &spool->checkpoint.schedule,
                        spool->config.checkpoint_ms != 0 ? spool->config.checkpoint_ms
                                                         : CHECKPOINT_MS);
}

/* ---- its places ----------------------------------------------------------------------------- */

/* `submitted`: behind what was given to the kernel, not at what is known to be durable. */
static struct spool_place log_end(const struct spool_log *log, bool submitted)
{
    const struct spool_segment *segment = log->current != NULL ? log->current : log->next;
    struct spool_place place = {log->maker.next_number, SPOOL_BLOCK_BYTES / SPOOL_RECORD_ALIGN};
    uint64_t end;

    if (segment == NULL)
        return place; /* of the next one that is made */
    end = segment->used_bytes;
    if (submitted && log->flying != NULL)
        end = log->flying->offset + log->flying->group_bytes;
    return (struct spool_place){segment->number & ~SPOOL_COLD,
                                (uint32_t)(end / SPOOL_RECORD_ALIGN)};
}

static void places_take(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    checkpoint->places = (struct spool_super_checkpoint){
        .number = checkpoint->places.number,
        .d = log_end(&spool->d, true),
        .r = log_end(&spool->r, true),
        .j = log_end(&spool->j, false),
    };
    checkpoint->wait_d_lsn = spool->d.next_lsn - 1;
    checkpoint->wait_r_lsn = spool->r.next_lsn - 1;
    checkpoint->bytes_mark = bytes_written(spool);
    checkpoint->groups_mark = groups_written(spool);
    checkpoint->replayed = false;
}

/* All that was submitted when the checkpoint began is on stable storage, or has failed and is written again at or
 * above its places. */
static bool log_ended(struct spool_log *log, uint64_t lsn)
{
    if (log->durable_lsn >= lsn || (log->flying == NULL && spool_log_flushed(log)))
        return true;
    if (!spool_log_flushed(log))
        spool_log_want_flush(log);
    return false;
}

static bool groups_ended(struct spool *spool)
{
    bool d = log_ended(&spool->d, spool->checkpoint.wait_d_lsn);

    return log_ended(&spool->r, spool->checkpoint.wait_r_lsn) && d;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void owner_end(struct spool *spool)
{
    if (spool->checkpoint.asking)
        spool->owner->image_end(spool->owner_context);
    spool->checkpoint.asking = false;
}

static void checkpoint_ended(struct spool *spool, int result)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;
    spool_checkpoint_fn *written = checkpoint->written;

    checkpoint->step = SPOOL_CHECKPOINT_IDLE;
    checkpoint->written = NULL;
    free(checkpoint->block);
    checkpoint->block = NULL;
    schedule_arm(spool);
    if (written != NULL && !spool->stopping)
        written(checkpoint->written_context, result);
    spool_stop_check(spool);
}

static void job_begin(struct spool *spool, enum spool_checkpoint_step step, ring_job_fn *job)
{
    spool->checkpoint.step = step;
    ring_job(spool->shard->ring, &spool->checkpoint.op, RING_JOB_FILE, job);
}

/* The one before stays what recovery reads; the next one is made from memory. */
static void checkpoint_failed(struct spool *spool, int error)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    owner_end(spool);
    checkpoint->replayed = true; /* what it was for is still to be written */
    if (error != -ECANCELED) {
        spool->counters.checkpoint_failures++;
        log_event(spool->shard->log, LOG_ERROR, "spool.checkpoint.failed",
                  log_cstr("spool", spool->config.path),
                  log_u64("number", checkpoint->places.number),
                  log_cstr("error", strerror(-error)));
    }
    if (error == -ENOSPC || error == -EDQUOT)
        spool_maker_yield(&spool->d.maker); /* the next try has that much */
    checkpoint->error = error;
    job_begin(spool, SPOOL_CHECKPOINT_ABANDON, spool_checkpoint_abandon_job);
}

/* ---- filling -------------------------------------------------------------------------------- */

static void block_begin(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;
    struct spool_image *image = &checkpoint->image;
    const struct spool_super_checkpoint *places = &checkpoint->places;
    struct spool_image_header header;
    uint32_t used;

    *image = (struct spool_image){
        .data = checkpoint->block + SPOOL_IMAGE_HEADER_BYTES,
        .hot_end = {places->d.segment, places->d.offset_16, 0},
        .cold_end = {places->r.segment | SPOOL_COLD, places->r.offset_16, 0},
    };
    checkpoint->more = spool->owner->image_fill(spool->owner_context, image);
    ASSERT(!checkpoint->more || image->used_bytes > 0);
    used = SPOOL_IMAGE_HEADER_BYTES + image->used_bytes;
    checkpoint->entries += image->entry_count;
    header = (struct spool_image_header){
        .used_bytes = used,
        .number = places->number,
        .index = checkpoint->block_index,
        .entry_count = image->entry_count,
        .last = !checkpoint->more,
        .entries_so_far = checkpoint->entries,
    };
    spool_image_header_encode(&header, checkpoint->uuid, checkpoint->block);
    checkpoint->block_bytes = ROUND_UP(used, SPOOL_BLOCK_BYTES);
    memset(checkpoint->block + used, 0, checkpoint->block_bytes - used);
    checkpoint->sync_now = checkpoint->block_index % SYNC_BLOCKS == SYNC_BLOCKS - 1;
    spool->counters.checkpoint_bytes += checkpoint->block_bytes;
    job_begin(spool, SPOOL_CHECKPOINT_FILL, spool_checkpoint_write_job);
}

static void fill_begin(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    checkpoint->block = aligned_alloc(SPOOL_BLOCK_BYTES, SPOOL_IMAGE_BLOCK_BYTES);
    if (checkpoint->block == NULL) {
        checkpoint_failed(spool, -ENOMEM);
        return;
    }
    checkpoint->block_index = 0;
    checkpoint->entries = 0;
    checkpoint->asking = true;
    spool->owner->image_begin(spool->owner_context);
    block_begin(spool);
}

/* What comes next does so after a pause, unless everybody waits for it. */
static void pace_then_go(struct spool *spool)
{
    if (spool->checkpoint.hurry)
        shard_defer(spool->shard, &spool->checkpoint.task);
    else
        shard_timer_arm(spool->shard, &spool->checkpoint.pace, PACE_MS);
}

static void pace_fire(struct timer *timer)
{
    checkpoint_go(spool_of(CONTAINER_OF(timer, struct spool_checkpoint, pace)));
}

static void checkpoint_task(struct shard_task *task)
{
    checkpoint_go(spool_of(CONTAINER_OF(task, struct spool_checkpoint, task)));
}

/* ---- what nobody needs any more ------------------------------------------------------------- */

static void journals_add(struct spool *spool, uint32_t number)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;
    struct spool_maker *maker = &spool->j.maker;
    bool keep =
        checkpoint->journal_count == 0 && spool_maker_wants(maker, maker->log->segment_bytes);

    checkpoint->journals[checkpoint->journal_count] = number;
    checkpoint->journal_spares[checkpoint->journal_count] = keep ? maker->next_spare++ : 0;
    checkpoint->journal_count++;
}

/* J segments wholly below c_j of the older checkpoint. While there is only one, all are kept: should it be lost,
 * everything is scanned. */
static void journals_list(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;
    const struct spool_super_checkpoint *older = &spool->directory.super.older;
    uint32_t kept = 0;

    checkpoint->journal_count = 0;
    if (older->number == 0)
        return;
    for (uint32_t i = 0; i < spool->old_journal_count; i++) {
        if (spool->old_journals[i] < older->j.segment &&
            checkpoint->journal_count < SPOOL_CHECKPOINT_JOURNALS)
            journals_add(spool, spool->old_journals[i]);
        else
            spool->old_journals[kept++] = spool->old_journals[i];
    }
    spool->old_journal_count = kept;
    while (spool->journal_first < older->j.segment &&
           checkpoint->journal_count < SPOOL_CHECKPOINT_JOURNALS)
        journals_add(spool, spool->journal_first++);
}

/* A copy that is being made began from an older SUPER: what that one names stays until the next checkpoint, or the next
 * opening. */
static void clean_begin(struct spool *spool)
{
    if (spool->exports == 0) {
        journals_list(spool);
    } else {
        spool->checkpoint.journal_count = 0;
        spool->checkpoint.drop_number = 0;
    }
    job_begin(spool, SPOOL_CHECKPOINT_CLEAN, spool_checkpoint_clean_job);
}

static void clean_done(struct spool *spool, int result)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;
    struct spool_maker *maker = &spool->j.maker;

    for (uint32_t i = 0; i < checkpoint->journal_count && result == 0; i++) {
        if (checkpoint->journal_spares[i] != 0)
            (void)spool_maker_add_spare(maker,
                                        checkpoint->journal_spares[i]); /* or in the next life */
    }
    checkpoint->drop_number = 0;
    if (checkpoint->journal_count == SPOOL_CHECKPOINT_JOURNALS)
        clean_begin(spool);
    else
        checkpoint_ended(spool, 0);
}

/* ---- step by step --------------------------------------------------------------------------- */

static void checkpoint_begin(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    ASSERT(checkpoint->step == SPOOL_CHECKPOINT_IDLE && may_write(spool));
    timer_disarm(&spool->shard->timers, &checkpoint->schedule);
    checkpoint->placed = false;
    checkpoint->places = (struct spool_super_checkpoint){.number = checkpoint->next_number++};
    checkpoint->step = SPOOL_CHECKPOINT_WAIT;
    shard_defer(spool->shard, &checkpoint->task);
}

static void publish(struct spool *spool)
{
    spool->checkpoint.step = SPOOL_CHECKPOINT_PUBLISH;
    spool->checkpoint.super_wanted = true;
    spool_super_save(spool);
}

void spool_checkpoint_published(struct spool *spool, int result)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    checkpoint->super_wanted = false;
    if (result < 0) {
        /* SUPER may name it or not. Its number is not used again, so whatever stands there is that file or none. */
        checkpoint_failed(spool, result);
        return;
    }
    spool->counters.checkpoints++;
    clean_begin(spool);
}

/* The shard's part of what comes next; nothing is in flight. */
static void checkpoint_go(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    if (checkpoint->step == SPOOL_CHECKPOINT_IDLE || checkpoint->op.in_flight)
        return;
    if (spool->stopping && !checkpoint->hurry && checkpoint->step < SPOOL_CHECKPOINT_PUBLISH) {
        /* The stop writes one of its own, when all has come to rest. */
        checkpoint_failed(spool, -ECANCELED);
        return;
    }
    switch (checkpoint->step) {
    case SPOOL_CHECKPOINT_WAIT:
        /* A copy on its way to the cold lane may be of a message that is finished meanwhile. Were it written at or above
         * c_r, and its DONE below c_j, the message would come back. */
        if (!checkpoint->placed && !spool_log_idle(&spool->r))
            break;
        if (!checkpoint->placed)
            places_take(spool);
        checkpoint->placed = true;
        if (groups_ended(spool))
            fill_begin(spool);
        break;
    case SPOOL_CHECKPOINT_FILL:
        checkpoint->block_index++;
        block_begin(spool);
        break;
    case SPOOL_CHECKPOINT_VERIFY:
        job_begin(spool, SPOOL_CHECKPOINT_VERIFY, spool_checkpoint_verify_job);
        break;
    default:
        break;
    }
}

static void checkpoint_job_done(struct ring_op *op)
{
    struct spool_checkpoint *checkpoint = CONTAINER_OF(op, struct spool_checkpoint, op);
    struct spool *spool = spool_of(checkpoint);
    int result = op->result;

    if (checkpoint->step == SPOOL_CHECKPOINT_ABANDON) {
        checkpoint_ended(spool, checkpoint->error);
    } else if (checkpoint->step == SPOOL_CHECKPOINT_CLEAN) {
        clean_done(spool, result);
    } else if (result < 0) {
        checkpoint_failed(spool, result);
    } else if (checkpoint->step == SPOOL_CHECKPOINT_FILL && checkpoint->more) {
        pace_then_go(spool);
    } else if (checkpoint->step == SPOOL_CHECKPOINT_FILL) {
        owner_end(spool);
        job_begin(spool, SPOOL_CHECKPOINT_SYNC, spool_checkpoint_sync_job);
    } else if (checkpoint->step == SPOOL_CHECKPOINT_SYNC) {
        checkpoint->block_index = 0;
        job_begin(spool, SPOOL_CHECKPOINT_VERIFY, spool_checkpoint_verify_job);
    } else if (result == 0) {
        pace_then_go(spool);
    } else {
        checkpoint->drop_number = spool->directory.super.older.number;
        publish(spool);
    }
    spool_stop_check(spool);
}

/* ---- from outside --------------------------------------------------------------------------- */

static void schedule_fire(struct timer *timer)
{
    struct spool *spool = spool_of(CONTAINER_OF(timer, struct spool_checkpoint, schedule));

    if (something_changed(spool))
        checkpoint_begin(spool);
    else
        schedule_arm(spool);
}

void spool_checkpoint_init(struct spool *spool, uint64_t next_number)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    *checkpoint = (struct spool_checkpoint){
        .next_number = next_number,
        .fd = -1,
        .dir_fd = spool->directory.dir_fd,
        .spare_fd = spool->directory.spare_fd,
        .direct = spool->direct,
        .journal_bytes = spool_journal_segment_bytes(&spool->config),
    };
    memcpy(checkpoint->uuid, spool->uuid, SPOOL_UUID_BYTES);
    ring_op_init(&checkpoint->op, checkpoint_job_done);
    shard_task_init(&checkpoint->task, checkpoint_task);
    timer_init(&checkpoint->schedule, schedule_fire);
    timer_init(&checkpoint->pace, pace_fire);
}

void spool_checkpoint_deinit(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    ASSERT(!checkpoint->op.in_flight && checkpoint->step == SPOOL_CHECKPOINT_IDLE);
    timer_disarm(&spool->shard->timers, &checkpoint->schedule);
    timer_disarm(&spool->shard->timers, &checkpoint->pace);
    shard_undefer(&checkpoint->task);
}

void spool_checkpoint_start(struct spool *spool, bool replayed, bool now)
{
    if (!may_write(spool) || spool->stopping)
        return;
    spool->checkpoint.replayed = replayed || now;
    if (now)
        checkpoint_begin(spool);
    else
        schedule_arm(spool);
}

int spool_checkpoint(struct spool *spool, spool_checkpoint_fn *written, void *context)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    if (spool->owner == NULL || spool->owner->image_begin == NULL)
        return -ENOTSUP;
    if (!spool->restored || spool->incomplete)
        return -EAGAIN;
    if (spool->stopping)
        return -ESHUTDOWN;
    if (checkpoint->step != SPOOL_CHECKPOINT_IDLE)
        return -EALREADY;
    checkpoint->written = written;
    checkpoint->written_context = context;
    checkpoint_begin(spool);
    return 0;
}

void spool_checkpoint_poke(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    if (checkpoint->step == SPOOL_CHECKPOINT_WAIT)
        shard_defer(spool->shard, &checkpoint->task);
    else if (checkpoint->step == SPOOL_CHECKPOINT_IDLE && !spool->stopping && spool->restored &&
             may_write(spool) &&
             bytes_written(spool) - checkpoint->bytes_mark >= bytes_limit(spool))
        checkpoint_begin(spool);
}

bool spool_checkpoint_stop(struct spool *spool)
{
    struct spool_checkpoint *checkpoint = &spool->checkpoint;

    if (checkpoint->step != SPOOL_CHECKPOINT_IDLE) {
        /* One that waited for its turn goes on to its end: by giving up. */
        if (!checkpoint->hurry) {
            timer_disarm(&spool->shard->timers, &checkpoint->pace);
            checkpoint_go(spool);
        }
        return false;
    }
    if (checkpoint->last_tried || !may_write(spool) || !something_changed(spool))
        return true;
    checkpoint->last_tried = checkpoint->hurry = true;
    checkpoint_begin(spool);
    return false;
}
