/* core/buf.h - a growing run of bytes with a ceiling: replies, headers, records, lines.
 *
 * Memory: owns its bytes (malloc); buf_deinit() frees them. The error is sticky: an append that
 * would pass `size_max` or finds no memory appends nothing, sets `failed`, and so do all later
 * ones, so that a writer checks once, at its end.
 */
#ifndef KILAT_CORE_BUF_H
#define KILAT_CORE_BUF_H

#include "core/slice.h"
#include <stdarg.h>

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t size_max;
    bool failed;
};

/* Allocates nothing yet. */
void buf_init(struct buf *buf, size_t size_max);
void buf_deinit(struct buf *buf);
/* Empty and usable again, memory kept. */
void buf_reset(struct buf *buf);
/* Empty and usable again, memory given back: an idle session holds none. */
void buf_release(struct buf *buf);

void buf_append(struct buf *buf, struct slice bytes);
void buf_append_byte(struct buf *buf, uint8_t byte);
void buf_append_cstr(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) KILAT_PRINTF(2, 3);
void buf_vprintf(struct buf *buf, const char *format, va_list args) KILAT_PRINTF(2, 0);
void buf_append_u64(struct buf *buf, uint64_t value); /* in decimal */
/* Little endian, for records and frames. */
void buf_append_le16(struct buf *buf, uint16_t value);
void buf_append_le32(struct buf *buf, uint32_t value);
void buf_append_le64(struct buf *buf, uint64_t value);
/* Room for `size` bytes that the caller fills in, counted as appended; NULL when `failed`. */
uint8_t *buf_extend(struct buf *buf, size_t size);
/* Drops the first `count` bytes. */
void buf_consume(struct buf *buf, size_t count);

static inline struct slice buf_slice(const struct buf *buf)
{
    return slice_of(buf->data, buf->size);
}

/* The reading side of records and frames: takes from the front; a short read sets `bad`, returns 0
 * and takes nothing, and so do all later ones. */
struct reader {
    struct slice rest;
    bool bad;
};
uint8_t reader_u8(struct reader *reader);
uint16_t reader_le16(struct reader *reader);
uint32_t reader_le32(struct reader *reader);
uint64_t reader_le64(struct reader *reader);
struct slice reader_bytes(struct reader *reader, size_t size);

#endif
