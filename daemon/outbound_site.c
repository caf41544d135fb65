#include "daemon/outbound_site.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"

#define ROUTE_TTL_MS MINUTE_MS /* a reload may change a route; asking again costs nothing */
#define HOST_TTL_MIN_S 5
#define SITE_SPARE_MS                                                                              \
    (10 * MINUTE_MS)      /* the queue connects a little later than it was told where to */
#define SITES_LOOKED_AT 2 /* for each new one: the table is at most twice what is in use */

struct outbound_sites {
    struct node *node;
    struct hash_table table; /* of struct outbound_site, by name */
    struct hash_key key;
    struct list_node in_order; /* of struct outbound_site */
    struct list_node lookups;
};

/* One destination being resolved: by its MX, or the addresses of a route's host. */
struct outbound_lookup {
    struct list_node node;
    struct outbound_sites *sites;
    uint32_t destination;
    uint16_t port;
    bool by_mx;
    struct dns_mx_query mx;
    struct dns_query host;
    struct outbound_site *site; /* of a route's host, while its addresses are asked for */
    bool asked_a;
    uint32_t ttl_s;
};

/* ---- sites ------------------------------------------------------------------------------------ */

struct outbound_site *outbound_site_create(uint32_t host_count)
{
    struct outbound_site *site = calloc(1, sizeof(*site));

    if (site == NULL)
        return NULL;
    site->references = 1;
    list_node_init(&site->in_order);
    site->host_count = host_count;
    site->hosts = calloc(host_count, sizeof(*site->hosts));
    if (site->hosts == NULL) {
        free(site);
        return NULL;
    }
    return site;
}

struct outbound_site *outbound_site_ref(struct outbound_site *site)
{
    site->references++;
    return site;
}

void outbound_site_unref(struct outbound_site **site)
{
    struct outbound_site *s = *site;

    *site = NULL;
    if (s == NULL || --s->references > 0)
        return;
    free(s->hosts);
    free(s->addresses);
    free(s);
}

void outbound_site_add(struct outbound_site *site, uint8_t host, const struct netaddr *address)
{
    struct outbound_address *grown;

    if (site->address_count == DNS_MX_MAX)
        return;
    grown = realloc(site->addresses, (site->address_count + 1) * sizeof(*grown));
    if (grown == NULL)
        return;
    site->addresses = grown;
    site->addresses[site->address_count++] =
        (struct outbound_address){.address = *address, .host = host};
}

static bool outbound_site_is(const struct hash_node *node, const void *wanted)
{
    return slice_equal(slice_cstr(CONTAINER_OF(node, struct outbound_site, node)->name),
                       *(const struct slice *)wanted);
}

struct outbound_site *outbound_sites_find(struct outbound_sites *sites, struct slice name)
{
    struct hash_node *node =
        hash_table_find(&sites->table, hash_bytes(&sites->key, name), outbound_site_is, &name);

    return node == NULL ? NULL : CONTAINER_OF(node, struct outbound_site, node);
}

static void outbound_sites_drop(struct outbound_sites *sites, struct outbound_site *site)
{
    hash_table_remove(&sites->table, &site->node);
    list_remove(&site->in_order);
    outbound_site_unref(&site);
}

/* Looks at a few of those that were not looked at for longest. */
static void outbound_sites_forget_some(struct outbound_sites *sites)
{
    for (int i = 0; i < SITES_LOOKED_AT; i++) {
        struct list_node *at = list_pop_front(&sites->in_order);
        struct outbound_site *site;
        if (at == NULL)
            return;
        site = CONTAINER_OF(at, struct outbound_site, in_order);
        if (site->until_ns < sites->node->shard->now_ns)
            outbound_sites_drop(sites, site);
        else
            list_push_back(&sites->in_order, at);
    }
}

