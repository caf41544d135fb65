#include "storage/spool_private.h"

#include "core/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A full scan: J, then D, then what J says laid over what D holds. In memory stand 24 bytes for
 * each message of D and 32 for each note of J; envelopes are read again for those that are not
 * finished. */

struct found { /* a MSG or COMMIT of D */
    uint64_t id;
    uint32_t segment, offset_16;
    uint32_t unit_count;
    uint8_t type;
    bool suspect; /* its envelope verifies and its body does not */
};
struct found_chunk {
    uint32_t segment, offset_16, body_bytes, body_crc;
};
struct found_note {
    uint64_t id;
    uint32_t segment, offset_16;
    uint32_t unit_first, unit_count;
    uint32_t next_s;
    uint8_t type, attempts;
};

struct array {
    void *items;
    size_t count, capacity, item_bytes;
};

/* A file that is read through one descriptor, reopened when another segment's turn comes. */
struct source {
    int dir_fd;
    char stream;
    uint32_t number;
    int fd; /* -1: none */
};

struct recover {
    struct spool_recovery *recovery;
    struct array found, chunks, notes;
    size_t suspects_from;                 /* in `found`: what the next resolved() speaks of */
    struct spool_recovery_stream *stream; /* being scanned */
    uint64_t highest_counter;
    bool any_id;
    int error;
    uint8_t *window;
    struct source d, j;
    uint64_t window_offset;
    size_t window_bytes;
    struct spool_unit *units;
    uint32_t unit_capacity;
    spool_recover_fn *each;
    void *context;
    struct spool_report *report;
};

static void *array_add(struct array *array)
{
    if (array->count == array->capacity) {
        size_t capacity = MAX(array->capacity * 2, (size_t)256);
        void *grown = realloc(array->items, capacity * array->item_bytes);

        if (grown == NULL)
            return NULL;
        array->items = grown;
        array->capacity = capacity;
    }
    return (uint8_t *)array->items + array->count++ * array->item_bytes;
}

typedef int compare_fn(const void *a, const void *b);

/* qsort() must not be given the NULL of an empty array. */
static void items_sort(void *items, size_t count, size_t item_bytes, compare_fn *compare)
{
    if (count > 1)
        qsort(items, count, item_bytes, compare);
}

/* ---- which segments there are --------------------------------------------------------------- */

static int stream_add_segment(struct spool_recovery_stream *stream, uint32_t number)
{
    struct array array = {stream->segments, stream->count, stream->capacity,
                          sizeof(*stream->segments)};
    struct spool_recovered_segment *segment = array_add(&array);

    if (segment == NULL)
        return -ENOMEM;
    *segment = (struct spool_recovered_segment){.number = number};
    stream->segments = array.items;
    stream->count = (uint32_t)array.count;
    stream->capacity = (uint32_t)array.capacity;
    return 0;
}

static int stream_add_spare(struct spool_recovery_stream *stream, uint32_t number)
{
    struct array array = {stream->spares, stream->spare_count, stream->spare_capacity,
                          sizeof(uint32_t)};
    uint32_t *spare = array_add(&array);

    if (spare == NULL)
        return -ENOMEM;
    *spare = number;
    stream->spares = array.items;
    stream->spare_count = (uint32_t)array.count;
    stream->spare_capacity = (uint32_t)array.capacity;
    return 0;
}

static int segment_name_each(void *context, const char *name)
{
    struct spool_recovery *recovery = context;
    uint32_t number;

    if (spool_segment_name_parse(name, 'D', &number))
        return stream_add_segment(&recovery->d, number);
    if (spool_segment_name_parse(name, 'J', &number))
        return stream_add_segment(&recovery->j, number);
    return 0;
}

static int segment_compare(const void *a, const void *b)
{
    const struct spool_recovered_segment *left = a, *right = b;

    return left->number < right->number ? -1 : left->number > right->number;
}

