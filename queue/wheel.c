#include "queue/queue_private.h"

#include "core/assert.h"

/* A wheel of whole seconds over the index's items, by number: 64 slots of 1 s, of 64 s, of 68 min, of 3 days. An item
 * goes into the finest level that reaches its second and is moved down when its slot's time begins. The seconds are
 * monotonic, so that a jump of the wall clock neither wakes nor delays what waits. */
#define WHEEL_MASK (WHEEL_SLOTS - 1)
#define WHEEL_REACH_S                                                                              \
    ((1u << (WHEEL_BITS * WHEEL_LEVELS)) - 1) /* 194 days: longer waits are looked at again then */

static uint32_t level_shift(uint32_t level)
{
    return level * WHEEL_BITS;
}

void wheel_init(struct wheel *wheel, uint32_t now_s)
{
    *wheel = (struct wheel){.now_s = now_s};
}

/* `base_s` is the second that is being dealt with; the item is due at or behind it. */
static void put(struct index *index, struct wheel *wheel, uint32_t base_s, uint32_t item)
{
    uint32_t due_s = MIN(index_item(index, item)->due_s, base_s + WHEEL_REACH_S);
    uint32_t level = 0, slot;

    due_s = MAX(due_s, base_s);
    while (level + 1 < WHEEL_LEVELS && (due_s - base_s) >> level_shift(level + 1) != 0)
        level++;
    slot = due_s >> level_shift(level) & WHEEL_MASK;
    item_list_push(index, &wheel->slots[level][slot], item);
    wheel->used[level] |= 1ull << slot;
}

void wheel_put(struct index *index, struct wheel *wheel, uint32_t item)
{
    struct index_item *it = index_item(index, item);

    if (it->due_s <= wheel->now_s)
        it->due_s = wheel->now_s + 1;
    put(index, wheel, wheel->now_s, item);
    wheel->count++;
}

static void take_from(struct index *index, struct wheel *wheel, uint32_t level, uint32_t slot,
                      uint32_t item)
{
    struct item_list *list = &wheel->slots[level][slot];

    item_list_remove(index, list, item);
    if (list->first == INDEX_NONE) {
        wheel->used[level] &= ~(1ull << slot);
        list->count = 0; /* items taken out of its middle were not counted */
    }
}

/* Which list an item is in was decided by the time of its insertion. An item between two others does not touch the
 * ends of its list, so the list need not be known; one at an end is looked for among the ends of all slots. */
void wheel_remove(struct index *index, struct wheel *wheel, uint32_t item)
{
    struct index_item *it = index_item(index, item);
    bool found = false;

    ASSERT(wheel->count > 0);
    wheel->count--;
    if (it->previous != INDEX_NONE && it->next != INDEX_NONE) {
        index_item(index, it->previous)->next = it->next;
        index_item(index, it->next)->previous = it->previous;
        it->previous = INDEX_NONE;
        it->next = INDEX_NONE;
        return;
    }
    for (uint32_t level = 0; level < WHEEL_LEVELS && !found; level++) {
        for (uint32_t slot = 0; slot < WHEEL_SLOTS && !found; slot++) {
            struct item_list *list = &wheel->slots[level][slot];

            if (list->first == item || list->last == item) {
                take_from(index, wheel, level, slot, item);
                found = true;
            }
        }
    }
    ASSERT(found);
}

/* The next second at which a slot of this level begins that holds anything; UINT32_MAX: none. */
static uint32_t next_of_level(const struct wheel *wheel, uint32_t level)
{
    uint32_t here = wheel->now_s >> level_shift(level);
    uint64_t used = wheel->used[level];
    uint32_t turn = (here + 1) & WHEEL_MASK;

    if (used == 0)
        return UINT32_MAX;
    /* Turned so that the slot behind the present one comes first. */
    used = turn == 0 ? used : used >> turn | used << (WHEEL_SLOTS - turn);
    return (here + 1 + (uint32_t)__builtin_ctzll(used)) << level_shift(level);
}

uint32_t wheel_next_s(const struct wheel *wheel)
{
    uint32_t next_s = UINT32_MAX;

    for (uint32_t level = 0; level < WHEEL_LEVELS; level++)
        next_s = MIN(next_s, next_of_level(wheel, level));
    return next_s;
}

/* Moves what lies in the slots that begin at `at_s` one level down or, from the finest, out. False: budget used up. */
static bool deal_with(struct index *index, struct wheel *wheel, uint32_t at_s, uint32_t *budget,
                      struct item_list *due)
{
    for (uint32_t level = WHEEL_LEVELS; level-- > 0;) {
        uint32_t slot = at_s >> level_shift(level) & WHEEL_MASK;
        struct item_list *list = &wheel->slots[level][slot];

        if ((at_s & ((1u << level_shift(level)) - 1)) != 0)
            continue;
        while (list->first != INDEX_NONE) {
            uint32_t item = list->first;

            if (*budget == 0)
                return false;
            (*budget)--;
            take_from(index, wheel, level, slot, item);
            if (level > 0) {
                put(index, wheel, at_s, item);
            } else {
                item_list_push(index, due, item);
                wheel->count--;
            }
        }
    }
    return true;
}

bool wheel_advance(struct index *index, struct wheel *wheel, uint32_t now_s, uint32_t budget,
                   struct item_list *due)
{
    for (;;) {
        uint32_t next_s = wheel_next_s(wheel);

        if (next_s > now_s)
            break;
        if (!deal_with(index, wheel, next_s, &budget, due)) {
            wheel->now_s = next_s - 1; /* the same second again, with a new budget */
            return true;
        }
        wheel->now_s = next_s;
    }
    wheel->now_s = MAX(wheel->now_s, now_s);
    return false;
}
