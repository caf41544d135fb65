#include "queue/index.h"

#include "core/assert.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_SLAB_MASK (INDEX_SLAB_COUNT - 1)
#define INDEX_BITS_WORDS 7
#define INDEX_BITS_PER_RECORD (INDEX_BITS_WORDS * 32)
#define INDEX_RECORDS_MAX (INDEX_UNIT - 1) /* the highest bit of a number says which kind it is */
/* A message gets its id when its transaction begins and its place when it is durable. Going back over the ones that
 * overtook it keeps the order of ids; a slow upload is not worth more steps than this and stays where they end. */
#define INDEX_ORDER_STEPS 1024

struct index_order {
    uint32_t previous, next;
};
struct
    index_slab { /* of entries; the order stands apart, so that the entries alone are the image of the slab */
    struct index_entry entries[INDEX_SLAB_COUNT];
    struct index_order order[INDEX_SLAB_COUNT];
};
struct index_bits {
    uint32_t next;
    uint32_t words[INDEX_BITS_WORDS];
};
union index_record {
    struct index_unit unit;
    struct index_bits bits;
    uint32_t next_free;
};
static_assert(sizeof(union index_record) == 32, "units and bitmaps share one pool of records");

/* ---- slabs ------------------------------------------------------------------------------------ */

static int slabs_grow(struct index_slabs *slabs)
{
    void *slab;

    if (slabs->slab_count == slabs->slab_capacity) {
        uint32_t capacity = slabs->slab_capacity == 0 ? 16 : slabs->slab_capacity * 2;
        void **grown = realloc(slabs->slabs, capacity * sizeof(void *));

        if (grown == NULL)
            return -ENOMEM;
        slabs->slabs = grown;
        slabs->slab_capacity = capacity;
    }
    slab = calloc(1, slabs->slab_bytes);
    if (slab == NULL)
        return -ENOMEM;
    slabs->slabs[slabs->slab_count++] = slab;
    return 0;
}

static void slabs_deinit(struct index_slabs *slabs)
{
    for (uint32_t i = 0; i < slabs->slab_count; i++)
        free(slabs->slabs[i]);
    free(slabs->slabs);
    *slabs = (struct index_slabs){.slab_bytes = slabs->slab_bytes};
}

static struct index_slab *entry_slab(const struct index *index, uint32_t number)
{
    ASSERT(number != INDEX_NONE && number >> INDEX_SLAB_SHIFT < index->entries.slab_count);
    return index->entries.slabs[number >> INDEX_SLAB_SHIFT];
}

struct index_entry *index_entry(const struct index *index, uint32_t number)
{
    return &entry_slab(index, number)->entries[number & INDEX_SLAB_MASK];
}

static struct index_order *order_of(const struct index *index, uint32_t number)
{
    return &entry_slab(index, number)->order[number & INDEX_SLAB_MASK];
}

static union index_record *record_of(const struct index *index, uint32_t number)
{
    union index_record *slab;

    ASSERT(number != INDEX_NONE && number >> INDEX_SLAB_SHIFT < index->records.slab_count);
    slab = index->records.slabs[number >> INDEX_SLAB_SHIFT];
    return &slab[number & INDEX_SLAB_MASK];
}

static struct index_unit *unit_of(const struct index *index, uint32_t number)
{
    ASSERT(number & INDEX_UNIT);
    return &record_of(index, number & ~INDEX_UNIT)->unit;
}

struct index_item *index_item(const struct index *index, uint32_t number)
{
    return number & INDEX_UNIT ? &unit_of(index, number)->item : &index_entry(index, number)->item;
}

uint32_t index_entry_of(const struct index *index, uint32_t item_number)
{
    return item_number & INDEX_UNIT ? unit_of(index, item_number)->entry : item_number;
}

/* Number 0 means none, so the first slot of all is never given out. */
static int entries_grow(struct index *index)
{
    uint32_t first = index->entries.slab_count << INDEX_SLAB_SHIFT;
    int r;

    if (first >= INDEX_RECORDS_MAX - INDEX_SLAB_COUNT)
        return -ENOMEM;
    r = slabs_grow(&index->entries);
    if (r < 0)
        return r;
    for (uint32_t i = INDEX_SLAB_COUNT; i-- > 0;) {
        uint32_t number = first + i;

        if (number == INDEX_NONE)
            continue;
        index_entry(index, number)->hash_next = index->free_entry;
        index->free_entry = number;
    }
    return 0;
}

