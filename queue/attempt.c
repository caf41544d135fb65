#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

/* One try of one message: those of its items that go to one site (or all local ones), in the hands of one session.
 * While it lasts its items are TRYING, so nothing else touches them. Which recipients they stand for is known once
 * the envelope has been read. */
#define ATTEMPTS_KEPT 256      /* free ones; a busy shard has about as many as it has sessions */
#define ATTEMPT_UNITS_KEPT 128 /* room for recipients that a free one may keep */

/* ---- memory ----------------------------------------------------------------------------------- */

static struct queue_attempt *attempt_alloc(struct queue *queue)
{
    struct list_node *node;
    struct queue_attempt *attempt;
    struct slice *recipients;
    struct attempt_unit *units;
    uint32_t capacity;

    if (queue->attempt_count >= QUEUE_ATTEMPTS_MAX)
        return NULL;
    node = list_pop_front(&queue->free_attempts);
    if (node == NULL) {
        attempt = calloc(1, sizeof(*attempt));
        if (attempt == NULL)
            return NULL;
    } else {
        attempt = CONTAINER_OF(node, struct queue_attempt, node);
        queue->free_attempt_count--;
    }
    recipients = attempt->recipients;
    units = attempt->units;
    capacity = attempt->capacity;
    memset(attempt, 0, sizeof(*attempt));
    attempt->queue = queue;
    attempt->recipients = recipients;
    attempt->units = units;
    attempt->capacity = capacity;
    list_push_back(&queue->attempts, &attempt->node);
    queue->attempt_count++;
    return attempt;
}

static void attempt_destroy(struct queue_attempt *attempt)
{
    free(attempt->recipients);
    free(attempt->units);
    free(attempt);
}

void attempt_free(struct queue_attempt *attempt)
{
    struct queue *queue = attempt->queue;

    for (uint32_t i = 0; i < attempt->count; i++)
        reason_unref(&queue->reasons, attempt->units[i].reason);
    spool_reader_close(&attempt->reader);
    if (attempt->notes != &attempt->first_note)
        free(attempt->notes);
    list_remove(&attempt->node);
    queue->attempt_count--;
    if (queue->stopping)
        queue_poke(queue);
    if (queue->free_attempt_count >= ATTEMPTS_KEPT || attempt->capacity > ATTEMPT_UNITS_KEPT) {
        attempt_destroy(attempt);
        return;
    }
    list_push_front(&queue->free_attempts, &attempt->node);
    queue->free_attempt_count++;
}

void attempts_deinit(struct queue *queue)
{
    struct list_node *node;

    while ((node = list_pop_front(&queue->attempts)) != NULL) {
        struct queue_attempt *attempt = CONTAINER_OF(node, struct queue_attempt, node);

        spool_reader_close(&attempt->reader);
        if (attempt->notes != &attempt->first_note)
            free(attempt->notes);
        attempt_destroy(attempt);
    }
    while ((node = list_pop_front(&queue->free_attempts)) != NULL)
        attempt_destroy(CONTAINER_OF(node, struct queue_attempt, node));
}

/* ---- which items, which recipients --------------------------------------------------------------- */

static void add_item(struct queue_attempt *attempt, uint32_t item)
{
    struct queue *queue = attempt->queue;

    attempt->items[attempt->item_count++] = (struct attempt_item){.item = item};
    item_enter(queue, item, ITEM_TRYING);
}

/* The message's other items that stand ready for the same site go along, as far as the limit allows. */
static void add_siblings(struct queue_attempt *attempt, uint32_t first)
{
    struct queue *queue = attempt->queue;
    uint32_t units = index_item(&queue->index, first)->open_count;

    for (uint32_t item = index_next_item(&queue->index, attempt->entry, INDEX_NONE);
         item != INDEX_NONE && attempt->item_count < ATTEMPT_ITEMS_MAX;
         item = index_next_item(&queue->index, attempt->entry, item)) {
        const struct index_item *it = index_item(&queue->index, item);
        const struct destination *destination = queue->destinations[it->destination];

        if (item == first || it->state != ITEM_READY || destination->route != ROUTE_KNOWN ||
            destination->site != attempt->slot->site ||
            units + it->open_count > queue->config.site_recipients_max)
            continue;
        units += it->open_count;
        add_item(attempt, item);
    }
}

struct queue_attempt *attempt_begin(struct queue *queue, struct queue_slot *slot, uint32_t item)
{
    struct queue_attempt *attempt = attempt_alloc(queue);

