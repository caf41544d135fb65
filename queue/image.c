#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>

#include "queue/restore_private.h"

/* What a spool asks the queue: the image of its messages for a checkpoint, some of it at a time, and what is known of a
 * message before it is copied to the cold lane. The walk goes in the order of ids; a cursor stands on the next message
 * and moves on when that one is freed, and back when one comes to stand directly in front of it. What comes to stand
 * further back was appended after the checkpoint began, so the scan finds it.
 *
 * A spool asks for blocks only when all that it has appended before the checkpoint began has completed. So a report that
 * is in an image, where it has no envelope to name what it reports on, has finished those recipients before they are
 * copied; one that is not is found by the scan, with its envelope (QUEUE I8). */

static struct spool_location location_of(const struct queue_part *part, uint32_t number)
{
    return entry_location(index_entry(&part->queue->index, number));
}

void image_begin(void *context)
{
    struct queue_part *part = context;
    struct queue *queue = part->queue;

    part->imaging = true;
    part->image_next = part_first(part);
    if (++queue->image_stamp == 0)
        queue->image_stamp = 1;
    part->image_stamp = queue->image_stamp;
}

void image_end(void *context)
{
    struct queue_part *part = context;

    part->imaging = false;
    part->image_next = INDEX_NONE;
}

/* ---- texts -------------------------------------------------------------------------------------- */

/* Each stands in the image once, before the first message that names it: it carries the mark of the image then. A number
 * that is used again for another text meanwhile comes without the mark, and is told anew. */
static bool add_destination(struct queue_part *part, struct spool_image *image, uint32_t number)
{
    const uint8_t none[3] = {0, 0, 0};
    struct destination *destination = part->queue->destinations[number];
    struct slice name = number == QUEUE_LOCAL ? RESTORE_LOCAL_NAME : destination_name(destination);

    if (destination->image_stamp == part->image_stamp)
        return true;
    if (!spool_image_add_text(image, SPOOL_TEXT_DESTINATION, number + 1, none, name))
        return false;
    destination->image_stamp = part->image_stamp;
    return true;
}

static bool add_reason(struct queue_part *part, struct spool_image *image, uint32_t number)
{
    const struct reasons *reasons = &part->queue->reasons;

    if (number == REASON_NONE || !reason_stamp(reasons, number, part->image_stamp))
        return true;
    if (spool_image_add_text(image, SPOOL_TEXT_REASON, number, reason_status(reasons, number),
                             reason_text(reasons, number)))
        return true;
    reason_unstamp(reasons, number);
    return false;
}

