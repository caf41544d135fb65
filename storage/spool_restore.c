#include "storage/spool_restore_private.h"

#include "core/clock.h"

#include <errno.h>
#include <stdlib.h>

/* Brings back what earlier lives left, while the spool accepts. The owner is the state machine: it is told
 * everything in the order of the logs, and nothing of it is kept here. Each phase is a row of batches; a job
 * fills one while the shard hands the other over, a slice in each tick. */

#define SLICE_ITEMS 1024u
#define SLICE_NS MS_NS
/* So much to replay makes the next start slow, so a checkpoint follows at once. */
#define REPLAYED_MUCH (64 * MIB)
#define CLOCK_ITEMS 64u /* between two looks at the clock */

static void restore_go(struct spool_restore *restore);

static bool restore_cancelled(const struct spool_restore *restore)
{
    return restore->spool->stopping;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void restore_free(struct spool_restore *restore)
{
    ASSERT(!restore->op.in_flight);
    shard_undefer(&restore->task);
    spool_restore_close(restore);
    if (restore->image_fd >= 0)
        ring_close(restore->image_fd);
    for (size_t i = 0; i < ARRAY_SIZE(restore->batches); i++)
        spool_restore_batch_free(&restore->batches[i]);
    spool_restore_batch_free(&restore->held);
    free(restore->segments);
    free(restore->window);
    free(restore);
}

bool spool_restore_end(struct spool *spool)
{
    if (spool->restore == NULL)
        return true;
    if (spool->restore->op.in_flight)
        return false;
    restore_free(spool->restore);
    spool->restore = NULL;
    return true;
}

/* What could not be read now is read by the next start: so until then no checkpoint passes it, and no segment is used
 * again. */
static void restore_incomplete(struct spool *spool)
{
    spool->incomplete = true;
    spool->live.lost = true;
    log_event(
        spool->shard->log, LOG_ERROR, "spool.restore.incomplete",
        log_cstr("spool", spool->config.path),
        log_cstr("meaning",
                 "some of it could not be read; until the next start no checkpoint is written and "
                 "no segment used again"));
}

static void restore_finish(struct spool_restore *restore)
{
    struct spool *spool = restore->spool;
    struct spool_report report = restore->report;
    char sentence[sizeof(restore->sentence)];
    int error = restore->error;
    bool read_errors = restore->read_errors;
    bool much = report.bytes_scanned > REPLAYED_MUCH || report.checkpoints_lost > 0;

    memcpy(sentence, restore->sentence, sizeof(sentence));
    report.microseconds = (clock_monotonic_ns() - restore->began_ns) / US_NS;
    (void)spool_restore_end(spool);
    if (error == 0 && read_errors)
        restore_incomplete(spool);
    if (error == 0) {
        spool->restored = true;
        spool_live_restored(spool);
    }
    spool->owner->restored(spool->owner_context, error, &report, slice_cstr(sentence));
    if (error == 0)
        spool_checkpoint_start(spool, report.messages + report.notes > 0, much);
}

/* ---- phases --------------------------------------------------------------------------------- */

static void restore_sentence(struct spool_restore *restore, const char *what)
{
    if (restore->sentence[0] == '\0')
        (void)strncpy(restore->sentence, what, sizeof(restore->sentence) - 1);
}

/* The segments of `stream` at or above `begin` that are of earlier lives. */
static int stream_begin(struct spool_restore *restore, char stream, struct spool_place begin)
{
    struct spool *spool = restore->spool;
    uint32_t count = stream == 'J' ? spool->old_journal_count : spool->segment_count;

    restore->stream = stream;
    restore->begin = begin;
    restore->chain = (struct spool_scan_chain){.any = false};
    restore->segment_count = restore->segment_index = 0;
    free(restore->segments);
    restore->segments = calloc(count + 1, sizeof(uint32_t));
    if (restore->segments == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        const struct spool_segment *segment = stream == 'J' ? NULL : spool->segments[i];
        uint32_t number;

        if (segment != NULL && (segment->stream != stream || !segment->earlier))
            continue;
        number = segment == NULL ? spool->old_journals[i] : segment->number & ~SPOOL_COLD;
        if (number >= begin.segment)
            restore->segments[restore->segment_count++] = number;
    }
    return 0;
}

/* The next phase; an error ends it all. */
static void phase_next(struct spool_restore *restore)
{
    int r = 0;

    restore->source_ended = false;
    restore->phase++;
    if (restore->phase == RESTORE_IMAGE && restore->from.number == 0)
        restore->phase++;
    if (restore->phase == RESTORE_D)
        r = stream_begin(restore, 'D', restore->from.d);
    else if (restore->phase == RESTORE_R)
        r = stream_begin(restore, 'R', restore->from.r);
    else if (restore->phase == RESTORE_J)
        r = stream_begin(restore, 'J', restore->from.j);
    if (r < 0)
        restore->error = r;
}

/* ---- handing over --------------------------------------------------------------------------- */

static int image_text(void *context, enum spool_image_text kind, uint32_t number,
                      const uint8_t status[3], struct slice text)
{
    struct spool *spool = context;

    return spool->owner->text(spool->owner_context, kind, number, status, text);
}

static int image_entry(void *context, const struct spool_image_entry *entry)
{
    struct spool *spool = context;

    spool_live_add(spool, entry->id, &entry->location, (entry->flags & SPOOL_ENTRY_CHUNKED) != 0);
    return spool->owner->image(spool->owner_context, entry);
}

static int give_message(struct spool_restore *restore, const struct restore_batch *batch,
                        const struct restore_message *found)
{
    struct spool *spool = restore->spool;
    struct spool_recovered_message message = found->message;

    message.envelope = slice_of(batch->bytes + found->envelope_at, found->envelope_bytes);
    if (found->has_units) {
        message.units = (const struct spool_unit *)(const void *)(batch->bytes + found->units_at);
        message.reason = slice_of(batch->bytes + found->reason_at, found->reason_bytes);
    }
    spool_live_add(spool, message.id, &message.location, message.chunked);
    if (message.chunked) {
        struct spool_chunk_list list;

        if (spool_chunk_list_decode(slice_of(batch->bytes + found->list_at, found->list_bytes),
                                    &list))
            spool_live_chunks(spool, &message.location, &list);
    }
    restore->report.messages++;
    return spool->owner->found(spool->owner_context, &message);
}

static int give_note(struct spool_restore *restore, const struct restore_batch *batch,
                     const struct restore_note *found)
{
    struct spool *spool = restore->spool;
    struct spool_recovered_note note = found->note;

    note.text = slice_of(batch->bytes + found->text_at, found->text_bytes);
    return spool->owner->noted(spool->owner_context, &note);
}

/* Kept and told: nothing that recovery cannot present goes silently (QUEUE I20). */
static void give_damage(struct spool_restore *restore, const struct restore_damage *damage)
{
    struct spool *spool = restore->spool;
    struct spool_segment *segment =
        restore->stream == 'J' ? NULL : spool_segment_find(spool, damage->segment);

    if (segment != NULL)
        segment->damaged = true;
    log_event(spool->shard->log, LOG_ERROR, "spool.damaged", log_cstr("spool", spool->config.path),
              log_text("stream", slice_of(&restore->stream, 1)),
              log_u64("segment", damage->segment & ~SPOOL_COLD), log_u64("offset", damage->offset));
}

static void give_chunks(struct spool_restore *restore, const struct restore_batch *batch)
{
    static const uint8_t none[SPOOL_CHUNK_LIST_BYTES];
    struct spool_chunk_list list;

    if (!spool_chunk_list_decode(slice_of(batch->bytes, batch->used_bytes), &list))
        (void)spool_chunk_list_decode(slice_of(none, sizeof(none)), &list);
    spool_live_chunks(restore->spool, &restore->place, &list);
}

static uint32_t batch_items(const struct spool_restore *restore, const struct restore_batch *batch)
{
    return restore->stream == 'J' ? batch->note_count : batch->message_count;
}

/* A few items of the batch. Sets `*ret_done` when that was all. */
static int batch_give(struct spool_restore *restore, struct restore_batch *batch, bool *ret_done)
{
    struct spool_image_events events = {restore->spool, image_text, image_entry};
    int r = 0;

    if (restore->phase == RESTORE_CHUNKS) {
        give_chunks(restore, batch);
        *ret_done = true;
        return 0;
    }
    if (restore->phase == RESTORE_IMAGE) {
        r = spool_image_read(slice_of(batch->bytes, batch->used_bytes), &batch->image_offset,
                             CLOCK_ITEMS, &events);
        *ret_done = batch->image_offset >= batch->used_bytes;
        return r;
    }
    for (uint32_t i = 0; i < CLOCK_ITEMS && r == 0; i++) {
        if (batch->applied == batch_items(restore, batch))
            break;
        r = restore->stream == 'J' ? give_note(restore, batch, &batch->notes[batch->applied])
                                   : give_message(restore, batch, &batch->messages[batch->applied]);
        batch->applied++;
    }
    *ret_done = batch->applied == batch_items(restore, batch);
    for (uint32_t i = 0; *ret_done && i < batch->damage_count; i++)
        give_damage(restore, &batch->damage[i]);
    return r;
}

static void restore_task(struct shard_task *task)
{
    struct spool_restore *restore = CONTAINER_OF(task, struct spool_restore, task);
    struct restore_batch *batch = &restore->batches[restore->apply];
    uint64_t until_ns = clock_monotonic_ns() + SLICE_NS;
    bool done = false;

    if (restore_cancelled(restore)) {
        spool_stop_check(restore->spool);
        return;
    }
    for (uint32_t items = 0; batch->full && restore->error == 0 && items < SLICE_ITEMS;
         items += CLOCK_ITEMS) {
        restore->error = batch_give(restore, batch, &done);
        if (done) {
            spool_restore_batch_clear(batch);
            restore->apply ^= 1;
            break;
        }
        if (clock_monotonic_ns() >= until_ns)
            break;
    }
    restore_go(restore);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static void verify_done(struct spool_restore *restore, int result)
{
    struct spool *spool = restore->spool;

    if (result == 0)
        return;
    if (result > 0) {
        restore->from = restore->candidates[restore->candidate];
        restore->report.checkpoint = restore->from.number;
        phase_next(restore);
        return;
    }
    if (result == -ENOMEM || result == -EMFILE || result == -ENFILE) {
        restore->error = result;
        return;
    }
    restore->report.checkpoints_lost++;
    log_event(spool->shard->log, LOG_ERROR, "spool.checkpoint.damaged",
              log_cstr("spool", spool->config.path),
              log_u64("number", restore->candidates[restore->candidate].number),
              log_cstr("error", strerror(-result)));
    restore->candidate++;
}

static void restore_job_done(struct ring_op *op)
{
    struct spool_restore *restore = CONTAINER_OF(op, struct spool_restore, op);
    struct restore_batch *batch = &restore->batches[restore->fill];
    int result = op->result;

    if (restore_cancelled(restore)) {
        spool_stop_check(restore->spool);
        return;
    }
    if (restore->phase == RESTORE_VERIFY) {
        verify_done(restore, result);
    } else if (restore->phase == RESTORE_CHUNKS) {
        /* Not to be known now: then nothing is used again in this life. */
        if (result < 0)
            restore->spool->live.lost = true;
        batch->full = true;
        restore->fill ^= 1;
    } else if (result < 0) {
        restore->error = result;
    } else {
        batch->full = true;
        restore->source_ended = batch->last;
        restore->fill ^= 1;
    }
    restore_go(restore);
}

static void job_begin(struct spool_restore *restore, ring_job_fn *job)
{
    ring_job(restore->spool->shard->ring, &restore->op, RING_JOB_FILE, job);
}

/* No checkpoint that SUPER names can be read: then J may not reach back far enough. */
static void scan_everything(struct spool_restore *restore)
{
    struct spool *spool = restore->spool;

    if (restore->report.checkpoints_lost > 0)
        log_event(spool->shard->log, LOG_ERROR, "spool.checkpoint.none",
                  log_cstr("spool", spool->config.path),
                  log_cstr("meaning", "everything is scanned; finished mail may be sent again"));
    phase_next(restore);
}

static bool candidate_left(const struct spool_restore *restore)
{
    return restore->candidate < ARRAY_SIZE(restore->candidates) &&
           restore->candidates[restore->candidate].number != 0;
}

/* True when a job was begun or the phase has changed. */
static bool source_go(struct spool_restore *restore)
{
    uint64_t id;

    switch (restore->phase) {
    case RESTORE_VERIFY:
        if (candidate_left(restore))
            job_begin(restore, spool_restore_verify_job);
        else
            scan_everything(restore);
        return true;
    case RESTORE_IMAGE:
        job_begin(restore, spool_restore_image_job);
        return true;
    case RESTORE_D:
    case RESTORE_R:
    case RESTORE_J:
        job_begin(restore, spool_restore_scan_job);
        return true;
    case RESTORE_CHUNKS:
        if (restore->batches[restore->apply].full)
            return false;
        if (spool_live_next_unknown(restore->spool, &restore->cursor, &id, &restore->place))
            job_begin(restore, spool_restore_chunks_job);
        else
            phase_next(restore);
        return true;
    case RESTORE_OVER:
        break;
    }
    return false;
}

/* Begins whatever can be begun. */
static void restore_go(struct spool_restore *restore)
{
    for (;;) {
        const struct restore_batch *next = &restore->batches[restore->apply];

        if (next->full)
            shard_defer(restore->spool->shard, &restore->task);
        if (restore->op.in_flight)
            return;
        if (restore->error != 0 || restore->phase == RESTORE_OVER) {
            restore_sentence(restore, restore->error != 0 ? "the queue could not take it" : "");
            restore_finish(restore);
            return;
        }
        if (restore->source_ended) {
            if (next->full)
                return;
            phase_next(restore);
        } else if (restore->batches[restore->fill].full || !source_go(restore)) {
            return;
        }
    }
}

static void restore_first(struct shard_task *task)
{
    struct spool_restore *restore = CONTAINER_OF(task, struct spool_restore, task);

    if (restore_cancelled(restore)) {
        spool_stop_check(restore->spool);
        return;
    }
    shard_task_init(&restore->task, restore_task);
    restore_go(restore);
}

static void restore_failed(struct shard_task *task)
{
    struct spool *spool = CONTAINER_OF(task, struct spool, restore_task);
    struct spool_report report = {0};

    if (!spool->stopping)
        spool->owner->restored(spool->owner_context, -ENOMEM, &report,
                               slice_cstr("no memory to read what earlier lives left"));
}

void spool_set_owner(struct spool *spool, const struct spool_owner *owner, void *context)
{
    ASSERT(spool->owner == NULL && owner != NULL);
    spool->owner = owner;
    spool->owner_context = context;
}

void spool_restore(struct spool *spool)
{
    struct spool_restore *restore = calloc(1, sizeof(*restore));

    ASSERT(spool->owner != NULL && !spool->restored && spool->restore == NULL);
    if (restore != NULL)
        restore->window = malloc(SPOOL_SCAN_WINDOW_BYTES);
    if (restore == NULL || restore->window == NULL) {
        free(restore);
        shard_task_init(&spool->restore_task, restore_failed);
        shard_defer(spool->shard, &spool->restore_task);
        return;
    }
    restore->spool = spool;
    restore->path = spool->config.path;
    restore->dir_fd = spool->directory.dir_fd;
    memcpy(restore->uuid, spool->uuid, sizeof(restore->uuid));
    restore->image_fd = restore->scan_fd = -1;
    restore->began_ns = clock_monotonic_ns();
    restore->candidates[0] = spool->directory.super.newest;
    restore->candidates[1] = spool->directory.super.older;
    ring_op_init(&restore->op, restore_job_done);
    shard_task_init(&restore->task, restore_first);
    spool->restore = restore;
    shard_defer(spool->shard, &restore->task);
}
