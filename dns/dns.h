/* dns/dns.h - a stub resolver that knows mail's questions, one per shard, with a cache.
 *
 * ldns builds and reads packets (dns_packet.c alone); the transport is ours on the ring: UDP from a
 * fresh socket with a random port and id for each question, TCP when the answer is truncated, the
 * next resolver on time-out or SERVFAIL. Equal questions under way are joined. Answers are checked
 * for size, count and compression pointers before ldns sees them (SECURITY 1.2 F). Positive and
 * negative answers are cached by TTL within bounds (RFC 2308). No recursion, no validation: that is
 * the configured resolver's work.
 *
 * Shard: owner, every call. Callbacks run in a later tick, or within the call when the cache knows.
 */
#ifndef KILAT_DNS_DNS_H
#define KILAT_DNS_DNS_H

#include "core/shard.h"

#define DNS_SERVERS_MAX 8
#define DNS_NAME_MAX 254   /* text, without the final dot, and a NUL */
#define DNS_RECORDS_MAX 64 /* of one answer; more are refused as damage */
#define DNS_MX_MAX 20      /* hosts, and addresses in all, of one MX look-up */

enum dns_type { DNS_A = 1, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28 };

enum dns_status {
    DNS_OK,     /* at least one record */
    DNS_NODATA, /* the name exists, the type does not */
    DNS_NXDOMAIN,
    DNS_FAILED, /* SERVFAIL, REFUSED, damage, CNAME loop: temporary */
    DNS_TIMEOUT /* no resolver answered: temporary */
};

struct dns_record {
    enum dns_type type;
    uint32_t ttl_s;
    uint16_t preference;     /* MX */
    char name[DNS_NAME_MAX]; /* MX: the exchange, lower case; empty: "." (null MX) */
    uint8_t address[16];     /* A: 4 bytes, AAAA: 16 */
    struct slice text;       /* TXT: its strings in one; borrowed like the record */
};

struct dns_answer {
    enum dns_status status;
    uint32_t ttl_s;                   /* how long it holds */
    const struct dns_record *records; /* borrowed for the callback */
    size_t record_count;
};

struct dns;
struct dns_config {
    struct netaddr servers[DNS_SERVERS_MAX]; /* with port; dns_read_resolv_conf() fills them */
    uint32_t server_count;
    uint32_t timeout_ms;         /* of one try; 0: 2000 */
    uint32_t tries;              /* over all servers, of each name on a chain of CNAMEs; 0: 4 */
    uint32_t cache_records_max;  /* 0: nothing is kept */
    uint32_t negative_ttl_max_s; /* 0: three hours */
    uint32_t ttl_max_s;          /* 0: a day */
    uint32_t ttl_min_s;          /* of answers with records */
};
/* Reads "nameserver" lines; at most three are used, as resolv.conf(5) says.
 * 0 or -errno. Shard: boot. */
int dns_read_resolv_conf(const char *path, struct dns_config *config);

/* 0, -ENOMEM, or -EINVAL without a server. */
int dns_create(struct shard *shard, const struct dns_config *config, struct dns **ret_dns);
/* Cancels what is under way (callbacks run with DNS_TIMEOUT, within this call), then `stopped`, in a
 * later tick; it may destroy `dns`. What is asked meanwhile ends with DNS_TIMEOUT at once. */
void dns_stop(struct dns *dns, void (*stopped)(void *context), void *context);
void dns_destroy(struct dns **dns);

/* ---- one question ---------------------------------------------------------------------------- */

struct dns_query;
typedef void dns_done_fn(struct dns_query *query, const struct dns_answer *answer);
struct dns_query { /* the caller's, lent until done */
    dns_done_fn *done;
    struct list_node node; /* private */
    void *lookup;          /* private */
};
/* `name` without a final dot, any case. A name that cannot be asked (too long, empty label) is
 * DNS_NXDOMAIN. */
void dns_lookup(struct dns *dns, enum dns_type type, struct slice name, struct dns_query *query,
                dns_done_fn *done);
/* The callback will not run. */
void dns_cancel(struct dns *dns, struct dns_query *query);

/* ---- where mail for a domain goes ------------------------------------------------------------ */

struct dns_mx_host {
    char name[DNS_NAME_MAX];
    uint16_t preference;
    uint8_t first_address; /* in `addresses` */
    uint8_t address_count; /* none: its look-up failed or gave none, or `addresses` is full */
};
enum dns_mx_status {
    DNS_MX_OK,
    DNS_MX_NULL,     /* RFC 7505: accepts no mail: 5.1.10 */
    DNS_MX_NXDOMAIN, /* no such domain: 5.1.2 */
    DNS_MX_NO_HOST,  /* neither MX nor address: 5.1.2 */
    DNS_MX_SELF,     /* the best MX is ourselves and we are not its final home: 5.4.6 loop */
    DNS_MX_TEMPORARY /* a look-up failed and nothing usable is left */
};
struct dns_mx_answer {
    enum dns_mx_status status;
    bool implicit;                        /* no MX: the domain's own address (RFC 5321 5.1) */
    uint32_t ttl_s;                       /* the shortest of all that was used */
    struct dns_mx_host hosts[DNS_MX_MAX]; /* in order of preference, ties shuffled */
    uint32_t host_count;
    struct netaddr addresses[DNS_MX_MAX]; /* port 0; per host IPv6 and IPv4 as they came, families
                                             alternating */
    uint32_t address_count;
    char text[160]; /* one line that says what was found, for logs and `kilatctl dns MX` */
};
struct dns_mx_query;
typedef void dns_mx_done_fn(struct dns_mx_query *query, const struct dns_mx_answer *answer);
/* Asked for every host by its name alone (`address` NULL) and for every address found: is it ours? MX
 * hosts at or behind our own preference are left out (RFC 5321 5.1). */
typedef bool dns_is_self_fn(void *context, struct slice host_name, const struct netaddr *address);
struct dns_mx_query { /* the caller's, lent until done */
    dns_mx_done_fn *done;
    dns_is_self_fn *is_self; /* NULL: nobody is */
    void *is_self_context;
    void *state; /* private */
};
/* `domain` as it stands in an address: a name, or a literal such as "[192.0.2.1]" or "[IPv6:2001:db8::1]",
 * which is its own host. The callback runs as those of dns_lookup() do. */
void dns_mx_lookup(struct dns *dns, struct slice domain, struct dns_mx_query *query);
void dns_mx_cancel(struct dns *dns, struct dns_mx_query *query);

struct dns_counters {
    uint64_t questions, cache_hits, joined, sent_udp, sent_tcp, timeouts, refused_answers,
        wrong_answers;
    uint64_t cached_records;
};
void dns_counters(const struct dns *dns, struct dns_counters *ret_counters);
void dns_cache_flush(struct dns *dns);

#endif