static int segments_list(struct spool_recovery *recovery)
{
    int r = file_list(recovery->directory.dir_fd, segment_name_each, recovery);

    if (r < 0)
        return r;
    items_sort(recovery->d.segments, recovery->d.count, sizeof(*recovery->d.segments),
               segment_compare);
    items_sort(recovery->j.segments, recovery->j.count, sizeof(*recovery->j.segments),
               segment_compare);
    return 0;
}

/* ---- the scan ------------------------------------------------------------------------------- */

static void note_counter(struct recover *recover, uint64_t id)
{
    uint64_t counter = id & SPOOL_ID_COUNTER_MASK;

    if (id >> SPOOL_ID_COUNTER_BITS != recover->recovery->config.number)
        return; /* of another spool: relocated to this one */
    recover->any_id = true;
    recover->highest_counter = MAX(recover->highest_counter, counter);
}

static void found_record(void *context, uint32_t segment, uint64_t offset,
                         const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                         bool body_ok)
{
    struct recover *recover = context;
    uint32_t offset_16 = (uint32_t)(offset / SPOOL_RECORD_ALIGN);

    (void)bytes;
    note_counter(recover, record->id);
    if (record->type == SPOOL_CHUNK && body_ok) {
        struct found_chunk *chunk = array_add(&recover->chunks);

        if (chunk == NULL)
            recover->error = -ENOMEM;
        else
            *chunk = (struct found_chunk){segment, offset_16, record->body_bytes, record->body_crc};
        return;
    }
    if ((record->type != SPOOL_MSG && record->type != SPOOL_COMMIT) || !front_ok ||
        record->unit_count > SPOOL_UNITS_MAX || (record->type == SPOOL_COMMIT && !body_ok))
        return;
    struct found *found = array_add(&recover->found);
    if (found == NULL) {
        recover->error = -ENOMEM;
        return;
    }
    *found =
        (struct found){record->id, segment, offset_16, record->unit_count, record->type, !body_ok};
}

/* A body that does not verify: of a torn write there was no 250, so there is no such message. */
static void found_resolved(void *context, uint32_t segment, bool damage)
{
    struct recover *recover = context;
    struct found *found = recover->found.items;
    size_t kept = recover->suspects_from;

    for (uint32_t i = 0; damage && i < recover->stream->count; i++) {
        if (recover->stream->segments[i].number == segment)
            recover->stream->segments[i].damaged = true;
    }
    if (!damage) {
        for (size_t i = recover->suspects_from; i < recover->found.count; i++) {
            if (!found[i].suspect)
                found[kept++] = found[i];
        }
        recover->found.count = kept;
    }
    recover->suspects_from = recover->found.count;
}

static void found_note(void *context, uint32_t segment, uint64_t offset,
                       const struct spool_journal_record *record, const uint8_t *bytes)
{
    struct recover *recover = context;
    struct found_note *note;

    (void)bytes;
    note_counter(recover, record->id);
    note = array_add(&recover->notes);
    if (note == NULL) {
        recover->error = -ENOMEM;
        return;
    }
    *note = (struct found_note){
        .id = record->id,
        .segment = segment,
        .offset_16 = (uint32_t)(offset / SPOOL_RECORD_ALIGN),
        .unit_first = record->unit_first,
        .unit_count = record->unit_count,
        .next_s = record->next_s,
        .type = record->type,
        .attempts = record->attempts,
    };
}

static ssize_t file_source_read(void *context, void *to, size_t size, uint64_t offset)
{
    return file_read_some(*(int *)context, to, size, offset);
}

static int scan_one(struct recover *recover, char stream, struct spool_recovered_segment *segment,
                    struct buf *error)
{
    static const char what[] = "segment";
    struct spool_scan_events events = {recover, found_record, found_note, found_resolved};
    struct spool_recovery *recovery = recover->recovery;
    struct spool_scan_result result;
    struct file_info info;
    char name[SPOOL_NAME_SIZE];
    int fd, r;

