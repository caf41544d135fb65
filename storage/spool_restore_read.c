#include "storage/spool_restore_private.h"

#include <errno.h>
#include <stdlib.h>

/* The jobs of a recovery. They run one at a time and own the scan, the checkpoint's file and the batch they
 * fill; bodies are checked here, on a worker, and never reach the shard. */

#define BATCH_BYTES MIB
#define BATCH_ITEMS 4096u
#define JOB_SCAN_BYTES (16 * MIB) /* then others get the worker, also when nothing was found */
#define VERIFY_BLOCKS 8u

/* ---- batches -------------------------------------------------------------------------------- */

void spool_restore_batch_clear(struct restore_batch *batch)
{
    batch->used_bytes = 0;
    batch->message_count = batch->note_count = batch->damage_count = 0;
    batch->applied = batch->image_offset = 0;
    batch->full = batch->last = false;
}

void spool_restore_batch_free(struct restore_batch *batch)
{
    free(batch->bytes);
    free(batch->messages);
    free(batch->notes);
    free(batch->damage);
    *batch = (struct restore_batch){.bytes = NULL};
}

/* Room for `bytes` more, aligned for whatever they are; false: no memory. */
static bool batch_room(struct restore_batch *batch, size_t bytes)
{
    size_t needed = ROUND_UP(batch->used_bytes, (size_t)8) + bytes;

    if (needed > batch->capacity_bytes) {
        size_t capacity = MAX(batch->capacity_bytes * 2, needed + 64 * KIB);
        uint8_t *grown = realloc(batch->bytes, capacity);

        if (grown == NULL)
            return false;
        batch->bytes = grown;
        batch->capacity_bytes = capacity;
    }
    batch->used_bytes = ROUND_UP(batch->used_bytes, (size_t)8);
    return true;
}

/* Returns where it stands; there is room. */
static size_t batch_put(struct restore_batch *batch, struct slice bytes)
{
    size_t at = batch->used_bytes;

    if (bytes.size > 0)
        memcpy(batch->bytes + at, bytes.data, bytes.size);
    batch->used_bytes += bytes.size;
    return at;
}

/* A place at the end of a growing array, or NULL. */
static void *batch_add(void **items, uint32_t *count, uint32_t *capacity, size_t item_bytes)
{
    if (*count == *capacity) {
        uint32_t grown_capacity = MAX(*capacity * 2, 256u);
        void *grown = realloc(*items, grown_capacity * item_bytes);

        if (grown == NULL)
            return NULL;
        *items = grown;
        *capacity = grown_capacity;
    }
    return (uint8_t *)*items + (*count)++ * item_bytes;
}

static struct restore_message *batch_add_message(struct restore_batch *batch)
{
    void *items = batch->messages;
    struct restore_message *added =
        batch_add(&items, &batch->message_count, &batch->message_capacity, sizeof(*added));

    batch->messages = items;
    return added;
}

static struct restore_note *batch_add_note(struct restore_batch *batch)
{
    void *items = batch->notes;
    struct restore_note *added =
        batch_add(&items, &batch->note_count, &batch->note_capacity, sizeof(*added));

    batch->notes = items;
    return added;
}

static struct restore_damage *batch_add_damage(struct restore_batch *batch)
{
    void *items = batch->damage;
    struct restore_damage *added =
        batch_add(&items, &batch->damage_count, &batch->damage_capacity, sizeof(*added));

    batch->damage = items;
    return added;
}

/* ---- what the scan finds -------------------------------------------------------------------- */

/* The units of a RELOC become structs here; false: no memory. */
static bool message_put_states(struct restore_batch *to, struct restore_message *found,
                               const struct spool_states *states)
{
    size_t bytes = states->unit_count * sizeof(struct spool_unit);

    if (!batch_room(to, bytes + states->reason.size))
        return false;
    found->units_at = to->used_bytes;
    for (uint32_t i = 0; i < states->unit_count; i++) {
        struct spool_unit unit = spool_states_unit(states, i);

        (void)batch_put(to, slice_of(&unit, sizeof(unit)));
    }
    found->reason_at = batch_put(to, states->reason);
    found->reason_bytes = (uint32_t)states->reason.size;
    found->message.held = states->held;
    found->has_units = true;
    return true;
}

