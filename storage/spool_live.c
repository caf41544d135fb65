#include "storage/spool_private.h"

#include <errno.h>
#include <stdlib.h>

/* Which segments are still needed. Every place that was presented or became durable counts in its segment until it is
 * released; a chunked message counts in the segments of its chunks as well, once for each of them. A sealed segment in
 * which nothing counts is used again, but not before J is durable past the last release of something in it: the DONE
 * that made it dead must not be lost while its record is (QUEUE I11).
 *
 * A chunked message is known by its place, not by its id: while it is relocated it has two places with different
 * chunks. */

#define BUCKETS_FIRST 64u

/* ---- one segment ---------------------------------------------------------------------------- */

static uint64_t chunk_bytes(const struct spool_chunk_entry *entry)
{
    return spool_record_aligned(SPOOL_RECORD_HEADER_BYTES + (uint64_t)entry->body_bytes);
}

static void segment_add(struct spool *spool, uint32_t number, uint32_t count, uint64_t bytes)
{
    struct spool_segment *segment = spool_segment_find(spool, number);

    if (segment == NULL)
        return; /* damage: reading it will say so */
    ASSERT(!list_linked(&segment->dead_node));
    segment->live_count += count;
    segment->live_bytes += bytes;
}

static void segment_drop(struct spool *spool, uint32_t number, uint32_t count, uint64_t bytes)
{
    struct spool_segment *segment = spool_segment_find(spool, number);

    if (segment == NULL)
        return;
    ASSERT(segment->live_count >= count && segment->live_bytes >= bytes);
    segment->live_count -= count;
    segment->live_bytes -= bytes;
    segment->journal_needed = spool->j.groups_begun;
    spool_live_check(segment);
}

bool spool_live_needed(const struct spool_segment *segment)
{
    return !segment->sealed || segment->live_count > 0 || segment->pins > 0 || segment->holds > 0 ||
           segment->earlier || segment->open_op.in_flight || segment->spool->live.lost;
}

void spool_live_check(struct spool_segment *segment)
{
    struct spool *spool = segment->spool;

    if (segment->stream == 'J' || list_linked(&segment->dead_node) ||
        spool->reuse.segment == segment || spool_live_needed(segment))
        return;
    list_push_back(&spool->dead_segments, &segment->dead_node);
    spool_reuse_run(spool);
}

void spool_live_journal(struct spool *spool)
{
    if (!list_empty(&spool->dead_segments))
        spool_reuse_run(spool);
}

void spool_live_hold_chunk(struct spool *spool, const struct spool_chunk_entry *entry)
{
    segment_add(spool, entry->segment, 1, chunk_bytes(entry));
}

void spool_live_drop_chunk(struct spool *spool, const struct spool_chunk_entry *entry)
{
    segment_drop(spool, entry->segment, 1, chunk_bytes(entry));
}

/* ---- the parts of a chunked message --------------------------------------------------------- */

static int message_add_part(struct spool_live_message *message,
                            const struct spool_chunk_entry *entry)
{
    /* Chunks of one upload lie close together: it is nearly always the last part. */
    for (uint32_t i = message->part_count; i > 0; i--) {
        struct spool_live_part *part = &message->parts[i - 1];

        if (part->segment != entry->segment)
            continue;
        part->count++;
        part->bytes += chunk_bytes(entry);
        return 0;
    }
    if (message->part_count == message->part_capacity) {
        uint32_t capacity = MAX(message->part_capacity * 2, 2u);
        struct spool_live_part *grown = realloc(message->parts, capacity * sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        message->parts = grown;
        message->part_capacity = capacity;
    }
    message->parts[message->part_count++] =
        (struct spool_live_part){entry->segment, 1, chunk_bytes(entry)};
    return 0;
}

void spool_live_message_free(struct spool_live_message **message)
{
    if (*message == NULL)
        return;
    free((*message)->parts);
    free(*message);
    *message = NULL;
}

struct spool_live_message *spool_live_message_create(uint64_t id, struct spool_chunk_ref **chunks,
                                                     uint32_t chunk_count)
{
    struct spool_live_message *message = calloc(1, sizeof(*message));
    int r = message == NULL ? -ENOMEM : 0;

    for (uint32_t i = 0; i < chunk_count && r == 0; i++)
        r = message_add_part(message, &chunks[i]->entry);
    if (r < 0) {
        spool_live_message_free(&message);
        return NULL;
    }
    message->id = id;
    message->known = true;
    return message;
}

void spool_live_message_drop(struct spool *spool, struct spool_live_message **message)
{
    struct spool_live_message *m = *message;

    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->part_count; i++)
        segment_drop(spool, m->parts[i].segment, m->parts[i].count, m->parts[i].bytes);
    spool_live_message_free(message);
}

/* ---- found by place ------------------------------------------------------------------------- */

static uint32_t bucket_of(const struct spool_live *live, const struct spool_location *location)
{
    uint64_t key = (uint64_t)location->segment << 32 | location->offset_16;

    key *= 0x9e3779b97f4a7c15ull; /* spreads neighbouring places */
    return (uint32_t)(key >> 32) & (live->bucket_count - 1);
}

static bool same_place(const struct spool_location *a, const struct spool_location *b)
{
    return a->segment == b->segment && a->offset_16 == b->offset_16;
}