    spool_segment_name(stream, segment->number, name);
    r = file_open(recovery->directory.dir_fd, name, FILE_READ, 0, &fd);
    if (r < 0) {
        buf_printf(error, "%s/%s: cannot be opened: %s", recovery->config.path, name, strerror(-r));
        return r;
    }
    r = file_info(fd, &info);
    if (r == 0) {
        segment->size_bytes = info.size_bytes;
        spool_scan_segment(recovery->directory.super.uuid, stream, segment->number, info.size_bytes,
                           file_source_read, &fd, recover->window, &recover->stream->chain, &events,
                           &result);
        segment->seed = result.seed;
        segment->damaged = segment->damaged || !result.readable || result.read_error;
        recover->report->bytes_scanned += info.size_bytes;
        recover->report->groups += result.groups;
        recover->report->torn_groups += result.torn_groups;
        recover->report->damaged_records += result.damaged_records + (result.readable ? 0 : 1);
        r = recover->error;
    }
    (void)file_close(fd); /* only read */
    if (r == 0 && result.refused) {
        buf_printf(error, "%s/%s: %s of a newer format; use the newer program",
                   recovery->config.path, name, what);
        return -EPROTONOSUPPORT;
    }
    if (r < 0)
        buf_printf(error, "%s/%s: cannot be read: %s", recovery->config.path, name, strerror(-r));
    return r;
}

static int scan_stream(struct recover *recover, char stream, struct spool_recovery_stream *of,
                       struct buf *error)
{
    struct spool_scan_events events = {recover, found_record, found_note, found_resolved};
    struct spool_scan_result end = {0};
    int r = 0;

    recover->stream = of;
    recover->suspects_from = recover->found.count;
    for (uint32_t i = 0; i < of->count && r == 0; i++)
        r = scan_one(recover, stream, &of->segments[i], error);
    spool_scan_end(&of->chain, &events, &end);
    recover->report->torn_groups += end.torn_groups;
    return r;
}

/* ---- order ---------------------------------------------------------------------------------- */

static int place_compare(uint32_t segment_a, uint32_t offset_a, uint32_t segment_b,
                         uint32_t offset_b)
{
    if (segment_a != segment_b)
        return segment_a < segment_b ? -1 : 1;
    return offset_a < offset_b ? -1 : offset_a > offset_b;
}

/* By id, then in order of the log. */
static int found_compare(const void *a, const void *b)
{
    const struct found *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return place_compare(left->segment, left->offset_16, right->segment, right->offset_16);
}

static int note_compare(const void *a, const void *b)
{
    const struct found_note *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return place_compare(left->segment, left->offset_16, right->segment, right->offset_16);
}

static int chunk_compare(const void *a, const void *b)
{
    const struct found_chunk *left = a, *right = b;

    return place_compare(left->segment, left->offset_16, right->segment, right->offset_16);
}

static void array_sort(struct array *array, compare_fn *compare)
{
    items_sort(array->items, array->count, array->item_bytes, compare);
}

/* ---- reading an envelope again -------------------------------------------------------------- */

static int source_open(struct source *source, uint32_t number)
{
    char name[SPOOL_NAME_SIZE];

    if (source->fd >= 0 && source->number == number)
        return 0;
    if (source->fd >= 0)
        (void)file_close(source->fd);
    source->fd = -1;
    source->number = number;
    spool_segment_name(source->stream, number, name);
    return file_open(source->dir_fd, name, FILE_READ, 0, &source->fd);
}

/* Ids ascend roughly as places do, so one window serves many. NULL: it cannot be read. */
static const uint8_t *message_bytes(struct recover *recover, uint32_t segment, uint64_t offset,
                                    size_t bytes)
{
    ssize_t got;

    if (recover->d.fd < 0 || recover->d.number != segment)
        recover->window_bytes = 0;
    if (source_open(&recover->d, segment) < 0)
        return NULL;
    if (recover->window_bytes > 0 && offset >= recover->window_offset &&
        offset + bytes <= recover->window_offset + recover->window_bytes)
        return recover->window + (offset - recover->window_offset);
    got = file_read_some(recover->d.fd, recover->window, SPOOL_SCAN_WINDOW_BYTES, offset);
    if (got < 0)
        got = file_read_some(recover->d.fd, recover->window, bytes, offset);
    recover->window_offset = offset;
    recover->window_bytes = got < 0 ? 0 : (size_t)got;
    return recover->window_bytes >= bytes ? recover->window : NULL;
}

