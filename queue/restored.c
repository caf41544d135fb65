#include "queue/queue_private.h"

#include "core/assert.h"
#include "core/clock.h"
#include <errno.h>
#include <stdlib.h>

#include "queue/restore_private.h"

/* All is back. First what reports have finished is finished (QUEUE I8), then the messages are scheduled in their order,
 * some in each tick, beside whatever arrives meanwhile: what was never tried is ready, what waits keeps its time, and what
 * became due while nobody was here is spread, since it would all move in one moment. The few messages of which it is not
 * known whose recipients are open have their envelope read first. */
#define SPREAD_S 60 /* at most, and never longer than the first retry */
#define READERS_MAX 32
#define ASIDES_MAX 64

struct restore_reader {
    struct list_node node;
    struct queue_part *part;
    uint64_t id;
    struct spool_reader *reader;
    bool opening, answered;
    int result;
};

/* ---- places in the order ------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* In one pass over the order: there are some only when there was no checkpoint, or a cold lane behind it. */
static void place_strays(struct queue_part *part)
{
    struct restore *restore = part->restore;
    struct index *index = &part->queue->index;
    uint32_t before = part_front(part);

    if (restore->stray_count > 1)
        qsort(restore->strays, restore->stray_count, sizeof(*restore->strays), compare_ids);
    for (size_t i = 0; i < restore->stray_count; i++) {
        uint32_t number = index_find(index, restore->strays[i]), next;

        if (number == INDEX_NONE)
            continue; /* finished meanwhile */
        while ((next = index_older_first(index, before)) != INDEX_NONE &&
               index_entry(index, next)->id < restore->strays[i])
            before = next;
        index_place(index, number, before);
        part_placed(part, number);
        before = number;
    }
    restore->stray_count = 0;
}

/* ---- the end of the reading ------------------------------------------------------------------------ */

static int compare_defers(const void *a, const void *b)
{
    const struct restore_defer *x = a, *y = b;

    if (x->id != y->id)
        return x->id > y->id ? 1 : -1;
    return (x->order > y->order) - (x->order < y->order);
}

void restore_over(void *context, int result, const struct spool_report *report, struct slice error)
{
    struct queue_part *part = context;
    struct restore *restore;

    ASSERT(part->state == PART_LOADING);
    if (restore_get(part) < 0 && result == 0)
        result = -ENOMEM;
    part->state = result == 0 ? PART_REPORTING : PART_FAILED;
    restore = part->restore;
    if (restore != NULL) {
        restore->result = result;
        restore->report = *report;
        (void)slice_to_cstr(slice_first(error, sizeof(restore->error) - 1), restore->error,
                            sizeof(restore->error));
        place_strays(part);
        if (restore->defer_count > 1)
            qsort(restore->defers, restore->defer_count, sizeof(*restore->defers), compare_defers);
    }
    queue_poke(part->queue);
}

static void tell(struct queue_part *part)
{
    struct restore *restore = part->restore;
    struct queue *queue = part->queue;

    if (restore == NULL || restore->told)
        return;
    restore->told = true;
    if (queue->ops.restored != NULL)
        queue->ops.restored(queue->context, part->spool, restore->result, &restore->report,
                            slice_cstr(restore->error));
}

void restore_free(struct queue_part *part)
{
    struct restore *restore = part->restore;
    struct list_node *node;

    if (restore == NULL)
        return;
    while ((node = list_pop_front(&restore->readers)) != NULL) {
        struct restore_reader *reader = CONTAINER_OF(node, struct restore_reader, node);

        spool_reader_close(&reader->reader);
        free(reader);
    }
    free(restore->destinations);
    free(restore->reasons);
    free(restore->defers);
    free(restore->reported);
    free(restore->sorts);
    free(restore->strays);
    free(restore);
    part->restore = NULL;
}

/* What only the reading needed: the texts that no message names are forgotten. */
static void let_go(struct queue_part *part)
{
    struct restore *restore = part->restore;
    struct queue *queue = part->queue;

    for (size_t i = 0; i < restore->destination_capacity; i++) {
        if (restore->destinations[i].destination != NULL)
            destination_item_done(restore->destinations[i].destination);
    }
    for (size_t i = 0; i < restore->reason_capacity; i++)
        reason_unref(&queue->reasons, restore->reasons[i]);
    for (size_t i = 0; i < restore->defer_count; i++)
        reason_unref(&queue->reasons, restore->defers[i].reason);
    restore_free(part);
}

/* ---- what reports have finished --------------------------------------------------------------------- */

