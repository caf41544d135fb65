#include "core/timer.h"

#include "core/assert.h"

/* How the wheels are read. A timer whose tick differs from now_tick first in the w-th group of six
 * bits lies in wheel w, in the slot those six bits of its tick name. So everything in wheel 0 is
 * due in the 64 ticks that share now's higher bits, everything in wheel 1 in the 64 blocks of 64
 * ticks around that, and the lowest wheel that is not empty holds the earliest timer. When time
 * reaches the begin of a slot of a higher wheel its timers are dealt out to lower ones (at most
 * once a wheel).
 *
 *     now_tick  ... |aaaaaa|bbbbbb|cccccc|
 *     tick      ... |aaaaaa|bbbbbb|dddddd|   wheel 0, slot d > c (or = c just after dealing out)
 *     tick      ... |aaaaaa|eeeeee|??????|   wheel 1, slot e > b
 *
 * Only the highest wheel wraps: a deadline beyond it is put in its farthest slot and dealt out
 * again. */
#define TIMER_TICK_NS (8 * MS_NS) /* far finer than any SMTP timeout, coarse enough to batch */
#define TIMER_SLOT_MASK (TIMER_WHEEL_SLOTS - 1)
#define TIMER_TOP (TIMER_WHEELS - 1)
#define TIMER_TOP_SHIFT (TIMER_WHEEL_BITS * TIMER_TOP)
static_assert(TIMER_WHEEL_SLOTS == 64, "one word says which slots are in use");
static_assert((TIMER_TICK_NS << (TIMER_WHEEL_BITS * TIMER_WHEELS)) > 24 * 30 * HOUR_NS,
              "a month fits without being dealt out twice");

static uint64_t tick_of(uint64_t deadline_ns)
{
    return deadline_ns / TIMER_TICK_NS + (deadline_ns % TIMER_TICK_NS != 0); /* never early */
}

static uint32_t slot_of(uint64_t tick, uint32_t w)
{
    return (uint32_t)(tick >> (TIMER_WHEEL_BITS * w)) & TIMER_SLOT_MASK;
}

static uint32_t wheel_of(uint64_t tick, uint64_t now_tick)
{
    uint64_t differs = (tick ^ now_tick) | TIMER_SLOT_MASK;
    uint32_t w = (uint32_t)(63 - __builtin_clzll(differs)) / TIMER_WHEEL_BITS;

    return MIN(w, (uint32_t)TIMER_TOP);
}

/* Puts `timer` where its tick says, seen from now_tick. */
static void place(struct timer_wheel *wheel, struct timer *timer, uint64_t tick)
{
    uint64_t farthest = wheel->now_tick + ((uint64_t)TIMER_SLOT_MASK << TIMER_TOP_SHIFT);
    uint32_t w, slot;

    tick = MIN(tick, farthest);
    w = wheel_of(tick, wheel->now_tick);
    slot = slot_of(tick, w);
    list_push_back(&wheel->slots[w][slot], &timer->node);
    wheel->used[w] |= 1ull << slot;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns)
{
    *wheel = (struct timer_wheel){.now_tick = now_ns / TIMER_TICK_NS};
    wheel->due_tick = wheel->now_tick;
    list_init(&wheel->due);
    for (uint32_t w = 0; w < TIMER_WHEELS; w++) {
        for (uint32_t slot = 0; slot < TIMER_WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[w][slot]);
    }
}

/* The lowest wheel in use, its next slot, and the tick at which that slot begins. */
static bool next_slot(const struct timer_wheel *wheel, uint32_t *ret_w, uint32_t *ret_slot,
                      uint64_t *ret_tick)
{
    for (uint32_t w = 0; w < TIMER_WHEELS; w++) {
        uint32_t shift = TIMER_WHEEL_BITS * w;
        uint32_t here = slot_of(wheel->now_tick, w);
        uint64_t turned, ahead;

        if (wheel->used[w] == 0)
            continue;
        turned =
            here == 0 ? wheel->used[w] : (wheel->used[w] >> here) | (wheel->used[w] << (64 - here));
        ahead = (uint64_t)__builtin_ctzll(turned);
        *ret_w = w;
        *ret_slot = (here + (uint32_t)ahead) & TIMER_SLOT_MASK;
        *ret_tick = ((wheel->now_tick >> shift) + ahead) << shift;
        return true;
    }
    return false;
}

