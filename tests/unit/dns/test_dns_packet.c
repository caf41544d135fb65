#include "dns/dns_packet.h"
#include "tests/unit/dns/packet_maker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Reads from a copy of exactly the size, so that ASan sees one octet too many. */
static struct dns_packet_answer *read_as(const struct maker *maker, enum dns_type type, bool tcp)
{
    struct dns_packet_answer *answer = calloc(1, sizeof(*answer));
    uint8_t *copy = malloc(MAX(maker->size, (size_t)1));

    cr_assert_not_null(answer);
    cr_assert_not_null(copy);
    memcpy(copy, maker->bytes, maker->size);
    dns_packet_read(copy, maker->size, tcp, type, DNS_ALIASES_MAX, answer);
    free(copy);
    return answer;
}

static enum dns_verdict verdict_of(const struct maker *maker, enum dns_type type)
{
    struct dns_packet_answer *answer = read_as(maker, type, false);
    enum dns_verdict verdict = answer->verdict;

    free(answer);
    return verdict;
}

/* ---- names and questions ------------------------------------------------------------------- */

Test(dns_name, what_may_be_asked)
{
    static const char *const good[] = {
        "a", "A.b", "kawan.test", "_mta-sts.kawan.test", "1.2.3.4", "xn--caf-dma.test"};
    static const char *const bad[] = {"",    ".",    "a.",          ".a",  "a..b", "a b",
                                      "a?b", "a\\b", "caf\xc3\xa9", "a/b", "*",    "a@b"};
    char name[DNS_NAME_MAX], longest[DNS_NAME_MAX + 1];

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        cr_expect(dns_name_parse(slice_cstr(good[i]), name), "%s", good[i]);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        cr_expect_not(dns_name_parse(slice_cstr(bad[i]), name), "%s", bad[i]);
    cr_expect(dns_name_parse(slice_cstr("KaWaN.TeSt"), name));
    cr_expect_str_eq(name, "kawan.test");
    cr_expect_not(dns_name_parse(slice_of("a\0b", 3), name));

    memset(longest, 'a', sizeof(longest));
    cr_expect_not(dns_name_parse(slice_of(longest, 64), name), "a label of 64");
    cr_expect(dns_name_parse(slice_of(longest, 63), name));
    for (size_t i = 1; i < sizeof(longest); i += 2)
        longest[i] = '.';
    cr_expect(dns_name_parse(slice_of(longest, 253), name));
    cr_expect_not(dns_name_parse(slice_of(longest, 254), name));
}

Test(dns_packet, question_has_rd_and_edns)
{
    static const uint8_t want[] = {0x12, 0x34, 0x01, 0x00, 0,   1,    0,    0,   0,   0,   0, 1, 5,
                                   'k',  'a',  'w',  'a',  'n', 4,    't',  'e', 's', 't', 0, 0, 15,
                                   0,    1,    0,    0,    41,  0x04, 0xd0, 0,   0,   0,   0, 0, 0};
    uint8_t wire[DNS_QUESTION_BYTES_MAX];

    cr_assert_eq(dns_packet_build(0x1234, DNS_MX, "kawan.test", true, wire), sizeof(want));
    cr_expect_arr_eq(wire, want, sizeof(want));
    cr_expect_eq(dns_packet_build(0x1234, DNS_MX, "kawan.test", false, wire), sizeof(want) - 11);
    cr_expect_eq(wire[11], 0, "no OPT is counted");
}

Test(dns_packet, the_longest_question_fits)
{
    uint8_t wire[DNS_QUESTION_BYTES_MAX];
    char text[DNS_NAME_MAX], name[DNS_NAME_MAX];

    for (size_t i = 0; i < DNS_NAME_MAX - 1; i++)
        text[i] = i % 2 ? '.' : 'a';
    cr_assert(dns_name_parse(slice_of(text, DNS_NAME_MAX - 1), name));
    cr_expect_eq(dns_packet_build(1, DNS_AAAA, name, true, wire), 12 + 255 + 4 + 11);
}

