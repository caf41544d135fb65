#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

Test(destination, an_answer_holds_for_its_time)
{
    struct world *world = world_started();

    world->ttl_ms = MINUTE_MS;
    world_submit(world, 0, "a@x", "ok@b.mx");
    world_advance(world, 50 * SECOND_MS);
    world_submit(world, 0, "a@x", "ok@B.mx");
    cr_expect_eq(world->resolves, 1, "the same domain in any case");
    world_advance(world, 20 * SECOND_MS);
    cr_expect_eq(world->resolves, 1, "nobody writes there: nobody asks");
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world->resolves, 2);
    cr_expect_eq(world_counters(world).delivered, 3);
    world_destroy(world);
}

Test(destination, mail_that_waits_is_asked_for_anew)
{
    struct world *world = world_started();

    world->ttl_ms = MINUTE_MS;
    world->down = "mx";
    world_submit(world, 0, "a@x", "ok@b.mx");
    world_advance(world, HOUR_MS);
    world->down = NULL;
    world_advance(world, 2 * HOUR_MS);
    cr_expect_gt(world->resolves, 1);
    cr_expect_eq(world_counters(world).delivered, 1);
    world_destroy(world);
}

Test(destination, no_answer_makes_it_rest)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "ok@b.later");
    struct queue_view view = world_view(world, id);

    cr_expect_eq(world->resolves, 1);
    cr_expect_eq(view.state, QUEUE_STATE_WAITING);
    cr_expect(slice_equal(view.reason, SLICE("no name server answers")));
    cr_expect_geq(view.next_wall_s, world_now_s(world) + 53);
    world_submit(world, 0, "a@x", "ok@b.later");
    cr_expect_eq(world->resolves, 1, "the next message does not ask again");
    world_advance(world, 67 * SECOND_MS);
    cr_expect_eq(world->resolves, 2);
    world_advance(world, 90 * SECOND_MS);
    cr_expect_eq(world->resolves, 2, "twice as long");
    world_advance(world, 45 * SECOND_MS);
    cr_expect_eq(world->resolves, 3);
    world_destroy(world);
}

Test(destination, a_domain_that_is_nowhere_fails_what_is_ready)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x.mx", "ok@b.never other@b.never ok@c.mx");

    cr_expect_eq(world->reports, 1);
    cr_expect_eq(world->report_units, 2);
    cr_expect_eq(world->report_status[1], 1);
    cr_expect_eq(world->report_status[2], 2);
    cr_expect_str_eq(world->report_text, "no such domain");
    cr_expect_eq(world_outcome(world, id, 0), 'b');
    cr_expect_eq(world_outcome(world, id, 1), 'b');
    cr_expect_eq(world_outcome(world, id, 2), 'd');
    world_submit(world, 0, "a@x.mx", "ok@b.never");
    cr_expect_eq(world->reports, 2, "asked and answered again");
    world_destroy(world);
}

Test(destination, many_at_once_fail_in_batches)
{
    struct world *world = world_create(1);

    world->config.messages_max = 4000;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    world->no_answers = true;
    for (int i = 0; i < 1500; i++)
        world_submit(world, 0, "", "ok@b.never");
    queue_unresolved(world->queues[0], 1, QUEUE_NEVER, (const uint8_t[]){5, 1, 2}, SLICE("none"));
    world_run(world);
    cr_expect_eq(world_counters(world).bounced, 1500);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

Test(destination, questions_under_way_are_bounded)
{
    struct world *world = world_started();
    char to[32];

    world->no_answers = true;
    for (int i = 0; i < 400; i++) {
        snprintf(to, sizeof(to), "ok@d%d.mx", i);
        world_submit(world, 0, "a@x", to);
    }
    cr_expect_eq(world->resolves, QUEUE_ASKS_MAX);
    world->no_answers = false;
    for (uint32_t number = 1; number <= QUEUE_ASKS_MAX; number++)
        queue_resolved(world->queues[0], number, SLICE("mx"), HOUR_MS);
    world_run(world);
    cr_expect_eq(world->resolves, 400);
    cr_expect_eq(world_counters(world).delivered, 400);
    world_destroy(world);
}

Test(destination, answers_nobody_waits_for_are_dropped)
{
    struct world *world = world_started();

    queue_resolved(world->queues[0], 0, SLICE("mx"), HOUR_MS);
    queue_resolved(world->queues[0], 12345, SLICE("mx"), HOUR_MS);
    world_submit(world, 0, "a@x", "ok@b.mx");
    queue_resolved(world->queues[0], 1, SLICE("elsewhere"), HOUR_MS);
    queue_unresolved(world->queues[0], 1, QUEUE_NEVER, (const uint8_t[]){5, 1, 2}, SLICE("none"));
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world_counters(world).delivered, 2);
    world_destroy(world);
}

Test(destination, an_answer_that_comes_after_the_mail_has_gone)
{
    struct world *world = world_started();
    uint64_t id;

    world->no_answers = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_REMOVE, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world_counters(world).removed, 1);
    queue_resolved(world->queues[0], 1, SLICE("mx"), HOUR_MS);
    world_run(world);
    cr_expect_eq(world->connects, 0);
    world->no_answers = false;
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world_counters(world).delivered, 1);
    world_destroy(world);
}

Test(destination, a_new_mx_set_is_a_new_site)
{
    struct world *world = world_started();

    world->ttl_ms = MINUTE_MS;
    world->no_answers = true;
    world_submit(world, 0, "a@x", "ok@b.mx");
    queue_resolved(world->queues[0], 1, SLICE("old"), MINUTE_MS);
    world_run(world);
    cr_expect_eq(world_counters(world).delivered, 1);
    world_advance(world, 2 * MINUTE_MS);
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world->resolves, 2);
    queue_resolved(world->queues[0], 1, SLICE("new"), MINUTE_MS);
    world_run(world);
    cr_expect_eq(world_counters(world).delivered, 2);
    cr_expect_eq(world->connects, 2);
    world_session_close(world_session(world, 0));
    world_run(world);
    cr_expect_eq(world_counters(world).sites, 1, "the old one is forgotten with its last session");
    world_destroy(world);
}

Test(destination, local_mail_goes_to_nobodys_site)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "ok@home postmaster ok@HOME ok@b.mx");

    cr_expect_eq(world_counters(world).delivered, 4);
    cr_expect_eq(world->taken, 2, "one local attempt, one to the site");
    cr_expect_eq(world->connects, 1);
    cr_expect_eq(world_outcome(world, id, 1), 'd');
    world_destroy(world);
}

Test(destination, local_mail_of_any_number_of_recipients_is_one_attempt)
{
    struct world *world = world_create(1);

    world->config.site_recipients_max = 2;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    world_submit(world, 0, "a@x", "ok1@home ok2@home ok3@home ok4@home ok5@home");
    cr_expect_eq(world->taken, 1);
    cr_expect_eq(world->attempt_units, 5);
    cr_expect_eq(world_counters(world).delivered, 5);
    world_destroy(world);
}
