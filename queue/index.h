/* queue/index.h - every queued message in 64 bytes, found by its id, in order of age.
 *
 * Entries live in slabs and are named by 32-bit numbers, never by pointers that move: an entry stays where it is
 * until it is freed, growth copies nothing, and a slab can be written to disk as it stands (QUEUE 2.5). What waits to be
 * tried is an *item*: a message's recipients of one destination. A message with one item carries it in its entry; one
 * with several has a 32-byte unit record for each. Which recipients are still open is a bitmap, in 32-byte records as
 * well, kept only for messages with more than one.
 *
 * Memory per message: 64 (entry) + 8 (order) + 4 to 8 (hash bucket).
 * Shard: owner. Errors: -ENOMEM, and then nothing has changed.
 */
#ifndef KILAT_QUEUE_INDEX_H
#define KILAT_QUEUE_INDEX_H

#include "core/defs.h"

#define INDEX_NONE 0u
#define INDEX_UNIT 0x80000000u /* set in the number of a unit record, clear in that of an entry */

enum item_state {
    ITEM_NEW,      /* not durable yet, or not scheduled yet */
    ITEM_READY,    /* in its destination's list */
    ITEM_WAITING,  /* in the wheel, until due_s */
    ITEM_TRYING,   /* in an attempt, or a report about it is being made */
    ITEM_FAILING,  /* will be reported as failed with `reason` */
    ITEM_EXPIRING, /* will be reported as expired */
    ITEM_HELD,     /* on hold, or waiting for an action on its message */
    ITEM_DAMAGED,  /* its record cannot be read */
    ITEM_DONE,     /* nothing of it is open */
    ITEM_STATES
};

struct index_item {
    uint32_t previous, next; /* in the one list its state names */
    uint32_t destination;    /* number; of an entry with ENTRY_SPLIT: its first unit record */
    uint32_t due_s;          /* WAITING: monotonic seconds of the shard */
    uint32_t reason;         /* number of an interned reason, 0: none */
    uint16_t open_count;     /* recipients */
    uint8_t attempts;
    uint8_t state : 4;    /* enum item_state */
    uint8_t fate : 2;     /* enum item_fate; only while NEW after a restart */
    uint8_t in_doubt : 1; /* its last attempt ended between the final dot and the answer */
};
static_assert(ITEM_STATES <= 16, "a state fits its bits");

#define ITEM_STATE_MASK 15u

/* What a restored item becomes when it is scheduled. */
enum item_fate { FATE_NONE, FATE_FAILS, FATE_EXPIRES, FATE_DAMAGED };

enum entry_flags {
    ENTRY_REPORT = 1,     /* a report of ours */
    ENTRY_SPLIT = 2,      /* has unit records */
    ENTRY_SORT = 4,       /* which of its items the open recipients belong to must be read first */
    ENTRY_HOLD = 8,       /* on hold by an operator */
    ENTRY_WANT_HOLD = 16, /* when no attempt is in hand; one of the three: */
    ENTRY_WANT_REMOVE = 32,
    ENTRY_WANT_BOUNCE = 48,
    ENTRY_IMAGED = 64,   /* it came back from a checkpoint */
    ENTRY_CHUNKED = 128, /* its record is a COMMIT, or a copy of one */
};
#define ENTRY_WANTS 48u /* two bits, one of the three wishes */

struct index_entry {
    uint64_t id;
    uint32_t segment, offset_16, record_bytes; /* struct spool_location */
    uint32_t arrival_s;                        /* wall clock */
    uint32_t size_bytes;                       /* of head and body; UINT32_MAX: that or more */
    uint32_t hash_next;
    struct index_item item;
    uint32_t bits;       /* first bitmap record; 0 with one recipient */
    uint16_t unit_count; /* recipients, open or not */
    uint8_t flags;
    uint8_t chunk; /* recipients an item holds at most; fixed at acceptance */
};
static_assert(sizeof(struct index_entry) == 64, "a message costs one cache line (QUEUE 2.5)");

struct index_unit {
    struct index_item item;
    uint32_t entry;
    uint32_t next_unit;
};
static_assert(sizeof(struct index_unit) == 32, "a further destination costs half a cache line");