Test(dns_packet, only_the_answer_to_the_question_is_an_answer)
{
    uint8_t wire[DNS_QUESTION_BYTES_MAX];
    struct slice question =
        slice_of(wire, dns_packet_build(0x1234, DNS_MX, "kawan.test", true, wire));
    struct maker maker;

    make_begin(&maker, DNS_MX, "KAWAN.test", 0);
    cr_expect(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "in any case");
    for (size_t size = 0; size < maker.size; size++)
        cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, size)), "%zu octets",
                      size);
    make_begin(&maker, DNS_MX, "kawan.test", 0);
    maker.bytes[1] ^= 1;
    cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "id");
    make_begin(&maker, DNS_MX, "kawan.test", 0);
    maker.bytes[2] &= 0x7f;
    cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "a question");
    make_begin(&maker, DNS_MX, "kawan.test", 0);
    maker.bytes[2] |= 0x28;
    cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "an update");
    make_begin(&maker, DNS_MX, "kawan.test", 0);
    maker.bytes[5] = 2;
    cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "two questions");
    make_begin(&maker, DNS_A, "kawan.test", 0);
    cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "type");
    make_begin(&maker, DNS_MX, "kawan.tesu", 0);
    cr_expect_not(dns_packet_answers(question, slice_of(maker.bytes, maker.size)), "name");
    cr_expect_not(dns_packet_answers(question, question), "itself");
}

/* ---- answers that are taken ---------------------------------------------------------------- */

Test(dns_packet, addresses_and_the_shortest_ttl)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_A, "mx.kawan.test", 0);
    make_a(&maker, "mx.kawan.test", 300, 1);
    make_a(&maker, "MX.kawan.TEST", 60, 2);
    make_a(&maker, "other.test", 1, 3); /* not asked for */
    answer = read_as(&maker, DNS_A, false);
    cr_expect_eq(answer->verdict, DNS_VERDICT_OK);
    cr_expect_eq(answer->record_count, 2);
    cr_expect_eq(answer->ttl_s, 60);
    cr_expect_eq(answer->records[1].address[3], 2);
    free(answer);
}

Test(dns_packet, mx_null_mx_and_names_that_cannot_be)
{
    struct dns_packet_answer *answer;
    struct maker maker;
    size_t at;

    make_begin(&maker, DNS_MX, "kawan.test", 0);
    make_mx(&maker, "kawan.test", 60, 10, "MX.Kawan.test");
    make_mx(&maker, "kawan.test", 60, 20, ".");
    at = make_record(&maker, ANSWERS, "kawan.test", DNS_MX, 60);
    put_be16(&maker, 30);
    put_byte(&maker, 4);
    put_bytes(&maker, "a.\n\0", 4); /* one label that holds a dot, a line end and a NUL */
    put_byte(&maker, 0);
    make_end(&maker, at);
    answer = read_as(&maker, DNS_MX, false);
    cr_assert_eq(answer->record_count, 3);
    cr_expect_str_eq(answer->records[0].name, "mx.kawan.test");
    cr_expect_eq(answer->records[0].preference, 10);
    cr_expect_str_eq(answer->records[1].name, "");
    cr_expect_str_eq(answer->records[2].name, "a???");
    free(answer);
}

Test(dns_packet, txt_strings_are_joined)
{
    struct dns_packet_answer *answer;
    struct maker maker;
    size_t at;

    make_begin(&maker, DNS_TXT, "t.test", 0);
    for (int i = 0; i < 2; i++) {
        at = make_record(&maker, ANSWERS, "t.test", DNS_TXT, 60);
        put_byte(&maker, 3);
        put_bytes(&maker, "v=1", 3);
        put_byte(&maker, 0);
        put_byte(&maker, 2);
        put_bytes(&maker, "; ", 2);
        make_end(&maker, at);
    }
    answer = read_as(&maker, DNS_TXT, false);
    cr_assert_eq(answer->record_count, 2);
    cr_expect(slice_equal(answer->records[0].text, SLICE("v=1; ")));
    cr_expect(slice_equal(answer->records[1].text, SLICE("v=1; ")));
    free(answer);
}

Test(dns_packet, ttl_with_the_highest_bit_counts_as_none)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_A, "a.test", 0);
    make_a(&maker, "a.test", 0x80000000u, 1);
    answer = read_as(&maker, DNS_A, false);
    cr_expect_eq(answer->verdict, DNS_VERDICT_OK);
    cr_expect_eq(answer->ttl_s, 0);
    free(answer);
}

