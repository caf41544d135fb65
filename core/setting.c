#include "core/setting_private.h"

#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/assert.h"
#include "core/file.h"

#define SETTING_ROWS_MAX 256 /* of one table; a wider one is our own fault */
#define SETTING_FILE_BYTES_MAX (16 * MIB)
#define SETTING_SENTENCE_SIZE 512
#define SETTING_TITLE_MAX 255 /* of a section: a domain name, the longest there is, fits */
#define SETTING_SHOWN_MAX 200 /* of a refused value */

/* A file that was cut must not pass for a shorter one, but libconfuse takes its end for the end of an
 * open section or comment. So a last setting is put behind the text, and has to be seen. */
#define SETTING_END "end_of_file"
#define SETTING_CUT "ends in the midst of a section, list, value or comment"

/* How often each row of a table was set; of a list: with how many items, and whether it is closed. */
struct setting_seen {
    uint32_t items[SETTING_ROWS_MAX];
    bool closed[SETTING_ROWS_MAX];
};

/* libconfuse hands its callbacks no context of the caller, so the one parse under way on this
 * thread is found here. */
struct setting_parse {
    const struct setting *table;
    const char *name;
    struct buf *error;
    struct setting_seen seen, section_seen;
    const cfg_t *section; /* that `section_seen` is about */
    int line_count;
    bool ended;
};
static _Thread_local struct setting_parse *setting_current;

static size_t setting_rows(const struct setting *table)
{
    size_t count = 0;

    while (table[count].name != NULL)
        count++;
    ASSERT(count < SETTING_ROWS_MAX);
    return count;
}

static const struct setting *setting_find(const struct setting *table, const char *name)
{
    for (const struct setting *row = table; row->name != NULL; row++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

/* ---- values from text ------------------------------------------------------------------------ */

static bool setting_number(const struct setting *row, const char *text, uint64_t *ret_value)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t value;

    if (!slice_parse_u64(slice_of(text, digits), UINT64_MAX, &value))
        return false;
    for (const struct setting_suffix *s = setting_suffixes(row->kind); s->text != NULL; s++) {
        if (strcmp(text + digits, s->text) != 0)
            continue;
        if (__builtin_mul_overflow(value, s->factor, &value) || value < row->min ||
            value > row->max)
            return false;
        *ret_value = value;
        return true;
    }
    return false;
}

static bool setting_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *ret_value = i % 2 == 1;
            return true;
        }
    return false;
}

static bool setting_choice(const struct setting *row, const char *text, uint64_t *ret_value)
{
    for (uint64_t i = 0; row->choices[i] != NULL; i++)
        if (strcmp(row->choices[i], text) == 0) {
            *ret_value = i;
            return true;
        }
    return false;
}