static struct spool_recovered_segment *segment_find(struct spool_recovery_stream *stream,
                                                    uint32_t number)
{
    struct spool_recovered_segment wanted = {.number = number};

    return stream->count == 0 ? NULL
                              : bsearch(&wanted, stream->segments, stream->count,
                                        sizeof(struct spool_recovered_segment), segment_compare);
}

/* ---- J laid over D -------------------------------------------------------------------------- */

struct fate {
    bool aborted, held;
    uint32_t done;
    const struct found_note *reason; /* the newest DEFER */
};

static void fate_units(struct recover *recover, struct fate *fate, const struct found_note *note,
                       uint32_t unit_count)
{
    uint64_t end = MIN((uint64_t)note->unit_first + note->unit_count, unit_count);

    for (uint64_t u = note->unit_first; u < end; u++) {
        struct spool_unit *unit = &recover->units[u];

        if (unit->state == SPOOL_UNIT_DONE)
            continue;
        if (note->type == SPOOL_J_DONE) {
            unit->state = SPOOL_UNIT_DONE;
            fate->done++;
        } else {
            unit->attempts = note->attempts;
            unit->next_s = note->next_s;
        }
    }
}

static int fate_replay(struct recover *recover, const struct found *found,
                       const struct found_note *notes, size_t count, struct fate *ret_fate)
{
    *ret_fate = (struct fate){0};
    if (found->unit_count > recover->unit_capacity) {
        struct spool_unit *grown = realloc(recover->units, found->unit_count * sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        recover->units = grown;
        recover->unit_capacity = found->unit_count;
    }
    if (found->unit_count > 0)
        memset(recover->units, 0, found->unit_count * sizeof(struct spool_unit));
    for (size_t i = 0; i < count; i++) {
        const struct found_note *note = &notes[i];

        if (note->type == SPOOL_J_DONE || note->type == SPOOL_J_DEFER)
            fate_units(recover, ret_fate, note, found->unit_count);
        if (note->type == SPOOL_J_DEFER)
            ret_fate->reason = note;
        if (note->type == SPOOL_J_HOLD || note->type == SPOOL_J_RELEASE)
            ret_fate->held = note->type == SPOOL_J_HOLD;
        ret_fate->aborted = ret_fate->aborted || note->type == SPOOL_J_ABORT;
    }
    return 0;
}

/* `room` holds a whole J record. Empty when it cannot be read again. */
static struct slice reason_read(struct recover *recover, const struct found_note *note,
                                uint8_t *room)
{
    struct spool_recovered_segment *segment = segment_find(&recover->recovery->j, note->segment);
    uint64_t offset = (uint64_t)note->offset_16 * SPOOL_RECORD_ALIGN;
    struct spool_journal_record record;
    ssize_t got;

    if (segment == NULL || source_open(&recover->j, note->segment) < 0)
        return SLICE_NONE;
    got = file_read_some(recover->j.fd, room, SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX,
                         offset);
    if (got < 0 || !spool_journal_decode(room, (uint64_t)got, segment->seed, offset, &record))
        return SLICE_NONE;
    return slice_of(room + SPOOL_JOURNAL_HEADER_BYTES, record.text_bytes);
}

/* ---- presenting ----------------------------------------------------------------------------- */

/* All chunks of a COMMIT verify (QUEUE I6): they were seen by the scan. Marks their segments as
 * needed. */
static bool chunks_present(struct recover *recover, const struct spool_chunk_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct spool_chunk_entry entry = spool_chunk_entry_get(list, i);
        struct found_chunk wanted = {.segment = entry.segment, .offset_16 = entry.offset_16};
        struct found_chunk *chunk =
            recover->chunks.count == 0
                ? NULL
                : bsearch(&wanted, recover->chunks.items, recover->chunks.count, sizeof(wanted),
                          chunk_compare);
        struct spool_recovered_segment *segment =
            segment_find(&recover->recovery->d, entry.segment);

        if (segment != NULL)
            segment->live = true;
        if (chunk == NULL || segment == NULL || chunk->body_bytes != entry.body_bytes ||
            chunk->body_crc != entry.body_crc)
            return false;
    }
    return true;
}

