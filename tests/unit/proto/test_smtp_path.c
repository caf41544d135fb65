#include "proto/smtp.h"

#include <criterion/criterion.h>

#define A63 "a23456789012345678901234567890123456789012345678901234567890123"

struct row {
    const char *input;
    const char *local, *domain; /* NULL: refused */
    const char *rest;
};

static const struct row accepted[] = {
    {"<a@b.test>", "a", "b.test", ""},
    {"<a@b.test> SIZE=1", "a", "b.test", " SIZE=1"},
    {"<a@b>", "a", "b", ""},
    {"<first.last+tag@debianIndonesia.test>", "first.last+tag", "debianIndonesia.test", ""},
    {"<!#$%&'*+-/=?^_`{|}~@b.test>", "!#$%&'*+-/=?^_`{|}~", "b.test", ""},
    {"<\"a b\"@c.test>", "\"a b\"", "c.test", ""},
    {"<\"a\\\"@b>c\"@d.test>", "\"a\\\"@b>c\"", "d.test", ""},
    {"<\"\"@c.test>", "\"\"", "c.test", ""},
    {"<a@[192.0.2.1]>", "a", "[192.0.2.1]", ""},
    {"<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]", ""},
    {"<a@[ipv6:::1]>", "a", "[ipv6:::1]", ""},
    {"<@one.test,@two.test:a@b.test>", "a", "b.test", ""},
    {"<@one.test:a@b.test>", "a", "b.test", ""},
    {"<a@b--c.test>", "a", "b--c.test", ""},
    {"<a@1.2>", "a", "1.2", ""},
    {"<" A63 "4@b.test>", A63 "4", "b.test", ""},
    {"<a@" A63 ".test>", "a", A63 ".test", ""},
    {"<a@" A63 "." A63 "." A63 "." A63 ">", "a", A63 "." A63 "." A63 "." A63, ""},
};

static const char *const refused[] = {
    "",
    "a@b.test",
    "<",
    "<>",
    "< a@b.test>",
    "<a@b.test",
    "<a@b.test >",
    "<<a@b.test>>",
    "<a>",
    "<@b.test>",
    "<a@>",
    "<a@b@c.test>",
    "<.a@b.test>",
    "<a.@b.test>",
    "<a..b@c.test>",
    "<a b@c.test>",
    "<a@-b.test>",
    "<a@b-.test>",
    "<a@b..test>",
    "<a@.b.test>",
    "<a@b.test.>",
    "<a@b_c.test>",
    "<a@b.te\xc3\xa9st>",
    "<\xc3\xa9@b.test>",
    "<a(comment)@b.test>",
    "<a@b.test(comment)>",
    "<\"a@b.test>",
    "<\"a\"b@c.test>",
    "<\"a\\\">",
    "<\"a\\",
    "<\"a\r\"@b.test>",
    "<\"a\\\x01\"@b.test>",
    "<a@[]>",
    "<a@[192.0.2.256]>",
    "<a@[192.0.2]>",
    "<a@[192.0.2.1>",
    "<a@[192.0.2.1]x>",
    "<a@[2001:db8::1]>",
    "<a@[IPv6:192.0.2.1]>",
    "<a@[IPv6:2001:db8::1%1]>",
    "<a@[x:y]>",
    "<@one.test a@b.test>",
    "<@one.test,a@b.test>",
    "<@:a@b.test>",
    "<@one.test:>",
    "<@one.test:@two.test:a@b.test>",
    "<a:b@c.test>",
    "<a,b@c.test>",
    "<" A63 "45@b.test>",
    "<a@" A63 "4.test>",
    "<a@" A63 "." A63 "." A63 "." A63 ".x>",
    "<postmaster>",
};

Test(smtp_path, accepts)
{
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        const struct row *row = &accepted[i];
        struct smtp_address address;
        struct slice rest;

        cr_assert(smtp_path_parse(slice_cstr(row->input), true, true, &address, &rest), "%s",
                  row->input);
        cr_expect(slice_equal(address.local, slice_cstr(row->local)), "%s", row->input);
        cr_expect(slice_equal(address.domain, slice_cstr(row->domain)), "%s", row->input);
        cr_expect(slice_equal(rest, slice_cstr(row->rest)), "%s", row->input);
        cr_expect_eq(address.quoted, row->local[0] == '"');
        cr_expect_eq(address.literal, row->domain[0] == '[');
        cr_expect_eq(address.whole.size, address.local.size + 1 + address.domain.size);
    }
}

