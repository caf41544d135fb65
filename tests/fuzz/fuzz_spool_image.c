/* Blocks of a checkpoint of unknown origin, fed to the reader of recovery.
 *
 * What it hands out must lie inside the block and inside the bounds of its header (storage/spool_image.h), and written
 * again it must be the very bytes it was read from, but for the padding. */
#include "core/assert.h"
#include "storage/spool_image.h"

#include <stdlib.h>

struct fuzz {
    struct slice block;
    struct spool_image again;
};

static bool inside(const struct fuzz *fuzz, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;

    return size == 0 ||
           (from >= fuzz->block.data && from + size <= fuzz->block.data + fuzz->block.size);
}

static int fuzz_text(void *context, enum spool_image_text kind, uint32_t number,
                     const uint8_t status[3], struct slice text)
{
    struct fuzz *fuzz = context;

    ASSERT(kind == SPOOL_TEXT_DESTINATION || kind == SPOOL_TEXT_REASON);
    ASSERT(number > 0 && text.size <= SPOOL_IMAGE_TEXT_MAX);
    ASSERT(inside(fuzz, text.data, text.size) && inside(fuzz, status, 3));
    ASSERT(spool_image_add_text(&fuzz->again, kind, number, status, text));
    return 0;
}

static int fuzz_entry(void *context, const struct spool_image_entry *entry)
{
    struct fuzz *fuzz = context;
    uint32_t open = 0;

    ASSERT(entry->unit_count > 0 && entry->unit_count <= SPOOL_IMAGE_UNITS_MAX);
    ASSERT(entry->item_count > 0 && entry->item_count <= entry->unit_count);
    for (uint32_t i = 0; i < entry->item_count; i++)
        open += entry->items[i].open_count;
    ASSERT(open <= entry->unit_count);
    ASSERT(entry->open_bits == NULL ||
           inside(fuzz, entry->open_bits, (entry->unit_count + 7u) / 8u));
    ASSERT(spool_image_add_entry(&fuzz->again, entry));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz fuzz = {.block = slice_of(data, size)};
    struct spool_image_events events = {&fuzz, fuzz_text, fuzz_entry};
    uint32_t offset = 0, before = 0;
    int r = 0;

    if (size > SPOOL_IMAGE_PAYLOAD_MAX)
        return 0;
    fuzz.again.data = malloc(SPOOL_IMAGE_PAYLOAD_MAX);
    ASSERT(fuzz.again.data != NULL);
    while (r == 0 && offset < size) {
        before = offset;
        r = spool_image_read(fuzz.block, &offset, 3, &events);
        ASSERT(r != 0 || offset > before);
        ASSERT(r != 0 || offset <= size);
        ASSERT(r != 0 || fuzz.again.used_bytes == offset);
    }
    free(fuzz.again.data);
    return 0;
}