/* 0, -ENOMEM, or -EBADMSG: its sections verify and make no sense together. */
static int message_put(struct restore_batch *to, uint32_t segment, uint64_t offset,
                       const struct spool_record *record, const uint8_t *bytes, bool body_ok)
{
    bool chunked = record->type == SPOOL_COMMIT ||
                   (record->type == SPOOL_RELOC && (record->flags & SPOOL_RELOC_CHUNKED));
    struct restore_message found = {.list_bytes = 0};
    struct restore_message *added;
    struct spool_sections sections;
    struct spool_states states;
    struct spool_chunk_list list = {.body_bytes = record->body_bytes};
    uint64_t skipped = 0;

    spool_record_sections(record, bytes, &sections);
    if (record->unit_count == 0 || record->unit_count > SPOOL_UNITS_MAX ||
        (chunked && (!body_ok || !spool_chunk_list_decode(sections.body, &list))) ||
        !spool_skips_ok(sections.skips, list.body_bytes, &skipped) ||
        (record->type == SPOOL_RELOC &&
         !spool_states_decode(sections.states, record->unit_count, &states)))
        return -EBADMSG;
    found.message = (struct spool_recovered_message){
        .id = record->id,
        .location = {segment, (uint32_t)(offset / SPOOL_RECORD_ALIGN), record->record_bytes},
        .head_bytes = record->head_bytes,
        .body_bytes = list.body_bytes - skipped,
        .arrival_s = record->arrival_s,
        .flags = record->flags & (uint8_t)~SPOOL_RELOC_CHUNKED,
        .chunked = chunked,
        .unit_count = record->unit_count,
    };
    if (!batch_room(to, sections.envelope.size + (chunked ? sections.body.size : 0)))
        return -ENOMEM;
    found.envelope_at = batch_put(to, sections.envelope);
    found.envelope_bytes = record->envelope_bytes;
    if (chunked) {
        found.list_at = batch_put(to, sections.body);
        found.list_bytes = record->body_bytes;
    }
    if (record->type == SPOOL_RELOC && !message_put_states(to, &found, &states))
        return -ENOMEM;
    added = batch_add_message(to);
    if (added == NULL)
        return -ENOMEM;
    *added = found;
    return 0;
}

static uint32_t lane_of(const struct spool_restore *restore)
{
    return restore->stream == 'R' ? SPOOL_COLD : 0u;
}

static void found_record(void *context, uint32_t segment, uint64_t offset,
                         const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                         bool body_ok)
{
    struct spool_restore *restore = context;
    int r;

    if ((record->type != SPOOL_MSG && record->type != SPOOL_COMMIT &&
         record->type != SPOOL_RELOC) ||
        !front_ok)
        return;
    /* A message whose body does not verify waits until it is known whether it was ever acknowledged. */
    r = message_put(body_ok ? restore->into : &restore->held, segment | lane_of(restore), offset,
                    record, bytes, body_ok);
    if (r == -ENOMEM)
        restore->job_error = r;
    else if (r < 0 && body_ok)
        restore->report
            .damaged_records++; /* our own encoder wrote it, so it is damage that verifies */
}

/* Of a torn write there was no 250, so there is no such message. */
static void found_resolved(void *context, uint32_t segment, bool damage)
{
    struct spool_restore *restore = context;
    struct restore_batch *held = &restore->held, *to = restore->into;

    for (uint32_t i = 0; damage && i < held->message_count; i++) {
        struct restore_message *message = &held->messages[i];
        struct restore_message *added;
        size_t shift;

        if (i == 0 && !batch_room(to, held->used_bytes)) {
            restore->job_error = -ENOMEM;
            break;
        }
        shift = i == 0 ? batch_put(to, slice_of(held->bytes, held->used_bytes))
                       : to->used_bytes - held->used_bytes;
        added = batch_add_message(to);
        if (added == NULL) {
            restore->job_error = -ENOMEM;
            break;
        }
        *added = *message;
        added->envelope_at += shift;
        added->units_at += shift;
        added->reason_at += shift;
    }
    if (damage) {
        struct restore_damage *added = batch_add_damage(to);

        if (added == NULL)
            restore->job_error = -ENOMEM;
        else
            *added =
                (struct restore_damage){segment | lane_of(restore), restore->chain.suspect_offset};
    }
    spool_restore_batch_clear(held);
}

