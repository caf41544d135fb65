#include "dns/dns_private.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Goal: every answer the name service can give leads to the right decision about mail.
 * Method: the cache is filled with the answers of a row, so that the look-up asks nobody.
 *
 * A row's answers: "NAME KEY=VALUE ...; NAME ..." for names below "test". Keys: m (MX:
 * PREFERENCE:HOST, ...), 4 and 6 (last octets of addresses); the values "none", "nx", "fail" and
 * "time" are no records. What is not written is "none".
 * "+NAME" and "+4=N" say that this name or address is ourselves.
 * The result: "PREFERENCE:HOST[addresses]", an IPv6 address as "sN"; hosts of one preference stand
 * in any order, and a row has at most one such pair. */
struct row {
    const char *name;
    const char *answers;
    enum dns_mx_status want;
    const char *hosts; /* NULL: none are looked at */
};

#define OK DNS_MX_OK
#define LATER DNS_MX_TEMPORARY
#define NOHOST DNS_MX_NO_HOST
#define NX DNS_MX_NXDOMAIN
#define SELF DNS_MX_SELF

static const struct row rows[] = {
    /* The MX question itself. */
    {"one MX", "d m=10:a; a 4=1", OK, "10:a[1]"},
    {"no such domain", "d m=nx", NX, NULL},
    {"SERVFAIL", "d m=fail", LATER, NULL},
    {"no resolver", "d m=time", LATER, NULL},
    {"null MX", "d m=0:.", DNS_MX_NULL, NULL},
    {"null MX of any preference", "d m=10:.", DNS_MX_NULL, NULL},
    {"null MX beside another is none", "d m=0:.,10:a; a 4=1", OK, "0:[] 10:a[1]"},
    {"null MX, though the domain has an address", "d m=0:. 4=9", DNS_MX_NULL, NULL},
    /* Implicit MX (RFC 5321 5.1). */
    {"no MX: the domain's own address", "d 4=1", OK, "0:d[1]"},
    {"no MX: the domain's own IPv6 address", "d 6=1", OK, "0:d[s1]"},
    {"no MX, no address", "d", NOHOST, NULL},
    {"no MX, A fails", "d 4=fail", LATER, NULL},
    {"no MX, AAAA fails", "d 6=fail", LATER, NULL},
    {"no MX, A is there, AAAA fails", "d 4=1 6=fail", OK, "0:d[1]"},
    {"no MX, no resolver for A", "d 4=time", LATER, NULL},
    {"no MX, address denied afterwards", "d 4=nx 6=nx", NOHOST, NULL},
    {"MX there: the domain's own address does not count", "d m=10:a 4=9; a", NOHOST, "10:a[]"},
    {"MX fails: the domain's own address does not count", "d m=fail 4=9", LATER, NULL},
    /* Order. */
    {"by preference, not as they came", "d m=30:c,10:a,20:b; a 4=1; b 4=2; c 4=3", OK,
     "10:a[1] 20:b[2] 30:c[3]"},
    {"equals in any order", "d m=10:b,10:a; a 4=1; b 4=2", OK, "10:a[1] 10:b[2]"},
    {"preference is a number of 16 bits", "d m=65535:b,9:a; a 4=1; b 4=2", OK, "9:a[1] 65535:b[2]"},
    {"a host named twice counts once, where it is best", "d m=20:a,10:a,15:b; a 4=1; b 4=2", OK,
     "10:a[1] 15:b[2]"},
    /* Families. */
    {"IPv6 and IPv4 alternate", "d m=10:a; a 4=1,2,3 6=4,5", OK, "10:a[s4 1 s5 2 3]"},
    {"more IPv6 than IPv4", "d m=10:a; a 4=1 6=2,3", OK, "10:a[s2 1 s3]"},
    {"only IPv6", "d m=10:a; a 6=2,3", OK, "10:a[s2 s3]"},
    {"AAAA denied, A there", "d m=10:a; a 4=1 6=nx", OK, "10:a[1]"},
    {"A fails, AAAA there", "d m=10:a; a 4=fail 6=2", OK, "10:a[s2]"},
    /* Hosts without addresses: never for good while another may come back. */
    {"better host does not exist", "d m=10:a,20:b; a 4=nx 6=nx; b 4=2", OK, "10:a[] 20:b[2]"},
    {"better host fails", "d m=10:a,20:b; a 4=fail 6=fail; b 4=2", OK, "10:a[] 20:b[2]"},
    {"only host does not exist", "d m=10:a; a 4=nx 6=nx", NOHOST, "10:a[]"},
    {"only host has no address", "d m=10:a; a", NOHOST, "10:a[]"},
    {"only host fails", "d m=10:a; a 4=fail 6=fail", LATER, "10:a[]"},
    {"only host: A fails, no AAAA", "d m=10:a; a 4=fail", LATER, "10:a[]"},
    {"only host: no A, AAAA times out", "d m=10:a; a 6=time", LATER, "10:a[]"},
    {"worse host gone, better one fails", "d m=10:a,20:b; a 4=time; b 4=nx 6=nx", LATER,
     "10:a[] 20:b[]"},
    {"better host gone, worse one fails", "d m=10:a,20:b; a 4=nx 6=nx; b 6=fail", LATER,
     "10:a[] 20:b[]"},
    {"all gone", "d m=10:a,20:b; a 4=nx 6=nx; b", NOHOST, "10:a[] 20:b[]"},
    /* Hosts that are none. */
    {"a host that cannot be asked for", "d m=10:a?,20:b; b 4=2", OK, "10:a?[] 20:b[2]"},
    {"only a host that cannot be asked for", "d m=10:a?", NOHOST, "10:a?[]"},
    {"an address for a name", "d m=10:192.0.2.7", OK, "10:192.0.2.7[7]"},
    /* Ourselves (RFC 5321 5.1). */
    {"we are the only MX, by name", "d m=10:a; a 4=1; +a", SELF, NULL},
    {"we are the only MX, by address", "d m=10:a; a 4=1; +4=1", SELF, NULL},
    {"we are the best MX", "d m=10:a,20:b; a 4=1; b 4=2; +a", SELF, NULL},
    {"we are the worse MX", "d m=10:a,20:b; a 4=1; b 4=2; +b", OK, "10:a[1]"},
    {"worse ones than ourselves are left out", "d m=10:a,20:b,30:c; a 4=1; b 4=2; c 4=3; +4=2", OK,
     "10:a[1]"},
    {"equals of ourselves are left out", "d m=10:a,10:b; a 4=1; b 4=2; +b", SELF, NULL},
    {"better one fails, then we", "d m=10:a,20:b; a 4=fail 6=fail; +b", LATER, "10:a[]"},
    {"better one gone, then we", "d m=10:a,20:b; a 4=nx 6=nx; +b", NOHOST, "10:a[]"},
    {"we by name, though our address fails", "d m=10:a; a 4=fail 6=fail; +a", SELF, NULL},
    {"one of many addresses is ours", "d m=10:a; a 4=1,2,3; +4=3", SELF, NULL},
    {"implicit MX is ourselves", "d 4=1; +4=1", SELF, NULL},
    {"an address for a name is ours", "d m=10:192.0.2.7; +4=7", SELF, NULL},
};

