#include "proto/smtp_reply.h"

#include "core/assert.h"

static char *write_number(char *to, unsigned number)
{
    if (number >= 100)
        *to++ = (char)('0' + number / 100);
    if (number >= 10)
        *to++ = (char)('0' + number / 10 % 10);
    *to++ = (char)('0' + number % 10);
    return to;
}

/* The line is made in one piece on the stack, so that a reply is one append whatever it consists
 * of. */
static void write_line(struct buf *out, const struct smtp_reply *reply, char separator)
{
    char line[SMTP_REPLY_LINE_MAX], *to = line, *end = line + sizeof(line) - 2;

    ASSERT(reply->code >= 200 && reply->code <= 599);
    to = write_number(to, reply->code);
    *to++ = separator;
    if (reply->status[0] != 0) {
        ASSERT(reply->status[0] == reply->code / 100); /* RFC 2034 4: the classes agree */
        for (unsigned i = 0; i < 3; i++) {
            to = write_number(to, reply->status[i]);
            *to++ = i < 2 ? '.' : ' ';
        }
    }
    for (size_t i = 0; i < reply->text.size && to < end; i++) {
        uint8_t octet = reply->text.data[i];
        *to++ = octet >= 0x20 && octet <= 0x7e ? (char)octet : '?';
    }
    *to++ = '\r';
    *to++ = '\n';
    buf_append(out, slice_of(line, (size_t)(to - line)));
}

void smtp_reply_write(struct buf *out, const struct smtp_reply *reply)
{
    write_line(out, reply, ' ');
}

void smtp_reply_write_more(struct buf *out, const struct smtp_reply *reply)
{
    write_line(out, reply, '-');
}
