#include "core/assert.h"
#include "core/clock.h"
#include "dns/dns_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A better host whose look-up failed may be back soon: what is known without it holds no longer. */
#define PARTIAL_TTL_S 60u
#define HOST_ADDRESSES_MIN 2u /* of each host, before the next one gets any (RFC 5321 5.1) */

/* One host and its two look-ups. */
struct mx_host {
    struct mx_lookup *lookup;
    char name[DNS_NAME_MAX];
    uint16_t preference;
    bool self;
    bool failed; /* one of its look-ups, temporarily */
    uint8_t ipv6_count, ipv4_count;
    uint8_t ipv6[DNS_MX_MAX][16];
    uint8_t ipv4[DNS_MX_MAX][4];
    struct dns_query aaaa, a;
};

struct mx_lookup {
    struct dns *dns;
    struct dns_mx_query *query;
    struct dns_query mx;
    char domain[DNS_NAME_MAX];
    uint32_t pending; /* address look-ups that have not answered, and one while they are begun */
    uint32_t ttl_s;
    uint32_t host_count;
    struct mx_host hosts[DNS_MX_MAX];
    struct dns_mx_answer answer;
};

/* ---- what is said about it ----------------------------------------------------------------- */

static void say(struct mx_lookup *lookup, const char *format, ...) KILAT_PRINTF(2, 3);
static void say(struct mx_lookup *lookup, const char *format, ...)
{
    char *text = lookup->answer.text;
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    /* Cut where the room ends: it is for reading. */
    (void)vsnprintf(text + used, sizeof(lookup->answer.text) - used, format, args);
    va_end(args);
}

static void say_hosts(struct mx_lookup *lookup)
{
    const struct dns_mx_answer *answer = &lookup->answer;

    for (uint32_t i = 0; i < answer->host_count; i++) {
        const struct dns_mx_host *host = &answer->hosts[i];

        say(lookup, "%s%u %s", i == 0 ? "" : ", ", host->preference,
            host->name[0] == '\0' ? "." : host->name);
        for (uint32_t k = 0; k < host->address_count; k++) {
            char text[NETADDR_TEXT_SIZE];

            netaddr_format_literal(&answer->addresses[host->first_address + k], text);
            say(lookup, " [%s]", text);
        }
        if (host->address_count == 0)
            say(lookup, lookup->hosts[i].failed ? " (look-up failed)" : " (no address)");
    }
}

static void finish(struct mx_lookup *lookup, enum dns_mx_status status)
{
    struct dns_mx_query *query = lookup->query;

    lookup->answer.status = status;
    lookup->answer.ttl_s = lookup->ttl_s == UINT32_MAX ? 0 : lookup->ttl_s;
    query->state = NULL;
    query->done(query, &lookup->answer);
    free(lookup);
}

/* ---- the end: hosts and their addresses ---------------------------------------------------- */

/* RFC 5321 5.1: where we stand in the list ourselves, that preference and all worse ones are left
 * out. */
static void cut_at_self(struct mx_lookup *lookup)
{
    uint32_t kept = 0;
    uint32_t own = UINT32_MAX;

    for (uint32_t i = 0; i < lookup->host_count; i++) {
        if (lookup->hosts[i].self)
            own = MIN(own, lookup->hosts[i].preference);
    }
    while (kept < lookup->host_count && lookup->hosts[kept].preference < own)
        kept++; /* they are in order */
    lookup->host_count = kept;
}

/* Families alternating, IPv6 first: where one of the two leads nowhere the other is not far. */
static void list_addresses(struct mx_lookup *lookup, const struct mx_host *host, uint32_t share,
                           struct dns_mx_host *to)
{
    struct dns_mx_answer *answer = &lookup->answer;
    uint8_t ipv6 = 0, ipv4 = 0;

