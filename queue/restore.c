#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

#include "queue/restore_private.h"

/* What a spool brings back from earlier lives, applied as it comes: the image of a checkpoint, then what stands behind it
 * in D and in the cold lane, then J. Everything is absolute, so a message that comes again, or a note that was in the
 * image already, changes nothing (QUEUE I17). Until all is back its items stay NEW, in no list, and nothing of them is
 * tried.
 *
 * An image has no envelopes, so a note about some recipients of a message with several items does not say which item
 * that concerns. Which recipients are open is in the bitmap, and exact; the items of such a message are sorted out when
 * its envelope has been read, before it is scheduled (ENTRY_SORT, restored.c). */
#define NUMBERS_MAX (1u << 24) /* of texts: more than a queue has destinations */
#define FINAL 5                /* status class */

int restore_room(void **array, size_t *capacity, size_t wanted, size_t size)
{
    size_t grown_to = MAX(wanted, *capacity * 2);
    void *grown;

    if (wanted <= *capacity)
        return 0;
    grown = reallocarray(*array, grown_to, size);
    if (grown == NULL)
        return -ENOMEM;
    memset((char *)grown + *capacity * size, 0, (grown_to - *capacity) * size);
    *array = grown;
    *capacity = grown_to;
    return 0;
}

int restore_get(struct queue_part *part)
{
    if (part->restore == NULL) {
        part->restore = calloc(1, sizeof(*part->restore));
        if (part->restore != NULL)
            list_init(&part->restore->readers);
    }
    return part->restore == NULL ? -ENOMEM : 0;
}

void restore_removed(struct queue_part *part, uint32_t entry)
{
    struct restore *restore = part->restore;
    const struct index *index = &part->queue->index;

    if (restore == NULL)
        return;
    if (restore->near == entry)
        restore->near = index_before(index, entry);
    if (restore->next == entry)
        restore->next = entry == part->youngest ? INDEX_NONE : index_older_first(index, entry);
}

/* ---- texts ------------------------------------------------------------------------------------- */

static int destination_text(struct queue_part *part, uint32_t number, struct slice name)
{
    struct queue *queue = part->queue;
    struct restore *restore = part->restore;
    struct destination *destination = queue->destinations[QUEUE_LOCAL];
    bool local = false;
    int r = restore_room((void **)&restore->destinations, &restore->destination_capacity,
                         (size_t)number + 1, sizeof(*restore->destinations));

    if (r == 0 && !slice_equal(name, RESTORE_LOCAL_NAME)) {
        name = slice_first(name, QUEUE_NAME_MAX);
        local = queue->ops.is_local(queue->context, name);
        r = destination_get(queue, name, &destination);
    }
    if (r < 0)
        return r;
    /* It stays known until the messages that name it are here. */
    destination_item_added(destination);
    if (restore->destinations[number].destination != NULL)
        destination_item_done(restore->destinations[number].destination);
    restore->destinations[number] = (struct restore_destination){destination, local};
    return 0;
}

static int reason_text_found(struct queue_part *part, uint32_t number, const uint8_t status[3],
                             struct slice text)
{
    struct queue *queue = part->queue;
    struct restore *restore = part->restore;
    int r = restore_room((void **)&restore->reasons, &restore->reason_capacity, (size_t)number + 1,
                         sizeof(*restore->reasons));

    if (r < 0)
        return r;
    reason_unref(&queue->reasons, restore->reasons[number]);
    restore->reasons[number] = reason_intern(&queue->reasons, status, text);
    return 0;
}

static int on_text(void *context, enum spool_image_text kind, uint32_t number,
                   const uint8_t status[3], struct slice text)
{
    struct queue_part *part = context;
    int r = number == 0 || number >= NUMBERS_MAX ? -EBADMSG : restore_get(part);

    if (r < 0)
        return r;
    switch (kind) {
    case SPOOL_TEXT_DESTINATION:
        return destination_text(part, number, text);
    case SPOOL_TEXT_REASON:
        return reason_text_found(part, number, status, text);
    }
    return -EBADMSG;
}

