#include "storage/spool_image.h"

#include <errno.h>
#include <stdlib.h>

#include "core/crc32c.h"
#include "storage/spool_bytes_private.h"
#include "storage/spool_private.h"

/* A block is read on a shard, a slice of it at a time, and written there as well: so both are one
 * pass of loads and stores without a table of any kind. */

#define KIND_ENTRY 3u
#define TEXT_HEADER_BYTES 12u
#define ENTRY_HEADER_BYTES 36u
#define ITEM_BYTES 16u
#define ITEM_ALIGN 4u
#define FLAG_OPEN_BITS 0x80u
#define ENTRY_FLAGS (SPOOL_ENTRY_HELD | SPOOL_ENTRY_DAMAGED | SPOOL_ENTRY_CHUNKED)
#define ITEM_FLAGS                                                                                 \
    (SPOOL_ITEM_FAILING | SPOOL_ITEM_EXPIRING | SPOOL_ITEM_TRIED | SPOOL_ITEM_IN_DOUBT)

static_assert(ENTRY_HEADER_BYTES + SPOOL_IMAGE_UNITS_MAX * ITEM_BYTES + SPOOL_IMAGE_UNITS_MAX / 8 +
                      ITEM_ALIGN <
                  SPOOL_IMAGE_PAYLOAD_MAX,
              "the largest entry fits into an empty block");

/* ---- writing -------------------------------------------------------------------------------- */

bool spool_image_wants(const struct spool_image *image, const struct spool_location *location)
{
    bool cold = (location->segment & SPOOL_COLD) != 0;
    uint32_t segment = location->segment & ~SPOOL_COLD;
    const struct spool_location *end = cold ? &image->cold_end : &image->hot_end;
    uint32_t end_segment = end->segment & ~SPOOL_COLD;

    return segment != end_segment ? segment < end_segment : location->offset_16 < end->offset_16;
}

/* NULL: the block is full. */
static uint8_t *image_reserve(struct spool_image *image, uint32_t bytes)
{
    uint8_t *to = image->data + image->used_bytes;

    if (SPOOL_IMAGE_PAYLOAD_MAX - image->used_bytes < bytes)
        return NULL;
    image->used_bytes += bytes;
    return to;
}

bool spool_image_add_text(struct spool_image *image, enum spool_image_text kind, uint32_t number,
                          const uint8_t status[3], struct slice text)
{
    uint32_t text_bytes = (uint32_t)MIN(text.size, (size_t)SPOOL_IMAGE_TEXT_MAX);
    uint32_t bytes = TEXT_HEADER_BYTES + ROUND_UP(text_bytes, ITEM_ALIGN);
    uint8_t *to = image_reserve(image, bytes);

    ASSERT(number > 0 && (kind == SPOOL_TEXT_DESTINATION || kind == SPOOL_TEXT_REASON));
    if (to == NULL)
        return false;
    memset(to, 0, TEXT_HEADER_BYTES);
    to[0] = (uint8_t)kind;
    memcpy(to + 1, status, 3);
    put_32(to + 4, number);
    put_16(to + 8, (uint16_t)text_bytes);
    if (text_bytes > 0)
        memcpy(to + TEXT_HEADER_BYTES, text.data, text_bytes);
    memset(to + TEXT_HEADER_BYTES + text_bytes, 0, bytes - TEXT_HEADER_BYTES - text_bytes);
    return true;
}

static uint32_t open_bytes(uint32_t unit_count)
{
    return ROUND_UP((unit_count + 7) / 8, ITEM_ALIGN);
}

static void item_put(uint8_t *to, const struct spool_image_item *item)
{
    put_32(to, item->destination);
    put_32(to + 4, item->reason);
    put_32(to + 8, item->next_s);
    put_16(to + 12, item->open_count);
    to[14] = item->attempts;
    to[15] = item->flags;
}

