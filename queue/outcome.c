#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

/* What became of an attempt's recipients: it is noted (J) first, in ranges of neighbours with the same end, and then
 * what is done is forgotten, what was put off goes back into the schedule, and what failed for good goes into a report.
 * Only local delivery waits until its notes are on disk; a crash before that repeats a transaction, at most. */
static const uint8_t status_given_up[3] = {4, 4, 2};
static const uint8_t status_unreadable[3] = {4, 3, 0};
static const uint8_t status_journal[3] = {4, 3, 0};

/* ---- outcomes --------------------------------------------------------------------------------- */

static void set_mark(struct queue_attempt *attempt, struct attempt_unit *unit,
                     enum attempt_mark mark, const uint8_t status[3], struct slice text)
{
    struct reasons *reasons = &attempt->queue->reasons;
    uint32_t old = unit->reason;

    unit->mark = (uint8_t)mark;
    unit->reason = mark == MARK_DELIVERED ? REASON_NONE : reason_intern(reasons, status, text);
    reason_unref(reasons, old);
}

void queue_attempt_outcome(struct queue_attempt *attempt, uint32_t index,
                           enum queue_outcome outcome, const uint8_t status[3], struct slice text)
{
    ASSERT(index < attempt->count);
    set_mark(attempt, &attempt->units[index],
             outcome == QUEUE_DELIVERED ? MARK_DELIVERED
             : outcome == QUEUE_LATER   ? MARK_LATER
             : outcome == QUEUE_NEVER   ? MARK_NEVER
                                        : MARK_IN_DOUBT,
             status, text);
}

static bool put_off(const struct attempt_unit *unit)
{
    return unit->mark == MARK_LATER || unit->mark == MARK_IN_DOUBT;
}

/* How many units from `first` on are neighbours in the envelope with the same mark, item and reason. */
static uint32_t run_of(const struct queue_attempt *attempt, uint32_t first)
{
    const struct attempt_unit *unit = &attempt->units[first];
    uint32_t count = 1;

    while (first + count < attempt->count) {
        const struct attempt_unit *next = unit + count;

        if (next->mark != unit->mark || next->reason != unit->reason ||
            next->unit != unit->unit + count || (put_off(unit) && next->item != unit->item))
            break;
        count++;
    }
    return count;
}

/* ---- ending ------------------------------------------------------------------------------------ */

/* When an item is tried again; the same for all its recipients that were put off. */
static uint32_t next_try_s(struct queue *queue, uint32_t attempts)
{
    uint64_t delay_ms =
        retry_delay_ms(queue->config.retry_first_ms, queue->config.retry_max_ms, attempts);

    return (uint32_t)(queue_wall_s(queue) + (delay_ms + SECOND_MS - 1) / SECOND_MS);
}

static void defer_item(struct queue_attempt *attempt, uint32_t index, uint32_t reason)
{
    struct queue *queue = attempt->queue;
    struct attempt_item *item = &attempt->items[index];
    struct index_item *it = index_item(&queue->index, item->item);

    if (!item->deferred) {
        item->deferred = true;
        it->in_doubt = 0;
        if (it->attempts < UINT8_MAX)
            it->attempts++;
        item->next_s = next_try_s(queue, it->attempts);
    }
    reason_ref(&queue->reasons, reason);
    item_set_reason(queue, item->item, reason);
}

/* It may have arrived. It is sent again all the same, or waits for an operator's word: the hold follows as any wish
 * does that comes while an attempt is in hand. */
static void mark_in_doubt(struct queue_attempt *attempt, const struct attempt_unit *unit,
                          uint32_t count)
{
    struct queue *queue = attempt->queue;
    struct index_entry *entry = index_entry(&queue->index, attempt->entry);
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(attempt->id, id);
    log_event(queue->shard->log, LOG_WARNING, "queue.in_doubt", log_cstr("id", id),
              log_u64("units", count), log_bool("hold", queue->config.in_doubt_hold),
              log_text("reason", reason_text(&queue->reasons, unit->reason)));
    queue->totals.in_doubt += count;
    index_item(&queue->index, attempt->items[unit->item].item)->in_doubt = 1;
    if (queue->config.in_doubt_hold && !(entry->flags & (ENTRY_HOLD | ENTRY_WANTS)))
        entry->flags |= ENTRY_WANT_HOLD;
}

