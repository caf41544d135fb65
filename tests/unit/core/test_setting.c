#include "core/setting.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct ship {
    char *title;
    char *captain;
    uint64_t masts;
    struct setting_list cargo;
};
struct harbour {
    char *name;
    char *motto;
    bool open;
    uint64_t berths, watch_ms, depth_bytes, wind;
    struct setting_list flags;
    struct setting_sections ships;
};

static const char *check_flag(const char *text)
{
    return text[0] != 0 && strspn(text, "abc") == strlen(text) ? NULL : "letters of a, b and c";
}

static const char *const winds[] = {"calm", "breeze", "storm", NULL};

static const struct setting ship_rows[] = {{.name = "captain",
                                            .kind = SETTING_TEXT,
                                            .offset = offsetof(struct ship, captain),
                                            .required = true,
                                            .doc = "Who commands it."},
                                           {.name = "masts",
                                            .kind = SETTING_NUMBER,
                                            .offset = offsetof(struct ship, masts),
                                            .min = 1,
                                            .fallback = 2,
                                            .max = 5,
                                            .doc = "How many masts."},
                                           {.name = "cargo",
                                            .kind = SETTING_LIST,
                                            .offset = offsetof(struct ship, cargo),
                                            .doc = "What it carries."},
                                           {.name = NULL}};

#define AT(field) .name = #field, .offset = offsetof(struct harbour, field)
static const struct setting rows[] = {
    {AT(name), .kind = SETTING_TEXT, .required = true, .doc = "The name of the harbour."},
    {AT(motto), .kind = SETTING_TEXT, .fallback_text = "come in", .reload = true, .doc = "Words."},
    {AT(open), .kind = SETTING_BOOL, .fallback = 1, .reload = true, .doc = "Is it open?"},
    {AT(berths), .kind = SETTING_NUMBER, .min = 1, .fallback = 10, .max = 100, .doc = "Places."},
    {.name = "watch",
     .offset = offsetof(struct harbour, watch_ms),
     .kind = SETTING_DURATION,
     .min = SECOND_MS,
     .fallback = 4 * HOUR_MS,
     .max = DAY_MS,
     .reload = true,
     .doc = "How long one watch is."},
    {.name = "depth",
     .offset = offsetof(struct harbour, depth_bytes),
     .kind = SETTING_SIZE,
     .min = KIB,
     .fallback = 64 * KIB,
     .max = GIB,
     .doc = "How deep it is."},
    {AT(wind), .kind = SETTING_CHOICE, .choices = winds, .fallback = 1, .doc = "The wind."},
    {AT(flags), .kind = SETTING_LIST, .fallback_text = "a b", .check = check_flag, .reload = true,
     .doc = "Flags that are flown."},
    {.name = "ship",
     .offset = offsetof(struct harbour, ships),
     .kind = SETTING_SECTION,
     .rows = ship_rows,
     .section_size = sizeof(struct ship),
     .reload = true,
     .doc = "A ship."},
    {.name = NULL}};

static int parse(const char *text, struct harbour *harbour, struct buf *error)
{
    *harbour = (struct harbour){0};
    buf_init(error, 4 * KIB);
    return settings_parse(rows, slice_cstr(text), "port.conf", harbour, error);
}

static const char *sentence(struct buf *error)
{
    buf_append_byte(error, 0);
    return (const char *)error->data;
}

struct refusal {
    const char *name;
    const char *text;
    const char *wanted; /* the whole sentence */
};