static bool setting_has_controls(const char *text)
{
    for (; *text != 0; text++)
        if ((uint8_t)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* NULL when fine; otherwise `expected` is filled and returned as text. */
static const char *setting_refusal(const struct setting *row, const char *text,
                                   struct buf *expected)
{
    uint64_t number;
    bool truth, fine = true;
    const char *wanted = NULL;

    if (setting_has_controls(text))
        return "one line without control characters";
    switch (row->kind) {
    case SETTING_BOOL:
        fine = setting_bool(text, &truth);
        break;
    case SETTING_NUMBER:
    case SETTING_DURATION:
    case SETTING_SIZE:
        fine = setting_number(row, text, &number);
        break;
    case SETTING_CHOICE:
        fine = setting_choice(row, text, &number);
        break;
    case SETTING_TEXT:
    case SETTING_LIST:
        if (row->check != NULL)
            wanted = row->check(text);
        break;
    case SETTING_SECTION:
        break;
    }
    if (fine && wanted == NULL)
        return NULL;
    if (wanted != NULL)
        buf_append_cstr(expected, wanted);
    else
        setting_expectation(row, expected);
    buf_append_byte(expected, 0);
    return expected->failed ? "another value" : (const char *)expected->data;
}

/* ---- libconfuse ------------------------------------------------------------------------------ */

/* An included file has a name of its own; the text we hand over goes by the name it was given. */
static const char *setting_file(const cfg_t *cfg)
{
    return cfg->filename == NULL || cfg->filename[0] == '[' ? setting_current->name : cfg->filename;
}

static void KILAT_PRINTF(2, 0) setting_complain(cfg_t *cfg, const char *format, va_list args)
{
    struct setting_parse *parse = setting_current;
    char text[SETTING_SENTENCE_SIZE];

    if (parse->error->size != 0)
        return; /* the first complaint is the cause */
    if (setting_file(cfg) == parse->name && cfg->line > parse->line_count) {
        buf_printf(parse->error, "%s: " SETTING_CUT, parse->name);
        return;
    }
    (void)vsnprintf(text, sizeof(text), format, args);
    for (char *c = text; *c != 0; c++) /* what is quoted from the file stays on this line */
        if ((uint8_t)*c < 0x20 || *c == 0x7f)
            *c = '?';
    buf_printf(parse->error, "%s:%d: %s", setting_file(cfg), cfg->line, text);
}

/* True when the row was set before. A list is told of after each of its items, and once more at its end;
 * "+=" adds to it. */
static bool setting_set_again(struct setting_seen *seen, size_t index, bool list, uint32_t items)
{
    bool again;

    if (!list)
        return seen->items[index]++ != 0;
    again = items < seen->items[index] || (items == seen->items[index] && seen->closed[index]);
    seen->closed[index] = items == seen->items[index];
    seen->items[index] = items;
    return again;
}

static int setting_validate(cfg_t *cfg, cfg_opt_t *opt)
{
    struct setting_parse *parse = setting_current;
    const struct setting *table = parse->table;
    struct setting_seen *seen = &parse->seen;
    const struct setting *row, *section;
    struct buf expected;
    const char *text, *refusal;

    section = setting_find(parse->table, cfg->name);
    if (section != NULL && section->kind == SETTING_SECTION) {
        table = section->rows;
        seen = &parse->section_seen;
        if (parse->section != cfg)
            *seen = (struct setting_seen){0};
        parse->section = cfg;
    }
    row = setting_find(table, opt->name);
    ASSERT(row != NULL); /* the options were made from these rows */
    if (cfg_opt_size(opt) == 0)
        return 0;
    if (setting_set_again(seen, (size_t)(row - table), row->kind == SETTING_LIST,
                          cfg_opt_size(opt))) {
        cfg_error(cfg, "%s is set twice", row->name);
        return -1;
    }
    text = cfg_opt_getnstr(opt, cfg_opt_size(opt) - 1);
    buf_init(&expected, 4 * KIB);
    refusal = setting_refusal(row, text, &expected);
    if (refusal != NULL)
        cfg_error(cfg,
                  strlen(text) < SETTING_SHOWN_MAX ? "%s: expected %s, got \"%s\""
                                                   : "%s: expected %s, got \"%.70s...\"",
                  row->name, refusal, text);
    buf_deinit(&expected);
    return refusal == NULL ? 0 : -1;
}

static int setting_validate_end(cfg_t *cfg, cfg_opt_t *opt)
{
    (void)cfg;
    (void)opt;
    setting_current->ended = true;
    return 0;
}

/* libconfuse's scanner ends the process when it cannot read, so a directory must not get that far. */
static int setting_include(cfg_t *cfg, cfg_opt_t *opt, int argc, const char **argv)
{
    struct file_info info = {0};
    int fd, r = -EINVAL;

    if (argc == 1) {
        r = file_open_path(argv[0], FILE_READ, 0, &fd);
        if (r == 0) {
            r = file_info(fd, &info);
            (void)file_close(fd); /* it was only looked at */
        }
        if (r == 0 && (info.mode & S_IFMT) != S_IFREG)
            r = -EISDIR;
    }
    if (r < 0) {
        cfg_error(cfg, "include: expected a file that can be read, got \"%s\": %s",
                  argc == 1 ? argv[0] : "", strerror(-r));
        return -1;
    }
    return cfg_include(cfg, opt, argc, argv);
}

/* `opts` has room for all rows, an include function and the end. */
static void setting_options(const struct setting *table, bool include, cfg_opt_t *opts,
                            cfg_opt_t section_opts[][SETTING_ROWS_MAX / 8])
{
    size_t count = 0, sections = 0;

    for (const struct setting *row = table; row->name != NULL; row++) {
        if (row->kind == SETTING_SECTION) {
            ASSERT(setting_rows(row->rows) + 1 < SETTING_ROWS_MAX / 8 && sections < 4);
            setting_options(row->rows, false, section_opts[sections], NULL);
            opts[count++] = (cfg_opt_t)CFG_SEC(row->name, section_opts[sections],
                                               CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
            sections++;
        } else if (row->kind == SETTING_LIST) {
            opts[count++] = (cfg_opt_t)CFG_STR_LIST(row->name, NULL, CFGF_NODEFAULT);
        } else {
            opts[count++] = (cfg_opt_t)CFG_STR(row->name, NULL, CFGF_NODEFAULT);
        }
    }
    if (section_opts != NULL)
        opts[count++] = (cfg_opt_t)CFG_STR(SETTING_END, NULL, CFGF_NODEFAULT);
    if (include)
        opts[count++] = (cfg_opt_t)CFG_FUNC("include", &setting_include);
    opts[count] = (cfg_opt_t)CFG_END();
}

static void setting_watch(cfg_t *cfg, const struct setting *table)
{
    char name[128];

    cfg_set_validate_func(cfg, SETTING_END, setting_validate_end);
    for (const struct setting *row = table; row->name != NULL; row++) {
        if (row->kind != SETTING_SECTION) {
            cfg_set_validate_func(cfg, row->name, setting_validate);
            continue;
        }
        for (const struct setting *inner = row->rows; inner->name != NULL; inner++) {
            (void)snprintf(name, sizeof(name), "%s|%s", row->name, inner->name);
            cfg_set_validate_func(cfg, name, setting_validate);
        }
    }
}

/* ---- from libconfuse to the struct ----------------------------------------------------------- */

static char *setting_strdup(const char *text)
{
    char *copy = strdup(text == NULL ? "" : text);

    ASSERT(copy != NULL); /* boot or reload, a few bytes: no server runs on such a machine */
    return copy;
}

static void *setting_alloc(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);

    ASSERT(memory != NULL);
    return memory;
}

static void setting_list_add(struct setting_list *list, const char *text)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof(*items));

    ASSERT(items != NULL);
    list->items = items;
    list->items[list->count++] = setting_strdup(text);
}

