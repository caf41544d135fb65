/* proto/dsn.h - writes a delivery report: multipart/report (RFC 6522) with message/delivery-status
 * (RFC 3464). Pure.
 */
#ifndef KILAT_PROTO_DSN_H
#define KILAT_PROTO_DSN_H

#include "core/buf.h"

struct dsn_recipient {
    struct slice address;     /* final recipient */
    uint8_t status[3];        /* enhanced, {5,0,0} when nothing better is known */
    struct slice remote_host; /* who said so; empty: we did */
    struct slice reply;       /* one printable line */
};

struct dsn {
    struct slice hostname;  /* Reporting-MTA */
    struct slice queue_id;  /* of the message that failed */
    struct slice report_id; /* for Message-ID and the boundary */
    struct slice sender;    /* to whom the report goes; never empty: no report about a report */
    int64_t arrival_s, now_s;
    int32_t zone_offset_s;
    const struct dsn_recipient *recipients;
    size_t recipient_count;
    struct slice headers; /* of the failed message; at most 64 KiB of them are returned */
    bool expired;         /* time ran out, as against refused */
};

/* The whole message, CRLF line ends, seven bits, From: MAILER-DAEMON@hostname, Auto-Submitted:
 * auto-replied (RFC 3834 asks for it). Appends to `out`, whose `failed` says that it did not
 * fit. What others wrote (addresses, hosts, replies, headers) may hold anything: it is made
 * printable here. */
void dsn_write(struct buf *out, const struct dsn *dsn);

#endif
