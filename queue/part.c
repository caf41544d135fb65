#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

/* The spools of a queue. Usually there is one, so the way to it is one comparison. Ids begin with the number of their
 * spool, so the messages of one stand together in the index' order, those of an earlier life in front of those of this
 * one. Units are counted for each spool by itself: a spool's books are balanced or they are not, whoever else is
 * served. */

static uint32_t number_of(uint64_t id)
{
    return (uint32_t)(id >> PART_ID_SHIFT);
}

struct queue_part *part_of(const struct queue *queue, uint64_t id)
{
    uint32_t number = number_of(id);

    if (queue->own != NULL && queue->own->number == number)
        return queue->own;
    for (uint32_t i = 0; i < queue->part_count; i++) {
        if (queue->parts[i]->number == number)
            return queue->parts[i];
    }
    return NULL;
}

/* In the order of their numbers, which is that of the index. */
int part_get(struct queue *queue, uint32_t number, struct queue_part **ret_part)
{
    struct queue_part *part = part_of(queue, (uint64_t)number << PART_ID_SHIFT);
    struct queue_part **grown;
    uint32_t at = queue->part_count;

    *ret_part = part;
    if (part != NULL)
        return 0;
    grown = realloc(queue->parts, (queue->part_count + 1) * sizeof(struct queue_part *));
    if (grown == NULL)
        return -ENOMEM;
    queue->parts = grown;
    part = calloc(1, sizeof(*part));
    if (part == NULL)
        return -ENOMEM;
    part->queue = queue;
    part->number = number;
    for (; at > 0 && grown[at - 1]->number > number; at--)
        grown[at] = grown[at - 1];
    grown[at] = part;
    queue->part_count++;
    *ret_part = part;
    return 0;
}

void parts_deinit(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->part_count; i++) {
        restore_free(queue->parts[i]);
        free(queue->parts[i]);
    }
    free(queue->parts);
    queue->parts = NULL;
    queue->part_count = 0;
    queue->own = NULL;
}

int queue_add_spool(struct queue *queue, struct spool *spool, bool own)
{
    /* Its number and where this life begins are told by an id, which is then not used. */
    uint64_t first_id = spool_next_id(spool);
    struct queue_part *part;
    int r = part_get(queue, number_of(first_id), &part);

    if (r < 0)
        return r;
    ASSERT(part->spool == NULL);
    part->spool = spool;
    part->first_id = first_id;
    if (own) {
        ASSERT(queue->own == NULL);
        queue->own = part;
    }
    spool_set_owner(spool, &queue_owner, part);
    return 0;
}

struct spool *queue_spool(const struct queue *queue, uint64_t id)
{
    const struct queue_part *part = part_of(queue, id);

    return part == NULL ? NULL : part->spool;
}

bool queue_spool_number(const struct queue *queue, uint32_t nth, uint32_t *ret_number)
{
    if (nth >= queue->part_count)
        return false;
    *ret_number = queue->parts[nth]->number;
    return true;
}

/* An outcome that cannot be noted would be tried again, so nothing new may begin (QUEUE I21). With several spools one
 * that is away stops all: which message an attempt would get is known only when it is taken. */
bool parts_journal_ok(const struct queue *queue)
{
    for (uint32_t i = 0; i < queue->part_count; i++) {
        if (!spool_journal_ok(queue->parts[i]->spool))
            return false;
    }
    return true;
}

void part_release(struct queue_part *part, uint64_t id, const struct spool_location *location)
{
    spool_release(part->spool, id, location);
}

/* ---- the order of its messages ------------------------------------------------------------------ */

uint32_t part_front(const struct queue_part *part)
{
    const struct queue *queue = part->queue;
    uint32_t front = INDEX_NONE;

    for (uint32_t i = 0; queue->parts[i] != part; i++) {
        if (queue->parts[i]->youngest != INDEX_NONE)
            front = queue->parts[i]->youngest;
    }
    return front;
}

uint32_t part_first(const struct queue_part *part)
{
    return part->youngest == INDEX_NONE ? INDEX_NONE
                                        : index_older_first(&part->queue->index, part_front(part));
}

void part_placed(struct queue_part *part, uint32_t entry)
{
    const struct index *index = &part->queue->index;
    uint64_t id = index_entry(index, entry)->id;

    if (part->youngest == INDEX_NONE || index_before(index, entry) == part->youngest)
        part->youngest = entry;
    /* One that was overtaken while it arrived may stand in front of a cursor, which then goes back to it. */
    if (part->aging == INDEX_NONE || id < index_entry(index, part->aging)->id)
        part->aging = entry;
    if (part->imaging && part->image_next != INDEX_NONE &&
        index_before(index, part->image_next) == entry)
        part->image_next = entry;
}

static void counted(struct queue_part *part)
{
    part->messages++;
    part->queue->message_count++;
}

void part_insert(struct queue_part *part, uint32_t entry)
{
    index_insert(&part->queue->index, entry,
                 part->youngest == INDEX_NONE ? part_front(part) : part->youngest);
    counted(part);
    part_placed(part, entry);
}

bool part_insert_near(struct queue_part *part, uint32_t entry, uint32_t near)
{
    bool in_order = index_insert_near(&part->queue->index, entry, near);

    counted(part);
    if (in_order)
        part_placed(part, entry);
    return in_order;
}

void part_removed(struct queue_part *part, uint32_t entry)
{
    const struct index *index = &part->queue->index;
    uint32_t next = index_older_first(index, entry);

    if (part->aging == entry)
        part->aging = entry == part->youngest ? INDEX_NONE : next;
    if (part->image_next == entry)
        part->image_next = entry == part->youngest ? INDEX_NONE : next;
    restore_removed(part, entry);
    if (part->youngest == entry) {
        uint32_t before = index_before(index, entry);

        part->youngest = before == part_front(part) ? INDEX_NONE : before;
    }
    part->messages--;
    part->queue->message_count--;
}

/* ---- units ------------------------------------------------------------------------------------- */

static void balance(const struct queue_part *part, struct queue_conservation *c)
{
    *c = part->done;
    c->set_aside = part->damaged_units + part->unreadable_units;
    c->queued = part->units - part->damaged_units;
    c->difference =
        (int64_t)(c->accepted + c->generated + c->recovered - c->delivered - c->bounced -
                  c->expired - c->removed - c->moved - c->set_aside - c->queued);
}

static void alarm_once(struct queue_part *part, const struct queue_conservation *c)
{
    if (c->difference == 0 || part->alarmed)
        return;
    part->alarmed = true;
    log_event(part->queue->shard->log, LOG_ERROR, "queue.conservation",
              log_u64("spool", part->number), log_i64("difference", c->difference),
              log_u64("accepted", c->accepted), log_u64("generated", c->generated),
              log_u64("recovered", c->recovered), log_u64("delivered", c->delivered),
              log_u64("bounced", c->bounced), log_u64("expired", c->expired),
              log_u64("removed", c->removed), log_u64("set_aside", c->set_aside),
              log_u64("queued", c->queued));
}

int queue_conservation(struct queue *queue, uint32_t number,
                       struct queue_conservation *ret_conservation)
{
    struct queue_part *part = part_of(queue, (uint64_t)number << PART_ID_SHIFT);

    if (part == NULL)
        return -ENOENT;
    balance(part, ret_conservation);
    alarm_once(part, ret_conservation);
    return 0;
}

void parts_check(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->part_count; i++) {
        struct queue_conservation c;

        balance(queue->parts[i], &c);
        alarm_once(queue->parts[i], &c);
    }
}