static int records_grow(struct index *index)
{
    uint32_t first = index->records.slab_count << INDEX_SLAB_SHIFT;
    int r;

    if (first >= INDEX_RECORDS_MAX - INDEX_SLAB_COUNT)
        return -ENOMEM;
    r = slabs_grow(&index->records);
    if (r < 0)
        return r;
    for (uint32_t i = INDEX_SLAB_COUNT; i-- > 0;) {
        uint32_t number = first + i;

        if (number == INDEX_NONE)
            continue;
        record_of(index, number)->next_free = index->free_record;
        index->free_record = number;
    }
    return 0;
}

static int record_alloc(struct index *index, uint32_t *ret_number)
{
    union index_record *record;

    if (index->free_record == INDEX_NONE) {
        int r = records_grow(index);

        if (r < 0)
            return r;
    }
    *ret_number = index->free_record;
    record = record_of(index, index->free_record);
    index->free_record = record->next_free;
    memset(record, 0, sizeof(*record));
    return 0;
}

static void record_free(struct index *index, uint32_t number)
{
    record_of(index, number)->next_free = index->free_record;
    index->free_record = number;
}

/* ---- hash ------------------------------------------------------------------------------------- */

/* Ids are ours and run in order, so nobody can choose colliding ones. Those that come together are wanted together: a run of
 * INDEX_RUN of them lies in neighbouring buckets, which are one cache line, as their entries mostly lie side by side; the
 * runs are mixed. If of each run only one id is left, chains become INDEX_RUN long, which is bearable. */
#define INDEX_RUN_SHIFT 4
#define INDEX_RUN (1u << INDEX_RUN_SHIFT)

static uint32_t hash_id(uint64_t id)
{
    uint32_t mixed = (uint32_t)(((id >> INDEX_RUN_SHIFT) * 0x9e3779b97f4a7c15u) >> 32);

    return mixed << INDEX_RUN_SHIFT | (uint32_t)(id & (INDEX_RUN - 1));
}

static uint32_t *bucket_at(const struct index *index, uint32_t bucket)
{
    uint32_t *slab = index->buckets.slabs[bucket >> INDEX_SLAB_SHIFT];

    return &slab[bucket & INDEX_SLAB_MASK];
}

/* Linear hashing (Litwin 1980): buckets below the next power of two that exist take the longer mask. */
static uint32_t *bucket_of(const struct index *index, uint64_t id)
{
    uint32_t hash = hash_id(id);
    uint32_t bucket = hash & ((2u << index->bucket_level) - 1);

    if (bucket >= index->bucket_count)
        bucket = hash & ((1u << index->bucket_level) - 1);
    return bucket_at(index, bucket);
}

/* Adds one bucket and moves into it what now belongs there: growth never costs more than one chain. */
static void hash_grow(struct index *index)
{
    uint32_t added = index->bucket_count;
    uint32_t mask = (2u << index->bucket_level) - 1;
    uint32_t *from, *to;

    if (added >= INDEX_UNIT / 2)
        return;
    if (added >> INDEX_SLAB_SHIFT >= index->buckets.slab_count && slabs_grow(&index->buckets) < 0)
        return; /* longer chains are slower, not wrong */
    from = bucket_at(index, added & ((1u << index->bucket_level) - 1));
    to = bucket_at(index, added);
    *to = INDEX_NONE;
    while (*from != INDEX_NONE) {
        struct index_entry *entry = index_entry(index, *from);

        if ((hash_id(entry->id) & mask) == added) {
            uint32_t number = *from;

            *from = entry->hash_next;
            entry->hash_next = *to;
            *to = number;
        } else {
            from = &entry->hash_next;
        }
    }
    index->bucket_count++;
    if (index->bucket_count == 2u << index->bucket_level)
        index->bucket_level++;
}

uint32_t index_find(const struct index *index, uint64_t id)
{
    uint32_t number = *bucket_of(index, id);

    while (number != INDEX_NONE && index_entry(index, number)->id != id)
        number = index_entry(index, number)->hash_next;
    return number;
}

static void hash_insert(struct index *index, uint32_t number)
{
    struct index_entry *entry = index_entry(index, number);
    uint32_t *bucket;

    if (index->found_count >= index->bucket_count)
        hash_grow(index);
    bucket = bucket_of(index, entry->id);
    entry->hash_next = *bucket;
    *bucket = number;
    index->found_count++;
}

