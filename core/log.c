#include "core/log.h"

#include "core/assert.h"
#include "core/buf.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LOG_LINE_BYTES_MAX (16 * KIB) /* a longer line is not written but counted as dropped */
#define LOG_TEXT_BYTES_MAX 1024       /* of one field; what a peer sends must not fill the log */
#define CACHE_LINE_BYTES 64

/* One ring of bytes; both counters only grow. */
struct log {
    enum log_level level;
    enum log_format format;
    size_t mask;
    uint8_t *bytes;
    uint64_t wall_ns;
    struct buf line;
    uint64_t dropped_told;
    void (*press)(void *context); /* may be NULL */
    void *press_context;
    bool pressed; /* since it was last less than half full */
    _Atomic uint64_t dropped;
    _Alignas(CACHE_LINE_BYTES) _Atomic size_t written; /* producer's */
    _Alignas(CACHE_LINE_BYTES) _Atomic size_t taken;   /* consumer's */
};

int log_create(size_t size_bytes, enum log_level level, enum log_format format,
               struct log **ret_log)
{
    struct log *log;

    ASSERT(size_bytes > 0 && (size_bytes & (size_bytes - 1)) == 0);
    log = aligned_alloc(CACHE_LINE_BYTES, sizeof(*log));
    if (log == NULL)
        return -ENOMEM;
    *log = (struct log){.level = level, .format = format, .mask = size_bytes - 1};
    buf_init(&log->line, LOG_LINE_BYTES_MAX);
    log->bytes = malloc(size_bytes);
    if (log->bytes == NULL) {
        free(log);
        return -ENOMEM;
    }
    *ret_log = log;
    return 0;
}

void log_destroy(struct log **log)
{
    if (*log == NULL)
        return;
    buf_deinit(&(*log)->line);
    free((*log)->bytes);
    free(*log);
    *log = NULL;
}

void log_configure(struct log *log, enum log_level level, enum log_format format)
{
    log->level = level;
    log->format = format;
}

void log_set_time(struct log *log, uint64_t wall_ns)
{
    if (log != NULL)
        log->wall_ns = wall_ns;
}

/* ---- the ring of bytes ----------------------------------------------------------------------- */

static void press_once(struct log *log, bool pressing)
{
    if (pressing && !log->pressed && log->press != NULL)
        log->press(log->press_context);
    log->pressed = pressing;
}

static bool ring_put(struct log *log, struct slice line)
{
    size_t at = atomic_load_explicit(&log->written, memory_order_relaxed);
    size_t taken = atomic_load_explicit(&log->taken, memory_order_acquire);
    size_t first;

    if (line.size > log->mask + 1 - (at - taken))
        return false;
    first = MIN(line.size, log->mask + 1 - (at & log->mask));
    memcpy(log->bytes + (at & log->mask), line.data, first);
    memcpy(log->bytes, line.data + first, line.size - first);
    atomic_store_explicit(&log->written, at + line.size, memory_order_release);
    press_once(log, at + line.size - taken > (log->mask + 1) / 2);
    return true;
}

size_t log_take(struct log *log, void *to, size_t size)
{
    size_t at = atomic_load_explicit(&log->taken, memory_order_relaxed);
    size_t written = atomic_load_explicit(&log->written, memory_order_acquire);
    size_t count = MIN(size, written - at);
    size_t first = MIN(count, log->mask + 1 - (at & log->mask));

    memcpy(to, log->bytes + (at & log->mask), first);
    memcpy((uint8_t *)to + first, log->bytes, count - first);
    atomic_store_explicit(&log->taken, at + count, memory_order_release);
    return count;
}

bool log_is_pressing(const struct log *log)
{
    /* `taken` first: read the other way round, the consumer could pass what we saw written. */
    size_t taken = atomic_load_explicit(&log->taken, memory_order_acquire);
    size_t written = atomic_load_explicit(&log->written, memory_order_acquire);

    return written - taken > (log->mask + 1) / 2;
}

void log_on_pressing(struct log *log, void (*press)(void *context), void *context)
{
    log->press = press;
    log->press_context = context;
}

uint64_t log_dropped(const struct log *log)
{
    return atomic_load_explicit(&log->dropped, memory_order_relaxed);
}

/* ---- one line -------------------------------------------------------------------------------- */

static const char *const level_names[] = {"debug", "info", "notice", "warning", "error"};
static const char hex_digits[] = "0123456789abcdef";

/* Proleptic Gregorian date from days since 1970-01-01, by eras of 400 years that begin in March. */
static void date_of(uint64_t days, uint32_t *ret_year, uint32_t *ret_month, uint32_t *ret_day)
{
    uint64_t z = days + 719468;
    uint64_t era = z / 146097;
    uint32_t day_of_era = (uint32_t)(z % 146097);
    uint32_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t march_month = (5 * day_of_year + 2) / 153;

    *ret_day = day_of_year - (153 * march_month + 2) / 5 + 1;
    *ret_month = march_month < 10 ? march_month + 3 : march_month - 9;
    *ret_year = (uint32_t)(year_of_era + era * 400 + (*ret_month <= 2));
}

