/* proto/smtp_body.h - the end of data, and dots: what a message body is on the wire. Pure.
 *
 * Receiving: the end is exactly CRLF "." CRLF, and nothing else is (RFC 5321 4.1.1.4, SECURITY 1.1); the CRLF that
 * ended the DATA line counts as the first. A leading dot is removed after a true CRLF only. Bare CR, bare LF and
 * NUL are noted; the scan reads on to the true end.
 * Sending: a line that begins with a dot gets a second one (RFC 5321 4.5.2), and a body without a final CRLF gets it.
 */
#ifndef KILAT_PROTO_SMTP_BODY_H
#define KILAT_PROTO_SMTP_BODY_H

#include "core/slice.h"

struct smtp_body_scan {
    uint8_t state; /* private */
    /* Set after init: a bare LF becomes CRLF, a bare CR a blank; both are noted all the same. */
    bool normalize;
    bool ended; /* the end of data was consumed */
    bool bare_cr, bare_lf, nul, eight_bit;
    bool dot_line;           /* a line of the content begins with "." after unstuffing */
    uint64_t line_bytes_max; /* of the longest line, CRLF counted */
    uint64_t line_bytes;     /* private */
};
void smtp_body_scan_init(struct smtp_body_scan *scan);
/* Takes the next piece of `*input`: returns a run of content bytes (they point into the input, or at a constant of one or
 * two bytes when a CR that ended the last input turns out to be content, or a bare CR or LF is normalized) and
 * advances `*input` past what was used. Returns an empty slice when `*input` is used up or the end was reached; what
 * follows the end stays in `*input`. The bytes of the final CRLF before the dot are content; the dot and its CRLF are
 * not. A leading dot after a normalized LF is content and stays. Call until it returns an empty slice. */
struct slice smtp_body_scan_next(struct smtp_body_scan *scan, struct slice *input);

/* Stuffs while sending: the next piece of `*input` to be sent as it is; between pieces a dot is to be inserted, which
 * is returned as a slice of its own. Keeps line position between calls. */
struct smtp_body_stuff {
    bool not_at_line_start; /* false at the beginning */
    bool after_cr;
    bool dot_sent; /* private: the extra dot has just been given out */
};
struct slice smtp_body_stuff_next(struct smtp_body_stuff *stuff, struct slice *input);

#endif
