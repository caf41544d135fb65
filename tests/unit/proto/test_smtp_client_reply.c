/* Replies of SMTP servers: what is taken, what is refused, and what of them people get to see. */
#include "proto/smtp_client_reply.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* What became of a wire text: the event that ended it, and the last reply. */
struct outcome {
    enum smtp_reply_event event;
    uint32_t replies;
    uint16_t code;
    uint8_t status[3];
    char text[SMTP_REPLY_TEXT_MAX + 1];
};

static struct outcome feed(struct slice wire, size_t step)
{
    struct smtp_reply_reader reader;
    struct outcome outcome = {.event = SMTP_REPLY_MORE};

    smtp_reply_reader_init(&reader, 2048);
    while (wire.size > 0 && outcome.event != SMTP_REPLY_BAD) {
        struct slice piece = slice_first(wire, step);

        wire = slice_skip(wire, piece.size);
        while (outcome.event != SMTP_REPLY_BAD) {
            enum smtp_reply_event event = smtp_reply_reader_next(&reader, &piece);

            if (event == SMTP_REPLY_MORE)
                break;
            outcome.event = event;
            if (event == SMTP_REPLY_DONE) {
                struct smtp_remote_reply reply = smtp_reply_reader_reply(&reader);

                outcome.replies++;
                outcome.code = reply.code;
                memcpy(outcome.status, reply.status, 3);
                cr_assert(slice_to_cstr(reply.text, outcome.text, sizeof(outcome.text)));
            }
        }
    }
    smtp_reply_reader_deinit(&reader);
    return outcome;
}

struct row {
    const char *name, *wire;
    enum smtp_reply_event event;
    uint16_t code;
    const char *status, *text;
};

static const struct row rows[] = {
    {"one line", "250 ok\r\n", SMTP_REPLY_DONE, 250, "0.0.0", "250 ok"},
    {"no text", "250\r\n", SMTP_REPLY_DONE, 250, "0.0.0", "250"},
    {"no text, a space", "250 \r\n", SMTP_REPLY_DONE, 250, "0.0.0", "250"},
    {"bare LF ends a reply", "250 ok\n", SMTP_REPLY_DONE, 250, "0.0.0", "250 ok"},
    {"no end yet", "250 ok", SMTP_REPLY_MORE, 0, "0.0.0", ""},
    {"no last line yet", "250-ok\r\n", SMTP_REPLY_LINE, 0, "0.0.0", ""},
    {"lines", "250-a\r\n250-b\r\n250 c\r\n", SMTP_REPLY_DONE, 250, "0.0.0", "250 a b c"},
    {"empty lines", "250-\r\n250-b\r\n250\r\n", SMTP_REPLY_DONE, 250, "0.0.0", "250 b"},
    {"status", "550 5.1.1 no\r\n", SMTP_REPLY_DONE, 550, "5.1.1", "550 5.1.1 no"},
    {"status alone", "550 5.1.1\r\n", SMTP_REPLY_DONE, 550, "5.1.1", "550 5.1.1"},
    {"status in each line", "550-5.7.1 a\r\n550 5.7.1 b\r\n", SMTP_REPLY_DONE, 550, "5.7.1",
     "550 5.7.1 a b"},
    {"status that changes", "550-5.7.1 a\r\n550 5.7.2 b\r\n", SMTP_REPLY_DONE, 550, "5.7.1",
     "550 5.7.1 a 5.7.2 b"},
    {"status of another class", "550 4.1.1 no\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 4.1.1 no"},
    {"status of class 3", "354 3.0.0 go\r\n", SMTP_REPLY_DONE, 354, "0.0.0", "354 3.0.0 go"},
    {"status above a byte", "550 5.1.256 no\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 5.1.256 no"},
    {"status of four numbers", "550 5.1.1.1 a\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 5.1.1.1 a"},
    {"status too long", "550 5.0001.1 a\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 5.0001.1 a"},
    {"an address is no status", "550 5.1 x\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 5.1 x"},
    {"escape sequences", "550 \x1b[2Jhi\x07\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 ?[2Jhi?"},
    {"CR inside", "550 a\rSubject: b\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 a?Subject: b"},
    {"two CR at the end", "550 a\r\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 a?"},
    {"eight bits", "550 \xc3\xa4\r\n", SMTP_REPLY_DONE, 550, "0.0.0", "550 ??"},
    {"codes differ", "250-a\r\n251 b\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"class differs", "250-a\r\n550 b\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"no code", "hello\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"HTTP", "HTTP/1.1 400 Bad Request\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"empty line", "\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"two digits", "25\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"four digits", "2500 ok\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"class 1", "150 wait\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"class 6", "650 ok\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"a letter in the code", "2x0 ok\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"a colon behind the code", "250: ok\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
    {"a space before the code", " 250 ok\r\n", SMTP_REPLY_BAD, 0, "0.0.0", ""},
};

/* Goal: the answer never depends on where the network cut the bytes. */
Test(smtp_client_reply, whole_and_trickled_agree)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (size_t step = 1; step <= 64; step = step * 3 + 1) {
            struct outcome got = feed(slice_cstr(rows[i].wire), step);
            char status[16];

            (void)snprintf(status, sizeof(status), "%u.%u.%u", got.status[0], got.status[1],
                           got.status[2]);
            cr_expect_eq(got.event, rows[i].event, "%s, %zu at once", rows[i].name, step);
            cr_expect_eq(got.code, rows[i].code, "%s", rows[i].name);
            cr_expect_str_eq(status, rows[i].status, "%s", rows[i].name);
            cr_expect_str_eq(got.text, rows[i].text, "%s", rows[i].name);
        }
    }
}

