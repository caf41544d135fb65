#include "storage/spool_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- message ids ---------------------------------------------------------------------------- */

static int super_save_job(struct ring_op *op)
{
    struct spool *spool = CONTAINER_OF(op, struct spool, super_op);

    return spool_super_write(spool->directory.dir_fd, &spool->super_job);
}

static bool ids_run_out(const struct spool *spool)
{
    return spool->next_counter + SPOOL_ID_GAP / 2 >= spool->directory.super.id_limit &&
           !spool->stopping;
}

void spool_super_save(struct spool *spool)
{
    struct spool_super *super = &spool->super_job;

    if (spool->super_op.in_flight)
        return; /* asked again when that has ended */
    *super = spool->directory.super;
    spool->super_raises = ids_run_out(spool);
    spool->super_publishes = spool->checkpoint.super_wanted;
    if (spool->super_raises)
        super->id_limit += SPOOL_ID_GAP;
    if (spool->super_publishes) {
        super->older = super->newest;
        super->newest = spool->checkpoint.places;
    }
    ring_job(spool->shard->ring, &spool->super_op, RING_JOB_FILE, super_save_job);
}

static void super_saved(struct ring_op *op)
{
    struct spool *spool = CONTAINER_OF(op, struct spool, super_op);

    if (op->result == 0)
        spool->directory.super = spool->super_job;
    else
        log_event(spool->shard->log, LOG_ERROR, "spool.super.failed",
                  log_cstr("spool", spool->config.path), log_cstr("error", strerror(-op->result)));
    if (spool->super_publishes)
        spool_checkpoint_published(spool, op->result);
    else if (spool->checkpoint.super_wanted)
        spool_super_save(spool);
    spool_stop_check(spool);
}

uint64_t spool_next_id(struct spool *spool)
{
    /* Raised half a gap ahead: more ids than can be given out while one small write is under
     * way. */
    if (ids_run_out(spool))
        spool_super_save(spool);
    return (uint64_t)spool->config.number << SPOOL_ID_COUNTER_BITS |
           (spool->next_counter++ & SPOOL_ID_COUNTER_MASK);
}

const uint8_t *spool_uuid(const struct spool *spool)
{
    return spool->uuid;
}

void spool_progress(const struct spool *spool, uint64_t *ret_epoch, uint64_t *ret_sequence)
{
    *ret_epoch = spool->directory.super.epoch;
    *ret_sequence = spool->directory.super.sequence;
}

/* ---- start ---------------------------------------------------------------------------------- */

uint64_t spool_journal_segment_bytes(const struct spool_config *config)
{
    uint64_t quarter = config->segment_bytes / 4 / MIB * MIB;

    /* A group of the largest size fits behind the header block. */
    return MAX(quarter, 2 * MIB);
}

static int log_start(struct spool_log *log, struct spool_recovery_stream *stream)
{
    int r = 0;

    log->maker.next_spare = stream->next_spare;
    log->maker.next_number = stream->last_number + 1;
    for (uint32_t i = 0; i < stream->spare_count && r == 0; i++)
        r = spool_maker_add_spare(&log->maker, stream->spares[i]);
    return r;
}

static int segments_start(struct spool *spool, char letter,
                          const struct spool_recovery_stream *stream)
{
    uint32_t lane = letter == 'R' ? SPOOL_COLD : 0u;
    struct spool_segment *segment;
    int r = 0;

    for (uint32_t i = 0; i < stream->count && r == 0; i++) {
        r = spool_segment_add(spool, letter, stream->segments[i].number | lane,
                              stream->segments[i].size_bytes, -1, &segment);
        if (r == 0) {
            segment->sealed = segment->earlier = segment->seedless = true;
        }
    }
    return r;
}

/* What spool_restore() will read. */
static int earlier_start(struct spool *spool, const struct spool_recovery *from)
{
    spool->old_journals = calloc(from->j.count + 1, sizeof(uint32_t));
    if (spool->old_journals == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < from->j.count; i++)
        spool->old_journals[i] = from->j.segments[i].number;
    spool->old_journal_count = from->j.count;
    spool->journal_first = from->j.last_number + 1;
    return 0;
}

static void stop_task(struct shard_task *task);

static void spool_init(struct spool *spool, struct shard *shard, struct spool_recovery *recovery)
{
    spool->shard = shard;
    spool->config = recovery->config;
    spool->directory = recovery->directory;
    memcpy(spool->uuid, spool->directory.super.uuid, sizeof(spool->uuid));
    spool->next_counter = recovery->next_counter;
    spool->direct = recovery->direct;
    spool->path = recovery->path;
    ring_op_init(&spool->super_op, super_saved);
    list_node_init(&spool->restore_task.node);
    spool_checkpoint_init(spool, recovery->next_checkpoint);
    list_init(&spool->idle_segments);
    spool_reuse_init(spool);
    spool_relocate_init(spool);
    spool_scrub_init(spool);
    list_init(&spool->hot_groups);
    list_init(&spool->room_waiters);
    timer_init(&spool->journal_timer, spool_journal_timer_fire);
    shard_task_init(&spool->stop_task, stop_task);
    spool_log_init(&spool->d, spool, 'D');
    spool_log_init(&spool->j, spool, 'J');
    spool_log_init(&spool->r, spool, 'R');
}

