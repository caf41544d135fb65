#include "core/setting.h"

#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"

#define SETTING_ROWS_MAX 256 /* of one table; a wider one is our own fault */

/* libconfuse hands its callbacks no context of the caller, so the one parse under way on this
 * thread is found here. */
struct setting_parse {
    const struct setting *table;
    const char *name;
    struct buf *error;
    uint8_t seen[SETTING_ROWS_MAX];
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

struct setting_suffix {
    const char *text;
    uint64_t factor;
};
static const struct setting_suffix setting_durations[] = {
    {"ms", 1        },
    {"s",  SECOND_MS},
    {"m",  MINUTE_MS},
    {"h",  HOUR_MS  },
    {"d",  DAY_MS   },
    {NULL, 0        }
};
static const struct setting_suffix setting_sizes[] = {
    {"",   1  },
    {"K",  KIB},
    {"M",  MIB},
    {"G",  GIB},
    {NULL, 0  }
};
static const struct setting_suffix setting_plain[] = {
    {"",   1},
    {NULL, 0}
};

static const struct setting_suffix *setting_suffixes(enum setting_kind kind)
{
    return kind == SETTING_DURATION ? setting_durations
           : kind == SETTING_SIZE   ? setting_sizes
                                    : setting_plain;
}

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

/* The largest unit that leaves a whole number, so that what is printed can be read back. */
static void setting_print_number(const struct setting *row, uint64_t value, struct buf *out)
{
    const struct setting_suffix *best = setting_suffixes(row->kind);

    for (const struct setting_suffix *s = best; s->text != NULL; s++)
        if (value != 0 && value % s->factor == 0)
            best = s;
    buf_printf(out, "%llu%s", (unsigned long long)(value / best->factor), best->text);
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

/* What a value of this row has to look like, for error sentences and the manual. */
static void setting_expectation(const struct setting *row, struct buf *out)
{
    switch (row->kind) {
    case SETTING_BOOL:
        buf_append_cstr(out, "yes or no");
        break;
    case SETTING_NUMBER:
    case SETTING_DURATION:
    case SETTING_SIZE:
        buf_append_cstr(out, row->kind == SETTING_NUMBER     ? "a number between "
                             : row->kind == SETTING_DURATION ? "a duration between "
                                                             : "a size between ");
        setting_print_number(row, row->min, out);
        buf_append_cstr(out, " and ");
        setting_print_number(row, row->max, out);
        break;
    case SETTING_CHOICE:
        buf_append_cstr(out, "one of");
        for (size_t i = 0; row->choices[i] != NULL; i++)
            buf_printf(out, "%s %s", i == 0 ? "" : ",", row->choices[i]);
        break;
    case SETTING_TEXT:
        buf_append_cstr(out, "a text");
        break;
    case SETTING_LIST:
        buf_append_cstr(out, "a list {\"...\", \"...\"}");
        break;
    case SETTING_SECTION:
        buf_append_cstr(out, "a section");
        break;
    }
}

/* NULL when fine; otherwise `expected` is filled and returned as text. */
static const char *setting_refusal(const struct setting *row, const char *text,
                                   struct buf *expected)
{
    uint64_t number;
    bool truth, fine = true;
    const char *wanted = NULL;

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

static void KILAT_PRINTF(2, 0) setting_complain(cfg_t *cfg, const char *format, va_list args)
{
    struct setting_parse *parse = setting_current;

    if (parse->error->size != 0)
        return; /* the first complaint is the cause */
    /* An included file has a name of its own; a text in memory goes by the name it was given. */
    buf_printf(parse->error, "%s:%d: ",
               cfg->filename == NULL || cfg->filename[0] == '[' ? parse->name : cfg->filename,
               cfg->line);
    buf_vprintf(parse->error, format, args);
}

static int setting_validate(cfg_t *cfg, cfg_opt_t *opt)
{
    struct setting_parse *parse = setting_current;
    const struct setting *table = parse->table;
    const struct setting *row, *section;
    struct buf expected;
    const char *text, *refusal;

    section = setting_find(parse->table, cfg->name);
    if (section != NULL && section->kind == SETTING_SECTION)
        table = section->rows;
    row = setting_find(table, opt->name);
    ASSERT(row != NULL); /* the options were made from these rows */
    if (row->kind != SETTING_LIST && table == parse->table && parse->seen[row - table]++ != 0) {
        cfg_error(cfg, "%s is set twice", row->name);
        return -1;
    }
    if (cfg_opt_size(opt) == 0)
        return 0;
    text = cfg_opt_getnstr(opt, cfg_opt_size(opt) - 1);
    buf_init(&expected, 4 * KIB);
    refusal = setting_refusal(row, text, &expected);
    if (refusal != NULL)
        cfg_error(cfg, "%s: expected %s, got \"%s\"", row->name, refusal, text);
    buf_deinit(&expected);
    return refusal == NULL ? 0 : -1;
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
    if (include)
        opts[count++] = (cfg_opt_t)CFG_FUNC("include", &cfg_include);
    opts[count] = (cfg_opt_t)CFG_END();
}

static void setting_watch(cfg_t *cfg, const struct setting *table)
{
    char name[128];

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
        r = setting_convert(row->rows, inner, item, error);
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
            buf_printf(error, "%s:%d: %s is missing", setting_current->name, cfg->line, row->name);
            r = -EINVAL;
        }
    }
    return r;
}

static int setting_parse_with(const struct setting *table, const char *path, char *text,
                              const char *name, void *values, struct buf *error)
{
    cfg_opt_t opts[SETTING_ROWS_MAX];
    cfg_opt_t section_opts[4][SETTING_ROWS_MAX / 8];
    struct setting_parse parse = {.table = table, .name = name, .error = error};
    cfg_t *cfg;
    int parsed, r = 0;

    (void)setting_rows(table);
    setting_options(table, path != NULL, opts, section_opts);
    setting_current = &parse;
    cfg = cfg_init(opts, CFGF_NONE);
    ASSERT(cfg != NULL);
    cfg_set_error_function(cfg, setting_complain);
    setting_watch(cfg, table);
    errno = 0;
    parsed = path != NULL ? cfg_parse(cfg, path) : cfg_parse_buf(cfg, text);
    if (parsed == CFG_FILE_ERROR) {
        r = errno == 0 ? -EIO : -errno;
        buf_printf(error, "%s: cannot be read: %s", name, strerror(-r));
    } else if (parsed != CFG_SUCCESS) {
        r = -EINVAL;
        if (error->size == 0)
            buf_printf(error, "%s: not a settings file", name);
    } else {
        r = setting_convert(table, cfg, values, error);
        if (r < 0)
            settings_free(table, values);
    }
    cfg_free(cfg);
    setting_current = NULL;
    return r;
}

int settings_read(const struct setting *table, const char *path, void *values, struct buf *error)
{
    return setting_parse_with(table, path, NULL, path, values, error);
}

int settings_parse(const struct setting *table, struct slice text, const char *name, void *values,
                   struct buf *error)
{
    char *copy;
    int r;

