#include "core/buf.h"

#include "core/assert.h"
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_BYTES 256 /* one line of a dialogue: most buffers never grow again */

void buf_init(struct buf *buf, size_t size_max)
{
    *buf = (struct buf){.size_max = size_max};
}

void buf_deinit(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){.size_max = buf->size_max};
}

void buf_reset(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

void buf_release(struct buf *buf)
{
    buf_deinit(buf);
}

/* Makes room for `size` more bytes, or sets `failed`. */
static bool buf_reserve(struct buf *buf, size_t size)
{
    size_t capacity = MAX(buf->capacity, (size_t)BUF_FIRST_BYTES);
    uint8_t *data;

    if (buf->failed)
        return false;
    if (size > buf->size_max - buf->size) {
        buf->failed = true;
        return false;
    }
    if (size <= buf->capacity - buf->size)
        return true;
    while (capacity - buf->size < size)
        capacity = capacity > buf->size_max / 2 ? buf->size_max : capacity * 2;
    data = realloc(buf->data, capacity);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

uint8_t *buf_extend(struct buf *buf, size_t size)
{
    uint8_t *at;

    ASSERT(buf->size <= buf->size_max);
    if (!buf_reserve(buf, size))
        return NULL;
    at = buf->data + buf->size;
    buf->size += size;
    return at;
}

void buf_append(struct buf *buf, struct slice bytes)
{
    uint8_t *at;

    if (bytes.size == 0)
        return;
    at = buf_extend(buf, bytes.size);
    if (at != NULL)
        memcpy(at, bytes.data, bytes.size);
}

void buf_append_byte(struct buf *buf, uint8_t byte)
{
    buf_append(buf, slice_of(&byte, 1));
}

void buf_append_cstr(struct buf *buf, const char *text)
{
    buf_append(buf, slice_cstr(text));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    buf_vprintf(buf, format, args);
    va_end(args);
}

void buf_vprintf(struct buf *buf, const char *format, va_list args)
{
    char few[256];
    char *at = few;
    va_list again;
    int size;

    va_copy(again, args);
    size = vsnprintf(few, sizeof(few), format, args);
    if (size >= (int)sizeof(few)) {
        at = malloc((size_t)size + 1);
        if (at != NULL)
            (void)vsnprintf(at, (size_t)size + 1, format, again); /* the size is known already */
    }
    va_end(again);
    if (size < 0 || at == NULL)
        buf->failed = true;
    else
        buf_append(buf, slice_of(at, (size_t)size));
    if (at != few)
        free(at);
}

void buf_append_u64(struct buf *buf, uint64_t value)
{
    char digits[20]; /* 2^64 - 1 has twenty */
    size_t first = sizeof(digits);

    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_append(buf, slice_of(digits + first, sizeof(digits) - first));
}

static void append_le(struct buf *buf, uint64_t value, size_t size)
{
    uint8_t *at = buf_extend(buf, size);

    if (at == NULL)
        return;
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

void buf_append_le16(struct buf *buf, uint16_t value)
{
    append_le(buf, value, 2);
}

void buf_append_le32(struct buf *buf, uint32_t value)
{
    append_le(buf, value, 4);
}

void buf_append_le64(struct buf *buf, uint64_t value)
{
    append_le(buf, value, 8);
}

void buf_consume(struct buf *buf, size_t count)
{
    ASSERT(count <= buf->size);
    buf->size -= count;
    if (buf->size > 0 && count > 0)
        memmove(buf->data, buf->data + count, buf->size);
}

static uint64_t take_le(struct reader *reader, size_t size)
{
    struct slice bytes = reader_bytes(reader, size);
    uint64_t value = 0;

    for (size_t i = 0; i < bytes.size; i++)
        value |= (uint64_t)bytes.data[i] << (8 * i);
    return value;
}

uint8_t reader_u8(struct reader *reader)
{
    return (uint8_t)take_le(reader, 1);
}

uint16_t reader_le16(struct reader *reader)
{
    return (uint16_t)take_le(reader, 2);
}

uint32_t reader_le32(struct reader *reader)
{
    return (uint32_t)take_le(reader, 4);
}

uint64_t reader_le64(struct reader *reader)
{
    return take_le(reader, 8);
}

struct slice reader_bytes(struct reader *reader, size_t size)
{
    struct slice bytes;

    if (reader->bad || size > reader->rest.size) {
        reader->bad = true;
        return SLICE_NONE;
    }
    bytes = slice_first(reader->rest, size);
    reader->rest = slice_skip(reader->rest, size);
    return bytes;
}
