#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>

static void jump(struct world *world, int64_t seconds)
{
    world->shards[0].wall_ns += (uint64_t)(seconds * (int64_t)SECOND_NS);
}

/* The wall clock moves while nobody is there. */
static void away(struct world *world, int64_t seconds)
{
    world_crash(world);
    jump(world, seconds);
    world_recover(world);
}

static bool doubted(struct world *world)
{
    return world_counters(world).clock_doubted;
}

static uint64_t standing_mail(struct world *world)
{
    uint64_t id;

    world->down = "mx";
    id = world_submit(world, 0, "a@x.net", "ok@b.mx");
    return id;
}

/* Goal: a clock that jumps by days while the server runs returns nothing to its sender. */
Test(clock, a_jump_expires_nothing)
{
    struct world *world = world_started();
    uint64_t id = standing_mail(world);

    jump(world, 30 * 86400);
    world_submit(world, 0, "b@x.net", "ok@home");
    cr_expect(doubted(world));
    cr_expect_eq(world_counters(world).clock_jumps, 1);
    cr_expect_eq(world_counters(world).delivered, 1, "mail is accepted and delivered");
    world_advance(world, 23 * HOUR_MS);
    cr_expect_eq(world_outcome(world, id, 0), '\0');
    cr_expect_eq(world->reports, 0);
    cr_expect_gt(world_counters(world).clock_doubted_s, 0);
    world_advance(world, 2 * HOUR_MS);
    cr_expect_not(doubted(world));
    cr_expect_eq(world_outcome(world, id, 0), 'e', "a day has passed: it is believed");
    world_destroy(world);
}

Test(clock, an_operator_accepts_it)
{
    struct world *world = world_started();
    uint64_t id = standing_mail(world);

    jump(world, 30 * 86400);
    world_submit(world, 0, "b@x.net", "ok@home");
    world_advance(world, HOUR_MS);
    cr_assert(doubted(world));
    queue_clock_accept(world->queues[0]);
    world_run(world);
    cr_expect_not(doubted(world));
    cr_expect_eq(world_outcome(world, id, 0), 'e');
    queue_clock_accept(world->queues[0]);
    world_destroy(world);
}

/* Goal: while it is doubted nothing bounces either: what is refused for good is put off, what cannot go anywhere waits. */
Test(clock, nothing_bounces_meanwhile)
{
    struct world *world = world_started();
    uint64_t refused, nowhere, empty;

    jump(world, -7200);
    world_submit(world, 0, "b@x.net", "ok@home");
    cr_assert(doubted(world));
    refused = world_submit(world, 0, "a@x.net", "never@b.mx");
    nowhere = world_submit(world, 0, "a@x.net", "ok@b.never");
    empty = world_submit(world, 0, "", "never@b.mx");
    world_advance(world, HOUR_MS);
    cr_expect_eq(world->reports, 0);
    cr_expect_eq(world_outcome(world, refused, 0), '\0');
    cr_expect_eq(world_outcome(world, nowhere, 0), '\0');
    cr_expect_eq(world_outcome(world, empty, 0), '\0', "nor is it dropped");
    queue_clock_accept(world->queues[0]);
    world_run(world);
    world_advance(world, 5 * HOUR_MS);
    cr_expect_eq(world->reports, 2);
    cr_expect_eq(world_outcome(world, refused, 0), 'b');
    cr_expect_eq(world_outcome(world, nowhere, 0), 'b');
    cr_expect_eq(world_outcome(world, empty, 0), 'b');
    world_destroy(world);
}

/* Goal: steps of less than an hour raise no doubt, and expire nothing early either. */
static const struct row {
    const char *name;
    int64_t before_s, after_s; /* steps before the message comes, and behind that */
} rows[] = {
    {"no step", 0, 0},
    {"forward", 0, 3000},
    {"back", 0, -3000},
    {"forward before it came", 3000, 0},
    {"back before it came", -3000, 0},
    {"back, and forward again", -3000, 3000},
};

Test(clock, small_steps_expire_nothing_early)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct world *world = world_started();
        uint64_t id;

        jump(world, rows[i].before_s);
        world_advance(world, MINUTE_MS);
        id = standing_mail(world);
        jump(world, rows[i].after_s);
        world_advance(world, MINUTE_MS);
        cr_expect_not(doubted(world), "%s", rows[i].name);
        world_advance(world, 5 * DAY_MS - 3 * MINUTE_MS);
        cr_expect_eq(world_outcome(world, id, 0), '\0', "%s", rows[i].name);
        world_advance(world, 2 * HOUR_MS);
        cr_expect_eq(world_outcome(world, id, 0), 'e', "%s", rows[i].name);
        world_destroy(world);
    }
}

/* Goal: at a start the wall clock is compared with what the spool brings back. */
static const struct start_row {
    const char *name;
    int64_t moved_s;
    bool doubted;
} starts[] = {
    {"as it was", 0, false},
    {"a short stop", 3600, false},
    {"a long week-end", 47 * 3600, false},
    {"more than two days", 49 * 3600, true},
    {"a dead battery", -86400 * 365, true},
    {"two minutes back", -120, true},
    {"a second back", -1, false},
};

Test(clock, at_a_start)
{
    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        struct world *world = world_started();
        uint64_t id = standing_mail(world);

        away(world, starts[i].moved_s);
        cr_expect_eq(doubted(world), starts[i].doubted, "%s", starts[i].name);
        cr_expect_eq(world_outcome(world, id, 0), '\0');
        away(world, 0);
        cr_expect_eq(doubted(world), starts[i].doubted, "%s, also at the next one", starts[i].name);
        world_destroy(world);
    }
}

/* Goal: a spool whose clock is a month ahead: everything would be too old. */
Test(clock, a_start_in_the_future_expires_nothing)
{
    struct world *world = world_started();
    uint64_t id = standing_mail(world);

    away(world, 30 * 86400);
    world->down = NULL;
    world_advance(world, HOUR_MS);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    cr_expect_eq(world->reports, 0);
    world_destroy(world);
}

/* Goal: mail that is tried again and again shows that the clock was right a moment ago, however old it is. */
Test(clock, a_retry_is_a_record)
{
    struct world *world = world_started();

    world_submit(world, 0, "a@x.net", "later@b.mx");
    world_advance(world, 4 * DAY_MS);
    world_checkpoint(world, 0);
    away(world, 3600);
    cr_expect_not(doubted(world));
    world_destroy(world);
}

/* Goal: a retry that waits longer than today's settings allow was put off under others; it does not come from the future. */
Test(clock, shorter_waits_raise_no_doubt)
{
    struct world *world = world_started();

    world->config.retry_first_ms = world->config.retry_max_ms = DAY_MS;
    queue_configure(world->queues[0], &world->config);
    world_submit(world, 0, "a@x.net", "later@b.mx");
    world_checkpoint(world, 0);
    world->config.retry_first_ms = world->config.retry_max_ms = MINUTE_MS;
    away(world, 60);
    cr_expect_not(doubted(world));
    world_destroy(world);
}

Test(clock, an_empty_spool_says_nothing)
{
    struct world *world = world_started();

    away(world, -86400 * 365);
    cr_expect_not(doubted(world));
    world_destroy(world);
}
