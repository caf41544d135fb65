#include "dns/dns_cache.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define S SECOND_NS

static struct dns_cache *cache_of(uint32_t records_max)
{
    struct dns_cache *cache = NULL;

    cr_assert_eq(dns_cache_create(records_max, &cache), 0);
    return cache;
}

static void put_a(struct dns_cache *cache, uint64_t now_ns, const char *name, uint32_t ttl_s,
                  uint8_t last)
{
    struct dns_record record = {.type = DNS_A, .ttl_s = ttl_s, .address = {192, 0, 2, last}};
    struct dns_answer answer = {DNS_OK, ttl_s, &record, 1};

    dns_cache_put(cache, now_ns, DNS_A, name, &answer);
}

static void put_none(struct dns_cache *cache, uint64_t now_ns, const char *name,
                     enum dns_status status, uint32_t ttl_s)
{
    struct dns_answer answer = {status, ttl_s, NULL, 0};

    dns_cache_put(cache, now_ns, DNS_A, name, &answer);
}

static enum dns_cache_state state_of(struct dns_cache *cache, uint64_t now_ns, enum dns_type type,
                                     const char *name)
{
    struct dns_cached cached = {.records = NULL};
    enum dns_cache_state state = dns_cache_find(cache, now_ns, type, name, &cached);

    dns_cache_release(&cached);
    return state;
}

Test(dns_cache, an_answer_lives_for_its_ttl_and_tells_what_is_left)
{
    struct dns_cache *cache = cache_of(100);
    struct dns_cached cached;

    put_a(cache, 1000 * S, "a.test", 30, 7);
    cr_assert_eq(dns_cache_find(cache, 1010 * S, DNS_A, "a.test", &cached), DNS_CACHE_FRESH);
    cr_expect_eq(cached.answer.status, DNS_OK);
    cr_expect_eq(cached.answer.ttl_s, 20);
    cr_assert_eq(cached.answer.record_count, 1);
    cr_expect_eq(cached.answer.records[0].ttl_s, 20);
    cr_expect_eq(cached.answer.records[0].address[3], 7);
    dns_cache_release(&cached);
    cr_expect_eq(state_of(cache, 1030 * S - 1, DNS_A, "a.test"), DNS_CACHE_FRESH);
    cr_expect_eq(state_of(cache, 1030 * S, DNS_A, "a.test"), DNS_CACHE_STALE);
    cr_expect_eq(state_of(cache, 1010 * S, DNS_AAAA, "a.test"), DNS_CACHE_NONE);
    cr_expect_eq(state_of(cache, 1010 * S, DNS_A, "b.test"), DNS_CACHE_NONE);
    dns_cache_destroy(&cache);
    cr_expect_null(cache);
    dns_cache_destroy(&cache);
}

Test(dns_cache, what_is_left_is_never_told_as_none)
{
    struct dns_cache *cache = cache_of(100);
    struct dns_cached cached;

    put_a(cache, 0, "a.test", 30, 7);
    cr_assert_eq(dns_cache_find(cache, 30 * S - 1, DNS_A, "a.test", &cached), DNS_CACHE_FRESH);
    cr_expect_eq(cached.answer.ttl_s, 1);
    dns_cache_release(&cached);
    dns_cache_destroy(&cache);
}

Test(dns_cache, ttl_zero_is_not_kept_and_ends_what_was)
{
    struct dns_cache *cache = cache_of(100);

    put_a(cache, 0, "a.test", 30, 7);
    put_a(cache, 1, "a.test", 0, 8);
    cr_expect_eq(state_of(cache, 2, DNS_A, "a.test"), DNS_CACHE_NONE);
    cr_expect_eq(dns_cache_records(cache), 0);
    dns_cache_destroy(&cache);
}

/* Goal: mail is never returned on the word of an answer whose time is over. */
Test(dns_cache, negative_answers_are_never_stale)
{
    struct dns_cache *cache = cache_of(100);
    struct dns_cached cached;

    put_none(cache, 0, "no.test", DNS_NXDOMAIN, 60);
    cr_assert_eq(dns_cache_find(cache, 50 * S, DNS_A, "no.test", &cached), DNS_CACHE_FRESH);
    cr_expect_eq(cached.answer.status, DNS_NXDOMAIN);
    cr_expect_eq(cached.answer.record_count, 0);
    dns_cache_release(&cached);
    cr_expect_eq(state_of(cache, 60 * S, DNS_A, "no.test"), DNS_CACHE_NONE);
    cr_expect_eq(dns_cache_records(cache), 0, "and forgotten");
    dns_cache_destroy(&cache);
}

Test(dns_cache, stale_ends_after_a_day)
{
    struct dns_cache *cache = cache_of(100);

    put_a(cache, 0, "a.test", 30, 7);
    cr_expect_eq(state_of(cache, 30 * S + 24 * HOUR_NS - 1, DNS_A, "a.test"), DNS_CACHE_STALE);
    cr_expect_eq(state_of(cache, 30 * S + 24 * HOUR_NS, DNS_A, "a.test"), DNS_CACHE_NONE);
    dns_cache_destroy(&cache);
}

Test(dns_cache, the_last_tenth_of_a_long_life_is_aging)
{
    struct dns_cache *cache = cache_of(100);

    put_a(cache, 0, "long.test", 600, 7);
    put_a(cache, 0, "short.test", 59, 7);
    cr_expect_eq(state_of(cache, 540 * S - 1, DNS_A, "long.test"), DNS_CACHE_FRESH);
    cr_expect_eq(state_of(cache, 540 * S, DNS_A, "long.test"), DNS_CACHE_AGING);
    cr_expect_eq(state_of(cache, 58 * S, DNS_A, "short.test"), DNS_CACHE_FRESH);
    dns_cache_destroy(&cache);
}