static bool live_grow(struct spool_live *live)
{
    uint32_t old_count = live->bucket_count;
    struct spool_live_message **old = live->buckets;
    uint32_t count = MAX(old_count * 2, BUCKETS_FIRST);
    struct spool_live_message **buckets = calloc(count, sizeof(struct spool_live_message *));

    if (buckets == NULL)
        return old_count > 0; /* it only gets slower */
    live->buckets = buckets;
    live->bucket_count = count;
    for (uint32_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct spool_live_message *message = old[i];
            uint32_t bucket = bucket_of(live, &message->location);

            old[i] = message->next;
            message->next = buckets[bucket];
            buckets[bucket] = message;
        }
    }
    free(old);
    return true;
}

/* Where the pointer to it stands, or NULL. */
static struct spool_live_message **live_find(struct spool_live *live,
                                             const struct spool_location *location)
{
    struct spool_live_message **at;

    if (live->count == 0)
        return NULL;
    at = &live->buckets[bucket_of(live, location)];
    while (*at != NULL && !same_place(&(*at)->location, location))
        at = &(*at)->next;
    return *at == NULL ? NULL : at;
}

static bool live_insert(struct spool_live *live, struct spool_live_message *message)
{
    struct spool_live_message **bucket;

    if (live->count >= live->bucket_count && !live_grow(live))
        return false;
    bucket = &live->buckets[bucket_of(live, &message->location)];
    message->next = *bucket;
    *bucket = message;
    live->count++;
    return true;
}

/* What cannot be remembered is needed for ever: in the next life it is known again. */
static void live_lost(struct spool *spool)
{
    if (!spool->live.lost)
        log_event(spool->shard->log, LOG_ERROR, "spool.reuse.stopped",
                  log_cstr("spool", spool->config.path), log_cstr("error", strerror(ENOMEM)));
    spool->live.lost = true;
}

void spool_live_message_place(struct spool *spool, struct spool_live_message **message,
                              const struct spool_location *location)
{
    (*message)->location = *location;
    if (!live_insert(&spool->live, *message)) {
        live_lost(spool);
        spool_live_message_free(message);
    }
    *message = NULL;
}

/* ---- places --------------------------------------------------------------------------------- */

void spool_live_add(struct spool *spool, uint64_t id, const struct spool_location *location,
                    bool chunked)
{
    struct spool_live_message *message;

    segment_add(spool, location->segment, 1, spool_record_aligned(location->record_bytes));
    if (!chunked)
        return;
    message = calloc(1, sizeof(*message));
    if (message == NULL) {
        live_lost(spool);
        return;
    }
    message->id = id;
    spool_live_message_place(spool, &message, location);
}

void spool_live_chunks(struct spool *spool, const struct spool_location *location,
                       const struct spool_chunk_list *list)
{
    struct spool_live_message **at = live_find(&spool->live, location);
    struct spool_live_message *message = at == NULL ? NULL : *at;

    if (message == NULL || message->known)
        return;
    for (uint32_t i = 0; i < list->count; i++) {
        struct spool_chunk_entry entry = spool_chunk_entry_get(list, i);

        if (message_add_part(message, &entry) < 0) {
            live_lost(spool);
            message->part_count = 0;
            return;
        }
    }
    for (uint32_t i = 0; i < message->part_count; i++)
        segment_add(spool, message->parts[i].segment, message->parts[i].count,
                    message->parts[i].bytes);
    message->known = true;
}

bool spool_live_next_unknown(struct spool *spool, uint32_t *cursor, uint64_t *ret_id,
                             struct spool_location *ret_location)
{
    struct spool_live *live = &spool->live;

    for (; *cursor < live->bucket_count; (*cursor)++) {
        for (struct spool_live_message *m = live->buckets[*cursor]; m != NULL; m = m->next) {
            if (m->known)
                continue;
            *ret_id = m->id;
            *ret_location = m->location;
            return true;
        }
    }
    return false;
}

void spool_live_each_in(struct spool *spool, uint32_t segment, spool_live_each_fn *each,
                        void *context)
{
    struct spool_live *live = &spool->live;

    for (uint32_t b = 0; b < live->bucket_count; b++) {
        for (struct spool_live_message *m = live->buckets[b]; m != NULL; m = m->next) {
            for (uint32_t i = 0; i < m->part_count; i++) {
                if (m->parts[i].segment == segment)
                    each(context, m->id, &m->location);
            }
        }
    }
}

void spool_release(struct spool *spool, uint64_t id, const struct spool_location *location)
{
    struct spool_live_message **at = live_find(&spool->live, location);

    if (at != NULL) {
        struct spool_live_message *message = *at;

        ASSERT(message->id == id);
        *at = message->next;
        spool->live.count--;
        spool_live_message_drop(spool, &message);
    }
    segment_drop(spool, location->segment, 1, spool_record_aligned(location->record_bytes));
}

/* ---- the life of it ------------------------------------------------------------------------- */

void spool_live_restored(struct spool *spool)
{
    /* A segment that is dead leaves the table, so the index goes on only past those that stay. */
    for (uint32_t i = 0; i < spool->segment_count;) {
        struct spool_segment *segment = spool->segments[i];

        if (segment->earlier)
            segment->sealed_ns = spool->shard->now_ns; /* its true age nobody knows */
        segment->earlier = false;
        spool_live_check(segment);
        if (i < spool->segment_count && spool->segments[i] == segment)
            i++;
    }
    spool_relocate_start(spool);
    spool_scrub_start(spool);
}

void spool_live_deinit(struct spool *spool)
{
    struct spool_live *live = &spool->live;

    for (uint32_t i = 0; i < live->bucket_count; i++) {
        while (live->buckets[i] != NULL) {
            struct spool_live_message *message = live->buckets[i];

            live->buckets[i] = message->next;
            spool_live_message_free(&message);
        }
    }
    free(live->buckets);
    live->buckets = NULL;
    live->bucket_count = live->count = 0;
}