static bool add_texts(struct queue_part *part, struct spool_image *image, uint32_t number)
{
    const struct index *index = &part->queue->index;

    for (uint32_t item = index_next_item(index, number, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(index, number, item)) {
        const struct index_item *it = index_item(index, item);

        if (!add_destination(part, image, it->destination) || !add_reason(part, image, it->reason))
            return false;
    }
    return true;
}

/* ---- entries ------------------------------------------------------------------------------------- */

/* A retry time on the wall clock; 0: none. One that comes back and is not scheduled yet has it as it was on disk. */
static uint32_t retry_wall_s(const struct queue *queue, const struct index_item *it)
{
    if (it->state == ITEM_NEW)
        return it->due_s;
    return it->state == ITEM_WAITING ? (uint32_t)(it->due_s + clock_offset_s(queue)) : 0;
}

static void fill_item(const struct queue *queue, const struct index_item *it,
                      struct spool_image_item *to)
{
    bool fails = it->state == ITEM_FAILING || (it->state == ITEM_NEW && it->fate == FATE_FAILS);

    *to = (struct spool_image_item){
        .destination = it->destination + 1,
        .reason = it->reason,
        .next_s = retry_wall_s(queue, it),
        .open_count = it->open_count,
        .attempts = it->attempts,
    };
    to->flags = (uint8_t)((fails ? SPOOL_ITEM_FAILING : 0) |
                          (it->state == ITEM_EXPIRING ? SPOOL_ITEM_EXPIRING : 0) |
                          (to->next_s > 0 ? SPOOL_ITEM_TRIED : 0) |
                          (it->in_doubt ? SPOOL_ITEM_IN_DOUBT : 0));
}

static bool is_damaged(const struct index_item *it)
{
    return it->state == ITEM_DAMAGED || (it->state == ITEM_NEW && it->fate == FATE_DAMAGED);
}

static bool add_entry(struct queue_part *part, struct spool_image *image, uint32_t number)
{
    const struct queue *queue = part->queue;
    const struct index_entry *entry = index_entry(&queue->index, number);
    struct spool_image_entry to = {
        .id = entry->id,
        .location = entry_location(entry),
        .arrival_s = entry->arrival_s,
        .size_bytes = entry->size_bytes,
        .unit_count = entry->unit_count,
        .message_flags = entry->flags & ENTRY_REPORT ? SPOOL_REPORT : 0,
        .units_per_item = entry->chunk,
        .items = part->image_items,
    };
    bool damaged = false;

    for (uint32_t item = index_next_item(&queue->index, number, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, number, item)) {
        const struct index_item *it = index_item(&queue->index, item);

        fill_item(queue, it, &part->image_items[to.item_count++]);
        damaged = damaged || is_damaged(it);
    }
    to.flags = (uint8_t)((entry->flags & ENTRY_HOLD ? SPOOL_ENTRY_HELD : 0) |
                         (entry->flags & ENTRY_CHUNKED ? SPOOL_ENTRY_CHUNKED : 0) |
                         (damaged ? SPOOL_ENTRY_DAMAGED : 0));
    if (index_open_bits(&queue->index, number) < entry->unit_count) {
        index_bits_store(&queue->index, number, part->image_bits);
        to.open_bits = part->image_bits;
    }
    return spool_image_add_entry(image, &to);
}

bool image_fill(void *context, struct spool_image *image)
{
    struct queue_part *part = context;

    while (part->image_next != INDEX_NONE) {
        uint32_t number = part->image_next;
        struct spool_location location = location_of(part, number);

        if (spool_image_wants(image, &location) &&
            (!add_texts(part, image, number) || !add_entry(part, image, number)))
            return true;
        part->image_next =
            number == part->youngest ? INDEX_NONE : index_older_first(&part->queue->index, number);
    }
    return false;
}

/* ---- relocation ----------------------------------------------------------------------------------- */

static bool lives_at(const struct queue_part *part, uint32_t number,
                     const struct spool_location *location)
{
    struct spool_location here;

    if (number == INDEX_NONE)
        return false;
    here = location_of(part, number);
    return here.segment == location->segment && here.offset_16 == location->offset_16;
}

struct states {
    const struct queue *queue;
    uint32_t entry;
    struct spool_unit *units;
};

static int fill_unit(void *context, uint32_t unit, uint32_t item, struct slice address)
{
    const struct states *states = context;
    const struct queue *queue = states->queue;
    const struct index_item *it;

    (void)address;
    if (!index_unit_open(&queue->index, states->entry, unit)) {
        states->units[unit] = (struct spool_unit){.state = SPOOL_UNIT_DONE};
        return 0;
    }
    if (item == INDEX_NONE)
        return -EBADMSG;
    it = index_item(&queue->index, item);
    states->units[unit] = (struct spool_unit){
        .state = SPOOL_UNIT_WAITING,
        .attempts = it->attempts,
        .next_s = retry_wall_s(queue, it),
    };
    return 0;
}

/* Why the first of its recipients that waits does so. */
static struct slice reason_of(const struct queue *queue, uint32_t number)
{
    for (uint32_t item = index_next_item(&queue->index, number, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, number, item)) {
        const struct index_item *it = index_item(&queue->index, item);

        if (it->state != ITEM_DONE && it->reason != REASON_NONE)
            return reason_text(&queue->reasons, it->reason);
    }
    return SLICE_NONE;
}

int image_states(void *context, uint64_t id, const struct spool_location *location,
                 struct slice bytes, struct spool_unit *units, uint32_t unit_count, bool *ret_held,
                 struct slice *ret_reason)
{
    struct queue_part *part = context;
    struct queue *queue = part->queue;
    uint32_t number = index_find(&queue->index, id);
    struct states states = {queue, number, units};
    struct envelope envelope;
    int r;

    if (!lives_at(part, number, location))
        return -ENOENT;
    if (message_in_hand(queue, number) || index_entry(&queue->index, number)->flags & ENTRY_WANTS)
        return -EBUSY;
    r = envelope_parse(bytes, &envelope);
    if (r < 0 || envelope.recipient_count != unit_count ||
        unit_count != index_entry(&queue->index, number)->unit_count)
        return -EBADMSG;
    *ret_held = index_entry(&queue->index, number)->flags & ENTRY_HOLD;
    *ret_reason = reason_of(queue, number);
    return message_units(queue, number, &envelope, fill_unit, &states);
}

void image_relocated(void *context, uint64_t id, const struct spool_location *from,
                     const struct spool_location *to)
{
    struct queue_part *part = context;
    uint32_t number = index_find(&part->queue->index, id);
    struct index_entry *entry;

    if (!lives_at(part, number, from)) {
        spool_release(part->spool, id, to);
        return;
    }
    entry = index_entry(&part->queue->index, number);
    entry->segment = to->segment;
    entry->offset_16 = to->offset_16;
    entry->record_bytes = to->record_bytes;
    spool_release(part->spool, id, from);
}