static void defer_run(struct queue_attempt *attempt, uint32_t first, uint32_t count)
{
    struct queue *queue = attempt->queue;
    const struct attempt_unit *unit = &attempt->units[first];
    struct spool_note note = {.kind = SPOOL_NOTE_DEFER, .id = attempt->id};

    defer_item(attempt, unit->item, unit->reason);
    note.unit_first = unit->unit;
    note.unit_count = count;
    memcpy(note.status, reason_status(&queue->reasons, unit->reason), 3);
    note.attempts = index_item(&queue->index, attempt->items[unit->item].item)->attempts;
    note.next_s = attempt->items[unit->item].next_s;
    note.text = reason_text(&queue->reasons, unit->reason);
    note.in_doubt = unit->mark == MARK_IN_DOUBT;
    if (note.in_doubt)
        mark_in_doubt(attempt, unit, count);
    /* Losing it costs a try that comes too early, after a crash. */
    (void)spool_note(attempt->part->spool, &note);
    queue->totals.deferred += count;
}

static void finish_run(struct queue_attempt *attempt, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        unit_finish(attempt->queue, attempt->items[attempt->units[i].item].item,
                    attempt->units[i].unit);
}

/* Who fails without anyone to be told is finished at once, and the log says so. */
static void bounce_run(struct queue_attempt *attempt, uint32_t first, uint32_t count)
{
    struct queue *queue = attempt->queue;
    const struct attempt_unit *unit = &attempt->units[first];
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(attempt->id, id);
    (void)message_note(queue, attempt->id, unit->unit, count, SPOOL_BOUNCED,
                       reason_status(&queue->reasons, unit->reason));
    log_event(queue->shard->log, LOG_NOTICE, "queue.bounced", log_cstr("id", id),
              log_u64("units", count), log_bool("report", false),
              log_text("reason", reason_text(&queue->reasons, unit->reason)));
    finish_run(attempt, first, count);
}

static void never_to_later(struct queue_attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->count; i++) {
        if (attempt->units[i].mark == MARK_NEVER)
            attempt->units[i].mark = MARK_LATER;
    }
}

/* A report for the NEVER units, when one is due and can be had; otherwise they are tried again. */
static bool settle_never(struct queue_attempt *attempt)
{
    bool any = false;

    for (uint32_t i = 0; i < attempt->count; i++)
        any = any || attempt->units[i].mark == MARK_NEVER;
    if (!any)
        return false;
    if (attempt->queue->clock_doubted) {
        never_to_later(attempt); /* nothing is returned meanwhile */
        return false;
    }
    if (!report_is_due(attempt->queue, attempt->entry, attempt->sender)) {
        for (uint32_t i = 0; i < attempt->count; i += run_of(attempt, i)) {
            if (attempt->units[i].mark == MARK_NEVER)
                bounce_run(attempt, i, run_of(attempt, i));
        }
        return false;
    }
    if (report_from_attempt(attempt))
        return true;
    never_to_later(attempt);
    return false;
}

/* Items that a report has taken over stay TRYING; it settles them when it is durable. */
static bool reported(const struct queue_attempt *attempt, uint32_t item)
{
    for (uint32_t i = 0; i < attempt->count; i++) {
        if (attempt->units[i].item == item && attempt->units[i].mark == MARK_NEVER)
            return true;
    }
    return false;
}

static void set_aside(struct queue_attempt *attempt)
{
    uint32_t items[ATTEMPT_ITEMS_MAX];

    for (uint32_t i = 0; i < attempt->item_count; i++)
        items[i] = attempt->items[i].item;
    message_damaged(attempt->queue, attempt->entry, items, attempt->item_count,
                    attempt->load_result);
    message_act_pending(attempt->queue, attempt->entry);
}

/* The envelope was not read. A message with one item needs no envelope: all that is open was tried. Otherwise nothing
 * can be noted; the items wait in memory, and after a crash they are tried earlier. */
