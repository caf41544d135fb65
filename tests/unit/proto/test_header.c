#include "proto/header.h"

#include <criterion/criterion.h>
#include <time.h>

static const char *text_of(struct buf *buf)
{
    buf_append_byte(buf, 0);
    cr_assert_not(buf->failed);
    return (const char *)buf->data;
}

Test(header, date_of_known_days)
{
    static const struct {
        int64_t wall_s;
        int32_t zone_offset_s;
        const char *want;
    } rows[] = {
        {0, 0, "Thu, 1 Jan 1970 00:00:00 +0000"},
        {951827696, 0, "Tue, 29 Feb 2000 12:34:56 +0000"},
        {1795559400, 25200, "Wed, 25 Nov 2026 05:30:00 +0700"},
        {1795559400, -12600, "Tue, 24 Nov 2026 19:00:00 -0330"},
        {-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000"},
        {4107542400, 0, "Mon, 1 Mar 2100 00:00:00 +0000"},
    };
    char text[HEADER_DATE_SIZE];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        header_date(rows[i].wall_s, rows[i].zone_offset_s, text);
        cr_expect_str_eq(text, rows[i].want);
    }
}

/* Against libc, a step of a little more than a month through six centuries. */
Test(header, date_agrees_with_libc)
{
    char text[HEADER_DATE_SIZE], want[HEADER_DATE_SIZE];

    for (int64_t wall_s = 0; wall_s < 20000000000; wall_s += 2764813) {
        time_t then = (time_t)wall_s;
        struct tm tm;

        cr_assert_not_null(gmtime_r(&then, &tm));
        cr_assert(strftime(want, sizeof(want), "%a, %-d %b %Y %H:%M:%S +0000", &tm) > 0);
        header_date(wall_s, 0, text);
        cr_assert_str_eq(text, want);
    }
}

Test(header, date_survives_nonsense)
{
    static const int64_t extremes[] = {INT64_MIN / 4, -62135596801, 253402300800, INT64_MAX / 4};
    char text[HEADER_DATE_SIZE];

    for (size_t i = 0; i < ARRAY_SIZE(extremes); i++)
        header_date(extremes[i], INT32_MAX, text);
}

Test(header, received_is_one_folded_field)
{
    struct buf out;
    struct header_received received = {
        .helo = SLICE("client.example"),
        .client = SLICE("IPv6:2001:db8::1"),
        .by = SLICE("mx.kawan.test"),
        .protocol = SLICE("ESMTP"),
        .id = SLICE("1-2A"),
        .recipient = SLICE("fadli@kawan.test"),
        .wall_s = 0,
    };

    buf_init(&out, 4096);
    header_write_received(&out, &received);
    cr_expect_str_eq(text_of(&out), "Received: from client.example ([IPv6:2001:db8::1])\r\n"
                                    "\tby mx.kawan.test with ESMTP id 1-2A\r\n"
                                    "\tfor <fadli@kawan.test>;\r\n"
                                    "\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
    buf_deinit(&out);
}

Test(header, received_names_nobody_when_there_are_several_recipients)
{
    struct buf out;
    struct header_received received = {
        .helo = SLICE("x"), .by = SLICE("y"), .protocol = SLICE("SMTP")};

    buf_init(&out, 4096);
    header_write_received(&out, &received);
    cr_expect_str_eq(
        text_of(&out),
        "Received: from x\r\n\tby y with SMTP;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
    buf_deinit(&out);
}

/* Goal: whatever a client calls itself, the field it is put into stays one field (SECURITY 1.2 B).
 */
Test(header, received_of_a_hostile_name_parses_back_to_one_field)
{
    uint8_t hostile[256];
    struct header_scan scan;
    struct buf out;

    for (unsigned i = 0; i < sizeof(hostile); i++)
        hostile[i] = (uint8_t)i;
    buf_init(&out, 4096);
    header_write_received(&out, &(struct header_received){
                                    .helo = slice_of(hostile, sizeof(hostile)),
                                    .client = slice_of(hostile, sizeof(hostile)),
                                    .by = SLICE("mx\r\nX: y"),
                                    .protocol = SLICE("ESMTP\n"),
                                    .id = SLICE("a\0b"),
                                    .recipient = SLICE("x\r\n\r\ny@z"),
                                });
    buf_append(&out, SLICE("\r\n"));
    header_scan_init(&scan);
    header_scan_feed(&scan, buf_slice(&out));
    cr_expect(scan.ended);
    cr_expect_eq(scan.bytes, out.size, "no blank line but ours");
    cr_expect_eq(scan.received_count, 1);
    for (size_t i = 0; i < out.size; i++) {
        cr_expect(out.data[i] < 0x7f);
        if (out.data[i] == '\n')
            cr_expect(i + 1 == out.size || out.data[i + 1] == '\t' || out.data[i + 1] == '\r');
    }
    buf_deinit(&out);
}

Test(header, return_path)
{
    struct buf out;

    buf_init(&out, 4096);
    header_write_return_path(&out, SLICE("a@b.test"));
    header_write_return_path(&out, SLICE_NONE);
    header_write_return_path(&out, SLICE("a\r\nb"));
    cr_expect_str_eq(text_of(&out),
                     "Return-Path: <a@b.test>\r\nReturn-Path: <>\r\nReturn-Path: <a??b>\r\n");
    buf_deinit(&out);
}

static const struct {
    const char *name;
    const char *text;
    uint32_t received;
    uint64_t bytes;
    bool ended, folded;
} rows[] = {
    {"one", "Received: a\r\n\r\nReceived: b\r\n", 1, 15, true, false},
    {"in any case", "RECEIVED: a\r\nreceived: b\r\n\r\n", 2, 28, true, false},
    {"blanks before the colon", "Received \t: a\r\n\r\n", 1, 17, true, false},
    {"longer names are others", "Received-SPF: a\r\nXReceived: b\r\nReceive: c\r\n\r\n", 0, 45,
     true, false},
    {"a folded line is no field", "Subject: x\r\n Received: y\r\n\r\n", 0, 28, true, false},
    {"cut names", "Rec\r\nReceived\r\nReceived: x\r\n\r\n", 1, 30, true, false},
    {"blank line first", "\r\nReceived: a\r\n", 0, 2, true, false},
    {"no blank line", "Subject: x\r\n", 0, 12, false, false},
    {"a space first", " Received: a\r\n\r\n", 0, 16, true, true},
    {"a tab first", "\tx\r\n\r\n", 0, 6, true, true},
    {"CR alone is no blank line", "\rReceived: a\r\n\r\n", 0, 16, true, false},
    {"the name twice in one line", "Received: Received: a\r\n\r\n", 1, 25, true, false},
    {"empty", "", 0, 0, false, false},
};

Test(header, scan_whole_and_trickled_agree)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (size_t step = 1; step < 64; step++) {
            struct slice text = slice_cstr(rows[i].text);
            struct header_scan scan;

            header_scan_init(&scan);
            for (; text.size > 0; text = slice_skip(text, step))
                header_scan_feed(&scan, slice_first(text, step));
            cr_expect_eq(scan.received_count, rows[i].received, "%s, by %zu", rows[i].name, step);
            cr_expect_eq(scan.bytes, rows[i].bytes, "%s, by %zu: %lu", rows[i].name, step,
                         (unsigned long)scan.bytes);
            cr_expect_eq(scan.ended, rows[i].ended, "%s, by %zu", rows[i].name, step);
            cr_expect_eq(scan.starts_folded, rows[i].folded, "%s, by %zu", rows[i].name, step);
        }
    }
}
