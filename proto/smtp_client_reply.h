/* proto/smtp_client_reply.h - reads the replies of an SMTP server, in pieces of any size. Pure.
 *
 * A reply (RFC 5321 4.2): lines of "250-text", the last one "250 text" or "250" alone, all with one
 * code. CRLF is what ends a line; a bare LF is taken too, because nothing can be smuggled by a
 * reply. What is longer than `line_max`, has more than SMTP_REPLY_LINES_MAX lines, or disagrees
 * with itself is bad, and stays bad: the session is over then.
 *
 * Whatever the server writes ends in logs, in the queue and in reports, so the text passes one gate
 * here: at most SMTP_REPLY_TEXT_LINES lines joined by spaces, SMTP_REPLY_TEXT_MAX octets, and
 * everything outside 0x20..0x7e is "?" (SECURITY 1.2 B). Memory: nothing is held between replies
 * after smtp_reply_reader_rest(); a line that came whole is not copied.
 */
#ifndef KILAT_PROTO_SMTP_CLIENT_REPLY_H
#define KILAT_PROTO_SMTP_CLIENT_REPLY_H

#include "proto/smtp_client.h"

#define SMTP_REPLY_LINES_MAX 100
#define SMTP_REPLY_TEXT_LINES 10
#define SMTP_REPLY_TEXT_MAX 512

enum smtp_reply_event {
    SMTP_REPLY_MORE, /* the input is used up and the reply is not complete */
    SMTP_REPLY_LINE, /* a line that is not the last: `line` has its text */
    SMTP_REPLY_DONE, /* the last line: `line` has its text, smtp_reply_reader_reply() the whole */
    SMTP_REPLY_BAD,  /* `fault` says in words what is wrong */
};

struct smtp_reply_reader {
    uint32_t line_max;
    uint32_t lines; /* of the reply in hand */
    uint16_t code;
    uint8_t status[3];
    bool complete;     /* private: the next call begins a new reply */
    struct slice line; /* behind the code, raw; borrowed until the next call */
    const char *fault; /* NULL, or why all is over */
    struct buf cut;    /* private: a line whose end has not come */
    struct buf text;   /* private: what is shown to people */
};

void smtp_reply_reader_init(struct smtp_reply_reader *reader, uint32_t line_max);
void smtp_reply_reader_deinit(struct smtp_reply_reader *reader);
/* Takes from `*input` up to the end of one line and advances it. */
enum smtp_reply_event smtp_reply_reader_next(struct smtp_reply_reader *reader, struct slice *input);
/* Only after SMTP_REPLY_DONE; borrowed until the next call. */
struct smtp_remote_reply smtp_reply_reader_reply(const struct smtp_reply_reader *reader);
/* Part of a reply has come and its end has not. */
bool smtp_reply_reader_in_midst(const struct smtp_reply_reader *reader);
/* Between replies: gives the memory back. */
void smtp_reply_reader_rest(struct smtp_reply_reader *reader);

#endif
