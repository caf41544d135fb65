#include "core/netaddr.h"
#include <criterion/criterion.h>

struct address_row {
    const char *text;
    const char *want; /* NULL: refused */
};

static const struct address_row address_rows[] = {
    {"127.0.0.1", "127.0.0.1:25"},
    {"127.0.0.1:2525", "127.0.0.1:2525"},
    {"::1", "[::1]:25"},
    {"[::1]", "[::1]:25"},
    {"[::1]:65535", "[::1]:65535"},
    {"[2001:db8::1]:0", "[2001:db8::1]:0"},
    {"::ffff:10.0.0.1", "[::ffff:10.0.0.1]:25"},
    {"", NULL},
    {":25", NULL},
    {"localhost", NULL},
    {"127.0.0.1:", NULL},
    {"127.0.0.1:65536", NULL},
    {"127.0.0.1:-1", NULL},
    {"127.0.0.1:25 ", NULL},
    {" 127.0.0.1", NULL},
    {"127.0.0.256", NULL},
    {"127.1", NULL},
    {"0x7f.0.0.1", NULL},
    {"[127.0.0.1]", NULL},
    {"[::1", NULL},
    {"[::1]25", NULL},
    {"[::1]:", NULL},
    {"[]", NULL},
    {"::1%lo", NULL},
    {"1:2:3:4:5:6:7:8:9", NULL},
};

Test(netaddr, reads_addresses_and_nothing_else)
{
    for (size_t i = 0; i < ARRAY_SIZE(address_rows); i++) {
        struct netaddr address;
        char text[NETADDR_TEXT_SIZE];
        bool valid = netaddr_parse(slice_cstr(address_rows[i].text), 25, &address);

        cr_expect_eq(valid, address_rows[i].want != NULL, "'%s'", address_rows[i].text);
        if (!valid)
            continue;
        netaddr_format(&address, text);
        cr_expect_str_eq(text, address_rows[i].want);
    }
}

Test(netaddr, compares_and_prints)
{
    struct netaddr a, b;
    char text[NETADDR_TEXT_SIZE];

    cr_assert(netaddr_parse(SLICE("192.0.2.1:1"), 0, &a));
    cr_assert(netaddr_parse(SLICE("192.0.2.1:2"), 0, &b));
    cr_expect(!netaddr_equal(&a, &b));
    cr_expect(netaddr_same_host(&a, &b));
    netaddr_set_port(&b, 1);
    cr_expect(netaddr_equal(&a, &b));
    netaddr_format_literal(&a, text);
    cr_expect_str_eq(text, "192.0.2.1");
    cr_assert(netaddr_parse(SLICE("::1"), 0, &b));
    cr_expect(!netaddr_same_host(&a, &b));
    netaddr_format_literal(&b, text);
    cr_expect_str_eq(text, "IPv6:::1");
    cr_assert(netaddr_unix("/run/kilat/control", &a));
    netaddr_format(&a, text);
    cr_expect_str_eq(text, "unix:/run/kilat/control");
    cr_expect_eq(netaddr_port(&a), 0);
}

Test(netaddr, a_unix_path_has_a_limit)
{
    char path[200] = "";
    struct netaddr address;

    cr_expect(!netaddr_unix("", &address));
    memset(path, 'a', 107);
    cr_expect(netaddr_unix(path, &address));
    path[107] = 'a';
    cr_expect(!netaddr_unix(path, &address));
}

struct network_row {
    const char *network;
    const char *address; /* NULL: the network is refused */
    bool contains;
};

static const struct network_row network_rows[] = {
    {"10.0.0.0/8", "10.255.0.1", true},
    {"10.0.0.0/8", "11.0.0.0", false},
    {"10.0.0.0/8", "::ffff:10.1.2.3", true},
    {"10.0.0.0/8", "::10.1.2.3", false},
    {"0.0.0.0/0", "203.0.113.9", true},
    {"0.0.0.0/0", "2001:db8::1", false},
    {"192.0.2.128/25", "192.0.2.127", false},
    {"192.0.2.128/25", "192.0.2.129", true},
    {"192.0.2.1", "192.0.2.1", true},
    {"192.0.2.1", "192.0.2.0", false},
    {"2001:db8::/32", "2001:db8:ffff::1", true},
    {"2001:db8::/32", "2001:db9::1", false},
    {"::1/128", "::1", true},
    {"::/0", "2001:db8::1", true},
    {"10.0.0.1/8", NULL, false},
    {"10.0.0.0/33", NULL, false},
    {"10.0.0.0/", NULL, false},
    {"10.0.0.0/-1", NULL, false},
    {"10.0.0.0/8/8", NULL, false},
    {"2001:db8::1/64", NULL, false},
    {"::/129", NULL, false},
    {"/8", NULL, false},
    {"example.org/8", NULL, false},
};

Test(netaddr, networks_contain_what_they_say)
{
    for (size_t i = 0; i < ARRAY_SIZE(network_rows); i++) {
        const struct network_row *row = &network_rows[i];
        struct netaddr_network network;
        struct netaddr address;

        cr_expect_eq(netaddr_network_parse(slice_cstr(row->network), &network),
                     row->address != NULL, "%s", row->network);
        if (row->address == NULL)
            continue;
        cr_assert(netaddr_parse(slice_cstr(row->address), 0, &address));
        cr_expect_eq(netaddr_network_contains(&network, &address), row->contains, "%s in %s",
                     row->address, row->network);
    }
}

static const char *const special[] = {
    "0.0.0.0",
    "10.1.1.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.31.255.1",
    "192.168.1.1",
    "198.19.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.55",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
};
static const char *const ordinary[] = {
    "8.8.8.8",      "100.128.0.1",     "172.32.0.1",     "192.0.3.1",
    "2a00:1450::1", "2606:4700::1111", "::ffff:8.8.8.8", "223.255.255.255",
};

Test(netaddr, knows_where_mail_of_strangers_must_not_lead)
{
    struct netaddr address;

    for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
        cr_assert(netaddr_parse(slice_cstr(special[i]), 25, &address));
        cr_expect(netaddr_is_special(&address), "%s", special[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(ordinary); i++) {
        cr_assert(netaddr_parse(slice_cstr(ordinary[i]), 25, &address));
        cr_expect(!netaddr_is_special(&address), "%s", ordinary[i]);
    }
}