static void note_unloaded(struct queue_attempt *attempt)
{
    struct queue *queue = attempt->queue;
    const struct index_item *it = index_item(&queue->index, attempt->items[0].item);
    struct spool_note note = {
        .kind = SPOOL_NOTE_DEFER,
        .id = attempt->id,
        .attempts = it->attempts,
        .next_s = attempt->items[0].next_s,
        .text = reason_text(&queue->reasons, it->reason),
    };

    if (index_entry(&queue->index, attempt->entry)->flags & ENTRY_SPLIT)
        return;
    memcpy(note.status, reason_status(&queue->reasons, it->reason), 3);
    while (index_open_run(&queue->index, attempt->entry, &note.unit_first, &note.unit_count)) {
        (void)spool_note(attempt->part->spool, &note); /* as in defer_run() */
        queue->totals.deferred += note.unit_count;
        note.unit_first += note.unit_count;
    }
}

static void settle_unloaded(struct queue_attempt *attempt)
{
    struct queue *queue = attempt->queue;
    bool failed = attempt->load_result < 0;

    if (attempt->load_result == -EBADMSG || attempt->load_result == -EIO) {
        set_aside(attempt);
        return;
    }
    for (uint32_t i = 0; i < attempt->item_count; i++) {
        uint32_t reason = reason_intern(
            &queue->reasons, failed ? status_unreadable : status_given_up,
            failed ? SLICE("its record could not be read this time") : SLICE("attempt given up"));

        defer_item(attempt, i, reason);
        reason_unref(&queue->reasons, reason);
    }
    note_unloaded(attempt);
    for (uint32_t i = 0; i < attempt->item_count; i++)
        item_settle(queue, attempt->items[i].item, attempt->items[i].next_s);
}

static void settle_loaded(struct queue_attempt *attempt)
{
    struct queue *queue = attempt->queue;
    bool report = settle_never(attempt);

    for (uint32_t i = 0, count; i < attempt->count; i += count) {
        count = run_of(attempt, i);
        if (put_off(&attempt->units[i]))
            defer_run(attempt, i, count);
        else if (attempt->units[i].mark == MARK_DELIVERED)
            finish_run(attempt, i, count);
    }
    for (uint32_t i = 0; i < attempt->item_count; i++) {
        if (report && reported(attempt, i))
            report_defer(attempt->report, attempt->items[i].item, attempt->items[i].next_s);
        else
            item_settle(queue, attempt->items[i].item, attempt->items[i].next_s);
    }
}

void queue_attempt_damaged(struct queue_attempt *attempt, int error)
{
    ASSERT(attempt->loaded && error < 0);
    if (error == -EBADMSG || error == -EIO)
        attempt->load_result = error;
}

/* The envelope is whole and the body is not: whoever has the message has it, nobody else can get it. */
static void settle_damaged(struct queue_attempt *attempt)
{
    struct queue *queue = attempt->queue;
    uint32_t items[ATTEMPT_ITEMS_MAX], count = 0;

    for (uint32_t i = 0, run; i < attempt->count; i += run) {
        run = run_of(attempt, i);
        if (attempt->units[i].mark == MARK_DELIVERED)
            finish_run(attempt, i, run);
    }
    for (uint32_t i = 0; i < attempt->item_count; i++) {
        uint32_t item = attempt->items[i].item;

        if (index_item(&queue->index, item)->open_count > 0)
            items[count++] = item;
        else
            item_settle(queue, item, attempt->items[i].next_s);
    }
    if (count == 0)
        return;
    message_damaged(queue, attempt->entry, items, count, attempt->load_result);
    message_act_pending(queue, attempt->entry);
}

/* Everything that follows from the outcomes, once those that had to be durable are. Frees the attempt. */
static void settle(struct queue_attempt *attempt)
{
    if (attempt->loaded && attempt->load_result < 0)
        settle_damaged(attempt);
    else if (attempt->loaded)
        settle_loaded(attempt);
    else
        settle_unloaded(attempt);
    attempt_free(attempt);
}

static void note_delivered(struct queue_attempt *attempt, uint32_t first, uint32_t count)
{
    const uint8_t good[3] = {2, 0, 0};

    /* Without the note a crash delivers it again; the peer has it, so nothing better is left to do. */
    (void)message_note(attempt->queue, attempt->id, attempt->units[first].unit, count,
                       SPOOL_DELIVERED, good);
}

