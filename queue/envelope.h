/* queue/envelope.h - the durable form of an envelope: who sent a message, to whom, and how it reached us.
 *
 * A spool stores it in front of the message and does not look inside. Version 1:
 *
 *     octet 0    version, 1
 *     then       fields until the end: type (1 octet), length (2 octets, little endian), value
 *
 *     type 1     sender: the reverse-path without <>; an empty value is <>. Exactly once, first.
 *     type 2     recipient: local-part@domain or "postmaster". 1 to 10000 times; the n-th is unit n - 1.
 *     type 3     client: the address that gave the message to us. At most once.
 *     type 4     helo: the name it gave. At most once.
 *     type 5     report of: the id of the message this one reports on (8 octets, little endian). At most once.
 *     type 6     report units: the units of that message it reports on (4 octets each). At most once, behind type 5.
 *
 * A type of 128 or above that a reader does not know may be skipped; any other unknown type means that the
 * envelope cannot be understood. So later versions add what may be ignored without a new version.
 *
 * Pure: allocates nothing; a parsed envelope borrows the bytes it was parsed from.
 */
#ifndef KILAT_QUEUE_ENVELOPE_H
#define KILAT_QUEUE_ENVELOPE_H

#include "core/buf.h"

#define ENVELOPE_BYTES_MAX (512 * KIB) /* what a spool takes (storage/spool.h) */
#define ENVELOPE_RECIPIENTS_MAX 10000
#define ENVELOPE_FIELD_MAX 65535
#define ENVELOPE_IGNORABLE 128 /* types from here on may be skipped */

struct envelope {
    struct slice sender, client, helo;
    uint32_t recipient_count;
    uint64_t report_of;        /* 0: no report */
    struct slice report_units; /* little endian, 4 octets each: envelope_report_unit() */
    struct slice recipients;   /* from the first recipient field on; for envelope_next() */
};

/* Appends the durable form. `report_units` count; see struct envelope. 0; -EINVAL: no recipient, too many of them, or a
 * field over 65535 octets; -E2BIG: more than `out` may hold. On failure the bytes of `out` are of no use. */
struct envelope_parts {
    struct slice sender, client, helo;
    const struct slice *recipients;
    uint32_t recipient_count;
    uint64_t report_of;
    const uint32_t *report_units;
    uint32_t report_unit_count;
};
int envelope_write(struct buf *out, const struct envelope_parts *parts);

/* 0, or -EBADMSG: not an envelope of ours (or of a later version that may not be read). */
int envelope_parse(struct slice bytes, struct envelope *ret_envelope);

/* The recipients in order: begin with `*rest` = envelope.recipients. False at the end. */
bool envelope_next(struct slice *rest, struct slice *ret_recipient);

uint32_t envelope_report_unit_count(const struct envelope *envelope);
uint32_t envelope_report_unit(const struct envelope *envelope, uint32_t index);

/* The part behind the last "@"; empty for "postmaster" without a domain. */
struct slice envelope_domain(struct slice address);

#endif
