#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <errno.h>
#include <stdlib.h>

#define LOW_WATER_DIVISOR 8

int spool_ready(const struct spool *spool)
{
    int r = spool_log_error(&spool->d);

    if (spool->stopping)
        return -ESHUTDOWN;
    if (r < 0)
        return r;
    if (spool_journal_ok(spool))
        return 0;
    /* A message whose fate cannot be written would be delivered twice. */
    r = spool_log_error(&spool->j);
    return r < 0 ? r : -EIO;
}

/* Before accepting ends for want of spares it slows down: peers wait for smaller groups. */
static uint64_t gather_limit(const struct spool *spool)
{
    return spool->d.maker.error == 0 ? spool->config.gather_bytes_max
                                     : spool->config.gather_bytes_max / LOW_WATER_DIVISOR;
}

int spool_admit(struct spool *spool, uint64_t record_bytes, bool urgent)
{
    struct spool_log *log = &spool->d;
    int r = spool_ready(spool);

    if (r == -ENOSPC && urgent && spool_journal_ok(spool) && log->maker.spare_count > 0)
        r = 0; /* it is what the last spare is for */
    if (r < 0)
        return r;
    if (log->pending_bytes != 0 && log->pending_bytes + record_bytes > gather_limit(spool))
        return -EAGAIN;
    return 0;
}

/* ---- the sections of a record --------------------------------------------------------------- */

static uint64_t pieces_bytes(const struct iovec *pieces, uint32_t count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++)
        bytes += pieces[i].iov_len;
    return bytes;
}

static uint32_t pieces_copy(uint8_t *to, const struct iovec *pieces, uint32_t count,
                            uint64_t *copied)
{
    uint32_t crc = 0;

    for (uint32_t i = 0; i < count; i++) {
        crc = crc32c_copy(crc, to, slice_of(pieces[i].iov_base, pieces[i].iov_len), copied);
        to += pieces[i].iov_len;
    }
    return crc;
}

/* Envelope, head and skip table; returns their checksum. Not the body: these copies are not
 * counted. */
static uint32_t front_write(uint8_t *to, const struct spool_append *append)
{
    uint64_t ignored = 0;
    uint32_t crc = crc32c_copy(0, to, append->envelope, &ignored);
    uint8_t *skips;

    to += append->envelope.size;
    crc = crc32c_copy(crc, to, append->head, &ignored);
    skips = to + append->head.size;
    for (uint32_t i = 0; i < append->skip_count; i++)
        spool_skip_put(skips, i, append->skips[i]);
    return crc32c(crc, slice_of(skips, (size_t)append->skip_count * SPOOL_SKIP_BYTES));
}

static uint64_t front_bytes(const struct spool_append *append)
{
    return append->envelope.size + append->head.size +
           (uint64_t)append->skip_count * SPOOL_SKIP_BYTES;
}

/* 0, or -E2BIG. `stored_bytes` is the body as kept, of which the skips are part. */
static int front_check(struct spool_append *append, uint64_t stored_bytes)
{
    uint64_t end = 0, skipped = 0;

    if (append->envelope.size > SPOOL_ENVELOPE_MAX || append->skip_count > SPOOL_SKIPS_MAX ||
        append->unit_count > SPOOL_UNITS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; i < append->skip_count; i++) {
        ASSERT(append->skips[i].offset >= end);
        end = (uint64_t)append->skips[i].offset + append->skips[i].bytes;
        skipped += append->skips[i].bytes;
    }
    ASSERT(end <= stored_bytes);
    append->body_bytes = stored_bytes - skipped;
    return 0;
}

static struct spool_record record_of(const struct spool_append *append, uint8_t type,
                                     uint32_t body_bytes)
{
    return (struct spool_record){
        .type = type,
        .flags = append->flags,
        .skip_count = (uint16_t)append->skip_count,
        .record_bytes = (uint32_t)(SPOOL_RECORD_HEADER_BYTES + front_bytes(append) + body_bytes),
        .id = append->id,
        .envelope_bytes = (uint32_t)append->envelope.size,
        .head_bytes = (uint32_t)append->head.size,
        .body_bytes = body_bytes,
        .unit_count = append->unit_count,
        .arrival_s = append->arrival_s,
    };
}

/* ---- MSG ------------------------------------------------------------------------------------ */

