#include "queue/queue_private.h"

#include "core/assert.h"

/* What people ask, answered from memory: nothing here reads the disk or changes anything. */

static struct slice state_reason(const struct queue *queue, const struct index_item *it,
                                 const struct destination *destination)
{
    const struct reasons *reasons = &queue->reasons;

    switch ((enum item_state)it->state) {
    case ITEM_TRYING:
        return SLICE("an attempt is in hand");
    case ITEM_NEW:
        return SLICE("its spool is being read");
    case ITEM_HELD:
        return it->reason != REASON_NONE ? reason_text(reasons, it->reason) : SLICE("on hold");
    case ITEM_FAILING:
        if (queue->clock_doubted)
            return SLICE("has failed; its sender is told when the clock is accepted");
        return reason_text(reasons, it->reason);
    case ITEM_DAMAGED:
        return SLICE("its record on disk cannot be read");
    case ITEM_EXPIRING:
        return SLICE("too old: its sender is being told");
    case ITEM_READY:
        if (destination->route == ROUTE_RESTING && destination->reason != REASON_NONE)
            return reason_text(reasons, destination->reason);
        if (destination->route == ROUTE_WANTED || destination->route == ROUTE_ASKED)
            return SLICE("its mail hosts are being looked up");
        if (destination->site != NULL && destination->site->reason != REASON_NONE)
            return reason_text(reasons, destination->site->reason);
        return it->reason != REASON_NONE ? reason_text(reasons, it->reason)
                                         : SLICE("waits for a free session");
    default:
        return reason_text(reasons, it->reason);
    }
}

static enum queue_state state_shown(const struct index_item *it)
{
    switch ((enum item_state)it->state) {
    case ITEM_READY:
        return QUEUE_STATE_READY;
    case ITEM_WAITING:
    case ITEM_NEW: /* comes back from an earlier life */
        return QUEUE_STATE_WAITING;
    case ITEM_HELD:
        return QUEUE_STATE_HELD;
    case ITEM_DAMAGED:
        return QUEUE_STATE_DAMAGED;
    default: /* a report is being made, or an attempt */
        return QUEUE_STATE_TRYING;
    }
}

static uint64_t wall_of_ns(const struct queue *queue, uint64_t at_ns)
{
    const struct shard *shard = queue->shard;

    return at_ns <= shard->now_ns ? 0 : (shard->wall_ns + (at_ns - shard->now_ns)) / SECOND_NS;
}

/* When it may move at the earliest: its own time, or that of its destination or site. */
static uint64_t next_wall_s(const struct queue *queue, const struct index_item *it,
                            const struct destination *destination)
{
    if (it->state == ITEM_WAITING)
        return wall_of_ns(queue, it->due_s * SECOND_NS);
    if (it->state != ITEM_READY)
        return 0;
    if (destination->route == ROUTE_RESTING)
        return wall_of_ns(queue, destination->route_until_ns);
    return destination->site == NULL ? 0 : wall_of_ns(queue, destination->site->backoff_until_ns);
}

static uint32_t first_open_item(const struct queue *queue, uint32_t entry)
{
    uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE);

    while (index_item(&queue->index, item)->state == ITEM_DONE)
        item = index_next_item(&queue->index, entry, item);
    return item;
}

static void fill(const struct queue *queue, uint32_t number, struct queue_view *view)
{
    const struct index_entry *entry = index_entry(&queue->index, number);
    const struct index_item *it = index_item(&queue->index, first_open_item(queue, number));
    const struct destination *destination = queue->destinations[it->destination];

    *view = (struct queue_view){
        .id = entry->id,
        .state = state_shown(it),
        .arrival_s = entry->arrival_s,
        .attempts = it->attempts,
        .units_open = index_open_bits(&queue->index, number),
        .size_bytes = entry->size_bytes,
        .destination = destination_name(destination),
        .site = destination->site == NULL ? SLICE_NONE : site_name(destination->site),
        .next_wall_s = next_wall_s(queue, it, destination),
        .expires_wall_s = entry->arrival_s + queue->config.expire_ms / SECOND_MS,
        .reason = state_reason(queue, it, destination),
        .in_doubt = it->in_doubt,
    };
    if (view->state == QUEUE_STATE_READY && view->next_wall_s > 0)
        view->state = QUEUE_STATE_WAITING; /* for its site, but it waits */
}

