#include "storage/spool_private.h"

#include <errno.h>

/* What became of a message. Notes gather and are written lazily, since losing the last of them
 * costs a second delivery and never a message; one that somebody waits for takes the others with
 * it at the end of its tick. */

#define JOURNAL_GATHER_BYTES (64u * 1024u)
#define JOURNAL_BROKEN_MAX                                                                         \
    MIB /* gathered while J cannot be written: results of attempts that were under way */

bool spool_journal_ok(const struct spool *spool)
{
    return !spool->journal_failed;
}

static struct spool_journal_record journal_record(const struct spool_note *note)
{
    static const uint8_t types[] = {
        [SPOOL_NOTE_DONE] = SPOOL_J_DONE,   [SPOOL_NOTE_DEFER] = SPOOL_J_DEFER,
        [SPOOL_NOTE_HOLD] = SPOOL_J_HOLD,   [SPOOL_NOTE_RELEASE] = SPOOL_J_RELEASE,
        [SPOOL_NOTE_ABORT] = SPOOL_J_ABORT,
    };
    struct spool_journal_record record = {.id = note->id};

    ASSERT((size_t)note->kind < ARRAY_SIZE(types));
    record.type = types[note->kind];
    if (note->kind == SPOOL_NOTE_DONE || note->kind == SPOOL_NOTE_DEFER) {
        ASSERT(note->unit_count > 0);
        record.unit_first = note->unit_first;
        record.unit_count = note->unit_count;
        memcpy(record.status, note->status, sizeof(record.status));
    }
    if (note->kind == SPOOL_NOTE_DONE)
        record.outcome = note->outcome;
    if (note->kind == SPOOL_NOTE_DEFER) {
        record.outcome = note->in_doubt ? 1 : 0;
        record.attempts = note->attempts;
        record.next_s = note->next_s;
        record.text_bytes = (uint16_t)MIN(note->text.size, (size_t)SPOOL_JOURNAL_TEXT_MAX);
    }
    return record;
}

int spool_note(struct spool *spool, struct spool_note *note)
{
    struct spool_journal_record record = journal_record(note);
    struct spool_log *log = &spool->j;
    uint32_t group_offset;
    uint8_t *to;

    ASSERT(!spool->stopped);
    if (spool->journal_failed && log->pending_bytes > JOURNAL_BROKEN_MAX)
        return -EIO;
    to = spool_log_reserve(log, SPOOL_JOURNAL_HEADER_BYTES + record.text_bytes, &group_offset);
    if (to == NULL)
        return -ENOMEM;
    spool_journal_encode(&record, to);
    if (record.text_bytes > 0)
        memcpy(to + SPOOL_JOURNAL_HEADER_BYTES, note->text.data, record.text_bytes);
    if (note->durable != NULL) {
        list_node_init(&note->node);
        list_push_back(&log->open->notes, &note->node);
    }
    if (note->durable != NULL || spool->stopping || log->open->used_bytes >= JOURNAL_GATHER_BYTES)
        spool_log_flush(log);
    else if (!timer_armed(&spool->journal_timer))
        shard_timer_arm(spool->shard, &spool->journal_timer, spool->config.journal_flush_ms);
    return 0;
}

void spool_journal_timer_fire(struct timer *timer)
{
    struct spool *spool = CONTAINER_OF(timer, struct spool, journal_timer);

    spool_log_flush(&spool->j);
}

void spool_journal_group_done(struct spool *spool, struct spool_group *group, int result)
{
    struct list_node *node;

    (void)spool;
    while ((node = list_pop_front(&group->notes)) != NULL) {
        struct spool_note *note = CONTAINER_OF(node, struct spool_note, node);

        note->result = result;
        note->durable(note);
    }
}
