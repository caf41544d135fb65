#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

/* The promise. A submission is written down first, in the index's memory and in the spool's group, and becomes a
 * message only when the group is durable: nothing can fail between the two, because all that the message needs was
 * taken before. From then on it is in the hands of the schedule, and everything that calls the owner happens in one
 * task, so that no call of the owner's is ever entered from within another. */
#define QUEUE_NO_SPACE_NS                                                                          \
    SECOND_NS /* for so long a full disk is answered for without asking it again */

void queue_poke(struct queue *queue)
{
    if (queue->started)
        shard_defer(queue->shard, &queue->task);
}

static struct index_entry *entry_of(struct queue *queue, uint32_t number)
{
    return index_entry(&queue->index, number);
}

struct spool_location entry_location(const struct index_entry *entry)
{
    return (struct spool_location){entry->segment, entry->offset_16, entry->record_bytes};
}

/* ---- states ------------------------------------------------------------------------------------ */

#define MAY(state) (1u << ITEM_##state)
static const uint16_t item_next[ITEM_STATES] = {
    [ITEM_NEW] = MAY(READY) | MAY(WAITING) | MAY(EXPIRING) | MAY(FAILING) | MAY(HELD) |
                 MAY(DAMAGED) | MAY(DONE),
    [ITEM_READY] = MAY(TRYING) | MAY(FAILING) | MAY(EXPIRING) | MAY(HELD) | MAY(DONE),
    [ITEM_WAITING] = MAY(READY) | MAY(FAILING) | MAY(EXPIRING) | MAY(HELD) | MAY(DONE),
    [ITEM_TRYING] = MAY(READY) | MAY(WAITING) | MAY(FAILING) | MAY(EXPIRING) | MAY(HELD) |
                    MAY(DAMAGED) | MAY(DONE),
    [ITEM_FAILING] = MAY(TRYING) | MAY(HELD) | MAY(DONE) | MAY(EXPIRING),
    [ITEM_EXPIRING] = MAY(TRYING) | MAY(HELD) | MAY(DONE) | MAY(FAILING),
    [ITEM_HELD] = MAY(READY) | MAY(WAITING) | MAY(FAILING) | MAY(EXPIRING) | MAY(DONE),
    [ITEM_DAMAGED] =
        MAY(READY) | MAY(WAITING) | MAY(EXPIRING) | MAY(HELD) | MAY(FAILING) | MAY(DONE),
    [ITEM_DONE] = 0,
};

static void item_leave(struct queue *queue, uint32_t item)
{
    const struct index_item *it = index_item(&queue->index, item);

    switch ((enum item_state)it->state) {
    case ITEM_READY:
        destination_ready_remove(queue->destinations[it->destination], item);
        break;
    case ITEM_WAITING:
        wheel_remove(&queue->index, &queue->wheel, item);
        break;
    case ITEM_FAILING:
    case ITEM_EXPIRING:
        item_list_remove(&queue->index, &queue->failing, item);
        break;
    default: /* in no list */
        break;
    }
}

/* Units set aside are told apart from those that are on their way. */
static void count_damaged(struct queue *queue, uint32_t item, enum item_state next)
{
    const struct index_item *it = index_item(&queue->index, item);
    uint32_t entry = index_entry_of(&queue->index, item);

    if (it->state == ITEM_DAMAGED)
        part_of(queue, entry_of(queue, entry)->id)->damaged_units -= it->open_count;
    if (next == ITEM_DAMAGED)
        part_of(queue, entry_of(queue, entry)->id)->damaged_units += it->open_count;
}

void item_enter(struct queue *queue, uint32_t item, enum item_state next)
{
    struct index_item *it = index_item(&queue->index, item);

    ASSERT(item_next[it->state] & (1u << next));
    item_leave(queue, item);
    queue->state_counts[it->state]--;
    queue->state_counts[next]++;
    count_damaged(queue, item, next);
    it->state = next & ITEM_STATE_MASK;
    switch (next) {
    case ITEM_READY:
        destination_ready_push(queue->destinations[it->destination], item, false);
        break;
    case ITEM_WAITING:
        wheel_put(&queue->index, &queue->wheel, item);
        schedule_arm(queue);
        break;
    case ITEM_FAILING:
    case ITEM_EXPIRING:
        item_list_push(&queue->index, &queue->failing, item);
        queue_poke(queue);
        break;
    default:
        break;
    }
}

