#include "queue/queue_private.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

/* What failed for good or has expired is told to its sender before it is forgotten: the units stay open, and their
 * items TRYING, until the report is durable (QUEUE I8). Then DONE is noted. A crash in between finds the report, which
 * names the units it is about (restored.c), so there is never a second one. When no report could be made the units
 * fail again later. A report, and mail from <>, is never reported upon (RFC 5321 6.1). */

#define REPORT_PAUSE_MS (10 * SECOND_MS)

static const uint8_t status_expired[3] = {5, 4, 7}; /* RFC 3463 3.5: delivery time expired */

bool report_is_due(const struct queue *queue, uint32_t entry, struct slice sender)
{
    return sender.size > 0 && !(index_entry(&queue->index, entry)->flags & ENTRY_REPORT);
}

static void report_free(struct queue_report *report)
{
    struct queue *queue = report->queue;

    for (uint32_t i = 0; i < report->info.unit_count; i++)
        reason_unref(&queue->reasons, report->rows[i].reason);
    spool_reader_close(&report->reader);
    list_remove(&report->node);
    free(report->items);
    free(report->deferred_s);
    free(report->rows);
    free(report->units);
    free(report);
    queue->report_count--;
    queue_poke(queue); /* for the next one that fails, and for a stop */
}

static struct queue_report *report_alloc(struct queue *queue, uint32_t entry, uint32_t item_count,
                                         uint32_t unit_count)
{
    struct queue_report *report = calloc(1, sizeof(*report));

    if (report == NULL)
        return NULL;
    report->queue = queue;
    report->entry = entry;
    report->id = index_entry(&queue->index, entry)->id;
    report->part = part_of(queue, report->id);
    report->items = calloc(item_count, sizeof(*report->items));
    report->deferred_s = calloc(item_count, sizeof(*report->deferred_s));
    report->rows = calloc(unit_count, sizeof(*report->rows));
    report->units = calloc(unit_count, sizeof(*report->units));
    list_push_back(&queue->reports, &report->node);
    queue->report_count++;
    if (report->items == NULL || report->deferred_s == NULL || report->rows == NULL ||
        report->units == NULL) {
        report_free(report);
        return NULL;
    }
    report->info.id = report->id;
    report->info.arrival_s = index_entry(&queue->index, entry)->arrival_s;
    report->info.units = report->units;
    return report;
}

void reports_deinit(struct queue *queue)
{
    while (!list_empty(&queue->reports))
        report_free(CONTAINER_OF(queue->reports.next, struct queue_report, node));
}

/* Takes the reference to `reason`. */
static void add_row(struct queue_report *report, uint32_t unit, uint32_t item, struct slice address,
                    uint32_t reason)
{
    struct queue *queue = report->queue;
    struct queue_report_unit *row = &report->units[report->info.unit_count];

    report->rows[report->info.unit_count++] = (struct report_row){.reason = reason, .item = item};
    row->unit = unit;
    row->address = address;
    row->text = reason_text(&queue->reasons, reason);
    memcpy(row->status,
           report->info.expired || reason == REASON_NONE ? status_expired
                                                         : reason_status(&queue->reasons, reason),
           sizeof(row->status));
    if (row->text.size == 0 && report->info.expired)
        row->text = SLICE("delivery time expired");
}

/* ---- from an attempt ----------------------------------------------------------------------------- */

static bool has_never(const struct queue_attempt *attempt, uint32_t item)
{
    for (uint32_t i = 0; i < attempt->count; i++) {
        if (attempt->units[i].item == item && attempt->units[i].mark == MARK_NEVER)
            return true;
    }
    return false;
}