/* ---- a row becomes a cache ----------------------------------------------------------------- */

struct bench {
    struct shard shard;
    struct dns *dns;
    char self_name[DNS_NAME_MAX];
    int self_octet;
    bool done;
    struct dns_mx_answer answer;
    struct dns_mx_query query;
};

static void full_name(struct slice label, char name[DNS_NAME_MAX])
{
    if (slice_equal(label, SLICE(".")))
        name[0] = '\0';
    else
        (void)snprintf(name, DNS_NAME_MAX, "%.*s%s", SLICE_ARG(label),
                       slice_find(label, '.') == SIZE_MAX ? ".test" : "");
}

static size_t read_records(enum dns_type type, struct slice value, struct dns_record *records)
{
    size_t count = 0;

    while (value.size > 0) {
        struct slice one = slice_split(&value, ',');
        struct dns_record *record = &records[count++];
        uint64_t number = 0;

        *record = (struct dns_record){.type = type, .ttl_s = 300, .address = {192, 0, 2}};
        if (type == DNS_MX) {
            cr_assert(slice_parse_u64(slice_split(&one, ':'), 65535, &number));
            record->preference = (uint16_t)number;
            full_name(one, record->name);
            continue;
        }
        cr_assert(slice_parse_u64(one, 255, &number));
        if (type == DNS_AAAA)
            memcpy(record->address, (const uint8_t[16]){0x20, 1, 0xd, 0xb8}, 16);
        record->address[type == DNS_A ? 3 : 15] = (uint8_t)number;
    }
    return count;
}

