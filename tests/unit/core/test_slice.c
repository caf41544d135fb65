#include "core/slice.h"
#include <criterion/criterion.h>

Test(slice, compares_bytes_and_ascii_case)
{
    cr_expect(slice_equal(SLICE("a"), SLICE("a")));
    cr_expect(!slice_equal(SLICE("a"), SLICE("A")));
    cr_expect(!slice_equal(SLICE("a"), SLICE("ab")));
    cr_expect(slice_equal(SLICE_NONE, SLICE("")));
    cr_expect(slice_equal_nocase(SLICE("MAIL"), SLICE("mail")));
    cr_expect(!slice_equal_nocase(SLICE("\xc4"), SLICE("\xe4")), "only ASCII letters have case");
    cr_expect(!slice_equal_nocase(SLICE("@"), SLICE("`")), "0x40 and 0x60 are no letters");
    cr_expect(!slice_equal_nocase(SLICE("[]"), SLICE("{}")));
    cr_expect(slice_starts_nocase(SLICE("Mail From:"), SLICE("MAIL")));
    cr_expect(!slice_starts_nocase(SLICE("MA"), SLICE("MAIL")));
    cr_expect(slice_ends_nocase(SLICE("a.Example"), SLICE(".EXAMPLE")));
    cr_expect(!slice_ends_nocase(SLICE("e"), SLICE(".e")));
}

Test(slice, finds_and_splits)
{
    struct slice rest = SLICE("a=b=c");

    cr_expect_eq(slice_find(rest, '='), 1);
    cr_expect_eq(slice_find_last(rest, '='), 3);
    cr_expect_eq(slice_find(rest, 'x'), SIZE_MAX);
    cr_expect_eq(slice_find_last(SLICE_NONE, 'x'), SIZE_MAX);
    cr_expect(slice_equal(slice_split(&rest, '='), SLICE("a")));
    cr_expect(slice_equal(rest, SLICE("b=c")));
    cr_expect(slice_equal(slice_split(&rest, '!'), SLICE("b=c")), "no such byte: all of it");
    cr_expect_eq(rest.size, 0);
    cr_expect_eq(slice_split(&rest, '!').size, 0);
    cr_expect(slice_equal(slice_trim(SLICE(" \t a b\t ")), SLICE("a b")));
    cr_expect_eq(slice_trim(SLICE(" \t ")).size, 0);
    cr_expect_eq(slice_skip(SLICE("ab"), 5).size, 0);
    cr_expect(slice_equal(slice_first(SLICE("ab"), 5), SLICE("ab")));
}

struct number {
    const char *text;
    uint64_t max;
    bool valid;
    uint64_t value;
};

static const struct number numbers[] = {
    {"0", 0, true, 0},
    {"00000000000000000000000000007", 10, true, 7},
    {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
    {"18446744073709551616", UINT64_MAX, false, 0},
    {"99999999999999999999", UINT64_MAX, false, 0},
    {"184467440737095516160", UINT64_MAX, false, 0},
    {"11", 10, false, 0},
    {"", 10, false, 0},
    {"+1", 10, false, 0},
    {"-1", 10, false, 0},
    {" 1", 10, false, 0},
    {"1 ", 10, false, 0},
    {"0x1", 10, false, 0},
    {"1\xb2", 1000, false, 0},
};

Test(slice, one_strict_parser_of_numbers)
{
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        uint64_t value = 12345;
        bool valid = slice_parse_u64(slice_cstr(numbers[i].text), numbers[i].max, &value);

        cr_expect_eq(valid, numbers[i].valid, "'%s'", numbers[i].text);
        cr_expect_eq(value, valid ? numbers[i].value : 12345, "'%s'", numbers[i].text);
    }
}

Test(slice, becomes_a_c_string_or_says_that_it_cannot)
{
    char text[4];

    cr_expect(slice_to_cstr(SLICE("abc"), text, sizeof(text)));
    cr_expect_str_eq(text, "abc");
    cr_expect(!slice_to_cstr(SLICE("abcd"), text, sizeof(text)), "cut");
    cr_expect_str_eq(text, "abc");
    cr_expect(!slice_to_cstr(SLICE("a\0b"), text, sizeof(text)), "holds a NUL");
    cr_expect(slice_to_cstr(SLICE_NONE, text, sizeof(text)));
    cr_expect_str_eq(text, "");
    cr_expect(slice_is_printable(SLICE(" ~")));
    cr_expect(!slice_is_printable(SLICE("\x7f")));
    cr_expect(!slice_is_printable(SLICE("a\n")));
    cr_expect(!slice_is_printable(SLICE("\xc3\xa9")));
}
