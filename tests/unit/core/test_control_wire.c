#include "core/control_wire.h"
#include <criterion/criterion.h>
#include <errno.h>

static const struct slice arguments[] = {
    {(const uint8_t *)"queue", 5}, {NULL, 0}, {(const uint8_t *)"a\0b", 3}};

/* Whole and byte by byte: never more than "more is needed" before the last byte. */
Test(control_wire, a_request_survives_any_cut)
{
    struct control_frame frame;
    struct slice found[CONTROL_ARGUMENTS_MAX];
    struct buf out;
    size_t size = 0, count = 0;

    buf_init(&out, MIB);
    control_write_request(&out, arguments, ARRAY_SIZE(arguments));
    for (size_t cut = 0; cut < out.size; cut++)
        cr_expect_eq(control_frame_parse(slice_of(out.data, cut), &frame, &size), 0);
    buf_append_cstr(&out, "next");
    cr_expect_eq(control_frame_parse(buf_slice(&out), &frame, &size), 1);
    cr_expect_eq(size, out.size - 4);
    cr_assert(control_arguments(&frame, found, &count));
    cr_assert_eq(count, ARRAY_SIZE(arguments));
    for (size_t i = 0; i < count; i++)
        cr_expect(slice_equal(found[i], arguments[i]));
    buf_deinit(&out);
}

struct bad_head {
    const char *name;
    struct slice bytes;
};

#define BYTES(text)                                                                                \
    {                                                                                              \
        (const uint8_t *)text, sizeof(text) - 1                                                    \
    }
static const struct bad_head bad_heads[] = {
    {"another protocol, told at its first byte", BYTES("G")},
    {"nearly ours", BYTES("KCTX")},
    {"a version of the future", BYTES("KCTL\x02")},
    {"the reserved byte is set", BYTES("KCTL\x01\x01\x00\x00\x00\x00\x00\x00")},
    {"too big a payload", BYTES("KCTL\x01\x00\x00\x00\x01\x00\x01\x00")},
    {"far too big a payload", BYTES("KCTL\x01\x00\x00\x00\xff\xff\xff\xff")},
};

Test(control_wire, what_is_not_ours_is_refused)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_heads); i++) {
        struct control_frame frame;
        size_t size;

        cr_expect_eq(control_frame_parse(bad_heads[i].bytes, &frame, &size), -EPROTO, "%s",
                     bad_heads[i].name);
    }
}

struct bad_payload {
    const char *name;
    uint16_t count;
    struct slice bytes;
};

static const struct bad_payload bad_payloads[] = {
    {"more arguments than any request may have", 65, BYTES("")},
    {"an argument that is not there", 1, BYTES("")},
    {"half a length", 1, BYTES("\x01\x00")},
    {"a length beyond the end", 1,
     BYTES("\x05\x00\x00\x00"
           "abcd")},
    {"the greatest length", 1,
     BYTES("\xff\xff\xff\xff"
           "abcd")},
    {"bytes left over", 1,
     BYTES("\x01\x00\x00\x00"
           "ab")},
    {"bytes for nobody", 0, BYTES("a")},
};

Test(control_wire, lengths_that_do_not_add_up_are_refused)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad_payloads); i++) {
        struct control_frame frame = {bad_payloads[i].count, bad_payloads[i].bytes};
        struct slice found[CONTROL_ARGUMENTS_MAX];
        size_t count;

        cr_expect(!control_arguments(&frame, found, &count), "%s", bad_payloads[i].name);
    }
}

Test(control_wire, a_request_too_big_is_not_written)
{
    static uint8_t big[64 * KIB];
    struct slice argument = slice_of(big, sizeof(big));
    struct slice many[CONTROL_ARGUMENTS_MAX + 1] = {SLICE_NONE};
    struct buf out;

    buf_init(&out, MIB);
    control_write_request(&out, &argument, 1);
    cr_expect(out.failed);
    cr_expect_eq(out.size, 0);
    buf_reset(&out);
    control_write_request(&out, many, ARRAY_SIZE(many));
    cr_expect(out.failed);
    buf_deinit(&out);
}

Test(control_wire, a_long_answer_comes_in_frames_and_ends)
{
    static uint8_t text[150 * KIB];
    struct control_frame frame;
    struct slice rest, error;
    uint32_t status;
    struct buf out;
    size_t size, parts = 0, bytes = 0;

    buf_init(&out, MIB);
    control_write_part(&out, slice_of(text, sizeof(text)));
    control_write_end(&out, 3, SLICE("no such message"));
    rest = buf_slice(&out);
    while (control_frame_parse(rest, &frame, &size) == 1 && frame.word == CONTROL_REPLY_PART) {
        cr_expect(!control_read_end(&frame, &status, &error), "a part is no end");
        parts++;
        bytes += frame.payload.size;
        rest = slice_skip(rest, size);
    }
    cr_expect_eq(parts, 3);
    cr_expect_eq(bytes, sizeof(text));
    cr_assert(control_read_end(&frame, &status, &error));
    cr_expect_eq(status, 3);
    cr_expect(slice_equal(error, SLICE("no such message")));
    frame.payload = slice_first(frame.payload, 3);
    cr_expect(!control_read_end(&frame, &status, &error));
    buf_deinit(&out);
}