/* The report is the proof: it names the recipients, and is noted for them. */
static int finish_reported(struct queue_part *part, const struct restore_reported *reported)
{
    const uint8_t failed[3] = {5, 0, 0};
    struct queue *queue = part->queue;
    uint32_t number = index_find(&queue->index, reported->id);
    bool split;

    if (number == INDEX_NONE || part_of(queue, reported->id) != part)
        return 0;
    split = index_entry(&queue->index, number)->flags & ENTRY_SPLIT;
    if (!restore_close(part, number, reported->unit))
        return 0;
    (void)message_note(queue, reported->id, reported->unit, 1, SPOOL_BOUNCED, failed);
    if (restore_free_if_over(part, number))
        return 0;
    return split ? restore_wants_sort(part, number) : 0;
}

/* True: there is more. */
static bool run_reported(struct queue_part *part)
{
    struct restore *restore = part->restore;

    for (uint32_t i = 0; i < QUEUE_BATCH && restore->reported_next < restore->reported_count; i++) {
        if (finish_reported(part, &restore->reported[restore->reported_next]) < 0) {
            queue_again(part->queue); /* no memory just now */
            return true;
        }
        restore->reported_next++;
    }
    return restore->reported_next < restore->reported_count;
}

/* ---- the schedule --------------------------------------------------------------------------------- */

static uint64_t when(struct queue *queue, const struct index_item *it)
{
    uint64_t spread_s = MIN((uint64_t)SPREAD_S, queue->config.retry_first_ms / SECOND_MS);

    if (it->attempts == 0 || it->due_s > queue_wall_s(queue))
        return it->due_s;
    return queue_wall_s(queue) + random_below(spread_s + 1);
}

static void schedule_restored(struct queue *queue, uint32_t entry, uint32_t item)
{
    struct index_item *it = index_item(&queue->index, item);
    bool waits = index_entry(&queue->index, entry)->flags & (ENTRY_HOLD | ENTRY_WANTS);
    uint8_t fate = it->fate;

    it->fate = FATE_NONE;
    if (fate == FATE_DAMAGED)
        item_enter(queue, item, ITEM_DAMAGED);
    else if (fate == FATE_FAILS && !waits && it->reason != REASON_NONE)
        item_enter(queue, item, ITEM_FAILING);
    else
        item_schedule(queue, item, when(queue, it));
}

static struct queue_aside *aside_of(const struct queue *queue, uint64_t id)
{
    list_for_each (node, &queue->asides) {
        struct queue_aside *aside = CONTAINER_OF(node, struct queue_aside, node);

        if (aside->id == id)
            return aside;
    }
    return NULL;
}

static void set_aside(struct queue *queue, uint32_t entry, uint32_t reason);

static void schedule_message(struct queue *queue, uint32_t entry)
{
    struct queue_aside *aside = aside_of(queue, index_entry(&queue->index, entry)->id);

    if (aside != NULL)
        index_entry(&queue->index, entry)->flags |= ENTRY_HOLD;
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        if (index_item(&queue->index, item)->state == ITEM_NEW)
            schedule_restored(queue, entry, item);
    }
    if (aside != NULL) {
        set_aside(queue, entry, aside->reason);
        list_remove(&aside->node);
        reason_unref(&queue->reasons, aside->reason);
        free(aside);
        queue->aside_count--;
    }
    message_act_pending(queue, entry);
}

/* True: there is more. */
static bool run_schedule(struct queue_part *part)
{
    struct restore *restore = part->restore;
    struct queue *queue = part->queue;

    for (uint32_t i = 0; i < QUEUE_BATCH && restore->next != INDEX_NONE; i++) {
        uint32_t entry = restore->next;
        const struct index_entry *e = index_entry(&queue->index, entry);

        if (e->id >= part->first_id) {
            restore->next = INDEX_NONE;
            break;
        }
        restore->next =
            entry == part->youngest ? INDEX_NONE : index_older_first(&queue->index, entry);
        if (!(e->flags & ENTRY_SORT))
            schedule_message(queue, entry);
    }
    return restore->next != INDEX_NONE;
}

/* ---- sorting out ----------------------------------------------------------------------------------- */

struct sorting {
    struct queue_part *part;
    uint32_t entry;
    const struct restore_defer *defers; /* those of this message */
    size_t defer_count;
};

static int sort_unit(void *context, uint32_t unit, uint32_t item, struct slice address)
{
    const struct sorting *sorting = context;
    struct queue *queue = sorting->part->queue;

    (void)address;
    if (!index_unit_open(&queue->index, sorting->entry, unit))
        return 0;
    if (item == INDEX_NONE)
        return -EBADMSG;
    index_item(&queue->index, item)->open_count++;
    for (size_t i = 0; i < sorting->defer_count; i++) {
        if (unit >= sorting->defers[i].first && unit < sorting->defers[i].end)
            restore_put_off(queue, item, &sorting->defers[i]);
    }
    return 0;
}

