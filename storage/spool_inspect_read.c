#include "storage/spool_inspect_private.h"

#include "core/crc32c.h"

#include <errno.h>

int inspect_read(struct spool_inspect *inspect, const struct inspect_segment *segment, void *to,
                 size_t size, uint64_t offset)
{
    char name[SPOOL_NAME_SIZE];
    int r;

    if (inspect->open_segment != segment) {
        if (inspect->open_fd >= 0)
            (void)file_close(inspect->open_fd);
        inspect->open_segment = NULL;
        inspect->open_fd = -1;
        spool_segment_name(segment->stream, segment->number, name);
        r = file_open(inspect->dir_fd, name, FILE_READ, 0, &inspect->open_fd);
        if (r < 0)
            return r;
        inspect->open_segment = segment;
    }
    return file_read_all(inspect->open_fd, to, size, offset);
}

int inspect_record(struct spool_inspect *inspect, uint32_t segment_number, uint64_t offset,
                   struct spool_record *ret_record, struct spool_sections *ret_sections)
{
    const struct inspect_segment *segment = inspect_segment_find(
        inspect, (segment_number & SPOOL_COLD) != 0 ? 'R' : 'D', segment_number & ~SPOOL_COLD);
    int r;

    if (segment == NULL || offset + SPOOL_RECORD_HEADER_BYTES > segment->size_bytes)
        return -EBADMSG;
    r = inspect_read(inspect, segment, inspect->window, SPOOL_RECORD_HEADER_BYTES, offset);
    if (r < 0)
        return r;
    if (!spool_record_decode(inspect->window,
                             MIN(SPOOL_RECORD_BYTES_MAX, segment->size_bytes - offset),
                             segment->seed, offset, ret_record))
        return -EBADMSG;
    r = inspect_read(inspect, segment, inspect->window, ret_record->record_bytes, offset);
    if (r < 0)
        return r;
    if (!spool_record_front_ok(ret_record, inspect->window))
        return -EBADMSG;
    spool_record_sections(ret_record, inspect->window, ret_sections);
    return 0;
}

/* ---- a body, without what is left out ------------------------------------------------------- */

struct body {
    struct spool_inspect *inspect;
    struct slice skips;
    uint32_t skip_index;
    uint64_t at; /* in the body as it was received */
    spool_inspect_piece_fn *piece;
    void *context;
};

/* Hands out `bytes`, which stand at body->at, but for what the skip table leaves out. */
static int body_give(struct body *body, struct slice bytes)
{
    int r = 0;

    while (bytes.size > 0 && r == 0) {
        uint64_t kept = bytes.size, left_out = 0;

        if (body->skip_index < body->skips.size / SPOOL_SKIP_BYTES) {
            struct spool_skip skip = spool_skip_get(body->skips.data, body->skip_index);
            uint64_t end = (uint64_t)skip.offset + skip.bytes;

            kept = skip.offset > body->at ? MIN(bytes.size, skip.offset - body->at) : 0;
            if (kept < bytes.size)
                left_out = MIN(bytes.size - kept, end - (body->at + kept));
            if (body->at + kept + left_out >= end)
                body->skip_index++;
        }
        if (kept > 0)
            r = body->piece(body->context, slice_first(bytes, kept));
        bytes = slice_skip(bytes, kept + left_out);
        body->at += kept + left_out;
    }
    return r;
}

/* One chunk, verified, into the window. */
static int chunk_read(struct spool_inspect *inspect, const struct spool_chunk_entry *entry,
                      struct slice *ret_bytes)
{
    struct spool_record record;
    struct spool_sections sections;
    int r = inspect_record(inspect, entry->segment, (uint64_t)entry->offset_16 * SPOOL_RECORD_ALIGN,
                           &record, &sections);

    if (r < 0)
        return r;
    if (record.type != SPOOL_CHUNK || record.body_bytes != entry->body_bytes ||
        record.body_crc != entry->body_crc || !spool_record_body_ok(&record, inspect->window))
        return -EBADMSG;
    *ret_bytes = sections.body;
    return 0;
}

int inspect_chunks_ok(struct spool_inspect *inspect, const struct spool_chunk_list *list)
{
    int r = 0;

    for (uint32_t i = 0; i < list->count && r == 0; i++) {
        struct spool_chunk_entry entry = spool_chunk_entry_get(list, i);
        struct slice bytes;

        r = chunk_read(inspect, &entry, &bytes);
    }
    return r;
}

/* The list stands in the window, into which the chunks are read: it is copied first. */
static int chunks_give(struct body *body, struct slice list_bytes)
{
    struct spool_chunk_list list;
    struct buf copy;
    int r = 0;

    buf_init(&copy, SPOOL_RECORD_BYTES_MAX);
    buf_append(&copy, list_bytes);
    if (copy.failed)
        r = -ENOMEM;
    else if (!spool_chunk_list_decode(buf_slice(&copy), &list))
        r = -EBADMSG;
    for (uint32_t i = 0; r == 0 && i < list.count; i++) {
        struct spool_chunk_entry entry = spool_chunk_entry_get(&list, i);
        struct slice bytes;

        r = chunk_read(body->inspect, &entry, &bytes);
        if (r == 0)
            r = body_give(body, bytes);
    }
    buf_deinit(&copy);
    return r;
}

int spool_inspect_read(struct spool_inspect *inspect, const struct spool_location *location,
                       spool_inspect_piece_fn *piece, void *context)
{
    struct body body = {.inspect = inspect, .piece = piece, .context = context};
    uint64_t offset = (uint64_t)location->offset_16 * SPOOL_RECORD_ALIGN;
    struct spool_record record;
    struct spool_sections sections;
    struct buf skips;
    int r = inspect_record(inspect, location->segment, offset, &record, &sections);

    if (r < 0)
        return r;
    if (!spool_record_body_ok(&record, inspect->window))
        return -EBADMSG;
    buf_init(&skips, SPOOL_SKIPS_MAX * SPOOL_SKIP_BYTES);
    buf_append(&skips, sections.skips);
    body.skips = buf_slice(&skips);
    r = skips.failed ? -ENOMEM : 0;
    if (r == 0 && sections.head.size > 0)
        r = piece(context, sections.head);
    if (r == 0)
        r = inspect_is_chunked(&record) ? chunks_give(&body, sections.body)
                                        : body_give(&body, sections.body);
    buf_deinit(&skips);
    return r;
}