static const struct refusal refusals[] = {
    {"an unknown name", "name = \"x\"\nnmae = \"y\"\n", "port.conf:2: no such option 'nmae'"},
    {"an unknown section", "name = \"x\"\nboat \"b\" {\n}\n", "port.conf:2: no such option 'boat'"},
    {"a row of the file inside a section",
     "name = \"x\"\nship \"s\" {\n captain = \"c\"\n berths = 3\n}\n",
     "port.conf:4: no such option 'berths'"},
    {"a row of a section outside it", "name = \"x\"\ncaptain = \"c\"\n",
     "port.conf:2: no such option 'captain'"},
    {"a number with a unit", "name = \"x\"\n\nberths = 3K\n",
     "port.conf:3: berths: expected a number between 1 and 100, got \"3K\""},
    {"a number too small", "name = \"x\"\nberths = 0\n",
     "port.conf:2: berths: expected a number between 1 and 100, got \"0\""},
    {"a number too great", "name = \"x\"\nberths = 101\n",
     "port.conf:2: berths: expected a number between 1 and 100, got \"101\""},
    {"a number beyond 64 bits", "name = \"x\"\nberths = 18446744073709551617\n",
     "port.conf:2: berths: expected a number between 1 and 100, got \"18446744073709551617\""},
    {"a negative number", "name = \"x\"\nberths = -1\n",
     "port.conf:2: berths: expected a number between 1 and 100, got \"-1\""},
    {"an empty number", "name = \"x\"\nberths = \"\"\n",
     "port.conf:2: berths: expected a number between 1 and 100, got \"\""},
    {"a duration without its unit", "name = \"x\"\nwatch = 30\n",
     "port.conf:2: watch: expected a duration between 1s and 1d, got \"30\""},
    {"a duration in words", "name = \"x\"\nwatch = \"soon\"\n",
     "port.conf:2: watch: expected a duration between 1s and 1d, got \"soon\""},
    {"a duration that overflows", "name = \"x\"\nwatch = 18446744073709551615d\n",
     "port.conf:2: watch: expected a duration between 1s and 1d, got \"18446744073709551615d\""},
    {"a size with the wrong unit", "name = \"x\"\ndepth = 64k\n",
     "port.conf:2: depth: expected a size between 1K and 1G, got \"64k\""},
    {"a size too great", "name = \"x\"\ndepth = 2G\n",
     "port.conf:2: depth: expected a size between 1K and 1G, got \"2G\""},
    {"neither yes nor no", "name = \"x\"\nopen = maybe\n",
     "port.conf:2: open: expected yes or no, got \"maybe\""},
    {"none of the choices", "name = \"x\"\nwind = gale\n",
     "port.conf:2: wind: expected one of calm, breeze, storm, got \"gale\""},
    {"a bad item of a list", "name = \"x\"\nflags = {\"a\", \"x\"}\n",
     "port.conf:2: flags: expected letters of a, b and c, got \"x\""},
    {"a row twice", "name = \"x\"\nberths = 3\nberths = 4\n", "port.conf:3: berths is set twice"},
    {"a list twice", "name = \"x\"\nflags = {\"a\"}\nflags = {\"b\"}\n",
     "port.conf:3: flags is set twice"},
    {"a row of a section twice",
     "name = \"x\"\nship \"s\" {\n captain = \"c\"\n captain = \"d\"\n}\n",
     "port.conf:4: captain is set twice"},
    {"a required row of a section is missing", "name = \"x\"\nship \"s\" {\n}\n",
     "port.conf:3: ship \"s\": captain is missing"},
    {"a title of two lines", "name = \"x\"\nship \"a\nb\" {\n captain = c\n}\n",
     "port.conf:5: ship: expected a title of one line and at most 255 octets"},
    {"the required row is empty", "name = \"\"\n", "port.conf: name is missing"},
    {"the required row is missing", "berths = 3\n", "port.conf: name is missing"},
    {"an empty file", "", "port.conf: name is missing"},
};

Test(setting, each_refusal_names_file_line_and_what_was_expected)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct harbour harbour;
        struct buf error;

        cr_expect_eq(parse(refusals[i].text, &harbour, &error), -EINVAL, "%s", refusals[i].name);
        cr_expect_str_eq(sentence(&error), refusals[i].wanted, "%s: %s", refusals[i].name,
                         (char *)error.data);
        buf_deinit(&error);
    }
}

/* Goal: the line that is named is the line in the file, whatever stands above it. */
Test(setting, comments_do_not_move_the_lines)
{
    static const char *const above[] = {"# satu\n",
                                        "// dua\n",
                                        "/* tiga\n * baris\n */\n",
                                        "#\n",
                                        "name = \"a#b//c/*d\" # e\"f\n",
                                        "  # empat \"lima\n",
                                        "\n\n"};
    char text[512] = "", want[64];
    struct harbour harbour;
    struct buf error;
    unsigned line = 1;

    for (size_t i = 0; i < ARRAY_SIZE(above); i++) {
        for (const char *c = above[i]; *c != 0; c++)
            line += *c == '\n';
        strcat(text, above[i]);
    }
    strcat(text, "colour = blue\n");
    (void)snprintf(want, sizeof(want), "port.conf:%u: no such option 'colour'", line);
    cr_expect_eq(parse(text, &harbour, &error), -EINVAL);
    cr_expect_str_eq(sentence(&error), want);
    buf_deinit(&error);
}