static void notes_end(struct queue_attempt *attempt)
{
    queue_finished_fn *finished = attempt->on_finished;
    void *context = attempt->finished_context;
    int result = attempt->notes_result;

    for (uint32_t i = 0; i < attempt->count; i++) {
        if (attempt->units[i].mark != MARK_DELIVERED)
            continue;
        if (result < 0)
            set_mark(attempt, &attempt->units[i], MARK_LATER, status_journal,
                     SLICE("the outcome could not be noted"));
        else
            attempt->part->done.delivered++;
    }
    settle(attempt);
    finished(context, result);
}

static void note_durable(struct spool_note *note)
{
    struct queue_attempt *attempt = CONTAINER_OF(note, struct attempt_note, note)->attempt;

    if (note->result < 0)
        attempt->notes_result = note->result;
    if (--attempt->notes_pending == 0)
        notes_end(attempt);
}

static int make_notes(struct queue_attempt *attempt)
{
    uint32_t runs = 0;

    for (uint32_t i = 0; i < attempt->count; i += run_of(attempt, i))
        runs += attempt->units[i].mark == MARK_DELIVERED;
    attempt->notes = &attempt->first_note;
    if (runs > 1) {
        attempt->notes = calloc(runs, sizeof(*attempt->notes));
        if (attempt->notes == NULL)
            return -ENOMEM;
    }
    return 0;
}

/* All DONE notes of the attempt, each of which must be durable. Their `durable` runs in a later tick, never here. */
static void write_notes(struct queue_attempt *attempt)
{
    uint32_t used = 0;

    for (uint32_t i = 0, count; i < attempt->count; i += count) {
        struct attempt_note *note = &attempt->notes[used];
        int r;

        count = run_of(attempt, i);
        if (attempt->units[i].mark != MARK_DELIVERED)
            continue;
        used++;
        note->attempt = attempt;
        note->note = (struct spool_note){.kind = SPOOL_NOTE_DONE,
                                         .id = attempt->id,
                                         .unit_first = attempt->units[i].unit,
                                         .unit_count = count,
                                         .outcome = SPOOL_DELIVERED,
                                         .status = {2, 0, 0},
                                         .durable = note_durable};
        list_node_init(&note->note.node);
        r = spool_note(attempt->part->spool, &note->note);
        if (r < 0)
            attempt->notes_result = r;
        else
            attempt->notes_pending++;
    }
}

static void slot_lets_go(struct queue_attempt *attempt)
{
    if (attempt->slot == NULL)
        return;
    ASSERT(attempt->slot->attempts > 0);
    attempt->slot->attempts--;
    attempt->slot = NULL;
}

static void mark_rest(struct queue_attempt *attempt)
{
    for (uint32_t i = 0; i < attempt->count; i++) {
        if (attempt->units[i].mark == MARK_OPEN)
            set_mark(attempt, &attempt->units[i], MARK_LATER, status_given_up,
                     SLICE("attempt given up"));
    }
}

/* With nothing to wait for, the end comes from the task all the same: never inside the owner's call. */
static void end_later(struct queue_attempt *attempt)
{
    list_remove(&attempt->node);
    list_push_back(&attempt->queue->ended, &attempt->node);
    queue_poke(attempt->queue);
}

void attempts_run(struct queue *queue)
{
    struct list_node *node;

    while ((node = list_pop_front(&queue->ended)) != NULL) {
        list_push_back(&queue->attempts, node);
        notes_end(CONTAINER_OF(node, struct queue_attempt, node));
    }
}

void queue_attempt_finish(struct queue_attempt *attempt, queue_finished_fn *durable, void *context)
{
    slot_lets_go(attempt);
    mark_rest(attempt);
    if (durable == NULL) {
        for (uint32_t i = 0, count; i < attempt->count; i += count) {
            count = run_of(attempt, i);
            if (attempt->units[i].mark == MARK_DELIVERED)
                note_delivered(attempt, i, count);
        }
        settle(attempt);
        return;
    }
    attempt->on_finished = durable;
    attempt->finished_context = context;
    attempt->notes_result = make_notes(attempt);
    if (attempt->notes_result == 0)
        write_notes(attempt);
    if (attempt->notes_pending == 0)
        end_later(attempt);
}