    if (slice_find(text, 0) != SIZE_MAX) {
        buf_printf(error, "%s: holds a NUL byte", name);
        return -EINVAL;
    }
    copy = setting_alloc(text.size + 1, 1);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    r = setting_parse_with(table, NULL, copy, name, values, error);
    free(copy);
    return r;
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

/* ---- printing -------------------------------------------------------------------------------- */

static void setting_print_value(const struct setting *row, const void *value, struct buf *out)
{
    switch (row->kind) {
    case SETTING_BOOL:
        buf_append_cstr(out, *(const bool *)value ? "yes" : "no");
        break;
    case SETTING_NUMBER:
    case SETTING_DURATION:
    case SETTING_SIZE:
        setting_print_number(row, *(const uint64_t *)value, out);
        break;
    case SETTING_CHOICE:
        buf_append_cstr(out, row->choices[*(const uint64_t *)value]);
        break;
    case SETTING_TEXT:
        buf_printf(out, "\"%s\"", *(char *const *)value);
        break;
    case SETTING_LIST: {
        const struct setting_list *list = value;
        buf_append_byte(out, '{');
        for (size_t i = 0; i < list->count; i++)
            buf_printf(out, "%s\"%s\"", i == 0 ? "" : ", ", list->items[i]);
        buf_append_byte(out, '}');
        break;
    }
    case SETTING_SECTION:
        break;
    }
}

static void setting_print_fallback(const struct setting *row, struct buf *out)
{
    union {
        bool truth;
        uint64_t number;
        char *text;
        struct setting_list list;
    } value;
    struct setting alone[2] = {*row, {.name = NULL}};

    alone[0].offset = 0;
    settings_fallbacks(alone, &value);
    setting_print_value(row, &value, out);
    settings_free(alone, &value);
}

/* Comment lines of at most 96 columns. */
static void setting_print_doc(const char *prefix, const char *doc, struct buf *out)
{
    struct slice rest = slice_cstr(doc);
    size_t column = 0;

    while (rest.size > 0) {
        struct slice word = slice_split(&rest, ' ');
        if (column > 0 && column + 1 + word.size > 96) {
            buf_append_byte(out, '\n');
            column = 0;
        }
        if (column == 0) {
            buf_append_cstr(out, prefix);
            column = strlen(prefix);
        } else {
            buf_append_byte(out, ' ');
            column++;
        }
        buf_append(out, word);
        column += word.size;
    }
    buf_append_byte(out, '\n');
}

void settings_print_defaults(const struct setting *table, struct buf *out)
{
    for (const struct setting *row = table; row->name != NULL; row++) {
        setting_print_doc("# ", row->doc, out);
        if (row->kind == SETTING_SECTION) {
            buf_printf(out, "#%s \"NAME\" {\n", row->name);
            for (const struct setting *inner = row->rows; inner->name != NULL; inner++) {
                setting_print_doc("    # ", inner->doc, out);
                buf_printf(out, "#    %s = ", inner->name);
                setting_print_fallback(inner, out);
                buf_append_byte(out, '\n');
            }
            buf_append_cstr(out, "#}\n\n");
            continue;
        }
        buf_printf(out, "#%s = ", row->name);
        setting_print_fallback(row, out);
        buf_append_cstr(out, "\n\n");
    }
}

static void setting_print_manual_row(const struct setting *row, const char *section,
                                     struct buf *out)
{
    buf_append_cstr(out, ".TP\n");
    if (row->kind == SETTING_SECTION) {
        buf_printf(out, ".B %s \"\\fINAME\\fP\" { ... }\n", row->name);
    } else {
        buf_printf(out, ".B %s%s%s\n", section == NULL ? "" : section, section == NULL ? "" : ": ",
                   row->name);
    }
    buf_printf(out, "%s\n", row->doc);
    if (row->kind == SETTING_SECTION)
        return;
    buf_append_cstr(out, ".br\nExpects ");
    setting_expectation(row, out);
    buf_append_cstr(out, "; default: ");
    setting_print_fallback(row, out);
    buf_append_cstr(out, row->reload ? ". Taken over at a reload.\n" : ". Needs a restart.\n");
}

void settings_print_manual(const struct setting *table, struct buf *out)
{
    for (const struct setting *row = table; row->name != NULL; row++) {
        setting_print_manual_row(row, NULL, out);
        if (row->kind == SETTING_SECTION)
            for (const struct setting *inner = row->rows; inner->name != NULL; inner++)
                setting_print_manual_row(inner, row->name, out);
    }
}

static bool setting_same(const struct setting *row, const void *a, const void *b)
{
    struct buf left, right;
    bool same = true;

    if (row->kind == SETTING_SECTION) {
        const struct setting_sections *x = a, *y = b;
        if (x->count != y->count)
            return false;
        for (size_t i = 0; i < x->count && same; i++) {
            const char *p = (const char *)x->items + i * row->section_size;
            const char *q = (const char *)y->items + i * row->section_size;
            same = strcmp(*(char *const *)p, *(char *const *)q) == 0;
            for (const struct setting *inner = row->rows; inner->name != NULL && same; inner++)
                same = setting_same(inner, p + inner->offset, q + inner->offset);
        }
        return same;
    }
    buf_init(&left, MIB);
    buf_init(&right, MIB);
    setting_print_value(row, a, &left);
    setting_print_value(row, b, &right);
    same = slice_equal(buf_slice(&left), buf_slice(&right));
    buf_deinit(&left);
    buf_deinit(&right);
    return same;
}

static bool setting_is_fallback(const struct setting *row, const void *value)
{
    struct buf now, fallback;
    bool same;

    if (row->kind == SETTING_SECTION)
        return ((const struct setting_sections *)value)->count == 0;
    buf_init(&now, MIB);
    buf_init(&fallback, MIB);
    setting_print_value(row, value, &now);
    setting_print_fallback(row, &fallback);
    same = slice_equal(buf_slice(&now), buf_slice(&fallback));
    buf_deinit(&now);
    buf_deinit(&fallback);
    return same;
}

static void setting_print_sections(const struct setting *row,
                                   const struct setting_sections *sections, struct buf *out)
{
    for (size_t i = 0; i < sections->count; i++) {
        const char *item = (const char *)sections->items + i * row->section_size;
        buf_printf(out, "%s \"%s\" {", row->name, *(char *const *)item);
        for (const struct setting *inner = row->rows; inner->name != NULL; inner++) {
            buf_printf(out, " %s = ", inner->name);
            setting_print_value(inner, item + inner->offset, out);
        }
        buf_append_cstr(out, " }\n");
    }
}

void settings_print_values(const struct setting *table, const void *values, bool changed_only,
                           struct buf *out)
{
    for (const struct setting *row = table; row->name != NULL; row++) {
        const void *value = (const char *)values + row->offset;
        if (changed_only && setting_is_fallback(row, value))
            continue;
        if (row->kind == SETTING_SECTION) {
            setting_print_sections(row, value, out);
            continue;
        }
        buf_printf(out, "%s = ", row->name);
        setting_print_value(row, value, out);
        buf_append_byte(out, '\n');
    }
}

const struct setting *settings_reload_conflict(const struct setting *table, const void *old_values,
                                               const void *new_values)
{
    for (const struct setting *row = table; row->name != NULL; row++)
        if (!row->reload && !setting_same(row, (const char *)old_values + row->offset,
                                          (const char *)new_values + row->offset))
            return row;
    return NULL;
}
