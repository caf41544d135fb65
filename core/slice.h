/* core/slice.h - bytes of a peer: a pointer and a length, passed by value, never terminated by NUL.
 *
 * A slice borrows; whoever lends the bytes says until when. Comparing without case means ASCII
 * only, as SMTP, POP3 and DNS mean it. Pure functions: any shard, no errors but those said.
 */
#ifndef KILAT_CORE_SLICE_H
#define KILAT_CORE_SLICE_H

#include "core/defs.h"
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;
};

#define SLICE_NONE ((struct slice){NULL, 0})
#define SLICE(literal) ((struct slice){(const uint8_t *)("" literal), sizeof(literal) - 1})
/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).size, (const char *)(s).data

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){data, size};
}

static inline struct slice slice_cstr(const char *text)
{
    return (struct slice){(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
}

/* The first `count` bytes, or all there are. */
static inline struct slice slice_first(struct slice s, size_t count)
{
    return (struct slice){s.data, count < s.size ? count : s.size};
}

/* All but the first `count` bytes, or none. */
static inline struct slice slice_skip(struct slice s, size_t count)
{
    return count < s.size ? (struct slice){s.data + count, s.size - count}
                          : (struct slice){s.data + s.size, 0};
}

bool slice_equal(struct slice a, struct slice b);
bool slice_equal_nocase(struct slice a, struct slice b);
bool slice_starts_nocase(struct slice s, struct slice prefix);
bool slice_ends_nocase(struct slice s, struct slice suffix);
/* Index of the first `byte`, or SIZE_MAX. */
size_t slice_find(struct slice s, uint8_t byte);
size_t slice_find_last(struct slice s, uint8_t byte);
/* Without the spaces and tabs at both ends. */
struct slice slice_trim(struct slice s);
/* Splits at the first `byte`: the part before it is returned, `*rest` becomes what stands behind
 * it; with no such byte all of it is returned and `*rest` becomes empty. */
struct slice slice_split(struct slice *rest, uint8_t byte);
/* The one parser of decimal numbers that a peer sends: digits only, no sign, no space, at most
 * `max`; an empty slice or a value above `max` (2^64 included) is false and leaves `*ret_value`
 * alone. */
bool slice_parse_u64(struct slice s, uint64_t max, uint64_t *ret_value);
/* Copies as a C string, cut to fit `size_bytes` (> 0); false when it was cut or holds a NUL. */
bool slice_to_cstr(struct slice s, char *buffer, size_t size_bytes);
/* Every byte in 0x20..0x7e: may stand in a log line, a header or a reply of ours. */
bool slice_is_printable(struct slice s);
static inline uint8_t byte_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

#endif
