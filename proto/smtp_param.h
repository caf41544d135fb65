/* proto/smtp_param.h - what stands behind the address in MAIL and RCPT: " KEYWORD=value KEYWORD"
 * (RFC 5321 4.1.2). Pure.
 *
 * Only syntax is known here; which keyword means what, and that none comes twice, is the command's.
 */
#ifndef KILAT_PROTO_SMTP_PARAM_H
#define KILAT_PROTO_SMTP_PARAM_H

#include "core/slice.h"

struct smtp_param {
    struct slice keyword;
    struct slice value; /* empty when there is no "=" */
    bool has_value;
};

enum smtp_param_result { SMTP_PARAM_END, SMTP_PARAM_OK, SMTP_PARAM_BAD };

/* Takes the next parameter from the front of `*rest`. Blanks at the end are tolerated (RFC
 * 5321 4.1.1). After SMTP_PARAM_BAD `*rest` is of no use. Slices point into `*rest`. */
enum smtp_param_result smtp_param_next(struct slice *rest, struct smtp_param *ret_param);

#endif
