#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>

#define LIMIT_MS (6 * HOUR_MS)

static struct world *world_with_limit(void)
{
    struct world *world = world_create(1);

    world->config.expire_ms = LIMIT_MS;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    return world;
}

/* Goal: mail is expired by its age wherever it sits: each row is a place where it could be forgotten. */
static const struct place {
    const char *name, *recipient, *down, *text;
    bool no_answers, no_local;
} places[] = {
    {"waiting for its next try", "later@b.mx", NULL, "mailbox busy", false, false},
    {"ready behind a site in back-off", "ok@b.mx", "mx", "delivery time expired", false, false},
    {"ready behind a domain that cannot be looked up", "ok@b.later", NULL, "delivery time expired",
     false, false},
    {"ready behind a question without an answer", "ok@b.mx", NULL, "delivery time expired", true,
     false},
    {"local, and nobody takes it", "ok@home", NULL, "delivery time expired", false, true},
};

Test(schedule, expiry_everywhere)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct world *world = world_with_limit();
        uint64_t id;

        world->down = places[i].down;
        world->no_answers = places[i].no_answers;
        world->no_local = places[i].no_local;
        id = world_submit(world, 0, "a@x.net", places[i].recipient);
        world_advance(world, LIMIT_MS - SECOND_MS);
        cr_expect_eq(world->reports, 0, "%s: early", places[i].name);
        world_advance(world, 3 * SECOND_MS);
        cr_expect_eq(world->reports, 1, "%s", places[i].name);
        cr_expect(world->report_expired);
        cr_expect_eq(world->report_status[0], 5);
        cr_expect_eq(world->report_status[1], 4);
        cr_expect_eq(world->report_status[2], 7);
        cr_expect_str_eq(world->report_text, places[i].text, "%s", places[i].name);
        cr_expect_eq(world_outcome(world, id, 0), 'e', "%s", places[i].name);
        cr_expect_eq(world_counters(world).expired, 1, "%s", places[i].name);
        world_destroy(world);
    }
}

Test(schedule, without_a_slot)
{
    struct world *world = world_with_limit();

    world->config.site_sessions_max = 1;
    queue_configure(world->queues[0], &world->config);
    world->keep = true;
    world_submit(world, 0, "a@x.net", "ok@b.mx"); /* a session that hangs */
    world_submit(world, 0, "b@x.net", "ok@b.mx");
    world_advance(world, LIMIT_MS + 2 * SECOND_MS);
    cr_expect_eq(world->reports, 1, "the one that waits");
    world_finish_all(world);
    cr_expect_eq(world_counters(world).expired, 1, "and not the one that was delivered");
    cr_expect_eq(world_counters(world).delivered, 1 + 1, "with the report");
    world_destroy(world);
}

Test(schedule, an_attempt_in_hand_ends_before_its_message_expires)
{
    struct world *world = world_with_limit();
    uint64_t id;

    world->keep = true;
    id = world_submit(world, 0, "a@x.net", "later@b.mx");
    world_advance(world, LIMIT_MS + MINUTE_MS);
    cr_expect_eq(world->reports, 0);
    world_session_finish(world_session(world, 0));
    world_run(world);
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world_outcome(world, id, 0), 'e');
    world_finish_all(world);
    world_destroy(world);
}

Test(schedule, mail_on_hold_does_not_expire_until_it_is_released)
{
    struct world *world = world_with_limit();
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x.net", "ok@b.mx");
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_HOLD, NULL, NULL), 0);
    world_advance(world, 2 * LIMIT_MS);
    cr_expect_eq(world->reports, 0);
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_RELEASE, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world->reports, 1);
    world_destroy(world);
}

Test(schedule, a_shorter_limit_takes_effect_at_once)
{
    struct world *world = world_started();

    world->no_answers = true;
    world_submit(world, 0, "a@x.net", "ok@b.mx");
    world_advance(world, HOUR_MS);
    world->config.expire_ms = 30 * MINUTE_MS;
    queue_configure(world->queues[0], &world->config);
    world_run(world);
    cr_expect_eq(world->reports, 1);
    world_destroy(world);
}

Test(schedule, many_expire_in_order)
{
    struct world *world = world_with_limit();

    world->no_answers = true;
    for (int i = 0; i < 500; i++) {
        world_submit(world, 0, "", "ok@b.mx");
        world_advance(world, SECOND_MS);
    }
    world_advance(world, LIMIT_MS - 400 * SECOND_MS);
    cr_expect_geq(world_counters(world).expired, 95);
    cr_expect_leq(world_counters(world).expired, 105);
    world_advance(world, 500 * SECOND_MS);
    cr_expect_eq(world_counters(world).expired, 500);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

/* Goal: a jump of the wall clock neither wakes nor delays what waits. */
Test(schedule, a_wait_is_as_long_as_it_was_whatever_the_wall_clock_does)
{
    static const int64_t jumps_s[] = {-3600, 3600};

    for (size_t i = 0; i < ARRAY_SIZE(jumps_s); i++) {
        struct world *world = world_started();

        world_submit(world, 0, "a@x", "later@b.mx");
        world->shards[0].wall_ns += (uint64_t)jumps_s[i] * SECOND_NS;
        world_advance(world, 4 * MINUTE_MS);
        cr_expect_eq(world->taken, 1);
        world_advance(world, 2 * MINUTE_MS);
        cr_expect_eq(world->taken, 2);
        world_destroy(world);
    }
}

Test(schedule, what_is_due_in_one_second_comes_in_batches_and_whole)
{
    struct world *world = world_create(1);

    world->config.messages_max = 4000;
    world->config.site_sessions_max = 4;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    for (int i = 0; i < 1500; i++)
        world_submit(world, 0, "a@x", "later@b.mx");
    cr_expect_eq(world_counters(world).waiting, 1500);
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world->taken, 3000);
    world_destroy(world);
}