Test(smtp_client_reply, nul_is_shown_as_a_question_mark)
{
    struct outcome got = feed(SLICE("550 a\0b\r\n"), SIZE_MAX);

    cr_expect_eq(got.event, SMTP_REPLY_DONE);
    cr_expect_str_eq(got.text, "550 a?b");
}

Test(smtp_client_reply, several_replies_in_one_piece_are_counted)
{
    struct outcome got = feed(SLICE("250 a\r\n250-b\r\n250 c\r\n354 d\r\n"), SIZE_MAX);

    cr_expect_eq(got.replies, 3);
    cr_expect_eq(got.code, 354);
    cr_expect_str_eq(got.text, "354 d", "nothing is left over from the reply before");
}

static struct outcome feed_lines(uint32_t count, size_t step)
{
    struct buf wire;
    struct outcome got;

    buf_init(&wire, MIB);
    for (uint32_t i = 1; i <= count; i++)
        buf_printf(&wire, "250%cline %u\r\n", i == count ? ' ' : '-', i);
    got = feed(buf_slice(&wire), step);
    buf_deinit(&wire);
    return got;
}

Test(smtp_client_reply, a_hundred_lines_are_taken_and_one_more_is_not)
{
    cr_expect_eq(feed_lines(SMTP_REPLY_LINES_MAX, SIZE_MAX).event, SMTP_REPLY_DONE);
    cr_expect_eq(feed_lines(SMTP_REPLY_LINES_MAX + 1, SIZE_MAX).event, SMTP_REPLY_BAD);
    cr_expect_eq(feed_lines(SMTP_REPLY_LINES_MAX + 1, 7).event, SMTP_REPLY_BAD);
}

Test(smtp_client_reply, ten_lines_are_shown)
{
    cr_expect_str_eq(feed_lines(12, SIZE_MAX).text,
                     "250 line 1 line 2 line 3 line 4 line 5 line 6 line 7 line 8 line 9 line 10");
}

/* A line of `size` octets, CRLF counted. */
static struct outcome feed_long_line(size_t size, size_t step)
{
    struct buf wire;
    struct outcome got;

    buf_init(&wire, MIB);
    buf_append(&wire, SLICE("550 "));
    memset(buf_extend(&wire, size - 6), 'x', size - 6);
    buf_append(&wire, SLICE("\r\n"));
    got = feed(buf_slice(&wire), step);
    buf_deinit(&wire);
    return got;
}

Test(smtp_client_reply, the_longest_line_is_taken_and_one_octet_more_is_not)
{
    static const size_t steps[] = {1, 100, SIZE_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        cr_expect_eq(feed_long_line(2048, steps[i]).event, SMTP_REPLY_DONE);
        cr_expect_eq(feed_long_line(2049, steps[i]).event, SMTP_REPLY_BAD);
        cr_expect_eq(strlen(feed_long_line(2048, steps[i]).text), SMTP_REPLY_TEXT_MAX);
    }
}

Test(smtp_client_reply, an_endless_line_is_refused_before_its_end)
{
    struct smtp_reply_reader reader;
    uint8_t bytes[1000];
    enum smtp_reply_event event = SMTP_REPLY_MORE;

    memset(bytes, '2', sizeof(bytes));
    smtp_reply_reader_init(&reader, 2048);
    for (int i = 0; i < 3; i++) {
        struct slice piece = slice_of(bytes, sizeof(bytes));

        event = smtp_reply_reader_next(&reader, &piece);
    }
    cr_expect_eq(event, SMTP_REPLY_BAD);
    cr_expect_leq(reader.cut.capacity, 2048);
    smtp_reply_reader_deinit(&reader);
}

Test(smtp_client_reply, what_is_bad_stays_bad)
{
    struct smtp_reply_reader reader;
    struct slice nonsense = SLICE("nonsense\r\n"), good = SLICE("250 ok\r\n");

    smtp_reply_reader_init(&reader, 2048);
    cr_expect_eq(smtp_reply_reader_next(&reader, &nonsense), SMTP_REPLY_BAD);
    cr_expect_eq(smtp_reply_reader_next(&reader, &good), SMTP_REPLY_BAD);
    cr_expect_not_null(reader.fault);
    smtp_reply_reader_deinit(&reader);
}

Test(smtp_client_reply, at_rest_no_memory_is_held)
{
    struct smtp_reply_reader reader;
    struct slice first = SLICE("250 a fairly"), second = SLICE(" long line\r\n");

    smtp_reply_reader_init(&reader, 2048);
    cr_expect_eq(smtp_reply_reader_next(&reader, &first), SMTP_REPLY_MORE);
    cr_expect(smtp_reply_reader_in_midst(&reader));
    cr_expect_eq(smtp_reply_reader_next(&reader, &second), SMTP_REPLY_DONE);
    cr_expect_not(smtp_reply_reader_in_midst(&reader));
    smtp_reply_reader_rest(&reader);
    cr_expect_null(reader.cut.data);
    cr_expect_null(reader.text.data);
    smtp_reply_reader_deinit(&reader);
}