/* The record is in the open group: `done` follows with the group. Until then the location is in
 * it. */
static void append_gather(struct spool *spool, struct spool_append *append, uint32_t group_offset,
                          uint32_t record_bytes)
{
    struct spool_log *log = &spool->d;

    append->location = (struct spool_location){
        .offset_16 = group_offset / SPOOL_RECORD_ALIGN,
        .record_bytes = record_bytes,
    };
    list_node_init(&append->node);
    list_push_back(&log->open->appends, &append->node);
    log->open->urgent = log->open->urgent || (append->flags & SPOOL_REPORT);
    log->open->synced = log->open->synced || append->durability != SPOOL_CACHED;
    spool_log_flush(log);
}

static int append_message(struct spool *spool, struct spool_append *append)
{
    uint64_t body_bytes = pieces_bytes(append->body, append->body_pieces);
    struct spool_record record;
    uint32_t group_offset;
    uint8_t *to;
    int r;

    if (body_bytes > SPOOL_INLINE_BODY_MAX ||
        front_bytes(append) + body_bytes + SPOOL_RECORD_HEADER_BYTES + SPOOL_RECORD_ALIGN >
            SPOOL_RECORD_BYTES_MAX)
        return -E2BIG;
    r = front_check(append, body_bytes);
    record = record_of(append, SPOOL_MSG, (uint32_t)body_bytes);
    if (r == 0)
        r = spool_admit(spool, record.record_bytes, (append->flags & SPOOL_REPORT) != 0);
    if (r < 0)
        return r;
    to = spool_log_reserve(&spool->d, record.record_bytes, &group_offset);
    if (to == NULL)
        return -ENOMEM;
    record.front_crc = front_write(to + SPOOL_RECORD_HEADER_BYTES, append);
    record.body_crc = pieces_copy(to + (record.record_bytes - body_bytes), append->body,
                                  append->body_pieces, &spool->counters.body_copied_bytes);
    spool_record_encode(&record, to);
    spool->counters.body_bytes += body_bytes;
    append_gather(spool, append, group_offset, record.record_bytes);
    return 0;
}

/* ---- COMMIT --------------------------------------------------------------------------------- */

/* All chunks are durable. The limits were asked when the append began; this record no longer
 * waits. */
static int commit_write(struct spool *spool, struct spool_upload *upload)
{
    struct spool_record *record = &upload->record;
    uint32_t front = record->record_bytes - SPOOL_RECORD_HEADER_BYTES - record->body_bytes;
    uint64_t ignored = 0;
    uint32_t group_offset;
    uint8_t *list;
    uint8_t *to = spool_log_reserve(&spool->d, record->record_bytes, &group_offset);

    if (to == NULL)
        return -ENOMEM;
    record->front_crc =
        crc32c_copy(0, to + SPOOL_RECORD_HEADER_BYTES, slice_of(upload->front, front), &ignored);
    list = to + SPOOL_RECORD_HEADER_BYTES + front;
    spool_chunk_list_encode(list, upload->body_bytes, upload->body_crc, upload->chunk_count);
    for (uint32_t i = 0; i < upload->chunk_count; i++)
        spool_chunk_entry_encode(list + SPOOL_CHUNK_LIST_BYTES +
                                     (size_t)i * SPOOL_CHUNK_ENTRY_BYTES,
                                 &upload->chunks[i]->entry);
    record->body_crc = crc32c(0, slice_of(list, record->body_bytes));
    spool_record_encode(record, to);
    append_gather(spool, upload->append, group_offset, record->record_bytes);
    return 0;
}

void spool_append_commit(struct spool *spool, struct spool_upload *upload)
{
    struct spool_append *append = upload->append;
    int r = upload->error;

    ASSERT(upload->chunks_waiting == 0 && append != NULL);
    if (r == 0)
        r = spool_log_error(&spool->d);
    if (r == 0) {
        append->chunks = spool_live_message_create(upload->id, upload->chunks, upload->chunk_count);
        r = append->chunks == NULL ? -ENOMEM : commit_write(spool, upload);
    }
    if (r == 0)
        upload->handed_over = true;
    else
        spool_live_message_free(&append->chunks);
    spool->uploads_committing--;
    upload->append = NULL;
    spool_upload_free(upload);
    if (r == 0)
        return;
    append->result = r;
    spool->counters.append_failures++;
    append->done(append); /* without COMMIT there is no message, so there is nothing to abort */
}