void item_set_reason(struct queue *queue, uint32_t item, uint32_t reason)
{
    struct index_item *it = index_item(&queue->index, item);

    reason_unref(&queue->reasons, it->reason);
    it->reason = reason;
}

/* ---- messages in memory --------------------------------------------------------------------------- */

bool message_in_hand(const struct queue *queue, uint32_t entry)
{
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        uint8_t state = index_item(&queue->index, item)->state;

        if (state == ITEM_TRYING || state == ITEM_NEW)
            return true;
    }
    return false;
}

bool message_done(const struct queue *queue, uint32_t entry)
{
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        if (index_item(&queue->index, item)->state != ITEM_DONE)
            return false;
    }
    return true;
}

/* Takes back what message_build() made of an entry that never became a message, or did and is over. */
void message_unbuild(struct queue *queue, uint32_t entry)
{
    for (uint32_t item = index_next_item(&queue->index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(&queue->index, entry, item)) {
        struct index_item *it = index_item(&queue->index, item);

        if (item == entry && it->open_count == 0 && it->state == ITEM_NEW)
            continue; /* the entry of a message whose first unit could not be had */
        if (it->state != ITEM_DONE)
            item_enter(queue, item, ITEM_DONE);
        item_set_reason(queue, item, REASON_NONE);
        queue->state_counts[ITEM_DONE]--;
        /* Its number stands in the item until here, also of one that is done: whose recipients are whose is told by it. */
        destination_item_done(queue->destinations[it->destination]);
    }
    index_free(&queue->index, entry);
}

void message_free(struct queue *queue, uint32_t entry)
{
    struct queue_part *part = part_of(queue, entry_of(queue, entry)->id);
    struct spool_location location = entry_location(entry_of(queue, entry));
    uint64_t id = entry_of(queue, entry)->id;

    part->units -= index_open_bits(&queue->index, entry);
    part_removed(part, entry);
    message_unbuild(queue, entry);
    /* Whoever is done with a message has noted so before: the spool waits for that note. */
    part_release(part, id, &location);
}

void message_damaged(struct queue *queue, uint32_t entry, const uint32_t *items,
                     uint32_t item_count, int error)
{
    char text[SPOOL_ID_TEXT_SIZE];

    spool_id_format(entry_of(queue, entry)->id, text);
    log_event(queue->shard->log, LOG_ERROR, "queue.damaged", log_cstr("message", text),
              log_i64("error", error));
    queue->totals.damaged++;
    for (uint32_t i = 0; i < item_count; i++)
        item_enter(queue, items[i], ITEM_DAMAGED);
}

void unit_finish(struct queue *queue, uint32_t item, uint32_t unit)
{
    struct index_item *it = index_item(&queue->index, item);

    uint32_t entry = index_entry_of(&queue->index, item);
    struct queue_part *part = part_of(queue, entry_of(queue, entry)->id);

    ASSERT(it->open_count > 0 && part->units > 0);
    it->open_count--;
    part->units--;
    index_unit_close(&queue->index, entry, unit);
}

void item_settle(struct queue *queue, uint32_t item, uint32_t next_wall_s)
{
    uint32_t entry = index_entry_of(&queue->index, item);

    if (index_item(&queue->index, item)->open_count == 0)
        item_enter(queue, item, ITEM_DONE);
    else
        item_schedule(queue, item, next_wall_s);
    if (message_done(queue, entry))
        message_free(queue, entry);
    else
        message_act_pending(queue, entry);
}

/* Counted where it is noted, but for local delivery, whose note is only good when it is durable. */
static void count_done(struct queue_part *part, uint8_t outcome, uint32_t count)
{
    struct queue_conservation *done = &part->done;

    switch ((enum spool_note_outcome)outcome) {
    case SPOOL_DELIVERED:
        done->delivered += count;
        break;
    case SPOOL_BOUNCED:
        done->bounced += count;
        break;
    case SPOOL_EXPIRED:
        done->expired += count;
        break;
    case SPOOL_REMOVED:
        done->removed += count;
        break;
    }
}

int message_note(struct queue *queue, uint64_t id, uint32_t first, uint32_t count, uint8_t outcome,
                 const uint8_t status[3])
{
    struct queue_part *part = part_of(queue, id);
    struct spool_note note = {
        .kind = SPOOL_NOTE_DONE,
        .id = id,
        .unit_first = first,
        .unit_count = count,
        .outcome = outcome,
    };

    memcpy(note.status, status, sizeof(note.status));
    count_done(part, outcome, count);
    return spool_note(part->spool, &note);
}

/* ---- building ---------------------------------------------------------------------------------- */

struct builder {
    struct queue *queue;
    uint32_t entry, last_unit;
    bool split; /* a unit record for each item, rather than the entry's own */
    uint64_t stamp;
};

/* The item that a recipient of `destination` joins, or a new one. */
static int builder_item(struct builder *builder, struct destination *destination,
                        uint32_t *ret_item)
{
    struct queue *queue = builder->queue;
    struct index_entry *entry = entry_of(queue, builder->entry);
    uint32_t item = builder->entry;
    int r = 0;

    if (destination->stamp != builder->stamp) {
        destination->stamp = builder->stamp;
        destination->stamp_count = 0;
        destination->stamp_item = INDEX_NONE;
    }
    if (destination->stamp_item != INDEX_NONE &&
        (destination->number == QUEUE_LOCAL || destination->stamp_count % entry->chunk != 0)) {
        *ret_item = destination->stamp_item;
        destination->stamp_count++;
        return 0;
    }
    if (builder->split)
        r = index_unit_add(&queue->index, builder->entry, builder->last_unit, &item);
    if (r < 0)
        return r;
    builder->last_unit = item;
    index_item(&queue->index, item)->destination = destination->number;
    queue->state_counts[ITEM_NEW]++;
    destination_item_added(destination);
    destination->stamp_item = item;
    destination->stamp_count++;
    *ret_item = item;
    return 0;
}

struct recipient_walk {
    const struct recipient_source *source;
    struct slice rest;
    uint32_t next;
};

static struct slice walk_next(struct recipient_walk *walk)
{
    struct slice address = SLICE_NONE;

    if (walk->source->array != NULL)
        return walk->source->array[walk->next++];
    (void)envelope_next(&walk->rest, &address); /* as many as envelope_parse() has counted */
    return address;
}

/* Do all recipients fit into one item? Then the entry is enough. */
static int needs_split(struct queue *queue, const struct recipient_source *source, uint32_t count,
                       uint32_t chunk, bool *ret_split)
{
    struct recipient_walk walk = {source, source->envelope, 0};
    struct destination *first, *other;
    int r;

    *ret_split = false;
    if (count == 1)
        return 0;
    r = destination_of_address(queue, walk_next(&walk), &first);
    *ret_split = count > chunk && r == 0 && first->number != QUEUE_LOCAL;
    for (uint32_t i = 1; i < count && r == 0 && !*ret_split; i++) {
        r = destination_of_address(queue, walk_next(&walk), &other);
        *ret_split = r == 0 && other != first;
    }
    return r;
}

/* What recovery knows of a unit goes into its item: the most tries, the earliest time. */
static void item_recover(struct index_item *it, const struct spool_unit *state)
{
    if (it->open_count == 0 || state->next_s < it->due_s)
        it->due_s = state->next_s;
    it->attempts = MAX(it->attempts, state->attempts);
}

int message_build(struct queue *queue, uint32_t entry, const struct recipient_source *source,
                  uint32_t recipient_count, const struct spool_unit *states, uint32_t *ret_items)
{
    struct builder builder = {.queue = queue, .entry = entry, .stamp = ++queue->stamp};
    struct recipient_walk walk = {source, source->envelope, 0};
    int r;

    entry_of(queue, entry)->chunk = (uint8_t)MIN(MAX(1u, queue->config.site_recipients_max), 255u);
    r = needs_split(queue, source, recipient_count, entry_of(queue, entry)->chunk, &builder.split);
    for (uint32_t unit = 0; unit < recipient_count && r == 0; unit++) {
        struct destination *destination;
        struct index_item *it;
        uint32_t item = INDEX_NONE;

        r = destination_of_address(queue, walk_next(&walk), &destination);
        if (r == 0)
            r = builder_item(&builder, destination, &item);
        if (r < 0)
            break;
        it = index_item(&queue->index, item);
        if (ret_items != NULL)
            ret_items[unit] = item;
        if (states != NULL && states[unit].state == SPOOL_UNIT_DONE) {
            index_unit_close(&queue->index, entry, unit);
            continue;
        }
        if (states != NULL)
            item_recover(it, &states[unit]);
        it->open_count++;
    }
    return r;
}

/* ---- accepting -------------------------------------------------------------------------------- */

uint64_t queue_next_id(struct queue *queue)
{
    return spool_next_id(queue->own->spool);
}

uint64_t queue_next_report_id(struct queue *queue, uint64_t report_of)
{
    struct queue_part *part = part_of(queue, report_of);

    return spool_next_id(part == NULL ? queue->own->spool : part->spool);
}

int queue_admits(const struct queue *queue)
{
    if (queue->own == NULL || queue->stopping ||
        queue->index.entry_count >= queue->config.messages_max)
        return -EAGAIN;
    if (queue->shard->now_ns < queue->no_space_until_ns ||
        spool_ready(queue->own->spool) == -ENOSPC)
        return -ENOSPC;
    return 0;
}

/* The message exists: what the owner lent for it is still there. */
static void submission_durable(struct queue_submission *submission)
{
    struct queue *queue = submission->queue;
    struct queue_part *part = part_of(queue, submission->id);
    struct index_entry *entry = entry_of(queue, submission->entry);
    const struct spool_location *location = &submission->append.location;

    entry->segment = location->segment;
    entry->offset_16 = location->offset_16;
    entry->record_bytes = location->record_bytes;
    entry->arrival_s = submission->append.arrival_s;
    entry->size_bytes =
        (uint32_t)MIN(submission->append.body_bytes + submission->head.size, (uint64_t)UINT32_MAX);
    part_insert(part, submission->entry);
    part->units += submission->recipient_count;
    if (submission->flags & SPOOL_REPORT) {
        queue->totals.generated++;
        part->done.generated += submission->recipient_count;
    } else {
        queue->totals.accepted++;
        part->done.accepted += submission->recipient_count;
    }
    for (uint32_t item = index_next_item(&queue->index, submission->entry, INDEX_NONE);
         item != INDEX_NONE; item = index_next_item(&queue->index, submission->entry, item))
        item_schedule(queue, item, 0);
    queue_poke(queue);
}

static void appended(struct spool_append *append)
{
    struct queue_submission *submission = CONTAINER_OF(append, struct queue_submission, append);

    submission->result = append->result;
    if (append->result == 0)
        submission_durable(submission);
    else
        message_unbuild(submission->queue, submission->entry);
    submission->done(submission);
}

static int write_envelope(struct queue *queue, const struct queue_submission *submission)
{
    struct envelope_parts parts = {
        .sender = submission->sender,
        .client = submission->client,
        .helo = submission->helo,
        .recipients = submission->recipients,
        .recipient_count = submission->recipient_count,
        .report_of = submission->report_of,
        .report_units = submission->report_units,
        .report_unit_count = submission->report_unit_count,
    };

    buf_reset(&queue->scratch);
    return envelope_write(&queue->scratch, &parts);
}

static int append(struct queue *queue, struct queue_submission *submission)
{
    submission->append = (struct spool_append){
        .id = submission->id,
        .envelope = buf_slice(&queue->scratch),
        .unit_count = submission->recipient_count,
        .head = submission->head,
        .body = submission->body,
        .body_pieces = submission->body_pieces,
        .upload = submission->upload,
        .flags = submission->flags,
        .arrival_s = (uint32_t)queue_wall_s(queue),
        .durability = submission->durability,
        .done = appended,
    };
    list_node_init(&submission->append.node);
    return spool_append(queue_spool(queue, submission->id), &submission->append);
}

int queue_submit(struct queue *queue, struct queue_submission *submission)
{
    struct recipient_source source = {.array = submission->recipients};
    bool report = submission->flags & SPOOL_REPORT;
    int r = report ? 0 : queue_admits(queue); /* a report takes the place of what it reports on */

    if (queue_spool(queue, submission->id) == NULL)
        return -ENOENT;
    if (r == 0)
        r = write_envelope(queue, submission);
    if (r == 0)
        r = index_alloc(&queue->index, submission->recipient_count, &submission->entry);
    if (r < 0)
        return r;
    submission->queue = queue;
    entry_of(queue, submission->entry)->id = submission->id;
    entry_of(queue, submission->entry)->flags =
        (uint8_t)((report ? ENTRY_REPORT : 0) | (submission->upload != NULL ? ENTRY_CHUNKED : 0));
    r = message_build(queue, submission->entry, &source, submission->recipient_count, NULL, NULL);
    if (r == 0)
        r = append(queue, submission);
    if (r < 0)
        message_unbuild(queue, submission->entry);
    if (r == -ENOSPC)
        queue->no_space_until_ns = queue->shard->now_ns + QUEUE_NO_SPACE_NS;
    return r;
}

/* ---- the task ---------------------------------------------------------------------------------- */

static void run(struct shard_task *task)
{
    struct queue *queue = CONTAINER_OF(task, struct queue, task);

    clock_check(queue);
    attempts_run(queue);
    acts_run(queue);
    for (uint32_t i = 0; i < queue->part_count; i++)
        restore_run(queue->parts[i]);
    schedule_run(queue);
    destinations_run(queue);
    sites_run(queue);
    reports_run(queue);
    if (queue->local_ready && !queue->stopping) {
        queue->local_ready = false;
        queue->ops.local(queue->context);
    }
    stop_check(queue);
}

/* ---- life -------------------------------------------------------------------------------------- */

int queue_create(struct shard *shard, struct spool *spool, const struct queue_config *config,
                 const struct queue_ops *ops, void *context, struct queue **ret_queue)
{
    struct queue *queue = calloc(1, sizeof(*queue));
    int r;

    if (queue == NULL)
        return -ENOMEM;
    queue->shard = shard;
    queue->config = *config;
    queue->ops = *ops;
    queue->context = context;
    buf_init(&queue->scratch, ENVELOPE_BYTES_MAX);
    wheel_init(&queue->wheel, 0);
    timer_init(&queue->timer, schedule_fired);
    timer_init(&queue->report_timer, report_pause_over);
    shard_task_init(&queue->task, run);
    list_init(&queue->attempts);
    list_init(&queue->ended);
    list_init(&queue->free_attempts);
    list_init(&queue->reports);
    list_init(&queue->letters);
    list_init(&queue->asides);
    list_init(&queue->acts);
    list_init(&queue->acted);
    clock_init(queue);
    r = sites_init(queue);
    if (r == 0)
        r = index_init(&queue->index);
    if (r == 0)
        r = reasons_init(&queue->reasons);
    if (r == 0)
        r = destinations_init(queue);
    if (r == 0 && spool != NULL)
        r = queue_add_spool(queue, spool, true);
    if (r < 0) {
        queue_destroy(&queue);
        return r;
    }
    *ret_queue = queue;
    return 0;
}

void queue_start(struct queue *queue)
{
    ASSERT(!queue->started);
    clock_init(queue);
    wheel_init(&queue->wheel, queue_mono_s(queue));
    queue->started = true;
    queue_poke(queue);
}

void queue_configure(struct queue *queue, const struct queue_config *config)
{
    queue->config = *config;
    schedule_age_again(queue);
    homes_configure(queue);
    sites_touch_all(queue);
    queue_poke(queue);
}

void queue_abandon(struct queue *queue)
{
    queue->started = false; /* nothing that is told is to be followed by anything */
    shard_undefer(&queue->task);
    shard_timer_disarm(queue->shard, &queue->timer);
    shard_timer_disarm(queue->shard, &queue->report_timer);
    shard_timer_disarm(queue->shard, &queue->again_timer);
}

void queue_destroy(struct queue **queue)
{
    struct queue *q = *queue;

    if (q == NULL)
        return;
    queue_abandon(q);
    reports_deinit(q);
    attempts_deinit(q);
    destinations_deinit(q);
    sites_deinit(q);
    acts_deinit(q);
    asides_deinit(q);
    parts_deinit(q);
    reasons_deinit(&q->reasons);
    index_deinit(&q->index);
    buf_deinit(&q->scratch);
    free(q);
    *queue = NULL;
}
