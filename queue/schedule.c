#include "queue/queue_private.h"

#include "core/assert.h"

/* An item sleeps in the wheel until the second it may move, or stands ready behind its destination; nothing is polled
 * and nothing is scanned. Expiry does not depend on which of the two it is: the messages of a spool stand in order of
 * age, a cursor (part->aging) goes along with time, and what it passes is taken out of wherever it waits. So mail behind a
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
    return clock_expired(queue, expires_s(queue, entry));
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
        /* By one offset for all, so that the second on disk comes back as it was. */
        next_wall_s = MIN(next_wall_s, wall_s + 365 * DAY_MS / SECOND_MS);
        it->due_s = (uint32_t)MAX((int64_t)next_wall_s - clock_offset_s(queue), (int64_t)0);
        item_enter(queue, item, ITEM_WAITING);
    }
}

/* ---- expiry ----------------------------------------------------------------------------------- */

void schedule_age_again(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->part_count; i++)
        queue->parts[i]->aging = part_first(queue->parts[i]);
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

static uint32_t next_in_part(const struct queue_part *part, uint32_t entry)
{
    return entry == part->youngest ? INDEX_NONE : index_older_first(&part->queue->index, entry);
}

/* True: there is more to do at once. */
static bool run_expiry(struct queue_part *part)
{
    struct queue *queue = part->queue;

    for (uint32_t i = 0; i < QUEUE_BATCH; i++) {
        uint32_t entry = part->aging;

        if (entry == INDEX_NONE || !message_expired(queue, index_entry(&queue->index, entry)))
            return false;
        part->aging = next_in_part(part, entry);
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

    for (uint32_t i = 0; i < queue->part_count; i++)
        more = run_expiry(queue->parts[i]) || more;
    if (more)
        queue_poke(queue);
    schedule_arm(queue);
}

/* When the next message of a spool becomes too old, or the doubt ends that keeps all from it. */
static uint64_t aging_ns(const struct queue_part *part)
{
    const struct queue *queue = part->queue;
    uint64_t expires_wall_s, now_s, wait_s;

    if (part->aging == INDEX_NONE)
        return UINT64_MAX;
    expires_wall_s = expires_s(queue, index_entry(&queue->index, part->aging));
    now_s = clock_age_s(queue);
    wait_s = expires_wall_s + 1 > now_s ? expires_wall_s + 1 - now_s : 0;
    return queue->shard->now_ns + wait_s * SECOND_NS;
}

void schedule_arm(struct queue *queue)
{
    uint32_t wheel_s = wheel_next_s(&queue->wheel);
    uint64_t deadline_ns = wheel_s == UINT32_MAX ? UINT64_MAX : wheel_s * SECOND_NS;

    if (!queue->started)
        return;
    if (queue->clock_doubted)
        deadline_ns = MIN(deadline_ns, queue->clock_doubted_until_ns);
    for (uint32_t i = 0; i < queue->part_count && !queue->clock_doubted; i++)
        deadline_ns = MIN(deadline_ns, aging_ns(queue->parts[i]));
    if (deadline_ns == UINT64_MAX)
        shard_timer_disarm(queue->shard, &queue->timer);
    else if (!timer_armed(&queue->timer) || queue->timer.deadline_ns != deadline_ns)
        timer_arm(&queue->shard->timers, &queue->timer, deadline_ns);
}

void schedule_fired(struct timer *timer)
{
    queue_poke(CONTAINER_OF(timer, struct queue, timer));
}