    if (attempt == NULL)
        return NULL;
    attempt->slot = slot;
    attempt->entry = index_entry_of(&queue->index, item);
    attempt->id = index_entry(&queue->index, attempt->entry)->id;
    attempt->part = part_of(queue, attempt->id);
    add_item(attempt, item);
    if (slot != NULL && (index_entry(&queue->index, attempt->entry)->flags & ENTRY_SPLIT))
        add_siblings(attempt, item);
    return attempt;
}

static uint64_t bytes_of(const struct queue *queue, uint32_t item)
{
    return index_entry(&queue->index, index_entry_of(&queue->index, item))->size_bytes;
}

uint64_t queue_attempt_bytes(const struct queue_attempt *attempt)
{
    return index_entry(&attempt->queue->index, attempt->entry)->size_bytes;
}

struct queue_attempt *queue_take_local(struct queue *queue, uint64_t bytes_max)
{
    struct destination *local = queue->destinations[QUEUE_LOCAL];
    struct queue_attempt *attempt;

    if (queue->stopping || local->ready.count == 0 ||
        bytes_of(queue, local->ready.first) > bytes_max)
        return NULL;
    if (!parts_journal_ok(queue)) {
        queue_again(queue);
        return NULL;
    }
    attempt = attempt_begin(queue, NULL, local->ready.first);
    if (attempt == NULL)
        queue_again(queue);
    return attempt;
}

/* The items of a destination stand in the order in which they were made, and are passed in that order. */
static void units_begin(struct queue *queue, uint32_t entry, uint64_t stamp)
{
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        struct destination *destination =
            queue->destinations[index_item(&queue->index, item)->destination];

        if (destination->stamp == stamp)
            continue;
        destination->stamp = stamp;
        destination->stamp_count = 0;
        destination->stamp_item = item;
    }
}

static uint32_t next_of_destination(struct queue *queue, uint32_t entry, uint32_t item)
{
    uint32_t number = index_item(&queue->index, item)->destination;

    do
        item = index_next_item(&queue->index, entry, item);
    while (item != INDEX_NONE && index_item(&queue->index, item)->destination != number);
    return item;
}

/* The item of the next recipient of this address' destination. */
static uint32_t item_of_address(struct queue *queue, uint32_t entry, uint64_t stamp,
                                struct slice address)
{
    struct destination *destination = destination_find_address(queue, address);
    uint32_t chunk = index_entry(&queue->index, entry)->chunk;

    if (destination == NULL || destination->stamp != stamp)
        destination = queue->destinations[QUEUE_LOCAL];
    if (destination->stamp != stamp)
        return INDEX_NONE;
    if (destination->number != QUEUE_LOCAL && destination->stamp_count > 0 &&
        destination->stamp_count % chunk == 0 && destination->stamp_item != INDEX_NONE)
        destination->stamp_item = next_of_destination(queue, entry, destination->stamp_item);
    destination->stamp_count++;
    return destination->stamp_item;
}

/* A recipient belongs to the item of its domain's name, if the message has one, and to the local item otherwise: what
 * counted as local when the message came keeps its place when the settings change. An item holds a run of `chunk` of
 * its destination's recipients, in the order of the envelope, whether they are still open or not. */
int message_units(struct queue *queue, uint32_t entry, const struct envelope *envelope,
                  message_units_fn *each, void *context)
{
    bool split = index_entry(&queue->index, entry)->flags & ENTRY_SPLIT;
    struct slice rest = envelope->recipients, address;
    uint64_t stamp = ++queue->stamp;

    if (split)
        units_begin(queue, entry, stamp);
    for (uint32_t unit = 0; envelope_next(&rest, &address); unit++) {
        uint32_t item = split ? item_of_address(queue, entry, stamp, address) : entry;
        int r = each(context, unit, item, address);

        if (r < 0)
            return r;
    }
    return 0;
}

struct mapping {
    const struct attempt_map *map;
    attempt_map_fn *each;
    void *context;
};

static int map_unit(void *context, uint32_t unit, uint32_t item, struct slice address)
{
    struct mapping *mapping = context;
    const struct attempt_map *map = mapping->map;

    if (!index_unit_open(&map->queue->index, map->entry, unit))
        return 0;
    for (uint32_t i = 0; i < map->item_count; i++) {
        if (map->items[i].item == item)
            return mapping->each(mapping->context, unit, i, address);
    }
    return 0;
}

int attempt_map(const struct attempt_map *map, const struct envelope *envelope,
                attempt_map_fn *each, void *context)
{
    struct mapping mapping = {map, each, context};

    return message_units(map->queue, map->entry, envelope, map_unit, &mapping);
}

