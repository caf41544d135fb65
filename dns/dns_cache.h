/* dns/dns_cache.h - what a shard's resolver remembers: answers by name and type, until their time
 * is over.
 *
 * Bounded by records; the least recently used go first. Answers lie packed, some 30 bytes for an
 * address, and are unpacked when found. An answer with records stays for a while after its time, so
 * that there is something to say when no resolver answers (RFC 8767); negative ones do not: mail is
 * never returned on the word of an old answer.
 *
 * Shard: its resolver's. The clock is the caller's (`now_ns`, monotonic).
 */
#ifndef KILAT_DNS_DNS_CACHE_H
#define KILAT_DNS_DNS_CACHE_H

#include "dns/dns.h"

struct dns_cache;

/* 0 or -ENOMEM. `records_max` 0: nothing is ever kept. */
int dns_cache_create(uint32_t records_max, struct dns_cache **ret_cache);
void dns_cache_destroy(struct dns_cache **cache);
/* Forgets all. */
void dns_cache_clear(struct dns_cache *cache);
/* What is held counts: one for each answer, one for each of its records, and one for each further
 * 256 bytes. */
uint32_t dns_cache_records(const struct dns_cache *cache);

/* Keeps a copy of `answer` for `answer->ttl_s`, in place of an older one; nothing when that is 0 or
 * memory is short. `name` comes from dns_name_parse(). */
void dns_cache_put(struct dns_cache *cache, uint64_t now_ns, enum dns_type type, const char *name,
                   const struct dns_answer *answer);

enum dns_cache_state {
    DNS_CACHE_NONE,
    DNS_CACHE_FRESH,
    DNS_CACHE_AGING, /* fresh, but in the last tenth of its time: worth asking anew, if it is used
                      */
    DNS_CACHE_STALE  /* with records, its time over for less than a day */
};
/* An answer found: owned by the caller, who calls dns_cache_release(). Its TTLs are what is left
 * (stale: 0). */
struct dns_cached {
    struct dns_answer answer;
    struct dns_record *records; /* private */
};
/* `ret_cached` is filled unless the result is DNS_CACHE_NONE. */
enum dns_cache_state dns_cache_find(struct dns_cache *cache, uint64_t now_ns, enum dns_type type,
                                    const char *name, struct dns_cached *ret_cached);
void dns_cache_release(struct dns_cached *cached);

#endif