/* The parts of a record that was verified a moment ago. False: it no longer reads, or its chunks
 * are not there. */
static bool message_open(struct recover *recover, const struct found *found, uint32_t seed,
                         struct spool_recovered_message *message)
{
    uint64_t offset = (uint64_t)found->offset_16 * SPOOL_RECORD_ALIGN;
    const uint8_t *bytes =
        message_bytes(recover, found->segment, offset, SPOOL_RECORD_HEADER_BYTES);
    struct spool_record record;
    struct spool_sections sections;
    struct spool_chunk_list list;
    uint64_t skipped = 0;

    if (bytes == NULL || !spool_record_decode(bytes, SPOOL_RECORD_BYTES_MAX, seed, offset, &record))
        return false;
    bytes = message_bytes(recover, found->segment, offset, record.record_bytes);
    if (bytes == NULL || !spool_record_front_ok(&record, bytes))
        return false;
    spool_record_sections(&record, bytes, &sections);
    message->body_bytes = record.body_bytes;
    if (record.type == SPOOL_COMMIT) {
        if (!spool_chunk_list_decode(sections.body, &list) || !chunks_present(recover, &list))
            return false;
        message->body_bytes = list.body_bytes;
    }
    if (!spool_skips_ok(sections.skips, message->body_bytes, &skipped))
        return false;
    message->body_bytes -= skipped;
    message->id = record.id;
    message->location =
        (struct spool_location){found->segment, found->offset_16, record.record_bytes};
    message->envelope = sections.envelope;
    message->head_bytes = record.head_bytes;
    message->arrival_s = record.arrival_s;
    message->flags = record.flags;
    message->unit_count = record.unit_count;
    return true;
}

static int message_present(struct recover *recover, const struct found *found,
                           const struct found_note *notes, size_t note_count)
{
    struct spool_recovered_segment *segment = segment_find(&recover->recovery->d, found->segment);
    uint8_t reason[SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX];
    struct spool_recovered_message message = {0};
    struct fate fate;
    int r = fate_replay(recover, found, notes, note_count, &fate);

    if (r < 0)
        return r;
    if (fate.aborted || fate.done == found->unit_count) {
        recover->report->finished++;
        return 0;
    }
    segment->live = true;
    if (!message_open(recover, found, segment->seed, &message)) {
        recover->report->damaged_records++;
        segment->damaged = true;
        return 0;
    }
    message.held = fate.held;
    message.units = recover->units;
    if (fate.reason != NULL)
        message.reason = reason_read(recover, fate.reason, reason);
    recover->report->messages++;
    return recover->each(recover->context, &message);
}

static int present_all(struct recover *recover)
{
    const struct found *found = recover->found.items;
    const struct found_note *notes = recover->notes.items;
    size_t note = 0;
    int r = 0;

    for (size_t i = 0; i < recover->found.count && r == 0; i++) {
        size_t first;

        if (i + 1 < recover->found.count && found[i + 1].id == found[i].id)
            continue; /* written once more elsewhere: the last place counts */
        while (note < recover->notes.count && notes[note].id < found[i].id)
            note++;
        first = note;
        while (note < recover->notes.count && notes[note].id == found[i].id)
            note++;
        r = message_present(recover, &found[i], notes == NULL ? NULL : notes + first, note - first);
    }
    return r;
}

/* ---- the end: what is dead, what is needed -------------------------------------------------- */

/* Nothing on it is needed any more: one more spare, or its space back. Best effort: it is dead in
 * the next start too. */