Test(dns_packet, compressed_names_are_read)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_MX, "kawan.test", 0);
    count_one(&maker, ANSWERS);
    put_pointer(&maker, 12);
    put_be16(&maker, DNS_MX);
    put_be16(&maker, 1);
    put_be32(&maker, 60);
    put_be16(&maker, 7);
    put_be16(&maker, 5);
    put_bytes(&maker, "\2mx", 3);
    put_pointer(&maker, 12);
    answer = read_as(&maker, DNS_MX, false);
    cr_assert_eq(answer->record_count, 1);
    cr_expect_str_eq(answer->records[0].name, "mx.kawan.test");
    free(answer);
}

/* ---- aliases ------------------------------------------------------------------------------- */

/* n0 -> n1 -> ... -> n`count`, in an order that does not help. */
static void make_chain(struct maker *maker, int count)
{
    char from[8], to[8];

    for (int i = count - 1; i >= 0; i--) {
        (void)snprintf(from, sizeof(from), "n%d", i);
        (void)snprintf(to, sizeof(to), "n%d", i + 1);
        make_cname(maker, from, 100 + (uint32_t)i, to);
    }
}

Test(dns_packet, a_chain_of_eight_is_followed_and_of_nine_is_not)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_A, "n0", 0);
    make_chain(&maker, 8);
    make_a(&maker, "n8", 300, 1);
    answer = read_as(&maker, DNS_A, false);
    cr_expect_eq(answer->verdict, DNS_VERDICT_OK);
    cr_expect_eq(answer->record_count, 1);
    cr_expect_eq(answer->aliases, 8);
    cr_expect_eq(answer->ttl_s, 100);
    free(answer);
    make_begin(&maker, DNS_A, "n0", 0);
    make_chain(&maker, 9);
    make_a(&maker, "n9", 300, 1);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_LOOP);
}

Test(dns_packet, loops_of_aliases_end)
{
    struct maker maker;

    make_begin(&maker, DNS_A, "a.test", 0);
    make_cname(&maker, "a.test", 60, "a.test");
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_LOOP);
    make_begin(&maker, DNS_A, "a.test", 0);
    make_cname(&maker, "a.test", 60, "b.test");
    make_cname(&maker, "b.test", 60, "a.test");
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_LOOP);
}

Test(dns_packet, a_chain_that_leaves_the_answer_is_asked_on)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_MX, "a.test", 0);
    make_cname(&maker, "a.test", 77, "Elsewhere.TEST");
    answer = read_as(&maker, DNS_MX, false);
    cr_expect_eq(answer->verdict, DNS_VERDICT_ALIAS);
    cr_expect_str_eq(answer->alias, "elsewhere.test");
    cr_expect_eq(answer->ttl_s, 77);
    free(answer);
    make_begin(&maker, DNS_MX, "a.test", 0);
    make_cname(&maker, "a.test", 77, "can not.be");
    cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_LOOP);
}

Test(dns_packet, a_chain_that_ends_in_nothing_is_nodata_or_nxdomain)
{
    struct maker maker;

    make_begin(&maker, DNS_MX, "a.test", 0);
    make_cname(&maker, "a.test", 77, "b.example");
    make_soa(&maker, "example", 60, 60);
    cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_NODATA);
    make_begin(&maker, DNS_MX, "a.test", 3);
    make_cname(&maker, "a.test", 77, "b.example");
    cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_NXDOMAIN);
}

/* ---- negative answers ---------------------------------------------------------------------- */

Test(dns_packet, negative_ttl_comes_from_the_soa_of_a_zone_above)
{
    static const struct {
        const char *zone;
        uint32_t ttl_s, minimum, want;
    } rows[] = {{"test", 300, 60, 60},       {"kawan.test", 60, 300, 60},
                {".", 60, 300, 60},          {"example", 300, 60, 0},
                {"n.test", 300, 60, 0},      {"a.kawan.test", 60, 60, 0},
                {"test", 0x80000000u, 60, 0}};
    struct dns_packet_answer *answer;
    struct maker maker;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned int rcode = 0; rcode <= 3; rcode += 3) {
            make_begin(&maker, DNS_MX, "kawan.test", rcode);
            make_soa(&maker, rows[i].zone, rows[i].ttl_s, rows[i].minimum);
            answer = read_as(&maker, DNS_MX, false);
            cr_expect_eq(answer->verdict, rcode == 0 ? DNS_VERDICT_NODATA : DNS_VERDICT_NXDOMAIN);
            cr_expect_eq(answer->ttl_s, rows[i].want, "%s", rows[i].zone);
            free(answer);
        }
    }
}

