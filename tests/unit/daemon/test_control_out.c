#include "daemon/control_out.h"
#include <criterion/criterion.h>
#include <signal.h>

static struct control_out begin(struct buf *buf, bool json)
{
    buf_init(buf, 4 * KIB);
    return (struct control_out){.buf = buf, .json = json};
}

static const char *text_of(struct buf *buf)
{
    buf_append_byte(buf, 0);
    return (const char *)buf->data;
}

static void write_all(struct control_out *out)
{
    control_out_begin(out);
    control_out_text(out, "host", SLICE("mx.test"));
    control_out_u64(out, "count", 18446744073709551615ull);
    control_out_bool(out, "on", true);
    control_out_bytes(out, "size", 1536);
    control_out_time(out, "next", 60, 0);
    control_out_end(out);
    control_out_begin(out);
    control_out_cstr(out, "host", "");
    control_out_end(out);
}

Test(control_out, json_is_objects_parted_by_commas)
{
    struct buf buf;
    struct control_out out = begin(&buf, true);

    write_all(&out);
    cr_expect_str_eq(text_of(&buf),
                     "{\"host\": \"mx.test\", \"count\": 18446744073709551615, "
                     "\"on\": true, \"size\": 1536, \"next\": 60},\n{\"host\": \"\"}");
    buf_deinit(&buf);
}

Test(control_out, people_read_aligned_lines)
{
    struct buf buf;
    struct control_out out = begin(&buf, false);

    write_all(&out);
    cr_expect_str_eq(text_of(&buf), "host                       mx.test\n"
                                    "count                      18446744073709551615\n"
                                    "on                         yes\n"
                                    "size                       1.5 KiB\n"
                                    "next                       1970-01-01 00:01:00 UTC (in 1m)\n"
                                    "\n"
                                    "host                       -\n");
    buf_deinit(&buf);
}

/* What a peer wrote (a reply, a name) may neither end a JSON string nor move the cursor of a terminal. */
Test(control_out, texts_of_strangers_are_tamed)
{
    struct buf buf;
    struct control_out out = begin(&buf, true);

    control_out_begin(&out);
    control_out_text(&out, "reply", SLICE("a\"b\\c\r\n\x1b[2J\x00\xff\x7f"));
    cr_expect_str_eq(text_of(&buf),
                     "{\"reply\": \"a\\\"b\\\\c\\u000d\\u000a\\u001b[2J\\u0000\\u00ff\\u007f\"");
    buf_deinit(&buf);
    out = begin(&buf, false);
    control_out_begin(&out);
    control_out_text(&out, "reply", SLICE("a\"b\\c\r\n\x1b[2J\x00\xff\x7f"));
    cr_expect_str_eq(text_of(&buf), "reply                      a\"b\\c???[2J???\n");
    buf_deinit(&buf);
}

Test(control_out, times_lie_ahead_or_behind)
{
    static const struct {
        uint64_t wall_s, now_s;
        const char *wanted;
    } rows[] = {
        {0, 100, "t                          now\n"},
        {100, 100, "t                          1970-01-01 00:01:40 UTC (0s ago)\n"},
        {40, 100, "t                          1970-01-01 00:00:40 UTC (1m ago)\n"},
        {90161, 0, "t                          1970-01-02 01:02:41 UTC (in 1d1h)\n"},
        /* What no calendar knows is still an answer. */
        {INT64_MAX, 0, "t                          9223372036854775807 (in 106751991167300d15h)\n"},
        {UINT64_MAX, 0,
         "t                          18446744073709551615 (in 213503982334601d7h)\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct buf buf;
        struct control_out out = begin(&buf, false);

        control_out_begin(&out);
        control_out_time(&out, "t", rows[i].wall_s, rows[i].now_s);
        cr_expect_str_eq(text_of(&buf), rows[i].wanted, "%s", (char *)buf.data);
        buf_deinit(&buf);
    }
}

Test(control_out, spans_show_two_units_and_fit)
{
    static const struct {
        uint64_t seconds;
        const char *wanted;
    } rows[] = {
        {0, "0s"},         {59, "59s"},   {60, "1m"},      {3601, "1h1s"},
        {86399, "23h59m"}, {86400, "1d"}, {90061, "1d1h"}, {UINT64_MAX, "213503982334601d7h"}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char text[64];
        control_out_span(text, sizeof(text), rows[i].seconds);
        cr_expect_str_eq(text, rows[i].wanted);
    }
}

Test(control_out, bytes_go_up_to_tebibytes)
{
    struct buf buf;
    struct control_out out = begin(&buf, false);

    control_out_begin(&out);
    control_out_bytes(&out, "a", 0);
    control_out_bytes(&out, "b", 1023);
    control_out_bytes(&out, "c", UINT64_MAX);
    cr_expect_str_eq(text_of(&buf), "a                          0 bytes\n"
                                    "b                          1023 bytes\n"
                                    "c                          16777216.0 TiB\n");
    buf_deinit(&buf);
}

Test(control_out, an_object_within_an_object_is_our_own_fault, .signal = SIGABRT)
{
    struct buf buf;
    struct control_out out = begin(&buf, true);

    control_out_begin(&out);
    control_out_begin(&out);
}
