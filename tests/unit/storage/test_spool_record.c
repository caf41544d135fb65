#include "storage/spool_record.h"

#include "core/crc32c.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const uint8_t uuid[SPOOL_UUID_BYTES] = "0123456789abcde";

/* Feeds `decode` every image that differs by one bit. */
#define EACH_FLIPPED_BIT(bytes, size)                                                              \
    for (size_t bit_ = 0; bit_ < (size)*8; (bytes)[bit_ / 8] ^= (uint8_t)(1u << bit_ % 8), bit_++) \
        if (((bytes)[bit_ / 8] ^= (uint8_t)(1u << bit_ % 8)), true)

Test(spool_record, super_survives_and_no_flipped_bit_does)
{
    uint8_t slot[SPOOL_BLOCK_BYTES];
    struct spool_super super = {
        .features = {.major = 1, .minor = 2, .compat = 3, .ro_compat = 4, .incompat = 5},
        .sequence = 6,
        .number = 7,
        .epoch = 8,
        .id_limit = 9,
        .created_s = 10,
    };
    struct spool_super read;

    memcpy(super.uuid, uuid, sizeof(uuid));
    spool_super_encode(&super, slot);
    cr_assert(spool_super_decode(slot, &read));
    cr_assert_eq(read.features.incompat, 5);
    cr_assert_eq(read.features.ro_compat, 4);
    cr_assert_eq(read.sequence, 6);
    cr_assert_eq(read.number, 7);
    cr_assert_eq(read.epoch, 8);
    cr_assert_eq(read.id_limit, 9);
    cr_assert_eq(read.created_s, 10);
    cr_assert_eq(memcmp(read.uuid, uuid, sizeof(uuid)), 0);
    EACH_FLIPPED_BIT(slot, sizeof(slot))
    cr_assert(!spool_super_decode(slot, &read), "bit %zu", bit_);
    memset(slot, 0, sizeof(slot));
    cr_assert(!spool_super_decode(slot, &read));
}

Test(spool_record, features)
{
    struct spool_features features = {.major = SPOOL_MAJOR, .minor = 99, .compat = UINT32_MAX};

    cr_assert_eq(spool_features_check(&features), SPOOL_FORMAT_KNOWN);
    features.ro_compat = 1;
    cr_assert_eq(spool_features_check(&features), SPOOL_FORMAT_READ_ONLY);
    features.incompat = 0x80000000u;
    cr_assert_eq(spool_features_check(&features), SPOOL_FORMAT_REFUSED);
    features = (struct spool_features){.major = SPOOL_MAJOR + 1};
    cr_assert_eq(spool_features_check(&features), SPOOL_FORMAT_REFUSED);
}

Test(spool_record, a_segment_header_survives_the_loss_of_any_sector)
{
    uint8_t block[SPOOL_BLOCK_BYTES];
    struct spool_segment_header header = {
        .features = {.major = 1},
        .stream = 'D',
        .number = 3,
        .incarnation = 0x1122334455667788ull,
        .epoch = 5,
        .size_bytes = 64 * MIB,
        .spool_number = 9,
    };
    struct spool_segment_header read;

    memcpy(header.uuid, uuid, sizeof(uuid));
    for (int sector = 0; sector < 8; sector++) {
        spool_segment_header_encode(&header, block);
        memset(block + sector * 512, 0xa5, 512);
        cr_assert(spool_segment_header_decode(block, &read), "sector %d", sector);
        cr_assert_eq(read.incarnation, header.incarnation);
        cr_assert_eq(read.number, 3);
        cr_assert_eq(read.stream, 'D');
    }
    memset(block, 0xa5, 512);
    cr_assert(!spool_segment_header_decode(block, &read) || read.number == 3);
    memset(block + 2048, 0xa5, 512);
    cr_assert(!spool_segment_header_decode(block, &read));
}

Test(spool_record, a_group_header_is_bound_to_its_place)
{
    uint8_t bytes[SPOOL_GROUP_HEADER_BYTES];
    uint32_t seed = spool_seed(uuid, 77);
    struct spool_group_header header = {
        .group_bytes = 8192,
        .payload_end = 5000,
        .record_count = 3,
        .lsn = 1ull << 40 | 5,
        .incarnation = 77,
        .durable_lsn = 1ull << 40 | 4,
        .previous_lsn = 1ull << 40 | 4,
        .previous_crc = 99,
    };
    struct spool_group_header read;

    spool_group_header_encode(&header, seed, 4096, bytes);
    cr_assert(spool_group_header_decode(bytes, seed, 4096, &read));
    cr_assert_eq(read.group_bytes, header.group_bytes);
    cr_assert_eq(read.payload_end, header.payload_end);
    cr_assert_eq(read.record_count, header.record_count);
    cr_assert_eq(read.lsn, header.lsn);
    cr_assert_eq(read.incarnation, header.incarnation);
    cr_assert_eq(read.durable_lsn, header.durable_lsn);
    cr_assert_eq(read.previous_lsn, header.previous_lsn);
    cr_assert_eq(read.previous_crc, header.previous_crc);
    cr_assert_eq(read.crc, header.crc);
    cr_assert(spool_group_header_trace(bytes, 77));
    cr_assert(!spool_group_header_trace(bytes, 78));
    cr_assert(!spool_group_header_decode(bytes, seed, 8192, &read), "misplaced");
    cr_assert(!spool_group_header_decode(bytes, spool_seed(uuid, 78), 4096, &read), "recycled");
    EACH_FLIPPED_BIT(bytes, sizeof(bytes))
    cr_assert(!spool_group_header_decode(bytes, seed, 4096, &read), "bit %zu", bit_);
}

