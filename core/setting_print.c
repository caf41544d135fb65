/* Settings on their way out: the sample file, the manual, values as they are, and what differs. */
#include "core/setting_private.h"

/* ---- values ---------------------------------------------------------------------------------- */

static const struct setting_suffix setting_durations[] = {
    {"ms", 1}, {"s", SECOND_MS}, {"m", MINUTE_MS}, {"h", HOUR_MS}, {"d", DAY_MS}, {NULL, 0}};
static const struct setting_suffix setting_sizes[] = {
    {"", 1}, {"K", KIB}, {"M", MIB}, {"G", GIB}, {NULL, 0}};
static const struct setting_suffix setting_plain[] = {{"", 1}, {NULL, 0}};

const struct setting_suffix *setting_suffixes(enum setting_kind kind)
{
    return kind == SETTING_DURATION ? setting_durations
           : kind == SETTING_SIZE   ? setting_sizes
                                    : setting_plain;
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

void setting_expectation(const struct setting *row, struct buf *out)
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

/* Between double quotes the file gives these a meaning. */
static void setting_print_quoted(const char *text, struct buf *out)
{
    buf_append_byte(out, '"');
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\' || *text == '$')
            buf_append_byte(out, '\\');
        buf_append_byte(out, (uint8_t)*text);
    }
    buf_append_byte(out, '"');
}

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
        setting_print_quoted(*(char *const *)value, out);
        break;
    case SETTING_LIST: {
        const struct setting_list *list = value;
        buf_append_byte(out, '{');
        for (size_t i = 0; i < list->count; i++) {
            buf_append_cstr(out, i == 0 ? "" : ", ");
            setting_print_quoted(list->items[i], out);
        }
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

/* ---- the sample file and the manual ---------------------------------------------------------- */

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

/* ---- what differs ----------------------------------------------------------------------------- */

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
        buf_printf(out, "%s ", row->name);
        setting_print_quoted(*(char *const *)item, out);
        buf_append_cstr(out, " {");
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
