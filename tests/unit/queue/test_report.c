#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(report, the_sender_is_told_before_anything_is_finished)
{
    struct world *world = world_started();
    uint64_t id;

    world->keep_reports = true;
    id = world_submit(world, 0, "a@x.mx", "never@b.mx ok@b.mx never2@b.mx");
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world->report_units, 2);
    cr_expect_eq(world->report_of, id);
    cr_expect_not(world->report_expired);
    cr_expect_str_eq(world->report_text, "no such user");
    cr_expect_eq(world_outcome(world, id, 0), '\0', "not before the report is durable (QUEUE I8)");
    cr_expect_eq(world_outcome(world, id, 1), 'd');
    world_advance(world, DAY_MS);
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world->taken, 1, "nor is it tried meanwhile");
    queue_report_done(world->report, 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    cr_expect_eq(world_outcome(world, id, 2), 'b');
    cr_expect_eq(world_counters(world).bounced, 2);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

Test(report, one_that_could_not_be_made_is_made_later)
{
    struct world *world = world_started();
    uint64_t id;

    world->report_error = -ENOSPC;
    id = world_submit(world, 0, "a@x.mx", "never@b.mx");
    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world_outcome(world, id, 0), '\0');
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_WAITING);
    world->report_error = 0;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world->reports, 2);
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    cr_expect_eq(world_counters(world).generated, 1);
    world_destroy(world);
}

Test(report, never_for_an_empty_sender)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "", "never@b.mx ok@b.mx");

    cr_expect_eq(world->reports, 0);
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    cr_expect_eq(world_counters(world).bounced, 1);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

/* Goal: mail cannot circle: a report that fails is the end of it, also by expiry and by a domain that is nowhere. */
Test(report, never_for_a_report)
{
    struct world *world = world_started();
    const uint32_t units[] = {0};
    uint64_t one = world_submit_report(world, 0, "never@b.mx", 99, units, 1);
    uint64_t two = world_submit_report(world, 0, "ok@b.never", 99, units, 1);
    uint64_t three = world_submit_report(world, 0, "later@b.mx", 99, units, 1);

    world_advance(world, 6 * DAY_MS);
    cr_expect_eq(world->reports, 0);
    cr_expect_eq(world_outcome(world, one, 0), 'b');
    cr_expect_eq(world_outcome(world, two, 0), 'b');
    cr_expect_eq(world_outcome(world, three, 0), 'e');
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

Test(report, what_was_put_off_in_the_same_item_waits_its_time)
{
    struct world *world = world_started();
    uint64_t id;

    world->keep_reports = true;
    id = world_submit(world, 0, "a@x.mx", "never@b.mx later@b.mx");
    world_advance(world, MINUTE_MS);
    queue_report_done(world->report, 0);
    world_run(world);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_WAITING);
    cr_expect_gt(world_view(world, id).next_wall_s, world_now_s(world) + 200);
    world_destroy(world);
}

Test(report, more_failures_than_reports_at_a_time)
{
    struct world *world = world_started();

    world->keep_reports = true;
    for (int i = 0; i < QUEUE_REPORTS_MAX + 5; i++)
        world_submit(world, 0, "a@x.mx", "ok@b.never");
    cr_expect_eq(world->reports, QUEUE_REPORTS_MAX);
    cr_expect_eq(world_counters(world).trying, QUEUE_REPORTS_MAX + 5);
    queue_report_done(world->report, 0);
    world_run(world);
    cr_expect_eq(world->reports, QUEUE_REPORTS_MAX + 1, "the next one's turn");
    world->keep_reports = false;
    while (!list_empty(&world->queues[0]->reports)) {
        queue_report_done(CONTAINER_OF(world->queues[0]->reports.next, struct queue_report, node),
                          0);
        world_run(world);
    }
    cr_expect_eq(world_counters(world).bounced, QUEUE_REPORTS_MAX + 5);
    world_destroy(world);
}

Test(report, a_damaged_message_cannot_be_reported_on)
{
    struct world *world = world_started();
    uint64_t id = world->spools[0].next_id;

    world->spools[0].damaged_id = id;
    world_submit(world, 0, "a@x.mx", "ok@b.never");
    cr_expect_eq(world->reports, 0);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_DAMAGED);
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_REMOVE, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

/* Goal: without room for reports nothing spins, whatever is to be reported. */
Test(report, no_room_for_reports_makes_them_rare)
{
    struct world *world = world_started();

    world->config.expire_ms = HOUR_MS;
    queue_configure(world->queues[0], &world->config);
    world->report_error = -ENOSPC;
    for (int i = 0; i < 50; i++) {
        world_submit(world, 0, "a@x.mx", "later@b.mx"); /* will expire */
        world_submit(world, 0, "a@x.mx", "ok@b.never");
    }
    world_advance(world, 2 * HOUR_MS);
    cr_expect_leq(world->reports, 50 + QUEUE_REPORTS_MAX * 2 * 360, "%u", world->reports);
    cr_expect_eq(world_counters(world).messages, 100);
    world->report_error = 0;
    world_advance(world, MINUTE_MS);
    cr_expect_eq(world_counters(world).bounced, 50);
    cr_expect_eq(world_counters(world).expired, 50);
    world_destroy(world);
}

Test(report, what_the_operator_returned_is_returned_later_not_tried)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x.mx", "later@b.mx");

    world->report_error = -ENOSPC;
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_BOUNCE, NULL, NULL), 0);
    world_advance(world, HOUR_MS);
    cr_expect_eq(world->taken, 1);
    world->report_error = 0;
    world_advance(world, MINUTE_MS);
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    world_destroy(world);
}
