#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <errno.h>
#include <stdlib.h>

/* A big message lies in several segments. When one of them is emptied, its chunks there are copied like messages, and
 * when all these copies are durable a RELOC with a new list takes the place of the COMMIT (QUEUE I6: never before them);
 * chunks elsewhere stay where they are.
 *
 * load: the COMMIT of each such message is read -> its chunks are copied as the windows come by -> finish: the RELOC */

/* ---- which messages ------------------------------------------------------------------------- */

static void moving_free(struct spool *spool, struct spool_moving *moving)
{
    for (uint32_t i = 0; moving->moved != NULL && i < moving->list.count; i++) {
        struct spool_chunk_entry entry;

        if (!moving->moved[i])
            continue;
        /* The RELOC holds it now, or nobody does. */
        entry = spool_chunk_entry_get(&moving->list, i);
        spool_live_drop_chunk(spool, &entry);
    }
    list_remove(&moving->node);
    free(moving->moved);
    free(moving->buffer);
    free(moving);
}

void spool_moving_drop(struct spool *spool)
{
    list_for_each_safe (node, &spool->relocate.moving)
        moving_free(spool, CONTAINER_OF(node, struct spool_moving, node));
    list_for_each_safe (node, &spool->relocate.loading)
        moving_free(spool, CONTAINER_OF(node, struct spool_moving, node));
}

static void moving_add(void *context, uint64_t id, const struct spool_location *location)
{
    struct spool *spool = context;
    struct spool_moving *moving = calloc(1, sizeof(*moving));

    if (moving == NULL)
        return; /* it stays, and its segment with it */
    moving->id = id;
    moving->from = *location;
    list_node_init(&moving->node);
    list_push_back(&spool->relocate.loading, &moving->node);
}

void spool_moving_collect(struct spool *spool, const struct spool_segment *segment)
{
    spool_live_each_in(spool, segment->number, moving_add, spool);
}

/* ---- load ----------------------------------------------------------------------------------- */

static bool moving_verify(struct spool_moving *moving, uint32_t seed)
{
    uint64_t offset = (uint64_t)moving->from.offset_16 * SPOOL_RECORD_ALIGN;

    moving->bytes = moving->buffer + offset % SPOOL_BLOCK_BYTES;
    if (!spool_record_decode(moving->bytes, moving->from.record_bytes, seed, offset,
                             &moving->record) ||
        moving->record.id != moving->id || !spool_record_front_ok(&moving->record, moving->bytes) ||
        !spool_record_body_ok(&moving->record, moving->bytes))
        return false;
    spool_record_sections(&moving->record, moving->bytes, &moving->sections);
    if (!spool_chunk_list_decode(moving->sections.body, &moving->list))
        return false;
    moving->moved = calloc(moving->list.count + 1, sizeof(bool));
    return moving->moved != NULL;
}

bool spool_moving_load(struct spool *spool, struct spool_moving **ret_moving)
{
    list_for_each_safe (node, &spool->relocate.loading) {
        struct spool_moving *moving = CONTAINER_OF(node, struct spool_moving, node);
        uint64_t offset = (uint64_t)moving->from.offset_16 * SPOOL_RECORD_ALIGN;

        moving->buffer_bytes = ROUND_UP(offset % SPOOL_BLOCK_BYTES + moving->from.record_bytes,
                                        (uint64_t)SPOOL_BLOCK_BYTES);
        moving->segment = spool_segment_find(spool, moving->from.segment);
        moving->buffer =
            moving->segment == NULL || moving->from.record_bytes > SPOOL_RECORD_BYTES_MAX
                ? NULL
                : aligned_alloc(SPOOL_BLOCK_BYTES, moving->buffer_bytes);
        if (moving->buffer != NULL) {
            *ret_moving = moving;
            return true;
        }
        moving_free(spool, moving);
    }
    return false;
}

void spool_moving_read(struct spool *spool, struct spool_moving *moving)
{
    uint64_t offset = (uint64_t)moving->from.offset_16 * SPOOL_RECORD_ALIGN;

    ring_read(spool->shard->ring, &spool->relocate.op, moving->segment->fd, moving->buffer,
              moving->buffer_bytes, offset / SPOOL_BLOCK_BYTES * SPOOL_BLOCK_BYTES);
}

