#include "tests/unit/queue/world.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(attempt, each_recipient_has_its_own_end)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x.mx", "ok@b.mx never@b.mx later@b.mx ok2@b.mx");
    struct queue_view view = world_view(world, id);

    cr_expect_eq(world_outcome(world, id, 0), 'd');
    cr_expect_eq(world_outcome(world, id, 1), 'b');
    cr_expect_eq(world_outcome(world, id, 2), '\0');
    cr_expect_eq(world_outcome(world, id, 3), 'd');
    cr_expect_eq(view.state, QUEUE_STATE_WAITING);
    cr_expect_eq(view.units_open, 1);
    cr_expect_eq(view.attempts, 1);
    cr_expect(slice_equal(view.reason, SLICE("mailbox busy")));
    cr_expect_geq(view.next_wall_s, world_now_s(world) + 270 - 1);
    cr_expect_leq(view.next_wall_s, world_now_s(world) + 330 + 1);
    cr_expect_leq(view.next_wall_s - world->spools[0].last_defer_s + 1, 2, "as noted");
    world_advance(world, 331 * SECOND_MS);
    cr_expect_eq(world->attempt_units, 1);
    cr_expect_eq(world->attempt_number, 2);
    cr_expect_eq(world->reports, 1, "and no second report");
    world_destroy(world);
}

Test(attempt, waits_double_up_to_the_most)
{
    struct world *world = world_started();
    uint64_t id = world_submit(world, 0, "a@x.mx", "later@b.mx");
    static const uint32_t minutes[] = {5, 10, 20, 40, 80, 160, 240, 240};

    for (size_t i = 0; i < ARRAY_SIZE(minutes); i++) {
        uint64_t wait_s = world_view(world, id).next_wall_s - world_now_s(world);

        cr_expect_eq(world_view(world, id).attempts, i + 1);
        cr_expect_geq(wait_s, minutes[i] * 54 - 1, "wait %zu", i);
        cr_expect_leq(wait_s, minutes[i] * 66 + 1, "wait %zu", i);
        world_advance(world, (wait_s + 1) * SECOND_MS);
    }
    world_destroy(world);
}

Test(attempt, given_up_without_an_outcome)
{
    struct world *world = world_started();
    uint64_t id;

    world->keep = true;
    id = world_submit(world, 0, "a@x", "ok@b.mx ok2@b.mx");
    world->keep = false;
    {
        struct world_session *session = world_session(world, 0);
        struct queue_attempt *attempt = session->attempt;

        session->attempt = NULL;
        queue_attempt_outcome(attempt, 1, QUEUE_DELIVERED, (const uint8_t[]){2, 0, 0}, SLICE_NONE);
        queue_attempt_finish(attempt, NULL, NULL);
        world_session_close(session);
    }
    world_run(world);
    cr_expect_eq(world_outcome(world, id, 0), '\0');
    cr_expect_eq(world_outcome(world, id, 1), 'd');
    cr_expect(slice_equal(world_view(world, id).reason, SLICE("attempt given up")));
    world_destroy(world);
}

Test(attempt, given_up_before_it_was_loaded)
{
    struct world *world = world_started();
    uint64_t one, two;

    world->unload = true;
    one = world_submit(world, 0, "a@x", "ok@b.mx");
    two = world_submit(world, 0, "a@x", "ok@b.mx ok@c.net");
    cr_expect_eq(world_view(world, one).state, QUEUE_STATE_WAITING);
    cr_expect_eq(world_message(world, one)->units[0].attempts, 1,
                 "noted: it is all of the message");
    cr_expect_eq(world_view(world, two).state, QUEUE_STATE_WAITING);
    world->unload = false;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world_counters(world).delivered, 3);
    world_destroy(world);
}

Test(attempt, given_up_while_it_loads)
{
    struct world *world = world_started();
    struct world_session *session;

    world->spools[0].cold = true;
    world->keep = true;
    world->spools[0].manual = true;
    world_submit(world, 0, "a@x", "ok@b.mx");
    world_complete(world, 0);
    /* Steps until the reader is being opened, not further. */
    for (int i = 0; i < 50 && world->session_count == 0; i++) {
        world->spools[0].cold = true;
        world_run(world);
    }
    session = world_session(world, 0);
    cr_assert_not_null(session);
    cr_assert_not_null(session->attempt);
    queue_attempt_finish(session->attempt, NULL, NULL);
    session->attempt = NULL;
    world_session_close(session);
    world_run(world);
    cr_expect_eq(world->spools[0].readers_open, 0);
    cr_expect_eq(world_counters(world).waiting, 1);
    world_destroy(world);
}