#define INDEX_SLAB_SHIFT 10 /* 1024 entries or records: 72 or 32 KiB */
#define INDEX_SLAB_COUNT (1u << INDEX_SLAB_SHIFT)

struct index_slabs { /* memory that grows by whole slabs and stays where it is */
    void **slabs;
    uint32_t slab_count, slab_capacity;
    size_t slab_bytes;
};

struct index {
    struct index_slabs entries, records, buckets;
    uint32_t free_entry, free_record;    /* lists through hash_next and the first word */
    uint32_t entry_count;                /* in use */
    uint32_t bucket_count, bucket_level; /* linear hashing: grows by one bucket at a time */
    uint32_t found_count;                /* in the hash and in the order */
    uint32_t oldest, youngest;           /* ends of the order */
};

int index_init(struct index *index);
void index_deinit(struct index *index);
uint64_t index_bytes(const struct index *index);

/* ---- entries ---------------------------------------------------------------------------------- */

/* Zeroed, with `unit_count` open recipients; to be found only after index_insert(). */
int index_alloc(struct index *index, uint32_t unit_count, uint32_t *ret_number);
/* With its unit records and bitmap, out of the hash and the order. */
void index_free(struct index *index, uint32_t number);
/* By its id into the hash and the order of ids, behind `near` (INDEX_NONE: in front of all) or, when it was overtaken by
 * others, so far in front of it as it belongs or a bounded number of steps allows. Cannot fail. */
void index_insert(struct index *index, uint32_t number, uint32_t near);
/* The same, looking for its place from `near` on in both directions. False: too far away; it can be found by its id,
 * but has no place in the order until index_place() gives it one. */
bool index_insert_near(struct index *index, uint32_t number, uint32_t near);
/* Into the order directly behind `before` (INDEX_NONE: in front of all). */
void index_place(struct index *index, uint32_t number, uint32_t before);
uint32_t index_find(const struct index *index, uint64_t id); /* INDEX_NONE: no such message */

struct index_entry *index_entry(const struct index *index, uint32_t number);
struct index_item *index_item(const struct index *index, uint32_t number);
/* The message that an item belongs to. */
uint32_t index_entry_of(const struct index *index, uint32_t item_number);

/* In order of id, which is that of arrival but for transactions that were open at the same time. */
uint32_t index_older_first(const struct index *index, uint32_t after); /* INDEX_NONE: the oldest */
uint32_t index_before(const struct index *index, uint32_t number); /* INDEX_NONE: it is the first */

/* ---- units ------------------------------------------------------------------------------------ */

/* Appends a unit record to `entry`'s chain behind `last_unit` (INDEX_NONE: the first one: sets ENTRY_SPLIT). */
int index_unit_add(struct index *index, uint32_t entry, uint32_t last_unit, uint32_t *ret_number);
/* Walks the items of a message: its entry, or its unit records. Start with INDEX_NONE. */
uint32_t index_next_item(const struct index *index, uint32_t entry, uint32_t after);

/* Is this recipient open? A unit outside the message is not. */
bool index_unit_open(const struct index *index, uint32_t entry, uint32_t unit);
void index_unit_close(struct index *index, uint32_t entry, uint32_t unit);
/* The next run of open recipients at or behind `*first`; false when there is none. */
bool index_open_run(const struct index *index, uint32_t entry, uint32_t *first,
                    uint32_t *ret_count);
uint32_t index_open_count(const struct index *index, uint32_t entry); /* sum over its items */
/* The same from its bitmap; for an entry that has none, its item's. */
uint32_t index_open_bits(const struct index *index, uint32_t entry);
/* All its recipients as a bitmap of unit_count bits, lowest first, in whole octets. load: of an entry as index_alloc()
 * made it. */
void index_bits_load(struct index *index, uint32_t entry, const uint8_t *bits);
void index_bits_store(const struct index *index, uint32_t entry, uint8_t *bits);

/* ---- lists of items --------------------------------------------------------------------------- */

struct item_list {
    uint32_t first, last;
    uint32_t count;
};
void item_list_push(struct index *index, struct item_list *list, uint32_t item);
void item_list_push_front(struct index *index, struct item_list *list, uint32_t item);
void item_list_remove(struct index *index, struct item_list *list, uint32_t item);
uint32_t item_list_pop(struct index *index, struct item_list *list); /* INDEX_NONE: empty */

#endif