bool report_from_attempt(struct queue_attempt *attempt)
{
    struct queue *queue = attempt->queue;
    struct queue_report *report = NULL;

    if (queue->report_count < QUEUE_REPORTS_MAX && !queue->stopping)
        report = report_alloc(queue, attempt->entry, attempt->item_count, attempt->count);
    if (report == NULL)
        return false;
    report->outcome = SPOOL_BOUNCED;
    report->reader = attempt->reader;
    attempt->reader = NULL;
    spool_reader_rewind(report->reader); /* the session has read some of it */
    report->info.reader = report->reader;
    report->info.sender = attempt->sender;
    for (uint32_t i = 0; i < attempt->item_count; i++) {
        if (has_never(attempt, i))
            report->items[report->item_count++] = attempt->items[i].item;
    }
    for (uint32_t i = 0; i < attempt->count; i++) {
        const struct attempt_unit *unit = &attempt->units[i];

        if (unit->mark != MARK_NEVER)
            continue;
        reason_ref(&queue->reasons, unit->reason);
        add_row(report, unit->unit, attempt->items[unit->item].item, attempt->recipients[i],
                unit->reason);
    }
    report->opened = true;
    report->from_attempt = true;
    attempt->report = report;
    queue_poke(queue);
    return true;
}

void report_defer(struct queue_report *report, uint32_t item, uint32_t next_s)
{
    for (uint32_t i = 0; i < report->item_count; i++) {
        if (report->items[i] == item)
            report->deferred_s[i] = next_s;
    }
}

/* ---- from an item that fails or has expired --------------------------------------------------------- */

/* The end: its items are done, or go back into the schedule, where what was put off waits longer. */
static void settle(struct queue_report *report, uint32_t next_wall_s)
{
    struct queue *queue = report->queue;

    for (uint32_t i = 0; i < report->item_count; i++)
        item_settle(queue, report->items[i], MAX(next_wall_s, report->deferred_s[i]));
    report_free(report);
}

/* No report could be made: most likely there is no room, so others would fare no better just now. What a session was
 * told is asked again at its time; an item that failed as a whole fails again after the pause. */
static void settle_later(struct queue_report *report)
{
    struct queue *queue = report->queue;
    uint32_t entry = report->entry, item = report->items[0];
    enum item_state again = report->info.expired ? ITEM_EXPIRING : ITEM_FAILING;
    uint8_t flags = index_entry(&queue->index, entry)->flags;

    if (!timer_armed(&queue->report_timer))
        shard_timer_arm(queue->shard, &queue->report_timer, REPORT_PAUSE_MS);
    if (report->from_attempt || flags & (ENTRY_HOLD | ENTRY_WANTS)) {
        settle(report,
               (uint32_t)(queue_wall_s(queue) + 1 + queue->config.retry_first_ms / SECOND_MS));
        return;
    }
    report_free(report);
    item_enter(queue, item, again);
}

void report_pause_over(struct timer *timer)
{
    queue_poke(CONTAINER_OF(timer, struct queue, report_timer));
}

/* Done(bounced) or done(expired): a report is durable, or none is due. */
static void finish(struct queue_report *report)
{
    struct queue *queue = report->queue;
    const struct queue_report_info *info = &report->info;

    for (uint32_t i = 0, count; i < info->unit_count; i += count) {
        for (count = 1; i + count < info->unit_count; count++) {
            if (info->units[i + count].unit != info->units[i].unit + count ||
                memcmp(info->units[i + count].status, info->units[i].status, 3) != 0)
                break;
        }
        (void)message_note(queue, report->id, info->units[i].unit, count, report->outcome,
                           info->units[i].status);
    }
    for (uint32_t i = 0; i < info->unit_count; i++)
        unit_finish(queue, report->rows[i].item, info->units[i].unit);
    settle(report, 0);
}

static void finish_silently(struct queue_report *report)
{
    const struct queue_report_info *info = &report->info;
    char id[SPOOL_ID_TEXT_SIZE];

    spool_id_format(report->id, id);
    log_event(report->queue->shard->log, LOG_NOTICE,
              info->expired ? "queue.expired" : "queue.bounced", log_cstr("id", id),
              log_u64("units", info->unit_count), log_bool("report", false),
              log_text("reason", info->unit_count > 0 ? info->units[0].text : SLICE_NONE));
    finish(report);
}

