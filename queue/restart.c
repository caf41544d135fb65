#include "queue/queue_private.h"

#include "core/assert.h"
#include "core/clock.h"
#include <errno.h>
#include <stdlib.h>

/* What was unfinished when the server stopped comes back as it was: what was never tried is ready, what waits keeps its
 * time. What became due meanwhile would all move in one moment, so it is spread. A report that was durable before the
 * units it reports on were noted finishes them now (QUEUE I8): it names them by their place in the envelope, so until
 * queue_start() it is remembered which item each recipient of a message with several went to. */
#define RESTART_SPREAD_S 60 /* at most, and never longer than the first retry */

struct restart_note {
    uint64_t id;
    uint32_t unit;
};
struct restart_split { /* of messages with several items, in order of id */
    uint64_t id;
    size_t first; /* in restart.items */
};
struct restart {
    struct restart_note *notes;
    size_t note_count, note_capacity;
    struct restart_split *splits;
    size_t split_count, split_capacity;
    uint32_t *items;
    size_t item_count, item_capacity;
};

/* Room for `more` elements behind `count`. */
static int make_room(void **array, size_t *capacity, size_t count, size_t more, size_t size)
{
    size_t wanted = MAX(count + more, *capacity * 2);
    void *grown;

    if (count + more <= *capacity)
        return 0;
    grown = reallocarray(*array, wanted, size);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *capacity = wanted;
    return 0;
}

static int restart_of(struct queue *queue, struct restart **ret_restart)
{
    if (queue->restart == NULL)
        queue->restart = calloc(1, sizeof(*queue->restart));
    *ret_restart = queue->restart;
    return queue->restart == NULL ? -ENOMEM : 0;
}

void restart_deinit(struct queue *queue)
{
    if (queue->restart == NULL)
        return;
    free(queue->restart->notes);
    free(queue->restart->splits);
    free(queue->restart->items);
    free(queue->restart);
    queue->restart = NULL;
}

/* ---- what a report has finished ------------------------------------------------------------------ */

