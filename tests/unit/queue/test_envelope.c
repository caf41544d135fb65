#include "queue/envelope.h"

#include <criterion/criterion.h>
#include <errno.h>

static struct slice written(struct buf *buf, const struct envelope_parts *parts)
{
    buf_init(buf, ENVELOPE_BYTES_MAX);
    cr_assert_eq(envelope_write(buf, parts), 0);
    return buf_slice(buf);
}

Test(envelope, what_is_written_is_read_again)
{
    const struct slice recipients[] = {SLICE("a@b.c"), SLICE("postmaster"), SLICE("\"x@y\"@z")};
    const uint32_t units[] = {3, 9999};
    struct envelope_parts parts = {
        .sender = SLICE("s@t"),
        .client = SLICE("192.0.2.1"),
        .helo = SLICE("mx.example"),
        .recipients = recipients,
        .recipient_count = 3,
        .report_of = 0x1122334455667788,
        .report_units = units,
        .report_unit_count = 2,
    };
    struct envelope envelope;
    struct slice rest, recipient;
    struct buf buf;

    cr_assert_eq(envelope_parse(written(&buf, &parts), &envelope), 0);
    cr_expect(slice_equal(envelope.sender, parts.sender));
    cr_expect(slice_equal(envelope.client, parts.client));
    cr_expect(slice_equal(envelope.helo, parts.helo));
    cr_expect_eq(envelope.report_of, parts.report_of);
    cr_expect_eq(envelope.recipient_count, 3);
    cr_expect_eq(envelope_report_unit_count(&envelope), 2);
    cr_expect_eq(envelope_report_unit(&envelope, 0), 3);
    cr_expect_eq(envelope_report_unit(&envelope, 1), 9999);
    rest = envelope.recipients;
    for (size_t i = 0; i < 3; i++) {
        cr_assert(envelope_next(&rest, &recipient));
        cr_expect(slice_equal(recipient, recipients[i]));
    }
    cr_expect_not(envelope_next(&rest, &recipient));
    buf_deinit(&buf);
}

Test(envelope, the_format_stays_what_it_is)
{
    const struct slice recipients[] = {SLICE("r")};
    struct envelope_parts parts = {.recipients = recipients, .recipient_count = 1};
    struct buf buf;

    cr_expect(slice_equal(written(&buf, &parts), SLICE("\1"
                                                       "\1\0\0"
                                                       "\2\1\0r")));
    buf_deinit(&buf);
}

Test(envelope, what_cannot_be_written)
{
    static char big[ENVELOPE_FIELD_MAX + 1];
    const struct slice one[] = {SLICE("r")}, empty[] = {SLICE("")},
                       wide[] = {slice_of(big, sizeof(big))};
    struct envelope_parts parts = {.recipients = one};
    struct buf buf;

    buf_init(&buf, ENVELOPE_BYTES_MAX);
    cr_expect_eq(envelope_write(&buf, &parts), -EINVAL, "no recipient");
    parts.recipient_count = ENVELOPE_RECIPIENTS_MAX + 1;
    cr_expect_eq(envelope_write(&buf, &parts), -EINVAL, "too many");
    parts.recipient_count = 1;
    parts.recipients = empty;
    cr_expect_eq(envelope_write(&buf, &parts), -EINVAL, "an empty one");
    parts.recipients = wide;
    cr_expect_eq(envelope_write(&buf, &parts), -EINVAL, "a field longer than its length says");
    parts.recipients = one;
    parts.report_unit_count = 1;
    cr_expect_eq(envelope_write(&buf, &parts), -EINVAL, "units of no report");
    buf_deinit(&buf);
    buf_init(&buf, 5);
    parts.report_unit_count = 0;
    cr_expect_eq(envelope_write(&buf, &parts), -E2BIG);
    buf_deinit(&buf);
}

struct row {
    const char *name;
    struct slice bytes;
    int want;
};

#define S "\1\0\0"
#define R "\2\1\0r"
static const struct row rows[] = {
    {"the least", {(const uint8_t *)"\1" S R, 8}, 0},
    {"nothing", {(const uint8_t *)"", 0}, -EBADMSG},
    {"version alone", {(const uint8_t *)"\1", 1}, -EBADMSG},
    {"another version", {(const uint8_t *)"\2" S R, 8}, -EBADMSG},
    {"no recipient", {(const uint8_t *)"\1" S, 4}, -EBADMSG},
    {"no sender", {(const uint8_t *)"\1" R, 5}, -EBADMSG},
    {"sender behind a recipient", {(const uint8_t *)"\1" R S, 8}, -EBADMSG},
    {"two senders", {(const uint8_t *)"\1" S S R, 11}, -EBADMSG},
    {"empty recipient", {(const uint8_t *)"\1" S "\2\0\0", 7}, -EBADMSG},
    {"two clients", {(const uint8_t *)"\1" S R "\3\1\0c\3\1\0c", 16}, -EBADMSG},
    {"empty helo", {(const uint8_t *)"\1" S R "\4\0\0", 11}, -EBADMSG},
    {"an unknown field that matters", {(const uint8_t *)"\1" S R "\7\0\0", 11}, -EBADMSG},
    {"an unknown field that may be skipped", {(const uint8_t *)"\1" S R "\200\2\0xy", 13}, 0},
    {"report of nothing", {(const uint8_t *)"\1" S R "\5\10\0\0\0\0\0\0\0\0\0", 19}, -EBADMSG},
    {"report of a short id", {(const uint8_t *)"\1" S R "\5\1\0x", 12}, -EBADMSG},
    {"units before the report", {(const uint8_t *)"\1" S R "\6\4\0\1\0\0\0", 15}, -EBADMSG},
    {"half a unit", {(const uint8_t *)"\1" S R "\5\10\0\1\0\0\0\0\0\0\0\6\2\0xy", 24}, -EBADMSG},
    {"length beyond the end", {(const uint8_t *)"\1" S "\2\2\0r", 8}, -EBADMSG},
};

Test(envelope, refusals)
{
    struct envelope envelope;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        cr_expect_eq(envelope_parse(rows[i].bytes, &envelope), rows[i].want, "%s", rows[i].name);
}

/* Goal: a record cut anywhere is refused, or is a shorter envelope that is whole. */
Test(envelope, every_cut)
{
    const struct slice recipients[] = {SLICE("a@b"), SLICE("c@d")};
    struct envelope_parts parts = {
        .sender = SLICE("s"), .client = SLICE("c"), .recipients = recipients, .recipient_count = 2};
    struct envelope envelope;
    struct buf buf;
    struct slice whole = written(&buf, &parts);
    uint32_t good = 0;

    for (size_t size = 0; size <= whole.size; size++)
        good += envelope_parse(slice_first(whole, size), &envelope) == 0;
    cr_expect_eq(good, 3, "one recipient, two, and with the client");
    buf_deinit(&buf);
}

Test(envelope, domains)
{
    cr_expect(slice_equal(envelope_domain(SLICE("a@b.c")), SLICE("b.c")));
    cr_expect(slice_equal(envelope_domain(SLICE("\"a@x\"@b.c")), SLICE("b.c")));
    cr_expect_eq(envelope_domain(SLICE("postmaster")).size, 0);
    cr_expect_eq(envelope_domain(SLICE("a@")).size, 0);
}
