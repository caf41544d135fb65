#include "core/log.h"
#include <criterion/criterion.h>
#include <stdio.h>

#define TIME_NS (1795819124ull * SECOND_NS + 5 * US_NS) /* 2026-11-27T22:38:44 UTC */

static void expect_text(struct log *log, const char *want)
{
    char text[4096];
    size_t size = log_take(log, text, sizeof(text) - 1);

    text[size] = '\0';
    cr_expect_str_eq(text, want);
}

static struct log *new_log(size_t size_bytes, enum log_format format)
{
    struct log *log = NULL;

    cr_assert_eq(log_create(size_bytes, LOG_INFO, format, &log), 0);
    log_set_time(log, TIME_NS);
    return log;
}

Test(log, writes_logfmt)
{
    struct log *log = new_log(4096, LOG_LOGFMT);

    log_event(log, LOG_NOTICE, "smtp.rcpt.refused", log_u64("session", 12), log_i64("code", -5),
              log_bool("tls", true), log_cstr("rcpt", "a@b.example"));
    expect_text(log, "time=2026-11-27T22:38:44.000005Z level=notice event=smtp.rcpt.refused "
                     "session=12 code=-5 tls=true rcpt=a@b.example\n");
    log_event(log, LOG_DEBUG, "not.wanted");
    expect_text(log, "");
    log_event_fields(NULL, LOG_ERROR, "nobody.listens", NULL);
    log_destroy(&log);
    cr_expect_null(log);
}

Test(log, writes_json)
{
    struct log *log = new_log(4096, LOG_JSON);

    log_event(log, LOG_ERROR, "disk.full", log_text("path", SLICE("/a \"b\"\\\n\x80")),
              log_i64("least", INT64_MIN));
    expect_text(log, "{\"time\":\"2026-11-27T22:38:44.000005Z\",\"level\":\"error\","
                     "\"event\":\"disk.full\",\"path\":\"/a \\\"b\\\"\\\\\\u000a\\u0080\","
                     "\"least\":-9223372036854775808}\n");
    log_destroy(&log);
}

struct escape_row {
    struct slice text;
    const char *want;
};

#define BYTES(text)                                                                                \
    {                                                                                              \
        (const uint8_t *)text, sizeof(text) - 1                                                    \
    }
static const struct escape_row escape_rows[] = {
    {BYTES(""), "\"\""},
    {BYTES("plain-1.x"), "plain-1.x"},
    {BYTES("two words"), "\"two words\""},
    {BYTES("a=b"), "\"a=b\""},
    {BYTES("line\r\nlevel=error event=forged"), "\"line\\x0d\\x0alevel=error event=forged\""},
    {BYTES("\x1b[2J"), "\"\\x1b[2J\""},
    {BYTES("\xc2\x9b"
           "31m"),
     "\"\\xc2\\x9b31m\""},
    {BYTES("a\0b"), "\"a\\x00b\""},
    {BYTES("\\x0a"), "\"\\\\x0a\""},
    {BYTES("\x7f"), "\"\\x7f\""},
};

Test(log, a_peer_makes_no_lines_and_no_fields)
{
    for (size_t i = 0; i < ARRAY_SIZE(escape_rows); i++) {
        struct log *log = new_log(4096, LOG_LOGFMT);
        char want[512];

        log_event(log, LOG_NOTICE, "e", log_text("x", escape_rows[i].text));
        (void)snprintf(want, sizeof(want),
                       "time=2026-11-27T22:38:44.000005Z level=notice event=e x=%s\n",
                       escape_rows[i].want);
        expect_text(log, want);
        log_destroy(&log);
    }
}

Test(log, a_long_text_is_cut)
{
    static uint8_t text[100000];
    static char out[200000];
    struct log *log = new_log(65536, LOG_LOGFMT);
    size_t size;

    memset(text, 0xff, sizeof(text));
    log_event(log, LOG_NOTICE, "e", log_text("x", slice_of(text, sizeof(text))));
    size = log_take(log, out, sizeof(out));
    cr_expect_gt(size, 4096);
    cr_expect_lt(size, 4300);
    cr_expect_eq(out[size - 1], '\n');
    log_destroy(&log);
}

Test(log, drops_when_full_and_tells_later)
{
    struct log *log = new_log(256, LOG_LOGFMT);
    char text[4096];

    for (int i = 0; i < 10; i++)
        log_event(log, LOG_NOTICE, "many", log_u64("i", (uint64_t)i));
    cr_expect(log_is_pressing(log));
    cr_expect_eq(log_dropped(log), 6, "four lines of 61 bytes fit into 256");
    cr_expect_eq(log_take(log, text, sizeof(text)), 244);
    cr_expect(!log_is_pressing(log));
    log_event(log, LOG_NOTICE, "again");
    expect_text(log, "time=2026-11-27T22:38:44.000005Z level=warning event=log.dropped lines=6\n"
                     "time=2026-11-27T22:38:44.000005Z level=notice event=again\n");
    log_event(log, LOG_NOTICE, "once");
    expect_text(log, "time=2026-11-27T22:38:44.000005Z level=notice event=once\n");
    log_destroy(&log);
}

static void count_press(void *context)
{
    ++*(int *)context;
}

Test(log, asks_for_its_writer_once_when_it_becomes_half_full)
{
    struct log *log = new_log(1024, LOG_LOGFMT);
    char text[4096];
    int presses = 0;

    log_on_pressing(log, count_press, &presses);
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 8; i++)
            log_event(log, LOG_NOTICE, "e"); /* 54 bytes */
        cr_expect_eq(presses, round - 1);
        for (int i = 0; i < 20; i++)
            log_event(log, LOG_NOTICE, "e");
        cr_expect_eq(presses, round);
        (void)log_take(log, text, sizeof(text));
    }
    log_destroy(&log);
}

/* Lines wrap around the memory's end at every offset. */
Test(log, wraps_without_a_seam)
{
    struct log *log = new_log(128, LOG_LOGFMT);

    for (int i = 0; i < 300; i++) {
        char want[128];

        log_event(log, LOG_NOTICE, "wrap", log_u64("i", (uint64_t)i));
        (void)snprintf(want, sizeof(want),
                       "time=2026-11-27T22:38:44.000005Z level=notice event=wrap i=%d\n", i);
        expect_text(log, want);
    }
    log_destroy(&log);
}

struct date_row {
    uint64_t second;
    const char *want;
};

static const struct date_row date_rows[] = {
    {0, "1970-01-01T00:00:00"},          {951782400, "2000-02-29T00:00:00"},
    {951868799, "2000-02-29T23:59:59"},  {951868800, "2000-03-01T00:00:00"},
    {1709164800, "2024-02-29T00:00:00"}, {1735689599, "2024-12-31T23:59:59"},
    {4107542400, "2100-03-01T00:00:00"},
};

Test(log, knows_the_calendar)
{
    struct log *log = new_log(4096, LOG_LOGFMT);

    for (size_t i = 0; i < ARRAY_SIZE(date_rows); i++) {
        char text[256] = "";

        log_set_time(log, date_rows[i].second * SECOND_NS);
        log_event(log, LOG_NOTICE, "e");
        (void)log_take(log, text, sizeof(text) - 1);
        text[24] = '\0';
        cr_expect_str_eq(text + 5, date_rows[i].want);
    }
    log_destroy(&log);
}
