#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <errno.h>
#include <stdlib.h>

/* A body over 64 KiB. Its chunks go with the normal groups and nobody waits for them but the
 * COMMIT, which is held back until all of them are durable (QUEUE I6). Dead chunks of an upload
 * that was given up are bytes without a name. */

#define CHUNKS_FIRST 16

int spool_upload_begin(struct spool *spool, uint64_t id, struct spool_upload **ret_upload)
{
    struct spool_upload *upload = calloc(1, sizeof(*upload));

    if (upload == NULL)
        return -ENOMEM;
    upload->spool = spool;
    upload->id = id;
    list_node_init(&upload->soon.node);
    *ret_upload = upload;
    return 0;
}

static int upload_make_room(struct spool_upload *upload)
{
    uint32_t capacity = MAX(upload->chunk_capacity * 2, (uint32_t)CHUNKS_FIRST);
    struct spool_chunk_ref **grown;

    if (upload->chunk_count < upload->chunk_capacity)
        return 0;
    grown = realloc(upload->chunks, capacity * sizeof(struct spool_chunk_ref *));
    if (grown == NULL)
        return -ENOMEM;
    upload->chunks = grown;
    upload->chunk_capacity = capacity;
    return 0;
}

static uint32_t chunk_write(struct spool_upload *upload, uint8_t *to, const struct iovec *pieces,
                            uint32_t piece_count, uint32_t bytes)
{
    struct spool_record record = {
        .type = SPOOL_CHUNK,
        .record_bytes = SPOOL_RECORD_HEADER_BYTES + bytes,
        .id = upload->id,
        .body_bytes = bytes,
        .unit_count = upload->chunk_count,
    };
    uint8_t *at = to + SPOOL_RECORD_HEADER_BYTES;

    for (uint32_t i = 0; i < piece_count; i++) {
        record.body_crc =
            crc32c_copy(record.body_crc, at, slice_of(pieces[i].iov_base, pieces[i].iov_len),
                        &upload->spool->counters.body_copied_bytes);
        at += pieces[i].iov_len;
    }
    spool_record_encode(&record, to);
    return record.body_crc;
}

int spool_upload_chunk(struct spool_upload *upload, const struct iovec *pieces,
                       uint32_t piece_count)
{
    struct spool *spool = upload->spool;
    struct spool_chunk_ref *ref;
    uint64_t bytes = 0;
    uint32_t group_offset;
    uint8_t *to;
    int r = upload->error;

    ASSERT(upload->append == NULL);
    for (uint32_t i = 0; i < piece_count; i++)
        bytes += pieces[i].iov_len;
    ASSERT(bytes > 0 && bytes <= SPOOL_CHUNK_BYTES_MAX);
    if (r == 0)
        r = spool_admit(spool, SPOOL_RECORD_HEADER_BYTES + bytes, false);
    if (r == 0)
        r = upload_make_room(upload);
    if (r < 0)
        return r;
    ref = calloc(1, sizeof(*ref));
    to = ref == NULL ? NULL
                     : spool_log_reserve(&spool->d, SPOOL_RECORD_HEADER_BYTES + (uint32_t)bytes,
                                         &group_offset);
    if (to == NULL) {
        free(ref);
        return -ENOMEM;
    }
    ref->upload = upload;
    ref->entry.offset_16 = group_offset / SPOOL_RECORD_ALIGN;
    ref->entry.body_bytes = (uint32_t)bytes;
    ref->entry.body_crc = chunk_write(upload, to, pieces, piece_count, (uint32_t)bytes);
    list_node_init(&ref->node);
    list_push_back(&spool->d.open->chunks, &ref->node);
    spool->d.open->synced = true; /* a COMMIT must never be there without them */
    upload->chunks[upload->chunk_count++] = ref;
    upload->chunks_waiting++;
    upload->body_crc = spool_crc_join(upload->body_crc, ref->entry.body_crc, bytes);
    upload->body_bytes += bytes;
    spool->counters.body_bytes += bytes;
    spool_log_flush(&spool->d);
    return 0;
}

uint64_t spool_upload_bytes(const struct spool_upload *upload)
{
    return upload->body_bytes;
}

void spool_upload_free(struct spool_upload *upload)
{
    ASSERT(upload->append == NULL);
    shard_undefer(&upload->soon);
    for (uint32_t i = 0; i < upload->chunk_count; i++) {
        if (upload->chunks[i]->durable && !upload->handed_over)
            spool_live_drop_chunk(upload->spool, &upload->chunks[i]->entry);
        list_remove(&upload->chunks[i]->node); /* of a group that is not durable yet */
        free(upload->chunks[i]);
    }
    free(upload->chunks);
    free(upload->front);
    free(upload);
}

void spool_upload_abort(struct spool_upload **upload)
{
    if (*upload == NULL)
        return;
    spool_upload_free(*upload);
    *upload = NULL;
}

/* `done` never comes before spool_append() has returned. */
static void upload_commit_task(struct shard_task *task)
{
    struct spool_upload *upload = CONTAINER_OF(task, struct spool_upload, soon);

    spool_append_commit(upload->spool, upload);
}

void spool_append_commit_soon(struct spool *spool, struct spool_upload *upload)
{
    shard_task_init(&upload->soon, upload_commit_task);
    shard_defer(spool->shard, &upload->soon);
}

void spool_upload_chunk_done(struct spool_chunk_ref *ref, const struct spool_group *group,
                             int result)
{
    struct spool_upload *upload = ref->upload;

    upload->chunks_waiting--;
    if (result == 0) {
        ref->entry.segment = group->segment->number;
        ref->entry.offset_16 += (uint32_t)(group->offset / SPOOL_RECORD_ALIGN);
        ref->durable = true;
        spool_live_hold_chunk(upload->spool, &ref->entry);
    } else {
        upload->error = result;
    }
    if (upload->append != NULL && upload->chunks_waiting == 0)
        spool_append_commit_soon(upload->spool, upload);
}
