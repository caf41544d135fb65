#include "dns/dns_cache.h"

#include "core/assert.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/hash.h"

#include <errno.h>
#include <stdlib.h>

#define STALE_NS (24 * HOUR_NS)     /* RFC 8767 5: one to three days */
#define UNIT_BYTES 256u             /* of one record, in what the bound counts */
#define AGING_PART 10               /* the last tenth */
#define AGING_TTL_MIN_S 60u         /* refreshing what lives shorter asks more than it saves */
#define PACKED_BYTES_MAX (64 * KIB) /* an answer over TCP is at most 16 KiB on the wire */

struct entry {
    struct hash_node node;
    struct list_node use; /* the most recent first */
    uint64_t stored_ns;
    uint64_t expires_ns;
    uint32_t cost;
    uint16_t type;
    uint8_t status;
    uint8_t record_count;
    uint16_t name_bytes;
    uint16_t packed_bytes;
    uint8_t data[]; /* the name, then the records packed */
};
static_assert(DNS_RECORDS_MAX <= UINT8_MAX, "record_count holds them");

struct dns_cache {
    struct hash_table table;
    struct hash_key key;
    struct list_node uses;
    uint32_t cost;
    uint32_t cost_max;
};

struct wanted {
    enum dns_type type;
    struct slice name;
};

/* ---- the table ----------------------------------------------------------------------------- */

int dns_cache_create(uint32_t records_max, struct dns_cache **ret_cache)
{
    struct dns_cache *cache = calloc(1, sizeof(*cache));
    int r;

    if (cache == NULL)
        return -ENOMEM;
    r = hash_table_init(&cache->table, 64);
    if (r < 0) {
        free(cache);
        return r;
    }
    /* The names come from senders and from their name servers. */
    random_bytes(&cache->key, sizeof(cache->key));
    list_init(&cache->uses);
    cache->cost_max = records_max;
    *ret_cache = cache;
    return 0;
}

static void drop(struct dns_cache *cache, struct entry *entry)
{
    hash_table_remove(&cache->table, &entry->node);
    list_remove(&entry->use);
    cache->cost -= entry->cost;
    free(entry);
}

void dns_cache_clear(struct dns_cache *cache)
{
    while (!list_empty(&cache->uses))
        drop(cache, CONTAINER_OF(cache->uses.next, struct entry, use));
    ASSERT(cache->cost == 0);
}

void dns_cache_destroy(struct dns_cache **cache)
{
    struct dns_cache *c = *cache;

    if (c == NULL)
        return;
    dns_cache_clear(c);
    hash_table_deinit(&c->table);
    free(c);
    *cache = NULL;
}

uint32_t dns_cache_records(const struct dns_cache *cache)
{
    return cache->cost;
}

static bool is_wanted(const struct hash_node *node, const void *context)
{
    const struct entry *entry = CONTAINER_OF(node, const struct entry, node);
    const struct wanted *wanted = context;

    return entry->type == wanted->type &&
           slice_equal(slice_of(entry->data, entry->name_bytes), wanted->name);
}

static uint64_t hash_of(const struct dns_cache *cache, const struct wanted *wanted)
{
    /* Types of one name part by an odd factor, since the name alone is hashed. */
    return hash_bytes(&cache->key, wanted->name) + (uint64_t)wanted->type * 0x9e3779b97f4a7c15u;
}

static struct entry *lookup(const struct dns_cache *cache, const struct wanted *wanted)
{
    struct hash_node *node =
        hash_table_find(&cache->table, hash_of(cache, wanted), is_wanted, wanted);

    return node == NULL ? NULL : CONTAINER_OF(node, struct entry, node);
}

/* ---- records, packed ----
 *
 * A: 4 octets; AAAA: 16; MX: preference (2), length of the name (1), name; TXT: length (2), text.
 */

static void pack(struct buf *to, enum dns_type type, const struct dns_record *record)
{
    struct slice name = slice_cstr(record->name);

    switch (type) {
    case DNS_A:
        buf_append(to, slice_of(record->address, 4));
        break;
    case DNS_AAAA:
        buf_append(to, slice_of(record->address, 16));
        break;
    case DNS_MX:
        buf_append_le16(to, record->preference);
        buf_append_byte(to, (uint8_t)name.size);
        buf_append(to, name);
        break;
    case DNS_TXT:
        buf_append_le16(to, (uint16_t)record->text.size);
        buf_append(to, record->text);
        break;
    }
}

/* The text of a TXT record is copied to `*text`, which is moved on: it belongs to whoever found it.
 */
static void unpack(struct reader *from, enum dns_type type, uint8_t **text,
                   struct dns_record *ret_record)
{
    size_t size;
    struct slice bytes;

    switch (type) {
    case DNS_A:
        memcpy(ret_record->address, reader_bytes(from, 4).data, 4);
        break;
    case DNS_AAAA:
        memcpy(ret_record->address, reader_bytes(from, 16).data, 16);
        break;
    case DNS_MX:
        ret_record->preference = reader_le16(from);
        size = reader_u8(from);
        (void)slice_to_cstr(reader_bytes(from, size), ret_record->name, sizeof(ret_record->name));
        break;
    case DNS_TXT:
        size = reader_le16(from);
        bytes = reader_bytes(from, size);
        if (size > 0)
            memcpy(*text, bytes.data, size);
        ret_record->text = slice_of(*text, size);
        *text += size;
        break;
    }
}