static int segment_recycle(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                           char letter, const struct spool_recovered_segment *segment,
                           uint64_t size_bytes, uint32_t spare_target)
{
    char name[SPOOL_NAME_SIZE], spare[SPOOL_NAME_SIZE];

    spool_segment_name(letter, segment->number, name);
    if (segment->size_bytes != size_bytes || stream->spare_count >= spare_target)
        return file_unlink(recovery->directory.dir_fd, name);
    spool_segment_name((char)byte_lower((uint8_t)letter), stream->next_spare, spare);
    if (file_rename_new(recovery->directory.dir_fd, name, recovery->directory.spare_fd, spare) < 0)
        return file_unlink(recovery->directory.dir_fd, name);
    return stream_add_spare(stream, stream->next_spare++);
}

static void stream_recycle(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                           char letter, uint64_t size_bytes, uint32_t spare_target)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < stream->count; i++) {
        struct spool_recovered_segment *segment = &stream->segments[i];

        if (segment->live || segment->damaged ||
            segment_recycle(recovery, stream, letter, segment, size_bytes, spare_target) < 0)
            stream->segments[kept++] = *segment;
    }
    stream->last_number =
        stream->count == 0 ? 0
                           : MAX(stream->last_number, stream->segments[stream->count - 1].number);
    stream->count = kept;
}

/* Names in spare/: half-made ones go, others of the right size are used. */
static int spare_each(void *context, const char *name)
{
    struct spool_recovery *recovery = context;
    struct file_info info;
    uint32_t number;
    bool d = spool_segment_name_parse(name, 'd', &number);
    uint64_t size =
        d ? recovery->config.segment_bytes : spool_journal_segment_bytes(&recovery->config);
    struct spool_recovery_stream *stream = d ? &recovery->d : &recovery->j;

    if (!d && !spool_segment_name_parse(name, 'j', &number)) {
        (void)file_unlink(recovery->directory.spare_fd, name); /* the next start tries again */
        return 0;
    }
    stream->next_spare = MAX(stream->next_spare, number + 1);
    if (file_info_at(recovery->directory.spare_fd, name, &info) == 0 && info.size_bytes == size)
        return stream_add_spare(stream, number);
    (void)file_unlink(recovery->directory.spare_fd, name);
    return 0;
}

static int spare_ensure(struct spool_recovery *recovery, struct spool_recovery_stream *stream,
                        char letter, uint64_t size_bytes)
{
    int r;

    if (stream->spare_count > 0)
        return 0;
    r = spool_spare_make(recovery->directory.spare_fd, recovery->direct, letter, stream->next_spare,
                         size_bytes);
    if (r == -ENOSPC || r == -EDQUOT)
        return 0; /* a full disk must still be drained: it is tried again while running */
    return r < 0 ? r : stream_add_spare(stream, stream->next_spare++);
}

static bool direct_works(const struct spool_recovery *recovery)
{
    int fd;

    if (recovery->config.buffered ||
        file_open(recovery->directory.dir_fd, "SUPER", FILE_READ | FILE_DIRECT, 0, &fd) < 0)
        return false;
    (void)file_close(fd);
    return true;
}

