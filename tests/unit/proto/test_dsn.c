/* Delivery reports: whole once, then everything that others wrote is hostile. */
#include "proto/dsn.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const struct dsn_recipient refused = {
    .address = SLICE("siapa@kawan.test"),
    .status = {5, 1, 1},
    .remote_host = SLICE("mx.kawan.test"),
    .reply = SLICE("550 5.1.1 no such user"),
};

static struct dsn sample(const struct dsn_recipient *recipients, size_t count)
{
    return (struct dsn){
        .hostname = SLICE("mail.debianindonesia.test"),
        .queue_id = SLICE("7K2A9"),
        .report_id = SLICE("r7K2B0"),
        .sender = SLICE("penulis@debianindonesia.test"),
        .arrival_s = 1795300000,
        .now_s = 1795300060,
        .zone_offset_s = 7 * 3600,
        .recipients = recipients,
        .recipient_count = count,
        .headers = SLICE("Subject: halo\r\nTo: siapa@kawan.test\r\n\r\nnot this\r\n"),
    };
}

/* The report as text; what must hold for every report is checked here. */
static char *write_report(const struct dsn *dsn)
{
    struct buf out;
    char *text;
    size_t line = 0;

    buf_init(&out, 4 * MIB);
    dsn_write(&out, dsn);
    cr_assert_not(out.failed);
    for (size_t i = 0; i < out.size; i++) {
        uint8_t byte = out.data[i];

        cr_assert_lt(byte, 0x7f, "seven bits");
        cr_assert(byte >= 0x20 || byte == '\t' || byte == '\r' || byte == '\n');
        cr_assert_eq(byte == '\n', i > 0 && out.data[i - 1] == '\r', "CR and LF come in pairs");
        line = byte == '\n' ? 0 : line + 1;
        cr_assert_leq(line, 998);
    }
    cr_assert_eq(line, 0, "the last line has an end");
    text = malloc(out.size + 1);
    cr_assert(slice_to_cstr(buf_slice(&out), text, out.size + 1));
    buf_deinit(&out);
    return text;
}