Test(dns_packet, a_referral_is_no_answer)
{
    struct maker maker;

    make_begin(&maker, DNS_MX, "kawan.test", 0);
    make_ns(&maker, "test");
    cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_SERVER);
    make_soa(&maker, "test", 60, 60);
    cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_NODATA, "with an SOA it is one");
}

Test(dns_packet, what_a_server_cannot_is_not_what_the_name_lacks)
{
    static const enum dns_verdict want[16] = {
        DNS_VERDICT_NODATA,  DNS_VERDICT_NO_EDNS, DNS_VERDICT_SERVER, DNS_VERDICT_NXDOMAIN,
        DNS_VERDICT_NO_EDNS, DNS_VERDICT_SERVER,  DNS_VERDICT_SERVER, DNS_VERDICT_SERVER,
        DNS_VERDICT_SERVER,  DNS_VERDICT_SERVER,  DNS_VERDICT_SERVER, DNS_VERDICT_SERVER,
        DNS_VERDICT_SERVER,  DNS_VERDICT_SERVER,  DNS_VERDICT_SERVER, DNS_VERDICT_SERVER};
    struct maker maker;
    size_t at;

    for (unsigned int rcode = 0; rcode < 16; rcode++) {
        make_begin(&maker, DNS_MX, "kawan.test", rcode);
        cr_expect_eq(verdict_of(&maker, DNS_MX), want[rcode], "rcode %u", rcode);
    }
    /* BADVERS: 16, of which the header holds 0. */
    make_begin(&maker, DNS_MX, "kawan.test", 0);
    at = make_record(&maker, ADDITIONAL, ".", 41, 0x01000000u);
    make_end(&maker, at);
    cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_NO_EDNS);
}

Test(dns_packet, nxdomain_with_records_is_believed_in_neither)
{
    struct maker maker;

    make_begin(&maker, DNS_A, "a.test", 3);
    make_a(&maker, "a.test", 60, 1);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_DAMAGED);
}

Test(dns_packet, truncated_asks_for_tcp_whatever_it_holds)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_A, "a.test", 0);
    make_a(&maker, "a.test", 60, 1);
    maker.bytes[2] |= 0x02;
    maker.size -= 3;
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_TRUNCATED);
    answer = read_as(&maker, DNS_A, true);
    cr_expect_eq(answer->verdict, DNS_VERDICT_DAMAGED, "over TCP there is nothing to wait for");
    free(answer);
}

/* ---- answers that are refused -------------------------------------------------------------- */

Test(dns_packet, sixty_four_records_and_no_more)
{
    struct dns_packet_answer *answer;
    struct maker maker;

    make_begin(&maker, DNS_A, "a.test", 0);
    for (unsigned int i = 0; i < 64; i++)
        make_a(&maker, "a.test", 60, (uint8_t)i);
    answer = read_as(&maker, DNS_A, false);
    cr_expect_eq(answer->record_count, 64);
    free(answer);
    make_a(&maker, "a.test", 60, 64);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_DAMAGED);
}

Test(dns_packet, size_has_a_limit_for_each_transport)
{
    static const size_t limit[2] = {DNS_ANSWER_UDP_BYTES_MAX, DNS_ANSWER_TCP_BYTES_MAX};
    struct dns_packet_answer *answer;
    struct maker maker;

    for (int tcp = 0; tcp < 2; tcp++) {
        size_t at;

        make_begin(&maker, DNS_A, "a.test", 0);
        make_a(&maker, "a.test", 60, 1);
        at = make_record(&maker, ADDITIONAL, ".", 65000, 60);
        maker.size = limit[tcp];
        make_end(&maker, at);
        answer = read_as(&maker, DNS_A, tcp != 0);
        cr_expect_eq(answer->verdict, DNS_VERDICT_OK);
        free(answer);
        maker.size = limit[tcp] + 1;
        make_end(&maker, at);
        answer = read_as(&maker, DNS_A, tcp != 0);
        cr_expect_eq(answer->verdict, DNS_VERDICT_DAMAGED);
        free(answer);
    }
}