static int recover_finish(struct recover *recover)
{
    struct spool_recovery *recovery = recover->recovery;
    struct spool_super *super = &recovery->directory.super;
    uint64_t j_bytes = spool_journal_segment_bytes(&recovery->config);
    int r;

    recovery->direct = direct_works(recovery);
    recovery->d.next_spare = recovery->j.next_spare = 1;
    r = file_list(recovery->directory.spare_fd, spare_each, recovery);
    if (r < 0)
        return r;
    stream_recycle(recovery, &recovery->d, 'D', recovery->config.segment_bytes,
                   MAX(recovery->config.spare_segments, 1u));
    /* A note is needed as long as its message is on disk. */
    recovery->j.last_number =
        recovery->j.count == 0 ? 0 : recovery->j.segments[recovery->j.count - 1].number;
    if (recovery->d.count == 0 && file_sync_dir(recovery->directory.dir_fd) == 0)
        stream_recycle(recovery, &recovery->j, 'J', j_bytes, 1);
    recovery->next_counter =
        MAX(super->id_limit, recover->any_id ? recover->highest_counter + 1 : 1);
    super->id_limit = recovery->next_counter + SPOOL_ID_GAP;
    super->epoch++;
    r = spool_super_write(recovery->directory.dir_fd, super);
    if (r == 0)
        r = spare_ensure(recovery, &recovery->d, 'D', recovery->config.segment_bytes);
    if (r == 0)
        r = spare_ensure(recovery, &recovery->j, 'J', j_bytes);
    return r;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int recover_run(struct recover *recover, struct buf *error)
{
    struct spool_recovery *recovery = recover->recovery;
    int r = segments_list(recovery);

    if (r == 0)
        r = scan_stream(recover, 'J', &recovery->j, error);
    if (r == 0)
        r = scan_stream(recover, 'D', &recovery->d, error);
    if (r < 0)
        return r;
    array_sort(&recover->found, found_compare);
    array_sort(&recover->chunks, chunk_compare);
    array_sort(&recover->notes, note_compare);
    r = present_all(recover);
    return r == 0 ? recover_finish(recover) : r;
}

static void recover_deinit(struct recover *recover)
{
    if (recover->d.fd >= 0)
        (void)file_close(recover->d.fd);
    if (recover->j.fd >= 0)
        (void)file_close(recover->j.fd);
    free(recover->found.items);
    free(recover->chunks.items);
    free(recover->notes.items);
    free(recover->units);
    free(recover->window);
}

static int recovery_create(const struct spool_config *config, struct buf *error,
                           struct spool_recovery **ret_recovery)
{
    struct spool_recovery *recovery = calloc(1, sizeof(*recovery));
    int r;

    ASSERT(config->number < 1024 && config->segment_bytes % MIB == 0 &&
           config->segment_bytes >= MIB);
    if (recovery == NULL)
        return -ENOMEM;
    recovery->config = *config;
    recovery->config.path = recovery->path = strdup(config->path);
    r = recovery->path == NULL
            ? -ENOMEM
            : spool_directory_open(&recovery->config, &recovery->directory, error);
    if (r < 0) {
        free(recovery->path);
        free(recovery);
        return r;
    }
    *ret_recovery = recovery;
    return 0;
}

int spool_recover(const struct spool_config *config, spool_recover_fn *each, void *context,
                  struct spool_recovery **ret_recovery, struct spool_report *ret_report,
                  struct buf *error)
{
    struct recover recover = {
        .found.item_bytes = sizeof(struct found),
        .chunks.item_bytes = sizeof(struct found_chunk),
        .notes.item_bytes = sizeof(struct found_note),
        .each = each,
        .context = context,
        .report = ret_report,
    };
    uint64_t began_ns = clock_monotonic_ns();
    int r = recovery_create(config, error, &recover.recovery);

    *ret_report = (struct spool_report){0};
    if (r < 0)
        return r;
    recover.d = (struct source){recover.recovery->directory.dir_fd, 'D', 0, -1};
    recover.j = (struct source){recover.recovery->directory.dir_fd, 'J', 0, -1};
    recover.window = malloc(SPOOL_SCAN_WINDOW_BYTES);
    r = recover.window == NULL ? -ENOMEM : recover_run(&recover, error);
    recover_deinit(&recover);
    if (r < 0) {
        if (error->size == 0)
            buf_printf(error, "%s: cannot be recovered: %s", config->path, strerror(-r));
        spool_recovery_destroy(&recover.recovery);
        return r;
    }
    ret_report->microseconds = (clock_monotonic_ns() - began_ns) / US_NS;
    *ret_recovery = recover.recovery;
    return 0;
}

void spool_recovery_destroy(struct spool_recovery **recovery)
{
    struct spool_recovery *r = *recovery;

    if (r == NULL)
        return;
    spool_directory_close(&r->directory);
    free(r->d.segments);
    free(r->d.spares);
    free(r->j.segments);
    free(r->j.spares);
    free(r->path);
    free(r);
    *recovery = NULL;
}

uint64_t spool_recovery_counter(const struct spool_recovery *recovery)
{
    return (uint64_t)recovery->config.number << SPOOL_ID_COUNTER_BITS | recovery->next_counter;
}