Test(attempt, a_cold_message_is_read_first)
{
    struct world *world = world_started();

    world->spools[0].cold = true;
    world_submit(world, 0, "a@x.mx", "ok@b.mx never@b.mx ok@home");
    cr_expect_eq(world_counters(world).delivered, 3, "and the report");
    cr_expect_eq(world_counters(world).bounced, 1);
    world_destroy(world);
}

Test(attempt, a_damaged_message_is_set_aside_and_others_go_on)
{
    struct world *world = world_started();
    uint64_t id = world->spools[0].next_id;
    struct queue_counters c;

    world->spools[0].damaged_id = id;
    world_submit(world, 0, "a@x", "ok@b.mx");
    world_submit(world, 0, "a@x", "ok@b.mx");
    c = world_counters(world);
    cr_expect_eq(c.damaged, 1);
    cr_expect_eq(c.delivered, 1);
    cr_expect_eq(c.messages, 1, "kept");
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_DAMAGED);
    world_advance(world, DAY_MS);
    cr_expect_eq(world_counters(world).damaged, 1, "not tried again by itself");
    world->spools[0].damaged_id = 0;
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_RETRY, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

/* Goal: a message whose envelope is whole and whose body is not (a chunk of a big one) is not tried for ever. */
Test(attempt, a_body_that_turns_out_damaged_sets_the_message_aside)
{
    static const int errors[] = {-EBADMSG, -EIO, -ENOMEM};

    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        struct world *world = world_started();
        struct world_session *session;
        uint64_t id;

        world->keep = true;
        id = world_submit(world, 0, "a@x", "ok@b.mx ok2@b.mx");
        world->keep = false;
        session = world_session(world, 0);
        queue_attempt_outcome(session->attempt, 1, QUEUE_DELIVERED, (const uint8_t[]){2, 0, 0},
                              SLICE_NONE);
        queue_attempt_damaged(session->attempt, errors[i]);
        queue_attempt_finish(session->attempt, NULL, NULL);
        session->attempt = NULL;
        world_session_close(session);
        world_run(world);
        cr_expect_eq(world_outcome(world, id, 1), 'd', "who has it has it");
        cr_expect_eq(world_outcome(world, id, 0), '\0');
        cr_expect_eq(world_counters(world).damaged, errors[i] != -ENOMEM, "%d", errors[i]);
        world_advance(world, DAY_MS);
        cr_expect_eq(world_counters(world).messages, errors[i] != -ENOMEM, "%d", errors[i]);
        world_destroy(world);
    }
}

Test(attempt, what_cannot_be_read_now_is_tried_later)
{
    struct world *world = world_started();

    world->spools[0].open_error = -ENOMEM;
    world_submit(world, 0, "a@x", "ok@b.mx");
    cr_expect_eq(world_counters(world).damaged, 0);
    cr_expect_eq(world_counters(world).waiting, 1);
    world->spools[0].open_error = 0;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world_counters(world).delivered, 1);
    world_destroy(world);
}

/* Goal: local mail is renamed into its mailbox only after DONE is on disk (DESIGN 6). */
Test(attempt, a_durable_end_waits_for_the_journal)
{
    struct world *world = world_started();
    uint64_t id;

    world->spools[0].manual = true;
    id = world_submit(world, 0, "a@x", "ok@home ok2@home ok@b.later ok3@home");
    world_complete(world, 0);
    world_run(world);
    cr_expect_eq(world->taken, 1);
    cr_expect_eq(world->local_calls, 0);
    cr_expect_eq(world_counters(world).delivered, 0);
    cr_expect_eq(world_outcome(world, id, 0), '\0');
    world_complete(world, 0);
    cr_expect_eq(world->local_calls, 1);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    cr_expect_eq(world_outcome(world, id, 3), 'd');
    cr_expect_eq(world_counters(world).delivered, 3);
    world_run(world);
    world_destroy(world);
}

Test(attempt, a_durable_end_that_fails_finishes_nothing)
{
    struct world *world = world_started();
    uint64_t id;

    world->spools[0].flush_error = -EIO;
    id = world_submit(world, 0, "a@x", "ok@home ok2@home");
    cr_expect_eq(world->local_calls, 1);
    cr_expect_eq(world_counters(world).delivered, 0);
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_WAITING);
    world->spools[0].flush_error = 0;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world_counters(world).delivered, 2);
    world_destroy(world);
}

