/* daemon/outbound_site.h - where a site's hosts are: what a look-up or a route gave, per shard.
 *
 * A site is immutable once made and reference-counted: sessions keep theirs while a newer answer takes
 * its place in the table. Only `bad_until_ns` changes, as addresses fail. A site that nobody has asked for
 * since its answer ran out is forgotten, so that the domains of a year's mail do not add up. Shard: owner.
 */
#ifndef KILAT_DAEMON_OUTBOUND_SITE_H
#define KILAT_DAEMON_OUTBOUND_SITE_H

#include "daemon/kilatd_private.h"

#define OUTBOUND_SITE_NAME_MAX 200
#define OUTBOUND_BAD_MS (30 * SECOND_MS) /* an address that failed is asked last this long */

struct outbound_address {
    struct netaddr address; /* with port */
    uint64_t bad_until_ns;
    uint8_t host; /* in `hosts` */
};

struct outbound_site {
    struct hash_node node;
    struct list_node in_order; /* of being looked at for its age */
    uint64_t until_ns;         /* kept at least so long */
    uint32_t references;
    char name[OUTBOUND_SITE_NAME_MAX + 1];
    struct outbound_address *addresses; /* owned; at most DNS_MX_MAX */
    uint32_t address_count;
    char (*hosts)[DNS_NAME_MAX]; /* owned */
    uint32_t host_count;
};

struct outbound_site *outbound_site_create(uint32_t host_count); /* NULL: no memory */
struct outbound_site *outbound_site_ref(struct outbound_site *site);
void outbound_site_unref(struct outbound_site **site);
/* Also when there is no memory for it, or no room: then it is left out. */
void outbound_site_add(struct outbound_site *site, uint8_t host, const struct netaddr *address);

/* Answers queue_resolved() or queue_unresolved() for `destination`, now or after look-ups, and keeps the
 * site where outbound_sites_find() finds it. */
struct outbound_sites;
int outbound_sites_create(struct node *node, struct outbound_sites **ret_sites);
/* Look-ups under way are cancelled. */
void outbound_sites_destroy(struct outbound_sites **sites);
void outbound_sites_resolve(struct outbound_sites *sites, uint32_t destination, struct slice name);
/* Takes `site`, in the place of one of its name; what is known of its addresses' health is carried over. */
void outbound_sites_keep(struct outbound_sites *sites, struct outbound_site *site, uint64_t ttl_ms);
size_t outbound_sites_count(const struct outbound_sites *sites);
struct outbound_site *outbound_sites_find(struct outbound_sites *sites, struct slice name);

#endif
