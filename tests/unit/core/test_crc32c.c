#include "core/crc32c.h"
#include <criterion/criterion.h>

/* The examples of the iSCSI standard, which made this checksum known. */
Test(crc32c, agrees_with_the_standards_examples)
{
    uint8_t bytes[32] = {0};

    cr_expect_eq(crc32c(0, SLICE_NONE), 0);
    cr_expect_eq(crc32c(0, SLICE("123456789")), 0xe3069283);
    cr_expect_eq(crc32c(0, slice_of(bytes, 32)), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    cr_expect_eq(crc32c(0, slice_of(bytes, 32)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    cr_expect_eq(crc32c(0, slice_of(bytes, 32)), 0x46dd794e);
}

/* Bit by bit, from the polynomial. */
static uint32_t slow_crc32c(struct slice bytes)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < bytes.size; i++) {
        crc ^= bytes.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

/* Every size around the steps of the fast loop, every alignment, cut at every place. */
Test(crc32c, any_cut_gives_the_same)
{
    static uint8_t bytes[8192];
    static const size_t sizes[] = {1,  7,   8,    9,    15,   16,   63,  64,
                                   65, 500, 3071, 3072, 3073, 6150, 8000};

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 131 + (i >> 7));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (size_t at = 0; at < 8; at++) {
            struct slice whole = slice_of(bytes + at, sizes[i]);
            uint32_t want = slow_crc32c(whole);
            size_t cut = sizes[i] * at / 8;

            cr_expect_eq(crc32c(0, whole), want);
            cr_expect_eq(crc32c(crc32c(0, slice_first(whole, cut)), slice_skip(whole, cut)), want);
        }
    }
}

Test(crc32c, copy_copies_counts_and_sums)
{
    static uint8_t from[7000], to[7002];
    uint64_t copied = 10;

    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (uint8_t)(i * 7);
    for (size_t size = 0; size < sizeof(from); size += 97) {
        struct slice bytes = slice_of(from, size);
        uint64_t before = copied;

        memset(to, 0xee, sizeof(to));
        cr_expect_eq(crc32c_copy(0, to + 1, bytes, &copied), slow_crc32c(bytes));
        cr_expect_eq(copied - before, size);
        cr_expect(slice_equal(slice_of(to + 1, size), bytes));
        cr_expect_eq(to[0], 0xee);
        cr_expect_eq(to[size + 1], 0xee, "not one byte more");
    }
}
