#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

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

        if (at != ITEM_DONE && at != ITEM_TRYING && at != ITEM_NEW && at != state)
            item_enter(queue, item, state);
    }
}

/* ---- notes ------------------------------------------------------------------------------------- */

static void act_durable(struct spool_note *note)
{
    struct queue_act *act = CONTAINER_OF(note, struct queue_act, note);

    act->result = note->result;
    list_remove(&act->node);
    list_push_back(&act->queue->acted, &act->node);
    queue_poke(act->queue);
}

/* With `act` somebody waits until it is on disk. J is in order, so of several notes only the last one is waited for. */
static int note(struct queue *queue, struct spool_note *note, struct queue_act *act)
{
    int r;

    if (act == NULL)
        return spool_note(queue_spool(queue, note->id), note);
    act->note = *note;
    act->note.durable = act_durable;
    list_node_init(&act->note.node);
    r = spool_note(queue_spool(queue, note->id), &act->note);
    if (r == 0)
        list_push_back(&queue->acts, &act->node);
    return r;
}

/* For each run of open recipients. 0, or what the last one was refused with. */
static int note_open(struct queue *queue, uint32_t entry, struct spool_note *what,
                     struct queue_act *act)
{
    uint32_t next, count;
    int r = 0;

    what->id = index_entry(&queue->index, entry)->id;
    while (index_open_run(&queue->index, entry, &what->unit_first, &what->unit_count)) {
        next = what->unit_first + what->unit_count;
        r = note(queue, what, index_open_run(&queue->index, entry, &next, &count) ? NULL : act);
        what->unit_first += what->unit_count;
    }
    return r;
}

static int note_hold(struct queue *queue, uint32_t entry, enum spool_note_kind kind,
                     struct queue_act *act)
{
    struct spool_note what = {.kind = kind, .id = index_entry(&queue->index, entry)->id};

    what.unit_count = index_entry(&queue->index, entry)->unit_count;
    return note(queue, &what, act);
}

/* ---- what is done ------------------------------------------------------------------------------ */

static int remove_message(struct queue *queue, uint32_t entry, struct queue_act *act)
{
    struct queue_part *part = part_of(queue, index_entry(&queue->index, entry)->id);
    struct spool_note what = {.kind = SPOOL_NOTE_DONE, .outcome = SPOOL_REMOVED};
    int r;

    memcpy(what.status, status_operator, sizeof(what.status));
    r = note_open(queue, entry, &what, act);
    part->done.removed += index_open_bits(&queue->index, entry);
    message_free(queue, entry);
    return r;
}

/* In J it is a retry that has no time, and a status that is final: after a crash it fails as it does now. */
static int bounce_message(struct queue *queue, uint32_t entry, struct queue_act *act)
{
    struct slice text = SLICE("returned by the operator");
    struct spool_note what = {.kind = SPOOL_NOTE_DEFER, .text = text};
    int r = 0;

    if (index_entry(&queue->index, entry)->flags & ENTRY_HOLD)
        r = note_hold(queue, entry, SPOOL_NOTE_RELEASE, NULL);
    if (r < 0)
        return r;
    memcpy(what.status, status_operator, sizeof(what.status));
    r = note_open(queue, entry, &what, act);
    index_entry(&queue->index, entry)->flags &= (uint8_t)~ENTRY_HOLD;
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        if (index_item(&queue->index, item)->state == ITEM_DONE)
            continue;
        item_set_reason(queue, item, reason_intern(&queue->reasons, status_operator, text));
        if (index_item(&queue->index, item)->state != ITEM_FAILING)
            item_enter(queue, item, ITEM_FAILING);
    }
    return r;
}

/* Its envelope could not be read when it came back, so whose recipients are open is still to be sorted out; what was asked
 * for follows then. */
static bool is_unsorted(struct queue *queue, uint32_t entry)
{
    if (!(index_entry(&queue->index, entry)->flags & ENTRY_SORT))
        return false;
    restore_sort(part_of(queue, index_entry(&queue->index, entry)->id), entry);
    return true;
}

static int hold_message(struct queue *queue, uint32_t entry, struct queue_act *act)
{
    int r = note_hold(queue, entry, SPOOL_NOTE_HOLD, act);

    if (r < 0)
        return r;
    index_entry(&queue->index, entry)->flags |= ENTRY_HOLD;
    enter_all(queue, entry, ITEM_HELD);
    return 0;
}

