/* proto/smtp_parse.h - command lines: octets to lines, lines to verbs. Pure, and without memory of
 * its own but for a line that the network has cut.
 *
 * A line ends at CRLF and nowhere else. A bare LF never makes two commands of one: the line is
 * refused at the LF, and what follows up to the next true CRLF belongs to it and is dropped without
 * a reply, so that a strict sender before us, who sees one command there, gets one reply
 * (SECURITY 1.1). Who goes on with bare LF is cut off.
 */
#ifndef KILAT_PROTO_SMTP_PARSE_H
#define KILAT_PROTO_SMTP_PARSE_H

#include "core/buf.h"

#define SMTP_LINE_ENDLESS_BYTES                                                                    \
    (64 * KIB) /* SECURITY 1.2 D: over 64 KiB without a line end: close */

enum smtp_line {
    SMTP_LINE_PARTIAL, /* the input is used up, no line is complete */
    SMTP_LINE_OK,
    SMTP_LINE_BARE_LF,   /* refused at once; see above */
    SMTP_LINE_BAD_OCTET, /* a complete line with a control octet, so also with NUL or a bare CR */
    SMTP_LINE_TOO_LONG,  /* a complete line, longer than allowed */
    SMTP_LINE_ENDLESS,   /* no end in sight, or bare LF again: close */
    SMTP_LINE_NO_MEMORY, /* for the part to be carried: close */
};

struct smtp_line_reader {
    struct buf carry;    /* the beginning of a line whose end has not come; no memory otherwise */
    uint32_t line_bytes; /* of the line in hand, so far */
    bool carry_spent;    /* private: the carried line was given out */
    bool after_cr;       /* private */
    bool refused;        /* private: the rest of this line has no reply of its own */
};

/* `line_max` octets, CRLF counted. */
void smtp_line_reader_init(struct smtp_line_reader *reader, uint32_t line_max);
void smtp_line_reader_deinit(struct smtp_line_reader *reader);
/* Takes one line from the front of `*input`; `*ret_line` (only with SMTP_LINE_OK) is without its
 * CRLF and is borrowed from the input or the reader until the next call. */
enum smtp_line smtp_line_next(struct smtp_line_reader *reader, struct slice *input,
                              struct slice *ret_line);
/* Between inputs: gives memory back, unless part of a line is carried. Ends the borrowing. */
void smtp_line_rest(struct smtp_line_reader *reader);

enum smtp_verb {
    SMTP_VERB_HELO,
    SMTP_VERB_EHLO,
    SMTP_VERB_MAIL,
    SMTP_VERB_RCPT,
    SMTP_VERB_DATA,
    SMTP_VERB_RSET,
    SMTP_VERB_NOOP,
    SMTP_VERB_VRFY,
    SMTP_VERB_HELP,
    SMTP_VERB_QUIT,
    SMTP_VERB_EXPN,
    SMTP_VERB_AUTH,
    SMTP_VERB_STARTTLS,
    SMTP_VERB_BDAT,
    SMTP_VERB_ETRN,
    SMTP_VERB_UNKNOWN,
    SMTP_VERBS
};

/* "VERB" or "VERB argument"; the verb in any case. `*ret_argument` is without the one space before
 * it and without blanks at its end. */
enum smtp_verb smtp_verb_parse(struct slice line, struct slice *ret_argument);
/* A line of another protocol: a request line of HTTP. */
bool smtp_line_is_foreign(struct slice line);

#endif
