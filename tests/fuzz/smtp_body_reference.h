/* tests/fuzz/smtp_body_reference.h - the end-of-data scanner as one would write it with the whole
 * body in memory: slow, plain, and the judge of proto/smtp_body.c. For tests only.
 */
#ifndef KILAT_TESTS_FUZZ_SMTP_BODY_REFERENCE_H
#define KILAT_TESTS_FUZZ_SMTP_BODY_REFERENCE_H

#include "proto/smtp_body.h"

struct body_reference {
    uint8_t *content; /* room for twice the input, the caller's */
    size_t content_bytes;
    size_t used; /* of the input, when ended */
    bool ended, bare_cr, bare_lf, nul, eight_bit;
};

static inline void body_reference_scan(struct body_reference *ref, struct slice in, bool normalize)
{
    bool line_start = true; /* the CRLF of the DATA line */

    for (size_t i = 0; i < in.size; i++) {
        uint8_t c = in.data[i], next = i + 1 < in.size ? in.data[i + 1] : 0;

        if (line_start && c == '.') {
            line_start = false;
            if (i + 2 < in.size && next == '\r' && in.data[i + 2] == '\n') {
                ref->ended = true;
                ref->used = i + 3;
                return;
            }
            continue;
        }
        line_start = false;
        if (c == '\r' && i + 1 == in.size)
            return; /* not known yet */
        if (c == '\r' && next == '\n') {
            line_start = true;
            i++;
        }
        ref->bare_cr |= c == '\r' && !line_start;
        ref->bare_lf |= c == '\n';
        ref->nul |= c == 0;
        ref->eight_bit |= c > 127;
        if (line_start || (normalize && c == '\n'))
            ref->content[ref->content_bytes++] = '\r', c = '\n';
        ref->content[ref->content_bytes++] = normalize && c == '\r' ? ' ' : c;
    }
}

/* What the content alone tells, where it has only true line ends: the longest line, and a line that
 * begins with a dot. */
static inline void body_reference_lines(const struct body_reference *ref, uint64_t *ret_line_max,
                                        bool *ret_dot_line)
{
    size_t start = 0;

    *ret_line_max = 0;
    *ret_dot_line = false;
    for (size_t i = 0; i < ref->content_bytes; i++) {
        *ret_dot_line |= i == start && ref->content[i] == '.';
        *ret_line_max = MAX(*ret_line_max, i + 1 - start);
        if (ref->content[i] == '\n')
            start = i + 1;
    }
}

#endif