static void keep(struct bench *bench, struct slice label, enum dns_type type, struct slice value)
{
    static const struct {
        const char *word;
        enum dns_status status;
    } words[] = {
        {"none", DNS_NODATA}, {"nx", DNS_NXDOMAIN}, {"fail", DNS_FAILED}, {"time", DNS_TIMEOUT}};
    struct dns_record records[DNS_RECORDS_MAX];
    struct dns_answer answer = {.status = DNS_OK, .ttl_s = 300, .records = records};
    char name[DNS_NAME_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (slice_equal(value, slice_cstr(words[i].word)))
            answer.status = words[i].status;
    }
    if (answer.status == DNS_OK)
        answer.record_count = read_records(type, value, records);
    full_name(label, name);
    dns_cache_put(bench->dns->cache, bench->shard.now_ns, type, name, &answer);
}

static void read_name(struct bench *bench, struct slice text)
{
    struct slice label;

    text = slice_trim(text);
    label = slice_split(&text, ' ');
    if (label.size > 0 && label.data[0] == '+') {
        if (slice_starts_nocase(label, SLICE("+4=")))
            bench->self_octet = atoi((const char *)label.data + 3);
        else
            full_name(slice_skip(label, 1), bench->self_name);
        return;
    }
    keep(bench, label, DNS_MX, SLICE("none"));
    keep(bench, label, DNS_A, SLICE("none"));
    keep(bench, label, DNS_AAAA, SLICE("none"));
    while (text.size > 0) {
        struct slice value = slice_split(&text, ' ');
        struct slice key = slice_split(&value, '=');

        keep(bench, label,
             key.data[0] == 'm'   ? DNS_MX
             : key.data[0] == '4' ? DNS_A
                                  : DNS_AAAA,
             value);
    }
}

static void open_bench(struct bench *bench, const char *answers)
{
    struct dns_config config = {.server_count = 1, .cache_records_max = 10000};
    struct slice rest = slice_cstr(answers);

    *bench = (struct bench){.shard = {.now_ns = 1000 * SECOND_NS}, .self_octet = -1};
    cr_assert(netaddr_parse(SLICE("127.0.0.1"), 53, &config.servers[0]));
    cr_assert_eq(dns_create(&bench->shard, &config, &bench->dns), 0);
    while (rest.size > 0)
        read_name(bench, slice_split(&rest, ';'));
}

static bool is_self(void *context, struct slice host_name, const struct netaddr *address)
{
    const struct bench *bench = context;

    if (bench->self_name[0] != 0 && slice_equal(host_name, slice_cstr(bench->self_name)))
        return true;
    return address != NULL && address->any.sa_family == AF_INET &&
           ((const uint8_t *)&address->in.sin_addr)[3] == bench->self_octet;
}

static void on_done(struct dns_mx_query *query, const struct dns_mx_answer *answer)
{
    struct bench *bench = CONTAINER_OF(query, struct bench, query);

    cr_assert_not(bench->done);
    bench->done = true;
    bench->answer = *answer;
}

static void look_up(struct bench *bench, const char *domain)
{
    bench->done = false;
    bench->query =
        (struct dns_mx_query){.done = on_done, .is_self = is_self, .is_self_context = bench};
    dns_mx_lookup(bench->dns, slice_cstr(domain), &bench->query);
    cr_assert(bench->done, "the cache holds everything");
}