int message_hold(struct queue *queue, uint32_t entry)
{
    return hold_message(queue, entry, NULL);
}

static int release_message(struct queue *queue, uint32_t entry, struct queue_act *act)
{
    int r = note_hold(queue, entry, SPOOL_NOTE_RELEASE, act);

    if (r < 0)
        return r;
    index_entry(&queue->index, entry)->flags &= (uint8_t)~ENTRY_HOLD;
    if (is_unsorted(queue, entry))
        return 0;
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
    if (is_unsorted(queue, entry))
        return 0;
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
    if (wants == ENTRY_WANT_REMOVE) {
        (void)remove_message(queue, entry, NULL);
    } else if (wants == ENTRY_WANT_BOUNCE) {
        (void)bounce_message(queue, entry, NULL);
    } else if (message_hold(queue, entry) < 0) {
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

/* Its spool is being read, and what J says of it is not known yet. */
static bool is_new(const struct queue *queue, uint32_t entry)
{
    for (uint32_t item = next_item(queue, entry, INDEX_NONE); item != INDEX_NONE;
         item = next_item(queue, entry, item)) {
        if (index_item(&queue->index, item)->state == ITEM_NEW)
            return true;
    }
    return false;
}

/* What needs a note is refused while none can be written. */
static int act_now(struct queue *queue, uint32_t entry, enum queue_action action,
                   struct queue_act *act)
{
    bool in_hand = message_in_hand(queue, entry);
    bool held = index_entry(&queue->index, entry)->flags & ENTRY_HOLD;
    bool journal = spool_journal_ok(queue_spool(queue, index_entry(&queue->index, entry)->id));

    switch (action) {
    case QUEUE_HOLD:
        if (held)
            return -EALREADY;
        return in_hand ? act_later(queue, entry, ENTRY_WANT_HOLD) : hold_message(queue, entry, act);
    case QUEUE_RELEASE:
        return held ? release_message(queue, entry, act) : -EALREADY;
    case QUEUE_RETRY:
        return held ? -EPERM : retry_message(queue, entry);
    case QUEUE_REMOVE:
        if (in_hand)
            return act_later(queue, entry, ENTRY_WANT_REMOVE);
        return journal ? remove_message(queue, entry, act) : -EIO;
    case QUEUE_BOUNCE:
        if (in_hand || is_unsorted(queue, entry))
            return act_later(queue, entry, ENTRY_WANT_BOUNCE);
        return journal ? bounce_message(queue, entry, act) : -EIO;
    }
    return -EINVAL;
}

int queue_act(struct queue *queue, uint64_t id, enum queue_action action, queue_acted_fn *acted,
              void *context)
{
    uint32_t entry = index_find(&queue->index, id);
    struct queue_act *act = NULL;
    int r;

    if (entry == INDEX_NONE || queue_spool(queue, id) == NULL)
        return -ENOENT;
    if ((action == QUEUE_RELEASE || action == QUEUE_RETRY) && is_new(queue, entry))
        return -EAGAIN;
    if (acted != NULL) {
        act = calloc(1, sizeof(*act));
        if (act == NULL)
            return -ENOMEM;
        *act = (struct queue_act){.queue = queue, .acted = acted, .context = context};
        list_node_init(&act->node);
    }
    r = act_now(queue, entry, action, act);
    if (act == NULL || list_linked(&act->node))
        return r;
    if (r == 0) { /* nothing had to be noted */
        list_push_back(&queue->acted, &act->node);
        queue_poke(queue);
    } else {
        free(act);
    }
    return r;
}

/* ---- in the task ------------------------------------------------------------------------------- */

void acts_run(struct queue *queue)
{
    struct list_node *node;

    while ((node = list_pop_front(&queue->acted)) != NULL) {
        struct queue_act *act = CONTAINER_OF(node, struct queue_act, node);

        act->acted(act->context, act->result);
        free(act);
    }
}

/* The spool lets go of the notes of its own accord only while it lives, so a queue that stops waits for them. */
void acts_deinit(struct queue *queue)
{
    struct list_node *node;

    while ((node = list_pop_front(&queue->acts)) != NULL)
        free(CONTAINER_OF(node, struct queue_act, node));
    while ((node = list_pop_front(&queue->acted)) != NULL)
        free(CONTAINER_OF(node, struct queue_act, node));
}
