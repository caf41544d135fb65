#include "core/timer.h"
#include <criterion/criterion.h>
#include <stdlib.h>

#define TICK_NS (8 * MS_NS)
#define TIMERS 300
#define STEPS 60000

/* ---- beside a naive list --------------------------------------------------------------------- */

struct probe {
    struct timer timer;
    bool armed; /* what the naive list says */
    uint64_t deadline_ns;
};

/* One test's world: the callback reaches it through the probes' array. */
struct world {
    struct timer_wheel wheel;
    uint64_t now_ns;
    uint64_t random;
    size_t fired;
    struct probe probes[TIMERS];
};

static struct world *world;

static uint64_t next_random(void)
{
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return world->random >> 24;
}

/* From far in the past to years ahead; most of them near. */
static uint64_t random_deadline(void)
{
    uint64_t span = 1ull << (next_random() % 56);
    uint64_t ahead = next_random() % span;

    if (next_random() % 10 == 0)
        return world->now_ns - MIN(world->now_ns, ahead);
    return world->now_ns + ahead;
}

static void arm(struct probe *probe, uint64_t deadline_ns)
{
    timer_arm(&world->wheel, &probe->timer, deadline_ns);
    probe->armed = true;
    probe->deadline_ns = deadline_ns;
}

static void disarm(struct probe *probe)
{
    timer_disarm(&world->wheel, &probe->timer);
    probe->armed = false;
}

static void fire(struct timer *timer)
{
    struct probe *probe = CONTAINER_OF(timer, struct probe, timer);

    cr_assert(probe->armed, "only what is armed fires");
    cr_assert(!timer_armed(timer), "already disarmed in its callback");
    cr_assert_leq(probe->deadline_ns, world->now_ns, "never early");
    probe->armed = false;
    world->fired++;
    if (next_random() % 3 == 0)
        arm(&world->probes[next_random() % TIMERS], random_deadline());
    if (next_random() % 3 == 0)
        disarm(&world->probes[next_random() % TIMERS]);
}

static void check_against_list(void)
{
    size_t armed = 0;

    timer_wheel_check(&world->wheel);
    for (size_t i = 0; i < TIMERS; i++) {
        struct probe *probe = &world->probes[i];

        cr_assert_eq(timer_armed(&probe->timer), probe->armed);
        armed += probe->armed;
    }
    cr_assert_eq(world->wheel.armed_count, armed);
}

static uint64_t least_deadline(void)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < TIMERS; i++) {
        if (world->probes[i].armed)
            least = MIN(least, world->probes[i].deadline_ns);
    }
    return least;
}

static uint64_t random_step(void)
{
    return next_random() % (1ull << (next_random() % 46));
}

static void advance(uint64_t step_ns)
{
    size_t fired_before = world->fired;

    cr_assert_leq(timer_wheel_next_ns(&world->wheel),
                  least_deadline() == UINT64_MAX ? UINT64_MAX : least_deadline() + TICK_NS,
                  "the next time is never late");
    world->now_ns += step_ns;
    cr_assert_eq(timer_wheel_advance(&world->wheel, world->now_ns), world->fired - fired_before);
    check_against_list();
    /* A second call at the same time fires what callbacks have armed for the past, then comes to
     * rest: what is armed lies ahead, by less than a tick at least. */
    for (int i = 0; i < 1000 && timer_wheel_next_ns(&world->wheel) == 0; i++)
        (void)timer_wheel_advance(&world->wheel, world->now_ns);
    cr_assert_geq(least_deadline(), world->now_ns / TICK_NS * TICK_NS);
}

static void begin(uint64_t now_ns, uint64_t seed)
{
    world = calloc(1, sizeof(*world));
    cr_assert_not_null(world);
    world->now_ns = now_ns;
    world->random = seed;
    timer_wheel_init(&world->wheel, now_ns);
    for (size_t i = 0; i < TIMERS; i++)
        timer_init(&world->probes[i].timer, fire);
}

/* Goal: whatever is done, a timer fires once, not before its deadline and in the first advance
 * after it. Method: random arming, disarming and steps of time from nothing to days, beside a
 * list that is searched. */