static bool hash_remove(struct index *index, uint32_t number)
{
    uint32_t *at = bucket_of(index, index_entry(index, number)->id);

    while (*at != INDEX_NONE && *at != number)
        at = &index_entry(index, *at)->hash_next;
    if (*at == INDEX_NONE)
        return false;
    *at = index_entry(index, number)->hash_next;
    index->found_count--;
    return true;
}

/* ---- order of age ------------------------------------------------------------------------------ */

void index_place(struct index *index, uint32_t number, uint32_t before)
{
    struct index_order *order = order_of(index, number);

    order->previous = before;
    order->next = before == INDEX_NONE ? index->oldest : order_of(index, before)->next;
    if (before == INDEX_NONE)
        index->oldest = number;
    else
        order_of(index, before)->next = number;
    if (order->next == INDEX_NONE)
        index->youngest = number;
    else
        order_of(index, order->next)->previous = number;
}

/* Going back from `before`, the entry that one with this id stands behind; after so many steps the last one seen. */
static uint32_t behind(const struct index *index, uint64_t id, uint32_t before)
{
    for (uint32_t i = 0; before != INDEX_NONE && i < INDEX_ORDER_STEPS; i++) {
        if (index_entry(index, before)->id < id)
            break;
        before = order_of(index, before)->previous;
    }
    return before;
}

static bool is_placed(const struct index *index, uint32_t number)
{
    return order_of(index, number)->previous != INDEX_NONE || index->oldest == number;
}

static void order_remove(struct index *index, uint32_t number)
{
    struct index_order *order = order_of(index, number);

    if (!is_placed(index, number))
        return;
    if (order->previous == INDEX_NONE)
        index->oldest = order->next;
    else
        order_of(index, order->previous)->next = order->next;
    if (order->next == INDEX_NONE)
        index->youngest = order->previous;
    else
        order_of(index, order->next)->previous = order->previous;
}

uint32_t index_older_first(const struct index *index, uint32_t after)
{
    return after == INDEX_NONE ? index->oldest : order_of(index, after)->next;
}

uint32_t index_before(const struct index *index, uint32_t number)
{
    return order_of(index, number)->previous;
}

/* ---- entries ---------------------------------------------------------------------------------- */

int index_init(struct index *index)
{
    *index = (struct index){
        .entries.slab_bytes = sizeof(struct index_slab),
        .records.slab_bytes = sizeof(union index_record) * INDEX_SLAB_COUNT,
        .buckets.slab_bytes = sizeof(uint32_t) * INDEX_SLAB_COUNT,
        .bucket_count = 1,
    };
    return slabs_grow(&index->buckets);
}

void index_deinit(struct index *index)
{
    slabs_deinit(&index->entries);
    slabs_deinit(&index->records);
    slabs_deinit(&index->buckets);
    *index = (struct index){.bucket_count = 0};
}

uint64_t index_bytes(const struct index *index)
{
    return index->entries.slab_count * (uint64_t)index->entries.slab_bytes +
           index->records.slab_count * (uint64_t)index->records.slab_bytes +
           index->buckets.slab_count * (uint64_t)index->buckets.slab_bytes;
}

static void bits_free(struct index *index, uint32_t number)
{
    while (number != INDEX_NONE) {
        uint32_t next = record_of(index, number)->bits.next;

        record_free(index, number);
        number = next;
    }
}

/* A bitmap with `unit_count` bits set, in a chain of records; built from its end, so that nothing is walked. */
static int bits_alloc(struct index *index, uint32_t unit_count, uint32_t *ret_first)
{
    uint32_t records = (unit_count + INDEX_BITS_PER_RECORD - 1) / INDEX_BITS_PER_RECORD;
    uint32_t first = INDEX_NONE;

    for (uint32_t i = records; i-- > 0;) {
        uint32_t number;
        struct index_bits *bits;
        int r = record_alloc(index, &number);

        if (r < 0) {
            bits_free(index, first);
            return r;
        }
        bits = &record_of(index, number)->bits;
        bits->next = first;
        for (uint32_t bit = 0; bit < INDEX_BITS_PER_RECORD; bit++) {
            if (i * INDEX_BITS_PER_RECORD + bit < unit_count)
                bits->words[bit / 32] |= 1u << (bit % 32);
        }
        first = number;
    }
    *ret_first = first;
    return 0;
}