    to->first_address = (uint8_t)answer->address_count;
    while ((ipv6 < host->ipv6_count || ipv4 < host->ipv4_count) && to->address_count < share &&
           answer->address_count < DNS_MX_MAX) {
        bool six = ipv4 == host->ipv4_count || (ipv6 < host->ipv6_count && ipv6 <= ipv4);

        if (six)
            netaddr_from_ipv6(host->ipv6[ipv6++], 0, &answer->addresses[answer->address_count]);
        else
            netaddr_from_ipv4(host->ipv4[ipv4++], 0, &answer->addresses[answer->address_count]);
        answer->address_count++;
        to->address_count++;
    }
}

static void list_hosts(struct mx_lookup *lookup)
{
    struct dns_mx_answer *answer = &lookup->answer;
    uint32_t share = MAX(HOST_ADDRESSES_MIN, DNS_MX_MAX / MAX(lookup->host_count, 1u));

    for (uint32_t i = 0; i < lookup->host_count; i++) {
        const struct mx_host *host = &lookup->hosts[i];
        struct dns_mx_host *to = &answer->hosts[i];

        memcpy(to->name, host->name, sizeof(to->name));
        to->preference = host->preference;
        list_addresses(lookup, host, share, to);
        if (host->failed)
            lookup->ttl_s = MIN(lookup->ttl_s, PARTIAL_TTL_S);
    }
    answer->host_count = lookup->host_count;
}

static bool any_failed(const struct mx_lookup *lookup)
{
    for (uint32_t i = 0; i < lookup->host_count; i++) {
        if (lookup->hosts[i].failed)
            return true;
    }
    return false;
}

static void conclude(struct mx_lookup *lookup)
{
    struct dns_mx_answer *answer = &lookup->answer;

    cut_at_self(lookup);
    if (lookup->host_count == 0) {
        say(lookup, "the best mail host of %s is this server", lookup->domain);
        finish(lookup, DNS_MX_SELF);
        return;
    }
    list_hosts(lookup);
    if (answer->implicit)
        say(lookup, "no MX, the domain itself: ");
    say_hosts(lookup);
    /* Temporary as long as any host that may be tried is in doubt: the mail of a domain whose name
     * servers fail is kept, whatever its other hosts lack. */
    if (answer->address_count > 0)
        finish(lookup, DNS_MX_OK);
    else
        finish(lookup, any_failed(lookup) ? DNS_MX_TEMPORARY : DNS_MX_NO_HOST);
}

/* ---- the addresses of a host --------------------------------------------------------------- */

static bool is_self(const struct mx_lookup *lookup, const struct mx_host *host,
                    const struct netaddr *address)
{
    const struct dns_mx_query *query = lookup->query;

    return query->is_self != NULL &&
           query->is_self(query->is_self_context, slice_cstr(host->name), address);
}

static void add_address(struct mx_host *host, const struct netaddr *address)
{
    if (address->any.sa_family == AF_INET6 && host->ipv6_count < DNS_MX_MAX)
        memcpy(host->ipv6[host->ipv6_count++], &address->in6.sin6_addr, 16);
    if (address->any.sa_family == AF_INET && host->ipv4_count < DNS_MX_MAX)
        memcpy(host->ipv4[host->ipv4_count++], &address->in.sin_addr, 4);
    if (is_self(host->lookup, host, address))
        host->self = true;
}

static void one_less(struct mx_lookup *lookup)
{
    ASSERT(lookup->pending > 0);
    if (--lookup->pending == 0)
        conclude(lookup);
}

static void take_addresses(struct mx_host *host, const struct dns_answer *answer)
{
    struct mx_lookup *lookup = host->lookup;

    if (answer->status == DNS_FAILED || answer->status == DNS_TIMEOUT)
        host->failed = true;
    if (answer->status == DNS_OK)
        lookup->ttl_s = MIN(lookup->ttl_s, answer->ttl_s);
    for (size_t i = 0; i < answer->record_count; i++) {
        const struct dns_record *record = &answer->records[i];
        struct netaddr address;

        if (record->type == DNS_AAAA)
            netaddr_from_ipv6(record->address, 0, &address);
        else
            netaddr_from_ipv4(record->address, 0, &address);
        add_address(host, &address);
    }
    one_less(lookup);
}