/* ---- places ------------------------------------------------------------------------------------- */

static bool same_place(const struct spool_location *a, const struct spool_location *b)
{
    return a->segment == b->segment && a->offset_16 == b->offset_16;
}

static void set_place(struct index_entry *entry, const struct spool_location *location)
{
    entry->segment = location->segment;
    entry->offset_16 = location->offset_16;
    entry->record_bytes = location->record_bytes;
}

/* The newer one counts; the other is not needed any more. */
static void take_place(struct queue_part *part, uint32_t number,
                       const struct spool_location *location)
{
    struct index_entry *entry = index_entry(&part->queue->index, number);
    struct spool_location old = entry_location(entry);

    if (same_place(&old, location))
        return;
    set_place(entry, location);
    part_release(part, entry->id, &old);
}

static int insert(struct queue_part *part, uint32_t number)
{
    struct restore *restore = part->restore;
    uint32_t near = restore->near == INDEX_NONE ? part_front(part) : restore->near;
    uint32_t open = index_open_bits(&part->queue->index, number);
    int r = restore_room((void **)&restore->strays, &restore->stray_capacity,
                         restore->stray_count + 1, sizeof(*restore->strays));

    if (r < 0)
        return r;
    restore->highest_id = MAX(restore->highest_id, index_entry(&part->queue->index, number)->id);
    if (part_insert_near(part, number, near))
        restore->near = number;
    else
        restore->strays[restore->stray_count++] = index_entry(&part->queue->index, number)->id;
    part->units += open;
    part->done.recovered += open;
    part->queue->totals.recovered++;
    return 0;
}

static bool of_earlier_life(const struct queue_part *part, uint64_t id)
{
    return id >> PART_ID_SHIFT == part->number && id < part->first_id;
}

/* ---- the image ----------------------------------------------------------------------------------- */

/* A retry does not say when it was put off: before its time came, and no longer before than the settings have ever
 * allowed to wait, whatever they say now. */
#define RETRY_WAIT_S (2 * 24 * 3600u) /* the largest retry_max, */
#define RETRY_JITTER_S (RETRY_WAIT_S / 8)

static void seen(struct queue_part *part, uint32_t arrival_s, uint32_t next_s)
{
    part->newest_from_s = MAX(part->newest_from_s, arrival_s);
    part->newest_to_s = MAX(part->newest_to_s, MAX(arrival_s, next_s));
    if (next_s > RETRY_WAIT_S + RETRY_JITTER_S)
        part->newest_from_s = MAX(part->newest_from_s, next_s - (RETRY_WAIT_S + RETRY_JITTER_S));
}

static int check_item(const struct restore *restore, const struct spool_image_item *item)
{
    if (item->destination >= restore->destination_capacity ||
        restore->destinations[item->destination].destination == NULL)
        return -EBADMSG;
    if (item->reason != 0 &&
        (item->reason >= restore->reason_capacity || restore->reasons[item->reason] == REASON_NONE))
        return -EBADMSG;
    return 0;
}

static int check_entry(const struct queue_part *part, const struct spool_image_entry *entry)
{
    int r = 0;

    if (!of_earlier_life(part, entry->id) || part->restore == NULL || entry->unit_count == 0 ||
        entry->item_count == 0 || entry->item_count > entry->unit_count ||
        entry->units_per_item == 0)
        return -EBADMSG;
    for (uint32_t i = 0; i < entry->item_count && r == 0; i++)
        r = check_item(part->restore, &entry->items[i]);
    return r;
}

