#include "queue/queue_private.h"

#include "core/assert.h"
#include "core/clock.h"
#include <errno.h>
#include <stdlib.h>

/* Most mail waits for one of a few reasons, so a reason is kept once and named by a number. A peer that makes every
 * reply different meets the bound, and only the class of its status is kept. */
#define REASONS_MAX 8192
#define REASON_SOME_LATER 1u /* "4.0.0" and "5.0.0", always there */
#define REASON_SOME_NEVER 2u
#define REASONS_FIRST 64

struct reason_wanted {
    const uint8_t *status;
    struct slice text;
};

static bool reason_equal(const struct hash_node *node, const void *wanted)
{
    const struct reason *reason = CONTAINER_OF(node, struct reason, node);
    const struct reason_wanted *want = wanted;

    return memcmp(reason->status, want->status, 3) == 0 &&
           slice_equal(slice_of(reason->text, reason->size), want->text);
}

static uint64_t reason_hash(const struct reasons *reasons, const struct reason_wanted *wanted)
{
    uint64_t status =
        wanted->status[0] | (uint64_t)wanted->status[1] << 8 | (uint64_t)wanted->status[2] << 16;

    return hash_bytes(&reasons->key, wanted->text) ^ status;
}

static int grow(struct reasons *reasons)
{
    uint32_t capacity = reasons->capacity == 0 ? REASONS_FIRST : reasons->capacity * 2;
    struct reason **grown;

    if (reasons->capacity >= REASONS_MAX)
        return -ENOSPC;
    grown = realloc(reasons->by_number, capacity * sizeof(struct reason *));
    if (grown == NULL)
        return -ENOMEM;
    memset(grown + reasons->capacity, 0, (capacity - reasons->capacity) * sizeof(struct reason *));
    reasons->by_number = grown;
    reasons->capacity = capacity;
    return 0;
}

static uint32_t free_number(struct reasons *reasons)
{
    for (uint32_t i = 0; i < reasons->capacity; i++) {
        uint32_t number = (reasons->free_first + i) % reasons->capacity;

        if (number != REASON_NONE && reasons->by_number[number] == NULL)
            return number;
    }
    return REASON_NONE;
}

static struct reason *add(struct reasons *reasons, const struct reason_wanted *wanted)
{
    struct reason *reason;
    uint32_t number;

    if (reasons->count + 1 >= reasons->capacity && grow(reasons) < 0)
        return NULL;
    number = free_number(reasons);
    ASSERT(number != REASON_NONE);
    reason = malloc(sizeof(*reason) + wanted->text.size);
    if (reason == NULL)
        return NULL;
    *reason = (struct reason){.number = number, .size = (uint16_t)wanted->text.size};
    memcpy(reason->status, wanted->status, 3);
    if (wanted->text.size > 0)
        memcpy(reason->text, wanted->text.data, wanted->text.size);
    reasons->by_number[number] = reason;
    reasons->free_first = number + 1;
    reasons->count++;
    hash_table_insert(&reasons->table, &reason->node, reason_hash(reasons, wanted));
    return reason;
}

int reasons_init(struct reasons *reasons)
{
    const uint8_t later[3] = {4, 0, 0}, never[3] = {5, 0, 0};
    int r;

    *reasons = (struct reasons){.count = 0};
    random_bytes(&reasons->key, sizeof(reasons->key));
    r = hash_table_init(&reasons->table, REASONS_FIRST);
    if (r < 0)
        return r;
    if (reason_intern(reasons, later, SLICE_NONE) != REASON_SOME_LATER ||
        reason_intern(reasons, never, SLICE_NONE) != REASON_SOME_NEVER) {
        reasons_deinit(reasons);
        return -ENOMEM;
    }
    return 0;
}

void reasons_deinit(struct reasons *reasons)
{
    for (uint32_t i = 0; i < reasons->capacity; i++)
        free(reasons->by_number[i]);
    free(reasons->by_number);
    hash_table_deinit(&reasons->table);
    *reasons = (struct reasons){.count = 0};
}

uint32_t reason_intern(struct reasons *reasons, const uint8_t status[3], struct slice text)
{
    struct reason_wanted wanted = {status, slice_first(text, QUEUE_REASON_MAX)};
    struct hash_node *node =
        hash_table_find(&reasons->table, reason_hash(reasons, &wanted), reason_equal, &wanted);
    struct reason *reason =
        node == NULL ? add(reasons, &wanted) : CONTAINER_OF(node, struct reason, node);

    if (reason == NULL) {
        uint32_t some = status[0] == 5 ? REASON_SOME_NEVER : REASON_SOME_LATER;

        if (reasons->count <= REASON_SOME_NEVER - 1)
            return REASON_NONE; /* only while the first two are being made */
        reason = reasons->by_number[some];
    }
    reason->references++;
    return reason->number;
}

static struct reason *get(const struct reasons *reasons, uint32_t number)
{
    ASSERT(number < reasons->capacity && reasons->by_number[number] != NULL);
    return reasons->by_number[number];
}

void reason_ref(struct reasons *reasons, uint32_t number)
{
    if (number != REASON_NONE)
        get(reasons, number)->references++;
}

void reason_unref(struct reasons *reasons, uint32_t number)
{
    struct reason *reason;

    if (number == REASON_NONE)
        return;
    reason = get(reasons, number);
    ASSERT(reason->references > 0);
    if (--reason->references > 0)
        return;
    ASSERT(number > REASON_SOME_NEVER); /* the first two keep the reference of their making */
    hash_table_remove(&reasons->table, &reason->node);
    reasons->by_number[number] = NULL;
    reasons->free_first = number;
    reasons->count--;
    free(reason);
}

struct slice reason_text(const struct reasons *reasons, uint32_t number)
{
    const struct reason *reason;

    if (number == REASON_NONE)
        return SLICE_NONE;
    reason = get(reasons, number);
    return slice_of(reason->text, reason->size);
}

const uint8_t *reason_status(const struct reasons *reasons, uint32_t number)
{
    return get(reasons, number)->status;
}

bool reason_stamp(const struct reasons *reasons, uint32_t number, uint32_t stamp)
{
    struct reason *reason = get(reasons, number);
    bool first = reason->image_stamp != stamp;

    reason->image_stamp = stamp;
    return first;
}

void reason_unstamp(const struct reasons *reasons, uint32_t number)
{
    get(reasons, number)->image_stamp = 0;
}