/* A callback may disarm what stands behind it in the list, so the list is taken from the front. */
static size_t fire_all(struct timer_wheel *wheel, struct list_node *timers)
{
    struct list_node *node;
    size_t fired = 0;

    while ((node = list_pop_front(timers)) != NULL) {
        struct timer *timer = CONTAINER_OF(node, struct timer, node);

        wheel->armed_count--;
        fired++;
        timer->fire(timer);
    }
    return fired;
}

static void deal_out(struct timer_wheel *wheel, struct list_node *timers)
{
    struct list_node *node;

    while ((node = list_pop_front(timers)) != NULL) {
        struct timer *timer = CONTAINER_OF(node, struct timer, node);

        place(wheel, timer, tick_of(timer->deadline_ns));
    }
}

size_t timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ns)
{
    uint64_t target = MAX(now_ns / TIMER_TICK_NS, wheel->now_tick);
    struct list_node ready;
    uint32_t w, slot;
    uint64_t tick;
    size_t fired;

    /* From here on whatever a callback arms for a time already past waits for the next call. */
    wheel->due_tick = target;
    list_init(&ready);
    list_splice_back(&ready, &wheel->due);
    fired = fire_all(wheel, &ready);
    while (next_slot(wheel, &w, &slot, &tick) && tick <= target) {
        wheel->now_tick = tick;
        list_splice_back(&ready, &wheel->slots[w][slot]);
        wheel->used[w] &= ~(1ull << slot);
        if (w == 0)
            fired += fire_all(wheel, &ready);
        else
            deal_out(wheel, &ready);
    }
    wheel->now_tick = target;
    return fired;
}

uint64_t timer_wheel_next_ns(const struct timer_wheel *wheel)
{
    uint32_t w, slot;
    uint64_t tick;

    if (!list_empty(&wheel->due))
        return 0;
    if (!next_slot(wheel, &w, &slot, &tick))
        return UINT64_MAX;
    return tick * TIMER_TICK_NS;
}

void timer_init(struct timer *timer, timer_fire_fn *fire)
{
    *timer = (struct timer){.fire = fire};
    list_node_init(&timer->node);
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns)
{
    uint64_t tick = tick_of(deadline_ns);

    timer_disarm(wheel, timer);
    timer->deadline_ns = deadline_ns;
    wheel->armed_count++;
    if (tick <= wheel->due_tick)
        list_push_back(&wheel->due, &timer->node);
    else
        place(wheel, timer, tick);
}

/* The slot that `list` is the head of loses its bit; other lists (due, those being fired) have
 * none. */
static void clear_slot(struct timer_wheel *wheel, const struct list_node *list)
{
    uintptr_t first = (uintptr_t)&wheel->slots[0][0];
    uintptr_t offset = (uintptr_t)list - first;
    size_t index = offset / sizeof(struct list_node);

    if ((uintptr_t)list < first || offset >= sizeof(wheel->slots))
        return;
    wheel->used[index / TIMER_WHEEL_SLOTS] &= ~(1ull << (index % TIMER_WHEEL_SLOTS));
}

void timer_disarm(struct timer_wheel *wheel, struct timer *timer)
{
    struct list_node *neighbour = timer->node.next;

    if (!timer_armed(timer))
        return;
    ASSERT(wheel->armed_count > 0);
    list_remove(&timer->node);
    wheel->armed_count--;
    if (list_empty(neighbour)) /* only a list's head can be left alone */
        clear_slot(wheel, neighbour);
}

void timer_wheel_check(const struct timer_wheel *wheel)
{
    size_t count = 0;

    list_for_each (node, &wheel->due)
        count++;
    for (uint32_t w = 0; w < TIMER_WHEELS; w++) {
        for (uint32_t slot = 0; slot < TIMER_WHEEL_SLOTS; slot++) {
            const struct list_node *list = &wheel->slots[w][slot];

            ASSERT(list_empty(list) == ((wheel->used[w] >> slot & 1) == 0));
            list_for_each (node, list) {
                const struct timer *timer = CONTAINER_OF(node, struct timer, node);
                uint64_t tick = tick_of(timer->deadline_ns);

                count++;
                ASSERT(tick > wheel->now_tick);
                ASSERT(w == TIMER_TOP || slot == slot_of(tick, w));
                ASSERT(w == TIMER_TOP || w == wheel_of(tick, wheel->now_tick));
            }
        }
    }
    ASSERT(count == wheel->armed_count);
}
