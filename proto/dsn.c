#include "proto/dsn.h"

#include "proto/header.h"

#define DSN_LINE_COLUMNS 76 /* where text of others is folded */
#define DSN_LINE_MAX 900    /* RFC 5322 2.1.1 allows 998 */
#define DSN_NAME_MAX 512    /* an address or a host, cut if it is longer: it stands unfolded */
#define DSN_ID_MAX 40       /* of the report; a boundary has at most 70 (RFC 2046 5.1.1) */
#define DSN_HEADERS_MAX (64 * KIB)
static_assert(sizeof("Final-Recipient: rfc822; ") + DSN_NAME_MAX < DSN_LINE_MAX,
              "an unfolded field fits its line");

/* The gate: whatever others wrote goes through it, so that none of it can end a line, begin a
 * field or need more than seven bits (SECURITY 1.2 B). */
static uint8_t gate(uint8_t byte)
{
    return byte >= 0x20 && byte <= 0x7e ? byte : '?';
}

static void write_gated(struct buf *out, struct slice text)
{
    uint8_t *to = buf_extend(out, text.size);

    for (size_t i = 0; to != NULL && i < text.size; i++)
        to[i] = gate(text.data[i]);
}

static void write_name(struct buf *out, struct slice name)
{
    write_gated(out, slice_first(name, DSN_NAME_MAX));
}