static void image_item(struct queue_part *part, uint32_t number, bool alone,
                       const struct spool_image_item *from, bool damaged)
{
    struct queue *queue = part->queue;
    const struct restore_destination *to = &part->restore->destinations[from->destination];
    struct index_item *item = index_item(&queue->index, number);
    struct destination *destination =
        alone && to->local ? queue->destinations[QUEUE_LOCAL] : to->destination;

    item->destination = destination->number;
    destination_item_added(destination);
    queue->state_counts[ITEM_NEW]++;
    item->open_count = from->open_count;
    item->attempts = from->attempts;
    item->due_s = from->flags & SPOOL_ITEM_TRIED ? from->next_s : 0;
    item->in_doubt = (from->flags & SPOOL_ITEM_IN_DOUBT) != 0;
    item->fate = damaged ? FATE_DAMAGED : from->flags & SPOOL_ITEM_FAILING ? FATE_FAILS : FATE_NONE;
    if (from->reason != 0) {
        item->reason = part->restore->reasons[from->reason];
        reason_ref(&queue->reasons, item->reason);
    }
    if (!alone && from->open_count == 0)
        item_enter(queue, number, ITEM_DONE);
    seen(part, 0, item->due_s);
}

static int image_items(struct queue_part *part, uint32_t number,
                       const struct spool_image_entry *from)
{
    struct index *index = &part->queue->index;
    bool damaged = from->flags & SPOOL_ENTRY_DAMAGED;
    uint32_t last = INDEX_NONE;

    if (from->item_count == 1) {
        image_item(part, number, true, from->items, damaged);
        index_item(index, number)->open_count =
            (uint16_t)(from->unit_count == 1 ? 1 : index_open_bits(index, number));
        return 0;
    }
    for (uint32_t i = 0; i < from->item_count; i++) {
        int r = index_unit_add(index, number, last, &last);

        if (r < 0)
            return r;
        image_item(part, last, false, &from->items[i], damaged);
    }
    return 0;
}

int restore_wants_sort(struct queue_part *part, uint32_t number)
{
    struct restore *restore = part->restore;
    struct index_entry *entry = index_entry(&part->queue->index, number);
    int r;

    if (entry->flags & ENTRY_SORT)
        return 0;
    r = restore_room((void **)&restore->sorts, &restore->sort_capacity, restore->sort_count + 1,
                     sizeof(*restore->sorts));
    if (r < 0)
        return r;
    restore->sorts[restore->sort_count++] = entry->id;
    entry->flags |= ENTRY_SORT;
    return 0;
}

static int image_new(struct queue_part *part, const struct spool_image_entry *from)
{
    struct index *index = &part->queue->index;
    struct index_entry *entry;
    uint32_t number;
    int r = index_alloc(index, from->unit_count, &number);

    if (r < 0)
        return r;
    entry = index_entry(index, number);
    entry->id = from->id;
    set_place(entry, &from->location);
    entry->arrival_s = from->arrival_s;
    entry->size_bytes = from->size_bytes;
    entry->chunk = from->units_per_item;
    entry->flags =
        (uint8_t)(ENTRY_IMAGED | (from->message_flags & SPOOL_REPORT ? ENTRY_REPORT : 0) |
                  (from->flags & SPOOL_ENTRY_HELD ? ENTRY_HOLD : 0) |
                  (from->flags & SPOOL_ENTRY_CHUNKED ? ENTRY_CHUNKED : 0));
    if (from->open_bits != NULL && from->unit_count > 1)
        index_bits_load(index, number, from->open_bits);
    r = image_items(part, number, from);
    /* It was written while it waited to be sorted itself. */
    if (r == 0 && from->item_count > 1 &&
        index_open_count(index, number) != index_open_bits(index, number))
        r = restore_wants_sort(part, number);
    if (r == 0)
        r = insert(part, number);
    if (r < 0) {
        message_unbuild(part->queue, number);
        return r;
    }
    seen(part, from->arrival_s, 0);
    if (index_open_bits(index, number) == 0)
        message_free(part->queue, number);
    return 0;
}