static void spool_free(struct spool *spool)
{
    timer_disarm(&spool->shard->timers, &spool->journal_timer);
    shard_undefer(&spool->stop_task);
    shard_undefer(&spool->restore_task);
    spool_relocate_deinit(spool);
    spool_scrub_deinit(spool);
    (void)spool_restore_end(spool);
    spool_checkpoint_deinit(spool);
    free(spool->old_journals);
    spool_group_cool_all(spool);
    spool_log_deinit(&spool->d);
    spool_log_deinit(&spool->j);
    spool_log_deinit(&spool->r);
    for (uint32_t i = 0; i < spool->segment_count; i++)
        spool_segment_free(spool->segments[i]);
    free(spool->segments);
    spool_live_deinit(spool);
    free(spool);
}

int spool_start(struct shard *shard, struct spool_recovery **recovery, struct spool **ret_spool)
{
    struct spool_recovery *from = *recovery;
    struct spool *spool = calloc(1, sizeof(*spool));
    int r;

    if (spool == NULL)
        return -ENOMEM;
    spool_init(spool, shard, from);
    r = segments_start(spool, 'D', &from->d);
    if (r == 0)
        r = segments_start(spool, 'R', &from->r);
    if (r == 0)
        r = log_start(&spool->d, &from->d);
    if (r == 0)
        r = log_start(&spool->r, &from->r);
    if (r == 0)
        r = log_start(&spool->j, &from->j);
    if (r == 0)
        r = earlier_start(spool, from);
    if (r < 0) {
        spool_free(spool);
        return r;
    }
    /* The directory and the path are the spool's now. */
    from->directory = (struct spool_directory){.dir_fd = -1, .spare_fd = -1, .lock_fd = -1};
    from->path = NULL;
    spool_recovery_destroy(recovery);
    spool_maker_run(&spool->d.maker);
    spool_maker_run(&spool->j.maker);
    spool_maker_run(&spool->r.maker);
    *ret_spool = spool;
    return 0;
}

/* ---- stop ----------------------------------------------------------------------------------- */

/* The last group of D is vouched for by an empty one behind it, so that damage of it is told from
 * a torn write. */
static bool stop_vouches(struct spool *spool)
{
    if (spool->sealed)
        return false;
    spool->sealed = true;
    if (spool->d.current == NULL || spool->d.broken)
        return false;
    spool->d.open = spool_group_create(&spool->d);
    spool_log_flush(&spool->d);
    return spool->d.open != NULL;
}

static bool stop_complete(struct spool *spool)
{
    if (!spool_restore_end(spool))
        return false;
    if (spool->uploads_committing > 0 || !spool_log_idle(&spool->d) || stop_vouches(spool))
        return false;
    spool_log_flush(&spool->j);
    if (!spool_log_idle(&spool->j) || !spool_log_idle(&spool->r) || spool->reads_in_flight > 0 ||
        spool->super_op.in_flight || spool->d.maker.op.in_flight || spool->j.maker.op.in_flight ||
        spool->r.maker.op.in_flight || spool->reuse.op.in_flight || !spool_relocate_idle(spool) ||
        spool->scrub.busy)
        return false;
    for (uint32_t i = 0; i < spool->segment_count; i++) {
        if (spool->segments[i]->open_op.in_flight)
            return false;
    }
    return spool_checkpoint_stop(spool);
}

static void stop_task(struct shard_task *task)
{
    struct spool *spool = CONTAINER_OF(task, struct spool, stop_task);

    if (spool->stopped || !stop_complete(spool))
        return;
    spool->stopped = true;
    spool->stopped_call(spool->stopped_context);
}

void spool_stop_check(struct spool *spool)
{
    spool_checkpoint_poke(spool);
    if (spool->stopping && !spool->stopped)
        shard_defer(spool->shard, &spool->stop_task);
}

void spool_stop(struct spool *spool, spool_stopped_fn *stopped, void *context)
{
    ASSERT(!spool->stopping && stopped != NULL);
    spool->stopping = true;
    spool->stopped_call = stopped;
    spool->stopped_context = context;
    spool_log_flush(&spool->d);
    /* What cannot be written now will not be written later. */
    if (spool->j.broken || (spool->j.current == NULL && spool->j.maker.error != 0))
        spool_log_give_up(&spool->j, -EIO);
    if (spool->d.broken)
        spool_log_give_up(&spool->d, -EIO);
    spool_stop_check(spool);
}

void spool_destroy(struct spool **spool)
{
    struct spool *s = *spool;
    struct spool_directory directory;
    char *path;

    if (s == NULL)
        return;
    ASSERT(s->stopped && s->readers == 0);
    directory = s->directory;
    path = s->path;
    spool_free(s);
    spool_directory_close(&directory);
    free(path);
    *spool = NULL;
}

/* ---- watching ------------------------------------------------------------------------------- */

void spool_counters(const struct spool *spool, struct spool_counters *ret_counters)
{
    uint64_t spares = spool->d.maker.spare_count + (spool->d.next != NULL ? 1u : 0u);

    *ret_counters = spool->counters;
    ret_counters->hot_bytes = spool->hot_bytes;
    ret_counters->segments = spool->segment_count;
    ret_counters->spare_segments = spares;
    ret_counters->direct = spool->direct;
    ret_counters->spare_low = spool->d.maker.error != 0;
    ret_counters->disk_bytes = spool->d.maker.spare_count * spool->d.segment_bytes +
                               spool->j.maker.spare_count * spool->j.segment_bytes +
                               (uint64_t)(spool->j.maker.next_number - 1) * spool->j.segment_bytes;
    for (uint32_t i = 0; i < spool->segment_count; i++) {
        ret_counters->disk_bytes += spool->segments[i]->size_bytes;
        ret_counters->live_bytes += spool->segments[i]->live_bytes;
        ret_counters->segments_cold += spool->segments[i]->stream == 'R';
        ret_counters->segments_damaged += spool->segments[i]->damaged;
    }
}
