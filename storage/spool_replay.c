#include "storage/spool_recover_private.h"

#include <errno.h>
#include <stdlib.h>

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
    const struct spool_found *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return place_compare(left->segment, left->offset_16, right->segment, right->offset_16);
}

static int note_compare(const void *a, const void *b)
{
    const struct spool_found_note *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return place_compare(left->segment, left->offset_16, right->segment, right->offset_16);
}

static int chunk_compare(const void *a, const void *b)
{
    const struct spool_found_chunk *left = a, *right = b;

    return place_compare(left->segment, left->offset_16, right->segment, right->offset_16);
}

static void array_sort(struct spool_array *array, spool_compare_fn *compare)
{
    spool_items_sort(array->items, array->count, array->item_bytes, compare);
}

/* ---- reading an envelope again -------------------------------------------------------------- */

static int source_open(struct spool_source *source, uint32_t number)
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
static const uint8_t *message_bytes(struct spool_recover_run *recover, uint32_t segment,
                                    uint64_t offset, size_t bytes)
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

static int segment_compare(const void *a, const void *b)
{
    const struct spool_recovered_segment *left = a, *right = b;

    return left->number < right->number ? -1 : left->number > right->number;
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
    const struct spool_found_note *reason; /* the newest DEFER */
};

static void fate_units(struct spool_recover_run *recover, struct fate *fate,
                       const struct spool_found_note *note, uint32_t unit_count)
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

static int fate_replay(struct spool_recover_run *recover, const struct spool_found *found,
                       const struct spool_found_note *notes, size_t count, struct fate *ret_fate)
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
        const struct spool_found_note *note = &notes[i];

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
static struct slice reason_read(struct spool_recover_run *recover,
                                const struct spool_found_note *note, uint8_t *room)
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
static bool chunks_present(struct spool_recover_run *recover, const struct spool_chunk_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct spool_chunk_entry entry = spool_chunk_entry_get(list, i);
        struct spool_found_chunk wanted = {.segment = entry.segment, .offset_16 = entry.offset_16};
        struct spool_found_chunk *chunk =
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
static bool message_open(struct spool_recover_run *recover, const struct spool_found *found,
                         uint32_t seed, struct spool_recovered_message *message)
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

static int message_present(struct spool_recover_run *recover, const struct spool_found *found,
                           const struct spool_found_note *notes, size_t note_count)
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

int spool_replay(struct spool_recover_run *recover)
{
    const struct spool_found *found = recover->found.items;
    const struct spool_found_note *notes = recover->notes.items;
    size_t note = 0;
    int r = 0;

    array_sort(&recover->found, found_compare);
    array_sort(&recover->chunks, chunk_compare);
    array_sort(&recover->notes, note_compare);

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
