/* proto/smtp_reply.h - one reply line into a buffer (RFC 5321 4.2, RFC 2034 4). Pure.
 */
#ifndef KILAT_PROTO_SMTP_REPLY_H
#define KILAT_PROTO_SMTP_REPLY_H

#include "proto/smtp.h"

#define SMTP_REPLY_LINE_MAX 512 /* CRLF counted (RFC 5321 4.5.3.1.5) */

/* "250 2.1.0 text" and CRLF; the enhanced code only when there is one. What is not printable in the
 * text becomes "?", what is too long is cut. Errors are those of `out` (sticky). */
void smtp_reply_write(struct buf *out, const struct smtp_reply *reply);
/* The same with "-" behind the code: more lines of this reply follow. */
void smtp_reply_write_more(struct buf *out, const struct smtp_reply *reply);

#endif
