#include "storage/spool_private.h"

#include "core/crc32c.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static const uint8_t uuid[SPOOL_UUID_BYTES] = "a spool's uuid ";
static const uint8_t status[3] = {4, 3, 2};

struct seen {
    uint32_t texts, entries;
    struct spool_image_entry last;
    struct spool_image_item items[16];
    uint8_t bits[8];
    char text[SPOOL_IMAGE_TEXT_MAX + 1];
    uint32_t number;
    int answer;
};

static int see_text(void *context, enum spool_image_text kind, uint32_t number,
                    const uint8_t from[3], struct slice text)
{
    struct seen *seen = context;

    cr_assert(kind == SPOOL_TEXT_DESTINATION || kind == SPOOL_TEXT_REASON);
    cr_assert_eq(memcmp(from, status, 3), 0);
    seen->texts++;
    seen->number = number;
    (void)slice_to_cstr(text, seen->text, sizeof(seen->text));
    return seen->answer;
}

static int see_entry(void *context, const struct spool_image_entry *entry)
{
    struct seen *seen = context;

    seen->entries++;
    seen->last = *entry;
    memcpy(seen->items, entry->items,
           MIN((size_t)entry->item_count, ARRAY_SIZE(seen->items)) * sizeof(entry->items[0]));
    if (entry->open_bits != NULL)
        memcpy(seen->bits, entry->open_bits,
               MIN(sizeof(seen->bits), (size_t)(entry->unit_count + 7) / 8));
    return seen->answer;
}

static struct spool_image image_create(void)
{
    struct spool_image image = {.data = malloc(SPOOL_IMAGE_PAYLOAD_MAX)};

    cr_assert_not_null(image.data);
    return image;
}

static int read_all(const struct spool_image *image, struct seen *seen)
{
    struct spool_image_events events = {seen, see_text, see_entry};
    uint32_t offset = 0;
    int r = 0;

    while (r == 0 && offset < image->used_bytes)
        r = spool_image_read(slice_of(image->data, image->used_bytes), &offset, 1, &events);
    return r;
}

static struct spool_image_entry entry_of(const struct spool_image_item *items, uint16_t item_count)
{
    return (struct spool_image_entry){
        .id = 0x0123456789abcdefull,
        .location = {SPOOL_COLD | 7, 0x11223344, 4321},
        .arrival_s = 5,
        .size_bytes = UINT32_MAX,
        .unit_count = 13,
        .item_count = item_count,
        .message_flags = SPOOL_REPORT | SPOOL_EIGHT_BIT,
        .flags = SPOOL_ENTRY_HELD | SPOOL_ENTRY_CHUNKED,
        .units_per_item = 9,
        .items = items,
    };
}

Test(spool_image, what_is_written_is_read)
{
    static const struct spool_image_item items[2] = {
        {1, 2, 3, 9, 200, SPOOL_ITEM_TRIED | SPOOL_ITEM_IN_DOUBT},
        {UINT32_MAX, 0, UINT32_MAX, 4, 0, 0},
    };
    static const uint8_t bits[2] = {0xff, 0x1f};
    struct spool_image image = image_create();
    struct spool_image_entry entry = entry_of(items, 2);
    struct seen seen = {0};

    cr_assert(spool_image_add_text(&image, SPOOL_TEXT_REASON, 2, status, SLICE("not at home")));
    cr_assert(spool_image_add_text(&image, SPOOL_TEXT_DESTINATION, 1, status, SLICE_NONE));
    cr_assert(spool_image_add_entry(&image, &entry));
    entry.open_bits = bits;
    cr_assert(spool_image_add_entry(&image, &entry));
    cr_assert_eq(image.entry_count, 2);
    cr_assert_eq(image.used_bytes, 24 + 12 + 36 + 32 + 36 + 32 + 4, "%u", image.used_bytes);
    cr_assert_eq(read_all(&image, &seen), 0);
    cr_assert_eq(seen.texts, 2);
    cr_assert_eq(seen.number, 1);
    cr_assert_eq(seen.entries, 2);
    cr_assert_eq(seen.last.id, entry.id);
    cr_assert_eq(memcmp(&seen.last.location, &entry.location, sizeof(entry.location)), 0);
    cr_assert_eq(seen.last.arrival_s, 5);
    cr_assert_eq(seen.last.size_bytes, UINT32_MAX);
    cr_assert_eq(seen.last.unit_count, 13);
    cr_assert_eq(seen.last.item_count, 2);
    cr_assert_eq(seen.last.message_flags, entry.message_flags);
    cr_assert_eq(seen.last.flags, entry.flags);
    cr_assert_eq(seen.last.units_per_item, 9);
    cr_assert_eq(memcmp(seen.items, items, sizeof(items)), 0);
    cr_assert_eq(memcmp(seen.bits, bits, sizeof(bits)), 0);
    free(image.data);
}