static void put_digits(uint8_t *at, uint64_t value, size_t count)
{
    while (count > 0) {
        at[--count] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

static void append_time(struct buf *line, uint64_t wall_ns)
{
    uint64_t second = wall_ns / SECOND_NS;
    uint32_t of_day = (uint32_t)(second % 86400);
    uint32_t year, month, day;
    uint8_t text[] = "0000-00-00T00:00:00.000000Z";

    date_of(second / 86400, &year, &month, &day);
    put_digits(text, year, 4);
    put_digits(text + 5, month, 2);
    put_digits(text + 8, day, 2);
    put_digits(text + 11, of_day / 3600, 2);
    put_digits(text + 14, of_day / 60 % 60, 2);
    put_digits(text + 17, of_day % 60, 2);
    put_digits(text + 20, wall_ns % SECOND_NS / US_NS, 6);
    buf_append(line, slice_of(text, sizeof(text) - 1));
}

/* May stand unquoted in logfmt. */
static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];

        if (c <= 0x20 || c > 0x7e || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return text.size > 0;
}

/* Every byte that is not printable ASCII is written as its number: no byte of a peer can begin a
 * line, a field or a terminal's control sequence. In JSON a byte becomes the code point of its
 * value. */
static void append_quoted(struct buf *line, struct slice text, enum log_format format)
{
    buf_append_byte(line, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];

        if (c == '"' || c == '\\') {
            buf_append_byte(line, '\\');
            buf_append_byte(line, c);
        } else if (c >= 0x20 && c <= 0x7e) {
            buf_append_byte(line, c);
        } else {
            buf_append_cstr(line, format == LOG_JSON ? "\\u00" : "\\x");
            buf_append_byte(line, (uint8_t)hex_digits[c >> 4]);
            buf_append_byte(line, (uint8_t)hex_digits[c & 15]);
        }
    }
    buf_append_byte(line, '"');
}

static void append_text(struct buf *line, struct slice text, enum log_format format)
{
    text = slice_first(text, LOG_TEXT_BYTES_MAX);
    if (format == LOG_LOGFMT && is_plain(text))
        buf_append(line, text);
    else
        append_quoted(line, text, format);
}

static void append_value(struct buf *line, const struct log_field *field, enum log_format format)
{
    switch (field->kind) {
    case LOG_FIELD_TEXT:
        append_text(line, field->text, format);
        break;
    case LOG_FIELD_U64:
        buf_append_u64(line, field->u64);
        break;
    case LOG_FIELD_I64:
        if (field->i64 < 0)
            buf_append_byte(line, '-');
        buf_append_u64(line, field->i64 < 0 ? 0 - (uint64_t)field->i64 : (uint64_t)field->i64);
        break;
    case LOG_FIELD_BOOL:
        buf_append_cstr(line, field->truth ? "true" : "false");
        break;
    case LOG_FIELD_END:
        break;
    }
}

/* Names come from our own code, so they need no escaping. */
static void append_name(struct buf *line, const char *name, enum log_format format)
{
    buf_append_cstr(line, format == LOG_JSON ? ",\"" : " ");
    buf_append_cstr(line, name);
    buf_append_cstr(line, format == LOG_JSON ? "\":" : "=");
}

static bool write_line(struct log *log, enum log_level level, const char *event,
                       const struct log_field *fields)
{
    struct buf *line = &log->line;
    bool json = log->format == LOG_JSON;

    buf_reset(line);
    buf_append_cstr(line, json ? "{\"time\":\"" : "time=");
    append_time(line, log->wall_ns);
    if (json)
        buf_append_byte(line, '"');
    append_name(line, "level", log->format);
    append_text(line, slice_cstr(level_names[level]), log->format);
    append_name(line, "event", log->format);
    append_text(line, slice_cstr(event), log->format);
    for (; fields->kind != LOG_FIELD_END; fields++) {
        append_name(line, fields->name, log->format);
        append_value(line, fields, log->format);
    }
    buf_append_cstr(line, json ? "}\n" : "\n");
    return !line->failed && ring_put(log, buf_slice(line));
}

void log_event_fields(struct log *log, enum log_level level, const char *event,
                      const struct log_field *fields)
{
    uint64_t dropped;

    if (log == NULL || level < log->level)
        return;
    dropped = log_dropped(log);
    if (dropped > log->dropped_told) {
        const struct log_field lost[] = {log_u64("lines", dropped - log->dropped_told),
                                         {.kind = LOG_FIELD_END}};

        if (write_line(log, LOG_WARNING, "log.dropped", lost))
            log->dropped_told = dropped;
    }
    if (log->dropped_told == dropped && write_line(log, level, event, fields))
        return;
    atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
}
