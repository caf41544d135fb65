#include "proto/pop3_server.h"

void pop3_top_init(struct pop3_top *top, uint64_t lines_max)
{
    *top = (struct pop3_top){.lines_left = lines_max, .at_line_start = true};
}

/* The end of a line was seen; `blank` if nothing, or a lone CR, stood on it. Returns true when
 * the limit is reached. */
static bool top_line_ended(struct pop3_top *top, bool blank)
{
    if (top->in_body)
        top->lines_left--;
    else if (blank)
        top->in_body = true;
    top->at_line_start = true;
    top->after_cr = false;
    return top->in_body && top->lines_left == 0;
}

/* Takes LF for the end of a line, with or without a CR before it, as messages stand on disk. */
struct slice pop3_top_next(struct pop3_top *top, struct slice bytes)
{
    struct slice rest = bytes;

    if (top->done)
        return slice_first(bytes, 0);
    if (top->in_body && top->lines_left == UINT64_MAX)
        return bytes; /* RETR: there is nothing to count */
    while (rest.size > 0) {
        size_t end = slice_find(rest, '\n');
        size_t length = end == SIZE_MAX ? rest.size : end;
        bool only_cr = length == 1 && rest.data[0] == '\r';
        bool nothing = length == 0;

        if (end == SIZE_MAX) {
            top->after_cr = top->at_line_start && only_cr;
            top->at_line_start = false;
            return bytes;
        }
        rest = slice_skip(rest, end + 1);
        if (top_line_ended(top, (top->at_line_start && (nothing || only_cr)) ||
                                    (top->after_cr && nothing))) {
            top->done = true;
            return slice_first(bytes, bytes.size - rest.size);
        }
        if (top->in_body && top->lines_left == UINT64_MAX)
            return bytes;
    }
    return bytes;
}