Test(spool_image, a_message_with_one_destination_is_52_bytes)
{
    static const struct spool_image_item item = {1, 0, 0, 13, 0, 0};
    struct spool_image image = image_create();
    struct spool_image_entry entry = entry_of(&item, 1);

    cr_assert(spool_image_add_entry(&image, &entry));
    cr_assert_eq(image.used_bytes, 52);
    free(image.data);
}

Test(spool_image, a_full_block_takes_nothing_more_and_keeps_what_it_has)
{
    static struct spool_image_item items[SPOOL_IMAGE_UNITS_MAX];
    struct spool_image image = image_create();
    struct spool_image_entry entry;
    struct seen seen = {0};
    uint32_t count = 0, used;

    for (size_t i = 0; i < ARRAY_SIZE(items); i++)
        items[i] = (struct spool_image_item){.destination = (uint32_t)i + 1, .open_count = 1};
    entry = entry_of(items, SPOOL_IMAGE_UNITS_MAX);
    entry.unit_count = SPOOL_IMAGE_UNITS_MAX;
    while (spool_image_add_entry(&image, &entry))
        count++;
    cr_assert_eq(count, 6);
    used = image.used_bytes;
    cr_assert_eq(image.entry_count, count);
    while (spool_image_add_text(&image, SPOOL_TEXT_REASON, 1, status, SLICE("x")))
        used = image.used_bytes;
    cr_assert_eq(image.used_bytes, used);
    cr_assert_leq(image.used_bytes, SPOOL_IMAGE_PAYLOAD_MAX);
    cr_assert_eq(read_all(&image, &seen), 0);
    cr_assert_eq(seen.entries, count);
    free(image.data);
}

Test(spool_image, wanted_is_what_lies_below_its_lanes_end)
{
    static const struct {
        const char *name;
        struct spool_location location;
        bool wanted;
    } rows[] = {
        {"an older segment", {4, 1u << 31, 0}, true},
        {"below the end", {5, 99, 0}, true},
        {"at the end", {5, 100, 0}, false},
        {"a newer segment", {6, 0, 0}, false},
        {"cold: an older segment", {SPOOL_COLD | 1, 70000, 0}, true},
        {"cold: below the end", {SPOOL_COLD | 2, 6, 0}, true},
        {"cold: at the end", {SPOOL_COLD | 2, 7, 0}, false},
        {"cold: a newer segment, older than the hot one", {SPOOL_COLD | 3, 0, 0}, false},
    };
    struct spool_image image = {.hot_end = {5, 100, 0}, .cold_end = {SPOOL_COLD | 2, 7, 0}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        cr_expect_eq(spool_image_wants(&image, &rows[i].location), rows[i].wanted, "%s",
                     rows[i].name);
}

Test(spool_image, what_an_event_returns_ends_the_reading)
{
    struct spool_image image = image_create();
    struct seen seen = {.answer = 17};

    cr_assert(spool_image_add_text(&image, SPOOL_TEXT_REASON, 1, status, SLICE("a")));
    cr_assert(spool_image_add_text(&image, SPOOL_TEXT_REASON, 2, status, SLICE("b")));
    cr_assert_eq(read_all(&image, &seen), 17);
    cr_assert_eq(seen.texts, 1);
    free(image.data);
}

/* Goal: bytes that we did not write are refused, wherever they differ. */
Test(spool_image, nothing_is_trusted)
{
    static const struct {
        const char *name;
        uint32_t offset;
        uint8_t value;
    } rows[] = {
        {"an unknown kind", 0, 9},
        {"no kind", 0, 0},
        {"no units", 4, 0},
        {"more items than units", 6, 14},
        {"no items", 6, 0},
        {"more items than there are bytes", 7, 200},
        {"more units than a message can have", 5, 0x40},
        {"an unknown flag", 2, 0x20},
        {"open bits behind the end", 2, 0x80},
        {"a record smaller than its header", 25, 0},
        {"a record larger than a group", 27, 1},
        {"no destination", 36, 0},
        {"an unknown item flag", 51, 0x80},
        {"more open than there are", 49, 1},
    };
    static const struct spool_image_item item = {1, 0, 0, 13, 0, 0};
    struct spool_image image = image_create();
    struct spool_image_entry entry = entry_of(&item, 1);

    entry.location.record_bytes = 0x110;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct seen seen = {0};

        image.used_bytes = image.entry_count = 0;
        cr_assert(spool_image_add_entry(&image, &entry));
        image.data[rows[i].offset] = rows[i].value;
        cr_expect_eq(read_all(&image, &seen), -EBADMSG, "%s", rows[i].name);
        cr_expect_eq(seen.entries, 0, "%s", rows[i].name);
    }
    for (uint32_t used = 1; used < 52; used++) {
        struct seen seen = {0};

        image.used_bytes = 0;
        cr_assert(spool_image_add_entry(&image, &entry));
        image.used_bytes = used;
        cr_expect_eq(read_all(&image, &seen), -EBADMSG, "cut at %u", used);
    }
    free(image.data);
}