void outbound_sites_keep(struct outbound_sites *sites, struct outbound_site *site, uint64_t ttl_ms)
{
    struct slice name = slice_cstr(site->name);
    struct outbound_site *old = outbound_sites_find(sites, name);

    if (old != NULL) {
        for (uint32_t i = 0; i < site->address_count; i++)
            for (uint32_t j = 0; j < old->address_count; j++)
                if (netaddr_equal(&site->addresses[i].address, &old->addresses[j].address))
                    site->addresses[i].bad_until_ns = old->addresses[j].bad_until_ns;
        outbound_sites_drop(sites, old);
    }
    site->until_ns = sites->node->shard->now_ns + (ttl_ms + SITE_SPARE_MS) * MS_NS;
    outbound_sites_forget_some(sites);
    hash_table_insert(&sites->table, &site->node, hash_bytes(&sites->key, name));
    list_push_back(&sites->in_order, &site->in_order);
}

size_t outbound_sites_count(const struct outbound_sites *sites)
{
    return sites->table.count;
}

/* The hosts in order, as far as they fit; what does not is told by its hash, so that two sets stay two sites. */
static void outbound_site_set_name(struct outbound_site *site)
{
    struct buf name;
    size_t room = OUTBOUND_SITE_NAME_MAX;

    buf_init(&name, 64 * KIB);
    for (uint32_t i = 0; i < site->host_count; i++)
        buf_printf(&name, "%s%s", i == 0 ? "" : ",", site->hosts[i]);
    if (name.size > room)
        (void)snprintf(site->name, sizeof(site->name), "%.*s...%016llx", (int)(room - 20),
                       (const char *)name.data,
                       (unsigned long long)hash_bytes(&(struct hash_key){0}, buf_slice(&name)));
    else
        (void)snprintf(site->name, sizeof(site->name), "%.*s", SLICE_ARG(buf_slice(&name)));
    buf_deinit(&name);
}

/* False: the address lies where mail hosts of strangers must not lead. */
static bool outbound_may_lead_to(const struct outbound_sites *sites, const struct netaddr *address)
{
    return sites->node->generation->settings.allow_private_mail_hosts ||
           !netaddr_is_special(address);
}

static void outbound_add_at_port(struct outbound_site *site, uint8_t host, struct netaddr address,
                                 uint16_t port)
{
    netaddr_set_port(&address, port);
    outbound_site_add(site, host, &address);
}

/* ---- look-ups ----------------------------------------------------------------------------------- */

static void outbound_lookup_free(struct outbound_lookup *lookup)
{
    list_remove(&lookup->node);
    outbound_site_unref(&lookup->site);
    free(lookup);
}

static void outbound_give(struct outbound_lookup *lookup, struct outbound_site *site,
                          uint32_t ttl_s)
{
    struct outbound_sites *sites = lookup->sites;
    uint64_t ttl_ms = MAX(ttl_s, HOST_TTL_MIN_S) * SECOND_MS;

    outbound_sites_keep(sites, site, ttl_ms);
    queue_resolved(sites->node->queue, lookup->destination, slice_cstr(site->name), ttl_ms);
    outbound_lookup_free(lookup);
}

static void outbound_refuse(struct outbound_lookup *lookup, enum queue_outcome outcome, uint8_t a,
                            uint8_t b, uint8_t c, struct slice text)
{
    const uint8_t status[3] = {a, b, c};

    queue_unresolved(lookup->sites->node->queue, lookup->destination, outcome, status, text);
    outbound_lookup_free(lookup);
}