static int add_unit(void *context, uint32_t unit, uint32_t item, struct slice address)
{
    struct queue_attempt *attempt = context;

    if (attempt->count >= attempt->capacity)
        return -EBADMSG; /* more open recipients than the index knows of: not the envelope we wrote */
    attempt->recipients[attempt->count] = address;
    attempt->units[attempt->count] = (struct attempt_unit){.unit = unit, .item = (uint16_t)item};
    attempt->count++;
    return 0;
}

static int make_room(struct queue_attempt *attempt)
{
    const struct index *index = &attempt->queue->index;
    uint32_t units = 0;
    struct slice *recipients;
    struct attempt_unit *rows;

    for (uint32_t i = 0; i < attempt->item_count; i++)
        units += index_item(index, attempt->items[i].item)->open_count;
    if (units <= attempt->capacity)
        return 0;
    units = MAX(units, 8u);
    recipients = realloc(attempt->recipients, units * sizeof(*recipients));
    if (recipients == NULL)
        return -ENOMEM;
    attempt->recipients = recipients;
    rows = realloc(attempt->units, units * sizeof(*rows));
    if (rows == NULL)
        return -ENOMEM;
    attempt->units = rows;
    attempt->capacity = units;
    return 0;
}

/* ---- loading ---------------------------------------------------------------------------------- */

static int read_envelope(struct queue_attempt *attempt)
{
    const struct spool_reader_info *info = spool_reader_info(attempt->reader);
    const struct index_entry *entry = index_entry(&attempt->queue->index, attempt->entry);
    struct attempt_map map = {attempt->queue, attempt->entry, attempt->items, attempt->item_count};
    struct envelope envelope;
    int r = envelope_parse(info->envelope, &envelope);

    if (r == 0 && (info->id != attempt->id || envelope.recipient_count != entry->unit_count))
        r = -EBADMSG;
    if (r == 0)
        r = make_room(attempt);
    if (r < 0)
        return r;
    attempt->sender = envelope.sender;
    r = attempt_map(&map, &envelope, add_unit, attempt);
    return r == 0 && attempt->count == 0 ? -EBADMSG : r;
}

static void load_end(struct queue_attempt *attempt, int result)
{
    if (result == 0)
        result = read_envelope(attempt);
    attempt->load_result = result;
    attempt->loaded = result == 0;
    attempt->on_loaded(attempt, attempt->loaded_context, result);
}

/* May run inside spool_reader_open(), before the reader is ours: then the caller goes on. */
static void reader_opened(void *context, int result)
{
    struct queue_attempt *attempt = context;

    if (attempt->opening) {
        attempt->opened = true;
        attempt->load_result = result;
        return;
    }
    load_end(attempt, result);
}

void queue_attempt_load(struct queue_attempt *attempt, queue_loaded_fn *loaded, void *context)
{
    struct spool_location location =
        entry_location(index_entry(&attempt->queue->index, attempt->entry));
    int r;

    ASSERT(attempt->on_loaded == NULL);
    attempt->on_loaded = loaded;
    attempt->loaded_context = context;
    attempt->opening = true;
    r = spool_reader_open(attempt->part->spool, &location, reader_opened, attempt,
                          &attempt->reader);
    attempt->opening = false;
    if (r < 0)
        load_end(attempt, r);
    else if (attempt->opened)
        load_end(attempt, attempt->load_result);
}

uint64_t queue_attempt_id(const struct queue_attempt *attempt)
{
    return attempt->id;
}

struct slice queue_attempt_sender(const struct queue_attempt *attempt)
{
    ASSERT(attempt->loaded);
    return attempt->sender;
}

uint32_t queue_attempt_count(const struct queue_attempt *attempt)
{
    return attempt->count;
}

const struct slice *queue_attempt_recipients(const struct queue_attempt *attempt)
{
    return attempt->recipients;
}

uint32_t queue_attempt_unit(const struct queue_attempt *attempt, uint32_t index)
{
    ASSERT(index < attempt->count);
    return attempt->units[index].unit;
}

uint32_t queue_attempt_number(const struct queue_attempt *attempt)
{
    const struct index *index = &attempt->queue->index;
    uint32_t attempts = 0;

    for (uint32_t i = 0; i < attempt->item_count; i++)
        attempts = MAX(attempts, (uint32_t)index_item(index, attempt->items[i].item)->attempts);
    return attempts + 1;
}

struct spool_reader *queue_attempt_reader(const struct queue_attempt *attempt)
{
    return attempt->reader;
}