static int on_image(void *context, const struct spool_image_entry *entry)
{
    struct queue_part *part = context;
    int r = check_entry(part, entry);
    uint32_t known;

    if (r < 0)
        return r;
    /* A walk in order of ids: one that is higher than all before is none of them, and need not be looked for. */
    known = entry->id > part->restore->highest_id ? INDEX_NONE
                                                  : index_find(&part->queue->index, entry->id);
    if (known == INDEX_NONE)
        return image_new(part, entry);
    take_place(part, known, &entry->location);
    return 0;
}

/* ---- notes ---------------------------------------------------------------------------------------- */

bool restore_close(struct queue_part *part, uint32_t number, uint32_t unit)
{
    struct queue *queue = part->queue;
    struct index_entry *entry = index_entry(&queue->index, number);

    if (!index_unit_open(&queue->index, number, unit))
        return false;
    ASSERT(part->units > 0);
    index_unit_close(&queue->index, number, unit);
    part->units--;
    if (!(entry->flags & ENTRY_SPLIT) && --entry->item.open_count == 0)
        item_enter(queue, number, ITEM_DONE);
    return true;
}

bool restore_free_if_over(struct queue_part *part, uint32_t number)
{
    if (index_open_bits(&part->queue->index, number) > 0)
        return false;
    message_free(part->queue, number);
    return true;
}

/* Finished in an earlier life, so it was not recovered after all. */
static int apply_done(struct queue_part *part, uint32_t number, uint64_t first, uint64_t end)
{
    bool split = index_entry(&part->queue->index, number)->flags & ENTRY_SPLIT, any = false;

    for (uint64_t unit = first; unit < end; unit++) {
        if (restore_close(part, number, (uint32_t)unit)) {
            part->done.recovered--;
            any = true;
        }
    }
    if (!any || restore_free_if_over(part, number))
        return 0;
    return split ? restore_wants_sort(part, number) : 0;
}

void restore_put_off(struct queue *queue, uint32_t item, const struct restore_defer *defer)
{
    struct index_item *it = index_item(&queue->index, item);

    it->attempts = defer->attempts;
    it->due_s = defer->next_s;
    it->in_doubt = defer->in_doubt;
    it->fate = defer->fails ? FATE_FAILS : FATE_NONE;
    reason_ref(&queue->reasons, defer->reason);
    item_set_reason(queue, item, defer->reason);
}

static bool any_open(const struct index *index, uint32_t number, uint64_t first, uint64_t end)
{
    for (uint64_t unit = first; unit < end; unit++) {
        if (index_unit_open(index, number, (uint32_t)unit))
            return true;
    }
    return false;
}

static int apply_defer(struct queue_part *part, uint32_t number, const struct restore_defer *defer)
{
    struct restore *restore = part->restore;
    struct queue *queue = part->queue;
    struct index_entry *entry = index_entry(&queue->index, number);
    int r;

    if (!any_open(&queue->index, number, defer->first, defer->end))
        return 0;
    if (!(entry->flags & ENTRY_SPLIT)) {
        restore_put_off(queue, number, defer);
        return 0;
    }
    r = restore_room((void **)&restore->defers, &restore->defer_capacity, restore->defer_count + 1,
                     sizeof(*restore->defers));
    if (r == 0)
        r = restore_wants_sort(part, number);
    if (r < 0)
        return r;
    restore->defers[restore->defer_count] = *defer;
    restore->defers[restore->defer_count].order = (uint32_t)restore->defer_count;
    restore->defer_count++;
    reason_ref(&queue->reasons, defer->reason);
    return 0;
}