Test(dns_packet, every_cut_is_refused)
{
    struct maker maker;
    size_t whole;

    make_begin(&maker, DNS_MX, "kawan.test", 0);
    make_mx(&maker, "kawan.test", 60, 10, "mx.kawan.test");
    make_soa(&maker, "test", 60, 60);
    whole = maker.size;
    for (size_t size = 0; size < whole; size++) {
        maker.size = size;
        cr_expect_eq(verdict_of(&maker, DNS_MX), DNS_VERDICT_DAMAGED, "%zu octets", size);
    }
}

Test(dns_packet, pointers_lead_strictly_backwards)
{
    static const struct {
        const char *name;
        size_t target; /* the record's owner stands at 24 */
        enum dns_verdict want;
    } rows[] = {
        {"to the question", 12, DNS_VERDICT_OK},
        {"to itself", 24, DNS_VERDICT_DAMAGED},
        {"ahead", 26, DNS_VERDICT_DAMAGED},
        {"into the header", 4, DNS_VERDICT_DAMAGED},
        {"behind the end", 16000, DNS_VERDICT_DAMAGED},
    };
    struct maker maker;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        make_begin(&maker, DNS_A, "a.test", 0);
        cr_assert_eq(maker.size, 24);
        count_one(&maker, ANSWERS);
        put_pointer(&maker, rows[i].target);
        put_be16(&maker, DNS_A);
        put_be16(&maker, 1);
        put_be32(&maker, 60);
        put_be16(&maker, 4);
        put_be32(&maker, 1);
        cr_expect_eq(verdict_of(&maker, DNS_A), rows[i].want, "%s", rows[i].name);
    }
}

/* A name of `pointers` pointers, each to the one before it, all in the data of an opaque record but
 * the last. */
static void make_pointers(struct maker *maker, uint32_t pointers)
{
    size_t at, target = 12;

    make_begin(maker, DNS_A, "a.test", 0);
    at = make_record(maker, ANSWERS, ".", 65000, 60);
    for (uint32_t i = 1; i < pointers; i++) {
        size_t here = maker->size;

        put_pointer(maker, target);
        target = here;
    }
    make_end(maker, at);
    count_one(maker, ANSWERS);
    put_pointer(maker, target);
    put_be16(maker, DNS_A);
    put_be16(maker, 1);
    put_be32(maker, 60);
    put_be16(maker, 4);
    put_be32(maker, 1);
}

Test(dns_packet, sixteen_pointers_and_no_more)
{
    struct maker maker;

    make_pointers(&maker, 16);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_OK);
    make_pointers(&maker, 17);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_DAMAGED);
}

Test(dns_packet, data_has_the_shape_of_its_type)
{
    static const struct {
        const char *name;
        unsigned int type;
        const char *data;
        size_t size;
    } rows[] = {
        {"A of 3", DNS_A, "abc", 3},
        {"A of 5", DNS_A, "abcde", 5},
        {"A of nothing", DNS_A, "", 0},
        {"AAAA of 4", DNS_AAAA, "abcd", 4},
        {"MX of 2", DNS_MX, "\0\12", 2},
        {"MX and more", DNS_MX, "\0\12\1a\0x", 6},
        {"MX cut", DNS_MX, "\0\12\3ab", 5},
        {"TXT of nothing", DNS_TXT, "", 0},
        {"TXT too long", DNS_TXT, "\3ab", 3},
        {"CNAME of nothing", 5, "", 0},
        {"CNAME and more", 5, "\1a\0x", 4},
        {"CNAME with an unknown label", 5,
         "\x41"
         "a\0",
         3},
        {"SOA of one name", 6, "\0", 1},
        {"SOA cut", 6, "\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0", 21},
    };
    struct maker maker;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (size_t section = ANSWERS; section <= ADDITIONAL; section += 2) {
            size_t at;

            make_begin(&maker, DNS_A, "a.test", 0);
            at = make_record(&maker, section, "a.test", rows[i].type, 60);
            put_bytes(&maker, rows[i].data, rows[i].size);
            make_end(&maker, at);
            cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_DAMAGED, "%s", rows[i].name);
        }
    }
}