static void on_a(struct dns_query *query, const struct dns_answer *answer)
{
    take_addresses(CONTAINER_OF(query, struct mx_host, a), answer);
}

static void on_aaaa(struct dns_query *query, const struct dns_answer *answer)
{
    take_addresses(CONTAINER_OF(query, struct mx_host, aaaa), answer);
}

/* An address where a name belongs lies outside the standard (RFC 5321 5.1), but it says where the
 * mail shall go, and no top-level domain is a number. */
static bool is_address(const struct mx_host *host, struct netaddr *ret_address)
{
    return netaddr_parse(slice_cstr(host->name), 0, ret_address);
}

/* In parallel, but for hosts that come at or behind ourselves by their name alone. */
static void ask_addresses(struct mx_lookup *lookup)
{
    struct netaddr address;

    lookup->pending = 1;
    for (uint32_t i = 0; i < lookup->host_count; i++)
        lookup->hosts[i].self = is_self(lookup, &lookup->hosts[i], NULL);
    cut_at_self(lookup);
    for (uint32_t i = 0; i < lookup->host_count; i++) {
        struct mx_host *host = &lookup->hosts[i];

        if (is_address(host, &address)) {
            add_address(host, &address);
            continue;
        }
        lookup->pending += 2;
        dns_lookup(lookup->dns, DNS_AAAA, slice_cstr(host->name), &host->aaaa, on_aaaa);
        dns_lookup(lookup->dns, DNS_A, slice_cstr(host->name), &host->a, on_a);
    }
    one_less(lookup);
}

/* ---- the MX records ------------------------------------------------------------------------ */

static struct mx_host *add_host(struct mx_lookup *lookup, const char *name, uint16_t preference)
{
    struct mx_host *host = &lookup->hosts[lookup->host_count++];

    host->lookup = lookup;
    host->preference = preference;
    memcpy(host->name, name, strlen(name) + 1);
    return host;
}

struct choice {
    const struct dns_record *record;
    uint64_t lot;
};

static int by_preference(const void *left, const void *right)
{
    const struct choice *a = left, *b = right;

    if (a->record->preference != b->record->preference)
        return a->record->preference < b->record->preference ? -1 : 1;
    return a->lot < b->lot ? -1 : a->lot > b->lot;
}

static bool has_host(const struct mx_lookup *lookup, const char *name)
{
    for (uint32_t i = 0; i < lookup->host_count; i++) {
        if (strcmp(lookup->hosts[i].name, name) == 0)
            return true;
    }
    return false;
}

/* In order of preference, equals in an order drawn anew each time (RFC 5321 5.1); of more than
 * DNS_MX_MAX the worst are left out. A host named twice counts where it is best. */
static void choose_hosts(struct mx_lookup *lookup, const struct dns_answer *answer)
{
    struct choice choices[DNS_RECORDS_MAX];

    for (size_t i = 0; i < answer->record_count; i++)
        choices[i] = (struct choice){&answer->records[i], random_u64()};
    qsort(choices, answer->record_count, sizeof(choices[0]), by_preference);
    for (size_t i = 0; i < answer->record_count && lookup->host_count < DNS_MX_MAX; i++) {
        if (!has_host(lookup, choices[i].record->name))
            (void)add_host(lookup, choices[i].record->name, choices[i].record->preference);
    }
}

/* RFC 7505 3: one MX with the root as its host. Beside others the root is only a host without
 * address. */
static bool is_null_mx(const struct dns_answer *answer)
{
    return answer->record_count == 1 && answer->records[0].name[0] == '\0';
}