/* ---- keeping ------------------------------------------------------------------------------- */

static void make_room(struct dns_cache *cache, uint32_t cost)
{
    while (cache->cost + cost > cache->cost_max && !list_empty(&cache->uses))
        drop(cache, CONTAINER_OF(cache->uses.prev, struct entry, use));
}

static void insert(struct dns_cache *cache, uint64_t now_ns, const struct wanted *wanted,
                   const struct dns_answer *answer, struct slice packed)
{
    uint32_t cost = 1 + (uint32_t)answer->record_count + (uint32_t)packed.size / UNIT_BYTES;
    struct entry *entry;

    if (cost > cache->cost_max)
        return;
    make_room(cache, cost);
    entry = malloc(sizeof(*entry) + wanted->name.size + packed.size);
    if (entry == NULL)
        return; /* the answer is used once, and asked for again */
    *entry = (struct entry){
        .stored_ns = now_ns,
        .expires_ns = now_ns + answer->ttl_s * SECOND_NS,
        .cost = cost,
        .type = (uint16_t)wanted->type,
        .status = (uint8_t)answer->status,
        .record_count = (uint8_t)answer->record_count,
        .name_bytes = (uint16_t)wanted->name.size,
        .packed_bytes = (uint16_t)packed.size,
    };
    memcpy(entry->data, wanted->name.data, wanted->name.size);
    if (packed.size > 0)
        memcpy(entry->data + wanted->name.size, packed.data, packed.size);
    hash_table_insert(&cache->table, &entry->node, hash_of(cache, wanted));
    list_push_front(&cache->uses, &entry->use);
    cache->cost += cost;
}

void dns_cache_put(struct dns_cache *cache, uint64_t now_ns, enum dns_type type, const char *name,
                   const struct dns_answer *answer)
{
    struct wanted wanted = {type, slice_cstr(name)};
    struct entry *old = lookup(cache, &wanted);
    struct buf packed;

    ASSERT(answer->record_count <= DNS_RECORDS_MAX);
    if (old != NULL)
        drop(cache, old);
    if (answer->ttl_s == 0)
        return;
    buf_init(&packed, PACKED_BYTES_MAX - 1); /* its size fits 16 bits */
    for (size_t i = 0; i < answer->record_count; i++)
        pack(&packed, type, &answer->records[i]);
    if (!packed.failed)
        insert(cache, now_ns, &wanted, answer, buf_slice(&packed));
    buf_deinit(&packed);
}

/* ---- finding ------------------------------------------------------------------------------- */

static bool copy_out(const struct entry *entry, uint32_t ttl_s, struct dns_cached *ret_cached)
{
    struct reader reader = {slice_of(entry->data + entry->name_bytes, entry->packed_bytes), false};
    size_t records_bytes = entry->record_count * sizeof(struct dns_record);
    struct dns_record *records = NULL;
    uint8_t *text;

    if (entry->record_count > 0) {
        records = calloc(1, records_bytes + (entry->type == DNS_TXT ? entry->packed_bytes : 0));
        if (records == NULL)
            return false;
    }
    text = (uint8_t *)records + records_bytes;
    for (size_t i = 0; i < entry->record_count; i++) {
        records[i].type = (enum dns_type)entry->type;
        records[i].ttl_s = ttl_s;
        unpack(&reader, (enum dns_type)entry->type, &text, &records[i]);
    }
    ASSERT(!reader.bad && reader.rest.size == 0);
    *ret_cached = (struct dns_cached){.answer = {.status = (enum dns_status)entry->status,
                                                 .ttl_s = ttl_s,
                                                 .records = records,
                                                 .record_count = entry->record_count},
                                      .records = records};
    return true;
}

static enum dns_cache_state state_of(const struct entry *entry, uint64_t now_ns)
{
    uint64_t life_ns = entry->expires_ns - entry->stored_ns;

    if (now_ns >= entry->expires_ns)
        return entry->record_count > 0 && now_ns < entry->expires_ns + STALE_NS ? DNS_CACHE_STALE
                                                                                : DNS_CACHE_NONE;
    if (life_ns >= AGING_TTL_MIN_S * SECOND_NS &&
        entry->expires_ns - now_ns <= life_ns / AGING_PART)
        return DNS_CACHE_AGING;
    return DNS_CACHE_FRESH;
}

enum dns_cache_state dns_cache_find(struct dns_cache *cache, uint64_t now_ns, enum dns_type type,
                                    const char *name, struct dns_cached *ret_cached)
{
    struct wanted wanted = {type, slice_cstr(name)};
    struct entry *entry = lookup(cache, &wanted);
    enum dns_cache_state state;
    uint32_t ttl_s = 0;

    if (entry == NULL)
        return DNS_CACHE_NONE;
    state = state_of(entry, now_ns);
    if (state == DNS_CACHE_NONE) {
        drop(cache, entry);
        return DNS_CACHE_NONE;
    }
    if (state != DNS_CACHE_STALE)
        ttl_s = (uint32_t)((entry->expires_ns - now_ns + SECOND_NS - 1) / SECOND_NS);
    list_remove(&entry->use);
    list_push_front(&cache->uses, &entry->use);
    return copy_out(entry, ttl_s, ret_cached) ? state : DNS_CACHE_NONE;
}

void dns_cache_release(struct dns_cached *cached)
{
    free(cached->records);
    cached->records = NULL;
}