static uint32_t item_of_unit(const struct queue *queue, uint32_t entry, uint32_t unit)
{
    const struct restart *restart = queue->restart;
    uint64_t id = index_entry(&queue->index, entry)->id;
    size_t low = 0, high = restart->split_count;

    if (!(index_entry(&queue->index, entry)->flags & ENTRY_SPLIT))
        return entry;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (restart->splits[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    ASSERT(low < restart->split_count && restart->splits[low].id == id);
    return restart->items[restart->splits[low].first + unit];
}

/* Ids run in time, so the message came before its report and is here already, if anything of it is open. */
static int finish_reported(struct queue *queue, const struct envelope *envelope)
{
    uint32_t entry = index_find(&queue->index, envelope->report_of);
    struct restart *restart;
    int r = restart_of(queue, &restart);

    if (entry == INDEX_NONE || r < 0)
        return r;
    r = make_room((void **)&restart->notes, &restart->note_capacity, restart->note_count,
                  envelope_report_unit_count(envelope), sizeof(*restart->notes));
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < envelope_report_unit_count(envelope); i++) {
        uint32_t unit = envelope_report_unit(envelope, i);

        if (!index_unit_open(&queue->index, entry, unit))
            continue;
        unit_finish(queue, item_of_unit(queue, entry, unit), unit);
        queue->totals.bounced++;
        restart->notes[restart->note_count++] = (struct restart_note){envelope->report_of, unit};
    }
    return 0;
}

/* ---- what was found ------------------------------------------------------------------------------ */

static int remember_split(struct queue *queue, uint32_t entry, const uint32_t *items,
                          uint32_t count)
{
    struct restart *restart;
    int r = restart_of(queue, &restart);

    if (r == 0)
        r = make_room((void **)&restart->splits, &restart->split_capacity, restart->split_count, 1,
                      sizeof(*restart->splits));
    if (r == 0)
        r = make_room((void **)&restart->items, &restart->item_capacity, restart->item_count, count,
                      sizeof(*restart->items));
    if (r < 0)
        return r;
    restart->splits[restart->split_count++] =
        (struct restart_split){index_entry(&queue->index, entry)->id, restart->item_count};
    memcpy(restart->items + restart->item_count, items, count * sizeof(*items));
    restart->item_count += count;
    return 0;
}

static void fill_entry(struct index_entry *entry, const struct spool_recovered_message *message)
{
    entry->id = message->id;
    entry->segment = message->location.segment;
    entry->offset_16 = message->location.offset_16;
    entry->record_bytes = message->location.record_bytes;
    entry->arrival_s = message->arrival_s;
    entry->size_bytes =
        (uint32_t)MIN(message->head_bytes + message->body_bytes, (uint64_t)UINT32_MAX);
    entry->flags = (uint8_t)((message->flags & SPOOL_REPORT ? ENTRY_REPORT : 0) |
                             (message->held ? ENTRY_HOLD : 0));
}

static int add_message(struct queue *queue, uint32_t number,
                       const struct spool_recovered_message *message,
                       const struct envelope *envelope)
{
    struct recipient_source source = {.envelope = envelope->recipients};
    uint32_t *items = calloc(message->unit_count, sizeof(*items));
    int r = items == NULL ? -ENOMEM : 0;

    fill_entry(index_entry(&queue->index, number), message);
    if (r == 0)
        r = message_build(queue, number, &source, message->unit_count, message->units, items);
    if (r == 0 && (index_entry(&queue->index, number)->flags & ENTRY_SPLIT))
        r = remember_split(queue, number, items, message->unit_count);
    free(items);
    return r;
}

/* The spool checked the record, so an envelope that cannot be read is of another version. It stays where it is on disk
 * and is said loudly; nothing of it is tried. */
static int keep_unreadable(struct queue *queue, const struct spool_recovered_message *message)
{
    char text[SPOOL_ID_TEXT_SIZE];

    spool_id_format(message->id, text);
    log_event(queue->shard->log, LOG_ERROR, "queue.damaged", log_cstr("message", text),
              log_cstr("reason", "its envelope is not one of ours"));
    queue->totals.damaged++;
    return 0;
}

int queue_recovered(struct queue *queue, const struct spool_recovered_message *message)
{
    struct envelope envelope;
    uint32_t number;
    int r;

    ASSERT(!queue->started);
    if (envelope_parse(message->envelope, &envelope) < 0 ||
        envelope.recipient_count != message->unit_count)
        return keep_unreadable(queue, message);
    r = index_alloc(&queue->index, message->unit_count, &number);
    if (r < 0)
        return r;
    r = add_message(queue, number, message, &envelope);
    if (r < 0) {
        message_unbuild(queue, number);
        return r;
    }
    index_insert(&queue->index, number);
    schedule_inserted(queue, number);
    queue->message_count++;
    queue->unit_count += index_open_count(&queue->index, number);
    queue->totals.recovered++;
    queue->totals.recovered_units += index_open_count(&queue->index, number);
    for (uint32_t item = index_next_item(&queue->index, number, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, number, item)) {
        const uint8_t later[3] = {4, 0, 0};

        if (message->reason.size > 0)
            item_set_reason(queue, item, reason_intern(&queue->reasons, later, message->reason));
        item_list_push(&queue->index, &queue->boot, item);
    }
    return envelope.report_of == 0 ? 0 : finish_reported(queue, &envelope);
}

/* ---- the start --------------------------------------------------------------------------------- */

static uint64_t when(struct queue *queue, const struct index_item *it)
{
    uint64_t spread_s = MIN((uint64_t)RESTART_SPREAD_S, queue->config.retry_first_ms / SECOND_MS);

    if (it->attempts == 0 || it->due_s > queue_wall_s(queue))
        return it->due_s;
    return queue_wall_s(queue) + random_below(spread_s + 1);
}

void restart_begin(struct queue *queue)
{
    const uint8_t failed[3] = {5, 0, 0};
    uint32_t item;

    wheel_init(&queue->wheel, queue_mono_s(queue));
    for (size_t i = 0; queue->restart != NULL && i < queue->restart->note_count; i++) {
        const struct restart_note *note = &queue->restart->notes[i];

        (void)message_note(queue, note->id, note->unit, 1, SPOOL_BOUNCED,
                           failed); /* the report is the proof */
    }
    restart_deinit(queue);
    while ((item = item_list_pop(&queue->index, &queue->boot)) != INDEX_NONE)
        item_settle(queue, item, (uint32_t)when(queue, index_item(&queue->index, item)));
}
