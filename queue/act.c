#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>

/* What an operator does to a message. An attempt in hand is never disturbed: what of the message is not in it is taken
 * out of the schedule at once, and the action follows when the attempt (or the report) has ended. */

static const uint8_t status_operator[3] = {5, 3, 0};

static uint32_t next_item(const struct queue *queue, uint32_t entry, uint32_t after)
{
    return index_next_item(&queue->index, entry, after);
}

static bool all_in(const struct queue *queue, uint32_t entry, enum item_state state)
{
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        uint8_t at = index_item(&queue->index, item)->state;

        if (at != state && at != ITEM_DONE)
            return false;
    }
    return true;
}

/* All that is open and not in an attempt enters `state`. */
static void enter_all(struct queue *queue, uint32_t entry, enum item_state state)
{
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        uint8_t at = index_item(&queue->index, item)->state;

        if (at != ITEM_DONE && at != ITEM_TRYING && at != state)
            item_enter(queue, item, state);
    }
}

static void remove_message(struct queue *queue, uint32_t entry)
{
    uint64_t id = index_entry(&queue->index, entry)->id;
    uint32_t first = 0, count;

    while (index_open_run(&queue->index, entry, &first, &count)) {
        (void)message_note(queue, id, first, count, SPOOL_REMOVED, status_operator);
        queue->totals.removed += count;
        first += count;
    }
    message_free(queue, entry);
}

static void bounce_message(struct queue *queue, uint32_t entry)
{
    index_entry(&queue->index, entry)->flags &= (uint8_t)~ENTRY_HOLD;
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        if (index_item(&queue->index, item)->state == ITEM_DONE)
            continue;
        item_set_reason(
            queue, item,
            reason_intern(&queue->reasons, status_operator, SLICE("returned by the operator")));
        if (index_item(&queue->index, item)->state != ITEM_FAILING)
            item_enter(queue, item, ITEM_FAILING);
    }
}

static int note_hold(struct queue *queue, uint32_t entry, enum spool_note_kind kind)
{
    struct spool_note note = {.kind = kind, .id = index_entry(&queue->index, entry)->id};

    note.unit_count = index_entry(&queue->index, entry)->unit_count;
    return spool_note(queue->spool, &note);
}

static int hold_message(struct queue *queue, uint32_t entry)
{
    int r = note_hold(queue, entry, SPOOL_NOTE_HOLD);

    if (r < 0)
        return r;
    index_entry(&queue->index, entry)->flags |= ENTRY_HOLD;
    enter_all(queue, entry, ITEM_HELD);
    return 0;
}

static int release_message(struct queue *queue, uint32_t entry)
{
    int r = note_hold(queue, entry, SPOOL_NOTE_RELEASE);

    if (r < 0)
        return r;
    index_entry(&queue->index, entry)->flags &= (uint8_t)~ENTRY_HOLD;
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        if (index_item(&queue->index, item)->state == ITEM_HELD)
            item_schedule(queue, item, 0);
    }
    return 0;
}

static int retry_message(struct queue *queue, uint32_t entry)
{
    if (all_in(queue, entry, ITEM_TRYING))
        return -EALREADY;
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        struct index_item *it = index_item(&queue->index, item);

        if (it->state == ITEM_WAITING || it->state == ITEM_DAMAGED)
            item_schedule(queue, item, 0);
        if (it->state == ITEM_READY)
            destination_retry(queue->destinations[it->destination]);
    }
    return 0;
}

void message_act_pending(struct queue *queue, uint32_t entry)
{
    uint8_t wants = index_entry(&queue->index, entry)->flags & ENTRY_WANTS;

    if (wants == 0 || message_in_hand(queue, entry))
        return;
    index_entry(&queue->index, entry)->flags &= (uint8_t)~ENTRY_WANTS;
    if (wants & ENTRY_WANT_REMOVE) {
        remove_message(queue, entry);
    } else if (wants & ENTRY_WANT_BOUNCE) {
        bounce_message(queue, entry);
    } else if (hold_message(queue, entry) < 0) {
        /* The journal is away: it is held all the same, until the next restart. */
        index_entry(&queue->index, entry)->flags |= ENTRY_HOLD;
        enter_all(queue, entry, ITEM_HELD);
    }
}

/* When the attempt ends; what waits is put aside until then. */
static int act_later(struct queue *queue, uint32_t entry, uint8_t want)
{
    struct index_entry *e = index_entry(&queue->index, entry);

    e->flags = (uint8_t)((e->flags & ~ENTRY_WANTS) | want);
    enter_all(queue, entry, ITEM_HELD);
    return -EBUSY;
}

int queue_act(struct queue *queue, uint64_t id, enum queue_action action)
{
    uint32_t entry = index_find(&queue->index, id);
    bool in_hand, held;

    if (entry == INDEX_NONE)
        return -ENOENT;
    in_hand = message_in_hand(queue, entry);
    held = index_entry(&queue->index, entry)->flags & ENTRY_HOLD;
    switch (action) {
    case QUEUE_HOLD:
        if (held)
            return -EALREADY;
        return in_hand ? act_later(queue, entry, ENTRY_WANT_HOLD) : hold_message(queue, entry);
    case QUEUE_RELEASE:
        return held ? release_message(queue, entry) : -EALREADY;
    case QUEUE_RETRY:
        return held ? -EPERM : retry_message(queue, entry);
    case QUEUE_REMOVE:
        if (in_hand)
            return act_later(queue, entry, ENTRY_WANT_REMOVE);
        if (!spool_journal_ok(queue->spool))
            return -EIO;
        remove_message(queue, entry);
        return 0;
    case QUEUE_BOUNCE:
        if (in_hand)
            return act_later(queue, entry, ENTRY_WANT_BOUNCE);
        bounce_message(queue, entry);
        return 0;
    }
    return -EINVAL;
}