static void setting_fallback(const struct setting *row, void *value)
{
    switch (row->kind) {
    case SETTING_BOOL:
        *(bool *)value = row->fallback != 0;
        break;
    case SETTING_NUMBER:
    case SETTING_DURATION:
    case SETTING_SIZE:
    case SETTING_CHOICE:
        *(uint64_t *)value = row->fallback;
        break;
    case SETTING_TEXT:
        *(char **)value = setting_strdup(row->fallback_text);
        break;
    case SETTING_LIST: {
        struct slice rest = slice_cstr(row->fallback_text);
        char item[256];
        *(struct setting_list *)value = (struct setting_list){NULL, 0};
        while (rest.size > 0)
            if (slice_to_cstr(slice_split(&rest, ' '), item, sizeof(item)) && item[0] != 0)
                setting_list_add(value, item);
        break;
    }
    case SETTING_SECTION:
        *(struct setting_sections *)value = (struct setting_sections){NULL, 0};
        break;
    }
}

static void setting_take(const struct setting *row, cfg_opt_t *opt, void *value)
{
    const char *text = cfg_opt_size(opt) == 0 ? NULL : cfg_opt_getnstr(opt, 0);
    bool fine = true;

    switch (row->kind) {
    case SETTING_BOOL:
        fine = setting_bool(text, value);
        break;
    case SETTING_NUMBER:
    case SETTING_DURATION:
    case SETTING_SIZE:
        fine = setting_number(row, text, value);
        break;
    case SETTING_CHOICE:
        fine = setting_choice(row, text, value);
        break;
    case SETTING_TEXT:
        *(char **)value = setting_strdup(text);
        break;
    case SETTING_LIST:
        *(struct setting_list *)value = (struct setting_list){NULL, 0};
        for (unsigned i = 0; i < cfg_opt_size(opt); i++)
            setting_list_add(value, cfg_opt_getnstr(opt, i));
        break;
    case SETTING_SECTION:
        break;
    }
    ASSERT(fine); /* the validation callback has seen it */
}