static int defer_noted(struct queue_part *part, uint32_t number,
                       const struct spool_recovered_note *note, uint64_t end)
{
    struct reasons *reasons = &part->queue->reasons;
    struct restore_defer defer = {
        .id = note->id,
        .first = note->unit_first,
        .end = (uint32_t)end,
        .next_s = note->next_s,
        .attempts = note->attempts,
        .in_doubt = note->in_doubt,
        /* What an operator returned: there is no time at which it would be tried again. */
        .fails = note->next_s == 0 && note->status[0] == FINAL,
        .reason = reason_intern(reasons, note->status, note->text),
    };
    int r = apply_defer(part, number, &defer);

    reason_unref(reasons, defer.reason);
    seen(part, 0, note->next_s);
    return r;
}

/* The peer was told that we did not take it. */
static void apply_abort(struct queue_part *part, uint32_t number)
{
    part->done.recovered -= index_open_bits(&part->queue->index, number);
    message_free(part->queue, number);
}

static int on_noted(void *context, const struct spool_recovered_note *note)
{
    struct queue_part *part = context;
    struct index *index = &part->queue->index;
    uint32_t number = of_earlier_life(part, note->id) ? index_find(index, note->id) : INDEX_NONE;
    struct index_entry *entry;
    uint64_t end;

    if (number == INDEX_NONE)
        return 0;
    entry = index_entry(index, number);
    end = MIN((uint64_t)note->unit_first + note->unit_count, (uint64_t)entry->unit_count);
    switch (note->kind) {
    case SPOOL_NOTE_DONE:
        return apply_done(part, number, note->unit_first, end);
    case SPOOL_NOTE_DEFER:
        return defer_noted(part, number, note, end);
    case SPOOL_NOTE_HOLD:
        entry->flags |= ENTRY_HOLD;
        return 0;
    case SPOOL_NOTE_RELEASE:
        entry->flags &= (uint8_t)~ENTRY_HOLD;
        return 0;
    case SPOOL_NOTE_ABORT:
        apply_abort(part, number);
        return 0;
    }
    return 0;
}

/* ---- records -------------------------------------------------------------------------------------- */

/* A copy in the cold lane knows what was known of each recipient when it was made. */
static int apply_units(struct queue_part *part, uint32_t number,
                       const struct spool_recovered_message *message)
{
    struct index_entry *entry = index_entry(&part->queue->index, number);
    const uint8_t later[3] = {4, 0, 0};
    struct restore_defer defer = {.id = message->id};
    int r = 0;

    entry->flags = (uint8_t)((entry->flags & ~ENTRY_HOLD) | (message->held ? ENTRY_HOLD : 0));
    defer.reason = message->reason.size == 0
                       ? REASON_NONE
                       : reason_intern(&part->queue->reasons, later, message->reason);
    for (uint32_t i = 0; i < message->unit_count && r == 0; i++) {
        const struct spool_unit *unit = &message->units[i];

        defer.first = i;
        defer.end = i + 1;
        defer.attempts = unit->attempts;
        defer.next_s = unit->next_s;
        if (unit->state == SPOOL_UNIT_DONE)
            r = apply_done(part, number, i, i + 1);
        else if (unit->attempts > 0)
            r = apply_defer(part, number, &defer);
        if (index_find(&part->queue->index, message->id) == INDEX_NONE)
            break; /* all of it was done */
    }
    reason_unref(&part->queue->reasons, defer.reason);
    return r;
}

static void fill_entry(struct index_entry *entry, const struct spool_recovered_message *message)
{
    entry->id = message->id;
    set_place(entry, &message->location);
    entry->arrival_s = message->arrival_s;
    entry->size_bytes =
        (uint32_t)MIN(message->head_bytes + message->body_bytes, (uint64_t)UINT32_MAX);
    entry->flags =
        (uint8_t)((message->flags & SPOOL_REPORT ? ENTRY_REPORT : 0) |
                  (message->held ? ENTRY_HOLD : 0) | (message->chunked ? ENTRY_CHUNKED : 0));
}