int index_alloc(struct index *index, uint32_t unit_count, uint32_t *ret_number)
{
    uint32_t bits = INDEX_NONE;
    struct index_entry *entry;
    int r = 0;

    ASSERT(unit_count > 0 && unit_count <= UINT16_MAX);
    if (index->free_entry == INDEX_NONE)
        r = entries_grow(index);
    if (r == 0 && unit_count > 1)
        r = bits_alloc(index, unit_count, &bits);
    if (r < 0)
        return r;
    *ret_number = index->free_entry;
    entry = index_entry(index, index->free_entry);
    index->free_entry = entry->hash_next;
    index->entry_count++;
    *entry = (struct index_entry){.bits = bits, .unit_count = (uint16_t)unit_count};
    return 0;
}

static void units_free(struct index *index, uint32_t number)
{
    while (number != INDEX_NONE) {
        uint32_t next = unit_of(index, number)->next_unit;

        record_free(index, number & ~INDEX_UNIT);
        number = next;
    }
}

void index_free(struct index *index, uint32_t number)
{
    struct index_entry *entry = index_entry(index, number);

    if (hash_remove(index, number))
        order_remove(index, number);
    *order_of(index, number) = (struct index_order){INDEX_NONE, INDEX_NONE};
    if (entry->flags & ENTRY_SPLIT)
        units_free(index, entry->item.destination);
    bits_free(index, entry->bits);
    *entry = (struct index_entry){.hash_next = index->free_entry};
    index->free_entry = number;
    ASSERT(index->entry_count > 0);
    index->entry_count--;
}

void index_insert(struct index *index, uint32_t number, uint32_t near)
{
    hash_insert(index, number);
    index_place(index, number, behind(index, index_entry(index, number)->id, near));
}

/* What comes back after a restart comes nearly in order, so its place is next to that of the one before. */
bool index_insert_near(struct index *index, uint32_t number, uint32_t near)
{
    uint64_t id = index_entry(index, number)->id;
    uint32_t before = near, after = near == INDEX_NONE ? index->oldest : INDEX_NONE;

    hash_insert(index, number);
    if (near != INDEX_NONE) {
        before = behind(index, id, near);
        if (before != INDEX_NONE && index_entry(index, before)->id > id)
            return false;
        after = before == INDEX_NONE ? index->oldest : order_of(index, before)->next;
    }
    for (uint32_t i = 0; after != INDEX_NONE && index_entry(index, after)->id < id; i++) {
        if (i >= INDEX_ORDER_STEPS)
            return false;
        before = after;
        after = order_of(index, after)->next;
    }
    index_place(index, number, before);
    return true;
}

/* ---- units ------------------------------------------------------------------------------------ */

int index_unit_add(struct index *index, uint32_t entry, uint32_t last_unit, uint32_t *ret_number)
{
    uint32_t number;
    int r = record_alloc(index, &number);

    if (r < 0)
        return r;
    number |= INDEX_UNIT;
    unit_of(index, number)->entry = entry;
    if (last_unit == INDEX_NONE) {
        index_entry(index, entry)->item.destination = number;
        index_entry(index, entry)->flags |= ENTRY_SPLIT;
    } else {
        unit_of(index, last_unit)->next_unit = number;
    }
    *ret_number = number;
    return 0;
}

uint32_t index_next_item(const struct index *index, uint32_t entry, uint32_t after)
{
    const struct index_entry *e = index_entry(index, entry);

    if (!(e->flags & ENTRY_SPLIT))
        return after == INDEX_NONE ? entry : INDEX_NONE;
    return after == INDEX_NONE ? e->item.destination : unit_of(index, after)->next_unit;
}

static uint32_t *bits_word(const struct index *index, uint32_t entry, uint32_t unit)
{
    uint32_t number = index_entry(index, entry)->bits;

    for (; unit >= INDEX_BITS_PER_RECORD; unit -= INDEX_BITS_PER_RECORD)
        number = record_of(index, number)->bits.next;
    return &record_of(index, number)->bits.words[unit / 32];
}

/* 224 is a multiple of 32, so a bit's place in its word is that of its unit. */
static_assert(INDEX_BITS_PER_RECORD % 32 == 0, "words do not straddle records");

bool index_unit_open(const struct index *index, uint32_t entry, uint32_t unit)
{
    const struct index_entry *e = index_entry(index, entry);

    if (unit >= e->unit_count)
        return false;
    if (e->bits == INDEX_NONE)
        return (e->flags & ENTRY_SPLIT) || e->item.open_count > 0;
    return *bits_word(index, entry, unit) >> (unit % 32) & 1;
}