static int setting_convert(const struct setting *table, cfg_t *cfg, char *values,
                           struct buf *error);

static bool setting_is_title(const char *text)
{
    return strlen(text) <= SETTING_TITLE_MAX && !setting_has_controls(text);
}

static int setting_convert_sections(const struct setting *row, cfg_t *cfg,
                                    struct setting_sections *sections, struct buf *error)
{
    unsigned count = cfg_size(cfg, row->name);
    int r = 0;

    sections->items = setting_alloc(count, row->section_size);
    sections->count = 0;
    for (unsigned i = 0; i < count && r == 0; i++) {
        cfg_t *inner = cfg_getnsec(cfg, row->name, i);
        char *item = (char *)sections->items + i * row->section_size;
        *(char **)item = setting_strdup(cfg_title(inner));
        sections->count++;
        if (setting_is_title(cfg_title(inner))) {
            r = setting_convert(row->rows, inner, item, error);
        } else {
            buf_printf(error, "%s:%d: %s: expected a title of one line and at most %d octets",
                       setting_file(inner), inner->line, row->name, SETTING_TITLE_MAX);
            r = -EINVAL;
        }
    }
    return r;
}

static int setting_convert(const struct setting *table, cfg_t *cfg, char *values, struct buf *error)
{
    int r = 0;

    for (const struct setting *row = table; row->name != NULL; row++) {
        void *value = values + row->offset;
        cfg_opt_t *opt = cfg_getopt(cfg, row->name);
        bool given =
            row->kind != SETTING_SECTION &&
            (cfg_opt_size(opt) > 0 || (row->kind == SETTING_LIST && (opt->flags & CFGF_MODIFIED)));

        if (row->kind == SETTING_SECTION) {
            if (r == 0)
                r = setting_convert_sections(row, cfg, value, error);
            else
                setting_fallback(row, value);
            continue;
        }
        if (given)
            setting_take(row, opt, value);
        else
            setting_fallback(row, value);
        if (row->required && r == 0 && row->kind == SETTING_TEXT && **(char **)value == 0) {
            if (cfg_title(cfg) == NULL)
                buf_printf(error, "%s: %s is missing", setting_current->name, row->name);
            else
                buf_printf(error, "%s:%d: %s \"%s\": %s is missing", setting_file(cfg), cfg->line,
                           cfg->name, cfg_title(cfg), row->name);
            r = -EINVAL;
        }
    }
    return r;
}

static int setting_parse_text(const struct setting *table, bool include, const char *text,
                              struct setting_parse *parse, void *values)
{
    cfg_opt_t opts[SETTING_ROWS_MAX];
    cfg_opt_t section_opts[4][SETTING_ROWS_MAX / 8];
    cfg_t *cfg;
    int r = 0;

    (void)setting_rows(table);
    setting_options(table, include, opts, section_opts);
    setting_current = parse;
    cfg = cfg_init(opts, CFGF_NONE);
    ASSERT(cfg != NULL);
    cfg_set_error_function(cfg, setting_complain);
    setting_watch(cfg, table);
    if (cfg_parse_buf(cfg, text) != CFG_SUCCESS || !parse->ended) {
        r = -EINVAL;
        if (parse->error->size == 0)
            buf_printf(parse->error, "%s: " SETTING_CUT, parse->name);
    } else {
        r = setting_convert(table, cfg, values, parse->error);
        if (r < 0)
            settings_free(table, values);
    }
    cfg_free(cfg);
    setting_current = NULL;
    return r;
}