Test(attempt, a_durable_end_without_a_journal)
{
    struct world *world = world_started();

    world->no_local = true;
    world_submit(world, 0, "a@x", "ok@home");
    world->no_local = false;
    world->spools[0].note_error = -EIO;
    world->spools[0].journal_lost = false;
    world_submit(world, 0, "b@x", "ok@home");
    cr_expect_eq(world_counters(world).delivered, 0);
    cr_expect_eq(world->local_calls, 2, "told, and never inside the call");
    world->spools[0].note_error = 0;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world_counters(world).delivered, 2);
    world_destroy(world);
}

Test(attempt, local_mail_larger_than_wanted_is_not_given_out)
{
    struct world *world = world_started();
    struct queue_attempt *attempt;

    world->no_local = true;
    world_submit(world, 0, "a@x", "ok@home");
    cr_expect_null(queue_take_local(world->queues[0], 5));
    attempt = queue_take_local(world->queues[0], 6);
    cr_assert_not_null(attempt);
    cr_expect_eq(queue_attempt_bytes(attempt), 6);
    cr_expect_null(queue_take_local(world->queues[0], UINT64_MAX));
    queue_attempt_finish(attempt, NULL, NULL);
    world_destroy(world);
}

/* What counted as local when the message came keeps its recipients when the settings change. */
Test(attempt, recipients_of_a_split_message_each_have_one_place)
{
    struct world *world = world_started();
    uint64_t id =
        world_submit(world, 0, "a@x.mx", "later@home ok@b.mx later@c.net never@d.mx ok@b.later");

    cr_expect_eq(world_outcome(world, id, 0), '\0');
    cr_expect_eq(world_outcome(world, id, 1), 'd');
    cr_expect_eq(world_outcome(world, id, 2), '\0');
    cr_expect_eq(world_outcome(world, id, 3), 'b');
    cr_expect_eq(world_outcome(world, id, 4), '\0');
    cr_expect_eq(world_view(world, id).units_open, 3);
    for (uint32_t unit = 0; unit < 5; unit++)
        cr_expect_eq(queue_unit_open(world->queues[0], id, unit),
                     unit == 0 || unit == 2 || unit == 4);
    world_destroy(world);
}

/* ---- in doubt ------------------------------------------------------------------------------------ */

/* Goal: what may have arrived is marked, in memory and on disk, and is sent again. */
Test(attempt, in_doubt_is_sent_again)
{
    struct world *world = world_started();
    uint64_t id;

    world->in_doubt = true;
    id = world_submit(world, 0, "a@x", "doubt1@b.mx doubt2@b.mx ok@b.mx");
    cr_expect_eq(world_counters(world).in_doubt, 2);
    cr_expect(world_view(world, id).in_doubt);
    cr_expect(world_message(world, id)->in_doubt[0]);
    cr_expect_not(world_message(world, id)->in_doubt[2]);
    cr_expect_eq(world_outcome(world, id, 2), 'd');
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            world_checkpoint(world, 0);
        world_crash(world);
        world_recover(world);
        cr_expect(world_view(world, id).in_doubt, "and after a restart");
    }
    world->in_doubt = false;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    cr_expect_eq(world_counters(world).messages, 0);
    world_destroy(world);
}

Test(attempt, in_doubt_is_held_when_the_settings_say_so)
{
    struct world *world = world_create(1);
    uint64_t id;

    world->config.in_doubt_hold = true;
    queue_configure(world->queues[0], &world->config);
    world_start(world);
    world->in_doubt = true;
    id = world_submit(world, 0, "a@x", "doubt@b.mx");
    cr_expect_eq(world_view(world, id).state, QUEUE_STATE_HELD);
    cr_expect(world_view(world, id).in_doubt);
    cr_expect(
        slice_equal(world_view(world, id).reason, SLICE("connection lost behind the final dot")));
    cr_expect(world_message(world, id)->held);
    world_advance(world, DAY_MS);
    cr_expect_eq(world->taken, 1);
    world->in_doubt = false;
    cr_expect_eq(queue_act(world->queues[0], id, QUEUE_RELEASE, NULL, NULL), 0);
    world_run(world);
    cr_expect_eq(world_outcome(world, id, 0), 'd');
    world_destroy(world);
}

/* Goal: the next attempt that ends in another way ends the doubt. */
Test(attempt, a_clear_answer_ends_the_doubt)
{
    struct world *world = world_started();
    uint64_t id;

    world->in_doubt = true;
    id = world_submit(world, 0, "a@x", "doubt@b.mx later@b.mx");
    cr_expect(world_view(world, id).in_doubt);
    world->in_doubt = false;
    world_advance(world, 6 * MINUTE_MS);
    cr_expect_not(world_view(world, id).in_doubt);
    cr_expect_eq(world_view(world, id).units_open, 1);
    world_destroy(world);
}