Test(dns_cache, a_newer_answer_replaces)
{
    struct dns_cache *cache = cache_of(100);
    struct dns_cached cached;

    put_a(cache, 0, "a.test", 30, 7);
    put_a(cache, 1, "a.test", 30, 8);
    cr_assert_eq(dns_cache_find(cache, 2, DNS_A, "a.test", &cached), DNS_CACHE_FRESH);
    cr_expect_eq(cached.answer.records[0].address[3], 8);
    dns_cache_release(&cached);
    cr_expect_eq(dns_cache_records(cache), 2, "one answer with one record");
    dns_cache_destroy(&cache);
}

Test(dns_cache, the_bound_holds_and_the_least_used_goes_first)
{
    struct dns_cache *cache = cache_of(6); /* three answers with one record each */
    char name[16];

    put_a(cache, 0, "a.test", 30, 1);
    put_a(cache, 0, "b.test", 30, 2);
    put_a(cache, 0, "c.test", 30, 3);
    cr_expect_eq(state_of(cache, 1, DNS_A, "a.test"), DNS_CACHE_FRESH);
    put_a(cache, 0, "d.test", 30, 4);
    cr_expect_eq(state_of(cache, 1, DNS_A, "b.test"), DNS_CACHE_NONE);
    cr_expect_eq(state_of(cache, 1, DNS_A, "a.test"), DNS_CACHE_FRESH);
    cr_expect_eq(state_of(cache, 1, DNS_A, "c.test"), DNS_CACHE_FRESH);
    cr_expect_eq(state_of(cache, 1, DNS_A, "d.test"), DNS_CACHE_FRESH);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof(name), "n%d.test", i);
        put_a(cache, 0, name, 30, 1);
        cr_assert_leq(dns_cache_records(cache), 6);
    }
    dns_cache_destroy(&cache);
}

Test(dns_cache, what_is_larger_than_all_room_is_not_kept_and_drives_nothing_out)
{
    static struct dns_record records[DNS_RECORDS_MAX];
    struct dns_answer answer = {DNS_OK, 60, records, DNS_RECORDS_MAX};
    struct dns_cache *cache = cache_of(10), *none = cache_of(0);

    put_a(cache, 0, "a.test", 30, 1);
    dns_cache_put(cache, 0, DNS_A, "big.test", &answer);
    cr_expect_eq(state_of(cache, 1, DNS_A, "big.test"), DNS_CACHE_NONE);
    cr_expect_eq(state_of(cache, 1, DNS_A, "a.test"), DNS_CACHE_FRESH);
    put_a(none, 0, "a.test", 30, 1);
    cr_expect_eq(state_of(none, 1, DNS_A, "a.test"), DNS_CACHE_NONE);
    dns_cache_destroy(&cache);
    dns_cache_destroy(&none);
}

Test(dns_cache, records_of_each_type_come_back_as_they_were)
{
    struct dns_record mx[] = {{.type = DNS_MX, .preference = 65535, .name = ""},
                              {.type = DNS_MX, .preference = 10, .name = "mx.kawan.test"}};
    struct dns_record txt[] = {{.type = DNS_TXT, .text = SLICE("v=spf1 -all")},
                               {.type = DNS_TXT, .text = SLICE("")},
                               {.type = DNS_TXT, .text = SLICE("z")}};
    struct dns_record aaaa = {.type = DNS_AAAA, .address = {0x20, 1, [15] = 9}};
    struct dns_answer answers[] = {
        {DNS_OK, 60, mx, 2}, {DNS_OK, 60, txt, 3}, {DNS_OK, 60, &aaaa, 1}};
    enum dns_type types[] = {DNS_MX, DNS_TXT, DNS_AAAA};
    struct dns_cache *cache = cache_of(100);
    struct dns_cached found[3];

    for (size_t i = 0; i < 3; i++)
        dns_cache_put(cache, 0, types[i], "a.test", &answers[i]);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(dns_cache_find(cache, 1, types[i], "a.test", &found[i]), DNS_CACHE_FRESH);
    dns_cache_clear(cache); /* what was found belongs to the finder */
    cr_expect_eq(found[0].answer.records[0].preference, 65535);
    cr_expect_str_eq(found[0].answer.records[0].name, "");
    cr_expect_str_eq(found[0].answer.records[1].name, "mx.kawan.test");
    cr_expect(slice_equal(found[1].answer.records[0].text, SLICE("v=spf1 -all")));
    cr_expect_eq(found[1].answer.records[1].text.size, 0);
    cr_expect(slice_equal(found[1].answer.records[2].text, SLICE("z")));
    cr_expect_arr_eq(found[2].answer.records[0].address, aaaa.address, 16);
    for (size_t i = 0; i < 3; i++)
        dns_cache_release(&found[i]);
    dns_cache_destroy(&cache);
}

Test(dns_cache, clear_forgets_all)
{
    struct dns_cache *cache = cache_of(100);

    put_a(cache, 0, "a.test", 30, 1);
    put_none(cache, 0, "no.test", DNS_NODATA, 30);
    dns_cache_clear(cache);
    cr_expect_eq(dns_cache_records(cache), 0);
    cr_expect_eq(state_of(cache, 1, DNS_A, "a.test"), DNS_CACHE_NONE);
    dns_cache_destroy(&cache);
}