static void set_reason_of_all(struct queue *queue, uint32_t number, struct slice text)
{
    const uint8_t later[3] = {4, 0, 0};

    for (uint32_t item = index_next_item(&queue->index, number, INDEX_NONE);
         item != INDEX_NONE && text.size > 0; item = index_next_item(&queue->index, number, item))
        item_set_reason(queue, item, reason_intern(&queue->reasons, later, text));
}

static void items_over(struct queue *queue, uint32_t number)
{
    for (uint32_t item = index_next_item(&queue->index, number, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, number, item)) {
        if (index_item(&queue->index, item)->open_count == 0)
            item_enter(queue, item, ITEM_DONE);
    }
}

static int found_new(struct queue_part *part, const struct spool_recovered_message *message,
                     const struct envelope *envelope)
{
    struct queue *queue = part->queue;
    struct recipient_source source = {.envelope = envelope->recipients};
    uint32_t number;
    int r = index_alloc(&queue->index, message->unit_count, &number);

    if (r < 0)
        return r;
    fill_entry(index_entry(&queue->index, number), message);
    r = message_build(queue, number, &source, message->unit_count, message->units, NULL);
    if (r == 0)
        r = insert(part, number);
    if (r < 0) {
        message_unbuild(queue, number);
        return r;
    }
    set_reason_of_all(queue, number, message->reason);
    items_over(queue, number);
    if (message_done(queue, number))
        message_free(queue, number);
    return 0;
}

/* The spool checked the record, so an envelope that cannot be read is of another version. It stays where it is on disk
 * and is said loudly; nothing of it is tried. */
static int keep_unreadable(struct queue_part *part, const struct spool_recovered_message *message)
{
    char text[SPOOL_ID_TEXT_SIZE];

    spool_id_format(message->id, text);
    log_event(part->queue->shard->log, LOG_ERROR, "queue.damaged", log_cstr("message", text),
              log_cstr("reason", "its envelope is not one of ours"));
    part->queue->totals.damaged++;
    part->done.recovered += message->unit_count;
    part->unreadable_units += message->unit_count;
    return 0;
}

/* A report that was durable before the recipients it reports on were noted finishes them, when all is back. */
static int remember_reported(struct queue_part *part, const struct envelope *envelope)
{
    struct restore *restore = part->restore;
    uint32_t count = envelope_report_unit_count(envelope);
    int r = restore_room((void **)&restore->reported, &restore->reported_capacity,
                         restore->reported_count + count, sizeof(*restore->reported));

    for (uint32_t i = 0; i < count && r == 0; i++)
        restore->reported[restore->reported_count++] =
            (struct restore_reported){envelope->report_of, envelope_report_unit(envelope, i)};
    return r;
}

static int on_found(void *context, const struct spool_recovered_message *message)
{
    struct queue_part *part = context;
    struct envelope envelope;
    uint32_t known;
    int r = of_earlier_life(part, message->id) ? restore_get(part) : -EBADMSG;

    if (r < 0)
        return r;
    if (envelope_parse(message->envelope, &envelope) < 0 ||
        envelope.recipient_count != message->unit_count)
        return keep_unreadable(part, message);
    seen(part, message->arrival_s, 0);
    known = index_find(&part->queue->index, message->id);
    if (known == INDEX_NONE) {
        r = found_new(part, message, &envelope);
    } else {
        take_place(part, known, &message->location);
        /* A checkpoint and the notes behind it know as much, and may know more. */
        if (message->units != NULL &&
            !(index_entry(&part->queue->index, known)->flags & ENTRY_IMAGED))
            r = apply_units(part, known, message);
    }
    if (r == 0 && envelope.report_of != 0)
        r = remember_reported(part, &envelope);
    return r;
}

const struct spool_owner queue_owner = {
    .text = on_text,
    .image = on_image,
    .found = on_found,
    .noted = on_noted,
    .restored = restore_over,
    .image_begin = image_begin,
    .image_fill = image_fill,
    .image_end = image_end,
    .states = image_states,
    .relocated = image_relocated,
};
