/* core/timer.h - deadlines of one shard, kept in a hierarchical timing wheel.
 *
 * Why a wheel: every SMTP session re-arms its timeout on every command and almost none of them
 * fires, so arming and disarming are O(1) and only firing may cost more.
 *
 * Units:  nanoseconds of the monotonic clock; always an absolute deadline, never "in N ms".
 * Shard:  a wheel belongs to one shard, and every call is made there.
 * Memory: timers are embedded in what they guard; the wheel allocates nothing.
 */
#ifndef KILAT_CORE_TIMER_H
#define KILAT_CORE_TIMER_H

#include "core/list.h"

struct timer;
typedef void timer_fire_fn(struct timer *timer);

struct timer {
    struct list_node node; /* private to timer.c */
    uint64_t deadline_ns;  /* valid while armed */
    timer_fire_fn *fire;   /* called once, with the timer already disarmed */
};

#define TIMER_WHEEL_BITS 6
#define TIMER_WHEEL_SLOTS (1u << TIMER_WHEEL_BITS)
#define TIMER_WHEELS 5

struct timer_wheel {
    struct list_node slots[TIMER_WHEELS][TIMER_WHEEL_SLOTS];
    uint64_t used[TIMER_WHEELS]; /* one bit a slot that holds timers */
    struct list_node due;        /* armed for a time already past: fire in the next advance */
    uint64_t now_tick;
    uint64_t due_tick; /* up to here a deadline is past; ahead of now_tick while advancing */
    size_t armed_count;
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns);
/* Fires what is due, in order of tick; returns how many fired. Callbacks may arm and disarm any
 * timer. */
size_t timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ns);
/* No timer fires before this; UINT64_MAX when none is armed. May be early, never late. */
uint64_t timer_wheel_next_ns(const struct timer_wheel *wheel);
/* Asserts everything that holds between calls, by looking at every timer: for tests. */
void timer_wheel_check(const struct timer_wheel *wheel);

void timer_init(struct timer *timer, timer_fire_fn *fire);
/* Arms `timer`, moving it if it is armed already. A deadline in the past fires in the next
 * timer_wheel_advance(), never inside this call, so callers need not be reentrant.
 * Borrows `timer` until it fires or is disarmed: disarm before freeing its owner. Cannot fail. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns);
void timer_disarm(struct timer_wheel *wheel, struct timer *timer); /* nothing when disarmed */
static inline bool timer_armed(const struct timer *timer)
{
    return list_linked(&timer->node);
}

#endif