bool spool_image_add_entry(struct spool_image *image, const struct spool_image_entry *entry)
{
    uint32_t bits_bytes = entry->open_bits == NULL ? 0 : open_bytes(entry->unit_count);
    uint32_t bytes = ENTRY_HEADER_BYTES + entry->item_count * ITEM_BYTES + bits_bytes;
    uint8_t *to;

    ASSERT(entry->unit_count > 0 && entry->unit_count <= SPOOL_IMAGE_UNITS_MAX);
    ASSERT(entry->item_count > 0 && entry->item_count <= entry->unit_count);
    to = image_reserve(image, bytes);
    if (to == NULL)
        return false;
    to[0] = KIND_ENTRY;
    to[1] = entry->message_flags;
    to[2] = entry->flags | (bits_bytes > 0 ? FLAG_OPEN_BITS : 0u);
    to[3] = entry->units_per_item;
    put_16(to + 4, entry->unit_count);
    put_16(to + 6, entry->item_count);
    put_64(to + 8, entry->id);
    put_32(to + 16, entry->location.segment);
    put_32(to + 20, entry->location.offset_16);
    put_32(to + 24, entry->location.record_bytes);
    put_32(to + 28, entry->arrival_s);
    put_32(to + 32, entry->size_bytes);
    to += ENTRY_HEADER_BYTES;
    for (uint32_t i = 0; i < entry->item_count; i++, to += ITEM_BYTES)
        item_put(to, &entry->items[i]);
    if (bits_bytes > 0) {
        uint32_t used = (entry->unit_count + 7u) / 8u;

        memcpy(to, entry->open_bits, used);
        memset(to + used, 0, bits_bytes - used);
    }
    image->entry_count++;
    return true;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Of one call of spool_image_read(): items become structs here. */
struct image_items {
    struct spool_image_item few[16]; /* nearly every message has fewer */
    struct spool_image_item *many;
    uint32_t capacity;
};

static struct spool_image_item *items_room(struct image_items *room, uint32_t count)
{
    if (count <= ARRAY_SIZE(room->few))
        return room->few;
    if (count > room->capacity) {
        struct spool_image_item *grown = realloc(room->many, count * sizeof(*grown));

        if (grown == NULL)
            return NULL;
        room->many = grown;
        room->capacity = count;
    }
    return room->many;
}

static int text_read(struct slice rest, const struct spool_image_events *events, uint32_t *ret_used)
{
    const uint8_t *from = rest.data;
    uint32_t text_bytes, number, bytes;

    if (rest.size < TEXT_HEADER_BYTES)
        return -EBADMSG;
    number = get_32(from + 4);
    text_bytes = get_16(from + 8);
    bytes = TEXT_HEADER_BYTES + ROUND_UP(text_bytes, ITEM_ALIGN);
    if (number == 0 || text_bytes > SPOOL_IMAGE_TEXT_MAX || bytes > rest.size)
        return -EBADMSG;
    *ret_used = bytes;
    return events->text(events->context, (enum spool_image_text)from[0], number, from + 1,
                        slice_of(from + TEXT_HEADER_BYTES, text_bytes));
}

/* False when an item is none that we write. */
static bool items_read(const uint8_t *from, struct spool_image_item *items, uint32_t item_count,
                       uint32_t unit_count)
{
    uint32_t open = 0;

    for (uint32_t i = 0; i < item_count; i++, from += ITEM_BYTES) {
        items[i] = (struct spool_image_item){
            .destination = get_32(from),
            .reason = get_32(from + 4),
            .next_s = get_32(from + 8),
            .open_count = get_16(from + 12),
            .attempts = from[14],
            .flags = from[15],
        };
        open += items[i].open_count;
        if (items[i].destination == 0 || (items[i].flags & ~ITEM_FLAGS) != 0)
            return false;
    }
    return open <= unit_count;
}

static int entry_read(struct slice rest, struct image_items *room,
                      const struct spool_image_events *events, uint32_t *ret_used)
{
    const uint8_t *from = rest.data;
    struct spool_image_entry entry;
    struct spool_image_item *items;
    uint32_t bits_bytes, bytes;

    if (rest.size < ENTRY_HEADER_BYTES)
        return -EBADMSG;
    entry = (struct spool_image_entry){
        .id = get_64(from + 8),
        .location = {get_32(from + 16), get_32(from + 20), get_32(from + 24)},
        .arrival_s = get_32(from + 28),
        .size_bytes = get_32(from + 32),
        .unit_count = get_16(from + 4),
        .item_count = get_16(from + 6),
        .message_flags = from[1],
        .flags = from[2] & (uint8_t)~FLAG_OPEN_BITS,
        .units_per_item = from[3],
    };
    bits_bytes = from[2] & FLAG_OPEN_BITS ? open_bytes(entry.unit_count) : 0;
    bytes = ENTRY_HEADER_BYTES + entry.item_count * ITEM_BYTES + bits_bytes;
    if (bytes > rest.size || entry.unit_count == 0 || entry.unit_count > SPOOL_IMAGE_UNITS_MAX ||
        entry.item_count == 0 || entry.item_count > entry.unit_count ||
        (entry.flags & ~ENTRY_FLAGS) != 0 ||
        entry.location.record_bytes < SPOOL_RECORD_HEADER_BYTES ||
        entry.location.record_bytes > SPOOL_RECORD_BYTES_MAX)
        return -EBADMSG;
    items = items_room(room, entry.item_count);
    if (items == NULL)
        return -ENOMEM;
    if (!items_read(from + ENTRY_HEADER_BYTES, items, entry.item_count, entry.unit_count))
        return -EBADMSG;
    entry.items = items;
    if (bits_bytes > 0)
        entry.open_bits = from + ENTRY_HEADER_BYTES + entry.item_count * ITEM_BYTES;
    *ret_used = bytes;
    return events->entry(events->context, &entry);
}

int spool_image_read(struct slice block, uint32_t *offset, uint32_t count,
                     const struct spool_image_events *events)
{
    struct image_items room = {.many = NULL};
    int r = 0;

    for (uint32_t i = 0; i < count && *offset < block.size && r == 0; i++) {
        struct slice rest = slice_skip(block, *offset);
        uint32_t used = 0;

        if (rest.data[0] == KIND_ENTRY)
            r = entry_read(rest, &room, events, &used);
        else if (rest.data[0] == SPOOL_TEXT_DESTINATION || rest.data[0] == SPOOL_TEXT_REASON)
            r = text_read(rest, events, &used);
        else
            r = -EBADMSG;
        *offset += used;
    }
    free(room.many);
    return r;
}

/* ---- the header of a block ------------------------------------------------------------------ */

#define BLOCK_MAGIC "KCHK"
#define BLOCK_LAST 1u
#define BLOCK_CRC_OFFSET 60u

static uint32_t block_crc(const uint8_t *block, uint32_t used_bytes, const uint8_t *uuid)
{
    uint32_t crc =
        crc32c(crc32c(0, slice_of(uuid, SPOOL_UUID_BYTES)), slice_of(block, BLOCK_CRC_OFFSET));

    return crc32c(
        crc, slice_of(block + SPOOL_IMAGE_HEADER_BYTES, used_bytes - SPOOL_IMAGE_HEADER_BYTES));
}

void spool_image_header_encode(const struct spool_image_header *header,
                               const uint8_t uuid[SPOOL_UUID_BYTES], uint8_t *block)
{
    memset(block, 0, SPOOL_IMAGE_HEADER_BYTES);
    memcpy(block, BLOCK_MAGIC, 4);
    put_32(block + 4, header->used_bytes);
    put_64(block + 8, header->number);
    put_32(block + 16, header->index);
    put_32(block + 20, header->entry_count);
    put_32(block + 24, header->last ? BLOCK_LAST : 0);
    put_64(block + 32, header->entries_so_far);
    put_32(block + BLOCK_CRC_OFFSET, block_crc(block, header->used_bytes, uuid));
}

bool spool_image_header_decode(struct slice block, const uint8_t uuid[SPOOL_UUID_BYTES],
                               uint64_t number, uint32_t index,
                               struct spool_image_header *ret_header)
{
    const uint8_t *from = block.data;

    if (block.size < SPOOL_IMAGE_HEADER_BYTES || memcmp(from, BLOCK_MAGIC, 4) != 0)
        return false;
    *ret_header = (struct spool_image_header){
        .used_bytes = get_32(from + 4),
        .number = get_64(from + 8),
        .index = get_32(from + 16),
        .entry_count = get_32(from + 20),
        .last = (get_32(from + 24) & BLOCK_LAST) != 0,
        .entries_so_far = get_64(from + 32),
    };
    return ret_header->used_bytes >= SPOOL_IMAGE_HEADER_BYTES &&
           ret_header->used_bytes <= block.size && ret_header->number == number &&
           ret_header->index == index &&
           get_32(from + BLOCK_CRC_OFFSET) == block_crc(from, ret_header->used_bytes, uuid);
}