static void outbound_mx_hosts(struct outbound_lookup *lookup, const struct dns_mx_answer *answer)
{
    struct outbound_sites *sites = lookup->sites;
    struct outbound_site *site = outbound_site_create(answer->host_count);
    uint32_t refused = 0;

    if (site == NULL) {
        outbound_refuse(lookup, QUEUE_LATER, 4, 3, 0, SLICE("no memory for the mail hosts"));
        return;
    }
    for (uint32_t i = 0; i < answer->host_count; i++) {
        const struct dns_mx_host *host = &answer->hosts[i];
        memcpy(site->hosts[i], host->name, DNS_NAME_MAX);
        for (uint32_t j = 0; j < host->address_count; j++) {
            const struct netaddr *address = &answer->addresses[host->first_address + j];
            if (outbound_may_lead_to(sites, address))
                outbound_add_at_port(site, (uint8_t)i, *address, lookup->port);
            else
                refused++;
        }
    }
    if (site->address_count == 0) {
        outbound_site_unref(&site);
        if (refused > 0)
            outbound_refuse(lookup, QUEUE_NEVER, 5, 4, 4,
                            SLICE("the mail hosts of that domain lead into a private network"));
        else
            outbound_refuse(lookup, QUEUE_LATER, 4, 4, 3,
                            SLICE("no mail host has an address just now"));
        return;
    }
    outbound_site_set_name(site);
    outbound_give(lookup, site, answer->ttl_s);
}

static void outbound_mx_done(struct dns_mx_query *query, const struct dns_mx_answer *answer)
{
    struct outbound_lookup *lookup = CONTAINER_OF(query, struct outbound_lookup, mx);
    struct slice text = slice_cstr(answer->text);

    lookup->by_mx = false; /* nothing is left to cancel */
    log_event(lookup->sites->node->shard->log, LOG_INFO, "dns.mx",
              log_u64("status", answer->status), log_text("answer", text));
    switch (answer->status) {
    case DNS_MX_OK:
        outbound_mx_hosts(lookup, answer);
        return;
    case DNS_MX_NULL:
        outbound_refuse(lookup, QUEUE_NEVER, 5, 1, 10,
                        SLICE("that domain accepts no mail (null MX)"));
        return;
    case DNS_MX_NXDOMAIN:
        outbound_refuse(lookup, QUEUE_NEVER, 5, 1, 2, SLICE("no such domain"));
        return;
    case DNS_MX_NO_HOST:
        outbound_refuse(lookup, QUEUE_NEVER, 5, 1, 2,
                        SLICE("that domain has no mail host and no address"));
        return;
    case DNS_MX_SELF:
        outbound_refuse(
            lookup, QUEUE_NEVER, 5, 4, 6,
            SLICE("the mail host of that domain is this host, which does not know the domain"));
        return;
    case DNS_MX_TEMPORARY:
        outbound_refuse(lookup, QUEUE_LATER, 4, 4, 3, text);
        return;
    }
}

static void outbound_host_done(struct dns_query *query, const struct dns_answer *answer);

static void outbound_ask_host(struct outbound_lookup *lookup)
{
    struct node *node = lookup->sites->node;

    dns_lookup(node->dns, lookup->asked_a ? DNS_A : DNS_AAAA, slice_cstr(lookup->site->hosts[0]),
               &lookup->host, outbound_host_done);
}

/* AAAA, then A: a route's host is one of ours, so its addresses may be anywhere. */
static void outbound_host_done(struct dns_query *query, const struct dns_answer *answer)
{
    struct outbound_lookup *lookup = CONTAINER_OF(query, struct outbound_lookup, host);
    struct outbound_site *site = lookup->site;

    for (size_t i = 0; i < answer->record_count; i++) {
        const struct dns_record *record = &answer->records[i];
        struct netaddr address;
        if (record->type == DNS_A)
            netaddr_from_ipv4(record->address, lookup->port, &address);
        else if (record->type == DNS_AAAA)
            netaddr_from_ipv6(record->address, lookup->port, &address);
        else
            continue;
        outbound_site_add(site, 0, &address);
    }
    lookup->ttl_s = MIN(lookup->ttl_s, answer->ttl_s);
    if (!lookup->asked_a) {
        lookup->asked_a = true;
        outbound_ask_host(lookup);
    } else if (site->address_count > 0) {
        lookup->site = NULL;
        outbound_give(lookup, site, lookup->ttl_s);
    } else {
        outbound_refuse(lookup, QUEUE_LATER, 4, 4, 3,
                        SLICE("the host of the route has no address just now"));
    }
}

