#include "proto/pop3_server_private.h"

void pop3_lines_init(struct pop3_lines *lines, uint32_t line_max)
{
    *lines = (struct pop3_lines){.line_max = line_max};
    buf_init(&lines->cut, line_max);
}

void pop3_lines_deinit(struct pop3_lines *lines)
{
    pop3_lines_forget(lines);
}

void pop3_lines_forget(struct pop3_lines *lines)
{
    if (lines->cut.data != NULL)
        explicit_bzero(lines->cut.data, lines->cut.capacity);
    buf_release(&lines->cut);
}

bool pop3_lines_at_start(const struct pop3_lines *lines)
{
    return lines->cut.size == 0 && lines->discard_bytes == 0;
}

/* A line too long is not kept, only counted, so that what it costs is bounded whatever it is. */
static enum pop3_line_event lines_discard(struct pop3_lines *lines, struct slice piece, bool whole)
{
    lines->discard_bytes += lines->cut.size + piece.size;
    pop3_lines_forget(lines);
    if (lines->discard_bytes > POP3_LINE_DISCARD_MAX)
        return POP3_LINE_ENDLESS;
    if (!whole)
        return POP3_LINE_MORE;
    lines->discard_bytes = 0;
    return POP3_LINE_TOO_LONG;
}

/* Copies `piece` behind what is carried. A growing buffer would leave copies of a password in
 * freed memory, so the room for the longest line is taken at once. */
static bool lines_carry(struct pop3_lines *lines, struct slice piece)
{
    if (lines->cut.data == NULL) {
        (void)buf_extend(&lines->cut, lines->line_max);
        lines->cut.size = 0;
    }
    buf_append(&lines->cut, piece);
    return !lines->cut.failed;
}

enum pop3_line_event pop3_lines_next(struct pop3_lines *lines, struct slice *input,
                                     struct slice *ret_line)
{
    size_t end = slice_find(*input, '\n');
    bool whole = end != SIZE_MAX;
    struct slice piece = slice_first(*input, whole ? end + 1 : SIZE_MAX);

    if (piece.size == 0)
        return POP3_LINE_MORE;
    *input = slice_skip(*input, piece.size);
    if (lines->discard_bytes > 0 || piece.size > lines->line_max - lines->cut.size)
        return lines_discard(lines, piece, whole);
    if (lines->cut.size > 0 || !whole) {
        if (!lines_carry(lines, piece))
            return POP3_LINE_ENDLESS;
        if (!whole)
            return POP3_LINE_MORE;
        piece = buf_slice(&lines->cut);
    }
    piece.size--;
    if (piece.size > 0 && piece.data[piece.size - 1] == '\r')
        piece.size--;
    *ret_line = piece;
    return POP3_LINE_WHOLE;
}

/* keyword *(SP param), RFC 2449 3. Spaces at the end are forgiven; PASS looks at `rest` instead,
 * where they count. */
void pop3_parse_command(struct slice line, struct pop3_command *ret_command)
{
    struct pop3_command command = {.rest = line};
    struct slice rest;

    command.verb = slice_split(&command.rest, ' ');
    rest = command.rest;
    while (rest.size > 0 && rest.data[rest.size - 1] == ' ')
        rest.size--;
    while (rest.size > 0) {
        struct slice argument = slice_split(&rest, ' ');

        if (command.argument_count == POP3_ARGUMENTS_MAX) {
            command.argument_count = UINT32_MAX;
            break;
        }
        command.arguments[command.argument_count++] = argument;
    }
    *ret_command = command;
}
