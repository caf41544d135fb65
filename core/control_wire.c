#include "core/control_wire.h"

#include <errno.h>

static const struct slice magic = {(const uint8_t *)"KCTL", 4};

static void write_head(struct buf *out, uint16_t word, size_t payload_bytes)
{
    buf_append(out, magic);
    buf_append_byte(out, CONTROL_VERSION);
    buf_append_byte(out, 0);
    buf_append_le16(out, word);
    buf_append_le32(out, (uint32_t)payload_bytes);
}

int control_frame_parse(struct slice input, struct control_frame *ret_frame, size_t *ret_size)
{
    struct slice seen = slice_first(input, magic.size);
    struct reader reader = {.rest = slice_skip(input, magic.size)};
    uint16_t word;
    uint32_t payload_bytes;

    /* A wrong beginning is told at once, not after eleven more bytes that may never come. */
    if (!slice_equal(seen, slice_first(magic, seen.size)))
        return -EPROTO;
    if (reader.rest.size >= 1 && reader.rest.data[0] != CONTROL_VERSION)
        return -EPROTO;
    if (input.size < CONTROL_HEAD_BYTES)
        return 0;
    (void)reader_u8(&reader); /* the version, looked at above */
    if (reader_u8(&reader) != 0)
        return -EPROTO;
    word = reader_le16(&reader);
    payload_bytes = reader_le32(&reader);
    if (payload_bytes > CONTROL_PAYLOAD_MAX)
        return -EPROTO;
    if (reader.rest.size < payload_bytes)
        return 0;
    ret_frame->word = word;
    ret_frame->payload = slice_first(reader.rest, payload_bytes);
    *ret_size = CONTROL_HEAD_BYTES + payload_bytes;
    return 1;
}

bool control_arguments(const struct control_frame *frame,
                       struct slice arguments[CONTROL_ARGUMENTS_MAX], size_t *ret_count)
{
    struct reader reader = {.rest = frame->payload};

    if (frame->word > CONTROL_ARGUMENTS_MAX)
        return false;
    for (size_t i = 0; i < frame->word; i++)
        arguments[i] = reader_bytes(&reader, reader_le32(&reader));
    if (reader.bad || reader.rest.size > 0)
        return false;
    *ret_count = frame->word;
    return true;
}

void control_write_request(struct buf *out, const struct slice *arguments, size_t count)
{
    size_t payload_bytes = 0;

    for (size_t i = 0; i < count; i++)
        payload_bytes += 4 + arguments[i].size;
    if (count > CONTROL_ARGUMENTS_MAX || payload_bytes > CONTROL_PAYLOAD_MAX) {
        out->failed = true; /* as any other thing that does not fit */
        return;
    }
    write_head(out, (uint16_t)count, payload_bytes);
    for (size_t i = 0; i < count; i++) {
        buf_append_le32(out, (uint32_t)arguments[i].size);
        buf_append(out, arguments[i]);
    }
}

void control_write_part(struct buf *out, struct slice text)
{
    while (text.size > 0) {
        struct slice part = slice_first(text, CONTROL_PAYLOAD_MAX);

        write_head(out, CONTROL_REPLY_PART, part.size);
        buf_append(out, part);
        text = slice_skip(text, part.size);
    }
}

void control_write_end(struct buf *out, uint32_t status, struct slice error)
{
    error = slice_first(error, CONTROL_PAYLOAD_MAX - 4);
    write_head(out, CONTROL_REPLY_END, 4 + error.size);
    buf_append_le32(out, status);
    buf_append(out, error);
}

bool control_read_end(const struct control_frame *frame, uint32_t *ret_status,
                      struct slice *ret_error)
{
    struct reader reader = {.rest = frame->payload};
    uint32_t status = reader_le32(&reader);

    if (frame->word != CONTROL_REPLY_END || reader.bad)
        return false;
    *ret_status = status;
    *ret_error = reader.rest;
    return true;
}
