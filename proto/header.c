#include "proto/header.h"

#include <stdio.h>

#define DAY_S 86400

/* Year, month (1..12) and day of a day counted from 1970-01-01, in the proleptic Gregorian
 * calendar: a year that begins in March has its leap day at its end, so that the months before it
 * never move. */
static void civil_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t shifted = days + 719468; /* from 0000-03-01 */
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    unsigned day_of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * day_of_year + 2) / 153; /* 0 is March */

    *ret_day = day_of_year - (153 * month + 2) / 5 + 1;
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = (int64_t)year_of_era + era * 400 + (*ret_month <= 2);
}

void header_date(int64_t wall_s, int32_t zone_offset_s, char text[HEADER_DATE_SIZE])
{
    static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int64_t local_s = wall_s + zone_offset_s, day = local_s / DAY_S, second = local_s % DAY_S, year;
    int zone_minutes = (zone_offset_s < 0 ? -zone_offset_s : zone_offset_s) / 60;
    unsigned month, day_of_month;

    if (second < 0) {
        second += DAY_S;
        day--;
    }
    civil_from_days(day, &year, &month, &day_of_month);
    (void)snprintf(text, HEADER_DATE_SIZE, "%s, %u %s %04d %02d:%02d:%02d %c%02d%02d",
                   days[(day % 7 + 7) % 7], day_of_month, months[month - 1], (int)(year % 10000),
                   (int)(second / 3600), (int)(second / 60 % 60), (int)(second % 60),
                   zone_offset_s < 0 ? '-' : '+', zone_minutes / 60 % 100, zone_minutes % 60);
}

/* The gate for all that others named (SECURITY 1.2 B): nothing that ends a line, and nothing that
 * is not ASCII. */
static void header_append_printable(struct buf *out, struct slice text)
{
    uint8_t *to = buf_extend(out, text.size);

    for (size_t i = 0; to != NULL && i < text.size; i++)
        to[i] = text.data[i] >= 0x20 && text.data[i] <= 0x7e ? text.data[i] : '?';
}

/* What the client calls itself may be nonsense. Only what stands in domains and address literals
 * passes, or a ";" or
 * "(" of its choice would let it forge the rest of the field. */
static void header_append_helo(struct buf *out, struct slice helo)
{
    uint8_t *to;

    if (helo.size == 0)
        helo = SLICE("unknown");
    to = buf_extend(out, helo.size);
    for (size_t i = 0; to != NULL && i < helo.size; i++) {
        uint8_t octet = helo.data[i];
        bool safe = (byte_lower(octet) >= 'a' && byte_lower(octet) <= 'z') ||
                    (octet >= '0' && octet <= '9') ||
                    (octet != 0 && strchr(".-_:[]", octet) != NULL);
        to[i] = safe ? octet : '?';
    }
}

void header_write_received(struct buf *out, const struct header_received *received)
{
    char date[HEADER_DATE_SIZE];

    buf_append(out, SLICE("Received: from "));
    header_append_helo(out, received->helo);
    if (received->client.size > 0) {
        buf_append(out, SLICE(" (["));
        header_append_helo(out, received->client);
        buf_append(out, SLICE("])"));
    }
    buf_append(out, SLICE("\r\n\tby "));
    header_append_printable(out, received->by);
    buf_append(out, SLICE(" with "));
    header_append_printable(out, received->protocol);
    if (received->id.size > 0) {
        buf_append(out, SLICE(" id "));
        header_append_printable(out, received->id);
    }
    if (received->recipient.size > 0) {
        buf_append(out, SLICE("\r\n\tfor <"));
        header_append_printable(out, received->recipient);
        buf_append(out, SLICE(">"));
    }
    header_date(received->wall_s, received->zone_offset_s, date);
    buf_append(out, SLICE(";\r\n\t"));
    buf_append_cstr(out, date);
    buf_append(out, SLICE("\r\n"));
}

void header_write_return_path(struct buf *out, struct slice sender)
{
    buf_append(out, SLICE("Return-Path: <"));
    header_append_printable(out, sender);
    buf_append(out, SLICE(">\r\n"));
}

enum scan_state {
    SCAN_NAME,   /* at the start of a line, or `matched` octets into "received" */
    SCAN_COLON,  /* behind "received": blanks may stand before the colon (RFC 5322 4.5.3) */
    SCAN_BLANK,  /* a line that begins with CR: the section ends if LF follows */
    SCAN_TO_END, /* of no interest up to the end of the line */
};

static const char scan_name[] = "received";

void header_scan_init(struct header_scan *scan)
{
    *scan = (struct header_scan){.state = SCAN_NAME};
}

static void header_scan_octet(struct header_scan *scan, uint8_t octet)
{
    if (scan->bytes == 0 && (octet == ' ' || octet == '\t'))
        scan->starts_folded = true;
    scan->bytes++;
    if (scan->state == SCAN_BLANK && octet == '\n')
        scan->ended = true;
    else if (scan->state == SCAN_NAME && scan->matched == 0 && octet == '\r')
        scan->state = SCAN_BLANK;
    else if (scan->state == SCAN_NAME && byte_lower(octet) == (uint8_t)scan_name[scan->matched])
        scan->state = ++scan->matched == sizeof(scan_name) - 1 ? SCAN_COLON : SCAN_NAME;
    else if (scan->state == SCAN_COLON && (octet == ' ' || octet == '\t'))
        scan->state = SCAN_COLON;
    else {
        scan->received_count += scan->state == SCAN_COLON && octet == ':';
        scan->state = octet == '\n' ? SCAN_NAME : SCAN_TO_END;
        scan->matched = 0;
    }
}

void header_scan_feed(struct header_scan *scan, struct slice bytes)
{
    while (bytes.size > 0 && !scan->ended) {
        if (scan->state == SCAN_TO_END) {
            size_t lf = slice_find(bytes, '\n');
            size_t used = lf == SIZE_MAX ? bytes.size : lf + 1;

            scan->bytes += used;
            bytes = slice_skip(bytes, used);
            if (lf != SIZE_MAX)
                scan->state = SCAN_NAME;
            continue;
        }
        header_scan_octet(scan, bytes.data[0]);
        bytes = slice_skip(bytes, 1);
    }
}