static void find_defers(struct sorting *sorting, uint64_t id)
{
    const struct restore *restore = sorting->part->restore;
    size_t low = 0, high = restore->defer_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (restore->defers[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    sorting->defers = restore->defers + low;
    while (low + sorting->defer_count < restore->defer_count &&
           restore->defers[low + sorting->defer_count].id == id)
        sorting->defer_count++;
}

/* As it came back, and counted anew, whatever was known of it. */
static void begin_sorting(struct queue_part *part, uint32_t entry)
{
    struct queue *queue = part->queue;

    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        struct index_item *it = index_item(&queue->index, item);

        if (it->state == ITEM_DAMAGED)
            part->damaged_units -= it->open_count;
        it->open_count = 0;
        queue->state_counts[it->state]--;
        queue->state_counts[ITEM_NEW]++;
        it->state = ITEM_NEW;
    }
}

static int sort_out(struct queue_part *part, uint32_t entry, const struct spool_reader_info *info)
{
    struct queue *queue = part->queue;
    struct sorting sorting = {.part = part, .entry = entry};
    struct envelope envelope;
    int r = envelope_parse(info->envelope, &envelope);

    if (r == 0 && (info->id != index_entry(&queue->index, entry)->id ||
                   envelope.recipient_count != index_entry(&queue->index, entry)->unit_count))
        r = -EBADMSG;
    if (r < 0)
        return r;
    find_defers(&sorting, info->id);
    begin_sorting(part, entry);
    r = message_units(queue, entry, &envelope, sort_unit, &sorting);
    if (r < 0)
        return r;
    index_entry(&queue->index, entry)->flags &= (uint8_t)~ENTRY_SORT;
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        struct index_item *it = index_item(&queue->index, item);

        if (it->open_count == 0)
            item_enter(queue, item, ITEM_DONE);
    }
    schedule_message(queue, entry);
    return 0;
}

/* Its units are all counted with its first item, so that they are not lost from the books. */
static void cannot_sort(struct queue_part *part, uint32_t entry, int error)
{
    struct queue *queue = part->queue;
    uint32_t first = index_next_item(&queue->index, entry, INDEX_NONE);

    begin_sorting(part, entry);
    for (uint32_t item = index_next_item(&queue->index, entry, first); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item))
        item_enter(queue, item, ITEM_DONE);
    index_item(&queue->index, first)->open_count = (uint16_t)index_open_bits(&queue->index, entry);
    message_damaged(queue, entry, &first, 1, error);
    message_act_pending(queue, entry);
}

static void reader_end(struct restore_reader *reader, int result)
{
    struct queue_part *part = reader->part;
    struct restore *restore = part->restore;
    struct queue *queue = part->queue;
    uint32_t entry = index_find(&queue->index, reader->id);

    if (entry != INDEX_NONE && index_entry(&queue->index, entry)->flags & ENTRY_SORT) {
        if (result == 0)
            result = sort_out(part, entry, spool_reader_info(reader->reader));
        if (result == -EBADMSG || result == -EIO) {
            cannot_sort(part, entry, result);
        } else if (result < 0) {
            restore->sorts[--restore->sort_next] = reader->id;
            queue_again(queue);
        }
    }
    spool_reader_close(&reader->reader);
    list_remove(&reader->node);
    free(reader);
    restore->reader_count--;
    queue_poke(queue);
}

/* May run inside spool_reader_open(), before the reader is ours: then the caller goes on. */
static void reader_opened(void *context, int result)
{
    struct restore_reader *reader = context;

    reader->answered = true;
    reader->result = result;
    if (!reader->opening)
        reader_end(reader, result);
}

static bool begin_reading(struct queue_part *part, uint32_t entry)
{
    struct restore_reader *reader = calloc(1, sizeof(*reader));
    struct spool_location location = entry_location(index_entry(&part->queue->index, entry));
    int r;

    if (reader == NULL)
        return false;
    reader->part = part;
    reader->id = index_entry(&part->queue->index, entry)->id;
    reader->opening = true;
    list_push_back(&part->restore->readers, &reader->node);
    part->restore->reader_count++;
    r = spool_reader_open(part->spool, &location, reader_opened, reader, &reader->reader);
    reader->opening = false;
    if (r < 0 || reader->answered)
        reader_end(reader, r < 0 ? r : reader->result);
    return true;
}

