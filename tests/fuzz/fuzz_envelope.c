/* Envelopes of unknown origin, and envelopes of our own making.
 *
 * What is read, whatever it was, is written again and read again with the same result; and what was written from parts
 * is read as those parts. The first byte says which of the two: even, the rest is an envelope; odd, the rest is cut
 * into parts. */
#include "queue/envelope.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

#define PARTS_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice recipients[PARTS_MAX];
static uint32_t units[PARTS_MAX];

static void must_agree(struct slice bytes, const struct envelope_parts *parts)
{
    struct envelope envelope;
    struct slice rest, recipient;

    ASSERT(envelope_parse(bytes, &envelope) == 0);
    ASSERT(slice_equal(envelope.sender, parts->sender));
    ASSERT(slice_equal(envelope.client, parts->client));
    ASSERT(slice_equal(envelope.helo, parts->helo));
    ASSERT(envelope.recipient_count == parts->recipient_count);
    ASSERT(envelope.report_of == parts->report_of);
    ASSERT(envelope_report_unit_count(&envelope) == parts->report_unit_count);
    for (uint32_t i = 0; i < parts->report_unit_count; i++)
        ASSERT(envelope_report_unit(&envelope, i) == parts->report_units[i]);
    rest = envelope.recipients;
    for (uint32_t i = 0; i < parts->recipient_count; i++) {
        ASSERT(envelope_next(&rest, &recipient));
        ASSERT(slice_equal(recipient, parts->recipients[i]));
    }
    ASSERT(!envelope_next(&rest, &recipient));
}

static void write_and_compare(const struct envelope_parts *parts)
{
    struct buf buf;

    buf_init(&buf, ENVELOPE_BYTES_MAX);
    if (envelope_write(&buf, parts) == 0)
        must_agree(buf_slice(&buf), parts);
    buf_deinit(&buf);
}

static void read_again(struct slice bytes)
{
    struct envelope envelope;
    struct envelope_parts parts;
    struct slice rest;

    if (envelope_parse(bytes, &envelope) < 0 || envelope.recipient_count > PARTS_MAX ||
        envelope_report_unit_count(&envelope) > PARTS_MAX)
        return;
    rest = envelope.recipients;
    for (uint32_t i = 0; i < envelope.recipient_count; i++) {
        ASSERT(envelope_next(&rest, &recipients[i]));
        ASSERT(recipients[i].data >= bytes.data &&
               recipients[i].data + recipients[i].size <= bytes.data + bytes.size);
    }
    for (uint32_t i = 0; i < envelope_report_unit_count(&envelope); i++)
        units[i] = envelope_report_unit(&envelope, i);
    parts = (struct envelope_parts){
        .sender = envelope.sender,
        .client = envelope.client,
        .helo = envelope.helo,
        .recipients = recipients,
        .recipient_count = envelope.recipient_count,
        .report_of = envelope.report_of,
        .report_units = units,
        .report_unit_count = envelope_report_unit_count(&envelope),
    };
    write_and_compare(&parts);
}

/* Parts are separated by a byte that the input names first. */
static void make_parts(struct slice bytes)
{
    struct envelope_parts parts = {.recipients = recipients, .report_units = units};
    uint8_t separator;

    if (bytes.size < 2)
        return;
    separator = bytes.data[0];
    parts.report_of = bytes.data[1] & 1 ? bytes.data[1] : 0;
    bytes = slice_skip(bytes, 2);
    parts.sender = slice_split(&bytes, separator);
    parts.client = slice_split(&bytes, separator);
    parts.helo = slice_split(&bytes, separator);
    while (bytes.size > 0 && parts.recipient_count < PARTS_MAX) {
        recipients[parts.recipient_count] = slice_split(&bytes, separator);
        units[parts.recipient_count] = parts.recipient_count * 7;
        parts.recipient_count++;
    }
    parts.report_unit_count = parts.report_of == 0 ? 0 : parts.recipient_count / 2;
    write_and_compare(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        read_again(slice_of(data + 1, size - 1));
    else
        make_parts(slice_of(data + 1, size - 1));
    return 0;
}