static void outbound_by_route(struct outbound_lookup *lookup, const struct settings_route *route)
{
    struct outbound_site *site = outbound_site_create(1);
    struct netaddr address;

    if (site == NULL) {
        outbound_refuse(lookup, QUEUE_LATER, 4, 3, 0, SLICE("no memory for the route"));
        return;
    }
    if (route->port != 0)
        lookup->port = (uint16_t)route->port;
    (void)slice_to_cstr(slice_cstr(route->via), site->hosts[0],
                        DNS_NAME_MAX); /* checked by the table */
    if (!netaddr_parse(slice_cstr(route->via), lookup->port, &address)) {
        (void)snprintf(site->name, sizeof(site->name), "route:%.180s:%u", route->via, lookup->port);
        lookup->site = site;
        outbound_ask_host(lookup);
        return;
    }
    outbound_site_add(site, 0, &address);
    (void)snprintf(site->name, sizeof(site->name), "route:");
    netaddr_format(&address, site->name + strlen(site->name));
    outbound_give(lookup, site, ROUTE_TTL_MS / SECOND_MS);
}

void outbound_sites_resolve(struct outbound_sites *sites, uint32_t destination, struct slice name)
{
    const struct generation *generation = sites->node->generation;
    const struct settings_route *route = generation_route(generation, name);
    struct outbound_lookup *lookup = calloc(1, sizeof(*lookup));

    if (lookup == NULL) {
        queue_unresolved(sites->node->queue, destination, QUEUE_LATER, (const uint8_t[3]){4, 3, 0},
                         SLICE("no memory for the look-up"));
        return;
    }
    lookup->sites = sites;
    lookup->destination = destination;
    lookup->port = (uint16_t)generation->settings.outgoing_port;
    lookup->ttl_s = UINT32_MAX;
    list_push_back(&sites->lookups, &lookup->node);
    if (route != NULL) {
        outbound_by_route(lookup, route);
        return;
    }
    lookup->by_mx = true;
    lookup->mx.done = outbound_mx_done;
    lookup->mx.is_self = outbound_is_self;
    lookup->mx.is_self_context = sites->node;
    dns_mx_lookup(sites->node->dns, name, &lookup->mx);
}

/* ---- all of them -------------------------------------------------------------------------------- */

int outbound_sites_create(struct node *node, struct outbound_sites **ret_sites)
{
    struct outbound_sites *sites = calloc(1, sizeof(*sites));
    int r = sites == NULL ? -ENOMEM : hash_table_init(&sites->table, 64);

    if (r < 0) {
        free(sites);
        return r;
    }
    sites->node = node;
    sites->key = node->peers_key;
    list_init(&sites->in_order);
    list_init(&sites->lookups);
    *ret_sites = sites;
    return 0;
}

void outbound_sites_destroy(struct outbound_sites **sites)
{
    struct outbound_sites *s = *sites;
    struct hash_node *node, *next;

    if (s == NULL)
        return;
    list_for_each_safe (at, &s->lookups) {
        struct outbound_lookup *lookup = CONTAINER_OF(at, struct outbound_lookup, node);
        if (lookup->by_mx)
            dns_mx_cancel(s->node->dns, &lookup->mx);
        else
            dns_cancel(s->node->dns, &lookup->host);
        outbound_lookup_free(lookup);
    }
    for (node = hash_table_next(&s->table, NULL); node != NULL; node = next) {
        struct outbound_site *site = CONTAINER_OF(node, struct outbound_site, node);
        next = hash_table_next(&s->table, node);
        outbound_site_unref(&site);
    }
    hash_table_deinit(&s->table);
    free(s);
    *sites = NULL;
}
