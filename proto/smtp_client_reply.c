#include "proto/smtp_client_reply.h"

#include "core/assert.h"

void smtp_reply_reader_init(struct smtp_reply_reader *reader, uint32_t line_max)
{
    *reader = (struct smtp_reply_reader){.line_max = line_max, .complete = true};
    buf_init(&reader->cut, line_max);
    buf_init(&reader->text, SMTP_REPLY_TEXT_MAX);
}

void smtp_reply_reader_deinit(struct smtp_reply_reader *reader)
{
    buf_deinit(&reader->cut);
    buf_deinit(&reader->text);
}

bool smtp_reply_reader_in_midst(const struct smtp_reply_reader *reader)
{
    return !reader->complete || reader->cut.size > 0;
}

void smtp_reply_reader_rest(struct smtp_reply_reader *reader)
{
    ASSERT(!smtp_reply_reader_in_midst(reader));
    buf_release(&reader->cut);
    buf_release(&reader->text);
}

static enum smtp_reply_event reader_fault(struct smtp_reply_reader *reader, const char *fault)
{
    reader->fault = fault;
    return SMTP_REPLY_BAD;
}

/* One line without its end, or false: more is needed, or `fault` is set. The line points into the
 * input when it came whole, otherwise into `cut`, which `*ret_joined` says. */
static bool reader_take_line(struct smtp_reply_reader *reader, struct slice *input,
                             struct slice *ret_line, bool *ret_joined)
{
    size_t end = slice_find(*input, '\n');
    struct slice piece = slice_first(*input, end == SIZE_MAX ? SIZE_MAX : end + 1);

    if (piece.size == 0)
        return false;
    *input = slice_skip(*input, piece.size);
    if (piece.size > reader->line_max - reader->cut.size) {
        reader->fault = "a reply line is too long";
        return false;
    }
    *ret_joined = reader->cut.size > 0;
    if (*ret_joined || end == SIZE_MAX) {
        buf_append(&reader->cut, piece);
        if (reader->cut.failed) {
            reader->fault = "no memory is left to read a reply";
            return false;
        }
        piece = buf_slice(&reader->cut);
    }
    if (end == SIZE_MAX)
        return false;
    piece.size--;
    if (piece.size > 0 && piece.data[piece.size - 1] == '\r')
        piece.size--;
    *ret_line = piece;
    return true;
}

/* Three digits, the first of them 2 to 5 (RFC 5321 4.2); 0 when it is not so. What the other two
 * say is left to the server: only the first decides. */
static uint16_t reply_code(struct slice line)
{
    if (line.size < 3 || line.data[0] < '2' || line.data[0] > '5')
        return 0;
    for (size_t i = 1; i < 3; i++) {
        if (line.data[i] < '0' || line.data[i] > '9')
            return 0;
    }
    return (uint16_t)((line.data[0] - '0') * 100 + (line.data[1] - '0') * 10 +
                      (line.data[2] - '0'));
}

/* "5.1.1 " at the start of `text` (RFC 2034 4), when its class is that of `code`. Returns how many
 * bytes it takes, with the space behind it, or 0. */
static size_t reply_status(struct slice text, uint16_t code, uint8_t ret_status[3])
{
    struct slice rest = text, token = slice_split(&rest, ' ');
    size_t used = token.size + (token.size < text.size ? 1 : 0);
    uint8_t status[3];

    for (size_t i = 0; i < ARRAY_SIZE(status); i++) {
        struct slice number = i < 2 ? slice_split(&token, '.') : token;
        uint64_t value;

        if (number.size > 3 || !slice_parse_u64(number, UINT8_MAX, &value))
            return 0;
        status[i] = (uint8_t)value;
    }
    if (status[0] != code / 100 || status[0] == 3)
        return 0;
    memcpy(ret_status, status, sizeof(status));
    return used;
}

/* The gate: behind it stands nothing but printable ASCII, within the bounds. */
static void reader_show(struct smtp_reply_reader *reader, struct slice bytes)
{
    struct slice fit = slice_first(bytes, SMTP_REPLY_TEXT_MAX - reader->text.size);
    uint8_t *to = buf_extend(&reader->text, fit.size);

    for (size_t i = 0; to != NULL && i < fit.size; i++)
        to[i] = fit.data[i] >= 0x20 && fit.data[i] <= 0x7e ? fit.data[i] : '?';
}

/* The first line is shown with its code and status, further ones without repeating them (RFC 2034 4
 * puts the status into each line). */
static void reader_show_line(struct smtp_reply_reader *reader, struct slice line)
{
    struct slice text = reader->line;
    uint8_t status[3];
    size_t used;

    if (reader->lines == 1) {
        (void)reply_status(text, reader->code, reader->status);
        reader_show(reader, slice_first(line, 3));
    } else if (reader->lines > SMTP_REPLY_TEXT_LINES) {
        return;
    } else {
        used = reply_status(text, reader->code, status);
        if (used > 0 && memcmp(status, reader->status, sizeof(status)) == 0)
            text = slice_skip(text, used);
    }
    text = slice_trim(text);
    if (text.size == 0)
        return;
    reader_show(reader, SLICE(" "));
    reader_show(reader, text);
}

static void reader_begin(struct smtp_reply_reader *reader)
{
    reader->complete = false;
    reader->lines = 0;
    reader->code = 0;
    memset(reader->status, 0, sizeof(reader->status));
    buf_reset(&reader->text);
}

static enum smtp_reply_event reader_line(struct smtp_reply_reader *reader, struct slice line)
{
    uint16_t code = reply_code(line);
    bool last = line.size == 3 || (line.size > 3 && line.data[3] == ' ');

    if (reader->complete)
        reader_begin(reader);
    if (code == 0 || (!last && line.data[3] != '-'))
        return reader_fault(reader, "a line is not a reply");
    if (reader->lines > 0 && code != reader->code)
        return reader_fault(reader, "the lines of a reply have different codes");
    if (reader->lines == SMTP_REPLY_LINES_MAX)
        return reader_fault(reader, "a reply has too many lines");
    reader->code = code;
    reader->lines++;
    reader->line = slice_skip(line, 4);
    reader_show_line(reader, line);
    reader->complete = last;
    return last ? SMTP_REPLY_DONE : SMTP_REPLY_LINE;
}

enum smtp_reply_event smtp_reply_reader_next(struct smtp_reply_reader *reader, struct slice *input)
{
    enum smtp_reply_event event;
    struct slice line;
    bool joined;

    if (reader->fault != NULL)
        return SMTP_REPLY_BAD;
    if (!reader_take_line(reader, input, &line, &joined))
        return reader->fault != NULL ? SMTP_REPLY_BAD : SMTP_REPLY_MORE;
    event = reader_line(reader, line);
    if (joined)
        reader->cut.size = 0; /* `line` still points there: the memory stays until the next call */
    return event;
}

struct smtp_remote_reply smtp_reply_reader_reply(const struct smtp_reply_reader *reader)
{
    struct smtp_remote_reply reply = {.code = reader->code, .text = buf_slice(&reader->text)};

    ASSERT(reader->complete && reader->code != 0);
    memcpy(reply.status, reader->status, sizeof(reply.status));
    return reply;
}
