#include "core/slice.h"

bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++) {
        if (byte_lower(a.data[i]) != byte_lower(b.data[i]))
            return false;
    }
    return true;
}

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
    return s.size >= prefix.size && slice_equal_nocase(slice_first(s, prefix.size), prefix);
}

bool slice_ends_nocase(struct slice s, struct slice suffix)
{
    return s.size >= suffix.size && slice_equal_nocase(slice_skip(s, s.size - suffix.size), suffix);
}

size_t slice_find(struct slice s, uint8_t byte)
{
    const uint8_t *at = s.size == 0 ? NULL : memchr(s.data, byte, s.size);

    return at == NULL ? SIZE_MAX : (size_t)(at - s.data);
}

size_t slice_find_last(struct slice s, uint8_t byte)
{
    const uint8_t *at = s.size == 0 ? NULL : memrchr(s.data, byte, s.size);

    return at == NULL ? SIZE_MAX : (size_t)(at - s.data);
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.size > 0 && is_blank(s.data[0]))
        s = slice_skip(s, 1);
    while (s.size > 0 && is_blank(s.data[s.size - 1]))
        s.size--;
    return s;
}

struct slice slice_split(struct slice *rest, uint8_t byte)
{
    struct slice whole = *rest;
    size_t at = slice_find(whole, byte);

    if (at == SIZE_MAX) {
        *rest = slice_skip(whole, whole.size);
        return whole;
    }
    *rest = slice_skip(whole, at + 1);
    return slice_first(whole, at);
}

bool slice_parse_u64(struct slice s, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (s.size == 0)
        return false;
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.data[i] - '0'), &value))
            return false;
    }
    if (value > max)
        return false;
    *ret_value = value;
    return true;
}

bool slice_to_cstr(struct slice s, char *buffer, size_t size_bytes)
{
    size_t count = MIN(s.size, size_bytes - 1);

    if (count > 0)
        memcpy(buffer, s.data, count);
    buffer[count] = '\0';
    return count == s.size && strlen(buffer) == count;
}

bool slice_is_printable(struct slice s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] < 0x20 || s.data[i] > 0x7e)
            return false;
    }
    return true;
}