static size_t occurrences(const char *text, const char *what)
{
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

Test(dsn, a_whole_report)
{
    struct dsn dsn = sample(&refused, 1);
    char *text = write_report(&dsn);

    cr_expect_str_eq(text,
                     "From: Mail Delivery System <MAILER-DAEMON@mail.debianindonesia.test>\r\n"
                     "To: <penulis@debianindonesia.test>\r\n"
                     "Subject: Your message could not be delivered\r\n"
                     "Date: Sun, 22 Nov 2026 05:27:40 +0700\r\n"
                     "Message-ID: <r7K2B0@mail.debianindonesia.test>\r\n"
                     "Auto-Submitted: auto-replied\r\n"
                     "MIME-Version: 1.0\r\n"
                     "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                     " boundary=\"kilat-report-r7K2B0\"\r\n"
                     "\r\n"
                     "--kilat-report-r7K2B0\r\n"
                     "Content-Type: text/plain; charset=us-ascii\r\n"
                     "\r\n"
                     "This is the mail server mail.debianindonesia.test.\r\n"
                     "\r\n"
                     "Your message of Sun, 22 Nov 2026 05:26:40 +0700\r\n"
                     "could not be delivered to:\r\n"
                     "\r\n"
                     "<siapa@kawan.test>\r\n"
                     "    mx.kawan.test says:\r\n"
                     "    550 5.1.1 no such user\r\n"
                     "\r\n"
                     "No more attempts will be made. The header of your message is attached.\r\n"
                     "\r\n"
                     "--kilat-report-r7K2B0\r\n"
                     "Content-Type: message/delivery-status\r\n"
                     "\r\n"
                     "Reporting-MTA: dns; mail.debianindonesia.test\r\n"
                     "X-Kilat-Queue-Id: 7K2A9\r\n"
                     "Arrival-Date: Sun, 22 Nov 2026 05:26:40 +0700\r\n"
                     "\r\n"
                     "Final-Recipient: rfc822; siapa@kawan.test\r\n"
                     "Action: failed\r\n"
                     "Status: 5.1.1\r\n"
                     "Remote-MTA: dns; mx.kawan.test\r\n"
                     "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
                     "\r\n"
                     "--kilat-report-r7K2B0\r\n"
                     "Content-Type: text/rfc822-headers\r\n"
                     "\r\n"
                     "Subject: halo\r\n"
                     "To: siapa@kawan.test\r\n"
                     "\r\n"
                     "--kilat-report-r7K2B0--\r\n");
    free(text);
}

Test(dsn, our_own_refusal_names_no_remote_host)
{
    const struct dsn_recipient ours = {
        .address = SLICE("a@kawan.test"), .status = {5, 6, 3}, .reply = SLICE("no 8BITMIME there")};
    struct dsn dsn = sample(&ours, 1);
    char *text = write_report(&dsn);

    cr_expect_null(strstr(text, "Remote-MTA"));
    cr_expect_not_null(strstr(text, "\r\nDiagnostic-Code: x-kilat; no 8BITMIME there\r\n"));
    free(text);
}

Test(dsn, each_recipient_has_its_group)
{
    struct dsn_recipient many[50];
    struct dsn dsn = sample(many, ARRAY_SIZE(many));
    char *text;

    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = refused;
    text = write_report(&dsn);
    cr_expect_eq(occurrences(text, "\r\n\r\nFinal-Recipient: "), 50);
    cr_expect_eq(occurrences(text, "\r\nAction: failed\r\nStatus: 5.1.1\r\n"), 50);
    free(text);
}

struct status_row {
    const char *name;
    uint8_t status[3];
    bool expired;
    const char *want;
};

Test(dsn, status_is_always_that_of_a_failure)
{
    static const struct status_row rows[] = {
        {"none", {0, 0, 0}, false, "\r\nStatus: 5.0.0\r\n"},
        {"none, expired", {0, 0, 0}, true, "\r\nStatus: 4.4.7\r\n"},
        {"success", {2, 1, 5}, false, "\r\nStatus: 5.0.0\r\n"},
        {"temporary, expired", {4, 4, 1}, true, "\r\nStatus: 4.4.1\r\n"},
        {"largest", {5, 255, 255}, false, "\r\nStatus: 5.255.255\r\n"},
        {"nonsense", {200, 1, 1}, false, "\r\nStatus: 5.0.0\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct dsn_recipient recipient = refused;
        struct dsn dsn = sample(&recipient, 1);
        char *text;

        memcpy(recipient.status, rows[i].status, 3);
        dsn.expired = rows[i].expired;
        text = write_report(&dsn);
        cr_expect_not_null(strstr(text, rows[i].want), "%s", rows[i].name);
        cr_expect_eq(strstr(text, "time for that has run out") != NULL, rows[i].expired);
        free(text);
    }
}

/* Goal: no text of others adds a field, a part or a line. Method: put an injection everywhere. */
Test(dsn, nothing_that_others_wrote_ends_its_line)
{
    const struct slice attack =
        SLICE("x\r\nBcc: victim@kawan.test\r\n\r\n--kilat-report-r7K2B0--\r\n\x1b[2J\xff\0y");
    const struct dsn_recipient recipient = {
        .address = attack, .status = {5, 1, 1}, .remote_host = attack, .reply = attack};
    struct dsn dsn = sample(&recipient, 1);
    char *text;

    dsn.hostname = dsn.sender = dsn.queue_id = attack;
    text = write_report(&dsn);
    cr_expect_null(strstr(text, "\nBcc:"));
    cr_expect_null(strstr(text, "\r\n\r\n--kilat-report-r7K2B0--\r\n\x1b"));
    cr_expect_eq(occurrences(text, "\n--kilat-report-r7K2B0\r\n"), 3);
    cr_expect_eq(occurrences(text, "\n--kilat-report-r7K2B0--\r\n"), 1);
    cr_expect_eq(occurrences(text, "\nFinal-Recipient:"), 1);
    cr_expect_not_null(strstr(text, "To: <x??Bcc: victim@kawan.test???"
                                    "?--kilat"));
    free(text);
}

Test(dsn, the_boundary_is_made_of_plain_letters)
{
    struct dsn dsn = sample(&refused, 1);
    char *text;

    dsn.report_id = SLICE("a\"b\r\nc d/e.f>0123456789012345678901234567890123456789");
    text = write_report(&dsn);
    cr_expect_not_null(
        strstr(text, " boundary=\"kilat-report-a-b--c-d-e-f-012345678901234567890123456\"\r\n"));
    cr_expect_not_null(strstr(text, "\r\nMessage-ID: <a-b--c-d-e-f-012345678901234567890123456@"));
    free(text);
}

struct headers_row {
    const char *name;
    struct slice headers;
    const char *want;
};

Test(dsn, returned_headers)
{
    static const struct headers_row rows[] = {
        {"nothing", SLICE(""), ""},
        {"body only", SLICE("\r\nbody\r\n"), ""},
        {"bare LF", SLICE("a: b\nc: d\n\nbody\n"), "a: b\r\nc: d\r\n"},
        {"no end", SLICE("a: b\r\nc: d"), "a: b\r\nc: d\r\n"},
        {"folded with a tab", SLICE("a: b\r\n\tc\r\n\r\n"), "a: b\r\n\tc\r\n"},
        {"8 bits", SLICE("a: \xc3\xa4\r\n\r\n"), "a: ??\r\n"},
        {"bare CR and NUL", SLICE("a: b\rc\0d\r\n\r\n"), "a: b?c?d\r\n"},
        {"a delimiter of ours", SLICE("--kilat-report-r7K2B0--\r\na: b\r\n\r\n"),
         "?-kilat-report-r7K2B0--\r\na: b\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct dsn dsn = sample(&refused, 1);
        char *text, *at;

        dsn.headers = rows[i].headers;
        text = write_report(&dsn);
        at = strstr(text, "Content-Type: text/rfc822-headers\r\n\r\n");
        cr_assert_not_null(at);
        at = strstr(at, "\r\n\r\n") + 4;
        cr_expect_eq(strncmp(at, rows[i].want, strlen(rows[i].want)), 0, "%s: %s", rows[i].name,
                     at);
        cr_expect_str_eq(at + strlen(rows[i].want), "\r\n--kilat-report-r7K2B0--\r\n", "%s",
                         rows[i].name);
        free(text);
    }
}

Test(dsn, a_long_header_is_cut_behind_a_line)
{
    struct dsn dsn = sample(&refused, 1);
    struct buf headers;
    char *text;

    buf_init(&headers, MIB);
    while (headers.size < 100 * KIB)
        buf_append(&headers, SLICE("X-Filler: 0123456789012345678901234567890123456789\r\n"));
    dsn.headers = buf_slice(&headers);
    text = write_report(&dsn);
    cr_expect_lt(strlen(text), 68 * KIB);
    cr_expect_gt(strlen(text), 64 * KIB);
    cr_expect_eq(occurrences(text, "X-Filler"), occurrences(text, "6789\r\n"));
    free(text);
    buf_deinit(&headers);
}

Test(dsn, long_lines_of_others_are_broken)
{
    static uint8_t filler[5000];
    struct dsn_recipient recipient = refused;
    struct dsn dsn = sample(&recipient, 1);
    char *text;

    memset(filler, 'x', sizeof(filler));
    dsn.headers = slice_of(filler, sizeof(filler));
    recipient.reply = recipient.address = recipient.remote_host = dsn.headers;
    dsn.sender = dsn.hostname = dsn.queue_id = dsn.headers;
    text = write_report(&dsn); /* which looks at every line */
    free(text);
}

Test(dsn, words_of_a_reply_are_not_broken)
{
    struct dsn_recipient recipient = refused;
    struct dsn dsn = sample(&recipient, 1);
    char *text;

    recipient.reply =
        SLICE("550 5.7.1 your message was refused because the network it came from is "
              "listed, see https://lists.example/why?address=192.0.2.1 for the reason");
    text = write_report(&dsn);
    cr_expect_not_null(strstr(
        text, "\r\nDiagnostic-Code: smtp; 550 5.7.1 your message was refused because the\r\n    "
              "network it came from is listed, see"));
    cr_expect_eq(occurrences(text, " https://lists.example/why?address=192.0.2.1"), 2);
    free(text);
}

Test(dsn, a_full_buffer_is_the_callers_to_see)
{
    struct dsn dsn = sample(&refused, 1);
    struct buf out;

    buf_init(&out, 100);
    dsn_write(&out, &dsn);
    cr_expect(out.failed);
    buf_deinit(&out);
}
