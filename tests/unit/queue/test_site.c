#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>

static void set_sessions(struct world *world, uint32_t sessions)
{
    world->config.site_sessions_max = sessions;
    queue_configure(world->queues[0], &world->config);
}

static void submit_each(struct world *world, const char *senders, const char *recipients)
{
    for (; *senders != '\0'; senders++) {
        char sender[] = {*senders, '@', 'x', '\0'};

        world_submit(world, 0, sender, recipients);
    }
}

Test(site, a_session_is_used_again_by_the_next_message)
{
    struct world *world = world_started();

    submit_each(world, "abcde", "ok@b.mx");
    cr_expect_eq(world_counters(world).delivered, 5);
    cr_expect_eq(world->connects, 1);
    cr_expect_eq(world->mores, 4, "told each time that there is more");
    cr_expect_eq(world->resolves, 1);
    cr_expect_eq(world_counters(world).sessions, 1, "idle, until its owner closes it");
    world_session_close(world_session(world, 0));
    world_run(world);
    cr_expect_eq(world_counters(world).sessions, 0);
    world_destroy(world);
}

Test(site, domains_with_one_mx_set_share_it)
{
    struct world *world = world_started();

    submit_each(world, "a", "ok@one.mx");
    submit_each(world, "b", "ok@two.mx");
    cr_expect_eq(world->resolves, 2);
    cr_expect_eq(world->connects, 1);
    cr_expect_eq(world_counters(world).sites, 1);
    world_destroy(world);
}

Test(site, no_more_sessions_than_allowed)
{
    struct world *world = world_started();

    set_sessions(world, 3);
    world->keep = true;
    for (int i = 0; i < 50; i++)
        world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world->session_peak, 3);
    world_finish_all(world);
    cr_expect_eq(world_counters(world).delivered, 50);
    cr_expect_eq(world->session_peak, 3);
    world_destroy(world);
}

/* Goal: the window opens with success, so that a site that takes mail gets all its sessions. */
Test(site, concurrency_grows_with_success)
{
    struct world *world = world_started();

    world->keep = true;
    for (int i = 0; i < 100; i++)
        world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world->session_peak, 8);
    world_finish_all(world);
    world_destroy(world);
}

Test(site, first_in_first_out_and_destinations_take_turns)
{
    struct world *world = world_started();

    set_sessions(world, 1);
    world->keep = true;
    submit_each(world, "x", "ok@b.mx"); /* occupies the one session */
    submit_each(world, "abc", "ok@big.mx");
    submit_each(world, "m", "ok@small.mx");
    submit_each(world, "d", "ok@big.mx");
    world_finish_all(world);
    cr_expect_str_eq(world->order, "xambcd", "%s", world->order);
    world_destroy(world);
}

Test(site, a_session_is_retired_after_its_share)
{
    struct world *world = world_started();

    world->config.site_messages_max = 2;
    queue_configure(world->queues[0], &world->config);
    submit_each(world, "abcde", "ok@b.mx");
    cr_expect_eq(world_counters(world).delivered, 5);
    cr_expect_eq(world->retired, 2);
    cr_expect_eq(world->connects, 3);
    world_destroy(world);
}

Test(site, recipients_of_one_site_travel_together)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x", "ok@one.mx ok@two.mx ok2@one.mx ok@other.net");

    cr_expect_eq(world->taken, 2, "two sites");
    cr_expect_eq(world_counters(world).delivered, 4);
    for (uint32_t unit = 0; unit < 4; unit++)
        cr_expect_eq(world_outcome(world, id, unit), 'd');
    world_destroy(world);
}

/* Goal: an attempt has at most so many recipients, and none is forgotten or tried twice. */
Test(site, many_recipients_of_one_domain_go_in_parts)
{
    struct world *world = world_create(1);
    uint64_t id;

    world->config.site_recipients_max = 3;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    id = world_submit(world, 0, "a@x",
                      "ok1@b.mx ok2@b.mx ok3@b.mx ok4@b.mx later5@b.mx ok6@b.mx ok7@b.mx");
    cr_expect_eq(world->taken, 3);
    cr_expect_eq(world_counters(world).delivered, 6);
    cr_expect_eq(world_outcome(world, id, 4), '\0');
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world->taken, 4);
    cr_expect_eq(world->attempt_units, 1, "only the one that was put off");
    cr_expect_eq(world->attempt_number, 2);
    world_destroy(world);
}

/* ---- failing ---------------------------------------------------------------------------------- */