void index_unit_close(struct index *index, uint32_t entry, uint32_t unit)
{
    const struct index_entry *e = index_entry(index, entry);

    ASSERT(unit < e->unit_count);
    if (e->bits != INDEX_NONE)
        *bits_word(index, entry, unit) &= ~(1u << (unit % 32));
}

bool index_open_run(const struct index *index, uint32_t entry, uint32_t *first, uint32_t *ret_count)
{
    uint32_t unit_count = index_entry(index, entry)->unit_count;
    uint32_t end;

    while (*first < unit_count && !index_unit_open(index, entry, *first))
        (*first)++;
    if (*first >= unit_count)
        return false;
    for (end = *first + 1; end < unit_count && index_unit_open(index, entry, end);)
        end++;
    *ret_count = end - *first;
    return true;
}

uint32_t index_open_count(const struct index *index, uint32_t entry)
{
    uint32_t count = 0;

    for (uint32_t item = index_next_item(index, entry, INDEX_NONE); item != INDEX_NONE;
         item = index_next_item(index, entry, item))
        count += index_item(index, item)->open_count;
    return count;
}

uint32_t index_open_bits(const struct index *index, uint32_t entry)
{
    const struct index_entry *e = index_entry(index, entry);
    uint32_t count = 0;

    if (e->bits == INDEX_NONE)
        return index_open_count(index, entry);
    for (uint32_t at = e->bits; at != INDEX_NONE; at = record_of(index, at)->bits.next) {
        for (uint32_t i = 0; i < INDEX_BITS_WORDS; i++)
            count += (uint32_t)__builtin_popcount(record_of(index, at)->bits.words[i]);
    }
    return count;
}

void index_bits_load(struct index *index, uint32_t entry, const uint8_t *bits)
{
    uint32_t unit_count = index_entry(index, entry)->unit_count;

    for (uint32_t unit = 0; unit < unit_count; unit++) {
        if (!(bits[unit / 8] >> (unit % 8) & 1))
            index_unit_close(index, entry, unit);
    }
}

void index_bits_store(const struct index *index, uint32_t entry, uint8_t *bits)
{
    const struct index_entry *e = index_entry(index, entry);
    uint32_t octets = (e->unit_count + 7u) / 8;
    uint32_t at = e->bits;

    if (at == INDEX_NONE) {
        bits[0] = index_unit_open(index, entry, 0);
        return;
    }
    for (uint32_t i = 0; i < octets; i++) {
        uint32_t place = i % (INDEX_BITS_PER_RECORD / 8);

        if (i > 0 && place == 0)
            at = record_of(index, at)->bits.next;
        bits[i] = (uint8_t)(record_of(index, at)->bits.words[place / 4] >> (place % 4 * 8));
    }
}

/* ---- lists of items --------------------------------------------------------------------------- */

void item_list_push(struct index *index, struct item_list *list, uint32_t item)
{
    struct index_item *it = index_item(index, item);

    it->previous = list->last;
    it->next = INDEX_NONE;
    if (list->last == INDEX_NONE)
        list->first = item;
    else
        index_item(index, list->last)->next = item;
    list->last = item;
    list->count++;
}

void item_list_push_front(struct index *index, struct item_list *list, uint32_t item)
{
    struct index_item *it = index_item(index, item);

    it->previous = INDEX_NONE;
    it->next = list->first;
    if (list->first == INDEX_NONE)
        list->last = item;
    else
        index_item(index, list->first)->previous = item;
    list->first = item;
    list->count++;
}

void item_list_remove(struct index *index, struct item_list *list, uint32_t item)
{
    struct index_item *it = index_item(index, item);

    ASSERT(list->count > 0);
    if (it->previous == INDEX_NONE)
        list->first = it->next;
    else
        index_item(index, it->previous)->next = it->next;
    if (it->next == INDEX_NONE)
        list->last = it->previous;
    else
        index_item(index, it->next)->previous = it->previous;
    it->previous = INDEX_NONE;
    it->next = INDEX_NONE;
    list->count--;
}

uint32_t item_list_pop(struct index *index, struct item_list *list)
{
    uint32_t item = list->first;

    if (item != INDEX_NONE)
        item_list_remove(index, list, item);
    return item;
}