/* The hosts as rows write them; equals in the order of their names. */
static void write_hosts(const struct dns_mx_answer *answer, char *text, size_t size)
{
    struct dns_mx_host hosts[DNS_MX_MAX];
    size_t used = 0;

    text[0] = '\0';
    memcpy(hosts, answer->hosts, sizeof(hosts));
    for (uint32_t i = 0; i < answer->host_count; i++) {
        if (i + 1 < answer->host_count && hosts[i].preference == hosts[i + 1].preference &&
            strcmp(hosts[i].name, hosts[i + 1].name) > 0) {
            struct dns_mx_host swap = hosts[i];

            hosts[i] = hosts[i + 1];
            hosts[i + 1] = swap;
        }
        size_t label = strlen(hosts[i].name);

        if (slice_ends_nocase(slice_cstr(hosts[i].name), SLICE(".test")))
            label -= 5;
        used += (size_t)snprintf(text + used, size - used, "%s%u:%.*s[", i == 0 ? "" : " ",
                                 hosts[i].preference, (int)label, hosts[i].name);
        for (uint32_t k = 0; k < hosts[i].address_count; k++) {
            const struct netaddr *address = &answer->addresses[hosts[i].first_address + k];
            bool six = address->any.sa_family == AF_INET6;

            used += (size_t)snprintf(text + used, size - used, "%s%s%u", k == 0 ? "" : " ",
                                     six ? "s" : "",
                                     six ? address->in6.sin6_addr.s6_addr[15]
                                         : ((const uint8_t *)&address->in.sin_addr)[3]);
        }
        used += (size_t)snprintf(text + used, size - used, "]");
    }
}

/* ---- the matrix ---------------------------------------------------------------------------- */

Test(dns_mx, every_answer_leads_to_its_decision)
{
    struct bench bench;
    char hosts[2000];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        open_bench(&bench, rows[i].answers);
        look_up(&bench, "D.test");
        cr_expect_eq(bench.answer.status, rows[i].want, "%s: %d, wanted %d: %s", rows[i].name,
                     (int)bench.answer.status, (int)rows[i].want, bench.answer.text);
        if (rows[i].hosts != NULL) {
            write_hosts(&bench.answer, hosts, sizeof(hosts));
            cr_expect_str_eq(hosts, rows[i].hosts, "%s: %s, wanted %s", rows[i].name, hosts,
                             rows[i].hosts);
        }
        cr_expect_neq(bench.answer.text[0], '\0', "%s says nothing", rows[i].name);
        cr_expect_null(bench.query.state);
        dns_destroy(&bench.dns);
    }
}

Test(dns_mx, only_where_there_is_no_mx_it_is_implicit)
{
    struct bench bench;

    open_bench(&bench, "d 4=1; e m=10:a; a 4=2");
    look_up(&bench, "d.test");
    cr_expect(bench.answer.implicit);
    look_up(&bench, "e.test");
    cr_expect_not(bench.answer.implicit);
    dns_destroy(&bench.dns);
}

/* RFC 5321 5.1: equals MUST be randomised. */
Test(dns_mx, equals_take_turns)
{
    struct bench bench;
    int first = 0;

    open_bench(&bench, "d m=10:a,10:b; a 4=1; b 4=2");
    for (int i = 0; i < 200; i++) {
        look_up(&bench, "d.test");
        first += strcmp(bench.answer.hosts[0].name, "a.test") == 0;
    }
    cr_expect(first > 40 && first < 160, "%d of 200", first);
    dns_destroy(&bench.dns);
}

