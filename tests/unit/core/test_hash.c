#include "core/hash.h"
#include <criterion/criterion.h>

/* The vector of the SipHash paper's appendix: key 00..0f, message 00..0e. */
Test(hash, agrees_with_the_paper)
{
    struct hash_key key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    uint8_t message[15];

    for (uint8_t i = 0; i < sizeof(message); i++)
        message[i] = i;
    cr_expect_eq(hash_bytes(&key, slice_of(message, sizeof(message))), 0xa129ca6149be45e5);
    cr_expect_eq(hash_bytes(&key, SLICE_NONE), 0x726fdb47dd0e0e31);
}

Test(hash, folds_ascii_letters_only)
{
    struct hash_key key = {1, 2};

    cr_expect_eq(hash_bytes_nocase(&key, SLICE("Debian.Example.ORG")),
                 hash_bytes_nocase(&key, SLICE("dEBIAN.eXAMPLE.org")));
    cr_expect_eq(hash_bytes_nocase(&key, SLICE("abcdefghij")),
                 hash_bytes(&key, SLICE("abcdefghij")));
    cr_expect_neq(hash_bytes(&key, SLICE("A")), hash_bytes(&key, SLICE("a")));
    cr_expect_neq(hash_bytes_nocase(&key, SLICE("@")), hash_bytes_nocase(&key, SLICE("`")));
}

struct entry {
    struct hash_node node;
    uint32_t number;
    bool seen;
};

static bool entry_is(const struct hash_node *node, const void *wanted)
{
    return CONTAINER_OF(node, struct entry, node)->number == *(const uint32_t *)wanted;
}

/* Few hashes for many entries, so that chains, growth and removal from the middle all happen. */
static uint64_t poor_hash(uint32_t number)
{
    return number % 37 * 0x10001;
}

Test(hash, table_finds_what_is_in_it_and_nothing_else)
{
    static struct entry entries[1000];
    struct hash_table table;
    size_t walked = 0;

    cr_assert_eq(hash_table_init(&table, 1), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        entries[i].number = i;
        hash_table_insert(&table, &entries[i].node, poor_hash(i));
    }
    for (uint32_t i = 0; i < 1000; i += 3)
        hash_table_remove(&table, &entries[i].node);
    cr_expect_eq(table.count, 1000 - 334);
    for (uint32_t i = 0; i < 1000; i++) {
        struct hash_node *found = hash_table_find(&table, poor_hash(i), entry_is, &i);

        cr_expect_eq(found, i % 3 == 0 ? NULL : &entries[i].node);
    }
    for (struct hash_node *node = hash_table_next(&table, NULL); node != NULL;
         node = hash_table_next(&table, node)) {
        struct entry *entry = CONTAINER_OF(node, struct entry, node);

        cr_expect(!entry->seen);
        entry->seen = true;
        walked++;
    }
    cr_expect_eq(walked, table.count);
    hash_table_deinit(&table);
}
