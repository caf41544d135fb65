#include "daemon/control_out.h"

#include <stdio.h>
#include <time.h>

#include "core/assert.h"

#define CONTROL_NAME_WIDTH 26
#define OUT_CALENDAR_MAX_S 253402300799ull /* the year 9999 ends */

static void out_json_string(struct buf *buf, struct slice text)
{
    buf_append_byte(buf, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\')
            buf_printf(buf, "\\%c", c);
        else if (c >= 0x20 && c < 0x7f)
            buf_append_byte(buf, c);
        else
            buf_printf(buf, "\\u%04x", c); /* octets of a peer, shown as Latin-1 */
    }
    buf_append_byte(buf, '"');
}

static void out_plain(struct buf *buf, struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        buf_append_byte(buf, text.data[i] >= 0x20 && text.data[i] < 0x7f ? text.data[i] : '?');
}

void control_out_begin(struct control_out *out)
{
    ASSERT(!out->in_object);
    if (out->json)
        buf_append_cstr(out->buf, out->started ? ",\n{" : "{");
    else if (out->started)
        buf_append_byte(out->buf, '\n');
    out->started = true;
    out->in_object = true;
    out->has_field = false;
}

void control_out_end(struct control_out *out)
{
    ASSERT(out->in_object);
    if (out->json)
        buf_append_byte(out->buf, '}');
    out->in_object = false;
}

static void out_name(struct control_out *out, const char *name)
{
    if (out->json)
        buf_printf(out->buf, "%s\"%s\": ", out->has_field ? ", " : "", name);
    else
        buf_printf(out->buf, "%-*s ", CONTROL_NAME_WIDTH, name);
    out->has_field = true;
}

static void out_line_end(struct control_out *out)
{
    if (!out->json)
        buf_append_byte(out->buf, '\n');
}

void control_out_text(struct control_out *out, const char *name, struct slice text)
{
    out_name(out, name);
    if (out->json)
        out_json_string(out->buf, text);
    else if (text.size == 0)
        buf_append_byte(out->buf, '-');
    else
        out_plain(out->buf, text);
    out_line_end(out);
}

void control_out_cstr(struct control_out *out, const char *name, const char *text)
{
    control_out_text(out, name, slice_cstr(text));
}

void control_out_u64(struct control_out *out, const char *name, uint64_t value)
{
    out_name(out, name);
    buf_append_u64(out->buf, value);
    out_line_end(out);
}

void control_out_i64(struct control_out *out, const char *name, int64_t value)
{
    out_name(out, name);
    buf_printf(out->buf, "%lld", (long long)value);
    out_line_end(out);
}

void control_out_bool(struct control_out *out, const char *name, bool value)
{
    out_name(out, name);
    buf_append_cstr(out->buf, out->json ? (value ? "true" : "false") : (value ? "yes" : "no"));
    out_line_end(out);
}

void control_out_span(char *text, size_t size_bytes, uint64_t seconds)
{
    static const struct {
        uint64_t seconds;
        char name;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    size_t used = 0;
    int shown = 0;

    (void)snprintf(text, size_bytes, "0s");
    for (size_t i = 0; i < ARRAY_SIZE(units) && shown < 2; i++) {
        uint64_t count = seconds / units[i].seconds;
        if (count == 0)
            continue;
        used += (size_t)snprintf(text + used, size_bytes - used, "%llu%c",
                                 (unsigned long long)count, units[i].name);
        seconds -= count * units[i].seconds;
        shown++;
    }
}

void control_out_time(struct control_out *out, const char *name, uint64_t wall_s, uint64_t now_s)
{
    time_t when = (time_t)wall_s;
    char span[64], date[64];
    struct tm parts;

    out_name(out, name);
    if (out->json) {
        buf_append_u64(out->buf, wall_s);
    } else if (wall_s == 0) {
        buf_append_cstr(out->buf, "now");
    } else {
        control_out_span(span, sizeof(span), wall_s > now_s ? wall_s - now_s : now_s - wall_s);
        /* Beyond what a calendar can say, the number has to do. */
        if (wall_s > OUT_CALENDAR_MAX_S || gmtime_r(&when, &parts) == NULL ||
            strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
            (void)snprintf(date, sizeof(date), "%llu", (unsigned long long)wall_s);
        buf_printf(out->buf, wall_s > now_s ? "%s (in %s)" : "%s (%s ago)", date, span);
    }
    out_line_end(out);
}

void control_out_bytes(struct control_out *out, const char *name, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;

    out_name(out, name);
    if (out->json) {
        buf_append_u64(out->buf, bytes);
        return;
    }
    for (; value >= 1024 && unit + 1 < ARRAY_SIZE(units); unit++)
        value /= 1024;
    buf_printf(out->buf, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    out_line_end(out);
}
