/* Segment images of unknown origin, fed to the parser of recovery.
 *
 * The first byte says how the rest becomes an image: as it is; or as records that are given good
 * checksums for their place first, so that the fuzzer gets behind them. What the parser reports
 * must lie inside the image. */
#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <stdlib.h>

#define IMAGE_BYTES_MAX (256u * 1024u)

static const uint8_t uuid[SPOOL_UUID_BYTES] = "fuzzed spool 01";

struct image {
    uint8_t *bytes;
    size_t size;
    uint64_t last_offset;
    uint32_t seed;
};

static ssize_t image_read(void *context, void *to, size_t size, uint64_t offset)
{
    const struct image *image = context;

    ASSERT(offset <= image->size);
    size = MIN(size, image->size - offset);
    memcpy(to, image->bytes + offset, size);
    return (ssize_t)size;
}

static void image_record(void *context, uint32_t segment, uint64_t offset,
                         const struct spool_record *record, const uint8_t *bytes, bool front_ok,
                         bool body_ok)
{
    struct image *image = context;
    struct spool_sections sections;
    struct spool_chunk_list list;
    uint64_t skipped;

    ASSERT(segment == 1 && offset > image->last_offset &&
           offset + record->record_bytes <= image->size);
    ASSERT(memcmp(bytes, image->bytes + offset, record->record_bytes) == 0);
    image->last_offset = offset;
    spool_record_sections(record, bytes, &sections);
    ASSERT(sections.body.data + sections.body.size == bytes + record->record_bytes);
    if (front_ok)
        (void)spool_skips_ok(sections.skips, record->body_bytes, &skipped);
    if (body_ok && spool_chunk_list_decode(sections.body, &list)) {
        for (uint32_t i = 0; i < list.count; i++)
            (void)spool_chunk_entry_get(&list, i);
    }
}

static void image_note(void *context, uint32_t segment, uint64_t offset,
                       const struct spool_journal_record *record, const uint8_t *bytes)
{
    struct image *image = context;
    uint64_t end = offset + SPOOL_JOURNAL_HEADER_BYTES + record->text_bytes;

    ASSERT(segment == 1 && offset > image->last_offset && end <= image->size);
    ASSERT(memcmp(bytes, image->bytes + offset, SPOOL_JOURNAL_HEADER_BYTES + record->text_bytes) ==
           0);
    image->last_offset = offset;
}

static void put_segment_header(struct image *image, char stream)
{
    struct spool_segment_header header = {
        .features = {.major = SPOOL_MAJOR},
        .stream = stream,
        .number = 1,
        .incarnation = 42,
        .size_bytes = image->size,
    };

    memcpy(header.uuid, uuid, sizeof(uuid));
    spool_segment_header_encode(&header, image->bytes);
    image->seed = spool_seed(uuid, header.incarnation);
}

/* Gives the 64 bytes at each block a good group checksum when they begin with the magic, and
 * records theirs. */
static void seal(struct image *image, char stream)
{
    for (uint64_t at = SPOOL_BLOCK_BYTES; at + SPOOL_GROUP_HEADER_BYTES <= image->size;
         at += SPOOL_RECORD_ALIGN) {
        uint8_t *bytes = image->bytes + at;

        if (at % SPOOL_BLOCK_BYTES == 0 && memcmp(bytes, "KGRP", 4) == 0) {
            struct spool_group_header header = {0};

            memcpy(&header.group_bytes, bytes + 4, 4);
            memcpy(&header.payload_end, bytes + 8, 4);
            memcpy(&header.record_count, bytes + 12, 4);
            memcpy(&header.lsn, bytes + 16, 8);
            header.incarnation = 42;
            memcpy(&header.durable_lsn, bytes + 32, 8);
            memcpy(&header.previous_lsn, bytes + 40, 8);
            memcpy(&header.previous_crc, bytes + 48, 4);
            spool_group_header_encode(&header, image->seed, at, bytes);
            at += SPOOL_GROUP_HEADER_BYTES - SPOOL_RECORD_ALIGN;
        } else if (stream == 'D' && bytes[0] >= SPOOL_MSG && bytes[0] <= SPOOL_COMMIT) {
            spool_record_seal(bytes, image->seed, at);
        } else if (stream == 'J' && bytes[0] >= SPOOL_J_DONE && bytes[0] <= SPOOL_J_ABORT &&
                   at + spool_record_length('J', bytes) <= image->size) {
            spool_journal_seal(bytes, image->seed, at);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spool_scan_events events = {NULL, image_record, image_note, NULL};
    struct spool_scan_chain chain = {0};
    struct spool_scan_result result;
    static uint8_t window[SPOOL_SCAN_WINDOW_BYTES];
    struct image image = {0};
    uint8_t mode;
    char stream;

    if (size < 2 || size > IMAGE_BYTES_MAX)
        return 0;
    mode = data[0];
    stream = mode & 1 ? 'J' : 'D';
    image.size = mode & 2 ? size - 1 + SPOOL_BLOCK_BYTES : size - 1;
    image.bytes = calloc(1, image.size);
    if (image.bytes == NULL)
        abort();
    memcpy(image.bytes + (image.size - (size - 1)), data + 1, size - 1);
    if (mode & 2) {
        put_segment_header(&image, stream);
        if (mode & 4)
            seal(&image, stream);
    }
    events.context = &image;
    spool_scan_segment(uuid, stream, 1, image.size, image_read, &image, window, &chain, &events,
                       &result);
    spool_scan_end(&chain, &events, &result);
    free(image.bytes);
    return 0;
}