static bool goes_to(const struct queue *queue, uint32_t entry, const struct destination *wanted)
{
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        const struct index_item *it = index_item(&queue->index, item);

        if (it->state != ITEM_DONE && it->destination == wanted->number)
            return true;
    }
    return false;
}

/* A list is read page by page, each from where the last one ended; that message may be gone meanwhile. */
static uint32_t list_begin(const struct queue *queue, uint64_t after_id)
{
    uint32_t number = after_id == 0 ? INDEX_NONE : index_find(&queue->index, after_id);

    return index_older_first(&queue->index, number);
}

uint32_t queue_list(struct queue *queue, uint64_t after_id, struct slice destination,
                    uint32_t count, queue_view_fn *each, void *context)
{
    const struct destination *wanted = NULL;
    uint32_t shown = 0;

    if (destination.size > 0) {
        wanted = destination_find(queue, destination);
        if (wanted == NULL || wanted->items == 0)
            return 0;
    }
    for (uint32_t number = list_begin(queue, after_id); number != INDEX_NONE && shown < count;
         number = index_older_first(&queue->index, number)) {
        struct queue_view view;

        if (index_entry(&queue->index, number)->id <= after_id ||
            (wanted != NULL && !goes_to(queue, number, wanted)))
            continue;
        fill(queue, number, &view);
        each(context, &view);
        shown++;
    }
    return shown;
}

bool queue_show(struct queue *queue, uint64_t id, struct queue_view *ret_view)
{
    uint32_t number = index_find(&queue->index, id);

    if (number == INDEX_NONE)
        return false;
    fill(queue, number, ret_view);
    return true;
}

bool queue_locate(struct queue *queue, uint64_t id, struct spool_location *ret_location)
{
    uint32_t number = index_find(&queue->index, id);
    const struct index_entry *entry;

    if (number == INDEX_NONE)
        return false;
    entry = index_entry(&queue->index, number);
    *ret_location = entry_location(entry);
    return true;
}

bool queue_unit_open(struct queue *queue, uint64_t id, uint32_t unit)
{
    uint32_t number = index_find(&queue->index, id);

    return number != INDEX_NONE && index_unit_open(&queue->index, number, unit);
}

static void add_part(struct queue_counters *counters, const struct queue_part *part)
{
    counters->accepted_units += part->done.accepted;
    counters->generated_units += part->done.generated;
    counters->recovered_units += part->done.recovered;
    counters->delivered += part->done.delivered;
    counters->bounced += part->done.bounced;
    counters->expired += part->done.expired;
    counters->removed += part->done.removed;
    counters->units += part->units;
}

void queue_counters(const struct queue *queue, struct queue_counters *ret_counters)
{
    const uint32_t *states = queue->state_counts;

    *ret_counters = queue->totals;
    for (uint32_t i = 0; i < queue->part_count; i++)
        add_part(ret_counters, queue->parts[i]);
    ret_counters->delivered_units = ret_counters->delivered;
    ret_counters->messages = queue->message_count;
    ret_counters->restoring = states[ITEM_NEW];
    ret_counters->clock_doubted = queue->clock_doubted;
    if (queue->clock_doubted && queue->clock_doubted_until_ns > queue->shard->now_ns)
        ret_counters->clock_doubted_s =
            (uint32_t)((queue->clock_doubted_until_ns - queue->shard->now_ns) / SECOND_NS);
    ret_counters->held = states[ITEM_HELD];
    ret_counters->ready = states[ITEM_READY];
    ret_counters->waiting = states[ITEM_WAITING];
    ret_counters->trying = states[ITEM_TRYING] + states[ITEM_FAILING] + states[ITEM_EXPIRING];
    ret_counters->destinations =
        queue->destination_count - queue->idle_destination_count - 1; /* "local" is always there */
    ret_counters->sites = (uint32_t)queue->site_names.count;
    ret_counters->sessions = queue->slot_count;
    ret_counters->index_bytes = index_bytes(&queue->index);
}
