/* core/setting.h - the engine of setting tables: one row a setting; parse, check, print the manual.
 *
 * A program writes its table once (daemon/settings_table.c); the file is read by libconfuse (types,
 * line numbers, sections), and from the same rows come the defaults file, the manual page and error
 * messages: "kilat.conf:12: smtp_command_timeout: expected a duration between 1m and 1h, got
 * \"soon\"".
 *
 * Units: durations are milliseconds ("500ms", "30s", "5m", "1h", "2d"), sizes are bytes ("64K",
 * "10M", "1G"). Shard: boot (and the control thread at reload): blocks on reading the file.
 */
#ifndef KILAT_CORE_SETTING_H
#define KILAT_CORE_SETTING_H

#include "core/buf.h"

enum setting_kind {
    SETTING_BOOL,     /* bool */
    SETTING_NUMBER,   /* uint64_t, min..max */
    SETTING_DURATION, /* uint64_t milliseconds, min..max */
    SETTING_SIZE,     /* uint64_t bytes, min..max */
    SETTING_TEXT,     /* char *, owned; `fallback_text` */
    SETTING_CHOICE,   /* uint64_t index into `choices` */
    SETTING_LIST,     /* struct setting_list, owned */
    SETTING_SECTION,  /* struct setting_sections, owned: each titled section is one struct of
                         `section_size` */
};

struct setting_list {
    char **items;
    size_t count;
};
struct setting_sections {
    void *items; /* count structs of section_size; each begins with `char *title` */
    size_t count;
};

struct setting {
    const char *name;
    enum setting_kind kind;
    size_t offset; /* of the value in the struct */
    uint64_t fallback, min, max;
    const char *fallback_text;  /* TEXT; LIST: items separated by blanks */
    const char *const *choices; /* ends with NULL */
    const struct setting *rows; /* SECTION: its table, ends with a NULL name */
    size_t section_size;
    bool reload;     /* a reload may change it; otherwise a restart is needed */
    bool required;   /* of a section or the file: an empty TEXT is an error */
    const char *doc; /* one or two sentences, with RFC where there is one */
    /* Optional check of a TEXT or of each item of a LIST; NULL when fine, otherwise what was
     * expected. */
    const char *(*check)(const char *text);
};

/* Fills `*values` (zeroed by the caller) from the file. 0, or -EINVAL / -ENOENT / ... with one
 * sentence in `error` (file, line, what was expected). On failure `values` holds nothing to free.
 */
int settings_read(const struct setting *table, const char *path, void *values, struct buf *error);
/* The same from memory (fuzzing, tests); `name` stands for the path. */
int settings_parse(const struct setting *table, struct slice text, const char *name, void *values,
                   struct buf *error);
/* All fallbacks. */
void settings_fallbacks(const struct setting *table, void *values);
void settings_free(const struct setting *table, void *values);
/* The sample file: every row, commented out at its default, with its doc. */
void settings_print_defaults(const struct setting *table, struct buf *out);
/* The rows as the body of a manual page (roff), for kilat.conf(5). */
void settings_print_manual(const struct setting *table, struct buf *out);
/* "name = value" of each row as it is in `values`; with `changed_only` those that differ from the
 * default. */
void settings_print_values(const struct setting *table, const void *values, bool changed_only,
                           struct buf *out);
/* The first row that differs and may not change at a reload, or NULL. */
const struct setting *settings_reload_conflict(const struct setting *table, const void *old_values,
                                               const void *new_values);

#endif
