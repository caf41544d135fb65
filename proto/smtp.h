/* proto/smtp.h - words that both ends of SMTP share: replies, addresses, limits. Pure.
 *
 * Sources: RFC 5321 (SMTP), RFC 2034 and RFC 3463's classes (enhanced codes), RFC 1870 (SIZE),
 * RFC 1652 (8BITMIME), RFC 2920 (PIPELINING).
 */
#ifndef KILAT_PROTO_SMTP_H
#define KILAT_PROTO_SMTP_H

#include "core/buf.h"

/* Octets, CRLF counted (RFC 5321 4.5.3.1). */
#define SMTP_LOCAL_PART_MAX 64
#define SMTP_DOMAIN_MAX 255
#define SMTP_PATH_MAX 256
#define SMTP_ADDRESS_MAX (SMTP_LOCAL_PART_MAX + 1 + SMTP_DOMAIN_MAX)
#define SMTP_COMMAND_LINE_MAX 2048 /* RFC 5321 asks for 512 and more with extensions */
#define SMTP_TEXT_LINE_MAX 1000

/* A reply as our side decides it. `code` 0 means: not decided yet, the answer comes later. `text`
 * is one printable line without the enhanced code; it is borrowed until the call that took the
 * reply returns. */
struct smtp_reply {
    uint16_t code;
    uint8_t status[3]; /* enhanced, e.g. {5, 1, 1}; {0} for none */
    struct slice text;
};
#define SMTP_PENDING ((struct smtp_reply){0})
/* The formatter takes the slice in it for a list to be aligned, and breaks the line without a "\". */
/* clang-format off */
#define SMTP_REPLY(c, a, b, d, literal)                                                            \
    ((struct smtp_reply){.code = (c), .status = {(a), (b), (d)}, .text = SLICE(literal)})
/* clang-format on */
static inline bool smtp_reply_is_pending(const struct smtp_reply *reply)
{
    return reply->code == 0;
}

/* A mailbox, as RFC 5321 4.1.2 writes it, split. Slices point into what was parsed. */
struct smtp_address {
    struct slice whole;  /* local-part@domain, without <> and without a source route */
    struct slice local;  /* as written; quotes and all when quoted */
    struct slice domain; /* empty for <> and for <postmaster> */
    bool quoted;
    bool literal; /* the domain is an address literal, brackets included */
};

/* Parses what stands between MAIL FROM: / RCPT TO: and the parameters: "<...>", as a whole.
 * `null_allowed` admits
 * <> (reverse path), `postmaster_allowed` admits <postmaster> without a domain. A source route is
 * accepted and ignored (RFC 5321 appendix C). Returns false for anything else; `*ret_rest` is what
 * follows the ">". */
bool smtp_path_parse(struct slice input, bool null_allowed, bool postmaster_allowed,
                     struct smtp_address *ret_address, struct slice *ret_rest);
/* "name@domain" alone, as it stands in files and on command lines. */
bool smtp_address_parse(struct slice input, struct smtp_address *ret_address);
/* LDH labels, 1..63 octets each, at most 255, no address literal. */
bool smtp_domain_is_valid(struct slice domain);
/* "[192.0.2.1]" or "[IPv6:2001:db8::1]", brackets included (RFC 5321 4.1.3). */
bool smtp_literal_is_valid(struct slice literal);

#endif