static void found_note(void *context, uint32_t segment, uint64_t offset,
                       const struct spool_journal_record *record, const uint8_t *bytes)
{
    static const enum spool_note_kind kinds[] = {
        [SPOOL_J_DONE - SPOOL_J_DONE] = SPOOL_NOTE_DONE,
        [SPOOL_J_DEFER - SPOOL_J_DONE] = SPOOL_NOTE_DEFER,
        [SPOOL_J_HOLD - SPOOL_J_DONE] = SPOOL_NOTE_HOLD,
        [SPOOL_J_RELEASE - SPOOL_J_DONE] = SPOOL_NOTE_RELEASE,
        [SPOOL_J_ABORT - SPOOL_J_DONE] = SPOOL_NOTE_ABORT,
    };
    struct spool_restore *restore = context;
    struct restore_note *added;
    struct slice text = slice_of(bytes + SPOOL_JOURNAL_HEADER_BYTES, record->text_bytes);

    (void)segment;
    (void)offset;
    if (record->type < SPOOL_J_DONE || record->type > SPOOL_J_ABORT)
        return;
    added = batch_room(restore->into, text.size) ? batch_add_note(restore->into) : NULL;
    if (added == NULL) {
        restore->job_error = -ENOMEM;
        return;
    }
    *added = (struct restore_note){
        .note =
            {
                .kind = kinds[record->type - SPOOL_J_DONE],
                .id = record->id,
                .unit_first = record->unit_first,
                .unit_count = record->unit_count,
                .outcome = record->type == SPOOL_J_DONE ? record->outcome : 0,
                .status = {record->status[0], record->status[1], record->status[2]},
                .attempts = record->attempts,
                .in_doubt = record->type == SPOOL_J_DEFER && record->outcome != 0,
                .next_s = record->next_s,
            },
        .text_at = batch_put(restore->into, text),
        .text_bytes = (uint32_t)text.size,
    };
    restore->report.notes++;
}

/* ---- the logs ------------------------------------------------------------------------------- */

static ssize_t scan_file_read(void *context, void *to, size_t size, uint64_t offset)
{
    return file_read_some(*(int *)context, to, size, offset);
}

static void restore_sentence(struct spool_restore *restore, const char *what, int error)
{
    struct buf text;

    buf_init(&text, sizeof(restore->sentence));
    buf_printf(&text, "%s/%s: %s", restore->path, what, strerror(-error));
    memcpy(restore->sentence, text.data, MIN(text.size, sizeof(restore->sentence) - 1));
    buf_deinit(&text);
}

/* A segment that cannot be read at all is damage like any other: it stops nothing else. */
static int segment_unreadable(struct spool_restore *restore, uint32_t number)
{
    struct restore_damage *added = batch_add_damage(restore->into);

    if (added == NULL)
        return -ENOMEM;
    *added = (struct restore_damage){number | lane_of(restore), 0};
    restore->report.damaged_records++;
    return 0;
}

/* What was written last may be in the page cache only, or in the device's: its writer was killed before the flush.
 * Recovery believes what it reads, a letter is published for a DONE that it has seen, so it is made durable first. What
 * a checkpoint stands for was flushed before that was published. Where the disk refuses, it is believed all the same,
 * since not to know it is no better, and the next start is to read it again. */
static void scan_settle(struct spool_restore *restore)
{
    if (file_sync_data(restore->scan_fd) < 0)
        restore->read_errors = true;
}

static int scan_open(struct spool_restore *restore, const struct spool_scan_events *events)
{
    uint32_t number = restore->segments[restore->segment_index];
    struct file_info info;
    char name[SPOOL_NAME_SIZE];
    int r;

    spool_segment_name(restore->stream, number, name);
    r = file_open(restore->dir_fd, name, FILE_READ, 0, &restore->scan_fd);
    if (r == 0) {
        restore->scanning = true;
        scan_settle(restore);
        r = file_info(restore->scan_fd, &info);
    }
    if (r == -ENOMEM || r == -EMFILE || r == -ENFILE) {
        restore_sentence(restore, name, r);
        return r;
    }
    if (r < 0) {
        restore->read_errors = true;
        spool_restore_close(restore);
        restore->segment_index++;
        return segment_unreadable(restore, number);
    }
    restore->scan = (struct spool_scan){
        .stream = restore->stream,
        .number = number,
        .size_bytes = info.size_bytes,
        .read = scan_file_read,
        .read_context = &restore->scan_fd,
        .window = restore->window,
        .chain = &restore->chain,
        .events = events,
    };
    spool_scan_begin(&restore->scan, restore->uuid,
                     number == restore->begin.segment
                         ? (uint64_t)restore->begin.offset_16 * SPOOL_RECORD_ALIGN
                         : 0);
    if (!restore->scan.result.refused)
        return 0;
    restore_sentence(restore, name, -EPROTONOSUPPORT);
    return -EPROTONOSUPPORT;
}