/* True: it is not over. */
static bool run_sorts(struct queue_part *part)
{
    struct restore *restore = part->restore;
    struct queue *queue = part->queue;

    for (uint32_t i = 0;
         i < READERS_MAX && restore->reader_count < READERS_MAX &&
         restore->sort_next < restore->sort_count && !timer_armed(&queue->again_timer);
         i++) {
        uint32_t entry = index_find(&queue->index, restore->sorts[restore->sort_next++]);

        if (entry == INDEX_NONE || !(index_entry(&queue->index, entry)->flags & ENTRY_SORT))
            continue;
        if (!begin_reading(part, entry)) {
            restore->sort_next--;
            queue_again(queue);
        }
    }
    if (restore->sort_next < restore->sort_count && restore->reader_count < READERS_MAX &&
        !timer_armed(&queue->again_timer))
        queue_poke(queue);
    return restore->reader_count > 0 || restore->sort_next < restore->sort_count;
}

void restore_sort(struct queue_part *part, uint32_t entry)
{
    struct restore *restore;

    if (restore_get(part) < 0)
        return;
    restore = part->restore;
    restore->told = true;
    begin_sorting(part, entry);
    index_entry(&part->queue->index, entry)->flags &= (uint8_t)~ENTRY_SORT;
    if (restore_wants_sort(part, entry) < 0)
        index_entry(&part->queue->index, entry)->flags |= ENTRY_SORT;
    queue_poke(part->queue);
}

bool restore_busy(const struct queue *queue)
{
    for (uint32_t i = 0; i < queue->part_count; i++) {
        if (queue->parts[i]->restore != NULL && queue->parts[i]->restore->reader_count > 0)
            return true;
    }
    return false;
}

/* ---- in the task ----------------------------------------------------------------------------------- */

void restore_run(struct queue_part *part)
{
    struct queue *queue = part->queue;

    if (part->restore == NULL || part->state == PART_LOADING || queue->stopping)
        return;
    if (part->state == PART_FAILED) {
        tell(part);
        return;
    }
    if (part->state == PART_REPORTING) {
        if (run_reported(part)) {
            queue_poke(queue);
            return;
        }
        clock_compare(queue, part->newest_from_s, part->newest_to_s);
        part->restore->next = part_first(part);
        part->state = PART_SCHEDULING;
        tell(part);
    }
    if (run_schedule(part))
        queue_poke(queue);
    else
        part->state = PART_READY;
    if (!run_sorts(part) && part->state == PART_READY)
        let_go(part);
}

/* ---- set aside ------------------------------------------------------------------------------------- */

static void set_aside(struct queue *queue, uint32_t entry, uint32_t reason)
{
    const struct index_entry *e = index_entry(&queue->index, entry);
    struct spool_note note = {
        .kind = SPOOL_NOTE_DEFER,
        .id = e->id,
        .next_s = (uint32_t)queue_wall_s(queue) + 1,
        .text = reason_text(&queue->reasons, reason),
    };
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(e->id, id);
    log_event(queue->shard->log, LOG_ERROR, "queue.set_aside", log_cstr("id", id),
              log_text("reason", note.text));
    memcpy(note.status, reason_status(&queue->reasons, reason), 3);
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        struct index_item *it = index_item(&queue->index, item);

        if (it->state == ITEM_DONE)
            continue;
        note.attempts = MAX(note.attempts, it->attempts);
        reason_ref(&queue->reasons, reason);
        item_set_reason(queue, item, reason);
    }
    /* So that the reason is there after the next start as well; without J it is held until then. */
    while (index_open_run(&queue->index, entry, &note.unit_first, &note.unit_count)) {
        (void)spool_note(queue_spool(queue, note.id), &note);
        note.unit_first += note.unit_count;
    }
    (void)message_hold(queue, entry);
}

int queue_set_aside(struct queue *queue, uint64_t id, struct slice reason)
{
    const uint8_t status[3] = {4, 3, 0};
    uint32_t entry = index_find(&queue->index, id);
    struct queue_aside *aside;

    if (entry != INDEX_NONE && !message_in_hand(queue, entry)) {
        uint32_t number = reason_intern(&queue->reasons, status, reason);

        set_aside(queue, entry, number);
        reason_unref(&queue->reasons, number);
        return 0;
    }
    if (queue->aside_count >= ASIDES_MAX)
        return -ENOSPC;
    aside = calloc(1, sizeof(*aside));
    if (aside == NULL)
        return -ENOMEM;
    aside->id = id;
    aside->reason = reason_intern(&queue->reasons, status, reason);
    list_push_back(&queue->asides, &aside->node);
    queue->aside_count++;
    return 0;
}

void asides_deinit(struct queue *queue)
{
    struct list_node *node;

    while ((node = list_pop_front(&queue->asides)) != NULL)
        free(CONTAINER_OF(node, struct queue_aside, node));
}
