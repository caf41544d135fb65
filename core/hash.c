#include "core/hash.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>

#define HASH_BUCKETS_FIRST 8

static uint64_t rotate_left(uint64_t value, int bits)
{
    return (value << bits) | (value >> (64 - bits));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[0] = rotate_left(v[0], 32);
    v[2] += v[3];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[2] = rotate_left(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

/* Up to eight bytes as a little-endian word, folded to lower case when asked. */
static uint64_t load_word(const uint8_t *from, size_t size, bool fold)
{
    uint64_t word = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = fold ? byte_lower(from[i]) : from[i];

        word |= (uint64_t)byte << (8 * i);
    }
    return word;
}

/* SipHash-2-4 as Aumasson and Bernstein give it ("SipHash: a fast short-input PRF", 2012). */
static uint64_t sip_hash(const struct hash_key *key, struct slice bytes, bool fold)
{
    uint64_t v[4] = {key->k0 ^ 0x736f6d6570736575u, key->k1 ^ 0x646f72616e646f6du,
                     key->k0 ^ 0x6c7967656e657261u, key->k1 ^ 0x7465646279746573u};
    struct slice rest = bytes;

    while (rest.size >= 8) {
        uint64_t word;

        if (fold)
            word = load_word(rest.data, 8, true);
        else
            memcpy(&word, rest.data, 8);
        sip_word(v, word);
        rest = slice_skip(rest, 8);
    }
    sip_word(v, ((uint64_t)bytes.size << 56) | load_word(rest.data, rest.size, fold));
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_bytes(const struct hash_key *key, struct slice bytes)
{
    return sip_hash(key, bytes, false);
}

uint64_t hash_bytes_nocase(const struct hash_key *key, struct slice bytes)
{
    return sip_hash(key, bytes, true);
}

int hash_table_init(struct hash_table *table, size_t capacity)
{
    size_t count = HASH_BUCKETS_FIRST;

    while (count < capacity && count <= SIZE_MAX / 32)
        count *= 2;
    *table = (struct hash_table){.buckets = calloc(count, sizeof(struct hash_node *)),
                                 .bucket_count = count};
    return table->buckets == NULL ? -ENOMEM : 0;
}

void hash_table_deinit(struct hash_table *table)
{
    free(table->buckets);
    *table = (struct hash_table){.buckets = NULL};
}

static struct hash_node **bucket_of(const struct hash_table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

static void grow(struct hash_table *table)
{
    struct hash_table bigger = {.bucket_count = table->bucket_count * 2, .count = table->count};

    bigger.buckets = calloc(bigger.bucket_count, sizeof(struct hash_node *));
    if (bigger.buckets == NULL)
        return; /* longer chains are slower, not wrong */
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct hash_node *node = table->buckets[i];

        while (node != NULL) {
            struct hash_node *next = node->next;
            struct hash_node **bucket = bucket_of(&bigger, node->hash);

            node->next = *bucket;
            *bucket = node;
            node = next;
        }
    }
    free(table->buckets);
    *table = bigger;
}

void hash_table_insert(struct hash_table *table, struct hash_node *node, uint64_t hash)
{
    struct hash_node **bucket;

    if (table->count >= table->bucket_count)
        grow(table);
    bucket = bucket_of(table, hash);
    node->hash = hash;
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

struct hash_node *hash_table_find(const struct hash_table *table, uint64_t hash,
                                  hash_equal_fn *equal, const void *wanted)
{
    if (table->bucket_count == 0)
        return NULL;
    for (struct hash_node *node = *bucket_of(table, hash); node != NULL; node = node->next) {
        if (node->hash == hash && equal(node, wanted))
            return node;
    }
    return NULL;
}

void hash_table_remove(struct hash_table *table, struct hash_node *node)
{
    struct hash_node **at = bucket_of(table, node->hash);

    while (*at != node) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    table->count--;
}

struct hash_node *hash_table_next(const struct hash_table *table, const struct hash_node *after)
{
    size_t i = 0;

    if (after != NULL) {
        if (after->next != NULL)
            return after->next;
        i = (after->hash & (table->bucket_count - 1)) + 1;
    }
    for (; i < table->bucket_count; i++) {
        if (table->buckets[i] != NULL)
            return table->buckets[i];
    }
    return NULL;
}