Test(spool_image, texts_are_refused_as_well)
{
    static const struct {
        const char *name;
        uint32_t offset;
        uint8_t value;
    } rows[] = {
        {"number 0", 4, 0},
        {"longer than the block", 8, 200},
        {"longer than a text", 9, 3},
    };
    struct spool_image image = image_create();

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct seen seen = {0};

        image.used_bytes = 0;
        cr_assert(spool_image_add_text(&image, SPOOL_TEXT_DESTINATION, 1, status, SLICE("here")));
        image.data[rows[i].offset] = rows[i].value;
        cr_expect_eq(read_all(&image, &seen), -EBADMSG, "%s", rows[i].name);
        cr_expect_eq(seen.texts, 0, "%s", rows[i].name);
    }
    free(image.data);
}

/* Goal: a block is believed only as a whole, in its place, of its checkpoint and of its spool. */
Test(spool_image, a_block_is_believed_whole_or_not)
{
    static const uint8_t other[SPOOL_UUID_BYTES] = "another's uuid ";
    static uint8_t block[8192];
    struct spool_image_header header = {5000, 9, 3, 77, true, 1234}, read;

    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (uint8_t)(i * 7);
    spool_image_header_encode(&header, uuid, block);
    cr_assert(spool_image_header_decode(slice_of(block, 8192), uuid, 9, 3, &read));
    cr_assert(spool_image_header_decode(slice_of(block, 5000), uuid, 9, 3, &read));
    cr_assert_eq(read.used_bytes, 5000);
    cr_assert_eq(read.entry_count, 77);
    cr_assert(read.last);
    cr_assert_eq(read.entries_so_far, 1234);
    cr_assert(!spool_image_header_decode(slice_of(block, 4999), uuid, 9, 3, &read));
    cr_assert(!spool_image_header_decode(slice_of(block, 63), uuid, 9, 3, &read));
    cr_assert(!spool_image_header_decode(slice_of(block, 8192), other, 9, 3, &read));
    cr_assert(!spool_image_header_decode(slice_of(block, 8192), uuid, 8, 3, &read));
    cr_assert(!spool_image_header_decode(slice_of(block, 8192), uuid, 9, 2, &read));
    for (uint32_t at = 0; at < 5000; at++) {
        block[at] ^= (uint8_t)(1u << at % 8);
        cr_assert(!spool_image_header_decode(slice_of(block, 8192), uuid, 9, 3, &read),
                  "a bit at %u", at);
        block[at] ^= (uint8_t)(1u << at % 8);
    }
}