static int scan_close(struct spool_restore *restore)
{
    const struct spool_scan_result *result = &restore->scan.result;
    struct spool_report *report = &restore->report;
    int r = 0;

    report->groups += result->groups;
    report->torn_groups += result->torn_groups;
    report->damaged_records += result->damaged_records;
    restore->read_errors = restore->read_errors || result->read_error;
    if (!result->readable || result->read_error)
        r = segment_unreadable(restore, restore->scan.number);
    spool_restore_close(restore);
    restore->segment_index++;
    return r;
}

static bool batch_enough(const struct restore_batch *batch)
{
    return batch->used_bytes >= BATCH_BYTES || batch->message_count >= BATCH_ITEMS ||
           batch->note_count >= BATCH_ITEMS;
}

int spool_restore_scan_job(struct ring_op *op)
{
    struct spool_restore *restore = CONTAINER_OF(op, struct spool_restore, op);
    const struct spool_scan_events events = {restore, found_record, found_note, found_resolved};
    struct restore_batch *batch = &restore->batches[restore->fill];
    struct spool_scan_result end = {0};
    uint64_t bytes = 0;
    int r = 0;

    restore->into = batch;
    restore->scan.events = &events;
    while (r == 0 && bytes < JOB_SCAN_BYTES && !batch_enough(batch)) {
        uint64_t from = restore->scan.offset;

        if (!restore->scanning && restore->segment_index == restore->segment_count) {
            spool_scan_end(&restore->chain, &events, &end);
            restore->report.torn_groups += end.torn_groups;
            batch->last = true;
            break;
        }
        if (!restore->scanning)
            r = scan_open(restore, &events);
        else if (spool_scan_step(&restore->scan))
            bytes += restore->scan.offset - from;
        else
            r = scan_close(restore);
        if (r == 0)
            r = restore->job_error;
    }
    restore->report.bytes_scanned += bytes;
    return r;
}

void spool_restore_close(struct spool_restore *restore)
{
    if (restore->scanning)
        (void)file_close(restore->scan_fd); /* only read */
    restore->scanning = false;
}

/* ---- the checkpoint ------------------------------------------------------------------------- */

static int image_open(struct spool_restore *restore, uint64_t number)
{
    char name[SPOOL_NAME_SIZE];

    if (restore->image_fd >= 0)
        return 0;
    if (number > UINT32_MAX)
        return -EBADMSG;
    spool_segment_name('C', (uint32_t)number, name);
    return file_open(restore->dir_fd, name, FILE_READ, 0, &restore->image_fd);
}

/* Block `restore->block_index` into `block`, verified. */
static int image_block(struct spool_restore *restore, uint64_t number, uint8_t *block,
                       struct spool_image_header *ret_header)
{
    uint64_t offset = (uint64_t)restore->block_index * SPOOL_IMAGE_BLOCK_BYTES;
    ssize_t got = file_read_some(restore->image_fd, block, SPOOL_IMAGE_BLOCK_BYTES, offset);

    if (got < 0) /* one more try, as for a message */
        got = file_read_some(restore->image_fd, block, SPOOL_IMAGE_BLOCK_BYTES, offset);
    if (got < 0)
        return (int)got;
    if (!spool_image_header_decode(slice_of(block, (size_t)got), restore->uuid, number,
                                   restore->block_index, ret_header))
        return -EBADMSG;
    restore->block_index++;
    restore->entries += ret_header->entry_count;
    return restore->entries == ret_header->entries_so_far ? 0 : -EBADMSG;
}