Test(spool_record, a_group_header_with_wrong_sizes_is_none)
{
    static const struct {
        const char *name;
        uint32_t group_bytes, payload_end;
    } rows[] = {
        {"no bytes", 0, 64},
        {"not whole blocks", 4097, 64},
        {"over a megabyte", (1u << 20) + 4096, 64},
        {"payload inside the header", 4096, 63},
        {"payload behind the end", 4096, 4097},
    };
    uint32_t seed = spool_seed(uuid, 1);

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct spool_group_header header = {.group_bytes = rows[i].group_bytes,
                                            .payload_end = rows[i].payload_end};
        uint8_t bytes[SPOOL_GROUP_HEADER_BYTES];

        spool_group_header_encode(&header, seed, 4096, bytes);
        cr_assert(!spool_group_header_decode(bytes, seed, 4096, &header), "%s", rows[i].name);
    }
}

static void make_record(uint8_t *bytes, uint32_t seed, uint64_t offset, struct spool_record *record)
{
    *record = (struct spool_record){
        .type = SPOOL_MSG,
        .flags = SPOOL_DOT_LINES,
        .skip_count = 1,
        .record_bytes = 48 + 5 + 3 + 8 + 10,
        .id = 0x123456789ull,
        .envelope_bytes = 5,
        .head_bytes = 3,
        .body_bytes = 10,
        .unit_count = 2,
        .arrival_s = 1000,
    };
    memcpy(bytes + 48, "enveloHEA", 8);
    spool_skip_put(bytes + 48 + 8, 0, (struct spool_skip){2, 3});
    memcpy(bytes + 48 + 16, "body bytes", 10);
    record->front_crc = crc32c(0, slice_of(bytes + 48, 16));
    record->body_crc = crc32c(0, slice_of(bytes + 64, 10));
    spool_record_encode(record, bytes);
    spool_record_seal(bytes, seed, offset);
}

Test(spool_record, a_record_is_bound_to_its_place)
{
    uint8_t bytes[128] = {0}, again[48];
    uint32_t seed = spool_seed(uuid, 77);
    struct spool_record record, read;
    struct spool_sections sections;

    make_record(bytes, seed, 4160, &record);
    cr_assert(spool_record_decode(bytes, sizeof(bytes), seed, 4160, &read));
    spool_record_encode(&read, again);
    cr_assert_eq(memcmp(again, bytes, 44), 0);
    cr_assert(spool_record_front_ok(&read, bytes));
    cr_assert(spool_record_body_ok(&read, bytes));
    spool_record_sections(&read, bytes, &sections);
    cr_assert(slice_equal(sections.envelope, SLICE("envel")));
    cr_assert(slice_equal(sections.body, SLICE("body bytes")));
    cr_assert_eq(spool_skip_get(sections.skips.data, 0).bytes, 3);
    cr_assert(!spool_record_decode(bytes, sizeof(bytes), seed, 4176, &read), "misplaced");
    cr_assert(!spool_record_decode(bytes, sizeof(bytes), spool_seed(uuid, 78), 4160, &read),
              "recycled");
    cr_assert(!spool_record_decode(bytes, record.record_bytes - 1, seed, 4160, &read), "cut");
    EACH_FLIPPED_BIT(bytes, 48)
    cr_assert(!spool_record_decode(bytes, sizeof(bytes), seed, 4160, &read), "bit %zu", bit_);
    bytes[50] ^= 1;
    cr_assert(!spool_record_front_ok(&record, bytes));
    cr_assert(spool_record_body_ok(&record, bytes));
    bytes[70] ^= 1;
    cr_assert(!spool_record_body_ok(&record, bytes));
}

/* Goal: even a record whose checksum is right is none when its sections do not add up. */
Test(spool_record, sections_that_do_not_add_up)
{
    uint8_t bytes[128] = {0};
    uint32_t seed = spool_seed(uuid, 77);
    struct spool_record record, read;

    for (int row = 0; row < 5; row++) {
        make_record(bytes, seed, 4160, &record);
        record.envelope_bytes += row == 0;
        record.head_bytes -= row == 1;
        record.body_bytes = row == 2 ? UINT32_MAX : record.body_bytes;
        record.skip_count += row == 3;
        record.record_bytes = row == 4 ? 47 : record.record_bytes;
        spool_record_encode(&record, bytes);
        spool_record_seal(bytes, seed, 4160);
        cr_assert(!spool_record_decode(bytes, sizeof(bytes), seed, 4160, &read), "row %d", row);
    }
}

