/* core/log.h - named events with typed fields; never blocks a shard, counts what it drops.
 *
 * log_event() formats one line (logfmt or JSON) into the log's own memory; a writer thread
 * (core/thread.h) carries it out. When the memory is full the line is dropped and counted, and the
 * next line that fits is preceded by a `log.dropped` event. Every text is escaped here, at the one
 * writer: a peer cannot make lines, fields or terminal codes. Nothing secret is ever a field.
 * Shard: a log has one producer, its shard (or the boot thread before the shards run), and one
 * consumer.
 */
#ifndef KILAT_CORE_LOG_H
#define KILAT_CORE_LOG_H

#include "core/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

enum log_field_kind { LOG_FIELD_END, LOG_FIELD_TEXT, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_BOOL };
struct log_field {
    const char *name;
    enum log_field_kind kind;
    union {
        struct slice text;
        uint64_t u64;
        int64_t i64;
        bool truth;
    };
};

static inline struct log_field log_text(const char *name, struct slice text)
{
    return (struct log_field){.name = name, .kind = LOG_FIELD_TEXT, .text = text};
}
static inline struct log_field log_cstr(const char *name, const char *text)
{
    return log_text(name, slice_cstr(text));
}
static inline struct log_field log_u64(const char *name, uint64_t value)
{
    return (struct log_field){.name = name, .kind = LOG_FIELD_U64, .u64 = value};
}
static inline struct log_field log_i64(const char *name, int64_t value)
{
    return (struct log_field){.name = name, .kind = LOG_FIELD_I64, .i64 = value};
}
static inline struct log_field log_bool(const char *name, bool value)
{
    return (struct log_field){.name = name, .kind = LOG_FIELD_BOOL, .truth = value};
}

struct log;
/* `size_bytes` of memory, a power of two. 0 or -ENOMEM. Shard: boot. */
int log_create(size_t size_bytes, enum log_level level, enum log_format format,
               struct log **ret_log);
void log_destroy(struct log **log);
/* Takes effect with the next event. Shard: owner. */
void log_configure(struct log *log, enum log_level level, enum log_format format);
/* The owner says what time it is (wall clock); shard_tick() does. */
void log_set_time(struct log *log, uint64_t wall_ns);
/* Gathered and not yet written: the writer's side. Returns the bytes copied to `to`. */
size_t log_take(struct log *log, void *to, size_t size);
/* More than half full: worth waking the writer. Shard: any. */
bool log_is_pressing(const struct log *log);
/* `press` is called inside log_event() whenever the memory has become more than half full; it must
 * not block. For the writer (core/thread.h). Shard: boot. */
void log_on_pressing(struct log *log, void (*press)(void *context), void *context);
uint64_t log_dropped(const struct log *log);

/* `fields` ends with LOG_FIELD_END. NULL as a log is allowed: nothing happens (tests). */
void log_event_fields(struct log *log, enum log_level level, const char *event,
                      const struct log_field *fields);
/* log_event(log, LOG_NOTICE, "smtp.rcpt.refused", log_u64("session", id), log_text("rcpt", rcpt));
 */
#define log_event(log, level, event, ...)                                                          \
    log_event_fields(                                                                              \
        log, level, event,                                                                         \
        (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.kind = LOG_FIELD_END}})

#endif