static void image_close(struct spool_restore *restore)
{
    if (restore->image_fd >= 0)
        (void)file_close(restore->image_fd); /* only read */
    restore->image_fd = -1;
    restore->block_index = 0;
    restore->entries = 0;
}

int spool_restore_verify_job(struct ring_op *op)
{
    struct spool_restore *restore = CONTAINER_OF(op, struct spool_restore, op);
    uint64_t number = restore->candidates[restore->candidate].number;
    struct spool_image_header header = {.last = false};
    int r = image_open(restore, number);

    for (uint32_t i = 0; i < VERIFY_BLOCKS && r == 0 && !header.last; i++)
        r = image_block(restore, number, restore->window, &header);
    if (r == 0 && !header.last)
        return 0;
    image_close(restore);
    return r < 0 ? r : 1;
}

int spool_restore_image_job(struct ring_op *op)
{
    struct spool_restore *restore = CONTAINER_OF(op, struct spool_restore, op);
    struct restore_batch *batch = &restore->batches[restore->fill];
    struct spool_image_header header;
    int r = image_open(restore, restore->from.number);

    if (r == 0 && !batch_room(batch, SPOOL_IMAGE_BLOCK_BYTES))
        r = -ENOMEM;
    if (r == 0)
        r = image_block(restore, restore->from.number, batch->bytes, &header);
    if (r < 0) {
        /* It verified a moment ago. */
        restore_sentence(restore, "checkpoint", r);
        return r;
    }
    batch->used_bytes = header.used_bytes;
    batch->image_offset = SPOOL_IMAGE_HEADER_BYTES;
    batch->last = header.last;
    restore->report.entries += header.entry_count;
    if (header.last)
        image_close(restore);
    return 0;
}

/* ---- chunk lists ---------------------------------------------------------------------------- */

static int commit_read(struct spool_restore *restore, int fd, struct restore_batch *batch)
{
    uint64_t offset = (uint64_t)restore->place.offset_16 * SPOOL_RECORD_ALIGN;
    uint32_t bytes = restore->place.record_bytes;
    struct spool_segment_header segment;
    struct spool_chunk_list list;
    struct spool_record record;
    struct spool_sections sections;
    int r;

    if (!batch_room(batch, SPOOL_BLOCK_BYTES + bytes))
        return -ENOMEM;
    r = file_read_all(fd, batch->bytes, SPOOL_BLOCK_BYTES, 0);
    if (r == 0)
        r = file_read_all(fd, batch->bytes + SPOOL_BLOCK_BYTES, bytes, offset);
    if (r < 0)
        return r == -ENODATA ? -EBADMSG : r;
    if (!spool_segment_header_decode(batch->bytes, &segment) ||
        !spool_record_decode(batch->bytes + SPOOL_BLOCK_BYTES, bytes,
                             spool_seed(restore->uuid, segment.incarnation), offset, &record) ||
        record.record_bytes != bytes ||
        !spool_record_body_ok(&record, batch->bytes + SPOOL_BLOCK_BYTES))
        return -EBADMSG;
    spool_record_sections(&record, batch->bytes + SPOOL_BLOCK_BYTES, &sections);
    if (!spool_chunk_list_decode(sections.body, &list))
        return -EBADMSG;
    memmove(batch->bytes, sections.body.data, sections.body.size);
    batch->used_bytes = sections.body.size;
    return 0;
}

int spool_restore_chunks_job(struct ring_op *op)
{
    struct spool_restore *restore = CONTAINER_OF(op, struct spool_restore, op);
    struct restore_batch *batch = &restore->batches[restore->fill];
    bool cold = (restore->place.segment & SPOOL_COLD) != 0;
    char name[SPOOL_NAME_SIZE];
    int fd, r;

    spool_segment_name(cold ? 'R' : 'D', restore->place.segment & ~SPOOL_COLD, name);
    r = file_open(restore->dir_fd, name, FILE_READ, 0, &fd);
    if (r == 0) {
        r = commit_read(restore, fd, batch);
        (void)file_close(fd); /* only read */
    }
    if (r == 0)
        return 0;
    batch->used_bytes = 0;
    /* Damaged or gone for good: its chunks can no longer be read by anybody. */
    return r == -EBADMSG || r == -ENOENT ? 0 : r;
}