Test(site, one_that_is_down_backs_off_as_a_whole)
{
    struct world *world = world_started();
    struct queue_view view;
    uint64_t id;

    world->down = "mx";
    id = world_submit(world, 0, "a@x", "ok@b.mx");
    submit_each(world, "bcdefghij", "ok@c.mx");
    cr_expect_eq(world->failures, 1, "one failure for all its mail");
    view = world_view(world, id);
    cr_expect_eq(view.state, QUEUE_STATE_WAITING, "for its site");
    cr_expect_eq(view.attempts, 0, "no message was tried");
    cr_expect(slice_equal(view.reason, SLICE("connection refused")));
    cr_expect_geq(view.next_wall_s, world_now_s(world) + 53);
    cr_expect_leq(view.next_wall_s, world_now_s(world) + 67);
    cr_expect_eq(world->spools[0].defers, 0);
    world_advance(world, 70 * SECOND_MS);
    cr_expect_eq(world->failures, 2, "one session to see how it is");
    world_advance(world, 85 * SECOND_MS);
    cr_expect_eq(world->failures, 2, "and then twice as long");
    world->down = NULL;
    world_advance(world, 60 * SECOND_MS);
    cr_expect_eq(world_counters(world).delivered, 10);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

Test(site, another_site_does_not_wait)
{
    struct world *world = world_started();

    world->down = "mx";
    submit_each(world, "a", "ok@b.mx");
    submit_each(world, "b", "ok@b.net");
    cr_expect_eq(world_counters(world).delivered, 1);
    world_destroy(world);
}

Test(site, back_off_grows_to_its_most_and_success_ends_it)
{
    struct world *world = world_started();
    uint32_t failures;

    world->config.expire_ms = 50 * DAY_MS;
    queue_configure(world->queues[0], &world->config);
    world->down = "mx";
    submit_each(world, "a", "ok@b.mx");
    world_advance(world, DAY_MS);
    failures = world->failures;
    world_advance(world, 10 * HOUR_MS);
    cr_expect_geq(world->failures - failures, 9, "every hour, not less");
    cr_expect_leq(world->failures - failures, 11, "nor more");
    world->down = NULL;
    world_advance(world, 2 * HOUR_MS);
    cr_expect_eq(world_counters(world).delivered, 1);
    world_session_close(world_session(world, 0));
    world->down = "mx";
    failures = world->failures;
    submit_each(world, "b", "ok@b.mx");
    world_advance(world, 70 * SECOND_MS);
    cr_expect_eq(world->failures - failures, 2, "from the beginning again");
    world_destroy(world);
}

Test(site, one_refusal_beside_living_sessions_is_no_failure_of_the_site)
{
    struct world *world = world_started();

    world->keep = true;
    submit_each(world, "a", "ok@b.mx");
    cr_expect_eq(world->session_count, 1);
    world->down = "mx"; /* it takes no second session */
    submit_each(world, "bcdef", "ok@b.mx");
    cr_expect_eq(world->failures, 1);
    cr_expect_eq(world_view(world, 2).next_wall_s, 0, "no back-off");
    world_finish_all(world);
    cr_expect_eq(world_counters(world).delivered, 6, "by the session that lives");
    world_destroy(world);
}

Test(site, nothing_new_without_the_journal)
{
    struct world *world = world_started();

    world->spools[0].journal_lost = true;
    submit_each(world, "a", "ok@b.mx");
    submit_each(world, "b", "ok@home");
    world_advance(world, 10 * SECOND_MS);
    cr_expect_eq(world->taken, 0);
    cr_expect_eq(world_counters(world).ready, 2);
    world->spools[0].journal_lost = false;
    world_advance(world, 2 * SECOND_MS);
    cr_expect_eq(world_counters(world).delivered, 2);
    world_destroy(world);
}

/* Goal: what waits costs nothing: between its events a queue full of waiting mail does not run. */
Test(site, waiting_mail_causes_no_work)
{
    struct world *world = world_started();
    uint32_t runs;

    world->down = "mx";
    for (int i = 0; i < 100; i++)
        submit_each(world, "a", "ok@b.mx");
    submit_each(world, "a", "later@b.net");
    runs = world->task_runs;
    world_advance(world, 50 * SECOND_MS);
    cr_expect_eq(world->task_runs, runs);
    world_destroy(world);
}

static void look(void *context, const struct queue_site_view *view)
{
    struct queue_site_view *views = context;

    views[slice_equal(view->name, SLICE("mx")) ? 0 : 1] = *view;
}

Test(site, views)
{
    struct world *world = world_started();
    struct queue_site_view views[2] = {{.sessions = 99}, {.sessions = 99}};

    world->down = "mx";
    submit_each(world, "a", "ok@b.mx");
    submit_each(world, "b", "ok@b.net");
    queue_sites(world->queues[0], look, views);
    cr_expect_eq(views[0].sessions, 0);
    cr_expect_eq(views[0].ready, 1);
    cr_expect(slice_equal(views[0].reason, SLICE("connection refused")));
    cr_expect_gt(views[0].backoff_until_wall_s, world_now_s(world));
    cr_expect_eq(views[1].sessions, 1);
    cr_expect_eq(views[1].ready, 0);
    cr_expect_eq(views[1].backoff_until_wall_s, 0);
    world_destroy(world);
}
