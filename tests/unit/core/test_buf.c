#include "core/buf.h"
#include <criterion/criterion.h>
#include <stdlib.h>

Test(buf, appends_everything_in_order)
{
    static const uint8_t want[] = "ab-1234567890123.x\x01\x02\x00\x03\x00\x00\x00"
                                  "\x04\x00\x00\x00\x00\x00\x00\x80";
    struct buf buf;
    struct reader reader;

    buf_init(&buf, 1024);
    buf_append(&buf, SLICE("a"));
    buf_append_byte(&buf, 'b');
    buf_append_cstr(&buf, "-");
    buf_append_u64(&buf, 1234567890123);
    buf_printf(&buf, "%c%s", '.', "x");
    buf_append_byte(&buf, 1);
    buf_append_le16(&buf, 2);
    buf_append_le32(&buf, 3);
    buf_append_le64(&buf, 0x8000000000000004);
    cr_assert(!buf.failed);
    cr_expect_eq(buf.size, sizeof(want) - 1);
    cr_expect_arr_eq(buf.data, want, sizeof(want) - 1);

    buf_consume(&buf, 18);
    reader = (struct reader){.rest = buf_slice(&buf)};
    cr_expect_eq(reader_u8(&reader), 1);
    cr_expect_eq(reader_le16(&reader), 2);
    cr_expect_eq(reader_le32(&reader), 3);
    cr_expect_eq(reader_le64(&reader), 0x8000000000000004);
    cr_expect(!reader.bad);
    cr_expect_eq(reader.rest.size, 0);
    buf_deinit(&buf);
}

Test(buf, a_short_read_is_sticky_and_takes_nothing)
{
    struct reader reader = {.rest = SLICE("abc")};

    cr_expect_eq(reader_le32(&reader), 0);
    cr_expect(reader.bad);
    cr_expect_eq(reader_u8(&reader), 0, "bad from now on, although a byte is there");
    cr_expect_eq(reader.rest.size, 3);
    reader = (struct reader){.rest = SLICE("abc")};
    cr_expect_eq(reader_bytes(&reader, SIZE_MAX).size, 0);
    cr_expect(reader.bad);
}

Test(buf, the_ceiling_holds_and_the_error_is_sticky)
{
    struct buf buf;

    buf_init(&buf, 300);
    for (int i = 0; i < 29; i++)
        buf_append(&buf, SLICE("0123456789"));
    buf_append(&buf, SLICE("0123456789"));
    cr_expect(!buf.failed);
    cr_expect_eq(buf.size, 300);
    buf_append_byte(&buf, 'x');
    cr_expect(buf.failed);
    cr_expect_eq(buf.size, 300);
    buf_consume(&buf, 100);
    buf_append_byte(&buf, 'x');
    cr_expect_eq(buf.size, 200, "failed until it is reset");
    cr_expect_null(buf_extend(&buf, 1));
    buf_reset(&buf);
    buf_append_byte(&buf, 'x');
    cr_expect_eq(buf.size, 1);
    cr_expect(!buf.failed);
    cr_expect_null(buf_extend(&buf, SIZE_MAX), "no overflow of sums");
    buf_release(&buf);
    cr_expect_null(buf.data);
    buf_append_byte(&buf, 'y');
    cr_expect_eq(buf.size, 1);
    buf_deinit(&buf);
}

Test(buf, prints_more_than_its_stack_holds)
{
    struct buf buf;

    buf_init(&buf, 5000);
    buf_printf(&buf, "%1000d|", 7);
    cr_expect(!buf.failed);
    cr_expect_eq(buf.size, 1001);
    cr_expect_eq(buf.data[999], '7');
    cr_expect_eq(buf.data[1000], '|');
    buf_printf(&buf, "%4000d", 7);
    cr_expect(buf.failed);
    cr_expect_eq(buf.size, 1001, "all or nothing");
    buf_deinit(&buf);
}

Test(buf, decimal_numbers_at_both_ends)
{
    struct buf buf;

    buf_init(&buf, 100);
    buf_append_u64(&buf, 0);
    buf_append_u64(&buf, UINT64_MAX);
    cr_expect(slice_equal(buf_slice(&buf), SLICE("018446744073709551615")));
    buf_deinit(&buf);
}