static int setting_parse_slice(const struct setting *table, bool include, struct slice text,
                               const char *name, void *values, struct buf *error)
{
    struct setting_parse *parse;
    struct slice rest = text;
    struct buf copy;
    int r;

    if (slice_find(text, 0) != SIZE_MAX) {
        buf_printf(error, "%s: holds a NUL byte", name);
        return -EINVAL;
    }
    parse = setting_alloc(1, sizeof(*parse));
    *parse = (struct setting_parse){.table = table, .name = name, .error = error};
    for (parse->line_count = 0; rest.size > 0; parse->line_count++)
        (void)slice_split(&rest, '\n');
    buf_init(&copy, 2 * SETTING_FILE_BYTES_MAX);
    buf_append(&copy, text);
    buf_append_byte(&copy, 0);
    if (!copy.failed) {
        setting_blank_comments((char *)copy.data);
        copy.size--;
    }
    buf_append_cstr(&copy, "\n" SETTING_END " = yes\n");
    buf_append_byte(&copy, 0);
    r = copy.failed ? -EFBIG
                    : setting_parse_text(table, include, (const char *)copy.data, parse, values);
    if (copy.failed)
        buf_printf(error, "%s: cannot be read: %s", name, strerror(EFBIG));
    buf_deinit(&copy);
    free(parse);
    return r;
}

/* A settings file is read whole before it is parsed; what is no plain file is none. */
static int setting_load(const char *path, struct buf *text)
{
    struct file_info info = {0};
    uint8_t *room;
    int fd, r;

    r = file_open_path(path, FILE_READ, 0, &fd);
    if (r < 0)
        return r;
    r = file_info(fd, &info);
    if (r == 0 && (info.mode & S_IFMT) != S_IFREG)
        r = (info.mode & S_IFMT) == S_IFDIR ? -EISDIR : -EINVAL;
    if (r == 0 && info.size_bytes > SETTING_FILE_BYTES_MAX)
        r = -EFBIG;
    if (r == 0 && info.size_bytes > 0) {
        room = buf_extend(text, info.size_bytes);
        r = room == NULL ? -ENOMEM : file_read_all(fd, room, info.size_bytes, 0);
    }
    (void)file_close(fd); /* it was only read */
    return r;
}

int settings_read(const struct setting *table, const char *path, void *values, struct buf *error)
{
    struct buf text;
    int r;

    buf_init(&text, SETTING_FILE_BYTES_MAX);
    r = setting_load(path, &text);
    if (r < 0)
        buf_printf(error, "%s: cannot be read: %s", path, strerror(-r));
    else
        r = setting_parse_slice(table, true, buf_slice(&text), path, values, error);
    buf_deinit(&text);
    return r;
}

int settings_parse(const struct setting *table, struct slice text, const char *name, void *values,
                   struct buf *error)
{
    return setting_parse_slice(table, false, text, name, values, error);
}

void settings_fallbacks(const struct setting *table, void *values)
{
    for (const struct setting *row = table; row->name != NULL; row++)
        setting_fallback(row, (char *)values + row->offset);
}

void settings_free(const struct setting *table, void *values)
{
    for (const struct setting *row = table; row->name != NULL; row++) {
        void *value = (char *)values + row->offset;
        if (row->kind == SETTING_TEXT) {
            free(*(char **)value);
            *(char **)value = NULL;
        } else if (row->kind == SETTING_LIST) {
            struct setting_list *list = value;
            for (size_t i = 0; i < list->count; i++)
                free(list->items[i]);
            free(list->items);
            *list = (struct setting_list){NULL, 0};
        } else if (row->kind == SETTING_SECTION) {
            struct setting_sections *sections = value;
            for (size_t i = 0; i < sections->count; i++) {
                char *item = (char *)sections->items + i * row->section_size;
                free(*(char **)item);
                settings_free(row->rows, item);
            }
            free(sections->items);
            *sections = (struct setting_sections){NULL, 0};
        }
    }
}