static int add_mapped(void *context, uint32_t unit, uint32_t item, struct slice address)
{
    struct queue_report *report = context;
    struct queue *queue = report->queue;
    uint32_t reason = index_item(&queue->index, report->items[item])->reason;

    if (report->info.unit_count >= report->capacity)
        return -EBADMSG;
    reason_ref(&queue->reasons, reason);
    add_row(report, unit, report->items[item], address, reason);
    return 0;
}

static int read_envelope(struct queue_report *report)
{
    struct queue *queue = report->queue;
    const struct spool_reader_info *info = spool_reader_info(report->reader);
    struct attempt_item item = {.item = report->items[0]};
    struct attempt_map map = {queue, report->entry, &item, 1};
    struct envelope envelope;
    int r = envelope_parse(info->envelope, &envelope);

    if (r == 0 &&
        (info->id != report->id ||
         envelope.recipient_count != index_entry(&queue->index, report->entry)->unit_count))
        r = -EBADMSG;
    if (r < 0)
        return r;
    report->info.sender = envelope.sender;
    report->info.reader = report->reader;
    return attempt_map(&map, &envelope, add_mapped, report);
}

static void open_end(struct queue_report *report, int result)
{
    struct queue *queue = report->queue;

    if (result == 0)
        result = read_envelope(report);
    if (result == -EBADMSG || result == -EIO) {
        uint32_t entry = report->entry;

        message_damaged(queue, entry, report->items, report->item_count, result);
        report_free(report);
        message_act_pending(queue, entry);
    } else if (result < 0) {
        settle_later(report);
    } else if (!report_is_due(queue, report->entry, report->info.sender)) {
        finish_silently(report);
    } else {
        report->opened = true;
        queue_poke(queue);
    }
}

/* May run inside spool_reader_open(), before the reader is ours: then the caller goes on. */
static void reader_opened(void *context, int result)
{
    struct queue_report *report = context;

    if (report->opening) {
        report->answered = true;
        report->open_result = result;
        return;
    }
    open_end(report, result);
}

static bool begin(struct queue *queue, uint32_t item)
{
    const struct index_item *it = index_item(&queue->index, item);
    uint32_t number = index_entry_of(&queue->index, item);
    const struct index_entry *entry = index_entry(&queue->index, number);
    struct spool_location location = entry_location(entry);
    struct queue_report *report = report_alloc(queue, number, 1, it->open_count);
    int r;

    if (report == NULL)
        return false;
    report->capacity = it->open_count;
    report->info.expired = it->state == ITEM_EXPIRING;
    report->outcome = report->info.expired ? SPOOL_EXPIRED : SPOOL_BOUNCED;
    report->items[report->item_count++] = item;
    item_enter(queue, item, ITEM_TRYING);
    report->opening = true;
    r = spool_reader_open(report->part->spool, &location, reader_opened, report, &report->reader);
    report->opening = false;
    if (r < 0)
        open_end(report, r);
    else if (report->answered)
        open_end(report, report->open_result);
    return true;
}

/* ---- in the task ------------------------------------------------------------------------------- */

static struct queue_report *next_to_call(struct queue *queue)
{
    list_for_each (node, &queue->reports) {
        struct queue_report *report = CONTAINER_OF(node, struct queue_report, node);

        if (report->opened && !report->called)
            return report;
    }
    return NULL;
}

void reports_run(struct queue *queue)
{
    struct queue_report *report;

    for (uint32_t i = 0; i < QUEUE_BATCH && queue->failing.count > 0; i++) {
        if (queue->stopping || queue->clock_doubted || queue->report_count >= QUEUE_REPORTS_MAX ||
            timer_armed(&queue->report_timer))
            break;
        if (!parts_journal_ok(queue) || !begin(queue, queue->failing.first)) {
            queue_again(queue);
            break;
        }
    }
    while ((report = next_to_call(queue)) != NULL) {
        report->called = true;
        if (queue->stopping)
            settle_later(report);
        else
            queue->ops.report(queue->context, report);
    }
}

const struct queue_report_info *queue_report_info(const struct queue_report *report)
{
    return &report->info;
}

void queue_report_done(struct queue_report *report, int result)
{
    ASSERT(report->called);
    if (result < 0)
        settle_later(report);
    else
        finish(report);
}