/* Takes the upload; what it needs of the append's slices is copied. */
static int append_upload(struct spool *spool, struct spool_append *append)
{
    struct spool_upload *upload = append->upload;
    uint64_t list_bytes =
        SPOOL_CHUNK_LIST_BYTES + (uint64_t)upload->chunk_count * SPOOL_CHUNK_ENTRY_BYTES;
    int r = upload->error;

    ASSERT(upload->id == append->id && upload->append == NULL);
    if (r == 0 &&
        front_bytes(append) + list_bytes + SPOOL_RECORD_HEADER_BYTES + SPOOL_RECORD_ALIGN >
            SPOOL_RECORD_BYTES_MAX)
        r = -E2BIG;
    if (r == 0)
        r = front_check(append, upload->body_bytes);
    if (r == 0)
        r = spool_admit(spool, 0, (append->flags & SPOOL_REPORT) != 0);
    if (r < 0)
        return r;
    upload->front = malloc(front_bytes(append) + 1);
    if (upload->front == NULL)
        return -ENOMEM;
    (void)front_write(upload->front, append);
    upload->record = record_of(append, SPOOL_COMMIT, (uint32_t)list_bytes);
    upload->append = append;
    append->upload = NULL;
    spool->uploads_committing++;
    if (upload->chunks_waiting == 0)
        spool_append_commit_soon(spool, upload);
    return 0;
}

int spool_append(struct spool *spool, struct spool_append *append)
{
    ASSERT(append->unit_count > 0 && append->done != NULL);
    append->result = 0;
    append->chunks = NULL;
    return append->upload != NULL ? append_upload(spool, append) : append_message(spool, append);
}

/* ---- done ----------------------------------------------------------------------------------- */

static void append_done(struct spool *spool, const struct spool_group *group,
                        struct spool_append *append, int result)
{
    if (result == 0) {
        append->location.segment = group->segment->number;
        append->location.offset_16 += (uint32_t)(group->offset / SPOOL_RECORD_ALIGN);
        spool->counters.appended++;
        spool_live_add(spool, append->id, &append->location, false);
        if (append->chunks != NULL)
            spool_live_message_place(spool, &append->chunks, &append->location);
    } else {
        struct spool_note abort = {.kind = SPOOL_NOTE_ABORT, .id = append->id};

        spool->counters.append_failures++;
        /* Its bytes may be on disk all the same (QUEUE I26). When J does not take it either, a
         * second copy is the worst that follows. */
        (void)spool_note(spool, &abort);
        spool_live_message_drop(spool, &append->chunks);
    }
    append->result = result;
    append->done(append);
}

void spool_append_group_done(struct spool *spool, struct spool_group *group, int result)
{
    struct list_node *node;

    while ((node = list_pop_front(&group->chunks)) != NULL)
        spool_upload_chunk_done(CONTAINER_OF(node, struct spool_chunk_ref, node), group, result);
    while ((node = list_pop_front(&group->appends)) != NULL)
        append_done(spool, group, CONTAINER_OF(node, struct spool_append, node), result);
}

/* ---- room ----------------------------------------------------------------------------------- */

void spool_await_room(struct spool *spool, struct spool_waiter *waiter)
{
    list_push_back(&spool->room_waiters, &waiter->node);
}

void spool_cancel_wait(struct spool_waiter *waiter)
{
    list_remove(&waiter->node);
}

void spool_room_check(struct spool *spool)
{
    struct list_node waiting;
    struct list_node *node;

    list_init(&waiting);
    list_splice_back(&waiting, &spool->room_waiters);
    while (spool->d.pending_bytes < gather_limit(spool) || spool->d.pending_bytes == 0 ||
           spool_log_error(&spool->d) < 0) {
        node = list_pop_front(&waiting);
        if (node == NULL)
            break;
        CONTAINER_OF(node, struct spool_waiter, node)
            ->ready(CONTAINER_OF(node, struct spool_waiter, node));
    }
    /* Who still waits stays in front of who came meanwhile. */
    list_splice_back(&waiting, &spool->room_waiters);
    list_splice_back(&spool->room_waiters, &waiting);
}