/* Letters, digits and what else may stand both in a Message-ID and in a boundary. */
static void write_id(struct buf *out, struct slice id)
{
    id = slice_first(id, DSN_ID_MAX);
    for (size_t i = 0; i < id.size; i++) {
        uint8_t byte = id.data[i], lower = byte_lower(byte);
        bool plain = (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9');

        buf_append_byte(out, plain || byte == '-' || byte == '_' ? byte : '-');
    }
}

/* Text in lines of DSN_LINE_COLUMNS, broken at spaces where there are any; further lines begin
 * with `margin`. The first one has `column` columns already. */
static void write_folded(struct buf *out, struct slice text, size_t column, const char *margin)
{
    text = slice_trim(text);
    while (text.size > 0) {
        size_t room = DSN_LINE_COLUMNS > column + 1 ? DSN_LINE_COLUMNS - column : 1;
        struct slice line = slice_first(text, room);

        if (line.size < text.size && text.data[line.size] != ' ') {
            size_t space = slice_find_last(line, ' ');

            if (space != SIZE_MAX && space > 0)
                line.size = space;
        }
        write_gated(out, line);
        text = slice_trim(slice_skip(text, line.size));
        if (text.size > 0) {
            buf_append(out, SLICE("\r\n"));
            buf_append_cstr(out, margin);
            column = strlen(margin);
        }
    }
}

static void write_boundary(struct buf *out, const struct dsn *dsn)
{
    buf_append(out, SLICE("kilat-report-"));
    write_id(out, dsn->report_id);
}

/* The CRLF before a delimiter belongs to it (RFC 2046 5.1.1). */
static void write_delimiter(struct buf *out, const struct dsn *dsn, bool last)
{
    buf_append(out, SLICE("\r\n--"));
    write_boundary(out, dsn);
    if (last)
        buf_append(out, SLICE("--"));
    buf_append(out, SLICE("\r\n"));
}

static void write_date_field(struct buf *out, const char *name, int64_t wall_s,
                             int32_t zone_offset_s)
{
    char date[HEADER_DATE_SIZE];

    header_date(wall_s, zone_offset_s, date);
    buf_printf(out, "%s: %s\r\n", name, date);
}

static void write_header(struct buf *out, const struct dsn *dsn)
{
    buf_append(out, SLICE("From: Mail Delivery System <MAILER-DAEMON@"));
    write_name(out, dsn->hostname);
    buf_append(out, SLICE(">\r\nTo: <"));
    write_name(out, dsn->sender);
    buf_append(out, SLICE(">\r\nSubject: "));
    buf_append(out, dsn->expired ? SLICE("Your message was given up after many attempts\r\n")
                                 : SLICE("Your message could not be delivered\r\n"));
    write_date_field(out, "Date", dsn->now_s, dsn->zone_offset_s);
    buf_append(out, SLICE("Message-ID: <"));
    write_id(out, dsn->report_id);
    buf_append_byte(out, '@');
    write_name(out, dsn->hostname);
    /* RFC 3834 5: keeps vacation programs and mailing lists from answering. */
    buf_append(out, SLICE(">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
                          "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                          " boundary=\""));
    write_boundary(out, dsn);
    buf_append(out, SLICE("\"\r\n"));
}

/* First part (RFC 6522 3): for people. */
static void write_explanation(struct buf *out, const struct dsn *dsn)
{
    char date[HEADER_DATE_SIZE];

    header_date(dsn->arrival_s, dsn->zone_offset_s, date);
    write_delimiter(out, dsn, false);
    buf_append(out, SLICE("Content-Type: text/plain; charset=us-ascii\r\n\r\n"
                          "This is the mail server "));
    write_name(out, dsn->hostname);
    buf_printf(out, ".\r\n\r\nYour message of %s\r\n", date);
    buf_append(out, dsn->expired
                        ? SLICE("was tried again and again, and the time for that has run out. "
                                "It is\r\nnot delivered to:\r\n")
                        : SLICE("could not be delivered to:\r\n"));
    for (size_t i = 0; i < dsn->recipient_count; i++) {
        const struct dsn_recipient *recipient = &dsn->recipients[i];

        buf_append(out, SLICE("\r\n<"));
        write_name(out, recipient->address);
        buf_append(out, SLICE(">\r\n"));
        if (recipient->remote_host.size > 0) {
            buf_append(out, SLICE("    "));
            write_name(out, recipient->remote_host);
            buf_append(out, SLICE(" says:\r\n"));
        }
        if (recipient->reply.size > 0) {
            buf_append(out, SLICE("    "));
            write_folded(out, recipient->reply, 4, "    ");
            buf_append(out, SLICE("\r\n"));
        }
    }
    buf_append(out, SLICE("\r\nNo more attempts will be made. The header of your message is "
                          "attached.\r\n"));
}

/* What is no failure, or nothing, would make the report contradict itself (RFC 3464 2.3.4). */
static void write_status(struct buf *out, const struct dsn *dsn, const uint8_t status[3])
{
    static const uint8_t expired[3] = {4, 4, 7}, unknown[3] = {5, 0, 0};

    if (status[0] != 4 && status[0] != 5)
        status = dsn->expired ? expired : unknown;
    buf_printf(out, "Status: %u.%u.%u\r\n", status[0], status[1], status[2]);
}

static void write_recipient(struct buf *out, const struct dsn *dsn,
                            const struct dsn_recipient *recipient)
{
    struct slice type = SLICE("smtp; ");

    buf_append(out, SLICE("\r\nFinal-Recipient: rfc822; "));
    write_name(out, recipient->address);
    buf_append(out, SLICE("\r\nAction: failed\r\n"));
    write_status(out, dsn, recipient->status);
    if (recipient->remote_host.size > 0) {
        buf_append(out, SLICE("Remote-MTA: dns; "));
        write_name(out, recipient->remote_host);
        buf_append(out, SLICE("\r\n"));
    } else {
        type = SLICE("x-kilat; "); /* our own words are no SMTP reply (RFC 3464 2.3.6) */
    }
    if (recipient->reply.size > 0) {
        buf_append(out, SLICE("Diagnostic-Code: "));
        buf_append(out, type);
        write_folded(out, recipient->reply, sizeof("Diagnostic-Code: ") - 1 + type.size, "    ");
        buf_append(out, SLICE("\r\n"));
    }
}

/* Second part (RFC 3464 2): for programs. */
static void write_status_part(struct buf *out, const struct dsn *dsn)
{
    write_delimiter(out, dsn, false);
    buf_append(out, SLICE("Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; "));
    write_name(out, dsn->hostname);
    buf_append(out, SLICE("\r\nX-Kilat-Queue-Id: "));
    write_name(out, dsn->queue_id);
    buf_append(out, SLICE("\r\n"));
    write_date_field(out, "Arrival-Date", dsn->arrival_s, dsn->zone_offset_s);
    for (size_t i = 0; i < dsn->recipient_count; i++)
        write_recipient(out, dsn, &dsn->recipients[i]);
}

/* One line of the failed message's header, without its end. Tabs stay, they are white space of
 * folding. What is too long goes on in a continuation line; what looks like a delimiter of ours
 * no longer does. */
static void write_returned_line(struct buf *out, struct slice line)
{
    bool delimiter = line.size >= 2 && line.data[0] == '-' && line.data[1] == '-';
    struct slice rest = line;

    while (rest.size > 0) {
        struct slice piece = slice_first(rest, DSN_LINE_MAX);
        uint8_t *to = buf_extend(out, piece.size);

        for (size_t i = 0; to != NULL && i < piece.size; i++)
            to[i] = piece.data[i] == '\t' ? '\t' : gate(piece.data[i]);
        if (to != NULL && delimiter && rest.size == line.size)
            to[0] = '?';
        rest = slice_skip(rest, piece.size);
        buf_append(out, rest.size > 0 ? SLICE("\r\n ") : SLICE("\r\n"));
    }
}

/* Third part (RFC 6522 4): the header section of the failed message, up to its blank line; whole
 * lines only when it is longer than what is returned of it. */
static void write_returned_headers(struct buf *out, const struct dsn *dsn)
{
    struct slice rest = slice_first(dsn->headers, DSN_HEADERS_MAX);
    bool cut = rest.size < dsn->headers.size;

    write_delimiter(out, dsn, false);
    buf_append(out, SLICE("Content-Type: text/rfc822-headers\r\n\r\n"));
    while (rest.size > 0) {
        bool whole = slice_find(rest, '\n') != SIZE_MAX;
        struct slice line = slice_split(&rest, '\n');

        if (!whole && cut)
            break;
        if (line.size > 0 && line.data[line.size - 1] == '\r')
            line.size--;
        if (line.size == 0)
            break;
        write_returned_line(out, line);
    }
}

void dsn_write(struct buf *out, const struct dsn *dsn)
{
    write_header(out, dsn);
    write_explanation(out, dsn);
    write_status_part(out, dsn);
    write_returned_headers(out, dsn);
    write_delimiter(out, dsn, true);
}
