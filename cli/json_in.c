#include "cli/json_in.h"

#include <string.h>

#define NAME_SIZE 32
#define TEXT_MAX (64 * KIB)

struct json_in {
    struct slice rest;
    struct buf text;
    json_in_fn *each;
    void *context;
};

static void skip_space(struct json_in *in)
{
    while (in->rest.size > 0 && memchr(" \t\r\n", in->rest.data[0], 4) != NULL)
        in->rest = slice_skip(in->rest, 1);
}

/* Takes `byte`, behind any space, if it is the next one. */
static bool take(struct json_in *in, uint8_t byte)
{
    skip_space(in);
    if (in->rest.size == 0 || in->rest.data[0] != byte)
        return false;
    in->rest = slice_skip(in->rest, 1);
    return true;
}

static bool take_word(struct json_in *in, struct slice word)
{
    skip_space(in);
    if (!slice_equal(slice_first(in->rest, word.size), word))
        return false;
    in->rest = slice_skip(in->rest, word.size);
    return true;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind the backslash. \u00XX is the byte XX (cli/json_out.h). */
static bool take_escape(struct json_in *in)
{
    uint8_t byte = in->rest.size > 0 ? in->rest.data[0] : 0;

    if (byte == '"' || byte == '\\') {
        buf_append_byte(&in->text, byte);
        in->rest = slice_skip(in->rest, 1);
        return true;
    }
    if (in->rest.size < 5 || memcmp(in->rest.data, "u00", 3) != 0 ||
        hex_digit(in->rest.data[3]) < 0 || hex_digit(in->rest.data[4]) < 0)
        return false;
    buf_append_byte(&in->text,
                    (uint8_t)(hex_digit(in->rest.data[3]) << 4 | hex_digit(in->rest.data[4])));
    in->rest = slice_skip(in->rest, 5);
    return true;
}

/* A string into in->text. */
static bool take_string(struct json_in *in)
{
    buf_reset(&in->text);
    if (!take(in, '"'))
        return false;
    while (in->rest.size > 0) {
        uint8_t byte = in->rest.data[0];

        in->rest = slice_skip(in->rest, 1);
        if (byte == '"')
            return !in->text.failed;
        if (byte != '\\')
            buf_append_byte(&in->text, byte);
        else if (!take_escape(in))
            return false;
    }
    return false;
}

static bool take_number(struct json_in *in, uint64_t *ret_number)
{
    size_t digits = 0;

    skip_space(in);
    while (digits < in->rest.size && in->rest.data[digits] >= '0' && in->rest.data[digits] <= '9')
        digits++;
    if (!slice_parse_u64(slice_first(in->rest, digits), UINT64_MAX, ret_number))
        return false;
    in->rest = slice_skip(in->rest, digits);
    return true;
}

static bool take_plain(struct json_in *in, struct json_in_value *value)
{
    value->text = SLICE_NONE;
    value->number = 0;
    value->truth = false;
    skip_space(in);
    if (in->rest.size > 0 && in->rest.data[0] == '"') {
        if (!take_string(in))
            return false;
        value->text = buf_slice(&in->text);
    } else if (take_word(in, SLICE("true"))) {
        value->truth = true;
    } else if (!take_word(in, SLICE("false")) && !take_number(in, &value->number)) {
        return false;
    }
    return in->each(in->context, value);
}

static bool take_objects(struct json_in *in, const char *list);

/* An array may stand in an object of the outer array, no deeper: so the recursion ends. */
static bool take_object(struct json_in *in, const char *list, uint32_t index)
{
    char name[NAME_SIZE];

    if (!take(in, '{'))
        return false;
    if (take(in, '}'))
        return true;
    do {
        struct json_in_value value = {.list = list, .index = index};

        if (!take_string(in) || !slice_to_cstr(buf_slice(&in->text), name, sizeof(name)) ||
            !take(in, ':'))
            return false;
        value.name = slice_cstr(name);
        skip_space(in);
        if (list[0] == 0 && in->rest.size > 0 && in->rest.data[0] == '[') {
            if (!take_objects(in, name))
                return false;
        } else if (!take_plain(in, &value)) {
            return false;
        }
    } while (take(in, ','));
    return take(in, '}');
}

static bool take_objects(struct json_in *in, const char *list)
{
    uint32_t index = 0;

    if (!take(in, '['))
        return false;
    if (take(in, ']'))
        return true;
    do {
        if (!take_object(in, list, index++))
            return false;
    } while (take(in, ','));
    return take(in, ']');
}

bool json_in_read(struct slice text, json_in_fn *each, void *context)
{
    struct json_in in = {.rest = text, .each = each, .context = context};
    bool fine;

    buf_init(&in.text, TEXT_MAX);
    fine = take_objects(&in, "");
    skip_space(&in);
    buf_deinit(&in.text);
    return fine && in.rest.size == 0;
}
