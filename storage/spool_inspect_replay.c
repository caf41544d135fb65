#include "storage/spool_inspect_private.h"

#include <errno.h>
#include <stdlib.h>

/* What J says, laid over what D holds, as recovery does it. */

static int message_compare(const void *a, const void *b)
{
    const struct inspect_message *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

static int note_compare(const void *a, const void *b)
{
    const struct inspect_note *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

struct fate {
    bool aborted, held;
    uint32_t done;
    const struct inspect_note *reason; /* the newest DEFER */
    struct slice first_reason;         /* of the checkpoint or the RELOC, before that */
};

/* Where J goes on from. */
static void fate_begin(struct spool_inspect *inspect, const struct inspect_message *message,
                       struct fate *fate)
{
    const struct inspect_state *states = inspect->states.items;
    const struct inspect_state *state;

    *fate = (struct fate){0};
    if (message->state == 0) {
        memset(inspect->units, 0, message->unit_count * sizeof(struct spool_unit));
        return;
    }
    state = &states[message->state - 1];
    memcpy(inspect->units, (struct spool_unit *)inspect->state_units.items + state->unit_first,
           message->unit_count * sizeof(struct spool_unit));
    for (uint32_t i = 0; i < message->unit_count; i++)
        fate->done += inspect->units[i].state == SPOOL_UNIT_DONE;
    fate->held = state->held;
    fate->first_reason =
        slice_first(slice_skip(buf_slice(&inspect->texts), state->reason_at), state->reason_size);
}

static void fate_units(struct spool_inspect *inspect, struct fate *fate,
                       const struct inspect_note *note, uint32_t unit_count)
{
    uint64_t end = MIN((uint64_t)note->unit_first + note->unit_count, unit_count);

    for (uint64_t u = note->unit_first; u < end; u++) {
        struct spool_unit *unit = &inspect->units[u];

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

static int fate_replay(struct spool_inspect *inspect, const struct inspect_message *message,
                       const struct inspect_note *notes, size_t count, struct fate *ret_fate)
{
    if (message->unit_count > inspect->unit_capacity) {
        struct spool_unit *grown = realloc(inspect->units, message->unit_count * sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        inspect->units = grown;
        inspect->unit_capacity = message->unit_count;
    }
    fate_begin(inspect, message, ret_fate);
    for (size_t i = 0; i < count; i++) {
        const struct inspect_note *note = &notes[i];

        if (note->type == SPOOL_J_DONE || note->type == SPOOL_J_DEFER)
            fate_units(inspect, ret_fate, note, message->unit_count);
        if (note->type == SPOOL_J_DEFER)
            ret_fate->reason = note;
        if (note->type == SPOOL_J_HOLD || note->type == SPOOL_J_RELEASE)
            ret_fate->held = note->type == SPOOL_J_HOLD;
        ret_fate->aborted = ret_fate->aborted || note->type == SPOOL_J_ABORT;
    }
    return 0;
}

/* `room` holds a whole J record. Empty when it cannot be read again. */
static struct slice reason_read(struct spool_inspect *inspect, const struct inspect_note *note,
                                uint8_t room[SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX])
{
    const struct inspect_segment *segment = inspect_segment_find(inspect, 'J', note->segment);
    uint64_t offset = (uint64_t)note->offset_16 * SPOOL_RECORD_ALIGN;
    struct spool_journal_record record;
    size_t size;

    if (segment == NULL || offset > segment->size_bytes)
        return SLICE_NONE;
    size = MIN(SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX, segment->size_bytes - offset);
    if (inspect_read(inspect, segment, room, size, offset) < 0 ||
        !spool_journal_decode(room, size, segment->seed, offset, &record))
        return SLICE_NONE;
    return slice_of(room + SPOOL_JOURNAL_HEADER_BYTES, record.text_bytes);
}

/* ---- presenting ----------------------------------------------------------------------------- */

/* `copy` keeps the envelope, because the window is read over. -EBADMSG: it cannot be presented. */
static int message_open(struct spool_inspect *inspect, const struct inspect_message *found,
                        struct buf *copy, struct spool_recovered_message *message)
{
    struct spool_record record;
    struct spool_sections sections;
    struct spool_chunk_list list;
    uint64_t skipped = 0;
    int r = inspect_record(inspect, found->location.segment,
                           (uint64_t)found->location.offset_16 * SPOOL_RECORD_ALIGN, &record,
                           &sections);

    if (r < 0)
        return r;
    message->body_bytes = record.body_bytes;
    if (inspect_is_chunked(&record)) {
        if (!spool_chunk_list_decode(sections.body, &list))
            return -EBADMSG;
        message->body_bytes = list.body_bytes;
    }
    if (!spool_skips_ok(sections.skips, message->body_bytes, &skipped))
        return -EBADMSG;
    message->body_bytes -= skipped;
    message->id = record.id;
    message->location = found->location;
    message->head_bytes = record.head_bytes;
    message->arrival_s = record.arrival_s;
    message->flags = record.flags & (uint8_t)~SPOOL_RELOC_CHUNKED;
    message->unit_count = record.unit_count;
    buf_reset(copy);
    buf_append(copy, sections.envelope);
    buf_append(copy, sections.body); /* the list of a COMMIT; the window is about to be used */
    if (copy->failed)
        return -ENOMEM;
    message->envelope = slice_first(buf_slice(copy), sections.envelope.size);
    if (inspect_is_chunked(&record)) {
        if (!spool_chunk_list_decode(slice_skip(buf_slice(copy), sections.envelope.size), &list))
            return -EBADMSG;
        r = inspect_chunks_ok(inspect, &list);
    }
    return r;
}

static int message_present(struct spool_inspect *inspect, const struct inspect_message *found,
                           const struct inspect_note *notes, size_t note_count, struct buf *copy,
                           spool_inspect_fn *each, void *context)
{
    uint8_t reason[SPOOL_JOURNAL_HEADER_BYTES + SPOOL_JOURNAL_TEXT_MAX];
    struct spool_recovered_message message = {0};
    struct fate fate;
    int r = fate_replay(inspect, found, notes, note_count, &fate);

    if (r < 0)
        return r;
    if (fate.aborted || fate.done == found->unit_count) {
        inspect->totals.finished++;
        return 0;
    }
    r = message_open(inspect, found, copy, &message);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        inspect->totals.unreadable++;
        return 0;
    }
    message.held = fate.held;
    message.units = inspect->units;
    message.reason = fate.first_reason;
    if (fate.reason != NULL)
        message.reason = reason_read(inspect, fate.reason, reason);
    inspect->totals.messages++;
    inspect->totals.held += fate.held;
    inspect->totals.open_units += found->unit_count - fate.done;
    return each(context, &message);
}

int spool_inspect_messages(struct spool_inspect *inspect, spool_inspect_fn *each, void *context)
{
    const struct inspect_message *found = inspect->messages.items;
    const struct inspect_note *notes = inspect->notes.items;
    struct buf copy;
    size_t note = 0;
    int r = 0;

    ASSERT(!inspect->replayed); /* once: the totals are counted here */
    inspect->replayed = true;
    spool_items_sort(inspect->messages.items, inspect->messages.count, inspect->messages.item_bytes,
                     message_compare);
    spool_items_sort(inspect->notes.items, inspect->notes.count, inspect->notes.item_bytes,
                     note_compare);
    buf_init(&copy, 2 * MIB);
    for (size_t i = 0; i < inspect->messages.count && r == 0; i++) {
        size_t first;

        if (i + 1 < inspect->messages.count && found[i + 1].id == found[i].id)
            continue; /* written once more elsewhere: the last place counts */
        while (note < inspect->notes.count && notes[note].id < found[i].id)
            note++;
        first = note;
        while (note < inspect->notes.count && notes[note].id == found[i].id)
            note++;
        r = message_present(inspect, &found[i], notes == NULL ? NULL : notes + first, note - first,
                            &copy, each, context);
    }
    buf_deinit(&copy);
    return r;
}