void spool_moving_loaded(struct spool *spool, struct spool_moving *moving, int32_t result)
{
    uint64_t needed = (uint64_t)moving->from.offset_16 * SPOOL_RECORD_ALIGN % SPOOL_BLOCK_BYTES +
                      moving->from.record_bytes;

    if (result < 0 || (uint64_t)result < needed || !moving_verify(moving, moving->segment->seed)) {
        moving_free(spool, moving); /* damaged: it stays */
        return;
    }
    list_remove(&moving->node);
    list_push_back(&spool->relocate.moving, &moving->node);
}

/* ---- chunks --------------------------------------------------------------------------------- */

bool spool_moving_is(struct spool *spool, uint64_t id, const struct spool_location *location)
{
    list_for_each (node, &spool->relocate.moving) {
        const struct spool_moving *moving = CONTAINER_OF(node, struct spool_moving, node);

        if (moving->id == id && moving->from.segment == location->segment &&
            moving->from.offset_16 == location->offset_16)
            return true;
    }
    return false;
}

static struct spool_moving *moving_find(struct spool *spool, uint64_t id, uint32_t segment,
                                        uint32_t offset_16, uint32_t *ret_entry)
{
    list_for_each (node, &spool->relocate.moving) {
        struct spool_moving *moving = CONTAINER_OF(node, struct spool_moving, node);

        for (uint32_t i = 0; moving->id == id && i < moving->list.count; i++) {
            struct spool_chunk_entry entry = spool_chunk_entry_get(&moving->list, i);

            if (entry.segment == segment && entry.offset_16 == offset_16) {
                *ret_entry = i;
                return moving;
            }
        }
    }
    return NULL;
}

void spool_moving_chunk(struct spool *spool, const struct spool_record *record,
                        const uint8_t *bytes, uint32_t offset_16)
{
    struct spool_copy *copy;
    uint32_t entry, group_offset;
    struct spool_moving *moving =
        moving_find(spool, record->id, spool->relocate.segment->number, offset_16, &entry);
    uint8_t *to;

    if (moving == NULL || !spool_record_body_ok(record, bytes))
        return; /* dead, or damaged: then its message stays */
    copy = calloc(1, sizeof(*copy));
    to = copy == NULL ? NULL : spool_log_reserve(&spool->r, record->record_bytes, &group_offset);
    if (to == NULL) {
        free(copy);
        return;
    }
    memcpy(to, bytes, record->record_bytes); /* its header is sealed anew for its place */
    *copy = (struct spool_copy){
        .id = record->id,
        .to = {.offset_16 = group_offset / SPOOL_RECORD_ALIGN,
               .record_bytes = record->record_bytes},
        .moving = moving,
        .entry = entry,
    };
    list_node_init(&copy->node);
    list_push_back(&spool->r.open->copies, &copy->node);
    spool->relocate.copies++;
}

void spool_moving_chunk_durable(struct spool *spool, const struct spool_copy *copy)
{
    struct spool_moving *moving = copy->moving;
    struct spool_chunk_entry entry = spool_chunk_entry_get(&moving->list, copy->entry);
    size_t at;

    entry.segment = copy->to.segment;
    entry.offset_16 = copy->to.offset_16;
    spool_live_hold_chunk(spool, &entry);
    at = (size_t)(moving->list.entries - moving->bytes) +
         (size_t)copy->entry * SPOOL_CHUNK_ENTRY_BYTES;
    spool_chunk_entry_encode(moving->bytes + at, &entry);
    moving->moved[copy->entry] = true;
}

/* ---- finish --------------------------------------------------------------------------------- */

static bool moving_complete(const struct spool_moving *moving, uint32_t segment)
{
    for (uint32_t i = 0; i < moving->list.count; i++) {
        if (spool_chunk_entry_get(&moving->list, i).segment == segment)
            return false;
    }
    return true;
}

void spool_moving_finish(struct spool *spool)
{
    list_for_each (node, &spool->relocate.moving) {
        struct spool_moving *moving = CONTAINER_OF(node, struct spool_moving, node);

        if (!moving_complete(moving, spool->relocate.segment->number))
            continue;
        moving->record.body_crc = crc32c(0, moving->sections.body);
        spool_relocate_message(spool, &moving->record, &moving->sections, &moving->from, true);
    }
}