/* Names that ldns would follow in the data of other types cost nothing: ldns does not see them. */
Test(dns_packet, other_types_and_classes_stay_opaque)
{
    static const unsigned int types[] = {2,  12, 14, 17, 18, 21, 24, 26,
                                         33, 35, 36, 39, 46, 47, 250};
    struct maker maker;
    size_t at;

    make_begin(&maker, DNS_A, "a.test", 0);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        at = make_record(&maker, ANSWERS, "a.test", types[i], 60);
        put_pointer(&maker, maker.size); /* to itself */
        make_end(&maker, at);
    }
    make_a(&maker, "a.test", 60, 1);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_OK);
    make_begin(&maker, DNS_A, "a.test", 0);
    at = make_record(&maker, ANSWERS, "a.test", DNS_A, 60);
    maker.bytes[at - 5] = 3; /* CHAOS */
    put_bytes(&maker, "x", 1);
    make_end(&maker, at);
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_NODATA);
}

Test(dns_packet, a_name_of_256_octets_is_refused)
{
    struct maker maker;
    size_t at;

    for (unsigned int last = 61; last <= 62; last++) {
        make_begin(&maker, DNS_MX, "a.test", 0);
        at = make_record(&maker, ANSWERS, "a.test", DNS_MX, 60);
        put_be16(&maker, 1);
        for (int i = 0; i < 4; i++) {
            unsigned int label = i < 3 ? 63 : last;

            put_byte(&maker, label);
            for (unsigned int k = 0; k < label; k++)
                put_byte(&maker, 'a');
        }
        put_byte(&maker, 0);
        make_end(&maker, at);
        cr_expect_eq(verdict_of(&maker, DNS_MX), last == 61 ? DNS_VERDICT_OK : DNS_VERDICT_DAMAGED);
    }
}

/* ---- what the worst may cost --------------------------------------------------------------- */

/* One label of its own before the 126 labels of the question's name, which stand at 14: every
 * comparison with another such name goes all the way. */
static void put_deep_name(struct maker *maker, unsigned int number)
{
    put_byte(maker, 1);
    put_byte(maker, 'A' + number);
    put_pointer(maker, 14);
}

static double read_ms(const struct maker *maker)
{
    struct timespec begin, end;
    struct dns_packet_answer *answer;
    double best = 1e9;

    for (int i = 0; i < 5; i++) {
        cr_assert_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin), 0);
        answer = read_as(maker, DNS_A, true);
        cr_assert_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end), 0);
        free(answer);
        best = MIN(best, (double)(end.tv_sec - begin.tv_sec) * 1e3 +
                             (double)(end.tv_nsec - begin.tv_nsec) / 1e6);
    }
    return best;
}

/* SECURITY 1.2 F: 1 ms. Here some times that, since the build is not optimised and may be watched
 * by ASan; what this guards against cost 145 ms. */
#define WORST_MS 4

Test(dns_packet, the_worst_answer_is_cheap)
{
    struct maker maker;
    char name[DNS_NAME_MAX];
    size_t end;

    /* A full packet of SOA records in all sections: three names each, over sixteen pointers. */
    make_pointers(&maker, 16);
    end = maker.size - 16;
    for (size_t section = ANSWERS; section <= ADDITIONAL; section += 2) {
        while (maker.bytes[section + 1] < 64 && maker.size < DNS_ANSWER_TCP_BYTES_MAX - 40) {
            count_one(&maker, section);
            put_bytes(&maker, maker.bytes + end, 2);
            put_be16(&maker, 6);
            put_be16(&maker, 1);
            put_be32(&maker, 60);
            put_be16(&maker, 24);
            put_bytes(&maker, maker.bytes + end, 2);
            put_bytes(&maker, maker.bytes + end, 2);
            maker.size += 20;
        }
    }
    cr_expect_lt(read_ms(&maker), WORST_MS);

    /* Aliases between names of 127 labels: eight in the order that helps least, the others for
     * company. */
    for (size_t i = 0; i < 253; i++)
        name[i] = i % 2 ? '.' : i == 0 ? 'A' : 'x';
    name[253] = '\0';
    make_begin(&maker, DNS_A, name, 0);
    for (unsigned int i = 0; i < 64; i++) {
        unsigned int from = i < 56 ? 100 + i : 63 - i;

        count_one(&maker, ANSWERS);
        put_deep_name(&maker, from);
        put_be16(&maker, 5);
        put_be16(&maker, 1);
        put_be32(&maker, 60);
        put_be16(&maker, 4);
        put_deep_name(&maker, from + 1);
    }
    cr_expect_eq(verdict_of(&maker, DNS_A), DNS_VERDICT_ALIAS, "eight were followed");
    cr_expect_lt(read_ms(&maker), WORST_MS);
}
