/* proto/header.h - trace fields and dates: what an MTA itself writes into a message. Pure.
 *
 * Nothing else of a header section is parsed: we need none of MIME to relay (SECURITY 1.2 D).
 */
#ifndef KILAT_PROTO_HEADER_H
#define KILAT_PROTO_HEADER_H

#include "core/buf.h"

/* "Tue, 24 Nov 2026 22:30:00 +0000" (RFC 5322 3.3). */
#define HEADER_DATE_SIZE 40
void header_date(int64_t wall_s, int32_t zone_offset_s, char text[HEADER_DATE_SIZE]);

/* A Received field (RFC 5321 4.4), folded, CRLF at its end. All names pass a gate: what is not printable becomes "?". */
struct header_received {
    struct slice helo;      /* what the client called itself */
    struct slice client;    /* its address as a literal, "192.0.2.1" or "IPv6:2001:db8::1" */
    struct slice by;        /* our name */
    struct slice protocol;  /* "ESMTP", "SMTP" (RFC 3848) */
    struct slice id;        /* the queue id as shown to people */
    struct slice recipient; /* only when there is exactly one (privacy); empty otherwise */
    int64_t wall_s;
    int32_t zone_offset_s;
};
void header_write_received(struct buf *out, const struct header_received *received);
/* "Return-Path: <sender>" (RFC 5321 4.4), added at final delivery. */
void header_write_return_path(struct buf *out, struct slice sender);

/* Scans a header section as it arrives, in pieces of any size: counts Received fields, finds its end. */
struct header_scan {
    uint8_t state;      /* private */
    uint8_t matched;    /* private */
    bool ended;         /* the blank line was seen */
    bool starts_folded; /* the message begins with SP or TAB: it would continue our own field */
    uint32_t received_count;
    uint64_t bytes; /* of the section so far, blank line included */
};
void header_scan_init(struct header_scan *scan);
void header_scan_feed(struct header_scan *scan, struct slice bytes); /* nothing once ended */

#endif
