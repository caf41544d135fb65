#include "queue/queue_private.h"

#include "core/assert.h"

/* An item sleeps in the wheel until the second it may move, or stands ready behind its destination; nothing is polled
 * and nothing is scanned. Expiry does not depend on which of the two it is: the messages stand in order of age, a
 * cursor (queue->aging) goes along with time, and what it passes is taken out of wherever it waits. So mail behind a
 * site in back-off, without a slot, or with a next try beyond its age limit fails when it is due to. */

uint64_t queue_wall_s(const struct queue *queue)
{
    return queue->shard->wall_ns / SECOND_NS;
}

uint32_t queue_mono_s(const struct queue *queue)
{
    return (uint32_t)(queue->shard->now_ns / SECOND_NS);
}

static uint64_t expires_s(const struct queue *queue, const struct index_entry *entry)
{
    return entry->arrival_s + queue->config.expire_ms / SECOND_MS;
}

bool message_expired(const struct queue *queue, const struct index_entry *entry)
{
    return queue_wall_s(queue) > expires_s(queue, entry);
}

/* Into the place where it waits for `next_wall_s`; an action that waited for it, and expiry, come first. */
void item_schedule(struct queue *queue, uint32_t item, uint64_t next_wall_s)
{
    struct index_item *it = index_item(&queue->index, item);
    struct index_entry *entry = index_entry(&queue->index, index_entry_of(&queue->index, item));
    uint64_t wall_s = queue_wall_s(queue);

    if (entry->flags & (ENTRY_HOLD | ENTRY_WANTS)) {
        item_enter(queue, item, ITEM_HELD);
    } else if (message_expired(queue, entry)) {
        item_enter(queue, item, ITEM_EXPIRING);
    } else if (next_wall_s <= wall_s) {
        item_enter(queue, item, ITEM_READY);
    } else {
        it->due_s =
            queue_mono_s(queue) + (uint32_t)MIN(next_wall_s - wall_s, 365 * DAY_MS / SECOND_MS);
        item_enter(queue, item, ITEM_WAITING);
    }
}

/* ---- expiry ----------------------------------------------------------------------------------- */

void schedule_inserted(struct queue *queue, uint32_t entry)
{
    /* One that was overtaken while it arrived may stand in front of the cursor, which then goes back to it. */
    if (queue->aging == INDEX_NONE ||
        index_entry(&queue->index, entry)->id < index_entry(&queue->index, queue->aging)->id)
        queue->aging = entry;
}

void schedule_removed(struct queue *queue, uint32_t entry)
{
    if (queue->aging == entry)
        queue->aging = index_older_first(&queue->index, entry);
}

static void expire_message(struct queue *queue, uint32_t entry)
{
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        uint8_t state = index_item(&queue->index, item)->state;

        /* In an attempt or on hold: item_schedule() looks at the time when that is over. */
        if (state == ITEM_READY || state == ITEM_WAITING)
            item_enter(queue, item, ITEM_EXPIRING);
    }
}

static bool run_expiry(struct queue *queue)
{
    for (uint32_t i = 0; i < QUEUE_BATCH; i++) {
        uint32_t entry = queue->aging;

        if (entry == INDEX_NONE || !message_expired(queue, index_entry(&queue->index, entry)))
            return false;
        queue->aging = index_older_first(&queue->index, entry);
        expire_message(queue, entry);
    }
    return true;
}

/* ---- the wheel -------------------------------------------------------------------------------- */

static bool run_wheel(struct queue *queue)
{
    struct item_list due = {.first = INDEX_NONE};
    bool more = wheel_advance(&queue->index, &queue->wheel, queue_mono_s(queue), QUEUE_BATCH, &due);
    uint32_t item;

    while ((item = item_list_pop(&queue->index, &due)) != INDEX_NONE) {
        struct index_item *it = index_item(&queue->index, item);

        /* Out of the wheel already, so item_enter() must not look for it there. */
        ASSERT(it->state == ITEM_WAITING);
        queue->state_counts[ITEM_WAITING]--;
        queue->state_counts[ITEM_NEW]++;
        it->state = ITEM_NEW;
        item_schedule(queue, item, 0);
    }
    return more;
}

void schedule_run(struct queue *queue)
{
    bool more = run_wheel(queue);

    if (run_expiry(queue) || more)
        queue_poke(queue);
    schedule_arm(queue);
}

void schedule_arm(struct queue *queue)
{
    uint32_t wheel_s = wheel_next_s(&queue->wheel);
    uint64_t deadline_ns = wheel_s == UINT32_MAX ? UINT64_MAX : wheel_s * SECOND_NS;

    if (!queue->started)
        return;
    if (queue->aging != INDEX_NONE) {
        uint64_t at_s = expires_s(queue, index_entry(&queue->index, queue->aging)) + 1;
        uint64_t wall_s = queue_wall_s(queue);
        uint64_t wait_s = at_s > wall_s ? at_s - wall_s : 0;

        deadline_ns = MIN(deadline_ns, queue->shard->now_ns + wait_s * SECOND_NS);
    }
    if (deadline_ns == UINT64_MAX)
        shard_timer_disarm(queue->shard, &queue->timer);
    else if (!timer_armed(&queue->timer) || queue->timer.deadline_ns != deadline_ns)
        timer_arm(&queue->shard->timers, &queue->timer, deadline_ns);
}

void schedule_fired(struct timer *timer)
{
    queue_poke(CONTAINER_OF(timer, struct queue, timer));
}
