#include "cli/json_out.h"

#include <inttypes.h>
#include <string.h>

/* The length of the UTF-8 sequence at the front, or 0: these bytes are none. */
static size_t utf8_length(struct slice text)
{
    uint8_t first = text.data[0];
    size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t code = length == 1 ? first : first & (0x7fu >> length);
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

    if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || length > text.size)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text.data[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text.data[i] & 0x3f);
    }
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0
                                                                                        : length;
}

static void write_string(FILE *file, struct slice text)
{
    fputc('"', file);
    while (text.size > 0) {
        size_t length = utf8_length(text);
        uint8_t byte = text.data[0];

        if (byte == '"' || byte == '\\')
            fprintf(file, "\\%c", byte);
        else if (length == 0 || byte < 0x20 || byte == 0x7f)
            fprintf(file, "\\u%04x", byte);
        else
            (void)fwrite(text.data, 1, length, file);
        text = slice_skip(text, length == 0 ? 1 : length);
    }
    fputc('"', file);
}

static void write_name(struct json_out *out, const char *name)
{
    fprintf(out->file, "%s\"%s\": ", out->any_field ? ", " : "", name);
    out->any_field = true;
}

void json_out_array(struct json_out *out, FILE *file)
{
    *out = (struct json_out){.file = file};
    fputc('[', file);
}

void json_out_array_end(struct json_out *out)
{
    fputs(out->any_object ? "\n]\n" : "]\n", out->file);
}

void json_out_object(struct json_out *out)
{
    fputs(out->any_object ? ",\n{" : "\n{", out->file);
    out->any_object = true;
    out->any_field = false;
}

void json_out_object_end(struct json_out *out)
{
    fputc('}', out->file);
    out->any_field = true;
}

void json_out_list(struct json_out *out, const char *name)
{
    write_name(out, name);
    fputc('[', out->file);
    out->any_object = false;
}

void json_out_list_end(struct json_out *out)
{
    fputc(']', out->file);
    out->any_object = out->any_field = true;
}

void json_out_text(struct json_out *out, const char *name, struct slice text)
{
    write_name(out, name);
    write_string(out->file, text);
}

void json_out_cstr(struct json_out *out, const char *name, const char *text)
{
    json_out_text(out, name, slice_cstr(text));
}

void json_out_u64(struct json_out *out, const char *name, uint64_t value)
{
    write_name(out, name);
    fprintf(out->file, "%" PRIu64, value);
}

void json_out_bool(struct json_out *out, const char *name, bool value)
{
    write_name(out, name);
    fputs(value ? "true" : "false", out->file);
}