static void on_mx(struct dns_query *query, const struct dns_answer *answer)
{
    struct mx_lookup *lookup = CONTAINER_OF(query, struct mx_lookup, mx);

    if (answer->status == DNS_OK || answer->status == DNS_NXDOMAIN)
        lookup->ttl_s = answer->ttl_s;
    switch (answer->status) {
    case DNS_OK:
        if (is_null_mx(answer)) {
            say(lookup, "null MX: %s takes no mail", lookup->domain);
            finish(lookup, DNS_MX_NULL);
            return;
        }
        choose_hosts(lookup, answer);
        break;
    case DNS_NODATA:
        lookup->answer.implicit = true;
        (void)add_host(lookup, lookup->domain, 0);
        break;
    case DNS_NXDOMAIN:
        say(lookup, "%s does not exist", lookup->domain);
        finish(lookup, DNS_MX_NXDOMAIN);
        return;
    case DNS_FAILED:
    case DNS_TIMEOUT:
        say(lookup, "MX of %s: %s", lookup->domain,
            answer->status == DNS_FAILED ? "the look-up failed" : "no resolver answered");
        finish(lookup, DNS_MX_TEMPORARY);
        return;
    }
    ask_addresses(lookup);
}

/* ---- beginning and cancelling -------------------------------------------------------------- */

/* RFC 5321 4.1.3: "[192.0.2.1]", "[IPv6:2001:db8::1]". */
static bool parse_literal(struct slice domain, struct netaddr *ret_address)
{
    struct slice inner;
    bool six;

    if (domain.size < 3 || domain.data[0] != '[' || domain.data[domain.size - 1] != ']')
        return false;
    inner = slice_first(slice_skip(domain, 1), domain.size - 2);
    six = slice_starts_nocase(inner, SLICE("IPv6:"));
    if (six)
        inner = slice_skip(inner, 5);
    else if (slice_find(inner, ':') != SIZE_MAX)
        return false; /* a port is none of an address's business */
    return slice_find(inner, '[') == SIZE_MAX && netaddr_parse(inner, 0, ret_address) &&
           (ret_address->any.sa_family == AF_INET6) == six;
}

/* What is asked for is named in every text, so it must be printable. */
static void keep_domain(struct mx_lookup *lookup, struct slice domain)
{
    (void)slice_to_cstr(domain, lookup->domain, sizeof(lookup->domain)); /* cut only for the text */
    for (char *c = lookup->domain; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~')
            *c = '?';
        else
            *c = (char)byte_lower((uint8_t)*c);
    }
}

static void no_memory(struct dns_mx_query *query)
{
    struct dns_mx_answer answer = {.status = DNS_MX_TEMPORARY, .text = "no memory for the look-up"};

    query->done(query, &answer);
}

void dns_mx_lookup(struct dns *dns, struct slice domain, struct dns_mx_query *query)
{
    struct mx_lookup *lookup = calloc(1, sizeof(*lookup));
    struct netaddr address;

    query->state = NULL;
    if (lookup == NULL) {
        no_memory(query);
        return;
    }
    lookup->dns = dns;
    lookup->query = query;
    lookup->ttl_s = UINT32_MAX;
    keep_domain(lookup, domain);
    query->state = lookup;
    if (parse_literal(domain, &address)) {
        lookup->answer.implicit = true;
        lookup->ttl_s = dns->config.ttl_max_s;
        add_address(add_host(lookup, lookup->domain, 0), &address);
        conclude(lookup);
        return;
    }
    dns_lookup(dns, DNS_MX, domain, &lookup->mx, on_mx);
}

void dns_mx_cancel(struct dns *dns, struct dns_mx_query *query)
{
    struct mx_lookup *lookup = query->state;

    if (lookup == NULL)
        return;
    dns_cancel(dns, &lookup->mx);
    for (uint32_t i = 0; i < lookup->host_count; i++) {
        if (lookup->hosts[i].a.done != NULL)
            dns_cancel(dns, &lookup->hosts[i].a);
        if (lookup->hosts[i].aaaa.done != NULL)
            dns_cancel(dns, &lookup->hosts[i].aaaa);
    }
    query->state = NULL;
    free(lookup);
}
