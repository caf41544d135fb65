#include "queue/envelope.h"

#include "core/assert.h"
#include <errno.h>

#define ENVELOPE_VERSION 1

enum envelope_type {
    ENVELOPE_SENDER = 1,
    ENVELOPE_RECIPIENT,
    ENVELOPE_CLIENT,
    ENVELOPE_HELO,
    ENVELOPE_REPORT_OF,
    ENVELOPE_REPORT_UNITS,
};

static bool write_field(struct buf *out, enum envelope_type type, struct slice value)
{
    if (value.size > ENVELOPE_FIELD_MAX)
        return false;
    buf_append_byte(out, (uint8_t)type);
    buf_append_le16(out, (uint16_t)value.size);
    buf_append(out, value);
    return true;
}

static bool write_optional(struct buf *out, enum envelope_type type, struct slice value)
{
    return value.size == 0 || write_field(out, type, value);
}

static bool write_report(struct buf *out, const struct envelope_parts *parts)
{
    if (parts->report_of == 0)
        return parts->report_unit_count == 0;
    if (parts->report_unit_count > ENVELOPE_RECIPIENTS_MAX)
        return false;
    buf_append_byte(out, ENVELOPE_REPORT_OF);
    buf_append_le16(out, 8);
    buf_append_le64(out, parts->report_of);
    if (parts->report_unit_count == 0)
        return true;
    buf_append_byte(out, ENVELOPE_REPORT_UNITS);
    buf_append_le16(out, (uint16_t)(parts->report_unit_count * 4));
    for (uint32_t i = 0; i < parts->report_unit_count; i++)
        buf_append_le32(out, parts->report_units[i]);
    return true;
}

int envelope_write(struct buf *out, const struct envelope_parts *parts)
{
    bool good;

    if (parts->recipient_count == 0 || parts->recipient_count > ENVELOPE_RECIPIENTS_MAX)
        return -EINVAL;
    buf_append_byte(out, ENVELOPE_VERSION);
    good = write_field(out, ENVELOPE_SENDER, parts->sender);
    for (uint32_t i = 0; i < parts->recipient_count && good; i++)
        good = parts->recipients[i].size > 0 &&
               write_field(out, ENVELOPE_RECIPIENT, parts->recipients[i]);
    good = good && write_optional(out, ENVELOPE_CLIENT, parts->client);
    good = good && write_optional(out, ENVELOPE_HELO, parts->helo);
    good = good && write_report(out, parts);
    if (!good)
        return -EINVAL;
    return out->failed || out->size > ENVELOPE_BYTES_MAX ? -E2BIG : 0;
}

/* One field; false at the end and, with `reader->bad`, where it is cut off. */
static bool next_field(struct reader *reader, uint8_t *ret_type, struct slice *ret_value)
{
    uint16_t size;

    if (reader->rest.size == 0)
        return false;
    *ret_type = reader_u8(reader);
    size = reader_le16(reader);
    *ret_value = reader_bytes(reader, size);
    return !reader->bad;
}

/* Takes a text that may stand once. */
static bool take_once(struct slice *to, bool *seen, struct slice value)
{
    if (*seen || value.size == 0)
        return false;
    *seen = true;
    *to = value;
    return true;
}

struct envelope_seen {
    bool sender, client, helo, report_units;
};

static bool take_report_units(struct envelope *envelope, struct envelope_seen *seen,
                              struct slice value)
{
    if (envelope->report_of == 0 || value.size % 4 != 0 || value.size / 4 > ENVELOPE_RECIPIENTS_MAX)
        return false;
    return take_once(&envelope->report_units, &seen->report_units, value);
}

static bool take_report_of(struct envelope *envelope, struct slice value)
{
    struct reader reader = {.rest = value};

    if (envelope->report_of != 0 || value.size != 8)
        return false;
    envelope->report_of = reader_le64(&reader);
    return envelope->report_of != 0;
}

static bool take_field(struct envelope *envelope, struct envelope_seen *seen, uint8_t type,
                       struct slice value)
{
    switch (type) {
    case ENVELOPE_SENDER:
        if (seen->sender)
            return false;
        seen->sender = true;
        envelope->sender = value;
        return true;
    case ENVELOPE_RECIPIENT:
        envelope->recipient_count++;
        return value.size > 0 && envelope->recipient_count <= ENVELOPE_RECIPIENTS_MAX;
    case ENVELOPE_CLIENT:
        return take_once(&envelope->client, &seen->client, value);
    case ENVELOPE_HELO:
        return take_once(&envelope->helo, &seen->helo, value);
    case ENVELOPE_REPORT_OF:
        return take_report_of(envelope, value);
    case ENVELOPE_REPORT_UNITS:
        return take_report_units(envelope, seen, value);
    default:
        return type >= ENVELOPE_IGNORABLE;
    }
}

int envelope_parse(struct slice bytes, struct envelope *ret_envelope)
{
    struct envelope envelope = {.recipient_count = 0};
    struct envelope_seen seen = {false};
    struct reader reader = {.rest = bytes};
    struct slice value;
    uint8_t type;

    if (bytes.size > ENVELOPE_BYTES_MAX || reader_u8(&reader) != ENVELOPE_VERSION)
        return -EBADMSG;
    envelope.recipients = reader.rest;
    while (next_field(&reader, &type, &value)) {
        if (!seen.sender && type != ENVELOPE_SENDER)
            return -EBADMSG;
        if (!take_field(&envelope, &seen, type, value))
            return -EBADMSG;
    }
    if (reader.bad || !seen.sender || envelope.recipient_count == 0)
        return -EBADMSG;
    *ret_envelope = envelope;
    return 0;
}

bool envelope_next(struct slice *rest, struct slice *ret_recipient)
{
    struct reader reader = {.rest = *rest};
    uint8_t type;

    while (next_field(&reader, &type, ret_recipient)) {
        *rest = reader.rest;
        if (type == ENVELOPE_RECIPIENT)
            return true;
    }
    *ret_recipient = SLICE_NONE;
    return false;
}

uint32_t envelope_report_unit_count(const struct envelope *envelope)
{
    return (uint32_t)(envelope->report_units.size / 4);
}

uint32_t envelope_report_unit(const struct envelope *envelope, uint32_t index)
{
    struct reader reader = {.rest = slice_skip(envelope->report_units, (size_t)index * 4)};

    ASSERT(index < envelope_report_unit_count(envelope));
    return reader_le32(&reader);
}

struct slice envelope_domain(struct slice address)
{
    size_t at = slice_find_last(address, '@');

    return at == SIZE_MAX ? SLICE_NONE : slice_skip(address, at + 1);
}