/* What libconfuse itself refuses is told in its words: file and line are what counts. */
#define CUT "port.conf: ends in the midst of a section, list, value or comment"
static const struct refusal broken[] = {
    {"a section with one title twice",
     "name = \"x\"\nship \"s\" { captain = \"c\" }\nship \"s\" { captain = \"d\" }\n",
     "port.conf:3: "},
    {"a section without a title", "name = \"x\"\nship {\n}\n", "port.conf:2: "},
    {"a section that does not end", "name = \"x\"\nship \"s\" {\n captain = \"c\"\n", CUT},
    {"a list that does not end", "name = \"x\"\nflags = {\"a\"\n", CUT},
    {"a list that ends with a comma", "name = \"x\"\nflags = {\"a\",\n", CUT},
    {"a comment that does not end", "name = \"x\"\n/* berths = 4\n", CUT},
    {"a text that does not end", "name = \"x\n", CUT},
    {"a value is missing", "name =\n", CUT},
    {"a sign is missing", "name", CUT},
    {"no sign between name and value", "name \"x\"\n", "port.conf:1: "},
    {"a list where one value belongs", "name = {\"x\"}\n", "port.conf:1: "},
    {"a line break in a text", "name = \"x\ny\"\n",
     "port.conf:2: name: expected one line without control"},
    {"an include in a text from memory", "name = \"x\"\ninclude(\"/etc/passwd\")\n",
     "port.conf:2: "},
    {"garbage", "\001\002\003{}}}", "port.conf:"},
};

Test(setting, what_is_no_settings_file_is_refused)
{
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        struct harbour harbour;
        struct buf error;

        cr_expect_eq(parse(broken[i].text, &harbour, &error), -EINVAL, "%s", broken[i].name);
        cr_expect(strncmp(sentence(&error), broken[i].wanted, strlen(broken[i].wanted)) == 0,
                  "%s: %s", broken[i].name, (char *)error.data);
        cr_expect_null(strchr((char *)error.data, '\n'), "%s: one sentence", broken[i].name);
        buf_deinit(&error);
    }
}

Test(setting, a_nul_byte_is_refused)
{
    struct harbour harbour = {0};
    struct buf error;

    buf_init(&error, KIB);
    cr_expect_eq(settings_parse(rows, SLICE("name = \"a\0b\"\n"), "port.conf", &harbour, &error),
                 -EINVAL);
    cr_expect_str_eq(sentence(&error), "port.conf: holds a NUL byte");
    buf_deinit(&error);
}

Test(setting, a_file_that_cannot_be_read_is_named)
{
    struct harbour harbour = {0};
    struct buf error;

    buf_init(&error, KIB);
    cr_expect_eq(settings_read(rows, "/nonexistent/port.conf", &harbour, &error), -ENOENT);
    cr_expect_str_eq(sentence(&error),
                     "/nonexistent/port.conf: cannot be read: No such file or directory");
    buf_reset(&error);
    cr_expect_lt(settings_read(rows, "/", &harbour, &error), 0, "a directory");
    cr_expect(strncmp(sentence(&error), "/: ", 3) == 0, "%s", (char *)error.data);
    buf_deinit(&error);
}