static void agree_with_list(uint64_t now_ns, uint64_t seed)
{
    begin(now_ns, seed);
    for (int step = 0; step < STEPS; step++) {
        struct probe *probe = &world->probes[next_random() % TIMERS];

        switch (next_random() % 4) {
        case 0:
        case 1:
            arm(probe, random_deadline());
            break;
        case 2:
            disarm(probe);
            break;
        case 3:
            advance(random_step());
            break;
        }
    }
    cr_expect_gt(world->fired, 1000);
    free(world);
}

Test(timer, agrees_with_a_naive_list)
{
    agree_with_list(0, 1);
    agree_with_list(123456789 * SECOND_NS, 2);
}

Test(timer, agrees_where_the_highest_wheel_wraps)
{
    agree_with_list((TICK_NS << 30) - 40 * SECOND_NS, 3);
}

/* ---- single behaviours ----------------------------------------------------------------------- */

static struct timer_wheel wheel;
static size_t count;

static void count_one(struct timer *timer)
{
    (void)timer;
    count++;
}

Test(timer, waits_for_its_deadline_at_every_distance)
{
    for (int bits = 0; bits < 50; bits++) {
        uint64_t start_ns = 777777777;
        uint64_t deadline_ns = start_ns + (1ull << bits);
        struct timer timer;
        uint64_t now_ns;

        count = 0;
        timer_wheel_init(&wheel, start_ns);
        timer_init(&timer, count_one);
        timer_arm(&wheel, &timer, deadline_ns);
        /* As a shard does: sleep until the wheel says so. */
        while ((now_ns = timer_wheel_next_ns(&wheel)) < deadline_ns) {
            (void)timer_wheel_advance(&wheel, now_ns);
            cr_expect_eq(count, 0);
        }
        cr_expect_lt(now_ns, deadline_ns + TICK_NS);
        (void)timer_wheel_advance(&wheel, now_ns);
        cr_expect_eq(count, 1);
        cr_expect_eq(timer_wheel_next_ns(&wheel), UINT64_MAX);
    }
}

static void arm_again_in_the_past(struct timer *timer)
{
    count++;
    timer_arm(&wheel, timer, timer->deadline_ns + SECOND_NS);
}

Test(timer, one_that_arms_itself_for_the_past_fires_once_an_advance)
{
    struct timer timer;

    timer_wheel_init(&wheel, SECOND_NS);
    timer_init(&timer, arm_again_in_the_past);
    timer_arm(&wheel, &timer, 2 * SECOND_NS);
    /* Far too late, as after a stopped machine: a second of its time for each look, not all at once. */
    for (size_t i = 1; i < 98; i++) {
        cr_expect_eq(timer_wheel_advance(&wheel, 100 * SECOND_NS), 1);
        cr_expect_eq(timer_wheel_next_ns(&wheel), 0);
        cr_expect_eq(count, i);
    }
}

static struct timer first, second;

static void disarm_second(struct timer *timer)
{
    (void)timer;
    timer_disarm(&wheel, &second);
}

Test(timer, a_callback_may_disarm_its_neighbour)
{
    timer_wheel_init(&wheel, 0);
    timer_init(&first, disarm_second);
    timer_init(&second, count_one);
    timer_arm(&wheel, &first, SECOND_NS);
    timer_arm(&wheel, &second, SECOND_NS);
    cr_expect_eq(timer_wheel_advance(&wheel, 2 * SECOND_NS), 1);
    cr_expect_eq(count, 0);
    timer_wheel_check(&wheel);
}

Test(timer, disarming_twice_and_a_clock_that_stands_still)
{
    timer_wheel_init(&wheel, 5 * SECOND_NS);
    timer_init(&first, count_one);
    timer_disarm(&wheel, &first);
    timer_arm(&wheel, &first, 6 * SECOND_NS);
    timer_disarm(&wheel, &first);
    timer_disarm(&wheel, &first);
    cr_expect_eq(timer_wheel_next_ns(&wheel), UINT64_MAX, "an empty slot wakes nobody");
    timer_arm(&wheel, &first, 6 * SECOND_NS);
    cr_expect_eq(timer_wheel_advance(&wheel, 5 * SECOND_NS), 0);
    cr_expect_eq(timer_wheel_advance(&wheel, 4 * SECOND_NS), 0,
                 "time that runs back fires nothing");
    cr_expect_eq(timer_wheel_advance(&wheel, 7 * SECOND_NS), 1);
}
