/* How many sessions there may be, over all and from one address. */
#include "daemon/kilatd_private.h"
#include <criterion/criterion.h>
#include <stdlib.h>

static struct node *node_make(const char *text)
{
    struct node *node = calloc(1, sizeof(*node));
    struct settings settings = {0};
    struct buf error;

    buf_init(&error, 4 * KIB);
    cr_assert_eq(settings_parse(settings_table(), slice_cstr(text), "test", &settings, &error), 0,
                 "%.*s", SLICE_ARG(buf_slice(&error)));
    cr_assert_eq(generation_create(&settings, &node->generation), 0);
    cr_assert_eq(hash_table_init(&node->peers, 4), 0);
    buf_deinit(&error);
    return node;
}

static void node_free(struct node *node)
{
    cr_expect_eq(node->peers.count, 0, "every session is forgotten");
    cr_expect_eq(node->session_count, 0);
    hash_table_deinit(&node->peers);
    generation_unref(&node->generation);
    free(node);
}

static struct netaddr address_of(const char *text)
{
    struct netaddr address;

    cr_assert(netaddr_parse(slice_cstr(text), 4000, &address));
    return address;
}

Test(sessions, one_address_may_have_so_many)
{
    struct node *node = node_make("hostname = mx.test\nsessions_per_address_max = 2\n");
    struct netaddr one = address_of("192.0.2.1"), port = address_of("192.0.2.1:99"),
                   other = address_of("192.0.2.2");

    cr_expect(sessions_admit(node, &one));
    cr_expect(sessions_admit(node, &port), "the port does not count");
    cr_expect(!sessions_admit(node, &one));
    cr_expect(sessions_admit(node, &other));
    cr_expect_eq(node->session_count, 3, "what was refused is not counted");
    sessions_forget(node, &port);
    cr_expect(sessions_admit(node, &one));
    sessions_forget(node, &one);
    sessions_forget(node, &one);
    sessions_forget(node, &other);
    node_free(node);
}

/* A customer has as many addresses of IPv6 as he likes, but one /64. */
Test(sessions, one_network_of_ipv6_counts_as_one)
{
    struct node *node = node_make("hostname = mx.test\nsessions_per_address_max = 2\n");
    struct netaddr a = address_of("2001:db8:1:2::1"), b = address_of("2001:db8:1:2:ffff::9"),
                   c = address_of("2001:db8:1:3::1");

    cr_expect(sessions_admit(node, &a));
    cr_expect(sessions_admit(node, &b));
    cr_expect(!sessions_admit(node, &a));
    cr_expect(sessions_admit(node, &c));
    sessions_forget(node, &b);
    sessions_forget(node, &a);
    sessions_forget(node, &c);
    node_free(node);
}

/* On a listener for both families an IPv4 client comes as ::ffff:a.b.c.d: its hosts are not one network. */
Test(sessions, mapped_addresses_are_hosts)
{
    struct node *node = node_make("hostname = mx.test\nsessions_per_address_max = 1\n");
    struct netaddr a = address_of("::ffff:192.0.2.1"), b = address_of("::ffff:192.0.2.2"),
                   plain = address_of("192.0.2.1");

    cr_expect(sessions_admit(node, &a));
    cr_expect(sessions_admit(node, &b));
    cr_assert(!sessions_admit(node, &plain), "the same host");
    sessions_forget(node, &a);
    sessions_forget(node, &b);
    node_free(node);
}

Test(sessions, all_together_may_be_so_many)
{
    struct node *node = node_make("hostname = mx.test\nsessions_max = 3\n");
    struct netaddr addresses[4];

    for (int i = 0; i < 4; i++) {
        netaddr_from_ipv4((const uint8_t[4]){192, 0, 2, (uint8_t)i}, 25, &addresses[i]);
        cr_expect_eq(sessions_admit(node, &addresses[i]), i < 3);
    }
    for (int i = 0; i < 3; i++)
        sessions_forget(node, &addresses[i]);
    cr_expect(sessions_admit(node, &addresses[3]));
    sessions_forget(node, &addresses[3]);
    node_free(node);
}

/* The number of a descriptor tells how many are in use: the last ones are not for mail. */
Test(descriptors, the_last_ones_are_kept)
{
    struct kilatd *kilatd = calloc(1, sizeof(*kilatd));

    cr_expect_eq(descriptors_left(kilatd, 1000000), DESCRIPTORS_ENOUGH, "no limit is known");
    kilatd->descriptors_max = 1024;
    cr_expect_eq(descriptors_left(kilatd, 895), DESCRIPTORS_ENOUGH);
    cr_expect_eq(descriptors_left(kilatd, 896), DESCRIPTORS_FEW);
    cr_expect_eq(descriptors_left(kilatd, 959), DESCRIPTORS_FEW);
    cr_expect_eq(descriptors_left(kilatd, 960), DESCRIPTORS_LAST);
    kilatd->descriptors_max = 64;
    cr_expect_eq(descriptors_left(kilatd, 47), DESCRIPTORS_ENOUGH, "a quarter of a small number");
    cr_expect_eq(descriptors_left(kilatd, 48), DESCRIPTORS_FEW);
    cr_expect_eq(descriptors_left(kilatd, 56), DESCRIPTORS_LAST);
    free(kilatd);
}
