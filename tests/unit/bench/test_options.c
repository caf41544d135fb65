/* bench/program.c: an option that is not as it should be is refused, with a sentence. */
#include "bench/program.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>

static const char *const colours[] = {"red", "blue", NULL};

struct wanted {
    uint64_t number, colour;
    const char *text;
    struct netaddr address;
};

static bool read_all(struct wanted *wanted, int argc, const char *const *argv)
{
    const struct option_row rows[] = {{"--number", OPTION_U64, &wanted->number, 2, 9, NULL},
                                      {"--colour", OPTION_CHOICE, &wanted->colour, 0, 0, colours},
                                      {"--text", OPTION_TEXT, &wanted->text, 0, 0, NULL},
                                      {"--at", OPTION_ADDRESS, &wanted->address, 0, 0, NULL},
                                      {.name = NULL}};

    cr_redirect_stderr();
    return options_read(argc, (char **)(uintptr_t)argv, rows);
}

Test(options, every_kind_is_read)
{
    static const char *const argv[] = {"x",      "--number", "9",    "--colour",      "blue",
                                       "--text", "",         "--at", "127.0.0.1:2525"};
    struct wanted wanted = {.number = 0};

    cr_assert(read_all(&wanted, ARRAY_SIZE(argv), argv));
    cr_expect_eq(wanted.number, 9);
    cr_expect_eq(wanted.colour, 1);
    cr_expect_str_empty(wanted.text);
    cr_expect_eq(netaddr_port(&wanted.address), 2525);
}

Test(options, none_leaves_all_as_it_was)
{
    static const char *const argv[] = {"x"};
    struct wanted wanted = {.number = 5};

    cr_expect(read_all(&wanted, 1, argv));
    cr_expect_eq(wanted.number, 5);
}

Test(options, what_is_wrong_is_refused)
{
    static const char *const rows[][3] = {
        {"x", "--number", "1"},        {"x", "--number", "10"},    {"x", "--number", ""},
        {"x", "--number", "-3"},       {"x", "--number", "3 "},    {"x", "--colour", "green"},
        {"x", "--colour", ""},         {"x", "--at", "127.0.0.1"}, {"x", "--at", "localhost:25"},
        {"x", "--at", "127.0.0.1:0"},  {"x", "--unknown", "1"},    {"x", "number", "3"},
        {"x", "--number=3", "--text"}, {"x", "--num", "3"},        {"x", "--at", "127.0.0.1:65536"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct wanted wanted = {.number = 0};

        cr_expect_not(read_all(&wanted, 3, rows[i]), "%s %s", rows[i][1], rows[i][2]);
    }
}