/* Goal: a domain with hundreds of hosts and addresses costs no more than twenty of each. */
Test(dns_mx, hosts_and_addresses_are_bounded)
{
    static char answers[8000];
    struct bench bench;
    size_t used;

    used = (size_t)snprintf(answers, sizeof(answers), "d m=1:h0");
    for (int i = 1; i < 60; i++)
        used += (size_t)snprintf(answers + used, sizeof(answers) - used, ",%d:h%d", i + 1, i);
    for (int i = 0; i < 60; i++) {
        used += (size_t)snprintf(answers + used, sizeof(answers) - used,
                                 "; h%d 4=1,2,3,4,5,6,7,8,9,10 6=1,2,3,4,5,6,7,8,9,10", i);
    }
    open_bench(&bench, answers);
    look_up(&bench, "d.test");
    cr_expect_eq(bench.answer.status, DNS_MX_OK);
    cr_expect_eq(bench.answer.host_count, 20);
    cr_expect_eq(bench.answer.address_count, 20);
    cr_expect_str_eq(bench.answer.hosts[0].name, "h0.test");
    cr_expect_eq(bench.answer.hosts[0].address_count, 2, "and the next hosts get some as well");
    cr_expect_eq(bench.answer.hosts[9].address_count, 2);
    cr_expect_lt(strlen(bench.answer.text), sizeof(bench.answer.text));
    dns_destroy(&bench.dns);
}

Test(dns_mx, a_single_host_may_use_all_addresses)
{
    struct bench bench;

    open_bench(&bench, "d m=1:a; a 4=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22");
    look_up(&bench, "d.test");
    cr_expect_eq(bench.answer.hosts[0].address_count, 20);
    dns_destroy(&bench.dns);
}

Test(dns_mx, a_failed_better_host_shortens_the_life_of_the_answer)
{
    struct bench bench;

    open_bench(&bench, "d m=10:a,20:b; a 4=fail 6=fail; b 4=2; e m=20:b");
    look_up(&bench, "d.test");
    cr_expect_eq(bench.answer.ttl_s, 60);
    look_up(&bench, "e.test");
    cr_expect_eq(bench.answer.ttl_s, 300);
    dns_destroy(&bench.dns);
}

Test(dns_mx, literals_are_their_own_hosts)
{
    static const struct {
        const char *domain;
        enum dns_mx_status want;
        const char *hosts;
    } cases[] = {
        {"[192.0.2.5]", DNS_MX_OK, "0:[192.0.2.5][5]"},
        {"[IPv6:2001:db8::9]", DNS_MX_OK, "0:[ipv6:2001:db8::9][s9]"},
        {"[192.0.2.6]", DNS_MX_SELF, NULL},
        /* What is no literal cannot be asked for either. */
        {"[192.0.2.5]:25", DNS_MX_NXDOMAIN, NULL},
        {"[192.0.2.5:25]", DNS_MX_NXDOMAIN, NULL},
        {"[2001:db8::9]", DNS_MX_NXDOMAIN, NULL},
        {"[IPv6:192.0.2.5]", DNS_MX_NXDOMAIN, NULL},
        {"[IPv6:[::1]:25]", DNS_MX_NXDOMAIN, NULL},
        {"[]", DNS_MX_NXDOMAIN, NULL},
        {"[a.test]", DNS_MX_NXDOMAIN, NULL},
    };
    struct bench bench;
    char hosts[200];

    open_bench(&bench, "+4=6");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        look_up(&bench, cases[i].domain);
        cr_expect_eq(bench.answer.status, cases[i].want, "%s", cases[i].domain);
        write_hosts(&bench.answer, hosts, sizeof(hosts));
        if (cases[i].hosts != NULL)
            cr_expect_str_eq(hosts, cases[i].hosts);
    }
    dns_destroy(&bench.dns);
}

/* Goal: what a sender writes behind the "@" makes no lines and no terminal codes in our log. */
Test(dns_mx, texts_are_printable_whatever_the_domain_is)
{
    static const char *const domains[] = {"a\r\nb", "\x1b[2J", "caf\xc3\xa9.test", "", "a..b", " "};
    struct bench bench;

    open_bench(&bench, "");
    for (size_t i = 0; i < ARRAY_SIZE(domains); i++) {
        look_up(&bench, domains[i]);
        cr_expect_eq(bench.answer.status, DNS_MX_NXDOMAIN);
        cr_expect(slice_is_printable(slice_cstr(bench.answer.text)));
    }
    dns_destroy(&bench.dns);
}