Test(spool_record, skip_tables)
{
    static const struct {
        const char *name;
        struct spool_skip skips[2];
        uint64_t body_bytes;
        bool ok;
    } rows[] = {
        {"two ranges", {{1, 2}, {5, 5}}, 10, true},
        {"touching", {{1, 2}, {3, 1}}, 10, true},
        {"overlapping", {{1, 3}, {3, 1}}, 10, false},
        {"descending", {{5, 1}, {1, 1}}, 10, false},
        {"behind the body", {{1, 1}, {5, 6}}, 10, false},
        {"wrapping around", {{1, 1}, {UINT32_MAX, UINT32_MAX}}, 10, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint8_t bytes[16];
        uint64_t left_out;

        spool_skip_put(bytes, 0, rows[i].skips[0]);
        spool_skip_put(bytes, 1, rows[i].skips[1]);
        cr_assert_eq(spool_skips_ok(slice_of(bytes, 16), rows[i].body_bytes, &left_out), rows[i].ok,
                     "%s", rows[i].name);
        if (rows[i].ok)
            cr_assert_eq(left_out, rows[i].skips[0].bytes + rows[i].skips[1].bytes);
    }
}

Test(spool_record, chunk_lists)
{
    uint8_t bytes[SPOOL_CHUNK_LIST_BYTES + 2 * SPOOL_CHUNK_ENTRY_BYTES];
    struct spool_chunk_entry first = {1, 2, 100, 4}, second = {5, 6, 50, 8};
    struct spool_chunk_list list;

    spool_chunk_list_encode(bytes, 150, 77, 2);
    spool_chunk_entry_encode(bytes + 16, &first);
    spool_chunk_entry_encode(bytes + 32, &second);
    cr_assert(spool_chunk_list_decode(slice_of(bytes, sizeof(bytes)), &list));
    cr_assert_eq(list.count, 2);
    cr_assert_eq(spool_chunk_entry_get(&list, 1).offset_16, 6);
    cr_assert(!spool_chunk_list_decode(slice_of(bytes, sizeof(bytes) - 1), &list), "cut");
    cr_assert(!spool_chunk_list_decode(slice_of(bytes, 15), &list), "no head");
    spool_chunk_list_encode(bytes, 151, 77, 2);
    cr_assert(!spool_chunk_list_decode(slice_of(bytes, sizeof(bytes)), &list), "a wrong sum");
    spool_chunk_list_encode(bytes, 150, 77, 0x10000002u);
    cr_assert(!spool_chunk_list_decode(slice_of(bytes, sizeof(bytes)), &list),
              "a count that wraps");
}

Test(spool_record, checksums_join)
{
    uint8_t bytes[4000];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t cut = 0; cut <= sizeof(bytes); cut += cut < 40 ? 1 : 331) {
        uint32_t a = crc32c(0, slice_of(bytes, cut));
        uint32_t b = crc32c(0, slice_of(bytes + cut, sizeof(bytes) - cut));

        cr_assert_eq(spool_crc_join(a, b, sizeof(bytes) - cut),
                     crc32c(0, slice_of(bytes, sizeof(bytes))), "cut at %zu", cut);
    }
}

Test(spool_record, a_journal_record_is_bound_to_its_place)
{
    uint8_t bytes[64] = {0};
    uint32_t seed = spool_seed(uuid, 77);
    struct spool_journal_record record = {
        .type = SPOOL_J_DEFER,
        .text_bytes = 6,
        .id = 99,
        .unit_first = 1,
        .unit_count = 2,
        .next_s = 3,
        .status = {4, 2, 1},
        .attempts = 5,
    };
    struct spool_journal_record read;

    spool_journal_encode(&record, bytes);
    memcpy(bytes + 32, "reason", 6);
    spool_journal_seal(bytes, seed, 4160);
    cr_assert(spool_journal_decode(bytes, sizeof(bytes), seed, 4160, &read));
    cr_assert_eq(read.type, record.type);
    cr_assert_eq(read.text_bytes, record.text_bytes);
    cr_assert_eq(read.id, record.id);
    cr_assert_eq(read.unit_first, record.unit_first);
    cr_assert_eq(read.unit_count, record.unit_count);
    cr_assert_eq(read.next_s, record.next_s);
    cr_assert_eq(memcmp(read.status, record.status, 3), 0);
    cr_assert_eq(read.attempts, record.attempts);
    cr_assert(!spool_journal_decode(bytes, sizeof(bytes), seed, 4176, &read), "misplaced");
    cr_assert(!spool_journal_decode(bytes, 37, seed, 4160, &read), "cut");
    cr_assert(!spool_journal_decode(bytes, 31, seed, 4160, &read), "no room for a header");
    EACH_FLIPPED_BIT(bytes, 38)
    cr_assert(!spool_journal_decode(bytes, sizeof(bytes), seed, 4160, &read), "bit %zu", bit_);
    record.text_bytes = SPOOL_JOURNAL_TEXT_MAX + 1;
    spool_journal_encode(&record, bytes);
    cr_assert(!spool_journal_decode(bytes, 1 << 20, seed, 4160, &read),
              "a text too long is not looked at");
}