static void write_file(char path[64], const char *text)
{
    FILE *file;
    int fd;

    strcpy(path, "/tmp/kilat-setting-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    file = fdopen(fd, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

Test(setting, an_error_in_an_included_file_names_that_file)
{
    char inner[64], outer[64], text[128];
    struct harbour harbour = {0};
    struct buf error;

    write_file(inner, "berths = 3\nwind = gale\n");
    (void)snprintf(text, sizeof(text), "name = \"x\"\ninclude(\"%s\")\n", inner);
    write_file(outer, text);
    buf_init(&error, KIB);
    cr_expect_eq(settings_read(rows, outer, &harbour, &error), -EINVAL);
    (void)snprintf(text, sizeof(text), "%s:2: wind: ", inner);
    cr_expect(strncmp(sentence(&error), text, strlen(text)) == 0, "%s", (char *)error.data);
    buf_deinit(&error);
    (void)unlink(inner);
    (void)unlink(outer);
}

Test(setting, values_arrive_in_their_units)
{
    struct harbour harbour;
    struct buf error;
    struct ship *ships;

    cr_assert_eq(
        parse("# a comment\nname = Tanjung\nopen = no\nberths = 7\nwatch = 90s\n"
              "depth = 10M\nwind = storm\nflags = {\"c\"}\nflags += {\"ab\"}\n"
              "ship \"Kilat\" {\n  captain = \"Sri\"\n  cargo = {\"rice\", \"letters\"}\n}\n"
              "ship \"Pos\" {\n  captain = \"Budi\"\n  masts = 5\n}\n",
              &harbour, &error),
        0, "%s", sentence(&error));
    cr_expect_str_eq(harbour.name, "Tanjung");
    cr_expect_str_eq(harbour.motto, "come in");
    cr_expect(!harbour.open);
    cr_expect_eq(harbour.berths, 7);
    cr_expect_eq(harbour.watch_ms, 90 * SECOND_MS);
    cr_expect_eq(harbour.depth_bytes, 10 * MIB);
    cr_expect_eq(harbour.wind, 2);
    cr_assert_eq(harbour.flags.count, 2);
    cr_expect_str_eq(harbour.flags.items[0], "c");
    cr_expect_str_eq(harbour.flags.items[1], "ab");
    cr_assert_eq(harbour.ships.count, 2);
    ships = harbour.ships.items;
    cr_expect_str_eq(ships[0].title, "Kilat");
    cr_expect_str_eq(ships[0].captain, "Sri");
    cr_expect_eq(ships[0].masts, 2);
    cr_assert_eq(ships[0].cargo.count, 2);
    cr_expect_str_eq(ships[0].cargo.items[1], "letters");
    cr_expect_str_eq(ships[1].title, "Pos");
    cr_expect_eq(ships[1].masts, 5);
    settings_free(rows, &harbour);
    cr_expect_null(harbour.name);
    buf_deinit(&error);
}

Test(setting, an_empty_list_is_not_the_default_one)
{
    struct harbour harbour;
    struct buf error;

    cr_assert_eq(parse("name = x\nflags = {}\n", &harbour, &error), 0);
    cr_expect_eq(harbour.flags.count, 0);
    settings_free(rows, &harbour);
    buf_deinit(&error);
    cr_assert_eq(parse("name = x\n", &harbour, &error), 0);
    cr_assert_eq(harbour.flags.count, 2);
    cr_expect_str_eq(harbour.flags.items[1], "b");
    settings_free(rows, &harbour);
    buf_deinit(&error);
}

/* ---- printing ----------------------------------------------------------------------------------- */

/* What print gives, read back, prints the same: also with signs in a text that the file gives a meaning. */
Test(setting, what_is_printed_can_be_read_back)
{
    struct harbour harbour, again;
    struct buf error, first, second;

    buf_init(&first, 16 * KIB);
    buf_init(&second, 16 * KIB);
    cr_assert_eq(parse("name = 'say \"hi\" \\ ${HOME} # no comment'\nwatch = 1500ms\ndepth = 1025\n"
                       "flags = {\"a\", \"bb\"}\nship \"S \\\"T\\\"\" { captain = 'a\"b' cargo = "
                       "{'x\\\\'} }\n",
                       &harbour, &error),
                 0, "%s", sentence(&error));
    settings_print_values(rows, &harbour, false, &first);
    buf_append_byte(&first, 0);
    buf_deinit(&error);
    cr_assert_eq(parse((const char *)first.data, &again, &error), 0, "%s in\n%s", sentence(&error),
                 (char *)first.data);
    cr_expect_str_eq(again.name, harbour.name);
    settings_print_values(rows, &again, false, &second);
    buf_append_byte(&second, 0);
    cr_expect_str_eq((char *)second.data, (char *)first.data);
    settings_free(rows, &harbour);
    settings_free(rows, &again);
    buf_deinit(&error);
    buf_deinit(&first);
    buf_deinit(&second);
}

Test(setting, changed_values_are_those_that_differ)
{
    struct harbour harbour;
    struct buf error, out;

    buf_init(&out, KIB);
    cr_assert_eq(parse("name = x\nberths = 10\nwatch = 240m\nwind = calm\n", &harbour, &error), 0);
    settings_print_values(rows, &harbour, true, &out);
    cr_expect_str_eq(sentence(&out), "name = \"x\"\nwind = calm\n");
    settings_free(rows, &harbour);
    buf_deinit(&error);
    buf_deinit(&out);
}

/* The sample, with its comment signs before the settings taken away, is a file of all defaults. */
static void uncomment(struct slice sample, struct buf *out)
{
    while (sample.size > 0) {
        struct slice line = slice_split(&sample, '\n');
        struct slice rest = line;
        if (slice_split(&rest, '#').size == 0 && rest.size > 0 && rest.data[0] != ' ')
            line = rest;
        else if (rest.size > 4 && memcmp(rest.data, "    ", 4) == 0)
            line = rest; /* a row of a section */
        buf_append(out, line);
        buf_append_byte(out, '\n');
    }
}

Test(setting, the_sample_file_holds_every_row_at_its_default)
{
    struct harbour harbour, fallbacks = {0};
    struct buf error, sample, text, now, wanted;

    buf_init(&sample, 16 * KIB);
    buf_init(&text, 16 * KIB);
    buf_init(&now, 16 * KIB);
    buf_init(&wanted, 16 * KIB);
    settings_print_defaults(rows, &sample);
    cr_assert(!sample.failed);
    uncomment(buf_slice(&sample), &text);
    buf_append_byte(&text, 0);
    /* Required rows have no default that would do. */
    cr_expect_eq(parse((const char *)text.data, &harbour, &error), -EINVAL);
    buf_deinit(&error);
    *strstr((char *)text.data, "\"\"") = '1';
    *(strstr((char *)text.data, "1\"") + 1) = '2';
    *strstr((char *)text.data, "\"\"") = '3';
    *(strstr((char *)text.data, "3\"") + 1) = '4';
    cr_assert_eq(parse((const char *)text.data, &harbour, &error), 0, "%s in\n%s", sentence(&error),
                 (char *)text.data);
    cr_expect_str_eq(harbour.name, "12");
    cr_expect_eq(harbour.ships.count, 1);
    settings_fallbacks(rows, &fallbacks);
    for (const struct setting *row = rows + 1; row->kind != SETTING_SECTION; row++)
        cr_expect_null(settings_reload_conflict((struct setting[]){*row, {.name = NULL}}, &harbour,
                                                &fallbacks),
                       "%s", row->name);
    settings_free(rows, &harbour);
    settings_free(rows, &fallbacks);
    buf_deinit(&error);
    buf_deinit(&sample);
    buf_deinit(&text);
    buf_deinit(&now);
    buf_deinit(&wanted);
}

Test(setting, the_manual_lists_every_row)
{
    struct buf out;

    buf_init(&out, 64 * KIB);
    settings_print_manual(rows, &out);
    buf_append_byte(&out, 0);
    for (const struct setting *row = rows; row->name != NULL; row++) {
        char heading[64];
        (void)snprintf(heading, sizeof(heading), "\n.B %s", row->name);
        cr_expect_not_null(strstr((char *)out.data, heading), "%s", row->name);
        cr_expect_not_null(strstr((char *)out.data, row->doc), "%s", row->name);
    }
    cr_expect_not_null(strstr((char *)out.data, "\n.B ship: masts\n"));
    cr_expect_not_null(strstr((char *)out.data, "a number between 1 and 5; default: 2"));
    cr_expect_not_null(strstr((char *)out.data, "default: 4h. Taken over at a reload."));
    cr_expect_not_null(strstr((char *)out.data, "default: 64K. Needs a restart."));
    buf_deinit(&out);
}

/* ---- reload ----------------------------------------------------------------------------------------- */

Test(setting, a_reload_may_change_only_what_says_so)
{
    static const struct {
        const char *text;
        const char *conflict;
    } changes[] = {
        {"name = x\n", NULL},
        {"name = x\nberths = 10\n", NULL}, /* its default, written */
        {"name = x\nmotto = go\nopen = no\nwatch = 1h\nflags = {}\n", NULL},
        {"name = x\nship \"s\" { captain = c }\n", NULL},
        {"name = y\n", "name"},
        {"name = x\nmotto = go\nberths = 11\n", "berths"},
        {"name = x\nwind = calm\ndepth = 65K\n", "depth"},
    };
    struct harbour before, after;
    struct buf error;

    cr_assert_eq(parse("name = x\n", &before, &error), 0);
    buf_deinit(&error);
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        const struct setting *row;
        cr_assert_eq(parse(changes[i].text, &after, &error), 0, "%s", changes[i].text);
        row = settings_reload_conflict(rows, &before, &after);
        if (changes[i].conflict == NULL)
            cr_expect_null(row, "%s", changes[i].text);
        else
            cr_expect(row != NULL && strcmp(row->name, changes[i].conflict) == 0, "%s",
                      changes[i].text);
        settings_free(rows, &after);
        buf_deinit(&error);
    }
    settings_free(rows, &before);
}
