/* core/hash.h - keyed hashing (SipHash-2-4) and an intrusive hash table.
 *
 * Keyed, because names come from peers (a domain, a user): without the key nobody can make them
 * collide. A table owns its bucket array, never the entries; it doubles when full and shrinks
 * never. Shard: whoever owns the table.
 */
#ifndef KILAT_CORE_HASH_H
#define KILAT_CORE_HASH_H

#include "core/slice.h"

struct hash_key {
    uint64_t k0, k1;
};

uint64_t hash_bytes(const struct hash_key *key, struct slice bytes);
/* The same for any case of ASCII letters. */
uint64_t hash_bytes_nocase(const struct hash_key *key, struct slice bytes);

struct hash_node {
    struct hash_node *next; /* private to hash.c */
    uint64_t hash;
};

struct hash_table {
    struct hash_node **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
};

typedef bool hash_equal_fn(const struct hash_node *node, const void *wanted);

/* 0 or -ENOMEM. `capacity` is a first guess. */
int hash_table_init(struct hash_table *table, size_t capacity);
void hash_table_deinit(struct hash_table *table);
/* Cannot fail: when no memory is found for more buckets the chains get longer. */
void hash_table_insert(struct hash_table *table, struct hash_node *node, uint64_t hash);
struct hash_node *hash_table_find(const struct hash_table *table, uint64_t hash,
                                  hash_equal_fn *equal, const void *wanted);
void hash_table_remove(struct hash_table *table, struct hash_node *node);
/* Walks all entries in no order: start with NULL; the table must not change meanwhile. */
struct hash_node *hash_table_next(const struct hash_table *table, const struct hash_node *after);

#endif
