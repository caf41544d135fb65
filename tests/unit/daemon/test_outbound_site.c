/* Where sites are, for as long as somebody wants to know. */
#include "daemon/outbound_site.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

struct fixture {
    struct node node;
    struct shard shard;
    struct outbound_sites *sites;
};

static struct fixture *fixture_make(void)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->node.shard = &f->shard;
    f->shard.now_ns = 1000 * SECOND_NS;
    cr_assert_eq(outbound_sites_create(&f->node, &f->sites), 0);
    return f;
}

static void fixture_free(struct fixture *f)
{
    outbound_sites_destroy(&f->sites);
    cr_expect_null(f->sites);
    free(f);
}

static struct outbound_site *site_make(const char *name, unsigned addresses)
{
    struct outbound_site *site = outbound_site_create(1);

    cr_assert_not_null(site);
    (void)snprintf(site->name, sizeof(site->name), "%s", name);
    for (unsigned i = 0; i < addresses; i++) {
        struct netaddr address;
        netaddr_from_ipv4((const uint8_t[4]){192, 0, 2, (uint8_t)i}, 25, &address);
        outbound_site_add(site, 0, &address);
    }
    return site;
}

Test(outbound_site, no_more_addresses_than_can_be_tried)
{
    struct outbound_site *site = site_make("mx.test", DNS_MX_MAX + 5);

    cr_expect_eq(site->address_count, DNS_MX_MAX);
    outbound_site_unref(&site);
    cr_expect_null(site);
}

/* A session goes on with the site it has; the next one takes the newer, and knows which addresses are bad. */
Test(outbound_site, a_newer_answer_takes_its_place)
{
    struct fixture *f = fixture_make();
    struct outbound_site *old, *found;

    outbound_sites_keep(f->sites, site_make("mx.test", 2), MINUTE_MS);
    old = outbound_site_ref(outbound_sites_find(f->sites, SLICE("mx.test")));
    old->addresses[1].bad_until_ns = 77;
    outbound_sites_keep(f->sites, site_make("mx.test", 3), MINUTE_MS);
    cr_expect_eq(outbound_sites_count(f->sites), 1);
    found = outbound_sites_find(f->sites, SLICE("mx.test"));
    cr_assert_not_null(found);
    cr_expect_neq(found, old);
    cr_expect_eq(found->addresses[1].bad_until_ns, 77);
    cr_expect_eq(found->addresses[2].bad_until_ns, 0);
    cr_expect_eq(old->address_count, 2, "still there for the one who has it");
    outbound_site_unref(&old);
    fixture_free(f);
}

/* A hundred thousand domains, one after the other, each for a minute: only the last ones are known. */
Test(outbound_site, those_nobody_asks_for_are_forgotten)
{
    struct fixture *f = fixture_make();
    size_t most = 0;
    char name[40];

    for (int i = 0; i < 100000; i++) {
        (void)snprintf(name, sizeof(name), "mx%d.test", i);
        outbound_sites_keep(f->sites, site_make(name, 1), MINUTE_MS);
        outbound_sites_keep(f->sites, site_make("busy.test", 1), MINUTE_MS);
        cr_assert_not_null(outbound_sites_find(f->sites, slice_cstr(name)));
        f->shard.now_ns += SECOND_NS;
        most = MAX(most, outbound_sites_count(f->sites));
    }
    cr_expect_lt(most, 2000, "%zu sites were known at once", most);
    cr_expect_not_null(outbound_sites_find(f->sites, SLICE("busy.test")));
    cr_expect_null(outbound_sites_find(f->sites, SLICE("mx1.test")));
    fixture_free(f);
}
