#include "proto/smtp_parse.h"

#include "core/assert.h"

void smtp_line_reader_init(struct smtp_line_reader *reader, uint32_t line_max)
{
    *reader = (struct smtp_line_reader){0};
    buf_init(&reader->carry, line_max);
}

void smtp_line_reader_deinit(struct smtp_line_reader *reader)
{
    buf_deinit(&reader->carry);
}

void smtp_line_rest(struct smtp_line_reader *reader)
{
    if (reader->carry_spent || reader->carry.size == 0) {
        buf_release(&reader->carry);
        reader->carry_spent = false;
    }
}

static bool has_control(struct slice line)
{
    for (size_t i = 0; i < line.size; i++) {
        if ((line.data[i] < 0x20 && line.data[i] != '\t') || line.data[i] == 0x7f)
            return true;
    }
    return false;
}

/* The line goes on in the next input. What is too long or refused already is counted, not kept. */
static enum smtp_line carry_part(struct smtp_line_reader *reader, struct slice part)
{
    reader->line_bytes += (uint32_t)part.size;
    if (part.size > 0)
        reader->after_cr = part.data[part.size - 1] == '\r';
    if (reader->refused || reader->line_bytes > reader->carry.size_max) {
        buf_reset(&reader->carry);
        return SMTP_LINE_PARTIAL;
    }
    buf_append(&reader->carry, part);
    return reader->carry.failed ? SMTP_LINE_NO_MEMORY : SMTP_LINE_PARTIAL;
}

/* `part` ends with the CRLF that ends the line. */
static enum smtp_line end_line(struct smtp_line_reader *reader, struct slice part,
                               struct slice *ret_line)
{
    uint32_t size = reader->line_bytes + (uint32_t)part.size;

    reader->line_bytes = 0;
    reader->after_cr = false;
    if (size > reader->carry.size_max) {
        buf_reset(&reader->carry);
        return SMTP_LINE_TOO_LONG;
    }
    if (reader->carry.size > 0) {
        buf_append(&reader->carry, part);
        if (reader->carry.failed)
            return SMTP_LINE_NO_MEMORY;
        reader->carry_spent = true;
        part = buf_slice(&reader->carry);
    }
    *ret_line = slice_first(part, size - 2);
    return has_control(*ret_line) ? SMTP_LINE_BAD_OCTET : SMTP_LINE_OK;
}

/* One LF, or as far as the input reaches. PARTIAL with input left: the end of a line that was
 * refused before. */
static enum smtp_line take_part(struct smtp_line_reader *reader, struct slice *input,
                                struct slice *ret_line)
{
    size_t room = SMTP_LINE_ENDLESS_BYTES - reader->line_bytes;
    size_t lf = slice_find(slice_first(*input, room), '\n');
    struct slice part = slice_first(*input, lf == SIZE_MAX ? room : lf + 1);
    bool true_end;

    *input = slice_skip(*input, part.size);
    if (lf == SIZE_MAX)
        return part.size == room ? SMTP_LINE_ENDLESS : carry_part(reader, part);
    true_end = part.size > 1 ? part.data[part.size - 2] == '\r' : reader->after_cr;
    if (!true_end && reader->refused)
        return SMTP_LINE_ENDLESS;
    if (!true_end) {
        reader->refused = true;
        (void)carry_part(reader, part);
        return SMTP_LINE_BARE_LF;
    }
    if (reader->refused) {
        reader->refused = reader->after_cr = false;
        reader->line_bytes = 0;
        return SMTP_LINE_PARTIAL;
    }
    return end_line(reader, part, ret_line);
}

enum smtp_line smtp_line_next(struct smtp_line_reader *reader, struct slice *input,
                              struct slice *ret_line)
{
    enum smtp_line result = SMTP_LINE_PARTIAL;

    if (reader->carry_spent) {
        buf_reset(&reader->carry);
        reader->carry_spent = false;
    }
    while (input->size > 0 && result == SMTP_LINE_PARTIAL)
        result = take_part(reader, input, ret_line);
    return result;
}

/* Four letters as one number, so that looking up a verb costs a few comparisons. */
#define VERB_KEY(a, b, c, d)                                                                       \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

static const struct {
    uint32_t key;
    uint8_t verb;
} verb_keys[] = {
    {VERB_KEY('m', 'a', 'i', 'l'), SMTP_VERB_MAIL}, {VERB_KEY('r', 'c', 'p', 't'), SMTP_VERB_RCPT},
    {VERB_KEY('d', 'a', 't', 'a'), SMTP_VERB_DATA}, {VERB_KEY('e', 'h', 'l', 'o'), SMTP_VERB_EHLO},
    {VERB_KEY('h', 'e', 'l', 'o'), SMTP_VERB_HELO}, {VERB_KEY('q', 'u', 'i', 't'), SMTP_VERB_QUIT},
    {VERB_KEY('r', 's', 'e', 't'), SMTP_VERB_RSET}, {VERB_KEY('n', 'o', 'o', 'p'), SMTP_VERB_NOOP},
    {VERB_KEY('v', 'r', 'f', 'y'), SMTP_VERB_VRFY}, {VERB_KEY('h', 'e', 'l', 'p'), SMTP_VERB_HELP},
    {VERB_KEY('e', 'x', 'p', 'n'), SMTP_VERB_EXPN}, {VERB_KEY('a', 'u', 't', 'h'), SMTP_VERB_AUTH},
    {VERB_KEY('b', 'd', 'a', 't'), SMTP_VERB_BDAT}, {VERB_KEY('e', 't', 'r', 'n'), SMTP_VERB_ETRN},
};

static enum smtp_verb verb_of(struct slice word)
{
    uint32_t key = 0;

    if (slice_equal_nocase(word, SLICE("STARTTLS")))
        return SMTP_VERB_STARTTLS;
    if (word.size != 4)
        return SMTP_VERB_UNKNOWN;
    for (unsigned i = 0; i < 4; i++)
        key |= (uint32_t)byte_lower(word.data[i]) << (8 * i);
    for (size_t i = 0; i < ARRAY_SIZE(verb_keys); i++) {
        if (verb_keys[i].key == key)
            return (enum smtp_verb)verb_keys[i].verb;
    }
    return SMTP_VERB_UNKNOWN;
}

enum smtp_verb smtp_verb_parse(struct slice line, struct slice *ret_argument)
{
    while (line.size > 0 && (line.data[line.size - 1] == ' ' || line.data[line.size - 1] == '\t'))
        line.size--;
    *ret_argument = line;
    return verb_of(slice_split(ret_argument, ' '));
}

bool smtp_line_is_foreign(struct slice line)
{
    static const char methods[][8] = {"GET",   "POST",    "HEAD",    "PUT",   "DELETE",
                                      "PATCH", "OPTIONS", "CONNECT", "TRACE", "PRI"};
    struct slice rest = line;
    struct slice word = slice_split(&rest, ' ');

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (slice_equal_nocase(word, slice_cstr(methods[i])))
            return true;
    }
    return line.size > 8 && slice_starts_nocase(slice_skip(line, line.size - 8), SLICE("HTTP/"));
}
