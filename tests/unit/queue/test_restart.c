#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static void crash_and_recover(struct world *world)
{
    world_crash(world);
    world_recover(world);
}

Test(restart, what_was_not_tried_is_tried)
{
    struct world *world = world_started();
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx ok@c.net ok@home");
    world->no_answers = false;
    crash_and_recover(world);
    cr_expect_eq(world_counters(world).recovered, 1);
    cr_expect_eq(world_counters(world).delivered + world_counters(world).recovered_units, 2 + 2,
                 "the local one was delivered before");
    for (uint32_t unit = 0; unit < 3; unit++)
        cr_expect_eq(world_outcome(world, id, unit), 'd');
    world_destroy(world);
}

Test(restart, what_waits_keeps_its_time)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "ok@b.mx later@b.mx later@c.net");
    uint64_t next_s = world_view(world, id).next_wall_s;

    crash_and_recover(world);
    cr_expect_eq(world->taken, 2, "nothing at once");
    cr_expect_eq(world_view(world, id).next_wall_s, next_s);
    cr_expect_eq(world_view(world, id).attempts, 1);
    cr_expect_eq(world_view(world, id).units_open, 2);
    cr_expect(slice_equal(world_view(world, id).reason, SLICE("mailbox busy")));
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world->taken, 4);
    world_destroy(world);
}

/* Goal: what became due during a long stop does not all move in one moment. */
Test(restart, overdue_mail_is_spread)
{
    struct world *world = world_started();
    uint32_t taken;

    for (int i = 0; i < 200; i++)
        world_submit(world, 0, "a@x", "later@b.mx");
    world_crash(world);
    world->shards[0].now_ns += 2 * HOUR_NS;
    world->shards[0].wall_ns += 2 * HOUR_NS;
    world_recover(world);
    taken = world->taken - 200;
    cr_expect_lt(taken, 30, "%u at once", taken);
    world_advance(world, 30 * SECOND_MS);
    taken = world->taken - 200;
    cr_expect_gt(taken, 50);
    cr_expect_lt(taken, 150);
    world_advance(world, 32 * SECOND_MS);
    cr_expect_eq(world->taken, 400);
    world_destroy(world);
}

Test(restart, a_hold_is_kept)
{
    struct world *world = world_started();
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    queue_act(world->queues[0], id, QUEUE_HOLD, NULL, NULL);
    world->no_answers = false;
    crash_and_recover(world);
    world_advance(world, DAY_MS);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_HELD);
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_RELEASE, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    world_destroy(world);
}

/* Goal: a report that was durable when the server died is never written a second time (QUEUE I8). */
Test(restart, a_report_that_was_found_finishes_what_it_reports_on)
{
    static const uint32_t units[] = {1, 3};
    struct world *world = world_started();
    uint64_t id, report;

    world->keep_reports = true;
    id = world_submit(world, 0, "a@x.net", "ok@b.mx never@b.mx later@b.mx never@c.mx ok@home");
    cr_expect_eq(world->report_units, 2, "b.mx and c.mx are one site");
    world->no_answers = true;
    report = world_submit_report(world, 0, "a@y.net", id, units, 2);
    world->keep_reports = false;
    world->no_answers = false;
    world_crash(world); /* before queue_report_done() */
    cr_expect_eq(world_outcome(world, id, 1), '\0');
    world_recover(world);
    cr_expect_eq(world_outcome(world, id, 1), 'b');
    cr_expect_eq(world_outcome(world, id, 3), 'b');
    cr_expect_eq(world_outcome(world, report, 0), 'd');
    cr_expect_eq(world->reports, 1);
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world->reports, 1, "nor when the rest is tried");
    cr_expect_eq(world_view(world, id).units_open, 1);
    world_destroy(world);
}

Test(restart, a_report_may_finish_a_whole_message)
{
    static const uint32_t units[] = {0};
    struct world *world = world_started();
    uint64_t id;

    world->keep_reports = true;
    id = world_submit(world, 0, "a@x.net", "never@b.mx");
    world->no_answers = true;
    world_submit_report(world, 0, "a@y.net", id, units, 1);
    world_crash(world);
    world_recover(world);
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    cr_expect_eq(world_counters(world).messages, 1, "the report");
    world_destroy(world);
}

Test(restart, an_envelope_of_another_kind_is_left_alone)
{
    struct world *world = world_started();
    struct queue_conservation c;
    uint64_t one, two;

    world->no_answers = true;
    one = world_submit(world, 0, "a@x", "ok@b.mx");
    two = world_submit(world, 0, "a@x", "ok@b.mx ok@c.mx");
    world_message(world, one)->envelope[0] = 99;
    world_message(world, two)->unit_count = 3; /* it has not as many recipients */
    world_message(world, one)->unreadable = world_message(world, two)->unreadable = true;
    crash_and_recover(world);
    cr_expect_eq(world_counters(world).damaged, 2);
    cr_expect_eq(world_counters(world).messages, 0);
    cr_expect_eq(world_message(world, one)->live, 1, "its place is kept");
    cr_assert_eq(queue_conservation(world->queues[0], 0, &c), 0);
    cr_expect_eq(c.set_aside, 4);
    world_destroy(world);
}

Test(restart, chunks_keep_their_recipients)
{
    struct world *world = world_create(1);
    uint64_t id;

    world->config.site_recipients_max = 2;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    id = world_submit(world, 0, "a@x", "ok1@b.mx ok2@b.mx later3@b.mx ok4@b.mx later5@b.mx");
    crash_and_recover(world);
    cr_expect_eq(world_view(world, id).units_open, 2);
    world->config.site_recipients_max = 3;
    world_crash(world);
    world_recover(world);
    cr_expect_eq(world_view(world, id).units_open, 2, "also when the limit is another one");
    world_advance(world, 6 * MINUTE_MS);
    for (uint32_t unit = 0; unit < 5; unit++)
        cr_expect_eq(world_outcome(world, id, unit), unit == 2 || unit == 4 ? '\0' : 'd');
    cr_expect_eq(world_message(world, id)->units[2].attempts, 2);
    cr_expect_eq(world_message(world, id)->units[4].attempts, 2);
    world_destroy(world);
}

/* Goal: losing the end of the journal costs a second delivery, never a message, never a second report (QUEUE I8, I10). */
Test(restart, a_lost_end_of_the_journal)
{
    struct world *world = world_started();
    uint64_t one, two, three;

    world->spools[0].losing = true;
    one = world_submit(world, 0, "a@x.net", "ok@b.mx");
    three = world_submit(world, 0, "a@x.net", "ok@home");
    cr_expect_eq(world_counters(world).delivered, 1, "the local one waits for its note");
    world->no_answers = true;
    queue_act(world->queues[0], one, QUEUE_HOLD, NULL, NULL);
    two = world_submit(world, 0, "a@x.net", "never@b.mx");
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world_counters(world).bounced, 1);
    world->no_answers = false;
    world_crash(world);
    cr_expect_eq(world_outcome(world, one, 0), '\0');
    cr_expect_eq(world_outcome(world, two, 0), '\0');
    world_recover(world);
    cr_expect_eq(world_outcome(world, one, 0), 'd');
    cr_expect_eq(world_outcome(world, two, 0), 'b');
    cr_expect_eq(world_outcome(world, three, 0), 'd');
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}
