#include "daemon/control.h"
#include <criterion/criterion.h>

static const struct {
    const char *words[4];
    const char *wanted; /* NULL: no such command */
    size_t used;
} rows[] = {
    {{"info"}, "info", 1},
    {{"queue", "list"}, "queue list", 2},
    {{"queue", "list", "--count"}, "queue list", 2},
    {{"dns", "flush"}, "dns flush", 2},
    {{"dns", "MX", "a.test"}, "dns", 1},
    {{"drain", "off"}, "drain", 1},
    {{""}, NULL, 0},
    {{"queue"}, NULL, 0},
    {{"queue", ""}, NULL, 0},
    {{"queue", "lis"}, NULL, 0},
    {{"queue list"}, NULL, 0},
    {{"INFO"}, NULL, 0},
    {{"message", "delete", "x"}, NULL, 0},
    {{"inform"}, NULL, 0},
};

Test(control_commands, are_found_by_their_words)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct control_command *command;
        struct slice words[4];
        struct buf error;
        size_t count = 0, used = 99;

        for (; count < 4 && rows[i].words[count] != NULL; count++)
            words[count] = slice_cstr(rows[i].words[count]);
        buf_init(&error, 4 * KIB);
        command = control_command_find(words, count, &used, &error);
        if (rows[i].wanted == NULL) {
            cr_expect_null(command, "row %zu", i);
            cr_expect(
                slice_starts_nocase(buf_slice(&error), SLICE("no such command; there are:\n")));
            cr_expect(!error.failed, "all of them fit");
        } else {
            cr_assert_not_null(command, "row %zu", i);
            cr_expect_str_eq(command->words, rows[i].wanted);
            cr_expect_eq(used, rows[i].used);
        }
        buf_deinit(&error);
    }
}

Test(control_commands, no_words_are_no_command)
{
    struct buf error;
    size_t used;

    buf_init(&error, 4 * KIB);
    cr_expect_null(control_command_find(NULL, 0, &used, &error));
    buf_deinit(&error);
}

/* Whoever may only read must not be able to change anything. */
Test(control_commands, whatever_changes_something_says_so)
{
    static const char *const changing[][2] = {
        {"message", "hold"},   {"message", "release"}, {"message", "retry"},
        {"message", "remove"}, {"message", "bounce"},  {"dns", "flush"},
        {"reload", NULL},      {"drain", NULL},        {"stop", NULL}};

    for (size_t i = 0; i < ARRAY_SIZE(changing); i++) {
        const struct control_command *command;
        struct slice words[2] = {slice_cstr(changing[i][0]), slice_cstr(changing[i][1])};
        struct buf error;
        size_t used;

        buf_init(&error, 4 * KIB);
        command = control_command_find(words, changing[i][1] == NULL ? 1 : 2, &used, &error);
        cr_assert_not_null(command);
        cr_expect(command->changes, "%s", command->words);
        cr_expect(command->visit != NULL || command->finish != NULL);
        buf_deinit(&error);
    }
}