Test(smtp_path, refuses)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct smtp_address address;
        struct slice rest;

        cr_expect_not(smtp_path_parse(slice_cstr(refused[i]), false, false, &address, &rest), "%s",
                      refused[i]);
    }
}

Test(smtp_path, a_nul_is_no_end)
{
    struct smtp_address address;
    struct slice rest;

    cr_expect_not(smtp_path_parse(SLICE("<a\0@b.test>"), true, true, &address, &rest));
    cr_expect_not(smtp_path_parse(SLICE("<a@b.test\0>"), true, true, &address, &rest));
    cr_expect_not(smtp_path_parse(SLICE("<\"\0\"@b.test>"), true, true, &address, &rest));
    cr_expect_not(smtp_path_parse(SLICE("<a@[192.0.2.1\0]>"), true, true, &address, &rest));
}

Test(smtp_path, the_null_path_only_where_it_may_stand)
{
    struct smtp_address address;
    struct slice rest;

    cr_assert(smtp_path_parse(SLICE("<> X"), true, false, &address, &rest));
    cr_expect_eq(address.whole.size, 0);
    cr_expect_eq(address.domain.size, 0);
    cr_expect(slice_equal(rest, SLICE(" X")));
    cr_expect_not(smtp_path_parse(SLICE("<>"), false, true, &address, &rest));
}

Test(smtp_path, postmaster_needs_no_domain)
{
    struct smtp_address address;
    struct slice rest;

    cr_assert(smtp_path_parse(SLICE("<PostMaster>"), false, true, &address, &rest));
    cr_expect(slice_equal(address.whole, SLICE("PostMaster")));
    cr_expect_eq(address.domain.size, 0);
    cr_assert(smtp_path_parse(SLICE("<postmaster@b.test>"), false, true, &address, &rest));
    cr_expect(slice_equal(address.domain, SLICE("b.test")));
    cr_expect_not(smtp_path_parse(SLICE("<postmaster2>"), false, true, &address, &rest));
    cr_expect_not(smtp_path_parse(SLICE("<\"postmaster\">"), false, true, &address, &rest));
}

Test(smtp_path, a_refusal_leaves_the_outputs_alone)
{
    struct smtp_address address = {.whole = SLICE("untouched")};
    struct slice rest = SLICE("untouched");

    cr_expect_not(smtp_path_parse(SLICE("<a@b"), true, true, &address, &rest));
    cr_expect_not(smtp_address_parse(SLICE("a@b c"), &address));
    cr_expect(slice_equal(address.whole, SLICE("untouched")));
    cr_expect(slice_equal(rest, SLICE("untouched")));
}

Test(smtp_path, address_alone)
{
    static const char *const bad[] = {"",          "a",         "postmaster",  "<a@b.test>",
                                      "a@b.test ", " a@b.test", "@x:a@b.test", "a@b.test,c@d.test",
                                      "a@b.test\n"};
    struct smtp_address address;

    cr_assert(smtp_address_parse(SLICE("fadli@kawan.test"), &address));
    cr_expect(slice_equal(address.local, SLICE("fadli")));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        cr_expect_not(smtp_address_parse(slice_cstr(bad[i]), &address), "%s", bad[i]);
}

Test(smtp_path, domains)
{
    static const char *const good[] = {"a", "a.b", "A-1.b", "xn--bcher-kva.test"};
    static const char *const bad[] = {"",   ".",   "a.",  ".a",        "a..b", "-a",
                                      "a-", "a b", "a_b", "[1.2.3.4]", "a-.b"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        cr_expect(smtp_domain_is_valid(slice_cstr(good[i])), "%s", good[i]);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        cr_expect_not(smtp_domain_is_valid(slice_cstr(bad[i])), "%s", bad[i]);
}
